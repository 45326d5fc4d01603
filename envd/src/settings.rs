//! What the user sets outside of any project: environment variables, each declared here once, and the user's configuration
//! file. A variable goes before the file, the file before the default. They are read at the entry point, here, and passed down.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use envd_agents::policy::Layer;

use crate::config::{ConfigError, Fault, Reader, Source, TableReader, agent};

/// An environment variable that envd reads.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub documentation: &'static str,
}

macro_rules! variables {
    ($($constant:ident = $documentation:literal;)*) => {
        /// The names, as constants.
        pub mod variable {
            $(#[doc = $documentation] pub const $constant: &str = stringify!($constant);)*
        }
        /// Every variable that envd reads for itself, for `envd help` and the manual page.
        pub const VARIABLES: &[Variable] = &[
            $(Variable { name: stringify!($constant), documentation: $documentation },)*
        ];
    };
}

variables! {
    ENVD_STORE = "Directory of the store";
    ENVD_OFFLINE = "1: never connect to anything";
    ENVD_DEBIAN_MIRROR = "Address of the Debian archive";
    ENVD_DEBIAN_SECURITY_MIRROR = "Address of the Debian security archive";
    ENVD_SNAPSHOT_MIRROR = "Address of the archive of past states";
    ENVD_DEBIAN_KEYRING = "File of OpenPGP certificates to trust instead of Debian's";
    ENVD_LOG = "What to log to standard error, such as debug or envd::resolve=trace";
    ENVD_DAEMON_IDLE = "Seconds after which a project's daemon that nobody uses ends (default 600)";
    NO_COLOR = "Not empty: no colours";
    XDG_CONFIG_HOME = "Where the user's envd/config.toml is (default ~/.config)";
    XDG_DATA_HOME = "Where a user's store is, as envd/ (default ~/.local/share)";
    XDG_RUNTIME_DIR = "Where the sockets of the user's daemons are, as envd/ (default /run/user/UID)";
    HOME = "The user's directory";
}

/// The default address of the Debian archive. Trust is by signature, so a mirror over plain HTTP is as good.
pub const DEBIAN_MIRROR: &str = "https://deb.debian.org/debian";
/// The default address of the Debian security archive.
pub const DEBIAN_SECURITY_MIRROR: &str = "https://deb.debian.org/debian-security";
/// The default address of the archive of past states.
pub const SNAPSHOT_MIRROR: &str = "https://snapshot.debian.org/archive";
/// The store of the root user.
const SYSTEM_STORE: &str = "/var/lib/envd";
/// Downloads at a time, unless the user says otherwise. Mirrors begin to refuse well above it.
const CONCURRENCY: u32 = 8;
/// Seconds that a daemon stays without anybody using it, unless the user says otherwise.
const DAEMON_IDLE: u64 = 600;

/// The environment variables of this process, taken once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostVariables(BTreeMap<OsString, OsString>);

impl HostVariables {
    /// Those of this process. Started from an empty environment, as by some editors, its user is at home all the same.
    pub fn of_this_process() -> Self {
        let mut all: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        if !all.contains_key(OsStr::new(variable::HOME)) {
            let accounts = std::fs::read("/etc/passwd").unwrap_or_default();
            let home = home_in(&accounts, rustix::process::getuid().as_raw());
            all.extend(home.map(|home| (variable::HOME.into(), home)));
        }
        Self(all)
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The value of a variable unless it is empty, which the XDG specification and NO_COLOR treat as unset.
    pub fn set(&self, name: &str) -> Option<&OsStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for HostVariables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(n, v)| (n.into(), v.into()))
                .collect(),
        )
    }
}

/// The home directory of a user (passwd(5)).
fn home_in(accounts: &[u8], uid: u32) -> Option<OsString> {
    let uid = uid.to_string();
    let mut lines = accounts.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let own = fields.get(2).is_some_and(|field| *field == uid.as_bytes());
        let home = fields.get(5).filter(|home| home.starts_with(b"/") && own)?;
        Some(OsStr::from_bytes(home).to_owned())
    })
}

