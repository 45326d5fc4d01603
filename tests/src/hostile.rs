//! Packages that mean harm: each is something an attacker with a signing key, or a broken mirror, might serve.

use crate::{
    deb::{Compression, Deb},
    tape::{Entry, Kind, ar, ar_member, tar, tar_header},
};

/// One attack.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What it is, in words.
    pub name: &'static str,
    /// The file served, under the name and version of [`Attack::package`].
    pub bytes: Vec<u8>,
}

impl Attack {
    /// The package an attack claims to be; its index entry is honest about size and digest.
    pub fn package() -> Deb {
        Deb::new("evil", "6.6-6")
    }
}

/// A file that no unpacking may make, wherever it lands.
pub const PLANTED: &str = "envd-test-planted";

/// Every attack that must be refused.
pub fn attacks() -> Vec<Attack> {
    let honest_file = || Entry::file("./usr/bin/evil", 0o755, "#!/bin/sh\n");
    let escape = format!("./usr/../../../../../../../../tmp/{PLANTED}");
    let mut attacks = vec![
        tree(
            "a path that climbs out by ..",
            vec![Entry::file(escape, 0o644, "planted")],
        ),
        tree(
            "an absolute path that climbs out",
            vec![Entry::file(format!("/../tmp/{PLANTED}"), 0o644, "planted")],
        ),
        tree(
            "an absolute path",
            vec![Entry::file(format!("/tmp/{PLANTED}"), 0o644, "planted")],
        ),
        tree(
            "a file through a symbolic link that leads out",
            vec![
                Entry::symlink("./usr/out", "/tmp"),
                Entry::file(format!("./usr/out/{PLANTED}"), 0o644, "planted"),
            ],
        ),
        tree(
            "a file through a relative symbolic link",
            vec![
                Entry::symlink("./usr/out", "../../../../../../tmp"),
                Entry::file(format!("./usr/out/{PLANTED}"), 0o644, "planted"),
            ],
        ),
        tree(
            "a hard link to a file of the host",
            vec![Entry::hard_link("./usr/shadow", "/etc/shadow")],
        ),
        tree(
            "a hard link that climbs out by ..",
            vec![Entry::hard_link(
                "./usr/shadow",
                "./../../../../../../etc/shadow",
            )],
        ),
        tree(
            "a hard link to nothing",
            vec![Entry::hard_link("./usr/bin/evil", "./usr/bin/absent")],
        ),
        tree(
            "a character device",
            vec![Entry::new("./usr/null", Kind::CharacterDevice, 0o666)],
        ),
        tree(
            "a block device",
            vec![Entry::new("./usr/disk", Kind::BlockDevice, 0o666)],
        ),
        tree(
            "a GNU sparse file",
            vec![Entry::new("./usr/sparse", Kind::GnuSparse, 0o644)],
        ),
        tree(
            "the same file twice with different content",
            vec![
                Entry::file("./usr/bin/evil", 0o755, "one"),
                Entry::file("./usr/bin/evil", 0o755, "two"),
            ],
        ),
        tree(
            "a name of 300 bytes in one component",
            vec![Entry::file(
                "./usr/".to_owned() + &"n".repeat(300),
                0o644,
                "",
            )],
        ),
        tree(
            "a size in the header that is larger than the member",
            vec![Entry {
                claimed_size: Some(1 << 20),
                ..honest_file()
            }],
        ),
        tree(
            "a size of eight exabytes",
            vec![Entry {
                claimed_size: Some(u64::MAX / 2),
                ..honest_file()
            }],
        ),
    ];
    let (control, data) = Attack::package()
        .program("usr/bin/evil", "#!/bin/sh\n")
        .members();
    let control = Compression::Xz.compress(&control);
    let data = Compression::Xz.compress(&data);
    let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
    let mut lying = ar(&[version, ("control.tar.xz", &control)]);
    ar_member(&mut lying, "data.tar.xz", &data, 9_999_999_999);
    attacks.extend([
        attack(
            "no archive at all",
            b"<html>404, honestly</html>\n".repeat(40),
        ),
        attack("an empty file", Vec::new()),
        attack(
            "an archive cut in a header",
            b"!<arch>\ndebian-bin".to_vec(),
        ),
        attack(
            "no data member",
            ar(&[version, ("control.tar.xz", &control)]),
        ),
        attack("no control member", ar(&[version, ("data.tar.xz", &data)])),
        attack(
            "two data members",
            ar(&[
                version,
                ("control.tar.xz", &control),
                ("data.tar.xz", &data),
                ("data.tar.xz", &data),
            ]),
        ),
        attack("a member longer than the file", lying),
        attack(
            "a data member cut in the middle of its xz stream",
            ar(&[
                version,
                ("control.tar.xz", &control),
                ("data.tar.xz", &data[..data.len() / 2]),
            ]),
        ),
        attack(
            "a data member that is not what its name says",
            ar(&[
                version,
                ("control.tar.xz", &control),
                ("data.tar.xz", b"not xz at all"),
            ]),
        ),
        attack(
            "a format of the future",
            ar(&[
                ("debian-binary", b"3.0\n"),
                ("control.tar.xz", &control),
                ("data.tar.xz", &data),
            ]),
        ),
        attack(
            "another package under this name",
            Deb::new("innocent", "1.0")
                .file("usr/share/innocent", "")
                .build(),
        ),
        attack(
            "a bomb: 200 GB of zeros in one file, 6 MB on the wire",
            ar(&[
                version,
                ("control.tar.xz", &control),
                ("data.tar.zst", &zeros_as_zstd(Kind::File, 200_000_000_000)),
            ]),
        ),
        attack(
            "a bomb: a name of 200 GB",
            ar(&[
                version,
                ("control.tar.xz", &control),
                (
                    "data.tar.zst",
                    &zeros_as_zstd(Kind::GnuLongName, 200_000_000_000),
                ),
            ]),
        ),
        attack(
            "a bomb: 200 GB of zeros where the control file should be",
            ar(&[
                version,
                (
                    "control.tar.zst",
                    &zeros_as_zstd(Kind::File, 200_000_000_000),
                ),
                ("data.tar.xz", &data),
            ]),
        ),
    ]);
    attacks
}

