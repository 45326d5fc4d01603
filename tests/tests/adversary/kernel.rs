//! The kernel itself: system calls that open more of it, other tables of system calls, and what happens where a guard cannot be
//! put in place.

use std::process::Command;

use envd_tests::agent::Agent;
use serde_json::json;

use crate::ground::{all, everyone, held, on, shell};

/// Gain: a larger part of the kernel to find holes in, the machine's keys, its clock, its modules, its log.
/// Must happen: each call is refused, as root, too.
/// Guard: `shims/src/seccomp/table.rs` from `Strict` on; behind it the empty capability sets
/// (`shims/src/compile/privileges.rs`).
/// Seen to fail: with `Operation::Filter` left out.
#[test]
fn calls_that_open_more_of_the_kernel() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let mut attacks = all(
            &[
                "bpf",
                "perf_event_open",
                "userfaultfd",
                "fanotify_init",
                "kexec_load",
                "init_module",
                "finit_module",
                "delete_module",
                "open_by_handle",
                "syslog",
                "quotactl",
                "acct",
                "swapoff",
                "reboot",
                "settimeofday",
                "sethostname",
            ],
            &["EPERM"],
        );
        attacks.extend(all(
            &[
                "io_uring_setup",
                "io_uring_enter",
                "io_uring_register",
                "keyctl",
                "add_key",
                "request_key",
            ],
            &["ENOSYS"],
        ));
        #[cfg(target_arch = "x86_64")]
        attacks.extend(all(&["modify_ldt", "iopl", "ioperm"], &["EPERM"]));
        held(&mut agent, &environment, ground.user, &attacks);
        agent.leave();
    }
}

/// Gain: the filter's numbers are those of one table; the same calls have other numbers in the others.
/// Must happen: a call by the 32-bit table ends the process, one of x32 does not exist, whatever the kernel was built with.
/// Guard: the first instructions of `compile` in `shims/src/seccomp/program.rs`.
/// Seen to fail: with `Operation::Filter` left out (the x32 part only on a kernel that has x32).
#[cfg(target_arch = "x86_64")]
#[test]
fn other_tables_of_system_calls() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let mut attacks = all(&["i386_getpid", "i386_unshare"], &["SIGSYS"]);
        attacks.extend(all(&["x32_getpid", "x32_ptrace", "x32_ioctl"], &["ENOSYS"]));
        held(&mut agent, &environment, ground.user, &attacks);
        agent.leave();
    }
}

/// Gain: all capabilities over a namespace of one's own, and with them mounts, packet filters and the kernel's least tested paths.
/// Must happen: no namespace can be made or entered; `clone3`, into whose flags no filter can look, does not exist.
/// Guard: the rows NAMESPACE of `shims/src/seccomp/table.rs`; capabilities for those other than user namespaces.
/// Seen to fail: with `Operation::Filter` left out.
#[test]
fn namespaces_within() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let mut attacks = all(
            &[
                "clone_newuser",
                "clone_newuser_more",
                "unshare_newuser",
                "unshare_newns",
                "unshare_newnet",
                "unshare_newpid",
                "setns_init",
            ],
            &["EPERM"],
        );
        attacks.extend(all(&["clone3_newuser"], &["ENOSYS"]));
        held(&mut agent, &environment, ground.user, &attacks);
        agent.leave();
    }
}

/// Gain: typing commands into the terminal of the person who started the server (CVE-2017-5226, CVE-2019-10063).
/// Must happen: TIOCSTI and TIOCLINUX are refused, whatever the upper half of the request is.
/// Guard: the rows TERMINAL of `shims/src/seccomp/table.rs`, which compare the lower 32 bits.
/// Seen to fail: with `Operation::Filter` left out; the tests of `shims/src/seccomp/program.rs` hold the comparison.
#[test]
fn typing_into_terminals() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let attacks = all(
            &[
                "tiocsti",
                "tiocsti_high",
                "tiocsti_all_high",
                "tioclinux",
                "tioclinux_high",
            ],
            &["EPERM"],
        );
        held(&mut agent, &environment, ground.user, &attacks);
        agent.leave();
    }
}

