/* Baking: the sample model and made-up GGUF files, whatever the threads; importance per expert;
 * every refusal leaves no file; the hash is the file's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/rng.h"
#include "base/stop.h"
#include "bake/bake.h"
#include "tensor/convert.h"

static char folder[512], sample[4096];

static char *in_folder(const char *name)
{
    return fs_join(folder, name);
}

static size_t files_in_folder(void)
{
    char **names;
    size_t n;

    assert_int_equal(fs_list(folder, &names, &n, NULL), 0);
    fs_list_free(names, n);
    return n;
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR"), *root = getenv("SINTRA_ROOT");

    (void)state;
    snprintf(folder, sizeof folder, "%s/sintra-bake-XXXXXX", tmp ? tmp : "/tmp");
    snprintf(sample, sizeof sample, "%s/models/sample", root ? root : ".");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(folder, NULL);
}

/* ---- made-up files ---- */

struct made_tensor {
    const char *name;
    uint64_t row, rows, depth;
    enum dtype type;
};

/* A GGUF with random normal numbers. poison: element of the first tensor to make NaN, or -1. */
static void make_gguf(const char *path, const struct made_tensor *list, size_t n, long poison)
{
    struct gguf_kvs kvs = {0};
    struct gguf_writer_tensor t[16];
    struct gguf_writer w;
    struct rng rng;
    struct err e = {0};

    rng_seed(&rng, 11);
    gguf_set_str(&kvs, "general.architecture", "made-up");
    gguf_set_u32(&kvs, "made-up.block_count", 2);
    gguf_set_u32(&kvs, "split.no", 0);
    for (size_t i = 0; i < n; i++)
        t[i] =
            (struct gguf_writer_tensor){.name = list[i].name,
                                        .dtype = list[i].type,
                                        .shape = {list[i].depth > 1  ? 3
                                                  : list[i].rows > 1 ? 2
                                                                     : 1,
                                                  {list[i].row, list[i].rows, list[i].depth, 1}}};
    if (gguf_writer_open(&w, path, &kvs, t, n, &e) != 0)
        fail_msg("%s", e.message);
    for (size_t i = 0; i < n; i++) {
        uint64_t rows = list[i].rows * list[i].depth, all = list[i].row * rows;
        float *f = xcalloc(all, sizeof *f);
        void *bytes = xcalloc(t[i].bytes, 1);
        for (uint64_t k = 0; k < all; k++)
            f[k] = (float)(rng_normal(&rng) * 0.05);
        if (i == 0 && poison >= 0)
            f[poison] = (float)NAN;
        if (dtype_info(t[i].dtype)->quantized)
            assert_int_equal(quant_encode(t[i].dtype, f, bytes, rows, list[i].row, NULL, NULL, &e),
                             0);
        else if (t[i].dtype == DT_I32)
            memset(bytes, 3, t[i].bytes);
        else
            assert_int_equal(convert_from_f32(t[i].dtype, f, bytes, all), 0);
        assert_int_equal(fs_atomic_write_at(&w.file, t[i].offset, bytes, t[i].bytes, &e), 0);
        xfree(f);
        xfree(bytes);
    }
    assert_int_equal(gguf_writer_commit(&w, &e), 0);
    gguf_kvs_release(&kvs);
}

static const struct made_tensor dense[] = {
    {"blk.0.attn_q.weight", 256, 3001, 1, DT_BF16}, /* several bands, the last one short */
    {"blk.0.attn_norm.weight", 256, 1, 1, DT_F32},
    {"token_embd.weight", 288, 100, 1, DT_F16},
    {"blk.1.ffn_down.weight", 512, 64, 1, DT_F32},
};

/* ---- one bake ---- */

struct baked {
    char *path;
    struct bake_result r;
};

static int try_bake(struct bake_job job, const char *model, const char *base, const char *output,
                    struct bake_result *r, struct err *e)
{
    struct model *m;
    struct recipe recipe;
    uint64_t planned = 0;
    int rc;

    *e = (struct err){0};
    if (model_open(&m, model, e) != 0)
        fail_msg("%s", e->message);
    recipe_init(&recipe, base);
    job.model = m;
    if (!job.recipe)
        job.recipe = &recipe;
    job.output = output;
    rc = bake_gguf(&job, r, e);
    if (rc == 0) {
        assert_int_equal(bake_plan_bytes(&job, &planned, NULL), 0);
        assert_int_equal(planned, r->bytes);
    }
    recipe_release(&recipe);
    model_close(m);
    return rc;
}

