/* What tables of architectures do to stored tensors: stacks, splits, transposes, arithmetic; each
 * number checked against the fixture's, read as a whole and in bands of every size. */
#include "hf_fixture.h"

/* Element of a stored tensor. */
static float stored(struct hf *h, const char *name, uint64_t element)
{
    return hf_value(hf_find(h, name)->seed, element);
}

static void expect_bands(const struct model *m, int i, const float *whole)
{
    const struct model_tensor *t = &model_desc(m)->tensors[i];
    uint64_t n = t->shape.ne[0], all = shape_rows(&t->shape);
    float *band = xcalloc(n * all, sizeof *band);
    for (uint64_t step = 1; step <= all; step += step < 4 ? 1 : 7) {
        for (uint64_t r = 0; r < all; r += step) {
            uint64_t k = all - r < step ? all - r : step;
            model_rows_prefetch(m, i, r, k);
            assert_int_equal(model_rows(m, i, r, k, band, NULL), 0);
            assert_memory_equal(band, whole + r * n, k * n * sizeof *band);
            model_rows_forget(m, i, r, k);
        }
    }
    xfree(band);
}

/* All numbers of a tensor of this shape (ne order); to xfree. */
static float *numbers(const struct model *m, const char *name, uint64_t ne0, uint64_t ne1,
                      uint64_t ne2)
{
    struct err e;
    int i = model_find(m, name);
    if (i < 0)
        fail_msg("there is no tensor %s", name);
    const struct model_tensor *t = &model_desc(m)->tensors[i];
    assert_int_equal(t->shape.ne[0], ne0);
    assert_int_equal(t->shape.ne[1], ne1);
    assert_int_equal(t->shape.ne[2], ne2);
    float *out = xcalloc(ne0 * ne1 * ne2, sizeof *out);
    if (model_rows(m, i, 0, ne1 * ne2, out, &e))
        fail_msg("%s", e.message);
    expect_bands(m, i, out);
    return out;
}

/* ---- experts ---- */

enum { EXPERTS = 3 };

static void init_mixtral(struct hf *h)
{
    hf_init(h);
    h->architecture = "MixtralForCausalLM";
    h->more_config = ",\"num_local_experts\":3,\"num_experts_per_tok\":2";
    for (size_t i = 0; i < h->n; i++)
        h->tensors[i].dropped = strstr(h->tensors[i].name, ".mlp.") != NULL;
    for (int layer = 0; layer < h->layers; layer++) {
        hf_add_layer(h, layer, "block_sparse_moe.gate.weight", EXPERTS, h->hidden);
        for (int x = 0; x < EXPERTS; x++) {
            static const char *const names[] = {"w1", "w2", "w3"};
            for (int w = 0; w < 3; w++) {
                char name[64];
                snprintf(name, sizeof name, "block_sparse_moe.experts.%d.%s.weight", x, names[w]);
                bool down = w == 1;
                hf_add_layer(h, layer, name, down ? h->hidden : h->ffn, down ? h->ffn : h->hidden);
            }
        }
    }
}

static void test_experts(void **state)
{
    (void)state;
    struct hf h;
    init_mixtral(&h);
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    float *down = numbers(m, "blk.1.ffn_down_exps.weight", 24, 16, EXPERTS);
    for (uint64_t k = 0; k < 24 * 16 * EXPERTS; k++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.1.block_sparse_moe.experts.%d.w2.weight",
                 (int)(k / (24 * 16)));
        assert_true(down[k] == stored(&h, name, k % (24 * 16)));
    }
    int i = model_find(m, "blk.1.ffn_down_exps.weight");
    assert_non_null(model_rows_raw(m, i, DT_BF16, 16, 16)); /* one expert */
    assert_null(model_rows_raw(m, i, DT_BF16, 8, 16));      /* halves of two */
    assert_int_equal(model_desc(m)->n_expert, EXPERTS);
    assert_int_equal(model_desc(m)->tensors[model_find(m, "blk.0.ffn_gate_inp.weight")].dtype_min,
                     DT_F32);
    assert_int_equal(hf_number(m, "llama.expert_used_count"), 2);
    xfree(down);
    model_close(m);
    hf_release(&h);
}

