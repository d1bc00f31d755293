/* Encoders of Q4_0, Q4_1, Q5_0, Q5_1 (without importance) and Q8_0: no search, so as fast as memory
 * ought to be. Layouts: encode_legacy_int.h.
 *
 * Sixteen consecutive blocks are a batch. A vector holds consecutive weights of one block, straight
 * from the rows as they are stored (F32, F16 or BF16): nothing is transposed. Largest and smallest
 * of a block are the same in whatever order they are found, but for the sign of a zero and of two
 * extremes equally far from zero, which the first of them decides: those blocks are looked at
 * again, one weight after the other. Scales of the batch are computed in lanes, one block each.
 *
 * The order of the sums of errors is ours to define. Column c (of 32) of the blocks of a batch is
 * summed in float, block after block; then column c + n is added to column c for n = 16, 8, 4, 2,
 * 1; the sums of batches are added in double. A weight that is NaN or infinite shows in that sum or
 * in a scale, so that weights need not be checked before. */
#ifndef QUANT_ENCODE_PLAIN_INT_H
#define QUANT_ENCODE_PLAIN_INT_H

#include "quant/encode_legacy_int.h"

/* Sixteen vectors stay in registers only without a loop. */
#if defined(__clang__)
#define PLAIN_UNROLL      _Pragma("clang loop unroll(full)")
#define PLAIN_UNROLL_SOME /* clang chooses by itself where the length is not known */
#else
#define PLAIN_UNROLL      _Pragma("GCC unroll 16")
#define PLAIN_UNROLL_SOME _Pragma("GCC unroll 8")
#endif

enum {
    PLAIN_BLOCK = 32,
    PLAIN_BLOCKS = 16,
    PLAIN_WEIGHTS = PLAIN_BLOCK * PLAIN_BLOCKS,
    PLAIN_PARTS = PLAIN_BLOCK / LANES, /* vectors in a block */
    PLAIN_CHAINS = PLAIN_PARTS < 4 ? PLAIN_PARTS : 4,
    PLAIN_AHEAD = 8192 /* bytes: what memory is asked for while levels are made */
};

struct plain_batch {
    _Alignas(64) float copy[PLAIN_WEIGHTS];
    float high[PLAIN_BLOCKS], low[PLAIN_BLOCKS]; /* largest and smallest weight */
    float scale[PLAIN_BLOCKS], offset[PLAIN_BLOCKS], inverse[PLAIN_BLOCKS]; /* as decoded; 1/d */
    float base[PLAIN_BLOCKS];                                               /* m before rounding */
    uint16_t half[PLAIN_BLOCKS], half_offset[PLAIN_BLOCKS];                 /* as stored */
    const float *x;
    int count;    /* blocks that are real */
    int finite;   /* every scale is */
    int in_range; /* every 1/d is finite, so every level fits its type before it is cut to it */
};

/* ---- rows to floats ---- */

LANES_INLINE void plain_convert(struct plain_batch *p, const uint8_t *src, int n, int stored)
{
    PLAIN_UNROLL_SOME
    for (int i = 0; i < n; i += LANES) {
        if (stored == DT_BF16)
            vf_store(p->copy + i, lanes_from_bf16(src + 2 * i));
        else
            vf_store(p->copy + i, lanes_from_f16(src + 2 * i));
    }
}

/* Floats are read where they lie; weights of blocks that do not exist are zero. */
LANES_INLINE void plain_load(struct plain_batch *p, const uint8_t *src, int stored)
{
    int n = p->count * PLAIN_BLOCK;
    if (n < PLAIN_WEIGHTS)
        memset(p->copy, 0, sizeof p->copy);
    p->x = p->copy;
    if (stored != DT_F32)
        plain_convert(p, src, n, stored);
    else if (n < PLAIN_WEIGHTS || (uintptr_t)src % sizeof(float) != 0)
        memcpy(p->copy, src, (size_t)n * sizeof(float));
    else
        p->x = (const float *)(const void *)src;
}

