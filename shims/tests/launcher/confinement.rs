//! What a process inside cannot do.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    process::Stdio,
};

use envd_shims::plan::{Landlock, Mount, Plan, Seccomp};

use crate::harness::{self, Caller, Place, callers};

/// A shell inside keeps the capabilities of a package manager.
fn as_root(mut plan: Plan) -> Plan {
    (plan.ids.uid, plan.ids.gid) = (0, 0);
    plan.privileges.capabilities = [
        "chown",
        "dac_override",
        "fowner",
        "setuid",
        "setgid",
        "sys_ptrace",
        "sys_chroot",
    ]
    .map(str::to_owned)
    .to_vec();
    plan
}

#[test]
fn descriptors_are_not_inherited() {
    for caller in callers() {
        let place = Place::new(caller);
        let secret = fs::File::open(place.file("secret", "of the caller")).unwrap();
        // A descriptor that a careless parent of the launcher has left open.
        rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
        let plan = place.shell("ls -l /proc/self/fd | grep -v 'total\\|/proc/' | sed 's/.* \\([0-9]*\\) ->.*/\\1/' | tr '\\n' ' '");
        assert_eq!(place.run(&plan).success(), "0 1 2 ");
        drop(secret);
    }
}

#[test]
fn pid_1_is_of_no_use_to_the_environment() {
    for caller in callers() {
        for root in [false, true] {
            let place = Place::new(caller);
            let plan = place.shell(
                "cd /proc/1; for f in mem environ fd/0 fd/1 fd/3 map_files root/etc cwd/etc exe auxv; do
                    (ls $f/ || head -c 1 $f) >/dev/null 2>&1 && echo $f; done
                readlink root cwd exe ns/user fd/*; kill -KILL 1; kill -STOP 1; echo alive",
            );
            let plan = if root { as_root(plan) } else { plan };
            assert_eq!(place.run(&plan).success(), "alive\n", "{caller:?} {root}");
        }
    }
}

#[test]
fn pid_1_holds_nothing_of_the_callers() {
    for caller in callers() {
        let place = Place::new(caller);
        let mark = place.directory("mark");
        let mut plan = place.shell("echo > /mark/ready; read wait");
        plan.mounts.push(Mount::Bind {
            source: mark.clone(),
            target: "/mark".into(),
            read_only: false,
            optional: false,
        });
        let mut command = place.launcher(&plan);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        harness::eventually("the command starts", || mark.join("ready").exists());
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let init: u32 = fs::read_to_string(children)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // Only root may look.
        let held = || {
            let descriptors = fs::read_dir(format!("/proc/{init}/fd")).ok()?;
            let name =
                |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
            Some(descriptors.filter_map(name).collect::<Vec<_>>())
        };
        let harmless = |name: &std::path::PathBuf| {
            let name = name.display().to_string();
            name.starts_with("socket:") || name.contains("signalfd")
        };
        harness::eventually("PID 1 lets go of what it inherited", || {
            held().is_none_or(|held| held.len() == 2 && held.iter().all(harmless))
        });
        drop(child.stdin.take());
        assert!(harness::await_end(child).status.code().is_some());
    }
}

#[test]
fn terminal_injection_is_refused() {
    for caller in callers() {
        let place = Place::new(caller);
        // The number with higher bits set is the same request to the kernel.
        let perl = "for (0x5412, 0x541c, 0x100005412, 0xffffffff00005412) {
            my $x = 'x'; print syscall(16, 0, $_, $x) == 0 ? 'done ' : $!{EPERM} ? 'refused ' : \"$! \"; }";
        let mut plan = place.plan("perl", &["-MErrno", "-e", perl]);
        for profile in [Seccomp::Lenient, Seccomp::Strict] {
            plan.privileges.seccomp = profile;
            assert_eq!(
                place.run(&plan).success(),
                "refused refused refused refused "
            );
        }
    }
}

#[test]
fn privileges_are_gone_for_good() {
    for caller in callers() {
        let place = Place::new(caller);
        let tool = place.path("root/set-user-id");
        fs::copy("/usr/bin/id", &tool).unwrap();
        let owner = if caller == Caller::Ordinary {
            0
        } else {
            caller.uid()
        };
        chown(&tool, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o6755)).unwrap();
        let plan = place
            .shell("/set-user-id -u; grep -E '^(Cap|NoNewPrivs)' /proc/self/status | tr '\\t' ' '");
        let said = place.run(&plan).success();
        let sets: String = ["Inh", "Prm", "Eff", "Bnd", "Amb"]
            .map(|set| format!("Cap{set}: 0000000000000000\n"))
            .concat();
        assert_eq!(said, format!("1000\n{sets}NoNewPrivs: 1\n"));
    }
}

#[test]
fn kept_capabilities_are_all_there_is() {
    for caller in callers() {
        let place = Place::new(caller);
        let plan = place.shell("grep ^Cap /proc/self/status | cut -f 2 | sort -u; mount -t tmpfs none /tmp || echo no mount");
        let mut plan = as_root(plan);
        plan.privileges.capabilities = vec!["chown".to_owned(), "kill".to_owned()];
        assert_eq!(place.run(&plan).success(), "0000000000000021\nno mount\n");
        (plan.ids.uid, plan.ids.gid) = (1000, 1000);
        assert_eq!(place.run(&plan).success(), "0000000000000021\nno mount\n");
    }
}

#[test]
fn the_kernels_switches_are_out_of_reach_for_root_too() {
    for caller in callers() {
        let place = Place::new(caller);
        let plan = as_root(place.shell(
            "for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/sysrq-trigger; do
                (: >> $f) 2>/dev/null && echo $f; done; test -r /proc/kcore && head -c 1 /proc/kcore; echo safe",
        ));
        assert_eq!(place.run(&plan).success(), "safe\n");
    }
}

#[test]
fn strict_refuses_what_agents_have_no_use_for() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan = place.shell(
            "unshare -U true 2>/dev/null && echo user namespace; unshare -r true 2>/dev/null && echo root
            perl -MErrno -e '
                my %calls = (bpf => 321, perf => 298, userfaultfd => 323, setns => 308, mount => 165, keyctl => 250,
                    io_uring_setup => 425, clone3 => 435, add_key => 248, process_vm_writev => 311);
                for (sort keys %calls) {
                    my $r = syscall($calls{$_}, 0, 0, 0, 0, 0);
                    print \"$_ \" . ($r == -1 && $!{EPERM} ? 1 : $r == -1 && $!{ENOSYS} ? 2 : \"$r $!\") . \"\\n\" }'
            sh -c 'echo threads and forks work' | cat",
        );
        plan.privileges.seccomp = Seccomp::Strict;
        assert_eq!(
            place.run(&plan).success(),
            "add_key 2\nbpf 1\nclone3 2\nio_uring_setup 2\nkeyctl 2\nmount 1\nperf 1\nprocess_vm_writev 1\n\
             setns 1\nuserfaultfd 1\nthreads and forks work\n"
        );
        plan.privileges.seccomp = Seccomp::Lenient;
        let lenient = place.run(&plan).success();
        assert!(lenient.contains("user namespace"), "{lenient}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn foreign_system_call_tables_are_refused() {
    for caller in callers() {
        let place = Place::new(caller);
        // getpid of the x32 table.
        let perl = "print syscall(0x40000027) == -1 && $!{ENOSYS} ? 'refused' : 'done'";
        let plan = place.plan("perl", &["-MErrno", "-e", perl]);
        assert_eq!(place.run(&plan).success(), "refused");
    }
}

#[test]
fn landlock_confines_writing() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan = place.shell(
            "echo x > /tmp/x && cat /tmp/x; echo x > /etc/x || echo refused; cat /etc/passwd",
        );
        let landlock = Landlock {
            write: vec!["/tmp".into(), "/dev".into()],
            read: vec!["/usr".into(), "/proc".into()],
            scope_abstract_sockets: true,
            scope_signals: true,
        };
        plan.privileges.landlock = Some(landlock);
        let outcome = place.run(&plan);
        assert_eq!(outcome.output, "x\nrefused\n", "{outcome:?}");
        let mut landlock = plan.privileges.landlock.take().unwrap();
        landlock.read.push("/no/such/directory".into());
        plan.privileges.landlock = Some(landlock);
        let outcome = place.run(&plan);
        assert_eq!(outcome.code(), 125);
        assert!(outcome.errors.contains("/no/such/directory"), "{outcome:?}");
    }
}

#[test]
fn a_private_network_is_a_loopback_device_that_is_up() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan = place.shell("tail -n +3 /proc/net/dev | cut -d: -f 1 | tr -d ' '; cat /proc/net/if_inet6 | grep -c lo || true
            perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\") or die; print \"up\\n\"'");
        plan.namespaces.net = true;
        let said = place.run(&plan).success();
        assert!(said.starts_with("lo\n") && said.ends_with("up\n"), "{said}");
    }
}

#[test]
fn a_session_of_its_own_keeps_signals_inside() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan = place.shell(
            "ps -o sid= -o tpgid= -p $$ | tr -s ' '; trap '' TERM; kill -TERM 0; echo alive",
        );
        plan.command.new_session = true;
        let outcome = place.run(&plan);
        assert!(outcome.output.ends_with("alive\n"), "{outcome:?}");
        assert!(outcome.output.contains("-1"), "no terminal: {outcome:?}");
        assert_eq!(outcome.code(), 0);
    }
}

#[test]
fn root_maps_every_id_and_others_only_their_own() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan = as_root(place.shell(
            "echo > /etc/x; chown 33:34 /etc/x 2>/dev/null && stat -c '%u %g' /etc/x; stat -c %u /etc/passwd
            perl -e '$) = \"7 7\"; $> = 7; print \"$>\\n\"'",
        ));
        plan.ids.all = true;
        let said = place.run(&plan).success();
        if caller.uid() == 0 {
            assert_eq!(said, "33 34\n0\n7\n");
        } else {
            assert_eq!(said, "0\n0\n");
        }
    }
}

#[test]
fn an_environment_fits_into_another() {
    for caller in callers() {
        let place = Place::new(caller);
        let inner = place.shell("hostname; id -u; echo inner > /etc/x; cat /etc/x");
        let launcher = place.launcher(&inner);
        let arguments: Vec<_> = launcher
            .get_args()
            .map(|argument| argument.to_str().unwrap())
            .collect();
        let program = launcher.get_program().to_str().unwrap();
        let mut outer = place.plan(program, &arguments);
        // Over the host's /tmp, where all that the inner one needs lies.
        outer
            .mounts
            .retain(|mount| mount.target() != std::path::Path::new("/tmp"));
        outer.mounts.push(Mount::Bind {
            source: "/tmp".into(),
            target: "/tmp".into(),
            read_only: false,
            optional: false,
        });
        let outcome = place.run(&outer);
        if caller.uid() == 0 {
            // Root's /proc has parts that are covered, and the kernel makes no new one where it would show them.
            assert!(outcome.errors.contains("/proc"), "{outcome:?}");
        } else {
            assert_eq!(outcome.success(), "inside\n1000\ninner\n");
        }
    }
}
