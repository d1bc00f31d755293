/* The scale searches of ggml's encoders, over lanes: every lane is one block (lanes_*_int.h must be
 * included first).
 *
 * Provenance of the algorithms: ggml-quants.c of ggml 0.5.0 (make_qkx2/qkx3_quants, make_qp_quants,
 * make_qx_quants, make_q3_quants). What differs is only the shape of the computation:
 * - A search remembers the (inverse scale, offset) that gave its best levels instead of the levels;
 * they are computed
 *   again where they are needed, which for most blocks is never.
 * - Rounding to the nearest integer by adding 1.5·2²³ is done in float registers when the largest
 * argument of the
 *   sub-block proves that no lane leaves the exact range; otherwise through the bits, as the scalar
 *   code does, which defines the result for any argument.
 * - x and w point to transposed data: element i of every lane at x + i*LANES. */
#ifndef QUANT_ENCODE_SEARCH_INT_H
#define QUANT_ENCODE_SEARCH_INT_H

#define LANES_INLINE  static inline __attribute__((always_inline))
#define LANES_EPSILON 1e-15f /* below it a block counts as all zero (GROUP_MAX_EPS) */
#define LANES_ROUND   12582912.0f

LANES_INLINE vf lane_abs(vf a)
{
    return vf_bits(vi_and(vi_bits(a), vi_set(0x7fffffff)));
}
LANES_INLINE vf lane_negate(vf a)
{
    return vf_bits(vi_xor(vi_bits(a), vi_set(INT32_MIN)));
}
LANES_INLINE vf lane_at(const float *x, int i)
{
    return vf_load(x + i * LANES);
}
/* Nearest integer, defined for every argument by the bits of a + 1.5·2²³. */
LANES_INLINE vi lane_nearest(vf a)
{
    vi bits = vi_bits(vf_add(a, vf_set(LANES_ROUND)));
    return vi_sub(vi_and(bits, vi_set(0x007fffff)), vi_set(0x00400000));
}
LANES_INLINE vi lane_clamp(vi a, int low, int high)
{
    return vi_max(vi_set(low), vi_min(vi_set(high), a));
}
/* On which sides a rounded level can leave its range; where it cannot, nothing is cut. */
enum lane_cut { CUT_LOW = 1, CUT_HIGH = 2, CUT_BOTH = 3 };

/* clamp(nearest(a)) as a float; `exact` says |a| < 2²² in every lane. */
LANES_INLINE vf lane_level(vf a, int low, int high, int exact, int cut)
{
    if (!exact)
        return vf_of(lane_clamp(lane_nearest(a), low, high));
    vf r = vf_sub(vf_add(a, vf_set(LANES_ROUND)), vf_set(LANES_ROUND));
    if (cut & CUT_HIGH)
        r = vf_min(vf_set((float)high), r);
    return cut & CUT_LOW ? vf_max(vf_set((float)low), r) : r;
}

/* Result of the affine search: value ≈ scale·level − min_negated... see fields. */
struct lane_affine {
    vf scale;
    vf minimum;       /* subtracted: value = scale·level − minimum */
    vf inverse, base; /* level = clamp(nearest(inverse·(x − base))) of the best try */
};

struct lane_affine_spec {
    int n, levels; /* weights in the sub-block, largest level */
    float first, step;
    int steps;
    int absolute; /* weigh |difference| instead of its square */
};

struct lane_affine_sums {
    vf low, high, w, x; /* smallest, largest, Σw, Σwx */
};

LANES_INLINE struct lane_affine_sums lane_affine_sums(int n, const float *x, const float *w)
{
    struct lane_affine_sums s = {lane_at(x, 0), lane_at(x, 0), lane_at(w, 0), vf_set(0)};
    s.x = vf_mul(s.w, s.low);
    for (int i = 1; i < n; i++) {
        vf xi = lane_at(x, i), wi = lane_at(w, i);
        s.low = vf_min(xi, s.low);
        s.high = vf_max(xi, s.high);
        s.w = vf_add(s.w, wi);
        s.x = vf_add(s.x, vf_mul(wi, xi));
    }
    return s;
}

