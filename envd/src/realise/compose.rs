//! From package trees to one root as it is before anything was configured: the packages' files merged strictly, dpkg's
//! database as dpkg itself would have written it after `--unpack`, and the links that make `/usr` merged.

use std::{collections::BTreeMap, io::Read, sync::OnceLock};

use envd_store::{Entry, Meta, Node, Session, Store, Tree, TreeError, TreeId, TreePath, merge};
use md5::{Digest as _, Md5};

use super::{
    RealiseError,
    configure::scripts,
    status::{self, Status},
};
use crate::provider::debian::{control::Stanza, deb::MERGED, dependency};

/// One unpacked package.
pub struct Package {
    /// Its tree: `control/…` and `data/…` (see [`crate::provider::debian::deb`]).
    pub tree: Tree,
    /// The tree's identity.
    pub id: TreeId,
    /// Name.
    pub name: String,
    /// Full version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// The control paragraph as it is in the package.
    pub control: String,
    /// Whether it has a `preinst` with something to do in a fresh root.
    pub preinst: bool,
    /// Whether it has a `postinst` with something to do in a fresh root.
    pub postinst: bool,
    /// Whether nothing works without it.
    pub essential: bool,
    /// The names that its dependencies have as alternatives.
    pub depends: Vec<String>,
    /// The names that it also goes by.
    pub provides: Vec<String>,
    /// What it activates and is interested in.
    pub triggers: Vec<Trigger>,
    /// Its files where they belong in a root, once they were needed.
    pub placed: OnceLock<Tree>,
}

/// A line of a package's triggers file (deb-triggers(5)).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trigger {
    /// The trigger: a word, or an absolute path.
    pub name: String,
    /// Whether the package is interested in it; else it activates it.
    pub interest: bool,
    /// Whether nobody waits for it.
    pub noawait: bool,
}

impl Package {
    /// Reads what composing needs to know from the package's own control paragraph.
    pub fn load(store: &Store, id: TreeId, tree: Tree) -> Result<Self, RealiseError> {
        let control =
            read(store, &tree, "control/control")?.ok_or_else(|| RealiseError::Control {
                tree: id,
                problem: "it has no control paragraph".to_owned(),
            })?;
        let control = String::from_utf8(control).map_err(|_| RealiseError::Control {
            tree: id,
            problem: "its control paragraph is not UTF-8".to_owned(),
        })?;
        let fields = Stanza::only(&control).map_err(|e| RealiseError::Control {
            tree: id,
            problem: e.to_string(),
        })?;
        let field = |name: &str| {
            fields
                .get(name)
                .map(str::to_owned)
                .ok_or_else(|| RealiseError::Control {
                    tree: id,
                    problem: format!("its control paragraph has no field {name}"),
                })
        };
        let name = field("Package")?;
        let architecture = field("Architecture")?;
        for (word, what) in [(&name, "name"), (&architecture, "architecture")] {
            // Both become parts of paths and of scripts (Debian Policy 5.6.1).
            let plain = |b: u8| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.')
            };
            if word.is_empty()
                || !word.bytes().all(plain)
                || !word.as_bytes()[0].is_ascii_alphanumeric()
            {
                return Err(RealiseError::Control {
                    tree: id,
                    problem: format!("{word:?} is no valid {what}"),
                });
            }
        }
        let pending = |script: &str| -> Result<bool, RealiseError> {
            let text = read(store, &tree, &format!("control/{script}"))?;
            Ok(text.is_some_and(|text| scripts::is_needed(&name, &text)))
        };
        let names = |field: &'static str| -> Vec<String> {
            let clauses = fields
                .get(field)
                .and_then(|text| dependency::parse_field(field, text).ok());
            let alternatives = clauses.into_iter().flatten().flatten();
            alternatives.map(|named| named.name.to_owned()).collect()
        };
        Ok(Self {
            preinst: pending("preinst")?,
            postinst: pending("postinst")?,
            version: field("Version")?,
            essential: fields.get("Essential").is_some_and(|word| word == "yes"),
            depends: [names("Pre-Depends"), names("Depends")].concat(),
            provides: names("Provides"),
            triggers: triggers(store, id, &tree)?,
            placed: OnceLock::new(),
            name,
            architecture,
            control: control.trim_end().to_owned(),
            tree,
            id,
        })
    }

    /// Whether dpkg has anything to run for it, now or when others are unpacked.
    pub fn has_something_to_run(&self) -> bool {
        self.preinst || self.postinst || self.triggers.iter().any(|trigger| trigger.interest)
    }

    fn field(&self, name: &str) -> Option<String> {
        let fields = Stanza::only(&self.control).ok()?;
        fields.get(name).map(str::to_owned)
    }

    /// The name under which dpkg keeps the package's own files.
    pub fn info_name(&self) -> String {
        match self.field("Multi-Arch").as_deref() {
            Some("same") => format!("{}:{}", self.name, self.architecture),
            _ => self.name.clone(),
        }
    }

    /// Packages whose files this one may take over.
    fn replaces(&self) -> Vec<String> {
        let Some(text) = self.field("Replaces") else {
            return Vec::new();
        };
        dependency::parse_field("Replaces", &text)
            .map(|clauses| {
                clauses
                    .into_iter()
                    .flatten()
                    .map(|replaced| replaced.name.to_owned())
                    .collect()
            })
            .unwrap_or_default()
    }
}

