#[ringcall::message]
struct Page<T> {
    items: Vec<T>,
}

#[ringcall::message]
struct Borrowed<'a> {
    key: std::borrow::Cow<'a, str>,
}

#[ringcall::message]
struct Checked
where
    String: Clone,
{
    key: String,
}
fn main() {}
