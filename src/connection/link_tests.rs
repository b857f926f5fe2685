use super::*;
use crate::wire::header::Header;

const SECOND: u64 = 1_000_000_000;

fn link() -> Link {
    let limits = Arc::new(Limits::default());
    let mut link = Link::new(Arc::clone(&limits), 0);
    link.accept_peer(Handshake::ours(&limits));
    link
}

fn feed(link: &mut Link, bytes: &[u8], now_ns: u64) {
    assert!(link.next_frame(bytes, &mut 0, now_ns).unwrap().is_none());
}

#[test]
fn a_byte_does_not_restart_the_time_of_a_header() {
    let wire = Header::new(Kind::Request, 1, 100).encode();
    let mut link = link();
    for (second, byte) in wire[..5].iter().enumerate() {
        feed(&mut link, &[*byte], second as u64 * SECOND);
        link.handle_timeout(second as u64 * SECOND, &mut Vec::new())
            .unwrap();
    }
    assert_eq!(link.poll_timeout(), 5 * SECOND);
    let timed_out = link.handle_timeout(5 * SECOND, &mut Vec::new());
    assert_eq!(timed_out, Err(Violation::HeaderTimeout));
}

#[test]
fn a_body_must_keep_its_rate_after_the_grace() {
    let wire = Header::new(Kind::Request, 1, 100_000).encode();
    let mut fast = link();
    feed(&mut fast, &wire, 0);
    feed(&mut fast, &[0; 60 * 1024], SECOND);
    assert_eq!(fast.handle_timeout(5 * SECOND, &mut Vec::new()), Ok(()));
    feed(&mut fast, &[0; 5 * 1024], 6 * SECOND);
    assert_eq!(fast.poll_timeout(), 10 * SECOND);
    assert_eq!(fast.handle_timeout(10 * SECOND, &mut Vec::new()), Ok(()));
    feed(&mut fast, &[0; 5 * 1024 - 1], 11 * SECOND);
    let too_slow = fast.handle_timeout(15 * SECOND, &mut Vec::new());
    assert_eq!(too_slow, Err(Violation::BodyTooSlow));
}

#[test]
fn large_messages_are_refused_before_the_handshake() {
    let large = Header::new(Kind::Request, 1, CONTROL_BYTES_MAX + 1).encode();
    let mut stranger = Link::new(Arc::new(Limits::default()), 0);
    let refused = stranger.next_frame(&large, &mut 0, 0);
    assert!(matches!(refused, Err(Violation::TooLong { .. })));
    feed(&mut link(), &large, 0);
}

#[test]
fn silence_is_asked_once_and_then_ends_the_connection() {
    let (mut link, mut out) = (link(), Vec::new());
    link.handle_timeout(20 * SECOND, &mut out).unwrap();
    assert_eq!(out[4], Kind::Ping as u8);
    link.handle_timeout(29 * SECOND, &mut out).unwrap();
    assert_eq!(out.len(), 32, "one ping only");
    let ended = link.handle_timeout(30 * SECOND, &mut out);
    assert_eq!(ended, Err(Violation::KeepaliveTimeout));
}

#[test]
fn a_paused_connection_is_pinged_but_not_blamed_for_silence() {
    let (mut link, mut out) = (link(), Vec::new());
    link.set_paused(true, 0);
    for pings in 1..=50 {
        assert_eq!(link.poll_timeout(), pings * 20 * SECOND);
        assert_eq!(link.handle_timeout(pings * 20 * SECOND, &mut out), Ok(()));
        assert_eq!(out.len() as u64, pings * 32);
    }
    link.note_output(true, false, 1000 * SECOND);
    let stalled = link.handle_timeout(1030 * SECOND, &mut Vec::new());
    assert_eq!(stalled, Err(Violation::WriteStall));
}

fn client_link() -> Link {
    let limits = Arc::new(Limits::default());
    let mut link = Link::of_client(Arc::clone(&limits), 0);
    link.accept_peer(Handshake::ours(&limits));
    link
}

