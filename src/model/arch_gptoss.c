/* GptOssForCausalLM: experts in one tensor each, gate and up interleaved, all with biases; a sink
 * of attention for each head. In floats a row of the experts' matrices is an input, in MXFP4, whose
 * blocks run along the inputs, an output.
 *
 * Facts: conversion/gpt_oss.py of llama.cpp 0.5.0. */
#include "model/config_int.h"

#include <string.h>

#include "base/banned.h"

#define EXPERTS   ARCH_MLP "experts."
#define PICK(k)   "experts hidden ffn 2 : 0 2 3[" k ",1] 1"
#define PICK_T(k) "experts ffn 2 hidden : 0 1 2[" k ",1] 3"
#define PICK_B(k) "experts ffn 2 : 0 1 2[" k ",1]"

/* clang-format off */
#define ALL_BUT_EXPERTS                                                                            \
    ARCH_EMBEDDINGS,                                                                               \
    ARCH_T(ARCH_LAYER "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight"),               \
    ARCH_T(ARCH_LAYER "post_attention_layernorm.weight", "hidden",                                 \
           "blk.%.post_attention_norm.weight"),                                                    \
    ARCH_QK,                                                                                       \
    ARCH_VO,                                                                                       \
    ARCH_QKV_BIASES(NEED_ATTENTION_BIAS),                                                          \
    ARCH_T(ARCH_ATTN "o_proj.bias", "hidden", "blk.%.attn_output.bias",                            \
           .need = NEED_ATTENTION_BIAS),                                                           \
    ARCH_T(ARCH_ATTN "sinks", "heads", "blk.%.attn_sinks.weight"),                                 \
    ARCH_T(ARCH_MLP "router.weight", "experts hidden", "blk.%.ffn_gate_inp.weight"),               \
    ARCH_T(ARCH_MLP "router.bias", "experts", "blk.%.ffn_gate_inp.bias"),                          \
    ARCH_T(EXPERTS "gate_up_proj_bias", "experts 2*ffn", "blk.%.ffn_gate_exps.bias",               \
           .view = PICK_B("0"), .out = "experts ffn"),                                             \
    ARCH_T(EXPERTS "gate_up_proj_bias", "experts 2*ffn", "blk.%.ffn_up_exps.bias",                 \
           .view = PICK_B("1"), .out = "experts ffn"),                                             \
    ARCH_T(EXPERTS "down_proj_bias", "experts hidden", "blk.%.ffn_down_exps.bias")

static const struct arch_tensor float_tensors[] = {
    ALL_BUT_EXPERTS,
    ARCH_T(EXPERTS "gate_up_proj", "experts hidden 2*ffn", "blk.%.ffn_gate_exps.weight",
           .view = PICK("0"), .out = "experts ffn hidden"),
    ARCH_T(EXPERTS "gate_up_proj", "experts hidden 2*ffn", "blk.%.ffn_up_exps.weight",
           .view = PICK("1"), .out = "experts ffn hidden"),
    ARCH_T(EXPERTS "down_proj", "experts ffn hidden", "blk.%.ffn_down_exps.weight",
           .view = "experts ffn hidden : 0 2 1", .out = "experts hidden ffn"),
    ARCH_END,
};

static const struct arch_tensor block_tensors[] = {
    ALL_BUT_EXPERTS,
    ARCH_T(EXPERTS "gate_up_proj", "experts 2*ffn hidden", "blk.%.ffn_gate_exps.weight",
           .view = PICK_T("0"), .out = "experts ffn hidden"),
    ARCH_T(EXPERTS "gate_up_proj", "experts 2*ffn hidden", "blk.%.ffn_up_exps.weight",
           .view = PICK_T("1"), .out = "experts ffn hidden"),
    ARCH_T(EXPERTS "down_proj", "experts hidden ffn", "blk.%.ffn_down_exps.weight"),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key gptoss_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "attention.sliding_window", "!sliding_window"},
    {KEY_U32, "expert_feed_forward_length", "=ffn"},
    ARCH_KEYS_END,
};

#define COMMON .hf_name = "GptOssForCausalLM", .gguf_name = "gpt-oss", .keys = gptoss_keys

static const struct arch in_blocks = {COMMON, .tensors = block_tensors};

static int derive_gptoss(struct config *c, struct err *e)
{
    (void)e;
    const json_t *quantized = json_object_get(c->fields, "quantization_config");
    if (strcmp(json_opt_str(quantized, "quant_method", ""), "mxfp4") == 0)
        c->arch = &in_blocks;
    return 0;
}

const struct arch arch_gptoss = {
    COMMON,
    .tensors = float_tensors,
    .defaults = "{'max_position_embeddings':131072,'num_key_value_heads':8,'head_dim':64,"
                "'rms_norm_eps':1e-5,'rope_theta':150000.0,'sliding_window':128,"
                "'attention_bias':true,'num_local_experts':128,'num_experts_per_tok':4,"
                "'rope_scaling':{'rope_type':'yarn','factor':32.0,'beta_fast':32.0,'beta_slow':1.0,"
                "'original_max_position_embeddings':4096}}",
    .derive = derive_gptoss,
};
