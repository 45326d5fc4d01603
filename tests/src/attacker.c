/* What an agent can try from inside that no shell command does: system calls, each by a name.
 *
 * `attacker NAME...` tries one after the other, each in a process of its own, and prints a line for each:
 * `NAME: SUCCEEDED`, `NAME: EPERM` (or whatever errno), or `NAME: SIGSYS` (or whatever signal ended the attempt).
 * A name may have an argument behind a `=`. Whatever succeeds here must be harmless where nothing stops it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <linux/fs.h>
#include <unistd.h>

static const char *argument;

/* --- other processes --- */

static long vm(int number, pid_t pid) {
    char here[8];
    struct iovec local = {here, sizeof here}, remote = {(void *)0x400000, sizeof here};
    return syscall(number, pid, &local, 1L, &remote, 1L, 0L);
}
static long vm_read_init(void) { return vm(SYS_process_vm_readv, 1); }
static long vm_write_init(void) { return vm(SYS_process_vm_writev, 1); }
static long vm_read_parent(void) { return vm(SYS_process_vm_readv, getppid()); }
static long ptrace_attach_init(void) { return ptrace(PTRACE_ATTACH, 1, 0, 0); }
static long ptrace_seize_init(void) { return ptrace(PTRACE_SEIZE, 1, 0, 0); }
static long ptrace_attach_parent(void) { return ptrace(PTRACE_ATTACH, getppid(), 0, 0); }
static long ptrace_attach_high(void) {
    return syscall(SYS_ptrace, (long)PTRACE_ATTACH | 1L << 32, 1L, 0L, 0L);
}
static long ptrace_seize_high(void) {
    return syscall(SYS_ptrace, (long)PTRACE_SEIZE | 1L << 32, 1L, 0L, 0L);
}
static long pidfd_getfd_init(void) {
    int pidfd = syscall(SYS_pidfd_open, 1, 0);
    return pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, 0, 0);
}
static long kcmp_init(void) { return syscall(SYS_kcmp, getpid(), 1, 0, 0, 0); }
static long open_argument(void) { return open(argument, O_RDONLY | O_CLOEXEC); }
static long write_argument(void) { return open(argument, O_WRONLY | O_CLOEXEC | O_NOCTTY); }
static long list_argument(void) { return open(argument, O_RDONLY | O_DIRECTORY | O_CLOEXEC); }
static long enter_argument(void) { return chdir(argument); }
static long readlink_argument(void) {
    char target[4096];
    return readlink(argument, target, sizeof target);
}
static long setns_init(void) {
    int pidfd = syscall(SYS_pidfd_open, 1, 0);
    return pidfd < 0 ? -1 : setns(pidfd, CLONE_NEWNS | CLONE_NEWPID);
}

/* --- the kernel --- */

static long own_terminal(void) {
    int main = posix_openpt(O_RDWR | O_NOCTTY);
    if (main < 0 || grantpt(main) || unlockpt(main)) return -1;
    setsid();
    int other = open(ptsname(main), O_RDWR);
    if (other < 0) return -1;
    ioctl(other, TIOCSCTTY, 0);
    return other;
}
static long inject(unsigned long request) {
    long terminal = own_terminal();
    char type = 'x';
    return terminal < 0 ? -1 : syscall(SYS_ioctl, terminal, request, &type);
}
static long tiocsti(void) { return inject(TIOCSTI); }
static long tiocsti_high(void) { return inject(TIOCSTI | 1UL << 32); }
static long tiocsti_all_high(void) { return inject(TIOCSTI | 0xffffffffUL << 32); }
static long tioclinux(void) { return inject(0x541C); }
static long tioclinux_high(void) { return inject(0x541C | 1UL << 32); }

