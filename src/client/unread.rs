//! What lies in a client's socket and was not read.

use std::io;
use std::os::fd::AsFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, recv};

/// What the next read would find.
#[derive(Debug)]
pub(crate) enum Unread {
    /// Nothing.
    Nothing,
    /// Bytes, and what comes after them.
    Bytes,
    /// The end: the server has closed its side.
    End,
    /// That the connection has broken.
    Broken(io::Error),
}

/// Asks the kernel itself. A runtime that was not driven for a while does not know yet.
pub(crate) fn look(socket: impl AsFd) -> Unread {
    // PEEK: what is there stays there, but for the error of a broken connection, told once.
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match retry_on_intr(|| recv(&socket, &mut [0; 1], flags)) {
        Ok((0, _)) => Unread::End,
        Ok(_) => Unread::Bytes,
        Err(Errno::AGAIN) => Unread::Nothing,
        Err(error) => Unread::Broken(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn each_thing_that_can_lie_in_a_socket_is_told_from_the_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        assert!(matches!(look(&near), Unread::Nothing));
        far.write_all(b"x").unwrap();
        let told = near.peek(&mut [0; 1]).unwrap();
        assert_eq!(told, 1);
        assert!(matches!(look(&near), Unread::Bytes));
        assert_eq!(std::io::Read::read(&mut &near, &mut [0; 8]).unwrap(), 1);
        far.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(near.peek(&mut [0; 1]).unwrap(), 0);
        assert!(matches!(look(&near), Unread::End));
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let far = socket2::Socket::from(far);
        far.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(far);
        let broken = loop {
            match look(&near) {
                Unread::Nothing => std::thread::yield_now(),
                other => break other,
            }
        };
        assert!(matches!(broken, Unread::Broken(_)));
    }
}
