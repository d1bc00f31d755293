/* Rows and events: what survives a kill, what a listener hears, and reading it back.
 *
 * A trial's row carries everything the loop needs of it: recipe, score, and in `extra` the types
 * per group, the KL of each window (for paired comparisons) and the hash of its file. Rows that end
 * are finished work; a row still "running" after a kill is a trial in flight and is done again.
 * Per-position values are not kept: the mean of each window is all that a clustered interval needs.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/banned.h"

void run_event(struct run *r, const char *kind, json_t *doc)
{
    json_t *whole = json_object();
    json_object_set_new(whole, "event", json_string(kind));
    json_object_update(whole, doc);
    json_decref(doc);
    if (r->set.mock)
        json_object_set_new(whole, "mock", json_true());
    if (r->store && r->id[0]) {
        struct err e = {0};
        char *text = json_text(whole, false);
        /* An event that cannot be stored must not end a run; its rows are what counts. */
        if (store_event(r->store, r->id, kind, text, &e) != 0)
            log_warn("event not stored: %s", e.message);
        xfree(text);
    }
    if (r->listener && r->listener->event)
        r->listener->event(r->listener->ud, whole);
    json_decref(whole);
}

void run_say(struct run *r, const char *format, ...)
{
    char text[ERR_MESSAGE_MAX + 256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    json_t *doc = json_object();
    json_object_set_new(doc, "text", json_string(text));
    run_event(r, "note", doc);
}

void run_note(struct run *r, const char *format, ...)
{
    char text[ERR_MESSAGE_MAX + 256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (r->notes)
        json_array_append_new(r->notes, json_string(text));
    run_say(r, "%s", text);
}

json_t *window_means_json_new(const double *kld, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_real_new(kld[i]));
    return list;
}

double *window_means(const struct score *s, size_t *n)
{
    *n = 0;
    if (!s->kld || s->windows == 0 || s->positions < s->windows)
        return NULL;
    size_t per = s->positions / s->windows;
    double *out = xcalloc(s->windows, sizeof(*out));
    for (size_t w = 0; w < s->windows; w++) {
        for (size_t i = 0; i < per; i++)
            out[w] += s->kld[w * per + i];
        out[w] /= (double)per;
    }
    *n = s->windows;
    return out;
}

json_t *record_extra_new(const struct run *r, const struct trial *t, const char *sha256)
{
    json_t *o = json_object(), *types = json_null();
    if (t->group_types) {
        types = json_array();
        for (size_t g = 0; g < r->subject.groups.n; g++)
            json_array_append_new(types, t->group_types[g] == DT_NONE
                                             ? json_null()
                                             : json_string(dtype_name(t->group_types[g])));
    }
    json_object_set_new(o, "group_types", types);
    json_object_set_new(o, "stock", t->stock_name ? json_string(t->stock_name) : json_null());
    json_object_set_new(o, "reason", t->reason ? json_string(t->reason) : json_null());
    json_object_set_new(o, "predicted_kld", json_real_new(t->predicted_kld));
    json_object_set_new(o, "cache_kld", json_real_new(t->cache_kld));
    json_object_set_new(o, "window_kld", window_means_json_new(t->window_kld, t->n_windows));
    json_object_set_new(o, "sha256", json_string(sha256));
    return o;
}

/* ---- reading back ---- */

static double *parse_windows(const json_t *extra, size_t *n)
{
    const json_t *list = json_object_get(extra, "window_kld");
    double *out;
    *n = json_array_size(list);
    if (*n == 0)
        return NULL;
    out = xcalloc(*n, sizeof(*out));
    for (size_t i = 0; i < *n; i++)
        out[i] = json_number_value(json_array_get(list, i));
    return out;
}

static enum dtype *parse_types(const json_t *extra, size_t n_groups)
{
    const json_t *list = json_object_get(extra, "group_types");
    if (!json_is_array(list) || json_array_size(list) != n_groups)
        return NULL;
    enum dtype *out = xcalloc(n_groups + 1, sizeof(*out));
    for (size_t g = 0; g < n_groups; g++) {
        const json_t *v = json_array_get(list, g);
        out[g] = json_is_string(v) ? dtype_by_name(json_string_value(v)) : DT_NONE;
    }
    return out;
}

static json_t *parse_column(const char *text, const char *name, struct err *e)
{
    return text ? json_parse(text, strlen(text), name, e) : json_object();
}

static int load_trial(struct run *r, const struct store_trial *row, const json_t *recipe,
                      const json_t *score, const json_t *extra, struct err *e)
{
    struct trial t = {.bytes = row->bytes,
                      .failed = strcmp(row->state, "failed") == 0,
                      .stock = strcmp(row->kind, "stock") == 0,
                      .predicted_kld = json_opt_real(extra, "predicted_kld", NAN),
                      .cache_kld = json_opt_real(extra, "cache_kld", 0)};
    const char *stock = json_opt_str(extra, "stock", NULL);
    const char *reason = json_opt_str(extra, "reason", NULL);
    if (recipe_parse(&t.recipe, recipe, "stored recipe", e) != 0)
        return -1;
    if (!t.failed && score_from_json(&t.score, score, e) != 0) {
        recipe_release(&t.recipe);
        return -1;
    }
    trial_key(&t.recipe, t.key);
    t.stock_name = stock && stock_find(stock) ? stock_name(stock_find(stock)) : NULL;
    t.reason = reason ? xstrdup(reason) : NULL;
    t.error = row->error ? xstrdup(row->error) : NULL;
    t.group_types = parse_types(extra, r->subject.groups.n);
    t.window_kld = parse_windows(extra, &t.n_windows);
    trials_add(&r->trials, &t);
    r->file_sha256 =
        xgrow(r->file_sha256, &r->file_sha256_capacity, r->trials.n, sizeof(*r->file_sha256));
    snprintf(r->file_sha256[r->trials.n - 1], 65, "%s", json_opt_str(extra, "sha256", ""));
    r->evaluations += !t.failed;
    r->repeated++;
    return 0;
}

static int load_finalist(struct run *r, const struct store_trial *row, const json_t *score,
                         const json_t *extra, struct err *e)
{
    struct finalist f = {.predicted_speed = json_opt_bool(extra, "predicted_speed", false)};
    const char *key = strchr(row->key, ':');
    size_t at = r->trials.n;
    for (size_t i = 0; key && i < r->trials.n; i++)
        if (strcmp(r->trials.items[i].key, key + 1) == 0)
            at = i;
    if (at == r->trials.n || strcmp(row->state, "done") != 0)
        return 0;
    if (score_from_json(&f.score, score, e) != 0)
        return -1;
    f.trial = at;
    f.window_kld = parse_windows(extra, &f.n_windows);
    r->finals.items =
        xgrow(r->finals.items, &r->finals.capacity, r->finals.n + 1, sizeof(*r->finals.items));
    r->finals.items[r->finals.n++] = f;
    r->evaluations++;
    return 0;
}

struct loading {
    struct run *run;
    bool finals; /* second pass: finalists refer to trials */
    struct err *e;
    bool failed;
};

static int load_row(void *ud, const struct store_trial *row)
{
    struct loading *l = ud;
    bool final = strcmp(row->kind, "final") == 0;
    bool ours = final || strcmp(row->kind, "stock") == 0 || strcmp(row->kind, "search") == 0;
    /* What a killed process left in flight has no end of its own: it is done again. */
    bool cut_off =
        strcmp(row->state, "running") == 0 ||
        (strcmp(row->state, "failed") == 0 && row->error && strcmp(row->error, "interrupted") == 0);
    if (!ours || final != l->finals || cut_off)
        return 0;
    json_t *recipe = parse_column(row->recipe, "stored recipe", l->e);
    json_t *score = parse_column(row->score, "stored score", l->e);
    json_t *extra = parse_column(row->extra, "stored trial", l->e);
    int rc = recipe && score && extra ? 0 : -1;
    if (rc == 0)
        rc = final ? load_finalist(l->run, row, score, extra, l->e)
                   : load_trial(l->run, row, recipe, score, extra, l->e);
    json_decref(recipe);
    json_decref(score);
    json_decref(extra);
    l->failed = rc != 0;
    return rc;
}

int record_load(struct run *r, struct err *e)
{
    struct loading l = {.run = r, .e = e};
    if (store_trials(r->store, r->id, load_row, &l, e) != 0 || l.failed)
        return -1;
    l.finals = true;
    if (store_trials(r->store, r->id, load_row, &l, e) != 0 || l.failed)
        return -1;
    return 0;
}
