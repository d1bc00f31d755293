/* The model view: what is in it, rows of every kind, GGUF sources, fingerprints. */
#include "hf_fixture.h"

#include <math.h>

#include "base/thread.h"
#include "quant/quant.h"

static const struct model_tensor *tensor(const struct model *m, const char *name)
{
    int i = model_find(m, name);
    if (i < 0)
        fail_msg("there is no tensor %s", name);
    return &model_desc(m)->tensors[i];
}

/* All rows of a tensor. */
static float *rows(const struct model *m, const char *name, uint64_t *n)
{
    struct err e = {.code = ERR_NONE};
    const struct model_tensor *t = tensor(m, name);
    shape_elements(&t->shape, n);
    float *out = xcalloc(*n, sizeof *out);
    if (model_rows(m, model_find(m, name), 0, shape_rows(&t->shape), out, &e))
        fail_msg("%s", e.message);
    return out;
}

static void expect_stored(const struct model *m, struct hf *h, const char *gguf, const char *stored)
{
    uint64_t n;
    float *found = rows(m, gguf, &n);
    const struct hf_tensor *t = hf_find(h, stored);
    assert_int_equal(n, hf_elements(t));
    for (uint64_t k = 0; k < n; k++)
        assert_true(found[k] == hf_value(t->seed, k));
    xfree(found);
}

/* ---- what is in a folder
 * ------------------------------------------------------------------------ */

static void test_describes(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    const struct model_desc *d = model_desc(m);
    assert_string_equal(d->architecture, "llama");
    assert_int_equal(d->n_layer, 2);
    assert_int_equal(d->n_head, 4);
    assert_int_equal(d->n_head_kv, 2);
    assert_int_equal(d->n_embd, 16);
    assert_int_equal(d->n_ff, 24);
    assert_int_equal(d->n_vocab, 8);
    assert_int_equal(d->n_ctx_train, 64);
    assert_int_equal(d->head_dim, 4);
    assert_int_equal(d->n_tensors, h.n);
    assert_false(d->tied);
    uint64_t parameters = 0;
    for (size_t i = 0; i < h.n; i++)
        parameters += hf_elements(&h.tensors[i]);
    assert_int_equal(d->parameters, parameters);
    assert_int_equal(model_kv_bytes_per_token(d, (struct cache_types){0}), 2 * 2 * 4 * 4);
    assert_false(model_is_gguf(m));
    assert_false(model_is_quantized(m));
    assert_string_equal(model_path(m), h.dir);
    assert_true(model_source_bytes(m) > parameters * 2);
    model_close(m);
    hf_release(&h);
}

static void test_names_and_order(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    /* Sorted by stored name: lm_head, model.embed_tokens, model.layers.0..., model.norm. */
    static const char *const expected[] = {
        "output.weight",         "token_embd.weight",     "blk.0.attn_norm.weight",
        "blk.0.ffn_down.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
        "blk.0.ffn_norm.weight", "blk.0.attn_k.weight",   "blk.0.attn_output.weight",
        "blk.0.attn_q.weight",   "blk.0.attn_v.weight",   "blk.1.attn_norm.weight",
    };
    const struct model_desc *d = model_desc(m);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_string_equal(d->tensors[i].name, expected[i]);
    assert_string_equal(d->tensors[d->n_tensors - 1].name, "output_norm.weight");
    const struct model_tensor *down = tensor(m, "blk.1.ffn_down.weight");
    assert_int_equal(down->shape.ne[0], 24);
    assert_int_equal(down->shape.ne[1], 16);
    assert_int_equal(down->layer, 1);
    assert_int_equal(down->role, ROLE_FFN_DOWN);
    assert_int_equal(down->dtype, DT_BF16);
    assert_int_equal(down->dtype_min, DT_NONE);
    const struct model_tensor *norm = tensor(m, "output_norm.weight");
    assert_int_equal(norm->shape.n_dims, 1);
    assert_int_equal(norm->dtype_min, DT_F32);
    assert_int_equal(norm->layer, -1);
    assert_int_equal(norm->role, ROLE_NORM);
    assert_int_equal(model_find(m, "blk.2.ffn_down.weight"), -1);
    model_close(m);
    hf_release(&h);
}

