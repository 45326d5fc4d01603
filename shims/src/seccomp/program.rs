//! From the table to a BPF program.
//!
//! `seccompiler` makes the part that looks at arguments. In front of it goes what it has no words for, the x32 table, and a search
//! that knows the verdict on every number by itself: several error numbers, notifications, and that calls pass which nothing is said
//! about. The kernel tries every call's number when a filter is installed, to remember those that pass (kernel/seccomp.c,
//! `seccomp_cache_prepare`), and translates each instruction: both are most of what installing costs.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

use super::table::{Refusal, Row, TABLE, When};
use crate::plan::Seccomp;

/// Why there is no program; a mistake in the table.
#[derive(Debug, thiserror::Error)]
#[error("the system call filter cannot be made: {0}")]
pub(crate) struct Error(String);

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: (seccompiler::TargetArch, u32) = (seccompiler::TargetArch::x86_64, 0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: (seccompiler::TargetArch, u32) =
    (seccompiler::TargetArch::aarch64, 0xC000_00B7);

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// The bit that marks a call of the x32 table. It reaches the same functions by other numbers.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
const fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

/// Makes the filter of a profile. Calls of `notified` wait for a listener's answer, those of `pretended` succeed without
/// doing anything. `None` when there is nothing to filter.
pub(crate) fn compile(
    profile: Seccomp,
    notified: &[c_long],
    pretended: &[c_long],
) -> Result<Option<Vec<sock_filter>>, Error> {
    let rows = rows(profile);
    if profile == Seccomp::Off && notified.is_empty() && pretended.is_empty() {
        return Ok(None);
    }
    let mut program = vec![
        statement(LOAD, ARCH),
        jump(JUMP_EQUAL, ARCHITECTURE.1, 1, 0),
        statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        statement(LOAD, NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    program.extend([
        jump(JUMP_AT_LEAST, X32, 0, 1),
        statement(RETURN, errno(libc::ENOSYS)),
    ]);
    let verdicts = rows.iter().map(|row| match (row.when, row.refusal) {
        (When::Always, Refusal::Denied) => (row.number, Some(errno(libc::EPERM))),
        (When::Always, Refusal::Unknown) => (row.number, Some(errno(libc::ENOSYS))),
        _ => (row.number, None),
    });
    let notified = notified.iter().map(|number| (*number, Some(NOTIFY)));
    let pretended = pretended.iter().map(|number| (*number, Some(errno(0))));
    program.extend(search(verdicts.chain(notified).chain(pretended))?);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.when != When::Always) {
        let rules = rules.entry(row.number).or_default();
        rules.extend(rule(row.when)?);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        ARCHITECTURE.0,
    );
    let denied: Vec<sock_filter> = filter
        .and_then(TryInto::try_into)
        .map_err(|error: seccompiler::BackendError| Error(error.to_string()))?;
    program.extend(denied);
    Ok(Some(program))
}

/// Finds the verdict on a number: that of the first that is given for it, and to allow it where none is. `None` is to go on behind
/// the search.
fn search(
    verdicts: impl Iterator<Item = (c_long, Option<u32>)>,
) -> Result<Vec<sock_filter>, Error> {
    /// Numbers from here up to the next beginning.
    type Beginning = (u32, Option<u32>);
    fn tree(ranges: &[Beginning]) -> Result<Vec<sock_filter>, Error> {
        match ranges {
            [] => Ok(Vec::new()),
            [(_, Some(verdict))] => Ok(vec![statement(RETURN, *verdict)]),
            [(_, None)] => Ok(vec![statement(JUMP, 0)]),
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let below = tree(below)?;
                let mut all = vec![jump(JUMP_AT_LEAST, above[0].0, distance(below.len())?, 0)];
                all.extend(below);
                all.extend(tree(above)?);
                Ok(all)
            }
        }
    }
    const ALLOWED: Option<u32> = Some(libc::SECCOMP_RET_ALLOW);
    let mut listed = BTreeMap::new();
    for (number, verdict) in verdicts {
        let number = u32::try_from(number).map_err(|error| Error(error.to_string()))?;
        listed.entry(number).or_insert(verdict);
    }
    let mut ranges: Vec<Beginning> = vec![(0, ALLOWED)];
    for (number, verdict) in listed {
        // Behind the last that was listed others are allowed.
        for (beginning, verdict) in [(number, verdict), (number + 1, ALLOWED)] {
            ranges.pop_if(|(last, _)| *last == beginning);
            if ranges.last().is_none_or(|(_, last)| *last != verdict) {
                ranges.push((beginning, verdict));
            }
        }
    }
    let mut tree = tree(&ranges)?;
    let length = tree.len();
    for (at, step) in tree.iter_mut().enumerate() {
        if step.code == JUMP {
            step.k = (length - at - 1) as u32;
        }
    }
    Ok(tree)
}

fn distance(instructions: usize) -> Result<u8, Error> {
    u8::try_from(instructions).map_err(|error| Error(error.to_string()))
}

fn rows(profile: Seccomp) -> Vec<&'static Row> {
    let refused = |row: &&Row| match profile {
        Seccomp::Off => false,
        Seccomp::Lenient => row.from == Seccomp::Lenient,
        Seccomp::Strict => true,
    };
    TABLE.iter().filter(refused).collect()
}

