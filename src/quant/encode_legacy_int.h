/* Encoders of the simple types over lanes: of 32 weights with importance, FP4, one and two bits,
 * ternary.
 *
 * Layouts (ggml-common.h 0.5.0), d and m fp16:
 *   Q4_0  d, qs[16]                18     Q4_1  d, m, qs[16]            20
 *   Q5_0  d, qh (u32), qs[16]      22     Q5_1  d, m, qh (u32), qs[16]  24
 *   Q8_0  d, qs[32]                34     MXFP4 e (E8M0), qs[16]        17
 *   NVFP4 scales[4] (UE4M3), qs[32] 36   Q1_0  d, qs[16] of 128         18
 *   Q2_0  d, qs[16] of 64          18
 *   TQ1_0 qs[48], qh[4], d         54     TQ2_0 qs[64], d               66
 * With importance Q4_0…Q5_1 search like the k-quants, weighing by importance·sqrt(mean x² of the
 * row + x²); without it, and Q8_0 always: encode_plain_int.h. The others are scaled by their
 * extremes and rounded; importance counts in the error that is reported only. Where the C of the
 * reference converts a float that does not fit its integer (blocks so small that 1/d is infinite),
 * the result is that of x86-64's conversion: INT32_MIN. */
#ifndef QUANT_ENCODE_LEGACY_INT_H
#define QUANT_ENCODE_LEGACY_INT_H

#include "quant/encode_iq4_int.h"

/* 1/d, or 0 where d is 0. */
LANES_INLINE vf lane_inverse(vf d)
{
    return vf_sel(vf_eq(d, vf_set(0)), vf_set(0), vf_div(vf_set(1), d));
}

/* roundf (halves away from zero) to an integer. */
LANES_INLINE vi lane_round_away(vf a)
{
    vf t = vf_of(vi_trunc(a)), rest = vf_sub(a, t);
    vf up = vf_sel(vf_le(vf_set(0.5f), rest), vf_set(1), vf_set(0));
    vf down = vf_sel(vf_le(rest, vf_set(-0.5f)), vf_set(1), vf_set(0));
    vf r = vf_sub(vf_add(t, up), down);
    return vi_trunc(vf_sel(vf_lt(lane_abs(a), vf_set(8388608.0f)), r, a));
}

/* (int8_t)trunc(a) then at most `top`: how the reference turns a scaled weight into a level. */
LANES_INLINE vi lane_trunc_level(vf a, int top)
{
    vi l = vi_sra(vi_sll(vi_trunc(a), 24), 24);
    return vi_and(vi_min(vi_set(top), l), vi_set(0xff));
}

/* Fifth bits of 32 levels as one word. */
LANES_INLINE vi lane_fifth_bits(const vi *level)
{
    vi word = vi_set(0);
    for (int i = 31; i >= 0; i--)
        word = vi_or(vi_sll(word, 1), vi_and(vi_srl(level[i], 4), vi_set(1)));
    return word;
}

/* Writes levels of a 32-weight block: nibbles at the end, the fifth bits (if any) before them. */
LANES_INLINE void lane_legacy_put(struct lane_block *k, const struct kernel_batch *b, vi *level,
                                  int top, int at)
{
    if (top == 31) {
        lane_put(b, lane_fifth_bits(level), at, 4);
        at += 4;
        for (int i = 0; i < 32; i++)
            level[i] = vi_and(level[i], vi_set(15));
    }
    lane_pack_nibbles(level, k->words);
    lane_put_words(b, k->words, at, 4);
}

/* Q4_0, Q5_0: value = d·(level − half). */
LANES_INLINE void encode_symmetric(struct kernel_batch *b, int top)
{
    struct lane_block k;
    vi level[32];
    const int half = (top + 1) / 2;
    lane_block_load(&k, b, 32, 1);
    lane_weigh(k.x, k.q, vf_load(b->row_mean_square), k.w, 32);
    struct lane_symmetric s = lane_search_symmetric(32, half, k.x, k.w);
    for (int i = 0; i < 32; i++)
        level[i] = lane_symmetric_level(&s, half, lane_at(k.x, i));
    vf stored = lane_put_half(b, s.scale, 0);
    for (int i = 0; i < 32; i++) {
        vf q = vf_of(vi_sub(vi_and(level[i], vi_set(top)), vi_set(half)));
        lane_block_decoded(&k, i, vf_mul(q, stored));
    }
    lane_legacy_put(&k, b, level, top, 2);
    lane_block_close(&k, b, 32, 1);
}

