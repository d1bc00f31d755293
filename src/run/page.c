/* report.html: the result document as one page for browsers. Reads only the document, so it can be
 * made again later.
 *
 * The page is complete in itself: no script, nothing fetched, readable on a phone, in the dark and
 * on paper. It is well-formed XML as well, which the tests rely on. Whatever did not come from this
 * program's own words is escaped.
 */
#include "run/page_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "run/run_int.h"
#include "base/banned.h"

enum { PAGE_BYTES_MAX = 32 << 20 };

void page_text(struct buf *b, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '&')
            buf_adds(b, "&amp;");
        else if (c == '<')
            buf_adds(b, "&lt;");
        else if (c == '>')
            buf_adds(b, "&gt;");
        else if (c == '"')
            buf_adds(b, "&quot;");
        else if (c == '\'')
            buf_adds(b, "&#39;");
        else if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7f)
            buf_adds(b, "\xef\xbf\xbd");
        else
            buf_addc(b, (char)c);
    }
}

char *page_kld(double v, char text[static NUM_TEXT_MAX])
{
    double size = fabs(v) > 1e-9 ? floor(log10(fabs(v))) : 0;
    int digits = size < 0 ? 2 - (int)size : 2;
    if (isfinite(v))
        snprintf(text, NUM_TEXT_MAX, "%.*f", digits > 9 ? 9 : digits, v);
    else
        snprintf(text, NUM_TEXT_MAX, "–");
    return text;
}

static double number(const json_t *o, const char *key)
{
    return json_opt_real(o, key, NAN);
}

static const char *size_of(const json_t *o, char text[static NUM_TEXT_MAX])
{
    int64_t bytes = json_opt_i64(o, "bytes", 0);
    return num_format_size(bytes > 0 ? (uint64_t)bytes : 0, text);
}

static bool interval_of(const json_t *o, const char *key, double *low, double *high)
{
    const json_t *ci = json_object_get(o, key);
    *low = json_number_value(json_array_get(ci, 0));
    *high = json_number_value(json_array_get(ci, 1));
    return json_is_number(json_array_get(ci, 0)) && json_is_number(json_array_get(ci, 1));
}

/* ---- the head ---- */

static void add_status(struct buf *b, const json_t *report)
{
    bool met = strcmp(json_opt_str(report, "status", ""), "met") == 0;
    buf_adds(b, "<p class=\"lead\">");
    bool any = report_targets(b, report);
    if (!any)
        buf_adds(b, "No target was set: the best trade of size against quality");
    if (any)
        buf_addf(b, " <span class=\"badge %s\">%s</span>", met ? "met" : "missed",
                 met ? "met" : "not met");
    buf_adds(b, "</p>\n");
    if (!met) {
        buf_adds(b, "<p class=\"missed\">");
        page_text(b, json_opt_str(report, "reason", "no reason is known"));
        buf_adds(b, ".</p>\n");
    }
}

static void add_head(struct buf *b, const json_t *report)
{
    const json_t *model = json_object_get(report, "model");
    const char *name = json_opt_str(model, "name", "model");
    char count[NUM_TEXT_MAX], size[NUM_TEXT_MAX];
    buf_adds(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
                "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n"
                "<meta name=\"generator\" content=\"Sintra\"/>\n<title>");
    page_text(b, name);
    buf_addf(b, ", compressed</title>\n<style>%s</style></head>\n<body><main>\n", page_style);
    buf_adds(b, "<header><p class=\"over\">Compressed with Sintra</p><h1>");
    page_text(b, name);
    buf_adds(b, "</h1>\n");
    if (json_opt_bool(report, "mock", false))
        buf_adds(b, "<p class=\"mock\">Simulated (--mock): every number below is invented.</p>\n");
    buf_addf(b, "<p class=\"lead\">%s parameters, architecture ",
             num_format_count((uint64_t)json_opt_i64(model, "parameters", 0), count));
    page_text(b, json_opt_str(model, "architecture", "?"));
    buf_addf(b, ", %s as it came.</p>\n", size_of(model, size));
    add_status(b, report);
    buf_adds(b, "</header>\n");
}

/* ---- the delivered file in a few numbers ---- */

static void card(struct buf *b, const char *value, const char *first, const char *second)
{
    buf_addf(b, "<div><b>%s</b><span>%s</span><span>%s</span></div>\n", value, first, second);
}