/* A stack whose members lie in two files stands where the last of them is. */
static void test_experts_in_shards(void **state)
{
    (void)state;
    struct hf h;
    init_mixtral(&h);
    hf_write_config(&h);
    hf_write_text(&h, "tokenizer.json", h.tokenizer);
    size_t half = h.n - 14;
    hf_write_shard(&h, "model-00001-of-00002.safetensors", 0, half);
    hf_write_shard(&h, "model-00002-of-00002.safetensors", half, h.n);
    struct model *m = hf_open(&h);
    float *gate = numbers(m, "blk.0.ffn_gate_exps.weight", 16, 24, EXPERTS);
    assert_true(gate[2 * 16 * 24 + 5] ==
                stored(&h, "model.layers.0.block_sparse_moe.experts.2.w1.weight", 5));
    assert_true(model_find(m, "blk.0.ffn_gate_exps.weight") > model_find(m, "output.weight"));
    xfree(gate);
    model_close(m);
    hf_release(&h);
}

static void test_bad_experts(void **state)
{
    (void)state;
    struct hf h;
    init_mixtral(&h);
    struct hf_tensor *one = hf_find(&h, "model.layers.1.block_sparse_moe.experts.2.w3.weight");
    one->dropped = true;
    hf_write_all(&h);
    hf_refused(&h, ERR_MISSING, "model.layers.1.block_sparse_moe.experts.2.w3.weight", "block 1");
    one->dropped = false;
    one->name[strlen("model.layers.1.block_sparse_moe.experts.")] = '7';
    hf_write_all(&h);
    hf_refused(&h, ERR_INPUT, "experts.7.w3", "number 7", "says 3");
    one->name[strlen("model.layers.1.block_sparse_moe.experts.")] = '2';
    one->dims[0] = 23;
    hf_write_all(&h);
    hf_refused(&h, ERR_INPUT, "experts.2.w3", "[24, 16]");
    one->dims[0] = 24;
    one->nan = true;
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    struct err e;
    float rows[16 * 24 * EXPERTS];
    int i = model_find(m, "blk.1.ffn_up_exps.weight");
    assert_int_equal(model_rows(m, i, 0, 24 * EXPERTS, rows, &e), -1);
    assert_non_null(strstr(e.message, "experts.2.w3.weight"));
    assert_non_null(strstr(e.message, "row 23, column 15"));
    model_close(m);
    h.more_config = ",\"num_local_experts\":99999999";
    hf_write_config(&h);
    hf_refused(&h, ERR_INPUT, "num_local_experts", "99999999");
    hf_release(&h);
}

/* ---- transposes, splits, arithmetic ---- */

static void test_transposed(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.n = 0;
    h.layers = 1;
    h.tied = true;
    h.architecture = "GPT2LMHeadModel";
    hf_add(&h, "transformer.wte.weight", 8, 16);
    hf_add(&h, "transformer.wpe.weight", 64, 16);
    static const struct {
        const char *name;
        int rows, cols;
    } rest[] = {
        {"ln_1", 0, 16}, {"attn.c_attn", 16, 48}, {"attn.c_proj", 16, 16},
        {"ln_2", 0, 16}, {"mlp.c_fc", 16, 24},    {"mlp.c_proj", 24, 16},
    };
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        char name[96];
        snprintf(name, sizeof name, "transformer.h.0.%s.weight", rest[i].name);
        bool vector = rest[i].rows == 0;
        hf_add(&h, name, vector ? rest[i].cols : rest[i].rows, vector ? 0 : rest[i].cols);
        snprintf(name, sizeof name, "transformer.h.0.%s.bias", rest[i].name);
        hf_add(&h, name, rest[i].cols, 0);
    }
    hf_add(&h, "transformer.ln_f.weight", 16, 0);
    hf_add(&h, "transformer.ln_f.bias", 16, 0);
    h.more_config = ",\"layer_norm_epsilon\":1e-5";
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    float *qkv = numbers(m, "blk.0.attn_qkv.weight", 16, 48, 1);
    for (uint64_t k = 0; k < 16 * 48; k++)
        assert_true(qkv[k] ==
                    stored(&h, "transformer.h.0.attn.c_attn.weight", k % 16 * 48 + k / 16));
    assert_null(model_rows_raw(m, model_find(m, "blk.0.attn_qkv.weight"), DT_BF16, 0, 1));
    xfree(qkv);
    model_close(m);
    hf_release(&h);
}

