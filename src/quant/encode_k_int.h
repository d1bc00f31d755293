/* Encoders of the k-quants over lanes: one super-block of 256 weights per lane.
 *
 * Layouts (ggml-common.h, ggml 0.5.0), bytes in order; d and dmin are fp16:
 *   Q2_K  scales[16] (low nibble scale, high minimum), qs[64], d, dmin                         84
 *   Q3_K  hmask[32] (bit j/32 of byte j%32), qs[64], scales[12] (6 bits, offset 32), d         110
 *   Q4_K  d, dmin, scales[12] (6-bit scales and minima), qs[128]                               144
 *   Q5_K  d, dmin, scales[12], qh[32], qs[128]                                                 176
 *   Q6_K  ql[128], qh[64], scales[16] (int8), d                                                210
 * Every encoder is: searches per sub-block, quantization of the sub-block scales, final levels
 * against the rounded scales (kept from the search where the rounded scale is zero), packing,
 * error. Bytes are packed in the lanes, four to a 32-bit word, and scattered at the end. */
#ifndef QUANT_ENCODE_K_INT_H
#define QUANT_ENCODE_K_INT_H

#include "quant/encode_search_int.h"

/* Working memory of one batch; transposed, element i of every lane at [i*LANES]. */
struct lane_block {
    float x[256 * LANES];
    float w[256 * LANES];      /* search weights, then what a decoder makes of the block */
    float q[256 * LANES];      /* importance */
    int32_t words[64 * LANES]; /* packed output */
};

LANES_INLINE void lane_block_load(struct lane_block *k, const struct kernel_batch *b, int n,
                                  int important)
{
    lanes_transpose(b->x, k->x, n);
    if (important)
        lanes_transpose(b->w, k->q, n);
}

/* What a decoder makes of weight i. It takes the place of the search weights, which are used up by
 * then. */
LANES_INLINE void lane_block_decoded(struct lane_block *k, int i, vf decoded)
{
    vf_store(k->w + i * LANES, decoded);
}

