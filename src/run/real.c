/* The real world: files made by bake, measured in workers.
 *
 * Owns the float copy of the original in HOME/cache/<sha256>/ (made once, under a lock, shared with
 * other commands), the text, the importance matrix, which lies in the same cache under the hash of
 * its calibration windows, and the references, which live in shared memory of this process and are
 * made anew after a restart. The worker that holds the original is stopped while candidates are
 * measured, and started again for the final reference: two models are never in memory at once.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/stop.h"
#include "run/text_int.h"
#include "base/banned.h"

static const double float_share = 0.4;     /* of memory, that an F32 original may take */
static const double half_share = 0.7;      /* the same for a BF16 one */
static const double reference_share = 0.3; /* of memory, for reference logits */
static const double speed_seconds = 6;     /* bound of one speed measurement */
enum {
    DECODE_TOKENS = 48,
    REPEATS = 3,
    WORDS = 24,
    LOCK_TRIES = 7200,
    WORKER_TRIES = 3,
    CONTEXT_STEP = 256 /* libllama rounds contexts up to it */
};
static const enum dtype probe_type = DT_Q3_K;

struct real {
    char *original;
    struct engine *engine; /* holds the original as floats, or NULL */
    struct text text;
    struct measure_reference search, final;
    bool have_search, have_final;
    char unsuited[ERR_MESSAGE_MAX]; /* why error feedback does not suit the model; "": it may */
    char library[32];               /* version of libllama; "" = not asked yet */
};

/* ---- the original ---- */

/* The type of the copy that measuring reads. The worker computes in F32 where memory allows: probes
 * then see what a type does and nothing else. */
static int choose_float(const struct run *r, const char **type, struct err *e)
{
    double parameters = (double)r->subject.desc->parameters, ram = (double)r->hw.ram_usable;
    char need[NUM_TEXT_MAX], have[NUM_TEXT_MAX];
    *type = recipe_lossless_type(r->subject.desc);
    if (!(ram > 0) || 4 * parameters <= float_share * ram)
        return 0;
    *type = "BF16";
    if (2 * parameters <= half_share * ram)
        return 0;
    return err_set(
        e, ERR_MEMORY,
        "run on a machine with more memory, close other programs, or start from a GGUF "
        "with 'sintra quantize --type'",
        "the original takes %s of memory as BF16 and %s can be used here; measuring needs "
        "it whole",
        num_format_size((uint64_t)(2 * parameters), need), num_format_size(r->hw.ram_usable, have));
}

static int bake_original(struct run *r, const char *type, const char *path, struct err *e)
{
    struct recipe recipe;
    struct bake_result done = {0};
    recipe_init(&recipe, type);
    struct bake_job job = {.model = r->subject.model,
                           .recipe = &recipe,
                           .output = path,
                           .threads = r->set.threads,
                           .allow_requantize = true,
                           .progress = &r->stages.progress};
    int rc = bake_gguf(&job, &done, e);
    if (rc == 0)
        bake_result_release(&done);
    recipe_release(&recipe);
    return rc;
}

/* Another run may be making the same copy: wait for it. */
static int lock_wait(struct run *r, struct fs_lock *lock, const char *path, struct err *e)
{
    for (int i = 0;; i++) {
        struct err inner = {0};
        if (fs_lock_take(lock, path, &inner) == 0)
            return 0;
        if (inner.code != ERR_BUSY || i >= LOCK_TRIES) {
            *e = inner;
            return -1;
        }
        if (i == 0)
            run_say(r, "another run is preparing the same model; waiting for it");
        if (stop_check(e) != 0)
            return -1;
        nanosleep(&(struct timespec){0, 500000000}, NULL);
    }
}

static int make_original(struct run *r, struct real *w, struct err *e)
{
    const char *type;
    struct fs_lock lock;
    if (choose_float(r, &type, e) != 0)
        return -1;
    char *name = xasprintf("original-%s.gguf", type), *lock_path = fs_join(r->cache, "lock");
    w->original = fs_join(r->cache, name);
    int rc = 0;
    if (!fs_exists(w->original)) {
        rc = lock_wait(r, &lock, lock_path, e);
        if (rc == 0) {
            if (!fs_exists(w->original))
                rc = bake_original(r, type, w->original, e);
            fs_lock_drop(&lock);
        }
    }
    xfree(name);
    xfree(lock_path);
    return rc;
}

