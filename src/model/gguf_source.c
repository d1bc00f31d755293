/* A GGUF file as a model: tensors and metadata are already what a GGUF needs, so they pass through.
 *
 * Any architecture is accepted, since a file can be requantized tensor by tensor without knowing
 * what it computes; the facts of model_desc come from the standard keys, as far as they are there.
 * Keys that describe the file rather than the model (type, split, quantization version) are left to
 * the writer. gguf_open has validated the file before anything here looks at it. */
#include "model/model_int.h"

#include <string.h>

#include "base/banned.h"

static bool key_is_of_file(const char *key)
{
    return strcmp(key, "general.file_type") == 0 ||
           strcmp(key, "general.quantization_version") == 0 || strncmp(key, "split.", 6) == 0;
}

static uint64_t array_first(const struct gguf_kv *kv)
{
    const uint8_t *raw = kv->raw;
    size_t size = kv->element == GGUF_U32 || kv->element == GGUF_I32   ? 4
                  : kv->element == GGUF_U64 || kv->element == GGUF_I64 ? 8
                                                                       : 0;
    for (uint64_t i = 0; size && i < kv->count; i++) {
        uint64_t v = 0;
        for (size_t b = 0; b < size; b++)
            v |= (uint64_t)raw[i * size + b] << (8 * b);
        if (v != 0 && v <= INT32_MAX)
            return v;
    }
    return 0;
}

/* "ARCH.suffix" as a number; of a per-layer array the first that is not zero; 0 when absent. */
static uint32_t arch_number(struct model *m, const char *suffix)
{
    char *key = arena_printf(&m->arena, "%s.%s", m->desc.architecture, suffix);
    const struct gguf_kv *kv = gguf_kvs_find(&m->kvs, key);
    uint64_t v = 0;
    if (kv && kv->type == GGUF_ARRAY)
        v = array_first(kv);
    else if (!gguf_get_u64(&m->kvs, key, &v))
        v = 0;
    return v <= UINT32_MAX ? (uint32_t)v : 0;
}

/* Is the value an array of numbers that begins with zero? */
static bool first_is_zero(struct model *m, const char *suffix)
{
    static const uint8_t zero[8];
    char *key = arena_printf(&m->arena, "%s.%s", m->desc.architecture, suffix);
    const struct gguf_kv *kv = gguf_kvs_find(&m->kvs, key);
    size_t size = kv && kv->type == GGUF_ARRAY && kv->count ? gguf_type_bytes(kv->element) : 0;
    return size > 0 && size <= sizeof zero && memcmp(kv->raw, zero, size) == 0;
}

static uint32_t vocab_size(struct model *m)
{
    const struct gguf_kv *tokens = gguf_kvs_find(&m->kvs, "tokenizer.ggml.tokens");
    if (tokens && tokens->type == GGUF_ARRAY && tokens->count <= UINT32_MAX)
        return (uint32_t)tokens->count;
    return arch_number(m, "vocab_size");
}

static void describe(struct model *m)
{
    struct model_desc *d = &m->desc;
    const char *arch = gguf_get_str(&m->kvs, "general.architecture");
    const char *name = gguf_get_str(&m->kvs, "general.name");
    d->architecture = arch ? arch : "unknown";
    d->name = name ? name : arena_strdup(&m->arena, fs_basename(m->path));
    d->n_layer = arch_number(m, "block_count");
    d->n_embd = arch_number(m, "embedding_length");
    d->n_ff = arch_number(m, "feed_forward_length");
    d->n_head = arch_number(m, "attention.head_count");
    d->n_head_kv = arch_number(m, "attention.head_count_kv");
    d->n_expert = arch_number(m, "expert_count");
    d->n_ctx_train = arch_number(m, "context_length");
    d->head_dim = arch_number(m, "attention.key_length");
    if (d->n_head_kv == 0)
        d->n_head_kv = d->n_head;
    if (d->head_dim == 0 && d->n_head != 0)
        d->head_dim = d->n_embd / d->n_head;
    d->bare_first_layer =
        first_is_zero(m, "attention.head_count") || first_is_zero(m, "attention.head_count_kv");
    d->n_vocab = vocab_size(m);
    bool causal = true;
    char *key = arena_printf(&m->arena, "%s.attention.causal", d->architecture);
    d->encoder = gguf_get_bool(&m->kvs, key, &causal) && !causal;
    d->tied = model_find(m, "output.weight") < 0;
}

static int add_tensors(struct model *m, struct err *e)
{
    for (size_t i = 0; i < m->gguf.n_tensors; i++) {
        const struct gguf_tensor *g = &m->gguf.tensors[i];
        struct model_tensor t = {.name = g->name, .dtype = g->dtype, .shape = g->shape};
        struct model_part part = {.data = gguf_tensor_data(&m->gguf, g),
                                  .map = &m->gguf.maps[g->file],
                                  .offset = g->offset,
                                  .bytes = g->bytes,
                                  .stored_name = g->name};
        struct model_source s = model_source_whole(m, &part, &t);
        if (model_add_tensor(m, &t, &s, e))
            return -1;
    }
    return 0;
}

int gguf_source_open(struct model *m, struct err *e)
{
    if (gguf_open(&m->gguf, m->path, GGUF_CHECK_MODEL, e))
        return -1;
    m->is_gguf = true;
    for (size_t i = 0; i < m->gguf.kvs.n; i++)
        if (!key_is_of_file(m->gguf.kvs.items[i].key))
            gguf_set_copy(&m->kvs, &m->gguf.kvs.items[i]);
    if (add_tensors(m, e))
        return -1;
    for (int i = 0; i < m->gguf.n_maps; i++)
        m->source_bytes += m->gguf.maps[i].size;
    describe(m);
    return 0;
}
