/* Encoders of IQ4_NL (32 weights) and IQ4_XS (super-blocks of 256) over lanes.
 *
 * Levels index a fixed table of sixteen values; the search tries 15 scales around the one that maps
 * the largest weight to the table's end, keeping the one with the largest (Σwqx)²/Σwq². Layouts
 * (ggml-common.h 0.5.0):
 *   IQ4_NL  d, qs[16]                                                  18
 *   IQ4_XS  d, scales_h (u16), scales_l[4], qs[128]                    136
 * Nibbles: level j low, level j+16 high, inside each run of 32. */
#ifndef QUANT_ENCODE_IQ4_INT_H
#define QUANT_ENCODE_IQ4_INT_H

#include "quant/encode_k_int.h"

/* kvalues_iq4nl; the second row is the table shifted by one, so that one index finds both
 * neighbours. */
static const float iq4_value[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};
static const float iq4_next[16] = {-104, -83, -65, -49, -35, -22, -10, 1,
                                   13,   25,  38,  53,  69,  89,  113, INFINITY};

/* Index of the nearest table value, as the scalar binary search finds it: the last value not above
 * a, or the next one when that is not farther. */
LANES_INLINE vi lane_iq4_index(vf a)
{
    vi m = vi_set(0);
    for (int step = 8; step; step >>= 1) {
        vi up = vi_add(m, vi_set(step));
        m = vi_sel(vf_lt(a, vf_lookup16(iq4_value, up)), m, up);
    }
    vf below = vf_lookup16(iq4_value, m), above = vf_lookup16(iq4_next, m);
    vm low = vf_lt(vf_sub(a, below), vf_sub(above, a));
    low = vm_or(low, vi_eq(m, vi_set(15)));
    return vi_sel(low, m, vi_add(m, vi_set(1)));
}

LANES_INLINE struct lane_sums lane_iq4_sums(const float *x, const float *w, vf inverse)
{
    struct lane_sums s = {vf_set(0), vf_set(0)};
    for (int i = 0; i < 32; i++) {
        vf xi = lane_at(x, i);
        vf q = vf_lookup16(iq4_value, lane_iq4_index(vf_mul(inverse, xi)));
        vf wq = vf_mul(lane_at(w, i), q);
        s.lx = vf_add(s.lx, vf_mul(wq, xi));
        s.l2 = vf_add(s.l2, vf_mul(wq, q));
    }
    return s;
}

/* Scale of one run of 32; 0 for an all-zero run. */
LANES_INLINE vf lane_iq4_search(const float *x, const float *w)
{
    vf amax, max = lane_peak(32, x, &amax);
    vm zero = vf_lt(amax, vf_set(LANES_EPSILON));
    max = vf_sel(zero, vf_set(1), max);
    vf inverse = vf_div(vf_set(1), vf_div(lane_negate(max), vf_set(iq4_value[0])));
    struct lane_sums s = lane_iq4_sums(x, w, inverse);
    vf scale = vf_sel(vf_lt(vf_set(0), s.l2), vf_div(s.lx, s.l2), vf_set(0));
    vf best = vf_mul(scale, s.lx);
    for (int i = -7; i <= 7; i++) {
        s = lane_iq4_sums(x, w, vf_div(vf_set((float)i + iq4_value[0]), max));
        vm better = vf_lt(vf_mul(best, s.l2), vf_mul(s.lx, s.lx));
        better = vm_and(better, vf_lt(vf_set(0), s.l2));
        scale = vf_sel(better, vf_div(s.lx, s.l2), scale);
        best = vf_sel(better, vf_mul(scale, s.lx), best);
    }
    return vf_sel(zero, vf_set(0), scale);
}

/* Search weights of one run: with importance, or x². */
LANES_INLINE void lane_iq4_weigh(struct lane_block *k, int at, vf sigma2, int important)
{
    const float *x = k->x + at * LANES;
    if (important) {
        lane_weigh(x, k->q + at * LANES, sigma2, k->w, 32);
        return;
    }
    for (int i = 0; i < 32; i++)
        vf_store(k->w + i * LANES, vf_mul(lane_at(x, i), lane_at(x, i)));
}

