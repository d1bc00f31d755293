/* From tensors as stored to tensors as a GGUF has them, by the table of the architecture.
 *
 * The order is that of llama.cpp's converter: computed tensors first, then those in MXFP4, then all
 * others, each shard by shard, inside a shard by stored name; a stack stands where the last of its
 * members does. Every stored tensor must be in the table, have a float type and the shape that
 * config.json implies; every tensor of the table must be there for every block. Nothing is copied.
 */
#include "model/config_int.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"
#include "base/banned.h"

enum { STACK_MAX = 4096, GROUPS_MAX = 8 };

/* Buffers in old checkpoints that hold no weights. */
static const char *const ignored[] = {".attention.masked_bias", ".attention.bias",
                                      ".rotary_emb.inv_freq", ".attn.masked_bias",
                                      ".rotary_pos_emb.inv_freq"};

/* What one row of the table became in one block. */
struct slot {
    struct model_part *members; /* of a stack, in the arena; data NULL: not there yet */
    uint32_t count, seen;
};

struct binding {
    struct model *m;
    const struct config *c;
    size_t rows;        /* of the table */
    struct slot *slots; /* [row × layers + layer] */
    struct map by_pattern;
    bool packed; /* some weights are quantized */
};

/* A stored tensor and its place in the table. */
struct found {
    const struct safetensors *file;
    const struct safetensors_tensor *tensor;
    const struct arch_tensor *row;
    bool packed;
    long layer, member; /* −1: none */
};

static bool is_ignored(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        size_t k = strlen(ignored[i]);
        if (n > k && strcmp(name + n - k, ignored[i]) == 0)
            return true;
    }
    return false;
}

static bool is_gone_prefix(const char *name)
{
    static const char *const parts[] = {"vision_tower.", "multi_modal_projector.", "visual.",
                                        "vision_model.", "audio_tower."};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strncmp(name, parts[i], strlen(parts[i])) == 0 ||
            (strncmp(name, "model.", 6) == 0 && strncmp(name + 6, parts[i], strlen(parts[i])) == 0))
            return true;
    return false;
}

/* The name as the table has it: without what wraps a text model in a larger one, and without the
 * beginning that some checkpoints of the architecture leave out. */
static char *plain_name(const struct arch *arch, const char *name)
{
    static const char wrap[] = "language_model.";
    const char *at = strstr(name, wrap);
    char *plain =
        at ? xasprintf("%.*s%s", (int)(at - name), name, at + sizeof wrap - 1) : xstrdup(name);
    size_t len = strlen(plain);
    if (len > 6 && strcmp(plain + len - 6, ".gamma") == 0) { /* as BERT's first checkpoints */
        char *old = plain;
        plain = xasprintf("%.*s.weight", (int)len - 6, old);
        xfree(old);
    } else if (len > 5 && strcmp(plain + len - 5, ".beta") == 0) {
        memcpy(plain + len - 4, "bias", 4);
    }
    for (const char *s = arch->strip; s && *s; s += *s == '|') {
        size_t n = strcspn(s, "|");
        if (strncmp(plain, s, n) == 0) {
            memmove(plain, plain + n, strlen(plain + n) + 1);
            break;
        }
        s += n;
    }
    return plain;
}

/* A number that fills a whole component of the name; −1 otherwise. */
static long component(const char *s, const char **end)
{
    size_t n = strspn(s, "0123456789");
    if (n == 0 || n > 6 || s[n] != '.' || (s[0] == '0' && n > 1))
        return -1;
    *end = s + n;
    return strtol(s, NULL, 10);
}

/* "model.layers.12.mlp.experts.3.x" → "model.layers.%.mlp.experts.#.x", 12 and 3. */
static char *to_pattern(const char *name, long *layer, long *member)
{
    struct buf b;
    buf_init(&b, 4096);
    *layer = *member = -1;
    for (const char *s = name; *s;) {
        const char *end;
        long n = s == name || s[-1] == '.' ? component(s, &end) : -1;
        if (n >= 0 && *layer < 0) {
            *layer = n;
            buf_addc(&b, '%');
            s = end;
        } else if (n >= 0 && *member < 0) {
            *member = n;
            buf_addc(&b, '#');
            s = end;
        } else {
            buf_addc(&b, *s++);
        }
    }
    char *pattern = xstrdup(buf_str(&b));
    buf_release(&b);
    return pattern;
}

