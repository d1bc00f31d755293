/* What earlier runs measured and this one need not: sensitivities, as facts of the store.
 *
 * A model's own sensitivities are taken whenever everything they depend on is the same: weights,
 * text, importance, encoders (the hash `prefix` says so). A sibling is another model of the same
 * architecture and the same tensor shapes, as fine-tunes of one base are. Its sensitivities are
 * only offered: they are used when the run asks for them, with the encoder's errors taken on this
 * model's own weights, they are never stored as this model's, and the report says whose they are.
 * Every fact carries the seconds that it took, so a run can say what history saved.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

enum { SIBLINGS_MAX = 32 };

static const char kind[] = "sensitivity", family_kind[] = "family";

/* Architecture, and the name and shape of every tensor. */
static void family_key(const struct model_desc *d, char hex[static 65])
{
    struct hash_sha256 *h = hash_sha256_new();
    hash_sha256_add(h, d->architecture, strlen(d->architecture) + 1);
    for (size_t i = 0; i < d->n_tensors; i++) {
        const struct model_tensor *t = &d->tensors[i];
        hash_sha256_add(h, t->name, strlen(t->name) + 1);
        hash_sha256_add(h, t->shape.ne, sizeof(t->shape.ne));
    }
    hash_sha256_finish(h, hex);
}

/* ---- taking ---- */

/* Fills what is missing from the facts under a prefix; returns how many, and the seconds they
 * took. */
static int take(struct probe_history *h, const char *prefix, bool sibling, double *seconds)
{
    const struct run *r = h->run;
    struct probe_table shape = {.n_types = r->subject.n_types};
    int n = 0;
    memcpy(shape.types, r->subject.types, sizeof(shape.types));
    for (size_t g = 0; g < r->subject.groups.n; g++) {
        if (h->known[g])
            continue;
        char *key = sense_fact_key(prefix, &r->subject.groups.items[g]);
        json_t *doc = store_fact_get(r->store, kind, key);
        if (doc && sensitivity_from_json(&h->items[g], &shape, doc, NULL) == 0) {
            h->known[g] = &h->items[g];
            h->of_sibling[g] = sibling;
            h->seconds[g] = json_opt_real(doc, "seconds", 0);
            *seconds += h->seconds[g];
            n++;
        }
        for (int k = 0; sibling && k < PROBE_TYPES_MAX; k++)
            h->items[g].error[k] = NAN; /* taken anew, on this model's weights */
        json_decref(doc);
        xfree(key);
    }
    return n;
}

/* The latest sibling with as many groups, measured by the same methods. Borrowed from doc. */
static const json_t *sibling_of(const struct run *r, const json_t *family, const char *methods)
{
    const json_t *list = json_object_get(family, "members");
    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *m = json_array_get(list, i);
        if (strcmp(json_opt_str(m, "sha256", ""), r->subject.sha256) != 0 &&
            strcmp(json_opt_str(m, "methods", ""), methods) == 0 &&
            json_opt_i64(m, "groups", 0) == (int64_t)r->subject.groups.n)
            return m;
    }
    return NULL;
}

static void use_sibling(struct probe_history *h, const json_t *sibling)
{
    struct run *r = h->run;
    double seconds = 0;
    char time[NUM_TEXT_MAX];
    int n = take(h, json_opt_str(sibling, "prefix", ""), true, &seconds);
    r->history.sibling = n;
    r->history.seconds += seconds;
    xfree(r->history.sibling_name);
    r->history.sibling_name = xstrdup(json_opt_str(sibling, "name", "?"));
    run_note(r,
             "%d sensitivities are those of a sibling, %s (same architecture and shapes, other "
             "weights), which saves about %s; files are measured as ever",
             n, r->history.sibling_name, num_format_seconds(seconds, time));
}

static void look_for_sibling(struct probe_history *h, const char *methods)
{
    struct run *r = h->run;
    char key[65], time[NUM_TEXT_MAX];
    family_key(r->subject.desc, key);
    json_t *family = store_fact_get(r->store, family_kind, key);
    const json_t *sibling = sibling_of(r, family, methods);
    if (sibling && r->set.sibling_sensitivities)
        use_sibling(h, sibling);
    else if (sibling)
        run_say(r,
                "sensitivities of a sibling, %s (same architecture and shapes, other weights), "
                "are known; --sensitivities sibling would use them and save about %s",
                json_opt_str(sibling, "name", "?"),
                num_format_seconds(json_opt_real(sibling, "seconds", 0), time));
    else if (r->set.sibling_sensitivities)
        run_note(r, "no sibling's sensitivities are known here, so this model's are measured");
    json_decref(family);
}