static struct baked bake(struct bake_job job, const char *model, const char *base,
                         const char *output)
{
    struct baked b = {.path = in_folder(output)};
    struct err e;

    if (try_bake(job, model, base, b.path, &b.r, &e) != 0)
        fail_msg("%s (%s)", e.message, e.hint);
    return b;
}

static void baked_release(struct baked *b)
{
    fs_remove(b->path, NULL);
    xfree(b->path);
    bake_result_release(&b->r);
}

static void expect_refusal(struct bake_job job, const char *model, const char *base,
                           const char *says)
{
    char *output = in_folder("refused.gguf");
    size_t before = files_in_folder();
    struct bake_result r;
    struct err e;

    assert_int_equal(try_bake(job, model, base, output, &r, &e), -1);
    if (!strstr(e.message, says))
        fail_msg("'%s' does not say '%s'", e.message, says);
    assert_int_equal(files_in_folder(), before);
    xfree(output);
}

/* ---- what comes out ---- */

static void test_sample_all_threads(void **state)
{
    static const int threads[] = {1, 2, 5};
    static const char *const bases[] = {"Q4_K_M", "Q8_0", "BF16", "F32"};

    (void)state;
    for (size_t k = 0; k < 4; k++) {
        char first[65] = "";
        struct quant_error errors = {0};
        for (size_t t = 0; t < 3; t++) {
            char hex[65];
            struct bake_job job = {.threads = threads[t], .want_errors = true};
            struct baked b = bake(job, sample, bases[k], "sample.gguf");
            assert_int_equal(hash_sha256_file(b.path, hex, NULL), 0);
            assert_string_equal(hex, b.r.sha256);
            if (t > 0) {
                assert_string_equal(b.r.sha256, first);
                assert_memory_equal(&errors, &b.r.errors[1], sizeof errors);
            }
            memcpy(first, hex, sizeof first);
            errors = b.r.errors[1];
            baked_release(&b);
        }
    }
    assert_int_equal(files_in_folder(), 0);
}

static void sample_of(const char *path, float out[MODEL_SAMPLE])
{
    struct model *m;
    size_t n;

    assert_int_equal(model_open(&m, path, NULL), 0);
    assert_int_equal(model_sample(m, out, &n, NULL), 0);
    assert_int_equal(n, MODEL_SAMPLE);
    model_close(m);
}

/* A few weights tell a model in any type from others with the same shapes. */
static void test_likeness(void **state)
{
    static const struct {
        const char *type;
        double least;
    } cases[] = {{"F16", 0.99999}, {"Q8_0", 0.9999}, {"Q4_0", 0.98}, {"Q2_K", 0.9}};
    float own[MODEL_SAMPLE], other[MODEL_SAMPLE];

    (void)state;
    sample_of(sample, own);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct baked b = bake((struct bake_job){.threads = 2}, sample, cases[i].type, "like.gguf");
        sample_of(b.path, other);
        double like = model_sample_likeness(own, other, MODEL_SAMPLE);
        if (like < cases[i].least)
            fail_msg("%s: %g", cases[i].type, like);
        baked_release(&b);
    }
    for (size_t i = 0; i < MODEL_SAMPLE; i++)
        other[i] = own[(i * 37 + 11) % MODEL_SAMPLE]; /* the same numbers at other places */
    assert_true(fabs(model_sample_likeness(own, other, MODEL_SAMPLE)) < 0.25);
}

static void test_sample_values(void **state)
{
    struct baked b = bake((struct bake_job){.threads = 2}, sample, "Q8_0", "sample.gguf");
    struct model *from, *to;
    double squared = 0, reference = 0;

    (void)state;
    assert_int_equal(model_open(&from, sample, NULL), 0);
    assert_int_equal(model_open(&to, b.path, NULL), 0);
    for (size_t i = 0; i < model_desc(from)->n_tensors; i++) {
        const struct model_tensor *t = &model_desc(from)->tensors[i];
        int j = model_find(to, t->name);
        float x[4096], y[4096];
        assert_true(j >= 0 && t->shape.ne[0] <= 4096);
        for (uint64_t row = 0; row < shape_rows(&t->shape); row++) {
            assert_int_equal(model_rows(from, (int)i, row, 1, x, NULL), 0);
            assert_int_equal(model_rows(to, j, row, 1, y, NULL), 0);
            for (uint64_t k = 0; k < t->shape.ne[0]; k++) {
                squared += (double)(x[k] - y[k]) * (double)(x[k] - y[k]);
                reference += (double)x[k] * (double)x[k];
            }
        }
    }
    assert_true(squared > 0 && squared / reference < 1e-4);
    model_close(from);
    model_close(to);
    baked_release(&b);
}

