//! The environment variables inside: made anew, with what describes the terminal and the way out taken along, then what
//! the project sets, then what the command line sets.
//!
//! Deliberately not taken along: anything that names files of the machine (LD_LIBRARY_PATH, PYTHONPATH, SSL_CERT_FILE,
//! GOPATH, …), sockets of the session (SSH_AUTH_SOCK, DBUS_SESSION_BUS_ADDRESS, DISPLAY, WAYLAND_DISPLAY) and tokens.
//! `[env.vars]` sets what a project needs, `--env NAME` takes one along.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use super::{Inputs, Network};
use crate::settings::HostVariables;

/// Where programs are looked for inside.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// The locale that every glibc has.
const LOCALE: &str = "C.UTF-8";
/// About the terminal and what its user likes to see.
const TERMINAL: [&str; 5] = [
    "COLORTERM",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "FORCE_COLOR",
];
/// The way out to the network, in the spellings that tools read.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];
/// All variables inside, for a process at `home` with `shell`.
pub(super) fn of(inputs: &Inputs<'_>, home: &Path, shell: &str) -> BTreeMap<String, OsString> {
    let mut all = BTreeMap::<String, OsString>::new();
    let mut set = |name: &str, value: OsString| {
        all.insert(name.to_owned(), value);
    };
    let user = if inputs.as_root {
        "root"
    } else {
        &*inputs.caller.name
    };
    let uid = inputs.uid();
    set("ENVD", "1".into());
    set("HOME", home.into());
    set("LOGNAME", user.into());
    set("PATH", PATH.into());
    set("SHELL", shell.into());
    set("USER", user.into());
    set("XDG_RUNTIME_DIR", format!("/run/user/{uid}").into());
    if let Some(project) = inputs.project {
        set("ENVD_PROJECT", project.into());
    }
    let mut take = |name: &str| {
        if let Some(value) = inputs.variables.get(name) {
            all.insert(name.to_owned(), value.to_owned());
        }
    };
    TERMINAL.into_iter().for_each(&mut take);
    if !inputs.strict {
        take("TZ");
    }
    if inputs.network == Network::Shared {
        PROXIES.into_iter().for_each(&mut take);
    }
    let locale = wanted_locale(inputs.variables).filter(|_| inputs.root.locale);
    all.insert("LANG".to_owned(), locale.unwrap_or(LOCALE).into());
    if let Some(name) = terminal(inputs) {
        all.insert("TERM".to_owned(), name);
    }
    for (name, value) in inputs.manifest_variables {
        all.insert(name.clone(), value.into());
    }
    for (name, value) in inputs.extra_variables {
        all.insert(name.clone(), value.clone());
    }
    all
}

/// The locale that the caller works in. Inside it is LANG alone: parts of it that differ are seldom there all.
pub(super) fn wanted_locale(variables: &HostVariables) -> Option<&str> {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variables.set(name)?.to_str())
}

/// TERM: the caller's if the root knows it, else one that is everywhere and near to all that people use.
fn terminal(inputs: &Inputs<'_>) -> Option<OsString> {
    let name = inputs.variables.set("TERM")?;
    let known = !inputs.terminal
        || inputs.root.terminal
        || !inputs.root.has("lib/terminfo/x/xterm-256color");
    Some(if known {
        name.to_owned()
    } else {
        "xterm-256color".into()
    })
}
