/* report.md: the result document for people. Reads only the document, so it can be made again
 * later.
 *
 * Numbers that are not there are a dash, predicted ones carry a tilde. Tables are Markdown that
 * reads well as plain text too.
 */
#include "run/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "run/page_int.h"
#include "base/banned.h"

enum { MARKDOWN_MAX = 8 << 20, CELL_MAX = 64 };

void markdown_text(struct buf *b, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == 0x7f)
            buf_addc(b, ' ');
        else if (c == '<')
            buf_adds(b, "&lt;");
        else if (c == '&')
            buf_adds(b, "&amp;");
        else {
            if (strchr("\\`*[]|", c))
                buf_addc(b, '\\');
            buf_addc(b, (char)c);
        }
    }
}

static double real_of(const json_t *o, const char *key)
{
    return json_opt_real(o, key, NAN);
}

/* A number as text, "-" when it is not there. */
static const char *cell(char text[static CELL_MAX], const char *format, double value)
{
    if (!isfinite(value) || !(value > 0))
        snprintf(text, CELL_MAX, "-");
    else
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, CELL_MAX, format, value);
#pragma GCC diagnostic pop
    return text;
}

static const char *interval(char text[static CELL_MAX], const json_t *score, const char *key,
                            double scale, int digits)
{
    const json_t *ci = json_object_get(score, key);
    double low = json_number_value(json_array_get(ci, 0)),
           high = json_number_value(json_array_get(ci, 1));
    if (json_array_size(ci) == 2)
        snprintf(text, CELL_MAX, " ± %.*f", digits, (high - low) / 2 * scale);
    else
        text[0] = 0;
    return text;
}

static bool predicts(const json_t *candidate)
{
    return json_array_size(json_object_get(candidate, "predicted")) > 0;
}

static void add_row(struct buf *b, const json_t *c, const char *label, bool delivered)
{
    const json_t *s = json_object_get(c, "score");
    char size[NUM_TEXT_MAX], kld[CELL_MAX], ci[CELL_MAX], top1[CELL_MAX], top_ci[CELL_MAX];
    char ppl[CELL_MAX], tps[CELL_MAX], whole[CACHE_LABEL_MAX];
    bool search = strcmp(json_opt_str(c, "measured_on", ""), "search") == 0;
    buf_adds(b, delivered ? "| **" : "| ");
    markdown_text(b, cache_label(c, label, whole));
    buf_addf(b, "%s%s | %s | %.3f | %s%s | %s%s | %s | %s%s |\n", delivered ? ", delivered**" : "",
             search ? " (search text)" : "",
             num_format_size((uint64_t)json_opt_i64(c, "bytes", 0), size), real_of(c, "bpw"),
             cell(kld, "%.5f", real_of(s, "kld_mean")), interval(ci, s, "kld_mean_ci95", 1, 5),
             cell(top1, "%.2f", real_of(s, "top1") * 100), interval(top_ci, s, "top1_ci95", 100, 2),
             cell(ppl, "%.3f", real_of(s, "ppl")), predicts(c) ? "~" : "",
             cell(tps, "%.1f", real_of(s, "tps_decode")));
}

static bool same_recipe(const json_t *a, const json_t *b)
{
    return json_equal(json_object_get(a, "recipe"), json_object_get(b, "recipe")) == 1;
}

static void add_table(struct buf *b, const json_t *report)
{
    const json_t *best = json_object_get(report, "best"), *list, *c;
    size_t i;
    buf_adds(b,
             "| candidate | size | bits/weight | KL divergence | top-1 agreement, % | perplexity "
             "| tokens/s |\n|---|---|---|---|---|---|---|\n");
    const char *name = json_opt_str(best, "name", NULL);
    add_row(b, best, name ? name : "composed", true);
    list = json_object_get(report, "stock");
    json_array_foreach(list, i, c)
    {
        if (!same_recipe(c, best))
            add_row(b, c, json_opt_str(c, "name", "stock"), false);
    }
    list = json_object_get(report, "front");
    json_array_foreach(list, i, c)
    {
        if (!same_recipe(c, best) && !json_opt_bool(c, "stock", false))
            add_row(b, c, "composed", false);
    }
    double base = real_of(json_object_get(best, "score"), "ppl_base");
    if (base > 0)
        buf_addf(b, "\nPerplexity of the original on the same text: %.3f.\n", base);
}

