//! What the server's hook is asked and told, on both engines.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringcall::{
    CallInfo, CallOutcome, CallTimings, Code, Engine, ServerBuilder, ServerHook, Status,
};

use crate::raw::{CANCEL, Frame, GOAWAY, PATIENCE, RESPONSE, RawPeer};
use crate::rig::*;

#[derive(Debug, PartialEq)]
enum Event {
    Asked(String, u64),
    Done(u64, End),
}

#[derive(Debug, PartialEq)]
enum End {
    Answered,
    Failed(Code),
    Refused(Code),
    Panicked,
    Expired,
    Cancelled,
    Disconnected,
}

impl From<CallOutcome<'_>> for End {
    fn from(outcome: CallOutcome<'_>) -> Self {
        match outcome {
            CallOutcome::Answered => Self::Answered,
            CallOutcome::Failed(status) => Self::Failed(status.code()),
            CallOutcome::Refused(status) => Self::Refused(status.code()),
            CallOutcome::Panicked => Self::Panicked,
            CallOutcome::Expired => Self::Expired,
            CallOutcome::Cancelled => Self::Cancelled,
            CallOutcome::Disconnected => Self::Disconnected,
            other => panic!("an outcome that this test does not know: {other:?}"),
        }
    }
}

/// Tells the test what it sees, and does what the test says.
struct Recorder {
    events: Sender<Event>,
    /// The method that it refuses.
    refuses: &'static str,
    /// The call ids at which it panics: when it is asked, and when it is told.
    panics_at: [u64; 2],
}

impl ServerHook for Recorder {
    fn on_call(&self, call: &CallInfo) -> Result<(), Status> {
        assert!(call.peer().starts_with("127.0.0.1:"), "{call:?}");
        let name = call.method().name.to_owned();
        let is_refused = name == self.refuses;
        let asked = Event::Asked(name, call.id());
        self.events.send(asked).expect("the test listens");
        assert_ne!(self.panics_at[0], call.id(), "on purpose: asked");
        if is_refused {
            return Err(Status::permission_denied("not today"));
        }
        Ok(())
    }

    fn on_done(&self, call: &CallInfo, outcome: CallOutcome<'_>, timings: CallTimings) {
        assert!(
            timings.arrived <= timings.started && timings.started <= timings.done,
            "{timings:?}"
        );
        let total = timings.done - timings.arrived;
        assert_eq!(timings.waited() + timings.handled(), total);
        let done = Event::Done(call.id(), outcome.into());
        self.events.send(done).expect("the test listens");
        assert_ne!(self.panics_at[1], call.id(), "on purpose: told");
    }
}

struct Hooked {
    rig: Rig,
    events: Receiver<Event>,
}

impl Hooked {
    fn start(engine: Engine) -> Self {
        Self::with(engine, "", [0; 2], |builder| builder)
    }

    fn with(
        engine: Engine,
        refuses: &'static str,
        panics_at: [u64; 2],
        configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let (sender, events) = channel();
        let hook = Arc::new(Recorder {
            events: sender,
            refuses,
            panics_at,
        });
        let rig = Rig::with(engine, |builder| {
            configure(builder.hook(move |_| Arc::clone(&hook)))
        });
        Self { rig, events }
    }

    fn next(&self) -> Event {
        let event = self.events.recv_timeout(PATIENCE);
        event.expect("the hook hears of it")
    }

    /// The call was let through.
    fn asked(&self, name: &str, call_id: u64) {
        assert_eq!(
            self.next(),
            Event::Asked(format!("threat.v1/{name}"), call_id)
        );
    }

    fn done(&self, call_id: u64, end: End) {
        assert_eq!(self.next(), Event::Done(call_id, end));
    }

    /// Nothing was said since: the next call is the next thing that the hook hears of.
    fn nothing_more(&self, peer: &mut RawPeer, call_id: u64) {
        peer.echo_works(call_id);
        self.asked("echo", call_id);
        self.done(call_id, End::Answered);
    }
}

