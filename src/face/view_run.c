/* Views of runs: optimize, plan, runs, report, compare, history, stats.
 *
 * The result of `optimize` is the page that a new user meets first: one table with the best stock
 * mix and ours, the difference in words with its uncertainty, where the files are and how to run
 * them.
 */
#include <limits.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/num.h"
#include "face/view_int.h"

#include "base/banned.h"

/* ---- targets ---- */

static const struct {
    const char *key, *words;
    enum view_kind kind;
} targets[] = {
    {"size_max", "file of at most %s", VIEW_SIZE},
    {"bpw_max", "at most %s bits per weight", VIEW_GIVEN},
    {"memory_max", "memory of at most %s", VIEW_SIZE},
    {"tps_min", "at least %s tokens/s", VIEW_GIVEN},
    {"latency_ms_max", "first token within %s", VIEW_MS},
    {"accuracy_min", "top-1 agreement of at least %s", VIEW_SHARE},
};

/* "at most 4.5 bits per weight, at least 10 tokens/s"; "" without targets. xfree. */
static char *targets_sentence(const json_t *t)
{
    struct arena a = {0};
    char *text = arena_strdup(&a, "");
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        char value[VIEW_TEXT_MAX];
        if (!(view_real(t, targets[i].key, 0) > 0))
            continue;
        view_format_at(t, targets[i].key, targets[i].kind, value);
        const char *mark = strstr(targets[i].words, "%s");
        text = arena_printf(&a, "%s%s%.*s%s%s", text, text[0] ? ", " : "",
                            (int)(mark - targets[i].words), targets[i].words, value, mark + 2);
    }
    char *out = xstrdup(text);
    arena_release(&a);
    return out;
}

/* ---- candidates ---- */

/* The stock mix that it is, or ours. */
static const char *candidate_name(const json_t *o)
{
    return view_str(o, "name", "sintra");
}

/* Is the speed of another machine, reckoned and not measured? */
static bool predicted(const json_t *o)
{
    return json_array_size(json_object_get(o, "predicted")) > 0;
}

static struct table *candidate_table(void)
{
    static const struct {
        const char *title;
        enum table_align align;
    } columns[] = {{"", TABLE_LEFT},
                   {"size", TABLE_RIGHT},
                   {"bpw", TABLE_RIGHT},
                   {"KL", TABLE_RIGHT},
                   {"95 %", TABLE_LEFT},
                   {"top-1", TABLE_RIGHT},
                   {"perplexity", TABLE_RIGHT},
                   {"tokens/s", TABLE_RIGHT}};
    struct table *t = table_new();
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
        table_column(t, columns[i].title, columns[i].align);
    return t;
}

static void candidate_cells(struct table *t, const json_t *o, const char *name, enum style style)
{
    const json_t *score = json_object_get(o, "score");
    const json_t *pair = json_object_get(score, "kld_mean_ci95");
    char text[VIEW_TEXT_MAX], low[VIEW_TEXT_MAX], high[VIEW_TEXT_MAX];
    table_cell(t, style, "%s", name);
    table_cell(t, style, "%s", view_format_at(o, "bytes", VIEW_SIZE, text));
    table_cell(t, style, "%s", view_format_at(o, "bpw", VIEW_BITS, text));
    table_cell(t, style, "%s", view_format_at(score, "kld_mean", VIEW_KL, text));
    view_format(VIEW_KL, json_array_get(pair, 0), low);
    view_format(VIEW_KL, json_array_get(pair, 1), high);
    if (low[0] && high[0])
        table_cell(t, STYLE_DIM, "[%s, %s]", low, high);
    else
        table_cell(t, STYLE_DIM, "%s", "");
    table_cell(t, style, "%s", view_format_at(score, "top1", VIEW_PERCENT, text));
    table_cell(t, style, "%s", view_format_at(score, "ppl", VIEW_RATE, text));
    table_cell(t, style, "%s%s", predicted(o) ? "~" : "",
               view_format_at(score, "tps_decode", VIEW_RATE, text));
}

