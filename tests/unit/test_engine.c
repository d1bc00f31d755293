/* The worker and its client on the sample model: numbers that must agree, and a child that dies,
 * hangs, talks nonsense or takes too much. Everything runs on one or two threads and few windows.
 */
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/stop.h"
#include "engine/engine.h"
#include "sample_fixture.h"

enum { N_CTX = 64, FIRST = 32, WINDOWS = 6, POSITIONS = WINDOWS * (N_CTX - 1 - FIRST) };

static char *f32, *q4;
static int32_t *tokens; // (WINDOWS, N_CTX)
static struct engine_windows windows;

/* As `sintra` itself, this program is its own worker: main() below. */
static struct engine *start(const struct engine_options *o)
{
    struct engine *g = NULL;
    struct err e = {0};
    if (engine_start(&g, o, &e))
        fail_msg("%s", e.message);
    return g;
}

/* bytes: of memory, 0 = all. */
static struct engine *load_within(const char *path, enum engine_mode mode, int threads,
                                  uint64_t bytes)
{
    struct engine_options o = {.memory_bytes_max = bytes};
    struct engine *g = start(&o);
    struct err e = {0};
    struct engine_load l = {
        .path = path, .mode = mode, .n_ctx = N_CTX, .threads = threads, .full_outputs = true};
    if (engine_load(g, &l, NULL, &e))
        fail_msg("%s", e.message);
    return g;
}

static struct engine *load(const char *path, enum engine_mode mode, int threads)
{
    return load_within(path, mode, threads, 0);
}

static void expect_error(const struct err *e, enum err_code code, const char *text)
{
    if (e->code != code || !strstr(e->message, text))
        fail_msg("expected a %s error with \"%s\", got %s: %s", err_code_name(code), text,
                 err_code_name(e->code), e->message);
}

static int setup(void **state)
{
    static const char text[] =
        "It was a bright cold day in April, and the clocks were striking thirteen. The old man "
        "walked slowly down the road towards the village, thinking of his wife and of the house "
        "that they had built together when both of them were young. ";
    struct err e = {0};
    struct buf b;
    size_t n;
    (void)state;
    if (fixture_open() || !(f32 = fixture_model("F32")) || !(q4 = fixture_model("Q4_K_M")))
        return -1;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 12; i++)
        buf_addf(&b, "%d. %s", i, text);
    struct engine *g = load(f32, ENGINE_FILE, 1);
    int rc = engine_tokenize(g, buf_str(&b), b.len, true, &tokens, &n, &e);
    engine_stop(g);
    buf_release(&b);
    if (rc || n < WINDOWS * N_CTX) {
        fprintf(stderr, "cannot tokenize: %s\n", e.message);
        return -1;
    }
    for (size_t i = 0; i < WINDOWS; i++)
        tokens[i * N_CTX] = 1;
    windows = (struct engine_windows){tokens, WINDOWS, N_CTX, FIRST, 0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    xfree(f32);
    xfree(q4);
    xfree(tokens);
    fixture_close();
    return 0;
}

/* ---- what a model is ------------------------------------------------------------------------- */

static void test_version_and_devices(void **state)
{
    char version[32];
    json_t *devices;
    struct err e = {0};
    bool cpu = false;
    (void)state;
    assert_int_equal(engine_version(version, &e), 0);
    assert_true(strncmp(version, "0.", 2) == 0);
    assert_int_equal(engine_devices(&devices, &e), 0);
    for (size_t i = 0; i < json_array_size(devices); i++)
        cpu = cpu || strcmp(json_opt_str(json_array_get(devices, i), "type", ""), "cpu") == 0;
    json_decref(devices);
    assert_true(cpu);
}

static void test_load_says_what_it_is(void **state)
{
    (void)state;
    struct engine *g = load(q4, ENGINE_FILE, 1);
    const struct engine_info *i = engine_info(g);
    uint64_t size;
    assert_int_equal(i->n_vocab, 4096);
    assert_int_equal(i->n_ctx_train, 256);
    assert_int_equal(i->n_embd, 256);
    assert_int_equal(i->n_layer, 8);
    assert_int_equal(i->bos, 1);
    assert_int_equal(i->eos, 2);
    assert_true(i->add_bos);
    assert_int_equal(i->threads, 1);
    assert_int_equal(i->gpu_layers, 0);
    assert_int_equal(fs_size(q4, &size, NULL), 0);
    assert_true(i->weights_bytes < size && i->weights_bytes > size * 9 / 10);
    /* 8 layers, K and V, 2 heads of 64, f16, 256 places (the library's step) per sequence */
    assert_int_equal(i->kv_bytes, (uint64_t)8 * 2 * 128 * 2 * 256 * i->n_seq);
    assert_true(i->compute_bytes > 0 && i->load_ms > 0);
    assert_true(i->rss >= i->rss_anon && i->rss_peak >= i->rss && i->rss_anon > 1 << 20);
    assert_non_null(strstr(i->description, "Q4_K"));
    engine_stop(g);
}