static void add_cards(struct buf *b, const json_t *report)
{
    const json_t *best = json_object_get(report, "best"), *s = json_object_get(best, "score");
    double original = number(json_object_get(report, "model"), "bytes"), low, high;
    char value[64], first[96], second[96] = "", kld[NUM_TEXT_MAX], to[NUM_TEXT_MAX];
    buf_adds(b, "<div class=\"cards\">\n");
    snprintf(first, sizeof(first), "%.2f bits per weight", number(best, "bpw"));
    if (original > 0)
        snprintf(second, sizeof(second), "%.1f times smaller",
                 original / fmax(number(best, "bytes"), 1));
    card(b, size_of(best, value), first, second);
    second[0] = 0;
    if (interval_of(s, "kld_mean_ci95", &low, &high))
        snprintf(second, sizeof(second), "95 %%: %s to %s", page_kld(low, kld), page_kld(high, to));
    card(b, page_kld(number(s, "kld_mean"), value), "KL divergence, nats/token", second);
    second[0] = 0;
    if (interval_of(s, "top1_ci95", &low, &high))
        snprintf(second, sizeof(second), "95 %%: %.1f to %.1f %%", low * 100, high * 100);
    snprintf(value, sizeof(value), "%.1f %%", number(s, "top1") * 100);
    card(b, value, "same first choice of token", second);
    if (number(s, "ppl") > 0) {
        snprintf(value, sizeof(value), "%.2f", number(s, "ppl"));
        snprintf(second, sizeof(second), "original %.2f", number(s, "ppl_base"));
        card(b, value, "perplexity", second);
    }
    if (number(s, "tps_decode") > 0) {
        bool predicted = json_array_size(json_object_get(best, "predicted")) > 0;
        snprintf(value, sizeof(value), "%s%.4g", predicted ? "~" : "", number(s, "tps_decode"));
        card(b, value, "tokens/s, generating", predicted ? "predicted" : "measured on this file");
    }
    buf_adds(b, "</div>\n");
}

static void bar(struct buf *b, const char *name, double value, double longest, const char *kind)
{
    char text[NUM_TEXT_MAX];
    buf_adds(b, "<span>");
    page_text(b, name);
    buf_addf(b, "</span><span><i class=\"%s\" style=\"width:%.1f%%\"></i></span><span>%s</span>\n",
             kind, 100 * value / longest, page_kld(value, text));
}

/* The delivered file beside the best stock mix within the same limits. */
static void add_comparison(struct buf *b, const json_t *report)
{
    const json_t *p = json_object_get(report, "paired");
    double ratio = number(p, "kld_ratio"), low, high;
    double ours = number(json_object_get(json_object_get(report, "best"), "score"), "kld_mean");
    const char *against = json_opt_str(p, "against", "?");
    char size[NUM_TEXT_MAX], mean[NUM_TEXT_MAX], from[NUM_TEXT_MAX], to[NUM_TEXT_MAX];
    if (!(ratio > 0) || !(ours > 0) || !interval_of(p, "kld_difference_ci95", &low, &high))
        return;
    double theirs = ours / ratio, longest = fmax(ours, theirs);
    num_format_size((uint64_t)json_opt_i64(p, "against_bytes", 0), size);
    buf_addf(b, "<section><p class=\"ratio\"><b>%.2f×</b> the KL divergence of ", ratio);
    page_text(b, against);
    buf_addf(b, ", the best stock mix %s (%s)</p>\n<div class=\"bars\">\n",
             report_has_targets(report) ? "within the same limits" : "that is no larger", size);
    bar(b, against, theirs, longest, "stock");
    bar(b, "this file", ours, longest, "best");
    buf_addf(b,
             "</div><p class=\"small\">Paired difference %s, 95 %% interval %s to %s, over %lld "
             "windows of text that the search never saw%s.</p></section>\n",
             page_kld(number(p, "kld_difference"), mean), page_kld(low, from), page_kld(high, to),
             (long long)json_opt_i64(p, "windows", 0),
             json_opt_bool(p, "reliable", false) ? "" : ": no reliable difference");
}

/* ---- tables ---- */

static void interval_cell(struct buf *b, const json_t *s, const char *key, bool kld)
{
    double low, high;
    char from[NUM_TEXT_MAX], to[NUM_TEXT_MAX];
    if (!interval_of(s, key, &low, &high))
        return;
    if (kld)
        buf_addf(b, "<small>%s–%s</small>", page_kld(low, from), page_kld(high, to));
    else
        buf_addf(b, "<small>%.1f–%.1f</small>", low * 100, high * 100);
}

