//! What a loop does while nothing is there to do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// What a loop does while nothing is there to do: `park`, `spin` or `spin:50us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Sleeps in the kernel until something completes.
    Park,
    /// Looks for completions for this long, then sleeps.
    SpinThenPark(Duration),
    /// Never sleeps.
    Spin,
}

impl FromStr for Idle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "park" => Ok(Self::Park),
            "spin" => Ok(Self::Spin),
            _ => text
                .strip_prefix("spin:")
                .and_then(|time| time.strip_suffix("us"))
                .and_then(|micros| micros.parse().ok())
                .map(|micros| Self::SpinThenPark(Duration::from_micros(micros)))
                .ok_or_else(|| format!("`{text}` is neither park, spin nor spin:50us")),
        }
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Park => f.write_str("park"),
            Self::SpinThenPark(time) => write!(f, "spin:{}us", time.as_micros()),
            Self::Spin => f.write_str("spin"),
        }
    }
}

impl Serialize for Idle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_print_as_they_are_written() {
        for text in ["park", "spin", "spin:50us"] {
            assert_eq!(text.parse::<Idle>().unwrap().to_string(), text);
        }
        assert!("spin:50".parse::<Idle>().is_err());
    }
}
