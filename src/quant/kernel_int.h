/* Between quant.c and its kernels: one batch of blocks, one function per type, one table per
 * instruction set.
 *
 * A kernel encodes up to `lanes` blocks side by side. The arithmetic of a block is independent of
 * its neighbours, so putting one block into each vector lane and doing in every lane what the
 * scalar algorithm does, in the same order, vectorises the searches without changing one rounding:
 * the bytes are those of ggml_quantize_chunk (x86-64 build of ggml 0.5.0) for every variant. Unused
 * lanes repeat a used one and write nothing.
 *
 * To add a variant: lanes_NAME_int.h with the operations of lanes_ref_int.h, kernel_NAME.c that
 * includes it and encode_*_int.h, a line in dispatch.c, flags in the Makefile. To add a type: an
 * encoder in an encode_*_int.h and a line in kernel_table_int.h. */
#ifndef QUANT_KERNEL_INT_H
#define QUANT_KERNEL_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/quant.h"
#include "tensor/dtype.h"

enum { KERNEL_LANES_MAX = 16, KERNEL_TYPES = 48 };

struct kernel_batch {
    const float *x[KERNEL_LANES_MAX]; /* first weight of each block */
    const float
        *w[KERNEL_LANES_MAX]; /* importance of the same columns; unread without importance */
    float
        row_mean_square[KERNEL_LANES_MAX]; /* mean x² of the block's whole row (32-weight types) */
    uint8_t *dst[KERNEL_LANES_MAX];
    int count;                /* lanes that are real, 1..lanes */
    double squared, weighted; /* added to: squared error of the decoded blocks */
    bool infinite;            /* set when an encoded scale is not finite */
};
typedef void kernel_encode_fn(struct kernel_batch *b);

/* Consecutive blocks of consecutive rows, for the types that need no search: encoded straight from
 * the rows as they are stored (encode_plain_int.h). */
struct kernel_rows {
    const void *src;         /* any alignment */
    enum dtype stored;       /* F32, F16 or BF16 */
    const float *importance; /* of the columns of a row, or NULL; counts in `weighted` only */
    uint8_t *dst;
    uint64_t blocks, blocks_per_row;
    double squared, weighted; /* added to */
    bool unfit;               /* set when a weight or an encoded scale is not finite */
};
typedef void kernel_rows_fn(struct kernel_rows *r);

struct kernel_set {
    const char *name; /* "ref" "avx2" "avx512" "neon" */
    int lanes;
    kernel_encode_fn *plain[KERNEL_TYPES];     /* by dtype id; NULL: not in this set */
    kernel_encode_fn *important[KERNEL_TYPES]; /* with importance weights */
    kernel_rows_fn *rows[KERNEL_TYPES];        /* where there is one, instead of `plain` */
};
extern const struct kernel_set kernel_set_ref;
#if defined(__x86_64__)
extern const struct kernel_set kernel_set_avx2;
extern const struct kernel_set kernel_set_avx512;
#elif defined(__aarch64__)
extern const struct kernel_set kernel_set_neon;
#endif

/* The best set this processor runs. SINTRA_KERNELS=ref|avx2|avx512|neon asks for another, so that
 * every variant can be tested on one machine; one that cannot run here is ignored with a
 * warning. */
const struct kernel_set *kernel_set_best(void);
/* By name, or NULL when it does not exist or this processor cannot run it. */
const struct kernel_set *kernel_set_find(const char *name);

/* Can the set encode this type so? */
bool kernel_encodes(const struct kernel_set *set, enum dtype type, bool important);
/* Does it read rows as they are stored, and see by itself whether they are finite? */
bool kernel_reads_stored(const struct kernel_set *set, enum dtype type, bool important);

/* Encodes rows × n_per_row weights stored as F32, F16 or BF16; kernel_reads_stored must hold.
 * error (may be NULL) is added to; *unfit is set when a weight or an encoded scale is not
 * finite. */
void kernel_encode_stored(const struct kernel_set *set, enum dtype type, enum dtype stored,
                          const void *src, uint8_t *dst, uint64_t rows, uint64_t n_per_row,
                          const float *importance, struct quant_error *error, bool *unfit);

/* Encodes rows × n_per_row finite floats with the kernels of `set`. False, and nothing done, when
 * the set has none for this type. error (may be NULL) is added to; *infinite is set when some
 * encoded scale is not finite. */
bool kernel_encode(const struct kernel_set *set, enum dtype type, const float *src, uint8_t *dst,
                   uint64_t rows, uint64_t n_per_row, const float *importance,
                   struct quant_error *error, bool *infinite);

#endif
