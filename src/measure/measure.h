/* measure(candidate file) → score. Knows nothing of recipes.
 *
 * Definitions. Perplexity: exp of the mean negative log-likelihood over scored positions (windows
 * of n_ctx tokens, first token BOS when the vocabulary adds one, positions n_ctx/2 … n_ctx−2
 * scored: llama-perplexity's). KL divergence: mean over positions of KL(original ‖ candidate)
 * from full-vocabulary float logits. Top-1 agreement: share of positions where both put the same
 * token first. Intervals: 95 %, clustered by window (base/stat.h). Search, calibration and final
 * windows are disjoint. */
#ifndef MEASURE_MEASURE_H
#define MEASURE_MEASURE_H

#include "base/json.h"
#include "engine/engine.h"
#include "format/imatrix.h"

/* Text as token windows. tokens (n_windows, n_ctx). */
struct corpus {
    int32_t *tokens;
    size_t n_windows;
    uint32_t n_ctx, first;
    char sha256[65]; /* of the token ids */
    char *source;    /* path, or "self" */
};
/* That a file can be a corpus, before any work: a file, not empty, UTF-8 (else the byte offset). */
int corpus_check_file(const char *path, struct err *e);
/* engine must hold a model (its tokenizer). windows_max 0 = all. Errors: empty, not UTF-8 (byte
 * offset), shorter than one window. */
int corpus_from_file(struct corpus *c, struct engine *g, const char *path, uint32_t n_ctx,
                     size_t windows_max, struct err *e);
/* The same from the first `bytes` of the file only (0 = all of it); whoever keeps the rest for
 * another use cuts between characters. */
int corpus_from_file_part(struct corpus *c, struct engine *g, const char *path, uint64_t bytes,
                          uint32_t n_ctx, size_t windows_max, struct err *e);
/* The model samples its own text; ids are kept in cache_dir under key (model sha256, seed, n_ctx):
 * asking for more windows later only samples the missing ones, asking again samples none. */
int corpus_from_self(struct corpus *c, struct engine *g, const char *cache_dir,
                     const char *model_sha256, uint64_t seed, uint32_t n_ctx, size_t n_windows,
                     const struct progress *p, struct err *e);
void corpus_release(struct corpus *c);
/* Windows [from, from+n) as engine_windows (no copy). */
struct engine_windows corpus_slice(const struct corpus *c, size_t from, size_t n);

struct score {
    size_t positions, windows;
    uint32_t n_ctx;
    double ppl, ppl_low, ppl_high; /* exp of the mean nll's interval */
    double ppl_base;               /* of the original on the same positions, 0 without reference */
    double kld_mean, kld_low, kld_high, kld_median, kld_p90, kld_p95, kld_p99, kld_p999, kld_max;
    double top1, top1_low, top1_high;
    bool has_kld;
    /* speed and memory of the written file; 0 = not measured */
    double tps_decode, tps_prefill, first_token_ms, load_ms;
    uint64_t rss_peak_bytes, memory_bytes, kv_bytes, compute_bytes,
        weights_bytes; /* memory = weights+kv+compute */
    uint32_t memory_context;
    int threads, gpu_layers;
    char corpus_sha256[65];
    double *kld; /* (positions) kept for paired comparison, NULL after score_release */
};
void score_release(struct score *s);
/* JSON as in ARCHITECTURE.md ("kld_mean","kld_mean_ci95",...). New reference. */
json_t *score_json_new(const struct score *s);
int score_from_json(struct score *s, const json_t *doc,
                    struct err *e); /* without per-position values */

/* What was computed once about the original, for windows of one corpus slice. */
struct measure_reference {
    struct engine_reference logits;
    struct engine_windows windows;
    double ppl;
};
int measure_reference_make(struct measure_reference *r, struct engine *g,
                           const struct engine_windows *w, uint64_t bytes_max,
                           const struct progress *p, struct err *e);
void measure_reference_release(struct measure_reference *r);

/* Validates path (gguf_open), starts a worker, scores quality. r may be NULL: perplexity of `w`
 * only. */
struct measure_options {
    int threads, gpu_layers; /* engine_load's meaning */
    uint64_t memory_bytes_max;
    double call_seconds_max;
    struct cache_types cache; /* of the KV cache that the file runs with */
    const struct progress *progress;
};
int measure_quality(struct score *s, const char *path, const struct engine_windows *w,
                    const struct measure_reference *r, const struct measure_options *o,
                    struct err *e);
/* The same with the model already in an engine (probes). */
int measure_quality_loaded(struct score *s, struct engine *g, const struct engine_windows *w,
                           const struct measure_reference *r, const struct progress *p,
                           struct err *e);
/* As measure_quality against the original in `base`, for text whose reference does not fit into
 * memory: per_piece windows at a time (at most bytes_max each), with both models loaded. */
int measure_quality_pieces(struct score *s, const char *path, struct engine *base,
                           const struct engine_windows *w, size_t per_piece, uint64_t bytes_max,
                           const struct measure_options *o, struct err *e);
/* Speed, load time, peak RSS, memory at `context` tokens of the file with default load parameters.
 * Fills the fields of s, leaves quality alone. */
int measure_speed(struct score *s, const char *path, uint32_t context, int n_prompt, int n_gen,
                  int repeats, double seconds_max, const struct measure_options *o, struct err *e);
/* Opens a worker on a validated file. */
int measure_open(struct engine **g, struct engine_info *info, const char *path,
                 enum engine_mode mode, uint32_t n_ctx, uint32_t n_seq, bool full_outputs,
                 const struct measure_options *o, struct err *e);
/* A piece of a text, by bytes: [begin, middle) is context, [middle, end) is scored. */
struct byte_piece {
    size_t begin, middle, end;
};
/* Cuts at most `most` pieces, evenly over the text, that windows of n_ctx tokens should hold. UTF-8
 * is never cut inside a character. Returns how many. */
size_t byte_pieces_cut(struct byte_piece *out, size_t most, const char *text, size_t n,
                       uint32_t n_ctx);
/* How many bits the model in `path` needs for the scored bytes of each piece: bits (n), NaN where a
 * piece has more tokens than a window of n_ctx. */
int measure_piece_bits(double *bits, const char *path, const char *text,
                       const struct byte_piece *pieces, size_t n, uint32_t n_ctx,
                       const struct measure_options *o, struct err *e);

/* Importance matrix from windows through an engine on the original. chunk_size = n_ctx. */
int measure_importance(struct imatrix *m, struct engine *g, const struct engine_windows *w,
                       const char *dataset, const struct progress *p, struct err *e);
/* The factors of error feedback (format/factors.h), from the same windows, written to `path`: of
 * every tensor of m that meets its inputs whole (experts do not) and whose rows blocks of 32
 * divide. An empty m is filled in the same pass, as measure_importance would. span: columns that
 * hear of each other's errors, a multiple of 256; 0 = all of a row. Memory: 12 bytes for columns
 * times span of every distinct input; where that is more than a quarter of o->memory_bytes_max, in
 * several passes over the text. */
int measure_factors(const char *path, struct imatrix *m, const char *dataset, uint64_t span,
                    struct engine *g, const struct engine_windows *w,
                    const struct measure_options *o, struct err *e);

#endif
