/* MistralForCausalLM: Llama's tensors under another name; MixtralForCausalLM: the same with
 * experts. Their sliding_window is not written, as llama.cpp's converter does not write it either:
 * libllama runs these models with full attention, which is the same up to the window's length. */
#include "model/arch_int.h"

#include "base/banned.h"

const struct arch arch_mistral = {
    .hf_name = "MistralForCausalLM",
    .gguf_name = "llama",
    .tensors = arch_llama_tensors,
    .keys = arch_llama_keys,
    .quirks = arch_llama_quirks,
    .defaults = "{'max_position_embeddings':131072,'num_key_value_heads':8,'rms_norm_eps':1e-6,"
                "'rope_theta':10000.0}",
    .space_prefix_key = true,
};

#define EXPERT ARCH_LAYER "block_sparse_moe.experts.#."

/* clang-format off */
static const struct arch_tensor mixtral_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK_PAIRS,
    ARCH_VO,
    ARCH_T(ARCH_LAYER "block_sparse_moe.gate.weight", "experts hidden",
           "blk.%.ffn_gate_inp.weight"),
    ARCH_T(EXPERT "w1.weight", "ffn hidden", "blk.%.ffn_gate_exps.weight", .count = "experts",
           .group = 1),
    ARCH_T(EXPERT "w2.weight", "hidden ffn", "blk.%.ffn_down_exps.weight", .count = "experts",
           .group = 1),
    ARCH_T(EXPERT "w3.weight", "ffn hidden", "blk.%.ffn_up_exps.weight", .count = "experts",
           .group = 1),
    ARCH_END,
};
/* clang-format on */

const struct arch arch_mixtral = {
    .hf_name = "MixtralForCausalLM",
    .gguf_name = "llama",
    .tensors = mixtral_tensors,
    .keys = arch_llama_keys,
    .quirks = arch_llama_quirks,
    .defaults = "{'max_position_embeddings':131072,'num_key_value_heads':8,'rms_norm_eps':1e-5,"
                "'rope_theta':1000000.0,'num_local_experts':8,'num_experts_per_tok':2}",
    .space_prefix_key = true,
};
