//! `KvServer`, which a server registers: it hands each call to its handler's method.

use proc_macro2::TokenStream;
use quote::quote;

use super::{Service, descriptor, docs};

/// The type.
pub(crate) fn definition(service: &Service) -> TokenStream {
    let Service { name, vis, .. } = service;
    let (server, handler) = (service.server(), service.handler());
    let h = service.type_parameter("H");
    let docs = docs::introduced(
        &format!("The service `{name}`, answered by a [`{handler}`]."),
        &[],
    );
    quote! {
        #docs
        #[derive(Debug)]
        #[allow(dead_code, reason = "a program that only calls the service has no use for it")]
        #vis struct #server<#h> {
            handler: ::std::rc::Rc<#h>,
        }
    }
}

/// Its constructors, its descriptor and its dispatch.
pub(crate) fn implementations(service: &Service) -> TokenStream {
    let vis = &service.vis;
    let (server, handler) = (service.server(), service.handler());
    let h = service.type_parameter("H");
    let descriptor = descriptor::ident();
    let arms = service.methods.iter().zip(0_u16..).map(|(method, index)| {
        let ident = &method.ident;
        let (request, response) = (method.request(), &method.response);
        let (pattern, argument) = match method.argument {
            Some(_) => (quote! { request }, Some(quote! { , request })),
            None => (quote! { _ }, None),
        };
        // The handler is called through its trait's name, lest a method of its own be meant.
        quote! {
            #index => {
                struct Called;
                impl<#h: #handler> ::ringcall::__private::Method<#h> for Called {
                    type Request = #request;
                    type Response = #response;

                    #[inline(always)]
                    fn run<'a>(
                        handler: &'a #h,
                        cx: &'a ::ringcall::Context,
                        #pattern: ::ringcall::Request<#request>,
                    ) -> impl ::std::future::Future<
                        Output = ::std::result::Result<::ringcall::Reply<#response>, ::ringcall::Status>,
                    > + 'a {
                        <#h as #handler>::#ident(handler, cx #argument)
                    }
                }
                call.unary::<Called, #h>(&self.handler)
            }
        }
    });
    quote! {
        #[allow(dead_code, reason = "a program that only calls the service has no use for it")]
        impl<#h> #server<#h> {
            /// The names and type fingerprints that clients must agree with.
            #vis const DESCRIPTOR: &'static ::ringcall::ServiceDescriptor = &#descriptor;
        }

        #[allow(dead_code, reason = "a program needs one constructor, or none if it only calls")]
        impl<#h: #handler> #server<#h> {
            /// Serves with `handler`.
            #vis fn new(handler: #h) -> Self {
                Self::from_rc(::std::rc::Rc::new(handler))
            }

            /// Serves with a handler that other parts of the shard use too.
            #vis fn from_rc(handler: ::std::rc::Rc<#h>) -> Self {
                Self { handler }
            }
        }

        impl<#h: #handler> ::ringcall::Service for #server<#h> {
            fn descriptor(&self) -> &'static ::ringcall::ServiceDescriptor {
                &#descriptor
            }

            fn call(&self, method: u16, call: ::ringcall::IncomingCall<'_>) {
                match method {
                    #(#arms)*
                    _ => call.unimplemented(),
                }
            }
        }
    }
}
