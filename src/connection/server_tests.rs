use super::*;
use crate::buf::AlignedBuf;
use crate::connection::client::{ClientConnection, ClientEvent};
use crate::wire::frame_writer::{append, append_bare};
use crate::wire::resolve::{MethodDescriptor, ServiceDescriptor};
use crate::wire::status::Status;

static ECHO: ServiceDescriptor = ServiceDescriptor {
    name: "echo",
    methods: &[MethodDescriptor {
        name: "echo/echo",
        fingerprint: 5,
        idempotent: true,
        request_bytes_max: u32::MAX,
    }],
};

struct Echo;
impl Directory for Echo {
    fn find(&self, name: &str) -> Option<(u16, u64)> {
        (name == "echo/echo").then_some((70, 5))
    }
}

fn server() -> ServerConnection {
    ServerConnection::new(Arc::new(Limits::default()), 0)
}

fn step(
    server: &mut ServerConnection,
    bytes: &[u8],
) -> Result<(Vec<ServerEvent>, Vec<u8>), Violation> {
    let (mut at, mut out, mut events) = (0, Vec::new(), Vec::new());
    let chunk = AlignedBuf::copy_of(bytes);
    while let Some(event) = server.next_event(chunk.as_slice(), &mut at, 0, &Echo, &mut out)? {
        events.push(event);
    }
    Ok((events, out))
}

/// A server that has finished handshake and resolution with a client.
fn opened() -> (ServerConnection, ClientConnection<u8>) {
    let (mut server, mut out) = (server(), Vec::new());
    let mut client = ClientConnection::new(Arc::new(Limits::default()), 0, &mut out);
    client.resolve(&ECHO, &mut out);
    let (events, answers) = step(&mut server, &out).unwrap();
    assert!(events.is_empty());
    let answers = AlignedBuf::copy_of(&answers);
    let mut at = 0;
    let mut next = || client.next_event(answers.as_slice(), &mut at, 0, &mut out);
    assert!(matches!(next().unwrap(), Some(ClientEvent::Ready)));
    assert!(next().unwrap().is_none());
    (server, client)
}

fn request(call_id: u64, selector: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header {
        selector,
        ..Header::new(Kind::Request, call_id, 0)
    };
    append(&mut out, header, |out| {
        out.extend_from_slice(b"payload");
        Ok::<_, ()>(())
    })
    .unwrap();
    out
}

#[test]
fn a_resolved_method_can_be_called_and_no_other() {
    let (mut server, _) = opened();
    let (events, _) = step(&mut server, &[request(1, 70), request(2, 69)].concat()).unwrap();
    assert!(matches!(
        events[0],
        ServerEvent::Request {
            header: Header { call_id: 1, .. },
            ..
        }
    ));
    assert!(matches!(events[1], ServerEvent::Unresolved { call_id: 2 }));
    let (events, _) = step(&mut server, &request(3, u16::MAX)).unwrap();
    assert!(matches!(events[0], ServerEvent::Unresolved { call_id: 3 }));
}

#[test]
fn ids_must_increase() {
    let (mut server, _) = opened();
    step(&mut server, &request(5, 70)).unwrap();
    assert_eq!(
        step(&mut server, &request(5, 70)).unwrap_err(),
        Violation::CallId { call_id: 5 }
    );
    assert_eq!(
        step(&mut server, &request(4, 70)).unwrap_err(),
        Violation::CallId { call_id: 4 }
    );
}

#[test]
fn nothing_but_hello_may_come_first() {
    assert_eq!(
        step(&mut server(), &request(1, 70)).unwrap_err(),
        Violation::NotRingcall
    );
    let (mut server, _) = opened();
    let mut second_hello = Vec::new();
    ClientConnection::<u8>::new(Arc::new(Limits::default()), 0, &mut second_hello);
    assert_eq!(
        step(&mut server, &second_hello).unwrap_err(),
        Violation::Unexpected { kind: 1 }
    );
}

#[test]
fn a_cancel_finds_a_suspended_call_and_a_flood_of_them_ends_the_connection() {
    let (mut server, _) = opened();
    step(&mut server, &request(9, 70)).unwrap();
    server.suspend_call(9, 33);
    let mut cancel = Vec::new();
    append_bare(&mut cancel, Kind::Cancel, 9);
    let (events, _) = step(&mut server, &cancel).unwrap();
    assert!(matches!(events[..], [ServerEvent::Cancel { task: 33 }]));
    server.end_call(9);
    let flooded = (0..=CANCELS_BEYOND_REQUESTS_MAX).find_map(|_| step(&mut server, &cancel).err());
    assert_eq!(flooded, Some(Violation::Flood { what: "cancel" }));
}

#[test]
fn after_goaway_calls_are_refused_one_by_one() {
    let (mut server, _) = opened();
    server.go_away(None, &mut Vec::new());
    let (events, _) = step(&mut server, &request(1, 70)).unwrap();
    assert!(matches!(
        events[..],
        [ServerEvent::AfterGoaway { call_id: 1 }]
    ));
}

#[test]
fn ids_must_increase_after_goaway_too() {
    let (mut server, _) = opened();
    step(&mut server, &request(5, 70)).unwrap();
    server.go_away(None, &mut Vec::new());
    step(&mut server, &request(9, 70)).unwrap();
    for call_id in [9, 7, 5] {
        assert_eq!(
            step(&mut server, &request(call_id, 70)).unwrap_err(),
            Violation::CallId { call_id }
        );
    }
}

#[test]
fn calls_refused_after_goaway_may_be_cancelled() {
    let (mut server, _) = opened();
    server.go_away(None, &mut Vec::new());
    for call_id in 1..=2 * CANCELS_BEYOND_REQUESTS_MAX {
        let mut frames = request(call_id, 70);
        append_bare(&mut frames, Kind::Cancel, call_id);
        let (events, _) = step(&mut server, &frames).unwrap();
        assert!(matches!(events[..], [ServerEvent::AfterGoaway { .. }]));
    }
}

#[test]
fn what_is_refused_whatever_it_says_gets_no_memory() {
    for (selector, has_said_goaway) in [(69, false), (70, true)] {
        let (mut server, _) = opened();
        if has_said_goaway {
            server.go_away(None, &mut Vec::new());
        }
        let mut wire = Header {
            selector,
            ..Header::new(Kind::Request, 1, 1 << 20)
        }
        .encode()
        .to_vec();
        wire.resize(20_000, 7);
        let (events, _) = step(&mut server, &wire).unwrap();
        assert!(events.is_empty() && server.link_mut().arriving().is_none());
        let (events, _) = step(&mut server, &vec![7; (1 << 20) + 32 - 20_000]).unwrap();
        match events[..] {
            [ServerEvent::AfterGoaway { call_id: 1 }] => assert!(has_said_goaway),
            [ServerEvent::Unresolved { call_id: 1 }] => assert!(!has_said_goaway),
            ref others => panic!("{others:?}"),
        }
    }
}

#[test]
fn the_client_hears_of_an_error() {
    let (_, mut client) = opened();
    let mut out = Vec::new();
    let call_id = client.begin_call(&ECHO, 0, 0, 1, |_, _| Ok(()), &mut out);
    let mut error = Vec::new();
    crate::wire::frame_writer::append_error(&mut error, call_id.unwrap(), &Status::aborted("no"));
    let error = AlignedBuf::copy_of(&error);
    let event = client
        .next_event(error.as_slice(), &mut 0, 0, &mut out)
        .unwrap();
    assert!(
        matches!(event, Some(ClientEvent::Failed { waiter: 1, status }) if status.message() == "no")
    );
}
