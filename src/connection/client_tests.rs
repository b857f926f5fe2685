use super::*;
use crate::buf::AlignedBuf;
use crate::wire::frame_writer::{append_error, append_goaway};
use crate::wire::framer::Framer;
use crate::wire::handshake::ShardIndex;
use crate::wire::resolve::MethodDescriptor;

static PAIR: ServiceDescriptor = ServiceDescriptor {
    name: "pair",
    methods: &[
        MethodDescriptor {
            name: "pair/good",
            fingerprint: 1,
            idempotent: false,
            request_bytes_max: u32::MAX,
        },
        MethodDescriptor {
            name: "pair/other",
            fingerprint: 2,
            idempotent: false,
            request_bytes_max: u32::MAX,
        },
    ],
};

fn welcome() -> Vec<u8> {
    let mut out = Vec::new();
    let ours = Handshake::ours(&Limits::default());
    let payload = Handshake::answer(&Limits::default(), &ours, ShardIndex::ALONE).encode();
    append_control(&mut out, Header::new(Kind::Welcome, 0, 0), |o| {
        o.extend_from_slice(&payload)
    });
    out
}

/// The same of a server that takes fewer calls at once.
fn welcome_for(calls_in_flight_max: u32) -> Vec<u8> {
    let limits = Limits {
        calls_in_flight_max,
        ..Limits::default()
    };
    let mut out = Vec::new();
    let ours = Handshake::ours(&Limits::default());
    let payload = Handshake::answer(&limits, &ours, ShardIndex::ALONE).encode();
    append_control(&mut out, Header::new(Kind::Welcome, 0, 0), |o| {
        o.extend_from_slice(&payload)
    });
    out
}

/// Kinds and ids of the frames that were sent.
fn sent(out: &mut Vec<u8>) -> Vec<(Kind, u64)> {
    let (mut framer, bytes) = (Framer::new(1 << 20), AlignedBuf::copy_of(out));
    out.clear();
    let (mut at, mut sent) = (0, Vec::new());
    while let Some(frame) = framer.next_frame(bytes.as_slice(), &mut at).unwrap() {
        sent.push((frame.header.kind, frame.header.call_id));
    }
    sent
}

#[test]
fn held_calls_are_sent_as_far_as_the_server_permits() {
    let (mut client, mut out) = (client(), Vec::new());
    let ids: Vec<u64> = (0..5)
        .map(|at| call(&mut client, 0, at, &mut out))
        .collect();
    out.clear();
    let opening = [welcome_for(2), resolved()].concat();
    events(&mut client, &opening, &mut out).unwrap();
    let request = |id: u64| (Kind::Request, id);
    assert_eq!(sent(&mut out), [request(ids[0]), request(ids[1])]);
    // One that is given up makes room, after the server has heard of that.
    assert_eq!(client.cancel_call(ids[0], &mut out), Some(0));
    assert_eq!(sent(&mut out), [(Kind::Cancel, ids[0]), request(ids[2])]);
    // So does one that is answered, and one that has failed.
    let mut answer = Vec::new();
    append_control(&mut answer, Header::new(Kind::Response, ids[1], 0), |_| ());
    append_error(&mut answer, ids[2], &Status::aborted("no"));
    let ended = events(&mut client, &answer, &mut out).unwrap();
    assert_eq!(ended.len(), 2);
    assert_eq!(sent(&mut out), [request(ids[3]), request(ids[4])]);
}

#[test]
fn nobody_can_answer_what_was_not_sent() {
    let (mut client, mut out) = (client(), Vec::new());
    let ids = [1, 2].map(|waiter| call(&mut client, 0, waiter, &mut out));
    let mut wire = [welcome_for(1), resolved()].concat();
    append_control(&mut wire, Header::new(Kind::Response, ids[1], 0), |_| ());
    let refused = events(&mut client, &wire, &mut out).unwrap_err();
    assert_eq!(refused, Violation::UnknownCall { call_id: ids[1] });
}

fn resolved() -> Vec<u8> {
    let mut out = Vec::new();
    append_control(&mut out, Header::new(Kind::Resolved, 1, 0), |out| {
        out.extend_from_slice(&2u16.to_le_bytes());
        for (fingerprint, code, index) in [(1u64, 0u16, 40u16), (9, 9, 0)] {
            out.extend_from_slice(&fingerprint.to_le_bytes());
            out.extend_from_slice(&code.to_le_bytes());
            out.extend_from_slice(&index.to_le_bytes());
        }
    });
    out
}

