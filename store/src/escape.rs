//! Percent escaping: how arbitrary bytes become a field without spaces in our text formats.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` to `out`, with everything outside `0x21..=0x7e`, `%` and the bytes in `also` as `%xx`.
pub(crate) fn escape(bytes: &[u8], also: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if (0x21..=0x7e).contains(&byte) && byte != b'%' && !also.contains(&byte) {
            out.push(byte);
        } else {
            out.extend([
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
}

/// The bytes behind an escaped field, or `None` when an escape is cut short or no lower-case hexadecimal.
pub(crate) fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            out.push(digit(*rest.next()?)? << 4 | digit(*rest.next()?)?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A user whose file names are not ASCII would lose them.
        #[test]
        fn every_byte_string_survives(bytes: Vec<u8>) {
            let mut field = Vec::new();
            escape(&bytes, b"=", &mut field);
            prop_assert!(field.iter().all(|b| b.is_ascii_graphic() && *b != b'='));
            prop_assert_eq!(unescape(&field), Some(bytes));
        }
    }

    #[test]
    fn a_broken_escape_is_refused() {
        for field in [&b"%"[..], b"%4", b"%4G", b"%AF"] {
            assert_eq!(unescape(field), None);
        }
    }
}
