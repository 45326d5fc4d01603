//! `envd agent mcp`

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use envd_agents::{
    audit::Audited,
    mcp::{HttpOptions, HttpServer, Token, serve_stdio},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Context, Failure, Kind},
    grants,
};
use crate::agents::Lender;

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
    #[command(flatten)]
    pub grants: grants::Options,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let grants = arguments.grants.read(context)?;
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
