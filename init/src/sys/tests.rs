use super::*;

#[test]
fn statuses_become_shell_codes() {
    assert_eq!(shell_code(0x0700), 7);
    assert_eq!(shell_code(constant::SIGKILL), 137);
    assert_eq!(shell_code(constant::SIGSEGV | 0x80), 139);
}

#[test]
fn sets_of_signals_are_those_of_the_kernel() {
    let set = SignalSet::of(&[constant::SIGHUP, constant::SIGSYS]);
    assert_eq!(set.0, 1 | 1 << 30);
    assert!(set.has(constant::SIGHUP) && !set.without(constant::SIGHUP).has(constant::SIGHUP));
}

#[test]
fn a_child_shares_memory_until_it_ends_and_its_status_is_reaped() {
    let mut seen = 0;
    let mut stack = Region::new(64 * 1024).unwrap();
    let pid = spawn(&mut stack, &mut || {
        seen = own_pid();
        7
    })
    .unwrap();
    assert_eq!(seen, pid);
    assert_eq!(wait_for(pid), Ok(0x0700));
}

#[test]
fn strings_come_back_from_a_vector() {
    let strings = [c"one", c"", c"three"];
    let vector = Vector::new(strings.into_iter()).unwrap();
    assert!(vector.iter().eq(strings));
}

#[test]
fn packets_keep_apart_and_carry_descriptors() {
    let (one, other) = packet_pair().unwrap();
    let file = memory_file(c"test", false).unwrap();
    write_all(file, b"content").unwrap();
    send(one, b"first", &[file, one]).unwrap();
    send(one, b"second", &[]).unwrap();
    let mut buffer = [0; 16];
    let packet = receive(other, &mut buffer, true).unwrap();
    assert_eq!((&buffer[..packet.length], packet.count), (&b"first"[..], 2));
    let size = status_at(packet.descriptors[0], c"", true).unwrap().size;
    assert_eq!(size, 7);
    let packet = receive(other, &mut buffer, true).unwrap();
    assert_eq!(
        (&buffer[..packet.length], packet.count),
        (&b"second"[..], 0)
    );
    assert_eq!(
        receive(other, &mut buffer, false).err(),
        Some(Errno(constant::EAGAIN))
    );
}

/// A command that ends while another signal is on its way to it has ended all the same.
#[test]
fn what_was_said_last_is_heard_though_not_all_was_read() {
    let (one, other) = packet_pair().unwrap();
    send(one, b"too late", &[]).unwrap();
    send(other, b"last", &[]).unwrap();
    close(other);
    let mut buffer = [0; 16];
    let length = receive(one, &mut buffer, true).unwrap().length;
    assert_eq!(&buffer[..length], b"last");
    assert_eq!(receive(one, &mut buffer, true).unwrap().length, 0);
}

#[test]
fn a_packet_that_does_not_fit_says_how_long_it_was() {
    let (one, other) = packet_pair().unwrap();
    send(one, &[1; 100], &[]).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(receive(other, &mut buffer, true).unwrap().length, 100);
}

#[test]
fn a_files_status_is_what_the_standard_library_sees() {
    use std::os::unix::fs::MetadataExt as _;
    let ours = status_at(constant::AT_FDCWD, c"/proc/self/exe", true).unwrap();
    let theirs = std::fs::metadata("/proc/self/exe").unwrap();
    assert_eq!(ours.size, theirs.len());
    assert_eq!(
        (ours.mode, ours.uid, ours.inode),
        (theirs.mode(), theirs.uid(), theirs.ino())
    );
    assert_eq!(
        (ours.modified.0, ours.changed.0),
        (theirs.mtime(), theirs.ctime())
    );
}
