/* The worker process: reads requests from the socket, answers, ends with the socket.
 *
 * Owns the slots of shared memory and the channel for libllama's and ggml's log: warnings and
 * errors go to stderr, where the parent keeps the last of them to explain an abort; sizes of
 * buffers are noted on the way (the library tells them to its log only). The first error since a
 * request began explains its failure.
 *
 * Nothing here outlives the process, so it leaves by _exit: no destructors of drivers, no atexit.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "engine/worker_int.h"
#include "base/banned.h"

enum { WORKER_SOCKET_FD = 3, EXIT_USAGE = 2, PROGRESS_EVERY_MS = 100 };

static const char *const slot_names[SLOTS] = {"in", "out", "reference"};

/* ---- the library's log ----------------------------------------------------------------------- */

/* "...: CPU KV buffer size =  14.00 MiB" adds to the ledger's KV cache, and so on. */
static void note_size(struct ledger *l, const char *line)
{
    static const char mark[] = "buffer size =";
    const char *value = strstr(line, mark);
    if (strstr(line, "repack tensor token_embd.weight"))
        l->embedding_repacked = true;
    if (!value)
        return;
    double mib = strtod(value + sizeof(mark) - 1, NULL);
    if (!(mib >= 0 && mib < 1e9))
        return;
    if (strstr(line, "compute buffer size") || strstr(line, "output buffer size"))
        l->compute_mib += mib;
    else if (strstr(line, "KV buffer size") || strstr(line, "RS buffer size") ||
             strstr(line, "state buffer size"))
        l->kv_mib += mib;
}

/* "function: error loading model: missing tensor" → "missing tensor". */
static void note_complaint(struct worker *w, const char *line)
{
    static const char cause[] = "error loading model: ";
    const char *text = strstr(line, cause);
    if (!text && w->complaint[0])
        return;
    text = text ? text + sizeof(cause) - 1 : line;
    size_t n = strcspn(text, "\n");
    if (n >= sizeof(w->complaint))
        n = sizeof(w->complaint) - 1;
    memcpy(w->complaint, text, n);
    w->complaint[n] = 0;
}

