/* Names of types as users of llama.cpp write them.
 *
 * A file type is a stock mix ("Q4_K_M", any case, or llama-quantize's number) or a plain element
 * type; a tensor type is an element type that can be encoded. Unknown names are usage errors with
 * the nearest.
 */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "cmd/cmd_int.h"
#include "recipe/stock.h"

#include "base/banned.h"

enum { TYPE_NAMES_MAX = 128, TYPE_NAME_BYTES = 32 };

/* All names a file type may have, for the nearest; returns the count. */
static int type_names(bool mixes, const char *names[static TYPE_NAMES_MAX + 1])
{
    int n = 0;
    for (int i = 0; mixes && stock_at(i) && n < TYPE_NAMES_MAX; i++)
        names[n++] = stock_name(stock_at(i));
    const struct dtype_info *d;
    for (int i = 0; (d = dtype_at(i)) && n < TYPE_NAMES_MAX; i++)
        if (d->encodable)
            names[n++] = d->name;
    names[n] = NULL;
    return n;
}

static int type_refuse(const char *option, const char *text, bool mixes, struct err *e)
{
    const char *names[TYPE_NAMES_MAX + 1];
    char upper[TYPE_NAME_BYTES];
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof(upper); n++)
        upper[n] = text[n] >= 'a' && text[n] <= 'z' ? (char)(text[n] - 32) : text[n];
    upper[n] = 0;
    type_names(mixes, names);
    const char *near = cmd_nearest_of(names, upper);
    char hint[ERR_HINT_MAX];
    snprintf(hint, sizeof(hint), "%s%s%sknown are for example %s", near ? "did you mean " : "",
             near ? near : "", near ? "? " : "",
             mixes ? "Q4_K_M, Q5_K_S, Q8_0, IQ4_XS, BF16; 'sintra inspect sample' lists the mixes"
                   : "Q4_K, Q6_K, Q8_0, IQ4_XS, BF16");
    return err_set(e, ERR_USAGE, hint, "%s: there is no type \"%.40s\"", option, text);
}

int cmd_tensor_type(const char *option, const char *text, enum dtype *type, struct err *e)
{
    enum dtype t = dtype_by_name(text);
    const struct dtype_info *info = t == DT_NONE ? NULL : dtype_info(t);
    if (!info)
        return type_refuse(option, text, false, e);
    if (!info->encodable)
        return err_set(e, ERR_USAGE, NULL, "%s: nothing can be written as %s", option, info->name);
    *type = t;
    return 0;
}

int cmd_type_name(const char *option, const char *text, const char **name, struct err *e)
{
    const struct stock_mix *m = stock_find(text);
    int64_t number;
    if (!m && num_parse_i64(text, option, 0, 1000, &number, NULL) == 0)
        for (int i = 0; stock_at(i) && !m; i++)
            if (stock_file_type(stock_at(i)) == (uint32_t)number)
                m = stock_at(i);
    if (m) {
        *name = stock_name(m);
        return 0;
    }
    enum dtype type = dtype_by_name(text);
    if (type == DT_NONE || !dtype_info(type) || !dtype_info(type)->encodable)
        return type_refuse(option, text, true, e);
    *name = dtype_name(type);
    return 0;
}

const char *cmd_source_type(const struct model_desc *d)
{
    uint64_t elements[3] = {0}, most = 0;
    static const enum dtype types[] = {DT_BF16, DT_F16, DT_F32};
    int best = 0;
    for (size_t i = 0; i < d->n_tensors; i++) {
        uint64_t n = 0;
        for (int t = 0; t < 3; t++)
            if (d->tensors[i].dtype == types[t] && shape_elements(&d->tensors[i].shape, &n))
                elements[t] += n;
    }
    for (int t = 0; t < 3; t++) {
        if (elements[t] > most) {
            most = elements[t];
            best = t;
        }
    }
    return dtype_name(types[best]);
}