/// No rule at all means always.
fn rule(when: When) -> Result<Option<SeccompRule>, Error> {
    let low = |argument, operator, value: u32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value.into())
    };
    let conditions = match when {
        When::Always => return Ok(None),
        When::Low32(argument, value) => vec![low(argument, SeccompCmpOp::Eq, value)],
        When::Bits(argument, bits) => vec![SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(bits),
            bits,
        )],
        When::NoneOf(argument, values) => {
            let other = |value: &u32| low(argument, SeccompCmpOp::Ne, *value);
            values.iter().map(other).collect()
        }
    };
    conditions
        .into_iter()
        .collect::<Result<_, _>>()
        .and_then(SeccompRule::new)
        .map(Some)
        .map_err(|error| Error(error.to_string()))
}

const fn statement(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would: enough of BPF for what is generated here.
    fn decide(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend(0u64.to_ne_bytes());
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        let (mut at, mut value) = (0, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let code = u32::from(step.code);
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            match code & 0x07 {
                libc::BPF_LD => {
                    let from = step.k as usize;
                    value = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                }
                libc::BPF_ALU => value &= step.k,
                libc::BPF_JMP => {
                    at += match code & 0xf0 {
                        libc::BPF_JA => step.k as usize,
                        libc::BPF_JEQ => jump(value == step.k),
                        libc::BPF_JGE => jump(value >= step.k),
                        libc::BPF_JGT => jump(value > step.k),
                        other => panic!("jump {other}"),
                    }
                }
                libc::BPF_RET => return step.k,
                other => panic!("class {other}"),
            }
        }
    }

    const EPERM: u32 = errno(libc::EPERM);
    const ENOSYS: u32 = errno(libc::ENOSYS);
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    fn filtered(profile: Seccomp, number: c_long, arguments: [u64; 6]) -> u32 {
        let program = compile(profile, &[], &[]).unwrap().unwrap();
        decide(&program, ARCHITECTURE.1, number as u32, arguments)
    }

    #[test]
    fn terminal_injection_is_refused_whatever_the_high_bits_say() {
        for request in [libc::TIOCSTI, libc::TIOCLINUX] {
            for high in [0, 1 << 32, 0xffff_ffff << 32] {
                let arguments = [0, request | high, 0, 0, 0, 0];
                for profile in [Seccomp::Lenient, Seccomp::Strict] {
                    assert_eq!(filtered(profile, libc::SYS_ioctl, arguments), EPERM);
                }
            }
        }
        let window_size = [0, libc::TIOCGWINSZ, 0, 0, 0, 0];
        assert_eq!(
            filtered(Seccomp::Strict, libc::SYS_ioctl, window_size),
            ALLOW
        );
    }

    #[test]
    fn every_row_refuses_from_its_profile_on() {
        for row in TABLE {
            let mut arguments = [0; 6];
            match row.when {
                When::Always => {}
                When::Low32(index, value) => arguments[usize::from(index)] = value.into(),
                When::Bits(index, bits) => arguments[usize::from(index)] = bits | 1,
                When::NoneOf(index, values) => {
                    let last = values.iter().max().unwrap();
                    arguments[usize::from(index)] = u64::from(last + 1);
                }
            }
            let refused = match row.refusal {
                Refusal::Denied => EPERM,
                Refusal::Unknown => ENOSYS,
            };
            let lenient = if row.from == Seccomp::Lenient {
                refused
            } else {
                ALLOW
            };
            assert_eq!(
                filtered(Seccomp::Strict, row.number, arguments),
                refused,
                "{row:?}"
            );
            assert_eq!(
                filtered(Seccomp::Lenient, row.number, arguments),
                lenient,
                "{row:?}"
            );
        }
    }

    #[test]
    fn ordinary_calls_pass() {
        let fork = [libc::SIGCHLD as u64, 0, 0, 0, 0, 0];
        assert_eq!(filtered(Seccomp::Strict, libc::SYS_clone, fork), ALLOW);
        for number in [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_openat,
            libc::SYS_socket,
        ] {
            assert_eq!(filtered(Seccomp::Strict, number, [1; 6]), ALLOW);
        }
        for family in [
            libc::AF_UNIX,
            libc::AF_INET,
            libc::AF_INET6,
            libc::AF_NETLINK,
        ] {
            let arguments = [family as u64, 1, 0, 0, 0, 0];
            assert_eq!(
                filtered(Seccomp::Strict, libc::SYS_socket, arguments),
                ALLOW
            );
        }
        assert!(compile(Seccomp::Off, &[], &[]).unwrap().is_none());
    }

    #[test]
    fn every_number_is_decided_as_without_the_search() {
        let (notified, pretended) = ([libc::SYS_fchownat], [libc::SYS_setgroups, libc::SYS_sync]);
        for profile in [Seccomp::Off, Seccomp::Lenient, Seccomp::Strict] {
            let program = compile(profile, &notified, &pretended).unwrap().unwrap();
            let rows = rows(profile);
            for number in 0..600 {
                let row = rows.iter().find(|row| row.number == number);
                if row.is_some_and(|row| row.when != When::Always) {
                    continue;
                }
                let expected = match row {
                    Some(row) if row.refusal == Refusal::Denied => EPERM,
                    Some(_) => ENOSYS,
                    None if notified.contains(&number) => NOTIFY,
                    None if pretended.contains(&number) => errno(0),
                    None => ALLOW,
                };
                let decided = decide(&program, ARCHITECTURE.1, number as u32, [0; 6]);
                assert_eq!(decided, expected, "{profile:?} {number}");
            }
        }
    }

    #[test]
    fn foreign_tables_are_refused() {
        let program = compile(Seccomp::Lenient, &[], &[]).unwrap().unwrap();
        const I386: u32 = 0x4000_0003;
        let killed = decide(&program, I386, libc::SYS_read as u32, [0; 6]);
        assert_eq!(killed, libc::SECCOMP_RET_KILL_PROCESS);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(decide(&program, ARCHITECTURE.1, X32 | 16, [0; 6]), ENOSYS);
    }

    #[test]
    fn notified_and_pretended_calls_are_answered_without_a_profile() {
        let program = compile(Seccomp::Off, &[libc::SYS_fchownat], &[libc::SYS_setgroups]);
        let program = program.unwrap().unwrap();
        let decide = |number: c_long| decide(&program, ARCHITECTURE.1, number as u32, [0; 6]);
        assert_eq!(decide(libc::SYS_fchownat), NOTIFY);
        assert_eq!(decide(libc::SYS_setgroups), errno(0));
        assert_eq!(decide(libc::SYS_read), ALLOW);
    }
}
