//! What was observed of the environment's root and of the machine, so that the plan can be a pure function of it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ffi::{OsStr, OsString},
    fs, io,
    io::Read as _,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, readlinkat, statat,
};

use super::{Caller, variables::wanted_locale};
use crate::settings::HostVariables;

/// Bytes read of a file in the root at most.
const FILE_MAX: u64 = 4 * 1024 * 1024;
/// Where programs are looked for, as PATH inside has it. The last two are links to others wherever /usr is merged.
const PROGRAM_DIRECTORIES: [&str; 6] = [
    "usr/local/bin",
    "usr/bin",
    "usr/local/sbin",
    "usr/sbin",
    "bin",
    "sbin",
];

/// The root of an environment, to ask what is in it. Every question is answered beneath it: a package's absolute symbolic
/// link means the environment's own files, never the machine's.
#[derive(Debug)]
pub struct RootFacts {
    view: PathBuf,
    descriptor: OwnedFd,
    /// Those of the program directories that are there and no links.
    programs: Vec<(&'static str, OwnedFd)>,
    /// The account files, empty where it has none.
    pub passwd: String,
    /// See `passwd`.
    pub group: String,
    /// Whether it says itself where names are looked up.
    pub nsswitch: bool,
    /// Whether it has an /etc/localtime.
    pub localtime: bool,
    /// The shell for those whose own is not there.
    pub shell: Option<&'static str>,
    /// The caller's shell, if it is there.
    pub own_shell: Option<PathBuf>,
    /// Whether the caller's locale is there.
    pub locale: bool,
    /// Whether the caller's terminal is known.
    pub terminal: bool,
    /// Whether the machine's time zone is known.
    pub zone: bool,
}

/// What a caller would like to find in a root.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wanted<'a> {
    /// A shell's path.
    pub shell: Option<&'a Path>,
    /// A locale, as in LANG.
    pub locale: Option<&'a str>,
    /// A terminal's name, as in TERM.
    pub terminal: Option<&'a str>,
    /// A time zone, such as Europe/Zurich.
    pub zone: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// What this caller would like.
    pub fn of(
        caller: &'a Caller,
        variables: &'a HostVariables,
        host: &'a HostFacts,
        on_terminal: bool,
    ) -> Self {
        Self {
            shell: caller.shell.as_deref(),
            locale: wanted_locale(variables),
            terminal: variables
                .set("TERM")
                .and_then(OsStr::to_str)
                .filter(|_| on_terminal),
            zone: host.zone.as_deref(),
        }
    }
}

impl RootFacts {
    /// Looks at a root without wishes.
    pub fn of(view: &Path) -> io::Result<Self> {
        Self::read(view, Wanted::default())
    }

    /// Looks at a root.
    pub fn read(view: &Path, wanted: Wanted<'_>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = openat(CWD, view, flags, Mode::empty())?;
        let mut facts = Self {
            view: view.to_owned(),
            descriptor,
            programs: Vec::new(),
            passwd: String::new(),
            group: String::new(),
            nsswitch: false,
            localtime: false,
            shell: None,
            own_shell: None,
            locale: false,
            terminal: false,
            zone: false,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        facts.programs = PROGRAM_DIRECTORIES
            .iter()
            .filter_map(|path| Some((*path, facts.open(Path::new(path), flags).ok()?)))
            .collect();
        facts.passwd = facts.text("etc/passwd");
        facts.group = facts.text("etc/group");
        facts.nsswitch = facts.has("etc/nsswitch.conf");
        facts.localtime = facts.has("etc/localtime");
        facts.shell = ["/bin/bash", "/bin/sh"]
            .into_iter()
            .find(|shell| facts.has(shell));
        facts.own_shell = wanted.shell.and_then(|shell| facts.shell_like(shell));
        facts.locale = wanted.locale.is_some_and(|locale| facts.has_locale(locale));
        facts.terminal = wanted.terminal.is_some_and(|name| facts.has_terminal(name));
        facts.zone = wanted
            .zone
            .is_some_and(|zone| facts.has(format!("usr/share/zoneinfo/{zone}")));
        Ok(facts)
    }

    /// The shell to open in it: the caller's if it is there, else one that is.
    pub fn shell_to_open(&self) -> Option<PathBuf> {
        let own = self.own_shell.clone();
        own.or_else(|| self.shell.map(Into::into))
    }

    /// The directory that the root is.
    pub fn view(&self) -> &Path {
        &self.view
    }

    /// Whether there is something at `path`, which is taken from the root.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.open(path.as_ref(), OFlags::PATH).is_ok()
    }

    /// Whether the archive's own directory of programs has this one. Packages put their tools nowhere else, and this is asked
    /// for dozens of names on each run.
    pub fn has_tool(&self, name: &str) -> bool {
        let place = self.programs.iter().find(|(path, _)| *path == "usr/bin");
        place.is_some_and(|(_, directory)| {
            statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        })
    }