/* The kernel would choose its victim itself; a limit makes a worker that eats all memory one failed
 * call. */
static void options(const struct run *r, struct measure_options *o)
{
    *o = (struct measure_options){.threads = r->set.threads,
                                  .gpu_layers = r->set.gpu_layers,
                                  .memory_bytes_max = r->hw.ram_usable,
                                  .progress = &r->stages.progress};
}

static int start_original(struct run *r, struct real *w, struct err *e)
{
    struct measure_options o;
    struct engine_info info;
    options(r, &o);
    if (measure_open(&w->engine, &info, w->original, ENGINE_FLOAT, r->subject.scale.n_ctx, 0, true,
                     &o, e) != 0) {
        w->engine = NULL;
        return err_context(e, "loading the original");
    }
    return 0;
}

static void stop_original(struct real *w)
{
    engine_stop(w->engine);
    w->engine = NULL;
}

/* A step that needs the worker with the original. A worker that is lost on the way is started
 * again: no step leaves anything half done behind, and what it finished is kept in facts and
 * files. */
typedef int step_fn(struct run *r, struct real *w, struct err *e);

static int with_original(struct run *r, struct real *w, step_fn *step, struct err *e)
{
    for (int tries = 1;; tries++) {
        struct err inner = {0};
        if (w->engine || start_original(r, w, &inner) == 0) {
            if (step(r, w, &inner) == 0)
                return 0;
        }
        stop_original(w);
        if (!error_is_of_worker(&inner) || tries >= WORKER_TRIES) {
            *e = inner;
            return -1;
        }
        run_note(r, "the worker with the original was lost and is started again: %s",
                 inner.message);
    }
}

/* ---- text, importance, references ---- */

/* Windows whose reference logits fit into the memory meant for them; at least two. */
static size_t windows_that_fit(const struct run *r, const struct engine_windows *w)
{
    double per_window =
        (double)(w->n_ctx - 1 - w->first) * r->subject.desc->n_vocab * sizeof(float);
    double room = reference_share * (double)r->hw.ram_usable;
    size_t n = per_window > 0 && room > 0 ? (size_t)(room / per_window) : w->n_windows;
    return n < 2 ? 2 : n;
}

static void fit_reference(struct run *r, struct real *w, enum text_set set, const char *what)
{
    size_t n = windows_that_fit(r, &w->text.part[set].w);
    if (n >= w->text.part[set].count)
        return;
    run_note(r, "memory for reference logits allows %zu of %zu windows for %s", n,
             w->text.part[set].count, what);
    text_shorten(&w->text, set, n);
}

/* Does an error say that error feedback does not suit the model? */
static bool unsuited(const struct err *e)
{
    return e->code == ERR_UNSUPPORTED || e->code == ERR_INPUT;
}

static int make_text(struct run *r, struct real *w, struct err *e)
{
    if (strcmp(r->set.corpus, "self") == 0) {
        char about[NUM_TEXT_MAX];
        run_say(r, "the model samples its own text, about %s unless it did before",
                num_format_seconds(r->stages.expected[STAGE_TEXT], about));
    }
    if (text_make(&w->text, r, w->engine, e) != 0)
        return -1;
    fit_reference(r, w, TEXT_SEARCH, "the search");
    fit_reference(r, w, TEXT_FINAL, "the final scores");
    if (r->subject.scale.probe > w->text.part[TEXT_SEARCH].count)
        r->subject.scale.probe = w->text.part[TEXT_SEARCH].count;
    r->windows = text_json_new(&w->text, &r->subject.scale);
    return 0;
}

/* Correlations between all columns of a row cost a matrix of columns by columns for each input, on
 * disk as well; within spans of a block's length they cost next to nothing. */
static bool whole_rows(const struct run *r)
{
    return strcmp(r->set.effort, "max") == 0;
}

/* xfree. */
static char *factors_path(const struct run *r, const struct real *w)
{
    char key[65];
    text_key(&w->text, TEXT_CALIBRATION, key);
    return xasprintf("%s/factors%s-%.16s.gguf", r->cache, whole_rows(r) ? "" : "-256", key);
}

