//! The canonical text of a tree, whose digest is the tree's identity. `store/FORMAT.md` specifies it.

use super::{Entry, Meta, Node, Tree, TreeError, Xattrs, builder};
use crate::{
    Digest, TreePath,
    escape::{digest_bytes, escape, unescape},
};

const TREE: &[u8] = b"envd-tree 1\n";
const LAYER: &[u8] = b"envd-layer 1\n";

/// Why some bytes are no canonical manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Another format, or another version of ours.
    #[error(
        "the manifest does not begin with \"envd-tree 1\" or \"envd-layer 1\": it is damaged or from another version of envd"
    )]
    Version,
    /// A line that cannot be read, or is not written the one way it may be.
    #[error("line {line} of the manifest {problem}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// Good lines that make no tree.
    #[error("the manifest describes no valid tree")]
    Tree(#[source] TreeError),
}

impl Tree {
    /// The canonical manifest.
    pub fn to_manifest(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 128 * self.len());
        out.extend_from_slice(if self.layer { LAYER } else { TREE });
        for (path, entry) in self {
            write_line(path, entry, &mut out);
        }
        out
    }

    /// The tree behind a manifest, which must be canonical to the byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (layer, lines) = match (bytes.strip_prefix(TREE), bytes.strip_prefix(LAYER)) {
            (Some(lines), _) => (false, lines),
            (_, Some(lines)) => (true, lines),
            _ => return Err(ManifestError::Version),
        };
        let mut entries: Vec<(TreePath, Entry)> = Vec::with_capacity(lines.len() / 64);
        let mut chain = builder::Chain::default();
        let mut links = Vec::new();
        let mut again = Vec::with_capacity(512);
        for (index, text) in lines.split_inclusive(|&b| b == b'\n').enumerate() {
            let refuse = |problem| ManifestError::Line {
                line: index + 2,
                problem,
            };
            let (path, entry) = read_line(text).map_err(refuse)?;
            if entries.last().is_some_and(|(before, _)| *before >= path) {
                return Err(refuse("is out of order"));
            }
            if entry.node == Node::Whiteout && !layer {
                return Err(refuse("is a whiteout, which only a layer may have"));
            }
            again.clear();
            write_line(&path, &entry, &mut again);
            if again != text {
                return Err(refuse("is not in canonical form"));
            }
            if chain
                .enter(&path, &entry)
                .map_err(ManifestError::Tree)?
                .is_some()
            {
                if !layer {
                    return Err(refuse("has no parent directory"));
                }
                while chain
                    .enter(&path, &entry)
                    .map_err(ManifestError::Tree)?
                    .is_some()
                {}
            }
            if let Node::HardLink { target } = &entry.node {
                if *target >= path {
                    return Err(refuse("is a hard link to a later path"));
                }
                links.push(path.clone());
            }
            entries.push((path, entry));
        }
        let mut tree = Self {
            entries: entries.into_iter().collect(),
            layer,
        };
        for path in links {
            tree.adopt_meta(&path)?;
        }
        Ok(tree)
    }

    /// Gives a hard link its file's metadata, which its line leaves out.
    fn adopt_meta(&mut self, link: &TreePath) -> Result<(), ManifestError> {
        let target = match self.get(link).map(|entry| &entry.node) {
            Some(Node::HardLink { target }) => target.clone(),
            _ => return Ok(()),
        };
        let meta = match self.get(&target) {
            Some(entry) if matches!(entry.node, Node::File { .. }) => entry.meta.clone(),
            _ => {
                return Err(ManifestError::Tree(TreeError::LinkTarget {
                    path: link.clone(),
                    target,
                }));
            }
        };
        if let Some(entry) = self.entries.get_mut(link) {
            entry.meta = meta;
        }
        Ok(())
    }
}

