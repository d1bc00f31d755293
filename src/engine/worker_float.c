/* A model whose weights can be replaced: float mode.
 *
 * The model is made by llama_model_init_from_user: libllama allocates plain buffers (no mapping, no
 * repacking) for tensors of the types that we declare, and asks us for their content. Content comes
 * from the mapped GGUF file, which stays mapped, so that an original can be put back.
 *
 * Types: everything F32 when that fits into the memory allowed, since a quantized value is a sum of
 * products that BF16's 8 bits would round about as coarsely as Q8_0 itself does; otherwise as in
 * the file, and quantized tensors as F16.
 *
 * Owns the maps, ggml's reading of the headers, and for each tensor where it lies in its file and
 * where in the model (twice, when a tied embedding also lives on a GPU as the head). ggml_* objects
 * belong to libllama.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cgroup.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/num.h"
#include "engine/worker_int.h"
#include "base/banned.h"

enum { PLACES_MAX = 4, FILES_MAX = 1024, CHUNK_ELEMENTS = 1 << 20, SPLIT_PATH_MAX = 4096 };

struct float_tensor {
    const char *name; /* of the file's ggml tensor: a header's own names move when it grows */
    int file;
    uint64_t offset; /* absolute in its file */
    enum ggml_type stored;
    uint64_t n, row; /* elements, elements per row */
    struct ggml_tensor *places[PLACES_MAX];
    int n_places;
};

struct float_file {
    struct fs_map map;
    struct gguf_context *header;
    struct ggml_context *tensors;
};

struct float_weights {
    struct float_file *files;
    int n_files;
    struct float_tensor *tensors;
    size_t n_tensors, capacity;
    struct map by_name;
    float *chunk;  /* CHUNK_ELEMENTS, or one row when that is longer */
    void *encoded; /* the same elements in the type of the model */
    size_t chunk_elements;
    uint64_t bytes, done;
    struct worker *worker;
    char missing[64]; /* a tensor that libllama wants and the file lacks */
};

void float_free(struct float_weights *f)
{
    for (int i = 0; f && i < f->n_files; i++) {
        gguf_free(f->files[i].header);
        ggml_free(f->files[i].tensors);
        fs_map_close(&f->files[i].map);
    }
    if (!f)
        return;
    xfree(f->files);
    xfree(f->tensors);
    xfree(f->chunk);
    xfree(f->encoded);
    map_release(&f->by_name);
    xfree(f);
}

