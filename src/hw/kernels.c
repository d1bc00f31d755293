/* The table of a device's kernels as a value and as JSON, for the store.
 *
 *   {"cols":n,"rows":n,"set_bytes":n,"threads":n,
 *    "types":{"Q4_K":{"decode_gbs":x,"prefill_gflops":x},...}}
 */
#include <stdio.h>
#include <string.h>

#include "hw/hw.h"
#include "base/banned.h"

const struct hw_type_speed *hw_kernels_find(const struct hw_kernels *k, const char *type)
{
    for (int i = 0; i < k->n; i++)
        if (strcmp(k->items[i].type, type) == 0)
            return &k->items[i];
    return NULL;
}

json_t *hw_kernels_json_new(const struct hw_kernels *k)
{
    json_t *types = json_object();
    for (int i = 0; i < k->n; i++) {
        json_t *row = json_object();
        json_object_set_new(row, "decode_gbs", json_real_new(k->items[i].decode_gbs));
        json_object_set_new(row, "prefill_gflops", json_real_new(k->items[i].prefill_gflops));
        json_object_set_new(types, k->items[i].type, row);
    }
    json_t *o = json_object();
    json_object_set_new(o, "cols", json_integer((json_int_t)k->cols));
    json_object_set_new(o, "rows", json_integer((json_int_t)k->rows));
    json_object_set_new(o, "set_bytes", json_integer((json_int_t)k->set_bytes));
    json_object_set_new(o, "threads", json_integer(k->threads));
    json_object_set_new(o, "types", types);
    return o;
}

bool hw_kernels_from_json(struct hw_kernels *k, const json_t *doc)
{
    json_t *types = json_object_get(doc, "types"), *row;
    const char *name;
    *k = (struct hw_kernels){.cols = (uint64_t)json_opt_i64(doc, "cols", 0),
                             .rows = (uint64_t)json_opt_i64(doc, "rows", 0),
                             .set_bytes = (uint64_t)json_opt_i64(doc, "set_bytes", 0),
                             .threads = (int)json_opt_i64(doc, "threads", 0)};
    if (!json_is_object(types) || json_object_size(types) > HW_TYPES_MAX)
        return false;
    json_object_foreach(types, name, row)
    {
        struct hw_type_speed *t = &k->items[k->n];
        t->decode_gbs = json_opt_real(row, "decode_gbs", 0);
        t->prefill_gflops = json_opt_real(row, "prefill_gflops", 0);
        if (strlen(name) >= sizeof(t->type) || !(t->decode_gbs > 0))
            return false;
        snprintf(t->type, sizeof(t->type), "%s", name);
        k->n++;
    }
    return k->n > 0;
}
