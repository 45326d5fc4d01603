//! The product's failures, told to a model.

use std::error::Error;

use envd_agents::service::Failure;

use crate::cli;

/// A step of ours that failed.
pub(super) fn internal(step: &str, error: &dyn Error) -> Failure {
    let told = cli::Failure::of(cli::Kind::Other, error);
    Failure::Internal {
        step: step.to_owned(),
        reason: reason(&told),
    }
}

/// The same where nothing else is the cause.
pub(super) fn without_cause(step: &str, reason: &str) -> Failure {
    Failure::Internal {
        step: step.to_owned(),
        reason: reason.to_owned(),
    }
}

/// What the command line would say.
pub(super) fn of(step: &str, failure: &cli::Failure) -> Failure {
    let mut reason = reason(failure);
    if let Some(help) = &failure.help {
        reason = format!("{reason} ({help})");
    }
    match failure.kind {
        cli::Kind::Resolve => Failure::Unsolvable {
            explanation: reason,
        },
        cli::Kind::Usage => Failure::Invalid {
            field: step.to_owned(),
            problem: reason,
            expected: "what the message says".to_owned(),
        },
        cli::Kind::Host => Failure::Unsupported {
            what: format!("do this: {reason}"),
            fix: "Have the user run `envd doctor`.".to_owned(),
        },
        _ => Failure::Internal {
            step: step.to_owned(),
            reason,
        },
    }
}

fn reason(failure: &cli::Failure) -> String {
    let causes = failure.causes.iter().map(|cause| format!(": {cause}"));
    std::iter::once(failure.message.clone())
        .chain(causes)
        .collect()
}