uint64_t float_bytes(const struct float_weights *f)
{
    return f->bytes;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int open_file(struct float_weights *f, const char *path, struct err *e)
{
    struct float_file *file = &f->files[f->n_files];
    *file = (struct float_file){.map = {.fd = -1}};
    if (fs_map_open(&file->map, path, e))
        return -1;
    struct gguf_init_params p = {.no_alloc = true, .ctx = &file->tensors};
    file->header = gguf_init_from_file(path, p);
    f->n_files++;
    if (!file->header)
        return worker_complain(f->worker, ERR_INPUT, NULL, e, "libllama cannot read %s", path);
    return 0;
}

/* Number of files that the first one speaks of. */
static int split_count(const struct gguf_context *header)
{
    int64_t key = gguf_find_key(header, "split.count");
    if (key < 0 || gguf_get_kv_type(header, key) != GGUF_TYPE_UINT16)
        return 1;
    int n = gguf_get_val_u16(header, key);
    return n > 1 ? n : 1;
}

static int open_files(struct float_weights *f, const char *path, struct err *e)
{
    char prefix[SPLIT_PATH_MAX], name[SPLIT_PATH_MAX];
    f->files = xcalloc(FILES_MAX, sizeof(*f->files));
    if (open_file(f, path, e))
        return -1;
    int n = split_count(f->files[0].header);
    if (n > FILES_MAX)
        return err_set(e, ERR_LIMIT, NULL, "%s has %d parts, at most %d can be read", path, n,
                       FILES_MAX);
    if (n > 1 && llama_split_prefix(prefix, sizeof(prefix), path, 0, n) <= 0)
        return err_set(e, ERR_INPUT, "give the first file of the split",
                       "%s is not named like part 1 of %d", path, n);
    for (int i = 1; i < n; i++) {
        llama_split_path(name, sizeof(name), prefix, i, n);
        if (open_file(f, name, e))
            return -1;
    }
    return 0;
}

static int list_tensor(struct float_weights *f, int file, int64_t id, struct err *e)
{
    const struct gguf_context *header = f->files[file].header;
    const char *name = gguf_get_tensor_name(header, id);
    const struct ggml_tensor *meta = ggml_get_tensor(f->files[file].tensors, name);
    uint64_t size = meta ? ggml_nbytes(meta) : 0, end;
    uint64_t offset = gguf_get_data_offset(header) + gguf_get_tensor_offset(header, id);
    if (!meta || !num_add_u64(offset, size, &end) || end > f->files[file].map.size)
        return err_set(e, ERR_INPUT, "fetch the file again", "%s: tensor %s lies outside the file",
                       f->files[file].map.path, name);
    if (!map_add(&f->by_name, name, strlen(name), f->n_tensors))
        return err_set(e, ERR_INPUT, NULL, "%s: tensor %s is there twice", f->files[file].map.path,
                       name);
    f->tensors = xgrow(f->tensors, &f->capacity, f->n_tensors + 1, sizeof(*f->tensors));
    f->tensors[f->n_tensors++] = (struct float_tensor){.name = meta->name,
                                                       .file = file,
                                                       .offset = offset,
                                                       .stored = meta->type,
                                                       .n = (uint64_t)ggml_nelements(meta),
                                                       .row = (uint64_t)meta->ne[0]};
    if ((uint64_t)meta->ne[0] > f->chunk_elements)
        f->chunk_elements = (size_t)meta->ne[0];
    return 0;
}

/* All tensors in one list, and all declared in the first header, which is the one libllama gets. */
static int list_tensors(struct float_weights *f, struct err *e)
{
    for (int i = 0; i < f->n_files; i++) {
        int64_t n = gguf_get_n_tensors(f->files[i].header);
        for (int64_t id = 0; id < n; id++)
            if (list_tensor(f, i, id, e))
                return -1;
    }
    for (size_t i = 0; i < f->n_tensors; i++) {
        const struct float_tensor *t = &f->tensors[i];
        if (t->file > 0)
            gguf_add_tensor(f->files[0].header,
                            ggml_get_tensor(f->files[t->file].tensors, t->name));
    }
    return 0;
}

/* ---- types ----------------------------------------------------------------------------------- */

/* What may be used: the caller's limit, else what the machine and the control group have to spare.
 */
static uint64_t memory_allowed(uint64_t limit)
{
    char *text;
    size_t n;
    uint64_t available = UINT64_MAX, used, group;
    if (limit > 0)
        return limit;
    if (fs_read_all("/proc/meminfo", 1 << 16, &text, &n, NULL) == 0) {
        const char *line = strstr(text, "MemAvailable:");
        uint64_t kib = 0;
        if (line && sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            available = kib * 1024;
        xfree(text);
    }
    group = cgroup_memory_max(&used);
    if (group > 0 && group < available)
        available = group;
    return available;
}

static bool is_float(enum ggml_type type)
{
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
}

static void choose_types(struct float_weights *f, uint64_t limit)
{
    uint64_t elements = 0;
    for (size_t i = 0; i < f->n_tensors; i++)
        elements += f->tensors[i].n;
    bool all_f32 = elements < memory_allowed(limit) / 10 * 7 / sizeof(float);
    for (size_t i = 0; i < f->n_tensors; i++) {
        const struct float_tensor *t = &f->tensors[i];
        enum ggml_type type = is_float(t->stored) ? t->stored : GGML_TYPE_F16;
        if (t->stored >= GGML_TYPE_I8 && t->stored <= GGML_TYPE_F64)
            continue; /* integers and doubles are not weights of matrices */
        gguf_set_tensor_type(f->files[0].header, t->name, all_f32 ? GGML_TYPE_F32 : type);
    }
}

/* ---- content --------------------------------------------------------------------------------- */

/* `count` elements from element `from` of what the file has, as F32 in f->chunk. */
static void read_chunk(struct float_weights *f, const struct float_tensor *t, uint64_t from,
                       uint64_t count)
{
    const struct ggml_type_traits *traits = ggml_get_type_traits(t->stored);
    const uint8_t *base = f->files[t->file].map.data + t->offset;
    const void *src = base + from / (uint64_t)traits->blck_size * traits->type_size;
    if (t->stored == GGML_TYPE_F32)
        memcpy(f->chunk, src, (size_t)count * sizeof(float));
    else
        traits->to_float(src, f->chunk, (int64_t)count);
}

/* Puts F32 values into every place of a tensor, from element `from` on. */
static int write_values(struct float_weights *f, const struct float_tensor *t, uint64_t from,
                        const float *values, uint64_t count, struct err *e)
{
    for (int p = 0; p < t->n_places; p++) {
        struct ggml_tensor *place = t->places[p];
        const void *data = values;
        if (place->type == GGML_TYPE_F16)
            ggml_fp32_to_fp16_row(values, f->encoded, (int64_t)count);
        else if (place->type == GGML_TYPE_BF16)
            ggml_fp32_to_bf16_row(values, f->encoded, (int64_t)count);
        else if (place->type != GGML_TYPE_F32)
            return err_set(e, ERR_BUG, NULL, "tensor %s is %s in the model", t->name,
                           ggml_type_name(place->type));
        if (place->type != GGML_TYPE_F32)
            data = f->encoded;
        size_t size = ggml_type_size(place->type);
        ggml_backend_tensor_set(place, data, (size_t)from * size, (size_t)count * size);
    }
    return 0;
}

static int write_original(struct float_weights *f, const struct float_tensor *t, struct err *e)
{
    uint64_t step = f->chunk_elements / t->row * t->row;
    for (uint64_t from = 0; from < t->n; from += step) {
        uint64_t count = t->n - from < step ? t->n - from : step;
        read_chunk(f, t, from, count);
        if (write_values(f, t, from, f->chunk, count, e))
            return -1;
    }
    return 0;
}

/* libllama asks for the content of one of its tensors. */
static void on_tensor(struct ggml_tensor *tensor, void *ud)
{
    struct float_weights *f = ud;
    uint64_t index;
    const char *name = ggml_get_name(tensor);
    if (!map_get_str(&f->by_name, name, &index) || f->tensors[index].n_places == PLACES_MAX ||
        f->tensors[index].n != (uint64_t)ggml_nelements(tensor)) {
        snprintf(f->missing, sizeof(f->missing), "%s", name);
        return;
    }
    struct float_tensor *t = &f->tensors[index];
    struct float_tensor only = *t;
    only.places[0] = tensor;
    only.n_places = 1;
    t->places[t->n_places++] = tensor;
    f->bytes += ggml_nbytes(tensor);
    if (is_float(tensor->type))
        write_original(f, &only, NULL);
    else
        ggml_backend_tensor_set(tensor, f->files[t->file].map.data + t->offset, 0,
                                ggml_nbytes(tensor));
    f->done += t->n_places == 1;
    worker_progress(f->worker, (double)f->done, (double)f->n_tensors, NULL);
}

int float_load(struct worker *w, const char *path, struct llama_model_params params,
               uint64_t memory_bytes_max, struct err *e)
{
    struct float_weights *f = xcalloc(1, sizeof(*f));
    f->worker = w;
    f->chunk_elements = CHUNK_ELEMENTS;
    w->weights = f; /* worker_unload frees it */
    if (open_files(f, path, e) || list_tensors(f, e))
        return -1;
    choose_types(f, memory_bytes_max);
    f->chunk = xmalloc(f->chunk_elements * sizeof(float));
    f->encoded = xmalloc(f->chunk_elements * sizeof(float));
    w->model = llama_model_init_from_user(f->files[0].header, on_tensor, f, params);
    if (!w->model)
        return worker_complain(w, ERR_INPUT, "check the file (sintra inspect)", e,
                               "libllama cannot load %s", path);
    if (f->missing[0])
        return err_set(e, ERR_INPUT, "check the file (sintra inspect)",
                       "%s: libllama wants a tensor %s that is not there in that size", path,
                       f->missing);
    return 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

static const struct float_tensor *find(const struct worker *w, const json_t *request, struct err *e)
{
    const char *name;
    uint64_t index;
    if (json_need_str(request, "name", "request", &name, e))
        return NULL;
    if (!w->weights) {
        err_set(e, ERR_BUG, NULL, "weights can be replaced only in float mode");
        return NULL;
    }
    if (!map_get_str(&w->weights->by_name, name, &index)) {
        err_set(e, ERR_MISSING, NULL, "the model has no tensor \"%s\"", name);
        return NULL;
    }
    if (w->weights->tensors[index].n_places == 0) {
        err_set(e, ERR_UNSUPPORTED, NULL, "libllama does not use tensor \"%s\" of this model",
                name);
        return NULL;
    }
    return &w->weights->tensors[index];
}

int worker_tensor_set(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    uint64_t n, from, count;
    (void)answer;
    const struct float_tensor *t = find(w, request, e);
    if (!t || worker_number(request, "n", INT64_MAX, &n, e) ||
        worker_number(request, "from", INT64_MAX, &from, e) ||
        worker_number(request, "count", INT64_MAX, &count, e))
        return -1;
    if (n != t->n || from > n || count > n - from)
        return err_set(e, ERR_BUG, NULL, "tensor %s has %" PRIu64 " values, %" PRIu64 " were given",
                       t->name, t->n, n);
    const float *values = worker_slot(w, SLOT_IN, count * sizeof(float), e);
    if (!values)
        return -1;
    struct float_weights *f = w->weights;
    for (uint64_t done = 0; done < count; done += f->chunk_elements) {
        uint64_t part = count - done < f->chunk_elements ? count - done : f->chunk_elements;
        if (write_values(f, t, from + done, values + done, part, e))
            return -1;
    }
    return 0;
}

int worker_tensor_restore(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    (void)answer;
    const struct float_tensor *t = find(w, request, e);
    return t ? write_original(w->weights, t, e) : -1;
}
