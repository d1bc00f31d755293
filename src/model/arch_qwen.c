/* Qwen2ForCausalLM (Qwen 1.5, 2 and 2.5), Qwen3ForCausalLM and their mixtures of experts. RoPE on
 * halves (nothing is permuted). Qwen 2 has biases on Q, K and V; Qwen 3 a norm on each head of Q
 * and K, and biases only where attention_bias asks for them. */
#include "model/arch_int.h"

#include "base/banned.h"

/* clang-format off */
#define QK_NORMS                                                                                   \
    ARCH_T(ARCH_ATTN "q_norm.weight", "head_dim", "blk.%.attn_q_norm.weight"),                     \
    ARCH_T(ARCH_ATTN "k_norm.weight", "head_dim", "blk.%.attn_k_norm.weight")

static const struct arch_tensor qwen2_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK,
    ARCH_VO,
    ARCH_QKV_BIASES(NEED_ALWAYS),
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

static const struct arch_tensor qwen2moe_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK,
    ARCH_VO,
    ARCH_QKV_BIASES(NEED_ALWAYS),
    ARCH_SWIGLU(NEED_DENSE),
    ARCH_EXPERTS,
    ARCH_T(ARCH_MLP "shared_expert_gate.weight", "1 hidden", "blk.%.ffn_gate_inp_shexp.weight",
           .need = NEED_MOE),
    ARCH_T(ARCH_MLP "shared_expert.gate_proj.weight", "shared_expert_intermediate_size hidden",
           "blk.%.ffn_gate_shexp.weight", .need = NEED_MOE),
    ARCH_T(ARCH_MLP "shared_expert.up_proj.weight", "shared_expert_intermediate_size hidden",
           "blk.%.ffn_up_shexp.weight", .need = NEED_MOE),
    ARCH_T(ARCH_MLP "shared_expert.down_proj.weight", "hidden shared_expert_intermediate_size",
           "blk.%.ffn_down_shexp.weight", .need = NEED_MOE),
    ARCH_END,
};

static const struct arch_tensor qwen3_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK,
    ARCH_VO,
    QK_NORMS,
    ARCH_QKV_BIASES(NEED_ATTENTION_BIAS),
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

static const struct arch_tensor qwen3moe_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK,
    ARCH_VO,
    QK_NORMS,
    ARCH_QKV_BIASES(NEED_ATTENTION_BIAS),
    ARCH_SWIGLU(NEED_DENSE),
    ARCH_EXPERTS,
    ARCH_END,
};
/* clang-format on */

static const struct arch_key moe_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "expert_feed_forward_length", "moe_intermediate_size"},
    {KEY_U32, "expert_shared_feed_forward_length", "shared_expert_intermediate_size"},
    ARCH_KEYS_END,
};

const struct arch arch_qwen2 = {
    .hf_name = "Qwen2ForCausalLM",
    .gguf_name = "qwen2",
    .tensors = qwen2_tensors,
    .keys = arch_base_keys,
    .defaults = "{'max_position_embeddings':32768,'num_key_value_heads':32,'rms_norm_eps':1e-6,"
                "'rope_theta':10000.0}",
};

const struct arch arch_qwen2moe = {
    .hf_name = "Qwen2MoeForCausalLM",
    .gguf_name = "qwen2moe",
    .tensors = qwen2moe_tensors,
    .keys = moe_keys,
    .defaults = "{'max_position_embeddings':32768,'num_key_value_heads':16,'rms_norm_eps':1e-6,"
                "'rope_theta':10000.0,'decoder_sparse_step':1,'moe_intermediate_size':1408,"
                "'shared_expert_intermediate_size':5632,'num_experts_per_tok':4,'num_experts':60}",
};

const struct arch arch_qwen3 = {
    .hf_name = "Qwen3ForCausalLM",
    .gguf_name = "qwen3",
    .tensors = qwen3_tensors,
    .keys = arch_base_keys,
    .defaults = "{'max_position_embeddings':32768,'num_key_value_heads':32,'head_dim':128,"
                "'rms_norm_eps':1e-6,'rope_theta':10000.0}",
    .head_dim_derived = true,
};

const struct arch arch_qwen3moe = {
    .hf_name = "Qwen3MoeForCausalLM",
    .gguf_name = "qwen3moe",
    .tensors = qwen3moe_tensors,
    .keys = moe_keys,
    .defaults = "{'max_position_embeddings':32768,'num_key_value_heads':4,'rms_norm_eps':1e-6,"
                "'rope_theta':10000.0,'decoder_sparse_step':1,'moe_intermediate_size':768,"
                "'num_experts_per_tok':8,'num_experts':128}",
};