/* ---- extremes ---- */

/* Largest of each lane over the parts of a block. */
LANES_INLINE vf plain_part_max(const float *x, int absolute)
{
    vf m[PLAIN_CHAINS];
    LANES_UNROLL
    for (int i = 0; i < PLAIN_CHAINS; i++)
        m[i] = absolute ? lane_abs(vf_load(x + i * LANES)) : vf_load(x + i * LANES);
    for (int i = PLAIN_CHAINS; i < PLAIN_PARTS; i += PLAIN_CHAINS) {
        LANES_UNROLL
        for (int k = 0; k < PLAIN_CHAINS; k++) {
            vf v = vf_load(x + (i + k) * LANES);
            m[k] = vf_max(absolute ? lane_abs(v) : v, m[k]);
        }
    }
    for (int n = PLAIN_CHAINS / 2; n; n /= 2)
        for (int i = 0; i < n; i++)
            m[i] = vf_max(m[i], m[i + n]);
    return m[0];
}

LANES_INLINE vf plain_part_min(const float *x)
{
    vf m[PLAIN_CHAINS];
    LANES_UNROLL
    for (int i = 0; i < PLAIN_CHAINS; i++)
        m[i] = vf_load(x + i * LANES);
    for (int i = PLAIN_CHAINS; i < PLAIN_PARTS; i += PLAIN_CHAINS) {
        LANES_UNROLL
        for (int k = 0; k < PLAIN_CHAINS; k++)
            m[k] = vf_min(vf_load(x + (i + k) * LANES), m[k]);
    }
    for (int n = PLAIN_CHAINS / 2; n; n /= 2)
        for (int i = 0; i < n; i++)
            m[i] = vf_min(m[i], m[i + n]);
    return m[0];
}

LANES_INLINE void plain_highs(struct plain_batch *p, int absolute)
{
    for (int g = 0; g < PLAIN_BLOCKS; g += LANES) {
        vf v[LANES];
        PLAIN_UNROLL
        for (int b = 0; b < LANES; b++)
            v[b] = plain_part_max(p->x + (g + b) * PLAIN_BLOCK, absolute);
        vf_store(p->high + g, lanes_fold_max(v));
    }
}

LANES_INLINE void plain_lows(struct plain_batch *p)
{
    for (int g = 0; g < PLAIN_BLOCKS; g += LANES) {
        vf v[LANES];
        PLAIN_UNROLL
        for (int b = 0; b < LANES; b++)
            v[b] = plain_part_min(p->x + (g + b) * PLAIN_BLOCK);
        vf_store(p->low + g, lanes_fold_min(v));
    }
}

/* The first weight as far from zero as any; +0 when all are zero. */
static inline float plain_first_peak(const float *x, float absolute)
{
    for (int i = 0; i < PLAIN_BLOCK && absolute > 0; i++)
        if (x[i] == absolute || x[i] == -absolute)
            return x[i];
    return 0;
}

static inline float plain_first_zero(const float *x)
{
    int i = 0;
    while (i < PLAIN_BLOCK - 1 && x[i] != 0)
        i++;
    return x[i];
}

/* ---- scales: a block in each lane ---- */

LANES_INLINE void plain_note_scale(struct plain_batch *p, vf stored, vf inverse)
{
    p->finite &= vm_all(vf_lt(lane_abs(stored), vf_set(INFINITY)));
    p->in_range &= vm_all(vf_lt(lane_abs(inverse), vf_set(INFINITY)));
}

LANES_INLINE void plain_scale(struct plain_batch *p, int g, vf d)
{
    vf inverse = lane_inverse(d), stored = lanes_half(d, p->half + g);
    vf_store(p->inverse + g, inverse);
    vf_store(p->scale + g, stored);
    plain_note_scale(p, stored, inverse);
}

