//! What a process sees inside, by plans carried out for real over the machine's own `/usr`.
//!
//! Without the test harness, which is a process of many threads: the launcher refuses to work in one. Root runs everything
//! twice, the second time as an ordinary user.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use envd::{
    config::Home,
    environment::{Cache, Caller, HostFacts, Inputs, Network, RootFacts, Workplace, plan},
    settings::HostVariables,
};
use envd_shims::{Exit, LaunchError, Plan, plan::Mount};

/// An id that no account has.
const ORDINARY: u32 = 54_322;

fn main() -> ExitCode {
    let root = rustix::process::getuid().is_root();
    for (name, check) in CHECKS {
        let scene = Scene::new();
        check(&scene);
        println!("{name} (uid {}) ... ok", scene.caller.uid);
    }
    if !root {
        summary(CHECKS.len());
        return ExitCode::SUCCESS;
    }
    // A copy, for an ordinary user may not get to where the build puts this program.
    let directory = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a directory");
    let copy = directory.path().join("inside");
    fs::copy(std::env::current_exe().expect("a path"), &copy).expect("a copy");
    let status = Command::new(copy)
        .uid(ORDINARY)
        .gid(ORDINARY)
        .current_dir("/")
        .status();
    if !status.is_ok_and(|status| status.success()) {
        return ExitCode::FAILURE;
    }
    summary(2 * CHECKS.len());
    ExitCode::SUCCESS
}

