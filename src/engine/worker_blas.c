/* Products of float matrices by OpenBLAS, as a device of ggml's.
 *
 * Where the original is run in float (references, importance, probes), nearly all time goes into
 * products of weights with hundreds of tokens. OpenBLAS makes them about twice as fast as ggml's
 * own F32 kernel, and rounds no more. ggml sees an accelerator that uses the CPU's memory and takes
 * only these products; it takes none while a model is run as users run it. OpenBLAS is loaded when
 * it is first wanted; a machine without it computes the same more slowly.
 *
 * One thread of OpenBLAS for each call: lanes call side by side, and what threads a lane has share
 * the rows of a matrix. Weights that are not F32 are converted block by block, to F32 too.
 *
 * Follows ggml's interface for backends (ggml-backend-impl.h of the pinned release). The device and
 * its registration live as long as the process, a backend as long as its context.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "engine/worker_int.h"

#include "ggml-backend-impl.h"

#include "base/banned.h"

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 }; /* CBLAS's */
enum { SMALLEST = 32, BLOCK_BYTES = 1 << 20 };

typedef void sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                      const float *a, int lda, const float *b, int ldb, float beta, float *c,
                      int ldc);

struct lane {
    int threads;
};

static sgemm_fn *sgemm;
static bool in_use;

/* ---- the product ----------------------------------------------------------------------------- */

/* out[t][row] = Σ_k weights[row][k] · tokens[t][k], in blocks of rows. */
struct product {
    const struct ggml_tensor *weights, *tokens;
    struct ggml_tensor *out;
    int64_t block; /* rows */
};

static int stride(const struct ggml_tensor *t)
{
    return (int)(t->nb[1] / sizeof(float));
}

static int multiply_block(void *ud, size_t item, int thread)
{
    const struct product *p = ud;
    const struct ggml_tensor *w = p->weights, *x = p->tokens;
    int64_t from = (int64_t)item * p->block, cols = w->ne[0];
    int64_t rows = w->ne[1] - from < p->block ? w->ne[1] - from : p->block;
    const char *first = (const char *)w->data + (size_t)from * w->nb[1];
    const float *values = (const float *)(const void *)first;
    int apart = stride(w);
    float *converted = NULL;
    (void)thread;
    if (w->type != GGML_TYPE_F32) {
        const struct ggml_type_traits *traits = ggml_get_type_traits(w->type);
        values = converted = xreallocarray(NULL, (size_t)(rows * cols), sizeof(float));
        for (int64_t i = 0; i < rows; i++)
            traits->to_float(first + (size_t)i * w->nb[1], converted + i * cols, cols);
        apart = (int)cols;
    }
    sgemm(ROW_MAJOR, PLAIN, TRANSPOSED, (int)x->ne[1], (int)rows, (int)cols, 1, x->data, stride(x),
          values, apart, 0, (float *)p->out->data + from, stride(p->out));
    xfree(converted);
    return 0;
}

static void multiply(const struct lane *lane, struct ggml_tensor *out)
{
    struct product p = {.weights = out->src[0], .tokens = out->src[1], .out = out};
    int64_t rows = p.weights->ne[1], share = (rows + lane->threads - 1) / lane->threads;
    int64_t fit = BLOCK_BYTES / (int64_t)sizeof(float) / p.weights->ne[0];
    p.block = share;
    if (p.weights->type != GGML_TYPE_F32 && p.block > fit)
        p.block = fit > SMALLEST ? fit : SMALLEST;
    thread_parallel_for(lane->threads, (size_t)((rows + p.block - 1) / p.block), multiply_block,
                        &p);
}

static bool is_float(enum ggml_type type)
{
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
}

static bool takes(ggml_backend_dev_t device, const struct ggml_tensor *op)
{
    const struct ggml_tensor *w = op->src[0], *x = op->src[1];
    (void)device;
    if (!in_use || op->op != GGML_OP_MUL_MAT || !is_float(w->type) || x->type != GGML_TYPE_F32)
        return false;
    for (int i = 0; i < 2; i++) /* sgemm counts in int */
        if (w->ne[i] < SMALLEST || w->ne[i] > INT32_MAX || x->ne[i] < SMALLEST ||
            x->ne[i] > INT32_MAX)
            return false;
    return w->nb[1] / sizeof(float) <= INT32_MAX && x->nb[1] / sizeof(float) <= INT32_MAX &&
           w->ne[2] * w->ne[3] == 1 && x->ne[2] * x->ne[3] == 1 &&
           w->nb[0] == ggml_type_size(w->type) && x->nb[0] == sizeof(float) &&
           x->nb[1] % sizeof(float) == 0 && w->nb[1] >= w->nb[0] * (size_t)w->ne[0] &&
           x->nb[1] >= x->nb[0] * (size_t)x->ne[0];
}

