//! A program that only calls, by both clients: with `default-features = false` it builds neither the engines
//! nor any C.
//!
//! ```sh
//! cargo run --release -- serve --listen tcp://127.0.0.1:7411 &
//! cargo run --release -p ringcall-client-only -- tcp://127.0.0.1:7411 Ada
//! ```

use std::error::Error;

/// Two numbers to calculate with.
#[ringcall::message]
#[derive(Clone, Copy, Debug)]
struct Operands {
    /// The first.
    a: i64,
    /// The second.
    b: i64,
}

/// Greets people. Only `GreeterClient` is made: `GreeterHandler` and `GreeterServer` need the feature
/// `server`.
#[ringcall::service(name = "greeter.v1")]
trait Greeter {
    /// Says hello to somebody.
    async fn hello(name: String) -> String;
}

/// Arithmetic of 64-bit integers.
#[ringcall::service(name = "arithmetic.v1")]
trait Arithmetic {
    /// `a + b`.
    #[idempotent]
    async fn add(operands: Operands) -> i64;
    /// `a - b`.
    #[idempotent]
    async fn subtract(operands: Operands) -> i64;
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(name)) = (arguments.next(), arguments.next()) else {
        return Err("usage: ringcall-client-only ADDRESS NAME".into());
    };
    let arithmetic = ArithmeticClient::connect_blocking(&server)?;
    let operands = Operands { a: 40, b: 2 };
    println!("40 + 2 = {}", arithmetic.add(operands).wait()?);
    println!("40 - 2 = {}", arithmetic.subtract(operands).wait()?);
    greet(&server, &name)
}

#[tokio::main(flavor = "current_thread")]
async fn greet(server: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let greeter = GreeterClient::connect(server).await?;
    println!("{}", greeter.hello(name).await?);
    Ok(())
}
