//! Messages that nest in every way, a service that takes and gives them, and its three clients.

use ringcall::{Context, Engine, LocalRuntime, Reply, Request, Server, ServiceDescriptor, Status};

use super::raw::{Frame, RawPeer};

/// As documented: the most bytes of details that travel.
pub const DETAILS_BYTES_MAX: usize = 32 * 1024;

#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub enum Nested {
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
    Boxed(Box<Nested>),
    Optional(Option<Box<Self>>),
    List(Vec<Nested>),
    Paired(Box<(u8, Option<Nested>)>),
    Named {
        before: Vec<String>,
        inner: Box<Nested>,
    },
}

#[ringcall::message]
#[derive(Debug)]
pub struct Holder {
    pub before: u8,
    pub nested: Nested,
}

#[ringcall::message]
#[derive(Debug)]
pub enum Either {
    Text(String),
    Nested { nested: Nested },
}

/// How a level lies around the next.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Boxed,
    Optional,
    List,
    Paired,
    Named,
}

pub const WAYS: [Way; 5] = [
    Way::Boxed,
    Way::Optional,
    Way::List,
    Way::Paired,
    Way::Named,
];

/// What lies in the middle, with the levels that it has itself.
#[derive(Clone, Copy, Debug)]
pub enum Innermost {
    Number,
    ShortText,
    LongText,
    Bytes,
    NoBytes,
    EmptyList,
    Nothing,
}

pub const INNERMOST: [Innermost; 7] = [
    Innermost::Number,
    Innermost::ShortText,
    Innermost::LongText,
    Innermost::Bytes,
    Innermost::NoBytes,
    Innermost::EmptyList,
    Innermost::Nothing,
];

/// A value of so many levels.
pub fn nested(way: Way, innermost: Innermost, levels: usize) -> Nested {
    let (middle, own_levels) = match innermost {
        Innermost::Number => (Nested::Number(1), 0),
        Innermost::ShortText => (Nested::Text("8 bytes.".into()), 0),
        Innermost::LongText => (Nested::Text("9 bytes..".into()), 1),
        Innermost::Bytes => (Nested::Bytes(vec![1]), 1),
        Innermost::NoBytes => (Nested::Bytes(vec![]), 1),
        Innermost::EmptyList => (Nested::List(vec![]), 1),
        Innermost::Nothing => (Nested::Optional(None), 0),
    };
    (own_levels..levels).fold(middle, |inner, level| match way {
        Way::Boxed => Nested::Boxed(Box::new(inner)),
        Way::Optional => Nested::Optional(Some(Box::new(inner))),
        Way::List => Nested::List(vec![Nested::Number(2), inner, Nested::Number(3)]),
        Way::Paired => Nested::Paired(Box::new((1, Some(inner)))),
        // A list and a string that lie as deep as what is innermost, or less.
        Way::Named => Nested::Named {
            before: vec![
                if level == 0 {
                    "short"
                } else {
                    "longer than eight bytes"
                }
                .into(),
            ],
            inner: Box::new(inner),
        },
    })
}

/// A list of boxes, which ends without recursion.
#[ringcall::message]
#[derive(Debug)]
pub struct Deep {
    pub next: Option<Box<Deep>>,
}

impl Drop for Deep {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut deep) = next {
            next = deep.next.take();
        }
    }
}

pub fn deep() -> Deep {
    (0..200_000).fold(Deep { next: None }, |next, _| Deep {
        next: Some(Box::new(next)),
    })
}

/// A level of 512 bytes.
#[ringcall::message]
#[derive(Debug, PartialEq)]
pub struct Wide {
    pub numbers: [u64; 64],
    pub next: Option<Box<Wide>>,
}

pub fn wide(levels: usize) -> Wide {
    let numbers = [7; 64];
    let last = Wide {
        numbers,
        next: None,
    };
    (0..levels).fold(last, |next, _| Wide {
        numbers,
        next: Some(Box::new(next)),
    })
}

#[ringcall::service(name = "words.v1")]
pub trait Words {
    async fn take(nested: Nested) -> u64;
    async fn give(way_and_levels: (u8, u64)) -> Nested;
    async fn give_borrowed(levels: u64) -> Nested;
    async fn take_deep(deep: Deep) -> u64;
    async fn give_deep() -> Deep;
    async fn fail(details: u64);
    async fn fail_at_length(message: u64);
    async fn double(number: u64) -> u64;
    async fn ping();
    async fn boxed(boxed: (u8, Box<u64>)) -> u64;
    async fn echo(text: String) -> String;
}

pub struct Handler;

impl WordsHandler for Handler {
    async fn take(&self, _: &Context, nested: Request<Nested>) -> Result<Reply<u64>, Status> {
        drop(nested.to_owned());
        Ok(1.into())
    }

    async fn give(&self, _: &Context, asked: Request<(u8, u64)>) -> Result<Reply<Nested>, Status> {
        let (way, levels) = asked.to_owned();
        let way = WAYS[usize::from(way)];
        Ok(nested(way, Innermost::Number, levels as usize).into())
    }

    async fn give_borrowed(
        &self,
        cx: &Context,
        levels: Request<u64>,
    ) -> Result<Reply<Nested>, Status> {
        cx.sleep(std::time::Duration::from_millis(1)).await;
        let nested = nested(Way::Boxed, Innermost::Number, levels.to_owned() as usize);
        Ok(Reply::of(&nested))
    }

    async fn take_deep(&self, _: &Context, _: Request<Deep>) -> Result<Reply<u64>, Status> {
        Ok(0.into())
    }

