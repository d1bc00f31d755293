/* Shared by the gguf_*.c files: limits of the validator, in one place, and the kvs' inner workings.
 */
#ifndef FORMAT_GGUF_INT_H
#define FORMAT_GGUF_INT_H

#include "format/gguf.h"

/* docs/validator.md lists these; a file beyond them is refused even if a parser could cope. */
#define GGUF_HEADER_BYTES_MAX (256ull << 20)
#define GGUF_STRING_BYTES_MAX (64ull << 20)
#define GGUF_ARRAY_COUNT_MAX  (1ull << 24)
#define GGUF_DIMENSION_MAX    (1ull << 40)
enum {
    GGUF_ALIGNMENT_DEFAULT = 32,
    GGUF_ALIGNMENT_MIN = 8,
    GGUF_ALIGNMENT_MAX = 65536,
    GGUF_SPLITS_MAX = 1024,
    GGUF_LAYERS_MAX = 512,   /* fixed arrays of libllama 0.5.0 */
    GGUF_EXPERTS_MAX = 1024, /* the same */
    GGUF_HEADS_MAX = 65536,
    GGUF_CONTEXT_MAX = 1 << 24,
    GGUF_TOKEN_BYTES_MAX = 65535
};

static inline bool gguf_alignment_valid(uint64_t a)
{
    return a >= GGUF_ALIGNMENT_MIN && a <= GGUF_ALIGNMENT_MAX && (a & (a - 1)) == 0;
}

/* Appends a value whose pointers already live as long as the kvs. False when the key is there. */
bool gguf_kvs_append(struct gguf_kvs *k, const struct gguf_kv *kv);
/* Fills the scalar of kv (type set, not string or array) from its little-endian bytes. */
void gguf_kv_load_scalar(struct gguf_kv *kv, const void *bytes);
/* Element i of an array of numbers as integer or real; false for other arrays or when negative. */
bool gguf_array_u64(const struct gguf_kv *kv, uint64_t i, uint64_t *v);

/* Points 10 and 11 on an opened container. */
int gguf_check_model(const struct gguf *g, struct err *e);

#endif
