/* The calls of engine.h as messages to the worker.
 *
 * Every number that comes back is checked before it sizes or indexes anything: the worker runs
 * foreign code on foreign files. Results land in memory that this side made and sealed; only the
 * activations' sizes are not known beforehand, so they come in a memory file of the worker's, which
 * is read, not mapped.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"
#include "engine/client_int.h"
#include "engine/reference_int.h"
#include "base/banned.h"

enum {
    TEXT_BYTES_MAX = INT32_MAX - 64, /* libllama counts text in int32 */
    VALUES_PER_MESSAGE = 4 << 20,    /* floats of a tensor sent at a time */
    ACTIVATIONS_MAX = 1 << 20,
};
static const uint64_t activation_bytes_max = 8ull << 30;

/* ---- loading --------------------------------------------------------------------------------- */

static uint64_t answer_u64(const json_t *answer, const char *key)
{
    int64_t n = json_opt_i64(answer, key, 0);
    return n > 0 ? (uint64_t)n : 0;
}

static uint32_t answer_u32(const json_t *answer, const char *key)
{
    uint64_t n = answer_u64(answer, key);
    return n <= UINT32_MAX ? (uint32_t)n : 0;
}

static void read_info(const struct engine *g, const json_t *answer, struct engine_info *info)
{
    *info = (struct engine_info){
        .n_vocab = answer_u32(answer, "n_vocab"),
        .n_ctx_train = answer_u32(answer, "n_ctx_train"),
        .n_ctx = answer_u32(answer, "n_ctx"),
        .n_seq = answer_u32(answer, "n_seq"),
        .n_embd = answer_u32(answer, "n_embd"),
        .n_layer = answer_u32(answer, "n_layer"),
        .bos = (int32_t)json_opt_i64(answer, "bos", -1),
        .eos = (int32_t)json_opt_i64(answer, "eos", -1),
        .add_bos = json_opt_bool(answer, "add_bos", false),
        .threads = (int)json_opt_i64(answer, "threads", 0),
        .gpu_layers = (int)json_opt_i64(answer, "gpu_layers", 0),
        .load_ms = json_opt_real(answer, "load_ms", 0),
        .weights_bytes = answer_u64(answer, "weights_bytes"),
        .kv_bytes = answer_u64(answer, "kv_bytes"),
        .compute_bytes = answer_u64(answer, "compute_bytes"),
    };
    struct proc_memory m;
    if (proc_memory(g->proc.pid, &m) == 0) {
        info->rss = m.rss;
        info->rss_peak = m.rss_peak;
        info->rss_anon = m.rss_anon;
    }
    const char *text = json_opt_str(answer, "description", "");
    size_t n =
        strlen(text) < sizeof(info->description) ? strlen(text) : sizeof(info->description) - 1;
    memcpy(info->description, text, n);
}

static const char *const mode_names[] = {[ENGINE_FILE] = "file", [ENGINE_FLOAT] = "float"};

int engine_load(struct engine *g, const struct engine_load *load, struct engine_info *info,
                struct err *e)
{
    struct engine_call call = {.doing = "loading the model"};
    json_t *answer = NULL;
    json_t *path = json_string(load->path);
    if (!path)
        return err_set(e, ERR_UNSUPPORTED, "rename it", "the path of the model is not UTF-8 text");
    xfree(g->model);
    g->info = (struct engine_info){0};
    g->model = xstrdup(load->path);
    g->mode = load->mode;
    json_t *request =
        json_pack("{s:s, s:o, s:s, s:I, s:I, s:i, s:i, s:b, s:I, s:s, s:s}", "op", "load", "path",
                  path, "mode", mode_names[load->mode], "n_ctx", (json_int_t)load->n_ctx, "n_seq",
                  (json_int_t)load->n_seq, "threads", load->threads, "gpu_layers", load->gpu_layers,
                  "full_outputs", load->full_outputs, "memory_bytes_max",
                  (json_int_t)g->options.memory_bytes_max, "cache_k",
                  cache_type_name(load->cache.k), "cache_v", cache_type_name(load->cache.v));
    if (engine_call(g, &call, request, &answer, NULL, e)) {
        xfree(g->model);
        g->model = NULL;
        return -1;
    }
    struct engine_info got;
    read_info(g, answer, &got);
    json_decref(answer);
    g->info = got;
    if (info)
        *info = got;
    return 0;
}

