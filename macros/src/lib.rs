//! The attributes of ringcall: `#[ringcall::message]` and `#[ringcall::service]`.
//!
//! Use them through the `ringcall` crate, whose items their expansion names.

mod errors;
mod message;
mod service;
mod wire;

use proc_macro::TokenStream;

/// Makes a struct or an enum a message.
#[proc_macro_attribute]
pub fn message(arguments: TokenStream, item: TokenStream) -> TokenStream {
    message::expand(arguments.into(), item.into()).into()
}

/// Makes a trait a service
#[proc_macro_attribute]
pub fn service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(arguments.into(), item.into()).into()
}
