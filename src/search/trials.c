/* The trials of a run as a list of values: the Pareto front over (bytes, KL), and the best by a
 * goal.
 *
 * Failed trials stay in the list, so that nothing proposes them again, and are invisible to
 * everything else here. All choices are deterministic: ties go to fewer bytes, then to the earlier
 * trial.
 */
#include "search/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/banned.h"

void trial_release(struct trial *t)
{
    recipe_release(&t->recipe);
    xfree(t->group_types);
    xfree(t->window_kld);
    xfree(t->reason);
    xfree(t->error);
    score_release(&t->score);
    *t = (struct trial){0};
}

void trials_release(struct trials *t)
{
    for (size_t i = 0; i < t->n; i++)
        trial_release(&t->items[i]);
    xfree(t->items);
    *t = (struct trials){0};
}

void trials_add(struct trials *l, const struct trial *t)
{
    l->items = xgrow(l->items, &l->capacity, l->n + 1, sizeof(*l->items));
    l->items[l->n++] = *t;
}

void trial_key(const struct recipe *r, char key[static 65])
{
    json_t *doc = recipe_json_new(r);
    char *text = json_text(doc, false);
    hash_sha256_text(text, strlen(text), key);
    xfree(text);
    json_decref(doc);
}

struct stat_mean trial_paired(const struct trial *a, const struct trial *b)
{
    size_t n = a->n_windows < b->n_windows ? a->n_windows : b->n_windows;
    if (!a->window_kld || !b->window_kld)
        n = 0;
    /* Windows have equally many positions, so a window's mean is one value of one cluster. */
    return stat_mean_paired(a->window_kld, b->window_kld, n, 1);
}

static bool usable(const struct trial *t)
{
    return !t->failed && t->score.has_kld && t->bytes > 0;
}

struct ranked {
    uint64_t bytes;
    double kld;
    size_t index;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    if (x->kld < y->kld || x->kld > y->kld)
        return x->kld < y->kld ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

size_t trials_front(const struct trials *t, size_t *indices)
{
    struct ranked *r = xcalloc(t->n + 1, sizeof(*r));
    size_t n = 0, out = 0;
    double lowest = INFINITY;
    for (size_t i = 0; i < t->n; i++)
        if (usable(&t->items[i]))
            r[n++] = (struct ranked){t->items[i].bytes, t->items[i].score.kld_mean, i};
    qsort(r, n, sizeof(*r), compare_ranked);
    for (size_t i = 0; i < n; i++) {
        if (!(r[i].kld < lowest))
            continue;
        lowest = r[i].kld;
        indices[out++] = r[i].index;
    }
    xfree(r);
    return out;
}

/* The knee: the front's point farthest below the chord from its smallest to its largest member, in
 * (bytes, √KL). How often a model chooses another token than the original grows with √KL, so this
 * is where a further byte stops buying more agreement than bytes do on average over the front. KL
 * itself would make the smallest file decide alone, its logarithm falls along a line on which no
 * point stands out. */
static int front_knee(const struct trials *t)
{
    size_t *front = xcalloc(t->n + 1, sizeof(*front));
    size_t n = trials_front(t, front);
    int knee = -1;
    double deepest = -1;
    for (size_t i = 0; i < n; i++) {
        const struct trial *a = &t->items[front[0]], *b = &t->items[front[n - 1]];
        const struct trial *c = &t->items[front[i]];
        double span = (double)(b->bytes - a->bytes);
        double x = span > 0 ? (double)(c->bytes - a->bytes) / span : 0;
        double ya = sqrt(fmax(a->score.kld_mean, 0)), yb = sqrt(fmax(b->score.kld_mean, 0));
        double depth = ya + x * (yb - ya) - sqrt(fmax(c->score.kld_mean, 0));
        if (depth > deepest) {
            deepest = depth;
            knee = (int)front[i];
        }
    }
    xfree(front);
    return knee;
}

/* Is a better than b for these targets, both meeting them? */
static bool better(const struct trial *a, const struct trial *b, bool smallest)
{
    if (smallest && a->bytes != b->bytes)
        return a->bytes < b->bytes;
    if (a->score.kld_mean < b->score.kld_mean || a->score.kld_mean > b->score.kld_mean)
        return a->score.kld_mean < b->score.kld_mean;
    return a->bytes < b->bytes;
}

static int best_of(const struct trials *t, const struct targets *targets, uint64_t parameters,
                   bool stock_only)
{
    bool smallest = targets_accuracy_only(targets);
    int best = -1;
    for (size_t i = 0; i < t->n; i++) {
        const struct trial *c = &t->items[i];
        if (!usable(c) || (stock_only && !c->stock) ||
            !targets_met(targets, c->bytes, parameters, &c->score, NULL))
            continue;
        if (best < 0 || better(c, &t->items[best], smallest))
            best = (int)i;
    }
    return best;
}

int trials_best(const struct trials *t, const struct targets *targets, uint64_t parameters)
{
    if (!targets_any(targets))
        return front_knee(t);
    return best_of(t, targets, parameters, false);
}

int trials_best_stock(const struct trials *t, const struct targets *targets, uint64_t parameters)
{
    return best_of(t, targets, parameters, true);
}

int trials_nearest(const struct trials *t, const struct targets *targets, uint64_t parameters)
{
    int best = -1;
    double nearest = INFINITY;
    for (size_t i = 0; i < t->n; i++) {
        const struct trial *c = &t->items[i];
        if (!usable(c))
            continue;
        double d = targets_distance(targets, c->bytes, parameters, &c->score);
        if (best < 0 || d < nearest || (!(d > nearest) && better(c, &t->items[best], false))) {
            nearest = d;
            best = (int)i;
        }
    }
    return best;
}
