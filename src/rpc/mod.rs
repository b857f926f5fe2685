pub mod encode;
pub mod fingerprint;
pub mod message;
