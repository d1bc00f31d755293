/* Qwen2ForCausalLM: Qwen 1.5, 2 and 2.5. RoPE on halves (nothing is permuted), biases on Q, K and
 * V. */
#include "model/arch_int.h"

#include "base/banned.h"

static const struct arch_tensor tensors[] = {
    ARCH_COMMON_TENSORS,
    ARCH_MATRIX(ARCH_ATTN "q_proj.weight", "blk.%.attn_q.weight", DIM_Q, DIM_HIDDEN),
    ARCH_MATRIX(ARCH_ATTN "k_proj.weight", "blk.%.attn_k.weight", DIM_KV, DIM_HIDDEN),
    ARCH_MATRIX(ARCH_ATTN "v_proj.weight", "blk.%.attn_v.weight", DIM_KV, DIM_HIDDEN),
    ARCH_VECTOR(ARCH_ATTN "q_proj.bias", "blk.%.attn_q.bias", DIM_Q),
    ARCH_VECTOR(ARCH_ATTN "k_proj.bias", "blk.%.attn_k.bias", DIM_KV),
    ARCH_VECTOR(ARCH_ATTN "v_proj.bias", "blk.%.attn_v.bias", DIM_KV),
    ARCH_END,
};

const struct arch arch_qwen2 = {
    .hf_name = "Qwen2ForCausalLM",
    .gguf_name = "qwen2",
    .tensors = tensors,
    .keys = arch_common_keys,
    .context = 32768,
    .kv_heads = 32,
};
