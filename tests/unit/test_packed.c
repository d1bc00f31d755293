/* Checkpoints that are already quantized: every layout packed here bit by bit from known codes,
 * read back as the numbers they stand for (as a whole, in bands, through the permutation of Q's
 * rows), and refused when a piece is missing, of another shape or type, or points outside. */
#include "bake/bake.h"
#include "hf_fixture.h"
#include "quant/quant.h"

enum { HIDDEN = 64, FFN = 96 };

#define DOWN  "model.layers.1.mlp.down_proj"    /* HIDDEN x FFN */
#define QUERY "model.layers.0.self_attn.q_proj" /* HIDDEN x HIDDEN, rows permuted */

struct made {
    struct hf h;
    struct arena arena;
};

static void begin(struct made *f, const char *quantization)
{
    *f = (struct made){0};
    hf_init(&f->h);
    f->h.hidden = HIDDEN;
    f->h.ffn = FFN;
    f->h.n = 0;
    hf_add_tensors(&f->h);
    f->h.more_config = arena_printf(&f->arena, ",\"quantization_config\":{%s}", quantization);
}

static void end(struct made *f)
{
    hf_release(&f->h);
    arena_release(&f->arena);
}

/* Puts `bytes` of data into the folder as the tensor stem + tail. */
static struct hf_tensor *put(struct made *f, const char *stem, const char *tail, enum dtype type,
                             const void *data, int rows, int cols)
{
    struct hf_tensor *t = hf_add(&f->h, arena_printf(&f->arena, "%s%s", stem, tail), rows, cols);
    t->dtype = type;
    t->raw = data;
    return t;
}

static void *room(struct made *f, size_t bytes)
{
    void *p = arena_alloc(&f->arena, bytes);
    memset(p, 0, bytes);
    return p;
}

static uint32_t any(uint64_t i, uint32_t seed)
{
    uint32_t x = (uint32_t)i * 2654435761u + seed * 40503u;
    x ^= x >> 15;
    x *= 2246822519u;
    return x ^ x >> 13;
}

static float scale_of(uint64_t i)
{
    return (float)(any(i, 7) % 100 + 1) / 512.0f; /* exact as F16 */
}

static uint16_t *halves(struct made *f, uint64_t n)
{
    uint16_t *h = room(f, n * sizeof *h);
    for (uint64_t i = 0; i < n; i++)
        h[i] = convert_f32_to_f16(scale_of(i));
    return h;
}

/* Bits [at, at+bits) of column `lane` of words, `lanes` columns to a row. */
static void put_bits(uint32_t *words, uint64_t lanes, uint64_t lane, uint64_t at, uint32_t bits,
                     uint32_t value)
{
    for (uint32_t b = 0; b < bits; b++, at++)
        words[at / 32 * lanes + lane] |= (value >> b & 1) << at % 32;
}

static float *all_rows(const struct model *m, const char *name, uint64_t n)
{
    struct err e;
    int i = model_find(m, name);
    const struct model_tensor *t = &model_desc(m)->tensors[i];
    uint64_t rows = shape_rows(&t->shape);
    assert_int_equal(rows * t->shape.ne[0], n);
    float *whole = xcalloc(n, sizeof *whole), *band = xcalloc(n, sizeof *band);
    if (model_rows(m, i, 0, rows, whole, &e))
        fail_msg("%s", e.message);
    for (uint64_t r = 0, k; r < rows; r += k) {
        k = rows - r < 5 ? rows - r : 5;
        model_rows_prefetch(m, i, r, k);
        assert_int_equal(model_rows(m, i, r, k, band, NULL), 0);
        assert_memory_equal(band, whole + r * t->shape.ne[0], k * t->shape.ne[0] * sizeof *band);
        model_rows_forget(m, i, r, k);
        assert_null(model_rows_raw(m, i, t->dtype, r, k));
    }
    xfree(band);
    return whole;
}

/* `want(row, column)` of the stored matrices against what the model reads. */
typedef float (*want_fn)(uint64_t row, uint64_t col, uint64_t cols);