fn events(
    client: &mut ClientConnection<u8>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<Vec<ClientEvent<u8>>, Violation> {
    let (chunk, mut at, mut events) = (AlignedBuf::copy_of(bytes), 0, Vec::new());
    while let Some(event) = client.next_event(chunk.as_slice(), &mut at, 0, out)? {
        events.push(event);
    }
    Ok(events)
}

fn client() -> ClientConnection<u8> {
    ClientConnection::new(Arc::new(Limits::default()), 0, &mut Vec::new())
}

fn call(client: &mut ClientConnection<u8>, method: u16, waiter: u8, out: &mut Vec<u8>) -> u64 {
    let encode = |out: &mut Vec<u8>, _: u32| {
        out.push(waiter);
        Ok(())
    };
    client
        .begin_call(&PAIR, method, 0, waiter, encode, out)
        .unwrap()
}

#[test]
fn calls_made_before_the_handshake_are_sent_after_it() {
    let (mut client, mut out) = (client(), Vec::new());
    let good = call(&mut client, 0, 1, &mut out);
    call(&mut client, 1, 2, &mut out);
    let withdrawn = call(&mut client, 0, 3, &mut out);
    assert_eq!(client.cancel_call(withdrawn, &mut out), Some(3));
    out.clear();
    let got = events(&mut client, &[welcome(), resolved()].concat(), &mut out).unwrap();
    assert!(matches!(&got[0], ClientEvent::Ready));
    let ClientEvent::Failed { waiter: 2, status } = &got[1] else {
        panic!("{got:?}")
    };
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status
            .message()
            .contains("0000000000000002 here, 0000000000000009 there")
    );
    let sent = Header::decode(out.first_chunk().unwrap(), 1000).unwrap();
    assert_eq!((sent.selector, sent.call_id, out.len()), (40, good, 48));
}

/// Codes that a later version may have say as much as this one needs to know.
#[test]
fn a_method_with_an_unknown_resolution_is_not_called_and_others_are() {
    let (mut client, mut out) = (client(), Vec::new());
    events(&mut client, &welcome(), &mut out).unwrap();
    let good = call(&mut client, 0, 1, &mut out);
    call(&mut client, 1, 2, &mut out);
    out.clear();
    let mut answer = resolved();
    let code_of_the_second = 32 + 2 + 12 + 8;
    answer[code_of_the_second] = 77;
    let got = events(&mut client, &answer, &mut out).unwrap();
    let [ClientEvent::Failed { waiter: 2, status }] = &got[..] else {
        panic!("{got:?}")
    };
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("pair/other"), "{status}");
    assert_eq!(requests(&mut out), [good]);
}

static SINGLE: ServiceDescriptor = ServiceDescriptor {
    name: "single",
    methods: &[MethodDescriptor {
        name: "single/only",
        fingerprint: 1,
        idempotent: false,
        request_bytes_max: u32::MAX,
    }],
};

/// The ids of the requests in `out`, which is emptied.
fn requests(out: &mut Vec<u8>) -> Vec<u64> {
    let sent = std::mem::take(out);
    let (mut rest, mut ids) = (&sent[..], Vec::new());
    while let Some(wire) = rest.first_chunk() {
        let header = Header::decode(wire, 1000).unwrap();
        if header.kind == Kind::Request {
            ids.push(header.call_id);
        }
        rest = &rest[32 + header.body_bytes()..];
    }
    ids
}

#[test]
fn no_call_overtakes_one_whose_service_is_not_resolved_yet() {
    let (mut client, mut out) = (client(), Vec::new());
    events(&mut client, &welcome(), &mut out).unwrap();
    client.resolve(&PAIR, &mut out);
    events(&mut client, &resolved(), &mut out).unwrap();
    out.clear();
    let single = |client: &mut ClientConnection<u8>, out: &mut Vec<u8>| {
        let begun = client.begin_call(&SINGLE, 0, 0, 9, |_, _| Ok(()), out);
        begun.unwrap()
    };
    let first = call(&mut client, 0, 1, &mut out);
    let held = single(&mut client, &mut out);
    let behind = call(&mut client, 0, 2, &mut out);
    assert_eq!(requests(&mut out), [first]);
    assert!(client.held_bytes() > 0);
    client.cancel_call(held, &mut out);
    assert_eq!(requests(&mut out), [behind]);
    let held = single(&mut client, &mut out);
    let behind = call(&mut client, 0, 3, &mut out);
    let mut answer = Vec::new();
    append_control(&mut answer, Header::new(Kind::Resolved, 2, 0), |out| {
        out.extend_from_slice(&1u16.to_le_bytes());
        out.extend_from_slice(&1u64.to_le_bytes());
        out.extend_from_slice(&[0, 0, 7, 0]);
    });
    events(&mut client, &answer, &mut out).unwrap();
    assert_eq!(requests(&mut out), [held, behind]);
    assert_eq!(client.held_bytes(), 0);
}

