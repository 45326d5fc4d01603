//! Programs that run in an environment without a single Debian package: compiled here, statically, and the static
//! busybox of the host. And the packages made of them.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, OnceLock},
};

use crate::{
    archive::{Archive, Suite},
    deb::{Compression, Deb},
    requirement,
};

/// Compiles C to a static executable, once for each source in a test process.
pub fn compile(source: &str) -> Vec<u8> {
    static COMPILED: OnceLock<Mutex<BTreeMap<String, Vec<u8>>>> = OnceLock::new();
    let mut compiled = COMPILED
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(program) = compiled.get(source) {
        return program.clone();
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (input, output) = (directory.path().join("p.c"), directory.path().join("p"));
    std::fs::write(&input, source).expect("writable");
    let done = Command::new("gcc")
        .args(["-static", "-Os", "-s", "-o"])
        .arg(&output)
        .arg(&input)
        .output()
        .expect("gcc is on the machine");
    assert!(
        done.status.success(),
        "gcc: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let program = std::fs::read(&output).expect("gcc wrote it");
    compiled.insert(source.to_owned(), program.clone());
    program
}

/// A program that prints a line.
pub fn printing(line: &str) -> Vec<u8> {
    compile(&format!(
        "#include <stdio.h>\nint main(void) {{ puts(\"{line}\"); return 0; }}\n"
    ))
}

/// A program that connects to a port of the loopback interface and succeeds if somebody answers.
///
/// busybox's own tools look names up on the way, for which a static program needs files of the host's C library.
pub fn connecting() -> Vec<u8> {
    compile(
        "#include <arpa/inet.h>\n#include <stdlib.h>\n\
         int main(int n, char **words) {\n\
         struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(words[1])) };\n\
         to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);\n\
         return connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to) != 0; }\n",
    )
}

/// A program that prints `ready` and stays, with a child that every polite signal leaves alone, in a session of its own.
///
/// Not a shell: busybox's ignores SIGQUIT.
pub fn staying() -> Vec<u8> {
    compile(
        "#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\n\
         int main(void) {\n\
         if (fork() == 0) { setsid(); sigset_t all; sigfillset(&all); sigprocmask(SIG_BLOCK, &all, 0); for (;;) pause(); }\n\
         if (fork() == 0) for (;;) pause();\n\
         puts(\"ready\"); fflush(stdout); for (;;) pause(); }\n",
    )
}

/// What an agent can try from inside that no shell command does, each attempt by a name: see `attacker.c`.
pub fn attacker() -> Vec<u8> {
    compile(include_str!("attacker.c"))
}

/// A server: `echoing ADDRESS PORT` sends back to whoever connects what they send, until they end.
pub fn echoing() -> Vec<u8> {
    compile(
        "#include <arpa/inet.h>\n#include <poll.h>\n#include <signal.h>\n#include <stdlib.h>\n#include <sys/socket.h>\n\
         #include <unistd.h>\n\
         int main(int n, char **words) {\n\
         static char bytes[65536]; static struct pollfd open[1024]; int count = 1;\n\
         struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(atoi(words[2])) };\n\
         struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(words[2])) };\n\
         int is_four = inet_pton(AF_INET, words[1], &four.sin_addr), one = 1;\n\
         int port = socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM, 0);\n\
         if (!is_four) inet_pton(AF_INET6, words[1], &six.sin6_addr);\n\
         setsockopt(port, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);\n\
         if (bind(port, is_four ? (void *)&four : (void *)&six, is_four ? sizeof four : sizeof six)) return 1;\n\
         if (listen(port, 256)) return 2;\n\
         signal(SIGPIPE, SIG_IGN);\n\
         (void)!write(1, \"listening\\n\", 10);\n\
         open[0] = (struct pollfd){port, POLLIN, 0};\n\
         for (;;) {\n\
         poll(open, count, -1);\n\
         for (int i = count - 1; i > 0; i--) {\n\
         if (!open[i].revents) continue;\n\
         long length = read(open[i].fd, bytes, sizeof bytes);\n\
         if (length > 0 && write(open[i].fd, bytes, length) == length) continue;\n\
         close(open[i].fd); open[i] = open[--count]; }\n\
         if (open[0].revents && count < 1024) open[count++] = (struct pollfd){accept(port, 0, 0), POLLIN, 0};\n\
         } }\n",
    )
}

/// A name server that answers differently from one question to the next: see `names.c`.
pub fn name_server() -> Vec<u8> {
    compile(include_str!("names.c"))
}

/// The host's static busybox and the names it answers to; `None` when there is none and tests may skip.
pub fn busybox() -> Option<(&'static [u8], &'static [String])> {
    static BUSYBOX: OnceLock<Option<(Vec<u8>, Vec<String>)>> = OnceLock::new();
    let found = BUSYBOX.get_or_init(|| {
        let path = ["/usr/bin/busybox", "/bin/busybox"]
            .into_iter()
            .map(Path::new)
            .find(|path| path.exists())?;
        let names = Command::new(path)
            .arg("--list")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let names = String::from_utf8(names.stdout).ok()?;
        let dynamic = Command::new("ldd")
            .arg(path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        let bytes = std::fs::read(path).ok()?;
        (!dynamic).then(|| (bytes, names.lines().map(str::to_owned).collect()))
    });
    requirement::met("busybox-static", found.is_some());
    found
        .as_ref()
        .map(|(bytes, names)| (bytes.as_slice(), names.as_slice()))
}

/// The package that gives a root its shape: the merged `/usr` and the files every system has.
pub fn base_files() -> Deb {
    let links = [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ];
    let deb = Deb::new("base-files", "13")
        .field("Essential", "yes")
        .compression(Compression::Zst)
        .directory("usr/bin", 0o755)
        .directory("usr/sbin", 0o755)
        .directory("usr/lib", 0o755)
        .directory("usr/lib64", 0o755)
        .directory("var/tmp", 0o1777)
        .directory("root", 0o700)
        .file("etc/debian_version", "13.0\n")
        .file("usr/lib/os-release", "ID=debian\nVERSION_CODENAME=trixie\n")
        .symlink("etc/os-release", "../usr/lib/os-release");
    links
        .into_iter()
        .fold(deb, |deb, (name, target)| deb.symlink(name, target))
}

/// A package with a shell and the usual small tools; `None` where [`busybox`] is missing and tests may skip.
pub fn shell() -> Option<Deb> {
    let (bytes, names) = busybox()?;
    let deb = Deb::new("shell", "1.35")
        .field("Essential", "yes")
        .compression(Compression::Zst)
        .program("usr/bin/busybox", bytes);
    Some(
        names
            .iter()
            .filter(|name| *name != "busybox")
            .fold(deb, |deb, name| {
                deb.symlink(&format!("usr/bin/{name}"), "busybox")
            }),
    )
}

/// The package whose program prints `Hello, world!`.
pub fn hello(version: &str) -> Deb {
    Deb::new("hello", version)
        .field(
            "Description",
            "example package that greets\n A longer text.",
        )
        .program(
            "usr/bin/hello",
            printing(&format!("Hello, world! {version}")),
        )
}

/// Adds a base, a shell and `hello` 1.0 to a suite.
pub fn populate(suite: &mut Suite) -> Option<()> {
    let shell = shell()?;
    suite.add(base_files()).add(shell).add(hello("1.0"));
    Some(())
}

/// An archive in whose `trixie` there is a base, a shell, `hello` 1.0, and `greet`, which needs `libgreet`.
///
/// `None` when the machine lacks what it takes and tests may skip.
pub fn small_archive() -> Option<Archive> {
    let mut archive = Archive::new();
    populate(archive.trixie())?;
    archive
        .trixie()
        .add(
            Deb::new("libgreet1", "1.4-2")
                .field("Multi-Arch", "same")
                .field("Description", "library of greetings")
                .file("usr/share/libgreet/words", "good day\n"),
        )
        .add(
            Deb::new("greet", "2.0-1")
                .depends("libgreet1 (>= 1.4)")
                .field("Description", "prints what libgreet knows")
                .program(
                    "usr/bin/greet",
                    "#!/bin/sh\nexec cat /usr/share/libgreet/words\n",
                ),
        );
    Some(archive)
}
