//! `envd agent publish`

use std::{num::NonZeroU16, process::ExitCode, str::FromStr};

use envd_agents::service::{
    EnvironmentId,
    port::{PortPublish, PortWithdraw, PublishedPort},
};

use super::{
    super::{Context, Failure},
    connection::{Sessions, existing},
};

/// Let this machine reach servers that listen inside an environment
///
/// What listens on the environment's loopback (127.0.0.1, ::1 or all addresses inside) at PORT answers at 127.0.0.1:OUTSIDE of this
/// machine, or at a free port, which is printed. For whoever can connect there: a web application has to check the names that it
/// is asked by itself. It ends with the environment; forks have none.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd agent publish try 8080            # 127.0.0.1:41753\n  envd agent publish try 3000:8080\n  envd agent publish try 8080 --withdraw"
)]
pub struct Arguments {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    pub environment: String,
    /// The ports inside, each with the one outside where it matters
    #[arg(value_name = "[OUTSIDE:]PORT", required = true)]
    pub ports: Vec<Ports>,
    /// Let them be reached no more
    #[arg(long)]
    pub withdraw: bool,
}

/// A port inside, and the one outside where one is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    inside: u16,
    outside: Option<u16>,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| {
            // No sign, no space: what is written is what is published.
            let number = text.bytes().all(|byte| byte.is_ascii_digit());
            let port = text.parse().ok().filter(|_| number);
            port.map(NonZeroU16::get)
                .ok_or_else(|| "write a port inside, such as 8080, or both: 3000:8080".to_owned())
        };
        match text.split_once(':') {
            None => Ok(Self {
                inside: port(text)?,
                outside: None,
            }),
            Some((outside, inside)) => Ok(Self {
                inside: port(inside)?,
                outside: Some(port(outside)?),
            }),
        }
    }
}

/// Publishes ports of an environment. Where one of them cannot be, those before it are.
pub(super) fn publish(
    sessions: &Sessions,
    environment: &EnvironmentId,
    ports: &[Ports],
) -> Result<Vec<PublishedPort>, Failure> {
    let one = |ports: &Ports| {
        let wish = PortPublish {
            environment: environment.clone(),
            port: ports.inside,
            outside: ports.outside,
        };
        let published = sessions.ask(|service, call| service.port_publish(call, wish))?;
        Ok(published.published)
    };
    ports.iter().map(one).collect()
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = existing(context, "environment", &arguments.environment)?;
    let environment = sessions.environment(&arguments.environment)?.environment;
    let ports = if arguments.withdraw {
        let one = |ports: &Ports| {
            let wish = PortWithdraw {
                environment: environment.clone(),
                port: ports.inside,
            };
            let withdrawn = sessions.ask(|service, call| service.port_withdraw(call, wish))?;
            Ok(withdrawn.withdrawn)
        };
        arguments
            .ports
            .iter()
            .map(one)
            .collect::<Result<_, Failure>>()?
    } else {
        publish(&sessions, &environment, &arguments.ports)?
    };
    context.output.result(&ports, |out, _| {
        for port in &ports {
            match arguments.withdraw {
                true => writeln!(out, "{} is free again", port.address)?,
                false => writeln!(out, "{}", port.address)?,
            }
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_with_the_one_outside_first() {
        let ports = |inside, outside| Ok(Ports { inside, outside });
        assert_eq!("8080".parse(), ports(8080, None));
        assert_eq!("3000:8080".parse(), ports(8080, Some(3000)));
        for wrong in [
            "",
            ":",
            "0",
            "80:",
            ":80",
            "65536",
            "+80",
            "a",
            "1:2:3",
            "0:80",
            "0.0.0.0:80:80",
        ] {
            assert!(wrong.parse::<Ports>().is_err(), "{wrong}");
        }
    }
}
