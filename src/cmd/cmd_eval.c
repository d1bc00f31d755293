/* `eval FILE --reference MODEL`: how far a model file is from its original.
 *
 * Both models see the same tokens. Full-vocabulary log-probabilities of the original are held in
 * memory, for all windows or, where they do not fit into a part of the free memory, for some at a
 * time. Without --reference only perplexity is measured.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/source_int.h"
#include "format/gguf.h"

#include "base/banned.h"

enum { POSITIONS_SELF = 16384 };
static const double reference_share_of_ram = 0.25;

static const struct arg_spec eval_args[] = {
    {.name = "FILE",
     .type = ARG_PATH,
     .positional = true,
     .required = true,
     .value = "FILE",
     .help = "GGUF file to judge"},
    {.name = "reference",
     .letter = 'r',
     .type = ARG_PATH,
     .value = "MODEL",
     .help = "the original: folder, GGUF file, or 'sample'"},
    ARG_LINE_CORPUS("UTF-8 text; self: what the original samples", "self"),
    ARG_LINE_CONTEXT("tokens per window (default: 512 or less)"),
    ARG_LINE_TOKENS("scored tokens (default: 16384; of a file: all)"),
    ARG_LINE_SEED,
    ARG_LINES_CACHE,
    ARG_LINE_THREADS,
    ARG_LINE_GPU_LAYERS,
    ARG_LINE_END,
};

/* What one evaluation holds. */
struct evaluation {
    struct original original; /* the reference, or the file itself without one */
    struct engine *engine;    /* on the original; stopped before the file is loaded */
    struct corpus text;
    struct engine_windows windows;
    struct measure_reference reference;
    bool have_reference;
    struct score score;
};

static void evaluation_release(struct evaluation *v)
{
    score_release(&v->score);
    if (v->have_reference)
        measure_reference_release(&v->reference);
    corpus_release(&v->text);
    engine_stop(v->engine);
    cmd_original_release(&v->original);
}

static size_t windows_wanted(const struct cmd_args *a, uint32_t n_ctx)
{
    size_t scored = n_ctx - 1 - n_ctx / 2, tokens = (size_t)cmd_integer(a, "tokens");
    if (!tokens && strcmp(cmd_text(a, "corpus"), "self") != 0)
        return 0;
    tokens = tokens ? tokens : POSITIONS_SELF;
    return (tokens + scored - 1) / scored;
}

/* Windows whose log-probabilities fit into bytes_max: all, or as many, at least one. */
static size_t windows_fitting(const struct engine_windows *w, uint32_t n_vocab, uint64_t bytes_max)
{
    uint64_t per_window = (uint64_t)(w->n_ctx - 1 - w->first) * n_vocab * sizeof(float);
    uint64_t n = per_window ? bytes_max / per_window : w->n_windows;
    if (n >= w->n_windows)
        return w->n_windows;
    return n ? (size_t)n : 1;
}

static int open_text(struct evaluation *v, struct cmd_context *c, const struct cmd_args *a,
                     const struct measure_options *o, struct engine_info *info, struct err *e)
{
    uint32_t n_ctx = cmd_window(a, &v->original);
    if (measure_open(&v->engine, info, v->original.gguf, ENGINE_FILE, n_ctx, 0, true, o, e) ||
        cmd_corpus_make(c, a, &v->original, v->engine, n_ctx, windows_wanted(a, n_ctx), &v->text,
                        e))
        return -1;
    v->windows = corpus_slice(&v->text, 0, v->text.n_windows);
    return 0;
}

/* One model after the other where memory allows the whole reference, else side by side in pieces.
 */
static int score_against(struct evaluation *v, const struct engine_info *info, const char *file,
                         const struct measure_options *o, struct err *e)
{
    struct hw h;
    if (hw_detect(&h, false, e))
        return -1;
    uint64_t room = (uint64_t)((double)h.ram_usable * reference_share_of_ram);
    size_t fit = windows_fitting(&v->windows, info->n_vocab, room);
    if (fit < v->windows.n_windows)
        return measure_quality_pieces(&v->score, file, v->engine, &v->windows, fit, room, o, e);
    if (measure_reference_make(&v->reference, v->engine, &v->windows, room, o->progress, e))
        return -1;
    v->have_reference = true;
    engine_stop(v->engine);
    v->engine = NULL;
    return measure_quality(&v->score, file, &v->windows, &v->reference, o, e);
}

