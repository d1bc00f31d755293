/* Gram matrices: what meets a weight matrix, column by column, Σ x xᵀ over all tokens.
 *
 * Weights that share an input (q, k and v; gate and up) share a matrix: inputs are told apart by
 * the name that the graph gives them. Sums of one graph and tile are float, sums over graphs are
 * integers in a unit chosen from the first window: lanes finish in any order, and the result
 * depends on neither threads nor luck. A strip of rows has a lock, so lanes follow each other
 * through a matrix. One window more than asked for is run to learn the units and which weights
 * share. Only the upper triangle of each span of columns is made. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/num.h"
#include "engine/worker_int.h"
#include "base/banned.h"

enum { TILE = 16, STRIP = 8, GRAMS_MAX = 1 << 14, ROOM_BITS = 8, SUM_BITS = 62 };

struct gram {
    const char *name; /* of the weight, in the request */
    uint64_t n, span; /* columns; 0 = never met. Those that are correlated with each other */
    size_t owner;     /* index of the one that has the sums: itself or an earlier one */
    float largest;    /* of the diagonal, first window */
    double unit;
    int64_t *sum;          // (n, span), upper triangle of each span
    pthread_mutex_t *lock; // (n / STRIP), of that many rows of sum
};

struct gram_set {
    struct gram *items;
    size_t n;
    struct map by_name, by_input; /* → index */
    size_t n_windows;
    uint64_t span; /* at most */
    bool learning; /* the first window: names and units */
    char error[256];
};

static void set_free(struct gram_set *s)
{
    for (size_t i = 0; s->items && i < s->n; i++) {
        struct gram *g = &s->items[i];
        if (g->sum)
            big_free(g->sum, (size_t)(g->n * g->span * sizeof(int64_t)));
        for (uint64_t k = 0; g->lock && k < g->n / STRIP; k++)
            pthread_mutex_destroy(&g->lock[k]);
        xfree(g->lock);
    }
    xfree(s->items);
    map_release(&s->by_name);
    map_release(&s->by_input);
}

static void complain(struct gram_set *s, const char *what, const char *name)
{
    if (!s->error[0])
        snprintf(s->error, sizeof(s->error), what, name);
}

/* ---- the first window ------------------------------------------------------------------------ */

static float largest_diagonal(const char *x, size_t stride, uint64_t rows, uint64_t n)
{
    float largest = 0;
    for (uint64_t j = 0; j < n; j++) {
        float sum = 0;
        for (uint64_t t = 0; t < rows; t++) {
            float v;
            memcpy(&v, x + t * stride + j * sizeof(v), sizeof(v));
            sum += v * v;
        }
        if (!(sum <= largest))
            largest = sum;
    }
    return largest;
}

static void learn(struct gram_set *s, size_t index, const struct ggml_tensor *x, const char *data)
{
    struct gram *g = &s->items[index];
    uint64_t n = (uint64_t)x->ne[0], first;
    if (g->n == 0) {
        g->n = n;
        g->span = n < s->span ? n : s->span;
        g->owner = index;
        if (x->name[0] && map_get_str(&s->by_input, x->name, &first))
            g->owner = s->items[first].n == n ? (size_t)first : index;
        else if (x->name[0])
            map_add(&s->by_input, x->name, strlen(x->name), index);
    }
    if (g->n != n || n % TILE != 0)
        complain(s, "%s is multiplied in a size without Gram matrix", g->name);
    float largest = largest_diagonal(data, x->nb[1], (uint64_t)x->ne[1], n);
    if (!isfinite(largest))
        complain(s, "activations that meet %s are not finite numbers", g->name);
    if (largest > g->largest)
        g->largest = largest;
}

/* ROOM_BITS more than all windows like the first would fill. */
static int make_sums(struct gram_set *s, struct err *e)
{
    for (size_t i = 0; i < s->n; i++) {
        struct gram *g = &s->items[i];
        if (g->n == 0 || g->owner != i)
            continue;
        double most = fmax((double)g->largest, 1e-30) * (double)s->n_windows;
        g->unit = ldexp(1, (int)ceil(log2(most)) + ROOM_BITS - SUM_BITS);
        uint64_t cells, bytes;
        if (!num_mul_u64(g->n, g->span, &cells) || !num_mul_u64(cells, sizeof(int64_t), &bytes))
            return err_set(e, ERR_LIMIT, NULL, "%s has too many columns", g->name);
        g->sum = big_alloc((size_t)bytes, "sums of activations", e);
        if (!g->sum)
            return -1;
        g->lock = xcalloc(g->n / STRIP, sizeof(*g->lock));
        for (uint64_t k = 0; k < g->n / STRIP; k++)
            pthread_mutex_init(&g->lock[k], NULL);
    }
    return 0;
}

