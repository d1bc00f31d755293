/* Our GGUF reader, writer and type table against libggml's.
 *
 * Random valid files are written by ggml and read by us, written by us and read by ggml: every key,
 * value, tensor and byte must agree, and for the same content the two files must be the same bytes.
 * Random damage to such a file must never be accepted by us where ggml refuses the container. The
 * block sizes of every type, the decoders and the check of scales on random bytes are compared
 * too. */
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "ggml.h"
/* both headers name this enum */
#define gguf_type upstream_gguf_type
#include "gguf.h"
#undef gguf_type

#include "base/fs.h"
#include "base/rng.h"
#include "format/gguf.h"
#include "quant/quant.h"

static long passed, failed;
static char dir[] = "/tmp/sintra-oracle-XXXXXX";
static char theirs_path[64], ours_path[64];

__attribute__((format(printf, 2, 3))) static void expect(bool ok, const char *format, ...)
{
    va_list ap;
    ok ? passed++ : failed++;
    if (ok)
        return;
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    putchar('\n');
}

/* ---- the type table -------------------------------------------------------------------------- */

static void compare_types(void)
{
    for (int id = 0; id < GGML_TYPE_COUNT; id++) {
        const struct dtype_info *t = dtype_info((enum dtype)id);
        if (ggml_type_size((enum ggml_type)id) == 0) {
            expect(!t, "type %d is ours, but ggml removed it", id);
            continue;
        }
        expect(t != NULL, "type %s of ggml is not in our table",
               ggml_type_name((enum ggml_type)id));
        if (!t)
            continue;
        expect(t->bytes == ggml_type_size((enum ggml_type)id) &&
                   t->block == (uint64_t)ggml_blck_size((enum ggml_type)id) &&
                   t->quantized == ggml_is_quantized((enum ggml_type)id) &&
                   strcasecmp(t->name, ggml_type_name((enum ggml_type)id)) == 0,
               "type %s differs: %u bytes for %u", t->name, t->bytes, t->block);
        expect(!t->needs_importance == !ggml_quantize_requires_imatrix((enum ggml_type)id),
               "%s: who needs importance?", t->name);
    }
}

/* ---- decoders and scales on random bytes ----------------------------------------------------- */

enum { BLOCKS = 64, BLOCK_BYTES_MAX = 320, BLOCK_MAX = 256 };

/* ggml prints what it finds wrong; that is expected here. */
static bool ggml_finite(enum dtype type, const void *data, size_t n)
{
    static int null = -1, keep = -1;
    if (null < 0) {
        null = open("/dev/null", O_WRONLY);
        keep = dup(2);
    }
    dup2(null, 2);
    bool finite = ggml_validate_row_data((enum ggml_type)type, data, n);
    dup2(keep, 2);
    return finite;
}

/* To the bit, but that a NaN may be any NaN. */
static bool same_floats(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof(float)) != 0 && !(isnan(a[i]) && isnan(b[i])))
            return false;
    }
    return true;
}

static void compare_blocks(const struct dtype_info *t, struct rng *r)
{
    static uint8_t data[BLOCKS * BLOCK_BYTES_MAX];
    static float ours[BLOCKS * BLOCK_MAX], theirs[BLOCKS * BLOCK_MAX];
    const struct ggml_type_traits *traits = ggml_get_type_traits((enum ggml_type)t->id);
    int finite = 0, infinite = 0;
    for (int round = 0; round < 200; round++) {
        size_t n_blocks = round % 2 ? 1 : BLOCKS, bytes = n_blocks * t->bytes;
        for (size_t i = 0; i < bytes; i++)
            data[i] = (uint8_t)rng_next(r);
        bool ok = ggml_finite(t->id, data, bytes);
        expect(quant_blocks_finite(t->id, data, bytes) == ok, "%s: scales judged otherwise",
               t->name);
        ok ? finite++ : infinite++;
        if (!traits->to_float)
            continue;
        expect(quant_decode(t->id, data, ours, n_blocks, t->block, NULL) == 0, "%s: no decoder",
               t->name);
        traits->to_float(data, theirs, (int64_t)(n_blocks * t->block));
        expect(same_floats(ours, theirs, n_blocks * t->block), "%s: decodes otherwise", t->name);
    }
    /* every scale of NVFP4 is a number, and Q8_1 is no type of files, so never good */
    if (t->quantized && t->id != DT_NVFP4 && t->id != DT_Q8_1)
        expect(finite > 0 && infinite > 0, "%s: %d finite and %d infinite rounds", t->name, finite,
               infinite);
}