    async fn give_deep(&self, _: &Context) -> Result<Reply<Deep>, Status> {
        Ok(deep().into())
    }

    async fn fail(&self, _: &Context, bytes: Request<u64>) -> Result<Reply<()>, Status> {
        Err(Status::aborted("failed").with_details(vec![1; bytes.to_owned() as usize]))
    }

    async fn fail_at_length(&self, _: &Context, bytes: Request<u64>) -> Result<Reply<()>, Status> {
        Err(Status::aborted(
            "\u{fc}".repeat(bytes.to_owned() as usize / 2),
        ))
    }

    async fn double(&self, _: &Context, number: Request<u64>) -> Result<Reply<u64>, Status> {
        Ok((number.to_native() * 2).into())
    }

    async fn ping(&self, _: &Context) -> Result<Reply<()>, Status> {
        Ok(().into())
    }

    async fn boxed(
        &self,
        _: &Context,
        boxed: Request<(u8, Box<u64>)>,
    ) -> Result<Reply<u64>, Status> {
        Ok(boxed.1.to_native().into())
    }

    async fn echo(&self, _: &Context, text: Request<String>) -> Result<Reply<String>, Status> {
        Ok(Reply::of(text.as_str()))
    }
}

pub fn server(engine: Engine) -> Server {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().expect("not zero"))
        .pinned(false)
        .engine(engine)
        .serve(|_| WordsServer::new(Handler))
        .expect("starts")
}

const METHODS: &ServiceDescriptor = WordsServer::<Handler>::DESCRIPTOR;

/// Place of a method, which is its index once all are resolved in order.
pub fn index_of(method: &str) -> u16 {
    let full = format!("words.v1/{method}");
    let found = METHODS
        .methods
        .iter()
        .position(|method| method.name == full);
    found.expect("a method of the service") as u16
}

/// A peer made of bytes that has resolved all methods.
pub fn resolved(server: &Server) -> RawPeer {
    let mut peer = RawPeer::open(&server.addresses()[0]);
    let methods = METHODS.methods.iter();
    let asked: Vec<_> = methods
        .map(|method| (method.name, method.fingerprint))
        .collect();
    assert!(peer.resolve(&asked).iter().all(|&(code, _)| code == 0));
    peer
}

/// The payload of RESOLVED that finds all methods, in the order in which they were asked for.
pub fn all_found(asked: &Frame) -> Vec<u8> {
    let mut payload = asked.payload[..2].to_vec();
    for (method, index) in METHODS.methods.iter().zip(0_u16..) {
        payload.extend_from_slice(&method.fingerprint.to_le_bytes());
        payload.extend_from_slice(&[0, 0]);
        payload.extend_from_slice(&index.to_le_bytes());
    }
    payload
}

/// A call, and what is asked in it.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Take(Way, usize),
    Give(Way, usize),
    GiveBorrowed(usize),
    TakeDeep,
    GiveDeep,
    Fail(usize),
    FailAtLength(usize),
    Double(u64),
}

pub type Asked = Result<u64, Status>;

/// Makes the call, and ends it in the way of the client.
macro_rules! make {
    ($client:expr, $ask:expr, |$call:ident| $end:expr) => {
        match $ask {
            Ask::Take(way, levels) => {
                let $call = $client.take(nested(way, Innermost::Number, levels));
                $end.map(|number| number.to_native())
            }
            Ask::Give(way, levels) => {
                let $call = $client.give((way as u8, levels as u64));
                $end.map(|_| 1)
            }
            Ask::GiveBorrowed(levels) => {
                let $call = $client.give_borrowed(levels as u64);
                $end.map(|_| 1)
            }
            Ask::TakeDeep => {
                let $call = $client.take_deep(deep());
                $end.map(|number| number.to_native())
            }
            Ask::GiveDeep => {
                let $call = $client.give_deep();
                $end.map(|_| 1)
            }
            Ask::Fail(bytes) => {
                let $call = $client.fail(bytes as u64);
                $end.map(|_| 0)
            }
            Ask::FailAtLength(bytes) => {
                let $call = $client.fail_at_length(bytes as u64);
                $end.map(|_| 0)
            }
            Ask::Double(number) => {
                let $call = $client.double(number);
                $end.map(|number| number.to_native())
            }
        }
    };
}

#[derive(Clone, Copy, Debug)]
pub enum Which {
    Tokio,
    Blocking,
    Local,
}

pub const CLIENTS: [Which; 3] = [Which::Tokio, Which::Blocking, Which::Local];

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the client {self:?}")
    }
}

/// What one client gets; `engine` drives the one on a shard.
pub fn by(client: Which, engine: Engine, address: &str, ask: Ask) -> Asked {
    match client {
        Which::Tokio => tokio::runtime::Runtime::new()
            .expect("starts")
            .block_on(async {
                let client = WordsClient::connect(address).await?;
                make!(client, ask, |call| call.await)
            }),
        Which::Blocking => {
            let client = WordsClient::connect_blocking(address)?;
            make!(client, ask, |call| call.wait())
        }
        Which::Local => {
            let address = address.to_owned();
            let main = move |shard: ringcall::Shard| async move {
                let client = WordsClient::new(shard.client(&address).expect("an address"));
                make!(client, ask, |call| call.await)
            };
            LocalRuntime::builder()
                .engine(engine)
                .run(main)
                .expect("runs")
        }
    }
}

/// What each client gets from a server.
pub fn by_all_clients(engine: Engine, server: &Server, ask: Ask) -> [(Which, Asked); 3] {
    let address = &server.addresses()[0];
    CLIENTS.map(|client| (client, by(client, engine, address, ask)))
}
