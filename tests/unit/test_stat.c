/* stat: against published tables and values computed by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "base/rng.h"
#include "base/stat.h"

static void close_to(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.12g, expected %.12g", value, expected);
}

static void student_table(void **state)
{
    (void)state;
    /* 97.5 % points as printed in statistical tables (NIST handbook 1.3.6.7.2) with more digits */
    static const struct {
        double degrees, t;
    } table[] = {{1, 12.7062047362},  {2, 4.30265272975},   {3, 3.18244630528},
                 {4, 2.77644510520},  {5, 2.57058183661},   {9, 2.26215716280},
                 {10, 2.22813885196}, {20, 2.08596344727},  {30, 2.04227245630},
                 {60, 2.00029782201}, {100, 1.98397151845}, {1000, 1.96233908083}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        close_to(stat_t975(table[i].degrees), table[i].t, 1e-9 * table[i].t);
    close_to(stat_t975(1e9), 1.959963984540054, 1e-12);
    close_to(stat_t975(1e6), 1.959966, 1e-6);
    assert_true(isnan(stat_t975(0)));
    assert_true(isnan(stat_t975(-1)));
    assert_true(isnan(stat_t975(NAN)));
    for (double d = 1; d < 1e7; d *= 1.37)
        assert_true(stat_t975(d) > stat_t975(d * 1.37));
}

static void plain_mean(void **state)
{
    (void)state;
    /* clusters of one: the usual t interval. Mean 5, s = sqrt(32/7), se = s/sqrt(8) */
    static const double v[] = {2, 4, 4, 4, 5, 5, 7, 9};
    struct stat_mean m = stat_mean_clustered(v, 8, 1);
    close_to(m.mean, 5, 0);
    close_to(m.se, sqrt(32.0 / 7 / 8), 1e-15);
    close_to(m.high - m.mean, 2.36462425159 * m.se, 1e-10);
    close_to(m.mean - m.low, m.high - m.mean, 1e-15);
    assert_int_equal(m.n, 8);
    assert_int_equal(m.clusters, 8);
}

static void clustered_mean(void **state)
{
    (void)state;
    /* clusters {1,2} {3,4} {9}: m = 19/5; offsets 3-7.6, 7-7.6, 9-3.8 */
    static const double v[] = {1, 2, 3, 4, 9};
    struct stat_mean m = stat_mean_clustered(v, 5, 2);
    close_to(m.mean, 3.8, 1e-15);
    double squares = 4.6 * 4.6 + 0.6 * 0.6 + 5.2 * 5.2;
    close_to(m.se, sqrt(1.5 * squares) / 5, 1e-14);
    close_to(m.high, 3.8 + 4.30265272975 * m.se, 1e-9);
    assert_int_equal(m.clusters, 3);
}

static void paired_difference(void **state)
{
    (void)state;
    static const double a[] = {1.5, 2.5, 3.25, 4}, b[] = {1, 2, 3, 4.5};
    double d[4];
    for (int i = 0; i < 4; i++)
        d[i] = a[i] - b[i];
    struct stat_mean p = stat_mean_paired(a, b, 4, 2), q = stat_mean_clustered(d, 4, 2);
    close_to(p.mean, q.mean, 0);
    close_to(p.se, q.se, 0);
    close_to(p.low, q.low, 0);
    /* a constant shift is found exactly, however noisy both sides are */
    struct rng r;
    rng_seed(&r, 3);
    static double x[1000], y[1000];
    for (int i = 0; i < 1000; i++) {
        y[i] = (double)rng_below(&r, 1 << 20);
        x[i] = y[i] + 0.5;
    }
    p = stat_mean_paired(x, y, 1000, 10);
    close_to(p.mean, 0.5, 0);
    close_to(p.se, 0, 1e-12);
}

static void few_clusters_have_no_interval(void **state)
{
    (void)state;
    static const double v[] = {1, 2, 3};
    struct stat_mean m = stat_mean_clustered(v, 3, 3);
    close_to(m.mean, 2, 0);
    assert_true(isnan(m.low) && isnan(m.high) && isnan(m.se));
    m = stat_mean_clustered(v, 3, 0); /* one cluster */
    assert_int_equal(m.clusters, 1);
    m = stat_mean_clustered(NULL, 0, 1);
    assert_true(isnan(m.mean));
    assert_int_equal(m.n, 0);
}

static void broken_values_show(void **state)
{
    (void)state;
    static const double v[] = {1, NAN, 3, 4}, w[] = {1, INFINITY, 2, 3};
    assert_true(isnan(stat_mean_clustered(v, 4, 1).mean));
    assert_true(isinf(stat_mean_clustered(w, 4, 1).mean));
    assert_true(isnan(stat_median(v, 4)));
}

static void sums_are_compensated(void **state)
{
    (void)state;
    static double v[4] = {1e16, 1, 1, -1e16};
    close_to(stat_mean_clustered(v, 4, 1).mean, 0.5, 0);
}

/* The interval must hold the truth about 95 times in 100, with correlated values inside windows. */
static void coverage_is_honest(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 11);
    enum { WINDOWS = 12, PER = 20, ROUNDS = 4000 };
    int held = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double v[WINDOWS * PER];
        for (int w = 0; w < WINDOWS; w++) {
            double common = rng_normal(&r);
            for (int i = 0; i < PER; i++)
                v[w * PER + i] = 3 + common + 0.5 * rng_normal(&r);
        }
        struct stat_mean m = stat_mean_clustered(v, WINDOWS * PER, PER);
        held += m.low <= 3 && 3 <= m.high;
    }
    close_to((double)held / ROUNDS, 0.95, 0.012);
}

static void quantiles(void **state)
{
    (void)state;
    static const double v[] = {4, 1, 3, 2}, q[] = {0, 0.25, 0.5, 0.9, 1};
    double out[5];
    stat_quantiles(v, 4, q, out, 5);
    static const double expected[] = {1, 1.75, 2.5, 3.7, 4}; /* R's type 7 */
    for (int i = 0; i < 5; i++)
        close_to(out[i], expected[i], 1e-15);
    assert_true(v[0] == 4);
    close_to(stat_median(v, 3), 3, 0);
    close_to(stat_median(v, 1), 4, 0);
    stat_quantiles(NULL, 0, q, out, 5);
    assert_true(isnan(out[0]) && isnan(out[4]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(student_table),
        cmocka_unit_test(plain_mean),
        cmocka_unit_test(clustered_mean),
        cmocka_unit_test(paired_difference),
        cmocka_unit_test(few_clusters_have_no_interval),
        cmocka_unit_test(broken_values_show),
        cmocka_unit_test(sums_are_compensated),
        cmocka_unit_test(coverage_is_honest),
        cmocka_unit_test(quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