int engine_cache(struct engine *g, struct cache_types cache, struct err *e)
{
    struct engine_call call = {.doing = "changing the types of the KV cache"};
    if (!g->model)
        return err_set(e, ERR_BUG, NULL, "no model is loaded");
    return engine_call(g, &call,
                       json_pack("{s:s, s:s, s:s}", "op", "cache", "cache_k",
                                 cache_type_name(cache.k), "cache_v", cache_type_name(cache.v)),
                       NULL, NULL, e);
}

int engine_memory(struct engine *g, uint32_t n_ctx, struct engine_memory *m, struct err *e)
{
    struct engine_call call = {.doing = "asking for a context's memory"};
    json_t *answer = NULL;
    if (!g->model)
        return err_set(e, ERR_BUG, NULL, "no model is loaded");
    if (engine_call(g, &call, json_pack("{s:s, s:I}", "op", "memory", "n_ctx", (json_int_t)n_ctx),
                    &answer, NULL, e))
        return -1;
    *m = (struct engine_memory){.kv_bytes = answer_u64(answer, "kv_bytes"),
                                .compute_bytes = answer_u64(answer, "compute_bytes"),
                                .n_ctx = n_ctx};
    json_decref(answer);
    return 0;
}

const struct engine_info *engine_info(const struct engine *g)
{
    return &g->info;
}

/* ---- text ------------------------------------------------------------------------------------ */

int engine_tokenize(struct engine *g, const char *text, size_t len, bool add_special,
                    int32_t **tokens, size_t *n, struct err *e)
{
    struct engine_call call = {.doing = "tokenizing text"};
    struct engine_share in = {.fd = -1}, out = {.fd = -1};
    json_t *answer = NULL;
    int rc = -1;
    *tokens = NULL;
    *n = 0;
    if (len > TEXT_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "use a shorter text",
                       "the text has %zu bytes, at most %d can be tokenized at once", len,
                       TEXT_BYTES_MAX);
    /* A token stands for at least one byte, but for the few that the vocabulary adds. */
    uint64_t capacity = (uint64_t)len + 16;
    if (engine_share_open(g, &in, "in", len, e) ||
        engine_share_open(g, &out, "out", capacity * sizeof(int32_t), e))
        goto out;
    if (len > 0)
        memcpy(in.data, text, len);
    json_t *request = json_pack("{s:s, s:b}", "op", "tokenize", "add_special", add_special ? 1 : 0);
    if (engine_call(g, &call, request, &answer, NULL, e))
        goto out;
    uint64_t got = answer_u64(answer, "n");
    if (got > capacity) {
        err_set(e, ERR_CHILD, NULL, "the worker says that %zu bytes are %" PRIu64 " tokens", len,
                got);
        goto out;
    }
    *tokens = xmalloc((size_t)(got > 0 ? got : 1) * sizeof(int32_t));
    memcpy(*tokens, out.data, (size_t)got * sizeof(int32_t));
    *n = (size_t)got;
    rc = 0;
out:
    json_decref(answer);
    engine_share_close(&in);
    engine_share_close(&out);
    return rc;
}

int engine_generate(struct engine *g, const char *prompt, int n_tokens, char **text, struct err *e)
{
    struct engine_call call = {.doing = "generating text"};
    struct engine_share in = {.fd = -1};
    json_t *answer = NULL;
    int rc = -1;
    *text = NULL;
    if (engine_share_open(g, &in, "in", strlen(prompt), e))
        goto out;
    if (in.data)
        memcpy(in.data, prompt, strlen(prompt));
    if (engine_call(g, &call, json_pack("{s:s, s:i}", "op", "generate", "n_tokens", n_tokens),
                    &answer, NULL, e))
        goto out;
    *text = xstrdup(json_opt_str(answer, "text", ""));
    rc = 0;
out:
    json_decref(answer);
    engine_share_close(&in);
    return rc;
}

