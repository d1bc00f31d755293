/* Importance matrices: per tensor, per input column, the mean square of the activations that meet
 * it.
 *
 * Two file formats of llama.cpp are read: the GGUF one (general.type = "imatrix"; NAME.in_sum2 F32
 * [n_in, n_mat], NAME.counts F32 [1, n_mat]) and the legacy binary (.dat: i32 n, then per entry i32
 * name length, name, i32 ncall, i32 nval, f32 values[nval], and at the end i32 last_chunk + dataset
 * name). The GGUF one is written. Source: tools/imatrix/imatrix.cpp and common/imatrix-loader.cpp
 * of llama.cpp 0.5.0. values[j] = in_sum2/counts (what the encoders weigh with); counts 0 → all
 * ones for that matrix, as llama-quantize does, and `partial` is set. How many matrices share an
 * entry is not always known to the file: a legacy entry, and the GGUF entry of a 3-D tensor that is
 * no expert, has n_mat 1 and n_in = all values. So compare n_in·n_mat with ne[0]·ne[2]·ne[3]. */
#ifndef FORMAT_IMATRIX_H
#define FORMAT_IMATRIX_H

#include <stdbool.h>

#include "base/err.h"
#include "base/mem.h"

struct imatrix_entry {
    const char *name; /* weight tensor, e.g. "blk.0.attn_q.weight" */
    uint64_t n_in;    /* row length of the tensor, see above */
    uint64_t n_mat;   /* experts; 1 for dense */
    float *values;    /* (n_mat, n_in) mean squares, finite and not negative */
    float *counts;    /* (n_mat) activations seen; chunks for the legacy format */
};
struct imatrix {
    struct imatrix_entry *entries; /* sorted by name (bytes) */
    size_t n, capacity;
    const char **datasets;
    size_t n_datasets, datasets_capacity;
    uint32_t chunk_count, chunk_size; /* chunk_size 0 when the file does not say (legacy) */
    /* A sample of the weights of the model it was made from, NULL when the file has none. Files of
     * ours carry it as sintra.weights, which others ignore. */
    float *weights;
    size_t n_weights;
    bool partial;    /* some expert or tensor was never met */
    char sha256[65]; /* of the file read, or of the file written */
    struct arena arena;
};
int imatrix_read(struct imatrix *m, const char *path, struct err *e);
/* Sets sha256, and values to what a reader of the file will get (sums and counts are floats, so a
 * value may change in its last bit): memory and file agree afterwards. */
int imatrix_write(struct imatrix *m, const char *path, struct err *e);
/* Copies values and counts; replaces an entry of the same name. Zero-initialised m is a valid empty
 * one. */
void imatrix_add(struct imatrix *m, const char *name, uint64_t n_in, uint64_t n_mat,
                 const float *values, const float *counts);
void imatrix_set_weights(struct imatrix *m, const float *weights, size_t n); /* copies */
void imatrix_add_dataset(struct imatrix *m, const char *dataset);
const struct imatrix_entry *imatrix_find(const struct imatrix *m, const char *name);
void imatrix_release(struct imatrix *m);

#endif
