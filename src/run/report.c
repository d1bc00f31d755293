/* The result document: report.json, the answer of `optimize --json`, the row of the store.
 *
 * Every number says on which text it was measured ("held-out" or "search"), and which of them were
 * predicted rather than measured. The delivered recipe names the importance matrix it was made
 * with; with that file and the recipe, `quantize` makes the same bytes again.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/banned.h"

static void set_bytes(json_t *o, const char *key, uint64_t bytes)
{
    json_object_set_new(o, key, json_integer((json_int_t)(bytes > INT64_MAX ? INT64_MAX : bytes)));
}

/* As the original's card states it. */
static void report_license(json_t *o, const struct gguf_kvs *k)
{
    static const char *const keys[][2] = {{"general.license", "license"},
                                          {"general.license.name", "license_name"},
                                          {"general.license.link", "license_link"}};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const char *value = gguf_get_str(k, keys[i][0]);
        if (value)
            json_object_set_new(o, keys[i][1], json_string(value));
    }
}

json_t *report_model_json_new(const struct subject *m)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(m->desc->name ? m->desc->name : ""));
    if (m->sha256[0])
        json_object_set_new(o, "sha256", json_string(m->sha256));
    json_object_set_new(o, "architecture", json_string(m->desc->architecture));
    set_bytes(o, "parameters", m->desc->parameters);
    set_bytes(o, "bytes", m->source_bytes);
    if (m->model) {
        json_object_set_new(o, "path", json_string(model_path(m->model)));
        report_license(o, model_kvs(m->model));
    }
    return o;
}

static json_t *recipe_with_importance(const struct run *r, const struct recipe *from)
{
    struct recipe copy;
    recipe_copy(&copy, from);
    if (r->have_imatrix && r->imatrix.sha256[0]) {
        xfree(copy.importance);
        copy.importance = xstrdup(r->imatrix.sha256);
    }
    json_t *doc = recipe_json_new(&copy);
    recipe_release(&copy);
    return doc;
}

static json_t *predicted_list_new(void)
{
    json_t *list = json_array();
    json_array_append_new(list, json_string("tps_decode"));
    json_array_append_new(list, json_string("tps_prefill"));
    json_array_append_new(list, json_string("first_token_ms"));
    return list;
}

static const struct finalist *finalist_of(const struct run *r, size_t trial)
{
    for (size_t i = 0; i < r->finals.n; i++)
        if (r->finals.items[i].trial == trial)
            return &r->finals.items[i];
    return NULL;
}

/* name: of the file that holds the recipe, or NULL. */
static json_t *candidate_json_new(const struct run *r, size_t trial, const char *name)
{
    const struct trial *t = &r->trials.items[trial];
    const struct finalist *f = finalist_of(r, trial);
    const struct score *s = f ? &f->score : &t->score;
    bool remote = r->set.has_profile && r->set.profile.remote;
    json_t *o = json_object();
    json_object_set_new(o, "name", t->stock_name ? json_string(t->stock_name) : json_null());
    json_object_set_new(o, "stock", json_boolean(t->stock));
    json_object_set_new(o, "recipe", recipe_with_importance(r, &t->recipe));
    set_bytes(o, "bytes", t->bytes);
    json_object_set_new(o, "bpw",
                        json_real_new((double)t->bytes * 8 / (double)r->subject.desc->parameters));
    if (name)
        json_object_set_new(o, "recipe_file", json_string(name));
    if (r->file_sha256[trial][0])
        json_object_set_new(o, "sha256", json_string(r->file_sha256[trial]));
    json_object_set_new(o, "measured_on", json_string(f ? "held-out" : "search"));
    if (remote && s->tps_decode > 0)
        json_object_set_new(o, "predicted", predicted_list_new());
    json_object_set_new(o, "score", score_json_new(s));
    return o;
}

static json_t *best_json_new(const struct run *r, const struct outcome *o)
{
    json_t *best = candidate_json_new(r, r->finals.items[o->best].trial, "recipe.json");
    json_object_set_new(best, "file", r->set.mock ? json_null() : json_string(o->file_name));
    if (o->text)
        json_object_set_new(best, "generated", json_string(o->text));
    return best;
}

static double bpw_of(const struct run *r, size_t trial)
{
    return (double)r->trials.items[trial].bytes * 8 / (double)r->subject.desc->parameters;
}

/* "front/Q4_K_M.recipe.json", "front/4.50bpw.recipe.json"; with the bytes where two would have the
 * same name. xfree. */
static char *front_file(const struct run *r, const size_t *front, size_t i)
{
    const struct trial *t = &r->trials.items[front[i]];
    bool alone = true;
    if (t->stock_name)
        return xasprintf(FRONT_FOLDER "/%s.recipe.json", t->stock_name);
    for (size_t k = 0; k < i; k++)
        alone =
            alone && fabs(round(bpw_of(r, front[k]) * 100) - round(bpw_of(r, front[i]) * 100)) >= 1;
    return alone ? xasprintf(FRONT_FOLDER "/%.2fbpw.recipe.json", bpw_of(r, front[i]))
                 : xasprintf(FRONT_FOLDER "/%llu.recipe.json", (unsigned long long)t->bytes);
}

static json_t *front_json_new(const struct run *r)
{
    size_t *front = xcalloc(r->trials.n + 1, sizeof(*front));
    size_t n = trials_front(&r->trials, front);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        char *name = front_file(r, front, i);
        json_array_append_new(list, candidate_json_new(r, front[i], name));
        xfree(name);
    }
    xfree(front);
    return list;
}

