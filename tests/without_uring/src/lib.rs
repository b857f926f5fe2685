//! Tests of ringcall as it is built without its Cargo feature `uring`. They have a package of their own,
//! since those of ringcall itself need the io_uring engine.
//!
//! `cargo test -p ringcall-without-uring`, without other packages, whose features would be theirs too.
#![cfg(test)]

use ringcall::{
    Context, Engine, IoUring, LocalRuntime, Reply, Request, ServeError, Server, ServerBuilder,
    Shard, Status,
};

#[ringcall::service(name = "doubler.v1")]
trait Doubler {
    async fn double(number: u64) -> u64;
}

struct Twice;

impl DoublerHandler for Twice {
    async fn double(&self, _cx: &Context, number: Request<u64>) -> Result<Reply<u64>, Status> {
        Ok((2 * number.to_native()).into())
    }
}

fn builder(engine: Engine) -> ServerBuilder {
    let builder = Server::builder().listen("tcp://127.0.0.1:0");
    let shards = 1.try_into().expect("not zero");
    builder.shards(shards).engine(engine)
}

fn twice(_: &Shard) -> DoublerServer<Twice> {
    DoublerServer::new(Twice)
}

#[test]
fn io_uring_is_refused_by_the_name_of_the_feature() {
    let of_server = builder(Engine::Uring).serve(twice).unwrap_err();
    let runtime = LocalRuntime::builder().engine(Engine::Uring);
    for refused in [of_server, runtime.run(async |_| ()).unwrap_err()] {
        assert!(matches!(refused, ServeError::Engine { .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains("feature `uring`"), "{text}");
    }
    let IoUring::Refused { failure, .. } = ringcall::environment().io_uring else {
        panic!("there is no io_uring in this build");
    };
    assert!(failure.contains("feature `uring`"), "{failure}");
}

#[test]
fn without_a_choice_epoll_is_taken() {
    let server = builder(Engine::Auto).serve(twice).unwrap();
    assert_eq!(server.engine(), "epoll");
    let address = server.addresses()[0].clone();
    let doubler = DoublerClient::connect_blocking(&address).unwrap();
    assert_eq!(*doubler.double(21).wait().unwrap(), 42);
    let asked = LocalRuntime::builder().run(async move |shard: Shard| {
        let doubler = DoublerClient::new(shard.client(&address)?);
        doubler.double(4).await.map(|doubled| doubled.to_native())
    });
    assert_eq!(asked.unwrap(), Ok(8));
}
