/* Levels of scalar types in and out of their blocks, with the scales left alone.
 *
 * In these types every weight is by itself: value = low + level·step, or step·table[level], where
 * low and step follow from the block's scales. So who knows the scales may choose the levels
 * anew. */
#ifndef QUANT_PACK_INT_H
#define QUANT_PACK_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/dtype.h"

enum { PACK_BLOCK_MAX = 256 };

/* NULL for types whose weights share codes. */
struct pack {
    int levels;         /* 4 to 255 */
    const float *table; /* (levels) of a type with uneven levels, rising; NULL: even ones */
    void (*write)(uint8_t *block, const uint8_t *level); /* one block's levels; scales stay */
};
const struct pack *pack_of(enum dtype type);

#endif
