//! The account files inside: the root's own, and a line for the caller.

use std::path::Path;

use super::Caller;

/// passwd(5) with a line for the caller, whose home and shell are given as they are inside.
pub(super) fn passwd(own: &str, caller: &Caller, home: &Path, shell: &str) -> String {
    let mut table = complete(own, "root:x:0:0:root:/root:/bin/sh\n");
    if !knows(&table, &caller.name, caller.uid) {
        let line = format!(
            "{}:x:{}:{}::{}:{shell}\n",
            caller.name,
            caller.uid,
            caller.gid,
            home.display()
        );
        // A path may hold what a line of this file cannot.
        if line.matches(':').count() == 6 && line.matches('\n').count() == 1 {
            table.push_str(&line);
        }
    }
    table
}

/// group(5) with a line for the caller's primary group.
pub(super) fn group(own: &str, caller: &Caller) -> String {
    let mut table = complete(own, "root:x:0:\n");
    if !knows(&table, &caller.group, caller.gid) {
        table.push_str(&format!("{}:x:{}:\n", caller.group, caller.gid));
    }
    table
}

/// A table that has at least root and ends its last line.
fn complete(own: &str, least: &str) -> String {
    let mut table = match own.trim() {
        "" => least.to_owned(),
        _ => own.to_owned(),
    };
    if !table.ends_with('\n') {
        table.push('\n');
    }
    table
}

/// Whether a table has a line with this name or this id.
fn knows(table: &str, name: &str, id: u32) -> bool {
    let id = id.to_string();
    table.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(name) || fields.nth(1) == Some(&id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> Caller {
        Caller {
            uid: 1000,
            gid: 100,
            name: "ada".into(),
            group: "ada".into(),
            home: "/home/ada".into(),
            shell: None,
        }
    }

    #[test]
    fn the_caller_is_known_inside_beside_the_roots_own_accounts() {
        let own =
            "root:x:0:0:root:/root:/bin/bash\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin";
        assert_eq!(
            passwd(own, &ada(), Path::new("/home/ada"), "/bin/bash"),
            format!("{own}\nada:x:1000:100::/home/ada:/bin/bash\n")
        );
        assert_eq!(
            group("users:x:100:\n", &ada()),
            "users:x:100:\n",
            "the id has a name already"
        );
    }

    #[test]
    fn a_root_without_accounts_gets_two() {
        assert_eq!(
            passwd("", &ada(), Path::new("/h"), "/bin/sh"),
            "root:x:0:0:root:/root:/bin/sh\nada:x:1000:100::/h:/bin/sh\n"
        );
        assert_eq!(group("", &ada()), "root:x:0:\nada:x:100:\n");
    }

    #[test]
    fn a_home_with_a_colon_breaks_no_table() {
        assert_eq!(
            passwd("", &ada(), Path::new("/a:b"), "/bin/sh"),
            "root:x:0:0:root:/root:/bin/sh\n"
        );
    }
}
