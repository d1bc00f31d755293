/* LlamaForCausalLM: Llama 1 to 3, TinyLlama, SmolLM, Yi, ... RMSNorm, RoPE on interleaved pairs
 * (hence the permuted Q and K), SwiGLU; biases and an untied head where the model has them. */
#include "model/arch_int.h"

#include "base/banned.h"

/* clang-format off */
const struct arch_tensor arch_llama_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK_PAIRS,
    ARCH_VO,
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_T(ARCH_ATTN "q_proj.bias", "q", "blk.%.attn_q.bias", .need = NEED_ATTENTION_BIAS,
           .view = ARCH_PAIRS_Q_BIAS),
    ARCH_T(ARCH_ATTN "k_proj.bias", "kv", "blk.%.attn_k.bias", .need = NEED_ATTENTION_BIAS,
           .view = ARCH_PAIRS_K_BIAS),
    ARCH_T(ARCH_ATTN "v_proj.bias", "kv", "blk.%.attn_v.bias", .need = NEED_ATTENTION_BIAS),
    ARCH_T(ARCH_ATTN "o_proj.bias", "hidden", "blk.%.attn_output.bias",
           .need = NEED_ATTENTION_BIAS),
    ARCH_T(ARCH_MLP "gate_proj.bias", "ffn", "blk.%.ffn_gate.bias", .need = NEED_MLP_BIAS),
    ARCH_T(ARCH_MLP "up_proj.bias", "ffn", "blk.%.ffn_up.bias", .need = NEED_MLP_BIAS),
    ARCH_T(ARCH_MLP "down_proj.bias", "hidden", "blk.%.ffn_down.bias", .need = NEED_MLP_BIAS),
    ARCH_END,
};
/* clang-format on */

const struct arch_key arch_llama_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "vocab_size", "=vocab"},
    {KEY_U32, "rope.dimension_count", "=head_dim"},
    ARCH_KEYS_END,
};

/* CodeLlama's end of infill, and Granite's small models, whose tokenizer adds no BOS. */
const struct arch_quirk arch_llama_quirks[] = {
    {32016, "tokenizer.ggml.eot_token_id", false, 32010, NULL},
    {49152, "tokenizer.ggml.add_bos_token", true, 0, NULL},
    {0, NULL, false, 0, NULL},
};

const struct arch arch_llama = {
    .hf_name = "LlamaForCausalLM",
    .gguf_name = "llama",
    .tensors = arch_llama_tensors,
    .keys = arch_llama_keys,
    .quirks = arch_llama_quirks,
    .defaults = "{'max_position_embeddings':2048,'rms_norm_eps':1e-6,'rope_theta':10000.0}",
    .head_dim_derived = true,
    .space_prefix_key = true,
};
