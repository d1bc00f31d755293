/* From Gram matrices to the factors of error feedback.
 *
 * G = U D Uᵀ with U unit upper triangular, by columns from the last: with R = U √D, R_jj² =
 * G_jj − Σ_{k>j} R_jk² and R_ij = (G_ij − Σ_{k>j} R_ik R_jk) / R_jj for i < j. A hundredth
 * of the mean of the diagonal is added to it, as GPTQ does (arXiv 2210.17323, section 3.3, step
 * 3): so the matrix is positive also when fewer tokens than columns were seen, and rounding does
 * not trust correlations that are noise. Owns a matrix of doubles per thread. */
#include "measure/measure.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/stop.h"
#include "base/thread.h"
#include "format/factors.h"
#include "measure/measure_int.h"
#include "base/banned.h"

static const double damping = 0.01;
enum { SUM_BYTES = 12 }; /* of one cell while it is made, in the worker and on the way here */

/* Σ a_k b_k in one fixed order of eight partial sums. */
static double dot(const double *a, const double *b, size_t n)
{
    enum { PARTS = 8 };
    typedef double part __attribute__((vector_size(8 * PARTS)));
    part sum = {0};
    double rest = 0;
    size_t k = 0;
    for (; k + PARTS <= n; k += PARTS) {
        part x, y;
        memcpy(&x, a + k, sizeof x);
        memcpy(&y, b + k, sizeof y);
        sum += x * y;
    }
    for (; k < n; k++)
        rest += a[k] * b[k];
    for (int i = 0; i < PARTS; i++)
        rest += sum[i];
    return rest;
}

/* r (n, n), rows `stride` apart: the damped matrix in its upper triangle → R there. */
static void decompose(double *r, size_t n, size_t stride)
{
    for (size_t j = n; j-- > 0;) {
        double *row = r + j * stride + j;
        size_t later = n - 1 - j;
        double pivot = row[0] - dot(row + 1, row + 1, later);
        row[0] = sqrt(fmax(pivot, 1e-30));
        for (size_t i = 0; i < j; i++) {
            double *other = r + i * stride + j;
            other[0] = (other[0] - dot(other + 1, row + 1, later)) / row[0];
        }
    }
}

/* One pass over the text: the Gram matrices of some owners. */
struct making {
    const struct engine_grams *grams; /* of this pass */
    const size_t *index;              /* (grams->n) their places in the file */
    struct factors_writer *writer;
    double tokens;
    atomic_bool failed;
    struct err error; /* of who set it */
};

/* The damped matrix of one span of n columns → its factor and weights. Rows are `stride` apart. */
static void make_span(double *r, size_t n, size_t stride, float *factor, float *weight)
{
    decompose(r, n, stride);
    for (size_t j = 0; j < n; j++) {
        double pivot = r[j * stride + j];
        for (size_t i = 0; i < j; i++)
            factor[i * stride + j] = (float)(r[i * stride + j] / pivot);
        weight[j] = (float)(pivot * pivot);
    }
}

static int make_one(struct making *m, size_t item, struct err *e)
{
    const struct engine_gram *g = &m->grams->items[item];
    size_t n = (size_t)g->n, span = (size_t)g->span, cells = n * span;
    double *r = big_alloc(cells * sizeof *r, "a factor", e), mean = 0;
    float *factor = r ? big_alloc((cells + n) * sizeof *factor, "a factor", e) : NULL;
    int rc = factor ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < n; i++)
        mean += (double)g->sum[i * span + i % span] / m->tokens / (double)n;
    for (size_t i = 0; rc == 0 && i < cells; i++)
        r[i] = (double)g->sum[i] / m->tokens;
    for (size_t i = 0; rc == 0 && i < n; i++)
        r[i * span + i % span] += damping * mean;
    for (size_t at = 0; rc == 0 && at < n; at += span)
        make_span(r + at * span, n - at < span ? n - at : span, span, factor + at * span,
                  factor + cells + at);
    if (rc == 0)
        rc = factors_writer_put(m->writer, m->index[item], factor, factor + cells, e);
    if (r)
        big_free(r, cells * sizeof *r);
    if (factor)
        big_free(factor, (cells + n) * sizeof *factor);
    return rc;
}

static int make_item(void *ud, size_t item, int worker)
{
    struct making *m = ud;
    struct err e = {0};
    (void)worker;
    if (stop_check(&e) == 0 && make_one(m, item, &e) == 0)
        return 0;
    if (!atomic_exchange(&m->failed, true))
        m->error = e;
    return -1;
}

static int open_writer(struct factors_writer *w, const char *path, const struct engine_grams *all,
                       const char *const *names, struct err *e)
{
    size_t *owner = xcalloc(all->n + 1, sizeof *owner);
    uint64_t *columns = xcalloc(2 * all->n + 1, sizeof *columns), *span = columns + all->n;
    for (size_t i = 0; i < all->n; i++) {
        owner[i] = all->items[i].owner;
        columns[i] = all->items[i].n;
        span[i] = all->items[i].span;
    }
    int rc = factors_writer_open(w, path, names, owner, columns, span, all->n, e);
    xfree(owner);
    xfree(columns);
    return rc;
}

