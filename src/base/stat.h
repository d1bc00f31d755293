/* Small statistics: means, quantiles, and intervals clustered by window.
 *
 * Per-token values inside one text window are correlated, so the standard error of a mean is taken
 * over windows (clusters), with the cluster-robust formula: for clusters c with n_c values and sum
 * s_c, m = Σs_c/Σn_c, var(m) = C/(C-1) · Σ(s_c − m·n_c)² / (Σn_c)². The interval is m ± t·se with
 * Student's t for C−1 degrees of freedom. Source: Miller 2024, "Adding Error Bars to Evals" (arXiv
 * 2411.00640). */
#ifndef BASE_STAT_H
#define BASE_STAT_H

#include <stddef.h>
#include <stdint.h>

struct stat_mean {
    double mean, se, low, high; /* 95 % interval; low/high = NaN when fewer than 2 clusters */
    size_t n, clusters;
};
/* values[i] belongs to cluster i / per_cluster. */
struct stat_mean stat_mean_clustered(const double *values, size_t n, size_t per_cluster);
/* Paired difference a − b, clustered. */
struct stat_mean stat_mean_paired(const double *a, const double *b, size_t n, size_t per_cluster);
double stat_median(const double *values, size_t n); /* copies */
/* Quantiles by linear interpolation (type 7); q ascending in [0,1]; copies and sorts once. */
void stat_quantiles(const double *values, size_t n, const double *q, double *out, size_t n_q);
/* Two-sided 97.5 % point of Student's t. */
double stat_t975(double degrees);

#endif
