use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

/// A project, a place elsewhere, and an envd.
struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let scene = Self { directory };
        fs::create_dir(scene.at("project")).unwrap();
        fs::write(scene.at("project/envd.toml"), "").unwrap();
        fs::write(scene.at("envd"), "").unwrap();
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.directory.path()).unwrap().join(name)
    }

    fn shims(&self) -> Shims {
        Shims::of(&self.at("project"))
    }

    fn install(&self, directory: Option<&str>, names: &[&str]) -> Result<Installed, ShimError> {
        let directory = directory.map(|name| self.at(name));
        let names = names.iter().map(OsString::from).collect();
        self.shims()
            .install(directory.as_deref(), &names, &self.at("envd"))
    }

    fn update(&self, names: &[&str]) {
        let names = names.iter().map(OsString::from).collect();
        self.shims().update(&names, &self.at("envd")).unwrap();
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.at(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn all_are_one_file_and_doing_it_again_changes_nothing() {
    let scene = Scene::new();
    let installed = scene.install(None, &["cc", "make"]).unwrap();
    assert_eq!((installed.commands, installed.plan.make.len()), (2, 2));
    assert_eq!(
        scene.names("project/.envd"),
        [".gitignore", "bin", "envd", "shim"]
    );
    let inode = |name: &str| fs::metadata(scene.at(name)).unwrap().ino();
    let file = inode("project/.envd/shim");
    assert_eq!(inode("project/.envd/bin/cc"), file);
    assert_eq!(inode("project/.envd/bin/make"), file);
    let mode = fs::metadata(scene.at("project/.envd/bin/cc"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let again = scene.install(None, &["cc", "make"]).unwrap();
    assert_eq!(again.plan, Plan::default());
    assert_eq!(inode("project/.envd/bin/cc"), file);
}

#[test]
fn an_update_follows_the_environment_in_every_directory() {
    let scene = Scene::new();
    scene.install(None, &["cc", "make"]).unwrap();
    scene.install(Some("tools"), &["cc", "make"]).unwrap();
    fs::write(scene.at("tools/notes"), "mine").unwrap();
    scene.update(&["cc", "go"]);
    assert_eq!(scene.names("project/.envd/bin"), ["cc", "go"]);
    assert_eq!(scene.names("tools"), [".envd-project", "cc", "go", "notes"]);
    // One that was deleted by hand is not wanted any more.
    fs::remove_dir_all(scene.at("tools")).unwrap();
    scene.update(&["cc"]);
    assert!(!scene.at("tools").exists());
}

#[test]
fn shims_of_an_older_envd_are_replaced() {
    let scene = Scene::new();
    scene.install(None, &["cc"]).unwrap();
    let shim = scene.at("project/.envd/shim");
    let mut old = fs::read(&shim).unwrap();
    old.push(0);
    // Through the one file, so that every name is of the older one.
    fs::write(&shim, &old).unwrap();
    fs::remove_file(scene.at("envd")).unwrap();
    fs::write(scene.at("envd-2"), "").unwrap();
    scene
        .shims()
        .update(&[OsString::from("cc")].into(), &scene.at("envd-2"))
        .unwrap();
    let cc = fs::metadata(scene.at("project/.envd/bin/cc")).unwrap();
    assert_eq!(cc.ino(), fs::metadata(&shim).unwrap().ino());
    assert_eq!(cc.len() as usize, envd_trampoline::SHIM.len());
    assert_eq!(
        fs::read_link(scene.at("project/.envd/envd")).unwrap(),
        scene.at("envd-2"),
        "an envd that is gone starts nothing"
    );
}

#[test]
fn removing_takes_what_was_made_and_nothing_else() {
    let scene = Scene::new();
    fs::create_dir(scene.at("kept")).unwrap();
    fs::write(scene.at("kept/notes"), "mine").unwrap();
    scene.install(None, &["cc"]).unwrap();
    scene.install(Some("kept"), &["cc"]).unwrap();
    scene.install(Some("made"), &["cc"]).unwrap();
    fs::write(scene.at("project/.envd/.shim.4711.tmp"), "half").unwrap();
    let removed = scene.shims().remove().unwrap();
    assert_eq!(removed.iter().map(|r| r.shims).sum::<usize>(), 3);
    assert_eq!(scene.names("project"), ["envd.toml"]);
    assert_eq!(scene.names("kept"), ["notes"]);
    assert!(!scene.at("made").exists());
    assert!(scene.shims().remove().unwrap().is_empty(), "nothing twice");

    scene.install(None, &["cc"]).unwrap();
    fs::write(scene.at("project/.envd/bin/own"), "#!/bin/sh\n").unwrap();
    scene.shims().remove().unwrap();
    assert_eq!(scene.names("project/.envd"), ["bin"]);
    assert_eq!(scene.names("project/.envd/bin"), ["own"]);
}

#[test]
fn a_file_of_somebody_else_is_named_and_stays() {
    let scene = Scene::new();
    fs::create_dir(scene.at("tools")).unwrap();
    fs::write(scene.at("tools/cc"), "mine").unwrap();
    let error = scene.install(Some("tools"), &["cc"]).unwrap_err();
    assert!(error.to_string().contains("tools/cc"), "{error}");
    assert_eq!(fs::read(scene.at("tools/cc")).unwrap(), b"mine");
}

/// Whoever wrote the project's files must not decide where envd writes.
#[test]
fn a_link_in_the_place_of_the_directory_is_refused() {
    for place in [".envd", ".envd/bin"] {
        let scene = Scene::new();
        fs::create_dir(scene.at("victim")).unwrap();
        if place == ".envd/bin" {
            fs::create_dir(scene.at("project/.envd")).unwrap();
        }
        symlink(scene.at("victim"), scene.at("project").join(place)).unwrap();
        let error = scene.install(None, &["cc"]).unwrap_err();
        assert!(matches!(error, ShimError::NoDirectory { .. }), "{error}");
        assert!(scene.names("victim").is_empty());
    }
}

#[test]
fn a_directory_has_the_shims_of_one_project() {
    let scene = Scene::new();
    scene.install(Some("tools"), &["cc"]).unwrap();
    fs::create_dir(scene.at("other")).unwrap();
    fs::write(scene.at("other/envd.toml"), "").unwrap();
    let other = Shims::of(&scene.at("other"));
    let names = [OsString::from("cc")].into();
    let install = || other.install(Some(&scene.at("tools")), &names, &scene.at("envd"));
    let error = install().unwrap_err();
    assert!(matches!(error, ShimError::Taken { .. }), "{error}");
    // A project that is gone needs it no more.
    fs::remove_dir_all(scene.at("project")).unwrap();
    install().unwrap();
    assert_eq!(
        fs::read_link(scene.at("tools/.envd-project")).unwrap(),
        scene.at("other")
    );
    let within = scene.at("other/.envd/more");
    let shims = Shims::of(&scene.at("third"));
    fs::create_dir(scene.at("third")).unwrap();
    let error = shims
        .install(Some(&within), &names, &scene.at("envd"))
        .unwrap_err();
    assert!(matches!(error, ShimError::Unsuitable { .. }), "{error}");
    assert!(!within.exists());
}

/// `/dev/shm` is a file system of its own nearly everywhere.
#[test]
fn on_another_file_system_there_is_one_copy() {
    let scene = Scene::new();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(elsewhere.path()) == device(&scene.at("project")) {
        return;
    }
    let path = elsewhere.path().join("bin");
    let names: BTreeSet<OsString> = ["cc", "make", "go"].map(OsString::from).into();
    let shims = scene.shims();
    shims
        .install(Some(&path), &names, &scene.at("envd"))
        .unwrap();
    let inode = |name: &str| fs::metadata(path.join(name)).unwrap().ino();
    assert_eq!(inode("cc"), inode("make"));
    let more: BTreeSet<OsString> = ["cc", "ld", "zig"].map(OsString::from).into();
    shims.update(&more, &scene.at("envd")).unwrap();
    assert_eq!(inode("cc"), inode("zig"));
    let mode = fs::metadata(path.join("ld")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    shims.remove().unwrap();
    assert!(!path.exists());
}
