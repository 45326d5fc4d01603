//! Carrying a program out: one function that walks the operations, one arm each.

mod place;

use core::ffi::CStr;

use crate::{
    program::{self, CONTINUED, Like, Operation, Operations, Program, Slot, Slots},
    protocol::{
        self, CONTINUE, CONTINUE_FILE, DESCRIPTORS, Failure, HALFWAY, LONGEST_PACKET, ROOT, Stage,
    },
    serve,
    sys::{self, Capabilities, Descriptor, Errno, Region, constant::*},
};

/// Slots that a program can use.
pub const SLOTS: usize = 512;

/// The kernel reads mount options from one page.
const LONGEST_OPTIONS: usize = 4095;

/// What comes of a program beside what it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Capabilities that commands keep, a bit each.
    pub kept: u64,
}

/// Descriptors that operations opened.
struct Table([Descriptor; SLOTS]);

impl Table {
    /// `None` for one whose optional source was missing.
    fn get(&self, slot: Slot) -> Result<Option<Descriptor>, Errno> {
        let descriptor = *self.0.get(usize::from(slot.0)).ok_or(Errno(EBADF))?;
        Ok((descriptor >= 0).then_some(descriptor))
    }

    /// One that must be there.
    #[inline(never)]
    fn need(&self, slot: Slot) -> Result<Descriptor, Errno> {
        self.get(slot)?.ok_or(Errno(EBADF))
    }

    #[inline(never)]
    fn put(&mut self, slot: Slot, descriptor: Descriptor) -> Result<(), Errno> {
        *self.0.get_mut(usize::from(slot.0)).ok_or(Errno(EBADF))? = descriptor;
        Ok(())
    }
}

/// The word of the launching process that the id maps of this one are written, as long as it is still to come.
pub struct Maps(Option<Descriptor>);

impl Maps {
    /// That comes on this connection, if it has not come yet.
    pub fn awaited(connection: Option<Descriptor>) -> Self {
        Maps(connection)
    }

    /// Waits for it; whether there was something to wait for. Should the launching process give up instead, this one ends.
    fn wait(&mut self) -> bool {
        let Some(connection) = self.0.take() else {
            return false;
        };
        let mut word = [0; 1];
        loop {
            match sys::receive(connection, &mut word, true) {
                Ok(packet) if packet.length > 0 => break,
                Err(Errno(EINTR)) => {}
                Ok(_) | Err(_) => sys::exit(125),
            }
        }
        sys::close(connection);
        true
    }
}

/// Carries out the operations of a program, in order. `owner` is the connection that descriptors are handed over on, and that
/// the second part of a program comes from that is continued.
///
/// `given` is in the first slots.
pub fn apply(
    program: &Program<'_>,
    owner: Descriptor,
    mut maps: Maps,
    given: &[Descriptor],
) -> Result<Applied, Failure> {
    let mut table = Table([-1; SLOTS]);
    for (place, given) in table.0.iter_mut().zip(given) {
        *place = *given;
    }
    let mut applied = Applied { kept: 0 };
    let first = program.operations();
    carry_out(first, &mut table, &mut applied, owner, &mut maps)?;
    maps.wait();
    if program.header.flags & CONTINUED != 0 {
        let mut packet = Region::new(LONGEST_PACKET)
            .map_err(|error| Failure::at(Stage::Malformed, 0, error.0))?;
        let mut file = None;
        let rest = second_part(owner, &mut packet, &mut file)?;
        let rest = Operations::of(rest);
        carry_out(rest, &mut table, &mut applied, owner, &mut maps)?;
    }
    Ok(applied)
}