/// What holds for every command of this user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Directory of the store. Absolute.
    pub store: PathBuf,
    /// Never connect.
    pub offline: bool,
    /// Address of the Debian archive, without a slash at its end.
    pub debian_mirror: String,
    /// Address of the Debian security archive, without a slash at its end.
    pub debian_security_mirror: String,
    /// Address of the archive of past states, without a slash at its end.
    pub snapshot_mirror: String,
    /// Certificates to trust instead of Debian's. Absolute.
    pub debian_keyring: Option<PathBuf>,
    /// Downloads at a time.
    pub concurrency: u32,
    /// Seconds after which a daemon that nobody uses ends.
    pub daemon_idle: u64,
    /// The directory of the login session for sockets, if one is named. Absolute.
    pub runtime_directory: Option<PathBuf>,
    /// What to log, if anything.
    pub log: Option<String>,
    /// Whether NO_COLOR forbids colours.
    pub no_color: bool,
    /// The section `[agent]` of the user's file: what agents may do.
    pub agent: Layer,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The user's file is wrong.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A variable has a value that means nothing.
    #[error("the environment variable {name} is {value:?}: {expected}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it is set to.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// There is nowhere to put the store.
    #[error(
        "neither XDG_DATA_HOME nor HOME is set to an absolute path, so there is no place for the store; set ENVD_STORE"
    )]
    NoHome,
}

impl Settings {
    /// Reads the user's file and the variables. `uid` is that of the caller.
    pub fn load(variables: &HostVariables, uid: u32) -> Result<Self, SettingsError> {
        let home = variables.set(variable::HOME).map(Path::new);
        let file = match config_file(variables) {
            Some(path) => match Source::load(&path) {
                Ok(source) => FileSettings::parse(&source, home)?,
                Err(ConfigError::Read { source, .. }) if is_absent(&source) => {
                    FileSettings::default()
                }
                Err(e) => return Err(e.into()),
            },
            None => FileSettings::default(),
        };
        Self::resolve(variables, file, uid)
    }

    fn resolve(
        variables: &HostVariables,
        file: FileSettings,
        uid: u32,
    ) -> Result<Self, SettingsError> {
        let address = |name, file: Option<String>, default: &str| match text(variables, name)? {
            Some(value) => match unusable_address(&value) {
                Some(expected) => Err(SettingsError::Variable {
                    name,
                    value,
                    expected,
                }),
                None => Ok(value.trim_end_matches('/').to_owned()),
            },
            None => Ok(file.unwrap_or_else(|| default.to_owned())),
        };
        Ok(Self {
            store: store(variables, file.store, uid)?,
            offline: truth(variables, variable::ENVD_OFFLINE)?
                .or(file.offline)
                .unwrap_or(false),
            debian_mirror: address(
                variable::ENVD_DEBIAN_MIRROR,
                file.debian_mirror,
                DEBIAN_MIRROR,
            )?,
            debian_security_mirror: address(
                variable::ENVD_DEBIAN_SECURITY_MIRROR,
                file.debian_security_mirror,
                DEBIAN_SECURITY_MIRROR,
            )?,
            snapshot_mirror: address(
                variable::ENVD_SNAPSHOT_MIRROR,
                file.snapshot_mirror,
                SNAPSHOT_MIRROR,
            )?,
            debian_keyring: path(variables, variable::ENVD_DEBIAN_KEYRING)?.or(file.debian_keyring),
            concurrency: file.concurrency.unwrap_or(CONCURRENCY),
            daemon_idle: number(variables, variable::ENVD_DAEMON_IDLE)?.unwrap_or(DAEMON_IDLE),
            runtime_directory: variables
                .set(variable::XDG_RUNTIME_DIR)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute()),
            log: text(variables, variable::ENVD_LOG)?,
            no_color: variables.set(variable::NO_COLOR).is_some(),
            agent: file.agent,
        })
    }
}

/// What the user's file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct FileSettings {
    store: Option<PathBuf>,
    debian_keyring: Option<PathBuf>,
    offline: Option<bool>,
    debian_mirror: Option<String>,
    debian_security_mirror: Option<String>,
    snapshot_mirror: Option<String>,
    concurrency: Option<u32>,
    agent: Layer,
}

