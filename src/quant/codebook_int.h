/* Codebooks of the IQ1, IQ2 and IQ3 types and, for every point that is not in one, the list of its
 * nearest entries.
 *
 * The encoder rounds a group of weights to lattice points (levels packed as in codebook_grids.c)
 * and, when the point is not an entry, takes the best of its list by weighted error. A list holds
 * the entries at the 1, 2 or 3 smallest distinct distances, ordered by (distance, position): the
 * order decides ties. Only points whose levels an encoder can produce have lists (3⁸ or 8⁴), and a
 * distance is the sum of two table look-ups, so building them takes milliseconds, where ggml 0.5.0
 * sorts every point's distances for seconds. */
#ifndef QUANT_CODEBOOK_INT_H
#define QUANT_CODEBOOK_INT_H

#include <stdint.h>

#include "tensor/dtype.h"

extern const uint16_t codebook_grid_iq2_xxs[256];
extern const uint16_t codebook_grid_iq2_xs[512];
extern const uint16_t codebook_grid_iq2_s[1024];
extern const uint16_t codebook_grid_iq3_xxs[256];
extern const uint16_t codebook_grid_iq3_s[512];
extern const uint16_t codebook_grid_iq1[2048]; /* IQ1_S and IQ1_M */

/* A list with its count is padded to whole groups of this many words; 16 words after any code can
 * be read. */
enum { CODEBOOK_GROUP = 8, CODEBOOK_SLACK = 16 };

struct codebook {
    int bits, dims, levels; /* 2, 8, 3 or 3, 4, 8 */
    const uint16_t *grid;   /* position → code */
    int n_grid;
    /* code → position, or −1 − offset of its list in `lists`. */
    const int32_t *index;
    /* At an offset: number of entries, then their codes, padded by repeating the first, which can't
     * win a tie. At 0 an empty list. */
    const uint16_t *lists;
};

/* Static after codebook_prepare(type); NULL for types without one. Thread-safe. */
const struct codebook *codebook_get(enum dtype type);
void codebook_prepare(enum dtype type);

#endif
