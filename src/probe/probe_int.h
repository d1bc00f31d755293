/* Private to probe/: encoding one tensor in memory. */
#ifndef PROBE_PROBE_INT_H
#define PROBE_PROBE_INT_H

#include "probe/probe.h"

/* Importance weights of tensor i (n_mat × n_in), or NULL; n_mat is 1 for dense tensors. An entry of
 * another shape is an error that names the tensor. */
int values_importance(const struct model_desc *d, size_t i, const struct imatrix *m,
                      const struct imatrix_entry **entry, struct err *e);
/* Encoder's weighted squared error of tensor i for each type, on a deterministic sample of its
 * rows; added to errors[k]. Types whose bytes[k] is 0 are skipped. */
int values_errors(const struct probe_job *job, size_t i, const uint64_t *bytes, double *errors,
                  struct err *e);
/* All values of tensor i, encoded as type (after row-length fallback) and decoded again. big_free
 * with *n floats. NULL with e set on failure. */
float *values_decoded(const struct probe_job *job, size_t i, enum dtype type, uint64_t *n,
                      struct err *e);

/* A KL that is zero or below by rounding is kept at this, so that ratios still order the types. */
#define PROBE_TINY 1e-9

/* Shares the KL of every set whose members lie in several layers out anew (runs.c); false = there
 * is none. probe: index of the probe type. */
bool runs_share(const struct probe_job *job, struct probe_table *t, int probe);

/* KL of the model as it is in the engine now, on as many windows as the confidence needs. */
int probe_read(const struct probe_job *job, struct stat_mean *kld, size_t *windows, struct err *e);

#endif
