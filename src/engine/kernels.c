/* The call that measures kernels; its answer is checked like a foreign document. */
#include <stdio.h>
#include <string.h>

#include "engine/client_int.h"
#include "base/banned.h"

int engine_kernels(struct engine *g, const struct engine_kernels_job *job, struct hw_kernels *out,
                   const struct progress *p, struct err *e)
{
    struct engine_call call = {.doing = "measuring the speed of types", .progress = p};
    json_t *answer = NULL, *types = json_array();
    for (int i = 0; i < job->n_types; i++)
        json_array_append_new(types, json_integer((json_int_t)job->types[i]));
    json_t *request = json_pack("{s:s, s:o, s:I, s:I, s:I, s:i}", "op", "kernels", "types", types,
                                "cols", (json_int_t)job->cols, "rows", (json_int_t)job->rows,
                                "set_bytes", (json_int_t)job->set_bytes, "threads", job->threads);
    if (engine_call(g, &call, request, &answer, NULL, e))
        return -1;
    bool good = hw_kernels_from_json(out, answer);
    json_decref(answer);
    if (!good)
        return err_set(e, ERR_CHILD, NULL, "the worker sent no usable speeds of types");
    return 0;
}