/* ---- random files ---------------------------------------------------------------------------- */

static const enum dtype tensor_types[] = {
    DT_F32,     DT_F16,    DT_BF16,  DT_Q4_0, DT_Q8_0, DT_Q2_K, DT_Q4_K, DT_Q6_K,
    DT_IQ2_XXS, DT_IQ4_XS, DT_MXFP4, DT_I8,   DT_I32,  DT_I64,  DT_F64,  DT_TQ1_0};
enum { N_TYPES = sizeof tensor_types / sizeof tensor_types[0], TENSORS_MAX = 12, KEYS_MAX = 30 };

/* Sets the same random key in both. */
static void random_key(struct gguf_kvs *k, struct gguf_context *g, struct rng *r, int i)
{
    char key[32], text[32];
    uint64_t v = rng_next(r);
    float floats[5] = {(float)rng_normal(r), 1, 2, 3, 4};
    const char *strs[3] = {"one", "", text};
    struct gguf_str views[3];
    snprintf(key, sizeof key, "key.%d", i);
    snprintf(text, sizeof text, "text %llu", (unsigned long long)(v % 1000));
    for (int s = 0; s < 3; s++)
        views[s] = (struct gguf_str){strs[s], strlen(strs[s])};
    uint64_t count = rng_below(r, 4);
    switch (rng_below(r, 9)) {
    case 0:
        gguf_set_u32(k, key, (uint32_t)v);
        gguf_set_val_u32(g, key, (uint32_t)v);
        break;
    case 1:
        gguf_set_u64(k, key, v);
        gguf_set_val_u64(g, key, v);
        break;
    case 2:
        gguf_set_i32(k, key, (int32_t)v);
        gguf_set_val_i32(g, key, (int32_t)v);
        break;
    case 3:
        gguf_set_f32(k, key, floats[0]);
        gguf_set_val_f32(g, key, floats[0]);
        break;
    case 4:
        gguf_set_bool(k, key, v & 1);
        gguf_set_val_bool(g, key, v & 1);
        break;
    case 5:
        gguf_set_str(k, key, text);
        gguf_set_val_str(g, key, text);
        break;
    case 6:
        gguf_set_array(k, key, GGUF_F32, floats, count);
        gguf_set_arr_data(g, key, GGUF_TYPE_FLOAT32, floats, count);
        break;
    case 7:
        gguf_set_u16(k, key, (uint16_t)v);
        gguf_set_val_u16(g, key, (uint16_t)v);
        break;
    default:
        gguf_set_strs(k, key, views, count > 3 ? 3 : count);
        gguf_set_arr_str(g, key, strs, count > 3 ? 3 : count);
        break;
    }
}

static struct shape random_shape(enum dtype type, struct rng *r)
{
    struct shape s = {.n_dims = 1 + (int)rng_below(r, 4), .ne = {1, 1, 1, 1}};
    s.ne[0] = dtype_info(type)->block * (1 + rng_below(r, 3));
    for (int d = 1; d < s.n_dims; d++)
        s.ne[d] = 1 + rng_below(r, 4);
    return s;
}

/* Writes ours with the same bytes of data that theirs has. */
static int write_ours(const struct gguf_kvs *k, struct gguf_writer_tensor *t, size_t n,
                      struct ggml_tensor **data)
{
    struct gguf_writer w;
    struct err e = {0};
    if (gguf_writer_open(&w, ours_path, k, t, n, &e)) {
        printf("%s\n", e.message);
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (t[i].bytes != ggml_nbytes(data[i]) ||
            fs_atomic_write_at(&w.file, t[i].offset, data[i]->data, t[i].bytes, &e)) {
            gguf_writer_abort(&w);
            return -1;
        }
    }
    return gguf_writer_commit(&w, &e);
}