static void original_cells(struct table *t, const json_t *r)
{
    char text[VIEW_TEXT_MAX];
    double bytes = view_real(r, "model.bytes", 0), parameters = view_real(r, "model.parameters", 0);
    table_cell(t, STYLE_DIM, "original");
    table_cell(t, STYLE_DIM, "%s", view_format_at(r, "model.bytes", VIEW_SIZE, text));
    if (parameters > 0)
        table_cell(t, STYLE_DIM, "%.2f", bytes * 8 / parameters);
    else
        table_cell(t, STYLE_DIM, "%s", "");
    table_cell(t, STYLE_DIM, "%s", "");
    table_cell(t, STYLE_DIM, "%s", "");
    table_cell(t, STYLE_DIM, "%s", "");
    table_cell(t, STYLE_DIM, "%s", view_format_at(r, "best.score.ppl_base", VIEW_RATE, text));
    table_cell(t, STYLE_DIM, "%s", "");
}

/* The stock mix that the winner was compared with, or NULL. */
static const json_t *compared_stock(const json_t *r)
{
    const char *name = view_str(r, "paired.against", "");
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(r, "stock"), i, o)
    {
        if (strcmp(view_str(o, "name", "?"), name) == 0)
            return o;
    }
    return NULL;
}

static bool any_target(const json_t *r)
{
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
        if (view_real(json_object_get(r, "targets"), targets[i].key, 0) > 0)
            return true;
    return false;
}

static bool same_file(const json_t *a, const json_t *b)
{
    return json_equal(json_object_get(a, "recipe"), json_object_get(b, "recipe")) == 1;
}

static bool on_front(const json_t *r, const json_t *candidate)
{
    bool found = false;
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(r, "front"), i, o)
    {
        found = found || same_file(o, candidate);
    }
    return found;
}

/* Without a target the front is the result: all of it, smallest first. */
static void front_rows(struct table *t, const json_t *r, const json_t *stock)
{
    const json_t *best = json_object_get(r, "best");
    size_t i;
    json_t *o;
    if (stock && !on_front(r, stock))
        candidate_cells(t, stock, candidate_name(stock), STYLE_PLAIN);
    json_array_foreach(json_object_get(r, "front"), i, o)
    {
        if (same_file(o, best))
            candidate_cells(t, best, "delivered", STYLE_BOLD);
        else
            candidate_cells(t, o, candidate_name(o), STYLE_PLAIN);
    }
    if (!on_front(r, best))
        candidate_cells(t, best, "delivered", STYLE_BOLD);
}

static void result_rows(struct table *t, const json_t *r)
{
    const json_t *best = json_object_get(r, "best"), *stock = compared_stock(r);
    original_cells(t, r);
    if (!any_target(r)) {
        front_rows(t, r, stock);
        return;
    }
    if (stock)
        candidate_cells(t, stock, candidate_name(stock), STYLE_PLAIN);
    candidate_cells(t, best, candidate_name(best), STYLE_BOLD);
}

/* Where the other members of the front are, when the front is the result. */
static void say_front(struct paper *p, const json_t *r)
{
    if (!any_target(r) && json_array_size(json_object_get(r, "front")) > 1)
        view_line(p, "delivered is the knee of the front; front/ has a recipe for each of the "
                     "others, for 'sintra quantize --recipe'");
}

/* ---- optimize ---- */

static void say_status(struct paper *p, const json_t *r)
{
    const char *status = view_str(r, "status", "");
    char *wanted = targets_sentence(json_object_get(r, "targets"));
    char size[VIEW_TEXT_MAX], count[VIEW_TEXT_MAX];
    paper_say(p, STYLE_BOLD, "%s", view_str(r, "model.name", "model"));
    paper_say(p, STYLE_PLAIN, " (%s, %s parameters, %s)", view_str(r, "model.architecture", "?"),
              view_format_at(r, "model.parameters", VIEW_COUNT, count),
              view_format_at(r, "model.bytes", VIEW_SIZE, size));
    paper_end(p);
    if (wanted[0])
        paper_say(p, STYLE_PLAIN, status[0] ? "wanted: %s: " : "wanted: %s", wanted);
    if (!wanted[0])
        paper_say(p, STYLE_PLAIN, "no target was set: the best trade of size against quality");
    else if (!status[0])
        paper_say(p, STYLE_PLAIN, "%s", "");
    else if (strcmp(status, "met") == 0)
        paper_say(p, STYLE_GOOD, "met");
    else
        paper_say(p, STYLE_BAD, "%s",
                  strcmp(status, "infeasible") == 0 ? "not possible" : "not met");
    paper_end(p);
    xfree(wanted);
}

