/* Rows of a tensor as floats, straight from the mapped source.
 *
 * Hugging Face keeps the two halves of a rotary pair hd/2 rows apart inside each head; ggml's llama
 * rope wants them next to each other. So row h·hd + 2j + t of the GGUF tensor is row
 * h·hd + t·hd/2 + j of the source (t = 0,1): a gather of rows, done while reading, never a copy of
 * the tensor. A bias is the same with rows of one element.
 *
 * Conversion and the check for NaN and infinity go through the same few kilobytes while they are in
 * the first-level cache, so that reading runs at the speed of memory. No state is written: any
 * thread may call in. */
#include "model/model_int.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "quant/quant.h"
#include "tensor/convert.h"
#include "base/banned.h"

enum { ROWS_CHUNK = 4096 }; /* elements converted and checked at a time: 16 KiB of floats */

static const char *source_file(const struct model_source *s)
{
    return s->map ? s->map->path : "a computed tensor";
}

static int check_range(const struct model *m, int i, uint64_t row0, uint64_t rows, struct err *e)
{
    if (i < 0 || (size_t)i >= m->desc.n_tensors)
        return err_set(e, ERR_BUG, NULL, "tensor index %d is outside the model's %zu tensors", i,
                       m->desc.n_tensors);
    uint64_t all = shape_rows(&m->desc.tensors[i].shape);
    if (row0 > all || rows > all - row0)
        return err_set(e, ERR_BUG, NULL, "rows %llu+%llu of tensor %s are outside its %llu rows",
                       (unsigned long long)row0, (unsigned long long)rows, m->desc.tensors[i].name,
                       (unsigned long long)all);
    return 0;
}

static int refuse_nonfinite(const struct model *m, int i, float value, uint64_t element,
                            struct err *e)
{
    const struct model_tensor *t = &m->desc.tensors[i];
    uint64_t n = t->shape.ne[0];
    return err_set(e, ERR_INPUT,
                   "the weights are damaged or training diverged; fetch the file again or use "
                   "another checkpoint",
                   "tensor %s (%s in %s) has %s at row %llu, column %llu", t->name,
                   m->sources[i].stored_name, source_file(&m->sources[i]),
                   isnan(value) ? "NaN" : "infinity", (unsigned long long)(element / n),
                   (unsigned long long)(element % n));
}

/* n plain elements; *bad is the first non-finite one, or n. */
static int convert_checked(enum dtype from, const uint8_t *src, float *dst, size_t n, size_t *bad)
{
    size_t size = dtype_info(from)->bytes;
    for (size_t at = 0; at < n; at += ROWS_CHUNK) {
        size_t k = n - at < ROWS_CHUNK ? n - at : ROWS_CHUNK;
        if (convert_to_f32(from, src + at * size, dst + at, k))
            return -1;
        size_t first = convert_find_nonfinite(dst + at, k);
        if (first < k) {
            *bad = at + first;
            return 0;
        }
    }
    *bad = n;
    return 0;
}

/* Source unit of output unit `out`, when each head has `per_head` units. */
static uint64_t permuted(uint64_t out, uint64_t per_head)
{
    uint64_t head = out / per_head, within = out % per_head;
    return head * per_head + (within & 1) * (per_head / 2) + within / 2;
}

static int rows_quantized(const struct model *m, int i, uint64_t row0, uint64_t rows, float *dst,
                          struct err *e)
{
    const struct model_tensor *t = &m->desc.tensors[i];
    uint64_t n = t->shape.ne[0], row_bytes;
    if (!dtype_bytes(t->dtype, n, n, &row_bytes))
        return err_set(e, ERR_BUG, NULL, "tensor %s has rows that its type cannot hold", t->name);
    if (quant_decode(t->dtype, m->sources[i].data + row0 * row_bytes, dst, rows, n, e))
        return err_context(e, "tensor %s in %s", t->name, source_file(&m->sources[i]));
    size_t bad = convert_find_nonfinite(dst, rows * n);
    if (bad < rows * n)
        return refuse_nonfinite(m, i, dst[bad], row0 * n + bad, e);
    return 0;
}

