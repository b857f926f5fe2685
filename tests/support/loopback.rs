//! Switches the loopback device of a test's own network namespace.
#![allow(unsafe_code, reason = "the device is switched by raw calls")]

use std::io;
use std::os::fd::AsRawFd;

/// Switches it on, as it is not in a new namespace, or off: what is sent then is lost.
///
/// # Panics
/// When this process may not: see `child::passes_in_own_network`.
pub fn switch(is_on: bool) {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket to ask with");
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    if is_on {
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    }
    // SAFETY: the request outlives the call, which reads a name and flags from it.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}
