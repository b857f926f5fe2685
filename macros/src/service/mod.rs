//! `#[ringcall::service]`: reads the trait, refuses what isn't a remote call, expands the rest.

mod client;
mod descriptor;
mod docs;
mod handler;
mod method;
mod name;
mod read;
mod server;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::visit::Visit;
use syn::{Attribute, Ident, Type, Visibility};

use crate::wire;

/// What the attribute turns into.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match read::service(arguments, item) {
        Ok(service) => service.expand(),
        Err(errors) => errors.into_compile_errors(),
    }
}

/// A service, as far as the expansion cares.
struct Service {
    /// What peers call it, such as `kv.v1`.
    name: String,
    ident: Ident,
    vis: Visibility,
    docs: Vec<Attribute>,
    methods: Vec<Method>,
}

struct Method {
    /// What peers call it, such as `kv.v1/get`.
    name: String,
    ident: Ident,
    docs: Vec<Attribute>,
    /// `#[deprecated]`, for the client to show.
    deprecated: Option<Attribute>,
    idempotent: bool,
    argument: Option<Argument>,
    response: Type,
}

struct Argument {
    ident: Ident,
    ty: Type,
}

impl Service {
    fn expand(&self) -> TokenStream {
        let messages = self.messages();
        let handler = handler::definition(self);
        let server = server::definition(self);
        let client = client::definition(self);
        let descriptor = descriptor::definition(self);
        let server_impls = server::implementations(self);
        let client_impls = client::implementations(self);
        quote! {
            #messages
            // Whether there are servers is known to ringcall alone, whose feature it is.
            ::ringcall::__server! {
                #handler
                #server
            }
            #client
            // Nothing outside sees the names in here; implementations count wherever they stand.
            const _: () = {
                #descriptor
                ::ringcall::__server! { #server_impls }
                #client_impls
            };
        }
    }

    /// Asks whether the types in the signatures are messages. It stands first, so that the
    /// compiler's first complaint is about the type and not about what is generated.
    fn messages(&self) -> TokenStream {
        let bounds = self.types().map(wire::message_bound);
        quote! {
            const _: () = {
                #[allow(dead_code, reason = "its bounds are there to be checked")]
                fn every_type_is_a_message() where #(#bounds,)* {}
            };
        }
    }

    /// The types in the signatures.
    fn types(&self) -> impl Iterator<Item = &Type> {
        self.methods.iter().flat_map(|method| {
            let argument = method.argument.as_ref().map(|argument| &argument.ty);
            argument.into_iter().chain([&method.response])
        })
    }

    /// A name for a type parameter: `preferred`, unless the author's types have one like it.
    fn type_parameter(&self, preferred: &str) -> Ident {
        struct Search<'s> {
            name: &'s str,
            found: bool,
        }
        impl<'ast> Visit<'ast> for Search<'_> {
            fn visit_ident(&mut self, ident: &'ast Ident) {
                self.found |= ident == self.name;
            }
        }
        let mut search = Search {
            name: preferred,
            found: false,
        };
        self.types().for_each(|ty| search.visit_type(ty));
        if search.found {
            format_ident!("__{preferred}")
        } else {
            format_ident!("{preferred}")
        }
    }

    fn handler(&self) -> Ident {
        format_ident!("{}Handler", self.ident)
    }

    fn server(&self) -> Ident {
        format_ident!("{}Server", self.ident)
    }

    fn client(&self) -> Ident {
        format_ident!("{}Client", self.ident)
    }
}

impl Method {
    /// The type of the argument, or `()`.
    fn request(&self) -> TokenStream {
        match &self.argument {
            Some(Argument { ty, .. }) => quote! { #ty },
            None => quote! { () },
        }
    }
}
