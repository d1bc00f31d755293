/* One tensor encoded in memory: what a type costs it, and what a type makes of it.
 *
 * The error of a type is Σ importance·(w − decoded)² as the encoder reports it. It is needed
 * for a ratio between types only (with error feedback: the error of the output, in its units), so
 * it is taken on SAMPLE_ELEMENTS elements at most, in rows spread evenly over the tensor and so
 * over its experts; all types see the same rows. Rows go to threads in fixed bands whose sums are
 * added in order, so the result does not depend on the number of threads.
 */
#include "probe/probe_int.h"

#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/stop.h"
#include "base/thread.h"
#include "quant/quant.h"
#include "recipe/recipe.h"
#include "base/banned.h"

enum {
    SAMPLE_ELEMENTS = 1 << 16,
    BAND_ELEMENTS = 1 << 13,
    BAND_ROWS = 16, /* that error feedback rounds side by side, one in each lane of a vector */
    BANDS_MAX = 4096
};

int values_importance(const struct model_desc *d, size_t i, const struct imatrix *m,
                      const struct imatrix_entry **entry, struct err *e)
{
    const struct model_tensor *t = &d->tensors[i];
    *entry = m ? imatrix_find(m, t->name) : NULL;
    if (!*entry)
        return 0;
    uint64_t mats = t->shape.ne[2] * t->shape.ne[3];
    if ((*entry)->n_in != t->shape.ne[0] || ((*entry)->n_mat != 1 && (*entry)->n_mat != mats))
        return err_set(
            e, ERR_INPUT, "make the importance matrix from this model",
            "tensor %s: the importance matrix has %llu x %llu values, expected %llu x %llu",
            t->name, (unsigned long long)(*entry)->n_in, (unsigned long long)(*entry)->n_mat,
            (unsigned long long)t->shape.ne[0], (unsigned long long)mats);
    return 0;
}

/* The weights of the matrix that row belongs to, NULL without importance. */
static const float *row_importance(const struct imatrix_entry *entry, const struct model_tensor *t,
                                   uint64_t row)
{
    if (!entry)
        return NULL;
    uint64_t mat = entry->n_mat > 1 ? row / t->shape.ne[1] : 0;
    return entry->values + mat * entry->n_in;
}

/* What error feedback knows of the tensor's inputs; false: nothing, or other inputs. */
static bool feedback_find(const struct probe_job *job, const struct model_tensor *t,
                          struct quant_feedback *f)
{
    const struct factors_entry *x = job->factors ? factors_find(job->factors, t->name) : NULL;
    if (!x || x->n != t->shape.ne[0])
        return false;
    *f = (struct quant_feedback){.factor = x->factor, .span = x->span, .weight = x->weight};
    return true;
}

/* ---- errors on a sample of rows ---- */

struct sampling {
    const struct probe_job *job;
    const struct model_tensor *tensor;
    size_t index;
    const struct imatrix_entry *entry;
    const uint64_t *bytes;
    uint64_t n_per_row, rows, rows_taken, band_rows;
    size_t bands;
    double *sums;     /* (bands, n_types) */
    struct err *errs; /* (bands) the first of them is reported */
};

/* quant_encode_many with error feedback: nothing is shared between types then. */
static int encode_feedback(const struct quant_feedback *f, struct quant_want *wants, int n,
                           const float *values, uint64_t rows, uint64_t n_per_row, struct err *e)
{
    uint8_t *blocks = xreallocarray(NULL, rows, n_per_row * sizeof(float) + 1024);
    int rc = 0;
    for (int k = 0; rc == 0 && k < n; k++) {
        if (dtype_info(wants[k].type)->quantized)
            rc = quant_encode_feedback(wants[k].type, values, blocks, rows, n_per_row, f,
                                       &wants[k].error, e);
        else
            rc = quant_encode(wants[k].type, values, blocks, rows, n_per_row, f->weight,
                              &wants[k].error, e);
    }
    xfree(blocks);
    return rc;
}

