/* Bits per byte: how well models of different vocabularies predict the same text.
 *
 * Tokens differ between models, bytes do not. The text is cut into pieces by bytes, the same for
 * every model; a piece is some context and what is scored after it. Both parts are tokenized by
 * themselves, so every model predicts exactly the scored bytes, given at least the same ones before
 * them, and its bits for a piece can be set beside another model's: differences are paired by
 * piece. Cuts lie after a line break where one is near, else before a word.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "measure/measure.h"
#include "measure/measure_int.h"
#include "base/banned.h"

static bool inside_character(char c)
{
    return ((unsigned char)c & 0xC0) == 0x80;
}

/* The best place to cut within the `back` bytes before `at`; depends on the text there alone, so
 * neighbouring pieces meet. */
static size_t cut_before(const char *text, size_t at, size_t back)
{
    size_t least = at - back;
    for (size_t i = at; i > least; i--)
        if (text[i - 1] == '\n')
            return i;
    for (size_t i = at; i > least; i--)
        if (text[i] == ' ')
            return i;
    while (at > least && inside_character(text[at]))
        at--;
    return at;
}

size_t byte_pieces_cut(struct byte_piece *out, size_t most, const char *text, size_t n,
                       uint32_t n_ctx)
{
    /* Few vocabularies make more than a token of two bytes of text. */
    size_t context = n_ctx / 2, scored = (size_t)n_ctx + n_ctx / 2;
    size_t whole = n > context ? (n - context - 1) / scored : 0;
    size_t kept = whole < most ? whole : most;
    for (size_t i = 0; i < kept; i++) {
        size_t from = i * whole / kept * scored; /* evenly over the text */
        while (inside_character(text[from]))
            from++;
        out[i] = (struct byte_piece){from, cut_before(text, from + context, context / 3),
                                     cut_before(text, from + context + scored, context / 3)};
    }
    return kept;
}

/* BOS where there is one, the context, what is scored; padded with token 0, which comes after all
 * that counts. *end is 0 where it does not fit. */
static int window_fill(struct engine *g, int32_t *window, uint32_t n_ctx, const char *text,
                       const struct byte_piece *p, size_t *first, size_t *end, struct err *e)
{
    const struct engine_info *info = engine_info(g);
    int32_t *before = NULL, *after = NULL;
    size_t n_before = 0, n_after = 0, bos = info->add_bos && info->bos >= 0;
    int rc =
        engine_tokenize(g, text + p->begin, p->middle - p->begin, false, &before, &n_before, e);
    if (rc == 0)
        rc = engine_tokenize(g, text + p->middle, p->end - p->middle, false, &after, &n_after, e);
    *first = bos + n_before;
    *end = *first + n_after;
    if (rc == 0 && (*end > n_ctx || *first == 0 || n_after == 0)) {
        *end = 0;
    } else if (rc == 0) {
        memset(window, 0, n_ctx * sizeof(*window));
        if (bos)
            window[0] = info->bos;
        memcpy(window + bos, before, n_before * sizeof(*window));
        memcpy(window + *first, after, n_after * sizeof(*window));
    }
    xfree(before);
    xfree(after);
    return rc;
}

/* Bits of the scored tokens of each window that was filled. */
static int score_windows(struct engine *g, const struct engine_windows *w, const size_t *piece,
                         const size_t *first, const size_t *end, double *bits,
                         const struct progress *p, struct err *e)
{
    size_t per = w->n_ctx - 1;
    struct engine_position *out = xcalloc(engine_windows_positions(w) + 1, sizeof(*out));
    int rc = engine_score(g, w, NULL, out, p, e);
    for (size_t i = 0; rc == 0 && i < w->n_windows; i++) {
        double nats = 0;
        for (size_t t = first[i]; t < end[i]; t++)
            nats += (double)out[i * per + t - 1].nll;
        bits[piece[i]] = nats / log(2);
    }
    xfree(out);
    return rc;
}

int measure_piece_bits(double *bits, const char *path, const char *text,
                       const struct byte_piece *pieces, size_t n, uint32_t n_ctx,
                       const struct measure_options *o, struct err *e)
{
    struct engine *g = NULL;
    struct engine_info info;
    if (measure_open(&g, &info, path, ENGINE_FILE, n_ctx, 0, true, o, e))
        return -1;
    int32_t *tokens = xreallocarray(NULL, n * n_ctx + 1, sizeof(*tokens));
    size_t *piece = xcalloc(3 * n + 1, sizeof(*piece)), *first = piece + n, *end = first + n;
    size_t filled = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        bits[i] = NAN;
        rc = window_fill(g, tokens + filled * n_ctx, n_ctx, text, &pieces[i], &first[filled],
                         &end[filled], e);
        piece[filled] = i;
        filled += rc == 0 && end[filled] > 0;
    }
    struct engine_windows w = {.tokens = tokens, .n_windows = filled, .n_ctx = n_ctx};
    if (rc == 0 && filled > 0)
        rc = score_windows(g, &w, piece, first, end, bits, o ? o->progress : NULL, e);
    xfree(tokens);
    xfree(piece);
    engine_stop(g);
    return rc;
}
