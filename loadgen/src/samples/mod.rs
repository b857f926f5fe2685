//! The sample services that `loadgen serve` offers, each in a file of its own.

pub mod arithmetic;
pub mod delay;
pub mod echo;
pub mod factorial;
pub mod greeter;
pub mod kv;
pub mod spin;
pub mod stats;
pub mod sum;

use std::sync::Arc;

use ringcall::{Service, Shard};

use self::stats::{EngineInUse, Reader, StatsServer};

/// Makes all sample services of one shard.
pub fn services(shard: &Shard, engine: &Arc<EngineInUse>) -> Vec<Box<dyn Service>> {
    vec![
        Box::new(greeter::GreeterServer::new(greeter::Polite)),
        Box::new(arithmetic::ArithmeticServer::new(arithmetic::Checked)),
        Box::new(factorial::FactorialServer::new(factorial::Exact)),
        Box::new(sum::SumServer::new(sum::InOrder)),
        Box::new(kv::KvServer::new(kv::Store::default())),
        Box::new(echo::EchoServer::new(echo::Mirror)),
        Box::new(delay::DelayServer::new(delay::Sleeper)),
        Box::new(spin::SpinServer::new(spin::Spinner)),
        Box::new(StatsServer::new(Reader::new(shard, engine))),
    ]
}
