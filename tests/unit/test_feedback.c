/* Error feedback: what it promises of the output's error, and that nothing else changes its bytes.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "format/factors.h"
#include "quant/quant.h"

enum { N = 512, ROWS = 21, TOKENS = 2000 };

static const enum dtype scalar_types[] = {DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q8_0,   DT_Q2_K,
                                          DT_Q3_K, DT_Q4_K, DT_Q5_K, DT_Q6_K, DT_IQ4_NL, DT_IQ4_XS};
static const enum dtype shared_types[] = {DT_IQ3_S, DT_IQ3_XXS, DT_IQ2_S};

static float weights[ROWS * N], factor[N * N], residual[N];
static double gram[N * N];

/* Inputs whose columns go together, neighbours more, and G = U D Uᵀ by its definition. */
static int make(void **state)
{
    static double u[N * N];
    struct rng r;
    (void)state;
    rng_seed(&r, 7);
    for (int t = 0; t < TOKENS; t++) {
        double x[N], before = 0, common = rng_normal(&r);
        for (int j = 0; j < N; j++) {
            before = 0.8 * before + rng_normal(&r) * (j % 7 == 0 ? 3 : 1);
            x[j] = before + common;
        }
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                gram[i * N + j] += x[i] * x[j] / TOKENS;
    }
    for (int j = N - 1; j >= 0; j--) {
        double d = gram[j * N + j];
        for (int k = j + 1; k < N; k++)
            d -= u[j * N + k] * u[j * N + k] * (double)residual[k];
        residual[j] = (float)d;
        for (int i = 0; i < j; i++) {
            double v = gram[i * N + j];
            for (int k = j + 1; k < N; k++)
                v -= u[i * N + k] * u[j * N + k] * (double)residual[k];
            u[i * N + j] = v / d;
        }
    }
    for (int i = 0; i < N * N; i++)
        factor[i] = (float)u[i];
    for (int i = 0; i < ROWS * N; i++)
        weights[i] = (float)(0.02 * rng_normal(&r));
    return 0;
}

static double output_error(const float *decoded)
{
    double sum = 0;
    for (int r = 0; r < ROWS; r++) {
        double e[N];
        for (int j = 0; j < N; j++)
            e[j] = (double)weights[r * N + j] - (double)decoded[r * N + j];
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                sum += e[i] * e[j] * gram[i * N + j];
    }
    return sum;
}

static const struct quant_feedback feedback = {.factor = factor, .span = N, .weight = residual};

static double error_with(enum dtype type, bool fed, struct quant_error *reported)
{
    static uint8_t blocks[ROWS * N * 4];
    static float decoded[ROWS * N];
    float importance[N];
    struct err e = {0};
    for (int j = 0; j < N; j++)
        importance[j] = (float)gram[j * N + j];
    *reported = (struct quant_error){0};
    int rc = fed ? quant_encode_feedback(type, weights, blocks, ROWS, N, &feedback, reported, &e)
                 : quant_encode(type, weights, blocks, ROWS, N, importance, reported, &e);
    if (rc || quant_decode(type, blocks, decoded, ROWS, N, &e))
        fail_msg("%s", e.message);
    return output_error(decoded);
}

static void the_output_gains(void **state)
{
    struct quant_error plain, fed;
    (void)state;
    for (size_t i = 0; i < sizeof scalar_types / sizeof *scalar_types; i++) {
        double before = error_with(scalar_types[i], false, &plain);
        double after = error_with(scalar_types[i], true, &fed);
        if (!(after < 0.8 * before))
            fail_msg("%s: %g becomes %g", dtype_name(scalar_types[i]), before, after);
        assert_true(fed.squared > plain.squared);
    }
    for (size_t i = 0; i < sizeof shared_types / sizeof *shared_types; i++) {
        double before = error_with(shared_types[i], false, &plain);
        double after = error_with(shared_types[i], true, &fed);
        if (!(after < before))
            fail_msg("%s: %g becomes %g", dtype_name(shared_types[i]), before, after);
    }
}