static void test_sandbox(void **state)
{
    char path[64], *text;
    size_t n;
    struct err e = {0};
    (void)state;
    struct engine *g = start(NULL);
    snprintf(path, sizeof(path), "/proc/%d/status", engine_pid(g));
    assert_int_equal(fs_read_all(path, 1 << 16, &text, &n, &e), 0);
    assert_non_null(strstr(text, "NoNewPrivs:\t1"));
    assert_non_null(strstr(text, "Seccomp:\t2")); /* a filter */
    xfree(text);
    snprintf(path, sizeof(path), "/proc/%d/environ", engine_pid(g));
    assert_int_equal(fs_read_all(path, 1 << 16, &text, &n, &e), 0);
    for (size_t i = 0; i < n; i += strlen(text + i) + 1)
        assert_true(strncmp(text + i, "SINTRA_", 7) != 0);
    xfree(text);
    engine_stop(g);
}

static void test_unusable_files(void **state)
{
    char *path = fixture_path("cut.gguf"), *data;
    size_t n;
    struct err e = {0};
    (void)state;
    assert_int_equal(fs_read_all(q4, 1 << 26, &data, &n, &e), 0);
    assert_int_equal(fs_write_all(path, data, n / 2, &e), 0);
    xfree(data);
    struct engine *g = start(NULL);
    struct engine_load l = {.path = path, .threads = 1};
    struct engine_info info;
    assert_int_equal(engine_load(g, &l, &info, &e), -1);
    expect_error(&e, ERR_INPUT, "cut.gguf");
    expect_error(&e, ERR_INPUT, "libllama says");
    /* The worker lives on. */
    l.path = q4;
    assert_int_equal(engine_load(g, &l, &info, &e), 0);
    engine_stop(g);
    xfree(path);
}

/* ---- text ------------------------------------------------------------------------------------ */