/* ---- the sums -------------------------------------------------------------------------------- */

typedef float tile_row __attribute__((vector_size(4 * TILE)));

/* Columns [from, from + n) of x, TILE of them at a time: a tile's rows follow each other. As they
 * lie in x they are a power of two apart, and would drive each other out of the cache. */
static void pack(const char *x, size_t stride, uint64_t rows, uint64_t from, uint64_t n,
                 float *tiles)
{
    for (uint64_t t = 0; t < rows; t++)
        for (uint64_t j = 0; j < n; j += TILE)
            memcpy(tiles + j * rows + t * TILE, x + t * stride + (from + j) * sizeof(float),
                   TILE * sizeof(float));
}

/* part[s] = Σ_t left[t][s] · right[t], of tiles */
CPU_CLONES static void multiply(const float *left, const float *right, uint64_t rows,
                                tile_row part[STRIP])
{
    tile_row sum[STRIP] = {0}; /* not behind a pointer: stays in registers */
    for (uint64_t t = 0; t < rows; t++) {
        tile_row r;
        memcpy(&r, right + t * TILE, sizeof(r));
        for (int s = 0; s < STRIP; s++)
            sum[s] += left[t * TILE + (uint64_t)s] * r;
    }
    memcpy(part, sum, sizeof(sum));
}

/* Adds to rows of `sum` that are `span` apart. The unit is a power of two: to multiply by its
 * inverse is exact. Counts values that are too large, infinite or NaN, which may not be cast. */
CPU_CLONES static uint64_t add_tile(int64_t *sum, uint64_t span, double inverse,
                                    const tile_row part[STRIP])
{
    const double most = 0x1p61;
    uint64_t misfits = 0;
    for (uint64_t s = 0; s < STRIP; s++)
        for (uint64_t k = 0; k < TILE; k++) {
            double v = (double)part[s][k] * inverse;
            bool fits = v > -most && v < most;
            misfits += !fits;
            sum[s * span + k] += (int64_t)(fits ? v : 0);
        }
    return misfits;
}

/* Columns [first, first + n), which are correlated with each other. */
static uint64_t add_span(struct gram *g, const float *tiles, uint64_t rows, uint64_t first,
                         uint64_t n)
{
    uint64_t misfits = 0;
    for (uint64_t i = 0; i < n; i += STRIP) {
        const float *left = tiles + i / TILE * TILE * rows + i % TILE;
        pthread_mutex_t *lock = &g->lock[(first + i) / STRIP];
        pthread_mutex_lock(lock);
        for (uint64_t j = i / TILE * TILE; j < n; j += TILE) {
            tile_row part[STRIP];
            multiply(left, tiles + j * rows, rows, part);
            misfits += add_tile(g->sum + (first + i) * g->span + j, g->span, 1 / g->unit, part);
        }
        pthread_mutex_unlock(lock);
    }
    return misfits;
}

static bool add_gram(struct gram *g, const struct ggml_tensor *x, const char *data)
{
    uint64_t misfits = 0, rows = (uint64_t)x->ne[1];
    float *tiles = xreallocarray(NULL, rows * g->span, sizeof(*tiles));
    for (uint64_t first = 0; misfits == 0 && first < g->n; first += g->span) {
        uint64_t n = g->n - first < g->span ? g->n - first : g->span;
        pack(data, x->nb[1], rows, first, n, tiles);
        misfits = add_span(g, tiles, rows, first, n);
    }
    xfree(tiles);
    return misfits == 0;
}

bool gram_wants(const struct gram_set *s, const char *weight)
{
    uint64_t index;
    return map_get_str(&s->by_name, weight, &index);
}

static void meet(struct worker *w, size_t index, const struct ggml_tensor *x, const char *data)
{
    struct gram_set *s = w->grams;
    struct gram *g = &s->items[index];
    if (s->learning) {
        learn(s, index, x, data);
    } else if (g->sum && !s->error[0] && !add_gram(g, x, data)) {
        pthread_mutex_lock(&w->lock);
        complain(s, "activations that meet %s differ too much between windows", g->name);
        pthread_mutex_unlock(&w->lock);
    }
}

