//! `loadgen serve`: the sample services until a signal comes.

use std::io::{self, IsTerminal, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use ringcall::{Server, Shard};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, signal_name};
use tracing_subscriber::EnvFilter;

use crate::cli::ServeArgs;
use crate::failure::Failure;
use crate::results::Protocol;
use crate::samples::services;
use crate::samples::stats::EngineInUse;
use crate::{print, tonic};

/// Serves until SIGTERM or SIGINT, then finishes the calls in flight.
///
/// # Errors
/// When the server can't start or ends by itself.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    start_logging();
    // Before anybody can know of this server, so that no signal meets the default of sudden death.
    let endings = watch_for_the_end(args.exit_with_stdin)?;
    if args.protocol == Protocol::Tonic {
        return run_tonic(args, &endings);
    }
    let engine = Arc::new(EngineInUse::new());
    let server = start(args, &engine)?;
    tracing::info!(
        engine = server.engine(),
        features = server.engine_features(),
        shards = server.cpus().len(),
        "serving"
    );
    let announcement: String = server
        .addresses()
        .iter()
        .map(|address| format!("listening {address}\n"))
        .collect();
    let ceiling_mib = server.memory_ceiling_bytes() >> 20;
    print(&format!("{announcement}memory ceiling {ceiling_mib} MiB\n"))?;
    wait_until_told(|| server.is_running(), &endings);
    server.shut_down();
    server.wait()?;
    tracing::info!("all calls have ended");
    Ok(())
}

/// Serves gRPC instead, in the same manner.
fn run_tonic(args: &ServeArgs, endings: &Receiver<Ending>) -> Result<(), Failure> {
    let [listen] = &args.listen[..] else {
        return Err(Failure::Usage(
            "--protocol tonic listens on one address".into(),
        ));
    };
    let address = listen
        .strip_prefix("tcp://")
        .and_then(|address| address.parse().ok());
    let address = address.ok_or_else(|| {
        Failure::Usage(format!(
            "--listen {listen}: --protocol tonic listens on tcp://IP:PORT only"
        ))
    })?;
    let allowed = ringcall::environment().cpus;
    let shards = args.shards.map_or(allowed.len(), NonZeroUsize::get);
    let pinned = allowed
        .iter()
        .copied()
        .cycle()
        .map(|cpu| args.pin.then_some(cpu));
    let cpus: Vec<Option<usize>> = pinned.take(shards).collect();
    let serving = tonic::serve(address, &cpus)
        .map_err(|error| Failure::Other(format!("can't listen on {listen}: {error}")))?;
    print(&format!("listening tcp://{}\n", serving.address()))?;
    wait_until_told(|| serving.is_running(), endings);
    Ok(serving.finish()?)
}

fn start(args: &ServeArgs, engine: &Arc<EngineInUse>) -> Result<Server, Failure> {
    let mut builder = Server::builder()
        .engine(args.engine())
        .idle(args.idle)
        .pinned(args.pin);
    if let Some(shards) = args.shards {
        builder = builder.shards(shards);
    }
    if let Some(bytes) = args.memory_per_shard {
        builder = builder.memory_per_shard(bytes);
    }
    if let Some(count) = args.connections_max {
        builder = builder.connections_max(count.get());
    }
    for address in &args.listen {
        builder = builder.listen(address);
    }
    let server = builder.serve({
        let engine = Arc::clone(engine);
        move |shard: &Shard| services(shard, &engine)
    })?;
    engine.get_or_init(|| {
        let features = server.engine_features().split(", ");
        let features = features.filter(|name| !name.is_empty()).map(str::to_owned);
        (server.engine().to_owned(), features.collect())
    });
    Ok(server)
}

/// Logs to standard error: what RUST_LOG says, else what a person who starts a server wants.
pub(crate) fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// What ends a server.
pub(crate) enum Ending {
    Signal(i32),
    StdinClosed,
}

/// Watches for signals, and for the end of standard input if that counts.
pub(crate) fn watch_for_the_end(exit_with_stdin: bool) -> io::Result<Receiver<Ending>> {
    let (sender, endings) = channel();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    if exit_with_stdin {
        let sender = sender.clone();
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || watch_stdin(&sender))?;
    }
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for (earlier, signal) in signals.forever().enumerate() {
                let is_heard = earlier == 0 && sender.send(Ending::Signal(signal)).is_ok();
                if !is_heard && let Err(error) = emulate_default_handler(signal) {
                    tracing::error!(%error, "can't end by a signal");
                }
            }
        })?;
    Ok(endings)
}

fn watch_stdin(sender: &Sender<Ending>) {
    let mut ignored = [0; 64];
    let mut stdin = io::stdin().lock();
    // Bytes are of no interest; an error ends the input as well.
    while stdin.read(&mut ignored).is_ok_and(|count| count > 0) {}
    if sender.send(Ending::StdinClosed).is_err() {
        tracing::debug!("the server has ended before its input");
    }
}

/// Returns when somebody wants the server to end, or when a shard of it has ended.
pub(crate) fn wait_until_told(is_running: impl Fn() -> bool, endings: &Receiver<Ending>) {
    while is_running() {
        match endings.recv_timeout(HEALTH_INTERVAL) {
            Ok(Ending::Signal(signal)) => {
                let signal = signal_name(signal).unwrap_or("a signal");
                tracing::info!(signal, "finishing the calls in flight");
                return;
            }
            Ok(Ending::StdinClosed) => {
                tracing::debug!("standard input has ended: finishing the calls in flight");
                return;
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// How often to look whether the shards still run.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