/* Adds up the errors of the n decoded weights, in four chains, and the sums of the used lanes. */
LANES_INLINE void lane_block_close(const struct lane_block *k, struct kernel_batch *b, int n,
                                   int important)
{
    vf plain[4], heavy[4];
    for (int c = 0; c < 4; c++)
        plain[c] = heavy[c] = vf_set(0);
    for (int i = 0; i < n; i += 4) {
        LANES_UNROLL
        for (int c = 0; c < 4; c++) {
            vf d = vf_sub(lane_at(k->x, i + c), lane_at(k->w, i + c));
            d = vf_mul(d, d);
            plain[c] = vf_add(plain[c], d);
            if (important)
                heavy[c] = vf_add(heavy[c], vf_mul(lane_at(k->q, i + c), d));
        }
    }
    float squared[LANES], weighted[LANES];
    const vf *sum = important ? heavy : plain;
    vf_store(squared, vf_add(vf_add(plain[0], plain[1]), vf_add(plain[2], plain[3])));
    vf_store(weighted, vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
    for (int lane = 0; lane < b->count; lane++) {
        b->squared += (double)squared[lane];
        b->weighted += (double)weighted[lane];
    }
}

/* n words (4n bytes, n a multiple of 4) of every lane to byte `at` of its block; unused lanes write
 * what the last used one writes. */
LANES_INLINE void lane_put_words(const struct kernel_batch *b, const int32_t *words, int at, int n)
{
    for (int k = 0; k < n; k += 4)
        lanes_put_words4(b->dst, at + 4 * k, words + k * LANES);
}

/* Low `bytes` bytes of v. */
LANES_INLINE void lane_put(const struct kernel_batch *b, vi v, int at, size_t bytes)
{
    int32_t word[LANES];
    vi_store(word, v);
    for (int lane = 0; lane < b->count; lane++)
        memcpy(b->dst[lane] + at, &word[lane], bytes);
}

/* fp16 of `a`, written at byte `at`; returns its value. Notes scales that are not finite. */
LANES_INLINE vf lane_put_half(struct kernel_batch *b, vf a, int at)
{
    uint16_t half[LANES];
    vf value = lanes_half(a, half);
    for (int lane = 0; lane < LANES; lane++)
        memcpy(b->dst[lane] + at, &half[lane], 2);
    if (!vm_all(vf_lt(lane_abs(value), vf_set(INFINITY))))
        b->infinite = true;
    return value;
}

/* Σ x² over the block, in order. */
LANES_INLINE vf lane_sum_squares(const float *x, int n)
{
    vf sum = vf_set(0);
    for (int i = 0; i < n; i++)
        sum = vf_add(sum, vf_mul(lane_at(x, i), lane_at(x, i)));
    return sum;
}

/* w = importance · sqrt(sigma2 + x²). */
LANES_INLINE void lane_weigh(const float *x, const float *q, vf sigma2, float *w, int n)
{
    for (int i = 0; i < n; i++) {
        vf xi = lane_at(x, i);
        vf root = vf_sqrt(vf_add(sigma2, vf_mul(xi, xi)));
        vf_store(w + i * LANES, vf_mul(lane_at(q, i), root));
    }
}

LANES_INLINE vf lane_sum(const float *w, int n)
{
    vf sum = vf_set(0);
    for (int i = 0; i < n; i++)
        sum = vf_add(sum, lane_at(w, i));
    return sum;
}

/* Final level of an affine sub-block: against the rounded scale d and minimum m, or the search's
 * own where d is zero. */
LANES_INLINE vi lane_affine_final(const struct lane_affine *s, vf x, vf d, vf m, vm live, int top)
{
    vi l = lane_clamp(lane_nearest(vf_div(vf_add(x, m), d)), 0, top);
    if (vm_all(live))
        return l;
    vi kept = lane_clamp(lane_nearest(vf_mul(s->inverse, vf_sub(x, s->base))), 0, top);
    return vi_sel(live, l, kept);
}

/* Four 2-bit planes of 128 levels to 8 words. */
LANES_INLINE void lane_pack_2bit(const vi *level, int32_t *words)
{
    for (int k = 0; k < 8; k++) {
        vi word = vi_set(0);
        for (int byte = 3; byte >= 0; byte--) {
            const vi *l = level + 4 * k + byte;
            vi v = vi_or(vi_or(l[0], vi_sll(l[32], 2)), vi_or(vi_sll(l[64], 4), vi_sll(l[96], 6)));
            word = vi_or(vi_sll(word, 8), v);
        }
        vi_store(words + k * LANES, word);
    }
}

/* ---- Q2_K ---- */

LANES_INLINE void lane_q2_k_scales(const struct lane_affine *s, const vf *sum, int important,
                                   vi *ls, vi *lm, vf *d, vf *m)
{
    vf scale[16], minimum[16];
    for (int j = 0; j < 16; j++) {
        scale[j] = s[j].scale;
        minimum[j] = s[j].minimum;
    }
    if (important) {
        *d = lane_search_positive(16, 15, scale, sum, ls);
        *m = lane_search_positive(16, 15, minimum, sum, lm);
        return;
    }
    vf top = vf_set(0), low = vf_set(0);
    for (int j = 0; j < 16; j++) {
        top = vf_max(scale[j], top);
        low = vf_max(minimum[j], low);
    }
    vm some = vf_lt(vf_set(0), top), some_low = vf_lt(vf_set(0), low);
    vf inverse = vf_div(vf_set(15), top), inverse_low = vf_div(vf_set(15), low);
    for (int j = 0; j < 16; j++) {
        vi l = vi_and(lane_nearest(vf_mul(inverse, scale[j])), vi_set(0xff));
        vi n = lane_nearest(vf_mul(inverse_low, minimum[j]));
        ls[j] = vi_sel(some, l, vi_set(0));
        lm[j] = vi_sel(some_low, n, vi_set(0));
    }
    *d = vf_sel(some, vf_div(top, vf_set(15)), vf_set(0));
    *m = vf_sel(some_low, vf_div(low, vf_set(15)), vf_set(0));
}

LANES_INLINE void lane_q2_k_finish(struct lane_block *k, struct kernel_batch *b,
                                   const struct lane_affine *s, const vi *scales, vf d, vf m)
{
    for (int half = 0; half < 2; half++) {
        vi level[128];
        for (int j = 8 * half; j < 8 * half + 8; j++) {
            vf dj = vf_mul(d, vf_of(vi_and(scales[j], vi_set(15))));
            vf mj = vf_mul(m, vf_of(vi_srl(scales[j], 4)));
            vm live = vm_not(vf_eq(dj, vf_set(0)));
            for (int i = 0; i < 16; i++) {
                int at = 16 * j + i;
                vi l = lane_affine_final(&s[j], lane_at(k->x, at), dj, mj, live, 3);
                level[at - 128 * half] = l;
                lane_block_decoded(k, at, vf_sub(vf_mul(dj, vf_of(l)), mj));
            }
        }
        lane_pack_2bit(level, k->words + half * 8 * LANES);
    }
    lane_put_words(b, k->words, 16, 16);
}

LANES_INLINE void encode_q2_k(struct kernel_batch *b, int important)
{
    static const struct lane_affine_spec with = {16, 3, -0.9f, 0.05f, 36, 0};
    static const struct lane_affine_spec without = {16, 3, -0.5f, 0.1f, 15, 1};
    struct lane_block k;
    struct lane_affine s[16];
    vf sum[16];
    lane_block_load(&k, b, 256, important);
    vf sigma2 = vf_div(lane_sum_squares(k.x, 256), vf_set(256));
    for (int j = 0; j < 16; j++) {
        const float *x = k.x + 16 * j * LANES;
        float *w = k.w;
        if (important) {
            lane_weigh(x, k.q + 16 * j * LANES, sigma2, w, 16);
            sum[j] = lane_sum(w, 16);
            s[j] = lane_search_affine(&with, x, w);
        } else {
            for (int i = 0; i < 16; i++)
                vf_store(w + i * LANES, lane_abs(lane_at(x, i)));
            s[j] = lane_search_affine(&without, x, w);
        }
    }
    vi ls[16], lm[16];
    vf d, m;
    lane_q2_k_scales(s, sum, important, ls, lm, &d, &m);
    for (int j = 0; j < 16; j++) {
        ls[j] = vi_and(vi_or(ls[j], vi_sll(lm[j], 4)), vi_set(0xff));
        lane_put(b, ls[j], j, 1);
    }
    d = lane_put_half(b, d, 80);
    m = lane_put_half(b, m, 82);
    lane_q2_k_finish(&k, b, s, ls, d, m);
    lane_block_close(&k, b, 256, important);
}

/* ---- Q3_K ---- */

/* 6-bit sub-block scales (0..63) as Q3_K stores them: twelve bytes, three words. */
LANES_INLINE void lane_q3_k_put_scales(const struct kernel_batch *b, const vi *l)
{
    vi byte[12];
    for (int j = 0; j < 8; j++)
        byte[j] = vi_or(vi_and(l[j], vi_set(15)), vi_sll(vi_and(l[j + 8], vi_set(15)), 4));
    for (int j = 0; j < 4; j++) {
        vi low = vi_or(vi_srl(l[j], 4), vi_sll(vi_srl(l[j + 4], 4), 2));
        vi high = vi_or(vi_sll(vi_srl(l[j + 8], 4), 4), vi_sll(vi_srl(l[j + 12], 4), 6));
        byte[j + 8] = vi_or(low, high);
    }
    for (int j = 0; j < 12; j++)
        lane_put(b, byte[j], 96 + j, 1);
}

/* Stored sub-block scales of the plain encoder; *d = the block scale. */
LANES_INLINE void lane_q3_k_plain_scales(const vf *scale, vi *l, vf *d)
{
    vf amax = vf_set(0), max = vf_set(0);
    for (int j = 0; j < 16; j++) {
        vf a = lane_abs(scale[j]);
        vm m = vf_lt(amax, a);
        amax = vf_sel(m, a, amax);
        max = vf_sel(m, scale[j], max);
    }
    vm some = vm_not(vf_eq(max, vf_set(0)));
    vf inverse = vf_div(vf_set(-32), max);
    for (int j = 0; j < 16; j++) {
        vi n = vi_sra(vi_sll(lane_nearest(vf_mul(inverse, scale[j])), 24), 24);
        n = vi_add(lane_clamp(n, -32, 31), vi_set(32));
        l[j] = vi_sel(some, n, vi_set(0));
    }
    *d = vf_sel(some, vf_div(vf_set(1), inverse), vf_set(0));
}

LANES_INLINE void lane_q3_k_pack(struct lane_block *k, const struct kernel_batch *b,
                                 const vi *level)
{
    for (int word = 0; word < 8; word++) {
        vi mask = vi_set(0);
        for (int byte = 3; byte >= 0; byte--) {
            vi bits = vi_set(0);
            for (int plane = 7; plane >= 0; plane--)
                bits = vi_or(vi_sll(bits, 1), vi_srl(level[32 * plane + 4 * word + byte], 2));
            mask = vi_or(vi_sll(mask, 8), bits);
        }
        vi_store(k->words + word * LANES, mask);
    }
    vi low[128];
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 128; i++)
            low[i] = vi_and(level[128 * half + i], vi_set(3));
        lane_pack_2bit(low, k->words + (8 + 8 * half) * LANES);
    }
    lane_put_words(b, k->words, 0, 24);
}

