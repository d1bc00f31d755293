/* Rows of a tensor as floats, straight from the mapped source.
 *
 * A tensor is its parts one after the other, and a part is a walk over a stored tensor by axes
 * (model_int.h): copies, permuted heads, transposed, split, merged and stacked tensors are all the
 * same walk, a gather while reading, never a copy of the tensor. The innermost axis is read as one
 * run; where its elements are neighbours, that is the speed of a plain read.
 *
 * Conversion and the check for NaN and infinity go through the same few kilobytes while they are in
 * the first-level cache, so that reading runs at the speed of memory. No state is written: any
 * thread may call in. */
#include "model/packed_int.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "quant/quant.h"
#include "tensor/convert.h"
#include "base/banned.h"

enum {
    ROWS_CHUNK = 4096, /* elements converted and checked at a time: 16 KiB of floats */
    ROWS_SPREAD = 8    /* a part scattered this much wider than it is long is not forgotten */
};

struct model_source model_source_whole(struct model *m, const struct model_part *part,
                                       const struct model_tensor *t)
{
    uint64_t n = 0;
    struct model_part *p = arena_alloc(&m->arena, sizeof *p);
    *p = *part;
    p->dtype = t->dtype;
    p->stored_row = t->shape.ne[0];
    if (shape_elements(&t->shape, &n))
        p->elements = n;
    p->first = 0;
    p->n_axes = 1;
    p->axes[0] = (struct model_axis){p->elements, 1};
    return (struct model_source){.parts = p, .n_parts = 1};
}

