/* `calibrate`: an importance matrix, in the GGUF format that llama.cpp reads.
 *
 * The original runs over text; for every weight matrix the mean square of each input column is
 * kept. All windows of the text are used, or as many as --tokens asks for.
 */
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "cmd/source_int.h"
#include "quant/quant.h"

#include "base/banned.h"

enum { TOKENS_DEFAULT = 65536 };

static const struct arg_spec calibrate_args[] = {
    ARG_LINE_MODEL_POSITION,
    ARG_LINE_OUTPUT("importance matrix to write (GGUF)"),
    {.name = "factors",
     .type = ARG_PATH,
     .value = "FILE",
     .help = "also write what error feedback needs (quantize --factors)"},
    {.name = "span",
     .type = ARG_INTEGER,
     .value = "N",
     .help = "columns that share factors, a multiple of 256 (default: all)",
     .min = 256,
     .max = 1 << 20},
    ARG_LINE_CORPUS("UTF-8 text; self: what the model samples", "self"),
    ARG_LINE_TOKENS("tokens to read (default: 65536; of a file: all)"),
    ARG_LINE_CONTEXT("tokens per window (default: 512 or less)"),
    ARG_LINE_SEED,
    ARG_LINE_THREADS,
    ARG_LINE_GPU_LAYERS,
    ARG_LINE_END,
};

static size_t windows_wanted(const struct cmd_args *a, uint32_t n_ctx)
{
    size_t tokens = (size_t)cmd_integer(a, "tokens");
    if (!tokens && strcmp(cmd_text(a, "corpus"), "self") != 0)
        return 0;
    tokens = tokens ? tokens : TOKENS_DEFAULT;
    return (tokens + n_ctx - 1) / n_ctx;
}

static json_t *calibrate_json_new(const struct cmd_args *a, const struct imatrix *m,
                                  const struct corpus *t, double seconds)
{
    json_t *o = json_object();
    json_object_set_new(o, "output", json_string(cmd_text(a, "output")));
    json_object_set_new(o, "entries", cmd_bytes_json_new(m->n));
    json_object_set_new(o, "chunks", json_integer(m->chunk_count));
    json_object_set_new(o, "chunk_size", json_integer(m->chunk_size));
    json_object_set_new(o, "tokens", cmd_bytes_json_new(t->n_windows * (uint64_t)t->n_ctx));
    json_object_set_new(o, "partial", json_boolean(m->partial));
    json_object_set_new(o, "corpus", json_string(t->source));
    json_object_set_new(o, "corpus_sha256", json_string(t->sha256));
    json_object_set_new(o, "sha256", json_string(m->sha256));
    json_object_set_new(o, "seconds", json_real_new(seconds));
    return o;
}

/* A few weights of the model go with the file, so that it is not taken for another model's. */
static int say_whose(struct imatrix *matrix, const char *gguf, struct err *e)
{
    struct model *m = NULL;
    float weights[MODEL_SAMPLE];
    size_t n = 0;
    if (model_open(&m, gguf, e))
        return -1;
    int rc = model_sample(m, weights, &n, e);
    if (rc == 0)
        imatrix_set_weights(matrix, weights, n);
    model_close(m);
    return rc;
}

/* Both files or none: the factors keep another name until the matrix, whose tensors they are of, is
 * written. */
static int write_both(const struct cmd_args *a, const struct original *o, struct engine *g,
                      const struct corpus *text, struct imatrix *matrix,
                      const struct measure_options *options, struct err *e)
{
    const char *factors = cmd_text(a, "factors");
    char *held = factors ? xasprintf("%s.partial", factors) : NULL;
    struct engine_windows all = corpus_slice(text, 0, text->n_windows);
    int rc = held ? measure_factors(held, matrix, text->source, (uint64_t)cmd_integer(a, "span"), g,
                                    &all, options, e)
                  : measure_importance(matrix, g, &all, text->source, options->progress, e);
    if (rc == 0)
        rc = say_whose(matrix, o->gguf, e);
    if (rc == 0)
        rc = imatrix_write(matrix, cmd_text(a, "output"), e);
    if (rc == 0 && held)
        rc = fs_move(held, factors, e);
    if (rc != 0 && held)
        fs_remove(held, NULL);
    xfree(held);
    return rc;
}

static int calibrate_original(struct cmd_context *c, const struct cmd_args *a,
                              const struct original *o, json_t **result, struct err *e)
{
    struct engine *g = NULL;
    struct engine_info info;
    struct corpus text = {0};
    struct imatrix matrix = {0};
    uint32_t n_ctx = cmd_window(a, o);
    struct measure_options options = {.threads = (int)cmd_integer(a, "threads"),
                                      .gpu_layers = cmd_gpu_layers(a),
                                      .progress = c->progress};
    double began = clock_seconds();
    int rc = -1;
    if (measure_open(&g, &info, o->gguf, ENGINE_FILE, n_ctx, 0, true, &options, e) ||
        cmd_corpus_make(c, a, o, g, n_ctx, windows_wanted(a, n_ctx), &text, e))
        goto out;
    if (write_both(a, o, g, &text, &matrix, &options, e))
        goto out;
    *result = calibrate_json_new(a, &matrix, &text, clock_seconds() - began);
    rc = 0;
out:
    imatrix_release(&matrix);
    corpus_release(&text);
    engine_stop(g);
    return rc;
}

static int check_span(const struct cmd_args *a, struct err *e)
{
    if (cmd_integer(a, "span") % QUANT_SPAN != 0)
        return err_set(e, ERR_USAGE, "blocks are 256 columns long",
                       "--span is %lld, not a multiple of 256", (long long)cmd_integer(a, "span"));
    if (cmd_integer(a, "span") > 0 && !cmd_text(a, "factors"))
        return err_set(e, ERR_USAGE, "add --factors FILE", "--span is of the factors file");
    return 0;
}

static int check_outputs(const struct cmd_args *a, struct err *e)
{
    const char *matrix = cmd_text(a, "output"), *factors = cmd_text(a, "factors");
    if (factors && strcmp(matrix, factors) == 0)
        return err_set(e, ERR_USAGE, "give them different names",
                       "%s cannot be both the matrix and the factors", matrix);
    return fs_check_output(matrix, e) || (factors && fs_check_output(factors, e)) ? -1 : 0;
}

static int calibrate_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                         struct err *e)
{
    struct original o;
    if (check_span(a, e) || cmd_corpus_check(a, e) || check_outputs(a, e) ||
        cmd_original_open(c, cmd_text(a, "MODEL"), (int)cmd_integer(a, "threads"), &o, e))
        return -1;
    int rc = calibrate_original(c, a, &o, result, e);
    cmd_original_release(&o);
    return rc;
}

const struct cmd cmd_calibrate = {
    .name = "calibrate",
    .group = CMD_MAKE,
    .summary = "write an importance matrix (imatrix) for quantize",
    .description =
        "Runs the original over text and keeps, for every weight matrix, how strongly each input "
        "column is used; encoders spend their precision there. Without --corpus the model samples "
        "its own text, seeded, which is kept in the cache."
        "\n\n"
        "A Hugging Face folder is first written once as a float GGUF in the cache.",
    .example = "sintra calibrate sample -o sample.imatrix\n"
               "sintra calibrate ./TinyLlama-1.1B -o tiny.imatrix --corpus notes.txt",
    .args = calibrate_args,
    .run = calibrate_run,
};
