//! Services with all that is needed to run them.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use envd_supervision::{Name, Service};

use super::{Ports, PortsError};
use crate::config::{CommandLine, Manifest, Ready, ServiceSection};

/// A service, and what is run for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// What its supervisor has to know.
    pub service: Service,
    /// The program and its arguments. Never empty.
    pub arguments: Vec<OsString>,
    /// Variables on top of those of the environment.
    pub variables: BTreeMap<OsString, OsString>,
    /// Where it runs; relative to the project.
    pub directory: PathBuf,
    /// The command whose success says that it is ready, if that is how.
    pub probe: Vec<OsString>,
}

impl Spec {
    /// All services of a manifest, with free ports where they ask for some.
    pub fn of_manifest(manifest: &Manifest, ports: &mut Ports) -> Result<Vec<Self>, PortsError> {
        let asked = manifest.services.values().flat_map(ServiceSection::ports);
        ports.give(asked)?;
        let services = manifest.services.iter();
        Ok(services
            .map(|(name, section)| Self::new(name, section, ports))
            .collect())
    }

    fn new(name: &Name, section: &ServiceSection, ports: &Ports) -> Self {
        // All that are named were given.
        let port = |name: &Name| ports.get(name).unwrap_or_default();
        let words = |command: &CommandLine| -> Vec<OsString> {
            let words = command.arguments(port).into_iter();
            words.map(OsString::from).collect()
        };
        Self {
            service: section.service(name.clone(), port),
            arguments: words(&section.run),
            variables: section
                .variables
                .iter()
                .map(|(name, value)| (name.into(), value.fill(port).into()))
                .collect(),
            directory: section
                .directory
                .clone()
                .unwrap_or_else(|| Path::new(".").to_owned()),
            probe: match &section.ready {
                Ready::Command(command) => words(command),
                _ => Vec::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    #[test]
    fn one_name_is_one_port_wherever_it_is_written() {
        let text = r#"
            [env]
            [service.db]
            run = ["postgres", "-p", "{port.db}"]
            env = { PGPORT = "{port.db}" }
            ready = { command = "pg_isready -p {port.db}" }
            [service.web]
            run = "serve {port.db} {port.web}"
        "#;
        let manifest = Manifest::parse(Source {
            path: "envd.toml".into(),
            text: text.into(),
        });
        let mut ports = Ports::new(b"x");
        let specs = Spec::of_manifest(&manifest.unwrap(), &mut ports).unwrap();
        let db = ports.get(&"db".parse().unwrap()).unwrap();
        let web = ports.get(&"web".parse().unwrap()).unwrap();
        assert_eq!(specs[0].arguments[2], OsString::from(db.to_string()));
        assert_eq!(
            specs[0].variables[&OsString::from("PGPORT")],
            OsString::from(db.to_string())
        );
        assert_eq!(
            specs[0].probe[2],
            OsString::from(format!("pg_isready -p {db}"))
        );
        assert_eq!(
            specs[1].arguments[2],
            OsString::from(format!("serve {db} {web}"))
        );
    }
}