static void test_roles(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum model_role role;
        int layer;
    } cases[] = {
        {"token_embd.weight", ROLE_TOKEN_EMBD, -1},
        {"token_embd_norm.weight", ROLE_NORM, -1},
        {"output.weight", ROLE_OUTPUT, -1},
        {"output_norm.weight", ROLE_NORM, -1},
        {"output.bias", ROLE_BIAS, -1},
        {"blk.0.attn_q.weight", ROLE_ATTN_Q, 0},
        {"blk.12.attn_k.weight", ROLE_ATTN_K, 12},
        {"blk.3.attn_v.bias", ROLE_BIAS, 3},
        {"blk.3.attn_qkv.weight", ROLE_ATTN_QKV, 3},
        {"blk.3.attn_kv_b.weight", ROLE_ATTN_KV_B, 3},
        {"blk.3.attn_q_norm.weight", ROLE_NORM, 3},
        {"blk.3.attn_output.weight", ROLE_ATTN_OUTPUT, 3},
        {"blk.7.ffn_gate.weight", ROLE_FFN_GATE, 7},
        {"blk.7.ffn_gate_exps.weight", ROLE_FFN_GATE, 7},
        {"blk.7.ffn_gate_inp.weight", ROLE_ROUTER, 7},
        {"blk.7.ffn_gate_inp_shexp.weight", ROLE_ROUTER, 7},
        {"blk.7.ffn_up_shexp.weight", ROLE_FFN_UP, 7},
        {"blk.7.ffn_down_exps.weight", ROLE_FFN_DOWN, 7},
        {"blk.511.ffn_down.weight", ROLE_FFN_DOWN, 511},
        {"rope_freqs.weight", ROLE_ROPE, -1},
        {"blk.7.ssm_conv1d.weight", ROLE_OTHER, 7},
        {"blk.x.attn_q.weight", ROLE_ATTN_Q, -1},
        {"", ROLE_OTHER, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(model_role_of(cases[i].name), cases[i].role);
        assert_int_equal(model_layer_of(cases[i].name), cases[i].layer);
        assert_non_null(model_role_name(cases[i].role));
    }
    assert_string_equal(model_role_name(ROLE_FFN_DOWN), "ffn_down");
}

/* ---- rows
 * --------------------------------------------------------------------------------------- */

static void test_plain_rows(void **state)
{
    (void)state;
    static const enum dtype types[] = {DT_BF16, DT_F16, DT_F32, DT_F64};
    for (size_t k = 0; k < 4; k++) {
        struct hf h;
        hf_init(&h);
        for (size_t i = 0; i < h.n; i++)
            h.tensors[i].dtype = types[k];
        hf_write_all(&h);
        struct model *m = hf_open(&h);
        expect_stored(m, &h, "token_embd.weight", "model.embed_tokens.weight");
        expect_stored(m, &h, "output.weight", "lm_head.weight");
        expect_stored(m, &h, "output_norm.weight", "model.norm.weight");
        expect_stored(m, &h, "blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj.weight");
        expect_stored(m, &h, "blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight");
        model_close(m);
        hf_release(&h);
    }
}

/* Row h·hd + 2j + t of the GGUF is row h·hd + t·hd/2 + j of the checkpoint. */
static void expect_permuted(const struct model *m, struct hf *h, const char *gguf,
                            const char *stored, int heads, uint64_t width)
{
    uint64_t n, hd;
    float *found = rows(m, gguf, &n);
    const struct hf_tensor *t = hf_find(h, stored);
    assert_int_equal(n, hf_elements(t));
    hd = n / width / (uint64_t)heads;
    for (uint64_t head = 0; head < (uint64_t)heads; head++)
        for (uint64_t j = 0; j < hd / 2; j++)
            for (uint64_t half = 0; half < 2; half++)
                for (uint64_t c = 0; c < width; c++) {
                    uint64_t to = (head * hd + 2 * j + half) * width + c;
                    uint64_t from = (head * hd + half * (hd / 2) + j) * width + c;
                    assert_true(found[to] == hf_value(t->seed, from));
                }
    xfree(found);
}

