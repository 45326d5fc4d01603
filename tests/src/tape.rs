//! Archive members written byte by byte, so that a test can write what no honest tool would: `ar` (ar(5)) and `tar`
//! (tar(5), the ustar form with GNU long names).

/// What kind of thing a tar entry is; the discriminant is the type flag on tape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    File = b'0',
    /// A further name of an earlier entry.
    HardLink = b'1',
    /// A symbolic link.
    Symlink = b'2',
    /// A character device, `major`/`minor` 1/3 (which would be `/dev/null`).
    CharacterDevice = b'3',
    /// A block device.
    BlockDevice = b'4',
    /// A directory.
    Directory = b'5',
    /// A named pipe.
    Fifo = b'6',
    /// GNU's way to say that the content is the next entry's name.
    GnuLongName = b'L',
    /// A GNU sparse file, which no .deb carries.
    GnuSparse = b'S',
}

/// One tar entry exactly as it goes to tape; nothing is checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The name, raw.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Target of either kind of link.
    pub link: Vec<u8>,
    /// Content.
    pub content: Vec<u8>,
    /// What the header says the content's length is, if it lies.
    pub claimed_size: Option<u64>,
}

impl Entry {
    /// An entry of this kind owned by root, without content.
    pub fn new(name: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self {
            name: name.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            link: Vec::new(),
            content: Vec::new(),
            claimed_size: None,
        }
    }

    /// A regular file.
    pub fn file(name: impl Into<Vec<u8>>, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self {
            content: content.into(),
            ..Self::new(name, Kind::File, mode)
        }
    }

    /// A directory of mode 755.
    pub fn directory(name: impl Into<Vec<u8>>) -> Self {
        Self::new(name, Kind::Directory, 0o755)
    }

    /// A symbolic link.
    pub fn symlink(name: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self {
            link: target.into(),
            ..Self::new(name, Kind::Symlink, 0o777)
        }
    }

    /// A hard link to an entry named before.
    pub fn hard_link(name: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self {
            link: target.into(),
            ..Self::new(name, Kind::HardLink, 0o644)
        }
    }

    fn write(&self, tape: &mut Vec<u8>) {
        for (flag, long) in [(b'L', &self.name), (b'K', &self.link)] {
            if long.len() > 100 {
                let mut content = long.clone();
                content.push(0);
                header(
                    tape,
                    b"././@LongLink",
                    flag,
                    self,
                    b"",
                    content.len() as u64,
                );
                padded(tape, &content);
            }
        }
        let size = self.claimed_size.unwrap_or(self.content.len() as u64);
        header(tape, &self.name, self.kind as u8, self, &self.link, size);
        padded(tape, &self.content);
    }
}

/// A whole tar file, with its two closing blocks.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tape = Vec::new();
    for entry in entries {
        entry.write(&mut tape);
    }
    tape.resize(tape.len() + 1024, 0);
    tape
}

/// The header block alone of an entry that claims `size` bytes.
pub fn tar_header(entry: &Entry, size: u64) -> Vec<u8> {
    let mut block = Vec::new();
    header(
        &mut block,
        &entry.name,
        entry.kind as u8,
        entry,
        &entry.link,
        size,
    );
    block
}

fn header(tape: &mut Vec<u8>, name: &[u8], flag: u8, entry: &Entry, link: &[u8], size: u64) {
    let mut block = [0u8; 512];
    let mut put = |at: usize, room: usize, bytes: &[u8]| {
        let length = bytes.len().min(room);
        block[at..at + length].copy_from_slice(&bytes[..length]);
    };
    put(0, 100, name);
    put(100, 8, format!("{:07o}", entry.mode).as_bytes());
    put(108, 8, format!("{:07o}", entry.uid).as_bytes());
    put(116, 8, format!("{:07o}", entry.gid).as_bytes());
    if size < 1 << 33 {
        put(124, 12, format!("{size:011o}").as_bytes());
    } else {
        // GNU's base-256 form, for what eleven octal digits cannot say.
        let mut field = [0u8; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&size.to_be_bytes());
        put(124, 12, &field);
    }
    put(136, 12, b"14000000000");
    put(148, 8, b"        ");
    put(156, 1, &[flag]);
    put(157, 100, link);
    put(257, 8, b"ustar  \0");
    put(265, 32, b"root");
    put(297, 32, b"root");
    if matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice) {
        put(329, 8, b"0000001");
        put(337, 8, b"0000003");
    }
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tape.extend_from_slice(&block);
}

fn padded(tape: &mut Vec<u8>, content: &[u8]) {
    tape.extend_from_slice(content);
    tape.resize(tape.len().next_multiple_of(512), 0);
}

/// An `ar` file of these members.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = b"!<arch>\n".to_vec();
    for (name, content) in members {
        ar_member(&mut file, name, content, content.len() as u64);
    }
    file
}

/// Adds one member whose header claims `size` bytes.
pub fn ar_member(file: &mut Vec<u8>, name: &str, content: &[u8], size: u64) {
    file.extend_from_slice(
        format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n",
            0, 0, 0, "100644"
        )
        .as_bytes(),
    );
    file.extend_from_slice(content);
    if content.len() % 2 == 1 {
        file.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    /// The system's tar must agree that our tape is a tape, or every test built on it would test nothing.
    #[test]
    fn the_systems_tar_reads_what_is_written() {
        let long = "d/".to_owned() + &"n".repeat(150);
        let tape = tar(&[
            Entry::directory("d/"),
            Entry::file(long.as_str(), 0o640, "content"),
            Entry::symlink("d/l", "../elsewhere"),
        ]);
        let mut child = Command::new("tar")
            .args(["-tvf", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&tape).unwrap();
        let output = child.wait_with_output().unwrap();
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(
            listing.contains(&long) && listing.contains("-rw-r-----"),
            "{listing}"
        );
        assert!(listing.contains("d/l -> ../elsewhere"), "{listing}");
    }
}
