use super::*;

fn check() -> Check<'static> {
    Check {
        path: c"/p/envd.lock",
        follow: true,
        found: Some(Status {
            mode: 0o100_644,
            uid: 1000,
            inode: 77,
            device: (8, 1),
            size: 12,
            modified: (-1, 999),
            changed: (1 << 40, 5),
        }),
    }
}

fn written() -> Vec<u8> {
    let mut checks = Vec::new();
    let absent = Check {
        path: c"/p/.git",
        follow: false,
        found: None,
    };
    check().write(&mut |more: &[u8]| checks.extend_from_slice(more));
    absent.write(&mut |more: &[u8]| checks.extend_from_slice(more));
    let start = Start {
        facts: b"facts",
        inside: 1,
        project: c"/p",
        view: c"/s/views/x",
        hostname: c"host",
        boot: b"boot",
        flags: NEW_SESSION,
        limits: &[],
        check_bytes: &checks,
        variables: b"A=1\0B=2\0",
        program: b"program",
    };
    let mut bytes = Vec::new();
    start.write(&mut |more: &[u8]| bytes.extend_from_slice(more));
    bytes
}

#[test]
fn what_is_written_is_read() {
    let bytes = written();
    let start = Start::parse(&bytes).unwrap();
    assert_eq!((start.project, start.program), (c"/p", &b"program"[..]));
    assert!(start.environment().eq([c"A=1", c"B=2"]));
    let checks: Vec<_> = start.checks().map(Result::unwrap).collect();
    assert_eq!(checks[0], check());
    assert_eq!(checks[1].found, None);
}

/// The file is the user's own, but a disk may have cut it.
#[test]
fn what_is_cut_is_refused() {
    let bytes = written();
    for length in 0..bytes.len() {
        assert!(Start::parse(&bytes[..length]).is_err(), "{length}");
    }
}
