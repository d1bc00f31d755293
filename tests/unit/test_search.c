/* The search against brute force and against a simulated world.
 *
 * The knapsack is compared with the enumeration of all choices on random small tables. The proposer
 * is run in a loop whose "measurement" is the table bent by hidden factors, so that predictions are
 * wrong in known ways: it must respect the limit, never repeat itself, end, go on the same way from
 * any prefix of its history, and beat the stock mixes.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "search/search.h"

/* ---- tables by hand ---- */

static struct probe_table random_table(struct rng *r, size_t n_groups, int n_types, uint64_t unit)
{
    struct probe_table t = {.n_types = n_types, .n_groups = n_groups};
    for (int k = 0; k < n_types; k++)
        t.types[k] = (enum dtype)(DT_Q2_K + k);
    t.groups = xcalloc(n_groups, sizeof(*t.groups));
    for (size_t g = 0; g < n_groups; g++)
        for (int k = 0; k < n_types; k++) {
            t.groups[g].bytes[k] = unit * (1 + rng_below(r, 40));
            t.groups[g].kld[k] = rng_below(r, 8) == 0 && k > 0 ? NAN : rng_unit(r);
        }
    return t;
}

/* Least Σ KL over all choices within the limit; infinite when none fits. */
static double brute_force(const struct probe_table *t, size_t group, uint64_t limit)
{
    double best = INFINITY;
    if (group == t->n_groups)
        return 0;
    for (int k = 0; k < t->n_types; k++) {
        const struct sensitivity *s = &t->groups[group];
        if (isnan(s->kld[k]) || s->bytes[k] > limit)
            continue;
        double rest = brute_force(t, group + 1, limit - s->bytes[k]);
        best = fmin(best, s->kld[k] + rest);
    }
    return best;
}

static void test_knapsack_is_exact(void **state)
{
    struct rng r;
    (void)state;
    rng_seed(&r, 7);
    for (int round = 0; round < 300; round++) {
        struct probe_table t =
            random_table(&r, 1 + rng_below(&r, 6), 1 + (int)rng_below(&r, 5), 512);
        uint64_t limit = 512 * rng_below(&r, 200), bytes = 0;
        enum dtype types[8];
        struct err e = {0};
        double kld = NAN, want = brute_force(&t, 0, limit);
        int rc = allocate(&t, limit, types, &kld, &bytes, &e);
        if (isinf(want)) {
            assert_int_equal(rc, -1);
            assert_int_equal(e.code, ERR_INFEASIBLE);
        } else {
            assert_int_equal(rc, 0);
            assert_true(bytes <= limit);
            assert_true(fabs(kld - want) < 1e-12);
            assert_true(fabs(allocate_kld(&t, types) - want) < 1e-12);
            assert_int_equal(allocate_bytes(&t, types), bytes);
        }
        probe_table_release(&t);
    }
}

/* Sizes without a common divisor need the coarse grid: never above the limit, nearly optimal. */
static void test_knapsack_coarse_grid(void **state)
{
    struct rng r;
    (void)state;
    rng_seed(&r, 8);
    for (int round = 0; round < 40; round++) {
        struct probe_table t = random_table(&r, 6, 4, 100000007);
        for (size_t g = 0; g < t.n_groups; g++)
            for (int k = 0; k < t.n_types; k++)
                t.groups[g].bytes[k] += rng_below(&r, 1000);
        uint64_t limit = 100000007ull * (60 + rng_below(&r, 100)), bytes = 0;
        enum dtype types[8];
        double kld, want = brute_force(&t, 0, limit);
        if (!isinf(want)) {
            assert_int_equal(allocate(&t, limit, types, &kld, &bytes, NULL), 0);
            assert_true(bytes <= limit);
            assert_true(kld <= want * 1.02 + 1e-9);
        }
        probe_table_release(&t);
    }
}

static void test_knapsack_unlimited(void **state)
{
    struct rng r;
    enum dtype types[8];
    uint64_t bytes;
    double kld;
    (void)state;
    rng_seed(&r, 9);
    struct probe_table t = random_table(&r, 6, 4, 32);
    assert_int_equal(allocate(&t, UINT64_MAX, types, &kld, &bytes, NULL), 0);
    assert_true(fabs(kld - brute_force(&t, 0, UINT64_MAX)) < 1e-12);
    assert_true(bytes <= allocate_largest(&t) && bytes >= allocate_smallest(&t));
    probe_table_release(&t);
}

/* ---- lists of trials ---- */

static void add(struct trials *l, uint64_t bytes, double kld, double top1, bool stock, bool failed)
{
    struct trial t = {.bytes = bytes, .stock = stock, .failed = failed, .predicted_kld = NAN};
    recipe_init(&t.recipe, "Q4_K_M");
    t.score.has_kld = !failed;
    t.score.kld_mean = kld;
    t.score.top1 = top1;
    trials_add(l, &t);
}