/* One tensor becomes two, the first of them transposed inside each head. */
static void test_split(void **state)
{
    (void)state;
    enum { NOPE = 3, ROPE = 2, V = 5, RANK = 7, HEADS = 4 };
    struct hf h;
    hf_init(&h);
    h.architecture = "DeepseekV2ForCausalLM";
    h.more_config = ",\"qk_nope_head_dim\":3,\"qk_rope_head_dim\":2,\"v_head_dim\":5,"
                    "\"kv_lora_rank\":7,\"q_lora_rank\":null,\"n_routed_experts\":null";
    for (size_t i = 0; i < h.n; i++)
        h.tensors[i].dropped = strstr(h.tensors[i].name, ".self_attn.") != NULL;
    for (int layer = 0; layer < h.layers; layer++) {
        hf_add_layer(&h, layer, "self_attn.q_proj.weight", HEADS * (NOPE + ROPE), 16);
        hf_add_layer(&h, layer, "self_attn.kv_a_proj_with_mqa.weight", RANK + ROPE, 16);
        hf_add_layer(&h, layer, "self_attn.kv_a_layernorm.weight", RANK, 0);
        hf_add_layer(&h, layer, "self_attn.kv_b_proj.weight", HEADS * (NOPE + V), RANK);
        hf_add_layer(&h, layer, "self_attn.o_proj.weight", 16, HEADS * V);
    }
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    const char *kv_b = "model.layers.1.self_attn.kv_b_proj.weight";
    float *k_b = numbers(m, "blk.1.attn_k_b.weight", NOPE, RANK, HEADS);
    float *v_b = numbers(m, "blk.1.attn_v_b.weight", RANK, V, HEADS);
    for (uint64_t head = 0; head < HEADS; head++) {
        uint64_t first = head * (NOPE + V) * RANK;
        for (uint64_t r = 0; r < RANK; r++)
            for (uint64_t c = 0; c < NOPE; c++)
                assert_true(k_b[(head * RANK + r) * NOPE + c] ==
                            stored(&h, kv_b, first + c * RANK + r));
        for (uint64_t k = 0; k < V * RANK; k++)
            assert_true(v_b[head * V * RANK + k] == stored(&h, kv_b, first + NOPE * RANK + k));
    }
    assert_int_equal(hf_number(m, "deepseek2.attention.head_count_kv"), 1);
    assert_int_equal(hf_number(m, "deepseek2.attention.key_length"), RANK + ROPE);
    xfree(k_b);
    xfree(v_b);
    model_close(m);
    h.more_config = ",\"qk_nope_head_dim\":3,\"qk_rope_head_dim\":2,\"v_head_dim\":5.5,"
                    "\"kv_lora_rank\":7,\"q_lora_rank\":null";
    hf_write_config(&h);
    hf_refused(&h, ERR_INPUT, "config.json");
    hf_release(&h);
}

static void test_add_one(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.architecture = "GemmaForCausalLM";
    h.tied = true;
    h.more_config = ",\"head_dim\":4,\"hidden_act\":\"gelu_pytorch_tanh\"";
    hf_find(&h, "lm_head.weight")->dropped = true;
    hf_find(&h, "model.norm.weight")->dtype = DT_F16;
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    float *a = numbers(m, "blk.0.attn_norm.weight", 16, 1, 1);
    float *b = numbers(m, "output_norm.weight", 16, 1, 1);
    for (uint64_t k = 0; k < 16; k++) {
        assert_true(a[k] == 1 + stored(&h, "model.layers.0.input_layernorm.weight", k));
        assert_true(b[k] == 1 + stored(&h, "model.norm.weight", k));
    }
    assert_null(model_rows_raw(m, model_find(m, "output_norm.weight"), DT_F16, 0, 1));
    assert_true(model_desc(m)->tied);
    xfree(a);
    xfree(b);
    model_close(m);
    hf_release(&h);
}

/* ---- FP8 ---- */

/* Each block of 5 rows and 7 columns of q has a scale, the last ones are cut off; the rows of q are
 * permuted, so that runs begin anywhere. */
