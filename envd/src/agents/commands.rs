//! The command tools.

use std::{sync::Arc, time::Duration};

use envd_agents::service::{
    Call, CommandId, Failure, Owner, Stream,
    command::{
        CommandEnded, CommandLine, CommandPoll, CommandPolled, CommandRun, CommandSetup,
        CommandSignal, CommandSignalled, CommandStart, CommandStarted, Status, Stretch,
    },
    excerpt::Excerpt,
};

use super::{
    Shared,
    command::{KilledWithCall, Manner, Running},
    ends::Pipes,
    failure, missing, secrets,
};

/// Starts a command and keeps it among its owner's.
async fn start(
    shared: &Arc<Shared>,
    owner: &Owner,
    setup: &CommandSetup,
    manner: Manner,
) -> Result<Arc<Running>, Failure> {
    let lent = shared.environment(owner, &setup.environment)?;
    // Somebody may have to be asked, which nothing waits for but this command.
    let secrets = secrets::of_command(shared, &lent.policy, setup).await?;
    let live = lent.live.read().await;
    let Some(live) = &*live else {
        return Err(Failure::no_such_environment(&setup.environment));
    };
    let running = match Running::start(shared, (&lent, live), setup, &secrets, manner).await {
        Ok(running) => running,
        Err(failure) => {
            let section = live.parts.ground.section.as_ref();
            return Err(missing::told(shared, &lent, section, failure).await);
        }
    };
    let id = running.id.clone();
    shared.all().commands.insert(id, running.clone());
    Ok(running)
}

/// `command_run`
pub(super) async fn run(
    shared: &Arc<Shared>,
    call: &Call,
    request: CommandRun,
) -> Result<CommandEnded, Failure> {
    let manner = Manner {
        listener: Some(call.listener.clone()),
        ..Manner::default()
    };
    wait(shared, call, request, manner, &mut |_| {}).await
}

/// The same with a client's own pipes. `started` hears the command's handle when it runs.
pub(super) async fn run_piped(
    shared: &Arc<Shared>,
    call: &Call,
    request: CommandRun,
    pipes: Pipes,
    started: &mut (dyn FnMut(&CommandId) + Send),
) -> Result<CommandEnded, Failure> {
    let manner = Manner {
        pipes: Some(pipes),
        ..Manner::default()
    };
    wait(shared, call, request, manner, started).await
}

async fn wait(
    shared: &Arc<Shared>,
    call: &Call,
    request: CommandRun,
    manner: Manner,
    started: &mut (dyn FnMut(&CommandId) + Send),
) -> Result<CommandEnded, Failure> {
    let running = start(shared, &call.owner, &request.setup, manner).await?;
    started(&running.id);
    let guard = KilledWithCall(running.clone());
    let status = running.ended().await;
    drop(guard);
    let duration = running.began.elapsed().as_millis();
    let stderr = excerpt(&running, Stream::Stderr, request.output_bytes)?;
    let hint = match &request.setup.command {
        CommandLine::Shell(_) => hint(shared, &running, &status, &stderr).await,
        CommandLine::Arguments(_) => None,
    };
    Ok(CommandEnded {
        command: running.id.clone(),
        status,
        duration_ms: u64::try_from(duration).unwrap_or(u64::MAX),
        stdout: excerpt(&running, Stream::Stdout, request.output_bytes)?,
        stderr,
        hint,
    })
}

/// What to do about a command that a shell did not find.
async fn hint(
    shared: &Arc<Shared>,
    running: &Running,
    status: &Status,
    stderr: &Excerpt,
) -> Option<String> {
    // Nobody looks for what is not missing.
    status.exit_code.filter(|code| *code == 127)?;
    let lent = shared
        .environment(&running.owner, &running.environment)
        .ok()?;
    let live = lent.live.read().await;
    let section = live.as_ref()?.parts.ground.section.as_ref();
    let errors = match &*stderr.tail {
        "" => &stderr.head,
        tail => tail,
    };
    missing::hint(shared, &lent, section, status, errors).await
}

fn excerpt(running: &Running, stream: Stream, limit: u64) -> Result<Excerpt, Failure> {
    running
        .spool(stream)
        .excerpt(limit, running.resource(stream))
        .map_err(|error| failure::internal("reading the kept output", &error))
}

fn stretch(running: &Running, stream: Stream, offset: u64, limit: u64) -> Result<Stretch, Failure> {
    running
        .spool(stream)
        .stretch(offset, limit)
        .map_err(|error| failure::internal("reading the kept output", &error))
}

/// `command_start`
pub(super) async fn begin(
    shared: &Arc<Shared>,
    call: &Call,
    request: CommandStart,
) -> Result<CommandStarted, Failure> {
    let manner = Manner {
        keep_stdin_open: request.keep_stdin_open,
        terminal: request.terminal,
        ..Manner::default()
    };
    let running = start(shared, &call.owner, &request.setup, manner).await?;
    Ok(CommandStarted {
        command: running.id.clone(),
        environment: running.environment.clone(),
    })
}

/// `command_poll`
pub(super) async fn poll(
    shared: &Shared,
    owner: &Owner,
    request: CommandPoll,
) -> Result<CommandPolled, Failure> {
    let running = shared.command(owner, &request.command)?;
    let (stdout, stderr) = (request.stdout_offset, request.stderr_offset);
    if request.wait_seconds > 0 {
        let patience = Duration::from_secs(request.wait_seconds);
        let news = running.news_behind(stdout, stderr);
        let _ = tokio::time::timeout(patience, news).await;
    }
    // The status first: what is read after an end is all there is.
    let status = running.status();
    Ok(CommandPolled {
        command: running.id.clone(),
        status,
        stdout: stretch(&running, Stream::Stdout, stdout, request.output_bytes)?,
        stderr: stretch(&running, Stream::Stderr, stderr, request.output_bytes)?,
    })
}

/// `command_signal`
pub(super) async fn signal(
    shared: &Shared,
    owner: &Owner,
    request: CommandSignal,
) -> Result<CommandSignalled, Failure> {
    let running = shared.command(owner, &request.command)?;
    // Before what is typed, which is for the new size.
    if let Some(size) = request.terminal {
        let resized = running
            .resize(size)
            .map_err(|error| failure::internal("resizing the terminal", &error))?;
        if !resized {
            return Err(Failure::Invalid {
                field: "terminal".to_owned(),
                problem: "the command has no terminal, or has ended".to_owned(),
                expected: "a command that was started with `terminal` and still runs".to_owned(),
            });
        }
    }
    let mut written_bytes = 0;
    if let Some(text) = &request.stdin {
        written_bytes = running.write(text).await.ok_or_else(|| Failure::Invalid {
            field: "stdin".to_owned(),
            problem: "the command's standard input is closed".to_owned(),
            expected: "a command that was started with keep_stdin_open and still runs".to_owned(),
        })?;
    }
    if request.close_stdin {
        running.close_input().await;
    }
    if let Some(signal) = request.signal {
        running.send(signal);
    }
    Ok(CommandSignalled {
        command: running.id.clone(),
        status: running.status(),
        written_bytes,
    })
}
