/* Tokenizers, special tokens, chat templates and general.* of a model folder. */
#include "hf_fixture.h"

static void expect_strings(const struct model *m, const char *key, const char *const *expected,
                           size_t n)
{
    const struct gguf_kv *kv = gguf_kvs_find(model_kvs(m), key);
    assert_non_null(kv);
    assert_int_equal(kv->type, GGUF_ARRAY);
    assert_int_equal(kv->element, GGUF_STR);
    assert_int_equal(kv->count, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(kv->strs[i].len, strlen(expected[i]));
        assert_memory_equal(kv->strs[i].data, expected[i], strlen(expected[i]));
    }
}

static void expect_types(const struct model *m, const int *expected, size_t n)
{
    const struct gguf_kv *kv = gguf_kvs_find(model_kvs(m), "tokenizer.ggml.token_type");
    assert_non_null(kv);
    assert_int_equal(kv->element, GGUF_I32);
    assert_int_equal(kv->count, n);
    for (size_t i = 0; i < n; i++) {
        int32_t v;
        memcpy(&v, (const char *)kv->raw + i * 4, 4);
        assert_int_equal(v, expected[i]);
    }
}

static float score(const struct model *m, size_t i)
{
    const struct gguf_kv *kv = gguf_kvs_find(model_kvs(m), "tokenizer.ggml.scores");
    float v;
    assert_non_null(kv);
    assert_true(i < kv->count);
    memcpy(&v, (const char *)kv->raw + i * 4, 4);
    return v;
}

/* ---- byte-level
 * --------------------------------------------------------------------------------- */

static void test_byte_level(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    hf_write_text(
        &h, "tokenizer_config.json",
        "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},\"add_bos_token\":true}");
    struct model *m = hf_open(&h);
    hf_text_is(m, "tokenizer.ggml.model", "gpt2");
    hf_text_is(m, "tokenizer.ggml.pre", "gpt-2");
    expect_strings(m, "tokenizer.ggml.tokens",
                   (const char *const[]){"<s>", "</s>", "a", "b", "ab", "aba", "<plain>", "[PAD7]"},
                   8);
    expect_types(m, (const int[]){3, 3, 1, 1, 1, 1, 4, 5}, 8);
    expect_strings(m, "tokenizer.ggml.merges", (const char *const[]){"a b", "ab a"}, 2);
    assert_false(hf_has(m, "tokenizer.ggml.scores"));
    assert_int_equal(hf_number(m, "tokenizer.ggml.bos_token_id"), 0);
    assert_int_equal(hf_number(m, "tokenizer.ggml.eos_token_id"), 1);
    assert_true(hf_flag(m, "tokenizer.ggml.add_bos_token"));
    assert_false(hf_has(m, "tokenizer.ggml.unknown_token_id"));
    model_close(m);
    hf_release(&h);
}

/* The pre-tokenizer's structure decides the name; the fixture's own is cut out and replaced. */
static void write_pre(const struct hf *h, const char *pre, const char *more_model)
{
    struct buf b;
    buf_init(&b, 65536);
    const char *text = h->tokenizer, *at = strstr(text, "\"pre_tokenizer\":");
    const char *end = strstr(at, "},") + 1, *type = strstr(end, "\"type\":\"BPE\"") + 12;
    buf_add(&b, text, (size_t)(at - text));
    buf_addf(&b, "\"pre_tokenizer\":%s", pre);
    buf_add(&b, end, (size_t)(type - end));
    buf_adds(&b, more_model);
    buf_adds(&b, type);
    hf_write(h, "tokenizer.json", b.data, b.len);
    buf_release(&b);
}

#define REGEX_HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|"
#define REGEX_TAIL                                                                                 \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(digits, behavior, invert)                                                            \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"                  \
    "\"Regex\":\"" REGEX_HEAD digits REGEX_TAIL "\"},\"behavior\":\"" behavior                     \
    "\",\"invert\":" invert                                                                        \
    "},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"

