/* DeepseekV2ForCausalLM, DeepseekV3ForCausalLM: latent attention. libllama keeps only the latent
 * in its cache: kv_b_proj is split by head into its key half, transposed, and its value half. The
 * first blocks are dense, the others have experts and shared experts. Blocks of multi-token
 * prediction at the end are left out. */
#include "model/config_int.h"

#include "base/banned.h"

/* clang-format off */
#define SHARED_FFN "moe_intermediate_size*n_shared_experts"
#define KV_B "heads*qk_nope_head_dim+heads*v_head_dim kv_lora_rank"
#define KV_B_AXES "heads qk_nope_head_dim+v_head_dim kv_lora_rank : "

static const struct arch_tensor deepseek2_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_T(ARCH_ATTN "q_proj.weight", "heads*qk_nope_head_dim+heads*qk_rope_head_dim hidden",
           "blk.%.attn_q.weight", .when = "sintra_plain_q"),
    ARCH_T(ARCH_ATTN "q_a_proj.weight", "q_lora_rank hidden", "blk.%.attn_q_a.weight",
           .when = "q_lora_rank"),
    ARCH_T(ARCH_ATTN "q_a_layernorm.weight", "q_lora_rank", "blk.%.attn_q_a_norm.weight",
           .when = "q_lora_rank"),
    ARCH_T(ARCH_ATTN "q_b_proj.weight",
           "heads*qk_nope_head_dim+heads*qk_rope_head_dim q_lora_rank", "blk.%.attn_q_b.weight",
           .when = "q_lora_rank"),
    ARCH_T(ARCH_ATTN "kv_a_proj_with_mqa.weight", "kv_lora_rank+qk_rope_head_dim hidden",
           "blk.%.attn_kv_a_mqa.weight"),
    ARCH_T(ARCH_ATTN "kv_a_layernorm.weight", "kv_lora_rank", "blk.%.attn_kv_a_norm.weight"),
    ARCH_T(ARCH_ATTN "kv_b_proj.weight", KV_B, "blk.%.attn_k_b.weight",
           .view = KV_B_AXES "0 2 1[0,qk_nope_head_dim]",
           .out = "heads kv_lora_rank qk_nope_head_dim"),
    ARCH_T(ARCH_ATTN "kv_b_proj.weight", KV_B, "blk.%.attn_v_b.weight",
           .view = KV_B_AXES "0 1[qk_nope_head_dim,v_head_dim] 2",
           .out = "heads v_head_dim kv_lora_rank"),
    ARCH_T(ARCH_ATTN "o_proj.weight", "hidden heads*v_head_dim", "blk.%.attn_output.weight"),
    ARCH_SWIGLU(NEED_DENSE),
    ARCH_EXPERTS,
    ARCH_T(ARCH_MLP "gate.e_score_correction_bias", "experts", "blk.%.exp_probs_b.bias",
           .need = NEED_NEVER),
    ARCH_T(ARCH_MLP "shared_experts.gate_proj.weight", SHARED_FFN " hidden",
           "blk.%.ffn_gate_shexp.weight", .need = NEED_MOE, .when = "n_shared_experts"),
    ARCH_T(ARCH_MLP "shared_experts.up_proj.weight", SHARED_FFN " hidden",
           "blk.%.ffn_up_shexp.weight", .need = NEED_MOE, .when = "n_shared_experts"),
    ARCH_T(ARCH_MLP "shared_experts.down_proj.weight", "hidden " SHARED_FFN,
           "blk.%.ffn_down_shexp.weight", .need = NEED_MOE, .when = "n_shared_experts"),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key deepseek2_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "leading_dense_block_count", "!first_k_dense_replace"},
    {KEY_U32, "vocab_size", "=vocab"},
    {KEY_U32, "attention.q_lora_rank", "q_lora_rank"},
    {KEY_U32, "attention.kv_lora_rank", "!kv_lora_rank"},
    {KEY_U32, "attention.key_length", "=kv_lora_rank+qk_rope_head_dim"},
    {KEY_U32, "attention.value_length", "=kv_lora_rank"},
    {KEY_U32, "attention.key_length_mla", "=qk_nope_head_dim+qk_rope_head_dim"},
    {KEY_U32, "attention.value_length_mla", "=v_head_dim"},
    {KEY_U32, "expert_feed_forward_length", "=expert_ffn"},
    {KEY_U32, "expert_shared_count", "!n_shared_experts"},
    {KEY_F32, "expert_weights_scale", "routed_scaling_factor"},
    {KEY_BOOL, "expert_weights_norm", "sintra_norm"},
    {KEY_U32, "rope.dimension_count", "=qk_rope_head_dim"},
    {KEY_F32, "rope.scaling.yarn_log_multiplier", "sintra_log_multiplier"},
    ARCH_KEYS_END,
};

