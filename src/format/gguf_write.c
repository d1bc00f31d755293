/* Writing GGUF v3: a header described as a whole, then tensor data at places known from the start.
 *
 * The header is byte for byte what ggml's own writer makes of the same keys, tensors and order:
 * keys as they were set, trailing dimensions of 1 left out, alignment from general.alignment or 32,
 * every tensor (the last too) padded with zeros. Data may then be written in any order and from any
 * thread; the file's blocks are reserved first, so a full disk shows before the work and not after
 * it. Refuses what gguf_open would refuse, so that we never write a file we could not read.
 * Invariant: gguf_plan's total is the exact size of the file. Format: gguf.h of ggml 0.5.0. */
#include "format/gguf_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/num.h"
#include "format/text_int.h"

#include "base/banned.h"

enum { GGUF_VERSION_WRITTEN = 3 };

/* ---- sizes --------------------------------------------------------------------------------------
 */

static uint64_t value_bytes(const struct gguf_kv *kv)
{
    if (kv->type == GGUF_STR)
        return 8 + kv->str.len;
    if (kv->type != GGUF_ARRAY)
        return gguf_type_bytes(kv->type);
    uint64_t n = 4 + 8;
    if (kv->element != GGUF_STR)
        return n + kv->count * gguf_type_bytes(kv->element);
    for (uint64_t i = 0; i < kv->count; i++)
        n += 8 + kv->strs[i].len;
    return n;
}

/* As ggml counts them: a matrix with one row is written as a vector. */
static int written_dims(const struct shape *s)
{
    int n = s->n_dims;
    while (n > 1 && s->ne[n - 1] == 1)
        n--;
    return n;
}

static uint64_t entry_bytes(const struct gguf_writer_tensor *t)
{
    return 8 + strlen(t->name) + 4 + 8 * (uint64_t)written_dims(&t->shape) + 4 + 8;
}

/* ---- refusing what could not be read back -------------------------------------------------------
 */

static int check_kvs(const struct gguf_kvs *kvs, uint64_t *alignment, struct err *e)
{
    if (kvs->n > GGUF_KEYS_MAX)
        return err_set(e, ERR_LIMIT, NULL, "%zu keys are more than a GGUF file may have (%d)",
                       kvs->n, GGUF_KEYS_MAX);
    for (size_t i = 0; i < kvs->n; i++) {
        const struct gguf_kv *kv = &kvs->items[i];
        size_t n = strlen(kv->key);
        if (n == 0 || n > GGUF_KEY_MAX || !text_is_utf8(kv->key, n) || text_has_control(kv->key, n))
            return err_set(e, ERR_INPUT, NULL, "the GGUF key \"%.80s\" cannot be written", kv->key);
        if (kv->type == GGUF_ARRAY && kv->count > GGUF_ARRAY_COUNT_MAX)
            return err_set(e, ERR_LIMIT, NULL, "the array of key \"%.80s\" is too long for GGUF",
                           kv->key);
        if (kv->type == GGUF_STR &&
            (!text_is_utf8(kv->str.data, kv->str.len) || memchr(kv->str.data, '\0', kv->str.len)))
            return err_set(e, ERR_INPUT, NULL, "the string of key \"%.80s\" is not UTF-8 text",
                           kv->key);
    }
    const struct gguf_kv *a = gguf_kvs_find(kvs, "general.alignment");
    *alignment = a ? a->u : GGUF_ALIGNMENT_DEFAULT;
    if (a && (a->type != GGUF_U32 || !gguf_alignment_valid(a->u)))
        return err_set(e, ERR_INPUT, NULL,
                       "general.alignment must be a u32 and a power of two from %d to %d",
                       GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX);
    return 0;
}