/* An empty m is filled in the same pass over the text. */
static int measure_both(struct run *r, struct real *w, struct imatrix *m, const char *path,
                        struct err *e)
{
    struct measure_options o;
    options(r, &o);
    return measure_factors(path, m, subject_dataset(&r->set), whole_rows(r) ? 0 : QUANT_SPAN,
                           w->engine, &w->text.part[TEXT_CALIBRATION].w, &o, e);
}

/* The importance matrix, and the factors on the way where they are wanted and the model suits. */
static int collect(struct run *r, struct real *w, struct imatrix *m, struct err *e)
{
    struct err inner = {0};
    char *path = factors_path(r, w);
    int rc = strcmp(r->set.effort, "fast") != 0 && !fs_exists(path)
                 ? measure_both(r, w, m, path, &inner)
                 : -1;
    xfree(path);
    if (rc == 0)
        return 0;
    imatrix_release(m);
    *m = (struct imatrix){0};
    if (inner.code != ERR_NONE && !unsuited(&inner)) {
        *e = inner;
        return -1;
    }
    snprintf(w->unsuited, sizeof(w->unsuited), "%s", inner.message);
    return measure_importance(m, w->engine, &w->text.part[TEXT_CALIBRATION].w,
                              subject_dataset(&r->set), &r->stages.progress, e);
}

/* Experts that the text never reached are encoded as if all their columns mattered alike. */
static void note_unmet_experts(struct run *r)
{
    size_t unmet = 0, all = 0;
    const char *name = NULL;
    for (size_t i = 0; i < r->imatrix.n; i++) {
        const struct imatrix_entry *x = &r->imatrix.entries[i];
        for (uint64_t k = 0; x->n_mat > 1 && k < x->n_mat; k++) {
            bool met = x->counts[k] > 0;
            all++;
            unmet += !met;
            name = !met && !name ? x->name : name;
        }
    }
    if (unmet > 0)
        run_note(r,
                 "%zu of %zu matrices of experts were never met by the calibration text (%s%s): "
                 "they are encoded without weights; a longer or broader --corpus may reach them",
                 unmet, all, name, unmet > 1 ? ", ..." : "");
}

/* Always read back from the file, so that a resumed run weighs with the same values to the last
 * bit. */
static int make_importance(struct run *r, struct real *w, struct err *e)
{
    char key[65];
    struct imatrix made = {0};
    text_key(&w->text, TEXT_CALIBRATION, key);
    xfree(r->imatrix_path);
    r->imatrix_path = xasprintf("%s/imatrix-%.16s.gguf", r->cache, key);
    if (!fs_exists(r->imatrix_path)) {
        int rc = collect(r, w, &made, e);
        float weights[MODEL_SAMPLE];
        size_t n = 0;
        if (rc == 0)
            rc = model_sample(r->subject.model, weights, &n, e);
        if (rc == 0) {
            imatrix_set_weights(&made, weights, n);
            rc = imatrix_write(&made, r->imatrix_path, e);
        }
        imatrix_release(&made);
        if (rc != 0)
            return -1;
    }
    if (imatrix_read(&r->imatrix, r->imatrix_path, e) != 0)
        return -1;
    r->have_imatrix = true;
    note_unmet_experts(r);
    return 0;
}

/* Recipes name factors by their hash; quantize asks the store where they lie. */
static int note_factors(struct run *r, const char *path, struct err *e)
{
    json_t *doc = json_pack("{s:s}", "path", path);
    int rc = store_fact_put(r->store, "factors", r->factors.sha256, doc, e);
    json_decref(doc);
    return rc;
}

static int make_factors(struct run *r, struct real *w, struct err *e)
{
    char *path = factors_path(r, w);
    int rc = 0;
    if (!fs_exists(path) || factors_open(&r->factors, path, NULL) != 0) {
        rc = measure_both(r, w, &r->imatrix, path, e);
        if (rc == 0)
            rc = factors_open(&r->factors, path, e);
    }
    r->have_factors = rc == 0;
    if (rc == 0)
        rc = note_factors(r, path, e);
    xfree(path);
    return rc;
}

/* A model that error feedback does not suit is rounded to the nearest. The pass for the importance
 * matrix may have found that out. */
static int try_factors(struct run *r, struct real *w, struct err *e)
{
    struct err inner = {0};
    if (!w->unsuited[0]) {
        if (with_original(r, w, make_factors, &inner) == 0)
            return 0;
        if (!unsuited(&inner)) {
            *e = inner;
            return -1;
        }
        snprintf(w->unsuited, sizeof(w->unsuited), "%s", inner.message);
    }
    run_note(r, "no error feedback: %s", w->unsuited);
    return 0;
}

