//! State without locks: each shard has a store of its own, which stays on its thread.
//!
//! ```sh
//! cargo run --release --example kv
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;

use ringcall::{Client, Context, Reply, Request, Server, Status};

#[ringcall::message]
struct Put {
    key: String,
    value: Vec<u8>,
}

/// Keys and values. A client sees those of the shard that its connection has come to.
#[ringcall::service(name = "kv.v1")]
trait Kv {
    /// The value of a key.
    #[idempotent]
    async fn get(key: String) -> Option<Vec<u8>>;
    /// Keeps a value in place of an earlier one.
    #[idempotent]
    async fn put(put: Put);
    /// Forgets a key, and says whether there was one.
    async fn delete(key: String) -> bool;
}

/// The store of one shard. It is not `Sync`, and needs not be.
#[derive(Default)]
struct Store {
    values: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl KvHandler for Store {
    async fn get(
        &self,
        _cx: &Context,
        key: Request<String>,
    ) -> Result<Reply<Option<Vec<u8>>>, Status> {
        // The value is serialised from where it lies, not cloned.
        let values = self.values.borrow();
        Ok(Reply::of(values.get(key.as_str()).map(Vec::as_slice)))
    }

    async fn put(&self, _cx: &Context, put: Request<Put>) -> Result<Reply<()>, Status> {
        let (key, value) = (put.key.as_str().to_owned(), put.value.to_vec());
        self.values.borrow_mut().insert(key, value);
        Ok(().into())
    }

    async fn delete(&self, _cx: &Context, key: Request<String>) -> Result<Reply<bool>, Status> {
        let forgotten = self.values.borrow_mut().remove(key.as_str());
        Ok(forgotten.is_some().into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .serve(|_shard| KvServer::new(Store::default()))?;

    // One connection is one store. With more, a busy client would use all shards, but find on each only
    // what has come to that one.
    let client = Client::builder().connections_max(1);
    let kv = KvClient::new(client.connect(&server.addresses()[0]).await?);
    for (key, value) in [("language", "Rust"), ("kernel", "Linux")] {
        let (key, value) = (key.to_owned(), value.as_bytes().to_vec());
        kv.put(Put { key, value }).await?;
    }

    // These travel together on one connection.
    let (language, colour) = tokio::join!(kv.get("language"), kv.get("colour"));
    println!("language: {}", in_words(language?.to_owned()));
    println!("colour: {}", in_words(colour?.to_owned()));

    println!("kernel deleted: {}", kv.delete("kernel").await?.to_owned());
    println!("kernel: {}", in_words(kv.get("kernel").await?.to_owned()));
    Ok(())
}

fn in_words(value: Option<Vec<u8>>) -> String {
    match value {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => "no value".to_owned(),
    }
}
