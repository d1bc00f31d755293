/* Windows of text through the model: the original's logits, and scores against them.
 *
 * Several short windows run together as sequences of their own (a KV cache each, no attention
 * across); long windows run in pieces. One decode call is one compute graph whose tokens lie
 * sequence by sequence, so the library's rows of logits come out in the order of the batch. Only
 * rows that are scored are asked for. A window's last token runs though nothing scored depends on
 * it: kernels take tokens in blocks of four and more, and do leftover ones slowly and otherwise.
 * Which windows share a call does not depend on lanes or threads, so neither do the results.
 *
 * Rows are worked on as soon as a decode call returns; of a candidate's row nothing is kept but its
 * score.
 */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/thread.h"
#include "engine/logits.h"
#include "engine/reference_int.h"
#include "engine/worker_int.h"
#include "base/banned.h"

enum { WINDOW_TOKENS_MAX = 1 << 24, CALLS_MIN = 16 };

struct context_shape worker_windows_shape(const struct worker *w, uint32_t n_ctx, uint32_t first,
                                          uint32_t n_seq)
{
    uint32_t tokens = worker_batch_tokens(w);
    if (n_seq == 0)
        n_seq = tokens / n_ctx;
    if (n_seq == 0)
        n_seq = 1;
    uint32_t batch = n_ctx <= tokens ? n_ctx * n_seq : tokens;
    uint32_t scored = n_ctx - first;
    uint32_t outputs = n_ctx <= tokens ? scored * n_seq : scored < batch ? scored : batch;
    return (struct context_shape){.n_ctx = n_ctx,
                                  .n_seq = n_seq,
                                  .n_batch = batch,
                                  .n_ubatch = batch,
                                  .n_outputs = outputs,
                                  .threads = w->threads};
}

