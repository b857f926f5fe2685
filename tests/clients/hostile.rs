//! Servers that break the protocol, lie, stall or fall silent: every call ends with a clear status.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringcall::{Client, Code, Limits, Status};

use crate::raw::*;
use crate::service::*;

/// A server made of bytes, at the moment after the handshake.
pub fn accept(listener: &TcpListener) -> RawPeer {
    accept_silently(listener).welcome()
}

fn accept_silently(listener: &TcpListener) -> RawPeer {
    RawPeer::accepted(listener.accept().expect("a client connects").0)
}

impl RawPeer {
    /// The next request, after the methods were resolved.
    fn serve_request(&mut self) -> Frame {
        self.serve_resolution();
        self.request()
    }
}

/// One time limit that is short, so that its test is short; the others are as ever, so that a slow
/// machine meets none of them.
fn impatient(limit: impl FnOnce(&mut Limits) -> &mut Duration) -> Limits {
    let mut limits = Limits::default();
    *limit(&mut limits) = Duration::from_millis(200);
    limits
}

struct Hostile {
    address: String,
    thread: JoinHandle<()>,
}

fn hostile(act: impl FnOnce(TcpListener) + Send + 'static) -> Hostile {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || act(listener));
    Hostile { address, thread }
}

/// What a call says to a hostile server, by the client for tokio.
async fn call_by_tokio(server: Hostile, limits: Limits) -> Status {
    let client = Client::builder()
        .limits(limits)
        .connect_lazy(&server.address);
    let client = ProbeClient::new(client.unwrap());
    let status = in_time(client.echo("x")).await.map(drop).unwrap_err();
    let joined = tokio::task::spawn_blocking(move || server.thread.join());
    in_time(joined).await.unwrap().unwrap();
    assert!(status.message().contains(&server.address), "{status}");
    status
}

/// And by the one for scripts.
fn call_by_script(server: Hostile) -> Status {
    let status = match ProbeClient::connect_blocking(&server.address) {
        Ok(client) => client.echo("x").wait().map(drop).unwrap_err(),
        Err(status) => status,
    };
    server.thread.join().unwrap();
    assert!(status.message().contains(&server.address), "{status}");
    status
}

/// Both clients end a call on such a server with UNAVAILABLE and this text.
async fn both_say(text: &str, act: impl FnOnce(TcpListener) + Clone + Send + 'static) {
    let by_tokio = call_by_tokio(hostile(act.clone()), Limits::default()).await;
    let by_script = tokio::task::spawn_blocking(|| call_by_script(hostile(act)));
    for status in [by_tokio, in_time(by_script).await.unwrap()] {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains(text), "{text:?} in {status}");
    }
}

macro_rules! both_say {
    ($($test:ident: $text:literal, $act:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
        async fn $test() {
            both_say($text, $act).await;
        }
    )*};
}