LANES_INLINE void lane_q3_k_finish(struct lane_block *k, struct kernel_batch *b, vi *level,
                                   const vi *scales, vf d)
{
    for (int j = 0; j < 16; j++) {
        vf dj = vf_mul(d, vf_of(vi_sub(scales[j], vi_set(32))));
        vm live = vm_not(vf_eq(dj, vf_set(0)));
        for (int i = 16 * j; i < 16 * j + 16; i++) {
            vi l = lane_clamp(lane_nearest(vf_div(lane_at(k->x, i), dj)), -4, 3);
            level[i] = vi_sel(live, vi_add(l, vi_set(4)), level[i]);
            vf decoded = vf_mul(dj, vf_of(vi_sub(level[i], vi_set(4))));
            lane_block_decoded(k, i, decoded);
        }
    }
    lane_q3_k_pack(k, b, level);
}

LANES_INLINE void encode_q3_k(struct kernel_batch *b, int important)
{
    struct lane_block k;
    vi level[256], l[16];
    float scale[16 * LANES], sum[16 * LANES];
    vf d;
    lane_block_load(&k, b, 256, important);
    vf sigma2 = vf_div(vf_mul(vf_set(2), lane_sum_squares(k.x, 256)), vf_set(256));
    vf plain[16];
    for (int j = 0; j < 16; j++) {
        const float *x = k.x + 16 * j * LANES;
        if (!important) {
            plain[j] = lane_search_descent(16, 4, x, level + 16 * j);
            continue;
        }
        lane_weigh(x, k.q + 16 * j * LANES, sigma2, k.w, 16);
        vf_store(sum + j * LANES, lane_sum(k.w, 16));
        struct lane_symmetric s = lane_search_symmetric(16, 4, x, k.w);
        vf_store(scale + j * LANES, s.scale);
        for (int i = 0; i < 16; i++)
            level[16 * j + i] = lane_symmetric_level(&s, 4, lane_at(x, i));
    }
    if (important) {
        struct lane_symmetric s = lane_search_symmetric(16, 32, scale, sum);
        for (int j = 0; j < 16; j++)
            l[j] = lane_symmetric_level(&s, 32, lane_at(scale, j));
        d = s.scale;
    } else {
        lane_q3_k_plain_scales(plain, l, &d);
    }
    lane_q3_k_put_scales(b, l);
    d = lane_put_half(b, d, 108);
    lane_q3_k_finish(&k, b, level, l, d);
    lane_block_close(&k, b, 256, important);
}

