/* From a file to its score.
 *
 * Each measurement of a file runs in a worker of its own, which ends with it: what one candidate
 * does to a process (memory, a crash) cannot touch the next. The file is validated before the
 * worker sees it, and looked at again after loading: it must still be the one that was validated.
 */
#include "measure/measure.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/proc.h"
#include "format/gguf.h"
#include "measure/measure_int.h"
#include "measure/score_int.h"
#include "base/banned.h"

/* ---- workers --------------------------------------------------------------------------------- */

/* The files that were validated, by their descriptors, and the ones the paths lead to now are the
 * same. */
static int check_unchanged(const struct gguf *file, struct err *e)
{
    for (int i = 0; i < file->n_maps; i++) {
        const struct fs_map *m = &file->maps[i];
        struct stat opened, named;
        if (fs_map_check(m, e))
            return -1;
        if (fstat(m->fd, &opened) < 0 || stat(m->path, &named) < 0 ||
            opened.st_dev != named.st_dev || opened.st_ino != named.st_ino)
            return err_set(e, ERR_INPUT, "leave the file alone while it is measured",
                           "%s was replaced while it was being loaded", m->path);
    }
    return 0;
}

int measure_open(struct engine **g, struct engine_info *info, const char *path,
                 enum engine_mode mode, uint32_t n_ctx, uint32_t n_seq, bool full_outputs,
                 const struct measure_options *o, struct err *e)
{
    struct measure_options defaults = {.gpu_layers = -1};
    struct gguf file = {0};
    *g = NULL;
    if (!o)
        o = &defaults;
    struct engine_options options = {.memory_bytes_max = o->memory_bytes_max,
                                     .call_seconds_max = o->call_seconds_max};
    struct engine_load load = {.path = path,
                               .mode = mode,
                               .n_ctx = n_ctx,
                               .n_seq = n_seq,
                               .threads = o->threads,
                               .gpu_layers = o->gpu_layers,
                               .full_outputs = full_outputs,
                               .cache = o->cache};
    if (gguf_open(&file, path, GGUF_CHECK_MODEL, e))
        return -1;
    int rc = engine_start(g, &options, e);
    if (rc == 0)
        rc = engine_load(*g, &load, info, e);
    if (rc == 0)
        rc = check_unchanged(&file, e);
    gguf_close(&file);
    if (rc) {
        engine_stop(*g);
        *g = NULL;
    }
    return rc;
}

/* ---- the original ---------------------------------------------------------------------------- */

static double perplexity(const float *nll, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)nll[i];
    return n > 0 ? exp(sum / (double)n) : 0;
}

int measure_reference_make(struct measure_reference *r, struct engine *g,
                           const struct engine_windows *w, uint64_t bytes_max,
                           const struct progress *p, struct err *e)
{
    *r = (struct measure_reference){.windows = *w, .logits = {.fd = -1}};
    if (engine_reference_make(g, w, bytes_max, &r->logits, p, e))
        return -1;
    r->ppl = perplexity(r->logits.nll, r->logits.positions);
    return 0;
}

void measure_reference_release(struct measure_reference *r)
{
    engine_reference_release(&r->logits);
    *r = (struct measure_reference){.logits = {.fd = -1}};
}

/* ---- quality --------------------------------------------------------------------------------- */

/* The windows must be the reference's, or some of them in a row: ids are compared, a mix-up would
 * be a plausible number. */
static int check_same_text(const struct engine_windows *w, const struct measure_reference *r,
                           struct err *e)
{
    const struct engine_windows *base = &r->windows;
    size_t ids = w->n_windows * w->n_ctx, from = w->reference_from;
    if (w->n_ctx == base->n_ctx && w->first == base->first && from <= base->n_windows &&
        w->n_windows <= base->n_windows - from &&
        memcmp(w->tokens, base->tokens + from * w->n_ctx, ids * sizeof(*w->tokens)) == 0)
        return 0;
    return err_set(e, ERR_BUG, NULL, "the reference was computed on other windows of text");
}

