//! Environments that wait for commands. The launcher is a process of its own, so that these run in the test itself.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use envd_init::protocol::{Order, Report};
use envd_shims::{
    Launcher, Resident, Said, connection,
    plan::{Command, Plan},
};

use crate::harness::{Caller, Place};

fn plan() -> (Place, Plan) {
    let place = Place::new(Caller::Same);
    let plan = place.plan("true", &[]);
    (place, plan)
}

fn command(plan: &Plan, words: &[&str]) -> Command {
    Command {
        program: words[0].into(),
        arguments: words[1..].iter().map(Into::into).collect(),
        new_session: true,
        ..plan.command.clone()
    }
}

/// A command that runs, and what it writes.
struct Started {
    command: Command,
    connection: OwnedFd,
    output: File,
}

impl Started {
    fn new(resident: &Resident, command: Command) -> Self {
        let (ours, theirs) = connection().unwrap();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = File::open("/dev/null").unwrap();
        let standard = [null.as_fd(), write.as_fd(), write.as_fd()];
        let limits = Default::default();
        resident
            .execute(&command, &limits, standard, theirs.as_fd(), &[])
            .unwrap();
        Started {
            command,
            connection: ours,
            output: read.into(),
        }
    }

    fn next(&self) -> Said {
        let mut packet = [0; 64];
        let flags = rustix::net::RecvFlags::empty();
        let length = rustix::net::recv(&self.connection, &mut packet[..], flags)
            .map_or(0, |(length, _)| length);
        Said::of(&packet[..length], &self.command)
    }

    fn status(&self) -> i32 {
        assert!(matches!(self.next(), Said::Report(Report::Started(1..))));
        match self.next() {
            Said::Report(Report::Ended(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    fn send(&self, order: Order) {
        let flags = rustix::net::SendFlags::NOSIGNAL;
        rustix::net::send(&self.connection, &order.encode(), flags).unwrap();
    }

    fn text(mut self) -> String {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        text
    }
}

fn gone(resident: Resident) {
    let pidfd = resident.pidfd().try_clone_to_owned().unwrap();
    drop(resident);
    let mut polled = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::time::Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    assert_eq!(
        rustix::event::poll(&mut polled, Some(&limit)),
        Ok(1),
        "it is still there"
    );
}

#[test]
fn many_commands_run_in_one_environment_and_see_each_others_files() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let first = Started::new(
        &resident,
        command(&plan, &["sh", "-c", "echo kept > /tmp/file; exit 3"]),
    );
    assert_eq!(first.status(), 3 << 8);
    let second = Started::new(&resident, command(&plan, &["cat", "/tmp/file"]));
    assert_eq!(second.status(), 0);
    assert_eq!(second.text(), "kept\n");
    gone(resident);
}

#[test]
fn commands_run_at_the_same_time_and_each_hears_of_its_own_end() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let all: Vec<_> = (0..20)
        .map(|code| {
            Started::new(
                &resident,
                command(&plan, &["sh", "-c", &format!("exit {code}")]),
            )
        })
        .collect();
    for (code, started) in all.into_iter().enumerate() {
        assert_eq!(started.status(), (code as i32) << 8);
    }
    gone(resident);
}

#[test]
fn a_program_that_is_not_there_is_said_by_name() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let started = Started::new(&resident, command(&plan, &["no-such-tool"]));
    match started.next() {
        Said::Failed(error) => assert_eq!(error.exec_code(), Some(127), "{error}"),
        other => panic!("{other:?}"),
    }
}

/// Whoever loses the connection (is killed, say) loses the command.
#[test]
fn a_command_ends_with_its_connection_and_hears_signals_sent_over_it() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let trap = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut asked = Started::new(&resident, command(&plan, &["sh", "-c", trap]));
    asked.output.read_exact(&mut [0; 6]).unwrap();
    asked.send(Order::Signal(libc::SIGTERM));
    assert_eq!(asked.status(), 9 << 8);

    let mut dropped = Started::new(&resident, command(&plan, &["sh", "-c", trap]));
    dropped.output.read_exact(&mut [0; 6]).unwrap();
    let Started {
        connection,
        mut output,
        ..
    } = dropped;
    drop(connection);
    // Its end of the pipe closes when it is killed.
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    gone(resident);
}

/// Orphans and all: a process that has left its session, ignores signals and holds its output open ends with the environment.
#[test]
fn nothing_outlives_the_environment() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let orphan =
        "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM HUP; echo there; sleep 1000' & exit 0";
    let mut started = Started::new(&resident, command(&plan, &["sh", "-c", orphan]));
    started.output.read_exact(&mut [0; 6]).unwrap();
    gone(resident);
    let begun = Instant::now();
    assert_eq!(
        started.output.read(&mut [0; 1]).unwrap(),
        0,
        "somebody still holds it"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// What is not a request is answered or ignored; PID 1 goes on.
#[test]
fn a_request_too_large_for_a_packet_goes_through_a_file() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let mut big = command(&plan, &["sh", "-c", "echo ${#BIG1} ${#BIG2}"]);
    for name in ["BIG1", "BIG2"] {
        big.environment
            .insert(name.to_owned(), "x".repeat(100_000).into());
    }
    let started = Started::new(&resident, big);
    assert_eq!(started.status(), 0);
    assert_eq!(started.text(), "100000 100000\n");
}

