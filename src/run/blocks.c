/* Which blocks a candidate may lack, where the limit is so low that it could pay.
 *
 * Below about three bits per weight of the file every further bit saved costs more than the last,
 * and a block that does little is dearer than what its bytes could do elsewhere. Which ones do
 * little is measured: each block is left out alone, in the memory of the float model, and sets grow
 * by the one whose addition, measured as a set, leaves the least KL; of the others only the few
 * that did least alone are tried. Every measurement is a fact of the store, so a second run, or one
 * that goes on, makes the same sets without measuring again. Growing stops at a quarter of the
 * blocks, and where a set costs more than what coarse types are expected to. The search then
 * decides by whole files (search/drops.c).
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/stop.h"
#include "surgery/surgery.h"
#include "base/banned.h"

enum { SHARE = 4, BLOCKS_MAX = 8, BEAM = 4 };
static const double low_bpw = 3;    /* of the file */
static const double hopeless = 1.5; /* times the KL that types alone are expected to have */
static const char kind[] = "without_blocks";

void blocks_consider(struct run *r)
{
    const struct limits *l = &r->limits;
    uint64_t limit = l->speed_bytes < l->bytes_max ? l->speed_bytes : l->bytes_max;
    double bits = (double)limit * 8 / (double)r->subject.desc->parameters;
    bool low = limit != UINT64_MAX && bits < low_bpw && strcmp(r->set.effort, "fast") != 0;
    r->blocks.limit = low ? limit : UINT64_MAX;
}

/* Most blocks that are left out. */
static size_t most_of(const struct model_desc *d)
{
    size_t n = d->n_layer / SHARE;
    return n < BLOCKS_MAX ? n : BLOCKS_MAX;
}

/* Bytes of a block's groups at their smallest types. */
static uint64_t block_least(const struct subject *m, uint32_t layer)
{
    uint64_t sum = 0;
    for (size_t g = 0; g < m->groups.n; g++) {
        uint64_t least = 0;
        for (int k = 0; m->groups.items[g].layer == (int)layer && k < m->sizes.n_types; k++) {
            uint64_t b = m->sizes.groups[g].bytes[k];
            least = b > 0 && (least == 0 || b < least) ? b : least;
        }
        sum += least;
    }
    return sum;
}

uint64_t blocks_least(const struct subject *m)
{
    uint32_t n_layer = m->desc->n_layer;
    uint64_t least = m->fixed_bytes + allocate_smallest(&m->sizes);
    bool *gone = xcalloc(n_layer + 1, sizeof(*gone));
    for (size_t n = most_of(m->desc); n > 0; n--) {
        uint32_t best = n_layer;
        uint64_t most = 0;
        for (uint32_t i = 0; i < n_layer; i++)
            if (!gone[i] && block_least(m, i) > most) {
                best = i;
                most = block_least(m, i);
            }
        gone[best] = true;
        least -= most;
    }
    xfree(gone);
    return least;
}

void blocks_release(struct blocks *b)
{
    for (size_t i = 0; i < b->n; i++) {
        xfree(b->layers[i]);
        model_close(b->models[i]);
    }
    xfree(b->items);
    xfree(b->layers);
    xfree(b->models);
    b->items = NULL;
    b->layers = NULL;
    b->models = NULL;
    b->n = 0;
}

/* ---- the model without them ---- */

int cut_open(struct cut *c, const struct run *r, const struct recipe *recipe, struct err *e)
{
    *c = (struct cut){0};
    int rc = model_open(&c->model, r->set.model_path, e);
    uint32_t n_layer = rc == 0 ? model_desc(c->model)->n_layer : 0;
    if (rc == 0)
        rc = surgery_apply(c->model, recipe, e);
    if (rc == 0)
        rc = imatrix_read(&c->imatrix, r->imatrix_path, e);
    if (rc == 0) {
        surgery_imatrix(&c->imatrix, recipe, n_layer);
        if (r->have_factors)
            surgery_factors(&c->factors, &r->factors, recipe);
        return 0;
    }
    cut_close(c);
    return -1;
}

void cut_close(struct cut *c)
{
    factors_close(&c->factors);
    imatrix_release(&c->imatrix);
    model_close(c->model);
    *c = (struct cut){0};
}

static void recipe_lacking(struct recipe *recipe, const uint32_t *layers, size_t n)
{
    recipe_init(recipe, "Q8_0");
    for (size_t i = 0; i < n; i++)
        recipe_drop_layer(recipe, layers[i]);
}

/* May blocks of this model be left out at all, and can it be measured in memory? A note says why
 * not. */
