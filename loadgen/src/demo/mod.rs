//! `loadgen demo`: the sample server on one CPU, measured from another.

mod client;
mod picture;
mod plan;
mod progress;
mod report;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use self::client::Event;
use self::plan::{Step, Transport};
use self::progress::Progress;
use self::report::{Measured, Report};
use crate::cli::{DemoArgs, Format};
use crate::failure::Failure;
use crate::report::document::Document;
use crate::results::Protocol;
use crate::target::child::{IDLE_USUAL, ServerOptions, ServerProcess};
use crate::target::interrupts;
use crate::target::placement::{self, Placement};
use crate::{print, print_json};

/// Measures and prints.
///
/// # Errors
/// When a step fails; the text says which and why. No process is left behind.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let (report, page) = measure(args.duration).map_err(Failure::Other)?;
    match args.format {
        Format::Text => {
            print(&report.to_string())?;
            match picture::keep(&page) {
                Ok(path) => print(&format!("\npictures and report: {}\n", path.display()))?,
                Err(error) => eprintln!(
                    "the report could not be kept: {error}; TMPDIR may name another place"
                ),
            }
        }
        Format::Json => print_json(&report)?,
    }
    Ok(())
}

fn measure(measure_in_all: Duration) -> Result<(Report, Document), String> {
    let is_interrupted = interrupts::watch().map_err(|error| error.to_string())?;
    let environment = ringcall::environment();
    let placement = Placement::choose(&environment);
    let directory = socket_directory()?;
    let socket = directory.path().join(SOCKET_NAME);
    let listen = [
        "tcp://127.0.0.1:0".to_owned(),
        format!("unix:{}", socket.display()),
    ];
    let options = ServerOptions {
        protocol: Protocol::Ringcall,
        shards: 1,
        cpus: placement.map(|placement| vec![placement.server]),
        idle: IDLE_USUAL.into(),
    };
    let mut server = ServerProcess::start(&listen, &options)
        .map_err(|error| format!("the server's process: {error}"))?;
    let [tcp, unix] = server.addresses() else {
        return Err("the server's process listens on other addresses than it was told".into());
    };
    let steps = plan::steps(
        [(Transport::Tcp, tcp), (Transport::Unix, unix)],
        measure_in_all,
    );
    let measured = drive(&steps, placement, &mut server, &is_interrupted)?;
    server
        .stop()
        .map_err(|error| format!("the server's process: {error}"))?;
    let notes = placement::notes(&environment, placement);
    let report = Report::new(placement, notes, &steps, &measured);
    let page = picture::page(&report, &steps, &measured);
    Ok((report, page))
}

/// Runs the load on a thread of its own, and watches it and the server meanwhile.
fn drive(
    steps: &[Step],
    placement: Option<Placement>,
    server: &mut ServerProcess,
    is_interrupted: &Arc<AtomicBool>,
) -> Result<Box<Measured>, String> {
    let mut progress = Progress::new(steps.len(), steps.iter().map(Step::duration).sum());
    let (sender, events) = channel();
    let cpu = placement.map(|placement| placement.client);
    client::start(steps.to_vec(), cpu, server.pid(), is_interrupted, sender)
        .map_err(|error| format!("can't start the load: {error}"))?;
    let mut until = Instant::now() + PATIENCE;
    loop {
        match events.recv_timeout(TICK) {
            Ok(Event::Begin(number)) => {
                let step = &steps[number];
                progress.begin(step);
                until = Instant::now() + step.duration() + PATIENCE;
            }
            Ok(Event::End(result)) => return result,
            Err(RecvTimeoutError::Timeout) => progress.tick(),
            Err(RecvTimeoutError::Disconnected) => return Err("the load's thread panicked".into()),
        }
        if is_interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        if let Some(status) = server.has_ended().map_err(|error| error.to_string())? {
            return Err(format!("the server ended while it was measured: {status}"));
        }
        if Instant::now() > until {
            return Err(format!("no result for {PATIENCE:?}: giving up"));
        }
    }
}

/// A fresh directory that only this user may enter; it is removed when it is dropped.
fn socket_directory() -> Result<TempDir, String> {
    let made = tempfile::Builder::new().prefix("ringcall-").tempdir();
    let made = made.map_err(|error| {
        format!(
            "can't make a directory for the unix socket: {error}; TMPDIR may name another place"
        )
    })?;
    let path = made.path().join(SOCKET_NAME);
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(format!(
            "{} is too long for a unix socket: set TMPDIR to a directory with a shorter name",
            path.display()
        ));
    }
    Ok(made)
}

const SOCKET_NAME: &str = "demo.sock";
/// What fits into an address of the system.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);
/// Time that a step may take longer than planned.
const PATIENCE: Duration = Duration::from_secs(10);