static void test_front_and_best(void **state)
{
    struct trials l = {0};
    size_t front[8];
    (void)state;
    add(&l, 500, 0.010, 0.95, false, false);
    add(&l, 300, 0.100, 0.80, true, false);
    add(&l, 400, 0.100, 0.81, true, false); /* larger, no better: dominated */
    add(&l, 400, 0.030, 0.90, false, false);
    add(&l, 200, 0.000, 1.00, false, true); /* failed: invisible */
    add(&l, 600, 0.011, 0.94, true, false); /* dominated */
    assert_int_equal(trials_front(&l, front), 3);
    assert_int_equal(front[0], 1);
    assert_int_equal(front[1], 3);
    assert_int_equal(front[2], 0);

    struct targets size = {.size_max = 450};
    assert_int_equal(trials_best(&l, &size, 100), 3);
    assert_int_equal(trials_best_stock(&l, &size, 100), 1);
    struct targets accuracy = {.accuracy_min = 0.85};
    assert_int_equal(trials_best(&l, &accuracy, 100), 3);
    struct targets both = {.accuracy_min = 0.85, .size_max = 600};
    assert_int_equal(trials_best(&l, &both, 100), 0);
    struct targets impossible = {.accuracy_min = 0.99};
    assert_int_equal(trials_best(&l, &impossible, 100), -1);
    assert_int_equal(trials_nearest(&l, &impossible, 100), 0);
    struct targets bpw = {.bpw_max = 24}; /* 300 bytes of 100 parameters */
    assert_int_equal(trials_best(&l, &bpw, 100), 1);
    trials_release(&l);
}

static void test_knee(void **state)
{
    struct trials l = {0};
    struct targets none = {0};
    (void)state;
    assert_int_equal(trials_best(&l, &none, 100), -1);
    add(&l, 300, 1.0, 0.5, false, false);
    assert_int_equal(trials_best(&l, &none, 100), 0);
    add(&l, 400, 0.010, 0.95, false, false); /* a hundredth for a third more bytes: the knee */
    add(&l, 800, 0.005, 0.96, false, false);
    assert_int_equal(trials_best(&l, &none, 100), 1);
    trials_release(&l);
}

/* KL falls fourfold a bit, as it does between three and eight bits: no point of such a curve stands
 * out by its logarithm, and it must not matter how finely the curve is sampled or that the ends
 * scatter. */
static void test_knee_of_a_smooth_curve(void **state)
{
    struct targets none = {0};
    (void)state;
    for (int points = 6; points <= 40; points++) {
        struct trials l = {0};
        struct rng r;
        rng_seed(&r, (uint64_t)points);
        for (int i = 0; i < points; i++) {
            double bits = 3 + 5.5 * i / (points - 1), noise = 1 + 0.1 * (rng_unit(&r) - 0.5);
            add(&l, (uint64_t)(bits * 1000), 2 * pow(4, -bits) * noise, 0.9, false, false);
        }
        int knee = trials_best(&l, &none, 8000);
        assert_in_range(knee, 0, points - 1);
        double bits = (double)l.items[knee].bytes / 1000;
        assert_true(bits > 4.2 && bits < 5.7); /* at 4.93 where the curve is dense */
        trials_release(&l);
    }
}

/* The stock mixes of the sample model as README.md has them, and one composed candidate. */
static void test_knee_of_the_sample(void **state)
{
    static const struct {
        uint64_t bytes;
        double kld;
    } rows[] = {{3314208, 0.04677}, {4035104, 0.01185}, {4131168, 0.00549}, {4352544, 0.00560},
                {4785696, 0.00365}, {6171168, 0.00085}, {7948832, 0.00015}};
    struct trials l = {0};
    struct targets none = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        add(&l, rows[i].bytes, rows[i].kld, 0.9, i != 2, false);
    assert_int_equal(trials_best(&l, &none, 7344896), 2);
    /* Without the composed one IQ4_XS and Q4_K_M are what is left near it. */
    l.items[2].failed = true;
    assert_int_equal(trials_best(&l, &none, 7344896), 3);
    trials_release(&l);
}

static void test_targets(void **state)
{
    struct score s = {.top1 = 0.9, .has_kld = true, .tps_decode = 40, .memory_bytes = 1000};
    char why[TARGETS_WHY_MAX] = "";
    struct targets t = {0}, back;
    (void)state;
    assert_false(targets_any(&t));
    assert_true(targets_met(&t, 100, 100, &s, why));
    t.tps_min = 50;
    assert_true(targets_any(&t));
    assert_false(targets_met(&t, 100, 100, &s, why));
    assert_string_equal(why, "tokens/s 40.0, asked at least 50.0");
    assert_true(fabs(targets_distance(&t, 100, 100, &s) - log(50.0 / 40.0)) < 1e-12);
    t = (struct targets){.latency_ms_max = 10};
    assert_false(targets_met(&t, 100, 100, &s, why)); /* not measured is not met */
    assert_non_null(strstr(why, "not measured"));
    t = (struct targets){.size_max = 3,
                         .bpw_max = 4.5,
                         .memory_max = 7,
                         .context = 9,
                         .tps_min = 1.5,
                         .latency_ms_max = 2.5,
                         .accuracy_min = 0.5};
    json_t *doc = targets_json_new(&t);
    targets_from_json(&back, doc);
    json_t *again = targets_json_new(&back);
    assert_int_equal(json_object_size(doc), 7);
    assert_true(json_equal(doc, again));
    json_decref(again);
    json_decref(doc);
    assert_false(targets_accuracy_only(&t));
    assert_true(targets_need_speed(&t));
}

