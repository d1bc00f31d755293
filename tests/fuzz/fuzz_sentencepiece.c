/* The reader of SentencePiece models: no input may crash it, and every text and score that it hands
 * out lies in the file and can be written to GGUF. */
#include "fuzz_int.h"

#include <math.h>

#include "../forge/forge_pieces.h"
#include "format/sentencepiece.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct sentencepiece s;
    struct err e = {0};
    volatile unsigned sum = 0;
    int found = sentencepiece_read(&s, fuzz_file(data, n), &e);
    if (found < 0 && (e.code == ERR_NONE || e.message[0] == '\0'))
        abort(); /* a refusal says why */
    if (found <= 0)
        return 0;
    for (size_t i = 0; i < s.n; i++) {
        const struct sentencepiece_piece *p = &s.pieces[i];
        if (p->len == 0 || !isfinite(p->score) || p->type < PIECE_NORMAL || p->type > PIECE_BYTE)
            abort();
        for (uint32_t k = 0; k < p->len; k++)
            sum += (unsigned char)p->text[k]; /* the sanitizer looks */
    }
    for (size_t k = 0; k < s.charsmap_len; k++)
        sum += s.charsmap[k];
    if (s.unk_id >= (int64_t)s.n || s.bos_id >= (int64_t)s.n)
        abort();
    sentencepiece_release(&s);
    return 0;
}

static struct forge f, inner;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *folder = fuzz_empty_corpus(*argc, *argv);
    if (!folder)
        return 0;
    forge_piece(&f, "<unk>", 5, 0.0f, PIECE_UNKNOWN);
    fuzz_seed(folder, "one", &f);
    forge_piece(&f, "\xe2\x96\x81the", 6, -3.5f, 0);
    forge_piece(&f, "<0x0A>", 6, 0.0f, PIECE_BYTE);
    forge_number(&inner, 3, SENTENCEPIECE_BPE);
    forge_number(&inner, 35, 1);
    forge_number(&inner, 43, UINT64_MAX);
    forge_message(&f, 2, &inner);
    inner.n = 0;
    forge_field(&inner, 2, 2);
    forge_varint(&inner, 8);
    forge_bytes(&inner, "\x04\0\0\0abcd", 8);
    forge_number(&inner, 4, 0);
    forge_message(&f, 3, &inner);
    fuzz_seed(folder, "whole", &f);
    return 0;
}
