/* Candidates that lack blocks.
 *
 * What a model loses with a block is no sum: neither with a second block nor with coarser types
 * beside it. So nothing is predicted to win. Sets of blocks come measured, each larger than the one
 * before (run/blocks.c); for a set the knapsack runs over the groups that are left, with the bytes
 * that the blocks took, and the candidate is measured whole like any other. The next set is worth a
 * file while the unquantized model without it is clearly nearer to the original than the best
 * candidate so far, as its types will cost something too, and while the set before brought a gain.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "search/search_int.h"
#include "base/banned.h"

static const double room_for_types = 0.8; /* of the best KL, that a set may cost unquantized */

bool drops_has_layer(const struct search_drop *d, int layer)
{
    for (size_t i = 0; d && layer >= 0 && i < d->n_layers; i++)
        if (d->layers[i] == (uint32_t)layer)
            return true;
    return false;
}

bool drops_is(const struct search_drop *d, const struct recipe *r)
{
    size_t n = d ? d->n_layers : 0;
    return r->n_drop_layers == n &&
           (n == 0 || memcmp(r->drop_layers, d->layers, n * sizeof(*d->layers)) == 0);
}

const struct search_drop *drops_find(const struct search_space *s, const struct recipe *r)
{
    for (size_t i = 0; i < s->n_drops; i++)
        if (drops_is(&s->drops[i], r))
            return &s->drops[i];
    return NULL;
}

void drops_mark(struct probe_table *t, const struct probe_groups *groups,
                const struct search_drop *d)
{
    for (size_t g = 0; g < t->n_groups; g++) {
        if (!drops_has_layer(d, groups->items[g].layer))
            continue;
        t->groups[g].absent = true;
        memset(t->groups[g].bytes, 0, sizeof(t->groups[g].bytes));
    }
}

static bool usable(const struct search_space *s, const struct trial *t)
{
    return !t->failed && t->score.has_kld &&
           targets_met(&s->targets, t->bytes, s->desc->parameters, &t->score, NULL);
}

const struct search_drop *drops_next(const struct search_space *s, const struct trials *h)
{
    double best = INFINITY;
    size_t tried = 0;
    bool gained = true;
    /* In the order of the history, so that each set is held against what was there before it. */
    for (size_t i = 0; i < h->n; i++) {
        const struct trial *t = &h->items[i];
        const struct search_drop *d = t->stock ? NULL : drops_find(s, &t->recipe);
        bool better = usable(s, t) && t->score.kld_mean < best;
        if (d && d == &s->drops[tried]) {
            gained = better;
            tried++;
        }
        best = better ? t->score.kld_mean : best;
    }
    if (!gained || tried >= s->n_drops || !(s->drops[tried].kld < room_for_types * best))
        return NULL;
    return &s->drops[tried];
}

const struct search_drop *drops_of_best(const struct search_space *s, const struct trials *h)
{
    const struct trial *best = NULL;
    for (size_t i = 0; i < h->n; i++) {
        const struct trial *t = &h->items[i];
        if (usable(s, t) && (!best || t->score.kld_mean < best->score.kld_mean))
            best = t;
    }
    return best && !best->stock ? drops_find(s, &best->recipe) : NULL;
}

/* ---- recipes ---- */

int search_recipe_without(struct recipe *r, const struct model_desc *d,
                          const struct probe_groups *groups, const enum dtype *types,
                          const struct search_drop *drop, struct err *e)
{
    const struct model_desc *rest = drop ? drop->desc : d;
    enum dtype *all = xcalloc(d->n_tensors + 1, sizeof(*all));
    size_t left = 0;
    for (size_t i = 0; i < d->n_tensors; i++)
        all[i] = DT_NONE;
    for (size_t g = 0; g < groups->n; g++)
        for (size_t i = 0; i < groups->items[g].n_tensors; i++)
            all[groups->items[g].tensors[i]] = types[g];
    for (size_t i = 0; i < d->n_tensors; i++)
        if (!drops_has_layer(drop, d->tensors[i].layer))
            all[left++] = all[i];
    int rc = left == rest->n_tensors
                 ? 0
                 : err_set(e, ERR_BUG, NULL, "%zu tensors are left without blocks, expected %zu",
                           left, rest->n_tensors);
    for (size_t i = 0; rc == 0 && i < left; i++)
        if (all[i] == DT_NONE && recipe_tensor_quantizable(rest, i))
            rc = err_set(e, ERR_BUG, NULL, "tensor %s belongs to no group", rest->tensors[i].name);
    if (rc == 0)
        recipe_from_types(r, rest, all);
    for (size_t i = 0; rc == 0 && drop && i < drop->n_layers; i++)
        recipe_drop_layer(r, drop->layers[i]);
    xfree(all);
    return rc;
}

char *search_blocks_text(const uint32_t *layers, size_t n, char text[static SEARCH_BLOCKS_TEXT])
{
    size_t at = (size_t)snprintf(text, SEARCH_BLOCKS_TEXT, n == 1 ? "block" : "blocks");
    for (size_t i = 0; i < n && at < SEARCH_BLOCKS_TEXT; i++) {
        const char *before = i == 0 ? " " : i + 1 < n ? ", " : " and ";
        at += (size_t)snprintf(text + at, SEARCH_BLOCKS_TEXT - at, "%s%u", before, layers[i]);
    }
    return text;
}
