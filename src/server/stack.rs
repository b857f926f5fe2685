//! The stack of another thread, taken by a signal that it handles.
#![allow(
    unsafe_code,
    reason = "a signal handler is installed and sent to a thread"
)]

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The means to take stacks. There is one per process, since it uses one signal.
#[derive(Debug)]
pub(super) struct StackProbe(());

/// Ignored by default and used by hardly anything. A handler of somebody else is left alone.
const SIGNAL: libc::c_int = libc::SIGURG;
/// Frames that are kept.
const FRAMES_MAX: usize = 64;
/// How long a thread is given to answer: it may be in a call that can't be interrupted.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the handler writes: return addresses, how many, and that it has finished.
static FRAMES: [AtomicUsize; FRAMES_MAX] = [const { AtomicUsize::new(0) }; FRAMES_MAX];
static COUNT: AtomicUsize = AtomicUsize::new(0);
static IS_DONE: AtomicBool = AtomicBool::new(true);
/// One stack at a time.
static IN_USE: Mutex<()> = Mutex::new(());

impl StackProbe {
    /// Installs the handler, once per process. `None`: the signal is somebody else's.
    pub(super) fn install() -> Option<Self> {
        static INSTALLED: OnceLock<bool> = OnceLock::new();
        INSTALLED.get_or_init(install_handler).then_some(Self(()))
    }

    /// The stack of a thread of this process that is known to run, as text.
    pub(super) fn stack_of(&self, thread: libc::pthread_t) -> String {
        let _one_at_a_time = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        COUNT.store(0, Ordering::Relaxed);
        IS_DONE.store(false, Ordering::Release);
        // SAFETY: the watchdog ends before the threads that it watches are joined, so the thread's
        // id is valid.
        let sent = unsafe { libc::pthread_kill(thread, SIGNAL) };
        if sent != 0 {
            return format!("not available: {}", std::io::Error::from_raw_os_error(sent));
        }
        let asked = Instant::now();
        while !IS_DONE.load(Ordering::Acquire) {
            if asked.elapsed() > PATIENCE {
                return "not available: the thread does not answer".to_owned();
            }
            std::thread::yield_now();
        }
        let count = COUNT.load(Ordering::Relaxed).min(FRAMES_MAX);
        describe(
            FRAMES[..count]
                .iter()
                .map(|frame| frame.load(Ordering::Relaxed)),
        )
    }
}

fn install_handler() -> bool {
    // SAFETY: all zeros is a valid `sigaction`; it is filled in before it is used.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks for the present action only, into memory of the right type.
    let asked = unsafe { libc::sigaction(SIGNAL, std::ptr::null(), &mut before) };
    if asked != 0 || !matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        return false;
    }
    // The unwinder may load its library at first use, which a handler must not.
    backtrace::trace(|_| false);
    action.sa_sigaction = take_stack as extern "C" fn(libc::c_int) as usize;
    // RESTART: calls that the signal interrupts go on.
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is complete: a handler of the plain form, which only stores to atomics
    // and unwinds, and an empty mask.
    unsafe { libc::sigaction(SIGNAL, &action, std::ptr::null_mut()) == 0 }
}

/// Runs on the thread whose stack is wanted. It allocates nothing and takes no lock of ours.
extern "C" fn take_stack(_signal: libc::c_int) {
    if IS_DONE.load(Ordering::Acquire) {
        return;
    }
    let mut count = 0;
    // SAFETY: the lock that this variant leaves out guards symbols, which are not looked up here.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            FRAMES[count].store(frame.ip() as usize, Ordering::Relaxed);
            count += 1;
            count < FRAMES_MAX
        });
    }
    COUNT.store(count, Ordering::Relaxed);
    IS_DONE.store(true, Ordering::Release);
}

/// One line for each function, those that were inlined into others included.
fn describe(frames: impl Iterator<Item = usize>) -> String {
    let mut text = String::new();
    for (number, frame) in frames.enumerate() {
        let mut is_known = false;
        let mut line = |name: &dyn std::fmt::Display| {
            is_known = true;
            writeln!(text, "{number:4}: {name}").expect("a String takes all that is written");
        };
        backtrace::resolve(frame as *mut std::ffi::c_void, |symbol| {
            if let Some(name) = symbol.name() {
                line(&name);
            }
        });
        if !is_known {
            writeln!(text, "{number:4}: {frame:#x}").expect("a String takes all that is written");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::thread::JoinHandleExt;
    use std::sync::Arc;

    #[inline(never)]
    fn held_in_this_function(stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn the_stack_names_the_function_that_runs() {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || held_in_this_function(&stop)
        });
        let probe = StackProbe::install().expect("nobody else uses the signal here");
        let named = (0..1000)
            .map(|_| probe.stack_of(thread.as_pthread_t()))
            .any(|stack| stack.contains("held_in_this_function"));
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("the thread ends as usual");
        assert!(named);
    }
}