#[test]
fn the_launchers_end_is_the_end_of_its_environments() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let residents: Vec<_> = (0..5).map(|_| launcher.launch(&plan).unwrap()).collect();
    let pidfds: Vec<_> = residents
        .iter()
        .map(|resident| resident.pidfd().try_clone_to_owned().unwrap())
        .collect();
    drop(launcher);
    for pidfd in &pidfds {
        let mut polled = [rustix::event::PollFd::new(
            pidfd,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::time::Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        assert_eq!(rustix::event::poll(&mut polled, Some(&limit)), Ok(1));
    }
}

/// PID 1 shares no descriptor with what runs beside it, least of all the sockets that it is spoken to by.
#[test]
fn commands_inherit_nothing_and_pid_1_is_closed_to_them() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let look = "ls /proc/self/fd | tr '\\n' ' '; cat /proc/1/environ 2>/dev/null; readlink /proc/1/fd/* /proc/1/root; \
                readlink /proc/1/exe; kill -KILL 1; echo alive";
    let started = Started::new(&resident, command(&plan, &["sh", "-c", look]));
    assert_eq!(started.status(), 0);
    assert_eq!(
        started.text(),
        "0 1 2 3 alive\n",
        "descriptor 3 is the directory itself"
    );
    gone(resident);
}

#[test]
fn standard_input_is_the_callers_own_file() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let (ours, theirs) = connection().unwrap();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let output = tempfile::tempfile().unwrap();
    let cat = command(&plan, &["cat"]);
    let standard = [read.as_fd(), output.as_fd(), output.as_fd()];
    resident
        .execute(&cat, &Default::default(), standard, theirs.as_fd(), &[])
        .unwrap();
    File::from(write).write_all(b"through").unwrap();
    drop(theirs);
    let started = Started {
        command: cat,
        connection: ours,
        output,
    };
    assert_eq!(started.status(), 0);
    let mut output = &started.output;
    std::io::Seek::rewind(&mut output).unwrap();
    assert_eq!(started.text(), "through");
}

/// What an agent writes to its project lies in the upper directory, and the project stays as it was.
#[test]
fn a_project_under_an_overlay_keeps_what_is_written_apart() {
    let (place, mut plan) = plan();
    let project = place.directory("project");
    std::fs::write(project.join("kept"), "as it was").unwrap();
    let (frozen, upper, work) = (
        place.directory("frozen"),
        place.directory("upper"),
        place.directory("work"),
    );
    std::fs::write(frozen.join("earlier"), "from a snapshot").unwrap();
    plan.mounts.push(envd_shims::plan::Mount::Overlay {
        lowers: vec![frozen, project.clone()],
        upper: upper.clone(),
        work,
        target: "/project".into(),
    });
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let script = "cd /project && cat earlier kept && echo new > made && rm kept && ls";
    let started = Started::new(&resident, command(&plan, &["sh", "-c", script]));
    assert_eq!(started.status(), 0);
    assert_eq!(started.text(), "from a snapshotas it wasearlier\nmade\n");
    assert_eq!(
        std::fs::read_to_string(upper.join("made")).unwrap(),
        "new\n"
    );
    assert!(project.join("kept").exists() && !project.join("made").exists());
    gone(resident);
}

/// The one way out of an environment without a network: a socket that listens inside and is accepted from outside.
#[test]
fn the_owner_is_given_a_socket_that_listens_inside() {
    let (_place, mut plan) = plan();
    plan.namespaces.net = true;
    plan.listen = Some(3128);
    let launcher = Launcher::start().unwrap();
    let mut resident = launcher.launch(&plan).unwrap();
    let listener = std::net::TcpListener::from(resident.take_listening().unwrap());
    let script = "exec 3<>/dev/tcp/127.0.0.1/3128; read line <&3; echo \"$line\"";
    let started = Started::new(&resident, command(&plan, &["bash", "-c", script]));
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.write_all(b"from outside\n").unwrap();
    assert_eq!(started.status(), 0);
    assert_eq!(started.text(), "from outside\n");
    gone(resident);
}

/// What is written through the root that the owner is given is what commands inside read, and the other way round.
#[test]
fn the_owner_is_given_the_root() {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let (_place, mut plan) = plan();
    plan.hand_root = true;
    let launcher = Launcher::start().unwrap();
    let mut resident = launcher.launch(&plan).unwrap();
    let root = resident.take_root().unwrap();
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat2(&root, "../tmp/file", flags, Mode::RUSR, resolve).unwrap();
    File::from(file).write_all(b"from outside\n").unwrap();
    let started = Started::new(&resident, command(&plan, &["cat", "/tmp/file"]));
    assert_eq!(started.status(), 0);
    assert_eq!(started.text(), "from outside\n");
    gone(resident);
}
