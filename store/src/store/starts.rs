//! Starts: what a run of a project comes to, ready to be carried out (the format is the launcher's). The store keeps them under
//! names of their writer's choice, and drops all of them when it collects garbage: the next run makes its own again.

use std::{ffi::CString, os::fd::AsFd};

use rustix::{
    fs::{Mode, OFlags, mkdirat, openat, renameat},
    io::Errno,
};

use super::{Context, Result, Store, directory, write_all};

impl Store {
    /// Keeps a start under a name of letters and digits, in the place of any of that name.
    pub fn keep_start(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = || self.path("starts").join(name);
        match mkdirat(self.fd(), c"starts", Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).context("create", || self.path("starts")),
        }
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let name = CString::new(format!("starts/{name}")).unwrap_or_default();
        if !plain {
            return Err(Errno::INVAL).context("keep", path);
        }
        let pid = rustix::process::getpid().as_raw_nonzero();
        let new = CString::new(format!("starts/.{pid}")).unwrap_or_default();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(
            self.fd(),
            &*new,
            flags | OFlags::NOFOLLOW,
            Mode::RUSR | Mode::WUSR,
        )
        .context("create", path)?;
        write_all(file.as_fd(), bytes).context("write", path)?;
        renameat(self.fd(), &*new, self.fd(), &*name).context("publish", path)
    }

    /// Drops every start.
    pub(super) fn drop_starts(&self) {
        // One that stays refers to a view that is checked before it is used.
        let _ = directory::remove(self.fd(), c"starts");
    }
}
