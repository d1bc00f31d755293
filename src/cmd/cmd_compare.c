/* `compare A B`: the winners of two runs side by side.
 *
 * A and B are run ids or result folders. Scores are comparable only when they come from the same
 * original and the same text; where they do not, the result says so instead of a verdict.
 * "Reliable" here means that the 95 % intervals do not touch, which is stricter than a paired test:
 * the single positions are gone once a run has ended.
 */
#include <math.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cmd/cmd_int.h"

#include "base/banned.h"

enum { REPORT_BYTES_MAX = 64 << 20 };

static const struct arg_spec compare_args[] = {
    {.name = "A",
     .type = ARG_TEXT,
     .positional = true,
     .required = true,
     .value = "A",
     .help = "run id, or result folder"},
    {.name = "B",
     .type = ARG_TEXT,
     .positional = true,
     .required = true,
     .value = "B",
     .help = "run id, or result folder"},
    ARG_LINE_END,
};

struct wanted {
    json_t *doc;
    const char *name;
    struct err *e;
};

static int take_report(void *ud, const struct store_run *r)
{
    struct wanted *w = ud;
    if (r->report)
        w->doc = json_parse(r->report, strlen(r->report), "stored report", w->e);
    else
        err_set(w->e, ERR_MISSING, NULL, "run %s has no report: it is %s", r->id, r->state);
    return 1;
}

static json_t *report_of_run(const struct cmd_context *c, const char *name, struct err *e)
{
    struct store *s = NULL;
    char id[27];
    struct wanted w = {.name = name, .e = e};
    if (cmd_store_open(c, &s, e))
        return NULL;
    if (store_run_find(s, name, id, e) == 0 && store_run_get(s, id, take_report, &w, e)) {
        json_decref(w.doc);
        w.doc = NULL;
    }
    store_close(s);
    return w.doc;
}

/* A folder with report.json, such a file, or a run. New reference. */
static json_t *report_read(const struct cmd_context *c, const char *name, struct err *e)
{
    if (fs_is_dir(name)) {
        char *path = fs_join(name, "report.json");
        json_t *doc = json_read(path, REPORT_BYTES_MAX, e);
        xfree(path);
        return doc;
    }
    return fs_exists(name) ? json_read(name, REPORT_BYTES_MAX, e) : report_of_run(c, name, e);
}

static int need_best(const json_t *doc, const char *name, struct err *e)
{
    if (json_is_object(json_object_get(json_object_get(doc, "best"), "score")))
        return 0;
    return err_set(e, ERR_INPUT, NULL, "%s: the report has no measured result (status %s)", name,
                   json_opt_str(doc, "status", "unknown"));
}

static const struct metric {
    const char *key, *interval; /* in score; NULL interval = none */
    bool in_score;
    int better; /* −1: less is better, +1: more */
} metrics[] = {
    {"bytes", NULL, false, -1},
    {"bpw", NULL, false, -1},
    {"kld_mean", "kld_mean_ci95", true, -1},
    {"kld_p99", NULL, true, -1},
    {"top1", "top1_ci95", true, 1},
    {"ppl", NULL, true, -1},
    {"tps_decode", NULL, true, 1},
    {"tps_prefill", NULL, true, 1},
    {"load_ms", NULL, true, -1},
    {"rss_peak_bytes", NULL, true, -1},
};

/* Do two [low, high] intervals lie apart? */
static bool intervals_apart(const json_t *a, const json_t *b)
{
    if (json_array_size(a) != 2 || json_array_size(b) != 2)
        return false;
    double a_low = json_number_value(json_array_get(a, 0));
    double a_high = json_number_value(json_array_get(a, 1));
    double b_low = json_number_value(json_array_get(b, 0));
    double b_high = json_number_value(json_array_get(b, 1));
    return a_high < b_low || b_high < a_low;
}

