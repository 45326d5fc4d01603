//! `envd agent mcp`

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use envd_agents::{
    audit::Audited,
    egress::Rule,
    mcp::{HttpOptions, HttpServer, Token, serve_stdio},
    policy::Publishing,
};
use tokio_util::sync::CancellationToken;

use super::super::{Context, Failure, Kind};
use crate::agents::{Granted, Grants, Lender};

/// Serve the Model Context Protocol, on standard input and output unless told otherwise
///
/// Environments see the project in which this runs; what agents change there is kept apart until they apply it. Everything
/// that was lent ends with this process.
#[derive(clap::Args, Clone, Debug)]
pub struct Arguments {
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

/// What `--publish` says; 0 stands for no port in particular.
pub(super) fn publishing(ports: &[u16]) -> Publishing {
    match ports {
        [] => Publishing::Nothing,
        ports => Publishing::At(ports.iter().copied().filter(|port| *port != 0).collect()),
    }
}

pub(super) fn parse_rule(text: &str) -> Result<Rule, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// What may be lent: by files, and by the command line.
fn grants(arguments: &Arguments, context: &Context) -> Result<Grants, Failure> {
    let granted = Granted {
        projects: super::explain::real_paths(&arguments.projects, context)?,
        hosts: arguments.hosts.clone(),
        host_network: arguments.allow_host_network,
        publish: publishing(&arguments.publish),
    };
    Grants::read(context, granted)
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
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
    arguments: &Arguments,
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
