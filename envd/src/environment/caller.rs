//! Who started envd.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use crate::settings::{HostVariables, variable};

/// The person at work, as far as the inside needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Login name.
    pub name: String,
    /// Name of the primary group.
    pub group: String,
    /// Home directory. Absolute.
    pub home: PathBuf,
    /// Preferred shell, if one is set.
    pub shell: Option<PathBuf>,
}

impl Caller {
    /// Whoever runs this process.
    ///
    /// The name is looked up in /etc/passwd itself: asking the name service loads its modules and may ask a server, for
    /// 0.2 ms and more on each run, and what it would say beyond the file is in USER.
    pub fn of_this_process(variables: &HostVariables) -> Self {
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::known_by(
            uid,
            gid,
            variables,
            &read("/etc/passwd"),
            &read("/etc/group"),
        )
    }

    fn known_by(uid: u32, gid: u32, variables: &HostVariables, passwd: &str, group: &str) -> Self {
        let account = line_of(passwd, uid);
        let text = |name| variables.set(name).and_then(OsStr::to_str);
        let name = account
            .as_ref()
            .map(|fields| fields[0])
            .or_else(|| text("USER"))
            .or_else(|| text("LOGNAME"))
            .filter(|name| is_name(name))
            .unwrap_or(if uid == 0 { "root" } else { "user" });
        let group = line_of(group, gid)
            .map(|fields| fields[0])
            .filter(|name| is_name(name));
        let absolute = |path: &OsStr| Path::new(path).is_absolute().then(|| PathBuf::from(path));
        let home = variables
            .set(variable::HOME)
            .and_then(absolute)
            .or_else(|| absolute(OsStr::new(account.as_ref()?.get(5)?)))
            .unwrap_or_else(|| PathBuf::from("/home").join(name));
        let shell = variables
            .set("SHELL")
            .and_then(absolute)
            .or_else(|| absolute(OsStr::new(account.as_ref()?.get(6)?)));
        Self {
            uid,
            gid,
            name: name.to_owned(),
            group: group.unwrap_or(name).to_owned(),
            home,
            shell,
        }
    }
}

/// The fields of the line whose third is `id`, as passwd(5) and group(5) have it.
fn line_of(table: &str, id: u32) -> Option<Vec<&str>> {
    let id = id.to_string();
    table
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&id.as_str()))
}

/// Whether a text can stand in a line of passwd(5).
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && !text.contains([':', '/', '\n', ' '])
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nada:x:1000:100:Ada:/home/ada:/usr/bin/zsh\n";

    fn caller(uid: u32, pairs: &[(&str, &str)]) -> Caller {
        Caller::known_by(
            uid,
            100,
            &pairs.iter().copied().collect(),
            PASSWD,
            "users:x:100:\n",
        )
    }

    #[test]
    fn the_file_names_the_caller_and_variables_say_the_rest() {
        let ada = caller(1000, &[("USER", "eve"), ("HOME", "/elsewhere")]);
        assert_eq!((&*ada.name, &*ada.group), ("ada", "users"));
        assert_eq!(ada.home, Path::new("/elsewhere"));
        assert_eq!(ada.shell.as_deref(), Some(Path::new("/usr/bin/zsh")));
        assert_eq!(caller(1000, &[]).home, Path::new("/home/ada"));
    }

    #[test]
    fn a_caller_that_no_file_knows_is_still_somebody() {
        let nobody = caller(70000, &[]);
        assert_eq!(
            (&*nobody.name, nobody.home.to_str()),
            ("user", Some("/home/user"))
        );
        assert_eq!(caller(70000, &[("USER", "ldap-user")]).name, "ldap-user");
        assert_eq!(
            caller(70000, &[("USER", "x:0:0::/:/bin/sh\nroot")]).name,
            "user",
            "no line is smuggled in"
        );
        assert_eq!(
            caller(70000, &[("HOME", "relative")]).home,
            Path::new("/home/user")
        );
    }
}
