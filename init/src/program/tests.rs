use super::*;

fn bytes(operations: &[Operation<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink = |more: &[u8]| bytes.extend_from_slice(more);
    let header = Header {
        namespaces: 0x7e02_0000,
        flags: MAPS_FROM_OUTSIDE,
        uid_map: c"0 0 1\n",
        gid_map: c"",
    };
    header.write(&mut sink);
    operations
        .iter()
        .for_each(|operation| operation.write(&mut sink));
    bytes
}

const SOME: [Operation<'static>; 5] = [
    Operation::MakePrivate {},
    Operation::CopyTree {
        to: Slot(3),
        path: c"/etc/hosts",
        optional: true,
    },
    Operation::Overlay {
        lowers: Slots(&[1, 0, 2, 0]),
        upper: Slot(7),
        work: Slot(8),
        on: Slot(0),
        path: c"/tmp",
        volatile: true,
    },
    Operation::Ensure {
        to: Slot(9),
        root: Slot(1),
        path: c"/a",
        like: Like::Tree(Slot(3)),
    },
    Operation::MakeFile {
        parent: Slot(1),
        path: c"f",
        mode: 0o644,
        content: b"text\0more",
    },
];

#[test]
fn what_is_written_is_read() {
    let bytes = bytes(&SOME);
    let program = Program::parse(&bytes).unwrap();
    assert_eq!(program.header.uid_map, c"0 0 1\n");
    let read: Vec<_> = program.operations().map(Result::unwrap).collect();
    assert_eq!(read, SOME);
}

/// A cut or changed program is refused where it is wrong; nothing is read beyond its end.
#[test]
fn no_bytes_are_taken_for_what_they_are_not() {
    let whole = bytes(&SOME);
    for length in 0..whole.len() {
        if let Ok(program) = Program::parse(&whole[..length]) {
            assert!(program.operations().count() <= SOME.len());
        }
    }
    let mut unknown = bytes(&[]);
    unknown.push(200);
    let program = Program::parse(&unknown).unwrap();
    assert_eq!(program.operations().collect::<Vec<_>>(), [Err(Malformed)]);
    let mut other = whole.clone();
    other[3] = b'1';
    assert!(Program::parse(&other).is_err());
}

#[test]
fn a_string_without_its_end_is_refused() {
    let mut reader = Reader::new(b"\x02\0\0\0ab");
    assert_eq!(<&CStr>::read(&mut reader), Err(Malformed));
    let mut reader = Reader::new(b"\x03\0\0\0a\0b");
    assert_eq!(<&CStr>::read(&mut reader), Err(Malformed));
}
