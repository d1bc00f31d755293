/* Speed of the matrix kernels, type by type, without a model.
 *
 * Decoding a token multiplies one row of activations with every matrix of the model in turn; what a
 * type costs there is its bytes from memory or its arithmetic, whichever is slower, and libllama
 * keeps some types in another layout for that (repacking). So for each type as many matrices as
 * fill the wanted bytes are laid into the buffer that libllama would choose and multiplied in turn;
 * the same with a batch of rows says what reading a prompt costs. Weights are random blocks whose
 * decoded values are ordinary numbers: kernels take the same time for all of those.
 *
 * libllama's threads share every matrix and wait for each other, spinning, after each; on a machine
 * with other work that wait drowns what is to be measured. So here every thread has matrices of its
 * own and waits for nobody: memory and caches are shared as in a model, rates add up, and the
 * fastest part of each thread counts.
 */
#include <math.h>
#include <string.h>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/rng.h"
#include "base/thread.h"
#include "engine/worker_int.h"
#include "base/banned.h"

enum {
    TYPES_MAX = HW_TYPES_MAX,
    THREADS_MAX = 256,
    SIDE_MAX = 1 << 18,   /* rows or columns of a matrix */
    MATRICES_MAX = 16384, /* of a thread */
    BATCH = 64,           /* rows of activations when a prompt is read */
    BATCH_MATRICES = 4,
    BLOCKS_RANDOM = 64, /* different blocks that a matrix is tiled from */
    BLOCK_BYTES_MAX = 512,
    SLICES_MAX = 64,
    RUNS_MIN = 5,
    RUNS_MAX = 4096
};
/* A slice takes far longer than its start, and less than a processor is lent at a time. */
static const uint64_t slice_bytes = 256 << 10;
static const double batch_work = 5e7; /* operations of one multiplication of a batch */
static const uint64_t set_bytes_max = 4ull << 30;
static const double decode_seconds = 0.15, batch_seconds = 0.08; /* per type */
static const float value_least = 1e-6F, value_most = 1e6F;

struct kernels {
    ggml_backend_dev_t dev;
    uint64_t cols, rows, set_bytes;
    int threads;
};

static void *symbol(const struct kernels *k, const char *name)
{
    return ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(k->dev), name);
}

/* ISO C has no cast from object to function. */
#define FUNCTION(variable, k, name)                                                                \
    do {                                                                                           \
        void *found_ = symbol(k, name);                                                            \
        memcpy(&(variable), &found_, sizeof(found_));                                              \
    } while (0)

/* A backend of one thread. */
static ggml_backend_t backend_new(const struct kernels *k)
{
    void (*set_threads)(ggml_backend_t, int) = NULL;
    ggml_backend_t backend = ggml_backend_dev_init(k->dev, NULL);
    FUNCTION(set_threads, k, "ggml_backend_set_n_threads");
    if (backend && set_threads)
        set_threads(backend, 1);
    return backend;
}

/* ---- weights --------------------------------------------------------------------------------- */

static bool ordinary(const float *values, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            return false;
        most = fmaxf(most, fabsf(values[i]));
    }
    return most >= value_least && most <= value_most;
}

/* One matrix of a few different blocks, each drawn until it decodes to ordinary numbers. */
static uint8_t *matrix_new(enum ggml_type type, size_t bytes, struct err *e)
{
    const struct ggml_type_traits *traits = ggml_get_type_traits(type);
    size_t block = traits->type_size;
    float values[BLOCK_BYTES_MAX];
    uint8_t blocks[BLOCKS_RANDOM][BLOCK_BYTES_MAX] = {{0}};
    struct rng rng;
    rng_seed(&rng, (uint64_t)type + 1);
    for (int b = 0; b < BLOCKS_RANDOM; b++)
        for (int tries = 0; tries < 100000; tries++) {
            for (size_t i = 0; i < block; i++)
                blocks[b][i] = (uint8_t)rng_below(&rng, 256);
            traits->to_float(blocks[b], values, traits->blck_size);
            if (ordinary(values, traits->blck_size))
                break;
        }
    uint8_t *matrix = big_alloc(bytes, "a matrix", e);
    for (size_t i = 0; matrix && i < bytes; i += block)
        memcpy(matrix + i, blocks[rng_below(&rng, BLOCKS_RANDOM)],
               bytes - i < block ? bytes - i : block);
    return matrix;
}

