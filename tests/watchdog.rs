//! A handler that holds the CPU of its shard is counted, and the log says where it does.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringcall::{Context, Engine, Reply, Server, Status};

#[ringcall::service(name = "hog.v1")]
trait Hog {
    /// Answers when it is told to, without giving way.
    async fn hold() -> u64;
    /// Answers at once.
    async fn quick() -> u64;
}

struct Impl(Arc<AtomicBool>);

#[inline(never)]
fn holds_the_cpu(release: &AtomicBool) -> u64 {
    let mut rounds = 0;
    while !release.load(Ordering::Relaxed) {
        std::hint::spin_loop();
        rounds += 1;
    }
    rounds
}

impl HogHandler for Impl {
    async fn hold(&self, _cx: &Context) -> Result<Reply<u64>, Status> {
        Ok(holds_the_cpu(&self.0).into())
    }

    async fn quick(&self, _cx: &Context) -> Result<Reply<u64>, Status> {
        Ok(1.into())
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Waits until the log contains a text; `false` when it does not come.
    fn comes_to_contain(&self, text: &str) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if self.text().contains(text) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

#[test]
fn a_stall_is_counted_and_its_stack_logged() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    for engine in [Engine::Uring, Engine::Epoll] {
        let release = Arc::new(AtomicBool::new(false));
        let given = Arc::clone(&release);
        let server = Server::builder()
            .listen("tcp://127.0.0.1:0")
            .shards(1.try_into().unwrap())
            .engine(engine)
            .stall_threshold(Duration::from_millis(100))
            .serve(move |_| HogServer::new(Impl(Arc::clone(&given))))
            .expect("starts");
        let address = server.addresses()[0].clone();
        let client = HogClient::connect_blocking(&address).unwrap();
        assert_eq!(client.quick().wait().unwrap().to_native(), 1);
        // A machine that stalls the whole process may have been counted already.
        let before = server.metrics().stalls;
        log.0.lock().unwrap().clear();
        let holder = std::thread::spawn(move || client.hold().wait().map(|_| ()));
        let is_logged =
            log.comes_to_contain("holds the CPU") && log.comes_to_contain("holds_the_cpu");
        let stalls = server.metrics().stalls;
        // First of all, so that a failure does not hold the server for ever.
        release.store(true, Ordering::Relaxed);
        assert!(is_logged, "{engine:?}: {}", log.text());
        assert!(stalls > before, "{engine:?}");
        holder
            .join()
            .unwrap()
            .expect("the call is answered all the same");

        let client = HogClient::connect_blocking(&address).unwrap();
        assert_eq!(client.quick().wait().unwrap().to_native(), 1);
        server.shut_down();
        server.wait().unwrap();
    }
}
