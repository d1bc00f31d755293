/* config.json as numbers: what the tables of architectures and the metadata go by.
 *
 * Fields that config.json leaves out take the default of the architecture's configuration class in
 * transformers 4.57 (what llama.cpp's converter would see); fields that every real model states are
 * required. Everything is range-checked here, once. */
#ifndef MODEL_CONFIG_INT_H
#define MODEL_CONFIG_INT_H

#include "base/json.h"
#include "model/arch_int.h"
#include "model/packed_int.h"

enum config_flag { FLAG_UNSET, FLAG_NO, FLAG_YES };

enum config_rope {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_YARN,
    ROPE_SCALING_LLAMA3,
    ROPE_SCALING_LONGROPE
};

/* How the weights are stored, if not as floats (quantized.c). */
struct config_quant {
    enum packing packing;
    uint32_t block_rows, block_cols; /* FP8: of a scale; 0: the whole tensor */
    uint32_t bits, group;            /* GPTQ, AWQ; group 0: the whole row */
    uint32_t zero_add;               /* GPTQ: what a stored zero point lacks */
    bool mixed;                      /* GPTQ: bits differ by layer */
};

struct config {
    const struct arch *arch;
    json_t *fields; /* defaults, config.json and its text_config in one object; owned */
    uint32_t vocab_size, hidden, ffn, layers, heads, kv_heads, head_dim, context, experts,
        expert_ffn;
    double rope_theta, rope_theta_swa, rotary; /* 0 when not stated */
    enum config_rope rope;
    const json_t *rope_object; /* rope_parameters or rope_scaling; NULL without; part of fields */
    enum config_flag tied, attention_bias, mlp_bias;
    struct config_quant quant;
    const char *where; /* "FOLDER/config.json" */
};

/* Takes what it needs from `doc`. Release also after failure. */
int config_read(struct config *c, const json_t *doc, const char *where, struct err *e);
void config_release(struct config *c);
/* The first of the '|'-separated fields that is there; NULL when none is. */
const json_t *config_field(const struct config *c, const char *names);
bool config_is_moe(const struct config *c, uint32_t layer);

/* expr.c: see arch_int.h. `layer` −1 outside blocks. */
enum { EXPR_DIMS_MAX = 6 };
struct expr {
    const struct config *c;
    long layer;
    bool lenient; /* absent fields are 0 */
};
int expr_real(const struct expr *x, const char *text, double *out, struct err *e);
int expr_dims(const struct expr *x, const char *list, uint64_t dims[EXPR_DIMS_MAX], int *n,
              struct err *e);
/* Appends one part to `parts` for each ';'-separated piece of the view; each is a copy of `whole`
 * with its axes set. *n grows by the number of pieces. */
enum { EXPR_PIECES_MAX = 4 };
int expr_view(const struct expr *x, const char *view, const struct model_part *whole,
              struct model_part parts[EXPR_PIECES_MAX], int *n, struct err *e);

/* rope.c: metadata of RoPE scaling, and the frequency factors of llama3 scaling: head_dim/2 floats,
 * or NULL for other kinds of scaling. */
int rope_set(struct gguf_kvs *k, const struct config *c, struct err *e);
int rope_factors(const struct config *c, float *factors, struct err *e);
/* longrope: what attention is scaled by beyond the original context, as the field
 * sintra_attn_factor; and one of its two lists, `n` factors. */
int rope_attention_factor(struct config *c, struct err *e);
void rope_set_attention(struct gguf_kvs *k, const struct config *c);
int rope_list(const struct config *c, const char *key, float *factors, size_t n, struct err *e);

/* arch.c: metadata keys of the architecture, in the order of llama.cpp's converter. */
int arch_set_keys(struct gguf_kvs *k, const struct config *c, struct err *e);

/* bind.c: source tensors → GGUF tensors by the architecture's table; every one checked. */
int bind_tensors(struct model *m, const struct config *c, struct err *e);

/* vocab.c: tokenizer.ggml.* and chat templates. */
int vocab_set(struct model *m, const struct config *c, const json_t *config_doc, struct err *e);

#endif