/* Encodes rows of one matrix in every type that is asked for; adds to the sums of the band. */
static int band_types(const struct sampling *s, size_t band, const float *values, uint64_t rows,
                      const float *importance, struct err *e)
{
    const int n_types = s->job->n_types;
    struct quant_want *wants = xcalloc((size_t)n_types, sizeof(*wants));
    int n = 0;
    for (int k = 0; k < n_types; k++)
        if (s->bytes[k] > 0)
            wants[n++].type = recipe_fallback(s->job->types[k], s->n_per_row);
    struct quant_feedback f;
    int rc = feedback_find(s->job, s->tensor, &f)
                 ? encode_feedback(&f, wants, n, values, rows, s->n_per_row, e)
                 : quant_encode_many(wants, n, values, rows, s->n_per_row, importance, e);
    if (rc != 0)
        err_context(e, "tensor %s", s->tensor->name);
    n = 0;
    for (int k = 0; rc == 0 && k < n_types; k++)
        if (s->bytes[k] > 0)
            s->sums[band * (size_t)n_types + (size_t)k] += wants[n++].error.weighted;
    xfree(wants);
    return rc;
}

static int sample_band(void *ud, size_t band, int worker)
{
    const struct sampling *s = ud;
    struct err *e = &s->errs[band];
    uint64_t from = band * s->band_rows, to = from + s->band_rows, n = 0;
    float *values = xreallocarray(NULL, s->band_rows, s->n_per_row * sizeof(*values));
    const float *weights = NULL;
    int rc = stop_check(e);
    (void)worker;
    if (to > s->rows_taken)
        to = s->rows_taken;
    for (uint64_t r = from; rc == 0 && r < to; r++) {
        uint64_t row = r * s->rows / s->rows_taken;
        const float *own = row_importance(s->entry, s->tensor, row);
        if (n > 0 && own != weights) {
            rc = band_types(s, band, values, n, weights, e);
            n = 0;
        }
        weights = own;
        if (rc == 0)
            rc = model_rows(s->job->model, (int)s->index, row, 1, values + n++ * s->n_per_row, e);
    }
    if (rc == 0 && n > 0)
        rc = band_types(s, band, values, n, weights, e);
    xfree(values);
    return rc;
}

static void sampling_init(struct sampling *s)
{
    s->n_per_row = s->tensor->shape.ne[0];
    s->rows = shape_rows(&s->tensor->shape);
    s->rows_taken = SAMPLE_ELEMENTS / s->n_per_row;
    if (s->rows_taken < 16)
        s->rows_taken = 16;
    if (s->rows_taken > s->rows)
        s->rows_taken = s->rows;
    s->band_rows = BAND_ELEMENTS / s->n_per_row;
    if (s->band_rows < BAND_ROWS)
        s->band_rows = BAND_ROWS;
    s->bands = (size_t)((s->rows_taken + s->band_rows - 1) / s->band_rows);
    s->sums = xcalloc(s->bands * (size_t)s->job->n_types, sizeof(*s->sums));
    s->errs = xcalloc(s->bands, sizeof(*s->errs));
}

static int first_error(const struct err *errs, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (errs[i].code != ERR_NONE) {
            if (e)
                *e = errs[i];
            return -1;
        }
    return -1;
}

int values_errors(const struct probe_job *job, size_t i, const uint64_t *bytes, double *errors,
                  struct err *e)
{
    const struct model_desc *d = model_desc(job->model);
    struct sampling s = {.job = job, .tensor = &d->tensors[i], .index = i, .bytes = bytes};
    if (values_importance(d, i, job->imatrix, &s.entry, e) != 0)
        return -1;
    for (int k = 0; k < job->n_types; k++)
        if (quant_prepare(recipe_fallback(job->types[k], s.tensor->shape.ne[0]), e) != 0)
            return -1;
    sampling_init(&s);
    int rc = thread_parallel_for(job->threads, s.bands, sample_band, &s);
    if (rc != 0)
        rc = first_error(s.errs, s.bands, e);
    /* A sample of part of the rows stands for all of them. */
    double scale = (double)s.rows / (double)s.rows_taken;
    for (size_t b = 0; rc == 0 && b < s.bands; b++)
        for (int k = 0; k < job->n_types; k++)
            errors[k] += scale * s.sums[b * (size_t)job->n_types + (size_t)k];
    xfree(s.sums);
    xfree(s.errs);
    return rc;
}

