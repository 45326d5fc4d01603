//! What the program is started with is what it would have had without us.

use std::process::Command;

use crate::harness::{NAMES, Place, command, fields, program, run, shell};

/// Signals from 1 to 31 that are ignored and blocked by the caller, as a program sees them.
fn signals(name: Option<&str>) -> [u64; 2] {
    let mut command = Command::new("env");
    command.args(["--ignore-signal=INT,TTOU", "--block-signal=TERM,TTIN,ILL"]);
    if let Some(name) = name {
        command.arg(program(name)).arg("--");
    }
    let outcome = run(command.args(["cat", "/proc/self/status"]));
    let fields = fields(&outcome.output);
    ["SigIgn", "SigBlk"].map(|field| {
        let set = u64::from_str_radix(fields[field], 16).expect("a number");
        set & 0x7fff_ffff
    })
}

#[test]
fn signals_are_as_the_caller_had_them() {
    let expected = signals(None);
    assert_ne!(expected, [0, 0]);
    for name in ["tini", "catatonit", "envd-init"] {
        assert_eq!(signals(Some(name)), expected, "{name}");
    }
    assert_eq!(signals(Some("dumb-init")), [0, 0]);
}

#[test]
fn the_directory_is_the_programs_and_not_ours() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().canonicalize().unwrap();
    for name in NAMES {
        let mut command = command(Place::Beside, name);
        command.current_dir(&here).args(["--", "sh", "-c"]);
        // At once: no moment in which ours is still there.
        let outcome = run(command.arg("readlink /proc/$PPID/cwd; pwd"));
        assert!(
            outcome.output == format!("/\n{}\n", here.display()),
            "{name} {outcome:?}"
        );
    }
}

#[test]
fn programs_are_found_as_shells_find_them() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("one/found", "not executable", 0o644);
    // Nothing says whose script this is: the shell's.
    write("two/found", "echo script $1 $2", 0o755);
    let path = format!(
        "{0}/none:{0}/one:{0}/two:/usr/bin:/bin",
        directory.path().display()
    );
    for name in NAMES {
        let mut command = command(Place::Beside, name);
        let outcome = run(command.env("PATH", &path).args(["--", "found", "a", "b"]));
        assert_eq!(outcome.output, "script a b\n", "{name} {outcome:?}");
        let mut relative = crate::harness::command(Place::Beside, name);
        relative.current_dir(directory.path().join("two"));
        let outcome = run(relative.args(["--", "./found", "c"]));
        assert_eq!(outcome.output, "script c\n", "{name} {outcome:?}");
    }
}

#[test]
fn sockets_passed_to_us_are_the_programs() {
    for name in NAMES {
        let script = format!(
            r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec {} -- sh -c 'echo $LISTEN_PID $$ $LISTEN_FDS'"#,
            program(name).display()
        );
        let outcome = run(Command::new("sh").args(["-c", &script]));
        let words: Vec<_> = outcome.output.split_whitespace().collect();
        assert_eq!(words.len(), 3, "{name} {outcome:?}");
        assert_eq!(words[0], words[1], "{name}: not the program's id");
        // Somebody else's stays so.
        let mut other = command(Place::Beside, name);
        other
            .env("LISTEN_PID", "1")
            .args(["--", "sh", "-c", "echo $LISTEN_PID"]);
        assert_eq!(run(&mut other).output, "1\n", "{name}");
    }
}

#[test]
fn many_and_long_arguments_arrive() {
    let long = "x".repeat(100_000);
    let mut arguments = vec!["-c".to_owned(), "echo $# ${#1}".to_owned(), "sh".to_owned()];
    arguments.push(long);
    arguments.extend((0..5000).map(|number| number.to_string()));
    for name in NAMES {
        let mut command = command(Place::Beside, name);
        let outcome = run(command.args(["--", "sh"]).args(&arguments));
        assert_eq!(outcome.output, "5001 100000\n", "{name}");
    }
}

#[test]
fn the_program_has_its_own_group_or_session() {
    for (name, options) in [
        ("tini", &[][..]),
        ("catatonit", &[]),
        ("envd-init", &[]),
        ("dumb-init", &[]),
        ("envd-init", &["--session"]),
        ("dumb-init", &["-c"]),
    ] {
        let mut running = shell(Place::Beside, name, options, "echo ready; read line");
        running.until("ready");
        let main = running.main();
        let (ours, its) = (
            crate::harness::stat(running.init()).unwrap(),
            crate::harness::stat(main).unwrap(),
        );
        let leads = (its.group == main, its.session == main);
        let expected = match (name, options.first()) {
            ("dumb-init", Some(_)) => (false, false),
            ("dumb-init", None) | (_, Some(_)) => (true, true),
            _ => (true, false),
        };
        assert_eq!(leads, expected, "{name} {options:?}");
        assert!(expected.1 || ours.session == its.session);
        running.close_input();
        assert_eq!(running.code(), 1);
    }
}
