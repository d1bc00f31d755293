/* Weights that a checkpoint stores quantized, read as the floats they stand for.
 *
 * To a table of an architecture such a tensor is the float matrix it was made of: [out, in], or
 * whatever shape the table states. Here is what lies in the file instead: codes, and beside them,
 * in tensors of their own, scales, zero points and tables. Nothing is unpacked ahead: a run of
 * elements is computed when it is asked for, whatever the view of the table.
 *
 * Layouts: FP8 as DeepSeek V3 publishes it; MXFP4 (OCP Microscaling Formats 1.0) as transformers'
 * integration of gpt-oss stores it; GPTQ and AWQ as AutoGPTQ, GPTQModel and AutoAWQ write them;
 * bitsandbytes' serialized 4-bit and 8-bit linear layers. docs/conversion.md has the formulas.
 *
 * To add one: a row in quantized.c (what config.json says), in packed_open.c (which tensors there
 * must be) and in packed.c (how a run is computed). */
#ifndef MODEL_PACKED_INT_H
#define MODEL_PACKED_INT_H

#include "model/model_int.h"

struct config;
struct config_quant;

enum packing {
    PACKING_NONE,
    PACKING_FP8,
    PACKING_MXFP4,
    PACKING_GPTQ,
    PACKING_AWQ,
    PACKING_BNB4,
    PACKING_BNB8
};

/* A stored tensor beside the codes; data NULL: there is none. Its length has been checked. */
struct packed_piece {
    const uint8_t *data;
    uint64_t bytes;
    enum dtype dtype;
};

struct model_packed {
    enum packing packing;
    const uint8_t *codes;
    uint64_t rows, cols;             /* of the floats; outer dimensions are further rows */
    uint64_t block_rows, block_cols; /* FP8: what one scale is for */
    uint32_t bits;                   /* of a code: GPTQ */
    uint32_t zero_add;               /* GPTQ: what a stored zero point lacks */
    uint64_t groups, group;          /* GPTQ, AWQ: scales of a row; columns of each without index */
    uint64_t block, nested_block;    /* bitsandbytes: elements of a scale, scales of a nested one */
    float nested_offset;
    struct packed_piece scales, zeros, index, table, nested_scales, nested_table;
};

/* quantized.c: what config.json's quantization_config (or quantize_config.json) says. */
int quantized_read(struct config *c, const json_t *quantized, struct err *e);
/* "GPTQ, 4 bits in groups of 128" in `text`. */
void quantized_name(const struct config_quant *q, char text[static 96]);

/* packed_open.c. What a stored tensor is in a checkpoint of this kind: a tensor as in any other,
 * the codes of one that the table calls *name (to xfree), or something that is read with its codes.
 */
enum packed_role { PACKED_PLAIN, PACKED_CODES, PACKED_BESIDE };
enum packed_role packed_role_of(const struct model *m, const struct config *c,
                                const struct safetensors_tensor *t, char **name);
/* Finds and checks all that belongs to the codes `t` of a tensor of the shape dims[n]; *part is
 * then complete but for its view. */
int packed_open(struct model *m, const struct config *c, const struct safetensors *file,
                const struct safetensors_tensor *t, const uint64_t *dims, int n,
                struct model_part *part, struct err *e);
/* The zeros that GPTQ's tools write as biases of layers that have none. */
bool packed_is_idle_bias(const struct model *m, const struct config *c,
                         const struct safetensors *file, const struct safetensors_tensor *t);

/* packed.c: n elements from the stored element `from`, each `stride` further. Any thread. */
void packed_read(const struct model_packed *k, uint64_t from, uint64_t stride, float *dst,
                 uint64_t n);
/* n elements from the stored element `from` as blocks of DT_MXFP4: the same codes and scales in
 * GGUF's order. Both whole blocks; the weights are packed as PACKING_MXFP4. */
void packed_mxfp4_blocks(const struct model_packed *k, uint64_t from, uint64_t n, uint8_t *dst);
/* Bytes of the codes that hold the elements [from, to]. True when other elements lie between. */
bool packed_range(const struct model_packed *k, uint64_t from, uint64_t to, uint64_t *offset,
                  uint64_t *bytes);

#endif