static void test_metadata(void **state)
{
    struct baked b = bake((struct bake_job){0}, sample, "Q4_K_M", "sample.gguf");
    struct gguf g;
    uint64_t v;

    (void)state;
    assert_int_equal(gguf_open(&g, b.path, GGUF_CHECK_MODEL, NULL), 0);
    assert_true(gguf_get_u64(&g.kvs, "general.file_type", &v) && v == 15);
    assert_true(gguf_get_u64(&g.kvs, "general.quantization_version", &v) && v == 2);
    assert_null(gguf_kvs_find(&g.kvs, "quantize.imatrix.entries_count"));
    assert_string_equal(gguf_get_str(&g.kvs, "general.architecture"), "llama");
    gguf_close(&g);
    baked_release(&b);
}

/* Shape by shape against the encoder called directly on the whole tensor. */
static void expect_tensor(const struct gguf *g, const struct model *from, const char *name,
                          const float *weights, uint64_t n_mat)
{
    const struct gguf_tensor *t = gguf_find(g, name);
    uint64_t n = t->shape.ne[0], rows = shape_rows(&t->shape), per = rows / n_mat;
    float *f = xcalloc(n * rows, sizeof *f);
    uint8_t *expected = xcalloc(t->bytes, 1);

    assert_int_equal(model_rows(from, model_find(from, name), 0, rows, f, NULL), 0);
    for (uint64_t k = 0; k < n_mat; k++)
        assert_int_equal(quant_encode(t->dtype, f + k * per * n, expected + k * (t->bytes / n_mat),
                                      per, n, weights ? weights + k * n : NULL, NULL, NULL),
                         0);
    assert_memory_equal(gguf_tensor_data(g, t), expected, t->bytes);
    xfree(f);
    xfree(expected);
}

static void test_bytes_of_every_band(void **state)
{
    char *source = in_folder("dense.gguf");
    struct baked b;
    struct model *from;
    struct gguf g;

    (void)state;
    make_gguf(source, dense, 4, -1);
    b = bake((struct bake_job){.threads = 3}, source, "Q4_K_S", "out.gguf");
    assert_int_equal(model_open(&from, source, NULL), 0);
    assert_int_equal(gguf_open(&g, b.path, GGUF_CHECK_MODEL, NULL), 0);
    assert_int_equal(gguf_find(&g, "blk.0.attn_q.weight")->dtype, DT_Q4_K);
    assert_int_equal(gguf_find(&g, "token_embd.weight")->dtype, DT_Q8_0); /* rows of 288 */
    for (size_t i = 0; i < 4; i++)
        expect_tensor(&g, from, dense[i].name, NULL, 1);
    assert_null(gguf_kvs_find(&g.kvs, "split.no"));
    gguf_close(&g);
    model_close(from);
    baked_release(&b);
    fs_remove(source, NULL);
    xfree(source);
}

static void test_same_type_is_copied(void **state)
{
    char *source = in_folder("dense.gguf");
    struct baked once, twice;
    struct gguf x, y;

    (void)state;
    make_gguf(source, dense, 4, -1);
    once = bake((struct bake_job){0}, source, "Q6_K", "once.gguf");
    twice = bake((struct bake_job){0}, once.path, "Q6_K", "twice.gguf");
    assert_int_equal(gguf_open(&x, once.path, GGUF_CHECK_MODEL, NULL), 0);
    assert_int_equal(gguf_open(&y, twice.path, GGUF_CHECK_MODEL, NULL), 0);
    for (size_t i = 0; i < x.n_tensors; i++)
        assert_memory_equal(gguf_tensor_data(&x, &x.tensors[i]),
                            gguf_tensor_data(&y, gguf_find(&y, x.tensors[i].name)),
                            x.tensors[i].bytes);
    assert_string_equal(once.r.sha256, twice.r.sha256);
    struct baked plain = bake((struct bake_job){.no_hash = true}, once.path, "Q6_K", "plain.gguf");
    char hex[65];
    assert_int_equal(hash_sha256_file(plain.path, hex, NULL), 0);
    assert_string_equal(hex, twice.r.sha256); /* the same file */
    assert_string_equal(plain.r.sha256, "");
    baked_release(&plain);
    gguf_close(&x);
    gguf_close(&y);
    baked_release(&once);
    baked_release(&twice);
    fs_remove(source, NULL);
    xfree(source);
}

