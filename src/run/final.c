/* Held-out windows: the score that is reported, and who is delivered.
 *
 * The winner is chosen by the search windows; the final windows only judge it. Two things may
 * overturn the choice, both towards safety: a winner that measures worse here than the best stock
 * mix gives way to it, and one that misses a target here gives way to the next candidate that met
 * it in the search.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/stat.h"
#include "base/stop.h"
#include "base/banned.h"

enum { FRONT_SCORED_MAX = 16, NEXT_TRIED_MAX = 4 };

void outcome_release(struct outcome *o)
{
    xfree(o->file_name);
    xfree(o->text);
    *o = (struct outcome){.best = -1, .stock = -1};
}

struct stat_mean final_paired(const struct finalist *a, const struct finalist *b)
{
    size_t n = a->n_windows < b->n_windows ? a->n_windows : b->n_windows;
    return stat_mean_paired(a->window_kld, b->window_kld, n, 1);
}

static const struct trial *trial_of(const struct run *r, int finalist)
{
    return &r->trials.items[r->finals.items[finalist].trial];
}

/* ---- scoring ---- */

static void speed_of_search(struct score *to, const struct score *from)
{
    to->tps_decode = from->tps_decode;
    to->tps_prefill = from->tps_prefill;
    to->first_token_ms = from->first_token_ms;
    to->load_ms = from->load_ms;
    to->rss_peak_bytes = from->rss_peak_bytes;
    to->memory_bytes = from->memory_bytes;
    to->kv_bytes = from->kv_bytes;
    to->compute_bytes = from->compute_bytes;
    to->weights_bytes = from->weights_bytes;
    to->memory_context = from->memory_context;
    to->threads = from->threads;
    to->gpu_layers = from->gpu_layers;
}

static int measure_quality_of(struct run *r, size_t trial, const char *path, enum run_set set,
                              struct finalist *f, struct err *e)
{
    xfree(f->window_kld);
    f->window_kld = NULL;
    return score_quality(r, &r->trials.items[trial], path, r->file_sha256[trial], set, &f->score,
                         &f->window_kld, &f->n_windows, e);
}

/* A rival that the first windows show to be worse for certain is not read further. */
static int measure_rival(struct run *r, size_t trial, const char *path, const struct finalist *best,
                         struct finalist *f, struct err *e)
{
    if (measure_quality_of(r, trial, path, SET_FRONT, f, e) != 0)
        return -1;
    bool all = r->subject.scale.front >= r->subject.scale.final;
    return all || final_paired(f, best).low > 0
               ? 0
               : measure_quality_of(r, trial, path, SET_FINAL, f, e);
}

/* best: of whom the trial is only a rival, or NULL. */
static int measure(struct run *r, size_t trial, enum run_set set, const struct finalist *best,
                   struct finalist *f, struct err *e)
{
    const struct trial *t = &r->trials.items[trial];
    char *path = trial_file(r, trial, e);
    if (!path)
        return -1;
    int rc = best ? measure_rival(r, trial, path, best, f, e)
                  : measure_quality_of(r, trial, path, set, f, e);
    /* A speed that decided about the candidate is the one to report. */
    if (rc == 0 && t->score.tps_decode > 0)
        speed_of_search(&f->score, &t->score);
    else if (rc == 0)
        rc = r->world->speed(r, t, path, &f->score, e);
    xfree(path);
    return rc;
}

static int record(struct run *r, struct store_trial *row, const struct finalist *f,
                  const char *error, struct err *e)
{
    json_t *score = error ? NULL : score_json_new(&f->score), *extra = json_object();
    json_object_set_new(extra, "window_kld", window_means_json_new(f->window_kld, f->n_windows));
    json_object_set_new(extra, "predicted_speed", json_boolean(f->predicted_speed));
    char *score_text = score ? json_text(score, false) : NULL,
         *extra_text = json_text(extra, false);
    row->state = error ? "failed" : "done";
    row->error = error;
    row->score = score_text;
    row->extra = extra_text;
    int rc = store_trial_end(r->store, row, e);
    json_decref(score);
    json_decref(extra);
    xfree(score_text);
    xfree(extra_text);
    return rc;
}

static int find_finalist(const struct run *r, size_t trial)
{
    for (size_t i = 0; i < r->finals.n; i++)
        if (r->finals.items[i].trial == trial)
            return (int)i;
    return -1;
}

static void final_event(struct run *r, const struct trial *t, const struct finalist *f)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", t->stock_name ? json_string(t->stock_name) : json_null());
    json_object_set_new(o, "bytes", json_integer((json_int_t)t->bytes));
    json_object_set_new(o, "kld_mean", json_real_new(f->score.kld_mean));
    json_object_set_new(o, "top1", json_real_new(f->score.top1));
    json_object_set_new(o, "tps_decode", json_real_new(f->score.tps_decode));
    run_event(r, "final", o);
}

