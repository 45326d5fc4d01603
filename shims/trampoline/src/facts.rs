//! What a start depends on of the one who starts it: ids, and the variables that envd reads.

use core::ffi::CStr;

use envd_init::program::Sink;

/// Every variable that decides what an environment is like inside, or which store and project are meant. A start is only used
/// where each has the value that it had when it was made.
pub const VARIABLES: [&str; 31] = [
    "ALL_PROXY",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "ENVD_DEBIAN_KEYRING",
    "ENVD_DEBIAN_MIRROR",
    "ENVD_DEBIAN_SECURITY_MIRROR",
    "ENVD_LOG",
    "ENVD_OFFLINE",
    "ENVD_SNAPSHOT_MIRROR",
    "ENVD_STORE",
    "FORCE_COLOR",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "NO_COLOR",
    "NO_PROXY",
    "SHELL",
    "TERM",
    "TZ",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Writes the facts: ids, then those variables that are set, in the order of [`VARIABLES`].
pub fn write<'v>(ids: (u32, u32), variables: impl Iterator<Item = &'v CStr>, sink: &mut dyn Sink) {
    sink.put(&ids.0.to_ne_bytes());
    sink.put(&ids.1.to_ne_bytes());
    // Each is looked at once: to find where it ends means to read it.
    let mut found = [None; VARIABLES.len()];
    for entry in variables {
        let name = VARIABLES
            .iter()
            .position(|name| value(entry, name).is_some());
        if let Some(place) = name.and_then(|name| found.get_mut(name)) {
            // The first of a name counts, as for getenv(3).
            place.get_or_insert(entry);
        }
    }
    for entry in found.into_iter().flatten() {
        sink.put(entry.to_bytes_with_nul());
    }
}

/// The value of an entry `NAME=VALUE`, if that is its name.
pub fn value<'e>(entry: &'e CStr, name: &str) -> Option<&'e [u8]> {
    entry
        .to_bytes()
        .strip_prefix(name.as_bytes())?
        .strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_do_not_depend_on_the_order_of_variables_nor_on_others() {
        let of = |variables: &[&'static CStr]| {
            let mut bytes = Vec::new();
            write((1, 2), variables.iter().copied(), &mut |more: &[u8]| {
                bytes.extend_from_slice(more)
            });
            bytes
        };
        let one = of(&[c"TERM=xterm", c"HOME=/h", c"PWD=/x"]);
        assert_eq!(one, of(&[c"HOME=/h", c"OLDPWD=/y", c"TERM=xterm"]));
        assert_ne!(one, of(&[c"HOME=/h", c"TERM=dumb"]));
        assert_ne!(one, of(&[c"HOME=/h"]));
    }
}
