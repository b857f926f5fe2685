//! ringcall
pub mod buf;
pub mod proto;
pub mod rpc;
pub use proto::resolve::{MethodDescriptor, ServiceDescriptor};
pub use ringcall_macros::{message, service};
pub use rkyv;
pub use rpc::encode::Encode;
pub use rpc::message::Message;

/// What the macros' expansion names; not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::rpc::fingerprint::{Fingerprint, SELF, method as method_fingerprint};
}
