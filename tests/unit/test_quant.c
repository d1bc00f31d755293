/* quant: every type encodes, decodes and reports its error; what cannot be encoded is refused by a
 * sentence and never reaches an encoder that would abort. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "base/thread.h"
#include "quant/quant.h"
#include "tensor/convert.h"

enum { ROWS = 12, COLUMNS = 512, VALUES = ROWS * COLUMNS };

static float x[VALUES], y[VALUES], weights[COLUMNS];
static uint8_t blocks[VALUES * 4 + 1], again[VALUES * 4 + 1];

static void fill(uint64_t seed, float scale)
{
    struct rng r;
    rng_seed(&r, seed);
    for (int i = 0; i < VALUES; i++)
        x[i] = (float)rng_normal(&r) * scale;
    for (int j = 0; j < COLUMNS; j++)
        weights[j] = (float)(0.01 + rng_unit(&r));
}

/* What a type of so many bits may lose, as relative squared error on normal data: a little above
 * what ggml's encoders reach. Ternary types and those of one and two plain bits are for other
 * data. */
static double loss_max(const struct dtype_info *t)
{
    static const struct {
        double bits, loss;
    } steps[] = {{16, 4e-6},  {8, 5e-5},   {6.5, 4e-4}, {5.5, 2.2e-3}, {5, 7e-3},
                 {4, 1.4e-2}, {3, 5.5e-2}, {2.5, 0.1},  {2.05, 0.14},  {0, 0.36}};
    if (t->id == DT_TQ1_0 || t->id == DT_TQ2_0 || t->id == DT_Q2_0)
        return 0.7;
    int i = 0;
    while (8.0 * t->bytes / t->block < steps[i].bits)
        i++;
    return steps[i].loss;
}

static uint64_t bytes_of(const struct dtype_info *t, uint64_t rows)
{
    uint64_t bytes = 0;
    assert_true(dtype_bytes(t->id, rows * COLUMNS, COLUMNS, &bytes));
    return bytes;
}

/* ---- every type ------------------------------------------------------------------------------ */

static void check_type(const struct dtype_info *t, const float *importance)
{
    struct err e = {0};
    struct quant_error error = {0};
    uint64_t bytes = bytes_of(t, ROWS);
    double squared = 0, weighted = 0, norm = 0;
    memset(blocks, 0xa5, sizeof blocks);
    if (quant_encode(t->id, x, blocks, ROWS, COLUMNS, importance, &error, &e))
        fail_msg("%s: %s", t->name, e.message);
    assert_int_equal(blocks[bytes], 0xa5);
    assert_true(quant_blocks_finite(t->id, blocks, bytes));
    assert_int_equal(quant_decode(t->id, blocks, y, ROWS, COLUMNS, &e), 0);
    for (int i = 0; i < VALUES; i++) {
        double d = (double)x[i] - (double)y[i];
        squared += d * d;
        weighted += d * d * (importance ? (double)importance[i % COLUMNS] : 1.0);
        norm += (double)x[i] * (double)x[i];
    }
    if (squared / norm > loss_max(t))
        fail_msg("%s loses %.5f, at most %.5f", t->name, squared / norm, loss_max(t));
    assert_true(fabs(error.squared - squared) <= 1e-6 * squared);
    assert_true(fabs(error.weighted - weighted) <= 1e-6 * weighted);
}

static void every_type(void **state)
{
    const struct dtype_info *t;
    int n = 0;
    (void)state;
    fill(1, 0.02f);
    for (int i = 0; (t = dtype_at(i)); i++) {
        if (!t->encodable || t->id == DT_Q1_0) /* a sign each: it promises no error */
            continue;
        struct err e = {0};
        assert_int_equal(quant_prepare(t->id, &e), 0);
        if (!t->needs_importance)
            check_type(t, NULL);
        check_type(t, weights);
        n++;
    }
    assert_true(n >= 24);
}

