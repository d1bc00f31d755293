/* A folder's tokenizer → tokenizer.ggml.*, in one of the four kinds of vocab_int.h.
 *
 * tokenizer.json says which; where it is missing a SentencePiece model does, and where both are
 * there and pieces have scores, the model's texts, scores and types count, since tokenizer.json
 * lost them. Refused: other kinds of tokenizer, ids outside vocab_size, two tokens with one id or
 * one text (libllama aborts on them), a byte fallback without all 256 byte tokens. Types and texts
 * follow conversion/base.py of llama.cpp 0.5.0 (get_vocab_base and _create_vocab_sentencepiece);
 * scores that no file has follow the order of merges, see vocab_merges.c. */
#include "model/vocab_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/banned.h"

#define SPACE_MARK "\xe2\x96\x81" /* U+2581, SentencePiece's visible space */

static int bad_tokenizer(const struct vocab *v, struct err *e, const char *what)
{
    return err_set(e, ERR_INPUT, "fetch tokenizer.json again from where the model comes from",
                   "%s %s", v->where, what);
}

bool vocab_id(const struct vocab *v, const char *text, uint32_t *id)
{
    uint64_t added;
    if (map_get_str(&v->added_ids, text, &added)) {
        *id = (uint32_t)added;
        return true;
    }
    if (map_get_str(&v->piece_ids, text, &added)) {
        *id = (uint32_t)added;
        return true;
    }
    const json_t *known = json_object_get(v->tokens, text);
    if (known)
        *id = (uint32_t)json_integer_value(known);
    return known != NULL;
}

bool vocab_is_byte(struct gguf_str text, unsigned *byte)
{
    if (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return false;
    char digits[3] = {text.data[3], text.data[4], '\0'};
    char *end;
    *byte = (unsigned)strtoul(digits, &end, 16);
    return end == digits + 2 && strspn(digits, "0123456789abcdefABCDEF") == 2;
}

/* ---- texts and flags
 * ---------------------------------------------------------------------------- */

static int wrong_id(const struct vocab *v, const char *text, const json_t *id, struct err *e)
{
    char *found = id ? json_text(id, false) : NULL;
    err_set(e, ERR_INPUT,
            "tokenizer.json and config.json are of different models; fetch both again",
            "%s: token \"%.80s\" has id %.30s, expected an integer below vocab_size %u", v->where,
            text, found ? found : "of no value", v->n);
    xfree(found);
    return -1;
}

int vocab_put_token(struct vocab *v, const char *text, size_t len, const json_t *id, struct err *e)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= v->n)
        return wrong_id(v, text, id, e);
    struct gguf_str *slot = &v->texts[json_integer_value(id)];
    if (slot->data && (slot->len != len || memcmp(slot->data, text, len) != 0))
        return err_set(e, ERR_INPUT, "fetch tokenizer.json again from where the model comes from",
                       "%s: tokens \"%.80s\" and \"%.80s\" both have id %lld", v->where, slot->data,
                       text, (long long)json_integer_value(id));
    *slot = (struct gguf_str){text, len};
    return 0;
}

static int put_vocabulary(struct vocab *v, struct err *e)
{
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)v->tokens, text,
                        id) if (vocab_put_token(v, text, strlen(text), id, e)) return -1;
    return 0;
}

static void flag_added(struct vocab *v, const char *text, uint32_t id, bool special)
{
    v->flags[id] |= (uint8_t)(TOKEN_IS_ADDED | (special ? TOKEN_IS_SPECIAL : 0));
    map_add(&v->added_ids, text, strlen(text), id);
}

/* added_tokens of tokenizer.json: [{"id": 2, "content": "</s>", "special": true}, ...] */
static int put_added(struct vocab *v, struct err *e)
{
    const json_t *list = json_object_get(v->doc, "added_tokens");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *t = json_array_get(list, i), *id = json_object_get(t, "id");
        const json_t *content = json_object_get(t, "content");
        if (!json_is_string(content))
            return bad_tokenizer(v, e, "has an added token without content");
        if (vocab_put_token(v, json_string_value(content), json_string_length(content), id, e))
            return -1;
        flag_added(v, json_string_value(content), (uint32_t)json_integer_value(id),
                   json_is_true(json_object_get(t, "special")));
    }
    return 0;
}

/* Tokens that only the two older places mention; those that tokenizer.json knows keep its id. */
static void put_outside(struct vocab *v, const char *text, json_int_t id, bool special)
{
    uint32_t known;
    if (vocab_id(v, text, &known)) {
        flag_added(v, text, known, special);
        return;
    }
    if (id < 0 || id >= v->n || v->texts[id].data) {
        log_warn(
            "%s: token \"%.80s\" of tokenizer_config.json or added_tokens.json has no free id and "
            "is left out",
            v->where, text);
        return;
    }
    v->texts[id] = (struct gguf_str){text, strlen(text)};
    flag_added(v, text, (uint32_t)id, special);
}

