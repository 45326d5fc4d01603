//! What `run`, `enter` and `x` share: options about the inside, and the way from a realised environment to an ended process.

use std::{
    ffi::OsString,
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use super::{
    Context, Failure, Kind,
    operations::{Environment, Operations},
};
use envd_shims::Exit;
use envd_trampoline::arguments;

use crate::{
    config::{EnvironmentSection, Home},
    environment::{
        Caller, HostFacts, Inputs, Network, RootFacts, Wanted, Workplace, caches, plan, start,
    },
    settings,
};

/// Options about the inside.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(next_help_heading = "Inside")]
pub struct Inside {
    /// Set a variable, or take the caller's along (may be given several times)
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub variables: Vec<OsString>,
    /// Be uid 0 inside
    #[arg(long)]
    pub as_root: bool,
    /// Have no network but a loopback of its own
    #[arg(long)]
    pub no_network: bool,
    /// Do not trust it: no network, no capabilities, strict system call filter, writing only to the project
    #[arg(long)]
    pub strict: bool,
    /// Do not start without this mechanism (see `envd doctor`; may be given several times)
    #[arg(long, value_name = "MECHANISM", value_delimiter = ',')]
    pub require: Vec<String>,
    /// What $HOME is: private (empty, tool caches persist), host (yours, writes discarded) or empty
    #[arg(long, value_name = "POLICY")]
    pub home: Option<Home>,
    /// Print what would be done, as JSON, and do nothing
    #[arg(long)]
    pub print_plan: bool,
}

impl Inside {
    /// No option at all.
    pub const AS_IT_IS: &'static Self = &Self {
        variables: Vec::new(),
        as_root: false,
        no_network: false,
        strict: false,
        require: Vec::new(),
        home: None,
        print_plan: false,
    };
}

/// A process to be.
pub(super) struct Entering<'a> {
    pub context: &'a Context,
    pub operations: &'a dyn Operations,
    pub inside: &'a Inside,
    pub section: &'a EnvironmentSection,
    pub environment: &'a Environment,
    pub caller: &'a Caller,
    pub project: Option<&'a Path>,
    pub workplace: &'a Workplace,
    pub writable: &'a [PathBuf],
    pub readable: &'a [PathBuf],
    pub directory: &'a Path,
    pub prompt: Option<&'a str>,
}

impl Entering<'_> {
    /// Looks at the root, lets `command` say what to run in it, starts that and waits. The process's exit code is ours.
    pub fn enter(
        &self,
        command: impl FnOnce(&RootFacts) -> Result<Vec<OsString>, Failure>,
    ) -> Result<Exit, Failure> {
        let context = self.context;
        let terminal = std::io::stdin().is_terminal();
        let host = HostFacts::of_this_machine();
        let wanted = Wanted::of(self.caller, &context.variables, &host, terminal);
        let view = &self.environment.view;
        let root = RootFacts::read(view, wanted).map_err(|e| {
            Failure::of(Kind::Store, &e).help(format!(
                "{} cannot be opened; run `envd store verify`",
                view.display()
            ))
        })?;
        let command = command(&root)?;
        let caches = caches::of(&root, &self.environment.caches);
        caches::make(&caches)?;
        let variables = variables(&self.inside.variables, context)?;
        let inputs = Inputs {
            root: &root,
            host: &host,
            caller: self.caller,
            variables: &context.variables,
            project: self.project,
            workplace: self.workplace,
            writable: self.writable,
            readable: self.readable,
            directory: self.directory,
            manifest_variables: &self.section.variables,
            extra_variables: &variables,
            home: self.inside.home.unwrap_or(self.section.home),
            caches: &caches,
            network: if self.inside.no_network {
                Network::None
            } else {
                Network::Shared
            },
            terminal,
            as_root: self.inside.as_root,
            strict: self.inside.strict,
            prompt: self.prompt,
            command: &command,
        };
        let plan = plan(&inputs);
        if self.inside.print_plan {
            let mut text =
                serde_json::to_string_pretty(&plan).map_err(|e| Failure::of(Kind::Other, &e))?;
            text.push('\n');
            context.output.raw(&text)?;
            return Ok(Exit::Code(0));
        }
        self.keep_start(&inputs);
        // No descriptor of the view may leak into what runs in it.
        drop(root);
        self.operations.launch(&plan)
    }
}

impl Entering<'_> {
    /// Leaves what this run comes to for the next one of its kind, which then looks at nothing twice.
    fn keep_start(&self, inputs: &Inputs<'_>) {
        let Some(project) = self.project else {
            return;
        };
        // What the quick way does not know, or leaves to this one.
        let plain = self.inside.home.is_none() && self.inside.require.is_empty();
        if !plain || inputs.terminal || self.prompt.is_some() {
            return;
        }
        let plan = plan(&Inputs {
            extra_variables: &[],
            ..*inputs
        });
        let configuration = settings::config_file(&self.context.variables);
        let run = start::Run {
            plan: &plan,
            project,
            inside: self.inside.flags(),
            view: &self.environment.view,
            hostname: &inputs.host.hostname,
            ids: (self.caller.uid, self.caller.gid),
            variables: &self.context.variables,
            configuration: configuration.as_deref(),
            since: self.context.started,
        };
        // A plan that cannot be carried out is said when it is.
        if let Ok(Some(kept)) = start::keep(&run) {
            self.operations.keep_start(&kept.name, &kept.bytes);
        }
    }
}

impl Inside {
    /// As the quick way and the daemon have them.
    pub(super) fn flags(&self) -> u32 {
        let flag = |set: bool, flag| if set { flag } else { 0 };
        flag(self.no_network, arguments::NO_NETWORK)
            | flag(self.strict, arguments::STRICT)
            | flag(self.as_root, arguments::AS_ROOT)
    }
}

/// `--env`, in order: NAME=VALUE, or NAME for the caller's own value.
pub(super) fn variables(
    texts: &[OsString],
    context: &Context,
) -> Result<Vec<(String, OsString)>, Failure> {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut all = Vec::new();
    for text in texts {
        let bytes = text.as_bytes();
        let (name, value) = match bytes.iter().position(|&b| b == b'=') {
            Some(at) => (
                &bytes[..at],
                Some(OsString::from_vec(bytes[at + 1..].to_vec())),
            ),
            None => (bytes, None),
        };
        let refuse = |problem: &str| {
            Failure::new(
                Kind::Usage,
                format!("--env {}: {problem}", text.to_string_lossy()),
            )
            .help("write --env NAME=VALUE, or --env NAME to take yours along")
        };
        let name = std::str::from_utf8(name).map_err(|_| refuse("the name is no UTF-8 text"))?;
        if name.is_empty() {
            return Err(refuse("there is no name"));
        }
        let value = value.or_else(|| context.variables.get(name).map(ToOwned::to_owned));
        // One that the caller does not have either is left as it is.
        if let Some(value) = value {
            all.push((name.to_owned(), value));
        }
    }
    Ok(all)
}
