//! The loop of PID 1: requests from the owner, orders for each command, signals, and the ends of children.
//!
//! It ends, and so ends everything in its PID namespace, when the owner's connection closes, or with the one command that it
//! was made for.

use crate::{
    execute::{self, Given, Scratch},
    handing,
    processes::{Table, Tree},
    protocol::{
        self, EXECUTE, EXECUTE_FILE, FREEZE, FROZEN, Failure, JOIN, KILL, LENGTH, LONGEST_PACKET,
        Order, Report, SOCKET, Stage, THAW,
    },
    request::{self, GROUP, LINGER, Request, SESSION, TREE},
    sys::{
        self, Capabilities, Descriptor, Errno, Interest, Lasting, Mask, Packet, Pid, Region,
        SignalSet, Wait, constant::*,
    },
};

/// Commands at once.
const MOST_COMMANDS: usize = 256;

/// Bytes of a keeper's stack, and for what it leaves.
const KEEPER: usize = 16 * 1024;

/// Forwarded to the command of an environment that was made for one, when a process sent it. What reports a fault of PID 1
/// itself is not, nor what is about the terminal's input and output: those are for whom the kernel sends them to.
const FORWARDED: SignalSet = SignalSet::of(&[
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGCONT, SIGTSTP,
]);

/// Exit status when the owner has gone: nobody is left to read it.
const ABANDONED: i32 = 129;

/// What PID 1 has to look after.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    /// The connection to the owner.
    pub owner: Descriptor,
    /// Signals to act on, blocked since before any command was started (see [`block_signals`]).
    pub signals: Descriptor,
    /// The command that it was made for, if it was: it talks to the owner's connection, and PID 1 ends with it.
    pub command: Option<Pid>,
    /// The terminal, when that command has a process group of its own that is to be in its foreground.
    pub terminal: Option<Descriptor>,
    /// Capabilities that commands keep.
    pub kept: u64,
    /// The mask of permission bits of commands that have none of their own.
    pub umask: u32,
}

/// Blocks every signal PID 1 acts on and gives a descriptor to read them from, close-on-exec.
///
/// Called before a command is started: a signal that comes in between waits instead of being lost, for the kernel
/// drops unblocked signals to a PID 1 that has no handler for them. SIGTTOU is blocked as well, so that handing over the
/// terminal from the background works.
pub fn block_signals() -> Result<Descriptor, Errno> {
    let read = FORWARDED.with(SIGCHLD);
    let descriptor = sys::signal_descriptor(read)?;
    sys::mask_signals(Mask::Block, read.with(SIGTTOU))?;
    Ok(descriptor)
}

/// Reduces PID 1 to what it needs: to signal a command that has changed its user, and to give commands what they keep.
pub fn settle(kept: u64) -> Result<(), Errno> {
    let own = 1 << CAP_KILL;
    sys::set_capabilities(Capabilities {
        effective: own,
        permitted: own | kept,
        inheritable: kept,
    })
}

/// A command and who wants to know of it.
#[derive(Clone, Copy, Debug)]
struct Command {
    /// 0 for a free place, of which everything is.
    pid: Pid,
    /// The keeper, this process's child, below which it is; 0 where the command itself is the child.
    keeper: Pid,
    connection: Descriptor,
    flags: u32,
    /// All of it was killed, its keeper last.
    killed: bool,
}

const FREE: Command = Command {
    pid: 0,
    keeper: 0,
    connection: 0,
    flags: 0,
    killed: false,
};

/// All of them. Nothing of this is written to before there is one: most environments wait, and there may be a thousand.
static COMMANDS: sys::Once<[Command; MOST_COMMANDS]> = sys::Once::new([FREE; MOST_COMMANDS]);

impl Command {
    /// The child of this process that stands for it.
    fn child(&self) -> Pid {
        match self.keeper {
            0 => self.pid,
            keeper => keeper,
        }
    }
}

/// Kills a command with all that descends from it. Where there is no memory to find that out, everything goes.
fn kill_tree(commands: &mut [Command], place: usize, keepers: Lasting) {
    let keeper = commands[place].keeper;
    commands[place].killed = true;
    let mut others = [0; MOST_COMMANDS];
    let mut count = 0;
    for (other, command) in commands.iter().enumerate() {
        if command.pid != 0 && other != place {
            others[count] = command.child();
            count += 1;
        }
    }
    let tree = Tree {
        keeper,
        command: commands[place].pid,
        others: &others[..count],
        has_ended: &|| keeper != 0 && sys::kept_status(keepers.part(place, KEEPER)).is_some(),
    };
    match Table::new() {
        Ok(mut table) => table.kill(&tree),
        Err(_) => {
            let _ = sys::kill(-1, SIGKILL);
        }
    }
}

