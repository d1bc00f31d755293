/* A fingerprint of the model itself: its weights as stored, their names, types and shapes, and the
 * metadata that decides what it computes and how it tokenizes.
 *
 * What only labels a file (general.name, licence, ...) stays out, so that renaming a folder does
 * not change the fingerprint and with it every cache key. Layout hashed, all little-endian:
 *   "sintra model 1\n", then per tensor in order of names: name NUL, u32 dtype, u32 n_dims, u64
 *   ne[], stored bytes; then per key in order of keys: key NUL, u32 type, u32 element, u64 count,
 *   value. */
#include "model/packed_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/stop.h"
#include "base/banned.h"

#define HASH_CHUNK (8u << 20)

static void add_u32(struct hash_sha256 *h, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    hash_sha256_add(h, b, sizeof b);
}

static void add_u64(struct hash_sha256 *h, uint64_t v)
{
    add_u32(h, (uint32_t)v);
    add_u32(h, (uint32_t)(v >> 32));
}

static void add_text(struct hash_sha256 *h, const char *s)
{
    hash_sha256_add(h, s, strlen(s) + 1);
}

static int add_bytes(struct hash_sha256 *h, const struct model *m, const struct model_part *s,
                     const char *name, uint64_t *done, const struct progress *p, struct err *e)
{
    for (uint64_t at = 0; at < s->bytes; at += HASH_CHUNK) {
        uint64_t left = s->bytes - at, n = left < HASH_CHUNK ? left : HASH_CHUNK;
        if (stop_check(e) || (s->map && fs_map_check(s->map, e)))
            return -1;
        if (s->map && left > n)
            fs_map_prefetch(s->map, s->offset + at + n,
                            left - n < HASH_CHUNK ? left - n : HASH_CHUNK);
        hash_sha256_add(h, s->data + at, n);
        *done += n;
        double all = (double)m->source_bytes;
        progress_report(p, "hash", (double)*done < all ? (double)*done : all, all, name);
    }
    return 0;
}

static void add_pieces(struct hash_sha256 *h, const struct model_packed *k)
{
    const struct packed_piece none = {0};
    const struct packed_piece *const all[] = {
        k ? &k->scales : &none, k ? &k->zeros : &none,         k ? &k->index : &none,
        k ? &k->table : &none,  k ? &k->nested_scales : &none, k ? &k->nested_table : &none};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->data)
            hash_sha256_add(h, all[i]->data, all[i]->bytes);
    /* What stands in no tensor. FP8 has nothing of it. */
    if (k && k->packing != PACKING_FP8) {
        uint32_t offset;
        memcpy(&offset, &k->nested_offset, sizeof offset);
        add_u32(h, k->bits);
        add_u32(h, k->zero_add);
        add_u64(h, k->block);
        add_u32(h, offset);
    }
}

/* Parts of one stored tensor stand next to each other; its bytes count once. */
static int add_parts(struct hash_sha256 *h, const struct model *m, size_t i, uint64_t *done,
                     const struct progress *p, struct err *e)
{
    const struct model_source *s = &m->sources[i];
    int failed = 0;
    for (size_t k = 0; k < s->n_parts && !failed; k++)
        if (k == 0 || s->parts[k].data != s->parts[k - 1].data) {
            failed = add_bytes(h, m, &s->parts[k], m->desc.tensors[i].name, done, p, e);
            add_pieces(h, s->parts[k].packed);
        }
    return failed;
}

static int add_tensor(struct hash_sha256 *h, const struct model *m, size_t i, uint64_t *done,
                      const struct progress *p, struct err *e)
{
    const struct model_tensor *t = &m->desc.tensors[i];
    add_text(h, t->name);
    add_u32(h, (uint32_t)t->dtype);
    add_u32(h, (uint32_t)t->shape.n_dims);
    for (int d = 0; d < t->shape.n_dims; d++)
        add_u64(h, t->shape.ne[d]);
    return add_parts(h, m, i, done, p, e);
}

static void add_kv(struct hash_sha256 *h, const struct gguf_kv *kv)
{
    add_text(h, kv->key);
    add_u32(h, (uint32_t)kv->type);
    add_u32(h, kv->type == GGUF_ARRAY ? (uint32_t)kv->element : 0);
    if (kv->type == GGUF_STR) {
        add_u64(h, kv->str.len);
        hash_sha256_add(h, kv->str.data, kv->str.len);
    } else if (kv->type == GGUF_ARRAY) {
        add_u64(h, kv->count);
        if (kv->element != GGUF_STR)
            hash_sha256_add(h, kv->raw, kv->count * gguf_type_bytes(kv->element));
        for (uint64_t i = 0; kv->element == GGUF_STR && i < kv->count; i++) {
            add_u64(h, kv->strs[i].len);
            hash_sha256_add(h, kv->strs[i].data, kv->strs[i].len);
        }
    } else {
        uint64_t bits;
        memcpy(&bits, &kv->f, sizeof bits);
        bool real = kv->type == GGUF_F32 || kv->type == GGUF_F64;
        bool sign = kv->type == GGUF_I8 || kv->type == GGUF_I16 || kv->type == GGUF_I32 ||
                    kv->type == GGUF_I64;
        add_u64(h, real ? bits : sign ? (uint64_t)kv->i : kv->u);
    }
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(**(const char *const *const *)a, **(const char *const *const *)b);
}

/* Pointers to the name fields of n records of `size` bytes, in order of the names. */
static const char ***sorted_names(const void *names, size_t n, size_t size)
{
    const char ***order = xcalloc(n + 1, sizeof *order);
    for (size_t i = 0; i < n; i++)
        order[i] = (const char **)((uintptr_t)names + i * size);
    qsort(order, n, sizeof *order, compare_text);
    return order;
}

static bool key_counts(const char *key)
{
    return strncmp(key, "general.", 8) != 0 || strcmp(key, "general.architecture") == 0;
}

int model_hash(struct model *m, const struct progress *p, char hex[static 65], struct err *e)
{
    struct hash_sha256 *h = hash_sha256_new();
    const struct model_desc *d = &m->desc;
    const char ***order = sorted_names(&d->tensors->name, d->n_tensors, sizeof *d->tensors);
    uint64_t done = 0;
    int failed = 0;
    add_text(h, "sintra model 1\n");
    for (size_t i = 0; i < d->n_tensors && !failed; i++) {
        size_t index = ((uintptr_t)order[i] - (uintptr_t)&d->tensors->name) / sizeof *d->tensors;
        failed = add_tensor(h, m, index, &done, p, e);
    }
    xfree(order);
    order = sorted_names(&m->kvs.items->key, m->kvs.n, sizeof *m->kvs.items);
    for (size_t i = 0; i < m->kvs.n && !failed; i++)
        if (key_counts(*order[i]))
            add_kv(h, gguf_kvs_find(&m->kvs, *order[i]));
    xfree(order);
    hash_sha256_finish(h, hex);
    return failed;
}