static void plain_floats(void **state)
{
    (void)state;
    fill(2, 1.0f);
    struct err e = {0};
    assert_int_equal(quant_encode(DT_F32, x, blocks, ROWS, COLUMNS, NULL, NULL, &e), 0);
    assert_memory_equal(blocks, x, sizeof x);
    assert_int_equal(quant_encode(DT_BF16, x, blocks, ROWS, COLUMNS, weights, NULL, &e), 0);
    assert_int_equal(convert_from_f32(DT_BF16, x, again, VALUES), 0);
    assert_memory_equal(blocks, again, VALUES * 2);
    assert_int_equal(quant_encode(DT_F16, x, blocks, ROWS, COLUMNS, NULL, NULL, &e), 0);
    assert_int_equal(quant_decode(DT_F16, blocks, y, ROWS, COLUMNS, &e), 0);
    assert_true(fabsf(y[7] - x[7]) <= fabsf(x[7]) * 0x1p-11f);
}

/* ---- bytes do not depend on how the work is cut ---------------------------------------------- */

struct job {
    enum dtype type;
    uint64_t row_bytes;
};

static int encode_row(void *ud, size_t row, int worker)
{
    struct job *j = ud;
    (void)worker;
    return quant_encode(j->type, x + row * COLUMNS, again + row * j->row_bytes, 1, COLUMNS, weights,
                        NULL, NULL);
}

static void same_bytes_for_any_cut(void **state)
{
    const struct dtype_info *t;
    (void)state;
    fill(3, 0.05f);
    for (int i = 0; (t = dtype_at(i)); i++) {
        if (!t->encodable)
            continue;
        struct job j = {t->id, bytes_of(t, 1)};
        memset(again, 0, sizeof again);
        assert_int_equal(quant_encode(t->id, x, blocks, ROWS, COLUMNS, weights, NULL, NULL), 0);
        assert_int_equal(thread_parallel_for(5, ROWS, encode_row, &j), 0);
        assert_memory_equal(blocks, again, bytes_of(t, ROWS));
    }
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void refused(enum dtype type, uint64_t n_per_row, const float *importance, const char *words)
{
    struct err e = {0};
    int rc = quant_encode(type, x, blocks, 2, n_per_row, importance, NULL, &e);
    if (rc != -1 || !strstr(e.message, words))
        fail_msg("wanted \"%s\", got \"%s\"", words, rc ? e.message : "(encoded)");
}

static void bad_values(void **state)
{
    (void)state;
    fill(4, 1.0f);
    float keep = x[COLUMNS + 17];
    x[COLUMNS + 17] = NAN;
    refused(DT_Q4_K, COLUMNS, NULL, "a weight in column 17 is NaN");
    refused(DT_F32, COLUMNS, NULL, "a weight in column 17 is NaN");
    x[COLUMNS + 17] = -INFINITY;
    refused(DT_Q8_0, COLUMNS, NULL, "a weight in column 17 is infinite");
    refused(DT_MXFP4, COLUMNS, NULL, "a weight in column 17 is infinite");
    refused(DT_BF16, COLUMNS, NULL, "a weight in column 17 is infinite");
    x[COLUMNS + 17] = -1e20f;
    refused(DT_Q3_K, COLUMNS, NULL, "a weight in column 17 is -1e+20, too large for Q3_K");
    refused(DT_IQ3_S, COLUMNS, NULL, "too large for IQ3_S");
    refused(DT_F16, COLUMNS, NULL, "too large for F16");
    x[COLUMNS + 17] = 1e9f;
    refused(DT_Q4_0, COLUMNS, NULL, "too large for Q4_0: a block would not be finite");
    x[COLUMNS + 17] = 3.4e38f; /* the largest BF16 is below this */
    refused(DT_BF16, COLUMNS, NULL, "too large for BF16");
    x[COLUMNS + 17] = keep;
    assert_int_equal(quant_encode(DT_F32, x, blocks, 2, COLUMNS, NULL, NULL, NULL), 0);
}

static void bad_importance(void **state)
{
    static const enum dtype hungry[] = {DT_IQ1_S, DT_IQ2_XXS, DT_IQ2_XS};
    static const float bad[] = {-1e-9f, NAN, INFINITY, 1e16f};
    (void)state;
    fill(5, 1.0f);
    for (int i = 0; i < 3; i++)
        refused(hungry[i], COLUMNS, NULL, "needs an importance matrix");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        weights[3] = bad[i];
        refused(DT_Q4_K, COLUMNS, weights, "the importance of column 3 is");
    }
    weights[3] = 0;
    assert_int_equal(quant_encode(DT_IQ2_XS, x, blocks, 2, COLUMNS, weights, NULL, NULL), 0);
}

