//! The system calls that are answered, and how.

use std::os::fd::BorrowedFd;

use libc::c_long;
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    locate::{Caller, Name},
    notes::{DeviceKind, DeviceNode, Notes, Wish},
};
use crate::sys::{self, Answer, Notification};

/// The attribute that is noted (capabilities(7)).
const CAPABILITY: &[u8] = b"security.capability";

/// The longest name of an attribute, with its final zero (xattr(7)).
const LONGEST_ATTRIBUTE: usize = 256;

/// The sizes that `security.capability` comes in, by version.
const CAPABILITY_SIZES: [u64; 3] = [12, 20, 24];

/// What a system call means.
enum Request {
    /// A wish about an existing file.
    Wish(Target, Wish),
    /// A new file that stands for a device.
    Make(Name, u32, DeviceNode),
    /// Something to be answered at once.
    Answer(Answer),
}

enum Target {
    Descriptor(i32),
    Name(Name),
}

/// Answers one waiting system call; tells whether there was one.
pub(super) fn answer(listener: BorrowedFd<'_>, notes: &mut Notes) -> std::io::Result<bool> {
    let Some(notification) = sys::receive_notification(listener)? else {
        return Ok(false);
    };
    let caller = Caller(notification.thread);
    let waits = || {
        // A thread that has ended may have been replaced by another of the same number, whose files are none of ours.
        sys::notification_waits(listener, notification.id)
            .then_some(())
            .ok_or(Errno::SRCH)
    };
    let answer = match carry_out(&notification, caller, notes, &waits) {
        Ok(answer) => answer,
        Err(Failure::Caller(errno)) => Answer::Errno(errno.raw_os_error()),
        Err(Failure::Own(error)) => return Err(error),
    };
    sys::answer_notification(listener, notification.id, answer)?;
    Ok(true)
}

/// Whose failure it is: the caller's, who is told, or the recorder's, which ends the run.
enum Failure {
    Caller(Errno),
    Own(std::io::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Failure::Own(errno.into()),
            errno => Failure::Caller(errno),
        }
    }
}

fn carry_out(
    notification: &Notification,
    caller: Caller,
    notes: &mut Notes,
    waits: &dyn Fn() -> Result<(), Errno>,
) -> Result<Answer, Failure> {
    match interpret(notification, caller)? {
        Request::Answer(answer) => Ok(answer),
        Request::Wish(target, wish) => {
            let file = match target {
                Target::Descriptor(descriptor) => caller.descriptor(descriptor)?,
                Target::Name(name) => caller.find(&name)?,
            };
            waits()?;
            notes.add(file, wish).map_err(note_failed)?;
            Ok(Answer::Success)
        }
        Request::Make(name, mode, node) => {
            let (parent, file_name) = caller.find_parent(&name)?;
            let mode = Mode::from_raw_mode(mode & 0o7777 & !caller.umask()?);
            waits()?;
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, &file_name, flags, Mode::RUSR)?;
            rustix::fs::fchmod(&file, mode)?;
            let reference = rustix::fs::openat(
                &parent,
                &file_name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            drop(file);
            notes
                .add(reference, Wish::Node(node))
                .map_err(note_failed)?;
            Ok(Answer::Success)
        }
    }
}

/// What the file system refuses is the caller's affair, such as EROFS.
fn note_failed(error: std::io::Error) -> Failure {
    match Errno::from_io_error(&error) {
        Some(errno) => errno.into(),
        None => Failure::Own(error),
    }
}

fn interpret(notification: &Notification, caller: Caller) -> Result<Request, Errno> {
    let arguments = notification.arguments;
    let name = |directory: i32, address: u64, follow: bool| {
        let path = caller.read_path(address)?;
        if path.as_os_str().is_empty() {
            return Err(Errno::NOENT);
        }
        Ok(Name {
            directory,
            path,
            follow,
        })
    };
    let here = libc::AT_FDCWD;
    match notification.number {
        libc::SYS_fchown => Ok(Request::Wish(
            Target::Descriptor(arguments[0] as i32),
            owner(arguments[1], arguments[2]),
        )),
        libc::SYS_fchownat => {
            let flags = arguments[4] as i32;
            if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
                return Err(Errno::INVAL);
            }
            let path = caller.read_path(arguments[1])?;
            if path.as_os_str().is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
                return Err(Errno::NOENT);
            }
            let name = Name {
                directory: arguments[0] as i32,
                path,
                follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0,
            };
            Ok(Request::Wish(
                Target::Name(name),
                owner(arguments[2], arguments[3]),
            ))
        }
        libc::SYS_mknodat => make(
            arguments[2],
            arguments[3],
            name(arguments[0] as i32, arguments[1], false),
        ),
        libc::SYS_setxattr => {
            let wish = attribute(caller, arguments[1], arguments[2], arguments[3])?;
            Ok(Request::Wish(
                Target::Name(name(here, arguments[0], true)?),
                wish,
            ))
        }
        libc::SYS_lsetxattr => {
            let wish = attribute(caller, arguments[1], arguments[2], arguments[3])?;
            Ok(Request::Wish(
                Target::Name(name(here, arguments[0], false)?),
                wish,
            ))
        }
        libc::SYS_fsetxattr => {
            let wish = attribute(caller, arguments[1], arguments[2], arguments[3])?;
            Ok(Request::Wish(Target::Descriptor(arguments[0] as i32), wish))
        }
        // New, and everyone who calls it falls back on the ones above.
        super::SETXATTRAT => Ok(Request::Answer(Answer::Errno(libc::ENOSYS))),
        number => interpret_old(number, arguments, &name),
    }
}

