/* A tokenizer of a Hugging Face folder on its way to tokenizer.ggml.*: shared by the vocab_*.c
 * files.
 *
 * Token ids run from 0 to n−1, n being vocab_size of config.json, so that tokens and embedding rows
 * always agree; ids that no token has become "[PADid]". Strings belong to the JSON documents. */
#ifndef MODEL_VOCAB_INT_H
#define MODEL_VOCAB_INT_H

#include "format/sentencepiece.h"
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

/* What libllama will run; the word in tokenizer.ggml.model. */
enum vocab_kind {
    VOCAB_BYTE_LEVEL, /* "gpt2": merges over bytes */
    VOCAB_SCORED,     /* "llama": SentencePiece with byte fallback; joins by score */
    VOCAB_UNIGRAM,    /* "t5": SentencePiece, the most probable pieces */
    VOCAB_WORDPIECE   /* "bert" */
};

struct vocab {
    struct model *m;
    const struct config *c;
    enum vocab_kind kind;
    const char *where; /* path of tokenizer.json, or of the SentencePiece model */
    json_t *doc;       /* tokenizer.json or NULL */
    bool have_pieces;  /* texts and scores come from pieces, a SentencePiece model */
    bool fairseq_ids;  /* its ids are shifted, see vocab_piece.c */
    struct sentencepiece pieces;
    json_t *config;             /* tokenizer_config.json or NULL */
    json_t *special_map;        /* special_tokens_map.json or NULL */
    json_t *added;              /* added_tokens.json or NULL */
    const json_t *bpe;          /* doc.model */
    const json_t *tokens;       /* doc.model.vocab, when it is an object */
    const json_t *model_config; /* config.json */
    uint32_t n;
    struct gguf_str *texts; /* [n]; data NULL: no token has this id */
    uint8_t *flags;         /* [n] */
    int32_t *types;         /* [n] */
    float *scores;          /* [n] */
    struct map added_ids;   /* text → id of added tokens */
    struct map piece_ids;   /* text → id where the vocabulary is not an object */
};

/* vocab.c */
bool vocab_id(const struct vocab *v, const char *text,
              uint32_t *id);                              /* in the vocabulary or added */
bool vocab_is_byte(struct gguf_str text, unsigned *byte); /* "<0x0A>" */
int vocab_put_token(struct vocab *v, const char *text, size_t len, const json_t *id, struct err *e);

/* vocab_piece.c: SentencePiece. */
int vocab_open_pieces(struct vocab *v, struct err *e); /* the folder's model, if it has one */
int vocab_put_pieces(struct vocab *v, struct err *e);  /* texts, scores, types of its pieces */
void vocab_put_chatglm(struct vocab *v);               /* what ChatGLM 3's code adds to them */
int vocab_put_unigram(struct vocab *v, struct err *e); /* the same from tokenizer.json */
/* The keys of both kinds but for the tokens; ids that libllama would assume otherwise. */
int vocab_set_unigram(struct vocab *v, struct err *e);
void vocab_set_piece_ids(struct vocab *v);

/* vocab_files.c: fills doc from vocab.json and merges.txt when both are there. */
int vocab_join_files(struct vocab *v, struct err *e);

/* vocab_ranks.c: fills doc from tekken.json, or GLM's tokenizer.model, when one is there. */
int vocab_read_ranks(struct vocab *v, struct err *e);

/* vocab_wordpiece.c: checks tokenizer.json and rewrites texts as libllama spells them. */
int vocab_set_wordpiece(struct vocab *v, struct err *e);
void vocab_set_type_count(struct vocab *v); /* of encoders */
void vocab_set_normalizer(struct vocab *v);

/* The pre-tokenizer that makes a kind of tokenizer of its own: not over bytes, spaces dropped. */
#define VOCAB_WHITESPACE "whitespace"
/* vocab_pre.c: tokenizer.ggml.pre of a byte-level tokenizer, found by the structure of its
 * pre-tokenizer. NULL with e set when libllama has none like it. */
const char *vocab_pre_find(const struct vocab *v, struct err *e);
const char *vocab_architecture(const struct vocab *v);    /* of config.json; "" without */
bool vocab_has_word(const char *words, const char *word); /* words are separated by spaces */
bool vocab_pre_is_bytes(const struct vocab *v);           /* some step is ByteLevel */
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