/// Runs until the owner, or the one command, has ended; then ends the process, and so the PID namespace.
///
/// The calling process must be PID 1 of its namespace, and hold no other descriptors than those of `duty` and its standard
/// ones if the environment is not to hold on to what it was given.
pub fn serve(duty: Duty) -> ! {
    let mut commands: &mut [Command] = &mut [];
    let mut interests = [Interest::NONE; 2 + MOST_COMMANDS];
    interests[0] = Interest::readable(duty.owner);
    interests[1] = Interest::readable(duty.signals);
    let mut memory = None;
    let mut used = 0;
    loop {
        // Everything is looked at after every wake-up, so that nothing depends on what caused it.
        let _ = sys::poll(&mut interests[..2 + used]);
        if interests[1].ready() {
            while let Some(received) = sys::next_signal(duty.signals) {
                match (received.signal, duty.command) {
                    (SIGCHLD, _) => reap(&duty, commands, keepers(&memory)),
                    // The terminal signals the whole process group: the command has had this one already.
                    (signal, Some(command)) if !received.from_kernel => {
                        let _ = sys::kill(command, signal);
                    }
                    _ => {}
                }
            }
        }
        for (place, interest) in interests[2..2 + used].iter().enumerate() {
            if commands[place].pid != 0 && interest.ready() {
                obey(commands, place, keepers(&memory));
            }
        }
        if interests[0].ready() {
            match duty.command {
                Some(command) => owner_of_one(&duty, command),
                None => {
                    if commands.is_empty()
                        && let Some(all) = COMMANDS.take()
                    {
                        commands = all;
                    }
                    requests(&duty, commands, &mut memory);
                }
            }
        }
        used = commands
            .iter()
            .rposition(|command| command.pid != 0)
            .map_or(0, |last| last + 1);
        for (interest, command) in interests[2..].iter_mut().zip(&commands[..used]) {
            *interest = match command.pid {
                0 => Interest::NONE,
                _ => Interest::readable(command.connection),
            };
        }
    }
}

/// Takes every child that has changed. One SIGCHLD may stand for several: the kernel merges pending ones.
fn reap(duty: &Duty, commands: &mut [Command], keepers: Option<Lasting>) {
    while let Some((pid, change)) = sys::wait_child(duty.terminal.is_some()) {
        match change {
            Wait::Stopped(signal) if duty.command == Some(pid) => {
                let _ = sys::send(duty.owner, &Report::Stopped(signal).encode(), &[]);
            }
            Wait::Stopped(_) => {}
            Wait::Ended(status) if duty.command == Some(pid) => {
                let _ = sys::send(duty.owner, &Report::Ended(status).encode(), &[]);
                sys::exit(sys::shell_code(status));
            }
            Wait::Ended(status) => {
                let ended = |command: &Command| command.pid != 0 && command.child() == pid;
                let Some(place) = commands.iter().position(ended) else {
                    continue;
                };
                let status = match (commands[place].keeper, keepers) {
                    (0, _) | (_, None) => status,
                    (_, Some(keepers)) => {
                        let told = sys::kept_status(keepers.part(place, KEEPER));
                        if told.is_none() {
                            if !commands[place].killed {
                                // Somebody inside has killed it, to have what is below outlive the command.
                                kill_tree(commands, place, keepers);
                            }
                            // The command is this process's child now, and told of when it is reaped, unless it has been.
                            if sys::kill(commands[place].pid, 0).is_ok() {
                                commands[place].keeper = 0;
                                continue;
                            }
                        }
                        told.unwrap_or(SIGKILL)
                    }
                };
                let command = &mut commands[place];
                if command.flags & (GROUP | SESSION) == GROUP | SESSION {
                    // Its number names the group as long as somebody is left in it.
                    let _ = sys::kill(-command.pid, SIGKILL);
                }
                let _ = sys::send(command.connection, &Report::Ended(status).encode(), &[]);
                release(command);
            }
        }
    }
}

fn release(command: &mut Command) {
    if command.connection >= 0 {
        sys::close(command.connection);
    }
    *command = FREE;
}

/// Where PID 1 was made for one command, its owner's connection is that command's, too.
fn owner_of_one(duty: &Duty, command: Pid) {
    match order(duty.owner) {
        Some(Order::Resume(foreground)) => {
            if let (Some(terminal), true) = (duty.terminal, foreground) {
                let _ = sys::give_terminal(terminal, command);
            }
            // It leads a group, since only then is it reported as stopped.
            let _ = sys::kill(-command, SIGCONT);
        }
        Some(Order::Signal(signal)) => {
            // One that leads no group is alone.
            let _ = sys::kill(-command, signal).or_else(|_| sys::kill(command, signal));
        }
        None => {}
    }
}