static const char *source_file(const struct model_part *p)
{
    return p->map ? p->map->path : "a computed tensor";
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

static int refuse_nonfinite(const struct model *m, int i, const struct model_part *p, float value,
                            uint64_t element, struct err *e)
{
    return err_set(e, ERR_INPUT,
                   "the weights are damaged or training diverged; fetch the file again or use "
                   "another checkpoint",
                   "tensor %s (%s in %s) has %s at row %llu, column %llu", m->desc.tensors[i].name,
                   p->stored_name, source_file(p), isnan(value) ? "NaN" : "infinity",
                   (unsigned long long)(element / p->stored_row),
                   (unsigned long long)(element % p->stored_row));
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

/* n elements that are `stride` apart; the same result. */
static int gather_checked(enum dtype from, const uint8_t *src, uint64_t stride, float *dst,
                          size_t n, size_t *bad)
{
    uint8_t raw[1024 * 8];
    size_t size = dtype_info(from)->bytes;
    *bad = n;
    for (size_t at = 0; at < n; at += 1024) {
        size_t k = n - at < 1024 ? n - at : 1024, first;
        for (size_t j = 0; j < k; j++)
            memcpy(raw + j * size, src + (at + j) * stride * size, size);
        if (convert_checked(from, raw, dst + at, k, &first))
            return -1;
        if (first < k) {
            *bad = at + first;
            return 0;
        }
    }
    return 0;
}

/* Where element `at` of the part is stored, and how many follow it on the innermost axis. */
static uint64_t locate(const struct model_part *p, uint64_t at, uint64_t *run)
{
    uint64_t element = p->first;
    *run = 1;
    for (int k = p->n_axes - 1; k >= 0; k--) {
        uint64_t step = at % p->axes[k].steps;
        if (k == p->n_axes - 1)
            *run = p->axes[k].steps - step;
        element += step * p->axes[k].stride;
        at /= p->axes[k].steps;
    }
    return element;
}

static int part_read(const struct model *m, int i, const struct model_part *p, uint64_t at,
                     uint64_t n, float *dst, struct err *e)
{
    uint64_t stride = p->axes[p->n_axes - 1].stride;
    size_t size = dtype_info(p->dtype)->bytes;
    for (uint64_t done = 0; done < n;) {
        uint64_t run, from = locate(p, at + done, &run);
        if (run > n - done)
            run = n - done;
        const uint8_t *src = p->data + from * size;
        size_t bad;
        if (p->packed) {
            packed_read(p->packed, from, stride, dst + done, run);
            bad = convert_find_nonfinite(dst + done, run);
        } else if (stride == 1 ? convert_checked(p->dtype, src, dst + done, run, &bad)
                               : gather_checked(p->dtype, src, stride, dst + done, run, &bad))
            return err_set(e, ERR_UNSUPPORTED, "only float weights can be converted",
                           "tensor %s in %s has type %s", m->desc.tensors[i].name, source_file(p),
                           dtype_name(p->dtype));
        if (bad < run)
            return refuse_nonfinite(m, i, p, dst[done + bad], from + bad * stride, e);
        done += run;
    }
    return 0;
}

/* In the precision of the source, as llama.cpp's converter computes: it widens BF16 but not F16. */
static void apply_math(enum model_math math, enum dtype source, float *x, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        x[k] = math == MATH_ADD_ONE ? x[k] + 1.0f : -expf(x[k]);
        if (source == DT_F16)
            x[k] = convert_f16_to_f32(convert_f32_to_f16(x[k]));
    }
}

static int rows_quantized(const struct model *m, int i, uint64_t row0, uint64_t rows, float *dst,
                          struct err *e)
{
    const struct model_tensor *t = &m->desc.tensors[i];
    const struct model_part *p = m->sources[i].parts;
    uint64_t n = t->shape.ne[0], row_bytes;
    if (!dtype_bytes(t->dtype, n, n, &row_bytes))
        return err_set(e, ERR_BUG, NULL, "tensor %s has rows that its type cannot hold", t->name);
    if (quant_decode(t->dtype, p->data + row0 * row_bytes, dst, rows, n, e))
        return err_context(e, "tensor %s in %s", t->name, source_file(p));
    size_t bad = convert_find_nonfinite(dst, rows * n);
    if (bad < rows * n)
        return refuse_nonfinite(m, i, p, dst[bad], row0 * n + bad, e);
    return 0;
}

/* The parts that elements [*at, *at+*n) touch, one per call: NULL at the end. */
static const struct model_part *next_part(const struct model_source *s, size_t *k, uint64_t *at,
                                          uint64_t n, uint64_t *take)
{
    while (n > 0 && *k < s->n_parts) {
        const struct model_part *p = &s->parts[*k];
        if (*at < p->elements) {
            *take = p->elements - *at < n ? p->elements - *at : n;
            return p;
        }
        *at -= p->elements;
        (*k)++;
    }
    return NULL;
}

int model_rows(const struct model *m, int i, uint64_t row0, uint64_t rows, float *dst,
               struct err *e)
{
    if (check_range(m, i, row0, rows, e))
        return -1;
    const struct model_tensor *t = &m->desc.tensors[i];
    const struct model_source *s = &m->sources[i];
    if (dtype_info(t->dtype)->quantized) {
        if (row0 == 0 && s->parts->map && fs_map_check(s->parts->map, e))
            return -1;
        return rows_quantized(m, i, row0, rows, dst, e);
    }
    uint64_t at = row0 * t->shape.ne[0], n = rows * t->shape.ne[0], take;
    size_t k = 0;
    for (const struct model_part *p; (p = next_part(s, &k, &at, n, &take));) {
        /* A file that shrank since it was validated would be a bus error, not a message. */
        if ((at == 0 && p->map && fs_map_check(p->map, e)) || part_read(m, i, p, at, take, dst, e))
            return -1;
        if (s->math != MATH_NONE)
            apply_math(s->math, p->dtype, dst, take);
        dst += take;
        at += take;
        n -= take;
    }
    return 0;
}

/* Either all matrices of a tensor can be copied as they are stored, or none. */
static bool is_plain(const struct model_tensor *t, const struct model_source *s, enum dtype dtype)
{
    uint64_t matrix = t->shape.ne[0] * t->shape.ne[1];
    for (size_t k = 0; k < s->n_parts; k++) {
        const struct model_part *p = &s->parts[k];
        if (p->dtype != dtype || p->packed || p->n_axes != 1 || p->axes[0].stride != 1 ||
            (s->n_parts > 1 && p->elements % matrix != 0))
            return false;
    }
    return s->math == MATH_NONE;
}

const void *model_rows_raw(const struct model *m, int i, enum dtype dtype, uint64_t row0,
                           uint64_t rows)
{
    if (check_range(m, i, row0, rows, NULL))
        return NULL;
    const struct model_tensor *t = &m->desc.tensors[i];
    const struct model_source *s = &m->sources[i];
    uint64_t at = row0 * t->shape.ne[0], n = rows * t->shape.ne[0], take, bytes, run;
    size_t k = 0;
    const struct model_part *p = next_part(s, &k, &at, n, &take);
    if (!p || take < n || !is_plain(t, s, dtype))
        return NULL;
    /* Not what it was: model_rows then says so. */
    if (at == 0 && p->map && fs_map_check(p->map, NULL))
        return NULL;
    uint64_t element = locate(p, at, &run);
    if (!dtype_bytes(dtype, element, t->shape.ne[0], &bytes))
        return NULL;
    return p->data + bytes;
}

/* Rows of whole blocks, whatever the view does with the rows themselves. */
static bool has_whole_blocks(const struct model_part *p, uint64_t row)
{
    const struct model_axis *inner = &p->axes[p->n_axes - 1];
    bool whole = p->packed && p->packed->packing == PACKING_MXFP4 && p->first % 32 == 0 &&
                 inner->stride == 1 && inner->steps % row == 0 && row % 32 == 0;
    for (int k = 0; k + 1 < p->n_axes && whole; k++)
        whole = p->axes[k].stride % 32 == 0;
    return whole;
}

bool model_has_blocks(const struct model *m, int i, enum dtype dtype)
{
    const struct model_source *s = &m->sources[i];
    bool whole = dtype == DT_MXFP4 && s->math == MATH_NONE;
    for (size_t k = 0; k < s->n_parts && whole; k++)
        whole = has_whole_blocks(&s->parts[k], m->desc.tensors[i].shape.ne[0]);
    return whole;
}

int model_rows_blocks(const struct model *m, int i, uint64_t row0, uint64_t rows, uint8_t *dst,
                      struct err *e)
{
    if (check_range(m, i, row0, rows, e))
        return -1;
    uint64_t row = m->desc.tensors[i].shape.ne[0], at = row0 * row, n = rows * row, take;
    size_t k = 0;
    for (const struct model_part *p; (p = next_part(&m->sources[i], &k, &at, n, &take));) {
        if (at == 0 && fs_map_check(p->map, e))
            return -1;
        for (uint64_t done = 0, run; done < take; done += run) {
            uint64_t from = locate(p, at + done, &run);
            if (run > take - done)
                run = take - done;
            packed_mxfp4_blocks(p->packed, from, run, dst);
            dst += run / 32 * 17;
        }
        at += take;
        n -= take;
    }
    return 0;
}

/* The bytes of the file that hold these elements, and those between: whole steps of the outermost
 * axis, since the inner ones come from all over it. *spread: others lie between too, so that the
 * bytes are not done with before the part is. */
static bool part_range(const struct model_part *p, uint64_t at, uint64_t n, uint64_t *offset,
                       uint64_t *bytes, bool *spread)
{
    uint64_t step = p->n_axes == 1 ? 1 : p->elements / p->axes[0].steps;
    uint64_t from = p->first + at / step * p->axes[0].stride;
    uint64_t to = p->first + (at + n - 1) / step * p->axes[0].stride;
    for (int k = 1; k < p->n_axes; k++)
        to += p->axes[k].stride * (p->axes[k].steps - 1);
    uint64_t block = dtype_info(p->dtype)->block, size = dtype_info(p->dtype)->bytes;
    *spread = false;
    if (p->packed) {
        *spread = packed_range(p->packed, from, to, offset, bytes);
    } else if (block > 1) {
        *offset = at / block * size;
        *bytes = (n + block - 1) / block * size;
    } else {
        *offset = from * size;
        *bytes = (to - from + 1) * size;
    }
    if (*offset >= p->bytes)
        return false;
    if (*bytes > p->bytes - *offset)
        *bytes = p->bytes - *offset;
    *offset += p->offset;
    *spread = *spread || *bytes / ROWS_SPREAD > n * 8;
    return true;
}

static void rows_advise(const struct model *m, int i, uint64_t row0, uint64_t rows, bool forget)
{
    if (check_range(m, i, row0, rows, NULL))
        return;
    const struct model_tensor *t = &m->desc.tensors[i];
    uint64_t at = row0 * t->shape.ne[0], n = rows * t->shape.ne[0], take, offset, bytes;
    size_t k = 0;
    bool spread;
    for (const struct model_part *p; (p = next_part(&m->sources[i], &k, &at, n, &take));) {
        if (p->map && part_range(p, at, take, &offset, &bytes, &spread)) {
            if (!forget)
                fs_map_prefetch(p->map, offset, bytes);
            else if (!spread || at + take == p->elements)
                fs_map_forget(p->map, offset, bytes);
        }
        at += take;
        n -= take;
    }
}

void model_rows_prefetch(const struct model *m, int i, uint64_t row0, uint64_t rows)
{
    rows_advise(m, i, row0, rows, false);
}

void model_rows_forget(const struct model *m, int i, uint64_t row0, uint64_t rows)
{
    rows_advise(m, i, row0, rows, true);
}