static void test_permuted_rows(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_add_layer(&h, 0, "self_attn.q_proj.bias", 16, 0);
    hf_add_layer(&h, 0, "self_attn.k_proj.bias", 8, 0);
    hf_add_layer(&h, 0, "self_attn.v_proj.bias", 8, 0);
    hf_add_layer(&h, 0, "self_attn.o_proj.bias", 16, 0);
    hf_add_layer(&h, 1, "self_attn.q_proj.bias", 16, 0);
    hf_add_layer(&h, 1, "self_attn.k_proj.bias", 8, 0);
    hf_add_layer(&h, 1, "self_attn.v_proj.bias", 8, 0);
    hf_add_layer(&h, 1, "self_attn.o_proj.bias", 16, 0);
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    expect_permuted(m, &h, "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", 4, 16);
    expect_permuted(m, &h, "blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight", 2, 16);
    expect_permuted(m, &h, "blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias", 4, 1);
    expect_permuted(m, &h, "blk.1.attn_k.bias", "model.layers.1.self_attn.k_proj.bias", 2, 1);
    expect_stored(m, &h, "blk.0.attn_v.bias", "model.layers.0.self_attn.v_proj.bias");
    expect_stored(m, &h, "blk.0.attn_output.bias", "model.layers.0.self_attn.o_proj.bias");
    assert_int_equal(tensor(m, "blk.0.attn_q.bias")->dtype_min, DT_F32);
    model_close(m);
    hf_release(&h);
}

/* Any split into ranges gives the rows of the whole. */
static void test_row_ranges(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    static const char *const names[] = {"blk.0.attn_q.weight", "token_embd.weight",
                                        "blk.1.ffn_down.weight"};
    for (size_t k = 0; k < 3; k++) {
        uint64_t n, width = tensor(m, names[k])->shape.ne[0];
        float *whole = rows(m, names[k], &n), part[64 * 4];
        for (uint64_t step = 1; step <= 3; step++)
            for (uint64_t row = 0; row + step <= n / width; row += step) {
                struct err e;
                int i = model_find(m, names[k]);
                model_rows_prefetch(m, i, row, step);
                assert_int_equal(model_rows(m, i, row, step, part, &e), 0);
                model_rows_forget(m, i, row, step);
                assert_memory_equal(part, whole + row * width, step * width * sizeof *part);
            }
        xfree(whole);
    }
    struct err e = {.code = ERR_NONE};
    float one[16];
    assert_int_equal(model_rows(m, model_find(m, "token_embd.weight"), 8, 1, one, &e), -1);
    assert_int_equal(e.code, ERR_BUG);
    assert_int_equal(model_rows(m, -1, 0, 1, one, &e), -1);
    assert_int_equal(model_rows(m, 9999, 0, 1, one, &e), -1);
    assert_int_equal(model_rows(m, 0, UINT64_MAX, 2, one, &e), -1);
    model_close(m);
    hf_release(&h);
}

static void test_raw_rows(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    int v = model_find(m, "blk.0.attn_v.weight"), q = model_find(m, "blk.0.attn_q.weight");
    const struct hf_tensor *t = hf_find(&h, "model.layers.0.self_attn.v_proj.weight");
    const uint16_t *raw = model_rows_raw(m, v, DT_BF16, 3, 2);
    assert_non_null(raw);
    for (uint64_t k = 0; k < 32; k++)
        assert_int_equal(raw[k], convert_f32_to_bf16(hf_value(t->seed, 3 * 16 + k)));
    assert_null(model_rows_raw(m, v, DT_F32, 0, 1));  /* another type */
    assert_null(model_rows_raw(m, q, DT_BF16, 0, 1)); /* permuted */
    assert_null(model_rows_raw(m, v, DT_BF16, 7, 2)); /* beyond the end */
    model_close(m);
    hf_release(&h);
}

struct parallel {
    const struct model *m;
    int i;
    const float *whole;
};

