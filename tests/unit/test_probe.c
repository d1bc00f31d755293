/* Sensitivities on the sample model: groups and sets, sizes, determinism, and a worker that holds
 * the original again after every probe.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "probe/probe_int.h"
#include "recipe/recipe.h"
#include "sample_fixture.h"
#include "surgery/surgery.h"

enum { N_CTX = 96, WINDOWS = 4, TYPES = 5 };
static const enum dtype types[TYPES] = {DT_Q2_K, DT_Q3_K, DT_Q4_K, DT_Q6_K, DT_Q8_0};

static struct fixture {
    struct model *model;
    struct probe_groups groups;
    struct engine *engine;
    int32_t tokens[WINDOWS * N_CTX];
    struct engine_windows windows;
    struct measure_reference reference;
    struct imatrix imatrix;
} f;

static int set_up(void **state)
{
    struct err e = {0};
    struct engine_info info;
    struct measure_options o = {.threads = 1, .gpu_layers = 0};
    const char *root = getenv("SINTRA_ROOT");
    struct rng r;
    (void)state;
    if (fixture_open() != 0)
        return -1;
    char *source = fs_join(root ? root : ".", "models/sample"), *f32 = fixture_model("F32");
    rng_seed(&r, 11);
    for (int i = 0; i < WINDOWS * N_CTX; i++)
        f.tokens[i] = i % N_CTX == 0 ? 1 : (int32_t)(3 + rng_below(&r, 4000));
    f.windows = (struct engine_windows){f.tokens, WINDOWS, N_CTX, 4, 0};
    int rc = f32 ? model_open(&f.model, source, &e) : -1;
    if (rc == 0)
        rc = probe_groups_make(&f.groups, model_desc(f.model), 0, &e);
    if (rc == 0)
        rc = measure_open(&f.engine, &info, f32, ENGINE_FLOAT, N_CTX, 0, true, &o, &e);
    if (rc == 0)
        rc = measure_importance(&f.imatrix, f.engine, &f.windows, "test", NULL, &e);
    if (rc == 0)
        rc = measure_reference_make(&f.reference, f.engine, &f.windows, 1ull << 30, NULL, &e);
    if (rc != 0)
        fprintf(stderr, "%s\n", e.message);
    xfree(source);
    xfree(f32);
    return rc;
}

static int tear_down(void **state)
{
    (void)state;
    engine_stop(f.engine);
    measure_reference_release(&f.reference);
    imatrix_release(&f.imatrix);
    probe_groups_release(&f.groups);
    model_close(f.model);
    fixture_close();
    return 0;
}

static struct probe_job job_of(int threads)
{
    return (struct probe_job){.model = f.model,
                              .groups = &f.groups,
                              .imatrix = &f.imatrix,
                              .engine = f.engine,
                              .windows = f.windows,
                              .reference = &f.reference,
                              .types = types,
                              .n_types = TYPES,
                              .probe_type = DT_Q3_K,
                              .threads = threads};
}

static size_t group_named(const char *name)
{
    for (size_t g = 0; g < f.groups.n; g++)
        if (strcmp(f.groups.items[g].name, name) == 0)
            return g;
    fail_msg("no group %s", name);
    return 0;
}

static void test_groups(void **state)
{
    const struct model_desc *d = model_desc(f.model);
    size_t members = 0, quantizable = 0;
    (void)state;
    assert_int_equal(f.groups.n, 8 * 7 + 1);
    assert_int_equal(f.groups.n_sets, 8 * 5 + 1);
    for (size_t i = 0; i < d->n_tensors; i++)
        quantizable += recipe_tensor_quantizable(d, i);
    for (size_t g = 0; g < f.groups.n; g++)
        members += f.groups.items[g].n_tensors;
    assert_int_equal(members, quantizable);
    const struct probe_group *q = &f.groups.items[group_named("blk.3.attn_q")];
    const struct probe_group *k = &f.groups.items[group_named("blk.3.attn_k")];
    const struct probe_group *v = &f.groups.items[group_named("blk.3.attn_v")];
    assert_int_equal(q->set, k->set);
    assert_int_not_equal(q->set, v->set);
    assert_true(fabs(k->weight - 2) < 1e-12 && fabs(q->weight - 1) < 1e-12); /* 4 heads, 2 of k */
    assert_int_equal(f.groups.items[group_named("blk.0.ffn_gate")].set,
                     f.groups.items[group_named("blk.0.ffn_up")].set);
    assert_int_not_equal(f.groups.items[group_named("blk.0.ffn_gate")].set,
                         f.groups.items[group_named("blk.1.ffn_gate")].set);
    assert_int_equal(f.groups.items[group_named("token_embd")].layer, -1);
}

