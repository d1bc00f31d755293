/* Types of the KV cache: names, what other programs are told, sizes by a model's metadata, and what
 * libllama makes of them: its own account, and the KL divergence that they cost.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "sample_fixture.h"

static const struct cache_types f16, q8_0 = {CACHE_Q8_0, CACHE_Q8_0},
                                     q4_0 = {CACHE_Q4_0, CACHE_Q4_0},
                                     mixed = {CACHE_Q8_0, CACHE_Q4_0};

static void test_names(void **state)
{
    enum cache_type t;
    (void)state;
    for (int i = 0; i < CACHE_TYPES; i++) {
        assert_true(cache_type_find(cache_type_name((enum cache_type)i), &t));
        assert_int_equal(t, i);
        assert_non_null(strstr(CACHE_NAMES, cache_type_name(t)));
    }
    assert_true(cache_type_find("IQ4_NL", &t) && t == CACHE_IQ4_NL);
    assert_false(cache_type_find("q6_k", &t));
    assert_false(cache_type_find("", &t));
}

static void test_how_to_run(void **state)
{
    static const struct {
        struct cache_types types;
        const char *text, *flags, *ollama;
    } cases[] = {
        {{CACHE_F16, CACHE_F16}, "f16", "", ""},
        {{CACHE_Q8_0, CACHE_Q8_0},
         "q8_0",
         "-ctk q8_0 -ctv q8_0 -fa on",
         "OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE=q8_0"},
        {{CACHE_Q8_0, CACHE_F16}, "q8_0/f16", "-ctk q8_0 -ctv f16", NULL},
        {{CACHE_Q8_0, CACHE_Q4_0}, "q8_0/q4_0", "-ctk q8_0 -ctv q4_0 -fa on", NULL},
        {{CACHE_IQ4_NL, CACHE_IQ4_NL}, "iq4_nl", "-ctk iq4_nl -ctv iq4_nl -fa on", NULL},
    };
    char text[CACHE_TEXT_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_string_equal(cache_text(cases[i].types, text), cases[i].text);
        assert_string_equal(cache_flags(cases[i].types, text), cases[i].flags);
        const char *ollama = cache_ollama(cases[i].types, text);
        if (cases[i].ollama)
            assert_string_equal(ollama, cases[i].ollama);
        else
            assert_null(ollama);
    }
}

/* ---- sizes ---- */

static struct model *open_sample(void)
{
    const char *root = getenv("SINTRA_ROOT");
    char *path = fs_join(root ? root : ".", "models/sample");
    struct model *m = NULL;
    struct err e = {0};
    if (model_open(&m, path, &e))
        fail_msg("%s", e.message);
    xfree(path);
    return m;
}

static void test_bytes(void **state)
{
    struct model *m = open_sample();
    const struct model_desc *d = model_desc(m);
    uint64_t bytes;
    (void)state;
    assert_int_equal(model_kv_bytes_per_token(d, f16), 8 * 2 * 128 * 2);
    assert_int_equal(model_kv_bytes_per_token(d, q8_0), 8 * 2 * 128 / 32 * 34);
    assert_int_equal(model_kv_bytes_per_token(d, mixed), 8 * 128 / 32 * (34 + 18));
    assert_true(model_kv_bytes(d, q4_0, 300, &bytes)); /* 512 places */
    assert_int_equal(bytes, (uint64_t)512 * 8 * 2 * 128 / 32 * 18);
    assert_false(model_kv_bytes(d, f16, UINT64_MAX - 1, &bytes));
    assert_false(model_kv_bytes(d, f16, UINT64_MAX / 4096 + 256, &bytes));
    model_close(m);
}

