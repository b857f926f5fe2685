#[ringcall::message]
struct Direct {
    next: Direct,
}

#[ringcall::message]
struct Optional {
    next: Option<Self>,
}

#[ringcall::message]
struct Mapped {
    children: std::collections::BTreeMap<String, Mapped>,
}

#[ringcall::message]
struct Fixed {
    children: Box<[Fixed; 2]>,
}
fn main() {}