/* Scores a trial unless it has a final score. *index into finals; best: as of measure. */
static int score(struct run *r, size_t trial, enum run_set set, const struct finalist *best,
                 int *index, struct err *e)
{
    const struct trial *t = &r->trials.items[trial];
    struct finalist f = {.trial = trial,
                         .predicted_speed = r->set.has_profile && r->set.profile.remote};
    struct err inner = {0};
    *index = find_finalist(r, trial);
    if (*index >= 0)
        return 0;
    if (stop_check(e) != 0)
        return -1;
    char *key = xasprintf("final:%s", t->key);
    struct store_trial row = {
        .key = key, .kind = "final", .bytes = t->bytes, .started_ms = clock_unix_ms()};
    json_t *recipe = recipe_json_new(&t->recipe);
    char *recipe_text = json_text(recipe, false);
    json_decref(recipe);
    row.recipe = recipe_text;
    memcpy(row.run_id, r->id, sizeof(row.run_id));
    double began = clock_seconds();
    int rc = store_trial_begin(r->store, &row, e);
    if (rc == 0) {
        int measured = measure(r, trial, set, best, &f, &inner);
        if (measured != 0 && error_is_of_worker(&inner)) {
            /* Too much hangs on a finalist to drop it for one lost worker. */
            run_note(r, "a held-out score is measured again: %s", inner.message);
            err_clear(&inner);
            measured = measure(r, trial, set, best, &f, &inner);
        }
        row.seconds = clock_seconds() - began;
        if (measured != 0 && !error_is_of_trial(&inner)) {
            *e = inner;
            rc = -1;
        } else {
            rc = record(r, &row, &f, measured != 0 ? inner.message : NULL, e);
        }
        if (rc == 0 && measured != 0)
            run_note(r, "a candidate could not be scored on held-out text: %s", inner.message);
        if (rc == 0 && measured == 0) {
            r->finals.items = xgrow(r->finals.items, &r->finals.capacity, r->finals.n + 1,
                                    sizeof(*r->finals.items));
            *index = (int)r->finals.n;
            r->finals.items[r->finals.n++] = f;
            final_event(r, t, &f);
            f.window_kld = NULL;
        }
    }
    xfree(f.window_kld);
    xfree(key);
    xfree(recipe_text);
    return rc;
}

/* ---- choosing ---- */

static bool final_met(const struct run *r, int finalist)
{
    const struct trial *t = trial_of(r, finalist);
    return targets_met(&r->set.targets, t->bytes, r->subject.desc->parameters,
                       &r->finals.items[finalist].score, NULL);
}

/* The stock mix to compare with: under targets the best that meets them too, else the best of no
 * more bytes than the winner. */
static int stock_rival(const struct run *r, size_t winner)
{
    const struct trials *t = &r->trials;
    int best = -1;
    if (targets_any(&r->set.targets)) {
        best = trials_best_stock(t, &r->set.targets, r->subject.desc->parameters);
        if (best >= 0)
            return best;
    }
    for (size_t i = 0; i < t->n; i++) {
        const struct trial *c = &t->items[i];
        if (c->failed || !c->stock || c->bytes > t->items[winner].bytes)
            continue;
        if (best < 0 || c->score.kld_mean < t->items[best].score.kld_mean)
            best = (int)i;
    }
    return best;
}

/* Without targets the front is the result: its members get final scores too. */
static int score_front(struct run *r, struct err *e)
{
    size_t *front = xcalloc(r->trials.n + 1, sizeof(*front));
    size_t n = trials_front(&r->trials, front);
    int rc = 0, index;
    if (r->subject.scale.front < r->subject.scale.final)
        run_note(r,
                 "of the front, all but the winner were scored on the first %zu of the held-out "
                 "windows",
                 r->subject.scale.front);
    for (size_t i = 0; rc == 0 && i < n && i < FRONT_SCORED_MAX; i++) {
        stage_progress(r, (double)(i + 2), (double)(n + 2), "front");
        rc = score(r, front[i], SET_FRONT, NULL, &index, e);
    }
    xfree(front);
    return rc;
}

/* Is trial a to be tried before b when the winner missed a target on held-out text? */
static bool before(const struct run *r, const struct trial *a, const struct trial *b)
{
    if (targets_accuracy_only(&r->set.targets))
        return a->bytes < b->bytes;
    return a->score.kld_mean < b->score.kld_mean;
}

/* Candidates that met the targets in the search, in order, until one meets them on held-out text
 * too. */
