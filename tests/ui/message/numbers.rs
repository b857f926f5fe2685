const FIVE: isize = 5;

#[ringcall::message]
enum Named {
    Five = FIVE,
}

#[ringcall::message]
enum Negative {
    Below = -1,
}

#[ringcall::message]
enum TooLarge {
    Large = 256,
}

#[ringcall::message]
enum Overflow {
    Last = 255,
    Next,
}
fn main() {}