/// Waits for the second part of a program. Should the owner go instead, this process does.
fn second_part<'r>(
    owner: Descriptor,
    packet: &'r mut Region,
    file: &'r mut Option<Region>,
) -> Result<&'r [u8], Failure> {
    let malformed = Failure::at(Stage::Malformed, 0, 0);
    let _ = sys::send(owner, &HALFWAY.to_ne_bytes(), &[]);
    let received = loop {
        match sys::receive(owner, packet.bytes_mut(), true) {
            Ok(received) if received.length > 0 => break received,
            Err(Errno(EINTR)) => {}
            Ok(_) | Err(_) => sys::exit(125),
        }
    };
    let bytes = packet.bytes().get(..received.length).ok_or(malformed)?;
    let (_, body) = bytes.split_at_checked(4).ok_or(malformed)?;
    match protocol::tag(bytes) {
        Some(CONTINUE) => Ok(body),
        Some(CONTINUE_FILE) if received.count == 1 => {
            let length = body.try_into().map_err(|_| malformed)?;
            let length = u32::from_ne_bytes(length);
            let read = serve::contents(received.descriptors[0], length, program::LONGEST);
            sys::close(received.descriptors[0]);
            Ok(file.insert(read?).bytes())
        }
        _ => Err(malformed),
    }
}

fn carry_out(
    operations: Operations<'_>,
    table: &mut Table,
    applied: &mut Applied,
    owner: Descriptor,
    maps: &mut Maps,
) -> Result<(), Failure> {
    for (index, operation) in operations.enumerate() {
        let index = index as u32;
        // One that cannot be read, too: who launches must not find this process gone while it writes the maps.
        if operation.as_ref().map_or(true, needs_ids) {
            maps.wait();
        }
        let operation = operation.map_err(|_| Failure::at(Stage::Malformed, index, 0))?;
        let done = match step(&operation, table, applied, owner) {
            // Somebody else's directory, which only who has ids may look into.
            Err(_) if maps.wait() => step(&operation, table, applied, owner),
            done => done,
        };
        done.map_err(|error| Failure::at(Stage::Operation, index, error.0))?;
    }
    Ok(())
}

/// Whether an operation cannot be carried out by a process without ids, which can make no file. The others are done while the
/// launching process writes the maps.
fn needs_ids(operation: &Operation<'_>) -> bool {
    !matches!(
        operation,
        Operation::MakePrivate {} | Operation::CopyTree { .. } | Operation::OpenDirectory { .. }
    )
}

