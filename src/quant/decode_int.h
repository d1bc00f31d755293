/* Blocks to floats, for every packed type that has a meaning by itself. */
#ifndef QUANT_DECODE_INT_H
#define QUANT_DECODE_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/dtype.h"

/* n weights (whole blocks); false when there is no decoder for the type. */
bool decode_blocks(enum dtype type, const void *src, float *dst, uint64_t n);

#endif
