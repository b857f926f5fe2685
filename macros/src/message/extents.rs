//! The parts of a `Message` implementation that bound how deep a value nests and how long it is.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Index, Member};

use super::{Content, Field, Message};

/// The constants of the type, and the method that looks at a value.
pub(crate) fn items(message: &Message<'_>) -> TokenStream {
    let levels_max = of_content(message, quote! { LEVELS_MAX }, quote! { greater });
    let outside_bytes_max = of_content(message, quote! { OUTSIDE_BYTES_MAX }, quote! { sum });
    let levels = format_ident!("__levels");
    let is_within = is_within(&message.content, &levels);
    quote! {
        const LEVELS_MAX: ::core::option::Option<u32> = #levels_max;
        const OUTSIDE_BYTES_MAX: ::core::option::Option<u32> = #outside_bytes_max;

        #[allow(unused_variables, deprecated, reason = "as many parts as there are, in use or not")]
        fn nests_within(&self, #levels: u32) -> bool {
            #is_within
        }
    }
}

/// A constant made of those of the fields: within a struct or a variant by `join`, and of the
/// variants the greatest. A message that contains itself has no bound.
fn of_content(message: &Message<'_>, constant: TokenStream, join: TokenStream) -> TokenStream {
    if message.fields().any(|field| field.shape.is_recursive()) {
        return quote! { ::core::option::Option::None };
    }
    let of_fields = |fields: &[Field<'_>]| {
        let parts = fields.iter().map(|field| {
            let ty = field.ty;
            quote! { <#ty as ::ringcall::Message>::#constant }
        });
        joined(parts, &join)
    };
    match &message.content {
        Content::Struct(fields) => of_fields(fields),
        Content::Enum(variants) => {
            let variants = variants.iter().map(|variant| of_fields(&variant.fields));
            joined(variants, &quote! { greater })
        }
    }
}

/// One after the other, since a nested expression would be as deep as there are parts.
fn joined(parts: impl Iterator<Item = TokenStream>, join: &TokenStream) -> TokenStream {
    quote! {{
        let bound = ::core::option::Option::Some(0);
        #(let bound = ::ringcall::__private::#join(bound, #parts);)*
        bound
    }}
}

fn is_within(content: &Content<'_>, levels: &Ident) -> TokenStream {
    match content {
        Content::Struct(fields) => {
            let parts = fields.iter().map(|field| {
                let member = member(field);
                quote! { && ::ringcall::__private::nests_within(&self.#member, #levels) }
            });
            quote! { true #(#parts)* }
        }
        Content::Enum(variants) => {
            let arms = variants.iter().map(|variant| {
                let ident = variant.ident;
                let bound: Vec<Ident> = (0..variant.fields.len())
                    .map(|at| format_ident!("__field_{at}"))
                    .collect();
                let members = variant.fields.iter().map(member);
                quote! {
                    Self::#ident { #(#members: #bound),* } => {
                        true #(&& ::ringcall::__private::nests_within(#bound, #levels))*
                    }
                }
            });
            quote! {
                match self {
                    #(#arms)*
                }
            }
        }
    }
}

/// The field as an expression names it.
fn member(field: &Field<'_>) -> Member {
    match &field.ident {
        Some(ident) => Member::Named((*ident).clone()),
        None => Member::Unnamed(Index {
            index: field.index,
            span: Span::call_site(),
        }),
    }
}
