/* The built-in proposer: what to try next, from the space and the history alone.
 *
 * Four ways, by what was asked. A byte limit (from size, bits, memory or speed): the knapsack's
 * optimum, the same without blocks where that promises anything (drops.c), then, with or without
 * them as the best so far, optima under corrected tables and single moves, until two trials in a
 * row bring nothing that the paired interval can tell from noise. Only accuracy: the limit is
 * searched, each time where the relation between KL and agreement seen so far puts the target. No
 * target: a ladder of limits, coarse to fine. Before all that, the stock mixes (stocks.c).
 * Stateless: a resumed run gets the same proposals.
 */
#include "search/search_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

enum { LADDER = 8, PATIENCE = 2, HALVINGS = 24 };
/* Average bits of the weights between which the ladder runs. */
static const double ladder_low = 3.0, ladder_high = 7.0;
static const double ladder_same = 0.97;    /* a trial this near under a rung stands for it */
static const double close_enough = 0.98;   /* of the smallest that meets an accuracy target */
static const double accuracy_step = 0.988; /* each trial for accuracy moves at least so far */
static const double worth_a_file =
    0.998; /* predicted share of the best KL that a new optimum needs */

int history_search_count(const struct trials *h)
{
    int n = 0;
    for (size_t i = 0; i < h->n; i++)
        n += !h->items[i].stock;
    return n;
}

void proposal_release(struct proposal *p)
{
    recipe_release(&p->recipe);
    xfree(p->group_types);
    *p = (struct proposal){0};
}

int search_recipe(struct recipe *r, const struct model_desc *d, const struct probe_groups *groups,
                  const enum dtype *types, struct err *e)
{
    return search_recipe_without(r, d, groups, types, NULL, e);
}

/* What one call of next works on. */
struct look {
    const struct search_space *space;
    const struct trials *history;
    const struct search_drop *drop; /* blocks that are left out, NULL = none */
    uint64_t fixed;                 /* of the file, then */
    struct probe_table table;       /* corrected, what is expected of a file; owns its groups */
    struct probe_table
        weighted;      /* the same with the handicap, what is optimised; owns its groups */
    double floor;      /* of every file's KL, beside its weights */
    uint64_t limit;    /* of the file */
    enum dtype *types; /* (n_groups) scratch */
};

static bool codebook(enum dtype type)
{
    switch (type) {
    case DT_IQ1_S:
    case DT_IQ1_M:
    case DT_IQ2_XXS:
    case DT_IQ2_XS:
    case DT_IQ2_S:
    case DT_IQ3_XXS:
    case DT_IQ3_S:
        return true;
    default:
        return false;
    }
}

static void weigh_table(struct probe_table *to, const struct probe_table *t, double handicap)
{
    *to = *t;
    to->groups = xcalloc(t->n_groups + 1, sizeof(*to->groups));
    memcpy(to->groups, t->groups, t->n_groups * sizeof(*to->groups));
    for (int k = 0; k < t->n_types; k++)
        for (size_t g = 0; handicap > 1 && codebook(t->types[k]) && g < t->n_groups; g++)
            to->groups[g].kld[k] *= handicap;
}

static void look_init(struct look *l, const struct search_space *s, const struct trials *h,
                      const struct search_drop *drop)
{
    *l = (struct look){.space = s, .history = h, .drop = drop};
    l->fixed = drop ? drop->fixed_bytes : s->fixed_bytes;
    l->floor = correct_table(&l->table, s, drop, h);
    drops_mark(&l->table, s->groups, drop);
    /* A limit on time knows what each type costs on the device; then nothing else is needed. */
    weigh_table(&l->weighted, &l->table, search_time_limits(&s->time) ? 1 : s->codebook_handicap);
    uint64_t most = l->fixed + allocate_largest(&l->table);
    /* A limit below what these types can reach is a target that is missed: then the smallest there
     * is. */
    uint64_t least = l->fixed + allocate_smallest(&l->table);
    l->limit = s->bytes_limit < most ? s->bytes_limit : most;
    l->limit = l->limit < least ? least : l->limit;
    l->types = xcalloc(s->groups->n + 1, sizeof(*l->types));
}

