//! A server that takes the place of another.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use ringcall::{Engine, ServeError, Server};

use crate::rig::{eventually, on_both_engines};
use crate::service::{Keeper, PlaceClient, builder, engine, serve, shard_of_a_call, socket_path};

on_both_engines!(
    a_killed_server_is_followed_at_once,
    a_draining_server_leaves_its_successor_alone,
    an_ended_server_leaves_its_successor_alone,
    a_server_that_fails_to_start_removes_its_own_file_alone,
    an_address_where_somebody_listens_is_refused,
);

/// Addresses that the child listens on, separated by spaces.
const PREDECESSOR: &str = "RINGCALL_TEST_PREDECESSOR";

/// Does nothing unless a test below runs it: a server, until it is killed.
#[test]
fn predecessor() {
    let Ok(task) = std::env::var(PREDECESSOR) else {
        return;
    };
    let mut words = task.split(' ');
    let engine = engine(words.next().expect("an engine"));
    let builder = words.fold(builder(engine, 2), |builder, address| {
        builder.listen(address)
    });
    let server = serve(builder, &Keeper::new()).unwrap();
    println!("listens on {}", server.addresses().join(" "));
    server.wait().unwrap();
}

/// Starts it; returns its addresses.
fn start_predecessor(engine: &str, addresses: &str) -> (Child, Vec<String>) {
    let mut child = Command::new(std::env::current_exe().expect("Linux says it"))
        .args(["--exact", "restart::predecessor", "--nocapture"])
        .env(PREDECESSOR, format!("{engine} {addresses}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs already");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines
        .map(|line| line.expect("text"))
        .find_map(|line| Some(line.split_once("listens on ")?.1.to_owned()));
    let line = line.expect("it starts");
    let addresses = line.split(' ').map(str::to_owned);
    (child, addresses.collect())
}

fn a_killed_server_is_followed_at_once(engine: Engine) {
    let path = socket_path(&format!("killed-{engine:?}"));
    let asked = format!(
        "tcp://127.7.5.1:0 unix:{} unix:@killed-{engine:?}-{}",
        path.display(),
        std::process::id()
    );
    for predecessor in ["uring", "epoll"] {
        for _ in 0..2 {
            let (mut child, addresses) = start_predecessor(predecessor, &asked);
            let clients: Vec<_> = addresses
                .iter()
                .cycle()
                .take(12)
                .map(|address| PlaceClient::connect_blocking(address).unwrap())
                .collect();
            child.kill().unwrap();
            child.wait().unwrap();
            let builder = addresses
                .iter()
                .fold(builder(engine, 2), |builder, address| {
                    builder.listen(address)
                });
            let server = serve(builder, &Keeper::new()).unwrap();
            addresses.iter().for_each(|address| {
                shard_of_a_call(address);
            });
            drop((server, clients));
        }
    }
    assert!(!path.exists());
}

/// A server at the path of a unix socket, with one call that waits.
fn with_a_call(engine: Engine, address: &str, keeper: &Keeper) -> Server {
    let server = serve(builder(engine, 2).listen(address), keeper).unwrap();
    let client = PlaceClient::connect_blocking(address).unwrap();
    std::thread::spawn(move || client.wait().wait().map(|it| it.to_native()));
    keeper.until_one_runs();
    server
}

fn a_draining_server_leaves_its_successor_alone(engine: Engine) {
    let path = socket_path(&format!("draining-{engine:?}"));
    let address = format!("unix:{}", path.display());
    for _ in 0..10 {
        let keeper = Keeper::new();
        let old = with_a_call(engine, &address, &keeper);
        old.shut_down();
        eventually("it refuses", || {
            std::os::unix::net::UnixStream::connect(&path).is_err()
        });
        let new = serve(builder(engine, 2).listen(&address), &Keeper::new()).unwrap();
        keeper.let_go();
        old.wait().unwrap();
        shard_of_a_call(&address);
        drop(new);
        assert!(!path.exists());
    }
}

fn an_ended_server_leaves_its_successor_alone(engine: Engine) {
    let path = socket_path(&format!("ended-{engine:?}"));
    let address = format!("unix:{}", path.display());
    for _ in 0..10 {
        let old = serve(builder(engine, 1).listen(&address), &Keeper::new()).unwrap();
        old.shut_down();
        eventually("it ends", || !old.is_running());
        let new = serve(builder(engine, 1).listen(&address), &Keeper::new()).unwrap();
        drop(old);
        shard_of_a_call(&address);
        drop(new);
        assert!(!path.exists());
    }
}

fn a_server_that_fails_to_start_removes_its_own_file_alone(engine: Engine) {
    let path = socket_path(&format!("failed-{engine:?}"));
    let address = format!("unix:{}", path.display());
    // It has its address, and fails later.
    let fail = || {
        let builder = builder(engine, 2).listen(&address);
        builder.serve(|_| Vec::<Box<dyn ringcall::Service>>::new())
    };
    fail().unwrap_err();
    assert!(!path.exists());
    let server = serve(builder(engine, 1).listen(&address), &Keeper::new()).unwrap();
    // It does not get that far.
    fail().unwrap_err();
    shard_of_a_call(&address);
    drop(server);
    assert!(!path.exists());
}

fn an_address_where_somebody_listens_is_refused(engine: Engine) {
    let path = socket_path(&format!("taken-{engine:?}"));
    for address in [
        "tcp://127.0.0.1:0".to_owned(),
        format!("unix:{}", path.display()),
        format!("unix:@taken-{engine:?}-{}", std::process::id()),
    ] {
        let server = serve(builder(engine, 2).listen(address), &Keeper::new()).unwrap();
        let address = &server.addresses()[0];
        match serve(builder(engine, 2).listen(address), &Keeper::new()) {
            Err(ServeError::Listen { advice, error, .. }) => {
                assert!(advice.contains("another program"), "{advice}");
                assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
            }
            other => panic!("{other:?}"),
        }
        shard_of_a_call(address);
    }
}
