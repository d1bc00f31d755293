/* The multi-choice knapsack: one type per group, bytes at most the limit, least predicted KL.
 *
 * Naive first: with G groups and T types there are T^G choices; Σ bytes ≤ limit couples them. The
 * classical dynamic programme keeps, for every number of bytes c, the least KL of the first g
 * groups within c: best[g][c] = min over types k of best[g-1][c - bytes(g,k)] + kld(g,k), G·C·T
 * steps. Two things make C small. Bytes are counted above each group's cheapest type, so C is the
 * room between the smallest candidate and the limit. And sizes of tensors share a large common
 * divisor (blocks × a power of two), so the grid of that divisor loses nothing: the result is
 * exact. Where it would need more than CELLS_MAX steps, sizes are rounded up to a coarser grid, so
 * the result always fits, and what rounding left unused is spent greedily on the step with the most
 * KL per byte.
 *
 * A type with NaN KL or no bytes is not possible for a group; a type that costs more than another
 * and saves nothing is dropped first. A group that is absent has DT_NONE and costs nothing. Memory:
 * G·C bytes for the choices, big_alloc, freed before return.
 */
#include "search/search.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

enum { CELLS_MAX = 1 << 16, CHOICE_BYTES_MAX = 1 << 26 };

/* One group's useful types, ascending bytes and strictly falling KL. */
struct ladder {
    int n;
    int type[PROBE_TYPES_MAX];       /* index into table->types */
    uint64_t extra[PROBE_TYPES_MAX]; /* bytes above the first */
    double kld[PROBE_TYPES_MAX];
    uint64_t base; /* bytes of the first */
};

static void ladder_insert(struct ladder *l, int type, uint64_t bytes, double kld)
{
    int at = l->n;
    while (at > 0 &&
           (l->extra[at - 1] > bytes || (l->extra[at - 1] == bytes && l->kld[at - 1] > kld)))
        at--;
    for (int i = l->n; i > at; i--) {
        l->type[i] = l->type[i - 1];
        l->extra[i] = l->extra[i - 1];
        l->kld[i] = l->kld[i - 1];
    }
    l->type[at] = type;
    l->extra[at] = bytes;
    l->kld[at] = kld;
    l->n++;
}

static void ladder_make(struct ladder *l, const struct probe_table *t, size_t group)
{
    const struct sensitivity *s = &t->groups[group];
    struct ladder all = {0};
    *l = (struct ladder){0};
    if (s->absent) { /* one rung, without type and bytes */
        l->type[l->n++] = -1;
        return;
    }
    for (int k = 0; k < t->n_types; k++)
        if (!isnan(s->kld[k]) && s->bytes[k] > 0)
            ladder_insert(&all, k, s->bytes[k], s->kld[k]);
    for (int i = 0; i < all.n; i++) {
        if (l->n > 0 && !(all.kld[i] < l->kld[l->n - 1]))
            continue;
        l->type[l->n] = all.type[i];
        l->extra[l->n] = all.extra[i];
        l->kld[l->n++] = all.kld[i];
    }
    l->base = l->n > 0 ? l->extra[0] : 0;
    for (int i = 0; i < l->n; i++)
        l->extra[i] -= l->base;
}

static uint64_t divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

struct knapsack {
    struct ladder *ladders;
    size_t n;
    uint64_t room; /* bytes above the smallest candidate */
    uint64_t unit; /* bytes per cell */
    size_t cells;  /* room / unit + 1 */
    int *choice;   /* per group, index into its ladder */
};

static void choose_grid(struct knapsack *k)
{
    uint64_t unit = 0, most = 0;
    size_t cells_max = k->n > 0 ? CHOICE_BYTES_MAX / k->n : CELLS_MAX;
    if (cells_max > CELLS_MAX)
        cells_max = CELLS_MAX;
    for (size_t g = 0; g < k->n; g++) {
        const struct ladder *l = &k->ladders[g];
        most += l->extra[l->n - 1];
        for (int i = 1; i < l->n; i++)
            unit = divisor(unit, l->extra[i]);
    }
    if (k->room > most)
        k->room = most; /* everything at its best fits: no grid beyond that */
    if (unit == 0)
        unit = 1;
    if (k->room / unit >= cells_max)
        unit = k->room / (cells_max - 1) + 1;
    k->unit = unit;
    k->cells = (size_t)(k->room / unit) + 1;
}

