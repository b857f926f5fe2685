//! Closed loop: each caller calls again when it has its answer.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Instant;

use super::tally::{Begin, Tally, Window};
use super::{CALL_TIMEOUT, Client, Driver, ERROR_PAUSE, Load, Outcome};

/// What the callers of a run share.
struct Run {
    phase: Cell<Phase>,
    callers: Cell<usize>,
    payload: Vec<u8>,
    tally: RefCell<Tally>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measure,
    Over,
}

pub(super) async fn run(driver: &Driver, load: &Load, clients: &[Client]) -> io::Result<Outcome> {
    let run = Rc::new(Run {
        phase: Cell::new(Phase::WarmUp),
        callers: Cell::new(load.conns * load.depth),
        payload: vec![0; load.payload_bytes],
        tally: RefCell::new(Tally::new()),
    });
    for client in clients {
        for _ in 0..load.depth {
            let caller = call_repeatedly(driver.clone(), Rc::clone(client), Rc::clone(&run));
            driver.shard.spawn(caller);
        }
    }
    let window = measure(driver, load, &run.phase).await;
    run.phase.set(Phase::Over);
    // Every call has a deadline, so every caller ends.
    while run.callers.get() > 0 {
        driver.pace.a_moment(&driver.shard).await;
    }
    let tally = run.tally.replace(Tally::new());
    window.map(|window| tally.into_outcome(window))
}

async fn measure(driver: &Driver, load: &Load, phase: &Cell<Phase>) -> io::Result<Window> {
    driver.shard.sleep(load.warm_up).await;
    let begin = Begin::now(driver.server)?;
    phase.set(Phase::Measure);
    driver.shard.sleep(load.measure).await;
    begin.end(driver.server)
}

async fn call_repeatedly(driver: Driver, client: Client, run: Rc<Run>) {
    while run.phase.get() != Phase::Over {
        let start = Instant::now();
        let answer = client.echo(&run.payload[..]).deadline(CALL_TIMEOUT).await;
        let is_measured = run.phase.get() == Phase::Measure;
        match answer {
            Ok(_) if is_measured => run.tally.borrow_mut().succeed(start.elapsed()),
            Ok(_) => (),
            Err(status) => {
                if is_measured {
                    run.tally.borrow_mut().fail(&status);
                }
                driver.shard.sleep(ERROR_PAUSE).await;
            }
        }
    }
    run.callers.set(run.callers.get() - 1);
}
