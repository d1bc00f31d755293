/* The only door to libllama: a worker process of this same program, and the parent's client to it.
 *
 * ggml asserts abort, drivers leak, memory comes back when a process ends: so libllama runs in a
 * child (`sintra worker`, hidden). A dead, hung or over-limit child is an error of one call
 * (ERR_CHILD, ERR_TIMEOUT, ERR_MEMORY), never the end of the program. Messages are JSON lines over
 * a socket; tensors, tokens and per-position results travel through memfds. The worker sees only
 * files the parent has validated (format/gguf.h). One engine = one worker = at most one loaded
 * model; calls are synchronous; not thread-safe. The thread that starts an engine must outlive it:
 * the kernel kills the worker when that thread ends.
 *
 * A call that ends with ERR_CHILD, ERR_TIMEOUT, ERR_MEMORY (over the limit) or ERR_INTERRUPTED has
 * ended the worker: later calls fail with ERR_CHILD at once. Other errors leave the engine usable.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "hw/hw.h"
#include "tensor/cache.h"
#include "tensor/dtype.h"

/* Entry point of the hidden `worker` command; returns the exit code. Called by main before anything
 * else. */
int engine_worker_main(void);

/* Version text of the linked libllama ("0.5.0"), and ERR_UNSUPPORTED when it is not a tested one.
 * Runs in a short-lived worker. */
int engine_version(char version[static 32], struct err *e);

struct engine; /* opaque: process, socket, limits */

struct engine_options {
    uint64_t memory_bytes_max;  /* of the worker, anonymous; watchdog + RLIMIT_DATA; 0 = none */
    double call_seconds_max;    /* deadline of one call; 0 = none */
    double silence_seconds_max; /* deadline between two signs of life within a call; 0 = 600 */
    const char *worker_path;    /* NULL = this program; tests put a misbehaving one here */
};
int engine_start(struct engine **g, const struct engine_options *options, struct err *e);
void engine_stop(struct engine *g); /* NULL-safe; kills a hung child */
int engine_pid(const struct engine *g);

enum engine_mode {
    ENGINE_FILE, /* the file with libllama's default parameters (mmap, repacking): what users run */
    ENGINE_FLOAT /* weights in writable memory as floats, for engine_tensor_set: F32 where memory
                     allows, else as in the file; products by OpenBLAS where the machine has it */
};
struct engine_load {
    const char *path; /* a validated GGUF (first file of a split) */
    enum engine_mode mode;
    uint32_t n_ctx;    /* tokens per sequence; 0 = min(model's, 4096) */
    uint32_t n_seq;    /* sequences evaluated together (batching windows); 0 = chosen by n_ctx */
    int threads;       /* ≤ 0: all */
    int gpu_layers;    /* −1 = llama's default, 0 = none */
    bool full_outputs; /* logits wanted for every token (score, reference), not only the last */
    struct cache_types
        cache; /* of the KV cache; quantized values bring flash attention with them */
};
struct engine_info {
    uint32_t n_vocab, n_ctx_train, n_embd, n_layer;
    uint32_t n_ctx, n_seq; /* as chosen: tokens per sequence, sequences together */
    int32_t bos, eos;      /* −1 when the vocabulary has none */
    bool add_bos;
    int threads, gpu_layers;
    double load_ms;
    /* Sizes as libllama's own accounting, bytes, and the process's real memory after load. */
    uint64_t weights_bytes, kv_bytes, compute_bytes;
    uint64_t rss, rss_peak, rss_anon;
    char description[128]; /* "llama 1B Q4_K - Medium" */
};
int engine_load(struct engine *g, const struct engine_load *load, struct engine_info *info,
                struct err *e);
/* Other types for the KV cache of the loaded model, from the next call on. The model stays as it
 * is. Refused, with the old types still in force, when the model cannot have them. */
int engine_cache(struct engine *g, struct cache_types cache, struct err *e);
/* What a context of n_ctx tokens, for one sequence, takes beside the weights, by libllama's own
 * accounting: it is made for a moment. */
struct engine_memory {
    uint64_t kv_bytes, compute_bytes;
    uint32_t n_ctx;
};
int engine_memory(struct engine *g, uint32_t n_ctx, struct engine_memory *m, struct err *e);
/* Of the loaded model, as engine_load said; all zero when none is loaded. */
const struct engine_info *engine_info(const struct engine *g);

/* Text → token ids (xfree). add_special as the vocabulary's defaults. */
int engine_tokenize(struct engine *g, const char *text, size_t len, bool add_special,
                    int32_t **tokens, size_t *n, struct err *e);
/* Greedy continuation of a prompt (or of BOS when prompt is ""), as text (xfree). */
int engine_generate(struct engine *g, const char *prompt, int n_tokens, char **text, struct err *e);
/* Sequences first_seq … first_seq+n_seq−1 of n_tokens ids each, sampled at temperature 1, in
 * parallel batches. The first id is BOS, else EOS, else drawn evenly from the vocabulary. An
 * end-of-text id does not end a sequence: it stays in the text and the model says what follows, as
 * it saw it in training. Sequence s draws from its own generator seeded by (seed, s) and does not
 * depend on how many others are asked for (whole groups of 16 run in any case: ask for multiples of
 * 16 when that is all the same). tokens: (n_seq, n_tokens), caller's. */
int engine_sample(struct engine *g, size_t first_seq, size_t n_seq, size_t n_tokens, uint64_t seed,
                  int32_t *tokens, const struct progress *p, struct err *e);

/* Windows of text to score: tokens (n_windows, n_ctx); positions first..n_ctx−2 of each predict
 * their successor, so n_ctx−1−first scored positions per window. llama-perplexity: first =
 * n_ctx/2, first token BOS. */
