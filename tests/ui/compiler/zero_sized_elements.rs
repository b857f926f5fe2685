#[ringcall::message]
struct Nothing;

#[ringcall::message]
struct Many {
    list: Vec<Nothing>,
}
fn main() {}
