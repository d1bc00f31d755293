/* The knapsack's other forms against brute force: the whole frontier at once, and two limits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "search/search.h"

enum { GROUPS_MAX = 6 };

struct instance {
    struct probe_table table;
    struct search_time time;
    double ms[GROUPS_MAX * SEARCH_TYPES], first[GROUPS_MAX * SEARCH_TYPES];
};

/* More bytes, less KL, mostly; time follows the bytes but for types that are slow to decode. */
static void instance_make(struct instance *x, struct rng *r, uint64_t unit)
{
    size_t n = 1 + rng_below(r, GROUPS_MAX);
    int types = 2 + (int)rng_below(r, 4);
    x->table = (struct probe_table){.n_types = types, .n_groups = n};
    x->table.groups = xcalloc(n, sizeof(*x->table.groups));
    for (int k = 0; k < types; k++)
        x->table.types[k] = (enum dtype)(DT_Q2_K + k);
    for (int i = 0; i < GROUPS_MAX * SEARCH_TYPES; i++)
        x->ms[i] = NAN;
    for (size_t g = 0; g < n; g++)
        for (int k = 0; k < types; k++) {
            struct sensitivity *s = &x->table.groups[g];
            s->bytes[k] = unit * (1 + rng_below(r, 10) + 4 * (uint64_t)k);
            s->kld[k] = rng_below(r, 12) == 0 ? NAN : rng_unit(r) * pow(3, -k);
            double slow = rng_below(r, 3) == 0 ? 3 : 1;
            x->ms[g * SEARCH_TYPES + (size_t)x->table.types[k]] =
                (double)s->bytes[k] / (double)unit * slow;
        }
    x->time = (struct search_time){.ms = x->ms};
}

/* Least Σ KL within both limits, infinite when nothing is. */
static double brute(const struct instance *x, size_t group, uint64_t bytes, double ms)
{
    double best = INFINITY;
    if (group == x->table.n_groups)
        return 0;
    for (int k = 0; k < x->table.n_types; k++) {
        const struct sensitivity *s = &x->table.groups[group];
        double t = x->ms[group * SEARCH_TYPES + (size_t)x->table.types[k]];
        if (!isnan(s->kld[k]) && s->bytes[k] <= bytes && t <= ms)
            best = fmin(best, s->kld[k] + brute(x, group + 1, bytes - s->bytes[k], ms - t));
    }
    return best;
}

static void test_two_limits(void **state)
{
    struct rng r;
    struct instance x;
    int solved = 0, exact = 0, limited = 0, infeasible = 0;
    double loss = 0;
    (void)state;
    rng_seed(&r, 11);
    for (int round = 0; round < 600; round++) {
        enum dtype types[GROUPS_MAX];
        struct err e = {0};
        instance_make(&x, &r, 4096);
        uint64_t limit = 4096 * (5 + rng_below(&r, 100));
        x.time.ms_max = 5 + (double)rng_below(&r, 120);
        double want = brute(&x, 0, limit, x.time.ms_max);
        int rc = allocate_within(&x.table, &x.time, limit, types, &e);
        if (isinf(want)) {
            assert_int_equal(rc, -1);
            assert_true(e.code == ERR_INFEASIBLE || e.code == ERR_UNSUPPORTED);
            infeasible++;
        } else {
            assert_int_equal(rc, 0);
            double kld = allocate_kld(&x.table, types);
            assert_true(allocate_bytes(&x.table, types) <= limit);
            assert_true(search_ms(&x.time, types, x.table.n_groups) <= x.time.ms_max);
            assert_true(kld >= want - 1e-12);
            solved++;
            exact += kld <= want + 1e-12;
            limited += want > brute(&x, 0, limit, INFINITY) + 1e-12;
            loss += kld / want - 1;
        }
        probe_table_release(&x.table);
    }
    /* A multiplier with exchanges is no proof; on these it finds the optimum nearly always. */
    print_message("%d of %d exact, %d limited by time, %d infeasible, mean loss %.4f\n", exact,
                  solved, limited, infeasible, loss / solved);
    assert_true(limited > 100 && infeasible > 20);
    assert_true(exact >= solved * 95 / 100);
    assert_true(loss / solved < 0.005);
}

/* A table as of a model: many groups of one shape, where the exact optimum is known by duality. */
static void test_two_limits_large(void **state)
{
    enum { N = 120, T = 6 };
    static double ms[N * SEARCH_TYPES];
    struct probe_table t = {.n_types = T, .n_groups = N};
    struct search_time time = {.ms = ms};
    enum dtype types[N], fast[N];
    struct rng r;
    (void)state;
    rng_seed(&r, 3);
    t.groups = xcalloc(N, sizeof(*t.groups));
    for (int k = 0; k < T; k++)
        t.types[k] = (enum dtype)(DT_Q2_K + k);
    for (size_t g = 0; g < N; g++) {
        double level = exp(rng_normal(&r));
        for (int k = 0; k < T; k++) {
            t.groups[g].bytes[k] = 256 * (uint64_t)(2 + k) * (1 + g % 3);
            t.groups[g].kld[k] = level * pow(4, -k);
            /* The second and the fourth type are slow. */
            ms[g * SEARCH_TYPES + (size_t)t.types[k]] =
                (double)t.groups[g].bytes[k] * (k == 1 || k == 3 ? 3 : 1) / 1e5;
        }
    }
    uint64_t limit = (allocate_smallest(&t) + allocate_largest(&t)) / 2;
    assert_int_equal(allocate(&t, limit, types, NULL, NULL, NULL), 0);
    double free_ms = search_ms(&time, types, N), free_kld = allocate_kld(&t, types);
    assert_int_equal(allocate_fastest(&t, &time, limit, fast, NULL), 0);
    double least_ms = search_ms(&time, fast, N);
    assert_true(least_ms < free_ms);
    double before = free_kld;
    for (int i = 1; i <= 8; i++) { /* tighter and tighter: never above, and worse only so far */
        time.ms_max = free_ms + (least_ms - free_ms) * i / 8.0 * 0.98;
        assert_int_equal(allocate_within(&t, &time, limit, types, NULL), 0);
        assert_true(search_ms(&time, types, N) <= time.ms_max);
        assert_true(search_ms(&time, types, N) >= 0.97 * time.ms_max);
        assert_true(allocate_bytes(&t, types) <= limit);
        double kld = allocate_kld(&t, types);
        assert_true(kld >= before - 1e-9);
        before = kld;
    }
    time.ms_max = 0.5 * least_ms;
    struct err e = {0};
    assert_int_equal(allocate_within(&t, &time, limit, types, &e), -1);
    assert_int_equal(e.code, ERR_INFEASIBLE);
    probe_table_release(&t);
}

