/* Reading a safetensors file: the rules of point 8 of docs/validator.md.
 *
 * Owns the map and an arena with names. The text is parsed by safetensors_header.c; this file
 * checks what it says against the file: known types, sizes as products that cannot overflow, and
 * after sorting by offset one unbroken sequence from the first byte of data to the last byte of the
 * file. That rules out overlaps, holes, trailing bytes and every offset beyond the end at once.
 * Data may lie at any address: a reader must not assume that floats are aligned.
 * Format: huggingface/safetensors, README and tensor.rs. */
#include "format/safetensors_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "format/text_int.h"

#include "base/banned.h"

static const char hint[] = "the file is damaged, cut short or made to do harm: download it again";

struct builder {
    struct safetensors *s;
    size_t capacity;
    uint64_t data; /* offset of the first byte of data */
};

/* Bytes of the entry by its type and shape. Zero dimensions are allowed, and make zero bytes. */
static int entry_bytes(const struct safetensors_entry *t, const struct dtype_info *info,
                       const char *path, uint64_t *bytes, struct err *e)
{
    uint64_t n = info->bytes;
    bool empty = false;
    for (int d = 0; d < t->n_dims; d++)
        empty |= t->dims[d] == 0;
    for (int d = 0; d < t->n_dims && !empty; d++) {
        if (!num_mul_u64(n, t->dims[d], &n))
            return err_set(e, ERR_INPUT, hint,
                           "%s: tensor \"%.200s\": the product of its shape overflows", path,
                           t->name);
    }
    *bytes = empty ? 0 : n;
    return 0;
}

static int visit(void *ud, const struct safetensors_entry *t, struct err *e)
{
    struct builder *b = ud;
    struct safetensors *s = b->s;
    const char *path = s->map.path;
    uint64_t bytes = 0, room = s->map.size - b->data;
    const struct dtype_info *info = dtype_info(dtype_by_safetensors(t->dtype));
    if (!info)
        return err_set(e, ERR_UNSUPPORTED, "convert the model to BF16, F16 or F32",
                       "%s: tensor \"%.200s\" has the unknown type \"%s\"", path, t->name,
                       t->dtype);
    if (s->n_tensors == SAFETENSORS_TENSORS_MAX)
        return err_set(e, ERR_LIMIT, hint, "%s: more than %u tensors", path,
                       SAFETENSORS_TENSORS_MAX);
    if (entry_bytes(t, info, path, &bytes, e))
        return -1;
    if (t->begin > t->end || t->end > room)
        return err_set(
            e, ERR_INPUT, hint,
            "%s: tensor \"%.200s\" has data_offsets %llu to %llu, but the data has %llu bytes",
            path, t->name, (unsigned long long)t->begin, (unsigned long long)t->end,
            (unsigned long long)room);
    if (t->end - t->begin != bytes)
        return err_set(e, ERR_INPUT, hint,
                       "%s: tensor \"%.200s\" has %llu bytes, expected %llu by its shape", path,
                       t->name, (unsigned long long)(t->end - t->begin), (unsigned long long)bytes);
    if (!map_add(&s->by_name, t->name, strlen(t->name), 0))
        return err_set(e, ERR_INPUT, hint, "%s: tensor \"%.200s\" appears twice", path, t->name);
    s->tensors = xgrow(s->tensors, &b->capacity, s->n_tensors + 1, sizeof *s->tensors);
    struct safetensors_tensor *to = &s->tensors[s->n_tensors++];
    *to = (struct safetensors_tensor){.name = t->name,
                                      .dtype = info->id,
                                      .n_dims = t->n_dims,
                                      .offset = b->data + t->begin,
                                      .bytes = bytes};
    memcpy(to->dims, t->dims, sizeof to->dims);
    return 0;
}

/* By place; empty tensors before the one that begins where they lie; then by name, for one order.
 */
static int by_place(const void *x, const void *y)
{
    const struct safetensors_tensor *a = x, *b = y;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int check_sequence(const struct safetensors *s, uint64_t data, struct err *e)
{
    uint64_t at = data;
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct safetensors_tensor *t = &s->tensors[i];
        if (t->offset != at)
            return err_set(e, ERR_INPUT, hint,
                           "%s: tensor \"%.200s\" begins at %llu of the data, expected %llu (%s)",
                           s->map.path, t->name, (unsigned long long)(t->offset - data),
                           (unsigned long long)(at - data),
                           t->offset < at ? "it overlaps" : "a hole");
        at += t->bytes; /* each end was compared with the file's size */
    }
    if (at != s->map.size)
        return err_set(e, ERR_INPUT, hint, "%s: %llu bytes behind the last tensor", s->map.path,
                       (unsigned long long)(s->map.size - at));
    return 0;
}

static int read_header(struct safetensors *s, struct err *e)
{
    uint64_t n;
    if (s->map.size < sizeof n)
        return err_set(e, ERR_INPUT, hint, "%s: %llu bytes are too few for a safetensors file",
                       s->map.path, (unsigned long long)s->map.size);
    memcpy(&n, s->map.data, sizeof n);
    if (n > s->map.size - sizeof n)
        return err_set(e, ERR_INPUT, hint,
                       "%s: the header claims %llu bytes, but the file has %llu", s->map.path,
                       (unsigned long long)n, (unsigned long long)s->map.size);
    if (n > SAFETENSORS_HEADER_MAX)
        return err_set(e, ERR_LIMIT, hint, "%s: the header has %llu bytes, at most %u are read",
                       s->map.path, (unsigned long long)n, SAFETENSORS_HEADER_MAX);
    struct builder b = {.s = s, .data = sizeof n + n};
    if (safetensors_parse((const char *)s->map.data + sizeof n, (size_t)n, s->map.path, s->arena,
                          visit, &b, e))
        return -1;
    if (s->n_tensors > 1)
        qsort(s->tensors, s->n_tensors, sizeof *s->tensors, by_place);
    for (size_t i = 0; i < s->n_tensors; i++)
        map_set(&s->by_name, s->tensors[i].name, strlen(s->tensors[i].name), i);
    return check_sequence(s, b.data, e);
}

int safetensors_open(struct safetensors *s, const char *path, struct err *e)
{
    memset(s, 0, sizeof *s);
    if (fs_map_open(&s->map, path, e)) {
        memset(s, 0, sizeof *s);
        return -1;
    }
    s->arena = xcalloc(1, sizeof *s->arena);
    if (read_header(s, e)) {
        safetensors_close(s);
        return -1;
    }
    return 0;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    uint64_t at;
    return map_get_str(&s->by_name, name, &at) ? &s->tensors[at] : NULL;
}

void safetensors_close(struct safetensors *s)
{
    if (!s->arena)
        return; /* never opened, or closed before */
    fs_map_close(&s->map);
    xfree(s->tensors);
    map_release(&s->by_name);
    arena_release(s->arena);
    xfree(s->arena);
    memset(s, 0, sizeof *s);
}