static void expect_matrix(const struct model *m, const char *name, uint64_t rows, uint64_t cols,
                          bool permuted, want_fn want)
{
    float *got = all_rows(m, name, rows * cols);
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t from = permuted ? r / 16 * 16 + r % 2 * 8 + r % 16 / 2 : r; /* heads of 16 */
        for (uint64_t c = 0; c < cols; c++)
            if (got[r * cols + c] != want(from, c, cols))
                fail_msg("%s: row %d, column %d is %g, expected %g", name, (int)r, (int)c,
                         (double)got[r * cols + c], (double)want(from, c, cols));
    }
    xfree(got);
}

static void expect_both(struct made *f, want_fn want, const char *told)
{
    hf_write_all(&f->h);
    struct model *m = hf_open(&f->h);
    expect_matrix(m, "blk.1.ffn_down.weight", HIDDEN, FFN, false, want);
    expect_matrix(m, "blk.0.attn_q.weight", HIDDEN, HIDDEN, true, want);
    assert_string_equal(model_quantization(m), told);
    assert_false(model_is_quantized(m));
    char a[65], b[65];
    assert_int_equal(model_hash(m, NULL, a, NULL), 0);
    model_close(m);
    /* The fingerprint is one of all pieces: a change of the last one changes it. */
    struct hf_tensor *t = &f->h.tensors[f->h.n - 1];
    uint64_t bytes = hf_elements(t) * dtype_info(t->dtype)->bytes;
    uint8_t *other = room(f, bytes);
    memcpy(other, t->raw, bytes);
    uint32_t *groups = (uint32_t *)(void *)other;
    if (t->dtype != DT_I32)
        other[0] ^= 1;
    else /* g_idx: the first column goes to another group */
        groups[0] = groups[0] ? 0 : 1;
    t->raw = other;
    hf_write_all(&f->h);
    m = hf_open(&f->h);
    assert_int_equal(model_hash(m, NULL, b, NULL), 0);
    assert_string_not_equal(a, b);
    model_close(m);
}

/* ---- GPTQ ---- */

static struct {
    uint32_t bits, add, group;
    bool index;
} gptq;

static uint32_t gptq_code(uint64_t row, uint64_t col)
{
    return any(row * 4096 + col, 1) & ((1u << gptq.bits) - 1);
}

static uint32_t gptq_zero(uint64_t g, uint64_t row)
{
    return any(g * 4096 + row, 2) & ((1u << gptq.bits) - 1);
}

static uint32_t gptq_group(uint64_t col, uint64_t cols)
{
    uint64_t groups = cols / gptq.group;
    return (uint32_t)(gptq.index ? any(col, 3) % groups : col / gptq.group);
}

static float gptq_want(uint64_t row, uint64_t col, uint64_t cols)
{
    uint64_t g = gptq_group(col, cols);
    return (float)((int)gptq_code(row, col) - (int)gptq_zero(g, row)) * scale_of(g * HIDDEN + row);
}

static void put_gptq(struct made *f, const char *stem, uint64_t rows, uint64_t cols)
{
    uint64_t groups = cols / gptq.group, down = (cols * gptq.bits + 31) / 32;
    uint64_t across = (rows * gptq.bits + 31) / 32;
    uint32_t *codes = room(f, down * rows * 4), *zeros = room(f, groups * across * 4);
    uint32_t *index = room(f, cols * 4), mask = (1u << gptq.bits) - 1;
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t c = 0; c < cols; c++)
            put_bits(codes, rows, r, c * gptq.bits, gptq.bits, gptq_code(r, c));
    for (uint64_t g = 0; g < groups; g++)
        for (uint64_t r = 0; r < rows; r++)
            put_bits(zeros + g * across, 1, 0, r * gptq.bits, gptq.bits,
                     (gptq_zero(g, r) - gptq.add) & mask);
    for (uint64_t c = 0; c < cols; c++)
        index[c] = gptq_group(c, cols);
    put(f, stem, ".qweight", DT_I32, codes, (int)down, (int)rows);
    put(f, stem, ".qzeros", DT_I32, zeros, (int)groups, (int)across);
    put(f, stem, ".scales", DT_F16, halves(f, groups * rows), (int)groups, (int)rows);
    if (gptq.index)
        put(f, stem, ".g_idx", DT_I32, index, (int)cols, 0);
}

