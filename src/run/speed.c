/* Milliseconds per token on the device that is meant, type by type.
 *
 * A token reads every weight once, so a tensor group takes its bytes times what the device needs
 * for a byte of its type: from memory where it is fast, by arithmetic where the type is slow to
 * decode. Three sources, best first: kernels measured on this machine (a fact of the store, for the
 * shape and size class of the model, measured once), a profile's bandwidth with its factors per
 * type, or bandwidth alone. What comes to that between the weights (attention, norms, waiting) is a
 * small share for large models and most for tiny ones; it is guessed, and a factor per device, kept
 * from the runs before, corrects the sum. Within a run the line through what was measured replaces
 * both (target.c).
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/thread.h"
#include "format/gguf.h"
#include "base/banned.h"

/* Changes with what is measured and how. */
#define KERNELS_VERSION "kernels-1"

enum { OPERATIONS_PER_LAYER = 24 };
static const double operation_ms = 1e-3; /* starting one, all threads: typical */
/* Between the matrices, of one thread, per token of a prompt, block and column of the stream:
 * attention, norms, activations quantized. Of the sample at 128 tokens. */
static const double between_ms = 20e-6;
static const double share_of_bandwidth = 0.8;
static const double bandwidth_guess_gbs = 10;
static const uint64_t set_least = 1 << 20, set_most = 256 << 20; /* large caches are shared */
static const double factor_least = 0.2, factor_most = 20;        /* beyond: not of the device */

/* What stock mixes and the search use. */
static const enum dtype measured[] = {
    DT_F16,   DT_BF16,    DT_Q8_0,  DT_Q6_K,   DT_Q5_K,    DT_Q5_1,   DT_Q5_0,
    DT_Q4_K,  DT_Q4_1,    DT_Q4_0,  DT_Q3_K,   DT_Q2_K,    DT_IQ4_NL, DT_IQ4_XS,
    DT_IQ3_S, DT_IQ3_XXS, DT_IQ2_S, DT_IQ2_XS, DT_IQ2_XXS, DT_IQ1_M,  DT_IQ1_S,
};
enum { MEASURED = sizeof(measured) / sizeof(measured[0]) };

/* ---- what of a group a token reads ---- */

static double experts_used(const struct subject *m)
{
    const struct model_desc *d = m->desc;
    uint64_t used = 0;
    char key[128];
    if (d->n_expert < 2 || !m->model)
        return 1;
    snprintf(key, sizeof(key), "%s.expert_used_count", d->architecture);
    if (!gguf_get_u64(model_kvs(m->model), key, &used) || used == 0 || used > d->n_expert)
        return 1;
    return (double)used / d->n_expert;
}

static double read_share(const struct subject *m, const struct probe_group *g, double used)
{
    bool experts = m->desc->n_expert > 1 && m->desc->tensors[g->tensors[0]].shape.n_dims > 2;
    if (g->role == ROLE_TOKEN_EMBD && !m->desc->tied)
        return 0; /* looked up */
    return experts ? used : 1;
}

static double group_ms(const struct subject *m, const struct probe_group *g, enum dtype type,
                       const double *ns_per_byte)
{
    double sum = 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct shape *shape = &m->desc->tensors[g->tensors[i]].shape;
        enum dtype stored = recipe_fallback(type, shape->ne[0]);
        uint64_t elements, bytes;
        if (!shape_elements(shape, &elements) ||
            !dtype_bytes(stored, elements, shape->ne[0], &bytes) ||
            (unsigned)stored >= SEARCH_TYPES)
            return NAN;
        sum += (double)bytes * ns_per_byte[stored] * 1e-6;
    }
    return sum;
}

/* ns_per_byte: (SEARCH_TYPES), NaN = not known. */
static void fill(struct speed *s, const struct subject *m, const double *ns_per_byte)
{
    double used = experts_used(m);
    xfree(s->ms);
    s->ms = xcalloc(m->groups.n * SEARCH_TYPES + 1, sizeof(*s->ms));
    for (size_t g = 0; g < m->groups.n; g++) {
        double share = read_share(m, &m->groups.items[g], used);
        for (unsigned t = 0; t < SEARCH_TYPES; t++) {
            const struct dtype_info *info = dtype_info((enum dtype)t);
            double ms = info && info->gguf
                            ? group_ms(m, &m->groups.items[g], (enum dtype)t, ns_per_byte)
                            : NAN;
            s->ms[g * SEARCH_TYPES + t] = share * ms;
        }
    }
}

