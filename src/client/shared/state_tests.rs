//! The state against a model: random calls, losses and answers; every call ends exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Wake};

use bytes::Bytes;

use super::super::driving::Output;
use super::*;
use crate::client::core::slots::Failure;
use crate::connection::server::{ServerConnection, ServerEvent};
use crate::wire::frame_writer;
use crate::wire::handshake::{Handshake, ShardIndex};
use crate::wire::header::{Header, Kind};
use crate::wire::resolve::{Directory, MethodDescriptor};
use crate::wire::violation::Violation;

static SERVICE: ServiceDescriptor = ServiceDescriptor {
    name: "model",
    methods: &[MethodDescriptor {
        name: "model/call",
        fingerprint: 1,
        idempotent: false,
        request_bytes_max: u32::MAX,
    }],
};

struct Everything;
impl Directory for Everything {
    fn find(&self, _name: &str) -> Option<(u16, u64)> {
        Some((0, 1))
    }
}

/// Remembers that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);
impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Model {
    rng: fastrand::Rng,
    state: State,
    target: CallTarget,
    limits: Arc<Limits>,
    calls: Vec<ModelCall>,
    peers: Vec<Peer>,
    /// Shards of the server, and connections that the client may keep.
    shards: u16,
    connections_max: usize,
    begun: usize,
    ended: usize,
    dropped: usize,
    made_again: usize,
    /// The most links that calls went to at once.
    open_max: usize,
}

struct ModelCall {
    stage: Stage,
    woken: Arc<Flag>,
}

enum Stage {
    Waiting(Option<u64>),
    Sent(SentCall),
}

