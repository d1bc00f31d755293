/* Dropping blocks.
 *
 * A GGUF names tensors by block and says in metadata how many there are and, where blocks differ,
 * in arrays of one value per block. All three must agree, or libllama refuses the file, as it does
 * with what llama-quantize --prune-layers writes for some models. Some architectures derive a
 * block's kind from its number instead ("every sixth attends to everything"); a dropped block would
 * shift the kinds of all that follow, which no file can say: those are refused.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "surgery/surgery.h"
#include "base/banned.h"

static bool dropped(const struct recipe *r, uint64_t layer)
{
    for (size_t i = 0; i < r->n_drop_layers; i++)
        if (r->drop_layers[i] == layer)
            return true;
    return false;
}

/* Dropped blocks below this one. */
static uint64_t dropped_below(const struct recipe *r, uint64_t layer)
{
    uint64_t n = 0;
    for (size_t i = 0; i < r->n_drop_layers; i++)
        n += r->drop_layers[i] < layer;
    return n;
}

/* ---- what is refused ---- */

static int refuse(const struct model *m, const char *why, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED, "leave drop_layers empty for this model",
                   "%s: blocks of the architecture %s cannot be dropped: %s", model_path(m),
                   model_desc(m)->architecture, why);
}

/* Architectures whose blocks libllama gives rotary positions by their number, whatever the file
 * says (n_no_rope_layer_step in src/models/ of llama.cpp 0.5.0). */
static int check_architecture(const struct model *m, struct err *e)
{
    static const char *const numbered[] = {"smollm3", "llama4", "afmoe", "smallthinker"};
    for (size_t i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++)
        if (strcmp(model_desc(m)->architecture, numbered[i]) == 0)
            return refuse(m, "which of them have no rotary positions follows from their number", e);
    return 0;
}

/* Keys of metadata that say, in one number, which blocks are of which kind. */
static int check_pattern(const struct model *m, struct err *e)
{
    static const char *const keys[] = {
        "attention.sliding_window_pattern", "attention.sliding_window", "full_attention_interval",
        "interleave_moe_layer_step",        "moe_every_n_layers",       "nextn_predict_layers",
        "decoder_start_token_id",
    };
    const struct model_desc *d = model_desc(m);
    char key[160], why[240];
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        uint64_t value;
        snprintf(key, sizeof(key), "%s.%s", d->architecture, keys[i]);
        if (!gguf_get_u64(model_kvs(m), key, &value) || value == 0)
            continue;
        snprintf(why, sizeof(why), "%s ties a block's kind to its number", key);
        return refuse(m, why, e);
    }
    for (size_t i = 0; i < d->n_tensors; i++)
        if (d->tensors[i].layer >= 0 && strncmp(d->tensors[i].name, "blk.", 4) != 0)
            return refuse(m, "it has more than one stack of them", e);
    return d->bare_first_layer ? refuse(m, "its first differs from the others", e) : 0;
}

static int check(const struct model *m, const struct recipe *r, struct err *e)
{
    uint32_t n = model_desc(m)->n_layer;
    for (size_t i = 0; i < r->n_drop_layers; i++)
        if (r->drop_layers[i] >= n)
            return err_set(e, ERR_INPUT, "blocks count from 0",
                           "%s: block %u is to be dropped, and the model has %u", model_path(m),
                           r->drop_layers[i], n);
    if (r->n_drop_layers >= n)
        return err_set(e, ERR_INPUT, "leave one at least", "%s: all %u blocks are to be dropped",
                       model_path(m), n);
    return check_architecture(m, e) != 0 ? -1 : check_pattern(m, e);
}

/* ---- tensors ---- */

static char *renamed(const char *name, int layer, const struct recipe *r)
{
    const char *tail = strchr(name + 4, '.');
    return xasprintf("blk.%llu%s", (unsigned long long)layer - dropped_below(r, (uint64_t)layer),
                     tail);
}

static int drop_tensors(struct model *m, const struct recipe *r, struct err *e)
{
    const struct model_desc *d = model_desc(m);
    size_t *keep = xcalloc(d->n_tensors + 1, sizeof(*keep)), n = 0;
    char **names = xcalloc(d->n_tensors + 1, sizeof(*names));
    for (size_t i = 0; i < d->n_tensors; i++) {
        const struct model_tensor *t = &d->tensors[i];
        if (t->layer >= 0 && dropped(r, (uint64_t)t->layer))
            continue;
        keep[n] = i;
        names[n++] = t->layer >= 0 ? renamed(t->name, t->layer, r) : xstrdup(t->name);
    }
    int rc = model_select(m, keep, (const char *const *)names, n,
                          d->n_layer - (uint32_t)r->n_drop_layers, e);
    for (size_t i = 0; i < n; i++)
        xfree(names[i]);
    xfree(names);
    xfree(keep);
    return rc;
}

