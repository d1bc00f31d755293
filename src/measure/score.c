/* The score of a candidate: a value, its JSON, and how it comes out of single positions.
 *
 * Owns the per-position divergences, kept so that two candidates scored on the same windows can be
 * compared pairwise. Intervals treat each window as one cluster, because tokens of one window share
 * their context. Perplexity's interval is that of the mean negative log-likelihood, mapped by exp.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/stat.h"
#include "measure/score_int.h"
#include "base/banned.h"

void score_release(struct score *s)
{
    xfree(s->kld);
    s->kld = NULL;
}

/* ---- from positions -------------------------------------------------------------------------- */

static void fill_divergence(struct score *s, const struct engine_position *positions,
                            size_t per_window)
{
    static const double q[] = {0.5, 0.9, 0.95, 0.99, 0.999, 1};
    double values[6];
    size_t n = s->positions;
    double *top = xmalloc(n * sizeof(*top));
    s->kld = xmalloc(n * sizeof(*s->kld));
    for (size_t i = 0; i < n; i++) {
        s->kld[i] = (double)positions[i].kld;
        top[i] = positions[i].top1 ? 1 : 0;
    }
    struct stat_mean kld = stat_mean_clustered(s->kld, n, per_window);
    struct stat_mean agree = stat_mean_clustered(top, n, per_window);
    stat_quantiles(s->kld, n, q, values, 6);
    s->has_kld = true;
    s->kld_mean = kld.mean;
    s->kld_low = kld.low;
    s->kld_high = kld.high;
    s->kld_median = values[0];
    s->kld_p90 = values[1];
    s->kld_p95 = values[2];
    s->kld_p99 = values[3];
    s->kld_p999 = values[4];
    s->kld_max = values[5];
    s->top1 = agree.mean;
    s->top1_low = agree.low < 0 ? 0 : agree.low;
    s->top1_high = agree.high > 1 ? 1 : agree.high;
    xfree(top);
}