/* Called side by side by the lanes, but for the first window. */
void gram_meet(struct worker *w, const char *weight, const struct ggml_tensor *x)
{
    struct gram_set *s = w->grams;
    uint64_t index;
    if (!map_get_str(&s->by_name, weight, &index))
        return;
    if (x->nb[0] != sizeof(float) || x->ne[2] != 1 || x->ne[3] != 1) {
        complain(s, "%s is multiplied in a way that has no Gram matrix", weight);
        return;
    }
    if (!x->buffer || ggml_backend_buffer_is_host(x->buffer)) {
        meet(w, (size_t)index, x, x->data);
        return;
    }
    char *copy = xmalloc(ggml_nbytes(x));
    ggml_backend_tensor_get(x, copy, 0, ggml_nbytes(x));
    meet(w, (size_t)index, x, copy);
    xfree(copy);
}

/* ---- request and answer ---------------------------------------------------------------------- */

static int read_names(struct gram_set *s, const json_t *request, struct err *e)
{
    const json_t *names = json_object_get(request, "names"), *item;
    size_t i;
    s->n = json_array_size(names);
    if (s->n == 0 || s->n > GRAMS_MAX)
        return err_set(e, ERR_BUG, NULL, "request: names are missing");
    s->items = xcalloc(s->n, sizeof(*s->items));
    json_array_foreach(names, i, item)
    {
        s->items[i].name = json_is_string(item) ? json_string_value(item) : "";
        map_add(&s->by_name, s->items[i].name, strlen(s->items[i].name), i);
    }
    return 0;
}

/* The sums, then what was collected besides. */
static int write_answer(const struct gram_set *s, struct collector *collected, json_t *answer,
                        int *fd, struct err *e)
{
    uint64_t floats = 0, others = 0;
    void *data;
    json_t *list = json_array();
    json_object_set_new(answer, "grams", list);
    for (size_t i = 0; i < s->n; i++) {
        const struct gram *g = &s->items[i];
        floats += g->sum ? g->n * g->span : 0;
        json_array_append_new(
            list, json_pack("{s:I, s:I}", "n", (json_int_t)g->n, "owner", (json_int_t)g->owner));
    }
    size_t bytes = (size_t)floats * sizeof(float);
    if (s->learning)
        return 0;
    if (floats == 0)
        return err_set(e, ERR_INPUT, NULL, "the model multiplies none of the tensors asked for");
    if (collected && collector_end(collected, &others, e))
        return -1;
    bytes += (size_t)others * sizeof(float);
    if (fs_memfd("grams", bytes, fd, &data, e))
        return -1;
    float *at = data;
    for (size_t i = 0; i < s->n; i++) {
        const struct gram *g = &s->items[i];
        for (uint64_t k = 0; g->sum && k < g->n * g->span; k++)
            *at++ = (float)((double)g->sum[k] * g->unit);
    }
    if (collected)
        collector_write(collected, answer, at);
    fs_memfd_close(-1, data, bytes);
    return 0;
}

static int run(struct worker *w, const struct engine_windows *windows, bool sums, bool collect,
               struct err *e)
{
    struct gram_set *s = w->grams;
    struct engine_windows first = *windows;
    first.n_windows = 1;
    s->n_windows = windows->n_windows;
    s->learning = true;
    if (worker_run_collecting(w, &first, e))
        return -1;
    s->learning = !sums;
    w->collector = sums && collect ? collector_new() : NULL;
    if (sums && !s->error[0] && (make_sums(s, e) || worker_run_collecting(w, windows, e)))
        return -1;
    return s->error[0]
               ? err_set(e, ERR_INPUT, "the model is damaged or of an unknown kind", "%s", s->error)
               : 0;
}

int worker_gram(struct worker *w, const json_t *request, json_t *answer, int *fd, struct err *e)
{
    struct engine_windows windows;
    struct gram_set set = {0};
    if (worker_windows(w, request, &windows, e) ||
        worker_number(request, "span", UINT32_MAX, &set.span, e) || read_names(&set, request, e))
        return -1;
    w->grams = &set;
    int rc = run(w, &windows, json_opt_bool(request, "sums", true),
                 json_opt_bool(request, "collect", false), e);
    w->grams = NULL;
    if (rc == 0)
        rc = write_answer(&set, w->collector, answer, fd, e);
    collector_free(w->collector);
    w->collector = NULL;
    set_free(&set);
    return rc;
}
