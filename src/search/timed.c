/* The knapsack with a second limit: milliseconds per token.
 *
 * Types that are small need not be fast: on processors a codebook of three bits takes longer than
 * six plain ones. So time is a cost of its own. Exactly, two limits would square the table of the
 * dynamic programme; instead time gets a price λ (a Lagrange multiplier): the exact knapsack over
 * bytes minimises KL + λ·ms, and its optimum is also the best choice among all that take no more
 * time than it does. λ = 0 where that is fast enough; else the least λ that is, by bisection. What
 * the gap between two neighbouring λ leaves of either limit is spent by exchanges of one group or
 * two that lower the KL within both limits, until none does.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/search.h"
#include "base/banned.h"

enum { GROWTHS = 40, BISECTIONS = 12, EXCHANGES_MAX = 64 };
static const double growth = 8;
static const double close_enough = 0.998; /* of the limit: nothing is left to look for */

static double group_ms(const struct search_time *s, size_t group, enum dtype type)
{
    if (type == DT_NONE) /* its block is left out */
        return 0;
    return (unsigned)type < SEARCH_TYPES ? s->ms[group * SEARCH_TYPES + (unsigned)type] : NAN;
}

double search_ms(const struct search_time *s, const enum dtype *types, size_t n_groups)
{
    double sum = 0;
    for (size_t g = 0; g < n_groups; g++)
        sum += s->ms ? group_ms(s, g, types[g]) : NAN;
    return sum;
}

/* The table with kld·a + ms·b for KL; groups are xfree'd by the caller. */
static struct probe_table priced(const struct probe_table *t, const struct search_time *time,
                                 double a, double b)
{
    struct probe_table p = *t;
    p.groups = xcalloc(t->n_groups + 1, sizeof(*p.groups));
    memcpy(p.groups, t->groups, t->n_groups * sizeof(*p.groups));
    for (size_t g = 0; g < t->n_groups; g++)
        for (int k = 0; k < t->n_types; k++) {
            double kld = p.groups[g].kld[k]; /* NaN stays: not possible */
            p.groups[g].kld[k] = kld * a + group_ms(time, g, t->types[k]) * b;
        }
    return p;
}

static int solve(const struct probe_table *t, const struct search_time *time, double a, double b,
                 uint64_t bytes_limit, enum dtype *types, struct err *e)
{
    struct probe_table p = priced(t, time, a, b);
    int rc = allocate(&p, bytes_limit, types, NULL, NULL, e);
    xfree(p.groups);
    return rc;
}

int allocate_fastest(const struct probe_table *t, const struct search_time *time,
                     uint64_t bytes_limit, enum dtype *types, struct err *e)
{
    return solve(t, time, 0, 1, bytes_limit, types, e);
}

/* ---- exchanges ---- */

struct exchange {
    const struct probe_table *table;
    const struct search_time *time;
    enum dtype *types; /* (n_groups), in and out */
    int *now;          /* (n_groups), index of the type */
    int64_t bytes_left;
    double ms_left;
};

struct step {
    size_t group;
    int type;
    int64_t bytes;
    double ms, kld; /* changes */
};

static size_t steps_make(const struct exchange *x, struct step *out)
{
    size_t n = 0;
    for (size_t g = 0; g < x->table->n_groups; g++) {
        const struct sensitivity *s = &x->table->groups[g];
        double ms = group_ms(x->time, g, x->types[g]);
        for (int k = 0; k < x->table->n_types; k++) {
            struct step a = {g, k, (int64_t)s->bytes[k] - (int64_t)s->bytes[x->now[g]],
                             group_ms(x->time, g, x->table->types[k]) - ms,
                             s->kld[k] - s->kld[x->now[g]]};
            if (k != x->now[g] && s->bytes[k] > 0 && !isnan(a.ms) && !isnan(a.kld))
                out[n++] = a;
        }
    }
    return n;
}

static bool allowed(const struct exchange *x, const struct step *a, const struct step *b)
{
    int64_t bytes = a->bytes + (b ? b->bytes : 0);
    double ms = a->ms + (b ? b->ms : 0);
    return bytes <= x->bytes_left && ms <= x->ms_left;
}

static void apply(struct exchange *x, const struct step *a)
{
    x->bytes_left -= a->bytes;
    x->ms_left -= a->ms;
    x->now[a->group] = a->type;
    x->types[a->group] = x->table->types[a->type];
}