static void look_release(struct look *l)
{
    xfree(l->table.groups);
    xfree(l->weighted.groups);
    xfree(l->types);
}

static int optimum(struct look *l, uint64_t file_limit, double *kld, struct err *e)
{
    uint64_t fixed = l->fixed;
    uint64_t room = file_limit > fixed ? file_limit - fixed : 0;
    struct err slow = {0};
    if (allocate_within(&l->weighted, &l->space->time, room, l->types, &slow) != 0) {
        if (slow.code != ERR_INFEASIBLE || !search_time_limits(&l->space->time)) {
            *e = slow;
            return -1;
        }
        /* A speed that these bytes cannot reach is a target that is missed: the fastest then. */
        if (allocate_fastest(&l->weighted, &l->space->time, room, l->types, e) != 0)
            return -1;
    }
    if (kld)
        *kld = allocate_kld(&l->table, l->types);
    return 0;
}

/* What l->types have of the floor. */
static double floor_of(const struct look *l)
{
    return l->floor * search_floor_share(&l->table, l->types);
}

/* The proposal of l->types. */
static int propose(struct look *l, struct proposal *p, const char *what, struct err *e)
{
    const struct search_space *s = l->space;
    char size[NUM_TEXT_MAX], remark[CACHE_TEXT_MAX + 16], blocks[SEARCH_BLOCKS_TEXT];
    size_t bytes = s->groups->n * sizeof(*p->group_types);
    *p = (struct proposal){0};
    if (search_recipe_without(&p->recipe, s->desc, s->groups, l->types, l->drop, e) != 0)
        return -1;
    p->recipe.feedback = s->feedback ? xstrdup(s->feedback) : NULL;
    p->recipe.cache = s->cache;
    p->group_types = xcalloc(s->groups->n + 1, sizeof(*p->group_types));
    memcpy(p->group_types, l->types, bytes);
    p->bytes = l->fixed + allocate_bytes(&l->table, l->types);
    p->cache_kld = s->cache_kld;
    p->predicted_kld = allocate_kld(&l->table, l->types) + floor_of(l) + s->cache_kld +
                       (l->drop ? l->drop->kld : 0);
    num_format_size(p->bytes, size);
    cache_remark(s->cache, remark);
    if (l->drop)
        snprintf(p->reason, sizeof(p->reason), "without %s: %s, %s%s",
                 search_blocks_text(l->drop->layers, l->drop->n_layers, blocks), what, size,
                 remark);
    else
        snprintf(p->reason, sizeof(p->reason), "%s, %s%s", what, size, remark);
    return 0;
}

/* ---- under a byte limit ---- */

/* Did trial t clearly improve on the best before it? */
static bool helped(const struct look *l, const struct trial *t, const struct trial *best)
{
    uint64_t parameters = l->space->desc->parameters;
    bool meets = targets_met(&l->space->targets, t->bytes, parameters, &t->score, NULL);
    if (!best)
        return meets;
    if (!meets)
        return false;
    struct stat_mean d = trial_paired(t, best);
    if (d.clusters >= 2)
        return d.high < 0;
    return t->score.kld_mean < 0.995 * best->score.kld_mean;
}

/* How many of the last search trials in a row brought nothing; those that lack other blocks than
 * are looked at count only where they did. */
static int vain_trials(const struct look *l)
{
    const struct trial *best = NULL;
    uint64_t parameters = l->space->desc->parameters;
    int vain = 0;
    for (size_t i = 0; i < l->history->n; i++) {
        const struct trial *t = &l->history->items[i];
        if (t->failed)
            continue;
        bool helps = helped(l, t, best);
        if (!t->stock && (helps || drops_is(l->drop, &t->recipe)))
            vain = helps ? 0 : vain + 1;
        if (targets_met(&l->space->targets, t->bytes, parameters, &t->score, NULL) &&
            (!best || t->score.kld_mean < best->score.kld_mean))
            best = t;
    }
    return vain;
}

