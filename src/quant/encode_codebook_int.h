/* Encoders of IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S over lanes: one super-block of 256 weights
 * per lane.
 *
 * A sub-block's magnitudes are rounded to lattice points under 13 to 31 trial scales; points that
 * are not in the codebook are replaced by the best of their list (codebook_int.h) by weighted
 * error, the scale that explains most is kept, and its points are chosen again at that scale. Signs
 * are stored as bits; the XXS and XS types store seven of eight and make the eighth their parity by
 * flipping the least important weight. The search per point is the costly part: its error is a sum
 * over dimensions of a term that depends on one level only, so a table of all terms is made in the
 * lanes, turned to one table per lane, and summed over 8 or 16 codes at a time.
 *
 * Layouts (ggml-common.h 0.5.0), d fp16 first:
 *   IQ2_XXS  8 × (4 positions, u32 of 4×7 signs and 4 bits of scale)           66
 *   IQ2_XS   32 × u16 (position, 7 signs), scales[8]                           74
 *   IQ2_S    qs[32], signs[32], qh[8], scales[8]                               82
 *   IQ3_XXS  qs[64], 8 × u32 of 4×7 signs and 4 bits of scale                  98
 *   IQ3_S    qs[64], qh[8], signs[32], scales[4]                               110 */
#ifndef QUANT_ENCODE_CODEBOOK_INT_H
#define QUANT_ENCODE_CODEBOOK_INT_H

#include "quant/codebook_int.h"
#include "quant/encode_legacy_int.h"

struct lane_book_spec {
    enum dtype type;
    int bits, dims, sub; /* codebook shape; weights per sub-block */
    int top, peak; /* largest level; 2·top + 1, or its odd value that the largest weight maps to */
    int reach;     /* tries on each side */
    float step, zero, fudge, sigma;
    int parity;   /* seven signs stored, the eighth is their parity */
    int redo_all; /* choose every point again at the final scale, not only those off the codebook */
    int start;    /* first scale from the positive search (IQ2_XXS) */
    int brief;    /* lists are short: search them side by side, one per lane */
    const float *magnitude; /* decoded value of a level */
    float unit, half;       /* decoded scale of a sub-block: d·(half + l)·unit */
};

/* Sixteen entries, because a look-up loads that many. */
static const float iq2_magnitude[16] = {8, 25, 43};
static const float iq3_xxs_magnitude[16] = {4, 12, 20, 28, 36, 44, 52, 62};
static const float iq3_s_magnitude[16] = {1, 3, 5, 7, 9, 11, 13, 15};

struct lane_book {
    struct lane_block k;
    float value[32 * LANES];   /* magnitudes of the sub-block, parity applied */
    float root[32 * LANES];    /* sqrt of its weights */
    float product[32 * LANES]; /* weights times magnitudes */
    vf peak;                   /* largest of |value| */
    vi code[64];               /* chosen point of every group of the block */
    vi sign[32];               /* sign bits of every eight weights */
    vf scale[16];
    vm zero[16]; /* sub-blocks without a weight to encode */
    int bad;     /* a point had no entry with a finite error */
};

/* Signs and magnitudes of eight weights. */
LANES_INLINE vi lane_book_signs(const float *x, const float *w, int parity, float *value)
{
    vi bits = vi_set(0), flips = vi_set(0), least_bit = vi_set(1);
    vf least = vf_set(0);
    for (int i = 0; i < 8; i++) {
        vf xi = lane_at(x, i);
        vm negative = vf_lt(xi, vf_set(0));
        vf_store(value + i * LANES, vf_sel(negative, lane_negate(xi), xi));
        bits = vi_or(bits, vi_sel(negative, vi_set(1 << i), vi_set(0)));
        flips = vi_xor(flips, vi_sel(negative, vi_set(1), vi_set(0)));
        vf a = vf_mul(vf_mul(lane_at(w, i), xi), xi);
        vm smaller = i == 0 ? vf_eq(a, a) : vf_lt(a, least);
        least = i == 0 ? a : vf_sel(smaller, a, least);
        if (i > 0)
            least_bit = vi_sel(smaller, vi_set(1 << i), least_bit);
    }
    if (!parity)
        return bits;
    vi flip = vi_sel(vi_eq(flips, vi_set(1)), least_bit, vi_set(0));
    for (int i = 0; i < 8; i++) {
        vm mine = vi_eq(flip, vi_set(1 << i));
        vf v = lane_at(value, i);
        vf_store(value + i * LANES, vf_sel(mine, lane_negate(v), v));
    }
    return vi_and(vi_xor(bits, flip), vi_set(127));
}

