//! Where a server listens and a client connects to: `tcp://host:port`, `unix:/path`, `unix:@name`.

use super::address_error::AddressError;
use socket2::SockAddr;
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use super::transport::Transport;

/// An address in the form that users write.
///
/// | written | means |
/// |---|---|
/// | `tcp://example.org:7411`, `tcp://10.0.0.7:7411`, `tcp://[::1]:7411` | TCP to a name, IPv4 or IPv6 address |
/// | `unix:/run/kv.sock`, `unix:///run/kv.sock` | a unix socket at an absolute path |
/// | `unix:@kv` | a unix socket in the abstract name space, which leaves no file |
///
/// `Display` gives the first form of each; parsing what it wrote gives an equal address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// Host name or IP address (IPv6 without its brackets), and port.
    Tcp(String, u16),
    /// Absolute path of a unix socket.
    Unix(PathBuf),
    /// Name of a unix socket in the abstract name space, without the `@`.
    UnixAbstract(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = input.strip_prefix("tcp://") {
            parse_tcp(input, rest)
        } else if let Some(rest) = input.strip_prefix("unix:") {
            parse_unix(input, rest)
        } else {
            Err(unknown_scheme(input))
        }
    }
}

/// Reads what follows the scheme of `input`.
fn parse_tcp(input: &str, rest: &str) -> Result<Address, AddressError> {
    let address = || input.to_owned();
    if rest.contains('/') {
        return Err(AddressError::AfterPort { address: address() });
    }
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, port) = bracketed
            .split_once(']')
            .ok_or_else(|| AddressError::OpenBracket { address: address() })?;
        let port = port.strip_prefix(':').unwrap_or("");
        return Ok(Address::Tcp(
            parse_ipv6(input, host)?,
            parse_port(input, port)?,
        ));
    }
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
    if host.contains(':') {
        return Err(AddressError::NoBrackets { address: address() });
    }
    if host.is_empty() {
        return Err(AddressError::NoHost { address: address() });
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !host.bytes().all(is_name) {
        return Err(AddressError::WrongHost {
            address: address(),
            host: host.into(),
        });
    }
    Ok(Address::Tcp(
        host.to_ascii_lowercase(),
        parse_port(input, port)?,
    ))
}

fn parse_ipv6(input: &str, host: &str) -> Result<String, AddressError> {
    // A link-local address may name its interface: fe80::1%eth0.
    let (address, zone) = host.split_once('%').unwrap_or((host, ""));
    let address: Ipv6Addr = address.parse().map_err(|_| AddressError::NoIpv6 {
        address: input.into(),
        host: host.into(),
    })?;
    Ok(if zone.is_empty() {
        address.to_string()
    } else {
        format!("{address}%{zone}")
    })
}

fn parse_port(input: &str, port: &str) -> Result<u16, AddressError> {
    if port.is_empty() {
        return Err(AddressError::NoPort {
            address: input.into(),
        });
    }
    // `parse` would take a sign.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|_| digits);
    number.ok_or_else(|| AddressError::WrongPort {
        address: input.into(),
        port: port.into(),
    })
}

fn parse_unix(input: &str, rest: &str) -> Result<Address, AddressError> {
    let address = || input.to_owned();
    if rest.contains('\0') {
        return Err(AddressError::ZeroByte { address: address() });
    }
    if let Some(name) = rest.strip_prefix('@') {
        if name.is_empty() {
            return Err(AddressError::NoName { address: address() });
        }
        return check_length(input, name).map(|()| Address::UnixAbstract(name.into()));
    }
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(AddressError::RelativePath { address: address() });
    }
    if path.ends_with('/') {
        return Err(AddressError::NoFile { address: address() });
    }
    check_length(input, path).map(|()| Address::Unix(path.into()))
}

fn check_length(input: &str, name: &str) -> Result<(), AddressError> {
    if name.len() <= UNIX_NAME_BYTES_MAX {
        return Ok(());
    }
    Err(AddressError::TooLong {
        address: input.into(),
        bytes: name.len(),
        bytes_max: UNIX_NAME_BYTES_MAX,
    })
}

/// Explains a text that begins neither with `tcp://` nor with `unix:`, guessing what was meant.
fn unknown_scheme(input: &str) -> AddressError {
    let address = input.to_owned();
    let of_tcp = |rest: &str| parse_tcp(rest, rest).ok().map(|guess| guess.to_string());
    if input.is_empty() {
        return AddressError::Empty;
    }
    if input.starts_with('/') {
        let meant = Some(format!("unix:{input}"));
        return AddressError::NoScheme { address, meant };
    }
    let Some((scheme, rest)) = input.split_once("://") else {
        let meant = of_tcp(input);
        return AddressError::NoScheme { address, meant };
    };
    AddressError::UnknownScheme {
        address,
        scheme: scheme.into(),
        meant: of_tcp(rest.split('/').next().unwrap_or("")),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

impl Address {
    /// How the bytes of a connection to it travel.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Tcp(..) => Transport::Tcp,
            Self::Unix(_) | Self::UnixAbstract(_) => Transport::Unix,
        }
    }

    /// Whether it is a TCP address.
    pub fn is_tcp(&self) -> bool {
        self.transport() == Transport::Tcp
    }
}