/* Eight layers in two runs: 0, 1-3, 4-6, 7. */
static void test_runs(void **state)
{
    struct probe_groups joined;
    struct err e = {0};
    (void)state;
    assert_int_equal(probe_groups_make(&joined, model_desc(f.model), 2, &e), 0);
    assert_int_equal(joined.n, f.groups.n);
    assert_int_equal(joined.n_sets, 4 * 5 + 1);
    for (size_t g = 0; g < joined.n; g++)
        for (size_t k = 0; k < g; k++) {
            const struct probe_group *a = &joined.items[g], *b = &joined.items[k];
            bool same_role = f.groups.items[g].set == f.groups.items[k].set;
            bool neighbours = a->role == b->role && a->layer > 0 && a->layer < 7 && b->layer > 0 &&
                              (a->layer - 1) / 3 == (b->layer - 1) / 3;
            if (same_role || neighbours)
                assert_int_equal(a->set, b->set);
            if (a->layer == 0 && b->layer != 0)
                assert_int_not_equal(a->set, b->set);
        }
    probe_groups_release(&joined);
    /* No more layers than runs: each is alone. */
    assert_int_equal(probe_groups_make(&joined, model_desc(f.model), 6, &e), 0);
    assert_int_equal(joined.n_sets, f.groups.n_sets);
    probe_groups_release(&joined);
}

/* KL per error that grows 1.5-fold from layer to layer: the shares within a run follow it, sums
 * stay, and sharing again changes nothing. */
static void test_shares_of_runs(void **state)
{
    static const double growth = 1.5;
    static const enum dtype type = DT_Q3_K;
    struct probe_groups joined;
    struct probe_table t;
    struct err e = {0};
    (void)state;
    assert_int_equal(probe_groups_make(&joined, model_desc(f.model), 2, &e), 0);
    assert_int_equal(probe_table_sizes(&t, model_desc(f.model), &joined, &type, 1, true, &e), 0);
    double *sum = xcalloc(joined.n_sets, sizeof(*sum));
    double *members = xcalloc(joined.n_sets, sizeof(*members));
    double *truth = xcalloc(joined.n, sizeof(*truth));
    for (size_t g = 0; g < joined.n; g++) {
        t.groups[g].error[0] = 1 / joined.items[g].weight;
        truth[g] = 1e-4 * pow(growth, joined.items[g].layer);
        sum[joined.items[g].set] += truth[g];
        members[joined.items[g].set]++;
    }
    for (size_t g = 0; g < joined.n; g++) { /* as a probe of the set leaves them */
        double even = sum[joined.items[g].set] / members[joined.items[g].set];
        t.groups[g].probe_kld = t.groups[g].probe_kld_low = t.groups[g].probe_kld_high = even;
    }
    const struct probe_job job = {.model = f.model, .groups = &joined};
    for (int again = 0; again < 2; again++) {
        double left = 0, off = 0;
        assert_true(runs_share(&job, &t, 0));
        for (size_t g = 0; g < joined.n; g++) {
            left += t.groups[g].probe_kld - truth[g];
            off = fmax(off, fabs(t.groups[g].probe_kld / truth[g] - 1));
        }
        assert_true(fabs(left) < 1e-12);
        assert_true(off < 0.1); /* even shares would be off by half */
    }
    probe_table_release(&t);
    probe_groups_release(&joined);
    xfree(sum);
    xfree(members);
    xfree(truth);
    /* Without runs there is nothing to share. */
    const struct probe_job alone = {.model = f.model, .groups = &f.groups};
    assert_int_equal(probe_table_sizes(&t, model_desc(f.model), &f.groups, &type, 1, true, &e), 0);
    for (size_t g = 0; g < f.groups.n; g++)
        t.groups[g].error[0] = t.groups[g].probe_kld = 1;
    assert_false(runs_share(&alone, &t, 0));
    probe_table_release(&t);
}

