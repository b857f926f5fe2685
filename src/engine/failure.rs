//! Why shards do not start, or end before their time.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::platform::shortage::Shortage;

/// Why a shard, or what shards need beside themselves, can't be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The engine of a shard can't be had.
    Engine {
        /// Number of the shard.
        shard: usize,
        /// Why not, and what to do.
        cause: String,
    },
    /// A thread, a descriptor or memory can't be had.
    Shortage(Shortage),
    /// There is no memory for the receive buffers of a shard.
    RecvBuffers {
        /// Number of the shard.
        shard: usize,
        /// How many buffers it was to have.
        count: u16,
        /// Bytes of each.
        bytes: usize,
    },
    /// The services of a shard can't be made.
    Services {
        /// Number of the shard.
        shard: usize,
        /// What the factory returned as its error, or how it panicked; or what is wrong with the methods.
        cause: String,
    },
    /// The factory returned no service that has a method.
    NoMethod,
    /// The thread of a shard panicked.
    Panicked,
}

impl StartError {
    /// Whether it may be otherwise with another engine.
    pub(crate) fn is_of_engine(&self) -> bool {
        matches!(self, Self::Engine { .. } | Self::Shortage(_))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine { shard, cause } => write!(f, "shard {shard} has no engine: {cause}"),
            Self::Shortage(shortage) => shortage.fmt(f),
            Self::RecvBuffers {
                shard,
                count,
                bytes,
            } => write!(
                f,
                "shard {shard} has no memory for {count} receive buffers of {bytes} bytes: use fewer shards, or fewer \
                 or smaller buffers (ServerBuilder::recv_buffers), or raise what limits the process (`ulimit -v`, the \
                 memory limit of its container)"
            ),
            Self::Services { shard, cause } => {
                write!(f, "the services of shard {shard} can't be made: {cause}")
            }
            Self::NoMethod => f.write_str(
                "the server has no method: the factory returned no service; return what #[ringcall::service] has made",
            ),
            Self::Panicked => {
                f.write_str("a shard's thread panicked while it started; see the log")
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Shortage(shortage) => Some(shortage),
            _ => None,
        }
    }
}

impl From<Shortage> for StartError {
    fn from(shortage: Shortage) -> Self {
        Self::Shortage(shortage)
    }
}

/// Why a shard ended before its time.
#[derive(Debug)]
#[non_exhaustive]
pub enum ShardFailure {
    /// Its engine failed.
    Engine {
        /// Number of the shard.
        shard: usize,
        /// The error of the system.
        error: io::Error,
    },
    /// Its thread panicked.
    Panicked {
        /// What the panic said.
        text: String,
    },
    /// The future of a [`LocalRuntime`](crate::LocalRuntime) panicked.
    FuturePanicked,
}

impl fmt::Display for ShardFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine { shard, error } => {
                write!(f, "shard {shard} failed: {error}; see the log")
            }
            Self::Panicked { text } => write!(f, "a shard's thread panicked: {text}; see the log"),
            Self::FuturePanicked => f.write_str("the future panicked; see the log"),
        }
    }
}

impl std::error::Error for ShardFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Engine { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Failures that end shards, kept for whoever waits for the server.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Vec<ShardFailure>>);

impl Failures {
    pub(crate) fn add(&self, failure: ShardFailure) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(failure);
    }

    pub(crate) fn take(&self) -> Vec<ShardFailure> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
