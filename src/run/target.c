/* Targets → limits on bytes and time of a candidate, and what arithmetic alone proves infeasible.
 *
 * Size and bits per weight are exact bytes of the finished file from the start. Memory leaves what
 * the KV cache and the compute buffers do not take; the buffers are guessed until one candidate's
 * were measured. Tokens per second leave milliseconds for reading the weights, by the table of
 * speed.c; what was measured here corrects it by a line, measured ms per token over those of the
 * table, whose slope is held near one, so that two noisy points cannot turn it over. The time to
 * the first token is limited in the same way, by the rates at which matrices meet a prompt. For
 * another machine its profile's figures stand as they are, and that time is only checked.
 *
 * A proof must be a bound: bytes that one token reads at least, at the bandwidth that the memory
 * has at most. Weights that may live in the caches prove nothing, and of experts only what every
 * token reads.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/banned.h"

enum { COMPUTE_BATCH = 512, CACHE_FACTOR = 4 };
static const double fit_spread = 0.1; /* the prior slope weighs as points this far apart */
static const double speed_margin = 0.98;
static const double no_time_ms = 1e-9; /* a limit that nothing keeps */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- what a token reads ---- */

static bool looked_up(const struct subject *m, const struct probe_group *g)
{
    return g->role == ROLE_TOKEN_EMBD && !m->desc->tied;
}

static bool of_experts(const struct subject *m, const struct probe_group *g)
{
    return m->desc->n_expert > 1 && m->desc->tensors[g->tensors[0]].shape.n_dims > 2;
}

uint64_t bytes_per_token(const struct subject *m, uint64_t file_bytes)
{
    uint64_t all = 0, skipped = 0;
    for (size_t g = 0; g < m->groups.n; g++) {
        all += m->groups.items[g].elements;
        if (looked_up(m, &m->groups.items[g]))
            skipped += m->groups.items[g].elements;
    }
    double weights = file_bytes > m->fixed_bytes ? (double)(file_bytes - m->fixed_bytes) : 0;
    return all > 0 ? (uint64_t)(weights * (double)(all - skipped) / (double)all) : 0;
}

/* Least bytes that each token must read, whatever the recipe. */
static uint64_t least_read(const struct subject *m)
{
    uint64_t sum = 0;
    for (size_t g = 0; g < m->groups.n; g++) {
        uint64_t least = 0;
        if (looked_up(m, &m->groups.items[g]) || of_experts(m, &m->groups.items[g]))
            continue;
        for (int k = 0; k < m->sizes.n_types; k++) {
            uint64_t b = m->sizes.groups[g].bytes[k];
            if (b > 0 && (least == 0 || b < least))
                least = b;
        }
        sum += least;
    }
    return sum;
}

/* ---- limits ---- */

/* Activations of a batch, its mask over the context (in f32 and f16), one row of logits. */
static uint64_t compute_guess(const struct model_desc *d, uint32_t context)
{
    uint64_t per_token = (2ull * d->n_embd + 2ull * d->n_ff) * sizeof(float) + 6ull * context;
    return COMPUTE_BATCH * per_token + d->n_vocab * sizeof(float);
}

/* Buffers hardly depend on the types of the cache: one that was measured tells of the others. */
static uint64_t compute_of(const struct limits *l, const struct cache_choice *c,
                           const struct subject *m)
{
    uint64_t bytes = c->compute_bytes;
    for (int i = 0; bytes == 0 && i < l->n_caches; i++)
        bytes = l->caches[i].compute_bytes;
    return bytes > 0 ? bytes : compute_guess(m->desc, l->context);
}

static void limit_cache(const struct limits *l, struct cache_choice *c, uint64_t memory_max,
                        const struct subject *m)
{
    uint64_t taken = c->kv_bytes + compute_of(l, c, m);
    c->memory_bytes = UINT64_MAX;
    c->fits = true;
    if (memory_max == 0)
        return;
    c->memory_bytes = memory_max > taken ? memory_max - taken : 0;
    c->fits = c->memory_bytes >= allocate_smallest(&m->sizes);
    /* libllama counts tensors, not the header; the file may be larger by that. */
    uint64_t least = m->fixed_bytes + allocate_smallest(&m->sizes);
    if (c->memory_bytes < least)
        c->memory_bytes = least;
}

static void limit_memory(struct limits *l, const struct settings *s, const struct subject *m)
{
    uint64_t most = min_u64(l->size_bytes, m->fixed_bytes + allocate_largest(&m->sizes));
    l->memory_bytes = 0;
    for (int i = 0; i < l->n_caches; i++) {
        struct cache_choice *c = &l->caches[i];
        limit_cache(l, c, s->targets.memory_max, m);
        c->useful = i == 0 || min_u64(c->memory_bytes, most) > min_u64(l->memory_bytes, most);
        if (c->memory_bytes > l->memory_bytes)
            l->memory_bytes = c->memory_bytes;
    }
    l->bytes_max = min_u64(l->size_bytes, l->memory_bytes);
}

