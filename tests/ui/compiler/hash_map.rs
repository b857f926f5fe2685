use std::collections::HashMap;

#[ringcall::message]
enum Index {
    Empty,
    Full { entries: HashMap<String, u64> },
}
fn main() {}
