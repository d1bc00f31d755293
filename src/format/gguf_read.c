/* Reading GGUF: the container rules, points 1 to 7 and 13 of docs/validator.md.
 *
 * Owns the maps of the file, or of all files of a split model, and an arena with names. Refuses
 * whatever the rules do not allow with one sentence that says where; it never clamps, skips or
 * guesses. Invariant: `at` never passes `size`, and nothing is read, multiplied or allocated by a
 * number from the file before that number was compared with the bytes that are left. So memory is
 * bounded by the size of the header, which is bounded by GGUF_HEADER_BYTES_MAX. Format:
 * ggml/include/gguf.h of ggml 0.5.0; split naming: llama.h of llama.cpp 0.5.0 (llama_split_path).
 */
#include "format/gguf_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/num.h"
#include "format/text_int.h"

#include "base/banned.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is read as it lies in memory");

/* Smallest possible entries, so that a count can be refused before anything is allocated for it. */
enum { KV_BYTES_MIN = 8 + 1 + 4 + 1, TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8 };

static const char hint_damaged[] =
    "the file is damaged, cut short or made to do harm: download or convert it again";

/* A cursor over one file's header. */
struct reader {
    const struct fs_map *map;
    uint64_t at;
    struct err *e;
};

static uint64_t left(const struct reader *r)
{
    return r->map->size - r->at;
}

__attribute__((format(printf, 2, 3))) static int refuse(struct reader *r, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return err_set(r->e, ERR_INPUT, hint_damaged, "%s: %s", r->map->path, text);
}

/* The next n bytes, or NULL with the error set. */
static const uint8_t *take(struct reader *r, uint64_t n, const char *what)
{
    if (n > left(r)) {
        refuse(r, "the file ends inside %s: %llu bytes needed at offset %llu, %llu left", what,
               (unsigned long long)n, (unsigned long long)r->at, (unsigned long long)left(r));
        return NULL;
    }
    if (r->at + n > GGUF_HEADER_BYTES_MAX) {
        err_set(r->e, ERR_LIMIT, hint_damaged, "%s: the header is larger than %llu MiB, at %s",
                r->map->path, GGUF_HEADER_BYTES_MAX >> 20, what);
        return NULL;
    }
    const uint8_t *p = r->map->data + r->at;
    r->at += n;
    return p;
}

static int take_u32(struct reader *r, uint32_t *v, const char *what)
{
    const uint8_t *p = take(r, sizeof *v, what);
    if (!p)
        return -1;
    memcpy(v, p, sizeof *v);
    return 0;
}

static int take_u64(struct reader *r, uint64_t *v, const char *what)
{
    const uint8_t *p = take(r, sizeof *v, what);
    if (!p)
        return -1;
    memcpy(v, p, sizeof *v);
    return 0;
}

static int take_str(struct reader *r, uint64_t max, struct gguf_str *s, const char *what)
{
    uint64_t n;
    if (take_u64(r, &n, what))
        return -1;
    if (n > max && n <= left(r))
        return refuse(r, "%s has %llu bytes, at most %llu are allowed", what, (unsigned long long)n,
                      (unsigned long long)max);
    const uint8_t *p = take(r, n, what);
    if (!p)
        return -1;
    *s = (struct gguf_str){(const char *)p, (size_t)n};
    return 0;
}

/* ---- point 2: magic, version, counts ------------------------------------------------------------
 */

static int check_version(struct reader *r, uint32_t version)
{
    if (version == 2 || version == 3)
        return 0;
    if ((version & 0xffff) == 0 && version != 0)
        return err_set(r->e, ERR_UNSUPPORTED, "convert the model again on a little-endian machine",
                       "%s: a big-endian GGUF file (version field 0x%08x)", r->map->path, version);
    return err_set(r->e, ERR_UNSUPPORTED, "versions 2 and 3 can be read; convert the model again",
                   "%s: GGUF version %u is not supported", r->map->path, version);
}

