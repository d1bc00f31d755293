/* MistralForCausalLM: Llama's tensors under another name. Its sliding_window is not written, as
 * llama.cpp's converter does not write it either: libllama runs these models with full attention,
 * which is the same up to the window's length. */
#include "model/arch_int.h"

#include "base/banned.h"

const struct arch arch_mistral = {
    .hf_name = "MistralForCausalLM",
    .gguf_name = "llama",
    .tensors = arch_llama_tensors,
    .keys = arch_llama_keys,
    .quirks = arch_llama_quirks,
    .context = 131072,
    .kv_heads = 8,
    .space_prefix_key = true,
};
