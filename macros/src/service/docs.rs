//! The documentation of what is generated.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Attribute;

/// `first`, then what the author wrote.
pub(crate) fn introduced(first: &str, authors: &[Attribute]) -> TokenStream {
    let gap = (!authors.is_empty()).then(|| quote! { #[doc = ""] });
    quote! {
        #[doc = #first]
        #gap
        #(#authors)*
    }
}

/// What the author wrote, or else `fallback`.
pub(crate) fn or(authors: &[Attribute], fallback: &str) -> TokenStream {
    if authors.is_empty() {
        quote! { #[doc = #fallback] }
    } else {
        quote! { #(#authors)* }
    }
}
