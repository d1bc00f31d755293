/* A lazy view of a language model: named tensors with role and layer, metadata as GGUF key/values.
 *
 * Sources: a Hugging Face folder (config.json + safetensors, single or sharded, + tokenizer) or a
 * GGUF file (any architecture; split files too). Whatever the source, names, order, shapes and
 * metadata are those that a GGUF of this model has, so a GGUF is written by streaming the rows in
 * order. Nothing is read until rows are asked for; files are mapped.
 *
 * To add an architecture: one table file src/model/arch_NAME.c (see arch_int.h) and its line in
 * arch.c. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "base/err.h"
#include "base/log.h"
#include "format/gguf.h"
#include "tensor/cache.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

/* What a tensor is for; the fusion groups and stock mixes go by it. */
enum model_role {
    ROLE_OTHER,
    ROLE_TOKEN_EMBD,
    ROLE_OUTPUT,
    ROLE_NORM,
    ROLE_BIAS,
    ROLE_ATTN_Q,
    ROLE_ATTN_K,
    ROLE_ATTN_V,
    ROLE_ATTN_QKV,
    ROLE_ATTN_KV_B,
    ROLE_ATTN_OUTPUT,
    ROLE_FFN_GATE,
    ROLE_FFN_UP,
    ROLE_FFN_DOWN,
    ROLE_ROUTER,
    ROLE_ROPE
};
enum model_role model_role_of(const char *gguf_name);
const char *model_role_name(enum model_role role);
int model_layer_of(const char *gguf_name); /* "blk.7.x" → 7, else −1 */

struct model_tensor {
    const char *name; /* GGUF name */
    enum model_role role;
    int layer;            /* −1 outside blocks */
    enum dtype dtype;     /* of the source */
    struct shape shape;   /* GGUF order */
    enum dtype dtype_min; /* F32 when convention demands it (norms, biases, 1-D), else DT_NONE */
};

/* What the KV cache holds per token, values counted over all layers. */
struct model_cache {
    uint64_t k, v;           /* 0 = no cache */
    uint32_t head_k, head_v; /* of one head: what blocks of a type must divide */
    bool latent;             /* one vector stands for keys and values (MLA); v is 0 */
};

/* Facts that recipes and stock mixes need, without any weights: schema tests build it by hand. */
struct model_desc {
    const char *architecture; /* GGUF general.architecture */
    const char *name;
    uint32_t n_layer, n_head, n_head_kv, n_expert, n_embd, n_ff, n_vocab, n_ctx_train, head_dim;
    bool tied;    /* no output.weight: the head is token_embd */
    bool encoder; /* attends both ways: makes embeddings, no logits and no KV cache */
    bool
        /* head counts are per layer and 0 in layer 0: for stock mixes no grouping */
        bare_first_layer;
    struct model_cache cache;
    struct model_tensor *tensors;
    size_t n_tensors;
    uint64_t parameters; /* sum of elements */
};

struct model; /* opaque: owns maps */

/* path: Hugging Face folder or .gguf file (first of a split). Validates everything before it
 * returns: missing shard or tensor, config that contradicts tensors, unsupported architecture
 * (lists supported ones). */
int model_open(struct model **m, const char *path, struct err *e);
void model_close(struct model *m);

const struct model_desc *model_desc(const struct model *m);
/* Metadata as a GGUF conversion carries it (architecture, tokenizer, chat template, ...), without
 * general.file_type and quantization_version, which the writer of the file sets. */
const struct gguf_kvs *model_kvs(const struct model *m);
const char *model_path(const struct model *m);
uint64_t model_source_bytes(const struct model *m); /* of weight files */
bool model_is_gguf(const struct model *m);
/* True when some tensor of the source is already quantized. */
bool model_is_quantized(const struct model *m);
/* How a checkpoint stores weights that are read as floats though they were quantized ("GPTQ, 4 bits
 * in groups of 128"); NULL for floats and for a GGUF. */
const char *model_quantization(const struct model *m);
/* SHA-256 over sorted names, dtypes, shapes and all weight bytes + config (hex). Takes seconds per
 * 2 GB; progress may be NULL. */
