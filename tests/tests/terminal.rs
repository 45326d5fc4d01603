//! Commands on a real terminal, below a shell with job control, whether the project's daemon runs or not.

use envd_tests::{
    daemon::{Daemon, until},
    leftovers::Watch,
    requirement,
    sandbox::Sandbox,
    screen::{PROMPT, Screen},
    session::everyone,
    world::World,
};
use nix::sys::signal::{Signal, kill};

/// A world, and sandboxes of everyone in it with a realised project whose daemon's directory is there.
fn worlds() -> Option<(World, Vec<Sandbox>)> {
    let world = World::small()?;
    if !(requirement::program("bash") && requirement::program("setsid")) {
        return None;
    }
    let sandboxes = everyone(&world);
    for sandbox in &sandboxes {
        sandbox.wants(&["hello"]);
        sandbox.envd(&["run", "--", "true"]).ok();
        sandbox.envd(&["daemon", "start"]).ok();
        sandbox.envd(&["daemon", "stop"]).ok();
    }
    Some((world, sandboxes))
}

/// Everyone, with a daemon and without one.
#[track_caller]
fn both_ways(test: impl Fn(&Sandbox, &str)) {
    let Some((_world, sandboxes)) = worlds() else {
        return;
    };
    for sandbox in &sandboxes {
        let daemon = Daemon::start(sandbox);
        test(sandbox, "");
        assert!(daemon.status().is_some(), "it stays");
        test(sandbox, "--no-daemon");
        drop(daemon);
    }
}

/// What runs in the daemon's environments at the moment.
fn running(daemon: &Daemon<'_>) -> usize {
    let status = daemon.status().expect("a daemon");
    let environments = status["environments"].as_array().expect("a list");
    let run = environments.iter().filter(|one| one["use"] == "run");
    run.count()
}

#[test]
fn the_terminal_is_the_commands_own_and_has_a_name() {
    both_ways(|sandbox, flag| {
        let mut screen = Screen::start(sandbox);
        let script = "tty; stty size; test -t 0 && echo direct > /dev/tty; id -u; cat /proc/self/stat | cut -d' ' -f7; exit 5";
        screen.press(&format!(
            "envd run {flag} -- sh -c \"{script}\"; echo code=$?\n"
        ));
        let seen = screen.expect("code=5");
        assert!(seen.contains("/dev/console"), "{flag}: {seen}");
        assert!(seen.contains("24 80"), "{flag}: {seen}");
        assert!(seen.contains("direct"), "{flag}: {seen}");
    });
}

#[test]
fn a_shell_has_job_control_and_says_where_it_is() {
    both_ways(|sandbox, flag| {
        let mut screen = Screen::start(sandbox);
        screen.press(&format!("envd enter {flag}; echo code=$?\n"));
        screen.press("cat /etc/debian_chroot; hello; sleep 1000\n");
        screen.expect("project");
        screen.expect("Hello, world! 1.0");
        std::thread::sleep(std::time::Duration::from_millis(300));
        screen.press("\x1a");
        screen.expect("Stopped");
        screen.press("fg\n");
        screen.expect("sleep 1000");
        std::thread::sleep(std::time::Duration::from_millis(300));
        screen.press("\x03");
        std::thread::sleep(std::time::Duration::from_millis(300));
        screen.press("echo back=$?\n");
        let seen = screen.expect("back=130");
        assert!(!seen.contains("can't access tty"), "{flag}: {seen}");
        screen.press("exit 6\n");
        screen.expect("code=6");
    });
}

#[test]
fn a_command_on_a_terminal_is_in_an_environment_of_the_daemons() {
    let Some((_world, sandboxes)) = worlds() else {
        return;
    };
    for sandbox in &sandboxes {
        let watch = Watch::start(sandbox);
        let daemon = Daemon::start(sandbox);
        let mut screen = Screen::start(sandbox);
        screen.press(
            "envd run -- sh -c 'sleep 600 & echo rea\"\"dy; read line; exit $line'; echo code=$?\n",
        );
        screen.expect("ready");
        assert_eq!(running(&daemon), 1);
        screen.press("9\n");
        screen.expect("code=9");
        // With the command goes what it left.
        until("its environment is gone", || running(&daemon) == 0);
        // The next one is as new.
        screen.press("envd run -- sh -c 'touch /tmp/mine /run/lock/mine'; echo code=$?\n");
        screen.expect("code=0");
        screen.press(
            "envd run -- sh -c 'test -e /tmp/mine || test -e /run/lock/mine'; echo code=$?\n",
        );
        screen.expect("code=1");
        drop(screen);
        drop(daemon);
        watch.assert_nothing_left();
    }
}