static void begin_gptq(struct made *f, uint32_t bits, uint32_t add, uint32_t group, bool index)
{
    char text[200];
    gptq.bits = bits;
    gptq.add = add;
    gptq.group = group;
    gptq.index = index;
    snprintf(text, sizeof text,
             "\"quant_method\":\"gptq\",\"bits\":%u,\"group_size\":%u,\"desc_act\":%s,"
             "\"checkpoint_format\":\"%s\"",
             bits, group, index ? "true" : "false", add ? "gptq" : "gptq_v2");
    begin(f, text);
    hf_find(&f->h, DOWN ".weight")->dropped = true;
    hf_find(&f->h, QUERY ".weight")->dropped = true;
    put_gptq(f, DOWN, HIDDEN, FFN);
    put_gptq(f, QUERY, HIDDEN, HIDDEN);
}

static void test_gptq(void **state)
{
    (void)state;
    static const uint32_t bits[] = {2, 3, 4, 8};
    for (int i = 0; i < 4; i++) {
        for (int v = 0; v < 4; v++) {
            struct made f;
            char told[64];
            begin_gptq(&f, bits[i], v & 1, v & 1 ? 32 : 16, v & 2);
            snprintf(told, sizeof told, "GPTQ, %u bits in groups of %u", bits[i], v & 1 ? 32 : 16);
            expect_both(&f, gptq_want, told);
            end(&f);
        }
    }
}

/* quantize_config.json instead of a part of config.json; a layer of other bits by "dynamic"; idle
 * biases. */
static void test_gptq_habits(void **state)
{
    (void)state;
    struct made f;
    begin_gptq(&f, 4, 1, 16, true);
    f.h.more_config = ",\"attention_bias\":false";
    hf_write_text(&f.h, "quantize_config.json",
                  "{\"bits\":8,\"group_size\":16,\"dynamic\":{\"q_proj\":{\"bits\":4}}}");
    put(&f, QUERY, ".bias", DT_F16, room(&f, HIDDEN * 2), HIDDEN, 0);
    put(&f, DOWN, ".bias", DT_F16, room(&f, HIDDEN * 2), HIDDEN, 0);
    hf_write_all(&f.h);
    struct model *m = hf_open(&f.h);
    assert_string_equal(model_quantization(m), "GPTQ, several sizes");
    expect_matrix(m, "blk.0.attn_q.weight", HIDDEN, HIDDEN, true, gptq_want);
    assert_int_equal(model_find(m, "blk.0.attn_q.bias"), -1);
    model_close(m);
    uint16_t *bias = room(&f, HIDDEN * 2);
    bias[HIDDEN - 1] = 1;
    hf_find(&f.h, QUERY ".bias")->raw = bias;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_INPUT, "attention_bias false", QUERY ".bias");
    end(&f);
}

static void refuse_piece(const char *tail, int rows, int cols, enum dtype type, const char *word)
{
    struct made f;
    begin_gptq(&f, 4, 1, 32, true);
    struct hf_tensor *t = hf_find(&f.h, arena_printf(&f.arena, DOWN "%s", tail));
    if (rows) {
        t->dims[0] = (uint64_t)rows;
        t->dims[1] = (uint64_t)cols;
        t->n_dims = cols ? 2 : 1;
    }
    t->dtype = type;
    t->raw = NULL;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_INPUT, t->name, word, "GPTQ, 4 bits");
    t->dropped = true;
    hf_write_all(&f.h);
    if (strcmp(tail, ".qweight") == 0)
        hf_refused(&f.h, ERR_MISSING, DOWN ".weight", "is missing");
    else if (strcmp(tail, ".g_idx") != 0)
        hf_refused(&f.h, ERR_MISSING, t->name, "is missing", DOWN ".qweight");
    else
        model_close(hf_open(&f.h)); /* groups in order then */
    end(&f);
}