/* Milliseconds of a prompt: every matrix meets all its tokens, the head the last one only. ns per
 * operation: (SEARCH_TYPES). s->ms is there. */
static void fill_first(struct speed *s, const struct subject *m, const double *ns, int prompt)
{
    double used = experts_used(m);
    xfree(s->first_ms);
    s->first_ms = xcalloc(m->groups.n * SEARCH_TYPES + 1, sizeof(*s->first_ms));
    for (size_t g = 0; g < m->groups.n; g++) {
        const struct probe_group *group = &m->groups.items[g];
        bool head = group->role == ROLE_TOKEN_EMBD || group->role == ROLE_OUTPUT;
        double share = read_share(m, group, used);
        double work = 2e-6 * (double)group->elements * share * prompt;
        uint64_t row = m->desc->tensors[group->tensors[0]].shape.ne[0];
        for (unsigned t = 0; t < SEARCH_TYPES; t++) {
            size_t at = g * SEARCH_TYPES + t;
            const struct dtype_info *info = dtype_info((enum dtype)t);
            unsigned stored = info ? (unsigned)recipe_fallback((enum dtype)t, row) : SEARCH_TYPES;
            s->first_ms[at] = head ? s->ms[at] : stored < SEARCH_TYPES ? work * ns[stored] : NAN;
        }
    }
}

int speed_prompt(uint32_t context)
{
    return context / 2 < PROMPT_TOKENS ? (int)(context / 2) : PROMPT_TOKENS;
}

static void fill_plain(struct speed *s, const struct subject *m, double gbs,
                       const struct hw_profile *p)
{
    double ns[SEARCH_TYPES];
    for (unsigned t = 0; t < SEARCH_TYPES; t++)
        ns[t] = (p ? hw_profile_factor(p, dtype_name((enum dtype)t)) : 1) / gbs;
    fill(s, m, ns);
}

/* ---- measured kernels ---- */

static uint64_t power_of_two(uint64_t n)
{
    uint64_t p = 256; /* every type's blocks divide it */
    while (p < n && p < 1u << 17)
        p *= 2;
    return p;
}

static uint64_t size_class(const struct subject *m, const struct hw *hw)
{
    uint64_t elements = 0, class = set_least;
    uint64_t most =
        hw->ram_usable > 0 && set_most > hw->ram_usable / 8 ? hw->ram_usable / 8 : set_most;
    for (size_t g = 0; g < m->groups.n; g++)
        elements += m->groups.items[g].elements;
    while (class < elements / 2 && 2 * class <= most)
        class *= 2;
    return class;
}

static void job_of(const struct subject *m, const struct hw *hw, int threads,
                   struct engine_kernels_job *job)
{
    const struct model_desc *d = m->desc;
    *job = (struct engine_kernels_job){.types = measured,
                                       .n_types = MEASURED,
                                       .cols = power_of_two(d->n_embd),
                                       .rows = power_of_two(d->n_ff > 0 ? d->n_ff : d->n_embd),
                                       .set_bytes = size_class(m, hw),
                                       .threads = threads};
}

static void kernels_key(const struct hw *hw, const struct engine_kernels_job *job, char key[65])
{
    char machine[HW_FINGERPRINT_MAX], text[HW_FINGERPRINT_MAX + 160];
    hw_fingerprint(hw, machine);
    snprintf(text, sizeof(text), "%s | %s %llu %llu %llu %d", machine, KERNELS_VERSION,
             (unsigned long long)job->cols, (unsigned long long)job->rows,
             (unsigned long long)job->set_bytes, job->threads > 0 ? job->threads : 0);
    hash_sha256_text(text, strlen(text), key);
}

