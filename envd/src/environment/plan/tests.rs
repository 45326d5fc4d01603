//! Plans as they are printed, and what must hold for each.

use std::fs;

use super::*;

/// A machine, a caller and a root, to be asked for plans.
struct Scene {
    root: RootFacts,
    host: HostFacts,
    caller: Caller,
    variables: HostVariables,
    _view: tempfile::TempDir,
}

fn scene() -> Scene {
    let view = tempfile::tempdir().unwrap();
    for file in [
        "usr/bin/bash",
        "usr/bin/cargo",
        "usr/share/zoneinfo/Europe/Zurich",
    ] {
        let path = view.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    std::os::unix::fs::symlink("usr/bin", view.path().join("bin")).unwrap();
    let mut root = RootFacts::of(view.path()).unwrap();
    root.passwd = "root:x:0:0:root:/root:/bin/bash\n".into();
    root.zone = true;
    Scene {
        root,
        host: HostFacts {
            hostname: "workstation".into(),
            zone: Some("Europe/Zurich".into()),
            hosts: NameFile::Other,
            resolver: NameFile::Other,
        },
        caller: Caller {
            uid: 1000,
            gid: 1000,
            name: "ada".into(),
            group: "ada".into(),
            home: "/home/ada".into(),
            shell: Some("/bin/zsh".into()),
        },
        variables: [
            ("HOME", "/home/ada"),
            ("PATH", "/home/ada/bin:/usr/bin"),
            ("TERM", "xterm-256color"),
            ("LANG", "fr_FR.UTF-8"),
            ("TZ", "Europe/Zurich"),
            ("https_proxy", "http://proxy.example:3128"),
            ("SSH_AUTH_SOCK", "/run/user/1000/agent"),
            ("DISPLAY", ":0"),
            ("LD_LIBRARY_PATH", "/home/ada/lib"),
            ("SSL_CERT_FILE", "/home/ada/ca.pem"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]
        .into_iter()
        .collect(),
        _view: view,
    }
}

impl Scene {
    /// The plan of `make all` in a project, after `change` to what is asked.
    fn plan(&self, change: impl FnOnce(&mut Inputs<'_>)) -> Plan {
        let workplace = Workplace::Bound("/home/ada/app".into());
        let caches = [Cache {
            directory: "/store/caches/cargo-registry".into(),
            below_home: ".cargo/registry".into(),
        }];
        let command = ["make", "all"].map(OsString::from);
        let manifest_variables = BTreeMap::from([("MODE".to_owned(), "manifest".to_owned())]);
        let mut inputs = Inputs {
            root: &self.root,
            host: &self.host,
            caller: &self.caller,
            variables: &self.variables,
            project: Some(Path::new("/home/ada/app")),
            workplace: &workplace,
            writable: &[],
            readable: &[],
            directory: Path::new("/home/ada/app/src"),
            manifest_variables: &manifest_variables,
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
        plan(&inputs)
    }

    /// A plan as it is printed, without this run's temporary directory.
    fn printed(&self, plan: &Plan) -> String {
        let view = self.root.view().to_str().unwrap();
        serde_json::to_string_pretty(plan)
            .unwrap()
            .replace(view, "/store/views/0f")
    }
}

/// Where a mount goes.
fn target(mount: &Mount) -> &Path {
    mount.target()
}

fn content<'p>(plan: &'p Plan, path: &str) -> &'p str {
    let found = plan.mounts.iter().find_map(|mount| match mount {
        Mount::File {
            target, content, ..
        } if target == Path::new(path) => Some(content),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{path} is written"))
}

#[test]
fn a_run_in_a_project() {
    let scene = scene();
    insta::assert_snapshot!(scene.printed(&scene.plan(|_| {})));
}

#[test]
fn a_strict_run() {
    let scene = scene();
    insta::assert_snapshot!(scene.printed(&scene.plan(|inputs| inputs.strict = true)));
}

#[test]
fn a_plan_survives_being_printed() {
    let plan = scene().plan(|_| {});
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn nothing_of_the_callers_session_comes_along_unasked() {
    let environment = scene().plan(|_| {}).command.environment;
    for name in [
        "SSH_AUTH_SOCK",
        "DISPLAY",
        "LD_LIBRARY_PATH",
        "SSL_CERT_FILE",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        assert!(!environment.contains_key(name), "{name}");
    }
    assert_eq!(
        environment["LANG"], "C.UTF-8",
        "a locale that is not there is replaced"
    );
    assert!(!environment["PATH"].to_str().unwrap().contains("ada"));
}

#[test]
fn the_command_line_goes_before_the_file_and_the_file_before_us() {
    let extra = Box::leak(Box::new([
        ("MODE".to_owned(), OsString::from("line")),
        ("HOME".to_owned(), "/x".into()),
    ]));
    let environment = scene()
        .plan(|inputs| inputs.extra_variables = extra)
        .command
        .environment;
    assert_eq!(environment["MODE"], "line");
    assert_eq!(environment["HOME"], "/x");
}

#[test]
fn what_lies_below_something_comes_after_it() {
    let scene = scene();
    let repository = Box::leak(Box::new([PathBuf::from("/home/ada/main/.git")]));
    for home in [Home::Private, Home::Host, Home::Empty] {
        let plan = scene.plan(|inputs| {
            inputs.home = home;
            inputs.writable = repository;
        });
        let targets: Vec<&Path> = plan.mounts.iter().map(target).collect();
        for (later, path) in targets.iter().enumerate() {
            for hidden in &targets[..later] {
                assert!(
                    !hidden.starts_with(path) || hidden == path,
                    "{} hides {}",
                    path.display(),
                    hidden.display()
                );
            }
        }
        let mut unique = targets.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), targets.len(), "nothing is mounted over twice");
    }
}

#[test]
fn each_home_policy_is_what_it_says() {
    let scene = scene();
    let at_home = |home| {
        let plan = scene.plan(|inputs| inputs.home = home);
        let below = plan.mounts.iter().filter(|m| {
            target(m).starts_with("/home/ada") && !target(m).starts_with("/home/ada/app")
        });
        below.cloned().collect::<Vec<_>>()
    };
    assert!(matches!(
        &at_home(Home::Private)[..],
        [Mount::Tmpfs { mode: 0o700, .. }, Mount::Bind { .. }]
    ));
    assert!(matches!(
        &at_home(Home::Host)[..],
        [Mount::Scratch { .. }, Mount::Bind { .. }]
    ));
    assert!(matches!(&at_home(Home::Empty)[..], [Mount::Tmpfs { .. }]));
}

#[test]
fn as_root_is_root_in_every_respect() {
    let scene = scene();
    let plan = scene.plan(|inputs| inputs.as_root = true);
    assert_eq!((plan.ids.uid, plan.ids.gid), (0, 0));
    let environment = &plan.command.environment;
    assert_eq!(
        (&environment["HOME"], &environment["USER"]),
        (&"/root".into(), &"root".into())
    );
    assert!(plan.privileges.capabilities.contains(&"chown".to_owned()));
    let home = plan.mounts.iter().find(|m| target(m) == Path::new("/root"));
    assert!(matches!(home, Some(Mount::Tmpfs { .. })));
    let strict = scene.plan(|inputs| (inputs.as_root, inputs.strict) = (true, true));
    assert!(strict.privileges.capabilities.is_empty());
}

#[test]
fn a_home_among_the_systems_files_hides_none_of_them() {
    let mut scene = scene();
    for home in ["/", "/usr/sbin", "/bin", "/dev"] {
        scene.caller.home = home.into();
        let plan = scene.plan(|_| {});
        assert_eq!(plan.command.environment["HOME"], "/home/ada", "{home}");
        assert!(
            plan.mounts
                .iter()
                .all(|m| target(m) != Path::new(home) || home == "/dev"),
            "{home}"
        );
    }
}

#[test]
fn without_a_network_no_way_out_is_described() {
    let plan = scene().plan(|inputs| inputs.network = Network::None);
    assert!(plan.namespaces.net);
    assert_eq!(plan.hostname, "envd");
    assert!(content(&plan, "/etc/hosts").contains("localhost envd"));
    assert!(!plan.command.environment.contains_key("https_proxy"));
    assert!(
        plan.mounts
            .iter()
            .all(|m| target(m) != Path::new("/etc/resolv.conf"))
    );
}

#[test]
fn the_machine_cannot_be_recognised_and_the_project_can() {
    let scene = scene();
    let here = scene.plan(|_| {});
    let elsewhere = scene.plan(|inputs| inputs.project = Some(Path::new("/home/ada/other")));
    let id = content(&here, "/etc/machine-id");
    assert_eq!(
        (id.len(), id),
        (33, content(&scene.plan(|_| {}), "/etc/machine-id"))
    );
    assert_ne!(id, content(&elsewhere, "/etc/machine-id"));
}

#[test]
fn with_no_place_to_work_in_it_starts_at_home_and_sees_nothing() {
    let plan = scene().plan(|inputs| {
        inputs.workplace = &Workplace::Nothing;
        inputs.project = None;
    });
    assert_eq!(plan.command.directory, Path::new("/home/ada"));
    let from_outside = plan.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind { source, .. } if !source.starts_with("/etc") => Some(source),
        _ => None,
    });
    assert_eq!(
        from_outside.collect::<Vec<_>>(),
        [Path::new("/store/caches/cargo-registry")]
    );
}

#[test]
fn an_unknown_terminal_becomes_one_that_the_root_knows() {
    let mut scene = scene();
    fs::create_dir_all(scene.root.view().join("lib/terminfo/x")).unwrap();
    fs::write(scene.root.view().join("lib/terminfo/x/xterm-256color"), "").unwrap();
    scene.variables = [("TERM", "xterm-kitty")].into_iter().collect();
    let term = |terminal| {
        scene
            .plan(|inputs| inputs.terminal = terminal)
            .command
            .environment["TERM"]
            .clone()
    };
    assert_eq!(term(true), "xterm-256color");
    assert_eq!(
        term(false),
        "xterm-kitty",
        "where nobody looks nothing is changed"
    );
}

#[test]
fn a_prompt_shows_which_environment_it_is() {
    let plan = scene().plan(|inputs| inputs.prompt = Some("app\u{1b}[31m"));
    assert_eq!(content(&plan, "/etc/debian_chroot"), "app[31m\n");
}
