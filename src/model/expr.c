/* The small language of the tables: numbers from config.json, shapes, and views of tensors.
 *
 * Tables are ours and trusted, the fields they name are not: what a field may make of a shape or a
 * view is checked here, so that whoever uses the result needs no further checks. A view that does
 * not cover its tensor exactly is a bug of the table or a config.json that contradicts itself, and
 * an error either way. */
#include "model/config_int.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/banned.h"

#define EXPR_MAX 1e15

static int missing_field(const struct expr *x, const char *name, struct err *e)
{
    return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                   "%s has no %s, which every %s states", x->c->where, name, x->c->arch->hf_name);
}

struct known {
    const char *name;
    double value;
};

static bool known_value(const struct config *c, const char *name, double *out)
{
    const struct known all[] = {
        {"vocab", c->vocab_size},
        {"hidden", c->hidden},
        {"ffn", c->ffn},
        {"layers", c->layers},
        {"heads", c->heads},
        {"kv_heads", c->kv_heads},
        {"head_dim", c->head_dim},
        {"context", c->context},
        {"rotary", c->rotary},
        {"q", (double)c->heads * c->head_dim},
        {"kv", (double)c->kv_heads * c->head_dim},
        {"group", c->kv_heads ? c->heads / c->kv_heads : 0},
        {"experts", c->experts},
        {"expert_ffn", c->expert_ffn},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].name, name) == 0) {
            *out = all[i].value;
            return true;
        }
    }
    return false;
}

static int field_value(const struct expr *x, const char *name, double *out, struct err *e)
{
    const json_t *v = json_object_get(x->c->fields, name);
    if (json_is_array(v) && x->layer >= 0)
        v = json_array_get(v, (size_t)x->layer);
    *out = 0;
    if (json_is_number(v))
        *out = json_number_value(v);
    else if (json_is_boolean(v))
        *out = json_is_true(v);
    else if (!x->lenient)
        return missing_field(x, name, e);
    return 0;
}

static int atom(const struct expr *x, const char **at, double *out, struct err *e)
{
    if (isdigit((unsigned char)**at)) {
        char *end;
        *out = strtod(*at, &end);
        *at = end;
        return 0;
    }
    size_t n = 0;
    while (isalnum((unsigned char)(*at)[n]) || (*at)[n] == '_')
        n++;
    if (n == 0)
        return err_set(e, ERR_BUG, NULL, "\"%s\" is not an expression", *at);
    char *name = xstrndup(*at, n);
    *at += n;
    int failed = known_value(x->c, name, out) ? 0 : field_value(x, name, out, e);
    xfree(name);
    return failed;
}

static int product(const struct expr *x, const char **at, double *out, struct err *e)
{
    if (atom(x, at, out, e))
        return -1;
    while (**at == '*' || **at == '/') {
        char op = *(*at)++;
        double right;
        if (atom(x, at, &right, e))
            return -1;
        if (op == '/' && right == 0)
            return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                           "%s: a number that others are divided by is 0", x->c->where);
        *out = op == '*' ? *out * right : *out / right;
    }
    return 0;
}

static int sum(const struct expr *x, const char **at, double *out, struct err *e)
{
    if (product(x, at, out, e))
        return -1;
    while (**at == '+' || **at == '-') {
        char op = *(*at)++;
        double right;
        if (product(x, at, &right, e))
            return -1;
        *out += op == '+' ? right : -right;
    }
    if (!isfinite(*out) || fabs(*out) > EXPR_MAX)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: its numbers make a size of more than 10^15", x->c->where);
    return 0;
}

int expr_real(const struct expr *x, const char *text, double *out, struct err *e)
{
    if (sum(x, &text, out, e))
        return -1;
    return *text ? err_set(e, ERR_BUG, NULL, "\"%s\" is left of an expression", text) : 0;
}

/* A whole number from 0 on. */
static int count(const struct expr *x, const char **at, uint64_t *out, struct err *e)
{
    const char *start = *at;
    double v;
    if (sum(x, at, &v, e))
        return -1;
    if (v < 0 || v != floor(v))
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: %.*s is %g, expected a whole number", x->c->where, (int)(*at - start),
                       start, v);
    *out = (uint64_t)v;
    return 0;
}

