//! Why a server does not start, or ends before its time.

use std::fmt;
use std::io;

use super::builder::{
    MEMORY_PER_SHARD_MIN, RECV_BUFFER_BYTES_MAX, RECV_BUFFER_BYTES_MIN, RECV_BUFFERS_MAX,
};
use crate::engine::{ShardFailure, StartError};
use crate::net::address::Address;
use crate::net::address_error::AddressError;
use crate::platform::cpus::CpusError;
use crate::platform::listen::ListenError;
use crate::platform::uring::Refusal;
use crate::wire::limits_error::LimitsError;

/// Why a server or a [`LocalRuntime`](crate::LocalRuntime) did not start, or ended before its time. The
/// `Display` of each says what is wrong, where, and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting or an address is wrong.
    Configuration(ConfigurationError),
    /// An address can't be listened on.
    Listen {
        /// The address.
        address: Address,
        /// What failed: `resolve`, `bind`, …
        step: &'static str,
        /// The error of the system.
        error: io::Error,
        /// What to do.
        advice: String,
    },
    /// io_uring was asked for, by [`Engine::Uring`](crate::Engine::Uring), and is refused or not built.
    Engine {
        /// What failed, and the error.
        failure: String,
        /// The likely cause.
        cause: String,
        /// What to do about it.
        remedy: String,
    },
    /// Shards, or what they need beside themselves, can't be started: each thing that failed.
    Start(Vec<StartError>),
    /// Shards ended before their time, each with its reason.
    Shards(Vec<ShardFailure>),
    /// [`Server::wait`](crate::Server::wait) was called on a thread that it would wait for.
    WaitOnOwnThread,
    /// [`LocalRuntimeBuilder::run`](crate::LocalRuntimeBuilder::run) was called on a thread that drives a shard.
    RuntimeOnShard,
}

/// What is wrong with the settings of a server.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// A limit.
    Limits(LimitsError),
    /// An address.
    Address(AddressError),
    /// There is no address.
    NoAddress,
    /// [`ServerBuilder::memory_per_shard`](crate::ServerBuilder::memory_per_shard) is too little.
    MemoryPerShard {
        /// Its value.
        bytes: usize,
    },
    /// There are no receive buffers, or too many.
    RecvBuffers {
        /// How many.
        count: u16,
    },
    /// The length of receive buffers is none that they may have.
    RecvBufferBytes {
        /// Of each.
        bytes: usize,
    },
    /// [`ServerBuilder::connections_max`](crate::ServerBuilder::connections_max) is 0.
    NoConnections,
    /// The shards can't be placed on CPUs.
    Cpus(CpusError),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(error) => error.fmt(f),
            Self::Listen {
                address,
                step,
                error,
                advice,
            } => write!(f, "can't listen on {address}: {step}: {error}; {advice}"),
            Self::Engine {
                failure,
                cause,
                remedy,
            } => write!(
                f,
                "io_uring was asked for but can't be used: {failure}; likely cause: {cause}; remedy: {remedy}"
            ),
            Self::Start(failures) => {
                f.write_str("can't start: ")?;
                write_all(f, failures)
            }
            Self::Shards(failures) => write_all(f, failures),
            Self::WaitOnOwnThread => f.write_str(
                "Server::wait was called on a thread of the server itself, by a handler or by what one has spawned, \
                 where it would wait for itself; the server shuts down now. Call Server::shut_down there, and \
                 Server::wait where the server was started",
            ),
            Self::RuntimeOnShard => f.write_str(
                "LocalRuntime::run was called on a thread that drives a shard already, by a handler or within \
                 another LocalRuntime, and would hold up all that is served there: call it on a thread of its own, or \
                 make the calls with Shard::client",
            ),
        }
    }
}

fn write_all(f: &mut fmt::Formatter<'_>, failures: &[impl fmt::Display]) -> fmt::Result {
    for (at, failure) in failures.iter().enumerate() {
        let separator = if at == 0 { "" } else { "; " };
        write!(f, "{separator}{failure}")?;
    }
    Ok(())
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limits(error) => error.fmt(f),
            Self::Address(error) => error.fmt(f),
            Self::Cpus(error) => error.fmt(f),
            Self::NoAddress => f.write_str(
                "no address to listen on: call ServerBuilder::listen(\"tcp://127.0.0.1:7411\")",
            ),
            Self::MemoryPerShard { bytes } => write!(
                f,
                "ServerBuilder::memory_per_shard is {bytes} bytes; use at least {MEMORY_PER_SHARD_MIN}"
            ),
            Self::RecvBuffers { count } => write!(
                f,
                "ServerBuilder::recv_buffers has {count} receive buffers; use 1 to {RECV_BUFFERS_MAX}"
            ),
            Self::RecvBufferBytes { bytes } => write!(
                f,
                "ServerBuilder::recv_buffers has receive buffers of {bytes} bytes; use a multiple of 16 from \
                 {RECV_BUFFER_BYTES_MIN} to {RECV_BUFFER_BYTES_MAX}"
            ),
            Self::NoConnections => f.write_str(
                "ServerBuilder::connections_max is 0, so that no connection would be accepted; use at least 1",
            ),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Configuration(error) => Some(error),
            Self::Listen { error, .. } => Some(error),
            Self::Start(failures) => failures.first().map(|first| first as _),
            Self::Shards(failures) => failures.first().map(|first| first as _),
            Self::Engine { .. } | Self::WaitOnOwnThread | Self::RuntimeOnShard => None,
        }
    }
}

