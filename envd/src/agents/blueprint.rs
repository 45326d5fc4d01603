//! From a realised root to the plan of a lent environment: untrusted, at home nowhere, its project under an overlay.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use envd_agents::{egress, service::environment::Network};
use envd_shims::{LaunchError, Plan, Program, compile_amendment, plan::Mount};

use super::layers::{Bed, Targets};
use crate::{
    cli::{Failure, Kind},
    config::Home,
    environment::{
        self, Caller, HostFacts, Inputs, RootFacts, Wanted, Workplace, git::Linked, plan,
    },
    settings::HostVariables,
};

/// The port inside on which the way out listens.
pub(super) const PROXY_PORT: u16 = 3128;

/// A plan without its layers. The same for an environment and all its forks.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    view: PathBuf,
    plan: Plan,
    home: PathBuf,
    project: Option<PathBuf>,
    linked: Option<Linked>,
}

/// What it is drawn from.
#[derive(Clone)]
pub(super) struct Ground<'a> {
    /// The realised root's directory.
    pub(super) view: &'a Path,
    /// The project's directory, if it has one.
    pub(super) project: Option<&'a Path>,
    /// What that is linked to, where it is a linked work tree or a submodule.
    pub(super) linked: Option<Linked>,
    /// `[env.vars]`.
    pub(super) variables: &'a BTreeMap<String, String>,
    /// What it may reach.
    pub(super) network: &'a Network,
    /// The caller's environment variables.
    pub(super) host_variables: &'a HostVariables,
}

impl Blueprint {
    /// Draws it.
    pub(super) fn draw(ground: Ground<'_>) -> Result<Self, Failure> {
        let caller = Caller::of_this_process(ground.host_variables);
        let host = HostFacts::of_this_machine();
        let wanted = Wanted::of(&caller, ground.host_variables, &host, false);
        let root = RootFacts::read(ground.view, wanted).map_err(|e| {
            Failure::of(Kind::Store, &e).help(format!(
                "{} cannot be opened; run `envd store verify`",
                ground.view.display()
            ))
        })?;
        let workplace = match ground.project {
            Some(project) => Workplace::project(project, &caller.home)?,
            None => Workplace::Nothing,
        };
        let directory = ground.project.unwrap_or(Path::new("/"));
        // One that is the caller's home, or in the system's places, is seen no more than a project would be.
        let may_be_seen =
            |linked: &Linked| Workplace::project(&linked.repository, &caller.home).is_ok();
        let linked = ground.linked.filter(may_be_seen);
        // Only to be read: as long as no overlay has taken its place, nothing inside can write to it.
        let repository = linked.as_ref().map(|linked| &linked.repository);
        let readable: Vec<_> = repository.cloned().into_iter().collect();
        let mut plan = plan(&Inputs {
            root: &root,
            host: &host,
            caller: &caller,
            variables: ground.host_variables,
            project: ground.project,
            workplace: &workplace,
            writable: &[],
            readable: &readable,
            directory,
            manifest_variables: ground.variables,
            extra_variables: &[],
            home: Home::Empty,
            // A cache holds what others fetched, and perhaps what they fetched it with.
            caches: &[],
            network: environment::Network::None,
            terminal: false,
            as_root: false,
            strict: true,
            prompt: None,
            command: &["/bin/sh".into()],
        });
        plan.hand_root = true;
        if let Some(landlock) = &mut plan.privileges.landlock {
            landlock.write.extend(readable);
        }
        let home = plan
            .command
            .environment
            .get("HOME")
            .map_or_else(|| caller.home.clone(), PathBuf::from);
        connect(&mut plan, ground.network, &home);
        Ok(Self {
            view: ground.view.to_owned(),
            plan,
            home,
            project: ground.project.map(Path::to_owned),
            linked,
        })
    }

    /// The realised root's directory.
    pub(super) fn view(&self) -> &Path {
        &self.view
    }

    /// Where its layers are inside.
    pub(super) fn targets(&self) -> Targets<'_> {
        Targets {
            project: self.project.as_deref(),
            repository: self.linked.as_ref().map(|linked| &*linked.repository),
            home: &self.home,
        }
    }

    /// What its project is linked to, as that was when this was drawn.
    pub(super) fn linked(&self) -> Option<&Linked> {
        self.linked.as_ref()
    }

    /// The plan; what it says of a command is what commands begin with.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What makes its root seen in an environment of another one, where the layers stay.
    pub(super) fn amendment(&self, before: &Self) -> Result<Program, LaunchError> {
        let targets = self.targets();
        let outside = targets.project.into_iter().chain(targets.repository);
        let kept: Vec<_> = outside.chain([targets.home, Path::new("/tmp")]).collect();
        compile_amendment(&self.plan, before.view(), &kept)
    }

    /// The plan with these directories in their places.
    pub(super) fn with(&self, bed: &Bed) -> Plan {
        let mut plan = self.plan.clone();
        let layered = bed.mounts();
        for mount in &mut plan.mounts {
            let replaced = layered.iter().find(|layered| {
                let covers = matches!(mount, Mount::Tmpfs { .. } | Mount::Bind { .. });
                covers && mount.target() == layered.target()
            });
            if let Some(layered) = replaced {
                *mount = layered.clone();
            }
        }
        plan
    }
}

/// Opens the way out that was granted: none, by way of our proxy, or the machine's.
fn connect(plan: &mut Plan, network: &Network, home: &Path) {
    match network {
        Network::None => {}
        Network::Allow(_) => {
            plan.listen = Some(PROXY_PORT);
            let settings = egress::client_settings(PROXY_PORT);
            let variables = settings.variables.into_iter();
            plan.command
                .environment
                .extend(variables.map(|(name, value)| (name, value.into())));
            plan.mounts
                .extend(settings.files.into_iter().map(|(path, content)| {
                    let target = home.join(path);
                    Mount::File {
                        target,
                        content,
                        mode: 0o644,
                    }
                }));
        }
        Network::Host => {
            plan.namespaces.net = false;
            plan.mounts
                .retain(|mount| mount.target() != Path::new("/etc/hosts"));
            for path in ["/etc/hosts", "/etc/resolv.conf"] {
                plan.mounts.push(Mount::Bind {
                    source: path.into(),
                    target: path.into(),
                    read_only: true,
                    optional: true,
                });
            }
        }
    }
}
