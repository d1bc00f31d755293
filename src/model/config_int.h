/* config.json as numbers: what the tables of architectures and the metadata go by.
 *
 * Fields that config.json leaves out take the default of the architecture's configuration class in
 * transformers 4.57 (what llama.cpp's converter would see); fields that every real model states are
 * required. Everything is range-checked here, once. */
#ifndef MODEL_CONFIG_INT_H
#define MODEL_CONFIG_INT_H

#include "base/json.h"
#include "model/arch_int.h"

enum config_flag { FLAG_UNSET, FLAG_NO, FLAG_YES };

enum config_rope { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_YARN, ROPE_SCALING_LLAMA3 };

struct config {
    const struct arch *arch;
    uint32_t vocab_size, hidden, ffn, layers, heads, kv_heads, head_dim, context;
    bool head_dim_stated; /* whether key_length and value_length are written */
    double rms_eps, rope_theta;
    enum config_rope rope;
    const json_t
        *rope_object; /* rope_parameters or rope_scaling; NULL without; owned by the document */
    enum config_flag tied, attention_bias, mlp_bias;
    const char *where; /* "FOLDER/config.json" */
};

/* `doc` must outlive the config. */
int config_read(struct config *c, const json_t *doc, const char *where, struct err *e);
uint64_t config_dim(const struct config *c, enum arch_dim dim);

/* rope.c: metadata of RoPE scaling, and the frequency factors of llama3 scaling: head_dim/2 floats,
 * or NULL for other kinds of scaling. */
int rope_set(struct gguf_kvs *k, const struct config *c, struct err *e);
int rope_factors(const struct config *c, float *factors, struct err *e);

/* arch.c: metadata keys of the architecture, in the order of llama.cpp's converter. */
int arch_set_keys(struct gguf_kvs *k, const struct config *c, struct err *e);

/* bind.c: source tensors → GGUF tensors by the architecture's table; every one checked. */
int bind_tensors(struct model *m, const struct config *c, struct err *e);

/* vocab.c: tokenizer.ggml.* and chat templates. */
int vocab_set(struct model *m, const struct config *c, const json_t *config_doc, struct err *e);

#endif
