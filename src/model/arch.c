/* The list of architectures, and the metadata keys that their tables ask for.
 *
 * Keys, types and order are those of set_gguf_parameters in conversion/base.py of llama.cpp
 * 0.5.0. */
#include "model/config_int.h"

#include <string.h>

#include "base/banned.h"

static const struct arch *const all[] = {&arch_llama, &arch_mistral, &arch_qwen2, &arch_qwen3};

enum { ARCH_COUNT = sizeof all / sizeof *all };

const enum arch_value arch_common_keys[] = {
    VALUE_LAYERS,   VALUE_CONTEXT, VALUE_HIDDEN,  VALUE_FFN,      VALUE_HEADS,
    VALUE_KV_HEADS, VALUE_ROPE,    VALUE_RMS_EPS, VALUE_HEAD_DIM, VALUE_END,
};

const struct arch *arch_find(const char *hf_name)
{
    for (size_t i = 0; i < ARCH_COUNT; i++)
        if (strcmp(all[i]->hf_name, hf_name) == 0)
            return all[i];
    return NULL;
}

const char *const *model_architectures(void)
{
    static const char *names[ARCH_COUNT + 1];
    for (size_t i = 0; i < ARCH_COUNT; i++)
        names[i] = all[i]->hf_name;
    return names;
}

static void set_number(struct gguf_kvs *k, const struct config *c, const char *suffix, uint32_t v)
{
    char *key = xasprintf("%s.%s", c->arch->gguf_name, suffix);
    gguf_set_u32(k, key, v);
    xfree(key);
}

static void set_real(struct gguf_kvs *k, const struct config *c, const char *suffix, double v)
{
    char *key = xasprintf("%s.%s", c->arch->gguf_name, suffix);
    gguf_set_f32(k, key, (float)v);
    xfree(key);
}

static int set_value(struct gguf_kvs *k, const struct config *c, enum arch_value value,
                     struct err *e)
{
    switch (value) {
    case VALUE_LAYERS:
        set_number(k, c, "block_count", c->layers);
        break;
    case VALUE_CONTEXT:
        set_number(k, c, "context_length", c->context);
        break;
    case VALUE_HIDDEN:
        set_number(k, c, "embedding_length", c->hidden);
        break;
    case VALUE_FFN:
        set_number(k, c, "feed_forward_length", c->ffn);
        break;
    case VALUE_HEADS:
        set_number(k, c, "attention.head_count", c->heads);
        break;
    case VALUE_KV_HEADS:
        set_number(k, c, "attention.head_count_kv", c->kv_heads);
        break;
    case VALUE_ROPE:
        return rope_set(k, c, e);
    case VALUE_RMS_EPS:
        set_real(k, c, "attention.layer_norm_rms_epsilon", c->rms_eps);
        break;
    case VALUE_HEAD_DIM:
        if (c->head_dim_stated) {
            set_number(k, c, "attention.key_length", c->head_dim);
            set_number(k, c, "attention.value_length", c->head_dim);
        }
        break;
    case VALUE_VOCAB:
        set_number(k, c, "vocab_size", c->vocab_size);
        break;
    case VALUE_ROPE_DIM:
        set_number(k, c, "rope.dimension_count", c->head_dim);
        break;
    case VALUE_END:
        break;
    }
    return 0;
}

int arch_set_keys(struct gguf_kvs *k, const struct config *c, struct err *e)
{
    for (const enum arch_value *v = c->arch->keys; *v != VALUE_END; v++)
        if (set_value(k, c, *v, e))
            return -1;
    return 0;
}
