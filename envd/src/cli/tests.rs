//! Commands from their words to what they ask of the operations.

use std::{cell::RefCell, fs, path::Path};

use envd_shims::{Exit, Plan, plan::Mount};

use super::{operations::Environment, *};
use crate::{
    config::{EnvironmentSection, Manifest},
    progress::Progress,
    project::Project,
};

/// Operations that answer what they are told to and note what they are asked.
struct Recorder {
    environment: Environment,
    launched: RefCell<Vec<Plan>>,
    sections: RefCell<Vec<EnvironmentSection>>,
    locks: RefCell<Vec<lock::Request>>,
    rollbacks: RefCell<Vec<rollback::Request>>,
    collections: RefCell<Vec<gc::Request>>,
    damaged: Vec<String>,
    changes: Vec<lock::Change>,
    mechanisms: Vec<doctor::Mechanism>,
}

impl Operations for Recorder {
    fn keep_start(&self, _: &str, _: &[u8]) {}
    fn search(&self, _: &search::Request, _: &dyn Progress) -> Result<Vec<search::Hit>, Failure> {
        Ok(Vec::new())
    }
    fn lock(
        &self,
        project: &Project,
        _: &Manifest,
        request: &lock::Request,
        _: &dyn Progress,
    ) -> Result<lock::Report, Failure> {
        self.locks.borrow_mut().push(request.clone());
        Ok(lock::Report {
            path: project.lock().display().to_string(),
            packages: 1,
            download: 1,
            changes: self.changes.clone(),
        })
    }
    fn why(
        &self,
        _: &Project,
        _: &Manifest,
        _: &str,
        _: &dyn Progress,
    ) -> Result<Vec<why::Chain>, Failure> {
        Ok(Vec::new())
    }
    fn list(
        &self,
        _: &Project,
        _: &Manifest,
        _: &dyn Progress,
    ) -> Result<Vec<list::Package>, Failure> {
        Ok(Vec::new())
    }
    fn realise(
        &self,
        _: &Project,
        manifest: &Manifest,
        _: &dyn Progress,
    ) -> Result<Environment, Failure> {
        self.sections
            .borrow_mut()
            .push(manifest.environment.clone());
        Ok(self.environment.clone())
    }
    fn ready(&self, _: &Project, _: &Manifest) -> Result<Option<operations::Ready>, Failure> {
        Ok(None)
    }
    fn package_of(&self, _: &Project, _: &Path) -> Result<Option<String>, Failure> {
        Ok(None)
    }
    fn generations(&self, _: &Project) -> Result<Vec<generations::Generation>, Failure> {
        Ok(Vec::new())
    }
    fn rollback(
        &self,
        _: &Project,
        request: rollback::Request,
    ) -> Result<rollback::Report, Failure> {
        self.rollbacks.borrow_mut().push(request);
        Ok(rollback::Report {
            from: Some(3),
            to: 2,
            changes: Vec::new(),
            agrees: true,
            manifest: request.manifest,
            kept: None,
        })
    }
    fn realise_once(
        &self,
        section: &EnvironmentSection,
        _: &dyn Progress,
    ) -> Result<Environment, Failure> {
        self.sections.borrow_mut().push(section.clone());
        Ok(self.environment.clone())
    }
    fn image(
        &self,
        _: &Project,
        _: &Manifest,
        _: &Path,
        _: &[String],
        _: &dyn Progress,
    ) -> Result<image::Report, Failure> {
        Err(Failure::new(Kind::Other, "no image is asked for here"))
    }
    fn require(&self, mechanisms: &[String]) -> Result<(), Failure> {
        match &mechanisms.first() {
            None => Ok(()),
            Some(name) => Err(Failure::new(Kind::Host, format!("{name} is required"))),
        }
    }
    fn launch(&self, plan: &Plan) -> Result<Exit, Failure> {
        self.launched.borrow_mut().push(plan.clone());
        Ok(Exit::Code(42))
    }
    fn store_info(&self) -> Result<store::Info, Failure> {
        Err(Failure::new(Kind::Store, "the store is out of reach"))
    }
    fn store_verify(&self, _: bool, _: &dyn Progress) -> Result<store::Verified, Failure> {
        Ok(store::Verified {
            checked: 3,
            damaged: self.damaged.clone(),
            repaired: Vec::new(),
        })
    }
    fn store_du(&self) -> Result<store::Usage, Failure> {
        Ok(store::Usage {
            parts: Vec::new(),
            total: 0,
        })
    }
    fn store_roots(&self) -> Result<Vec<store::Root>, Failure> {
        Ok(Vec::new())
    }
    fn gc(&self, request: &gc::Request) -> Result<gc::Report, Failure> {
        self.collections.borrow_mut().push(*request);
        Ok(gc::Report {
            objects: 0,
            trees: 0,
            bytes: 0,
            kept: Vec::new(),
        })
    }
    fn doctor(&self) -> Result<Vec<doctor::Mechanism>, Failure> {
        Ok(self.mechanisms.clone())
    }
    fn leftovers(&self) -> Result<Vec<uninstall::Leftover>, Failure> {
        Ok(vec![uninstall::Leftover {
            path: "/store".into(),
            what: "store".into(),
            bytes: 1,
        }])
    }
    fn uninstall(&self) -> Result<(), Failure> {
        unreachable!("nobody confirmed")
    }
}