static long clone_newuser(void) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0L, 0L, 0L, 0L);
    if (pid == 0) _exit(0);
    return pid;
}
static long clone_newuser_more(void) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | SIGCHLD, 0L, 0L, 0L, 0L);
    if (pid == 0) _exit(0);
    return pid;
}
static long clone3_newuser(void) {
    uint64_t arguments[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long pid = syscall(SYS_clone3, arguments, sizeof arguments);
    if (pid == 0) _exit(0);
    return pid;
}
static long unshare_newuser(void) { return unshare(CLONE_NEWUSER); }
static long unshare_newns(void) { return unshare(CLONE_NEWNS); }
static long unshare_newnet(void) { return unshare(CLONE_NEWNET); }
static long unshare_newpid(void) { return unshare(CLONE_NEWPID); }

#ifdef __x86_64__
static long i386_getpid(void) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "0"(20L) : "memory");
    if (answer < 0) errno = -answer;
    return answer < 0 ? -1 : answer;
}
static long i386_unshare(void) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "0"(310L), "b"((long)CLONE_NEWUSER) : "memory");
    if (answer < 0) errno = -answer;
    return answer < 0 ? -1 : answer;
}
static long x32_getpid(void) { return syscall(0x40000000L | SYS_getpid); }
static long x32_ptrace(void) { return syscall(0x40000000L | 521, (long)PTRACE_ATTACH, 1L, 0L, 0L); }
static long x32_ioctl(void) { return syscall(0x40000000L | 514, 0L, (long)TIOCSTI, "x"); }
static long modify_ldt_(void) {
    char table[64];
    return syscall(SYS_modify_ldt, 0, table, sizeof table);
}
static long iopl_(void) { return syscall(SYS_iopl, 3); }
static long ioperm_(void) { return syscall(SYS_ioperm, 0x80, 1, 1); }
#endif

static long io_uring_setup_(void) {
    char parameters[120] = {0};
    return syscall(425, 4, parameters);
}
static long io_uring_enter_(void) { return syscall(426, 0, 0, 0, 0, 0, 0); }
static long io_uring_register_(void) { return syscall(427, -1, 8, 0, 0); }
static long bpf_(void) {
    struct { uint32_t type, key, value, most, rest[27]; } map = {2, 4, 8, 1, {0}};
    return syscall(SYS_bpf, 0, &map, sizeof map);
}
static long perf_(void) {
    char attributes[128] = {0};
    *(uint32_t *)attributes = 1;
    *(uint32_t *)(attributes + 4) = sizeof attributes;
    *(uint64_t *)(attributes + 40) = 1 << 5; /* exclude_kernel */
    return syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0);
}
static long userfaultfd_(void) { return syscall(SYS_userfaultfd, 1 /* user mode only */); }
static long keyctl_(void) { return syscall(SYS_keyctl, 0, -3, 0); }
static long add_key_(void) { return syscall(SYS_add_key, "user", "envd-test", "x", 1, -2); }
static long request_key_(void) { return syscall(SYS_request_key, "user", "envd-test", 0, -2); }
static long fanotify_(void) { return syscall(SYS_fanotify_init, 0x200 /* report fid */, O_RDONLY); }
static long kexec_(void) { return syscall(SYS_kexec_load, 0, 0, 0, 0); }
static long init_module_(void) { return syscall(SYS_init_module, "", 0, ""); }
static long finit_module_(void) { return syscall(SYS_finit_module, -1, "", 0); }
static long delete_module_(void) { return syscall(SYS_delete_module, "no-such-module", 0); }
static long open_by_handle(void) {
    struct { unsigned bytes; int type; unsigned char rest[128]; } handle = {128, 0, {0}};
    int mount;
    if (syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &handle, &mount, 0)) handle.bytes = 8, handle.type = 1;
    int root = open("/", O_RDONLY | O_DIRECTORY);
    return syscall(SYS_open_by_handle_at, root, &handle, O_RDONLY);
}
static long syslog_(void) {
    char text[64];
    return syscall(SYS_syslog, 3, text, sizeof text);
}
static long quotactl_(void) { return syscall(SYS_quotactl, 0x80000100 /* Q_SYNC */, 0, 0, 0); }
static long acct_(void) { return syscall(SYS_acct, 0); }
static long swapoff_(void) { return syscall(SYS_swapoff, "/no/such/swap"); }
static long reboot_(void) { return syscall(SYS_reboot, 0xfee1dead, 672274793, 0 /* disable ctrl-alt-del */, 0); }
static long settimeofday_(void) {
    struct timeval now;
    gettimeofday(&now, 0);
    return syscall(SYS_settimeofday, &now, 0);
}
static long sethostname_(void) { return sethostname("attacker", 8); }

