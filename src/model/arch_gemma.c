/* GemmaForCausalLM, Gemma2ForCausalLM, Gemma3ForCausalLM and the text of
 * Gemma3ForConditionalGeneration. Norms are stored as what is added to one; the head is always the
 * embeddings. Gemma 2 caps logits, Gemma 3 has norms on the heads of Q and K; both alternate
 * sliding and full attention. */
#include "model/arch_int.h"

#include "base/banned.h"

/* clang-format off */
#define NORM(name, dims, to) ARCH_T(name, dims, to, .math = MATH_ADD_ONE)
#define EMBEDDINGS                                                                                 \
    ARCH_T("model.embed_tokens.weight", "vocab hidden", "token_embd.weight"),                      \
    NORM("model.norm.weight", "hidden", "output_norm.weight"),                                     \
    ARCH_T("lm_head.weight", "vocab hidden", NULL)
#define NORMS_4                                                                                    \
    NORM(ARCH_LAYER "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight"),                 \
    NORM(ARCH_LAYER "post_attention_layernorm.weight", "hidden",                                   \
         "blk.%.post_attention_norm.weight"),                                                      \
    NORM(ARCH_LAYER "pre_feedforward_layernorm.weight", "hidden", "blk.%.ffn_norm.weight"),        \
    NORM(ARCH_LAYER "post_feedforward_layernorm.weight", "hidden", "blk.%.post_ffw_norm.weight")

static const struct arch_tensor gemma_tensors[] = {
    EMBEDDINGS,
    NORM(ARCH_LAYER "input_layernorm.weight", "hidden", "blk.%.attn_norm.weight"),
    NORM(ARCH_LAYER "post_attention_layernorm.weight", "hidden", "blk.%.ffn_norm.weight"),
    ARCH_QK,
    ARCH_VO,
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

static const struct arch_tensor gemma2_tensors[] = {
    EMBEDDINGS,
    NORMS_4,
    ARCH_QK,
    ARCH_VO,
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

static const struct arch_tensor gemma3_tensors[] = {
    EMBEDDINGS,
    NORMS_4,
    ARCH_QK,
    ARCH_VO,
    NORM(ARCH_ATTN "q_norm.weight", "head_dim", "blk.%.attn_q_norm.weight"),
    NORM(ARCH_ATTN "k_norm.weight", "head_dim", "blk.%.attn_k_norm.weight"),
    ARCH_SWIGLU(NEED_ALWAYS),
    ARCH_END,
};

#define KEYS                                                                                       \
    {KEY_U32, "context_length", "=context"},                                                       \
    {KEY_U32, "embedding_length", "=hidden"},                                                      \
    {KEY_U32, "block_count", "=layers"},                                                           \
    {KEY_U32, "feed_forward_length", "=ffn"},                                                      \
    {KEY_U32, "attention.head_count", "=heads"},                                                   \
    {KEY_U32, "attention.head_count_kv", "=kv_heads"},                                             \
    {KEY_F32, "attention.layer_norm_rms_epsilon", "!rms_norm_eps"},                                \
    {KEY_U32, "attention.key_length", "=head_dim"},                                                \
    {KEY_U32, "attention.value_length", "=head_dim"}
/* clang-format on */

static const struct arch_key gemma_keys[] = {KEYS, ARCH_KEYS_END};

static const struct arch_key gemma2_keys[] = {
    KEYS,
    {KEY_F32, "attn_logit_softcapping", "!attn_logit_softcapping"},
    {KEY_F32, "final_logit_softcapping", "!final_logit_softcapping"},
    {KEY_U32, "attention.sliding_window", "!sliding_window"},
    ARCH_KEYS_END,
};

static const struct arch_key gemma3_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_F32, "final_logit_softcapping", "final_logit_softcapping"},
    {KEY_U32, "attention.sliding_window", "!sliding_window"},
    ARCH_KEYS_END,
};

static const struct arch_quirk gemma_quirks[] = {
    {0, "tokenizer.ggml.eot_token_id", false, 107, NULL},
    {0, "tokenizer.ggml.add_space_prefix", true, 0, NULL},
    {0, NULL, false, 0, NULL},
};

static const struct arch_quirk no_prefix[] = {
    {0, "tokenizer.ggml.add_space_prefix", true, 0, NULL},
    {0, NULL, false, 0, NULL},
};

#define GEMMA_ACTS "gelu_pytorch_tanh|gelu|gelu_new|gelu_fast"

const struct arch arch_gemma = {
    .hf_name = "GemmaForCausalLM",
    .gguf_name = "gemma",
    .tensors = gemma_tensors,
    .keys = gemma_keys,
    .quirks = gemma_quirks,
    .acts = GEMMA_ACTS,
    .defaults = "{'max_position_embeddings':8192,'num_key_value_heads':16,'head_dim':256,"
                "'rms_norm_eps':1e-6,'rope_theta':10000.0,'tie_word_embeddings':true}",
};

const struct arch arch_gemma2 = {
    .hf_name = "Gemma2ForCausalLM",
    .gguf_name = "gemma2",
    .tensors = gemma2_tensors,
    .keys = gemma2_keys,
    .quirks = no_prefix,
    .acts = GEMMA_ACTS,
    .defaults = "{'max_position_embeddings':8192,'num_key_value_heads':4,'head_dim':256,"
                "'rms_norm_eps':1e-6,'rope_theta':10000.0,'tie_word_embeddings':true,"
                "'sliding_window':4096,'final_logit_softcapping':30.0,"
                "'attn_logit_softcapping':50.0}",
};

const struct arch arch_gemma3 = {
    .hf_name = "Gemma3ForCausalLM|Gemma3ForConditionalGeneration",
    .gguf_name = "gemma3",
    .tensors = gemma3_tensors,
    .keys = gemma3_keys,
    .quirks = no_prefix,
    .acts = GEMMA_ACTS,
    .defaults = "{'vocab_size':262208,'hidden_size':2304,'intermediate_size':9216,"
                "'num_hidden_layers':26,'num_attention_heads':8,'num_key_value_heads':4,"
                "'max_position_embeddings':131072,'head_dim':256,'rms_norm_eps':1e-6,"
                "'rope_theta':1000000.0,'rope_local_base_freq':10000.0,'sliding_window':4096,"
                "'tie_word_embeddings':true}",
};
