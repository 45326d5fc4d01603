//! `envd agent run`

use std::{
    ffi::OsString,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use envd_agents::service::{
    self, CommandId,
    command::{
        CommandEnded, CommandLine, CommandRun, CommandSetup, CommandSignal, CommandStart,
        MOST_OUTPUT_BYTES, Signal,
    },
    environment::Environment,
};
use nix::sys::signal::{SigSet, Signal as Number, raise};
use serde_json::json;

use super::{
    super::{Context, Failure, Kind, entering, lease::Time},
    connection::{Sessions, answer, existing, utf8},
    create::seconds,
    ending::exit_code,
    failure::told,
    pipes::Pipes,
};
use crate::daemon::{
    Place,
    client::{Client, ClientError},
    message::{Event, Request},
};

/// Run a command in an environment
///
/// Its output comes as it is written, and its exit status is ours. It has our standard input, by a pipe: there is no terminal
/// inside. A signal, such as Ctrl-C sends, is passed on to it; when this process is killed, so is the command. It starts in the
/// current directory where that is in the project. With --json its output is in the answer, or most of it.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd agent run try -- make test\n  envd agent run try -- sh -c 'grep -rl main . | wc -l'\n  envd agent run try --detach -- ./serve\n\nExit codes: 124 when the time was over, 127 when there is no such command, 128 and the signal's number, else the command's."
)]
pub struct Arguments {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    pub environment: String,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
    /// Do not wait for it, and print its handle: for logs, wait, kill and input
    #[arg(short, long)]
    pub detach: bool,
    /// Keep its standard input open for `envd agent input`
    #[arg(long, requires = "detach")]
    pub keep_input_open: bool,
    /// Start it in this directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Set a variable, or take ours along (may be given several times)
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub variables: Vec<OsString>,
    /// Kill it after this time: 90s, 10m
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Time>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = existing(context, "environment", &arguments.environment)?;
    let environment = sessions.environment(&arguments.environment)?;
    let setup = arguments.setup(&environment, context)?;
    if arguments.detach {
        return detach(arguments, context, &sessions, setup);
    }
    let request = CommandRun {
        setup,
        output_bytes: if context.output.json {
            MOST_OUTPUT_BYTES
        } else {
            0
        },
    };
    match Foreground::new(sessions.place)?.run(&request, context.output.json)? {
        Ok(ended) => {
            if context.output.json {
                context.output.result(&ended, |_, _| Ok(()))?;
            }
            Ok(ExitCode::from(exit_code(&ended.status)))
        }
        Err(failure) => not_started(context, &failure),
    }
}

/// A program that is not there is an exit, as in shells.
fn not_started(context: &Context, failure: &service::Failure) -> Result<ExitCode, Failure> {
    match failure {
        service::Failure::CommandNotFound { .. } => {
            let _ = context.output.fail(&told(failure));
            Ok(ExitCode::from(127))
        }
        _ => Err(told(failure)),
    }
}

