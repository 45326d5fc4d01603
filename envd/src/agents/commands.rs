//! The command tools.

use std::{sync::Arc, time::Duration};

use envd_agents::service::{
    Call, Failure, Owner, Stream,
    command::{
        CommandEnded, CommandPoll, CommandPolled, CommandRun, CommandSetup, CommandSignal,
        CommandSignalled, CommandStart, CommandStarted, Stretch,
    },
    excerpt::Excerpt,
};

use super::{
    Shared,
    command::{KilledWithCall, Manner, Running},
    failure,
};

/// Starts a command and keeps it among its owner's.
async fn start(
    shared: &Shared,
    owner: &Owner,
    setup: &CommandSetup,
    manner: Manner,
) -> Result<Arc<Running>, Failure> {
    let lent = shared.environment(owner, &setup.environment)?;
    let live = lent.live.read().await;
    let Some(live) = &*live else {
        return Err(Failure::no_such_environment(&setup.environment));
    };
    let running = Running::start(shared, (&lent, live), setup, manner).await?;
    let id = running.id.clone();
    shared.all().commands.insert(id, running.clone());
    Ok(running)
}

/// `command_run`
pub(super) async fn run(
    shared: &Shared,
    call: &Call,
    request: CommandRun,
) -> Result<CommandEnded, Failure> {
    let manner = Manner {
        keep_stdin_open: false,
        listener: Some(call.listener.clone()),
    };
    let running = start(shared, &call.owner, &request.setup, manner).await?;
    let guard = KilledWithCall(running.clone());
    let status = running.ended().await;
    drop(guard);
    let duration = running.began.elapsed().as_millis();
    Ok(CommandEnded {
        command: running.id.clone(),
        status,
        duration_ms: u64::try_from(duration).unwrap_or(u64::MAX),
        stdout: excerpt(&running, Stream::Stdout, request.output_bytes)?,
        stderr: excerpt(&running, Stream::Stderr, request.output_bytes)?,
    })
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
    shared: &Shared,
    call: &Call,
    request: CommandStart,
) -> Result<CommandStarted, Failure> {
    if request.terminal.is_some() {
        return Err(failure::not_yet(
            "give a command a terminal",
            "Leave `terminal` out; most programs have an option for working without one.",
        ));
    }
    let manner = Manner {
        keep_stdin_open: request.keep_stdin_open,
        listener: None,
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
    if request.terminal.is_some() {
        return Err(failure::not_yet(
            "resize a terminal",
            "Leave `terminal` out: no command has one.",
        ));
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
