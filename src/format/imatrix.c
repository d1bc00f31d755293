/* Importance matrices of llama.cpp: both file formats in, the GGUF one out.
 *
 * Owns all entries in one arena. Refuses values that are not finite or negative, since an encoder
 * would weigh with them and some of ggml's assert; entries whose counts do not divide them; names
 * twice; files that end early or late. The legacy format has no magic: whatever is not GGUF is
 * tried as legacy, and its lengths have to fit the file exactly. Invariant: entries are sorted by
 * name, without doubles. Divisions are done in float like the reader of llama-quantize does them,
 * so that the weights are its weights, bit for bit. Formats: tools/imatrix/imatrix.cpp,
 * common/imatrix-loader.cpp of llama.cpp 0.5.0. */
#include "format/imatrix.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/num.h"
#include "format/gguf.h"
#include "format/text_int.h"

#include "base/banned.h"

enum { IMATRIX_NAME_MAX = GGUF_NAME_MAX, IMATRIX_ENTRIES_MAX = GGUF_TENSORS_MAX };
#define IMATRIX_COUNT_MAX 1e15f /* counts are turned into integers */

static const char hint[] = "make it again with 'sintra calibrate' or llama-imatrix";
static const char sum_suffix[] = ".in_sum2", count_suffix[] = ".counts";

/* ---- entries ------------------------------------------------------------------------------------
 */

