#[ringcall::message]
fn get() {}

#[ringcall::message]
trait Get {}
fn main() {}
