/* OlmoForCausalLM: norms without weights. Olmo2ForCausalLM and Olmo3ForCausalLM: norms after
 * attention and feed-forward, and on the whole of Q and K. OlmoeForCausalLM: experts. */
#include "model/arch_int.h"

#include "base/banned.h"

/* clang-format off */
static const struct arch_tensor olmo_tensors[] = {
    ARCH_T("model.embed_tokens.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_QK_PAIRS,
    ARCH_VO,
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

#define QK_NORMS                                                                                   \
    ARCH_T(ARCH_ATTN "q_norm.weight", "q", "blk.%.attn_q_norm.weight"),                            \
    ARCH_T(ARCH_ATTN "k_norm.weight", "kv", "blk.%.attn_k_norm.weight")

static const struct arch_tensor olmo2_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_T(ARCH_LAYER "post_attention_layernorm.weight", "hidden",
           "blk.%.post_attention_norm.weight"),
    ARCH_T(ARCH_LAYER "post_feedforward_layernorm.weight", "hidden",
           "blk.%.post_ffw_norm.weight"),
    ARCH_QK,
    ARCH_VO,
    QK_NORMS,
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

static const struct arch_tensor olmoe_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK,
    ARCH_VO,
    QK_NORMS,
    ARCH_EXPERTS,
    ARCH_END,
};
/* clang-format on */

static const struct arch_key olmo_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_F32, "attention.layer_norm_epsilon", "=1e-5"},
    {KEY_F32, "attention.clamp_kqv", "clip_qkv"},
    ARCH_KEYS_END,
};

static const struct arch_key olmo3_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "attention.sliding_window", "!sliding_window"},
    {KEY_SLIDING, "attention.sliding_window_pattern", NULL},
    ARCH_KEYS_END,
};

static const struct arch_key olmoe_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_F32, "attention.layer_norm_rms_epsilon", "=1e-5"},
    ARCH_KEYS_END,
};

const struct arch arch_olmo = {
    .hf_name = "OlmoForCausalLM|OLMoForCausalLM",
    .gguf_name = "olmo",
    .tensors = olmo_tensors,
    .keys = olmo_keys,
    .defaults = "{'max_position_embeddings':2048,'rope_theta':10000.0}",
};

const struct arch arch_olmo2 = {
    .hf_name = "Olmo2ForCausalLM",
    .gguf_name = "olmo2",
    .tensors = olmo2_tensors,
    .keys = arch_base_keys,
    .defaults = "{'max_position_embeddings':2048,'rope_theta':10000.0,'rms_norm_eps':1e-5}",
};

const struct arch arch_olmo3 = {
    .hf_name = "Olmo3ForCausalLM",
    .gguf_name = "olmo2",
    .tensors = olmo2_tensors,
    .keys = olmo3_keys,
    .defaults = "{'max_position_embeddings':2048,'rope_theta':10000.0,'rms_norm_eps':1e-5,"
                "'sliding_window':4096}",
    .sliding_period = 4,
};

const struct arch arch_olmoe = {
    .hf_name = "OlmoeForCausalLM",
    .gguf_name = "olmoe",
    .tensors = olmoe_tensors,
    .keys = olmoe_keys,
    .defaults = "{'max_position_embeddings':4096,'rope_theta':10000.0,'rms_norm_eps':1e-5,"
                "'num_experts':64,'num_experts_per_tok':8}",
};