/* Layers without heads of their own, as hybrids have them. */
static void test_layers_without_cache(void **state)
{
    static const uint32_t heads[8] = {0, 0, 2, 0, 0, 2, 0, 1};
    struct model *m = open_sample();
    struct gguf_kvs *k = model_kvs_edit(m);
    const struct model_desc *d = model_desc(m);
    (void)state;
    gguf_set_array(k, "llama.attention.head_count_kv", GGUF_U32, heads, 8);
    model_describe_cache(m);
    assert_int_equal(model_kv_bytes_per_token(d, f16), 5 * 64 * 2 * 2);
    gguf_set_array(k, "llama.attention.head_count_kv", GGUF_U32, heads, 3); /* cut short */
    model_describe_cache(m);
    assert_int_equal(model_kv_bytes_per_token(d, f16), 2 * 64 * 2 * 2);
    gguf_set_u32(k, "llama.attention.head_count_kv", 2);
    gguf_set_u32(k, "llama.attention.shared_kv_layers", 3);
    model_describe_cache(m);
    assert_int_equal(model_kv_bytes_per_token(d, f16), 5 * 2 * 64 * 2 * 2);
    gguf_set_u32(k, "llama.attention.shared_kv_layers", 0);
    gguf_set_u32(k, "llama.full_attention_interval", 4);
    model_describe_cache(m);
    assert_int_equal(model_kv_bytes_per_token(d, f16), 2 * 2 * 64 * 2 * 2);
    model_close(m);
}

static void test_latent_attention(void **state)
{
    struct model *m = open_sample();
    struct gguf_kvs *k = model_kvs_edit(m);
    const struct model_desc *d = model_desc(m);
    struct err e = {0};
    (void)state;
    gguf_set_u32(k, "llama.attention.head_count_kv", 1);
    gguf_set_u32(k, "llama.attention.key_length", 576);
    gguf_set_u32(k, "llama.attention.key_length_mla", 192);
    model_describe_cache(m);
    /* the heads of the description, as a GGUF of MLA has them, are one per layer */
    assert_int_equal(model_kv_bytes_per_token(d, f16), d->n_head_kv * 8 * 576 * 2);
    assert_int_equal(model_check_cache(d, q8_0, &e), 0);
    assert_int_equal(model_check_cache(d, mixed, &e), -1);
    assert_non_null(strstr(e.message, "one vector"));
    model_close(m);
}

static void test_heads_that_do_not_fit(void **state)
{
    struct model *m = open_sample();
    struct gguf_kvs *k = model_kvs_edit(m);
    const struct model_desc *d = model_desc(m);
    struct err e = {0};
    struct recipe r;
    struct plan plan;
    (void)state;
    gguf_set_u32(k, "llama.attention.value_length", 80);
    model_describe_cache(m);
    assert_int_equal(model_check_cache(d, f16, &e), 0);
    assert_int_equal(model_check_cache(d, (struct cache_types){CACHE_Q4_0, CACHE_BF16}, &e), 0);
    assert_int_equal(model_check_cache(d, q8_0, &e), -1);
    assert_string_equal(e.message, "the KV cache cannot keep values as q8_0: blocks of it hold 32 "
                                   "values, and a head of this model has 80");
    recipe_init(&r, "Q4_K_M");
    r.cache = q8_0;
    assert_int_equal(recipe_resolve(&r, d, NULL, &plan, &e), -1);
    r.cache = f16;
    assert_int_equal(recipe_resolve(&r, d, NULL, &plan, &e), 0);
    plan_release(&plan);
    recipe_release(&r);
    model_close(m);
}

/* ---- what libllama makes of them ---- */

enum { N_CTX = 256, FIRST = 128, WINDOWS = 4, POSITIONS = WINDOWS * (N_CTX - 1 - FIRST) };

static struct engine *load(const char *path, enum engine_mode mode, struct cache_types cache,
                           bool full_outputs)
{
    struct engine *g = NULL;
    struct err e = {0};
    struct engine_load l = {.path = path,
                            .mode = mode,
                            .n_ctx = N_CTX,
                            .threads = 1,
                            .full_outputs = full_outputs,
                            .n_seq = full_outputs ? 0 : 1,
                            .cache = cache};
    if (engine_start(&g, NULL, &e) || engine_load(g, &l, NULL, &e))
        fail_msg("%s", e.message);
    return g;
}