static void same_file(const char *a, const char *b)
{
    char *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    fs_read_all(a, 1 << 26, &x, &n, NULL);
    fs_read_all(b, 1 << 26, &y, &m, NULL);
    expect(x && y && n == m && memcmp(x, y, n) == 0, "our file of %zu bytes is not theirs of %zu",
           n, m);
    free(x);
    free(y);
}

static void compare_tensors(const struct gguf *ours, const struct gguf_context *theirs)
{
    expect((int64_t)ours->n_tensors == gguf_get_n_tensors(theirs), "number of tensors");
    for (size_t i = 0; i < ours->n_tensors; i++) {
        const struct gguf_tensor *t = &ours->tensors[i];
        int64_t id = gguf_find_tensor(theirs, t->name);
        expect(id == (int64_t)i, "tensor %s is at %lld of theirs", t->name, (long long)id);
        if (id < 0)
            continue;
        const int64_t *ne = gguf_get_tensor_ne(theirs, id);
        expect((int)t->dtype == (int)gguf_get_tensor_type(theirs, id) &&
                   t->bytes == gguf_get_tensor_size(theirs, id) &&
                   t->offset == gguf_get_data_offset(theirs) + gguf_get_tensor_offset(theirs, id),
               "tensor %s differs", t->name);
        for (int d = 0; d < SHAPE_DIMS_MAX; d++)
            expect((int64_t)t->shape.ne[d] == ne[d], "tensor %s: dimension %d", t->name, d);
    }
}

static void compare_keys(const struct gguf *ours, const struct gguf_context *theirs)
{
    expect((int64_t)ours->kvs.n == gguf_get_n_kv(theirs), "number of keys");
    for (size_t i = 0; i < ours->kvs.n; i++) {
        const struct gguf_kv *kv = &ours->kvs.items[i];
        int64_t id = gguf_find_key(theirs, kv->key);
        bool same = id == (int64_t)i && (int)kv->type == (int)gguf_get_kv_type(theirs, id);
        if (same && kv->type == GGUF_STR)
            same = strcmp(kv->str.data, gguf_get_val_str(theirs, id)) == 0;
        else if (same && kv->type == GGUF_ARRAY)
            same = (int)kv->element == (int)gguf_get_arr_type(theirs, id) &&
                   kv->count == gguf_get_arr_n(theirs, id);
        else if (same && kv->type == GGUF_U32)
            same = kv->u == gguf_get_val_u32(theirs, id);
        else if (same && kv->type == GGUF_I32)
            same = kv->i == gguf_get_val_i32(theirs, id);
        else if (same && kv->type == GGUF_F32)
            same = (float)kv->f == gguf_get_val_f32(theirs, id);
        expect(same, "key %s differs", kv->key);
        for (uint64_t j = 0; same && kv->element == GGUF_STR && j < kv->count; j++) {
            const char *s = gguf_get_arr_str(theirs, id, j);
            expect(strlen(s) == kv->strs[j].len &&
                       memcmp(s, kv->strs[j].data, kv->strs[j].len) == 0,
                   "key %s: string %llu", kv->key, (unsigned long long)j);
        }
    }
}

static void compare_readings(const char *path)
{
    struct gguf ours;
    struct err e = {0};
    struct ggml_context *ctx = NULL;
    struct gguf_context *theirs =
        gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true, .ctx = &ctx});
    int rc = gguf_open(&ours, path, GGUF_CHECK_CONTAINER, &e);
    expect(theirs && rc == 0, "%s", rc ? e.message : "ggml refuses the file");
    if (theirs && rc == 0) {
        compare_tensors(&ours, theirs);
        compare_keys(&ours, theirs);
    }
    if (rc == 0)
        gguf_close(&ours);
    ggml_free(ctx);
    gguf_free(theirs);
}