static void test_gptq_refused(void **state)
{
    (void)state;
    refuse_piece(".qweight", 11, 64, DT_I32, "I32 [11, 64], expected I32 U32 [12, 64]");
    refuse_piece(".qweight", 64, 12, DT_I32, "[64, 96]");
    refuse_piece(".qweight", 0, 0, DT_F32, "F32");
    refuse_piece(".qzeros", 3, 7, DT_I32, "[3, 7]");
    refuse_piece(".qzeros", 0, 0, DT_I16, "I16");
    refuse_piece(".scales", 3, 63, DT_F16, "[3, 63]");
    refuse_piece(".scales", 0, 0, DT_I32, "F16 BF16 F32");
    refuse_piece(".g_idx", 95, 0, DT_I32, "[95]");
    struct made f;
    begin_gptq(&f, 4, 1, 32, true);
    int32_t *index = room(&f, FFN * 4);
    hf_find(&f.h, DOWN ".g_idx")->raw = index;
    index[FFN - 1] = FFN / 32;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_INPUT, DOWN ".g_idx", "column 95", "group 3 of 3");
    index[FFN - 1] = -1;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_INPUT, DOWN ".g_idx", "column 95", "group -1 of 3");
    end(&f);
}

/* ---- AWQ ---- */

static uint32_t awq_code(uint64_t row, uint64_t col)
{
    return any(row * 4096 + col, 4) & 15;
}

static float awq_want(uint64_t row, uint64_t col, uint64_t cols)
{
    uint64_t g = col / 32;
    (void)cols;
    return (float)((int)awq_code(row, col) - (int)(any(g * 4096 + row, 5) & 15)) *
           scale_of(g * HIDDEN + row);
}

static void put_awq(struct made *f, const char *stem, uint64_t rows, uint64_t cols)
{
    static const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    uint64_t across = rows / 8, groups = cols / 32;
    uint32_t *codes = room(f, cols * across * 4), *zeros = room(f, groups * across * 4);
    for (uint64_t w = 0; w < across; w++) {
        for (int i = 0; i < 8; i++) {
            uint64_t row = w * 8 + (uint64_t)order[i];
            for (uint64_t c = 0; c < cols; c++)
                codes[c * across + w] |= awq_code(row, c) << 4 * i;
            for (uint64_t g = 0; g < groups; g++)
                zeros[g * across + w] |= (any(g * 4096 + row, 5) & 15) << 4 * i;
        }
    }
    put(f, stem, ".qweight", DT_I32, codes, (int)cols, (int)across);
    put(f, stem, ".qzeros", DT_I32, zeros, (int)groups, (int)across);
    put(f, stem, ".scales", DT_F16, halves(f, groups * rows), (int)groups, (int)rows);
}

static void test_awq(void **state)
{
    (void)state;
    struct made f;
    begin(&f, "\"quant_method\":\"awq\",\"bits\":4,\"group_size\":32,\"zero_point\":true,"
              "\"version\":\"gemm\"");
    hf_find(&f.h, DOWN ".weight")->dropped = true;
    hf_find(&f.h, QUERY ".weight")->dropped = true;
    put_awq(&f, QUERY, HIDDEN, HIDDEN);
    put_awq(&f, DOWN, HIDDEN, FFN);
    expect_both(&f, awq_want, "AWQ, 4 bits in groups of 32");
    hf_find(&f.h, DOWN ".qzeros")->dims[1]++;
    hf_find(&f.h, DOWN ".qzeros")->raw = NULL;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_INPUT, DOWN ".qzeros", "[3, 9]", "[3, 8]");
    hf_find(&f.h, DOWN ".scales")->dropped = true;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_MISSING, DOWN ".scales");
    end(&f);
}

/* ---- MXFP4 ---- */

static float mxfp4_want(uint64_t row, uint64_t col, uint64_t cols)
{
    static const float values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    uint32_t code = any(row * cols + col, 6) & 15;
    float v = values[code & 7] * ldexpf(1, (int)(any((row * cols + col) / 32, 8) % 20) - 15);
    return code & 8 ? -v : v;
}

static struct hf_tensor *put_mxfp4(struct made *f, const char *stem, uint64_t rows, uint64_t cols)
{
    uint8_t *blocks = room(f, rows * cols / 2), *scales = room(f, rows * cols / 32);
    for (uint64_t i = 0; i < rows * cols; i++) {
        blocks[i / 2] |= (uint8_t)((any(i, 6) & 15) << i % 2 * 4);
        scales[i / 32] = (uint8_t)(any(i / 32, 8) % 20 - 15 + 127);
    }
    struct hf_tensor *t = put(f, stem, "_blocks", DT_U8, blocks, (int)rows, (int)cols / 32);
    t->n_dims = 3;
    t->dims[2] = 16;
    return put(f, stem, "_scales", DT_U8, scales, (int)rows, (int)cols / 32);
}