impl FileSettings {
    fn parse(source: &Source, home: Option<&Path>) -> Result<Self, ConfigError> {
        Reader::document(source, |reader, top| {
            let offline = top
                .get("offline")
                .and_then(|v| reader.boolean("offline", v));
            let concurrency = top
                .get("concurrency")
                .and_then(|v| reader.number("concurrency", v, 1..=64));
            let mut settings = Self {
                store: absolute_path(reader, top, "store", "store"),
                offline,
                concurrency,
                ..Self::default()
            };
            if let Some(value) = top.get("agent") {
                settings.agent = agent::read(reader, source, agent::Whose::User(home), value);
            }
            let Some(mut debian) = top.get("debian").and_then(|v| reader.table("debian", v)) else {
                return settings;
            };
            for (key, slot) in [
                ("mirror", &mut settings.debian_mirror),
                ("security-mirror", &mut settings.debian_security_mirror),
                ("snapshot-mirror", &mut settings.snapshot_mirror),
            ] {
                let Some(value) = debian.get(key) else {
                    continue;
                };
                let Some(address) = reader.string(&format!("debian.{key}"), value) else {
                    continue;
                };
                if let Some(expected) = unusable_address(address.get_ref()) {
                    let message = format!("`debian.{key}` is {:?}: {expected}", address.get_ref());
                    reader.report(
                        address.span(),
                        Fault {
                            message,
                            help: None,
                        },
                    );
                }
                *slot = Some(address.into_inner().trim_end_matches('/').to_owned());
            }
            settings.debian_keyring =
                absolute_path(reader, &mut debian, "keyring", "debian.keyring");
            reader.finish(debian);
            settings
        })
    }
}

/// A path of the user's file: absolute, as there is no directory that it could be relative to everywhere.
fn absolute_path(
    reader: &mut Reader,
    table: &mut TableReader<'_, '_>,
    key: &'static str,
    name: &str,
) -> Option<PathBuf> {
    let text = reader.string(name, table.get(key)?)?;
    let path = PathBuf::from(text.get_ref());
    if !path.is_absolute() {
        let message = format!(
            "`{name}` must be an absolute path, not {:?}",
            text.get_ref()
        );
        reader.report(
            text.span(),
            Fault {
                message,
                help: None,
            },
        );
    }
    Some(path)
}

/// Where the user's file would be.
pub fn config_file(variables: &HostVariables) -> Option<PathBuf> {
    directory(variables, variable::XDG_CONFIG_HOME, ".config").map(|d| d.join("envd/config.toml"))
}

fn store(
    variables: &HostVariables,
    file: Option<PathBuf>,
    uid: u32,
) -> Result<PathBuf, SettingsError> {
    if let Some(store) = path(variables, variable::ENVD_STORE)?.or(file) {
        return Ok(store);
    }
    if uid == 0 {
        return Ok(SYSTEM_STORE.into());
    }
    directory(variables, variable::XDG_DATA_HOME, ".local/share")
        .map(|d| d.join("envd"))
        .ok_or(SettingsError::NoHome)
}

/// A variable's value as an absolute path.
fn path(variables: &HostVariables, name: &'static str) -> Result<Option<PathBuf>, SettingsError> {
    match variables.set(name).map(Path::new) {
        Some(path) if !path.is_absolute() => Err(SettingsError::Variable {
            name,
            value: path.display().to_string(),
            expected: "it must be an absolute path",
        }),
        path => Ok(path.map(Path::to_owned)),
    }
}

/// A base directory: relative ones are ignored, as its specification demands.
fn directory(variables: &HostVariables, name: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name| {
        variables
            .set(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute(name).or_else(|| absolute(variable::HOME).map(|home| home.join(below_home)))
}

/// A variable's value as text; empty counts as unset.
fn text(variables: &HostVariables, name: &'static str) -> Result<Option<String>, SettingsError> {
    match variables.set(name) {
        None => Ok(None),
        Some(value) => match value.to_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(SettingsError::Variable {
                name,
                value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
                expected: "it must be UTF-8 text",
            }),
        },
    }
}

fn number(variables: &HostVariables, name: &'static str) -> Result<Option<u64>, SettingsError> {
    let Some(value) = text(variables, name)? else {
        return Ok(None);
    };
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(SettingsError::Variable {
            name,
            value,
            expected: "it must be a whole number",
        }),
    }
}

fn truth(variables: &HostVariables, name: &'static str) -> Result<Option<bool>, SettingsError> {
    let Some(value) = text(variables, name)? else {
        return Ok(None);
    };
    match &*value.to_ascii_lowercase() {
        "1" | "true" | "yes" | "on" => Ok(Some(true)),
        "0" | "false" | "no" | "off" => Ok(Some(false)),
        _ => Err(SettingsError::Variable {
            name,
            value,
            expected: "it must be 1 or 0",
        }),
    }
}

/// Why a text cannot be an archive's address.
fn unusable_address(text: &str) -> Option<&'static str> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest)
            if !rest.starts_with('/')
                && !rest.is_empty()
                && !text.contains(char::is_whitespace) =>
        {
            None
        }
        _ => Some("it must be an address that starts with https:// or http://"),
    }
}

