/* Bad model folders: each is refused with a sentence that names what is wrong, and nothing
 * crashes. */
#include <unistd.h>

#include "hf_fixture.h"

#include "base/rng.h"

static void refuse_config(const char *more, enum err_code code, const char *word, const char *other)
{
    struct hf h;
    hf_init(&h);
    h.more_config = more;
    hf_write_all(&h);
    hf_refused(&h, code, "config.json", word, other);
    hf_release(&h);
}

/* ---- files
 * -------------------------------------------------------------------------------------- */

static void test_paths(void **state)
{
    (void)state;
    struct hf h;
    struct err e = {.code = ERR_NONE};
    struct model *m = NULL;
    char path[300];
    hf_init(&h);
    hf_refused(&h, ERR_MISSING, "config.json", "safetensors");
    hf_write_all(&h);
    hf_path(&h, "nothing", path);
    assert_int_equal(model_open(&m, path, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_non_null(strstr(e.message, "nothing"));
    hf_path(&h, "model.safetensors", path);
    assert_int_equal(model_open(&m, path, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    hf_write_text(&h, "bad.gguf", "GGUX and some more bytes that are no model");
    hf_path(&h, "bad.gguf", path);
    assert_int_equal(model_open(&m, path, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_null(m);
    hf_remove(&h, "tokenizer.json");
    hf_refused(&h, ERR_MISSING, "tokenizer.json");
    hf_release(&h);
}

static void test_no_weights(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    hf_remove(&h, "model.safetensors");
    hf_refused(&h, ERR_MISSING, "model*.safetensors");
    hf_write_text(&h, "pytorch_model.bin", "PK");
    hf_refused(&h, ERR_UNSUPPORTED, "pytorch_model.bin", "pickled");
    hf_write_text(&h, "consolidated.safetensors", "x");
    hf_refused(&h, ERR_UNSUPPORTED, "consolidated.safetensors", "layout of Hugging Face");
    hf_write_text(&h, "adapter_model.safetensors", "x");
    hf_refused(&h, ERR_UNSUPPORTED, "adapter (LoRA)", "base_model_name_or_path");
    hf_remove(&h, "consolidated.safetensors");
    hf_remove(&h, "adapter_model.safetensors");
    char path[300];
    struct model *m;
    struct err e = {0};
    hf_path(&h, "pytorch_model.bin", path);
    assert_int_equal(model_open(&m, path, &e), -1);
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "never opened"));
    hf_write_text(&h, "pytorch_model.bin", "\x80\x02}q");
    assert_int_equal(model_open(&m, path, &e), -1);
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    hf_write_text(&h, "model.safetensors",
                  "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14\n");
    hf_refused(&h, ERR_INPUT, "Git LFS pointer", "git lfs pull");
    hf_write_text(&h, "model.safetensors", "short");
    hf_refused(&h, ERR_INPUT, "model.safetensors");
    hf_release(&h);
}

static void write_two_shards(const struct hf *h)
{
    hf_write_config(h);
    hf_write_text(h, "tokenizer.json", h->tokenizer);
    hf_write_shard(h, "model-00001-of-00002.safetensors", 0, 9);
    hf_write_shard(h, "model-00002-of-00002.safetensors", 9, h->n);
}

static void write_index(const struct hf *h, const char *second, const char *more)
{
    struct buf b;
    buf_init(&b, 1u << 16);
    buf_adds(&b, "{\"weight_map\":{");
    for (size_t i = 0; i < h->n; i++)
        buf_addf(&b, "%s\"%s\":\"%s\"", i ? "," : "", h->tensors[i].name,
                 i < 9 ? "model-00001-of-00002.safetensors" : second);
    buf_addf(&b, "%s}}", more);
    hf_write(h, "model.safetensors.index.json", b.data, b.len);
    buf_release(&b);
}

static void test_shards(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    write_two_shards(&h);
    hf_remove(&h, "model-00001-of-00002.safetensors");
    hf_refused(&h, ERR_MISSING, "shard 1 of 2 is missing", "model-00001-of-00002.safetensors");
    write_index(&h, "model-00002-of-00002.safetensors", "");
    hf_refused(&h, ERR_MISSING, "model-00001-of-00002.safetensors", "9 of 21 tensors");
    write_two_shards(&h);
    write_index(&h, "../../../etc/passwd", "");
    hf_refused(&h, ERR_INPUT, "../../../etc/passwd", "same folder");
    write_index(&h, ".hidden", "");
    hf_refused(&h, ERR_INPUT, ".hidden");
    write_index(&h, "model-00001-of-00002.safetensors", "");
    hf_refused(&h, ERR_MISSING, "model-00001-of-00002.safetensors", "does not have it");
    write_index(&h, "model-00002-of-00002.safetensors",
                ",\"model.extra\":\"model-00002-of-00002.safetensors\"");
    hf_refused(&h, ERR_MISSING, "model.extra");
    hf_write_text(&h, "model.safetensors.index.json", "{\"weight_map\":{}}");
    hf_refused(&h, ERR_INPUT, "weight_map");
    hf_write_text(&h, "model.safetensors.index.json", "{\"weight_map\":{\"a\":3}}");
    hf_refused(&h, ERR_INPUT, "not a string");
    hf_release(&h);
}

static void test_index_and_shards_differ(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    write_two_shards(&h);
    hf_find(&h, "model.norm.weight")->dropped = true;
    write_index(&h, "model-00002-of-00002.safetensors", "");
    hf_write_shard(&h, "model-00002-of-00002.safetensors", 9, h.n);
    hf_refused(&h, ERR_MISSING, "model.norm.weight", "does not have it");
    h.n--; /* the index forgets lm_head.weight, which the shard has */
    write_index(&h, "model-00002-of-00002.safetensors", "");
    hf_refused(&h, ERR_INPUT, "lm_head.weight", "no file");
    hf_release(&h);
}

static void test_tensor_twice(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    hf_write_shard(&h, "model_copy.safetensors", 3, 5);
    model_close(hf_open(&h)); /* model.safetensors is whole by its name */
    hf_write_shard(&h, "model_whole.safetensors", 0, h.n);
    char *path = fs_join(h.dir, "model.safetensors");
    assert_int_equal(unlink(path), 0);
    xfree(path);
    hf_refused(&h, ERR_INPUT, "another file", "model.layers.0.");
    hf_release(&h);
}

/* ---- tensors
 * ------------------------------------------------------------------------------------ */

static void test_missing_tensors(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_find(&h, "model.layers.1.mlp.up_proj.weight")->dropped = true;
    hf_write_all(&h);
    hf_refused(&h, ERR_MISSING, "model.layers.1.mlp.up_proj.weight (block 1 of 0 to 1) is missing");
    hf_find(&h, "model.layers.0.mlp.up_proj.weight")->dropped = true;
    hf_find(&h, "model.norm.weight")->dropped = true;
    hf_write_all(&h);
    hf_refused(&h, ERR_MISSING, "is missing, and 2 more");
    hf_release(&h);
    hf_init(&h);
    hf_find(&h, "lm_head.weight")->dropped = true;
    hf_write_all(&h);
    hf_refused(&h, ERR_MISSING, "lm_head.weight", "tie_word_embeddings");
    hf_release(&h);
}

static void test_unknown_tensors(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_add_layer(&h, 0, "self_attn.rotary_emb.inv_freq", 2, 0); /* in old checkpoints; no weight */
    hf_write_all(&h);
    model_close(hf_open(&h));
    hf_add_layer(&h, 0, "mlp.experts.0.weight", 4, 4);
    hf_write_all(&h);
    hf_refused(&h, ERR_UNSUPPORTED, "model.layers.0.mlp.experts.0.weight", "LlamaForCausalLM");
    hf_release(&h);
    hf_init(&h);
    hf_add_layer(&h, 2, "input_layernorm.weight", 16, 0);
    hf_write_all(&h);
    hf_refused(&h, ERR_INPUT, "model.layers.2.input_layernorm.weight", "num_hidden_layers",
               "2 blocks");
    hf_release(&h);
}

static void test_shapes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int rows, cols;
        const char *word;
    } cases[] = {
        {"model.embed_tokens.weight", 9, 16, "[8, 16]"},
        {"model.layers.0.self_attn.q_proj.weight", 16, 8, "[16, 16]"},
        {"model.layers.1.self_attn.k_proj.weight", 16, 16, "[8, 16]"},
        {"model.layers.0.mlp.down_proj.weight", 24, 16, "[16, 24]"},
        {"model.norm.weight", 15, 0, "[16]"},
        {"model.norm.weight", 16, 1, "[16, 1]"},
        {"lm_head.weight", 128, 0, "[128]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hf h;
        hf_init(&h);
        struct hf_tensor *t = hf_find(&h, cases[i].name);
        t->dims[0] = (uint64_t)cases[i].rows;
        t->dims[1] = (uint64_t)cases[i].cols;
        t->n_dims = cases[i].cols ? 2 : 1;
        hf_write_all(&h);
        hf_refused(&h, ERR_INPUT, cases[i].name, cases[i].word, "config.json implies",
                   "hidden_size 16");
        hf_release(&h);
    }
}

static void test_types(void **state)
{
    (void)state;
    static const enum dtype types[] = {DT_I32, DT_U8, DT_F8_E4M3, DT_BOOL};
    for (size_t i = 0; i < 4; i++) {
        struct hf h;
        hf_init(&h);
        hf_find(&h, "model.layers.0.mlp.up_proj.weight")->dtype = types[i];
        hf_write_all(&h);
        hf_refused(&h, ERR_UNSUPPORTED, "model.layers.0.mlp.up_proj.weight", dtype_name(types[i]));
        hf_release(&h);
    }
}

static void test_biases(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.more_config = ",\"attention_bias\":true";
    hf_write_all(&h);
    hf_refused(&h, ERR_MISSING, "model.layers.0.self_attn.q_proj.bias");
    hf_add_layer(&h, 0, "self_attn.q_proj.bias", 16, 0);
    h.more_config = ",\"attention_bias\":false";
    hf_write_all(&h);
    hf_refused(&h, ERR_INPUT, "attention_bias false", "model.layers.0.self_attn.q_proj.bias");
    h.more_config = ""; /* not stated: what is there counts, but for all blocks alike */
    hf_write_all(&h);
    hf_refused(&h, ERR_MISSING, "model.layers.1.self_attn.q_proj.bias");
    hf_release(&h);
}

/* ---- config.json
 * -------------------------------------------------------------------------------- */

static void test_architectures(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.architecture = "GrokForCausalLM"; /* llama.cpp has it */
    hf_write_all(&h);
    hf_refused(&h, ERR_UNSUPPORTED, "GrokForCausalLM", "\"grok\"", "table",
               "convert_hf_to_gguf.py");
    h.architecture = "NeoBERT";
    hf_write_config(&h);
    hf_refused(&h, ERR_UNSUPPORTED, "NeoBERT", "encoders");
    h.architecture = "Qwen3ForCausalL"; /* nobody has it */
    hf_write_config(&h);
    hf_refused(&h, ERR_UNSUPPORTED, "Qwen3ForCausalL\"", "neither", "docs/conversion.md");
    hf_write_text(&h, "config.json", "{\"model_type\":\"llama\"}");
    hf_refused(&h, ERR_INPUT, "architecture");
    hf_release(&h);
}

static void test_numbers(void **state)
{
    (void)state;
    static const char *const fields[] = {"vocab_size", "hidden_size", "intermediate_size",
                                         "num_hidden_layers", "num_attention_heads"};
    static const char *const values[] = {"0", "-1", "1e3", "\"8\"", "true", "99999999999", "[1]"};
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    for (size_t f = 0; f < 5; f++) {
        for (size_t v = 0; v <= 7; v++) {
            struct buf b;
            buf_init(&b, 4096);
            buf_adds(&b, "{\"architectures\":[\"LlamaForCausalLM\"]");
            for (size_t k = 0; k < 5; k++)
                if (k != f)
                    buf_addf(&b, ",\"%s\":4", fields[k]);
            if (v < 7)
                buf_addf(&b, ",\"%s\":%s", fields[f], values[v]);
            buf_addc(&b, '}');
            hf_write(&h, "config.json", b.data, b.len);
            buf_release(&b);
            hf_refused(&h, ERR_INPUT, fields[f], "config.json");
        }
    }
    hf_release(&h);
}

static void test_relations(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.kv_heads = 3;
    hf_write_config(&h);
    hf_refused(&h, ERR_INPUT, "num_key_value_heads 3", "num_attention_heads 4");
    h.kv_heads = 2;
    h.heads = 6;
    hf_write_config(&h);
    hf_refused(&h, ERR_INPUT, "hidden_size 16", "num_attention_heads 6");
    h.heads = 4;
    h.head_dim = 5;
    hf_write_config(&h);
    hf_refused(&h, ERR_INPUT, "head_dim is 5", "even");
    hf_release(&h);
}

static void test_kinds(void **state)
{
    (void)state;
    refuse_config(",\"quantization_config\":{\"quant_method\":\"aqlm\"}", ERR_UNSUPPORTED, "aqlm",
                  "already quantized");
    refuse_config(",\"hidden_act\":\"gelu\"", ERR_UNSUPPORTED, "gelu", "silu");
    refuse_config(",\"rope_scaling\":{\"type\":\"longrope\"}", ERR_UNSUPPORTED, "longrope", "yarn");
    refuse_config(",\"rope_scaling\":{\"type\":\"linear\"}", ERR_INPUT, "factor", "RoPE");
    refuse_config(",\"rope_scaling\":7", ERR_INPUT, "rope_scaling", "object");
    refuse_config(",\"rope_theta\":-1", ERR_INPUT, "rope_theta", "positive");
    refuse_config(
        ",\"rope_scaling\":{\"type\":\"llama3\",\"low_freq_factor\":4,\"high_freq_factor\":1}",
        ERR_INPUT, "low_freq_factor", "llama3");
}

/* ---- hostile bytes
 * ------------------------------------------------------------------------------ */

static void test_broken_json(void **state)
{
    (void)state;
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json", "special_tokens_map.json"};
    static const char *const texts[] = {"",           "{",  "[]", "null", "{\"a\":1,\"a\":2}",
                                        "\xff\xfe{}", "{}x"};
    for (size_t f = 0; f < 5; f++) {
        struct hf h;
        hf_init(&h);
        hf_write_all(&h);
        for (size_t t = 0; t < 7; t++) {
            hf_write_text(&h, files[f], texts[t]);
            hf_refused(&h, ERR_INPUT, files[f]);
        }
        hf_release(&h);
    }
}

static void test_deep_json(void **state)
{
    (void)state;
    struct hf h;
    struct buf b;
    hf_init(&h);
    hf_write_all(&h);
    buf_init(&b, 1u << 20);
    buf_adds(&b, "{\"architectures\":");
    for (int i = 0; i < 100000; i++)
        buf_addc(&b, '[');
    hf_write(&h, "config.json", b.data, b.len);
    buf_release(&b);
    hf_refused(&h, ERR_INPUT, "config.json");
    hf_release(&h);
}

static void silent(void *ud, enum log_level level, const char *text)
{
    (void)ud;
    (void)level;
    (void)text;
}

/* Random damage to every file: it opens or is refused, with a code and a sentence. */
static void test_random_damage(void **state)
{
    (void)state;
    static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors",
                                        "README.md", "tokenizer_config.json"};
    struct hf h;
    struct rng r;
    rng_seed(&r, 20);
    hf_init(&h);
    hf_write_all(&h);
    hf_write_text(&h, "README.md", "---\nlicense: mit\ntags: [a, b]\nbase_model:\n- x/y-7b\n---\n");
    hf_write_text(
        &h, "tokenizer_config.json",
        "{\"bos_token\":\"<s>\",\"chat_template\":[{\"name\":\"default\",\"template\":\"x\"}]}");
    log_set_sink(silent, NULL);
    for (int round = 0; round < 1500; round++) {
        const char *file = files[rng_below(&r, 5)];
        char path[300], *data;
        size_t n;
        struct err e = {.code = ERR_NONE};
        hf_path(&h, file, path);
        assert_int_equal(fs_read_all(path, 1u << 20, &data, &n, &e), 0);
        char *bad = xmalloc(n + 1);
        memcpy(bad, data, n);
        size_t window = n < 600 ? n : 600; /* of safetensors: mostly the header */
        for (uint64_t k = rng_below(&r, 4); k + 1 > 0 && k < 4; k--)
            bad[rng_below(&r, window)] =
                (char)(rng_below(&r, 2) ? "\"{}[],:0-9e"[rng_below(&r, 11)] : (char)rng_next(&r));
        hf_write(&h, file, bad, rng_below(&r, 4) ? n : (size_t)rng_below(&r, n + 1));
        struct model *m = NULL;
        if (model_open(&m, h.dir, &e)) {
            assert_int_not_equal(e.code, ERR_NONE);
            assert_int_not_equal(e.code, ERR_BUG);
            assert_true(e.message[0] != '\0');
        }
        model_close(m);
        hf_write(&h, file, data, n);
        xfree(bad);
        xfree(data);
    }
    log_set_sink(NULL, NULL);
    model_close(hf_open(&h));
    hf_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),           cmocka_unit_test(test_no_weights),
        cmocka_unit_test(test_shards),          cmocka_unit_test(test_index_and_shards_differ),
        cmocka_unit_test(test_tensor_twice),    cmocka_unit_test(test_missing_tensors),
        cmocka_unit_test(test_unknown_tensors), cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_types),           cmocka_unit_test(test_biases),
        cmocka_unit_test(test_architectures),   cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_relations),       cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_broken_json),     cmocka_unit_test(test_deep_json),
        cmocka_unit_test(test_random_damage),
    };
    return cmocka_run_group_tests_name("model_errors", tests, NULL, NULL);
}
