//! Exit codes, and what is said when nothing runs.

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

use envd_shims::plan::{Limit, Mount};

use crate::harness::{self, Place, callers};

#[test]
fn codes_and_signals_come_out_as_in_a_shell() {
    for caller in callers() {
        let place = Place::new(caller);
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("kill -KILL $$", 137),
            ("kill -TERM $$", 143),
            ("kill -SEGV $$", 139),
        ] {
            let outcome = place.run(&place.shell(script));
            assert_eq!(outcome.code(), code, "{script}: {outcome:?}");
        }
    }
}

#[test]
fn a_missing_program_is_127_and_the_path_is_named() {
    for caller in callers() {
        let place = Place::new(caller);
        let outcome = place.run(&place.plan("no-such-tool", &[]));
        assert_eq!(outcome.code(), 127);
        assert!(outcome.errors.contains("no-such-tool"), "{outcome:?}");
        assert!(outcome.errors.contains("/usr/bin:/bin"), "{outcome:?}");

        let outcome = place.run(&place.plan("/no/such/tool", &[]));
        assert_eq!(outcome.code(), 127);
        assert!(outcome.errors.contains("/no/such/tool"), "{outcome:?}");
    }
}

#[test]
fn what_cannot_be_executed_is_126() {
    for caller in callers() {
        let place = Place::new(caller);
        place.file("root/plain", "#!/bin/sh\n");
        let binary = place.file("root/binary", "\u{1}\0\u{2}");
        fs::set_permissions(binary, fs::Permissions::from_mode(0o755)).unwrap();
        for program in ["/plain", "/etc", "/binary"] {
            let outcome = place.run(&place.plan(program, &[]));
            assert_eq!(outcome.code(), 126, "{outcome:?}");
            assert!(outcome.errors.contains(program), "{outcome:?}");
        }
    }
}

#[test]
fn a_missing_interpreter_is_told_from_a_missing_program() {
    for caller in callers() {
        let place = Place::new(caller);
        let script = place.file("root/script", "#!/opt/missing/interpreter\n");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        let outcome = place.run(&place.plan("/script", &[]));
        assert_eq!(outcome.code(), 127);
        assert!(outcome.errors.contains("interpreter"), "{outcome:?}");
    }
}

#[test]
fn a_script_without_a_first_line_runs_in_the_shell() {
    for caller in callers() {
        let place = Place::new(caller);
        let script = place.file("root/script", "echo \"$0 got $1\"\n");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        let outcome = place.run(&place.plan("/script", &["this"]));
        assert_eq!(outcome.success(), "/script got this\n");
    }
}

#[test]
fn a_missing_working_directory_or_source_is_an_error_that_names_it() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan = place.shell("true");
        plan.command.directory = "/no/such/place".into();
        let outcome = place.run(&plan);
        assert_eq!(outcome.code(), 125);
        assert!(outcome.errors.contains("/no/such/place"), "{outcome:?}");

        let mut plan = place.shell("true");
        let bind = |optional| Mount::Bind {
            source: "/no/such/source".into(),
            target: "/mnt".into(),
            read_only: false,
            optional,
        };
        plan.mounts.push(bind(false));
        let outcome = place.run(&plan);
        assert_eq!(outcome.code(), 125);
        assert!(outcome.errors.contains("/no/such/source"), "{outcome:?}");
        assert!(outcome.errors.contains("No such file"), "{outcome:?}");
        plan.mounts.pop();
        plan.mounts.push(bind(true));
        assert_eq!(place.run(&plan).code(), 0);
    }
}

#[test]
fn the_environment_is_the_plans_and_nothing_else() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan = place.plan("env", &[]);
        plan.command
            .environment
            .insert("ONE".to_owned(), "1".into());
        assert_eq!(place.run(&plan).success(), "ONE=1\nPATH=/usr/bin:/bin\n");
    }
}

#[test]
fn directory_umask_and_limits_are_the_plans() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan = place.shell("pwd; umask; ulimit -n; ulimit -c; hostname; id -u");
        plan.command.directory = "/etc".into();
        plan.command.umask = Some(0o027);
        plan.limits.insert(Limit::Descriptors, 99);
        plan.limits.insert(Limit::Core, 0);
        let expected = "/etc\n0027\n99\n0\ninside\n1000\n";
        assert_eq!(place.run(&plan).success(), expected);
    }
}

#[test]
fn a_closed_pipe_ends_the_writer() {
    for caller in callers() {
        let place = Place::new(caller);
        let plan = place.shell("yes | head -n 1; trap - PIPE; kill -PIPE $$; echo survived");
        let outcome = place.run(&plan);
        assert_eq!((outcome.output.as_str(), outcome.code()), ("y\n", 141));
    }
}

#[test]
fn a_background_child_that_holds_the_output_does_not_keep_the_caller() {
    for caller in callers() {
        let place = Place::new(caller);
        let plan = place.shell("(trap '' TERM HUP; setsid sleep 1000) & echo done");
        assert_eq!(place.run(&plan).success(), "done\n");
    }
}

#[test]
fn orphans_are_reaped() {
    for caller in callers() {
        let place = Place::new(caller);
        // Grandchildren whose parents are gone become PID 1's children and end in front of it.
        let script = "for i in 1 2 3 4 5 6 7 8 9; do (true & true &) ; done; sleep 0.2
            grep -l '^State:.Z' /proc/[0-9]*/status; exit 3";
        let outcome = place.run(&place.shell(script));
        assert_eq!((outcome.output.as_str(), outcome.code()), ("", 3));
    }
}

#[test]
fn signals_to_the_caller_reach_the_command() {
    for caller in callers() {
        let place = Place::new(caller);
        for (name, signal) in [
            ("TERM", libc::SIGTERM),
            ("USR1", libc::SIGUSR1),
            ("HUP", libc::SIGHUP),
        ] {
            let script = format!(
                "trap 'echo got {name}; exit 9' {name}; echo ready > /mark/ready
                while :; do sleep 0.05; done"
            );
            let mark = place.directory(&format!("mark-{name}"));
            let mut plan = place.shell(&script);
            plan.mounts.push(Mount::Bind {
                source: mark.clone(),
                target: "/mark".into(),
                read_only: false,
                optional: false,
            });
            let mut command = place.launcher(&plan);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let child = command.spawn().unwrap();
            harness::eventually("the command starts", || mark.join("ready").exists());
            let pid = nix::unistd::Pid::from_raw(child.id() as i32);
            let signal = nix::sys::signal::Signal::try_from(signal).unwrap();
            nix::sys::signal::kill(pid, signal).unwrap();
            let outcome = harness::await_end(child);
            assert_eq!(outcome.code(), 9, "{outcome:?}");
            assert_eq!(outcome.output, format!("got {name}\n"));
        }
    }
}

#[test]
fn a_wrong_plan_is_refused_before_anything_happens() {
    let place = Place::new(harness::Caller::Same);
    let mut plan = place.shell("true");
    plan.mounts.push(Mount::Proc {
        target: "/a/../../etc".into(),
    });
    let outcome = place.run(&plan);
    assert_eq!(outcome.code(), 125);
    assert!(outcome.errors.contains("/a/../../etc"), "{outcome:?}");

    let mut plan = place.shell("true");
    plan.privileges.capabilities.push("everything".to_owned());
    assert!(place.run(&plan).errors.contains("everything"));
}