static void test_sizes(void **state)
{
    const struct model_desc *d = model_desc(f.model);
    struct probe_table t;
    struct recipe r;
    struct plan plan;
    static const enum dtype needy[] = {DT_Q4_K, DT_IQ2_XXS};
    (void)state;
    assert_int_equal(probe_table_sizes(&t, d, &f.groups, types, TYPES, true, NULL), 0);
    recipe_init(&r, "Q8_0");
    assert_int_equal(recipe_resolve(&r, d, NULL, &plan, NULL), 0);
    for (size_t g = 0; g < f.groups.n; g++) {
        uint64_t sum = 0;
        for (size_t i = 0; i < f.groups.items[g].n_tensors; i++)
            sum += plan.tensors[f.groups.items[g].tensors[i]].bytes;
        assert_int_equal(t.groups[g].bytes[4], sum); /* rows of 256: no padding here */
        assert_true(isnan(t.groups[g].kld[0]));
        for (int k = 1; k < TYPES; k++)
            assert_true(t.groups[g].bytes[k] > t.groups[g].bytes[k - 1]);
    }
    plan_release(&plan);
    recipe_release(&r);
    probe_table_release(&t);
    /* What needs an importance matrix is not possible without one. */
    assert_int_equal(probe_table_sizes(&t, d, &f.groups, needy, 2, false, NULL), 0);
    assert_int_equal(t.groups[group_named("blk.0.ffn_up")].bytes[1], 0);
    assert_true(t.groups[group_named("blk.0.ffn_up")].bytes[0] > 0);
    probe_table_release(&t);
}

/* After a probe the worker holds the original: its KL to the reference is zero. */
static void test_restores(void **state)
{
    struct probe_job job = job_of(1);
    struct score after;
    struct stat_mean probed;
    struct err e = {0};
    (void)state;
    if (probe_measure(&job, group_named("blk.2.ffn_down"), DT_Q2_K, &probed, &e) != 0)
        fail_msg("%s", e.message);
    assert_int_equal(measure_quality_loaded(&after, f.engine, &f.windows, &f.reference, NULL, &e),
                     0);
    assert_true(probed.mean > 1e-5);
    assert_true(fabs(after.kld_mean) < 1e-7);
    assert_true(fabs(after.ppl - after.ppl_base) < 1e-6 * after.ppl);
    score_release(&after);
}

/* The law behind the table: the KL of other types follows the encoder's error. */
static void test_predictions(void **state)
{
    static const char *const some[] = {"token_embd", "blk.0.ffn_down", "blk.4.attn_v"};
    struct probe_groups all = f.groups;
    struct probe_job job = job_of(1);
    struct probe_table t;
    struct err e = {0};
    (void)state;
    if (probe_run(&job, &t, &e) != 0)
        fail_msg("%s", e.message);
    assert_int_equal(t.n_groups, all.n);
    for (size_t g = 0; g < t.n_groups; g++)
        for (int k = 1; k < TYPES; k++) {
            assert_true(t.groups[g].error[k] < t.groups[g].error[k - 1]);
            assert_true(t.groups[g].kld[k] > 0 && t.groups[g].kld[k] < t.groups[g].kld[k - 1]);
        }
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        size_t g = group_named(some[i]);
        for (int k = 0; k < 3; k++) {
            struct stat_mean s;
            assert_int_equal(probe_measure(&job, g, types[k], &s, &e), 0);
            double ratio = t.groups[g].kld[k] / s.mean;
            if (ratio < 0.6 || ratio > 1.6)
                fail_msg("%s as %s: predicted %g, measured %g", some[i], dtype_name(types[k]),
                         t.groups[g].kld[k], s.mean);
        }
    }
    /* A set's KL is what its members' shares sum to. */
    size_t gate = group_named("blk.1.ffn_gate"), up = group_named("blk.1.ffn_up");
    assert_true(t.groups[gate].probe_kld > 0 && t.groups[up].probe_kld > 0);
    probe_table_release(&t);
}

