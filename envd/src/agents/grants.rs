//! What requests may ask for: the policy of whoever started the server, put together from its layers when that was, and for a
//! project that is lent beside the server's own, with what that project's file says.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use envd_agents::{
    egress::Rule,
    policy::{Effective, Layer, Layers, Origin, Publishing, Said, effective},
    service::Failure,
};

use super::{failure, mechanisms};
use crate::{
    cli::{self, Context},
    config::Manifest,
    environment::{Caller, Workplace},
    project::{Project, ProjectError},
};

/// What whoever starts a server says beside files.
#[derive(Clone, Debug, Default)]
pub struct Granted {
    /// Directories of which the project may be lent, and those below them. Absolute, without links.
    pub projects: Vec<PathBuf>,
    /// Host names that may be asked for.
    pub hosts: Vec<Rule>,
    /// Whether the machine's own network may be asked for.
    pub host_network: bool,
    /// Which ports may be published.
    pub publish: Publishing,
}

/// What may be lent. Nothing but the own project without a network, unless more is said.
#[derive(Clone, Debug)]
pub struct Grants {
    layers: Layers,
    policy: Arc<Effective>,
    /// The project in which the server runs.
    project: Option<Project>,
}

impl Grants {
    /// What a person at the command line may ask for: their own project, and whatever network they name, for it is they
    /// whom anybody else would have to ask. The project's file tightens that, too.
    pub fn of_person(context: &Context) -> Result<Self, cli::Failure> {
        Self::read(
            context,
            Granted {
                projects: vec![context.directory.clone()],
                hosts: Vec::new(),
                host_network: true,
                publish: Publishing::Anywhere,
            },
        )
    }

    /// Reads the layers. A project's file that would widen the policy is an error, with its line.
    pub fn read(context: &Context, granted: Granted) -> Result<Self, cli::Failure> {
        let Granted {
            projects,
            hosts,
            host_network,
            publish,
        } = granted;
        let flag = || Origin::Flag("--publish".to_owned());
        let publish = (publish != Publishing::Nothing).then(|| Said::new(publish, flag()));
        let mut layers = Layers {
            user: context.settings.agent.clone(),
            flags: Layer {
                publish,
                ..Layer::of_flags(projects, hosts, host_network)
            },
            ..Layers::default()
        };
        // Links in the user's own file are the user's.
        for lent in &mut layers.user.lend {
            if let Ok(real) = std::fs::canonicalize(&lent.value) {
                lent.value = real;
            }
        }
        let found = context.project_if_any()?;
        let own = match &found {
            Some((project, _)) => Some(project.root.clone()),
            // Where it is a place to work in at all.
            None => {
                let caller = Caller::of_this_process(&context.variables);
                match Workplace::current(&context.directory, &caller.home) {
                    Workplace::Bound(directory) => Some(directory),
                    Workplace::Nothing => None,
                }
            }
        };
        layers.built_in.lend.extend(own.map(Said::built_in));
        let (project, policy) = match found {
            Some((project, manifest)) => {
                let policy = tightened(&mut layers, &manifest)?;
                (Some(project), policy)
            }
            None => (None, put_together(&layers)),
        };
        Ok(Self {
            layers,
            policy: Arc::new(policy),
            project,
        })
    }

    /// The policy where nothing but the server's own project is lent.
    pub fn policy(&self) -> &Arc<Effective> {
        &self.policy
    }

    /// Refuses where a mechanism that the policy requires does not work. In a process of one thread.
    pub fn require(&self) -> Result<(), cli::Failure> {
        mechanisms::require(&self.policy.require)
    }

    /// Judges a directory of the machine. Its real path.
    pub(super) fn project(&self, wished: &Path) -> Result<PathBuf, Failure> {
        let denied = || {
            Failure::Denied {
            what: format!("lending the directory {}", wished.display()),
            rule: "only the project in which the server runs, and what the user lends".to_owned(),
            ask: "start the server with `envd agent mcp --lend DIR`, or write `lend = [\"DIR\"]` under [agent] in the user's \
                  config.toml of envd"
                .to_owned(),
        }
        };
        // Whether there is something at a path is none of the asker's business, unless it may be lent.
        let real = std::fs::canonicalize(wished).map_err(|_| denied())?;
        if self.policy.lends(&real) && real.is_dir() {
            Ok(real)
        } else {
            Err(denied())
        }
    }

    /// The policy for an environment of a directory that may be lent: what the project's file there, or above it, says
    /// tightens it once more.
    pub(super) fn policy_for(
        &self,
        context: &Context,
        directory: Option<&Path>,
    ) -> Result<Arc<Effective>, Failure> {
        let Some(directory) = directory else {
            return Ok(self.policy.clone());
        };
        if self
            .project
            .as_ref()
            .is_some_and(|own| own.root == directory)
        {
            return Ok(self.policy.clone());
        }
        let told = |failure: cli::Failure| failure::of("project", &failure);
        let project = match Project::find(directory, context.uid) {
            Err(ProjectError::NotFound { .. }) => return Ok(self.policy.clone()),
            found => found.map_err(|error| told(error.into()))?,
        };
        if self.project.as_ref() == Some(&project) {
            return Ok(self.policy.clone());
        }
        let manifest = context.manifest(&project).map_err(told)?;
        let mut layers = self.layers.clone();
        let policy = tightened(&mut layers, &manifest).map_err(told)?;
        let more: Vec<_> = policy
            .require
            .iter()
            .filter(|name| !self.policy.require.contains(name))
            .cloned()
            .collect();
        mechanisms::require(&more).map_err(told)?;
        Ok(Arc::new(policy))
    }
}

/// The policy with one more project's file.
fn tightened(layers: &mut Layers, manifest: &Manifest) -> Result<Effective, cli::Failure> {
    layers.projects.push(manifest.agent.clone());
    effective(layers).map_err(|widenings| {
        // Those before it were taken already.
        cli::Failure::from(manifest.refuse_widening(&widenings))
    })
}

/// The policy without projects, which nothing can widen.
fn put_together(layers: &Layers) -> Effective {
    match effective(layers) {
        Ok(policy) => policy,
        Err(_) => unreachable!("only projects' layers can be refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_granted_directories_are_lent_whatever_links_say() {
        let place = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(place.path()).unwrap();
        std::fs::create_dir_all(root.join("project/sub")).unwrap();
        std::fs::create_dir(root.join("secret")).unwrap();
        std::os::unix::fs::symlink(root.join("secret"), root.join("project/link")).unwrap();
        let layers = Layers {
            flags: Layer::of_flags([root.join("project")], [], false),
            ..Layers::default()
        };
        let grants = Grants {
            policy: Arc::new(put_together(&layers)),
            layers,
            project: None,
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
