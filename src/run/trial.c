/* One candidate: made, measured, recorded.
 *
 * A trial ends as a row in one transaction, "done" or "failed"; a failure of the candidate or of
 * its worker is a fact about the candidate and the run goes on, until three workers in a row were
 * lost, which is a fact about the machine. Files are kept for what may still be delivered and made
 * again, byte for byte, when another is needed after all.
 */
#include "run/run_int.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/stop.h"
#include "base/banned.h"

enum { CHILD_FAILURES_MAX = 3, FRONT_FILES_MAX = 10 };

bool error_is_of_worker(const struct err *e)
{
    return e->code == ERR_CHILD || e->code == ERR_TIMEOUT || e->code == ERR_MEMORY;
}

bool error_is_of_trial(const struct err *e)
{
    return error_is_of_worker(e) || e->code == ERR_INPUT || e->code == ERR_UNSUPPORTED ||
           e->code == ERR_LIMIT;
}

static char *candidate_path(const struct run *r, const struct trial *t)
{
    return xasprintf("%s/%s.gguf", r->candidates, t->key);
}

/* ---- events ---- */

static void trial_event(struct run *r, const struct trial *t, const char *state, double seconds)
{
    json_t *o = json_object();
    json_object_set_new(o, "state", json_string(state));
    json_object_set_new(o, "kind", json_string(t->stock ? "stock" : "search"));
    json_object_set_new(o, "name", t->stock_name ? json_string(t->stock_name) : json_null());
    json_object_set_new(o, "reason", json_string(t->reason));
    json_object_set_new(o, "bytes", json_integer((json_int_t)t->bytes));
    json_object_set_new(o, "bpw",
                        json_real_new((double)t->bytes * 8 / (double)r->subject.desc->parameters));
    json_object_set_new(o, "predicted_kld", json_real_new(t->predicted_kld));
    if (t->error)
        json_object_set_new(o, "error", json_string(t->error));
    if (strcmp(state, "done") == 0) {
        json_object_set_new(o, "kld_mean", json_real_new(t->score.kld_mean));
        json_object_set_new(o, "top1", json_real_new(t->score.top1));
        if (t->score.tps_decode > 0)
            json_object_set_new(o, "tps_decode", json_real_new(t->score.tps_decode));
        json_object_set_new(o, "seconds", json_real_new(seconds));
    }
    run_event(r, "trial", o);
}

/* ---- making and measuring ---- */

static int measure(struct run *r, struct trial *t, struct baked *b, struct err *e)
{
    char *path = candidate_path(r, t);
    int rc = r->world->bake(r, &t->recipe, path, b, e);
    if (rc == 0 && b->bytes != t->bytes)
        rc = err_set(e, ERR_BUG, NULL, "a candidate was planned with %llu bytes and has %llu",
                     (unsigned long long)t->bytes, (unsigned long long)b->bytes);
    if (rc == 0)
        rc = score_quality(r, t, path, b->sha256, SET_SEARCH, &t->score, &t->window_kld,
                           &t->n_windows, e);
    if (rc == 0 && targets_need_speed(&r->set.targets))
        rc = r->world->speed(r, t, path, &t->score, e);
    xfree(path);
    return rc;
}

static int record_end(struct run *r, struct store_trial *row, const struct trial *t,
                      const struct baked *b, struct err *e)
{
    json_t *score = t->failed ? NULL : score_json_new(&t->score);
    json_t *extra = record_extra_new(r, t, b->sha256);
    char *score_text = score ? json_text(score, false) : NULL,
         *extra_text = json_text(extra, false);
    row->state = t->failed ? "failed" : "done";
    row->score = score_text;
    row->extra = extra_text;
    row->error = t->error;
    row->bytes = t->bytes;
    int rc = store_trial_end(r->store, row, e);
    json_decref(score);
    json_decref(extra);
    xfree(score_text);
    xfree(extra_text);
    return rc;
}

static void append(struct run *r, const struct trial *t, const struct baked *b)
{
    trials_add(&r->trials, t);
    r->file_sha256 =
        xgrow(r->file_sha256, &r->file_sha256_capacity, r->trials.n, sizeof(*r->file_sha256));
    memcpy(r->file_sha256[r->trials.n - 1], b->sha256, 65);
}

static int lost_too_many(struct run *r, const struct err *inner, struct err *e)
{
    r->child_failures = error_is_of_worker(inner) ? r->child_failures + 1 : 0;
    if (r->child_failures < CHILD_FAILURES_MAX)
        return 0;
    err_set(e, inner->code,
            inner->hint[0] ? inner->hint
                           : "see the last message; when it is repaired, continue with --resume",
            "%s", inner->message);
    return err_context(e, "%d measurements in a row ended without a result, the last one so",
                       r->child_failures);
}