static int measure(struct speed *s, const struct engine_kernels_job *job, const struct progress *p,
                   struct err *e)
{
    struct engine *g = NULL;
    if (engine_start(&g, NULL, e) != 0)
        return -1;
    int rc = engine_kernels(g, job, &s->kernels, p, e);
    engine_stop(g);
    return rc;
}

/* 0: s->kernels are there; 1: they are not and need not be measured. */
static int kernels_get(struct speed *s, const struct run *r, bool must, struct err *e)
{
    struct engine_kernels_job job;
    char key[65];
    job_of(&r->subject, &r->hw, r->set.threads, &job);
    kernels_key(&r->hw, &job, key);
    json_t *doc = store_fact_get(r->store, "kernels", key);
    bool known = doc && hw_kernels_from_json(&s->kernels, doc);
    json_decref(doc);
    if (known)
        return 0;
    if (!must)
        return 1;
    if (measure(s, &job, r->stages.out, e) != 0)
        return -1;
    store_fact_keep(r->store, "kernels", key, hw_kernels_json_new(&s->kernels));
    return 0;
}

/* ---- the factor of the device ---- */

static const char decode_factor[] = "speed_factor", first_factor[] = "first_token_factor";

static double factor_recall(struct store *store, const struct hw *hw, const char *kind)
{
    char machine[HW_FINGERPRINT_MAX];
    hw_fingerprint(hw, machine);
    json_t *doc = store_fact_get(store, kind, machine);
    double factor = json_opt_real(doc, "factor", 1);
    json_decref(doc);
    return factor >= factor_least && factor <= factor_most ? factor : 1;
}

static void remember(const struct run *r, bool first)
{
    const struct speed *s = &r->speed;
    double sum = 0;
    int n = 0;
    for (size_t i = 0; i < r->trials.n; i++) {
        const struct trial *t = &r->trials.items[i];
        double ms = !t->group_types ? NAN
                    : first         ? speed_first_read_ms(s, &r->subject, t->group_types)
                                    : speed_read_ms(s, &r->subject, t->group_types);
        double seen = first                     ? t->score.first_token_ms
                      : t->score.tps_decode > 0 ? 1e3 / t->score.tps_decode
                                                : 0;
        if (t->failed || !(seen > 0) || !(ms > 0))
            continue;
        sum += log(seen / (ms + (first ? s->first_overhead_ms : s->overhead_ms)));
        n++;
    }
    if (s->source != SPEED_MEASURED || n == 0 || r->set.mock)
        return;
    char machine[HW_FINGERPRINT_MAX];
    hw_fingerprint(&r->hw, machine);
    store_fact_keep(r->store, first ? first_factor : decode_factor, machine,
                    json_pack("{s:o, s:i}", "factor", json_real_new(exp(sum / n)), "files", n));
}

void speed_remember(const struct run *r)
{
    remember(r, false);
    remember(r, true);
}

/* ---- */

/* The simulated machine reads a prompt as many times faster as mock.c says. */
static void mock_first(struct speed *s, const struct subject *m, int prompt)
{
    s->first_ms = xcalloc(m->groups.n * SEARCH_TYPES + 1, sizeof(*s->first_ms));
    for (size_t i = 0; i < m->groups.n * SEARCH_TYPES; i++)
        s->first_ms[i] = s->ms[i] * prompt / MOCK_PREFILL_FACTOR;
}

static void use_kernels(struct speed *s, const struct subject *m, int prompt, int threads)
{
    double ns[SEARCH_TYPES], first[SEARCH_TYPES];
    for (unsigned t = 0; t < SEARCH_TYPES; t++) {
        const struct hw_type_speed *k = hw_kernels_find(&s->kernels, dtype_name((enum dtype)t));
        ns[t] = k ? 1 / k->decode_gbs : NAN;
        first[t] = k && k->prefill_gflops > 0 ? 1 / k->prefill_gflops : NAN;
    }
    fill(s, m, ns);
    fill_first(s, m, first, prompt);
    s->first_overhead_ms =
        s->overhead_ms + between_ms * prompt * m->desc->n_layer * m->desc->n_embd / threads;
    s->source = SPEED_MEASURED;
}