/* The exchange that lowers the KL most; false when none does. */
static bool exchange_best(struct exchange *x, struct step *steps)
{
    size_t n = steps_make(x, steps);
    const struct step *first = NULL, *second = NULL;
    double best = -1e-15;
    for (size_t i = 0; i < n; i++) {
        if (steps[i].kld < best && allowed(x, &steps[i], NULL)) {
            best = steps[i].kld;
            first = &steps[i];
            second = NULL;
        }
        for (size_t j = 0; j < n && steps[i].kld < 0; j++)
            if (steps[i].kld + steps[j].kld < best && steps[j].group != steps[i].group &&
                allowed(x, &steps[i], &steps[j])) {
                best = steps[i].kld + steps[j].kld;
                first = &steps[i];
                second = &steps[j];
            }
    }
    if (!first)
        return false;
    apply(x, first);
    if (second)
        apply(x, second);
    return true;
}

static void exchange_all(const struct probe_table *t, const struct search_time *time,
                         uint64_t bytes_limit, enum dtype *types)
{
    struct exchange x = {.table = t, .time = time, .types = types};
    uint64_t most = allocate_largest(t), bytes = allocate_bytes(t, types);
    struct step *steps = xcalloc(t->n_groups * (size_t)t->n_types + 1, sizeof(*steps));
    x.now = xcalloc(t->n_groups + 1, sizeof(*x.now));
    x.bytes_left = (int64_t)((bytes_limit < most ? bytes_limit : most) - bytes);
    /* A hair less: sums in another order must not end above the limit. */
    x.ms_left = time->ms_max * (1 - 1e-12) - search_ms(time, types, t->n_groups);
    for (size_t g = 0; g < t->n_groups; g++)
        for (int k = 0; k < t->n_types; k++)
            if (t->types[k] == types[g])
                x.now[g] = k;
    for (int i = 0; i < EXCHANGES_MAX && exchange_best(&x, steps); i++)
        ;
    xfree(x.now);
    xfree(steps);
}

/* ---- the price of time ---- */

struct bracket {
    const struct probe_table *table;
    const struct search_time *time;
    uint64_t bytes_limit;
    enum dtype *types, *best; /* (n_groups): being tried; fast enough with the least KL so far */
    double best_kld, best_ms;
};

/* 1: fast enough at this price; 0: not; -1: error. */
static int try_price(struct bracket *b, double kld_weight, double price, struct err *e)
{
    size_t n = b->table->n_groups;
    if (solve(b->table, b->time, kld_weight, price, b->bytes_limit, b->types, e) != 0)
        return -1;
    double ms = search_ms(b->time, b->types, n), kld = allocate_kld(b->table, b->types);
    if (!(ms <= b->time->ms_max))
        return 0;
    if (kld < b->best_kld) {
        memcpy(b->best, b->types, n * sizeof(*b->best));
        b->best_kld = kld;
        b->best_ms = ms;
    }
    return 1;
}

static int find_price(struct bracket *b, struct err *e)
{
    double low = 0, high = allocate_kld(b->table, b->types) / b->time->ms_max / 64;
    int rc = 0;
    for (int i = 0; rc == 0 && i < GROWTHS; i++) {
        rc = try_price(b, 1, high, e);
        if (rc == 0) {
            low = high;
            high *= growth;
        }
    }
    for (int i = 0; rc == 1 && i < BISECTIONS && b->best_ms < close_enough * b->time->ms_max; i++) {
        double middle = low > 0 ? sqrt(low * high) : high / growth;
        int met = try_price(b, 1, middle, e);
        if (met < 0)
            return -1;
        if (met)
            high = middle;
        else
            low = middle;
    }
    return rc < 0 ? -1 : 0;
}

static int within(struct bracket *b, struct err *e)
{
    int met = try_price(b, 1, 0, e);
    if (met != 0)
        return met < 0 ? -1 : 0;
    if (find_price(b, e) != 0)
        return -1;
    if (isinf(b->best_kld)) {
        met = try_price(b, 0, 1, e);
        if (met < 0)
            return -1;
        if (met == 0)
            return err_set(e, ERR_INFEASIBLE, "lower the speed, or allow more bytes",
                           "the fastest choice of types takes %.4g ms per token for its weights, "
                           "%.4g are allowed",
                           search_ms(b->time, b->types, b->table->n_groups), b->time->ms_max);
    }
    exchange_all(b->table, b->time, b->bytes_limit, b->best);
    return 0;
}

int allocate_within(const struct probe_table *t, const struct search_time *time,
                    uint64_t bytes_limit, enum dtype *types, struct err *e)
{
    if (!time || !time->ms || !(time->ms_max > 0))
        return allocate(t, bytes_limit, types, NULL, NULL, e);
    struct bracket b = {
        .table = t, .time = time, .bytes_limit = bytes_limit, .best = types, .best_kld = INFINITY};
    b.types = xcalloc(t->n_groups + 1, sizeof(*b.types));
    int rc = within(&b, e);
    xfree(b.types);
    return rc;
}
