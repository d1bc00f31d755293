/* What a model loses without some of its blocks, measured in memory.
 *
 * Where every path from a block back into the residual stream ends in a matrix, possibly with a
 * vector added, setting those to zero leaves the stream as it was: the block is gone, exactly
 * (norms behind them of zero are zero too, as they only scale). That holds for blocks of attention
 * and feed-forward parts, one after the other or side by side, dense or with experts; the list of
 * tensors that such a block may have is below. A block with any other tensor (recurrent parts,
 * streams of their own, norms with a bias behind the sum) is not tried.
 */
#include "probe/probe_int.h"

#include <string.h>

#include "base/mem.h"
#include "base/banned.h"

/* Behind "blk.N."; those that write into the stream first. */
static const char *const writers[] = {
    "attn_output.weight",   "attn_output.bias",   "ffn_down.weight",      "ffn_down.bias",
    "ffn_down_exps.weight", "ffn_down_exps.bias", "ffn_down_shexp.weight"};
static const char *const others[] = {
    "attn_norm.weight",
    "attn_norm.bias",
    "attn_norm_2.weight",
    "attn_norm_2.bias",
    "attn_q.weight",
    "attn_q.bias",
    "attn_k.weight",
    "attn_k.bias",
    "attn_v.weight",
    "attn_v.bias",
    "attn_qkv.weight",
    "attn_qkv.bias",
    "attn_q_norm.weight",
    "attn_q_norm.bias",
    "attn_k_norm.weight",
    "attn_k_norm.bias",
    "attn_q_a.weight",
    "attn_q_a_norm.weight",
    "attn_q_b.weight",
    "attn_kv_b.weight",
    "attn_kv_a_mqa.weight",
    "attn_kv_a_norm.weight",
    "attn_k_b.weight",
    "attn_v_b.weight",
    "attn_sinks.weight",
    "ffn_norm.weight",
    "ffn_norm.bias",
    "ffn_gate.weight",
    "ffn_gate.bias",
    "ffn_up.weight",
    "ffn_up.bias",
    "ffn_gate_inp.weight",
    "ffn_gate_inp.bias",
    "ffn_gate_exps.weight",
    "ffn_gate_exps.bias",
    "ffn_up_exps.weight",
    "ffn_up_exps.bias",
    "ffn_gate_shexp.weight",
    "ffn_up_shexp.weight",
    "exp_probs_b.bias",
    "ffn_gate_inp_shexp.weight",
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
    "post_attention_norm.weight",
    "post_ffw_norm.weight",
};

static const char *suffix_of(const struct model_tensor *t)
{
    const char *dot = strncmp(t->name, "blk.", 4) == 0 ? strchr(t->name + 4, '.') : NULL;
    return dot ? dot + 1 : t->name;
}

static bool listed(const char *const *list, size_t n, const char *suffix)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], suffix) == 0)
            return true;
    return false;
}

static bool writes(const struct model_tensor *t)
{
    return t->layer >= 0 && listed(writers, sizeof(writers) / sizeof(writers[0]), suffix_of(t));
}

const char *probe_drop_obstacle(const struct model_desc *d)
{
    for (size_t i = 0; i < d->n_tensors; i++)
        if (d->tensors[i].layer >= 0 && !writes(&d->tensors[i]) &&
            !listed(others, sizeof(others) / sizeof(others[0]), suffix_of(&d->tensors[i])))
            return d->tensors[i].name;
    return NULL;
}

static bool wanted(const struct model_tensor *t, const uint32_t *layers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (writes(t) && (uint32_t)t->layer == layers[i])
            return true;
    return false;
}

static int silence(const struct probe_job *job, const struct model_tensor *t, struct err *e)
{
    uint64_t n;
    if (!shape_elements(&t->shape, &n))
        return err_set(e, ERR_INPUT, NULL, "tensor %s: its size overflows", t->name);
    float *zeros = big_alloc(n * sizeof(*zeros), "a tensor of zeros", e);
    int rc = zeros ? engine_tensor_set(job->engine, t->name, zeros, n, e) : -1;
    if (zeros)
        big_free(zeros, n * sizeof(*zeros));
    return rc;
}

int probe_drop(const struct probe_job *job, const uint32_t *layers, size_t n, struct stat_mean *kld,
               size_t *windows, struct err *e)
{
    const struct model_desc *d = model_desc(job->model);
    bool *done = xcalloc(d->n_tensors + 1, sizeof(*done));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < d->n_tensors; i++) {
        done[i] = wanted(&d->tensors[i], layers, n);
        if (done[i])
            rc = silence(job, &d->tensors[i], e);
    }
    if (rc == 0)
        rc = probe_read(job, kld, windows, e);
    /* After a failure the first error is the one to report; restoring is then best effort. */
    for (size_t i = 0; i < d->n_tensors; i++)
        if (done[i] && engine_tensor_restore(job->engine, d->tensors[i].name, rc ? NULL : e) != 0)
            rc = -1;
    xfree(done);
    return rc != 0 ? err_context(e, "probing without block %u%s", layers[0], n > 1 ? ", ..." : "")
                   : 0;
}