static void say_difference(struct paper *p, const json_t *r)
{
    const json_t *d = json_object_get(r, "paired"),
                 *pair = json_object_get(d, "kld_difference_ci95");
    double ratio = view_real(d, "kld_ratio", 0);
    char mean[VIEW_TEXT_MAX], low[VIEW_TEXT_MAX], high[VIEW_TEXT_MAX];
    if (!json_is_object(d) || !(ratio > 0))
        return;
    view_format_at(d, "kld_difference", VIEW_KL, mean);
    view_format(VIEW_KL, json_array_get(pair, 0), low);
    view_format(VIEW_KL, json_array_get(pair, 1), high);
    paper_say(p, STYLE_BOLD, "%.2f times the KL divergence", ratio);
    paper_say(p, STYLE_PLAIN,
              " of %s%s%s, the best stock mix %s:", view_str(d, "against", "the stock mix"),
              view_str(d, "against_kv", "")[0] ? " with a KV cache of " : "",
              view_str(d, "against_kv", ""),
              any_target(r) ? "within the same limits" : "that is no larger");
    paper_end(p);
    view_line(p, "difference %s [%s, %s], %.0f windows%s", mean, low, high,
              view_real(d, "windows", 0),
              json_is_true(json_object_get(d, "reliable")) ? " that the search never saw"
                                                           : ", which chance alone could explain");
}

/* "q8_0", "q8_0/q4_0": the types of a KV cache. Returns text. */
static const char *cache_types(const json_t *cache, char text[static VIEW_TEXT_MAX])
{
    const char *k = view_str(cache, "k", "f16"), *v = view_str(cache, "v", "f16");
    snprintf(text, VIEW_TEXT_MAX, strcmp(k, v) == 0 ? "%.24s" : "%.24s/%.24s", k, v);
    return text;
}

/* With which KV cache the file was measured, and how far the context may grow. */
static void say_cache(struct paper *p, const json_t *r)
{
    const json_t *cache = json_object_get(r, "cache");
    char types[VIEW_TEXT_MAX], per[VIEW_TEXT_MAX];
    double longest = view_real(cache, "longest_context", 0);
    if (!view_str(cache, "flags", "")[0] && !(longest > 0))
        return;
    if (json_is_object(json_object_get(r, "paired")))
        paper_end(p);
    view_line(p, "KV cache of %s, %s per token of context", cache_types(cache, types),
              view_format_at(cache, "bytes_per_token", VIEW_SIZE, per));
    if (longest > 0)
        view_line(p, "%s %.0f tokens of context fit into the memory",
                  longest < view_real(cache, "context_most", 0) ? "at most" : "at least", longest);
}

/* "demo-output/sample-4.50bpw.gguf": short from where the user stands. xfree. */
static char *delivered_path(const json_t *r)
{
    const char *file = view_str(r, "best.file", NULL), *out = view_str(r, "out", ".");
    char here[PATH_MAX];
    if (!file)
        return NULL;
    size_t n = getcwd(here, sizeof(here)) ? strlen(here) : 0;
    if (n > 1 && strncmp(out, here, n) == 0 && out[n] == '/')
        out += n + 1;
    return xasprintf("%s/%s", out, file);
}

static void say_labelled(struct paper *p, const char *label, enum style style, const char *text)
{
    paper_say(p, STYLE_DIM, "%-6s", label);
    paper_say(p, style, "%s", text);
    paper_end(p);
}

static void say_files(struct paper *p, const json_t *r)
{
    char *path = delivered_path(r);
    char time[VIEW_TEXT_MAX];
    if (json_object_get(r, "run"))
        paper_end(p);
    if (path) {
        const char *flags = view_str(r, "cache.flags", "");
        char *run = xasprintf("llama-cli -m %s%s%s", path, flags[0] ? " " : "", flags);
        say_labelled(p, "file", STYLE_BOLD, path);
        say_labelled(p, "run", STYLE_PLAIN, run);
        xfree(run);
    }
    if (json_object_get(r, "run")) {
        char *more =
            xasprintf("sintra report %.10s  (%.0f candidates in %s)", view_str(r, "run", ""),
                      view_real(r, "trials", 0), view_format_at(r, "seconds", VIEW_SECONDS, time));
        say_labelled(p, "more", STYLE_PLAIN, more);
        xfree(more);
    }
    xfree(path);
}

/* Why the targets are not met. */
static void say_reason(struct paper *p, const json_t *r)
{
    if (!json_object_get(r, "reason"))
        return;
    paper_wrap(p, 0, view_str(r, "reason", ""));
    if (view_str(r, "hint", "")[0])
        view_line(p, "hint: %s", view_str(r, "hint", ""));
}