static const char *with_numbers(struct arena *a, const char *pattern, long layer, long member)
{
    struct buf b;
    buf_init(&b, 4096);
    for (const char *s = pattern; *s; s++) {
        if (*s == '%')
            buf_addf(&b, "%ld", layer);
        else if (*s == '#')
            buf_addf(&b, "%ld", member);
        else
            buf_addc(&b, *s);
    }
    const char *name = arena_strdup(a, buf_str(&b));
    buf_release(&b);
    return name;
}

static void dims_text(struct buf *b, const uint64_t *dims, int n)
{
    buf_addc(b, '[');
    for (int i = 0; i < n; i++)
        buf_addf(b, "%s%llu", i ? ", " : "", (unsigned long long)dims[i]);
    buf_addc(b, ']');
}

static int wrong_shape(const struct binding *b, const struct found *f, const uint64_t *want, int n,
                       struct err *e)
{
    struct buf found, expected;
    buf_init(&found, 200);
    buf_init(&expected, 200);
    dims_text(&found, f->tensor->dims, f->tensor->n_dims);
    dims_text(&expected, want, n);
    const struct config *c = b->c;
    err_set(
        e, ERR_INPUT, "config.json and the weights are of different models; fetch both again",
        "tensor %.200s in %s has shape %s, but config.json implies %s (vocab_size %u, hidden_size "
        "%u, "
        "intermediate_size %u, %u heads and %u key-value heads of %u)",
        f->tensor->name, f->file->map.path, buf_str(&found), buf_str(&expected), c->vocab_size,
        c->hidden, c->ffn, c->heads, c->kv_heads, c->head_dim);
    buf_release(&found);
    buf_release(&expected);
    return -1;
}

static int check_shape(const struct binding *b, const struct found *f, const uint64_t *want, int n,
                       struct err *e)
{
    bool same = f->tensor->n_dims == n;
    for (int i = 0; i < n && same; i++)
        same = f->tensor->dims[i] == want[i];
    return same ? 0 : wrong_shape(b, f, want, n, e);
}

static int check_dtype(const struct found *f, struct err *e)
{
    enum dtype t = f->tensor->dtype;
    if (t == DT_F32 || t == DT_F16 || t == DT_BF16 || t == DT_F64)
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "use a checkpoint in BF16, F16 or F32",
                   "tensor %.200s in %s has type %s, expected a float type", f->tensor->name,
                   f->file->map.path, dtype_name(t));
}

static int unknown_tensor(const struct binding *b, const struct safetensors *s, const char *name,
                          struct err *e)
{
    return err_set(
        e, ERR_UNSUPPORTED,
        "the model is a variant that this version cannot convert; convert it to GGUF with "
        "another tool and give that",
        "tensor %.200s in %s is not part of %s", name, s->map.path, b->c->arch->hf_name);
}

static int check_unwanted(const struct binding *b, const struct found *f, struct err *e)
{
    bool attention = f->row->need == NEED_ATTENTION_BIAS && b->c->attention_bias == FLAG_NO;
    bool mlp = f->row->need == NEED_MLP_BIAS && b->c->mlp_bias == FLAG_NO;
    if (!attention && !mlp)
        return 0;
    return err_set(e, ERR_INPUT,
                   "set the flag to true if the biases belong to the model, or remove the tensors",
                   "%s says %s false, but %s has tensor %.200s", b->c->where,
                   attention ? "attention_bias" : "mlp_bias", f->file->map.path, f->tensor->name);
}

/* ---- one result
 * --------------------------------------------------------------------------------- */

static struct slot *slot_of(const struct binding *b, const struct arch_tensor *row, long layer)
{
    size_t r = (size_t)(row - b->c->arch->tensors);
    return &b->slots[r * b->c->layers + (layer < 0 ? 0 : (size_t)layer)];
}

static struct model_part plain_part(const struct found *f)
{
    const struct safetensors_tensor *t = f->tensor;
    uint64_t elements = 1;
    for (int i = 0; i < t->n_dims; i++)
        elements *= t->dims[i]; /* the shape has been compared, so this is its product */
    return (struct model_part){.data = f->file->map.data + t->offset,
                               .map = &f->file->map,
                               .offset = t->offset,
                               .bytes = t->bytes,
                               .stored_name = t->name,
                               .dtype = t->dtype,
                               .stored_row = t->n_dims ? t->dims[t->n_dims - 1] : 1,
                               .elements = elements,
                               .n_axes = 1,
                               .axes = {{elements, 1}}};
}