/* ---- Q4_K and Q5_K ---- */

/* Writes the twelve bytes of 6-bit scales and minima at byte 4 and returns in ls/lm what a decoder
 * reads. */
LANES_INLINE void lane_q45_k_put_scales(const struct kernel_batch *b, vi *ls, vi *lm)
{
    vi byte[12], bits = vi_set(0xff);
    for (int j = 0; j < 4; j++) {
        byte[j] = ls[j];
        byte[j + 4] = lm[j];
    }
    for (int j = 4; j < 8; j++) {
        byte[j + 4] = vi_or(vi_and(ls[j], vi_set(15)), vi_sll(vi_and(lm[j], vi_set(15)), 4));
        byte[j - 4] = vi_and(vi_or(byte[j - 4], vi_sll(vi_srl(ls[j], 4), 6)), bits);
        byte[j] = vi_and(vi_or(byte[j], vi_sll(vi_srl(lm[j], 4), 6)), bits);
    }
    for (int j = 0; j < 12; j++)
        lane_put(b, byte[j], 4 + j, 1);
    for (int j = 0; j < 4; j++) {
        ls[j] = vi_and(byte[j], vi_set(63));
        lm[j] = vi_and(byte[j + 4], vi_set(63));
        ls[j + 4] = vi_or(vi_and(byte[j + 8], vi_set(15)), vi_sll(vi_srl(byte[j], 6), 4));
        lm[j + 4] = vi_or(vi_srl(byte[j + 8], 4), vi_sll(vi_srl(byte[j + 4], 6), 4));
    }
}