static struct engine_windows first_windows(const struct real *w, enum text_set set, size_t most)
{
    struct engine_windows windows = w->text.part[set].w;
    if (most < windows.n_windows)
        windows.n_windows = most;
    return windows;
}

static int make_reference(struct run *r, struct real *w, const struct engine_windows *windows,
                          struct measure_reference *out, struct err *e)
{
    uint64_t most = (uint64_t)(reference_share * (double)r->hw.ram_usable);
    return measure_reference_make(out, w->engine, windows, most, &r->stages.progress, e);
}

static int make_search_reference(struct run *r, struct real *w, struct err *e)
{
    if (w->have_final)
        measure_reference_release(&w->final);
    w->have_final = false;
    struct engine_windows windows = first_windows(w, TEXT_SEARCH, r->subject.scale.search_read);
    if (!w->have_search && make_reference(r, w, &windows, &w->search, e) != 0)
        return -1;
    w->have_search = true;
    return 0;
}

/* Only one reference is in memory at a time. */
static int make_final_reference(struct run *r, struct real *w, struct err *e)
{
    if (w->have_search)
        measure_reference_release(&w->search);
    w->have_search = false;
    if (!w->have_final && make_reference(r, w, &w->text.part[TEXT_FINAL].w, &w->final, e) != 0)
        return -1;
    w->have_final = true;
    return 0;
}

/* Sizes were planned with an importance matrix that says nothing; now the real one is there. */
static int correct_fixed_bytes(struct run *r, struct err *e)
{
    struct recipe q8_0;
    uint64_t unit, real;
    recipe_init(&q8_0, "Q8_0");
    int rc = subject_file_bytes(&r->subject, &q8_0, NULL, subject_dataset(&r->set), &unit, e);
    if (rc == 0)
        rc = subject_file_bytes(&r->subject, &q8_0, &r->imatrix, NULL, &real, e);
    recipe_release(&q8_0);
    if (rc == 0)
        r->subject.fixed_bytes = r->subject.fixed_bytes + real - unit;
    return rc;
}

static int real_prepare(struct run *r, struct err *e)
{
    struct real *w = xcalloc(1, sizeof(*w));
    r->world_data = w;
    stage_enter(r, STAGE_ORIGINAL);
    if (fs_mkdirs(r->cache, e) != 0 || (r->candidates && fs_mkdirs(r->candidates, e) != 0) ||
        make_original(r, w, e) != 0)
        return -1;
    stage_enter(r, STAGE_TEXT);
    if (with_original(r, w, make_text, e) != 0)
        return -1;
    stage_enter(r, STAGE_IMPORTANCE);
    if (with_original(r, w, make_importance, e) != 0 || correct_fixed_bytes(r, e) != 0)
        return -1;
    if (strcmp(r->set.effort, "fast") != 0 && try_factors(r, w, e) != 0)
        return -1;
    stage_enter(r, STAGE_REFERENCE);
    return with_original(r, w, make_search_reference, e);
}

/* ---- sensitivities ---- */

/* Facts outlive runs: the same model, text, importance and encoders give the same KL. methods is
 * the part of it that another model's sensitivities have in common with this one's. */
static void probing_prefix(const struct run *r, const struct real *w, char prefix[static 65],
                           char methods[static 128])
{
    char key[65], text[512];
    text_key(&w->text, TEXT_SEARCH, key);
    snprintf(methods, 128, "%zu %s %s %s", r->subject.scale.probe, dtype_name(probe_type),
             QUANT_VERSION, PROBE_VERSION);
    if (r->subject.scale.runs > 0)
        snprintf(methods + strlen(methods), 128 - strlen(methods), " runs %d",
                 r->subject.scale.runs);
    if (r->subject.scale.large)
        snprintf(methods + strlen(methods), 128 - strlen(methods), " half windows");
    snprintf(text, sizeof(text), "%s %s %s %s %s%s", r->subject.sha256, key, r->imatrix.sha256,
             methods, fs_basename(w->original), r->have_factors ? r->factors.sha256 : "");
    hash_sha256_text(text, strlen(text), prefix);
}

