#[ringcall::service(name = "kv.v1")]
trait Kv {
    async fn receiver(&self, key: String);
    async fn owned(self);
    fn blocking(key: String);
    async fn two(key: String, value: Vec<u8>);
    async fn tuple((key, value): (String, u8));
    async fn unnamed(_: u8);
    async fn mutable(mut key: String);
    async fn generic<T>(key: T);
    async fn lifetime<'a>(key: u8);
    async fn checked(key: String)
    where
        String: Clone;
    async fn body(key: String) {}
    async unsafe fn dangerous();
    #[cfg(debug_assertions)]
    async fn sometimes();
    #[idempotent(always)]
    async fn arguments();
    async fn attribute(#[allow(unused)] key: String);
}

fn main() {}
