/* Which stock mixes are worth a measurement, and in which order.
 *
 * A mix's size is arithmetic and its KL is predicted from the same sensitivities as every
 * candidate's, so most need no file. Under a byte limit the largest that fits is always measured,
 * and all whose prediction is within DOUBT of the best one's; a mix with a type the table does not
 * know is measured when it is nearly as large as the largest. Without a limit, those that no other
 * beats in size and prediction are measured, of a large model only those that may rival a member of
 * the front, once that is known. With only an accuracy target they are bisected by
 * size.
 */
#include "search/search_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

static const double doubt = 1.5; /* predictions this near to the best are not trusted to differ */
static const double nearly_all = 0.9; /* of the largest mix's bytes */
enum { LIMIT_MAX = 6, FRONT_MAX = 6, GGUF_ALIGNMENT = 32 };

/* Types that only models trained for them survive; every mix of such a base is left out. */
static bool for_any_model(const struct stock_mix *m, const struct model_desc *d)
{
    const struct dtype_info *t = dtype_info(stock_base_type(m));
    switch (t->id) {
    case DT_TQ1_0:
    case DT_TQ2_0:
    case DT_Q1_0:
    case DT_Q2_0:
        return false;
    case DT_MXFP4:
        return d->n_expert > 0;
    default:
        return t->quantized;
    }
}

static bool allowed(const struct search_space *s, const struct stock_mix *m)
{
    if (!for_any_model(m, s->desc) || (!s->have_importance && stock_needs_importance(m, s->desc)))
        return false;
    for (size_t i = 0; s->stock_names && s->stock_names[i]; i++)
        if (strcmp(s->stock_names[i], stock_name(m)) == 0)
            return true;
    return !s->stock_names;
}

static double predicted_member(const struct search_space *s, size_t group, enum dtype type)
{
    for (int k = 0; s->table && k < s->table->n_types; k++)
        if (s->table->types[k] == type)
            return s->table->groups[group].kld[k];
    return NAN;
}

/* Adds one group of a plan: its bytes as a file has them, its type, and its predicted KL, each
 * member counting by its share of the group's elements. */
static int stock_group(struct search_stock *out, const struct search_space *s, size_t g,
                       const struct plan *plan, struct err *e)
{
    const struct probe_group *group = &s->groups->items[g];
    for (size_t i = 0; i < group->n_tensors; i++) {
        size_t t = group->tensors[i];
        uint64_t elements, padded;
        if (!shape_elements(&s->desc->tensors[t].shape, &elements) ||
            !num_align_u64(plan->tensors[t].bytes, GGUF_ALIGNMENT, &padded) ||
            !num_add_u64(out->bytes, padded, &out->bytes))
            return err_set(e, ERR_INPUT, NULL, "stock mix %s: its size overflows", out->name);
        enum dtype type = plan->tensors[t].asked;
        out->types[g] = i == 0 || out->types[g] == type ? type : DT_NONE;
        out->kld += predicted_member(s, g, type) * (double)elements / (double)group->elements;
    }
    return 0;
}

static int stock_make(struct search_stock *out, const struct search_space *s,
                      const struct stock_mix *m, struct err *e)
{
    struct recipe r;
    struct plan plan = {0};
    struct recipe_options o = {
        .have_importance = s->have_importance, .output_type = DT_NONE, .embedding_type = DT_NONE};
    recipe_init(&r, stock_name(m));
    *out = (struct search_stock){.name = stock_name(m), .bytes = s->fixed_bytes};
    out->types = xcalloc(s->groups->n + 1, sizeof(*out->types));
    int rc = recipe_resolve(&r, s->desc, &o, &plan, e);
    for (size_t g = 0; rc == 0 && g < s->groups->n; g++)
        rc = stock_group(out, s, g, &plan, e);
    out->ms = rc == 0 ? search_ms(&s->time, out->types, s->groups->n) : NAN;
    out->first_ms = rc == 0 ? search_first_ms(&s->time, out->types, s->groups->n) : NAN;
    plan_release(&plan);
    recipe_release(&r);
    return rc;
}

