/* Encoders: positions cut off, pooling and labels from beside config.json, and that nothing of them
 * is measured. */
#include "hf_fixture.h"

enum { POSITIONS = 64, OFFSET = 2 };

static void add_norm(struct hf *h, const char *stem, bool old_names)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", stem, old_names ? "gamma" : "weight");
    hf_add(h, name, h->hidden, 0);
    snprintf(name, sizeof name, "%s.%s", stem, old_names ? "beta" : "bias");
    hf_add(h, name, h->hidden, 0);
}

static void add_linear(struct hf *h, const char *stem, int rows, int cols)
{
    char name[96];
    snprintf(name, sizeof name, "%s.weight", stem);
    hf_add(h, name, rows, cols);
    snprintf(name, sizeof name, "%s.bias", stem);
    hf_add(h, name, rows, 0);
}

static void init_encoder(struct hf *h, const char *architecture, const char *prefix, bool old_names)
{
    hf_init(h);
    h->architecture = architecture;
    h->more_config = ",\"hidden_act\":\"gelu\",\"type_vocab_size\":1,\"pad_token_id\":1";
    h->kv_heads = h->heads;
    h->n = 0;
    char name[96];
    snprintf(name, sizeof name, "%sembeddings.word_embeddings.weight", prefix);
    hf_add(h, name, h->vocab, h->hidden);
    snprintf(name, sizeof name, "%sembeddings.position_embeddings.weight", prefix);
    hf_add(h, name, POSITIONS, h->hidden);
    snprintf(name, sizeof name, "%sembeddings.token_type_embeddings.weight", prefix);
    hf_add(h, name, 1, h->hidden);
    snprintf(name, sizeof name, "%sembeddings.LayerNorm", prefix);
    add_norm(h, name, old_names);
    for (int i = 0; i < h->layers; i++) {
        static const char *const parts[] = {"attention.self.query", "attention.self.key",
                                            "attention.self.value", "attention.output.dense"};
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
            snprintf(name, sizeof name, "%sencoder.layer.%d.%s", prefix, i, parts[k]);
            add_linear(h, name, h->hidden, h->hidden);
        }
        snprintf(name, sizeof name, "%sencoder.layer.%d.attention.output.LayerNorm", prefix, i);
        add_norm(h, name, old_names);
        snprintf(name, sizeof name, "%sencoder.layer.%d.intermediate.dense", prefix, i);
        add_linear(h, name, h->ffn, h->hidden);
        snprintf(name, sizeof name, "%sencoder.layer.%d.output.dense", prefix, i);
        add_linear(h, name, h->hidden, h->ffn);
        snprintf(name, sizeof name, "%sencoder.layer.%d.output.LayerNorm", prefix, i);
        add_norm(h, name, old_names);
    }
}

static void write_pooling(const struct hf *h, const char *folder, const char *pooling)
{
    char path[300], modules[300];
    hf_path(h, "1_Pooling", path);
    assert_int_equal(fs_mkdirs(path, NULL), 0);
    snprintf(modules, sizeof modules,
             "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
             "{\"path\":\"%s\",\"type\":\"sentence_transformers.models.Pooling\"}]",
             folder);
    hf_write_text(h, "modules.json", modules);
    hf_write_text(h, "1_Pooling/config.json", pooling);
}

/* RoBERTa's first two positions are those of padding. */
static void test_positions(void **state)
{
    (void)state;
    struct hf h;
    struct err e;
    init_encoder(&h, "RobertaModel", "roberta.", false);
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    int i = model_find(m, "position_embd.weight");
    assert_true(i >= 0);
    const struct model_tensor *t = &model_desc(m)->tensors[i];
    assert_int_equal(t->shape.ne[1], POSITIONS - OFFSET);
    assert_int_equal(t->dtype_min, DT_F32);
    assert_int_equal(hf_number(m, "bert.context_length"), POSITIONS - OFFSET);
    float row[16];
    int seed = hf_find(&h, "roberta.embeddings.position_embeddings.weight")->seed;
    for (uint64_t r = 0; r < POSITIONS - OFFSET; r++) {
        if (model_rows(m, i, r, 1, row, &e))
            fail_msg("%s", e.message);
        for (uint64_t c = 0; c < 16; c++)
            assert_true(row[c] == hf_value(seed, (r + OFFSET) * 16 + c));
    }
    assert_int_equal(hf_number(m, "tokenizer.ggml.token_type_count"), 1);
    assert_false(hf_flag(m, "bert.attention.causal"));
    assert_false(hf_has(m, "bert.pooling_type"));
    model_close(m);
    h.more_config = ",\"hidden_act\":\"gelu\",\"type_vocab_size\":1,\"pad_token_id\":64";
    hf_write_config(&h);
    hf_refused(&h, ERR_UNSUPPORTED, "pad_token_id");
    h.more_config = ",\"hidden_act\":\"gelu\",\"position_embedding_type\":\"relative_key\"";
    hf_write_config(&h);
    hf_refused(&h, ERR_UNSUPPORTED, "position_embedding_type");
    hf_release(&h);
}

