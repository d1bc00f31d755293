/* Backends, models and contexts in the worker.
 *
 * Owns the model and its one context. The libraries' backends (one shared object per CPU
 * generation, GPU drivers) are loaded from the folder in which libllama itself was found, so that a
 * program in the source tree and an installed one both find theirs.
 *
 * What sizes are reported: kv and compute are libllama's own sums (its log, 0.01 MiB). weights are
 * the bytes of all tensors, which is what has to stay in memory: a tensor that was repacked stays
 * mapped too, but nothing reads that copy again and the kernel may drop it. A tied embedding that
 * is kept in two layouts counts twice, because both are used.
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/thread.h"
#include "engine/worker_int.h"
#include "base/banned.h"

enum {
    CONTEXT_DEFAULT_MAX = 4096,
    CONTEXT_MAX = 1 << 24,
    SEQUENCES_MAX = 256,
    BATCH_TOKENS_MAX = 2048,
    BATCH_TOKENS_MIN = 64,
    UBATCH_TOKENS = 512,
};
static const uint64_t logits_bytes_max = 128ull << 20; /* of one decode call */
/* Multiplications in one graph that are worth a thread: about 3 ms of them. */
static const uint64_t work_per_thread = 1ull << 28;
static const uint64_t lanes_bytes_max = 1ull << 30; /* of all lanes together */

/* ---- backends -------------------------------------------------------------------------------- */

int worker_backends(struct worker *w, struct err *e)
{
    Dl_info where;
    void *symbol = dlsym(RTLD_DEFAULT, "llama_version");
    if (w->backends_loaded)
        return 0;
    if (!symbol || !dladdr(symbol, &where) || !where.dli_fname)
        return err_set(e, ERR_BUG, NULL, "cannot find out where libllama was loaded from");
    const char *slash = strrchr(where.dli_fname, '/');
    char *folder =
        slash ? xstrndup(where.dli_fname, (size_t)(slash - where.dli_fname)) : xstrdup(".");
    llama_backend_init();
    ggml_backend_load_all_from_path(folder);
    int rc = 0;
    if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU))
        rc =
            err_set(e, ERR_MISSING, "install the program again (make install)",
                    "no CPU backend of ggml (libggml-cpu-*.so) lies beside libllama in %s", folder);
    w->backends_loaded = rc == 0;
    xfree(folder);
    return rc;
}

static const char *device_type(enum ggml_backend_dev_type type)
{
    switch (type) {
    case GGML_BACKEND_DEVICE_TYPE_CPU:
        return "cpu";
    case GGML_BACKEND_DEVICE_TYPE_GPU:
        return "gpu";
    case GGML_BACKEND_DEVICE_TYPE_IGPU:
        return "igpu";
    default:
        return "accel";
    }
}

int worker_devices(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    (void)request;
    if (worker_backends(w, e))
        return -1;
    json_t *list = json_array();
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t d = ggml_backend_dev_get(i);
        size_t free_bytes = 0, total_bytes = 0;
        ggml_backend_dev_memory(d, &free_bytes, &total_bytes);
        json_array_append_new(
            list,
            json_pack("{s:o, s:o, s:s, s:I, s:I}", "name", wire_text_new(ggml_backend_dev_name(d)),
                      "description", wire_text_new(ggml_backend_dev_description(d)), "type",
                      device_type(ggml_backend_dev_type(d)), "memory_total",
                      (json_int_t)total_bytes, "memory_free", (json_int_t)free_bytes));
    }
    json_object_set_new(answer, "devices", list);
    return 0;
}

/* What -1 ("as the library likes") comes to: all layers when there is a GPU, else none. */
static int effective_gpu_layers(const struct worker *w)
{
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        enum ggml_backend_dev_type type = ggml_backend_dev_type(ggml_backend_dev_get(i));
        if (type != GGML_BACKEND_DEVICE_TYPE_GPU && type != GGML_BACKEND_DEVICE_TYPE_IGPU)
            continue;
        int all = llama_model_n_layer(w->model) + 1; /* with the head */
        return w->gpu_layers < 0 || w->gpu_layers > all ? all : w->gpu_layers;
    }
    return 0;
}