/* Rows in another order than stored: one unit (a row, or one element of a bias) at a time. */
static int rows_permuted(const struct model *m, int i, uint64_t row0, uint64_t rows, float *dst,
                         struct err *e)
{
    const struct model_tensor *t = &m->desc.tensors[i];
    const struct model_source *s = &m->sources[i];
    bool vector = t->shape.n_dims == 1;
    uint64_t unit = vector ? 1 : t->shape.ne[0];
    uint64_t units = vector ? t->shape.ne[0] : t->shape.ne[1];
    uint64_t first = vector ? 0 : row0, count = vector ? units * rows : rows;
    uint64_t unit_bytes = unit * dtype_info(t->dtype)->bytes;
    for (uint64_t k = 0; k < count; k++) {
        uint64_t from = permuted(first + k, units / s->permute_heads);
        size_t bad;
        if (convert_checked(t->dtype, s->data + from * unit_bytes, dst + k * unit, unit, &bad))
            return err_set(e, ERR_BUG, NULL, "tensor %s has a type that is not plain", t->name);
        if (bad < unit)
            return refuse_nonfinite(m, i, dst[k * unit + bad], from * unit + bad, e);
    }
    return 0;
}

int model_rows(const struct model *m, int i, uint64_t row0, uint64_t rows, float *dst,
               struct err *e)
{
    if (check_range(m, i, row0, rows, e))
        return -1;
    const struct model_tensor *t = &m->desc.tensors[i];
    const struct model_source *s = &m->sources[i];
    /* A file that shrank since it was validated would be a bus error, not an error message. */
    if (row0 == 0 && s->map && fs_map_check(s->map, e))
        return -1;
    if (dtype_info(t->dtype)->quantized)
        return rows_quantized(m, i, row0, rows, dst, e);
    if (s->permute_heads)
        return rows_permuted(m, i, row0, rows, dst, e);
    uint64_t n = t->shape.ne[0], start = row0 * n;
    size_t bad;
    if (convert_checked(t->dtype, s->data + start * dtype_info(t->dtype)->bytes, dst, rows * n,
                        &bad))
        return err_set(e, ERR_UNSUPPORTED, "only float weights can be converted",
                       "tensor %s in %s has type %s", t->name, source_file(s),
                       dtype_name(t->dtype));
    return bad < rows * n ? refuse_nonfinite(m, i, dst[bad], start + bad, e) : 0;
}

const void *model_rows_raw(const struct model *m, int i, enum dtype dtype, uint64_t row0,
                           uint64_t rows)
{
    if (check_range(m, i, row0, rows, NULL))
        return NULL;
    const struct model_tensor *t = &m->desc.tensors[i];
    uint64_t row_bytes;
    /* Not what it was: model_rows then says so. */
    if (row0 == 0 && m->sources[i].map && fs_map_check(m->sources[i].map, NULL))
        return NULL;
    if (t->dtype != dtype || m->sources[i].permute_heads ||
        !dtype_bytes(dtype, t->shape.ne[0], t->shape.ne[0], &row_bytes))
        return NULL;
    return m->sources[i].data + row0 * row_bytes;
}

/* The bytes in the file that hold these rows; permuted rows come from all over their heads, and the
 * rows of whole heads are whole again, so the range is widened to heads. */
static bool rows_range(const struct model *m, int i, uint64_t row0, uint64_t rows, uint64_t *offset,
                       uint64_t *bytes)
{
    if (check_range(m, i, row0, rows, NULL) || !m->sources[i].map || rows == 0)
        return false;
    const struct model_tensor *t = &m->desc.tensors[i];
    uint64_t row_bytes, heads = m->sources[i].permute_heads;
    if (!dtype_bytes(t->dtype, t->shape.ne[0], t->shape.ne[0], &row_bytes))
        return false;
    if (heads && t->shape.n_dims > 1) {
        uint64_t per_head = t->shape.ne[1] / heads;
        uint64_t end = (row0 + rows + per_head - 1) / per_head * per_head;
        row0 = row0 / per_head * per_head;
        rows = end - row0;
    }
    *offset = m->sources[i].offset + row0 * row_bytes;
    *bytes = rows * row_bytes;
    return true;
}

void model_rows_prefetch(const struct model *m, int i, uint64_t row0, uint64_t rows)
{
    uint64_t offset, bytes;
    if (rows_range(m, i, row0, rows, &offset, &bytes))
        fs_map_prefetch(m->sources[i].map, offset, bytes);
}

void model_rows_forget(const struct model *m, int i, uint64_t row0, uint64_t rows)
{
    uint64_t offset, bytes;
    if (rows_range(m, i, row0, rows, &offset, &bytes))
        fs_map_forget(m->sources[i].map, offset, bytes);
}