/* --- mounts --- */

static long mount_tmpfs(void) { return syscall(SYS_mount, "tmpfs", "/tmp", "tmpfs", 0, ""); }
static long mount_bind(void) { return syscall(SYS_mount, "/", "/tmp", "", 4096L, ""); }
static long mount_proc(void) { return syscall(SYS_mount, "proc", "/tmp", "proc", 0, ""); }
static long remount(void) { return syscall(SYS_mount, "", "/proc/sys", "", 32L | 4096L, ""); }
static long umount_proc(void) { return syscall(SYS_umount2, "/proc", 2L); }
static long umount_sys(void) { return syscall(SYS_umount2, "/proc/sys", 2L); }
static long umount_null(void) { return syscall(SYS_umount2, "/dev/null", 2L); }
static long pivot_(void) { return syscall(SYS_pivot_root, "/tmp", "/tmp"); }
static long move_mount_(void) { return syscall(429, AT_FDCWD, "/proc", AT_FDCWD, "/tmp", 0); }
static long open_tree_(void) { return syscall(428, AT_FDCWD, "/", 1 /* clone */); }
static long open_tree_attr_(void) { return syscall(467, AT_FDCWD, "/", 1, 0, 0); }
static long fsopen_(void) { return syscall(430, "tmpfs", 0); }
static long fsconfig_(void) { return syscall(431, -1, 0, 0, 0, 0); }
static long fsmount_(void) { return syscall(432, -1, 0, 0); }
static long fspick_(void) { return syscall(433, AT_FDCWD, "/", 0); }
static long mount_setattr_(void) {
    uint64_t attributes[4] = {0, 1 /* not read-only */, 0, 0};
    return syscall(442, AT_FDCWD, "/proc/sys", 0, attributes, sizeof attributes);
}
static long chroot_(void) { return chroot("/tmp"); }

/* --- files --- */

