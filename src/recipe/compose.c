/* From types per tensor to a short recipe: what a search hands to people.
 *
 * The first rule gives every tensor the most frequent type, so the result does not depend on what
 * the base mix would choose; the base only names the file type. Then, tensor kind by tensor kind
 * ("ffn_down.weight" of all layers), either the exceptions are named or, where that is shorter,
 * another type for the kind and then its exceptions; kinds with the same layers and type share one
 * rule:
 *     *                                       Q4_K
 *     blk.{0-3,28-31}.{attn_v,ffn_down}.weight  Q6_K     (written with whole suffixes)
 *     token_embd.weight                       Q8_0
 * Characters of a name that mean something in a glob are written as '?'. */
#include "recipe/recipe_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/banned.h"

enum { JOINED_MAX = 1000, TYPES_MAX = 64 };

struct item {
    const char *suffix; /* behind "blk.N." */
    int layer;
    enum dtype type;
};

/* A rule in the making. Defaults of a kind come before its exceptions. */
struct draft {
    char *layers, *suffixes;
    enum dtype type;
    bool exception;
};
struct drafts {
    struct draft *items;
    size_t n, capacity;
};

static void add_escaped(struct buf *b, const char *name)
{
    for (; *name; name++)
        buf_addc(b, strchr("*?{},", *name) ? '?' : *name);
}

/* Behind "blk.7.", or NULL when the name is not of that form. */
static const char *block_suffix(const struct model_tensor *t)
{
    char head[32];
    int n;

    if (t->layer < 0)
        return NULL;
    n = snprintf(head, sizeof head, "blk.%d.", t->layer);
    return strncmp(t->name, head, (size_t)n) == 0 ? t->name + n : NULL;
}

static int item_compare(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int by_suffix = strcmp(x->suffix, y->suffix);

    return by_suffix ? by_suffix : (x->layer > y->layer) - (x->layer < y->layer);
}

/* The type most tensors have; of equals the one met first. */
static enum dtype most_frequent(const enum dtype *types, const bool *wanted, size_t n)
{
    enum dtype seen[TYPES_MAX];
    size_t count[TYPES_MAX] = {0}, kinds = 0, best = 0;

    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        if (!wanted[i])
            continue;
        while (k < kinds && seen[k] != types[i])
            k++;
        if (k == kinds && kinds < TYPES_MAX)
            seen[kinds++] = types[i];
        if (k < kinds)
            count[k]++;
    }
    for (size_t k = 1; k < kinds; k++) {
        if (count[k] > count[best])
            best = k;
    }
    return kinds ? seen[best] : DT_F16;
}

static size_t distinct_besides(const struct item *items, size_t n, enum dtype besides)
{
    size_t distinct = 0;

    for (size_t i = 0; i < n; i++) {
        bool first = items[i].type != besides;
        for (size_t k = 0; k < i && first; k++)
            first = items[k].type != items[i].type;
        distinct += first;
    }
    return distinct;
}

/* "{0-3,7}" of the items of one type, of all for DT_NONE; braces only where needed. */
static char *layers_text(const struct item *items, size_t n, enum dtype type)
{
    struct buf b;
    bool several = false, all = type == DT_NONE;

    buf_init(&b, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        size_t end = i;
        if (!all && items[i].type != type)
            continue;
        while (end + 1 < n && (all || items[end + 1].type == type) &&
               items[end + 1].layer == items[end].layer + 1)
            end++;
        several = several || b.len > 0 || end > i;
        buf_addf(&b, b.len ? ",%d" : "%d", items[i].layer);
        if (end > i)
            buf_addf(&b, "-%d", items[end].layer);
        i = end;
    }
    if (several) {
        char *bare = buf_take(&b), *braced = xasprintf("{%s}", bare);
        xfree(bare);
        return braced;
    }
    return buf_take(&b);
}

/* Takes ownership of layers. Joins a draft that says the same of another kind. */
static void drafts_add(struct drafts *d, char *layers, const char *suffix, enum dtype type,
                       bool exception)
{
    struct buf b;

    buf_init(&b, RECIPE_MATCH_MAX);
    for (size_t k = 0; k < d->n; k++) {
        struct draft *have = &d->items[k];
        if (have->type != type || have->exception != exception ||
            strcmp(have->layers, layers) != 0 ||
            strlen(have->suffixes) + strlen(layers) > JOINED_MAX)
            continue;
        buf_addf(&b, "%s,", have->suffixes);
        add_escaped(&b, suffix);
        xfree(have->suffixes);
        have->suffixes = buf_take(&b);
        xfree(layers);
        return;
    }
    add_escaped(&b, suffix);
    d->items = xgrow(d->items, &d->capacity, d->n + 1, sizeof *d->items);
    d->items[d->n++] = (struct draft){layers, buf_take(&b), type, exception};
}