/* Q4_0, Q5_0: the extreme farthest from zero becomes the lowest level. */
LANES_INLINE void plain_symmetric_scales(struct plain_batch *p, int half)
{
    plain_highs(p, 0);
    plain_lows(p);
    for (int g = 0; g < PLAIN_BLOCKS; g += LANES) {
        vf high = vf_load(p->high + g), low = vf_load(p->low + g), other = lane_negate(low);
        vf peak = vf_sel(vf_lt(other, high), high, low);
        if (vm_any(vf_eq(high, other))) {
            for (int b = g; b < g + LANES; b++)
                if (p->high[b] == -p->low[b])
                    p->low[b] = plain_first_peak(p->x + b * PLAIN_BLOCK, p->high[b]);
            peak = vf_sel(vf_eq(high, other), vf_load(p->low + g), peak);
        }
        /* Division by a power of two, rounded alike. */
        plain_scale(p, g, vf_mul(peak, vf_set(-1.0f / (float)half)));
    }
}

/* Q4_1, Q5_1: from the smallest to the largest. */
LANES_INLINE void plain_offset_scales(struct plain_batch *p, int top)
{
    plain_highs(p, 0);
    plain_lows(p);
    for (int g = 0; g < PLAIN_BLOCKS; g += LANES) {
        if (vm_any(vf_eq(vf_load(p->low + g), vf_set(0)))) {
            for (int b = g; b < g + LANES; b++) {
                if (p->low[b] == 0)
                    p->low[b] = plain_first_zero(p->x + b * PLAIN_BLOCK);
                if (p->high[b] == 0)
                    p->high[b] = p->low[b] == 0 ? p->low[b] : 0;
            }
        }
        vf low = vf_load(p->low + g);
        plain_scale(p, g, vf_div(vf_sub(vf_load(p->high + g), low), vf_set((float)top)));
        vf stored = lanes_half(low, p->half_offset + g);
        vf_store(p->base + g, low);
        vf_store(p->offset + g, stored);
        plain_note_scale(p, stored, vf_set(0));
    }
}

LANES_INLINE void plain_byte_scales(struct plain_batch *p)
{
    plain_highs(p, 1);
    for (int g = 0; g < PLAIN_BLOCKS; g += LANES)
        plain_scale(p, g, vf_div(vf_load(p->high + g), vf_set(127)));
}

/* ---- levels ---- */

/* (level − half)·scale. A permutation of sixteen products takes the place of sixteen
 * computations. */
