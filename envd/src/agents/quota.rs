//! What environments take of the machine's disk and memory, looked at while something runs in them.
//!
//! Files of an environment lie on the machine's disk, where hardly any file system has quotas that we could set. So they are
//! measured, [four times a second](TICK) at most: as often as the file system got fuller, and never for more than a tenth of the
//! time, unless what it got fuller by would be too much already. Whoever is over its quota and still growing is killed, with
//! all that runs beside it in the environment. Between two looks a fast disk takes some hundred megabytes more; single files are
//! held by RLIMIT_FSIZE. Whatever the quotas are, a [reserve](Reserve) of the file system stays free.
//!
//! Memory is held by control groups. Without one it is added up here, too.

use std::{
    collections::{HashMap, HashSet},
    ffi::CString,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use envd_agents::service::{EnvironmentId, Owner, command::State, environment::Limits};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat, statvfs},
    io::Errno,
};

use super::{Shared, inside::Inside, live::Lent};

/// How often is looked.
const TICK: Duration = Duration::from_millis(250);
/// Once in so long everything is measured, whatever the file system says.
const RARELY: Duration = Duration::from_secs(10);
/// Growth of a file system that is worth a look, in bytes and in files.
const WORTH: Usage = Usage {
    bytes: 1 << 20,
    files: 256,
};
/// What who is over its quota may still grow by, so that removing files (which takes some) is possible.
const SLACK: u64 = 16 << 20;
/// Bytes of quota for which one file is allowed.
const BYTES_PER_FILE: u64 = 8192;
/// What stays free of a file system at least: this, or a twentieth of it where that is less.
const RESERVE: u64 = 1 << 30;

/// What files take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

impl Usage {
    fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            files: self.files.saturating_add(other.files),
        }
    }

    fn exceeds(self, other: Self) -> bool {
        self.bytes > other.bytes || self.files > other.files
    }

    /// The quota that a number of bytes is.
    fn quota(bytes: u64) -> Self {
        Self {
            bytes,
            files: (bytes / BYTES_PER_FILE).max(1000),
        }
    }
}

/// What is known of an environment.
#[derive(Debug, Default)]
pub(super) struct Meter {
    known: Mutex<Known>,
    /// Nothing has run in it since it was looked at and nothing ran.
    is_idle: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    /// What it had written when that was measured last.
    upper: Usage,
    measured: Option<Measured>,
    /// While it is over its quota: what it may not exceed.
    ceiling: Option<Usage>,
    /// It was killed, and what is left has not been measured yet.
    just_killed: bool,
    killed: Option<(Instant, State)>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    at: Instant,
    took: Duration,
    filled: Usage,
}

impl Meter {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is about to run in it.
    pub(super) fn wake(&self) {
        self.is_idle.store(false, Ordering::SeqCst);
    }

    /// Why everything in it was killed, if that was after `since`.
    pub(super) fn verdict(&self, since: Instant) -> Option<State> {
        let killed = self.known().killed;
        killed
            .filter(|(at, _)| *at >= since)
            .map(|(_, state)| state)
    }
}

/// How full a file system is.
#[derive(Clone, Copy, Debug)]
struct Disk {
    filled: Usage,
    is_short: bool,
}

impl Disk {
    fn of(path: &Path) -> io::Result<Self> {
        let found = statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        let reserve = RESERVE.min(bytes(found.f_blocks) / 20);
        // Some file systems do not count inodes, and have as many as they have room for.
        let files_short = found.f_files > 0 && found.f_favail < found.f_files / 100;
        Ok(Self {
            filled: Usage {
                bytes: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
                files: found.f_files.saturating_sub(found.f_ffree),
            },
            is_short: bytes(found.f_bavail) < reserve || files_short,
        })
    }
}

/// Looks as long as there are environments.
pub(super) fn watch(shared: &Arc<Shared>) {
    if shared.watched.swap(true, Ordering::SeqCst) {
        return;
    }
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        let frozen = Arc::new(Mutex::new(HashMap::new()));
        loop {
            tokio::time::sleep(TICK).await;
            let (weak, frozen) = (weak.clone(), frozen.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let mut frozen = frozen.lock().unwrap_or_else(PoisonError::into_inner);
                look(&weak, &mut frozen)
            });
            if !looked.await.unwrap_or(false) {
                return;
            }
        }
    });
}