    /// Where a program of this name would be found, whether or not what it links to is there.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        if name.is_empty() || name.contains('/') {
            return None;
        }
        let has = |directory: &OwnedFd| statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let (path, _) = self.programs.iter().find(|(_, directory)| has(directory))?;
        Some(Path::new("/").join(path).join(name))
    }

    /// Every command that it offers: what can be executed in the program directories, by name, with where it is found first.
    pub fn commands(&self) -> io::Result<BTreeMap<OsString, PathBuf>> {
        let mut commands = BTreeMap::new();
        for (path, directory) in &self.programs {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = openat(directory, ".", flags, Mode::empty())?;
            for entry in Dir::read_from(&opened)? {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                let place = Path::new(path).join(name);
                if let Entry::Vacant(vacant) = commands.entry(name.to_owned())
                    && self.is_program(&place)
                {
                    vacant.insert(Path::new("/").join(place));
                }
            }
        }
        Ok(commands)
    }

    /// Whether what is at `path`, or what a link there leads to, can be executed.
    fn is_program(&self, path: &Path) -> bool {
        let status = self
            .open(path, OFlags::PATH)
            .and_then(|file| Ok(fstat(file)?));
        status.is_ok_and(|status| {
            FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
                && status.st_mode & 0o111 != 0
        })
    }

    /// The file that links at `path` lead to, as a path in the root. `path` itself where there is no link or none that leads anywhere.
    pub fn resolved(&self, path: &Path) -> PathBuf {
        let resolve = || -> io::Result<PathBuf> {
            let file = self.open(path, OFlags::PATH)?;
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            let found = readlinkat(CWD, link, Vec::new())?;
            let found = Path::new(OsStr::from_bytes(found.to_bytes()));
            let view = fs::canonicalize(&self.view)?;
            let below = found.strip_prefix(view).map_err(io::Error::other)?;
            Ok(Path::new("/").join(below))
        };
        resolve().unwrap_or_else(|_| path.to_owned())
    }

    /// The caller's shell if it is there, at its own path or at Debian's.
    fn shell_like(&self, shell: &Path) -> Option<PathBuf> {
        if self.has(shell) {
            return Some(shell.to_owned());
        }
        self.program(shell.file_name()?.to_str()?)
    }

    fn has_locale(&self, locale: &str) -> bool {
        if matches!(locale, "C" | "POSIX") {
            return true;
        }
        let Some((language, encoding)) = locale.split_once('.') else {
            return self.has(format!("usr/lib/locale/{locale}"));
        };
        // glibc spells the encoding of a directory in lower case, without a hyphen; C.UTF-8 is built in.
        let encoding = encoding.to_ascii_lowercase().replace('-', "");
        language == "C" && encoding == "utf8"
            || self.has(format!("usr/lib/locale/{language}.{encoding}"))
            || self.has("usr/lib/locale/locale-archive")
    }

    fn has_terminal(&self, name: &str) -> bool {
        let Some(first) = name.chars().next() else {
            return false;
        };
        ["etc/terminfo", "lib/terminfo", "usr/share/terminfo"]
            .iter()
            .any(|directory| self.has(format!("{directory}/{first}/{name}")))
    }

    /// A file's text, empty if there is none or it is no text.
    fn text(&self, path: &str) -> String {
        let read = || -> io::Result<String> {
            let file =
                fs::File::from(self.open(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK)?);
            let size = file.metadata()?.len().min(FILE_MAX);
            let mut text = String::with_capacity(size as usize + 64);
            file.take(FILE_MAX).read_to_string(&mut text)?;
            Ok(text)
        };
        read().unwrap_or_default()
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(&self.descriptor, path, flags, Mode::empty(), resolve)?;
        Ok(opened)
    }
}

/// What matters of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostFacts {
    /// `uname -n`.
    pub hostname: String,
    /// The time zone's name, such as Europe/Zurich.
    pub zone: Option<String>,
    /// What /etc/hosts says.
    pub hosts: NameFile,
    /// What /etc/resolv.conf says.
    pub resolver: NameFile,
}

/// A file that names are looked up by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NameFile {
    /// There is none.
    Missing,
    /// Its text.
    Text(String),
    /// It is too large to be carried about, or no text: whoever wants it takes the file itself.
    Other,
}

impl NameFile {
    /// The most that is read: ordinary ones have a few hundred bytes, block lists go into the megabytes.
    const LONGEST: u64 = 16 * 1024;

    fn read(path: &str) -> Self {
        let mut text = String::new();
        let read = fs::File::open(path)
            .and_then(|file| file.take(Self::LONGEST + 1).read_to_string(&mut text));
        match read {
            Ok(_) if text.len() as u64 <= Self::LONGEST => Self::Text(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Other,
        }
    }
}

impl HostFacts {
    /// This machine's.
    pub fn of_this_machine() -> Self {
        Self {
            hostname: hostname(),
            zone: zone(),
            hosts: NameFile::read("/etc/hosts"),
            resolver: NameFile::read("/etc/resolv.conf"),
        }
    }

    /// Whether the machine calls itself and its time zone as it did. That its files are still the same is for whoever watches
    /// them to tell, without reading.
    pub fn is_called_the_same(&self) -> bool {
        self.hostname == hostname() && self.zone == zone()
    }
}

fn hostname() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}

