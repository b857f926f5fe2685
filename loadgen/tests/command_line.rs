//! Exit codes, and words for who has typed something wrong.

mod support;

use std::net::TcpListener;

use support::{complaint, run};

#[test]
fn a_wrong_command_line_is_2_and_says_what_is_right() {
    let tcp = "tcp://127.0.0.1:0";
    let cases: [(&[&str], &str); 9] = [
        (&["frobnicate"], "unrecognized subcommand"),
        (&["serve"], "--listen <ADDR>..."),
        (&["serve", "--listen", "127.0.0.1:7411"], "tcp://"),
        (&["serve", "--listen", "tcp://127.0.0.1"], "port"),
        (&["serve", "--listen", tcp, "--idle", "later"], "spin:50us"),
        (&["serve", "--listen", tcp, "--shards", "0"], "--shards"),
        (
            &["serve", "--listen", tcp, "--engine", "x"],
            "auto, uring, epoll",
        ),
        (&["demo", "--duration", "0s"], "from 100ms"),
        (&["env", "--format", "xml"], "text, json"),
    ];
    for (arguments, words) in cases {
        let output = run(arguments);
        let complaint = complaint(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(complaint.contains(words), "{arguments:?}: {complaint}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_address_in_use_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", other.local_addr().unwrap());
    let output = run(&["serve", "--listen", &address]);
    let complaint = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains(&address), "{complaint}");
    assert!(complaint.contains("in use"), "{complaint}");
    assert!(output.stdout.is_empty());
}

#[test]
fn help_is_no_failure() {
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["demo", "-h"],
        &["--version"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}
