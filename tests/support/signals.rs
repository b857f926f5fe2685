//! Interrupts the system calls of this process's shards.
#![allow(unsafe_code, reason = "signals are installed and sent by raw calls")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Sends a signal that does nothing to every shard's thread, over and over, until it is dropped.
pub struct Storm {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Storm {
    pub fn start() -> Self {
        extern "C" fn nothing(_signal: libc::c_int) {}
        // SAFETY: all zeros is a valid `sigaction`: no flags, so that system calls are not
        // restarted, and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler does nothing, and so nothing that a handler may not do.
        let installed =
            unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
        assert_eq!(installed, 0);
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut sent = 0;
            while !seen.load(Ordering::Relaxed) {
                sent += interrupt_shards();
                std::thread::sleep(Duration::from_micros(200));
            }
            sent
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }

    /// Ends it; returns how many signals were sent.
    pub fn stop(mut self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("stopped once");
        thread.join().expect("it does not panic")
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn interrupt_shards() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let mut sent = 0;
    for task in tasks.flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if !name.starts_with("ringcall") {
            continue;
        }
        let id = task.file_name().into_string().expect("a number");
        let id: libc::pid_t = id.parse().expect("a number");
        // SAFETY: plain numbers. A thread that has ended meanwhile is an error, which is ignored:
        // its id can't belong to another process.
        let result = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, libc::SIGUSR1) };
        sent += u64::from(result == 0);
    }
    sent
}
