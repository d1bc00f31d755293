/* Corpora, scores and their JSON, and whole measurements of small files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/stat.h"
#include "format/factors.h"
#include "measure/measure.h"
#include "sample_fixture.h"

enum { N_CTX = 64 };

static char *f32, *q4, *q2, *text_path;
static const char model_sha[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

static int setup(void **state)
{
    struct buf b;
    struct err e = {0};
    (void)state;
    if (fixture_open() || !(f32 = fixture_model("F32")) || !(q4 = fixture_model("Q4_K_M")) ||
        !(q2 = fixture_model("Q2_K")))
        return -1;
    text_path = fixture_path("text.txt");
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 40; i++)
        buf_addf(&b,
                 "%d. The captain of the ship looked over the sea; \xC3\xA9t\xC3\xA9 was far away, "
                 "he said, and nobody in the cabin answered him.\n",
                 i);
    int rc = fs_write_all(text_path, buf_str(&b), b.len, &e);
    buf_release(&b);
    return rc;
}

static int teardown(void **state)
{
    (void)state;
    xfree(f32);
    xfree(q4);
    xfree(q2);
    xfree(text_path);
    fixture_close();
    return 0;
}

static const struct measure_options options = {.threads = 1, .gpu_layers = -1};

static struct engine *open_model(const char *path, enum engine_mode mode)
{
    struct engine *g;
    struct err e = {0};
    if (measure_open(&g, NULL, path, mode, N_CTX, 0, true, &options, &e))
        fail_msg("%s", e.message);
    return g;
}

static void expect_error(const struct err *e, enum err_code code, const char *text)
{
    if (e->code != code || !strstr(e->message, text))
        fail_msg("expected a %s error with \"%s\", got %s: %s", err_code_name(code), text,
                 err_code_name(e->code), e->message);
}

/* ---- text from a file
 * --------------------------------------------------------------------------- */

static void test_corpus_from_file(void **state)
{
    struct corpus c, few;
    struct err e = {0};
    (void)state;
    struct engine *g = open_model(q4, ENGINE_FILE);
    assert_int_equal(corpus_from_file(&c, g, text_path, N_CTX, 0, &e), 0);
    assert_true(c.n_windows > 10);
    assert_int_equal(c.n_ctx, N_CTX);
    assert_int_equal(c.first, N_CTX / 2);
    assert_string_equal(c.source, text_path);
    for (size_t i = 0; i < c.n_windows; i++)
        assert_int_equal(c.tokens[i * N_CTX], 1); /* BOS begins every window */
    /* Besides, the text is one run of tokens. */
    int32_t *ids;
    size_t n, n_text;
    char *text;
    assert_int_equal(fs_read_all(text_path, 1 << 20, &text, &n_text, &e), 0);
    assert_int_equal(engine_tokenize(g, text, n_text, true, &ids, &n, &e), 0);
    assert_int_equal(c.n_windows, n / N_CTX);
    for (size_t i = 0; i < c.n_windows * N_CTX; i++)
        assert_true(i % N_CTX == 0 || c.tokens[i] == ids[i]);
    xfree(ids);
    xfree(text);
    assert_int_equal(corpus_from_file(&few, g, text_path, N_CTX, 3, &e), 0);
    assert_int_equal(few.n_windows, 3);
    assert_memory_equal(few.tokens, c.tokens, 3 * N_CTX * sizeof(int32_t));
    assert_string_not_equal(few.sha256, c.sha256);
    struct engine_windows w = corpus_slice(&c, 2, 4);
    assert_ptr_equal(w.tokens, c.tokens + 2 * N_CTX);
    assert_int_equal(w.n_windows, 4);
    assert_int_equal(corpus_slice(&c, c.n_windows - 1, 4).n_windows, 1);
    corpus_release(&few);
    corpus_release(&c);
    engine_stop(g);
}

static void expect_bad_text(struct engine *g, const char *bytes, size_t n, enum err_code code,
                            const char *what)
{
    char *path = fixture_path("bad.txt");
    struct corpus c;
    struct err e = {0};
    assert_int_equal(fs_write_all(path, bytes, n, &e), 0);
    assert_int_equal(corpus_from_file(&c, g, path, N_CTX, 0, &e), -1);
    expect_error(&e, code, what);
    expect_error(&e, code, "bad.txt");
    corpus_release(&c);
    xfree(path);
}

