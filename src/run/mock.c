/* A simulated world: the whole loop without files, weights or workers.
 *
 * Deterministic from the seed and the model's shapes. Every group has a hidden sensitivity; a
 * candidate's KL is their sum with a second-order term and a floor, windows scatter around it alike
 * for all candidates, agreement and perplexity follow from it, speed from the bytes. Probes report
 * the sensitivities with an error, so the search has something to correct. Nothing is written;
 * everything that leaves the run is labelled "mock".
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/rng.h"
#include "base/banned.h"

static const double mock_bandwidth_gbs = 20, mock_overhead_ms = 0.5;
static const double kld_floor = 5e-5;
enum { MOCK_COMPUTE_BYTES = 32 << 20 };

/* Bits that a type spends well: i-quants do more with theirs. */
static double effective_bits(enum dtype type)
{
    const struct dtype_info *d = dtype_info(type == DT_NONE ? DT_Q3_K : type);
    double bits = 8.0 * d->bytes / d->block;
    bool iq = strncmp(d->name, "IQ", 2) == 0;
    return bits + (iq ? 0.15 : 0);
}

struct mock {
    double *level; /* (n_groups) hidden KL at 4.5 bits */
};

static void seed_group(struct rng *rng, const struct run *r, const char *what, size_t group)
{
    char text[160], hex[65];
    snprintf(text, sizeof(text), "%llu %s %s %s", (unsigned long long)r->set.seed,
             r->subject.sha256, what, r->subject.groups.items[group].name);
    hash_sha256_text(text, strlen(text), hex);
    uint64_t seed = 0;
    for (int i = 0; i < 16; i++)
        seed = seed * 16 + (uint64_t)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    rng_seed(rng, seed);
}

static int mock_prepare(struct run *r, struct err *e)
{
    struct mock *m = xcalloc(1, sizeof(*m));
    uint64_t elements = 0;
    (void)e;
    r->world_data = m;
    m->level = xcalloc(r->subject.groups.n, sizeof(*m->level));
    for (size_t g = 0; g < r->subject.groups.n; g++)
        elements += r->subject.groups.items[g].elements;
    for (size_t g = 0; g < r->subject.groups.n; g++) {
        struct rng rng;
        seed_group(&rng, r, "level", g);
        double share = (double)r->subject.groups.items[g].elements / (double)elements;
        m->level[g] = 0.008 * share * exp(0.9 * rng_normal(&rng));
    }
    snprintf(r->corpus_sha256, sizeof(r->corpus_sha256), "%064d", 0);
    r->windows = json_object();
    json_object_set_new(r->windows, "mock", json_true());
    return 0;
}

static double half_cache_kld(enum cache_type t)
{
    return t == CACHE_F16 ? 0 : 1e-5 * pow(3.3, 8.5 - effective_bits(cache_type_dtype(t)));
}

static double cache_kld(struct cache_types t)
{
    return half_cache_kld(t.k) + half_cache_kld(t.v);
}

static int mock_probe(struct run *r, struct err *e)
{
    const struct mock *m = r->world_data;
    const struct subject *s = &r->subject;
    if (probe_table_sizes(&r->table, s->desc, &s->groups, s->types, s->n_types, true, e) != 0)
        return -1;
    r->have_table = true;
    for (size_t g = 0; g < s->groups.n; g++) {
        struct sensitivity *out = &r->table.groups[g];
        struct rng rng;
        seed_group(&rng, r, "probe", g);
        double seen = m->level[g] * exp(0.25 * rng_normal(&rng));
        for (int k = 0; k < s->n_types; k++) {
            out->kld[k] = seen * pow(4, 4.5 - effective_bits(s->types[k]));
            out->error[k] = out->kld[k];
        }
        out->probe_kld = seen;
        out->probe_type = DT_Q3_K;
    }
    for (int i = 0; i < r->limits.n_caches; i++)
        r->limits.caches[i].kld = cache_kld(r->limits.caches[i].types);
    return 0;
}

static int mock_bake(struct run *r, const struct recipe *recipe, const char *path, struct baked *b,
                     struct err *e)
{
    char key[65];
    (void)path;
    *b = (struct baked){.seconds = 0.001};
    trial_key(recipe, key);
    memcpy(b->sha256, key, sizeof(key)); /* of the recipe: there is no file */
    return subject_file_bytes(&r->subject, recipe, NULL, subject_dataset(&r->set), &b->bytes, e);
}

static double hidden_kld(const struct run *r, const struct trial *t)
{
    const struct mock *m = r->world_data;
    double sum = 0;
    for (size_t g = 0; t->group_types && g < r->subject.groups.n; g++)
        sum += m->level[g] * pow(4, 4.5 - effective_bits(t->group_types[g]));
    return sum * (1 + sum) + kld_floor + cache_kld(t->recipe.cache);
}