/* Packed levels of one group at inverse scale `inverse`: clamp(nearest((inverse·x − 1)/2)). When
 * the products are known to be in the exact range (`exact`), a rounding constant of twice the size
 * halves and rounds in one addition, and its bits are taken off the whole code at the end. */
LANES_INLINE vi lane_book_point(const struct lane_book_spec *p, const float *value, vf inverse,
                                int exact)
{
    vi code = vi_set(0);
    if (exact) {
        uint32_t excess = 0;
        LANES_UNROLL
        for (int i = p->dims - 1; i >= 0; i--) {
            vf a = vf_sub(vf_mul(inverse, lane_at(value, i)), vf_set(1));
            a = vf_max(vf_set(0), vf_min(vf_set((float)(2 * p->top)), a));
            vi l = vi_bits(vf_add(a, vf_set(2 * LANES_ROUND)));
            code = vi_add(vi_sll(code, p->bits), l);
            excess = (excess << p->bits) + 0x4bc00000u;
        }
        return vi_sub(code, vi_set((int32_t)excess));
    }
    for (int i = p->dims - 1; i >= 0; i--) {
        vf a = vf_mul(vf_set(0.5f), vf_sub(vf_mul(inverse, lane_at(value, i)), vf_set(1)));
        vi l = lane_clamp(lane_nearest(a), 0, p->top);
        code = vi_or(vi_sll(code, p->bits), l);
    }
    return code;
}

struct lane_nearest {
    vf least;
    vi code; /* −1: nothing found yet */
};

/* One entry per lane against the best so far, in the lanes of `inside`; ties keep the earlier
 * one. */
LANES_INLINE void lane_book_try(const struct lane_book_spec *p, const struct lane_book *s, int at,
                                vf scale, vi code, vm inside, int all, struct lane_nearest *n)
{
    vi rest = code;
    vf sum = vf_set(0);
    LANES_UNROLL
    for (int i = 0; i < p->dims; i++) {
        vf d = vf_mul(scale, vf_odd(rest, (1 << p->bits) - 1));
        d = vf_sub(d, lane_at(s->value, at + i));
        vf term = vf_mul(vf_mul(lane_at(s->root, at + i), d), d);
        sum = i == 0 ? term : vf_add(sum, term);
        rest = vi_srl(rest, p->bits);
    }
    vm better = vf_lt(sum, n->least);
    if (!all)
        better = vm_and(better, inside);
    n->least = vf_sel(better, sum, n->least);
    n->code = vi_sel(better, code, n->code);
}

/* Replaces points that are not entries (index < 0) by the best of their lists, one list per lane.
 * Nearly always the first group of some lane is full, so it is gone through without asking; lists
 * that end inside it are padded. */
LANES_INLINE vi lane_book_best_brief(const struct lane_book_spec *p, const struct codebook *book,
                                     struct lane_book *s, int at, vf scale, vi code, vi index)
{
    vi word[CODEBOOK_GROUP];
    struct lane_nearest n = {vf_set(3.402823466e+38f), vi_set(-1)};
    vm off = vi_lt(index, vi_set(0));
    vi place = vi_sel(off, vi_sub(vi_set(-1), index), vi_set(0));
    lanes_words8(book->lists, place, word);
    vi count = word[0];
    LANES_UNROLL
    for (int k = 1; k < CODEBOOK_GROUP; k++)
        lane_book_try(p, s, at, scale, word[k], off, 1, &n);
    const int most = vi_most(count);
    for (int first = CODEBOOK_GROUP; first <= most; first += CODEBOOK_GROUP) {
        vm inside = vi_lt(vi_set(first - 1), count);
        lanes_words8(book->lists, vi_sel(inside, vi_add(place, vi_set(first)), place), word);
        for (int half = 0; half < CODEBOOK_GROUP && first + half <= most; half += 4) {
            LANES_UNROLL
            for (int k = 0; k < 4; k++)
                lane_book_try(p, s, at, scale, word[half + k], inside, 0, &n);
        }
    }
    vm lost = vm_and(off, vi_eq(n.code, vi_set(-1)));
    if (vm_any(lost)) {
        s->bad = 1;
        n.code = vi_sel(lost, vi_set(book->grid[0]), n.code);
    }
    return vi_sel(off, n.code, code);
}

