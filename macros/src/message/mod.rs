//! `#[ringcall::message]`: reads the item, refuses what can't travel, expands the rest.

mod attributes;

mod expand;
mod extents;
mod fingerprint;
mod shape;

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::visit_mut::VisitMut;
use syn::{Data, DataEnum, DeriveInput, Expr, ExprLit, Fields, Generics, Ident, Lit, Type};

use crate::errors::Errors;
use crate::wire;
use shape::Shape;

/// What the attribute turns into.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    if !arguments.is_empty() {
        errors.at(
            &arguments,
            "#[ringcall::message] takes no arguments: remove them",
        );
    }
    let mut item: DeriveInput = match syn::parse2(item) {
        Ok(item) => item,
        Err(error) => {
            let only = "#[ringcall::message] goes on a struct or an enum";
            errors.push(syn::Error::new(error.span(), format!("{only}: {error}")));
            return errors.into_compile_errors();
        }
    };
    NameSelf(item.ident.clone()).visit_data_mut(&mut item.data);
    let message = Message::of(&item, &mut errors);
    match errors.or(message) {
        Ok(message) => expand::message(&item, &message),
        Err(errors) => errors.into_compile_errors(),
    }
}

/// Writes the message's name for `Self`, which would mean another type in what rkyv derives.
struct NameSelf(Ident);

impl VisitMut for NameSelf {
    fn visit_ident_mut(&mut self, ident: &mut Ident) {
        if ident == "Self" {
            let span = ident.span();
            ident.clone_from(&self.0);
            ident.set_span(span);
        }
    }
}

/// A message, as far as the expansion cares.
struct Message<'i> {
    ident: &'i Ident,
    content: Content<'i>,
    /// Whether its archived form gets a derived `Debug`.
    archived_debug: bool,
}

enum Content<'i> {
    Struct(Vec<Field<'i>>),
    Enum(Vec<Variant<'i>>),
}

struct Variant<'i> {
    ident: &'i Ident,
    /// What stands for it in the archive.
    number: u8,
    fields: Vec<Field<'i>>,
}

struct Field<'i> {
    /// Its name, or its index in a tuple.
    name: String,
    ident: Option<&'i Ident>,
    index: u32,
    ty: &'i Type,
    shape: Shape<'i>,
}

impl<'i> Message<'i> {
    fn of(item: &'i DeriveInput, errors: &mut Errors) -> Self {
        refuse_generics(&item.generics, errors);
        let archived_debug = attributes::check_item(&item.attrs, errors);
        let content = match &item.data {
            Data::Struct(data) => Content::Struct(fields(&data.fields, &item.ident, errors)),
            Data::Enum(data) => Content::Enum(variants(data, &item.ident, errors)),
            Data::Union(data) => {
                errors.at(
                    data.union_token,
                    "a union doesn't say which of its fields is meant: use an enum",
                );
                Content::Struct(Vec::new())
            }
        };
        Self {
            ident: &item.ident,
            content,
            archived_debug,
        }
    }

    fn fields(&self) -> impl Iterator<Item = &Field<'i>> {
        let (fields, variants) = match &self.content {
            Content::Struct(fields) => (fields.as_slice(), [].as_slice()),
            Content::Enum(variants) => ([].as_slice(), variants.as_slice()),
        };
        fields
            .iter()
            .chain(variants.iter().flat_map(|variant| &variant.fields))
    }
}

fn refuse_generics(generics: &Generics, errors: &mut Errors) {
    if !generics.params.is_empty() {
        errors.at(
            generics,
            "a message has one layout, which both ends know: write one message per type instead of a generic one, and own the parts instead of borrowing them",
        );
    }
    if let Some(clause) = &generics.where_clause {
        errors.at(
            clause,
            "remove the `where` clause: a message has no generics",
        );
    }
}

fn fields<'i>(fields: &'i Fields, own: &Ident, errors: &mut Errors) -> Vec<Field<'i>> {
    let read = |(index, field): (usize, &'i syn::Field)| {
        attributes::check_part(&field.attrs, errors);
        wire::refuse_by_looks(&field.ty, errors);
        let name = match &field.ident {
            Some(ident) => ident.unraw().to_string(),
            None => index.to_string(),
        };
        Field {
            name,
            ident: field.ident.as_ref(),
            index: index as u32,
            ty: &field.ty,
            shape: Shape::of(&field.ty, own, errors),
        }
    };
    fields.iter().enumerate().map(read).collect()
}

fn variants<'i>(item: &'i DataEnum, own: &Ident, errors: &mut Errors) -> Vec<Variant<'i>> {
    if item.variants.is_empty() {
        errors.at(
            own,
            "no value of an enum without variants can be sent: give it a variant",
        );
    }
    let mut next_number = Some(0_u8);
    let mut read = |variant: &'i syn::Variant| {
        attributes::check_part(&variant.attrs, errors);
        let number = match &variant.discriminant {
            Some((_, value)) => literal(value, errors),
            None => next_number.or_else(|| {
                errors.at(
                    &variant.ident,
                    "the number of a variant travels as one byte: use at most 256 variants, numbered 0 to 255",
                );
                None
            }),
        };
        next_number = number.and_then(|number| number.checked_add(1));
        Variant {
            ident: &variant.ident,
            number: number.unwrap_or_default(),
            fields: fields(&variant.fields, own, errors),
        }
    };
    item.variants.iter().map(&mut read).collect()
}

/// A variant's number, which is part of what the fingerprint says and so must be known here.
fn literal(value: &Expr, errors: &mut Errors) -> Option<u8> {
    if let Expr::Lit(ExprLit {
        lit: Lit::Int(literal),
        ..
    }) = value
        && let Ok(number) = literal.base10_parse()
    {
        return Some(number);
    }
    errors.at(
        value,
        "the number of a variant travels as one byte: write it as a literal from 0 to 255, or leave it out",
    );
    None
}
