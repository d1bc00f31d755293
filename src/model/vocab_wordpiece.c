/* WordPiece (BERT): what libllama's "bert" tokenizer expects of the vocabulary, and the two
 * settings of the normalizer that it knows.
 *
 * tokenizer.json marks what continues a word ("##ing"); libllama marks what begins one, with
 * U+2581, and the rest is plain (conversion/bert.py of llama.cpp 0.5.0). Its pre-tokenizer is
 * BERT's own: spaces, punctuation and Chinese characters apart. */
#include "model/vocab_int.h"

#include <string.h>

#include "base/banned.h"

static int check_steps(const struct vocab *v, struct err *e)
{
    const char *prefix = json_opt_str(v->bpe, "continuing_subword_prefix", "##");
    const char *pre = json_opt_str(json_object_get(v->doc, "pre_tokenizer"), "type", "none");
    const json_t *normalizer = json_object_get(v->doc, "normalizer");
    const char *type = json_opt_str(normalizer, "type", "none");
    const char *odd = strcmp(prefix, "##") != 0              ? prefix
                      : strcmp(pre, "BertPreTokenizer") != 0 ? pre
                      : strcmp(type, "BertNormalizer") != 0  ? type
                                                             : NULL;
    if (!odd && json_opt_bool(normalizer, "handle_chinese_chars", true))
        return 0;
    return err_set(e, ERR_UNSUPPORTED,
                   "supported is what BERT has: BertNormalizer, BertPreTokenizer and \"##\"",
                   "%s: libllama's WordPiece tokenizer has nothing like \"%.60s\"", v->where,
                   odd ? odd : "handle_chinese_chars = false");
}

void vocab_set_type_count(struct vocab *v)
{
    json_int_t types = json_integer_value(json_object_get(v->c->fields, "type_vocab_size"));
    gguf_set_u32(&v->m->kvs, "tokenizer.ggml.token_type_count",
                 types > 0 && types < 65536 ? (uint32_t)types : 1);
}

int vocab_set_wordpiece(struct vocab *v, struct err *e)
{
    if (check_steps(v, e))
        return -1;
    vocab_set_type_count(v);
    for (uint32_t i = 0; i < v->n; i++) {
        struct gguf_str *s = &v->texts[i];
        if (v->types[i] == TOKEN_CONTROL)
            continue;
        if (s->len > 2 && memcmp(s->data, "##", 2) == 0)
            *s = (struct gguf_str){s->data + 2, s->len - 2};
        else
            *s = (struct gguf_str){arena_printf(&v->m->arena, "\xe2\x96\x81%s", s->data),
                                   s->len + 3};
    }
    return 0;
}

static void find_settings(const json_t *step, const json_t **lower, const json_t **strip, int depth)
{
    const char *type = json_opt_str(step, "type", "");
    const json_t *list = json_object_get(step, "normalizers");
    if (strcmp(type, "Lowercase") == 0)
        *lower = json_true();
    else if (strcmp(type, "StripAccents") == 0)
        *strip = json_true();
    if (strcmp(type, "BertNormalizer") == 0) {
        *lower = json_object_get(step, "lowercase");
        *strip = json_object_get(step, "strip_accents");
    }
    for (size_t i = 0; i < json_array_size(list) && depth < 4; i++)
        find_settings(json_array_get(list, i), lower, strip, depth + 1);
}

void vocab_set_normalizer(struct vocab *v)
{
    const json_t *lower = NULL, *strip = NULL;
    find_settings(json_object_get(v->doc, "normalizer"), &lower, &strip, 0);
    if (json_is_boolean(lower))
        gguf_set_bool(&v->m->kvs, "tokenizer.ggml.normalizer.lowercase", json_is_true(lower));
    if (json_is_boolean(strip))
        gguf_set_bool(&v->m->kvs, "tokenizer.ggml.normalizer.strip_accents", json_is_true(strip));
}
