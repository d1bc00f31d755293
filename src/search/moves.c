/* Local moves: one group up a type, another down, or one alone, within the byte limit.
 *
 * Under the table's own numbers no move improves the additive optimum, so a move is worth a file
 * when the table may be wrong about it. Each group's change of KL is taken as uncertain by UNSURE
 * of itself, and moves are ranked by the change that is one standard deviation better than
 * predicted: large steps that nearly balance come first, they are where a measurement can tell
 * most.
 */
#include "search/search_int.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/banned.h"

static const double unsure = 0.15;

struct step {
    size_t group;
    int type;      /* index into table->types */
    double change; /* of predicted KL */
    int64_t bytes;
};

static int type_index(const struct probe_table *t, enum dtype type)
{
    for (int k = 0; k < t->n_types; k++)
        if (t->types[k] == type)
            return k;
    return -1;
}

/* A type that another of the group beats in both bytes and KL is never stepped to. */
static bool dominated(const struct sensitivity *s, int n_types, int k)
{
    for (int j = 0; j < n_types; j++)
        if (j != k && s->bytes[j] > 0 && s->bytes[j] <= s->bytes[k] && s->kld[j] < s->kld[k])
            return true;
    return false;
}

static size_t steps_make(struct step *out, const struct probe_table *t, const enum dtype *from)
{
    size_t n = 0;
    for (size_t g = 0; g < t->n_groups; g++) {
        const struct sensitivity *s = &t->groups[g];
        int now = type_index(t, from[g]);
        for (int k = 0; now >= 0 && k < t->n_types; k++) {
            if (k == now || s->bytes[k] == 0 || isnan(s->kld[k]) || dominated(s, t->n_types, k))
                continue;
            out[n++] = (struct step){g, k, s->kld[k] - s->kld[now],
                                     (int64_t)s->bytes[k] - (int64_t)s->bytes[now]};
        }
    }
    return n;
}

bool history_has_types(const struct search_space *s, const struct trials *h,
                       const enum dtype *types)
{
    for (size_t i = 0; i < h->n; i++)
        if (h->items[i].group_types && cache_same(h->items[i].recipe.cache, s->cache) &&
            memcmp(h->items[i].group_types, types, s->groups->n * sizeof(*types)) == 0)
            return true;
    return false;
}

struct moves {
    const struct probe_table *table;
    const struct trials *history;
    const enum dtype *from;
    const struct search_space *space;
    enum dtype *trying, *best; /* (n_groups) */
    double best_value;
};

static void consider(struct moves *m, const struct step *a, const struct step *b)
{
    double change = a->change + (b ? b->change : 0);
    double spread = b ? sqrt(a->change * a->change + b->change * b->change) : fabs(a->change);
    double value = change - unsure * spread;
    size_t bytes = m->table->n_groups * sizeof(*m->trying);
    if (!(value < m->best_value))
        return;
    memcpy(m->trying, m->from, bytes);
    m->trying[a->group] = m->table->types[a->type];
    if (b)
        m->trying[b->group] = m->table->types[b->type];
    if (!search_time_keeps(&m->space->time, m->trying, m->table->n_groups))
        return;
    if (history_has_types(m->space, m->history, m->trying))
        return;
    memcpy(m->best, m->trying, bytes);
    m->best_value = value;
}

bool moves_best(const struct search_space *s, const struct probe_table *t, const struct trials *h,
                const enum dtype *from, enum dtype *types)
{
    size_t room = t->n_groups * (size_t)t->n_types + 1;
    struct step *steps = xcalloc(room, sizeof(*steps));
    struct moves m = {.table = t, .history = h, .from = from, .space = s, .best = types};
    uint64_t now = s->fixed_bytes + allocate_bytes(t, from);
    int64_t free_bytes = (int64_t)(s->bytes_limit - now);
    m.trying = xcalloc(t->n_groups + 1, sizeof(*m.trying));
    size_t n = now <= s->bytes_limit ? steps_make(steps, t, from) : 0;
    for (size_t i = 0; i < n; i++) {
        if (steps[i].bytes <= free_bytes)
            consider(&m, &steps[i], NULL);
        /* A pair: the first frees what the second spends. */
        for (size_t j = 0; j < n && steps[i].bytes < 0; j++)
            if (steps[j].bytes > 0 && steps[j].group != steps[i].group &&
                steps[i].bytes + steps[j].bytes <= free_bytes)
                consider(&m, &steps[i], &steps[j]);
    }
    xfree(m.trying);
    xfree(steps);
    return m.best_value < 0;
}