/// A project in a directory of its own, a root with a few programs, and the operations.
struct Scene {
    directory: tempfile::TempDir,
    operations: Recorder,
}

fn scene(manifest: &str) -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    fs::create_dir_all(at("project")).unwrap();
    fs::create_dir_all(at("home")).unwrap();
    fs::create_dir_all(at("view/usr/bin")).unwrap();
    for program in ["bash", "hello", "cargo"] {
        fs::write(at("view/usr/bin").join(program), "").unwrap();
    }
    std::os::unix::fs::symlink("usr/bin", at("view/bin")).unwrap();
    fs::write(at("project/envd.toml"), manifest).unwrap();
    let environment = Environment {
        view: at("view"),
        caches: at("caches"),
    };
    Scene {
        directory,
        operations: Recorder {
            environment,
            launched: RefCell::default(),
            sections: RefCell::default(),
            locks: RefCell::default(),
            rollbacks: RefCell::default(),
            collections: RefCell::default(),
            damaged: Vec::new(),
            changes: Vec::new(),
            mechanisms: Vec::new(),
        },
    }
}

impl Scene {
    /// Runs a command line in the project.
    fn run(&self, line: &[&str]) -> Result<ExitCode, Failure> {
        let project = self.directory.path().join("project");
        let mut words = vec!["envd", "--quiet", "--project", project.to_str().unwrap()];
        words.extend(line);
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        let parsed = parse(&words).unwrap_or_else(|e| panic!("{e}"));
        let home = self.directory.path().join("home");
        let variables: HostVariables = [
            ("HOME", home.to_str().unwrap()),
            ("SHELL", "/usr/bin/fish"),
            ("TOKEN", "secret"),
        ]
        .into_iter()
        .collect();
        let output = Output::new(&parsed.global, &variables);
        let context = Context::new(parsed.global, variables, output)?;
        with_operations(parsed.command, &context, &self.operations)
    }

    fn plan(&self, line: &[&str]) -> Plan {
        let code = self.run(line).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(code, ExitCode::from(42), "the tool's exit code is ours");
        self.operations
            .launched
            .borrow_mut()
            .pop()
            .expect("something was launched")
    }

    fn project(&self) -> PathBuf {
        fs::canonicalize(self.directory.path().join("project")).unwrap()
    }
}

const MANIFEST: &str =
    "[env]\npackages = [\"hello\"]\nhome = \"empty\"\n[env.vars]\nMODE = \"file\"\n";

