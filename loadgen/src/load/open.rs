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
    in_flight: Cell<usize>,
    payload: Vec<u8>,
    tally: RefCell<Tally>,
}

/// A call that is due.
struct Due {
    intended: Instant,
    is_measured: bool,
}

/// Makes a call at each time of `schedule`. At the most calls in flight the next one waits, and its
/// clock runs already: none is left out.
pub(super) async fn run(
    driver: &Driver,
    load: &Load,
    clients: &[Client],
    schedule: impl Iterator<Item = Duration>,
) -> io::Result<Outcome> {
    let Driver {
        shard,
        pace,
        server,
    } = driver;
    let run = Rc::new(Run {
        in_flight: Cell::new(0),
        payload: vec![0; load.payload_bytes],
        tally: RefCell::new(Tally::new()),
    });
    let in_flight_max = load.conns * load.depth;
    let start = Instant::now();
    let (measure_from, end) = (start + load.warm_up, start + load.warm_up + load.measure);
    let mut begin = None;
    let intended = schedule.map(|offset| start + offset);
    let intended = intended.take_while(|intended| *intended < end);
    for (intended, client) in intended.zip(clients.iter().cycle()) {
        let is_measured = intended >= measure_from;
        if is_measured && begin.is_none() {
            pace.until(shard, measure_from).await;
            begin = Some(Begin::now(*server)?);
        }
        pace.until(shard, intended).await;
        while run.in_flight.get() == in_flight_max && Instant::now() < end {
            pace.a_moment(shard).await;
        }
        let due = Due {
            intended,
            is_measured,
        };
        if Instant::now() < end {
            run.in_flight.set(run.in_flight.get() + 1);
            shard.spawn(call(Rc::clone(client), Rc::clone(&run), due));
        } else {
            run.give_up(&due, end);
        }
    }
    pace.until(shard, end).await;
    let begin = match begin {
        Some(begin) => begin,
        None => Begin::now(*server)?,
    };
    let window = begin.end(*server)?;
    // Every call has a deadline, so every call ends.
    while run.in_flight.get() > 0 {
        pace.a_moment(shard).await;
    }
    let tally = run.tally.replace(Tally::new());
    Ok(tally.into_outcome(window))
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
    /// A call could not even be sent before the end: it has waited until then at least.
    fn give_up(&self, due: &Due, end: Instant) {
        if due.is_measured {
            let mut tally = self.tally.borrow_mut();
            tally.fail(&Status::unavailable(
                "not sent in time: as many calls as permitted were in flight",
            ));
            tally.record(end - due.intended);
        }
    }
}