/* GPT-2's layers multiply from the other side, and quantizers turn their matrices around. */
static int refuse_turned(const struct found *f, struct err *e)
{
    const char *view = f->row->view, *end = view ? strstr(view, " : 1 0") : NULL;
    if (!end || end[6])
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "use the float checkpoint it was made of",
                   "tensor %.200s in %s is quantized, and belongs to a layer whose weights are "
                   "stored transposed",
                   f->tensor->name, f->file->map.path);
}

/* The whole stored tensor, checked. */
static int part_of(struct binding *b, const struct found *f, struct model_part *part, struct err *e)
{
    uint64_t want[EXPR_DIMS_MAX];
    int n;
    struct expr x = {.c = b->c, .layer = f->layer};
    if (f->packed) {
        b->packed = true;
        return refuse_turned(f, e) || expr_dims(&x, f->row->shape, want, &n, e) ||
                       packed_open(b->m, b->c, f->file, f->tensor, want, n, part, e)
                   ? -1
                   : 0;
    }
    if (check_dtype(f, e) || expr_dims(&x, f->row->shape, want, &n, e) ||
        check_shape(b, f, want, n, e))
        return -1;
    *part = plain_part(f);
    return 0;
}

static int shape_of(const struct binding *b, const struct arch_tensor *row, long layer,
                    uint32_t count, struct shape *shape, struct err *e)
{
    uint64_t dims[EXPR_DIMS_MAX];
    int n;
    struct expr x = {.c = b->c, .layer = layer};
    if (expr_dims(&x, row->out ? row->out : row->shape, dims, &n, e))
        return -1;
    if (n + (count > 0) > 4)
        return err_set(e, ERR_BUG, NULL, "%s has more than 4 dimensions", row->gguf);
    *shape = (struct shape){.n_dims = n + (count > 0), .ne = {1, 1, 1, 1}};
    for (int i = 0; i < n; i++)
        shape->ne[i] = dims[n - 1 - i];
    if (count > 0)
        shape->ne[n] = count;
    return 0;
}

/* Appends the tensor whose members are `whole`, each read through the view of the row. */
static int emit(struct binding *b, const struct arch_tensor *row, long layer,
                const struct model_part *whole, uint32_t count, struct err *e)
{
    struct model_tensor t = {.name = with_numbers(&b->m->arena, row->gguf, layer, 0),
                             .dtype = whole->dtype};
    struct model_part *parts = arena_alloc(
        &b->m->arena, (count ? count : 1) * (row->view ? EXPR_PIECES_MAX : 1) * sizeof *parts);
    struct model_source source = {.parts = parts, .math = row->math};
    struct expr x = {.c = b->c, .layer = layer};
    uint64_t elements = 0, wanted;
    if (shape_of(b, row, layer, count, &t.shape, e))
        return -1;
    for (uint32_t i = 0; i < (count ? count : 1); i++) {
        int n = 1;
        if (!row->view)
            parts[source.n_parts] = whole[i];
        else if (expr_view(&x, row->view, &whole[i], parts + source.n_parts, &n, e))
            return -1;
        for (int k = 0; k < n; k++)
            elements += parts[source.n_parts++].elements;
    }
    if (!shape_elements(&t.shape, &wanted) || wanted != elements)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: its numbers make %llu elements of %s instead of %llu", b->c->where,
                       (unsigned long long)elements, t.name, (unsigned long long)wanted);
    return model_add_tensor(b->m, &t, &source, e);
}

static int seen_twice(const struct found *f, struct err *e)
{
    return err_set(e, ERR_INPUT, "remove the file that does not belong to the model",
                   "tensor %.200s is in %s and in another file of the folder too", f->tensor->name,
                   f->file->map.path);
}

/* ---- stacks
 * ------------------------------------------------------------------------------------- */

static int stack_count(const struct binding *b, const struct arch_tensor *row, long layer,
                       uint32_t *count, struct err *e)
{
    double v;
    struct expr x = {.c = b->c, .layer = layer};
    if (expr_real(&x, row->count, &v, e))
        return -1;
    if (v < 1 || v > STACK_MAX)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: a stack of %g tensors, expected 1 to %d", b->c->where, v, STACK_MAX);
    *count = (uint32_t)v;
    return 0;
}