static int probe_against(struct run *r, struct real *w, const struct engine_windows *windows,
                         const struct measure_reference *reference, struct err *e)
{
    struct subject *m = &r->subject;
    struct probe_history h;
    char prefix[65], methods[128];
    probing_prefix(r, w, prefix, methods);
    history_open(&h, r, prefix, methods);
    struct probe_job job = {.model = m->model,
                            .groups = &m->groups,
                            .imatrix = &r->imatrix,
                            .factors = r->have_factors ? &r->factors : NULL,
                            .engine = w->engine,
                            .windows = *windows,
                            .reference = reference,
                            .types = m->types,
                            .n_types = m->n_types,
                            .probe_type = probe_type,
                            .threads = r->set.threads,
                            .progress = &r->stages.progress,
                            .group_done = history_remember,
                            .ud = &h,
                            .known = h.known};
    int rc = probe_run(&job, &r->table, e);
    r->have_table = rc == 0;
    if (rc == 0)
        history_finish(&h);
    if (rc == 0 && r->history.sibling == 0)
        sense_index(r, prefix);
    history_close(&h);
    return rc;
}

/* What looks at the original changed in memory: the windows of probes against a reference in the
 * same arithmetic. */
typedef int against_fn(struct run *r, struct real *w, const struct engine_windows *windows,
                       const struct measure_reference *reference, struct err *e);

static int compare(struct run *r, struct real *w, against_fn *against, struct err *e)
{
    struct engine_windows windows = first_windows(w, TEXT_SEARCH, r->subject.scale.probe);
    struct measure_reference own;
    if (!r->subject.scale.large)
        return against(r, w, &windows, &w->search, e);
    /* Two short windows keep two lanes busy, where one long one would wait for its threads. */
    windows.n_ctx /= 2;
    windows.n_windows *= 2;
    if (make_reference(r, w, &windows, &own, e) != 0)
        return -1;
    int rc = against(r, w, &windows, &own, e);
    measure_reference_release(&own);
    return rc;
}

static int probe_step(struct run *r, struct real *w, struct err *e)
{
    return compare(r, w, probe_against, e);
}

/* What the types of a KV cache cost alone, unless history knows. */
static int measure_cache(struct run *r, struct real *w, struct cache_choice *c, struct err *e)
{
    char prefix[65], methods[128], types[CACHE_TEXT_MAX];
    struct score s = {0};
    double began = clock_seconds();
    probing_prefix(r, w, prefix, methods);
    if (!isnan(c->kld) || caches_recall(r, prefix, c))
        return 0;
    if (measure_quality_loaded(&s, w->engine, &w->search.windows, &w->search, NULL, e))
        return -1;
    c->kld = fmax(s.kld_mean, 0);
    caches_remember(r, prefix, c, &s, clock_seconds() - began);
    run_say(r, "a KV cache of %s costs a KL divergence of %.3g", cache_text(c->types, types),
            c->kld);
    score_release(&s);
    return 0;
}

/* May a context be tried while the original is in memory? */
static bool fits_beside(const struct run *r, const struct real *w, const struct cache_choice *c)
{
    double need = (double)engine_info(w->engine)->weights_bytes + 1.5 * (double)c->kv_bytes;
    return r->set.targets.memory_max > 0 && c->compute_bytes == 0 &&
           need < 0.8 * (double)r->hw.ram_usable;
}

/* Types and context of each choice in the worker that holds the original: KL, and the buffers that
 * libllama needs beside the cache. Where the context does not fit beside the original in float,
 * they stay a guess. */
static int cache_step(struct run *r, struct real *w, struct err *e)
{
    struct limits *l = &r->limits;
    struct engine_memory memory;
    struct err inner = {0};
    int rc = 0;
    for (int i = 0; rc == 0 && i < l->n_caches; i++) {
        struct cache_choice *c = &l->caches[i];
        if (i == 1) /* now that the buffers beside the first are known */
            limits_learn(l, &r->set, &r->subject, &r->speed, &r->trials);
        if (!c->useful)
            continue;
        rc = engine_cache(w->engine, c->types, e);
        if (rc == 0)
            rc = measure_cache(r, w, c, e);
        if (rc == 0 && fits_beside(r, w, c) &&
            engine_memory(w->engine, l->context, &memory, &inner) == 0)
            c->compute_bytes = memory.compute_bytes;
    }
    return rc != 0 ? err_context(e, "measuring types of the KV cache") : 0;
}