fn write_line(path: &TreePath, entry: &Entry, out: &mut Vec<u8>) {
    let kind = match entry.node {
        Node::Directory => b'd',
        Node::File { .. } => b'f',
        Node::Symlink { .. } => b'l',
        Node::HardLink { .. } => b'h',
        Node::Whiteout => b'w',
    };
    out.extend([kind, b' ']);
    if matches!(kind, b'd' | b'f' | b'l') {
        write_meta(&entry.meta, out);
    }
    match &entry.node {
        Node::File { digest, size } => {
            let mut hexadecimal = [0; 64];
            // Cannot fail: the buffer is twice the input.
            let _ = hex::encode_to_slice(digest.as_bytes(), &mut hexadecimal);
            out.extend_from_slice(&hexadecimal);
            out.push(b' ');
            write_number(*size, out);
            out.push(b' ');
        }
        Node::Symlink { target } => {
            escape(target, b"", out);
            out.push(b' ');
        }
        Node::HardLink { target } => {
            escape(target.as_bytes(), b"", out);
            out.push(b' ');
        }
        Node::Directory | Node::Whiteout => {}
    }
    escape(path.as_bytes(), b"", out);
    out.push(b'\n');
}

fn write_meta(meta: &Meta, out: &mut Vec<u8>) {
    for shift in [9, 6, 3, 0] {
        out.push(b'0' + (meta.mode >> shift & 7) as u8);
    }
    out.push(b' ');
    write_number(meta.uid.into(), out);
    out.push(b' ');
    write_number(meta.gid.into(), out);
    out.push(b' ');
    for (name, value) in &meta.xattrs {
        out.extend_from_slice(b"x:");
        escape(name, b"=", out);
        out.push(b'=');
        out.extend_from_slice(hex::encode(value).as_bytes());
        out.push(b' ');
    }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// One line with its line feed. Anything lenient here is caught by the comparison with the line written again.
fn read_line(line: &[u8]) -> Result<(TreePath, Entry), &'static str> {
    let line = line.strip_suffix(b"\n").ok_or("is cut short")?;
    let (kind, rest) = line.split_first().ok_or("is empty")?;
    let rest = rest.strip_prefix(b" ").ok_or("has no kind")?;
    let (before, path) = match rest.iter().rposition(|&b| b == b' ') {
        Some(space) => (&rest[..space], &rest[space + 1..]),
        None => (&b""[..], rest),
    };
    let path = read_path(path)?;
    let mut fields = before.split(|&b| b == b' ');
    let (meta, node) = match kind {
        b'd' => (read_meta(&mut fields, 0)?, Node::Directory),
        b'f' => {
            let digest = fields
                .next_back()
                .and_then(number)
                .ok_or("has no valid size");
            let size = digest?;
            let digest = fields
                .next_back()
                .and_then(read_digest)
                .ok_or("has no valid digest")?;
            (read_meta(&mut fields, 0)?, Node::File { digest, size })
        }
        b'l' => {
            let target = fields
                .next_back()
                .and_then(unescape)
                .ok_or("has no valid target")?;
            if !builder::is_target(&target) {
                return Err("has an impossible target");
            }
            let target = target.into();
            let meta = read_meta(&mut fields, 0o777)?;
            (meta, Node::Symlink { target })
        }
        b'h' => {
            let target = read_path(fields.next().ok_or("has no target")?)?;
            (Meta::default(), Node::HardLink { target })
        }
        b'w' => (Meta::default(), Node::Whiteout),
        _ => return Err("has an unknown kind"),
    };
    Ok((path, Entry { meta, node }))
}

fn read_path(field: &[u8]) -> Result<TreePath, &'static str> {
    let checked = if field.contains(&b'%') {
        TreePath::new(&unescape(field).ok_or("has a broken escape")?)
    } else {
        TreePath::new(field)
    };
    checked.map_err(|_| "has an impossible path")
}

/// Mode, owner, group and attributes. A `mode` other than zero is the only one allowed.
fn read_meta<'a>(
    fields: &mut impl Iterator<Item = &'a [u8]>,
    mode: u16,
) -> Result<Meta, &'static str> {
    let octal = fields.next().ok_or("has no mode")?;
    let digits = octal.iter().all(|b| (b'0'..=b'7').contains(b));
    if !digits || octal.len() != 4 {
        return Err("has no mode of four octal digits");
    }
    let found = octal
        .iter()
        .fold(0, |mode, b| mode << 3 | u16::from(b - b'0'));
    if mode != 0 && found != mode {
        return Err("is a symbolic link whose mode is not 0777");
    }
    let owner = |field: Option<&[u8]>| field.and_then(number).and_then(|id| u32::try_from(id).ok());
    let uid = owner(fields.next()).ok_or("has no valid owner")?;
    let gid = owner(fields.next()).ok_or("has no valid group")?;
    let mut meta = Meta {
        mode: found,
        uid,
        gid,
        ..Meta::default()
    };
    for field in fields {
        read_attribute(field, &mut meta.xattrs).ok_or("has a broken attribute")?;
    }
    Ok(meta)
}

