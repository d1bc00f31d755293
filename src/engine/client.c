/* One worker process and the conversation with it.
 *
 * Owns the process, the socket, and the tail of what the worker wrote to stderr, which is where
 * libllama and ggml explain themselves before they abort. While a call waits, this end wakes five
 * times a second: drains stderr (a full pipe would block the worker), compares the worker's
 * anonymous memory with its limit, looks at both deadlines and at Ctrl-C. Any of these ends the
 * worker with SIGKILL: it holds nothing that needs a farewell.
 *
 * Invariant: once `ended` is set there is no process, and every later call fails with its text.
 */
#include "engine/client_int.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/stop.h"
#include "base/banned.h"

enum {
    WATCH_MS = 200,
    LOG_TAIL_MAX = 16 << 10,
    HELLO_SECONDS = 60,
    SILENCE_SECONDS_DEFAULT = 600,
    GRACE_MS = 0,
};

/* RLIMIT_DATA counts address space, the watchdog counts pages in use: thread stacks, malloc arenas
 * and buffers that are reserved but not touched lie between the two. */
static const uint64_t data_slack_bytes = 1ull << 30;

/* The releases whose behaviour this program was tested with. */
static const char *const versions_tested[] = {"0.5.0", "0.5.0-dev"};

/* ---- the worker's stderr --------------------------------------------------------------------- */

static void log_lines(const char *text, size_t n)
{
    if (log_level() < LOG_DEBUG)
        return;
    while (n > 0) {
        const char *end = memchr(text, '\n', n);
        size_t len = end ? (size_t)(end - text) : n;
        if (len > 0)
            log_debug("worker: %.*s", (int)len, text);
        len += end ? 1 : 0;
        text += len;
        n -= len;
    }
}

/* Reads what there is. Keeps the last half of the buffer at least. */
static void drain_stderr(struct engine *g)
{
    char chunk[4096];
    for (;;) {
        ssize_t n = g->proc.stderr_fd >= 0 ? read(g->proc.stderr_fd, chunk, sizeof(chunk)) : 0;
        if (n <= 0)
            return;
        log_lines(chunk, (size_t)n);
        if (g->log.len + (size_t)n > LOG_TAIL_MAX)
            buf_drop_front(&g->log, g->log.len / 2);
        buf_add(&g->log, chunk, (size_t)n);
    }
}

/* The line that says most about an end: the last assertion or error, else the last line. Printable
 * bytes only; "" when nothing was written. */
static void last_words(const struct engine *g, char text[static 256])
{
    static const char *const marks[] = {"GGML_ASSERT", "GGML_ABORT", "ggml_abort", "what():",
                                        "rror",        "failed",     "unable",     "Sanitizer"};
    const char *p = buf_str(&g->log), *chosen = NULL;
    size_t chosen_len = 0;
    bool marked = false;
    while (*p) {
        size_t len = strcspn(p, "\n");
        bool mark = false;
        for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
            mark = mark || memmem(p, len, marks[i], strlen(marks[i])) != NULL;
        if (len > 0 && (mark || !marked)) {
            chosen = p;
            chosen_len = len;
            marked = marked || mark;
        }
        p += len + (p[len] == '\n');
    }
    size_t n = 0;
    for (; n < chosen_len && n < 255; n++)
        text[n] = chosen[n] >= ' ' && chosen[n] < 127 ? chosen[n] : '?';
    text[n] = 0;
}

/* ---- the end of a worker --------------------------------------------------------------------- */

static const char *model_text(const struct engine *g, char text[static 320])
{
    struct buf b;
    buf_init(&b, 300);
    if (g->model)
        buf_addf(&b, " (%.*s)", 280, g->model);
    memcpy(text, buf_str(&b), b.len + 1);
    buf_release(&b);
    return text;
}

/* Kills what is left and remembers why. */
static int end_worker(struct engine *g, const struct err *why, struct err *e)
{
    proc_kill(&g->proc, GRACE_MS);
    drain_stderr(g);
    xfree(g->model);
    g->model = NULL;
    g->reference_id = 0;
    g->info = (struct engine_info){0};
    g->ended = *why;
    if (e)
        *e = *why;
    return -1;
}

