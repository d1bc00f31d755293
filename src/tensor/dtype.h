/* THE table of element types: ggml's ids and block layouts, and safetensors' names.
 *
 * enum values below 1000 are GGUF type ids as ggml 0.5.0 writes them (ggml.h, enum ggml_type);
 * values from 1000 exist only in safetensors, those after F8_E5M2 as several tensors of one weight
 * (model/packed_int.h). Block sizes: ggml-common.h 0.5.0. To add a type: one
 * enum line, one table line in dtype.c, a static assert on its block if we encode it, a codec in
 * quant/. */
#ifndef TENSOR_DTYPE_H
#define TENSOR_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

enum dtype {
    DT_F32 = 0,
    DT_F16 = 1,
    DT_Q4_0 = 2,
    DT_Q4_1 = 3,
    DT_Q5_0 = 6,
    DT_Q5_1 = 7,
    DT_Q8_0 = 8,
    DT_Q8_1 = 9,
    DT_Q2_K = 10,
    DT_Q3_K = 11,
    DT_Q4_K = 12,
    DT_Q5_K = 13,
    DT_Q6_K = 14,
    DT_Q8_K = 15,
    DT_IQ2_XXS = 16,
    DT_IQ2_XS = 17,
    DT_IQ3_XXS = 18,
    DT_IQ1_S = 19,
    DT_IQ4_NL = 20,
    DT_IQ3_S = 21,
    DT_IQ2_S = 22,
    DT_IQ4_XS = 23,
    DT_I8 = 24,
    DT_I16 = 25,
    DT_I32 = 26,
    DT_I64 = 27,
    DT_F64 = 28,
    DT_IQ1_M = 29,
    DT_BF16 = 30,
    DT_TQ1_0 = 34,
    DT_TQ2_0 = 35,
    DT_MXFP4 = 39,
    DT_NVFP4 = 40,
    DT_Q1_0 = 41,
    DT_Q2_0 = 42,
    DT_BOOL = 1000,
    DT_U8,
    DT_U16,
    DT_U32,
    DT_U64,
    DT_F8_E4M3,
    DT_F8_E5M2,
    DT_HF_MXFP4,
    DT_GPTQ,
    DT_AWQ,
    DT_BNB4,
    DT_BNB8,
    DT_NONE = 0xffff
};

struct dtype_info {
    enum dtype id;
    const char *name;        /* "Q4_K", "BF16": as llama.cpp prints it, upper case */
    const char *safetensors; /* "BF16" or NULL */
    uint32_t block;          /* elements per block */
    uint32_t bytes;          /* bytes per block */
    bool gguf;               /* may appear in a GGUF file */
    bool quantized;          /* blocks with scales */
    bool encodable;          /* quantize can write it (floats included) */
    bool needs_importance;   /* ggml's encoder refuses it without an importance matrix */
};

const struct dtype_info *dtype_info(enum dtype id); /* NULL for unknown ids */
enum dtype dtype_by_name(const char *name);         /* any case; DT_NONE */
enum dtype dtype_by_safetensors(const char *name);  /* exact; DT_NONE */
const char *dtype_name(enum dtype id);              /* "?" for unknown */
/* Iterate the table: i from 0 until NULL. */
const struct dtype_info *dtype_at(int i);

/* Bytes of n elements in rows of n_per_row (a multiple of the block). False on overflow or bad
 * shape. */
bool dtype_bytes(enum dtype id, uint64_t n, uint64_t n_per_row, uint64_t *bytes);

#endif
