//! `loadgen env`: what this machine offers.

use ringcall::{Environment, IoUring, ResourceLimit};
use serde::Serialize;

use crate::cli::{EnvArgs, Format};
use crate::failure::Failure;
use crate::{print, print_json};

/// Looks and prints.
///
/// # Errors
/// When standard output can't be written to.
pub fn run(args: &EnvArgs) -> Result<(), Failure> {
    let environment = ringcall::environment();
    match args.format {
        Format::Text => print(&environment.to_string())?,
        Format::Json => print_json(&Report::new(&environment))?,
    }
    Ok(())
}

/// The environment as it is written in JSON.
#[derive(Serialize)]
struct Report<'a> {
    kernel: Option<&'a str>,
    cpu_model: Option<&'a str>,
    cpus: &'a [usize],
    quota_cpus: Option<f64>,
    governor: Option<&'a str>,
    memlock_bytes: Limit,
    nofile: Limit,
    io_uring: Uring<'a>,
    advice: &'a [String],
}

/// A limit; `null` is unlimited.
#[derive(Serialize)]
struct Limit {
    soft: Option<u64>,
    hard: Option<u64>,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Uring<'a> {
    Usable {
        features: &'a [String],
    },
    Refused {
        failure: &'a str,
        cause: &'a str,
        remedy: &'a str,
    },
}

impl<'a> Report<'a> {
    fn new(environment: &'a Environment) -> Self {
        Self {
            kernel: environment.kernel.as_deref(),
            cpu_model: environment.cpu_model.as_deref(),
            cpus: &environment.cpus,
            quota_cpus: environment.quota_cpus,
            governor: environment.governor.as_deref(),
            memlock_bytes: environment.memlock.into(),
            nofile: environment.nofile.into(),
            io_uring: match &environment.io_uring {
                IoUring::Usable { features } => Uring::Usable { features },
                IoUring::Refused {
                    failure,
                    cause,
                    remedy,
                } => Uring::Refused {
                    failure,
                    cause,
                    remedy,
                },
            },
            advice: &environment.advice,
        }
    }
}

impl From<ResourceLimit> for Limit {
    fn from(limit: ResourceLimit) -> Self {
        Self {
            soft: limit.soft,
            hard: limit.hard,
        }
    }
}