/* ---- a simulated world ---- */

enum { LAYERS_SIM = 6, TENSORS_SIM = 1 + LAYERS_SIM * 7, DROPS_SIM = 2 };

struct world {
    struct model_desc desc;
    struct model_tensor tensors[TENSORS_SIM];
    char names[TENSORS_SIM][64];
    struct probe_groups groups;
    struct probe_table table;
    double *truth; /* (n_groups) hidden factor of each group's KL */
    double *level; /* (n_groups) KL at 4.5 bits before noise */
    struct search_space space;
    struct trials history;
    struct search_drop drops[DROPS_SIM];
    struct model_desc left[DROPS_SIM]; /* without their blocks */
    struct model_tensor left_tensors[DROPS_SIM][TENSORS_SIM];
    char left_names[DROPS_SIM][TENSORS_SIM][64];
};

static void tensor_put(struct world *w, size_t i, const char *name, uint64_t ne0, uint64_t ne1)
{
    snprintf(w->names[i], sizeof(w->names[i]), "%s", name);
    w->tensors[i] = (struct model_tensor){.name = w->names[i],
                                          .role = model_role_of(name),
                                          .layer = model_layer_of(name),
                                          .dtype = DT_BF16,
                                          .dtype_min = DT_NONE,
                                          .shape = {2, {ne0, ne1, 1, 1}}};
    w->desc.parameters += ne0 * ne1;
}

static void world_desc(struct world *w)
{
    static const struct {
        const char *stem;
        uint64_t ne0, ne1;
    } parts[7] = {{"attn_q", 512, 512},      {"attn_k", 512, 128},    {"attn_v", 512, 128},
                  {"attn_output", 512, 512}, {"ffn_gate", 512, 1536}, {"ffn_up", 512, 1536},
                  {"ffn_down", 1536, 512}};
    size_t i = 0;
    w->desc = (struct model_desc){.architecture = "llama",
                                  .name = "world",
                                  .n_layer = LAYERS_SIM,
                                  .n_head = 8,
                                  .n_head_kv = 2,
                                  .n_embd = 512,
                                  .n_ff = 1536,
                                  .n_vocab = 8192,
                                  .head_dim = 64,
                                  .tied = true,
                                  .tensors = w->tensors,
                                  .n_tensors = TENSORS_SIM};
    tensor_put(w, i++, "token_embd.weight", 512, 8192);
    for (int layer = 0; layer < LAYERS_SIM; layer++)
        for (int p = 0; p < 7; p++) {
            char name[64];
            snprintf(name, sizeof(name), "blk.%d.%s.weight", layer, parts[p].stem);
            tensor_put(w, i++, name, parts[p].ne0, parts[p].ne1);
        }
}

static const enum dtype sim_types[] = {DT_Q2_K, DT_Q3_K, DT_IQ3_S, DT_IQ4_XS,
                                       DT_Q4_K, DT_Q5_K, DT_Q6_K,  DT_Q8_0};
enum { SIM_TYPES = sizeof(sim_types) / sizeof(sim_types[0]) };

static void world_init(struct world *w, uint64_t seed)
{
    struct rng r;
    struct err e = {0};
    rng_seed(&r, seed);
    memset(w, 0, sizeof(*w));
    world_desc(w);
    assert_int_equal(probe_groups_make(&w->groups, &w->desc, 0, &e), 0);
    assert_int_equal(
        probe_table_sizes(&w->table, &w->desc, &w->groups, sim_types, SIM_TYPES, true, &e), 0);
    w->truth = xcalloc(w->groups.n, sizeof(*w->truth));
    w->level = xcalloc(w->groups.n, sizeof(*w->level));
    for (size_t g = 0; g < w->groups.n; g++) {
        double level = exp(1.2 * rng_normal(&r)) * 1e-9 * (double)w->groups.items[g].elements;
        w->truth[g] = exp(0.3 * rng_normal(&r));
        w->level[g] = level;
        for (int k = 0; k < SIM_TYPES; k++) {
            double bits =
                (double)w->table.groups[g].bytes[k] * 8 / (double)w->groups.items[g].elements;
            w->table.groups[g].kld[k] = level * pow(4, 4.5 - bits) * exp(0.1 * rng_normal(&r));
        }
    }
    w->space = (struct search_space){.desc = &w->desc,
                                     .groups = &w->groups,
                                     .table = &w->table,
                                     .have_importance = true,
                                     .fixed_bytes = 20000,
                                     .bytes_limit = UINT64_MAX,
                                     .max_trials = 8};
}