static void test_pre_tokenizers(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *model, *name;
    } cases[] = {
        {SPLIT("\\\\p{N}{1,3}", "Isolated", "false"), ",\"ignore_merges\":true", "llama-bpe"},
        {SPLIT("\\\\p{N}{1,3}", "Removed", "true"), ",\"ignore_merges\":true", "llama-bpe"},
        {SPLIT("\\\\p{N}{1,3}", "Isolated", "false"), "", "smaug-bpe"},
        {SPLIT("\\\\p{N}", "Isolated", "false"), "", "qwen2"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":tru"
         "e},"
         "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]}",
         "", "smollm"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "", "gpt-2"},
        {"{\"type\":\"Whitespace\"}", "", "whitespace"},
    };
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_pre(&h, cases[i].pre, cases[i].model);
        struct model *m = hf_open(&h);
        hf_text_is(m, "tokenizer.ggml.pre", cases[i].name);
        bool words = strcmp(cases[i].name, "whitespace") == 0;
        hf_text_is(m, "tokenizer.ggml.model", words ? "whitespace" : "gpt2");
        model_close(m);
    }
    static const char *const unknown[][2] = {
        {SPLIT("\\\\p{N}{1,4}", "Isolated", "false"), "p{N}{1,4}"},
        {SPLIT("\\\\p{N}", "MergedWithNext", "false"), "MergedWithNext"},
        {"{\"type\":\"WhitespaceThenSome\"}", "WhitespaceThenSome"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "after a space"},
        {"null", "step without type"},
    };
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        write_pre(&h, unknown[i][0], "");
        hf_refused(&h, ERR_UNSUPPORTED, unknown[i][1], "pre-tokenizer", "tokenizer.json");
    }
    hf_release(&h);
}

static void replace_in_tokenizer(const struct hf *h, const char *from, const char *to)
{
    struct buf b;
    buf_init(&b, 65536);
    const char *at = strstr(h->tokenizer, from);
    assert_non_null(at);
    buf_add(&b, h->tokenizer, (size_t)(at - h->tokenizer));
    buf_adds(&b, to);
    buf_adds(&b, at + strlen(from));
    hf_write(h, "tokenizer.json", b.data, b.len);
    buf_release(&b);
}

static void test_bad_tokenizers(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        enum err_code code;
        const char *word;
    } cases[] = {
        {"\"aba\":5", "\"aba\":8", ERR_INPUT, "vocab_size 8"},
        {"\"aba\":5", "\"aba\":-1", ERR_INPUT, "-1"},
        {"\"aba\":5", "\"aba\":\"5\"", ERR_INPUT, "\"5\""},
        {"\"aba\":5", "\"aba\":4", ERR_INPUT, "both have id 4"},
        {"\"id\":6", "\"id\":5", ERR_INPUT, "<plain>"},
        {"\"id\":6", "\"id\":60", ERR_INPUT, "60"},
        {"\"content\":\"<plain>\"", "\"c\":1", ERR_INPUT, "without content"},
        {"\"a b\"", "\"ab\"", ERR_INPUT, "merge 1 of 2"},
        {"\"a b\"", "\"a c\"", ERR_INPUT, "not in the vocabulary"},
        {"\"a b\"", "\"b a\"", ERR_INPUT, "makes a piece"},
        {"[\"ab\",\"a\"]", "[\"ab\"]", ERR_INPUT, "merge 2 of 2"},
        {"[\"ab\",\"a\"]", "7", ERR_INPUT, "merge 2 of 2"},
        {"\"merges\"", "\"no\"", ERR_INPUT, "no merges"},
        {"\"vocab\"", "\"no\"", ERR_INPUT, "no vocabulary"},
        {"\"BPE\"", "\"WordLevel\"", ERR_UNSUPPORTED, "WordLevel"},
        {"\"BPE\"", "\"Unigram\"", ERR_INPUT, "no vocabulary"},
        {"\"BPE\"", "\"WordPiece\"", ERR_UNSUPPORTED, "WordPiece"},
        {"\"<plain>\"", "\"[PAD7]\"", ERR_INPUT, "tokens 6 and 7 are both"},
        {"\"type\":\"BPE\"", "\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"", ERR_UNSUPPORTED,
         "</w>"},
        {"\"type\":\"BPE\"", "\"type\":\"BPE\",\"byte_fallback\":true", ERR_INPUT, "0 of them"},
        {"{\"added", "{\"normalizer\":{\"type\":\"Lowercase\"},\"added", ERR_UNSUPPORTED,
         "Lowercase"},
    };
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        replace_in_tokenizer(&h, cases[i].from, cases[i].to);
        hf_refused(&h, cases[i].code, cases[i].word, "tokenizer.json");
    }
    hf_release(&h);
}

