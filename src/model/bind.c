/* From tensors as stored to tensors as a GGUF has them, by the table of the architecture.
 *
 * The order is that of llama.cpp's converter: computed tensors first, then shard by shard, inside a
 * shard by stored name. Every stored tensor must be in the table, have a float type and the shape
 * that config.json implies; every tensor of the table must be there for every block. Nothing is
 * copied. */
#include "model/config_int.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"
#include "base/banned.h"

/* Buffers in old checkpoints that hold no weights. */
static const char *const ignored[] = {".attention.masked_bias", ".attention.bias",
                                      ".rotary_emb.inv_freq"};

struct binding {
    struct model *m;
    const struct config *c;
    size_t rows;   /* of the table */
    uint8_t *seen; /* [row × layers + layer] */
    struct map by_pattern;
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

/* "model.layers.12.mlp.x" → "model.layers.%.mlp.x" and 12; other names as they are and −1. */
static char *to_pattern(const char *name, long *layer)
{
    const char *first = strpbrk(name, "0123456789");
    *layer = -1;
    if (!first || first == name || first[-1] != '.')
        return xstrdup(name);
    char *end;
    long n = strtol(first, &end, 10);
    if (*end != '.' || n < 0 || end - first > 6 || (first[0] == '0' && end - first > 1))
        return xstrdup(name);
    *layer = n;
    return xasprintf("%.*s%%%s", (int)(first - name), name, end);
}

static const char *with_layer(struct arena *a, const char *pattern, long layer)
{
    const char *mark = strchr(pattern, '%');
    if (!mark)
        return pattern;
    return arena_printf(a, "%.*s%ld%s", (int)(mark - pattern), pattern, layer, mark + 1);
}

static void dims_text(struct buf *b, const uint64_t *dims, int n)
{
    buf_addc(b, '[');
    for (int i = 0; i < n; i++)
        buf_addf(b, "%s%llu", i ? ", " : "", (unsigned long long)dims[i]);
    buf_addc(b, ']');
}

static int wrong_shape(const struct binding *b, const struct safetensors *s,
                       const struct safetensors_tensor *t, const uint64_t *want, int n,
                       struct err *e)
{
    struct buf found, expected;
    buf_init(&found, 200);
    buf_init(&expected, 100);
    dims_text(&found, t->dims, t->n_dims);
    dims_text(&expected, want, n);
    const struct config *c = b->c;
    err_set(
        e, ERR_INPUT, "config.json and the weights are of different models; fetch both again",
        "tensor %.200s in %s has shape %s, but config.json implies %s (vocab_size %u, hidden_size "
        "%u, "
        "intermediate_size %u, %u heads and %u key-value heads of %u)",
        t->name, s->map.path, buf_str(&found), buf_str(&expected), c->vocab_size, c->hidden, c->ffn,
        c->heads, c->kv_heads, c->head_dim);
    buf_release(&found);
    buf_release(&expected);
    return -1;
}

static int check_shape(const struct binding *b, const struct arch_tensor *row,
                       const struct safetensors *s, const struct safetensors_tensor *t,
                       struct shape *shape, struct err *e)
{
    uint64_t want[2] = {config_dim(b->c, row->rows), config_dim(b->c, row->cols)};
    int n = row->cols == DIM_NONE ? 1 : 2;
    if (t->n_dims != n || t->dims[0] != want[0] || (n == 2 && t->dims[1] != want[1]))
        return wrong_shape(b, s, t, want, n, e);
    *shape = (struct shape){.n_dims = n, .ne = {want[n - 1], n == 2 ? want[0] : 1, 1, 1}};
    return 0;
}

static int check_dtype(const struct safetensors *s, const struct safetensors_tensor *t,
                       struct err *e)
{
    if (t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16 || t->dtype == DT_F64)
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "use a checkpoint in BF16, F16 or F32",
                   "tensor %.200s in %s has type %s, expected a float type", t->name, s->map.path,
                   dtype_name(t->dtype));
}