static void test_mxfp4(void **state)
{
    (void)state;
    struct made f;
    begin(&f, "\"quant_method\":\"mxfp4\"");
    hf_find(&f.h, DOWN ".weight")->dropped = true;
    hf_find(&f.h, QUERY ".weight")->dropped = true;
    struct hf_tensor *scales = put_mxfp4(&f, DOWN ".weight", HIDDEN, FFN);
    put_mxfp4(&f, QUERY ".weight", HIDDEN, HIDDEN);
    expect_both(&f, mxfp4_want, "MXFP4");
    uint8_t *bad = room(&f, HIDDEN * FFN / 32);
    bad[7] = 255; /* stands for NaN */
    scales->raw = bad;
    hf_write_all(&f.h);
    struct model *m = hf_open(&f.h);
    struct err e;
    float *rows = xcalloc(HIDDEN * FFN, sizeof *rows);
    assert_int_equal(model_rows(m, model_find(m, "blk.1.ffn_down.weight"), 0, HIDDEN, rows, &e),
                     -1);
    assert_non_null(strstr(e.message, "NaN at row 2, column 32"));
    xfree(rows);
    model_close(m);
    scales->n_dims = 1;
    scales->raw = NULL;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_INPUT, DOWN ".weight_scales", "[64, 3]");
    scales->dropped = true;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_MISSING, DOWN ".weight_scales");
    end(&f);
}

/* Moved into the order of a GGUF, blocks are the same numbers. */
static void expect_blocks(const struct model *m, const char *name, uint64_t rows, uint64_t cols)
{
    int i = model_find(m, name);
    uint64_t bytes = cols / 32 * 17;
    uint8_t *blocks = xcalloc(rows, bytes);
    float *moved = xcalloc(rows * cols, sizeof *moved), *read = all_rows(m, name, rows * cols);
    assert_true(model_has_blocks(m, i, DT_MXFP4));
    assert_false(model_has_blocks(m, i, DT_Q8_0));
    for (uint64_t r = 0, k; r < rows; r += k) {
        k = rows - r < 7 ? rows - r : 7;
        assert_int_equal(model_rows_blocks(m, i, r, k, blocks + r * bytes, NULL), 0);
    }
    assert_int_equal(quant_decode(DT_MXFP4, blocks, moved, rows, cols, NULL), 0);
    for (uint64_t k = 0; k < rows * cols; k++) /* a GGUF has no negative zero */
        assert_true(moved[k] == read[k]);
    assert_int_equal(model_rows_blocks(m, i, rows, 1, blocks, NULL), -1);
    xfree(read);
    xfree(moved);
    xfree(blocks);
}

static int bake_kept(const struct made *f, const char *base, bool keep, char path[300],
                     struct err *e)
{
    struct model *m = hf_open(&f->h);
    struct recipe_options o = RECIPE_OPTIONS_DEFAULT;
    struct recipe r;
    struct bake_result done = {0};
    o.keep_blocks = keep;
    recipe_init(&r, base);
    hf_path(&f->h, "../kept.gguf", path);
    struct bake_job job = {.model = m, .recipe = &r, .options = &o, .output = path, .threads = 2};
    int rc = bake_gguf(&job, &done, e);
    bake_result_release(&done);
    recipe_release(&r);
    model_close(m);
    return rc;
}

