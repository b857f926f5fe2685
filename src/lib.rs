//! ringcall
pub mod buf;
pub mod platform;
pub mod proto;
pub mod rpc;
pub use rkyv;
