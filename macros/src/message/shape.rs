//! Where a type mentions the message that it is a part of, such as `Vec<Node>` inside `Node`.
//!
//! A derive can't ask the compiler whether `Vec<Node>` may travel while it defines `Node`: the
//! question would come back to itself. So the macro takes the type apart itself.

use syn::visit::{self, Visit};
use syn::{GenericArgument, Ident, Path, PathArguments, Type};

use crate::errors::Errors;

/// A type, taken apart as far as it mentions the message being defined.
pub(crate) enum Shape<'t> {
    /// Doesn't mention it.
    Other(&'t Type),
    /// The message being defined.
    Own,
    /// A `Vec`, an `Option` or a `Box` of something that mentions it.
    Around(Container, Box<Shape<'t>>),
    /// A tuple of which some element mentions it.
    Tuple(Vec<Shape<'t>>),
}

/// A generic type that recursion may go through.
#[derive(Clone, Copy)]
pub(crate) enum Container {
    Vec,
    Option,
    Box,
}

impl<'t> Shape<'t> {
    /// Takes `ty` apart, a field of the message `own`.
    pub(crate) fn of(ty: &'t Type, own: &Ident, errors: &mut Errors) -> Self {
        Parser { own, errors }.shape(ty, false)
    }

    /// Whether it mentions the message being defined.
    pub(crate) fn is_recursive(&self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Adds the parts that don't mention the message being defined to `leaves`.
    pub(crate) fn leaves(&self, leaves: &mut Vec<&'t Type>) {
        match self {
            Self::Other(ty) => leaves.push(ty),
            Self::Own => (),
            Self::Around(_, inner) => inner.leaves(leaves),
            Self::Tuple(elements) => {
                for element in elements {
                    element.leaves(leaves);
                }
            }
        }
    }
}

struct Parser<'p> {
    own: &'p Ident,
    errors: &'p mut Errors,
}

impl Parser<'_> {
    /// `in_heap`: something between the field and here puts its content elsewhere, so that the
    /// message has a finite size.
    fn shape<'t>(&mut self, ty: &'t Type, in_heap: bool) -> Shape<'t> {
        if !mentions(ty, self.own) {
            return Shape::Other(ty);
        }
        match ty {
            Type::Paren(inner) => return self.shape(&inner.elem, in_heap),
            Type::Group(inner) => return self.shape(&inner.elem, in_heap),
            Type::Tuple(tuple) => {
                let elements = tuple.elems.iter();
                return Shape::Tuple(elements.map(|ty| self.shape(ty, in_heap)).collect());
            }
            Type::Path(path) if is_own(&path.path, self.own) => {
                if !in_heap {
                    let own = self.own;
                    self.errors.at(
                        ty,
                        format!("a message can't contain itself directly, it would have no end: use `Box<{own}>`, `Option<Box<{own}>>` or `Vec<{own}>`"),
                    );
                }
                return Shape::Own;
            }
            Type::Path(path) => {
                if let Some((container, inner)) = container(&path.path) {
                    let in_heap = in_heap || !matches!(container, Container::Option);
                    return Shape::Around(container, Box::new(self.shape(inner, in_heap)));
                }
            }
            _ => (),
        }
        self.errors.at(
            ty,
            "a message can contain itself only through Vec, Option, Box and tuples of them",
        );
        Shape::Other(ty)
    }
}

/// `Vec<T>`, `Option<T>` or `Box<T>`, by whatever path.
fn container(path: &Path) -> Option<(Container, &Type)> {
    let last = path.segments.last()?;
    let container = match last.ident.to_string().as_str() {
        "Vec" => Container::Vec,
        "Option" => Container::Option,
        "Box" => Container::Box,
        _ => return None,
    };
    match &last.arguments {
        PathArguments::AngleBracketed(arguments) => match arguments.args.first()? {
            GenericArgument::Type(inner) if arguments.args.len() == 1 => Some((container, inner)),
            _ => None,
        },
        _ => None,
    }
}

fn mentions(ty: &Type, own: &Ident) -> bool {
    struct Search<'s> {
        own: &'s Ident,
        found: bool,
    }
    impl<'ast> Visit<'ast> for Search<'_> {
        fn visit_path(&mut self, path: &'ast Path) {
            self.found |= is_own(path, self.own);
            visit::visit_path(self, path);
        }
    }
    let mut search = Search { own, found: false };
    search.visit_type(ty);
    search.found
}

/// `Node` or `self::Node`. A `v1::Node` is another module's type.
fn is_own(path: &Path, own: &Ident) -> bool {
    let mut names = path.segments.iter().map(|segment| &segment.ident);
    match (names.next(), names.next(), names.next()) {
        (Some(name), None, None) => name == own,
        (Some(module), Some(name), None) => module == "self" && name == own,
        _ => false,
    }
}