fn step(
    operation: &Operation<'_>,
    table: &mut Table,
    applied: &mut Applied,
    owner: Descriptor,
) -> Result<(), Errno> {
    match *operation {
        Operation::MakePrivate {} => sys::make_mounts_private(),
        Operation::CopyTree { to, path, optional } => match sys::copy_tree(AT_FDCWD, path) {
            Err(Errno(ENOENT | ENOTDIR)) if optional => Ok(()),
            copied => table.put(to, copied?),
        },
        Operation::OpenDirectory { to, path } => {
            let opened = sys::open_at(AT_FDCWD, path, sys::DIRECTORY, 0)?;
            table.put(to, opened)
        }
        Operation::Stage { to, path, options } => {
            sys::mount(c"tmpfs", path, MS_NOSUID | MS_NODEV, options)?;
            table.put(to, sys::open_at(AT_FDCWD, path, sys::DIRECTORY, 0)?)
        }
        Operation::MakeDirectory { parent, path, mode } => {
            sys::make_directory_at(table.need(parent)?, path, mode)
        }
        Operation::OpenBelow { to, parent, path } => {
            let opened = sys::open_at(table.need(parent)?, path, O_PATH, 0)?;
            table.put(to, opened)
        }
        Operation::MakeFile {
            parent,
            path,
            mode,
            content,
        } => place::write_file(table.need(parent)?, path, mode, content),
        Operation::MakeLink {
            parent,
            path,
            points_to,
        } => sys::link_at(table.need(parent)?, path, points_to),
        Operation::Overlay {
            lowers,
            upper,
            work,
            on,
            path,
            volatile,
        } => overlay(table, lowers, (upper, work), (on, path), volatile),
        Operation::Ensure {
            to,
            root,
            path,
            like,
        } => {
            let kind = match like {
                Like::Directory => S_IFDIR,
                Like::File => S_IFREG,
                Like::Tree(slot) => match table.get(slot)? {
                    None => return Ok(()),
                    Some(tree) => match sys::status_at(tree, c"", true)?.mode & S_IFMT {
                        S_IFDIR => S_IFDIR,
                        _ => S_IFREG,
                    },
                },
            };
            let place = place::ensure(table.need(root)?, path, kind)?;
            table.put(to, place)
        }
        Operation::SetAttributes { tree, attributes } => match table.get(tree)? {
            Some(tree) => sys::set_mount_attributes(tree, attributes),
            None => Ok(()),
        },
        Operation::Attach { tree, on, path } => match table.get(tree)? {
            Some(tree) => sys::attach(tree, table.need(on)?, path),
            None => Ok(()),
        },
        Operation::Mount {
            kind,
            on,
            flags,
            options,
        } => {
            // By way of the current directory: a mount by descriptor takes four calls of the newer interface.
            sys::change_directory_to(table.need(on)?)?;
            sys::mount(kind, c".", flags as usize, options)
        }
        Operation::PutFile {
            root,
            path,
            mode,
            content,
        } => place::put_file(table.need(root)?, path, mode, content),
        Operation::PutDirectory { root, path, mode } => {
            place::put_directory(table.need(root)?, path, mode)
        }
        Operation::PutLink {
            root,
            path,
            points_to,
        } => place::put_link(table.need(root)?, path, points_to),
        Operation::Pivot { root } => pivot(table.need(root)?),
        Operation::HostName { name } => sys::set_host_name(name.to_bytes()),
        Operation::Loopback {} => sys::loopback_up(),
        Operation::Listen { port } => {
            let socket = sys::listen_on_loopback(port)?;
            sys::send(owner, &DESCRIPTORS.to_ne_bytes(), &[socket])?;
            sys::close(socket);
            Ok(())
        }
        Operation::Node {
            directory,
            name,
            node,
            frozen,
        } => {
            sys::change_directory_to(table.need(directory)?)?;
            match sys::make_file_at(AT_FDCWD, name, 0o666) {
                Err(Errno(EEXIST)) => {}
                made => made?,
            }
            sys::bind(node, name)?;
            match frozen {
                true => sys::make_read_only(name, 0),
                false => Ok(()),
            }
        }
        Operation::WriteBelow {
            parent,
            path,
            content,
        } => {
            let file = sys::open_at(table.need(parent)?, path, O_WRONLY, 0)?;
            let written = sys::write(file, content);
            sys::close(file);
            written.map(drop)
        }
        Operation::Bind { parent, path, on } => {
            let tree = sys::copy_mount(table.need(parent)?, path)?;
            let attached = sys::attach(tree, table.need(on)?, c"");
            sys::close(tree);
            attached
        }
        Operation::Copy { to, parent, path } => {
            table.put(to, sys::copy_tree(table.need(parent)?, path)?)
        }
        Operation::Enter { namespace } => sys::enter_namespace(table.need(namespace)?),
        Operation::Shield { parent, path } => {
            sys::change_directory_to(table.need(parent)?)?;
            match sys::bind(path, path) {
                Err(Errno(ENOENT)) => Ok(()),
                bound => bound.and_then(|()| sys::make_read_only(path, MS_NODEV)),
            }
        }
        Operation::HandRoot { root } => sys::send(owner, &ROOT.to_ne_bytes(), &[table.need(root)?]),
        Operation::LandlockRuleset { to, files, scoped } => {
            table.put(to, sys::landlock_ruleset(files, scoped)?)
        }
        Operation::LandlockAllow {
            ruleset,
            path,
            access,
            file_access,
        } => {
            let below = sys::open_at(AT_FDCWD, path, O_PATH, 0)?;
            let directory = sys::status_at(below, c"", true)?.mode & S_IFMT == S_IFDIR;
            let access = if directory { access } else { file_access };
            let allowed = sys::landlock_allow(table.need(ruleset)?, below, access);
            sys::close(below);
            allowed
        }
        Operation::Confine {
            kept,
            last,
            secure_bits,
        } => {
            applied.kept = kept;
            confine(kept, last, secure_bits)
        }
        Operation::Protect {} => {
            sys::set_no_new_privileges()?;
            sys::set_not_dumpable()
        }
        Operation::LandlockEnter { ruleset } => sys::landlock_enter(table.need(ruleset)?),
        Operation::Filter {
            instructions,
            listen,
            root,
        } => match sys::install_filter(instructions, listen)? {
            None => Ok(()),
            Some(listener) => {
                let handed = [listener, table.need(root)?];
                sys::send(owner, &DESCRIPTORS.to_ne_bytes(), &handed)
            }
        },
    }
}

