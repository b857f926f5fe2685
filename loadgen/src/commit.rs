//! The commit that the source is at. The build script compiles this file, the library its test.

use std::path::Path;
use std::process::Command;

/// The short hash of the commit that a folder is at, marked when its repository has changes that the
/// commit does not hold; `None` outside a repository. Results are left out of that: a series of
/// measurements writes one after another.
pub fn commit(folder: &Path) -> Option<String> {
    let hash = git(folder, &["rev-parse", "--short=9", "HEAD"])?;
    let tracked_and_new = ["status", "--porcelain", "--", ":/", ":(top,exclude)results"];
    let changes = git(folder, &tracked_and_new)?;
    let mark = if changes.is_empty() { "" } else { "-dirty" };
    Some(hash + mark)
}

/// What git says of a folder; `None` outside a repository.
pub fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    let output = git.arg("-C").arg(folder).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_marked_when_the_source_differs_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(commit(path), None);
        let told = |arguments: &[&str]| {
            let identity = ["-c", "user.name=x", "-c", "user.email=x@x"];
            git(path, &[&identity, arguments].concat()).expect("git does it");
        };
        told(&["init", "--quiet", "--initial-branch", "main"]);
        told(&["commit", "--allow-empty", "--message", "x"]);
        let clean = commit(path).unwrap();
        assert!(!clean.is_empty() && clean.chars().all(|digit| digit.is_ascii_hexdigit()));
        std::fs::create_dir(path.join("results")).unwrap();
        std::fs::write(path.join("results/x.md"), "new").unwrap();
        assert_eq!(commit(path), Some(clean.clone()));
        std::fs::write(path.join("x.rs"), "new").unwrap();
        assert_eq!(commit(path), Some(clean + "-dirty"));
    }
}
