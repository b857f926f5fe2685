//! Services, their handlers and their callers compile, without a warning.
#![deny(warnings, missing_docs, unreachable_pub, unsafe_code, missing_debug_implementations)]

use ringcall::{Context, IncomingCall, Reply, Request, Service, ServiceDescriptor, Status};

/// A part.
#[ringcall::message]
#[derive(Clone, Debug)]
pub struct Put {
    /// Where.
    pub key: String,
    /// What.
    pub value: Vec<u8>,
}

/// Keys and values.
#[ringcall::service(name = "kv.v1")]
pub trait Kv {
    /// Reads.
    #[idempotent]
    async fn get(key: String) -> Option<Vec<u8>>;
    /// Writes.
    async fn put(request: Put);
    #[deprecated(note = "use get")]
    async fn ping();
    // Names that generated code or `Rc` use too.
    async fn clone(cx: u8) -> u8;
    async fn borrow(call: u16, ) -> (u16, bool);
    async fn r#type(handler: Vec<Put>) -> u64;
    async fn descriptor(method: u8);
}

#[derive(Debug)]
struct Store;

impl KvHandler for Store {
    async fn get(&self, _cx: &Context, key: Request<String>) -> Result<Reply<Option<Vec<u8>>>, Status> {
        let _key = key;
        unreachable!()
    }
    async fn put(&self, _cx: &Context, _request: Request<Put>) -> Result<Reply<()>, Status> {
        unreachable!()
    }
    async fn ping(&self, _: &Context) -> Result<Reply<()>, Status> {
        unreachable!()
    }
    async fn clone(&self, _: &Context, _: Request<u8>) -> Result<Reply<u8>, Status> {
        unreachable!()
    }
    async fn borrow(&self, _: &Context, _: Request<u16>) -> Result<Reply<(u16, bool)>, Status> {
        unreachable!()
    }
    async fn r#type(&self, _: &Context, _: Request<Vec<Put>>) -> Result<Reply<u64>, Status> {
        unreachable!()
    }
    async fn descriptor(&self, _: &Context, _: Request<u8>) -> Result<Reply<()>, Status> {
        unreachable!()
    }
}

/// Types of the author's whose names look like type parameters.
pub mod letters {
    /// One.
    #[ringcall::message]
    #[derive(Debug)]
    pub struct H(u8);
    /// Another.
    #[ringcall::message]
    #[derive(Debug)]
    pub struct C(u8);
    /// A third.
    #[ringcall::message]
    #[derive(Debug)]
    pub struct E(u8);

    /// Uses them.
    #[ringcall::service(name = "letters")]
    pub trait Letters {
        /// Swaps.
        async fn swap(h: H) -> C;
        /// Ends.
        async fn end(e: E);
    }
}

mod inner {
    // No call of this service, and nobody serves it.
    #[ringcall::service(name = "private-1")]
    pub(super) trait Restricted {
        async fn one(a: super::Put) -> super::Put;
    }

    #[ringcall::service(name = "private_2")]
    trait Private {
        async fn one(a: u8);
    }
}

fn client<C: ringcall::Caller>(caller: C) -> KvClient<C> {
    KvClient::new(caller)
}

async fn calls(client: KvClient) -> Result<(), Status> {
    let key = String::from("borrowed");
    client.get("user:1").await?;
    client.get(key.as_str()).await?;
    client.get(&key).await?;
    client.put(&Put { key, value: Vec::new() }).await?;
    client.clone(7).await?;
    client.r#type(vec![]).await?;
    Ok(())
}

async fn connecting() -> Result<(), Status> {
    let client = KvClient::connect("tcp://127.0.0.1:1").await?;
    calls(Clone::clone(&client)).await
}

fn blocking() -> Result<(), Status> {
    KvClient::connect_blocking("tcp://127.0.0.1:1").map(drop)
}

fn served(service: &dyn Service, call: IncomingCall<'_>) -> &'static ServiceDescriptor {
    service.call(0, call);
    service.descriptor()
}

fn main() {
    let server = KvServer::new(Store);
    let shared = KvServer::from_rc(std::rc::Rc::new(Store));
    let descriptor: &ServiceDescriptor = server.descriptor();
    assert!(std::ptr::eq(descriptor, shared.descriptor()));
    assert!(std::ptr::eq(descriptor, KvServer::<Store>::DESCRIPTOR));
    assert_eq!(descriptor.name, "kv.v1");
    let names: Vec<_> = descriptor.methods.iter().map(|method| method.name).collect();
    assert_eq!(names[..3], ["kv.v1/get", "kv.v1/put", "kv.v1/ping"]);
    assert_eq!(names[5], "kv.v1/type");
    assert!(descriptor.methods[0].idempotent && !descriptor.methods[1].idempotent);
    let _unused = (client::<ringcall::Client>, connecting, blocking, served);
    let _debug = format!("{server:?}");
}