static int try_next(struct run *r, struct outcome *o, struct err *e)
{
    for (int tries = 0; tries < NEXT_TRIED_MAX; tries++) {
        int next = -1, index;
        for (size_t i = 0; i < r->trials.n; i++) {
            const struct trial *c = &r->trials.items[i];
            if (c->failed || find_finalist(r, i) >= 0 ||
                !targets_met(&r->set.targets, c->bytes, r->subject.desc->parameters, &c->score,
                             NULL))
                continue;
            if (next < 0 || before(r, c, &r->trials.items[next]))
                next = (int)i;
        }
        if (next < 0)
            return 0;
        if (score(r, (size_t)next, SET_FINAL, NULL, &index, e) != 0)
            return -1;
        if (index >= 0 && final_met(r, index)) {
            run_note(r, "the first choice missed a target on held-out text; the next that meets it "
                        "is delivered");
            o->best = index;
            return 0;
        }
    }
    return 0;
}

/* The winner gives way to a stock mix that is better here. */
static void prefer_stock(struct run *r, struct outcome *o)
{
    if (o->stock < 0 || o->best < 0 || o->best == o->stock)
        return;
    const struct finalist *best = &r->finals.items[o->best], *stock = &r->finals.items[o->stock];
    bool best_met = final_met(r, o->best), stock_met = final_met(r, o->stock);
    if (targets_accuracy_only(&r->set.targets)) {
        bool smaller = trial_of(r, o->stock)->bytes < trial_of(r, o->best)->bytes;
        if (!stock_met || (best_met && !smaller))
            return;
    } else if (!(final_paired(stock, best).mean < 0) || (best_met && !stock_met)) {
        return;
    }
    run_note(r,
             "on held-out text the stock mix %s is better than the best of the search, so it is "
             "delivered",
             trial_of(r, o->stock)->stock_name);
    o->best = o->stock;
}

/* Where targets are asked a rival must show that it meets them, on all windows. */
static int score_rival(struct run *r, size_t rival, struct outcome *o, struct err *e)
{
    const struct finalist *best =
        o->best >= 0 && !targets_any(&r->set.targets) ? &r->finals.items[o->best] : NULL;
    return score(r, rival, SET_FINAL, best, &o->stock, e);
}

static int pick(struct run *r, struct outcome *o, struct err *e)
{
    uint64_t parameters = r->subject.desc->parameters;
    int best = trials_best(&r->trials, &r->set.targets, parameters);
    bool met_in_search = best >= 0;
    if (best < 0)
        best = trials_nearest(&r->trials, &r->set.targets, parameters);
    if (best < 0)
        return err_set(e, ERR_CHILD, "sintra history shows why each one failed",
                       "none of the %zu candidates could be made and measured", r->trials.n);
    int rival = stock_rival(r, (size_t)best);
    stage_progress(r, 0, 3, "winner");
    if (score(r, (size_t)best, SET_FINAL, NULL, &o->best, e) != 0)
        return -1;
    stage_progress(r, 1, 3, "best stock mix");
    if (rival >= 0 && score_rival(r, (size_t)rival, o, e) != 0)
        return -1;
    stage_progress(r, 2, 3, NULL);
    if (!targets_any(&r->set.targets) && score_front(r, e) != 0)
        return -1;
    if (met_in_search && (o->best < 0 || !final_met(r, o->best)) && try_next(r, o, e) != 0)
        return -1;
    if (o->best < 0)
        o->best = o->stock;
    if (o->best < 0)
        return err_set(e, ERR_CHILD, "sintra history shows why each one failed",
                       "no candidate could be scored on held-out text");
    prefer_stock(r, o);
    return 0;
}

int final_run(struct run *r, struct outcome *o, struct err *e)
{
    *o = (struct outcome){.best = -1, .stock = -1};
    stage_enter(r, STAGE_FINAL);
    if (pick(r, o, e) != 0)
        return -1;
    const struct trial *t = trial_of(r, o->best);
    o->met = targets_met(&r->set.targets, t->bytes, r->subject.desc->parameters,
                         &r->finals.items[o->best].score, o->why);
    o->bytes = t->bytes;
    if (o->stock >= 0 && o->stock != o->best)
        o->paired = final_paired(&r->finals.items[o->best], &r->finals.items[o->stock]);
    return 0;
}

void final_order(const struct run *r, const struct outcome *o, int *order, size_t *n)
{
    *n = 0;
    order[(*n)++] = o->best;
    /* Then those that meet as much, by their held-out divergence. */
    for (;;) {
        int next = -1;
        for (size_t i = 0; i < r->finals.n; i++) {
            bool listed = false;
            for (size_t k = 0; k < *n; k++)
                listed = listed || order[k] == (int)i;
            if (listed || (o->met && !final_met(r, (int)i)))
                continue;
            if (next < 0 ||
                r->finals.items[i].score.kld_mean < r->finals.items[next].score.kld_mean)
                next = (int)i;
        }
        if (next < 0)
            return;
        order[(*n)++] = next;
    }
}