/* The socket closed or carried nonsense: say how the process ended and what it said last. */
static int worker_died(struct engine *g, const char *doing, const char *nonsense, struct err *e)
{
    struct err why;
    char words[256], model[320];
    double patience = clock_seconds() + 2;
    while (!nonsense && proc_alive(&g->proc) && clock_seconds() < patience)
        usleep(2000);
    bool still_there = proc_alive(&g->proc);
    int status = g->proc.status;
    drain_stderr(g);
    last_words(g, words);
    struct buf how;
    buf_init(&how, 600);
    if (nonsense)
        buf_addf(&how, "answered nonsense: %s", nonsense);
    else if (still_there)
        buf_adds(&how, "closed its connection");
    else
        buf_addf(&how, "ended: %s", proc_status_text(status));
    const char *hint =
        "run with -v -v for its whole log; if the model loads elsewhere, please report it";
    if (!nonsense && !still_there && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        hint = "something else killed it; when memory is short, the kernel does (see dmesg)";
    if (!nonsense && !still_there && WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS)
        hint = "the model file was probably shortened while it was in use, or the disk failed";
    err_set(&why, ERR_CHILD, hint, "while %s%s the worker process %s%s%s%s", doing,
            model_text(g, model), buf_str(&how), *words ? "; its last words: \"" : "", words,
            *words ? "\"" : "");
    buf_release(&how);
    return end_worker(g, &why, e);
}

static int over_memory(struct engine *g, const char *doing, uint64_t anon, struct err *e)
{
    struct err why;
    char used[NUM_TEXT_MAX], limit[NUM_TEXT_MAX], model[320];
    err_set(&why, ERR_MEMORY,
            "allow more memory, use a shorter context, or a smaller or more quantized model",
            "while %s%s the worker process used %s of memory, more than the limit of %s", doing,
            model_text(g, model), num_format_size(anon, used),
            num_format_size(g->options.memory_bytes_max, limit));
    return end_worker(g, &why, e);
}

static int too_late(struct engine *g, const char *doing, double seconds, bool silent, struct err *e)
{
    struct err why;
    char words[256], model[320], time[NUM_TEXT_MAX];
    drain_stderr(g);
    last_words(g, words);
    err_set(&why, ERR_TIMEOUT, "allow more time, or measure fewer or shorter windows",
            "while %s%s the worker process %s %s and was stopped%s%s%s", doing,
            model_text(g, model), silent ? "gave no sign of life for" : "exceeded its deadline of",
            num_format_seconds(seconds, time), *words ? "; its last words: \"" : "", words,
            *words ? "\"" : "");
    return end_worker(g, &why, e);
}

static int interrupted(struct engine *g, struct err *e)
{
    struct err why;
    if (!stop_check(&why))
        err_set(&why, ERR_INTERRUPTED, NULL, "interrupted");
    return end_worker(g, &why, e);
}

/* ---- a call ---------------------------------------------------------------------------------- */

struct wait {
    double start, sign_of_life, watched;
};

static int watch_memory(struct engine *g, const struct engine_call *call, struct err *e)
{
    struct proc_memory m;
    uint64_t limit = g->options.memory_bytes_max;
    if (limit > 0 && proc_memory(g->proc.pid, &m) == 0 && m.rss_anon > limit)
        return over_memory(g, call->doing, m.rss_anon, e);
    return 0;
}

/* What is looked at five times a second, whether or not the worker talks. */
static int watch(struct engine *g, const struct engine_call *call, struct wait *t, struct err *e)
{
    double now = clock_seconds();
    if (stop_requested())
        return interrupted(g, e);
    if (now - t->watched < WATCH_MS / 1000.0)
        return 0;
    t->watched = now;
    drain_stderr(g);
    if (watch_memory(g, call, e))
        return -1;
    double call_max = g->options.call_seconds_max, silence_max = g->options.silence_seconds_max;
    if (call_max > 0 && now - t->start > call_max)
        return too_late(g, call->doing, call_max, false, e);
    if (now - t->sign_of_life > silence_max)
        return too_late(g, call->doing, silence_max, true, e);
    return 0;
}

/* A line that is an answer ends the call (1), progress does not (0). */
static int take_line(struct engine *g, const struct engine_call *call, const json_t *line,
                     struct err *e)
{
    const json_t *error = json_object_get(line, "error");
    if (json_is_object(error)) {
        wire_error_set(error, e);
        return -1;
    }
    if (json_opt_bool(line, "ok", false))
        return 1;
    if (json_is_number(json_object_get(line, "progress"))) {
        const char *detail = json_opt_str(line, "detail", "");
        progress_report(call->progress, call->doing, json_opt_real(line, "progress", 0),
                        json_opt_real(line, "total", 0), *detail ? detail : NULL);
        return 0;
    }
    return worker_died(g, call->doing, "an object that is neither answer nor progress", e);
}

/* One line, or the reason why there is none. *line stays NULL when only time has passed. */
static int next_line(struct engine *g, const struct engine_call *call, json_t **line, int *fd,
                     struct err *e)
{
    struct err inner = {.code = ERR_NONE};
    if (wire_receive(&g->wire, line, fd, WATCH_MS, &inner) == 0)
        return *line ? 0 : worker_died(g, call->doing, NULL, e);
    if (inner.code == ERR_TIMEOUT)
        return 0;
    if (inner.code == ERR_INTERRUPTED)
        return interrupted(g, e);
    return worker_died(g, call->doing, inner.message, e);
}

static int wait_answer(struct engine *g, const struct engine_call *call, json_t **answer, int *fd,
                       struct err *e)
{
    double now = clock_seconds();
    struct wait t = {now, now, now};
    for (;;) {
        json_t *line = NULL;
        if (next_line(g, call, &line, fd, e))
            return -1;
        if (line) {
            t.sign_of_life = clock_seconds();
            int rc = take_line(g, call, line, e);
            if (rc > 0 && watch_memory(g, call, e))
                rc = -1; /* a short call, too, may have left too much behind */
            if (rc > 0) {
                *answer = line;
                return 0;
            }
            json_decref(line);
            if (*fd >= 0)
                close(*fd);
            *fd = -1;
            if (rc < 0)
                return -1;
        }
        if (watch(g, call, &t, e))
            return -1;
    }
}

int engine_call(struct engine *g, const struct engine_call *call, json_t *request, json_t **answer,
                int *fd, struct err *e)
{
    json_t *got = NULL;
    int got_fd = -1;
    if (g->ended.code != ERR_NONE) {
        json_decref(request);
        return err_set(e, ERR_CHILD, g->ended.hint, "no worker for %s: it has ended: %s",
                       call->doing, g->ended.message);
    }
    struct err inner = {.code = ERR_NONE};
    if (wire_send(&g->wire, request, -1, &inner))
        return inner.code == ERR_INTERRUPTED ? interrupted(g, e)
                                             : worker_died(g, call->doing, NULL, e);
    if (wait_answer(g, call, &got, &got_fd, e))
        return -1;
    if (answer)
        *answer = got;
    else
        json_decref(got);
    if (fd)
        *fd = got_fd;
    else if (got_fd >= 0)
        close(got_fd);
    return 0;
}

/* ---- shared memory --------------------------------------------------------------------------- */

int engine_share_attach(struct engine *g, int fd, uint64_t bytes, const char *slot, struct err *e)
{
    struct engine_call call = {.doing = "sharing memory"};
    if (g->ended.code != ERR_NONE)
        return err_set(e, ERR_CHILD, g->ended.hint, "the worker has ended: %s", g->ended.message);
    json_t *line =
        json_pack("{s:s, s:s, s:I}", "op", "attach", "slot", slot, "bytes", (json_int_t)bytes);
    struct err inner = {.code = ERR_NONE};
    if (wire_send(&g->wire, line, fd, &inner))
        return worker_died(g, call.doing, NULL, e);
    json_t *answer = NULL;
    int none = -1;
    if (wait_answer(g, &call, &answer, &none, e))
        return -1;
    json_decref(answer);
    if (none >= 0)
        close(none);
    return 0;
}

int engine_share_open(struct engine *g, struct engine_share *s, const char *slot, uint64_t bytes,
                      struct err *e)
{
    *s = (struct engine_share){.fd = -1};
    if (fs_memfd(slot, (size_t)bytes, &s->fd, &s->data, e))
        return -1;
    s->bytes = (size_t)bytes;
    if (engine_share_attach(g, s->fd, bytes, slot, e)) {
        engine_share_close(s);
        return -1;
    }
    return 0;
}

void engine_share_close(struct engine_share *s)
{
    fs_memfd_close(s->fd, s->data, s->bytes);
    *s = (struct engine_share){.fd = -1};
}

/* ---- start and stop -------------------------------------------------------------------------- */

/* RLIMIT_DATA of the worker, 0 = none. The shadow memory of the address sanitizer would count. */
static uint64_t data_limit(uint64_t memory_bytes_max)
{
    uint64_t limit = 0;
#ifndef __SANITIZE_ADDRESS__
    if (memory_bytes_max > 0 && !num_add_u64(memory_bytes_max, data_slack_bytes, &limit))
        limit = 0;
#endif
    return limit;
}

static int spawn(struct engine *g, struct err *e)
{
    char *self = g->options.worker_path ? NULL : proc_self_path();
    const char *path = self ? self : g->options.worker_path;
    const char *argv[] = {path, "worker", NULL};
    struct proc_options o = {
        .argv = argv, .socket = true, .data_bytes_max = data_limit(g->options.memory_bytes_max)};
    int rc = proc_spawn(&g->proc, &o, e);
    xfree(self);
    if (rc == 0)
        wire_init(&g->wire, g->proc.socket_fd);
    return rc;
}

/* A first exchange, so that a program that is not a worker is found out here. */
static int hello(struct engine *g, char version[static 32], struct err *e)
{
    struct engine_call call = {.doing = "starting"};
    double call_max = g->options.call_seconds_max;
    if (call_max <= 0 || call_max > HELLO_SECONDS)
        g->options.call_seconds_max = HELLO_SECONDS;
    json_t *answer = NULL;
    json_t *request = json_pack("{s:s, s:b}", "op", "hello", "verbose", log_level() >= LOG_DEBUG);
    int rc = engine_call(g, &call, request, &answer, NULL, e);
    g->options.call_seconds_max = call_max;
    if (rc)
        return -1;
    const char *text = json_opt_str(answer, "version", "");
    size_t n = strlen(text) < 31 ? strlen(text) : 31;
    memcpy(version, text, n);
    version[n] = 0;
    json_decref(answer);
    return 0;
}

static int check_version(const char *version, struct err *e)
{
    for (size_t i = 0; i < sizeof(versions_tested) / sizeof(versions_tested[0]); i++)
        if (strcmp(version, versions_tested[i]) == 0)
            return 0;
    return err_set(e, ERR_UNSUPPORTED, "build with the pinned package (make setup; make)",
                   "libllama is version %s, but this program was tested with %s only", version,
                   versions_tested[0]);
}

int engine_start(struct engine **out, const struct engine_options *options, struct err *e)
{
    struct engine *g = xcalloc(1, sizeof(*g));
    char version[32];
    *out = NULL;
    if (options)
        g->options = *options;
    if (g->options.silence_seconds_max <= 0)
        g->options.silence_seconds_max = SILENCE_SECONDS_DEFAULT;
    buf_init(&g->log, LOG_TAIL_MAX * 2);
    g->proc = (struct proc){.socket_fd = -1, .stderr_fd = -1};
    wire_init(&g->wire, -1);
    if (spawn(g, e) || hello(g, version, e) || check_version(version, e)) {
        engine_stop(g);
        return -1;
    }
    g->options.worker_path = NULL; /* the caller's string, not needed again */
    *out = g;
    return 0;
}

void engine_stop(struct engine *g)
{
    if (!g)
        return;
    proc_kill(&g->proc, GRACE_MS);
    drain_stderr(g);
    wire_release(&g->wire);
    proc_release(&g->proc);
    buf_release(&g->log);
    xfree(g->model);
    xfree(g);
}

int engine_pid(const struct engine *g)
{
    return (int)g->proc.pid;
}

int engine_version(char version[static 32], struct err *e)
{
    struct engine g = {.options = {.silence_seconds_max = HELLO_SECONDS},
                       .proc = {.socket_fd = -1, .stderr_fd = -1}};
    buf_init(&g.log, LOG_TAIL_MAX * 2);
    wire_init(&g.wire, -1);
    int rc = spawn(&g, e);
    if (rc == 0)
        rc = hello(&g, version, e);
    if (rc == 0)
        rc = check_version(version, e);
    proc_kill(&g.proc, GRACE_MS);
    wire_release(&g.wire);
    proc_release(&g.proc);
    buf_release(&g.log);
    return rc;
}
