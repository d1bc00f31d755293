/* Arithmetic on one row of logits: normaliser, KL divergence, sampling.
 *
 * Pure functions without libllama, so that they can be tested by themselves and used where no model
 * is. Exponentials are float (about 1e-7 relative), every sum over the vocabulary is double: a KL
 * divergence of 1e-6 is a difference of terms near 1, and float sums over 100,000 of them would
 * drown it. n is the vocabulary size, at least 1. A NaN or +infinity anywhere makes the results
 * NaN. */
#ifndef ENGINE_LOGITS_H
#define ENGINE_LOGITS_H

#include <stddef.h>
#include <stdint.h>

/* What one pass over a row tells. */
struct logits_row {
    float max;
    uint32_t argmax;  /* lowest id that has the maximum */
    double sum_exp;   /* Σ exp(logit − max) */
    double log_total; /* log Σ exp(logit) = max + log(sum_exp) */
};
struct logits_row logits_scan(const float *logits, size_t n);

/* KL divergence of one row from another, both with their log_total: Σ p·(log p − log q) in double,
 * where p = exp(reference − reference_total). Differences of logits are taken before anything is
 * rounded, so rows that differ by nothing give exactly 0, and tiny divergences keep their digits.
 */
double logits_kld(const float *reference, double reference_total, const float *logits,
                  double log_total, size_t n);

/* The lowest id whose cumulated probability exceeds u (in [0,1)). */
uint32_t logits_draw(const float *logits, size_t n, const struct logits_row *row, double u);

/* The same by plain loops over libm's double functions: what the others are tested against. */
struct logits_row logits_scan_ref(const float *logits, size_t n);
double logits_kld_ref(const float *reference, double reference_total, const float *logits,
                      double log_total, size_t n);

#endif