/* ---- a whole tensor, there and back ---- */

struct rounding {
    const struct probe_job *job;
    const struct model_tensor *tensor;
    size_t index;
    const struct imatrix_entry *entry;
    enum dtype type;
    uint64_t rows, n_per_row, band_rows;
    float *out; /* (rows, n_per_row) */
    struct err *errs;
};

/* Rows there and back; without feedback one at a time, because experts have weights of their own.
 */
static int round_rows(const struct rounding *r, uint64_t row, uint64_t n, uint8_t *blocks,
                      struct err *e)
{
    float *at = r->out + row * r->n_per_row;
    struct quant_feedback f;
    int rc = 0;
    if (dtype_info(r->type)->quantized && feedback_find(r->job, r->tensor, &f)) {
        rc = quant_encode_feedback(r->type, at, blocks, n, r->n_per_row, &f, NULL, e);
        if (rc == 0)
            rc = quant_decode(r->type, blocks, at, n, r->n_per_row, e);
    } else {
        for (uint64_t k = 0; rc == 0 && k < n; k++, at += r->n_per_row) {
            rc = quant_encode(r->type, at, blocks, 1, r->n_per_row,
                              row_importance(r->entry, r->tensor, row + k), NULL, e);
            if (rc == 0)
                rc = quant_decode(r->type, blocks, at, 1, r->n_per_row, e);
        }
    }
    return rc ? err_context(e, "tensor %s as %s", r->tensor->name, dtype_name(r->type)) : 0;
}

static int round_band(void *ud, size_t band, int worker)
{
    const struct rounding *r = ud;
    struct err *e = &r->errs[band];
    uint64_t from = band * r->band_rows;
    uint64_t n = r->rows - from < r->band_rows ? r->rows - from : r->band_rows;
    uint8_t *blocks = xreallocarray(NULL, n, r->n_per_row * sizeof(float) + 1024);
    int rc = stop_check(e);
    (void)worker;
    if (rc == 0)
        rc = model_rows(r->job->model, (int)r->index, from, n, r->out + from * r->n_per_row, e);
    if (rc == 0)
        rc = round_rows(r, from, n, blocks, e);
    xfree(blocks);
    return rc;
}

float *values_decoded(const struct probe_job *job, size_t i, enum dtype type, uint64_t *n,
                      struct err *e)
{
    const struct model_desc *d = model_desc(job->model);
    struct rounding r = {.job = job, .tensor = &d->tensors[i], .index = i};
    uint64_t bytes;
    r.n_per_row = r.tensor->shape.ne[0];
    r.rows = shape_rows(&r.tensor->shape);
    r.type = recipe_fallback(type, r.n_per_row);
    if (values_importance(d, i, job->imatrix, &r.entry, e) != 0 || quant_prepare(r.type, e) != 0)
        return NULL;
    if (!shape_elements(&r.tensor->shape, n) || !num_mul_u64(*n, sizeof(float), &bytes)) {
        err_set(e, ERR_INPUT, NULL, "tensor %s: its size overflows", r.tensor->name);
        return NULL;
    }
    r.out = big_alloc(bytes, "a tensor's decoded values", e);
    if (!r.out)
        return NULL;
    r.band_rows = r.rows / BANDS_MAX + 1;
    if (r.band_rows * r.n_per_row < BAND_ELEMENTS)
        r.band_rows = BAND_ELEMENTS / r.n_per_row;
    if (r.band_rows < BAND_ROWS)
        r.band_rows = BAND_ROWS;
    size_t bands = (size_t)((r.rows + r.band_rows - 1) / r.band_rows);
    r.errs = xcalloc(bands, sizeof(*r.errs));
    int rc = thread_parallel_for(job->threads, bands, round_band, &r);
    if (rc != 0)
        first_error(r.errs, bands, e);
    xfree(r.errs);
    if (rc != 0) {
        big_free(r.out, bytes);
        return NULL;
    }
    return r.out;
}
