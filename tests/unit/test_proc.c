/* proc: what a child gets and does not get, deadlines, kills, limits, messages with descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/stop.h"

static void spawn_shell(struct proc *p, const char *script, struct proc_options options)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    struct err e = {0};
    options.argv = argv;
    if (proc_spawn(p, &options, &e))
        fail_msg("%s", e.message);
    assert_true(p->pid > 0);
}

/* All that the child says until it closes its stderr. */
static void read_words(struct proc *p, char *text, size_t size)
{
    size_t n = 0;
    double deadline = clock_seconds() + 20;
    while (clock_seconds() < deadline && n + 1 < size) {
        struct pollfd fd = {.fd = p->stderr_fd, .events = POLLIN};
        poll(&fd, 1, 1000);
        ssize_t got = read(p->stderr_fd, text + n, size - 1 - n);
        if (got == 0)
            break;
        if (got > 0)
            n += (size_t)got;
        else
            assert_int_equal(errno, EAGAIN);
    }
    text[n] = 0;
}

static int wait_end(struct proc *p)
{
    for (int i = 0; i < 2000 && proc_alive(p); i++)
        usleep(10000);
    assert_int_equal(p->pid, 0);
    return p->status;
}

static void run_and_read(const char *script, struct proc_options options, char *text, size_t size,
                         int *status)
{
    struct proc p;
    spawn_shell(&p, script, options);
    read_words(&p, text, size);
    *status = wait_end(&p);
    proc_release(&p);
    assert_int_equal(p.stderr_fd, -1);
}

static void output_and_status_arrive(void **state)
{
    (void)state;
    char text[256];
    int status;
    run_and_read("echo out; echo err >&2; exit 7", (struct proc_options){0}, text, sizeof(text),
                 &status);
    assert_string_equal(text, "out\nerr\n");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    assert_string_equal(proc_status_text(status), "exited with status 7");
    run_and_read("kill -9 $$", (struct proc_options){0}, text, sizeof(text), &status);
    assert_string_equal(proc_status_text(status), "killed by signal 9 (Killed)");
}

static void environment_is_cleaned(void **state)
{
    (void)state;
    char text[4096];
    int status;
    setenv("SECRET_TOKEN", "hunter2", 1);
    setenv("WANTED", "yes", 1);
    run_and_read("env", (struct proc_options){0}, text, sizeof(text), &status);
    assert_null(strstr(text, "hunter2"));
    assert_non_null(strstr(text, "PATH="));
    static const char *const keep[] = {"WANTED", "ABSENT", NULL};
    run_and_read("env", (struct proc_options){.env_keep = keep}, text, sizeof(text), &status);
    assert_non_null(strstr(text, "WANTED=yes"));
    assert_null(strstr(text, "HOME="));
    unsetenv("SECRET_TOKEN");
}

static void descriptors_are_closed(void **state)
{
    (void)state;
    char text[1024];
    int status;
    int leaky = open("/dev/null", O_RDONLY); /* without close-on-exec */
    int high = fcntl(leaky, F_DUPFD, 200);
    run_and_read("ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0",
                 (struct proc_options){0}, text, sizeof(text), &status);
    assert_string_equal(text, "0 1 2 3 /dev/null\n"); /* 3 is ls's own */
    close(leaky);
    close(high);
}

static void child_stands_alone(void **state)
{
    (void)state;
    char text[1024], expected[64];
    int status;
    struct proc p;
    /* its own process group, no core files, no way to new privileges, signals at default and free
     */
    signal(SIGUSR1, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    spawn_shell(&p,
                "cut -d' ' -f5 /proc/self/stat; ulimit -c; "
                "grep -E 'NoNewPrivs|SigBlk|SigIgn' /proc/self/status | tr '\\n\\t' '  '",
                (struct proc_options){0});
    snprintf(expected, sizeof(expected), "%ld\n0\n", (long)p.pid);
    read_words(&p, text, sizeof(text));
    status = wait_end(&p);
    proc_release(&p);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGUSR1, SIG_DFL);
    assert_int_equal(status, 0);
    assert_memory_equal(text, expected, strlen(expected));
    assert_non_null(strstr(text, "NoNewPrivs: 1"));
    assert_non_null(strstr(text, "SigBlk: 0000000000000000"));
    /* Signals 32 and 33 are glibc's own: posix_spawn, which make uses, ignores them, and nobody can
     * undo that. */
    const char *ignored = strstr(text, "SigIgn: ");
    assert_non_null(ignored);
    assert_int_equal(strtoull(ignored + 8, NULL, 16) & ~0x180000000ULL, 0);
}

