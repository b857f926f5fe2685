#[ringcall::message]
struct Counter(usize);
fn main() {}
