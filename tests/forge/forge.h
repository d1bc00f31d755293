/* Files made in memory, honest or lying: GGUF, safetensors and importance matrices for tests and
 * fuzzing.
 *
 * Nothing here checks anything: lengths, counts and offsets are written as they are given, because
 * the point is to write what no honest writer would. Shared by tests/unit and tests/fuzz; header
 * only. */
#ifndef TESTS_FORGE_H
#define TESTS_FORGE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORGE_MAX = 1 << 20 };

struct forge {
    uint8_t data[FORGE_MAX];
    size_t n;
    uint64_t kvs, tensors; /* GGUF entries so far, for forge_counts */
};

static inline void forge_bytes(struct forge *f, const void *data, size_t n)
{
    if (n > FORGE_MAX - f->n)
        abort();
    if (n > 0)
        memcpy(f->data + f->n, data, n);
    f->n += n;
}

static inline void forge_u8(struct forge *f, unsigned v)
{
    uint8_t b = (uint8_t)v;
    forge_bytes(f, &b, sizeof b);
}

static inline void forge_u32(struct forge *f, uint32_t v)
{
    forge_bytes(f, &v, sizeof v);
}

static inline void forge_u64(struct forge *f, uint64_t v)
{
    forge_bytes(f, &v, sizeof v);
}

static inline void forge_f32(struct forge *f, float v)
{
    forge_bytes(f, &v, sizeof v);
}

static inline void forge_str(struct forge *f, const char *s)
{
    forge_u64(f, strlen(s));
    forge_bytes(f, s, strlen(s));
}

static inline void forge_fill(struct forge *f, size_t n, unsigned value)
{
    while (n-- > 0)
        forge_u8(f, value);
}

static inline void forge_pad(struct forge *f, size_t align)
{
    while (f->n % align != 0)
        forge_u8(f, 0);
}

/* Overwrites 8 bytes that are there already, a count for instance. */
static inline void forge_patch_u64(struct forge *f, size_t at, uint64_t v)
{
    memcpy(f->data + at, &v, sizeof v);
}

/* ---- GGUF; type numbers as in the format ----------------------------------------------------- */

static inline void forge_gguf(struct forge *f, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    f->n = 0;
    f->kvs = f->tensors = 0;
    forge_bytes(f, "GGUF", 4);
    forge_u32(f, version);
    forge_u64(f, n_tensors);
    forge_u64(f, n_kv);
}

static inline void forge_kv(struct forge *f, const char *key, uint32_t type)
{
    forge_str(f, key);
    forge_u32(f, type);
    f->kvs++;
}

static inline void forge_kv_u32(struct forge *f, const char *key, uint32_t v)
{
    forge_kv(f, key, 4);
    forge_u32(f, v);
}

static inline void forge_kv_f32(struct forge *f, const char *key, float v)
{
    forge_kv(f, key, 6);
    forge_f32(f, v);
}

static inline void forge_kv_str(struct forge *f, const char *key, const char *v)
{
    forge_kv(f, key, 8);
    forge_str(f, v);
}

static inline void forge_kv_array(struct forge *f, const char *key, uint32_t element, uint64_t n)
{
    forge_kv(f, key, 9);
    forge_u32(f, element);
    forge_u64(f, n);
}

static inline void forge_kv_strs(struct forge *f, const char *key, const char *const *v, uint64_t n)
{
    forge_kv_array(f, key, 8, n);
    for (uint64_t i = 0; i < n; i++)
        forge_str(f, v[i]);
}

static inline void forge_tensor(struct forge *f, const char *name, uint32_t n_dims,
                                const uint64_t *ne, uint32_t dtype, uint64_t offset)
{
    forge_str(f, name);
    forge_u32(f, n_dims);
    for (uint32_t d = 0; d < n_dims; d++)
        forge_u64(f, ne[d]);
    forge_u32(f, dtype);
    forge_u64(f, offset);
    f->tensors++;
}

/* Makes the counts of the preamble true. */
static inline void forge_counts(struct forge *f)
{
    forge_patch_u64(f, 8, f->tensors);
    forge_patch_u64(f, 16, f->kvs);
}

/* ---- safetensors ----------------------------------------------------------------------------- */

/* header_len 0 means the true length. */
static inline void forge_safetensors(struct forge *f, const char *header, uint64_t header_len,
                                     size_t data)
{
    f->n = 0;
    forge_u64(f, header_len ? header_len : strlen(header));
    forge_bytes(f, header, strlen(header));
    forge_fill(f, data, 1);
}

/* ---- files ----------------------------------------------------------------------------------- */

static inline void forge_write(const struct forge *f, const char *path)
{
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(f->data, 1, f->n, out) != f->n || fclose(out) != 0) {
        perror(path);
        abort();
    }
}

#endif
