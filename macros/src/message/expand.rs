//! Writes a message's expansion.

use proc_macro2::TokenStream;
use quote::quote;
use syn::visit::Visit;
use syn::{Attribute, Data, DeriveInput, Ident, Type, parse_quote};

use super::{Field, Message, extents, fingerprint};
use crate::wire;

/// The item with rkyv's derives, and its `Message` implementation.
pub(crate) fn message(item: &DeriveInput, message: &Message<'_>) -> TokenStream {
    let ident = message.ident;
    let fingerprint = fingerprint::of_content(&message.content);
    let extents = extents::items(message);
    let bounds = leaves(message.fields())
        .into_iter()
        .map(wire::message_bound);
    let evaluation = message.fields().any(has_vec).then(|| {
        // There is an assertion in the fingerprint of a `Vec`, and the compiler evaluates a
        // constant of a trait only when something uses it.
        quote! { const _: u64 = <#ident as ::ringcall::Message>::FINGERPRINT; }
    });
    let item = with_rkyv(item, message);
    quote! {
        // The bounds ask whether the parts are messages. This stands before the item, because the
        // compiler checks in this order: its first error is then the one about the field, and not
        // one about what rkyv derives.
        #[automatically_derived]
        impl ::ringcall::Message for #ident
        where
            #(#bounds,)*
        {
            const FINGERPRINT: u64 = #fingerprint;
            #extents
        }
        #item
        #evaluation
    }
}

fn with_rkyv(item: &DeriveInput, message: &Message<'_>) -> DeriveInput {
    let mut item = item.clone();
    let mut ours: Vec<Attribute> = vec![
        parse_quote! { #[derive(::ringcall::rkyv::Archive, ::ringcall::rkyv::Serialize, ::ringcall::rkyv::Deserialize)] },
        parse_quote! { #[rkyv(crate = ::ringcall::rkyv)] },
    ];
    if message.archived_debug {
        ours.push(parse_quote! { #[rkyv(derive(::core::fmt::Debug))] });
    }
    if message.fields().any(|field| field.shape.is_recursive()) {
        ours.push(recursion_bounds(message));
        for (field, read) in fields_mut(&mut item.data).zip(message.fields()) {
            if read.shape.is_recursive() {
                field.attrs.push(parse_quote! { #[rkyv(omit_bounds)] });
            }
        }
    }
    item.attrs.splice(0..0, ours);
    item
}

fn fields_mut(data: &mut Data) -> Box<dyn Iterator<Item = &mut syn::Field> + '_> {
    match data {
        Data::Struct(data) => Box::new(data.fields.iter_mut()),
        Data::Enum(data) => Box::new(data.variants.iter_mut().flat_map(|v| v.fields.iter_mut())),
        Data::Union(data) => Box::new(data.fields.named.iter_mut()),
    }
}

/// What rkyv's derives need to know about a recursive message. They would ask that each field can
/// be serialised, which for a recursive field comes back to the question that they are answering;
/// so those fields say nothing (`omit_bounds`), and this says what a `Vec`, a `Box` and the other
/// parts of such fields need.
fn recursion_bounds(message: &Message<'_>) -> Attribute {
    let leaves = leaves(message.fields().filter(|field| field.shape.is_recursive()));
    let rkyv = quote! { ::ringcall::rkyv };
    parse_quote! {
        #[rkyv(
            serialize_bounds(
                __S: #rkyv::ser::Writer + #rkyv::ser::Allocator,
                <__S as #rkyv::rancor::Fallible>::Error: #rkyv::rancor::Source,
                #(#leaves: #rkyv::Serialize<__S>,)*
            ),
            deserialize_bounds(
                <__D as #rkyv::rancor::Fallible>::Error: #rkyv::rancor::Source,
                #(<#leaves as #rkyv::Archive>::Archived: #rkyv::Deserialize<#leaves, __D>,)*
            ),
            bytecheck(bounds(
                __C: #rkyv::validation::ArchiveContext,
                <__C as #rkyv::rancor::Fallible>::Error: #rkyv::rancor::Source,
                #(<#leaves as #rkyv::Archive>::Archived: #rkyv::bytecheck::CheckBytes<__C>,)*
            ))
        )]
    }
}

/// The types that `fields` consist of, apart from the message itself.
fn leaves<'m, 'i: 'm>(fields: impl Iterator<Item = &'m Field<'i>>) -> Vec<&'i Type> {
    let mut leaves = Vec::new();
    for field in fields {
        field.shape.leaves(&mut leaves);
    }
    leaves
}

fn has_vec(field: &Field<'_>) -> bool {
    struct Search(bool);
    impl<'ast> Visit<'ast> for Search {
        fn visit_ident(&mut self, ident: &'ast Ident) {
            self.0 |= ident == "Vec";
        }
    }
    let mut search = Search(false);
    search.visit_type(field.ty);
    search.0
}