static void world_release(struct world *w)
{
    trials_release(&w->history);
    probe_table_release(&w->table);
    probe_groups_release(&w->groups);
    xfree(w->truth);
    xfree(w->level);
}

/* Lets the proposer leave out block 4, then 2 and 4, which unquantized cost so much. */
static void world_drops(struct world *w, double one, double two)
{
    static const uint32_t sets[DROPS_SIM][2] = {{4}, {2, 4}};
    for (size_t k = 0; k < DROPS_SIM; k++) {
        size_t n = 0;
        w->left[k] = w->desc;
        w->left[k].tensors = w->left_tensors[k];
        w->left[k].n_layer = LAYERS_SIM - (uint32_t)(k + 1);
        w->left[k].parameters = 0;
        for (size_t i = 0; i < w->desc.n_tensors; i++) {
            struct model_tensor *t = &w->left_tensors[k][n];
            int below = 0;
            bool gone = false;
            *t = w->tensors[i];
            for (size_t j = 0; t->layer >= 0 && j <= k; j++) {
                gone = gone || (uint32_t)t->layer == sets[k][j];
                below += (uint32_t)t->layer > sets[k][j];
            }
            if (gone)
                continue;
            if (t->layer >= 0) {
                snprintf(w->left_names[k][n], sizeof(w->left_names[k][n]), "blk.%d%s",
                         t->layer - below, strchr(w->names[i] + 4, '.'));
                t->name = w->left_names[k][n];
                t->layer -= below;
            }
            w->left[k].parameters += t->shape.ne[0] * t->shape.ne[1];
            n++;
        }
        w->left[k].n_tensors = n;
        w->drops[k] = (struct search_drop){.layers = sets[k],
                                           .n_layers = k + 1,
                                           .desc = &w->left[k],
                                           .fixed_bytes = w->space.fixed_bytes - 1000 * (k + 1),
                                           .kld = k == 0 ? one : two};
    }
    w->space.drops = w->drops;
    w->space.n_drops = DROPS_SIM;
}

/* The file's KL: sensitivities with the hidden factors, a second-order term and a floor. */
static double world_kld(const struct world *w, const struct trial *t)
{
    double sum = 0;
    for (size_t g = 0; g < w->groups.n; g++) {
        enum dtype type = t->group_types[g];
        double found = NAN;
        if (type == DT_NONE && t->recipe.n_drop_layers > 0)
            continue;
        for (int k = 0; k < SIM_TYPES; k++)
            if (sim_types[k] == type)
                found = w->table.groups[g].kld[k];
        if (isnan(found)) { /* a type outside the table, or several in one group (3 bits, say) */
            const struct dtype_info *d = dtype_info(type == DT_NONE ? DT_Q3_K : type);
            found = w->level[g] * pow(4, 4.5 - 8.0 * d->bytes / d->block);
        }
        sum += w->truth[g] * found;
    }
    for (size_t k = 0; k < w->space.n_drops; k++)
        sum += t->recipe.n_drop_layers == k + 1 ? w->drops[k].kld : 0;
    return sum * (1 + sum) + 5e-5;
}

static void world_measure(const struct world *w, struct trial *t)
{
    struct rng r;
    rng_seed(&r, 99);
    double kld = world_kld(w, t) + t->cache_kld;
    t->score = (struct score){.has_kld = true, .kld_mean = kld, .top1 = 1 - sqrt(kld) * 0.7};
    t->n_windows = 16;
    t->window_kld = xcalloc(t->n_windows, sizeof(*t->window_kld));
    for (size_t i = 0; i < t->n_windows; i++) /* windows differ, the same for every candidate */
        t->window_kld[i] = kld * (1 + 0.2 * rng_normal(&r));
}

/* Runs the proposer to its end; returns the number of proposals. */
static int world_run(struct world *w)
{
    struct proposer builtin;
    search_builtin(&builtin);
    for (int n = 0;; n++) {
        struct proposal p, again;
        struct err e = {0};
        int rc = builtin.next(builtin.ud, &w->space, &w->history, &p, &e);
        assert_int_not_equal(rc, -1);
        if (rc == 1)
            return n;
        assert_true(n < 100);
        assert_true(p.bytes <= w->space.bytes_limit);
        struct trial t = {.recipe = p.recipe,
                          .group_types = p.group_types,
                          .bytes = p.bytes,
                          .stock = p.stock_name != NULL,
                          .stock_name = p.stock_name,
                          .predicted_kld = p.predicted_kld,
                          .cache_kld = p.cache_kld};
        trial_key(&t.recipe, t.key);
        for (size_t i = 0; i < w->history.n; i++)
            assert_string_not_equal(w->history.items[i].key, t.key);
        assert_int_equal(builtin.next(builtin.ud, &w->space, &w->history, &again, &e), 0);
        assert_int_equal(again.bytes, t.bytes); /* the same question, the same answer */
        proposal_release(&again);
        world_measure(w, &t);
        trials_add(&w->history, &t);
    }
}

