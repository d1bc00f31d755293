/* A file against its original when the reference of all windows does not fit into memory.
 *
 * Both models stay loaded, each in its worker; piece after piece the original's logits are made,
 * the file is scored on them, and they are dropped. The single positions are kept (twelve bytes
 * each), so the score is the one that a reference of all windows would have given.
 */
#include <math.h>

#include "base/mem.h"
#include "measure/measure.h"
#include "measure/measure_int.h"
#include "measure/score_int.h"

#include "base/banned.h"

/* What a piece goes through. */
struct pieces {
    struct engine *base, *candidate;
    const struct engine_windows *all;
    size_t per_piece; /* windows */
    uint64_t bytes_max;
    struct engine_position *positions;
    double nll; /* of the original, summed */
};

static struct engine_windows piece_at(const struct pieces *p, size_t from)
{
    struct engine_windows w = *p->all;
    size_t left = p->all->n_windows - from;
    w.tokens += from * w.n_ctx;
    w.n_windows = left < p->per_piece ? left : p->per_piece;
    return w;
}

static int score_piece(struct pieces *p, size_t from, struct err *e)
{
    struct measure_reference r;
    struct engine_windows w = piece_at(p, from);
    size_t at = from * (p->all->n_ctx - 1 - p->all->first);
    if (measure_reference_make(&r, p->base, &w, p->bytes_max, NULL, e))
        return -1;
    for (size_t i = 0; i < r.logits.positions; i++)
        p->nll += (double)r.logits.nll[i];
    int rc = engine_score(p->candidate, &w, &r.logits, p->positions + at, NULL, e);
    measure_reference_release(&r);
    return rc;
}

static int score_pieces(struct pieces *p, const struct progress *progress, struct err *e)
{
    for (size_t from = 0; from < p->all->n_windows; from += p->per_piece) {
        progress_report(progress, "score beside the original", (double)from,
                        (double)p->all->n_windows, NULL);
        if (score_piece(p, from, e))
            return -1;
    }
    return 0;
}

int measure_quality_pieces(struct score *s, const char *path, struct engine *base,
                           const struct engine_windows *w, size_t per_piece, uint64_t bytes_max,
                           const struct measure_options *o, struct err *e)
{
    struct engine_info info;
    struct pieces p = {.base = base, .all = w, .per_piece = per_piece, .bytes_max = bytes_max};
    size_t n = engine_windows_positions(w);
    *s = (struct score){0};
    if (n == 0 || per_piece == 0)
        return err_set(e, ERR_BUG, NULL, "there is no position to score");
    if (measure_open(&p.candidate, &info, path, ENGINE_FILE, w->n_ctx, 0, true, o, e))
        return -1;
    p.positions = xcalloc(n, sizeof(*p.positions));
    int rc = score_pieces(&p, o ? o->progress : NULL, e);
    if (rc == 0) {
        score_fill(s, w, p.positions, true, exp(p.nll / (double)n));
        windows_hash(w, s->corpus_sha256);
    }
    xfree(p.positions);
    engine_stop(p.candidate);
    return rc;
}
