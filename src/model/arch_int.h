/* Architectures as tables.
 *
 * To add an architecture that libllama knows:
 *   1. write src/model/arch_NAME.c: its tensors (Hugging Face name, shape, GGUF name, what happens
 *      on the way) and its metadata keys, and one `const struct arch`;
 *   2. declare it below and put it into the list in arch.c;
 *   3. add a case to tests/interop/architectures.py: the converter of llama.cpp is the judge.
 * Facts come from conversion/ and gguf-py/gguf/tensor_mapping.py of llama.cpp 0.5.0, defaults from
 * the configuration classes of transformers 4.57.6.
 *
 * Shapes and numbers are expressions (expr.c): integers, + - * / from left to right with the usual
 * precedence, no spaces. A name is one of
 *   vocab hidden ffn layers heads kv_heads head_dim context rotary  numbers of config.json
 *   q kv group              heads*head_dim, kv_heads*head_dim, heads/kv_heads
 *   experts expert_ffn      0 and ffn in models without experts
 * or any field of config.json; of a field that is a list the element of the block counts.
 *
 * A view says how a stored tensor is read when it is not just copied: the stored elements as axes,
 * and the axes in the order in which the GGUF has them, the last one being a row. "[from,count]"
 * takes a part of an axis, ";" appends. So "heads 2 head_dim/2 hidden : 0 2 1 3" interleaves the
 * halves of each head, "hidden q : 1 0" transposes, "2 ffn hidden : 0[1,1] 1 2" is the lower
 * half. Nothing is copied for it; rows.c reads through it. */
#ifndef MODEL_ARCH_INT_H
#define MODEL_ARCH_INT_H

#include "model/model_int.h"

enum arch_need {
    NEED_ALWAYS,
    NEED_HEAD,           /* unless the head is tied to the embeddings */
    NEED_ATTENTION_BIAS, /* when attention_bias is true, refused when it is false */
    NEED_MLP_BIAS,       /* the same for mlp_bias */
    NEED_ALIKE,          /* in all blocks or in none */
    NEED_DENSE,          /* in blocks without experts */
    NEED_MOE,            /* in blocks with experts */
    NEED_NEVER           /* may be there */
};

struct arch_tensor {
    /* Stored name; '%' is the block, '#' the member of a stack. Rows that follow each other with
     * the same name are several results of one tensor. */
    const char *hf;
    const char *shape; /* as stored, outermost first; expressions with spaces between */
    const char *gguf;  /* '%' is the block; NULL: the tensor is not part of a GGUF */
    const char *view;  /* NULL: as stored */
    const char *out;   /* shape of the result; NULL: as stored (in a stack: of one member) */
    const char *count; /* members of a stack, which becomes the outermost dimension */
    int group;         /* stacks of one group (> 0) are written when the last of all is there */
    enum arch_need need;
    const char *when; /* needed only where this expression is not 0; fields left out are 0 */
    enum model_math math;
};

#define ARCH_T(name, dims, to, ...)                                                                \
    {                                                                                              \
        .hf = name, .shape = dims, .gguf = to, __VA_ARGS__                                         \
    }
#define ARCH_END                                                                                   \
    {                                                                                              \
        .hf = NULL                                                                                 \
    }

#define ARCH_LAYER "model.layers.%."
#define ARCH_ATTN  ARCH_LAYER "self_attn."
#define ARCH_MLP   ARCH_LAYER "mlp."

/* The halves of rotary pairs next to each other, as libllama's "norm" RoPE wants them. */
#define ARCH_PAIRS_Q      "heads 2 head_dim/2 hidden : 0 2 1 3"
#define ARCH_PAIRS_K      "kv_heads 2 head_dim/2 hidden : 0 2 1 3"
#define ARCH_PAIRS_Q_BIAS "heads 2 head_dim/2 : 0 2 1"
#define ARCH_PAIRS_K_BIAS "kv_heads 2 head_dim/2 : 0 2 1"
/* Per head q, k, v → all q, all k, all v. */
#define ARCH_UNMIX      "heads 3 head_dim hidden : 1 0 2 3"
#define ARCH_UNMIX_BIAS "heads 3 head_dim : 1 0 2"