both_say! {
    another_protocol: "can't connect", |listener| {
        let mut peer = accept_silently(&listener);
        peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        peer.wait_for_end();
    };
    a_close_at_once: "can't connect", |listener| drop(accept_silently(&listener));
    a_welcome_in_another_version: "speaks versions 7 to 9", |listener| {
        let mut peer = accept_silently(&listener);
        let mut payload = hello();
        payload[8..12].copy_from_slice(&[7, 0, 9, 0]);
        peer.send(&Frame::new(WELCOME, 0, &payload));
        peer.wait_for_end();
    };
    a_welcome_with_another_layout: "rkyv format", |listener| {
        let mut peer = accept_silently(&listener);
        let mut payload = hello();
        payload[12] ^= 1;
        peer.send(&Frame::new(WELCOME, 0, &payload));
        peer.wait_for_end();
    };
    a_refusal_instead_of_a_welcome: "too_many_connections: full house", |listener| {
        let mut peer = accept_silently(&listener);
        let mut payload = vec![20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        payload.extend_from_slice(b"full house");
        peer.send(&Frame::new(GOAWAY, 0, &payload));
        peer.wait_for_end();
    };
    a_response_before_the_handshake: "does not speak ringcall", |listener| {
        let mut peer = accept_silently(&listener);
        peer.send(&Frame::new(RESPONSE, 1 << 20, &[0; 16]));
        peer.wait_for_end();
    };
    a_length_above_the_maximum: "longer than", |listener| {
        let mut peer = accept(&listener);
        let request = peer.serve_request();
        let mut wire = Frame::new(RESPONSE, request.call_id, &[]).encode();
        wire[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        peer.send_bytes(&wire);
        peer.wait_for_end();
    };
    a_close_in_the_middle_of_a_frame: "closed", |listener| {
        let mut peer = accept(&listener);
        let request = peer.serve_request();
        let wire = Frame::new(RESPONSE, request.call_id, &[0; 1000]).encode();
        peer.send_bytes(&wire[..500]);
    };
    a_response_to_a_call_that_was_never_made: "which was never made", |listener| {
        let mut peer = accept(&listener);
        let request = peer.serve_request();
        peer.send(&Frame::new(RESPONSE, request.call_id + (1 << 40), &[0; 16]));
        peer.wait_for_end();
    };
    an_error_that_cannot_be_parsed: "malformed error", |listener| {
        let mut peer = accept(&listener);
        let request = peer.serve_request();
        peer.send(&Frame::new(ERROR, request.call_id, &[255; 8]));
        peer.wait_for_end();
    };
    methods_that_nobody_asked_for: "malformed method resolution", |listener| {
        let mut peer = accept(&listener);
        let asked = peer.read();
        peer.send(&Frame::new(RESOLVED, asked.call_id, &[1, 0]));
        peer.wait_for_end();
    };
    a_frame_that_only_clients_send: "not allowed", |listener| {
        let mut peer = accept(&listener);
        let request = peer.serve_request();
        peer.send(&Frame::new(CANCEL, request.call_id, &[]));
        peer.wait_for_end();
    };
    an_unknown_frame: "unknown frame kind 99", |listener| {
        let mut peer = accept(&listener);
        peer.serve_request();
        peer.send(&Frame::new(99, 1, &[]));
        peer.wait_for_end();
    };
    padding_with_content: "padding", |listener| {
        let mut peer = accept(&listener);
        let request = peer.serve_request();
        let mut wire = Frame::new(RESPONSE, request.call_id, &[0; 20]).encode();
        *wire.last_mut().unwrap() = 1;
        peer.send_bytes(&wire);
        peer.wait_for_end();
    };
    a_flood_of_pings: "too many ping frames", |listener| {
        let mut peer = accept(&listener);
        peer.serve_request();
        let pings: Vec<u8> = (0..33).flat_map(|_| Frame::new(PING, 5, &[]).encode()).collect();
        peer.send_bytes(&pings);
        peer.wait_for_end();
    };
    a_goaway_that_says_why: "flood: you know", |listener| {
        let mut peer = accept(&listener);
        let request = peer.serve_request();
        let mut payload = vec![14, 0, 0, 0, 1, 0, 1, 0];
        payload.extend_from_slice(&request.call_id.to_le_bytes());
        payload.extend_from_slice(b"you know");
        peer.send(&Frame::new(GOAWAY, 0, &payload));
    };
    a_reset: "", |listener| {
        let (socket, _) = listener.accept().unwrap();
        let socket = socket2::Socket::from(socket);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        drop(socket);
    };
}

/// What the script's client has the same code for, but takes its default times.
async fn tokio_says(text: &str, limits: Limits, act: impl FnOnce(TcpListener) + Send + 'static) {
    let status = call_by_tokio(hostile(act), limits).await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains(text), "{text:?} in {status}");
}

fn silent(listener: TcpListener) {
    let frames = accept_silently(&listener).wait_for_end();
    assert_eq!(frames.len(), 1, "nothing after HELLO");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn silence_instead_of_a_handshake() {
    let limits = impatient(|limits| &mut limits.handshake_timeout);
    tokio_says("the handshake did not complete in time", limits, silent).await;
}

#[test]
fn a_script_does_not_wait_for_a_handshake_for_ever() {
    let status = call_by_script(hostile(silent));
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("handshake"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_header_byte_by_byte() {
    tokio_says(
        "header did not arrive in time",
        impatient(|limits| &mut limits.header_timeout),
        |listener| {
            let mut peer = accept(&listener);
            let request = peer.serve_request();
            let wire = Frame::new(RESPONSE, request.call_id, &[0; 16]).encode();
            let (stop, stopped) = mpsc::channel::<()>();
            for byte in &wire {
                if peer.socket.write_all(&[*byte]).is_err() {
                    break;
                }
                // The pause is the attack, and bounded by the 32 bytes of a header.
                stopped.recv_timeout(Duration::from_millis(30)).unwrap_err();
            }
            drop(stop);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_that_never_ends() {
    tokio_says(
        "too slowly",
        impatient(|limits| &mut limits.body_grace),
        |listener| {
            let mut peer = accept(&listener);
            let request = peer.serve_request();
            let wire = Frame::new(RESPONSE, request.call_id, &[0; 100_000]).encode();
            peer.send_bytes(&wire[..100]);
            peer.wait_for_end();
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn silence_that_outlasts_a_ping() {
    let mut limits = impatient(|limits| &mut limits.keepalive_interval);
    limits.keepalive_timeout = limits.keepalive_interval;
    tokio_says("ping was not answered", limits, |listener| {
        let mut peer = accept(&listener);
        peer.serve_request();
        let after: Vec<u8> = peer.wait_for_end().iter().map(|frame| frame.kind).collect();
        assert_eq!(after, [PING]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_stops_reading() {
    let (stop, stopped) = mpsc::channel::<()>();
    let server = hostile(move |listener| {
        let mut peer = accept(&listener);
        peer.serve_resolution();
        // Silent as well: one that says that it lives may have a reason not to read.
        stopped.recv_timeout(PATIENCE).unwrap();
    });
    let client = Client::builder()
        .limits(impatient(|limits| &mut limits.write_stall_timeout))
        .connect_lazy(&server.address);
    let client = ProbeClient::new(client.unwrap());
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.blob(vec![0; 1 << 20]).await.map(drop) })
        })
        .collect();
    for call in calls {
        let status = in_time(call).await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    stop.send(()).unwrap();
    server.thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_response_that_is_no_archive() {
    let act = |listener: TcpListener| {
        let mut peer = accept(&listener);
        let request = peer.serve_request();
        peer.send(&Frame::new(RESPONSE, request.call_id, &[0xee; 24]));
        // The connection is in order: the next call is made on it.
        let request = peer.read();
        peer.send(&Frame::new(
            RESPONSE,
            request.call_id,
            b"next\xff\xff\xff\xff",
        ));
        peer.wait_for_end();
    };
    let server = hostile(act);
    let client = ProbeClient::connect(&server.address).await.unwrap();
    let status = in_time(client.echo("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss, "{status}");
    assert_eq!(*in_time(client.echo("y")).await.unwrap(), "next");
    drop(client);
    server.thread.join().unwrap();

    let server = hostile(act);
    let client = ProbeClient::connect_blocking(&server.address).unwrap();
    assert_eq!(client.echo("x").wait().unwrap_err().code(), Code::DataLoss);
    assert_eq!(*client.echo("y").wait().unwrap(), "next");
    drop(client);
    server.thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_that_crossed_a_goaway_were_not_executed() {
    let server = hostile(|listener| {
        let mut peer = accept(&listener);
        peer.serve_resolution();
        let (first, second) = (peer.read(), peer.read());
        let mut payload = vec![0, 0, 0, 0, 1, 0, 1, 0];
        payload.extend_from_slice(&first.call_id.to_le_bytes());
        peer.send(&Frame::new(GOAWAY, 0, &payload));
        assert!(second.call_id > first.call_id);
        peer.send(&Frame::new(RESPONSE, first.call_id, b"first\xff\xff\xff"));
        assert_eq!(peer.wait_for_end(), [], "nothing is sent after a GOAWAY");
    });
    let client = ProbeClient::connect(&server.address).await.unwrap();
    let calls = async { tokio::join!(client.echo("1"), client.echo("2")) };
    let (first, second) = in_time(calls).await;
    assert_eq!(*first.unwrap(), "first");
    let status = second.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("not executed"), "{status}");
    // The old connection is closed as soon as its last call has ended, the client lives on.
    server.thread.join().unwrap();
    drop(client);
}

#[test]
fn a_script_gives_up_at_its_deadline() {
    let server = hostile(|listener| {
        let mut peer = accept(&listener);
        peer.serve_request();
        let after = peer.wait_for_end();
        assert_eq!(after[0].kind, CANCEL);
    });
    let client = ProbeClient::connect_blocking(&server.address).unwrap();
    let begin = Instant::now();
    let status = client.echo("x").deadline(Duration::from_millis(100)).wait();
    assert_eq!(status.unwrap_err().code(), Code::DeadlineExceeded);
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(client);
    server.thread.join().unwrap();
}