static long mknod_at(const char *name, mode_t kind, dev_t device) {
    const char *directory = argument ? argument : "/tmp";
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    unlink(path);
    return mknod(path, kind | 0666, device);
}
static long mknod_memory(void) { return mknod_at("mem", S_IFCHR, 0x101); }
static long mknod_disk(void) { return mknod_at("disk", S_IFBLK, 0xfe00); }
static long mknod_whiteout(void) { return mknod_at("whiteout", S_IFCHR, 0); }
static long xattr_at(const char *name, const char *value, size_t length) {
    const char *directory = argument ? argument : "/tmp";
    return setxattr(directory, name, value, length, 0);
}
static long xattr_trusted(void) { return xattr_at("trusted.overlay.opaque", "y", 1); }
static long xattr_capability(void) {
    int file = open("/tmp/capable", O_RDWR | O_CREAT, 0755);
    uint32_t all[5] = {0x02000001, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
    return file < 0 ? -1 : fsetxattr(file, "security.capability", all, sizeof all, 0);
}
static long xattr_redirect(void) { return xattr_at("user.overlay.redirect", "/", 1); }
static long xattr_opaque(void) { return xattr_at("user.overlay.opaque", "y", 1); }
static long xattr_left(void) { return xattr_at("user.left", "behind", 6); }
/* Whether anybody has left one there. */
static long xattr_found(void) {
    char names[4096];
    ssize_t length = listxattr(argument, names, sizeof names);
    return length == 0 ? (errno = ENODATA, -1) : length;
}
static long flags(int set) {
    int directory = open(argument, O_RDONLY | O_DIRECTORY), flags = 0;
    if (directory < 0 || ioctl(directory, FS_IOC_GETFLAGS, &flags)) return -1;
    if (!set) return flags & FS_NOATIME_FL ? 0 : (errno = ENODATA, -1);
    flags |= FS_NOATIME_FL;
    return ioctl(directory, FS_IOC_SETFLAGS, &flags);
}
static long flag_left(void) { return flags(1); }
static long flag_found(void) { return flags(0); }
/* With the mode that it has: who may change it, may change it to anything. */
static long chmod_argument(void) {
    struct stat status;
    return stat(argument, &status) ? -1 : chmod(argument, status.st_mode & 07777);
}
static long chmod_input(void) {
    struct stat status;
    return fstat(0, &status) || !S_ISCHR(status.st_mode) ? (errno = EMEDIUMTYPE, -1) : fchmod(0, status.st_mode & 07777);
}
static long touch_argument(void) {
    struct stat status;
    if (stat(argument, &status)) return -1;
    struct timespec times[2] = {status.st_atim, status.st_mtim};
    return utimensat(AT_FDCWD, argument, times, 0);
}
static long chown_argument(void) { return chown(argument, 12345, 12345); }
static long link_argument(void) {
    unlink("/tmp/linked");
    return link(argument, "/tmp/linked");
}
static long link_descriptor(void) {
    int file = open(argument, O_RDONLY);
    unlink("/tmp/linked");
    return file < 0 ? -1 : linkat(file, "", AT_FDCWD, "/tmp/linked", AT_EMPTY_PATH);
}
static long lease(void) {
    int file = open(argument, O_RDWR | O_CREAT, 0644);
    if (file < 0 || fcntl(file, F_SETLEASE, F_WRLCK)) return -1;
    signal(SIGIO, SIG_IGN);
    puts("held");
    fflush(stdout);
    for (;;) pause();
    return 0;
}
/* Makes directories within each other, below the current one, deeper than any path is long. */
static long deep(void) {
    for (int left = atoi(argument); left > 0; left--)
        if ((mkdir("d", 0755) && errno != EEXIST) || chdir("d")) return -1;
    return 0;
}
/* Swaps a directory and a link in a place, again and again, until killed. */
static long swap(void) {
    mkdir("real", 0755);
    (void)!symlink(argument, "link");
    for (;;) {
        syscall(SYS_renameat2, AT_FDCWD, "real", AT_FDCWD, "link", 2L /* exchange */);
    }
    return 0;
}

/* --- privileges --- */

static long setuid_root(void) {
    /* Root is root already: whether it has become able to do anything is asked elsewhere. */
    return setresuid(0, 0, 0);
}
static long seteuid_other(void) { return setresuid(12345, 12345, 12345); }
static long capset_all(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};
    return syscall(SYS_capset, &header, data);
}
static long ambient(void) { return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0); }
static long any_capability(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &header, data)) return -1;
    for (int i = 0; i < 2; i++)
        if (data[i].effective | data[i].permitted | data[i].inheritable) return 0;
    for (int i = 0; i < 41; i++)
        if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) return 0;
    errno = EPERM;
    return -1;
}
/* A core of one byte is none, and keeps the machine's own handler of crashes away (coredump.c, RLIMIT_CORE of 1). */
static long core_handler(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit)) return -1;
    if (limit.rlim_cur != 1 || limit.rlim_max != 1) return 0;
    errno = EPERM;
    return -1;
}
static long dumpable_init(void) { return kill(1, SIGKILL); }

/* The launcher's own program is what PID 1 runs, and what a child of PID 1 still is when it executes /proc/self/exe. Who gets
 * hold of that file and may write to it writes into a process outside (CVE-2019-5736). A stop that comes during execve
 * takes effect right after it, so processes that appear are stopped and let go call by call. */
static long overwrite_launcher(void) {
    const int seals = 0x1 | 0x2 | 0x4 | 0x8;
    pid_t own = getpid(), parent = getppid();
    /* After a while nothing of the kind has come by. */
    for (long turn = 0; turn < 40000000; turn++) {
        DIR *processes = opendir("/proc");
        if (!processes) return -1;
        struct dirent *entry;
        while ((entry = readdir(processes))) {
            pid_t pid = atoi(entry->d_name);
            if (pid <= 1 || pid == own || pid == parent) continue;
            kill(pid, SIGSTOP);
            char path[64], target[256];
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            ssize_t length = readlink(path, target, sizeof target - 1);
            if (length > 0) target[length] = 0;
            if (length > 0 && strstr(target, "memfd:")) {
                int readable = open(path, O_RDONLY | O_CLOEXEC);
                int writable = open(path, O_RDWR | O_CLOEXEC);
                int sealed = readable < 0 ? -1 : fcntl(readable, 1034 /* F_GET_SEALS */);
                kill(pid, SIGKILL);
                if (readable < 0) continue;
                closedir(processes);
                if (writable >= 0 || (sealed & seals) != seals) return 0;
                errno = ETXTBSY;
                return -1;
            }
            kill(pid, SIGCONT);
        }
        closedir(processes);
    }
    errno = ETIME;
    return -1;
}
/* Stops everything that it may, again and again: also what PID 1 is just about to turn into a command. */
static long stop_all(void) {
    puts("stopping");
    fflush(stdout);
    for (;;) (void)kill(-1, SIGSTOP);
    return 0;
}

