/* Child processes.
 *
 * Owns a child's pid and the parent's two descriptors. Children are started with vfork: the
 * parent's other threads may hold malloc's locks and the parent may map gigabytes, so the child
 * copies no page table and calls nothing but async-signal-safe system calls on data that was
 * prepared before; a failed exec is reported exactly, through the memory both still share. Signals
 * stay blocked in the parent until the child has put them back to default, so no handler of ours
 * ever runs in the child.
 */
#include "base/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/stop.h"
#include "base/banned.h"

enum {
    CHILD_SOCKET_FD = 3,
    FD_SAFE_FROM = 10, /* source descriptors live here, clear of the targets 0..3 */
    SEND_PATIENCE_S = 30,
    POLL_SLICE_MS = 200, /* how late a stop request may be noticed */
};

extern char **environ;

/* Everything the child needs, prepared while allocation is still allowed. */
struct launch {
    const char *path;
    char *const *argv;
    char **env;
    int null_fd, stderr_fd, socket_fd; /* >= FD_SAFE_FROM, or -1 */
    uint64_t data_bytes_max;
    pid_t parent;
    int fd_limit;              /* for kernels without close_range */
    volatile int failed_errno; /* written by the child, read by the parent after vfork returns */
    const char *volatile failed_step;
};

static void child_fail(struct launch *l, const char *step)
{
    l->failed_errno = errno;
    l->failed_step = step;
    _exit(127);
}

static void child_limit(struct launch *l, int resource, rlim_t value)
{
    struct rlimit limit = {value, value};
    if (setrlimit((__rlimit_resource_t)resource, &limit) < 0)
        child_fail(l, "set a resource limit");
}

static void child_signals(void)
{
    struct sigaction normal = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++)
        sigaction(s, &normal, NULL); /* fails for KILL, STOP and glibc's own: harmless */
    /* glibc keeps 32 and 33 to itself, but a parent started by posix_spawn (GNU make's children
     * are) may ignore them; all zero is the kernel's default action. */
    static const unsigned char kernel_default[32];
    for (int s = 32; s <= 33; s++)
        syscall(SYS_rt_sigaction, s, kernel_default, NULL, sizeof(uint64_t));
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_descriptors(struct launch *l)
{
    if (dup2(l->null_fd, 0) < 0 || dup2(l->stderr_fd, 1) < 0 || dup2(l->stderr_fd, 2) < 0)
        child_fail(l, "connect standard streams");
    if (l->socket_fd >= 0 && dup2(l->socket_fd, CHILD_SOCKET_FD) < 0)
        child_fail(l, "connect the socket");
    unsigned first = l->socket_fd >= 0 ? CHILD_SOCKET_FD + 1 : CHILD_SOCKET_FD;
    if (syscall(SYS_close_range, first, ~0u, 0u) == 0)
        return;
    for (int fd = (int)first; fd < l->fd_limit; fd++)
        close(fd);
}

/* Runs between vfork and exec: system calls only, no return. */
static _Noreturn void child_main(struct launch *l)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != l->parent) /* the parent died before PDEATHSIG was armed */
        _exit(127);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    child_limit(l, RLIMIT_CORE, 0);
    if (l->data_bytes_max > 0)
        child_limit(l, RLIMIT_DATA, (rlim_t)l->data_bytes_max);
    child_descriptors(l);
    child_signals();
    execve(l->path, l->argv, l->env);
    child_fail(l, "execute it");
    _exit(127);
}

/* vfork's child borrows this frame, so nothing here may be changed by the child but *l. */
static __attribute__((noinline)) pid_t launch(struct launch *l)
{
    sigset_t all, old;
    int cancel;
    sigfillset(&all);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = vfork();
    if (pid == 0)
        child_main(l);
    int saved = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_setcancelstate(cancel, &cancel);
    errno = saved;
    return pid;
}

/* The kept variables as an envp array; the strings stay the parent's, the array is xfree's. */
static char **kept_environment(const char *const *keep)
{
    static const char *const usual[] = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", NULL};
    if (!keep)
        keep = usual;
    char **env = NULL;
    size_t n = 0, capacity = 0;
    for (size_t k = 0; keep[k]; k++) {
        size_t len = strlen(keep[k]);
        for (char **v = environ; v && *v; v++) {
            if (strncmp(*v, keep[k], len) != 0 || (*v)[len] != '=')
                continue;
            env = xgrow(env, &capacity, n + 2, sizeof(*env));
            env[n++] = *v;
            break;
        }
    }
    env = xgrow(env, &capacity, n + 1, sizeof(*env));
    env[n] = NULL;
    return env;
}

