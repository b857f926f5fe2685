//! What lies in a socket is read to its end, whatever lies in between, and by whomever it was sent: no
//! burst of some keeps the others waiting for its end.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use raw::{Frame, HELLO, PATIENCE, RESPONSE, RawPeer, WELCOME, hello};
use rig::{BLOCK, Rig, WAIT, bytes_payload, echo, number, on_both_engines, resolved};
use ringcall::Engine;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};

on_both_engines!(
    what_lies_behind_urgent_data_is_read,
    what_lies_behind_descriptors_is_read,
    a_burst_of_many_lets_others_through,
    a_burst_of_calls_that_wait_lets_others_through,
    a_deep_pipeline_is_answered_in_order,
    what_came_before_the_end_is_answered,
);

/// Runs `meanwhile` while a handler holds the shard.
fn held(rig: &Rig, meanwhile: impl FnOnce()) {
    let mut holder = rig.peer();
    let started = rig.probe.started();
    holder.send(&Frame::request(BLOCK, 1, b""));
    rig::eventually("the shard is held", || rig.probe.started() > started);
    meanwhile();
    rig.probe.unblock();
}

fn what_lies_behind_urgent_data_is_read(engine: Engine) {
    let rig = Rig::start(engine);
    let address = rig.address().strip_prefix("tcp://").expect("TCP");
    // The mark comes in the middle of a header, in a body, and between two frames.
    for at in [20, 40, 80, 100] {
        let socket = TcpStream::connect(address).expect("listens");
        let twin = socket.try_clone().expect("a descriptor");
        let mut peer = resolved(
            RawPeer {
                socket: Box::new(socket),
            }
            .shaken(),
        );
        peer.socket.set_timeout(Some(PATIENCE)).expect("a socket");
        let wire = [
            echo(1, b"before it").encode(),
            echo(2, b"behind it").encode(),
        ]
        .concat();
        held(&rig, || {
            peer.send_bytes(&wire[..at]);
            assert_eq!(send(&twin, b"!", SendFlags::OOB), Ok(1));
            peer.send_bytes(&wire[at..]);
        });
        // The urgent byte itself is not part of the stream.
        peer.expect_response(1, &bytes_payload(b"before it"));
        peer.expect_response(2, &bytes_payload(b"behind it"));
    }
}

fn what_lies_behind_descriptors_is_read(engine: Engine) {
    let path = std::env::temp_dir().join(format!(
        "ringcall-marks-{}-{engine:?}.sock",
        std::process::id()
    ));
    let address = format!("unix:{}", path.display());
    let rig = Rig::with(engine, |builder| builder.listen(address.clone()));
    let mut opening = Frame::new(HELLO, 0, &hello()).encode();
    opening.extend(Frame::new(raw::PING, 7, b"").encode());
    let mut peers: Vec<UnixStream> = Vec::new();
    held(&rig, || {
        for piece_bytes in [16, 24, 100] {
            let socket = UnixStream::connect(&path).expect("listens");
            for piece in opening.chunks(piece_bytes) {
                let null = File::open("/dev/null").expect("Linux has it");
                let rights = [null.as_fd()];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut along = SendAncillaryBuffer::new(&mut space);
                assert!(along.push(SendAncillaryMessage::ScmRights(&rights)));
                let sent = sendmsg(
                    &socket,
                    &[IoSlice::new(piece)],
                    &mut along,
                    SendFlags::empty(),
                );
                assert_eq!(sent, Ok(piece.len()));
            }
            peers.push(socket);
        }
    });
    for socket in peers {
        let mut peer = RawPeer {
            socket: Box::new(socket),
        };
        peer.socket.set_timeout(Some(PATIENCE)).expect("a socket");
        assert_eq!(peer.read().kind, WELCOME);
        assert_eq!(peer.read().kind, raw::PONG);
    }
}

const BUSY: usize = 150;

