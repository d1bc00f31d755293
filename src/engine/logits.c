/* Arithmetic on one row of logits.
 *
 * Four lanes of GCC/clang vector extensions: what every x86-64 and arm64 has, no dispatch. Wider
 * lanes gain 40 % of something that is 3 % of an evaluation, so there is one variant only.
 *
 * exp(x): x = k·ln2 + r with |r| ≤ ln2/2, k found by adding 1.5·2^23 (rounds to the nearest integer
 * and leaves it in the low mantissa bits), ln2 in two parts so that k·ln2 is nearly exact (Cody and
 * Waite); e^r by the polynomial of Cephes' expf (Moshier 1992: minimax, so its error is rounding
 * noise that sums average out, not a bias that they add up); times 2^k by its exponent bits.
 * Arguments below −87 give about 1e-38, which no sum here can feel.
 *
 * A row's tail is copied into a padded block whose lanes contribute less than 1e-35.
 */
#include "engine/logits.h"

#include <math.h>
#include <string.h>

#include "base/banned.h"

enum { LANES = 4, KLD_REACH = 100 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef double vd __attribute__((vector_size(32))); /* never a parameter: its ABI varies */

#define INLINE static inline __attribute__((always_inline))

INLINE vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE vf vf_all(float x)
{
    return (vf){x, x, x, x};
}

INLINE vf vf_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

INLINE double vd_sum(const vd *v)
{
    double sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += (*v)[i];
    return sum;
}

/* NaN stays NaN: both comparisons are false for it. */
INLINE vf vf_exp(vf x)
{
    const vf low = vf_all(-87.0f), high = vf_all(88.0f);
    x = vf_select(x < low, low, x);
    x = vf_select(x > high, high, x);
    const float round_magic = 12582912.0f; /* 1.5 * 2^23 */
    vf shifted = x * 1.44269504f + round_magic;
    vi k = (vi)shifted - 0x4B400000;
    vf kf = shifted - round_magic;
    vf r = x - kf * 0.693359375f;
    r = r + kf * 2.12194440e-4f;
    vf e = vf_all(1.9875691500e-4f);
    e = e * r + 1.3981999507e-3f;
    e = e * r + 8.3334519073e-3f;
    e = e * r + 4.1665795894e-2f;
    e = e * r + 1.6666665459e-1f;
    e = e * r + 5.0000001201e-1f;
    e = e * (r * r) + r + 1.0f;
    return e * (vf)((k + 127) << 23);
}

/* The last n % LANES elements with `pad` behind them. */
INLINE vf vf_tail(const float *p, size_t n, float pad)
{
    vf v = vf_all(pad);
    memcpy(&v, p, n * sizeof(float));
    return v;
}

static float row_max(const float *x, size_t n)
{
    size_t whole = n - n % LANES;
    vf best = vf_tail(x + whole, n - whole, -INFINITY);
    for (size_t i = 0; i < whole; i += LANES) {
        vf v = vf_load(x + i);
        best = vf_select(v > best, v, best);
    }
    float max = best[0];
    for (int i = 1; i < LANES; i++)
        max = best[i] > max ? best[i] : max;
    return max;
}

static double row_sum_exp(const float *x, size_t n, float max)
{
    size_t whole = n - n % LANES;
    vf e = vf_exp(vf_tail(x + whole, n - whole, -INFINITY) - max);
    vd sum = __builtin_convertvector(e, vd);
    for (size_t i = 0; i < whole; i += LANES) {
        e = vf_exp(vf_load(x + i) - max);
        sum += __builtin_convertvector(e, vd);
    }
    return vd_sum(&sum);
}

INLINE vf vf_at_least(vf x, float low)
{
    vf l = vf_all(low);
    return vf_select(x < l, l, x);
}

/* sum += p·(difference of logits − shift), p = e^(reference − total). Logits of −infinity (some
 * models rule tokens out so) would make 0·∞: beyond e^−KLD_REACH a probability is not followed
 * further. */
INLINE void kld_add(vd *sum, vf reference, float total, vf logits, double shift)
{
    reference = vf_at_least(reference, total - KLD_REACH);
    logits = vf_at_least(logits, total - 2 * KLD_REACH);
    vd p = __builtin_convertvector(vf_exp(reference - total), vd);
    vd difference = __builtin_convertvector(reference, vd) - __builtin_convertvector(logits, vd);
    *sum += p * (difference - shift);
}

static uint32_t find_first(const float *x, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] == value)
            return (uint32_t)i;
    return 0;
}

struct logits_row logits_scan(const float *logits, size_t n)
{
    struct logits_row row = {.max = row_max(logits, n)};
    row.argmax = find_first(logits, n, row.max);
    row.sum_exp = row_sum_exp(logits, n, row.max);
    row.log_total = (double)row.max + log(row.sum_exp);
    return row;
}

double logits_kld(const float *reference, double reference_total, const float *logits,
                  double log_total, size_t n)
{
    size_t whole = n - n % LANES;
    float total = (float)reference_total;
    double shift = reference_total - log_total;
    vd sum = {0, 0, 0, 0};
    kld_add(&sum, vf_tail(reference + whole, n - whole, total - KLD_REACH), total,
            vf_tail(logits + whole, n - whole, total - KLD_REACH), shift);
    for (size_t i = 0; i < whole; i += LANES)
        kld_add(&sum, vf_load(reference + i), total, vf_load(logits + i), shift);
    return vd_sum(&sum);
}

uint32_t logits_draw(const float *logits, size_t n, const struct logits_row *row, double u)
{
    double target = u * row->sum_exp, sum = 0;
    for (size_t i = 0; i < n; i += LANES) {
        size_t count = n - i < LANES ? n - i : LANES;
        vf e = vf_exp(vf_tail(logits + i, count, -INFINITY) - row->max);
        for (size_t k = 0; k < count; k++) {
            sum += (double)e[k];
            if (sum > target)
                return (uint32_t)(i + k);
        }
    }
    return row->argmax; /* u·Σ was rounded up past the sum in this order */
}

struct logits_row logits_scan_ref(const float *logits, size_t n)
{
    struct logits_row row = {.max = logits[0]};
    for (size_t i = 1; i < n; i++) {
        if (logits[i] > row.max) {
            row.max = logits[i];
            row.argmax = (uint32_t)i;
        }
    }
    for (size_t i = 0; i < n; i++)
        row.sum_exp += exp((double)logits[i] - (double)row.max);
    row.log_total = (double)row.max + log(row.sum_exp);
    return row;
}

double logits_kld_ref(const float *reference, double reference_total, const float *logits,
                      double log_total, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double log_p = (double)reference[i] - reference_total;
        sum += exp(log_p) * (log_p - ((double)logits[i] - log_total));
    }
    return sum;
}
