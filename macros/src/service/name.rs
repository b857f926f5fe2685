//! The names that peers call a service and its methods by.

use syn::LitStr;
use syn::parse::Parser;

use crate::errors::Errors;

/// The service's name, from the attribute's arguments.
pub(crate) fn from_arguments(
    arguments: proc_macro2::TokenStream,
    errors: &mut Errors,
) -> Option<String> {
    if arguments.is_empty() {
        errors.push(syn::Error::new(proc_macro2::Span::call_site(), MISSING));
        return None;
    }
    let mut name = None;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("name") {
            return Err(
                meta.error("unknown argument: #[ringcall::service] takes only `name = \"...\"`")
            );
        }
        let value: LitStr = meta.value()?.parse()?;
        if name.replace(value).is_some() {
            return Err(meta.error("a service has one name: remove the other"));
        }
        Ok(())
    });
    if let Err(error) = parser.parse2(arguments) {
        errors.push(error);
        return None;
    }
    let name = name?;
    if let Some(complaint) = complaint(&name.value()) {
        errors.at(&name, complaint);
        return None;
    }
    Some(name.value())
}

/// What is wrong with a service's own name.
fn complaint(name: &str) -> Option<&'static str> {
    let permitted = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Some(MISSING)
    } else if !name.chars().all(permitted) {
        Some("a service's name consists of ASCII letters, digits, `.`, `_` and `-`")
    } else if name.len() > FULL_NAME_BYTES_MAX {
        Some("this name is too long: with a slash and a method's name it must fit into 255 bytes")
    } else {
        None
    }
}

/// The full name of a method, or what is wrong with it.
pub(crate) fn of_method(service: &str, method: &str) -> Result<String, String> {
    if !method.is_ascii() {
        return Err("the names that peers exchange are ASCII: rename the method".into());
    }
    let full = format!("{service}/{method}");
    if full.len() > FULL_NAME_BYTES_MAX {
        return Err(format!(
            "`service/method` must fit into 255 bytes, and this one has {}: shorten one of the names",
            full.len()
        ));
    }
    Ok(full)
}

const MISSING: &str =
    "a service needs a name that both ends know it by: #[ringcall::service(name = \"kv.v1\")]";

/// `METHOD_NAME_BYTES_MAX` of the protocol.
const FULL_NAME_BYTES_MAX: usize = 255;