/* Index of the first entry whose name is not before name. */
static size_t lower_bound(const struct imatrix *m, const char *name)
{
    size_t low = 0, high = m->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(m->entries[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct imatrix_entry *imatrix_find(const struct imatrix *m, const char *name)
{
    size_t at = lower_bound(m, name);
    return at < m->n && strcmp(m->entries[at].name, name) == 0 ? &m->entries[at] : NULL;
}

void imatrix_add(struct imatrix *m, const char *name, uint64_t n_in, uint64_t n_mat,
                 const float *values, const float *counts)
{
    size_t at = lower_bound(m, name), n = (size_t)(n_in * n_mat);
    struct imatrix_entry entry = {.n_in = n_in, .n_mat = n_mat};
    entry.values = arena_alloc(&m->arena, n * sizeof(float));
    entry.counts = arena_alloc(&m->arena, (size_t)n_mat * sizeof(float));
    memcpy(entry.values, values, n * sizeof(float));
    memcpy(entry.counts, counts, (size_t)n_mat * sizeof(float));
    for (uint64_t i = 0; i < n_mat; i++)
        m->partial |= counts[i] == 0;
    if (at < m->n && strcmp(m->entries[at].name, name) == 0) {
        entry.name = m->entries[at].name;
        m->entries[at] = entry;
        return;
    }
    entry.name = arena_strdup(&m->arena, name);
    m->entries = xgrow(m->entries, &m->capacity, m->n + 1, sizeof *m->entries);
    memmove(&m->entries[at + 1], &m->entries[at], (m->n - at) * sizeof *m->entries);
    m->entries[at] = entry;
    m->n++;
}

void imatrix_add_dataset(struct imatrix *m, const char *dataset)
{
    m->datasets = xgrow(m->datasets, &m->datasets_capacity, m->n_datasets + 1, sizeof *m->datasets);
    m->datasets[m->n_datasets++] = arena_strdup(&m->arena, dataset);
}

void imatrix_release(struct imatrix *m)
{
    xfree(m->entries);
    xfree(m->datasets);
    arena_release(&m->arena);
    memset(m, 0, sizeof *m);
}

static int by_name(const void *x, const void *y)
{
    return strcmp(((const struct imatrix_entry *)x)->name, ((const struct imatrix_entry *)y)->name);
}

/* After appending in file order: sorts, and finds names that came twice. */
static int sort_entries(struct imatrix *m, const char *path, struct err *e)
{
    if (m->n > 1)
        qsort(m->entries, m->n, sizeof *m->entries, by_name);
    for (size_t i = 1; i < m->n; i++) {
        if (strcmp(m->entries[i - 1].name, m->entries[i].name) == 0)
            return err_set(e, ERR_INPUT, hint, "%s: entry \"%s\" appears twice", path,
                           m->entries[i].name);
    }
    return 0;
}

static struct imatrix_entry *append(struct imatrix *m, const char *name, size_t name_len,
                                    uint64_t n_in, uint64_t n_mat)
{
    m->entries = xgrow(m->entries, &m->capacity, m->n + 1, sizeof *m->entries);
    struct imatrix_entry *entry = &m->entries[m->n++];
    entry->name = arena_strndup(&m->arena, name, name_len);
    entry->n_in = n_in;
    entry->n_mat = n_mat;
    entry->values = arena_alloc(&m->arena, (size_t)(n_in * n_mat) * sizeof(float));
    entry->counts = arena_alloc(&m->arena, (size_t)n_mat * sizeof(float));
    return entry;
}

static int check_floats(const float *v, uint64_t n, float max, const char *name, const char *what,
                        const char *path, struct err *e)
{
    for (uint64_t i = 0; i < n; i++) {
        if (!(v[i] >= 0 && v[i] <= max))
            return err_set(e, ERR_INPUT, hint,
                           "%s: %s %llu of \"%s\" is %g, expected a finite number from zero up",
                           path, what, (unsigned long long)i, name, (double)v[i]);
    }
    return 0;
}

/* Sums of squares over counts → means. Counts are whole numbers, rounded like llama-quantize
 * rounds. */
static void means(struct imatrix *m, struct imatrix_entry *entry, const float *sums)
{
    for (uint64_t k = 0; k < entry->n_mat; k++) {
        float count = (float)llroundf(entry->counts[k]);
        float *values = entry->values + k * entry->n_in;
        const float *from = sums + k * entry->n_in;
        m->partial |= !(count > 0);
        for (uint64_t j = 0; j < entry->n_in; j++)
            values[j] = count > 0 ? from[j] / count : 1.0f;
    }
}

/* ---- GGUF ---------------------------------------------------------------------------------------
 */

static bool ends_with(const char *name, const char *suffix, size_t *stem)
{
    size_t n = strlen(name), tail = strlen(suffix);
    *stem = n > tail ? n - tail : 0;
    return n > tail && strcmp(name + n - tail, suffix) == 0;
}

/* Floats of a tensor; F32 data in a GGUF file is aligned to at least 8 bytes. */
static const float *floats(const struct gguf *g, const struct gguf_tensor *t)
{
    return (const float *)(const void *)gguf_tensor_data(g, t);
}

static int read_pair(struct imatrix *m, const struct gguf *g, const struct gguf_tensor *sums,
                     const struct gguf_tensor *counts, size_t stem, struct err *e)
{
    const char *path = g->maps[0].path;
    uint64_t n_sums = sums->bytes / sizeof(float), n_counts = counts->bytes / sizeof(float);
    if (sums->dtype != DT_F32 || counts->dtype != DT_F32)
        return err_set(e, ERR_INPUT, hint, "%s: \"%s\" and its counts must be F32", path,
                       sums->name);
    if (n_counts > n_sums || n_sums % n_counts != 0)
        return err_set(e, ERR_INPUT, hint,
                       "%s: \"%s\" has %llu sums, not a multiple of its %llu counts", path,
                       sums->name, (unsigned long long)n_sums, (unsigned long long)n_counts);
    if (check_floats(floats(g, sums), n_sums, FLT_MAX, sums->name, "sum", path, e) ||
        check_floats(floats(g, counts), n_counts, IMATRIX_COUNT_MAX, counts->name, "count", path,
                     e))
        return -1;
    struct imatrix_entry *entry = append(m, sums->name, stem, n_sums / n_counts, n_counts);
    memcpy(entry->counts, floats(g, counts), (size_t)counts->bytes);
    means(m, entry, floats(g, sums));
    return check_floats(entry->values, n_sums, FLT_MAX, entry->name, "value", path, e);
}

/* Each sum needs its counts, each count its sums; other tensors have no business here. */
static int read_tensors(struct imatrix *m, const struct gguf *g, struct err *e)
{
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        char partner[GGUF_NAME_MAX + sizeof sum_suffix];
        size_t stem;
        bool is_sum = ends_with(t->name, sum_suffix, &stem);
        if (!is_sum && !ends_with(t->name, count_suffix, &stem))
            return err_set(e, ERR_INPUT, hint, "%s: tensor \"%s\" is neither sums nor counts",
                           g->maps[0].path, t->name);
        const char *suffix = is_sum ? count_suffix : sum_suffix;
        memcpy(partner, t->name, stem);
        memcpy(partner + stem, suffix, strlen(suffix) + 1);
        const struct gguf_tensor *other = gguf_find(g, partner);
        if (!other)
            return err_set(e, ERR_INPUT, hint, "%s: tensor \"%s\" has no \"%s\" beside it",
                           g->maps[0].path, t->name, partner);
        if (is_sum && read_pair(m, g, t, other, stem, e))
            return -1;
    }
    return 0;
}

static int read_chunk_key(const struct gguf *g, const char *key, uint32_t *v, struct err *e)
{
    uint64_t u = 0;
    if (!gguf_get_u64(&g->kvs, key, &u) || u > UINT32_MAX)
        return err_set(e, ERR_INPUT, hint, "%s: the integer key %s is missing", g->maps[0].path,
                       key);
    *v = (uint32_t)u;
    return 0;
}

static int read_datasets(struct imatrix *m, const struct gguf *g, struct err *e)
{
    const struct gguf_kv *kv = gguf_kvs_find(&g->kvs, "imatrix.datasets");
    if (!kv || kv->type != GGUF_ARRAY || kv->element != GGUF_STR)
        return err_set(e, ERR_INPUT, hint, "%s: the string array imatrix.datasets is missing",
                       g->maps[0].path);
    for (uint64_t i = 0; i < kv->count; i++) {
        const struct gguf_str *s = &kv->strs[i];
        if (!text_is_utf8(s->data, s->len) || text_has_control(s->data, s->len))
            return err_set(e, ERR_INPUT, hint, "%s: dataset name %llu is not printable UTF-8",
                           g->maps[0].path, (unsigned long long)i);
        char *name = xstrndup(s->data, s->len);
        imatrix_add_dataset(m, name);
        xfree(name);
    }
    return 0;
}

enum { WEIGHTS_MAX = 4096 };
static const char weights_key[] = "sintra.weights";

void imatrix_set_weights(struct imatrix *m, const float *weights, size_t n)
{
    m->weights = arena_alloc(&m->arena, (n + 1) * sizeof(*m->weights));
    memcpy(m->weights, weights, n * sizeof(*weights));
    m->n_weights = n;
}

/* What other programs wrote under that name, if anything, is no business of ours. */
static int read_weights(struct imatrix *m, const struct gguf *g, const char *path, struct err *e)
{
    const struct gguf_kv *kv = gguf_kvs_find(&g->kvs, weights_key);
    if (!kv || kv->type != GGUF_ARRAY || kv->element != GGUF_F32 || kv->count > WEIGHTS_MAX)
        return 0;
    const float *v = kv->raw;
    for (uint64_t i = 0; i < kv->count; i++)
        if (!isfinite(v[i]))
            return err_set(e, ERR_INPUT, hint, "%s: value %llu of \"%s\" is not a finite number",
                           path, (unsigned long long)i, weights_key);
    imatrix_set_weights(m, kv->raw, (size_t)kv->count);
    return 0;
}

static int read_gguf(struct imatrix *m, const char *path, struct err *e)
{
    struct gguf g;
    int rc = -1;
    if (gguf_open(&g, path, GGUF_CHECK_CONTAINER, e))
        return -1;
    const char *type = gguf_get_str(&g.kvs, "general.type");
    if (type && strcmp(type, "imatrix") != 0) {
        char shown[TEXT_SHOWN_MAX];
        err_set(e, ERR_INPUT, "give the file that 'sintra calibrate' or llama-imatrix wrote",
                "%s: general.type is \"%s\", not an importance matrix", path,
                text_show(type, strlen(type), shown));
        goto out;
    }
    if (read_datasets(m, &g, e) || read_chunk_key(&g, "imatrix.chunk_count", &m->chunk_count, e) ||
        read_chunk_key(&g, "imatrix.chunk_size", &m->chunk_size, e) || read_tensors(m, &g, e) ||
        read_weights(m, &g, path, e))
        goto out;
    rc = 0;
out:
    gguf_close(&g);
    return rc;
}

/* ---- legacy -------------------------------------------------------------------------------------
 */

struct cursor {
    const struct fs_map *map;
    uint64_t at;
    struct err *e;
};

static uint64_t left(const struct cursor *c)
{
    return c->map->size - c->at;
}

static const char not_imatrix[] = "neither a GGUF nor a legacy importance matrix";

/* An i32 in [min, max]. */
static int take_i32(struct cursor *c, int32_t min, int32_t max, const char *what, int32_t *v)
{
    if (left(c) < sizeof *v)
        return err_set(c->e, ERR_INPUT, hint, "%s: %s: it ends inside %s", c->map->path,
                       not_imatrix, what);
    memcpy(v, c->map->data + c->at, sizeof *v);
    if (*v < min || *v > max)
        return err_set(c->e, ERR_INPUT, hint, "%s: %s: %s is %d at offset %llu", c->map->path,
                       not_imatrix, what, *v, (unsigned long long)c->at);
    c->at += sizeof *v;
    return 0;
}

/* Text of a length that stands before it. */
static int take_text(struct cursor *c, int32_t min, int32_t max, const char *what,
                     struct gguf_str *s)
{
    int32_t n = 0;
    if (take_i32(c, min, max, what, &n))
        return -1;
    if ((uint64_t)n > left(c))
        return err_set(c->e, ERR_INPUT, hint, "%s: %s: %s has %d bytes, %llu are left",
                       c->map->path, not_imatrix, what, n, (unsigned long long)left(c));
    *s = (struct gguf_str){(const char *)c->map->data + c->at, (size_t)n};
    if (!text_is_utf8(s->data, s->len) || text_has_control(s->data, s->len))
        return err_set(c->e, ERR_INPUT, hint, "%s: %s: %s is not printable UTF-8", c->map->path,
                       not_imatrix, what);
    c->at += (uint64_t)n;
    return 0;
}

/* values hold mean · ncall; ncall 0 means that they are taken as they are. */
static int read_legacy_entry(struct imatrix *m, struct cursor *c)
{
    struct gguf_str name = {0};
    int32_t calls = 0, n = 0;
    if (take_text(c, 1, IMATRIX_NAME_MAX, "an entry's name", &name) ||
        take_i32(c, 0, INT32_MAX, "an entry's number of calls", &calls) ||
        take_i32(c, 1, INT32_MAX, "an entry's number of values", &n))
        return -1;
    uint64_t bytes = (uint64_t)n * sizeof(float);
    if (bytes > left(c))
        return err_set(c->e, ERR_INPUT, hint,
                       "%s: entry \"%.*s\" has %d values, but %llu bytes are left", c->map->path,
                       (int)name.len, name.data, n, (unsigned long long)left(c));
    struct imatrix_entry *entry = append(m, name.data, name.len, (uint64_t)n, 1);
    memcpy(entry->values, c->map->data + c->at, (size_t)bytes);
    c->at += bytes;
    entry->counts[0] = (float)calls;
    if (check_floats(entry->values, (uint64_t)n, FLT_MAX, entry->name, "value", c->map->path, c->e))
        return -1;
    for (int32_t j = 0; calls > 0 && j < n; j++)
        entry->values[j] /= (float)calls;
    m->partial |= calls == 0;
    return 0;
}

/* Older writers left this out. */
static int read_legacy_tail(struct imatrix *m, struct cursor *c)
{
    int32_t chunks = 0;
    struct gguf_str dataset = {0};
    if (left(c) == 0)
        return 0;
    if (take_i32(c, 0, INT32_MAX, "the number of chunks", &chunks))
        return -1;
    m->chunk_count = (uint32_t)chunks;
    if (left(c) == 0)
        return 0;
    if (take_text(c, 0, 1 << 16, "the name of the dataset", &dataset))
        return -1;
    if (dataset.len > 0) {
        char *name = xstrndup(dataset.data, dataset.len);
        imatrix_add_dataset(m, name);
        xfree(name);
    }
    if (left(c) != 0)
        return err_set(c->e, ERR_INPUT, hint, "%s: %s: %llu bytes behind its end", c->map->path,
                       not_imatrix, (unsigned long long)left(c));
    return 0;
}

static int read_legacy(struct imatrix *m, const struct fs_map *map, struct err *e)
{
    struct cursor c = {.map = map, .e = e};
    int32_t n = 0;
    if (take_i32(&c, 1, IMATRIX_ENTRIES_MAX, "the number of entries", &n))
        return -1;
    for (int32_t i = 0; i < n; i++) {
        if (read_legacy_entry(m, &c))
            return -1;
    }
    return read_legacy_tail(m, &c);
}

/* ---- reading and writing ------------------------------------------------------------------------
 */

int imatrix_read(struct imatrix *m, const char *path, struct err *e)
{
    struct fs_map map;
    memset(m, 0, sizeof *m);
    if (fs_map_open(&map, path, e))
        return -1;
    bool gguf = map.size >= 4 && memcmp(map.data, "GGUF", 4) == 0;
    int rc = gguf ? read_gguf(m, path, e) : read_legacy(m, &map, e);
    fs_map_close(&map);
    if (rc == 0 && m->n == 0)
        rc = err_set(e, ERR_INPUT, hint, "%s: an importance matrix without entries", path);
    if (rc || sort_entries(m, path, e) || hash_sha256_file(path, m->sha256, e)) {
        imatrix_release(m);
        return -1;
    }
    return 0;
}

/* NULL-terminated names, sums and counts alternating, shapes as llama-imatrix writes them. */
static int describe(const struct imatrix *m, struct gguf_writer_tensor *tensors,
                    struct arena *names, struct err *e)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct imatrix_entry *entry = &m->entries[i];
        if (strlen(entry->name) > GGUF_NAME_MAX - (sizeof sum_suffix - 1))
            return err_set(e, ERR_LIMIT, NULL,
                           "the name \"%.80s\" is too long for an importance matrix", entry->name);
        tensors[2 * i] = (struct gguf_writer_tensor){
            .name = arena_printf(names, "%s%s", entry->name, sum_suffix),
            .dtype = DT_F32,
            .shape = {.n_dims = 2, .ne = {entry->n_in, entry->n_mat, 1, 1}}};
        tensors[2 * i + 1] = (struct gguf_writer_tensor){
            .name = arena_printf(names, "%s%s", entry->name, count_suffix),
            .dtype = DT_F32,
            .shape = {.n_dims = 2, .ne = {1, entry->n_mat, 1, 1}}};
    }
    return 0;
}