/// The calls that newer machines do without.
#[cfg(target_arch = "x86_64")]
fn interpret_old(
    number: c_long,
    arguments: [u64; 6],
    name: &dyn Fn(i32, u64, bool) -> Result<Name, Errno>,
) -> Result<Request, Errno> {
    let here = libc::AT_FDCWD;
    match number {
        libc::SYS_chown | libc::SYS_lchown => {
            let follow = number == libc::SYS_chown;
            let name = name(here, arguments[0], follow)?;
            Ok(Request::Wish(
                Target::Name(name),
                owner(arguments[1], arguments[2]),
            ))
        }
        libc::SYS_mknod => make(arguments[1], arguments[2], name(here, arguments[0], false)),
        _ => Err(Errno::NOSYS),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn interpret_old(
    _number: c_long,
    _arguments: [u64; 6],
    _name: &dyn Fn(i32, u64, bool) -> Result<Name, Errno>,
) -> Result<Request, Errno> {
    Err(Errno::NOSYS)
}

/// An id of -1 stays as it is.
fn owner(uid: u64, gid: u64) -> Wish {
    let id = |id: u64| Some(id as u32).filter(|id| *id != u32::MAX);
    Wish::Owner {
        uid: id(uid),
        gid: id(gid),
    }
}

fn make(mode: u64, device: u64, name: Result<Name, Errno>) -> Result<Request, Errno> {
    let mode = mode as u32;
    let kind = match FileType::from_raw_mode(mode) {
        FileType::CharacterDevice => DeviceKind::Character,
        FileType::BlockDevice => DeviceKind::Block,
        // Pipes, sockets and plain files take no privilege.
        _ => return Ok(Request::Answer(Answer::Continue)),
    };
    // How the kernel packs a device number into 32 bits.
    let device = device as u32;
    let node = DeviceNode {
        kind,
        major: (device >> 8) & 0xfff,
        minor: (device & 0xff) | ((device >> 12) & 0xf_ff00),
    };
    Ok(Request::Make(name?, mode, node))
}

fn attribute(caller: Caller, name: u64, value: u64, size: u64) -> Result<Wish, Errno> {
    let name = caller.read_string(name, LONGEST_ATTRIBUTE, Errno::RANGE)?;
    if name != CAPABILITY {
        return Err(Errno::OPNOTSUPP);
    }
    if !CAPABILITY_SIZES.contains(&size) {
        return Err(Errno::INVAL);
    }
    caller.read(value, size as usize).map(Wish::Capability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_leaves_an_id_as_it_is() {
        let wish = owner(u64::from(u32::MAX), 33);
        let expected = Wish::Owner {
            uid: None,
            gid: Some(33),
        };
        assert_eq!(wish, expected);
        assert_eq!(
            owner(u64::MAX, u64::MAX),
            owner(u32::MAX.into(), u32::MAX.into())
        );
    }

    #[test]
    fn device_numbers_are_unpacked() {
        let name = || {
            Ok(Name {
                directory: libc::AT_FDCWD,
                path: "/dev/x".into(),
                follow: false,
            })
        };
        let mode = u64::from(libc::S_IFBLK | 0o660);
        let Ok(Request::Make(_, _, node)) = make(mode, libc::makedev(259, 70_000), name()) else {
            panic!("not a device");
        };
        assert_eq!((node.major, node.minor), (259, 70_000));
        let pipe = make((libc::S_IFIFO | 0o600).into(), 0, name());
        assert!(matches!(pipe, Ok(Request::Answer(Answer::Continue))));
    }
}