/* ---- contexts -------------------------------------------------------------------------------- */

uint32_t worker_batch_tokens(const struct worker *w)
{
    uint64_t fit = logits_bytes_max / ((uint64_t)w->n_vocab * sizeof(float));
    if (fit > UBATCH_TOKENS)
        fit = UBATCH_TOKENS;
    return fit < BATCH_TOKENS_MIN ? BATCH_TOKENS_MIN : (uint32_t)fit;
}

static bool same_shape(const struct context_shape *a, const struct context_shape *b)
{
    return a->n_ctx == b->n_ctx && a->n_seq == b->n_seq && a->n_batch == b->n_batch &&
           a->n_ubatch == b->n_ubatch && a->n_outputs == b->n_outputs && a->threads == b->threads &&
           a->collect == b->collect && cache_same(a->cache, b->cache);
}

static void lanes_free(struct worker *w)
{
    for (int i = 0; i < w->n_lanes; i++)
        llama_free(w->lanes[i]);
    w->n_lanes = 0;
}

static struct llama_context *context_new(struct worker *w, const struct context_shape *shape,
                                         struct err *e)
{
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = shape->n_ctx * shape->n_seq;
    p.n_seq_max = shape->n_seq;
    p.n_batch = shape->n_batch;
    p.n_ubatch = shape->n_ubatch;
    p.n_outputs_max = shape->n_outputs;
    p.n_threads = p.n_threads_batch = shape->threads;
    p.kv_unified = false;
    /* dtype's ids are ggml's */
    p.type_k = (enum ggml_type)cache_type_dtype(shape->cache.k);
    p.type_v = (enum ggml_type)cache_type_dtype(shape->cache.v);
    if (ggml_is_quantized(p.type_v))
        p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    if (shape->collect) {
        p.cb_eval = collect_callback;
        p.cb_eval_user_data = w;
    }
    w->ledger.kv_mib = w->ledger.compute_mib = 0;
    struct llama_context *ctx = llama_init_from_model(w->model, p);
    if (!ctx)
        worker_complain(w, ERR_INPUT, "try a shorter context", e,
                        "cannot make a context of %" PRIu32 " tokens for %" PRIu32 " sequences",
                        shape->n_ctx, shape->n_seq);
    return ctx;
}

/* Lanes 0 … n−1 of this shape; those that are there already stay. */
static int lanes_open(struct worker *w, const struct context_shape *asked, int n, struct err *e)
{
    struct context_shape shape = *asked;
    shape.cache = w->cache;
    if (w->n_lanes > 0 && !same_shape(&shape, &w->shape))
        lanes_free(w);
    w->shape = shape;
    while (w->n_lanes < n) {
        struct llama_context *ctx = context_new(w, &shape, e);
        if (!ctx)
            return -1;
        w->lanes[w->n_lanes++] = ctx;
    }
    return 0;
}

int worker_context(struct worker *w, const struct context_shape *shape, struct err *e)
{
    if (lanes_open(w, shape, 1, e))
        return -1;
    llama_memory_clear(llama_get_memory(w->lanes[0]), false);
    return 0;
}