static void test_tokenize(void **state)
{
    int32_t *ids;
    size_t n;
    struct err e = {0};
    (void)state;
    struct engine *g = load(q4, ENGINE_FILE, 1);
    assert_int_equal(engine_tokenize(g, "", 0, true, &ids, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 1);
    xfree(ids);
    assert_int_equal(engine_tokenize(g, "", 0, false, &ids, &n, &e), 0);
    assert_int_equal(n, 0);
    xfree(ids);
    /* Special tokens written out in a text are text. */
    assert_int_equal(engine_tokenize(g, "</s>", 4, false, &ids, &n, &e), 0);
    assert_true(n > 1);
    for (size_t i = 0; i < n; i++)
        assert_true(ids[i] > 2);
    xfree(ids);
    engine_stop(g);
}

static void test_generate(void **state)
{
    char *one, *two;
    struct err e = {0};
    (void)state;
    struct engine *g = load(q4, ENGINE_FILE, 1);
    assert_int_equal(engine_generate(g, "The king", 16, &one, &e), 0);
    assert_int_equal(engine_generate(g, "The king", 16, &two, &e), 0);
    assert_true(strlen(one) > 8);
    assert_string_equal(one, two);
    xfree(one);
    xfree(two);
    assert_int_equal(engine_generate(g, "", 16, &one, &e), 0);
    assert_true(strlen(one) > 8);
    xfree(one);
    engine_stop(g);
}

/* ---- scores ---------------------------------------------------------------------------------- */

static double mean_kld(struct engine *g, const struct engine_reference *r)
{
    static struct engine_position out[POSITIONS];
    struct err e = {0};
    double sum = 0;
    if (engine_score(g, &windows, r, out, NULL, &e))
        fail_msg("%s", e.message);
    for (size_t i = 0; i < POSITIONS; i++)
        sum += (double)out[i].kld;
    return sum / POSITIONS;
}

static void make_reference(struct engine *g, struct engine_reference *r)
{
    struct err e = {0};
    if (engine_reference_make(g, &windows, 0, r, NULL, &e))
        fail_msg("%s", e.message);
}

static void test_scores_against_the_original(void **state)
{
    static struct engine_position same[POSITIONS], other[POSITIONS];
    struct engine_reference r;
    struct err e = {0};
    double sum = 0, agree = 0;
    (void)state;
    assert_int_equal(engine_windows_positions(&windows), POSITIONS);
    struct engine *g = load(f32, ENGINE_FILE, 1);
    make_reference(g, &r);
    assert_int_equal(engine_score(g, &windows, &r, same, NULL, &e), 0);
    engine_stop(g);
    g = load(q4, ENGINE_FILE, 1);
    assert_int_equal(engine_score(g, &windows, &r, other, NULL, &e), 0);
    engine_stop(g);
    for (size_t i = 0; i < POSITIONS; i++) {
        assert_true(same[i].kld == 0 && same[i].top1 == 1);
        assert_true(same[i].nll == r.nll[i]);
        assert_true(other[i].kld > 0);
        sum += (double)other[i].kld;
        agree += other[i].top1;
        /* The reference agrees with itself. */
        const float *row = r.logits + i * r.n_vocab;
        size_t window = i / (N_CTX - 1 - FIRST), pos = FIRST + i % (N_CTX - 1 - FIRST);
        int32_t next = tokens[window * N_CTX + pos + 1];
        assert_true(fabs(r.log_total[i] - (double)row[next] - (double)r.nll[i]) < 1e-5);
        for (uint32_t k = 0; k < r.n_vocab; k++)
            assert_true(row[k] <= row[r.top[i]]);
    }
    sum /= POSITIONS;
    agree /= POSITIONS;
    assert_true(sum > 5e-4 && sum < 0.05); /* the sample at 5.2 bits */
    assert_true(agree > 0.8 && agree < 1);
    engine_reference_release(&r);
}

/* Lanes, threads and the number of windows must not change a bit. */
static void test_scores_do_not_depend_on_threads(void **state)
{
    static struct engine_position one[POSITIONS], two[POSITIONS];
    struct err e = {0};
    (void)state;
    struct engine *g = load(q4, ENGINE_FILE, 1);
    assert_int_equal(engine_score(g, &windows, NULL, one, NULL, &e), 0);
    engine_stop(g);
    g = load(q4, ENGINE_FILE, 2);
    assert_int_equal(engine_score(g, &windows, NULL, two, NULL, &e), 0);
    assert_memory_equal(one, two, sizeof(one));
    engine_stop(g);
}

/* Long windows run in pieces: what was said of the first tokens stays, whatever follows. */
static void test_long_windows(void **state)
{
    enum { LONG = 700, SHORT = 41 };
    static struct engine_position whole[LONG - 1], part[SHORT - 1];
    static int32_t ids[LONG];
    struct err e = {0};
    struct rng rng;
    (void)state;
    rng_seed(&rng, 5);
    for (int i = 0; i < LONG; i++)
        ids[i] = i == 0 ? 1 : (int32_t)rng_below(&rng, 4096);
    struct engine *g = load(f32, ENGINE_FILE, 1);
    struct engine_windows w = {ids, 1, LONG, 0, 0};
    assert_int_equal(engine_score(g, &w, NULL, whole, NULL, &e), 0);
    struct engine_windows s = {ids, 1, SHORT, 0, 0};
    assert_int_equal(engine_score(g, &s, NULL, part, NULL, &e), 0);
    for (int i = 0; i < SHORT - 1; i++)
        assert_true(fabs((double)whole[i].nll - (double)part[i].nll) < 2e-3);
    /* and a first position in the middle of a piece finds the same values */
    struct engine_windows late = {ids, 1, LONG, 555, 0};
    static struct engine_position tail[LONG - 1 - 555];
    assert_int_equal(engine_score(g, &late, NULL, tail, NULL, &e), 0);
    for (int i = 0; i < LONG - 1 - 555; i++)
        assert_true(fabs((double)whole[555 + i].nll - (double)tail[i].nll) < 2e-3);
    engine_stop(g);
}

static void test_refused_windows(void **state)
{
    struct engine_position out[POSITIONS];
    struct engine_reference r;
    struct err e = {0};
    (void)state;
    struct engine *g = load(q4, ENGINE_FILE, 1);
    int32_t kept = tokens[70];
    tokens[70] = 4096;
    assert_int_equal(engine_score(g, &windows, NULL, out, NULL, &e), -1);
    expect_error(&e, ERR_INPUT, "token 6 of window 1 is 4096");
    tokens[70] = kept;
    /* one window takes 31 positions of 4,096 floats and 16 bytes */
    assert_int_equal(engine_reference_make(g, &windows, 2 << 20, &r, NULL, &e), -1);
    expect_error(&e, ERR_LIMIT, "4 windows would fit");
    make_reference(g, &r);
    r.n_vocab = 5000;
    assert_int_equal(engine_score(g, &windows, &r, out, NULL, &e), -1);
    expect_error(&e, ERR_INPUT, "5000 tokens in its vocabulary");
    r.n_vocab = 4096;
    /* fewer windows than the reference has are fine */
    struct engine_windows prefix = windows;
    prefix.n_windows = 2;
    assert_int_equal(engine_score(g, &prefix, &r, out, NULL, &e), 0);
    assert_true(out[0].kld == 0);
    engine_reference_release(&r);
    engine_stop(g);
}

/* ---- float mode ------------------------------------------------------------------------------ */

static void test_float_mode(void **state)
{
    struct engine_reference r;
    struct err e = {0};
    enum { N = 256 * 256 };
    float *values = xcalloc(N, sizeof(*values));
    (void)state;
    struct engine *g = load(f32, ENGINE_FILE, 1);
    make_reference(g, &r);
    engine_stop(g);
    g = load(f32, ENGINE_FLOAT, 1);
    assert_true(mean_kld(g, &r) < 1e-9);
    assert_int_equal(engine_tensor_set(g, "blk.3.attn_q.weight", values, N, &e), 0);
    assert_true(mean_kld(g, &r) > 0.01);
    assert_int_equal(engine_tensor_restore(g, "blk.3.attn_q.weight", &e), 0);
    assert_true(mean_kld(g, &r) < 1e-9);
    /* The tied head changes with the embedding. */
    float *embedding = xcalloc(4096 * 256, sizeof(*embedding));
    assert_int_equal(engine_tensor_set(g, "token_embd.weight", embedding, 4096 * 256, &e), 0);
    assert_true(mean_kld(g, &r) > 1);
    assert_int_equal(engine_tensor_restore(g, "token_embd.weight", &e), 0);
    assert_true(mean_kld(g, &r) < 1e-9);
    xfree(embedding);
    /* Refused, and the engine stays usable. */
    assert_int_equal(engine_tensor_set(g, "blk.3.attn_q.weight", values, N - 1, &e), -1);
    expect_error(&e, ERR_BUG, "65536 values");
    assert_int_equal(engine_tensor_set(g, "blk.9.attn_q.weight", values, N, &e), -1);
    expect_error(&e, ERR_MISSING, "blk.9.attn_q.weight");
    assert_true(mean_kld(g, &r) < 1e-9);
    engine_stop(g);
    engine_reference_release(&r);
    xfree(values);
}

static void test_not_a_number(void **state)
{
    struct engine_position out[POSITIONS];
    struct err e = {0};
    float bad[256];
    (void)state;
    for (int i = 0; i < 256; i++)
        bad[i] = NAN;
    struct engine *g = load(f32, ENGINE_FLOAT, 2);
    assert_int_equal(engine_tensor_set(g, "blk.0.ffn_norm.weight", bad, 256, &e), 0);
    assert_int_equal(engine_score(g, &windows, NULL, out, NULL, &e), -1);
    expect_error(&e, ERR_INPUT, "not numbers (window 0, position 32)");
    assert_int_equal(engine_tensor_restore(g, "blk.0.ffn_norm.weight", &e), 0);
    assert_int_equal(engine_score(g, &windows, NULL, out, NULL, &e), 0);
    engine_stop(g);
}

/* The same model by other kernels: close, and not the same bits. */
static void test_float_mode_multiplies_by_openblas(void **state)
{
    static struct engine_position file_mode[POSITIONS], float_mode[POSITIONS], threads[POSITIONS];
    struct err e = {0};
    (void)state;
    void *library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!library)
        skip();
    dlclose(library);
    struct engine *g = load(f32, ENGINE_FILE, 1);
    assert_int_equal(engine_score(g, &windows, NULL, file_mode, NULL, &e), 0);
    engine_stop(g);
    g = load(f32, ENGINE_FLOAT, 1);
    assert_int_equal(engine_score(g, &windows, NULL, float_mode, NULL, &e), 0);
    engine_stop(g);
    g = load(f32, ENGINE_FLOAT, 64); /* more threads than windows */
    assert_int_equal(engine_score(g, &windows, NULL, threads, NULL, &e), 0);
    engine_stop(g);
    assert_memory_not_equal(file_mode, float_mode, sizeof(file_mode));
    for (int i = 0; i < POSITIONS; i++) {
        assert_float_equal(file_mode[i].nll, float_mode[i].nll, 1e-3);
        assert_float_equal(file_mode[i].nll, threads[i].nll, 1e-3);
    }
}

