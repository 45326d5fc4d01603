//! The processes of the environment as PID 1 finds them in /proc: to kill a command with all its descendants, and to stop
//! everything for a moment.
//!
//! Whoever runs inside is against it: forks while it is read, leaves its session, kills what it may. So nothing depends on one
//! reading. What is seen is stopped first, and only when a reading shows nothing new is it killed: what is stopped cannot fork,
//! and it takes up its place among the processes that the environment may have, so that this comes to an end.

use crate::sys::{self, Descriptor, Errno, Pid, Region, constant::*};

/// Processes that are looked at in one reading.
const MOST: usize = 32 * 1024;
/// The kernel's own limit to process numbers (PID_MAX_LIMIT).
const MOST_NUMBERS: usize = 4 << 20;
/// Readings after which everything inside is killed: somebody keeps waking what was stopped.
const PATIENCE: u32 = 2000;
/// Readings, a millisecond apart, in which everything must have stopped.
const STOPPING: u32 = 2000;

/// One process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// Its parent's.
    pub parent: Pid,
    /// Its state, a letter as in proc_pid_stat(5).
    pub state: u8,
}

impl Process {
    /// From the text of `/proc/PID/stat`. A command's name may hold anything but a zero byte, `)` included.
    pub fn parse(stat: &[u8]) -> Option<Self> {
        let (pid, _) = number(stat)?;
        let name = stat.iter().rposition(|byte| *byte == b')')?;
        match stat.get(name + 1..)? {
            [b' ', state, b' ', rest @ ..] => Some(Process {
                pid,
                parent: number(rest)?.0,
                state: *state,
            }),
            _ => None,
        }
    }

    /// Ended, and perhaps not reaped.
    fn is_gone(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    fn is_stopped(self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// The digits at the beginning, and how many they are.
fn number(text: &[u8]) -> Option<(Pid, usize)> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut number: Pid = 0;
    for digit in text.get(..digits)? {
        number = number
            .checked_mul(10)?
            .checked_add(Pid::from(digit - b'0'))?;
    }
    (digits > 0).then_some((number, digits))
}

/// A command that is to be killed with all that descends from it.
pub struct Tree<'t> {
    /// Its keeper, below which all of it is (see [`sys::keep`]).
    pub keeper: Pid,
    /// The command.
    pub command: Pid,
    /// What else PID 1 looks after: these, and all below them, stay whatever happens.
    pub others: &'t [Pid],
    /// Whether the command has ended, and its keeper with it.
    pub has_ended: &'t dyn Fn() -> bool,
}

/// Which processes are meant.
#[derive(Clone, Copy, Debug)]
pub enum Which<'w> {
    /// All below this one, without itself.
    Below(Pid),
    /// All but PID 1, these, and all below these.
    AllBut(&'w [Pid]),
}

/// What was read of /proc, and what was signalled.
#[derive(Debug)]
pub struct Table {
    rows: Region,
    count: usize,
    /// A bit for each number.
    noted: Region,
}

/// Bits of a row's second word above its state.
const MEANT: usize = 1 << 8;

impl Table {
    /// An empty one. Its memory is there when it is used.
    pub fn new() -> Result<Self, Errno> {
        Ok(Table {
            rows: Region::new(MOST * 16)?,
            count: 0,
            noted: Region::new(MOST_NUMBERS / 8)?,
        })
    }

    /// Reads /proc.
    fn read(&mut self) -> Result<(), Errno> {
        self.count = 0;
        let proc = sys::open_at(AT_FDCWD, c"/proc", sys::DIRECTORY & !O_PATH, 0)?;
        let read = self.read_from(proc);
        sys::close(proc);
        read
    }

    fn read_from(&mut self, proc: Descriptor) -> Result<(), Errno> {
        let mut buffer = [0; 4096];
        loop {
            let length = sys::read_directory(proc, &mut buffer)?;
            let mut entries = buffer.get(..length).unwrap_or_default();
            if entries.is_empty() {
                return Ok(());
            }
            // u64 inode, u64 offset, u16 length of the entry, u8 type, then the name and a zero byte.
            while let Some(size) = entries.get(16..18) {
                let size = usize::from(u16::from_ne_bytes([size[0], size[1]]));
                let name = entries.get(19..size).unwrap_or_default();
                if let Some(process) = status(proc, name)
                    && self.count < MOST
                {
                    self.set(self.count, process);
                    self.count += 1;
                }
                entries = entries.get(size.max(1)..).unwrap_or_default();
            }
        }
    }

    fn set(&mut self, row: usize, process: Process) {
        let words = self.rows.words_mut();
        words[2 * row] = process.pid as usize | (process.parent as usize) << 32;
        words[2 * row + 1] = usize::from(process.state);
    }