/// The next order; ends PID 1 when its owner is gone.
fn order(owner: Descriptor) -> Option<Order> {
    let mut packet = [0; LENGTH];
    match sys::receive(owner, &mut packet, false) {
        Ok(received) if received.length > 0 => {
            close_all(&received);
            Order::decode(packet.get(..received.length)?)
        }
        Err(Errno(EAGAIN | EINTR)) => None,
        Ok(_) | Err(_) => sys::exit(ABANDONED),
    }
}

/// An order for one of several commands, or the end of its connection.
fn obey(commands: &mut [Command], place: usize, keepers: Option<Lasting>) {
    let mut packet = [0; LENGTH];
    let command = commands[place];
    let target = if command.flags & SESSION != 0 {
        -command.pid
    } else {
        command.pid
    };
    match sys::receive(command.connection, &mut packet, false) {
        Ok(received) if received.length > 0 => {
            close_all(&received);
            match packet.get(..received.length).and_then(Order::decode) {
                Some(Order::Signal(signal)) => match (keepers, signal) {
                    (Some(keepers), SIGKILL) if command.keeper != 0 => {
                        kill_tree(commands, place, keepers);
                    }
                    _ => drop(sys::kill(target, signal)),
                },
                Some(Order::Resume(_)) => {
                    let _ = sys::kill(target, SIGCONT);
                }
                None => {}
            }
        }
        Err(Errno(EAGAIN | EINTR)) => {}
        Ok(_) | Err(_) => {
            sys::close(command.connection);
            commands[place].connection = -1;
            if command.flags & LINGER != 0 {
                return;
            }
            match (keepers, command.keeper) {
                (Some(keepers), 1..) => kill_tree(commands, place, keepers),
                _ => drop(sys::kill(target, SIGKILL)),
            }
        }
    }
}

/// What the owner wants of the environment as a whole. Whether it was that.
fn whole(duty: &Duty, tag: u32, frozen: &mut Option<Table>) -> bool {
    match tag {
        FREEZE => {
            *frozen = Table::new().ok();
            let moving = match frozen.as_mut().map(Table::freeze) {
                Some(Ok(())) => 0,
                Some(Err(moving)) => moving,
                None => 1,
            };
            let mut answer = [0; 8];
            answer[..4].copy_from_slice(&FROZEN.to_ne_bytes());
            answer[4..].copy_from_slice(&moving.to_ne_bytes());
            let _ = sys::send(duty.owner, &answer, &[]);
        }
        THAW => {
            if let Some(mut table) = frozen.take() {
                table.thaw();
            }
        }
        KILL => drop(sys::kill(-1, SIGKILL)),
        _ => return false,
    }
    true
}

/// Memory to take requests with. Of it, only what is used is ever there.
struct Memory {
    packet: Region,
    scratch: Scratch,
    /// What keepers run on, a part for each place of a command.
    keepers: Lasting,
    /// What was stopped when everything was.
    frozen: Option<Table>,
}

impl Memory {
    fn new() -> Option<Self> {
        Some(Memory {
            packet: Region::new(LONGEST_PACKET).ok()?,
            scratch: Scratch::new().ok()?,
            keepers: Region::new(MOST_COMMANDS * KEEPER).ok()?.last(),
            frozen: None,
        })
    }
}

/// What keepers run on, once there were commands.
fn keepers(memory: &Option<Memory>) -> Option<Lasting> {
    memory.as_ref().map(|memory| memory.keepers)
}

/// Takes the requests that wait; ends PID 1 when its owner is gone.
fn requests(duty: &Duty, commands: &mut [Command], memory: &mut Option<Memory>) {
    loop {
        let memory = match memory {
            Some(memory) => memory,
            // Made when it is needed: most environments wait, and there may be a thousand.
            None => match Memory::new() {
                Some(fresh) => memory.insert(fresh),
                None => return,
            },
        };
        let bytes = memory.packet.bytes_mut();
        let packet = match sys::receive(duty.owner, bytes, false) {
            Ok(packet) if packet.length > 0 => packet,
            Err(Errno(EAGAIN | EINTR)) => return,
            Ok(_) | Err(_) => sys::exit(ABANDONED),
        };
        let bytes = bytes.get(..packet.length).unwrap_or_default();
        if packet.count == 0
            && let Some(tag) = protocol::tag(bytes)
            && whole(duty, tag, &mut memory.frozen)
        {
            continue;
        }
        if let (1, Some(tag @ (JOIN | SOCKET))) = (packet.count, protocol::tag(bytes)) {
            let connection = packet.descriptors[0];
            match tag {
                JOIN => handing::namespaces(connection, bytes),
                _ => handing::socket(connection, bytes),
            }
            close_all(&packet);
            continue;
        }
        let keepers = memory.keepers;
        accept(
            duty,
            commands,
            (&mut memory.scratch, keepers),
            bytes,
            packet,
        );
    }
}