static void test_float_mode_of_a_quantized_file(void **state)
{
    struct engine_reference r;
    (void)state;
    struct engine *g = load(q4, ENGINE_FILE, 1);
    make_reference(g, &r);
    engine_stop(g);
    g = load(q4, ENGINE_FLOAT, 1);
    assert_true(engine_info(g)->weights_bytes > 28u << 20); /* everything F32 */
    /* Same weights; only the rounding of activations is gone. */
    double kld = mean_kld(g, &r);
    assert_true(kld > 0 && kld < 1e-3);
    engine_stop(g);
    engine_reference_release(&r);
}

/* Without memory for F32, what is quantized has half precision, which holds it. */
static void test_float_mode_in_little_memory(void **state)
{
    struct engine_reference r;
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* the sanitizer's own shadow exceeds any limit */
#endif
    struct engine *g = load(q4, ENGINE_FILE, 1);
    make_reference(g, &r);
    engine_stop(g);
    g = load_within(q4, ENGINE_FLOAT, 1, (uint64_t)40 << 20);
    assert_true(engine_info(g)->weights_bytes < 20u << 20);
    double kld = mean_kld(g, &r);
    assert_true(kld > 0 && kld < 1e-3);
    float *zeros = xcalloc(256 * 256, sizeof(*zeros));
    struct err e = {0};
    assert_int_equal(engine_tensor_set(g, "blk.3.attn_q.weight", zeros, 256 * 256, &e), 0);
    assert_true(mean_kld(g, &r) > 0.01);
    assert_int_equal(engine_tensor_restore(g, "blk.3.attn_q.weight", &e), 0);
    assert_true(fabs(mean_kld(g, &r) - kld) < 1e-12);
    xfree(zeros);
    engine_stop(g);
    engine_reference_release(&r);
}

