//! The types of fields, arguments and results: what can be refused by its looks, and the question
//! that leaves the rest to the compiler.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::Type;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::errors::Errors;

/// Refuses types that can't be part of a message whatever they name, such as references. The
/// compiler's own complaint about them would be about lifetimes, which leads authors astray.
pub(crate) fn refuse_by_looks(ty: &Type, errors: &mut Errors) {
    Looks { errors }.visit_type(ty);
}

struct Looks<'e> {
    errors: &'e mut Errors,
}

impl<'ast> Visit<'ast> for Looks<'_> {
    fn visit_type(&mut self, ty: &'ast Type) {
        let advice = match ty {
            Type::Reference(_) => {
                "a message owns its parts: use the owned type, `String` for `&str`, `Vec<u8>` for `&[u8]`, `T` for `&T`"
            }
            Type::Slice(_) => "a slice has no size of its own: use `Vec<T>`, or `[T; N]`",
            Type::ImplTrait(_) => "both ends must know the type: name it instead of `impl Trait`",
            Type::TraitObject(_) => {
                "both ends must know the type: use an enum marked #[ringcall::message] instead of a trait object"
            }
            Type::Ptr(_) | Type::FnPtr(_) => {
                "an address means nothing on another machine: send the value itself"
            }
            Type::Infer(_) => "both ends must know the type: write it out",
            _ => return visit::visit_type(self, ty),
        };
        self.errors.at(ty, advice);
    }
}

/// The bound `ty: ::ringcall::Message`, spanned so that the compiler's complaint underlines the
/// type from its first token to its last.
pub(crate) fn message_bound(ty: &Type) -> TokenStream {
    let first = ty.span();
    let last = ty
        .to_token_stream()
        .into_iter()
        .last()
        .map_or(first, |token| token.span());
    let name = quote_spanned! { last => Message };
    quote_spanned! { first => #ty: ::ringcall::#name }
}
