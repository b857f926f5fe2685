#[ringcall::message]
struct Put {
    #[cfg(debug_assertions)]
    trace: String,
    key: String,
}

#[ringcall::message]
enum Event {
    Idle,
    #[cfg(debug_assertions)]
    Trace,
}
fn main() {}
