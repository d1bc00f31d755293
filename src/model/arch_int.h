/* Architectures as tables.
 *
 * To add an architecture that libllama knows:
 *   1. write src/model/arch_NAME.c: its tensors (Hugging Face name, GGUF name, shape, when it must
 *   be
 *      there, whether its rows are permuted) and its metadata keys, and one `const struct arch`;
 *   2. declare it below and put it into the list in arch.c;
 *   3. add a case to tests/interop/test_convert.py (the converter of llama.cpp is the judge) and
 *   one to
 *      tests/unit/test_model.c.
 * Facts come from conversion/ and gguf-py/gguf/tensor_mapping.py of llama.cpp 0.5.0. */
#ifndef MODEL_ARCH_INT_H
#define MODEL_ARCH_INT_H

#include "model/model_int.h"

/* A side of a tensor, as a number of config.json. */
enum arch_dim {
    DIM_NONE,
    DIM_HIDDEN, /* hidden_size */
    DIM_FFN,    /* intermediate_size */
    DIM_VOCAB,  /* vocab_size */
    DIM_Q,      /* num_attention_heads × head_dim */
    DIM_KV,     /* num_key_value_heads × head_dim */
    DIM_HEAD    /* head_dim */
};

enum arch_need {
    NEED_ALWAYS,
    NEED_HEAD,           /* unless the head is tied to the embeddings */
    NEED_ATTENTION_BIAS, /* when attention_bias is true, refused when it is false */
    NEED_MLP_BIAS        /* the same for mlp_bias */
};

enum arch_permute { PERMUTE_NONE, PERMUTE_Q, PERMUTE_KV };

struct arch_tensor {
    const char *hf, *gguf;    /* '%' stands for the number of the block */
    enum arch_dim rows, cols; /* Hugging Face shape [rows, cols]; cols DIM_NONE for vectors */
    enum arch_need need;
    enum arch_permute permute;
};

/* Rows of the tables. */
#define ARCH_MATRIX(hf, gguf, rows, cols)                                                          \
    {                                                                                              \
        hf, gguf, rows, cols, NEED_ALWAYS, PERMUTE_NONE                                            \
    }
#define ARCH_VECTOR(hf, gguf, rows)                                                                \
    {                                                                                              \
        hf, gguf, rows, DIM_NONE, NEED_ALWAYS, PERMUTE_NONE                                        \
    }
#define ARCH_END                                                                                   \
    {                                                                                              \
        NULL, NULL, DIM_NONE, DIM_NONE, NEED_ALWAYS, PERMUTE_NONE                                  \
    }

/* What every architecture here has besides Q, K and V: embeddings, norms, output projections,
 * SwiGLU. */
#define ARCH_COMMON_TENSORS                                                                        \
    ARCH_MATRIX("model.embed_tokens.weight", "token_embd.weight", DIM_VOCAB, DIM_HIDDEN),          \
        ARCH_VECTOR("model.norm.weight", "output_norm.weight", DIM_HIDDEN),                        \
        {"lm_head.weight", "output.weight", DIM_VOCAB, DIM_HIDDEN, NEED_HEAD, PERMUTE_NONE},       \
        ARCH_VECTOR(ARCH_LAYER "input_layernorm.weight", "blk.%.attn_norm.weight", DIM_HIDDEN),    \
        ARCH_VECTOR(ARCH_LAYER "post_attention_layernorm.weight", "blk.%.ffn_norm.weight",         \
                    DIM_HIDDEN),                                                                   \
        ARCH_MATRIX(ARCH_ATTN "o_proj.weight", "blk.%.attn_output.weight", DIM_HIDDEN, DIM_Q),     \
        ARCH_MATRIX(ARCH_MLP "gate_proj.weight", "blk.%.ffn_gate.weight", DIM_FFN, DIM_HIDDEN),    \
        ARCH_MATRIX(ARCH_MLP "up_proj.weight", "blk.%.ffn_up.weight", DIM_FFN, DIM_HIDDEN),        \
        ARCH_MATRIX(ARCH_MLP "down_proj.weight", "blk.%.ffn_down.weight", DIM_HIDDEN, DIM_FFN)
#define ARCH_LAYER "model.layers.%."
#define ARCH_ATTN  ARCH_LAYER "self_attn."
#define ARCH_MLP   ARCH_LAYER "mlp."

/* What a metadata key says; some write more than one key. */
enum arch_value {
    VALUE_END,
    VALUE_LAYERS,
    VALUE_CONTEXT,
    VALUE_HIDDEN,
    VALUE_FFN,
    VALUE_HEADS,
    VALUE_KV_HEADS,
    VALUE_ROPE, /* rope.scaling.*, rope.freq_base */
    VALUE_RMS_EPS,
    VALUE_HEAD_DIM, /* attention.key_length and value_length, when config.json states head_dim */
    VALUE_VOCAB,
    VALUE_ROPE_DIM
};

/* A key that only models of one vocabulary size get. */
struct arch_quirk {
    uint32_t vocab_size;
    const char *key;
    bool is_bool;
    uint32_t value;
};

struct arch {
    const char *hf_name;               /* "LlamaForCausalLM" */
    const char *gguf_name;             /* "llama" */
    const struct arch_tensor *tensors; /* ends with hf == NULL */
    const enum arch_value *keys;       /* ends with VALUE_END */
    const struct arch_quirk *quirks;   /* ends with key == NULL; may be NULL */
    /* Defaults of config.json. */
    uint32_t context;
    uint32_t kv_heads;     /* 0: as many as heads */
    uint32_t head_dim;     /* 0: hidden_size / heads */
    bool head_dim_stated;  /* the default head_dim is written as if config.json had it */
    bool space_prefix_key; /* add_prefix_space of tokenizer_config.json is written */
};

extern const struct arch arch_llama, arch_mistral, arch_qwen2, arch_qwen3;
extern const struct arch_tensor arch_llama_tensors[];
extern const enum arch_value arch_llama_keys[], arch_common_keys[];
extern const struct arch_quirk arch_llama_quirks[];

const struct arch *arch_find(const char *hf_name); /* NULL when unknown */

#endif
