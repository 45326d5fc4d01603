//! What is run again and what is not, on real files.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
};

use tempfile::TempDir;

use super::*;
use crate::config::{Manifest, Source};

/// A project, its memory beside it, and the tasks that were run in it.
struct Scene {
    directory: TempDir,
    manifest: RefCell<Manifest>,
    lock: RefCell<Digest>,
}

fn manifest(text: &str) -> Manifest {
    Manifest::parse(Source {
        path: "envd.toml".into(),
        text: format!("[env]\n{text}").into(),
    })
    .expect("a manifest")
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

impl Scene {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("project")).unwrap();
        Self {
            directory,
            manifest: RefCell::new(manifest(text)),
            lock: RefCell::new(Digest::of(b"lock")),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("project").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn run_with(
        &self,
        task: &str,
        force: bool,
        run: &mut dyn FnMut(&str) -> ExitStatus,
    ) -> Result<String, TaskError> {
        let manifest = self.manifest.borrow();
        let wanted = [name(task)];
        let plan = Plan::new(&manifest.tasks, &wanted).expect("a plan");
        let project = self.path("");
        let place = Place {
            project: &project,
            lock: *self.lock.borrow(),
            memory: &self.directory.path().join("memory"),
            force,
        };
        let mut runner = |task: &Task<'_>, _: &Why| Ok(run(task.name.as_str()));
        let outcomes = run_plan(&plan, &wanted, &place, &mut runner)?;
        let shown = outcomes.into_iter().map(|(name, outcome)| match outcome {
            Outcome::Ran(why) => format!("{name}: {why}"),
            Outcome::Skipped => format!("{name} skipped"),
        });
        Ok(shown.collect::<Vec<_>>().join("; "))
    }

    /// Runs a task, which succeeds, and says what came of it and of those it needs.
    fn run(&self, task: &str) -> String {
        self.run_with(task, false, &mut |_| ExitStatus::Code(0))
            .expect("it runs")
    }

    /// Why a task cannot be run, with all causes.
    fn refused(&self, task: &str) -> String {
        let error = self.run_with(task, false, &mut |_| ExitStatus::Code(0));
        let error = error.unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    }
}

use super::run as run_plan;

const CHANGED: &str = "build: its inputs have changed";
const SKIPPED: &str = "build skipped";

#[test]
fn order_and_choice_are_of_the_needs() {
    let manifest = manifest(
        "[service.db]\nrun = \"x\"\n[task.a]\nrun = \"x\"\nneeds = [\"b\", \"c\"]\n[task.b]\nrun = \"x\"\nneeds = [\"c\"]\nservices = [\"db\"]\n[task.c]\nrun = \"x\"\n[task.d]\nrun = \"x\"\n",
    );
    let plan = Plan::new(&manifest.tasks, &[name("a")]).unwrap();
    let names: Vec<&str> = plan.tasks().iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["c", "b", "a"]);
    assert_eq!(plan.services().len(), 1);
    let error = Plan::new(&manifest.tasks, &[name("zzz")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no task `zzz`; there are a, b, c, d"
    );
}

#[test]
fn what_has_not_changed_is_skipped_and_what_has_is_not() {
    let scene =
        Scene::new("[task.build]\nrun = \"make\"\ninputs = [\"src/\", \"*.py\", \"**/*.h\"]\n");
    scene.write("src/a.c", "1");
    scene.write("main.py", "1");
    assert_eq!(scene.run("build"), "build: it has not succeeded yet");
    assert_eq!(scene.run("build"), SKIPPED);
    let changes: [(&str, &dyn Fn()); 8] = [
        ("content", &|| scene.write("src/a.c", "2")),
        ("a new file", &|| scene.write("src/deep/b.c", "")),
        ("a new name", &|| {
            fs::rename(scene.path("src/a.c"), scene.path("src/c.c")).unwrap()
        }),
        ("a mode", &|| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(scene.path("src/c.c"), mode).unwrap();
        }),
        ("a glob's file", &|| scene.write("other.py", "")),
        ("a deep glob's file", &|| scene.write("x/y/z.h", "")),
        ("an empty directory", &|| {
            fs::create_dir(scene.path("src/empty")).unwrap()
        }),
        ("one file less", &|| {
            fs::remove_file(scene.path("main.py")).unwrap()
        }),
    ];
    for (what, change) in changes {
        change();
        assert_eq!(scene.run("build"), CHANGED, "{what}");
        assert_eq!(scene.run("build"), SKIPPED, "{what}");
    }
    scene.write("README", "no input");
    scene.write("x/y/z.c", "no input");
    scene.write("src/.git/index", "passed over");
    // Written again, the same.
    scene.write("src/c.c", "2");
    assert_eq!(scene.run("build"), SKIPPED);
}