/// The far end of a link, and its driver.
struct Peer {
    link: u64,
    server: ServerConnection,
    owed: Vec<u64>,
    /// Set when the driver must look at its output: at first, and when somebody wakes it.
    driver: Arc<Flag>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let limits = Limits {
            calls_in_flight_max: rng.u32(1..4),
            ..Limits::default()
        };
        let (shards, connections_max) = (rng.u16(1..5), rng.usize(1..5));
        Self {
            state: State::new(connections_max, rng.fork()),
            rng,
            target: CallTarget::parse("tcp://127.0.0.1:1").expect("an address"),
            limits: Arc::new(limits),
            calls: Vec::new(),
            peers: Vec::new(),
            shards,
            connections_max,
            begun: 0,
            ended: 0,
            dropped: 0,
            made_again: 0,
            open_max: 0,
        }
    }

    /// What `Channel::with` does when it releases the lock.
    fn release(&mut self) {
        std::mem::take(&mut self.state.wakers).wake();
    }

    fn begin(&mut self) {
        self.begun += 1;
        let woken = Arc::new(Flag::default());
        woken.0.store(true, Ordering::SeqCst);
        let stage = Stage::Waiting(None);
        self.calls.push(ModelCall { stage, woken });
    }

    /// Polls the calls that were woken, and no others: one that is forgotten never ends.
    fn poll_calls(&mut self) {
        for mut call in std::mem::take(&mut self.calls) {
            if !call.woken.0.swap(false, Ordering::SeqCst) || !self.poll_call(&mut call) {
                self.calls.push(call);
            } else {
                self.ended += 1;
            }
            self.release();
        }
    }

    /// Whether the call has ended.
    fn poll_call(&mut self, call: &mut ModelCall) -> bool {
        let waker = Waker::from(Arc::clone(&call.woken));
        if let Stage::Waiting(ticket) = &mut call.stage {
            let Some(at) = self.state.pick_link(*ticket) else {
                match self.state.queue_call(*ticket, true, 0, &waker) {
                    Queued::Wait(number) | Queued::Connect(number, _) => {
                        *ticket = Some(number);
                        return false;
                    }
                    Queued::Fail(status) => panic!("calls that wait don't fail: {status}"),
                }
            };
            let encode = |out: &mut Vec<u8>, _| {
                out.push(7);
                Ok(())
            };
            let sent = self.state.send(at, &SERVICE, 0, 0, &waker, encode);
            call.stage = Stage::Sent(sent.expect("an open link takes calls"));
            self.state.call_waiting();
        }
        let Stage::Sent(sent) = &call.stage else {
            return false;
        };
        match self.state.poll_outcome(*sent, &waker) {
            Poll::Pending => false,
            Poll::Ready(Outcome::Failed(failure)) if matches!(*failure, Failure::NotSent(_)) => {
                call.stage = Stage::Waiting(None);
                self.made_again += 1;
                self.poll_call(call)
            }
            Poll::Ready(_) => true,
        }
    }

    fn drop_one(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        // Giving up a turn is the harder case.
        let is_woken = |call: &ModelCall| call.woken.0.load(Ordering::SeqCst);
        let woken = self.calls.iter().position(is_woken);
        let at = woken.filter(|_| self.rng.bool());
        let at = at.unwrap_or_else(|| self.rng.usize(..self.calls.len()));
        match self.calls.swap_remove(at).stage {
            Stage::Waiting(Some(ticket)) => self.state.leave(ticket),
            Stage::Waiting(None) => (),
            Stage::Sent(sent) => self.state.cancel(sent),
        }
        self.dropped += 1;
    }

    /// An attempt to connect ends, if one is under way.
    fn connect(&mut self, succeeds: bool) {
        // A link whose handshake is not done yet is an attempt, too.
        if !matches!(self.state.dial, Dial::Connecting) || !self.ready_or_none() {
            return;
        }
        if !succeeds {
            let failure = Status::unavailable("no");
            return self.state.attempt_failed(false, failure, 0);
        }
        let shard_index = ShardIndex::new(
            self.rng.usize(..usize::from(self.shards)),
            self.shards.into(),
        );
        let link = self.state.add_link(Arc::clone(&self.limits), 0);
        let peer = Peer {
            link,
            server: ServerConnection::new(Arc::clone(&self.limits), 0).at(shard_index),
            owed: Vec::new(),
            driver: Arc::default(),
        };
        peer.driver.0.store(true, Ordering::SeqCst);
        self.peers.push(peer);
    }

    fn ready_or_none(&self) -> bool {
        let links = &self.state.links;
        links.iter().all(|link| link.connection.is_ready())
    }

    /// Moves bytes both ways on one connection; the server answers some of what it owes.
    fn exchange(&mut self, at: usize, answers_all: bool) {
        let mut peer = self.peers.swap_remove(at);
        let waker = Waker::from(Arc::clone(&peer.driver));
        let (mut sent, mut answer) = (Vec::new(), Vec::new());
        // A driver writes what there is, again and again, until it sleeps.
        while peer.driver.0.swap(false, Ordering::SeqCst) {
            let mut taken = Vec::new();
            let id = peer.link;
            match self.state.take_output(id, &mut taken, false, 0, &waker) {
                Output::Finish => return self.lose(peer, &Cause::Finished),
                Output::Write => peer.driver.0.store(true, Ordering::SeqCst),
                Output::Look => {
                    let begun = self.state.begin_look(id);
                    self.state.end_look(id, begun, 0);
                    peer.driver.0.store(true, Ordering::SeqCst);
                }
                Output::Connect => peer.driver.0.store(true, Ordering::SeqCst),
                Output::Sleep { .. } | Output::Later => (),
            }
            sent.extend_from_slice(&taken);
        }
        let mut used = 0;
        while let Some(event) = peer
            .server
            .next_event(&sent, &mut used, 0, &Everything, &mut answer)
            .expect("an honest client")
        {
            match event {
                ServerEvent::Request { header, .. } => {
                    peer.server.suspend_call(header.call_id, 0);
                    peer.owed.push(header.call_id);
                }
                ServerEvent::AfterGoaway { .. } => (),
                ServerEvent::Unresolved { .. } => panic!("sent before it was resolved"),
                ServerEvent::TooLong { .. } => panic!("all methods take anything"),
                ServerEvent::NoMemory { .. } => panic!("nothing was refused"),
                // Its task is the same for all; the answer then crosses the cancellation.
                ServerEvent::Cancel { .. } => (),
            }
        }
        let in_flight = self.state.link(peer.link).connection.calls_in_flight();
        assert!(in_flight <= self.limits.calls_in_flight_max as usize);
        while !peer.owed.is_empty() && (answers_all || self.rng.bool()) {
            let call_id = peer.owed.swap_remove(self.rng.usize(..peer.owed.len()));
            peer.server.end_call(call_id);
            let response = Header::new(Kind::Response, call_id, 0);
            frame_writer::append_control(&mut answer, response, |out| out.push(1));
        }
        if !answers_all && self.rng.u8(..) < 20 {
            peer.server.go_away(None, &mut answer);
        }
        let chunk = Bytes::from(answer);
        if !chunk.is_empty() {
            let received = self.state.receive(peer.link, &chunk, 0, &self.target);
            received.expect("an honest server");
            // What has read looks at its output afterwards.
            peer.driver.0.store(true, Ordering::SeqCst);
        }
        self.release();
        self.peers.push(peer);
    }

    fn lose(&mut self, peer: Peer, cause: &Cause) {
        self.state.remove_link(peer.link, cause, &self.target, 0);
        self.release();
    }

    fn step(&mut self) {
        match self.rng.u8(..16) {
            0..5 => self.begin(),
            5..8 => self.poll_calls(),
            8 => self.drop_one(),
            9 => {
                let succeeds = self.rng.bool();
                self.connect(succeeds);
            }
            10 if !self.peers.is_empty() && self.rng.bool() => {
                let at = self.rng.usize(..self.peers.len());
                let peer = self.peers.swap_remove(at);
                self.lose(peer, &Cause::Closed);
            }
            _ if !self.peers.is_empty() => {
                let at = self.rng.usize(..self.peers.len());
                self.exchange(at, false);
            }
            _ => (),
        }
        self.release();
        self.check();
    }

    /// Lets everything come to its end; nobody is polled who was not woken.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.calls.is_empty() {
                return;
            }
            self.poll_calls();
            self.connect(true);
            for at in (0..self.peers.len()).rev() {
                self.exchange(at, true);
            }
            self.release();
        }
        panic!("{} calls never end", self.calls.len());
    }

    fn check(&mut self) {
        let is_sent = |call: &&ModelCall| matches!(call.stage, Stage::Sent(_));
        let sent = self.calls.iter().filter(is_sent).count();
        assert_eq!(self.state.calls.in_use(), sent, "one place for each call");
        let links = &self.state.links;
        let (open, others) = links.split_at(self.state.spread.open());
        let mut shards: Vec<_> = open.iter().map(|link| link.shard_index()).collect();
        shards.sort_by_key(|shard_index| shard_index.expect("an open link is ready").shard);
        shards.dedup();
        assert_eq!(shards.len(), open.len(), "each has reached another shard");
        assert!(open.len() <= self.connections_max);
        assert!(open.iter().all(|link| link.connection.goaway().is_none()));
        let is_being_made = |link: &&Link| !link.connection.is_ready();
        assert!(others.iter().filter(is_being_made).count() <= 1);
        self.open_max = self.open_max.max(open.len());
        assert_eq!(self.begun, self.ended + self.dropped + self.calls.len());
    }
}

