//! `loadgen serve`: addresses, samples, signals, and the fallback to epoll.

#[path = "../../tests/support/refuse.rs"]
mod refuse;
mod support;

use std::process::Command;
use std::time::Duration;

use loadgen::samples::arithmetic::{ArithmeticClient, Operands};
use loadgen::samples::delay::DelayClient;
use loadgen::samples::factorial::FactorialClient;
use loadgen::samples::greeter::GreeterClient;
use loadgen::samples::kv::{KvClient, Put};
use loadgen::samples::stats::StatsClient;
use loadgen::samples::sum::SumClient;
use ringcall::{Code, LocalClient, LocalRuntime, Shard, Status};
use rustix::process::Signal;
use support::{Serving, complaint, run};

/// Runs a test's client on a shard of this thread.
fn on_a_shard<T: 'static, Fut: Future<Output = Result<T, Status>> + 'static>(
    address: &str,
    main: impl FnOnce(Shard, LocalClient) -> Fut + 'static,
) -> T {
    let address = address.to_owned();
    let result = LocalRuntime::builder().run(|shard| async move {
        let client = shard.client(&address)?;
        main(shard, client).await
    });
    result.expect("a shard").expect("the calls succeed")
}

#[test]
fn a_call_in_flight_is_finished_at_a_signal() {
    for engine in ["auto", "epoll"] {
        for signal in [Signal::TERM, Signal::INT] {
            let listen = ["--listen", "tcp://127.0.0.1:0", "--engine", engine];
            let mut server = Serving::start(&listen);
            let address = server.address();
            let end_it = server.signal(signal);
            on_a_shard(&address, |shard, client| async move {
                let beside = shard.clone();
                shard.spawn(async move {
                    beside.sleep(Duration::from_millis(100)).await;
                    end_it();
                });
                let answer = DelayClient::new(client).sleep(400_000).await;
                answer.map(drop)
            });
            let (status, rest) = server.wait();
            assert_eq!(status.code(), Some(0));
            let ceiling = rest.strip_prefix("memory ceiling ");
            let ceiling = ceiling.and_then(|rest| rest.strip_suffix(" MiB\n"));
            let mib: u64 = ceiling.and_then(|mib| mib.parse().ok()).expect(&rest);
            assert!(mib > 256, "what a shard may hold, and more: {mib}");
        }
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Serving::start(&["--listen", "tcp://127.0.0.1:0"]);
    let address = server.address();
    let signals = [server.signal(Signal::TERM), server.signal(Signal::TERM)];
    let answer = LocalRuntime::builder().run(|shard| async move {
        let beside = shard.clone();
        shard.spawn(async move {
            for signal in signals {
                beside.sleep(Duration::from_millis(100)).await;
                signal();
            }
        });
        let delay = DelayClient::new(shard.client(&address)?);
        delay.sleep(20_000_000).await.map(drop)
    });
    assert_eq!(answer.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.wait().0.code(), None, "ended by the signal");
}

#[test]
fn it_listens_on_several_addresses_and_answers_on_each() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("unix:{}", directory.path().join("s.sock").display());
    let mut server = Serving::start(&["--shards", "1", "--listen", "tcp://127.0.0.1:0", &path]);
    let tcp = server.address();
    assert!(
        tcp.starts_with("tcp://127.0.0.1:") && !tcp.ends_with(":0"),
        "{tcp}"
    );
    assert_eq!(server.address(), path);
    for address in [tcp, path] {
        on_a_shard(&address, |_, client| call_every_sample(client));
    }
    server.signal(Signal::TERM)();
    assert!(server.wait().0.success());
    assert_eq!(
        directory.path().read_dir().unwrap().count(),
        0,
        "no socket is left"
    );
}

async fn call_every_sample(client: LocalClient) -> Result<(), Status> {
    let greeting = GreeterClient::new(client.clone()).hello("you").await?;
    assert_eq!(greeting.as_str(), "Hello, you!");

    let arithmetic = ArithmeticClient::new(client.clone());
    let operands = Operands { a: i64::MAX, b: 1 };
    assert_eq!(
        arithmetic.subtract(operands).await?.to_owned(),
        i64::MAX - 1
    );
    let overflow = arithmetic.add(operands).await.map(drop);
    assert_eq!(overflow.unwrap_err().code(), Code::OutOfRange);

    let factorial = FactorialClient::new(client.clone());
    assert_eq!(factorial.factorial(10).await?.to_owned(), 3_628_800);
    let negative = factorial.factorial(-1).await.map(drop);
    assert_eq!(negative.unwrap_err().code(), Code::InvalidArgument);

    let sum = SumClient::new(client.clone());
    assert_eq!(sum.sum(vec![0.5; 100_000]).await?.to_owned(), 50_000.0);
    assert_eq!(sum.sum(vec![]).await?.to_owned().to_bits(), 0);

    let kv = KvClient::new(client.clone());
    let put = Put {
        key: "key".into(),
        value: b"value".to_vec(),
    };
    kv.put(put).await?;
    assert_eq!(
        kv.get("key").await?.to_owned().as_deref(),
        Some(&b"value"[..])
    );
    assert!(kv.delete("key").await?.to_owned());
    assert!(!kv.delete("key").await?.to_owned());
    assert_eq!(kv.get("key").await?.to_owned(), None);

    let stats = StatsClient::new(client).read().await?;
    assert!(stats.requests >= 11 && stats.shards == 1, "{stats:?}");
    Ok(())
}

/// Set in a process in which io_uring is refused.
const REFUSED: &str = "LOADGEN_TEST_REFUSED";

#[test]
fn where_io_uring_is_refused_it_serves_by_epoll_or_says_why_not() {
    // A filter can't be taken off again, so it goes onto a process of its own.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "without_io_uring"])
        .env(REFUSED, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let success = child.status.success() && said.contains("1 passed");
    assert!(success, "{said}{}", complaint(&child));
}

/// Does nothing unless the test above runs it.
#[test]
fn without_io_uring() {
    if std::env::var_os(REFUSED).is_none() {
        return;
    }
    refuse::refuse_io_uring(libc::EPERM);

    let mut server = Serving::start(&["--listen", "tcp://127.0.0.1:0", "--engine", "auto"]);
    let address = server.address();
    let engine = on_a_shard(&address, |_, client| async move {
        Ok(StatsClient::new(client).read().await?.to_owned().engine)
    });
    assert_eq!(engine, "epoll");
    server.signal(Signal::TERM)();
    assert!(server.wait().0.success());

    let output = run(&[
        "serve",
        "--listen",
        "tcp://127.0.0.1:0",
        "--engine",
        "uring",
    ]);
    let why = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(why.contains("seccomp") && why.contains("remedy"), "{why}");

    let output = run(&["env"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("refused: io_uring_setup failed"), "{text}");
    assert!(text.contains("remedy") && text.contains("epoll"), "{text}");

    let output = run(&["demo", "--duration", "1.2s", "--format", "json"]);
    assert!(output.status.success(), "{}", complaint(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["engine"], "epoll");
}
