/* LlamaForCausalLM: Llama 1 to 3, TinyLlama, SmolLM, Yi, ... RMSNorm, RoPE on interleaved pairs
 * (hence the permuted Q and K), SwiGLU; biases and an untied head where the model has them. */
#include "model/arch_int.h"

#include "base/banned.h"

/* clang-format off */
const struct arch_tensor arch_llama_tensors[] = {
    ARCH_COMMON_TENSORS,
    {ARCH_ATTN "q_proj.weight", "blk.%.attn_q.weight", DIM_Q,  DIM_HIDDEN, NEED_ALWAYS, PERMUTE_Q},
    {ARCH_ATTN "k_proj.weight", "blk.%.attn_k.weight", DIM_KV, DIM_HIDDEN, NEED_ALWAYS, PERMUTE_KV},
    {ARCH_ATTN "v_proj.weight", "blk.%.attn_v.weight", DIM_KV, DIM_HIDDEN, NEED_ALWAYS, PERMUTE_NONE},
    {ARCH_ATTN "q_proj.bias", "blk.%.attn_q.bias", DIM_Q,  DIM_NONE, NEED_ATTENTION_BIAS, PERMUTE_Q},
    {ARCH_ATTN "k_proj.bias", "blk.%.attn_k.bias", DIM_KV, DIM_NONE, NEED_ATTENTION_BIAS, PERMUTE_KV},
    {ARCH_ATTN "v_proj.bias", "blk.%.attn_v.bias", DIM_KV, DIM_NONE, NEED_ATTENTION_BIAS, PERMUTE_NONE},
    {ARCH_ATTN "o_proj.bias", "blk.%.attn_output.bias", DIM_HIDDEN, DIM_NONE, NEED_ATTENTION_BIAS,
     PERMUTE_NONE},
    {ARCH_MLP "gate_proj.bias", "blk.%.ffn_gate.bias", DIM_FFN,    DIM_NONE, NEED_MLP_BIAS, PERMUTE_NONE},
    {ARCH_MLP "up_proj.bias",   "blk.%.ffn_up.bias",   DIM_FFN,    DIM_NONE, NEED_MLP_BIAS, PERMUTE_NONE},
    {ARCH_MLP "down_proj.bias", "blk.%.ffn_down.bias", DIM_HIDDEN, DIM_NONE, NEED_MLP_BIAS, PERMUTE_NONE},
    ARCH_END,
};
/* clang-format on */

const enum arch_value arch_llama_keys[] = {
    VALUE_LAYERS, VALUE_CONTEXT, VALUE_HIDDEN,   VALUE_FFN,   VALUE_HEADS,    VALUE_KV_HEADS,
    VALUE_ROPE,   VALUE_RMS_EPS, VALUE_HEAD_DIM, VALUE_VOCAB, VALUE_ROPE_DIM, VALUE_END,
};

/* CodeLlama's end of infill, and Granite's small models, whose tokenizer adds no BOS. */
const struct arch_quirk arch_llama_quirks[] = {
    {32016, "tokenizer.ggml.eot_token_id", false, 32010},
    {49152, "tokenizer.ggml.add_bos_token", true, 0},
    {0, NULL, false, 0},
};

const struct arch arch_llama = {
    .hf_name = "LlamaForCausalLM",
    .gguf_name = "llama",
    .tensors = arch_llama_tensors,
    .keys = arch_llama_keys,
    .quirks = arch_llama_quirks,
    .context = 2048,
    .head_dim_stated = true,
    .space_prefix_key = true,
};