int engine_sample(struct engine *g, size_t first_seq, size_t n_seq, size_t n_tokens, uint64_t seed,
                  int32_t *tokens, const struct progress *p, struct err *e)
{
    struct engine_call call = {.doing = "sampling text from the model", .progress = p};
    struct engine_share out = {.fd = -1};
    uint64_t bytes;
    int rc = -1;
    if (n_seq == 0 || n_tokens == 0)
        return 0;
    if (!num_mul_u64(n_seq, n_tokens, &bytes) || !num_mul_u64(bytes, sizeof(int32_t), &bytes) ||
        n_tokens > INT32_MAX || first_seq > INT32_MAX || n_seq > INT32_MAX)
        return err_set(e, ERR_LIMIT, NULL, "%zu sequences of %zu tokens are too many", n_seq,
                       n_tokens);
    if (engine_share_open(g, &out, "out", bytes, e))
        goto out;
    json_t *request = json_pack("{s:s, s:I, s:I, s:I, s:I}", "op", "sample", "first_seq",
                                (json_int_t)first_seq, "n_seq", (json_int_t)n_seq, "n_tokens",
                                (json_int_t)n_tokens, "seed", (json_int_t)seed);
    if (engine_call(g, &call, request, NULL, NULL, e))
        goto out;
    memcpy(tokens, out.data, (size_t)bytes);
    rc = 0;
out:
    engine_share_close(&out);
    return rc;
}

/* ---- windows --------------------------------------------------------------------------------- */

size_t engine_windows_positions(const struct engine_windows *w)
{
    if (w->n_ctx < 2 || w->first > w->n_ctx - 2)
        return 0;
    return w->n_windows * (w->n_ctx - 1 - w->first);
}

static int check_windows(const struct engine_windows *w, struct err *e)
{
    uint64_t n;
    if (w->n_windows == 0 || w->n_ctx < 2 || w->first > w->n_ctx - 2)
        return err_set(e, ERR_BUG, NULL,
                       "%zu windows of %" PRIu32 " tokens scored from %" PRIu32
                       " have no position to score",
                       w->n_windows, w->n_ctx, w->first);
    if (!num_mul_u64(w->n_windows, w->n_ctx, &n) || n > SIZE_MAX / sizeof(int32_t) / 4)
        return err_set(e, ERR_LIMIT, "use fewer windows", "%zu windows are too many", w->n_windows);
    return 0;
}

static int share_windows(struct engine *g, const struct engine_windows *w, struct engine_share *in,
                         struct err *e)
{
    if (check_windows(w, e))
        return -1;
    size_t bytes = w->n_windows * w->n_ctx * sizeof(int32_t);
    if (engine_share_open(g, in, "in", bytes, e))
        return -1;
    memcpy(in->data, w->tokens, bytes);
    return 0;
}

static json_t *windows_request(const char *op, const struct engine_windows *w)
{
    return json_pack("{s:s, s:I, s:I, s:I}", "op", op, "n_windows", (json_int_t)w->n_windows,
                     "n_ctx", (json_int_t)w->n_ctx, "first", (json_int_t)w->first);
}

static int check_reference_size(const struct engine *g, const struct engine_windows *w,
                                uint64_t bytes_max, struct reference_layout *l, struct err *e)
{
    struct reference_layout window;
    char need[NUM_TEXT_MAX], have[NUM_TEXT_MAX];
    if (!reference_lay_out(engine_windows_positions(w), g->info.n_vocab, l) ||
        !reference_lay_out(w->n_ctx - 1 - w->first, g->info.n_vocab, &window) ||
        l->bytes > SIZE_MAX / 2)
        return err_set(e, ERR_LIMIT, "use fewer windows", "%zu windows are too many", w->n_windows);
    if (bytes_max == 0 || l->bytes <= bytes_max)
        return 0;
    return err_set(e, ERR_LIMIT, "use fewer windows or allow more memory",
                   "the original's logits of %zu windows take %s, but only %s are allowed: %" PRIu64
                   " windows would fit",
                   w->n_windows, num_format_size(l->bytes, need), num_format_size(bytes_max, have),
                   bytes_max / window.bytes);
}

