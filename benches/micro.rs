//! `cargo bench --bench micro`: the pieces that a call passes through, one by one, in time.
//!
//! They say where time goes, not how fast a server is: nothing here waits for memory or the
//! kernel. `instructions` counts the whole call, and does not depend on the machine.

use std::hint::black_box;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use clap::Parser;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use harness::memory::{MemoryCalls, MemoryDispatch};
use harness::options::{self, Common, Effort, Format};
use harness::wire;
use harness::work::{Work, Workload};

use ringcall::__private::wire::framer::Framer;
use ringcall::__private::wire::header::{Header, Kind};
use ringcall::__private::wire::limits::HEADER_BYTES;
use ringcall::__private::{AlignedBuf, Part, RecvPool, SendQueue, TimerWheel, access, encode};

/// Times the pieces of the hot path.
#[derive(Parser)]
#[command(name = NAME)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Only pieces whose names contain this
    filter: Option<String>,
}

/// A message with a little of everything.
#[ringcall::message]
struct Quote {
    instrument: String,
    bid: i64,
    ask: i64,
    venues: Vec<String>,
}

const NAME: &str = "micro";
/// Frames in one receive buffer, as a client that pipelines fills it.
const FRAMES: usize = 16;

fn main() -> ExitCode {
    let options: Options = options::begin(NAME);
    options::end(NAME, measure(options))
}

fn measure(options: Options) -> io::Result<()> {
    if options.common.format == Format::Json || options.common.out.is_some() {
        return Err(io::Error::other(
            "criterion prints what it measures, as text: leave out --format and --out, and find its \
             figures as JSON in target/criterion",
        ));
    }
    let (samples, measured_ms) = match options.common.effort() {
        Effort::Quick => (10, 100),
        Effort::Usual => (50, 1000),
        Effort::Full => (100, 5000),
    };
    let mut criterion = Criterion::default()
        .sample_size(samples)
        .warm_up_time(Duration::from_millis(measured_ms / 3))
        .measurement_time(Duration::from_millis(measured_ms))
        .without_plots();
    if let Some(filter) = options.filter {
        criterion = criterion.with_filter(filter);
    }
    frames(&mut criterion);
    messages(&mut criterion);
    dispatch(&mut criterion);
    calls(&mut criterion);
    memory(&mut criterion);
    timers(&mut criterion);
    criterion.final_summary();
    options.common.say_how_to_get_more(NAME);
    Ok(())
}

/// Cutting received bytes into frames.
fn frames(criterion: &mut Criterion) {
    let frame = wire::frame(Header::new(Kind::Request, 7, 64), &[7; 64]);
    let chunk = aligned(&frame.repeat(FRAMES));
    let chunk = chunk.as_slice();
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Elements(1));
    let header: [u8; HEADER_BYTES] = *frame.first_chunk().expect("a whole header");
    group.bench_function("header/decode", |bencher| {
        bencher.iter(|| Header::decode(black_box(&header), LIMIT));
    });
    let header = Header::new(Kind::Response, 7, 64);
    group.bench_function("header/encode", |bencher| {
        bencher.iter(|| black_box(&header).encode());
    });
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("parse/in place", |bencher| {
        let framer = Framer::new(LIMIT);
        bencher.iter(|| {
            let mut at = 0;
            while let Some((header, payload, end)) = framer.peek_request(black_box(chunk), at) {
                black_box((header, payload));
                at = end;
            }
            assert_eq!(at, chunk.len());
        });
    });
    group.bench_function("parse/cut in two", |bencher| {
        // Every frame is cut in its payload, so each is gathered in a buffer of its own.
        let mut framer = Framer::new(LIMIT);
        let (first, second) = frame.split_at(HEADER_BYTES + 20);
        bencher.iter(|| {
            for _ in 0..FRAMES {
                assert!(matches!(
                    framer.next_frame(black_box(first), &mut 0),
                    Ok(None)
                ));
                let whole = framer.next_frame(black_box(second), &mut 0);
                black_box(whole.expect("a valid frame").expect("all of it"));
            }
        });
    });
}

/// Reading archives in place, and writing them.
fn messages(criterion: &mut Criterion) {
    let quote = Quote {
        instrument: "XAU/USD in London".into(),
        bid: 1,
        ask: 2,
        venues: ["first venue", "second venue", "third venue"]
            .map(String::from)
            .to_vec(),
    };
    let bytes = vec![7_u8; 64];
    let mut group = criterion.benchmark_group("message");
    group.bench_function("access/bytes", |bencher| {
        let payload = aligned(&archive(|out| encode::<Vec<u8>>(&bytes, out)));
        bencher.iter(|| access::<Vec<u8>>(black_box(payload.as_slice())).is_some());
    });
    group.bench_function("access/strings", |bencher| {
        let payload = aligned(&archive(|out| encode::<Quote>(&quote, out)));
        bencher.iter(|| access::<Quote>(black_box(payload.as_slice())).is_some());
    });
    let mut out = Vec::with_capacity(1024);
    group.bench_function("encode/bytes", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode::<Vec<u8>>(black_box(&&bytes[..]), &mut out)
        });
    });
    group.bench_function("encode/strings", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode::<Quote>(black_box(&quote), &mut out)
        });
    });
}