static const char **names_of(const struct imatrix *m, size_t *n)
{
    const char **names = xcalloc(m->n + 1, sizeof(*names));
    *n = 0;
    for (size_t i = 0; i < m->n; i++)
        if (m->entries[i].n_mat == 1 && m->entries[i].n_in % 32 == 0)
            names[(*n)++] = m->entries[i].name;
    return names;
}

static int all_met(const struct engine_grams *g, const char *const *names, struct err *e)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->items[i].n == 0)
            return err_set(e, ERR_INPUT, "make the importance matrix from this model",
                           "the model never multiplies %s by itself", names[i]);
    return 0;
}

struct passes {
    struct engine *engine;
    const struct engine_windows *windows;
    const char *const *names;
    struct engine_grams all; /* owners of everything, without sums */
    struct factors_writer writer;
    struct imatrix *fill; /* with importance, in the first pass; or NULL */
    const char *dataset;
    uint64_t span;
    int threads;
    const struct progress *progress;
};

static int make_pass(struct passes *p, const size_t *index, size_t n, struct err *e)
{
    const char **names = xcalloc(n + 1, sizeof(*names));
    struct engine_grams grams;
    struct engine_gram_wish wish = {names, n, p->span, p->fill != NULL};
    for (size_t i = 0; i < n; i++)
        names[i] = p->names[index[i]];
    int rc = engine_gram(p->engine, p->windows, &wish, &grams, p->progress, e);
    if (rc == 0 && p->fill)
        rc = importance_from(p->fill, grams.activations, grams.n_activations, p->dataset,
                             p->windows, e);
    p->fill = NULL;
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (grams.items[i].n != p->all.items[index[i]].n || !grams.items[i].sum)
            rc = err_set(e, ERR_CHILD, NULL, "the inputs of %s changed between passes", names[i]);
    if (rc == 0) {
        struct making m = {.grams = &grams,
                           .index = index,
                           .writer = &p->writer,
                           .tokens = (double)p->windows->n_windows * p->windows->n_ctx};
        rc = thread_parallel_for(p->threads, n, make_item, &m);
        if (rc != 0)
            *e = m.error;
    }
    engine_grams_free(&grams);
    xfree(names);
    return rc;
}

/* Owners in order, as many at a time as memory allows, at least one. */
static int make_all(struct passes *p, uint64_t memory_max, struct err *e)
{
    size_t *index = xcalloc(p->all.n + 1, sizeof(*index)), n = 0;
    uint64_t bytes = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < p->all.n; i++) {
        const struct engine_gram *g = &p->all.items[i];
        if (g->owner != i)
            continue;
        uint64_t own = g->n * g->span * SUM_BYTES;
        if (n > 0 && memory_max > 0 && bytes + own > memory_max) {
            rc = make_pass(p, index, n, e);
            n = 0;
            bytes = 0;
        }
        index[n++] = i;
        bytes += own;
    }
    if (rc == 0 && n > 0)
        rc = make_pass(p, index, n, e);
    xfree(index);
    return rc;
}

/* Factors of the tensors that `matrix` names, p->fill filled on the way. */
static int make_file(struct passes *p, const char *path, const struct imatrix *matrix,
                     uint64_t memory_max, struct err *e)
{
    size_t n;
    const char **names = names_of(matrix, &n);
    struct engine_gram_wish wish = {names, n, p->span, false};
    p->names = names;
    int rc = n > 0 ? engine_gram_owners(p->engine, p->windows, &wish, &p->all, e)
                   : err_set(e, ERR_UNSUPPORTED, NULL,
                             "no tensor of the importance matrix meets its inputs whole, in rows "
                             "that blocks of 32 divide");
    if (rc == 0)
        rc = all_met(&p->all, names, e);
    if (rc == 0)
        rc = open_writer(&p->writer, path, &p->all, names, e);
    if (rc == 0) {
        rc = make_all(p, memory_max, e);
        if (rc == 0)
            rc = factors_writer_commit(&p->writer, e);
        else
            factors_writer_abort(&p->writer);
    }
    engine_grams_free(&p->all);
    p->names = NULL;
    xfree(names);
    return rc;
}

int measure_factors(const char *path, struct imatrix *m, const char *dataset, uint64_t span,
                    struct engine *g, const struct engine_windows *w,
                    const struct measure_options *o, struct err *e)
{
    struct passes p = {.engine = g,
                       .windows = w,
                       .dataset = dataset,
                       .span = span > 0 ? span : UINT32_MAX,
                       .threads = o->threads,
                       .progress = o->progress};
    struct engine_windows first = *w;
    struct imatrix names = {0};
    if (m->n > 0)
        return make_file(&p, path, m, o->memory_bytes_max / 4, e);
    first.n_windows = 1;
    p.fill = m;
    int rc = measure_importance(&names, g, &first, "", NULL, e);
    if (rc == 0)
        rc = make_file(&p, path, &names, o->memory_bytes_max / 4, e);
    imatrix_release(&names);
    return rc;
}
