/* Encoders of IQ1_S and IQ1_M over lanes: one super-block of 256 weights per lane.
 *
 * A weight is scale·(−1, 0 or 1, plus or minus an eighth). For a sub-block (32 weights, or 16 whose
 * halves choose the sign of the eighth by themselves) the best split of the sorted weights into
 * three groups is found by trying all; points of eight levels outside the codebook are then
 * replaced by the best of their lists. Equal weights sort by their position. The reference leaves
 * that to the C library's qsort: glibc up to 2.36 merges, which keeps the order, so the bytes are
 * those of the pinned build on such a system. A list on which every error is infinite makes the
 * reference read beyond its arrays; here the block counts as not finite and is refused.
 *
 * Algorithm: ggml-quants.c of ggml 0.5.0. Layouts (ggml-common.h):
 *   IQ1_S  d, qs[32], qh[8] (u16: 4 × 3 high bits, 3 bits of scale, sign of the eighth)       50
 *   IQ1_M  qs[32], qh[16] (2 × 3 high bits and a sign), scales[4] (u16: 4 × 3 bits of scale and a
 *   nibble of d)  56 */
#ifndef QUANT_ENCODE_ONE_INT_H
#define QUANT_ENCODE_ONE_INT_H

#include "quant/encode_codebook_int.h"

struct lane_one {
    struct lane_block k;
    vf value[32], weight[32]; /* of the sub-block, sorted */
    vi from[32];              /* their places before */
    vi code[32];              /* chosen point of every eight weights */
    vf scale[16];
    vi choice[16]; /* bit 1: the first half has the negative eighth, bit 0: the second */
    int bad;
};

struct lane_one_best {
    vf scale, score;
    vi split; /* first bound | second bound << 8 | choice << 16, or −1 */
};

/* Orders two places by (value, place before). */
LANES_INLINE void lane_one_order(struct lane_one *s, int a, int b)
{
    vf va = s->value[a], vb = s->value[b], wa = s->weight[a], wb = s->weight[b];
    vi ia = s->from[a], ib = s->from[b];
    vm swap = vm_or(vf_lt(vb, va), vm_and(vf_eq(va, vb), vi_lt(ib, ia)));
    s->value[a] = vf_sel(swap, vb, va);
    s->value[b] = vf_sel(swap, va, vb);
    s->weight[a] = vf_sel(swap, wb, wa);
    s->weight[b] = vf_sel(swap, wa, wb);
    s->from[a] = vi_sel(swap, ib, ia);
    s->from[b] = vi_sel(swap, ia, ib);
}

/* Batcher's merge exchange: a fixed sequence of exchanges, so all lanes sort together. */
LANES_INLINE void lane_one_sort(struct lane_one *s, const float *x, const float *w, int n)
{
    for (int i = 0; i < n; i++) {
        s->value[i] = lane_at(x, i);
        s->weight[i] = lane_at(w, i);
        s->from[i] = vi_set(i);
    }
    for (int p = 1; p < n; p *= 2)
        for (int k = p; k >= 1; k /= 2)
            for (int j = k % p; j + k < n; j += 2 * k)
                for (int i = j; i < j + k && i + k < n; i++)
                    if (i / (2 * p) == (i + k) / (2 * p))
                        lane_one_order(s, i, i + k);
}

LANES_INLINE void lane_one_try(vf qx, vf q2, int split, struct lane_one_best *b)
{
    vm better = vm_and(vf_lt(vf_set(0), q2), vf_lt(vf_mul(b->score, q2), vf_mul(qx, qx)));
    if (!vm_any(better))
        return;
    b->scale = vf_sel(better, vf_div(qx, q2), b->scale);
    b->score = vf_sel(better, vf_mul(b->scale, qx), b->score);
    b->split = vi_sel(better, vi_set(split), b->split);
}

LANES_INLINE vf lane_square_with(vf w, float q)
{
    return vf_mul(vf_mul(w, vf_set(q)), vf_set(q));
}