struct heard {
    struct sensitivity s[64];
    int n;
};

static void on_group(void *ud, size_t group, const struct sensitivity *s)
{
    struct heard *h = ud;
    h->s[group] = *s;
    h->n++;
}

/* Errors are the same for any number of threads; what is known is not probed again. */
static void test_threads_and_known(void **state)
{
    struct heard one = {0}, two = {0};
    const struct sensitivity *known[64];
    struct probe_job job = job_of(1);
    struct probe_table a, b;
    struct err e = {0};
    (void)state;
    job.group_done = on_group;
    job.ud = &one;
    assert_int_equal(probe_run(&job, &a, &e), 0);
    assert_int_equal(one.n, f.groups.n);
    /* Stored and read back, into a table that lacks one of the types and has another. */
    static const enum dtype others[] = {DT_Q3_K, DT_Q4_K, DT_Q5_K};
    struct probe_table shape = {.n_types = 3};
    memcpy(shape.types, others, sizeof(others));
    for (size_t g = 0; g < f.groups.n; g++) {
        json_t *doc = sensitivity_json_new(&one.s[g], &a);
        assert_int_equal(sensitivity_from_json(&two.s[g], &shape, doc, &e), 0);
        assert_true(fabs(two.s[g].probe_kld - one.s[g].probe_kld) < 1e-15);
        assert_true(isnan(two.s[g].error[2]) && !isnan(two.s[g].error[1]));
        known[g] = &two.s[g];
        json_decref(doc);
    }
    job = job_of(3);
    job.types = others;
    job.n_types = 3;
    job.known = known;
    job.engine = NULL; /* nothing may be measured */
    assert_int_equal(probe_run(&job, &b, &e), 0);
    for (size_t g = 0; g < f.groups.n; g++) {
        assert_true(b.groups[g].error[0] == a.groups[g].error[1]); /* bit for bit */
        assert_true(fabs(b.groups[g].kld[1] / a.groups[g].kld[2] - 1) < 1e-12);
        assert_true(b.groups[g].kld[2] < b.groups[g].kld[1]);
    }
    probe_table_release(&a);
    probe_table_release(&b);
}

/* A probe reads as much as it needs; after an interruption what is left comes out the same, to the
 * last bit, as it does in one go. */
static void test_interrupted(void **state)
{
    struct heard whole = {0};
    const struct sensitivity *known[64] = {0};
    struct probe_job job = job_of(1);
    struct probe_table a, b;
    struct err e = {0};
    size_t known_sets = 0;
    (void)state;
    job.group_done = on_group;
    job.ud = &whole;
    assert_int_equal(probe_run(&job, &a, &e), 0);
    assert_int_equal(a.probed, f.groups.n_sets);
    assert_true(a.windows_read >= 2 * f.groups.n_sets);
    assert_true(a.windows_read < f.windows.n_windows * f.groups.n_sets);
    for (size_t g = 0; g < f.groups.n; g++)
        if (f.groups.items[g].set < f.groups.n_sets / 2)
            known[g] = &whole.s[g];
    known_sets = f.groups.n_sets / 2;
    job = job_of(1);
    job.known = known;
    assert_int_equal(probe_run(&job, &b, &e), 0);
    assert_int_equal(b.probed, f.groups.n_sets - known_sets);
    for (size_t g = 0; g < f.groups.n; g++)
        assert_memory_equal(a.groups[g].kld, b.groups[g].kld, TYPES * sizeof(double));
    probe_table_release(&a);
    probe_table_release(&b);
}

