/* Architectures that share little with others: InternLM2ForCausalLM (queries, keys and values
 * mixed by group), ExaoneForCausalLM, Glm4ForCausalLM, MambaForCausalLM (no attention). */
#include "model/config_int.h"

#include "base/banned.h"

/* clang-format off */
#define INTERN "kv_heads group+2 "
static const struct arch_tensor internlm2_tensors[] = {
    ARCH_T("model.tok_embeddings.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("model.norm.weight", "hidden", "output_norm.weight"),
    ARCH_T("output.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_T(ARCH_LAYER "attention_norm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(ARCH_LAYER "ffn_norm.weight", "hidden", "blk.%.ffn_norm.weight"),
    ARCH_T(ARCH_LAYER "attention.wqkv.weight", "q+2*kv hidden", "blk.%.attn_q.weight",
           .view = INTERN "2 head_dim/2 hidden : 0 1[0,group] 3 2 4", .out = "q hidden"),
    ARCH_T(ARCH_LAYER "attention.wqkv.weight", "q+2*kv hidden", "blk.%.attn_k.weight",
           .view = INTERN "2 head_dim/2 hidden : 0 1[group,1] 3 2 4", .out = "kv hidden"),
    ARCH_T(ARCH_LAYER "attention.wqkv.weight", "q+2*kv hidden", "blk.%.attn_v.weight",
           .view = INTERN "head_dim hidden : 0 1[group+1,1] 2 3", .out = "kv hidden"),
    ARCH_T(ARCH_LAYER "attention.wo.weight", "hidden q", "blk.%.attn_output.weight"),
    ARCH_T(ARCH_LAYER "feed_forward.w1.weight", "ffn hidden", "blk.%.ffn_gate.weight"),
    ARCH_T(ARCH_LAYER "feed_forward.w3.weight", "ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(ARCH_LAYER "feed_forward.w2.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    ARCH_END,
};

#define EXAONE "transformer.h.%."
static const struct arch_tensor exaone_tensors[] = {
    ARCH_T("transformer.wte.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("transformer.ln_f.weight", "hidden", "output_norm.weight"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_T(EXAONE "ln_1.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(EXAONE "ln_2.weight", "hidden", "blk.%.ffn_norm.weight"),
    ARCH_T(EXAONE "attn.attention.q_proj.weight", "q hidden", "blk.%.attn_q.weight"),
    ARCH_T(EXAONE "attn.attention.k_proj.weight", "kv hidden", "blk.%.attn_k.weight"),
    ARCH_T(EXAONE "attn.attention.v_proj.weight", "kv hidden", "blk.%.attn_v.weight"),
    ARCH_T(EXAONE "attn.attention.out_proj.weight", "hidden q", "blk.%.attn_output.weight"),
    ARCH_T(EXAONE "mlp.c_fc_0.weight", "ffn hidden", "blk.%.ffn_gate.weight"),
    ARCH_T(EXAONE "mlp.c_fc_1.weight", "ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(EXAONE "mlp.c_proj.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    ARCH_END,
};

static const struct arch_tensor glm4_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_T(ARCH_LAYER "post_self_attn_layernorm.weight", "hidden",
           "blk.%.post_attention_norm.weight"),
    ARCH_T(ARCH_LAYER "post_mlp_layernorm.weight", "hidden", "blk.%.post_ffw_norm.weight"),
    ARCH_QK,
    ARCH_VO,
    ARCH_QKV_BIASES(NEED_ATTENTION_BIAS),
    ARCH_T(ARCH_MLP "gate_up_proj.weight", "2*ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(ARCH_MLP "down_proj.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    ARCH_END,
};

#define MAMBA "backbone.layers.%."
static const struct arch_tensor mamba_tensors[] = {
    ARCH_T("backbone.embeddings.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("backbone.norm_f.weight", "hidden", "output_norm.weight"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_T(MAMBA "norm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(MAMBA "mixer.in_proj.weight", "2*ffn hidden", "blk.%.ssm_in.weight"),
    ARCH_T(MAMBA "mixer.conv1d.weight", "ffn 1 conv_kernel", "blk.%.ssm_conv1d.weight",
           .out = "ffn conv_kernel"),
    ARCH_T(MAMBA "mixer.conv1d.bias", "ffn", "blk.%.ssm_conv1d.bias"),
    ARCH_T(MAMBA "mixer.x_proj.weight", "time_step_rank+2*state_size ffn",
           "blk.%.ssm_x.weight"),
    ARCH_T(MAMBA "mixer.dt_proj.weight", "ffn time_step_rank", "blk.%.ssm_dt.weight"),
    ARCH_T(MAMBA "mixer.dt_proj.bias", "ffn", "blk.%.ssm_dt.bias"),
    ARCH_T(MAMBA "mixer.A_log", "ffn state_size", "blk.%.ssm_a", .math = MATH_NEG_EXP),
    ARCH_T(MAMBA "mixer.D", "ffn", "blk.%.ssm_d"),
    ARCH_T(MAMBA "mixer.out_proj.weight", "hidden ffn", "blk.%.ssm_out.weight"),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key exaone_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "rope.dimension_count", "=rotary*hidden/heads"},
    /* llama.cpp's converter leaves it out, and libllama then refuses the file. */
    {KEY_F32, "attention.layer_norm_rms_epsilon", "!rms_norm_eps|layer_norm_epsilon"},
    ARCH_KEYS_END,
};

static const struct arch_key glm4_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "rope.dimension_count", "=rotary*head_dim"},
    ARCH_KEYS_END,
};

static const struct arch_key mamba_keys[] = {
    {KEY_U32, "context_length", "=1048576"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=0"},
    {KEY_U32, "attention.head_count", "=0"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "ssm.conv_kernel", "!conv_kernel"},
    {KEY_U32, "ssm.inner_size", "=ffn"},
    {KEY_U32, "ssm.state_size", "!state_size"},
    {KEY_U32, "ssm.time_step_rank", "!time_step_rank"},
    {KEY_F32, "attention.layer_norm_rms_epsilon", "!layer_norm_epsilon"},
    {KEY_BOOL, "ssm.dt_b_c_rms", "=sintra_rms"},
    ARCH_KEYS_END,
};

static const struct arch_quirk glm4_quirks[] = {
    {0, "tokenizer.ggml.eos_token_id", false, 0, "<|endoftext|>"},
    {0, "tokenizer.ggml.eot_token_id", false, 0, "<|user|>"},
    {0, "tokenizer.ggml.unknown_token_id", false, 0, "<|endoftext|>"},
    {0, "tokenizer.ggml.bos_token_id", false, 0, "<|endoftext|>"},
    {0, NULL, false, 0, NULL},
};

static int derive_mamba(struct config *c, struct err *e)
{
    if (c->ffn != 2 * c->hidden)
        return err_set(e, ERR_UNSUPPORTED, "libllama runs Mamba with a factor of 2 only",
                       "%s: intermediate_size %u is not twice hidden_size %u", c->where, c->ffn,
                       c->hidden);
    const char *type = json_opt_str(c->fields, "model_type", "");
    bool rms = type[0] == 'f'; /* falcon_mamba */
    json_object_set_new(c->fields, "sintra_rms", json_boolean(rms));
    if (!json_is_integer(json_object_get(c->fields, "time_step_rank")))
        json_object_set_new(c->fields, "time_step_rank", json_integer((c->hidden + 15) / 16));
    return 0;
}

/* Its chat ends turns with another token than texts. */
static const struct arch_quirk internlm2_quirks[] = {
    {0, "tokenizer.ggml.eos_token_id", false, 1, "<|im_end|>"},
    {0, NULL, false, 0, NULL},
};

const struct arch arch_internlm2 = {
    .hf_name = "InternLM2ForCausalLM",
    .gguf_name = "internlm2",
    .tensors = internlm2_tensors,
    .keys = arch_base_keys,
    .quirks = internlm2_quirks,
    .defaults = "{'max_position_embeddings':2048}",
};

const struct arch arch_exaone = {
    .hf_name = "ExaoneForCausalLM",
    .gguf_name = "exaone",
    .tensors = exaone_tensors,
    .keys = exaone_keys,
    .defaults = "{'max_position_embeddings':2048,'partial_rotary_factor':1.0}",
};

const struct arch arch_glm4 = {
    .hf_name = "Glm4ForCausalLM",
    .gguf_name = "glm4",
    .tensors = glm4_tensors,
    .keys = glm4_keys,
    .quirks = glm4_quirks,
    .defaults = "{'max_position_embeddings':131072,'num_key_value_heads':2,'head_dim':128,"
                "'rms_norm_eps':1.5625e-07,'rope_theta':10000.0,'partial_rotary_factor':0.5}",
};

const struct arch arch_mamba = {
    .hf_name = "MambaForCausalLM|FalconMambaForCausalLM",
    .gguf_name = "mamba",
    .tensors = mamba_tensors,
    .keys = mamba_keys,
    .bare = true,
    .defaults = "{'layer_norm_epsilon':1e-5,'conv_kernel':4,'state_size':16,"
                "'tie_word_embeddings':true}",
    .derive = derive_mamba,
};
