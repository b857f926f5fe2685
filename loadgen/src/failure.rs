//! How the program fails, and what it answers to the shell then.

use std::fmt;
use std::io;
use std::process::ExitCode;

use ringcall::ServeError;

/// Why the program ends without having done its work.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that can't be: exit code 2.
    Usage(String),
    /// The objective was not met: exit code 3.
    SloViolated(String),
    /// The measurement is worthless: exit code 4.
    Invalid(String),
    /// One is worse than the other: exit code 5.
    Regression(String),
    /// Anything else: exit code 1.
    Other(String),
}

impl Failure {
    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// The same as a number.
    pub fn code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::SloViolated(_) => 3,
            Self::Invalid(_) => 4,
            Self::Regression(_) => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => write!(f, "{text}\n\nFor more information, try '--help'."),
            Self::SloViolated(text)
            | Self::Invalid(text)
            | Self::Regression(text)
            | Self::Other(text) => f.write_str(text),
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Configuration(error) => Self::Usage(error.to_string()),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}
