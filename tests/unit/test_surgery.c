/* Dropped blocks: the same file as from a Hugging Face folder that never had them, and one that
 * stock libllama loads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "format/gguf.h"
#include "format/safetensors.h"
#include "measure/measure.h"
#include "sample_fixture.h"
#include "surgery/surgery.h"

static char *sample_path(void)
{
    const char *root = getenv("SINTRA_ROOT");
    return fs_join(root ? root : ".", "models/sample");
}

/* Makes `path` from `source` by a recipe; *e tells why not. */
static int make(const char *source, const char *path, const struct recipe *r, struct err *e)
{
    struct model *m = NULL;
    struct bake_result done = {0};
    int rc = model_open(&m, source, e);
    if (rc == 0)
        rc = surgery_apply(m, r, e);
    if (rc == 0) {
        struct bake_job job = {.model = m, .recipe = r, .output = path, .threads = 1};
        rc = bake_gguf(&job, &done, e);
        bake_result_release(&done);
    }
    model_close(m);
    return rc;
}

/* ---- the same model as a folder without the blocks ---- */

static bool gone(long layer, const long *drop, int n)
{
    for (int i = 0; i < n; i++)
        if (drop[i] == layer)
            return true;
    return false;
}

static void write_weights(const char *from, const char *to, const long *drop, int n)
{
    static const char prefix[] = "model.layers.";
    struct safetensors s;
    json_t *header = json_object();
    uint64_t offset = 0;
    assert_int_equal(safetensors_open(&s, from, NULL), 0);
    FILE *data = tmpfile(), *out = fopen(to, "wb");
    assert_true(data && out);
    for (size_t i = 0; i < s.n_tensors; i++) {
        const struct safetensors_tensor *t = &s.tensors[i];
        char *name = xstrdup(t->name);
        if (strncmp(name, prefix, sizeof(prefix) - 1) == 0) {
            char *end;
            long layer = strtol(name + sizeof(prefix) - 1, &end, 10), below = 0;
            for (int k = 0; k < n; k++)
                below += drop[k] < layer;
            char *moved =
                gone(layer, drop, n) ? NULL : xasprintf("%s%ld%s", prefix, layer - below, end);
            xfree(name);
            name = moved;
        }
        if (!name)
            continue;
        json_t *dims = json_array();
        for (int k = 0; k < t->n_dims; k++)
            json_array_append_new(dims, json_integer((json_int_t)t->dims[k]));
        json_object_set_new(
            header, name,
            json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtype_info(t->dtype)->safetensors, "shape",
                      dims, "data_offsets", (json_int_t)offset, (json_int_t)(offset + t->bytes)));
        offset += t->bytes;
        fwrite((const char *)s.map.data + t->offset, 1, t->bytes, data);
        xfree(name);
    }
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t length = strlen(text);
    fwrite(&length, 8, 1, out);
    fwrite(text, 1, length, out);
    rewind(data);
    for (int c; (c = fgetc(data)) != EOF;)
        fputc(c, out);
    fclose(data);
    assert_int_equal(fclose(out), 0);
    free(text);
    json_decref(header);
    safetensors_close(&s);
}

static char *folder_without(const long *drop, int n)
{
    char *from = sample_path(), *to = fixture_path("without"), **names;
    size_t count;
    assert_int_equal(fs_mkdirs(to, NULL), 0);
    assert_int_equal(fs_list(from, &names, &count, NULL), 0);
    for (size_t i = 0; i < count; i++) {
        char *a = fs_join(from, names[i]), *b = fs_join(to, names[i]), *text;
        size_t bytes;
        if (strcmp(names[i], "model.safetensors") == 0) {
            write_weights(a, b, drop, n);
        } else if (fs_read_all(a, 1 << 26, &text, &bytes, NULL) == 0) {
            if (strcmp(names[i], "config.json") == 0) {
                json_t *config = json_loadb(text, bytes, 0, NULL);
                json_t *layers = json_object_get(config, "num_hidden_layers");
                json_integer_set(layers, json_integer_value(layers) - n);
                assert_int_equal(json_dump_file(config, b, 0), 0);
                json_decref(config);
            } else {
                FILE *f = fopen(b, "wb");
                fwrite(text, 1, bytes, f);
                fclose(f);
            }
            xfree(text);
        }
        xfree(a);
        xfree(b);
    }
    fs_list_free(names, count);
    xfree(from);
    return to;
}