struct engine_windows {
    const int32_t *tokens;
    size_t n_windows;
    uint32_t n_ctx, first;
    size_t reference_from; /* scored against a reference: where in it these windows begin */
};
size_t engine_windows_positions(const struct engine_windows *w); /* n_windows*(n_ctx−1−first) */

/* What the original says at every scored position: its full-vocabulary float logits as the model
 * computed them, with log Σ exp of each row, in shared memory that the parent owns and each worker
 * maps: logits (positions, n_vocab), log_total, nll (of the text's own next token), top (its first
 * choice). */
struct engine_reference {
    int fd;
    void *data; /* of `bytes`; the four below lie in it */
    uint64_t bytes;
    const float *logits;
    const double *log_total;
    const float *nll;
    const uint32_t *top;
    uint32_t n_vocab;
    size_t positions;
    uint64_t id; /* tells references apart within this process */
};
/* bytes_max caps the memory: ERR_LIMIT names the number of windows that would fit. */
int engine_reference_make(struct engine *g, const struct engine_windows *w, uint64_t bytes_max,
                          struct engine_reference *r, const struct progress *p, struct err *e);
void engine_reference_release(struct engine_reference *r);

/* One scored position. kld = Σ p_ref·(log p_ref − log p) in double over the full vocabulary; 0
 * and top1 = 0 without a reference. */
struct engine_position {
    float nll;     /* −log p(next token), nats */
    float kld;     /* nats, never below 0 by rounding: as computed */
    uint32_t top1; /* 1 when both argmax agree (ties: lowest id) */
};
/* Scores windows of the loaded model. r may be NULL (perplexity only) or must be made from the same
 * windows, or from more, of which these are w->reference_from and the following. out: (positions),
 * caller's. */
int engine_score(struct engine *g, const struct engine_windows *w, const struct engine_reference *r,
                 struct engine_position *out, const struct progress *p, struct err *e);

/* Mean-square activations for an importance matrix: for every weight matrix that is multiplied, per
 * input column Σx² and counts, over all tokens of the windows (the last layer's too). Tied heads
 * are collected under the embedding's name. */
struct engine_activation {
    char *name; /* weight tensor */
    uint64_t n_in, n_mat;
    float *in_sum2; /* (n_mat, n_in) */
    float *counts;  /* (n_mat) */
};
int engine_collect(struct engine *g, const struct engine_windows *w, struct engine_activation **a,
                   size_t *n, const struct progress *p, struct err *e);
void engine_activations_free(struct engine_activation *a, size_t n);

/* Gram matrices of what meets weight tensors, Σ x xᵀ over all tokens of the windows. Weights
 * with the same input share one. Correlations are kept within spans of so many columns (the last
 * span may be shorter); as wide as the input, that is the whole matrix. */
struct engine_gram {
    uint64_t n;    /* columns; 0 when the model never multiplies the weight (or by experts only) */
    uint64_t span; /* min(n, what was asked for) */
    size_t owner;  /* index of the one whose `sum` is meant */
    /* (n, span): row i holds columns i / span * span and on, from the diagonal up; the rest is
     * zero. NULL unless owner is itself. */
    const float *sum;
};
struct engine_grams {
    struct engine_gram *items; /* parallel to the names asked for */
    size_t n, bytes;
    void *memory;                          /* what the sums lie in */
    struct engine_activation *activations; /* what engine_collect would say; NULL = not asked */
    size_t n_activations;
};
struct engine_gram_wish {
    const char *const *names;
    size_t n;
    uint64_t span;
    bool collect; /* activations too, in the same pass */
};
int engine_gram(struct engine *g, const struct engine_windows *w,
                const struct engine_gram_wish *wish, struct engine_grams *out,
                const struct progress *p, struct err *e);
/* The same from the first window and without sums: who shares with whom, and how large it is. */
int engine_gram_owners(struct engine *g, const struct engine_windows *w,
                       const struct engine_gram_wish *wish, struct engine_grams *out,
                       struct err *e);
void engine_grams_free(struct engine_grams *grams);

/* Float modes only: replace all values of one weight tensor / put the original back. */
int engine_tensor_set(struct engine *g, const char *name, const float *values, uint64_t n,
                      struct err *e);
int engine_tensor_restore(struct engine *g, const char *name, struct err *e);

struct engine_speed {
    double prefill_tps, decode_tps; /* medians over repeats */
    double prefill_tps_low, prefill_tps_high, decode_tps_low, decode_tps_high; /* min, max */
    double first_token_ms;                                                     /* median */
    int repeats, n_prompt, n_gen, threads, gpu_layers;
};
/* Needs ENGINE_FILE. seconds_max bounds it: fewer repeats, never fewer than 2 when one fits. */
int engine_bench(struct engine *g, int n_prompt, int n_gen, int repeats, double seconds_max,
                 struct engine_speed *s, struct err *e);

/* How fast this machine's processor multiplies matrices of each type, by the kernels that libllama
 * would use (weights repacked where it repacks). Needs no model. Matrices of rows x cols fill
 * set_bytes and are read in turn: what does not fit into a cache comes from memory, as in a model
 * of that size. The fastest parts count, since whatever disturbs only slows. A type that cannot
 * have rows of this length is left out. Some tenths of a second per type. */
struct engine_kernels_job {
    const enum dtype *types;
    int n_types;
    uint64_t cols, rows, set_bytes;
    int threads; /* <= 0: all */
};
int engine_kernels(struct engine *g, const struct engine_kernels_job *job, struct hw_kernels *out,
                   const struct progress *p, struct err *e);

/* Devices ggml can use:
 * [{"name","description","type":"cpu|gpu|igpu|accel","memory_total","memory_free"}]. New reference.
 * Runs in a short-lived worker. */
int engine_devices(json_t **devices, struct err *e);

#endif