#[test]
fn every_call_ends_exactly_once_whatever_happens() {
    let made_again = AtomicUsize::new(0);
    let open_max = AtomicUsize::new(0);
    for seed in 0..300 {
        let outcome = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            for _ in 0..300 {
                model.step();
            }
            model.settle();
            model.check();
            assert!(model.state.waiting.is_empty());
            made_again.fetch_add(model.made_again, Ordering::SeqCst);
            open_max.fetch_max(model.open_max, Ordering::SeqCst);
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
    assert!(made_again.into_inner() > 0, "some calls were made again");
    assert_eq!(open_max.into_inner(), 4, "as many as there are shards");
}

/// A link that has come to this one of two shards.
fn open_link(state: &mut State, shard: u16) -> u64 {
    let limits = Limits::default();
    let ours = Handshake::ours(&limits);
    let answer = Handshake::answer(&limits, &ours, ShardIndex { shard, shards: 2 });
    let mut welcome = Vec::new();
    frame_writer::append_control(&mut welcome, Header::new(Kind::Welcome, 0, 0), |out| {
        out.extend_from_slice(&answer.encode());
    });
    let link = state.add_link(Arc::new(limits), 0);
    let received = state.receive(link, &Bytes::from(welcome), 0, &target());
    received.expect("an honest server");
    link
}

fn target() -> CallTarget {
    CallTarget::parse("tcp://127.0.0.1:1").expect("an address")
}

/// The outcome of a call of which nothing was sent, on a link that ends by a mistake of the server.
fn outcome_of_an_unsent_call(others: usize) -> Failure {
    let mut state = State::new(2, fastrand::Rng::with_seed(1));
    let link = open_link(&mut state, 0);
    (0..others).for_each(|_| {
        open_link(&mut state, 1);
    });
    let at = state.pick_link(None).expect("there is room");
    assert_eq!(state.links[at].id, link, "the first of equals");
    // It waits until its method is resolved.
    let sent = state.send(at, &SERVICE, 0, 0, Waker::noop(), |_, _| Ok(()));
    let sent = sent.expect("an open link takes calls");
    let mistake = Cause::Violation(Violation::NotRingcall);
    state.remove_link(link, &mistake, &target(), 0);
    match state.poll_outcome(sent, Waker::noop()) {
        Poll::Ready(Outcome::Failed(failure)) => *failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_not_sent_goes_to_another_link_if_there_is_one_whoever_made_a_mistake() {
    assert!(matches!(outcome_of_an_unsent_call(1), Failure::NotSent(_)));
    assert!(matches!(outcome_of_an_unsent_call(0), Failure::Ended(_)));
}

/// A further attempt that was under way when the server went must not make the calls wait that come then.
#[test]
fn an_attempt_that_fails_after_the_last_link_was_lost_is_followed_by_another_at_once() {
    let mut state = State::new(4, fastrand::Rng::with_seed(1));
    open_link(&mut state, 0);
    assert!(state.begin_further(1_000_000_000), "load asks for another");
    let id = state.links[0].id;
    state.remove_link(id, &Cause::Closed, &target(), 2_000_000_000);
    let waker = std::task::Waker::noop();
    let waiting = state.queue_call(None, false, 2_000_000_001, waker);
    let Queued::Wait(ticket) = waiting else {
        panic!("it waits for the attempt: {waiting:?}")
    };
    let reset = || Status::unavailable("reset");
    state.attempt_failed(false, reset(), 2_000_000_002);
    let again = state.queue_call(Some(ticket), false, 2_000_000_003, waker);
    let Queued::Connect(ticket, pause) = again else {
        panic!("it connects: {again:?}")
    };
    assert_eq!(pause, std::time::Duration::ZERO);
    // Once: when that fails too, there is a pause.
    state.attempt_failed(false, reset(), 2_000_000_004);
    let failed = state.queue_call(Some(ticket), false, 2_000_000_005, waker);
    assert!(matches!(failed, Queued::Fail(_)), "{failed:?}");
}

/// Nothing else wakes those who wait for room when the pause before another link is over.
#[test]
fn a_driver_sleeps_no_longer_than_until_another_link_may_be_made() {
    let mut state = State::new(2, fastrand::Rng::with_seed(1));
    let link = open_link(&mut state, 0);
    let quiet = |state: &mut State| {
        let (out, waker) = (&mut Vec::new(), Waker::noop());
        // What is queued is written first, after a look.
        for _ in 0..3 {
            match state.take_output(link, out, false, 1, waker) {
                Output::Write => out.clear(),
                Output::Look => {
                    let begun = state.begin_look(link);
                    state.end_look(link, begun, 1);
                }
                quiet => return quiet,
            }
        }
        panic!("there is always something to do")
    };
    let Output::Sleep { due_ns: alone_ns } = quiet(&mut state) else {
        panic!("there is nothing to do")
    };
    state.spread.failed(1);
    let retry_ns = state.spread.retry_ns().expect("there is a place");
    assert!(1 < retry_ns && retry_ns < alone_ns);
    let still = quiet(&mut state);
    assert!(
        matches!(still, Output::Sleep { due_ns } if due_ns == alone_ns),
        "nobody needs it"
    );
    for _ in 0..CALLS_PER_CONNECTION {
        let sent = state.send(0, &SERVICE, 0, 0, Waker::noop(), |_, _| Ok(()));
        sent.expect("an open link takes calls");
    }
    let busy = quiet(&mut state);
    assert!(
        matches!(busy, Output::Sleep { due_ns } if due_ns == retry_ns),
        "{busy:?}"
    );
}