/// Whether an error says that there is no such file, not that it cannot be read.
fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> HostVariables {
        pairs.iter().copied().collect()
    }

    /// Loads with a configuration file of this content, below a directory of its own.
    fn with_file(content: &str, pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap();
        std::fs::create_dir(directory.path().join("envd")).unwrap();
        std::fs::write(directory.path().join("envd/config.toml"), content).unwrap();
        let mut all = vec![("HOME", "/home/ada"), ("XDG_CONFIG_HOME", home)];
        all.extend(pairs);
        Settings::load(&variables(&all), 1000)
    }

    #[test]
    fn whoever_has_no_home_variable_is_at_home_as_the_accounts_say() {
        let accounts = b"root:x:0:0::/root:/bin/sh\n\nada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\nodd:x:7:7::nowhere:\n";
        let home = |uid| home_in(accounts, uid);
        assert_eq!(home(1000).unwrap(), "/home/ada");
        assert_eq!(home(0).unwrap(), "/root");
        assert_eq!((home(7), home(5)), (None, None));
    }

    #[test]
    fn a_variable_goes_before_the_file_and_the_file_before_the_default() {
        let file = "offline = true\nconcurrency = 3\n[debian]\nmirror = \"http://mirror.example/debian/\"\n";
        let settings = with_file(file, &[]).unwrap();
        assert_eq!(settings.debian_mirror, "http://mirror.example/debian");
        assert_eq!(settings.debian_security_mirror, DEBIAN_SECURITY_MIRROR);
        assert_eq!((settings.offline, settings.concurrency), (true, 3));
        let settings = with_file(
            file,
            &[
                ("ENVD_OFFLINE", "0"),
                ("ENVD_DEBIAN_MIRROR", "https://other.example/"),
            ],
        )
        .unwrap();
        assert_eq!(settings.debian_mirror, "https://other.example");
        assert!(!settings.offline);
    }

    #[test]
    fn an_empty_variable_is_as_good_as_none() {
        let settings = with_file(
            "offline = true\n",
            &[("ENVD_OFFLINE", ""), ("NO_COLOR", ""), ("ENVD_STORE", "")],
        )
        .unwrap();
        assert!(settings.offline && !settings.no_color);
        assert_eq!(settings.store, Path::new("/home/ada/.local/share/envd"));
    }

    #[test]
    fn the_store_is_the_users_or_the_systems() {
        let at =
            |pairs: &[(&str, &str)], uid| Settings::load(&variables(pairs), uid).unwrap().store;
        let absent = ("XDG_CONFIG_HOME", "/nonexistent");
        assert_eq!(
            at(&[absent, ("HOME", "/home/ada")], 1000),
            Path::new("/home/ada/.local/share/envd")
        );
        assert_eq!(
            at(&[absent, ("XDG_DATA_HOME", "/data")], 1000),
            Path::new("/data/envd")
        );
        assert_eq!(
            at(&[absent, ("XDG_DATA_HOME", "data"), ("HOME", "/h")], 1000),
            Path::new("/h/.local/share/envd")
        );
        assert_eq!(
            at(&[absent, ("HOME", "/root")], 0),
            Path::new("/var/lib/envd")
        );
        assert_eq!(at(&[absent, ("ENVD_STORE", "/s")], 0), Path::new("/s"));
    }

    #[test]
    fn values_that_mean_nothing_are_refused_by_name() {
        for (name, value) in [
            ("ENVD_OFFLINE", "perhaps"),
            ("ENVD_DEBIAN_MIRROR", "ftp://x"),
            ("ENVD_DEBIAN_MIRROR", "mirror.example"),
            ("ENVD_STORE", "relative/store"),
        ] {
            let error = with_file("", &[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        assert!(matches!(
            Settings::load(&variables(&[]), 1000),
            Err(SettingsError::NoHome)
        ));
    }

    #[test]
    fn a_wrong_file_is_an_error_with_its_line() {
        let error = with_file("offlin = true\nconcurrency = 0\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("config.toml:1:1") && error.contains("did you mean `offline`?"),
            "{error}"
        );
        assert!(
            error.contains("`concurrency` must be a whole number from 1 to 64"),
            "{error}"
        );
    }

    #[test]
    fn every_variable_is_documented_once() {
        let mut names: Vec<_> = VARIABLES.iter().map(|v| v.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VARIABLES.len());
        assert!(VARIABLES.iter().all(|v| !v.documentation.is_empty()));
    }
}
