//! What of a plan is the same in every environment that is made of it: files, links and directories over the root's own, as a layer
//! that all of them share instead of making it again each.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
    },
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    compile::{Done, bed},
    plan::{Mount, Plan, Root, Upper},
    text,
};

/// Something to be put into a layer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Planted {
    /// Where, relative to the layer. What it lies in comes before it.
    #[serde(with = "text")]
    pub path: PathBuf,
    /// What.
    pub thing: Thing,
    /// What of the plan it is for.
    #[serde(skip)]
    pub(crate) target: PathBuf,
}

/// What is put there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// A directory of this mode.
    Directory(u32),
    /// A file of this mode, with this content.
    File(u32, String),
    /// A symbolic link to this.
    Link(#[serde(with = "text")] PathBuf),
}

/// The layer, and the plan without what is in it.
#[derive(Debug)]
pub struct Skeleton {
    things: Vec<Planted>,
    rest: Plan,
}

impl Skeleton {
    /// Of a plan whose root is one directory below a tmpfs; of any other there is none.
    pub fn of(plan: &Plan) -> Option<Self> {
        let Root::Overlay {
            lowers,
            upper: Upper::Tmpfs { .. },
        } = &plan.root
        else {
            return None;
        };
        let [lower] = &lowers[..] else {
            return None;
        };
        let (things, planted) = bed(plan, lower);
        let left = plan.mounts.iter().zip(planted);
        let left = left.filter_map(|(mount, done)| match (done, mount) {
            (Done::All, _) => None,
            (Done::Laid, Mount::Devices { target }) => Some(Mount::Nodes {
                target: target.clone(),
            }),
            _ => Some(mount.clone()),
        });
        let rest = Plan {
            mounts: left.collect(),
            ..plan.clone()
        };
        Some(Self { things, rest })
    }

    /// What is in it. Two layers with the same things are the same.
    pub fn things(&self) -> &[Planted] {
        &self.things
    }

    /// Puts everything into an empty directory, which must be of the process's own group and pass on no other: what belongs to a
    /// group that an environment has no number for cannot be changed inside.
    pub fn lay(&self, directory: &Path) -> io::Result<()> {
        let found = directory.metadata()?;
        if found.gid() != rustix::process::getegid().as_raw() || found.mode() & 0o2000 != 0 {
            let message = "files that are made there are of another group";
            return Err(io::Error::other(message));
        }
        for planted in &self.things {
            let path = directory.join(&planted.path);
            // Whatever the mask of permission bits is.
            match &planted.thing {
                Thing::Directory(mode) => {
                    DirBuilder::new().mode(0o700).create(&path)?;
                    File::open(&path)?.set_permissions(Permissions::from_mode(*mode))?;
                }
                Thing::File(mode, content) => {
                    let mut options = OpenOptions::new();
                    let mut file = options
                        .write(true)
                        .create_new(true)
                        .mode(0o600)
                        .open(&path)?;
                    file.write_all(content.as_bytes())?;
                    file.set_permissions(Permissions::from_mode(*mode))?;
                }
                Thing::Link(points_to) => symlink(points_to, &path)?,
            }
        }
        Ok(())
    }

    /// The plan for environments that have the layer, which is laid in `directory`.
    pub fn plan(self, directory: &Path) -> Plan {
        let mut plan = self.rest;
        if let Root::Overlay { lowers, .. } = &mut plan.root {
            lowers.insert(0, directory.to_owned());
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    /// A plan for a root of this directory.
    fn over(lower: &Path) -> Plan {
        let upper = Upper::Tmpfs {
            size: None,
            inodes: None,
        };
        let lowers = vec![lower.to_owned()];
        Plan {
            root: Root::Overlay { lowers, upper },
            ..plan()
        }
    }

    #[test]
    fn a_layer_has_what_the_plan_says_and_the_plan_the_rest() {
        let place = tempfile::tempdir().unwrap();
        let (lower, layer) = (place.path().join("lower"), place.path().join("layer"));
        for directory in ["etc", "run"] {
            std::fs::create_dir_all(lower.join(directory)).unwrap();
        }
        std::fs::create_dir(&layer).unwrap();
        let mut plan = over(&lower);
        let tmpfs = |target: &str| Mount::Tmpfs {
            target: target.into(),
            mode: 0o1777,
            size: None,
        };
        let proc = Mount::Proc {
            target: "/proc".into(),
        };
        plan.mounts = vec![
            proc.clone(),
            Mount::Devices {
                target: "/dev".into(),
            },
            tmpfs("/run"),
            Mount::File {
                target: "/etc/hosts".into(),
                content: "127.0.0.1 localhost\n".to_owned(),
                mode: 0o640,
            },
            Mount::Symlink {
                target: "/etc/localtime".into(),
                points_to: "/usr/share/zoneinfo/UTC".into(),
            },
        ];
        let skeleton = Skeleton::of(&plan).unwrap();
        skeleton.lay(&layer).unwrap();
        let mode = |path: &str| {
            let found = std::fs::metadata(layer.join(path)).unwrap();
            found.permissions().mode() & 0o7777
        };
        assert_eq!((mode("run"), mode("etc/hosts")), (0o1777, 0o640));
        assert!(mode("proc") != 0, "a place to mount on");
        assert_eq!((mode("dev/null"), mode("dev/shm")), (0o666, 0o1777));
        let link = std::fs::read_link(layer.join("etc/localtime")).unwrap();
        assert_eq!(link, Path::new("/usr/share/zoneinfo/UTC"));
        let rest = skeleton.plan(&layer);
        let nodes = Mount::Nodes {
            target: "/dev".into(),
        };
        assert_eq!(rest.mounts, [proc, nodes]);
        assert!(matches!(rest.root, Root::Overlay { lowers, .. } if lowers == [layer, lower]));
    }

    /// Inside there is no number for that group, and a directory of it cannot even be written to.
    #[test]
    fn a_directory_that_passes_on_another_group_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let (lower, layer) = (place.path().join("lower"), place.path().join("layer"));
        std::fs::create_dir(&lower).unwrap();
        std::fs::create_dir(&layer).unwrap();
        let plan = over(&lower);
        let skeleton = Skeleton::of(&plan).unwrap();
        std::fs::set_permissions(&layer, Permissions::from_mode(0o2755)).unwrap();
        assert!(skeleton.lay(&layer).is_err());
        std::fs::set_permissions(&layer, Permissions::from_mode(0o755)).unwrap();
        skeleton.lay(&layer).unwrap();
    }

    /// What is written below a directory of the root's own is there beside what that has, which a layer cannot undo.
    #[test]
    fn what_would_show_through_is_mounted() {
        let place = tempfile::tempdir().unwrap();
        let lower = place.path().join("lower");
        std::fs::create_dir_all(lower.join("root")).unwrap();
        std::fs::write(lower.join("root/.profile"), "").unwrap();
        let mut plan = over(&lower);
        plan.mounts = vec![Mount::Tmpfs {
            target: "/root".into(),
            mode: 0o700,
            size: None,
        }];
        let skeleton = Skeleton::of(&plan).unwrap();
        assert_eq!(skeleton.plan(Path::new("/layer")).mounts, plan.mounts);
    }
}
