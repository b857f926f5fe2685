struct Level {
    price: u64,
}

#[ringcall::message]
struct Book {
    best: Level,
}
fn main() {}