static void bad_programs_are_errors(void **state)
{
    (void)state;
    static const char *const absent[] = {"/nonexistent/program", NULL};
    static const char *const directory[] = {"/tmp", NULL};
    struct proc p;
    struct err e = {0};
    assert_int_equal(proc_spawn(&p, &(struct proc_options){.argv = absent}, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_non_null(strstr(e.message, "/nonexistent/program"));
    assert_int_equal(p.pid, 0);
    assert_int_equal(proc_spawn(&p, &(struct proc_options){.argv = directory, .socket = true}, &e),
                     -1);
    assert_int_equal(e.code, ERR_IO);
    proc_release(&p);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie stays */
    assert_int_equal(errno, ECHILD);
}

static void kill_is_patient_then_firm(void **state)
{
    (void)state;
    struct proc p;
    char byte;
    /* obeys TERM */
    spawn_shell(&p, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done",
                (struct proc_options){0});
    while (read(p.stderr_fd, &byte, 1) != 1)
        usleep(1000);
    double begin = clock_seconds();
    proc_kill(&p, 10000);
    assert_true(clock_seconds() - begin < 8);
    assert_true(WIFEXITED(p.status) && WEXITSTATUS(p.status) == 3);
    proc_kill(&p, 100); /* harmless */
    proc_release(&p);
    /* ignores TERM */
    spawn_shell(&p, "trap '' TERM; echo ready; while :; do sleep 0.05; done",
                (struct proc_options){0});
    while (read(p.stderr_fd, &byte, 1) != 1)
        usleep(1000);
    begin = clock_seconds();
    proc_kill(&p, 200);
    assert_true(clock_seconds() - begin >= 0.2);
    assert_true(WIFSIGNALED(p.status) && WTERMSIG(p.status) == SIGKILL);
    proc_release(&p);
    proc_release(&p);
}

static bool exists(pid_t pid)
{
    char path[64];
    struct err e = {0};
    char *text;
    size_t n;
    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    if (fs_read_all(path, 4096, &text, &n, &e))
        return false;
    bool zombie = strstr(text, ") Z ") != NULL; /* somebody else's to reap */
    xfree(text);
    return !zombie;
}

static void grandchildren_die_too(void **state)
{
    (void)state;
    struct proc p;
    char text[64];
    spawn_shell(&p, "sleep 1000 >/dev/null 2>&1 & echo $!", (struct proc_options){0});
    read_words(&p, text, sizeof(text));
    pid_t grandchild = (pid_t)strtol(text, NULL, 10);
    assert_true(grandchild > 1);
    wait_end(&p);
    for (int i = 0; i < 500 && exists(grandchild); i++)
        usleep(10000);
    assert_false(exists(grandchild));
    proc_release(&p);
}

static void child_dies_with_its_parent(void **state)
{
    (void)state;
    int fds[2];
    pid_t grandchild = 0;
    assert_int_equal(pipe(fds), 0);
    pid_t middle = fork();
    if (middle == 0) {
        struct proc p;
        spawn_shell(&p, "while :; do sleep 0.1; done", (struct proc_options){0});
        if (write(fds[1], &p.pid, sizeof(p.pid)) < 0)
            _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(read(fds[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
    waitpid(middle, NULL, 0);
    for (int i = 0; i < 500 && exists(grandchild); i++)
        usleep(10000);
    assert_false(exists(grandchild));
    close(fds[0]);
    close(fds[1]);
}

static void memory_limit_binds(void **state)
{
    (void)state;
    char text[512];
    int status;
    const char *script = "dd if=/dev/zero of=/dev/null bs=512M count=1 2>&1 | tail -n 1";
    run_and_read(script, (struct proc_options){.data_bytes_max = 64 << 20}, text, sizeof(text),
                 &status);
    assert_non_null(strstr(text, "memory"));
    run_and_read(script, (struct proc_options){0}, text, sizeof(text), &status);
    assert_non_null(strstr(text, "copied"));
}

static void socket_is_descriptor_three(void **state)
{
    (void)state;
    struct proc p;
    struct err e = {0};
    char text[64];
    size_t n;
    int fd;
    spawn_shell(&p, "read line <&3; echo \"got $line\" >&3", (struct proc_options){.socket = true});
    assert_int_equal(proc_send(p.socket_fd, "ping\n", 5, -1, &e), 0);
    assert_int_equal(proc_receive(p.socket_fd, text, sizeof(text), &n, &fd, 10000, &e), 0);
    assert_int_equal(n, 9);
    assert_memory_equal(text, "got ping\n", 9);
    assert_int_equal(fd, -1);
    wait_end(&p);
    assert_int_equal(proc_receive(p.socket_fd, text, sizeof(text), &n, &fd, 10000, &e), 0);
    assert_int_equal(n, 0);
    assert_int_equal(proc_send(p.socket_fd, "x", 1, -1, &e), -1);
    assert_int_equal(e.code, ERR_CHILD);
    proc_release(&p);
}

static void receive_has_a_deadline(void **state)
{
    (void)state;
    struct proc p;
    struct err e = {0};
    char byte;
    size_t n;
    spawn_shell(&p, "sleep 100", (struct proc_options){.socket = true});
    double begin = clock_seconds();
    assert_int_equal(proc_receive(p.socket_fd, &byte, 1, &n, NULL, 300, &e), -1);
    double took = clock_seconds() - begin;
    assert_int_equal(e.code, ERR_TIMEOUT);
    assert_true(took >= 0.29 && took < 3);
    assert_int_equal(proc_receive(p.socket_fd, &byte, 1, &n, NULL, 0, &e), -1);
    assert_int_equal(e.code, ERR_TIMEOUT);
    proc_release(&p);
    assert_int_equal(p.pid, 0);
}

static void *stop_soon(void *ud)
{
    (void)ud;
    usleep(100000);
    stop_request();
    return NULL;
}

static void receive_notices_a_stop(void **state)
{
    (void)state;
    struct err e = {0};
    int pair[2];
    char byte;
    size_t n;
    pthread_t thread;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, NULL), 0);
    assert_int_equal(proc_receive(pair[0], &byte, 1, &n, NULL, -1, &e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    pthread_join(thread, NULL);
    stop_reset();
    close(pair[0]);
    close(pair[1]);
}

static void descriptors_travel(void **state)
{
    (void)state;
    struct err e = {0};
    int pair[2], fd, got;
    void *data, *seen;
    char text[16];
    size_t n;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(fs_memfd("travel", 4096, &fd, &data, &e), 0);
    memcpy(data, "inside", 7);
    assert_int_equal(proc_send(pair[0], "hello", 5, fd, &e), 0);
    assert_int_equal(proc_receive(pair[1], text, 2, &n, &got, 1000, &e), 0);
    assert_int_equal(n, 2);
    assert_true(got >= 0 && got != fd);
    assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fs_memfd_map(got, 4096, false, &seen, &e), 0);
    assert_string_equal(seen, "inside");
    int second;
    assert_int_equal(proc_receive(pair[1], text, sizeof(text), &n, &second, 1000, &e), 0);
    assert_int_equal(n, 3);
    assert_int_equal(second, -1);
    /* an unwanted descriptor is closed, not leaked */
    int before = dup(pair[0]);
    close(before);
    assert_int_equal(proc_send(pair[0], "x", 1, fd, &e), 0);
    assert_int_equal(proc_receive(pair[1], text, sizeof(text), &n, NULL, 1000, &e), 0);
    int after = dup(pair[0]);
    close(after);
    assert_int_equal(before, after);
    munmap(seen, 4096);
    close(got);
    fs_memfd_close(fd, data, 4096);
    close(pair[0]);
    close(pair[1]);
}

static void *send_large(void *ud)
{
    const int *fd = ud;
    size_t n = 5 << 20;
    char *data = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)(i * 7 >> 3);
    struct err e = {0};
    intptr_t rc = proc_send(*fd, data, n, -1, &e);
    xfree(data);
    close(*fd);
    return (void *)rc;
}

static void large_messages_arrive_whole(void **state)
{
    (void)state;
    struct err e = {0};
    int pair[2];
    pthread_t thread;
    void *rc;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pthread_create(&thread, NULL, send_large, &pair[0]), 0);
    char chunk[10000];
    size_t total = 0, n;
    for (;;) {
        assert_int_equal(proc_receive(pair[1], chunk, sizeof(chunk), &n, NULL, 5000, &e), 0);
        if (n == 0)
            break;
        for (size_t i = 0; i < n; i++)
            if (chunk[i] != (char)((total + i) * 7 >> 3))
                fail_msg("byte %zu differs", total + i);
        total += n;
    }
    pthread_join(thread, &rc);
    assert_int_equal((intptr_t)rc, 0);
    assert_int_equal(total, 5 << 20);
    close(pair[1]);
}

static void *churn(void *ud)
{
    volatile int *stop = ud;
    while (!*stop) {
        void *p = xmalloc(1000);
        setenv("CHURN", "x", 1);
        xfree(p);
    }
    return NULL;
}

/* A parent whose other threads hold malloc's locks most of the time. */
static void spawns_beside_busy_threads(void **state)
{
    (void)state;
    volatile int stop = 0;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(uintptr_t)&stop), 0);
    for (int i = 0; i < 60; i++) {
        char text[64];
        int status;
        run_and_read("echo fine", (struct proc_options){.socket = true}, text, sizeof(text),
                     &status);
        assert_string_equal(text, "fine\n");
        assert_int_equal(status, 0);
    }
    stop = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void memory_facts(void **state)
{
    (void)state;
    struct proc_memory before, after;
    struct err e = {0};
    assert_int_equal(proc_memory(getpid(), &before), 0);
    assert_true(before.rss > 100000 && before.rss_peak >= before.rss);
    size_t n = 32 << 20;
    char *p = big_alloc(n, "test", &e);
    memset(p, 1, n);
    assert_int_equal(proc_memory(getpid(), &after), 0);
    assert_true(after.rss_anon >= before.rss_anon + n - (1 << 20));
    big_free(p, n);
    assert_int_equal(proc_memory((pid_t)0x7ffffff0, &after), -1);
}

static void own_path(void **state)
{
    (void)state;
    char *path = proc_self_path();
    assert_int_equal(path[0], '/');
    assert_non_null(strstr(path, "test_proc"));
    xfree(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_status_arrive),
        cmocka_unit_test(environment_is_cleaned),
        cmocka_unit_test(descriptors_are_closed),
        cmocka_unit_test(child_stands_alone),
        cmocka_unit_test(bad_programs_are_errors),
        cmocka_unit_test(kill_is_patient_then_firm),
        cmocka_unit_test(grandchildren_die_too),
        cmocka_unit_test(child_dies_with_its_parent),
        cmocka_unit_test(memory_limit_binds),
        cmocka_unit_test(socket_is_descriptor_three),
        cmocka_unit_test(receive_has_a_deadline),
        cmocka_unit_test(receive_notices_a_stop),
        cmocka_unit_test(descriptors_travel),
        cmocka_unit_test(large_messages_arrive_whole),
        cmocka_unit_test(spawns_beside_busy_threads),
        cmocka_unit_test(memory_facts),
        cmocka_unit_test(own_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
