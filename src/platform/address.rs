//! temporary
use std::path::PathBuf;
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}
impl std::str::FromStr for Address {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        if let Some(rest) = s.strip_prefix("tcp://") {
            let (h, p) = rest.rsplit_once(':').ok_or("no port")?;
            return Ok(Self::Tcp(h.into(), p.parse().map_err(|_| "bad port")?));
        }
        if let Some(rest) = s.strip_prefix("unix:") {
            return Ok(Self::Unix(rest.into()));
        }
        Err(format!("bad address {s}"))
    }
}
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(h, p) => write!(f, "tcp://{h}:{p}"),
            Self::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}
