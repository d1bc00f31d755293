/* Views of models, machines and files: inspect, detect, profiles, convert, quantize, calibrate,
 * eval, bench, version. Lists of columns and facts; a sentence where a table would not say it. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "face/view_int.h"

#include "base/banned.h"

/* ---- inspect ---- */

static void inspect_model(struct paper *p, const json_t *r)
{
    static const struct view_fact facts[] = {
        {"architecture", "architecture", VIEW_TEXT},
        {"source", "source", VIEW_TEXT},
        {"quantized", "quantization", VIEW_TEXT},
        {"parameters", "parameters", VIEW_COUNT},
        {"size", "bytes", VIEW_SIZE},
        {"layers", "layers", VIEW_INTEGER},
        {"embedding", "embedding", VIEW_INTEGER},
        {"feed forward", "feed_forward", VIEW_INTEGER},
        {"heads", "heads", VIEW_INTEGER},
        {"key/value heads", "heads_kv", VIEW_INTEGER},
        {"experts", "experts", VIEW_INTEGER},
        {"vocabulary", "vocabulary", VIEW_INTEGER},
        {"context", "context", VIEW_INTEGER},
        {"tied head", "tied", VIEW_YES},
        {"KV cache per token", "kv_bytes_per_token", VIEW_SIZE},
        {"  as q8_0", "kv_bytes_per_token_q8_0", VIEW_SIZE},
        {"  as q4_0", "kv_bytes_per_token_q4_0", VIEW_SIZE},
        {"license", "license", VIEW_TEXT},
        {"", "license_name", VIEW_TEXT},
        {"base model", "base_models", VIEW_TEXT},
        {NULL, NULL, VIEW_TEXT},
    };
    const json_t *model = json_object_get(r, "model");
    paper_say(p, STYLE_BOLD, "%s", view_str(model, "name", "model"));
    paper_end(p);
    view_facts(p, model, facts, 2);
}

/* "all", "none", or whichever is shorter to say: where, or where not. */
static json_t *where_new(const json_t *fits_on, const json_t *places)
{
    size_t n = json_array_size(places), here = json_array_size(fits_on), k = 0;
    bool but = here * 2 > n;
    struct buf b;
    if (here == 0 || here == n)
        return json_string(here ? "all" : "none");
    buf_init(&b, VIEW_TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        const char *name = view_str(json_array_get(places, i), "machine", "");
        const char *next = json_string_value(json_array_get(fits_on, k));
        bool fits = next && strcmp(name, next) == 0;
        k += fits;
        if (fits != but)
            buf_addf(&b, "%s%s", b.len ? ", " : but ? "all but " : "", name);
    }
    json_t *text = json_string(buf_str(&b));
    buf_release(&b);
    return text;
}

static void view_mixes(struct paper *p, const json_t *r)
{
    static const struct view_column mixes[] = {
        {"mix", "name", VIEW_TEXT, STYLE_NAME},
        {"file", "bytes", VIEW_SIZE, STYLE_PLAIN},
        {"bpw", "bpw", VIEW_BITS, STYLE_PLAIN},
        {"with KV", "memory_bytes", VIEW_SIZE, STYLE_PLAIN},
        {"fits here", "fits", VIEW_YES, STYLE_GOOD},
        {"fits on", "where", VIEW_TEXT, STYLE_PLAIN},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    json_t *rows = json_deep_copy(json_object_get(r, "stock"));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        json_object_set_new(row, "where",
                            where_new(json_object_get(row, "fits_on"), json_object_get(r, "fits")));
    }
    view_rows(p, rows, mixes, 2);
    json_decref(rows);
}