static bool fast_enough(const struct look *l, const enum dtype *types)
{
    return search_time_keeps(&l->space->time, types, l->space->groups->n);
}

/* The best measured candidate that fits and whose types are all in the table, or NULL. */
static const struct trial *best_known(const struct look *l)
{
    const struct trial *best = NULL;
    for (size_t i = 0; i < l->history->n; i++) {
        const struct trial *t = &l->history->items[i];
        if (t->failed || !t->group_types || t->bytes > l->limit ||
            !cache_same(t->recipe.cache, l->space->cache) ||
            isnan(allocate_kld(&l->table, t->group_types)) || !fast_enough(l, t->group_types))
            continue;
        if (!best || t->score.kld_mean < best->score.kld_mean)
            best = t;
    }
    return best;
}

static int next_refined(struct look *l, struct proposal *p, struct err *e)
{
    int searched = history_search_count(l->history);
    if (vain_trials(l) >= PATIENCE)
        return 1;
    if (optimum(l, l->limit, NULL, e) != 0)
        return -1;
    const struct trial *best = best_known(l);
    double kld = allocate_kld(&l->weighted, l->types);
    double known = best ? allocate_kld(&l->weighted, best->group_types) : INFINITY;
    bool fresh = !history_has_types(l->space, l->history, l->types);
    if (fresh && (searched == 0 || !best || kld < worth_a_file * known))
        return propose(
            l, p, searched == 0 ? "additive optimum" : "optimum of corrected sensitivities", e);
    struct search_space s = *l->space;
    s.bytes_limit = l->limit;
    s.fixed_bytes = l->fixed;
    const enum dtype *from = best ? best->group_types : l->types;
    enum dtype *to = xcalloc(s.groups->n + 1, sizeof(*to));
    bool found = moves_best(&s, &l->weighted, l->history, from, to);
    memcpy(l->types, to, s.groups->n * sizeof(*to));
    xfree(to);
    return found ? propose(l, p, "groups moved around the best", e) : 1;
}

/* The first candidate without blocks that are worth one. */
static int next_dropped(struct look *l, struct proposal *p, struct err *e)
{
    if (optimum(l, l->limit, NULL, e) != 0)
        return -1;
    return propose(l, p, "additive optimum", e);
}

static int next_limited(const struct search_space *s, const struct trials *h, struct proposal *p,
                        struct err *e)
{
    struct look l;
    bool begun = history_search_count(h) > 0;
    const struct search_drop *next = begun ? drops_next(s, h) : NULL;
    look_init(&l, s, h, next ? next : begun ? drops_of_best(s, h) : NULL);
    int rc = next ? next_dropped(&l, p, e) : next_refined(&l, p, e);
    look_release(&l);
    return rc;
}

/* ---- without targets ---- */

static uint64_t rung_limit(const struct look *l, int rung)
{
    uint64_t elements = 0;
    for (size_t g = 0; g < l->space->groups->n; g++)
        elements += l->space->groups->items[g].elements;
    double bits = ladder_low * pow(ladder_high / ladder_low, (double)rung / (LADDER - 1));
    double low = (double)allocate_smallest(l->space->table) * 1.02;
    double weights = fmax(low, (double)elements * bits / 8);
    return l->space->fixed_bytes + (uint64_t)weights;
}

static bool rung_done(const struct look *l, uint64_t limit)
{
    for (size_t i = 0; i < l->history->n; i++) {
        const struct trial *t = &l->history->items[i];
        if (!t->stock && t->bytes <= limit && (double)t->bytes >= ladder_same * (double)limit)
            return true;
    }
    return false;
}

static int next_rung(struct look *l, struct proposal *p, struct err *e)
{
    static const int order[LADDER] = {3, 7, 0, 5, 1, 4, 2, 6};
    for (int i = 0; i < LADDER; i++) {
        uint64_t limit = rung_limit(l, order[i]);
        if (rung_done(l, limit))
            continue;
        if (optimum(l, limit, NULL, e) != 0)
            return -1;
        if (!history_has_types(l->space, l->history, l->types))
            return propose(l, p, "additive optimum of the ladder", e);
    }
    return 1;
}