/* Σ w·|d| or Σ w·d² of d = scale·level + offset − x, in order. */
LANES_INLINE vf lane_affine_error(const struct lane_affine_spec *p, const float *x, const float *w,
                                  const vf *level, vf scale, vf offset)
{
    vf error = vf_set(0);
    for (int i = 0; i < p->n; i++) {
        vf d = vf_sub(vf_add(vf_mul(scale, level[i]), offset), lane_at(x, i));
        d = p->absolute ? lane_abs(d) : vf_mul(d, d);
        error = vf_add(error, vf_mul(lane_at(w, i), d));
    }
    return error;
}

/* Can every lane round inverse·(x − base) in float registers? x lies in [low, high] and both steps
 * are monotone, so the ends decide. */
LANES_INLINE int lane_affine_exact(vf inverse, vf low, vf high, vf base)
{
    vf limit = vf_set(4194303.0f);
    vm a = vf_lt(lane_abs(vf_mul(inverse, vf_sub(low, base))), limit);
    vm b = vf_lt(lane_abs(vf_mul(inverse, vf_sub(high, base))), limit);
    return vm_all(vm_and(a, b));
}

LANES_INLINE void lane_affine_levels(const struct lane_affine_spec *p, const float *x, vf inverse,
                                     vf base, int exact, int cut, vf *level)
{
    for (int i = 0; i < p->n; i++) {
        vf a = vf_mul(inverse, vf_sub(lane_at(x, i), base));
        level[i] = lane_level(a, 0, p->levels, exact, cut);
    }
}

/* One try of the search: least squares of (scale, offset) on the levels of this inverse scale. */
LANES_INLINE void lane_affine_try(const struct lane_affine_spec *p, const float *x, const float *w,
                                  const struct lane_affine_sums *s, vm flat, float numerator,
                                  int cut, struct lane_affine *best, vf *offset, vf *best_error)
{
    vf level[32];
    vf range = vf_sel(flat, vf_set(1), vf_sub(s->high, *offset));
    vf inverse = vf_div(vf_set(numerator), range);
    int exact = lane_affine_exact(inverse, s->low, s->high, *offset);
    lane_affine_levels(p, x, inverse, *offset, exact, cut, level);
    vf sum_l = vf_set(0), sum_l2 = vf_set(0), sum_xl = vf_set(0);
    for (int i = 0; i < p->n; i++) {
        vf wl = vf_mul(lane_at(w, i), level[i]);
        sum_l = vf_add(sum_l, wl);
        sum_l2 = vf_add(sum_l2, vf_mul(wl, level[i]));
        sum_xl = vf_add(sum_xl, vf_mul(wl, lane_at(x, i)));
    }
    vf det = vf_sub(vf_mul(s->w, sum_l2), vf_mul(sum_l, sum_l));
    vf scale = vf_div(vf_sub(vf_mul(s->w, sum_xl), vf_mul(s->x, sum_l)), det);
    vf low = vf_div(vf_sub(vf_mul(sum_l2, s->x), vf_mul(sum_l, sum_xl)), det);
    vm above = vf_lt(vf_set(0), low);
    scale = vf_sel(above, vf_div(sum_xl, sum_l2), scale);
    low = vf_sel(above, vf_set(0), low);
    vf error = lane_affine_error(p, x, w, level, scale, low);
    vm better = vm_and(vf_lt(vf_set(0), det), vf_lt(error, *best_error));
    better = vm_and(better, vm_not(flat));
    *best_error = vf_sel(better, error, *best_error);
    best->scale = vf_sel(better, scale, best->scale);
    best->inverse = vf_sel(better, inverse, best->inverse);
    best->base = vf_sel(better, *offset, best->base);
    *offset = vf_sel(better, low, *offset);
}

