//! `envd agent`

pub mod audit;
pub mod explain;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Subcommand;
use envd_agents::{
    audit::Audited,
    egress::Rule,
    install::{Client, Reach, Scope, installation},
    mcp::{HttpOptions, HttpServer, Token, serve_stdio},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Context, Failure, Kind};
use crate::{
    agents::{Granted, Grants, Lender},
    environment::Caller,
};

/// Lend environments to coding agents
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples\n  envd agent install claude-code\n  envd agent mcp --allow-host '*.crates.io'"
)]
pub struct Arguments {
    /// What about it.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done about agents.
#[derive(Subcommand, Clone, Debug)]
#[allow(missing_docs, reason = "each is documented where its arguments are")]
pub enum Command {
    Mcp(Mcp),
    Install(Install),
    Explain(explain::Arguments),
    Audit(audit::Arguments),
}

/// Serve the Model Context Protocol, on standard input and output unless told otherwise
///
/// Environments see the project in which this runs; what agents change there is kept apart until they apply it. Everything
/// that was lent ends with this process.
#[derive(clap::Args, Clone, Debug)]
pub struct Mcp {
    /// Serve HTTP on this loopback address; the token is in ENVD_MCP_TOKEN, or printed to standard error
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<SocketAddr>,
    /// Let this web page speak to it (with --http; may be given several times)
    #[arg(long = "origin", value_name = "ORIGIN", requires = "http")]
    pub origins: Vec<String>,
    /// Lend the project in DIR, too (may be given several times)
    #[arg(long = "lend", value_name = "DIR")]
    pub projects: Vec<PathBuf>,
    /// Let environments reach this host name, such as pypi.org or '*.crates.io' (may be given several times)
    #[arg(long = "allow-host", value_name = "NAME", value_parser = parse_rule)]
    pub hosts: Vec<Rule>,
    /// Let environments ask for this machine's network
    #[arg(long)]
    pub allow_host_network: bool,
}

/// Tell an agent's program of envd
#[derive(clap::Args, Clone, Debug)]
pub struct Install {
    /// The program: claude-code, codex, cursor or vscode
    #[arg(value_name = "CLIENT", value_parser = parse_client)]
    pub client: Client,
    /// For all that you do instead of for this project alone
    #[arg(long)]
    pub user: bool,
    /// Print the entry and write nothing
    #[arg(long)]
    pub print: bool,
}

fn parse_rule(text: &str) -> Result<Rule, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn parse_client(text: &str) -> Result<Client, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Mcp(arguments) => mcp(arguments, context),
        Command::Install(arguments) => install(arguments, context),
        Command::Explain(arguments) => explain::run(arguments, context),
        Command::Audit(arguments) => audit::run(arguments, context),
    }
}

/// What may be lent: by files, and by the command line.
fn grants(arguments: &Mcp, context: &Context) -> Result<Grants, Failure> {
    let granted = Granted {
        projects: explain::real_paths(&arguments.projects, context)?,
        hosts: arguments.hosts.clone(),
        host_network: arguments.allow_host_network,
    };
    Grants::read(context, granted)
}

fn mcp(arguments: &Mcp, context: &Context) -> Result<ExitCode, Failure> {
    let grants = grants(arguments, context)?;
    let lender = Arc::new(Lender::new(context, grants)?);
    let audited = Arc::new(lender.audited()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::of(Kind::Host, &error).help("the asynchronous runtime could not be started")
        })?;
    let served = match arguments.http {
        None => runtime
            .block_on(serve_stdio(audited))
            .map_err(|error| Failure::of(Kind::Other, &error)),
        Some(address) => runtime.block_on(http(address, arguments, context, audited)),
    };
    // A read of standard input cannot be interrupted.
    runtime.shutdown_background();
    lender.end();
    served.map(|()| ExitCode::SUCCESS)
}

async fn http(
    address: SocketAddr,
    arguments: &Mcp,
    context: &Context,
    audited: Arc<Audited<Lender>>,
) -> Result<(), Failure> {
    let given = context.variables.get(envd_agents::install::TOKEN_VARIABLE);
    let token = match given.and_then(std::ffi::OsStr::to_str) {
        Some(text) => text
            .parse()
            .map_err(|error: envd_agents::mcp::NotAToken| Failure::of(Kind::Usage, &error))?,
        None => Token::random(),
    };
    let secret = token.secret().to_owned();
    let server = HttpServer::bind(HttpOptions {
        address,
        token,
        origins: arguments.origins.clone(),
    })
    .await
    .map_err(|error| Failure::of(Kind::Usage, &error))?;
    context.output.note(&format!("serving {}", server.url()));
    if given.is_none() {
        let variable = envd_agents::install::TOKEN_VARIABLE;
        context.output.note(&format!("{variable}={secret}"));
    }
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.cancel();
    });
    server.serve(audited, stop).await;
    Ok(())
}

/// What was written.
#[derive(Serialize)]
struct Installed<'a> {
    file: &'a Path,
}

fn install(arguments: &Install, context: &Context) -> Result<ExitCode, Failure> {
    let (scope, envd) = if arguments.user {
        let caller = Caller::of_this_process(&context.variables);
        let program = std::env::current_exe()
            .map_err(|error| Failure::of(Kind::Host, &error).help("where envd is, is not known"))?;
        (Scope::User(caller.home), program)
    } else {
        // The file is for others, too, whose envd is elsewhere.
        let root = context
            .project()
            .map_or_else(|_| context.new_project_root(), |project| project.root);
        (Scope::Project(root), PathBuf::from("envd"))
    };
    let entry = installation(arguments.client, &scope, &Reach::Start { envd });
    if arguments.print {
        context.output.raw(&entry.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cannot = |doing: &str, error: std::io::Error| {
        Failure::of(Kind::Other, &error).help(format!(
            "{} could not be {doing}; --print shows the entry",
            entry.file.display()
        ))
    };
    let existing = match std::fs::read_to_string(&entry.file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(cannot("read", error)),
    };
    let text = entry
        .merged(existing.as_deref())
        .map_err(|error| Failure::of(Kind::Usage, &error))?;
    if let Some(parent) = entry.file.parent() {
        std::fs::create_dir_all(parent).map_err(|error| cannot("made", error))?;
    }
    std::fs::write(&entry.file, text).map_err(|error| cannot("written", error))?;
    let installed = Installed { file: &entry.file };
    context.output.result(&installed, |out, _| {
        writeln!(out, "wrote {}", entry.file.display())
    })?;
    Ok(ExitCode::SUCCESS)
}