/* Integers and doubles that are not for encoding pass through. */
static void test_other_types_are_copied(void **state)
{
    static const struct made_tensor odd[] = {
        {"blk.0.ffn_gate_tid2eid.weight", 32, 700, 1, DT_I32},
        {"blk.0.ssm_a", 300, 1, 1, DT_F64},
        {"blk.0.attn_q.weight", 256, 16, 1, DT_F32},
    };
    char *source = in_folder("odd.gguf");
    struct baked b;
    struct gguf x, y;

    (void)state;
    make_gguf(source, odd, 3, -1);
    b = bake((struct bake_job){0}, source, "Q4_K_S", "out.gguf");
    assert_int_equal(gguf_open(&x, source, GGUF_CHECK_MODEL, NULL), 0);
    assert_int_equal(gguf_open(&y, b.path, GGUF_CHECK_MODEL, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(y.tensors[i].dtype, odd[i].type);
        assert_memory_equal(gguf_tensor_data(&x, &x.tensors[i]),
                            gguf_tensor_data(&y, &y.tensors[i]), x.tensors[i].bytes);
    }
    gguf_close(&x);
    gguf_close(&y);
    baked_release(&b);
    fs_remove(source, NULL);
    xfree(source);
}

/* ---- importance ---- */

static void fill_weights(float *w, size_t n, uint64_t seed)
{
    struct rng rng;

    rng_seed(&rng, seed);
    for (size_t k = 0; k < n; k++)
        w[k] = (float)(rng_unit(&rng) * 4 + 0.01);
}

static void test_importance_per_expert(void **state)
{
    static const struct made_tensor experts[] = {
        {"blk.0.ffn_down_exps.weight", 512, 300, 3, DT_F32},
        {"blk.1.attn_q.weight", 256, 40, 1, DT_F32},
    };
    char *source = in_folder("experts.gguf");
    float weights[3 * 512], counts[3] = {5, 6, 7};
    struct imatrix x = {0};
    struct baked b;
    struct model *from;
    struct gguf g;
    uint64_t v;

    (void)state;
    make_gguf(source, experts, 2, -1);
    fill_weights(weights, 3 * 512, 3);
    imatrix_add(&x, "blk.0.ffn_down_exps.weight", 512, 3, weights, counts);
    x.chunk_count = 9;
    b = bake((struct bake_job){.imatrix = &x, .imatrix_name = "some.imatrix", .threads = 2}, source,
             "Q4_K_S", "out.gguf");
    assert_int_equal(model_open(&from, source, NULL), 0);
    assert_int_equal(gguf_open(&g, b.path, GGUF_CHECK_MODEL, NULL), 0);
    expect_tensor(&g, from, "blk.0.ffn_down_exps.weight", weights, 3);
    expect_tensor(&g, from, "blk.1.attn_q.weight", NULL, 1);
    assert_string_equal(gguf_get_str(&g.kvs, "quantize.imatrix.file"), "some.imatrix");
    assert_true(gguf_get_u64(&g.kvs, "quantize.imatrix.entries_count", &v) && v == 1);
    assert_true(gguf_get_u64(&g.kvs, "quantize.imatrix.chunks_count", &v) && v == 9);
    gguf_close(&g);
    model_close(from);
    imatrix_release(&x);
    baked_release(&b);
    fs_remove(source, NULL);
    xfree(source);
}

static void test_importance_refusals(void **state)
{
    char *source = in_folder("dense.gguf");
    float weights[4096], counts[16] = {1};
    struct imatrix other = {0}, longer = {0}, partly = {0};

    (void)state;
    make_gguf(source, dense, 4, -1);
    fill_weights(weights, 4096, 5);
    imatrix_add(&other, "blk.0.ssm_in.weight", 256, 1, weights, counts);
    imatrix_add(&longer, "blk.0.attn_q.weight", 512, 1, weights, counts);
    imatrix_add(&partly, "blk.0.attn_q.weight", 256, 1, weights, counts);
    expect_refusal((struct bake_job){.imatrix = &other}, source, "Q4_K_S", "names a tensor");
    expect_refusal((struct bake_job){.imatrix = &longer}, source, "Q4_K_S",
                   "blk.0.attn_q.weight has 512 weights, the tensor needs 256");
    expect_refusal((struct bake_job){0}, source, "IQ2_XS", "needs an importance matrix");
    expect_refusal((struct bake_job){.imatrix = &partly}, source, "IQ2_XS",
                   "blk.1.ffn_down.weight as IQ2_XS needs importance weights");
    partly.entries[0].values[7] = (float)INFINITY;
    expect_refusal((struct bake_job){.imatrix = &partly}, source, "Q4_K_S", "not a finite");
    imatrix_release(&other);
    imatrix_release(&longer);
    imatrix_release(&partly);
    fs_remove(source, NULL);
    xfree(source);
}

/* The embedding's entry may have any length; it is left aside. */
static void test_importance_of_embedding(void **state)
{
    char *source = in_folder("dense.gguf");
    float weights[512], counts[1] = {1};
    struct imatrix x = {0};
    struct baked b;

    (void)state;
    make_gguf(source, dense, 4, -1);
    fill_weights(weights, 512, 5);
    imatrix_add(&x, "token_embd.weight", 7, 1, weights, counts);
    imatrix_add(&x, "blk.1.ffn_down.weight", 512, 1, weights, counts);
    b = bake((struct bake_job){.imatrix = &x}, source, "Q4_K_S", "out.gguf");
    baked_release(&b);
    imatrix_release(&x);
    fs_remove(source, NULL);
    xfree(source);
}

static void test_recipe_importance(void **state)
{
    char *source = in_folder("dense.gguf");
    float weights[256], counts[1] = {1};
    struct imatrix x = {0};
    struct recipe r;
    struct bake_job job = {.recipe = &r};

    (void)state;
    make_gguf(source, dense, 4, -1);
    recipe_init(&r, "Q4_K_S");
    r.importance = xstrdup("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    expect_refusal(job, source, "Q4_K_S", "none is given");
    fill_weights(weights, 256, 5);
    imatrix_add(&x, "blk.0.attn_q.weight", 256, 1, weights, counts);
    memset(x.sha256, 'b', 64);
    job.imatrix = &x;
    expect_refusal(job, source, "Q4_K_S", "the one given has bbbb");
    recipe_release(&r);
    imatrix_release(&x);
    fs_remove(source, NULL);
    xfree(source);
}

/* ---- refusals ---- */

static void test_requantize(void **state)
{
    static const struct made_tensor eight[] = {{"blk.0.attn_q.weight", 256, 64, 1, DT_Q8_0}};
    char *source = in_folder("eight.gguf");
    struct baked b;

    (void)state;
    make_gguf(source, eight, 1, -1);
    expect_refusal((struct bake_job){0}, source, "Q4_K_S",
                   "blk.0.attn_q.weight is already quantized");
    b = bake((struct bake_job){.allow_requantize = true}, source, "Q4_K_S", "out.gguf");
    baked_release(&b);
    b = bake((struct bake_job){0}, source, "Q8_0", "out.gguf");
    baked_release(&b);
    fs_remove(source, NULL);
    xfree(source);
}

static void test_nan(void **state)
{
    char *source = in_folder("nan.gguf");

    (void)state;
    make_gguf(source, dense, 4, 256 * 2000 + 5);
    for (int threads = 1; threads < 4; threads++) {
        expect_refusal((struct bake_job){.threads = threads}, source, "Q4_K_S",
                       "blk.0.attn_q.weight");
        expect_refusal((struct bake_job){.threads = threads}, source, "BF16", "row 2000, column 5");
    }
    fs_remove(source, NULL);
    xfree(source);
}

static void test_output_refusals(void **state)
{
    char *source = in_folder("dense.gguf"), hex[65], again[65];
    struct bake_result r;
    struct err e;

    (void)state;
    make_gguf(source, dense, 4, -1);
    assert_int_equal(hash_sha256_file(source, hex, NULL), 0);
    assert_int_equal(try_bake((struct bake_job){0}, source, "Q8_0", source, &r, &e), -1);
    assert_non_null(strstr(e.message, "is the model itself"));
    assert_int_equal(hash_sha256_file(source, again, NULL), 0);
    assert_string_equal(hex, again);
    assert_int_equal(try_bake((struct bake_job){0}, source, "Q8_0", "/nowhere/at/all.gguf", &r, &e),
                     -1);
    assert_int_equal(try_bake((struct bake_job){0}, source, "Q8_0", folder, &r, &e), -1);
    fs_remove(source, NULL);
    assert_int_equal(files_in_folder(), 0);
    xfree(source);
}

static void test_interrupted(void **state)
{
    char *output = in_folder("out.gguf");
    struct bake_result r;
    struct err e;

    (void)state;
    stop_request();
    assert_int_equal(try_bake((struct bake_job){.threads = 2}, sample, "Q4_K_M", output, &r, &e),
                     -1);
    stop_reset();
    assert_int_equal(e.code, ERR_INTERRUPTED);
    assert_int_equal(files_in_folder(), 0);
    xfree(output);
}

static void stop_at_half(void *ud, const char *phase, double done, double total, const char *detail)
{
    (void)ud, (void)phase, (void)detail;
    if (done > total / 2)
        stop_request();
}

static void test_interrupted_half_way(void **state)
{
    struct progress progress = {.update = stop_at_half};
    char *output = in_folder("out.gguf");
    struct bake_result r;
    struct err e;

    (void)state;
    assert_int_equal(try_bake((struct bake_job){.threads = 2, .progress = &progress}, sample,
                              "Q8_0", output, &r, &e),
                     -1);
    stop_reset();
    assert_int_equal(e.code, ERR_INTERRUPTED);
    assert_int_equal(files_in_folder(), 0);
    xfree(output);
}

static uint64_t anonymous(void)
{
    struct proc_memory m;

    assert_int_equal(proc_memory(getpid(), &m), 0);
    return m.rss_anon;
}

static void watch_memory(void *ud, const char *phase, double done, double total, const char *detail)
{
    uint64_t *most = ud, now = anonymous();

    (void)phase, (void)done, (void)total, (void)detail;
    *most = now > *most ? now : *most;
}

/* A tensor of 32 M elements, a hole on the disk: as floats it would be 128 MiB. */
static void test_memory_is_bounded(void **state)
{
    struct gguf_writer_tensor t = {
        .name = "blk.0.ffn_up.weight", .dtype = DT_BF16, .shape = {2, {8192, 4096, 1, 1}}};
    char *source = in_folder("large.gguf");
    struct gguf_kvs kvs = {0};
    struct gguf_writer w;
    uint64_t most = 0, before = anonymous();
    struct progress progress = {.update = watch_memory, .ud = &most};
    struct baked b;

    (void)state;
    gguf_set_str(&kvs, "general.architecture", "made-up");
    assert_int_equal(gguf_writer_open(&w, source, &kvs, &t, 1, NULL), 0);
    assert_int_equal(gguf_writer_commit(&w, NULL), 0);
    gguf_kvs_release(&kvs);
    b = bake((struct bake_job){.threads = 4, .progress = &progress}, source, "Q8_0", "out.gguf");
    print_message("anonymous memory: %.1f MiB more\n", (double)(most - before) / 1048576);
#ifndef __SANITIZE_THREAD__ /* its shadow memory counts */
    assert_true(most > 0 && most - before < 32u << 20);
#endif
    baked_release(&b);
    fs_remove(source, NULL);
    xfree(source);
}

/* A file system of one megabyte; needs the right to mount. */
static void test_full_disk(void **state)
{
    char *small = in_folder("small"), *output;
    char **names;
    size_t n;
    struct bake_result r;
    struct err e;

    (void)state;
    assert_int_equal(fs_mkdirs(small, NULL), 0);
    if (mount("sintra-test", small, "tmpfs", 0, "size=1m") != 0) {
        rmdir(small);
        xfree(small);
        print_message("skipped: no right to mount a small tmpfs\n");
        skip();
    }
    output = fs_join(small, "out.gguf");
    int rc = try_bake((struct bake_job){0}, sample, "Q4_K_M", output, &r, &e);
    assert_int_equal(fs_list(small, &names, &n, NULL), 0);
    fs_list_free(names, n);
    umount(small);
    rmdir(small);
    assert_int_equal(rc, -1);
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.message, "space"));
    assert_int_equal(n, 0);
    xfree(output);
    xfree(small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample_all_threads),
        cmocka_unit_test(test_likeness),
        cmocka_unit_test(test_sample_values),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_bytes_of_every_band),
        cmocka_unit_test(test_same_type_is_copied),
        cmocka_unit_test(test_other_types_are_copied),
        cmocka_unit_test(test_importance_per_expert),
        cmocka_unit_test(test_importance_refusals),
        cmocka_unit_test(test_importance_of_embedding),
        cmocka_unit_test(test_recipe_importance),
        cmocka_unit_test(test_requantize),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_output_refusals),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_interrupted_half_way),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests_name("bake", tests, setup, teardown);
}