static uint64_t bytes_at(const struct world *w, double bpw)
{
    return (uint64_t)((double)w->desc.parameters * bpw / 8);
}

/* ---- the KV cache as a choice ---- */

static void offer_cache(struct world *w, struct cache_types types, double bpw, double kld)
{
    uint64_t limit = bytes_at(w, bpw);
    w->space.caches[w->space.n_caches++] = (struct search_cache){types, limit, kld};
    w->space = search_with_cache(&w->space, 0);
}

/* With which caches stock mixes and composed candidates were proposed. */
static void count_caches(const struct world *w, struct cache_types types, int *stock, int *composed)
{
    *stock = *composed = 0;
    for (size_t i = 0; i < w->history.n; i++) {
        const struct trial *t = &w->history.items[i];
        if (cache_same(t->recipe.cache, types))
            *(t->stock ? stock : composed) += 1;
    }
}

static const struct cache_types f16, q8_0 = {CACHE_Q8_0, CACHE_Q8_0},
                                     q4_0 = {CACHE_Q4_0, CACHE_Q4_0};

/* A cache that costs little and leaves a bit per weight more is worth it; one that costs more than
 * the weights gain is not. */
static void test_proposer_chooses_the_cache(void **state)
{
    struct world w;
    int stock, composed;
    (void)state;
    world_init(&w, 5);
    offer_cache(&w, f16, 3.6, 0);
    offer_cache(&w, q8_0, 4.8, 1e-5);
    offer_cache(&w, q4_0, 5.0, 0.05);
    w.space.bytes_limit = bytes_at(&w, 5.0);
    world_run(&w);
    count_caches(&w, q8_0, &stock, &composed);
    assert_true(stock >= 1 && composed >= 2);
    count_caches(&w, f16, &stock, &composed);
    assert_int_equal(stock, 1); /* what everybody has, to compare with */
    assert_int_equal(composed, 0);
    count_caches(&w, q4_0, &stock, &composed);
    assert_int_equal(stock + composed, 0);
    for (size_t i = 0; i < w.history.n; i++) {
        const struct trial *t = &w.history.items[i];
        double bpw = cache_same(t->recipe.cache, f16) ? 3.6 : 4.8;
        assert_true(t->bytes <= bytes_at(&w, bpw));
        assert_true((t->cache_kld < 1e-9) == cache_is_default(t->recipe.cache));
    }
    world_release(&w);
}

static void test_proposer_keeps_the_default_cache(void **state)
{
    struct world w;
    int stock, composed;
    (void)state;
    world_init(&w, 6);
    offer_cache(&w, f16, 5.0, 0);
    offer_cache(&w, q8_0, 5.02, 0.001);
    w.space.bytes_limit = bytes_at(&w, 5.02);
    world_run(&w);
    count_caches(&w, q8_0, &stock, &composed);
    assert_int_equal(stock + composed, 0);
    count_caches(&w, f16, &stock, &composed);
    assert_true(stock >= 1 && composed >= 1);
    world_release(&w);
}

/* What a cache costs is part of a score, and must not bend the sensitivities. */
static void test_cache_does_not_correct_the_table(void **state)
{
    struct world w;
    double before[SEARCH_CACHES_MAX], after[SEARCH_CACHES_MAX];
    struct err e = {0};
    (void)state;
    world_init(&w, 7);
    for (size_t g = 0; g < w.groups.n; g++)
        w.truth[g] = 1;
    offer_cache(&w, q8_0, 4.0, 0.5); /* far above the KL of the weights */
    assert_int_equal(search_best_cache(&w.space, &w.history, before, &e), 0);
    world_run(&w);
    assert_int_equal(search_best_cache(&w.space, &w.history, after, &e), 0);
    if (fabs(after[0] - before[0]) > 0.3 * (before[0] - 0.5))
        fail_msg("predicted %g before the trials, %g after them", before[0], after[0]);
    world_release(&w);
}

static void test_cache_without_room(void **state)
{
    struct world w;
    double kld[SEARCH_CACHES_MAX];
    struct err e = {0};
    (void)state;
    world_init(&w, 8);
    offer_cache(&w, f16, 0.5, 0);
    offer_cache(&w, q8_0, 4.0, 1e-5);
    assert_int_equal(search_best_cache(&w.space, &w.history, kld, &e), 1);
    assert_true(isnan(kld[0]) && kld[1] > 1e-5);
    world_release(&w);
}

