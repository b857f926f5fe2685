//! Why a text is no address.

use std::fmt;

/// Why a text is no [`Address`](super::address::Address). Its `Display` is one line: the text, what is wrong
/// with it, and a right address of the kind that was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no text.
    Empty,
    /// It begins neither with `tcp://` nor with `unix:`.
    NoScheme {
        /// The text.
        address: String,
        /// What was probably meant, if that can be guessed.
        meant: Option<String>,
    },
    /// It begins with another scheme, such as `http://`.
    UnknownScheme {
        /// The text.
        address: String,
        /// The scheme.
        scheme: String,
        /// What was probably meant, if that can be guessed.
        meant: Option<String>,
    },
    /// Something follows the port.
    AfterPort {
        /// The text.
        address: String,
    },
    /// The bracket of an IPv6 address is not closed.
    OpenBracket {
        /// The text.
        address: String,
    },
    /// An IPv6 address stands without brackets.
    NoBrackets {
        /// The text.
        address: String,
    },
    /// What stands in brackets is no IPv6 address.
    NoIpv6 {
        /// The text.
        address: String,
        /// What stands in the brackets.
        host: String,
    },
    /// There is no host.
    NoHost {
        /// The text.
        address: String,
    },
    /// The host has characters that no host name has.
    WrongHost {
        /// The text.
        address: String,
        /// The host.
        host: String,
    },
    /// There is no port.
    NoPort {
        /// The text.
        address: String,
    },
    /// The port is no number from 0 to 65535.
    WrongPort {
        /// The text.
        address: String,
        /// The port.
        port: String,
    },
    /// The path of a unix socket contains a zero byte.
    ZeroByte {
        /// The text.
        address: String,
    },
    /// There is no name after the `@`.
    NoName {
        /// The text.
        address: String,
    },
    /// The path of a unix socket is not absolute.
    RelativePath {
        /// The text.
        address: String,
    },
    /// The path of a unix socket ends in a slash.
    NoFile {
        /// The text.
        address: String,
    },
    /// The path or the name is longer than the system takes.
    TooLong {
        /// The text.
        address: String,
        /// Bytes of the path or name.
        bytes: usize,
        /// The most that the system takes.
        bytes_max: usize,
    },
}

impl AddressError {
    /// The text that is no address.
    pub fn address(&self) -> &str {
        match self {
            Self::Empty => "",
            Self::NoScheme { address, .. }
            | Self::UnknownScheme { address, .. }
            | Self::AfterPort { address }
            | Self::OpenBracket { address }
            | Self::NoBrackets { address }
            | Self::NoIpv6 { address, .. }
            | Self::NoHost { address }
            | Self::WrongHost { address, .. }
            | Self::NoPort { address }
            | Self::WrongPort { address, .. }
            | Self::ZeroByte { address }
            | Self::NoName { address }
            | Self::RelativePath { address }
            | Self::NoFile { address }
            | Self::TooLong { address, .. } => address,
        }
    }

    /// A right address, of the kind that was probably meant.
    pub fn example(&self) -> &str {
        match self {
            Self::NoScheme {
                meant: Some(meant), ..
            }
            | Self::UnknownScheme {
                meant: Some(meant), ..
            } => meant,
            Self::NoBrackets { .. } | Self::NoIpv6 { .. } => "tcp://[::1]:7411",
            Self::NoName { .. } => "unix:@kv",
            Self::ZeroByte { .. }
            | Self::RelativePath { .. }
            | Self::NoFile { .. }
            | Self::TooLong { .. } => "unix:/run/ringcall.sock",
            Self::Empty
            | Self::NoScheme { .. }
            | Self::UnknownScheme { .. }
            | Self::AfterPort { .. }
            | Self::OpenBracket { .. }
            | Self::NoHost { .. }
            | Self::WrongHost { .. }
            | Self::NoPort { .. }
            | Self::WrongPort { .. } => "tcp://127.0.0.1:7411",
        }
    }

    fn write_problem(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Empty => "it is empty",
            Self::NoScheme { meant: Some(_), .. } => "the scheme is missing",
            Self::NoScheme { meant: None, .. } => "it begins neither with tcp:// nor with unix:",
            Self::UnknownScheme { scheme, .. } => {
                return write!(f, "scheme {scheme:?} is not spoken here, only tcp and unix");
            }
            Self::AfterPort { .. } => "nothing may follow the port",
            Self::OpenBracket { .. } => "the bracket of the IPv6 address is not closed",
            Self::NoBrackets { .. } => "an IPv6 address needs brackets",
            Self::NoIpv6 { host, .. } => return write!(f, "{host:?} is no IPv6 address"),
            Self::NoHost { .. } => "the host is missing (0.0.0.0 to listen on every interface)",
            Self::WrongHost { host, .. } => {
                return write!(
                    f,
                    "host {host:?} has characters that no host name has (international names are written in their \
                     xn-- form)"
                );
            }
            Self::NoPort { .. } => "the port is missing",
            Self::WrongPort { port, .. } => {
                return write!(f, "port {port:?} is no number from 0 to 65535");
            }
            Self::ZeroByte { .. } => "it contains a zero byte",
            Self::NoName { .. } => "the name after the @ is missing",
            Self::RelativePath { .. } => "the path of a unix socket must be absolute",
            Self::NoFile { .. } => "the path of a unix socket must name a file",
            Self::TooLong {
                bytes, bytes_max, ..
            } => {
                return write!(
                    f,
                    "it has {bytes} bytes, but the system takes at most {bytes_max}"
                );
            }
        };
        f.write_str(text)
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {:?}: ", self.address())?;
        self.write_problem(f)?;
        write!(f, "; write for example {:?}", self.example())
    }
}

impl std::error::Error for AddressError {}
