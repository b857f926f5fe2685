//! What the crate reads as a type is exactly what the document says, and survives a round trip.

use ringcall::__private::{AlignedBuf, access, encode};
use ringcall::rkyv::Deserialize;
use ringcall::rkyv::rancor::{Failure, Strategy};
use ringcall::{Message, rkyv};

use crate::validator::{Part, Type, is_valid};

/// A message, and its type as the document has it.
macro_rules! messages {
    ($($item:item = $part:ident: $type:expr;)*) => {
        $(#[ringcall::message]
        #[derive(Clone, Debug, PartialEq)]
        $item

        fn $part() -> Type {
            $type
        })*
    };
}

messages! {
    pub struct Operands { pub a: i64, pub b: i64 } = operands: Type::Struct(&[u64_, u64_]);
    pub struct Put { pub key: String, pub value: Vec<u8> } = put: Type::Struct(&[string, bytes]);
    pub struct Stats {
        pub engine: String,
        pub features: Vec<String>,
        pub shard: u32,
        pub cpu: Option<u32>,
        pub requests: u64,
    } = stats: Type::Struct(&[string, strings, u32_, || Type::Option(u32_), u64_]);
    pub struct Tree { pub label: String, pub children: Vec<Tree> }
        = tree: Type::Struct(&[string, || Type::Vec(tree)]);
    pub enum Term {
        Sum(Vec<Term>),
        Number(i64),
        Negative(Box<Term>),
        Pair(Option<Box<Term>>, char),
    } = term: Type::Enum(&[
        &[|| Type::Vec(term)],
        &[u64_],
        &[|| Type::Boxed(term)],
        &[|| Type::Option(|| Type::Boxed(term)), || Type::Char],
    ]);
    pub enum Shape { Point, Circle { radius: i64 }, Label(u8, String), Wide(u128, bool) }
        = shape: Type::Enum(&[&[], &[u64_], &[u8_, string], &[u128_, bool_]]);
    pub struct Boxes {
        pub small: Box<u8>,
        pub wide: Option<Box<(u128, [Box<u16>; 2])>>,
        pub nothing: Box<()>,
    } = boxes: Type::Struct(&[
        || Type::Boxed(u8_),
        || Type::Option(|| Type::Boxed(|| {
            Type::Struct(&[u128_, || Type::Array(|| Type::Boxed(u16_), 2)])
        })),
        || Type::Boxed(unit),
    ]);
    pub struct Zoo {
        pub flag: bool,
        pub wide: u128,
        pub letter: char,
        pub maybe: Option<Option<bool>>,
        pub three: [String; 3],
        pub pair: (u8, Vec<Vec<u16>>),
        pub boxed: Box<(bool, Vec<Shape>)>,
        pub none: [u64; 0],
        pub perhaps: Option<()>,
        pub nothing: Box<()>,
    } = zoo: Type::Struct(&[
        bool_,
        u128_,
        || Type::Char,
        || Type::Option(|| Type::Option(bool_)),
        || Type::Array(string, 3),
        || Type::Struct(&[u8_, || Type::Vec(|| Type::Vec(u16_))]),
        || Type::Boxed(|| Type::Struct(&[bool_, || Type::Vec(shape)])),
        || Type::Array(u64_, 0),
        || Type::Option(unit),
        || Type::Boxed(unit),
    ]);
}

fn unit() -> Type {
    Type::Number(0)
}
fn u8_() -> Type {
    Type::Number(1)
}
fn u16_() -> Type {
    Type::Number(2)
}
fn u32_() -> Type {
    Type::Number(4)
}
fn u64_() -> Type {
    Type::Number(8)
}
fn u128_() -> Type {
    Type::Number(16)
}
fn bool_() -> Type {
    Type::Bool
}
fn string() -> Type {
    Type::String
}
fn strings() -> Type {
    Type::Vec(string)
}
fn bytes() -> Type {
    Type::Vec(u8_)
}

/// The types, by the first byte of a case; the seeds name them by it too.
macro_rules! cases {
    ($($name:literal: $type:ty = $part:expr;)*) => {
        /// The first byte of a case that stands for a type.
        pub fn case_of(type_name: &str) -> Option<u8> {
            [$($name),*].iter().position(|name| *name == type_name).map(|at| at as u8)
        }

        pub fn run(data: &[u8]) {
            let Some((&case, payload)) = data.split_first() else {
                return;
            };
            let checks: &[fn(&[u8])] = &[$(|payload| check::<$type>($part, payload)),*];
            checks[usize::from(case) % checks.len()](payload);
        }
    };
}

cases! {
    "()": () = unit;
    "bool": bool = bool_;
    "char": char = || Type::Char;
    "u32": u32 = u32_;
    "String": String = string;
    "Vec<u8>": Vec<u8> = bytes;
    "Vec<f64>": Vec<f64> = || Type::Vec(u64_);
    "Vec<String>": Vec<String> = strings;
    "Vec<Vec<u16>>": Vec<Vec<u16>> = || Type::Vec(|| Type::Vec(u16_));
    "(String,Vec<u64>)": (String, Vec<u64>) = || Type::Struct(&[string, || Type::Vec(u64_)]);
    "Option<u32>": Option<u32> = || Type::Option(u32_);
    "Option<Vec<u8>>": Option<Vec<u8>> = || Type::Option(bytes);
    "Box<u32>": Box<u32> = || Type::Boxed(u32_);
    "[u16;3]": [u16; 3] = || Type::Array(u16_, 3);
    "Operands": Operands = operands;
    "Put": Put = put;
    "Stats": Stats = stats;
    "Tree": Tree = tree;
    "Term": Term = term;
    "Shape": Shape = shape;
    "Vec<Shape>": Vec<Shape> = || Type::Vec(shape);
    "Boxes": Boxes = boxes;
    "Zoo": Zoo = zoo;
}

fn check<T: Message + PartialEq + std::fmt::Debug>(of: Part, payload: &[u8]) {
    let received = AlignedBuf::copy_of(payload);
    let archived = access::<T>(received.as_slice());
    let expected = is_valid(of, payload);
    assert_eq!(
        archived.is_some(),
        expected,
        "the document says {expected}: {payload:02x?}"
    );
    let Some(archived) = archived else { return };
    let value = owned::<T>(archived);
    let mut out = Vec::new();
    encode::<T>(&value, &mut out).expect("what was received may be sent");
    assert!(is_valid(of, &out), "own payload: {out:02x?}");
    let sent = AlignedBuf::copy_of(&out);
    let again = access::<T>(sent.as_slice()).expect("what was sent can be read");
    // Not by `==`: a number may be none.
    assert_eq!(format!("{:?}", owned::<T>(again)), format!("{value:?}"));
}

fn owned<T: Message>(archived: &rkyv::Archived<T>) -> T {
    let mut reader = ();
    archived
        .deserialize(Strategy::<(), Failure>::wrap(&mut reader))
        .expect("valid")
}