static int size_tensor(struct gguf_writer_tensor *t, struct map *seen, struct err *e)
{
    size_t n = strlen(t->name);
    char dims[96];
    if (n == 0 || n > GGUF_NAME_MAX || !text_is_utf8(t->name, n) || text_has_control(t->name, n))
        return err_set(e, ERR_INPUT, "GGUF allows names of 1 to 63 bytes",
                       "the tensor name \"%.80s\" cannot be written to a GGUF file", t->name);
    if (!map_add(seen, t->name, n, 0))
        return err_set(e, ERR_INPUT, NULL, "tensor \"%s\" would be written twice", t->name);
    const struct dtype_info *info = dtype_info(t->dtype);
    if (!info || !info->gguf)
        return err_set(e, ERR_UNSUPPORTED, NULL, "tensor \"%s\": a GGUF file cannot hold type %s",
                       t->name, dtype_name(t->dtype));
    uint64_t elements;
    bool valid = t->shape.n_dims >= 1 && t->shape.n_dims <= SHAPE_DIMS_MAX;
    for (int d = 0; valid && d < t->shape.n_dims; d++)
        valid = t->shape.ne[d] >= 1 && t->shape.ne[d] <= GGUF_DIMENSION_MAX;
    if (!valid || !shape_elements(&t->shape, &elements) || t->shape.ne[0] % info->block != 0 ||
        !dtype_bytes(t->dtype, elements, t->shape.ne[0], &t->bytes))
        return err_set(e, ERR_INPUT, NULL, "tensor \"%s\" of %s does not fit type %s", t->name,
                       valid ? shape_text(&t->shape, dims) : "invalid shape", info->name);
    return 0;
}

static int size_header(const struct gguf_kvs *kvs, struct gguf_writer_tensor *tensors, size_t n,
                       uint64_t *bytes, struct err *e)
{
    struct map seen = {0};
    int rc = 0;
    *bytes = 4 + 4 + 8 + 8;
    for (size_t i = 0; i < kvs->n; i++)
        *bytes += 8 + strlen(kvs->items[i].key) + 4 + value_bytes(&kvs->items[i]);
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = size_tensor(&tensors[i], &seen, e);
        if (rc == 0)
            *bytes += entry_bytes(&tensors[i]);
    }
    map_release(&seen);
    if (rc == 0 && *bytes > GGUF_HEADER_BYTES_MAX)
        rc = err_set(e, ERR_LIMIT, NULL, "the GGUF header would be larger than %llu MiB",
                     GGUF_HEADER_BYTES_MAX >> 20);
    return rc;
}

/* As gguf_plan; data is where the tensor data begins. */
static int plan(const struct gguf_kvs *kvs, struct gguf_writer_tensor *tensors, size_t n,
                uint64_t *header, uint64_t *data, uint64_t *total, struct err *e)
{
    uint64_t alignment = 0, at;
    if (n > GGUF_TENSORS_MAX)
        return err_set(e, ERR_LIMIT, NULL, "%zu tensors are more than a GGUF file may have (%d)", n,
                       GGUF_TENSORS_MAX);
    if (check_kvs(kvs, &alignment, e) || size_header(kvs, tensors, n, header, e))
        return -1;
    num_align_u64(*header, alignment, &at); /* the header is small: cannot overflow */
    *data = at;
    for (size_t i = 0; i < n; i++) {
        tensors[i].offset = at;
        if (!num_add_u64(at, tensors[i].bytes, &at) || !num_align_u64(at, alignment, &at) ||
            at > INT64_MAX)
            return err_set(e, ERR_LIMIT, NULL, "the GGUF file would be too large at tensor \"%s\"",
                           tensors[i].name);
    }
    *total = at;
    return 0;
}

int gguf_plan(const struct gguf_kvs *kvs, struct gguf_writer_tensor *tensors, size_t n,
              uint64_t *total_bytes, struct err *e)
{
    uint64_t header, data;
    return plan(kvs, tensors, n, &header, &data, total_bytes, e);
}

/* ---- bytes --------------------------------------------------------------------------------------
 */

static void add_u32(struct buf *b, uint32_t v)
{
    buf_add(b, &v, sizeof v);
}

static void add_u64(struct buf *b, uint64_t v)
{
    buf_add(b, &v, sizeof v);
}

static void add_str(struct buf *b, const char *data, size_t n)
{
    add_u64(b, n);
    if (n > 0)
        buf_add(b, data, n);
}

/* Little-endian: the low bytes of a wider integer are the narrower integer. */
static void add_scalar(struct buf *b, const struct gguf_kv *kv)
{
    float f = (float)kv->f;
    switch (kv->type) {
    case GGUF_F32:
        buf_add(b, &f, sizeof f);
        break;
    case GGUF_F64:
        buf_add(b, &kv->f, sizeof kv->f);
        break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        buf_add(b, &kv->i, gguf_type_bytes(kv->type));
        break;
    default:
        buf_add(b, &kv->u, gguf_type_bytes(kv->type));
        break;
    }
}

