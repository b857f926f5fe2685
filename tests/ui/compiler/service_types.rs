#[ringcall::service(name = "kv.v1")]
trait Kv {
    async fn get(key: usize) -> u8;
}

fn main() {}
