/* The knapsack with a second limit: milliseconds per token.
 *
 * Types that are small need not be fast: on processors a codebook of three bits takes longer than
 * six plain ones. So time is a cost of its own. Exactly, two limits would square the table of the
 * dynamic programme; instead time gets a price λ (a Lagrange multiplier): the exact knapsack over
 * bytes minimises KL + λ·ms, and its optimum is also the best choice among all that take no more
 * time than it does. λ = 0 where that is fast enough; else the least λ that is, by bisection. What
 * the gap between two neighbouring λ leaves of either limit is spent by exchanges of one group or
 * two that lower the KL within both limits, until none does.
 *
 * Time per token and time to the first token may both be limited. Often one binds and keeps the
 * other: then nothing is lost. Else, with a and b the shares that a choice takes of the two limits,
 * w·a + (1 − w)·b ≤ 1 follows from both, so its optimum is tried for several w, with the limit
 * drawn in where one is exceeded; and max(a, b) per group and type, whose sum bounds both, always
 * gives a choice that keeps them if it gives any. The best of those is taken.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/search.h"
#include "base/banned.h"

enum { GROWTHS = 40, BISECTIONS = 12, EXCHANGES_MAX = 64, MIXES = 6 };
static const double growth = 8;
static const double close_enough = 0.998; /* of the limit: nothing is left to look for */

static double cell(const double *ms, size_t group, enum dtype type)
{
    if (type == DT_NONE) /* its block is left out */
        return 0;
    return (unsigned)type < SEARCH_TYPES ? ms[group * SEARCH_TYPES + (unsigned)type] : NAN;
}

static double group_ms(const struct search_time *s, size_t group, enum dtype type)
{
    return cell(s->ms, group, type);
}

static double sum_of(const double *ms, const enum dtype *types, size_t n_groups)
{
    double sum = 0;
    for (size_t g = 0; g < n_groups; g++)
        sum += ms ? cell(ms, g, types[g]) : NAN;
    return sum;
}

double search_ms(const struct search_time *s, const enum dtype *types, size_t n_groups)
{
    return sum_of(s->ms, types, n_groups);
}

double search_first_ms(const struct search_time *s, const enum dtype *types, size_t n_groups)
{
    return sum_of(s->first_ms, types, n_groups);
}

static bool limits_decode(const struct search_time *s)
{
    return s->ms && s->ms_max > 0;
}

static bool limits_first(const struct search_time *s)
{
    return s->first_ms && s->first_max > 0;
}

bool search_time_limits(const struct search_time *s)
{
    return limits_decode(s) || limits_first(s);
}

bool search_time_keeps(const struct search_time *s, const enum dtype *types, size_t n_groups)
{
    return (!limits_decode(s) || search_ms(s, types, n_groups) <= s->ms_max) &&
           (!limits_first(s) || search_first_ms(s, types, n_groups) <= s->first_max);
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
            return err_set(e, ERR_INFEASIBLE, "ask for less speed, or allow more bytes",
                           "the fastest choice of types takes %.4g ms for its weights, %.4g are "
                           "allowed",
                           search_ms(b->time, b->types, b->table->n_groups), b->time->ms_max);
    }
    exchange_all(b->table, b->time, b->bytes_limit, b->best);
    return 0;
}

static int within_one(const struct probe_table *t, const struct search_time *time,
                      uint64_t bytes_limit, enum dtype *types, struct err *e)
{
    struct bracket b = {
        .table = t, .time = time, .bytes_limit = bytes_limit, .best = types, .best_kld = INFINITY};
    b.types = xcalloc(t->n_groups + 1, sizeof(*b.types));
    int rc = within(&b, e);
    xfree(b.types);
    return rc;
}

/* ---- both times ---- */

/* The time to the first token as if it were that per token. */
static struct search_time first_alone(const struct search_time *s)
{
    return (struct search_time){.ms = s->first_ms, .ms_max = s->first_max};
}

/* Of each group and type: w·a + (1 − w)·b of the shares of both limits; w < 0: the larger one. */
static void mix(const struct search_time *s, size_t n_groups, double w, double *out)
{
    for (size_t i = 0; i < n_groups * SEARCH_TYPES; i++) {
        double a = s->ms[i] / s->ms_max, b = s->first_ms[i] / s->first_max;
        out[i] = w >= 0 ? w * a + (1 - w) * b : a > b || isnan(a) ? a : b;
    }
}

struct both {
    const struct probe_table *table;
    const struct search_time *time;
    uint64_t bytes_limit;
    double *mixed;             /* (n_groups, SEARCH_TYPES) */
    enum dtype *trying, *best; /* (n_groups) */
    double best_kld;
};