/* clang-format off */
#define ARCH_EMBEDDINGS                                                                            \
    ARCH_T("model.embed_tokens.weight", "vocab hidden", "token_embd.weight"),                      \
    ARCH_T("model.norm.weight", "hidden", "output_norm.weight"),                                   \
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD)
#define ARCH_NORMS                                                                                 \
    ARCH_T(ARCH_LAYER "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight"),               \
    ARCH_T(ARCH_LAYER "post_attention_layernorm.weight", "hidden", "blk.%.ffn_norm.weight")
#define ARCH_QK                                                                                    \
    ARCH_T(ARCH_ATTN "q_proj.weight", "q hidden", "blk.%.attn_q.weight"),                          \
    ARCH_T(ARCH_ATTN "k_proj.weight", "kv hidden", "blk.%.attn_k.weight")
#define ARCH_QK_PAIRS                                                                              \
    ARCH_T(ARCH_ATTN "q_proj.weight", "q hidden", "blk.%.attn_q.weight", .view = ARCH_PAIRS_Q),    \
    ARCH_T(ARCH_ATTN "k_proj.weight", "kv hidden", "blk.%.attn_k.weight", .view = ARCH_PAIRS_K)
#define ARCH_VO                                                                                    \
    ARCH_T(ARCH_ATTN "v_proj.weight", "kv hidden", "blk.%.attn_v.weight"),                         \
    ARCH_T(ARCH_ATTN "o_proj.weight", "hidden q", "blk.%.attn_output.weight")
#define ARCH_QKV_BIASES(when)                                                                      \
    ARCH_T(ARCH_ATTN "q_proj.bias", "q", "blk.%.attn_q.bias", .need = when),                       \
    ARCH_T(ARCH_ATTN "k_proj.bias", "kv", "blk.%.attn_k.bias", .need = when),                      \
    ARCH_T(ARCH_ATTN "v_proj.bias", "kv", "blk.%.attn_v.bias", .need = when)
#define ARCH_SWIGLU(when)                                                                          \
    ARCH_T(ARCH_MLP "gate_proj.weight", "ffn hidden", "blk.%.ffn_gate.weight", .need = when),      \
    ARCH_T(ARCH_MLP "up_proj.weight", "ffn hidden", "blk.%.ffn_up.weight", .need = when),          \
    ARCH_T(ARCH_MLP "down_proj.weight", "hidden ffn", "blk.%.ffn_down.weight", .need = when)
/* One tensor per expert; the order is that in which llama.cpp's converter writes the stacks. */
#define ARCH_EXPERTS                                                                               \
    ARCH_T(ARCH_MLP "gate.weight", "experts hidden", "blk.%.ffn_gate_inp.weight",                  \
           .need = NEED_MOE),                                                                      \
    ARCH_T(ARCH_MLP "experts.#.down_proj.weight", "hidden expert_ffn",                             \
           "blk.%.ffn_down_exps.weight", .need = NEED_MOE, .count = "experts", .group = 1),        \
    ARCH_T(ARCH_MLP "experts.#.gate_proj.weight", "expert_ffn hidden",                             \
           "blk.%.ffn_gate_exps.weight", .need = NEED_MOE, .count = "experts", .group = 1),        \
    ARCH_T(ARCH_MLP "experts.#.up_proj.weight", "expert_ffn hidden",                               \
           "blk.%.ffn_up_exps.weight", .need = NEED_MOE, .count = "experts", .group = 1)
/* clang-format on */

/* ---- metadata ---- */

enum arch_key_type {
    KEY_END,
    KEY_U32,
    KEY_F32,
    KEY_BOOL,
    KEY_TEXT,   /* `from` is the text */
    KEY_U32S,   /* one per block */
    KEY_ROPE,   /* rope.scaling.* and rope.freq_base */
    KEY_LABELS, /* texts of an object with the keys "0", "1", ... */
    KEY_SLIDING /* a flag per block: does layer_types say "sliding_attention"? */
};

/* `from`: "=EXPRESSION", or fields of config.json with '|' between, of which the first that is
 * there counts; a key is left out when there is none or it is null, after '!' that is an error.
 * `suffix` follows the architecture's name; a key with "tokenizer." stands for itself. */