/// What dpkg knows of packages that it has configured.
#[derive(Default)]
pub struct Known {
    /// What it wrote about them.
    pub status: Status,
    /// Their triggers that were activated since, by package name.
    pub pending: BTreeMap<String, Vec<String>>,
}

/// Merges the packages into one root, as it is when they are unpacked and those that dpkg knows are configured. The result
/// depends on nothing else.
pub fn compose(
    session: &Session,
    packages: &[&Package],
    known: &Known,
) -> Result<Tree, RealiseError> {
    let database = database(session, packages, known)?;
    let mut parts = vec![(String::from("dpkg's database"), &database)];
    let mut replaces = BTreeMap::new();
    for package in packages {
        parts.push((package.name.clone(), placed(package)?));
        replaces.insert(package.name.as_str(), package.replaces());
    }
    let may_replace = |winner: &str, loser: &str| {
        replaces
            .get(winner)
            .is_some_and(|names: &Vec<String>| names.iter().any(|name| name == loser))
    };
    let merged = merge(&parts, &may_replace).map_err(RealiseError::Merge)?;
    with_merged_usr(&merged)
}

/// Does beforehand what [`compose`] needs of these packages, for whoever has nothing else to do.
pub fn prepare(packages: &[Package]) {
    // What is wrong with one is said by whoever composes it.
    packages.iter().for_each(|package| drop(placed(package)));
}

/// The package's files where they belong in a root.
fn placed(package: &Package) -> Result<&Tree, RealiseError> {
    if let Some(placed) = package.placed.get() {
        return Ok(placed);
    }
    let info = package.info_name();
    let place = |from: &TreePath| -> Option<TreePath> {
        let text = from.as_bytes();
        if let Some(rest) = text.strip_prefix(b"data/") {
            return TreePath::new(rest).ok();
        }
        let member = text.strip_prefix(b"control/")?;
        // The paragraph itself goes into the status file.
        if member == b"control" || member.contains(&b'/') {
            return None;
        }
        TreePath::new(&[b"var/lib/dpkg/info/", info.as_bytes(), b".", member].concat()).ok()
    };
    let mut builder = Tree::builder();
    for (from, entry) in package.tree.iter() {
        let Some(to) = place(from) else { continue };
        let mut entry = entry.clone();
        if let Node::HardLink { target } = &entry.node {
            let Some(target) = place(target) else {
                continue;
            };
            entry.node = Node::HardLink { target };
        }
        builder
            .insert(to, entry)
            .map_err(|source| tree_error(package, source))?;
    }
    let placed = builder
        .finish()
        .map_err(|source| tree_error(package, source))?;
    Ok(package.placed.get_or_init(|| placed))
}

fn tree_error(package: &Package, source: TreeError) -> RealiseError {
    RealiseError::Package {
        name: package.name.clone(),
        source,
    }
}

/// `/bin` and its like as links into `/usr`, unless a package brought them.
fn with_merged_usr(tree: &Tree) -> Result<Tree, RealiseError> {
    let mut layer = Tree::builder().layer();
    for name in MERGED {
        let inside = path(&format!("usr/{name}"));
        let always = matches!(name, "bin" | "sbin" | "lib");
        if tree.get(&path(name)).is_none() && (always || tree.get(&inside).is_some()) {
            layer
                .insert(path(name), Entry::symlink(format!("usr/{name}")))
                .map_err(RealiseError::Tree)?;
            if tree.get(&inside).is_none() {
                layer
                    .insert(inside, Entry::directory(Meta::directory()))
                    .map_err(RealiseError::Tree)?;
            }
        }
    }
    tree.apply(&layer.finish().map_err(RealiseError::Tree)?)
        .map_err(RealiseError::Tree)
}