/* What is recommended must have been beside the best mix of its size; other members of the front
 * only where that mix might be as good. */
static int next_rival(const struct search_space *space, const struct trials *history,
                      struct proposal *p, struct err *e)
{
    int knee = trials_best(history, &space->targets, space->desc->parameters), rc = 1;
    size_t *front = xcalloc(history->n + 1, sizeof(*front));
    size_t n = trials_front(history, front);
    for (size_t i = 0; rc == 1 && i < n; i++) {
        const struct trial *t = &history->items[front[i]];
        if (!t->stock || (int)front[i] == knee)
            rc = stocks_rival(space, history, t, (int)front[i] == knee, p, e);
    }
    xfree(front);
    return rc;
}

/* ---- for an accuracy ---- */

/* Disagreement grows with the square root of KL: the shift of a logit is of first order, KL of
 * second. The factor is taken from the measured trial nearest in KL. */
static double kld_for_accuracy(const struct look *l, double accuracy)
{
    double wanted = fmax(1 - accuracy, 1e-6), kld = NAN, nearest = INFINITY;
    for (size_t i = 0; i < l->history->n; i++) {
        const struct trial *t = &l->history->items[i];
        if (t->failed || !(t->score.kld_mean > 0))
            continue;
        double off = fmax(1 - t->score.top1, 1e-6), ratio = wanted / off;
        if (fabs(log(ratio)) < nearest) {
            nearest = fabs(log(ratio));
            kld = t->score.kld_mean * ratio * ratio;
        }
    }
    return isnan(kld) ? wanted * wanted * 4 : kld;
}

/* The smallest file limit in (low, high) whose optimum is predicted to have at most this KL. */
static int limit_for_kld(struct look *l, double kld, uint64_t low, uint64_t high, uint64_t *limit,
                         struct err *e)
{
    for (int i = 0; i < HALVINGS && high - low > high / 512; i++) {
        uint64_t middle = low + (high - low) / 2;
        double predicted;
        if (optimum(l, middle, &predicted, e) != 0)
            return -1;
        if (predicted + floor_of(l) <= kld)
            high = middle;
        else
            low = middle;
    }
    *limit = high;
    return 0;
}

/* What the history says about the size that is wanted: low missed the target, high met it (or is
 * the largest there is, when met is false). */
struct bracket {
    uint64_t low, high;
    bool met;
};

static struct bracket bracket_of(const struct look *l)
{
    const struct search_space *s = l->space;
    struct bracket b = {s->fixed_bytes + allocate_smallest(s->table), l->limit, false};
    for (size_t i = 0; i < l->history->n; i++) {
        const struct trial *c = &l->history->items[i];
        if (c->failed)
            continue;
        if (!targets_met(&s->targets, c->bytes, s->desc->parameters, &c->score, NULL)) {
            if (!c->stock && c->bytes > b.low)
                b.low = c->bytes;
        } else if (!b.met || c->bytes < b.high) {
            b.high = c->bytes;
            b.met = true;
        }
    }
    return b;
}

static int next_accurate(struct look *l, struct proposal *p, struct err *e)
{
    struct bracket b = bracket_of(l);
    uint64_t limit = b.high;
    double kld = kld_for_accuracy(l, l->space->targets.accuracy_min);
    if ((double)b.low >= close_enough * (double)b.high)
        return 1;
    if (limit_for_kld(l, kld, b.low, b.high, &limit, e) != 0)
        return -1;
    /* Each step moves by a share that is worth a file, whatever the relation says. */
    uint64_t highest = b.met ? (uint64_t)(accuracy_step * (double)b.high) : b.high;
    uint64_t lowest = (uint64_t)((double)b.low / accuracy_step);
    limit = limit > highest ? highest : limit;
    limit = limit < lowest && lowest < highest ? lowest : limit;
    for (int i = 0; i < HALVINGS; i++) {
        bool last = b.high - limit <= b.high / 512;
        if (last && b.met)
            return 1;
        limit = last ? b.high : limit;
        if (optimum(l, limit, NULL, e) != 0)
            return -1;
        if (!history_has_types(l->space, l->history, l->types))
            return propose(l, p, "smallest that should agree often enough", e);
        if (last)
            return 1;
        limit += (b.high - limit) / 2;
    }
    return 1;
}

