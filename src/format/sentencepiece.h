/* SentencePiece models: tokenizer.model, spiece.model, sentencepiece.bpe.model.
 *
 * A protocol buffer, ModelProto of sentencepiece_model.proto (google/sentencepiece 0.2):
 *   1 pieces, repeated { 1 piece: bytes, 2 score: f32, 3 type: enum }
 *   2 trainer_spec    { 3 model_type, 24 treat_whitespace_as_suffix, 35 byte_fallback,
 *                       40 unk_id, 41 bos_id, 42 eos_id, 43 pad_id }
 *   3 normalizer_spec { 2 precompiled_charsmap: bytes, 3 add_dummy_prefix,
 *                       4 remove_extra_whitespaces, 5 escape_whitespaces }
 * On the wire each field is a varint key (number × 8 + kind) and a value: varint (0), 8 bytes (1),
 * varint length and bytes (2), 4 bytes (5). Other fields are skipped by their kind; groups (3, 4),
 * which the format never had, are refused. A field given twice counts the last time, as in every
 * reader of the format. */
#ifndef FORMAT_SENTENCEPIECE_H
#define FORMAT_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum sentencepiece_kind { SENTENCEPIECE_UNIGRAM = 1, SENTENCEPIECE_BPE = 2 };

/* The numbers of the format; those of tokenizer.ggml.token_type are the same. */
enum sentencepiece_type {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER_DEFINED = 4,
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6
};

struct sentencepiece_piece {
    const char *text; /* in data; UTF-8, may hold NUL, not terminated, never empty */
    uint32_t len;
    float score; /* finite */
    enum sentencepiece_type type;
};

struct sentencepiece {
    enum sentencepiece_kind kind;
    bool byte_fallback, whitespace_as_suffix;
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    int32_t unk_id, bos_id, eos_id, pad_id; /* −1: none */
    const uint8_t *charsmap;                /* in data; NULL when empty */
    size_t charsmap_len;
    struct sentencepiece_piece *pieces; /* [n], id is the index */
    size_t n;
    char *data; /* the file; owned */
};

/* 1 and a model to release; 0 when the file is of another format (vocabularies of tiktoken are also
 * called tokenizer.model); −1 with e set when it is damaged, too large, or of a kind other than
 * Unigram and BPE. */
int sentencepiece_read(struct sentencepiece *s, const char *path, struct err *e);
void sentencepiece_release(struct sentencepiece *s);

#endif