static bool suits(struct run *r)
{
    static const uint32_t first[] = {0};
    const char *obstacle = probe_drop_obstacle(r->subject.desc);
    struct err e = {0};
    struct recipe recipe;
    struct cut c;
    if (obstacle) {
        run_note(r, "no block is left out: what tensor %s does when its block is gone is not known",
                 obstacle);
        return false;
    }
    recipe_lacking(&recipe, first, 1);
    int rc = cut_open(&c, r, &recipe, &e);
    recipe_release(&recipe);
    if (rc == 0)
        cut_close(&c);
    else
        run_note(r, "no block is left out: %s", e.message);
    return rc == 0;
}

/* ---- measuring ---- */

/* One set, measured; blocks ascending. */
struct loss {
    uint32_t layers[BLOCKS_MAX];
    size_t n;
    double kld, low, high;
};

struct measuring {
    struct run *run;
    const struct probe_job *job;
    char prefix[65];
    size_t done, most, known;
    double seconds_known;
};

/* "prefix/3,5"; xfree. */
static char *fact_key(const struct measuring *m, const struct loss *x)
{
    struct buf b;
    buf_init(&b, 256);
    buf_addf(&b, "%s/", m->prefix);
    for (size_t i = 0; i < x->n; i++)
        buf_addf(&b, i > 0 ? ",%u" : "%u", x->layers[i]);
    return buf_take(&b);
}

static bool recall(struct measuring *m, const char *key, struct loss *x)
{
    json_t *doc = store_fact_get(m->run->store, kind, key);
    x->kld = json_opt_real(doc, "kld", NAN);
    x->low = json_opt_real(doc, "low", NAN);
    x->high = json_opt_real(doc, "high", NAN);
    bool good = !isnan(x->kld);
    if (good)
        m->seconds_known += json_opt_real(doc, "seconds", 0);
    m->known += good;
    json_decref(doc);
    return good;
}

static void keep(const struct measuring *m, const char *key, const struct loss *x, size_t windows,
                 double seconds)
{
    json_t *doc = json_object();
    json_object_set_new(doc, "kld", json_real_new(x->kld));
    json_object_set_new(doc, "low", json_real_new(x->low));
    json_object_set_new(doc, "high", json_real_new(x->high));
    json_object_set_new(doc, "windows", json_integer((json_int_t)windows));
    json_object_set_new(doc, "seconds", json_real_new(seconds));
    store_fact_keep(m->run->store, kind, key, doc);
}

static int measure(struct measuring *m, struct loss *x, struct err *e)
{
    char *key = fact_key(m, x), text[SEARCH_BLOCKS_TEXT];
    struct stat_mean mean;
    size_t windows;
    double began = clock_seconds();
    progress_report(m->job->progress, "blocks", (double)m->done++, (double)m->most,
                    search_blocks_text(x->layers, x->n, text));
    int rc = stop_check(e);
    if (rc == 0 && !recall(m, key, x)) {
        rc = probe_drop(m->job, x->layers, x->n, &mean, &windows, e);
        if (rc == 0) {
            x->kld = mean.mean;
            x->low = mean.low;
            x->high = mean.high;
            keep(m, key, x, windows, clock_seconds() - began);
        }
    }
    xfree(key);
    return rc;
}

/* ---- sets ---- */

static bool has(const struct loss *x, uint32_t layer)
{
    for (size_t i = 0; i < x->n; i++)
        if (x->layers[i] == layer)
            return true;
    return false;
}

/* `from` and one block more. */
static void extend(struct loss *to, const struct loss *from, uint32_t layer)
{
    size_t at = from->n;
    *to = *from;
    while (at > 0 && to->layers[at - 1] > layer) {
        to->layers[at] = to->layers[at - 1];
        at--;
    }
    to->layers[at] = layer;
    to->n++;
}

/* The block outside the set that costs least alone, and was not tried with it; n_layer = none. */
static uint32_t next_single(const struct loss *alone, uint32_t n_layer, const struct loss *set,
                            const bool *tried)
{
    uint32_t best = n_layer;
    for (uint32_t i = 0; i < n_layer; i++)
        if (!tried[i] && !has(set, i) && (best == n_layer || alone[i].kld < alone[best].kld))
            best = i;
    return best;
}

/* Adds to the set the block that costs least beside the others. */
static int grow(struct measuring *m, const struct loss *alone, uint32_t n_layer, struct loss *set,
                struct err *e)
{
    struct loss best = {.kld = INFINITY}, trying;
    bool *tried = xcalloc(n_layer + 1, sizeof(*tried));
    int rc = 0;
    for (int i = 0; rc == 0 && i < BEAM; i++) {
        uint32_t layer = next_single(alone, n_layer, set, tried);
        if (layer == n_layer)
            break;
        tried[layer] = true;
        extend(&trying, set, layer);
        rc = measure(m, &trying, e);
        if (rc == 0 && trying.kld < best.kld)
            best = trying;
    }
    xfree(tried);
    *set = best;
    return rc;
}

