#[ringcall::service(name = "kv.v1")]
trait Kv {
    async fn result(key: String) -> Result<u8, String>;
    async fn io_result() -> std::io::Result<u8>;
    async fn watch(prefix: String) -> Stream<u8>;
    async fn upload(parts: ringcall::Stream<u8>);
    async fn borrowed(key: &str) -> Option<&'static [u8]>;
    async fn opaque(key: impl AsRef<str>) -> impl Clone;
    async fn object(key: Box<dyn Send>);
    async fn own(key: Vec<Self>);
}

fn main() {}
