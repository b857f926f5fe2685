//! What a pinned thread starts is not pinned with it.
//!
//! Linux gives a new thread and a new process the CPUs of the thread that makes it. A handler that hands
//! work to a thread, to hold up nobody, would find it on the very CPU of its shard. So this takes the
//! pin off for the moment of the creation: it stands before the C library's `pthread_create`,
//! `posix_spawn` and `posix_spawnp`, by which Rust starts threads and programs, and has `fork` tell it.
//! On threads that are not pinned it reads one variable and hands on.
//!
//! The names are defined weakly. A sanitizer, an allocator or another library that stands before the
//! same functions in the same program is not in conflict with it: one of them comes first, as if the
//! other were not there. What starts threads or programs by a system call of its own, and `system` and
//! `popen` of the C library, are not seen.
//!
//! It is there with glibc, linked dynamically, on x86-64 and AArch64. Elsewhere the pin is inherited.
#![allow(
    unsafe_code,
    reason = "functions of the C library are defined, found and called"
)]

/// Has forks tell of themselves. Called before the first pin has an effect, which also makes the linker
/// take this module, and with it the names below.
#[inline(never)]
pub(super) fn arrange() {
    #[cfg(all(
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(target_feature = "crt-static"),
        not(miri)
    ))]
    glibc::watch_forks();
}

#[cfg(all(
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(target_feature = "crt-static"),
    not(miri)
))]
mod glibc {
    use std::arch::global_asm;
    use std::cell::Cell;
    use std::ffi::{CStr, c_int, c_void};
    use std::mem::transmute;
    use std::ptr::null_mut;
    use std::sync::Once;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use crate::platform::pin::{Lifted, forget, lift, settle};

    /// Anything that is handed on unseen.
    type Any = *mut c_void;

    type CreateThread = unsafe extern "C" fn(Any, Any, Any, Any) -> c_int;
    type SpawnProgram = unsafe extern "C" fn(Any, Any, Any, Any, Any, Any) -> c_int;

    /// A function of the C library behind ours.
    struct Behind {
        name: &'static CStr,
        found: AtomicPtr<c_void>,
    }

    impl Behind {
        const fn new(name: &'static CStr) -> Self {
            Self {
                name,
                found: AtomicPtr::new(null_mut()),
            }
        }

        /// Its address; null if there is none.
        #[inline]
        fn address(&self) -> Any {
            let found = self.found.load(Ordering::Relaxed);
            if found.is_null() { self.find() } else { found }
        }

        #[cold]
        fn find(&self) -> Any {
            // SAFETY: the name ends with a zero byte. Whoever finds it twice finds the same.
            let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            self.found.store(found, Ordering::Relaxed);
            found
        }
    }

    /// Stands before `pthread_create`.
    ///
    /// # Safety
    /// As of `pthread_create`.
    unsafe extern "C" fn create_thread(thread: Any, attributes: Any, start: Any, of: Any) -> c_int {
        static BEHIND: Behind = Behind::new(c"pthread_create");
        let behind = BEHIND.address();
        if behind.is_null() {
            return libc::EAGAIN;
        }
        // SAFETY: it is the next function of this name, so it has its type; every parameter is a pointer.
        let behind = unsafe { transmute::<Any, CreateThread>(behind) };
        let _lifted = Lifted::new();
        // SAFETY: the caller keeps its contract.
        unsafe { behind(thread, attributes, start, of) }
    }

    /// Stands before `posix_spawn` and its kind, which start programs.
    macro_rules! before_spawn {
        ($($before:ident $name:literal)*) => {
            $(
                /// Stands before the function of the C library's that it names.
                ///
                /// # Safety
                /// As of that function.
                unsafe extern "C" fn $before(
                    process: Any,
                    path: Any,
                    actions: Any,
                    attributes: Any,
                    arguments: Any,
                    environment: Any,
                ) -> c_int {
                    static BEHIND: Behind = Behind::new($name);
                    let behind = BEHIND.address();
                    if behind.is_null() {
                        return libc::ENOSYS;
                    }
                    // SAFETY: as in `create_thread`.
                    let behind = unsafe { transmute::<Any, SpawnProgram>(behind) };
                    let _lifted = Lifted::new();
                    // SAFETY: the caller keeps its contract.
                    unsafe { behind(process, path, actions, attributes, arguments, environment) }
                }
            )*
        };
    }

    before_spawn! {
        spawn_program c"posix_spawn"
        spawn_program_by_name c"posix_spawnp"
    }

    /// Defines a name weakly, which the compiler can't yet do: a jump to a function of ours. It begins
    /// with what processors that check indirect jumps ask for.
    macro_rules! weakly {
        ($name:literal is $function:ident) => {
            #[cfg(target_arch = "x86_64")]
            weakly!($name, $function, "endbr64", "jmp {function}");
            #[cfg(target_arch = "aarch64")]
            weakly!($name, $function, "hint #34", "b {function}");
        };
        ($name:literal, $function:ident, $landing:literal, $jump:literal) => {
            global_asm!(
                concat!(".pushsection .text.", $name, ",\"ax\",@progbits"),
                concat!(".weak ", $name),
                concat!(".type ", $name, ",@function"),
                ".p2align 4",
                concat!($name, ":"),
                $landing,
                $jump,
                concat!(".size ", $name, ", . - ", $name),
                ".popsection",
                function = sym $function,
            );
        };
    }

    weakly!("pthread_create" is create_thread);
    weakly!("posix_spawn" is spawn_program);
    weakly!("posix_spawnp" is spawn_program_by_name);

    thread_local! {
        /// Whether the thread forks, and has taken its pin off for that.
        static HAS_LIFTED: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn watch_forks() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: the three are there as long as the program, take no lock, allocate nothing, and
            // never panic.
            let failed = unsafe {
                libc::pthread_atfork(
                    Some(before_fork),
                    Some(after_in_parent),
                    Some(after_in_child),
                )
            };
            if failed != 0 {
                tracing::debug!("no memory: forks of pinned threads are pinned");
            }
        });
    }

    extern "C" fn before_fork() {
        HAS_LIFTED.set(lift());
    }

    extern "C" fn after_in_parent() {
        if HAS_LIFTED.take() {
            settle();
        }
    }

    extern "C" fn after_in_child() {
        HAS_LIFTED.set(false);
        forget();
    }
}