static void test_fp8(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.more_config = ",\"quantization_config\":{\"quant_method\":\"fp8\","
                    "\"weight_block_size\":[5,7]}";
    hf_find(&h, "model.layers.1.self_attn.q_proj.weight")->dtype = DT_F8_E4M3;
    const char *scale_name = "model.layers.1.self_attn.q_proj.weight_scale_inv";
    hf_add(&h, scale_name, 4, 3)->dtype = DT_F32;
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    float *q = numbers(m, "blk.1.attn_q.weight", 16, 16, 1);
    int seed = hf_find(&h, "model.layers.1.self_attn.q_proj.weight")->seed;
    for (uint64_t r = 0; r < 16; r++) {
        uint64_t from = r / 4 * 4 + r % 2 * 2 + r % 4 / 2; /* heads of 4 */
        for (uint64_t c = 0; c < 16; c++) {
            uint8_t raw = (uint8_t)(((from * 16 + c) * 37 + (uint64_t)seed) & 0xf7);
            float v;
            assert_int_equal(convert_to_f32(DT_F8_E4M3, &raw, &v, 1), 0);
            assert_true(q[r * 16 + c] == v * stored(&h, scale_name, from / 5 * 3 + c / 7));
        }
    }
    assert_null(model_rows_raw(m, model_find(m, "blk.1.attn_q.weight"), DT_F8_E4M3, 0, 1));
    xfree(q);
    model_close(m);
    hf_find(&h, scale_name)->dims[1] = 2;
    hf_write_all(&h);
    hf_refused(&h, ERR_INPUT, scale_name, "[4, 3]", "FP8");
    hf_find(&h, scale_name)->dims[1] = 3;
    hf_find(&h, scale_name)->nan = true;
    hf_write_all(&h);
    m = hf_open(&h);
    float row[16 * 16];
    struct err e;
    assert_int_equal(model_rows(m, model_find(m, "blk.1.attn_q.weight"), 0, 16, row, &e), -1);
    assert_non_null(strstr(e.message, "NaN"));
    model_close(m);
    hf_find(&h, scale_name)->dropped = true;
    hf_write_all(&h);
    hf_refused(&h, ERR_MISSING, "q_proj.weight", "is missing");
    h.more_config = ",\"quantization_config\":{\"quant_method\":\"fp8\","
                    "\"weight_block_size\":[0,7]}";
    hf_write_config(&h);
    hf_refused(&h, ERR_INPUT, "weight_block_size");
    hf_release(&h);
}

/* ---- config.json ---- */

/* Fields that a table asks for must be there, of the right kind, and make sense together. */
static void test_fields(void **state)
{
    (void)state;
    static const struct {
        const char *architecture, *more, *word;
    } cases[] = {
        {"DeepseekV2ForCausalLM", ",\"kv_lora_rank\":\"x\"", "kv_lora_rank"},
        {"DeepseekV2ForCausalLM", ",\"kv_lora_rank\":-3", "kv_lora_rank"},
        {"DeepseekV2ForCausalLM", ",\"qk_rope_head_dim\":3", "qk_rope_head_dim"},
        {"DeepseekV2ForCausalLM", ",\"scoring_func\":\"magic\"", "magic"},
        {"Phi3ForCausalLM",
         ",\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[1],\"short_factor\":[1,1]}",
         "long_factor"},
        {"Phi3ForCausalLM", ",\"partial_rotary_factor\":0", "partial_rotary_factor"},
        {"FalconForCausalLM", ",\"alibi\":true,\"activation\":\"gelu\"", "alibi"},
        {"MambaForCausalLM", "", "intermediate_size"},
        {"MiniCPMForCausalLM", ",\"scale_depth\":null", "scale_depth"},
        {"MPTForCausalLM", ",\"attn_config\":{\"kv_n_heads\":3}", "kv_n_heads"},
        {"BloomForCausalLM", ",\"seq_length\":-1", "seq_length"},
    };
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m = NULL;
        struct err e = {.code = ERR_NONE};
        h.architecture = cases[i].architecture;
        h.more_config = cases[i].more;
        hf_write_config(&h);
        assert_int_equal(model_open(&m, h.dir, &e), -1);
        if (!strstr(e.message, cases[i].word))
            fail_msg("\"%s\" is not in: %s", cases[i].word, e.message);
    }
    hf_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_experts),     cmocka_unit_test(test_experts_in_shards),
        cmocka_unit_test(test_bad_experts), cmocka_unit_test(test_transposed),
        cmocka_unit_test(test_split),       cmocka_unit_test(test_add_one),
        cmocka_unit_test(test_fields),      cmocka_unit_test(test_fp8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