/* ---- byte fallback
 * ------------------------------------------------------------------------------ */

/* ids: 0-2 special, 3-258 bytes, then ▁ a b ▁a ab ▁ab, [INST], and one id that nobody has. */
static char *fallback_tokenizer(const char *normalizer, const char *pre, bool all_bytes)
{
    struct buf b;
    buf_init(&b, 65536);
    buf_addf(
        &b,
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,"
        "\"content\":\"<s>\",\"special\":true},{\"id\":2,\"content\":\"</s>\",\"special\":true},"
        "{\"id\":265,\"content\":\"[INST]\"}],\"normalizer\":%s,\"pre_tokenizer\":%s,"
        "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"vocab\":{"
        "\"<unk>\":0,\"<s>\":1,\"</s>\":2",
        normalizer, pre);
    for (int i = 0; i < (all_bytes ? 256 : 255); i++)
        buf_addf(&b, ",\"<0x%02X>\":%d", i, i + 3);
    buf_adds(&b, ",\"\xe2\x96\x81\":259,\"a\":260,\"b\":261,\"\xe2\x96\x81"
                 "a\":262,\"ab\":263,\"\xe2\x96\x81"
                 "ab\":264},\"merges\":[\"\xe2\x96\x81 a\",\"a b\",\"\xe2\x96\x81"
                 "a b\",\"\xe2\x96\x81 ab\"]}}");
    return buf_take(&b);
}

#define PREPEND "{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"}"
#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}"

static void open_fallback(struct hf *h, const char *normalizer, const char *pre, bool all_bytes)
{
    char *text = fallback_tokenizer(normalizer, pre, all_bytes);
    hf_init(h);
    h->vocab = 267;
    hf_find(h, "model.embed_tokens.weight")->dims[0] = 267;
    hf_find(h, "lm_head.weight")->dims[0] = 267;
    h->tokenizer = text;
    hf_write_all(h);
    h->tokenizer = NULL;
    xfree(text);
}

static void test_byte_fallback(void **state)
{
    (void)state;
    struct hf h;
    open_fallback(&h, "{\"type\":\"Sequence\",\"normalizers\":[" PREPEND "," REPLACE "]}", "null",
                  true);
    struct model *m = hf_open(&h);
    hf_text_is(m, "tokenizer.ggml.model", "llama");
    hf_text_is(m, "tokenizer.ggml.pre", "default");
    assert_false(hf_has(m, "tokenizer.ggml.add_space_prefix"));
    assert_false(hf_has(m, "tokenizer.ggml.merges"));
    const struct gguf_kv *types = gguf_kvs_find(model_kvs(m), "tokenizer.ggml.token_type");
    const int32_t *t = types->raw;
    assert_int_equal(t[0], 3);
    assert_int_equal(t[3], 6);
    assert_int_equal(t[258], 6);
    assert_int_equal(t[259], 1);
    assert_int_equal(t[265], 4);
    assert_int_equal(t[266], 5);
    assert_true(score(m, 1) == -1000.0f);
    assert_true(score(m, 3) == 0.0f);
    assert_true(score(m, 262) == 0.0f);  /* ▁a, the first merge */
    assert_true(score(m, 263) == -1.0f); /* ab */
    assert_true(score(m, 264) == -2.0f); /* ▁ab, made by two merges */
    assert_true(score(m, 259) == -3.0f); /* the letters, by id */
    assert_true(score(m, 261) == -5.0f);
    assert_true(score(m, 266) == -10000.0f);
    model_close(m);
    hf_release(&h);
}