/* Moves *fd above the descriptors that the child uses. */
static int move_up(int *fd)
{
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, FD_SAFE_FROM);
    if (moved < 0)
        return -1;
    close(*fd);
    *fd = moved;
    return 0;
}

struct channels {
    int null_fd, pipe[2], pair[2]; /* [0] is the parent's end */
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int open_channels(struct channels *c, bool want_socket)
{
    *c = (struct channels){-1, {-1, -1}, {-1, -1}};
    c->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (c->null_fd < 0 || pipe2(c->pipe, O_CLOEXEC) < 0)
        return -1;
    if (fcntl(c->pipe[0], F_SETFL, O_NONBLOCK) < 0)
        return -1;
    if (want_socket && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c->pair) < 0)
        return -1;
    struct timeval patience = {.tv_sec = SEND_PATIENCE_S};
    if (want_socket &&
        setsockopt(c->pair[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
        return -1;
    if (move_up(&c->null_fd) < 0 || move_up(&c->pipe[1]) < 0)
        return -1;
    return want_socket ? move_up(&c->pair[1]) : 0;
}

int proc_spawn(struct proc *p, const struct proc_options *options, struct err *e)
{
    struct channels c;
    char **env = NULL;
    int rc = -1;
    const char *path = options->argv[0];
    *p = (struct proc){.socket_fd = -1, .stderr_fd = -1};
    if (open_channels(&c, options->socket) < 0) {
        err_set_errno(e, errno, NULL, "cannot open the channels to start %s", path);
        goto out;
    }
    env = kept_environment(options->env_keep);
    long open_max = sysconf(_SC_OPEN_MAX);
    struct launch l = {.path = path,
                       .argv = (char *const *)(uintptr_t)options->argv,
                       .env = env,
                       .null_fd = c.null_fd,
                       .stderr_fd = c.pipe[1],
                       .socket_fd = c.pair[1],
                       .data_bytes_max = options->data_bytes_max,
                       .parent = getpid(),
                       .fd_limit = open_max > 0 && open_max < 65536 ? (int)open_max : 65536};
    pid_t pid = launch(&l);
    if (pid < 0) {
        err_set_errno(e, errno, NULL, "cannot start %s", path);
        goto out;
    }
    if (l.failed_step) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
        err_set_errno(e, l.failed_errno, NULL, "cannot start %s: could not %s", path,
                      l.failed_step);
        goto out;
    }
    *p = (struct proc){.pid = pid, .socket_fd = c.pair[0], .stderr_fd = c.pipe[0]};
    c.pair[0] = c.pipe[0] = -1;
    rc = 0;
out:
    close_fd(&c.null_fd);
    close_fd(&c.pipe[0]);
    close_fd(&c.pipe[1]);
    close_fd(&c.pair[0]);
    close_fd(&c.pair[1]);
    xfree(env);
    return rc;
}

/* Reaps the child if it has ended. Its group is killed first, while the unreaped pid still reserves
 * the group's number: grandchildren must not outlive it, and no stranger can be hit. */
static bool reap(struct proc *p)
{
    siginfo_t info = {.si_pid = 0};
    int flags = WEXITED | WNOHANG | WNOWAIT, rc;
    while ((rc = waitid(P_PID, (id_t)p->pid, &info, flags)) < 0 && errno == EINTR)
        continue;
    if (rc == 0 && info.si_pid == 0)
        return false;
    if (rc == 0) {
        kill(-p->pid, SIGKILL);
        while (waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
            continue;
    }
    p->pid = 0;
    return true;
}

bool proc_alive(struct proc *p)
{
    return p->pid > 0 && !reap(p);
}

static void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

void proc_kill(struct proc *p, int grace_ms)
{
    if (!proc_alive(p))
        return;
    double deadline = clock_seconds() + grace_ms / 1000.0;
    if (grace_ms > 0)
        kill(-p->pid, SIGTERM);
    for (int nap = 1; clock_seconds() < deadline; nap = nap < 20 ? nap * 2 : 20) {
        sleep_ms(nap);
        if (!proc_alive(p))
            return;
    }
    kill(-p->pid, SIGKILL);
    kill(p->pid, SIGKILL); /* should it have left its group */
    for (int nap = 1; proc_alive(p); nap = nap < 20 ? nap * 2 : 20)
        sleep_ms(nap);
}

void proc_release(struct proc *p)
{
    if (p->pid > 0)
        proc_kill(p, 0);
    if (p->stderr_fd > 0)
        close(p->stderr_fd);
    if (p->socket_fd > 0)
        close(p->socket_fd);
    *p = (struct proc){.socket_fd = -1, .stderr_fd = -1, .status = p->status};
}

const char *proc_status_text(int status)
{
    static _Thread_local char text[96];
    if (WIFSIGNALED(status))
        snprintf(text, sizeof(text), "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (WIFEXITED(status))
        snprintf(text, sizeof(text), "exited with status %d", WEXITSTATUS(status));
    else
        snprintf(text, sizeof(text), "ended with wait status 0x%x", (unsigned)status);
    return text;
}

/* "\nVmRSS:   1234 kB" -> bytes; 0 when the line is missing (kernel threads, zombies). */
static uint64_t status_bytes(const char *text, const char *label)
{
    const char *line = strstr(text, label);
    if (!line)
        return 0;
    return strtoull(line + strlen(label), NULL, 10) * 1024;
}

int proc_memory(pid_t pid, struct proc_memory *m)
{
    char path[64], *text;
    size_t n;
    snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    if (fs_read_all(path, 1 << 16, &text, &n, NULL))
        return -1;
    *m = (struct proc_memory){.rss = status_bytes(text, "\nVmRSS:"),
                              .rss_peak = status_bytes(text, "\nVmHWM:"),
                              .rss_anon = status_bytes(text, "\nRssAnon:")};
    xfree(text);
    return m->rss > 0 ? 0 : -1;
}

static int send_failed(int reason, struct err *e)
{
    if (reason == EAGAIN || reason == EWOULDBLOCK)
        return err_set(e, ERR_TIMEOUT, NULL, "the worker process has stopped reading");
    if (reason == EPIPE || reason == ECONNRESET)
        return err_set(e, ERR_CHILD, NULL, "the worker process is gone");
    return err_set_errno(e, reason, NULL, "cannot send to the worker process");
}

int proc_send(int socket_fd, const void *data, size_t n, int fd, struct err *e)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    const char *p = data;
    if (n == 0)
        return err_set(e, ERR_BUG, NULL, "an empty message cannot carry a descriptor");
    while (n > 0) {
        struct iovec part = {(void *)(uintptr_t)p, n};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (fd >= 0) {
            message.msg_control = control.bytes;
            message.msg_controllen = sizeof(control.bytes);
            struct cmsghdr *c = CMSG_FIRSTHDR(&message);
            *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
                                  .cmsg_level = SOL_SOCKET,
                                  .cmsg_type = SCM_RIGHTS};
            memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        }
        ssize_t sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            if (stop_check(e))
                return -1;
            continue;
        }
        if (sent < 0)
            return send_failed(errno, e);
        fd = -1; /* travels with the first byte only */
        p += sent;
        n -= (size_t)sent;
    }
    return 0;
}

/* Waits for data or end of file, in slices, so that a stop request on another thread is noticed. */
static int wait_readable(int fd, int timeout_ms, struct err *e)
{
    double deadline = clock_seconds() + timeout_ms / 1000.0;
    for (;;) {
        if (stop_check(e))
            return -1;
        int slice = POLL_SLICE_MS;
        if (timeout_ms >= 0) {
            double left = (deadline - clock_seconds()) * 1000;
            if (left < slice)
                slice = left > 0 ? (int)left + 1 : 0;
        }
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int rc = poll(&p, 1, slice);
        if (rc > 0)
            return 0;
        if (rc < 0 && errno != EINTR)
            return err_set_errno(e, errno, NULL, "cannot wait for the worker process");
        if (timeout_ms >= 0 && clock_seconds() >= deadline)
            return err_set(e, ERR_TIMEOUT, NULL, "no answer from the worker process in %.1f s",
                           timeout_ms / 1000.0);
    }
}

/* Takes the descriptor out of a message; more than we asked for are closed, not leaked. */
static int take_descriptor(struct msghdr *message)
{
    int kept = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (kept < 0)
                kept = fd;
            else
                close(fd);
        }
    }
    return kept;
}

int proc_receive(int socket_fd, void *data, size_t capacity, size_t *n, int *fd, int timeout_ms,
                 struct err *e)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec part = {data, capacity};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t got;
    do {
        if (wait_readable(socket_fd, timeout_ms, e))
            return -1;
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (got < 0 && (errno == EINTR || errno == EAGAIN));
    if (got < 0 && errno != ECONNRESET) /* a reset is how a dead child with unread data ends */
        return err_set_errno(e, errno, NULL, "cannot read from the worker process");
    int received = got > 0 ? take_descriptor(&message) : -1;
    if (fd)
        *fd = received;
    else if (received >= 0)
        close(received);
    *n = got > 0 ? (size_t)got : 0;
    return 0;
}

char *proc_self_path(void)
{
    static const char link[] = "/proc/self/exe";
    char path[4096];
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n <= 0)
        return xstrdup(link);
    path[n] = 0;
    /* A program that was rebuilt or upgraded while it runs is reached through the link alone. */
    return xstrdup(access(path, X_OK) == 0 ? path : link);
}