static void bad_shapes_and_types(void **state)
{
    struct err e = {0};
    (void)state;
    fill(6, 1.0f);
    refused(DT_Q4_K, 288, NULL, "rows of 288 elements cannot be Q4_K, which has blocks of 256");
    refused(DT_Q8_0, 0, NULL, "rows of 0 elements");
    refused(DT_I32, COLUMNS, NULL, "type I32 cannot be written");
    refused(DT_Q8_K, COLUMNS, NULL, "type Q8_K cannot be written");
    refused(DT_NONE, COLUMNS, NULL, "cannot be written");
    assert_int_equal(quant_prepare(DT_Q8_1, &e), -1);
    assert_int_equal(quant_decode(DT_Q8_K, blocks, y, 1, 256, &e), -1);
    assert_non_null(strstr(e.message, "Q8_K cannot be read as numbers"));
    assert_int_equal(quant_decode((enum dtype)31, blocks, y, 1, 256, &e), -1);
    assert_int_equal(quant_encode(DT_Q4_K, x, blocks, UINT64_MAX / 256, 512, NULL, NULL, &e), -1);
    assert_int_equal(quant_encode(DT_Q4_K, x, blocks, 0, 512, NULL, NULL, &e), 0);
    assert_false(quant_blocks_finite(DT_Q4_K, blocks, 143));
    assert_false(quant_blocks_finite((enum dtype)31, blocks, 144));
}

/* Several types from one read: the bytes and errors of one call each, over more rows than one
 * group. */
static void many_types_at_once(void **state)
{
    enum { MANY = 70, N = 1024, TYPES = 4 };
    static float rows[MANY * N];
    static uint8_t one[MANY * N * 4], several[TYPES][MANY * N * 4];
    struct quant_want w[TYPES] = {{.type = DT_Q4_K, .dst = several[0]},
                                  {.type = DT_Q8_0, .dst = several[1]},
                                  {.type = DT_IQ3_S},
                                  {.type = DT_BF16, .dst = several[3]}};
    struct err e;
    (void)state;
    for (int i = 0; i < MANY * N; i++)
        rows[i] = (float)((i * 37 + i / 7 % 101) % 211 - 105) * 0.01f;
    assert_int_equal(quant_encode_many(w, TYPES, rows, MANY, N, NULL, &e), 0);
    for (int k = 0; k < TYPES; k++) {
        struct quant_error error = {0};
        uint64_t bytes;
        assert_int_equal(quant_encode(w[k].type, rows, one, MANY, N, NULL, &error, &e), 0);
        assert_true(dtype_bytes(w[k].type, MANY * N, N, &bytes));
        if (w[k].dst)
            assert_memory_equal(one, w[k].dst, bytes);
        assert_true(error.squared == w[k].error.squared && error.squared > 0);
    }
    rows[69 * N + 5] = NAN;
    assert_int_equal(quant_encode_many(w, TYPES, rows, MANY, N, NULL, &e), -1);
    assert_non_null(strstr(e.message, "a weight in column 5 is NaN"));
    w[2].type = DT_IQ2_XS;
    assert_int_equal(quant_encode_many(w, TYPES, rows, MANY, N, NULL, &e), -1);
    assert_non_null(strstr(e.message, "IQ2_XS needs an importance matrix"));
}

/* ---- rows as they are stored ----------------------------------------------------------------- */

