/* What a run would do, by arithmetic alone: sizes, limits, which mixes fit, what is impossible.
 *
 * Opens the model, reads no weights, writes nothing. Speeds are predictions from the measured or
 * the profile's memory bandwidth and say so.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/thread.h"
#include "base/banned.h"

static json_t *rate_new(double rate)
{
    return rate > 0 ? json_real_new(rate) : json_null();
}

static bool fits(const struct run *r, const struct search_stock *m)
{
    const struct limits *l = &r->limits;
    return m->bytes <= l->bytes_max && !(l->ms_max > 0 && m->ms > l->ms_max) &&
           !(l->first_max > 0 && m->first_ms > l->first_max);
}

/* The cache with which a file of so many bytes fits: the first, else the largest. */
static const struct cache_choice *cache_beside(const struct run *r, uint64_t bytes)
{
    const struct limits *l = &r->limits;
    for (int i = 0; i < l->n_caches; i++)
        if (l->caches[i].fits && bytes <= l->caches[i].memory_bytes)
            return &l->caches[i];
    return &l->caches[0];
}

/* With what its cache costs; null where a part is not known. Mixes are rounded to the nearest: what
 * is known of error feedback says nothing of them. */
static json_t *stock_kld_new(const struct run *r, const struct search_stock *m,
                             const struct cache_choice *cache)
{
    double cost = cache_is_default(cache->types) ? 0 : cache->kld;
    if (r->table_feedback[0] || isnan(m->kld) || isnan(cost))
        return json_null();
    double floor = search_floor(&r->table) * search_floor_share(&r->table, m->types);
    return json_real_new(m->kld + floor + cost);
}

static json_t *stock_row_new(const struct run *r, const struct search_stock *m)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(m->name));
    json_object_set_new(o, "bytes", json_integer((json_int_t)m->bytes));
    json_object_set_new(o, "bpw",
                        json_real_new((double)m->bytes * 8 / (double)r->subject.desc->parameters));
    const struct cache_choice *cache = cache_beside(r, m->bytes);
    json_object_set_new(o, "memory_bytes", json_integer((json_int_t)(m->bytes + cache->kv_bytes)));
    if (!cache_is_default(cache->types))
        json_object_set_new(o, "cache", cache_json_new(cache->types));
    json_object_set_new(o, "tps_predicted", rate_new(speed_tps(&r->speed, &r->subject, m->types)));
    json_object_set_new(o, "tps_prefill_predicted",
                        rate_new(speed_prefill_tps(&r->speed, &r->subject, m->types)));
    json_object_set_new(o, "first_token_ms_predicted",
                        rate_new(speed_first_ms(&r->speed, &r->subject, m->types)));
    if (r->have_table)
        json_object_set_new(o, "kld_predicted", stock_kld_new(r, m, cache));
    json_object_set_new(o, "fits", json_boolean(fits(r, m)));
    return o;
}

