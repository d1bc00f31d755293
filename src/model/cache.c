/* How large a model's KV cache is, from its metadata alone.
 *
 * Per token and layer the cache holds a key and a value for each key/value head. Layers without any
 * (short convolutions, state spaces: head_count_kv is 0 there; linear attention between every n-th
 * full one) and layers that share another's cache hold nothing. Latent attention (MLA) keeps one
 * vector in place of keys and values. Sliding windows count whole, as libllama's default has them,
 * and what state-space layers keep, which does not grow with the context, is left out.
 *
 * Facts: llama_kv_cache and llama_hparams of llama.cpp 0.5.0. */
#include "model/model_int.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "base/banned.h"

enum { CONTEXT_STEP = 256 }; /* libllama rounds contexts up to it */

static bool arch_key(const struct model *m, const char *suffix, uint64_t *v)
{
    char key[160];
    snprintf(key, sizeof(key), "%s.%s", m->desc.architecture, suffix);
    return gguf_get_u64(&m->kvs, key, v);
}

/* Key/value heads of a layer as metadata says them. */
static uint64_t heads_of(const struct model *m, const struct gguf_kv *list, uint32_t layer)
{
    if (!list || list->type != GGUF_ARRAY)
        return m->desc.n_head_kv;
    size_t size = gguf_type_bytes(list->element);
    if (layer >= list->count || size == 0 || size > 8)
        return 0;
    const uint8_t *at = (const uint8_t *)list->raw + layer * size;
    uint64_t v = 0;
    for (size_t b = 0; b < size; b++)
        v |= (uint64_t)at[b] << (8 * b);
    return v <= UINT16_MAX ? v : 0;
}

/* Key/value heads of all layers together. */
static uint64_t heads_of_all(const struct model *m)
{
    char key[160];
    uint64_t shared = 0, interval = 0, sum = 0;
    uint32_t n = m->desc.n_layer;
    snprintf(key, sizeof(key), "%s.attention.head_count_kv", m->desc.architecture);
    const struct gguf_kv *list = gguf_kvs_find(&m->kvs, key);
    if (arch_key(m, "attention.shared_kv_layers", &shared))
        n -= shared < n ? (uint32_t)shared : 0;
    arch_key(m, "full_attention_interval", &interval);
    for (uint32_t i = 0; i < n; i++)
        if (interval == 0 || (i + 1) % interval == 0)
            sum += heads_of(m, list, i);
    return sum;
}

static uint32_t length_of(const struct model *m, const char *suffix)
{
    const struct model_desc *d = &m->desc;
    uint64_t v;
    if (arch_key(m, suffix, &v) && v > 0 && v <= UINT16_MAX)
        return (uint32_t)v;
    return d->n_head > 0 ? d->n_embd / d->n_head : d->head_dim;
}

void model_describe_cache(struct model *m)
{
    struct model_desc *d = &m->desc;
    uint64_t heads, mla;
    d->cache = (struct model_cache){0};
    if (d->encoder || d->n_head_kv == 0)
        return;
    heads = heads_of_all(m); /* below 2^48: a head count has 16 bits */
    d->cache.head_k = length_of(m, "attention.key_length");
    d->cache.k = heads * d->cache.head_k;
    d->cache.latent = arch_key(m, "attention.key_length_mla", &mla) && mla > 0;
    if (d->cache.latent)
        return;
    d->cache.head_v = length_of(m, "attention.value_length");
    d->cache.v = heads * d->cache.head_v;
}

static uint64_t bytes_of(uint64_t n, enum cache_type t)
{
    const struct dtype_info *type = dtype_info(cache_type_dtype(t));
    return (n + type->block - 1) / type->block * type->bytes;
}

uint64_t model_kv_bytes_per_token(const struct model_desc *d, struct cache_types t)
{
    return bytes_of(d->cache.k, t.k) + bytes_of(d->cache.v, t.v);
}

bool model_kv_bytes(const struct model_desc *d, struct cache_types t, uint64_t context,
                    uint64_t *bytes)
{
    uint64_t padded;
    return num_align_u64(context, CONTEXT_STEP, &padded) &&
           num_mul_u64(model_kv_bytes_per_token(d, t), padded, bytes);
}

static int check_head(const char *what, enum cache_type t, uint32_t head, struct err *e)
{
    const struct dtype_info *type = dtype_info(cache_type_dtype(t));
    if (head % type->block == 0)
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "use f16, bf16 or f32",
                   "the KV cache cannot keep %s as %s: blocks of it hold %" PRIu32
                   " values, and a head of this model has %" PRIu32,
                   what, cache_type_name(t), type->block, head);
}

int model_check_cache(const struct model_desc *d, struct cache_types t, struct err *e)
{
    if (cache_is_default(t))
        return 0;
    if (d->cache.k == 0)
        return err_set(e, ERR_UNSUPPORTED, "leave the types of the cache out",
                       "this model (%s) has no KV cache to choose types for", d->architecture);
    if (d->cache.latent && t.k != t.v)
        return err_set(e, ERR_UNSUPPORTED, "give keys and values the same type",
                       "this model (%s) keeps keys and values as one vector, so they cannot be %s "
                       "and %s",
                       d->architecture, cache_type_name(t.k), cache_type_name(t.v));
    if (check_head("keys", t.k, d->cache.head_k, e) != 0)
        return -1;
    return check_head("values", t.v, d->cache.head_v, e);
}
