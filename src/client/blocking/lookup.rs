//! Looking a name up, within a time.

use std::sync::mpsc;
use std::time::Instant;

use crate::client::CallTarget;
use crate::client::core::target::Target;
use crate::wire::status::Status;

/// All addresses of a host; `None` when they are not found by then. A name is looked up on a thread
/// of its own, for the system's resolver knows no time limit.
pub(super) fn resolve_by(
    target: &CallTarget,
    deadline: Instant,
) -> Option<Result<Vec<Target>, Status>> {
    if !target.is_name() {
        return Some(target.resolve_all());
    }
    let (found, answer) = mpsc::channel();
    let wanted = target.clone();
    let lookup = std::thread::Builder::new().name("ringcall-lookup".to_owned());
    let looking = lookup.spawn(move || {
        // Nobody waits for it any more when the time was up.
        found.send(wanted.resolve_all()).unwrap_or_default();
    });
    match looking {
        Ok(_) => answer
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .ok(),
        Err(error) => Some(Err(target.cannot_connect(&error))),
    }
}