/* ---- metadata ---- */

/* Arrays of the architecture with as many values as there are blocks have one per block, but for
 * the few that describe something else. */
static bool per_block(const struct model_desc *d, const struct gguf_kv *kv, uint32_t n_layer)
{
    size_t n = strlen(d->architecture);
    return kv->type == GGUF_ARRAY && kv->count == n_layer && gguf_type_bytes(kv->element) > 0 &&
           strncmp(kv->key, d->architecture, n) == 0 && kv->key[n] == '.' &&
           !strstr(kv->key, ".rope.") && !strstr(kv->key, ".classifier.");
}

static void drop_values(struct gguf_kvs *k, const struct gguf_kv *kv, const struct recipe *r)
{
    size_t size = gguf_type_bytes(kv->element);
    uint64_t count = kv->count, n = 0;
    char *key = xstrdup(kv->key), *out = xmalloc((size_t)count * size);
    enum gguf_type element = kv->element;
    for (uint64_t i = 0; i < count; i++)
        if (!dropped(r, i))
            memcpy(out + n++ * size, (const char *)kv->raw + i * size, size);
    gguf_set_array(k, key, element, out, n);
    xfree(out);
    xfree(key);
}

static void drop_metadata(struct model *m, const struct recipe *r, uint32_t n_layer)
{
    const struct model_desc *d = model_desc(m);
    struct gguf_kvs *k = model_kvs_edit(m);
    char key[160];
    uint64_t dense;
    for (size_t i = 0; i < k->n; i++)
        if (per_block(d, &k->items[i], n_layer))
            drop_values(k, &k->items[i], r);
    snprintf(key, sizeof(key), "%s.block_count", d->architecture);
    gguf_set_u32(k, key, d->n_layer);
    snprintf(key, sizeof(key), "%s.leading_dense_block_count", d->architecture);
    if (gguf_get_u64(k, key, &dense))
        gguf_set_u32(k, key, (uint32_t)(dense - dropped_below(r, dense)));
}

int surgery_apply(struct model *m, const struct recipe *r, struct err *e)
{
    uint32_t n_layer = model_desc(m)->n_layer;
    if (r->n_drop_layers == 0)
        return 0;
    if (check(m, r, e) != 0 || drop_tensors(m, r, e) != 0)
        return -1;
    drop_metadata(m, r, n_layer);
    model_describe_cache(m);
    return 0;
}

/* ---- importance ---- */

void surgery_imatrix(struct imatrix *m, const struct recipe *r, uint32_t n_layer)
{
    struct imatrix out = {
        .chunk_count = m->chunk_count, .chunk_size = m->chunk_size, .partial = m->partial};
    bool whole = false;
    for (size_t i = 0; i < m->n; i++)
        whole = whole ||
                model_layer_of(m->entries[i].name) >= (int)(n_layer - (uint32_t)r->n_drop_layers);
    if (!whole || r->n_drop_layers == 0)
        return;
    memcpy(out.sha256, m->sha256, sizeof(out.sha256));
    for (size_t i = 0; i < m->n_datasets; i++)
        imatrix_add_dataset(&out, m->datasets[i]);
    for (size_t i = 0; i < m->n; i++) {
        const struct imatrix_entry *x = &m->entries[i];
        int layer = model_layer_of(x->name);
        if (layer >= 0 && dropped(r, (uint64_t)layer))
            continue;
        char *name = layer >= 0 && strncmp(x->name, "blk.", 4) == 0 ? renamed(x->name, layer, r)
                                                                    : xstrdup(x->name);
        imatrix_add(&out, name, x->n_in, x->n_mat, x->values, x->counts);
        xfree(name);
    }
    imatrix_release(m);
    *m = out;
}

/* ---- factors ---- */

void surgery_factors(struct factors *to, const struct factors *from, const struct recipe *r)
{
    *to = (struct factors){0};
    memcpy(to->sha256, from->sha256, sizeof(to->sha256));
    to->entries = xcalloc(from->n + 1, sizeof(*to->entries));
    for (size_t i = 0; i < from->n; i++) {
        struct factors_entry x = from->entries[i];
        int layer = model_layer_of(x.name);
        if (layer >= 0 && dropped(r, (uint64_t)layer))
            continue;
        if (layer >= 0) {
            char *name = renamed(x.name, layer, r);
            x.name = arena_strndup(&to->file.arena, name, strlen(name));
            xfree(name);
        }
        map_add(&to->by_name, x.name, strlen(x.name), to->n);
        to->entries[to->n++] = x;
    }
}