/* --- the network --- */

static long to_unix(int abstract) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path + abstract, argument, sizeof to.sun_path - 2);
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + abstract + strlen(argument);
    int stream = socket(AF_UNIX, SOCK_STREAM, 0);
    if (stream < 0 || !connect(stream, (void *)&to, length)) return stream;
    if (errno != EPROTOTYPE) return -1;
    return connect(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&to, length);
}
static long unix_path(void) { return to_unix(0); }
static long unix_abstract(void) { return to_unix(1); }

/* argument: ADDRESS,PORT */
static long to_internet(int kind, int protocol) {
    char text[128];
    strncpy(text, argument, sizeof text - 1);
    text[sizeof text - 1] = 0;
    char *comma = strrchr(text, ',');
    *comma = 0;
    int port = atoi(comma + 1);
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int is_four = inet_pton(AF_INET, text, &four.sin_addr) == 1;
    if (!is_four && inet_pton(AF_INET6, text, &six.sin6_addr) != 1) return errno = EINVAL, -1;
    int own = socket(is_four ? AF_INET : AF_INET6, kind, protocol);
    if (own < 0) return -1;
    struct sockaddr *to = is_four ? (void *)&four : (void *)&six;
    socklen_t length = is_four ? sizeof four : sizeof six;
    if (kind == SOCK_STREAM) return connect(own, to, length);
    return sendto(own, "envd", 4, 0, to, length);
}
static long tcp(void) { return to_internet(SOCK_STREAM, 0); }
static long mptcp(void) { return to_internet(SOCK_STREAM, 262); }
static long udp(void) { return to_internet(SOCK_DGRAM, 0); }
static long sctp(void) { return to_internet(SOCK_STREAM, 132); }
static long dccp(void) { return to_internet(6, 33); }
static long udplite(void) { return to_internet(SOCK_DGRAM, 136); }
static long icmp(void) { return to_internet(SOCK_DGRAM, IPPROTO_ICMP); }
static long raw_four(void) { return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static long raw_six(void) { return socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6); }
static long packet(void) { return socket(AF_PACKET, SOCK_RAW, htons(3)); }
static long vsock(void) { return socket(40, SOCK_STREAM, 0); }
static long crypto(void) { return socket(38, SOCK_SEQPACKET, 0); }
static long vsock_high(void) { return syscall(SYS_socket, 40L | 1L << 32, (long)SOCK_STREAM, 0L); }
/* Any family but those that every program uses: Unix, IPv4, IPv6, netlink. */
static long other_family(void) {
    int found = 0;
    for (int family = 0; family < 64; family++) {
        if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK) continue;
        int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM};
        for (int kind = 0; kind < 5; kind++) {
            int own = socket(family, kinds[kind], 0);
            /* What the kernel has and only wants asked for differently can be reached, too. */
            int there = own >= 0 || (errno != EAFNOSUPPORT && errno != EPERM);
            if (there) {
                printf("[family %d kind %d: %s] ", family, kinds[kind], own >= 0 ? "open" : strerrorname_np(errno));
                found = 1;
            }
            if (own >= 0) close(own);
        }
    }
    errno = EPERM;
    return found ? 0 : -1;
}

