//! What is seen inside, and what of it can be changed.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, os::unix::fs::symlink, path::Path};

use envd_shims::plan::{Mount, Root, Upper};

use crate::harness::{Place, callers};

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount::Bind {
        source: source.into(),
        target: target.into(),
        read_only,
        optional: false,
    }
}

#[test]
fn read_only_stays_read_only() {
    for caller in callers() {
        let place = Place::new(caller);
        let shared = place.directory("shared");
        place.file("shared/file", "as it was");
        let mut plan = place.shell(
            "echo x > /shared/file; echo x > /shared/new; rm -f /shared/file; chmod 700 /shared/file
            mount -o remount,rw /shared; mount -o remount,bind,rw /shared; umount /shared; cat /shared/file",
        );
        plan.mounts.push(bind(&shared, "/shared", true));
        assert_eq!(place.run(&plan).success(), "as it was");
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 1);
    }
}

#[test]
fn writes_reach_what_is_bound_and_nothing_else() {
    for caller in callers() {
        let place = Place::new(caller);
        let shared = place.directory("shared");
        let mut plan =
            place.shell("echo inside > /shared/file; echo inside > /etc/passwd; cat /etc/passwd");
        plan.mounts.push(bind(&shared, "/shared", false));
        assert_eq!(place.run(&plan).success(), "inside\n");
        assert_eq!(fs::read_to_string(shared.join("file")).unwrap(), "inside\n");
        let lower = fs::read_to_string(place.path("root/etc/passwd")).unwrap();
        assert!(lower.starts_with("me:"), "{lower}");
    }
}

#[test]
fn a_link_planted_in_the_root_does_not_lead_a_mount_out() {
    for caller in callers() {
        let place = Place::new(caller);
        let outside = place.directory("outside");
        let shared = place.directory("shared");
        symlink(&outside, place.path("root/absolute")).unwrap();
        symlink(
            "../../../../../../../../../../tmp",
            place.path("root/upwards"),
        )
        .unwrap();
        symlink("/proc/self/root", place.path("root/magic")).unwrap();
        symlink("/proc/1/cwd", place.path("root/cwd")).unwrap();
        for link in ["absolute", "upwards", "magic", "cwd"] {
            let mut plan = place.shell("true");
            let target = format!("/{link}/envd-planted");
            plan.mounts.push(bind(&shared, &target, false));
            plan.mounts.push(Mount::File {
                target: format!("/{link}/envd-planted-file").into(),
                content: "x".to_owned(),
                mode: 0o644,
            });
            let outcome = place.run(&plan);
            assert!([0, 125].contains(&outcome.code()), "{outcome:?}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        for host in [
            "/envd-planted",
            "/tmp/envd-planted",
            "/envd-planted-file",
            "/tmp/envd-planted-file",
        ] {
            assert!(!Path::new(host).exists(), "{host}");
        }
    }
}

#[test]
fn the_host_is_not_to_be_seen() {
    for caller in callers() {
        let place = Place::new(caller);
        let plan = place.shell(
            "ls / | tr '\\n' ' '; ls /proc | grep -c '^[0-9]'; ls /dev | tr '\\n' ' '; ls -A /tmp /run
            cut -d' ' -f 4,5 /proc/self/mountinfo | grep -v ' /proc/' | tr '\\n' ';'",
        );
        let seen = place.run(&plan).success();
        let expected = "bin dev etc lib lib64 proc run sbin tmp usr ";
        assert!(seen.starts_with(expected), "{seen}");
        let processes: u32 = seen[expected.len()..]
            .split('\n')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(processes < 8, "PID 1, the shell and its pipelines: {seen}");
        let devices = "core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ";
        assert!(seen.contains(devices), "{seen}");
        let directory = place.path("").display().to_string();
        assert!(!seen.contains(&directory), "{seen}");
    }
}

#[test]
fn devices_work() {
    for caller in callers() {
        let place = Place::new(caller);
        let plan = place.shell(
            "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c
            echo y > /dev/full || echo full; echo z > /dev/shm/z; cat /dev/shm/z
            echo via fd | cat /dev/stdin; test -c /dev/ptmx && echo ptmx; stat -c %a /dev",
        );
        let said = place.run(&plan).success();
        assert_eq!(said, "3\n5\nfull\nz\nvia fd\nptmx\n755\n");
    }
}

#[test]
fn scratch_is_the_hosts_directory_with_writes_that_go_away() {
    for caller in callers() {
        let place = Place::new(caller);
        let home = place.directory("home");
        place.file("home/dotfile", "kept\n");
        let mut plan = place.shell("cat /home/me/dotfile; echo changed > /home/me/dotfile; echo > /home/me/new; ls /home/me");
        plan.mounts.push(Mount::Scratch {
            source: home.clone(),
            target: "/home/me".into(),
        });
        assert_eq!(place.run(&plan).success(), "kept\ndotfile\nnew\n");
        assert_eq!(fs::read_to_string(home.join("dotfile")).unwrap(), "kept\n");
        assert_eq!(fs::read_dir(home).unwrap().count(), 1);
    }
}

#[test]
fn files_directories_and_links_are_made_in_order() {
    for caller in callers() {
        let place = Place::new(caller);
        let target = place.file("root/etc/target", "untouched");
        symlink("target", place.path("root/etc/resolv.conf")).unwrap();
        let mut plan = place.shell(
            "cat /etc/resolv.conf; stat -c '%a %F' /etc/resolv.conf /var/lib/x; readlink /etc/localtime; cat /etc/target",
        );
        plan.mounts.extend([
            Mount::File {
                target: "/etc/resolv.conf".into(),
                content: "nameserver 192.0.2.1\n".to_owned(),
                mode: 0o640,
            },
            Mount::Directory {
                target: "/var/lib/x".into(),
                mode: 0o700,
            },
            Mount::Symlink {
                target: "/etc/localtime".into(),
                points_to: "/usr/share/zoneinfo/UTC".into(),
            },
        ]);
        let expected = "nameserver 192.0.2.1\n640 regular file\n700 directory\n/usr/share/zoneinfo/UTC\nuntouched";
        assert_eq!(place.run(&plan).success(), expected);
        assert_eq!(fs::read_to_string(target).unwrap(), "untouched");
    }
}

#[test]
fn an_upper_directory_keeps_what_was_written() {
    for caller in callers() {
        let place = Place::new(caller);
        let (upper, work) = (
            place.directory("upper,with:odd\\name"),
            place.directory("work"),
        );
        let mut plan = place.shell("echo kept > /etc/new; rm /etc/passwd");
        plan.root = Root::Overlay {
            lowers: vec![place.path("root")],
            upper: Upper::Directory {
                upper: upper.clone(),
                work,
            },
        };
        place.run(&plan).success();
        assert_eq!(fs::read_to_string(upper.join("etc/new")).unwrap(), "kept\n");
        assert!(
            upper.join("etc/passwd").symlink_metadata().is_ok(),
            "a whiteout"
        );
    }
}

#[test]
fn many_lowers_with_odd_names() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut lowers: Vec<_> = (0..100)
            .map(|number| {
                let name = format!("lower:{number},\\");
                let path = place.directory(&name);
                place.file(&format!("{name}/file-{number}"), "");
                path
            })
            .collect();
        lowers.push(place.path("root"));
        let mut plan = place.shell("ls / | grep -c ^file-");
        plan.root = Root::Overlay {
            lowers,
            upper: Upper::Tmpfs {
                size: None,
                inodes: None,
            },
        };
        assert_eq!(place.run(&plan).success(), "100\n");
    }
}