/* ---- without blocks ---- */

/* KL of a file that lacks the blocks, on the first `windows` windows. */
static double kld_of_file(const uint32_t *layers, size_t n, size_t windows)
{
    struct err e = {0};
    struct recipe r;
    struct model *m = NULL;
    struct bake_result done = {0};
    struct score s = {0};
    struct measure_options o = {.threads = 1};
    struct engine_windows w = f.windows;
    const char *root = getenv("SINTRA_ROOT");
    char *source = fs_join(root ? root : ".", "models/sample"), *path = fixture_path("less.gguf");
    w.n_windows = windows;
    recipe_init(&r, "F32");
    for (size_t i = 0; i < n; i++)
        recipe_drop_layer(&r, layers[i]);
    if (model_open(&m, source, &e) != 0 || surgery_apply(m, &r, &e) != 0)
        fail_msg("%s", e.message);
    struct bake_job job = {.model = m, .recipe = &r, .output = path, .threads = 1};
    if (bake_gguf(&job, &done, &e) != 0 || measure_quality(&s, path, &w, &f.reference, &o, &e) != 0)
        fail_msg("%s", e.message);
    double kld = s.kld_mean;
    score_release(&s);
    bake_result_release(&done);
    model_close(m);
    recipe_release(&r);
    xfree(source);
    xfree(path);
    return kld;
}

/* A block whose matrices into the stream are zero is a block that is not there. */
static void test_without_blocks(void **state)
{
    static const uint32_t one[] = {3}, two[] = {2, 6};
    struct probe_job job = job_of(1);
    struct stat_mean kld;
    struct err e = {0};
    size_t windows;
    (void)state;
    assert_null(probe_drop_obstacle(model_desc(f.model)));
    for (size_t n = 1; n <= 2; n++) {
        const uint32_t *layers = n == 1 ? one : two;
        if (probe_drop(&job, layers, n, &kld, &windows, &e) != 0)
            fail_msg("%s", e.message);
        double file = kld_of_file(layers, n, windows);
        assert_true(windows >= 2 && windows <= WINDOWS && file > 0.01);
        assert_true(fabs(kld.mean / file - 1) < 1e-4);
        assert_true(kld.low < kld.mean && kld.mean < kld.high);
    }
    /* The original is there again. */
    if (probe_drop(&job, one, 0, &kld, &windows, &e) != 0)
        fail_msg("%s", e.message);
    assert_true(fabs(kld.mean) < 1e-9);
}

static void test_obstacles(void **state)
{
    struct model_tensor tensors[] = {{.name = "blk.0.attn_output.weight", .layer = 0},
                                     {.name = "blk.0.attn_output.bias", .layer = 0},
                                     {.name = "blk.0.ffn_down_exps.weight", .layer = 0},
                                     {.name = "token_embd.weight", .layer = -1},
                                     {.name = "blk.1.ssm_out.weight", .layer = 1}};
    struct model_desc d = {.tensors = tensors, .n_tensors = 4};
    (void)state;
    assert_null(probe_drop_obstacle(&d));
    d.n_tensors = 5;
    assert_string_equal(probe_drop_obstacle(&d), "blk.1.ssm_out.weight");
}

static void test_bad_importance(void **state)
{
    struct imatrix wrong = {0};
    const float ones[4] = {1, 1, 1, 1};
    struct probe_job job = job_of(1);
    struct probe_table t;
    struct err e = {0};
    (void)state;
    imatrix_add(&wrong, "token_embd.weight", 4, 1, ones, ones);
    job.imatrix = &wrong;
    assert_int_equal(probe_run(&job, &t, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.message, "token_embd.weight"));
    imatrix_release(&wrong);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_shares_of_runs),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_restores),
        cmocka_unit_test(test_predictions),
        cmocka_unit_test(test_threads_and_known),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_without_blocks),
        cmocka_unit_test(test_obstacles),
        cmocka_unit_test(test_bad_importance),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