int trial_run(struct run *r, struct proposal *p, struct err *e)
{
    struct trial t = {.recipe = p->recipe,
                      .group_types = p->group_types,
                      .bytes = p->bytes,
                      .predicted_kld = p->predicted_kld,
                      .cache_kld = p->cache_kld,
                      .stock = p->stock_name != NULL,
                      .stock_name = p->stock_name,
                      .reason = xstrdup(p->reason)};
    struct baked b = {0};
    struct err inner = {0};
    *p = (struct proposal){0};
    trial_key(&t.recipe, t.key);
    char *key = xasprintf("search:%s", t.key);
    json_t *recipe = recipe_json_new(&t.recipe);
    char *recipe_text = json_text(recipe, false);
    json_decref(recipe);
    struct store_trial row = {.key = key,
                              .kind = t.stock ? "stock" : "search",
                              .state = "running",
                              .recipe = recipe_text,
                              .bytes = t.bytes,
                              .started_ms = clock_unix_ms()};
    memcpy(row.run_id, r->id, sizeof(row.run_id));
    double began = clock_seconds();
    int rc = store_trial_begin(r->store, &row, e);
    if (rc == 0) {
        trial_event(r, &t, "running", 0);
        rc = measure(r, &t, &b, &inner);
        row.seconds = clock_seconds() - began;
        t.failed = rc != 0;
        t.error = t.failed ? xstrdup(inner.message) : NULL;
        if (rc != 0 && !error_is_of_trial(&inner)) {
            *e = inner;
        } else {
            rc = record_end(r, &row, &t, &b, e);
            trial_event(r, &t, t.failed ? "failed" : "done", row.seconds);
        }
    }
    xfree(key);
    xfree(recipe_text);
    if (rc != 0) {
        trial_release(&t);
        return -1;
    }
    append(r, &t, &b);
    if (lost_too_many(r, &inner, e) != 0)
        return -1;
    trials_prune_files(r);
    return 0;
}

/* ---- files ---- */

/* Trials whose files may be asked for again: the winner so far, the best stock mix, and without
 * targets the front, which is the result. */
static void mark_needed(const struct run *r, bool *needed)
{
    const struct targets *t = &r->set.targets;
    uint64_t parameters = r->subject.desc->parameters;
    int best = trials_best(&r->trials, t, parameters);
    int stock = trials_best_stock(&r->trials, t, parameters);
    int nearest = best < 0 ? trials_nearest(&r->trials, t, parameters) : -1;
    if (best >= 0)
        needed[best] = true;
    if (stock >= 0)
        needed[stock] = true;
    if (nearest >= 0)
        needed[nearest] = true;
    if (targets_any(t))
        return;
    size_t *front = xcalloc(r->trials.n + 1, sizeof(*front));
    size_t n = trials_front(&r->trials, front);
    for (size_t i = 0; i < n && i < FRONT_FILES_MAX; i++)
        needed[front[i]] = true;
    xfree(front);
}

void trials_prune_files(struct run *r)
{
    bool *needed = xcalloc(r->trials.n + 1, sizeof(*needed));
    char **names = NULL;
    size_t n = 0;
    mark_needed(r, needed);
    if (r->set.mock || fs_list(r->candidates, &names, &n, NULL) != 0) {
        xfree(needed);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        bool keep = false;
        for (size_t k = 0; k < r->trials.n && !keep; k++)
            keep = needed[k] && strncmp(names[i], r->trials.items[k].key, 64) == 0 &&
                   strcmp(names[i] + 64, ".gguf") == 0;
        if (keep)
            continue;
        char *path = fs_join(r->candidates, names[i]);
        struct err e = {0};
        if (fs_remove(path, &e) != 0)
            log_warn("%s", e.message);
        xfree(path);
    }
    fs_list_free(names, n);
    xfree(needed);
}

char *trial_file(struct run *r, size_t trial, struct err *e)
{
    const struct trial *t = &r->trials.items[trial];
    char *path = candidate_path(r, t);
    struct baked b = {0};
    if (r->set.mock || fs_exists(path))
        return path;
    if (r->world->bake(r, &t->recipe, path, &b, e) == 0) {
        if (strcmp(b.sha256, r->file_sha256[trial]) == 0)
            return path;
        err_set(e, ERR_BUG, "start a new run",
                "a candidate was made again and differs: SHA-256 %.16s..., before %.16s...",
                b.sha256, r->file_sha256[trial]);
    }
    xfree(path);
    return NULL;
}