static void test_bad_text(void **state)
{
    struct corpus c;
    struct err e = {0};
    (void)state;
    struct engine *g = open_model(q4, ENGINE_FILE);
    expect_bad_text(g, "", 0, ERR_INPUT, "is empty");
    expect_bad_text(g, "too short", 9, ERR_INPUT, "one window needs 64");
    expect_bad_text(g, "abc\xFFz", 5, ERR_INPUT, "byte 0xFF at offset 3");
    expect_bad_text(g, "abcd\xC3", 5, ERR_INPUT, "offset 4");                 /* cut character */
    expect_bad_text(g, "a\xC0\xAFz", 4, ERR_INPUT, "offset 1");               /* overlong */
    expect_bad_text(g, "ab\xED\xA0\x80z", 6, ERR_INPUT, "offset 2");          /* surrogate */
    expect_bad_text(g, "\xF4\x90\x80\x80", 4, ERR_INPUT, "offset 0");         /* above U+10FFFF */
    expect_bad_text(g, "\xF0\x9F\x98\x80", 4, ERR_INPUT, "one window needs"); /* a good one */
    assert_int_equal(corpus_from_file(&c, g, "/nowhere/x.txt", N_CTX, 0, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_int_equal(corpus_from_file(&c, g, text_path, 2, 0, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    engine_stop(g);
}

/* ---- text from the model
 * ------------------------------------------------------------------------ */

static void count_updates(void *ud, const char *phase, double done, double total,
                          const char *detail)
{
    (void)phase;
    (void)done;
    (void)total;
    (void)detail;
    ++*(int *)ud;
}

static void sample(struct corpus *c, struct engine *g, const char *dir, uint64_t seed, size_t n,
                   bool expect_work)
{
    int updates = 0;
    struct progress p = {count_updates, &updates};
    struct err e = {0};
    if (corpus_from_self(c, g, dir, model_sha, seed, N_CTX, n, &p, &e))
        fail_msg("%s", e.message);
    assert_int_equal(updates > 0, expect_work);
    assert_int_equal(c->n_windows, n);
    assert_string_equal(c->source, "self");
}

static void test_corpus_from_self(void **state)
{
    char *dir = fixture_path("cache/text"), **names, *cached;
    struct corpus one, two, more, other;
    struct err e = {0};
    size_t n;
    (void)state;
    struct engine *g = open_model(q4, ENGINE_FILE);
    sample(&one, g, dir, 5, 3, true);
    sample(&two, g, dir, 5, 3, false); /* never twice */
    assert_memory_equal(one.tokens, two.tokens, 3 * N_CTX * sizeof(int32_t));
    assert_string_equal(one.sha256, two.sha256);
    corpus_release(&two);
    sample(&more, g, dir, 5, 18, true); /* only what is missing, the rest stays */
    assert_memory_equal(one.tokens, more.tokens, 3 * N_CTX * sizeof(int32_t));
    sample(&two, g, dir, 5, 2, false);
    assert_memory_equal(one.tokens, two.tokens, 2 * N_CTX * sizeof(int32_t));
    corpus_release(&two);
    sample(&other, g, dir, 6, 3, true);
    assert_string_not_equal(one.sha256, other.sha256);
    corpus_release(&other);

    /* A damaged file is noticed and made again, with the same content. */
    assert_int_equal(fs_list(dir, &names, &n, &e), 0);
    assert_int_equal(n, 2);
    cached = fs_join(dir, strstr(names[0], "-5-") ? names[0] : names[1]);
    fs_list_free(names, n);
    char *bytes;
    assert_int_equal(fs_read_all(cached, 1 << 20, &bytes, &n, &e), 0);
    bytes[n - 5] ^= 1;
    assert_int_equal(fs_write_all(cached, bytes, n, &e), 0);
    sample(&two, g, dir, 5, 18, true);
    assert_memory_equal(more.tokens, two.tokens, 18 * N_CTX * sizeof(int32_t));
    corpus_release(&two);
    assert_int_equal(fs_write_all(cached, bytes, n / 2, &e), 0);
    sample(&two, g, dir, 5, 3, true);
    assert_memory_equal(one.tokens, two.tokens, 3 * N_CTX * sizeof(int32_t));
    corpus_release(&two);
    xfree(bytes);
    xfree(cached);
    /* Where nothing can be kept, the text is still there. */
    sample(&two, g, text_path, 5, 3, true);
    assert_memory_equal(one.tokens, two.tokens, 3 * N_CTX * sizeof(int32_t));
    corpus_release(&two);
    corpus_release(&one);
    corpus_release(&more);
    engine_stop(g);
    xfree(dir);
}

/* ---- scores
 * ------------------------------------------------------------------------------------- */

static void make_reference(struct measure_reference *r, struct corpus *c, enum engine_mode mode)
{
    struct err e = {0};
    struct engine *g = open_model(f32, mode);
    if (corpus_from_file(c, g, text_path, N_CTX, 8, &e))
        fail_msg("%s", e.message);
    struct engine_windows w = corpus_slice(c, 0, 8);
    if (measure_reference_make(r, g, &w, 0, NULL, &e))
        fail_msg("%s", e.message);
    engine_stop(g);
}

static void test_quality(void **state)
{
    struct corpus c;
    struct measure_reference r;
    struct score original, four, two, part;
    struct err e = {0};
    (void)state;
    make_reference(&r, &c, ENGINE_FILE); /* in the arithmetic of what is measured */
    assert_int_equal(measure_quality(&original, f32, &r.windows, &r, &options, &e), 0);
    assert_int_equal(measure_quality(&four, q4, &r.windows, &r, &options, &e), 0);
    assert_int_equal(measure_quality(&two, q2, &r.windows, &r, &options, &e), 0);

    assert_true(original.has_kld && original.kld_mean < 1e-9 && original.top1 == 1);
    assert_true(fabs(original.ppl / original.ppl_base - 1) < 1e-9);
    assert_true(fabs(original.ppl / r.ppl - 1) < 1e-9);
    assert_int_equal(four.positions, 8 * 31);
    assert_int_equal(four.windows, 8);
    assert_true(four.kld_low < four.kld_mean && four.kld_mean < four.kld_high);
    assert_true(four.top1_low <= four.top1 && four.top1 <= four.top1_high && four.top1_high <= 1);
    assert_true(four.ppl_low < four.ppl && four.ppl < four.ppl_high);
    assert_true(four.kld_median <= four.kld_p90 && four.kld_p90 <= four.kld_p95 &&
                four.kld_p95 <= four.kld_p99 && four.kld_p99 <= four.kld_p999 &&
                four.kld_p999 <= four.kld_max);
    assert_true(two.kld_mean > 3 * four.kld_mean && two.top1 < four.top1);
    struct stat_mean d = stat_mean_paired(four.kld, two.kld, four.positions, 31);
    assert_true(d.high < 0); /* the same windows tell them apart */
    double sum = 0;
    for (size_t i = 0; i < four.positions; i++)
        sum += four.kld[i];
    assert_true(fabs(sum / (double)four.positions - four.kld_mean) < 1e-12);
    assert_string_equal(four.corpus_sha256, two.corpus_sha256);

    /* A prefix of the windows; no reference; another text is refused. */
    struct engine_windows w = corpus_slice(&c, 0, 3);
    assert_int_equal(measure_quality(&part, q4, &w, &r, &options, &e), 0);
    assert_memory_equal(part.kld, four.kld, part.positions * sizeof(double));
    assert_string_not_equal(part.corpus_sha256, four.corpus_sha256);
    score_release(&part);
    assert_int_equal(measure_quality(&part, q4, &w, NULL, &options, &e), 0);
    assert_true(!part.has_kld && part.ppl > 1 && part.ppl_base == 0 && !part.kld);
    score_release(&part);
    w = corpus_slice(&c, 1, 3);
    assert_int_equal(measure_quality(&part, q4, &w, &r, &options, &e), -1);
    expect_error(&e, ERR_BUG, "other windows");
    score_release(&original);
    score_release(&four);
    score_release(&two);
    measure_reference_release(&r);
    corpus_release(&c);
}

static void test_pieces_are_the_whole(void **state)
{
    struct corpus c;
    struct measure_reference r;
    struct score whole, pieces;
    struct err e = {0};
    (void)state;
    make_reference(&r, &c, ENGINE_FLOAT);
    assert_int_equal(measure_quality(&whole, q4, &r.windows, &r, &options, &e), 0);
    struct engine *g = open_model(f32, ENGINE_FLOAT);
    assert_int_equal(measure_quality_pieces(&pieces, q4, g, &r.windows, 8, 0, &options, &e), 0);
    assert_memory_equal(whole.kld, pieces.kld, whole.positions * sizeof(double));
    score_release(&pieces);
    assert_int_equal(measure_quality_pieces(&pieces, q4, g, &r.windows, 3, 0, &options, &e), 0);
    assert_true(fabs(whole.kld_mean - pieces.kld_mean) < 1e-4 * whole.kld_mean);
    assert_true(fabs(whole.ppl_base / pieces.ppl_base - 1) < 1e-6);
    engine_stop(g);
    score_release(&pieces);
    score_release(&whole);
    measure_reference_release(&r);
    corpus_release(&c);
}

static char *read_text(size_t *n)
{
    char *text = NULL;
    assert_int_equal(fs_read_all(text_path, 1 << 20, &text, n, NULL), 0);
    return text;
}

/* Pieces follow each other without a gap, cut no character, and fit the length that was asked. */
static void test_byte_pieces(void **state)
{
    struct byte_piece p[200];
    size_t n_text;
    (void)state;
    char *text = read_text(&n_text);
    size_t n = byte_pieces_cut(p, 200, text, n_text, N_CTX);
    assert_int_equal(n, (n_text - N_CTX / 2 - 1) / (3 * N_CTX / 2));
    for (size_t i = 0; i < n; i++) {
        assert_true(p[i].begin < p[i].middle && p[i].middle < p[i].end && p[i].end <= n_text);
        assert_true(p[i].end - p[i].begin <= 2 * N_CTX);
        assert_true(i == 0 || p[i].middle == p[i - 1].end);
        assert_true(((unsigned char)text[p[i].begin] & 0xC0) != 0x80);
        assert_true(((unsigned char)text[p[i].middle] & 0xC0) != 0x80);
        assert_true(text[p[i].middle] == ' ' || text[p[i].middle - 1] == '\n');
    }
    /* Fewer are spread over the whole text. */
    struct byte_piece few[4];
    assert_int_equal(byte_pieces_cut(few, 4, text, n_text, N_CTX), 4);
    assert_true(few[3].end > n_text / 2 && few[0].begin == 0);
    assert_int_equal(byte_pieces_cut(few, 4, "short", 5, N_CTX), 0);
    /* A text of nothing but long characters: no place is good, none is inside a character. */
    char wide[600];
    for (size_t i = 0; i < sizeof(wide); i++)
        wide[i] = "\xE2\x82\xAC"[i % 3];
    n = byte_pieces_cut(p, 200, wide, sizeof(wide), N_CTX);
    assert_true(n >= 4);
    for (size_t i = 0; i < n; i++)
        assert_true(p[i].begin % 3 == 0 && p[i].middle % 3 == 0 && p[i].end % 3 == 0);
    xfree(text);
}

/* Against the same sum taken by hand; what does not fit is NaN. */
static void test_piece_bits(void **state)
{
    struct byte_piece p[64];
    double good[64], bad[64], by_hand = 0;
    size_t n_text, n_before, n_after;
    struct err e = {0};
    (void)state;
    char *text = read_text(&n_text);
    size_t n = byte_pieces_cut(p, 20, text, n_text, N_CTX);
    assert_int_equal(n, 20);
    /* Twice the window that the pieces were cut for: the sample's tokens are short. */
    assert_int_equal(measure_piece_bits(good, q4, text, p, n, 2 * N_CTX, &options, &e), 0);
    assert_int_equal(measure_piece_bits(bad, q2, text, p, n, 2 * N_CTX, &options, &e), 0);
    for (size_t i = 0; i < n; i++) {
        assert_true(good[i] > 0 && bad[i] > 0);
        assert_true(fabs(good[i] / bad[i] - 1) > 1e-6); /* another file, other bits */
    }
    struct engine *g;
    int32_t *before, *after, window[2 * N_CTX] = {0};
    struct engine_position out[2 * N_CTX];
    assert_int_equal(measure_open(&g, NULL, q4, ENGINE_FILE, 2 * N_CTX, 0, true, &options, &e), 0);
    engine_tokenize(g, text + p[3].begin, p[3].middle - p[3].begin, false, &before, &n_before, &e);
    engine_tokenize(g, text + p[3].middle, p[3].end - p[3].middle, false, &after, &n_after, &e);
    window[0] = engine_info(g)->bos;
    memcpy(window + 1, before, n_before * sizeof(*before));
    memcpy(window + 1 + n_before, after, n_after * sizeof(*after));
    struct engine_windows w = {.tokens = window, .n_windows = 1, .n_ctx = 2 * N_CTX};
    assert_int_equal(engine_score(g, &w, NULL, out, NULL, &e), 0);
    for (size_t i = 0; i < n_after; i++)
        by_hand += (double)out[n_before + i].nll / log(2);
    assert_true(fabs(by_hand / good[3] - 1) < 1e-3);
    xfree(before);
    xfree(after);
    engine_stop(g);

    assert_int_equal(measure_piece_bits(good, q4, text, p, n, N_CTX / 4, &options, &e), 0);
    assert_true(isnan(good[0]));
    xfree(text);
}

static void test_speed(void **state)
{
    struct score s = {.ppl = 7};
    struct err e = {0};
    (void)state;
    assert_int_equal(measure_speed(&s, q4, 256, 64, 8, 2, 5, &options, &e), 0);
    assert_true(s.ppl == 7); /* quality is left alone */
    assert_true(s.tps_decode > 0 && s.tps_prefill > 0 && s.load_ms > 0);
    assert_int_equal(s.memory_bytes, s.weights_bytes + s.kv_bytes + s.compute_bytes);
    assert_int_equal(s.memory_context, 256);
    assert_int_equal(s.threads, 1);
    /* libllama's accounting against the process: all of it was touched, the program itself is
     * more. */
    assert_true(s.rss_peak_bytes > s.weights_bytes + s.kv_bytes);
    assert_true(s.rss_peak_bytes < s.memory_bytes + (200u << 20));
    score_release(&s);
    assert_int_equal(measure_speed(&s, "/nowhere/x.gguf", 256, 64, 8, 2, 5, &options, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_int_equal(measure_speed(&s, text_path, 256, 64, 8, 2, 5, &options, &e), -1);
    expect_error(&e, ERR_INPUT, "text.txt");
}

static void test_importance(void **state)
{
    struct corpus c;
    struct imatrix m = {0}, back = {0};
    struct err e = {0};
    char *path = fixture_path("out.imatrix");
    (void)state;
    struct engine *g = open_model(f32, ENGINE_FILE);
    assert_int_equal(corpus_from_file(&c, g, text_path, N_CTX, 4, &e), 0);
    struct engine_windows w = corpus_slice(&c, 0, 4);
    assert_int_equal(measure_importance(&m, g, &w, "text.txt", NULL, &e), 0);
    engine_stop(g);
    assert_int_equal(m.n, 57);
    assert_int_equal(m.chunk_count, 4);
    assert_int_equal(m.chunk_size, N_CTX);
    const struct imatrix_entry *down = imatrix_find(&m, "blk.7.ffn_down.weight");
    assert_non_null(down);
    assert_int_equal(down->n_in, 768);
    assert_true(down->counts[0] == 4 * N_CTX);
    assert_int_equal(imatrix_write(&m, path, &e), 0);
    assert_int_equal(imatrix_read(&back, path, &e), 0);
    assert_int_equal(back.n, 57);
    assert_false(back.partial);
    assert_memory_equal(imatrix_find(&back, "blk.7.ffn_down.weight")->values, down->values,
                        768 * sizeof(float));
    imatrix_release(&m);
    imatrix_release(&back);
    corpus_release(&c);
    xfree(path);
}

static void assert_same_importance(const struct imatrix *a, const struct imatrix *b)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->chunk_count, b->chunk_count);
    for (size_t i = 0; i < a->n; i++) {
        const struct imatrix_entry *x = &a->entries[i], *y = imatrix_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(x->n_in, y->n_in);
        assert_memory_equal(x->values, y->values, (size_t)(x->n_in * x->n_mat) * sizeof(float));
    }
}

/* Factors within spans are those of the matrix that has nothing between spans: where a span is all
 * there is, and in the last span, nothing changes. */
static void test_spans(const char *path, const char *whole, struct imatrix *m)
{
    struct measure_options o = {.threads = 2, .gpu_layers = -1};
    struct factors f, all;
    struct corpus c;
    struct engine *g;
    struct err e = {0};
    assert_int_equal(measure_open(&g, NULL, f32, ENGINE_FILE, N_CTX, 0, true, &o, &e), 0);
    assert_int_equal(corpus_from_file(&c, g, text_path, N_CTX, 4, &e), 0);
    struct engine_windows w = corpus_slice(&c, 0, 4);
    if (measure_factors(path, m, "text.txt", 256, g, &w, &o, &e))
        fail_msg("%s", e.message);
    engine_stop(g);
    corpus_release(&c);
    assert_int_equal(factors_open(&f, path, &e), 0);
    assert_int_equal(factors_open(&all, whole, &e), 0);
    const struct factors_entry *q = factors_find(&f, "blk.3.attn_q.weight"),
                               *old = factors_find(&all, "blk.3.attn_q.weight");
    assert_int_equal(q->span, 256);
    assert_memory_equal(q->factor, old->factor, 256 * 256 * sizeof(float));
    q = factors_find(&f, "blk.3.ffn_down.weight");
    old = factors_find(&all, "blk.3.ffn_down.weight");
    assert_int_equal(q->n, 768);
    assert_int_equal(q->span, 256);
    assert_int_equal(old->span, 768);
    for (size_t i = 512; i < 768; i++)
        assert_memory_equal(q->factor + i * 256, old->factor + i * 768 + 512, 256 * sizeof(float));
    assert_true(q->weight[0] > old->weight[0]); /* less is known of what follows */
    factors_close(&f);
    factors_close(&all);
}

/* Factors of the sample's inputs: shared where inputs are, and the same for any number of threads.
 * An importance matrix made in the same pass is the one that is made alone. */
static void test_factors(void **state)
{
    struct corpus c;
    struct imatrix m = {0};
    struct factors f;
    struct err e = {0};
    char *path[2] = {fixture_path("one.factors"), fixture_path("two.factors")}, sha256[2][65];
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        struct measure_options some = {.threads = threads, .gpu_layers = -1};
        struct engine *g;
        assert_int_equal(measure_open(&g, NULL, f32, ENGINE_FILE, N_CTX, 0, true, &some, &e), 0);
        some.memory_bytes_max = threads == 2 ? 64 << 20 : 0; /* several passes over the text */
        assert_int_equal(corpus_from_file(&c, g, text_path, N_CTX, 4, &e), 0);
        struct engine_windows w = corpus_slice(&c, 0, 4);
        if (threads == 1)
            assert_int_equal(measure_importance(&m, g, &w, "text.txt", NULL, &e), 0);
        struct imatrix same = {0};
        if (measure_factors(path[threads - 1], threads == 1 ? &m : &same, "text.txt", 0, g, &w,
                            &some, &e))
            fail_msg("%s", e.message);
        if (threads == 2)
            assert_same_importance(&same, &m);
        imatrix_release(&same);
        engine_stop(g);
        corpus_release(&c);
        assert_int_equal(factors_open(&f, path[threads - 1], &e), 0);
        memcpy(sha256[threads - 1], f.sha256, 65);
        if (threads == 1)
            factors_close(&f);
    }
    assert_string_equal(sha256[0], sha256[1]);
    assert_int_equal(f.n, 57);
    const struct factors_entry *q = factors_find(&f, "blk.3.attn_q.weight"),
                               *k = factors_find(&f, "blk.3.attn_k.weight"),
                               *down = factors_find(&f, "blk.3.ffn_down.weight");
    assert_ptr_equal(q->factor, k->factor);
    assert_ptr_not_equal(q->factor, factors_find(&f, "blk.4.attn_q.weight")->factor);
    assert_int_equal(down->n, 768);
    for (uint64_t i = 0; i < down->n; i++)
        assert_true(down->weight[i] > 0 && isfinite(down->weight[i]));
    /* The last column has nothing after it: what is left of it is its mean square, damped. */
    float last = imatrix_find(&m, "blk.3.ffn_down.weight")->values[767];
    assert_true(down->weight[767] > last && down->weight[767] < last * 3);
    factors_close(&f);
    test_spans(path[0], path[1], &m);
    imatrix_release(&m);
    xfree(path[0]);
    xfree(path[1]);
}

/* ---- JSON
 * --------------------------------------------------------------------------------------- */

static void test_json_round_trip(void **state)
{
    struct score s = {.positions = 1000,
                      .windows = 8,
                      .n_ctx = 256,
                      .ppl = 12.5,
                      .ppl_low = 12,
                      .ppl_high = 13,
                      .ppl_base = 12.25,
                      .has_kld = true,
                      .kld_mean = 0.0123,
                      .kld_low = 0.01,
                      .kld_high = 0.015,
                      .kld_median = 0.005,
                      .kld_p90 = 0.03,
                      .kld_p95 = 0.04,
                      .kld_p99 = 0.1,
                      .kld_p999 = 0.3,
                      .kld_max = 1.5,
                      .top1 = 0.95,
                      .top1_low = 0.94,
                      .top1_high = 0.96,
                      .tps_decode = 1234.5,
                      .tps_prefill = 99999,
                      .first_token_ms = 12.5,
                      .load_ms = 33,
                      .rss_peak_bytes = 123456789,
                      .memory_bytes = 7,
                      .kv_bytes = 1,
                      .compute_bytes = 2,
                      .weights_bytes = 4,
                      .memory_context = 4096,
                      .threads = 3,
                      .gpu_layers = 0};
    struct score back;
    struct err e = {0};
    (void)state;
    memcpy(s.corpus_sha256, model_sha, 65);
    json_t *doc = score_json_new(&s);
    char *text = json_text(doc, false);
    json_decref(doc);
    doc = json_parse(text, strlen(text), "score", &e);
    assert_non_null(doc);
    assert_non_null(strstr(text, "\"kld_mean_ci95\":[0.01,0.015]"));
    assert_non_null(strstr(text, "\"top1_ci95\":[0.94,0.96]"));
    assert_non_null(strstr(text, "\"tokens\":1000"));
    assert_int_equal(score_from_json(&back, doc, &e), 0);
    assert_memory_equal(&s, &back, sizeof(s));
    json_decref(doc);
    xfree(text);
}

static void test_json_of_what_was_not_measured(void **state)
{
    struct score s = {
        .positions = 31, .windows = 1, .n_ctx = 64, .ppl = 5, .ppl_low = NAN, .ppl_high = NAN};
    struct score back;
    struct err e = {0};
    (void)state;
    json_t *doc = score_json_new(&s);
    assert_null(json_object_get(doc, "kld_mean"));
    assert_null(json_object_get(doc, "tps_decode"));
    assert_true(json_is_null(json_array_get(json_object_get(doc, "ppl_ci95"), 0)));
    assert_int_equal(score_from_json(&back, doc, &e), 0);
    assert_false(back.has_kld);
    assert_true(isnan(back.ppl_low) != 0);
    json_decref(doc);
}

static void expect_bad_json(const char *text, const char *what)
{
    struct score s;
    struct err e = {0};
    json_t *doc = json_parse(text, strlen(text), "score", &e);
    assert_non_null(doc);
    assert_int_equal(score_from_json(&s, doc, &e), -1);
    expect_error(&e, ERR_INPUT, what);
    json_decref(doc);
}

static void test_bad_json(void **state)
{
    (void)state;
    expect_bad_json("{\"ppl\":\"twelve\"}", "ppl");
    expect_bad_json("{\"tokens\":-1}", "tokens");
    expect_bad_json("{\"kld_mean_ci95\":[1]}", "kld_mean_ci95");
    expect_bad_json("{\"threads\":99999999999}", "threads");
    expect_bad_json("[1]", "object");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus_from_file),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_corpus_from_self),
        cmocka_unit_test(test_quality),
        cmocka_unit_test(test_pieces_are_the_whole),
        cmocka_unit_test(test_byte_pieces),
        cmocka_unit_test(test_piece_bits),
        cmocka_unit_test(test_speed),
        cmocka_unit_test(test_importance),
        cmocka_unit_test(test_factors),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_json_of_what_was_not_measured),
        cmocka_unit_test(test_bad_json),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
