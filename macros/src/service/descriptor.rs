//! The service's descriptor: the names and fingerprints that both ends compare.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::Ident;

use super::Service;

/// The name of the static, inside the block that no author's name reaches into.
pub(crate) fn ident() -> Ident {
    format_ident!("__DESCRIPTOR")
}

/// A static and not a constant, so that it has one address.
pub(crate) fn definition(service: &Service) -> TokenStream {
    let ident = ident();
    let name = &service.name;
    let methods = service.methods.iter().map(|method| {
        let name = &method.name;
        let idempotent = method.idempotent;
        let (request, response) = (method.request(), &method.response);
        quote! {
            ::ringcall::MethodDescriptor {
                name: #name,
                fingerprint: ::ringcall::__private::method_fingerprint(
                    <#request as ::ringcall::Message>::FINGERPRINT,
                    <#response as ::ringcall::Message>::FINGERPRINT,
                ),
                idempotent: #idempotent,
                request_bytes_max: ::ringcall::__private::request_bytes_max::<#request>(),
            }
        }
    });
    quote! {
        static #ident: ::ringcall::ServiceDescriptor = ::ringcall::ServiceDescriptor {
            name: #name,
            methods: &[#(#methods),*],
        };
    }
}
