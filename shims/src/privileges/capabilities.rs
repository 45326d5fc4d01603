//! Capabilities (capabilities(7)): the kept ones in every set, all others in none.

use caps::{CapSet, Capability, CapsHashSet};
use rustix::thread::{
    CapabilitiesSecureBits as SecureBits, CapabilitySet, CapabilitySets, capabilities,
    set_capabilities,
};

use crate::error::{LaunchError, SetupError};

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

    /// Narrows this process and its children to come: bounding, inheritable and ambient set. What is permitted stays
    /// until [`Kept::settle`], for PID 1 has something to do yet.
    pub(crate) fn confine(&self, uid: u32) -> Result<(), SetupError> {
        let failed = |what: String| SetupError::Capabilities { what };
        let said = |error: caps::errors::CapsError| failed(error.to_string());
        for capability in caps::all() {
            if self.0.contains(&capability) {
                continue;
            }
            // Not asked first whether it is there, for that doubles the calls; one that this kernel does not know fails.
            if let Err(error) = caps::drop(None, CapSet::Bounding, capability)
                && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false)
            {
                return Err(said(error));
            }
        }
        let inheritable = self.set();
        capabilities(None)
            .and_then(|now| set_capabilities(None, CapabilitySets { inheritable, ..now }))
            .map_err(|error| failed(error.to_string()))?;
        for capability in &self.0 {
            caps::raise(None, CapSet::Ambient, *capability).map_err(said)?;
        }
        // Root inside is as powerful as its bounding set, as programs expect. Anyone else gets nothing for becoming 0, and
        // where nothing is kept nobody does; there the switches that could only matter to a way back are locked too.
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
        rustix::thread::set_capabilities_secure_bits(bits)
            .map_err(|error| failed(format!("securebits: {error}")))
    }

    /// Reduces what the process may do to what is kept. There is no way back.
    pub(crate) fn settle(&self) -> Result<(), SetupError> {
        let kept = self.set();
        reduce(kept, kept)
    }

    fn set(&self) -> CapabilitySet {
        let bits = self.0.iter().map(Capability::bitmask);
        CapabilitySet::from_bits_retain(bits.fold(0, |all, bit| all | bit))
    }
}

fn reduce(permitted: CapabilitySet, inheritable: CapabilitySet) -> Result<(), SetupError> {
    let sets = CapabilitySets {
        effective: permitted,
        permitted,
        inheritable,
    };
    set_capabilities(None, sets).map_err(|error| SetupError::Capabilities {
        what: error.to_string(),
    })
}

/// Leaves PID 1 with the one capability it needs: to signal a command that has changed its user.
pub(crate) fn settle_init() -> Result<(), SetupError> {
    reduce(CapabilitySet::KILL, CapabilitySet::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_manual_page_in_lower_case() {
        let names = ["chown", "sys_admin"].map(str::to_owned);
        let kept = Kept::parse(&names).unwrap();
        assert!(kept.0.contains(&Capability::CAP_SYS_ADMIN));
        assert_eq!(kept.0.len(), 2);
        for wrong in ["CHOWN", "cap_chown", "everything", ""] {
            Kept::parse(&[wrong.to_owned()]).unwrap_err();
        }
    }
}
