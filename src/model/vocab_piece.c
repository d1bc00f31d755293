/* SentencePiece vocabularies: from the model file, or a Unigram one from tokenizer.json.
 *
 * The file is tokenizer.model, spiece.model or sentencepiece.bpe.model; a tokenizer.model of
 * another format (tiktoken) is as good as absent. Ids are the indices of the pieces, but for
 * sentencepiece.bpe.model, where XLM-RoBERTa numbers them as fairseq did: <s>, <pad>, </s>, <unk>,
 * then the pieces from the fourth on, then <mask>.
 *
 * Unigram with byte fallback becomes the scored kind, as llama.cpp's converter has it: libllama's
 * Unigram knows no bytes, and a text whose line ends are unknown is worse than words that are
 * sometimes split in another way. */
#include "model/vocab_int.h"

#include <math.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/log.h"
#include "base/banned.h"

#define SPACE_MARK "\xe2\x96\x81"

static int refuse(const struct vocab *v, struct err *e, const char *what)
{
    return err_set(e, ERR_UNSUPPORTED, NULL, "%s: %s", v->where, what);
}

/* ---- the model file
 * ----------------------------------------------------------------------------- */

static int check_pieces(const struct vocab *v, struct err *e)
{
    const struct sentencepiece *s = &v->pieces;
    if (s->whitespace_as_suffix)
        return refuse(v, e, "libllama puts spaces before words, this model puts them after");
    if (!s->escape_whitespaces)
        return refuse(v, e, "libllama writes spaces as U+2581, this model keeps them");
    return 0;
}

int vocab_open_pieces(struct vocab *v, struct err *e)
{
    static const char *const names[] = {"tokenizer.model", "spiece.model",
                                        "sentencepiece.bpe.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !v->have_pieces; i++) {
        char *path = fs_join(v->m->path, names[i]);
        int found = fs_exists(path) ? sentencepiece_read(&v->pieces, path, e) : 0;
        if (found > 0) {
            v->where = arena_strdup(&v->m->arena, path);
            v->have_pieces = true;
            v->fairseq_ids = i == 2;
        }
        xfree(path);
        if (found < 0)
            return -1;
    }
    if (!v->have_pieces)
        return 0;
    bool unigram = v->pieces.kind == SENTENCEPIECE_UNIGRAM;
    v->kind = unigram && !v->pieces.byte_fallback ? VOCAB_UNIGRAM : VOCAB_SCORED;
    if (unigram && v->pieces.byte_fallback)
        log_warn("%s is a Unigram model with byte fallback, which libllama lacks; it may split "
                 "some words differently from the original",
                 v->where);
    else if (!unigram && v->pieces.charsmap)
        log_warn("%s normalizes text in a way that libllama does not", v->where);
    return check_pieces(v, e);
}

static int put_piece(struct vocab *v, const struct sentencepiece_piece *p, size_t id, struct err *e)
{
    const char *text = p->len == 1 && p->text[0] == '\0' ? "\xf0\x9f\x90\x89" : p->text;
    size_t len = text == p->text ? p->len : strlen(text); /* GGUF readers stop at NUL: a dragon */
    if (!map_add(&v->piece_ids, text, len, id))
        return err_set(e, ERR_INPUT, "fetch the file again from where the model comes from",
                       "%s has the piece \"%.*s\" twice", v->where, len > 80 ? 80 : (int)len, text);
    v->texts[id] = (struct gguf_str){arena_strndup(&v->m->arena, text, len), len};
    /* InternLM 2 keeps room for tokens under such names. */
    bool unused = len > 7 && memcmp(text, "[UNUSED", 7) == 0;
    v->types[id] = unused ? TOKEN_UNUSED : (int32_t)p->type;
    v->scores[id] = p->score;
    return 0;
}

static int put_fairseq(struct vocab *v, struct err *e)
{
    static const char *const names[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
    const struct sentencepiece *s = &v->pieces;
    for (size_t i = 3; i < s->n && i + 1 < v->n; i++)
        if (put_piece(v, &s->pieces[i], i + 1, e))
            return -1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t id = i < 4 ? i : s->n + 1;
        struct sentencepiece_piece p = {names[i], (uint32_t)strlen(names[i]), 0.0f,
                                        i == 3 ? PIECE_UNKNOWN : PIECE_CONTROL};
        if (id < v->n && put_piece(v, &p, id, e))
            return -1;
    }
    return 0;
}

int vocab_put_pieces(struct vocab *v, struct err *e)
{
    const struct sentencepiece *s = &v->pieces;
    if (v->fairseq_ids)
        return put_fairseq(v, e);
    if (s->n > v->n)
        log_warn("%s has %zu pieces, those beyond vocab_size %u are left out", v->where, s->n,
                 v->n);
    for (size_t i = 0; i < s->n && i < v->n; i++)
        if (put_piece(v, &s->pieces[i], i, e))
            return -1;
    return 0;
}