static int compare_stocks(const void *a, const void *b)
{
    const struct search_stock *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

int search_stocks(const struct search_space *s, struct search_stock **list, size_t *n,
                  struct err *e)
{
    struct search_stock *out = NULL;
    size_t capacity = 0, count = 0;
    for (int i = 0; stock_at(i); i++) {
        if (!allowed(s, stock_at(i)))
            continue;
        out = xgrow(out, &capacity, count + 1, sizeof(*out));
        if (stock_make(&out[count++], s, stock_at(i), e) != 0) {
            search_stocks_free(out, count);
            return -1;
        }
    }
    if (count > 0)
        qsort(out, count, sizeof(*out), compare_stocks);
    *list = out;
    *n = count;
    return 0;
}

void search_stocks_free(struct search_stock *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        xfree(list[i].types);
    xfree(list);
}

/* Keeps of the n mixes those marked; returns how many. */
static size_t keep(struct search_stock *list, size_t n, const bool *wanted)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        if (wanted[i])
            list[out++] = list[i];
        else
            xfree(list[i].types);
    }
    return out;
}

/* Best prediction first; unknown ones before, as they were only kept in doubt. */
static int compare_promise(const void *a, const void *b)
{
    const struct search_stock *x = a, *y = b;
    double p = isnan(x->kld) ? -1 : x->kld, q = isnan(y->kld) ? -1 : y->kld;
    if (p < q || p > q)
        return p < q ? -1 : 1;
    return compare_stocks(a, b);
}

static bool fits(const struct search_space *s, const struct search_stock *m)
{
    const struct search_time *t = &s->time;
    return m->bytes <= s->bytes_limit && !(t->ms_max > 0 && m->ms > t->ms_max) &&
           !(t->first_max > 0 && m->first_ms > t->first_max);
}

/* Under a limit: list is sorted by size, largest first. */
static size_t select_limit(const struct search_space *s, struct search_stock *list, size_t n)
{
    bool *wanted = xcalloc(n + 1, sizeof(*wanted));
    const struct search_stock *largest = NULL;
    double best = INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (!fits(s, &list[i]))
            continue;
        largest = largest ? largest : &list[i];
        best = list[i].kld < best ? list[i].kld : best;
    }
    for (size_t i = 0; i < n; i++) {
        bool near = isnan(list[i].kld) && largest &&
                    (double)list[i].bytes >= nearly_all * (double)largest->bytes;
        wanted[i] =
            fits(s, &list[i]) && (&list[i] == largest || near || list[i].kld <= doubt * best);
    }
    n = keep(list, n, wanted);
    xfree(wanted);
    if (n > 1)
        qsort(list + 1, n - 1, sizeof(*list), compare_promise); /* the largest stays first */
    for (; n > LIMIT_MAX; n--)
        xfree(list[n - 1].types);
    return n;
}

/* Those on the front of (size, prediction), at most `most` of them, evenly spread. */
static size_t select_front(struct search_stock *list, size_t n, size_t most)
{
    bool *wanted = xcalloc(n + 1, sizeof(*wanted));
    for (size_t i = 0; i < n; i++) {
        wanted[i] = !isnan(list[i].kld);
        for (size_t j = 0; j < n && wanted[i]; j++)
            if (list[j].bytes <= list[i].bytes && list[j].kld < list[i].kld)
                wanted[i] = false;
    }
    n = keep(list, n, wanted);
    if (n > most) {
        memset(wanted, 0, n * sizeof(*wanted));
        for (size_t i = 0; i < most; i++)
            wanted[i * (n - 1) / (most - 1)] = true;
        n = keep(list, n, wanted);
    }
    xfree(wanted);
    return n;
}

