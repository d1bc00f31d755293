/* Shapes: products and text. Owns nothing. Dimensions come from files, so every product is checked;
 * a dimension count outside 1..4 is never walked. */
#include "tensor/shape.h"

#include <stdio.h>

#include "base/num.h"
#include "base/banned.h"

static int dims_of(const struct shape *s)
{
    return s->n_dims < 0 ? 0 : s->n_dims > SHAPE_DIMS_MAX ? SHAPE_DIMS_MAX : s->n_dims;
}

bool shape_elements(const struct shape *s, uint64_t *n)
{
    uint64_t product = 1;
    if (s->n_dims < 1 || s->n_dims > SHAPE_DIMS_MAX)
        return false;
    for (int i = 0; i < s->n_dims; i++)
        if (!num_mul_u64(product, s->ne[i], &product))
            return false;
    *n = product;
    return true;
}

uint64_t shape_rows(const struct shape *s)
{
    uint64_t rows = 1;
    for (int i = 1; i < dims_of(s); i++)
        rows *= s->ne[i];
    return rows;
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->n_dims != b->n_dims)
        return false;
    for (int i = 0; i < dims_of(a); i++)
        if (a->ne[i] != b->ne[i])
            return false;
    return true;
}

char *shape_text(const struct shape *s, char text[static 96])
{
    int at = 0;
    text[0] = 0;
    for (int i = 0; i < dims_of(s); i++) /* 4 times 20 digits and 3 separators fit in 96 */
        at += snprintf(text + at, 96 - (size_t)at, "%s%llu", i > 0 ? " x " : "",
                       (unsigned long long)s->ne[i]);
    return text;
}