static void expect_kept(const struct made *f, const char *base, bool keep, enum dtype type,
                        uint32_t file_type)
{
    struct err e = {0};
    struct model *m;
    char path[300];
    if (bake_kept(f, base, keep, path, &e) || model_open(&m, path, &e))
        fail_msg("%s", e.message);
    const struct model_desc *d = model_desc(m);
    assert_int_equal(d->tensors[model_find(m, "blk.1.ffn_down.weight")].dtype, type);
    assert_int_equal(d->tensors[model_find(m, "blk.0.attn_q.weight")].dtype, type);
    struct gguf g;
    uint64_t told = 0;
    assert_int_equal(gguf_open(&g, path, GGUF_CHECK_MODEL, NULL), 0);
    assert_true(gguf_get_u64(&g.kvs, "general.file_type", &told));
    assert_int_equal(told, file_type);
    gguf_close(&g);
    if (keep) {
        assert_string_equal(d->tensors[0].name, "blk.0.attn_q.weight"); /* kept ones come first */
        float *rows = xcalloc(HIDDEN * FFN, sizeof *rows);
        int i = model_find(m, "blk.1.ffn_down.weight");
        assert_int_equal(model_rows(m, i, 0, HIDDEN, rows, NULL), 0);
        for (uint64_t k = 0; k < HIDDEN * FFN; k++)
            assert_true(rows[k] == mxfp4_want(k / FFN, k % FFN, FFN));
        xfree(rows);
    }
    model_close(m);
    assert_int_equal(remove(path), 0);
}

static void test_mxfp4_kept(void **state)
{
    (void)state;
    struct made f;
    struct err e = {0};
    char path[300];
    begin(&f, "\"quant_method\":\"mxfp4\"");
    hf_find(&f.h, DOWN ".weight")->dropped = true;
    hf_find(&f.h, QUERY ".weight")->dropped = true;
    struct hf_tensor *scales = put_mxfp4(&f, DOWN ".weight", HIDDEN, FFN);
    put_mxfp4(&f, QUERY ".weight", HIDDEN, HIDDEN);
    hf_write_all(&f.h);
    struct model *m = hf_open(&f.h);
    expect_blocks(m, "blk.1.ffn_down.weight", HIDDEN, FFN);
    expect_blocks(m, "blk.0.attn_q.weight", HIDDEN, HIDDEN); /* its rows permuted */
    assert_false(model_has_blocks(m, model_find(m, "blk.1.attn_q.weight"), DT_MXFP4));
    model_close(m);
    expect_kept(&f, "BF16", true, DT_MXFP4, 38);
    expect_kept(&f, "F32", true, DT_MXFP4, 38);
    expect_kept(&f, "Q8_0", true, DT_MXFP4, 7);
    expect_kept(&f, "BF16", false, DT_BF16, 32);
    uint8_t *bad = room(&f, HIDDEN * FFN / 32);
    bad[7] = 255;
    scales->raw = bad;
    hf_write_all(&f.h);
    assert_int_equal(bake_kept(&f, "BF16", true, path, &e), -1);
    assert_non_null(strstr(e.message, "NaN at row 2, column 32"));
    assert_false(fs_exists(path));
    end(&f);
}

/* ---- bitsandbytes ---- */

static float table_of(uint32_t code)
{
    return (float)((int)code - 7) / 8 + (float)(code * code) / 1024;
}

static float nested_of(uint32_t code)
{
    return ((float)code - 100) / 300;
}

static bool nested;

static float bnb4_want(uint64_t row, uint64_t col, uint64_t cols)
{
    uint64_t e = row * cols + col, block = e / 80; /* runs on over the ends of rows */
    float scale = scale_of(block);
    if (nested) {
        scale = nested_of(any(block, 9) & 255) * scale_of(block / 16);
        scale += 0.25f;
    }
    return table_of(any(e, 10) & 15) * scale;
}

