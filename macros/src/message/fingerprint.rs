//! The expression that computes a message's fingerprint.
//!
//! A struct is the tag `struct` and, per field, its name (or index) and its type's fingerprint. An
//! enum is the tag `enum` and, per variant, its name, its number where that is not its position
//! (as a second name, `=7`), and the fingerprint of its fields as a struct.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;

use super::shape::{Container, Shape};
use super::{Content, Field};

/// The fingerprint of a whole message.
pub(crate) fn of_content(content: &Content<'_>) -> TokenStream {
    match content {
        Content::Struct(fields) => of_fields(fields),
        Content::Enum(variants) => {
            let parts = variants.iter().enumerate().map(|(position, variant)| {
                let name = variant.ident.unraw().to_string();
                let number = (usize::from(variant.number) != position).then(|| {
                    let number = format!("={}", variant.number);
                    quote! { .name(#number) }
                });
                let fields = of_fields(&variant.fields);
                quote! { .name(#name) #number .part(#fields) }
            });
            quote! { ::ringcall::__private::Fingerprint::tag("enum") #(#parts)* .finish() }
        }
    }
}

fn of_fields(fields: &[Field<'_>]) -> TokenStream {
    let parts = fields.iter().map(|field| {
        let name = &field.name;
        let part = of_shape(&field.shape);
        quote! { .name(#name).part(#part) }
    });
    quote! { ::ringcall::__private::Fingerprint::tag("struct") #(#parts)* .finish() }
}

/// As the implementations of `Message` for `Vec`, `Option`, `Box` and tuples do it.
fn of_shape(shape: &Shape<'_>) -> TokenStream {
    match shape {
        Shape::Other(ty) => {
            quote_spanned! { ty.span() => <#ty as ::ringcall::Message>::FINGERPRINT }
        }
        Shape::Own => quote! { ::ringcall::__private::SELF },
        Shape::Around(container, inner) => {
            let tag = match container {
                Container::Vec => "vec",
                Container::Option => "option",
                Container::Box => "box",
            };
            let inner = of_shape(inner);
            quote! { ::ringcall::__private::Fingerprint::tag(#tag).part(#inner).finish() }
        }
        Shape::Tuple(elements) => {
            let elements = elements.iter().map(of_shape);
            quote! {
                ::ringcall::__private::Fingerprint::tag("tuple") #(.part(#elements))* .finish()
            }
        }
    }
}