static json_t *metric_json_new(const struct metric *m, const json_t *a, const json_t *b,
                               bool comparable)
{
    const json_t *in_a = m->in_score ? json_object_get(a, "score") : a;
    const json_t *in_b = m->in_score ? json_object_get(b, "score") : b;
    json_t *x = json_object_get(in_a, m->key), *y = json_object_get(in_b, m->key);
    if (!json_is_number(x) || !json_is_number(y))
        return NULL;
    double from = json_number_value(x), to = json_number_value(y);
    json_t *o = json_object();
    json_object_set_new(o, "metric", json_string(m->key));
    json_object_set(o, "a", x);
    json_object_set(o, "b", y);
    if (from > 0)
        json_object_set_new(o, "ratio", json_real_new(to / from));
    double gain = (to - from) * m->better;
    const char *better = gain > 0 ? "b" : gain < 0 ? "a" : "same";
    if (m->in_score && !comparable)
        better = "unknown";
    json_object_set_new(o, "better", json_string(better));
    if (m->interval)
        json_object_set_new(
            o, "reliable",
            json_boolean(comparable && intervals_apart(json_object_get(in_a, m->interval),
                                                       json_object_get(in_b, m->interval))));
    return o;
}

static bool same_text(const json_t *a, const json_t *b, const char *key)
{
    const char *x = json_opt_str(a, key, ""), *y = json_opt_str(b, key, "");
    return x[0] && strcmp(x, y) == 0;
}

static json_t *side_json_new(const json_t *doc, const char *name)
{
    const json_t *best = json_object_get(doc, "best");
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(name));
    static const char *const keys[] = {"run", "status", "mock"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (json_object_get(doc, keys[i]))
            json_object_set(o, keys[i], json_object_get(doc, keys[i]));
    if (json_object_get(best, "file"))
        json_object_set(o, "file", json_object_get(best, "file"));
    if (json_object_get(doc, "model"))
        json_object_set(o, "model", json_object_get(doc, "model"));
    return o;
}

static json_t *comparison_new(const json_t *a, const json_t *b, const char *a_name,
                              const char *b_name)
{
    const json_t *best_a = json_object_get(a, "best"), *best_b = json_object_get(b, "best");
    bool same_model = same_text(json_object_get(a, "model"), json_object_get(b, "model"), "sha256");
    bool same_corpus = same_text(json_object_get(best_a, "score"), json_object_get(best_b, "score"),
                                 "corpus_sha256");
    bool mock = json_opt_bool(a, "mock", false) || json_opt_bool(b, "mock", false);
    json_t *rows = json_array(), *doc = json_object();
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        json_t *row = metric_json_new(&metrics[i], best_a, best_b, same_model && same_corpus);
        if (row)
            json_array_append_new(rows, row);
    }
    json_object_set_new(doc, "a", side_json_new(a, a_name));
    json_object_set_new(doc, "b", side_json_new(b, b_name));
    json_object_set_new(doc, "same_model", json_boolean(same_model));
    json_object_set_new(doc, "same_corpus", json_boolean(same_corpus));
    json_object_set_new(doc, "mock", json_boolean(mock));
    json_object_set_new(doc, "metrics", rows);
    return doc;
}

static int compare_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                       struct err *e)
{
    const char *a_name = cmd_text(a, "A"), *b_name = cmd_text(a, "B");
    json_t *first = report_read(c, a_name, e), *second = NULL;
    int rc = -1;
    if (!first || need_best(first, a_name, e))
        goto out;
    second = report_read(c, b_name, e);
    if (!second || need_best(second, b_name, e))
        goto out;
    *result = comparison_new(first, second, a_name, b_name);
    rc = 0;
out:
    json_decref(first);
    json_decref(second);
    return rc;
}

const struct cmd cmd_compare = {
    .name = "compare",
    .group = CMD_RECORDS,
    .summary = "compare the results of two runs",
    .description =
        "Size, quality and speed of the two delivered files, and whether the difference is "
        "larger than its uncertainty. Quality is compared only when both were measured "
        "against the same original on the same text.",
    .example = "sintra compare 01kq3 01kq7\nsintra compare sample-sintra other-folder",
    .args = compare_args,
    .run = compare_run,
};
