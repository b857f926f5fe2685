//! The CPU quota that control groups set for this process.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// CPUs' worth of time that the process may use, by the tightest quota of its control group and of
/// that group's ancestors; `None` without a quota, or where there are no control groups.
pub(super) fn cpu_quota() -> Option<f64> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    tightest(&memberships, &mounts, |file| fs::read_to_string(file).ok())
}

/// The two generations of control groups; a hybrid system has both, and quotas in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// Reads the quota of the group in `directory`.
    fn quota(self, directory: &Path, read: &impl Fn(&Path) -> Option<String>) -> Option<f64> {
        match self {
            Self::Two => parse_cpu_max(&read(&directory.join("cpu.max"))?),
            Self::One => parse_cfs(
                &read(&directory.join("cpu.cfs_quota_us"))?,
                &read(&directory.join("cpu.cfs_period_us"))?,
            ),
        }
    }
}

fn tightest(
    memberships: &str,
    mounts: &str,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<f64> {
    let mut least: Option<f64> = None;
    for (version, group) in memberships.lines().filter_map(parse_membership) {
        let Some(mount) = mounts.lines().find_map(|line| parse_mount(line, version)) else {
            continue;
        };
        let mut directory = mount.directory_of(group);
        loop {
            if let Some(quota) = version.quota(&directory, &read) {
                least = Some(least.map_or(quota, |least| least.min(quota)));
            }
            if directory == mount.point || !directory.pop() {
                break;
            }
        }
    }
    least
}

/// Reads a line of `/proc/self/cgroup`, `id:controllers:path`. Groups without the CPU controller
/// give `None`.
fn parse_membership(line: &str) -> Option<(Version, &str)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if id == "0" && controllers.is_empty() {
        Some((Version::Two, path))
    } else if controllers.split(',').any(|name| name == "cpu") {
        Some((Version::One, path))
    } else {
        None
    }
}

/// Where a hierarchy of control groups is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The group that appears at the mount point: not the topmost one in some containers.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// The directory of `group`. One that lies outside of what is mounted (a container that sees
    /// the host's names) can only be the mount point itself.
    fn directory_of(&self, group: &str) -> PathBuf {
        let outside = Path::new(group)
            .components()
            .any(|part| part == Component::ParentDir);
        match Path::new(group).strip_prefix(&self.root) {
            Ok(below) if !outside => self.point.join(below).components().collect(),
            _ => self.point.clone(),
        }
    }
}

/// Reads a line of `/proc/self/mountinfo`: six fields of which the fourth and fifth are root and
/// mount point, optional fields, a dash, then type, source and options of the file system.
fn parse_mount(line: &str, version: Version) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut file_system = file_system.split(' ');
    let (kind, _, options) = (
        file_system.next()?,
        file_system.next()?,
        file_system.next()?,
    );
    let matches = match version {
        Version::Two => kind == "cgroup2",
        Version::One => kind == "cgroup" && options.split(',').any(|option| option == "cpu"),
    };
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    matches.then(|| Mount {
        root: root.into(),
        point: unescape(point).into(),
    })
}

/// Undoes the kernel's octal escapes of the characters that would break a line into more fields.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// Reads `cpu.max`: microseconds of CPU time per period, or `max`, and the period.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota.parse().ok()?, period.parse().ok()?)
}

/// Reads `cpu.cfs_quota_us` (-1: none) and `cpu.cfs_period_us`.
fn parse_cfs(quota: &str, period: &str) -> Option<f64> {
    ratio(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn ratio(quota_us: i64, period_us: i64) -> Option<f64> {
    (quota_us > 0 && period_us > 0).then(|| quota_us as f64 / period_us as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const V2_MOUNT: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 master:2 - cgroup2 cgroup2 rw,nsdelegate";
    const V1_MOUNT: &str =
        "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";

    /// Runs `tightest` over files given as (path, content).
    fn quota(memberships: &str, mounts: &str, files: &[(&str, &str)]) -> Option<f64> {
        let files: BTreeMap<_, _> = files
            .iter()
            .map(|(path, content)| (PathBuf::from(path), content.to_string()))
            .collect();
        tightest(memberships, mounts, |file| files.get(file).cloned())
    }

    #[test]
    fn cpu_max_is_read() {
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
        for nonsense in ["", "150000", "1 0", "-1 100000", "a b"] {
            assert_eq!(parse_cpu_max(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn cfs_files_are_read() {
        assert_eq!(parse_cfs("-1\n", "100000\n"), None);
        assert_eq!(parse_cfs("50000\n", "100000\n"), Some(0.5));
    }

    #[test]
    fn v2_takes_the_tightest_of_all_ancestors() {
        let files = [
            ("/sys/fs/cgroup/a.slice/cpu.max", "200000 100000"),
            ("/sys/fs/cgroup/a.slice/b:c.service/cpu.max", "max 100000"),
            ("/sys/fs/cgroup/other/cpu.max", "1000 100000"),
        ];
        assert_eq!(
            quota("0::/a.slice/b:c.service\n", V2_MOUNT, &files),
            Some(2.0)
        );
        assert_eq!(quota("0::/else\n", V2_MOUNT, &files), None);
    }

    #[test]
    fn v2_in_a_container_has_its_quota_at_the_mount_point() {
        let files = [("/sys/fs/cgroup/cpu.max", "300000 100000")];
        assert_eq!(quota("0::/\n", V2_MOUNT, &files), Some(3.0));
        assert_eq!(quota("0::/../../else\n", V2_MOUNT, &files), Some(3.0));
    }

    #[test]
    fn v1_is_found_by_its_controller() {
        let memberships = "5:memory:/x\n4:cpuset:/\n3:cpu,cpuacct:/docker/1234\n1:name=systemd:/\n";
        let files = [
            (
                "/sys/fs/cgroup/cpu,cpuacct/docker/1234/cpu.cfs_quota_us",
                "250000\n",
            ),
            (
                "/sys/fs/cgroup/cpu,cpuacct/docker/1234/cpu.cfs_period_us",
                "100000\n",
            ),
        ];
        assert_eq!(quota(memberships, V1_MOUNT, &files), Some(2.5));

        // The container sees its own group at the mount point, but the host's name of it.
        let mount = V1_MOUNT.replace(" / ", " /docker/1234 ");
        let files = files.map(|(path, content)| (path.replace("docker/1234/", ""), content));
        let files: Vec<_> = files.iter().map(|(path, c)| (path.as_str(), *c)).collect();
        assert_eq!(quota(memberships, &mount, &files), Some(2.5));
    }

    #[test]
    fn a_hybrid_system_is_asked_in_both_hierarchies() {
        let memberships = "3:cpu,cpuacct:/a\n0::/b\n";
        let mounts =
            format!("{V1_MOUNT}\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let files = [
            ("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "400000"),
            ("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000"),
        ];
        assert_eq!(quota(memberships, &mounts, &files), Some(4.0));
        let both = [
            files[0],
            files[1],
            ("/sys/fs/cgroup/unified/b/cpu.max", "100000 100000"),
        ];
        assert_eq!(quota(memberships, &mounts, &both), Some(1.0));
    }

    #[test]
    fn odd_lines_and_odd_names_do_no_harm() {
        assert_eq!(quota("", "", &[]), None);
        assert_eq!(quota("x\n0::\n::\n", "x\n - \n", &[]), None);
        let mount = parse_mount(
            r"30 23 0:26 / /odd\040place rw - cgroup2 none rw",
            Version::Two,
        );
        assert_eq!(mount.unwrap().point, Path::new("/odd place"));
    }
}
