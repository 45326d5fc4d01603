//! Lines for people, written in one piece.

use super::{names, numbers};
use crate::sys::{self, Descriptor, Errno};

/// What takes the place of a number in a text.
#[derive(Clone, Copy, Debug)]
pub enum Value<'v> {
    /// As it is.
    Text(&'v [u8]),
    /// In decimal.
    Number(i32),
    /// In the words of strerror(3).
    Error(Errno),
    /// In the words of strsignal(3).
    Signal(i32),
}

/// A message on its way; what is longer than fits goes out in pieces.
#[derive(Debug)]
pub struct Message {
    descriptor: Descriptor,
    length: usize,
    bytes: [u8; 240],
}

impl Message {
    /// To a descriptor.
    #[inline(never)]
    pub fn to(descriptor: Descriptor) -> Self {
        Message {
            descriptor,
            length: 0,
            bytes: [0; 240],
        }
    }

    /// Adds a text in which `%1` stands for the first value, and so on.
    pub fn add(&mut self, text: &[u8], values: &[Value<'_>]) -> &mut Self {
        let mut bytes = text;
        while let [byte, behind @ ..] = bytes {
            bytes = behind;
            match (byte, behind) {
                (b'%', [digit, behind @ ..]) => {
                    let at = usize::from(digit.wrapping_sub(b'1'));
                    values
                        .get(at)
                        .into_iter()
                        .for_each(|value| self.value(*value));
                    bytes = behind;
                }
                _ => self.byte(*byte),
            }
        }
        self
    }

    fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) => self.text(text),
            Value::Number(number) => self.number(number),
            Value::Error(Errno(number)) => self.described(names::error(number), "error ", number),
            Value::Signal(number) => {
                self.described(names::description(number), "Real-time signal ", number);
            }
        }
    }

    fn described(&mut self, known: &[u8], otherwise: &str, number: i32) {
        self.text(known);
        if known.is_empty() {
            self.text(otherwise.as_bytes());
            self.number(number);
        }
    }

    fn text(&mut self, text: &[u8]) {
        text.iter().for_each(|&byte| self.byte(byte));
    }

    fn number(&mut self, number: i32) {
        if number < 0 {
            self.byte(b'-');
        }
        self.text(numbers::decimal(&mut [0; 10], number.unsigned_abs()));
    }

    fn byte(&mut self, byte: u8) {
        if self.length == self.bytes.len() {
            self.write();
        }
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    #[inline(never)]
    fn write(&mut self) {
        // Nobody is there to be told of a failure.
        let _ = sys::write_all(
            self.descriptor,
            self.bytes.get(..self.length).unwrap_or_default(),
        );
        self.length = 0;
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.write();
    }
}