struct arch_key {
    enum arch_key_type type;
    const char *suffix, *from;
};

/* set_gguf_parameters of conversion/base.py. */
/* clang-format off */
#define ARCH_BASE_KEYS                                                                             \
    {KEY_U32, "block_count", "=layers"},                                                           \
    {KEY_U32, "context_length", "max_position_embeddings|n_ctx|n_positions|max_length|"            \
                                "max_sequence_length|model_max_length"},                           \
    {KEY_U32, "embedding_length", "hidden_size|n_embd|dim"},                                       \
    {KEY_U32, "feed_forward_length", "dense_intermediate_size|intermediate_size|n_inner|"          \
                                     "hidden_dim"},                                                \
    {KEY_U32, "attention.head_count", "num_attention_heads|n_head|n_heads"},                       \
    {KEY_U32, "attention.head_count_kv", "num_key_value_heads|n_kv_heads"},                        \
    {KEY_ROPE, NULL, NULL},                                                                        \
    {KEY_F32, "attention.layer_norm_rms_epsilon", "rms_norm_eps|norm_eps"},                        \
    {KEY_F32, "attention.layer_norm_epsilon",                                                      \
     "layer_norm_eps|layer_norm_epsilon|norm_epsilon"},                                            \
    {KEY_U32, "expert_count", "num_local_experts|num_experts|n_routed_experts"},                   \
    {KEY_U32, "expert_used_count", "num_experts_per_tok|num_experts_per_token|top_k_experts"},     \
    {KEY_U32, "expert_group_count", "n_group"},                                                    \
    {KEY_U32, "expert_group_used_count", "topk_group"},                                            \
    {KEY_U32, "expert_gating_func", "sintra_gating"},                                              \
    {KEY_U32, "attention.key_length", "head_dim"},                                                 \
    {KEY_U32, "attention.value_length", "head_dim"}
#define ARCH_KEYS_END {KEY_END, NULL, NULL}
/* clang-format on */

/* A key that only models of one vocabulary size get; 0: of any. With a text it is the id of that
 * token, if the model has it, and unless the value is 1 only where there is no such key yet. */
struct arch_quirk {
    uint32_t vocab_size;
    const char *key;
    bool is_bool;
    uint32_t value;
    const char *text;
};

struct config;

struct arch {
    const char *hf_name;               /* "LlamaForCausalLM"; '|' between several */
    const char *gguf_name;             /* "llama" */
    const struct arch_tensor *tensors; /* ends with hf == NULL */
    const struct arch_key *keys;       /* ends with KEY_END */
    const struct arch_quirk *quirks;   /* ends with key == NULL; may be NULL */
    /* What config.json may leave out, as a JSON object with ' for ". */
    const char *defaults;
    const char *acts;        /* activations that libllama has for it; NULL: silu */
    const char *strip;       /* beginnings of stored names that may be missing, '|' between */
    bool head_dim_derived;   /* head_dim counts as a field though config.json has none */
    bool ffn_derived;        /* intermediate_size left out or null is 4 × hidden */
    bool bare;               /* no attention at all */
    bool encoder;            /* attends both ways: makes embeddings, generates nothing */
    bool by_layer;           /* heads and sizes may be lists of one number per block */
    uint32_t sliding_period; /* without layer_types every so manieth block sees everything */
    bool space_prefix_key;   /* add_prefix_space of tokenizer_config.json is written */
    /* Fields that follow from others by more than an expression. May be NULL. */
    int (*derive)(struct config *c, struct err *e);
};

extern const struct arch_tensor arch_llama_tensors[];
extern const struct arch_key arch_llama_keys[], arch_base_keys[];
extern const struct arch_quirk arch_llama_quirks[];

const struct arch *arch_find(const char *hf_name); /* NULL when unknown */

/* An architecture that llama.cpp's converter knows and that has no table here. */
struct arch_unsupported {
    const char *name, *gguf; /* parts of a longer text */
    size_t name_len, gguf_len;
    const char *why;
};
bool arch_unsupported_at(size_t i, struct arch_unsupported *u); /* false after the last */
bool arch_unsupported_find(const char *hf_name, struct arch_unsupported *u);

#endif