static int take_count(struct reader *r, uint64_t *n, unsigned bytes_min, unsigned max,
                      const char *what)
{
    if (take_u64(r, n, what))
        return -1;
    if (*n > left(r) / bytes_min)
        return refuse(r, "%s is %lld, but the %llu bytes that follow hold at most %llu", what,
                      (long long)*n, (unsigned long long)left(r),
                      (unsigned long long)(left(r) / bytes_min));
    if (*n > max)
        return err_set(r->e, ERR_LIMIT, hint_damaged, "%s: %s is %llu, at most %u are read",
                       r->map->path, what, (unsigned long long)*n, max);
    return 0;
}

static int take_preamble(struct reader *r, uint32_t *version, uint64_t *n_tensors, uint64_t *n_kv)
{
    const uint8_t *magic = take(r, 4, "the magic");
    if (!magic)
        return -1;
    if (memcmp(magic, "GGUF", 4) != 0) {
        char shown[TEXT_SHOWN_MAX];
        return err_set(r->e, ERR_INPUT, "give a .gguf file or a Hugging Face folder",
                       "%s: not a GGUF file: it begins with \"%s\" instead of \"GGUF\"",
                       r->map->path, text_show((const char *)magic, 4, shown));
    }
    if (take_u32(r, version, "the version") || check_version(r, *version))
        return -1;
    /* both counts are in the way of the entries, so the first is judged with the second still
     * unread */
    if (take_count(r, n_tensors, TENSOR_BYTES_MIN, GGUF_TENSORS_MAX, "the number of tensors"))
        return -1;
    return take_count(r, n_kv, KV_BYTES_MIN, GGUF_KEYS_MAX, "the number of keys");
}

/* ---- points 3 and 4: keys and values ------------------------------------------------------------
 */

static int take_key(struct reader *r, struct gguf_str *key)
{
    if (take_str(r, GGUF_KEY_MAX, key, "a key"))
        return -1;
    if (key->len == 0)
        return refuse(r, "a key is empty, at offset %llu", (unsigned long long)r->at);
    if (!text_is_utf8(key->data, key->len) || text_has_control(key->data, key->len)) {
        char shown[TEXT_SHOWN_MAX];
        return refuse(r, "key \"%s\" is not printable UTF-8",
                      text_show(key->data, key->len, shown));
    }
    return 0;
}

static int take_type(struct reader *r, const char *key, bool element, enum gguf_type *type)
{
    uint32_t id;
    if (take_u32(r, &id, key))
        return -1;
    if (id > GGUF_F64)
        return refuse(r, "key \"%.80s\" has the unknown value type %d (0 to 12 exist)", key,
                      (int)id);
    if (element && id == GGUF_ARRAY)
        return refuse(r, "key \"%.80s\" is an array of arrays, which is not allowed", key);
    *type = (enum gguf_type)id;
    return 0;
}

static int check_bools(struct reader *r, const char *key, const uint8_t *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (p[i] > 1)
            return refuse(r, "key \"%.80s\" holds a truth value of %u, not 0 or 1", key, p[i]);
    }
    return 0;
}

/* Scalar strings are text: they are shown, and used as C strings. */
static int take_text(struct reader *r, struct gguf_kvs *k, struct gguf_kv *kv)
{
    struct gguf_str s;
    if (take_str(r, GGUF_STRING_BYTES_MAX, &s, kv->key))
        return -1;
    if (!text_is_utf8(s.data, s.len) || memchr(s.data, '\0', s.len))
        return refuse(r, "the string of key \"%.80s\" is not UTF-8 text without NUL", kv->key);
    char *copy = arena_alloc(&k->arena, s.len + 1);
    memcpy(copy, s.data, s.len);
    kv->str = (struct gguf_str){copy, s.len};
    return 0;
}

/* Array strings stay in the map: tokens are many, and may be any bytes. */
static int take_strings(struct reader *r, struct gguf_kvs *k, struct gguf_kv *kv)
{
    struct gguf_str *strs =
        arena_alloc(&k->arena, (size_t)(kv->count > 0 ? kv->count : 1) * sizeof *strs);
    for (uint64_t i = 0; i < kv->count; i++) {
        if (take_str(r, GGUF_STRING_BYTES_MAX, &strs[i], kv->key))
            return -1;
    }
    kv->strs = strs;
    return 0;
}