bool report_has_targets(const json_t *report)
{
    return json_object_size(json_object_get(report, "targets")) > 1; /* beside context */
}

static void add_comparison(struct buf *b, const json_t *report)
{
    const json_t *p = json_object_get(report, "paired");
    const json_t *ci = json_object_get(p, "kld_difference_ci95");
    if (!json_is_object(p))
        return;
    double low = json_number_value(json_array_get(ci, 0)),
           high = json_number_value(json_array_get(ci, 1));
    buf_addf(b, "\nAgainst the best stock mix that %s, ",
             report_has_targets(report) ? "meets the same targets" : "is no larger");
    markdown_text(b, json_opt_str(p, "against", "?"));
    if (json_opt_str(p, "against_kv", NULL))
        buf_addf(b, " with a KV cache of %s", json_opt_str(p, "against_kv", ""));
    buf_addf(b,
             ": KL divergence %.2fx, difference %.5f (95 %% interval %.5f to %.5f over %lld "
             "held-out windows)%s.\n",
             real_of(p, "kld_ratio"), real_of(p, "kld_difference"), low, high,
             (long long)json_opt_i64(p, "windows", 0),
             json_opt_bool(p, "reliable", false) ? "" : ", which noise alone could explain");
}

const char report_fed_text[] =
    "Its rounding knows how the inputs of each matrix go together. Those factors are not in this "
    "folder: the machine that made it has them in its cache, elsewhere --factors FILE names them.";

bool report_is_fed(const json_t *report)
{
    const json_t *recipe = json_object_get(json_object_get(report, "best"), "recipe");
    return json_is_string(json_object_get(recipe, "feedback"));
}

static void add_run_it(struct buf *b, const json_t *report)
{
    const json_t *best = json_object_get(report, "best"), *recipe = json_object_get(best, "recipe");
    const char *file = json_opt_str(best, "file", NULL);
    char options[CACHE_LABEL_MAX], ollama[CACHE_SENTENCE_MAX];
    if (!file)
        return;
    cache_options(recipe, options);
    cache_ollama_text(recipe, ollama);
    buf_addf(
        b,
        "\n## Run it\n\n"
        "llama.cpp:\n\n    llama-cli -m %s%s\n    llama-server -m %s%s\n\n"
        "Ollama:\n\n    echo FROM ./%s > Modelfile && ollama create my-model -f Modelfile "
        "&& ollama run my-model\n\n"
        "%s%s"
        "Make it again, byte for byte:\n\n"
        "    sintra quantize MODEL -o again.gguf --recipe recipe.json --imatrix imatrix.gguf\n\n"
        "%s%sCheck the files: `sha256sum -c SHA256SUMS`\n",
        file, options, file, options, file, ollama, ollama[0] ? "\n\n" : "",
        report_is_fed(report) ? report_fed_text : "", report_is_fed(report) ? "\n\n" : "");
}

static void add_sentence(struct buf *b, const char *before, const char *text, const char *after)
{
    buf_adds(b, before);
    markdown_text(b, text);
    buf_adds(b, after);
}

static const struct {
    const char *key, *words, *after;
    bool size;
    double scale;
} targets[] = {
    {"size_max", "a file of at most ", "", true, 1},
    {"bpw_max", "at most ", " bits per weight", false, 1},
    {"memory_max", "memory of at most ", "", true, 1},
    {"tps_min", "at least ", " tokens/s", false, 1},
    {"latency_ms_max", "the first token within ", " ms", false, 1},
    {"accuracy_min", "top-1 agreement of at least ", " %", false, 100},
};

bool report_targets(struct buf *b, const json_t *report)
{
    const json_t *set = json_object_get(report, "targets");
    bool any = false;
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        double v = json_opt_real(set, targets[i].key, NAN);
        char size[NUM_TEXT_MAX];
        if (!(v > 0))
            continue;
        buf_addf(b, "%s%s", any ? ", " : "Asked for ", targets[i].words);
        if (targets[i].size)
            buf_adds(b, num_format_size((uint64_t)v, size));
        else
            buf_addf(b, "%.6g", v * targets[i].scale);
        buf_adds(b, targets[i].after);
        any = true;
    }
    return any;
}

