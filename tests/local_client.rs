//! Calls made on a shard: from a program of its own, and from handlers that call on.

use std::time::Duration;

use ringcall::{
    Code, Context, Engine, LocalClient, LocalRuntime, Reply, Request, Server, Shard, Status,
};

#[ringcall::service(name = "back.v1")]
trait Back {
    /// Doubles a number.
    async fn double(number: u64) -> u64;
    /// Never answers.
    async fn never() -> u64;
}

struct Doubler;

impl BackHandler for Doubler {
    async fn double(&self, _cx: &Context, number: Request<u64>) -> Result<Reply<u64>, Status> {
        Ok((number.to_native() * 2).into())
    }

    async fn never(&self, _cx: &Context) -> Result<Reply<u64>, Status> {
        std::future::pending().await
    }
}

#[ringcall::service(name = "front.v1")]
trait Front {
    /// Doubles a number twice, elsewhere.
    async fn quadruple(number: u64) -> u64;
}

struct Caller(BackClient<LocalClient>);

impl FrontHandler for Caller {
    async fn quadruple(&self, _cx: &Context, number: Request<u64>) -> Result<Reply<u64>, Status> {
        let twice = self.0.double(number.to_native()).await?;
        let four_times = self.0.double(twice.to_native()).await?;
        Ok(four_times.to_native().into())
    }
}

const ENGINES: [Engine; 2] = [Engine::Uring, Engine::Epoll];

fn back(engine: Engine) -> Server {
    back_at(engine, "tcp://127.0.0.1:0")
}

fn back_at(engine: Engine, address: &str) -> Server {
    Server::builder()
        .listen(address)
        .shards(1.try_into().unwrap())
        .engine(engine)
        .serve(|_| BackServer::new(Doubler))
        .expect("starts")
}

fn on_a_shard<T, F>(engine: Engine, main: impl FnOnce(Shard) -> F + 'static) -> T
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    LocalRuntime::builder()
        .engine(engine)
        .run(main)
        .expect("runs")
}

#[test]
fn a_program_calls_from_a_shard_of_its_own() {
    for engine in ENGINES {
        let server = back(engine);
        let address = server.addresses()[0].clone();
        let sum = on_a_shard(engine, move |shard| async move {
            let client = BackClient::new(shard.client(&address).unwrap());
            let mut sum = 0;
            for number in 0..1000_u64 {
                sum += client.double(number).await.unwrap().to_native();
            }
            sum
        });
        assert_eq!(sum, 999_000);
    }
}

#[test]
fn a_handler_calls_on() {
    for engine in ENGINES {
        let back = back(engine);
        let address = back.addresses()[0].clone();
        let front = Server::builder()
            .listen("tcp://127.0.0.1:0")
            .shards(1.try_into().unwrap())
            .engine(engine)
            .serve(move |shard| {
                FrontServer::new(Caller(BackClient::new(shard.client(&address).unwrap())))
            })
            .expect("starts");
        let client = FrontClient::connect_blocking(&front.addresses()[0]).unwrap();
        assert_eq!(client.quadruple(5).wait().unwrap().to_native(), 20);
    }
}

#[test]
fn a_deadline_ends_a_call_and_its_handler() {
    for engine in ENGINES {
        let server = back(engine);
        let address = server.addresses()[0].clone();
        let code = on_a_shard(engine, move |shard| async move {
            let client = BackClient::new(shard.client(&address).unwrap());
            let late = client
                .never()
                .deadline(Duration::from_millis(20))
                .await
                .unwrap_err();
            assert_eq!(
                client.double(4).await.unwrap().to_native(),
                8,
                "the connection lives"
            );
            late.code()
        });
        assert_eq!(code, Code::DeadlineExceeded);
        server.shut_down();
        server.wait().unwrap();
    }
}

#[test]
fn nobody_there_is_said_with_the_address_and_the_reason() {
    for engine in ENGINES {
        let refused = on_a_shard(engine, move |shard| async move {
            let client = BackClient::new(shard.client("tcp://127.0.0.1:1").unwrap());
            client.double(1).await.unwrap_err()
        });
        assert_eq!(refused.code(), Code::Unavailable);
        let text = refused.message();
        assert!(
            text.contains("127.0.0.1:1") && text.contains("Connection refused"),
            "{text}"
        );
    }
}

#[test]
fn each_address_of_a_host_is_tried() {
    // `localhost` has an address of either family where IPv6 is there, and the server has one.
    let hosts = ["127.0.0.1", "[::1]"];
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    for (engine, host) in ENGINES
        .into_iter()
        .flat_map(|engine| hosts.map(|host| (engine, host)))
        .filter(|(_, host)| has_ipv6 || *host != "[::1]")
    {
        let server = back_at(engine, &format!("tcp://{host}:0"));
        let address = server.addresses()[0].replace(host, "localhost");
        let answer = on_a_shard(engine, move |shard| async move {
            let client = BackClient::new(shard.client(&address).unwrap());
            client.double(4).await.map(|double| double.to_native())
        });
        let is_known = std::net::ToSocketAddrs::to_socket_addrs("localhost:1")
            .unwrap()
            .any(|known| known.is_ipv6() == host.starts_with('['));
        match answer {
            Ok(double) => assert_eq!(double, 8),
            Err(status) => assert!(!is_known, "{host} on {engine:?}: {status}"),
        }
    }
}

#[test]
fn when_no_address_accepts_each_reason_is_told() {
    // A port of both families at which nobody listens: it was free just now.
    let port = std::net::TcpListener::bind("[::]:0")
        .or_else(|_| std::net::TcpListener::bind("0.0.0.0:0"))
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let addresses = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", port))
        .unwrap()
        .count();
    for engine in ENGINES {
        let status = on_a_shard(engine, move |shard| async move {
            let target = format!("tcp://localhost:{port}");
            let client = BackClient::new(shard.client(&target).unwrap());
            client.double(4).await.expect_err("nobody is there")
        });
        assert_eq!(status.code(), Code::Unavailable);
        let reasons = status.message().matches("os error").count();
        assert_eq!(reasons, addresses, "{status}");
    }
}

#[test]
fn a_dropped_client_closes_its_connection() {
    for engine in ENGINES {
        let server = back(engine);
        let address = server.addresses()[0].clone();
        let open = on_a_shard(engine, move |shard| async move {
            let client = BackClient::new(shard.client(&address).unwrap());
            client.double(1).await.unwrap();
            let with = shard.metrics().connections;
            drop(client);
            while shard.metrics().connections > 0 {
                shard.sleep(Duration::from_millis(1)).await;
            }
            with
        });
        assert_eq!(open, 1);
    }
}