static bool group_is_complete(const struct binding *b, int group, long layer)
{
    for (const struct arch_tensor *row = b->c->arch->tensors; row->hf; row++) {
        const struct slot *s = slot_of(b, row, layer);
        if (row->count && row->group == group && (s->count == 0 || s->seen < s->count))
            return false;
    }
    return true;
}

static int bind_member(struct binding *b, const struct found *f, struct err *e)
{
    struct slot *s = slot_of(b, f->row, f->layer);
    if (s->count == 0) {
        if (stack_count(b, f->row, f->layer, &s->count, e))
            return -1;
        s->members = arena_alloc(&b->m->arena, s->count * sizeof *s->members);
        memset(s->members, 0, s->count * sizeof *s->members);
    }
    if (f->member < 0 || f->member >= (long)s->count)
        return err_set(e, ERR_INPUT,
                       "config.json and the weights are of different models; fetch both again",
                       "tensor %.200s in %s is number %ld of a stack, but config.json says %u",
                       f->tensor->name, f->file->map.path, f->member, s->count);
    if (s->members[f->member].data)
        return seen_twice(f, e);
    if (part_of(b, f, &s->members[f->member], e))
        return -1;
    s->seen++;
    if (!group_is_complete(b, f->row->group, f->layer))
        return 0;
    for (const struct arch_tensor *row = b->c->arch->tensors; row->hf; row++) {
        const struct slot *done = slot_of(b, row, f->layer);
        if (row->count && row->group == f->row->group &&
            emit(b, row, f->layer, done->members, done->count, e))
            return -1;
    }
    return 0;
}

/* ---- one stored tensor
 * -------------------------------------------------------------------------- */

static int bind_row(struct binding *b, struct found *f, struct err *e)
{
    if (!f->row->gguf)
        return 0;
    if (check_unwanted(b, f, e))
        return -1;
    if (f->row->count)
        return bind_member(b, f, e);
    struct model_part whole;
    if (part_of(b, f, &whole, e))
        return -1;
    const char *name = f->row->hf;
    for (; f->row->hf && strcmp(f->row->hf, name) == 0; f->row++) {
        struct slot *s = slot_of(b, f->row, f->layer);
        if (s->seen++)
            return seen_twice(f, e);
        if (emit(b, f->row, f->layer, &whole, 0, e))
            return -1;
    }
    return 0;
}

static bool in_table(const struct binding *b, const char *name, struct found *f)
{
    uint64_t row;
    char *plain = plain_name(b->c->arch, name);
    char *pattern = to_pattern(plain, &f->layer, &f->member);
    bool known = map_get_str(&b->by_pattern, pattern, &row);
    xfree(pattern);
    xfree(plain);
    if (known)
        f->row = &b->c->arch->tensors[row];
    return known;
}

/* Zeros that quantizers write though the layer has no bias: nothing asks for them. */
static bool is_idle(const struct binding *b, const struct found *f)
{
    bool asked =
        f->row && ((f->row->need == NEED_ATTENTION_BIAS && b->c->attention_bias == FLAG_YES) ||
                   (f->row->need == NEED_MLP_BIAS && b->c->mlp_bias == FLAG_YES) ||
                   (f->row->need != NEED_ATTENTION_BIAS && f->row->need != NEED_MLP_BIAS));
    return !asked && packed_is_idle_bias(b->m, b->c, f->file, f->tensor);
}

static int bind_known(struct binding *b, struct found *f, bool known, struct err *e)
{
    int64_t predicted = json_opt_i64(b->c->fields, "num_nextn_predict_layers", 0);
    if (f->layer >= (long)b->c->layers && f->layer < (long)b->c->layers + predicted)
        return 0; /* multi-token prediction, which libllama does not need */
    if (is_idle(b, f))
        return 0;
    if (!known)
        return unknown_tensor(b, f->file, f->tensor->name, e);
    if (f->layer < (long)b->c->layers)
        return bind_row(b, f, e);
    return err_set(e, ERR_INPUT,
                   "config.json and the weights are of different models; fetch both again",
                   "tensor %.200s in %s belongs to block %ld, but config.json says %u blocks "
                   "(num_hidden_layers)",
                   f->tensor->name, f->file->map.path, f->layer, b->c->layers);
}

