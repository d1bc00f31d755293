/* Small departures from architectures that have their own file: SmolLM3ForCausalLM,
 * ArceeForCausalLM, InternLM3ForCausalLM and Ernie4_5ForCausalLM (Llama), SeedOssForCausalLM
 * (Qwen 2), Exaone4ForCausalLM (OLMo 2), DeepseekForCausalLM (Llama with experts),
 * Glm4MoeForCausalLM, OpenELMForCausalLM (heads and feed-forward of another size in each block).
 */
#include "model/config_int.h"

#include "base/banned.h"

/* clang-format off */
#define HEAD_NORMS(need_)                                                                          \
    ARCH_T(ARCH_ATTN "q_norm.weight", "head_dim", "blk.%.attn_q_norm.weight", .need = need_),      \
    ARCH_T(ARCH_ATTN "k_norm.weight", "head_dim", "blk.%.attn_k_norm.weight", .need = need_)
#define SHARED_FFN "moe_intermediate_size*n_shared_experts"
#define SHARED_EXPERTS                                                                             \
    ARCH_T(ARCH_MLP "shared_experts.gate_proj.weight", SHARED_FFN " hidden",                       \
           "blk.%.ffn_gate_shexp.weight", .need = NEED_MOE, .when = "n_shared_experts"),           \
    ARCH_T(ARCH_MLP "shared_experts.up_proj.weight", SHARED_FFN " hidden",                         \
           "blk.%.ffn_up_shexp.weight", .need = NEED_MOE, .when = "n_shared_experts"),             \
    ARCH_T(ARCH_MLP "shared_experts.down_proj.weight", "hidden " SHARED_FFN,                       \
           "blk.%.ffn_down_shexp.weight", .need = NEED_MOE, .when = "n_shared_experts")

static const struct arch_tensor arcee_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK_PAIRS,
    ARCH_VO,
    ARCH_T(ARCH_MLP "up_proj.weight", "ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(ARCH_MLP "down_proj.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    ARCH_END,
};

static const struct arch_tensor ernie_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK,
    ARCH_VO,
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

static const struct arch_tensor seed_oss_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_T(ARCH_LAYER "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(ARCH_LAYER "post_attention_layernorm.weight", "hidden",
           "blk.%.post_attention_norm.weight"),
    ARCH_QK,
    ARCH_VO,
    ARCH_QKV_BIASES(NEED_ATTENTION_BIAS),
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

static const struct arch_tensor exaone4_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_T(ARCH_LAYER "post_attention_layernorm.weight", "hidden",
           "blk.%.post_attention_norm.weight"),
    ARCH_T(ARCH_LAYER "post_feedforward_layernorm.weight", "hidden",
           "blk.%.post_ffw_norm.weight"),
    ARCH_QK,
    ARCH_VO,
    HEAD_NORMS(NEED_ALWAYS),
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

static const struct arch_tensor deepseek_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK_PAIRS,
    ARCH_VO,
    ARCH_SWIGLU(NEED_DENSE),
    ARCH_EXPERTS,
    SHARED_EXPERTS,
    ARCH_END,
};

static const struct arch_tensor glm4moe_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_T(ARCH_LAYER "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(ARCH_LAYER "post_attention_layernorm.weight", "hidden",
           "blk.%.post_attention_norm.weight"),
    ARCH_QK,
    ARCH_VO,
    ARCH_QKV_BIASES(NEED_ATTENTION_BIAS),
    HEAD_NORMS(NEED_ALIKE),
    ARCH_SWIGLU(NEED_DENSE),
    ARCH_EXPERTS,
    ARCH_T(ARCH_MLP "gate.e_score_correction_bias", "experts", "blk.%.exp_probs_b.bias",
           .need = NEED_MOE),
    SHARED_EXPERTS,
    ARCH_END,
};

