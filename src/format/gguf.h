/* GGUF v3: values, validating reader, streaming writer.
 *
 * File, little-endian:
 *   "GGUF", u32 version (2 or 3 read, 3 written), i64 n_tensors, i64 n_kv,
 *   n_kv × { string key, i32 type, value },
 *   n_tensors × { string name, u32 n_dims, i64 ne[n_dims], i32 dtype, u64 offset },
 *   padding to general.alignment (default 32), tensor data, each tensor padded to the alignment.
 *   string = u64 length + bytes; array = i32 element type, u64 n, elements.
 * Source: ggml/include/gguf.h of ggml 0.5.0.
 *
 * gguf_open runs points 1–7, 10, 11 and 13 of the project's validator (docs/validator.md) before it
 * returns: every length is compared with the bytes left before use, products and sums step by step,
 * offsets equal the running padded sum, every tensor inside the file. Nothing else in the program
 * parses GGUF, and libllama never sees a file that gguf_open refused. */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H

#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STR,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};
size_t gguf_type_bytes(enum gguf_type type);     /* of one number; 0 for strings and arrays */
const char *gguf_type_text(enum gguf_type type); /* "u32" */

enum { GGUF_NAME_MAX = 63, GGUF_KEY_MAX = 65535, GGUF_TENSORS_MAX = 65536, GGUF_KEYS_MAX = 65536 };

struct gguf_str {
    const char *data; /* elements of arrays read from a file lie in its map, not NUL-terminated */
    size_t len;
};

/* One metadata value. Scalars: one of u (unsigned, bool), i, f by type. Strings: str. Arrays:
 * element type, count and, for fixed-size elements, the raw little-endian bytes; strings as
 * gguf_str[]. */
struct gguf_kv {
    const char *key; /* NUL-terminated */
    enum gguf_type type;
    enum gguf_type element; /* arrays only; never GGUF_ARRAY */
    uint64_t u;
    int64_t i;
    double f;
    struct gguf_str str;
    uint64_t count;              /* arrays */
    const void *raw;             /* arrays of scalars, aligned for their type */
    const struct gguf_str *strs; /* arrays of strings */
};

/* An ordered list of key/values with unique keys; memory in its arena. Setting an existing key
 * replaces the value in place (upstream's setters move it to the end: gguf_remove first for that).
 * Pointers passed in are copied. */
struct gguf_kvs {
    struct gguf_kv *items;
    size_t n, capacity;
    struct map by_key;
    struct arena arena;
};
void gguf_kvs_release(struct gguf_kvs *k);
const struct gguf_kv *gguf_kvs_find(const struct gguf_kvs *k, const char *key);
void gguf_set_u32(struct gguf_kvs *k, const char *key, uint32_t v);
void gguf_set_u64(struct gguf_kvs *k, const char *key, uint64_t v);
void gguf_set_i32(struct gguf_kvs *k, const char *key, int32_t v);
void gguf_set_u16(struct gguf_kvs *k, const char *key, uint16_t v);
void gguf_set_f32(struct gguf_kvs *k, const char *key, float v);
void gguf_set_bool(struct gguf_kvs *k, const char *key, bool v);
void gguf_set_str(struct gguf_kvs *k, const char *key, const char *v);
void gguf_set_strn(struct gguf_kvs *k, const char *key, const char *v, size_t n);
void gguf_set_array(struct gguf_kvs *k, const char *key, enum gguf_type element, const void *raw,
                    uint64_t count);
void gguf_set_strs(struct gguf_kvs *k, const char *key, const struct gguf_str *strs,
                   uint64_t count);
void gguf_set_copy(struct gguf_kvs *k, const struct gguf_kv *kv);
void gguf_remove(struct gguf_kvs *k, const char *key);
/* Integer of any integer type, or fallback; false/fallback when absent or of another kind. */
bool gguf_get_u64(const struct gguf_kvs *k, const char *key, uint64_t *v);
bool gguf_get_f64(const struct gguf_kvs *k, const char *key, double *v);
bool gguf_get_bool(const struct gguf_kvs *k, const char *key, bool *v);
/* NUL-terminated, lives as long as the kvs; NULL when absent or not a string. */
const char *gguf_get_str(const struct gguf_kvs *k, const char *key);

struct gguf_tensor {
    const char *name; /* NUL-terminated */
    enum dtype dtype;
    struct shape shape;
    uint64_t offset; /* absolute, in its file */
    uint64_t bytes;
    int file; /* index into gguf.maps: 0 for unsplit */
};

/* A GGUF model: one file, or all files of a split (NAME-00001-of-0000N.gguf given; siblings' names
 * are derived by us). Metadata is that of the first file. */
struct gguf {
    struct fs_map *maps;
    int n_maps;
    struct gguf_kvs kvs;
    struct gguf_tensor *tensors;
    size_t n_tensors;
    struct map by_name;
    uint32_t version;
    uint64_t alignment;
    struct arena arena;
};

enum gguf_check {
    GGUF_CHECK_CONTAINER = 1, /* points 1–7 and 13 */
    GGUF_CHECK_MODEL = 2      /* and 10, 11: what a language model needs; not for imatrix files */
};
int gguf_open(struct gguf *g, const char *path, enum gguf_check check, struct err *e);
/* Size of the file, of all parts together where the name is that of a part of a split. */
int gguf_bytes(const char *path, uint64_t *bytes, struct err *e);
const struct gguf_tensor *gguf_find(const struct gguf *g, const char *name);
const uint8_t *gguf_tensor_data(const struct gguf *g, const struct gguf_tensor *t);
void gguf_close(struct gguf *g);

/* Writing: describe everything, then write data at known places, in any order, from any thread. */
struct gguf_writer_tensor {
    const char *name;
    enum dtype dtype;
    struct shape shape;
    uint64_t offset; /* absolute; filled by gguf_writer_open */
    uint64_t bytes;  /* filled by gguf_writer_open */
};
struct gguf_writer {
    struct fs_atomic file;
    uint64_t total_bytes; /* of the finished file */
};
/* Exact size of the file such a writer makes, without writing; fills offset and bytes. */
int gguf_plan(const struct gguf_kvs *kvs, struct gguf_writer_tensor *tensors, size_t n,
              uint64_t *total_bytes, struct err *e);
/* Checks free space, writes the header, reserves the file. Data then goes to tensors[i].offset with
 * fs_atomic_write_at(&w->file, ...); padding is already zero. */
int gguf_writer_open(struct gguf_writer *w, const char *path, const struct gguf_kvs *kvs,
                     struct gguf_writer_tensor *tensors, size_t n, struct err *e);
int gguf_writer_commit(struct gguf_writer *w, struct err *e);
void gguf_writer_abort(struct gguf_writer *w);

#endif