static bool asks_for_cache(const struct run *r)
{
    return r->set.targets.memory_max > 0 || r->set.cache_fixed;
}

/* The float type of the original is a part of what was measured. */
static int blocks_against(struct run *r, struct real *w, const struct engine_windows *windows,
                          const struct measure_reference *reference, struct err *e)
{
    char key[65], text[160];
    text_key(&w->text, TEXT_SEARCH, key);
    snprintf(text, sizeof(text), "%s %s", key, fs_basename(w->original));
    struct probe_job job = {.model = r->subject.model,
                            .engine = w->engine,
                            .windows = *windows,
                            .reference = reference,
                            .progress = &r->stages.progress};
    return blocks_find(r, &job, text, e);
}

static int blocks_step(struct run *r, struct real *w, struct err *e)
{
    return compare(r, w, blocks_against, e);
}

static int real_probe(struct run *r, struct err *e)
{
    struct real *w = r->world_data;
    int rc = with_original(r, w, probe_step, e);
    if (rc == 0 && r->blocks.limit != UINT64_MAX)
        rc = with_original(r, w, blocks_step, e);
    if (rc == 0 && asks_for_cache(r))
        rc = with_original(r, w, cache_step, e);
    stop_original(w);
    return rc;
}

/* ---- candidates ---- */

static int real_bake(struct run *r, const struct recipe *recipe, const char *path, struct baked *b,
                     struct err *e)
{
    struct bake_result done = {0};
    struct cut c = {0};
    bool lacks = recipe->n_drop_layers > 0;
    if (lacks && cut_open(&c, r, recipe, e) != 0)
        return -1;
    char *memo = xasprintf("%s/cache/encoded", r->set.home);
    const struct factors *factors = lacks ? &c.factors : &r->factors;
    struct bake_job job = {.model = lacks ? c.model : r->subject.model,
                           .recipe = recipe,
                           .imatrix = lacks ? &c.imatrix : &r->imatrix,
                           .factors = recipe->feedback ? factors : NULL,
                           .imatrix_name = "imatrix.gguf",
                           .output = path,
                           .threads = r->set.threads,
                           .allow_requantize = true,
                           .memo_dir = memo,
                           .progress = &r->stages.progress};
    int rc = bake_gguf(&job, &done, e);
    xfree(memo);
    cut_close(&c);
    if (rc != 0)
        return -1;
    b->bytes = done.bytes;
    b->seconds = done.seconds;
    memcpy(b->sha256, done.sha256, sizeof(b->sha256));
    bake_result_release(&done);
    return 0;
}

static struct engine_windows windows_of(const struct run *r, const struct real *w, enum run_set set)
{
    const struct scale *c = &r->subject.scale;
    if (set == SET_SEARCH)
        return first_windows(w, TEXT_SEARCH, c->search_read);
    return first_windows(w, TEXT_FINAL, set == SET_FRONT ? c->front : SIZE_MAX);
}

static int real_quality(struct run *r, const struct trial *t, const char *path, enum run_set set,
                        struct score *s, struct err *e)
{
    struct real *w = r->world_data;
    struct measure_options o;
    bool final = set != SET_SEARCH;
    if (final ? !w->have_final : !w->have_search) {
        int rc = with_original(r, w, final ? make_final_reference : make_search_reference, e);
        stop_original(w);
        if (rc != 0)
            return err_context(e, "reference on the %s text", final ? "held-out" : "search");
    }
    options(r, &o);
    o.cache = t->recipe.cache;
    struct engine_windows windows = windows_of(r, w, set);
    return measure_quality(s, path, &windows, final ? &w->final : &w->search, &o, e);
}

static bool real_score_key(struct run *r, enum run_set set, char text[static 512])
{
    struct real *w = r->world_data;
    char windows[65];
    if (!w->library[0] && engine_version(w->library, NULL) != 0)
        return false;
    text_key(&w->text, set == SET_SEARCH ? TEXT_SEARCH : TEXT_FINAL, windows);
    snprintf(text, 512, "%s %zu %s %s libllama %s %s %d", windows, windows_of(r, w, set).n_windows,
             r->subject.sha256, fs_basename(w->original), w->library, r->hw.simd,
             r->set.gpu_layers);
    return true;
}

