/* Names of KV cache types and how other programs are told of them. Owns nothing.
 *
 * Ollama knows f16, q8_0 and q4_0, one for keys and values, and only with flash attention (its
 * FAQ); llama.cpp needs flash attention for quantized values. */
#include "tensor/cache.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/banned.h"

static const struct {
    const char *name;
    enum dtype dtype;
} types[CACHE_TYPES] = {
    [CACHE_F16] = {"f16", DT_F16},          [CACHE_F32] = {"f32", DT_F32},
    [CACHE_BF16] = {"bf16", DT_BF16},       [CACHE_Q8_0] = {"q8_0", DT_Q8_0},
    [CACHE_Q5_1] = {"q5_1", DT_Q5_1},       [CACHE_Q5_0] = {"q5_0", DT_Q5_0},
    [CACHE_Q4_1] = {"q4_1", DT_Q4_1},       [CACHE_Q4_0] = {"q4_0", DT_Q4_0},
    [CACHE_IQ4_NL] = {"iq4_nl", DT_IQ4_NL},
};

const char *cache_type_name(enum cache_type t)
{
    return types[t].name;
}

bool cache_type_find(const char *name, enum cache_type *t)
{
    for (int i = 0; i < CACHE_TYPES; i++)
        if (strcasecmp(types[i].name, name) == 0) {
            *t = (enum cache_type)i;
            return true;
        }
    return false;
}

enum dtype cache_type_dtype(enum cache_type t)
{
    return types[t].dtype;
}

bool cache_same(struct cache_types a, struct cache_types b)
{
    return a.k == b.k && a.v == b.v;
}

bool cache_is_default(struct cache_types t)
{
    return t.k == CACHE_F16 && t.v == CACHE_F16;
}

const char *cache_text(struct cache_types t, char text[static CACHE_TEXT_MAX])
{
    if (t.k == t.v)
        snprintf(text, CACHE_TEXT_MAX, "%s", cache_type_name(t.k));
    else
        snprintf(text, CACHE_TEXT_MAX, "%s/%s", cache_type_name(t.k), cache_type_name(t.v));
    return text;
}

const char *cache_flags(struct cache_types t, char text[static CACHE_TEXT_MAX])
{
    text[0] = 0;
    if (!cache_is_default(t))
        snprintf(text, CACHE_TEXT_MAX, "-ctk %s -ctv %s%s", cache_type_name(t.k),
                 cache_type_name(t.v), dtype_info(types[t.v].dtype)->quantized ? " -fa on" : "");
    return text;
}

const char *cache_ollama(struct cache_types t, char text[static CACHE_TEXT_MAX])
{
    text[0] = 0;
    if (cache_is_default(t))
        return text;
    if (t.k != t.v || (t.k != CACHE_Q8_0 && t.k != CACHE_Q4_0))
        return NULL;
    snprintf(text, CACHE_TEXT_MAX, "OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE=%s",
             cache_type_name(t.k));
    return text;
}
