/* SentencePiece models made in memory, honest or lying, for tests and fuzzing. */
#ifndef TESTS_FORGE_PIECES_H
#define TESTS_FORGE_PIECES_H

#include "forge.h"

static inline void forge_varint(struct forge *f, uint64_t v)
{
    for (; v > 127; v >>= 7)
        forge_u8(f, (unsigned)(v & 127) | 128);
    forge_u8(f, (unsigned)v);
}

/* kind: 0 varint, 2 bytes, 5 four bytes */
static inline void forge_field(struct forge *f, unsigned number, unsigned kind)
{
    forge_varint(f, number << 3 | kind);
}

static inline void forge_number(struct forge *f, unsigned number, uint64_t v)
{
    forge_field(f, number, 0);
    forge_varint(f, v);
}

/* `inner` becomes a field of bytes of `f`. */
static inline void forge_message(struct forge *f, unsigned number, const struct forge *inner)
{
    forge_field(f, number, 2);
    forge_varint(f, inner->n);
    forge_bytes(f, inner->data, inner->n);
}

/* type 0: left out, which says normal */
static inline void forge_piece(struct forge *f, const char *text, size_t len, float score,
                               unsigned type)
{
    static struct forge piece;
    piece.n = 0;
    forge_field(&piece, 1, 2);
    forge_varint(&piece, len);
    forge_bytes(&piece, text, len);
    forge_field(&piece, 2, 5);
    forge_f32(&piece, score);
    if (type)
        forge_number(&piece, 3, type);
    forge_message(f, 1, &piece);
}

#endif
