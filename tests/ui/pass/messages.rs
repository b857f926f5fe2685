//! Every form that a message can take compiles, without a warning.
#![deny(warnings, missing_docs, unreachable_pub, unsafe_code, missing_debug_implementations)]

use ringcall::rkyv::Archived;

/// Named fields, with a keyword among their names.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// A keyword.
    pub r#type: u8,
    /// Text.
    pub symbol: String,
    /// Parts of other messages.
    pub levels: Vec<Level>,
    side: Option<Side>,
    matrix: [[f64; 2]; 2],
    pair: (u16, Box<i128>),
}

/// A tuple struct, comparable in place.
#[ringcall::message]
#[rkyv(compare(PartialEq), derive(PartialEq))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(pub u64, u32);

/// A unit struct.
#[ringcall::message]
#[derive(Debug, Default)]
pub struct Nothing;

/// Numbers of its own.
#[ringcall::message]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Side {
    /// First.
    #[default]
    Buy = 1,
    /// Second.
    Sell,
}

/// Every kind of variant.
#[ringcall::message]
#[rkyv(compare(PartialEq), derive(PartialEq))]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// No fields.
    Idle,
    /// One.
    Filled(u64),
    /// Two.
    Rejected(String, Level),
}

/// Recursive.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Through Vec.
    pub children: Vec<Node>,
    /// Through Option and Box.
    pub next: Option<Box<Self>>,
    /// Not recursive.
    pub event: Event,
}

/// A recursive enum, through tuples too.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// null
    Null,
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
    /// [..]
    List(Vec<Json>),
    /// {..}
    Object(Vec<(String, Json)>),
    /// Tagged.
    Tagged(Level, Box<(Level, Option<Json>)>),
}

mod private {
    // Not documented, as nothing outside can see it.
    #[ringcall::message]
    #[derive(Debug)]
    pub(crate) enum Named {
        Rejected { reason: String, code: u16 },
        Nested { inner: Box<Named>, list: Vec<super::Event> },
    }

    #[ringcall::message]
    struct Hidden {
        field: u8,
    }

    pub(super) fn hidden() -> u64 {
        let hidden = Hidden { field: 1 };
        <Hidden as ringcall::Message>::FINGERPRINT + u64::from(hidden.field)
    }
}

macro_rules! made_by_a_macro {
    ($name:ident: $ty:ty) => {
        #[ringcall::message]
        #[derive(Debug)]
        struct $name {
            value: $ty,
            list: Vec<$ty>,
            next: Option<Box<$name>>,
        }
    };
}
made_by_a_macro!(Made: Option<Level>);

fn debug<T: std::fmt::Debug>() {}

fn main() {
    debug::<Archived<Order>>();
    debug::<Archived<Json>>();
    let made = Made { value: None, list: vec![None], next: None };
    assert!(made.value == made.list[0] && made.next.is_none());
    debug::<Archived<private::Named>>();
    drop(private::Named::Rejected { reason: String::new(), code: 1 });
    let inner = Box::new(private::Named::Rejected { reason: String::new(), code: 1 });
    drop(private::Named::Nested { inner, list: vec![Event::Idle] });
    assert!(private::hidden() != 0);
}
