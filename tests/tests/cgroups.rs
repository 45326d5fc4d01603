//! Limits that control groups hold, proved in a machine of its own: hardly any machine that tests run on delegates some.

use std::path::Path;

use envd_tests::{programs, sandbox::envd_binary, vm};
use serde_json::Value;

/// Mounts what a system has, leaves the initial file system (of which no root can be pivoted), and drives: as root, and as an
/// ordinary user to whom a group was delegated as systemd does it.
const INIT: &str = r#"#!/bin/busybox sh
B=/bin/busybox
if [ "$1" != second ]; then
    $B mkdir /new; $B mount -t tmpfs -o mode=755 new /new
    $B cp -a /bin /project /etc /init /drive /overlay.ko /new/
    cd /new; $B mkdir proc sys dev tmp store root
    exec $B switch_root /new /init second
fi
$B --install -s /bin
export PATH=/bin
chmod 1777 /tmp; chmod 755 /project
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts
mount -t cgroup2 groups /sys/fs/cgroup
insmod /overlay.ko
/drive root
cd /sys/fs/cgroup
echo "+memory +pids +cpu" > cgroup.subtree_control
mkdir -p user/session
chown tester user user/cgroup.procs user/cgroup.subtree_control user/session user/session/cgroup.procs
sh -c 'echo $$ > user/session/cgroup.procs; exec su tester -c "/drive tester"'
echo END
reboot -f
"#;

/// A client of the server in a few lines of shell. What it prints is what the test looks at.
const DRIVE: &str = r#"#!/bin/sh
who=$1; here=/tmp/$who; mkdir $here; n=0
export PATH=/bin HOME=$here ENVD_STORE=$here/store ENVD_OFFLINE=1
cd /project
groups() { find /sys/fs/cgroup -name 'envd-[0-9]*'; }
begin() {
    rm -f $here/in $here/out; mkfifo $here/in $here/out
    /bin/envd agent mcp < $here/in > $here/out 2> $here/errors &
    server=$!
    exec 3> $here/in 4< $here/out
    ask initialize '{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}'
    echo '{"jsonrpc":"2.0","method":"notifications/initialized"}' >&3
}
ask() {
    n=$((n+1)); echo "{\"jsonrpc\":\"2.0\",\"id\":$n,\"method\":\"$1\",\"params\":$2}" >&3
    while read -r answer <&4; do
        case "$answer" in *"\"id\":$n,"*|*"\"id\":$n}"*) return;; esac
    done
    echo "$who gone $(cat $here/errors)"
}
call() { ask tools/call "{\"name\":\"$1\",\"arguments\":$2}"; echo "$who $3 $answer"; }
create() {
    call environment_create '{"from":"empty","limits":{"memory_bytes":67108864,"processes":40,"processors":0.5}}' create
    environment=$(echo "$answer" | sed 's/.*"environment":"\(env_[a-z0-9]*\)".*/\1/')
}
run() { call command_run "{\"environment\":\"$environment\",\"command\":[\"/project/busybox\",\"sh\",\"/project/$1\"]}" $1; }
begin
create
# Another may be there by now: that of an environment that is made ahead.
group=$(groups | sort -t - -k 3n | head -n 1)
for file in memory.max memory.swap.max pids.max cpu.max; do echo "$who $file $(cat $group/$file)"; done
run memory; run beside; run busy
echo "$who throttled $(grep nr_throttled $group/cpu.stat)"
run bomb
echo "$who pids.current $(cat $group/pids.current)"
echo "$who pids.events $(cat $group/pids.events)"
call environment_destroy "{\"environment\":\"$environment\"}" destroy
echo "$who left-by-destroy $(ls -d $group 2>/dev/null | wc -l)"
create
exec 3>&- 4<&-
wait $server
echo "$who left-by-leaving $(groups | wc -l)"
begin; create
old=$(groups)
kill -9 $server; exec 3>&- 4<&-; wait $server 2>/dev/null
begin; create
# Those that were killed with it are still ending.
for i in 1 2 3 4 5; do ls -d $old > /dev/null 2>&1 || break; sleep 1; done
echo "$who left-by-a-killed-server $(ls -d $old 2>/dev/null | wc -l)"
exec 3>&- 4<&-
wait $server
echo "$who left-in-the-end $(groups | wc -l)"
"#;