static void say_notes(struct paper *p, const json_t *r)
{
    size_t i;
    json_t *note;
    json_array_foreach(json_object_get(r, "notes"), i, note)
    {
        if (json_is_string(note))
            view_line(p, "note: %s", json_string_value(note));
    }
}

static void say_mock(struct paper *p, const json_t *r)
{
    if (json_is_true(json_object_get(r, "mock"))) {
        paper_say(p, STYLE_BAD, "simulated (--mock): no number here was measured");
        paper_end(p);
    }
}

/* ---- several models ---- */

static void contest_cells(struct table *t, const json_t *x, bool take)
{
    const json_t *pair = json_object_get(x, "bits_per_byte_ci95");
    const json_t *apart = json_object_get(x, "difference_ci95");
    enum style style = take ? STYLE_BOLD : STYLE_PLAIN;
    char text[VIEW_TEXT_MAX];
    table_cell(t, style, "%s", view_str(x, "name", ""));
    table_cell(t, style, "%s", view_str(x, "status", ""));
    table_cell(t, style, "%s", view_format_at(x, "bytes", VIEW_SIZE, text));
    table_cell(t, style, "%s", view_format_at(x, "bpw", VIEW_BITS, text));
    table_cell(t, style, "%s", view_format_at(x, "score.tps_decode", VIEW_RATE, text));
    if (!json_is_array(pair)) {
        for (int i = 0; i < 3; i++)
            table_cell(t, style, "%s", "");
        return;
    }
    table_cell(t, style, "%.4f", view_real(x, "bits_per_byte", 0));
    table_cell(t, STYLE_DIM, "[%.4f, %.4f]", json_number_value(json_array_get(pair, 0)),
               json_number_value(json_array_get(pair, 1)));
    if (json_is_array(apart))
        table_cell(t, style, "%+.4f [%.4f, %.4f]%s", view_real(x, "difference", 0),
                   json_number_value(json_array_get(apart, 0)),
                   json_number_value(json_array_get(apart, 1)),
                   json_is_true(json_object_get(x, "reliable")) ? "" : " not reliable");
    else
        table_cell(t, style, "%s", take ? "take this one" : "");
}

static void view_contest(struct paper *p, const json_t *r)
{
    static const char *const titles[] = {"model",    "targets",   "size", "bpw",
                                         "tokens/s", "bits/byte", "95 %", "difference"};
    struct table *t = table_new();
    const char *take = view_str(r, "take", NULL);
    size_t i;
    json_t *x;
    say_mock(p, r);
    for (size_t c = 0; c < sizeof(titles) / sizeof(titles[0]); c++)
        table_column(t, titles[c], c >= 2 && c <= 5 ? TABLE_RIGHT : TABLE_LEFT);
    json_array_foreach(json_object_get(r, "models"), i, x)
    {
        contest_cells(t, x, take && strcmp(take, view_str(x, "name", "")) == 0);
    }
    table_print(t, p, 0);
    table_free(t);
    paper_end(p);
    if (!take) {
        view_line(p, "no model can meet the targets");
        return;
    }
    view_line(p,
              "bits per byte of %.0f bytes of text that no run has seen, the same for every model;",
              view_real(r, "scored_bytes", 0));
    view_line(p, "lower is better, differences are paired over %.0f pieces",
              view_real(r, "pieces", 0));
    view_line(p, "files: %s", view_str(r, "out", ""));
}

static void view_checkpoints(struct paper *p, const json_t *r)
{
    bool any = json_array_size(json_object_get(r, "runs")) > 0;
    if (any)
        view_runs(p, r);
    if (json_object_get(r, "contest"))
        view_line(p, "'sintra optimize --resume' goes on with a contest of several models");
    else if (!any)
        view_line(p, "no run is interrupted");
}

void view_optimize(struct paper *p, const json_t *r)
{
    if (json_object_get(r, "runs")) {
        view_checkpoints(p, r);
        return;
    }
    if (json_object_get(r, "plan") || json_object_get(r, "plans")) {
        view_plan(p, r);
        return;
    }
    if (json_object_get(r, "sintra_comparison")) {
        view_contest(p, r);
        return;
    }
    const json_t *best = json_object_get(r, "best");
    say_status(p, r);
    say_mock(p, r);
    if (json_is_object(best)) {
        struct table *t = candidate_table();
        result_rows(t, r);
        paper_end(p);
        table_print(t, p, 2);
        table_free(t);
        if (predicted(best))
            view_line(p, "  ~ predicted for %s from its memory bandwidth",
                      view_str(r, "hardware.profile", "the profile"));
        paper_end(p);
        say_difference(p, r);
        say_front(p, r);
        say_cache(p, r);
    }
    say_reason(p, r);
    say_notes(p, r);
    say_files(p, r);
}