fn read_attribute(field: &[u8], xattrs: &mut Xattrs) -> Option<()> {
    let field = field.strip_prefix(b"x:")?;
    let equals = field.iter().position(|&b| b == b'=')?;
    let name = unescape(&field[..equals]).filter(|name| builder::is_attribute(name))?;
    let value = hex::decode(&field[equals + 1..]).ok()?;
    xattrs.insert(name.into(), value.into());
    Some(())
}

fn number(field: &[u8]) -> Option<u64> {
    if field.is_empty() || field.len() > 20 {
        return None;
    }
    field.iter().try_fold(0u64, |number, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn read_digest(field: &[u8]) -> Option<Digest> {
    digest_bytes(field).map(Digest::from_bytes)
}

/// Digest, manifest mode and size of each regular file that a manifest names, without making the tree: what gc needs of it. The caller
/// has compared the manifest with its digest, so lines that are no files need no look.
pub(crate) fn files(manifest: &[u8]) -> impl Iterator<Item = (Digest, u16, u64)> {
    manifest.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.strip_prefix(b"f ")?.split(|&b| b == b' ');
        let mode = fields
            .next()?
            .iter()
            .fold(0, |mode, b| mode << 3 | u16::from(b & 7));
        fields.next_back()?;
        let size = fields.next_back().and_then(number)?;
        let digest = fields.next_back().and_then(read_digest)?;
        Some((digest, mode, size))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A manifest from a damaged disk must be an error, never a panic and never another tree.
        #[test]
        fn garbage_is_refused_or_canonical(bytes: Vec<u8>, line in "[dflhw] [ 0-9a-f/%x:=]{0,60}\n") {
            for body in [bytes.as_slice(), line.as_bytes()] {
                for header in [TREE, LAYER] {
                    let text = [header, body].concat();
                    if let Ok(tree) = Tree::parse(&text) {
                        prop_assert_eq!(tree.to_manifest(), text);
                    }
                }
            }
            let _ = Tree::parse(&bytes);
        }
    }

    #[test]
    fn each_field_has_one_spelling() {
        let digest = Digest::of(b"");
        let good = format!(
            "envd-tree 1\nd 0755 0 0 usr\nf 4755 0 10 x:user.a=00ff {digest} 0 usr/b%20c\nh usr/b%20c usr/d\n"
        );
        let tree = Tree::parse(good.as_bytes()).unwrap();
        assert_eq!(tree.to_manifest(), good.as_bytes());
        for (from, to) in [
            ("0755", "755"),
            ("0755", "00755"),
            (" 0 10 ", " 00 10 "),
            (" 0 10 ", " 0  10 "),
            ("00ff", "00FF"),
            ("%20", "%2x"),
            ("%20", "+"),
            ("usr/d\n", "usr/d"),
            ("usr/d\n", "usr/d\n\n"),
            ("usr/d\n", "usr/%64\n"),
            ("usr/d\n", "usr/a\n"),
            ("h usr/b%20c usr/d", "h usr/b usr/d"),
            ("h usr/b%20c usr/d", "h usr usr/d"),
            ("h usr/b%20c usr/d", "w usr/d"),
            ("d 0755 0 0 usr", "l 0777 0 0 x usr"),
            ("d 0755 0 0 usr", "d 0755 0 0 var"),
            ("d 0755 0 0 usr", "d 0755 4294967296 0 usr"),
            (" 0 usr/b", " 18446744073709551616 usr/b"),
            ("envd-tree 1", "envd-tree 2"),
            ("x:user.a", "x:"),
        ] {
            let bad = good.replacen(from, to, 1);
            if to == "+" {
                continue;
            }
            assert_ne!(bad, good);
            assert!(Tree::parse(bad.as_bytes()).is_err(), "accepted {bad:?}");
        }
    }

    #[test]
    fn an_attribute_is_no_path_and_a_path_no_attribute() {
        let text = b"envd-tree 1\nd 0755 0 0 x:a=00 x:b=00\n";
        let tree = Tree::parse(text).unwrap();
        let (path, entry) = tree.iter().next().unwrap();
        assert_eq!(path.as_bytes(), b"x:b=00");
        assert_eq!(entry.meta.xattrs.len(), 1);
    }
}