LANES_INLINE void lane_q45_k_scales(const struct lane_affine *s, const vf *sum, int important,
                                    vi *ls, vi *lm, vf *d, vf *m)
{
    vf scale[8], minimum[8], top = vf_set(0), low = vf_set(0);
    for (int j = 0; j < 8; j++) {
        scale[j] = s[j].scale;
        minimum[j] = s[j].minimum;
        top = vf_max(scale[j], top);
        low = vf_max(minimum[j], low);
    }
    if (important) {
        *d = lane_search_positive(8, 63, scale, sum, ls);
        *m = lane_search_positive(8, 63, minimum, sum, lm);
        return;
    }
    vf inverse = vf_sel(vf_lt(vf_set(0), top), vf_div(vf_set(63), top), vf_set(0));
    vf inverse_low = vf_sel(vf_lt(vf_set(0), low), vf_div(vf_set(63), low), vf_set(0));
    for (int j = 0; j < 8; j++) {
        ls[j] = vi_and(lane_nearest(vf_mul(inverse, scale[j])), vi_set(0xff));
        lm[j] = vi_and(lane_nearest(vf_mul(inverse_low, minimum[j])), vi_set(0xff));
        ls[j] = vi_min(vi_set(63), ls[j]);
        lm[j] = vi_min(vi_set(63), lm[j]);
    }
    *d = vf_div(top, vf_set(63));
    *m = vf_div(low, vf_set(63));
}

/* Nibbles of two neighbouring sub-blocks to 8 words, and their fifth bits into qh. */
LANES_INLINE void lane_q45_k_pack(const vi *level, int32_t *words, vi *high, int pair)
{
    for (int k = 0; k < 8; k++) {
        vi word = vi_set(0), fifth = vi_set(0);
        for (int byte = 3; byte >= 0; byte--) {
            vi a = level[4 * k + byte], c = level[32 + 4 * k + byte];
            vi nibbles = vi_or(vi_and(a, vi_set(15)), vi_sll(vi_and(c, vi_set(15)), 4));
            word = vi_or(vi_sll(word, 8), nibbles);
            vi bits = vi_or(vi_srl(a, 4), vi_sll(vi_srl(c, 4), 1));
            fifth = vi_or(vi_sll(fifth, 8), bits);
        }
        vi_store(words + k * LANES, word);
        for (int shift = 0; shift < pair; shift++)
            fifth = vi_sll(fifth, 2);
        high[k] = vi_or(high[k], fifth);
    }
}

