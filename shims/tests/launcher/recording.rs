//! The recorder: what root would have done to files is noted, for whoever runs it.

use envd_shims::plan::{Plan, Seccomp};

use crate::harness::{Outcome, Place, callers, finish};

fn recording(place: &Place, script: &str) -> Plan {
    let mut plan = place.shell(script);
    (plan.ids.uid, plan.ids.gid) = (0, 0);
    plan.privileges.record_ownership = true;
    plan.privileges.seccomp = Seccomp::Lenient;
    plan.privileges.capabilities = [
        "chown",
        "dac_override",
        "fowner",
        "fsetid",
        "setuid",
        "setgid",
        "kill",
        "mknod",
    ]
    .map(str::to_owned)
    .to_vec();
    plan
}

fn record(place: &Place, script: &str) -> Outcome {
    let mut command = place.launcher(&recording(place, script));
    command.arg("record");
    finish(command)
}

/// The notes of a script, the same for everyone.
fn notes(script: &str) -> String {
    let mut all: Vec<String> = callers()
        .into_iter()
        .map(|caller| {
            let place = Place::new(caller);
            let said = record(&place, script).success();
            let (notes, calls) = said.trim_end().rsplit_once('\n').unwrap();
            assert!(calls.ends_with(" 0 notes of other inodes"), "{said}");
            notes.to_owned()
        })
        .collect();
    all.dedup();
    assert_eq!(
        all.len(),
        1,
        "notes depend on who runs the script: {all:#?}"
    );
    all.remove(0)
}

#[test]
fn owners_are_noted_however_they_are_named() {
    let notes = notes(
        "set -e
        cd /etc; echo > one; echo > two; echo > three; ln -s /etc/three link; ln -s nowhere dangling; mkdir -p deep/er
        chown 11:12 passwd; chown 13 ./one; chown :14 ../etc/two
        chown 15:16 link; chown -h 17:18 link dangling
        cd deep/er; chown 19:20 .; chown 21:22 ..; chown 23 ../../../../etc/deep/../two
        exec 5>>/etc/fd; chown 24:24 /proc/self/fd/5; chown 25 /dev/fd/5",
    );
    assert_eq!(
        notes,
        "/etc/dangling 120777 Some(17) Some(18) None None\n\
         /etc/deep 40755 Some(21) Some(22) None None\n\
         /etc/deep/er 40755 Some(19) Some(20) None None\n\
         /etc/fd 100644 Some(25) Some(24) None None\n\
         /etc/link 120777 Some(17) Some(18) None None\n\
         /etc/one 100644 Some(13) None None None\n\
         /etc/passwd 100644 Some(11) Some(12) None None\n\
         /etc/three 100644 Some(15) Some(16) None None\n\
         /etc/two 100644 Some(23) Some(14) None None"
    );
}

#[test]
fn files_are_followed_to_where_they_end_and_no_further() {
    let notes = notes(
        "set -e; cd /etc; echo > made; chown 1:1 made; mv made renamed
        echo > gone; chown 2:2 gone; rm gone; echo > new-of-same-name; mv new-of-same-name gone
        echo > a; chown 3:3 a; ln a b; rm a; echo > /tmp/elsewhere; chown 4:4 /tmp/elsewhere /dev/shm",
    );
    assert_eq!(
        notes,
        "/etc/a gone Some(3) Some(3) None None\n/etc/renamed 100644 Some(1) Some(1) None None"
    );
}