/* Any file of procfs outside the processes' own directories that can be opened to be written to. */
static int writable_below(const char *directory, int depth) {
    DIR *names = opendir(directory);
    if (!names) return 0;
    int found = 0;
    struct dirent *entry;
    while ((entry = readdir(names))) {
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, "..") || (!depth && atoi(name))) continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", directory, name);
        struct stat status;
        if (lstat(path, &status) || S_ISLNK(status.st_mode)) continue;
        if (S_ISDIR(status.st_mode)) {
            found |= writable_below(path, depth + 1);
            continue;
        }
        int file = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
        if (file < 0) continue;
        close(file);
        printf("[%s] ", path);
        found = 1;
    }
    closedir(names);
    return found;
}
static long procfs_writable(void) {
    int found = writable_below("/proc", 0);
    errno = EACCES;
    return found ? 0 : -1;
}

/* --- three that are no attacks: what writes so many bytes, what answers outside for a test, and what stands between envd and the kernel for a test --- */

#include <linux/filter.h>
#include <linux/seccomp.h>
/* `attacker without=NUMBER,ERRNO PROGRAM ARGUMENT...`: runs a program to which one system call is refused. */
static int without(char **words) {
    int number = atoi(argument), error = atoi(strchr(argument, ',') + 1);
    struct sock_filter steps[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, number},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | error},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    struct sock_fprog program = {4, steps};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, 1, 0, &program)) return perror("seccomp"), 1;
    execv(words[0], words);
    return perror(words[0]), 1;
}

#include <poll.h>
static int flood(void) {
    static char zeros[1 << 20];
    for (long left = atol(argument); left > 0;) {
        ssize_t wrote = write(1, zeros, left < (long)sizeof zeros ? left : (long)sizeof zeros);
        if (wrote < 0) return 1;
        left -= wrote;
    }
    return 0;
}
/* `attacker upstream=PORT,PORT...`: answers whoever connects with a line, and prints what it was sent; until its parent ends. */
static int upstream(void) {
    struct pollfd listening[8];
    int ports[8], count = 0;
    char sent[4096], line[64];
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (const char *at = argument; at && count < 8; at = strchr(at, ',') ? strchr(at, ',') + 1 : 0) {
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(ports[count] = atoi(at))};
        int one = 1, port = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(port, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(port, (void *)&own, sizeof own) || listen(port, 16)) return perror("listen"), 1;
        listening[count++] = (struct pollfd){port, POLLIN, 0};
    }
    puts("listening");
    for (;;) {
        fflush(stdout);
        if (poll(listening, count, -1) < 0) return 1;
        for (int i = 0; i < count; i++) {
            if (!listening[i].revents) continue;
            int client = accept(listening[i].fd, 0, 0);
            ssize_t length = read(client, sent, sizeof sent);
            if (length > 0) fwrite(sent, 1, length, stdout);
            int said = snprintf(line, sizeof line, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nupstream %d\n", ports[i]);
            (void)!write(client, line, said);
            close(client);
        }
    }
}