/* make_qkx2_quants / make_qkx3_quants. */
LANES_INLINE struct lane_affine lane_search_affine(const struct lane_affine_spec *p, const float *x,
                                                   const float *w)
{
    vf level[32];
    struct lane_affine_sums s = lane_affine_sums(p->n, x, w);
    vf offset = vf_sel(vf_lt(vf_set(0), s.low), vf_set(0), s.low);
    vm flat = vf_le(s.high, offset);
    vf range = vf_sel(flat, vf_set(1), vf_sub(s.high, offset));
    struct lane_affine best;
    best.inverse = vf_div(vf_set((float)p->levels), range);
    best.scale = vf_div(vf_set(1), best.inverse);
    best.base = offset;
    int exact = lane_affine_exact(best.inverse, s.low, s.high, offset);
    lane_affine_levels(p, x, best.inverse, offset, exact, CUT_BOTH, level);
    vf error = lane_affine_error(p, x, w, level, best.scale, offset);
    /* The largest weight becomes the numerator: below levels + 1/2 nothing rounds above levels. */
    int is = 0;
    for (; is <= p->steps && p->first + p->step * (float)is < 0.49f; is++) {
        float numerator = p->first + p->step * (float)is + (float)p->levels;
        lane_affine_try(p, x, w, &s, flat, numerator, CUT_LOW, &best, &offset, &error);
    }
    for (; is <= p->steps; is++) {
        float numerator = p->first + p->step * (float)is + (float)p->levels;
        lane_affine_try(p, x, w, &s, flat, numerator, CUT_BOTH, &best, &offset, &error);
    }
    best.scale = vf_sel(flat, vf_set(0), best.scale);
    best.inverse = vf_sel(flat, vf_set(0), best.inverse);
    best.minimum = lane_negate(offset);
    return best;
}

/* make_qp_quants: non-negative x[n] (scales or minima of the sub-blocks) to levels 0..top. Levels
 * are stored as the scalar code stores them, in eight bits. Returns the scale. */
struct lane_sums {
    vf lx, l2;
};

LANES_INLINE vf lane_positive_start(int n, int top, const vf *x, const vf *w, vi *level, vf max)
{
    vf inverse = vf_div(vf_set((float)top), max);
    vf scale = vf_div(vf_set(1), inverse), best = vf_set(0);
    for (int i = 0; i < n; i++) {
        level[i] = vi_and(lane_nearest(vf_mul(inverse, x[i])), vi_set(0xff));
        vf d = vf_sub(x[i], vf_mul(scale, vf_of(level[i])));
        best = vf_add(best, vf_mul(vf_mul(w[i], d), d));
    }
    for (int is = -4; is <= 4; is++) {
        if (is == 0)
            continue;
        vf trial = vf_div(vf_set(0.1f * (float)is + (float)top), max);
        vf trial_scale = vf_div(vf_set(1), trial), error = vf_set(0);
        for (int i = 0; i < n; i++) {
            vi l = vi_min(vi_set(top), lane_nearest(vf_mul(trial, x[i])));
            vf d = vf_sub(x[i], vf_mul(trial_scale, vf_of(l)));
            error = vf_add(error, vf_mul(vf_mul(w[i], d), d));
        }
        vm better = vf_lt(error, best);
        best = vf_sel(better, error, best);
        inverse = vf_sel(better, trial, inverse);
    }
    return inverse;
}