static const enum dtype stored_types[] = {DT_F32, DT_F16, DT_BF16};
static const enum dtype straight[] = {DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q8_0};
enum { STORED = 3, STRAIGHT = 5 };

/* Bytes and errors are those of the same rows as floats: of every number of blocks, so of batches
 * that are full and not, at any address. */
static void stored_rows_encode_alike(void **state)
{
    static uint8_t rows[VALUES * 4 + 1];
    struct err e;
    (void)state;
    fill(11, 0.5f);
    for (int k = 0; k < STORED * STRAIGHT; k++) {
        enum dtype stored = stored_types[k % STORED], type = straight[k / STORED];
        const float *importance = type == DT_Q8_0 ? weights : NULL;
        convert_from_f32(stored, x, rows + 1, VALUES);
        assert_int_equal(convert_to_f32(stored, rows + 1, y, VALUES), 0);
        for (uint64_t n = 32; n <= COLUMNS; n += 32) {
            struct quant_error one = {0}, other = {0};
            uint64_t count = VALUES / n, bytes;
            assert_true(dtype_bytes(type, count * n, n, &bytes));
            blocks[bytes] = again[bytes] = 0xa5;
            assert_int_equal(quant_encode(type, y, blocks, count, n, importance, &one, &e), 0);
            assert_int_equal(quant_encode_stored(type, stored, rows + 1, again, count, n,
                                                 importance, &other, &e),
                             0);
            assert_memory_equal(blocks, again, bytes + 1);
            assert_true(one.squared == other.squared && one.weighted == other.weighted);
            assert_true(one.squared > 0);
        }
    }
}

/* Damage is seen wherever it is, though nothing looks for it before the encoder. */
static void stored_damage_is_named(void **state)
{
    static const float damage[] = {NAN, INFINITY, -INFINITY};
    enum { N = 544 }; /* seventeen blocks: a batch and one more */
    uint8_t rows[N * 4];
    char expected[64];
    struct err e;
    (void)state;
    fill(12, 0.5f);
    for (int i = 0; i < N; i++) {
        float good = x[i];
        for (int k = 0; k < STORED * STRAIGHT * 3; k++) {
            enum dtype stored = stored_types[k % STORED], type = straight[k / STORED % STRAIGHT];
            float bad = damage[k / STORED / STRAIGHT];
            x[i] = bad;
            convert_from_f32(stored, x, rows, N);
            assert_int_equal(quant_encode_stored(type, stored, rows, blocks, 1, N, NULL, NULL, &e),
                             -1);
            snprintf(expected, sizeof expected, "column %d is %s", i,
                     isnan(bad) ? "NaN" : "infinite");
            if (!strstr(e.message, expected))
                fail_msg("%s: %s, not %s", dtype_name(type), e.message, expected);
        }
        x[i] = good;
    }
    x[7] = 3e8f;
    assert_int_equal(quant_encode_stored(DT_Q8_0, DT_F32, x, blocks, 1, N, NULL, NULL, &e), -1);
    assert_non_null(strstr(e.message, "too large for Q8_0: a block would not be finite"));
    x[7] = 3e9f;
    assert_int_equal(quant_encode_stored(DT_Q4_1, DT_F32, x, blocks, 1, N, NULL, NULL, &e), -1);
    assert_non_null(strstr(e.message, "column 7 is 3e+09, too large for Q4_1"));
    assert_int_equal(quant_encode_stored(DT_Q4_K, DT_F32, x, blocks, 1, 256, NULL, NULL, &e), -1);
    assert_non_null(strstr(e.message, "Q4_K cannot be encoded straight from F32"));
    assert_false(quant_reads_stored(DT_Q4_0, DT_BF16, true));
    assert_false(quant_reads_stored(DT_Q4_0, DT_F64, false));
}

/* A scale that is infinity or NaN is seen, wherever the encoder put it: the bytes of the scale are
 * found by encoding data whose only difference is a factor. */
