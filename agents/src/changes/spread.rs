//! Work on several processors, where there is enough of it.
//!
//! Reading ten thousand small files is system calls for the most part, which two threads do in half the time.

use std::{
    num::NonZero,
    sync::{Condvar, Mutex, OnceLock, PoisonError},
    thread,
};

/// With fewer items than this, starting threads costs more than it gives.
const MANY: usize = 32;

/// How many threads at most: beyond that the file system's locks are what is waited for.
const THREADS: usize = 4;

fn threads() -> usize {
    /// Asked once: the standard library reads three files of control groups for it.
    static AVAILABLE: OnceLock<usize> = OnceLock::new();
    let available =
        AVAILABLE.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get));
    THREADS.min(*available)
}

struct Queue<T> {
    waiting: Vec<T>,
    /// Items that are worked on, and may give more.
    working: usize,
    failed: bool,
}

/// Works on items that may give more items, until there are none or one fails. Gives the workers, each with what it found.
pub(super) fn spread<T: Send, W: Send, E: Send>(
    first: T,
    make: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, T, &mut Vec<T>) -> Result<(), E> + Sync,
) -> Result<Vec<W>, E> {
    let mut worker = make();
    let mut waiting = vec![first];
    let threads = threads();
    while threads == 1 || waiting.len() < MANY {
        let Some(item) = waiting.pop() else {
            return Ok(vec![worker]);
        };
        work(&mut worker, item, &mut waiting)?;
    }
    let queue = Mutex::new(Queue {
        waiting,
        working: 0,
        failed: false,
    });
    let wake = Condvar::new();
    let run = |mut worker: W| {
        let mut more = Vec::new();
        while let Some(item) = next(&queue, &wake) {
            let done = work(&mut worker, item, &mut more);
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.working -= 1;
            queue.waiting.append(&mut more);
            queue.failed |= done.is_err();
            wake.notify_all();
            drop(queue);
            done?;
        }
        Ok(worker)
    };
    thread::scope(|scope| {
        // Where the system gives no thread, there is one less.
        let start = |_| {
            thread::Builder::new()
                .spawn_scoped(scope, || run(make()))
                .ok()
        };
        let others: Vec<_> = (1..threads).filter_map(start).collect();
        let mut workers = vec![run(worker)];
        workers.extend(others.into_iter().map(|other| match other.join() {
            Ok(worker) => worker,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        workers.into_iter().collect()
    })
}

/// The next item; waits while others may still give some.
fn next<T>(queue: &Mutex<Queue<T>>, wake: &Condvar) -> Option<T> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if queue.failed {
            return None;
        }
        if let Some(item) = queue.waiting.pop() {
            queue.working += 1;
            return Some(item);
        }
        if queue.working == 0 {
            return None;
        }
        queue = wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Each item's result, in their order.
pub(super) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = threads();
    if threads == 1 || items.len() < MANY {
        return items.iter().map(work).collect();
    }
    let part = items.len().div_ceil(threads);
    let run = |part: &[T]| part.iter().map(&work).collect::<Vec<R>>();
    thread::scope(|scope| {
        let run = &run;
        let mut parts = items.chunks(part);
        let own = parts.next().unwrap_or_default();
        let start = |part| {
            let other = thread::Builder::new().spawn_scoped(scope, move || run(part));
            (part, other.ok())
        };
        let others: Vec<_> = parts.map(start).collect();
        let mut results = run(own);
        for (part, other) in others {
            match other.map(thread::ScopedJoinHandle::join) {
                Some(Ok(more)) => results.extend(more),
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                // The system gave no thread.
                None => results.extend(run(part)),
            }
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_work_is_done_once_and_a_failure_ends_it() {
        // A tree of numbers: each below a thousand gives two more.
        let visit = |found: &mut Vec<u32>, item: u32, more: &mut Vec<u32>| {
            found.push(item);
            if item < 1000 {
                more.extend([2 * item, 2 * item + 1]);
            }
            if item == 1777 { Err(item) } else { Ok(()) }
        };
        let all = spread(1, Vec::new, |found, item, more| {
            match visit(found, item, more) {
                Ok(()) | Err(_) => Ok::<_, ()>(()),
            }
        });
        let mut all = all.unwrap().concat();
        all.sort_unstable();
        assert_eq!(all, (1..2000).collect::<Vec<_>>());
        assert_eq!(spread(1, Vec::new, visit), Err(1777));
    }

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, 31, 32, 33, 1000] {
            let items: Vec<u32> = (0..count).collect();
            let expected: Vec<u32> = items.iter().map(|item| item * 2).collect();
            assert_eq!(each(&items, |item| item * 2), expected);
        }
    }
}
