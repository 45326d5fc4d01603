//! Capabilities (capabilities(7)): the kept ones in every set, all others in none.

use caps::CapsHashSet;
use rustix::thread::CapabilitiesSecureBits as SecureBits;

use crate::error::LaunchError;

/// The capabilities that a plan keeps.
#[derive(Clone, Debug)]
pub(crate) struct Kept(CapsHashSet);

impl Kept {
    /// From names in lower case without `CAP_`.
    pub(crate) fn parse(names: &[String]) -> Result<Self, LaunchError> {
        let parse = |name: &String| {
            format!("CAP_{}", name.to_uppercase())
                .parse()
                .ok()
                .filter(|_| name.chars().all(|letter| !letter.is_uppercase()))
                .ok_or_else(|| LaunchError::Plan(format!("there is no capability {name:?}")))
        };
        names.iter().map(parse).collect::<Result<_, _>>().map(Kept)
    }

    /// A bit each.
    pub(crate) fn mask(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |all, capability| all | capability.bitmask())
    }

    /// The number of the last one that there is, as far as is known here. One that this kernel does not know is no obstacle.
    pub(crate) fn last() -> u32 {
        let numbers = caps::all()
            .into_iter()
            .map(|capability| u32::from(capability.index()));
        numbers.max().unwrap_or(63)
    }

    /// Root inside is as powerful as its bounding set, as programs expect. Anyone else gets nothing for becoming 0, and
    /// where nothing is kept nobody does; there the switches that could only matter to a way back are locked too.
    pub(crate) fn secure_bits(&self, uid: u32) -> u32 {
        let mut bits = SecureBits::empty();
        if uid != 0 || self.0.is_empty() {
            bits |= SecureBits::NO_ROOT | SecureBits::NO_ROOT_LOCKED;
        }
        if self.0.is_empty() {
            bits |= SecureBits::NO_CAP_AMBIENT_RAISE
                | SecureBits::NO_CAP_AMBIENT_RAISE_LOCKED
                | SecureBits::NO_SETUID_FIXUP_LOCKED
                | SecureBits::KEEP_CAPS_LOCKED;
        }
        bits.bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_manual_page_in_lower_case() {
        let names = ["chown", "sys_admin"].map(str::to_owned);
        let kept = Kept::parse(&names).unwrap();
        assert_eq!(kept.mask(), 1 | 1 << 21);
        for wrong in ["CHOWN", "cap_chown", "everything", ""] {
            Kept::parse(&[wrong.to_owned()]).unwrap_err();
        }
    }

    #[test]
    fn the_last_capability_is_not_below_those_of_linux_5_9() {
        assert!(Kept::last() >= 40);
    }
}
