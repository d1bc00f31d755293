/* The table of element types.
 *
 * Block sizes and ids are ggml 0.5.0's (ggml.h, ggml-common.h). The bytes of a packed block are
 * written as the sum of its fields, scales first, because a copied number drifts and a sum explains
 * itself; the unit test holds the plain numbers. Names in safetensors: the format's README. Lookups
 * refuse by answer (NULL, DT_NONE, false), because only the caller knows the file and tensor to
 * name.
 */
#include "tensor/dtype.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/banned.h"

enum { HALF = 2, K = 256 }; /* bytes of an F16 scale; elements of a super-block */

/* One row per type, and a row on one line. */
/* clang-format off */
#define ROW(id, name, st, block, bytes, gguf, quantized, encodable, importance) \
    {id, name, st, block, bytes, gguf, quantized, encodable, importance}
#define PLAIN(id, name, st, bytes, gguf) ROW(id, name, st, 1, bytes, gguf, false, false, false)
#define FLOAT(id, name, st, bytes) ROW(id, name, st, 1, bytes, true, false, true, false)
#define QUANT(id, name, block, bytes) ROW(id, name, NULL, block, bytes, true, true, true, false)
#define HUNGRY(id, name, block, bytes) ROW(id, name, NULL, block, bytes, true, true, true, true)
/* Weights in several tensors: sizes are model/'s business. */
#define PACKED(id, name) ROW(id, name, NULL, 1, 1, false, false, false, false)
#define INTERNAL(id, name, block, bytes) ROW(id, name, NULL, block, bytes, false, true, false, false)

static const struct dtype_info table[] = {
    FLOAT(DT_F32, "F32", "F32", 4),
    FLOAT(DT_F16, "F16", "F16", 2),
    FLOAT(DT_BF16, "BF16", "BF16", 2),
    QUANT(DT_Q4_0, "Q4_0", 32, HALF + 32 / 2),
    QUANT(DT_Q4_1, "Q4_1", 32, 2 * HALF + 32 / 2),
    QUANT(DT_Q5_0, "Q5_0", 32, HALF + 4 + 32 / 2),
    QUANT(DT_Q5_1, "Q5_1", 32, 2 * HALF + 4 + 32 / 2),
    QUANT(DT_Q8_0, "Q8_0", 32, HALF + 32),
    INTERNAL(DT_Q8_1, "Q8_1", 32, 2 * HALF + 32),
    QUANT(DT_Q2_K, "Q2_K", K, 2 * HALF + K / 16 + K / 4),
    QUANT(DT_Q3_K, "Q3_K", K, HALF + K / 4 + K / 8 + 12),
    QUANT(DT_Q4_K, "Q4_K", K, 2 * HALF + 12 + K / 2),
    QUANT(DT_Q5_K, "Q5_K", K, 2 * HALF + 12 + K / 2 + K / 8),
    QUANT(DT_Q6_K, "Q6_K", K, HALF + K / 16 + 3 * K / 4),
    INTERNAL(DT_Q8_K, "Q8_K", K, 4 + K + K / 16 * 2),
    HUNGRY(DT_IQ2_XXS, "IQ2_XXS", K, HALF + K / 8 * 2),
    HUNGRY(DT_IQ2_XS, "IQ2_XS", K, HALF + K / 8 * 2 + K / 32),
    QUANT(DT_IQ2_S, "IQ2_S", K, HALF + K / 4 + K / 16),
    QUANT(DT_IQ3_XXS, "IQ3_XXS", K, HALF + 3 * K / 8),
    QUANT(DT_IQ3_S, "IQ3_S", K, HALF + 13 * K / 32 + K / 64),
    HUNGRY(DT_IQ1_S, "IQ1_S", K, HALF + K / 8 + K / 16),
    QUANT(DT_IQ1_M, "IQ1_M", K, K / 8 + K / 16 + K / 32),
    QUANT(DT_IQ4_NL, "IQ4_NL", 32, HALF + 32 / 2),
    QUANT(DT_IQ4_XS, "IQ4_XS", K, HALF + 2 + K / 64 + K / 2),
    QUANT(DT_TQ1_0, "TQ1_0", K, HALF + K / 64 + (K - K / 16) / 5),
    QUANT(DT_TQ2_0, "TQ2_0", K, HALF + K / 4),
    QUANT(DT_MXFP4, "MXFP4", 32, 1 + 32 / 2),
    QUANT(DT_NVFP4, "NVFP4", 64, 64 / 16 + 64 / 2),
    QUANT(DT_Q1_0, "Q1_0", 128, HALF + 128 / 8),
    QUANT(DT_Q2_0, "Q2_0", 64, HALF + 64 / 4),
    PLAIN(DT_I8, "I8", "I8", 1, true),
    PLAIN(DT_I16, "I16", "I16", 2, true),
    PLAIN(DT_I32, "I32", "I32", 4, true),
    PLAIN(DT_I64, "I64", "I64", 8, true),
    PLAIN(DT_F64, "F64", "F64", 8, true),
    PLAIN(DT_BOOL, "BOOL", "BOOL", 1, false),
    PLAIN(DT_U8, "U8", "U8", 1, false),
    PLAIN(DT_U16, "U16", "U16", 2, false),
    PLAIN(DT_U32, "U32", "U32", 4, false),
    PLAIN(DT_U64, "U64", "U64", 8, false),
    PLAIN(DT_F8_E4M3, "F8_E4M3", "F8_E4M3", 1, false),
    PLAIN(DT_F8_E5M2, "F8_E5M2", "F8_E5M2", 1, false),
    PACKED(DT_HF_MXFP4, "HF_MXFP4"),
    PACKED(DT_GPTQ, "GPTQ"),
    PACKED(DT_AWQ, "AWQ"),
    PACKED(DT_BNB4, "BNB4"),
    PACKED(DT_BNB8, "BNB8"),
};
/* clang-format on */

enum { TABLE_ROWS = sizeof(table) / sizeof(table[0]) };

const struct dtype_info *dtype_at(int i)
{
    return i >= 0 && i < TABLE_ROWS ? &table[i] : NULL;
}

const struct dtype_info *dtype_info(enum dtype id)
{
    for (int i = 0; i < TABLE_ROWS; i++)
        if (table[i].id == id)
            return &table[i];
    return NULL;
}

enum dtype dtype_by_name(const char *name)
{
    for (int i = 0; i < TABLE_ROWS; i++)
        if (strcasecmp(table[i].name, name) == 0)
            return table[i].id;
    return DT_NONE;
}

enum dtype dtype_by_safetensors(const char *name)
{
    for (int i = 0; i < TABLE_ROWS; i++)
        if (table[i].safetensors && strcmp(table[i].safetensors, name) == 0)
            return table[i].id;
    return DT_NONE;
}

const char *dtype_name(enum dtype id)
{
    const struct dtype_info *d = dtype_info(id);
    return d ? d->name : "?";
}

bool dtype_bytes(enum dtype id, uint64_t n, uint64_t n_per_row, uint64_t *bytes)
{
    const struct dtype_info *d = dtype_info(id);
    if (!d || n_per_row == 0 || n_per_row % d->block != 0 || n % n_per_row != 0)
        return false;
    return num_mul_u64(n / d->block, d->bytes, bytes);
}
