/* A tokenizer of a Hugging Face folder on its way to tokenizer.ggml.*: shared by the vocab_*.c
 * files.
 *
 * Token ids run from 0 to n−1, n being vocab_size of config.json, so that tokens and embedding rows
 * always agree; ids that no token has become "[PADid]". Strings belong to the JSON documents. */
#ifndef MODEL_VOCAB_INT_H
#define MODEL_VOCAB_INT_H

#include "model/config_int.h"

/* tokenizer.ggml.token_type, gguf-py/gguf/constants.py TokenType. */
enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6
};

enum { TOKEN_IS_ADDED = 1, TOKEN_IS_SPECIAL = 2 };

struct vocab {
    struct model *m;
    const struct config *c;
    const char *where;          /* path of tokenizer.json */
    json_t *doc;                /* tokenizer.json */
    json_t *config;             /* tokenizer_config.json or NULL */
    json_t *special_map;        /* special_tokens_map.json or NULL */
    json_t *added;              /* added_tokens.json or NULL */
    const json_t *bpe;          /* doc.model */
    const json_t *tokens;       /* doc.model.vocab */
    const json_t *model_config; /* config.json */
    uint32_t n;
    struct gguf_str *texts; /* [n]; data NULL: no token has this id */
    uint8_t *flags;         /* [n] */
    int32_t *types;         /* [n] */
    float *scores;          /* [n] */
    struct map added_ids;   /* text → id of added tokens */
};

/* vocab.c */
bool vocab_id(const struct vocab *v, const char *text,
              uint32_t *id);                              /* in the vocabulary or added */
bool vocab_is_byte(struct gguf_str text, unsigned *byte); /* "<0x0A>" */

/* vocab_pre.c: tokenizer.ggml.pre of a byte-level tokenizer, found by the structure of its
 * pre-tokenizer. NULL with e set when libllama has none like it. */
const char *vocab_pre_find(const struct vocab *v, struct err *e);
/* Whether a SentencePiece-style tokenizer puts a space before the text; −1 with e set when its
 * normalizer and pre-tokenizer are of an unknown kind. */
int vocab_space_prefix(const struct vocab *v, bool *prefix, struct err *e);

/* vocab_merges.c: model.merges, checked against the vocabulary. */
int vocab_set_merges(struct vocab *v, struct err *e);
int vocab_set_scores(struct vocab *v, struct err *e); /* scores[] from the order of merges */

/* vocab_special.c: special ids, add_bos and its like; vocab_template.c: chat templates. */
int vocab_set_special(struct vocab *v, struct err *e);
int vocab_set_templates(struct vocab *v, struct err *e);
const char *vocab_special_text(const json_t *doc, const char *key); /* "…" or {"content": "…"} */

#endif