/* IQ1_S: both signs of the eighth for all 561 splits of 32 sorted weights. Terms of one bound are
 * made once. */
LANES_INLINE void lane_one_search(struct lane_one *s, struct lane_one_best *b)
{
    vf x[33], w[33], last[2][33], last2[2][33];
    x[0] = w[0] = vf_set(0);
    for (int i = 0; i < 32; i++) {
        x[i + 1] = vf_add(x[i], vf_mul(s->weight[i], s->value[i]));
        w[i + 1] = vf_add(w[i], s->weight[i]);
    }
    for (int i = 0; i <= 32; i++) {
        vf rest = vf_sub(x[32], x[i]), rest2 = vf_sub(w[32], w[i]);
        last[0][i] = vf_mul(rest, vf_set(1.125f));
        last[1][i] = vf_mul(rest, vf_set(0.875f));
        last2[0][i] = lane_square_with(rest2, 1.125f);
        last2[1][i] = lane_square_with(rest2, 0.875f);
    }
    for (int i = 0; i <= 32; i++) {
        vf first = vf_mul(x[i], vf_set(-0.875f)), other = vf_mul(x[i], vf_set(-1.125f));
        vf first2 = lane_square_with(w[i], -0.875f), other2 = lane_square_with(w[i], -1.125f);
        for (int j = i; j <= 32; j++) {
            vf t = vf_mul(vf_sub(x[j], x[i]), vf_set(0.125f));
            vf t2 = lane_square_with(vf_sub(w[j], w[i]), 0.125f);
            lane_one_try(vf_add(vf_add(first, t), last[0][j]),
                         vf_add(vf_add(first2, t2), last2[0][j]), i | j << 8, b);
            lane_one_try(vf_add(vf_sub(other, t), last[1][j]),
                         vf_add(vf_add(other2, t2), last2[1][j]), i | j << 8 | 3 << 16, b);
        }
    }
}

/* Sums over the sorted weights of one half of an IQ1_M sub-block, and the terms of both signs. */
struct lane_one_half {
    vf x[17];
    vf all[2];       /* Σwx times the largest value */
    vf first[2][17]; /* Σw·q² up to the first bound, with the whole of the rest */
    vf next[2][17];
};

LANES_INLINE void lane_one_half(const struct lane_one *s, int half, struct lane_one_half *h)
{
    static const float top[2] = {1.125f, 0.875f};
    static const float one[2] = {0.75f, 1.25f}, two[2] = {-1.25f, -0.75f};
    vf w[17];
    h->x[0] = w[0] = vf_set(0);
    for (int i = 0; i < 16; i++) {
        vm mine = half ? vi_lt(vi_set(7), s->from[i]) : vi_lt(s->from[i], vi_set(8));
        vf x = vf_add(h->x[i], vf_mul(s->weight[i], s->value[i]));
        h->x[i + 1] = vf_sel(mine, x, h->x[i]);
        w[i + 1] = vf_sel(mine, vf_add(w[i], s->weight[i]), w[i]);
    }
    for (int c = 0; c < 2; c++) {
        vf whole = lane_square_with(w[16], top[c]);
        h->all[c] = vf_mul(h->x[16], vf_set(top[c]));
        for (int i = 0; i <= 16; i++) {
            h->first[c][i] = vf_add(whole, vf_mul(w[i], vf_set(one[c])));
            h->next[c][i] = vf_mul(w[i], vf_set(two[c]));
        }
    }
}

