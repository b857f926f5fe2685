//! Messages made by the macro: they survive a round trip, and their fingerprints are as documented.

use ringcall::__private::{Fingerprint, SELF};
use ringcall::Message;
use ringcall::rkyv::rancor::Error;
use ringcall::rkyv::{Archived, access, from_bytes, to_bytes};

#[ringcall::message]
#[rkyv(compare(PartialEq))]
#[derive(Clone, Debug, PartialEq)]
struct Order {
    r#type: u8,
    symbol: String,
    levels: Vec<Level>,
    side: Option<Side>,
    matrix: [[f64; 2]; 2],
}

#[ringcall::message]
#[rkyv(compare(PartialEq))]
#[derive(Clone, Debug, PartialEq)]
struct Level(u64, u32);

#[ringcall::message]
#[rkyv(compare(PartialEq))]
#[derive(Clone, Debug, PartialEq)]
enum Side {
    Buy,
    Sell,
}

#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
struct Node {
    children: Vec<Node>,
    next: Option<Box<Self>>,
    label: String,
}

#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Null,
    Text(String),
    Number { value: f64, unit: Option<Side> },
    List(Vec<Json>),
    Object(Vec<(String, Level, Json)>),
}

#[ringcall::message]
#[derive(Debug, PartialEq)]
struct Nothing;

fn order() -> Order {
    Order {
        r#type: 1,
        symbol: "a symbol of more than eight bytes".into(),
        levels: vec![Level(1, 2), Level(u64::MAX, u32::MAX)],
        side: Some(Side::Sell),
        matrix: [[1.0, 2.0], [3.0, f64::INFINITY]],
    }
}

fn node(label: &str, children: Vec<Node>) -> Node {
    Node {
        next: children.first().cloned().map(Box::new),
        children,
        label: label.to_owned(),
    }
}

fn json() -> Json {
    Json::Object(vec![
        ("null".to_owned(), Level(0, 0), Json::Null),
        (
            "list".to_owned(),
            Level(1, 1),
            Json::List(vec![
                Json::Text("a text that is not stored inline".to_owned()),
                Json::Number {
                    value: -0.5,
                    unit: Some(Side::Buy),
                },
            ]),
        ),
    ])
}

/// A macro, because the bounds of such a function would be longer than all the tests.
macro_rules! assert_round_trip {
    ($type:ty, $value:expr) => {{
        let value: $type = $value;
        let bytes = to_bytes::<Error>(&value).expect("serialises");
        assert_eq!(from_bytes::<$type, Error>(&bytes).expect("valid"), value);
    }};
}

#[test]
fn messages_survive_a_round_trip() {
    assert_round_trip!(Order, order());
    assert_round_trip!(Json, json());
    assert_round_trip!(Nothing, Nothing);
    let leaves = vec![node("leaf", vec![]), node("", vec![])];
    assert_round_trip!(Node, node("root", leaves));
}

#[test]
fn archived_messages_compare_and_print() {
    let bytes = to_bytes::<Error>(&order()).expect("serialises");
    let archived = access::<Archived<Order>, Error>(&bytes).expect("valid");
    assert_eq!(*archived, order());
    assert!(format!("{archived:?}").contains("more than eight bytes"));
}

#[test]
fn damaged_variants_are_refused() {
    let mut bytes = to_bytes::<Error>(&Side::Sell).expect("serialises");
    bytes[0] = 2;
    assert!(access::<Archived<Side>, Error>(&bytes).is_err());
}

fn fields(names_and_parts: &[(&str, u64)]) -> u64 {
    let start = Fingerprint::tag("struct");
    let add = |all: Fingerprint, &(name, part): &(&str, u64)| all.name(name).part(part);
    names_and_parts.iter().fold(start, add).finish()
}

#[test]
fn fingerprints_are_as_documented() {
    assert_eq!(
        Order::FINGERPRINT,
        fields(&[
            ("type", u8::FINGERPRINT),
            ("symbol", String::FINGERPRINT),
            ("levels", <Vec<Level>>::FINGERPRINT),
            ("side", <Option<Side>>::FINGERPRINT),
            ("matrix", <[[f64; 2]; 2]>::FINGERPRINT),
        ])
    );
    assert_eq!(
        Level::FINGERPRINT,
        fields(&[("0", u64::FINGERPRINT), ("1", u32::FINGERPRINT)])
    );
    assert_eq!(Nothing::FINGERPRINT, fields(&[]));
    let side = Fingerprint::tag("enum").name("Buy").part(fields(&[]));
    let side = side.name("Sell").part(fields(&[]));
    assert_eq!(Side::FINGERPRINT, side.finish());
}

#[test]
fn a_recursive_fingerprint_names_itself() {
    let list = Fingerprint::tag("vec").part(SELF).finish();
    let boxed = Fingerprint::tag("box").part(SELF).finish();
    let next = Fingerprint::tag("option").part(boxed).finish();
    let parts = [
        ("children", list),
        ("next", next),
        ("label", String::FINGERPRINT),
    ];
    assert_eq!(Node::FINGERPRINT, fields(&parts));

    let entry = Fingerprint::tag("tuple").part(String::FINGERPRINT);
    let entry = entry.part(Level::FINGERPRINT).part(SELF).finish();
    let object = Fingerprint::tag("vec").part(entry).finish();
    let number = fields(&[
        ("value", f64::FINGERPRINT),
        ("unit", <Option<Side>>::FINGERPRINT),
    ]);
    let json = Fingerprint::tag("enum")
        .name("Null")
        .part(fields(&[]))
        .name("Text")
        .part(fields(&[("0", String::FINGERPRINT)]))
        .name("Number")
        .part(number)
        .name("List")
        .part(fields(&[("0", list)]))
        .name("Object")
        .part(fields(&[("0", object)]));
    assert_eq!(Json::FINGERPRINT, json.finish());
}

#[test]
fn numbers_of_variants_count_where_they_are_not_their_positions() {
    #[ringcall::message]
    #[derive(Debug)]
    enum Plain {
        Buy,
        Sell,
    }
    #[ringcall::message]
    #[derive(Debug)]
    enum Same {
        Buy = 0,
        Sell = 1,
    }
    #[ringcall::message]
    #[derive(Debug)]
    enum Shifted {
        Buy = 1,
        Sell,
    }
    let sent = [Plain::Buy, Plain::Sell].len() + [Same::Buy, Same::Sell].len();
    assert_eq!(sent, 2 * [Shifted::Buy, Shifted::Sell].len());
    assert_eq!(Plain::FINGERPRINT, Same::FINGERPRINT);
    let shifted = Fingerprint::tag("enum").name("Buy").name("=1");
    let shifted = shifted.part(fields(&[])).name("Sell").name("=2");
    assert_eq!(Shifted::FINGERPRINT, shifted.part(fields(&[])).finish());
    assert_eq!(to_bytes::<Error>(&Shifted::Sell).expect("serialises")[0], 2);
}