static size_t cells_of(const struct knapsack *k, uint64_t bytes)
{
    return (size_t)(bytes / k->unit + (bytes % k->unit != 0));
}

/* One group: best[] of the groups before → next[] with this one, and which rung it took. */
static void add_group(const struct knapsack *k, const struct ladder *l, const double *best,
                      double *next, uint8_t *took)
{
    for (size_t c = 0; c < k->cells; c++) {
        next[c] = best[c] + l->kld[0];
        took[c] = 0;
    }
    for (int i = 1; i < l->n; i++) {
        size_t w = cells_of(k, l->extra[i]);
        for (size_t c = w; c < k->cells; c++) {
            double value = best[c - w] + l->kld[i];
            if (value < next[c]) {
                next[c] = value;
                took[c] = (uint8_t)i;
            }
        }
    }
}

/* What each group took for every number of cells, (n, cells). big_free(took, n * cells). */
static uint8_t *solve(const struct knapsack *k, struct err *e)
{
    size_t row_bytes = k->cells * sizeof(double);
    uint8_t *took = big_alloc(k->n * k->cells, "the knapsack's choices", e);
    double *best = big_alloc(row_bytes, "the knapsack's table", e);
    double *next = big_alloc(row_bytes, "the knapsack's table", e);
    bool good = took && best && next;
    for (size_t g = 0; good && g < k->n; g++) {
        add_group(k, &k->ladders[g], best, next, took + g * k->cells);
        double *swap = best;
        best = next;
        next = swap;
    }
    big_free(best, row_bytes);
    big_free(next, row_bytes);
    if (!good) {
        big_free(took, k->n * k->cells);
        return NULL;
    }
    return took;
}

/* The choice for so many bytes above the smallest candidate. */
static void trace(struct knapsack *k, const uint8_t *took, uint64_t room)
{
    size_t c = (size_t)(room / k->unit);
    c = c < k->cells ? c : k->cells - 1;
    for (size_t g = k->n; g-- > 0;) {
        k->choice[g] = took[g * k->cells + c];
        c -= cells_of(k, k->ladders[g].extra[k->choice[g]]);
    }
}

/* Spends bytes that rounding left unused: the best step up by KL per byte, until none fits. */
static void spend_rest(struct knapsack *k, uint64_t room)
{
    uint64_t left = room;
    for (size_t g = 0; g < k->n; g++)
        left -= k->ladders[g].extra[k->choice[g]];
    for (;;) {
        double best = 0;
        size_t at = k->n;
        int to = 0;
        for (size_t g = 0; g < k->n; g++) {
            const struct ladder *l = &k->ladders[g];
            for (int i = k->choice[g] + 1; i < l->n; i++) {
                uint64_t cost = l->extra[i] - l->extra[k->choice[g]];
                double gain = (l->kld[k->choice[g]] - l->kld[i]) / (double)cost;
                if (cost > left || !(gain > best))
                    continue;
                best = gain;
                at = g;
                to = i;
            }
        }
        if (at == k->n)
            return;
        left -= k->ladders[at].extra[to] - k->ladders[at].extra[k->choice[at]];
        k->choice[at] = to;
    }
}

/* Ladders of all groups; *least: bytes of the smallest candidate. */
static int build(struct knapsack *k, const struct probe_table *t, uint64_t *least, struct err *e)
{
    *least = 0;
    k->n = t->n_groups;
    k->ladders = xcalloc(k->n + 1, sizeof(*k->ladders));
    k->choice = xcalloc(k->n + 1, sizeof(*k->choice));
    for (size_t g = 0; g < k->n; g++) {
        ladder_make(&k->ladders[g], t, g);
        if (k->ladders[g].n == 0)
            return err_set(e, ERR_UNSUPPORTED, "allow more types, or give an importance matrix",
                           "tensor group %zu: none of the allowed types can store it", g);
        *least += k->ladders[g].base;
    }
    return 0;
}