#[test]
fn run_starts_the_command_in_the_project_as_the_file_and_the_line_say() {
    let scene = scene(MANIFEST);
    let plan = scene.plan(&[
        "run",
        "--env",
        "TOKEN",
        "--env",
        "MODE=line",
        "--env",
        "ABSENT",
        "--",
        "make",
        "-j4",
    ]);
    assert_eq!(
        (plan.command.program, plan.command.arguments),
        ("make".into(), vec!["-j4".into()])
    );
    assert_eq!(plan.command.directory, scene.project());
    let environment = plan.command.environment;
    assert_eq!(
        (&environment["TOKEN"], &environment["MODE"]),
        (&"secret".into(), &"line".into())
    );
    assert!(!environment.contains_key("ABSENT"));
    let caches = plan.mounts.iter().filter(|m| matches!(m, Mount::Bind { source, .. } if source.starts_with(&scene.operations.environment.caches)));
    assert_eq!(caches.count(), 0, "an empty home has no caches");
    let plan = scene.plan(&["run", "--home", "private", "--", "true"]);
    let cache = plan.mounts.iter().find_map(|m| match m {
        Mount::Bind { source, .. } if source.starts_with(&scene.operations.environment.caches) => {
            Some(source)
        }
        _ => None,
    });
    assert!(
        cache.is_some_and(|directory| directory.is_dir()),
        "the caches of cargo, which is there, are made"
    );
}

#[test]
fn printing_the_plan_starts_nothing() {
    let scene = scene(MANIFEST);
    scene.run(&["run", "--print-plan", "--", "true"]).unwrap();
    assert!(scene.operations.launched.borrow().is_empty());
}

#[test]
fn enter_opens_a_shell_that_the_environment_has_and_says_where_one_is() {
    let scene = scene(MANIFEST);
    let plan = scene.plan(&["enter"]);
    assert_eq!(plan.command.program, "/bin/bash", "fish is not there");
    let prompt = plan.mounts.iter().any(|m| matches!(m, Mount::File { target, content, .. } if target == Path::new("/etc/debian_chroot") && content == "project\n"));
    assert!(prompt);
}

#[test]
fn x_needs_no_project_and_no_essential_packages() {
    let scene = scene("this is no TOML");
    let plan = scene.plan(&["x", "hello"]);
    assert_eq!(plan.command.program, "/usr/bin/hello");
    let section = scene.operations.sections.borrow_mut().pop().unwrap();
    assert!(!section.essential && section.packages[0].get_ref() == "hello");
    scene.plan(&[
        "x",
        "--channel",
        "debian:sid",
        "hello",
        "gcc@14",
        "--",
        "gcc",
        "-v",
    ]);
    let section = scene.operations.sections.borrow_mut().pop().unwrap();
    assert_eq!(section.channels[0].get_ref().suite, "sid");
    assert_eq!(section.packages.len(), 2);
}

#[test]
fn update_says_what_may_move_and_lock_moves_nothing() {
    let scene = scene(MANIFEST);
    scene.run(&["lock"]).unwrap();
    scene.run(&["update"]).unwrap();
    scene.run(&["update", "--dry-run", "gcc"]).unwrap();
    let asked = scene.operations.locks.take();
    assert_eq!(asked[0].update, lock::Update::Nothing);
    assert_eq!(asked[1].update, lock::Update::All);
    assert_eq!(
        (asked[2].update.clone(), asked[2].check),
        (lock::Update::Names(vec!["gcc".into()]), true)
    );
}

#[test]
fn rollback_goes_to_the_one_before_or_to_any_and_says_if_the_manifest_comes_along() {
    let scene = scene(MANIFEST);
    scene.run(&["rollback"]).unwrap();
    scene.run(&["rollback", "2", "--manifest"]).unwrap();
    let asked = scene.operations.rollbacks.take();
    let request = |number, manifest| rollback::Request { number, manifest };
    assert_eq!(asked, [request(None, false), request(Some(2), true)]);
    scene.run(&["generations", "--all"]).unwrap();
}

#[test]
fn gc_keeps_every_generation_unless_it_is_told_how_many() {
    let scene = scene(MANIFEST);
    scene.run(&["gc"]).unwrap();
    scene
        .run(&["gc", "--dry-run", "--generations", "3"])
        .unwrap();
    let asked = scene.operations.collections.take();
    assert_eq!(asked[0].generations, None);
    assert_eq!((asked[1].generations, asked[1].dry_run), (Some(3), true));
}