/* The same for long lists: lane after lane, many entries of its list at a time. */
LANES_INLINE vi lane_book_best(const struct lane_book_spec *p, const struct codebook *book,
                               struct lane_book *s, int at, vf scale, vi code, vi index)
{
    float rows[32 * LANES], terms[32 * LANES];
    int32_t codes[LANES], offset[LANES];
    const int levels = 1 << p->bits;
    for (int i = 0; i < p->dims; i++) {
        vf x = lane_at(s->value, at + i), w = lane_at(s->root, at + i);
        for (int l = 0; l <= p->top; l++) {
            vf d = vf_sub(vf_mul(scale, vf_set((float)(2 * l + 1))), x);
            vf_store(rows + (i * levels + l) * LANES, vf_mul(vf_mul(w, d), d));
        }
        if (p->top == 2)
            vf_store(rows + (i * levels + 3) * LANES, vf_set(0));
    }
    lanes_turn32(rows, terms);
    vi_store(codes, code);
    vi_store(offset, index);
    for (int lane = 0; lane < LANES; lane++) {
        if (offset[lane] >= 0)
            continue;
        const uint16_t *list = book->lists + (-1 - offset[lane]);
        unsigned best = lanes_nearest(terms, lane, p->bits, p->dims, list + 1, list[0]);
        if (best == 0xffff) {
            s->bad = 1;
            best = list[1];
        }
        codes[lane] = (int32_t)best;
    }
    return vi_load(codes);
}

/* Chooses the points of a sub-block; on_grid[g] gets the lanes whose lattice point is an entry. */
LANES_INLINE void lane_book_points(const struct lane_book_spec *p, const struct codebook *book,
                                   struct lane_book *s, vf inverse, vf scale, vi *code, vi *on_grid)
{
    const int exact = vm_all(vf_lt(vf_mul(inverse, s->peak), vf_set(4194303.0f)));
    for (int g = 0; g < p->sub / p->dims; g++) {
        const float *value = s->value + g * p->dims * LANES;
        vi c =
            exact ? lane_book_point(p, value, inverse, 1) : lane_book_point(p, value, inverse, 0);
        vi index = vi_gather(book->index, c);
        vm off = vi_lt(index, vi_set(0));
        on_grid[g] = vi_sel(off, vi_set(0), vi_set(1));
        if (vm_any(off))
            c = p->brief ? lane_book_best_brief(p, book, s, g * p->dims, scale, c, index)
                         : lane_book_best(p, book, s, g * p->dims, scale, c, index);
        code[g] = c;
    }
}

LANES_INLINE struct lane_sums lane_book_sums(const struct lane_book_spec *p,
                                             const struct lane_book *s, const vi *code)
{
    struct lane_sums sum = {vf_set(0), vf_set(0)};
    for (int g = 0; g < p->sub / p->dims; g++) {
        vi rest = code[g];
        LANES_UNROLL
        for (int i = 0; i < p->dims; i++) {
            int at = g * p->dims + i;
            vf q = vf_odd(rest, (1 << p->bits) - 1);
            rest = vi_srl(rest, p->bits);
            sum.lx = vf_add(sum.lx, vf_mul(lane_at(s->product, at), q));
            sum.l2 = vf_add(sum.l2, vf_mul(vf_mul(lane_at(s->k.w, at), q), q));
        }
    }
    return sum;
}

/* Tries scales around `reference` (what level `peak` maps to); leaves the best points in code and
 * returns the scale. */
LANES_INLINE vf lane_book_search(const struct lane_book_spec *p, const struct codebook *book,
                                 struct lane_book *s, vf reference, vf scale, vi *code, vi *on_grid)
{
    vi trial[8], grid[8];
    vf best = vf_set(0);
    const int groups = p->sub / p->dims;
    for (int is = -p->reach; is <= p->reach; is++) {
        vf inverse = vf_div(vf_set((float)p->peak + (float)is * p->step), reference);
        lane_book_points(p, book, s, inverse, vf_div(vf_set(1), inverse), trial, grid);
        struct lane_sums sum = lane_book_sums(p, s, trial);
        vm better = vf_lt(vf_mul(best, sum.l2), vf_mul(sum.lx, sum.lx));
        better = vm_and(better, vf_lt(vf_set(0), sum.l2));
        scale = vf_sel(better, vf_div(sum.lx, sum.l2), scale);
        best = vf_sel(better, vf_mul(scale, sum.lx), best);
        for (int g = 0; g < groups; g++) {
            code[g] = vi_sel(better, trial[g], code[g]);
            on_grid[g] = vi_sel(better, grid[g], on_grid[g]);
        }
    }
    return scale;
}

