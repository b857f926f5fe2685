//! A unix socket feeds all shards.

use ringcall::{Engine, Idle};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::child;
use crate::rig::{eventually, on_both_engines};
use crate::service::{Keeper, PlaceClient, builder, engine, serve, shard_of_a_call, socket_path};

on_both_engines!(
    connections_are_shared_fairly,
    connections_that_come_and_go_are_shared_fairly,
    while_a_shard_is_held_the_others_accept,
    all_but_one_shard_may_be_held,
    a_burst_is_let_in,
    draining_closes_the_listener_at_once,
);

const CONNECTIONS: usize = 200;

/// Numbers of shards, addresses, and ways to wait that are tried.
fn variants(test: &str, of: Engine) -> Vec<(usize, String, Idle)> {
    let test = format!("{test}-{of:?}");
    let path = format!("unix:{}", socket_path(&test).display());
    let name = format!("unix:@{test}-{}", std::process::id());
    vec![
        (2, path.clone(), Idle::default()),
        (2, name.clone(), Idle::Park),
        (4, path, Idle::Park),
        (4, name.clone(), Idle::default()),
        (1, name, Idle::default()),
    ]
}

/// Sees that each shard gets at least half of an equal part. `connect` makes one connection and returns
/// the number of its shard. A machine with much else to do may hold a shard for as long as many others
/// are made, of which it gets none; it makes up for that afterwards.
fn assert_fair(shards: usize, mut connect: impl FnMut() -> u64) {
    let mut by_shard = vec![0; shards];
    let is_fair = |by_shard: &[usize]| {
        let part = CONNECTIONS / by_shard.len();
        by_shard.iter().all(|count| *count >= part / 2)
    };
    for made in 0..5 * CONNECTIONS {
        if made >= CONNECTIONS && is_fair(&by_shard) {
            break;
        }
        by_shard[connect() as usize] += 1;
    }
    assert!(is_fair(&by_shard), "{by_shard:?}");
}

fn connections_are_shared_fairly(engine: Engine) {
    for (shards, address, idle) in variants("fair", engine) {
        let builder = builder(engine, shards).idle(idle).listen(&address);
        let server = serve(builder, &Keeper::new()).unwrap();
        let mut open = Vec::new();
        assert_fair(shards, || {
            let client = PlaceClient::connect_blocking(&address).unwrap();
            let shard = client.shard().wait().unwrap().to_native();
            open.push(client);
            shard
        });
        assert_eq!(server.metrics().accept_errors, 0);
    }
}

fn connections_that_come_and_go_are_shared_fairly(engine: Engine) {
    for (shards, address, idle) in variants("come-and-go", engine) {
        let builder = builder(engine, shards).idle(idle).listen(&address);
        let _server = serve(builder, &Keeper::new()).unwrap();
        assert_fair(shards, || shard_of_a_call(&address));
    }
}

fn a_burst_is_let_in(engine: Engine) {
    for (shards, address, idle) in variants("burst", engine) {
        let keeper = Keeper::new();
        let builder = builder(engine, shards).idle(idle).listen(&address);
        let server = serve(builder, &keeper).unwrap();
        let holding: Vec<_> = (0..shards).map(|_| hold(&address, &keeper).1).collect();
        // All of them wait before the first is accepted.
        let burst: Vec<_> = (0..CONNECTIONS).map(|_| stranger(&address)).collect();
        holding.iter().for_each(|_| keeper.let_go());
        holding.into_iter().for_each(|it| it.join().unwrap());
        let expected = (shards + CONNECTIONS) as u64;
        eventually("all are let in", || server.metrics().accepted == expected);
        shard_of_a_call(&address);
        assert_eq!(server.metrics().accept_errors, 0);
        drop(burst);
    }
}

/// A connection that says nothing.
fn stranger(address: &str) -> Socket {
    let name = address.replace("unix:@", "\0").replace("unix:", "");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.connect(&SockAddr::unix(name).unwrap()).unwrap();
    socket
}

