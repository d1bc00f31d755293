/* Mamba2ForCausalLM: no attention; one decay for each head, groups that share their state's inputs.
 * Tensors as transformers has them, and as Mamba-Codestral names them ("model.backbone.").
 *
 * Facts: Mamba2Model in conversion/mamba.py of llama.cpp 0.5.0. */
#include "model/config_int.h"

#include "base/banned.h"

#define MIXER "backbone.layers.%.mixer."
#define CONV  "ffn+2*n_groups*state_size"

/* clang-format off */
static const struct arch_tensor mamba2_tensors[] = {
    ARCH_T("backbone.embeddings.weight", "vocab hidden", "token_embd.weight"),
    ARCH_T("backbone.norm_f.weight", "hidden", "output_norm.weight"),
    ARCH_T("lm_head.weight", "vocab hidden", "output.weight", .need = NEED_HEAD),
    ARCH_T("backbone.layers.%.norm.weight", "hidden", "blk.%.attn_norm.weight"),
    ARCH_T(MIXER "in_proj.weight", "2*ffn+2*n_groups*state_size+sintra_heads hidden",
           "blk.%.ssm_in.weight"),
    ARCH_T(MIXER "conv1d.weight", CONV " 1 conv_kernel", "blk.%.ssm_conv1d.weight",
           .out = CONV " conv_kernel"),
    ARCH_T(MIXER "conv1d.bias", CONV, "blk.%.ssm_conv1d.bias"),
    ARCH_T(MIXER "dt_bias", "sintra_heads", "blk.%.ssm_dt.bias"),
    ARCH_T(MIXER "A_log", "sintra_heads", "blk.%.ssm_a", .out = "sintra_heads 1",
           .math = MATH_NEG_EXP),
    ARCH_T(MIXER "D", "sintra_heads", "blk.%.ssm_d", .out = "sintra_heads 1"),
    ARCH_T(MIXER "norm.weight", "ffn", "blk.%.ssm_norm.weight", .out = "n_groups ffn/n_groups"),
    ARCH_T(MIXER "out_proj.weight", "hidden ffn", "blk.%.ssm_out.weight"),
    ARCH_END,
};
/* clang-format on */

static const struct arch_key mamba2_keys[] = {
    {KEY_U32, "context_length", "=1048576"},
    {KEY_U32, "embedding_length", "=hidden"},
    {KEY_U32, "feed_forward_length", "=0"},
    {KEY_U32, "attention.head_count", "=0"},
    {KEY_U32, "block_count", "=layers"},
    {KEY_U32, "ssm.conv_kernel", "!conv_kernel"},
    {KEY_U32, "ssm.inner_size", "=ffn"},
    {KEY_U32, "ssm.state_size", "!state_size"},
    {KEY_U32, "ssm.time_step_rank", "=sintra_heads"},
    {KEY_U32, "ssm.group_count", "!n_groups"},
    {KEY_F32, "attention.layer_norm_rms_epsilon", "!layer_norm_epsilon|rms_norm_eps"},
    ARCH_KEYS_END,
};

static int derive_mamba2(struct config *c, struct err *e)
{
    int64_t head = json_opt_i64(c->fields, "head_dim", 64);
    int64_t groups = json_opt_i64(c->fields, "n_groups", 0);
    if (head < 1 || c->ffn % head != 0 || groups < 1 || c->ffn % groups != 0)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: the %u channels are not a multiple of head_dim %lld and of n_groups "
                       "%lld",
                       c->where, c->ffn, (long long)head, (long long)groups);
    json_object_set_new(c->fields, "sintra_heads", json_integer(c->ffn / head));
    return 0;
}

const struct arch arch_mamba2 = {
    .hf_name = "Mamba2ForCausalLM",
    .gguf_name = "mamba2",
    .tensors = mamba2_tensors,
    .keys = mamba2_keys,
    .bare = true,
    .strip = "model.",
    .defaults = "{'layer_norm_epsilon':1e-5,'conv_kernel':4,'state_size':128,'n_groups':8,"
                "'head_dim':64,'expand':2,'tie_word_embeddings':false}",
    .derive = derive_mamba2,
};