/* IQ1_M: the four pairs of signs for all 153 splits of 16 sorted weights. */
LANES_INLINE void lane_one_search_halves(struct lane_one *s, struct lane_one_best *b)
{
    struct lane_one_half h[2];
    lane_one_half(s, 0, &h[0]);
    lane_one_half(s, 1, &h[1]);
    for (int i = 0; i <= 16; i++) {
        for (int j = i; j <= 16; j++) {
            vf qx[2][2], q2[2][2];
            LANES_UNROLL
            for (int k = 0; k < 2; k++) {
                vf below = vf_add(h[k].x[i], h[k].x[j]);
                LANES_UNROLL
                for (int c = 0; c < 2; c++) {
                    qx[k][c] = vf_sub(h[k].all[c], below);
                    q2[k][c] = vf_add(h[k].first[c][i], h[k].next[c][j]);
                }
            }
            LANES_UNROLL
            for (int c = 0; c < 4; c++)
                lane_one_try(vf_add(qx[0][c / 2], qx[1][c % 2]), vf_add(q2[0][c / 2], q2[1][c % 2]),
                             i | j << 8 | c << 16, b);
        }
    }
}

/* Value and former place of the sorted weight at `place`, which may be one past the last. */
LANES_INLINE vf lane_one_bound(const struct lane_one *s, int n, vi place, vi *from)
{
    vf value = vf_set(INFINITY);
    *from = vi_set(n);
    for (int i = 0; i < n; i++) {
        vm here = vi_eq(place, vi_set(i));
        value = vf_sel(here, s->value[i], value);
        *from = vi_sel(here, s->from[i], *from);
    }
    return value;
}

/* Packs the levels that a split gives into the points of sub-block j; a negative scale turns them
 * around. */
LANES_INLINE void lane_one_points(struct lane_one *s, int sub, int j, vi split, vm turned)
{
    vi from[2];
    vf bound[2];
    bound[0] = lane_one_bound(s, sub, vi_and(split, vi_set(255)), &from[0]);
    bound[1] = lane_one_bound(s, sub, vi_and(vi_srl(split, 8), vi_set(255)), &from[1]);
    for (int g = 0; g < sub / 8; g++) {
        vi code = vi_set(0);
        for (int i = 8 * g + 7; i >= 8 * g; i--) {
            vf x = lane_at(s->k.x, sub * j + i);
            vi level = vi_set(0);
            for (int k = 0; k < 2; k++) {
                vm tie = vm_and(vf_eq(x, bound[k]), vi_lt(vi_set(i), from[k]));
                vm below = vm_or(vf_lt(x, bound[k]), tie);
                level = vi_add(level, vi_sel(below, vi_set(1), vi_set(0)));
            }
            level = vi_sel(turned, level, vi_sub(vi_set(2), level));
            code = vi_or(vi_sll(code, 2), level);
        }
        s->code[sub / 8 * j + g] = code;
    }
}

/* What is added to half an odd number 2·level + 1: −1.5 and the eighth of group g of n. */
LANES_INLINE vf lane_one_offset(vi choice, int g, int n)
{
    vi negative = vi_and(choice, vi_set(2 * g < n ? 2 : 1));
    return vf_sel(vi_eq(negative, vi_set(0)), vf_set(-1.375f), vf_set(-1.625f));
}
LANES_INLINE vf lane_one_value(vi code, vf offset)
{
    return vf_add(vf_mul(vf_odd(code, 3), vf_set(0.5f)), offset);
}

