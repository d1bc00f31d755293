/* Arithmetic on rows of logits: the fast functions against plain double loops, at every odd length.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/logits.h"

enum { N_MAX = 151937 };
static float a[N_MAX], b[N_MAX];

static void fill(float *x, size_t n, uint64_t seed, double scale)
{
    struct rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * rng_normal(&r));
}

static void lengths(size_t *n)
{
    for (size_t i = 0; i < 40; i++)
        n[i] = i + 1;
    n[40] = 4096;
    n[41] = 32003;
    n[42] = N_MAX;
}

static void test_scan(void **state)
{
    size_t n[43];
    (void)state;
    lengths(n);
    for (size_t i = 0; i < 43; i++) {
        fill(a, n[i], i, 8);
        struct logits_row fast = logits_scan(a, n[i]), slow = logits_scan_ref(a, n[i]);
        assert_true(fast.max == slow.max);
        assert_int_equal(fast.argmax, slow.argmax);
        assert_true(fabs(fast.sum_exp / slow.sum_exp - 1) < 5e-7);
        assert_true(fabs(fast.log_total - slow.log_total) < 5e-7);
    }
}

/* One element at a time: exp itself, over all of its useful range. */
static void test_exp(void **state)
{
    (void)state;
    for (int i = 0; i <= 86000; i++) {
        float pair[2] = {0, (float)-i / 1000};
        struct logits_row r = logits_scan(pair, 2);
        double expected = 1 + exp((double)pair[1]);
        assert_true(fabs(r.sum_exp - expected) < 4e-7 * exp((double)pair[1]) + 1e-15);
    }
}

static void test_ties_take_the_lowest(void **state)
{
    float x[9] = {1, 5, 2, 5, 5, 0, 5, 1, 5};
    (void)state;
    assert_int_equal(logits_scan(x, 9).argmax, 1);
    float same[3] = {2, 2, 2};
    assert_int_equal(logits_scan(same, 3).argmax, 0);
}

static void test_not_a_number(void **state)
{
    (void)state;
    for (size_t at = 0; at < 9; at++) {
        fill(a, 9, 1, 1);
        a[at] = NAN;
        assert_true(isnan(logits_scan(a, 9).log_total) != 0);
        a[at] = INFINITY;
        assert_true(!isfinite(logits_scan(a, 9).log_total));
    }
    fill(a, 9, 1, 1);
    a[3] = -INFINITY; /* a token that cannot come is fine */
    assert_true(isfinite(logits_scan(a, 9).log_total) != 0);
}

static void test_kld(void **state)
{
    size_t n[43];
    (void)state;
    lengths(n);
    for (size_t i = 0; i < 43; i++) {
        fill(a, n[i], i, 5);
        fill(b, n[i], i + 100, 0.05);
        for (size_t k = 0; k < n[i]; k++)
            b[k] += a[k];
        double from = logits_scan_ref(a, n[i]).log_total, to = logits_scan_ref(b, n[i]).log_total;
        double fast = logits_kld(a, from, b, to, n[i]), slow = logits_kld_ref(a, from, b, to, n[i]);
        assert_true(fabs(fast - slow) < 1e-12 + 1e-5 * slow);
        assert_true(slow > -1e-14);
        assert_true(logits_kld(a, from, a, from, n[i]) == 0);
    }
}

/* Nearly equal distributions: the divergence is about half the weighted variance of the difference.
 */
static void test_tiny_kld_survives(void **state)
{
    (void)state;
    fill(a, 32003, 5, 4);
    fill(b, 32003, 6, 1e-3);
    for (size_t k = 0; k < 32003; k++)
        b[k] += a[k];
    double from = logits_scan(a, 32003).log_total, mean = 0, square = 0;
    for (size_t k = 0; k < 32003; k++) {
        double d = (double)b[k] - (double)a[k], weight = exp((double)a[k] - from);
        mean += weight * d;
        square += weight * d * d;
    }
    double expected = 0.5 * (square - mean * mean);
    double kld = logits_kld(a, from, b, logits_scan(b, 32003).log_total, 32003);
    assert_true(expected > 1e-7 && expected < 1e-6);
    assert_true(fabs(kld - expected) < 2e-8); /* the last bits of the largest exponentials */
}

/* Tokens that a model rules out. */
static void test_kld_of_impossible_tokens(void **state)
{
    (void)state;
    fill(a, 1001, 7, 3);
    fill(b, 1001, 8, 0.1);
    for (size_t k = 0; k < 1001; k++)
        b[k] += a[k];
    a[1000] = b[1000] = -INFINITY; /* in the row's tail, and in its body */
    a[17] = -INFINITY;
    double kld =
        logits_kld(a, logits_scan(a, 1001).log_total, b, logits_scan(b, 1001).log_total, 1001);
    assert_true(kld > 0 && kld < 0.1);
    b[3] = -INFINITY; /* ruled out by the candidate alone: much, but a number */
    double more =
        logits_kld(a, logits_scan(a, 1001).log_total, b, logits_scan(b, 1001).log_total, 1001);
    assert_true(more > kld && isfinite(more) != 0);
}

static void test_draw_follows_the_probabilities(void **state)
{
    enum { N = 7, DRAWS = 200000 };
    float x[N] = {0, 1, 2, -1, 0.5f, -30, 1.5f};
    size_t seen[N] = {0};
    struct rng r;
    (void)state;
    rng_seed(&r, 9);
    struct logits_row row = logits_scan(x, N);
    for (size_t i = 0; i < DRAWS; i++)
        seen[logits_draw(x, N, &row, rng_unit(&r))]++;
    for (size_t i = 0; i < N; i++) {
        double probability = exp((double)x[i] - row.log_total);
        double error = sqrt(probability * (1 - probability) / DRAWS);
        assert_true(fabs((double)seen[i] / DRAWS - probability) < 5 * error + 1e-12);
    }
    assert_int_equal(logits_draw(x, N, &row, 0), 0);
    assert_true(logits_draw(x, N, &row, 0x1.fffffffffffffp-1) < N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_ties_take_the_lowest),
        cmocka_unit_test(test_not_a_number),
        cmocka_unit_test(test_kld),
        cmocka_unit_test(test_tiny_kld_survives),
        cmocka_unit_test(test_kld_of_impossible_tokens),
        cmocka_unit_test(test_draw_follows_the_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