fn handlers_that_answer_at_once_and_that_wait(engine: Engine) {
    let hooked = Hooked::start(engine);
    let mut peer = hooked.rig.peer();
    peer.echo_works(1);
    hooked.asked("echo", 1);
    hooked.done(1, End::Answered);
    // Two wait; each is told of when it ends, and calls between them don't mix them up.
    peer.send(&number(WAIT, 2, 20));
    peer.send(&number(WAIT, 3, 30));
    hooked.asked("wait", 2);
    hooked.asked("wait", 3);
    hooked.nothing_more(&mut peer, 4);
    hooked.rig.probe.release(2);
    let mut answered = [peer.read().call_id, peer.read().call_id];
    answered.sort_unstable();
    assert_eq!(answered, [2, 3]);
    let mut told = [hooked.next(), hooked.next()];
    told.sort_by_key(|event| matches!(event, Event::Done(3, _)));
    let ended = [2, 3].map(|id| Event::Done(id, End::Answered));
    assert_eq!(told, ended);
    hooked.nothing_more(&mut peer, 5);
}

fn a_refused_call_is_not_validated_and_reaches_no_handler(engine: Engine) {
    let hooked = Hooked::with(engine, "threat.v1/inspect", [0; 2], |builder| builder);
    let mut peer = hooked.rig.peer();
    // No valid `Shape`.
    peer.send(&Frame::request(INSPECT, 1, &[0xff; 12]));
    assert_eq!(peer.expect_error(1), Code::PermissionDenied as u16);
    hooked.asked("inspect", 1);
    hooked.nothing_more(&mut peer, 2);
    let now = hooked.rig.server.metrics();
    assert_eq!((now.refused_by_hook, now.invalid, now.requests), (1, 0, 1));
    assert_eq!(hooked.rig.probe.started(), 1);
}

fn calls_that_are_refused_before_are_not_asked_about(engine: Engine) {
    let hooked = Hooked::start(engine);
    let mut peer = hooked.rig.peer();
    // Of a method that was not resolved.
    peer.send(&Frame::request(40, 1, &[]));
    assert_eq!(peer.expect_error(1), Code::Unimplemented as u16);
    // Longer than its type permits, and dropped as it arrives.
    peer.send(&Frame::request(WAIT, 2, &[0; 200_000]));
    assert_eq!(peer.expect_error(2), Code::InvalidArgument as u16);
    hooked.nothing_more(&mut peer, 3);
    // One that is there already is judged like any other.
    peer.send(&Frame::request(WAIT, 4, &[0; 4096]));
    assert_eq!(peer.expect_error(4), Code::InvalidArgument as u16);
    hooked.asked("wait", 4);
    hooked.done(4, End::Refused(Code::InvalidArgument));
}

fn calls_that_come_while_the_server_drains(engine: Engine) {
    let hooked = Hooked::with(engine, "", [0; 2], |builder| {
        builder.drain_timeout(PATIENCE)
    });
    let mut peer = hooked.rig.peer();
    peer.send(&number(WAIT, 1, 10));
    hooked.asked("wait", 1);
    let Hooked { rig, events } = hooked;
    let Rig { server, probe } = rig;
    let ending = std::thread::spawn(move || drop(server));
    assert_eq!(peer.read().kind, GOAWAY);
    peer.send(&echo(2, b"late"));
    assert_eq!(peer.expect_error(2), Code::Unavailable as u16);
    probe.release(1);
    assert_eq!(peer.read().kind, RESPONSE);
    ending.join().expect("the server ends");
    let left: Vec<_> = events.iter().collect();
    assert_eq!(left, [Event::Done(1, End::Answered)]);
}