static void on_log(enum ggml_log_level level, const char *text, void *ud)
{
    static _Thread_local enum ggml_log_level last;
    struct worker *w = ud;
    if (level != GGML_LOG_LEVEL_CONT)
        last = level;
    pthread_mutex_lock(&w->log_lock);
    note_size(&w->ledger, text);
    if (level == GGML_LOG_LEVEL_ERROR)
        note_complaint(w, text);
    pthread_mutex_unlock(&w->log_lock);
    if (w->verbose || last == GGML_LOG_LEVEL_WARN || last == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

void worker_complaint_clear(struct worker *w)
{
    w->complaint[0] = 0;
}

int worker_complain(const struct worker *w, enum err_code code, const char *hint, struct err *e,
                    const char *format, ...)
{
    char text[ERR_MESSAGE_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    const char *why = w->complaint;
    if (strstr(why, "alloc") || strstr(why, "out of memory")) {
        code = ERR_MEMORY;
        hint = "allow more memory, use a shorter context, or a smaller or more quantized model";
    }
    return err_set(e, code, hint, "%s%s%s", text, *why ? ": libllama says: " : "", why);
}

/* ---- messages -------------------------------------------------------------------------------- */

void worker_progress(struct worker *w, double done, double total, const char *detail)
{
    double now = clock_seconds();
    pthread_mutex_lock(&w->lock);
    if (now - w->progress_at < PROGRESS_EVERY_MS / 1000.0) {
        pthread_mutex_unlock(&w->lock);
        return;
    }
    w->progress_at = now;
    json_t *line =
        json_pack("{s:o, s:o}", "progress", json_real_new(done), "total", json_real_new(total));
    if (detail)
        json_object_set_new(line, "detail", wire_text_new(detail));
    if (wire_send(&w->wire, line, -1, NULL))
        _exit(EXIT_FAILURE); /* nobody listens any more */
    pthread_mutex_unlock(&w->lock);
}

int worker_need_model(const struct worker *w, struct err *e)
{
    return w->model ? 0 : err_set(e, ERR_BUG, NULL, "no model is loaded");
}

void *worker_slot(const struct worker *w, enum slot slot, uint64_t bytes, struct err *e)
{
    static char nothing;
    const struct share *s = &w->slots[slot];
    if (s->bytes < bytes) {
        err_set(e, ERR_BUG, NULL, "shared memory \"%s\" has %zu bytes, %llu are needed",
                slot_names[slot], s->bytes, (unsigned long long)bytes);
        return NULL;
    }
    return s->data ? s->data : &nothing;
}

int worker_number(const json_t *request, const char *key, uint64_t max, uint64_t *value,
                  struct err *e)
{
    int64_t n;
    if (json_need_i64(request, key, "request", &n, e))
        return -1;
    if (n < 0 || (uint64_t)n > max)
        return err_set(e, ERR_BUG, NULL, "request: \"%s\" is %lld, expected 0 to %llu", key,
                       (long long)n, (unsigned long long)max);
    *value = (uint64_t)n;
    return 0;
}

/* ---- shared memory --------------------------------------------------------------------------- */

static void slot_close(struct share *s)
{
    if (s->data || s->fd >= 0)
        fs_memfd_close(s->fd, s->data, s->bytes);
    *s = (struct share){.fd = -1};
}

static int attach(struct worker *w, const json_t *request, int fd, struct err *e)
{
    const char *name;
    uint64_t bytes;
    if (json_need_str(request, "slot", "request", &name, e) ||
        worker_number(request, "bytes", SIZE_MAX / 2, &bytes, e))
        return -1;
    if (fd < 0)
        return err_set(e, ERR_BUG, NULL, "request: no descriptor came with \"attach\"");
    for (int i = 0; i < SLOTS; i++) {
        if (strcmp(name, slot_names[i]) != 0)
            continue;
        struct share *s = &w->slots[i];
        slot_close(s);
        if (fs_memfd_map(fd, (size_t)bytes, true, &s->data, e))
            return -1;
        s->bytes = (size_t)bytes;
        s->fd = dup(fd);
        return 0;
    }
    return err_set(e, ERR_BUG, NULL, "request: no slot \"%s\"", name);
}

/* ---- requests -------------------------------------------------------------------------------- */

static int hello(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    (void)e;
    w->verbose = json_opt_bool(request, "verbose", false);
    json_object_set_new(answer, "version", wire_text_new(llama_version()));
    return 0;
}

static const struct {
    const char *op;
    int (*fn)(struct worker *w, const json_t *request, json_t *answer, struct err *e);
} requests[] = {
    {"hello", hello},
    {"devices", worker_devices},
    {"load", worker_load},
    {"cache", worker_cache},
    {"memory", worker_memory},
    {"tokenize", worker_tokenize},
    {"generate", worker_generate},
    {"sample", worker_sample},
    {"reference", worker_reference},
    {"score", worker_score},
    {"tensor_set", worker_tensor_set},
    {"tensor_restore", worker_tensor_restore},
    {"bench", worker_bench},
    {"kernels", worker_kernels},
};

static int dispatch(struct worker *w, const char *op, const json_t *request, int fd, json_t *answer,
                    int *fd_out, struct err *e)
{
    if (strcmp(op, "attach") == 0)
        return attach(w, request, fd, e);
    if (strcmp(op, "collect") == 0)
        return worker_collect(w, request, answer, fd_out, e);
    if (strcmp(op, "gram") == 0)
        return worker_gram(w, request, answer, fd_out, e);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        if (strcmp(op, requests[i].op) == 0)
            return requests[i].fn(w, request, answer, e);
    return err_set(e, ERR_BUG, NULL, "request: unknown op \"%s\"", op);
}

/* Serves one line. −1 when the other side is gone. */
static int serve(struct worker *w, const json_t *request, int fd)
{
    struct err e = {.code = ERR_NONE};
    int fd_out = -1;
    const char *op = json_opt_str(request, "op", "");
    json_t *answer = json_object();
    worker_complaint_clear(w);
    w->progress_at = 0;
    if (dispatch(w, op, request, fd, answer, &fd_out, &e) == 0)
        json_object_set_new(answer, "ok", json_true());
    else
        json_object_set_new(answer, "error", wire_error_new(&e));
    if (strcmp(op, "attach") != 0) {
        slot_close(&w->slots[SLOT_IN]);
        slot_close(&w->slots[SLOT_OUT]);
    }
    int rc = wire_send(&w->wire, answer, fd_out, NULL);
    if (fd_out >= 0)
        close(fd_out);
    return rc;
}

static bool started_by_parent(void)
{
    int type = 0;
    socklen_t n = sizeof(type);
    return getsockopt(WORKER_SOCKET_FD, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM;
}

int engine_worker_main(void)
{
    static struct worker w = {.lock = PTHREAD_MUTEX_INITIALIZER,
                              .log_lock = PTHREAD_MUTEX_INITIALIZER};
    if (!started_by_parent()) {
        fputs("sintra: \"worker\" is started by the program itself, not by hand\n", stderr);
        return EXIT_USAGE;
    }
    worker_sandbox();
    setenv("GGML_NO_BACKTRACE", "1", 1); /* ggml would start a debugger on itself */
    setvbuf(stderr, NULL, _IOLBF, 1024);
    wire_init(&w.wire, WORKER_SOCKET_FD);
    for (int i = 0; i < SLOTS; i++)
        w.slots[i].fd = -1;
    llama_log_set(on_log, &w);
    for (;;) {
        json_t *request = NULL;
        int fd = -1;
        struct err e = {.code = ERR_NONE};
        if (wire_receive(&w.wire, &request, &fd, -1, &e)) {
            fprintf(stderr, "worker: %s\n", e.message);
            _exit(EXIT_FAILURE);
        }
        if (!request)
            _exit(EXIT_SUCCESS);
        int rc = serve(&w, request, fd);
        json_decref(request);
        if (fd >= 0)
            close(fd);
        if (rc)
            _exit(EXIT_FAILURE);
    }
}
