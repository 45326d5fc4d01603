//! Which ports of environments may be published: reached from outside, at a port of the machine's loopback.
//!
//! Any port inside may be the one that is published: what listens there is the environment's own. What matters is the number
//! outside. A port that the kernel chooses is nobody's; one that is chosen may be the number at which somebody expects a server
//! of theirs, so each that may be taken is said.

use std::{collections::BTreeSet, fmt};

use super::{Effective, Said, judge::ask};
use crate::service::Failure;

/// What may be published.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Publishing {
    /// Nothing.
    #[default]
    Nothing,
    /// At ports outside that the kernel chooses, and at these.
    At(BTreeSet<u16>),
    /// At whatever port is asked for.
    Anywhere,
}

impl Publishing {
    /// Whether everything that another allows is allowed.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anywhere, _) | (_, Self::Nothing) => true,
            (Self::At(mine), Self::At(theirs)) => theirs.is_subset(mine),
            (Self::Nothing, _) | (Self::At(_), Self::Anywhere) => false,
        }
    }

    /// What either allows.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::At(mine), Self::At(theirs)) => Self::At(mine | theirs),
            (mine, theirs) if mine.covers(theirs) => mine.clone(),
            (_, theirs) => theirs.clone(),
        }
    }

    fn allows(&self, outside: Option<u16>) -> bool {
        match (self, outside) {
            (Self::Nothing, _) => false,
            (Self::Anywhere, _) | (Self::At(_), None) => true,
            (Self::At(ports), Some(port)) => ports.contains(&port),
        }
    }
}

impl fmt::Display for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("false"),
            Self::At(ports) if ports.is_empty() => f.write_str("true"),
            Self::At(ports) => {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                write!(f, "[{}]", ports.join(", "))
            }
            Self::Anywhere => f.write_str("any port"),
        }
    }
}

impl Effective {
    /// Whether a port may be published, at this port outside if one is asked for.
    pub fn judge_publishing(&self, outside: Option<u16>) -> Result<(), Failure> {
        let Said { value, origin } = &self.publish;
        if value.allows(outside) {
            return Ok(());
        }
        let (what, flag, line) = match outside {
            None => (
                "publishing a port".to_owned(),
                "--publish".to_owned(),
                "publish = true".to_owned(),
            ),
            Some(port) => (
                format!("publishing at port {port} of the machine"),
                format!("--publish={port}"),
                format!("publish = [{port}]"),
            ),
        };
        Err(Failure::Denied {
            what,
            rule: format!("publish = {value} ({origin})"),
            ask: ask(origin, Some(&flag), &line),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_covers_what_both_together_allow_only_if_it_covers_the_other() {
        let at = |ports: &[u16]| Publishing::At(ports.iter().copied().collect());
        let all = [
            Publishing::Nothing,
            at(&[]),
            at(&[80]),
            at(&[80, 3000]),
            at(&[22]),
            Publishing::Anywhere,
        ];
        for one in &all {
            for other in &all {
                let both = one.or(other);
                assert!(both.covers(one) && both.covers(other), "{one} {other}");
                assert_eq!(one.covers(other), both == *one, "{one} {other}");
                for port in [None, Some(80), Some(22)] {
                    assert_eq!(
                        both.allows(port),
                        one.allows(port) || other.allows(port),
                        "{one} {other} {port:?}"
                    );
                }
            }
        }
    }
}
