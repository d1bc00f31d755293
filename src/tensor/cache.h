/* Types of the KV cache: what a context keeps of the tokens it has read, keys and values apart.
 *
 * They are not part of a model file: they are how it is run (llama.cpp's -ctk and -ctv). The list
 * is that of llama.cpp 0.5.0 (kv_cache_types in common/arg.cpp). */
#ifndef TENSOR_CACHE_H
#define TENSOR_CACHE_H

#include "tensor/dtype.h"

/* Zero is what libllama does when nothing is asked. */
enum cache_type {
    CACHE_F16,
    CACHE_F32,
    CACHE_BF16,
    CACHE_Q8_0,
    CACHE_Q5_1,
    CACHE_Q5_0,
    CACHE_Q4_1,
    CACHE_Q4_0,
    CACHE_IQ4_NL,
    CACHE_TYPES
};
struct cache_types {
    enum cache_type k, v;
};
/* All names, as choices of an option. */
#define CACHE_NAMES "f32|f16|bf16|q8_0|q5_1|q5_0|q4_1|q4_0|iq4_nl"

const char *cache_type_name(enum cache_type t); /* "q8_0": as llama.cpp spells it */
/* Any case; false for anything else. */
bool cache_type_find(const char *name, enum cache_type *t);
enum dtype cache_type_dtype(enum cache_type t);
bool cache_same(struct cache_types a, struct cache_types b);
bool cache_is_default(struct cache_types t); /* f16, f16 */

enum { CACHE_TEXT_MAX = 64 };
/* "q8_0", or "q8_0/q4_0" where keys and values differ. Returns text. */
const char *cache_text(struct cache_types t, char text[static CACHE_TEXT_MAX]);
/* Options of llama.cpp's programs, "-ctk q8_0 -ctv q8_0 -fa on"; "" for the default. */
const char *cache_flags(struct cache_types t, char text[static CACHE_TEXT_MAX]);
/* Variables of Ollama's server, "OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE=q8_0"; "" for the
 * default; NULL where Ollama has no such cache. */
const char *cache_ollama(struct cache_types t, char text[static CACHE_TEXT_MAX]);

#endif