/* What upstream's converter writes before all others, since nothing is computed for it. */
static bool is_block(const struct binding *b, enum packed_role role)
{
    return role == PACKED_CODES && b->c->quant.packing == PACKING_MXFP4;
}

static int bind_one(struct binding *b, const struct safetensors *s,
                    const struct safetensors_tensor *t, bool blocks, struct err *e)
{
    char *name;
    if (is_ignored(t->name) || is_gone_prefix(t->name))
        return 0;
    enum packed_role role = packed_role_of(b->m, b->c, t, &name);
    if (role == PACKED_BESIDE || blocks != is_block(b, role)) {
        xfree(name);
        return 0;
    }
    struct found f = {.file = s, .tensor = t, .packed = role == PACKED_CODES};
    /* A table may know the codes by their own name, where the floats lie in another order. */
    bool known = in_table(b, t->name, &f) || (name && in_table(b, name, &f));
    xfree(name);
    return bind_known(b, &f, known, e);
}

/* ---- what is missing
 * ---------------------------------------------------------------------------- */

static bool is_needed(const struct binding *b, const struct arch_tensor *row, long layer)
{
    double when = 1;
    struct expr x = {.c = b->c, .layer = layer, .lenient = true};
    if (!row->gguf || (row->when && (expr_real(&x, row->when, &when, NULL) || when == 0)))
        return false;
    switch (row->need) {
    case NEED_ALWAYS:
        return true;
    case NEED_HEAD:
        return b->c->tied != FLAG_YES;
    case NEED_ATTENTION_BIAS:
        return b->c->attention_bias == FLAG_YES;
    case NEED_MLP_BIAS:
        return b->c->mlp_bias == FLAG_YES;
    case NEED_DENSE:
        return !config_is_moe(b->c, layer < 0 ? 0 : (uint32_t)layer);
    case NEED_MOE:
        return config_is_moe(b->c, layer < 0 ? 0 : (uint32_t)layer);
    case NEED_ALIKE:
    case NEED_NEVER:
        return false;
    }
    return true;
}

/* Biases come for all blocks or for none. */
static bool any_seen(const struct binding *b, size_t row)
{
    enum arch_need need = b->c->arch->tensors[row].need;
    bool alike = need == NEED_ALIKE || need == NEED_ATTENTION_BIAS || need == NEED_MLP_BIAS;
    for (uint32_t layer = 0; layer < b->c->layers && alike; layer++)
        if (b->slots[row * b->c->layers + layer].seen)
            return true;
    return false;
}

static int missing(const struct binding *b, const char *name, long layer, size_t count,
                   struct err *e)
{
    const struct arch_tensor *head = b->c->arch->tensors;
    while (head->hf && head->need != NEED_HEAD)
        head++;
    bool is_head = head->hf && strcmp(head->hf, name) == 0;
    char where[64] = "", more[64] = "";
    if (layer >= 0)
        snprintf(where, sizeof where, " (block %ld of 0 to %u)", layer, b->c->layers - 1);
    if (count > 1)
        snprintf(more, sizeof more, ", and %zu more", count - 1);
    return err_set(e, ERR_MISSING,
                   is_head ? "if the head shares the embeddings, config.json must say "
                             "\"tie_word_embeddings\": true"
                           : "the download is incomplete, or config.json is of another model",
                   "%s: tensor %s%s is missing%s", b->m->path, name, where, more);
}

/* How many stored tensors are missing of a row in a block, and the number of the first. */
static size_t lacks(const struct slot *s, const struct arch_tensor *row, long *member)
{
    *member = 0;
    if (!row->count)
        return s->seen ? 0 : 1;
    while (s->count && *member < (long)s->count && s->members[*member].data)
        (*member)++;
    return s->count ? s->count - s->seen : 1;
}

static int check_complete(const struct binding *b, struct err *e)
{
    const char *first = NULL;
    long first_layer = -1;
    size_t count = 0;
    for (size_t r = 0; r < b->rows; r++) {
        const struct arch_tensor *row = &b->c->arch->tensors[r];
        bool block = strchr(row->hf, '%') != NULL, alike = block && any_seen(b, r);
        for (uint32_t layer = 0; layer < (block ? b->c->layers : 1); layer++) {
            long at = block ? (long)layer : -1, member;
            const struct slot *s = &b->slots[r * b->c->layers + layer];
            bool needed = alike || s->seen || is_needed(b, row, at);
            size_t n = needed ? lacks(s, row, &member) : 0;
            count += n;
            if (n > 0 && (!first || (block && first_layer > at))) {
                first_layer = at;
                first = with_numbers(&b->m->arena, row->hf, at, member);
            }
        }
    }
    return first ? missing(b, first, first_layer, count, e) : 0;
}