static int take_numbers(struct reader *r, struct gguf_kvs *k, struct gguf_kv *kv)
{
    uint64_t bytes = kv->count * gguf_type_bytes(kv->element); /* count ≤ 2^24: cannot overflow */
    const uint8_t *p = take(r, bytes, kv->key);
    if (!p)
        return -1;
    if (kv->element == GGUF_BOOL && check_bools(r, kv->key, p, kv->count))
        return -1;
    void *copy = arena_alloc(&k->arena, bytes > 0 ? (size_t)bytes : 1);
    memcpy(copy, p, (size_t)bytes);
    kv->raw = copy;
    return 0;
}

static int take_array(struct reader *r, struct gguf_kvs *k, struct gguf_kv *kv)
{
    if (take_type(r, kv->key, true, &kv->element) || take_u64(r, &kv->count, kv->key))
        return -1;
    size_t each = kv->element == GGUF_STR ? sizeof(uint64_t) : gguf_type_bytes(kv->element);
    if (kv->count > left(r) / each)
        return refuse(r, "the array of key \"%.80s\" claims %llu elements, but %llu bytes are left",
                      kv->key, (unsigned long long)kv->count, (unsigned long long)left(r));
    if (kv->count > GGUF_ARRAY_COUNT_MAX)
        return err_set(r->e, ERR_LIMIT, hint_damaged,
                       "%s: the array of key \"%.80s\" has %llu elements, at most %llu are read",
                       r->map->path, kv->key, (unsigned long long)kv->count, GGUF_ARRAY_COUNT_MAX);
    return kv->element == GGUF_STR ? take_strings(r, k, kv) : take_numbers(r, k, kv);
}

static int take_value(struct reader *r, struct gguf_kvs *k, struct gguf_kv *kv)
{
    if (kv->type == GGUF_STR)
        return take_text(r, k, kv);
    if (kv->type == GGUF_ARRAY)
        return take_array(r, k, kv);
    const uint8_t *p = take(r, gguf_type_bytes(kv->type), kv->key);
    if (!p || (kv->type == GGUF_BOOL && check_bools(r, kv->key, p, 1)))
        return -1;
    gguf_kv_load_scalar(kv, p);
    return 0;
}

static int take_kvs(struct reader *r, struct gguf_kvs *k, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        struct gguf_str key;
        struct gguf_kv kv = {0};
        if (take_key(r, &key))
            return -1;
        kv.key = arena_strndup(&k->arena, key.data, key.len);
        if (take_type(r, kv.key, false, &kv.type) || take_value(r, k, &kv))
            return -1;
        if (!gguf_kvs_append(k, &kv))
            return refuse(r, "key \"%.80s\" appears twice", kv.key);
    }
    return 0;
}

/* ---- point 5: alignment -------------------------------------------------------------------------
 */

static int read_alignment(struct reader *r, const struct gguf_kvs *k, uint64_t *alignment)
{
    const struct gguf_kv *kv = gguf_kvs_find(k, "general.alignment");
    *alignment = GGUF_ALIGNMENT_DEFAULT;
    if (!kv)
        return 0;
    if (kv->type != GGUF_U32)
        return refuse(r, "general.alignment is of type %s, expected u32", gguf_type_text(kv->type));
    if (!gguf_alignment_valid(kv->u))
        return refuse(r, "general.alignment is %llu, expected a power of two from %d to %d",
                      (unsigned long long)kv->u, GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX);
    *alignment = kv->u;
    return 0;
}

/* ---- points 6 and 7: tensors --------------------------------------------------------------------
 */

static int take_tensor_name(struct reader *r, struct arena *a, struct gguf_tensor *t)
{
    struct gguf_str name;
    if (take_str(r, GGUF_NAME_MAX, &name, "a tensor name"))
        return -1;
    if (name.len == 0)
        return refuse(r, "a tensor name is empty, at offset %llu", (unsigned long long)r->at);
    if (!text_is_utf8(name.data, name.len) || text_has_control(name.data, name.len)) {
        char shown[TEXT_SHOWN_MAX];
        return refuse(r, "tensor name \"%s\" is not printable UTF-8",
                      text_show(name.data, name.len, shown));
    }
    t->name = arena_strndup(a, name.data, name.len);
    return 0;
}

