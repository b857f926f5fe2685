#[ringcall::service(name = "kv.v1")]
trait Generic<T> {
    async fn get(key: T);
}

#[ringcall::service(name = "kv.v1")]
trait Checked
where
    String: Clone,
{
    async fn get(key: String);
}

#[ringcall::service(name = "kv.v1")]
trait Super: Send + Sync {
    async fn get(key: String);
}

#[ringcall::service(name = "kv.v1")]
#[allow(unused)]
unsafe trait Words {
    async fn get(key: String);
}

#[ringcall::service(name = "kv.v1")]
trait Items {
    const LIMIT: u32;
    type Key;
    async fn get(key: String);
}

#[ringcall::service(name = "kv.v1")]
trait Nothing {}

fn main() {}