/* The best entry of every lane's list for the eight weights at `at`. */
LANES_INLINE vi lane_one_nearest(const struct codebook *book, struct lane_one *s, int at, vf scale,
                                 vf offset, vi place, vm off)
{
    vi word[CODEBOOK_GROUP], count = vi_set(0);
    struct lane_nearest n = {vf_set(3.402823466e+38f), vi_set(-1)};
    int most = CODEBOOK_GROUP - 1;
    for (int first = 0; first <= most; first += CODEBOOK_GROUP) {
        vm inside = vi_lt(vi_set(first - 1), count);
        lanes_words8(book->lists, vi_sel(inside, vi_add(place, vi_set(first)), place), word);
        if (first == 0) {
            count = word[0];
            most = vi_most(count);
        }
        for (int k = first == 0; k < CODEBOOK_GROUP; k++) {
            vi rest = word[k];
            vf sum = vf_set(0);
            for (int i = 0; i < 8; i++) {
                vf d = vf_sub(vf_mul(scale, lane_one_value(rest, offset)), lane_at(s->k.x, at + i));
                sum = vf_add(sum, vf_mul(vf_mul(lane_at(s->k.w, at + i), d), d));
                rest = vi_srl(rest, 2);
            }
            vm better = vm_and(vf_lt(sum, n.least), vi_lt(vi_set(first + k - 1), count));
            n.least = vf_sel(better, sum, n.least);
            n.code = vi_sel(better, word[k], n.code);
        }
    }
    vm lost = vm_and(off, vi_eq(n.code, vi_set(-1)));
    if (vm_any(lost))
        s->bad = 1;
    return vi_sel(vi_eq(n.code, vi_set(-1)), vi_set(book->grid[0]), n.code);
}

/* Σwqx and Σwq² of one group; `times` is what its levels are multiplied with first. */
LANES_INLINE void lane_one_add(const struct lane_one *s, int at, vi code, vf offset, vf times,
                               struct lane_sums *sum)
{
    for (int i = 0; i < 8; i++) {
        vf q = vf_mul(lane_one_value(code, offset), times);
        vf wq = vf_mul(lane_at(s->k.w, at + i), q);
        sum->lx = vf_add(sum->lx, vf_mul(wq, lane_at(s->k.x, at + i)));
        sum->l2 = vf_add(sum->l2, vf_mul(wq, q));
        code = vi_srl(code, 2);
    }
}

/* Moves the points of sub-block j into the codebook; returns the scale, made anew where a point
 * moved. */
LANES_INLINE vf lane_one_settle(const struct codebook *book, struct lane_one *s, int sub, int j,
                                vi choice, vf scale, vm used)
{
    vm moved = vf_lt(vf_set(0), vf_set(0));
    for (int g = 0; g < sub / 8; g++) {
        vi *code = &s->code[sub / 8 * j + g], index = vi_gather(book->index, *code);
        vm off = vm_and(used, vi_lt(index, vi_set(0)));
        if (!vm_any(off))
            continue;
        moved = vm_or(moved, off);
        vi place = vi_sel(off, vi_sub(vi_set(-1), index), vi_set(0));
        vf offset = lane_one_offset(choice, g, sub / 8);
        vi best = lane_one_nearest(book, s, sub * j + 8 * g, scale, offset, place, off);
        *code = vi_sel(off, best, *code);
    }
    if (!vm_any(moved))
        return scale;
    struct lane_sums sum = {vf_set(0), vf_set(0)};
    for (int g = 0; g < sub / 8; g++)
        lane_one_add(s, sub * j + 8 * g, s->code[sub / 8 * j + g],
                     lane_one_offset(choice, g, sub / 8), vf_set(1), &sum);
    vm fresh = vm_and(moved, vm_and(vf_lt(vf_set(0), sum.lx), vf_lt(vf_set(0), sum.l2)));
    return vf_sel(fresh, vf_div(sum.lx, sum.l2), scale);
}

