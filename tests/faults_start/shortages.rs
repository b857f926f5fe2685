//! Starts that lack something end with an error that says what, whatever it is and whenever it is
//! missed, and spoil nothing for later ones. Each walk over a limit is a process of its own.
#![allow(unsafe_code, reason = "limits are set by raw calls")]

use std::fs::File;

use ringcall::{Engine, LocalRuntime, ServeError};

use crate::child;
use crate::rig::eventually;
use crate::service::{Keeper, builder, descriptors, engine, serve, shard_of_a_call, threads};

/// Engine, and shards; 0 stands for a local runtime.
const COMBINATIONS: [(&str, usize); 8] = [
    ("uring", 1),
    ("uring", 2),
    ("epoll", 1),
    ("epoll", 2),
    ("auto", 1),
    ("auto", 2),
    ("uring", 0),
    ("epoll", 0),
];

/// Starts what the combination says, and sees whether it works when `relief` has come.
fn start(of: Engine, shards: usize, relief: impl FnOnce()) -> Result<(), ServeError> {
    if shards == 0 {
        let sum = LocalRuntime::builder()
            .engine(of)
            .run(|shard| async move { shard.count() + 1 })?;
        assert_eq!(sum, 2);
        relief();
        return Ok(());
    }
    let builder = builder(of, shards)
        .listen("tcp://127.0.0.1:0")
        .listen(format!("unix:@shortage-{}", std::process::id()));
    let server = serve(builder, &Keeper::new())?;
    relief();
    assert!(server.is_running());
    for address in server.addresses() {
        for _ in 0..2 * shards {
            shard_of_a_call(address);
        }
    }
    server.shut_down();
    server.wait()
}

fn assert_explained(error: &ServeError, words: &[&str]) {
    let text = error.to_string();
    assert!(words.iter().any(|word| text.contains(word)), "{text}");
    assert!(text.contains("ulimit -"), "no remedy: {text}");
}

fn parse(task: &str) -> (Engine, usize, usize) {
    let words: Vec<&str> = task.split(' ').collect();
    let number = |at: usize| {
        words
            .get(at)
            .map_or(0, |word| word.parse().expect("a number"))
    };
    (engine(words[0]), number(1), number(2))
}

#[test]
fn descriptors_may_be_short_at_any_step() {
    const TEST: &str = "shortages::descriptors_may_be_short_at_any_step";
    let Some(task) = child::task() else {
        std::thread::scope(|scope| {
            for (engine, shards) in COMBINATIONS {
                scope.spawn(move || {
                    let mut starts = 0;
                    for free in 0.. {
                        assert!(free < 100, "it never starts");
                        let task = format!("{engine} {shards} {free}");
                        let (status, said) = child::run(TEST, &task);
                        assert!(status.success(), "{task}: {status}\n{said}");
                        starts += usize::from(said.contains("it starts"));
                        if starts == 2 {
                            break;
                        }
                    }
                });
            }
        });
        return;
    };
    let (engine, shards, free) = parse(&task);
    child::set_limit(libc::RLIMIT_NOFILE, 120);
    let before = (threads(), descriptors());
    let mut held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    held.truncate(held.len() - free);
    let mut held = Some(held);
    match start(engine, shards, || drop(held.take())) {
        Ok(()) => println!("it starts"),
        Err(error) => assert_explained(&error, &["RLIMIT_NOFILE"]),
    }
    drop(held);
    eventually("nothing of it stays", || {
        (threads(), descriptors()) == before
    });
    // Now there are plenty, and the failure has spoilt nothing.
    start(engine, shards, || ()).unwrap();
    if shards > 0 && engine != Engine::Epoll {
        let address = "tcp://127.0.0.1:0";
        let server = serve(builder(engine, 1).listen(address), &Keeper::new()).unwrap();
        assert_eq!(server.engine(), "uring");
    }
}

#[test]
fn threads_may_be_short_at_any_step() {
    const TEST: &str = "shortages::threads_may_be_short_at_any_step";
    let Some(task) = child::task() else {
        for (engine, shards) in COMBINATIONS {
            child::passes(TEST, &format!("{engine} {shards}"));
        }
        return;
    };
    let (engine, shards, _) = parse(&task);
    child::become_unprivileged();
    let hard = soft_limit(libc::RLIMIT_NPROC, None);
    let before = threads();
    let mut starts = 0;
    // Threads of the same user that belong to others may be many, come and go.
    for limit in 1..200 {
        soft_limit(libc::RLIMIT_NPROC, Some(limit));
        let mut was_relieved = false;
        let relief = || {
            soft_limit(libc::RLIMIT_NPROC, Some(hard));
            was_relieved = true;
        };
        match start(engine, shards, relief) {
            Ok(()) => starts += 1,
            Err(error) => assert_explained(&error, &["RLIMIT_NPROC"]),
        }
        eventually("no thread of it stays", || threads() == before);
        if starts == 2 {
            break;
        }
    }
    soft_limit(libc::RLIMIT_NPROC, Some(hard));
    start(engine, shards, || ()).unwrap();
}

#[test]
fn address_space_may_be_short_at_any_step() {
    const TEST: &str = "shortages::address_space_may_be_short_at_any_step";
    let Some(task) = child::task() else {
        for (engine, shards) in COMBINATIONS {
            child::passes(TEST, &format!("{engine} {shards}"));
        }
        return;
    };
    let (engine, shards, _) = parse(&task);
    let before = threads();
    let hard = soft_limit(libc::RLIMIT_AS, None);
    let mut starts = 0;
    for room in (0..).step_by(2 << 20) {
        assert!(room < 1 << 30, "it never starts");
        soft_limit(libc::RLIMIT_AS, Some(address_space() + room));
        let relief = || {
            soft_limit(libc::RLIMIT_AS, Some(hard));
        };
        match start(engine, shards, relief) {
            Ok(()) => starts += 1,
            Err(error) => assert_explained(&error, &["RLIMIT_AS", "no memory for"]),
        }
        soft_limit(libc::RLIMIT_AS, Some(hard));
        eventually("no thread of it stays", || threads() == before);
        if starts == 5 {
            break;
        }
    }
    start(engine, shards, || ()).unwrap();
}

/// Bytes of address space that this process has.
fn address_space() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = text
        .split(' ')
        .next()
        .and_then(|it| it.parse().ok())
        .expect("a number");
    pages * 4096
}

/// Sets the soft value of a limit, if one is given; returns the hard one.
fn soft_limit(resource: libc::__rlimit_resource_t, soft: Option<u64>) -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit outlives the calls.
    let done = unsafe {
        let mut done = libc::getrlimit(resource, &raw mut limit);
        if let Some(soft) = soft {
            limit.rlim_cur = soft;
            done |= libc::setrlimit(resource, &raw const limit);
        }
        done
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    limit.rlim_max
}
