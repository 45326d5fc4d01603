//! An ordinary user, for tests that run as root.

use std::{os::unix::process::CommandExt, path::Path, process::Command, sync::OnceLock};

use nix::unistd::{User, chown};

/// The account that the tests make once, with useradd(8), and keep.
pub const NAME: &str = "envd-tester";

/// An account commands can run as.
#[derive(Clone, Debug)]
pub struct Account {
    user: User,
}

impl Account {
    /// The ordinary user; `None` unless the tests run as root, who alone can become somebody else.
    pub fn ordinary() -> Option<Self> {
        static ACCOUNT: OnceLock<Account> = OnceLock::new();
        nix::unistd::geteuid()
            .is_root()
            .then(|| ACCOUNT.get_or_init(Self::find_or_make).clone())
    }

    fn find_or_make() -> Self {
        let find = || User::from_name(NAME).expect("the user database is readable");
        if find().is_none() {
            // Another test may win the race; then useradd fails and the account is there all the same.
            let _ = Command::new("useradd")
                .args(["--create-home", "--shell", "/bin/sh", NAME])
                .output();
        }
        let user = find().expect("useradd made the account envd-tester");
        Self { user }
    }

    /// Makes a command run as this user, in no group but its own.
    pub fn apply(&self, command: &mut Command) {
        // With a uid set and root as caller, the standard library also drops the supplementary groups.
        command
            .uid(self.user.uid.as_raw())
            .gid(self.user.gid.as_raw());
    }

    /// Gives a directory and all below it to this user.
    pub fn own(&self, path: &Path) {
        let metadata = std::fs::symlink_metadata(path).expect("it was just made");
        if !metadata.is_symlink() {
            chown(path, Some(self.user.uid), Some(self.user.gid)).expect("root may chown");
        }
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path).expect("readable") {
                self.own(&entry.expect("readable").path());
            }
        }
    }

    /// Numeric user id.
    pub fn uid(&self) -> u32 {
        self.user.uid.as_raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ordinary_user_is_not_root() {
        // Run by an ordinary user there is nobody to become; the suite runs both ways.
        let Some(account) = Account::ordinary() else {
            assert!(!nix::unistd::geteuid().is_root());
            return;
        };
        let mut command = Command::new("id");
        command.arg("-u");
        account.apply(&mut command);
        let output = command.output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            account.uid().to_string()
        );
        assert_ne!(account.uid(), 0);
    }
}