/* Search of sub-block j. Without a weight to encode it gets scale 0 and the first entry. */
LANES_INLINE void lane_one_sub(const struct codebook *book, struct lane_one *s, int sub, int j,
                               float least)
{
    const float *x = s->k.x + sub * j * LANES;
    vf max = lane_abs(lane_at(x, 0));
    for (int i = 1; i < sub; i++)
        max = vf_max(max, lane_abs(lane_at(x, i)));
    struct lane_one_best b = {max, vf_set(-3.402823466e+38f), vi_set(-1)};
    lane_one_sort(s, x, s->k.w + sub * j * LANES, sub);
    if (sub == 32)
        lane_one_search(s, &b);
    else
        lane_one_search_halves(s, &b);
    vm used = vm_not(vm_or(vf_lt(max, vf_set(least)), vi_eq(b.split, vi_set(-1))));
    vm turned = vf_lt(b.scale, vf_set(0));
    lane_one_points(s, sub, j, b.split, turned);
    vi choice = vi_and(vi_srl(b.split, 16), vi_set(3));
    choice = vi_sel(turned, vi_xor(choice, vi_set(3)), choice);
    vf scale = vf_sel(turned, lane_negate(b.scale), b.scale);
    scale = lane_one_settle(book, s, sub, j, choice, scale, used);
    s->scale[j] = vf_sel(used, scale, vf_set(0));
    s->choice[j] = vi_sel(used, choice, vi_set(0));
    for (int g = sub / 8 * j; g < sub / 8 * (j + 1); g++)
        s->code[g] = vi_sel(used, s->code[g], vi_set(book->grid[0]));
}

/* All sub-blocks; returns the largest scale and what its fifteenth divides into (0: nothing to
 * encode). */
LANES_INLINE vf lane_one_scales(struct lane_one *s, const struct codebook *book,
                                struct kernel_batch *b, int sub, float least, int important)
{
    lane_block_load(&s->k, b, 256, important);
    s->bad = 0;
    vf top = vf_set(0);
    vf sigma2 = vf_div(vf_mul(vf_set(2), lane_sum_squares(s->k.x, 256)), vf_set(256));
    if (important) {
        lane_weigh(s->k.x, s->k.q, sigma2, s->k.w, 256);
    } else {
        for (int i = 0; i < 256; i++)
            vf_store(s->k.w + i * LANES, vf_mul(lane_at(s->k.x, i), lane_at(s->k.x, i)));
    }
    for (int j = 0; j < 256 / sub; j++) {
        lane_one_sub(book, s, sub, j, least);
        top = vf_max(top, s->scale[j]);
    }
    if (s->bad)
        b->infinite = true;
    return top;
}

LANES_INLINE vi lane_one_level(vf inverse, vf scale, vm none)
{
    vf a = vf_mul(vf_set(0.5f), vf_sub(vf_mul(inverse, scale), vf_set(1)));
    return vi_sel(none, vi_set(0), lane_clamp(lane_nearest(a), 0, 7));
}

/* What a decoder makes of sub-block j, with block scale d. */
LANES_INLINE void lane_one_decoded(struct lane_one *s, int sub, int j, vf d, vi l)
{
    vf scale = vf_mul(d, vf_of(vi_add(vi_add(l, l), vi_set(1))));
    for (int g = 0; g < sub / 8; g++) {
        vi code = s->code[sub / 8 * j + g];
        vf offset = lane_one_offset(s->choice[j], g, sub / 8);
        for (int i = 0; i < 8; i++) {
            lane_block_decoded(&s->k, sub * j + 8 * g + i,
                               vf_mul(scale, lane_one_value(code, offset)));
            code = vi_srl(code, 2);
        }
    }
}

LANES_INLINE void encode_iq1_s(struct kernel_batch *b, int important)
{
    const struct codebook *book = codebook_get(DT_IQ1_S);
    struct lane_one s;
    vi low[8];
    vf top = lane_one_scales(&s, book, b, 32, 1e-12f, important);
    vm none = vf_eq(top, vf_set(0));
    vf d = vf_div(top, vf_set(15)), inverse = vf_div(vf_set(1), d);
    vf stored = lane_put_half(b, vf_sel(none, vf_set(0), vf_mul(d, vf_set(1.125f))), 0);
    for (int j = 0; j < 8; j++) {
        vi high = vi_set(0), l = lane_one_level(inverse, s.scale[j], none);
        low[j] = vi_set(0);
        for (int g = 3; g >= 0; g--) {
            vi position = vi_gather(book->index, s.code[4 * j + g]);
            low[j] = vi_or(vi_sll(low[j], 8), vi_and(position, vi_set(255)));
            high = vi_or(vi_sll(high, 3), vi_srl(position, 8));
        }
        lane_one_decoded(&s, 32, j, stored, l);
        vi sign = vi_sel(none, vi_set(0), vi_and(s.choice[j], vi_set(1)));
        high = vi_or(high, vi_or(vi_sll(l, 12), vi_sll(sign, 15)));
        lane_put(b, high, 34 + 2 * j, 2);
        vi_store(s.k.words + j * LANES, low[j]);
    }
    lane_put_words(b, s.k.words, 2, 8);
    lane_block_close(&s.k, b, 256, important);
}