/* Those that are converted by name; the others under their reasons, which stand together. */
static void view_architectures(struct paper *p, const json_t *r)
{
    static const struct view_column columns[] = {
        {"architecture", "name", VIEW_TEXT, STYLE_NAME},
        {"libllama", "libllama", VIEW_TEXT, STYLE_PLAIN},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    const json_t *all = json_object_get(r, "architectures");
    json_t *rows = json_array();
    const char *reason = "";
    char title[64];
    snprintf(title, sizeof title, "converted: %.0f of %.0f", view_real(r, "converted", 0),
             view_real(r, "all", 0));
    view_heading(p, title);
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *row = json_array_get(all, i);
        const char *why = view_str(row, "reason", "");
        if (strcmp(why, reason) != 0) {
            view_rows(p, rows, columns, 2);
            json_array_clear(rows);
            snprintf(title, sizeof title, "not converted");
            view_heading(p, title);
            paper_wrap(p, 2, why);
        }
        reason = why;
        json_array_append(rows, row);
    }
    view_rows(p, rows, columns, 2);
    json_decref(rows);
}

void view_inspect(struct paper *p, const json_t *r)
{
    if (json_object_get(r, "architectures")) {
        view_architectures(p, r);
        return;
    }
    static const struct view_column roles[] = {
        {"role", "role", VIEW_TEXT, STYLE_PLAIN},
        {"tensors", "tensors", VIEW_INTEGER, STYLE_PLAIN},
        {"parameters", "parameters", VIEW_COUNT, STYLE_PLAIN},
        {"share", "share", VIEW_PERCENT, STYLE_PLAIN},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    static const struct view_column places[] = {
        {"machine", "machine", VIEW_TEXT, STYLE_PLAIN},
        {"memory", "memory_bytes", VIEW_SIZE, STYLE_PLAIN},
        {"largest mix", "mix", VIEW_TEXT, STYLE_NAME},
        {"file", "bytes", VIEW_SIZE, STYLE_PLAIN},
        {"tokens/s (predicted)", "tps_predicted", VIEW_RATE, STYLE_PLAIN},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    static const struct view_column tensors[] = {
        {"tensor", "name", VIEW_TEXT, STYLE_PLAIN}, {"role", "role", VIEW_TEXT, STYLE_PLAIN},
        {"type", "type", VIEW_TEXT, STYLE_PLAIN},   {"shape", "shape", VIEW_TEXT, STYLE_PLAIN},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    char size[VIEW_TEXT_MAX];
    inspect_model(p, r);
    view_heading(p, "parameters");
    view_rows(p, json_object_get(r, "roles"), roles, 2);
    view_heading(p, "as a file of each stock mix");
    view_mixes(p, r);
    view_heading(p, "where it fits");
    view_rows(p, json_object_get(r, "fits"), places, 2);
    view_line(p, "  with %.0f tokens of context (KV cache %s)", view_real(r, "context", 0),
              view_format_at(r, "kv_bytes", VIEW_SIZE, size));
    if (json_object_get(r, "tensors")) {
        view_heading(p, "tensors");
        view_rows(p, json_object_get(r, "tensors"), tensors, 2);
    }
}

/* ---- detect, profiles ---- */

void view_detect(struct paper *p, const json_t *r)
{
    static const struct view_fact facts[] = {
        {"processor", "cpu_model", VIEW_TEXT},
        {"architecture", "arch", VIEW_TEXT},
        {"vector units", "simd", VIEW_TEXT},
        {"cores", "cores_physical", VIEW_INTEGER},
        {"threads", "cores_logical", VIEW_INTEGER},
        {"usable here", "cores_usable", VIEW_INTEGER},
        {"L1d cache", "l1d_bytes", VIEW_SIZE},
        {"L2 cache", "l2_bytes", VIEW_SIZE},
        {"L3 cache", "l3_bytes", VIEW_SIZE},
        {"memory", "ram_total", VIEW_SIZE},
        {"memory free", "ram_available", VIEW_SIZE},
        {"memory usable here", "ram_usable", VIEW_SIZE},
        {"system", "os", VIEW_TEXT},
        {NULL, NULL, VIEW_TEXT},
    };
    static const struct view_column devices[] = {
        {"device", "name", VIEW_TEXT, STYLE_PLAIN},
        {"kind", "type", VIEW_TEXT, STYLE_PLAIN},
        {"description", "description", VIEW_TEXT, STYLE_PLAIN},
        {"memory", "memory_total", VIEW_SIZE, STYLE_PLAIN},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    const json_t *h = json_object_get(r, "hardware");
    double gbs = view_real(h, "bandwidth_gbs", 0);
    view_facts(p, h, facts, 0);
    if (gbs > 0) {
        paper_end(p);
        view_line(p, "memory bandwidth, measured: %.1f GB/s", gbs);
        view_line(p, "so a model of 1 GiB generates at most %.0f tokens/s here",
                  gbs * 1e9 / 1073741824.0);
    }
    paper_end(p);
    view_rows(p, json_object_get(r, "devices"), devices, 0);
    if (json_object_get(r, "engine_error"))
        view_line(p, "libllama does not run here: %s", view_str(r, "engine_error", ""));
}

static void one_profile(struct paper *p, const json_t *o)
{
    static const struct view_fact facts[] = {
        {"processor", "constraints.cpu_arch", VIEW_TEXT},
        {"cores", "constraints.cores", VIEW_INTEGER},
        {"memory, GiB", "constraints.ram_gb", VIEW_RATE},
        {"GPU memory, GiB", "constraints.vram_gb", VIEW_RATE},
        {"CUDA", "constraints.has_cuda", VIEW_YES},
        {"largest file, MB", "constraints.max_model_size_mb", VIEW_INTEGER},
        {"bandwidth, GB/s", "constraints.memory_bandwidth_gbs", VIEW_RATE},
        {"tokens/s wanted", "targets.min_tokens_per_second", VIEW_RATE},
        {"latency wanted, ms", "targets.max_latency_ms", VIEW_RATE},
        {"accuracy wanted", "targets.min_accuracy_score", VIEW_PERCENT},
        {NULL, NULL, VIEW_TEXT},
    };
    paper_say(p, STYLE_BOLD, "%s", view_str(o, "name", ""));
    paper_say(p, STYLE_PLAIN, ": %s", view_str(o, "description", ""));
    paper_end(p);
    view_facts(p, o, facts, 2);
    paper_end(p);
    paper_wrap(p, 0, view_str(o, "source", ""));
}

void view_profiles(struct paper *p, const json_t *r)
{
    static const struct view_column columns[] = {
        {"profile", "name", VIEW_TEXT, STYLE_NAME},
        {"memory GiB", "constraints.ram_gb", VIEW_RATE, STYLE_PLAIN},
        {"GPU GiB", "constraints.vram_gb", VIEW_RATE, STYLE_PLAIN},
        {"GB/s", "constraints.memory_bandwidth_gbs", VIEW_RATE, STYLE_PLAIN},
        {"description", "description", VIEW_TEXT, STYLE_PLAIN},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    const json_t *rows = json_object_get(r, "profiles");
    if (json_array_size(rows) == 1) {
        one_profile(p, json_array_get(rows, 0));
        return;
    }
    view_rows(p, rows, columns, 0);
    if (json_array_size(rows) == 0)
        view_line(p, "no profiles were found beside the program");
}

/* ---- files ---- */

/* "wrote tiny.gguf: 4.56 MiB, 4.97 bits per weight, in 0.9 s" */
static void wrote(struct paper *p, const json_t *r)
{
    char size[VIEW_TEXT_MAX], bits[VIEW_TEXT_MAX], time[VIEW_TEXT_MAX];
    view_format_at(r, "seconds", VIEW_SECONDS, time);
    bool dry = json_is_true(json_object_get(r, "dry_run"));
    paper_say(p, STYLE_PLAIN, dry ? "would write " : "wrote ");
    paper_say(p, STYLE_BOLD, "%s", view_str(r, "output", dry ? "a file" : ""));
    paper_say(p, STYLE_PLAIN, ": %s", view_format_at(r, "bytes", VIEW_SIZE, size));
    if (view_at(r, "bpw"))
        paper_say(p, STYLE_PLAIN, ", %s bits per weight",
                  view_format_at(r, "bpw", VIEW_BITS, bits));
    if (time[0])
        paper_say(p, STYLE_PLAIN, ", in %s", time);
    paper_end(p);
}

static void show_sha256(struct paper *p, const json_t *r)
{
    if (json_object_get(r, "sha256"))
        view_line(p, "sha256 %s", view_str(r, "sha256", ""));
}

void view_convert(struct paper *p, const json_t *r)
{
    wrote(p, r);
    view_line(p, "type %s, architecture %s", view_str(r, "type", ""),
              view_str(r, "model.architecture", ""));
    if (json_object_get(r, "kept"))
        view_line(p, "%.0f tensors stay in %s as they were stored", view_real(r, "kept.tensors", 0),
                  view_str(r, "kept.type", ""));
    show_sha256(p, r);
}

void view_quantize(struct paper *p, const json_t *r)
{
    static const struct view_column types[] = {
        {"type", "type", VIEW_TEXT, STYLE_NAME},
        {"tensors", "tensors", VIEW_INTEGER, STYLE_PLAIN},
        {"bytes", "bytes", VIEW_SIZE, STYLE_PLAIN},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    wrote(p, r);
    view_rows(p, json_object_get(r, "types"), types, 2);
    double fallbacks = view_real(r, "fallback_count", 0);
    const json_t *first = json_array_get(json_object_get(r, "fallbacks"), 0);
    if (fallbacks > 0)
        view_line(p,
                  "%.0f tensor%s fell back to another type, their rows do not fit the one asked: "
                  "%s %s instead of %s%s",
                  fallbacks, fallbacks > 1 ? "s" : "", view_str(first, "tensor", ""),
                  view_str(first, "type", ""), view_str(first, "asked", ""),
                  fallbacks > 1 ? ", ..." : "");
    show_sha256(p, r);
}

void view_calibrate(struct paper *p, const json_t *r)
{
    char time[VIEW_TEXT_MAX], tokens[VIEW_TEXT_MAX];
    view_line(p, "wrote %s: %.0f matrices from %s tokens of %s, in %s", view_str(r, "output", ""),
              view_real(r, "entries", 0), view_format_at(r, "tokens", VIEW_COUNT, tokens),
              view_str(r, "corpus", ""), view_format_at(r, "seconds", VIEW_SECONDS, time));
    if (json_is_true(json_object_get(r, "partial")))
        view_line(p, "some experts were never used by this text; more text would reach them");
    view_line(p, "use it: sintra quantize MODEL -o FILE --type TYPE --imatrix %s",
              view_str(r, "output", ""));
}

/* "0.00593 [0.00581, 0.00605]" */
static void value_with_interval(const json_t *score, const char *key, const char *interval,
                                enum view_kind kind, char text[static VIEW_TEXT_MAX])
{
    char value[VIEW_TEXT_MAX], low[VIEW_TEXT_MAX], high[VIEW_TEXT_MAX];
    const json_t *pair = json_object_get(score, interval);
    view_format_at(score, key, kind, value);
    view_format(kind, json_array_get(pair, 0), low);
    view_format(kind, json_array_get(pair, 1), high);
    if (low[0] && high[0])
        snprintf(text, VIEW_TEXT_MAX, "%.40s  [%.40s, %.40s]", value, low, high);
    else
        snprintf(text, VIEW_TEXT_MAX, "%.40s", value);
}

static void eval_row(struct table *t, const char *name, const char *value)
{
    if (!value[0])
        return;
    table_cell(t, STYLE_DIM, "%s", name);
    table_cell(t, STYLE_PLAIN, "%s", value);
}

void view_eval(struct paper *p, const json_t *r)
{
    static const struct {
        const char *name, *key, *interval;
        enum view_kind kind;
    } rows[] = {
        {"KL divergence, mean", "kld_mean", "kld_mean_ci95", VIEW_KL},
        {"  median", "kld_median", "", VIEW_KL},
        {"  90 %", "kld_p90", "", VIEW_KL},
        {"  95 %", "kld_p95", "", VIEW_KL},
        {"  99 %", "kld_p99", "", VIEW_KL},
        {"  99.9 %", "kld_p999", "", VIEW_KL},
        {"  largest", "kld_max", "", VIEW_KL},
        {"top-1 agreement", "top1", "top1_ci95", VIEW_PERCENT},
        {"perplexity", "ppl", "ppl_ci95", VIEW_RATE},
        {"  of the original", "ppl_base", "", VIEW_RATE},
    };
    const json_t *score = json_object_get(r, "score");
    char text[VIEW_TEXT_MAX], size[VIEW_TEXT_MAX], count[VIEW_TEXT_MAX];
    struct table *t = table_new();
    paper_say(p, STYLE_BOLD, "%s", view_str(r, "file", ""));
    paper_say(p, STYLE_PLAIN, " (%s)", view_format_at(r, "bytes", VIEW_SIZE, size));
    if (json_is_string(json_object_get(r, "reference")))
        paper_say(p, STYLE_PLAIN, " against %s", view_str(r, "reference", ""));
    paper_end(p);
    table_column(t, "", TABLE_LEFT);
    table_column(t, "", TABLE_LEFT);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        value_with_interval(score, rows[i].key, rows[i].interval, rows[i].kind, text);
        eval_row(t, rows[i].name, text);
    }
    table_print(t, p, 2);
    table_free(t);
    view_line(p, "on %s tokens in %.0f windows of %.0f from %s, in %s",
              view_format_at(score, "tokens", VIEW_COUNT, count), view_real(r, "windows", 0),
              view_real(r, "context", 0), view_str(r, "corpus", ""),
              view_format_at(r, "seconds", VIEW_SECONDS, text));
}

static void bench_speed(struct paper *p, const json_t *r, const char *name, const char *key,
                        const char *range, double tokens)
{
    char value[VIEW_TEXT_MAX], low[VIEW_TEXT_MAX], high[VIEW_TEXT_MAX];
    const json_t *pair = json_object_get(r, range);
    view_line(p, "  %-8s %8s tokens/s  [%s, %s]  %.0f tokens", name,
              view_format_at(r, key, VIEW_RATE, value),
              view_format(VIEW_RATE, json_array_get(pair, 0), low),
              view_format(VIEW_RATE, json_array_get(pair, 1), high), tokens);
}

void view_bench(struct paper *p, const json_t *r)
{
    static const struct view_fact facts[] = {
        {"first token", "first_token_ms", VIEW_MS},
        {"load", "load_ms", VIEW_MS},
        {"peak memory", "rss_peak_bytes", VIEW_SIZE},
        {"weights", "weights_bytes", VIEW_SIZE},
        {"KV cache", "kv_bytes", VIEW_SIZE},
        {"buffers", "compute_bytes", VIEW_SIZE},
        {"threads", "threads", VIEW_INTEGER},
        {"GPU layers", "gpu_layers", VIEW_INTEGER},
        {NULL, NULL, VIEW_TEXT},
    };
    char size[VIEW_TEXT_MAX];
    paper_say(p, STYLE_BOLD, "%s", view_str(r, "file", ""));
    paper_say(p, STYLE_PLAIN, " (%s, %s)", view_str(r, "description", ""),
              view_format_at(r, "bytes", VIEW_SIZE, size));
    paper_end(p);
    bench_speed(p, r, "prefill", "tps_prefill", "tps_prefill_range", view_real(r, "n_prompt", 0));
    bench_speed(p, r, "decode", "tps_decode", "tps_decode_range", view_real(r, "n_generate", 0));
    view_facts(p, r, facts, 2);
    view_line(p, "medians of %.0f repeats, with their range", view_real(r, "repeats", 0));
}

void view_version(struct paper *p, const json_t *r)
{
    view_line(p, "sintra %s", view_str(r, "sintra", ""));
    if (json_object_get(r, "libllama"))
        view_line(p, "libllama %s", view_str(r, "libllama", ""));
    else
        view_line(p, "libllama does not run here: %s", view_str(r, "libllama_error", ""));
    view_line(p, "built with %s", view_str(r, "compiler", ""));
}
