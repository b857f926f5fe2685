//! temporary
use super::address::Address;
use socket2::*;
use std::io;
use std::os::fd::AsFd;
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOptions {}
pub fn set_stream_options(s: &impl AsFd, is_tcp: bool, _o: &StreamOptions) -> io::Result<()> {
    if is_tcp {
        SockRef::from(s).set_tcp_nodelay(true)?;
    }
    Ok(())
}
#[derive(Debug)]
pub struct UnlinkGuard(std::path::PathBuf);
impl Drop for UnlinkGuard {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap_or_default();
    }
}
pub struct Bound {
    pub address: Address,
    pub sockets: Vec<Socket>,
    pub unlink: Option<UnlinkGuard>,
}
impl Bound {
    pub fn is_tcp(&self) -> bool {
        matches!(self.address, Address::Tcp(..))
    }
}
pub fn listen(a: &Address, shards: usize, backlog: i32, nb: bool) -> io::Result<Bound> {
    let mut sockets = Vec::new();
    match a {
        Address::Tcp(h, p) => {
            let mut addr = std::net::ToSocketAddrs::to_socket_addrs(&(h.as_str(), *p))?
                .next()
                .unwrap();
            for _ in 0..shards {
                let s = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
                s.set_reuse_port(true)?;
                s.set_reuse_address(true)?;
                s.set_nonblocking(nb)?;
                s.bind(&addr.into())?;
                s.listen(backlog)?;
                addr = s.local_addr()?.as_socket().unwrap();
                sockets.push(s);
            }
            Ok(Bound {
                address: Address::Tcp(addr.ip().to_string(), addr.port()),
                sockets,
                unlink: None,
            })
        }
        Address::Unix(path) => {
            let s = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            s.set_nonblocking(nb)?;
            s.bind(&SockAddr::unix(path)?)?;
            s.listen(backlog)?;
            for _ in 0..shards {
                sockets.push(s.try_clone()?);
            }
            Ok(Bound {
                address: a.clone(),
                sockets,
                unlink: Some(UnlinkGuard(path.clone())),
            })
        }
    }
}
