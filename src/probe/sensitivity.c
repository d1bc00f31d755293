/* A group's sensitivity as JSON, for the store.
 *
 *   {"probe":"Q3_K","kld":x,"kld_ci95":[lo,hi],"types":{"Q2_K":{"error":x,"kld":x,"bytes":n},...}}
 * Types that are not possible for the group have null error and KL and 0 bytes.
 */
#include "probe/probe_int.h"

#include <math.h>
#include <string.h>

#include "base/banned.h"

json_t *sensitivity_json_new(const struct sensitivity *s, const struct probe_table *t)
{
    json_t *types = json_object(), *o = json_object();
    for (int k = 0; k < t->n_types; k++) {
        json_t *row = json_object();
        json_object_set_new(row, "error", json_real_new(s->error[k]));
        json_object_set_new(row, "kld", json_real_new(s->kld[k]));
        json_object_set_new(row, "bytes", json_integer((json_int_t)s->bytes[k]));
        json_object_set_new(types, dtype_name(t->types[k]), row);
    }
    json_t *interval = json_array();
    json_array_append_new(interval, json_real_new(s->probe_kld_low));
    json_array_append_new(interval, json_real_new(s->probe_kld_high));
    json_object_set_new(o, "probe", json_string(dtype_name(s->probe_type)));
    json_object_set_new(o, "kld", json_real_new(s->probe_kld));
    json_object_set_new(o, "kld_ci95", interval);
    json_object_set_new(o, "types", types);
    return o;
}

static double array_real(const json_t *array, size_t i)
{
    const json_t *v = json_array_get(array, i);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

int sensitivity_from_json(struct sensitivity *s, const struct probe_table *t, const json_t *doc,
                          struct err *e)
{
    static const char *const name = "stored sensitivity";
    const json_t *types = json_object_get(doc, "types"), *ci = json_object_get(doc, "kld_ci95");
    const char *probe;
    struct sensitivity out = {0};
    if (json_need_str(doc, "probe", name, &probe, e) != 0 ||
        json_need_real(doc, "kld", name, &out.probe_kld, e) != 0)
        return -1;
    out.probe_type = dtype_by_name(probe);
    out.probe_kld_low = array_real(ci, 0);
    out.probe_kld_high = array_real(ci, 1);
    for (int k = 0; k < PROBE_TYPES_MAX; k++)
        out.error[k] = out.kld[k] = NAN;
    for (int k = 0; k < t->n_types; k++) {
        const json_t *row = json_object_get(types, dtype_name(t->types[k]));
        int64_t bytes = json_opt_i64(row, "bytes", 0);
        if (bytes < 0)
            return err_set(e, ERR_INPUT, NULL, "%s: %s has %lld bytes", name,
                           dtype_name(t->types[k]), (long long)bytes);
        out.bytes[k] = (uint64_t)bytes;
        out.error[k] = json_opt_real(row, "error", NAN);
        out.kld[k] = json_opt_real(row, "kld", NAN);
    }
    *s = out;
    return 0;
}