static int read_one(void *ud, size_t item, int worker)
{
    (void)worker;
    struct parallel *p = ud;
    float row[64];
    uint64_t n = model_desc(p->m)->tensors[p->i].shape.ne[0], count;
    count = shape_rows(&model_desc(p->m)->tensors[p->i].shape);
    uint64_t r = item % count;
    return model_rows(p->m, p->i, r, 1, row, NULL) ||
           memcmp(row, p->whole + r * n, n * sizeof *row) != 0;
}

static void test_threads(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    uint64_t n;
    struct parallel p = {.m = m, .i = model_find(m, "blk.0.attn_q.weight")};
    float *whole = rows(m, "blk.0.attn_q.weight", &n);
    p.whole = whole;
    assert_int_equal(thread_parallel_for(4, 4000, read_one, &p), 0);
    xfree(whole);
    model_close(m);
    hf_release(&h);
}

static void expect_nan(const char *stored, const char *gguf, const char *where)
{
    struct hf h;
    struct err e = {.code = ERR_NONE};
    float out[16 * 24];
    hf_init(&h);
    hf_find(&h, stored)->nan = true;
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    int i = model_find(m, gguf);
    uint64_t count = shape_rows(&model_desc(m)->tensors[i].shape);
    assert_int_equal(model_rows(m, i, 0, count, out, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.message, gguf));
    assert_non_null(strstr(e.message, "NaN"));
    assert_non_null(strstr(e.message, where));
    assert_non_null(strstr(e.message, "model.safetensors"));
    model_close(m);
    hf_release(&h);
}

static void test_refuses_nan(void **state)
{
    (void)state;
    expect_nan("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", "row 15, column 23");
    expect_nan("model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight",
               "row 15, column 15");
    expect_nan("model.norm.weight", "output_norm.weight", "row 0, column 15");
}

/* ---- shards, scaling, other architectures
 * ------------------------------------------------------- */

static void write_index(const struct hf *h, size_t cut, const char *first, const char *second)
{
    struct buf b;
    buf_init(&b, 1u << 16);
    buf_adds(&b, "{\"weight_map\":{");
    for (size_t i = 0; i < h->n; i++)
        buf_addf(&b, "%s\"%s\":\"%s\"", i ? "," : "", h->tensors[i].name, i < cut ? first : second);
    buf_adds(&b, "}}");
    hf_write(h, "model.safetensors.index.json", b.data, b.len);
    buf_release(&b);
}

static void test_shards(void **state)
{
    (void)state;
    for (int with_index = 0; with_index < 2; with_index++) {
        struct hf h;
        hf_init(&h);
        hf_write_config(&h);
        hf_write_text(&h, "tokenizer.json", h.tokenizer);
        hf_write_shard(&h, "model-00001-of-00002.safetensors", 0, 9);
        hf_write_shard(&h, "model-00002-of-00002.safetensors", 9, h.n);
        if (with_index)
            write_index(&h, 9, "model-00001-of-00002.safetensors",
                        "model-00002-of-00002.safetensors");
        struct model *m = hf_open(&h);
        assert_int_equal(model_desc(m)->n_tensors, h.n);
        assert_string_equal(model_desc(m)->tensors[0].name, "token_embd.weight");
        expect_stored(m, &h, "output.weight", "lm_head.weight");
        expect_permuted(m, &h, "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", 4,
                        16);
        model_close(m);
        hf_release(&h);
    }
}

