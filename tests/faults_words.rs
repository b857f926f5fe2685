//! What a message may be: how deep it nests, how long it is beside its value, and how much a status
//! carries. Each refusal names its bound, on both engines and by all three clients.

#[path = "support/engines.rs"]
mod engines;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/words.rs"]
mod words;

use std::net::TcpListener;
use std::thread::JoinHandle;

use engines::on_both_engines;
use raw::*;
use ringcall::__private::{AlignedBuf, access, encode};
use ringcall::rkyv::rancor::Error;
use ringcall::rkyv::to_bytes;
use ringcall::{Code, Engine, Message, Service};
use words::*;

/// The documented bound: levels of `Vec`, `Box` and long text within each other.
const LEVELS_MAX: usize = 62;

on_both_engines!(
    nesting_is_refused_at_the_sender,
    a_deep_value_costs_its_call_alone,
    slack_before_a_request_is_refused,
    details_come_whole_or_with_a_note,
    a_long_message_says_that_it_was_cut,
);

#[test]
fn sender_and_receiver_agree_on_nesting() {
    for way in WAYS {
        for innermost in INNERMOST {
            for levels in 1..=LEVELS_MAX + 3 {
                let value = nested(way, innermost, levels);
                let received = AlignedBuf::copy_of(&to_bytes::<Error>(&value).expect("fits"));
                let is_read = access::<Nested>(received.as_slice()).is_some();
                let is_sent = encode::<Nested>(&value, &mut Vec::new()).is_ok();
                let name = format!("{levels} levels of {way:?} around {innermost:?}");
                assert_eq!(
                    (is_sent, is_read),
                    (levels <= LEVELS_MAX, is_sent),
                    "{name}"
                );
            }
        }
    }
}

/// The message is looked at wherever it stands: also as a part of what does not nest by itself.
#[test]
fn nesting_counts_what_stands_around_it() {
    macro_rules! check {
        ($type:ty, $levels_around:literal, $around:expr) => {
            for (levels, fits) in [(LEVELS_MAX, true), (LEVELS_MAX + 1, false)] {
                let nested = nested(Way::Boxed, Innermost::Number, levels - $levels_around);
                let around: fn(Nested) -> $type = $around;
                let value = around(nested);
                let is_sent = encode::<$type>(&value, &mut Vec::new()).is_ok();
                let received = AlignedBuf::copy_of(&to_bytes::<Error>(&value).expect("fits"));
                let is_read = access::<$type>(received.as_slice()).is_some();
                assert_eq!((is_sent, is_read), (fits, fits), "{levels} levels");
            }
        };
    }
    check!(Option<(u8, Nested)>, 0, |nested| Some((7, nested)));
    check!([Nested; 2], 0, |nested| [Nested::Number(1), nested]);
    check!(Vec<Nested>, 1, |nested| vec![Nested::Number(1), nested]);
    check!(Box<Option<Vec<(String, Nested)>>>, 2, |nested| {
        Box::new(Some(vec![("key".to_owned(), nested)]))
    });
    check!(Holder, 0, |nested| Holder { before: 1, nested });
    check!(Either, 0, |nested| Either::Nested { nested });
}

/// Even where a level is as large as a few hundred bytes, the deepest message is read on a thread of
/// the usual size.
#[test]
fn the_deepest_message_needs_little_stack() {
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let read = small.spawn(|| {
        let value = wide(LEVELS_MAX);
        let mut out = Vec::new();
        encode::<Wide>(&value, &mut out).expect("nests as deep as it may");
        let payload = AlignedBuf::copy_of(&out);
        let archived = access::<Wide>(payload.as_slice()).expect("valid");
        owned::<Wide>(archived) == value
    });
    assert!(read.expect("starts").join().expect("does not panic"));
}

