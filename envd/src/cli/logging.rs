//! Logs for those who ask for them, by ENVD_LOG or -v. Setting them up costs more than a whole run, so nobody else gets them.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::Context;

/// Starts logging to standard error if that is wanted.
pub(super) fn start(context: &Context) {
    let filter = match (&context.settings.log, context.verbosity) {
        (Some(filter), 0) => filter.as_str(),
        (_, 0) => return,
        (_, 1) => "envd=info,envd_store=info,envd_shims=info",
        (_, 2) => "envd=debug,envd_store=debug,envd_shims=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|e| {
        context.output.warn(&format!(
            "ENVD_LOG cannot be understood: {e}; logging at level info"
        ));
        EnvFilter::new("info")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true)
        .init();
}