static void put_bnb4(struct made *f, const char *stem, uint64_t rows, uint64_t cols,
                     enum dtype storage)
{
    uint64_t n = rows * cols, blocks = (n + 79) / 80, outer = (blocks + 15) / 16;
    uint8_t *codes = room(f, n / 2), *inner = room(f, blocks);
    float *table = room(f, 64), *wide = room(f, 1024), *scales = room(f, blocks * 4);
    for (uint64_t i = 0; i < n; i++)
        codes[i / 2] |= (uint8_t)((any(i, 10) & 15) << (i % 2 ? 0 : 4));
    for (uint64_t i = 0; i < blocks; i++) {
        inner[i] = (uint8_t)any(i, 9);
        scales[i] = scale_of(i);
    }
    for (uint32_t i = 0; i < 256; i++)
        wide[i] = nested_of(i);
    for (uint32_t i = 0; i < 16; i++)
        table[i] = table_of(i);
    uint64_t bytes = dtype_info(storage)->bytes;
    put(f, stem, ".weight", storage, codes, (int)(n / 2 / bytes), 1);
    put(f, stem, ".weight.quant_map", DT_F32, table, 16, 0);
    const char *text =
        arena_printf(&f->arena,
                     "{\"quant_type\": \"nf4\", \"blocksize\": 80, \"dtype\": \"bfloat16\", "
                     "\"shape\": [%d, %d], \"nested_blocksize\": 16, \"nested_offset\": 0.25}",
                     (int)rows, (int)cols);
    put(f, stem, ".weight.quant_state.bitsandbytes__nf4", DT_U8, text, (int)strlen(text), 0);
    if (nested) {
        put(f, stem, ".weight.nested_quant_map", DT_F32, wide, 256, 0);
        put(f, stem, ".weight.nested_absmax", DT_F32, scales, (int)outer, 0);
        put(f, stem, ".weight.absmax", DT_U8, inner, (int)blocks, 0);
    } else {
        put(f, stem, ".weight.absmax", DT_F32, scales, (int)blocks, 0);
    }
}

static void begin_bnb4(struct made *f, bool twice, enum dtype storage)
{
    nested = twice;
    begin(f, "\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true,\"load_in_8bit\":false");
    hf_find(&f->h, DOWN ".weight")->dropped = true;
    hf_find(&f->h, QUERY ".weight")->dropped = true;
    put_bnb4(f, DOWN, HIDDEN, FFN, storage);
    put_bnb4(f, QUERY, HIDDEN, HIDDEN, storage);
}

static struct hf_tensor *piece(struct made *f, const char *tail)
{
    return hf_find(&f->h, arena_printf(&f->arena, DOWN ".weight%s", tail));
}

static void test_bnb4(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct made f;
        begin_bnb4(&f, i & 1, i & 2 ? DT_BF16 : DT_U8);
        expect_both(&f, bnb4_want, "bitsandbytes, 4 bits");
        end(&f);
    }
}

static void refuse_state(const char *text, const char *word)
{
    struct made f;
    begin_bnb4(&f, true, DT_U8);
    struct hf_tensor *t = piece(&f, ".quant_state.bitsandbytes__nf4");
    t->raw = text;
    t->dims[0] = strlen(text);
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_INPUT, DOWN ".weight", word);
    end(&f);
}

static void test_bnb4_refused(void **state)
{
    (void)state;
    static const char *const tails[] = {".absmax", ".quant_map", ".nested_absmax",
                                        ".nested_quant_map"};
    for (int i = 0; i < 4; i++) {
        struct made f;
        begin_bnb4(&f, true, DT_U8);
        struct hf_tensor *t = piece(&f, tails[i]);
        t->dims[0]--;
        hf_write_all(&f.h);
        hf_refused(&f.h, ERR_INPUT, t->name, "expected");
        t->dims[0]++;
        t->dtype = DT_I16;
        t->raw = NULL;
        hf_write_all(&f.h);
        hf_refused(&f.h, ERR_INPUT, t->name, "I16");
        t->dropped = true;
        hf_write_all(&f.h);
        if (i != 2) /* without it absmax is not quantized, and of another type */
            hf_refused(&f.h, ERR_MISSING, t->name, "is missing");
        else
            hf_refused(&f.h, ERR_INPUT, DOWN ".weight.absmax", "F32");
        end(&f);
    }
    refuse_state("[]", "not a JSON object");
    refuse_state("{", "bitsandbytes__nf4");
    refuse_state("{\"blocksize\":64,\"shape\":[96,64]}", "another shape");
    refuse_state("{\"blocksize\":0,\"shape\":[64,96]}", "blocksize");
    refuse_state("{\"blocksize\":80,\"shape\":[64,96],\"nested_offset\":1e60}", "nested_offset");
    struct made f;
    begin_bnb4(&f, false, DT_U8);
    struct hf_tensor *t = &f.h.tensors[0];
    for (size_t i = 0; i < f.h.n; i++) /* the codes: the last tensor of that name */
        if (strcmp(f.h.tensors[i].name, DOWN ".weight") == 0)
            t = &f.h.tensors[i];
    t->dims[0]--;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_INPUT, DOWN ".weight", "[3071, 1]", "[3072, 1]");
    end(&f);
}