#[test]
fn a_response_to_a_call_never_made_is_a_violation_and_to_a_cancelled_one_is_not() {
    let (mut client, mut out) = (client(), Vec::new());
    events(&mut client, &welcome(), &mut out).unwrap();
    let call_id = call(&mut client, 0, 1, &mut out);
    events(&mut client, &resolved(), &mut out).unwrap();
    client.cancel_call(call_id, &mut out);
    let mut response = Vec::new();
    append_bare(&mut response, Kind::Response, call_id);
    assert!(events(&mut client, &response, &mut out).unwrap().is_empty());
    let mut invented = Vec::new();
    append_bare(&mut invented, Kind::Response, 1 << 40);
    let refused = events(&mut client, &invented, &mut out).unwrap_err();
    assert_eq!(refused, Violation::UnknownCall { call_id: 1 << 40 });
}

#[test]
fn a_goaway_fails_what_was_not_sent_and_keeps_what_was() {
    let (mut client, mut out) = (client(), Vec::new());
    call(&mut client, 0, 1, &mut out);
    let goaway = Goaway {
        reason: 9,
        last_call_id: 0,
        message: "versions 2 to 3".into(),
    };
    let mut bytes = Vec::new();
    append_goaway(&mut bytes, &goaway);
    let got = events(&mut client, &bytes, &mut out).unwrap();
    assert!(matches!(&got[0], ClientEvent::Goaway(heard) if *heard == goaway));
    assert!(
        matches!(&got[1], ClientEvent::NotSent { waiter: 1, status } if status.code() == Code::Unavailable)
    );
    assert!(
        client
            .begin_call(&PAIR, 0, 0, 2, |_, _| Ok(()), &mut out)
            .is_err()
    );
}

/// The short way takes what the long way would, and leaves everything else to it.
#[test]
fn a_response_is_taken_the_short_way_only_if_somebody_waits_for_it_and_it_lies_there_whole() {
    let (mut client, mut out) = (client(), Vec::new());
    events(&mut client, &welcome(), &mut out).unwrap();
    let calls = [1, 2, 3].map(|waiter| call(&mut client, 0, waiter, &mut out));
    events(&mut client, &resolved(), &mut out).unwrap();
    let cancelled = call(&mut client, 0, 4, &mut out);
    client.cancel_call(cancelled, &mut out);
    let response = |call_id: u64| {
        let mut frame = Vec::new();
        append_control(&mut frame, Header::new(Kind::Response, call_id, 0), |out| {
            out.extend_from_slice(b"three");
        });
        frame
    };
    let mut ping = Vec::new();
    append_bare(&mut ping, Kind::Ping, 0);
    let frames = [
        response(calls[0]),
        ping,
        response(calls[1]),
        response(cancelled),
        response(calls[2])[..40].to_vec(),
    ];
    let (chunk, mut at) = (AlignedBuf::copy_of(&frames.concat()), 0);
    let short = |client: &mut ClientConnection<u8>, at: &mut usize| {
        let taken = client.next_response(chunk.as_slice(), at);
        taken.map(|(waiter, payload)| (waiter, chunk.as_slice()[payload].to_vec()))
    };
    assert_eq!(short(&mut client, &mut at), Some((1, b"three".to_vec())));
    assert_eq!(short(&mut client, &mut at), None, "a ping");
    // The long way goes on until it finds something to tell.
    let event = client.next_event(chunk.as_slice(), &mut at, 0, &mut out);
    assert!(matches!(
        event,
        Ok(Some(ClientEvent::Response { waiter: 2, .. }))
    ));
    assert_eq!(short(&mut client, &mut at), None, "nobody waits for it");
    let event = client.next_event(chunk.as_slice(), &mut at, 0, &mut out);
    assert!(matches!(event, Ok(None)), "the last one is not whole");
    assert_eq!((at, client.calls_in_flight()), (chunk.len(), 1));
    let got = events(&mut client, &response(calls[2])[40..], &mut out).unwrap();
    assert!(matches!(
        &got[..],
        [ClientEvent::Response { waiter: 3, .. }]
    ));
}