/* Bytes of a file whose weights are all of the type that is read fastest. */
static uint64_t fastest_bytes(const struct subject *m, const struct speed *speed, double ms)
{
    double least = 0, bytes = 0;
    for (size_t g = 0; g < m->groups.n; g++) {
        double best = INFINITY, size = 0;
        for (int k = 0; k < m->sizes.n_types; k++) {
            double b = (double)m->sizes.groups[g].bytes[k];
            double t = speed->ms[g * SEARCH_TYPES + (unsigned)m->sizes.types[k]];
            if (b > 0 && t > 0 && t / b < best) {
                best = t / b;
                size = b;
            }
        }
        least += size > 0 ? best * size : 0;
        bytes += size;
    }
    double file = (double)m->fixed_bytes + (least > 0 ? bytes * ms / least : bytes);
    return file < 9e18 ? (uint64_t)file : UINT64_MAX;
}

/* offset and slope: of measured milliseconds per token over those of the table. */
static void limit_speed(struct limits *l, const struct settings *s, const struct subject *m,
                        const struct speed *speed, double offset, double slope, double margin)
{
    if (!(s->targets.tps_min > 0) || !speed->ms)
        return;
    l->ms_max = fmax((margin * 1e3 / s->targets.tps_min - offset) / slope, no_time_ms);
    if (l->ms_max < speed->least_ms)
        l->ms_max = no_time_ms;
    l->speed_bytes = fastest_bytes(m, speed, l->ms_max);
}

/* The same of the time to the first token. */
static void limit_first(struct limits *l, const struct settings *s, const struct speed *speed,
                        double offset, double slope, double margin)
{
    if (s->targets.latency_ms_max > 0 && speed->first_ms)
        l->first_max = fmax((margin * s->targets.latency_ms_max - offset) / slope, no_time_ms);
}

static bool remote(const struct settings *s)
{
    return s->has_profile && s->profile.remote;
}

/* The size of a mix is the limit of some presets. */
static int limit_preset(struct limits *l, const struct settings *s, const struct subject *m,
                        struct err *e)
{
    const struct preset *p = preset_find(s->preset);
    struct recipe r;
    uint64_t bytes;
    if (!p || !p->size_of || targets_any(&s->asked))
        return 0;
    recipe_init(&r, p->size_of);
    int rc = subject_file_bytes(m, &r, NULL, subject_dataset(s), &bytes, e);
    recipe_release(&r);
    if (rc == 0)
        l->size_bytes = bytes;
    return rc;
}

int limits_init(struct limits *l, const struct settings *s, const struct subject *m,
                const struct hw *hw, const struct speed *speed, struct err *e)
{
    const struct targets *t = &s->targets;
    *l = (struct limits){.bytes_max = UINT64_MAX,
                         .size_bytes = UINT64_MAX,
                         .memory_bytes = UINT64_MAX,
                         .speed_bytes = UINT64_MAX,
                         .context = t->context};
    l->smallest_bytes = m->fixed_bytes + allocate_smallest(&m->sizes);
    if (caches_init(l, s, m, e) != 0 || limit_preset(l, s, m, e) != 0)
        return -1;
    if (t->size_max > 0)
        l->size_bytes = min_u64(l->size_bytes, t->size_max);
    if (t->bpw_max > 0)
        l->size_bytes =
            min_u64(l->size_bytes, (uint64_t)(t->bpw_max * (double)m->desc->parameters / 8));
    l->bandwidth_gbs = remote(s) ? s->profile.bandwidth_gbs : hw->bandwidth_gbs;
    l->speed_predicted = remote(s);
    limit_memory(l, s, m);
    limit_speed(l, s, m, speed, speed->factor * speed->overhead_ms, speed->factor,
                remote(s) ? 1 : speed_margin);
    limit_first(l, s, speed, speed->first_factor * speed->first_overhead_ms, speed->first_factor,
                speed_margin);
    return 0;
}

/* ---- proofs ---- */