static float bnb8_want(uint64_t row, uint64_t col, uint64_t cols)
{
    float v = (float)(int8_t)any(row * cols + col, 11) * scale_of(row);
    return v * (1.0f / 127.0f);
}

static void test_bnb8(void **state)
{
    (void)state;
    struct made f;
    begin(&f, "\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":false,\"load_in_8bit\":true");
    static const char *const stems[] = {DOWN, QUERY};
    for (int s = 0; s < 2; s++) {
        uint64_t cols = s ? HIDDEN : FFN;
        int8_t *codes = room(&f, HIDDEN * cols);
        float *scales = room(&f, HIDDEN * 4);
        for (uint64_t i = 0; i < HIDDEN * cols; i++)
            codes[i] = (int8_t)any(i, 11);
        for (uint64_t i = 0; i < HIDDEN; i++)
            scales[i] = scale_of(i);
        hf_find(&f.h, arena_printf(&f.arena, "%s.weight", stems[s]))->dropped = true;
        put(&f, stems[s], ".weight", DT_I8, codes, HIDDEN, (int)cols);
        put(&f, stems[s], ".weight_format", DT_U8, room(&f, 1), 1, 0)->n_dims = 0;
        put(&f, stems[s], ".SCB", DT_F32, scales, HIDDEN, 0);
    }
    expect_both(&f, bnb8_want, "bitsandbytes, 8 bits");
    hf_find(&f.h, DOWN ".weight_format")->raw = "\1";
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_UNSUPPORTED, DOWN ".weight_format", "shuffled");
    hf_find(&f.h, DOWN ".SCB")->dims[0]--;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_INPUT, DOWN ".SCB", "[63]");
    hf_find(&f.h, DOWN ".SCB")->dropped = true;
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_MISSING, DOWN ".SCB");
    end(&f);
}

/* ---- config.json ---- */

static void refuse_config(const char *text, enum err_code code, const char *word, const char *other)
{
    struct made f;
    begin(&f, text);
    hf_write_all(&f.h);
    hf_refused(&f.h, code, "config.json", word, other);
    end(&f);
}

static void test_config(void **state)
{
    (void)state;
    refuse_config("\"quant_method\":\"hqq\"", ERR_UNSUPPORTED, "(hqq)", "float checkpoint");
    refuse_config("\"bits\":4", ERR_UNSUPPORTED, "unnamed method", "GPTQ, AWQ and bitsandbytes");
    refuse_config("\"quant_method\":\"gptq\",\"bits\":5", ERR_UNSUPPORTED, "bits 5",
                  "2, 3, 4 or 8");
    refuse_config("\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":0", ERR_INPUT, "group_size",
                  "original");
    refuse_config("\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"marlin\"",
                  ERR_UNSUPPORTED, "checkpoint_format marlin", "gptq_v2");
    refuse_config("\"quant_method\":\"awq\",\"bits\":3", ERR_UNSUPPORTED, "bits 3", "bits 4");
    refuse_config("\"quant_method\":\"awq\",\"bits\":4,\"version\":\"gemv\"", ERR_UNSUPPORTED,
                  "version gemv", "gemm");
    refuse_config("\"quant_method\":\"bitsandbytes\"", ERR_INPUT, "load_in_4bit", "load_in_8bit");
}

/* Without its method no quantized tensor is taken for anything else. */
static void test_unannounced(void **state)
{
    (void)state;
    struct made f;
    begin_gptq(&f, 4, 1, 32, false);
    f.h.more_config = "";
    hf_write_all(&f.h);
    hf_refused(&f.h, ERR_UNSUPPORTED, QUERY ".qweight", "not part of");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gptq),         cmocka_unit_test(test_gptq_habits),
        cmocka_unit_test(test_gptq_refused), cmocka_unit_test(test_awq),
        cmocka_unit_test(test_mxfp4),        cmocka_unit_test(test_mxfp4_kept),
        cmocka_unit_test(test_bnb4),         cmocka_unit_test(test_bnb4_refused),
        cmocka_unit_test(test_bnb8),         cmocka_unit_test(test_config),
        cmocka_unit_test(test_unannounced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
