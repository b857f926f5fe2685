//! Listening on real sockets.
//!
//! Tests that bind a port a second time have a loopback address of their own, so that no client of
//! another test can have got that port meanwhile.

use super::*;
use socket2::SockRef;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;

/// A directory of its own for one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringcall-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn address(&self) -> (PathBuf, Address) {
        let path = self.0.join("a.sock");
        (path.clone(), Address::Unix(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn nonblocking() -> ListenOptions {
    ListenOptions {
        nonblocking: true,
        release_patience: Duration::ZERO,
        ..ListenOptions::default()
    }
}

fn listen_at(text: &str, shards: usize) -> Result<Listening, ListenError> {
    listen(&text.parse().unwrap(), shards, &nonblocking())
}

fn socket_address(listening: &Listening) -> SocketAddr {
    resolve(listening.bound_address()).unwrap()[0]
        .as_socket()
        .unwrap()
}

fn assert_in_use(result: Result<Listening, ListenError>) {
    let error = result.unwrap_err();
    assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse, "{error}");
    assert!(error.to_string().contains("another program"), "{error}");
}

#[test]
fn port_zero_is_chosen_once_and_connections_spread_over_the_shards() {
    let listening = listen_at("tcp://127.0.0.1:0", 3).unwrap();
    let at = socket_address(&listening);
    assert_ne!(at.port(), 0);
    let clients: Vec<_> = (0..96).map(|_| TcpStream::connect(at).unwrap()).collect();
    let accepted = listening
        .shards
        .iter()
        .map(|sockets| {
            assert_eq!(sockets.len(), 1);
            let mut count = 0;
            while sockets[0].accept().is_ok() {
                count += 1;
            }
            assert!(count > 0, "a shard without connections");
            count
        })
        .sum::<usize>();
    assert_eq!(accepted, clients.len());
}

#[test]
fn a_host_name_listens_on_its_addresses() {
    let listening = listen_at("tcp://localhost:0", 2).unwrap();
    let addresses = resolve(&"tcp://localhost:0".parse().unwrap()).unwrap();
    for sockets in &listening.shards {
        assert!((1..=addresses.len()).contains(&sockets.len()));
    }
    assert!(
        listening
            .bound_address()
            .to_string()
            .starts_with("tcp://localhost:")
    );
}

#[test]
fn the_ipv6_wildcard_serves_ipv4_too() {
    let listening = match listen_at("tcp://[::]:0", 1) {
        Ok(listening) => listening,
        // No IPv6 on this machine.
        Err(error) if is_unavailable(&error.error) => return,
        Err(error) => panic!("{error}"),
    };
    let port = socket_address(&listening).port();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

#[test]
fn a_port_in_use_is_refused_even_if_it_is_shared() {
    let first = listen_at("tcp://127.7.4.2:0", 2).unwrap();
    let taken = first.bound_address().to_string();
    assert_in_use(listen_at(&taken, 2));
    // The wildcard overlaps.
    assert_in_use(listen_at(&taken.replace("127.7.4.2", "0.0.0.0"), 1));
    drop(first);
    listen_at(&taken, 2).unwrap();

    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_in_use(listen_at(
        &format!("tcp://{}", stranger.local_addr().unwrap()),
        1,
    ));
}

#[test]
fn of_many_servers_that_start_at_once_one_wins() {
    let port = listen_at("tcp://127.7.4.1:0", 1)
        .map(|free| socket_address(&free).port())
        .unwrap();
    for _ in 0..20 {
        let results = race(|| listen_at(&format!("tcp://127.7.4.1:{port}"), 2));
        assert_one_winner(results);
    }
}

#[test]
fn of_many_unix_servers_that_start_at_once_one_wins() {
    let directory = Directory::new("race");
    let (path, address) = directory.address();
    for _ in 0..20 {
        // A stale file, which all of them want to remove.
        drop(UnixListener::bind(&path).unwrap());
        let results = race(|| listen(&address, 2, &nonblocking()));
        assert!(UnixStream::connect(&path).is_ok());
        assert_one_winner(results);
        assert!(!path.exists());
    }
}

fn race(
    start: impl Fn() -> Result<Listening, ListenError> + Sync,
) -> Vec<Result<Listening, ListenError>> {
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    start()
                })
            })
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    })
}