/// Holds one shard; returns its number.
fn hold(address: &str, keeper: &Keeper) -> (u64, std::thread::JoinHandle<()>) {
    let client = PlaceClient::connect_blocking(address).unwrap();
    let held = client.shard().wait().unwrap().to_native();
    let holding = std::thread::spawn(move || {
        client.hold().wait().unwrap();
    });
    keeper.until_one_runs();
    (held, holding)
}

fn while_a_shard_is_held_the_others_accept(engine: Engine) {
    for (shards, address, idle) in variants("held", engine) {
        if shards == 1 {
            continue;
        }
        let keeper = Keeper::new();
        let _server = serve(builder(engine, shards).idle(idle).listen(&address), &keeper).unwrap();
        for _ in 0..3 {
            let (held, holding) = hold(&address, &keeper);
            // Answered before it is let go, so none of them waits for it; also those that stay.
            let mut open = Vec::new();
            for _ in 0..40 {
                let client = PlaceClient::connect_blocking(&address).unwrap();
                assert_ne!(client.shard().wait().unwrap().to_native(), held);
                open.push(client);
            }
            keeper.let_go();
            holding.join().unwrap();
            drop(open);
            // It takes its part again.
            eventually("it accepts", || shard_of_a_call(&address) == held);
        }
    }
}

fn all_but_one_shard_may_be_held(engine: Engine) {
    let address = format!("unix:@all-but-one-{engine:?}-{}", std::process::id());
    let keeper = Keeper::new();
    let _server = serve(builder(engine, 4).listen(&address), &keeper).unwrap();
    let mut held = Vec::new();
    let mut holding = Vec::new();
    for _ in 0..3 {
        let (shard, thread) = hold(&address, &keeper);
        assert!(!held.contains(&shard));
        held.push(shard);
        holding.push(thread);
    }
    for _ in 0..40 {
        assert!(!held.contains(&shard_of_a_call(&address)));
    }
    // Whichever is let go first.
    holding.iter().for_each(|_| keeper.let_go());
    holding.into_iter().for_each(|it| it.join().unwrap());
}

fn draining_closes_the_listener_at_once(engine: Engine) {
    for (shards, address, idle) in variants("drain", engine) {
        let keeper = Keeper::new();
        let server = serve(builder(engine, shards).idle(idle).listen(&address), &keeper).unwrap();
        let client = PlaceClient::connect_blocking(&address).unwrap();
        let waiting = std::thread::spawn(move || client.wait().wait().map(|it| it.to_native()));
        keeper.until_one_runs();
        server.shut_down();
        eventually("nobody is let in", || {
            PlaceClient::connect_blocking(&address).is_err()
        });
        keeper.let_go();
        waiting.join().unwrap().expect("answered while it drains");
        server.wait().unwrap();
    }
}

#[test]
fn running_out_of_descriptors_pauses_accepting_only() {
    let Some(task) = child::task() else {
        for engine in ["uring", "epoll"] {
            child::passes(
                "sharing::running_out_of_descriptors_pauses_accepting_only",
                engine,
            );
        }
        return;
    };
    child::set_limit(libc::RLIMIT_NOFILE, 150);
    let address = format!("unix:@short-{task}-{}", std::process::id());
    let server = serve(builder(engine(&task), 2).listen(&address), &Keeper::new()).unwrap();
    let client = PlaceClient::connect_blocking(&address).unwrap();
    let waiting: Vec<_> = (0..20)
        .map(|_| Socket::new(Domain::UNIX, Type::STREAM, None).unwrap())
        .collect();
    let others: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    let name = address.replace("unix:@", "\0");
    for socket in &waiting {
        socket.connect(&SockAddr::unix(&name).unwrap()).unwrap();
    }
    eventually("accepting fails", || server.metrics().accept_errors >= 3);
    client.shard().wait().unwrap();
    drop(others);
    eventually("all are let in", || server.metrics().accepted == 21);
    shard_of_a_call(&address);
}