/* Another machine's speed is reckoned; its memory is measured here, as libllama counts the same
 * there. */
static void predict_speed(const struct run *r, const struct trial *t, struct score *s)
{
    struct hw_prediction p = hw_predict(&r->set.profile, bytes_per_token(&r->subject, t->bytes), 0,
                                        r->subject.desc->parameters);
    s->tps_decode =
        t->group_types ? speed_tps(&r->speed, &r->subject, t->group_types) : p.tps_decode;
    s->tps_prefill = p.tps_prefill;
    s->first_token_ms = p.tps_prefill > 0 ? PROMPT_TOKENS * 1e3 / p.tps_prefill : 0;
}

static int real_speed(struct run *r, const struct trial *t, const char *path, struct score *s,
                      struct err *e)
{
    struct measure_options o;
    uint32_t context = r->limits.context;
    int prompt = speed_prompt(context);
    bool remote = r->set.has_profile && r->set.profile.remote;
    options(r, &o);
    o.cache = t->recipe.cache;
    if (measure_speed(s, path, context, prompt, remote ? 2 : DECODE_TOKENS, remote ? 1 : REPEATS,
                      speed_seconds, &o, e) != 0)
        return -1;
    if (remote)
        predict_speed(r, t, s);
    return 0;
}

static int real_generate(struct run *r, const struct trial *t, const char *path, char **text,
                         struct err *e)
{
    struct measure_options o;
    struct engine_info info;
    struct engine *g = NULL;
    options(r, &o);
    o.cache = t->recipe.cache;
    if (measure_open(&g, &info, path, ENGINE_FILE, r->subject.scale.n_ctx, 1, false, &o, e) != 0)
        return err_context(e, "loading the finished file");
    int rc = engine_generate(g, "", WORDS, text, e);
    engine_stop(g);
    if (rc == 0 && (!*text || !(*text)[0])) {
        xfree(*text);
        *text = NULL;
        rc = err_set(e, ERR_INPUT, NULL, "the finished file %s loads but writes nothing", path);
    }
    return rc;
}

/* Bisection over contexts that libllama makes. One that it cannot make does not fit. */
static uint32_t longest_within(struct engine *g, uint64_t room, uint32_t most)
{
    uint32_t fits = 0, steps = most / CONTEXT_STEP + 1; /* in steps: the first that does not */
    while (steps - fits > 1) {
        uint32_t middle = fits + (steps - fits) / 2;
        struct engine_memory m;
        if (engine_memory(g, middle * CONTEXT_STEP, &m, NULL) == 0 &&
            m.kv_bytes + m.compute_bytes <= room)
            fits = middle;
        else
            steps = middle;
    }
    return fits * CONTEXT_STEP;
}

static int real_longest(struct run *r, const struct trial *t, const char *path, uint64_t memory_max,
                        uint32_t most, uint32_t *context, struct err *e)
{
    struct measure_options o;
    struct engine_info info;
    struct engine *g = NULL;
    options(r, &o);
    o.cache = t->recipe.cache;
    if (measure_open(&g, &info, path, ENGINE_FILE, CONTEXT_STEP, 1, false, &o, e) != 0)
        return err_context(e, "loading the finished file");
    uint64_t room = info.weights_bytes < memory_max ? memory_max - info.weights_bytes : 0;
    uint64_t per = model_kv_bytes_per_token(r->subject.desc, o.cache);
    if (per > 0 && room / per < most)
        most = (uint32_t)(room / per); /* the cache alone fills the room */
    *context = longest_within(g, room, most);
    engine_stop(g);
    return 0;
}

static void real_close(struct run *r)
{
    struct real *w = r->world_data;
    if (!w)
        return;
    stop_original(w);
    if (w->have_search)
        measure_reference_release(&w->search);
    if (w->have_final)
        measure_reference_release(&w->final);
    text_release(&w->text);
    xfree(w->original);
    xfree(w);
    r->world_data = NULL;
}

const struct world world_real = {
    .name = "real",
    .prepare = real_prepare,
    .probe = real_probe,
    .bake = real_bake,
    .quality = real_quality,
    .score_key = real_score_key,
    .speed = real_speed,
    .generate = real_generate,
    .longest = real_longest,
    .close = real_close,
};
