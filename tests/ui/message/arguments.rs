#[ringcall::message(version = 2)]
struct Put {
    key: String,
}
fn main() {}
