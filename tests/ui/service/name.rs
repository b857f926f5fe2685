#[ringcall::service]
trait Missing {
    async fn get(key: String);
}

#[ringcall::service(name = "")]
trait Empty {
    async fn get(key: String);
}

#[ringcall::service(name = "kv v1/get")]
trait Characters {
    async fn get(key: String);
}

#[ringcall::service(name = "kv.v1", name = "kv.v2")]
trait Two {
    async fn get(key: String);
}

#[ringcall::service(version = 1)]
trait Unknown {
    async fn get(key: String);
}

#[ringcall::service(name = 1)]
trait Number {
    async fn get(key: String);
}

fn main() {}