fn calls_that_their_shard_refuses_after_it_was_asked(engine: Engine) {
    let hooked = Hooked::start(engine);
    let mut peer = hooked.rig.peer();
    peer.send(&Frame::request(INSPECT, 1, &[0xff; 12]));
    assert_eq!(peer.expect_error(1), Code::InvalidArgument as u16);
    hooked.asked("inspect", 1);
    hooked.done(1, End::Refused(Code::InvalidArgument));
    // Its deadline passes while another call holds the shard.
    let late = Frame {
        timeout_us: 1,
        ..echo(3, b"late")
    };
    peer.send_bytes(
        &[Frame::request(BLOCK, 2, &[]), late]
            .map(|frame: Frame| frame.encode())
            .concat(),
    );
    hooked.asked("block", 2);
    hooked.rig.probe.unblock();
    assert_eq!(peer.read().call_id, 2);
    assert_eq!(peer.expect_error(3), Code::DeadlineExceeded as u16);
    hooked.done(2, End::Answered);
    hooked.asked("echo", 3);
    hooked.done(3, End::Refused(Code::DeadlineExceeded));
    hooked.nothing_more(&mut peer, 4);
}

fn calls_that_are_given_up(engine: Engine) {
    let hooked = Hooked::start(engine);
    let mut peer = hooked.rig.peer();
    peer.send(&number(WAIT, 1, 10));
    hooked.asked("wait", 1);
    peer.send(&Frame::new(CANCEL, 1, &[]));
    hooked.done(1, End::Cancelled);
    // One whose deadline passes while its handler waits.
    peer.send(&Frame {
        timeout_us: 1000,
        ..number(WAIT, 2, 20)
    });
    hooked.asked("wait", 2);
    hooked.done(2, End::Expired);
    assert_eq!(peer.expect_error(2), Code::DeadlineExceeded as u16);
    // Those of a connection that ends.
    peer.send(&number(WAIT, 3, 30));
    hooked.asked("wait", 3);
    drop(peer);
    hooked.done(3, End::Disconnected);
    // And of a server that does.
    let mut peer = hooked.rig.peer();
    peer.send(&number(WAIT, 1, 10));
    hooked.asked("wait", 1);
    let Hooked { rig, events } = hooked;
    drop(rig);
    let left: Vec<_> = events.iter().collect();
    assert_eq!(left, [Event::Done(1, End::Disconnected)]);
}

fn handlers_that_fail(engine: Engine) {
    let hooked = Hooked::with(engine, "", [0; 2], |builder| {
        builder.limits(limits(|limits| limits.payload_bytes_max = 64 << 10))
    });
    let mut peer = hooked.rig.peer();
    for (call_id, how) in [(1, AT_ONCE), (2, AFTER_WAITING), (3, AT_THE_END)] {
        peer.send(&number(FAIL, call_id, how));
        assert_eq!(peer.expect_error(call_id), Code::Internal as u16);
        hooked.asked("fail", call_id);
        hooked.done(call_id, End::Panicked);
    }
    // Given up, it panics while it is dropped.
    peer.send(&number(FAIL, 4, WHEN_DROPPED));
    hooked.asked("fail", 4);
    peer.send(&Frame::new(CANCEL, 4, &[]));
    hooked.done(4, End::Cancelled);
    // What it returns can't be sent.
    peer.send(&number(BIG, 5, 1 << 20));
    assert_eq!(peer.expect_error(5), Code::Internal as u16);
    hooked.asked("big", 5);
    hooked.done(5, End::Failed(Code::Internal));
    hooked.rig.probe.release(1);
    peer.send(&number(BIG_LATER, 6, 1 << 20));
    assert_eq!(peer.expect_error(6), Code::Internal as u16);
    hooked.asked("big_later", 6);
    hooked.done(6, End::Failed(Code::Internal));
    hooked.nothing_more(&mut peer, 7);
}

