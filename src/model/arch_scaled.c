/* Llama's block with constant factors on embeddings, residuals, attention and logits:
 * GraniteForCausalLM, GraniteMoeForCausalLM, GraniteMoeSharedForCausalLM, MiniCPMForCausalLM. */
#include "model/config_int.h"

#include <math.h>

#include "base/banned.h"

/* clang-format off */
#define MOE ARCH_LAYER "block_sparse_moe."
#define SHARED ARCH_LAYER "shared_mlp."
/* Gate and up of all experts lie in one tensor, gate first. */
#define HALF(n) "experts 2 ffn hidden : 0 1[" #n ",1] 2 3"
#define SHARED_HALF(n) "2 shared_intermediate_size hidden : 0[" #n ",1] 1 2"

static const struct arch_tensor granitemoe_tensors[] = {
    ARCH_EMBEDDINGS,
    ARCH_NORMS,
    ARCH_QK_PAIRS,
    ARCH_VO,
    ARCH_T(MOE "router.layer.weight", "experts hidden", "blk.%.ffn_gate_inp.weight"),
    ARCH_T(MOE "input_linear.weight", "experts 2*ffn hidden", "blk.%.ffn_gate_exps.weight",
           .view = HALF(0), .out = "experts ffn hidden"),
    ARCH_T(MOE "input_linear.weight", "experts 2*ffn hidden", "blk.%.ffn_up_exps.weight",
           .view = HALF(1), .out = "experts ffn hidden"),
    ARCH_T(MOE "output_linear.weight", "experts hidden ffn", "blk.%.ffn_down_exps.weight"),
    ARCH_T(SHARED "input_linear.weight", "2*shared_intermediate_size hidden",
           "blk.%.ffn_gate_shexp.weight", .view = SHARED_HALF(0),
           .out = "shared_intermediate_size hidden", .when = "shared_intermediate_size"),
    ARCH_T(SHARED "input_linear.weight", "2*shared_intermediate_size hidden",
           "blk.%.ffn_up_shexp.weight", .view = SHARED_HALF(1),
           .out = "shared_intermediate_size hidden", .when = "shared_intermediate_size"),
    ARCH_T(SHARED "output_linear.weight", "hidden shared_intermediate_size",
           "blk.%.ffn_down_shexp.weight", .when = "shared_intermediate_size"),
    ARCH_END,
};

#define GRANITE_KEYS                                                                               \
    ARCH_BASE_KEYS,                                                                                \
    {KEY_U32, "vocab_size", "=vocab"},                                                             \
    {KEY_U32, "rope.dimension_count", "=head_dim"},                                                \
    {KEY_F32, "attention.scale", "attention_multiplier"},                                          \
    {KEY_F32, "embedding_scale", "embedding_multiplier"},                                          \
    {KEY_F32, "residual_scale", "residual_multiplier"},                                            \
    {KEY_F32, "logit_scale", "logits_scaling"}
/* clang-format on */

static const struct arch_key granite_keys[] = {GRANITE_KEYS, ARCH_KEYS_END};

static const struct arch_key granitemoe_keys[] = {
    GRANITE_KEYS,
    {KEY_U32, "expert_shared_feed_forward_length", "sintra_shared"},
    ARCH_KEYS_END,
};

static const struct arch_key minicpm_keys[] = {
    ARCH_BASE_KEYS,
    {KEY_F32, "embedding_scale", "!scale_emb"},
    {KEY_F32, "residual_scale", "!sintra_residual"},
    {KEY_F32, "logit_scale", "=hidden/dim_model_base"},
    ARCH_KEYS_END,
};

/* Granite's heads are always hidden_size / heads, as llama.cpp's converter has it. */
static int derive_granite(struct config *c, struct err *e)
{
    (void)e;
    json_object_del(c->fields, "head_dim");
    if (c->hidden % c->heads == 0)
        c->head_dim = c->hidden / c->heads;
    int64_t shared = json_opt_i64(c->fields, "shared_intermediate_size", 0);
    json_object_del(c->fields, "sintra_shared");
    if (shared > 0)
        json_object_set_new(c->fields, "sintra_shared", json_integer(shared));
    return 0;
}

static int derive_minicpm(struct config *c, struct err *e)
{
    double depth;
    if (json_need_real(c->fields, "scale_depth", c->where, &depth, e))
        return -1;
    json_object_set_new(c->fields, "sintra_residual", json_real(depth / sqrt(c->layers)));
    return 0;
}

#define GRANITE_DEFAULTS                                                                           \
    "'max_position_embeddings':2048,'rms_norm_eps':1e-6,'rope_theta':10000.0,"                     \
    "'embedding_multiplier':1.0,'logits_scaling':1.0,'residual_multiplier':1.0,"                   \
    "'attention_multiplier':1.0"

const struct arch arch_granite = {
    .hf_name = "GraniteForCausalLM",
    .gguf_name = "granite",
    .tensors = arch_llama_tensors,
    .keys = granite_keys,
    .quirks = arch_llama_quirks,
    .defaults = "{" GRANITE_DEFAULTS "}",
    .space_prefix_key = true,
    .derive = derive_granite,
};

const struct arch arch_granitemoe = {
    .hf_name = "GraniteMoeForCausalLM|GraniteMoeSharedForCausalLM",
    .gguf_name = "granitemoe",
    .tensors = granitemoe_tensors,
    .keys = granitemoe_keys,
    .quirks = arch_llama_quirks,
    .defaults = "{" GRANITE_DEFAULTS ",'num_local_experts':8,'num_experts_per_tok':2}",
    .space_prefix_key = true,
    .derive = derive_granite,
};

const struct arch arch_minicpm = {
    .hf_name = "MiniCPMForCausalLM",
    .gguf_name = "minicpm",
    .tensors = arch_llama_tensors,
    .keys = minicpm_keys,
    .defaults = "{'max_position_embeddings':2048,'rms_norm_eps':1e-6,'scale_emb':1,"
                "'scale_depth':1,'dim_model_base':1,'tie_word_embeddings':true}",
    .derive = derive_minicpm,
};