/* Beside a SentencePiece model the added tokens take their ids whatever the model has there. */
static void put_over(struct vocab *v, const char *text, json_int_t id, bool special)
{
    if (id < 0 || id >= v->n) {
        log_warn(
            "%s: added token \"%.80s\" has id %lld outside the vocabulary of %u and is left out",
            v->where, text, (long long)id, v->n);
        return;
    }
    v->texts[id] = (struct gguf_str){text, strlen(text)};
    flag_added(v, text, (uint32_t)id, special);
}

/* tokenizer.json's added tokens that a SentencePiece model lacks, where nobody else lists them. */
static void put_over_from_json(struct vocab *v)
{
    const json_t *list = json_object_get(v->doc, "added_tokens");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *t = json_array_get(list, i);
        const char *text = json_opt_str(t, "content", NULL);
        json_int_t id = json_integer_value(json_object_get(t, "id"));
        if (text && (uint64_t)id >= v->pieces.n)
            put_over(v, text, id, json_is_true(json_object_get(t, "special")));
    }
}

static void put_configured(struct vocab *v)
{
    void (*put_outside_of)(struct vocab *, const char *, json_int_t, bool) =
        v->have_pieces && !v->fairseq_ids ? put_over : put_outside;
    const char *key;
    json_t *value;
    if (v->have_pieces && !json_object_get(v->config, "added_tokens_decoder"))
        put_over_from_json(v);
    json_object_foreach(v->added, key, value) if (json_is_integer(value))
        put_outside_of(v, key, json_integer_value(value), false);
    json_object_foreach(json_object_get(v->config, "added_tokens_decoder"), key, value)
    {
        const char *text = json_string_value(json_object_get(value, "content"));
        char *end;
        long id = strtol(key, &end, 10);
        if (text && end != key && *end == '\0')
            put_outside_of(v, text, id, json_is_true(json_object_get(value, "special")));
    }
}

static void flag_special(struct vocab *v, const char *text)
{
    uint32_t id;
    if (text && vocab_id(v, text, &id))
        flag_added(v, text, id, true);
}

static const char *const special_fields[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                             "pad_token", "cls_token", "mask_token"};

static void flag_specials(struct vocab *v, const json_t *doc)
{
    for (size_t i = 0; i < sizeof special_fields / sizeof *special_fields; i++)
        flag_special(v, vocab_special_text(doc, special_fields[i]));
    const json_t *more = json_object_get(doc, "additional_special_tokens");
    for (size_t i = 0; i < json_array_size(more); i++) {
        const json_t *t = json_array_get(more, i);
        flag_special(v, json_is_string(t) ? json_string_value(t)
                                          : json_string_value(json_object_get(t, "content")));
    }
}

/* ---- types
 * -------------------------------------------------------------------------------------- */

static bool begins(struct gguf_str s, const char *head)
{
    return s.len >= strlen(head) && memcmp(s.data, head, strlen(head)) == 0;
}

static bool ends(struct gguf_str s, const char *tail)
{
    size_t n = strlen(tail);
    return s.len >= n && memcmp(s.data + s.len - n, tail, n) == 0;
}

