//! What handlers do to their shard and their server: panics of every kind, tokio, threads and programs,
//! and ending the server from within. It costs their own call at most, alike on both engines.

mod cpus;
mod own_thread;
mod panics;
mod panics_at_ends;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/rig.rs"]
mod rig;
mod tokio_alike;

use std::num::NonZeroUsize;
use std::sync::Once;

use ringcall::{Engine, IntoServices, Server, ServerBuilder, Shard};

/// A server of one shard.
fn serve<S: IntoServices>(
    engine: Engine,
    configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
    factory: impl Fn(&Shard) -> S + Send + Sync + 'static,
) -> Server {
    quieten_shards();
    let builder = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(NonZeroUsize::MIN)
        .engine(engine);
    configure(builder).serve(factory).expect("starts")
}

/// Threads of servers panic on purpose here; what they say would hide the panic of a test.
fn quieten_shards() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            if !name.starts_with("ringcall") && !name.starts_with("quiet") {
                default(panic);
            }
        }));
    });
}