/// Gain: reading what a mask covers, writing to what is read-only, another root.
/// Must happen: no mount can be made, changed, moved or taken away, by the old calls or the new ones.
/// Guard: the rows MOUNT of `shims/src/seccomp/table.rs`; behind them the empty capability sets.
/// Seen to fail: fsconfig and its like, with `Operation::Filter` left out; the others with the capabilities kept and without
/// Landlock, too.
#[test]
fn mounts_and_masks() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let attacks = all(
            &[
                "mount_tmpfs",
                "mount_bind",
                "mount_proc",
                "remount",
                "umount_proc",
                "umount_sys",
                "umount_null",
                "pivot_root",
                "move_mount",
                "open_tree",
                "open_tree_attr",
                "fsopen",
                "fsconfig",
                "fsmount",
                "fspick",
                "mount_setattr",
                "chroot",
            ],
            &["EPERM"],
        );
        held(&mut agent, &environment, ground.user, &attacks);
        agent.leave();
    }
}

/// Gain: root's powers, by becoming root, by a capability that was left, by a set-user-ID file or one with capabilities.
/// Must happen: no capability is in any set; none can be had, and no identity but one's own changes anything.
/// Guard: `Operation::Confine` and `Operation::Protect` (`init/src/apply/mod.rs`); `serve::settle` for what PID 1 keeps.
/// Seen to fail: the filter's part, with `Operation::Filter` left out; with `Confine` or `Protect` left out.
#[test]
fn capabilities_and_set_user_id() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let mut attacks = all(
            &[
                "any_capability",
                "capset_all",
                "ambient",
                "xattr_capability",
            ],
            &["EPERM"],
        );
        attacks.push(("xattr_trusted", &["EPERM"]));
        attacks.push(("seteuid_other", &["EPERM", "EINVAL"]));
        if ground.user != "root" {
            attacks.push(("setuid_root", &["EPERM", "EINVAL"]));
        }
        held(&mut agent, &environment, ground.user, &attacks);
        // Also what is marked set-user-ID runs with no more than before.
        let script = "cp /usr/bin/attacker mine && chmod 6755 mine && ./mine any_capability; \
                      grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
        let output = agent.run(&environment, script);
        assert_eq!(
            output.split_whitespace().collect::<Vec<_>>(),
            [
                "any_capability:",
                "EPERM",
                "NoNewPrivs:",
                "1",
                "Seccomp:",
                "2"
            ],
            "as {}",
            ground.user
        );
        agent.leave();
    }
}

/// Gain: the machine's handler of crashes (systemd-coredump, apport) runs as the machine's root on what the sandbox left in memory,
/// and keeps gigabytes of it outside.
/// Must happen: a limit of one byte, with which the kernel calls no handler (core(5)); 0 would not do.
/// Guard: `Limit::Core` in `Policy::strict` (`agents/src/policy.rs`).
/// Seen to fail: it was 0 when the case was written.
#[test]
fn crashes_reach_no_handler_outside() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let attacks = all(&["core_handler"], &["EPERM"]);
        held(&mut agent, &environment, ground.user, &attacks);
        agent.leave();
    }
}

/// Gain: settings of the kernel that procfs gives to whoever has root's number, such as `core_pattern` (CVE-2025-31133).
/// Must happen: nothing of procfs can be opened to be written to but a process's own files, and those neither.
/// Guard: Landlock's list of what may be written to (`Policy::strict`); behind it `PROTECTED_PROC` in
/// `shims/src/compile/mounts.rs`.
/// Seen to fail: as root, with `Operation::LandlockEnter` left out: `/proc/pressure`; without `PROTECTED_PROC`, too: the rest.
#[test]
fn the_kernels_settings_in_procfs() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let attacks = all(
            &[
                "procfs_writable",
                "write=/proc/sys/kernel/core_pattern",
                "write=/proc/sysrq-trigger",
                "write=/proc/sys/vm/overcommit_memory",
                "write=/proc/self/oom_score_adj",
            ],
            &["EACCES", "EROFS", "ENOENT"],
        );
        held(&mut agent, &environment, ground.user, &attacks);
        agent.leave();
    }
}

