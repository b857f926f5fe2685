use std::rc::Rc;

#[ringcall::message]
struct Shared {
    count: u64,
    value: Rc<u64>,
}
fn main() {}