static json_t *eval_json_new(const struct evaluation *v, const struct cmd_args *a, double seconds)
{
    const char *reference = cmd_text(a, "reference");
    uint64_t bytes = 0;
    json_t *o = json_object();
    json_object_set_new(o, "file", json_string(cmd_text(a, "FILE")));
    if (gguf_bytes(cmd_text(a, "FILE"), &bytes, NULL) == 0)
        json_object_set_new(o, "bytes", cmd_bytes_json_new(bytes));
    json_object_set_new(o, "reference", reference ? json_string(reference) : json_null());
    json_object_set_new(o, "reference_bytes", cmd_bytes_json_new(v->original.bytes));
    json_object_set_new(o, "corpus", json_string(v->text.source));
    json_object_set_new(o, "windows", cmd_bytes_json_new(v->windows.n_windows));
    json_object_set_new(o, "context", json_integer(v->windows.n_ctx));
    json_object_set_new(o, "cache", cmd_cache_json_new(cmd_cache(a)));
    json_object_set_new(o, "score", score_json_new(&v->score));
    json_object_set_new(o, "seconds", json_real_new(seconds));
    return o;
}

static int evaluate(struct evaluation *v, struct cmd_context *c, const struct cmd_args *a,
                    struct err *e)
{
    const char *file = cmd_text(a, "FILE"), *reference = cmd_text(a, "reference");
    struct engine_info info;
    struct measure_options o = {.threads = (int)cmd_integer(a, "threads"),
                                .gpu_layers = cmd_gpu_layers(a),
                                .cache = cmd_cache(a),
                                .progress = c->progress};
    struct measure_options plain = o; /* the original keeps libllama's default */
    plain.cache = (struct cache_types){0};
    if (cmd_corpus_check(a, e) ||
        cmd_original_open(c, reference ? reference : file, o.threads, &v->original, e) ||
        open_text(v, c, a, reference ? &plain : &o, &info, e))
        return -1;
    if (!reference)
        return measure_quality_loaded(&v->score, v->engine, &v->windows, NULL, c->progress, e);
    return score_against(v, &info, file, &o, e);
}

static int eval_run(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e)
{
    struct evaluation v = {0};
    double began = clock_seconds();
    struct model *m = NULL;
    int rc = -1;
    if (model_open(&m, cmd_text(a, "FILE"), e) == 0)
        rc = model_check_cache(model_desc(m), cmd_cache(a), e);
    if (rc == 0)
        rc = evaluate(&v, c, a, e);
    model_close(m);
    if (rc == 0)
        *result = eval_json_new(&v, a, clock_seconds() - began);
    evaluation_release(&v);
    return rc;
}

const struct cmd cmd_eval = {
    .name = "eval",
    .group = CMD_MEASURE,
    .summary = "measure perplexity, KL divergence and top-1 of a model file",
    .description =
        "KL divergence is the mean over positions of KL(original || file) from full-vocabulary "
        "probabilities, in nats; top-1 is the share of positions where both put the same token "
        "first; perplexity is that of llama-perplexity: windows of --context tokens, the second "
        "half of each scored. Intervals are 95 %, clustered by window."
        "\n\n"
        "--cache-type-k and --cache-type-v choose the types of the KV cache that the file runs "
        "with, as in llama.cpp; the original keeps f16. A file against itself shows what the "
        "types alone cost.",
    .example = "sintra eval tiny-q4.gguf --reference ./TinyLlama-1.1B --corpus wiki.txt\n"
               "sintra eval tiny-q4.gguf --corpus wiki.txt --context 1024\n"
               "sintra eval q4.gguf -r q4.gguf --cache-type-k q8_0 --cache-type-v q8_0",
    .args = eval_args,
    .run = eval_run,
};