LANES_INLINE void lane_q45_k_finish(struct lane_block *k, struct kernel_batch *b,
                                    const struct lane_affine *s, const vi *ls, const vi *lm, vf d,
                                    vf m, int top)
{
    vi level[64], high[8];
    for (int i = 0; i < 8; i++)
        high[i] = vi_set(0);
    for (int pair = 0; pair < 4; pair++) {
        for (int j = 2 * pair; j < 2 * pair + 2; j++) {
            vf dj = vf_mul(d, vf_of(ls[j])), mj = vf_mul(m, vf_of(lm[j]));
            vm live = vm_not(vf_eq(dj, vf_set(0)));
            for (int i = 0; i < 32; i++) {
                int at = 32 * j + i;
                vi l = lane_affine_final(&s[j], lane_at(k->x, at), dj, mj, live, top);
                level[at - 64 * pair] = l;
                lane_block_decoded(k, at, vf_sub(vf_mul(dj, vf_of(l)), mj));
            }
        }
        lane_q45_k_pack(level, k->words + 8 * pair * LANES, high, pair);
    }
    if (top == 15) {
        lane_put_words(b, k->words, 16, 32);
        return;
    }
    lane_put_words(b, k->words, 48, 32);
    for (int i = 0; i < 8; i++)
        vi_store(k->words + i * LANES, high[i]);
    lane_put_words(b, k->words, 16, 8);
}

LANES_INLINE void encode_q45_k(struct kernel_batch *b, int top, int important)
{
    const struct lane_affine_spec with = {32, top, -0.9f, 0.05f, 36, 0};
    const struct lane_affine_spec without = {
        32, top, top == 15 ? -1.0f : -0.5f, 0.1f, top == 15 ? 20 : 15, 0};
    struct lane_block k;
    struct lane_affine s[8];
    vf sum[8], d, m;
    vi ls[8], lm[8];
    lane_block_load(&k, b, 256, important);
    vf sigma2 = vf_div(vf_mul(vf_set(2), lane_sum_squares(k.x, 256)), vf_set(256));
    for (int j = 0; j < 8; j++) {
        const float *x = k.x + 32 * j * LANES;
        if (important) {
            lane_weigh(x, k.q + 32 * j * LANES, sigma2, k.w, 32);
            sum[j] = lane_sum(k.w, 32);
            s[j] = lane_search_affine(&with, x, k.w);
        } else {
            vf mean = vf_sqrt(vf_div(lane_sum_squares(x, 32), vf_set(32)));
            for (int i = 0; i < 32; i++)
                vf_store(k.w + i * LANES, vf_add(mean, lane_abs(lane_at(x, i))));
            s[j] = lane_search_affine(&without, x, k.w);
        }
    }
    lane_q45_k_scales(s, sum, important, ls, lm, &d, &m);
    if (important && top == 31) {
        for (int j = 0; j < 8; j++) {
            ls[j] = vi_min(vi_set(63), ls[j]);
            lm[j] = vi_min(vi_set(63), lm[j]);
        }
    }
    lane_q45_k_put_scales(b, ls, lm);
    d = lane_put_half(b, d, 0);
    m = lane_put_half(b, m, 2);
    lane_q45_k_finish(&k, b, s, ls, lm, d, m, top);
    lane_block_close(&k, b, 256, important);
}

LANES_INLINE void encode_q4_k(struct kernel_batch *b, int important)
{
    encode_q45_k(b, 15, important);
}
LANES_INLINE void encode_q5_k(struct kernel_batch *b, int important)
{
    encode_q45_k(b, 31, important);
}

/* ---- Q6_K ---- */