/* ---- bytes, time per token and time to the first token ---- */

static double brute_both(const struct instance *x, size_t group, uint64_t bytes, double ms,
                         double first)
{
    double best = INFINITY;
    if (group == x->table.n_groups)
        return 0;
    for (int k = 0; k < x->table.n_types; k++) {
        const struct sensitivity *s = &x->table.groups[group];
        size_t at = group * SEARCH_TYPES + (size_t)x->table.types[k];
        double t = x->ms[at], u = x->first[at];
        if (!isnan(s->kld[k]) && s->bytes[k] <= bytes && t <= ms && u <= first)
            best = fmin(best, s->kld[k] +
                                  brute_both(x, group + 1, bytes - s->bytes[k], ms - t, first - u));
    }
    return best;
}

/* Types differ otherwise when a prompt is read than when a token is made. */
static void test_three_limits(void **state)
{
    struct rng r;
    struct instance x;
    int solved = 0, found = 0, exact = 0, both = 0, infeasible = 0;
    double loss = 0;
    (void)state;
    rng_seed(&r, 12);
    for (int round = 0; round < 600; round++) {
        enum dtype types[GROUPS_MAX];
        struct err e = {0};
        instance_make(&x, &r, 4096);
        for (int i = 0; i < GROUPS_MAX * SEARCH_TYPES; i++)
            x.first[i] = isnan(x.ms[i]) ? NAN : 1 + (double)rng_below(&r, 12);
        x.time.first_ms = x.first;
        uint64_t limit = 4096 * (20 + rng_below(&r, 100));
        x.time.ms_max = 20 + (double)rng_below(&r, 100);
        x.time.first_max = 10 + (double)rng_below(&r, 40);
        double want = brute_both(&x, 0, limit, x.time.ms_max, x.time.first_max);
        int rc = allocate_within(&x.table, &x.time, limit, types, &e);
        solved += !isinf(want);
        infeasible += isinf(want);
        assert_false(isinf(want) && rc == 0);
        if (rc == 0) {
            double kld = allocate_kld(&x.table, types);
            assert_true(allocate_bytes(&x.table, types) <= limit);
            assert_true(search_ms(&x.time, types, x.table.n_groups) <= x.time.ms_max);
            assert_true(search_first_ms(&x.time, types, x.table.n_groups) <= x.time.first_max);
            assert_true(kld >= want - 1e-12);
            found++;
            exact += kld <= want + 1e-12;
            loss += kld / want - 1;
            both += want > brute_both(&x, 0, limit, x.time.ms_max, INFINITY) + 1e-12 &&
                    want > brute_both(&x, 0, limit, INFINITY, x.time.first_max) + 1e-12;
        } else {
            assert_true(e.code == ERR_INFEASIBLE || e.code == ERR_UNSUPPORTED);
        }
        probe_table_release(&x.table);
    }
    print_message("%d of %d found, %d exact, %d limited by both times, %d infeasible, loss %.4f\n",
                  found, solved, exact, both, infeasible, loss / found);
    assert_true(both > 30 && infeasible > 20);
    assert_true(found >= solved * 97 / 100 && exact >= found * 85 / 100);
    assert_true(loss / found < 0.05);
}

static void test_frontier_is_allocate(void **state)
{
    struct rng r;
    struct instance x;
    (void)state;
    rng_seed(&r, 12);
    for (int round = 0; round < 200; round++) {
        enum { N = 12 };
        uint64_t limits[N];
        struct allocation a[N];
        enum dtype types[GROUPS_MAX];
        struct err e = {0};
        instance_make(&x, &r, 512);
        for (int i = 0; i < N; i++)
            limits[i] = 512 * rng_below(&r, 140);
        int rc = allocate_frontier(&x.table, limits, N, a, &e);
        for (int i = 0; rc == 0 && i < N; i++) {
            double want = brute(&x, 0, limits[i], INFINITY), kld = NAN;
            int alone = allocate(&x.table, limits[i], types, &kld, NULL, &e);
            assert_int_equal(alone == 0, !isinf(want));
            assert_int_equal(a[i].types != NULL, !isinf(want));
            if (!a[i].types)
                continue;
            assert_true(a[i].bytes <= limits[i]);
            assert_true(fabs(a[i].kld - want) < 1e-12 && fabs(kld - want) < 1e-12);
            xfree(a[i].types);
        }
        probe_table_release(&x.table);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_limits),
        cmocka_unit_test(test_two_limits_large),
        cmocka_unit_test(test_three_limits),
        cmocka_unit_test(test_frontier_is_allocate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