static void reference_point(struct engine_reference *r, const struct reference_layout *l)
{
    char *base = r->data;
    r->log_total = (const double *)(void *)(base + l->log_total);
    r->logits = (const float *)(void *)(base + l->logits);
    r->nll = (const float *)(void *)(base + l->nll);
    r->top = (const uint32_t *)(void *)(base + l->top);
}

int engine_reference_make(struct engine *g, const struct engine_windows *w, uint64_t bytes_max,
                          struct engine_reference *r, const struct progress *p, struct err *e)
{
    static atomic_uint_fast64_t ids;
    struct engine_call call = {.doing = "computing the original's logits", .progress = p};
    struct engine_share in = {.fd = -1};
    struct reference_layout layout = {0};
    int rc = -1;
    *r = (struct engine_reference){.fd = -1};
    if (!g->model)
        return err_set(e, ERR_BUG, NULL, "no model is loaded");
    if (check_windows(w, e) || check_reference_size(g, w, bytes_max, &layout, e))
        return -1;
    if (fs_memfd("reference", (size_t)layout.bytes, &r->fd, &r->data, e))
        return -1;
    r->bytes = layout.bytes;
    r->n_vocab = g->info.n_vocab;
    r->positions = engine_windows_positions(w);
    r->id = atomic_fetch_add(&ids, 1) + 1;
    reference_point(r, &layout);
    g->reference_id = 0;
    if (engine_share_attach(g, r->fd, r->bytes, "reference", e) || share_windows(g, w, &in, e))
        goto out;
    if (engine_call(g, &call, windows_request("reference", w), NULL, NULL, e))
        goto out;
    g->reference_id = r->id;
    rc = 0;
out:
    engine_share_close(&in);
    if (rc)
        engine_reference_release(r);
    return rc;
}

void engine_reference_release(struct engine_reference *r)
{
    if (r->data)
        fs_memfd_close(r->fd, r->data, (size_t)r->bytes);
    *r = (struct engine_reference){.fd = -1};
}

static size_t reference_at(const struct engine_windows *w)
{
    return w->reference_from * (w->n_ctx - 1 - w->first);
}

/* The reference stays in the worker from call to call. */
static int share_reference(struct engine *g, const struct engine_windows *w,
                           const struct engine_reference *r, struct err *e)
{
    if (r->n_vocab != g->info.n_vocab)
        return err_set(e, ERR_INPUT, "compare a model with one of the same vocabulary",
                       "the original has %" PRIu32 " tokens in its vocabulary, %s has %" PRIu32,
                       r->n_vocab, g->model, g->info.n_vocab);
    size_t end = engine_windows_positions(w) + reference_at(w);
    if (end > r->positions)
        return err_set(e, ERR_BUG, NULL, "the reference has %zu positions, the windows end at %zu",
                       r->positions, end);
    if (g->reference_id == r->id)
        return 0;
    g->reference_id = 0;
    if (engine_share_attach(g, r->fd, r->bytes, "reference", e))
        return -1;
    g->reference_id = r->id;
    return 0;
}

int engine_score(struct engine *g, const struct engine_windows *w, const struct engine_reference *r,
                 struct engine_position *out, const struct progress *p, struct err *e)
{
    struct engine_call call = {.doing = "scoring windows", .progress = p};
    struct engine_share in = {.fd = -1}, results = {.fd = -1};
    size_t positions = engine_windows_positions(w);
    int rc = -1;
    if (!g->model)
        return err_set(e, ERR_BUG, NULL, "no model is loaded");
    if (r && share_reference(g, w, r, e))
        return -1;
    if (share_windows(g, w, &in, e) ||
        engine_share_open(g, &results, "out", positions * sizeof(*out), e))
        goto out;
    json_t *request = windows_request("score", w);
    json_object_set_new(request, "reference_positions",
                        json_integer(r ? (json_int_t)r->positions : 0));
    json_object_set_new(request, "reference_at", json_integer(r ? (json_int_t)reference_at(w) : 0));
    if (engine_call(g, &call, request, NULL, NULL, e))
        goto out;
    memcpy(out, results.data, positions * sizeof(*out));
    rc = 0;
out:
    engine_share_close(&in);
    engine_share_close(&results);
    return rc;
}

