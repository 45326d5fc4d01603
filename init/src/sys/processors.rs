//! The processors that a process may run on.

use super::call;

/// Words of a mask: 1,024 processors. A kernel that may have more is left alone.
const WORDS: usize = 16;

/// A set of processors (sched_setaffinity(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Processors {
    mask: [u64; WORDS],
    /// Bytes of it that the kernel knows of.
    length: usize,
}

impl Processors {
    /// Those that this process may run on; `None` where that cannot be said.
    pub fn own() -> Option<Self> {
        let mut mask = [0; WORDS];
        // SAFETY: the kernel writes as many bytes as are named at most.
        let length =
            unsafe { call!(SCHED_GETAFFINITY, 0, size_of_val(&mask), mask.as_mut_ptr()) }.ok()?;
        Some(Self { mask, length })
    }

    /// The one that this process is on.
    fn current(length: usize) -> Option<Self> {
        let mut number: u32 = 0;
        // SAFETY: the kernel writes one number; the others are not wanted.
        unsafe { call!(GETCPU, &raw mut number, 0usize, 0usize) }.ok()?;
        let mut mask = [0; WORDS];
        *mask.get_mut(number as usize / 64)? = 1 << (number % 64);
        Some(Self { mask, length })
    }

    fn is_one(&self) -> bool {
        self.mask.iter().map(|word| word.count_ones()).sum::<u32>() == 1
    }

    /// Has this process, and those that it makes from now on, run on these. Where the machine has taken them away meanwhile, the
    /// kernel's choice stays.
    pub fn take(&self) {
        // SAFETY: the kernel reads as many bytes as are named, no more than there are.
        let _ = unsafe { call!(SCHED_SETAFFINITY, 0, self.length, self.mask.as_ptr()) };
    }
}

/// Keeps this process, and those that it makes, on the processor that it is on; gives the set that it had, to be taken back.
/// `None` where there is no choice, and nothing has changed.
///
/// Processes that take turns gain nothing by another processor, but wake it from its sleep at each turn.
pub fn stay() -> Option<Processors> {
    let before = Processors::own().filter(|own| !own.is_one())?;
    Processors::current(before.length)?.take();
    Some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Affinity is a thread's: the test's own, here.
    #[test]
    fn who_stays_is_on_one_and_back_on_all() {
        let before = Processors::own().unwrap();
        match stay() {
            Some(given) => {
                assert_eq!(given, before);
                assert!(Processors::own().unwrap().is_one());
                given.take();
            }
            None => assert!(before.is_one()),
        }
        assert_eq!(Processors::own(), Some(before));
    }
}