impl std::error::Error for ConfigurationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Limits(error) => Some(error),
            Self::Address(error) => Some(error),
            Self::Cpus(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ConfigurationError> for ServeError {
    fn from(error: ConfigurationError) -> Self {
        Self::Configuration(error)
    }
}

impl From<LimitsError> for ServeError {
    fn from(error: LimitsError) -> Self {
        Self::Configuration(ConfigurationError::Limits(error))
    }
}

impl From<StartError> for ServeError {
    fn from(error: StartError) -> Self {
        Self::Start(vec![error])
    }
}

impl ServeError {
    pub(super) fn of_listening(failed: ListenError) -> Self {
        Self::Listen {
            advice: failed.advice(),
            address: failed.address,
            step: failed.step,
            error: failed.error,
        }
    }

    pub(super) fn of_refusal(refusal: &Refusal) -> Self {
        Self::Engine {
            failure: refusal.failure(),
            cause: refusal.cause(),
            remedy: refusal.remedy(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;
    use crate::ServerBuilder;
    use crate::shard::context::Shard;
    use crate::shard::service::Service;
    use crate::wire::limits::Limits;

    /// What a server says that is set up wrongly.
    fn refused(set: fn(ServerBuilder) -> ServerBuilder) -> ServeError {
        let builder = Server::builder().listen("tcp://127.0.0.1:0");
        let serve = |_: &Shard| -> Vec<Box<dyn Service>> { panic!("it does not get that far") };
        set(builder).serve(serve).unwrap_err()
    }

    #[test]
    fn each_wrong_setting_is_refused_by_its_name_with_what_to_do() {
        for (error, words) in [
            (
                refused(|builder| builder.memory_per_shard(5)),
                ["memory_per_shard is 5 bytes", "at least 1048576"],
            ),
            (
                refused(|builder| builder.recv_buffers(0, 1024)),
                ["0 receive buffers", "use 1 to 32768"],
            ),
            (
                refused(|builder| builder.recv_buffers(1, 1030)),
                ["of 1030 bytes", "a multiple of 16"],
            ),
            (
                refused(|builder| builder.connections_max(0)),
                ["connections_max is 0", "at least 1"],
            ),
            (
                refused(|builder| builder.listen("localhost:80")),
                ["\"localhost:80\"", "\"tcp://localhost:80\""],
            ),
            (
                refused(|builder| builder.shards(5000.try_into().expect("not zero"))),
                ["5000 shards", "at most 1024"],
            ),
            (
                refused(|builder| {
                    builder.limits(Limits {
                        calls_in_flight_max: 0,
                        ..Limits::default()
                    })
                }),
                ["calls_in_flight_max is 0", "at least one call"],
            ),
            (
                refused(|_| Server::builder()),
                ["no address", "ServerBuilder::listen"],
            ),
        ] {
            assert!(matches!(error, ServeError::Configuration(_)), "{error:?}");
            let text = error.to_string();
            for word in words {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }

    #[test]
    fn an_address_that_is_taken_is_told_with_its_error_and_advice() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = format!("tcp://{}", taken.local_addr().expect("bound"));
        let builder = Server::builder().listen("unix:/nowhere/at/all.sock");
        let serve = |_: &Shard| -> Vec<Box<dyn Service>> { panic!("it does not get that far") };
        let error = builder.listen(taken).serve(serve).unwrap_err();
        let text = error.to_string();
        let ServeError::Listen {
            address,
            step,
            error,
            advice,
        } = error
        else {
            panic!("{text}");
        };
        assert_eq!(address.to_string(), "unix:/nowhere/at/all.sock");
        assert_eq!((step, error.kind()), ("bind", io::ErrorKind::NotFound));
        assert!(
            text.ends_with(&advice) && advice.contains("create it"),
            "{text}"
        );
    }
}