static void test_proposer_under_a_limit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world w;
        world_init(&w, seed);
        w.space.targets.bpw_max = 3.2 + 0.3 * (double)seed;
        w.space.bytes_limit = bytes_at(&w, w.space.targets.bpw_max);
        int n = world_run(&w);
        int best = trials_best(&w.history, &w.space.targets, w.desc.parameters);
        int stock = trials_best_stock(&w.history, &w.space.targets, w.desc.parameters);
        assert_true(n >= 3 && best >= 0 && stock >= 0);
        assert_false(w.history.items[best].stock);
        assert_true(w.history.items[best].score.kld_mean <
                    0.9 * w.history.items[stock].score.kld_mean);
        world_release(&w);
    }
}

/* ---- candidates without blocks ---- */

struct tally {
    int whole, one, two;
};

static struct tally world_tally(const struct world *w)
{
    struct tally n = {0};
    for (size_t i = 0; i < w->history.n; i++) {
        const struct trial *t = &w->history.items[i];
        struct plan plan;
        struct recipe_options o = RECIPE_OPTIONS_DEFAULT;
        size_t lacks = t->recipe.n_drop_layers;
        if (t->stock)
            continue;
        n.whole += lacks == 0;
        n.one += lacks == 1;
        n.two += lacks == 2;
        if (lacks == 0)
            continue;
        /* What was planned is what the recipe makes of what is left. */
        o.have_importance = true;
        assert_int_equal(recipe_resolve(&t->recipe, w->drops[lacks - 1].desc, &o, &plan, NULL), 0);
        assert_int_equal(plan.tensor_bytes + w->drops[lacks - 1].fixed_bytes, t->bytes);
        plan_release(&plan);
        for (size_t g = 0; g < w->groups.n; g++) {
            int layer = w->groups.items[g].layer;
            bool gone = layer == 4 || (lacks == 2 && layer == 2);
            assert_int_equal(t->group_types[g] == DT_NONE, gone);
        }
    }
    return n;
}

static double world_best(struct world *w, double bpw, const uint32_t **layers, size_t *n)
{
    w->space.targets.bpw_max = bpw;
    w->space.bytes_limit = bytes_at(w, bpw);
    world_run(w);
    int best = trials_best(&w->history, &w->space.targets, w->desc.parameters);
    *layers = w->history.items[best].recipe.drop_layers;
    *n = w->history.items[best].recipe.n_drop_layers;
    return w->history.items[best].score.kld_mean;
}

/* Blocks that do nothing go, one after the other, and what is left is refined. */
static void test_idle_blocks_are_left_out(void **state)
{
    struct world with, without;
    const uint32_t *layers;
    size_t n;
    (void)state;
    world_init(&without, 90);
    double all = world_best(&without, 2.9, &layers, &n);
    assert_int_equal(n, 0);
    world_init(&with, 90);
    world_drops(&with, 1e-6, 2e-6);
    double less = world_best(&with, 2.9, &layers, &n);
    struct tally t = world_tally(&with);
    assert_int_equal(n, 2);
    assert_true(layers[0] == 2 && layers[1] == 4);
    assert_true(t.whole == 1 && t.one == 1 && t.two >= 2);
    assert_true(less < 0.7 * all);
    world_release(&with);
    world_release(&without);
}

/* A second block that costs more than it saves takes a file; the search goes on with the first. */
static void test_one_block_is_left_out(void **state)
{
    struct world w;
    const uint32_t *layers;
    size_t n;
    (void)state;
    world_init(&w, 91);
    world_drops(&w, 1e-6, 0);
    w.space.n_drops = 1; /* what one block and types leave; the second costs almost that alone */
    double best = world_best(&w, 2.9, &layers, &n);
    world_release(&w);
    world_init(&w, 91);
    world_drops(&w, 1e-6, 0.7 * best);
    world_best(&w, 2.9, &layers, &n);
    struct tally t = world_tally(&w);
    assert_int_equal(n, 1);
    assert_true(t.whole == 1 && t.two == 1 && t.one >= 2);
    world_release(&w);
}

/* Blocks that cost as much as all types together are not worth a file; nothing else changes. */
static void test_dear_blocks_stay(void **state)
{
    struct world with, without;
    const uint32_t *layers;
    size_t n;
    (void)state;
    world_init(&without, 92);
    double all = world_best(&without, 2.9, &layers, &n);
    world_init(&with, 92);
    world_drops(&with, 2 * all, 3 * all);
    double same = world_best(&with, 2.9, &layers, &n);
    assert_int_equal(n, 0);
    assert_int_equal(with.history.n, without.history.n);
    assert_true(fabs(same - all) < 1e-12);
    world_release(&with);
    world_release(&without);
}

