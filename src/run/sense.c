/* Sensitivities without an optimization: measured alone, and recalled to look ahead.
 *
 * A sensitivity is a fact under the hash of all that it depends on, the text included, which only a
 * worker can name. So that a plan finds the facts of a model without starting one, the last probing
 * of a model's path leaves an entry that names that hash; size and path must still be the same.
 * What a plan makes of them is prediction: sums of single groups.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/banned.h"

enum { STEPS = 16 };
static const double bits_low = 2.2, bits_high = 8.4; /* of weights, between which steps lie */

char *sense_fact_key(const char *prefix, const struct probe_group *g)
{
    return xasprintf("%s/%s", prefix, g->name);
}

static char *index_key(const struct run *r)
{
    return xasprintf("%s|%llu", r->set.model_path, (unsigned long long)r->subject.source_bytes);
}

void sense_index(const struct run *r, const char *prefix)
{
    char *key = index_key(r);
    json_t *doc =
        json_pack("{s:s, s:s, s:s, s:s, s:I}", "prefix", prefix, "model_sha256", r->subject.sha256,
                  "feedback", r->have_factors ? r->factors.sha256 : "", "corpus",
                  subject_dataset(&r->set), "time_ms", (json_int_t)clock_unix_ms());
    store_fact_keep(r->store, "sensitivities_of", key, doc);
    xfree(key);
}

/* One group's KL into the table, types that were not measured then stay NaN. */
static bool recall_group(struct run *r, const char *prefix, size_t g)
{
    char *key = sense_fact_key(prefix, &r->subject.groups.items[g]);
    json_t *doc = store_fact_get(r->store, "sensitivity", key);
    struct sensitivity known, *s = &r->table.groups[g];
    bool good = doc && sensitivity_from_json(&known, &r->table, doc, NULL) == 0;
    if (good) {
        memcpy(known.bytes, s->bytes, sizeof(known.bytes));
        *s = known;
    }
    json_decref(doc);
    xfree(key);
    return good;
}

int sense_recall(struct run *r, json_t **about, struct err *e)
{
    struct subject *m = &r->subject;
    *about = NULL;
    if (!r->store || !r->set.model_path || r->set.mock)
        return 0;
    char *key = index_key(r);
    json_t *index = store_fact_get(r->store, "sensitivities_of", key);
    const char *prefix = json_opt_str(index, "prefix", NULL);
    xfree(key);
    if (!prefix) {
        json_decref(index);
        return 0;
    }
    if (probe_table_sizes(&r->table, m->desc, &m->groups, m->types, m->n_types, true, e) != 0) {
        json_decref(index);
        return -1;
    }
    bool all = true;
    for (size_t g = 0; all && g < m->groups.n; g++)
        all = recall_group(r, prefix, g);
    if (!all) {
        probe_table_release(&r->table);
        json_decref(index);
        return 0;
    }
    r->have_table = true;
    for (int i = 0; i < r->limits.n_caches; i++)
        if (isnan(r->limits.caches[i].kld))
            caches_recall(r, prefix, &r->limits.caches[i]);
    snprintf(r->table_feedback, sizeof(r->table_feedback), "%s",
             json_opt_str(index, "feedback", ""));
    *about = json_pack("{s:s, s:I}", "corpus", json_opt_str(index, "corpus", ""), "time_ms",
                       (json_int_t)json_opt_i64(index, "time_ms", 0));
    json_decref(index);
    return 0;
}

/* ---- looking ahead ---- */

json_t *sense_choice_json_new(const struct run *r, const enum dtype *types,
                              const struct cache_choice *cache)
{
    json_t *o = json_object();
    uint64_t bytes = r->subject.fixed_bytes + allocate_bytes(&r->table, types);
    double tps = speed_tps(&r->speed, &r->subject, types);
    json_object_set_new(o, "bytes", json_integer((json_int_t)bytes));
    json_object_set_new(o, "bpw",
                        json_real_new((double)bytes * 8 / (double)r->subject.desc->parameters));
    json_object_set_new(o, "memory_bytes", json_integer((json_int_t)(bytes + cache->kv_bytes)));
    json_object_set_new(
        o, "kld_predicted",
        json_real_new(allocate_kld(&r->table, types) +
                      search_floor(&r->table) * search_floor_share(&r->table, types) +
                      (isnan(cache->kld) ? 0 : cache->kld)));
    json_object_set_new(o, "tps_predicted", tps > 0 ? json_real_new(tps) : json_null());
    return o;
}