/* ---- all of it
 * ---------------------------------------------------------------------------------- */

static int add_factors(struct model *m, const char *name, const float *factors, uint64_t n,
                       struct err *e)
{
    struct model_tensor t = {.name = name, .dtype = DT_F32, .shape = {1, {n, 1, 1, 1}}};
    struct model_part part = {
        .data = (const uint8_t *)factors, .bytes = n * sizeof *factors, .stored_name = name};
    struct model_source s = model_source_whole(m, &part, &t);
    return model_add_tensor(m, &t, &s, e);
}

static int add_rope_factors(struct model *m, const struct config *c, struct err *e)
{
    double part = c->rotary > 0 && c->rotary <= 1 ? c->rotary : 1;
    uint64_t n =
        c->rope == ROPE_SCALING_LONGROPE ? (uint64_t)(part * c->head_dim) / 2 : c->head_dim / 2;
    if (c->rope == ROPE_SCALING_LLAMA3) {
        float *factors = arena_alloc(&m->arena, n * sizeof *factors);
        return rope_factors(c, factors, e) || add_factors(m, "rope_freqs.weight", factors, n, e)
                   ? -1
                   : 0;
    }
    if (c->rope == ROPE_SCALING_LONGROPE) {
        float *far = arena_alloc(&m->arena, n * sizeof *far);
        float *near = arena_alloc(&m->arena, n * sizeof *near);
        return rope_list(c, "long_factor", far, n, e) || rope_list(c, "short_factor", near, n, e) ||
                       add_factors(m, "rope_factors_long.weight", far, n, e) ||
                       add_factors(m, "rope_factors_short.weight", near, n, e)
                   ? -1
                   : 0;
    }
    return 0;
}

static int compare_stored(const void *a, const void *b)
{
    return strcmp((*(const struct safetensors_tensor *const *)a)->name,
                  (*(const struct safetensors_tensor *const *)b)->name);
}

static int bind_shard(struct binding *b, const struct safetensors *s, bool blocks, struct err *e)
{
    const struct safetensors_tensor **order = xcalloc(s->n_tensors + 1, sizeof *order);
    for (size_t i = 0; i < s->n_tensors; i++)
        order[i] = &s->tensors[i];
    qsort(order, s->n_tensors, sizeof *order, compare_stored);
    int failed = 0;
    for (size_t i = 0; i < s->n_tensors && !failed; i++)
        failed = bind_one(b, s, order[i], blocks, e);
    xfree(order);
    return failed;
}

static void tell_quantized(struct model *m, const struct config *c)
{
    char name[96];
    quantized_name(&c->quant, name);
    m->quantization = arena_strdup(&m->arena, name);
    if (c->quant.packing == PACKING_MXFP4)
        log_warn("%s: the weights are already quantized (%s): float types and MXFP4 keep their "
                 "blocks as they are, other types begin from the floats they stand for",
                 m->path, name);
    else
        log_warn("%s: the weights are already quantized (%s) and are read as the floats they stand "
                 "for; what was lost in making them stays lost",
                 m->path, name);
}

int bind_tensors(struct model *m, const struct config *c, struct err *e)
{
    struct binding b = {.m = m, .c = c};
    for (const struct arch_tensor *row = c->arch->tensors; row->hf; row++)
        map_add(&b.by_pattern, row->hf, strlen(row->hf), b.rows++);
    b.slots = xcalloc(b.rows * c->layers, sizeof *b.slots);
    int failed = add_rope_factors(m, c, e);
    for (size_t k = c->quant.packing == PACKING_MXFP4 ? 0 : m->n_shards;
         k < 2 * m->n_shards && !failed; k++)
        failed = bind_shard(&b, &m->shards[k % m->n_shards], k < m->n_shards, e);
    if (!failed)
        failed = check_complete(&b, e);
    if (!failed && b.packed)
        tell_quantized(m, c);
    xfree(b.slots);
    map_release(&b.by_pattern);
    return failed;
}