static void add_result(struct buf *b, const json_t *c, const char *name, bool best)
{
    const json_t *s = json_object_get(c, "score");
    bool search = strcmp(json_opt_str(c, "measured_on", ""), "search") == 0;
    char size[NUM_TEXT_MAX], kld[NUM_TEXT_MAX], label[CACHE_LABEL_MAX];
    buf_addf(b, "<tr%s><td>", best ? " class=\"best\"" : "");
    page_text(b, cache_label(c, name, label));
    buf_addf(b, "%s%s</td><td>%s</td><td>%.2f</td><td>%s", best ? "<small>delivered</small>" : "",
             search ? "<small>search text</small>" : "", size_of(c, size), number(c, "bpw"),
             page_kld(number(s, "kld_mean"), kld));
    interval_cell(b, s, "kld_mean_ci95", true);
    buf_addf(b, "</td><td>%.1f %%", number(s, "top1") * 100);
    interval_cell(b, s, "top1_ci95", false);
    buf_adds(b, "</td><td>");
    if (number(s, "ppl") > 0)
        buf_addf(b, "%.2f", number(s, "ppl"));
    buf_adds(b, "</td><td>");
    if (number(s, "tps_decode") > 0)
        buf_addf(b, "%s%.4g", json_array_size(json_object_get(c, "predicted")) > 0 ? "~" : "",
                 number(s, "tps_decode"));
    buf_adds(b, "</td></tr>\n");
}

static bool same_recipe(const json_t *a, const json_t *b)
{
    return json_equal(json_object_get(a, "recipe"), json_object_get(b, "recipe")) == 1;
}

static void add_results(struct buf *b, const json_t *report)
{
    const json_t *best = json_object_get(report, "best"), *c;
    size_t i;
    buf_adds(b, "<section><h2>Results</h2><div class=\"scroll\"><table class=\"list\"><thead><tr>"
                "<th scope=\"col\">candidate</th><th scope=\"col\">size</th>"
                "<th scope=\"col\">bits/weight</th><th scope=\"col\">KL divergence</th>"
                "<th scope=\"col\">top-1</th><th scope=\"col\">perplexity</th>"
                "<th scope=\"col\">tokens/s</th></tr></thead><tbody>\n");
    const char *name = json_opt_str(best, "name", NULL);
    add_result(b, best, name ? name : "composed", true);
    json_array_foreach(json_object_get(report, "stock"), i, c)
    {
        if (!same_recipe(c, best))
            add_result(b, c, json_opt_str(c, "name", "stock"), false);
    }
    json_array_foreach(json_object_get(report, "front"), i, c)
    {
        if (!same_recipe(c, best) && !json_opt_bool(c, "stock", false))
            add_result(b, c, "composed", false);
    }
    buf_adds(b, "</tbody></table></div><p class=\"small\">Small figures are 95 % intervals, "
                "clustered by window of text. Scores are on held-out text; those marked \"search "
                "text\" were measured in the search alone. A tilde marks a prediction.</p>"
                "</section>\n");
}

static void add_trial(struct buf *b, const json_t *t, size_t number_of)
{
    char size[NUM_TEXT_MAX], kld[NUM_TEXT_MAX];
    bool best = strcmp(json_opt_str(t, "outcome", ""), "delivered") == 0;
    buf_addf(b, "<tr%s><td>%zu</td><td class=\"l\">", best ? " class=\"best\"" : "", number_of);
    page_text(b, json_opt_str(t, "label", "?"));
    buf_addf(b, "</td><td>%s</td><td>%s</td><td class=\"l w\">", size_of(t, size),
             page_kld(number(t, "kld_mean"), kld));
    page_text(b, json_opt_str(t, "why", "–"));
    buf_adds(b, "</td><td class=\"l w\">");
    page_text(b, json_opt_str(t, "reason", "–"));
    buf_adds(b, "</td></tr>\n");
}

static void add_tried(struct buf *b, const json_t *report)
{
    const json_t *list = json_object_get(report, "tried"), *t;
    size_t i;
    if (json_array_size(list) == 0)
        return;
    buf_adds(b, "<section><h2>What was tried, and what became of it</h2><div class=\"scroll\">"
                "<table class=\"list\"><thead><tr><th scope=\"col\">#</th>"
                "<th scope=\"col\" class=\"l\">candidate</th><th scope=\"col\">size</th>"
                "<th scope=\"col\">KL, search text</th><th scope=\"col\" class=\"l\">outcome</th>"
                "<th scope=\"col\" class=\"l\">why tried</th></tr></thead><tbody>\n");
    json_array_foreach(list, i, t)
    {
        add_trial(b, t, i + 1);
    }
    buf_adds(b, "</tbody></table></div></section>\n");
}

/* ---- the rest ---- */