/* ---- activations ----------------------------------------------------------------------------- */

static int read_exact(int fd, uint64_t offset, void *data, size_t n, struct err *e)
{
    char *p = data;
    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t)offset);
        if (got <= 0)
            return err_set(e, ERR_CHILD, NULL, "the worker's activations end early");
        p += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

/* Values (n_mat, n_in), then counts (n_mat), as float, at *offset of the worker's memory file. */
static int read_activation(const json_t *item, int fd, uint64_t *offset, uint64_t end,
                           struct engine_activation *a, struct err *e)
{
    const char *name = json_opt_str(item, "name", "");
    uint64_t n_in = answer_u64(item, "n_in"), n_mat = answer_u64(item, "n_mat"), n, bytes;
    if (!*name || n_in == 0 || n_mat == 0 || !num_mul_u64(n_in, n_mat, &n) ||
        !num_add_u64(n, n_mat, &bytes) || !num_mul_u64(bytes, sizeof(float), &bytes) ||
        bytes > end - *offset)
        return err_set(e, ERR_CHILD, NULL, "the worker's activations have impossible sizes");
    a->name = xstrdup(name);
    a->n_in = n_in;
    a->n_mat = n_mat;
    a->in_sum2 = xmalloc((size_t)n * sizeof(float));
    a->counts = xmalloc((size_t)n_mat * sizeof(float));
    if (read_exact(fd, *offset, a->in_sum2, (size_t)n * sizeof(float), e) ||
        read_exact(fd, *offset + n * sizeof(float), a->counts, (size_t)n_mat * sizeof(float), e))
        return -1;
    *offset += bytes;
    return 0;
}

/* The floats begin at `offset` in the worker's memory file. */
static int read_activations(const json_t *answer, int fd, uint64_t offset,
                            struct engine_activation **a, size_t *n, struct err *e)
{
    const json_t *items = json_object_get(answer, "activations");
    size_t count = json_array_size(items);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < 0 || count > ACTIVATIONS_MAX ||
        (uint64_t)st.st_size < offset || (uint64_t)st.st_size - offset > activation_bytes_max)
        return err_set(e, ERR_CHILD, NULL, "the worker sent no usable activations");
    *a = xcalloc(count + 1, sizeof(**a));
    for (size_t i = 0; i < count; i++) {
        *n = i + 1;
        if (read_activation(json_array_get(items, i), fd, &offset, (uint64_t)st.st_size, &(*a)[i],
                            e))
            return -1;
    }
    return 0;
}

int engine_collect(struct engine *g, const struct engine_windows *w, struct engine_activation **a,
                   size_t *n, const struct progress *p, struct err *e)
{
    struct engine_call call = {.doing = "collecting activations", .progress = p};
    struct engine_share in = {.fd = -1};
    json_t *answer = NULL;
    int fd = -1, rc = -1;
    *a = NULL;
    *n = 0;
    if (!g->model)
        return err_set(e, ERR_BUG, NULL, "no model is loaded");
    if (share_windows(g, w, &in, e))
        goto out;
    if (engine_call(g, &call, windows_request("collect", w), &answer, &fd, e))
        goto out;
    rc = read_activations(answer, fd, 0, a, n, e);
out:
    if (rc) {
        engine_activations_free(*a, *n);
        *a = NULL;
        *n = 0;
    }
    if (fd >= 0)
        close(fd);
    json_decref(answer);
    engine_share_close(&in);
    return rc;
}

void engine_activations_free(struct engine_activation *a, size_t n)
{
    for (size_t i = 0; a && i < n; i++) {
        xfree(a[i].name);
        xfree(a[i].in_sum2);
        xfree(a[i].counts);
    }
    xfree(a);
}

/* ---- Gram matrices --------------------------------------------------------------------------- */

void engine_grams_free(struct engine_grams *grams)
{
    if (grams->memory)
        munmap(grams->memory, grams->bytes);
    engine_activations_free(grams->activations, grams->n_activations);
    xfree(grams->items);
    *grams = (struct engine_grams){0};
}

