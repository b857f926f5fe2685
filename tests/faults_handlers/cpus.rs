//! Threads and programs that handlers start may use every CPU that the process may; the shard stays
//! where it is.

use std::os::unix::process::CommandExt;
use std::process::Command;

use ringcall::{Context, Engine, LocalRuntime, Reply, Status};

use crate::rig::on_both_engines;
use crate::serve;

on_both_engines!(
    what_handlers_start_is_not_pinned,
    what_a_factory_starts_is_not_pinned,
    an_unpinned_server_leaves_cpus_alone,
    a_local_runtime_pins_while_it_runs,
    a_server_in_a_handler_finds_all_cpus,
);

#[ringcall::service(name = "cpus.v1")]
trait Cpus {
    /// The CPUs of the shard before and after, and of everything that it has started between.
    async fn look() -> Vec<String>;
    /// The CPUs of the shards of a server that is started here.
    async fn serve_another() -> Vec<u64>;
}

/// The CPUs that the calling thread may use.
fn here() -> String {
    cpus_in(&std::fs::read_to_string("/proc/thread-self/status").expect("it is there"))
}

fn cpus_in(status: &str) -> String {
    let cpus = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cpus.expect("every kernel tells").trim().to_owned()
}

fn of_program(command: &mut Command) -> String {
    let output = command.arg("/proc/self/status").output();
    cpus_in(&String::from_utf8_lossy(&output.expect("it runs").stdout))
}

/// The CPUs of everything that std starts.
fn of_what_is_started() -> Vec<String> {
    let user = rustix::process::geteuid().as_raw();
    vec![
        std::thread::spawn(here).join().expect("no panic"),
        std::thread::scope(|scope| scope.spawn(here).join().expect("no panic")),
        std::thread::spawn(|| std::thread::spawn(here).join().expect("no panic"))
            .join()
            .expect("no panic"),
        // By `posix_spawnp`, and by `fork`, which a change of the user needs.
        of_program(&mut Command::new("cat")),
        of_program(Command::new("cat").uid(user)),
        std::thread::spawn(|| of_program(&mut Command::new("cat")))
            .join()
            .expect("no panic"),
    ]
}

struct Handlers {
    made_with: Vec<String>,
}

impl CpusHandler for Handlers {
    async fn look(&self, _cx: &Context) -> Result<Reply<Vec<String>>, Status> {
        let mut seen = vec![here()];
        seen.extend(of_what_is_started());
        seen.extend(self.made_with.clone());
        let blocking = tokio::task::spawn_blocking(here);
        let nested = tokio::task::spawn_blocking(|| std::thread::spawn(here).join());
        let task = tokio::spawn(async { here() });
        let broken = |_| Status::internal("a task has panicked");
        seen.push(blocking.await.map_err(broken)?);
        seen.push(
            nested
                .await
                .map_err(broken)?
                .map_err(|_| Status::internal(""))?,
        );
        seen.push(task.await.map_err(broken)?);
        seen.push(here());
        Ok(seen.into())
    }

    async fn serve_another(&self, _cx: &Context) -> Result<Reply<Vec<u64>>, Status> {
        let server = serve(Engine::Epoll, all_shards, |_| {
            CpusServer::new(Handlers { made_with: vec![] })
        });
        let cpus = server.cpus().into_iter().flatten();
        Ok(cpus.map(|cpu| cpu as u64).collect::<Vec<_>>().into())
    }
}

fn all_shards(builder: ringcall::ServerBuilder) -> ringcall::ServerBuilder {
    let cpus = ringcall::environment().cpus.len().max(1);
    builder.shards(cpus.try_into().expect("not zero"))
}

/// What the server's handlers have seen: first and last of the shard, the rest of what it has started.
fn look(engine: Engine, is_pinned: bool) -> Vec<String> {
    let server = serve(
        engine,
        |builder| builder.pinned(is_pinned),
        |_| {
            let made_with = vec![];
            CpusServer::new(Handlers { made_with })
        },
    );
    let client = CpusClient::connect_blocking(&server.addresses()[0]).expect("connects");
    client.look().wait().expect("answers").to_owned()
}

fn what_handlers_start_is_not_pinned(engine: Engine) {
    let all = here();
    let seen = look(engine, true);
    let (first, last) = (&seen[0], &seen[seen.len() - 1]);
    assert!(first.parse::<usize>().is_ok(), "a shard runs on {first}");
    assert_eq!(first, last);
    for (what, cpus) in seen[1..seen.len() - 1].iter().enumerate() {
        assert_eq!(*cpus, all, "number {what} of {seen:?}");
    }
}

fn what_a_factory_starts_is_not_pinned(engine: Engine) {
    let all = here();
    let server = serve(
        engine,
        |builder| builder,
        |_| {
            let made_with = of_what_is_started();
            CpusServer::new(Handlers { made_with })
        },
    );
    let client = CpusClient::connect_blocking(&server.addresses()[0]).expect("connects");
    let seen = client.look().wait().expect("answers").to_owned();
    let others = seen[1..seen.len() - 1].iter();
    assert!(others.clone().count() > 12);
    assert!(others.into_iter().all(|cpus| *cpus == all), "{seen:?}");
}

fn an_unpinned_server_leaves_cpus_alone(engine: Engine) {
    let all = here();
    assert!(look(engine, false).iter().all(|cpus| *cpus == all));
}

fn a_local_runtime_pins_while_it_runs(engine: Engine) {
    let all = here();
    let cpu = ringcall::environment().cpus[0];
    let runtime = LocalRuntime::builder().engine(engine).cpu(cpu);
    let seen = runtime.run(|_| async {
        let mut seen = vec![here()];
        seen.extend(of_what_is_started());
        seen.extend(tokio::task::spawn_blocking(here).await);
        seen
    });
    let seen = seen.expect("runs");
    assert_eq!(seen[0], cpu.to_string());
    assert!(seen[1..].iter().all(|cpus| *cpus == all), "{seen:?}");
    assert_eq!(here(), all);
}

fn a_server_in_a_handler_finds_all_cpus(engine: Engine) {
    let server = serve(
        engine,
        |builder| builder,
        |_| {
            let made_with = vec![];
            CpusServer::new(Handlers { made_with })
        },
    );
    let client = CpusClient::connect_blocking(&server.addresses()[0]).expect("connects");
    let cpus = client.serve_another().wait().expect("answers").to_owned();
    let all = ringcall::environment().cpus;
    assert_eq!(cpus, all.iter().map(|&cpu| cpu as u64).collect::<Vec<_>>());
}