/* ---- the KV cache ---- */

const char *cache_remark(struct cache_types t, char text[static CACHE_TEXT_MAX + 16])
{
    char types[CACHE_TEXT_MAX];
    text[0] = 0;
    if (!cache_is_default(t))
        snprintf(text, CACHE_TEXT_MAX + 16, ", %s KV cache", cache_text(t, types));
    return text;
}

struct search_space search_with_cache(const struct search_space *s, int k)
{
    struct search_space one = *s;
    if (k < s->n_caches) {
        one.bytes_limit = s->caches[k].bytes_limit;
        one.cache = s->caches[k].types;
        one.cache_kld = s->caches[k].kld;
    }
    return one;
}

/* Its types cost KL and leave bytes, which save KL: one more group, whose choices are few enough
 * to solve the knapsack for each. */
int search_best_cache(const struct search_space *s, const struct trials *history,
                      double kld[static SEARCH_CACHES_MAX], struct err *e)
{
    int best = 0, solved = 0;
    struct err why = {0};
    for (int k = 0; k < s->n_caches; k++) {
        struct search_space one = search_with_cache(s, k);
        struct look l;
        look_init(&l, &one, history, NULL);
        kld[k] = NAN;
        int rc = l.limit > one.bytes_limit ? 0 : optimum(&l, l.limit, &kld[k], &why);
        kld[k] += floor_of(&l) + one.cache_kld;
        look_release(&l);
        if (rc != 0 && why.code != ERR_INFEASIBLE) {
            if (e)
                *e = why;
            return -1;
        }
        solved += rc == 0;
        if (kld[k] < kld[best] || (isnan(kld[best]) && !isnan(kld[k])))
            best = k;
    }
    if (solved > 0 || s->n_caches == 0)
        return best;
    if (e)
        *e = why;
    return -1;
}

static int next_of_search(const struct search_space *space, const struct trials *history,
                          struct proposal *p, struct err *e)
{
    int rc;
    bool free = space->bytes_limit == UINT64_MAX && !targets_any(&space->targets);
    if (history_search_count(history) >= space->max_trials)
        return free ? next_rival(space, history, p, e) : 1;
    bool accurate = targets_accuracy_only(&space->targets);
    if (space->bytes_limit != UINT64_MAX || (!accurate && targets_any(&space->targets)))
        return next_limited(space, history, p, e);
    struct look l;
    look_init(&l, space, history, NULL);
    rc = accurate ? next_accurate(&l, p, e) : next_rung(&l, p, e);
    look_release(&l);
    return free && rc == 1 ? next_rival(space, history, p, e) : rc;
}

/* Stock mixes run with the cache that is chosen, so that what a candidate gains over them is not
 * the merit of its cache; one, the largest that fits, also with the cache that everybody has. */
static int builtin_next(void *ud, const struct search_space *space, const struct trials *history,
                        struct proposal *p, struct err *e)
{
    double kld[SEARCH_CACHES_MAX];
    (void)ud;
    bool choice = space->table && space->n_caches > 1;
    int rc = 1, best = choice ? search_best_cache(space, history, kld, e) : 0;
    if (best < 0)
        return -1;
    struct search_space first = search_with_cache(space, 0),
                        chosen = search_with_cache(space, best);
    if (best > 0)
        rc = stocks_next(&first, history, 1, p, e);
    if (rc == 1)
        rc = stocks_next(&chosen, history, SIZE_MAX, p, e);
    return rc == 1 && space->table ? next_of_search(&chosen, history, p, e) : rc;
}

static void builtin_close(void *ud)
{
    (void)ud;
}

void search_builtin(struct proposer *p)
{
    *p = (struct proposer){.name = "builtin", .next = builtin_next, .close = builtin_close};
}
