//! The attributes that an author may put on a message and its parts.

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Path};

use crate::errors::Errors;

/// Checks the attributes of the item itself. Tells whether its archived form should have `Debug`
/// from us: when the author derives `Debug` for the message, and not already for the archived form.
pub(crate) fn check_item(attrs: &[Attribute], errors: &mut Errors) -> bool {
    let (mut derives_debug, mut archived_has_debug) = (false, false);
    for attr in attrs {
        if attr.path().is_ident("derive") {
            let parsed = attr.parse_nested_meta(|meta| {
                derives_debug |= ends_in(&meta.path, "Debug");
                if ends_in(&meta.path, "Archive") {
                    errors.at(&meta.path, "remove this derive: #[ringcall::message] derives rkyv's Archive, Serialize and Deserialize itself");
                }
                Ok(())
            });
            note(parsed, errors);
        } else if attr.path().is_ident("rkyv") {
            let parsed = attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("derive") {
                    return meta.parse_nested_meta(|derive| {
                        archived_has_debug |= ends_in(&derive.path, "Debug");
                        Ok(())
                    });
                }
                if meta.path.is_ident("compare") {
                    return meta.parse_nested_meta(|_| Ok(()));
                }
                Err(syn::Error::new_spanned(&meta.path, RKYV_ON_ITEM))
            });
            note(parsed, errors);
        }
    }
    derives_debug && !archived_has_debug
}

/// Checks the attributes of a field or a variant.
pub(crate) fn check_part(attrs: &[Attribute], errors: &mut Errors) {
    for attr in attrs {
        let is = |name| attr.path().is_ident(name);
        if is("rkyv") || (is("cfg_attr") && mentions(attr, "rkyv")) {
            errors.at(attr, RKYV_ON_PART);
        } else if is("cfg") || (is("cfg_attr") && mentions(attr, "cfg")) {
            errors.at(
                attr,
                "a part that some builds lack makes them disagree on the bytes: move the #[cfg] to the whole message, or make the field an `Option`",
            );
        }
    }
}

const RKYV_ON_ITEM: &str = "remove this: #[ringcall::message] decides the layout, and leaves only #[rkyv(derive(...))] and #[rkyv(compare(...))] to you";
const RKYV_ON_PART: &str =
    "remove this: #[ringcall::message] decides the layout, and it is the same for every peer";

fn note(parsed: syn::Result<()>, errors: &mut Errors) {
    if let Err(error) = parsed {
        errors.push(error);
    }
}

fn ends_in(path: &Path, name: &str) -> bool {
    path.segments
        .last()
        .is_some_and(|segment| segment.ident == name)
}

/// Whether the word stands anywhere in the attribute's arguments.
fn mentions(attr: &Attribute, word: &str) -> bool {
    attr.meta
        .require_list()
        .is_ok_and(|list| contains_word(list.tokens.clone(), word))
}

fn contains_word(tokens: TokenStream, word: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => contains_word(group.stream(), word),
        _ => false,
    })
}