#[test]
fn ctrl_z_stops_and_fg_continues() {
    // What the command reads: the terminal, nothing, and as a shim; in a session of its own, too.
    for (envd, input) in [
        ("envd run FLAG -- ", ""),
        ("envd run FLAG -- ", "< /dev/null"),
        ("envd -v run FLAG -- ", "< /dev/null"),
        ("envd run FLAG --strict -- ", ""),
        ("envd run FLAG --strict -- ", "< /dev/null"),
        ("envd -v run FLAG --strict -- ", "< /dev/null"),
        (".envd/bin/", ""),
        (".envd/bin/", "< /dev/null"),
    ] {
        both_ways(|sandbox, flag| {
            if envd.starts_with('.') {
                sandbox.envd(&["shim", "install"]).ok();
            }
            let envd = envd.replace("FLAG", flag);
            let _ = std::fs::remove_file(sandbox.project().join("ticks"));
            let _ = std::fs::remove_file(sandbox.project().join("enough"));
            let ticks =
                || std::fs::metadata(sandbox.project().join("ticks")).map_or(0, |meta| meta.len());
            let what = format!("{envd} {input} {}", sandbox.is_ordinary());
            let mut screen = Screen::start(sandbox);
            // No shell loop: a shell that is stopped in between never gets to stop itself.
            let script =
                "while :; do echo t >> ticks; usleep 10000; test -e enough && exit 4; done";
            screen.press(&format!("{envd}sh -c '{script}' {input}; echo code=$?\n"));
            until(&format!("{what}: it ticks"), || ticks() > 0);
            for round in 0..2 {
                screen.press("\x1a");
                screen.expect("Stopped");
                screen.expect(PROMPT);
                let mut before = 0;
                until(&format!("{what}: it is stopped, {round}"), || {
                    let before = ticks();
                    std::thread::sleep(std::time::Duration::from_millis(150));
                    before == ticks()
                });
                before += ticks();
                screen.press("fg\n");
                until(&format!("{what}: it goes on, {round}"), || ticks() > before);
            }
            screen.press("\x1a");
            screen.expect("Stopped");
            screen.expect(PROMPT);
            screen.press("bg\n");
            screen.expect(PROMPT);
            let before = ticks();
            until(&format!("{what}: it goes on behind"), || ticks() > before);
            sandbox.write("enough", "");
            screen.press("wait %1; echo end=$?\n");
            screen.expect("end=4");
        });
    }
}

#[test]
fn ctrl_c_and_a_resized_window_reach_the_command() {
    both_ways(|sandbox, flag| {
        let mut screen = Screen::start(sandbox);
        let script = "trap \"stty size\" WINCH; trap \"echo interrupted; exit 42\" INT; echo rea\"\"dy; while :; do usleep 20000; done";
        screen.press(&format!(
            "envd run {flag} -- sh -c '{script}'; echo code=$?\n"
        ));
        screen.expect("ready");
        screen.resize(33, 99);
        screen.expect("33 99");
        screen.press("\x03");
        screen.expect("interrupted");
        screen.expect("code=42");
        screen.expect(PROMPT);
        screen.press("cat\n");
        screen.press("typed\n");
        screen.expect("typed");
        screen.press("\x04");
    });
}

#[test]
fn what_was_on_a_terminal_ends_with_its_client_its_daemon_and_its_lease() {
    let Some((_world, sandboxes)) = worlds() else {
        return;
    };
    for sandbox in &sandboxes {
        let watch = Watch::start(sandbox);
        let daemon = Daemon::start(sandbox);
        let stubborn =
            "sh -c 'trap \"\" HUP INT TERM; echo rea\"\"dy; while :; do sleep 600; done'";
        // The client.
        let mut screen = Screen::start(sandbox);
        screen.press(&format!("envd run -- {stubborn}\n"));
        screen.expect("ready");
        kill(screen.jobs()[0], Signal::SIGKILL).expect("ours");
        screen.expect(PROMPT);
        until("its environment is gone", || running(&daemon) == 0);
        screen.press("echo still $((2+2))\n");
        screen.expect("still 4");
        // The lease.
        screen.press(&format!(
            "envd lease --ttl 1s -- {stubborn}; echo code=$?\n"
        ));
        screen.expect("ready");
        screen.expect("time of the lease");
        screen.expect("code=124");
        // The daemon, asked to stop and killed.
        screen.press(&format!("envd run -- {stubborn}; echo code=$?\n"));
        screen.expect("ready");
        sandbox.envd(&["daemon", "stop"]).ok();
        screen.expect("the daemon was stopped");
        screen.expect("code=");
        sandbox.envd(&["daemon", "start"]).ok();
        screen.press(&format!("envd run -- {stubborn}; echo code=$?\n"));
        screen.expect("ready");
        daemon.kill();
        screen.expect("ended unexpectedly");
        screen.expect("code=");
        screen.press("echo still $((3+3))\n");
        screen.expect("still 6");
        drop(screen);
        // Takes away what a killed one has left.
        sandbox.envd(&["daemon", "start"]).ok();
        drop(daemon);
        watch.assert_nothing_left();
    }
}