#[test]
fn shims_are_made_of_what_the_environment_offers() {
    let scene = scene(MANIFEST);
    let hello = scene.directory.path().join("view/usr/bin/hello");
    fs::set_permissions(&hello, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let kind = |line: &[&str]| scene.run(line).unwrap_err().kind;
    assert_eq!(kind(&["shim", "vscode"]), Kind::Usage, "there are none yet");
    scene.run(&["shim", "install"]).unwrap();
    let bin = scene.project().join(".envd/bin");
    let names: Vec<_> = fs::read_dir(&bin)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["hello"], "what cannot be executed is no command");
    scene.run(&["shim", "vscode"]).unwrap();
    scene.run(&["shim", "jetbrains"]).unwrap();
    scene.run(&["shim", "explain", "hello"]).unwrap();
    scene.run(&["shim", "remove"]).unwrap();
    assert!(!scene.project().join(".envd").exists());
}

#[test]
fn a_lock_that_does_not_fit_fails_the_check() {
    let mut scene = scene(MANIFEST);
    scene.operations.changes.push(lock::Change {
        name: "gcc".into(),
        from: None,
        to: Some("14".into()),
    });
    assert!(scene.run(&["lock"]).is_ok());
    assert_eq!(
        scene.run(&["lock", "--check"]).unwrap_err().kind,
        Kind::Other
    );
}

#[test]
fn failures_keep_their_kind() {
    let mut scene = scene("[env]\nnonsense = 1\n");
    let kind = |scene: &Scene, line: &[&str]| scene.run(line).unwrap_err().kind;
    assert_eq!(kind(&scene, &["run", "--", "true"]), Kind::Usage);
    assert_eq!(kind(&scene, &["store", "info"]), Kind::Store);
    assert_eq!(kind(&scene, &["uninstall", "--verify"]), Kind::Other);
    assert_eq!(
        kind(&scene, &["uninstall"]),
        Kind::Usage,
        "nobody is there to confirm"
    );
    assert!(scene.run(&["store", "verify"]).is_ok());
    scene.operations.damaged.push("ab12".into());
    assert_eq!(kind(&scene, &["store", "verify"]), Kind::Integrity);
    assert!(scene.run(&["doctor"]).is_ok());
    scene.operations.mechanisms.push(doctor::Mechanism {
        name: "user-namespaces".into(),
        state: doctor::State::Missing,
        needed: true,
        detail: String::new(),
        fix: None,
    });
    assert_eq!(kind(&scene, &["doctor"]), Kind::Host);
}

#[test]
fn what_is_required_is_asked_for_before_anything_is_fetched() {
    let scene = scene("[env]\npackages = [\"hello\"]\n");
    let failure = scene
        .run(&["run", "--require", "landlock", "--", "hello"])
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Host);
    assert!(
        scene.operations.sections.borrow().is_empty(),
        "nothing was realised"
    );
}

#[test]
fn a_home_directory_is_no_project() {
    let scene = scene(MANIFEST);
    let home = scene.directory.path().join("home");
    fs::write(home.join("envd.toml"), MANIFEST).unwrap();
    let home = fs::canonicalize(home).unwrap();
    let words = [
        "envd",
        "--project",
        home.to_str().unwrap(),
        "run",
        "--",
        "true",
    ];
    let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    let parsed = parse(&words).unwrap();
    let variables: HostVariables = [("HOME", home.to_str().unwrap())].into_iter().collect();
    let output = Output::new(&parsed.global, &variables);
    let context = Context::new(parsed.global, variables, output).unwrap();
    let failure = with_operations(parsed.command, &context, &scene.operations).unwrap_err();
    assert!(
        failure.message.contains("holds your home directory"),
        "{failure:?}"
    );
}

/// The first page of help is written by hand.
#[test]
fn the_first_page_lists_every_command_as_it_describes_itself() {
    let command = Arguments::command();
    let listed = command.get_subcommands().filter(|one| !one.is_hide_set());
    for subcommand in listed {
        let about = subcommand
            .get_about()
            .expect("each command says what it does")
            .to_string();
        let line = format!("  {:12} {about}\n", subcommand.get_name());
        assert!(text::HELP.contains(&line), "{line}");
    }
}

#[test]
fn clap_finds_nothing_wrong_with_the_definitions() {
    Arguments::command().debug_assert();
}
