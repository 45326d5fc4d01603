//! Secrets: read where the user keeps them when something first needs one, and handed to one command or to a proxy.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use envd_agents::{
    egress::{Allowlist, SecretHeader},
    policy::Effective,
    secret::{Kept, Keyring, ReadError, Secret},
    service::{Failure, command::CommandSetup, environment::Network},
};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::{Shared, blocking};
use crate::{cli::Context, environment::Caller};

/// A secret with its name.
pub(super) type Named = (String, Arc<Secret>);

/// Reads a value, unless it is known. Blocks.
fn value(
    keyring: &Keyring,
    context: &Context,
    name: &str,
    kept: &Kept,
) -> Result<Arc<Secret>, ReadError> {
    let variables = &context.variables;
    // Not in the project: what is run there must not be a file of it.
    let home = Caller::of_this_process(variables).home;
    let place = if home.is_dir() {
        &*home
    } else {
        Path::new("/")
    };
    keyring.value(name, kept, || kept.read(|name| variables.get(name), place))
}

fn unreadable(name: &str, error: &ReadError) -> String {
    let mut text = format!("the secret {name} cannot be had: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The secrets that a command asks for.
pub(super) async fn of_command(
    shared: &Shared,
    policy: &Effective,
    setup: &CommandSetup,
) -> Result<Vec<Named>, Failure> {
    let mut wanted = Vec::new();
    for name in &setup.secrets {
        if setup.env.contains_key(name) {
            return Err(Failure::Invalid {
                field: "secrets".to_owned(),
                problem: format!("{name} is in env, too"),
                expected: "each variable in one of them".to_owned(),
            });
        }
        wanted.push((name.clone(), policy.judge_secret(name)?.clone()));
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (keyring, context) = (shared.keyring.clone(), shared.context.clone());
    blocking(move || {
        let read = |(name, kept): (String, Kept)| match value(&keyring, &context, &name, &kept) {
            Ok(secret) => Ok((name, secret)),
            Err(error) => Err(Failure::Unsupported {
                what: format!("run the command: {}", unreadable(&name, &error)),
                fix: "Tell the user, who keeps it in [agent.secrets] of their config.toml of envd."
                    .to_owned(),
            }),
        };
        wanted.into_iter().map(read).collect()
    })
    .await
}

/// The headers that an environment's proxy puts into requests, and what to say of those that it cannot. Blocks.
pub(super) fn headers(
    shared: &Shared,
    policy: &Effective,
    network: &Network,
) -> (Vec<SecretHeader>, Vec<String>) {
    let mut headers = Vec::new();
    let mut warnings = Vec::new();
    let list = match network {
        Network::Allow(names) => Allowlist::parse(names.iter().map(String::as_str)),
        Network::None | Network::Host => Ok(Allowlist::default()),
    };
    for (name, said) in &policy.secrets {
        let Some(header) = &said.value.header else {
            continue;
        };
        if *network == Network::Host {
            warnings.push(format!(
                "the secret {name} is put into requests by envd's proxy, which an environment with the machine's network has not"
            ));
        }
        let reached = list
            .as_ref()
            .is_ok_and(|list| list.check(&header.host, header.port).is_ok());
        if !reached {
            continue;
        }
        let read = value(&shared.keyring, &shared.context, name, &said.value);
        let made = read.and_then(|secret| {
            SecretHeader::of(header, &secret).map_err(|_| ReadError::NotAHeader)
        });
        match made {
            Ok(header) => headers.push(header),
            Err(error) => warnings.push(format!(
                "{}; requests to {} go without it",
                unreadable(name, &error),
                header.host
            )),
        }
    }
    (headers, warnings)
}

/// How servers are trusted: by the machine's certificates, as for envd's own downloads. Read once.
pub(super) fn tls() -> Option<&'static rustls::ClientConfig> {
    static TLS: OnceLock<Option<rustls::ClientConfig>> = OnceLock::new();
    let make = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        match builder.with_platform_verifier() {
            Ok(builder) => Some(builder.with_no_client_auth()),
            Err(error) => {
                tracing::warn!(%error, "no certificates to trust servers by");
                None
            }
        }
    };
    TLS.get_or_init(make).as_ref()
}