static int prove_size(const struct limits *l, const struct settings *s, const struct subject *m,
                      char *sentence)
{
    char want[NUM_TEXT_MAX], least[NUM_TEXT_MAX], rest[NUM_TEXT_MAX];
    if (l->size_bytes == UINT64_MAX || l->smallest_bytes <= l->size_bytes)
        return 0;
    double parameters = (double)m->desc->parameters;
    bool by_size = s->targets.size_max > 0 && s->targets.size_max == l->size_bytes;
    num_format_size(l->size_bytes, want);
    num_format_size(l->smallest_bytes, least);
    if (strcmp(want, least) == 0) { /* rounded, a near miss would look like no miss */
        snprintf(want, sizeof(want), "%llu bytes", (unsigned long long)l->size_bytes);
        snprintf(least, sizeof(least), "%llu bytes", (unsigned long long)l->smallest_bytes);
    }
    char asked[64];
    if (by_size)
        snprintf(asked, sizeof(asked), "%s", want);
    else
        snprintf(asked, sizeof(asked), "%.3g bits per weight (%s)",
                 (double)l->size_bytes * 8 / parameters, want);
    snprintf(sentence, ERR_MESSAGE_MAX,
             "the target of %s is below the smallest file this model can have with all its blocks: "
             "%s, %.2f bits per weight, with every matrix at its smallest type and %s of header, "
             "tokenizer and norms",
             asked, least, (double)l->smallest_bytes * 8 / parameters,
             num_format_size(m->fixed_bytes, rest));
    return 1;
}

static int prove_memory(const struct limits *l, const struct settings *s, const struct subject *m,
                        char *sentence)
{
    char want[NUM_TEXT_MAX], weights[NUM_TEXT_MAX], kv[NUM_TEXT_MAX];
    const struct cache_choice *c = &l->caches[l->n_caches - 1]; /* the smallest */
    uint64_t least = allocate_smallest(&m->sizes) + c->kv_bytes;
    char types[CACHE_TEXT_MAX];
    if (s->targets.memory_max == 0 || least <= s->targets.memory_max)
        return 0;
    snprintf(sentence, ERR_MESSAGE_MAX,
             "%s of memory cannot hold the smallest candidate: %s of weights and %s of KV cache "
             "(%s) at %u tokens of context",
             num_format_size(s->targets.memory_max, want),
             num_format_size(allocate_smallest(&m->sizes), weights),
             num_format_size(c->kv_bytes, kv), cache_text(c->types, types), l->context);
    return 2;
}

static int prove_speed(const struct limits *l, const struct settings *s, const struct subject *m,
                       const struct hw *hw, char *sentence)
{
    char most[NUM_TEXT_MAX], least[NUM_TEXT_MAX];
    uint64_t read = least_read(m);
    double tps = s->targets.tps_min, gbs = l->bandwidth_gbs;
    if (!(tps > 0) || !(gbs > 0))
        return 0;
    uint64_t cached = remote(s) ? 0 : CACHE_FACTOR * (hw->l2_bytes + hw->l3_bytes);
    double need = (double)read * tps / 1e9;
    if (read <= cached || need <= gbs)
        return 0;
    snprintf(
        sentence, ERR_MESSAGE_MAX,
        "%.3g tokens/s needs at most %s of weights at %.3g GB/s %s; the smallest candidate reads "
        "%s per token",
        tps, num_format_size((uint64_t)(gbs * 1e9 / tps), most), gbs,
        remote(s) ? "of memory bandwidth in the profile" : "measured",
        num_format_size(read, least));
    return 3;
}

/* What only `quantize --drop-layers` reaches: a file that lacks as many blocks as a search would
 * leave out, the largest. A search does not go there: from types that are the smallest already, it
 * has nothing to choose. Rounded up to what the whole file has beside its groups. */
static void hint_blocks(const struct limits *l, const struct subject *m, size_t at,
                        char hint[static ERR_HINT_MAX])
{
    char size[NUM_TEXT_MAX];
    uint64_t least = blocks_least(m);
    if (least <= l->size_bytes && !probe_drop_obstacle(m->desc))
        snprintf(hint + at, ERR_HINT_MAX - at,
                 "; 'sintra quantize --drop-layers' with a quarter of the blocks reaches %s",
                 num_format_size(least, size));
}

int limits_infeasible(const struct limits *l, const struct settings *s, const struct subject *m,
                      const struct hw *hw, char sentence[static ERR_MESSAGE_MAX],
                      char hint[static ERR_HINT_MAX])
{
    static const char *const hints[] = {
        "", "raise the target, or start from a smaller model",
        "raise the target, lower --context, or start from a smaller model",
        "lower the target, or start from a smaller model"};
    int which = prove_size(l, s, m, sentence);
    if (which == 0)
        which = prove_memory(l, s, m, sentence);
    if (which == 0)
        which = prove_speed(l, s, m, hw, sentence);
    bool narrowed = m->stock_names != NULL;
    int at =
        snprintf(hint, ERR_HINT_MAX, "%s%s", hints[which],
                 which > 0 && narrowed ? "; the profile or preset also narrows the types" : "");
    if (which == 1)
        hint_blocks(l, m, (size_t)at, hint);
    return which > 0;
}

/* ---- learning ---- */

