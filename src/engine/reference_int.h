/* How a reference lies in shared memory; both sides use it. */
#ifndef ENGINE_REFERENCE_INT_H
#define ENGINE_REFERENCE_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

/* log_total first, since doubles want 8-byte places; then logits, nll, top. */
struct reference_layout {
    uint64_t log_total, logits, nll, top, bytes;
};

/* False when that many positions of that vocabulary overflow. */
static inline bool reference_lay_out(uint64_t positions, uint64_t n_vocab,
                                     struct reference_layout *l)
{
    uint64_t per_position, vector, end;
    if (!num_mul_u64(n_vocab, sizeof(float), &per_position) ||
        !num_mul_u64(positions, sizeof(double), &vector) ||
        !num_mul_u64(positions, per_position, &end) || !num_add_u64(end, vector, &end) ||
        !num_add_u64(end, vector, &l->bytes))
        return false;
    l->log_total = 0;
    l->logits = vector;
    l->nll = end;
    l->top = l->nll + positions * sizeof(float);
    return true;
}

#endif
