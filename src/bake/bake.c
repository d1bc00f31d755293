/* The bake itself: setup, stream, re-validation, commit.
 *
 * The temporary is opened again by the project's own reader and compared with the plan before it
 * gets its name: a file that we cannot read back, or that says other than was planned, is never
 * delivered. Failure at any point leaves nothing behind and names the tensor. */
#include "bake/bake_int.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/banned.h"

int bake_plan_bytes(const struct bake_job *job, uint64_t *bytes, struct err *e)
{
    struct setup s;
    int rc;

    if (setup_make(&s, job, e) != 0)
        return -1;
    rc = gguf_plan(&s.kvs, s.tensors, s.desc->n_tensors, bytes, e);
    setup_release(&s);
    return rc;
}

static int compare_tensor(const struct gguf_tensor *found, const struct gguf_writer_tensor *planned,
                          const char *path, struct err *e)
{
    if (!found || found->dtype != planned->dtype || found->offset != planned->offset ||
        found->bytes != planned->bytes)
        return err_set(e, ERR_BUG, "the file was not delivered",
                       "%s: tensor %s is not in the written file as planned", path, planned->name);
    return 0;
}

static int reopen(const struct setup *s, const struct gguf_writer *w, struct err *e)
{
    struct gguf g;
    int rc = 0;

    if (gguf_open(&g, w->file.temporary, GGUF_CHECK_MODEL, e) != 0)
        return err_context(e, "the file just written does not validate");
    if (g.n_tensors != s->desc->n_tensors)
        rc = err_set(e, ERR_BUG, "the file was not delivered", "%s: %zu tensors instead of %zu",
                     w->file.path, g.n_tensors, s->desc->n_tensors);
    for (size_t i = 0; rc == 0 && i < s->desc->n_tensors; i++)
        rc = compare_tensor(gguf_find(&g, s->tensors[i].name), &s->tensors[i], w->file.path, e);
    gguf_close(&g);
    return rc;
}

static int write_file(const struct setup *s, struct bake_result *r, struct err *e)
{
    struct gguf_writer w;

    if (gguf_writer_open(&w, s->job->output, &s->kvs, s->tensors, s->desc->n_tensors, e) != 0)
        return -1;
    r->bytes = w.total_bytes;
    if (stream_run(s, &w, r, e) != 0 || reopen(s, &w, e) != 0) {
        gguf_writer_abort(&w);
        return -1;
    }
    return gguf_writer_commit(&w, e);
}

int bake_gguf(const struct bake_job *job, struct bake_result *result, struct err *e)
{
    double start = clock_seconds();
    struct bake_result r = {0};
    struct setup s;
    int rc;

    if (setup_make(&s, job, e) != 0)
        return -1;
    importance_warn(&s);
    if (job->want_errors)
        r.errors = xcalloc(s.desc->n_tensors + 1, sizeof *r.errors);
    rc = write_file(&s, &r, e);
    r.tensor_bytes = s.plan.tensor_bytes;
    r.n_fallback = s.plan.n_fallback;
    r.bpw = s.desc->parameters ? (double)r.bytes * 8.0 / (double)s.desc->parameters : 0.0;
    r.seconds = clock_seconds() - start;
    setup_release(&s);
    if (rc != 0) {
        bake_result_release(&r);
        return -1;
    }
    *result = r;
    return 0;
}

void bake_result_release(struct bake_result *result)
{
    xfree(result->errors);
    *result = (struct bake_result){0};
}