static void same_files(const char *a, const char *b)
{
    struct gguf x, y;
    assert_int_equal(gguf_open(&x, a, GGUF_CHECK_MODEL, NULL), 0);
    assert_int_equal(gguf_open(&y, b, GGUF_CHECK_MODEL, NULL), 0);
    assert_int_equal(x.n_tensors, y.n_tensors);
    for (size_t i = 0; i < x.n_tensors; i++) {
        const struct gguf_tensor *t = &x.tensors[i], *u = &y.tensors[i];
        assert_string_equal(t->name, u->name);
        assert_int_equal(t->dtype, u->dtype);
        assert_int_equal(t->bytes, u->bytes);
        assert_int_equal(memcmp(gguf_tensor_data(&x, t), gguf_tensor_data(&y, u), t->bytes), 0);
    }
    assert_int_equal(x.kvs.n, y.kvs.n);
    for (size_t i = 0; i < x.kvs.n; i++) {
        const struct gguf_kv *k = &x.kvs.items[i], *l = gguf_kvs_find(&y.kvs, k->key);
        if (strncmp(k->key, "general.", 8) == 0)
            continue; /* names follow the folder's */
        assert_non_null(l);
        assert_int_equal(k->type, l->type);
        assert_int_equal(k->u, l->u);
        assert_int_equal(k->count, l->count);
    }
    gguf_close(&x);
    gguf_close(&y);
}

static void test_as_if_never_there(void **state)
{
    static const long drop[] = {2, 5};
    struct recipe r, plain;
    struct err e = {0};
    (void)state;
    for (int type = 0; type < 2; type++) { /* a mix chooses by the numbers of the file's blocks */
        const char *base = type ? "Q4_K_M" : "F32";
        recipe_init(&r, base);
        recipe_init(&plain, base);
        assert_true(recipe_drop_layer(&r, 5) && recipe_drop_layer(&r, 2));
        assert_false(recipe_drop_layer(&r, 5));
        char *folder = folder_without(drop, 2), *source = sample_path();
        char *ours = fixture_path("ours.gguf"), *oracle = fixture_path("oracle.gguf");
        if (make(source, ours, &r, &e) != 0 || make(folder, oracle, &plain, &e) != 0)
            fail_msg("%s", e.message);
        same_files(ours, oracle);
        /* From a GGUF too. */
        char *gguf = fixture_model("F32"), *again = fixture_path("again.gguf");
        assert_int_equal(make(gguf, again, &r, &e), 0);
        same_files(again, oracle);
        recipe_release(&r);
        recipe_release(&plain);
        char *all[] = {folder, source, ours, oracle, gguf, again};
        for (int i = 0; i < 6; i++)
            xfree(all[i]);
    }
}

/* libllama runs it, and it is another model: no longer what the whole one says, but no noise. */
static void test_loads(void **state)
{
    struct recipe r;
    struct err e = {0};
    struct score whole = {0}, less = {0};
    enum { N = 4, T = 64 };
    static int32_t tokens[N * T];
    (void)state;
    for (int i = 0; i < N * T; i++)
        tokens[i] = i % T == 0 ? 1 : 300 + i * 7 % 3000;
    struct engine_windows w = {tokens, N, T, 8, 0};
    struct measure_options o = {.threads = 1};
    recipe_init(&r, "F32");
    recipe_drop_layer(&r, 3);
    char *source = sample_path(), *path = fixture_path("less.gguf"), *f32 = fixture_model("F32");
    assert_int_equal(make(source, path, &r, &e), 0);
    assert_int_equal(measure_quality(&whole, f32, &w, NULL, &o, &e), 0);
    if (measure_quality(&less, path, &w, NULL, &o, &e) != 0)
        fail_msg("%s", e.message);
    assert_true(isfinite(less.ppl) && fabs(less.ppl / whole.ppl - 1) > 1e-4);
    assert_true(less.ppl < 100 * whole.ppl);
    score_release(&whole);
    score_release(&less);
    recipe_release(&r);
    xfree(source);
    xfree(path);
    xfree(f32);
}

/* ---- importance ---- */