/* Measurements that contradict the table make later proposals better than the first optimum. */
static void test_corrections_help(void **state)
{
    double first = 0, last = 0;
    (void)state;
    for (uint64_t seed = 21; seed <= 40; seed++) {
        struct world w;
        world_init(&w, seed);
        w.space.targets.bpw_max = 4.2;
        w.space.bytes_limit = bytes_at(&w, 4.2);
        w.space.max_trials = 12;
        world_run(&w);
        double one = 0;
        for (size_t i = 0; i < w.history.n && !(one > 0); i++)
            one = w.history.items[i].stock ? 0 : w.history.items[i].score.kld_mean;
        first += log(one);
        int best = trials_best(&w.history, &w.space.targets, w.desc.parameters);
        last += log(w.history.items[best].score.kld_mean);
        world_release(&w);
    }
    print_message("best of the search / additive optimum: %.4f\n", exp((last - first) / 20));
    assert_true(last < first - 20 * 0.002);
}

static void test_proposer_for_accuracy(void **state)
{
    (void)state;
    for (uint64_t seed = 50; seed < 56; seed++) {
        struct world w;
        world_init(&w, seed);
        w.space.targets.accuracy_min = 0.93;
        int n = world_run(&w);
        int best = trials_best(&w.history, &w.space.targets, w.desc.parameters);
        assert_true(best >= 0 && n <= 10);
        uint64_t met = w.history.items[best].bytes, below = 0;
        for (size_t i = 0; i < w.history.n; i++)
            if (!w.history.items[i].stock && w.history.items[i].score.top1 < 0.93 &&
                w.history.items[i].bytes > below)
                below = w.history.items[i].bytes;
        /* Something just below was tried and does not agree often enough. */
        assert_true((double)below > 0.97 * (double)met);
        int stock = trials_best_stock(&w.history, &w.space.targets, w.desc.parameters);
        assert_true(stock < 0 || w.history.items[stock].bytes >= met);
        world_release(&w);
    }
}

/* Activations stay floats beside weights that do. */
static void test_the_floor_is_of_quantized_groups(void **state)
{
    struct world w;
    enum dtype *types;
    double q8 = 0, first;
    (void)state;
    world_init(&w, 58);
    types = xcalloc(w.groups.n, sizeof(*types));
    for (size_t g = 0; g < w.groups.n; g++) {
        types[g] = DT_BF16;
        q8 += w.table.groups[g].kld[SIM_TYPES - 1];
    }
    first = w.table.groups[0].kld[SIM_TYPES - 1];
    assert_int_equal(w.table.types[SIM_TYPES - 1], DT_Q8_0);
    assert_true(search_floor(&w.table) > q8);
    assert_true(search_floor_share(&w.table, types) == 0);
    types[0] = DT_Q4_K;
    assert_true(fabs(search_floor_share(&w.table, types) - first / q8) < 1e-12);
    for (size_t g = 0; g < w.groups.n; g++)
        types[g] = DT_Q8_0;
    assert_true(search_floor_share(&w.table, types) == 1);
    xfree(types);
    world_release(&w);
}

/* Types that were not measured do not make a limit impossible that others keep; without caches
 * there is nothing to choose. */
static void test_caches_beside_what_is_known(void **state)
{
    struct world w;
    double kld[SEARCH_CACHES_MAX];
    struct err e = {0};
    (void)state;
    world_init(&w, 59);
    assert_int_equal(search_best_cache(&w.space, &w.history, kld, &e), 0);
    offer_cache(&w, (struct cache_types){CACHE_F16, CACHE_F16}, 3.0, 0);
    offer_cache(&w, (struct cache_types){CACHE_Q8_0, CACHE_Q8_0}, 5.0, 0.001);
    for (size_t g = 0; g < w.groups.n; g++)
        for (int k = 0; k < 4; k++) /* below four and a half bits nothing is known */
            w.table.groups[g].kld[k] = NAN;
    assert_int_equal(search_best_cache(&w.space, &w.history, kld, &e), 1);
    assert_true(isnan(kld[0]) && kld[1] > 0.001);
    w.space.n_caches = 1;
    assert_int_equal(search_best_cache(&w.space, &w.history, kld, &e), -1);
    assert_int_equal(e.code, ERR_INFEASIBLE);
    world_release(&w);
}

/* What no prediction promises is tried with the most precise types all the same. */
static void test_proposer_for_more_accuracy_than_there_is(void **state)
{
    struct world w;
    (void)state;
    static const char *const few[] = {"Q4_K_M", NULL};
    world_init(&w, 57);
    w.space.stock_names = few;
    w.space.targets.accuracy_min = 1;
    world_run(&w);
    uint64_t most = 0, largest = w.space.fixed_bytes + allocate_largest(&w.table);
    for (size_t i = 0; i < w.history.n; i++)
        if (w.history.items[i].group_types && w.history.items[i].bytes > most)
            most = w.history.items[i].bytes;
    assert_true(most <= largest && (double)most > 0.97 * (double)largest);
    world_release(&w);
}