/* The layout that libllama would choose: the first of the extra ones that can multiply such a
 * matrix, else the plain one. */
static ggml_backend_buffer_type_t layout(const struct kernels *k, struct ggml_tensor *weight,
                                         const struct ggml_tensor *product)
{
    ggml_backend_buffer_type_t *(*extra)(ggml_backend_dev_t) = NULL;
    ggml_backend_buffer_type_t plain = ggml_backend_dev_buffer_type(k->dev), found = NULL;
    FUNCTION(extra, k, "ggml_backend_dev_get_extra_bufts");
    for (ggml_backend_buffer_type_t *b = extra ? extra(k->dev) : NULL; b && *b && !found; b++) {
        weight->buffer = ggml_backend_buft_alloc_buffer(*b, 0);
        if (weight->buffer && ggml_backend_dev_supports_op(k->dev, product))
            found = *b;
        ggml_backend_buffer_free(weight->buffer);
        weight->buffer = NULL;
    }
    return found ? found : plain;
}

/* ---- one set of matrices --------------------------------------------------------------------- */

struct set {
    enum ggml_type type;
    uint64_t rows; /* of a matrix */
    size_t n;      /* matrices */
    int64_t batch; /* rows of activations */
    ggml_backend_t backend;
    struct ggml_context *weights, *values;
    ggml_backend_buffer_t weight_buffer, value_buffer;
    struct ggml_cgraph *slices[SLICES_MAX]; /* of equal numbers of matrices, in turn */
    int n_slices;
    size_t per_slice;
};

static void set_release(struct set *s)
{
    ggml_backend_buffer_free(s->weight_buffer);
    ggml_backend_buffer_free(s->value_buffer);
    ggml_free(s->weights);
    ggml_free(s->values);
    if (s->backend)
        ggml_backend_free(s->backend);
}

static struct ggml_context *context_new(size_t tensors)
{
    struct ggml_init_params p = {.mem_size = tensors * ggml_tensor_overhead() +
                                             SLICES_MAX * ggml_graph_overhead_custom(8, false) +
                                             4 * ggml_graph_overhead_custom(tensors, false),
                                 .no_alloc = true};
    return ggml_init(p);
}

static uint64_t matrix_bytes(const struct kernels *k, const struct set *s)
{
    return ggml_row_size(s->type, (int64_t)k->cols) * s->rows;
}

static int fill(const struct kernels *k, struct set *s, struct err *e)
{
    size_t bytes = (size_t)matrix_bytes(k, s);
    uint8_t *matrix = matrix_new(s->type, bytes, e);
    if (!matrix)
        return -1;
    for (struct ggml_tensor *t = ggml_get_first_tensor(s->weights); t;
         t = ggml_get_next_tensor(s->weights, t))
        ggml_backend_tensor_set(t, matrix, 0, bytes);
    big_free(matrix, bytes);
    return 0;
}

/* Graphs that multiply each matrix with x, in slices. */
static void slice(const struct kernels *k, struct set *s, struct ggml_tensor *x)
{
    size_t least = (size_t)(slice_bytes / matrix_bytes(k, s) + 1), per = s->n / SLICES_MAX + 1;
    per = per < least && s->batch == 1 ? least : per;
    s->per_slice = per > s->n ? s->n : per;
    s->n_slices = (int)(s->n / s->per_slice);
    for (int i = 0; i < s->n_slices; i++) {
        s->slices[i] = ggml_new_graph_custom(s->values, 2 * s->per_slice + 2, false);
        for (size_t m = 0; m < s->per_slice; m++) {
            struct ggml_tensor *w =
                ggml_new_tensor_2d(s->weights, s->type, (int64_t)k->cols, (int64_t)s->rows);
            ggml_build_forward_expand(s->slices[i], ggml_mul_mat(s->values, w, x));
        }
    }
}