fn assert_one_winner(results: Vec<Result<Listening, ListenError>>) {
    let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(winners.len(), 1, "losers: {losers:?}");
    losers.into_iter().for_each(assert_in_use);
}

#[test]
fn a_restart_does_not_wait_for_old_connections() {
    let first = listen_at("tcp://127.7.4.3:0", 1).unwrap();
    let at = socket_address(&first);
    let client = TcpStream::connect(at).unwrap();
    // Closed by the server first, so that TIME_WAIT stays on its port.
    drop(first.shards[0][0].accept().unwrap());
    drop(client);
    drop(first);
    listen_at(&format!("tcp://{at}"), 1).unwrap();
}

#[test]
fn what_is_accepted_inherits_the_tcp_options() {
    let mut options = nonblocking();
    options.stream.recv_buffer_bytes = Some(20_000);
    options.stream.send_buffer_bytes = Some(30_000);
    let listening = listen(&"tcp://127.0.0.1:0".parse().unwrap(), 1, &options).unwrap();
    let _client = TcpStream::connect(socket_address(&listening)).unwrap();
    let (accepted, _) = listening.shards[0][0].accept().unwrap();
    let accepted = SockRef::from(&accepted);
    assert!(accepted.tcp_nodelay().unwrap());
    assert_eq!(
        accepted.tcp_user_timeout().unwrap(),
        Some(Duration::from_secs(30))
    );
    assert_eq!(accepted.recv_buffer_size().unwrap(), 40_000);
    assert_eq!(accepted.send_buffer_size().unwrap(), 60_000);
}

#[test]
fn an_address_of_another_machine_is_refused() {
    // 192.0.2.0/24 is reserved for documentation.
    let error = listen_at("tcp://192.0.2.1:0", 1).unwrap_err();
    assert_eq!(error.error.kind(), io::ErrorKind::AddrNotAvailable);
    assert!(error.to_string().contains("`ip address`"), "{error}");
    let error = listen_at("tcp://no-such-host.invalid:1", 1).unwrap_err();
    assert!(error.to_string().contains("check the name"), "{error}");
}

#[test]
fn a_privileged_port_is_explained() {
    // Tests may run as root, who is refused none.
    let error = ListenError {
        address: Address::Tcp("0.0.0.0".into(), 80),
        step: "bind",
        error: io::Error::from_raw_os_error(libc::EACCES),
        is_live: None,
    };
    let text = error.to_string();
    assert!(text.contains("CAP_NET_BIND_SERVICE"), "{text}");
    assert!(text.starts_with("bind: "));
}

#[test]
fn listeners_block_or_not_as_asked() {
    for nonblocking in [false, true] {
        let options = ListenOptions {
            nonblocking,
            ..ListenOptions::default()
        };
        let unix = format!("unix:@ringcall-blocking-{}", std::process::id());
        for address in ["tcp://127.0.0.1:0", &unix] {
            let listening = listen(&address.parse().unwrap(), 2, &options).unwrap();
            let is_shared = !listening.bound_address().is_tcp();
            for sockets in &listening.shards {
                let is_nonblocking = sockets[0].nonblocking().unwrap();
                assert_eq!(is_nonblocking, nonblocking || is_shared);
            }
        }
    }
}

#[test]
fn an_abstract_name_is_taken_once() {
    let name = format!("unix:@ringcall-test-{}", std::process::id());
    let first = listen_at(&name, 2).unwrap();
    assert_eq!(first.bound_address().to_string(), name);
    assert_in_use(listen_at(&name, 1));
    let at = resolve(first.bound_address()).unwrap().remove(0);
    let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    client.connect(&at).unwrap();
    drop(first);
    listen_at(&name, 1).unwrap();
}

