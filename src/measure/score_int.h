/* A score from single positions. */
#ifndef MEASURE_SCORE_INT_H
#define MEASURE_SCORE_INT_H

#include "measure/measure.h"

/* Clears s and fills the fields of quality. */
void score_fill(struct score *s, const struct engine_windows *w,
                const struct engine_position *positions, bool has_reference, double ppl_base);

#endif
