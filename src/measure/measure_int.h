/* Shared inside measure/. */
#ifndef MEASURE_INT_H
#define MEASURE_INT_H

#include "measure/measure.h"

/* SHA-256 over n_ctx, first and the token ids, little-endian: what was measured on. */
void windows_hash(const struct engine_windows *w, char hex[static 65]);
/* Sums of activations over these windows → mean squares, added to m. Takes the activations' sums as
 * its scratch. */
int importance_from(struct imatrix *m, struct engine_activation *a, size_t n, const char *dataset,
                    const struct engine_windows *w, struct err *e);
/* Offset of the first byte that is not UTF-8 (RFC 3629), or n. */
size_t utf8_invalid_at(const char *text, size_t n);

#endif
