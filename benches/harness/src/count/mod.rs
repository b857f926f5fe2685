//! Allocations and system calls of a server process. Counting costs time, so measured runs don't.

pub mod allocator;
pub mod page;
pub mod syscalls;

use std::cell::RefCell;
use std::io;

use serde::Serialize;

use self::page::Page;
use self::syscalls::{SyscallCounter, Syscalls, Tracer};

/// What one call costs a server, besides time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PerCall {
    /// Allocations and reallocations of the heap.
    pub allocations: f64,
    /// System calls; `None` when this machine lets nobody count them.
    pub syscalls: Option<f64>,
    /// Who counted those.
    pub syscalls_counted_by: Option<SyscallCounter>,
}

/// Counts between the two readings that a run takes of its server.
pub struct Counting<'a> {
    page: &'a Page,
    server_pid: u32,
    tracer: RefCell<Option<Tracer>>,
    readings: RefCell<Vec<u64>>,
    syscalls: RefCell<Option<Syscalls>>,
}

impl<'a> Counting<'a> {
    /// Counts what the server says in `page`, and what the kernel says of it.
    pub fn new(page: &'a Page, server_pid: u32) -> Self {
        Self {
            page,
            server_pid,
            tracer: RefCell::new(None),
            readings: RefCell::new(Vec::new()),
            syscalls: RefCell::new(None),
        }
    }

    /// To be called at the begin and at the end of what is counted.
    pub fn read(&self) -> io::Result<()> {
        let mut tracer = self.tracer.borrow_mut();
        if self.readings.borrow().is_empty() {
            *tracer = Tracer::start(self.server_pid)?;
        } else if let Some(tracer) = tracer.take() {
            *self.syscalls.borrow_mut() = Some(tracer.stop()?);
        }
        self.readings.borrow_mut().push(self.page.allocations());
        Ok(())
    }

    /// What each of so many calls cost.
    pub fn per_call(&self, calls: u64) -> PerCall {
        let readings = self.readings.borrow();
        let allocations = readings.last().unwrap_or(&0) - readings.first().unwrap_or(&0);
        let syscalls = *self.syscalls.borrow();
        PerCall {
            allocations: allocations as f64 / calls as f64,
            syscalls: syscalls.map(|syscalls| syscalls.count as f64 / calls as f64),
            syscalls_counted_by: syscalls.map(|syscalls| syscalls.counter),
        }
    }
}
