/* From a recipe and a model's description to the type and exact bytes of every tensor.
 *
 * The order of decisions: base (stock mix or type), then rules (the last that matches wins),
 * then what the command line forces, then the fallback for row lengths. Which tensors may be
 * quantized at all, and the fallback chain, are upstream's. Refuses rules that match nothing,
 * types that no encoder writes, and sizes that overflow. Source: tensor_allows_quantization and
 * tensor_type_fallback in src/llama-quant.cpp of llama.cpp 0.5.0. A plan owns its array;
 * plan_release frees it. */
#include "recipe/recipe_int.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

/* ---- what is never quantized ---- */

/* Small, or ruined by blocks: norms, routers, position tables, convolutions, recurrent
 * parameters, projectors. */
static const char *const kept_parts[] = {
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
};
static const char *const kept_names[] = {"position_embd.weight", "token_types.weight"};

/* Dimensions as ggml counts them: trailing ones do not count. */
static int effective_dims(const struct shape *s)
{
    int n = s->n_dims;

    while (n > 1 && s->ne[n - 1] == 1)
        n--;
    return n;
}

bool recipe_tensor_quantizable(const struct model_desc *d, size_t i)
{
    const char *name = d->tensors[i].name;
    size_t len = strlen(name);

    if (effective_dims(&d->tensors[i].shape) < 2)
        return false;
    if (len < 6 || strcmp(name + len - 6, "weight") != 0)
        return false;
    for (size_t k = 0; k < sizeof kept_parts / sizeof kept_parts[0]; k++) {
        if (strstr(name, kept_parts[k]))
            return false;
    }
    for (size_t k = 0; k < sizeof kept_names / sizeof kept_names[0]; k++) {
        if (strcmp(name, kept_names[k]) == 0)
            return false;
    }
    return true;
}

/* ---- fallback ---- */

static const struct {
    enum dtype type, smaller; /* smaller: of its block, not of its size */
} fallbacks[] = {
    {DT_IQ1_S, DT_IQ4_NL}, {DT_IQ1_M, DT_IQ4_NL},   {DT_IQ2_XXS, DT_IQ4_NL}, {DT_IQ2_XS, DT_IQ4_NL},
    {DT_IQ2_S, DT_IQ4_NL}, {DT_IQ3_XXS, DT_IQ4_NL}, {DT_IQ3_S, DT_IQ4_NL},   {DT_IQ4_XS, DT_IQ4_NL},
    {DT_Q1_0, DT_Q4_0},    {DT_Q2_0, DT_Q4_0},      {DT_Q2_K, DT_Q4_0},      {DT_Q3_K, DT_Q4_0},
    {DT_TQ1_0, DT_Q4_0},   {DT_TQ2_0, DT_Q4_0},     {DT_Q4_K, DT_Q5_0},      {DT_Q5_K, DT_Q5_1},
    {DT_Q6_K, DT_Q8_0},
};

enum dtype recipe_fallback(enum dtype type, uint64_t n_per_row)
{
    enum dtype t = type;

    if (n_per_row % dtype_info(t)->block == 0)
        return t;
    for (size_t k = 0; k < sizeof fallbacks / sizeof fallbacks[0]; k++) {
        if (fallbacks[k].type == type)
            t = fallbacks[k].smaller;
    }
    return n_per_row % dtype_info(t)->block == 0 ? t : DT_F16;
}

/* ---- resolve ---- */

/* Only narrow floats become what the model demands; integers and blocks stay what they are. */
static enum dtype kept_type(const struct model_tensor *t)
{
    bool narrow = t->dtype == DT_F16 || t->dtype == DT_BF16;

    if (t->dtype_min != DT_NONE && narrow)
        return t->dtype_min;
    return dtype_info(t->dtype)->gguf ? t->dtype : DT_F32;
}

/* Every rule that matches overwrites what was there. */
static int apply_rules(const struct recipe *r, const struct model_desc *d, enum dtype *types,
                       struct err *e)
{
    for (size_t k = 0; k < r->n_rules; k++) {
        bool matched = false, kept = false;
        for (size_t i = 0; i < d->n_tensors; i++) {
            if (!recipe_match(r->rules[k].match, d->tensors[i].name))
                continue;
            if (recipe_tensor_quantizable(d, i)) {
                types[i] = r->rules[k].type;
                matched = true;
            } else {
                kept = true;
            }
        }
        if (!matched)
            return err_set(e, ERR_INPUT, "list the model's tensors with 'sintra inspect'",
                           "recipe rule %zu: '%s' matches %s", k + 1, r->rules[k].match,
                           kept ? "only tensors that are never quantized (norms, routers, vectors)"
                                : "no tensor of the model");
    }
    return 0;
}

/* A tied head is the embedding, and --pure leaves both to the base type, as upstream does. */
static void warn_of_output_type(const struct model_desc *d, const struct recipe_options *options,
                                const struct stock_mix *mix)
{
    bool by_rows = mix && !options->pure && dtype_info(stock_base_type(mix))->quantized;
    bool tied = true;

    for (size_t i = 0; i < d->n_tensors && tied; i++)
        tied = !stock_is_output(d->tensors[i].name);
    if (tied && !by_rows && options->output_type != DT_NONE && !options->silent)
        log_warn("--output-type has no effect here: the head is token_embd.weight, set its type "
                 "with --embedding-type");
}

