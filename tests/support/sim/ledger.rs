//! What is known of every call, by its caller and by its handler.

use std::cell::Cell;
use std::rc::Rc;

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
    /// Whether clients may close their connections.
    pub may_close: bool,
    /// The first thing that must not be.
    pub violation: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Call {
    executions: u32,
    end: Option<End>,
}

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
            may_close: false,
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
        self.calls.push(Call::default());
        Some(self.calls.len() as u64 - 1)
    }

    /// A handler has started for this call.
    pub fn execute(&mut self, id: u64) {
        self.handlers += 1;
        let Some(call) = self.calls.get_mut(id as usize) else {
            return self.violated(|| format!("a handler was called for {id}, which nobody calls"));
        };
        call.executions += 1;
        if call.executions > 1 {
            self.violated(|| format!("call {id} was executed twice"));
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
    pub fn failed(&mut self, id: u64, status: Status, has_deadline: bool) {
        let is_expected = match status.code() {
            Code::Unavailable | Code::ResourceExhausted => true,
            Code::DeadlineExceeded => has_deadline,
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

/// Whether a status promises that no handler has seen the call.
fn says_unexecuted(status: &Status) -> bool {
    ["not executed", "not sent", "no connection"]
        .iter()
        .any(|promise| status.message().contains(promise))
}