int measure_quality_loaded(struct score *s, struct engine *g, const struct engine_windows *w,
                           const struct measure_reference *r, const struct progress *p,
                           struct err *e)
{
    size_t n = engine_windows_positions(w);
    *s = (struct score){0};
    if (n == 0)
        return err_set(e, ERR_BUG, NULL, "there is no position to score");
    if (r && check_same_text(w, r, e))
        return -1;
    struct engine_position *positions = xcalloc(n, sizeof(*positions));
    int rc = engine_score(g, w, r ? &r->logits : NULL, positions, p, e);
    if (rc == 0) {
        score_fill(s, w, positions, r != NULL,
                   r ? perplexity(r->logits.nll + n / w->n_windows * w->reference_from, n) : 0);
        windows_hash(w, s->corpus_sha256);
    }
    xfree(positions);
    return rc;
}

int measure_quality(struct score *s, const char *path, const struct engine_windows *w,
                    const struct measure_reference *r, const struct measure_options *o,
                    struct err *e)
{
    struct engine *g = NULL;
    struct engine_info info;
    *s = (struct score){0};
    if (measure_open(&g, &info, path, ENGINE_FILE, w->n_ctx, 0, true, o, e))
        return -1;
    int rc = measure_quality_loaded(s, g, w, r, o ? o->progress : NULL, e);
    engine_stop(g);
    return rc;
}

/* ---- speed ----------------------------------------------------------------------------------- */

int measure_speed(struct score *s, const char *path, uint32_t context, int n_prompt, int n_gen,
                  int repeats, double seconds_max, const struct measure_options *o, struct err *e)
{
    struct engine *g = NULL;
    struct engine_info info;
    struct engine_speed speed;
    struct proc_memory m;
    if (measure_open(&g, &info, path, ENGINE_FILE, context, 1, false, o, e))
        return -1;
    int rc = engine_bench(g, n_prompt, n_gen, repeats, seconds_max, &speed, e);
    if (rc == 0) {
        s->tps_decode = speed.decode_tps;
        s->tps_prefill = speed.prefill_tps;
        s->first_token_ms = speed.first_token_ms;
        s->load_ms = info.load_ms;
        s->threads = speed.threads;
        s->gpu_layers = speed.gpu_layers;
        s->weights_bytes = info.weights_bytes;
        s->kv_bytes = info.kv_bytes;
        s->compute_bytes = info.compute_bytes;
        s->memory_bytes = info.weights_bytes + info.kv_bytes + info.compute_bytes;
        s->memory_context = info.n_ctx;
        s->rss_peak_bytes = proc_memory(engine_pid(g), &m) == 0 ? m.rss_peak : info.rss_peak;
    }
    engine_stop(g);
    return rc;
}

/* ---- importance ------------------------------------------------------------------------------ */

int importance_from(struct imatrix *m, struct engine_activation *a, size_t n, const char *dataset,
                    const struct engine_windows *w, struct err *e)
{
    if (n == 0)
        return err_set(e, ERR_UNSUPPORTED, NULL, "the model multiplies no weight matrix");
    for (size_t i = 0; i < n; i++) {
        for (uint64_t mat = 0; mat < a[i].n_mat; mat++) {
            float *row = a[i].in_sum2 + mat * a[i].n_in, count = a[i].counts[mat];
            for (uint64_t k = 0; count > 0 && k < a[i].n_in; k++)
                row[k] /= count;
        }
        imatrix_add(m, a[i].name, a[i].n_in, a[i].n_mat, a[i].in_sum2, a[i].counts);
    }
    imatrix_add_dataset(m, dataset);
    m->chunk_count = (uint32_t)w->n_windows;
    m->chunk_size = w->n_ctx;
    return 0;
}

int measure_importance(struct imatrix *m, struct engine *g, const struct engine_windows *w,
                       const char *dataset, const struct progress *p, struct err *e)
{
    struct engine_activation *a = NULL;
    size_t n = 0;
    if (engine_collect(g, w, &a, &n, p, e))
        return -1;
    int rc = importance_from(m, a, n, dataset, w, e);
    engine_activations_free(a, n);
    return rc;
}