int worker_decode(struct worker *w, struct llama_context *ctx, struct llama_batch *batch,
                  struct err *e)
{
    int rc = llama_decode(ctx, *batch);
    if (rc == 0)
        return 0;
    return worker_complain(w, ERR_INPUT, NULL, e, "libllama cannot run %d tokens (code %d)",
                           batch->n_tokens, rc);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static uint64_t mib_bytes(double mib)
{
    return (uint64_t)(mib * 1048576.0 + 0.5);
}

/* How many lanes: one per thread, but no more than there is work for, and than memory allows (a
 * lane is its KV cache, its compute buffer and its logits). A GPU gets one lane: it has its own
 * parallelism. */
static int choose_lanes(const struct worker *w, const struct context_shape *shape, size_t items)
{
    uint64_t logits = (uint64_t)shape->n_outputs * w->n_vocab * sizeof(float);
    uint64_t lane = mib_bytes(w->ledger.kv_mib + w->ledger.compute_mib) + logits + 1;
    uint64_t budget = lanes_bytes_max;
    if (w->memory_bytes_max > 0 && w->memory_bytes_max / 4 < budget)
        budget = w->memory_bytes_max / 4;
    uint64_t limit = budget / lane;
    if (limit > items)
        limit = items;
    if (limit > LANES_MAX)
        limit = LANES_MAX;
    if (w->gpu_layers > 0 || limit < 1)
        limit = 1;
    int n = w->threads;
    while ((uint64_t)n > limit || w->threads % n != 0)
        n--;
    return n;
}

int worker_threads(const struct worker *w, uint64_t tokens)
{
    uint64_t parameters = llama_model_n_params(w->model), work;
    if (!num_mul_u64(parameters, tokens, &work))
        work = UINT64_MAX;
    uint64_t useful = 1 + work / work_per_thread;
    return useful < (uint64_t)w->threads ? (int)useful : w->threads;
}

struct lanes_job {
    struct worker *w;
    int (*fn)(void *ud, struct llama_context *lane, size_t item, struct err *e);
    void *ud;
    size_t failed; /* item + 1, 0 = none; under the worker's lock, with err */
    struct err err;
};

static int run_item(void *ud, size_t item, int lane)
{
    struct lanes_job *j = ud;
    struct err e = {.code = ERR_NONE};
    struct llama_context *ctx = j->w->lanes[lane];
    llama_memory_clear(llama_get_memory(ctx), false);
    if (j->fn(j->ud, ctx, item, &e) == 0)
        return 0;
    pthread_mutex_lock(&j->w->lock);
    if (j->failed == 0 || item + 1 < j->failed) {
        j->failed = item + 1;
        j->err = e;
    }
    pthread_mutex_unlock(&j->w->lock);
    return -1;
}

int worker_lanes(struct worker *w, struct context_shape *shape, size_t items,
                 int (*fn)(void *ud, struct llama_context *lane, size_t item, struct err *e),
                 void *ud, struct err *e)
{
    struct lanes_job j = {.w = w, .fn = fn, .ud = ud};
    /* A first lane with one thread tells what a lane costs; mostly it is the right one already. */
    shape->threads = 1;
    if (lanes_open(w, shape, 1, e))
        return -1;
    int n = choose_lanes(w, shape, items);
    shape->threads = w->threads / n;
    int useful = worker_threads(w, shape->n_ubatch);
    if (shape->threads > useful)
        shape->threads = useful;
    if (lanes_open(w, shape, n, e))
        return -1;
    if (thread_parallel_for(n, items, run_item, &j) == 0)
        return 0;
    if (e)
        *e = j.err;
    return -1;
}

void worker_batch_add(struct llama_batch *batch, int32_t token, uint32_t pos, int32_t seq,
                      bool output)
{
    int i = batch->n_tokens++;
    batch->token[i] = token;
    batch->pos[i] = (llama_pos)pos;
    batch->n_seq_id[i] = 1;
    batch->seq_id[i][0] = seq;
    batch->logits[i] = output;
}

/* ---- loading --------------------------------------------------------------------------------- */

struct load {
    const char *path;
    bool float_mode, full_outputs;
    uint64_t n_ctx, n_seq, memory_bytes_max;
    struct cache_types cache;
};

static int read_cache(const json_t *request, struct cache_types *cache, struct err *e)
{
    const char *k, *v;
    if (json_need_str(request, "cache_k", "request", &k, e) ||
        json_need_str(request, "cache_v", "request", &v, e))
        return -1;
    if (!cache_type_find(k, &cache->k) || !cache_type_find(v, &cache->v))
        return err_set(e, ERR_BUG, NULL, "request for a KV cache of unknown types");
    return 0;
}

static int read_request(const json_t *request, struct load *l, struct err *e)
{
    const char *mode;
    if (json_need_str(request, "path", "request", &l->path, e) ||
        json_need_str(request, "mode", "request", &mode, e) ||
        worker_number(request, "n_ctx", CONTEXT_MAX, &l->n_ctx, e) ||
        worker_number(request, "n_seq", SEQUENCES_MAX, &l->n_seq, e) ||
        worker_number(request, "memory_bytes_max", INT64_MAX, &l->memory_bytes_max, e) ||
        read_cache(request, &l->cache, e))
        return -1;
    l->float_mode = strcmp(mode, "float") == 0;
    l->full_outputs = json_opt_bool(request, "full_outputs", false);
    return 0;
}

static bool on_load_progress(float part, void *ud)
{
    worker_progress(ud, (double)part, 1, NULL);
    return true;
}

static int load_model(struct worker *w, const struct load *l, struct err *e)
{
    struct llama_model_params p = llama_model_default_params();
    if (w->gpu_layers >= 0)
        p.n_gpu_layers = w->gpu_layers;
    p.progress_callback = on_load_progress;
    p.progress_callback_user_data = w;
    if (l->float_mode)
        return float_load(w, l->path, p, l->memory_bytes_max, e);
    w->model = llama_model_load_from_file(l->path, p);
    if (!w->model)
        return worker_complain(w, ERR_INPUT, "check the file (sintra inspect), or fetch it again",
                               e, "libllama cannot load %s", l->path);
    return 0;
}

static uint32_t clamp_u32(uint64_t n, uint32_t low, uint32_t high)
{
    return n < low ? low : n > high ? high : (uint32_t)n;
}

static struct context_shape users_shape(const struct worker *w, uint32_t n_ctx, uint32_t n_seq)
{
    return (struct context_shape){.n_ctx = n_ctx,
                                  .n_seq = n_seq,
                                  .n_batch = BATCH_TOKENS_MAX,
                                  .n_ubatch = UBATCH_TOKENS,
                                  .n_outputs = n_seq,
                                  .threads = w->threads};
}

/* A context as users run it, or as windows are scored. */
static struct context_shape choose_shape(const struct worker *w, const struct load *l)
{
    uint32_t trained = (uint32_t)llama_model_n_ctx_train(w->model);
    uint32_t n_ctx = l->n_ctx > 0 ? (uint32_t)l->n_ctx : clamp_u32(trained, 1, CONTEXT_DEFAULT_MAX);
    if (l->full_outputs)
        return worker_windows_shape(w, n_ctx, n_ctx / 2, (uint32_t)l->n_seq);
    return users_shape(w, n_ctx, l->n_seq > 0 ? (uint32_t)l->n_seq : 1);
}

/* The embedding of a model whose head is tied to it, when libllama keeps it twice: as it lies in
 * the file for looking up, and repacked or on a GPU for multiplying. 0 otherwise. */
static uint64_t duplicate_bytes(const struct worker *w, const char *path)
{
    bool twice = w->ledger.embedding_repacked || w->gpu_layers > llama_model_n_layer(w->model);
    struct gguf_init_params p = {.no_alloc = true};
    struct gguf_context *header = twice ? gguf_init_from_file(path, p) : NULL;
    uint64_t bytes = 0;
    if (!header)
        return 0;
    int64_t id = gguf_find_tensor(header, "token_embd.weight");
    if (id >= 0 && gguf_find_tensor(header, "output.weight") < 0)
        bytes = gguf_get_tensor_size(header, id);
    gguf_free(header);
    return bytes;
}

static void describe(struct worker *w, const char *path, double load_ms, json_t *answer)
{
    char text[128] = "";
    llama_model_desc(w->model, text, sizeof(text));
    uint64_t weights = w->weights ? float_bytes(w->weights)
                                  : llama_model_size(w->model) + duplicate_bytes(w, path);
    json_t *sizes = json_pack("{s:I, s:I, s:I, s:o, s:o}", "weights_bytes", (json_int_t)weights,
                              "kv_bytes", (json_int_t)mib_bytes(w->ledger.kv_mib), "compute_bytes",
                              (json_int_t)mib_bytes(w->ledger.compute_mib), "load_ms",
                              json_real_new(load_ms), "description", wire_text_new(text));
    json_t *facts = json_pack(
        "{s:I, s:i, s:i, s:i, s:i, s:i, s:b, s:i, s:i, s:I, s:I}", "n_vocab",
        (json_int_t)w->n_vocab, "n_ctx_train", llama_model_n_ctx_train(w->model), "n_embd",
        llama_model_n_embd(w->model), "n_layer", llama_model_n_layer(w->model), "bos",
        llama_vocab_bos(w->vocab), "eos", llama_vocab_eos(w->vocab), "add_bos",
        llama_vocab_get_add_bos(w->vocab) ? 1 : 0, "threads", w->threads, "gpu_layers",
        w->gpu_layers, "n_ctx", (json_int_t)w->shape.n_ctx, "n_seq", (json_int_t)w->shape.n_seq);
    json_object_update(answer, sizes);
    json_object_update(answer, facts);
    json_decref(sizes);
    json_decref(facts);
}

static int check_model(struct worker *w, const char *path, struct err *e)
{
    w->vocab = llama_model_get_vocab(w->model);
    int n = llama_vocab_n_tokens(w->vocab);
    if (n < 2)
        return err_set(e, ERR_INPUT, NULL, "%s has no vocabulary", path);
    if (llama_model_has_encoder(w->model) || llama_model_is_diffusion(w->model) ||
        !llama_model_has_decoder(w->model))
        return err_set(e, ERR_UNSUPPORTED, "choose a decoder-only language model",
                       "%s is not a model that predicts the next token of a text", path);
    w->n_vocab = (uint32_t)n;
    return 0;
}

void worker_unload(struct worker *w)
{
    lanes_free(w);
    if (w->model)
        llama_model_free(w->model);
    float_free(w->weights);
    w->model = NULL;
    w->weights = NULL;
    w->vocab = NULL;
    w->ledger = (struct ledger){0};
}

int worker_load(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    struct load l;
    if (read_request(request, &l, e) || worker_backends(w, e))
        return -1;
    worker_unload(w);
    blas_use(l.float_mode);
    int threads = (int)json_opt_i64(request, "threads", 0);
    w->memory_bytes_max = l.memory_bytes_max;
    w->cache = l.cache;
    w->threads = threads > 0 && threads <= 1024 ? threads : thread_count_default();
    w->gpu_layers = (int)json_opt_i64(request, "gpu_layers", -1);
    double start = clock_seconds();
    if (load_model(w, &l, e) || check_model(w, l.path, e)) {
        worker_unload(w);
        return -1;
    }
    w->gpu_layers = effective_gpu_layers(w);
    w->shape_loaded = choose_shape(w, &l);
    if (worker_context(w, &w->shape_loaded, e)) {
        err_context(e, "%s", l.path);
        worker_unload(w);
        return -1;
    }
    describe(w, l.path, (clock_seconds() - start) * 1000, answer);
    return 0;
}

/* ---- other contexts of the same model -------------------------------------------------------- */

int worker_cache(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    struct cache_types before = w->cache, cache;
    (void)answer;
    if (worker_need_model(w, e) || read_cache(request, &cache, e))
        return -1;
    w->cache = cache;
    if (worker_context(w, &w->shape_loaded, e) == 0)
        return 0;
    w->cache = before;
    return -1;
}

int worker_memory(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    uint64_t n_ctx;
    if (worker_need_model(w, e) || worker_number(request, "n_ctx", CONTEXT_MAX, &n_ctx, e))
        return -1;
    struct context_shape shape = users_shape(w, (uint32_t)n_ctx, 1);
    lanes_free(w); /* the sizes are said when a context is made */
    int rc = worker_context(w, &shape, e);
    json_object_set_new(answer, "kv_bytes", json_integer((json_int_t)mib_bytes(w->ledger.kv_mib)));
    json_object_set_new(answer, "compute_bytes",
                        json_integer((json_int_t)mib_bytes(w->ledger.compute_mib)));
    lanes_free(w);
    return rc;
}
