/* The reader of SentencePiece models: one pass that counts the pieces and checks the outermost
 * level, then one that reads. Texts stay in the file's bytes. Refused: lengths beyond the end,
 * varints of more than ten bytes, pieces that are empty or not UTF-8, scores that are no numbers,
 * special ids beyond the pieces. */
#include "format/sentencepiece.h"

#include <math.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "format/text_int.h"
#include "base/banned.h"

enum { FILE_BYTES_MAX = 256 << 20, PIECES_MAX = 1 << 24, PIECE_BYTES_MAX = 1 << 20 };

enum { KIND_VARINT = 0, KIND_FIXED64 = 1, KIND_BYTES = 2, KIND_FIXED32 = 5 };

struct span {
    const uint8_t *at, *end;
};

struct field {
    uint64_t number;
    unsigned kind;
    uint64_t value;    /* varint, or the bits of a fixed number */
    struct span bytes; /* KIND_BYTES */
};

static bool take_varint(struct span *s, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 70 && s->at < s->end; shift += 7) {
        uint8_t byte = *s->at++;
        if (shift == 63 && byte > 1)
            return false;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

static bool take_fixed(struct span *s, unsigned bytes, uint64_t *value)
{
    if ((size_t)(s->end - s->at) < bytes)
        return false;
    *value = 0;
    for (unsigned i = 0; i < bytes; i++)
        *value |= (uint64_t)s->at[i] << (8 * i);
    s->at += bytes;
    return true;
}

static bool take_field(struct span *s, struct field *f)
{
    uint64_t key;
    if (!take_varint(s, &key))
        return false;
    f->number = key >> 3;
    f->kind = (unsigned)(key & 7);
    if (f->number == 0)
        return false;
    switch (f->kind) {
    case KIND_VARINT:
        return take_varint(s, &f->value);
    case KIND_FIXED64:
        return take_fixed(s, 8, &f->value);
    case KIND_FIXED32:
        return take_fixed(s, 4, &f->value);
    case KIND_BYTES:
        if (!take_varint(s, &f->value) || f->value > (size_t)(s->end - s->at))
            return false;
        f->bytes = (struct span){s->at, s->at + f->value};
        s->at += f->value;
        return true;
    default:
        return false;
    }
}

static int damaged(const char *path, const char *what, struct err *e)
{
    return err_set(e, ERR_INPUT, "fetch the file again from where the model comes from",
                   "%s is not a sound SentencePiece model: %s", path, what);
}

/* ---- the three messages
 * ------------------------------------------------------------------------- */

static int read_piece(struct sentencepiece_piece *p, struct span s, const char *path, struct err *e)
{
    struct field f;
    *p = (struct sentencepiece_piece){.type = PIECE_NORMAL};
    while (s.at < s.end) {
        if (!take_field(&s, &f))
            return damaged(path, "a piece ends within a field", e);
        if (f.number == 1 && f.kind == KIND_BYTES) {
            if (f.value > PIECE_BYTES_MAX)
                return damaged(path, "a piece is longer than 1 MiB", e);
            p->text = (const char *)f.bytes.at;
            p->len = (uint32_t)f.value;
        } else if (f.number == 2 && f.kind == KIND_FIXED32) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&p->score, &bits, sizeof p->score);
        } else if (f.number == 3 && f.kind == KIND_VARINT) {
            if (f.value < PIECE_NORMAL || f.value > PIECE_BYTE)
                return damaged(path, "a piece is of an unknown type", e);
            p->type = (enum sentencepiece_type)f.value;
        }
    }
    if (p->len == 0)
        return damaged(path, "a piece has no text", e);
    if (!text_is_utf8(p->text, p->len))
        return damaged(path, "the text of a piece is not UTF-8", e);
    return isfinite(p->score) ? 0 : damaged(path, "the score of a piece is not a number", e);
}

/* A negative int32 travels as a varint of 64 bits. */
static int32_t small_int(uint64_t value)
{
    int64_t v = (int64_t)value;
    return v < 0 || v > INT32_MAX ? -1 : (int32_t)v;
}