/// A server in front of which one system call is refused.
fn without(ground: &crate::ground::Ground, call: i64, errno: i32) -> Command {
    let attacker = ground.attacker();
    let envd = ground.envd_command(&[]).get_program().to_owned();
    let mut command = ground.command(attacker);
    command
        .arg(format!("without={call},{errno}"))
        .arg(envd)
        .args(["agent", "mcp"]);
    command
}

/// Gain: an environment without its filter, where the kernel does not take it: one that is missing, corrupt, or refused.
/// Must happen: nothing is lent, and the failure names the step.
/// Guard: `apply` in `init/src/apply/mod.rs` ends at the first operation that fails.
/// Seen to fail: with `Operation::Filter` left out.
#[test]
fn a_filter_that_cannot_be_installed_is_no_environment() {
    const SECCOMP: i64 = nix::libc::SYS_seccomp;
    for ground in everyone() {
        for errno in [nix::libc::EINVAL, nix::libc::ENOSYS, nix::libc::EACCES] {
            let mut agent = Agent::by(&mut without(&ground, SECCOMP, errno));
            let told = agent.fails("environment_create", json!({}));
            assert!(told.contains("filter"), "as {}: {told}", ground.user);
            agent.leave();
        }
    }
}

/// Gain: an environment without Landlock, no_new_privs or capabilities taken away, where one of these calls fails.
/// Must happen: nothing is lent. Where the kernel says that it has no Landlock, that is told as a warning and never silent.
/// Guard: `apply` in `init/src/apply/mod.rs`; `Domain::new` in `shims/src/privileges/landlock.rs`.
/// Seen to fail: with `Operation::LandlockEnter` left out; with the downgrade not told.
#[test]
fn other_guards_that_cannot_be_set_up_are_no_environment() {
    const CREATE_RULESET: i64 = 444;
    const ADD_RULE: i64 = 445;
    const RESTRICT_SELF: i64 = 446;
    const CAPSET: i64 = nix::libc::SYS_capset;
    for ground in everyone() {
        for call in [ADD_RULE, RESTRICT_SELF, CAPSET] {
            let mut agent = Agent::by(&mut without(&ground, call, nix::libc::EINVAL));
            agent.fails("environment_create", json!({}));
            agent.leave();
        }
        let mut agent = Agent::by(&mut without(&ground, CREATE_RULESET, nix::libc::ENOSYS));
        let environment = agent.ok("environment_create", json!({}));
        let warnings = environment["warnings"].to_string();
        assert!(warnings.contains("Landlock"), "{environment}");
        agent.leave();
    }
}

/// Gain: an environment that is launched anew (forked, restored, given a package) and is not guarded like the first.
/// Must happen: the same walls.
/// Guard: `Blueprint::with` (`envd/src/agents/blueprint.rs`): one plan for all of them.
/// Seen to fail: with `Operation::Filter` and `LandlockEnter` left out.
#[test]
fn what_is_launched_anew_has_the_same_walls() {
    for ground in everyone() {
        let (mut agent, first) = ground.agent();
        let forks = agent.ok("environment_fork", on(&first, json!({})));
        let fork = forks["environments"][0]["environment"].as_str().unwrap();
        let snapshot = agent.ok("environment_snapshot", on(&first, json!({})));
        let restore = json!({"snapshot": snapshot["snapshot"], "as_new": true});
        let restored = agent.ok("environment_restore", restore);
        let restored = restored["environment"].as_str().unwrap().to_owned();
        agent.ok("package_add", on(&first, json!({"packages": ["hello"]})));
        for environment in [&first, fork, &restored] {
            let mut attacks = all(
                &["any_capability", "bpf", "clone_newuser", "mount_tmpfs"],
                &["EPERM"],
            );
            attacks.push(("procfs_writable", &["EACCES"]));
            attacks.push(("tcp=192.0.2.1,80", &["ENETUNREACH"]));
            attacks.push(("list=/proc/1/root", &["EACCES"]));
            held(&mut agent, environment, ground.user, &attacks);
            let home = shell(&mut agent, environment, "ls -A ~");
            assert_eq!(home, "", "as {}", ground.user);
        }
        agent.leave();
    }
}