/* ---- plan ---- */

/* What each KV cache leaves for the file. */
static void say_caches(struct paper *p, const json_t *limits)
{
    const json_t *list = json_object_get(limits, "caches");
    char types[VIEW_TEXT_MAX], kv[VIEW_TEXT_MAX], size[VIEW_TEXT_MAX];
    size_t i;
    json_t *c;
    json_array_foreach(list, i, c)
    {
        view_format_at(c, "bytes_max", VIEW_SIZE, size);
        view_line(p, "  with a KV cache of %s (%s): %s%s", cache_types(c, types),
                  view_format_at(c, "kv_bytes", VIEW_SIZE, kv),
                  json_object_get(c, "bytes_max") ? size : "no room for any file",
                  json_array_size(list) > 1 ? "" : ", as asked");
    }
}

/* "the file may have 3.94 MiB (by size); the smallest that this model can have is 1.81 MiB" */
static void say_limits(struct paper *p, const json_t *limits)
{
    static const char *const names[][2] = {{"by_size", "size"}, {"by_memory", "memory"}};
    char size[VIEW_TEXT_MAX];
    const char *by = "";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const json_t *v = json_object_get(limits, names[i][0]);
        if (v && json_equal(v, json_object_get(limits, "bytes_max")))
            by = names[i][1];
    }
    if (by[0])
        view_line(p, "the file may have %s (limited by %s)",
                  view_format_at(limits, "bytes_max", VIEW_SIZE, size), by);
    say_caches(p, limits);
    if (json_object_get(limits, "ms_per_token_max"))
        view_line(p, "reading its weights may take %s per token (limited by speed)",
                  view_format_at(limits, "ms_per_token_max", VIEW_MS, size));
    view_line(p, "the smallest file that this model can have: %s",
              view_format_at(limits, "smallest_bytes", VIEW_SIZE, size));
}

/* Is there a KV cache whose cost is not known? Mixes beside it have no prediction. */
static bool has_unknown_cache(const json_t *limits)
{
    const json_t *list = json_object_get(limits, "caches");
    size_t i;
    json_t *c;
    json_array_foreach(list, i, c)
    {
        if (!json_is_real(json_object_get(c, "kld")))
            return true;
    }
    return false;
}

