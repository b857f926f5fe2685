//! The file of a listening unix socket: claimed at start, removed at the end.

use rustix::fs::{Mode, OFlags, fstat, open};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file of a listening socket. Dropping it removes the file, unless another one has taken its
/// place meanwhile.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The file itself, whatever has become of its name. As long as it is held its inode number is not
    /// given to another, by which the file is told from a successor at the same path; it does not keep
    /// the socket from closing.
    file: OwnedFd,
}

/// Makes way for a socket file at `path`, and lets `bind` create it.
///
/// A socket file at which nobody listens is removed; a live one is `AddrInUse`, and anything that
/// is no socket is `AlreadyExists`. Two servers that start at the same moment take turns by a lock
/// on the directory; where it can't be locked (no permission to read it, some network file
/// systems), the later one could remove the file of the earlier.
pub(super) fn claim<T>(
    path: &Path,
    bind: impl FnOnce() -> io::Result<T>,
) -> io::Result<(T, SocketFile)> {
    // Released when it goes out of scope, after the new socket listens.
    let _turn = lock_directory(path);
    remove_stale(path)?;
    let bound = bind()?;
    match open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => {
            let path = path.into();
            Ok((bound, SocketFile { path, file }))
        }
        Err(error) => {
            // It was bound a moment ago: whoever starts meanwhile waits for the lock, or finds it live.
            remove(path);
            Err(error.into())
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "socket file could not be removed");
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path exists and is not a socket",
        ));
    }
    if is_live(&SockAddr::unix(path)?)? {
        return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
    }
    tracing::info!(path = %path.display(), "removing the socket file that an ended server left");
    fs::remove_file(path)
}

/// Whether somebody listens at the address of a unix socket.
pub(super) fn is_live(at: &SockAddr) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Blocking, the connect would wait while a live server's backlog is full.
    socket.set_nonblocking(true)?;
    match socket.connect(at) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Ok(false),
            // A full backlog, or a live socket that is not a stream.
            Some(libc::EAGAIN | libc::EPROTOTYPE) => Ok(true),
            _ => Err(error),
        },
    }
}

/// Waits a moment for the lock; a stranger that holds it for long does not keep us from starting.
fn lock_directory(path: &Path) -> Option<File> {
    let directory = File::open(path.parent()?).ok()?;
    for _ in 0..LOCK_TRIES_MAX {
        match directory.try_lock() {
            Ok(()) => return Some(directory),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}

impl SocketFile {
    /// Whether the file at the path is this one, and was not removed or replaced by somebody else.
    fn is_in_place(&self) -> bool {
        match (fstat(&self.file), fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.st_dev, ours.st_ino) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The first look spares the wait for the lock; with the lock no successor comes in between.
        if self.is_in_place() {
            let _turn = lock_directory(&self.path);
            if self.is_in_place() {
                remove(&self.path);
            }
        }
    }
}

/// Up to one second for another server in the same directory to finish its start.
const LOCK_TRIES_MAX: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
