//! Reads a service from its trait.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use syn::{ItemTrait, TraitItem};

use super::{Method, Service, method, name};
use crate::errors::Errors;

/// The service, or all that is wrong with it.
pub(crate) fn service(arguments: TokenStream, item: TokenStream) -> Result<Service, Errors> {
    let mut errors = Errors::default();
    let name = name::from_arguments(arguments, &mut errors);
    let item: ItemTrait = match syn::parse2(item) {
        Ok(item) => item,
        Err(error) => {
            let only = "#[ringcall::service] goes on a trait";
            errors.push(syn::Error::new(error.span(), format!("{only}: {error}")));
            return Err(errors);
        }
    };
    // The rest is worth reading even when the name is not: it may have mistakes of its own.
    let name = name.unwrap_or_default();
    refuse_on_trait(&item, &mut errors);
    let methods = methods(&item, &name, &mut errors);
    errors.or(Service {
        name,
        ident: item.ident,
        vis: item.vis,
        docs: item.attrs,
        methods,
    })
}

fn refuse_on_trait(item: &ItemTrait, errors: &mut Errors) {
    for attr in &item.attrs {
        if !attr.path().is_ident("doc") {
            errors.at(attr, "remove this attribute: the trait turns into three types, which keep only its doc comments");
        }
    }
    if let Some(token) = &item.unsafety {
        errors.at(token, "a service is not `unsafe`: remove the word");
    }
    if !item.generics.params.is_empty() {
        errors.at(
            &item.generics,
            "a service has one set of types, which both ends know: remove the generics",
        );
    }
    if let Some(clause) = &item.generics.where_clause {
        errors.at(
            clause,
            "remove the `where` clause: a service has no generics",
        );
    }
    if !item.supertraits.is_empty() {
        errors.at(
            &item.supertraits,
            "a service stands alone: remove the supertraits, and register one server per service",
        );
    }
}

fn methods(item: &ItemTrait, service: &str, errors: &mut Errors) -> Vec<Method> {
    let mut methods = Vec::new();
    let mut names = BTreeSet::new();
    for item in &item.items {
        let TraitItem::Fn(function) = item else {
            errors.at(item, "a service consists of methods, `async fn name(argument: Type) -> Type;`: move this out of the trait");
            continue;
        };
        let method = method::read(function, service, errors);
        if !names.insert(method.ident.to_string()) {
            errors.at(
                &method.ident,
                "a method of this name is there already: choose another name",
            );
        }
        if methods.len() == METHODS_MAX {
            errors.at(
                &method.ident,
                "a service has at most 128 methods: move some to another service",
            );
        }
        methods.push(method);
    }
    if item.items.is_empty() {
        errors.at(
            &item.ident,
            "a service needs a method: `async fn name(argument: Type) -> Type;`",
        );
    }
    methods
}

/// `RESOLVE_METHODS_MAX` of the protocol.
const METHODS_MAX: usize = 128;