#define ELM "transformer.layers.%."
static const struct arch_tensor openelm_tensors[] = {
    ARCH_T("transformer.token_embeddings.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("transformer.norm.weight", "hidden", "output_norm.weight"),
    ARCH_T(ELM "attn_norm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(ELM "ffn_norm.weight", "hidden", "blk.%.ffn_norm.weight"),
    ARCH_T(ELM "attn.qkv_proj.weight",
           "num_query_heads*head_dim+2*num_kv_heads*head_dim hidden", "blk.%.attn_qkv.weight"),
    ARCH_T(ELM "attn.q_norm.weight", "head_dim", "blk.%.attn_q_norm.weight"),
    ARCH_T(ELM "attn.k_norm.weight", "head_dim", "blk.%.attn_k_norm.weight"),
    ARCH_T(ELM "attn.out_proj.weight", "hidden num_query_heads*head_dim",
           "blk.%.attn_output.weight"),
    ARCH_T(ELM "ffn.proj_1.weight", "2*sintra_ffn hidden", "blk.%.ffn_gate.weight",
           .view = "2 sintra_ffn hidden : 0[0,1] 1 2", .out = "sintra_ffn hidden"),
    ARCH_T(ELM "ffn.proj_1.weight", "2*sintra_ffn hidden", "blk.%.ffn_up.weight",
           .view = "2 sintra_ffn hidden : 0[1,1] 1 2", .out = "sintra_ffn hidden"),
    ARCH_T(ELM "ffn.proj_2.weight", "hidden sintra_ffn", "blk.%.ffn_down.weight"),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key exaone4_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "vocab_size", "=vocab"},
    {KEY_U32, "attention.sliding_window", "sliding_window"},
    {KEY_SLIDING, "attention.sliding_window_pattern", NULL},
    ARCH_KEYS_END,
};

static const struct arch_key deepseek_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "rope.dimension_count", "=head_dim"},
    {KEY_TEXT, "rope.scaling.type", "none"},
    {KEY_U32, "leading_dense_block_count", "!first_k_dense_replace"},
    {KEY_U32, "vocab_size", "=vocab"},
    {KEY_U32, "expert_feed_forward_length", "=expert_ffn"},
    {KEY_F32, "expert_weights_scale", "=1"},
    {KEY_U32, "expert_shared_count", "!n_shared_experts"},
    ARCH_KEYS_END,
};

static const struct arch_key glm4moe_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "rope.dimension_count", "=rotary*head_dim"},
    {KEY_U32, "expert_feed_forward_length", "=expert_ffn"},
    {KEY_U32, "expert_shared_count", "n_shared_experts"},
    {KEY_U32, "leading_dense_block_count", "first_k_dense_replace"},
    {KEY_U32, "expert_gating_func", "=2"}, /* sigmoid */
    {KEY_F32, "expert_weights_scale", "routed_scaling_factor"},
    {KEY_BOOL, "expert_weights_norm", "norm_topk_prob"},
    ARCH_KEYS_END,
};

static const struct arch_key openelm_keys[] = {
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32S, "feed_forward_length", "sintra_ffn"},
    {KEY_U32S, "attention.head_count", "num_query_heads"},
    {KEY_U32S, "attention.head_count_kv", "num_kv_heads"},
    {KEY_F32, "rope.freq_base", "!rope_freq_constant"},
    {KEY_F32, "attention.layer_norm_rms_epsilon", "=1e-6"},
    {KEY_U32, "rope.dimension_count", "=head_dim"},
    {KEY_U32, "attention.key_length", "=head_dim"},
    {KEY_U32, "attention.value_length", "=head_dim"},
    ARCH_KEYS_END,
};

/* Feed-forward sizes are multiples of a divisor, not more than a tenth below what the multipliers
 * say (configuration_openelm.py). */
static int derive_openelm(struct config *c, struct err *e)
{
    const json_t *factors = json_object_get(c->fields, "ffn_multipliers");
    int64_t divisor = json_opt_i64(c->fields, "ffn_dim_divisor", 256);
    json_t *sizes = json_array();
    json_object_set_new(c->fields, "sintra_ffn", sizes);
    if (json_array_size(factors) != c->layers || divisor < 1 || divisor > 1 << 20)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: ffn_multipliers is not a list of %u numbers, or ffn_dim_divisor is out "
                       "of range",
                       c->where, c->layers);
    for (uint32_t i = 0; i < c->layers; i++) {
        double want = json_number_value(json_array_get(factors, i)) * c->hidden;
        if (!(want > 0 && want < 1 << 24))
            return err_set(e, ERR_INPUT, NULL, "%s: number %u of ffn_multipliers is out of range",
                           c->where, i);
        int64_t size = (int64_t)(want + (double)divisor / 2) / divisor * divisor;
        size = size < divisor ? divisor : size;
        size += (double)size < 0.9 * want ? divisor : 0;
        json_array_append_new(sizes, json_integer(size));
    }
    const struct expr first = {.c = c, .layer = 0};
    double heads, kv_heads, ffn;
    if (expr_real(&first, "num_query_heads", &heads, e) ||
        expr_real(&first, "num_kv_heads", &kv_heads, e) || expr_real(&first, "sintra_ffn", &ffn, e))
        return -1;
    if (heads < 1 || heads > 65536 || kv_heads < 1 || kv_heads > heads)
        return err_set(e, ERR_INPUT, NULL, "%s: num_query_heads or num_kv_heads is out of range",
                       c->where);
    c->heads = (uint32_t)heads;
    c->kv_heads = (uint32_t)kv_heads;
    c->ffn = (uint32_t)ffn;
    return 0;
}

