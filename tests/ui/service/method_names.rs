#[ringcall::service(name = "kv.v1")]
trait Kv {
    async fn new();
    async fn connect(target: String);
    async fn connect_blocking();
    async fn get(key: String);
    async fn get(key: u64);
}

fn main() {}