/* ---- split files
 * -------------------------------------------------------------------------------- */

/* Tensors [from, to) of a file as one part of a split. */
static void write_part(const struct gguf *file, size_t from, size_t to, uint16_t no, uint16_t count,
                       const char *path)
{
    struct gguf_kvs kvs = {0};
    struct gguf_writer w;
    struct err e = {0};
    size_t n = to - from;
    struct gguf_writer_tensor *t = xcalloc(n, sizeof(*t));
    for (size_t i = 0; no == 0 && i < file->kvs.n; i++)
        gguf_set_copy(&kvs, &file->kvs.items[i]);
    gguf_set_u16(&kvs, "split.no", no);
    gguf_set_u16(&kvs, "split.count", count);
    gguf_set_i32(&kvs, "split.tensors.count", (int32_t)file->n_tensors);
    for (size_t i = 0; i < n; i++)
        t[i] = (struct gguf_writer_tensor){.name = file->tensors[from + i].name,
                                           .dtype = file->tensors[from + i].dtype,
                                           .shape = file->tensors[from + i].shape};
    if (gguf_writer_open(&w, path, &kvs, t, n, &e))
        fail_msg("%s", e.message);
    for (size_t i = 0; i < n; i++)
        if (fs_atomic_write_at(&w.file, t[i].offset,
                               gguf_tensor_data(file, &file->tensors[from + i]), (size_t)t[i].bytes,
                               &e))
            fail_msg("%s", e.message);
    if (gguf_writer_commit(&w, &e))
        fail_msg("%s", e.message);
    gguf_kvs_release(&kvs);
    xfree(t);
}

static void test_split_files(void **state)
{
    static struct engine_position whole[POSITIONS], split[POSITIONS];
    static const enum engine_mode modes[] = {ENGINE_FILE, ENGINE_FLOAT};
    char *first = fixture_path("part-00001-of-00002.gguf");
    char *second = fixture_path("part-00002-of-00002.gguf");
    struct gguf file;
    struct err e = {0};
    (void)state;
    if (gguf_open(&file, f32, GGUF_CHECK_MODEL, &e))
        fail_msg("%s", e.message);
    write_part(&file, 0, file.n_tensors / 3, 0, 2, first);
    write_part(&file, file.n_tensors / 3, file.n_tensors, 1, 2, second);
    gguf_close(&file);
    for (int i = 0; i < 2; i++) {
        struct engine *g = load(f32, modes[i], 1);
        assert_int_equal(engine_score(g, &windows, NULL, whole, NULL, &e), 0);
        engine_stop(g);
        g = load(first, modes[i], 1);
        assert_int_equal(engine_score(g, &windows, NULL, split, NULL, &e), 0);
        engine_stop(g);
        assert_memory_equal(whole, split, sizeof(whole));
    }
    xfree(first);
    xfree(second);
}

/* ---- activations ----------------------------------------------------------------------------- */

static const struct engine_activation *find(const struct engine_activation *a, size_t n,
                                            const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(a[i].name, name) == 0)
            return &a[i];
    fail_msg("no activations of %s", name);
    return NULL;
}

/* What meets these matrices is normalized: its squares, without the norm's own weights, average to
 * 1. */
static void check_norm(const struct engine_activation *a, const char *norm)
{
    struct gguf file;
    struct err e = {0};
    double sum = 0;
    if (gguf_open(&file, f32, GGUF_CHECK_MODEL, &e))
        fail_msg("%s", e.message);
    const struct gguf_tensor *t = gguf_find(&file, norm);
    assert_non_null(t);
    for (uint64_t k = 0; k < 256; k++) {
        float w;
        memcpy(&w, gguf_tensor_data(&file, t) + k * sizeof(w), sizeof(w));
        sum += (double)a->in_sum2[k] / ((double)w * (double)w);
    }
    gguf_close(&file);
    double mean = sum / 256 / (double)a->counts[0];
    if (fabs(mean - 1) > 1e-3)
        fail_msg("%s: the mean square is %g", a->name, mean);
}