    fn row(&mut self, row: usize) -> (Process, bool) {
        let words = self.rows.words_mut();
        let process = Process {
            pid: words[2 * row] as u32 as Pid,
            parent: (words[2 * row] >> 32) as Pid,
            state: words[2 * row + 1] as u8,
        };
        (process, words[2 * row + 1] & MEANT != 0)
    }

    fn mean(&mut self, row: usize, meant: bool) {
        let word = &mut self.rows.words_mut()[2 * row + 1];
        *word = *word & !MEANT | if meant { MEANT } else { 0 };
    }

    /// Marks those that are meant.
    fn select(&mut self, which: Which<'_>) {
        let roots = match which {
            Which::Below(ref root) => core::slice::from_ref(root),
            Which::AllBut(roots) => roots,
        };
        for row in 0..self.count {
            let pid = self.row(row).0.pid;
            self.mean(row, roots.contains(&pid));
        }
        // A child's row mostly comes after its parent's; one number that was used again takes another round.
        let mut changed = true;
        while changed {
            changed = false;
            for row in 0..self.count {
                let (process, meant) = self.row(row);
                if !meant && self.is_meant(process.parent) {
                    self.mean(row, true);
                    changed = true;
                }
            }
        }
        for row in 0..self.count {
            let (process, marked) = self.row(row);
            let meant = match which {
                Which::Below(root) => marked && process.pid != root,
                Which::AllBut(_) => !marked && process.pid != 1,
            };
            self.mean(row, meant);
        }
    }