/// dpkg's database (dpkg(1), FILES) for packages that were unpacked and, where they have no script, configured.
fn database(session: &Session, packages: &[&Package], known: &Known) -> Result<Tree, RealiseError> {
    let mut files = BTreeMap::<String, Vec<u8>>::new();
    files.insert("info/format".into(), b"1\n".to_vec());
    files.insert("available".into(), Vec::new());
    files.insert("diversions".into(), Vec::new());
    files.insert("statoverride".into(), Vec::new());
    let mut text = String::new();
    let mut interests = String::new();
    for package in packages {
        let written = known.status.paragraph(&package.name, &package.architecture);
        match written {
            Some(paragraph) => {
                let pending = known.pending.get(&package.name);
                let pending: Vec<&str> =
                    pending.into_iter().flatten().map(String::as_str).collect();
                text.push_str(&status::with_pending(paragraph, &pending));
                text.push('\n');
            }
            None => text.push_str(&stanza(session.store(), package)?),
        }
        for trigger in package.triggers.iter().filter(|trigger| trigger.interest) {
            let name = &trigger.name;
            let suffix = if trigger.noawait { "/noawait" } else { "" };
            if name.starts_with('/') {
                interests.push_str(&format!("{name} {}{suffix}\n", package.name));
            } else {
                let line = format!("{}{suffix}\n", package.name);
                files
                    .entry(format!("triggers/{name}"))
                    .or_default()
                    .extend(line.bytes());
            }
        }
    }
    files.insert("status".into(), text.into_bytes());
    files.insert("triggers/File".into(), interests.into_bytes());

    let mut builder = Tree::builder();
    for name in ["alternatives", "parts", "updates", "triggers", "info"] {
        builder
            .insert(
                path(&format!("var/lib/dpkg/{name}")),
                Entry::directory(Meta::directory()),
            )
            .map_err(RealiseError::Tree)?;
    }
    for (name, content) in files {
        let (digest, size) = session.put(&content, 0o644)?;
        let meta = Meta {
            mode: 0o644,
            ..Meta::default()
        };
        let entry = Entry {
            meta,
            node: Node::File { digest, size },
        };
        builder
            .insert(path(&format!("var/lib/dpkg/{name}")), entry)
            .map_err(RealiseError::Tree)?;
    }
    builder.finish().map_err(RealiseError::Tree)
}

/// One entry of dpkg's status file.
fn stanza(store: &Store, package: &Package) -> Result<String, RealiseError> {
    // A package without scripts is configured by having been unpacked; leaving that to dpkg costs milliseconds each.
    let state = if package.postinst {
        "unpacked"
    } else {
        "installed"
    };
    let (first, rest) = package
        .control
        .split_once('\n')
        .unwrap_or((&package.control, ""));
    let mut text = format!("{first}\nStatus: install ok {state}\n{rest}\n");
    let mut conffiles = String::new();
    if let Some(list) = read(store, &package.tree, "control/conffiles")? {
        for line in String::from_utf8_lossy(&list).lines() {
            // A line may begin with a flag (`remove-on-upgrade`); the path is its last word (deb-conffiles(5)).
            let Some(conffile) = line.split_whitespace().next_back() else {
                continue;
            };
            if let Some(content) = read(store, &package.tree, &format!("data{conffile}"))? {
                conffiles.push_str(&format!(
                    " {conffile} {}\n",
                    hex::encode(Md5::digest(&content))
                ));
            }
        }
    }
    if !conffiles.is_empty() {
        text.push_str("Conffiles:\n");
        text.push_str(&conffiles);
    }
    text.push('\n');
    Ok(text)
}

/// The package's triggers file, as far as there is something to it.
fn triggers(store: &Store, id: TreeId, tree: &Tree) -> Result<Vec<Trigger>, RealiseError> {
    let Some(text) = read(store, tree, "control/triggers")? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let words: Vec<&str> = line
            .split('#')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let [directive, name] = words[..] else {
            continue;
        };
        let interest = directive.starts_with("interest");
        if !interest && !directive.starts_with("activate") {
            continue;
        }
        // It becomes the name of a file.
        if name.split('/').any(|part| part == "..")
            || (!name.starts_with('/') && name.contains('/'))
        {
            return Err(RealiseError::Control {
                tree: id,
                problem: format!("{name:?} is no valid trigger"),
            });
        }
        found.push(Trigger {
            name: name.to_owned(),
            interest,
            noawait: directive.ends_with("-noawait"),
        });
    }
    Ok(found)
}

/// The content of a regular file of a tree, if it has one there.
pub fn read(store: &Store, tree: &Tree, at: &str) -> Result<Option<Vec<u8>>, RealiseError> {
    let Ok(at) = TreePath::new(at.as_bytes()) else {
        return Ok(None);
    };
    let (Some(entry), Some((digest, _))) = (tree.get(&at), tree.content(&at)) else {
        return Ok(None);
    };
    let mut content = Vec::new();
    store
        .object(&digest, entry.meta.mode)?
        .read_to_end(&mut content)
        .map_err(|source| RealiseError::Read { path: at, source })?;
    Ok(Some(content))
}

/// A path that is known to be well formed.
fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).expect("built from constants and names that were checked")
}