LANES_INLINE void lane_q6_k_pack(struct lane_block *k, const struct kernel_batch *b,
                                 const vi *level)
{
    for (int half = 0; half < 2; half++) {
        const vi *l = level + 128 * half;
        int32_t *low = k->words + 16 * half * LANES, *high = k->words + (32 + 8 * half) * LANES;
        for (int word = 0; word < 8; word++) {
            vi a = vi_set(0), c = vi_set(0), h = vi_set(0), nibble = vi_set(15);
            for (int byte = 3; byte >= 0; byte--) {
                const vi *p = l + 4 * word + byte;
                vi first = vi_or(vi_and(p[0], nibble), vi_sll(vi_and(p[64], nibble), 4));
                vi second = vi_or(vi_and(p[32], nibble), vi_sll(vi_and(p[96], nibble), 4));
                vi top = vi_or(vi_srl(p[0], 4), vi_sll(vi_srl(p[32], 4), 2));
                top = vi_or(top, vi_sll(vi_srl(p[64], 4), 4));
                top = vi_or(top, vi_sll(vi_srl(p[96], 4), 6));
                a = vi_or(vi_sll(a, 8), first);
                c = vi_or(vi_sll(c, 8), second);
                h = vi_or(vi_sll(h, 8), top);
            }
            vi_store(low + word * LANES, a);
            vi_store(low + (8 + word) * LANES, c);
            vi_store(high + word * LANES, h);
        }
    }
    lane_put_words(b, k->words, 0, 48);
}

/* Blocks whose scales are all zero are stored as 210 zero bytes. */
LANES_INLINE void lane_q6_k_zero(const struct kernel_batch *b, vm zero)
{
    int32_t flag[LANES];
    vi_store(flag, vi_sel(zero, vi_set(1), vi_set(0)));
    for (int lane = 0; lane < b->count; lane++)
        if (flag[lane])
            memset(b->dst[lane], 0, 210);
}

LANES_INLINE void encode_q6_k(struct kernel_batch *b, int important)
{
    struct lane_block k;
    struct lane_symmetric s[16];
    vi level[256];
    lane_block_load(&k, b, 256, important);
    vf amax = vf_set(0), max = vf_set(0);
    for (int j = 0; j < 16; j++) {
        const float *x = k.x + 16 * j * LANES, *w = k.q + 16 * j * LANES;
        if (!important) {
            for (int i = 0; i < 16; i++)
                vf_store(k.w + i * LANES, vf_mul(lane_at(x, i), lane_at(x, i)));
            w = k.w;
        }
        s[j] = lane_search_symmetric(16, 32, x, w);
        vf a = lane_abs(s[j].scale);
        vm m = vf_lt(amax, a);
        amax = vf_sel(m, a, amax);
        max = vf_sel(m, s[j].scale, max);
    }
    vm zero = vf_lt(amax, vf_set(LANES_EPSILON));
    vf inverse = vf_div(vf_set(-128), vf_sel(zero, vf_set(1), max));
    vf d = vf_sel(zero, vf_set(0), vf_div(vf_set(1), inverse));
    d = lane_put_half(b, d, 208);
    for (int j = 0; j < 16; j++) {
        vi scale = vi_min(vi_set(127), lane_nearest(vf_mul(inverse, s[j].scale)));
        scale = vi_sra(vi_sll(scale, 24), 24);
        lane_put(b, scale, 192 + j, 1);
        vf dj = vf_mul(d, vf_of(scale));
        vm live = vm_not(vf_eq(dj, vf_set(0)));
        for (int i = 16 * j; i < 16 * j + 16; i++) {
            vf x = lane_at(k.x, i);
            vi l = vi_add(lane_clamp(lane_nearest(vf_div(x, dj)), -32, 31), vi_set(32));
            level[i] = vm_all(live) ? l : vi_sel(live, l, lane_symmetric_level(&s[j], 32, x));
            vf decoded = vf_mul(dj, vf_of(vi_sub(level[i], vi_set(32))));
            lane_block_decoded(&k, i, decoded);
        }
    }
    lane_q6_k_pack(&k, b, level);
    lane_q6_k_zero(b, zero);
    lane_block_close(&k, b, 256, important);
}

#endif