const MEMORY: &str = "B=/project/busybox; $B head -c 100000000 /dev/zero | $B tail -c 90000000 > /dev/null; exit $?\n";
const BESIDE: &str = "echo it goes on\n";
const BUSY: &str = "B=/project/busybox; $B timeout 2 $B sh -c 'while :; do :; done'; exit 0\n";
const BOMB: &str = "B=/project/busybox; i=0; while [ $i -lt 200 ]; do $B sleep 1000 >/dev/null & i=$((i+1)); echo $i; done\n";

/// The rest of the line that begins so.
#[track_caller]
fn told<'t>(console: &'t str, who: &str, what: &str) -> &'t str {
    let begin = format!("{who} {what} ");
    let line = console.lines().find_map(|line| line.strip_prefix(&*begin));
    line.unwrap_or_else(|| panic!("{begin}is not in\n{console}"))
        .trim()
}

#[track_caller]
fn answer(console: &str, who: &str, what: &str) -> Value {
    let line = told(console, who, what);
    let answer: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    answer["result"]["structuredContent"].clone()
}

#[test]
fn memory_processes_and_processor_time_are_held_and_no_group_is_left() {
    let (Some((busybox, _)), Some(kernel)) = (programs::busybox(), vm::Kernel::debian()) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let mut files = vm::InitialFiles::default();
    for path in ["/bin", "/project", "/etc"] {
        files.directory(path);
    }
    files
        .program("/bin/busybox", busybox)
        .program("/project/busybox", busybox)
        .program("/bin/envd", &vm::stripped(envd_binary(), directory.path()))
        .file("/overlay.ko", &kernel.module("fs/overlayfs/overlay"))
        .program("/init", INIT.as_bytes())
        .program("/drive", DRIVE.as_bytes())
        .file(
            "/etc/passwd",
            b"root:x:0:0::/root:/bin/sh\ntester:x:1000:1000::/tmp:/bin/sh\n",
        )
        .file("/etc/group", b"root:x:0:\ntester:x:1000:\n");
    for (name, script) in [
        ("memory", MEMORY),
        ("beside", BESIDE),
        ("busy", BUSY),
        ("bomb", BOMB),
    ] {
        files.file(&format!("/project/{name}"), script.as_bytes());
    }
    let console = kernel.run(&files, Path::new(directory.path()));
    if std::env::var_os("ENVD_TESTS_SHOW").is_some() {
        eprintln!("{console}");
    }
    for who in ["root", "tester"] {
        let created = answer(&console, who, "create");
        assert!(
            created
                .get("warnings")
                .is_none_or(|told| !told.to_string().contains("control group")),
            "{created}"
        );
        for (file, value) in [
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
            ("pids.max", "40"),
            ("cpu.max", "50000 100000"),
        ] {
            assert_eq!(told(&console, who, file), value, "{file}");
        }
        assert_eq!(
            answer(&console, who, "memory")["state"],
            "out_of_memory",
            "{console}"
        );
        assert_eq!(
            answer(&console, who, "beside")["stdout"]["head"],
            "it goes on\n"
        );
        assert_ne!(told(&console, who, "throttled"), "nr_throttled 0");
        let bomb = answer(&console, who, "bomb")["stdout"].to_string();
        assert!(bomb.contains("20\\n") && !bomb.contains("41\\n"), "{bomb}");
        let current: u32 = told(&console, who, "pids.current").parse().unwrap();
        assert!((20..=40).contains(&current), "{current}");
        assert_ne!(told(&console, who, "pids.events"), "max 0");
        assert_eq!(told(&console, who, "left-by-destroy"), "0");
        assert_eq!(told(&console, who, "left-by-leaving"), "0");
        assert_eq!(told(&console, who, "left-by-a-killed-server"), "0");
        assert_eq!(told(&console, who, "left-in-the-end"), "0");
    }
}