static int keep_blocks(const struct model_desc *d, enum dtype *types)
{
    int n = 0;
    for (size_t i = 0; i < d->n_tensors; i++)
        if (d->tensors[i].dtype == DT_HF_MXFP4 && recipe_tensor_quantizable(d, i)) {
            types[i] = DT_MXFP4;
            n++;
        }
    return n;
}

static int resolve_types(const struct recipe *r, const struct model_desc *d,
                         const struct recipe_options *options, struct plan *p, enum dtype *types,
                         struct err *e)
{
    enum dtype base = dtype_by_name(r->base);
    enum dtype *forced = xcalloc(d->n_tensors + 1, sizeof *forced);
    int rc = override_types(d, options, forced, e);

    p->mix = stock_find(r->base);
    if (rc == 0 && !p->mix && base == DT_NONE)
        rc = err_set(e, ERR_INPUT, "use a stock mix such as Q4_K_M, or a tensor type such as MXFP4",
                     "recipe base '%s' is neither a stock mix nor a tensor type", r->base);
    if (rc == 0 && p->mix)
        rc = stock_choose(p->mix, d, options, forced, types, e);
    for (size_t i = 0; rc == 0 && !p->mix && i < d->n_tensors; i++)
        types[i] = base;
    if (rc == 0 && options->keep_blocks)
        p->n_kept = keep_blocks(d, types);
    if (rc == 0)
        rc = apply_rules(r, d, types, e);
    for (size_t i = 0; rc == 0 && i < d->n_tensors; i++) {
        if (forced[i] != DT_NONE)
            types[i] = forced[i];
    }
    if (rc == 0)
        warn_of_output_type(d, options, p->mix);
    xfree(forced);
    return rc;
}

static int plan_tensor_set(struct plan_tensor *t, const struct model_desc *d, size_t i,
                           enum dtype asked, struct err *e)
{
    const struct model_tensor *m = &d->tensors[i];
    uint64_t elements;

    if (!recipe_tensor_quantizable(d, i))
        asked = kept_type(m);
    t->asked = asked;
    t->type = recipe_fallback(asked, m->shape.ne[0]);
    t->fallback = t->type != asked;
    if (t->type != m->dtype && !dtype_info(t->type)->encodable)
        return err_set(e, ERR_UNSUPPORTED, "choose another type for it",
                       "tensor %s cannot be written as %s: no encoder for this type", m->name,
                       dtype_name(t->type));
    if (!shape_elements(&m->shape, &elements) ||
        !dtype_bytes(t->type, elements, m->shape.ne[0], &t->bytes))
        return err_set(e, ERR_INPUT, NULL, "tensor %s: its size overflows", m->name);
    return 0;
}

int recipe_resolve(const struct recipe *r, const struct model_desc *d,
                   const struct recipe_options *options, struct plan *p, struct err *e)
{
    static const struct recipe_options none = RECIPE_OPTIONS_DEFAULT;
    struct plan made = {.n = d->n_tensors};
    enum dtype *types = xcalloc(d->n_tensors + 1, sizeof *types);
    int rc = model_check_cache(d, r->cache, e);

    if (rc == 0)
        rc = resolve_types(r, d, options ? options : &none, &made, types, e);
    made.tensors = xcalloc(d->n_tensors + 1, sizeof *made.tensors);
    for (size_t i = 0; rc == 0 && i < d->n_tensors; i++) {
        rc = plan_tensor_set(&made.tensors[i], d, i, types[i], e);
        made.n_fallback += made.tensors[i].fallback;
        if (rc == 0 && !num_add_u64(made.tensor_bytes, made.tensors[i].bytes, &made.tensor_bytes))
            rc = err_set(e, ERR_INPUT, NULL, "the sizes of the model's tensors overflow");
    }
    xfree(types);
    if (rc != 0) {
        plan_release(&made);
        return -1;
    }
    made.bpw = d->parameters ? (double)made.tensor_bytes * 8.0 / (double)d->parameters : 0.0;
    *p = made;
    return 0;
}

void plan_release(struct plan *p)
{
    xfree(p->tensors);
    *p = (struct plan){0};
}

int plan_check_importance(const struct plan *p, const struct model_desc *d, bool have_importance,
                          struct err *e)
{
    if (have_importance)
        return 0;
    for (size_t i = 0; i < d->n_tensors; i++) {
        const struct plan_tensor *t = &p->tensors[i];
        if (t->type != d->tensors[i].dtype && recipe_tensor_quantizable(d, i) &&
            stock_tensor_needs_importance(p->mix, d->tensors[i].name, t->type))
            return err_set(
                e, ERR_INPUT,
                "make one with 'sintra calibrate' and give it with --imatrix, or choose a "
                "type of more bits",
                "tensor %s as %s needs an importance matrix", d->tensors[i].name,
                dtype_name(t->type));
    }
    return 0;
}