/* Some models do not mark tokens as special that ought to be: <|...|> and a few known names. */
static bool looks_special(struct gguf_str s)
{
    static const char *const known[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (s.len == strlen(known[i]) && begins(s, known[i]))
            return true;
    return (begins(s, "<|") && ends(s, "|>")) || (begins(s, "<unused") && ends(s, ">")) ||
           (begins(s, "<\xef\xbd\x9c") && ends(s, "\xef\xbd\x9c>"));
}

/* A user-defined token is matched against text as it is, where spaces are spaces. */
static struct gguf_str spaces_plain(struct vocab *v, struct gguf_str s)
{
    char *text = arena_strndup(&v->m->arena, s.data, s.len);
    size_t n = 0;
    for (size_t i = 0; i < s.len;) {
        bool mark = s.len - i >= 3 && memcmp(s.data + i, SPACE_MARK, 3) == 0;
        text[n++] = mark ? ' ' : s.data[i];
        i += mark ? 3 : 1;
    }
    text[n] = '\0';
    return (struct gguf_str){text, n};
}

/* Scores of tokens that no model file scores, as llama.cpp's converter has them. */
#define SCORE_ABSENT (-10000.0f)
#define SCORE_ADDED  (-1000.0f)

static void set_added_type(struct vocab *v, uint32_t id)
{
    struct gguf_str *s = &v->texts[id];
    bool control = (v->flags[id] & TOKEN_IS_SPECIAL) || looks_special(*s);
    v->types[id] = control ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    if (v->kind != VOCAB_UNIGRAM)
        v->scores[id] = SCORE_ADDED;
    if (!control)
        *s = spaces_plain(v, *s);
}

static void set_type(struct vocab *v, uint32_t id)
{
    struct gguf_str *s = &v->texts[id];
    bool fallback = v->kind == VOCAB_SCORED && !v->have_pieces;
    unsigned byte;
    if (!s->data) {
        s->data = arena_printf(&v->m->arena, "[PAD%u]", id);
        s->len = strlen(s->data);
        v->types[id] = TOKEN_UNUSED;
        v->scores[id] = SCORE_ABSENT;
    } else if (fallback && vocab_is_byte(*s, &byte)) {
        v->types[id] = TOKEN_BYTE;
        v->scores[id] = 0.0f;
    } else if (v->kind == VOCAB_UNIGRAM && v->types[id] == TOKEN_UNKNOWN) {
        return;
    } else if (v->flags[id] & (TOKEN_IS_ADDED | TOKEN_IS_SPECIAL)) {
        set_added_type(v, id);
    } else if (v->types[id] == TOKEN_USER_DEFINED) {
        *s = spaces_plain(v, *s);
    } else if (v->types[id] == 0) {
        v->types[id] = TOKEN_NORMAL;
    }
}

static int check_bytes(const struct vocab *v, struct err *e)
{
    bool there[256] = {false};
    unsigned byte;
    size_t count = 0;
    for (uint32_t i = 0; i < v->n; i++)
        if (v->types[i] == TOKEN_BYTE && vocab_is_byte(v->texts[i], &byte) && !there[byte])
            there[byte] = ++count > 0;
    if (count == 256)
        return 0;
    return err_set(e, ERR_INPUT, "fetch tokenizer.json again from where the model comes from",
                   "%s: byte_fallback needs the 256 tokens <0x00> to <0xFF>, %zu of them are there",
                   v->where, count);
}

/* libllama holds a map from text to id and stops the process when it is smaller than the list. */
static int check_unique(const struct vocab *v, struct err *e)
{
    struct map seen = {0};
    int failed = 0;
    for (uint32_t i = 0; i < v->n && !failed; i++) {
        uint64_t other = i;
        map_get(&seen, v->texts[i].data, v->texts[i].len, &other);
        if (other != i)
            failed = err_set(e, ERR_INPUT, "libllama cannot load a vocabulary with such a pair",
                             "%s: tokens %llu and %u are both \"%.80s\"", v->where,
                             (unsigned long long)other, i, v->texts[i].data);
        map_add(&seen, v->texts[i].data, v->texts[i].len, i);
    }
    map_release(&seen);
    return failed;
}

static int set_types(struct vocab *v, struct err *e)
{
    for (uint32_t i = 0; i < v->n; i++)
        set_type(v, i);
    uint32_t unk;
    const char *text = json_opt_str(v->bpe, "unk_token", NULL);
    if (v->kind == VOCAB_SCORED && text && vocab_id(v, text, &unk) && v->types[unk] == TOKEN_NORMAL)
        v->types[unk] = TOKEN_UNKNOWN;
    return check_unique(v, e);
}

/* ---- the kinds
 * ------------------------------------------------------------------------------ */

static void set_tokens(struct vocab *v)
{
    gguf_set_strs(&v->m->kvs, "tokenizer.ggml.tokens", v->texts, v->n);
}

static void set_token_types(struct vocab *v)
{
    gguf_set_array(&v->m->kvs, "tokenizer.ggml.token_type", GGUF_I32, v->types, v->n);
}

static void set_prefix_key(struct vocab *v)
{
    const json_t *stated = json_object_get(v->config, "add_prefix_space");
    if (v->c->arch->space_prefix_key && json_is_boolean(stated))
        gguf_set_bool(&v->m->kvs, "tokenizer.ggml.add_space_prefix", json_is_true(stated));
}

static int set_byte_level(struct vocab *v, struct err *e)
{
    const char *pre = vocab_pre_find(v, e);
    if (!pre || set_types(v, e))
        return -1;
    set_prefix_key(v);
    bool words = strcmp(pre, VOCAB_WHITESPACE) == 0; /* a kind of its own, not over bytes */
    gguf_set_str(&v->m->kvs, "tokenizer.ggml.model", words ? pre : "gpt2");
    gguf_set_str(&v->m->kvs, "tokenizer.ggml.pre", pre);
    set_tokens(v);
    set_token_types(v);
    return vocab_set_merges(v, e);
}

/* tokenizer.json knows best whether text gets a space in front; SentencePiece's own word counts
 * where there is no other, or none that can be understood. */
static int find_prefix(const struct vocab *v, bool *prefix, struct err *e)
{
    struct err unused = {0};
    if (v->doc && vocab_space_prefix(v, prefix, v->have_pieces ? &unused : e) == 0)
        return 0;
    *prefix = v->pieces.add_dummy_prefix;
    return v->have_pieces ? 0 : -1;
}

static int set_scored(struct vocab *v, struct err *e)
{
    bool prefix;
    if (set_types(v, e) || check_bytes(v, e) || find_prefix(v, &prefix, e) ||
        (!v->have_pieces && vocab_set_scores(v, e)))
        return -1;
    set_prefix_key(v);
    if (!prefix && !gguf_kvs_find(&v->m->kvs, "tokenizer.ggml.add_space_prefix"))
        gguf_set_bool(&v->m->kvs, "tokenizer.ggml.add_space_prefix", false);
    gguf_set_str(&v->m->kvs, "tokenizer.ggml.model", "llama");
    gguf_set_str(&v->m->kvs, "tokenizer.ggml.pre", "default");
    set_tokens(v);
    gguf_set_array(&v->m->kvs, "tokenizer.ggml.scores", GGUF_F32, v->scores, v->n);
    set_token_types(v);
    return 0;
}

static int set_unigram(struct vocab *v, struct err *e)
{
    if (set_types(v, e))
        return -1;
    gguf_set_str(&v->m->kvs, "tokenizer.ggml.model", "t5");
    gguf_set_str(&v->m->kvs, "tokenizer.ggml.pre", "default");
    set_tokens(v);
    gguf_set_array(&v->m->kvs, "tokenizer.ggml.scores", GGUF_F32, v->scores, v->n);
    set_token_types(v);
    return vocab_set_unigram(v, e);
}

static int set_wordpiece(struct vocab *v, struct err *e)
{
    if (set_types(v, e) || vocab_set_wordpiece(v, e) || check_unique(v, e))
        return -1;
    gguf_set_str(&v->m->kvs, "tokenizer.ggml.model", "bert");
    gguf_set_str(&v->m->kvs, "tokenizer.ggml.pre", "bert-bge");
    set_tokens(v);
    set_token_types(v);
    return 0;
}

static int set_kind(struct vocab *v, struct err *e)
{
    switch (v->kind) {
    case VOCAB_SCORED:
        return set_scored(v, e);
    case VOCAB_UNIGRAM:
        return set_unigram(v, e);
    case VOCAB_WORDPIECE:
        return set_wordpiece(v, e);
    default:
        return set_byte_level(v, e);
    }
}

static int check_affixes(const struct vocab *v, struct err *e)
{
    const char *prefix = json_opt_str(v->bpe, "continuing_subword_prefix", "");
    const char *suffix = json_opt_str(v->bpe, "end_of_word_suffix", "");
    if (!*prefix && !*suffix)
        return 0;
    return err_set(e, ERR_UNSUPPORTED, NULL,
                   "%s: BPE with a subword prefix or word suffix (\"%.20s\") cannot be converted",
                   v->where, *prefix ? prefix : suffix);
}

/* The kind by tokenizer.json; BPE that is not over bytes may yet be one of SentencePiece. */
static int kind_of_json(struct vocab *v, struct err *e)
{
    const char *type = json_opt_str(v->bpe, "type", "of no type");
    v->tokens = json_object_get(v->bpe, "vocab");
    if (strcmp(type, "Unigram") == 0) {
        v->kind = VOCAB_UNIGRAM;
        return 0;
    }
    v->kind = strcmp(type, "WordPiece") == 0                  ? VOCAB_WORDPIECE
              : json_opt_bool(v->bpe, "byte_fallback", false) ? VOCAB_SCORED
                                                              : VOCAB_BYTE_LEVEL;
    if (v->kind != VOCAB_WORDPIECE && strcmp(type, "BPE") != 0)
        return err_set(e, ERR_UNSUPPORTED, "supported are BPE, Unigram and WordPiece",
                       "%s: tokenizer model \"%.60s\" cannot be converted", v->where, type);
    if (!json_is_object(v->tokens) || json_object_size(v->tokens) == 0)
        return bad_tokenizer(v, e, "has no vocabulary (model.vocab)");
    return v->kind == VOCAB_WORDPIECE ? 0 : check_affixes(v, e);
}

static int find_kind(struct vocab *v, struct err *e)
{
    if (!v->doc && (vocab_join_files(v, e) || (!v->doc && vocab_read_ranks(v, e))))
        return -1;
    v->bpe = json_object_get(v->doc, "model");
    if (v->doc && kind_of_json(v, e))
        return -1;
    bool scored =
        v->kind == VOCAB_SCORED || (v->kind == VOCAB_BYTE_LEVEL && !vocab_pre_is_bytes(v));
    if ((!v->doc || scored) && vocab_open_pieces(v, e))
        return -1;
    if (v->doc || v->have_pieces)
        return 0;
    return err_set(e, ERR_MISSING, "fetch the whole model folder again",
                   "%s has no tokenizer: neither tokenizer.json, tekken.json, vocab.json with "
                   "merges.txt nor a SentencePiece model",
                   v->m->path);
}

static int put_texts(struct vocab *v, struct err *e)
{
    if (v->have_pieces && strcmp(v->c->arch->gguf_name, "chatglm") == 0)
        vocab_put_chatglm(v);
    if (v->have_pieces)
        return vocab_put_pieces(v, e);
    if (v->kind == VOCAB_UNIGRAM)
        return vocab_put_unigram(v, e) || put_added(v, e) ? -1 : 0;
    return put_vocabulary(v, e) || put_added(v, e) ? -1 : 0;
}

static void set_quirk(struct vocab *v, const struct arch_quirk *q)
{
    struct gguf_kvs *k = &v->m->kvs;
    uint32_t id = q->value;
    if (q->text && ((q->value == 0 && gguf_kvs_find(k, q->key)) || !vocab_id(v, q->text, &id)))
        return;
    if (q->is_bool)
        gguf_set_bool(k, q->key, id != 0);
    else if (id < v->n)
        gguf_set_u32(k, q->key, id);
}

static int fill(struct vocab *v, struct err *e)
{
    if (find_kind(v, e) || put_texts(v, e))
        return -1;
    put_configured(v);
    if (!v->have_pieces) {
        flag_specials(v, v->special_map);
        flag_specials(v, v->config);
    }
    if (set_kind(v, e) || vocab_set_special(v, e))
        return -1;
    vocab_set_piece_ids(v);
    if (v->c->arch->encoder && v->kind == VOCAB_BYTE_LEVEL)
        vocab_set_type_count(v);
    if (vocab_set_templates(v, e))
        return -1;
    vocab_set_normalizer(v);
    for (const struct arch_quirk *q = v->c->arch->quirks; q && q->key; q++)
        if (q->vocab_size == 0 || q->vocab_size == v->c->vocab_size)
            set_quirk(v, q);
    return 0;
}

static int read_documents(struct vocab *v, struct err *e)
{
    const struct model *m = v->m;
    return folder_read_json(m, "tokenizer.json", MODEL_TOKENIZER_BYTES_MAX, false, &v->doc, e) ||
                   folder_read_json(m, "tokenizer_config.json", MODEL_CONFIG_BYTES_MAX, false,
                                    &v->config, e) ||
                   folder_read_json(m, "special_tokens_map.json", MODEL_CONFIG_BYTES_MAX, false,
                                    &v->special_map, e) ||
                   folder_read_json(m, "added_tokens.json", MODEL_CONFIG_BYTES_MAX, false,
                                    &v->added, e)
               ? -1
               : 0;
}

int vocab_set(struct model *m, const struct config *c, const json_t *config_doc, struct err *e)
{
    struct vocab v = {.m = m, .c = c, .model_config = config_doc, .n = c->vocab_size};
    size_t per_token = sizeof *v.texts + sizeof *v.types + sizeof *v.scores + sizeof *v.flags;
    v.where = arena_printf(&m->arena, "%s/tokenizer.json", m->path);
    char *memory = big_alloc(v.n * per_token, "the vocabulary", e);
    if (!memory)
        return -1;
    v.texts = (struct gguf_str *)(void *)memory;
    v.types = (int32_t *)(void *)(v.texts + v.n);
    v.scores = (float *)(void *)(v.types + v.n);
    v.flags = (uint8_t *)(void *)(v.scores + v.n);
    int failed = read_documents(&v, e) || fill(&v, e) ? -1 : 0;
    json_decref(v.doc);
    json_decref(v.config);
    json_decref(v.special_map);
    json_decref(v.added);
    map_release(&v.added_ids);
    map_release(&v.piece_ids);
    sentencepiece_release(&v.pieces);
    big_free(memory, v.n * per_token);
    return failed;
}