#[test]
fn the_section_the_lock_and_the_needs_count() {
    let text = |run: &str, env: &str| {
        format!(
            "[task.build]\nrun = \"{run}\"\ninputs = []\nneeds = [\"gen\"]\nenv = {{ A = \"{env}\" }}\n[task.gen]\nrun = \"gen {{port.x}}\"\ninputs = [\"in\"]\n"
        )
    };
    let scene = Scene::new(&text("make", "1"));
    scene.write("in", "1");
    scene.run("build");
    assert_eq!(scene.run("build"), "gen skipped; build skipped");
    let section = "gen skipped; build: its section of envd.toml has changed";
    for (run, env) in [("make all", "1"), ("make all", "2")] {
        *scene.manifest.borrow_mut() = manifest(&text(run, env));
        assert_eq!(scene.run("build"), section);
    }
    scene.write("in", "2");
    assert_eq!(
        scene.run("build"),
        "gen: its inputs have changed; build: a task that it needs has changed"
    );
    *scene.lock.borrow_mut() = Digest::of(b"another");
    assert_eq!(
        scene.run("build"),
        "gen: envd.lock has changed; build: envd.lock has changed"
    );
    assert_eq!(scene.run("build"), "gen skipped; build skipped");
}

#[test]
fn without_inputs_a_task_and_all_that_need_it_run_always() {
    let scene = Scene::new(
        "[task.build]\nrun = \"x\"\ninputs = []\nneeds = [\"setup\"]\n[task.setup]\nrun = \"x\"\n",
    );
    let always =
        "setup: it has no `inputs`, so it always runs; build: it needs `setup`, which always runs";
    assert_eq!(scene.run("build"), always);
    assert_eq!(scene.run("build"), always);
}

#[test]
fn a_missing_output_and_insistence_run_it_again() {
    let scene = Scene::new(
        "[task.build]\nrun = \"x\"\ninputs = [\".\"]\noutputs = [\"out/app\", \"log\"]\n",
    );
    let build = |_: &str| {
        scene.write("out/app", &format!("{:?}", std::time::Instant::now()));
        scene.write("log", "x");
        ExitStatus::Code(0)
    };
    let run = |force| scene.run_with("build", force, &mut { build }).unwrap();
    run(false);
    assert_eq!(run(false), SKIPPED, "outputs are no inputs");
    fs::remove_file(scene.path("log")).unwrap();
    assert_eq!(run(false), "build: its output `log` is not there");
    assert_eq!(run(true), "build: it was asked for in any case");
    assert_eq!(run(false), SKIPPED);
}

#[test]
fn a_file_that_is_changed_in_its_place_is_an_input_nevertheless() {
    let scene = Scene::new("[task.build]\nrun = \"x\"\ninputs = [\"a\"]\noutputs = [\"a\"]\n");
    scene.write("a", "1");
    scene.run("build");
    assert_eq!(scene.run("build"), SKIPPED);
    scene.write("a", "2");
    assert_eq!(scene.run("build"), CHANGED);
}