/* One coordinate sweep; returns the lanes in which a level changed. */
LANES_INLINE vm lane_positive_sweep(int n, int top, const vf *x, const vf *w, vi *level,
                                    struct lane_sums *sum, vm active)
{
    vm changed = vf_lt(vf_set(0), vf_set(0));
    for (int i = 0; i < n; i++) {
        vf l = vf_of(level[i]), wx = vf_mul(w[i], x[i]);
        vf lx = vf_sub(sum->lx, vf_mul(wx, l));
        vf l2 = vf_sub(sum->l2, vf_mul(vf_mul(w[i], l), l));
        vm ok = vm_and(active, vm_and(vf_lt(vf_set(0), lx), vf_lt(vf_set(0), l2)));
        vi next = vi_min(vi_set(top), lane_nearest(vf_div(vf_mul(x[i], l2), lx)));
        ok = vm_and(ok, vm_not(vi_eq(next, level[i])));
        vf f = vf_of(next);
        lx = vf_add(lx, vf_mul(wx, f));
        l2 = vf_add(l2, vf_mul(vf_mul(w[i], f), f));
        vf mine = vf_mul(vf_mul(lx, lx), sum->l2), theirs = vf_mul(vf_mul(sum->lx, sum->lx), l2);
        ok = vm_and(ok, vf_lt(theirs, mine));
        level[i] = vi_sel(ok, vi_and(next, vi_set(0xff)), level[i]);
        sum->lx = vf_sel(ok, lx, sum->lx);
        sum->l2 = vf_sel(ok, l2, sum->l2);
        changed = vm_or(changed, ok);
    }
    return changed;
}

LANES_INLINE vf lane_search_positive(int n, int top, const vf *x, const vf *w, vi *level)
{
    vf max = vf_set(0);
    for (int i = 0; i < n; i++)
        max = vf_max(max, x[i]);
    vm zero = vf_lt(max, vf_set(LANES_EPSILON));
    max = vf_sel(zero, vf_set(1), max);
    vf inverse = lane_positive_start(n, top, x, w, level, max);
    struct lane_sums sum = {vf_set(0), vf_set(0)};
    for (int i = 0; i < n; i++) {
        vi l = vi_min(vi_set(top), lane_nearest(vf_mul(inverse, x[i])));
        vf f = vf_of(l);
        level[i] = vi_and(l, vi_set(0xff));
        sum.lx = vf_add(sum.lx, vf_mul(vf_mul(w[i], x[i]), f));
        sum.l2 = vf_add(sum.l2, vf_mul(vf_mul(w[i], f), f));
    }
    vm active = vm_not(zero);
    for (int sweep = 0; sweep < 5 && vm_any(active); sweep++)
        active = lane_positive_sweep(n, top, x, w, level, &sum, active);
    for (int i = 0; i < n; i++)
        level[i] = vi_sel(zero, vi_set(0), level[i]);
    vm some = vm_and(vf_lt(vf_set(0), sum.l2), vm_not(zero));
    return vf_sel(some, vf_div(sum.lx, sum.l2), vf_set(0));
}

/* make_qx_quants with weights: symmetric levels −top..top−1. */
struct lane_symmetric {
    vf scale;
    vf inverse; /* level = clamp(nearest(inverse·x)) of the best try */
    vm zero;    /* all-zero sub-block: stored level is 0, not top */
};

/* x, w and wx = w·x of the n weights of a sub-block. */
LANES_INLINE struct lane_sums lane_symmetric_sums(int n, int top, const float *x, const float *w,
                                                  const float *wx, vf inverse, int exact, int cut)
{
    struct lane_sums s = {vf_set(0), vf_set(0)};
    LANES_UNROLL
    for (int i = 0; i < n; i++) {
        vf l = lane_level(vf_mul(inverse, lane_at(x, i)), -top, top - 1, exact, cut);
        s.lx = vf_add(s.lx, vf_mul(lane_at(wx, i), l));
        s.l2 = vf_add(s.l2, vf_mul(vf_mul(lane_at(w, i), l), l));
    }
    return s;
}

/* Tries of −(top + is/10)/max, is from..to but not 0. The largest |weight| becomes top + is/10, so
 * up to −6 every level lies inside its range, up to 4 none rounds below −top. */
