//! Calculates factorials.

use ringcall::{Context, Reply, Request, Status};

/// Factorials up to that of 34, the last that has room in 128 bits.
#[ringcall::service(name = "factorial.v1")]
pub trait Factorial {
    /// `n!`; INVALID_ARGUMENT when `n` is negative, OUT_OF_RANGE when it is above 34.
    #[idempotent]
    async fn factorial(n: i64) -> u128;
}

/// Rather fails than rounds.
#[derive(Debug)]
pub struct Exact;

impl FactorialHandler for Exact {
    async fn factorial(&self, _cx: &Context, n: Request<i64>) -> Result<Reply<u128>, Status> {
        factorial(n.to_native()).map(Reply::new)
    }
}

fn factorial(n: i64) -> Result<u128, Status> {
    let n = u128::try_from(n)
        .map_err(|_| Status::invalid_argument(format!("{n} is negative, and has no factorial")))?;
    // Overflow comes soon, so this is quick for any number.
    (1..=n).try_fold(1_u128, u128::checked_mul).ok_or_else(|| {
        Status::out_of_range(format!("{n}! has more than 128 bits; 34! is the last"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcall::Code;

    #[test]
    fn results_are_exact_or_refused() {
        assert_eq!(factorial(0), Ok(1));
        assert_eq!(factorial(20), Ok(2_432_902_008_176_640_000));
        assert_eq!(factorial(34).map(|result| result % 1_000_000), Ok(0));
        for (n, code) in [
            (-1, Code::InvalidArgument),
            (i64::MIN, Code::InvalidArgument),
            (35, Code::OutOfRange),
            (i64::MAX, Code::OutOfRange),
        ] {
            assert_eq!(factorial(n).map_err(|status| status.code()), Err(code));
        }
    }
}