static int too_small(uint64_t least, uint64_t limit, struct err *e)
{
    char need[NUM_TEXT_MAX], have[NUM_TEXT_MAX];
    return err_set(e, ERR_INFEASIBLE, "raise the target, or allow smaller types",
                   "the smallest candidate needs %s for its weights, the limit leaves %s",
                   num_format_size(least, need), num_format_size(limit, have));
}

/* The allocation that the knapsack has chosen. */
static void take(struct knapsack *k, const struct probe_table *t, struct allocation *out)
{
    out->types = xcalloc(k->n + 1, sizeof(*out->types));
    for (size_t g = 0; g < k->n; g++) {
        int type = k->ladders[g].type[k->choice[g]];
        out->types[g] = type < 0 ? DT_NONE : t->types[type];
    }
    out->kld = allocate_kld(t, out->types);
    out->bytes = allocate_bytes(t, out->types);
}

int allocate_frontier(const struct probe_table *t, const uint64_t *limits, size_t n,
                      struct allocation *out, struct err *e)
{
    struct knapsack k = {0};
    uint64_t least, highest = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct allocation){.kld = NAN};
        highest = limits[i] > highest ? limits[i] : highest;
    }
    int rc = build(&k, t, &least, e);
    uint8_t *took = NULL;
    if (rc == 0 && highest >= least) {
        k.room = highest - least;
        choose_grid(&k);
        took = solve(&k, e);
        rc = took ? 0 : -1;
    }
    for (size_t i = 0; took && i < n; i++) {
        if (limits[i] < least)
            continue;
        uint64_t room = limits[i] - least < k.room ? limits[i] - least : k.room;
        trace(&k, took, room);
        spend_rest(&k, room);
        take(&k, t, &out[i]);
    }
    if (took)
        big_free(took, k.n * k.cells);
    xfree(k.ladders);
    xfree(k.choice);
    return rc;
}

/* The smallest allocation of types with a known KL. */
static uint64_t smallest_known(const struct probe_table *t)
{
    struct knapsack k = {0};
    uint64_t least = 0;
    build(&k, t, &least, NULL);
    xfree(k.ladders);
    xfree(k.choice);
    return least;
}

int allocate(const struct probe_table *t, uint64_t bytes_limit, enum dtype *types, double *kld,
             uint64_t *bytes, struct err *e)
{
    struct allocation a;
    if (allocate_frontier(t, &bytes_limit, 1, &a, e) != 0)
        return -1;
    if (!a.types)
        return too_small(smallest_known(t), bytes_limit, e);
    memcpy(types, a.types, t->n_groups * sizeof(*types));
    if (kld)
        *kld = a.kld;
    if (bytes)
        *bytes = a.bytes;
    xfree(a.types);
    return 0;
}

static int type_index(const struct probe_table *t, enum dtype type)
{
    for (int k = 0; k < t->n_types; k++)
        if (t->types[k] == type)
            return k;
    return -1;
}

double allocate_kld(const struct probe_table *t, const enum dtype *types)
{
    double sum = 0;
    for (size_t g = 0; g < t->n_groups; g++) {
        int k = type_index(t, types[g]);
        if (t->groups[g].absent)
            sum += types[g] == DT_NONE ? 0 : NAN;
        else
            sum += k < 0 ? NAN : t->groups[g].kld[k];
    }
    return sum;
}

uint64_t allocate_bytes(const struct probe_table *t, const enum dtype *types)
{
    uint64_t sum = 0;
    for (size_t g = 0; g < t->n_groups; g++) {
        int k = type_index(t, types[g]);
        sum += k < 0 ? 0 : t->groups[g].bytes[k];
    }
    return sum;
}

/* The extreme over possible types; a type is possible when it has bytes (sizes without KL count
 * too). */
static uint64_t extreme(const struct probe_table *t, bool largest)
{
    uint64_t sum = 0;
    for (size_t g = 0; g < t->n_groups; g++) {
        uint64_t found = 0;
        for (int k = 0; k < t->n_types; k++) {
            uint64_t b = t->groups[g].bytes[k];
            if (b > 0 && (found == 0 || (largest ? b > found : b < found)))
                found = b;
        }
        sum += found;
    }
    return sum;
}

uint64_t allocate_smallest(const struct probe_table *t)
{
    return extreme(t, false);
}

uint64_t allocate_largest(const struct probe_table *t)
{
    return extreme(t, true);
}