void history_open(struct probe_history *h, struct run *r, const char *prefix, const char *methods)
{
    size_t n = r->subject.groups.n;
    double seconds = 0;
    char time[NUM_TEXT_MAX];
    *h = (struct probe_history){.run = r, .prefix = xstrdup(prefix), .methods = xstrdup(methods)};
    h->items = xcalloc(n + 1, sizeof(*h->items));
    h->known = xcalloc(n + 1, sizeof(*h->known));
    h->of_sibling = xcalloc(n + 1, sizeof(*h->of_sibling));
    h->seconds = xcalloc(n + 1, sizeof(*h->seconds));
    r->history.seconds = 0;
    r->history.own = take(h, prefix, false, &seconds);
    r->history.seconds += seconds;
    if (r->history.own > 0)
        run_say(r, "%d of %zu sensitivities are known from before, which saves about %s",
                r->history.own, n, num_format_seconds(seconds, time));
    if (r->history.own < (int)n)
        look_for_sibling(h, methods);
    h->last = clock_seconds();
}

void history_close(struct probe_history *h)
{
    xfree(h->prefix);
    xfree(h->methods);
    xfree(h->items);
    xfree(h->known);
    xfree(h->of_sibling);
    xfree(h->seconds);
    *h = (struct probe_history){0};
}

/* ---- keeping ---- */

void history_remember(void *ud, size_t group, const struct sensitivity *s)
{
    struct probe_history *h = ud;
    struct probe_table shape = {.n_types = h->run->subject.n_types};
    double now = clock_seconds(), spent = now - h->last;
    h->last = now;
    if (h->of_sibling[group])
        return;
    memcpy(shape.types, h->run->subject.types, sizeof(shape.types));
    json_t *doc = sensitivity_json_new(s, &shape);
    h->seconds[group] = h->known[group] || h->seconds[group] > 0 ? h->seconds[group] : spent;
    json_object_set_new(doc, "seconds", json_real_new(h->seconds[group]));
    char *key = sense_fact_key(h->prefix, &h->run->subject.groups.items[group]);
    store_fact_keep(h->run->store, kind, key, doc);
    xfree(key);
}

static bool same_model(const json_t *member, const struct run *r)
{
    return strcmp(json_opt_str(member, "sha256", ""), r->subject.sha256) == 0;
}

void history_finish(struct probe_history *h)
{
    struct run *r = h->run;
    char key[65];
    double seconds = 0;
    if (r->history.sibling > 0) /* what is not this model's own is not passed on */
        return;
    for (size_t g = 0; g < r->subject.groups.n; g++)
        seconds += h->seconds[g];
    family_key(r->subject.desc, key);
    json_t *family = store_fact_get(r->store, family_kind, key), *members = json_array(), *m;
    size_t i, n = json_array_size(json_object_get(family, "members"));
    json_array_foreach(json_object_get(family, "members"), i, m)
    {
        if (!same_model(m, r) && i + SIBLINGS_MAX > n)
            json_array_append(members, m);
    }
    json_decref(family);
    const char *name = r->subject.desc->name;
    json_array_append_new(
        members, json_pack("{s:s,s:s,s:s,s:s,s:I,s:f}", "sha256", r->subject.sha256, "name",
                           name && name[0] ? name : "?", "prefix", h->prefix, "methods", h->methods,
                           "groups", (json_int_t)r->subject.groups.n, "seconds", seconds));
    store_fact_keep(r->store, family_kind, key, json_pack("{s:o}", "members", members));
}

json_t *history_json_new(const struct run *r)
{
    json_t *o = json_object();
    json_object_set_new(o, "sensitivities", json_integer(r->history.own));
    json_object_set_new(o, "sibling_sensitivities", json_integer(r->history.sibling));
    if (r->history.sibling > 0)
        json_object_set_new(o, "sibling", json_string(r->history.sibling_name));
    if (r->history.scores > 0)
        json_object_set_new(o, "scores", json_integer((json_int_t)r->history.scores));
    if (r->history.blocks > 0)
        json_object_set_new(o, "sets_of_blocks", json_integer((json_int_t)r->history.blocks));
    json_object_set_new(o, "seconds_saved",
                        json_real_new(r->history.seconds + r->history.scores_seconds));
    return o;
}
