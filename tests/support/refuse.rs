//! Makes this process one in which io_uring is refused, as in many containers, or fails later.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    unsafe_code,
    reason = "a seccomp filter is installed by a raw system call"
)]

/// Makes every io_uring system call of this process fail with `errno`, from now on and for good:
/// use it in a child process. The filter goes onto all threads.
///
/// # Panics
/// When the kernel has no seccomp filters.
pub(crate) fn refuse_io_uring(errno: i32) {
    let calls = [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ];
    refuse(&calls, errno);
}

/// Makes every ring of this process tell that it has lost a completion, as [`refuse_io_uring`].
pub(crate) fn lose_completions() {
    refuse(&[libc::SYS_io_uring_enter], libc::EBADR);
}

/// Makes every accept of this process fail with `errno`, as [`refuse_io_uring`]. (Rings accept inside
/// the kernel, where no filter sees it.)
pub(crate) fn refuse_accept(errno: i32) {
    refuse(&[libc::SYS_accept, libc::SYS_accept4], errno);
}

fn refuse(calls: &[libc::c_long], errno: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let refuse_if = |call: libc::c_long, skip_unless: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: skip_unless,
        jf: 0,
        k: call as u32,
    };
    let answer = libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA);
    // The number of the system call is the first word of what the filter sees.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    // Each jumps to the last statement when it matches.
    let left = (1..=calls.len() as u8).rev();
    program.extend(
        calls
            .iter()
            .zip(left)
            .map(|(call, left)| refuse_if(*call, left)),
    );
    program.push(statement(
        libc::BPF_RET | libc::BPF_K,
        libc::SECCOMP_RET_ALLOW,
    ));
    program.push(statement(libc::BPF_RET | libc::BPF_K, answer));
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the call takes plain numbers. An unprivileged process must give up gaining
    // privileges before it may install a filter.
    let given_up = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(given_up, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: `filter` and the program that it points to outlive the call, which copies them.
    let installed = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            // TSYNC: a test runs on a thread of its own, and what it starts may not.
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const filter,
        )
    };
    assert_eq!(installed, 0, "{}", std::io::Error::last_os_error());
}