static void test_space_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *normalizer, *pre;
        bool prefix;
    } cases[] = {
        {"{\"type\":\"Sequence\",\"normalizers\":[" REPLACE "]}", "null", false},
        {REPLACE, "null", false},
        {"null",
         "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"first\","
         "\"split\":false}",
         true},
        {"null",
         "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"never\","
         "\"split\":false}",
         false},
    };
    struct hf h;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_fallback(&h, cases[i].normalizer, cases[i].pre, true);
        struct model *m = hf_open(&h);
        assert_int_equal(hf_has(m, "tokenizer.ggml.add_space_prefix"), !cases[i].prefix);
        model_close(m);
        hf_write_text(&h, "tokenizer_config.json", "{\"add_prefix_space\":true}");
        m = hf_open(&h);
        assert_true(hf_flag(m, "tokenizer.ggml.add_space_prefix"));
        model_close(m);
        hf_release(&h);
    }
    open_fallback(&h, "null", "null", true);
    hf_refused(&h, ERR_UNSUPPORTED, "SentencePiece", "tokenizer.json");
    hf_release(&h);
    open_fallback(&h, REPLACE, "null", false);
    hf_refused(&h, ERR_INPUT, "255 of them", "<0xFF>");
    hf_release(&h);
}

/* ---- special tokens
 * ----------------------------------------------------------------------------- */

/* ---- byte strings with ranks ---- */

#define UPPER "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWER "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define TEKKEN_SPLIT                                                                               \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "*" LOWER "+|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER      \
    "+" LOWER "*|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|"          \
    "\\\\s+(?!\\\\S)|\\\\s+"
#define TEKKEN(config, vocab)                                                                      \
    "{\"config\":{\"pattern\":\"" TEKKEN_SPLIT "\"," config "},\"vocab\":[" vocab "]}"
#define TEKKEN_SIZES "\"default_vocab_size\":8,\"default_num_special_tokens\":3"