/// The socket addresses that `address` stands for, without repetition, in the resolver's order.
///
/// It blocks while a host name is looked up, for seconds if the name server is away.
///
/// # Errors
/// The resolver's, with the host in the text.
pub(crate) fn resolve(address: &Address) -> io::Result<Vec<SockAddr>> {
    match address {
        Address::Tcp(host, port) => {
            let lookup = |error: io::Error| {
                io::Error::new(
                    error.kind(),
                    format!("host {host:?} can't be resolved: {error}"),
                )
            };
            let mut found: Vec<SockAddr> = Vec::new();
            for socket_address in (host.as_str(), *port).to_socket_addrs().map_err(lookup)? {
                let socket_address = SockAddr::from(socket_address);
                if !found.contains(&socket_address) {
                    found.push(socket_address);
                }
            }
            if found.is_empty() {
                return Err(lookup(io::ErrorKind::AddrNotAvailable.into()));
            }
            Ok(found)
        }
        Address::Unix(path) => Ok(vec![SockAddr::unix(path)?]),
        // A leading zero byte is how the system writes an abstract name.
        Address::UnixAbstract(name) => Ok(vec![SockAddr::unix(format!("\0{name}"))?]),
    }
}

/// `sun_path` has 108 bytes, one of which ends a path, or begins an abstract name.
const UNIX_NAME_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    const TCP_EXAMPLE: &str = "tcp://127.0.0.1:7411";
    const UNIX_EXAMPLE: &str = "unix:/run/ringcall.sock";

    #[test]
    fn right_addresses_are_read_and_written_canonically() {
        for (input, canonical) in [
            ("tcp://127.0.0.1:7411", "tcp://127.0.0.1:7411"),
            ("tcp://0.0.0.0:0", "tcp://0.0.0.0:0"),
            ("tcp://KV.example.org:65535", "tcp://kv.example.org:65535"),
            ("tcp://my_host-1:080", "tcp://my_host-1:80"),
            ("tcp://[::1]:1", "tcp://[::1]:1"),
            ("tcp://[0:0::0:1]:1", "tcp://[::1]:1"),
            ("tcp://[fe80::1%eth0]:1", "tcp://[fe80::1%eth0]:1"),
            ("unix:/run/kv.sock", "unix:/run/kv.sock"),
            ("unix:///run/kv.sock", "unix:/run/kv.sock"),
            ("unix:@kv", "unix:@kv"),
        ] {
            let address: Address = input.parse().unwrap();
            assert_eq!(address.to_string(), canonical);
            assert_eq!(canonical.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn wrong_addresses_are_explained_with_a_right_one() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (input, problem, example) in [
            ("", "empty", TCP_EXAMPLE),
            ("localhost:80", "scheme is missing", "tcp://localhost:80"),
            ("7411", "neither with tcp://", TCP_EXAMPLE),
            ("/run/a", "scheme is missing", "unix:/run/a"),
            ("http://a:80/x", "\"http\" is not spoken", "tcp://a:80"),
            ("https://a", "\"https\" is not spoken", TCP_EXAMPLE),
            ("TCP://a:80", "\"TCP\" is not spoken", "tcp://a:80"),
            ("tcp://", "host is missing", TCP_EXAMPLE),
            ("tcp://:80", "host is missing", TCP_EXAMPLE),
            ("tcp://host", "port is missing", TCP_EXAMPLE),
            ("tcp://host:", "port is missing", TCP_EXAMPLE),
            ("tcp://[::1]", "port is missing", TCP_EXAMPLE),
            ("tcp://host:65536", "0 to 65535", TCP_EXAMPLE),
            ("tcp://host:+80", "0 to 65535", TCP_EXAMPLE),
            ("tcp://host:80/path", "follow the port", TCP_EXAMPLE),
            ("tcp://::1:80", "needs brackets", "tcp://[::1]:7411"),
            ("tcp://[::1:80", "not closed", TCP_EXAMPLE),
            ("tcp://[1.2.3.4]:80", "no IPv6", "tcp://[::1]:7411"),
            ("tcp://a b:80", "characters", TCP_EXAMPLE),
            ("tcp://user@a:80", "characters", TCP_EXAMPLE),
            ("unix:", "absolute", UNIX_EXAMPLE),
            ("unix:run/a", "absolute", UNIX_EXAMPLE),
            ("unix://run/a", "absolute", UNIX_EXAMPLE),
            ("unix:/run/", "name a file", UNIX_EXAMPLE),
            ("unix:@", "name after the @", "unix:@kv"),
            ("unix:/a\0b", "zero byte", UNIX_EXAMPLE),
            (long.as_str(), "108 bytes", UNIX_EXAMPLE),
        ] {
            let error = input.parse::<Address>().unwrap_err();
            let text = error.to_string();
            assert!(text.contains(problem), "{text}");
            assert!(text.starts_with(&format!("address {input:?}: ")), "{text}");
            assert_eq!(error.address(), input);
            assert_eq!(error.example(), example, "{text}");
            error.example().parse::<Address>().unwrap();
        }
    }

    #[test]
    fn the_longest_names_fit_the_system() {
        for prefix in ["unix:/", "unix:@x"] {
            let fill = "x".repeat(UNIX_NAME_BYTES_MAX - 1);
            let address: Address = format!("{prefix}{fill}").parse().unwrap();
            assert_eq!(resolve(&address).unwrap().len(), 1);
        }
    }

    #[test]
    fn addresses_resolve() {
        let resolved = |text: &str| resolve(&text.parse().unwrap());
        let socket_address = resolved("tcp://127.0.0.1:5").unwrap().remove(0);
        assert_eq!(
            socket_address.as_socket(),
            Some("127.0.0.1:5".parse().unwrap())
        );
        assert_eq!(
            resolved("unix:/a").unwrap()[0].as_pathname(),
            Some("/a".as_ref())
        );
        assert_eq!(
            resolved("unix:@a").unwrap()[0].as_abstract_namespace(),
            Some(&b"a"[..])
        );
        let error = resolved("tcp://no-such-host.invalid:1").unwrap_err();
        assert!(
            error.to_string().contains("no-such-host.invalid"),
            "{error}"
        );
    }
}