static void test_rope_scaling(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.more_config =
        ",\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
        "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
        "\"original_max_position_embeddings\":8192}";
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    assert_string_equal(model_desc(m)->tensors[0].name, "rope_freqs.weight");
    assert_int_equal(model_desc(m)->tensors[0].role, ROLE_ROPE);
    uint64_t n;
    float *f = rows(m, "rope_freqs.weight", &n);
    assert_int_equal(
        n, 2); /* wavelengths 2π and 2π·√500000 = 4443: short, and between the two bounds */
    double smooth = (8192 / (2 * 3.14159265358979 * sqrt(500000.0)) - 1) / 3;
    assert_true(f[0] == 1.0f);
    assert_true(fabs(f[1] - 1 / ((1 - smooth) / 8 + smooth)) < 1e-5);
    assert_non_null(model_rows_raw(m, 0, DT_F32, 0, 1));
    assert_false(hf_has(m, "llama.rope.scaling.type"));
    assert_true(hf_real(m, "llama.rope.freq_base") == 500000.0);
    xfree(f);
    model_close(m);
    h.more_config = ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5}";
    hf_write_config(&h);
    m = hf_open(&h);
    hf_text_is(m, "llama.rope.scaling.type", "linear");
    assert_true(hf_real(m, "llama.rope.scaling.factor") == 2.5);
    assert_int_equal(model_find(m, "rope_freqs.weight"), -1);
    model_close(m);
    h.more_config =
        ",\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":7e5,\"factor\":4.0,"
        "\"original_max_position_embeddings\":32,\"beta_fast\":16}";
    hf_write_config(&h);
    m = hf_open(&h);
    hf_text_is(m, "llama.rope.scaling.type", "yarn");
    assert_int_equal(hf_number(m, "llama.rope.scaling.original_context_length"), 32);
    assert_true(hf_real(m, "llama.rope.scaling.yarn_beta_fast") == 16);
    assert_true(hf_real(m, "llama.rope.freq_base") == 700000.0);
    model_close(m);
    hf_release(&h);
}

static void test_qwen(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.architecture = "Qwen2ForCausalLM";
    for (int i = 0; i < 2; i++) {
        hf_add_layer(&h, i, "self_attn.q_proj.bias", 16, 0);
        hf_add_layer(&h, i, "self_attn.k_proj.bias", 8, 0);
        hf_add_layer(&h, i, "self_attn.v_proj.bias", 8, 0);
    }
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    hf_text_is(m, "general.architecture", "qwen2");
    expect_stored(m, &h, "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight");
    expect_stored(m, &h, "blk.1.attn_q.bias", "model.layers.1.self_attn.q_proj.bias");
    assert_false(hf_has(m, "qwen2.attention.key_length"));
    assert_false(hf_has(m, "qwen2.vocab_size"));
    model_close(m);
    hf_release(&h);

    hf_init(&h);
    h.architecture = "Qwen3ForCausalLM";
    h.head_dim = 4;
    for (int i = 0; i < 2; i++) {
        hf_add_layer(&h, i, "self_attn.q_norm.weight", 4, 0);
        hf_add_layer(&h, i, "self_attn.k_norm.weight", 4, 0);
    }
    hf_write_all(&h);
    m = hf_open(&h);
    assert_int_equal(hf_number(m, "qwen3.attention.key_length"), 4);
    expect_stored(m, &h, "blk.1.attn_k_norm.weight", "model.layers.1.self_attn.k_norm.weight");
    expect_stored(m, &h, "blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight");
    model_close(m);
    hf_release(&h);
}

static void test_mistral_and_tied(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.architecture = "MistralForCausalLM";
    h.more_config = ",\"sliding_window\":32";
    h.tied = true;
    hf_find(&h, "lm_head.weight")->dropped = true;
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    hf_text_is(m, "general.architecture", "llama");
    assert_true(model_desc(m)->tied);
    assert_int_equal(model_find(m, "output.weight"), -1);
    assert_false(hf_has(m, "llama.attention.sliding_window"));
    assert_false(hf_has(m, "llama.attention.key_length"));
    assert_int_equal(hf_number(m, "llama.rope.dimension_count"), 4);
    model_close(m);
    hf_release(&h);
}

static void test_architectures_listed(void **state)
{
    (void)state;
    const char *const *a = model_architectures();
    size_t n = 0;
    for (; a[n]; n++)
        for (size_t k = 0; k < n; k++)
            assert_string_not_equal(a[k], a[n]);
    assert_in_range(n, 40, 200);
    assert_string_equal(a[0], "LlamaForCausalLM");
}

/* ---- GGUF as a source
 * --------------------------------------------------------------------------- */