fn nesting_is_refused_at_the_sender(engine: Engine) {
    let server = server(engine);
    let asks = WAYS.iter().flat_map(|&way| {
        [LEVELS_MAX, LEVELS_MAX + 1]
            .into_iter()
            .flat_map(move |levels| [Ask::Take(way, levels), Ask::Give(way, levels)])
    });
    for ask in asks.chain([
        Ask::GiveBorrowed(LEVELS_MAX),
        Ask::GiveBorrowed(LEVELS_MAX + 1),
    ]) {
        for (client, answer) in by_all_clients(engine, &server, ask) {
            let (Ask::Take(_, levels) | Ask::Give(_, levels) | Ask::GiveBorrowed(levels)) = ask
            else {
                unreachable!("no other is asked")
            };
            let code = match ask {
                Ask::Take(..) => Code::InvalidArgument,
                _ => Code::Internal,
            };
            match answer {
                Ok(number) => assert_eq!((number, levels), (1, LEVELS_MAX), "{client} {ask:?}"),
                Err(status) => {
                    assert_eq!((status.code(), levels), (code, LEVELS_MAX + 1), "{client}");
                    assert!(
                        status.message().contains("deeper than 62 levels"),
                        "{status}"
                    );
                }
            }
        }
    }
    let now = server.metrics();
    // By three clients: responses of each way, and the borrowed one.
    let refused = 3 * (WAYS.len() as u64 + 1);
    assert_eq!((now.too_deep, now.too_long, now.invalid), (refused, 0, 0));
}

/// Deep enough to overflow any stack, were it followed.
fn a_deep_value_costs_its_call_alone(engine: Engine) {
    let server = server(engine);
    for (ask, code) in [
        (Ask::TakeDeep, Code::InvalidArgument),
        (Ask::GiveDeep, Code::Internal),
    ] {
        for (client, answer) in by_all_clients(engine, &server, ask) {
            let status = answer.expect_err("too deep");
            assert_eq!(status.code(), code, "{client}");
            assert!(
                status.message().contains("deeper than 62 levels"),
                "{status}"
            );
        }
        for (client, answer) in by_all_clients(engine, &server, Ask::Double(21)) {
            assert_eq!(answer.expect("the server lives"), 42, "{client}");
        }
    }
}

fn slack_before_a_request_is_refused(engine: Engine) {
    let server = server(engine);
    let mut peer = resolved(&server);
    let mut call_id = 0;
    let mut call = |method: &str, payload: &[u8]| {
        call_id += 1;
        peer.send(&Frame::request(index_of(method), call_id, payload));
        let answer = peer.read();
        assert_eq!(answer.call_id, call_id);
        answer
    };
    let padded = |bytes: usize| {
        let mut payload = vec![0xee; bytes];
        payload[bytes - 8..].copy_from_slice(&21_u64.to_le_bytes());
        payload
    };
    for (method, bytes, bytes_max) in [
        ("double", 24, 16),
        ("double", 4096, 16),
        ("double", 40_000, 16),
        ("ping", 1, 0),
        ("ping", 16, 0),
        // A byte and a pointer, and a body of 8 bytes with a gap of up to 7.
        ("boxed", 4096, 32),
    ] {
        let payload = if bytes < 8 {
            vec![0; bytes]
        } else {
            padded(bytes)
        };
        let answer = call(method, &payload);
        assert_eq!(
            answer.code(),
            Code::InvalidArgument as u16,
            "{method} {bytes}"
        );
        for words in [format!("has {bytes} bytes"), format!("at most {bytes_max}")] {
            assert!(answer.message().contains(&words), "{}", answer.message());
        }
    }
    assert_eq!(server.metrics().invalid, 6);
    // A little before the value is tolerated, as the document says.
    assert_eq!(call("double", &padded(16)).payload, 42_u64.to_le_bytes());
    assert_eq!(call("ping", &[]).kind, RESPONSE);
    // And in front of what has no bound.
    let mut text = vec![0xee; 4000];
    text.extend_from_slice(b"hello\xff\xff\xff");
    assert_eq!(call("echo", &text).payload, b"hello\xff\xff\xff");
}

#[test]
fn methods_tell_the_longest_request() {
    let found = |method| {
        let methods = WordsServer::new(Handler).descriptor().methods;
        methods[usize::from(index_of(method))].request_bytes_max
    };
    assert_eq!((found("double"), found("ping")), (16, 0));
    assert_eq!((found("echo"), found("take")), (u32::MAX, u32::MAX));
}