/* tokenization_chatglm.py of ChatGLM 3 has these after the pieces, and names the first otherwise.
 * Comes before the pieces, which leave alone what is there. */
void vocab_put_chatglm(struct vocab *v)
{
    static const char *const after[] = {"[MASK]",   "[gMASK]",       "[sMASK]",
                                        "sop",      "eop",           "<|system|>",
                                        "<|user|>", "<|assistant|>", "<|observation|>"};
    for (size_t i = 0; i < sizeof after / sizeof *after && v->pieces.n + i < v->n; i++) {
        size_t id = v->pieces.n + i;
        v->texts[id] = (struct gguf_str){after[i], strlen(after[i])};
        v->types[id] = TOKEN_CONTROL;
        map_add(&v->piece_ids, after[i], strlen(after[i]), id);
    }
}

/* ---- Unigram in tokenizer.json
 * ------------------------------------------------------------------ */

int vocab_put_unigram(struct vocab *v, struct err *e)
{
    const json_t *list = v->tokens, *unk = json_object_get(v->bpe, "unk_id");
    v->tokens = NULL;
    if (json_array_size(list) == 0)
        return err_set(e, ERR_INPUT, "fetch tokenizer.json again from where the model comes from",
                       "%s has no vocabulary (model.vocab)", v->where);
    if (json_opt_bool(v->bpe, "byte_fallback", false))
        log_warn("%s is a Unigram model with byte fallback, which libllama lacks: characters "
                 "outside the vocabulary become unknown tokens",
                 v->where);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *text = json_array_get(item, 0);
        double score = json_number_value(json_array_get(item, 1));
        json_t *id = json_integer((json_int_t)i);
        int failed =
            !json_is_string(text) || !isfinite(score) || fabs(score) > 1e30
                ? err_set(e, ERR_INPUT,
                          "fetch tokenizer.json again from where the model comes from",
                          "%s: piece %zu is not a text and a score", v->where, i)
                : vocab_put_token(v, json_string_value(text), json_string_length(text), id, e);
        json_decref(id);
        if (failed)
            return -1;
        v->scores[i] = (float)score;
        map_add(&v->piece_ids, json_string_value(text), json_string_length(text), i);
    }
    if (json_is_integer(unk) && json_integer_value(unk) >= 0 && json_integer_value(unk) < v->n)
        v->types[json_integer_value(unk)] = TOKEN_UNKNOWN;
    return 0;
}

/* What the steps of normalizer and pre-tokenizer come to in libllama's terms. */
struct unigram_text {
    bool prefix, merge_spaces, has_metaspace;
    const char *charsmap; /* base64 */
};

static int read_replace(const struct vocab *v, const json_t *step, struct unigram_text *u,
                        struct err *e)
{
    const json_t *pattern = json_object_get(step, "pattern");
    const char *content = json_opt_str(step, "content", "");
    bool space = strcmp(content, " ") == 0 || strcmp(content, SPACE_MARK) == 0;
    if (space && strcmp(json_opt_str(pattern, "Regex", ""), " {2,}") == 0)
        u->merge_spaces = true;
    else if (!space || strcmp(json_opt_str(pattern, "String", ""), " ") != 0)
        return refuse(v, e, "its normalizer replaces texts in a way that libllama does not");
    return 0;
}

static int read_step(const struct vocab *v, const json_t *step, struct unigram_text *u, int depth,
                     struct err *e)
{
    const char *type = json_opt_str(step, "type", "");
    const json_t *list = json_object_get(step, "normalizers");
    if (!list)
        list = json_object_get(step, "pretokenizers");
    if (!json_is_object(step) || strcmp(type, "Strip") == 0)
        return 0;
    if (strcmp(type, "Sequence") == 0 && depth < 4) {
        for (size_t i = 0; i < json_array_size(list); i++)
            if (read_step(v, json_array_get(list, i), u, depth + 1, e))
                return -1;
    } else if (strcmp(type, "Precompiled") == 0) {
        u->charsmap = json_opt_str(step, "precompiled_charsmap", NULL);
    } else if (strcmp(type, "Replace") == 0) {
        return read_replace(v, step, u, e);
    } else if (strcmp(type, "Prepend") == 0) {
        u->prefix = true;
    } else if (strcmp(type, "WhitespaceSplit") == 0) {
        u->merge_spaces = true;
    } else if (strcmp(type, "Metaspace") == 0) {
        u->has_metaspace = true;
        u->prefix = strcmp(json_opt_str(step, "prepend_scheme", "always"), "never") != 0 &&
                    json_opt_bool(step, "add_prefix_space", true);
    } else {
        return err_set(e, ERR_UNSUPPORTED, NULL,
                       "%s: libllama's Unigram tokenizer has no step like \"%.60s\"", v->where,
                       type);
    }
    return 0;
}