/// What the usual harness prints at its end, for whoever counts. A check that fails ends the program before.
fn summary(passed: usize) {
    println!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

/// What must hold, and how to see it.
type Check = (&'static str, fn(&Scene));

const CHECKS: [Check; 6] = [
    (
        "the caller is at home, and nothing else of the machine is there",
        at_home,
    ),
    (
        "the project is written to, everything else is forgotten",
        forgotten,
    ),
    (
        "a strict run writes to the project only and has no network",
        strict,
    ),
    ("as root it is root", as_root),
    (
        "the caller's own home can be read and is not changed",
        host_home,
    ),
    ("a tool's cache persists", cache_persists),
];

/// A root, a project, a home and a cache, all the caller's.
struct Scene {
    directory: tempfile::TempDir,
    caller: Caller,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for name in [
            "root",
            "root/usr",
            "root/etc",
            "root/proc",
            "root/dev",
            "project",
            "home",
            "cache",
        ] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(
                format!("usr/{link}"),
                directory.path().join("root").join(link),
            )
            .expect("a link");
        }
        fs::write(directory.path().join("home/dotfile"), "mine\n").expect("a file");
        let uid = rustix::process::getuid().as_raw();
        let caller = Caller {
            uid,
            gid: rustix::process::getgid().as_raw(),
            name: if uid == 0 { "root" } else { "ada" }.into(),
            group: if uid == 0 { "root" } else { "ada" }.into(),
            home: directory.path().join("home"),
            shell: None,
        };
        Self { directory, caller }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a shell script as `change` says, and gives how it ended and what it wrote to the file `out` of the project.
    fn run(&self, script: &str, change: impl FnOnce(&mut Inputs<'_>)) -> (Exit, String) {
        let root = RootFacts::of(&self.path("root")).expect("a root");
        let host = HostFacts::of_this_machine();
        let variables: HostVariables = [
            ("TOKEN", "secret"),
            ("HOME", "/elsewhere"),
            ("PATH", "/elsewhere"),
        ]
        .into_iter()
        .collect();
        let workplace = Workplace::Bound(self.path("project"));
        let caches = [Cache {
            directory: self.path("cache"),
            below_home: ".cache/tool".into(),
        }];
        let command = ["/bin/sh", "-euc", script].map(OsString::from);
        let mut inputs = Inputs {
            root: &root,
            host: &host,
            caller: &self.caller,
            variables: &variables,
            project: Some(&self.path("project")),
            workplace: &workplace,
            writable: &[],
            readable: &[],
            directory: &self.path("project"),
            manifest_variables: &BTreeMap::new(),
            extra_variables: &[],
            home: Home::Private,
            caches: &caches,
            network: Network::Shared,
            terminal: false,
            as_root: false,
            strict: false,
            prompt: None,
            command: &command,
        };
        change(&mut inputs);
        let plan = over_usr(plan(&inputs));
        let exit = match envd_shims::run(&plan, &mut |_| {}) {
            Ok(exit) => exit,
            Err(e @ LaunchError::Namespaces { .. })
                if std::env::var_os("ENVD_TESTS_MUST_RUN").is_none() =>
            {
                println!("skipped: {e}");
                std::process::exit(0);
            }
            Err(e) => panic!("{e}: {:?}", std::error::Error::source(&e)),
        };
        let out = fs::read_to_string(self.path("project/out")).unwrap_or_default();
        (exit, out)
    }
}

/// The plan with the machine's programs for the environment's.
fn over_usr(mut plan: Plan) -> Plan {
    let usr = Mount::Bind {
        source: "/usr".into(),
        target: "/usr".into(),
        read_only: true,
        optional: false,
    };
    plan.mounts.insert(0, usr);
    plan
}

fn at_home(scene: &Scene) {
    let script = "{ id -un; echo \"$HOME\"; ls -A \"$HOME\"; pwd; ls -A /tmp; ls /home /root /srv 2>/dev/null || :; env; } > out";
    let (exit, out) = scene.run(script, |_| {});
    assert_eq!(exit, Exit::Code(0), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], scene.caller.name);
    assert_eq!(Path::new(lines[1]), scene.caller.home);
    assert_eq!(lines[2], ".cache", "the home is empty but for the caches");
    assert_eq!(Path::new(lines[3]), scene.path("project"));
    let name = scene
        .directory
        .path()
        .file_name()
        .and_then(|n| n.to_str())
        .expect("a name");
    assert_eq!(
        lines[4], name,
        "of /tmp only the way to the project is there"
    );
    assert!(
        !out.contains("secret") && !out.contains("elsewhere"),
        "{out}"
    );
    assert!(
        out.contains(&format!("ENVD_PROJECT={}", scene.path("project").display())),
        "{out}"
    );
}

fn forgotten(scene: &Scene) {
    let script = "echo kept > kept; echo x > /etc/new; echo x > /tmp/new; echo x > ~/new; echo x > $XDG_RUNTIME_DIR/new; exit 7";
    let (exit, _) = scene.run(script, |_| {});
    assert_eq!(exit, Exit::Code(7), "its exit code is passed on");
    assert_eq!(
        fs::read_to_string(scene.path("project/kept")).expect("kept"),
        "kept\n"
    );
    assert_eq!(
        fs::read_dir(scene.path("root/etc")).expect("etc").count(),
        0,
        "the root is as it was"
    );
    assert!(!scene.path("home/new").exists() && !Path::new("/tmp/new").exists());
}

fn strict(scene: &Scene) {
    let script = "
        ls /sys/class/net >/dev/null 2>&1 && exit 3
        grep -c : /proc/net/dev > out
        echo x > ~/new; echo x > /tmp/new; echo x > /dev/shm/new
        if echo x > /etc/new; then exit 4; fi
    ";
    let (exit, out) = scene.run(script, |inputs| inputs.strict = true);
    assert_eq!(exit, Exit::Code(0), "{out}");
    assert_eq!(out.trim(), "1", "a loopback device and no other");
}

fn as_root(scene: &Scene) {
    let (exit, out) = scene.run("{ id -u; id -un; echo ~; } > out", |inputs| {
        inputs.as_root = true
    });
    assert_eq!(exit, Exit::Code(0), "{out}");
    assert_eq!(out, "0\nroot\n/root\n");
    let meta = fs::metadata(scene.path("project/out")).expect("out");
    let owner = std::os::unix::fs::MetadataExt::uid(&meta);
    assert_eq!(
        owner, scene.caller.uid,
        "what root makes inside is the caller's outside"
    );
}

fn host_home(scene: &Scene) {
    let (exit, out) = scene.run(
        "cat ~/dotfile > out; echo other > ~/dotfile; echo x > ~/new",
        |inputs| inputs.home = Home::Host,
    );
    assert_eq!((exit, &*out), (Exit::Code(0), "mine\n"));
    assert_eq!(
        fs::read_to_string(scene.path("home/dotfile")).expect("dotfile"),
        "mine\n"
    );
    assert!(!scene.path("home/new").exists());
}

fn cache_persists(scene: &Scene) {
    scene.run("echo x > ~/.cache/tool/entry", |_| {});
    assert!(scene.path("cache/entry").exists());
    scene.run(
        "cat ~/.cache/tool/entry > /dev/null; echo y > ~/.cache/tool/poison",
        |inputs| inputs.strict = true,
    );
    assert!(
        !scene.path("cache/poison").exists(),
        "what is not trusted leaves nothing in it"
    );
    let (_, out) = scene.run("ls -A ~ > out; echo done >> out", |inputs| {
        inputs.home = Home::Empty
    });
    assert_eq!(out, "done\n", "an empty home is empty");
}