/* Q4_1, Q5_1: value = d·level + m. */
LANES_INLINE void encode_offset(struct kernel_batch *b, int top)
{
    const struct lane_affine_spec spec = {32, top, -0.9f, 0.05f, 36, 0};
    struct lane_block k;
    vi level[32];
    lane_block_load(&k, b, 32, 1);
    lane_weigh(k.x, k.q, vf_load(b->row_mean_square), k.w, 32);
    struct lane_affine s = lane_search_affine(&spec, k.x, k.w);
    for (int i = 0; i < 32; i++) {
        vf a = vf_mul(s.inverse, vf_sub(lane_at(k.x, i), s.base));
        level[i] = lane_clamp(lane_nearest(a), 0, top);
    }
    vf d = lane_put_half(b, s.scale, 0);
    vf m = lane_put_half(b, lane_negate(s.minimum), 2);
    for (int i = 0; i < 32; i++) {
        vf q = vf_of(vi_and(level[i], vi_set(top)));
        lane_block_decoded(&k, i, vf_add(vf_mul(q, d), m));
    }
    lane_legacy_put(&k, b, level, top, 4);
    lane_block_close(&k, b, 32, 1);
}

LANES_INLINE void encode_q4_0(struct kernel_batch *b, int important)
{
    (void)important;
    encode_symmetric(b, 15);
}
LANES_INLINE void encode_q5_0(struct kernel_batch *b, int important)
{
    (void)important;
    encode_symmetric(b, 31);
}
LANES_INLINE void encode_q4_1(struct kernel_batch *b, int important)
{
    (void)important;
    encode_offset(b, 15);
}
LANES_INLINE void encode_q5_1(struct kernel_batch *b, int important)
{
    (void)important;
    encode_offset(b, 31);
}

LANES_INLINE vf lane_abs_max(const float *x, int n)
{
    vf amax = vf_set(0);
    for (int i = 0; i < n; i++)
        amax = vf_max(amax, lane_abs(lane_at(x, i)));
    return amax;
}

