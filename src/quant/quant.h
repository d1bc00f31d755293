/* Encoders and decoders: floats ↔ blocks. Knows nothing of models, recipes or files.
 *
 * Encoders run over vector lanes (kernel_int.h); the promise is the bytes of ggml_quantize_chunk
 * (x86-64 build of ggml 0.5.0) on every processor, for any split into rows and threads. Decoders
 * (decode.c) give the floats of its to_float. To add a codec: a line in the table of quant.c, an
 * encoder, a decoder, a round-trip and an oracle test. */
#ifndef QUANT_QUANT_H
#define QUANT_QUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "tensor/dtype.h"

/* Part of cache keys: changes when any encoder's bytes change. */
#define QUANT_VERSION "ggml-0.5.0"

/* Squared error of an encode, summed: plain and weighted by importance (== plain without
 * importance). */
struct quant_error {
    double squared, weighted;
};

/* One-time tables of a type (IQ codebooks); thread-safe; call before quant_encode from many
 * threads. */
int quant_prepare(enum dtype type, struct err *e);

/* Encodes rows × n_per_row floats. importance: n_per_row weights or NULL. dst: dtype_bytes(...).
 * Refuses NaN or infinity in src and in the encoded blocks' scales (ERR_INPUT; the caller adds the
 * tensor's name). error, when not NULL, is added to. Thread-safe. F32/F16/BF16 are allowed
 * types. */
int quant_encode(enum dtype type, const float *src, void *dst, uint64_t rows, uint64_t n_per_row,
                 const float *importance, struct quant_error *error, struct err *e);

/* Does quant_encode_stored take rows stored so (F32, F16, BF16)? True of the types that need no
 * search: Q8_0, and Q4_0 Q4_1 Q5_0 Q5_1 without importance. */
bool quant_reads_stored(enum dtype type, enum dtype stored, bool important);

/* Like quant_encode, straight from rows as they are stored, at any address: the same bytes and
 * errors, read from memory once. Wants quant_reads_stored. */
int quant_encode_stored(enum dtype type, enum dtype stored, const void *src, void *dst,
                        uint64_t rows, uint64_t n_per_row, const float *importance,
                        struct quant_error *error, struct err *e);

/* One of several types of the same rows. */
struct quant_want {
    enum dtype type;
    void *dst;                /* dtype_bytes(...), or NULL: only the error is wanted */
    struct quant_error error; /* added to */
};

/* Like quant_encode, for n types at once: rows are checked and read from memory once. Rows at the
 * failing type and after may be written. */
int quant_encode_many(struct quant_want *wants, int n, const float *src, uint64_t rows,
                      uint64_t n_per_row, const float *importance, struct err *e);

/* What the inputs of a matrix say about its columns together: Σ x xᵀ = U diag(weight) Uᵀ. */
enum { QUANT_SPAN = 256 }; /* no block is longer */
struct quant_feedback {
    /* (n_per_row, span): row k of U, from the first column of its span on. Unit upper triangular;
     * nothing on or below the diagonal is read. */
    const float *factor;
    /* Columns that hear of each other's errors: n_per_row, or a multiple of QUANT_SPAN below it. */
    uint64_t span;
    const float
        *weight; /* (n_per_row), ≥ 0: what an error in the column costs after the feedback */
};
/* Like quant_encode, but every column makes up for the rounding errors of those before it (GPTQ,
 * arXiv 2210.17323): a larger squared error and a smaller one of the matrix's output. For packed
 * types; feedback->weight serves as importance. error (may be NULL) is added to: plain, and as
 * `weighted` that of the output, Σ over rows of (w − q) Σ x xᵀ (w − q)ᵀ, in units of
 * feedback->weight. */
int quant_encode_feedback(enum dtype type, const float *src, void *dst, uint64_t rows,
                          uint64_t n_per_row, const struct quant_feedback *feedback,
                          struct quant_error *error, struct err *e);

/* Blocks or plain numbers → floats. */
int quant_decode(enum dtype type, const void *src, float *dst, uint64_t rows, uint64_t n_per_row,
                 struct err *e);

/* True when every block's scales are finite (the check-tensors rule). */
bool quant_blocks_finite(enum dtype type, const void *data, uint64_t bytes);

#endif