#[test]
fn a_task_that_failed_or_was_killed_runs_again() {
    let scene = Scene::new("[task.build]\nrun = \"x\"\ninputs = []\n");
    scene.run("build");
    let error = scene.run_with("build", true, &mut |_| ExitStatus::Code(2));
    assert_eq!(
        error.unwrap_err().to_string(),
        "the task `build` failed: exit status 2"
    );
    assert_eq!(scene.run("build"), "build: it has not succeeded yet");
    // Killed half-way: what was remembered is forgotten while it runs.
    let killed = scene.run_with("build", true, &mut |_| {
        let memory = fs::read_to_string(scene.directory.path().join("memory")).unwrap();
        assert_eq!(memory, "envd-tasks 1\n");
        ExitStatus::Code(0)
    });
    assert!(killed.is_ok());
}

#[test]
fn links_do_not_lead_out_of_the_project() {
    let scene = Scene::new("[task.build]\nrun = \"x\"\ninputs = [\"src/\"]\n");
    let outside = scene.directory.path().join("secret");
    fs::write(&outside, "1").unwrap();
    scene.write("src/a", "1");
    scene.write("lib/b", "1");
    symlink(&outside, scene.path("src/out")).unwrap();
    symlink("../../secret", scene.path("src/out2")).unwrap();
    symlink("..", scene.path("src/round")).unwrap();
    symlink("nowhere", scene.path("src/dangling")).unwrap();
    symlink("../lib/b", scene.path("src/in")).unwrap();
    symlink(scene.path("lib/b"), scene.path("src/absolute")).unwrap();
    scene.run("build");
    assert_eq!(scene.run("build"), SKIPPED);
    fs::write(&outside, "2").unwrap();
    assert_eq!(scene.run("build"), SKIPPED, "what is outside is not read");
    scene.write("lib/b", "2");
    assert_eq!(
        scene.run("build"),
        CHANGED,
        "a link's file in the project is"
    );
    fs::remove_file(scene.path("src/dangling")).unwrap();
    symlink("elsewhere", scene.path("src/dangling")).unwrap();
    assert_eq!(scene.run("build"), CHANGED, "and so is where a link leads");
}

#[test]
fn inputs_that_cannot_be_are_named() {
    let scene = Scene::new(
        "[task.gone]\nrun = \"x\"\ninputs = [\"src/\"]\n[task.out]\nrun = \"x\"\ninputs = [\"link/x\"]\n[task.in]\nrun = \"x\"\ninputs = [\"current\"]\n",
    );
    fs::create_dir(scene.directory.path().join("outside")).unwrap();
    fs::write(scene.directory.path().join("outside/x"), "").unwrap();
    symlink("../outside", scene.path("link")).unwrap();
    assert_eq!(
        scene.refused("gone"),
        "cannot see whether the task `gone` is up to date: the input `src/` does not exist; create it, or correct `inputs`"
    );
    assert!(
        scene
            .refused("out")
            .contains("`link/x` leads out of the project")
    );
    // A named link that stays inside is what it leads to.
    scene.write("releases/3/file", "1");
    symlink("releases/3", scene.path("current")).unwrap();
    scene.run("in");
    scene.write("releases/3/file", "2");
    assert_eq!(scene.run("in"), "in: its inputs have changed");
}

#[test]
fn what_is_no_file_is_not_opened() {
    let scene = Scene::new("[task.build]\nrun = \"x\"\ninputs = [\"src/\"]\n");
    scene.write("src/a", "1");
    // Opened to be read, it would wait for a writer for ever.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scene.path("src/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    scene.run("build");
    assert_eq!(scene.run("build"), SKIPPED);
}

#[test]
fn many_files_on_many_threads_are_one_digest() {
    let scene = Scene::new("[task.build]\nrun = \"x\"\ninputs = [\"src/\"]\n");
    for number in 0..500 {
        scene.write(&format!("src/{}/{number}", number % 7), &number.to_string());
    }
    scene.run("build");
    for _ in 0..5 {
        assert_eq!(scene.run("build"), SKIPPED);
    }
    scene.write("src/3/500", "x");
    assert_eq!(scene.run("build"), CHANGED);
}
