/* `bench`: how fast a model file runs here.
 *
 * The file is loaded as any program on libllama loads it (default parameters, mapped, repacked).
 * Prompt and generation lengths shrink to the model's context. Medians over repeats, with their
 * range.
 */
#include <string.h>

#include "base/proc.h"
#include "cmd/cmd_int.h"
#include "format/gguf.h"

#include "base/banned.h"

enum { PROMPT_DEFAULT = 512, GENERATE_DEFAULT = 128, CONTEXT_UNKNOWN = 4096 };

static const struct arg_spec bench_args[] = {
    {.name = "FILE",
     .type = ARG_PATH,
     .positional = true,
     .required = true,
     .value = "FILE",
     .help = "GGUF file"},
    {.name = "prompt",
     .letter = 'p',
     .type = ARG_INTEGER,
     .value = "N",
     .help = "tokens of prompt (default: 512 or less)",
     .min = 1,
     .max = 1000000},
    {.name = "generate",
     .letter = 'n',
     .type = ARG_INTEGER,
     .value = "N",
     .help = "tokens to generate (default: 128 or less)",
     .min = 1,
     .max = 1000000},
    {.name = "repeats",
     .letter = 'r',
     .type = ARG_INTEGER,
     .value = "N",
     .help = "times to measure",
     .fallback = "5",
     .min = 1,
     .max = 1000},
    {.name = "seconds",
     .type = ARG_REAL,
     .value = "S",
     .help = "fewer repeats when it would take longer than this",
     .fallback = "120",
     .min = 1,
     .max = 86400},
    ARG_LINES_CACHE,
    ARG_LINE_THREADS,
    ARG_LINE_GPU_LAYERS,
    ARG_LINE_END,
};

/* Lengths that fit into the model's context together. */
static void choose_lengths(const struct cmd_args *a, uint32_t context, int *prompt, int *generate)
{
    int room = context ? (int)(context < 1u << 24 ? context : 1u << 24) : CONTEXT_UNKNOWN;
    *prompt = (int)cmd_integer(a, "prompt");
    *generate = (int)cmd_integer(a, "generate");
    if (!*generate)
        *generate = room / 4 < GENERATE_DEFAULT ? room / 4 : GENERATE_DEFAULT;
    if (!*prompt)
        *prompt = room / 2 < PROMPT_DEFAULT ? room / 2 : PROMPT_DEFAULT;
}

static uint32_t trained_context(const char *path, struct cache_types cache, struct err *e, int *rc)
{
    struct model *m = NULL;
    *rc = model_open(&m, path, e);
    if (*rc == 0)
        *rc = model_check_generates(m, e);
    if (*rc == 0)
        *rc = model_check_cache(model_desc(m), cache, e);
    uint32_t context = *rc == 0 ? model_desc(m)->n_ctx_train : 0;
    model_close(m);
    return context;
}

static json_t *range_json_new(double low, double high)
{
    return json_pack("[o,o]", json_real_new(low), json_real_new(high));
}

static json_t *bench_json_new(const char *path, const struct engine_info *info,
                              const struct engine_speed *s, uint64_t rss_peak)
{
    uint64_t bytes = 0;
    json_t *o = json_object();
    json_object_set_new(o, "file", json_string(path));
    if (gguf_bytes(path, &bytes, NULL) == 0)
        json_object_set_new(o, "bytes", cmd_bytes_json_new(bytes));
    json_object_set_new(o, "description", json_string(info->description));
    json_object_set_new(o, "threads", json_integer(s->threads));
    json_object_set_new(o, "gpu_layers", json_integer(s->gpu_layers));
    json_object_set_new(o, "n_prompt", json_integer(s->n_prompt));
    json_object_set_new(o, "n_generate", json_integer(s->n_gen));
    json_object_set_new(o, "repeats", json_integer(s->repeats));
    json_object_set_new(o, "tps_prefill", json_real_new(s->prefill_tps));
    json_object_set_new(o, "tps_prefill_range",
                        range_json_new(s->prefill_tps_low, s->prefill_tps_high));
    json_object_set_new(o, "tps_decode", json_real_new(s->decode_tps));
    json_object_set_new(o, "tps_decode_range",
                        range_json_new(s->decode_tps_low, s->decode_tps_high));
    json_object_set_new(o, "first_token_ms", json_real_new(s->first_token_ms));
    json_object_set_new(o, "load_ms", json_real_new(info->load_ms));
    json_object_set_new(o, "rss_peak_bytes", cmd_bytes_json_new(rss_peak));
    json_object_set_new(o, "weights_bytes", cmd_bytes_json_new(info->weights_bytes));
    json_object_set_new(o, "kv_bytes", cmd_bytes_json_new(info->kv_bytes));
    json_object_set_new(o, "compute_bytes", cmd_bytes_json_new(info->compute_bytes));
    return o;
}

static int bench_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                     struct err *e)
{
    const char *path = cmd_text(a, "FILE");
    struct engine *g = NULL;
    struct engine_info info;
    struct engine_speed speed;
    struct proc_memory memory = {0};
    int prompt, generate, rc;
    uint32_t context = trained_context(path, cmd_cache(a), e, &rc);
    if (rc)
        return -1;
    choose_lengths(a, context, &prompt, &generate);
    struct measure_options o = {.threads = (int)cmd_integer(a, "threads"),
                                .gpu_layers = cmd_gpu_layers(a),
                                .cache = cmd_cache(a),
                                .progress = c->progress};
    progress_report(c->progress, "load", 0, 0, NULL);
    rc = measure_open(&g, &info, path, ENGINE_FILE, (uint32_t)(prompt + generate), 1, false, &o, e);
    if (rc)
        return -1;
    progress_report(c->progress, "measure speed", 0, 0, NULL);
    rc = engine_bench(g, prompt, generate, (int)cmd_integer(a, "repeats"), cmd_real(a, "seconds"),
                      &speed, e);
    if (rc == 0) {
        proc_memory(engine_pid(g), &memory);
        *result = bench_json_new(path, &info, &speed, memory.rss_peak);
        json_object_set_new(*result, "cache", cmd_cache_json_new(cmd_cache(a)));
    }
    engine_stop(g);
    return rc;
}

const struct cmd cmd_bench = {
    .name = "bench",
    .group = CMD_MEASURE,
    .summary = "measure tokens per second, load time, memory of a model file",
    .description = "Runs the file as a user would: libllama's defaults, all processors. Prefill is "
                   "reading a prompt at once, decode is generating token after token. The numbers "
                   "are medians; the range over the repeats is given beside them.",
    .example = "sintra bench tiny-q4.gguf\nsintra bench tiny-q4.gguf -t 4 -p 1024 -n 256",
    .args = bench_args,
    .run = bench_run,
};
