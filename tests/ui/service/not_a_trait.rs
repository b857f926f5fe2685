#[ringcall::service(name = "kv.v1")]
struct Kv;

fn main() {}