/* Chooses points again at the final scale, where some point of the sub-block was off the
 * codebook. */
LANES_INLINE vf lane_book_redo(const struct lane_book_spec *p, const struct codebook *book,
                               struct lane_book *s, vf scale, vi *code, const vi *on_grid)
{
    vi again[8], grid[8], all = vi_set(1);
    const int groups = p->sub / p->dims;
    for (int g = 0; g < groups; g++)
        all = vi_and(all, on_grid[g]);
    vm redo = vf_lt(vf_set(0), scale);
    if (!p->start)
        redo = vm_and(redo, vi_eq(all, vi_set(0)));
    if (!vm_any(redo))
        return scale;
    lane_book_points(p, book, s, vf_div(vf_set(1), scale), scale, again, grid);
    for (int g = 0; g < groups; g++) {
        vm mine = p->redo_all ? redo : vm_and(redo, vi_eq(on_grid[g], vi_set(0)));
        code[g] = vi_sel(mine, again[g], code[g]);
    }
    struct lane_sums sum = lane_book_sums(p, s, code);
    vm better = vm_and(redo, vf_lt(vf_set(0), sum.l2));
    return vf_sel(better, vf_div(sum.lx, sum.l2), scale);
}

/* Weights and magnitudes of sub-block j. */
LANES_INLINE void lane_book_load(const struct lane_book_spec *p, struct lane_book *s, int j,
                                 vf sigma2, int important)
{
    const float *x = s->k.x + p->sub * j * LANES;
    if (important)
        lane_weigh(x, s->k.q + p->sub * j * LANES, sigma2, s->k.w, p->sub);
    for (int i = 0; i < p->sub; i++) {
        if (!important) {
            vf w = vf_mul(lane_at(x, i), lane_at(x, i));
            if (p->type == DT_IQ2_S)
                w = vf_add(vf_mul(vf_set(0.25f), sigma2), w);
            vf_store(s->k.w + i * LANES, w);
        }
        vf_store(s->root + i * LANES, vf_sqrt(lane_at(s->k.w, i)));
    }
    for (int e = 0; e < p->sub / 8; e++)
        s->sign[p->sub / 8 * j + e] = lane_book_signs(x + 8 * e * LANES, s->k.w + 8 * e * LANES,
                                                      p->parity, s->value + 8 * e * LANES);
    s->peak = vf_set(0);
    for (int i = 0; i < p->sub; i++) {
        s->peak = vf_max(s->peak, lane_abs(lane_at(s->value, i)));
        vf_store(s->product + i * LANES, vf_mul(lane_at(s->k.w, i), lane_at(s->value, i)));
    }
}

/* Search of sub-block j; lanes whose sub-block is all zero get scale 0, point 0 and no signs. */
LANES_INLINE void lane_book_sub(const struct lane_book_spec *p, const struct codebook *book,
                                struct lane_book *s, int j)
{
    const int groups = p->sub / p->dims, eights = p->sub / 8;
    vi *code = s->code + groups * j, on_grid[8];
    vf max = lane_at(s->value, 0);
    for (int i = 1; i < p->sub; i++)
        max = vf_max(max, lane_at(s->value, i));
    vm zero = p->zero > 0 ? vf_lt(max, vf_set(p->zero)) : vf_eq(max, vf_set(0));
    vf scale = vf_div(max, vf_set((float)p->peak)), reference = max;
    if (p->start) {
        vf v[32], w[32];
        vi level[32];
        for (int i = 0; i < 32; i++) {
            v[i] = lane_at(s->value, i);
            w[i] = lane_at(s->k.w, i);
        }
        scale = lane_search_positive(32, 4, v, w, level);
        reference = vf_mul(scale, vf_set(3));
        zero = vm_or(zero, vf_le(reference, vf_set(0)));
    }
    reference = vf_sel(zero, vf_set(1), reference);
    for (int g = 0; g < groups; g++) {
        code[g] = vi_set(0);
        on_grid[g] = vi_set(p->type == DT_IQ3_S ? 0 : 1);
    }
    scale = lane_book_search(p, book, s, reference, scale, code, on_grid);
    scale = lane_book_redo(p, book, s, scale, code, on_grid);
    vm negative = vf_lt(scale, vf_set(0));
    scale = vf_sel(negative, lane_negate(scale), scale);
    s->scale[j] = vf_sel(zero, vf_set(0), scale);
    s->zero[j] = zero;
    for (int e = 0; e < eights; e++) {
        vi *sign = &s->sign[eights * j + e];
        *sign = vi_xor(*sign, vi_sel(negative, vi_set(p->parity ? 127 : 255), vi_set(0)));
        *sign = vi_sel(zero, vi_set(0), *sign);
    }
    for (int g = 0; g < groups; g++)
        code[g] = vi_sel(zero, vi_set(book->grid[0]), code[g]);
}

