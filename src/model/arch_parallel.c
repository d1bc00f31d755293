/* Architectures with LayerNorm and one or two norms in a block, many with attention and
 * feed-forward side by side: StableLmForCausalLM, FalconForCausalLM, Starcoder2ForCausalLM,
 * CohereForCausalLM (Command R), Cohere2ForCausalLM, NemotronForCausalLM. */
#include "model/config_int.h"

#include <string.h>

#include "base/banned.h"

/* clang-format off */
#define LINEAR(name, rows, cols, to)                                                               \
    ARCH_T(name ".weight", rows " " cols, to ".weight"),                                           \
    ARCH_T(name ".bias", rows, to ".bias", .need = NEED_ALIKE)
#define LAYERNORM(name, to)                                                                        \
    ARCH_T(name ".weight", "hidden", to ".weight"), ARCH_T(name ".bias", "hidden", to ".bias")

static const struct arch_tensor stablelm_tensors[] = {
    ARCH_T("model.embed_tokens.weight", "vocab hidden", "token_embd.weight"),
    LAYERNORM("model.norm", "output_norm"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_T(ARCH_LAYER "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(ARCH_LAYER "input_layernorm.bias", "hidden", "blk.%.attn_norm.bias",
           .need = NEED_ALIKE),
    ARCH_T(ARCH_LAYER "post_attention_layernorm.weight", "hidden", "blk.%.ffn_norm.weight",
           .when = "1-use_parallel_residual"),
    ARCH_T(ARCH_LAYER "post_attention_layernorm.bias", "hidden", "blk.%.ffn_norm.bias",
           .need = NEED_ALIKE),
    ARCH_QK,
    ARCH_VO,
    ARCH_T(ARCH_ATTN "q_proj.bias", "q", "blk.%.attn_q.bias", .when = "use_qkv_bias"),
    ARCH_T(ARCH_ATTN "k_proj.bias", "kv", "blk.%.attn_k.bias", .when = "use_qkv_bias"),
    ARCH_T(ARCH_ATTN "v_proj.bias", "kv", "blk.%.attn_v.bias", .when = "use_qkv_bias"),
    ARCH_T(ARCH_ATTN "q_layernorm.norms.#.weight", "head_dim", "blk.%.attn_q_norm.weight",
           .count = "heads", .group = 1, .when = "qk_layernorm"),
    ARCH_T(ARCH_ATTN "k_layernorm.norms.#.weight", "head_dim", "blk.%.attn_k_norm.weight",
           .count = "kv_heads", .group = 2, .when = "qk_layernorm"),
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

#define FALCON "transformer.h.%."
/* In each group of heads the queries, one key, one value → all queries, all keys, all values. */
#define FALCON_QKV                                                                                 \
    "kv_heads group+2 head_dim hidden : 0 1[0,group] 2 3 ; 0 1[group,1] 2 3 ; 0 1[group+1,1] 2 3"
#define FALCON_QKV_BIAS                                                                            \
    "kv_heads group+2 head_dim : 0 1[0,group] 2 ; 0 1[group,1] 2 ; 0 1[group+1,1] 2"
static const struct arch_tensor falcon_tensors[] = {
    ARCH_T("transformer.word_embeddings.weight", "vocab hidden", "token_embd.weight"),
    LAYERNORM("transformer.ln_f", "output_norm"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_T(FALCON "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight",
           .need = NEED_ALIKE),
    ARCH_T(FALCON "input_layernorm.bias", "hidden", "blk.%.attn_norm.bias", .need = NEED_ALIKE),
    ARCH_T(FALCON "ln_mlp.weight", "hidden", "blk.%.attn_norm.weight", .need = NEED_ALIKE),
    ARCH_T(FALCON "ln_mlp.bias", "hidden", "blk.%.attn_norm.bias", .need = NEED_ALIKE),
    ARCH_T(FALCON "ln_attn.weight", "hidden", "blk.%.attn_norm_2.weight", .need = NEED_ALIKE),
    ARCH_T(FALCON "ln_attn.bias", "hidden", "blk.%.attn_norm_2.bias", .need = NEED_ALIKE),
    ARCH_T(FALCON "self_attention.query_key_value.weight", "q+2*kv hidden",
           "blk.%.attn_qkv.weight", .view = FALCON_QKV),
    ARCH_T(FALCON "self_attention.query_key_value.bias", "q+2*kv", "blk.%.attn_qkv.bias",
           .view = FALCON_QKV_BIAS, .need = NEED_ALIKE),
    LINEAR(FALCON "self_attention.dense", "hidden", "q", "blk.%.attn_output"),
    LINEAR(FALCON "mlp.dense_h_to_4h", "ffn", "hidden", "blk.%.ffn_up"),
    LINEAR(FALCON "mlp.dense_4h_to_h", "hidden", "ffn", "blk.%.ffn_down"),
    ARCH_END,
};

static const struct arch_tensor starcoder2_tensors[] = {
    ARCH_T("model.embed_tokens.weight", "vocab hidden", "token_embd.weight"),
    LAYERNORM("model.norm", "output_norm"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    LAYERNORM(ARCH_LAYER "input_layernorm", "blk.%.attn_norm"),
    LAYERNORM(ARCH_LAYER "post_attention_layernorm", "blk.%.ffn_norm"),
    LINEAR(ARCH_ATTN "q_proj", "q", "hidden", "blk.%.attn_q"),
    LINEAR(ARCH_ATTN "k_proj", "kv", "hidden", "blk.%.attn_k"),
    LINEAR(ARCH_ATTN "v_proj", "kv", "hidden", "blk.%.attn_v"),
    LINEAR(ARCH_ATTN "o_proj", "hidden", "q", "blk.%.attn_output"),
    LINEAR(ARCH_MLP "c_fc", "ffn", "hidden", "blk.%.ffn_up"),
    LINEAR(ARCH_MLP "c_proj", "hidden", "ffn", "blk.%.ffn_down"),
    ARCH_END,
};

static const struct arch_tensor cohere_tensors[] = {
    ARCH_T("model.embed_tokens.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("model.norm.weight", "hidden", "output_norm.weight"),
    ARCH_T("lm_head.weight", "vocab hidden", NULL),
    ARCH_T(ARCH_LAYER "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_QK,
    ARCH_VO,
    ARCH_T(ARCH_ATTN "q_norm.weight", "heads head_dim", "blk.%.attn_q_norm.weight",
           .when = "use_qk_norm"),
    ARCH_T(ARCH_ATTN "k_norm.weight", "kv_heads head_dim", "blk.%.attn_k_norm.weight",
           .when = "use_qk_norm"),
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

#define NORM_1P(name, to)                                                                          \
    ARCH_T(name ".weight", "hidden", to ".weight", .math = MATH_ADD_ONE),                          \
    ARCH_T(name ".bias", "hidden", to ".bias")
static const struct arch_tensor nemotron_tensors[] = {
    ARCH_T("model.embed_tokens.weight", "vocab hidden", "token_embd.weight"),
    NORM_1P("model.norm", "output_norm"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    NORM_1P(ARCH_LAYER "input_layernorm", "blk.%.attn_norm"),
    NORM_1P(ARCH_LAYER "post_attention_layernorm", "blk.%.ffn_norm"),
    ARCH_QK,
    ARCH_VO,
    ARCH_T(ARCH_MLP "up_proj.weight", "ffn hidden", "blk.%.ffn_up.weight"),
    ARCH_T(ARCH_MLP "down_proj.weight", "hidden ffn", "blk.%.ffn_down.weight"),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key stablelm_keys[] = {
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "feed_forward_length", "=ffn"},
    {KEY_U32, "rope.dimension_count", "=rotary*head_dim"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_U32, "attention.head_count_kv", "=kv_heads"},
    {KEY_BOOL, "use_parallel_residual", "!use_parallel_residual"},
    {KEY_F32, "attention.layer_norm_epsilon", "!layer_norm_eps|norm_eps"},
    ARCH_KEYS_END,
};

static const struct arch_key falcon_keys[] = {
    {KEY_U32, "context_length", "=2048"},
    {KEY_TEXT, "tensor_data_layout", "jploski"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=4*hidden"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_U32, "attention.head_count_kv", "=kv_heads"},
    {KEY_F32, "attention.layer_norm_epsilon", "!layer_norm_epsilon"},
    ARCH_KEYS_END,
};

static const struct arch_key cohere_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "context_length", "=context"},
    {KEY_F32, "logit_scale", "!logit_scale"},
    {KEY_TEXT, "rope.scaling.type", "none"},
    ARCH_KEYS_END,
};

static const struct arch_key cohere2_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_F32, "logit_scale", "!logit_scale"},
    {KEY_U32, "attention.sliding_window", "!sliding_window"},
    {KEY_U32, "vocab_size", "=vocab"},
    {KEY_U32, "rope.dimension_count", "=rotary*hidden/heads"},
    {KEY_TEXT, "rope.scaling.type", "none"},
    ARCH_KEYS_END,
};

static const struct arch_key nemotron_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_U32, "vocab_size", "=vocab"},
    {KEY_F32, "attention.layer_norm_epsilon", "layer_norm_eps|layer_norm_epsilon|norm_eps"},
    {KEY_U32, "rope.dimension_count", "=rotary*hidden/heads"},
    {KEY_TEXT, "rope.scaling.type", "none"},
    ARCH_KEYS_END,
};

static const struct arch_quirk nemotron_quirks[] = {
    {0, "tokenizer.ggml.padding_token_id", false, 0, NULL},
    {0, "tokenizer.ggml.unknown_token_id", false, 1, NULL},
    {0, NULL, false, 0, NULL},
};

/* The old block has one key and value for all heads, whatever num_kv_heads says. */
static int derive_falcon(struct config *c, struct err *e)
{
    bool grouped = json_is_true(json_object_get(c->fields, "new_decoder_architecture"));
    if (json_is_true(json_object_get(c->fields, "alibi")))
        return err_set(e, ERR_UNSUPPORTED, "libllama runs Falcon with rotary positions only",
                       "%s: alibi is true, which cannot be converted", c->where);
    if (!grouped && json_is_true(json_object_get(c->fields, "multi_query")))
        c->kv_heads = 1;
    return 0;
}

/* Trained on more than max_position_embeddings, which model_max_length then says. */
static int derive_cohere(struct config *c, struct err *e)
{
    (void)e;
    const json_t *n = json_object_get(c->fields, "model_max_length");
    if (json_is_integer(n) && json_integer_value(n) > 0 && json_integer_value(n) < UINT32_MAX)
        c->context = (uint32_t)json_integer_value(n);
    return 0;
}

static int derive_nemotron(struct config *c, struct err *e)
{
    if (c->rope != ROPE_SCALING_NONE)
        return err_set(e, ERR_UNSUPPORTED, NULL,
                       "%s: RoPE scaling of Nemotron models cannot be converted", c->where);
    return 0;
}

const struct arch arch_stablelm = {
    .hf_name = "StableLmForCausalLM|StableLMEpochForCausalLM",
    .gguf_name = "stablelm",
    .tensors = stablelm_tensors,
    .keys = stablelm_keys,
    .defaults = "{'max_position_embeddings':4096,'layer_norm_eps':1e-5,'rope_theta':10000,"
                "'use_qkv_bias':false,'qk_layernorm':false,'use_parallel_residual':false,"
                "'partial_rotary_factor':0.25}",
};

const struct arch arch_falcon = {
    .hf_name = "FalconForCausalLM|RWForCausalLM",
    .gguf_name = "falcon",
    .tensors = falcon_tensors,
    .keys = falcon_keys,
    .acts = "gelu|gelu_new|gelu_fast|gelu_pytorch_tanh",
    .ffn_derived = true,
    .defaults = "{'max_position_embeddings':2048,'layer_norm_epsilon':1e-5,'multi_query':true,"
                "'tie_word_embeddings':true}",
    .derive = derive_falcon,
};

const struct arch arch_starcoder2 = {
    .hf_name = "Starcoder2ForCausalLM",
    .gguf_name = "starcoder2",
    .tensors = starcoder2_tensors,
    .keys = arch_base_keys,
    .acts = "gelu_pytorch_tanh|gelu|gelu_new|gelu_fast",
    .defaults = "{'max_position_embeddings':4096,'num_key_value_heads':2,'norm_epsilon':1e-5,"
                "'rope_theta':10000.0,'tie_word_embeddings':true}",
};

const struct arch arch_cohere = {
    .hf_name = "CohereForCausalLM",
    .gguf_name = "command-r",
    .tensors = cohere_tensors,
    .keys = cohere_keys,
    .defaults = "{'max_position_embeddings':8192,'layer_norm_eps':1e-5,'rope_theta':10000.0,"
                "'logit_scale':0.0625,'use_qk_norm':false,'tie_word_embeddings':true}",
    .derive = derive_cohere,
};

const struct arch arch_cohere2 = {
    .hf_name = "Cohere2ForCausalLM",
    .gguf_name = "cohere2",
    .tensors = cohere_tensors,
    .keys = cohere2_keys,
    .defaults = "{'max_position_embeddings':8192,'layer_norm_eps':1e-5,'rope_theta':10000.0,"
                "'logit_scale':0.0625,'sliding_window':4096,'head_dim':128,'rotary_pct':1.0,"
                "'tie_word_embeddings':true}",
};

const struct arch arch_nemotron = {
    .hf_name = "NemotronForCausalLM",
    .gguf_name = "nemotron",
    .tensors = nemotron_tensors,
    .keys = nemotron_keys,
    .quirks = nemotron_quirks,
    .acts = "relu2",
    .defaults = "{'max_position_embeddings':4096,'norm_eps':1e-5,'rope_theta':10000.0,"
                "'partial_rotary_factor':0.5}",
    .head_dim_derived = true,
    .derive = derive_nemotron,
};
