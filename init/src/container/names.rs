//! What people call signals and errors.

/// Names of the signals from 1 on, without SIG.
const SIGNALS: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP \
    TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// What strsignal(3) says of the same.
const DESCRIPTIONS: &str = "Hangup\nInterrupt\nQuit\nIllegal instruction\nTrace/breakpoint trap\nAborted\nBus error\n\
    Floating point exception\nKilled\nUser defined signal 1\nSegmentation fault\nUser defined signal 2\nBroken pipe\n\
    Alarm clock\nTerminated\nStack fault\nChild exited\nContinued\nStopped (signal)\nStopped\nStopped (tty input)\n\
    Stopped (tty output)\nUrgent I/O condition\nCPU time limit exceeded\nFile size limit exceeded\n\
    Virtual timer expired\nProfiling timer expired\nWindow changed\nI/O possible\nPower failure\nBad system call";

/// What strerror(3) says of the errors from 1 on; nothing where none of the calls made here gives it.
const ERRORS: &str = "Operation not permitted\nNo such file or directory\nNo such process\nInterrupted system call\n\
    Input/output error\nNo such device or address\nArgument list too long\nExec format error\nBad file descriptor\n\
    No child processes\nResource temporarily unavailable\nCannot allocate memory\nPermission denied\nBad address\n\n\
    Device or resource busy\n\n\nNo such device\nNot a directory\nIs a directory\nInvalid argument\n\
    Too many open files in system\nToo many open files\nInappropriate ioctl for device\nText file busy\n\n\n\n\n\n\n\n\n\n\
    File name too long\n\nFunction not implemented\n\nToo many levels of symbolic links";

/// The signal of this name, without SIG.
pub fn signal(name: &[u8]) -> Option<i32> {
    let at = split(SIGNALS, b' ').position(|known| known == name)?;
    Some(at as i32 + 1)
}

/// In words; empty when there are none.
pub fn description(signal: i32) -> &'static [u8] {
    pick(DESCRIPTIONS, signal)
}

/// In words; empty when there are none.
pub fn error(number: i32) -> &'static [u8] {
    pick(ERRORS, number)
}

fn pick(list: &'static str, number: i32) -> &'static [u8] {
    let at = (number as usize).wrapping_sub(1);
    split(list, b'\n').nth(at).unwrap_or_default()
}

fn split(list: &'static str, separator: u8) -> impl Iterator<Item = &'static [u8]> {
    list.as_bytes().split(move |&byte| byte == separator)
}
