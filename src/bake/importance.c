/* Which importance weights go with which tensor.
 *
 * llama-quantize's rules: an entry serves the tensor of its name and must have one weight per
 * input column and expert; a tensor without an entry is encoded without weights, which is an
 * error for types that need them. Stricter than upstream in one thing: a file none of whose
 * entries names a tensor of the model is refused. Softer for the token embedding, whose entries
 * of another length are left aside, as upstream does. Owns nothing: weights stay in the imatrix. */
#include "bake/bake_int.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "base/banned.h"

/* Quantized files and fine-tunes of a model are above 0.9, models trained apart near 0. */
static const double likeness_min = 0.5;
static const char hint_other[] = "this importance file was made for another model";

/* Do the encoders look at weights for this type at all? */
static bool type_weighs(enum dtype type)
{
    return dtype_info(type)->quantized && type != DT_Q8_0;
}

static bool is_embedding(const char *name)
{
    return strcmp(name, "token_embd.weight") == 0 ||
           strcmp(name, "per_layer_token_embd.weight") == 0;
}

static bool is_encoded(const struct setup *s, size_t i)
{
    enum dtype type = s->plan.tensors[i].type;

    return type != s->desc->tensors[i].dtype && recipe_tensor_quantizable(s->desc, i) &&
           !model_has_blocks(s->job->model, (int)i, type);
}

static int check_entry(const struct imatrix_entry *entry, const struct model_tensor *t,
                       struct err *e)
{
    uint64_t have = 0, need = 0;

    if (!num_mul_u64(entry->n_in, entry->n_mat, &have) ||
        !num_mul_u64(t->shape.ne[0], t->shape.ne[2], &need) || have != need)
        return err_set(e, ERR_INPUT, hint_other,
                       "importance of tensor %s has %llu weights, the tensor needs %llu", t->name,
                       (unsigned long long)have, (unsigned long long)need);
    for (uint64_t k = 0; k < have; k++) {
        if (!isfinite(entry->values[k]))
            return err_set(e, ERR_INPUT, "calibrate again",
                           "importance of tensor %s: weight %llu is not a finite number", t->name,
                           (unsigned long long)k);
    }
    return 0;
}

static int bind_tensor(struct setup *s, size_t i, struct err *e)
{
    const struct model_tensor *t = &s->desc->tensors[i];
    const struct imatrix_entry *entry = imatrix_find(s->job->imatrix, t->name);
    struct err ignored = {0};

    if (!entry || !is_encoded(s, i))
        return 0;
    if (is_embedding(t->name)) {
        if (check_entry(entry, t, &ignored) != 0)
            log_info("%s; encoded without weights", ignored.message);
        else
            s->importance[i] = entry->values;
        return 0;
    }
    if (check_entry(entry, t, e) != 0)
        return -1;
    s->importance[i] = entry->values;
    return 0;
}

static bool names_any_tensor(const struct imatrix *m, const struct model_desc *d)
{
    bool any = m->n == 0;

    for (size_t i = 0; i < d->n_tensors && !any; i++)
        any = imatrix_find(m, d->tensors[i].name) != NULL;
    return any;
}

/* What is encoded without weights although there is an importance file. */
static int check_missing(struct setup *s, struct err *e)
{
    for (size_t i = 0; i < s->desc->n_tensors; i++) {
        const char *name = s->desc->tensors[i].name;
        enum dtype type = s->plan.tensors[i].type;
        if (s->importance[i] || !is_encoded(s, i) || !type_weighs(type))
            continue;
        if (stock_tensor_needs_importance(s->plan.mix, name, type))
            return err_set(e, ERR_INPUT,
                           "calibrate on more text, or give the tensor a type of more bits",
                           "tensor %s as %s needs importance weights, and the importance file has "
                           "none for it",
                           name, dtype_name(type));
        if (is_embedding(name) || strcmp(name, "output.weight") == 0)
            continue;
        if (s->n_unweighted++ == 0)
            s->unweighted = name;
    }
    return 0;
}

void importance_warn(const struct setup *s)
{
    if (s->n_unweighted == 1)
        log_warn("the importance file has no weights for tensor %s; it is encoded without",
                 s->unweighted);
    else if (s->n_unweighted > 1)
        log_warn("the importance file has no weights for %zu tensors (%s, ...); they are encoded "
                 "without",
                 s->n_unweighted, s->unweighted);
}

/* Where the file says from which weights it was made, they must be like these. */
static int check_weights(const struct setup *s, struct err *e)
{
    const struct imatrix *m = s->job->imatrix;
    float own[MODEL_SAMPLE];
    size_t n = 0;

    if (m->n_weights != MODEL_SAMPLE || !s->job->model)
        return 0;
    if (model_sample(s->job->model, own, &n, e) != 0)
        return -1;
    double likeness = n == MODEL_SAMPLE ? model_sample_likeness(own, m->weights, n) : 1;
    if (likeness >= likeness_min)
        return 0;
    return err_set(e, ERR_INPUT, "calibrate this model, or give the file that was made from it",
                   "the importance file was made for another model: names and shapes agree, but "
                   "%d weights taken from both correlate by %.2f, expected %.1f or more",
                   MODEL_SAMPLE, likeness, likeness_min);
}

int importance_bind(struct setup *s, struct err *e)
{
    const struct imatrix *m = s->job->imatrix;

    if (!m || m->n == 0)
        return plan_check_importance(&s->plan, s->desc, false, e);
    if (!names_any_tensor(m, s->desc))
        return err_set(e, ERR_INPUT, hint_other,
                       "none of the importance file's %zu entries (%s, ...) names a tensor of the "
                       "model",
                       m->n, m->entries[0].name);
    for (size_t i = 0; i < s->desc->n_tensors; i++) {
        if (bind_tensor(s, i, e) != 0)
            return -1;
    }
    return check_weights(s, e) != 0 ? -1 : check_missing(s, e);
}
