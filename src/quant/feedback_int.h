/* Encoding with error feedback: what quant.c calls. */
#ifndef QUANT_FEEDBACK_INT_H
#define QUANT_FEEDBACK_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/quant.h"

bool feedback_has(enum dtype type);
/* Finite floats → blocks of a type that feedback_has. Sets *infinite when a scale is not finite. */
int feedback_encode(enum dtype type, const float *src, uint8_t *dst, uint64_t rows,
                    uint64_t n_per_row, const float *importance,
                    const struct quant_feedback *feedback, bool *infinite, struct err *e);

#endif
