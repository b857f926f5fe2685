use std::rc::Rc;

#[ringcall::service(name = "kv.v1")]
trait Kv {
    async fn get(key: usize) -> u8;
    async fn share(key: String) -> Option<Rc<u8>>;
}

fn main() {}