static void add_targets(struct buf *b, const json_t *report)
{
    bool any = report_targets(b, report);
    if (any)
        buf_adds(b, ". ");
    bool met = strcmp(json_opt_str(report, "status", ""), "met") == 0;
    if (any && met)
        buf_adds(b, "Met.\n");
    else if (!met)
        add_sentence(b, "Not met: ", json_opt_str(report, "reason", "?"), ".\n");
}

static void add_notes(struct buf *b, const json_t *report)
{
    const json_t *notes = json_object_get(report, "notes"), *n;
    size_t i;
    json_array_foreach(notes, i, n)
    {
        buf_adds(b, i == 0 ? "\n## Notes\n\n" : "");
        add_sentence(b, "- ", json_is_string(n) ? json_string_value(n) : "", "\n");
    }
}

static void add_how(struct buf *b, const json_t *report)
{
    const json_t *w = json_object_get(report, "windows");
    char seconds[NUM_TEXT_MAX];
    buf_addf(b, "\n## How it was found\n\n%lld candidates were made and measured in %s",
             (long long)json_opt_i64(report, "trials", 0),
             num_format_seconds(json_opt_real(report, "seconds", 0), seconds));
    add_sentence(b, "; corpus: ", json_opt_str(report, "corpus", "?"), ".\n");
    if (json_opt_i64(w, "n_ctx", 0) > 0)
        buf_addf(b,
                 "Windows of %lld tokens: %lld to calibrate, %lld to search, %lld held out for the "
                 "scores above; no two sets share a window.\n",
                 (long long)json_opt_i64(w, "n_ctx", 0),
                 (long long)json_opt_i64(json_object_get(w, "calibration"), "count", 0),
                 (long long)json_opt_i64(json_object_get(w, "search"), "count", 0),
                 (long long)json_opt_i64(json_object_get(w, "final"), "count", 0));
    buf_adds(b,
             "KL divergence is that of the original's next-token distribution from the "
             "candidate's, in nats per token; ± is half of a 95 % interval clustered by window. A "
             "tilde marks a prediction.\n");
}

/* Why each candidate was tried and why it is not the delivered one. */
static void add_tried(struct buf *b, const json_t *report)
{
    const json_t *list = json_object_get(report, "tried"), *t;
    size_t i;
    char size[NUM_TEXT_MAX], kld[NUM_TEXT_MAX];
    json_array_foreach(list, i, t)
    {
        buf_adds(b, i > 0 ? ""
                          : "\n## What was tried\n\n| # | candidate | size | KL, search text | "
                            "outcome | why tried |\n|---|---|---|---|---|---|\n");
        buf_addf(b, "| %zu", i + 1);
        add_sentence(b, " | ", json_opt_str(t, "label", "?"), " | ");
        buf_addf(b, "%s | %s", num_format_size((uint64_t)json_opt_i64(t, "bytes", 0), size),
                 page_kld(real_of(t, "kld_mean"), kld));
        add_sentence(b, " | ", json_opt_str(t, "why", "-"), " | ");
        add_sentence(b, "", json_opt_str(t, "reason", "-"), " |\n");
    }
}

char *run_report_markdown(const json_t *report)
{
    struct buf b;
    const json_t *model = json_object_get(report, "model");
    char count[NUM_TEXT_MAX], size[NUM_TEXT_MAX];
    buf_init(&b, MARKDOWN_MAX);
    add_sentence(&b, "# ", json_opt_str(model, "name", "model"), ", compressed\n\n");
    if (json_opt_bool(report, "mock", false))
        buf_adds(&b, "**Simulated (`--mock`): every number below is invented.**\n\n");
    buf_addf(&b, "%s parameters",
             num_format_count((uint64_t)json_opt_i64(model, "parameters", 0), count));
    add_sentence(&b, ", architecture ", json_opt_str(model, "architecture", "?"), "");
    buf_addf(&b, ", %s as it came.\n\n",
             num_format_size((uint64_t)json_opt_i64(model, "bytes", 0), size));
    if (!json_is_object(json_object_get(report, "best"))) {
        add_sentence(&b, "Nothing was made: ", json_opt_str(report, "reason", "?"), ".\n");
        return buf_take(&b);
    }
    add_targets(&b, report);
    buf_adds(&b, "\n");
    add_table(&b, report);
    add_comparison(&b, report);
    add_run_it(&b, report);
    markdown_cache(&b, report);
    add_how(&b, report);
    add_tried(&b, report);
    markdown_heat(&b, report);
    add_notes(&b, report);
    return buf_take(&b);
}