/* Measured ms as a line over those of the table, per token or to the first one. */
struct line {
    double at_zero, slope;
    int points;
};

static struct line fit_speed(const struct subject *m, const struct speed *speed,
                             const struct trials *t, bool first)
{
    double factor = first ? speed->first_factor : speed->factor;
    double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (size_t i = 0; i < t->n; i++) {
        const struct trial *c = &t->items[i];
        double x = !c->group_types ? NAN
                   : first         ? speed_first_read_ms(speed, m, c->group_types)
                                   : speed_read_ms(speed, m, c->group_types);
        double seen = first ? c->score.first_token_ms : c->score.tps_decode;
        if (c->failed || !(seen > 0) || isnan(x))
            continue;
        double y = first ? seen : 1e3 / seen;
        n += 1;
        sx += x;
        sy += y;
        sxx += x * x;
        sxy += x * y;
    }
    if (!(n > 0))
        return (struct line){0};
    double mx = sx / n, my = sy / n, held = fit_spread * mx * fit_spread * mx;
    double slope = (sxy - n * mx * my + held * factor) / (sxx - n * mx * mx + held);
    slope = fmax(slope, factor / 10);
    return (struct line){my - slope * mx, slope, (int)n};
}

static void learn_speed(struct limits *l, const struct settings *s, const struct subject *m,
                        const struct speed *speed, const struct trials *t)
{
    struct line f = fit_speed(m, speed, t, false), first = fit_speed(m, speed, t, true);
    if (f.points > 0)
        limit_speed(l, s, m, speed, f.at_zero, f.slope, speed_margin);
    if (first.points > 0)
        limit_first(l, s, speed, first.at_zero, first.slope, speed_margin);
}

/* libllama's own account of a candidate's cache and buffers. */
static void learn_memory(struct limits *l, const struct trial *t)
{
    uint64_t known = t->score.weights_bytes + t->score.kv_bytes;
    for (int i = 0; i < l->n_caches; i++) {
        struct cache_choice *c = &l->caches[i];
        if (t->failed || t->score.memory_bytes <= known || !cache_same(c->types, t->recipe.cache))
            continue;
        c->compute_bytes = t->score.memory_bytes - known;
        c->kv_bytes = t->score.kv_bytes;
    }
}

void limits_learn(struct limits *l, const struct settings *s, const struct subject *m,
                  const struct speed *speed, const struct trials *t)
{
    for (size_t i = 0; i < t->n; i++)
        learn_memory(l, &t->items[i]);
    limit_memory(l, s, m);
    if (!l->speed_predicted)
        learn_speed(l, s, m, speed, t);
}

static void set_limit(json_t *o, const char *key, uint64_t bytes)
{
    if (bytes != UINT64_MAX && bytes <= INT64_MAX)
        json_object_set_new(o, key, json_integer((json_int_t)bytes));
}

/* Without a choice, kv_bytes says it all. */
static json_t *caches_limits_new(const struct limits *l)
{
    json_t *list = json_array();
    for (int i = 0; i < l->n_caches; i++) {
        const struct cache_choice *c = &l->caches[i];
        if (!c->useful)
            continue;
        json_t *o = cache_json_new(c->types);
        set_limit(o, "kv_bytes", c->kv_bytes);
        if (c->fits)
            set_limit(o, "bytes_max", min_u64(l->size_bytes, c->memory_bytes));
        if (!isnan(c->kld))
            json_object_set_new(o, "kld", json_real_new(c->kld));
        json_array_append_new(list, o);
    }
    return list;
}

json_t *limits_json_new(const struct limits *l)
{
    json_t *o = json_object();
    set_limit(o, "bytes_max", l->bytes_max);
    set_limit(o, "by_size", l->size_bytes);
    set_limit(o, "by_memory", l->memory_bytes);
    if (l->ms_max > 0)
        json_object_set_new(o, "ms_per_token_max", json_real_new(l->ms_max));
    if (l->first_max > 0)
        json_object_set_new(o, "ms_to_first_token_max", json_real_new(l->first_max));
    set_limit(o, "smallest_bytes", l->smallest_bytes);
    set_limit(o, "kv_bytes", l->caches[0].kv_bytes);
    json_t *caches = caches_limits_new(l);
    if (json_array_size(caches) > 1 || !cache_is_default(l->caches[0].types))
        json_object_set(o, "caches", caches);
    json_decref(caches);
    json_object_set_new(o, "context", json_integer((json_int_t)l->context));
    if (l->bandwidth_gbs > 0)
        json_object_set_new(o, "bandwidth_gbs", json_real_new(l->bandwidth_gbs));
    json_object_set_new(o, "speed_predicted", json_boolean(l->speed_predicted));
    return o;
}