/* The block scale of IQ1_M: least squares over the whole block at the levels of the sub-block
 * scales. */
LANES_INLINE vf lane_one_block_scale(const struct lane_one *s, const vi *l, vf d)
{
    struct lane_sums sum = {vf_set(0), vf_set(0)};
    for (int g = 0; g < 32; g++) {
        vf times = vf_of(vi_add(vi_add(l[g / 2], l[g / 2]), vi_set(1)));
        vf offset = lane_one_offset(s->choice[g / 2], g % 2, 2);
        lane_one_add(s, 8 * g, s->code[g], offset, times, &sum);
    }
    return vf_sel(vf_lt(vf_set(0), sum.l2), vf_div(sum.lx, sum.l2), d);
}

/* fp16 bits of the block scale; returns its value. */
LANES_INLINE vf lane_one_half_bits(struct kernel_batch *b, vf d, vi *bits)
{
    uint16_t half[LANES];
    int32_t wide[LANES];
    vf stored = lanes_half(d, half);
    for (int lane = 0; lane < LANES; lane++)
        wide[lane] = half[lane];
    *bits = vi_load(wide);
    if (!vm_all(vf_lt(lane_abs(stored), vf_set(INFINITY))))
        b->infinite = true;
    return stored;
}

LANES_INLINE void encode_iq1_m(struct kernel_batch *b, int important)
{
    const struct codebook *book = codebook_get(DT_IQ1_M);
    struct lane_one s;
    vi l[16], bits;
    vf top = lane_one_scales(&s, book, b, 16, 1e-7f, important);
    vm none = vf_eq(top, vf_set(0));
    vf d = vf_div(top, vf_set(15)), inverse = vf_div(vf_set(1), d);
    for (int j = 0; j < 16; j++)
        l[j] = lane_one_level(inverse, s.scale[j], none);
    d = vf_mul(lane_one_block_scale(&s, l, d), vf_set(1.1125f));
    vf stored = lane_one_half_bits(b, vf_sel(none, vf_set(0), d), &bits);
    for (int j = 0; j < 16; j++) {
        vi first = vi_gather(book->index, s.code[2 * j]);
        vi second = vi_gather(book->index, s.code[2 * j + 1]);
        vi low = vi_or(vi_and(first, vi_set(255)), vi_sll(vi_and(second, vi_set(255)), 8));
        vi high = vi_or(vi_srl(first, 8), vi_sll(vi_srl(second, 8), 4));
        lane_one_decoded(&s, 16, j, stored, l[j]);
        vi sign = vi_or(vi_sll(vi_srl(s.choice[j], 1), 3), vi_sll(s.choice[j], 7));
        sign = vi_sel(none, vi_set(0), vi_and(sign, vi_set(0x88)));
        lane_put(b, low, 2 * j, 2);
        lane_put(b, vi_or(high, sign), 32 + j, 1);
    }
    for (int j = 0; j < 4; j++) {
        vi word = vi_set(0);
        for (int k = 3; k >= 0; k--)
            word = vi_or(vi_sll(word, 3), l[4 * j + k]);
        word = vi_or(word, vi_sll(vi_and(bits, vi_set(15)), 12));
        bits = vi_srl(bits, 4);
        lane_put(b, word, 48 + 2 * j, 2);
    }
    lane_block_close(&s.k, b, 256, important);
}

#endif