static const struct arch_quirk glm4moe_quirks[] = {
    {0, "tokenizer.ggml.eot_token_id", false, 0, "<|user|>"},
    {0, "tokenizer.ggml.unknown_token_id", false, 0, "<|endoftext|>"},
    {0, "tokenizer.ggml.bos_token_id", false, 0, "[gMASK]"},
    {0, "tokenizer.ggml.eom_token_id", false, 0, "<|observation|>"},
    {0, NULL, false, 0, NULL},
};

const struct arch arch_smollm3 = {
    .hf_name = "SmolLM3ForCausalLM",
    .gguf_name = "smollm3",
    .tensors = arch_llama_tensors,
    .keys = arch_llama_keys,
    .defaults = "{'max_position_embeddings':32768,'num_key_value_heads':4,'rms_norm_eps':1e-6,"
                "'rope_theta':2000000.0,'tie_word_embeddings':true}",
    .space_prefix_key = true,
};

/* Pairs of rotation lie side by side already. */
const struct arch arch_ernie = {
    .hf_name = "Ernie4_5ForCausalLM|Ernie4_5_ForCausalLM",
    .gguf_name = "ernie4_5",
    .tensors = ernie_tensors,
    .keys = arch_base_keys,
    .defaults = "{'max_position_embeddings':131072,'num_key_value_heads':2,'head_dim':128,"
                "'rms_norm_eps':1e-5,'rope_theta':500000.0,'tie_word_embeddings':true}",
    .space_prefix_key = true,
};

/* Its chat ends turns as InternLM 2's does. */
static const struct arch_quirk internlm3_quirks[] = {
    {0, "tokenizer.ggml.eos_token_id", false, 1, "<|im_end|>"},
    {0, NULL, false, 0, NULL},
};

const struct arch arch_internlm3 = {
    .hf_name = "InternLM3ForCausalLM",
    .gguf_name = "llama",
    .tensors = arch_llama_tensors,
    .keys = arch_llama_keys,
    .quirks = internlm3_quirks,
    .defaults = "{'max_position_embeddings':32768,'num_key_value_heads':2,'rms_norm_eps':1e-6,"
                "'rope_theta':10000.0}",
    .space_prefix_key = true,
};

const struct arch arch_arcee = {
    .hf_name = "ArceeForCausalLM",
    .gguf_name = "arcee",
    .tensors = arcee_tensors,
    .keys = arch_llama_keys,
    .acts = "relu2",
    .defaults = "{'max_position_embeddings':4096,'rms_norm_eps':1e-5,'rope_theta':10000.0}",
    .head_dim_derived = true,
    .space_prefix_key = true,
};

const struct arch arch_seed_oss = {
    .hf_name = "SeedOssForCausalLM",
    .gguf_name = "seed_oss",
    .tensors = seed_oss_tensors,
    .keys = arch_base_keys,
    .defaults = "{'max_position_embeddings':524288,'num_key_value_heads':8,'head_dim':128,"
                "'rms_norm_eps':1e-6,'rope_theta':10000.0,'attention_bias':true}",
};

const struct arch arch_exaone4 = {
    .hf_name = "Exaone4ForCausalLM",
    .gguf_name = "exaone4",
    .tensors = exaone4_tensors,
    .keys = exaone4_keys,
    .defaults = "{'max_position_embeddings':2048,'rms_norm_eps':1e-5,'rope_theta':10000.0,"
                "'sliding_window':4096}",
    .sliding_period = 4,
};

const struct arch arch_deepseek = {
    .hf_name = "DeepseekForCausalLM",
    .gguf_name = "deepseek",
    .tensors = deepseek_tensors,
    .keys = deepseek_keys,
    .defaults = "{'max_position_embeddings':4096,'rms_norm_eps':1e-6,'first_k_dense_replace':0}",
};

const struct arch arch_glm4moe = {
    .hf_name = "Glm4MoeForCausalLM",
    .gguf_name = "glm4moe",
    .tensors = glm4moe_tensors,
    .keys = glm4moe_keys,
    .quirks = glm4moe_quirks,
    .defaults = "{'max_position_embeddings':131072,'num_key_value_heads':8,'rms_norm_eps':1e-5,"
                "'rope_theta':10000.0,'partial_rotary_factor':0.5,'moe_intermediate_size':1408,"
                "'num_experts_per_tok':8,'n_group':1,'topk_group':1,'n_shared_experts':1,"
                "'n_routed_experts':128,'routed_scaling_factor':1.0,'first_k_dense_replace':1,"
                "'norm_topk_prob':true}",
};

const struct arch arch_openelm = {
    .hf_name = "OpenELMForCausalLM",
    .gguf_name = "openelm",
    .tensors = openelm_tensors,
    .keys = openelm_keys,
    .by_layer = true,
    .defaults = "{'num_attention_heads':1,'intermediate_size':1,'max_context_length':2048,"
                "'rope_freq_constant':10000,'tie_word_embeddings':true}",
    .derive = derive_openelm,
};