int sense_frontier(const struct run *r, json_t **rows, struct err *e)
{
    uint64_t limits[STEPS], elements = 0;
    struct allocation found[STEPS];
    for (size_t g = 0; g < r->subject.groups.n; g++)
        elements += r->subject.groups.items[g].elements;
    for (int i = 0; i < STEPS; i++)
        limits[i] = (uint64_t)((double)elements / 8 * bits_low *
                               pow(bits_high / bits_low, (double)i / (STEPS - 1)));
    if (allocate_frontier(&r->table, limits, STEPS, found, e) != 0)
        return -1;
    *rows = json_array();
    uint64_t last = 0;
    for (int i = 0; i < STEPS; i++) {
        if (found[i].types && found[i].bytes > last) {
            json_array_append_new(*rows,
                                  sense_choice_json_new(r, found[i].types, &r->limits.caches[0]));
            last = found[i].bytes;
        }
        xfree(found[i].types);
    }
    return 0;
}

static const struct cache_choice *choice_of(const struct run *r, struct cache_types types)
{
    for (int i = 0; i < r->limits.n_caches; i++)
        if (cache_same(r->limits.caches[i].types, types))
            return &r->limits.caches[i];
    return &r->limits.caches[0];
}

/* The space with the cache whose optimum is the best, of those whose KL is known. */
static int best_space(const struct run *r, struct search_space *space, struct err *e)
{
    double kld[SEARCH_CACHES_MAX];
    run_space(r, space);
    int best = search_best_cache(space, &r->trials, kld, e);
    if (best >= 0)
        *space = search_with_cache(space, best);
    return best < 0 ? -1 : 0;
}

/* The additive optimum within the limits, with its recipe; *row NULL when nothing keeps them. */
int sense_optimum(const struct run *r, json_t **row, struct err *e)
{
    struct search_space space;
    struct err inner = {0};
    struct recipe recipe;
    *row = NULL;
    if (best_space(r, &space, &inner) != 0) {
        if (inner.code == ERR_INFEASIBLE)
            return 0;
        *e = inner;
        return -1;
    }
    enum dtype *types = xcalloc(r->subject.groups.n + 1, sizeof(*types));
    uint64_t fixed = r->subject.fixed_bytes, limit = space.bytes_limit;
    limit = limit == UINT64_MAX ? limit : limit > fixed ? limit - fixed : 0;
    int rc = allocate_within(&r->table, &space.time, limit, types, &inner);
    if (rc == 0)
        rc = search_recipe(&recipe, r->subject.desc, &r->subject.groups, types, &inner);
    if (rc == 0) {
        *row = sense_choice_json_new(r, types, choice_of(r, space.cache));
        recipe.feedback = r->table_feedback[0] ? xstrdup(r->table_feedback) : NULL;
        recipe.cache = space.cache;
        json_object_set_new(*row, "recipe", recipe_json_new(&recipe));
        recipe_release(&recipe);
    }
    xfree(types);
    if (rc != 0 && inner.code != ERR_INFEASIBLE) {
        *e = inner;
        return -1;
    }
    return 0;
}

/* ---- measuring alone ---- */

static json_t *group_new(const struct run *r, size_t g)
{
    const struct probe_group *group = &r->subject.groups.items[g];
    json_t *o = sensitivity_json_new(&r->table.groups[g], &r->table);
    json_object_set_new(o, "name", json_string(group->name));
    json_object_set_new(o, "layer", json_integer(group->layer));
    json_object_set_new(o, "elements", json_integer((json_int_t)group->elements));
    return o;
}

json_t *sense_json_new(const struct run *r)
{
    json_t *o = json_object(), *groups = json_array();
    for (size_t g = 0; g < r->subject.groups.n; g++)
        json_array_append_new(groups, group_new(r, g));
    json_object_set_new(o, "model", report_model_json_new(&r->subject));
    json_object_set_new(o, "corpus", json_string(r->set.corpus));
    json_object_set_new(o, "corpus_sha256", json_string(r->corpus_sha256));
    json_object_set(o, "windows", r->windows);
    json_object_set_new(o, "probes", json_integer((json_int_t)r->subject.groups.n_sets));
    json_object_set_new(o, "probes_known",
                        json_integer((json_int_t)(r->subject.groups.n_sets - r->table.probed)));
    json_object_set_new(o, "windows_read", json_integer((json_int_t)r->table.windows_read));
    json_object_set_new(o, "windows_most",
                        json_integer((json_int_t)(r->table.probed * r->subject.scale.probe)));
    json_object_set_new(o, "groups", groups);
    json_object_set_new(o, "seconds", json_real_new(run_elapsed(r)));
    return o;
}
