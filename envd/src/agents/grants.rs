//! What requests may ask for. A request says what is wished; whoever started the server said what is allowed.

use std::path::{Path, PathBuf};

use envd_agents::{
    egress::{Allowlist, Rule},
    service::{Failure, environment::Network},
};

/// What may be lent. Nothing but the own project without a network, unless more is said.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Directories of which the project may be lent, and those below them. Absolute, without links.
    pub projects: Vec<PathBuf>,
    /// Host names that may be asked for.
    pub hosts: Allowlist,
    /// Whether the machine's own network may be asked for.
    pub host_network: bool,
}

impl Grants {
    /// What a person at the command line may ask for: their own project, and whatever network they name, for it is they
    /// whom anybody else would have to ask.
    pub fn of_person(project: PathBuf) -> Self {
        Self {
            projects: vec![project],
            hosts: Allowlist::default(),
            host_network: true,
        }
    }

    /// Judges a directory of the machine. Its real path.
    pub(super) fn project(&self, wished: &Path) -> Result<PathBuf, Failure> {
        let denied = || Failure::Denied {
            what: format!("lending the directory {}", wished.display()),
            rule: "only the project in which the server runs (built-in)".to_owned(),
            ask: "start the server with `envd agent mcp --lend DIR`".to_owned(),
        };
        // Whether there is something at a path is none of the asker's business, unless it may be lent.
        let real = std::fs::canonicalize(wished).map_err(|_| denied())?;
        let granted = self
            .projects
            .iter()
            .any(|project| real.starts_with(project));
        if granted && real.is_dir() {
            Ok(real)
        } else {
            Err(denied())
        }
    }

    /// Judges a network.
    pub(super) fn network(&self, wished: Option<Network>) -> Result<Network, Failure> {
        let network = wished.unwrap_or_default();
        match &network {
            Network::None => {}
            Network::Allow(names) => {
                for name in names {
                    let rule: Rule = name.parse().map_err(|error| Failure::Invalid {
                        field: "network".to_owned(),
                        problem: format!("{error}"),
                        expected: "host names such as pypi.org or *.crates.io".to_owned(),
                    })?;
                    if !self.host_network && !self.hosts.covers(&rule) {
                        return Err(Failure::Denied {
                            what: format!("reaching {name}"),
                            rule: "no network (built-in)".to_owned(),
                            ask: format!(
                                "start the server with `envd agent mcp --allow-host {name}`"
                            ),
                        });
                    }
                }
            }
            Network::Host if self.host_network => {}
            Network::Host => {
                return Err(Failure::Denied {
                    what: "using the machine's network".to_owned(),
                    rule: "no network (built-in)".to_owned(),
                    ask: "start the server with `envd agent mcp --allow-host-network`, or better \
                          with `--allow-host NAME` for the names that are needed"
                        .to_owned(),
                });
            }
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Option<Network> {
        Some(Network::Allow(
            names.iter().map(|&name| name.to_owned()).collect(),
        ))
    }

    #[test]
    fn nothing_is_reached_that_was_not_granted() {
        let grants = Grants::default();
        assert_eq!(grants.network(None), Ok(Network::None));
        assert!(grants.network(names(&["example.org"])).is_err());
        assert!(grants.network(Some(Network::Host)).is_err());
        assert!(
            grants.network(names(&[])).is_ok(),
            "an empty list reaches nothing"
        );
        let grants = Grants {
            hosts: Allowlist::parse(["*.example.org"]).unwrap(),
            ..Grants::default()
        };
        assert!(grants.network(names(&["a.example.org"])).is_ok());
        assert!(
            grants
                .network(names(&["a.example.org", "example.net"]))
                .is_err()
        );
        assert!(grants.network(Some(Network::Host)).is_err());
    }

    #[test]
    fn only_granted_directories_are_lent_whatever_links_say() {
        let place = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(place.path()).unwrap();
        std::fs::create_dir_all(root.join("project/sub")).unwrap();
        std::fs::create_dir(root.join("secret")).unwrap();
        std::os::unix::fs::symlink(root.join("secret"), root.join("project/link")).unwrap();
        let grants = Grants {
            projects: vec![root.join("project")],
            ..Grants::default()
        };
        assert_eq!(
            grants.project(&root.join("project/sub")),
            Ok(root.join("project/sub"))
        );
        for denied in [
            "secret",
            "project/link",
            "project/../secret",
            "missing",
            "project/missing",
        ] {
            assert!(grants.project(&root.join(denied)).is_err(), "{denied}");
        }
    }
}