static void test_importance_follows(void **state)
{
    static const float ones[2] = {1, 1};
    struct imatrix m = {.chunk_count = 3};
    struct recipe r;
    (void)state;
    for (int i = 0; i < 4; i++) {
        char name[64];
        float values[2] = {(float)i, 1};
        snprintf(name, sizeof(name), "blk.%d.attn_q.weight", i);
        imatrix_add(&m, name, 2, 1, values, ones);
    }
    imatrix_add(&m, "token_embd.weight", 2, 1, ones, ones);
    recipe_init(&r, "Q4_K");
    recipe_drop_layer(&r, 1);
    surgery_imatrix(&m, &r, 4);
    assert_int_equal(m.n, 4);
    assert_int_equal(m.chunk_count, 3);
    assert_true(imatrix_find(&m, "blk.0.attn_q.weight")->values[0] == 0);
    assert_true(imatrix_find(&m, "blk.1.attn_q.weight")->values[0] == 2);
    assert_true(imatrix_find(&m, "blk.2.attn_q.weight")->values[0] == 3);
    assert_non_null(imatrix_find(&m, "token_embd.weight"));
    surgery_imatrix(&m, &r, 4); /* of the result already: stays */
    assert_true(imatrix_find(&m, "blk.1.attn_q.weight")->values[0] == 2);
    imatrix_release(&m);
    recipe_release(&r);
}

/* ---- what is refused ---- */

static void refused(const char *base_key, uint32_t value, const uint32_t *drop, int n,
                    const char *words)
{
    struct recipe r;
    struct model *m = NULL;
    struct err e = {0};
    char *source = sample_path();
    recipe_init(&r, "Q4_K");
    for (int i = 0; i < n; i++)
        recipe_drop_layer(&r, drop[i]);
    assert_int_equal(model_open(&m, source, &e), 0);
    if (base_key)
        gguf_set_u32(model_kvs_edit(m), base_key, value);
    assert_int_equal(surgery_apply(m, &r, &e), -1);
    if (!strstr(e.message, words))
        fail_msg("%s", e.message);
    model_close(m);
    recipe_release(&r);
    xfree(source);
}

static void test_refusals(void **state)
{
    static const uint32_t all[] = {0, 1, 2, 3, 4, 5, 6, 7}, ninth[] = {8};
    (void)state;
    refused(NULL, 0, ninth, 1, "block 8 is to be dropped, and the model has 8");
    refused(NULL, 0, all, 8, "all 8 blocks");
    refused("llama.attention.sliding_window_pattern", 6, all, 1, "ties a block's kind");
}

/* Arrays with a value per block lose those of the dropped; counts of leading blocks follow. */
static void test_metadata(void **state)
{
    struct recipe r;
    struct model *m = NULL;
    struct err e = {0};
    uint32_t heads[8] = {0, 1, 2, 3, 4, 5, 6, 7}, sections[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    uint64_t n = 0;
    char *source = sample_path();
    (void)state;
    recipe_init(&r, "Q4_K");
    recipe_drop_layer(&r, 1);
    recipe_drop_layer(&r, 6);
    assert_int_equal(model_open(&m, source, &e), 0);
    gguf_set_array(model_kvs_edit(m), "llama.feed_forward_length", GGUF_U32, heads, 8);
    gguf_set_array(model_kvs_edit(m), "llama.rope.dimension_sections", GGUF_U32, sections, 8);
    gguf_set_u32(model_kvs_edit(m), "llama.leading_dense_block_count", 3);
    assert_int_equal(surgery_apply(m, &r, &e), 0);
    const struct gguf_kv *kv = gguf_kvs_find(model_kvs(m), "llama.feed_forward_length");
    static const uint32_t left[] = {0, 2, 3, 4, 5, 7};
    assert_int_equal(kv->count, 6);
    assert_memory_equal(kv->raw, left, sizeof(left));
    assert_int_equal(gguf_kvs_find(model_kvs(m), "llama.rope.dimension_sections")->count, 8);
    assert_true(gguf_get_u64(model_kvs(m), "llama.block_count", &n) && n == 6);
    assert_true(gguf_get_u64(model_kvs(m), "llama.leading_dense_block_count", &n) && n == 2);
    assert_int_equal(model_desc(m)->n_layer, 6);
    model_close(m);
    recipe_release(&r);
    xfree(source);
}

static int set_up(void **state)
{
    (void)state;
    return fixture_open();
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_if_never_there),  cmocka_unit_test(test_loads),
        cmocka_unit_test(test_importance_follows), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_metadata),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
