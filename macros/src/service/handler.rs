//! `KvHandler`, the trait that a service's author implements.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::{Service, docs};

/// The trait. Its methods return `impl Future` and are implemented with `async fn`: a trait's own
/// `async fn` makes the compiler warn that callers can't demand `Send`, which nobody does on a
/// shard.
pub(crate) fn definition(service: &Service) -> TokenStream {
    let Service { name, vis, .. } = service;
    let handler = service.handler();
    let docs = docs::introduced(
        &format!(
            "Answers the calls of the service `{name}`. Implement its methods with `async fn`."
        ),
        &service.docs,
    );
    let methods = service.methods.iter().map(|method| {
        let (ident, response) = (&method.ident, &method.response);
        let docs = docs::or(&method.docs, &format!("Answers `{}`.", method.name));
        let argument = method.argument.as_ref().map(|argument| {
            let (ident, ty) = (&argument.ident, &argument.ty);
            quote! { #ident: ::ringcall::Request<#ty> }
        });
        let cx = match &method.argument {
            Some(argument) if argument.ident == "cx" => format_ident!("context"),
            _ => format_ident!("cx"),
        };
        quote! {
            #docs
            fn #ident(
                &self,
                #cx: &::ringcall::Context,
                #argument
            ) -> impl ::core::future::Future<
                Output = ::core::result::Result<::ringcall::Reply<#response>, ::ringcall::Status>,
            >;
        }
    });
    quote! {
        #docs
        #vis trait #handler: 'static {
            #(#methods)*
        }
    }
}