static void poisoned_scales(void **state)
{
    static const struct {
        enum dtype type;
        unsigned at;
    } scales[] = {{DT_Q4_0, 0},   {DT_Q4_1, 2},   {DT_Q5_0, 0},   {DT_Q5_1, 0},   {DT_Q8_0, 0},
                  {DT_Q2_K, 80},  {DT_Q2_K, 82},  {DT_Q3_K, 108}, {DT_Q4_K, 2},   {DT_Q5_K, 0},
                  {DT_Q6_K, 208}, {DT_IQ4_XS, 0}, {DT_TQ1_0, 52}, {DT_TQ2_0, 64}, {DT_F16, 0},
                  {DT_IQ2_XS, 0}, {DT_IQ3_XXS, 0}};
    (void)state;
    fill(7, 0.1f);
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        const struct dtype_info *t = dtype_info(scales[i].type);
        uint64_t bytes = bytes_of(t, ROWS);
        uint8_t *scale = blocks + bytes - t->bytes + scales[i].at; /* in the last block */
        assert_int_equal(quant_encode(t->id, x, blocks, ROWS, COLUMNS, weights, NULL, NULL), 0);
        memcpy(scale, (const uint8_t[]){0x00, 0x7c}, 2);
        assert_false(quant_blocks_finite(t->id, blocks, bytes));
        memcpy(scale, (const uint8_t[]){0x01, 0xfe}, 2);
        assert_false(quant_blocks_finite(t->id, blocks, bytes));
        memcpy(scale, (const uint8_t[]){0xff, 0x7b}, 2);
        assert_true(quant_blocks_finite(t->id, blocks, bytes));
    }
}

/* ---- extremes -------------------------------------------------------------------------------- */

/* Values of all magnitudes that are let through, zeros among them. */
static void fill_wild(uint64_t seed)
{
    struct rng r;
    rng_seed(&r, seed);
    int kind = (int)(seed % 6);
    for (int i = 0; i < VALUES; i++) {
        float v = (float)rng_normal(&r);
        if (kind == 1)
            v *= powf(10.0f, (float)(rng_unit(&r) * 54 - 45));
        else if (kind == 2)
            v = rng_unit(&r) < 0.98 ? 0 : v * 1e8f;
        else if (kind == 3)
            v *= 1e-40f;
        else if (kind == 4)
            v = i % 32 == 5 ? 9e8f : v * 1e-3f;
        else if (kind == 5)
            v = 0.25f;
        x[i] = fabsf(v) <= 1e9f ? v : 1e9f;
    }
    for (int j = 0; j < COLUMNS; j++) {
        double u = rng_unit(&r);
        weights[j] = kind == 0 ? (float)(1e15 * u)
                     : u < 0.3 ? 0
                               : powf(10.0f, (float)(u * 60 - 45));
        if (weights[j] > 1e15f)
            weights[j] = 1e15f;
    }
}

/* In a child, because what is tested is that nothing aborts it. */
static void extremes_do_not_abort(void **state)
{
    const struct dtype_info *t;
    (void)state;
    for (int i = 0; (t = dtype_at(i)); i++) {
        if (t->encodable)
            assert_int_equal(quant_prepare(t->id, NULL), 0);
    }
    for (int i = 0; (t = dtype_at(i)); i++) {
        if (!t->encodable)
            continue;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (uint64_t seed = 0; seed < 12; seed++) {
                fill_wild(seed);
                for (uint64_t row = 0; row < 2; row++)
                    quant_encode(t->id, x + row * COLUMNS, blocks, 1, COLUMNS, weights, NULL, NULL);
            }
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (status != 0)
            fail_msg("%s: status %d", t->name, status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type),
        cmocka_unit_test(plain_floats),
        cmocka_unit_test(same_bytes_for_any_cut),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(bad_importance),
        cmocka_unit_test(bad_shapes_and_types),
        cmocka_unit_test(many_types_at_once),
        cmocka_unit_test(stored_rows_encode_alike),
        cmocka_unit_test(stored_damage_is_named),
        cmocka_unit_test(poisoned_scales),
        cmocka_unit_test(extremes_do_not_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