/* The map begins with the size of its trie, which libllama checks in the same way. */
static bool charsmap_is_sound(const uint8_t *data, size_t n)
{
    uint32_t trie = 0;
    if (n >= sizeof trie)
        memcpy(&trie, data, sizeof trie);
    return n > sizeof trie && (uint64_t)trie + sizeof trie < n && trie % 4 == 0;
}

static int set_charsmap(struct vocab *v, const uint8_t *data, size_t n, struct err *e)
{
    if (n == 0)
        return 0;
    if (!charsmap_is_sound(data, n))
        return err_set(e, ERR_INPUT, "fetch the file again from where the model comes from",
                       "%s: the precompiled character map is damaged", v->where);
    gguf_set_array(&v->m->kvs, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, data, n);
    return 0;
}

static int set_charsmap_base64(struct vocab *v, const char *text, struct err *e)
{
    size_t len = text ? strlen(text) : 0, pad = 0;
    if (len == 0)
        return 0;
    while (pad < 2 && pad < len && text[len - 1 - pad] == '=')
        pad++;
    uint8_t *data = arena_alloc(&v->m->arena, len / 4 * 3 + 3);
    int n = len % 4 == 0 && len < INT32_MAX
                ? EVP_DecodeBlock(data, (const unsigned char *)text, (int)len)
                : -1;
    if (n < (int)pad)
        return err_set(e, ERR_INPUT, "fetch tokenizer.json again from where the model comes from",
                       "%s: the precompiled character map is not base64", v->where);
    return set_charsmap(v, data, (size_t)n - pad, e);
}

static void set_spaces(struct vocab *v, bool prefix, bool merge)
{
    gguf_set_bool(&v->m->kvs, "tokenizer.ggml.add_space_prefix", prefix);
    if (v->c->arch->encoder)
        vocab_set_type_count(v);
    gguf_set_bool(&v->m->kvs, "tokenizer.ggml.remove_extra_whitespaces", merge);
}

int vocab_set_unigram(struct vocab *v, struct err *e)
{
    if (v->have_pieces) {
        set_spaces(v, v->pieces.add_dummy_prefix, v->pieces.remove_extra_whitespaces);
        return set_charsmap(v, v->pieces.charsmap, v->pieces.charsmap_len, e);
    }
    struct unigram_text u = {0};
    if (read_step(v, json_object_get(v->doc, "normalizer"), &u, 0, e) ||
        read_step(v, json_object_get(v->doc, "pre_tokenizer"), &u, 0, e))
        return -1;
    if (!u.has_metaspace)
        return refuse(v, e, "libllama's Unigram tokenizer wants spaces as U+2581 (Metaspace)");
    if (u.merge_spaces && !u.prefix)
        log_warn("%s: libllama puts a space before each text of a tokenizer that merges spaces",
                 v->where);
    set_spaces(v, u.prefix, u.merge_spaces);
    return set_charsmap_base64(v, u.charsmap, e);
}

/* ---- ids
 * ---------------------------------------------------------------------------------------- */

static void set_missing(struct vocab *v, const char *key, int32_t id, int32_t assumed)
{
    if (id >= 0 && id != assumed && (uint32_t)id < v->n && !gguf_kvs_find(&v->m->kvs, key))
        gguf_set_u32(&v->m->kvs, key, (uint32_t)id);
}

/* What nobody states and libllama would take from Llama's or T5's tokenizer. */
void vocab_set_piece_ids(struct vocab *v)
{
    bool t5 = v->kind == VOCAB_UNIGRAM;
    const struct sentencepiece *s = &v->pieces;
    if (v->have_pieces && !v->fairseq_ids) {
        set_missing(v, "tokenizer.ggml.bos_token_id", s->bos_id, t5 ? -1 : 1);
        set_missing(v, "tokenizer.ggml.eos_token_id", s->eos_id, t5 ? 1 : 2);
        set_missing(v, "tokenizer.ggml.unknown_token_id", s->unk_id, t5 ? 2 : 0);
        set_missing(v, "tokenizer.ggml.padding_token_id", s->pad_id, t5 ? 0 : -1);
    } else if (t5) {
        for (uint32_t i = 0; i < v->n; i++)
            if (v->types[i] == TOKEN_UNKNOWN)
                set_missing(v, "tokenizer.ggml.unknown_token_id", (int32_t)i, 2);
    }
}
