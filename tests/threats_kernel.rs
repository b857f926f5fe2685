//! Systems that refuse what is asked of them, or spoil it. Each test that changes its process runs
//! in a child.

#[path = "support/child.rs"]
mod child;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/refuse.rs"]
mod refuse;
#[path = "support/rig.rs"]
mod rig;

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raw::{Frame, RawPeer};
use rig::{BIG, BLOCK, Rig, number};
use ringcall::{Engine, Idle, ServeError};

const ENGINES: [(&str, Engine); 2] = [("uring", Engine::Uring), ("epoll", Engine::Epoll)];

fn engine(name: &str) -> Engine {
    ENGINES
        .iter()
        .find(|(known, _)| *known == name)
        .expect("one of the two")
        .1
}

#[test]
fn running_out_of_descriptors_pauses_accepting_only() {
    let Some(task) = child::task() else {
        for (name, _) in ENGINES {
            child::passes("running_out_of_descriptors_pauses_accepting_only", name);
        }
        return;
    };
    child::set_limit(libc::RLIMIT_NOFILE, 150);
    let rig = Rig::with(engine(&task), |builder| builder.idle(Idle::Park));
    let mut peer = rig.peer();
    peer.send(&Frame::request(BLOCK, 1, b""));
    rig.until("the shard is held", |now| now.requests == 1);
    // They wait to be accepted, and there are descriptors for ten of them.
    let mut waiting: Vec<RawPeer> = (0..30).map(|_| rig.stranger()).collect();
    let mut others: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(others.len() > 30, "{} of them", others.len());
    others.truncate(others.len() - 10);
    rig.probe.unblock();
    peer.expect_response(1, &0_u64.to_le_bytes());
    rig.until("accepting fails", |now| now.accept_errors >= 3);
    let accepted = rig.server.metrics().accepted;
    assert_eq!(accepted, 11);
    // It is tried again now and then, which takes no CPU, and nobody else suffers.
    let (errors, cpu_time) = (rig.server.metrics().accept_errors, child::cpu_time());
    for call_id in 2..52 {
        peer.echo_works(call_id);
        std::thread::sleep(Duration::from_millis(10));
    }
    let errors = rig.server.metrics().accept_errors - errors;
    assert!(
        (1..100).contains(&errors),
        "{errors} in half a second or more"
    );
    let cpu_time = child::cpu_time() - cpu_time;
    assert!(
        cpu_time < Duration::from_millis(250),
        "{cpu_time:?} for 50 calls"
    );
    // When descriptors are there again, those that waited are served.
    drop(others);
    for mut late in waiting.drain(..).map(RawPeer::shaken).map(rig::resolved) {
        late.echo_works(1);
    }
    peer.echo_works(100);
}

#[test]
fn whatever_accepting_fails_with_the_loop_goes_on() {
    let Some(task) = child::task() else {
        for errno in [
            libc::ENFILE,
            libc::ECONNABORTED,
            libc::ENOMEM,
            libc::ENOBUFS,
        ] {
            let task = errno.to_string();
            child::passes("whatever_accepting_fails_with_the_loop_goes_on", &task);
        }
        return;
    };
    let rig = Rig::start(Engine::Epoll);
    let mut peer = rig.peer();
    refuse::refuse_accept(task.parse().expect("a number"));
    // It waits in the backlog, so that accepting is tried again and again.
    let _waiting = RawPeer::connect(rig.address());
    rig.until("accepting fails again", |now| now.accept_errors >= 3);
    peer.echo_works(1);
    rig.server.shut_down();
    rig.server.wait().expect("no shard has failed");
}

#[test]
fn a_lost_completion_ends_the_process() {
    let Some(task) = child::task() else {
        for idle in ["park", "spin"] {
            child::dies_by("a_lost_completion_ends_the_process", idle, libc::SIGABRT);
        }
        return;
    };
    let idle = if task == "park" {
        Idle::Park
    } else {
        Idle::Spin
    };
    let rig = Rig::with(Engine::Uring, |builder| builder.idle(idle));
    let mut peer = rig.peer();
    peer.echo_works(1);
    refuse::lose_completions();
    peer.send(&rig::echo(2, b"x"));
    panic!("{:?} although completions are lost", peer.try_read());
}

