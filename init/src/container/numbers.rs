//! Numbers and signals as arguments spell them.

use super::names;

/// A number as strtol(3) reads it: white space, a sign, digits; and what comes behind it.
pub fn leading(text: &[u8]) -> Option<(i32, &[u8])> {
    let mut rest = text.trim_ascii_start();
    let mut negative = false;
    if let [sign @ (b'-' | b'+'), behind @ ..] = rest {
        negative = *sign == b'-';
        rest = behind;
    }
    let mut number: i32 = 0;
    let mut found = false;
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        number = number
            .saturating_mul(10)
            .saturating_add(i32::from(digit - b'0'));
        rest = behind;
        found = true;
    }
    found.then_some((if negative { -number } else { number }, rest))
}

/// A number and nothing else.
pub fn whole(text: &[u8]) -> Option<i32> {
    leading(text).and_then(|(number, rest)| rest.is_empty().then_some(number))
}

/// An exit code.
pub fn code(text: &[u8]) -> Option<u8> {
    whole(text)?.try_into().ok()
}

/// A signal by name, with or without SIG, or by number.
pub fn signal(text: &[u8]) -> Option<i32> {
    match whole(text) {
        Some(number) => (1..=64).contains(&number).then_some(number),
        None => names::signal(text.strip_prefix(b"SIG").unwrap_or(text)),
    }
}

/// In decimal.
pub fn decimal(digits: &mut [u8; 10], number: u32) -> &[u8] {
    let mut rest = number;
    let mut count = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    digits.get(10 - count..).unwrap_or_default()
}
