//! `KvClient`, which calls the service.

use proc_macro2::TokenStream;
use quote::quote;

use super::{Method, Service, descriptor, docs};

/// The type.
pub(crate) fn definition(service: &Service) -> TokenStream {
    let Service { name, vis, .. } = service;
    let client = service.client();
    let c = service.type_parameter("C");
    let docs = docs::introduced(&format!("Calls the service `{name}`."), &service.docs);
    quote! {
        #docs
        #[derive(Clone, Debug)]
        #[allow(dead_code, reason = "a program that only serves has no use for it")]
        #vis struct #client<#c = ::ringcall::Client> {
            caller: #c,
        }
    }
}

/// Its constructors and a method for each of the service's.
pub(crate) fn implementations(service: &Service) -> TokenStream {
    let vis = &service.vis;
    let client = service.client();
    let c = service.type_parameter("C");
    let methods = service.methods.iter().zip(0_u16..);
    let methods = methods.map(|(method, index)| call(service, method, index));
    quote! {
        #[allow(dead_code, reason = "a program need not call every method")]
        impl<#c: ::ringcall::Caller> #client<#c> {
            /// Calls through `caller`.
            #vis fn new(caller: #c) -> Self {
                Self { caller }
            }

            #(#methods)*
        }

        #[allow(dead_code, reason = "a program needs one way to connect")]
        impl #client<::ringcall::Client> {
            /// Connects to `target`, such as `tcp://10.0.0.7:7411` or `unix:/run/app.sock`.
            ///
            /// # Errors
            /// As [`Client::connect`](::ringcall::Client::connect).
            #vis async fn connect(
                target: &str,
            ) -> ::core::result::Result<Self, ::ringcall::Status> {
                ::ringcall::Client::connect(target).await.map(Self::new)
            }
        }

        #[allow(dead_code, reason = "a program needs one way to connect")]
        impl #client<::ringcall::BlockingClient> {
            /// Connects to `target`, for programs without an async runtime.
            ///
            /// # Errors
            /// As [`BlockingClient::connect`](::ringcall::BlockingClient::connect).
            #vis fn connect_blocking(
                target: &str,
            ) -> ::core::result::Result<Self, ::ringcall::Status> {
                ::ringcall::BlockingClient::connect(target).map(Self::new)
            }
        }
    }
}

fn call(service: &Service, method: &Method, index: u16) -> TokenStream {
    let Method {
        ident,
        deprecated,
        response,
        ..
    } = method;
    let vis = &service.vis;
    let c = service.type_parameter("C");
    let docs = docs::or(&method.docs, &format!("Calls `{}`.", method.name));
    let descriptor = descriptor::ident();
    match &method.argument {
        Some(argument) => {
            let (name, request) = (&argument.ident, &argument.ty);
            let e = service.type_parameter("E");
            quote! {
                #docs
                #deprecated
                #vis fn #ident<'a, #e: ::ringcall::Encode<#request> + 'a>(
                    &'a self,
                    #name: #e,
                ) -> ::ringcall::Call<'a, #c, #request, #response, #e> {
                    ::ringcall::Caller::call(&self.caller, &#descriptor, #index, #name)
                }
            }
        }
        None => quote! {
            #docs
            #deprecated
            #vis fn #ident(&self) -> ::ringcall::Call<'_, #c, (), #response, ()> {
                ::ringcall::Caller::call(&self.caller, &#descriptor, #index, ())
            }
        },
    }
}
