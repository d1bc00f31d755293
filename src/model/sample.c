/* A few weights of a model, to tell models apart that have the same tensors.
 *
 * A hash would tell too much apart: the same model from a quantized file has other bytes, and an
 * importance matrix made with one serves the other. Values of the same places correlate: above 0.9
 * between a model and its quantized files and fine-tunes, about 0 between models that were trained
 * apart.
 */
#include <math.h>

#include "base/mem.h"
#include "model/model_int.h"

#include "base/banned.h"

enum { TENSORS = 32, PER_ROW = MODEL_SAMPLE / TENSORS };

static bool is_matrix(const struct model_tensor *t)
{
    return t->shape.ne[1] > 1 && t->dtype_min == DT_NONE && t->shape.ne[0] >= PER_ROW;
}

static int sample_row(const struct model *m, size_t i, uint64_t row, float out[PER_ROW],
                      struct err *e)
{
    uint64_t n = model_desc(m)->tensors[i].shape.ne[0];
    float *values = xreallocarray(NULL, n, sizeof(*values));
    int rc = model_rows(m, (int)i, row, 1, values, e);
    for (int k = 0; rc == 0 && k < PER_ROW; k++)
        out[k] = values[(uint64_t)k * n / PER_ROW];
    xfree(values);
    return rc;
}

int model_sample(const struct model *m, float out[static MODEL_SAMPLE], size_t *n, struct err *e)
{
    const struct model_desc *d = model_desc(m);
    size_t *matrices = xcalloc(d->n_tensors + 1, sizeof(*matrices)), found = 0;
    int rc = 0;
    *n = 0;
    for (size_t i = 0; i < d->n_tensors; i++)
        if (is_matrix(&d->tensors[i]))
            matrices[found++] = i;
    for (size_t k = 0; rc == 0 && found > 0 && k < TENSORS; k++) {
        size_t i = matrices[k * found / TENSORS];
        /* Different rows where one tensor serves more than once. */
        rc = sample_row(m, i, d->tensors[i].shape.ne[1] * (k % 7 + 1) / 9, out + k * PER_ROW, e);
        *n = rc == 0 ? (k + 1) * PER_ROW : 0;
    }
    xfree(matrices);
    return rc;
}

double model_sample_likeness(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 1;
}