static int read_gram_items(const json_t *answer, size_t n_names, uint64_t span,
                           struct engine_grams *out, struct err *e)
{
    const json_t *list = json_object_get(answer, "grams");
    if (json_array_size(list) != n_names)
        return err_set(e, ERR_CHILD, NULL, "the worker sent no usable Gram matrices");
    out->items = xcalloc(n_names + 1, sizeof(*out->items));
    out->n = n_names;
    for (size_t i = 0; i < n_names; i++) {
        struct engine_gram *g = &out->items[i];
        uint64_t cells;
        g->n = answer_u64(json_array_get(list, i), "n");
        g->owner = (size_t)answer_u64(json_array_get(list, i), "owner");
        g->span = g->n < span ? g->n : span;
        if (g->owner >= n_names || !num_mul_u64(g->n, g->span, &cells))
            return err_set(e, ERR_CHILD, NULL, "the worker's Gram matrices have impossible sizes");
    }
    return 0;
}

/* Points the items into the worker's memory file, which must be long enough for them. */
static int read_gram_sums(int fd, struct engine_grams *out, uint64_t *floats, struct err *e)
{
    struct stat st;
    uint64_t taken = 0;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0)
        return err_set(e, ERR_CHILD, NULL, "the worker sent no Gram matrices");
    out->bytes = (size_t)st.st_size;
    out->memory = mmap(NULL, out->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (out->memory == MAP_FAILED) {
        out->memory = NULL;
        return err_set_errno(e, errno, NULL, "cannot map the worker's Gram matrices");
    }
    for (size_t i = 0; i < out->n; i++) {
        struct engine_gram *g = &out->items[i];
        if (g->n == 0 || g->owner != i)
            continue;
        if (g->n * g->span > out->bytes / sizeof(float) - taken)
            return err_set(e, ERR_CHILD, NULL, "the worker's Gram matrices end early");
        g->sum = (const float *)out->memory + taken;
        taken += g->n * g->span;
    }
    *floats = taken;
    return 0;
}

static int ask_grams(struct engine *g, const struct engine_windows *w,
                     const struct engine_gram_wish *wish, bool sums, struct engine_grams *out,
                     const struct progress *p, struct err *e)
{
    struct engine_call call = {.doing = "correlating activations", .progress = p};
    struct engine_share in = {.fd = -1};
    json_t *answer = NULL, *list = json_array();
    int fd = -1, rc = -1;
    uint64_t floats = 0;
    *out = (struct engine_grams){0};
    for (size_t i = 0; i < wish->n; i++)
        json_array_append_new(list, json_string(wish->names[i]));
    json_t *request = windows_request("gram", w);
    json_object_set_new(request, "names", list);
    json_object_set_new(request, "span", json_integer((json_int_t)wish->span));
    json_object_set_new(request, "collect", json_boolean(wish->collect));
    json_object_set_new(request, "sums", json_boolean(sums));
    if (!g->model)
        err_set(e, ERR_BUG, NULL, "no model is loaded");
    else if (share_windows(g, w, &in, e) == 0) {
        rc = engine_call(g, &call, request, &answer, &fd, e);
        request = NULL;
    }
    if (rc == 0)
        rc = read_gram_items(answer, wish->n, wish->span, out, e);
    if (rc == 0 && sums)
        rc = read_gram_sums(fd, out, &floats, e);
    if (rc == 0 && sums && wish->collect)
        rc = read_activations(answer, fd, floats * sizeof(float), &out->activations,
                              &out->n_activations, e);
    if (rc)
        engine_grams_free(out);
    if (fd >= 0)
        close(fd);
    json_decref(request);
    json_decref(answer);
    engine_share_close(&in);
    return rc;
}

int engine_gram(struct engine *g, const struct engine_windows *w,
                const struct engine_gram_wish *wish, struct engine_grams *out,
                const struct progress *p, struct err *e)
{
    return ask_grams(g, w, wish, true, out, p, e);
}

int engine_gram_owners(struct engine *g, const struct engine_windows *w,
                       const struct engine_gram_wish *wish, struct engine_grams *out, struct err *e)
{
    return ask_grams(g, w, wish, false, out, NULL, e);
}

