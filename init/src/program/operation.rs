//! The operations.

use core::ffi::CStr;

use super::{
    Malformed,
    field::{Field, Reader, Sink, Slot, Slots},
};

/// Declares the operations: a number each, which is what the bytes begin with, and their operands in order.
macro_rules! operations {
    ($($(#[$attribute:meta])* $number:literal $name:ident {
        $($(#[$about:meta])* $operand:ident: $kind:ty,)*
    })*) => {
        /// One step. Descriptors that it opens go to a slot; what it names by a slot was opened before.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs)]
        pub enum Operation<'p> {
            $($(#[$attribute])* $name { $($(#[$about])* $operand: $kind,)* },)*
        }

        impl<'p> Field<'p> for Operation<'p> {
            fn read(reader: &mut Reader<'p>) -> Result<Self, Malformed> {
                match u8::read(reader)? {
                    $($number => Ok(Operation::$name { $($operand: Field::read(reader)?,)* }),)*
                    _ => Err(Malformed),
                }
            }

            fn write(&self, sink: &mut dyn Sink) {
                match self {
                    $(Operation::$name { $($operand,)* } => {
                        let number: u8 = $number;
                        number.write(sink);
                        $($operand.write(sink);)*
                    })*
                }
            }
        }
    };
}

operations! {
    /// Cut the mount namespace off from the host's.
    1 MakePrivate {}
    /// Copy the mount at a path of the host, and what is mounted below it. A missing one that is `optional` leaves the slot
    /// empty, and operations on it do nothing.
    2 CopyTree { to: Slot, path: &'p CStr, optional: bool, }
    /// Open a directory of the host as a mere reference.
    3 OpenDirectory { to: Slot, path: &'p CStr, }
    /// Mount a tmpfs on a path of the host and open it.
    4 Stage { to: Slot, path: &'p CStr, options: &'p CStr, }
    /// Make a directory in an opened one.
    5 MakeDirectory { parent: Slot, path: &'p CStr, mode: u32, }
    /// Open what is below an opened directory, as a mere reference.
    6 OpenBelow { to: Slot, parent: Slot, path: &'p CStr, }
    /// Make a file with content where nothing is.
    7 MakeFile { parent: Slot, path: &'p CStr, mode: u32, content: &'p [u8], }
    /// Make a symbolic link where nothing is.
    8 MakeLink { parent: Slot, path: &'p CStr, points_to: &'p CStr, }
    /// Mount an overlay on a path of the host, or on what a slot holds. One that is `volatile` waits for no disk when it goes,
    /// and its directories serve no second one.
    9 Overlay { lowers: Slots<'p>, upper: Slot, work: Slot, on: Slot, path: &'p CStr, volatile: bool, }
    /// Open a path inside a root, making it and its parents where missing.
    10 Ensure { to: Slot, root: Slot, path: &'p CStr, like: Like, }
    /// Bind what is below an opened directory of our own on what a slot holds. By open_tree(2): mount(2) could name the latter by
    /// way of procfs only.
    11 Bind { parent: Slot, path: &'p CStr, on: Slot, }
    /// Set attributes of a copied tree (mount_setattr(2)).
    12 SetAttributes { tree: Slot, attributes: u64, }
    /// Mount a copied tree below what a slot holds; on it when the path is empty.
    13 Attach { tree: Slot, on: Slot, path: &'p CStr, }
    /// Mount a file system on what a slot holds.
    14 Mount { kind: &'p CStr, on: Slot, flags: u32, options: &'p CStr, }
    /// Put a file with content at a path inside a root, in place of what is there.
    15 PutFile { root: Slot, path: &'p CStr, mode: u32, content: &'p [u8], }
    /// Put a directory at a path inside a root, or change the mode of the one that is there.
    16 PutDirectory { root: Slot, path: &'p CStr, mode: u32, }
    /// Put a symbolic link at a path inside a root, in place of what is there.
    17 PutLink { root: Slot, path: &'p CStr, points_to: &'p CStr, }
    /// Make what a slot holds the root, and let go of the host's.
    18 Pivot { root: Slot, }
    /// Set the host name.
    19 HostName { name: &'p CStr, }
    /// Bring the loopback device up.
    20 Loopback {}
    /// Listen on a port of the loopback device, and hand the socket to the owner.
    21 Listen { port: u16, }
    /// Make a Landlock ruleset (landlock_create_ruleset(2)).
    22 LandlockRuleset { to: Slot, files: u64, scoped: u64, }
    /// Allow access below a path inside, which is the root by now; `file_access` is what makes sense for a file.
    23 LandlockAllow { ruleset: Slot, path: &'p CStr, access: u64, file_access: u64, }
    /// Narrow the bounding, inheritable and ambient sets to what is kept, and set the securebits.
    24 Confine { kept: u64, last: u32, secure_bits: u32, }
    /// Set no_new_privs, and close this process to ptrace and /proc.
    25 Protect {}
    /// Enter the domain of a ruleset.
    26 LandlockEnter { ruleset: Slot, }
    /// Install a system call filter: instructions of 8 bytes. With `listen`, hand the listener and `root` to the owner.
    27 Filter { instructions: &'p [u8], listen: bool, root: Slot, }
    /// Hand what a slot holds, the root, to the owner.
    28 HandRoot { root: Slot, }
    /// Bind a node of the host to a file in an opened directory, which is made where there is none. By mount(2), which makes no
    /// mount namespace for what is not attached yet. One that is `frozen` is read-only: a device works all the same, its mode and
    /// times stay.
    29 Node { directory: Slot, name: &'p CStr, node: &'p CStr, frozen: bool, }
    /// Bind what is below an opened directory of our own on itself, without write access. Nothing where it is missing.
    30 Shield { parent: Slot, path: &'p CStr, }
    /// Write to a file below an opened directory, in one call: a setting of the kernel's.
    31 WriteBelow { parent: Slot, path: &'p CStr, content: &'p [u8], }
    /// Copy the mount of what is below an opened directory, and what is mounted below it.
    32 Copy { to: Slot, parent: Slot, path: &'p CStr, }
    /// Enter the namespace that a slot holds: one of mounts, whose root is `/` from then on.
    33 Enter { namespace: Slot, }
}

/// What to make where nothing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Like {
    /// A directory.
    Directory,
    /// An empty file.
    File,
    /// What the tree in this slot has at its root; nothing if the slot is empty.
    Tree(Slot),
}

impl<'p> Field<'p> for Like {
    fn read(reader: &mut Reader<'p>) -> Result<Self, Malformed> {
        match u16::read(reader)? {
            0xffff => Ok(Like::Directory),
            0xfffe => Ok(Like::File),
            slot => Ok(Like::Tree(Slot(slot))),
        }
    }

    fn write(&self, sink: &mut dyn Sink) {
        let number: u16 = match self {
            Like::Directory => 0xffff,
            Like::File => 0xfffe,
            Like::Tree(slot) => slot.0,
        };
        number.write(sink);
    }
}