LANES_INLINE void lane_symmetric_tries(int n, int top, const float *x, const float *w,
                                       const float *wx, vf max, int exact, int from, int to,
                                       int cut, struct lane_symmetric *r, vf *best)
{
    for (int is = from; is <= to; is++) {
        if (is == 0)
            continue;
        vf inverse = vf_div(vf_set(-((float)top + 0.1f * (float)is)), max);
        struct lane_sums s = exact ? lane_symmetric_sums(n, top, x, w, wx, inverse, 1, cut)
                                   : lane_symmetric_sums(n, top, x, w, wx, inverse, 0, cut);
        /* Before the comparison, so that the next try need not wait for the division. */
        vf scale = vf_div(s.lx, s.l2), score = vf_mul(scale, s.lx);
        vm better = vf_lt(vf_mul(*best, s.l2), vf_mul(s.lx, s.lx));
        better = vm_and(better, vf_lt(vf_set(0), s.l2));
        r->scale = vf_sel(better, scale, r->scale);
        *best = vf_sel(better, score, *best);
        r->inverse = vf_sel(better, inverse, r->inverse);
    }
}

/* Largest |x| and its signed value, the first of equals. */
LANES_INLINE vf lane_peak_in_order(int n, const float *x, vf *absolute)
{
    vf max = vf_set(0), amax = vf_set(0);
    for (int i = 0; i < n; i++) {
        vf xi = lane_at(x, i), a = lane_abs(xi);
        vm m = vf_lt(amax, a);
        amax = vf_sel(m, a, amax);
        max = vf_sel(m, xi, max);
    }
    *absolute = amax;
    return max;
}

/* The order matters only where both extremes are equally far from zero; without that the extremes
 * decide, over four independent chains. */
LANES_INLINE vf lane_peak(int n, const float *x, vf *absolute)
{
    vf high[4], low[4];
    LANES_UNROLL
    for (int k = 0; k < 4; k++)
        high[k] = low[k] = lane_at(x, k);
    for (int i = 4; i < n; i += 4) {
        LANES_UNROLL
        for (int k = 0; k < 4; k++) {
            high[k] = vf_max(lane_at(x, i + k), high[k]);
            low[k] = vf_min(lane_at(x, i + k), low[k]);
        }
    }
    vf top = vf_max(vf_max(high[0], high[1]), vf_max(high[2], high[3]));
    vf bottom = vf_min(vf_min(low[0], low[1]), vf_min(low[2], low[3]));
    vf opposite = lane_negate(bottom);
    if (vm_any(vf_eq(top, opposite)))
        return lane_peak_in_order(n, x, absolute);
    vm positive = vf_lt(opposite, top);
    *absolute = vf_sel(positive, top, opposite);
    return vf_sel(positive, top, bottom);
}

LANES_INLINE struct lane_symmetric lane_search_symmetric(int n, int top, const float *x,
                                                         const float *w)
{
    vf amax, max = lane_peak(n, x, &amax);
    struct lane_symmetric r;
    r.zero = vf_lt(amax, vf_set(LANES_EPSILON));
    max = vf_sel(r.zero, vf_set(1), max);
    r.inverse = vf_div(vf_set((float)-top), max);
    vf limit = vf_set(4194303.0f / 2);
    int exact = vm_all(vf_lt(lane_abs(vf_mul(r.inverse, vf_sel(r.zero, vf_set(0), amax))), limit));
    float wx[32 * LANES];
    for (int i = 0; i < n; i++)
        vf_store(wx + i * LANES, vf_mul(lane_at(w, i), lane_at(x, i)));
    struct lane_sums s = lane_symmetric_sums(n, top, x, w, wx, r.inverse, exact, CUT_HIGH);
    r.scale = vf_sel(vf_eq(s.l2, vf_set(0)), vf_set(0), vf_div(s.lx, s.l2));
    vf best = vf_mul(r.scale, s.lx);
    lane_symmetric_tries(n, top, x, w, wx, max, exact, -9, -6, 0, &r, &best);
    lane_symmetric_tries(n, top, x, w, wx, max, exact, -5, 4, CUT_HIGH, &r, &best);
    lane_symmetric_tries(n, top, x, w, wx, max, exact, 5, 9, CUT_BOTH, &r, &best);
    r.scale = vf_sel(r.zero, vf_set(0), r.scale);
    return r;
}

