//! What a server may lend beyond the policy's files, as its command line says: for the server itself, and for who asks what would
//! hold.

use std::path::PathBuf;

use envd_agents::{egress::Rule, policy::Publishing};

use super::super::{Context, Failure, Kind};
use crate::agents::{Granted, Grants};

/// The options.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// Lend the project in DIR, too (may be given several times)
    #[arg(long = "lend", value_name = "DIR")]
    pub projects: Vec<PathBuf>,
    /// Let environments reach this host name, such as pypi.org or '*.crates.io' (may be given several times)
    #[arg(long = "allow-host", value_name = "NAME", value_parser = parse_rule)]
    pub hosts: Vec<Rule>,
    /// Let environments ask for this machine's network
    #[arg(long)]
    pub allow_host_network: bool,
    /// Let environments publish ports on 127.0.0.1: at free ones, and at PORT (may be given several times)
    #[arg(
        long = "publish",
        value_name = "PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0"
    )]
    pub publish: Vec<u16>,
}

impl Options {
    /// What may be lent: by files, and by these.
    pub(super) fn read(&self, context: &Context) -> Result<Grants, Failure> {
        let granted = Granted {
            projects: self.real_projects(context)?,
            hosts: self.hosts.clone(),
            host_network: self.allow_host_network,
            publish: self.publishing(),
        };
        Grants::read(context, granted)
    }

    /// The directories without links.
    fn real_projects(&self, context: &Context) -> Result<Vec<PathBuf>, Failure> {
        let real = |directory: &PathBuf| {
            let path = context.directory.join(directory);
            std::fs::canonicalize(&path).map_err(|error| {
                Failure::of(Kind::Usage, &error).help(format!("--lend {}", path.display()))
            })
        };
        self.projects.iter().map(real).collect()
    }

    /// 0 stands for no port in particular.
    fn publishing(&self) -> Publishing {
        match &*self.publish {
            [] => Publishing::Nothing,
            ports => Publishing::At(ports.iter().copied().filter(|port| *port != 0).collect()),
        }
    }
}

/// A host name, or a pattern of them.
pub(super) fn parse_rule(text: &str) -> Result<Rule, String> {
    text.parse().map_err(|error| format!("{error}"))
}
