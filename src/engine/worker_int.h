/* The worker's side: one process, one model, one request at a time.
 *
 * Requests (JSON lines, one at a time, see client_int.h for the form):
 *   hello {verbose}                             → {version}
 *   attach {slot, bytes} + descriptor           maps shared memory into a slot
 *   devices                                     → {devices:[...]}
 *   load {path, mode, n_ctx, n_seq, cache_k, cache_v, ...} → engine_info
 *   cache {cache_k, cache_v}
 *   memory {n_ctx}                              → {kv_bytes, compute_bytes}
 *   tokenize {add_special}                      in: text, out: ids → {n}
 *   generate {n_tokens}                         in: prompt → {text}
 *   sample {first_seq, n_seq, n_tokens, seed}   out: ids
 *   reference {n_windows, n_ctx, first}         in: ids, reference: filled
 *   score {..., reference_positions, reference_at}
 *                                               in: ids, reference: read, out: engine_position[]
 *   collect {n_windows, n_ctx, first}           in: ids → {activations} + descriptor
 *   gram {names, span, sums, collect, n_windows, n_ctx, first} in: ids → {grams, activations?} +
 *                                               descriptor: the sums, then what was collected
 *   tensor_set {name, n, from, count}           in: values
 *   tensor_restore {name}
 *   bench {n_prompt, n_gen, repeats, seconds_max}   → engine_speed
 *   kernels {types, cols, rows, set_bytes, threads} → {types}
 * Slots "in" and "out" last for one request, "reference" until it is attached again.
 *
 * To add a request: a function here, a line in worker.c's table, its caller in calls.c. */
#ifndef ENGINE_WORKER_INT_H
#define ENGINE_WORKER_INT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "llama.h"

#include "engine/engine.h"
#include "engine/wire_int.h"

enum slot { SLOT_IN, SLOT_OUT, SLOT_REFERENCE, SLOTS };

struct share {
    void *data;
    size_t bytes;
    int fd;
};

/* What a context must be able to do; a request that needs another one gets it made anew. */
struct context_shape {
    uint32_t n_ctx;     /* tokens per sequence */
    uint32_t n_seq;     /* sequences at once, each with a KV cache of its own */
    uint32_t n_batch;   /* tokens per decode call */
    uint32_t n_ubatch;  /* tokens per compute graph */
    uint32_t n_outputs; /* rows of logits per decode call */
    int threads;
    bool collect;             /* with the callback that sees matrix multiplications */
    struct cache_types cache; /* set where lanes are opened, from the worker's */
};

/* libllama's own accounting, read from its log, MiB with two decimals. */
struct ledger {
    double kv_mib, compute_mib;
    bool embedding_repacked;
};

/* Independent work (groups of windows, of sampled sequences) runs in lanes: contexts of their own
 * over the same weights, each on its share of the threads. A context with several threads makes
 * them wait for each other, spinning, after every operation; lanes never wait, which is worth
 * little on an idle machine and a factor of ten on a busy one. */
enum { LANES_MAX = 64 };

struct float_weights; /* worker_float.c */
struct collector;     /* worker_collect.c */
struct gram_set;      /* worker_gram.c */

struct worker {
    struct wire wire;
    struct share slots[SLOTS];
    bool backends_loaded, verbose;
    struct llama_model *model;
    const struct llama_vocab *vocab;
    uint32_t n_vocab;
    struct llama_context *lanes[LANES_MAX]; /* [0] serves what needs only one */
    int n_lanes;
    struct context_shape shape;        /* of all lanes */
    struct context_shape shape_loaded; /* as asked for by load: bench measures with it */
    struct cache_types cache;          /* of every context that is made */
    int threads, gpu_layers;
    uint64_t memory_bytes_max;
    pthread_mutex_t lock;          /* lanes share progress, errors and collector */
    pthread_mutex_t log_lock;      /* and the log, which the library may write to at any time */
    struct float_weights *weights; /* NULL in file mode */
    struct collector *collector;
    struct gram_set *grams; /* while Gram matrices are asked for */
    struct ledger ledger;
    char complaint[512]; /* first error that libllama logged since complaint_clear */
    double progress_at;
};

/* ---- worker.c -------------------------------------------------------------------------------- */
void worker_progress(struct worker *w, double done, double total, const char *detail);
void worker_complaint_clear(struct worker *w);
/* Sets e from what libllama complained about: ERR_MEMORY when it speaks of memory, else `code`. */
int worker_complain(const struct worker *w, enum err_code code, const char *hint, struct err *e,
                    const char *format, ...) __attribute__((format(printf, 5, 6)));
int worker_need_model(const struct worker *w, struct err *e);
/* The memory of a slot, at least `bytes` of it, or ERR_BUG. */
void *worker_slot(const struct worker *w, enum slot slot, uint64_t bytes, struct err *e);
/* A non-negative integer of the request up to max, or ERR_BUG. */
int worker_number(const json_t *request, const char *key, uint64_t max, uint64_t *value,
                  struct err *e);