#[test]
fn a_read_only_root() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan =
            place.shell("echo x > /etc/new || cat /etc/passwd; echo x > /tmp/x && cat /tmp/x");
        plan.root = Root::ReadOnly {
            directory: place.path("root"),
        };
        let said = place.run(&plan).success();
        assert!(said.starts_with("me:") && said.ends_with("x\n"), "{said}");
    }
}

#[test]
fn a_project_with_a_name_that_is_no_text() {
    for caller in callers() {
        let place = Place::new(caller);
        let strange = place.path("root").join(OsStr::from_bytes(b"\xff\xfe"));
        let source = place.directory("strange");
        place.file("strange/file", "");
        let mut plan = place.shell("pwd | od -An -tx1 | tr -d ' \\n'; ls");
        plan.mounts.push(Mount::Bind {
            source,
            target: Path::new("/").join(strange.file_name().unwrap()),
            read_only: false,
            optional: false,
        });
        plan.command.directory = Path::new("/").join(strange.file_name().unwrap());
        assert_eq!(place.run(&plan).success(), "2ffffe0afile\n");
    }
}

#[test]
fn the_whole_of_a_small_upper_can_be_used_up_without_harm() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan =
            place.shell("head -c 10000000 /dev/zero > /etc/big 2>/dev/null || echo full");
        plan.root = Root::Overlay {
            lowers: vec![place.path("root")],
            upper: Upper::Tmpfs {
                size: Some(1 << 20),
                inodes: None,
            },
        };
        assert_eq!(place.run(&plan).success(), "full\n");
    }
}

/// Directories that are only there for something deeper are made once, whoever needed them first.
#[test]
fn things_share_the_parents_of_their_places() {
    for caller in callers() {
        let place = Place::new(caller);
        let project = place.directory("project");
        let file = project.join("file");
        fs::write(&file, "bound\n").unwrap();
        let mut plan =
            place.shell("cat /tmp/a/b/file /run/c/file; ls /tmp/a /tmp/a/b /run /run/c /dev/shm");
        let tmpfs = |target: &str| Mount::Tmpfs {
            target: target.into(),
            mode: 0o700,
            size: None,
        };
        let bind = |source: &Path, target: &str| Mount::Bind {
            source: source.to_owned(),
            target: target.into(),
            read_only: true,
            optional: false,
        };
        plan.mounts.extend([
            tmpfs("/tmp/a/home"),
            bind(&project, "/tmp/a/b"),
            Mount::File {
                target: "/run/c/file".into(),
                content: "put\n".into(),
                mode: 0o644,
            },
            bind(&file, "/run/c/bound"),
            Mount::Directory {
                target: "/run/c/d/e".into(),
                mode: 0o755,
            },
            tmpfs("/run/c/d/f"),
            tmpfs("/dev/shm"),
        ]);
        let said = place.run(&plan).success();
        let (files, names) = said.split_once("/dev/shm:").unwrap();
        assert_eq!(files, "bound\nput\n");
        for name in ["b", "home", "c", "bound", "d"] {
            assert!(names.lines().any(|line| line == name), "{name} in {names}");
        }
    }
}