static void test_collect(void **state)
{
    struct engine_activation *one, *two;
    size_t n, m;
    struct err e = {0};
    (void)state;
    struct engine *g = load(f32, ENGINE_FILE, 1);
    assert_int_equal(engine_collect(g, &windows, &one, &n, NULL, &e), 0);
    engine_stop(g);
    assert_int_equal(n, 8 * 7 + 1); /* q k v o gate up down, and the tied head */
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(one[i].n_mat, 1);
        assert_int_equal(one[i].n_in, strstr(one[i].name, "ffn_down") ? 768 : 256);
        assert_true(one[i].counts[0] == WINDOWS * N_CTX);
        for (uint64_t k = 0; k < one[i].n_in; k++)
            assert_true(one[i].in_sum2[k] >= 0 && isfinite(one[i].in_sum2[k]) != 0);
        assert_true(i == 0 || strcmp(one[i - 1].name, one[i].name) < 0);
    }
    const struct engine_activation *q = find(one, n, "blk.5.attn_q.weight");
    const struct engine_activation *k = find(one, n, "blk.5.attn_k.weight");
    assert_memory_equal(q->in_sum2, k->in_sum2, 256 * sizeof(float)); /* they share their input */
    check_norm(find(one, n, "blk.5.attn_q.weight"), "blk.5.attn_norm.weight");
    check_norm(find(one, n, "blk.7.ffn_up.weight"), "blk.7.ffn_norm.weight");
    check_norm(find(one, n, "token_embd.weight"), "output_norm.weight");
    /* Threads and lanes change nothing, not a bit. */
    g = load(f32, ENGINE_FILE, 2);
    assert_int_equal(engine_collect(g, &windows, &two, &m, NULL, &e), 0);
    engine_stop(g);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(one[i].name, two[i].name);
        assert_memory_equal(one[i].in_sum2, two[i].in_sum2, one[i].n_in * sizeof(float));
    }
    engine_activations_free(one, n);
    engine_activations_free(two, m);
}

/* ---- sampling -------------------------------------------------------------------------------- */

static void test_sample(void **state)
{
    enum { N = 20, T = 24 };
    static int32_t all[N * T], part[5 * T], other[N * T];
    struct err e = {0};
    (void)state;
    struct engine *g = load(f32, ENGINE_FILE, 1);
    assert_int_equal(engine_sample(g, 0, N, T, 7, all, NULL, &e), 0);
    assert_int_equal(engine_sample(g, 14, 5, T, 7, part, NULL, &e), 0);
    assert_memory_equal(part, all + 14 * T, sizeof(part));
    assert_int_equal(engine_sample(g, 0, N, T, 8, other, NULL, &e), 0);
    engine_stop(g);
    size_t same = 0;
    for (size_t i = 0; i < N * T; i++) {
        assert_true(all[i] >= 0 && all[i] < 4096);
        assert_true(i % T != 0 || all[i] == 1);
        same += all[i] == other[i];
    }
    assert_true(same < N * T / 4);
    for (size_t i = 1; i < N; i++)
        assert_true(memcmp(all, all + i * T, T * sizeof(int32_t)) != 0);
    g = load(f32, ENGINE_FILE, 2);
    assert_int_equal(engine_sample(g, 0, N, T, 7, other, NULL, &e), 0);
    assert_memory_equal(all, other, sizeof(all));
    engine_stop(g);
}

/* If tokens are drawn from the model's probabilities, their mean surprise is the mean entropy. */
static void test_samples_follow_the_model(void **state)
{
    enum { N = 32, T = 33 };
    static int32_t ids[N * T];
    struct engine_reference r;
    struct err e = {0};
    double mean = 0, square = 0;
    (void)state;
    struct engine *g = load(f32, ENGINE_FILE, 1);
    assert_int_equal(engine_sample(g, 0, N, T, 3, ids, NULL, &e), 0);
    struct engine_windows w = {ids, N, T, 0, 0};
    assert_int_equal(engine_reference_make(g, &w, 0, &r, NULL, &e), 0);
    engine_stop(g);
    for (size_t i = 0; i < r.positions; i++) {
        double entropy = 0;
        for (uint32_t k = 0; k < r.n_vocab; k++) {
            double log_p = (double)r.logits[i * r.n_vocab + k] - r.log_total[i];
            entropy -= exp(log_p) * log_p;
        }
        double d = (double)r.nll[i] - entropy;
        mean += d;
        square += d * d;
    }
    double n = (double)r.positions;
    mean /= n;
    double error = sqrt(square / n / n); /* differences are a martingale: uncorrelated */
    assert_true(fabs(mean) < 4 * error);
    assert_true(error < 0.1);
    engine_reference_release(&r);
}

/* ---- speed ----------------------------------------------------------------------------------- */

static void test_bench(void **state)
{
    struct engine_speed s;
    struct err e = {0};
    (void)state;
    struct engine *g = start(NULL);
    struct engine_load l = {.path = q4, .n_ctx = 256, .threads = 1, .gpu_layers = -1};
    assert_int_equal(engine_load(g, &l, NULL, &e), 0);
    assert_int_equal(engine_bench(g, 32, 8, 3, 0, &s, &e), 0);
    assert_int_equal(s.repeats, 3);
    assert_int_equal(s.threads, 1);
    assert_true(s.prefill_tps_low <= s.prefill_tps && s.prefill_tps <= s.prefill_tps_high);
    assert_true(s.decode_tps_low <= s.decode_tps && s.decode_tps <= s.decode_tps_high);
    assert_true(s.decode_tps_low > 1 && s.decode_tps_high < 1e6 && s.first_token_ms > 0);
    assert_int_equal(engine_bench(g, 32, 8, 500, 0.05, &s, &e), 0);
    assert_true(s.repeats < 500 && s.repeats >= 1);
    assert_int_equal(engine_bench(g, 250, 8, 1, 0, &s, &e), -1);
    expect_error(&e, ERR_USAGE, "do not fit into the context of 256");
    engine_stop(g);
}

