#[ringcall::message]
struct Text {
    text: &str,
}

#[ringcall::message]
struct Nested {
    list: Vec<Option<&'static [u8]>>,
}

#[ringcall::message]
struct Slice {
    bytes: Box<[u8]>,
}

#[ringcall::message]
struct Object {
    handler: Box<dyn Send>,
}

#[ringcall::message]
struct Addresses {
    pointer: *const u8,
    function: fn(&str) -> u8,
}

#[ringcall::message]
enum Event {
    Opaque(impl Clone),
}
fn main() {}