fn attack(name: &'static str, bytes: Vec<u8>) -> Attack {
    Attack { name, bytes }
}

/// A .deb whose control is honest and whose data holds exactly these entries.
fn tree(name: &'static str, entries: Vec<Entry>) -> Attack {
    let (control, _) = Attack::package().members();
    let mut all = vec![Entry::directory("./"), Entry::directory("./usr/")];
    all.extend(entries);
    let bytes = ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", &Compression::Gz.compress(&control)),
        ("data.tar.gz", &Compression::Gz.compress(&tar(&all))),
    ]);
    attack(name, bytes)
}

/// A zstd frame (RFC 8878) of a tar file with one huge entry of zeros: a raw block for the header, then run-length blocks
/// of 128 KiB in four bytes each.
fn zeros_as_zstd(kind: Kind, size: u64) -> Vec<u8> {
    const BLOCK: u64 = 128 * 1024;
    let header = tar_header(&Entry::new("./usr/zeros", kind, 0o644), size);
    // Magic number; frame header without content size or checksum; window of 2^17 bytes.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    let block = |kind: u32, size: u32, last: bool| {
        ((size << 3) | (kind << 1) | u32::from(last)).to_le_bytes()
    };
    frame.extend_from_slice(&block(0, header.len() as u32, false)[..3]);
    frame.extend_from_slice(&header);
    for index in (0..=size.div_ceil(BLOCK)).rev() {
        frame.extend_from_slice(&block(1, BLOCK as u32, index == 0)[..3]);
        frame.push(0);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If the bomb were no valid zstd, a refusal would prove nothing about bombs.
    #[test]
    fn the_bomb_is_a_bomb() {
        let frame = zeros_as_zstd(Kind::File, 3_000_000);
        let tape = zstd::decode_all(frame.as_slice()).unwrap();
        assert!(tape.len() > 3_000_000 && frame.len() < 1000);
        assert_eq!(&tape[..11], b"./usr/zeros");
    }
}
