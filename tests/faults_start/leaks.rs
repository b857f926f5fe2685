//! Starting and stopping leaves nothing behind.

use ringcall::{LocalRuntime, Server};

use crate::child;
use crate::rig::eventually;
use crate::service::{Keeper, builder, descriptors, engine, serve, shard_of_a_call, threads};

/// In a process of its own, where nobody else opens anything.
fn nothing_stays(test: &str, starts: usize, start_and_stop: impl Fn(&str)) {
    let Some(task) = child::task() else {
        for engine in ["uring", "epoll"] {
            child::passes(&format!("leaks::{test}"), engine);
        }
        return;
    };
    // What is made once and kept is made.
    start_and_stop(&task);
    let (fds, tasks) = settled();
    for _ in 0..starts {
        start_and_stop(&task);
    }
    eventually("descriptors and threads are as before", || {
        (descriptors(), threads()) == (fds, tasks)
    });
}

/// Descriptors and threads when those that are ending have ended.
fn settled() -> (usize, usize) {
    // The test's own thread and that of the harness.
    eventually("threads end", || threads() == 2);
    (descriptors(), threads())
}

#[test]
fn servers_leave_nothing_behind() {
    nothing_stays("servers_leave_nothing_behind", 50, |engine_name| {
        let builder = builder(engine(engine_name), 2)
            .listen("tcp://127.0.0.1:0")
            .listen("unix:@ringcall-leaks");
        let server = serve(builder, &Keeper::new()).unwrap();
        assert_eq!(server.engine(), engine_name);
        for address in server.addresses() {
            shard_of_a_call(address);
        }
    });
}

#[test]
fn servers_that_fail_to_start_leave_nothing_behind() {
    nothing_stays(
        "servers_that_fail_to_start_leave_nothing_behind",
        15,
        |engine_name| {
            let failed = builder(engine(engine_name), 2)
                .listen("tcp://127.0.0.1:0")
                .serve(|shard| ringcall_services(shard.id()))
                .unwrap_err();
            assert!(failed.to_string().contains("no method"), "{failed}");
        },
    );
}

/// None for the second shard, which can't start then.
fn ringcall_services(shard: usize) -> Vec<Box<dyn ringcall::Service>> {
    if shard == 0 {
        vec![Box::new(crate::service::PlaceServer::new(Keeper::new()))]
    } else {
        Vec::new()
    }
}

#[test]
fn local_runtimes_leave_nothing_behind() {
    nothing_stays("local_runtimes_leave_nothing_behind", 20, |engine_name| {
        let number = LocalRuntime::builder()
            .engine(engine(engine_name))
            .run(|_| async { 7 });
        assert_eq!(number.unwrap(), 7);
    });
}

#[test]
fn servers_side_by_side_leave_nothing_behind() {
    nothing_stays(
        "servers_side_by_side_leave_nothing_behind",
        15,
        |engine_name| {
            let start = || -> Server {
                let builder = builder(engine(engine_name), 1).listen("tcp://127.0.0.1:0");
                serve(builder, &Keeper::new()).unwrap()
            };
            let (stays, goes) = (start(), start());
            drop(goes);
            shard_of_a_call(&stays.addresses()[0]);
        },
    );
}

#[test]
fn tasks_of_the_executor_leave_nothing_behind() {
    nothing_stays(
        "tasks_of_the_executor_leave_nothing_behind",
        15,
        |engine_name| {
            let is_glommio = engine_name == "uring";
            let builder = builder(engine(engine_name), 1).listen("tcp://127.0.0.1:0");
            let keeper = Keeper::new();
            let server = builder.serve(move |_| {
                for wait in 0..20 * u32::from(is_glommio) {
                    glommio::spawn_local(async move {
                        glommio::timer::sleep(std::time::Duration::from_millis(wait.into())).await;
                    })
                    .detach();
                }
                crate::service::PlaceServer::new(keeper.clone())
            });
            let server = server.unwrap();
            shard_of_a_call(&server.addresses()[0]);
        },
    );
}