int model_hash(struct model *m, const struct progress *p, char hex[static 65], struct err *e);

/* An error that says so when the model makes embeddings and no logits, so that nothing of it can be
 * measured. */
int model_check_generates(const struct model *m, struct err *e);

/* A few weights spread over the model: the same places whatever the source. *n is MODEL_SAMPLE, or
 * 0 for a model without matrices. */
enum { MODEL_SAMPLE = 512 };
int model_sample(const struct model *m, float out[static MODEL_SAMPLE], size_t *n, struct err *e);
/* Cosine of two samples: near 1 for one model in other types and for its fine-tunes, near 0 for
 * models that were trained apart. */
double model_sample_likeness(const float *a, const float *b, size_t n);

/* Index by GGUF name, or −1. */
int model_find(const struct model *m, const char *name);
/* Rows [row0, row0+rows) of tensor i as F32 into dst (rows × ne[0]). Rows run over all outer
 * dimensions (experts included). Applies permutations, splits, "+1" norms. Thread-safe. Errors name
 * tensor and file. Refuses NaN/infinity (ERR_INPUT) naming the tensor and the element. */
int model_rows(const struct model *m, int i, uint64_t row0, uint64_t rows, float *dst,
               struct err *e);
/* The stored bytes of those rows if they can be copied as they are into a GGUF tensor of dtype
 * (same type, no transform) and are contiguous; else NULL. Inside a matrix (ne[0] × ne[1]) rows are
 * contiguous in all of a tensor's matrices or in none. */
const void *model_rows_raw(const struct model *m, int i, enum dtype dtype, uint64_t row0,
                           uint64_t rows);
/* True when the source stores just the blocks of `dtype`, in another order of its own (MXFP4 as
 * gpt-oss is published): model_rows_blocks then moves them into the order of a GGUF, and nothing is
 * rounded. dst takes whole rows of blocks. Scales are not checked. */
bool model_has_blocks(const struct model *m, int i, enum dtype dtype);
int model_rows_blocks(const struct model *m, int i, uint64_t row0, uint64_t rows, uint8_t *dst,
                      struct err *e);
/* Hint that rows will / won't be needed (page cache, keeps RSS of mapped input low). */
void model_rows_prefetch(const struct model *m, int i, uint64_t row0, uint64_t rows);
void model_rows_forget(const struct model *m, int i, uint64_t row0, uint64_t rows);

/* For surgery/, on a model that nothing else reads yet. Keeps the tensors keep[0..n), ascending,
 * under new names, which must differ from each other; parameters are counted anew. After a failure
 * the model can only be closed. */
int model_select(struct model *m, const size_t *keep, const char *const *names, size_t n,
                 uint32_t n_layer, struct err *e);
struct gguf_kvs *model_kvs_edit(struct model *m);
/* Reads desc->cache from the metadata, after it was edited. */
void model_describe_cache(struct model *m);

/* Bytes of KV cache per token of context, 0 where there is none. */
uint64_t model_kv_bytes_per_token(const struct model_desc *d, struct cache_types t);
/* Of one sequence of so many tokens, with libllama's rounding; false on overflow. */
bool model_kv_bytes(const struct model_desc *d, struct cache_types t, uint64_t context,
                    uint64_t *bytes);
/* Can the model's cache have these types? */
int model_check_cache(const struct model_desc *d, struct cache_types t, struct err *e);

/* Hugging Face architecture names this version converts, NULL-terminated ("LlamaForCausalLM",
 * ...). */
const char *const *model_architectures(void);

/* All that llama.cpp 0.5.0 converts: first those of model_architectures, then the others, each with
 * the reason. Texts are static and not ended by NUL. */
struct model_architecture {
    const char *name; /* "LlamaForCausalLM" */
    size_t name_len;
    const char *gguf; /* "llama" */
    size_t gguf_len;
    const char *why; /* it is not converted; NULL: it is. Ended by NUL */
};
bool model_architecture_at(size_t i, struct model_architecture *a); /* false after the last */

#endif