static int take_shape(struct reader *r, struct gguf_tensor *t)
{
    uint32_t n_dims;
    if (take_u32(r, &n_dims, t->name))
        return -1;
    if (n_dims < 1 || n_dims > SHAPE_DIMS_MAX)
        return refuse(r, "tensor \"%s\" has %u dimensions, expected 1 to %d", t->name, n_dims,
                      SHAPE_DIMS_MAX);
    t->shape = (struct shape){.n_dims = (int)n_dims, .ne = {1, 1, 1, 1}};
    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t *ne = &t->shape.ne[d];
        if (take_u64(r, ne, t->name))
            return -1;
        if (*ne < 1 || *ne > GGUF_DIMENSION_MAX)
            return refuse(r, "tensor \"%s\" has dimension %u of %lld, expected 1 to 2^40", t->name,
                          d, (long long)*ne);
    }
    return 0;
}

static int take_dtype(struct reader *r, struct gguf_tensor *t)
{
    uint32_t id;
    if (take_u32(r, &id, t->name))
        return -1;
    const struct dtype_info *info = dtype_info((enum dtype)id);
    if (!info || !info->gguf)
        return err_set(r->e, ERR_INPUT, "the file is damaged, or of a newer or long gone format",
                       "%s: tensor \"%s\" has type number %d, which is unknown or was removed",
                       r->map->path, t->name, (int)id);
    t->dtype = info->id;
    uint64_t elements;
    if (!shape_elements(&t->shape, &elements))
        return refuse(r, "tensor \"%s\" has more elements than 64 bits can count", t->name);
    if (t->shape.ne[0] % info->block != 0)
        return refuse(r,
                      "tensor \"%s\" has rows of %llu elements, not a multiple of %u as %s needs",
                      t->name, (unsigned long long)t->shape.ne[0], info->block, info->name);
    if (!dtype_bytes(t->dtype, elements, t->shape.ne[0], &t->bytes))
        return refuse(r, "the size of tensor \"%s\" in bytes overflows 64 bits", t->name);
    return 0;
}

/* offset is kept relative to the data section until the end of the header is known. */
static int take_tensor(struct reader *r, struct arena *a, struct gguf_tensor *t)
{
    if (take_tensor_name(r, a, t) || take_shape(r, t) || take_dtype(r, t))
        return -1;
    return take_u64(r, &t->offset, t->name);
}

/* Offsets must be the running padded sum, and every tensor must end inside the file. */
static int place_tensors(struct reader *r, struct gguf_tensor *tensors, size_t n,
                         uint64_t alignment)
{
    uint64_t data, sum = 0, end;
    if (!num_align_u64(r->at, alignment, &data))
        return refuse(r, "the start of the data section overflows 64 bits");
    for (size_t i = 0; i < n; i++) {
        struct gguf_tensor *t = &tensors[i];
        if (t->offset != sum)
            return refuse(r, "tensor \"%s\" has offset %llu, expected %llu", t->name,
                          (unsigned long long)t->offset, (unsigned long long)sum);
        if (!num_add_u64(data, sum, &t->offset) || !num_add_u64(t->offset, t->bytes, &end))
            return refuse(r, "the end of tensor \"%s\" overflows 64 bits", t->name);
        if (end > r->map->size)
            return refuse(r, "tensor \"%s\" ends at byte %llu, but the file has %llu", t->name,
                          (unsigned long long)end, (unsigned long long)r->map->size);
        if (!num_add_u64(sum, t->bytes, &sum) || !num_align_u64(sum, alignment, &sum))
            return refuse(r, "the sum of the tensor sizes overflows 64 bits at \"%s\"", t->name);
    }
    return 0;
}

static int take_tensors(struct gguf *g, struct reader *r, uint64_t n, uint64_t alignment, int file)
{
    size_t before = g->n_tensors;
    if (n > GGUF_TENSORS_MAX - before)
        return err_set(r->e, ERR_LIMIT, hint_damaged, "%s: more than %d tensors in all files",
                       r->map->path, GGUF_TENSORS_MAX);
    /* not doubled: n is known, and was compared with the bytes left */
    g->tensors = xreallocarray(g->tensors, before + (size_t)n + 1, sizeof *g->tensors);
    for (size_t i = 0; i < n; i++) {
        struct gguf_tensor *t = &g->tensors[before + i];
        *t = (struct gguf_tensor){.file = file};
        if (take_tensor(r, &g->arena, t))
            return -1;
        if (!map_add(&g->by_name, t->name, strlen(t->name), before + i))
            return refuse(r, "tensor \"%s\" appears twice", t->name);
    }
    g->n_tensors += (size_t)n;
    return place_tensors(r, g->tensors + before, (size_t)n, alignment);
}