static const struct trial *stock_trial(const struct search_space *s, const struct trials *h,
                                       const char *name)
{
    for (size_t i = 0; i < h->n; i++)
        if (h->items[i].stock_name && strcmp(h->items[i].stock_name, name) == 0 &&
            cache_same(h->items[i].recipe.cache, s->cache))
            return &h->items[i];
    return NULL;
}

bool history_has_stock(const struct search_space *s, const struct trials *h, const char *name)
{
    return stock_trial(s, h, name) != NULL;
}

/* Bisection by size for an accuracy target: list is on the front, largest first. Returns the index
 * to measure next, or n when the smallest that meets the target is known. A failed mix counts as
 * missing. */
static size_t bisect(const struct search_space *s, const struct trials *h,
                     const struct search_stock *list, size_t n)
{
    size_t met = 0, missed = n; /* list[met - 1] meets, list[missed] does not */
    for (size_t i = 0; i < n; i++) {
        const struct trial *t = stock_trial(s, h, list[i].name);
        if (!t)
            continue;
        if (!t->failed && targets_met(&s->targets, t->bytes, s->desc->parameters, &t->score, NULL))
            met = i + 1 > met ? i + 1 : met;
        else if (i < missed)
            missed = i;
    }
    for (size_t tries = 0; met < missed && tries <= n; tries++) {
        size_t middle = met + (missed - met) / 2;
        if (!history_has_stock(s, h, list[middle].name))
            return middle;
        missed = middle;
    }
    return n;
}

/* Under a table for error feedback, which mixes do without, no prediction is right. */
static void propose(struct proposal *p, const struct search_space *s, const struct search_stock *m)
{
    char size[NUM_TEXT_MAX], remark[CACHE_TEXT_MAX + 16];
    *p = (struct proposal){.bytes = m->bytes,
                           .predicted_kld = s->feedback ? NAN : m->kld + s->cache_kld,
                           .cache_kld = s->cache_kld,
                           .stock_name = m->name,
                           .group_types = m->types};
    recipe_init(&p->recipe, m->name);
    p->recipe.cache = s->cache;
    snprintf(p->reason, sizeof(p->reason), "stock mix %s, %s%s", m->name,
             num_format_size(m->bytes, size), cache_remark(s->cache, remark));
}

int stocks_rival(const struct search_space *s, const struct trials *h, const struct trial *t,
                 bool sure, struct proposal *p, struct err *e)
{
    struct search_stock *list = NULL;
    size_t n = 0, pick;
    if (search_stocks(s, &list, &n, e) != 0)
        return -1;
    pick = n;
    for (size_t i = 0; i < n; i++)
        if (list[i].bytes <= t->bytes && (pick == n || list[i].kld < list[pick].kld))
            pick = i;
    bool found = pick < n && !history_has_stock(s, h, list[pick].name) &&
                 (sure || list[pick].kld <= doubt * t->score.kld_mean);
    if (found) {
        propose(p, s, &list[pick]);
        list[pick].types = NULL;
    }
    search_stocks_free(list, n);
    return found ? 0 : 1;
}

int stocks_next(const struct search_space *s, const struct trials *h, size_t most,
                struct proposal *p, struct err *e)
{
    struct search_stock *list = NULL;
    size_t n = 0, pick;
    if (s->rivals_only)
        return 1;
    if (search_stocks(s, &list, &n, e) != 0)
        return -1;
    if (s->bytes_limit != UINT64_MAX || search_time_limits(&s->time)) {
        n = select_limit(s, list, n);
    } else if (s->table) {
        n = select_front(list, n, targets_accuracy_only(&s->targets) ? n + 2 : FRONT_MAX);
    }
    if (targets_accuracy_only(&s->targets) && s->bytes_limit == UINT64_MAX)
        pick = bisect(s, h, list, n);
    else
        for (pick = 0; pick < n && history_has_stock(s, h, list[pick].name);)
            pick++;
    bool found = pick < n && pick < most;
    if (found) {
        propose(p, s, &list[pick]);
        list[pick].types = NULL;
    }
    search_stocks_free(list, n);
    return found ? 0 : 1;
}