/* ---- a backend: what one context has of the device ------------------------------------------- */

static const char *backend_name(ggml_backend_t b)
{
    (void)b;
    return "OpenBLAS";
}

static void backend_free(ggml_backend_t b)
{
    xfree(b->context);
    xfree(b);
}

static enum ggml_status backend_compute(ggml_backend_t b, struct ggml_cgraph *graph)
{
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        struct ggml_tensor *node = ggml_graph_node(graph, i);
        if (node->op == GGML_OP_MUL_MAT)
            multiply(b->context, node);
    }
    return GGML_STATUS_SUCCESS;
}

static void backend_threads(ggml_backend_t b, int n)
{
    struct lane *lane = b->context;
    lane->threads = n > 1 ? n : 1;
}

static ggml_guid guid = {0x53, 0x69, 0x6e, 0x74, 0x72, 0x61, 0x2d, 0x42,
                         0x4c, 0x41, 0x53, 0x2d, 0x30, 0x30, 0x30, 0x31};

static ggml_backend_t backend_new(ggml_backend_dev_t device, const char *params)
{
    struct ggml_backend *b = xcalloc(1, sizeof(*b));
    struct lane *lane = xcalloc(1, sizeof(*lane));
    (void)params;
    lane->threads = 1;
    *b = (struct ggml_backend){
        .guid = &guid,
        .iface = {.get_name = backend_name, .free = backend_free, .graph_compute = backend_compute},
        .device = device,
        .context = lane};
    return b;
}

/* ---- the device and its registration --------------------------------------------------------- */

static const char *device_name(ggml_backend_dev_t device)
{
    (void)device;
    return "OpenBLAS";
}

static void device_memory(ggml_backend_dev_t device, size_t *free_bytes, size_t *total_bytes)
{
    (void)device;
    *free_bytes = *total_bytes = 0; /* it has none of its own */
}

static enum ggml_backend_dev_type device_type(ggml_backend_dev_t device)
{
    (void)device;
    return GGML_BACKEND_DEVICE_TYPE_ACCEL;
}

static void device_properties(ggml_backend_dev_t device, struct ggml_backend_dev_props *props)
{
    *props = (struct ggml_backend_dev_props){.name = device_name(device),
                                             .description = device_name(device),
                                             .type = device_type(device)};
}

static ggml_backend_buffer_type_t device_buffers(ggml_backend_dev_t device)
{
    (void)device;
    return ggml_backend_cpu_buffer_type();
}

static bool device_reads(ggml_backend_dev_t device, ggml_backend_buffer_type_t buffers)
{
    (void)device;
    return ggml_backend_buft_is_host(buffers);
}

static size_t count_devices(ggml_backend_reg_t reg)
{
    (void)reg;
    return 1;
}

static ggml_backend_dev_t device_at(ggml_backend_reg_t reg, size_t i)
{
    return i == 0 ? reg->context : NULL;
}

static const char *registration_name(ggml_backend_reg_t reg)
{
    (void)reg;
    return "OpenBLAS";
}

/* How libllama tells a backend its threads. */
static void *address(ggml_backend_reg_t reg, const char *name)
{
    ggml_backend_set_n_threads_t fn = backend_threads;
    void *found = NULL;
    (void)reg;
    if (strcmp(name, "ggml_backend_set_n_threads") == 0)
        memcpy(&found, &fn, sizeof(found));
    return found;
}

static void enlist(void)
{
    static struct ggml_backend_device device;
    static struct ggml_backend_reg reg = {.api_version = GGML_BACKEND_API_VERSION,
                                          .iface = {.get_name = registration_name,
                                                    .get_device_count = count_devices,
                                                    .get_device = device_at,
                                                    .get_proc_address = address},
                                          .context = &device};
    device = (struct ggml_backend_device){.iface = {.get_name = device_name,
                                                    .get_description = device_name,
                                                    .get_memory = device_memory,
                                                    .get_type = device_type,
                                                    .get_props = device_properties,
                                                    .init_backend = backend_new,
                                                    .get_buffer_type = device_buffers,
                                                    .supports_op = takes,
                                                    .supports_buft = device_reads},
                                          .reg = &reg};
    ggml_backend_register(&reg);
}

/* Processors newer than the library are taken for its oldest; what they can do decides. */
static void choose_kernels(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        setenv("OPENBLAS_CORETYPE", "Haswell", 0);
#endif
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    setenv("OMP_NUM_THREADS", "1", 1); /* where it was built for OpenMP */
}

void blas_use(bool wanted)
{
    static bool tried;
    if (wanted && !tried) {
        tried = true;
        choose_kernels();
        void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
        void *symbol = library ? dlsym(library, "cblas_sgemm") : NULL;
        memcpy(&sgemm, &symbol, sizeof(symbol));
        if (sgemm)
            enlist();
    }
    in_use = wanted && sgemm;
}