#[test]
fn all_shards_share_one_unix_socket_whose_file_goes_at_the_end() {
    let directory = Directory::new("share");
    let (path, address) = directory.address();
    let listening = listen(&address, 3, &nonblocking()).unwrap();
    assert_eq!(listening.shards.len(), 3);
    let clients: Vec<_> = (0..3)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    for sockets in &listening.shards {
        sockets[0].accept().unwrap();
    }
    drop(clients);
    assert_in_use(listen(&address, 1, &nonblocking()));
    assert!(path.exists(), "the refused server left the file alone");
    drop(listening);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_file_is_replaced_but_not_a_live_one_or_another_file() {
    let directory = Directory::new("stale");
    let (path, address) = directory.address();

    drop(UnixListener::bind(&path).unwrap());
    drop(listen(&address, 1, &nonblocking()).unwrap());

    let live = UnixListener::bind(&path).unwrap();
    assert_in_use(listen(&address, 1, &nonblocking()));
    drop(live);
    std::fs::remove_file(&path).unwrap();

    let datagrams = UnixDatagram::bind(&path).unwrap();
    assert_in_use(listen(&address, 1, &nonblocking()));
    drop(datagrams);
    std::fs::remove_file(&path).unwrap();

    std::fs::write(&path, "precious").unwrap();
    let error = listen(&address, 1, &nonblocking()).unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_live_server_with_a_full_backlog_is_not_taken_for_dead() {
    let directory = Directory::new("full");
    let (path, address) = directory.address();
    let mut options = nonblocking();
    options.backlog = 0;
    let live = listen(&address, 1, &options).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let refused = client.connect(&SockAddr::unix(&path).unwrap()).is_err();
        waiting.push(client);
        if refused {
            break;
        }
    }
    assert_in_use(listen(&address, 1, &options));
    drop(live);
}

#[test]
fn a_file_that_took_the_place_of_ours_stays() {
    let directory = Directory::new("successor");
    let (path, address) = directory.address();
    let ours = listen(&address, 1, &nonblocking()).unwrap();
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    // Renamed over, so that both inodes exist and differ.
    let other = directory.0.join("b.sock");
    let _successor = UnixListener::bind(&other).unwrap();
    let expected = inode(&other);
    std::fs::rename(&other, &path).unwrap();
    drop(ours);
    assert_eq!(inode(&path), expected);
}

#[test]
fn a_successor_that_got_our_inode_number_stays() {
    let directory = Directory::new("inode");
    let (path, address) = directory.address();
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    for _ in 0..50 {
        let mut ours = listen(&address, 2, &nonblocking()).unwrap();
        let first = inode(&path);
        // As when the server drains: its sockets close, and a successor replaces the file.
        ours.shards.clear();
        let successor = listen(&address, 1, &nonblocking()).unwrap();
        assert_ne!(inode(&path), first, "held, and so not given to another");
        drop(ours);
        UnixStream::connect(&path).unwrap();
        drop(successor);
        assert!(!path.exists());
    }
}

#[test]
fn an_address_that_is_freed_late_is_waited_for() {
    let directory = Directory::new("late");
    let (_, file) = directory.address();
    let port = socket_address(&listen_at("tcp://127.7.4.4:0", 1).unwrap()).port();
    let name = format!("unix:@ringcall-late-{}", std::process::id());
    let tcp = format!("tcp://127.7.4.4:{port}");
    for address in [tcp.parse().unwrap(), name.parse().unwrap(), file] {
        let predecessor = listen(&address, 2, &nonblocking()).unwrap();
        let patient = ListenOptions {
            release_patience: Duration::from_secs(60),
            ..nonblocking()
        };
        std::thread::scope(|scope| {
            let successor = scope.spawn(|| listen(&address, 2, &patient));
            std::thread::sleep(Duration::from_millis(30));
            drop(predecessor);
            successor.join().unwrap().unwrap();
        });
    }
}

#[test]
fn who_holds_an_address_is_said_truly() {
    // A socket that is bound and does not listen: as one that is about to be freed, or a client's.
    let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.7.4.5:0".parse().unwrap();
    holder.bind(&any.into()).unwrap();
    let at = holder.local_addr().unwrap().as_socket().unwrap();
    let error = listen_at(&format!("tcp://{at}"), 1).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("nobody listens there"), "{text}");
    assert!(text.contains("a little later"), "{text}");
    holder.listen(1).unwrap();
    assert_in_use(listen_at(&format!("tcp://{at}"), 1));

    let name = format!("unix:@ringcall-holder-{}", std::process::id());
    let address: Address = name.parse().unwrap();
    let holder = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    holder.bind(&resolve(&address).unwrap()[0]).unwrap();
    let text = listen_at(&name, 1).unwrap_err().to_string();
    assert!(text.contains("nobody listens there"), "{text}");
    holder.listen(1).unwrap();
    assert_in_use(listen_at(&name, 1));
}

#[test]
fn a_missing_directory_is_said_to_be_missing() {
    let error = listen_at("unix:/no/such/directory/a.sock", 1).unwrap_err();
    assert!(error.to_string().contains("create it"), "{error}");
}