static void test_kernels(void **state)
{
    static const enum dtype types[] = {DT_Q8_0, DT_Q4_K, DT_IQ3_S, DT_F16, DT_I8};
    struct engine_kernels_job job = {
        .types = types, .n_types = 5, .cols = 256, .rows = 128, .set_bytes = 1 << 20, .threads = 1};
    struct hw_kernels k, again;
    struct err e = {0};
    (void)state;
    struct engine *g = start(NULL);
    assert_int_equal(engine_kernels(g, &job, &k, NULL, &e), 0);
    assert_int_equal(k.n, 4); /* nobody multiplies I8 */
    for (int i = 0; i < k.n; i++) {
        assert_true(k.items[i].decode_gbs > 0.001 && k.items[i].decode_gbs < 10000);
        assert_true(k.items[i].prefill_gflops > 0.001 && k.items[i].prefill_gflops < 1e6);
    }
    assert_non_null(hw_kernels_find(&k, "Q4_K"));
    assert_null(hw_kernels_find(&k, "I8"));
    json_t *doc = hw_kernels_json_new(&k);
    assert_true(hw_kernels_from_json(&again, doc));
    assert_int_equal(again.n, k.n);
    assert_int_equal(again.set_bytes, 1 << 20);
    assert_true(again.items[1].decode_gbs == k.items[1].decode_gbs);
    json_object_clear(json_object_get(doc, "types"));
    assert_false(hw_kernels_from_json(&again, doc));
    json_decref(doc);
    job.cols = 96; /* blocks of 32 divide it, of 256 do not */
    assert_int_equal(engine_kernels(g, &job, &k, NULL, &e), 0);
    assert_null(hw_kernels_find(&k, "Q4_K"));
    assert_non_null(hw_kernels_find(&k, "Q8_0"));
    job.cols = 0;
    assert_int_equal(engine_kernels(g, &job, &k, NULL, &e), -1);
    engine_stop(g);
}

/* ---- a child that fails ---------------------------------------------------------------------- */

struct attack {
    int pid, signal;
    int after_ms;
};

static void *attack(void *arg)
{
    const struct attack *a = arg;
    usleep((unsigned)a->after_ms * 1000);
    if (a->pid > 0)
        kill(a->pid, a->signal);
    else
        stop_request();
    return NULL;
}

/* A call that takes long, while another thread does something to the worker. */
static void long_call(struct engine *g, int signal, struct err *e)
{
    static int32_t ids[512 * 128];
    struct attack a = {signal ? engine_pid(g) : 0, signal, 150};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, attack, &a), 0);
    assert_int_equal(engine_sample(g, 0, 512, 128, 1, ids, NULL, e), -1);
    pthread_join(thread, NULL);
    /* There is no worker any more, and every call says so at once. */
    struct err again = {0};
    char *text;
    assert_int_equal(engine_generate(g, "", 1, &text, &again), -1);
    expect_error(&again, ERR_CHILD, "ended");
    assert_int_equal(engine_pid(g), 0);
}

static void test_killed(void **state)
{
    struct err e = {0};
    (void)state;
    struct engine *g = load(f32, ENGINE_FILE, 1);
    long_call(g, SIGKILL, &e);
    expect_error(&e, ERR_CHILD, "while sampling text");
    expect_error(&e, ERR_CHILD, "killed by signal 9");
    expect_error(&e, ERR_CHILD, "F32.gguf");
    engine_stop(g);
}

static void test_crashed(void **state)
{
    struct err e = {0};
    (void)state;
    struct engine *g = load(f32, ENGINE_FILE, 1);
    long_call(g, SIGABRT, &e);
    expect_error(&e, ERR_CHILD, "signal 6");
    engine_stop(g);
}

static void test_hangs(void **state)
{
    struct engine_options o = {.silence_seconds_max = 1};
    struct engine_load l = {.path = f32, .n_ctx = N_CTX, .threads = 1};
    struct err e = {0};
    (void)state;
    struct engine *g = start(&o);
    assert_int_equal(engine_load(g, &l, NULL, &e), 0);
    double begin = clock_seconds();
    long_call(g, SIGSTOP, &e);
    expect_error(&e, ERR_TIMEOUT, "no sign of life");
    assert_true(clock_seconds() - begin < 30);
    engine_stop(g);
}