static int stock_rows(struct run *r, json_t *doc, struct err *e)
{
    struct search_space space;
    struct search_stock *list;
    size_t n;
    json_t *rows = json_array();
    run_space(r, &space);
    json_object_set_new(doc, "stock", rows);
    if (search_stocks(&space, &list, &n, e) != 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        json_array_append_new(rows, stock_row_new(r, &list[i]));
    search_stocks_free(list, n);
    return 0;
}

/* What of the types does not fit a row length, and what stands in: {"Q4_K":"Q5_0",...}. */
static json_t *stand_ins_new(const struct subject *m, uint64_t row)
{
    json_t *o = json_object();
    for (int k = 0; k < m->n_types; k++) {
        enum dtype stored = recipe_fallback(m->types[k], row);
        if (stored != m->types[k])
            json_object_set_new(o, dtype_name(m->types[k]), json_string(dtype_name(stored)));
    }
    return o;
}

/* Rows that blocks of some type do not divide, by their length. */
static json_t *fallbacks_new(const struct subject *m)
{
    json_t *list = json_array(), *found;
    for (size_t g = 0; g < m->groups.n; g++) {
        uint64_t row = m->desc->tensors[m->groups.items[g].tensors[0]].shape.ne[0];
        json_t *types = stand_ins_new(m, row), *entry = NULL;
        size_t i;
        json_array_foreach(list, i, found)
        {
            if (json_opt_i64(found, "row", 0) == (int64_t)row)
                entry = found;
        }
        if (!entry && json_object_size(types) > 0) {
            entry = json_object();
            json_object_set_new(entry, "row", json_integer((json_int_t)row));
            json_object_set_new(entry, "tensors", json_integer(0));
            json_object_set(entry, "types", types);
            json_array_append_new(list, entry);
        }
        if (entry)
            json_object_set_new(entry, "tensors",
                                json_integer(json_opt_i64(entry, "tensors", 0) + 1));
        json_decref(types);
    }
    return list;
}

static json_t *types_new(const struct subject *m)
{
    json_t *list = json_array();
    for (int k = 0; k < m->n_types; k++)
        json_array_append_new(list, json_string(dtype_name(m->types[k])));
    return list;
}

static json_t *text_new(const struct run *r)
{
    const struct scale *s = &r->subject.scale;
    json_t *o = json_object();
    json_object_set_new(o, "corpus", json_string(r->set.corpus));
    json_object_set_new(o, "n_ctx", json_integer((json_int_t)s->n_ctx));
    json_object_set_new(o, "calibration", json_integer((json_int_t)s->calibration));
    json_object_set_new(o, "search", json_integer((json_int_t)s->search));
    json_object_set_new(o, "final", json_integer((json_int_t)s->final));
    return o;
}

static json_t *seconds_new(const struct run *r, double *total)
{
    json_t *o = json_object();
    *total = 0;
    for (int i = 0; i < STAGES; i++) {
        *total += r->stages.expected[i];
        json_object_set_new(o, stage_name((enum stage)i),
                            json_real_new(round(r->stages.expected[i] * 10) / 10));
    }
    return o;
}

/* What the sensitivities of an earlier probing let expect. */
static int add_predictions(struct run *r, json_t *doc, struct err *e)
{
    json_t *about, *optimum = NULL, *frontier = NULL;
    if (sense_recall(r, &about, e) != 0)
        return -1;
    if (!about)
        return 0;
    json_object_set_new(doc, "sensitivities", about);
    if (sense_optimum(r, &optimum, e) != 0 || sense_frontier(r, &frontier, e) != 0) {
        json_decref(optimum);
        return -1;
    }
    json_object_set_new(doc, "limits", limits_json_new(&r->limits)); /* KL of caches is known now */
    json_object_set_new(doc, "optimum", optimum ? optimum : json_null());
    json_object_set_new(doc, "frontier", frontier);
    return 0;
}

int plan_document(struct run *r, json_t **plan, struct err *e)
{
    char sentence[ERR_MESSAGE_MAX], hint[ERR_HINT_MAX];
    double total;
    json_t *doc = json_object();
    bool infeasible =
        limits_infeasible(&r->limits, &r->set, &r->subject, &r->hw, sentence, hint) != 0;
    stages_expect(r);
    json_object_set_new(doc, "plan", json_integer(1));
    if (r->set.mock)
        json_object_set_new(doc, "mock", json_true());
    if (infeasible) {
        json_object_set_new(doc, "status", json_string("infeasible"));
        json_object_set_new(doc, "reason", json_string(sentence));
        json_object_set_new(doc, "hint", json_string(hint));
    }
    json_object_set_new(doc, "model", report_model_json_new(&r->subject));
    json_object_set_new(doc, "hardware", hw_json_new(&r->hw));
    if (r->set.has_profile)
        json_object_set_new(doc, "profile", json_string(r->set.profile.name));
    json_object_set_new(doc, "targets", targets_json_new(&r->set.targets));
    json_object_set_new(doc, "preset", json_string(r->set.preset));
    json_object_set_new(doc, "limits", limits_json_new(&r->limits));
    json_object_set_new(doc, "types", types_new(&r->subject));
    json_object_set_new(doc, "fallbacks", fallbacks_new(&r->subject));
    json_object_set_new(doc, "groups", json_integer((json_int_t)r->subject.groups.n));
    json_object_set_new(doc, "text", text_new(r));
    json_object_set_new(doc, "seconds_by_stage", seconds_new(r, &total));
    json_object_set_new(doc, "seconds_predicted", json_real_new(round(total)));
    if (add_predictions(r, doc, e) != 0 || stock_rows(r, doc, e) != 0) {
        json_decref(doc);
        return -1;
    }
    *plan = doc;
    return 0;
}
