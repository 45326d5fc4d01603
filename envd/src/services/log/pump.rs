//! From a service's pipe to its log.

use std::{io, os::fd::OwnedFd, sync::Arc};

use tokio::{io::AsyncReadExt as _, net::unix::pipe};

use super::{LINE_MAX, Log, Origin, line};

/// Writes what comes out of `pipe` to the log, until everybody who holds its other end has let go of it.
pub(in crate::services) async fn pump(pipe: OwnedFd, log: Arc<Log>) -> io::Result<()> {
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    let mut lines = Lines::default();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = pipe.read(&mut buffer).await?;
        let out = match length {
            0 => lines.end(),
            length => lines.add(&buffer[..length]),
        };
        if !out.is_empty() {
            log.add(&out);
        }
        if length == 0 {
            return Ok(());
        }
        // A service that writes without end does not keep the others from running.
        tokio::task::yield_now().await;
    }
}

/// Makes lines of pieces.
#[derive(Default)]
struct Lines {
    /// The beginning of a line. Shorter than [`LINE_MAX`].
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that `piece` completes, as they are written.
    fn add(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            for &byte in text {
                self.begun.push(byte);
                if self.begun.len() == LINE_MAX {
                    out.extend(self.take());
                }
            }
            if ends {
                out.extend(self.take());
            }
        }
        out
    }

    /// The last line, which nothing ends.
    fn end(&mut self) -> Vec<u8> {
        match self.begun.is_empty() {
            true => Vec::new(),
            false => self.take(),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let text = std::mem::take(&mut self.begun);
        let text = text.strip_suffix(b"\r").unwrap_or(&text);
        line(Origin::Service, text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The texts of lines as written.
    fn texts(written: &[u8]) -> Vec<Vec<u8>> {
        let lines = written.split_inclusive(|byte| *byte == b'\n');
        lines
            .map(|line| line[27..line.len() - 1].to_vec())
            .collect()
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_last_one_is_kept() {
        let mut lines = Lines::default();
        let mut written = lines.add(&vec![b'x'; 2 * LINE_MAX + 5]);
        written.extend(lines.end());
        let lengths: Vec<usize> = texts(&written).iter().map(Vec::len).collect();
        assert_eq!(lengths, [LINE_MAX, LINE_MAX, 5]);
    }

    proptest! {
        /// However a service's output is cut into pieces, its lines are the same.
        #[test]
        fn pieces_do_not_matter(pieces in prop::collection::vec("[ab\n]{0,6}", 0..12)) {
            let mut lines = Lines::default();
            let mut written = Vec::new();
            for piece in &pieces {
                written.extend(lines.add(piece.as_bytes()));
            }
            written.extend(lines.end());
            let whole = pieces.concat();
            let expected: Vec<Vec<u8>> = whole.lines().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(texts(&written), expected);
        }
    }
}
