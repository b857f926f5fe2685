//! Runs a test in a process of its own, whose limits and signals it may spoil.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unsafe_code, reason = "limits, users and signals are set by raw calls")]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Tells a test that it is the child, and what it has to do.
const TASK: &str = "RINGCALL_THREATS_CHILD";
/// A child that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the parent has told this process to do; `None` in the parent.
pub fn task() -> Option<String> {
    std::env::var(TASK).ok()
}

/// Runs the test with this name in a child that finds `task`. Returns how it ended and what it
/// wrote; one that hangs is killed.
pub fn run(test: &str, task: &str) -> (ExitStatus, String) {
    let this = std::env::current_exe().expect("Linux says it");
    run_by(Command::new(this), test, task)
}

fn run_by(mut command: Command, test: &str, task: &str) -> (ExitStatus, String) {
    let mut child = command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs already");
    let output = |stream: Option<Box<dyn io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            stream
                .expect("piped")
                .read_to_string(&mut text)
                .map(|_| text)
        })
    };
    let stdout = output(child.stdout.take().map(|it| Box::new(it) as _));
    let stderr = output(child.stderr.take().map(|it| Box::new(it) as _));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of this process") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().expect("it is running");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = [stdout, stderr].map(|text| text.join().expect("no panic").expect("UTF-8"));
    (status, text.concat())
}

/// Runs the test in a child, and sees it pass there.
pub fn passes(test: &str, task: &str) {
    saw_it_pass(test, task, &run(test, task));
}

fn saw_it_pass(test: &str, task: &str, (status, said): &(ExitStatus, String)) {
    assert!(
        status.success() && said.contains("1 passed"),
        "{test} ({task}): {status}\n{said}"
    );
}

/// Runs the test in a child that has a network namespace of its own, and sees it pass there. Where
/// this user may make none, as in some containers, there is nothing to see; that is said.
pub fn passes_in_own_network(test: &str, task: &str) {
    const OWN_NETWORK: [&str; 3] = ["--user", "--map-root-user", "--net"];
    let mut probe = Command::new("unshare");
    match probe.args(OWN_NETWORK).arg("true").output() {
        Ok(tried) if tried.status.success() => (),
        refused => return eprintln!("{test} is not run: no network of its own: {refused:?}"),
    }
    let mut command = Command::new("unshare");
    command
        .args(OWN_NETWORK)
        .arg(std::env::current_exe().expect("Linux says it"));
    saw_it_pass(test, task, &run_by(command, test, task));
}

/// Runs the test in a child, and sees it end by this signal.
pub fn dies_by(test: &str, task: &str, signal: i32) -> String {
    let (status, said) = run(test, task);
    assert_eq!(
        status.signal(),
        Some(signal),
        "{test} ({task}): {status}\n{said}"
    );
    said
}

/// Sets both values of a limit of this process.
pub fn set_limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: the limit outlives the call.
    let set = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Gives up being root, where the process is; all its threads do.
pub fn become_unprivileged() {
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: plain numbers; the wrapper of the C library changes all threads.
    let changed = unsafe {
        if libc::geteuid() != 0 {
            return;
        }
        libc::setresgid(NOBODY, NOBODY, NOBODY) == 0 && libc::setresuid(NOBODY, NOBODY, NOBODY) == 0
    };
    assert!(changed, "{}", io::Error::last_os_error());
}

/// Lets SIGPIPE end this process, as it does where Rust's runtime has not said otherwise.
pub fn heed_sigpipe() {
    // SAFETY: the default is no handler.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_ne!(before, libc::SIG_ERR);
}

/// CPU time that this process has used.
pub fn cpu_time() -> Duration {
    // SAFETY: all zeros is a valid `timespec`, which outlives the call.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(
            libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time),
            0
        );
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
