/* Child processes: spawn with a socket and stderr pipe, limits, deadlines, clean kill; facts of a
 * process. */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct proc_options {
    const char *const *argv; /* NULL-terminated; argv[0] is the path to execute */
    const char *const
        *env_keep; /* NULL-terminated names to pass on; NULL = PATH HOME LANG LC_ALL TMPDIR */
    uint64_t data_bytes_max; /* RLIMIT_DATA, 0 = none */
    bool socket;             /* a SOCK_STREAM socketpair on the child's fd 3 */
};

struct proc {
    pid_t pid;     /* 0 when not running */
    int socket_fd; /* parent's end, -1 if none */
    int stderr_fd; /* non-blocking read end of the child's stderr */
    int status;    /* wait status once reaped */
};

/* fork + execve: cleaned environment, closed descriptors, own process group, PDEATHSIG=KILL, no
 * core, stdin from /dev/null, stdout to stderr's pipe, every signal at its default and unblocked.
 * The kernel sends PDEATHSIG when the *thread* that spawned ends: spawn from a thread that outlives
 * the child. */
int proc_spawn(struct proc *p, const struct proc_options *options, struct err *e);
bool proc_alive(struct proc *p); /* reaps when it ended */
/* TERM, then KILL after grace_ms; reaps. Safe when already gone. */
void proc_kill(struct proc *p, int grace_ms);
/* The descriptors stay open after the child ended, so that its last words can be read: this kills
 * what still runs and closes them. Safe on a zeroed or already released struct. */
void proc_release(struct proc *p);
/* "killed by signal 9 (Killed)", "exited with status 1". Static storage per thread. */
const char *proc_status_text(int status);

/* Current and peak resident set and anonymous part, bytes, of a live pid (/proc/PID/status). */
struct proc_memory {
    uint64_t rss, rss_peak, rss_anon;
};
int proc_memory(pid_t pid, struct proc_memory *m);

/* One file descriptor beside bytes over a socket (SCM_RIGHTS). fd = -1 sends none / got none. A
 * parent's send gives up with ERR_TIMEOUT after 30 s without progress; both end with
 * ERR_INTERRUPTED on a stop request. ERR_CHILD: the other side is gone (for receive that is the end
 * of file). */
int proc_send(int socket_fd, const void *data, size_t n, int fd, struct err *e);
/* Receives at least 1 byte unless end of file (*n = 0). timeout_ms < 0 waits for ever. ERR_TIMEOUT.
 */
int proc_receive(int socket_fd, void *data, size_t capacity, size_t *n, int *fd, int timeout_ms,
                 struct err *e);

/* Absolute path of the running program. xfree. */
char *proc_self_path(void);

#endif
