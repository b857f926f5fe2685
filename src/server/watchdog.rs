//! Notices handlers that hold their CPU, and says where they do.

use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ShardHandle;
use super::stack::StackProbe;
use crate::panics;
use crate::shard::counters::Counters;

/// A thread that looks at the shards' turns. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// Closed to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// One shard, as it was seen last.
struct Watched {
    id: usize,
    counters: Arc<Counters>,
    thread: libc::pthread_t,
    pulse: u64,
    since: Instant,
    is_reported: bool,
}

/// The shards are looked at this many times within the time that a turn may take.
const LOOKS: u32 = 4;

impl Watchdog {
    /// Watches shards, whose turns may take up to `threshold`. The shards must outlive it.
    pub(super) fn start(shards: &[ShardHandle], threshold: Duration) -> std::io::Result<Self> {
        let mut watched: Vec<Watched> = shards
            .iter()
            .enumerate()
            .filter_map(|(id, shard)| {
                Some(Watched {
                    id,
                    counters: Arc::clone(&shard.counters),
                    thread: shard.thread.as_ref()?.as_pthread_t(),
                    pulse: 0,
                    since: Instant::now(),
                    is_reported: false,
                })
            })
            .collect();
        let probe = StackProbe::install();
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new()
            .name("ringcall-watch".into())
            .spawn(move || {
                while stopped.recv_timeout(threshold / LOOKS) == Err(RecvTimeoutError::Timeout) {
                    for shard in &mut watched {
                        shard.look(threshold, probe.as_ref());
                    }
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The thread, for as long as there is one.
    pub(super) fn thread(&self) -> Option<&JoinHandle<()>> {
        self.thread.as_ref()
    }
}

impl Watched {
    fn look(&mut self, threshold: Duration, probe: Option<&StackProbe>) {
        let pulse = self.counters.pulse.get();
        let is_in_turn = pulse & 1 == 1;
        if pulse != self.pulse || !is_in_turn {
            (self.pulse, self.since, self.is_reported) = (pulse, Instant::now(), false);
            return;
        }
        let held = self.since.elapsed();
        if held < threshold || std::mem::replace(&mut self.is_reported, true) {
            return;
        }
        self.counters.stalls.add(1);
        let stack = match probe {
            Some(probe) => probe.stack_of(self.thread),
            None => "not available: SIGURG is used by something else".to_owned(),
        };
        tracing::warn!(
            shard = self.id,
            held_ms = held.as_millis() as u64,
            "a handler holds the CPU of its shard; nothing else is served there. Stack:\n{stack}"
        );
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(panic = panics::text(panic), "the watchdog panicked");
        }
    }
}