/* One file: its keys to kvs, its tensors appended to g. */
static int read_file(struct gguf *g, int file, struct gguf_kvs *kvs, struct err *e)
{
    struct reader r = {.map = &g->maps[file], .e = e};
    uint64_t n_tensors = 0, n_kv = 0, alignment = 0;
    uint32_t version = 0;
    if (take_preamble(&r, &version, &n_tensors, &n_kv) || take_kvs(&r, kvs, n_kv) ||
        read_alignment(&r, kvs, &alignment) || take_tensors(g, &r, n_tensors, alignment, file))
        return -1;
    if (file == 0) {
        g->version = version;
        g->alignment = alignment;
    }
    return 0;
}

/* ---- point 13: split files ----------------------------------------------------------------------
 */

/* What "NAME-00001-of-00003.gguf" says; prefix_len is the length of "NAME". */
struct split_name {
    size_t prefix_len;
    unsigned no, count; /* no from 0 */
};

static bool parse_digits(const char *p, unsigned *v)
{
    *v = 0;
    for (int i = 0; i < 5; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        *v = *v * 10 + (unsigned)(p[i] - '0');
    }
    return true;
}

static bool parse_split_name(const char *path, struct split_name *s)
{
    static const char shape[] = "-00001-of-00003.gguf";
    size_t n = strlen(path), tail = sizeof shape - 1;
    if (n <= tail)
        return false;
    const char *p = path + n - tail;
    if (p[0] != '-' || memcmp(p + 6, "-of-", 4) != 0 || strcmp(p + 15, ".gguf") != 0 ||
        !parse_digits(p + 1, &s->no) || !parse_digits(p + 10, &s->count) || s->no == 0)
        return false;
    s->no--;
    s->prefix_len = n - tail;
    return true;
}

/* The three keys of a split as one file states them. */
struct split_keys {
    uint64_t no, count, tensors;
};

static int read_split_keys(const struct gguf_kvs *k, const char *path, struct split_keys *s,
                           struct err *e)
{
    if (!gguf_get_u64(k, "split.no", &s->no) || !gguf_get_u64(k, "split.count", &s->count) ||
        !gguf_get_u64(k, "split.tensors.count", &s->tensors))
        return err_set(e, ERR_INPUT, hint_damaged,
                       "%s: a file of a split model needs the integers split.no, split.count and "
                       "split.tensors.count",
                       path);
    return 0;
}

static int check_first_split(const char *path, const struct split_keys *s, struct split_name *name,
                             struct err *e)
{
    if (s->no != 0)
        return err_set(e, ERR_INPUT, "give the first file, the one with -00001-of- in its name",
                       "%s: this is file %llu of %llu of a split model", path,
                       (unsigned long long)s->no + 1, (unsigned long long)s->count);
    if (s->count > GGUF_SPLITS_MAX)
        return err_set(e, ERR_LIMIT, hint_damaged, "%s: split.count is %llu, at most %d are read",
                       path, (unsigned long long)s->count, GGUF_SPLITS_MAX);
    if (!parse_split_name(path, name) || name->no != 0 || name->count != s->count)
        return err_set(e, ERR_INPUT, "give the files back the names they were made with",
                       "%s: split.count is %llu, so the name must end in -00001-of-%05u.gguf", path,
                       (unsigned long long)s->count, (unsigned)s->count);
    return 0;
}

/* Of part no, counted from 0. xfree. */
static char *split_path(const char *path, const struct split_name *name, unsigned no)
{
    return xasprintf("%.*s-%05u-of-%05u.gguf", (int)name->prefix_len, path, no + 1, name->count);
}