/* What a decoder makes of sub-block j with block scale d and scale level l. */
LANES_INLINE void lane_book_decoded(const struct lane_book_spec *p, struct lane_book *s, int j,
                                    vf d, vi l)
{
    vf db = vf_mul(vf_mul(d, vf_add(vf_set(p->half), vf_of(l))), vf_set(p->unit));
    for (int i = 0; i < p->sub; i++) {
        int at = p->sub * j + i;
        vi code = s->code[at / p->dims], sign = s->sign[at / 8];
        for (int k = 0; k < at % p->dims; k++)
            code = vi_srl(code, p->bits);
        vi level = vi_and(code, vi_set((1 << p->bits) - 1));
        vf q = vf_lookup16(p->magnitude, level);
        vi bit = vi_and(sign, vi_set(1 << (at % 8)));
        if (p->parity && at % 8 == 7) {
            vi fold = vi_xor(sign, vi_srl(sign, 4));
            fold = vi_xor(fold, vi_srl(fold, 2));
            bit = vi_and(vi_xor(fold, vi_srl(fold, 1)), vi_set(1));
        }
        vf y = vf_mul(db, q);
        y = vf_sel(vi_eq(bit, vi_set(0)), y, lane_negate(y));
        lane_block_decoded(&s->k, at, y);
    }
}

/* The searches, the block scale (stored at byte 0) and the levels of the sub-block scales. */
LANES_INLINE void lane_book_encode(const struct lane_book_spec *p, struct lane_book *s,
                                   struct kernel_batch *b, int important, vi *l)
{
    const struct codebook *book = codebook_get(p->type);
    const int subs = 256 / p->sub;
    lane_block_load(&s->k, b, 256, important);
    s->bad = 0;
    vf sum = lane_sum_squares(s->k.x, 256), top = vf_set(0);
    vf sigma2 = vf_div(p->sigma > 1 ? vf_mul(vf_set(2), sum) : sum, vf_set(256));
    for (int j = 0; j < subs; j++) {
        lane_book_load(p, s, j, sigma2, important);
        lane_book_sub(p, book, s, j);
        top = vf_max(top, s->scale[j]);
    }
    vm none = vf_eq(top, vf_set(0));
    vf d = vf_div(top, vf_set(31));
    vf inverse = vf_sel(none, vf_set(0), vf_div(vf_set(1), d));
    vf stored = p->fudge != 1.0f ? vf_mul(d, vf_set(p->fudge)) : d;
    stored = lane_put_half(b, vf_sel(none, vf_set(0), stored), 0);
    for (int j = 0; j < subs; j++) {
        vf a = vf_mul(vf_set(0.5f), vf_sub(vf_mul(inverse, s->scale[j]), vf_set(1)));
        l[j] = vi_sel(none, vi_set(0), lane_clamp(lane_nearest(a), 0, 15));
        lane_book_decoded(p, s, j, stored, l[j]);
    }
    for (int g = 0; g < 256 / p->dims; g++) {
        vi position = vi_gather(book->index, s->code[g]);
        s->code[g] = vi_max(position, vi_set(0));
    }
    if (s->bad)
        b->infinite = true;
    lane_block_close(&s->k, b, 256, important);
}

/* A sub-block whose scale was zero stores position 0 and sign 0: code[g] is book->grid[0] there. */

