/* The GPT family: GPT2LMHeadModel (DialoGPT too), GPTNeoXForCausalLM (Pythia),
 * GPTBigCodeForCausalLM (StarCoder 1), BloomForCausalLM, MPTForCausalLM. LayerNorm, GELU, Q, K and
 * V in one tensor: side by side, or mixed head by head (GPT-NeoX, BLOOM) and put side by side.
 * GPT-2 stores its matrices transposed. */
#include "model/config_int.h"

#include "base/banned.h"

/* clang-format off */
#define LINEAR(name, rows, cols, to)                                                               \
    ARCH_T(name ".weight", rows " " cols, to ".weight"), ARCH_T(name ".bias", rows, to ".bias")
#define CONV1D(name, rows, cols, to)                                                               \
    ARCH_T(name ".weight", rows " " cols, to ".weight", .view = rows " " cols " : 1 0",            \
           .out = cols " " rows),                                                                  \
    ARCH_T(name ".bias", cols, to ".bias")
#define LAYERNORM(name, to)                                                                        \
    ARCH_T(name ".weight", "hidden", to ".weight"), ARCH_T(name ".bias", "hidden", to ".bias")

static const struct arch_tensor gpt2_tensors[] = {
    ARCH_T("wte.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("wpe.weight", "context hidden", "position_embd.weight"),
    LAYERNORM("ln_f", "output_norm"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    LAYERNORM("h.%.ln_1", "blk.%.attn_norm"),
    CONV1D("h.%.attn.c_attn", "hidden", "3*hidden", "blk.%.attn_qkv"),
    CONV1D("h.%.attn.c_proj", "hidden", "hidden", "blk.%.attn_output"),
    LAYERNORM("h.%.ln_2", "blk.%.ffn_norm"),
    CONV1D("h.%.mlp.c_fc", "hidden", "ffn", "blk.%.ffn_up"),
    CONV1D("h.%.mlp.c_proj", "ffn", "hidden", "blk.%.ffn_down"),
    ARCH_T("h.%.attn.bias", "1 1 context context", NULL),
    ARCH_END,
};

static const struct arch_tensor starcoder_tensors[] = {
    ARCH_T("wte.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("wpe.weight", "context hidden", "position_embd.weight"),
    LAYERNORM("ln_f", "output_norm"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    LAYERNORM("h.%.ln_1", "blk.%.attn_norm"),
    LINEAR("h.%.attn.c_attn", "hidden+2*head_dim", "hidden", "blk.%.attn_qkv"),
    LINEAR("h.%.attn.c_proj", "hidden", "hidden", "blk.%.attn_output"),
    LAYERNORM("h.%.ln_2", "blk.%.ffn_norm"),
    LINEAR("h.%.mlp.c_fc", "ffn", "hidden", "blk.%.ffn_up"),
    LINEAR("h.%.mlp.c_proj", "hidden", "ffn", "blk.%.ffn_down"),
    ARCH_END,
};

#define NEOX "gpt_neox.layers.%."
static const struct arch_tensor gptneox_tensors[] = {
    ARCH_T("gpt_neox.embed_in.weight", "vocab hidden", "token_embd.weight"),
    LAYERNORM("gpt_neox.final_layer_norm", "output_norm"),
    ARCH_T("embed_out.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    LAYERNORM(NEOX "input_layernorm", "blk.%.attn_norm"),
    LAYERNORM(NEOX "post_attention_layernorm", "blk.%.ffn_norm"),
    ARCH_T(NEOX "attention.query_key_value.weight", "3*hidden hidden", "blk.%.attn_qkv.weight",
           .view = ARCH_UNMIX),
    ARCH_T(NEOX "attention.query_key_value.bias", "3*hidden", "blk.%.attn_qkv.bias",
           .view = ARCH_UNMIX_BIAS),
    LINEAR(NEOX "attention.dense", "hidden", "hidden", "blk.%.attn_output"),
    LINEAR(NEOX "mlp.dense_h_to_4h", "ffn", "hidden", "blk.%.ffn_up"),
    LINEAR(NEOX "mlp.dense_4h_to_h", "hidden", "ffn", "blk.%.ffn_down"),
    ARCH_END,
};

static const struct arch_tensor bloom_tensors[] = {
    ARCH_T("word_embeddings.weight", "vocab hidden", "token_embd.weight"),
    LAYERNORM("word_embeddings_layernorm", "token_embd_norm"),
    LAYERNORM("ln_f", "output_norm"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    LAYERNORM("h.%.input_layernorm", "blk.%.attn_norm"),
    LAYERNORM("h.%.post_attention_layernorm", "blk.%.ffn_norm"),
    ARCH_T("h.%.self_attention.query_key_value.weight", "3*hidden hidden", "blk.%.attn_qkv.weight",
           .view = ARCH_UNMIX),
    ARCH_T("h.%.self_attention.query_key_value.bias", "3*hidden", "blk.%.attn_qkv.bias",
           .view = ARCH_UNMIX_BIAS),
    LINEAR("h.%.self_attention.dense", "hidden", "hidden", "blk.%.attn_output"),
    LINEAR("h.%.mlp.dense_h_to_4h", "ffn", "hidden", "blk.%.ffn_up"),
    LINEAR("h.%.mlp.dense_4h_to_h", "hidden", "ffn", "blk.%.ffn_down"),
    ARCH_END,
};

#define MPT "transformer.blocks.%."
static const struct arch_tensor mpt_tensors[] = {
    ARCH_T("transformer.wte.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("transformer.wpe.weight", "context hidden", "position_embd.weight", .need = NEED_NEVER),
    ARCH_T("transformer.norm_f.weight", "hidden", "output_norm.weight"),
    ARCH_T("transformer.norm_f.bias", "hidden", "output_norm.bias", .need = NEED_NEVER),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_T(MPT "norm_1.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(MPT "norm_1.bias", "hidden", "blk.%.attn_norm.bias", .need = NEED_ALIKE),
    ARCH_T(MPT "norm_2.weight", "hidden", "blk.%.ffn_norm.weight"),
    ARCH_T(MPT "norm_2.bias", "hidden", "blk.%.ffn_norm.bias", .need = NEED_ALIKE),
    ARCH_T(MPT "attn.Wqkv.weight", "q+2*kv hidden", "blk.%.attn_qkv.weight"),
    ARCH_T(MPT "attn.Wqkv.bias", "q+2*kv", "blk.%.attn_qkv.bias", .need = NEED_ALIKE),
    ARCH_T(MPT "attn.q_ln.weight", "hidden", "blk.%.attn_q_norm.weight", .need = NEED_ALIKE),
    ARCH_T(MPT "attn.q_ln.bias", "hidden", "blk.%.attn_q_norm.bias", .need = NEED_ALIKE),
    ARCH_T(MPT "attn.k_ln.weight", "kv", "blk.%.attn_k_norm.weight", .need = NEED_ALIKE),
    ARCH_T(MPT "attn.k_ln.bias", "kv", "blk.%.attn_k_norm.bias", .need = NEED_ALIKE),
    ARCH_T(MPT "attn.out_proj.weight", "hidden q", "blk.%.attn_output.weight"),
    ARCH_T(MPT "attn.out_proj.bias", "hidden", "blk.%.attn_output.bias", .need = NEED_ALIKE),
    ARCH_T(MPT "ffn.up_proj.weight", "4*hidden hidden", "blk.%.ffn_up.weight"),
    ARCH_T(MPT "ffn.up_proj.bias", "4*hidden", "blk.%.ffn_up.bias", .need = NEED_ALIKE),
    ARCH_T(MPT "ffn.down_proj.weight", "hidden 4*hidden", "blk.%.ffn_down.weight"),
    ARCH_T(MPT "ffn.down_proj.bias", "hidden", "blk.%.ffn_down.bias", .need = NEED_ALIKE),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key gpt2_keys[] = {
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=4*hidden"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_F32, "attention.layer_norm_epsilon", "!layer_norm_epsilon"},
    ARCH_KEYS_END,
};

static const struct arch_key starcoder_keys[] = {
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=4*hidden"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_U32, "attention.head_count_kv", "=1"},
    {KEY_F32, "attention.layer_norm_epsilon", "!layer_norm_epsilon"},
    ARCH_KEYS_END,
};

static const struct arch_key gptneox_keys[] = {
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "feed_forward_length", "=ffn"},
    {KEY_U32, "rope.dimension_count", "=rotary*head_dim"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_BOOL, "use_parallel_residual", "!use_parallel_residual"},
    {KEY_F32, "attention.layer_norm_epsilon", "!layer_norm_eps"},
    ARCH_KEYS_END,
};

static const struct arch_key bloom_keys[] = {
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=4*hidden"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_U32, "attention.head_count_kv", "=heads"},
    {KEY_F32, "attention.layer_norm_epsilon", "!layer_norm_epsilon"},
    ARCH_KEYS_END,
};

static const struct arch_key mpt_keys[] = {
    {KEY_U32, "context_length", "=context"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "feed_forward_length", "=4*hidden"},
    {KEY_U32, "attention.head_count", "=heads"},
    {KEY_U32, "attention.head_count_kv", "kv_n_heads"},
    {KEY_F32, "attention.layer_norm_epsilon", "layer_norm_epsilon"},
    {KEY_F32, "attention.clamp_kqv", "clip_qkv"},
    {KEY_F32, "attention.max_alibi_bias", "=alibi*alibi_bias_max"},
    ARCH_KEYS_END,
};

/* Where the context is not stated, llama.cpp's converter writes the width. */
static int derive_bloom(struct config *c, struct err *e)
{
    int64_t n = json_opt_i64(c->fields, "seq_length", c->hidden);
    if (n < 1 || n > INT32_MAX)
        return err_set(e, ERR_INPUT, NULL, "%s: seq_length is out of range", c->where);
    c->context = (uint32_t)n;
    return 0;
}

/* The fields of attn_config count as fields of their own. */
static int derive_mpt(struct config *c, struct err *e)
{
    json_t *attention = json_object_get(c->fields, "attn_config");
    if (json_is_object(attention)) {
        static const char *const names[] = {"kv_n_heads", "clip_qkv", "alibi", "alibi_bias_max"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            json_t *v = json_object_get(attention, names[i]);
            if (v)
                json_object_set(c->fields, names[i], v);
        }
    }
    const json_t *kv = json_object_get(c->fields, "kv_n_heads");
    if (json_is_integer(kv)) {
        json_int_t n = json_integer_value(kv);
        if (n < 1 || c->heads % n != 0)
            return err_set(e, ERR_INPUT, NULL,
                           "%s: n_heads %u is not a multiple of kv_n_heads %lld", c->where,
                           c->heads, (long long)n);
        c->kv_heads = (uint32_t)n;
    }
    return 0;
}

#define GELU "gelu_new|gelu|gelu_pytorch_tanh|gelu_fast"

const struct arch arch_gpt2 = {
    .hf_name = "GPT2LMHeadModel",
    .gguf_name = "gpt2",
    .tensors = gpt2_tensors,
    .keys = gpt2_keys,
    .acts = GELU,
    .strip = "transformer.",
    .ffn_derived = true,
    .defaults = "{'n_positions':1024,'layer_norm_epsilon':1e-5,'tie_word_embeddings':true}",
};

const struct arch arch_starcoder = {
    .hf_name = "GPTBigCodeForCausalLM",
    .gguf_name = "starcoder",
    .tensors = starcoder_tensors,
    .keys = starcoder_keys,
    .acts = GELU,
    .strip = "transformer.",
    .ffn_derived = true,
    .defaults = "{'n_positions':1024,'layer_norm_epsilon':1e-5,'tie_word_embeddings':true}",
};

const struct arch arch_gptneox = {
    .hf_name = "GPTNeoXForCausalLM",
    .gguf_name = "gptneox",
    .tensors = gptneox_tensors,
    .keys = gptneox_keys,
    .acts = GELU,
    .defaults = "{'max_position_embeddings':2048,'rotary_pct':0.25,'rotary_emb_base':10000,"
                "'layer_norm_eps':1e-5,'use_parallel_residual':true}",
};

const struct arch arch_bloom = {
    .hf_name = "BloomForCausalLM|BloomModel",
    .gguf_name = "bloom",
    .tensors = bloom_tensors,
    .keys = bloom_keys,
    .acts = GELU,
    .strip = "transformer.",
    .ffn_derived = true,
    .defaults = "{'max_position_embeddings':2048,'layer_norm_epsilon':1e-5,"
                "'tie_word_embeddings':true}",
    .derive = derive_bloom,
};

const struct arch arch_mpt = {
    .hf_name = "MPTForCausalLM",
    .gguf_name = "mpt",
    .tensors = mpt_tensors,
    .keys = mpt_keys,
    .acts = GELU,
    .ffn_derived = true,
    .defaults = "{'max_seq_len':2048,'layer_norm_epsilon':1e-5,'alibi':false,'alibi_bias_max':8,"
                "'tie_word_embeddings':true}",
    .derive = derive_mpt,
};
