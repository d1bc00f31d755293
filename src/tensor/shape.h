/* Shapes in GGUF order: ne[0] is the row length (in_features); the reverse of Hugging Face's order.
 */
#ifndef TENSOR_SHAPE_H
#define TENSOR_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

enum { SHAPE_DIMS_MAX = 4 };

struct shape {
    int n_dims;                  /* 1..4 */
    uint64_t ne[SHAPE_DIMS_MAX]; /* unused dimensions are 1 */
};

bool shape_elements(const struct shape *s, uint64_t *n); /* false on overflow */
uint64_t shape_rows(const struct shape *s);              /* elements / ne[0]; shape must be valid */
bool shape_equal(const struct shape *a, const struct shape *b);
/* "4096 x 256" (GGUF order). Returns text. */
char *shape_text(const struct shape *s, char text[static 96]);

#endif