LANES_INLINE void encode_iq2_xxs(struct kernel_batch *b, int important)
{
    static const struct lane_book_spec p = {DT_IQ2_XXS,    2,    8, 32, 2, 5, 6, 0.1f,
                                            LANES_EPSILON, 1.0f, 1, 1,  1, 1, 0, iq2_magnitude,
                                            0.25f,         0.5f};
    struct lane_book s;
    vi l[8];
    lane_book_encode(&p, &s, b, important, l);
    for (int j = 0; j < 8; j++) {
        vi places = vi_set(0), signs = l[j];
        for (int g = 3; g >= 0; g--) {
            places = vi_or(vi_sll(places, 8), s.code[4 * j + g]);
            signs = vi_or(vi_sll(signs, 7), s.sign[4 * j + g]);
        }
        lane_put(b, places, 2 + 8 * j, 4);
        lane_put(b, signs, 6 + 8 * j, 4);
    }
}

LANES_INLINE void encode_iq2_xs(struct kernel_batch *b, int important)
{
    static const struct lane_book_spec p = {DT_IQ2_XS,     2,    8, 16, 2, 5, 9, 0.1f,
                                            LANES_EPSILON, 1.0f, 1, 1,  0, 0, 0, iq2_magnitude,
                                            0.25f,         0.5f};
    struct lane_book s;
    vi l[16];
    lane_book_encode(&p, &s, b, important, l);
    for (int j = 0; j < 16; j++) {
        vi first = vi_or(s.code[2 * j], vi_sll(s.sign[2 * j], 9));
        vi second = vi_or(s.code[2 * j + 1], vi_sll(s.sign[2 * j + 1], 9));
        lane_put(b, vi_or(first, vi_sll(second, 16)), 2 + 4 * j, 4);
    }
    for (int j = 0; j < 8; j++)
        lane_put(b, vi_or(l[2 * j], vi_sll(l[2 * j + 1], 4)), 66 + j, 1);
}

LANES_INLINE void encode_iq2_s(struct kernel_batch *b, int important)
{
    static const struct lane_book_spec p = {DT_IQ2_S, 2,       8, 16, 2, 5, 9, 0.1f,
                                            1e-8f,    0.9875f, 2, 0,  0, 0, 1, iq2_magnitude,
                                            0.25f,    0.5f};
    struct lane_book s;
    vi l[16];
    lane_book_encode(&p, &s, b, important, l);
    for (int i = 0; i < 8; i++) {
        vi low = vi_set(0), signs = vi_set(0), high = vi_set(0);
        for (int g = 4 * i + 3; g >= 4 * i; g--) {
            low = vi_or(vi_sll(low, 8), vi_and(s.code[g], vi_set(255)));
            signs = vi_or(vi_sll(signs, 8), s.sign[g]);
            high = vi_or(vi_sll(high, 2), vi_srl(s.code[g], 8));
        }
        lane_put(b, low, 2 + 4 * i, 4);
        lane_put(b, signs, 34 + 4 * i, 4);
        lane_put(b, high, 66 + i, 1);
        lane_put(b, vi_or(l[2 * i], vi_sll(l[2 * i + 1], 4)), 74 + i, 1);
    }
}

LANES_INLINE void encode_iq3_xxs(struct kernel_batch *b, int important)
{
    static const struct lane_book_spec p = {
        DT_IQ3_XXS,        3,    4,   32, 7, 15, 15, 0.2f, 1e-8f, 1.0125f, 2, 1, 0, 0, 1,
        iq3_xxs_magnitude, 0.5f, 0.5f};
    struct lane_book s;
    vi l[8];
    lane_book_encode(&p, &s, b, important, l);
    for (int j = 0; j < 8; j++) {
        for (int half = 0; half < 2; half++) {
            vi places = vi_set(0);
            for (int g = 3; g >= 0; g--)
                places = vi_or(vi_sll(places, 8), s.code[8 * j + 4 * half + g]);
            lane_put(b, places, 2 + 8 * j + 4 * half, 4);
        }
        vi signs = l[j];
        for (int e = 3; e >= 0; e--)
            signs = vi_or(vi_sll(signs, 7), s.sign[4 * j + e]);
        lane_put(b, signs, 66 + 4 * j, 4);
    }
}