static void add_kv(struct buf *b, const struct gguf_kv *kv)
{
    add_str(b, kv->key, strlen(kv->key));
    add_u32(b, (uint32_t)kv->type);
    if (kv->type == GGUF_STR) {
        add_str(b, kv->str.data, kv->str.len);
    } else if (kv->type != GGUF_ARRAY) {
        add_scalar(b, kv);
    } else {
        add_u32(b, (uint32_t)kv->element);
        add_u64(b, kv->count);
        if (kv->element != GGUF_STR)
            buf_add(b, kv->raw, (size_t)kv->count * gguf_type_bytes(kv->element));
        for (uint64_t i = 0; kv->element == GGUF_STR && i < kv->count; i++)
            add_str(b, kv->strs[i].data, kv->strs[i].len);
    }
}

static void add_entry(struct buf *b, const struct gguf_writer_tensor *t, uint64_t data)
{
    int n_dims = written_dims(&t->shape);
    add_str(b, t->name, strlen(t->name));
    add_u32(b, (uint32_t)n_dims);
    for (int d = 0; d < n_dims; d++)
        add_u64(b, t->shape.ne[d]);
    add_u32(b, (uint32_t)t->dtype);
    add_u64(b, t->offset - data);
}

static void add_header(struct buf *b, const struct gguf_kvs *kvs,
                       const struct gguf_writer_tensor *tensors, size_t n, uint64_t data)
{
    buf_add(b, "GGUF", 4);
    add_u32(b, GGUF_VERSION_WRITTEN);
    add_u64(b, n);
    add_u64(b, kvs->n);
    for (size_t i = 0; i < kvs->n; i++)
        add_kv(b, &kvs->items[i]);
    for (size_t i = 0; i < n; i++)
        add_entry(b, &tensors[i], data);
}

/* ---- the file -----------------------------------------------------------------------------------
 */

/* Blocks for the whole file, zeroed. A file system that cannot reserve gets a sparse file. */
static int reserve(const struct fs_atomic *f, uint64_t total, struct err *e)
{
    char size[NUM_TEXT_MAX];
    if (fallocate(f->fd, 0, 0, (off_t)total) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return err_set_errno(e, errno, NULL, "%s: cannot reserve %s", f->path,
                             num_format_size(total, size));
    if (ftruncate(f->fd, (off_t)total))
        return err_set_errno(e, errno, NULL, "%s: cannot set the size to %s", f->path,
                             num_format_size(total, size));
    return 0;
}

/* Free space is asked before anything is created, because on some file systems reserving is a
 * no-op. */
static int check_space(const char *path, uint64_t total, struct err *e)
{
    uint64_t free_bytes;
    char need[NUM_TEXT_MAX], have[NUM_TEXT_MAX];
    char *dir = xstrndup(path, (size_t)(fs_basename(path) - path));
    int rc = fs_free_bytes(dir[0] ? dir : ".", &free_bytes, e);
    xfree(dir);
    if (rc)
        return -1;
    if (free_bytes < total)
        return err_set(e, ERR_IO, "free some space, or write to another disk",
                       "%s: needs %s of disk space, %s are free", path,
                       num_format_size(total, need), num_format_size(free_bytes, have));
    return 0;
}

int gguf_writer_open(struct gguf_writer *w, const char *path, const struct gguf_kvs *kvs,
                     struct gguf_writer_tensor *tensors, size_t n, struct err *e)
{
    uint64_t header, data;
    struct buf b;
    int rc = -1;
    memset(w, 0, sizeof *w);
    if (plan(kvs, tensors, n, &header, &data, &w->total_bytes, e)) {
        err_context(e, "%s", path);
        return -1;
    }
    if (check_space(path, w->total_bytes, e) || fs_atomic_open(&w->file, path, e))
        return -1;
    buf_init(&b, GGUF_HEADER_BYTES_MAX);
    add_header(&b, kvs, tensors, n, data);
    if (b.overflow || b.len != header)
        err_set(e, ERR_BUG, NULL, "%s: header of %zu bytes instead of %llu", path, b.len,
                (unsigned long long)header);
    else
        rc = reserve(&w->file, w->total_bytes, e) || fs_atomic_write(&w->file, b.data, b.len, e);
    buf_release(&b);
    if (rc)
        fs_atomic_abort(&w->file);
    return rc ? -1 : 0;
}

int gguf_writer_commit(struct gguf_writer *w, struct err *e)
{
    return fs_atomic_commit(&w->file, e);
}

void gguf_writer_abort(struct gguf_writer *w)
{
    fs_atomic_abort(&w->file);
}