static int read_sibling(struct gguf *g, const char *path, const struct split_name *name,
                        unsigned no, const struct split_keys *first, struct err *e)
{
    struct gguf_kvs kvs = {0};
    struct split_keys s;
    int rc = -1;
    char *sibling = split_path(path, name, no);
    if (fs_map_open(&g->maps[no], sibling, e)) {
        err_context(e, "%s: file %u of %u is needed", path, no + 1, name->count);
        goto out;
    }
    g->n_maps = (int)no + 1;
    if (read_file(g, (int)no, &kvs, e) || read_split_keys(&kvs, sibling, &s, e))
        goto out;
    if (s.no != no || s.count != first->count || s.tensors != first->tensors) {
        err_set(e, ERR_INPUT, "the files are of different models or were renamed",
                "%s: says it is file %llu of %llu with %llu tensors, expected %u of %llu with %llu",
                sibling, (unsigned long long)s.no + 1, (unsigned long long)s.count,
                (unsigned long long)s.tensors, no + 1, (unsigned long long)first->count,
                (unsigned long long)first->tensors);
        goto out;
    }
    rc = 0;
out:
    gguf_kvs_release(&kvs);
    xfree(sibling);
    return rc;
}

int gguf_bytes(const char *path, uint64_t *bytes, struct err *e)
{
    struct split_name name;
    *bytes = 0;
    if (!parse_split_name(path, &name) || name.count > GGUF_SPLITS_MAX)
        return fs_size(path, bytes, e);
    for (unsigned no = 0; no < name.count; no++) {
        uint64_t part = 0;
        char *sibling = split_path(path, &name, no);
        int rc = fs_size(sibling, &part, e);
        xfree(sibling);
        if (rc)
            return -1;
        if (!num_add_u64(*bytes, part, bytes))
            return err_set(e, ERR_INPUT, hint_damaged, "%s: sizes overflow", path);
    }
    return 0;
}

static int read_splits(struct gguf *g, const char *path, struct err *e)
{
    uint64_t count;
    struct split_keys first = {0};
    struct split_name name = {0};
    if (!gguf_kvs_find(&g->kvs, "split.count"))
        return 0;
    if (gguf_get_u64(&g->kvs, "split.count", &count) && count <= 1)
        return 0;
    if (read_split_keys(&g->kvs, path, &first, e) || check_first_split(path, &first, &name, e))
        return -1;
    g->maps = xreallocarray(g->maps, first.count, sizeof *g->maps);
    for (unsigned no = 1; no < name.count; no++) {
        if (read_sibling(g, path, &name, no, &first, e))
            return -1;
    }
    if (g->n_tensors != first.tensors)
        return err_set(e, ERR_INPUT, hint_damaged,
                       "%s: split.tensors.count is %llu, but the files hold %zu tensors", path,
                       (unsigned long long)first.tensors, g->n_tensors);
    return 0;
}

/* ---- the public face ----------------------------------------------------------------------------
 */

int gguf_open(struct gguf *g, const char *path, enum gguf_check check, struct err *e)
{
    memset(g, 0, sizeof *g);
    g->maps = xcalloc(1, sizeof *g->maps);
    if (fs_map_open(&g->maps[0], path, e))
        goto fail;
    g->n_maps = 1;
    if (read_file(g, 0, &g->kvs, e) || read_splits(g, path, e))
        goto fail;
    if (check == GGUF_CHECK_MODEL && gguf_check_model(g, e))
        goto fail;
    return 0;
fail:
    gguf_close(g);
    return -1;
}

const struct gguf_tensor *gguf_find(const struct gguf *g, const char *name)
{
    uint64_t at;
    return map_get_str(&g->by_name, name, &at) ? &g->tensors[at] : NULL;
}

const uint8_t *gguf_tensor_data(const struct gguf *g, const struct gguf_tensor *t)
{
    return g->maps[t->file].data + t->offset;
}

void gguf_close(struct gguf *g)
{
    for (int i = 0; i < g->n_maps; i++)
        fs_map_close(&g->maps[i]);
    xfree(g->maps);
    xfree(g->tensors);
    map_release(&g->by_name);
    gguf_kvs_release(&g->kvs);
    arena_release(&g->arena);
    memset(g, 0, sizeof *g);
}
