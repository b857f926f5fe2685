//! Makes a shard's glommio executor, and says in our words why it can't be had.
//!
//! glommio 0.9 panics where it lacks a thread, and at the first executor of a process it looks once for
//! what io_uring offers, and panics where it lacks a descriptor or memory for that; then no executor
//! can ever be made in this process. So what that look needs is asked for just before.

use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::catch_unwind;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};
use io_uring::{IoUring, Probe};
use rustix::event::{EventfdFlags, eventfd};

use crate::platform::shortage::{Shortage, room_for};
use crate::platform::uring::refusal::{Refusal, Step};
use crate::platform::uring::ring::retry_memory;

/// The executor's preemption timer would give its tasks a turn, but must never fire: glommio 0.9 arms
/// it, then asks whether it has fired before it runs the first task, and if so sleeps although tasks
/// are ready. With 10 ms, a thread that lost its CPU for that long in between slept for ever.
const PREEMPT_NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Memory of the executor for direct file I/O: its minimum, since the network does not use it.
const EXECUTOR_IO_BYTES: usize = 64 * 1024;
/// Entries of the executor's own rings.
const EXECUTOR_RING: usize = 64;
/// Descriptors that an executor takes: an eventfd and three rings; and one more while it looks.
const EXECUTOR_FDS: usize = 5;
/// What it maps, generously: the rings, and the stack of its thread.
const EXECUTOR_BYTES: usize = 4 << 20;

/// Whether glommio has looked. Locked while the first executor is made.
static HAS_LOOKED: Mutex<bool> = Mutex::new(false);

/// Makes an executor for the calling thread.
///
/// # Errors
/// What is missing, with cause and remedy.
pub(super) fn make_executor() -> Result<LocalExecutor, String> {
    let mut has_looked = HAS_LOOKED.lock().unwrap_or_else(PoisonError::into_inner);
    if *has_looked {
        drop(has_looked);
        return make();
    }
    room_for("the shard's executor", EXECUTOR_BYTES).map_err(|error| error.to_string())?;
    rehearse_look()?;
    let executor = make()?;
    *has_looked = true;
    Ok(executor)
}

/// Takes all descriptors that an executor needs, and does what glommio's look does; then gives all back.
/// What another thread takes in the instant that follows can't be helped; where that is too much,
/// the start fails, and says so.
fn rehearse_look() -> Result<(), String> {
    let fds: io::Result<Vec<OwnedFd>> = (0..EXECUTOR_FDS)
        .map(|_| Ok(eventfd(0, EventfdFlags::CLOEXEC)?))
        .collect();
    let lacking = |error| Shortage::new("what the shard's executor needs", error).to_string();
    drop(fds.map_err(lacking)?);
    let look = || {
        let ring = IoUring::new(LOOK_ENTRIES)?;
        ring.submitter().register_probe(&mut Probe::new())
    };
    retry_memory(look).map_err(|error| Refusal::from_io(Step::ExecutorRing, &error).to_string())
}

fn make() -> Result<LocalExecutor, String> {
    let made = catch_unwind(|| {
        // The shard pins its thread itself, alike on both engines.
        LocalExecutorBuilder::new(Placement::Unbound)
            .name("ringcall")
            .io_memory(EXECUTOR_IO_BYTES)
            .ring_depth(EXECUTOR_RING)
            .preempt_timer(PREEMPT_NEVER)
            .make()
    });
    match made {
        Ok(Ok(executor)) => Ok(executor),
        Ok(Err(GlommioError::IoError(error))) => {
            Err(Refusal::from_io(Step::ExecutorRing, &error).to_string())
        }
        Ok(Err(error)) => Err(format!("the shard's executor can't start: {error}")),
        Err(panic) => Err(words(&*panic)),
    }
}

/// What a panic of glommio's at start means.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().copied().unwrap_or_default(),
    };
    if text.contains("failed to spawn thread") {
        let error = io::Error::from_raw_os_error(libc::EAGAIN);
        return Shortage::new("the thread of the shard's executor", error).to_string();
    }
    if text.contains("poisoned") || text.contains("Failed to register a probe") {
        return "glommio looked for io_uring once in this process when descriptors or memory were short, and does not \
                look again: start the process anew with more of them (`ulimit -n`, `ulimit -l`, `ulimit -v`), or use \
                Engine::Epoll"
            .into();
    }
    format!("the shard's executor can't start: glommio panicked: {text}")
}

/// As many as glommio's look asks for.
const LOOK_ENTRIES: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_said_in_our_words() {
        let of = |text: &str| words(&text.to_owned());
        let text = of("failed to spawn thread: Os { code: 11, kind: WouldBlock }");
        assert!(text.contains("RLIMIT_NPROC") && text.contains("ulimit -u"));
        let text = of("Once instance has previously been poisoned");
        assert!(text.contains("start the process anew"));
        assert!(words(&"Failed to register a probe. Romulus").contains("start the process anew"));
        assert!(of("odd").ends_with("glommio panicked: odd"));
    }
}
