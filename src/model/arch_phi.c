/* PhiForCausalLM (Phi 1.5 and 2): LayerNorm, biases everywhere, RoPE on a part of each head.
 * Phi3ForCausalLM (Phi 3, 3.5 and 4): RMSNorm, Q, K, V in one tensor, gate and up in one, both
 * kept so; long context by two lists of frequency factors. */
#include "model/config_int.h"

#include "base/banned.h"

/* clang-format off */
#define PAIR(name, rows, cols, to)                                                                 \
    ARCH_T(name ".weight", rows " " cols, to ".weight"), ARCH_T(name ".bias", rows, to ".bias")
#define LAYERNORM(name, to)                                                                        \
    ARCH_T(name ".weight", "hidden", to ".weight"), ARCH_T(name ".bias", "hidden", to ".bias")

static const struct arch_tensor phi2_tensors[] = {
    ARCH_T("model.embed_tokens.weight", "vocab hidden", "token_embd.weight"),
    LAYERNORM("model.final_layernorm", "output_norm"),
    PAIR("lm_head", "vocab", "hidden", "output"),
    LAYERNORM(ARCH_LAYER "input_layernorm", "blk.%.attn_norm"),
    PAIR(ARCH_ATTN "q_proj", "q", "hidden", "blk.%.attn_q"),
    PAIR(ARCH_ATTN "k_proj", "kv", "hidden", "blk.%.attn_k"),
    PAIR(ARCH_ATTN "v_proj", "kv", "hidden", "blk.%.attn_v"),
    PAIR(ARCH_ATTN "dense", "hidden", "q", "blk.%.attn_output"),
    PAIR(ARCH_MLP "fc1", "ffn", "hidden", "blk.%.ffn_up"),
    PAIR(ARCH_MLP "fc2", "hidden", "ffn", "blk.%.ffn_down"),
    ARCH_END,
};

static const struct arch_tensor phi3_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_T(ARCH_ATTN "qkv_proj.weight", "q+2*kv hidden", "blk.%.attn_qkv.weight"),
    ARCH_T(ARCH_ATTN "o_proj.weight", "hidden q", "blk.%.attn_output.weight"),
    ARCH_T(ARCH_MLP "gate_up_proj.weight", "2*ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(ARCH_MLP "down_proj.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key phi2_keys[] = {
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=4*hidden"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_U32, "attention.head_count_kv", "=heads"},
    {KEY_F32, "attention.layer_norm_epsilon", "!layer_norm_epsilon|layer_norm_eps"},
    {KEY_U32, "rope.dimension_count", "=rotary*hidden/heads"},
    {KEY_BOOL, "tokenizer.ggml.add_bos_token", "=0"},
    ARCH_KEYS_END,
};

static const struct arch_key phi3_keys[] = {
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "rope.scaling.original_context_length", "!original_max_position_embeddings"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=ffn"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_U32, "attention.head_count_kv", "=kv_heads"},
    {KEY_F32, "attention.layer_norm_rms_epsilon", "!rms_norm_eps"},
    {KEY_U32, "rope.dimension_count", "=rotary*hidden/heads"},
    {KEY_F32, "rope.freq_base", "!rope_theta"},
    {KEY_U32, "attention.sliding_window", "=sintra_window"},
    ARCH_KEYS_END,
};

/* No sliding window is written as 0, by which libllama tells Phi 4 from Phi 3. */
static int derive_phi3(struct config *c, struct err *e)
{
    const json_t *window = json_object_get(c->fields, "sliding_window");
    json_object_set_new(c->fields, "sintra_window",
                        json_integer(json_is_integer(window) ? json_integer_value(window) : 0));
    return rope_attention_factor(c, e);
}

const struct arch arch_phi2 = {
    .hf_name = "PhiForCausalLM",
    .gguf_name = "phi2",
    .tensors = phi2_tensors,
    .keys = phi2_keys,
    .acts = "gelu_new|gelu|gelu_pytorch_tanh|gelu_fast",
    .defaults = "{'max_position_embeddings':2048,'layer_norm_eps':1e-5,'rope_theta':10000.0,"
                "'partial_rotary_factor':0.5}",
};

const struct arch arch_phi3 = {
    .hf_name = "Phi3ForCausalLM",
    .gguf_name = "phi3",
    .tensors = phi3_tensors,
    .keys = phi3_keys,
    .defaults = "{'max_position_embeddings':4096,'original_max_position_embeddings':4096,"
                "'rms_norm_eps':1e-5,'rope_theta':10000.0,'partial_rotary_factor':1.0}",
    .derive = derive_phi3,
};