/// One environment, as far as it is of interest.
struct Subject {
    lent: Arc<Lent>,
    meter: Arc<Meter>,
    root: Arc<OwnedFd>,
    upper: Vec<PathBuf>,
    frozen: Vec<PathBuf>,
    /// What its commands wrote, which is kept.
    output: u64,
    project: Option<PathBuf>,
    limits: Limits,
    /// Whether its memory is a control group's business.
    is_grouped: bool,
}

impl Subject {
    fn of(lent: &Arc<Lent>, output: u64) -> Option<Self> {
        // One that is launched anew just now has no processes.
        let live = lent.live.try_read().ok()?;
        let live = live.as_ref()?;
        let layers = || live.parts.layers.all();
        Some(Self {
            lent: lent.clone(),
            meter: live.meter.clone(),
            root: live.root.clone(),
            upper: layers()
                .filter_map(|layered| layered.uppers().into_iter().next())
                .collect(),
            frozen: layers()
                .flat_map(|layered| layered.uppers().into_iter().skip(1))
                .collect(),
            output,
            project: live
                .parts
                .layers
                .project
                .as_ref()
                .map(|project| project.base().to_owned()),
            limits: live.parts.limits.clone(),
            is_grouped: live.has_memory_group(),
        })
    }

    /// Who shares its quota.
    fn share(&self) -> (&Owner, Result<&Path, &EnvironmentId>) {
        let project = self.project.as_deref();
        (&self.lent.owner, project.ok_or(&self.lent.id))
    }

    fn kill(&self, why: State) {
        {
            let mut known = self.meter.known();
            known.killed = Some((Instant::now(), why));
            known.just_killed = true;
        }
        tracing::warn!(environment = %self.lent.id, ?why, "all that runs in it is killed");
        // Not waited for: who holds it alone has ended its processes.
        if let Ok(live) = self.lent.live.try_read()
            && let Some(resident) = live.as_ref().and_then(|live| live.body.resident())
        {
            resident.kill_all();
        }
    }
}

/// Looks once. Whether there is anything left to look at.
fn look(shared: &Weak<Shared>, frozen: &mut HashMap<PathBuf, Usage>) -> bool {
    let Some(shared) = shared.upgrade() else {
        return false;
    };
    let (lent, output) = {
        let all = shared.all();
        if all.environments.is_empty() {
            // Under the lock: who lends the next one starts anew.
            shared.watched.store(false, Ordering::SeqCst);
            return false;
        }
        let mut output: HashMap<EnvironmentId, u64> = HashMap::new();
        for command in all.commands.values() {
            let kept = command.stdout.kept() + command.stderr.kept();
            *output.entry(command.environment.clone()).or_default() += kept;
        }
        (
            all.environments.values().cloned().collect::<Vec<_>>(),
            output,
        )
    };
    let subjects: Vec<Subject> = lent
        .iter()
        .filter_map(|lent| Subject::of(lent, output.get(&lent.id).copied().unwrap_or(0)))
        .collect();
    let Ok(disk) = Disk::of(&shared.place.path()) else {
        return true;
    };
    let used: HashSet<&PathBuf> = subjects
        .iter()
        .flat_map(|subject| &subject.frozen)
        .collect();
    frozen.retain(|path, _| used.contains(path));
    for path in used {
        if !frozen.contains_key(path) {
            frozen.insert(path.clone(), measure(path));
        }
    }
    for subject in &subjects {
        // Before the look: what starts meanwhile undoes it.
        if subject.meter.is_idle.swap(true, Ordering::SeqCst) {
            continue;
        }
        let processes = Inside::new(&subject.root).numbers();
        if processes.len() < 2 {
            continue;
        }
        subject.meter.wake();
        if !subject.is_grouped
            && let Some(most) = subject.limits.memory_bytes
            && memory(&subject.root, &processes) > most
        {
            subject.kill(State::OutOfMemory);
            continue;
        }
        if judge(subject, &subjects, frozen, disk) {
            subject.kill(State::OutOfSpace);
        }
    }
    true
}