/* Twice the E2M1 values, kvalues_mxfp4; the block scale is halved. */
static const float mxfp4_value[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* E8M0 exponent byte: floor(log2(amax)) − 2 + 127 by the float's own exponent, which is exact. The
 * reference computes floorf(log2f(amax)), which libm may round up just below a power of two: there
 * the byte is libm's choice, here the exact one; and below 2^−125 its conversion of a negative
 * number is undefined: here the byte is 0. */
LANES_INLINE vi lane_mxfp4_exponent(vf amax)
{
    vi e = vi_sub(vi_srl(vi_bits(amax), 23), vi_set(2));
    return vi_max(e, vi_set(0));
}

/* Index of the value nearest to x at scale d; the first of equals. */
LANES_INLINE vi lane_fp4_index(vf x, vf d)
{
    vi level = vi_set(0);
    vf best = lane_abs(vf_sub(vf_mul(vf_set(mxfp4_value[0]), d), x));
    for (int j = 1; j < 16; j++) {
        vf error = lane_abs(vf_sub(vf_mul(vf_set(mxfp4_value[j]), d), x));
        vm better = vf_lt(error, best);
        best = vf_sel(better, error, best);
        level = vi_sel(better, vi_set(j), level);
    }
    return level;
}

LANES_INLINE void encode_mxfp4(struct kernel_batch *b, int important)
{
    struct lane_block k;
    vi level[32];
    lane_block_load(&k, b, 32, important);
    vi e = lane_mxfp4_exponent(lane_abs_max(k.x, 32));
    /* 2^(e−128): normal from e = 2 on. */
    vi bits = vi_sll(vi_sub(e, vi_set(1)), 23);
    bits = vi_sel(vi_eq(e, vi_set(1)), vi_set(0x00400000), bits);
    bits = vi_sel(vi_eq(e, vi_set(0)), vi_set(0x00200000), bits);
    vf d = vf_bits(bits);
    for (int i = 0; i < 32; i++) {
        level[i] = lane_fp4_index(lane_at(k.x, i), d);
        lane_block_decoded(&k, i, vf_mul(vf_lookup16(mxfp4_value, level[i]), d));
    }
    lane_put(b, e, 0, 1);
    lane_pack_nibbles(level, k.words);
    lane_put_words(b, k.words, 1, 4);
    lane_block_close(&k, b, 32, important);
}

/* Nearest UE4M3 (four bits of exponent, three of mantissa, largest 0x7e) of a ≥ 0, as the reference
 * rounds: halves up. */
LANES_INLINE vi lane_ue4m3(vf a)
{
    vi bits = vi_bits(a);
    vi v = vi_add(vi_sub(vi_srl(bits, 20), vi_set(120 << 3)), vi_and(vi_srl(bits, 19), vi_set(1)));
    v = vi_sel(vi_lt(vi_set(0x77), v), vi_set(0x7e), v);
    vf steps = vf_add(vf_mul(vf_min(a, vf_set(1)), vf_set(512)), vf_set(0.5f));
    vi small = vi_min(vi_trunc(steps), vi_set(7));
    return vi_sel(vf_lt(a, vf_set(0.015625f)), small, v);
}

/* Half its value: what the doubled E2M1 values are multiplied with. */
LANES_INLINE vf lane_ue4m3_half(vi v)
{
    vf normal = vf_mul(vf_bits(vi_sll(vi_add(v, vi_set(120 << 3)), 20)), vf_set(0.5f));
    vf small = vf_mul(vf_of(v), vf_set(1.0f / 1024));
    return vf_sel(vi_lt(v, vi_set(8)), small, normal);
}

/* NVFP4: four runs of 16 with a scale each. */
LANES_INLINE void encode_nvfp4(struct kernel_batch *b, int important)
{
    struct lane_block k;
    vi level[16];
    lane_block_load(&k, b, 64, important);
    for (int run = 0; run < 4; run++) {
        const float *x = k.x + 16 * run * LANES;
        vi v = lane_ue4m3(vf_div(lane_abs_max(x, 16), vf_set(6)));
        vf d = lane_ue4m3_half(v);
        for (int i = 0; i < 16; i++) {
            level[i] = lane_fp4_index(lane_at(x, i), d);
            lane_block_decoded(&k, 16 * run + i, vf_mul(vf_lookup16(mxfp4_value, level[i]), d));
        }
        for (int word = 0; word < 2; word++) {
            vi w = vi_set(0);
            for (int i = 4 * word + 3; i >= 4 * word; i--)
                w = vi_or(vi_sll(w, 8), vi_or(level[i], vi_sll(level[i + 8], 4)));
            vi_store(k.words + (2 * run + word) * LANES, w);
        }
        lane_put(b, v, run, 1);
    }
    lane_put_words(b, k.words, 4, 8);
    lane_block_close(&k, b, 64, important);
}

/* Q1_0: the mean of |x|, and signs. */
LANES_INLINE void encode_q1_0(struct kernel_batch *b, int important)
{
    struct lane_block k;
    vf sum = vf_set(0);
    lane_block_load(&k, b, 128, important);
    for (int i = 0; i < 128; i++)
        sum = vf_add(sum, lane_abs(lane_at(k.x, i)));
    vf d = lane_put_half(b, vf_div(sum, vf_set(128)), 0);
    for (int word = 0; word < 4; word++) {
        vi w = vi_set(0);
        for (int i = 32 * word + 31; i >= 32 * word; i--) {
            vm up = vf_le(vf_set(0), lane_at(k.x, i));
            w = vi_or(vi_sll(w, 1), vi_sel(up, vi_set(1), vi_set(0)));
            lane_block_decoded(&k, i, vf_sel(up, d, lane_negate(d)));
        }
        vi_store(k.words + word * LANES, w);
    }
    lane_put_words(b, k.words, 2, 4);
    lane_block_close(&k, b, 128, important);
}

/* Q2_0: levels −1 to 2 of the largest |x|. */
LANES_INLINE void encode_q2_0(struct kernel_batch *b, int important)
{
    struct lane_block k;
    lane_block_load(&k, b, 64, important);
    vf amax = lane_abs_max(k.x, 64), inverse = lane_inverse(amax);
    vf d = lane_put_half(b, amax, 0);
    for (int word = 0; word < 4; word++) {
        vi w = vi_set(0);
        for (int i = 16 * word + 15; i >= 16 * word; i--) {
            vi l = vi_add(lane_round_away(vf_mul(lane_at(k.x, i), inverse)), vi_set(1));
            l = lane_clamp(l, 0, 3);
            w = vi_or(vi_sll(w, 2), l);
            lane_block_decoded(&k, i, vf_mul(vf_of(vi_sub(l, vi_set(1))), d));
        }
        vi_store(k.words + word * LANES, w);
    }
    lane_put_words(b, k.words, 2, 4);
    lane_block_close(&k, b, 64, important);
}

/* Ternary levels 0, 1, 2 of the whole block; out-of-range products (1/d infinite) count as the
 * reference's lroundf on x86-64: its low 32 bits, 0, so level 1. */
LANES_INLINE vf lane_ternary_levels(struct lane_block *k, vi *level, vf *inverse)
{
    vf d = lane_abs_max(k->x, 256);
    *inverse = lane_inverse(d);
    for (int i = 0; i < 256; i++) {
        vf a = vf_mul(lane_at(k->x, i), *inverse);
        vi l = vi_add(lane_round_away(a), vi_set(1));
        level[i] = vi_sel(vf_lt(lane_abs(a), vf_set(8388608.0f)), l, vi_set(1));
    }
    return d;
}

LANES_INLINE void lane_ternary_decoded(struct lane_block *k, const vi *level, vf stored)
{
    for (int i = 0; i < 256; i++) {
        vf q = vf_of(vi_sub(level[i], vi_set(1)));
        lane_block_decoded(k, i, vf_mul(q, stored));
    }
}

/* Five trits (stride apart) as one byte: ceil(value·256/243). */
LANES_INLINE vi lane_trits(const vi *level, int stride, int n)
{
    vi q = vi_set(0);
    for (int i = 0; i < 5; i++) {
        q = vi_add(q, vi_sll(q, 1));
        if (i < n)
            q = vi_add(q, level[i * stride]);
    }
    q = vi_add(vi_sll(q, 8), vi_set(242));
    /* q/243: half a unit is 2e-3 from the next quotient, the product is off by less than 4e-5. */
    return vi_trunc(vf_mul(vf_add(vf_of(q), vf_set(0.5f)), vf_set(1.0f / 243)));
}

LANES_INLINE void encode_tq1_0(struct kernel_batch *b, int important)
{
    struct lane_block k;
    vi level[256];
    vf inverse;
    lane_block_load(&k, b, 256, important);
    vf d = lane_ternary_levels(&k, level, &inverse);
    vf stored = lane_put_half(b, d, 52);
    lane_ternary_decoded(&k, level, stored);
    for (int word = 0; word < 13; word++) {
        vi v = vi_set(0);
        for (int byte = 3; byte >= 0; byte--) {
            int at = 4 * word + byte;
            const vi *l = at < 32   ? level + at
                          : at < 48 ? level + 160 + at - 32
                                    : level + 240 + at - 48;
            int stride = at < 32 ? 32 : at < 48 ? 16 : 4;
            v = vi_or(vi_sll(v, 8), lane_trits(l, stride, at < 48 ? 5 : 4));
        }
        vi_store(k.words + word * LANES, v);
    }
    lane_put_words(b, k.words, 0, 12);
    lane_put(b, vi_load(k.words + 12 * LANES), 48, 4);
    lane_block_close(&k, b, 256, important);
}

LANES_INLINE void encode_tq2_0(struct kernel_batch *b, int important)
{
    struct lane_block k;
    vi level[256];
    vf inverse;
    lane_block_load(&k, b, 256, important);
    vf d = lane_ternary_levels(&k, level, &inverse);
    vf stored = lane_put_half(b, d, 64);
    lane_ternary_decoded(&k, level, stored);
    for (int i = 0; i < 256; i++)
        level[i] = vi_and(level[i], vi_set(3));
    for (int half = 0; half < 2; half++)
        lane_pack_2bit(level + 128 * half, k.words + 8 * half * LANES);
    lane_put_words(b, k.words, 0, 16);
    lane_block_close(&k, b, 256, important);
}

#endif
