//! The attributes of ringcall: `#[ringcall::message]` and `#[ringcall::service]`.
//!
//! Use them through the `ringcall` crate, whose items their expansion names.

mod errors;
mod message;
mod service;
mod wire;

use proc_macro::TokenStream;

/// Makes a struct or an enum a message: something that can be a request, a response, or a part of
/// one.
///
/// ```
/// #[ringcall::message]
/// #[derive(Clone, Debug, PartialEq)]
/// pub struct Put {
///     pub key: String,
///     pub value: Vec<u8>,
///     pub ttl_ms: Option<u32>,
/// }
///
/// #[ringcall::message]
/// pub enum Tree {
///     Leaf(u64),
///     Branch(Vec<Tree>),
/// }
/// ```
///
/// Write it above your own `#[derive(...)]`: it reads them.
///
/// # What may stand in it
/// Everything that is a `Message` itself: integers of fixed size, floats, `bool`, `char`, `String`,
/// `Vec`, `Option`, `Box`, arrays, tuples and other messages. A message may contain itself through
/// `Vec`, `Option`, `Box` and tuples of them. There are no generics and no lifetimes, for both ends
/// must know the one layout.
///
/// Two messages can't contain each other. The compiler calls that an "overflow evaluating the
/// requirement"; make one enum of the two:
///
/// ```compile_fail,E0275
/// #[ringcall::message]
/// struct Branch {
///     leaves: Vec<Leaf>,
/// }
///
/// #[ringcall::message]
/// struct Leaf {
///     branch: Option<Box<Branch>>,
/// }
/// ```
///
/// # How deep it may nest
/// A receiver follows 62 levels of `Vec`, `Box` and `String` of more than 8 bytes within each other. A
/// value that nests deeper is not sent: a call with it ends with INVALID_ARGUMENT, one that should be
/// answered with it with INTERNAL, and the status names the bound. Only types that can pass it are
/// looked at. What has no natural bound, such as a long linked list, is sent as a `Vec` whose elements
/// name each other by index.
///
/// # How long it may be
/// A type without `String`, `Vec` and itself has values of bounded length. A payload that is longer,
/// and so consists of bytes that mean nothing, is refused
/// ([`PAYLOAD_BYTES_MAX`](../ringcall/trait.Message.html#associatedconstant.PAYLOAD_BYTES_MAX)).
///
/// # What it makes
/// `Message` is implemented, and so are rkyv's `Archive`, `Serialize` and `Deserialize`. For a
/// `Put`, `ArchivedPut` is the form that is read in place; it derives `Debug` if `Put` does. More
/// can be asked of it: `#[rkyv(compare(PartialEq))]` compares it with a `Put`,
/// `#[rkyv(derive(Hash))]` derives for it. rkyv's other attributes would change the layout and are
/// refused.
///
/// # What the fingerprint covers
/// Two ends understand each other when their types have the same fingerprint. It covers the names,
/// types and order of fields and variants, and the numbers of variants that have one (`Sell = 2`);
/// not the names of types. To change a message, add a method with a new one beside the old.
///
/// # Under `missing_docs`
/// rkyv also makes a `PutResolver`, and writes no documentation for the named fields of an enum's
/// variants in it. Where that lint is on, give such variants a struct, `Put(Put)`, or allow the
/// lint for the module.
#[proc_macro_attribute]
pub fn message(arguments: TokenStream, item: TokenStream) -> TokenStream {
    message::expand(arguments.into(), item.into()).into()
}

/// Makes a trait a service: a handler trait, a server and a client with the same methods.
///
/// ```
/// use ringcall::{Context, Reply, Request, Status};
///
/// /// Keys and their values.
/// #[ringcall::service(name = "kv.v1")]
/// pub trait Kv {
///     /// Reads a value.
///     #[idempotent]
///     async fn get(key: String) -> Option<Vec<u8>>;
///     /// Forgets everything.
///     async fn clear();
/// }
///
/// struct Store;
///
/// impl KvHandler for Store {
///     async fn get(
///         &self,
///         _cx: &Context,
///         key: Request<String>,
///     ) -> Result<Reply<Option<Vec<u8>>>, Status> {
///         let value = (key.as_str() == "answer").then(|| b"42".to_vec());
///         Ok(value.into())
///     }
///
///     async fn clear(&self, _cx: &Context) -> Result<Reply<()>, Status> {
///         Ok(().into())
///     }
/// }
///
/// let _server = KvServer::new(Store);
///
/// async fn ask() -> Result<(), Status> {
///     let kv = KvClient::connect("tcp://127.0.0.1:7411").await?;
///     let _value = kv.get("answer").await?;
///     Ok(())
/// }
/// ```
///
/// # The trait
/// `name` is what peers know the service by: ASCII letters, digits, `.`, `_` and `-`. A method is
/// an `async fn` without `self`, with one argument or none, whose types are `Message`s. A result is
/// the value itself: that a call may fail goes without saying. `#[idempotent]` marks a method that
/// does no harm when it runs twice, so that clients may repeat it; `#[deprecated]` is passed on to
/// the client.
///
/// # What it makes
/// The trait itself is replaced, with its visibility and documentation, by
/// - `KvHandler`, a trait with the same methods. Implement it with `async fn`; a method takes
///   `&self`, the call's `Context` and its `Request`, and returns `Result<Reply<T>, Status>`.
/// - `KvServer`, the service as a server takes it, made of a handler. `KvServer::<H>::DESCRIPTOR`
///   lists its methods and their fingerprints.
/// - `KvClient`, with the same methods; each takes its argument, a reference to it, or a stand-in
///   such as `&str` for `String`. `connect` and `connect_blocking` make one, and `new` makes one of
///   any `Caller`.
///
/// Handler and server are made if ringcall has its Cargo feature `server`, as by default.
#[proc_macro_attribute]
pub fn service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(arguments.into(), item.into()).into()
}