/* In the cache there is one key and value for all heads: the latent and the rotary part. */
static int derive_deepseek2(struct config *c, struct err *e)
{
    int64_t rank, rope;
    if (json_need_i64(c->fields, "kv_lora_rank", c->where, &rank, e) ||
        json_need_i64(c->fields, "qk_rope_head_dim", c->where, &rope, e))
        return -1;
    if (rank < 1 || rank > 1 << 20 || rope < 2 || rope > 1 << 16 || rope % 2 != 0)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: kv_lora_rank or qk_rope_head_dim is out of range", c->where);
    bool plain = !json_is_integer(json_object_get(c->fields, "q_lora_rank"));
    json_object_set_new(c->fields, "sintra_plain_q", json_boolean(plain));
    json_object_set_new(c->fields, "head_dim", json_integer(rope));
    json_object_set_new(c->fields, "num_key_value_heads", json_integer(1));
    if (json_is_true(json_object_get(c->fields, "norm_topk_prob")))
        json_object_set_new(c->fields, "sintra_norm", json_true());
    const json_t *all = json_object_get(c->rope_object, "mscale_all_dim");
    if (json_is_number(all))
        json_object_set_new(c->fields, "sintra_log_multiplier",
                            json_real(0.1 * json_number_value(all)));
    c->kv_heads = 1;
    c->head_dim = (uint32_t)(rank + rope);
    return 0;
}

const struct arch arch_deepseek2 = {
    .hf_name = "DeepseekV2ForCausalLM",
    .gguf_name = "deepseek2",
    .tensors = deepseek2_tensors,
    .keys = deepseek2_keys,
    .defaults = "{'max_position_embeddings':2048,'rms_norm_eps':1e-6,'rope_theta':10000.0,"
                "'first_k_dense_replace':0,'kv_lora_rank':512,'q_lora_rank':1536,"
                "'n_routed_experts':64,'n_shared_experts':2,'qk_nope_head_dim':128,"
                "'qk_rope_head_dim':64,'routed_scaling_factor':1.0,'v_head_dim':128,"
                "'norm_topk_prob':false,'moe_intermediate_size':1407}",
    .derive = derive_deepseek2,
};

const struct arch arch_deepseek3 = {
    .hf_name = "DeepseekV3ForCausalLM",
    .gguf_name = "deepseek2",
    .tensors = deepseek2_tensors,
    .keys = deepseek2_keys,
    .defaults = "{'max_position_embeddings':4096,'rms_norm_eps':1e-6,'rope_theta':10000.0,"
                "'first_k_dense_replace':3,'kv_lora_rank':512,'q_lora_rank':1536,"
                "'n_routed_experts':256,'n_shared_experts':1,'qk_nope_head_dim':128,"
                "'qk_rope_head_dim':64,'routed_scaling_factor':2.5,'v_head_dim':128,'n_group':8,"
                "'topk_group':4,'num_experts_per_tok':8,'norm_topk_prob':true,"
                "'moe_intermediate_size':2048}",
    .derive = derive_deepseek2,
};
