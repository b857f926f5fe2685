#[ringcall::message]
#[rkyv(archived = Renamed)]
struct Put {
    key: String,
}

#[ringcall::message]
#[rkyv(attr(repr(packed)))]
struct Packed {
    key: u64,
}

#[ringcall::message]
struct With {
    #[rkyv(with = ringcall::rkyv::with::Skip)]
    key: String,
    #[cfg_attr(all(), rkyv(niche))]
    value: u8,
}

#[ringcall::message]
enum Event {
    #[rkyv(other)]
    Other,
}

#[ringcall::message]
#[derive(Clone, ringcall::rkyv::Archive)]
struct Twice {
    key: String,
}
fn main() {}
