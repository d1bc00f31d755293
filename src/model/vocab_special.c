/* Special token ids and whether BOS, EOS and SEP are added to a text.
 *
 * Follows SpecialVocab in gguf-py/gguf/vocab.py of llama.cpp 0.5.0: the post-processor's template
 * says what is added, tokenizer_config.json overrides it; ids come from the texts in
 * tokenizer_config.json looked up among the added tokens, then from config.json. Where
 * tokenizer_config.json is missing we also ask special_tokens_map.json. Ids outside the vocabulary
 * (some models write −1 for "none") are left out. */
#include "model/vocab_int.h"

#include <string.h>

#include "base/log.h"
#include "base/banned.h"

enum special { BOS, EOS, UNK, SEP, PAD, CLS, MASK, EOT, EOM, SPECIAL_COUNT };

struct special_row {
    const char *name;    /* "bos": bos_token, bos_token_id, add_bos_token */
    const char *id_key;  /* NULL: GGUF has none */
    const char *add_key; /* NULL: GGUF has none */
};

static const struct special_row special_rows[SPECIAL_COUNT] = {
    [BOS] = {"bos", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token"},
    [EOS] = {"eos", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_eos_token"},
    [UNK] = {"unk", "tokenizer.ggml.unknown_token_id", NULL},
    [SEP] = {"sep", "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.add_sep_token"},
    [PAD] = {"pad", "tokenizer.ggml.padding_token_id", NULL},
    [CLS] = {"cls", NULL, NULL},
    [MASK] = {"mask", "tokenizer.ggml.mask_token_id", NULL},
    [EOT] = {"eot", "tokenizer.ggml.eot_token_id", NULL},
    [EOM] = {"eom", "tokenizer.ggml.eom_token_id", NULL},
};

struct specials {
    struct vocab *v;
    bool have_config; /* tokenizer_config.json is there */
    const char *texts[SPECIAL_COUNT];
    int count; /* rows in use: up to MASK, then EOT, then EOM */
    enum config_flag add[SPECIAL_COUNT];
    enum special order[SPECIAL_COUNT]; /* of the first mention of add */
    int n_order;
};

const char *vocab_special_text(const json_t *doc, const char *key)
{
    const json_t *v = json_object_get(doc, key);
    return json_is_string(v) ? json_string_value(v)
                             : json_string_value(json_object_get(v, "content"));
}

static bool same(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

static void set_add(struct specials *s, enum special which, bool value)
{
    if (s->add[which] == FLAG_UNSET)
        s->order[s->n_order++] = which;
    s->add[which] = value ? FLAG_YES : FLAG_NO;
}

/* ---- post-processors
 * ---------------------------------------------------------------------------- */

static const char *special_at(const json_t *list, size_t i)
{
    return json_opt_str(json_object_get(json_array_get(list, i), "SpecialToken"), "id", NULL);
}

static const char *sequence_at(const json_t *list, size_t i)
{
    return json_opt_str(json_object_get(json_array_get(list, i), "Sequence"), "id", NULL);
}

static void read_first(struct specials *s, const char *first)
{
    if (!s->have_config) {
        s->texts[BOS] = first;
    } else if (!same(first, s->texts[BOS]) && !same(first, s->texts[CLS])) {
        if (!s->texts[BOS])
            s->texts[BOS] = first;
        if (!s->texts[CLS])
            s->texts[CLS] = first;
    }
    set_add(s, BOS, same(first, s->texts[BOS]) || same(first, s->texts[CLS]));
}

/* A template that ends in another token than eos_token: that one ends a text, the former a turn. */
static void read_last(struct specials *s, const char *last)
{
    if (s->have_config && !same(last, s->texts[EOS])) {
        if (s->count == EOT || s->count == EOM)
            s->texts[s->count++] = s->texts[EOS];
        else
            log_warn("%s: the template's last token %.60s replaces %.60s as end of text",
                     s->v->where, last, s->texts[EOS] ? s->texts[EOS] : "none");
    }
    s->texts[EOS] = last;
    set_add(s, EOS, true);
}

/* A [sep] [eos] B: whether the pair template puts separators between its two sequences. */
static void read_pair(struct specials *s, const json_t *pair, const char *first, const char *last)
{
    size_t n = json_array_size(pair);
    size_t from = n && first && same(first, special_at(pair, 0)) ? 1 : 0;
    size_t to = n > from && last && same(last, special_at(pair, n - 1)) ? n - 1 : n;
    if (to < from + 3 || !same(sequence_at(pair, from), "A") ||
        !same(sequence_at(pair, to - 1), "B"))
        return;
    size_t middle = to - from - 2;
    const char *one = special_at(pair, from + 1), *two = special_at(pair, from + 2);
    bool add = !last && (same(one, s->texts[SEP]) || same(one, s->texts[EOS]));
    if (middle == 2)
        add |= same(two, s->texts[SEP]) || same(two, s->texts[EOS]);
    set_add(s, SEP, add);
    if (add && !s->texts[SEP] && s->have_config)
        s->texts[SEP] = s->texts[EOS];
}

static void read_template(struct specials *s, const json_t *processor)
{
    const json_t *single = json_object_get(processor, "single");
    const char *first = NULL, *last = NULL;
    size_t n = json_array_size(single);
    if (n > 1) {
        first = special_at(single, 0);
        if (first)
            read_first(s, first);
        last = special_at(single, n - 1);
        if (last)
            read_last(s, last);
    }
    read_pair(s, json_object_get(processor, "pair"), first, last);
}

static void read_roberta(struct specials *s, const json_t *processor)
{
    set_add(s, BOS, true);
    set_add(s, EOS, true);
    set_add(s, SEP, true);
    if (!s->have_config)
        return;
    if (!s->texts[CLS])
        s->texts[CLS] = json_string_value(json_array_get(json_object_get(processor, "cls"), 0));
    if (!s->texts[SEP])
        s->texts[SEP] = json_string_value(json_array_get(json_object_get(processor, "sep"), 0));
}

static void read_processor(struct specials *s, const json_t *processor)
{
    const char *type = json_opt_str(processor, "type", "");
    if (strcmp(type, "TemplateProcessing") == 0)
        read_template(s, processor);
    else if (strcmp(type, "RobertaProcessing") == 0)
        read_roberta(s, processor);
}

static void read_processors(struct specials *s)
{
    const json_t *post = json_object_get(s->v->doc, "post_processor");
    const json_t *list = json_object_get(post, "processors");
    if (!json_is_array(list))
        read_processor(s, post);
    for (size_t i = 0; i < json_array_size(list); i++)
        read_processor(s, json_array_get(list, i));
}

/* ---- ids
 * ---------------------------------------------------------------------------------------- */

static void set_id(struct specials *s, enum special which, json_int_t id)
{
    struct gguf_kvs *k = &s->v->m->kvs;
    const char *key = special_rows[which].id_key;
    if (!key || gguf_kvs_find(k, key))
        return;
    if (id < 0 || id >= s->v->n)
        log_warn("%s: %s token id %lld is outside the vocabulary of %u and is left out",
                 s->v->m->path, special_rows[which].name, (long long)id, s->v->n);
    else
        gguf_set_u32(k, key, (uint32_t)id);
}

/* By text, among the added tokens of tokenizer.json. */
static void set_id_of_text(struct specials *s, enum special which, const char *text)
{
    const json_t *added = json_object_get(s->v->doc, "added_tokens");
    for (size_t i = 0; text && i < json_array_size(added); i++) {
        const json_t *t = json_array_get(added, i);
        if (same(text, json_opt_str(t, "content", NULL))) {
            set_id(s, which, json_integer_value(json_object_get(t, "id")));
            return;
        }
    }
}

static void set_ids(struct specials *s)
{
    for (int i = 0; i < s->count; i++) {
        char *key = xasprintf("add_%s_token", special_rows[i].name);
        const json_t *add = json_object_get(s->v->config, key);
        xfree(key);
        if (json_is_boolean(add))
            set_add(s, (enum special)i, json_is_true(add));
        if (s->have_config)
            set_id_of_text(s, (enum special)i, s->texts[i]);
    }
    for (int i = 0; i < s->count; i++) {
        char *key = xasprintf("%s_token_id", special_rows[i].name);
        const json_t *id = json_object_get(s->v->model_config, key);
        xfree(key);
        if (json_is_integer(id))
            set_id(s, (enum special)i, json_integer_value(id));
    }
}

static void set_ids_by_map(struct specials *s)
{
    for (int i = 0; i < s->count; i++) {
        char *key = xasprintf("%s_token", special_rows[i].name);
        set_id_of_text(s, (enum special)i, vocab_special_text(s->v->special_map, key));
        xfree(key);
    }
}

int vocab_set_special(struct vocab *v, struct err *e)
{
    (void)e;
    struct specials s = {.v = v, .have_config = v->config != NULL, .count = MASK + 1};
    for (int i = 0; i <= MASK; i++) {
        char *key = xasprintf("%s_token", special_rows[i].name);
        s.texts[i] = vocab_special_text(v->config, key);
        xfree(key);
    }
    if (!s.texts[BOS])
        s.texts[BOS] = s.texts[CLS];
    if (!s.texts[EOS])
        s.texts[EOS] = s.texts[SEP];
    read_processors(&s);
    set_ids(&s);
    if (!s.have_config)
        set_ids_by_map(&s);
    for (int i = 0; i < s.n_order; i++)
        if (special_rows[s.order[i]].add_key)
            gguf_set_bool(&v->m->kvs, special_rows[s.order[i]].add_key,
                          s.add[s.order[i]] == FLAG_YES);
    return 0;
}