/* libllama says sizes to a hundredth of a MiB. */
static void expect_bytes(uint64_t found, uint64_t expected)
{
    if (fabs((double)found - (double)expected) > 0.006 * 1048576)
        fail_msg("libllama says %llu bytes, the metadata %llu", (unsigned long long)found,
                 (unsigned long long)expected);
}

static void test_the_account_of_libllama(void **state)
{
    char *path = fixture_model("Q4_K_M");
    struct model *m = open_sample();
    struct engine *g = load(path, ENGINE_FILE, q8_0, false);
    struct engine_memory memory, longer;
    struct err e = {0};
    uint64_t bytes;
    (void)state;
    assert_true(model_kv_bytes(model_desc(m), q8_0, N_CTX, &bytes));
    expect_bytes(engine_info(g)->kv_bytes, bytes);
    for (int k = 0; k < CACHE_TYPES; k++) {
        struct cache_types t = {(enum cache_type)k, (enum cache_type)(CACHE_TYPES - 1 - k)};
        assert_true(model_kv_bytes(model_desc(m), t, 2000, &bytes));
        if (engine_cache(g, t, &e) || engine_memory(g, 2000, &memory, &e))
            fail_msg("%s", e.message);
        expect_bytes(memory.kv_bytes, bytes);
    }
    assert_int_equal(engine_memory(g, 16384, &longer, &e), 0);
    expect_bytes(longer.kv_bytes, bytes * 8);
    assert_true(longer.compute_bytes > memory.compute_bytes);
    engine_stop(g);
    model_close(m);
    xfree(path);
}

static double mean_kld(struct engine *g, const struct engine_windows *w,
                       const struct engine_reference *r)
{
    struct engine_position out[POSITIONS];
    struct err e = {0};
    double sum = 0;
    if (engine_score(g, w, r, out, NULL, &e))
        fail_msg("%s", e.message);
    for (int i = 0; i < POSITIONS; i++)
        sum += (double)out[i].kld;
    return sum / POSITIONS;
}

/* The fewer bits, the farther; the file and the float mode alike; and back to f16 is back. */
static void check_order(enum engine_mode mode)
{
    char *path = fixture_model("F32");
    struct engine *g = load(path, mode, f16, true);
    int32_t tokens[WINDOWS * N_CTX];
    struct engine_windows w = {tokens, WINDOWS, N_CTX, FIRST, 0};
    struct engine_reference r;
    struct err e = {0};
    if (engine_sample(g, 0, WINDOWS, N_CTX, 3, tokens, NULL, &e) ||
        engine_reference_make(g, &w, 0, &r, NULL, &e))
        fail_msg("%s", e.message);
    assert_int_equal(engine_cache(g, q8_0, &e), 0);
    double eight = mean_kld(g, &w, &r);
    assert_int_equal(engine_cache(g, q4_0, &e), 0);
    double four = mean_kld(g, &w, &r);
    assert_int_equal(engine_cache(g, f16, &e), 0);
    double back = mean_kld(g, &w, &r);
    engine_stop(g);
    engine_reference_release(&r);
    xfree(path);
    if (!(back < 1e-9 && eight > 1e-6 && four > 10 * eight && four < 0.1))
        fail_msg("KL of f16, q8_0, q4_0: %g, %g, %g", back, eight, four);
}

static void test_divergence_of_a_file(void **state)
{
    (void)state;
    check_order(ENGINE_FILE);
}

static void test_divergence_in_float_mode(void **state)
{
    (void)state;
    check_order(ENGINE_FLOAT);
}

static int setup(void **state)
{
    (void)state;
    return fixture_open();
}

static int teardown(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_how_to_run),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_layers_without_cache),
        cmocka_unit_test(test_latent_attention),
        cmocka_unit_test(test_heads_that_do_not_fit),
        cmocka_unit_test(test_the_account_of_libllama),
        cmocka_unit_test(test_divergence_of_a_file),
        cmocka_unit_test(test_divergence_in_float_mode),
    };
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    return cmocka_run_group_tests(tests, setup, teardown);
}
