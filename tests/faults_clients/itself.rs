//! A client whose socket is connected to itself, because nobody else listens at that port.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use ringcall::Code;

use crate::callers::{Caller, KINDS};

const ADDRESS: &str = "127.0.0.1:7412";
const TASK: &str = "RINGCALL_CONNECTS_TO_ITSELF";
/// A network of its own, in which outgoing connections have the choice of two ports.
const SETUP: &str =
    "ip link set lo up && echo 7412 7413 > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"";

fn in_own_network(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let output = Command::new("unshare")
        .args(["-rn", "sh", "-c", SETUP, "sh", program])
        .args(arguments)
        .env(TASK, "1")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text.into_owned()))
}

/// Where no network of one's own is permitted, the unit tests of connecting remain, which make such a
/// socket on purpose.
#[test]
fn connecting_to_oneself_is_refused_and_leaves_the_port_to_a_server() {
    if std::env::var_os(TASK).is_some() {
        return connect_to_itself();
    }
    if !in_own_network("true", &[]).is_some_and(|(is_permitted, _)| is_permitted) {
        eprintln!("this machine permits no network namespaces");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let test = "itself::connecting_to_oneself_is_refused_and_leaves_the_port_to_a_server";
    let arguments = ["--exact", test, "--nocapture", "--test-threads=1"];
    let (is_well, text) = in_own_network(this.to_str().unwrap(), &arguments).unwrap();
    assert!(is_well, "{text}");
}

fn connect_to_itself() {
    let target = format!("tcp://{ADDRESS}");
    let mut to_itself = 0;
    for kind in KINDS {
        for _ in 0..4 {
            let status = Caller::new(kind, &target).call(1).unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{kind:?} {status}");
            assert!(status.message().contains("refused"), "{kind:?} {status}");
            to_itself += usize::from(status.message().contains("to itself"));
        }
    }
    assert!(to_itself > 0, "the kernel never chose that port");
    // Without SO_REUSEADDR, which overlooks a port in TIME_WAIT.
    let address: SocketAddr = ADDRESS.parse().unwrap();
    let stream = socket2::Type::STREAM;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, stream, None).unwrap();
    socket.bind(&address.into()).expect("the port is free");
    drop(socket);
    drop(TcpListener::bind(address).expect("the port is free"));
}