    fn is_meant(&mut self, pid: Pid) -> bool {
        // By halves where numbers go up, as /proc lists them.
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.row(middle).0.pid < pid {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low < self.count && {
            let (process, meant) = self.row(low);
            process.pid == pid && meant
        }
    }

    /// Notes a number; whether it was noted already.
    fn note(&mut self, pid: Pid) -> bool {
        let at = pid as usize / 8;
        let Some(byte) = self.noted.bytes_mut().get_mut(at) else {
            return false;
        };
        let bit = 1 << (pid % 8);
        let before = *byte & bit != 0;
        *byte |= bit;
        before
    }

    fn is_noted(&self, pid: Pid) -> bool {
        let byte = self.noted.bytes().get(pid as usize / 8);
        byte.is_some_and(|byte| byte & 1 << (pid % 8) != 0)
    }

    /// Kills a command with all its descendants, and does not come back before they are dead, but for the command itself, which
    /// goes last: with it ends its keeper, and what is left would fall to PID 1. Should the keeper be gone before (somebody inside
    /// has killed it), what it kept cannot be told from what others left: then all that goes, too.
    pub fn kill(&mut self, tree: &Tree<'_>) {
        for reading in 0..PATIENCE {
            if self.read().is_err() {
                break;
            }
            // Looked at after the reading: a keeper that is not in it has ended before.
            if (tree.has_ended)() {
                return self.kill_noted();
            }
            let keeps = (0..self.count)
                .map(|row| self.row(row).0)
                .any(|process| process.pid == tree.keeper && !process.is_gone());
            self.select(match keeps {
                true => Which::Below(tree.keeper),
                false => Which::AllBut(tree.others),
            });
            let last = if keeps { tree.command } else { 0 };
            let (mut left, mut fresh) = (false, false);
            for row in 0..self.count {
                let (process, meant) = self.row(row);
                if meant && !process.is_gone() {
                    left |= process.pid != last;
                    if !self.note(process.pid) {
                        fresh = true;
                        let _ = sys::kill(process.pid, SIGSTOP);
                    }
                }
            }
            if !fresh && !left {
                if keeps {
                    let _ = sys::kill(last, SIGKILL);
                    // Somebody inside may stop it again and again, so that it would never see that its command is gone.
                    let _ = sys::kill(tree.keeper, SIGKILL);
                }
                return;
            }
            if !fresh {
                for row in 0..self.count {
                    let (process, meant) = self.row(row);
                    if meant && process.pid != last {
                        let _ = sys::kill(process.pid, SIGKILL);
                    }
                }
                // Those that die take their time; those that are stopped need none.
                sys::nap(1);
            } else if reading > PATIENCE / 2 {
                sys::nap(1);
            }
        }
        let _ = sys::kill(-1, SIGKILL);
    }

    /// Kills what was stopped of a command that has ended by itself in this very moment.
    fn kill_noted(&mut self) {
        for row in 0..self.count {
            let process = self.row(row).0;
            if self.is_noted(process.pid) {
                let _ = sys::kill(process.pid, SIGKILL);
            }
        }
    }

    /// Stops everything inside but PID 1. `Err` says which process did not stop; then all that this stopped goes on.
    ///
    /// kill(2) to all reaches all there are: a fork that has not happened by then fails and is done again when its process goes
    /// on.
    pub fn freeze(&mut self) -> Result<(), Pid> {
        self.noted.bytes_mut().fill(0);
        if self.read().is_err() {
            return Err(1);
        }
        for row in 0..self.count {
            let process = self.row(row).0;
            if process.is_stopped() {
                self.note(process.pid);
            }
        }
        let _ = sys::kill(-1, SIGSTOP);
        let mut moving = 1;
        for _ in 0..STOPPING {
            moving = match self.read() {
                Ok(()) => self.moving(),
                Err(_) => 1,
            };
            if moving == 0 {
                return Ok(());
            }
            sys::nap(1);
        }
        self.thaw();
        Err(moving)
    }

    /// A process that has not stopped; 0 when there is none.
    fn moving(&mut self) -> Pid {
        for row in 0..self.count {
            let process = self.row(row).0;
            let still = process.pid == 1
                || process.is_stopped()
                || process.is_gone()
                || process.state == b'D' && self.waits_for_child(process.pid);
            if !still {
                return process.pid;
            }
        }
        0
    }

    /// Whether a process waits in vfork(2) for a child that is stopped: it will not stop, and does nothing either.
    fn waits_for_child(&mut self, pid: Pid) -> bool {
        (0..self.count)
            .map(|row| self.row(row).0)
            .any(|process| process.parent == pid && process.is_stopped())
    }

    /// Lets go on what [`Table::freeze`] has stopped: children first, whose parents then see nothing of it.
    pub fn thaw(&mut self) {
        if self.read().is_err() {
            self.count = 0;
            let _ = sys::kill(-1, SIGCONT);
        }
        for row in (0..self.count).rev() {
            let process = self.row(row).0;
            if process.pid != 1 && !self.is_noted(process.pid) {
                let _ = sys::kill(process.pid, SIGCONT);
            }
        }
    }
}

/// Reads the status of the process that a name of /proc stands for.
fn status(proc: Descriptor, name: &[u8]) -> Option<Process> {
    let (_, digits) = number(name)?;
    if name.get(digits) != Some(&0) {
        return None;
    }
    let mut path = [0; 24];
    for (part, at) in [(name.get(..digits)?, 0), (b"/stat", digits)] {
        path.get_mut(at..at + part.len())?.copy_from_slice(part);
    }
    let path = core::ffi::CStr::from_bytes_until_nul(&path).ok()?;
    let file = sys::open_at(proc, path, 0, 0).ok()?;
    let mut text = [0; 256];
    let read = sys::read(file, &mut text);
    sys::close(file);
    Process::parse(text.get(..read.ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_the_rest_deceives_nobody() {
        let stat = b"17 (a) S 1 (b) R) T 4 17 17 0 -1 4194560";
        let process = Process::parse(stat).unwrap();
        assert_eq!(
            process,
            Process {
                pid: 17,
                parent: 4,
                state: b'T'
            }
        );
        for wrong in [
            &b""[..],
            b"x (a) S 1",
            b"1 (a) S",
            b"1 a S 1",
            b"99999999999 (a) S 1 ",
        ] {
            assert_eq!(Process::parse(wrong), None);
        }
    }

    fn table(rows: &[(Pid, Pid)]) -> Table {
        let mut table = Table::new().unwrap();
        for (row, &(pid, parent)) in rows.iter().enumerate() {
            let state = b'S';
            table.set(row, Process { pid, parent, state });
        }
        table.count = rows.len();
        table
    }

    fn meant(table: &mut Table, which: Which<'_>) -> Vec<Pid> {
        table.select(which);
        (0..table.count)
            .map(|row| table.row(row))
            .filter(|(_, meant)| *meant)
            .map(|(process, _)| process.pid)
            .collect()
    }

    #[test]
    fn descendants_are_found_whatever_their_numbers() {
        // 9's child has got a lower number, after numbers began anew.
        let rows = [(1, 0), (2, 1), (3, 2), (4, 9), (5, 1), (9, 3), (10, 5)];
        let mut table = table(&rows);
        assert_eq!(meant(&mut table, Which::Below(2)), [3, 4, 9]);
        assert_eq!(meant(&mut table, Which::Below(5)), [10]);
        assert_eq!(meant(&mut table, Which::Below(77)), []);
        assert_eq!(meant(&mut table, Which::AllBut(&[2])), [5, 10]);
        assert_eq!(meant(&mut table, Which::AllBut(&[])), [2, 3, 4, 5, 9, 10]);
    }

    #[test]
    fn this_process_finds_itself_and_its_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let mut table = Table::new().unwrap();
        table.read().unwrap();
        let below = meant(&mut table, Which::Below(std::process::id() as Pid));
        assert!(below.contains(&(child.id() as Pid)), "{below:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