static void write_gguf(struct model *m, const char *path, enum dtype type)
{
    struct err e = {.code = ERR_NONE};
    struct gguf_kvs kvs = {0};
    const struct model_desc *d = model_desc(m);
    struct gguf_writer w;
    struct gguf_writer_tensor *t = xcalloc(d->n_tensors, sizeof *t);
    for (size_t i = 0; i < model_kvs(m)->n; i++)
        gguf_set_copy(&kvs, &model_kvs(m)->items[i]);
    gguf_set_u32(&kvs, "general.file_type", 32);
    gguf_set_u32(&kvs, "general.quantization_version", 2);
    for (size_t i = 0; i < d->n_tensors; i++)
        t[i] =
            (struct gguf_writer_tensor){.name = d->tensors[i].name,
                                        .shape = d->tensors[i].shape,
                                        .dtype = d->tensors[i].dtype_min == DT_F32 ? DT_F32 : type};
    if (gguf_writer_open(&w, path, &kvs, t, d->n_tensors, &e))
        fail_msg("%s", e.message);
    for (size_t i = 0; i < d->n_tensors; i++) {
        uint64_t n;
        float *values = rows(m, d->tensors[i].name, &n);
        uint8_t *bytes = xcalloc(n, 4);
        convert_from_f32(t[i].dtype, values, bytes, n);
        assert_int_equal(fs_atomic_write_at(&w.file, t[i].offset, bytes, t[i].bytes, &e), 0);
        xfree(bytes);
        xfree(values);
    }
    if (gguf_writer_commit(&w, &e))
        fail_msg("%s", e.message);
    gguf_kvs_release(&kvs);
    xfree(t);
}

static void test_gguf_source(void **state)
{
    (void)state;
    struct hf h;
    struct err e = {.code = ERR_NONE};
    char path[300];
    hf_init(&h);
    hf_write_all(&h);
    hf_path(&h, "out.gguf", path);
    struct model *m = hf_open(&h), *g = NULL;
    write_gguf(m, path, DT_BF16);
    if (model_open(&g, path, &e))
        fail_msg("%s", e.message);
    const struct model_desc *a = model_desc(m), *b = model_desc(g);
    assert_true(model_is_gguf(g));
    assert_string_equal(b->architecture, "llama");
    assert_string_equal(a->name, b->name);
    assert_int_equal(b->n_layer, 2);
    assert_int_equal(b->n_head, 4);
    assert_int_equal(b->n_head_kv, 2);
    assert_int_equal(b->head_dim, 4);
    assert_int_equal(b->n_vocab, 8);
    assert_int_equal(b->n_ff, 24);
    assert_int_equal(b->parameters, a->parameters);
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        uint64_t n;
        float *x = rows(m, a->tensors[i].name, &n), *y = rows(g, b->tensors[i].name, &n);
        assert_memory_equal(x, y, n * sizeof *x);
        xfree(x);
        xfree(y);
    }
    assert_non_null(model_rows_raw(g, model_find(g, "blk.0.attn_q.weight"), DT_BF16, 0, 16));
    assert_false(hf_has(g, "general.file_type"));
    assert_false(hf_has(g, "general.quantization_version"));
    assert_int_equal(model_kvs(g)->n, model_kvs(m)->n);
    model_close(g);
    model_close(m);
    hf_release(&h);
}

