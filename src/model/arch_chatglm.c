/* GLM before its fourth generation: ChatGLMModel (ChatGLM 2 and 3, GLM-4-9B as its repository has
 * it: queries, keys and values in one tensor) and GlmForCausalLM (the same as transformers has it:
 * apart). Both become libllama's "chatglm".
 *
 * Facts: conversion/chatglm.py of llama.cpp 0.5.0. It takes length of context, epsilon and base of
 * the rotation from the fields of the former only; we read those of the latter too. */
#include "model/config_int.h"

#include "base/banned.h"

/* clang-format off */
#define CHATGLM "encoder.layers.%."
static const struct arch_tensor chatglm_tensors[] = {
    ARCH_T("embedding.word_embeddings.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("encoder.final_layernorm.weight", "hidden", "output_norm.weight"),
    ARCH_T("output_layer.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_T(CHATGLM "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(CHATGLM "post_attention_layernorm.weight", "hidden", "blk.%.ffn_norm.weight"),
    ARCH_T(CHATGLM "self_attention.query_key_value.weight", "q+2*kv hidden",
           "blk.%.attn_qkv.weight"),
    ARCH_T(CHATGLM "self_attention.query_key_value.bias", "q+2*kv", "blk.%.attn_qkv.bias",
           .need = NEED_ALIKE),
    ARCH_T(CHATGLM "self_attention.dense.weight", "hidden q", "blk.%.attn_output.weight"),
    ARCH_T(CHATGLM "mlp.dense_h_to_4h.weight", "2*ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(CHATGLM "mlp.dense_4h_to_h.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    ARCH_END,
};

static const struct arch_tensor glm_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK,
    ARCH_VO,
    ARCH_QKV_BIASES(NEED_ATTENTION_BIAS),
    ARCH_T(ARCH_MLP "gate_up_proj.weight", "2*ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(ARCH_MLP "down_proj.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key chatglm_keys[] = {
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=ffn"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_U32, "attention.head_count_kv", "=kv_heads"},
    {KEY_F32, "attention.layer_norm_rms_epsilon", "!layernorm_epsilon|rms_norm_eps"},
    {KEY_U32, "rope.dimension_count", "=rotary*head_dim"},
    {KEY_BOOL, "tokenizer.ggml.add_bos_token", "=0"},
    {KEY_F32, "rope.freq_base", "=rope_theta*rope_ratio"},
    ARCH_KEYS_END,
};

static const struct arch_quirk chatglm_quirks[] = {
    {0, "tokenizer.ggml.eos_token_id", false, 0, "<|endoftext|>"},
    {0, "tokenizer.ggml.eot_token_id", false, 0, "<|user|>"},
    {0, "tokenizer.ggml.unknown_token_id", false, 0, "<|endoftext|>"},
    {0, NULL, false, 0, NULL},
};

static int derive_chatglm(struct config *c, struct err *e)
{
    if (json_is_false(json_object_get(c->fields, "multi_query_attention")))
        c->kv_heads = c->heads;
    json_object_set_new(c->fields, "rope_theta", json_real(c->rope_theta));
    if (c->rope != ROPE_SCALING_NONE || c->hidden != c->heads * c->head_dim)
        return err_set(e, ERR_UNSUPPORTED, "libllama runs this architecture without either",
                       "%s: RoPE scaling, or a head_dim that is not hidden_size divided by the "
                       "heads, cannot be converted",
                       c->where);
    if (!json_is_false(json_object_get(c->fields, "rmsnorm")) &&
        !json_is_true(json_object_get(c->fields, "add_bias_linear")) &&
        !json_is_true(json_object_get(c->fields, "apply_residual_connection_post_layernorm")))
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "libllama would compute something else with this model",
                   "%s: rmsnorm false, add_bias_linear or "
                   "apply_residual_connection_post_layernorm true cannot be converted",
                   c->where);
}

const struct arch arch_chatglm = {
    .hf_name = "ChatGLMModel|ChatGLMForConditionalGeneration",
    .gguf_name = "chatglm",
    .tensors = chatglm_tensors,
    .keys = chatglm_keys,
    .quirks = chatglm_quirks,
    .defaults = "{'layernorm_epsilon':1e-5,'partial_rotary_factor':0.5,'rope_ratio':1,"
                "'rope_theta':10000.0}",
    .strip = "transformer.",
    .derive = derive_chatglm,
};

const struct arch arch_glm = {
    .hf_name = "GlmForCausalLM",
    .gguf_name = "chatglm",
    .tensors = glm_tensors,
    .keys = chatglm_keys,
    .quirks = chatglm_quirks,
    .defaults = "{'max_position_embeddings':131072,'num_key_value_heads':2,'head_dim':128,"
                "'rms_norm_eps':1.5625e-07,'rope_theta':10000.0,'partial_rotary_factor':0.5,"
                "'rope_ratio':1,'attention_bias':true}",
    .derive = derive_chatglm,
};