static int read_trainer(struct sentencepiece *m, struct span s, const char *path, struct err *e)
{
    struct field f;
    int32_t *const ids[] = {&m->unk_id, &m->bos_id, &m->eos_id, &m->pad_id};
    uint64_t kind = SENTENCEPIECE_UNIGRAM;
    while (s.at < s.end) {
        if (!take_field(&s, &f))
            return damaged(path, "trainer_spec ends within a field", e);
        if (f.kind != KIND_VARINT)
            continue;
        if (f.number == 3)
            kind = f.value;
        else if (f.number == 24)
            m->whitespace_as_suffix = f.value != 0;
        else if (f.number == 35)
            m->byte_fallback = f.value != 0;
        else if (f.number >= 40 && f.number <= 43)
            *ids[f.number - 40] = small_int(f.value);
    }
    m->kind = (enum sentencepiece_kind)kind;
    if (kind == SENTENCEPIECE_UNIGRAM || kind == SENTENCEPIECE_BPE)
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "supported are Unigram and BPE",
                   "%s is a SentencePiece model of kind %llu, which libllama cannot run", path,
                   (unsigned long long)kind);
}

static int read_normalizer(struct sentencepiece *m, struct span s, const char *path, struct err *e)
{
    struct field f;
    while (s.at < s.end) {
        if (!take_field(&s, &f))
            return damaged(path, "normalizer_spec ends within a field", e);
        if (f.number == 2 && f.kind == KIND_BYTES) {
            m->charsmap = f.value ? f.bytes.at : NULL;
            m->charsmap_len = (size_t)f.value;
        }
        if (f.kind != KIND_VARINT)
            continue;
        if (f.number == 3)
            m->add_dummy_prefix = f.value != 0;
        else if (f.number == 4)
            m->remove_extra_whitespaces = f.value != 0;
        else if (f.number == 5)
            m->escape_whitespaces = f.value != 0;
    }
    return 0;
}

/* ---- the model
 * ---------------------------------------------------------------------------------- */

static int count_pieces(struct span s, size_t *n, const char *path, struct err *e)
{
    struct field f;
    *n = 0;
    while (s.at < s.end) {
        if (!take_field(&s, &f))
            return damaged(path, "it ends within a field", e);
        *n += f.number == 1 && f.kind == KIND_BYTES;
    }
    if (*n == 0)
        return damaged(path, "it has no pieces", e);
    return *n <= PIECES_MAX ? 0 : damaged(path, "it has more than 16 million pieces", e);
}

static int read_model(struct sentencepiece *m, struct span s, const char *path, struct err *e)
{
    struct field f;
    size_t i = 0;
    while (s.at < s.end && take_field(&s, &f)) {
        int failed = 0;
        if (f.kind != KIND_BYTES)
            continue;
        if (f.number == 1)
            failed = read_piece(&m->pieces[i++], f.bytes, path, e);
        else if (f.number == 2)
            failed = read_trainer(m, f.bytes, path, e);
        else if (f.number == 3)
            failed = read_normalizer(m, f.bytes, path, e);
        if (failed)
            return -1;
    }
    const int32_t ids[] = {m->unk_id, m->bos_id, m->eos_id, m->pad_id};
    for (size_t k = 0; k < sizeof ids / sizeof *ids; k++)
        if (ids[k] >= 0 && (size_t)ids[k] >= m->n)
            return damaged(path, "a special id is beyond the last piece", e);
    return 0;
}

static int parse(struct sentencepiece *m, struct span s, const char *path, struct err *e)
{
    if (count_pieces(s, &m->n, path, e))
        return -1;
    m->pieces = big_alloc(m->n * sizeof *m->pieces, "the pieces of a SentencePiece model", e);
    return m->pieces ? read_model(m, s, path, e) : -1;
}

int sentencepiece_read(struct sentencepiece *s, const char *path, struct err *e)
{
    size_t n = 0;
    *s = (struct sentencepiece){.kind = SENTENCEPIECE_UNIGRAM,
                                .add_dummy_prefix = true,
                                .remove_extra_whitespaces = true,
                                .escape_whitespaces = true,
                                .bos_id = 1,
                                .eos_id = 2,
                                .pad_id = -1};
    if (fs_read_all(path, FILE_BYTES_MAX, &s->data, &n, e))
        return -1;
    struct span all = {(const uint8_t *)s->data, (const uint8_t *)s->data + n};
    /* The first field of a model is a piece: number 1, bytes. */
    if (n == 0 || all.at[0] != (1 << 3 | KIND_BYTES)) {
        sentencepiece_release(s);
        return 0;
    }
    if (parse(s, all, path, e) == 0)
        return 1;
    sentencepiece_release(s);
    return -1;
}

void sentencepiece_release(struct sentencepiece *s)
{
    big_free(s->pieces, s->n * sizeof *s->pieces);
    xfree(s->data);
    *s = (struct sentencepiece){0};
}
