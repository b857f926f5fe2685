//! ringcall
pub mod buf;
pub mod proto;
pub mod rpc;
pub use rkyv;