/* Stored level (0..2·top−1) of the best try. */
LANES_INLINE vi lane_symmetric_level(const struct lane_symmetric *s, int top, vf x)
{
    vi l = lane_clamp(lane_nearest(vf_mul(s->inverse, x)), -top, top - 1);
    return vi_sel(s->zero, vi_set(0), vi_add(l, vi_set(top)));
}

/* make_q3_quants: coordinate descent with weights x². Stored levels (0..2·top−1) to level[]. */
LANES_INLINE vm lane_descent_sweep(int n, int top, const float *x, vi *level, struct lane_sums *sum,
                                   vm active)
{
    vm changed = vf_lt(vf_set(0), vf_set(0));
    for (int i = 0; i < n; i++) {
        vf xi = lane_at(x, i), w = vf_mul(xi, xi), wx = vf_mul(w, xi), l = vf_of(level[i]);
        vf lx = vf_sub(sum->lx, vf_mul(wx, l));
        vm ok = vm_and(active, vf_lt(vf_set(0), lx));
        vf l2 = vf_sub(sum->l2, vf_mul(vf_mul(w, l), l));
        vi next = lane_clamp(lane_nearest(vf_div(vf_mul(xi, l2), lx)), -top, top - 1);
        ok = vm_and(ok, vm_not(vi_eq(next, level[i])));
        vf f = vf_of(next);
        lx = vf_add(lx, vf_mul(wx, f));
        l2 = vf_add(l2, vf_mul(vf_mul(w, f), f));
        vf mine = vf_mul(vf_mul(lx, lx), sum->l2), theirs = vf_mul(vf_mul(sum->lx, sum->lx), l2);
        ok = vm_and(ok, vm_and(vf_lt(vf_set(0), l2), vf_lt(theirs, mine)));
        level[i] = vi_sel(ok, next, level[i]);
        sum->lx = vf_sel(ok, lx, sum->lx);
        sum->l2 = vf_sel(ok, l2, sum->l2);
        changed = vm_or(changed, ok);
    }
    return changed;
}

LANES_INLINE vf lane_search_descent(int n, int top, const float *x, vi *level)
{
    vf amax, max = lane_peak(n, x, &amax);
    vm zero = vf_lt(amax, vf_set(LANES_EPSILON));
    vf inverse = vf_div(vf_set((float)-top), vf_sel(zero, vf_set(1), max));
    struct lane_sums sum = {vf_set(0), vf_set(0)};
    for (int i = 0; i < n; i++) {
        vf xi = lane_at(x, i), w = vf_mul(xi, xi);
        level[i] = lane_clamp(lane_nearest(vf_mul(inverse, xi)), -top, top - 1);
        vf f = vf_of(level[i]);
        sum.lx = vf_add(sum.lx, vf_mul(vf_mul(w, xi), f));
        sum.l2 = vf_add(sum.l2, vf_mul(vf_mul(w, f), f));
    }
    vm active = vm_not(zero);
    for (int sweep = 0; sweep < 5 && vm_any(active); sweep++)
        active = lane_descent_sweep(n, top, x, level, &sum, active);
    for (int i = 0; i < n; i++)
        level[i] = vi_sel(zero, vi_set(0), vi_add(level[i], vi_set(top)));
    vm some = vm_and(vf_lt(vf_set(0), sum.l2), vm_not(zero));
    return vf_sel(some, vf_div(sum.lx, sum.l2), vf_set(0));
}

#endif