#[test]
fn a_server_that_speaks_is_not_blamed_for_not_reading_and_a_silent_one_is() {
    let mut link = client_link();
    link.note_output(true, false, 0);
    let ping = Header::new(Kind::Ping, 1, 0).encode();
    for second in [20, 40, 60] {
        link.next_frame(&ping, &mut 0, second * SECOND).unwrap();
        feed(&mut link, &[], second * SECOND);
        let now_ns = (second + 19) * SECOND;
        assert_eq!(link.handle_timeout(now_ns, &mut Vec::new()), Ok(()));
    }
    assert_eq!(link.handle_timeout(89 * SECOND, &mut Vec::new()), Ok(()));
    let stalled = link.handle_timeout(90 * SECOND, &mut Vec::new());
    assert_eq!(stalled, Err(Violation::WriteStall));
}

#[test]
fn a_ping_behind_unread_requests_proves_nothing_until_the_server_is_silent_for_long() {
    let mut link = client_link();
    link.set_backed_up(true);
    // All was written by the tenth second; the server began to pause then.
    link.note_output(false, true, 10 * SECOND);
    link.handle_timeout(20 * SECOND, &mut Vec::new()).unwrap();
    assert!(link.awaits_pong());
    assert_eq!(link.handle_timeout(39 * SECOND, &mut Vec::new()), Ok(()));
    assert_eq!(link.poll_timeout(), 40 * SECOND);
    let mut prompt = link;
    prompt.set_backed_up(false);
    let silent = prompt.handle_timeout(39 * SECOND, &mut Vec::new());
    assert_eq!(silent, Err(Violation::KeepaliveTimeout));
    prompt.set_backed_up(true);
    let silent = prompt.handle_timeout(40 * SECOND, &mut Vec::new());
    assert_eq!(silent, Err(Violation::KeepaliveTimeout));
}

#[test]
fn a_client_that_ends_waits_for_no_server_that_only_speaks() {
    let mut link = client_link();
    link.note_output(true, false, 0);
    link.end();
    feed(&mut link, &[], 29 * SECOND);
    let stalled = link.handle_timeout(30 * SECOND, &mut Vec::new());
    assert_eq!(stalled, Err(Violation::WriteStall));
}

#[test]
fn a_pause_of_this_side_is_no_slowness_of_the_peer() {
    let wire = Header::new(Kind::Response, 1, 100_000).encode();
    let mut link = client_link();
    feed(&mut link, &wire, 0);
    link.note_output(true, false, 0);
    link.forgive_pause(3600 * SECOND);
    feed(&mut link, &[0; 16], 3600 * SECOND);
    let now = link.handle_timeout(3604 * SECOND, &mut Vec::new());
    assert_eq!(now, Ok(()));
    let slow = link.handle_timeout(3605 * SECOND, &mut Vec::new());
    assert_eq!(slow, Err(Violation::BodyTooSlow));
}

#[test]
fn who_was_refused_for_being_slow_has_time_to_read_why() {
    let mut link = Link::new(Arc::new(Limits::default()), 0);
    feed(&mut link, &[0; 4], 0);
    let refused = link.handle_timeout(5 * SECOND, &mut Vec::new());
    assert_eq!(refused, Err(Violation::HandshakeTimeout));
    link.end();
    link.note_output(true, false, 5 * SECOND);
    assert_eq!(link.poll_timeout(), 35 * SECOND);
    assert_eq!(link.handle_timeout(34 * SECOND, &mut Vec::new()), Ok(()));
    let stalled = link.handle_timeout(35 * SECOND, &mut Vec::new());
    assert_eq!(stalled, Err(Violation::WriteStall));
}

#[test]
fn a_peer_that_says_nothing_is_given_the_handshake_time() {
    let mut link = Link::new(Arc::new(Limits::default()), 0);
    assert_eq!(link.poll_timeout(), 5 * SECOND);
    let timed_out = link.handle_timeout(5 * SECOND, &mut Vec::new());
    assert_eq!(timed_out, Err(Violation::HandshakeTimeout));
}

#[test]
fn a_header_of_a_stranger_has_its_own_time_but_the_handshakes_counts_first() {
    let timed_out = |handshake_seconds| {
        let limits = Limits {
            handshake_timeout: Duration::from_secs(handshake_seconds),
            ..Limits::default()
        };
        let mut link = Link::new(Arc::new(limits), 0);
        feed(&mut link, &[0; 4], 0);
        link.handle_timeout(5 * SECOND, &mut Vec::new())
    };
    assert_eq!(timed_out(5), Err(Violation::HandshakeTimeout));
    assert_eq!(timed_out(6), Err(Violation::HeaderTimeout));
}