static int dims_until(const struct expr *x, const char **at, char end, uint64_t *dims, int *n,
                      struct err *e)
{
    *n = 0;
    while (**at == ' ')
        (*at)++;
    while (**at && **at != end) {
        if (*n == EXPR_DIMS_MAX)
            return err_set(e, ERR_BUG, NULL, "a shape of more than %d dimensions", EXPR_DIMS_MAX);
        if (count(x, at, &dims[(*n)++], e))
            return -1;
        while (**at == ' ')
            (*at)++;
    }
    return 0;
}

int expr_dims(const struct expr *x, const char *list, uint64_t dims[EXPR_DIMS_MAX], int *n,
              struct err *e)
{
    return dims_until(x, &list, '\0', dims, n, e);
}

/* ---- views ---- */

struct view {
    uint64_t dims[EXPR_DIMS_MAX], strides[EXPR_DIMS_MAX];
    int n;
};

static int view_axes(const struct expr *x, const char **at, uint64_t elements, struct view *v,
                     struct err *e)
{
    if (dims_until(x, at, ':', v->dims, &v->n, e))
        return -1;
    if (**at == ':')
        (*at)++;
    uint64_t all = 1;
    bool fits = true;
    for (int i = v->n - 1; i >= 0; i--) {
        v->strides[i] = all;
        fits = fits && num_mul_u64(all, v->dims[i], &all);
    }
    if (!fits || all != elements)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: its numbers make %llu elements of a tensor that has %llu", x->c->where,
                       (unsigned long long)all, (unsigned long long)elements);
    return 0;
}

/* An axis that continues the one before it becomes one with it: longer runs for the reader. */
static void add_axis(struct model_part *p, uint64_t steps, uint64_t stride)
{
    struct model_axis *last = p->n_axes ? &p->axes[p->n_axes - 1] : NULL;
    if (steps == 1)
        return;
    if (last && last->stride == steps * stride) {
        last->steps *= steps;
        last->stride = stride;
    } else {
        p->axes[p->n_axes++] = (struct model_axis){steps, stride};
    }
    p->elements *= steps;
}

static int range(const struct expr *x, const char **at, uint64_t *from, uint64_t *steps,
                 struct err *e)
{
    uint64_t size = *steps;
    *from = 0;
    if (**at != '[')
        return 0;
    (*at)++;
    if (count(x, at, from, e))
        return -1;
    (*at)++;
    if (count(x, at, steps, e))
        return -1;
    (*at)++;
    if (*from > size || *steps > size - *from)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: its numbers ask for part %llu+%llu of %llu", x->c->where,
                       (unsigned long long)*from, (unsigned long long)*steps,
                       (unsigned long long)size);
    return 0;
}

static int view_piece(const struct expr *x, const char **at, const struct view *v,
                      struct model_part *p, struct err *e)
{
    p->first = 0;
    p->elements = 1;
    p->n_axes = 0;
    while (**at && **at != ';') {
        if (**at == ' ') {
            (*at)++;
            continue;
        }
        int axis = *(*at)++ - '0';
        if (axis < 0 || axis >= v->n || p->n_axes == MODEL_AXES_MAX)
            return err_set(e, ERR_BUG, NULL, "a view names axis %d of %d", axis, v->n);
        uint64_t from, steps = v->dims[axis];
        if (range(x, at, &from, &steps, e))
            return -1;
        p->first += from * v->strides[axis];
        add_axis(p, steps, v->strides[axis]);
    }
    if (**at == ';')
        (*at)++;
    if (p->n_axes == 0)
        p->axes[p->n_axes++] = (struct model_axis){1, 1};
    return 0;
}

int expr_view(const struct expr *x, const char *view, const struct model_part *whole,
              struct model_part parts[EXPR_PIECES_MAX], int *n, struct err *e)
{
    struct view v;
    uint64_t elements = whole->elements;
    if (view_axes(x, &view, elements, &v, e))
        return -1;
    for (*n = 0; *view; (*n)++) {
        if (*n == EXPR_PIECES_MAX)
            return err_set(e, ERR_BUG, NULL, "a view of more than %d pieces", EXPR_PIECES_MAX);
        parts[*n] = *whole;
        if (view_piece(x, &view, &v, &parts[*n], e))
            return -1;
    }
    return 0;
}
