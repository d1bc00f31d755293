/* Encoding with error feedback: what quant.c calls. */
#ifndef QUANT_FEEDBACK_INT_H
#define QUANT_FEEDBACK_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/quant.h"

/* Finite floats → blocks of any packed type. error is added to. Sets *infinite when a scale is not
 * finite. */
int feedback_encode(enum dtype type, const float *src, uint8_t *dst, uint64_t rows,
                    uint64_t n_per_row, const struct quant_feedback *feedback,
                    struct quant_error *error, bool *infinite, struct err *e);

#endif