static uint32_t permute_heads(const struct config *c, enum arch_permute permute)
{
    return permute == PERMUTE_Q ? c->heads : permute == PERMUTE_KV ? c->kv_heads : 0;
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

static int check_unwanted(const struct binding *b, const struct arch_tensor *row,
                          const struct safetensors *s, const char *name, struct err *e)
{
    bool attention = row->need == NEED_ATTENTION_BIAS && b->c->attention_bias == FLAG_NO;
    bool mlp = row->need == NEED_MLP_BIAS && b->c->mlp_bias == FLAG_NO;
    if (!attention && !mlp)
        return 0;
    return err_set(e, ERR_INPUT,
                   "set the flag to true if the biases belong to the model, or remove the tensors",
                   "%s says %s false, but %s has tensor %.200s", b->c->where,
                   attention ? "attention_bias" : "mlp_bias", s->map.path, name);
}

static int bind_row(struct binding *b, const struct arch_tensor *row, long layer,
                    const struct safetensors *s, const struct safetensors_tensor *t, struct err *e)
{
    size_t at =
        (size_t)(row - b->c->arch->tensors) * b->c->layers + (layer < 0 ? 0 : (size_t)layer);
    struct model_tensor tensor = {.name = with_layer(&b->m->arena, row->gguf, layer),
                                  .dtype = t->dtype};
    struct model_source source = {.data = s->map.data + t->offset,
                                  .map = &s->map,
                                  .offset = t->offset,
                                  .bytes = t->bytes,
                                  .permute_heads = permute_heads(b->c, row->permute),
                                  .stored_name = t->name};
    if (check_unwanted(b, row, s, t->name, e) || check_dtype(s, t, e) ||
        check_shape(b, row, s, t, &tensor.shape, e))
        return -1;
    if (b->seen[at])
        return err_set(e, ERR_INPUT, "remove the file that does not belong to the model",
                       "tensor %.200s is in %s and in another file of the folder too", t->name,
                       s->map.path);
    b->seen[at] = 1;
    return model_add_tensor(b->m, &tensor, &source, e);
}

static int bind_one(struct binding *b, const struct safetensors *s,
                    const struct safetensors_tensor *t, struct err *e)
{
    if (is_ignored(t->name))
        return 0;
    long layer;
    uint64_t row;
    char *pattern = to_pattern(t->name, &layer);
    bool known = map_get_str(&b->by_pattern, pattern, &row);
    xfree(pattern);
    if (!known)
        return unknown_tensor(b, s, t->name, e);
    if (layer >= (long)b->c->layers)
        return err_set(e, ERR_INPUT,
                       "config.json and the weights are of different models; fetch both again",
                       "tensor %.200s in %s belongs to block %ld, but config.json says %u blocks "
                       "(num_hidden_layers)",
                       t->name, s->map.path, layer, b->c->layers);
    return bind_row(b, &b->c->arch->tensors[row], layer, s, t, e);
}

/* ---- what is missing
 * ---------------------------------------------------------------------------- */

static bool is_needed(const struct binding *b, const struct arch_tensor *row)
{
    switch (row->need) {
    case NEED_ALWAYS:
        return true;
    case NEED_HEAD:
        return b->c->tied != FLAG_YES;
    case NEED_ATTENTION_BIAS:
        return b->c->attention_bias == FLAG_YES;
    case NEED_MLP_BIAS:
        return b->c->mlp_bias == FLAG_YES;
    }
    return true;
}

/* Biases come for all blocks or for none. */
static bool any_seen(const struct binding *b, size_t row)
{
    for (uint32_t layer = 0; layer < b->c->layers; layer++)
        if (b->seen[row * b->c->layers + layer])
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

static int check_complete(const struct binding *b, struct err *e)
{
    const char *first = NULL;
    long first_layer = -1;
    size_t count = 0;
    for (size_t r = 0; r < b->rows; r++) {
        const struct arch_tensor *row = &b->c->arch->tensors[r];
        bool block = strchr(row->hf, '%') != NULL;
        if (!is_needed(b, row) && !(block && any_seen(b, r)))
            continue;
        for (uint32_t layer = 0; layer < (block ? b->c->layers : 1); layer++) {
            if (b->seen[r * b->c->layers + layer])
                continue;
            count++;
            if (!first || (block && first_layer > (long)layer)) {
                first_layer = block ? (long)layer : -1;
                first = with_layer(&b->m->arena, row->hf, first_layer);
            }
        }
    }
    return first ? missing(b, first, first_layer, count, e) : 0;
}

/* ---- all of it
 * ---------------------------------------------------------------------------------- */

static int add_rope_factors(struct model *m, const struct config *c, struct err *e)
{
    if (c->rope != ROPE_SCALING_LLAMA3)
        return 0;
    uint64_t n = c->head_dim / 2;
    float *factors = arena_alloc(&m->arena, n * sizeof *factors);
    if (rope_factors(c, factors, e))
        return -1;
    struct model_tensor t = {
        .name = "rope_freqs.weight", .dtype = DT_F32, .shape = {1, {n, 1, 1, 1}}};
    struct model_source s = {.data = (const uint8_t *)factors,
                             .bytes = n * sizeof *factors,
                             .stored_name = "rope_freqs.weight"};
    return model_add_tensor(m, &t, &s, e);
}

static int compare_stored(const void *a, const void *b)
{
    return strcmp((*(const struct safetensors_tensor *const *)a)->name,
                  (*(const struct safetensors_tensor *const *)b)->name);
}

static int bind_shard(struct binding *b, const struct safetensors *s, struct err *e)
{
    const struct safetensors_tensor **order = xcalloc(s->n_tensors + 1, sizeof *order);
    for (size_t i = 0; i < s->n_tensors; i++)
        order[i] = &s->tensors[i];
    qsort(order, s->n_tensors, sizeof *order, compare_stored);
    int failed = 0;
    for (size_t i = 0; i < s->n_tensors && !failed; i++)
        failed = bind_one(b, s, order[i], e);
    xfree(order);
    return failed;
}

int bind_tensors(struct model *m, const struct config *c, struct err *e)
{
    struct binding b = {.m = m, .c = c};
    for (const struct arch_tensor *row = c->arch->tensors; row->hf; row++)
        map_add(&b.by_pattern, row->hf, strlen(row->hf), b.rows++);
    b.seen = xcalloc(b.rows, c->layers);
    int failed = add_rope_factors(m, c, e);
    for (size_t k = 0; k < m->n_shards && !failed; k++)
        failed = bind_shard(&b, &m->shards[k], e);
    if (!failed)
        failed = check_complete(&b, e);
    xfree(b.seen);
    map_release(&b.by_pattern);
    return failed;
}