/* One kind of tensor over its layers. */
static void draft_kind(struct drafts *d, const struct item *items, size_t n, enum dtype usual)
{
    const char *suffix = items[0].suffix;
    enum dtype *types = xcalloc(n, sizeof *types), own;
    bool *all = xcalloc(n, sizeof *all);

    for (size_t i = 0; i < n; i++) {
        types[i] = items[i].type;
        all[i] = true;
    }
    own = most_frequent(types, all, n);
    if (own == usual || 1 + distinct_besides(items, n, own) > distinct_besides(items, n, usual))
        own = usual;
    else
        drafts_add(d, layers_text(items, n, DT_NONE), suffix, own, false);
    for (size_t i = 0; i < n; i++) {
        bool first = items[i].type != own;
        for (size_t k = 0; k < i && first; k++)
            first = items[k].type != items[i].type;
        if (first)
            drafts_add(d, layers_text(items, n, items[i].type), suffix, items[i].type, true);
    }
    xfree(types);
    xfree(all);
}

static void draft_blocks(struct drafts *d, struct item *items, size_t n, enum dtype usual)
{
    qsort(items, n, sizeof *items, item_compare);
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && strcmp(items[end].suffix, items[i].suffix) == 0)
            end++;
        draft_kind(d, items + i, end - i, usual);
        i = end;
    }
}

static void drafts_emit(struct recipe *r, const struct drafts *d, bool exceptions)
{
    for (size_t k = 0; k < d->n; k++) {
        const struct draft *x = &d->items[k];
        bool several = strchr(x->suffixes, ',') != NULL;
        char *match;
        if (x->exception != exceptions)
            continue;
        match = xasprintf("blk.%s.%s%s%s", x->layers, several ? "{" : "", x->suffixes,
                          several ? "}" : "");
        recipe_add_rule(r, match, x->type);
        xfree(match);
    }
}

static void drafts_release(struct drafts *d)
{
    for (size_t k = 0; k < d->n; k++) {
        xfree(d->items[k].layers);
        xfree(d->items[k].suffixes);
    }
    xfree(d->items);
}

static void add_named(struct recipe *r, const char *name, enum dtype type)
{
    struct buf b;

    buf_init(&b, RECIPE_MATCH_MAX);
    add_escaped(&b, name);
    recipe_add_rule(r, buf_str(&b), type);
    buf_release(&b);
}

const char *recipe_lossless_type(const struct model_desc *d)
{
    for (size_t i = 0; i < d->n_tensors; i++)
        if (d->tensors[i].dtype != DT_BF16 && d->tensors[i].dtype_min != DT_F32)
            return "F32";
    return "BF16";
}

void recipe_from_types(struct recipe *r, const struct model_desc *d, const enum dtype *types)
{
    struct item *items = xcalloc(d->n_tensors + 1, sizeof *items);
    bool *wanted = xcalloc(d->n_tensors + 1, sizeof *wanted);
    struct drafts drafts = {0};
    size_t n = 0, quantizable = 0;
    enum dtype usual;

    for (size_t i = 0; i < d->n_tensors; i++)
        quantizable += wanted[i] = recipe_tensor_quantizable(d, i);
    usual = most_frequent(types, wanted, d->n_tensors);
    recipe_init(r, dtype_name(usual));
    if (quantizable > 0)
        recipe_add_rule(r, "*", usual);
    for (size_t i = 0; i < d->n_tensors; i++) {
        const char *suffix = block_suffix(&d->tensors[i]);
        if (wanted[i] && suffix)
            items[n++] = (struct item){suffix, d->tensors[i].layer, types[i]};
    }
    draft_blocks(&drafts, items, n, usual);
    drafts_emit(r, &drafts, false);
    drafts_emit(r, &drafts, true);
    for (size_t i = 0; i < d->n_tensors; i++) {
        if (wanted[i] && !block_suffix(&d->tensors[i]) && types[i] != usual)
            add_named(r, d->tensors[i].name, types[i]);
    }
    drafts_release(&drafts);
    xfree(items);
    xfree(wanted);
}
