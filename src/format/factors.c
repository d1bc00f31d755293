/* Owns the map of an open factors file, and the list of tensors of one that is being written. */
#include "format/factors.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "base/banned.h"

static const char key_tensors[] = "feedback.tensors", key_owner[] = "feedback.owner";
static const char hint[] = "calibrate again";
enum { SPAN_UNIT = 256 };

/* ---- reading --------------------------------------------------------------------------------- */

static const float *floats(const struct factors *f, uint32_t owner, const char *what,
                           struct shape *shape)
{
    char name[64];
    snprintf(name, sizeof name, "%u.%s", owner, what);
    const struct gguf_tensor *t = gguf_find(&f->file, name);
    if (!t || t->dtype != DT_F32)
        return NULL;
    *shape = t->shape;
    return (const float *)(const void *)gguf_tensor_data(&f->file, t);
}

static bool shapes_fit(struct factors_entry *x, const struct shape *factor,
                       const struct shape *weight)
{
    x->span = factor->ne[0];
    x->n = weight->ne[0];
    bool spans = x->span == x->n || (x->span > 0 && x->span < x->n && x->span % SPAN_UNIT == 0);
    return spans && shape_rows(factor) == x->n && shape_rows(weight) == 1;
}

static int read_entries(struct factors *f, const char *path, struct err *e)
{
    const struct gguf_kv *names = gguf_kvs_find(&f->file.kvs, key_tensors);
    const struct gguf_kv *owners = gguf_kvs_find(&f->file.kvs, key_owner);
    if (!names || !owners || names->type != GGUF_ARRAY || names->element != GGUF_STR ||
        owners->type != GGUF_ARRAY || owners->element != GGUF_U32 || names->count != owners->count)
        return err_set(e, ERR_INPUT, hint, "%s is not a factors file: %s or %s is missing", path,
                       key_tensors, key_owner);
    f->entries = xcalloc((size_t)names->count + 1, sizeof *f->entries);
    for (size_t i = 0; i < names->count; i++) {
        struct factors_entry *x = &f->entries[f->n++];
        struct shape factor = {0}, weight = {0};
        uint32_t owner;
        memcpy(&owner, (const char *)owners->raw + i * sizeof owner, sizeof owner);
        x->name = arena_strndup(&f->file.arena, names->strs[i].data, names->strs[i].len);
        x->factor = floats(f, owner, "factor", &factor);
        x->weight = floats(f, owner, "weight", &weight);
        if (!x->factor || !x->weight || !shapes_fit(x, &factor, &weight))
            return err_set(e, ERR_INPUT, hint, "%s: the factors of %s are missing or misshapen",
                           path, x->name);
        map_add(&f->by_name, x->name, strlen(x->name), i);
    }
    return 0;
}

int factors_open(struct factors *f, const char *path, struct err *e)
{
    *f = (struct factors){0};
    if (gguf_open(&f->file, path, GGUF_CHECK_CONTAINER, e))
        return -1;
    if (read_entries(f, path, e) == 0 && hash_sha256_file(path, f->sha256, e) == 0)
        return 0;
    factors_close(f);
    return -1;
}

const struct factors_entry *factors_find(const struct factors *f, const char *name)
{
    uint64_t i;
    return map_get_str(&f->by_name, name, &i) ? &f->entries[i] : NULL;
}

void factors_close(struct factors *f)
{
    xfree(f->entries);
    map_release(&f->by_name);
    gguf_close(&f->file);
    *f = (struct factors){0};
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Returns how many tensors there are. */
static size_t describe(struct factors_writer *w, const size_t *owner, const uint64_t *columns,
                       const uint64_t *span, size_t n)
{
    size_t made = 0;
    for (size_t i = 0; i < n; i++) {
        if (owner[i] != i)
            continue;
        struct gguf_writer_tensor *t = &w->tensors[made];
        w->at[i] = made;
        made += 2;
        t[0].name = arena_printf(&w->names, "%zu.factor", i);
        t[1].name = arena_printf(&w->names, "%zu.weight", i);
        t[0].dtype = t[1].dtype = DT_F32;
        t[0].shape = (struct shape){.n_dims = 2, .ne = {span[i], columns[i], 1, 1}};
        t[1].shape = (struct shape){.n_dims = 1, .ne = {columns[i], 1, 1, 1}};
    }
    return made;
}

int factors_writer_open(struct factors_writer *w, const char *path, const char *const *names,
                        const size_t *owner, const uint64_t *columns, const uint64_t *span,
                        size_t n, struct err *e)
{
    struct gguf_kvs kvs = {0};
    struct gguf_str *strs = xcalloc(n + 1, sizeof *strs);
    uint32_t *owners = xcalloc(n + 1, sizeof *owners);
    *w = (struct factors_writer){.tensors = xcalloc(2 * n + 1, sizeof *w->tensors),
                                 .at = xcalloc(n + 1, sizeof *w->at)};
    for (size_t i = 0; i < n; i++) {
        strs[i] = (struct gguf_str){names[i], strlen(names[i])};
        owners[i] = (uint32_t)owner[i];
    }
    gguf_set_str(&kvs, "general.type", "factors");
    gguf_set_strs(&kvs, key_tensors, strs, n);
    gguf_set_array(&kvs, key_owner, GGUF_U32, owners, n);
    size_t made = describe(w, owner, columns, span, n);
    int rc = gguf_writer_open(&w->writer, path, &kvs, w->tensors, made, e);
    if (rc)
        factors_writer_abort(w);
    gguf_kvs_release(&kvs);
    xfree(strs);
    xfree(owners);
    return rc;
}

int factors_writer_put(struct factors_writer *w, size_t i, const float *factor, const float *weight,
                       struct err *e)
{
    const struct gguf_writer_tensor *t = &w->tensors[w->at[i]];
    if (fs_atomic_write_at(&w->writer.file, t[0].offset, factor, (size_t)t[0].bytes, e))
        return -1;
    return fs_atomic_write_at(&w->writer.file, t[1].offset, weight, (size_t)t[1].bytes, e);
}

static void release(struct factors_writer *w)
{
    arena_release(&w->names);
    xfree(w->tensors);
    xfree(w->at);
    *w = (struct factors_writer){0};
}

int factors_writer_commit(struct factors_writer *w, struct err *e)
{
    int rc = gguf_writer_commit(&w->writer, e);
    release(w);
    return rc;
}

void factors_writer_abort(struct factors_writer *w)
{
    if (w->writer.file.path)
        gguf_writer_abort(&w->writer);
    release(w);
}