/* Keeps trying[] where it is within both limits and the best so far. */
static bool take_both(struct both *b)
{
    size_t n = b->table->n_groups;
    double kld = allocate_kld(b->table, b->trying);
    bool keeps = search_time_keeps(b->time, b->trying, n);
    if (keeps && kld < b->best_kld) {
        memcpy(b->best, b->trying, n * sizeof(*b->best));
        b->best_kld = kld;
    }
    return keeps;
}

/* 1: solved under the mixed limit; 0: nothing keeps it; -1: error. */
static int solve_mixed(struct both *b, double limit, struct err *e)
{
    struct search_time t = {.ms = b->mixed, .ms_max = limit};
    struct err inner = {0};
    if (within_one(b->table, &t, b->bytes_limit, b->trying, &inner) == 0)
        return 1;
    if (inner.code == ERR_INFEASIBLE)
        return 0;
    *e = inner;
    return -1;
}

/* How far trying[] exceeds each limit: shares. */
static void shares(const struct both *b, double *decode, double *first)
{
    size_t n = b->table->n_groups;
    *decode = search_ms(b->time, b->trying, n) / b->time->ms_max;
    *first = search_first_ms(b->time, b->trying, n) / b->time->first_max;
}

/* One weight; *toward: 1 = the time per token is exceeded, −1 = that to the first, 0 = none. */
static int try_weight(struct both *b, double w, int *toward, struct err *e)
{
    double decode, first;
    mix(b->time, b->table->n_groups, w, b->mixed);
    int rc = solve_mixed(b, 1, e);
    *toward = 0;
    if (rc != 1 || take_both(b))
        return rc;
    shares(b, &decode, &first);
    *toward = decode > first ? 1 : -1;
    rc = solve_mixed(b, 0.999 / fmax(decode, first), e);
    if (rc == 1)
        take_both(b);
    return rc < 0 ? -1 : 1;
}

static int mix_both(struct both *b, struct err *e)
{
    double low = 0, high = 1;
    for (int i = 0; i < MIXES; i++) {
        double w = (low + high) / 2;
        int toward, rc = try_weight(b, w, &toward, e);
        if (rc < 0)
            return -1;
        if (rc == 0 || toward == 0)
            break;
        if (toward > 0)
            low = w;
        else
            high = w;
    }
    mix(b->time, b->table->n_groups, -1, b->mixed);
    int rc = solve_mixed(b, 1, e);
    if (rc == 1)
        take_both(b);
    return rc < 0 ? -1 : 0;
}

static int within_both(struct both *b, struct err *e)
{
    const struct search_time one = {.ms = b->time->ms, .ms_max = b->time->ms_max},
                             two = first_alone(b->time);
    if (within_one(b->table, &one, b->bytes_limit, b->trying, e) != 0)
        return -1;
    if (take_both(b))
        return 0;
    if (within_one(b->table, &two, b->bytes_limit, b->trying, e) != 0)
        return -1;
    if (take_both(b))
        return 0;
    if (mix_both(b, e) != 0)
        return -1;
    if (isinf(b->best_kld))
        return err_set(e, ERR_INFEASIBLE, "ask for less speed, or allow more bytes",
                       "no choice of types was found that keeps both the time per token and that "
                       "to the first");
    return 0;
}

int allocate_within(const struct probe_table *t, const struct search_time *time,
                    uint64_t bytes_limit, enum dtype *types, struct err *e)
{
    if (!time || !search_time_limits(time))
        return allocate(t, bytes_limit, types, NULL, NULL, e);
    struct search_time first = first_alone(time);
    if (!limits_first(time) || !limits_decode(time))
        return within_one(t, limits_first(time) ? &first : time, bytes_limit, types, e);
    struct both b = {
        .table = t, .time = time, .bytes_limit = bytes_limit, .best = types, .best_kld = INFINITY};
    b.mixed = xcalloc(t->n_groups * SEARCH_TYPES + 1, sizeof(*b.mixed));
    b.trying = xcalloc(t->n_groups + 1, sizeof(*b.trying));
    int rc = within_both(&b, e);
    xfree(b.mixed);
    xfree(b.trying);
    return rc;
}

int allocate_fastest(const struct probe_table *t, const struct search_time *time,
                     uint64_t bytes_limit, enum dtype *types, struct err *e)
{
    struct search_time first = first_alone(time);
    if (!limits_first(time) || !limits_decode(time))
        return solve(t, limits_first(time) ? &first : time, 0, 1, bytes_limit, types, e);
    double *mixed = xcalloc(t->n_groups * SEARCH_TYPES + 1, sizeof(*mixed));
    mix(time, t->n_groups, 0.5, mixed);
    struct search_time both = {.ms = mixed};
    int rc = solve(t, &both, 0, 1, bytes_limit, types, e);
    xfree(mixed);
    return rc;
}