static void make_files(struct rng *r)
{
    struct gguf_kvs k = {0};
    struct gguf_context *g = gguf_init_empty();
    struct ggml_context *ctx = ggml_init((struct ggml_init_params){.mem_size = 1 << 23});
    struct gguf_writer_tensor t[TENSORS_MAX];
    struct ggml_tensor *data[TENSORS_MAX];
    char names[TENSORS_MAX][32];
    size_t n = rng_below(r, TENSORS_MAX + 1), n_keys = rng_below(r, KEYS_MAX);
    bool aligned = rng_below(r, 3) == 0; /* ggml sets the key, but writes with 32 all the same */
    if (aligned)
        gguf_set_u32(&k, "general.alignment", 8u << rng_below(r, 6));
    for (size_t i = 0; i < n_keys; i++)
        random_key(&k, g, r, (int)i);
    for (size_t i = 0; i < n; i++) {
        enum dtype type = tensor_types[rng_below(r, N_TYPES)];
        snprintf(names[i], sizeof names[i], "blk.%zu.weight", i);
        t[i] = (struct gguf_writer_tensor){
            .name = names[i], .dtype = type, .shape = random_shape(type, r)};
        int64_t ne[4];
        for (int d = 0; d < 4; d++)
            ne[d] = (int64_t)t[i].shape.ne[d];
        data[i] = ggml_new_tensor(ctx, (enum ggml_type)type, 4, ne);
        ggml_set_name(data[i], names[i]);
        for (size_t b = 0; b < ggml_nbytes(data[i]); b++)
            ((uint8_t *)data[i]->data)[b] = (uint8_t)rng_next(r);
        gguf_add_tensor(g, data[i]);
    }
    expect(gguf_write_to_file(g, theirs_path, false), "ggml cannot write");
    expect(write_ours(&k, t, n, data) == 0, "we cannot write");
    if (!aligned) {
        same_file(ours_path, theirs_path);
        compare_readings(theirs_path);
    }
    compare_readings(ours_path);
    ggml_free(ctx);
    gguf_free(g);
    gguf_kvs_release(&k);
}

/* ---- damaged files: what we accept, ggml accepts --------------------------------------------- */

static void quiet(enum ggml_log_level level, const char *text, void *ud)
{
    (void)level;
    (void)text;
    (void)ud;
}

static void damage(struct rng *r, long *accepted, long *stricter)
{
    char *bytes = NULL;
    size_t n = 0;
    struct gguf g;
    if (fs_read_all(theirs_path, 1 << 26, &bytes, &n, NULL))
        return;
    for (int round = 0; round < 40; round++) {
        size_t header = n < 600 ? n : 600, at = rng_below(r, header);
        char keep = bytes[at];
        bytes[at] = (char)rng_next(r);
        fs_write_all(ours_path, bytes, n, NULL);
        bytes[at] = keep;
        bool ours = gguf_open(&g, ours_path, GGUF_CHECK_CONTAINER, NULL) == 0;
        if (ours)
            gguf_close(&g);
        struct gguf_context *theirs =
            gguf_init_from_file(ours_path, (struct gguf_init_params){.no_alloc = true});
        expect(theirs || !ours, "we accept byte %zu damaged, ggml does not", at);
        *accepted += ours;
        *stricter += theirs && !ours;
        gguf_free(theirs);
    }
    free(bytes);
}

int main(void)
{
    struct rng r;
    long accepted = 0, stricter = 0;
    if (!mkdtemp(dir))
        return 1;
    snprintf(theirs_path, sizeof theirs_path, "%s/theirs.gguf", dir);
    snprintf(ours_path, sizeof ours_path, "%s/ours.gguf", dir);
    rng_seed(&r, 5);
    ggml_log_set(quiet, NULL);
    compare_types();
    for (int id = 0; id < GGML_TYPE_COUNT; id++) {
        const struct dtype_info *t = dtype_info((enum dtype)id);
        if (t)
            compare_blocks(t, &r);
    }
    for (int i = 0; i < 60; i++) {
        make_files(&r);
        damage(&r, &accepted, &stricter);
    }
    fs_remove_tree(dir, NULL);
    printf("of 2400 damaged files we accept %ld, and refuse %ld that ggml accepts\n", accepted,
           stricter);
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed != 0;
}