/* a, b, ab, a byte that no UTF-8 has, and one beyond the size, which does not count. */
static void test_ranks(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    hf_remove(&h, "tokenizer.json");
    hf_write_text(
        &h, "tekken.json",
        TEKKEN(TEKKEN_SIZES,
               "{\"rank\":0,\"token_bytes\":\"YQ==\"},{\"rank\":1,\"token_bytes\":\"Yg==\"},"
               "{\"rank\":2,\"token_bytes\":\"YWI=\"},{\"rank\":3,\"token_bytes\":\"/w==\"},"
               "{\"rank\":4,\"token_bytes\":\"YWJh\"},{\"rank\":5,\"token_bytes\":\"eA==\"}"));
    struct model *m = hf_open(&h);
    const struct gguf_kvs *k = model_kvs(m);
    const struct gguf_kv *tokens = gguf_kvs_find(k, "tokenizer.ggml.tokens");
    const struct gguf_kv *merges = gguf_kvs_find(k, "tokenizer.ggml.merges");
    hf_text_is(m, "tokenizer.ggml.pre", "tekken");
    assert_int_equal(tokens->count, 8);
    assert_int_equal(merges->count, 2); /* a b; ab a */
    assert_int_equal(hf_number(m, "tokenizer.ggml.bos_token_id"), 1);
    assert_true(hf_flag(m, "tokenizer.ggml.add_bos_token"));
    model_close(m);
    static const struct {
        const char *text;
        enum err_code code;
        const char *word;
    } bad[] = {
        {TEKKEN(TEKKEN_SIZES, "{\"rank\":0,\"token_bytes\":\"Y\"}"), ERR_INPUT, "base64"},
        {TEKKEN(TEKKEN_SIZES, "{\"rank\":0,\"token_bytes\":\"!!!!\"}"), ERR_INPUT, "base64"},
        {TEKKEN(TEKKEN_SIZES, "{\"rank\":0}"), ERR_INPUT, "token_bytes"},
        {TEKKEN(TEKKEN_SIZES, "{\"rank\":0,\"token_bytes\":\"YQ==\"},"
                              "{\"rank\":0,\"token_bytes\":\"Yg==\"}"),
         ERR_INPUT, "rank that is not its own"},
        {TEKKEN(TEKKEN_SIZES, "{\"rank\":0,\"token_bytes\":\"YQ==\"},"
                              "{\"rank\":1,\"token_bytes\":\"YQ==\"}"),
         ERR_INPUT, "bytes of another"},
        {TEKKEN("\"default_vocab_size\":2,\"default_num_special_tokens\":3", ""), ERR_INPUT,
         "out of range"},
        {TEKKEN("\"default_vocab_size\":900,\"default_num_special_tokens\":800",
                "{\"rank\":0,\"token_bytes\":\"YQ==\"}"),
         ERR_INPUT, "vocab_size 8"},
        {"{\"config\":{\"pattern\":\"x+\"," TEKKEN_SIZES "},\"vocab\":[]}", ERR_INPUT,
         "no vocabulary"},
        {"{\"config\":{\"pattern\":\"x+\"," TEKKEN_SIZES
         "},\"vocab\":[{\"rank\":0,\"token_bytes\":\"YQ==\"}]}",
         ERR_UNSUPPORTED, "x+"},
        {"[]", ERR_INPUT, "JSON object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hf_write_text(&h, "tekken.json", bad[i].text);
        hf_refused(&h, bad[i].code, bad[i].word, "tekken.json");
    }
    hf_release(&h);
}

static void test_special_tokens(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.more_config = ",\"bos_token_id\":2,\"eos_token_id\":[1,2],\"pad_token_id\":-1,"
                    "\"unk_token_id\":3,\"sep_token_id\":88";
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    assert_int_equal(hf_number(m, "tokenizer.ggml.bos_token_id"), 2);
    assert_int_equal(hf_number(m, "tokenizer.ggml.unknown_token_id"), 3);
    assert_false(hf_has(m, "tokenizer.ggml.eos_token_id"));       /* a list says nothing definite */
    assert_false(hf_has(m, "tokenizer.ggml.padding_token_id"));   /* −1 */
    assert_false(hf_has(m, "tokenizer.ggml.seperator_token_id")); /* 88 of 8 */
    model_close(m);
    hf_write_text(&h, "special_tokens_map.json", "{\"eos_token\":\"</s>\",\"bos_token\":\"</s>\"}");
    m = hf_open(&h);
    assert_int_equal(hf_number(m, "tokenizer.ggml.bos_token_id"), 2);
    assert_int_equal(hf_number(m, "tokenizer.ggml.eos_token_id"), 1);
    model_close(m);
    hf_release(&h);
}

static void test_post_processor(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    hf_write_text(&h, "tokenizer_config.json", "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}");
    replace_in_tokenizer(
        &h, "{\"added",
        "{\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"ty"
        "pe\":"
        "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"i"
        "d\":"
        "\"A\"}},{\"SpecialToken\":{\"id\":\"<plain>\"}}],\"pair\":[]}]},\"added");
    struct model *m = hf_open(&h);
    assert_true(hf_flag(m, "tokenizer.ggml.add_bos_token"));
    assert_true(hf_flag(m, "tokenizer.ggml.add_eos_token"));
    assert_int_equal(hf_number(m, "tokenizer.ggml.eos_token_id"),
                     6); /* what the template ends with */
    assert_int_equal(hf_number(m, "tokenizer.ggml.eot_token_id"), 1);
    model_close(m);
    hf_write_text(&h, "tokenizer_config.json",
                  "{\"bos_token\":\"<s>\",\"add_bos_token\":false,\"add_eos_token\":false}");
    m = hf_open(&h);
    assert_false(hf_flag(m, "tokenizer.ggml.add_bos_token"));
    assert_false(hf_flag(m, "tokenizer.ggml.add_eos_token"));
    model_close(m);
    hf_release(&h);
}

static void test_added_tokens(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    hf_write_text(&h, "added_tokens.json", "{\"<extra>\":7,\"<far>\":70,\"b\":3}");
    struct model *m = hf_open(&h);
    expect_types(m, (const int[]){3, 3, 1, 4, 1, 1, 4, 4}, 8);
    model_close(m);
    hf_remove(&h, "added_tokens.json");
    hf_write_text(&h, "tokenizer_config.json",
                  "{\"added_tokens_decoder\":{\"7\":{\"content\":\"<|x|>\"},\"6\":{\"content\":"
                  "\"<plain>\",\"special\":true}},\"pad_token\":\"b\"}");
    m = hf_open(&h);
    expect_types(m, (const int[]){3, 3, 1, 3, 1, 1, 3, 3}, 8); /* <|x|> looks special */
    model_close(m);
    hf_release(&h);
}

static void test_quirks(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    h.vocab = 32016;
    hf_find(&h, "model.embed_tokens.weight")->dims[0] = 32016;
    hf_find(&h, "lm_head.weight")->dims[0] = 32016;
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    assert_int_equal(hf_number(m, "tokenizer.ggml.eot_token_id"), 32010);
    model_close(m);
    hf_release(&h);
}

/* ---- chat templates
 * ----------------------------------------------------------------------------- */

static void test_templates(void **state)
{
    (void)state;
    struct hf h;
    char path[300];
    hf_init(&h);
    hf_write_all(&h);
    hf_write_text(&h, "chat_template.json", "{\"chat_template\":\"from json\"}");
    struct model *m = hf_open(&h);
    hf_text_is(m, "tokenizer.chat_template", "from json");
    model_close(m);
    hf_write_text(&h, "chat_template.jinja", "line\r\nend\n");
    m = hf_open(&h);
    hf_text_is(m, "tokenizer.chat_template", "line\nend\n");
    model_close(m);
    hf_path(&h, "additional_chat_templates", path);
    assert_int_equal(fs_mkdirs(path, NULL), 0);
    hf_write_text(&h, "additional_chat_templates/tool-use.jinja", "tools");
    hf_write_text(&h, "additional_chat_templates/notes.txt", "no template");
    m = hf_open(&h);
    hf_text_is(m, "tokenizer.chat_template", "line\nend\n");
    hf_text_is(m, "tokenizer.chat_template.tool_use", "tools");
    expect_strings(m, "tokenizer.chat_templates", (const char *const[]){"tool_use"}, 1);
    model_close(m);
    hf_write_text(&h, "tokenizer_config.json", "{\"chat_template\":\"stated\"}");
    m = hf_open(&h);
    hf_text_is(m, "tokenizer.chat_template", "stated");
    model_close(m);
    hf_write_text(&h, "tokenizer_config.json", "{}");
    hf_write_text(&h, "chat_template.jinja", "\xff\xfe");
    hf_refused(&h, ERR_INPUT, "chat_template.jinja", "UTF-8");
    hf_release(&h);
}

/* ---- general.*
 * ---------------------------------------------------------------------------------- */

/* What _name_or_path makes of general.*; "" for keys that are not there. */
static void expect_naming(const char *id, const char *name, const char *organization,
                          const char *basename, const char *finetune, const char *version,
                          const char *size)
{
    static const char *const keys[] = {"general.name",     "general.organization",
                                       "general.basename", "general.finetune",
                                       "general.version",  "general.size_label"};
    const char *expected[] = {name, organization, basename, finetune, version, size};
    struct hf h;
    char more[200];
    hf_init(&h);
    snprintf(more, sizeof more, ",\"_name_or_path\":\"%s\"", id);
    h.more_config = more;
    hf_write_all(&h);
    struct model *m = hf_open(&h);
    for (size_t i = 0; i < 6; i++) {
        if (*expected[i])
            hf_text_is(m, keys[i], expected[i]);
        else if (i != 3 &&
                 hf_has(m, keys[i])) /* the scratch folder's own name ends in a "fine-tune" */
            fail_msg("%s is set for %s", keys[i], id);
    }
    model_close(m);
    hf_release(&h);
}

static void test_naming(void **state)
{
    (void)state;
    /* The fixture has 4.2 K parameters: labels far from that are no sizes, as in the converter. */
    expect_naming("some-org/Model-5K-Instruct-v0.2", "Model 5K Instruct v0.2", "Some Org", "Model",
                  "Instruct", "v0.2", "5K");
    expect_naming("tiny_llama-4.8k-chat", "Tiny_Llama 4.8k Chat", "", "tiny_llama", "chat", "",
                  "4.8K");
    expect_naming("Name-128k", "Name 128k", "", "Name", "128k", "", "4.2K");
    expect_naming("Just A Name", "Just A Name", "", "", "", "", "4.2K");
}

static void test_card(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    hf_write_text(
        &h, "README.md",
        "---\nname: \"Card: name\"\nlicense: [mit, x]\ntags:\n- a\n- no\nlanguage: de\n"
        "base_model: org/base-model-7b\ndatasets:\n- http://huggingface.co/a/b\n- repo_url: u\n"
        "author: ~\n---\n# Title\nlicense: no\n");
    struct model *m = hf_open(&h);
    hf_text_is(m, "general.name", "Card: name");
    hf_text_is(m, "general.license", "mit,x");
    expect_strings(m, "general.tags", (const char *const[]){"a", "no"}, 2);
    expect_strings(m, "general.languages", (const char *const[]){"de"}, 1);
    assert_int_equal(hf_number(m, "general.base_model.count"), 1);
    hf_text_is(m, "general.base_model.0.name", "Base Model 7b");
    hf_text_is(m, "general.base_model.0.organization", "Org");
    assert_int_equal(hf_number(m, "general.dataset.count"), 2);
    hf_text_is(m, "general.dataset.0.name", "B");
    hf_text_is(m, "general.dataset.0.repo_url", "http://huggingface.co/a/b");
    hf_text_is(m, "general.dataset.1.repo_url", "u");
    assert_false(hf_has(m, "general.author"));
    model_close(m);
    static const char *const bad[] = {
        "---\na: [1, 2\n---\n", "---\na: &x [1]\nb: *x\n---\n",
        "---\n- list\n---\n",   "---\n",
        "--\nno: card\n",       "---\na: {b: {c: {d: {e: {f: {g: {h: {i: {j: 1}}}}}}}}}\n---\n"};
    log_set_level(LOG_QUIET);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hf_write_text(&h, "README.md", bad[i]);
        model_close(hf_open(&h)); /* it only labels, so it never stops a model */
    }
    log_set_level(LOG_WARN);
    hf_release(&h);
}