#[test]
fn special_bits_survive_being_noted() {
    let notes = notes(
        "set -e; cd /etc; echo > tool; chmod 6755 tool; chown 0:8 tool; mkdir box; chmod 3770 box; chown 9 box
        stat -c '%a' tool box >&2",
    );
    assert_eq!(
        notes,
        "/etc/box 43770 Some(9) None None None\n/etc/tool 106755 Some(0) Some(8) None None"
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn capabilities_are_noted_and_other_attributes_refused() {
    let notes = notes(
        r#"set -e; cd /etc; echo > ping; echo > other
        perl -MErrno -e '
            my ($file, $capability, $other, $acl) = ("/etc/ping", "security.capability", "user.x", "system.posix_acl_access");
            my $value = "\1\0\0\2" . "\0\40" . ("\0" x 14);
            syscall(188, $file, $capability, $value, 20, 0) == 0 or die "capability: $!";
            for ($other, $acl) {
                for my $call (188, 189) {
                    syscall($call, $file, $_, $value, 20, 0) == -1 && $!{EOPNOTSUPP} or die "$_: $!";
                }
            }
            open(my $handle, "<", $file) or die;
            syscall(190, fileno($handle), $other, $value, 20, 0) == -1 && $!{EOPNOTSUPP} or die "by descriptor: $!";
            syscall(188, $file, $capability, $value, 3, 0) == -1 && $!{EINVAL} or die "short: $!";'
        cp -p ping copy; stat -c %a copy | grep -q 644"#,
    );
    let value = "Some([1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])";
    assert_eq!(notes, format!("/etc/ping 100644 None None {value} None"));
}

#[test]
fn devices_are_stood_in_for_and_pipes_are_made() {
    let notes = notes(
        "set -e; cd /etc; umask 022; mknod disk b 8 70000; mknod -m 600 tty c 4 64; chown 0:6 disk; mkfifo pipe; test -p pipe
        mknod disk b 1 1 2>/dev/null && exit 1; test -f disk",
    );
    assert_eq!(
        notes,
        "/etc/disk 100644 Some(0) Some(6) None Some(DeviceNode { kind: Block, major: 8, minor: 70000 })\n\
         /etc/tty 100600 None None None Some(DeviceNode { kind: Character, major: 4, minor: 64 })"
    );
}

#[test]
fn failures_are_those_of_the_kernel() {
    for caller in callers() {
        let place = Place::new(caller);
        let said = record(
            &place,
            "chown 1 /missing /etc/passwd/x 2>&1 | sed 's/.*: //'
            perl -MErrno -e 'my $p = \"/etc\"; print syscall(260, -100, 1, 1, 1, 0) == -1 && $!{EFAULT} ? \"fault\\n\" : \"$!\\n\";
                print syscall(93, 77, 1, 1) == -1 && $!{EBADF} ? \"bad\\n\" : \"$!\\n\"'
            perl -e '$( = 5; $) = \"5 5\"; print \"$!\\n\"' >/dev/null; id -u",
        )
        .success();
        let said: Vec<_> = said.lines().collect();
        assert_eq!(
            said[..5],
            [
                "No such file or directory",
                "Not a directory",
                "fault",
                "bad",
                "0"
            ]
        );
    }
}

#[test]
fn deep_and_parallel_trees_of_processes_are_served() {
    let notes = notes(
        "cd /etc; for i in 1 2 3 4 5 6 7 8; do (mkdir d$i; for j in 1 2 3 4 5 6 7 8 9; do
            sh -c \"sh -c 'echo > d$i/f$j; chown $i:$j d$i/f$j'\" & done; wait) & done; wait",
    );
    assert_eq!(notes.lines().count(), 72);
    assert!(
        notes.contains("/etc/d7/f9 100644 Some(7) Some(9) None None"),
        "{notes}"
    );
}

#[test]
fn a_caller_that_dies_in_the_middle_is_no_obstacle() {
    let notes = notes(
        "cd /etc; for i in $(seq 30); do perl -e 'chown(1, 1, \"passwd\") while 1' & p=$!; sleep 0.00$i; kill -9 $p; done
        wait; chown 2:2 passwd",
    );
    assert_eq!(notes, "/etc/passwd 100644 Some(2) Some(2) None None");
}

#[test]
fn chroots_are_seen_as_their_processes_see_them() {
    for caller in callers() {
        let place = Place::new(caller);
        let mut plan = recording(
            &place,
            r#"mkdir -p /jail/etc; echo > /jail/etc/passwd; ln -s /etc/passwd /jail/link
            perl -e 'chroot("/jail") or die; chdir("/") or die; chown(5, 5, "/link") == 1 or die; chown(6, -1, "../../etc") or die'"#,
        );
        plan.privileges.capabilities.push("sys_chroot".to_owned());
        let mut command = place.launcher(&plan);
        command.arg("record");
        let said = finish(command).success();
        assert!(
            said.contains("/jail/etc/passwd 100644 Some(5) Some(5)"),
            "{said}"
        );
        assert!(said.contains("/jail/etc 40755 Some(6) None"), "{said}");
        assert!(
            !said.contains("\n/etc/passwd") && !said.starts_with("/etc/passwd"),
            "{said}"
        );
    }
}

#[test]
fn exit_codes_and_missing_programs_are_told() {
    for caller in callers() {
        let place = Place::new(caller);
        assert_eq!(record(&place, "exit 5").code(), 5);
        let mut plan = recording(&place, "");
        plan.command.program = "/missing".into();
        let mut command = place.launcher(&plan);
        command.arg("record");
        let outcome = finish(command);
        assert_eq!(outcome.code(), 125);
        assert!(outcome.errors.contains("/missing"), "{outcome:?}");
    }
}

#[test]
fn notes_fit_an_upper_directory_too() {
    for caller in callers() {
        let place = Place::new(caller);
        let script = "set -e; cd /etc; chown 1:2 passwd; echo > new; chown 3:4 new; rm new; echo > other; chown 5 other
            mkdir box; chown 6 box; mv box moved";
        let mut plan = recording(&place, script);
        let (upper, work) = (place.directory("upper"), place.directory("work"));
        plan.root = envd_shims::plan::Root::Overlay {
            lowers: vec![place.path("root")],
            upper: envd_shims::plan::Upper::Directory {
                upper: upper.clone(),
                work,
            },
        };
        let mut command = place.launcher(&plan);
        command.arg("record");
        assert_eq!(
            finish(command).success(),
            "/etc/moved 40755 Some(6) None None None\n/etc/other 100644 Some(5) None None None\n\
             /etc/passwd 100644 Some(1) Some(2) None None\n4 calls, 0 notes of other inodes\n"
        );
        assert!(upper.join("etc/passwd").is_file(), "copied up");
    }
}