fn a_hook_that_panics_ends_nothing_but_what_it_was_asked_about(engine: Engine) {
    let hooked = Hooked::with(engine, "", [1, 2], |builder| builder);
    let mut peer = hooked.rig.peer();
    peer.send(&echo(1, b"asked"));
    assert_eq!(peer.expect_error(1), Code::Internal as u16);
    hooked.asked("echo", 1);
    assert_eq!(hooked.rig.probe.started(), 0);
    peer.echo_works(2);
    hooked.asked("echo", 2);
    hooked.done(2, End::Answered);
    hooked.nothing_more(&mut peer, 3);
    let now = hooked.rig.server.metrics();
    assert_eq!((now.panics, now.refused_by_hook), (2, 1));
}

/// Counts without a lock: it need not be shared.
struct CountsItself(std::cell::Cell<u64>, Arc<Mutex<Vec<u64>>>);

impl ServerHook for CountsItself {
    fn on_call(&self, _call: &CallInfo) -> Result<(), Status> {
        self.0.set(self.0.get() + 1);
        Ok(())
    }
}

impl Drop for CountsItself {
    fn drop(&mut self) {
        self.1.lock().expect("not poisoned").push(self.0.get());
    }
}

fn each_shard_has_a_hook_of_its_own_which_goes_with_it(engine: Engine) {
    let counts = Arc::new(Mutex::new(Vec::new()));
    let (told, two) = (Arc::clone(&counts), 2.try_into().expect("not zero"));
    let rig = Rig::with(engine, |builder| {
        let hook = move |_: &ringcall::Shard| CountsItself(0.into(), Arc::clone(&told));
        builder.shards(two).hook(hook)
    });
    for _ in 0..5 {
        rig.peer().echo_works(1);
    }
    drop(rig);
    let counts = counts.lock().expect("not poisoned");
    assert_eq!((counts.len(), counts.iter().sum()), (2, 5));
}

fn a_hook_that_cannot_be_made_fails_the_start(engine: Engine) {
    let started = Rig::try_with(engine, |builder| {
        builder.hook(|_| -> CountsItself { panic!("no hook today") })
    });
    let why = started.expect_err("it can't start").to_string();
    assert!(why.contains("no hook today"), "{why}");
}

fn what_a_hook_takes_is_told_as_time(engine: Engine) {
    const SLOW: Duration = Duration::from_millis(3);
    struct Slow(Sender<CallTimings>);
    impl ServerHook for Slow {
        fn on_call(&self, _call: &CallInfo) -> Result<(), Status> {
            std::thread::sleep(SLOW);
            Ok(())
        }

        fn on_done(&self, _call: &CallInfo, _outcome: CallOutcome<'_>, timings: CallTimings) {
            self.0.send(timings).expect("the test listens");
        }
    }
    let (sender, told) = channel();
    let rig = Rig::with(engine, |builder| {
        builder.hook(move |_| Slow(sender.clone()))
    });
    let mut peer = rig.peer();
    // Both are received in one turn: the second waits while the first is looked at.
    peer.send_bytes(
        &[echo(1, b"one"), echo(2, b"two")]
            .map(|frame: Frame| frame.encode())
            .concat(),
    );
    assert_eq!([peer.read().call_id, peer.read().call_id], [1, 2]);
    let first = told.recv_timeout(PATIENCE).expect("told");
    assert!(first.waited() >= SLOW, "{first:?}");
    let second = told.recv_timeout(PATIENCE).expect("told");
    assert!(second.started >= first.started + SLOW, "{second:?}");
}

on_both_engines!(
    handlers_that_answer_at_once_and_that_wait,
    a_refused_call_is_not_validated_and_reaches_no_handler,
    calls_that_are_refused_before_are_not_asked_about,
    calls_that_come_while_the_server_drains,
    calls_that_their_shard_refuses_after_it_was_asked,
    calls_that_are_given_up,
    handlers_that_fail,
    a_hook_that_panics_ends_nothing_but_what_it_was_asked_about,
    each_shard_has_a_hook_of_its_own_which_goes_with_it,
    a_hook_that_cannot_be_made_fails_the_start,
    what_a_hook_takes_is_told_as_time,
);