static int mock_quality(struct run *r, const struct trial *t, const char *path, enum run_set set,
                        struct score *s, struct err *e)
{
    struct rng rng;
    double kld = hidden_kld(r, t), sum = 0;
    size_t windows = set == SET_SEARCH  ? r->subject.scale.search_read
                     : set == SET_FINAL ? r->subject.scale.final
                                        : r->subject.scale.front;
    size_t per = r->subject.scale.n_ctx / 2 - 1;
    (void)path;
    (void)e;
    rng_seed(&rng, r->set.seed * 2 + (set != SET_SEARCH));
    *s = (struct score){.windows = windows, .n_ctx = r->subject.scale.n_ctx, .has_kld = true};
    s->positions = windows * per;
    s->kld = xcalloc(s->positions, sizeof(*s->kld));
    for (size_t i = 0; i < s->positions; i++) {
        s->kld[i] = kld * exp(0.3 * rng_normal(&rng) - 0.045);
        sum += s->kld[i];
    }
    s->kld_mean = sum / (double)s->positions;
    double half = 2 * 0.3 * s->kld_mean / sqrt((double)s->positions);
    s->kld_low = s->kld_mean - half;
    s->kld_high = s->kld_mean + half;
    s->kld_median = 0.6 * s->kld_mean;
    s->kld_p90 = 2 * s->kld_mean;
    s->kld_p95 = 3 * s->kld_mean;
    s->kld_p99 = 8 * s->kld_mean;
    s->kld_p999 = 20 * s->kld_mean;
    s->kld_max = 40 * s->kld_mean;
    s->top1 = fmax(0.01, 1 - 0.7 * sqrt(s->kld_mean));
    s->top1_low = s->top1 - 0.005;
    s->top1_high = fmin(1, s->top1 + 0.005);
    s->ppl_base = 10;
    s->ppl = s->ppl_base * exp(s->kld_mean);
    s->ppl_low = s->ppl * 0.99;
    s->ppl_high = s->ppl * 1.01;
    memcpy(s->corpus_sha256, r->corpus_sha256, sizeof(s->corpus_sha256));
    return 0;
}

static int mock_speed(struct run *r, const struct trial *t, const char *path, struct score *s,
                      struct err *e)
{
    double read = (double)bytes_per_token(&r->subject, t->bytes);
    double ms = mock_overhead_ms + read / (mock_bandwidth_gbs * 1e6);
    (void)path;
    (void)e;
    if (r->set.has_profile && r->set.profile.remote) {
        struct hw_prediction p =
            hw_predict(&r->set.profile, (uint64_t)read, 0, r->subject.desc->parameters);
        s->tps_decode =
            t->group_types ? speed_tps(&r->speed, &r->subject, t->group_types) : p.tps_decode;
        s->tps_prefill = p.tps_prefill;
    } else {
        s->tps_decode = 1e3 / ms;
        s->tps_prefill = MOCK_PREFILL_FACTOR * s->tps_decode;
    }
    s->first_token_ms = s->tps_prefill > 0 ? PROMPT_TOKENS * 1e3 / s->tps_prefill : 0;
    s->load_ms = 1;
    s->memory_context = r->limits.context;
    s->weights_bytes = t->bytes;
    if (!model_kv_bytes(r->subject.desc, t->recipe.cache, r->limits.context, &s->kv_bytes))
        return err_set(e, ERR_INPUT, NULL, "the KV cache overflows");
    s->compute_bytes = MOCK_COMPUTE_BYTES;
    s->memory_bytes = s->weights_bytes + s->kv_bytes + s->compute_bytes;
    s->rss_peak_bytes = s->memory_bytes;
    s->threads = r->set.threads > 0 ? r->set.threads : 1;
    return 0;
}

static int mock_longest(struct run *r, const struct trial *t, const char *path, uint64_t memory_max,
                        uint32_t most, uint32_t *context, struct err *e)
{
    uint64_t per = model_kv_bytes_per_token(r->subject.desc, t->recipe.cache);
    uint64_t taken = t->bytes + MOCK_COMPUTE_BYTES;
    (void)path;
    (void)e;
    *context = 0;
    if (memory_max > taken && per > 0)
        *context =
            (memory_max - taken) / per < most ? (uint32_t)((memory_max - taken) / per) : most;
    return 0;
}

static int mock_generate(struct run *r, const struct trial *t, const char *path, char **text,
                         struct err *e)
{
    (void)r;
    (void)t;
    (void)path;
    (void)e;
    *text = xstrdup("(simulated)");
    return 0;
}

static void mock_close(struct run *r)
{
    struct mock *m = r->world_data;
    if (m)
        xfree(m->level);
    xfree(m);
    r->world_data = NULL;
}

const struct world world_mock = {
    .name = "mock",
    .prepare = mock_prepare,
    .probe = mock_probe,
    .bake = mock_bake,
    .quality = mock_quality,
    .speed = mock_speed,
    .generate = mock_generate,
    .longest = mock_longest,
    .close = mock_close,
};
