//! Environments that wait for commands. The launcher is a process of its own, so that these run in the test itself.
//! It is one thing: whatever the owner of such an environment relies on.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use envd_init::protocol::{Order, Report};
use envd_shims::{
    IpVersion, Launcher, Resident, Said, connection,
    plan::{Command, Mount, Plan},
};

use crate::harness::{Caller, Place};

pub(crate) fn plan() -> (Place, Plan) {
    let place = Place::new(Caller::Same);
    let plan = place.plan("true", &[]);
    (place, plan)
}

pub(crate) fn command(plan: &Plan, words: &[&str]) -> Command {
    Command {
        program: words[0].into(),
        arguments: words[1..].iter().map(Into::into).collect(),
        new_session: true,
        ..plan.command.clone()
    }
}

/// A command that runs, and what it writes.
pub(crate) struct Started {
    command: Command,
    connection: OwnedFd,
    output: File,
}

impl Started {
    pub(crate) fn new(resident: &Resident, command: Command) -> Self {
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

    pub(crate) fn status(&self) -> i32 {
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

    pub(crate) fn text(mut self) -> String {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        text
    }
}

pub(crate) fn gone(resident: Resident) {
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

/// Whoever makes a new one in its place must not take it for alive as long as the kernel is taking it down.
#[test]
fn one_whose_pid_1_was_killed_has_ended_before_it_is_gone() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    assert!(!resident.has_ended());
    // A process that somebody outside has to reap, who is stopped: PID 1 waits for that.
    let pid = resident.pid().to_string();
    let mut outside = std::process::Command::new("nsenter")
        .args(["--target", &pid, "--pid", "sleep", "1000"])
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", outside.id());
    crate::harness::eventually("it is inside", || {
        std::fs::read_to_string(&children).is_ok_and(|pids| !pids.is_empty())
    });
    let signal = |pid: u32, signal| {
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    };
    signal(outside.id(), nix::sys::signal::Signal::SIGSTOP);
    signal(resident.pid(), nix::sys::signal::Signal::SIGKILL);
    crate::harness::eventually("it has ended", || resident.has_ended());
    let pidfd = resident.pidfd();
    let mut polled = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::time::Timespec::default();
    assert_eq!(rustix::event::poll(&mut polled, Some(&now)), Ok(0));
    signal(outside.id(), nix::sys::signal::Signal::SIGCONT);
    outside.wait().unwrap();
    gone(resident);
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
    plan.mounts.push(Mount::Overlay {
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

/// The way in: a socket of the environment's own network namespace, which the owner connects. It leads to what listens inside, and
/// never to what listens on the machine, whatever the port.
#[test]
fn the_owner_is_given_sockets_that_lead_inside() {
    let (_place, mut plan) = plan();
    plan.namespaces.net = true;
    plan.listen = Some(3128);
    let launcher = Launcher::start().unwrap();
    let mut resident = launcher.launch(&plan).unwrap();
    let inside = std::net::TcpListener::from(resident.take_listening().unwrap());
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = |port: u16| {
        let asked = resident.ask_for_socket(IpVersion::Four).unwrap();
        let mut polled = [rustix::event::PollFd::new(
            &asked,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut polled, None).unwrap();
        let socket = asked.take().unwrap();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        rustix::net::connect(&socket, &address).map(|()| std::net::TcpStream::from(socket))
    };
    let mut stream = connect(3128).unwrap();
    let (mut accepted, from) = inside.accept().unwrap();
    assert!(from.ip().is_loopback());
    accepted.write_all(b"from inside").unwrap();
    drop(accepted);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from inside");
    let port = outside.local_addr().unwrap().port();
    assert_eq!(connect(port).err(), Some(rustix::io::Errno::CONNREFUSED));
    // It takes orders for commands all the same.
    assert_eq!(
        Started::new(&resident, command(&plan, &["true"])).status(),
        0
    );
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

/// A command that is to be killed with all that descends from it, once it has written `word`.
struct Tree {
    started: Started,
}

impl Tree {
    fn start(resident: &Resident, command: Command) -> Self {
        let (ours, theirs) = connection().unwrap();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = File::open("/dev/null").unwrap();
        let standard = [null.as_fd(), write.as_fd(), write.as_fd()];
        let limits = Default::default();
        resident
            .execute_tree(&command, &limits, standard, theirs.as_fd())
            .unwrap();
        Tree {
            started: Started {
                command,
                connection: ours,
                output: read.into(),
            },
        }
    }

    fn await_lines(&mut self, count: usize) {
        let (mut seen, mut byte) = (0, [0]);
        while seen < count {
            self.started.output.read_exact(&mut byte).unwrap();
            seen += usize::from(byte[0] == b'\n');
        }
    }

    /// All that it and its descendants wrote, which ends when none of them is left.
    fn rest(mut self) -> String {
        let mut text = String::new();
        self.started.output.read_to_string(&mut text).unwrap();
        text
    }
}

/// Leaves its session and its parents, ignores signals, and holds the output open.
const RUNAWAY: &str = "(setsid sh -c 'trap \"\" TERM HUP INT; (setsid sh -c \"echo away; sleep 1000\") & echo away; \
                       sleep 1000' &) ; (sh -c 'echo away; sleep 1000' &);";

#[test]
fn a_tree_is_killed_with_those_who_have_left_it() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let shell = |script: &str| command(&plan, &["sh", "-c", script]);
    let mut beside = Tree::start(
        &resident,
        shell("setsid sleep 1000 & echo beside; sleep 1000"),
    );
    beside.await_lines(1);
    // And what a command that has ended left behind, which is nobody's.
    let left = Tree::start(&resident, shell("sleep 1000 >/dev/null 2>&1 & exit 0"));
    assert_eq!(left.started.status(), 0);
    for by_order in [true, false] {
        let mut tree = Tree::start(&resident, shell(&format!("{RUNAWAY} sleep 1000")));
        tree.await_lines(3);
        if by_order {
            tree.started.send(Order::Signal(libc::SIGKILL));
            assert_eq!(tree.started.status(), libc::SIGKILL);
            assert_eq!(tree.rest(), "");
        } else {
            let Started {
                connection,
                mut output,
                ..
            } = tree.started;
            drop(connection);
            output.read_to_string(&mut String::new()).unwrap();
        }
    }
    // What was nobody's business goes on.
    let count = "ls -d /proc/[0-9]*/exe | wc -l; pidof sleep | wc -w";
    let mut counted = Tree::start(&resident, shell(count));
    counted.await_lines(1);
    assert_eq!(counted.rest(), "3\n");
    beside.started.send(Order::Signal(libc::SIGKILL));
    assert_eq!(beside.started.status(), libc::SIGKILL);
    gone(resident);
}

/// Whoever kills the process that looks after it gains nothing: what it kept goes.
#[test]
fn a_keeper_that_is_killed_from_inside_takes_its_command_along() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let shell = |script: &str| command(&plan, &["sh", "-c", script]);
    let mut beside = Tree::start(&resident, shell("echo beside; sleep 1000"));
    beside.await_lines(1);
    let mut tree = Tree::start(
        &resident,
        shell(&format!("{RUNAWAY} sleep 1; kill -9 $PPID; sleep 1000")),
    );
    tree.await_lines(3);
    assert_eq!(tree.started.status(), libc::SIGKILL);
    assert_eq!(tree.rest(), "");
    // One that is stopped still answers to the order to kill.
    let mut stopped = Tree::start(
        &resident,
        shell("kill -STOP $PPID; echo stopped; while :; do kill -STOP $PPID; done"),
    );
    stopped.await_lines(1);
    stopped.started.send(Order::Signal(libc::SIGKILL));
    assert_eq!(stopped.started.status(), libc::SIGKILL);
    assert!(matches!(
        beside.started.next(),
        Said::Report(Report::Started(_))
    ));
    beside.started.send(Order::Signal(libc::SIGKILL));
    assert!(matches!(
        beside.started.next(),
        Said::Report(Report::Ended(_))
    ));
    gone(resident);
}

/// Its own exit code, and what it leaves in the background stays, as with any command.
#[test]
fn a_tree_that_ends_by_itself_is_told_and_leaves_what_it_left() {
    let (_place, plan) = plan();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let shell = |script: &str| command(&plan, &["sh", "-c", script]);
    for (script, status) in [
        ("exit 7", 7 << 8),
        ("kill -TERM $$", libc::SIGTERM),
        ("sleep 1000 >/dev/null & exit 0", 0),
    ] {
        let tree = Tree::start(&resident, shell(script));
        assert_eq!(tree.started.status(), status, "{script}");
    }
    let missing = Tree::start(&resident, command(&plan, &["no-such-tool"]));
    assert!(
        matches!(missing.started.next(), Said::Failed(error) if error.exec_code() == Some(127))
    );
    let left = "for i in $(seq 2000); do pidof sleep > /dev/null && exec echo there; done";
    let left = Tree::start(&resident, shell(left));
    assert_eq!(left.rest(), "there\n");
    gone(resident);
}

/// How many processes descend from one, as everybody may see.
fn below(root: u32) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let mut parents: Vec<(u32, u32)> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let (_, rest) = stat.rsplit_once(") ")?;
            Some((pid, rest.split(' ').nth(1)?.parse().ok()?))
        })
        .collect();
    let mut found = vec![root];
    let mut looked_at = 0;
    while let Some(parent) = found.get(looked_at).copied() {
        found.extend(
            parents
                .extract_if(.., |(_, of)| *of == parent)
                .map(|(pid, _)| pid),
        );
        looked_at += 1;
    }
    found.len() - 1
}

#[test]
fn a_fork_bomb_is_killed_when_its_time_is_over() {
    let (_place, mut plan) = plan();
    plan.processes = Some(200);
    plan.limits = [(envd_shims::plan::Limit::Processes, 200)].into();
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let shell = |script: &str| command(&plan, &["sh", "-c", script]);
    // Each one leaves for a session of its own, and its parent ends. Not a shell's loop: a shell gives up where it cannot fork, and
    // what a command leaves when it ends by itself stays.
    let bomb = "$| = 1; print \"begun\\n\"; while (1) { my $child = fork; defined $child && !$child || next;
        exec 'sh', '-c', 'setsid sleep 1000 & sleep 1000 &' }";
    let (ours, theirs) = connection().unwrap();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let null = File::open("/dev/null").unwrap();
    let standard = [null.as_fd(), write.as_fd(), null.as_fd()];
    let bomb = command(&plan, &["perl", "-e", bomb]);
    resident
        .execute_tree(&bomb, &plan.limits, standard, theirs.as_fd())
        .unwrap();
    drop((write, theirs));
    let mut started = Started {
        command: bomb,
        connection: ours,
        output: read.into(),
    };
    started.output.read_exact(&mut [0; 6]).unwrap();
    crate::harness::eventually("it is at its limit", || below(resident.pid()) > 150);
    started.send(Order::Signal(libc::SIGKILL));
    assert!(matches!(started.next(), Said::Report(Report::Started(_))));
    assert!(matches!(started.next(), Said::Report(Report::Ended(_))));
    let left = Tree::start(&resident, shell("pidof sleep | wc -w"));
    assert_eq!(left.rest(), "0\n");
    gone(resident);
}

#[test]
fn everything_stands_still_for_a_moment_and_goes_on() {
    let (place, mut plan) = plan();
    let shared = place.directory("shared");
    plan.mounts.push(Mount::Bind {
        source: shared.clone(),
        target: "/shared".into(),
        read_only: false,
        optional: false,
    });
    let launcher = Launcher::start().unwrap();
    let resident = launcher.launch(&plan).unwrap();
    let shell = |script: &str| command(&plan, &["sh", "-c", script]);
    let counting = "sleep 1000 & until grep -q sleep /proc/$!/stat; do :; done; kill -STOP $!; until grep -q ') T' /proc/$!/stat; do :; done; echo $!; i=0; while :; do i=$((i+1)); echo $i > /shared/count; done";
    let mut counts = Tree::start(&resident, shell(counting));
    counts.await_lines(1);
    let root = shared.join("count");
    let value = || -> u64 {
        loop {
            if let Ok(number) = std::fs::read_to_string(&root)
                .unwrap_or_default()
                .trim()
                .parse()
            {
                return number;
            }
        }
    };
    let frozen = resident.freeze().unwrap();
    let first = std::fs::read_to_string(&root).unwrap_or_default();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(std::fs::read_to_string(&root).unwrap_or_default(), first);
    drop(frozen);
    let before = value();
    crate::harness::eventually("it goes on", || value() > before);
    // What somebody inside had stopped stays so.
    let mut state = Tree::start(&resident, shell("cat /proc/$(pidof sleep)/stat; echo"));
    let mut text = [0; 64];
    let length = state.started.output.read(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    assert!(text.contains(") T "), "{text}");
    resident.kill_all();
    assert_eq!(counts.started.status(), libc::SIGKILL);
    gone(resident);
}