/* ---- weights --------------------------------------------------------------------------------- */

static int need_float(const struct engine *g, struct err *e)
{
    if (!g->model || g->mode == ENGINE_FILE)
        return err_set(e, ERR_BUG, NULL, "weights can be replaced only in a float engine");
    return 0;
}

int engine_tensor_set(struct engine *g, const char *name, const float *values, uint64_t n,
                      struct err *e)
{
    struct engine_call call = {.doing = "replacing a tensor"};
    int rc = 0;
    if (need_float(g, e))
        return -1;
    for (uint64_t done = 0; rc == 0 && done < n;) {
        uint64_t part = n - done < VALUES_PER_MESSAGE ? n - done : VALUES_PER_MESSAGE;
        struct engine_share in;
        if (engine_share_open(g, &in, "in", part * sizeof(float), e))
            return -1;
        memcpy(in.data, values + done, (size_t)part * sizeof(float));
        rc = engine_call(g, &call,
                         json_pack("{s:s, s:s, s:I, s:I, s:I}", "op", "tensor_set", "name", name,
                                   "n", (json_int_t)n, "from", (json_int_t)done, "count",
                                   (json_int_t)part),
                         NULL, NULL, e);
        engine_share_close(&in);
        done += part;
    }
    return rc;
}

int engine_tensor_restore(struct engine *g, const char *name, struct err *e)
{
    struct engine_call call = {.doing = "restoring a tensor"};
    if (need_float(g, e))
        return -1;
    return engine_call(g, &call, json_pack("{s:s, s:s}", "op", "tensor_restore", "name", name),
                       NULL, NULL, e);
}

/* ---- speed and devices ----------------------------------------------------------------------- */

int engine_bench(struct engine *g, int n_prompt, int n_gen, int repeats, double seconds_max,
                 struct engine_speed *s, struct err *e)
{
    struct engine_call call = {.doing = "measuring speed"};
    json_t *answer = NULL;
    if (!g->model || g->mode != ENGINE_FILE)
        return err_set(e, ERR_BUG, NULL, "speed is measured on a file loaded as users load it");
    if (n_prompt < 1 || n_gen < 1 || repeats < 1)
        return err_set(e, ERR_USAGE, NULL, "speed needs at least one token and one repeat");
    json_t *request =
        json_pack("{s:s, s:i, s:i, s:i, s:o}", "op", "bench", "n_prompt", n_prompt, "n_gen", n_gen,
                  "repeats", repeats, "seconds_max", json_real_new(seconds_max));
    if (engine_call(g, &call, request, &answer, NULL, e))
        return -1;
    *s = (struct engine_speed){
        .prefill_tps = json_opt_real(answer, "prefill_tps", 0),
        .prefill_tps_low = json_opt_real(answer, "prefill_tps_low", 0),
        .prefill_tps_high = json_opt_real(answer, "prefill_tps_high", 0),
        .decode_tps = json_opt_real(answer, "decode_tps", 0),
        .decode_tps_low = json_opt_real(answer, "decode_tps_low", 0),
        .decode_tps_high = json_opt_real(answer, "decode_tps_high", 0),
        .first_token_ms = json_opt_real(answer, "first_token_ms", 0),
        .repeats = (int)json_opt_i64(answer, "repeats", 0),
        .n_prompt = n_prompt,
        .n_gen = n_gen,
        .threads = (int)json_opt_i64(answer, "threads", 0),
        .gpu_layers = (int)json_opt_i64(answer, "gpu_layers", 0),
    };
    json_decref(answer);
    return 0;
}

int engine_devices(json_t **devices, struct err *e)
{
    struct engine_call call = {.doing = "listing devices"};
    struct engine *g = NULL;
    json_t *answer = NULL;
    *devices = NULL;
    if (engine_start(&g, NULL, e))
        return -1;
    int rc = engine_call(g, &call, json_pack("{s:s}", "op", "devices"), &answer, NULL, e);
    if (rc == 0) {
        json_t *list = json_object_get(answer, "devices");
        *devices = json_is_array(list) ? json_incref(list) : json_array();
    }
    json_decref(answer);
    engine_stop(g);
    return rc;
}