/* ---- worker_sandbox.c ---- */
/* No network, no other programs from here on. Call before threads start. */
void worker_sandbox(void);

/* ---- worker_load.c --------------------------------------------------------------------------- */
/* Finds ggml's backends beside libllama; once. */
int worker_backends(struct worker *w, struct err *e);
int worker_devices(struct worker *w, const json_t *request, json_t *answer, struct err *e);
int worker_load(struct worker *w, const json_t *request, json_t *answer, struct err *e);
int worker_cache(struct worker *w, const json_t *request, json_t *answer, struct err *e);
int worker_memory(struct worker *w, const json_t *request, json_t *answer, struct err *e);
void worker_unload(struct worker *w);
/* Makes lane 0 a context of this shape, empty. */
int worker_context(struct worker *w, const struct context_shape *shape, struct err *e);
/* Calls fn for each item in [0, items), items side by side in lanes of this shape (whose `threads`
 * is chosen here), each lane's cache empty. e is the failure of the lowest item that failed. */
int worker_lanes(struct worker *w, struct context_shape *shape, size_t items,
                 int (*fn)(void *ud, struct llama_context *lane, size_t item, struct err *e),
                 void *ud, struct err *e);
/* Threads that a graph of so many tokens is worth; bench, which measures what users get, does not
 * ask. */
int worker_threads(const struct worker *w, uint64_t tokens);
int worker_decode(struct worker *w, struct llama_context *ctx, struct llama_batch *batch,
                  struct err *e);
/* Tokens per decode call so that neither the graph nor the logits grow beyond reason. */
uint32_t worker_batch_tokens(const struct worker *w);
void worker_batch_add(struct llama_batch *batch, int32_t token, uint32_t pos, int32_t seq,
                      bool output);

/* ---- worker_float.c -------------------------------------------------------------------------- */
int float_load(struct worker *w, const char *path, struct llama_model_params params,
               uint64_t memory_bytes_max, struct err *e);
void float_free(struct float_weights *f);
uint64_t float_bytes(const struct float_weights *f);
int worker_tensor_set(struct worker *w, const json_t *request, json_t *answer, struct err *e);
int worker_tensor_restore(struct worker *w, const json_t *request, json_t *answer, struct err *e);

/* ---- worker_blas.c --------------------------------------------------------------------------- */
/* From now on, for contexts that are made from now on: products of floats by OpenBLAS, where the
 * machine has it, or everything by ggml. After worker_backends. */
void blas_use(bool wanted);

/* ---- worker_text.c --------------------------------------------------------------------------- */
int worker_tokenize(struct worker *w, const json_t *request, json_t *answer, struct err *e);
int worker_generate(struct worker *w, const json_t *request, json_t *answer, struct err *e);
int worker_sample(struct worker *w, const json_t *request, json_t *answer, struct err *e);

/* ---- worker_score.c -------------------------------------------------------------------------- */
/* The context for windows of n_ctx tokens scored from `first`; n_seq 0 = chosen. */
struct context_shape worker_windows_shape(const struct worker *w, uint32_t n_ctx, uint32_t first,
                                          uint32_t n_seq);
/* Windows of a request, checked: every id is in the vocabulary. */
int worker_windows(struct worker *w, const json_t *request, struct engine_windows *windows,
                   struct err *e);
/* Runs all windows through the model with every token's output and the collecting callback. */
int worker_run_collecting(struct worker *w, const struct engine_windows *windows, struct err *e);
int worker_reference(struct worker *w, const json_t *request, json_t *answer, struct err *e);
int worker_score(struct worker *w, const json_t *request, json_t *answer, struct err *e);

/* ---- worker_collect.c ------------------------------------------------------------------------ */
bool collect_callback(struct ggml_tensor *t, bool ask, void *ud);
int worker_collect(struct worker *w, const json_t *request, json_t *answer, int *fd, struct err *e);
struct collector *collector_new(void);
/* After the pass: what went wrong in it, and how many floats are to be written. */
int collector_end(struct collector *c, uint64_t *floats, struct err *e);
void collector_write(const struct collector *c, json_t *answer, float *at);
void collector_free(struct collector *c); /* NULL-safe */

/* ---- worker_gram.c --------------------------------------------------------------------------- */
bool gram_wants(const struct gram_set *s, const char *weight);
void gram_meet(struct worker *w, const char *weight, const struct ggml_tensor *x);
int worker_gram(struct worker *w, const json_t *request, json_t *answer, int *fd, struct err *e);

/* ---- worker_bench.c -------------------------------------------------------------------------- */
int worker_bench(struct worker *w, const json_t *request, json_t *answer, struct err *e);

/* ---- worker_kernels.c ------------------------------------------------------------------------ */
int worker_kernels(struct worker *w, const json_t *request, json_t *answer, struct err *e);

#endif