/// Carries one request out and reports on its connection.
fn accept(
    duty: &Duty,
    commands: &mut [Command],
    room: (&mut Scratch, Lasting),
    bytes: &[u8],
    mut packet: Packet,
) {
    // Out of the way of the places that they will fill in the command.
    let lowest = packet.count as Descriptor;
    for descriptor in &mut packet.descriptors[..packet.count] {
        if let Ok(moved) = sys::move_above(*descriptor, lowest.max(3)) {
            *descriptor = moved;
        }
    }
    let connection = match packet.count {
        count if count >= 4 => packet.descriptors[3],
        _ => {
            close_all(&packet);
            return;
        }
    };
    let started = start(duty, commands, room, bytes, &packet);
    let report = match started {
        Ok(pid) => sys::send(connection, &Report::Started(pid).encode(), &[]),
        Err(failure) => sys::send(connection, &failure.encode(), &[]),
    };
    // A connection that is gone already shows in the loop.
    let _ = report;
    for (place, descriptor) in packet.descriptors[..packet.count].iter().enumerate() {
        if place != 3 || started.is_err() {
            sys::close(*descriptor);
        }
    }
}

fn start(
    duty: &Duty,
    commands: &mut [Command],
    (scratch, keepers): (&mut Scratch, Lasting),
    bytes: &[u8],
    packet: &Packet,
) -> Result<Pid, Failure> {
    let malformed = Failure::at(Stage::Malformed, 0, 0);
    let (tag, body) = bytes.split_at_checked(4).ok_or(malformed)?;
    let mut given = packet.count;
    let file;
    let body = match u32::from_ne_bytes(tag.try_into().map_err(|_| malformed)?) {
        EXECUTE => body,
        EXECUTE_FILE if given > 4 => {
            given -= 1;
            let length = body.try_into().map_err(|_| malformed)?;
            file = contents(
                packet.descriptors[given],
                u32::from_ne_bytes(length),
                request::LONGEST,
            )?;
            file.bytes()
        }
        _ => return Err(malformed),
    };
    let request = Request::parse(body).map_err(|_| malformed)?;
    let place = commands.iter().position(|command| command.pid == 0);
    let place = place.ok_or(Failure::at(Stage::TooMany, MOST_COMMANDS as u32, EAGAIN))?;
    // The connection is none of the command's: what follows it moves up.
    let mut descriptors = packet.descriptors;
    descriptors.copy_within(4..given, 3);
    let given = Given {
        kept: duty.kept,
        mask: SignalSet(0),
        umask: duty.umask,
        descriptors: &descriptors[..given - 1],
    };
    let (keeper, pid) = match request.flags & TREE {
        0 => (0, execute::execute(&request, &given, scratch)?),
        _ => {
            let keeper = keepers.part(place, KEEPER);
            let kept = execute::execute_kept(&request, &given, scratch, keeper);
            if let Err(Failure {
                stage: Stage::Spawn,
                index: 1,
                ..
            }) = kept
            {
                // The place is free: what is below nobody's keeper goes.
                kill_tree(commands, place, keepers);
            }
            kept?
        }
    };
    commands[place] = Command {
        pid,
        keeper,
        connection: packet.descriptors[3],
        flags: request.flags,
        killed: false,
    };
    Ok(pid)
}

/// The first bytes of a file that the owner made. It must be at least that long, and not be cut short meanwhile, which a
/// sealed file cannot be.
pub fn contents(file: Descriptor, length: u32, longest: usize) -> Result<Region, Failure> {
    let failed = |errno| Failure::at(Stage::Malformed, 0, errno);
    let length = length as usize;
    let status = sys::status_at(file, c"", true).map_err(|error| failed(error.0))?;
    if length == 0 || length > longest || status.size < length as u64 {
        return Err(failed(EMSGSIZE));
    }
    let mut region = Region::new(length).map_err(|error| failed(error.0))?;
    // Read and not mapped: a mapping of a file that is cut short meanwhile would end this process.
    let mut at = 0;
    while at < length {
        match sys::read_at(file, &mut region.bytes_mut()[at..], at as u64) {
            Ok(0) => return Err(failed(EMSGSIZE)),
            Ok(read) => at += read,
            Err(Errno(EINTR)) => {}
            Err(error) => return Err(failed(error.0)),
        }
    }
    Ok(region)
}

fn close_all(packet: &Packet) {
    packet.descriptors[..packet.count]
        .iter()
        .for_each(|descriptor| sys::close(*descriptor));
}