/// Whether an environment takes too much disk, and more and more.
fn judge(subject: &Subject, all: &[Subject], frozen: &HashMap<PathBuf, Usage>, disk: Disk) -> bool {
    let quota = Usage::quota(subject.limits.disk_bytes.unwrap_or(u64::MAX));
    let sharing = || all.iter().filter(|other| other.share() == subject.share());
    let layers: HashSet<&PathBuf> = sharing().flat_map(|other| &other.frozen).collect();
    let shared = layers
        .into_iter()
        .filter_map(|layer| frozen.get(layer))
        .fold(Usage::default(), |sum, usage| sum.plus(*usage));
    let others = sharing()
        .filter(|other| !Arc::ptr_eq(&other.meter, &subject.meter))
        .map(|other| other.meter.known().upper)
        .fold(shared, Usage::plus);
    let mut known = subject.meter.known();
    if !is_worth(&known, others, quota, disk) {
        return false;
    }
    let began = Instant::now();
    let before = known.upper;
    let upper = subject.upper.iter().map(|upper| measure(upper));
    known.upper = upper.fold(
        Usage {
            bytes: subject.output,
            files: 0,
        },
        Usage::plus,
    );
    known.measured = Some(Measured {
        at: Instant::now(),
        took: began.elapsed(),
        filled: disk.filled,
    });
    let slack = |usage: Usage| Usage {
        bytes: usage.bytes.saturating_add(SLACK),
        files: usage.files.saturating_add(SLACK / BYTES_PER_FILE),
    };
    if std::mem::take(&mut known.just_killed) {
        known.ceiling = Some(slack(known.upper));
        return false;
    }
    let is_over = known.upper.plus(others).exceeds(quota);
    if !is_over {
        known.ceiling = None;
    }
    let grows = known.upper.bytes > before.bytes.saturating_add(WORTH.bytes)
        || known.upper.files > before.files.saturating_add(WORTH.files);
    match (is_over, known.ceiling) {
        (true, None) => true,
        (true, Some(ceiling)) => known.upper.exceeds(ceiling),
        // Somebody fills the disk; it need not be this one.
        (false, _) => disk.is_short && grows,
    }
}

/// Whether measuring can bring anything new, and is not too soon.
fn is_worth(known: &Known, others: Usage, quota: Usage, disk: Disk) -> bool {
    let Some(measured) = known.measured else {
        return true;
    };
    if known.just_killed {
        return true;
    }
    let growth = Usage {
        bytes: disk.filled.bytes.saturating_sub(measured.filled.bytes),
        files: disk.filled.files.saturating_sub(measured.filled.files),
    };
    let since = measured.at.elapsed();
    let is_soon = since < measured.took.saturating_mul(10);
    let could_be_over = known.upper.plus(others).plus(growth).exceeds(quota);
    let grew = growth.exceeds(WORTH) || disk.is_short || since > RARELY;
    grew && (could_be_over || !is_soon)
}

/// One directory on the way down.
struct Level {
    /// Device and inode.
    identity: (u64, u64),
    /// Directories in it that have not been entered.
    below: Vec<CString>,
    /// The mode to give back when it is left.
    mode: Option<u32>,
}

/// Adds up what is in a directory. Who writes there may be at it: what goes away meanwhile is not counted, and where a directory
/// is moved while it is looked into, the rest waits for the next look.
fn measure(directory: &Path) -> Usage {
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(mut current) = openat(CWD, directory, flags, Mode::empty()) else {
        return usage;
    };
    let mut levels: Vec<Level> = level(&current, None, &mut usage, &mut linked)
        .into_iter()
        .collect();
    while let Some(top) = levels.last_mut() {
        if let Some(name) = top.below.pop() {
            if let Ok((below, mode)) = enter(&current, &name)
                && let Some(found) = level(&below, mode, &mut usage, &mut linked)
            {
                levels.push(found);
                current = below;
            }
            continue;
        }
        let mode = levels.pop().and_then(|left| left.mode);
        let above = levels.last().and_then(|above| {
            let parent = openat(&current, c"..", flags, Mode::empty()).ok()?;
            let stat = fstat(&parent).ok()?;
            ((stat.st_dev, stat.st_ino) == above.identity).then_some(parent)
        });
        if let Some(mode) = mode {
            let _ = rustix::fs::fchmod(&current, Mode::from_raw_mode(mode));
        }
        match above {
            Some(parent) => current = parent,
            None => return usage,
        }
    }
    usage
}

/// Counts what a directory holds.
fn level(
    directory: &OwnedFd,
    mode: Option<u32>,
    usage: &mut Usage,
    linked: &mut HashSet<(u64, u64)>,
) -> Option<Level> {
    let stat = fstat(directory).ok()?;
    usage.bytes += stat.st_blocks as u64 * 512;
    let mut below = Vec::new();
    for entry in Dir::read_from(directory).ok()?.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        usage.files += 1;
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            below.push(name.to_owned());
        } else if stat.st_nlink < 2 || linked.insert((stat.st_dev, stat.st_ino)) {
            usage.bytes += stat.st_blocks as u64 * 512;
        }
    }
    Some(Level {
        identity: (stat.st_dev, stat.st_ino),
        below,
        mode,
    })
}