#[test]
fn too_little_locked_memory_is_explained_or_done_without() {
    let Some(task) = child::task() else {
        // Below what is needed at all, and below what this kernel may charge for one shard.
        for bytes in [64 << 10, 512 << 10] {
            let task = bytes.to_string();
            child::passes(
                "too_little_locked_memory_is_explained_or_done_without",
                &task,
            );
        }
        return;
    };
    let limit = task.parse().expect("a number");
    child::become_unprivileged();
    child::set_limit(libc::RLIMIT_MEMLOCK, limit);
    let log = Log::install();
    match Rig::try_with(Engine::Uring, |builder| builder) {
        Ok(rig) if limit > 64 << 10 => return serves(&rig, "uring"),
        Ok(_) => panic!("started with {limit} bytes of locked memory"),
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains("RLIMIT_MEMLOCK") && text.contains("ulimit -l"),
                "{text}"
            );
            assert!(
                text.matches("can't be used").count() <= 1,
                "said twice: {text}"
            );
        }
    }
    log.take();
    let rig = Rig::try_with(Engine::Auto, |builder| builder).expect("falls back");
    serves(&rig, "epoll");
    let said = log.take();
    let why = "io_uring can't be used, epoll is used instead";
    assert!(
        said.contains(why) && said.contains("RLIMIT_MEMLOCK"),
        "{said}"
    );
    assert_eq!(said.matches("can't be used").count(), 1, "{said}");
}

#[test]
fn too_little_memory_is_explained() {
    let Some(task) = child::task() else {
        for engine in ["uring", "epoll"] {
            child::passes("too_little_memory_is_explained", engine);
        }
        return;
    };
    child::set_limit(libc::RLIMIT_AS, 4 << 30);
    // 32 GiB.
    let started = Rig::try_with(engine(&task), |builder| {
        builder.recv_buffers(32_768, 1 << 20)
    });
    let text = started.expect_err("no memory").to_string();
    assert!(
        text.contains("32768 receive buffers of 1048576 bytes") && text.contains("ulimit -v"),
        "{text}"
    );
}

fn serves(rig: &Rig, engine: &str) {
    assert_eq!(rig.server.engine(), engine);
    rig.peer().echo_works(1);
}

#[test]
fn where_io_uring_is_forbidden_epoll_serves() {
    let Some(task) = child::task() else {
        for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES, libc::EOPNOTSUPP] {
            child::passes(
                "where_io_uring_is_forbidden_epoll_serves",
                &errno.to_string(),
            );
        }
        return;
    };
    let log = Log::install();
    refuse::refuse_io_uring(task.parse().expect("an errno"));
    let rig = Rig::start(Engine::Auto);
    serves(&rig, "epoll");
    // One line, which says why and what to do.
    let said = log.take();
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in [
        "epoll",
        "io_uring_setup failed",
        "likely cause",
        "remedy",
        "seccomp",
    ] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
    match Rig::try_with(Engine::Uring, |builder| builder) {
        Err(ServeError::Engine {
            failure, remedy, ..
        }) => {
            assert!(failure.contains("io_uring_setup failed"), "{failure}");
            assert!(remedy.contains("seccomp"), "{remedy}");
        }
        other => panic!("{other:?}"),
    }
    // The epoll engine, when it was asked for, says nothing.
    log.take();
    serves(&Rig::start(Engine::Epoll), "epoll");
    assert_eq!(log.take(), "");
}

#[test]
fn no_peer_brings_about_sigpipe() {
    let Some(task) = child::task() else {
        for (name, _) in ENGINES {
            child::passes("no_peer_brings_about_sigpipe", name);
        }
        return;
    };
    child::heed_sigpipe();
    let socket = format!("ringcall-threats-{}.sock", std::process::id());
    let socket = format!("unix:{}", std::env::temp_dir().join(socket).display());
    let rig = Rig::with(engine(&task), |builder| builder.listen(socket));
    let addresses = rig.server.addresses();
    for address in addresses {
        for round in 1..=20 {
            let mut peer = rig::resolved(RawPeer::open(address));
            for call_id in 1..=10 {
                peer.send(&number(BIG, call_id, 1 << 20));
            }
            if round % 2 == 0 {
                // Some of the answers are on their way when the peer goes.
                peer.socket.read_exact(&mut [0; 5000]).expect("answers");
            }
            drop(peer);
        }
    }
    rig.until_quiet();
    for address in addresses {
        rig::resolved(RawPeer::open(address)).echo_works(1);
    }
}

/// What this process logs, from warnings on.
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn install() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
            .with_writer(move || Writer(Arc::clone(&writer)))
            .init();
        Self(lines)
    }

    fn take(&self) -> String {
        let lines = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        String::from_utf8(lines).expect("text")
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