static json_t *stock_json_new(const struct run *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->trials.n; i++)
        if (r->trials.items[i].stock && !r->trials.items[i].failed)
            json_array_append_new(list, candidate_json_new(r, i, NULL));
    return list;
}

static json_t *paired_json_new(const struct run *r, const struct outcome *o)
{
    if (o->stock < 0 || o->stock == o->best || o->paired.clusters < 2)
        return json_null();
    const struct finalist *best = &r->finals.items[o->best], *stock = &r->finals.items[o->stock];
    const struct trial *rival = &r->trials.items[stock->trial];
    char kv[CACHE_TEXT_MAX];
    json_t *out = json_object(), *interval = json_array();
    json_array_append_new(interval, json_real_new(o->paired.low));
    json_array_append_new(interval, json_real_new(o->paired.high));
    json_object_set_new(out, "against", json_string(rival->stock_name ? rival->stock_name : ""));
    if (!cache_is_default(rival->recipe.cache))
        json_object_set_new(out, "against_kv", json_string(cache_text(rival->recipe.cache, kv)));
    set_bytes(out, "against_bytes", rival->bytes);
    json_object_set_new(out, "kld_difference", json_real_new(o->paired.mean));
    json_object_set_new(out, "kld_difference_ci95", interval);
    json_object_set_new(out, "kld_ratio",
                        json_real_new(best->score.kld_mean / stock->score.kld_mean));
    json_object_set_new(out, "reliable", json_boolean(o->paired.high < 0 || o->paired.low > 0));
    json_object_set_new(out, "windows", json_integer((json_int_t)o->paired.clusters));
    return out;
}

static json_t *hardware_json_new(const struct run *r)
{
    json_t *o = hw_json_new(&r->hw);
    if (r->set.has_profile) {
        json_object_set_new(o, "profile", json_string(r->set.profile.name));
        json_object_set_new(o, "predicted", json_boolean(r->set.profile.remote));
    }
    return o;
}

static int failed_trials(const struct run *r)
{
    int n = 0;
    for (size_t i = 0; i < r->trials.n; i++)
        n += r->trials.items[i].failed;
    return n;
}

json_t *report_new(struct run *r, const struct outcome *o)
{
    char when[32];
    json_t *doc = json_object();
    json_object_set_new(doc, REPORT_MARKER, json_integer(1));
    json_object_set_new(doc, "run", json_string(r->id));
    if (r->set.mock)
        json_object_set_new(doc, "mock", json_true());
    json_object_set_new(doc, "status", json_string(o->met ? "met" : "best_effort"));
    if (!o->met)
        json_object_set_new(doc, "reason", json_string(o->why));
    json_object_set_new(doc, "created", json_string(clock_iso(clock_unix_ms(), when)));
    json_object_set_new(doc, "out", json_string(r->set.out_dir));
    json_object_set_new(doc, "model", report_model_json_new(&r->subject));
    json_object_set_new(doc, "hardware", hardware_json_new(r));
    json_object_set_new(doc, "targets", targets_json_new(&r->set.targets));
    json_object_set_new(doc, "preset", json_string(r->set.preset));
    json_object_set_new(doc, "limits", limits_json_new(&r->limits));
    json_object_set_new(doc, "best", best_json_new(r, o));
    json_object_set_new(doc, "cache", caches_json_new(r, o));
    json_object_set_new(doc, "paired", paired_json_new(r, o));
    json_object_set_new(doc, "front", front_json_new(r));
    json_object_set_new(doc, "stock", stock_json_new(r));
    json_object_set_new(doc, "tried", tried_json_new(r, o));
    json_object_set_new(doc, "groups", groups_json_new(r, o));
    json_object_set_new(doc, "corpus", json_string(r->set.corpus));
    json_object_set_new(doc, "corpus_sha256", json_string(r->corpus_sha256));
    json_object_set_new(doc, "windows", r->windows ? json_incref(r->windows) : json_null());
    json_object_set_new(doc, "trials", json_integer((json_int_t)r->trials.n));
    json_object_set_new(doc, "trials_failed", json_integer(failed_trials(r)));
    json_object_set_new(doc, "trials_resumed", json_integer(r->repeated));
    json_object_set_new(doc, "evaluations", json_integer(r->evaluations));
    json_object_set_new(doc, "seconds", json_real_new(round(run_elapsed(r) * 1000) / 1000));
    json_object_set_new(doc, "history", history_json_new(r));
    json_object_set_new(doc, "seconds_by_stage", stages_json_new(&r->stages));
    json_object_set_new(doc, "notes", r->notes ? json_incref(r->notes) : json_array());
    return doc;
}

json_t *report_infeasible_new(const struct settings *s, const struct subject *m,
                              const struct limits *l, const char *sentence, const char *hint)
{
    json_t *doc = json_object();
    json_object_set_new(doc, REPORT_MARKER, json_integer(1));
    if (s->mock)
        json_object_set_new(doc, "mock", json_true());
    json_object_set_new(doc, "status", json_string("infeasible"));
    json_object_set_new(doc, "reason", json_string(sentence));
    json_object_set_new(doc, "hint", json_string(hint));
    json_object_set_new(doc, "model", report_model_json_new(m));
    json_object_set_new(doc, "targets", targets_json_new(&s->targets));
    json_object_set_new(doc, "limits", limits_json_new(l));
    json_object_set_new(doc, "best", json_null());
    json_object_set_new(doc, "front", json_array());
    json_object_set_new(doc, "stock", json_array());
    json_object_set_new(doc, "trials", json_integer(0));
    json_object_set_new(doc, "evaluations", json_integer(0));
    return doc;
}
