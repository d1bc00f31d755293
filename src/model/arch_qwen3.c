/* Qwen3ForCausalLM: RoPE on halves, RMSNorm on each head of Q and K, biases only where
 * attention_bias asks for them. */
#include "model/arch_int.h"

#include "base/banned.h"

static const struct arch_tensor tensors[] = {
    ARCH_COMMON_TENSORS,
    ARCH_MATRIX(ARCH_ATTN "q_proj.weight", "blk.%.attn_q.weight", DIM_Q, DIM_HIDDEN),
    ARCH_MATRIX(ARCH_ATTN "k_proj.weight", "blk.%.attn_k.weight", DIM_KV, DIM_HIDDEN),
    ARCH_MATRIX(ARCH_ATTN "v_proj.weight", "blk.%.attn_v.weight", DIM_KV, DIM_HIDDEN),
    ARCH_VECTOR(ARCH_ATTN "q_norm.weight", "blk.%.attn_q_norm.weight", DIM_HEAD),
    ARCH_VECTOR(ARCH_ATTN "k_norm.weight", "blk.%.attn_k_norm.weight", DIM_HEAD),
    {ARCH_ATTN "q_proj.bias", "blk.%.attn_q.bias", DIM_Q, DIM_NONE, NEED_ATTENTION_BIAS,
     PERMUTE_NONE},
    {ARCH_ATTN "k_proj.bias", "blk.%.attn_k.bias", DIM_KV, DIM_NONE, NEED_ATTENTION_BIAS,
     PERMUTE_NONE},
    {ARCH_ATTN "v_proj.bias", "blk.%.attn_v.bias", DIM_KV, DIM_NONE, NEED_ATTENTION_BIAS,
     PERMUTE_NONE},
    ARCH_END,
};

const struct arch arch_qwen3 = {
    .hf_name = "Qwen3ForCausalLM",
    .gguf_name = "qwen3",
    .tensors = tensors,
    .keys = arch_common_keys,
    .context = 32768,
    .kv_heads = 32,
    .head_dim = 128,
    .head_dim_stated = true,
};