static void the_error_reported_is_that_of_the_output(void **state)
{
    struct quant_error fed;
    (void)state;
    for (size_t i = 0; i < sizeof scalar_types / sizeof *scalar_types; i++) {
        double seen = error_with(scalar_types[i], true, &fed);
        assert_true(fabs(fed.weighted / seen - 1) < 1e-3);
    }
    double seen = error_with(DT_IQ3_S, true, &fed);
    assert_true(fabs(fed.weighted / seen - 1) < 1e-3);
}

static void rows_do_not_know_each_other(void **state)
{
    static uint8_t together[ROWS * N], alone[N];
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < sizeof scalar_types / sizeof *scalar_types; i++) {
        const struct dtype_info *t = dtype_info(scalar_types[i]);
        size_t bytes = (size_t)(N / t->block * t->bytes);
        if (t->id == DT_Q8_0)
            continue; /* larger than these buffers */
        assert_int_equal(
            quant_encode_feedback(t->id, weights, together, ROWS, N, &feedback, NULL, &e), 0);
        for (int r = 0; r < ROWS; r += 10) {
            assert_int_equal(
                quant_encode_feedback(t->id, weights + r * N, alone, 1, N, &feedback, NULL, &e), 0);
            assert_memory_equal(alone, together + (size_t)r * bytes, bytes);
        }
    }
}

/* Spans are strangers to each other: as if each were a matrix of its own. */
static void spans_are_separate(void **state)
{
    enum { SPAN = QUANT_SPAN };
    static float narrow[N * SPAN], half[ROWS * SPAN], own[SPAN * SPAN];
    static uint8_t together[ROWS * N * 4], alone[ROWS * SPAN * 4];
    struct err e = {0};
    (void)state;
    for (int k = 0; k < N; k++)
        memcpy(narrow + k * SPAN, factor + k * N + k / SPAN * SPAN, SPAN * sizeof(float));
    for (size_t i = 0; i < sizeof scalar_types / sizeof *scalar_types; i++) {
        const struct dtype_info *t = dtype_info(scalar_types[i]);
        size_t bytes = (size_t)(SPAN / t->block * t->bytes);
        struct quant_feedback spans = {.factor = narrow, .span = SPAN, .weight = residual};
        if (quant_encode_feedback(t->id, weights, together, ROWS, N, &spans, NULL, &e))
            fail_msg("%s", e.message);
        for (int s = 0; s < N / SPAN; s++) {
            struct quant_feedback one = {
                .factor = own, .span = SPAN, .weight = residual + s * SPAN};
            memcpy(own, narrow + s * SPAN * SPAN, sizeof own);
            for (int r = 0; r < ROWS; r++)
                memcpy(half + r * SPAN, weights + r * N + s * SPAN, SPAN * sizeof(float));
            assert_int_equal(quant_encode_feedback(t->id, half, alone, ROWS, SPAN, &one, NULL, &e),
                             0);
            for (size_t r = 0; r < ROWS; r++)
                assert_memory_equal(alone + r * bytes, together + (2 * r + (size_t)s) * bytes,
                                    bytes);
        }
    }
    struct quant_feedback odd = {.factor = narrow, .span = 100, .weight = residual};
    assert_int_equal(quant_encode_feedback(DT_Q4_0, weights, together, 1, N, &odd, NULL, &e), -1);
}

/* Columns that know nothing of each other leave nothing to make up for. */
static void without_correlation_it_rounds_to_the_nearest(void **state)
{
    static const float nothing[N * N];
    static uint8_t fed[ROWS * N], plain[ROWS * N];
    struct quant_feedback none = {.factor = nothing, .span = N, .weight = residual};
    struct err e = {0};
    (void)state;
    assert_int_equal(quant_encode_feedback(DT_IQ3_S, weights, fed, ROWS, N, &none, NULL, &e), 0);
    assert_int_equal(quant_encode(DT_IQ3_S, weights, plain, ROWS, N, residual, NULL, &e), 0);
    assert_memory_equal(fed, plain, ROWS * N / 256 * dtype_info(DT_IQ3_S)->bytes);
}