/// Mounts an overlay. Directories are named by their descriptors, relative to `/proc/self/fd`: no path needs quoting,
/// hundreds fit into the kernel's page, and what is shown inside (/proc/self/mountinfo) tells nothing about the host.
fn overlay(
    table: &Table,
    lowers: Slots<'_>,
    (upper, work): (Slot, Slot),
    (on, path): (Slot, &CStr),
    volatile: bool,
) -> Result<(), Errno> {
    let mut options = Text::<LONGEST_OPTIONS>::new();
    let mut before: &[u8] = match volatile {
        true => b"userxattr,volatile,lowerdir=",
        false => b"userxattr,lowerdir=",
    };
    for lower in lowers.iter() {
        options.put(before, table.need(lower)?)?;
        before = b":";
    }
    options.put(b",upperdir=", table.need(upper)?)?;
    options.put(b",workdir=", table.need(work)?)?;
    sys::change_directory(c"/proc/self/fd")?;
    if path.is_empty() {
        let mut target = Text::<16>::new();
        target.put(b"", table.need(on)?)?;
        sys::mount(c"overlay", target.as_c_str()?, 0, options.as_c_str()?)
    } else {
        sys::mount(c"overlay", path, 0, options.as_c_str()?)
    }
}

/// Text of a bounded length that ends in a zero byte.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    fn new() -> Self {
        Text {
            bytes: [0; N],
            length: 0,
        }
    }

    /// Appends text and a descriptor's number. Not by the standard library's formatting, which would be a third of the
    /// program.
    fn put(&mut self, text: &[u8], descriptor: Descriptor) -> Result<(), Errno> {
        let mut digits = [0; 12];
        let number = sys::decimal(descriptor.unsigned_abs(), &mut digits);
        for part in [text, number] {
            let end = self.length + part.len();
            // One byte stays zero.
            let place = self.bytes.get_mut(self.length..end).filter(|_| end < N);
            place.ok_or(Errno(E2BIG))?.copy_from_slice(part);
            self.length = end;
        }
        Ok(())
    }

    fn as_c_str(&self) -> Result<&CStr, Errno> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno(E2BIG))
    }
}

/// Both names of pivot_root are the same: the old root ends up on top of the new one and is taken off from there.
fn pivot(root: Descriptor) -> Result<(), Errno> {
    sys::change_directory_to(root)?;
    sys::pivot_root(c".", c".")?;
    sys::unmount(c".")?;
    sys::change_directory(c"/")
}

/// What is permitted stays so until PID 1 has done what it needs it for.
fn confine(kept: u64, last: u32, secure_bits: u32) -> Result<(), Errno> {
    for capability in (0..=last).filter(|capability| kept >> capability & 1 == 0) {
        sys::drop_from_bounding_set(capability)?;
    }
    let all = sys::own_capabilities()?;
    sys::set_capabilities(Capabilities {
        inheritable: kept,
        ..all
    })?;
    for capability in (0..64).filter(|capability| kept >> capability & 1 == 1) {
        sys::raise_ambient(capability)?;
    }
    sys::set_secure_bits(secure_bits)
}
