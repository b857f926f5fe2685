//! What happens between a client and a server, over real sockets.

use ringcall::{Context, Engine, Reply, Request, Server, Status};

use super::ENGINES;
use super::raw::{GOAWAY, REQUEST, RawPeer};
use super::vectors::{hex, of_class};

#[ringcall::service(name = "greeter.v1")]
trait Greeter {
    async fn hello(name: String) -> String;
}

struct Greeting;

impl GreeterHandler for Greeting {
    async fn hello(&self, _cx: &Context, name: Request<String>) -> Result<Reply<String>, Status> {
        Ok(format!("Hello, {}!", name.as_str()).into())
    }
}

fn server(engine: Engine) -> Server {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().unwrap())
        .engine(engine)
        .serve(|_| GreeterServer::new(Greeting))
        .expect("starts")
}

#[test]
fn violations_end_a_connection_as_documented() {
    for engine in ENGINES {
        let server = server(engine);
        for vector in of_class("violation") {
            let mut peer = match vector.find("state") {
                Some("new") => RawPeer::connect(&server.addresses()[0]),
                Some(state) => panic!("unknown state {state}"),
                None => RawPeer::open(&server.addresses()[0]),
            };
            peer.send_bytes(&vector.bytes);
            let reason = peer.expect_goaway().reason();
            assert_eq!(
                reason.to_string(),
                vector.property("reason"),
                "{}",
                vector.name
            );
        }
    }
}

#[test]
fn the_worked_session_happens() {
    for engine in ENGINES {
        for session in of_class("session") {
            let server = server(engine);
            let mut peer = RawPeer::connect(&server.addresses()[0]);
            let [.., (_, last)] = &session.turns[..] else {
                panic!("{session:?}")
            };
            assert_eq!(last[4], GOAWAY, "a session ends with the server");
            assert!(session.turns.iter().any(|(_, turn)| turn[4] == REQUEST));
            for (who, turn) in &session.turns {
                if *who == 'C' {
                    peer.send_bytes(turn);
                    continue;
                }
                if turn[4] == GOAWAY {
                    server.shut_down();
                }
                assert_eq!(hex(&peer.read().encode()), hex(turn));
            }
            assert_eq!(peer.try_read().expect("in time"), None);
        }
    }
}