static void test_sampling(void **state)
{
    (void)state;
    struct hf h;
    hf_init(&h);
    hf_write_all(&h);
    hf_write_text(&h, "generation_config.json",
                  "{\"temperature\":0.6,\"top_k\":20,\"top_p\":1,\"repetition_penalty\":1.05,"
                  "\"min_p\":null,\"do_sample\":true,\"mirostat\":\"no\"}");
    struct model *m = hf_open(&h);
    assert_true((float)hf_real(m, "general.sampling.temp") == 0.6f);
    assert_int_equal(hf_number(m, "general.sampling.top_k"), 20);
    assert_int_equal(gguf_kvs_find(model_kvs(m), "general.sampling.top_k")->type, GGUF_I32);
    assert_true(hf_real(m, "general.sampling.top_p") == 1.0);
    assert_true((float)hf_real(m, "general.sampling.penalty_repeat") == 1.05f);
    assert_false(hf_has(m, "general.sampling.min_p"));
    assert_false(hf_has(m, "general.sampling.mirostat"));
    model_close(m);
    hf_release(&h);
}

int main(void)
{
    log_set_level(LOG_QUIET);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level),     cmocka_unit_test(test_pre_tokenizers),
        cmocka_unit_test(test_bad_tokenizers), cmocka_unit_test(test_byte_fallback),
        cmocka_unit_test(test_space_prefix),   cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_special_tokens), cmocka_unit_test(test_post_processor),
        cmocka_unit_test(test_added_tokens),   cmocka_unit_test(test_quirks),
        cmocka_unit_test(test_templates),      cmocka_unit_test(test_naming),
        cmocka_unit_test(test_card),           cmocka_unit_test(test_sampling),
    };
    return cmocka_run_group_tests_name("model_vocab", tests, NULL, NULL);
}