LANES_INLINE vf plain_symmetric_value(vi level, int top, vf scale)
{
    static const float centred[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    if (LANES == 16 && top == 15) {
        float value[16];
        vf_store(value, vf_mul(vf_load(centred), scale));
        return vf_lookup16(value, level);
    }
    return vf_mul(vf_of(vi_sub(level, vi_set((top + 1) / 2))), scale);
}

LANES_INLINE vf plain_offset_value(vi level, int top, vf scale, vf offset)
{
    static const float each[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    if (LANES == 16 && top == 15) {
        float value[16];
        vf_store(value, vf_add(vf_mul(vf_load(each), scale), offset));
        return vf_lookup16(value, level);
    }
    return vf_add(vf_mul(vf_of(level), scale), offset);
}

/* Sums of a block's errors by column, kept in registers over the blocks of a batch. */
struct plain_sums {
    vf error[PLAIN_PARTS], heavy[PLAIN_PARTS];
};

LANES_INLINE void plain_note(struct plain_sums *s, int i, vf x, vf decoded, const float *q)
{
    vf d = vf_sub(x, decoded);
    d = vf_mul(d, d);
    s->error[i] = vf_add(s->error[i], d);
    if (q)
        s->heavy[i] = vf_add(s->heavy[i], vf_mul(vf_load(q + i * LANES), d));
}

LANES_INLINE void plain_put_levels(uint8_t *dst, const vi *level, int top)
{
    if (top == 31) {
        uint32_t fifth = lanes_fifth_bits(level);
        memcpy(dst, &fifth, sizeof fifth);
        dst += sizeof fifth;
    }
    lanes_put_nibbles(dst, level);
}

/* Level of a scaled weight in [0, top + 2); anything at all unless in_range. */
LANES_INLINE vi plain_level(vf a, int top, int in_range)
{
    return in_range ? vi_min(vi_set(top), vi_trunc(a))
                    : vi_and(lane_trunc_level(a, top), vi_set(top));
}

LANES_INLINE void plain_symmetric(const struct plain_batch *p, int b, uint8_t *dst, int top,
                                  int in_range, struct plain_sums *s)
{
    const int half = (top + 1) / 2;
    const float *x = p->x + b * PLAIN_BLOCK;
    vf inverse = vf_set(p->inverse[b]), scale = vf_set(p->scale[b]);
    vi level[PLAIN_PARTS];
    LANES_UNROLL
    for (int i = 0; i < PLAIN_PARTS; i++) {
        vf xi = vf_load(x + i * LANES);
        vf a = vf_add(vf_mul(xi, inverse), vf_set((float)half + 0.5f));
        level[i] = plain_level(a, top, in_range);
        plain_note(s, i, xi, plain_symmetric_value(level[i], top, scale), NULL);
    }
    memcpy(dst, &p->half[b], 2);
    plain_put_levels(dst + 2, level, top);
}

LANES_INLINE void plain_offset(const struct plain_batch *p, int b, uint8_t *dst, int top,
                               int in_range, struct plain_sums *s)
{
    const float *x = p->x + b * PLAIN_BLOCK;
    vf inverse = vf_set(p->inverse[b]), scale = vf_set(p->scale[b]);
    vf base = vf_set(p->base[b]), offset = vf_set(p->offset[b]);
    vi level[PLAIN_PARTS];
    LANES_UNROLL
    for (int i = 0; i < PLAIN_PARTS; i++) {
        vf xi = vf_load(x + i * LANES);
        vf a = vf_add(vf_mul(vf_sub(xi, base), inverse), vf_set(0.5f));
        /* At most top + 0.5 and a little: nothing to cut. */
        level[i] = in_range ? vi_trunc(a) : plain_level(a, top, 0);
        plain_note(s, i, xi, plain_offset_value(level[i], top, scale, offset), NULL);
    }
    memcpy(dst, &p->half[b], 2);
    memcpy(dst + 2, &p->half_offset[b], 2);
    plain_put_levels(dst + 4, level, top);
}

LANES_INLINE void plain_bytes(const struct plain_batch *p, int b, uint8_t *dst, const float *q,
                              int in_range, struct plain_sums *s)
{
    const float *x = p->x + b * PLAIN_BLOCK;
    vf inverse = vf_set(p->inverse[b]), scale = vf_set(p->scale[b]);
    vi level[PLAIN_PARTS];
    LANES_UNROLL
    for (int i = 0; i < PLAIN_PARTS; i++) {
        vf xi = vf_load(x + i * LANES), a = vf_mul(xi, inverse);
        level[i] = in_range ? vi_trunc(lanes_away(a)) : vi_sra(vi_sll(lane_round_away(a), 24), 24);
        plain_note(s, i, xi, vf_mul(vf_of(level[i]), scale), q);
    }
    memcpy(dst, &p->half[b], 2);
    lanes_put_bytes(dst + 2, level);
}

/* ---- batches ---- */

LANES_INLINE void plain_prefetch(const struct kernel_rows *r, uint64_t block, int stored)
{
    const size_t bytes = PLAIN_BLOCK * (stored == DT_F32 ? 4u : 2u);
    const uint8_t *src = (const uint8_t *)r->src + block * bytes + PLAIN_AHEAD;
    __builtin_prefetch(src);
    if (stored == DT_F32)
        __builtin_prefetch(src + 64);
}

/* The blocks of a batch, by one of the three functions above. */
LANES_INLINE void plain_blocks(const struct plain_batch *p, struct kernel_rows *r, uint64_t first,
                               int form, int top, int in_range, int stored)
{
    const size_t bytes = form == 8 ? 34u : 18u + (form == 1 ? 2u : 0u) + (top == 31 ? 4u : 0u);
    uint8_t *dst = r->dst + first * bytes;
    struct plain_sums s;
    LANES_UNROLL
    for (int i = 0; i < PLAIN_PARTS; i++)
        s.error[i] = s.heavy[i] = vf_set(0);
    for (int b = 0; b < p->count; b++, dst += bytes) {
        plain_prefetch(r, first + (uint64_t)b, stored);
        if (form == 0)
            plain_symmetric(p, b, dst, top, in_range, &s);
        else if (form == 1)
            plain_offset(p, b, dst, top, in_range, &s);
        else if (r->importance)
            plain_bytes(p, b, dst,
                        r->importance +
                            (first + (uint64_t)b) % r->blocks_per_row * (uint64_t)PLAIN_BLOCK,
                        in_range, &s);
        else
            plain_bytes(p, b, dst, NULL, in_range, &s);
    }
    double error = (double)lanes_total(s.error);
    r->squared += error;
    r->weighted += r->importance ? (double)lanes_total(s.heavy) : error;
    r->unfit |= !p->finite || !(error < INFINITY);
}

/* form: 0 symmetric, 1 with an offset, 8 bytes. */
LANES_INLINE void plain_begin(struct plain_batch *p, const struct kernel_rows *r, uint64_t first,
                              int form, int top, int stored)
{
    const size_t each = stored == DT_F32 ? 4 : 2;
    uint64_t left = r->blocks - first;
    p->count = left < PLAIN_BLOCKS ? (int)left : PLAIN_BLOCKS;
    p->finite = p->in_range = 1;
    plain_load(p, (const uint8_t *)r->src + first * PLAIN_BLOCK * each, stored);
    if (form == 0)
        plain_symmetric_scales(p, (top + 1) / 2);
    else if (form == 1)
        plain_offset_scales(p, top);
    else
        plain_byte_scales(p);
}

/* The scales of a batch are a chain of waiting; the levels of the batch before fill it. */
LANES_INLINE void plain_rows(struct kernel_rows *r, int form, int top, int stored)
{
    struct plain_batch both[2], *p = &both[0], *next = &both[1], *t;
    if (r->blocks)
        plain_begin(p, r, 0, form, top, stored);
    for (uint64_t first = 0; first < r->blocks; first += PLAIN_BLOCKS) {
        if (first + PLAIN_BLOCKS < r->blocks)
            plain_begin(next, r, first + PLAIN_BLOCKS, form, top, stored);
        if (p->in_range)
            plain_blocks(p, r, first, form, top, 1, stored);
        else
            plain_blocks(p, r, first, form, top, 0, stored);
        t = p;
        p = next;
        next = t;
    }
}

/* One loop for every way in which rows are stored. */
#define PLAIN_ROWS(name, form, top)                                                                \
    static void name##_rows(struct kernel_rows *r)                                                 \
    {                                                                                              \
        if (r->stored == DT_BF16)                                                                  \
            plain_rows(r, form, top, DT_BF16);                                                     \
        else if (r->stored == DT_F16)                                                              \
            plain_rows(r, form, top, DT_F16);                                                      \
        else                                                                                       \
            plain_rows(r, form, top, DT_F32);                                                      \
    }
PLAIN_ROWS(q4_0, 0, 15)
PLAIN_ROWS(q4_1, 1, 15)
PLAIN_ROWS(q5_0, 0, 31)
PLAIN_ROWS(q5_1, 1, 31)
PLAIN_ROWS(q8_0, 8, 127)

#endif
