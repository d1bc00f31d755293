/* Small statistics over arrays of doubles; pure functions, nothing is kept.
 *
 * Means are clustered (formula in the header). The Student quantile inverts the distribution
 * function by bisection; that function is the regularised incomplete beta by Lentz's continued
 * fraction (Numerical Recipes 3rd ed., 6.4; checked against published tables in the tests). NaN in,
 * NaN out: a broken value must not disappear inside a mean. Sums are Neumaier-compensated: KL means
 * are small differences over many tokens.
 */
#include "base/stat.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/banned.h"

struct sum {
    double total, lost;
};

static void sum_add(struct sum *s, double x)
{
    double t = s->total + x;
    if (fabs(s->total) >= fabs(x))
        s->lost += (s->total - t) + x;
    else
        s->lost += (x - t) + s->total;
    s->total = t;
}

static double sum_value(const struct sum *s)
{
    return isfinite(s->total) ? s->total + s->lost : s->total;
}

/* values[i], or values[i] − minus[i] when minus is given. */
static double value_at(const double *values, const double *minus, size_t i)
{
    return minus ? values[i] - minus[i] : values[i];
}

static double total_of(const double *values, const double *minus, size_t from, size_t to)
{
    struct sum s = {0};
    for (size_t i = from; i < to; i++)
        sum_add(&s, value_at(values, minus, i));
    return sum_value(&s);
}

static struct stat_mean clustered(const double *a, const double *b, size_t n, size_t per_cluster)
{
    struct stat_mean m = {NAN, NAN, NAN, NAN, n, 0};
    if (n == 0)
        return m;
    if (per_cluster == 0)
        per_cluster = n;
    m.clusters = n / per_cluster + (n % per_cluster != 0);
    m.mean = total_of(a, b, 0, n) / (double)n;
    if (m.clusters < 2)
        return m;
    struct sum squares = {0};
    for (size_t from = 0; from < n; from += per_cluster) {
        size_t to = n - from > per_cluster ? from + per_cluster : n;
        double off = total_of(a, b, from, to) - m.mean * (double)(to - from);
        sum_add(&squares, off * off);
    }
    double c = (double)m.clusters;
    m.se = sqrt(c / (c - 1) * sum_value(&squares)) / (double)n;
    double half = stat_t975(c - 1) * m.se;
    m.low = m.mean - half;
    m.high = m.mean + half;
    return m;
}

struct stat_mean stat_mean_clustered(const double *values, size_t n, size_t per_cluster)
{
    return clustered(values, NULL, n, per_cluster);
}

struct stat_mean stat_mean_paired(const double *a, const double *b, size_t n, size_t per_cluster)
{
    return clustered(a, b, n, per_cluster);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile_of_sorted(const double *sorted, size_t n, double q)
{
    double position = q * (double)(n - 1);
    if (!(position > 0))
        return sorted[0];
    size_t i = (size_t)position;
    if (i >= n - 1)
        return sorted[n - 1];
    double part = position - (double)i;
    return sorted[i] + part * (sorted[i + 1] - sorted[i]);
}

void stat_quantiles(const double *values, size_t n, const double *q, double *out, size_t n_q)
{
    bool usable = n > 0;
    for (size_t i = 0; i < n && usable; i++)
        usable = !isnan(values[i]); /* NaN has no place in an order */
    if (!usable) {
        for (size_t i = 0; i < n_q; i++)
            out[i] = NAN;
        return;
    }
    double *sorted = xreallocarray(NULL, n, sizeof(*sorted));
    memcpy(sorted, values, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare_doubles);
    for (size_t i = 0; i < n_q; i++)
        out[i] = quantile_of_sorted(sorted, n, q[i]);
    xfree(sorted);
}

double stat_median(const double *values, size_t n)
{
    double q = 0.5, median;
    stat_quantiles(values, n, &q, &median, 1);
    return median;
}

static double away_from_zero(double x)
{
    return fabs(x) < 1e-300 ? 1e-300 : x;
}

/* Continued fraction of the incomplete beta function, converges fast for x < (a+1)/(a+b+2). */
static double beta_fraction(double a, double b, double x)
{
    double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), h = d;
    for (int m = 1; m <= 10000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 / away_from_zero(1 + even * d);
        c = away_from_zero(1 + even / c);
        h *= d * c;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / away_from_zero(1 + odd * d);
        c = away_from_zero(1 + odd / c);
        h *= d * c;
        if (fabs(d * c - 1) < 1e-15)
            break;
    }
    return h;
}

/* lgamma writes the global signgam; its re-entrant form keeps this file free of shared state. */
static double log_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

static double beta_regular(double a, double b, double x)
{
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double stat_t975(double degrees)
{
    static const double normal = 1.959963984540054;
    if (isnan(degrees) || degrees <= 0)
        return NAN;
    if (degrees > 1e7)
        return normal;
    /* P(|T| > t) = I(v/(v+t²); v/2, 1/2), falling in t; find where it is 0.05. */
    double low = 0, high = normal;
    while (beta_regular(degrees / 2, 0.5, degrees / (degrees + high * high)) > 0.05 && high < 1e30)
        high *= 2;
    for (int i = 0; i < 200 && high - low > 1e-14 * high; i++) {
        double t = (low + high) / 2;
        if (beta_regular(degrees / 2, 0.5, degrees / (degrees + t * t)) > 0.05)
            low = t;
        else
            high = t;
    }
    return (low + high) / 2;
}
