//! Open loop: calls come at times that were fixed before.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringcall::Status;

use super::tally::{Begin, Tally};
use super::{CALL_TIMEOUT, Client, Driver, Load, Outcome};

/// What the calls of a run share.
struct Run {
    is_pacing: Cell<bool>,
    in_flight: Cell<usize>,
    payload: Vec<u8>,
    tally: RefCell<Tally>,
}

/// A call that is due.
struct Due {
    intended: Instant,
    is_measured: bool,
}

/// Makes a call at each time of `schedule`, and measures until the last of them has ended.
pub(super) async fn run(
    driver: &Driver,
    load: &Load,
    clients: &[Client],
    schedule: impl Iterator<Item = Duration> + 'static,
) -> io::Result<Outcome> {
    let Driver {
        shard,
        pace,
        server,
    } = driver;
    let run = Rc::new(Run {
        is_pacing: Cell::new(true),
        in_flight: Cell::new(0),
        payload: vec![0; load.payload_bytes],
        tally: RefCell::new(Tally::new()),
    });
    shard.spawn(make_calls(
        driver.clone(),
        load.clone(),
        clients.to_vec(),
        schedule,
        Rc::clone(&run),
    ));
    shard.sleep(load.warm_up).await;
    let begin = Begin::now(*server)?;
    shard.sleep(load.measure).await;
    // Every call has a deadline, so every call ends.
    while run.is_pacing.get() || run.in_flight.get() > 0 {
        pace.a_moment(shard).await;
    }
    let window = begin.end(*server)?;
    let tally = run.tally.replace(Tally::new());
    Ok(tally.into_outcome(window))
}

/// Makes the calls. When as many are in flight as permitted the next one waits, and its clock runs
/// already: none is left out. Those that still wait some time after the end are given up.
async fn make_calls(
    driver: Driver,
    load: Load,
    clients: Vec<Client>,
    schedule: impl Iterator<Item = Duration>,
    run: Rc<Run>,
) {
    let Driver { shard, pace, .. } = driver;
    let in_flight_max = load.conns * load.depth;
    let start = Instant::now();
    let measure_from = start + load.warm_up;
    let end = measure_from + load.measure;
    let give_up = end + CALL_TIMEOUT;
    let intended = schedule.map(|offset| start + offset);
    let intended = intended.take_while(|intended| *intended < end);
    for (intended, client) in intended.zip(clients.iter().cycle()) {
        pace.until(&shard, intended).await;
        while run.in_flight.get() == in_flight_max && Instant::now() < give_up {
            pace.a_moment(&shard).await;
        }
        let due = Due {
            intended,
            is_measured: intended >= measure_from,
        };
        if run.in_flight.get() < in_flight_max {
            run.in_flight.set(run.in_flight.get() + 1);
            shard.spawn(call(Rc::clone(client), Rc::clone(&run), due));
        } else {
            run.give_up(&due);
        }
    }
    run.is_pacing.set(false);
}

async fn call(client: Client, run: Rc<Run>, due: Due) {
    let answer = client.echo(&run.payload[..]).deadline(CALL_TIMEOUT).await;
    run.in_flight.set(run.in_flight.get() - 1);
    if !due.is_measured {
        return;
    }
    let response_time = due.intended.elapsed();
    let mut tally = run.tally.borrow_mut();
    match answer {
        Ok(_) => tally.succeed(response_time),
        Err(status) => {
            tally.fail(&status);
            tally.record(response_time);
        }
    }
}

impl Run {
    /// A call could not even be sent: it has waited until now, and who knows how much longer.
    fn give_up(&self, due: &Due) {
        if due.is_measured {
            let mut tally = self.tally.borrow_mut();
            tally.fail(&Status::unavailable(
                "not sent: as many calls as permitted waited for an answer",
            ));
            tally.record(due.intended.elapsed());
        }
    }
}