static const struct { const char *name; long (*attack)(void); } ATTACKS[] = {
#define A(name) {#name, name}
    A(vm_read_init), A(vm_write_init), A(vm_read_parent), A(ptrace_attach_init), A(ptrace_seize_init),
    A(ptrace_attach_parent), A(ptrace_attach_high), A(ptrace_seize_high), A(pidfd_getfd_init), A(kcmp_init), A(setns_init),
    {"open", open_argument}, {"write", write_argument}, {"list", list_argument}, {"enter", enter_argument},
    {"readlink", readlink_argument}, A(tiocsti), A(tiocsti_high), A(tiocsti_all_high), A(tioclinux), A(tioclinux_high),
    A(clone_newuser), A(clone_newuser_more), A(clone3_newuser), A(unshare_newuser), A(unshare_newns), A(unshare_newnet),
    A(unshare_newpid),
#ifdef __x86_64__
    A(i386_getpid), A(i386_unshare), A(x32_getpid), A(x32_ptrace), A(x32_ioctl), {"modify_ldt", modify_ldt_},
    {"iopl", iopl_}, {"ioperm", ioperm_},
#endif
    {"io_uring_setup", io_uring_setup_}, {"io_uring_enter", io_uring_enter_}, {"io_uring_register", io_uring_register_},
    {"bpf", bpf_}, {"perf_event_open", perf_}, {"userfaultfd", userfaultfd_}, {"keyctl", keyctl_}, {"add_key", add_key_},
    {"request_key", request_key_}, {"fanotify_init", fanotify_}, {"kexec_load", kexec_}, {"init_module", init_module_},
    {"finit_module", finit_module_}, {"delete_module", delete_module_}, A(open_by_handle), {"syslog", syslog_},
    {"quotactl", quotactl_}, {"acct", acct_}, {"swapoff", swapoff_}, {"reboot", reboot_},
    {"settimeofday", settimeofday_}, {"sethostname", sethostname_}, A(mount_tmpfs), A(mount_bind), A(mount_proc),
    A(remount), A(umount_proc), A(umount_sys), A(umount_null), {"pivot_root", pivot_}, {"move_mount", move_mount_},
    {"open_tree", open_tree_}, {"open_tree_attr", open_tree_attr_}, {"fsopen", fsopen_}, {"fsconfig", fsconfig_},
    {"fsmount", fsmount_}, {"fspick", fspick_}, {"mount_setattr", mount_setattr_}, {"chroot", chroot_}, A(mknod_memory),
    A(mknod_disk), A(mknod_whiteout), A(xattr_trusted), A(xattr_capability), A(xattr_redirect), A(xattr_opaque),
    A(xattr_left), A(xattr_found), A(flag_left), A(flag_found),
    {"chmod", chmod_argument}, A(chmod_input), {"touch", touch_argument}, {"chown", chown_argument},
    {"link", link_argument}, A(link_descriptor), A(lease), A(deep), A(swap), A(setuid_root), A(seteuid_other),
    A(capset_all), A(ambient), A(any_capability), A(core_handler), {"kill_init", dumpable_init}, A(overwrite_launcher),
    A(stop_all), A(unix_path), A(unix_abstract), A(tcp), A(mptcp), A(udp), A(udplite), A(sctp), A(dccp), A(icmp),
    A(raw_four), A(raw_six), A(packet), A(vsock), A(vsock_high), A(crypto), A(other_family), A(procfs_writable),
};

static int attempt(const char *whole) {
    char name[64];
    size_t length = strcspn(whole, "=");
    if (length >= sizeof name) return 2;
    memcpy(name, whole, length);
    name[length] = 0;
    argument = whole[length] ? whole + length + 1 : 0;
    for (size_t i = 0; i < sizeof ATTACKS / sizeof *ATTACKS; i++) {
        if (strcmp(ATTACKS[i].name, name)) continue;
        int report[2];
        if (pipe(report)) return 2;
        pid_t pid = fork();
        if (pid == 0) {
            errno = 0;
            int answer = ATTACKS[i].attack() < 0 ? errno ? errno : -1 : 0;
            fflush(stdout);
            (void)!write(report[1], &answer, sizeof answer);
            _exit(0);
        }
        close(report[1]);
        int answer, status;
        ssize_t got = read(report[0], &answer, sizeof answer);
        close(report[0]);
        waitpid(pid, &status, 0);
        if (got == sizeof answer)
            printf("%s: %s\n", whole, answer == 0 ? "SUCCEEDED" : answer < 0 ? "FAILED" : strerrorname_np(answer));
        else
            printf("%s: SIG%s\n", whole, sigabbrev_np(WTERMSIG(status)));
        fflush(stdout);
        return 0;
    }
    printf("%s: NO SUCH ATTACK\n", whole);
    return 2;
}

int main(int count, char **words) {
    int worst = 0;
    if (count > 2 && !strncmp(words[1], "without=", 8)) {
        argument = words[1] + 8;
        return without(words + 2);
    }
    if (count == 2 && !strncmp(words[1], "upstream=", 9)) {
        argument = words[1] + 9;
        return upstream();
    }
    if (count == 2 && !strncmp(words[1], "flood=", 6)) {
        argument = words[1] + 6;
        return flood();
    }
    for (int i = 1; i < count; i++) {
        int done = attempt(words[i]);
        if (done > worst) worst = done;
    }
    return worst;
}