/// Peers whose calls lie in their sockets, all at once, and one whose only call came last. Returns how
/// many handlers had started when that one was answered.
fn started_before_the_last(rig: &Rig, wire: &[u8]) -> u64 {
    let busy: Vec<RawPeer> = (0..BUSY).map(|_| rig.peer()).collect();
    let mut last = rig.peer();
    held(rig, || {
        for peer in &busy {
            let (mut peer, wire) = (peer.twin(), wire.to_vec());
            // What does not fit into the system's buffers is written later.
            thread::spawn(move || peer.socket.write_all(&wire).unwrap_or_default());
        }
        // Only its bytes are what matters; those of the others need not all have come.
        last.send(&echo(1, b"the last one"));
    });
    let readers: Vec<_> = busy
        .iter()
        .map(|peer| {
            let mut peer = peer.twin();
            thread::spawn(move || while let Ok(Some(_)) = peer.try_read() {})
        })
        .collect();
    last.expect_response(1, &bytes_payload(b"the last one"));
    let started = rig.probe.started();
    for peer in &busy {
        peer.socket
            .shut_down(std::net::Shutdown::Both)
            .expect("connected");
    }
    readers
        .into_iter()
        .for_each(|reader| reader.join().expect("no panic"));
    started
}

fn a_burst_of_many_lets_others_through(engine: Engine) {
    const CALLS: u64 = 3000;
    let rig = Rig::start(engine);
    let wire: Vec<u8> = (1..=CALLS)
        .flat_map(|call_id| echo(call_id, b"one of many").encode())
        .collect();
    let started = started_before_the_last(&rig, &wire);
    let all = CALLS * BUSY as u64;
    assert!(started < all / 5, "{started} of {all} calls came first");
}

fn a_burst_of_calls_that_wait_lets_others_through(engine: Engine) {
    const CALLS: u64 = 1000;
    let rig = Rig::start(engine);
    let wire: Vec<u8> = (1..=CALLS)
        .flat_map(|call_id| number(WAIT, call_id, call_id).encode())
        .collect();
    let started = started_before_the_last(&rig, &wire);
    let all = CALLS * BUSY as u64;
    assert!(started < all / 5, "{started} of {all} calls came first");
}

fn a_deep_pipeline_is_answered_in_order(engine: Engine) {
    const CALLS: u64 = 20_000;
    let rig = Rig::start(engine);
    // Many turns for each, and none is lost between them.
    let peers: Vec<RawPeer> = (0..8).map(|_| rig.peer()).collect();
    thread::scope(|scope| {
        for mut peer in peers {
            let mut writer = peer.twin();
            scope.spawn(move || {
                for call_id in 1..=CALLS {
                    writer.send(&echo(call_id, b"in order"));
                }
            });
            scope.spawn(move || {
                for call_id in 1..=CALLS {
                    let frame = peer.read();
                    assert_eq!((frame.kind, frame.call_id), (RESPONSE, call_id));
                }
            });
        }
    });
    assert_eq!(rig.rejected_in_all(), 0);
}

/// More than each gets in one turn, and then the end: that must not overtake what lies before it.
fn what_came_before_the_end_is_answered(engine: Engine) {
    const PEERS: usize = 50;
    const CALLS: u64 = 700;
    let rig = Rig::start(engine);
    let mut peers: Vec<RawPeer> = (0..PEERS).map(|_| rig.peer()).collect();
    let wire: Vec<u8> = (1..=CALLS)
        .flat_map(|call_id| echo(call_id, b"before the end").encode())
        .collect();
    held(&rig, || {
        for peer in &mut peers {
            peer.send_bytes(&wire);
            let shut_down = peer.socket.shut_down(std::net::Shutdown::Write);
            shut_down.expect("connected");
        }
    });
    for mut peer in peers {
        for call_id in 1..=CALLS {
            let frame = peer.read();
            assert_eq!((frame.kind, frame.call_id), (RESPONSE, call_id));
        }
        assert_eq!(peer.try_read().expect("no error"), None);
    }
    rig.until_quiet();
    assert_eq!(rig.rejected_in_all(), 0);
}