static void bad_input_is_refused(void **state)
{
    static uint8_t blocks[N * 4];
    static float bad[N];
    struct err e = {0};
    (void)state;
    memcpy(bad, weights, sizeof bad);
    bad[300] = NAN;
    assert_int_equal(quant_encode_feedback(DT_Q4_K, bad, blocks, 1, N, &feedback, NULL, &e), -1);
    assert_non_null(strstr(e.message, "column 300"));
    bad[300] = 1e8f;
    assert_int_equal(quant_encode_feedback(DT_Q4_0, bad, blocks, 1, N, &feedback, NULL, &e), -1);
    assert_int_equal(quant_encode_feedback(DT_Q4_K, weights, blocks, 1, 100, &feedback, NULL, &e),
                     -1);
    /* Factors out of a damaged file. */
    static float damaged[N * N];
    struct quant_feedback mad = {.factor = damaged, .span = N, .weight = residual};
    const float values[] = {NAN, INFINITY, 1e30f};
    for (int k = 0; k < 3; k++) {
        damaged[5 * N + 400] = values[k];
        assert_int_equal(quant_encode_feedback(DT_IQ3_S, weights, blocks, 1, N, &mad, NULL, &e),
                         -1);
        assert_non_null(strstr(e.message, "with the feedback of others"));
    }
}

/* ---- the file -------------------------------------------------------------------------------- */

static void write_file(const char *path, const char *const *names, const size_t *owner, size_t n,
                       uint64_t last_span)
{
    struct factors_writer w;
    struct err e = {0};
    const uint64_t columns[] = {32, 32, 512}, span[] = {32, 32, last_span};
    if (factors_writer_open(&w, path, names, owner, columns, span, n, &e) ||
        factors_writer_put(&w, 0, factor, residual, &e) ||
        factors_writer_put(&w, 2, factor, residual, &e) || factors_writer_commit(&w, &e))
        fail_msg("%s", e.message);
}

static void files_are_read_back(void **state)
{
    static const char *const names[] = {"a.weight", "b.weight", "c.weight"};
    char path[] = "/tmp/sintra-factors-XXXXXX";
    struct factors f;
    struct err e = {0};
    (void)state;
    close(mkstemp(path));
    write_file(path, names, (const size_t[]){0, 0, 2}, 3, 256);
    assert_int_equal(factors_open(&f, path, &e), 0);
    assert_int_equal(f.n, 3);
    assert_null(factors_find(&f, "d.weight"));
    assert_int_equal(factors_find(&f, "c.weight")->n, 512);
    assert_int_equal(factors_find(&f, "c.weight")->span, 256);
    assert_ptr_equal(factors_find(&f, "b.weight")->factor, factors_find(&f, "a.weight")->factor);
    assert_memory_equal(factors_find(&f, "b.weight")->factor, factor, 32 * 32 * sizeof(float));
    assert_memory_equal(factors_find(&f, "b.weight")->weight, residual, 32 * sizeof(float));
    factors_close(&f);
    write_file(path, names, (const size_t[]){0, 0, 2}, 3, 128);
    assert_int_equal(factors_open(&f, path, &e), -1);
    assert_non_null(strstr(e.message, "factors of c.weight"));
    write_file(path, names, (const size_t[]){0, 7, 2}, 3, 512);
    assert_int_equal(factors_open(&f, path, &e), -1);
    assert_non_null(strstr(e.message, "factors of b.weight"));
    assert_int_equal(truncate(path, 300), 0);
    assert_int_equal(factors_open(&f, path, &e), -1);
    unlink(path);
    assert_int_equal(factors_open(&f, path, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_output_gains),
        cmocka_unit_test(the_error_reported_is_that_of_the_output),
        cmocka_unit_test(rows_do_not_know_each_other),
        cmocka_unit_test(spans_are_separate),
        cmocka_unit_test(without_correlation_it_rounds_to_the_nearest),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(files_are_read_back),
    };
    return cmocka_run_group_tests(tests, make, NULL);
}