static int file_without(struct run *r, const struct loss *set, struct search_drop *out,
                        struct model **model, struct err *e)
{
    struct recipe recipe;
    struct cut c;
    recipe_lacking(&recipe, set->layers, set->n);
    int rc = cut_open(&c, r, &recipe, e);
    recipe_release(&recipe);
    if (rc != 0)
        return -1;
    struct subject left = {.model = c.model, .desc = model_desc(c.model)};
    rc = probe_groups_make(&left.groups, left.desc, 0, e);
    if (rc == 0)
        rc = subject_fixed_bytes(&left, &c.imatrix, NULL, &out->fixed_bytes, e);
    probe_groups_release(&left.groups);
    if (rc == 0) {
        out->desc = left.desc;
        *model = c.model;
        c.model = NULL;
    }
    cut_close(&c);
    return rc;
}

static int add_set(struct run *r, const struct loss *set, struct err *e)
{
    struct blocks *b = &r->blocks;
    struct search_drop item = {.n_layers = set->n, .kld = set->kld};
    struct model *model = NULL;
    if (file_without(r, set, &item, &model, e) != 0)
        return -1;
    b->items = xreallocarray(b->items, b->n + 1, sizeof(*b->items));
    b->layers = xreallocarray(b->layers, b->n + 1, sizeof(*b->layers));
    b->models = xreallocarray(b->models, b->n + 1, sizeof(*b->models));
    b->layers[b->n] = xcalloc(set->n, sizeof(**b->layers));
    memcpy(b->layers[b->n], set->layers, set->n * sizeof(**b->layers));
    item.layers = b->layers[b->n];
    b->models[b->n] = model;
    b->items[b->n++] = item;
    return 0;
}

/* What types alone are expected to leave at the limit. */
static double expected_kld(const struct run *r)
{
    uint64_t fixed = r->subject.fixed_bytes, least = allocate_smallest(&r->table);
    uint64_t room = r->blocks.limit > fixed ? r->blocks.limit - fixed : 0;
    enum dtype *types = xcalloc(r->table.n_groups + 1, sizeof(*types));
    double kld = NAN;
    if (allocate(&r->table, room > least ? room : least, types, &kld, NULL, NULL) == 0)
        kld += search_floor(&r->table);
    xfree(types);
    return kld;
}

/* *least: of those that cost least alone; the sets that may pay go to r->blocks. */
static int find(struct measuring *m, struct loss *least, double most_kld, struct err *e)
{
    struct run *r = m->run;
    uint32_t n_layer = r->subject.desc->n_layer;
    struct loss *alone = xcalloc(n_layer, sizeof(*alone));
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n_layer; i++) {
        alone[i].layers[0] = i;
        alone[i].n = 1;
        rc = measure(m, &alone[i], e);
        if (rc == 0 && (i == 0 || alone[i].kld < least->kld))
            *least = alone[i];
    }
    struct loss set = *least;
    while (rc == 0 && set.kld <= most_kld) {
        rc = add_set(r, &set, e);
        if (rc != 0 || set.n >= most_of(r->subject.desc))
            break;
        rc = grow(m, alone, n_layer, &set, e);
    }
    xfree(alone);
    return rc;
}

static void note_found(const struct measuring *m, const struct loss *least, double expected)
{
    struct run *r = m->run;
    char blocks[SEARCH_BLOCKS_TEXT], more[SEARCH_BLOCKS_TEXT + 48] = "";
    const struct search_drop *last = r->blocks.n > 0 ? &r->blocks.items[r->blocks.n - 1] : NULL;
    if (last && last->n_layers > 1)
        snprintf(more, sizeof(more), ", without %s %.3g",
                 search_blocks_text(last->layers, last->n_layers, blocks), last->kld);
    run_note(r,
             "the limit is low, so every block was left out alone: without block %u, the least "
             "missed, KL is %.3g [%.3g, %.3g] unquantized%s; coarse types are expected to leave "
             "%.3g%s",
             least->layers[0], least->kld, least->low, least->high, more, expected,
             last ? "" : "; all blocks stay");
}

int blocks_find(struct run *r, const struct probe_job *job, const char *text, struct err *e)
{
    char key[512];
    size_t n = most_of(r->subject.desc);
    struct measuring m = {.run = r, .job = job};
    struct loss least = {0};
    blocks_release(&r->blocks);
    if (r->blocks.limit == UINT64_MAX || n == 0 || !suits(r))
        return 0;
    m.most = r->subject.desc->n_layer + (n - 1) * BEAM;
    snprintf(key, sizeof(key), "%s %s %zu %s", r->subject.sha256, text, job->windows.n_windows,
             PROBE_DROP_VERSION);
    hash_sha256_text(key, strlen(key), m.prefix);
    double expected = expected_kld(r);
    if (find(&m, &least, hopeless * expected, e) != 0) {
        blocks_release(&r->blocks);
        return -1;
    }
    r->history.blocks = m.known;
    r->history.seconds += m.seconds_known;
    note_found(&m, &least, expected);
    return 0;
}