int worker_windows(struct worker *w, const json_t *request, struct engine_windows *windows,
                   struct err *e)
{
    uint64_t n_windows, n_ctx, first, n;
    if (worker_need_model(w, e) || worker_number(request, "n_windows", INT64_MAX, &n_windows, e) ||
        worker_number(request, "n_ctx", WINDOW_TOKENS_MAX, &n_ctx, e) ||
        worker_number(request, "first", WINDOW_TOKENS_MAX, &first, e))
        return -1;
    if (n_ctx < 2 || first > n_ctx - 2 || !num_mul_u64(n_windows, n_ctx, &n) || n > INT64_MAX / 16)
        return err_set(e, ERR_BUG, NULL, "request: impossible windows");
    const int32_t *tokens = worker_slot(w, SLOT_IN, n * sizeof(int32_t), e);
    if (!tokens)
        return -1;
    for (uint64_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= w->n_vocab)
            return err_set(e, ERR_INPUT, "tokenize the text with this model's own vocabulary",
                           "token %" PRIu64 " of window %" PRIu64 " is %d, but the vocabulary has "
                           "%" PRIu32 " tokens",
                           i % n_ctx, i / n_ctx, (int)tokens[i], w->n_vocab);
    *windows = (struct engine_windows){.tokens = tokens,
                                       .n_windows = (size_t)n_windows,
                                       .n_ctx = (uint32_t)n_ctx,
                                       .first = (uint32_t)first};
    return 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The scored rows of one window in a decode call. */
struct window_rows {
    const float *logits; // (n, n_vocab)
    size_t window, n;
    uint32_t first; /* position of the first row in the window */
};

/* A run of all windows: what it is for, and what each item needs. */
struct run {
    struct worker *w;
    const struct engine_windows *windows;
    struct context_shape shape;
    bool collecting; /* every token has an output and nobody looks at them */
    /* The reference: written when `making`, else read; NULL without one. */
    float *logits;     // (positions, n_vocab)
    double *log_total; // (positions)
    float *nll;        // (positions)
    uint32_t *top;     // (positions)
    bool making;
    struct engine_position *out; // (positions)
    atomic_size_t tokens_done;
};

/* Rows of one decode call, for the threads of its lane. */
struct rows_job {
    const struct run *run;
    const struct window_rows *groups;
};

struct row_place {
    const float *logits;
    size_t position; /* index among all scored positions */
    size_t window;
    uint32_t pos;
    int32_t next; /* the token that the text goes on with */
};

static struct row_place place_row(const struct rows_job *j, size_t item)
{
    const struct engine_windows *ws = j->run->windows;
    const struct window_rows *g = j->groups;
    while (item >= g->n)
        item -= (g++)->n;
    uint32_t pos = g->first + (uint32_t)item;
    return (struct row_place){.logits = g->logits + item * j->run->w->n_vocab,
                              .position =
                                  g->window * (ws->n_ctx - 1 - ws->first) + (pos - ws->first),
                              .window = g->window,
                              .pos = pos,
                              .next = ws->tokens[g->window * ws->n_ctx + pos + 1]};
}

static int work_row(void *ud, size_t item, int thread)
{
    const struct rows_job *j = ud;
    const struct run *r = j->run;
    struct row_place p = place_row(j, item);
    size_t n_vocab = r->w->n_vocab;
    struct logits_row row = logits_scan(p.logits, n_vocab);
    (void)thread;
    if (!isfinite(row.log_total))
        return (int)item + 1;
    double nll = row.log_total - (double)p.logits[p.next];
    if (r->making) {
        memcpy(r->logits + p.position * n_vocab, p.logits, n_vocab * sizeof(*p.logits));
        r->log_total[p.position] = row.log_total;
        r->nll[p.position] = (float)nll;
        r->top[p.position] = row.argmax;
        return 0;
    }
    struct engine_position *out = &r->out[p.position];
    *out = (struct engine_position){.nll = (float)nll};
    if (r->logits) {
        out->kld = (float)logits_kld(r->logits + p.position * n_vocab, r->log_total[p.position],
                                     p.logits, row.log_total, n_vocab);
        out->top1 = r->top[p.position] == row.argmax;
    }
    return 0;
}

static int work_rows(const struct run *r, const struct window_rows *groups, size_t n_groups,
                     struct err *e)
{
    struct rows_job j = {r, groups};
    size_t rows = 0;
    int bad = 0;
    for (size_t i = 0; i < n_groups; i++)
        rows += groups[i].n;
    if (r->shape.threads > 1)
        bad = thread_parallel_for(r->shape.threads, rows, work_row, &j);
    else
        for (size_t i = 0; bad == 0 && i < rows; i++)
            bad = work_row(&j, i, 0);
    if (bad == 0)
        return 0;
    struct row_place p = place_row(&j, (size_t)bad - 1);
    return err_set(e, ERR_INPUT,
                   "a tensor has damaged or overflowing values; try another type or source",
                   "the model computes probabilities that are not numbers (window %zu, position "
                   "%" PRIu32 ")",
                   p.window, p.pos);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Adds tokens [from, to) of a window as sequence `seq`; says which of them are scored. */
static struct window_rows add_tokens(const struct run *r, struct llama_batch *batch, size_t window,
                                     int32_t seq, uint32_t from, uint32_t to)
{
    const struct engine_windows *ws = r->windows;
    const int32_t *tokens = ws->tokens + window * ws->n_ctx;
    struct window_rows rows = {.window = window};
    for (uint32_t pos = from; pos < to; pos++) {
        bool scored = pos >= ws->first && pos + 1 < ws->n_ctx && !r->collecting;
        worker_batch_add(batch, tokens[pos], pos, seq, scored || r->collecting);
        if (scored && rows.n++ == 0)
            rows.first = pos;
    }
    return rows;
}

/* Runs the batch, points the groups at their rows and works on them. */
static int run_batch(struct run *r, struct llama_context *ctx, struct llama_batch *batch,
                     struct window_rows *groups, size_t n_groups, struct err *e)
{
    if (worker_decode(r->w, ctx, batch, e))
        return -1;
    size_t done = atomic_fetch_add(&r->tokens_done, (size_t)batch->n_tokens);
    worker_progress(r->w, (double)(done + (size_t)batch->n_tokens),
                    (double)r->windows->n_windows * r->windows->n_ctx, NULL);
    if (n_groups == 0)
        return 0;
    const float *logits = llama_get_logits(ctx);
    if (!logits)
        return err_set(e, ERR_BUG, NULL, "libllama gave no logits");
    for (size_t i = 0; i < n_groups; i++) {
        groups[i].logits = logits;
        logits += groups[i].n * r->w->n_vocab;
    }
    return work_rows(r, groups, n_groups, e);
}

/* The windows of one item, side by side; long ones piece by piece. */
static int run_windows(void *ud, struct llama_context *ctx, size_t item, struct err *e)
{
    struct run *r = ud;
    const struct engine_windows *ws = r->windows;
    size_t at = item * r->shape.n_seq, left = ws->n_windows - at;
    size_t n = left < r->shape.n_seq ? left : r->shape.n_seq;
    uint32_t step = r->shape.n_batch / r->shape.n_seq;
    struct llama_batch batch = llama_batch_init((int32_t)r->shape.n_batch, 0, 1);
    struct window_rows *groups = xcalloc(n, sizeof(*groups));
    int rc = 0;
    for (uint32_t from = 0; rc == 0 && from < ws->n_ctx; from += step) {
        uint32_t to = ws->n_ctx - from < step ? ws->n_ctx : from + step;
        size_t n_groups = 0;
        batch.n_tokens = 0;
        for (size_t i = 0; i < n; i++) {
            struct window_rows rows = add_tokens(r, &batch, at + i, (int32_t)i, from, to);
            if (rows.n > 0)
                groups[n_groups++] = rows;
        }
        rc = run_batch(r, ctx, &batch, groups, n_groups, e);
    }
    xfree(groups);
    llama_batch_free(batch);
    return rc;
}

/* Few windows are not put together, so that every lane gets some. */
static void choose_calls(struct run *r)
{
    const struct engine_windows *ws = r->windows;
    size_t most = ws->n_windows / CALLS_MIN;
    r->shape = worker_windows_shape(r->w, ws->n_ctx, ws->first, 0);
    if (r->w->gpu_layers == 0 && most < r->shape.n_seq)
        r->shape = worker_windows_shape(r->w, ws->n_ctx, ws->first, most > 1 ? (uint32_t)most : 1);
}

static int run_all(struct run *r, struct err *e)
{
    choose_calls(r);
    r->shape.collect = r->collecting;
    if (r->collecting)
        r->shape.n_outputs = r->shape.n_batch;
    size_t n_seq = r->shape.n_seq;
    return worker_lanes(r->w, &r->shape, (r->windows->n_windows + n_seq - 1) / n_seq, run_windows,
                        r, e);
}

int worker_run_collecting(struct worker *w, const struct engine_windows *windows, struct err *e)
{
    struct run r = {.w = w, .windows = windows, .collecting = true};
    return run_all(&r, e);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Points r at a reference of `positions` positions in the slot. */
static int reference_slot(struct run *r, uint64_t positions, struct err *e)
{
    struct reference_layout l;
    if (!reference_lay_out(positions, r->w->n_vocab, &l))
        return err_set(e, ERR_LIMIT, NULL, "the reference is too large");
    char *base = worker_slot(r->w, SLOT_REFERENCE, l.bytes, e);
    if (!base)
        return -1;
    r->log_total = (double *)(void *)(base + l.log_total);
    r->logits = (float *)(void *)(base + l.logits);
    r->nll = (float *)(void *)(base + l.nll);
    r->top = (uint32_t *)(void *)(base + l.top);
    return 0;
}

int worker_reference(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    struct engine_windows windows;
    (void)answer;
    if (worker_windows(w, request, &windows, e))
        return -1;
    struct run r = {.w = w, .windows = &windows, .making = true};
    if (reference_slot(&r, engine_windows_positions(&windows), e))
        return -1;
    return run_all(&r, e);
}

int worker_score(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    struct engine_windows windows;
    uint64_t reference, at;
    (void)answer;
    if (worker_windows(w, request, &windows, e) ||
        worker_number(request, "reference_positions", INT64_MAX / 8, &reference, e) ||
        worker_number(request, "reference_at", INT64_MAX / 8, &at, e))
        return -1;
    struct run r = {.w = w, .windows = &windows};
    size_t positions = engine_windows_positions(&windows);
    if (reference > 0 && reference < at + positions)
        return err_set(e, ERR_BUG, NULL, "the reference is shorter than the windows");
    if (reference > 0) {
        if (reference_slot(&r, reference, e))
            return -1;
        r.logits += at * w->n_vocab;
        r.log_total += at;
        r.nll += at;
        r.top += at;
    }
    r.out = worker_slot(w, SLOT_OUT, positions * sizeof(*r.out), e);
    return r.out ? run_all(&r, e) : -1;
}