void score_fill(struct score *s, const struct engine_windows *w,
                const struct engine_position *positions, bool has_reference, double ppl_base)
{
    size_t n = engine_windows_positions(w), per_window = n / w->n_windows;
    *s = (struct score){.positions = n, .windows = w->n_windows, .n_ctx = w->n_ctx};
    double *nll = xmalloc(n * sizeof(*nll));
    for (size_t i = 0; i < n; i++)
        nll[i] = (double)positions[i].nll;
    struct stat_mean m = stat_mean_clustered(nll, n, per_window);
    s->ppl = exp(m.mean);
    s->ppl_low = exp(m.low);
    s->ppl_high = exp(m.high);
    s->ppl_base = ppl_base;
    xfree(nll);
    if (has_reference)
        fill_divergence(s, positions, per_window);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

enum field_kind { FIELD_REAL, FIELD_U64, FIELD_INT };

/* Plain fields. `always` ones are written even when 0; the others say "not measured" by being
 * absent. */
static const struct {
    const char *key;
    size_t offset;
    enum field_kind kind;
    enum { ALWAYS, WITH_KLD, IF_SET } when;
} fields[] = {
#define AT(field) offsetof(struct score, field)
    {"kld_mean", AT(kld_mean), FIELD_REAL, WITH_KLD},
    {"kld_median", AT(kld_median), FIELD_REAL, WITH_KLD},
    {"kld_p90", AT(kld_p90), FIELD_REAL, WITH_KLD},
    {"kld_p95", AT(kld_p95), FIELD_REAL, WITH_KLD},
    {"kld_p99", AT(kld_p99), FIELD_REAL, WITH_KLD},
    {"kld_p999", AT(kld_p999), FIELD_REAL, WITH_KLD},
    {"kld_max", AT(kld_max), FIELD_REAL, WITH_KLD},
    {"top1", AT(top1), FIELD_REAL, WITH_KLD},
    {"ppl", AT(ppl), FIELD_REAL, IF_SET},
    {"ppl_base", AT(ppl_base), FIELD_REAL, IF_SET},
    {"tps_decode", AT(tps_decode), FIELD_REAL, IF_SET},
    {"tps_prefill", AT(tps_prefill), FIELD_REAL, IF_SET},
    {"first_token_ms", AT(first_token_ms), FIELD_REAL, IF_SET},
    {"load_ms", AT(load_ms), FIELD_REAL, IF_SET},
    {"rss_peak_bytes", AT(rss_peak_bytes), FIELD_U64, IF_SET},
    {"memory_bytes", AT(memory_bytes), FIELD_U64, IF_SET},
    {"weights_bytes", AT(weights_bytes), FIELD_U64, IF_SET},
    {"kv_bytes", AT(kv_bytes), FIELD_U64, IF_SET},
    {"compute_bytes", AT(compute_bytes), FIELD_U64, IF_SET},
    {"threads", AT(threads), FIELD_INT, IF_SET},
#undef AT
};

static const struct {
    const char *key;
    size_t low, high;
    bool with_kld;
} intervals[] = {
    {"kld_mean_ci95", offsetof(struct score, kld_low), offsetof(struct score, kld_high), true},
    {"top1_ci95", offsetof(struct score, top1_low), offsetof(struct score, top1_high), true},
    {"ppl_ci95", offsetof(struct score, ppl_low), offsetof(struct score, ppl_high), false},
};

enum {
    FIELDS = sizeof(fields) / sizeof(fields[0]),
    INTERVALS = sizeof(intervals) / sizeof(intervals[0])
};

static double get_real(const struct score *s, size_t offset)
{
    double v;
    memcpy(&v, (const char *)s + offset, sizeof(v));
    return v;
}

static void put_field(json_t *doc, const struct score *s, size_t i)
{
    const char *at = (const char *)s + fields[i].offset;
    uint64_t u;
    int n;
    double r;
    switch (fields[i].kind) {
    case FIELD_REAL:
        memcpy(&r, at, sizeof(r));
        if (fields[i].when != IF_SET || r != 0)
            json_object_set_new(doc, fields[i].key, json_real_new(r));
        break;
    case FIELD_U64:
        memcpy(&u, at, sizeof(u));
        if (u != 0)
            json_object_set_new(doc, fields[i].key, json_integer((json_int_t)u));
        break;
    case FIELD_INT:
        memcpy(&n, at, sizeof(n));
        if (n != 0)
            json_object_set_new(doc, fields[i].key, json_integer(n));
        break;
    }
}

json_t *score_json_new(const struct score *s)
{
    json_t *doc = json_object();
    for (size_t i = 0; i < FIELDS; i++)
        if (fields[i].when != WITH_KLD || s->has_kld)
            put_field(doc, s, i);
    for (size_t i = 0; i < INTERVALS; i++) {
        bool wanted = intervals[i].with_kld ? s->has_kld : s->ppl != 0;
        if (wanted)
            json_object_set_new(doc, intervals[i].key,
                                json_pack("[o, o]", json_real_new(get_real(s, intervals[i].low)),
                                          json_real_new(get_real(s, intervals[i].high))));
    }
    if (s->threads)
        json_object_set_new(doc, "gpu_layers", json_integer(s->gpu_layers));
    if (s->memory_context)
        json_object_set_new(doc, "memory_context", json_integer(s->memory_context));
    if (s->positions) {
        json_object_set_new(doc, "tokens", json_integer((json_int_t)s->positions));
        json_object_set_new(doc, "windows", json_integer((json_int_t)s->windows));
        json_object_set_new(doc, "n_ctx", json_integer(s->n_ctx));
    }
    if (s->corpus_sha256[0])
        json_object_set_new(doc, "corpus_sha256", json_string(s->corpus_sha256));
    return doc;
}

/* A number of the document, or `absent` when the key is not there or null. */
static int read_real(const json_t *doc, const char *key, double absent, double *out, struct err *e)
{
    const json_t *v = json_object_get(doc, key);
    *out = absent;
    if (!v || json_is_null(v))
        return 0;
    return json_need_real(doc, key, "score", out, e);
}

static int read_count(const json_t *doc, const char *key, uint64_t max, uint64_t *out,
                      struct err *e)
{
    int64_t n = 0;
    *out = 0;
    if (!json_object_get(doc, key))
        return 0;
    if (json_need_i64(doc, key, "score", &n, e))
        return -1;
    if (n < 0 || (uint64_t)n > max)
        return err_set(e, ERR_INPUT, NULL, "score: \"%s\" is %lld, expected 0 to %llu", key,
                       (long long)n, (unsigned long long)max);
    *out = (uint64_t)n;
    return 0;
}

static int read_field(struct score *s, const json_t *doc, size_t i, struct err *e)
{
    char *at = (char *)s + fields[i].offset;
    double r;
    uint64_t u;
    if (fields[i].kind == FIELD_REAL) {
        double absent = fields[i].when == WITH_KLD && s->has_kld ? (double)NAN : 0;
        if (read_real(doc, fields[i].key, absent, &r, e))
            return -1;
        memcpy(at, &r, sizeof(r));
        return 0;
    }
    if (read_count(doc, fields[i].key, fields[i].kind == FIELD_INT ? INT32_MAX : INT64_MAX, &u, e))
        return -1;
    int n = fields[i].kind == FIELD_INT ? (int)u : 0;
    if (fields[i].kind == FIELD_INT)
        memcpy(at, &n, sizeof(n));
    else
        memcpy(at, &u, sizeof(u));
    return 0;
}

/* [low, high], null for an end that is not known. */
static int read_interval(struct score *s, const json_t *doc, size_t i, struct err *e)
{
    const json_t *pair = json_object_get(doc, intervals[i].key);
    if (!pair)
        return 0;
    if (!json_is_array(pair) || json_array_size(pair) != 2)
        return err_set(e, ERR_INPUT, NULL, "score: \"%s\" is not a pair of numbers",
                       intervals[i].key);
    for (size_t k = 0; k < 2; k++) {
        const json_t *v = json_array_get(pair, k);
        double r = json_is_number(v) ? json_number_value(v) : (double)NAN;
        memcpy((char *)s + (k == 0 ? intervals[i].low : intervals[i].high), &r, sizeof(r));
    }
    return 0;
}

int score_from_json(struct score *s, const json_t *doc, struct err *e)
{
    uint64_t positions, windows, n_ctx, context;
    *s = (struct score){0};
    if (!json_is_object(doc))
        return err_set(e, ERR_INPUT, NULL, "a score is a JSON object");
    s->has_kld = json_object_get(doc, "kld_mean") != NULL;
    for (size_t i = 0; i < FIELDS; i++)
        if (read_field(s, doc, i, e))
            return -1;
    for (size_t i = 0; i < INTERVALS; i++)
        if (read_interval(s, doc, i, e))
            return -1;
    if (read_count(doc, "tokens", INT64_MAX, &positions, e) ||
        read_count(doc, "windows", INT64_MAX, &windows, e) ||
        read_count(doc, "n_ctx", UINT32_MAX, &n_ctx, e) ||
        read_count(doc, "memory_context", UINT32_MAX, &context, e))
        return -1;
    s->positions = (size_t)positions;
    s->windows = (size_t)windows;
    s->n_ctx = (uint32_t)n_ctx;
    s->memory_context = (uint32_t)context;
    s->gpu_layers = (int)json_opt_i64(doc, "gpu_layers", 0);
    const char *sha = json_opt_str(doc, "corpus_sha256", "");
    if (strlen(sha) < sizeof(s->corpus_sha256))
        memcpy(s->corpus_sha256, sha, strlen(sha) + 1);
    return 0;
}