static void test_exceeds_its_deadline(void **state)
{
    static int32_t ids[512 * 128];
    struct engine_options o = {.call_seconds_max = 0.4};
    struct engine_load l = {.path = f32, .n_ctx = N_CTX, .threads = 1};
    struct err e = {0};
    (void)state;
    struct engine *g = start(NULL);
    engine_stop(g);
    g = start(&o);
    if (engine_load(g, &l, NULL, &e) == 0)
        assert_int_equal(engine_sample(g, 0, 512, 128, 1, ids, NULL, &e), -1);
    expect_error(&e, ERR_TIMEOUT, "exceeded its deadline");
    engine_stop(g);
}

static void test_exceeds_its_memory(void **state)
{
    struct engine_options o = {.memory_bytes_max = 3 << 20};
    struct engine_load l = {.path = f32, .n_ctx = N_CTX, .threads = 1, .full_outputs = true};
    struct err e = {0};
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* the sanitizer's own shadow exceeds any limit */
#endif
    struct engine *g = start(&o);
    assert_int_equal(engine_load(g, &l, NULL, &e), -1);
    expect_error(&e, ERR_MEMORY, "more than the limit of 3.00 MiB");
    engine_stop(g);
}

/* The kernel refuses before anything is touched; the worker reports it and lives on. */
static void test_refused_memory(void **state)
{
    struct engine_options o = {.memory_bytes_max = 256 << 20};
    struct engine_load l = {.path = f32, .n_ctx = 1 << 20, .threads = 1, .gpu_layers = -1};
    struct err e = {0};
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip();
#endif
    struct engine *g = start(&o);
    assert_int_equal(engine_load(g, &l, NULL, &e), -1); /* 4 GiB of KV cache */
    expect_error(&e, ERR_MEMORY, "1048576 tokens");
    l.n_ctx = 256;
    assert_int_equal(engine_load(g, &l, NULL, &e), 0);
    engine_stop(g);
}

static void test_interrupted(void **state)
{
    struct err e = {0};
    (void)state;
    struct engine *g = load(f32, ENGINE_FILE, 1);
    double begin = clock_seconds();
    long_call(g, 0, &e);
    stop_reset();
    assert_int_equal(e.code, ERR_INTERRUPTED);
    assert_true(clock_seconds() - begin < 10);
    engine_stop(g);
}

static void expect_no_start(const char *script, enum err_code code, const char *text)
{
    char *path = fixture_path("worker.sh");
    struct engine_options o = {.worker_path = path};
    struct engine *g = NULL;
    struct err e = {0};
    if (script) {
        assert_int_equal(fs_write_all(path, script, strlen(script), &e), 0);
        assert_int_equal(chmod(path, 0700), 0);
    }
    assert_int_equal(engine_start(&g, &o, &e), -1);
    assert_null(g);
    expect_error(&e, code, text);
    fs_remove(path, NULL);
    xfree(path);
}

static void test_misbehaving_workers(void **state)
{
    (void)state;
    expect_no_start(NULL, ERR_MISSING, "worker.sh");
    expect_no_start("#!/bin/sh\necho garbage >&3\nsleep 20\n", ERR_CHILD, "answered nonsense");
    expect_no_start("#!/bin/sh\necho '{\"what\":1}' >&3\nsleep 20\n", ERR_CHILD, "neither answer");
    expect_no_start("#!/bin/sh\necho 'GGML_ASSERT(x) failed' >&2\nexit 3\n", ERR_CHILD,
                    "its last words: \"GGML_ASSERT(x) failed\"");
    expect_no_start("#!/bin/sh\nexit 3\n", ERR_CHILD, "exited with status 3");
    expect_no_start("#!/bin/sh\necho '{\"ok\":true,\"version\":\"9.9\"}' >&3\nsleep 20\n",
                    ERR_UNSUPPORTED, "version 9.9");
    expect_no_start("#!/bin/sh\necho '{\"error\":{\"code\":\"input\",\"message\":\"no\"}}' >&3\n"
                    "sleep 20\n",
                    ERR_INPUT, "no");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_and_devices),
        cmocka_unit_test(test_load_says_what_it_is),
        cmocka_unit_test(test_sandbox),
        cmocka_unit_test(test_unusable_files),
        cmocka_unit_test(test_split_files),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_scores_against_the_original),
        cmocka_unit_test(test_scores_do_not_depend_on_threads),
        cmocka_unit_test(test_long_windows),
        cmocka_unit_test(test_refused_windows),
        cmocka_unit_test(test_float_mode),
        cmocka_unit_test(test_not_a_number),
        cmocka_unit_test(test_float_mode_multiplies_by_openblas),
        cmocka_unit_test(test_float_mode_of_a_quantized_file),
        cmocka_unit_test(test_float_mode_in_little_memory),
        cmocka_unit_test(test_collect),
        cmocka_unit_test(test_sample),
        cmocka_unit_test(test_samples_follow_the_model),
        cmocka_unit_test(test_bench),
        cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_crashed),
        cmocka_unit_test(test_hangs),
        cmocka_unit_test(test_exceeds_its_deadline),
        cmocka_unit_test(test_exceeds_its_memory),
        cmocka_unit_test(test_refused_memory),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_misbehaving_workers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