/// Whole calls: parse, validate, dispatch, handle, encode, queue.
fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("call");
    let mut call = |workload, payload_bytes, calls_per_turn: usize| {
        let work = Work {
            workload,
            payload_bytes,
        };
        group.throughput(Throughput::Elements(calls_per_turn as u64));
        group.bench_function(
            format!("{workload} of {payload_bytes} bytes/{calls_per_turn} in a turn"),
            |bencher| {
                let mut calls = MemoryCalls::new(work, calls_per_turn);
                bencher.iter(|| calls.turn());
            },
        );
    };
    call(Workload::Echo, 64, 1);
    call(Workload::Echo, 64, FRAMES);
    call(Workload::Order, 64, FRAMES);
    call(Workload::Get, 64, FRAMES);
    call(Workload::Echo, 4096, FRAMES);
}

/// A call between its frame and the send queue: find the method, validate, poll the handler, encode.
fn dispatch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dispatch");
    for workload in [Workload::Echo, Workload::Order] {
        let payload_bytes = 64;
        let work = Work {
            workload,
            payload_bytes,
        };
        group.bench_function(format!("{workload} of {payload_bytes} bytes"), |bencher| {
            let mut call = MemoryDispatch::new(work);
            bencher.iter(|| call.run());
        });
    }
}

/// Buffers that come and go.
fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory");
    let response = wire::request(0, &[7; 64]);
    group.bench_function("send queue/16 frames", |bencher| {
        let mut queue = SendQueue::default();
        let mut spare = Vec::with_capacity(FRAMES * response.len());
        bencher.iter(|| {
            for _ in 0..FRAMES {
                queue.filling().extend_from_slice(black_box(&response));
            }
            let part = queue.take(|| std::mem::take(&mut spare));
            let Some(Part::Frames(mut frames)) = part else {
                panic!("frames were queued");
            };
            queue.sent(frames.len(), true);
            frames.clear();
            spare = frames;
        });
    });
    group.bench_function("receive buffer/take, share, give back", |bencher| {
        let pool: Rc<RecvPool> = RecvPool::new(16, 4096);
        bencher.iter(|| {
            let buffer = pool.take().expect("all come back");
            let chunk = pool.filled(buffer, 96);
            black_box(chunk.slice(32..96).as_slice().len())
        });
    });
}

/// Time limits: many are set, few are reached.
fn timers(criterion: &mut Criterion) {
    let mut group: BenchmarkGroup<'_, WallTime> = criterion.benchmark_group("timer");
    group.bench_function("add and cancel", |bencher| {
        let mut wheel = wheel_of(10_000);
        bencher.iter(|| {
            let timer = wheel.add(black_box(5_000_000_000), Waker::noop().clone());
            wheel.cancel(timer);
        });
    });
    group.bench_function("turn without any due", |bencher| {
        let mut wheel = wheel_of(10_000);
        let mut now_ns = 0;
        bencher.iter(|| {
            // Turns come closer to each other than ticks, and far from the first timer.
            now_ns = (now_ns + 10_000) % 1_000_000_000;
            wheel.expire(black_box(now_ns))
        });
    });
    group.throughput(Throughput::Elements(1000));
    group.bench_function("fire 1000", |bencher| {
        bencher.iter_batched_ref(
            || wheel_of(1000),
            |wheel| assert_eq!(wheel.expire(60_000_000_000), 1000),
            BatchSize::LargeInput,
        );
    });
}

/// A wheel with timers from 20 to 30 seconds, as keepalive sets them.
fn wheel_of(count: u64) -> TimerWheel {
    let mut wheel = TimerWheel::new();
    for number in 0..count {
        let deadline_ns = 20_000_000_000 + number * 10_000_000_000 / count;
        wheel.add(deadline_ns, Waker::noop().clone());
    }
    wheel
}

fn archive(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Vec<u8> {
    let mut payload = Vec::new();
    encode(&mut payload).expect("far below 2 GiB");
    payload
}

/// A payload where received ones lie.
fn aligned(payload: &[u8]) -> AlignedBuf {
    let mut buffer = AlignedBuf::with_len(payload.len());
    buffer.as_mut_slice().copy_from_slice(payload);
    buffer
}

/// Largest payload that a header may announce.
const LIMIT: u32 = 1 << 20;
