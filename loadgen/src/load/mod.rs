//! Makes calls at times that were fixed before, and measures them.
//!
//! [`generator`] runs threads, one on each CPU, and adds up what they record; [`dealer`] draws the calls
//! and deals them to the threads. A thread asks [`flight`] which call is due and tells it what became of each; that is the whole of the rules
//! of measurement, and it has neither clock nor socket. Around it, `worker` reads the clock and hands
//! over a record at the end of each interval, `sender` makes the
//! calls over connections, and `on_ringcall` and `on_tonic` speak.
//!
//! Two kinds of load, told apart wherever results appear. **Closed loop**: each caller waits for an
//! answer before it calls again, so a slow server is asked less. **Open loop**: calls come at times
//! that were fixed before, as independent users make them. The *response time* counts from the time
//! that was intended, so waiting for a slow server, or for this generator, is part of it; the
//! *service time* counts from the actual sending. What lies between has two parts: the *room wait*, while
//! as many calls as permitted were in flight, and the *own lag*, which is this generator's.

pub mod arrival;
mod collector;
pub mod cpu_time;
pub mod dealer;
pub mod flight;
pub mod generator;
pub(crate) mod merger;
mod on_ringcall;
mod on_tonic;
pub mod plan;
pub mod record;
mod request_data;
pub mod room;
pub mod schedule;
mod sender;
mod server_use;
pub mod slices;
mod wait_mode;
pub mod work;
mod worker;

pub use self::server_use::ServerSample;