/* Makes the matrices and graphs that s->type, rows, n and batch ask for. */
static int set_make(const struct kernels *k, struct set *s, struct err *e)
{
    s->backend = backend_new(k);
    s->weights = context_new(s->n + 1);
    s->values = context_new(2 * s->n + 2);
    if (!s->backend || !s->weights || !s->values)
        return err_set(e, ERR_MEMORY, NULL, "no memory for a graph of %zu matrices", s->n);
    struct ggml_tensor *x =
        ggml_new_tensor_2d(s->values, GGML_TYPE_F32, (int64_t)k->cols, s->batch);
    slice(k, s, x);
    ggml_backend_buffer_type_t where =
        layout(k, ggml_get_first_tensor(s->weights), ggml_graph_node(s->slices[0], 0));
    s->weight_buffer = ggml_backend_alloc_ctx_tensors_from_buft(s->weights, where);
    s->value_buffer = ggml_backend_alloc_ctx_tensors(s->values, s->backend);
    if (!s->weight_buffer || !s->value_buffer)
        return err_set(e, ERR_MEMORY, "close other programs",
                       "no memory for %zu matrices of type %s", s->n, ggml_type_name(s->type));
    ggml_backend_buffer_set_usage(s->weight_buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    size_t count = (size_t)k->cols * (size_t)s->batch;
    float *values = xmalloc(count * sizeof(*values));
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(i % 7) - 3;
    ggml_backend_tensor_set(x, values, 0, count * sizeof(*values));
    xfree(values);
    return fill(k, s, e);
}

/* Seconds of the fastest slice per matrix, until the time is spent; 0 when ggml fails. */
static double fastest(struct set *s, double seconds)
{
    double best = 0, spent = 0;
    for (int i = 0; i < RUNS_MAX && (i < RUNS_MIN || spent < seconds); i++) {
        double t0 = clock_seconds();
        if (ggml_backend_graph_compute(s->backend, s->slices[i % s->n_slices]) !=
            GGML_STATUS_SUCCESS)
            return 0;
        double took = clock_seconds() - t0;
        spent += took;
        if (i > 0) /* the first makes the working memory */
            best = best > 0 && best < took ? best : took;
    }
    return best / (double)s->per_slice;
}

/* ---- what is measured ------------------------------------------------------------------------ */

struct type_job {
    const struct kernels *k;
    enum ggml_type type;
    double decode_gbs[THREADS_MAX], prefill_gflops[THREADS_MAX];
    struct err errs[THREADS_MAX];
};

static int measure_set(const struct kernels *k, struct set *s, double seconds, double *best,
                       struct err *e)
{
    int rc = set_make(k, s, e);
    if (rc == 0) {
        *best = fastest(s, seconds);
        if (!(*best > 0))
            rc = err_set(e, ERR_UNSUPPORTED, NULL, "ggml cannot multiply matrices of type %s",
                         ggml_type_name(s->type));
    }
    set_release(s);
    return rc;
}

/* One thread's matrices. */
static int measure_thread(void *ud, size_t item, int worker)
{
    struct type_job *j = ud;
    const struct kernels *k = j->k;
    struct err *e = &j->errs[item];
    struct set one = {.type = j->type, .rows = k->rows, .batch = 1};
    struct set batch = {.type = j->type, .batch = BATCH, .n = BATCH_MATRICES};
    double seconds;
    (void)worker;
    uint64_t bytes = matrix_bytes(k, &one);
    one.n = (size_t)(k->set_bytes / (uint64_t)k->threads / bytes);
    one.n = one.n < 1 ? 1 : one.n > MATRICES_MAX ? MATRICES_MAX : one.n;
    if (measure_set(k, &one, decode_seconds, &seconds, e))
        return 1;
    j->decode_gbs[item] = (double)bytes / seconds / 1e9;
    batch.rows = (uint64_t)(batch_work / (2.0 * BATCH * (double)k->cols)) / BATCH * BATCH;
    batch.rows = batch.rows < BATCH ? BATCH : batch.rows;
    if (measure_set(k, &batch, batch_seconds, &seconds, e))
        return 1;
    j->prefill_gflops[item] = 2.0 * BATCH * (double)k->cols * (double)batch.rows / seconds / 1e9;
    return 0;
}

static int measure_type(const struct kernels *k, enum ggml_type type, json_t *types, struct err *e)
{
    struct type_job j = {.k = k, .type = type};
    double decode = 0, prefill = 0;
    if (thread_parallel_for(k->threads, (size_t)k->threads, measure_thread, &j)) {
        for (int i = 0; i < k->threads; i++)
            if (j.errs[i].code != ERR_NONE) {
                *e = j.errs[i];
                break;
            }
        return -1;
    }
    for (int i = 0; i < k->threads; i++) {
        decode += j.decode_gbs[i];
        prefill += j.prefill_gflops[i];
    }
    json_t *row = json_object();
    json_object_set_new(row, "decode_gbs", json_real_new(decode));
    json_object_set_new(row, "prefill_gflops", json_real_new(prefill));
    json_object_set_new(types, dtype_info((enum dtype)type)->name, row);
    return 0;
}

/* A type of the request that ggml has and whose blocks divide the rows. */
static bool usable(const struct kernels *k, const json_t *item, enum ggml_type *type)
{
    json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
    if (id < 0 || id >= GGML_TYPE_COUNT || !dtype_info((enum dtype)id))
        return false;
    *type = (enum ggml_type)id;
    const struct ggml_type_traits *t = ggml_get_type_traits(*type);
    return t->to_float && t->type_size > 0 && t->type_size <= BLOCK_BYTES_MAX &&
           t->blck_size <= BLOCK_BYTES_MAX && (int64_t)k->cols % t->blck_size == 0;
}

static int measure_all(struct worker *w, const struct kernels *k, const json_t *request,
                       json_t *answer, struct err *e)
{
    const json_t *list = json_object_get(request, "types");
    size_t n = json_array_size(list);
    json_t *types = json_object();
    json_object_set_new(answer, "types", types);
    for (size_t i = 0; i < n && i < TYPES_MAX; i++) {
        enum ggml_type type;
        if (!usable(k, json_array_get(list, i), &type))
            continue;
        worker_progress(w, (double)i, (double)n, ggml_type_name(type));
        if (measure_type(k, type, types, e))
            return -1;
    }
    json_object_set_new(answer, "cols", json_integer((json_int_t)k->cols));
    json_object_set_new(answer, "rows", json_integer((json_int_t)k->rows));
    json_object_set_new(answer, "set_bytes", json_integer((json_int_t)k->set_bytes));
    json_object_set_new(answer, "threads", json_integer(k->threads));
    return 0;
}

int worker_kernels(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    struct kernels k = {.threads = (int)json_opt_i64(request, "threads", 0)};
    if (worker_backends(w, e) || worker_number(request, "cols", SIDE_MAX, &k.cols, e) ||
        worker_number(request, "rows", SIDE_MAX, &k.rows, e) ||
        worker_number(request, "set_bytes", set_bytes_max, &k.set_bytes, e))
        return -1;
    if (k.cols == 0 || k.rows == 0)
        return err_set(e, ERR_BUG, NULL, "request: a matrix without rows or columns");
    if (k.threads <= 0)
        k.threads = thread_count_default();
    k.threads = k.threads > THREADS_MAX ? THREADS_MAX : k.threads;
    k.dev = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (!k.dev)
        return err_set(e, ERR_MISSING, NULL, "ggml has no CPU backend");
    return measure_all(w, &k, request, answer, e);
}