static void test_proposer_without_targets(void **state)
{
    struct world w;
    size_t front[64];
    (void)state;
    world_init(&w, 60);
    int n = world_run(&w);
    assert_true(n >= 12);
    size_t size = trials_front(&w.history, front);
    assert_true(size >= 8);
    int stock = 0; /* a mix may lie between two rungs */
    for (size_t i = 0; i < size; i++)
        stock += w.history.items[front[i]].stock;
    assert_true(stock <= 2);
    world_release(&w);
}

/* Without sensitivities only stock mixes are proposed; failed ones are not proposed again. */
/* Of a large model no stock mix is made before the ladder, and after it the rival of what is
 * recommended, which keeps its bytes. */
static void test_rivals_of_the_front(void **state)
{
    struct world w;
    struct targets none = {0};
    int stocks = 0;
    (void)state;
    world_init(&w, 5);
    w.space.rivals_only = true;
    w.space.max_trials = 5;
    int n = world_run(&w);
    for (size_t i = 0; i < w.history.n; i++) {
        assert_true(w.history.items[i].stock == (i >= 5));
        stocks += w.history.items[i].stock;
    }
    assert_int_equal(n, 5 + stocks);
    const struct trial *knee = &w.history.items[trials_best(&w.history, &none, w.desc.parameters)];
    uint64_t nearest = 0;
    for (size_t i = 5; i < w.history.n; i++)
        if (w.history.items[i].bytes <= knee->bytes && w.history.items[i].bytes > nearest)
            nearest = w.history.items[i].bytes;
    assert_true(nearest > knee->bytes / 5 * 4);
    world_release(&w);
}

static void test_stock_only_and_failures(void **state)
{
    struct world w;
    struct proposer builtin;
    struct proposal p;
    int n = 0;
    (void)state;
    search_builtin(&builtin);
    world_init(&w, 70);
    w.space.table = NULL;
    w.space.bytes_limit = bytes_at(&w, 5);
    while (builtin.next(NULL, &w.space, &w.history, &p, NULL) == 0) {
        assert_non_null(p.stock_name);
        struct trial t = {.recipe = p.recipe,
                          .group_types = p.group_types,
                          .bytes = p.bytes,
                          .stock = true,
                          .stock_name = p.stock_name,
                          .failed = true};
        trials_add(&w.history, &t);
        assert_true(++n < 50);
    }
    assert_true(n >= 2);
    world_release(&w);
}

/* A stock mix's size, computed from groups, and its recipe's plan agree. */
static void test_stock_sizes(void **state)
{
    struct world w;
    struct search_stock *list;
    size_t n;
    (void)state;
    world_init(&w, 80);
    assert_int_equal(search_stocks(&w.space, &list, &n, NULL), 0);
    assert_true(n > 15);
    for (size_t i = 0; i < n; i++) {
        struct recipe r;
        struct plan plan;
        struct recipe_options o = RECIPE_OPTIONS_DEFAULT;
        o.have_importance = true;
        recipe_init(&r, list[i].name);
        assert_int_equal(recipe_resolve(&r, &w.desc, &o, &plan, NULL), 0);
        assert_int_equal(plan.tensor_bytes + w.space.fixed_bytes, list[i].bytes);
        assert_true(i == 0 || list[i].bytes <= list[i - 1].bytes);
        plan_release(&plan);
        recipe_release(&r);
    }
    search_stocks_free(list, n);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_knapsack_is_exact),
        cmocka_unit_test(test_knapsack_coarse_grid),
        cmocka_unit_test(test_knapsack_unlimited),
        cmocka_unit_test(test_front_and_best),
        cmocka_unit_test(test_knee),
        cmocka_unit_test(test_knee_of_a_smooth_curve),
        cmocka_unit_test(test_knee_of_the_sample),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_proposer_chooses_the_cache),
        cmocka_unit_test(test_proposer_keeps_the_default_cache),
        cmocka_unit_test(test_cache_does_not_correct_the_table),
        cmocka_unit_test(test_cache_without_room),
        cmocka_unit_test(test_proposer_under_a_limit),
        cmocka_unit_test(test_idle_blocks_are_left_out),
        cmocka_unit_test(test_one_block_is_left_out),
        cmocka_unit_test(test_dear_blocks_stay),
        cmocka_unit_test(test_corrections_help),
        cmocka_unit_test(test_proposer_for_accuracy),
        cmocka_unit_test(test_the_floor_is_of_quantized_groups),
        cmocka_unit_test(test_caches_beside_what_is_known),
        cmocka_unit_test(test_proposer_for_more_accuracy_than_there_is),
        cmocka_unit_test(test_proposer_without_targets),
        cmocka_unit_test(test_rivals_of_the_front),
        cmocka_unit_test(test_stock_only_and_failures),
        cmocka_unit_test(test_stock_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
