/* Speed of the loaded file, as a user meets it.
 *
 * Default load parameters (mapped file, repacked weights) and a thread pool that lives as long as
 * the run, as upstream's own programs have it: between two graphs its threads poll for a while,
 * which is worth tens of percent in token-by-token decoding of a small model. One unmeasured
 * warm-up of both phases reads the mapped weights in. Then prefill of n_prompt tokens and n_gen
 * single tokens, alternating, on an empty cache; medians are reported. Token ids are random: the
 * work does not depend on them.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/stat.h"
#include "engine/worker_int.h"
#include "base/banned.h"

enum { TOKENS_MAX = 1 << 20, REPEATS_MAX = 1000, REPEATS_MIN = 2 };
/* A run that is not counted brings in the weights; more than that would take seconds. */
enum { WARM_PROMPT = 64, WARM_TOKENS = 8 };

struct bench {
    struct worker *w;
    struct rng rng;
    int32_t *prompt;
    int n_prompt, n_gen;
    ggml_threadpool_t pool;
    void (*pool_free)(ggml_threadpool_t);
};

static int32_t random_token(struct bench *b)
{
    return (int32_t)rng_below(&b->rng, b->w->n_vocab);
}

/* The CPU backend is a plug-in: its thread pool is reached by name. Without one the run goes on. */
static void pool_open(struct bench *b)
{
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_reg_t reg = cpu ? ggml_backend_dev_backend_reg(cpu) : NULL;
    ggml_threadpool_t (*make)(struct ggml_threadpool_params *) = NULL;
    if (!reg)
        return;
    void *make_symbol = ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_new");
    void *free_symbol = ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_free");
    if (!make_symbol || !free_symbol)
        return;
    memcpy(&make, &make_symbol, sizeof(make)); /* ISO C has no cast from object to function */
    memcpy(&b->pool_free, &free_symbol, sizeof(b->pool_free));
    struct ggml_threadpool_params p = ggml_threadpool_params_default(b->w->threads);
    b->pool = make(&p);
    if (b->pool)
        llama_attach_threadpool(b->w->lanes[0], b->pool, b->pool);
}

static void pool_close(struct bench *b)
{
    if (!b->pool)
        return;
    llama_detach_threadpool(b->w->lanes[0]);
    b->pool_free(b->pool);
}

static int decode(struct bench *b, int32_t *tokens, int n, struct err *e)
{
    struct llama_batch batch = llama_batch_get_one(tokens, n);
    if (worker_decode(b->w, b->w->lanes[0], &batch, e))
        return -1;
    llama_synchronize(b->w->lanes[0]);
    return 0;
}

static int run_once(struct bench *b, int n_prompt, int n_gen, double *prefill, double *generate,
                    struct err *e)
{
    int32_t limit = (int32_t)b->w->shape.n_batch;
    llama_memory_clear(llama_get_memory(b->w->lanes[0]), false);
    double t0 = clock_seconds();
    for (int at = 0; at < n_prompt; at += limit)
        if (decode(b, b->prompt + at, n_prompt - at < limit ? n_prompt - at : limit, e))
            return -1;
    double t1 = clock_seconds();
    for (int i = 0; i < n_gen; i++) {
        int32_t token = random_token(b);
        if (decode(b, &token, 1, e))
            return -1;
        worker_progress(b->w, i, n_gen, "decode");
    }
    double t2 = clock_seconds();
    *prefill = t1 - t0;
    *generate = t2 - t1;
    return 0;
}

/* A rate for each repeat: median, lowest and highest into the answer. */
static void report(json_t *answer, const char *key, const double *seconds, int n, int tokens)
{
    double rates[REPEATS_MAX], low = 0, high = 0;
    char name[64];
    for (int i = 0; i < n; i++) {
        rates[i] = seconds[i] > 0 ? tokens / seconds[i] : 0;
        low = i == 0 || rates[i] < low ? rates[i] : low;
        high = i == 0 || rates[i] > high ? rates[i] : high;
    }
    json_object_set_new(answer, key, json_real_new(stat_median(rates, (size_t)n)));
    snprintf(name, sizeof(name), "%s_low", key);
    json_object_set_new(answer, name, json_real_new(low));
    snprintf(name, sizeof(name), "%s_high", key);
    json_object_set_new(answer, name, json_real_new(high));
}

static int measure(struct bench *b, int repeats, double seconds_max, json_t *answer, struct err *e)
{
    double prefill[REPEATS_MAX], generate[REPEATS_MAX], warm[2];
    int done = 0;
    double start = clock_seconds();
    int some = b->n_prompt < WARM_PROMPT ? b->n_prompt : WARM_PROMPT;
    if (run_once(b, some, b->n_gen < WARM_TOKENS ? b->n_gen : WARM_TOKENS, &warm[0], &warm[1], e))
        return -1;
    while (done < repeats) {
        if (run_once(b, b->n_prompt, b->n_gen, &prefill[done], &generate[done], e))
            return -1;
        double last = prefill[done] + generate[done], spent = clock_seconds() - start;
        done++;
        bool room = seconds_max <= 0 || spent + last <= seconds_max;
        /* One run that took no more than the time allowed is worth a second. */
        bool too_few = done < REPEATS_MIN && (seconds_max <= 0 || last <= seconds_max);
        if (!room && !too_few)
            break;
    }
    report(answer, "prefill_tps", prefill, done, b->n_prompt);
    report(answer, "decode_tps", generate, done, b->n_gen);
    json_object_set_new(answer, "first_token_ms",
                        json_real_new(1000 * stat_median(prefill, (size_t)done)));
    json_object_set_new(answer, "repeats", json_integer(done));
    json_object_set_new(answer, "threads", json_integer(b->w->threads));
    json_object_set_new(answer, "gpu_layers", json_integer(b->w->gpu_layers));
    return 0;
}

int worker_bench(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    uint64_t n_prompt, n_gen, repeats;
    double seconds_max = json_opt_real(request, "seconds_max", 0);
    if (worker_need_model(w, e) || worker_number(request, "n_prompt", TOKENS_MAX, &n_prompt, e) ||
        worker_number(request, "n_gen", TOKENS_MAX, &n_gen, e) ||
        worker_number(request, "repeats", REPEATS_MAX, &repeats, e))
        return -1;
    if (n_prompt + n_gen > w->shape_loaded.n_ctx)
        return err_set(e, ERR_USAGE, "use fewer tokens or a longer context",
                       "%llu prompt and %llu generated tokens do not fit into the context of %u",
                       (unsigned long long)n_prompt, (unsigned long long)n_gen,
                       w->shape_loaded.n_ctx);
    if (worker_context(w, &w->shape_loaded, e))
        return -1;
    struct bench b = {.w = w, .n_prompt = (int)n_prompt, .n_gen = (int)n_gen};
    rng_seed(&b.rng, 1);
    b.prompt = xmalloc((size_t)n_prompt * sizeof(*b.prompt));
    for (uint64_t i = 0; i < n_prompt; i++)
        b.prompt[i] = random_token(&b);
    pool_open(&b);
    int rc = measure(&b, (int)repeats, seconds_max, answer, e);
    pool_close(&b);
    xfree(b.prompt);
    return rc;
}
