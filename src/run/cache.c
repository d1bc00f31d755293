/* Types of the KV cache as a choice of the run.
 *
 * A memory target counts the cache, so its types are worth bytes of weights: what a smaller cache
 * frees, the weights get. What the types cost alone is measured once on the original, in float mode
 * on the windows of the search, and kept beside the sensitivities; the search adds it to what it
 * predicts of the weights, and measures every candidate with the cache it is meant for. Where the
 * user has fixed the types, or asked for no memory, there is one choice.
 *
 * Offered are few: on the sample model, equal types of keys and values had less KL than mixed ones
 * of their size (docs/metrics.md), and backends of GPUs run some pairs slowly, or not at all.
 */
#include "run/run_int.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/banned.h"

static const struct {
    struct cache_types types;
    bool everywhere; /* GPU backends too have fast kernels for it, as they are usually built */
} offered[SEARCH_CACHES_MAX] = {
    {{CACHE_F16, CACHE_F16}, true},
    {{CACHE_Q8_0, CACHE_Q8_0}, true},
    {{CACHE_Q5_0, CACHE_Q5_0}, false},
    {{CACHE_Q4_0, CACHE_Q4_0}, true},
};

json_t *cache_json_new(struct cache_types t)
{
    json_t *o = json_object();
    json_object_set_new(o, "k", json_string(cache_type_name(t.k)));
    json_object_set_new(o, "v", json_string(cache_type_name(t.v)));
    return o;
}

bool cache_from_json(struct cache_types *t, const json_t *doc)
{
    return cache_type_find(json_opt_str(doc, "k", ""), &t->k) &&
           cache_type_find(json_opt_str(doc, "v", ""), &t->v);
}

static int add_choice(struct limits *l, const struct subject *m, struct cache_types t,
                      struct err *e)
{
    struct cache_choice *c = &l->caches[l->n_caches++];
    *c = (struct cache_choice){.types = t, .kld = cache_is_default(t) ? 0 : NAN};
    if (model_kv_bytes(m->desc, t, l->context, &c->kv_bytes))
        return 0;
    return err_set(e, ERR_INPUT, "give a smaller --context",
                   "the KV cache at %u tokens of context overflows", l->context);
}

int caches_init(struct limits *l, const struct settings *s, const struct subject *m, struct err *e)
{
    bool gpu = s->gpu_layers > 0 || (s->has_profile && s->profile.vram_gb > 0);
    l->n_caches = 0;
    if (s->cache_fixed)
        return model_check_cache(m->desc, s->cache, e) != 0 ? -1 : add_choice(l, m, s->cache, e);
    for (int i = 0; i < SEARCH_CACHES_MAX; i++) {
        struct cache_types t = offered[i].types;
        bool open = s->targets.memory_max > 0 && (offered[i].everywhere || !gpu) &&
                    model_check_cache(m->desc, t, NULL) == 0;
        if ((i == 0 || open) && add_choice(l, m, t, e) != 0)
            return -1;
    }
    return 0;
}

void caches_space(const struct run *r, struct search_space *s)
{
    const struct limits *l = &r->limits;
    for (int pass = 0; s->n_caches == 0 && pass < 2; pass++)
        for (int i = pass == 0 ? 0 : l->n_caches - 1; i < l->n_caches; i++) {
            const struct cache_choice *c = &l->caches[i];
            /* Where nothing fits, the smallest cache misses the target by the least. */
            if (pass == 0 && (!c->fits || !c->useful || isnan(c->kld)))
                continue;
            uint64_t limit = c->memory_bytes < l->size_bytes ? c->memory_bytes : l->size_bytes;
            s->caches[s->n_caches++] =
                (struct search_cache){c->types, limit, isnan(c->kld) ? 0 : c->kld};
        }
    *s = search_with_cache(s, 0);
}

/* ---- what history knows ---- */

static const char kind[] = "cache";

/* xfree. */
static char *fact_key(const char *prefix, struct cache_types t)
{
    char text[CACHE_TEXT_MAX];
    return xasprintf("%s/%s", prefix, cache_text(t, text));
}