/* Weights that are already in blocks are decoded, and their blocks can be copied. */
static void test_quantized_source(void **state)
{
    (void)state;
    enum { N = 64, ROWS = 3 };
    struct hf h;
    struct err e = {.code = ERR_NONE};
    struct gguf_kvs kvs = {0};
    struct gguf_writer w;
    char path[300];
    float values[ROWS * N], back[ROWS * N];
    uint8_t blocks[ROWS * N / 32 * 34];
    hf_init(&h);
    hf_path(&h, "q.gguf", path);
    for (uint64_t k = 0; k < ROWS * N; k++)
        values[k] = hf_value(5, k);
    assert_int_equal(quant_encode(DT_Q8_0, values, blocks, ROWS, N, NULL, NULL, &e), 0);
    gguf_set_str(&kvs, "general.architecture", "unheard-of");
    struct gguf_writer_tensor t = {
        .name = "blk.0.odd.weight", .dtype = DT_Q8_0, .shape = {2, {N, ROWS, 1, 1}}};
    if (gguf_writer_open(&w, path, &kvs, &t, 1, &e) ||
        fs_atomic_write_at(&w.file, t.offset, blocks, sizeof blocks, &e) ||
        gguf_writer_commit(&w, &e))
        fail_msg("%s", e.message);
    struct model *m = NULL;
    if (model_open(&m, path, &e))
        fail_msg("%s", e.message);
    assert_true(model_is_quantized(m));
    assert_string_equal(model_desc(m)->architecture, "unheard-of");
    assert_int_equal(model_desc(m)->n_layer, 0);
    assert_int_equal(model_rows(m, 0, 1, 2, back, &e), 0);
    for (uint64_t k = 0; k < 2 * N; k++)
        assert_true(fabsf(back[k] - values[N + k]) < 0.01f);
    assert_memory_equal(model_rows_raw(m, 0, DT_Q8_0, 1, 2), blocks + 2 * 34, 4 * 34);
    assert_null(model_rows_raw(m, 0, DT_Q4_0, 0, 1));
    model_close(m);
    gguf_kvs_release(&kvs);
    hf_release(&h);
}

/* ---- fingerprints
 * ------------------------------------------------------------------------------- */

static void hash_of(const struct hf *h, char hex[65])
{
    struct err e = {.code = ERR_NONE};
    struct model *m = hf_open(h);
    assert_int_equal(model_hash(m, NULL, hex, &e), 0);
    assert_int_equal(strlen(hex), 64);
    model_close(m);
}

static void test_hash(void **state)
{
    (void)state;
    struct hf a, b;
    char first[65], second[65];
    hf_init(&a);
    hf_init(&b); /* another folder, same content */
    hf_write_all(&a);
    hf_write_all(&b);
    hash_of(&a, first);
    hash_of(&b, second);
    assert_string_equal(first, second);
    hf_write_text(&b, "README.md", "---\nlicense: mit\n---\n");
    hash_of(&b, second);
    assert_string_equal(first, second);
    hf_find(&b, "model.norm.weight")->seed = 77;
    hf_write_all(&b);
    hash_of(&b, second);
    assert_string_not_equal(first, second);
    a.more_config = ",\"rope_theta\":5000";
    hf_write_all(&a);
    hash_of(&a, second);
    assert_string_not_equal(first, second);
    hf_release(&a);
    hf_release(&b);
}

/* ---- the sample
 * --------------------------------------------------------------------------------- */

static void test_sample(void **state)
{
    (void)state;
    struct err e = {.code = ERR_NONE};
    struct model *m;
    const char *root = getenv("SINTRA_ROOT");
    char *path = fs_join(root ? root : ".", "models/sample/");
    if (model_open(&m, path, &e))
        fail_msg("%s", e.message);
    const struct model_desc *d = model_desc(m);
    assert_int_equal(d->parameters, 7344384);
    assert_int_equal(d->n_layer, 8);
    assert_true(d->tied);
    assert_int_equal(d->n_vocab, 4096);
    assert_int_equal(model_kv_bytes_per_token(d, (struct cache_types){0}), 4096);
    hf_text_is(m, "tokenizer.ggml.pre", "gpt-2");
    hf_text_is(m, "general.size_label", "7.3M");
    assert_true(hf_flag(m, "tokenizer.ggml.add_bos_token"));
    for (size_t i = 0; i < d->n_tensors; i++) {
        uint64_t n;
        xfree(rows(m, d->tensors[i].name, &n));
    }
    model_close(m);
    xfree(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describes),
        cmocka_unit_test(test_names_and_order),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_plain_rows),
        cmocka_unit_test(test_permuted_rows),
        cmocka_unit_test(test_row_ranges),
        cmocka_unit_test(test_raw_rows),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_refuses_nan),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_rope_scaling),
        cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_mistral_and_tied),
        cmocka_unit_test(test_architectures_listed),
        cmocka_unit_test(test_gguf_source),
        cmocka_unit_test(test_quantized_source),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_sample),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