/* 16 bytes from 32 levels. */
LANES_INLINE void lane_pack_nibbles(const vi *level, int32_t *words)
{
    for (int k = 0; k < 4; k++) {
        vi word = vi_set(0);
        for (int byte = 3; byte >= 0; byte--) {
            const vi *l = level + 4 * k + byte;
            word = vi_or(vi_sll(word, 8), vi_or(l[0], vi_sll(l[16], 4)));
        }
        vi_store(words + k * LANES, word);
    }
}

/* Final levels of one run against `scale` (what a decoder multiplies with). */
LANES_INLINE void lane_iq4_finish(struct lane_block *k, int at, vf scale, vf used, int32_t *words)
{
    vi level[32];
    vm none = vf_eq(scale, vf_set(0));
    vf inverse = vf_sel(none, vf_set(0), vf_div(vf_set(1), scale));
    for (int i = 0; i < 32; i++) {
        level[i] = lane_iq4_index(vf_mul(inverse, lane_at(k->x, at + i)));
        vf decoded = vf_mul(used, vf_lookup16(iq4_value, level[i]));
        lane_block_decoded(k, at + i, decoded);
    }
    lane_pack_nibbles(level, words);
}

LANES_INLINE void encode_iq4_nl(struct kernel_batch *b, int important)
{
    struct lane_block k;
    lane_block_load(&k, b, 32, important);
    vf sigma2 = vf_mul(lane_sum_squares(k.x, 32), vf_set(2.0f / 32));
    lane_iq4_weigh(&k, 0, sigma2, important);
    vf scale = lane_iq4_search(k.x, k.w);
    vf stored = lane_put_half(b, scale, 0);
    lane_iq4_finish(&k, 0, scale, stored, k.words);
    lane_put_words(b, k.words, 2, 4);
    lane_block_close(&k, b, 32, important);
}

LANES_INLINE void encode_iq4_xs(struct kernel_batch *b, int important)
{
    struct lane_block k;
    vf scale[8], amax = vf_set(0), max = vf_set(0);
    lane_block_load(&k, b, 256, important);
    vf sigma2 = vf_mul(lane_sum_squares(k.x, 256), vf_set(2.0f / 256));
    for (int j = 0; j < 8; j++) {
        lane_iq4_weigh(&k, 32 * j, sigma2, important);
        scale[j] = lane_iq4_search(k.x + 32 * j * LANES, k.w);
        vf a = lane_abs(scale[j]);
        vm m = vf_lt(amax, a);
        amax = vf_sel(m, a, amax);
        max = vf_sel(m, scale[j], max);
    }
    vf d = vf_div(lane_negate(max), vf_set(32));
    vf stored = lane_put_half(b, d, 0);
    vm none = vf_eq(d, vf_set(0));
    vf inverse = vf_sel(none, vf_set(0), vf_div(vf_set(1), d));
    vi low = vi_set(0), high = vi_set(0);
    for (int j = 7; j >= 0; j--) {
        vi l = lane_clamp(lane_nearest(vf_mul(inverse, scale[j])), -32, 31);
        vf used = vf_mul(stored, vf_of(l));
        lane_iq4_finish(&k, 32 * j, vf_mul(d, vf_of(l)), used, k.words + 4 * j * LANES);
        l = vi_add(l, vi_set(32));
        low = vi_or(vi_sll(low, 4), vi_and(l, vi_set(15)));
        high = vi_or(vi_sll(high, 2), vi_srl(l, 4));
    }
    lane_put(b, high, 2, 2);
    lane_put(b, low, 4, 4);
    lane_put_words(b, k.words, 8, 32);
    lane_block_close(&k, b, 256, important);
}

#endif
