//! Reads one method of a service.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::visit::{self, Visit};
use syn::{
    Attribute, FnArg, Pat, PatType, Path, ReturnType, Safety, Signature, TraitItemFn, Type,
    parse_quote,
};

use super::{Argument, Method, name};
use crate::errors::Errors;
use crate::wire;

/// The method, as far as it makes sense.
pub(crate) fn read(function: &TraitItemFn, service: &str, errors: &mut Errors) -> Method {
    let signature = &function.sig;
    refuse_on_signature(signature, errors);
    if let Some(body) = &function.default {
        errors.at(
            body,
            "a service only names its methods: end this with `;` and write the body in the handler",
        );
    }
    let ident = signature.ident.clone();
    if GENERATED.iter().any(|taken| ident == taken) {
        errors.at(
            &ident,
            format!("the generated client has its own `{ident}`: choose another name"),
        );
    }
    let name = match name::of_method(service, &ident.unraw().to_string()) {
        Ok(name) => name,
        Err(complaint) => {
            errors.at(&ident, complaint);
            String::new()
        }
    };
    let mut method = Method {
        name,
        ident,
        docs: Vec::new(),
        deprecated: None,
        idempotent: false,
        argument: argument(signature, errors),
        response: response(signature, errors),
    };
    for attr in &function.attrs {
        read_attribute(attr, &mut method, errors);
    }
    method
}

/// What the generated client has besides the service's methods.
const GENERATED: [&str; 3] = ["new", "connect", "connect_blocking"];

fn read_attribute(attr: &Attribute, method: &mut Method, errors: &mut Errors) {
    if attr.path().is_ident("doc") {
        method.docs.push(attr.clone());
    } else if attr.path().is_ident("deprecated") {
        method.deprecated = Some(attr.clone());
    } else if attr.path().is_ident("idempotent") {
        method.idempotent = true;
        if attr.meta.require_path_only().is_err() {
            errors.at(attr, "#[idempotent] takes no arguments: remove them");
        }
    } else {
        errors.at(
            attr,
            "remove this attribute: a method takes doc comments, #[idempotent] and #[deprecated]",
        );
    }
}

fn refuse_on_signature(signature: &Signature, errors: &mut Errors) {
    if signature.asyncness.is_none() {
        errors.at(signature.fn_token, "a call takes time: write `async fn`");
    }
    let words = [
        signature.constness.map(ToTokens::into_token_stream),
        signature.abi.as_ref().map(ToTokens::to_token_stream),
        match &signature.safety {
            Safety::Default => None,
            safety => Some(safety.to_token_stream()),
        },
    ];
    for word in words.into_iter().flatten() {
        errors.at(
            word,
            "a method is an `async fn` and nothing else: remove the word",
        );
    }
    if !signature.generics.params.is_empty() {
        errors.at(
            &signature.generics,
            "both ends must know the types: remove the generics",
        );
    }
    if let Some(clause) = &signature.generics.where_clause {
        errors.at(
            clause,
            "remove the `where` clause: a method has no generics",
        );
    }
}

fn argument(signature: &Signature, errors: &mut Errors) -> Option<Argument> {
    let mut arguments = Vec::new();
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(receiver) => errors.at(
                receiver,
                "remove `self`: this describes what travels; handlers get `&self` in the generated trait",
            ),
            FnArg::Typed(argument) => arguments.push(argument),
        }
    }
    if let Some(variadic) = &signature.variadic {
        errors.at(variadic, ONE_ARGUMENT);
    }
    for more in arguments.iter().skip(1) {
        errors.at(more, ONE_ARGUMENT);
    }
    let PatType { attrs, pat, ty, .. } = arguments.first()?;
    for attr in attrs {
        errors.at(attr, "remove this attribute: an argument takes none");
    }
    refuse_type(ty, errors);
    match &**pat {
        Pat::Ident(pat)
            if pat.by_ref.is_none() && pat.mutability.is_none() && pat.subpat.is_none() =>
        {
            Some(Argument {
                ident: pat.ident.clone(),
                ty: (**ty).clone(),
            })
        }
        pat => {
            errors.at(
                pat,
                "give the argument a plain name, `name: Type`: handlers and clients show it",
            );
            None
        }
    }
}

const ONE_ARGUMENT: &str =
    "a method takes one argument: put them into one struct marked #[ringcall::message]";

fn response(signature: &Signature, errors: &mut Errors) -> Type {
    match &signature.output {
        ReturnType::Default => parse_quote! { () },
        ReturnType::Type(_, ty) => {
            if let Type::Path(path) = &**ty
                && ends_in(&path.path, "Result")
            {
                errors.at(
                    ty,
                    "return the value's type: the handler returns a Result with a Status already",
                );
            } else {
                refuse_type(ty, errors);
            }
            (**ty).clone()
        }
    }
}

fn refuse_type(ty: &Type, errors: &mut Errors) {
    wire::refuse_by_looks(ty, errors);
    ServiceOnly { errors }.visit_type(ty);
}

/// Refuses what is wrong in the signatures of a service only.
struct ServiceOnly<'e> {
    errors: &'e mut Errors,
}

impl<'ast> Visit<'ast> for ServiceOnly<'_> {
    fn visit_path(&mut self, path: &'ast Path) {
        if path.is_ident("Self") {
            self.errors.at(
                path,
                "a service is no type of its own: name the type that is meant",
            );
        } else if ends_in(path, "Stream") {
            self.errors.at(path, "streams are not supported yet: return a Vec, or let the caller ask for the next part");
        } else {
            visit::visit_path(self, path);
        }
    }
}

fn ends_in(path: &Path, name: &str) -> bool {
    path.segments
        .last()
        .is_some_and(|segment| segment.ident == name)
}
