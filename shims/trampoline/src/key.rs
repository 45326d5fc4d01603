//! Names for files of a project: short, and the same for everyone who computes them.

/// FNV-1a of 64 bits (draft-eastlake-fnv). Not for anything that an adversary chooses: what it names says itself what it is of.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(u64);

impl Fnv {
    /// Of nothing.
    pub const fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    /// And these bytes.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// As 16 hexadecimal digits.
    pub fn digits(self) -> [u8; 16] {
        let mut digits = [0; 16];
        for (index, digit) in digits.iter_mut().enumerate() {
            let value = (self.0 >> (60 - 4 * index)) as u8 & 15;
            *digit = b"0123456789abcdef"[usize::from(value)];
        }
        digits
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

/// The name of a project's daemon among those of its user, without an ending.
pub fn daemon(store: &[u8], project: &[u8]) -> [u8; 16] {
    Fnv::new().with(store).with(b"\0").with(project).digits()
}

/// What tells one build of envd from another: the identity of its file. Never 0, which stands for any.
pub fn build(executable: &envd_init::sys::Status) -> u64 {
    let (device, modified) = (executable.device, executable.modified);
    let fnv = Fnv::new()
        .with(&device.0.to_ne_bytes())
        .with(&device.1.to_ne_bytes())
        .with(&executable.inode.to_ne_bytes())
        .with(&executable.size.to_ne_bytes())
        .with(&modified.0.to_ne_bytes())
        .with(&modified.1.to_ne_bytes());
    fnv.number().max(1)
}

/// The name of a start among those of a store.
pub fn start(project: &[u8], inside: u32, facts: &[u8]) -> [u8; 16] {
    let inside = inside.to_le_bytes();
    Fnv::new()
        .with(project)
        .with(b"\0")
        .with(&inside)
        .with(facts)
        .digits()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the draft's appendix.
    #[test]
    fn it_is_the_published_function() {
        assert_eq!(&Fnv::new().digits(), b"cbf29ce484222325");
        assert_eq!(&Fnv::new().with(b"a").digits(), b"af63dc4c8601ec8c");
        assert_eq!(&Fnv::new().with(b"foobar").digits(), b"85944171f73967e8");
    }
}