fn zone() -> Option<String> {
    zone_of(&fs::read_link("/etc/localtime").ok()?)
}

/// The name of the zone that a link into the zone database leads to.
fn zone_of(link: &Path) -> Option<String> {
    let (_, name) = link.to_str()?.split_once("/zoneinfo/")?;
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b));
    (plain && !name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, *file).unwrap();
        }
        root
    }

    #[test]
    fn a_link_to_an_absolute_path_never_reads_the_machines_files() {
        let root = root(&["usr/bin/sh"]);
        fs::create_dir(root.path().join("etc")).unwrap();
        symlink("/etc/hostname", root.path().join("etc/passwd")).unwrap();
        symlink(
            "../../../../../../../../etc/group",
            root.path().join("etc/group"),
        )
        .unwrap();
        symlink("/usr/bin", root.path().join("bin")).unwrap();
        let facts = RootFacts::of(root.path()).unwrap();
        assert_eq!((&*facts.passwd, &*facts.group), ("", ""));
        assert_eq!(
            facts.shell,
            Some("/bin/sh"),
            "links that stay inside are followed"
        );
    }

    /// A shim for each, so what is none would be a file that only fails.
    #[test]
    fn commands_are_what_can_be_executed_links_included() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = root(&[
            "usr/bin/gawk",
            "usr/bin/readme",
            "usr/sbin/gawk",
            "usr/sbin/mount",
        ]);
        let at = |path: &str| root.path().join(path);
        for program in ["usr/bin/gawk", "usr/sbin/gawk", "usr/sbin/mount"] {
            fs::set_permissions(at(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir_all(at("etc/alternatives")).unwrap();
        fs::create_dir(at("usr/bin/directory")).unwrap();
        symlink("/etc/alternatives/awk", at("usr/bin/awk")).unwrap();
        symlink("/usr/bin/gawk", at("etc/alternatives/awk")).unwrap();
        symlink("/usr/bin/absent", at("usr/bin/dangling")).unwrap();
        symlink("usr/bin", at("bin")).unwrap();
        let facts = RootFacts::of(root.path()).unwrap();
        let commands = facts.commands().unwrap();
        let found: Vec<_> = commands
            .iter()
            .map(|(name, path)| (name.to_str().unwrap(), path.to_str().unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                ("awk", "/usr/bin/awk"),
                ("gawk", "/usr/bin/gawk"),
                ("mount", "/usr/sbin/mount")
            ]
        );
        let resolved = |path: &str| facts.resolved(Path::new(path));
        assert_eq!(resolved("/usr/bin/awk"), Path::new("/usr/bin/gawk"));
        assert_eq!(
            resolved("/usr/bin/dangling"),
            Path::new("/usr/bin/dangling")
        );
    }

    #[test]
    fn the_callers_shell_is_found_wherever_the_root_has_it() {
        let root = root(&["usr/bin/zsh", "bin/bash"]);
        let with = |shell: &str| {
            let wanted = Wanted {
                shell: Some(Path::new(shell)),
                ..Wanted::default()
            };
            RootFacts::read(root.path(), wanted).unwrap().own_shell
        };
        assert_eq!(
            with("/opt/homebrew/bin/zsh").as_deref(),
            Some(Path::new("/usr/bin/zsh"))
        );
        assert_eq!(with("/bin/bash").as_deref(), Some(Path::new("/bin/bash")));
        assert_eq!(with("/usr/bin/fish"), None);
    }

    #[test]
    fn locales_terminals_and_zones_are_looked_up() {
        let root = root(&[
            "usr/lib/locale/de_CH.utf8/LC_CTYPE",
            "lib/terminfo/x/xterm",
            "usr/share/zoneinfo/Europe/Zurich",
        ]);
        let read = |locale, terminal, zone| {
            let wanted = Wanted {
                shell: None,
                locale: Some(locale),
                terminal: Some(terminal),
                zone: Some(zone),
            };
            let facts = RootFacts::read(root.path(), wanted).unwrap();
            (facts.locale, facts.terminal, facts.zone)
        };
        assert_eq!(
            read("de_CH.UTF-8", "xterm", "Europe/Zurich"),
            (true, true, true)
        );
        assert_eq!(
            read("fr_FR.UTF-8", "xterm-kitty", "Asia/Tokyo"),
            (false, false, false)
        );
        assert_eq!(
            read("C.UTF-8", "", "../../../etc/passwd"),
            (true, false, false)
        );
    }

    #[test]
    fn a_zone_is_a_plain_name() {
        assert_eq!(
            zone_of(Path::new("/usr/share/zoneinfo/Europe/Zurich")).as_deref(),
            Some("Europe/Zurich")
        );
        assert_eq!(
            zone_of(Path::new("../usr/share/zoneinfo/UTC")).as_deref(),
            Some("UTC")
        );
        assert_eq!(zone_of(Path::new("/usr/share/zoneinfo/../../etc/x")), None);
        assert_eq!(zone_of(Path::new("/etc/zone")), None);
    }
}