/// A server made of bytes, which answers one call.
fn answers(answer: impl Fn(u64) -> Frame + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", listener.local_addr().expect("bound"));
    let thread = std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client connects");
        let mut peer = RawPeer {
            socket: Box::new(socket),
        };
        peer.socket.set_timeout(Some(PATIENCE)).expect("a socket");
        assert_eq!(peer.read().kind, HELLO);
        peer.send(&Frame::new(WELCOME, 0, &hello()));
        let asked = peer.read();
        assert_eq!(asked.kind, RESOLVE);
        peer.send(&Frame::new(RESOLVED, asked.call_id, &all_found(&asked)));
        let request = peer.read();
        assert_eq!(request.kind, REQUEST);
        peer.send(&answer(request.call_id));
        while peer.try_read().is_ok_and(|frame| frame.is_some()) {}
    });
    (address, thread)
}

/// All clients, and `LocalClient` on both engines.
fn ask_answering(answer: impl Fn(u64) -> Frame + Clone + Send + 'static, check: impl Fn(Asked)) {
    for client in CLIENTS {
        for engine in [Engine::Uring, Engine::Epoll] {
            let (address, thread) = answers(answer.clone());
            check(by(client, engine, &address, Ask::Double(21)));
            thread.join().expect("does not panic");
        }
    }
}

#[test]
fn slack_before_a_response_is_data_loss() {
    let respond = |bytes: usize| {
        move |call_id| {
            let mut payload = vec![0xee; bytes];
            payload[bytes - 8..].copy_from_slice(&42_u64.to_le_bytes());
            Frame::new(RESPONSE, call_id, &payload)
        }
    };
    ask_answering(respond(16), |asked| assert_eq!(asked, Ok(42)));
    for bytes in [24, 100_000] {
        ask_answering(respond(bytes), |asked| {
            let status = asked.expect_err("too long");
            assert_eq!(status.code(), Code::DataLoss, "{status}");
            let words = format!("has {bytes} bytes; the method's response type needs at most 16");
            assert!(status.message().contains(&words), "{status}");
        });
    }
}

#[test]
fn details_beyond_the_bound_end_the_connection() {
    let fail = |details: usize| {
        move |call_id| {
            let mut frame = Frame::new(ERROR, call_id, &vec![0; 4 + details]);
            frame.selector = Code::Aborted as u16;
            frame
        }
    };
    ask_answering(fail(DETAILS_BYTES_MAX), |asked| {
        let status = asked.expect_err("as it was answered");
        let got = (status.code(), status.details().len());
        assert_eq!(got, (Code::Aborted, DETAILS_BYTES_MAX));
    });
    ask_answering(fail(DETAILS_BYTES_MAX + 1), |asked| {
        let status = asked.expect_err("the connection ends");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    });
}

fn details_come_whole_or_with_a_note(engine: Engine) {
    let server = server(engine);
    for bytes in [DETAILS_BYTES_MAX, DETAILS_BYTES_MAX + 1, 1 << 20] {
        for (client, answer) in by_all_clients(engine, &server, Ask::Fail(bytes)) {
            let status = answer.expect_err("it always fails");
            assert_eq!(status.code(), Code::Aborted, "{client}");
            if bytes == DETAILS_BYTES_MAX {
                assert_eq!(status.details(), vec![1; bytes], "{client}");
                assert_eq!(status.message(), "failed", "{client}");
            } else {
                assert_eq!(status.details(), [], "{client}");
                for words in [
                    "failed [",
                    &format!("{bytes} bytes"),
                    "at most 32768 travel",
                ] {
                    assert!(status.message().contains(words), "{client}: {status}");
                }
            }
        }
    }
}

fn a_long_message_says_that_it_was_cut(engine: Engine) {
    let server = server(engine);
    for (client, answer) in by_all_clients(engine, &server, Ask::FailAtLength(5000)) {
        let status = answer.expect_err("it always fails");
        let mark = " [cut; 5000 bytes in all]";
        let kept = status.message().strip_suffix(mark).expect("a mark");
        assert!(kept.chars().all(|c| c == '\u{fc}'), "{client}: {status}");
        assert!((4094..=4096).contains(&status.message().len()), "{client}");
    }
}

/// The owned value of an archive.
fn owned<T: Message>(archived: &ringcall::rkyv::Archived<T>) -> T {
    use ringcall::rkyv::Deserialize;
    use ringcall::rkyv::rancor::{Failure, Strategy};
    let mut reader = ();
    archived
        .deserialize(Strategy::<(), Failure>::wrap(&mut reader))
        .expect("valid")
}