static void add_run_it(struct buf *b, const json_t *report)
{
    const json_t *best = json_object_get(report, "best"), *recipe = json_object_get(best, "recipe");
    const char *file = json_opt_str(best, "file", NULL);
    char options[CACHE_LABEL_MAX], ollama[CACHE_SENTENCE_MAX];
    if (!file)
        return;
    cache_options(recipe, options);
    cache_ollama_text(recipe, ollama);
    buf_adds(b, "<section><h2>Run it</h2><p>llama.cpp:</p><pre>llama-cli -m ");
    page_text(b, file);
    buf_addf(b, "%s\nllama-server -m ", options);
    page_text(b, file);
    buf_addf(b, "%s</pre><p>Ollama:</p><pre>echo FROM ./", options);
    page_text(b, file);
    buf_adds(b, " &gt; Modelfile\nollama create my-model -f Modelfile\nollama run my-model"
                "</pre>");
    if (ollama[0])
        buf_addf(b, "<p>%s</p>", ollama);
    buf_adds(b, "<p>Make it again, byte for byte, and check the files:</p><pre>sintra "
                "quantize MODEL -o again.gguf --recipe recipe.json --imatrix imatrix.gguf\n"
                "sha256sum -c SHA256SUMS</pre>");
    if (report_is_fed(report))
        buf_addf(b, "<p>%s</p>", report_fed_text);
    buf_adds(b, "</section>\n");
}

static void add_notes(struct buf *b, const json_t *report)
{
    const json_t *notes = json_object_get(report, "notes"), *n;
    size_t i;
    json_array_foreach(notes, i, n)
    {
        buf_adds(b, i == 0 ? "<ul class=\"note\">" : "");
        buf_adds(b, "<li>");
        page_text(b, json_is_string(n) ? json_string_value(n) : "");
        buf_adds(b, "</li>\n");
    }
    buf_adds(b, json_array_size(notes) > 0 ? "</ul>\n" : "");
}

static void add_how(struct buf *b, const json_t *report)
{
    const json_t *w = json_object_get(report, "windows"),
                 *machine = json_object_get(report, "hardware");
    char seconds[NUM_TEXT_MAX];
    buf_addf(b,
             "<section><h2>How it was found</h2><p>%lld candidates were made and measured in "
             "%s; text: ",
             (long long)json_opt_i64(report, "trials", 0),
             num_format_seconds(json_opt_real(report, "seconds", 0), seconds));
    const char *corpus = json_opt_str(report, "corpus", "?");
    page_text(b, strcmp(corpus, "self") == 0 ? "sampled by the model itself" : corpus);
    buf_adds(b, ".");
    if (json_opt_i64(w, "n_ctx", 0) > 0)
        buf_addf(b,
                 " Windows of %lld tokens: %lld to calibrate, %lld to search, %lld held out for "
                 "the scores; no two sets share a window.",
                 (long long)json_opt_i64(w, "n_ctx", 0),
                 (long long)json_opt_i64(json_object_get(w, "calibration"), "count", 0),
                 (long long)json_opt_i64(json_object_get(w, "search"), "count", 0),
                 (long long)json_opt_i64(json_object_get(w, "final"), "count", 0));
    buf_adds(b, "</p><p>KL divergence is that of the original's next-token distribution from the "
                "candidate's, in nats per token; top-1 is how often both put the same token "
                "first.");
    if (json_opt_str(machine, "cpu", NULL)) {
        buf_adds(b, " Machine: ");
        page_text(b, json_opt_str(machine, "cpu", "?"));
        buf_adds(b, ".");
    }
    buf_adds(b, "</p>\n");
    add_notes(b, report);
    buf_adds(b, "</section>\n");
}

static void add_foot(struct buf *b, const json_t *report)
{
    const json_t *best = json_object_get(report, "best");
    buf_adds(b, "<footer>");
    if (json_opt_str(report, "run", NULL)) {
        buf_adds(b, "Run ");
        page_text(b, json_opt_str(report, "run", ""));
        buf_adds(b, ", ");
        page_text(b, json_opt_str(report, "created", ""));
        buf_adds(b, ". ");
    }
    if (json_opt_str(best, "sha256", NULL)) {
        buf_adds(b, "SHA-256 of the file: ");
        page_text(b, json_opt_str(best, "sha256", ""));
    }
    buf_adds(b, "</footer>\n</main></body></html>\n");
}

char *run_report_html(const json_t *report)
{
    struct buf b;
    buf_init(&b, PAGE_BYTES_MAX);
    add_head(&b, report);
    if (json_is_object(json_object_get(report, "best"))) {
        add_cards(&b, report);
        add_comparison(&b, report);
        page_plot(&b, report);
        add_results(&b, report);
        page_heat(&b, report);
        add_tried(&b, report);
        add_run_it(&b, report);
        page_cache(&b, report);
        add_how(&b, report);
    }
    add_foot(&b, report);
    return buf_take(&b);
}