int speed_init(struct run *r, struct err *e)
{
    struct speed *s = &r->speed;
    const struct hw_profile *p = r->set.has_profile ? &r->set.profile : NULL;
    const struct subject *m = &r->subject;
    int prompt = speed_prompt(r->set.targets.context);
    *s = (struct speed){.factor = 1, .first_factor = 1};
    if (p && p->remote) {
        s->source = SPEED_PROFILE;
        s->overhead_ms = p->overhead_ms;
        if (p->gflops > 0)
            s->least_ms = 2e3 * (double)m->desc->parameters / (p->gflops * 1e9);
        if (p->bandwidth_gbs > 0)
            fill_plain(s, m, (p->efficiency > 0 ? p->efficiency : 0.6) * p->bandwidth_gbs, p);
        return 0;
    }
    s->overhead_ms = operation_ms * OPERATIONS_PER_LAYER * (m->desc->n_layer + 1.0);
    double gbs = r->hw.bandwidth_gbs > 0 ? r->hw.bandwidth_gbs : bandwidth_guess_gbs;
    s->source = r->hw.bandwidth_gbs > 0 ? SPEED_BANDWIDTH : SPEED_GUESS;
    fill_plain(s, m, share_of_bandwidth * gbs, NULL);
    if (r->set.mock)
        mock_first(s, m, prompt);
    if (r->set.mock || r->set.gpu_layers > 0)
        return 0;
    const struct targets *t = &r->set.targets;
    int rc = kernels_get(s, r, t->tps_min > 0 || t->latency_ms_max > 0, e);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    use_kernels(s, m, prompt, r->set.threads > 0 ? r->set.threads : thread_count_default());
    s->factor = factor_recall(r->store, &r->hw, decode_factor);
    s->first_factor = factor_recall(r->store, &r->hw, first_factor);
    return 0;
}

void speed_release(struct speed *s)
{
    xfree(s->ms);
    xfree(s->first_ms);
    *s = (struct speed){0};
}

double speed_read_ms(const struct speed *s, const struct subject *m, const enum dtype *types)
{
    return search_ms(&(struct search_time){.ms = s->ms}, types, m->groups.n);
}

double speed_tps(const struct speed *s, const struct subject *m, const enum dtype *types)
{
    double ms = speed_read_ms(s, m, types);
    if (isnan(ms) || s->source == SPEED_GUESS)
        return 0;
    ms = ms > s->least_ms ? ms : s->least_ms;
    return 1e3 / (s->factor * (ms + s->overhead_ms));
}

double speed_first_read_ms(const struct speed *s, const struct subject *m, const enum dtype *types)
{
    return search_first_ms(&(struct search_time){.first_ms = s->first_ms}, types, m->groups.n);
}

double speed_first_ms(const struct speed *s, const struct subject *m, const enum dtype *types)
{
    double ms = speed_first_read_ms(s, m, types);
    return isnan(ms) || s->source != SPEED_MEASURED ? 0
                                                    : s->first_factor * (ms + s->first_overhead_ms);
}

double speed_prefill_tps(const struct speed *s, const struct subject *m, const enum dtype *types)
{
    double seconds = 0, used = experts_used(m);
    for (size_t g = 0; g < m->groups.n; g++) {
        const struct probe_group *group = &m->groups.items[g];
        const struct hw_type_speed *k = (unsigned)types[g] < SEARCH_TYPES
                                            ? hw_kernels_find(&s->kernels, dtype_name(types[g]))
                                            : NULL;
        /* The head multiplies the last row only. */
        if (group->role == ROLE_TOKEN_EMBD || group->role == ROLE_OUTPUT)
            continue;
        if (!k || !(k->prefill_gflops > 0))
            return 0;
        seconds +=
            2 * (double)group->elements * read_share(m, group, used) / (k->prefill_gflops * 1e9);
    }
    return seconds > 0 ? 1 / (s->factor * seconds) : 0;
}

const char *speed_source_name(const struct speed *s)
{
    static const char *const names[] = {"guess", "bandwidth", "profile", "kernels"};
    return names[s->source];
}