/// Opens a directory. One that even its owner may not read is made readable for as long as it is looked into: it would hide
/// anything else.
fn enter(parent: &OwnedFd, name: &CString) -> Result<(OwnedFd, Option<u32>), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(parent, name, path, Mode::empty())?;
    let mode = fstat(&found)?.st_mode & 0o7777;
    let given = if mode & 0o500 == 0o500 || rustix::process::geteuid().is_root() {
        None
    } else {
        // By the descriptor: the name may be a link by now.
        let own = format!("/proc/self/fd/{}", found.as_raw_fd());
        rustix::fs::chmod(own, Mode::from_raw_mode(mode | 0o500))?;
        Some(mode)
    };
    let opened = openat(
        &found,
        c".",
        flags.difference(OFlags::NOFOLLOW),
        Mode::empty(),
    )?;
    Ok((opened, given))
}

/// Memory of these processes together: what each has for itself, and what it has in shared memory of the largest share, for that
/// may be the same for all.
fn memory(root: &OwnedFd, processes: &[u32]) -> u64 {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let (mut own, mut shared) = (0, 0);
    for pid in processes {
        let status = openat(
            root.as_fd(),
            format!("proc/{pid}/status"),
            flags,
            Mode::empty(),
        );
        let Ok(status) = status else { continue };
        let mut text = String::new();
        if File::from(status).read_to_string(&mut text).is_ok() {
            own += kilobytes(&text, "RssAnon:") + kilobytes(&text, "VmPTE:");
            shared = shared.max(kilobytes(&text, "RssShmem:"));
        }
    }
    (own + shared) * 1024
}

fn kilobytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn everything_in_a_directory_counts_once() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(at("a/b/file"), at("link")).unwrap();
        std::os::unix::fs::symlink("/", at("root")).unwrap();
        File::create(at("sparse"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let usage = measure(place.path());
        assert_eq!(usage.files, 6);
        assert!(usage.bytes >= 1 << 20 && usage.bytes < 2 << 20, "{usage:?}");
    }

    #[test]
    fn nothing_is_too_deep_or_hidden() {
        let place = tempfile::tempdir().unwrap();
        let mut directory = openat(
            CWD,
            place.path(),
            OFlags::DIRECTORY | OFlags::RDONLY,
            Mode::empty(),
        )
        .unwrap();
        // Longer than any path, and more than a process has descriptors.
        for _ in 0..2000 {
            rustix::fs::mkdirat(&directory, "deeper", Mode::RWXU).unwrap();
            directory = openat(&directory, "deeper", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let hidden = place.path().join("hidden");
        std::fs::create_dir(&hidden).unwrap();
        std::fs::write(hidden.join("file"), "x").unwrap();
        std::fs::set_permissions(&hidden, PermissionsExt::from_mode(0o300)).unwrap();
        assert_eq!(measure(place.path()).files, 2002);
        let mode = std::fs::metadata(&hidden).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o300, "as it was");
        let parent = File::open(place.path()).unwrap();
        envd_agents::changes::remove_tree(parent.as_fd(), c"deeper").unwrap();
    }

    fn disk(bytes: u64) -> Disk {
        Disk {
            filled: Usage { bytes, files: 0 },
            is_short: false,
        }
    }

    /// A walk of a million files must not be done four times a second, unless it can matter.
    #[test]
    fn a_costly_look_is_a_rare_one_unless_the_quota_is_near() {
        let known = Known {
            measured: Some(Measured {
                at: Instant::now(),
                took: Duration::from_secs(100),
                filled: Usage::default(),
            }),
            ..Known::default()
        };
        let quota = Usage::quota(1 << 30);
        let worth = |filled| is_worth(&known, Usage::default(), quota, disk(filled));
        assert!(!worth(0), "nothing was written");
        assert!(!worth(100 << 20), "too soon");
        assert!(worth(2 << 30), "it may be over its quota");
        assert!(is_worth(
            &Known::default(),
            Usage::default(),
            quota,
            disk(0)
        ));
    }

    #[test]
    fn the_status_of_a_process_is_read() {
        let text = "Name:\tx\nRssAnon:\t    1234 kB\nRssShmem:\t       8 kB\n";
        assert_eq!(
            (kilobytes(text, "RssAnon:"), kilobytes(text, "RssShmem:")),
            (1234, 8)
        );
        assert_eq!(kilobytes(text, "VmPTE:"), 0);
    }
}