static void test_pooling(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t type;
    } cases[] = {
        {"{\"pooling_mode_mean_tokens\":true}", 1},
        {"{\"pooling_mode_mean_tokens\":false,\"pooling_mode_cls_token\":true}", 2},
        {"{\"pooling_mode_lasttoken\":true}", 3},
        {"{\"pooling_mode\":\"cls\"}", 2},
    };
    struct hf h;
    init_encoder(&h, "BertModel", "", true);
    hf_write_all(&h);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_pooling(&h, "1_Pooling", cases[i].text);
        struct model *m = hf_open(&h);
        assert_int_equal(hf_number(m, "bert.pooling_type"), cases[i].type);
        assert_true(model_find(m, "blk.1.layer_output_norm.bias") >= 0);
        model_close(m);
    }
    write_pooling(&h, "1_Pooling", "{\"pooling_mode_max_tokens\":true}");
    hf_refused(&h, ERR_UNSUPPORTED, "1_Pooling/config.json", "mean");
    write_pooling(&h, "../1_Pooling", "{\"pooling_mode_mean_tokens\":true}");
    hf_refused(&h, ERR_INPUT, "modules.json", "name of a folder");
    write_pooling(&h, "2_Pooling", "{\"pooling_mode_mean_tokens\":true}");
    hf_refused(&h, ERR_MISSING, "2_Pooling/config.json");
    hf_write_text(&h, "modules.json", "[{\"type\":3}, 7, {\"path\":1}]"); /* no pooling in it */
    model_close(hf_open(&h));
    hf_release(&h);
}

static void test_labels(void **state)
{
    (void)state;
    struct hf h;
    init_encoder(&h, "RobertaForSequenceClassification", "roberta.", false);
    add_linear(&h, "classifier.dense", h.hidden, h.hidden);
    add_linear(&h, "classifier.out_proj", 3, h.hidden);
    h.more_config = ",\"hidden_act\":\"gelu\",\"type_vocab_size\":1,"
                    "\"id2label\":{\"2\":\"c\",\"0\":\"a\",\"1\":\"b\"}";
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    const struct gguf_kv *kv = gguf_kvs_find(model_kvs(m), "bert.classifier.output_labels");
    assert_non_null(kv);
    assert_int_equal(kv->count, 3);
    assert_true(model_find(m, "cls.bias") >= 0);
    assert_int_equal(model_desc(m)->tensors[model_find(m, "cls.output.weight")].shape.ne[1], 3);
    model_close(m);
    h.more_config = ",\"hidden_act\":\"gelu\",\"type_vocab_size\":1,"
                    "\"id2label\":{\"1\":\"a\",\"2\":\"b\",\"3\":\"c\"}";
    hf_write_config(&h);
    hf_refused(&h, ERR_INPUT, "id2label");
    h.more_config = ",\"hidden_act\":\"gelu\",\"type_vocab_size\":1"; /* two labels then */
    hf_write_config(&h);
    hf_refused(&h, ERR_INPUT, "classifier.out_proj");
    hf_find(&h, "classifier.out_proj.weight")->dropped = true;
    hf_find(&h, "classifier.out_proj.bias")->dropped = true;
    hf_write_all(&h);
    hf_refused(&h, ERR_MISSING, "classifier.out_proj.weight");
    hf_release(&h);
}

static void test_not_measured(void **state)
{
    (void)state;
    struct hf h;
    struct err e = {.code = ERR_NONE};
    init_encoder(&h, "BertModel", "bert.", false);
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    assert_true(model_desc(m)->encoder);
    assert_int_equal(model_kv_bytes_per_token(model_desc(m), (struct cache_types){0}), 0);
    assert_int_equal(model_check_generates(m, &e), -1);
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "encoder (bert)"));
    assert_non_null(strstr(e.hint, "quantize"));
    model_close(m);
    hf_release(&h);
    hf_init(&h);
    hf_write_all(&h);
    m = hf_open(&h);
    assert_false(model_desc(m)->encoder);
    assert_int_equal(model_check_generates(m, &e), 0);
    model_close(m);
    hf_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_pooling),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_not_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
