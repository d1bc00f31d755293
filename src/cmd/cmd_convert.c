/* `convert`: a Hugging Face folder as a GGUF file in a float type or Q8_0.
 *
 * Nothing is decided here but the type: "auto" keeps the 16-bit type of the source, so that nothing
 * is lost and nothing grows.
 */
#include <string.h>

#include "bake/bake.h"
#include "cmd/cmd_int.h"

#include "base/banned.h"

static const struct arg_spec convert_args[] = {
    ARG_LINE_MODEL_POSITION,
    ARG_LINE_OUTPUT("GGUF file to write"),
    {.name = "type",
     .alias = "outtype",
     .type = ARG_TEXT,
     .value = "TYPE",
     .help = "type of the weights; auto: the source's own",
     .fallback = "auto",
     .choices = "auto|BF16|F16|F32|Q8_0"},
    {.name = "sha256", .type = ARG_FLAG, .help = "also hash the file while it is written"},
    ARG_LINE_THREADS,
    ARG_LINE_END,
};

/* Tensors that stay in the blocks of the checkpoint. */
static void say_kept(json_t *result, const struct model_desc *d)
{
    int n = 0;
    for (size_t i = 0; i < d->n_tensors; i++)
        n += d->tensors[i].dtype == DT_HF_MXFP4;
    if (n > 0)
        json_object_set_new(result, "kept", json_pack("{s:s,s:i}", "type", "MXFP4", "tensors", n));
}

static int convert_model(struct cmd_context *c, const struct cmd_args *a, const struct model *m,
                         json_t **result, struct err *e)
{
    const char *asked = cmd_text(a, "type");
    const char *type = strcmp(asked, "auto") == 0 ? cmd_source_type(model_desc(m)) : asked;
    struct recipe_options options = RECIPE_OPTIONS_DEFAULT;
    options.keep_blocks = true;
    struct recipe r;
    recipe_init(&r, type);
    struct bake_job job = {
        .model = m,
        .recipe = &r,
        .options = &options,
        .output = cmd_text(a, "output"),
        .threads = (int)cmd_integer(a, "threads"),
        .allow_requantize = true,
        .no_hash = !cmd_flag(a, "sha256"),
        .progress = c->progress,
    };
    struct bake_result done = {0};
    int rc = bake_gguf(&job, &done, e);
    recipe_release(&r);
    if (rc)
        return -1;
    *result = json_object();
    json_object_set_new(*result, "output", json_string(cmd_text(a, "output")));
    json_object_set_new(*result, "type", json_string(type));
    say_kept(*result, model_desc(m));
    json_object_set_new(*result, "bytes", cmd_bytes_json_new(done.bytes));
    json_object_set_new(*result, "bpw", json_real_new(done.bpw));
    if (done.sha256[0])
        json_object_set_new(*result, "sha256", json_string(done.sha256));
    json_object_set_new(*result, "seconds", json_real_new(done.seconds));
    json_object_set_new(*result, "model", cmd_model_json_new(m));
    return 0;
}

static int convert_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                       struct err *e)
{
    char *path = NULL;
    struct model *m = NULL;
    int rc = -1;
    if (cmd_model_path(c, cmd_text(a, "MODEL"), &path, e) || model_open(&m, path, e))
        goto out;
    rc = convert_model(c, a, m, result, e);
out:
    model_close(m);
    xfree(path);
    return rc;
}

const struct cmd cmd_convert = {
    .name = "convert",
    .group = CMD_MAKE,
    .summary = "write a Hugging Face model as a GGUF file (BF16, F16, F32, Q8_0)",
    .description =
        "Reads config.json, safetensors (single or sharded) and the tokenizer, and writes one GGUF "
        "file that llama.cpp and everything built on it can load. Norms and biases stay F32, and "
        "experts that are stored in MXFP4 (gpt-oss) stay in it, bit for bit. The file appears "
        "under its name only when it is complete and was read back.",
    .example = "sintra convert ./TinyLlama-1.1B -o tinyllama.gguf\n"
               "sintra convert ./TinyLlama-1.1B -o tinyllama-q8.gguf --type q8_0",
    .args = convert_args,
    .run = convert_run,
};