static void set_keys(const struct imatrix *m, struct gguf_kvs *kvs)
{
    size_t n = m->n_datasets;
    struct gguf_str *strs = xcalloc(n + 1, sizeof *strs);
    for (size_t i = 0; i < n; i++)
        strs[i] = (struct gguf_str){m->datasets[i], strlen(m->datasets[i])};
    gguf_set_str(kvs, "general.type", "imatrix");
    gguf_set_strs(kvs, "imatrix.datasets", strs, n);
    gguf_set_u32(kvs, "imatrix.chunk_count", m->chunk_count);
    gguf_set_u32(kvs, "imatrix.chunk_size", m->chunk_size);
    if (m->n_weights > 0)
        gguf_set_array(kvs, weights_key, GGUF_F32, m->weights, m->n_weights);
    xfree(strs);
}

/* Writes one entry's sums and counts, then takes over the values that they stand for. */
static int write_entry(struct imatrix *m, struct imatrix_entry *entry, struct gguf_writer *w,
                       const struct gguf_writer_tensor *at, struct err *e)
{
    size_t n = (size_t)(entry->n_in * entry->n_mat);
    float *sums = big_alloc(n * sizeof(float), "an importance matrix", e);
    if (!sums)
        return -1;
    for (size_t j = 0; j < n; j++)
        sums[j] = entry->values[j] * (float)llroundf(entry->counts[j / entry->n_in]);
    int rc = check_floats(sums, n, FLT_MAX, entry->name, "sum", w->file.path, e) ||
             fs_atomic_write_at(&w->file, at[0].offset, sums, (size_t)at[0].bytes, e) ||
             fs_atomic_write_at(&w->file, at[1].offset, entry->counts, (size_t)at[1].bytes, e);
    if (rc == 0)
        means(m, entry, sums);
    big_free(sums, n * sizeof(float));
    return rc ? -1 : 0;
}

int imatrix_write(struct imatrix *m, const char *path, struct err *e)
{
    struct gguf_writer w;
    struct gguf_kvs kvs = {0};
    struct arena names = {0};
    struct gguf_writer_tensor *tensors = xcalloc(2 * m->n + 1, sizeof *tensors);
    int rc = -1;
    set_keys(m, &kvs);
    if (describe(m, tensors, &names, e) || gguf_writer_open(&w, path, &kvs, tensors, 2 * m->n, e))
        goto out;
    for (size_t i = 0; i < m->n; i++) {
        if (write_entry(m, &m->entries[i], &w, &tensors[2 * i], e)) {
            gguf_writer_abort(&w);
            goto out;
        }
    }
    if (gguf_writer_commit(&w, e) == 0)
        rc = hash_sha256_file(path, m->sha256, e);
out:
    gguf_kvs_release(&kvs);
    arena_release(&names);
    xfree(tensors);
    return rc;
}