fn detach(
    arguments: &Arguments,
    context: &Context,
    sessions: &Sessions,
    setup: CommandSetup,
) -> Result<ExitCode, Failure> {
    let request = CommandStart {
        setup,
        keep_stdin_open: arguments.keep_input_open,
        terminal: None,
    };
    match sessions.try_ask(|service, call| service.command_start(call, request))? {
        Ok(started) => {
            context
                .output
                .result(&started, |out, _| writeln!(out, "{}", started.command))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => not_started(context, &failure),
    }
}

impl Arguments {
    fn setup(&self, environment: &Environment, context: &Context) -> Result<CommandSetup, Failure> {
        let project = Path::new(&environment.directory);
        let here = || {
            let inside = environment.directory != "/" && context.directory.starts_with(project);
            inside.then(|| context.directory.to_str()).flatten()
        };
        let mut variables = std::collections::BTreeMap::new();
        for (name, value) in entering::variables(&self.variables, context)? {
            let value = utf8(&[value])?.pop().unwrap_or_default();
            variables.insert(name, value);
        }
        Ok(CommandSetup {
            environment: environment.environment.clone(),
            command: CommandLine::Arguments(utf8(&self.command)?),
            cwd: self.cwd.clone().or_else(|| here().map(str::to_owned)),
            env: variables,
            secrets: Vec::new(),
            stdin: None,
            timeout_seconds: self.timeout.map(seconds),
        })
    }
}

/// What is passed on to the command.
const RELAYED: [Number; 8] = [
    Number::SIGHUP,
    Number::SIGINT,
    Number::SIGQUIT,
    Number::SIGTERM,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGTSTP,
    Number::SIGCONT,
];

/// A command that this process waits for.
struct Foreground {
    place: Place,
    client: Client,
}

/// What the command is known by, as soon as it runs.
#[derive(Default)]
struct Known {
    command: Option<CommandId>,
    /// A signal came before, and waits for that.
    early: Option<Number>,
    /// A second one did: nobody waits any more.
    gave_up: Option<Number>,
}

impl Foreground {
    /// On a connection of its own, so that whatever ends it ends the command.
    fn new(place: Place) -> Result<Self, Failure> {
        let client = Client::connect(&place)?.ok_or(ClientError::Ended)?;
        Ok(Self { place, client })
    }

    fn run(
        self,
        request: &CommandRun,
        kept: bool,
    ) -> Result<Result<CommandEnded, service::Failure>, Failure> {
        let failed = |step: &str, error: &dyn std::error::Error| {
            Failure::new(Kind::Host, format!("cannot {step}: {error}"))
        };
        // Before there are threads, which inherit it: from here on signals are the command's.
        let signals: SigSet = RELAYED.into_iter().collect();
        signals
            .thread_block()
            .map_err(|error| failed("hold signals back", &error))?;
        let pipes = Pipes::open(kept).map_err(|error| failed("open pipes", &error))?;
        let known = Arc::new(Mutex::new(Known::default()));
        self.relay(signals, known.clone())
            .map_err(|error| failed("wait for signals", &error))?;
        let request = Request::Agent {
            method: "command_run".to_owned(),
            arguments: json!(request),
        };
        self.client.begin(request, &pipes.theirs())?;
        let outputs = pipes.sent();
        let asked = self.client.conclude(&mut |event| {
            if let Event::Started { command } = event {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.command = Some(command.clone());
                if let Some(signal) = known.early.take() {
                    // Where it cannot be told, the next one ends it.
                    let _ = pass_on(&self.place, command.clone(), signal);
                }
            }
        });
        outputs.finish();
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(signal), Err(_)) = (known.gave_up, &asked) {
            let code = 128 + signal as i32;
            std::process::exit(code);
        }
        let value = match answer(asked)? {
            Ok(value) => value,
            Err(failure) => return Ok(Err(failure)),
        };
        let ended = serde_json::from_value(value)
            .map_err(|error| ClientError::Answer(error.to_string()))?;
        Ok(Ok(ended))
    }

    /// Passes signals on, until the process ends.
    fn relay(&self, signals: SigSet, known: Arc<Mutex<Known>>) -> std::io::Result<()> {
        let place = self.place.clone();
        let hang_up = self.client.hanging_up()?;
        std::thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                let command = {
                    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                    if known.command.is_none() && !is_for_later(signal) {
                        match known.early {
                            None => known.early = Some(signal),
                            Some(_) => known.gave_up = Some(signal),
                        }
                    }
                    (known.command.clone(), known.gave_up.is_some())
                };
                match command {
                    (Some(command), _) => {
                        if pass_on(&place, command, signal).is_err() {
                            hang_up();
                        }
                    }
                    (None, true) => hang_up(),
                    (None, false) => {}
                }
                if signal == Number::SIGTSTP {
                    // Whoever stopped us continues us, and that is passed on like any other.
                    let _ = raise(Number::SIGSTOP);
                }
            }
        });
        Ok(())
    }
}

/// Whether a signal asks for something else than an end.
fn is_for_later(signal: Number) -> bool {
    matches!(signal, Number::SIGTSTP | Number::SIGCONT)
}

fn pass_on(place: &Place, command: CommandId, signal: Number) -> Result<(), ClientError> {
    let signal = match signal {
        Number::SIGHUP => Signal::Hup,
        Number::SIGQUIT => Signal::Quit,
        Number::SIGTERM => Signal::Term,
        Number::SIGUSR1 => Signal::Usr1,
        Number::SIGUSR2 => Signal::Usr2,
        // In its session nobody could continue it, so that it would not stop for the other one.
        Number::SIGTSTP => Signal::Stop,
        Number::SIGCONT => Signal::Cont,
        _ => Signal::Int,
    };
    let request = CommandSignal {
        command,
        stdin: None,
        close_stdin: false,
        terminal: None,
        signal: Some(signal),
    };
    let client = Client::connect(place)?.ok_or(ClientError::Ended)?;
    client
        .ask(Request::Agent {
            method: "command_signal".to_owned(),
            arguments: json!(request),
        })
        .map(drop)
}