/* What measured sensitivities let expect of composed files; nothing where there are none. */
static void say_predictions(struct paper *p, const json_t *r)
{
    static const struct view_column optima[] = {
        {"size", "bytes", VIEW_SIZE, STYLE_PLAIN},
        {"bpw", "bpw", VIEW_BITS, STYLE_PLAIN},
        {"with KV", "memory_bytes", VIEW_SIZE, STYLE_PLAIN},
        {"KL (predicted)", "kld_predicted", VIEW_KL, STYLE_PLAIN},
        {"tokens/s (predicted)", "tps_predicted", VIEW_RATE, STYLE_PLAIN},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    const json_t *about = json_object_get(r, "sensitivities"),
                 *best = json_object_get(r, "optimum"), *limits = json_object_get(r, "limits");
    char size[VIEW_TEXT_MAX], kl[VIEW_TEXT_MAX];
    if (!about)
        return;
    paper_end(p);
    view_line(p, "types chosen per group, by sensitivities measured on %s text:",
              view_str(about, "corpus", "some"));
    paper_end(p);
    view_rows(p, json_object_get(r, "frontier"), optima, 2);
    paper_end(p);
    if (json_is_object(best))
        view_line(p, "the best within the limits: %s, predicted KL %s%s",
                  view_format_at(best, "bytes", VIEW_SIZE, size),
                  view_format_at(best, "kld_predicted", VIEW_KL, kl),
                  has_unknown_cache(limits) ? ", the cost of a KV cache not known" : "");
    else if (json_opt_i64(limits, "bytes_max", 0) >= json_opt_i64(limits, "smallest_bytes", 0) &&
             !json_object_get(limits, "ms_per_token_max"))
        view_line(p, "types small enough for the limits have not been measured yet: optimize does");
    else
        view_line(p, "no choice of types keeps the limits");
}

/* ---- probe ---- */

/* The KL of the group in one type; "" where the type is not possible. */
static void probe_cell(struct table *t, const json_t *group, const char *type)
{
    const json_t *row = json_object_get(json_object_get(group, "types"), type);
    char text[VIEW_TEXT_MAX];
    table_cell(t, STYLE_PLAIN, "%s", view_format_at(row, "kld", VIEW_KL, text));
}

void view_probe(struct paper *p, const json_t *r)
{
    static const char *const types[] = {"Q2_K", "Q3_K", "IQ3_S", "IQ4_XS",
                                        "Q4_K", "Q5_K", "Q6_K",  "Q8_0"};
    enum { TYPES = sizeof(types) / sizeof(types[0]) };
    const json_t *groups = json_object_get(r, "groups");
    struct table *t = table_new();
    size_t i;
    json_t *group;
    char text[VIEW_TEXT_MAX];
    table_column(t, "group", TABLE_LEFT);
    table_column(t, "weights", TABLE_RIGHT);
    for (int k = 0; k < TYPES; k++)
        table_column(t, types[k], TABLE_RIGHT);
    json_array_foreach(groups, i, group)
    {
        table_cell(t, STYLE_NAME, "%s", view_str(group, "name", ""));
        table_cell(t, STYLE_PLAIN, "%s", view_format_at(group, "elements", VIEW_COUNT, text));
        for (int k = 0; k < TYPES; k++)
            probe_cell(t, group, types[k]);
    }
    paper_say(p, STYLE_BOLD, "%s", view_str(json_object_get(r, "model"), "name", "model"));
    paper_end(p);
    view_line(p, "KL divergence when this group alone has the type, nats per token:");
    paper_end(p);
    table_print(t, p, 2);
    table_free(t);
    paper_end(p);
    view_line(p, "%.0f probes, %.0f of them known before, on %.0f of at most %.0f windows, in %s",
              view_real(r, "probes", 0), view_real(r, "probes_known", 0),
              view_real(r, "windows_read", 0), view_real(r, "windows_most", 0),
              view_format_at(r, "seconds", VIEW_SECONDS, text));
    view_line(p, "'sintra plan' shows what follows for files, 'sintra optimize' measures them");
}

/* "5 tensors have rows of 736, which whole blocks of some types do not fill: Q4_K becomes Q5_0". */
static void say_fallbacks(struct paper *p, const json_t *r)
{
    size_t i;
    json_t *f;
    json_array_foreach(json_object_get(r, "fallbacks"), i, f)
    {
        const char *type;
        json_t *stored;
        struct arena a = {0};
        char *text =
            arena_printf(&a, "%.0f %s of %.0f values, not a multiple of some types' blocks:",
                         view_real(f, "tensors", 0),
                         view_real(f, "tensors", 0) > 1 ? "tensors have rows" : "tensor has rows",
                         view_real(f, "row", 0));
        bool first = true;
        json_object_foreach(json_object_get(f, "types"), type, stored)
        {
            text = arena_printf(&a, "%s%s %s becomes %s", text, first ? "" : ",", type,
                                json_string_value(stored));
            first = false;
        }
        paper_wrap(p, 0, text);
        arena_release(&a);
    }
}

static void view_one_plan(struct paper *p, const json_t *r)
{
    static const struct view_column mixes[] = {
        {"stock mix", "name", VIEW_TEXT, STYLE_NAME},
        {"size", "bytes", VIEW_SIZE, STYLE_PLAIN},
        {"bpw", "bpw", VIEW_BITS, STYLE_PLAIN},
        {"with KV", "memory_bytes", VIEW_SIZE, STYLE_PLAIN},
        {"KL (predicted)", "kld_predicted", VIEW_KL, STYLE_PLAIN},
        {"tokens/s (predicted)", "tps_predicted", VIEW_RATE, STYLE_PLAIN},
        {"fits", "fits", VIEW_YES, STYLE_GOOD},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    char time[VIEW_TEXT_MAX];
    say_status(p, r);
    say_mock(p, r);
    say_reason(p, r);
    if (view_str(r, "status", "")[0])
        return;
    say_limits(p, json_object_get(r, "limits"));
    say_fallbacks(p, r);
    paper_end(p);
    view_rows(p, json_object_get(r, "stock"), mixes, 2);
    say_predictions(p, r);
    paper_end(p);
    view_line(p, "optimize would measure the mixes near the limit, then choose a type for each of");
    view_line(p, "%.0f groups of tensors; expected to take %s here", view_real(r, "groups", 0),
              view_format_at(r, "seconds_predicted", VIEW_SECONDS, time));
}

void view_plan(struct paper *p, const json_t *r)
{
    const json_t *plans = json_object_get(r, "plans");
    size_t i;
    json_t *plan;
    if (!plans)
        view_one_plan(p, r);
    json_array_foreach(plans, i, plan)
    {
        if (i > 0)
            paper_end(p);
        view_one_plan(p, plan);
    }
}

/* ---- runs, history, stats ---- */

void view_runs(struct paper *p, const json_t *r)
{
    const json_t *rows = json_object_get(r, "runs");
    static const char *const titles[] = {"run", "started (UTC)", "model", "wanted", "state"};
    struct table *t = table_new();
    size_t i;
    json_t *row;
    if (json_array_size(rows) == 0) {
        view_line(p, "no runs yet; 'sintra optimize' makes one");
        table_free(t);
        return;
    }
    for (size_t c = 0; c < sizeof(titles) / sizeof(titles[0]); c++)
        table_column(t, titles[c], TABLE_LEFT);
    table_column(t, "trials", TABLE_RIGHT);
    table_column(t, "size", TABLE_RIGHT);
    table_column(t, "bpw", TABLE_RIGHT);
    table_column(t, "KL", TABLE_RIGHT);
    json_array_foreach(rows, i, row)
    {
        char text[VIEW_TEXT_MAX];
        char *wanted = targets_sentence(json_object_get(row, "targets"));
        const char *state = view_str(row, "state", "");
        bool mock = json_is_true(json_object_get(row, "mock"));
        table_cell(t, STYLE_NAME, "%s", view_format_at(row, "id", VIEW_SHORT, text));
        table_cell(t, STYLE_DIM, "%s", view_format_at(row, "started_ms", VIEW_DATE, text));
        table_cell(t, STYLE_PLAIN, "%s", view_str(row, "model", ""));
        table_cell(t, STYLE_PLAIN, "%s", wanted);
        table_cell(t, strcmp(state, "met") == 0 ? STYLE_GOOD : STYLE_PLAIN, "%s%s", state,
                   mock ? " (simulated)" : "");
        table_cell(t, STYLE_PLAIN, "%s", view_format_at(row, "trials", VIEW_INTEGER, text));
        table_cell(t, STYLE_PLAIN, "%s", view_format_at(row, "bytes", VIEW_SIZE, text));
        table_cell(t, STYLE_PLAIN, "%s", view_format_at(row, "bpw", VIEW_BITS, text));
        table_cell(t, STYLE_PLAIN, "%s", view_format_at(row, "kld_mean", VIEW_KL, text));
        xfree(wanted);
    }
    table_print(t, p, 0);
    table_free(t);
}

void view_history(struct paper *p, const json_t *r)
{
    static const struct view_column columns[] = {
        {"run", "run", VIEW_SHORT, STYLE_NAME},
        {"when (UTC)", "started_ms", VIEW_DATE, STYLE_DIM},
        {"kind", "kind", VIEW_TEXT, STYLE_PLAIN},
        {"candidate", "label", VIEW_TEXT, STYLE_PLAIN},
        {"size", "bytes", VIEW_SIZE, STYLE_PLAIN},
        {"KL", "score.kld_mean", VIEW_KL, STYLE_PLAIN},
        {"top-1", "score.top1", VIEW_PERCENT, STYLE_PLAIN},
        {"tokens/s", "score.tps_decode", VIEW_RATE, STYLE_PLAIN},
        {"took", "seconds", VIEW_SECONDS, STYLE_DIM},
        {"error", "error", VIEW_TEXT, STYLE_BAD},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    const json_t *rows = json_object_get(r, "trials");
    if (json_array_size(rows) == 0)
        view_line(p, "no candidates were measured yet");
    view_rows(p, rows, columns, 0);
}

void view_stats(struct paper *p, const json_t *r)
{
    static const struct view_fact facts[] = {
        {"runs", "runs", VIEW_INTEGER},
        {"  simulated", "mock_runs", VIEW_INTEGER},
        {"  targets met", "states.met", VIEW_INTEGER},
        {"  best effort", "states.best_effort", VIEW_INTEGER},
        {"  infeasible", "states.infeasible", VIEW_INTEGER},
        {"  interrupted", "states.interrupted", VIEW_INTEGER},
        {"  failed", "states.failed", VIEW_INTEGER},
        {"models", "models", VIEW_INTEGER},
        {"candidates", "candidates", VIEW_INTEGER},
        {"trials", "trials", VIEW_INTEGER},
        {"  failed", "failed_trials", VIEW_INTEGER},
        {"time in runs", "run_seconds", VIEW_SECONDS},
        {"time in trials", "trial_seconds", VIEW_SECONDS},
        {"known from before", "history.sensitivities", VIEW_INTEGER},
        {"  of siblings", "history.sibling_sensitivities", VIEW_INTEGER},
        {"  time saved", "history.seconds_saved", VIEW_SECONDS},
        {"disk: cache", "cache_bytes", VIEW_SIZE},
        {"disk: runs", "runs_bytes", VIEW_SIZE},
        {"home", "home", VIEW_TEXT},
        {NULL, NULL, VIEW_TEXT},
    };
    view_facts(p, r, facts, 0);
}

/* ---- report, compare ---- */

/* Markdown as it is: it is made to be read as text. A page is for a pipe. */
void view_report(struct paper *p, const json_t *r)
{
    const char *page = view_str(r, "html", NULL), *text = page ? page : view_str(r, "markdown", "");
    if (view_str(r, "written", NULL))
        view_line(p, "written to %s", view_str(r, "written", ""));
    while (*text) {
        size_t n = strcspn(text, "\n");
        paper_say(p, !page && text[0] == '#' ? STYLE_BOLD : STYLE_PLAIN, "%.*s", (int)n, text);
        paper_end(p);
        text += n + (text[n] == '\n');
    }
}

static const struct {
    const char *metric, *words;
    enum view_kind kind;
} compared[] = {
    {"bytes", "size", VIEW_SIZE},
    {"bpw", "bits per weight", VIEW_BITS},
    {"kld_mean", "KL divergence", VIEW_KL},
    {"kld_p99", "KL, 99 %", VIEW_KL},
    {"top1", "top-1 agreement", VIEW_PERCENT},
    {"ppl", "perplexity", VIEW_RATE},
    {"tps_decode", "tokens/s", VIEW_RATE},
    {"tps_prefill", "prompt tokens/s", VIEW_RATE},
    {"load_ms", "load", VIEW_MS},
    {"rss_peak_bytes", "peak memory", VIEW_SIZE},
};

static void compare_row(struct table *t, const json_t *row)
{
    char a[VIEW_TEXT_MAX], b[VIEW_TEXT_MAX];
    const char *metric = view_str(row, "metric", ""), *better = view_str(row, "better", "");
    for (size_t i = 0; i < sizeof(compared) / sizeof(compared[0]); i++) {
        if (strcmp(compared[i].metric, metric) != 0)
            continue;
        table_cell(t, STYLE_DIM, "%s", compared[i].words);
        table_cell(t, strcmp(better, "a") == 0 ? STYLE_GOOD : STYLE_PLAIN, "%s",
                   view_format_at(row, "a", compared[i].kind, a));
        table_cell(t, strcmp(better, "b") == 0 ? STYLE_GOOD : STYLE_PLAIN, "%s",
                   view_format_at(row, "b", compared[i].kind, b));
        table_cell(t, STYLE_PLAIN, "%.2fx", view_real(row, "ratio", 1));
        table_cell(t, STYLE_PLAIN, "%s",
                   strcmp(better, "a") == 0   ? "A"
                   : strcmp(better, "b") == 0 ? "B"
                                              : "");
        table_cell(t, STYLE_DIM, "%s",
                   json_is_true(json_object_get(row, "reliable")) ? "reliable" : "");
    }
}

void view_compare(struct paper *p, const json_t *r)
{
    struct table *t = table_new();
    size_t i;
    json_t *row;
    static const char *const titles[] = {"", "A", "B", "B / A", "better", ""};
    view_line(p, "A: %s", view_str(r, "a.name", ""));
    view_line(p, "B: %s", view_str(r, "b.name", ""));
    say_mock(p, r);
    paper_end(p);
    for (size_t c = 0; c < sizeof(titles) / sizeof(titles[0]); c++)
        table_column(t, titles[c], c >= 1 && c <= 3 ? TABLE_RIGHT : TABLE_LEFT);
    json_array_foreach(json_object_get(r, "metrics"), i, row)
    {
        compare_row(t, row);
    }
    table_print(t, p, 0);
    table_free(t);
    if (!json_is_true(json_object_get(r, "same_model")))
        view_line(p, "the originals differ: quality, speed and memory cannot be compared");
    else if (!json_is_true(json_object_get(r, "same_corpus")))
        view_line(p, "measured on different text: quality cannot be compared");
}
