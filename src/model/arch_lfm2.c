/* Lfm2ForCausalLM: short convolutions in most blocks, attention in some; which is which says
 * layer_types, or full_attn_idxs in older config.json.
 *
 * Facts: conversion/lfm2.py of llama.cpp 0.5.0; sizes by configuration_lfm2.py of transformers. */
#include "model/config_int.h"

#include <string.h>

#include "base/banned.h"

#define CONV ARCH_LAYER "conv."
#define FEED ARCH_LAYER "feed_forward."

/* clang-format off */
static const struct arch_tensor lfm2_tensors[] = {
    ARCH_T("model.embed_tokens.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("model.embedding_norm.weight", "hidden", "token_embd_norm.weight"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_T(ARCH_LAYER "operator_norm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(ARCH_LAYER "ffn_norm.weight", "hidden", "blk.%.ffn_norm.weight"),
    ARCH_T(FEED "w1.weight", "ffn hidden", "blk.%.ffn_gate.weight"),
    ARCH_T(FEED "w2.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    ARCH_T(FEED "w3.weight", "ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(CONV "conv.weight", "hidden 1 conv_L_cache", "blk.%.shortconv.conv.weight",
           .out = "hidden conv_L_cache", .when = "1-sintra_attention"),
    ARCH_T(CONV "in_proj.weight", "3*hidden hidden", "blk.%.shortconv.in_proj.weight",
           .when = "1-sintra_attention"),
    ARCH_T(CONV "out_proj.weight", "hidden hidden", "blk.%.shortconv.out_proj.weight",
           .when = "1-sintra_attention"),
    ARCH_T(ARCH_ATTN "q_proj.weight", "q hidden", "blk.%.attn_q.weight",
           .when = "sintra_attention"),
    ARCH_T(ARCH_ATTN "k_proj.weight", "kv hidden", "blk.%.attn_k.weight",
           .when = "sintra_attention"),
    ARCH_T(ARCH_ATTN "v_proj.weight", "kv hidden", "blk.%.attn_v.weight",
           .when = "sintra_attention"),
    ARCH_T(ARCH_ATTN "out_proj.weight", "hidden q", "blk.%.attn_output.weight",
           .when = "sintra_attention"),
    ARCH_T(ARCH_ATTN "q_layernorm.weight", "head_dim", "blk.%.attn_q_norm.weight",
           .when = "sintra_attention"),
    ARCH_T(ARCH_ATTN "k_layernorm.weight", "head_dim", "blk.%.attn_k_norm.weight",
           .when = "sintra_attention"),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key lfm2_keys[] = {
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=ffn"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_U32S, "attention.head_count_kv", "sintra_kv_heads"},
    {KEY_ROPE, NULL, NULL},
    {KEY_F32, "attention.layer_norm_rms_epsilon", "!norm_eps"},
    {KEY_U32, "vocab_size", "=vocab"},
    {KEY_U32, "shortconv.l_cache", "!conv_L_cache"},
    ARCH_KEYS_END,
};

static bool has_attention(const struct config *c, uint32_t layer)
{
    const json_t *types = json_object_get(c->fields, "layer_types");
    const json_t *indices = json_object_get(c->fields, "full_attn_idxs");
    const char *type = json_string_value(json_array_get(types, layer));
    if (json_is_array(types))
        return type && strcmp(type, "full_attention") == 0;
    for (size_t i = 0; i < json_array_size(indices); i++)
        if (json_integer_value(json_array_get(indices, i)) == (json_int_t)layer)
            return true;
    return !json_is_array(indices);
}

static int bad_size(const struct config *c, const char *what, struct err *e)
{
    return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                   "%s: %s is out of range", c->where, what);
}

/* Two thirds of what is stated, times a factor, rounded up to a multiple. */
static int adjust_ffn(struct config *c, struct err *e)
{
    double ffn = json_opt_real(c->fields, "block_ff_dim", c->ffn);
    double factor = json_opt_real(c->fields, "block_ffn_dim_multiplier", 1.0);
    int64_t multiple = json_opt_i64(c->fields, "block_multiple_of", 256);
    if (json_opt_bool(c->fields, "block_auto_adjust_ff_dim", true)) {
        if (multiple < 1 || multiple > 1 << 20 || !(factor > 0 && factor < 64) || !(ffn < 1 << 24))
            return bad_size(c, "block_multiple_of or block_ffn_dim_multiplier", e);
        int64_t size = (int64_t)(factor * (double)(int64_t)(2 * ffn / 3));
        ffn = (double)((size + multiple - 1) / multiple * multiple);
    }
    if (!(ffn >= 1 && ffn < 1 << 24))
        return bad_size(c, "block_ff_dim", e);
    c->ffn = (uint32_t)ffn;
    return 0;
}

static int derive_lfm2(struct config *c, struct err *e)
{
    json_t *attention = json_array(), *heads = json_array();
    for (uint32_t i = 0; i < c->layers; i++) {
        bool yes = has_attention(c, i);
        json_array_append_new(attention, json_integer(yes));
        json_array_append_new(heads, json_integer(yes ? c->kv_heads : 0));
    }
    json_object_set_new(c->fields, "sintra_attention", attention);
    json_object_set_new(c->fields, "sintra_kv_heads", heads);
    if (json_is_true(json_object_get(c->fields, "conv_bias")))
        return err_set(e, ERR_UNSUPPORTED, "libllama's short convolution has no biases",
                       "%s: conv_bias is true, which cannot be converted", c->where);
    return adjust_ffn(c, e);
}

const struct arch arch_lfm2 = {
    .hf_name = "Lfm2ForCausalLM|LFM2ForCausalLM",
    .gguf_name = "lfm2",
    .tensors = lfm2_tensors,
    .keys = lfm2_keys,
    .defaults = "{'max_position_embeddings':128000,'num_key_value_heads':8,'norm_eps':1e-5,"
                "'rope_theta':1000000.0,'conv_L_cache':3,'tie_word_embeddings':true,"
                "'intermediate_size':12288}",
    .derive = derive_lfm2,
};
