//! What is known of every call, by its caller and by its handler.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringcall::{Code, Status};

use super::Covered;

/// The books of a run.
#[derive(Debug)]
pub struct Ledger {
    clock: Rc<Cell<u64>>,
    calls: Vec<Call>,
    calls_max: usize,
    /// Tasks that have calls to make.
    pub callers: usize,
    /// Handlers that run or wait.
    pub handlers: usize,
    /// Calls that the servers' hooks have let through and were not told the end of.
    pub watched: usize,
    /// Clients that will make a last call.
    pub last_callers: usize,
    pub phase: Phase,
    /// Whether what was sent soon lies in its receiver's socket.
    pub is_prompt: bool,
    /// The first thing that must not be.
    pub violation: Option<String>,
}

/// What those who live in the world do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// They call, whatever happens.
    Faults,
    /// Nothing fails any more: each client makes one call that must be answered.
    LastCalls,
    /// They may close their connections.
    Close,
}

#[derive(Clone, Debug, Default)]
struct Call {
    begun_ns: u64,
    executions: u32,
    /// When its caller stops waiting.
    deadline_ns: Option<u64>,
    /// When its handler has ended with an answer.
    made_ns: Option<u64>,
    end: Option<End>,
}

/// An answer that was made so long before a deadline lies in its caller's socket by then, where nothing holds
/// it up.
const PROMPT_NS: u64 = 10_000_000;

#[derive(Clone, Debug, PartialEq)]
enum End {
    Answered,
    Failed(Status),
    GivenUp,
}

impl Ledger {
    pub fn new(clock: Rc<Cell<u64>>, calls_max: usize) -> Self {
        Self {
            clock,
            calls_max,
            calls: Vec::new(),
            callers: 0,
            handlers: 0,
            watched: 0,
            last_callers: 0,
            phase: Phase::Faults,
            is_prompt: false,
            violation: None,
        }
    }

    pub fn now_ns(&self) -> u64 {
        self.clock.get()
    }

    /// Notes what must not be.
    pub fn violated(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// A call begins; its number is unique. `None`: there are enough.
    pub fn begin(&mut self) -> Option<u64> {
        if self.calls.len() == self.calls_max {
            return None;
        }
        Some(self.begin_last())
    }

    /// The last call of a client, which is made in any case.
    pub fn begin_last(&mut self) -> u64 {
        self.calls.push(Call {
            begun_ns: self.now_ns(),
            ..Call::default()
        });
        self.calls.len() as u64 - 1
    }

    /// The call stops waiting then.
    pub fn set_deadline(&mut self, id: u64, after: Duration) {
        self.calls[id as usize].deadline_ns = Some(self.now_ns() + after.as_nanos() as u64);
    }

    /// The handler of a call has made its answer.
    pub fn made(&mut self, id: u64) {
        let now_ns = self.now_ns();
        self.calls[id as usize].made_ns = Some(now_ns);
    }

    /// A handler has started for this call. `left` is the time that it has, by what it was told.
    pub fn execute(&mut self, id: u64, left: Option<Duration>) {
        self.handlers += 1;
        let Some(call) = self.calls.get_mut(id as usize) else {
            return self.violated(|| format!("a handler was called for {id}, which nobody calls"));
        };
        call.executions += 1;
        let (executions, has_deadline) = (call.executions, call.deadline_ns.is_some());
        if executions > 1 {
            self.violated(|| format!("call {id} was executed twice"));
        }
        if left == Some(Duration::ZERO) {
            self.violated(|| format!("call {id} has started after its deadline"));
        }
        if left.is_some() != has_deadline {
            self.violated(|| format!("the handler of call {id} was told {left:?} of its deadline"));
        }
    }

    fn end(&mut self, id: u64, end: End) {
        let call = &mut self.calls[id as usize];
        if call.end.is_some() {
            return self.violated(|| format!("call {id} has ended twice"));
        }
        call.end = Some(end);
    }

    /// A call was given up by its caller.
    pub fn give_up(&mut self, id: u64) {
        self.end(id, End::GivenUp);
    }

    /// A call was answered, rightly or not.
    pub fn answered(&mut self, id: u64, is_right: bool) {
        if !is_right {
            self.violated(|| format!("call {id} got an answer that is not its own"));
        }
        if self.calls[id as usize].executions != 1 {
            self.violated(|| format!("call {id} was answered, but not executed"));
        }
        self.end(id, End::Answered);
    }

    /// A call has failed.
    pub fn failed(&mut self, id: u64, status: Status) {
        let call = &self.calls[id as usize];
        let is_expected = match (status.code(), call.deadline_ns) {
            (Code::Unavailable, _) => {
                call.begun_ns < self.now_ns() || !is_of_retired_connection(&status)
            }
            (Code::ResourceExhausted, _) => true,
            (Code::DeadlineExceeded, Some(deadline_ns)) => {
                let lay_there = |made_ns: u64| made_ns + PROMPT_NS < deadline_ns;
                !self.is_prompt || !call.made_ns.is_some_and(lay_there)
            }
            _ => false,
        };
        if !is_expected {
            self.violated(|| format!("call {id} ended with {status}"));
        }
        self.end(id, End::Failed(status));
    }

    /// The calls that have not ended.
    pub fn open(&self) -> String {
        let open = self.calls.iter().enumerate();
        let open: Vec<usize> = open
            .filter(|(_, call)| call.end.is_none())
            .map(|(id, _)| id)
            .collect();
        format!("{open:?}, {} callers", self.callers)
    }

    /// What must hold when all has ended.
    pub fn check_end(&self) -> Result<(), String> {
        for (id, call) in self.calls.iter().enumerate() {
            match &call.end {
                None => return Err(format!("call {id} has not ended")),
                Some(End::Failed(status)) if says_unexecuted(status) && call.executions > 0 => {
                    return Err(format!("call {id} was executed, but: {status}"));
                }
                Some(_) => (),
            }
        }
        Ok(())
    }

    pub fn covered(&self) -> Covered {
        let ends = |is_so: fn(&End) -> bool| {
            let ends = self.calls.iter().filter_map(|call| call.end.as_ref());
            ends.filter(|end| is_so(end)).count() as u64
        };
        Covered {
            calls: self.calls.len() as u64,
            answered: ends(|end| *end == End::Answered),
            failed: ends(|end| matches!(end, End::Failed(_))),
            given_up: ends(|end| *end == End::GivenUp),
            ..Covered::default()
        }
    }
}

/// Whether a call was made on a connection on which its server takes no more. When its client knows that,
/// the call goes to a new one instead.
fn is_of_retired_connection(status: &Status) -> bool {
    status
        .message()
        .contains("takes no more calls on this connection")
}

/// Whether a status promises that no handler has seen the call.
fn says_unexecuted(status: &Status) -> bool {
    ["not executed", "not sent", "no connection"]
        .iter()
        .any(|promise| status.message().contains(promise))
}