/* Where the reference puts the positions and signs of an IQ3_S sub-block: it does not move on after
 * an all-zero one, so what follows such a sub-block is stored one place early and decoded from the
 * wrong place. The bytes are the contract, so they are the same here, and the error that is
 * reported is that of the block as it decodes. */
static void iq3_s_store(struct kernel_batch *b, int lane, const int32_t *low, const int32_t *signs,
                        const int32_t *zero)
{
    uint8_t *dst = b->dst[lane];
    int at = 0;
    memset(dst + 2, 0, 64);
    memset(dst + 74, 0, 32);
    for (int j = 0; j < 8; j++) {
        if (zero[j * LANES + lane])
            continue;
        memcpy(dst + 2 + 8 * at, &low[2 * j * LANES + lane], 4);
        memcpy(dst + 6 + 8 * at, &low[(2 * j + 1) * LANES + lane], 4);
        memcpy(dst + 74 + 4 * at, &signs[j * LANES + lane], 4);
        at++;
    }
}

/* Sum of squared errors of one IQ3_S block as a decoder reads it. */
static void iq3_s_error(const struct kernel_batch *b, int lane, int important, double *squared,
                        double *weighted)
{
    const uint8_t *p = b->dst[lane];
    uint16_t h;
    memcpy(&h, p, 2);
    float d = convert_f16_to_f32(h);
    *squared = *weighted = 0;
    for (int i = 0; i < 256; i++) {
        int j = i / 32, g = i / 4;
        float db = d * (float)(1 + 2 * ((p[106 + j / 2] >> (4 * (j % 2))) & 15));
        unsigned position = p[2 + g] | ((unsigned)(p[66 + g / 8] >> (g % 8)) & 1) << 8;
        float q = iq3_s_magnitude[codebook_grid_iq3_s[position] >> (3 * (i % 4)) & 7];
        float y = db * q * (p[74 + i / 8] >> (i % 8) & 1 ? -1.0f : 1.0f);
        double error = (double)(b->x[lane][i] - y);
        *squared += error * error;
        *weighted += error * error * (important ? (double)b->w[lane][i] : 1.0);
    }
}

LANES_INLINE void encode_iq3_s(struct kernel_batch *b, int important)
{
    static const struct lane_book_spec p = {DT_IQ3_S, 3,      4, 32, 7, 15, 9, 0.2f,
                                            0.0f,     1.033f, 2, 0,  1, 0,  1, iq3_s_magnitude,
                                            2.0f,     0.5f};
    struct lane_book s;
    vi l[8];
    int32_t low[16 * LANES], signs[8 * LANES], zero[8 * LANES];
    double squared = b->squared, weighted = b->weighted;
    lane_book_encode(&p, &s, b, important, l);
    vm any_zero = vf_lt(vf_set(0), vf_set(0));
    for (int j = 0; j < 8; j++) {
        vi word[2] = {vi_set(0), vi_set(0)}, high = vi_set(0), sign = vi_set(0);
        for (int g = 7; g >= 0; g--) {
            vi c = s.code[8 * j + g];
            word[g / 4] = vi_or(vi_sll(word[g / 4], 8), vi_and(c, vi_set(255)));
            high = vi_or(vi_sll(high, 1), vi_srl(c, 8));
        }
        for (int e = 3; e >= 0; e--)
            sign = vi_or(vi_sll(sign, 8), s.sign[4 * j + e]);
        vi_store(low + 2 * j * LANES, word[0]);
        vi_store(low + (2 * j + 1) * LANES, word[1]);
        vi_store(signs + j * LANES, sign);
        vi_store(zero + j * LANES, vi_sel(s.zero[j], vi_set(1), vi_set(0)));
        any_zero = vm_or(any_zero, s.zero[j]);
        lane_put(b, high, 66 + j, 1);
    }
    for (int j = 0; j < 4; j++)
        lane_put(b, vi_or(l[2 * j], vi_sll(l[2 * j + 1], 4)), 106 + j, 1);
    for (int lane = 0; lane < b->count; lane++)
        iq3_s_store(b, lane, low, signs, zero);
    if (!vm_any(any_zero))
        return;
    for (int lane = 0; lane < b->count; lane++) {
        double plain, heavy;
        iq3_s_error(b, lane, important, &plain, &heavy);
        squared += plain;
        weighted += heavy;
    }
    b->squared = squared;
    b->weighted = weighted;
}

#endif
