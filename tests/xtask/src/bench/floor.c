/*
 * What a small C program needs for the steps that envd's launcher takes: the floor that it is measured against.
 *
 *   floor VIEW PROGRAM ROUNDS net|shared
 *   floor VIEW PROGRAM COUNT net|shared idle
 *
 * The second makes COUNT environments, prints "ready" and keeps them until its standard input ends. The first
 * prints the median of ROUNDS, in nanoseconds, of: a static program by vfork, exec and wait, outside; the same inside a running
 * environment, asked for over a socket; and a new environment (namespaces, id maps, overlay with a tmpfs upper, proc, a minimal
 * /dev, pivot_root) with the first program run in it, asked for over a socket from a resident process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *view;
static int program, network;

static void need(int holds, const char *step)
{
	if (!holds) {
		fprintf(stderr, "floor: %s: %s\n", step, strerror(errno));
		_exit(1);
	}
}

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	need(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(file);
}

/* By its descriptor, which leads to it inside, too. */
static int run(void)
{
	char *arguments[] = {"program", NULL}, *environment[] = {NULL};
	pid_t pid = vfork();
	if (pid == 0) {
		syscall(SYS_execveat, program, "", arguments, environment, AT_EMPTY_PATH);
		_exit(127);
	}
	int status = -1;
	need(pid > 0 && waitpid(pid, &status, 0) == pid, "run");
	return status;
}

static void assemble(void)
{
	char options[128];
	int lower = open(view, O_PATH | O_CLOEXEC);
	need(lower >= 0, view);
	need(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
	need(!mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755"), "tmpfs");
	need(!mkdir("/tmp/upper", 0755) && !mkdir("/tmp/work", 0755), "mkdir");
	need(!mkdir("/tmp/upper/proc", 0755) || errno == EEXIST, "mkdir");
	mkdir("/tmp/upper/dev", 0755);
	snprintf(options, sizeof options, "userxattr,lowerdir=/proc/self/fd/%d,upperdir=/tmp/upper,workdir=/tmp/work", lower);
	need(!mount("overlay", "/tmp", "overlay", 0, options), "overlay");
	need(!mount("proc", "/tmp/proc", "proc", 0, NULL), "proc");
	need(!mount("tmpfs", "/tmp/dev", "tmpfs", 0, "mode=0755"), "dev");
	const char *nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
	for (int i = 0; i < 6; i++) {
		char from[32], to[32];
		snprintf(from, sizeof from, "/dev/%s", nodes[i]);
		snprintf(to, sizeof to, "/tmp/dev/%s", nodes[i]);
		close(open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
		need(!mount(from, to, NULL, MS_BIND, NULL), from);
	}
	need(!chdir("/tmp") && !syscall(SYS_pivot_root, ".", ".") && !umount2(".", MNT_DETACH) && !chdir("/"), "pivot_root");
	need(!sethostname("floor", 5), "sethostname");
	if (network) {
		struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
		int device = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		need(!ioctl(device, SIOCSIFFLAGS, &request), "lo");
		close(device);
	}
	need(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

/* PID 1: runs the program for each byte that it is sent, and answers with one. */
static void first(int owner)
{
	char byte;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	assemble();
	while (recv(owner, &byte, 1, 0) == 1) {
		byte = run() != 0;
		send(owner, &byte, 1, 0);
	}
	_exit(0);
}

static int launch(int owner, int other)
{
	struct clone_args arguments = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (network ? CLONE_NEWNET : 0),
		.exit_signal = SIGCHLD,
	};
	char uid[64], gid[64];
	snprintf(uid, sizeof uid, "%d %d 1\n", geteuid(), geteuid());
	snprintf(gid, sizeof gid, "%d %d 1\n", getegid(), getegid());
	pid_t pid = syscall(SYS_clone3, &arguments, sizeof arguments);
	if (pid == 0) {
		close(other);
		put("/proc/self/setgroups", "deny");
		put("/proc/self/uid_map", uid);
		put("/proc/self/gid_map", gid);
		first(owner);
	}
	need(pid > 0, "clone3");
	return pid;
}

/* The resident process: makes an environment for each packet, whose end of a connection comes with it. */
static void resident(int socket)
{
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		char byte, space[CMSG_SPACE(sizeof(int))];
		struct iovec part = {&byte, 1};
		struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
		if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1)
			_exit(0);
		int owner;
		memcpy(&owner, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof owner);
		signal(SIGCHLD, SIG_DFL);
		launch(owner, socket);
		signal(SIGCHLD, SIG_IGN);
		close(owner);
	}
}

static int order(const void *a, const void *b)
{
	long long one = *(const long long *)a, other = *(const long long *)b;
	return (one > other) - (one < other);
}

static long long median(long long *times, int count)
{
	qsort(times, count, sizeof *times, order);
	return times[count / 2];
}

static void ask(int socket)
{
	char byte = 0;
	need(send(socket, &byte, 1, MSG_NOSIGNAL) == 1 && recv(socket, &byte, 1, 0) == 1 && byte == 0, "run inside");
}

/* Asks the resident process for a new environment; gives the connection to its PID 1. */
static int make(int resident)
{
	int connection[2];
	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, connection), "socketpair");
	char byte = 0, space[CMSG_SPACE(sizeof(int))];
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
	struct cmsghdr *control = CMSG_FIRSTHDR(&message);
	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(control), &connection[1], sizeof(int));
	need(sendmsg(resident, &message, MSG_NOSIGNAL) == 1, "ask the resident");
	close(connection[1]);
	return connection[0];
}

static void keep(int resident, int count)
{
	char byte;
	struct rlimit most;
	getrlimit(RLIMIT_NOFILE, &most);
	most.rlim_cur = most.rlim_max;
	setrlimit(RLIMIT_NOFILE, &most);
	for (int i = 0; i < count; i++)
		ask(make(resident));
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
}

int main(int count, char **arguments)
{
	int idle = count == 6 && !strcmp(arguments[5], "idle");
	need(idle || count == 5, "usage: floor VIEW PROGRAM ROUNDS net|shared [idle]");
	view = arguments[1];
	program = open(arguments[2], O_PATH | O_CLOEXEC);
	need(program >= 0, arguments[2]);
	int rounds = atoi(arguments[3]);
	network = !strcmp(arguments[4], "net");
	long long *times = calloc(rounds, sizeof *times);
	int pair[2];
	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
	if (fork() == 0) {
		close(pair[0]);
		resident(pair[1]);
	}
	close(pair[1]);
	if (idle) {
		keep(pair[0], rounds);
		return 0;
	}

	for (int i = 0; i < rounds; i++) {
		long long start = now();
		run();
		times[i] = now() - start;
	}
	printf("%lld ", median(times, rounds));

	int inside = -1;
	for (int i = 0; i < rounds; i++) {
		long long start = now();
		int connection = make(pair[0]);
		ask(connection);
		times[i] = now() - start;
		if (i + 1 < rounds) {
			close(connection);
			/* A network namespace takes 36 ms to be gone: not part of making one, and not to pile up. */
			usleep(network ? 40000 : 2000);
		} else {
			inside = connection;
		}
	}
	long long made = median(times, rounds);
	for (int i = 0; i < rounds; i++) {
		long long start = now();
		ask(inside);
		times[i] = now() - start;
	}
	printf("%lld %lld\n", median(times, rounds), made);
	return 0;
}