bool caches_recall(const struct run *r, const char *prefix, struct cache_choice *c)
{
    char *key = fact_key(prefix, c->types);
    json_t *doc = store_fact_get(r->store, kind, key);
    if (doc)
        c->kld = json_opt_real(doc, "kld", NAN);
    json_decref(doc);
    xfree(key);
    return !isnan(c->kld);
}

void caches_remember(const struct run *r, const char *prefix, const struct cache_choice *c,
                     const struct score *s, double seconds)
{
    json_t *doc = json_object(), *ci = json_array();
    json_array_append_new(ci, json_real_new(s->kld_low));
    json_array_append_new(ci, json_real_new(s->kld_high));
    json_object_set_new(doc, "kld", json_real_new(c->kld));
    json_object_set_new(doc, "kld_ci95", ci);
    json_object_set_new(doc, "seconds", json_real_new(seconds));
    char *key = fact_key(prefix, c->types);
    store_fact_keep(r->store, kind, key, doc);
    xfree(key);
}

/* ---- for the document ---- */

static void set_bytes(json_t *o, const char *key, uint64_t bytes)
{
    if (bytes <= INT64_MAX)
        json_object_set_new(o, key, json_integer((json_int_t)bytes));
}

/* Predicted KL of the best candidate beside each choice; NaN where none fits. */
static void predict(const struct run *r, double *kld)
{
    struct search_space space;
    double found[SEARCH_CACHES_MAX];
    run_space(r, &space);
    for (int i = 0; i < r->limits.n_caches; i++)
        kld[i] = NAN;
    if (!space.table || search_best_cache(&space, &r->trials, found, NULL) < 0)
        return;
    for (int k = 0; k < space.n_caches; k++)
        for (int i = 0; i < r->limits.n_caches; i++)
            if (cache_same(space.caches[k].types, r->limits.caches[i].types))
                kld[i] = found[k];
}

static json_t *choice_new(const struct limits *l, const struct cache_choice *c, double kld)
{
    json_t *o = cache_json_new(c->types);
    set_bytes(o, "kv_bytes", c->kv_bytes);
    if (c->memory_bytes != UINT64_MAX)
        json_object_set_new(o, "fits", json_boolean(c->fits));
    if (c->memory_bytes != UINT64_MAX && c->fits)
        set_bytes(o, "bytes_max",
                  c->memory_bytes < l->size_bytes ? c->memory_bytes : l->size_bytes);
    json_object_set_new(o, "kld", json_real_new(c->kld));
    json_object_set_new(o, "kld_predicted", json_real_new(kld));
    return o;
}

json_t *caches_json_new(const struct run *r, const struct outcome *o)
{
    const struct limits *l = &r->limits;
    const struct trial *t = &r->trials.items[r->finals.items[o->best].trial];
    struct cache_types types = t->recipe.cache;
    char text[CACHE_TEXT_MAX];
    double predicted[SEARCH_CACHES_MAX];
    json_t *doc = cache_json_new(types), *list = json_array();
    const char *ollama = cache_ollama(types, text);
    json_object_set_new(doc, "ollama", ollama ? json_string(ollama) : json_null());
    json_object_set_new(doc, "flags", json_string(cache_flags(types, text)));
    json_object_set_new(doc, "fixed", json_boolean(r->set.cache_fixed));
    set_bytes(doc, "bytes_per_token", model_kv_bytes_per_token(r->subject.desc, types));
    json_object_set_new(doc, "context", json_integer((json_int_t)l->context));
    if (o->longest_context > 0) {
        json_object_set_new(doc, "longest_context", json_integer(o->longest_context));
        json_object_set_new(doc, "context_most", json_integer(o->context_most));
    }
    predict(r, predicted);
    for (int i = 0; i < l->n_caches; i++)
        if (l->caches[i].useful)
            json_array_append_new(list, choice_new(l, &l->caches[i], predicted[i]));
    json_object_set_new(doc, "choices", list);
    return doc;
}
