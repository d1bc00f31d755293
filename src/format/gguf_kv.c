/* GGUF key/values in memory: an ordered list with unique keys, and typed access to it.
 *
 * Every key and value is copied into the list's arena by the setters, strings with a NUL behind
 * them, so a list outlives the file it was read from, with one exception: gguf_read.c leaves the
 * bytes of array strings in the map and appends them through gguf_kvs_append. Replaced values stay
 * in the arena until release; lists are short and short-lived. Invariant: by_key holds exactly the
 * keys of items[0..n), each with its index. */
#include "format/gguf_int.h"

#include <string.h>

#include "base/banned.h"

size_t gguf_type_bytes(enum gguf_type type)
{
    static const unsigned char bytes[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    return (size_t)type < sizeof bytes ? bytes[type] : 0;
}

const char *gguf_type_text(enum gguf_type type)
{
    static const char *const names[] = {
        [GGUF_U8] = "u8",      [GGUF_I8] = "i8",       [GGUF_U16] = "u16", [GGUF_I16] = "i16",
        [GGUF_U32] = "u32",    [GGUF_I32] = "i32",     [GGUF_F32] = "f32", [GGUF_BOOL] = "bool",
        [GGUF_STR] = "string", [GGUF_ARRAY] = "array", [GGUF_U64] = "u64", [GGUF_I64] = "i64",
        [GGUF_F64] = "f64",
    };
    return (size_t)type < sizeof names / sizeof names[0] ? names[type] : "?";
}

void gguf_kvs_release(struct gguf_kvs *k)
{
    xfree(k->items);
    map_release(&k->by_key);
    arena_release(&k->arena);
    memset(k, 0, sizeof *k);
}

const struct gguf_kv *gguf_kvs_find(const struct gguf_kvs *k, const char *key)
{
    uint64_t at;
    return map_get_str(&k->by_key, key, &at) ? &k->items[at] : NULL;
}

bool gguf_kvs_append(struct gguf_kvs *k, const struct gguf_kv *kv)
{
    if (!map_add(&k->by_key, kv->key, strlen(kv->key), k->n))
        return false;
    k->items = xgrow(k->items, &k->capacity, k->n + 1, sizeof *k->items);
    k->items[k->n++] = *kv;
    return true;
}

/* Adds or replaces; everything kv points to is in the arena but the key, which is the caller's. */
static void kvs_put(struct gguf_kvs *k, struct gguf_kv kv)
{
    uint64_t at;
    if (map_get_str(&k->by_key, kv.key, &at)) {
        kv.key = k->items[at].key;
        k->items[at] = kv;
        return;
    }
    kv.key = arena_strdup(&k->arena, kv.key);
    gguf_kvs_append(k, &kv);
}

void gguf_set_u32(struct gguf_kvs *k, const char *key, uint32_t v)
{
    kvs_put(k, (struct gguf_kv){.key = key, .type = GGUF_U32, .u = v});
}

void gguf_set_u64(struct gguf_kvs *k, const char *key, uint64_t v)
{
    kvs_put(k, (struct gguf_kv){.key = key, .type = GGUF_U64, .u = v});
}

void gguf_set_i32(struct gguf_kvs *k, const char *key, int32_t v)
{
    kvs_put(k, (struct gguf_kv){.key = key, .type = GGUF_I32, .i = v});
}

void gguf_set_u16(struct gguf_kvs *k, const char *key, uint16_t v)
{
    kvs_put(k, (struct gguf_kv){.key = key, .type = GGUF_U16, .u = v});
}

void gguf_set_f32(struct gguf_kvs *k, const char *key, float v)
{
    kvs_put(k, (struct gguf_kv){.key = key, .type = GGUF_F32, .f = (double)v});
}

void gguf_set_bool(struct gguf_kvs *k, const char *key, bool v)
{
    kvs_put(k, (struct gguf_kv){.key = key, .type = GGUF_BOOL, .u = v});
}

void gguf_set_str(struct gguf_kvs *k, const char *key, const char *v)
{
    gguf_set_strn(k, key, v, strlen(v));
}

/* The arena's memory is zeroed, so a NUL follows. Tokens may hold NUL bytes: lengths rule. */
static char *copy_bytes(struct arena *a, const char *data, size_t n)
{
    char *copy = arena_alloc(a, n + 1);
    if (n > 0)
        memcpy(copy, data, n);
    return copy;
}

void gguf_set_strn(struct gguf_kvs *k, const char *key, const char *v, size_t n)
{
    struct gguf_str str = {copy_bytes(&k->arena, v, n), n};
    kvs_put(k, (struct gguf_kv){.key = key, .type = GGUF_STR, .str = str});
}

void gguf_set_array(struct gguf_kvs *k, const char *key, enum gguf_type element, const void *raw,
                    uint64_t count)
{
    size_t bytes = (size_t)count * gguf_type_bytes(element);
    void *copy = arena_alloc(&k->arena, bytes > 0 ? bytes : 1);
    if (bytes > 0)
        memcpy(copy, raw, bytes);
    kvs_put(k,
            (struct gguf_kv){
                .key = key, .type = GGUF_ARRAY, .element = element, .count = count, .raw = copy});
}

void gguf_set_strs(struct gguf_kvs *k, const char *key, const struct gguf_str *strs, uint64_t count)
{
    struct gguf_str *copy = arena_alloc(&k->arena, (size_t)(count > 0 ? count : 1) * sizeof *copy);
    size_t total = 0;
    for (uint64_t i = 0; i < count; i++)
        total += strs[i].len + 1;
    /* one block for all: a vocabulary has 150,000 short strings */
    char *bytes = arena_alloc(&k->arena, total);
    for (uint64_t i = 0; i < count; i++) {
        if (strs[i].len > 0)
            memcpy(bytes, strs[i].data, strs[i].len);
        copy[i] = (struct gguf_str){bytes, strs[i].len};
        bytes += strs[i].len + 1;
    }
    kvs_put(k,
            (struct gguf_kv){
                .key = key, .type = GGUF_ARRAY, .element = GGUF_STR, .count = count, .strs = copy});
}

void gguf_set_copy(struct gguf_kvs *k, const struct gguf_kv *kv)
{
    if (kv->type == GGUF_STR)
        gguf_set_strn(k, kv->key, kv->str.data, kv->str.len);
    else if (kv->type == GGUF_ARRAY && kv->element == GGUF_STR)
        gguf_set_strs(k, kv->key, kv->strs, kv->count);
    else if (kv->type == GGUF_ARRAY)
        gguf_set_array(k, kv->key, kv->element, kv->raw, kv->count);
    else
        kvs_put(k, *kv);
}

void gguf_remove(struct gguf_kvs *k, const char *key)
{
    uint64_t at;
    if (!map_get_str(&k->by_key, key, &at))
        return;
    memmove(&k->items[at], &k->items[at + 1], (k->n - (size_t)at - 1) * sizeof *k->items);
    k->n--;
    /* every later index moved, so the map is made anew */
    map_release(&k->by_key);
    memset(&k->by_key, 0, sizeof k->by_key);
    for (size_t i = 0; i < k->n; i++)
        map_add(&k->by_key, k->items[i].key, strlen(k->items[i].key), i);
}

static bool is_unsigned(enum gguf_type t)
{
    return t == GGUF_U8 || t == GGUF_U16 || t == GGUF_U32 || t == GGUF_U64;
}

static bool is_signed(enum gguf_type t)
{
    return t == GGUF_I8 || t == GGUF_I16 || t == GGUF_I32 || t == GGUF_I64;
}

static bool kv_u64(const struct gguf_kv *kv, uint64_t *v)
{
    if (is_unsigned(kv->type)) {
        *v = kv->u;
        return true;
    }
    if (is_signed(kv->type) && kv->i >= 0) {
        *v = (uint64_t)kv->i;
        return true;
    }
    return false;
}

bool gguf_get_u64(const struct gguf_kvs *k, const char *key, uint64_t *v)
{
    const struct gguf_kv *kv = gguf_kvs_find(k, key);
    return kv && kv_u64(kv, v);
}

bool gguf_get_f64(const struct gguf_kvs *k, const char *key, double *v)
{
    const struct gguf_kv *kv = gguf_kvs_find(k, key);
    if (!kv || (kv->type != GGUF_F32 && kv->type != GGUF_F64))
        return false;
    *v = kv->f;
    return true;
}

bool gguf_get_bool(const struct gguf_kvs *k, const char *key, bool *v)
{
    const struct gguf_kv *kv = gguf_kvs_find(k, key);
    if (!kv || kv->type != GGUF_BOOL)
        return false;
    *v = kv->u != 0;
    return true;
}

const char *gguf_get_str(const struct gguf_kvs *k, const char *key)
{
    const struct gguf_kv *kv = gguf_kvs_find(k, key);
    return kv && kv->type == GGUF_STR ? kv->str.data : NULL;
}

/* One line per type: the union-free way to read a little-endian number at an unaligned place. */
#define LOAD(field, wide, type)                                                                    \
    do {                                                                                           \
        type x;                                                                                    \
        memcpy(&x, bytes, sizeof x);                                                               \
        kv->field = (wide)x;                                                                       \
    } while (0)

void gguf_kv_load_scalar(struct gguf_kv *kv, const void *bytes)
{
    switch (kv->type) {
    case GGUF_U8:
    case GGUF_BOOL:
        LOAD(u, uint64_t, uint8_t);
        break;
    case GGUF_I8:
        LOAD(i, int64_t, int8_t);
        break;
    case GGUF_U16:
        LOAD(u, uint64_t, uint16_t);
        break;
    case GGUF_I16:
        LOAD(i, int64_t, int16_t);
        break;
    case GGUF_U32:
        LOAD(u, uint64_t, uint32_t);
        break;
    case GGUF_I32:
        LOAD(i, int64_t, int32_t);
        break;
    case GGUF_F32:
        LOAD(f, double, float);
        break;
    case GGUF_U64:
        LOAD(u, uint64_t, uint64_t);
        break;
    case GGUF_I64:
        LOAD(i, int64_t, int64_t);
        break;
    case GGUF_F64:
        LOAD(f, double, double);
        break;
    case GGUF_STR:
    case GGUF_ARRAY:
        break;
    }
}

bool gguf_array_u64(const struct gguf_kv *kv, uint64_t i, uint64_t *v)
{
    size_t size = gguf_type_bytes(kv->element);
    struct gguf_kv one = {.type = kv->element};
    if (kv->type != GGUF_ARRAY || size == 0 || i >= kv->count)
        return false;
    gguf_kv_load_scalar(&one, (const char *)kv->raw + i * size);
    return kv_u64(&one, v);
}
