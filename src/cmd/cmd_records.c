/* `runs`, `history`, `stats`, `report`: what the store knows.
 *
 * Owns the rows while they are collected; the store's strings live only during a callback. Mock
 * runs are listed as such and are not part of history.
 */
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cmd/cmd_int.h"
#include "run/run.h"

#include "base/banned.h"

enum { RUNS_SHOWN = 20, HISTORY_SHOWN = 40 };

static const struct arg_spec runs_args[] = {
    {.name = "limit",
     .letter = 'n',
     .type = ARG_INTEGER,
     .value = "N",
     .help = "most rows to show",
     .fallback = "20",
     .min = 1,
     .max = 1000000},
    {.name = "resumable",
     .type = ARG_FLAG,
     .help = "only interrupted runs, which --resume goes on with"},
    ARG_LINE_END,
};

static const struct arg_spec history_args[] = {
    {.name = "limit",
     .letter = 'n',
     .type = ARG_INTEGER,
     .value = "N",
     .help = "most rows to show",
     .fallback = "40",
     .min = 1,
     .max = 1000000},
    {.name = "run", .type = ARG_TEXT, .value = "RUN", .help = "only the candidates of this run"},
    ARG_LINE_END,
};

static const struct arg_spec stats_args[] = {
    ARG_LINE_END,
};

static const struct arg_spec report_args[] = {
    {.name = "RUN",
     .type = ARG_TEXT,
     .positional = true,
     .value = "RUN",
     .help = "id of a run or its beginning",
     .fallback = "latest"},
    {.name = "html", .type = ARG_FLAG, .help = "as a web page that needs nothing else"},
    {.name = "output",
     .letter = 'o',
     .type = ARG_PATH,
     .value = "FILE",
     .help = "write it there instead of printing it"},
    ARG_LINE_END,
};

/* ---- runs ---- */

static int add_run(void *ud, const struct store_run *r)
{
    json_array_append_new(ud, cmd_run_json_new(r));
    return 0;
}

static int runs_run(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e)
{
    struct store *s = NULL;
    if (cmd_store_open(c, &s, e))
        return -1;
    json_t *rows = json_array();
    int rc =
        store_runs(s, cmd_flag(a, "resumable"), (int)cmd_integer(a, "limit"), add_run, rows, e);
    store_close(s);
    *result = json_pack("{s:o}", "runs", rows);
    if (rc) {
        json_decref(*result);
        *result = NULL;
    }
    return rc;
}

/* ---- history ---- */

/* "Q4_K_M", or "Q4_K + 12 rules". */
static void recipe_label(json_t *o, const char *recipe)
{
    json_t *doc = recipe ? json_parse(recipe, strlen(recipe), "stored recipe", NULL) : NULL;
    const char *base = json_opt_str(doc, "base", "?");
    size_t rules = json_array_size(json_object_get(doc, "rules"));
    char *label = rules ? xasprintf("%s + %zu rules", base, rules) : xstrdup(base);
    json_object_set_new(o, "label", json_string(label));
    xfree(label);
    if (doc)
        json_object_set(o, "recipe", doc);
    json_decref(doc);
}

static int add_trial(void *ud, const struct store_trial *t)
{
    json_t *o = json_object();
    json_object_set_new(o, "run", json_string(t->run_id));
    json_object_set_new(o, "kind", json_string(t->kind));
    json_object_set_new(o, "state", json_string(t->state));
    json_object_set_new(o, "started_ms", json_integer(t->started_ms));
    json_object_set_new(o, "seconds", json_real_new(t->seconds));
    if (t->bytes)
        json_object_set_new(o, "bytes", cmd_bytes_json_new(t->bytes));
    if (t->error)
        json_object_set_new(o, "error", json_string(t->error));
    recipe_label(o, t->recipe);
    json_t *score = t->score ? json_parse(t->score, strlen(t->score), "stored score", NULL) : NULL;
    if (score)
        json_object_set_new(o, "score", score);
    json_array_append_new(ud, o);
    return 0;
}

/* Candidates only: what a person calls a trial. */
static bool is_candidate(const struct store_trial *t)
{
    return t->recipe != NULL && (strcmp(t->kind, "stock") == 0 || strcmp(t->kind, "search") == 0 ||
                                 strcmp(t->kind, "final") == 0);
}

static int add_candidate(void *ud, const struct store_trial *t)
{
    return is_candidate(t) ? add_trial(ud, t) : 0;
}

static int history_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                       struct err *e)
{
    struct store *s = NULL;
    const char *run = cmd_text(a, "run");
    char id[27];
    if (cmd_store_open(c, &s, e))
        return -1;
    json_t *rows = json_array();
    int rc = run ? store_run_find(s, run, id, e) : 0;
    if (rc == 0 && run)
        rc = store_trials(s, id, add_candidate, rows, e);
    else if (rc == 0)
        rc = store_history(s, NULL, (int)cmd_integer(a, "limit"), add_candidate, rows, e);
    store_close(s);
    *result = json_pack("{s:o}", "trials", rows);
    if (rc) {
        json_decref(*result);
        *result = NULL;
    }
    return rc;
}

/* ---- stats ---- */

struct totals {
    json_int_t runs, mock, met, best_effort, infeasible, interrupted, failed, running;
    json_int_t trials, candidates, failed_trials;
    double run_seconds, trial_seconds;
    json_int_t known, of_siblings; /* sensitivities that runs had from history */
    double saved_seconds;
    json_t *models;  /* hashes as keys */
    json_t *run_ids; /* of real runs */
};

/* What a run had from those before it, as its report says. */
static void count_history(struct totals *t, const char *report)
{
    json_t *doc = report ? json_parse(report, strlen(report), "stored report", NULL) : NULL;
    const json_t *h = json_object_get(doc, "history");
    t->known += json_opt_i64(h, "sensitivities", 0);
    t->of_siblings += json_opt_i64(h, "sibling_sensitivities", 0);
    t->saved_seconds += json_opt_real(h, "seconds_saved", 0);
    json_decref(doc);
}

static int count_run(void *ud, const struct store_run *r)
{
    struct totals *t = ud;
    static const char *const states[] = {"met",         "best_effort", "infeasible",
                                         "interrupted", "failed",      "running"};
    json_int_t *counts[] = {&t->met,         &t->best_effort, &t->infeasible,
                            &t->interrupted, &t->failed,      &t->running};
    t->runs++;
    if (r->mock) {
        t->mock++;
        return 0;
    }
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        if (strcmp(r->state, states[i]) == 0)
            ++*counts[i];
    count_history(t, r->report);
    json_object_set_new(t->models, r->model_sha256, json_true());
    json_array_append_new(t->run_ids, json_string(r->id));
    return 0;
}

static int count_trial(void *ud, const struct store_trial *trial)
{
    struct totals *t = ud;
    t->trials++;
    t->trial_seconds += trial->seconds;
    t->candidates += is_candidate(trial);
    t->failed_trials += strcmp(trial->state, "failed") == 0;
    return 0;
}

static json_t *totals_json_new(const struct totals *t)
{
    json_t *o = json_object();
    json_object_set_new(o, "runs", json_integer(t->runs));
    json_object_set_new(o, "mock_runs", json_integer(t->mock));
    json_object_set_new(o, "states",
                        json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "met", t->met, "best_effort",
                                  t->best_effort, "infeasible", t->infeasible, "interrupted",
                                  t->interrupted, "failed", t->failed, "running", t->running));
    json_object_set_new(o, "models", json_integer((json_int_t)json_object_size(t->models)));
    json_object_set_new(o, "trials", json_integer(t->trials));
    json_object_set_new(o, "candidates", json_integer(t->candidates));
    json_object_set_new(o, "failed_trials", json_integer(t->failed_trials));
    json_object_set_new(o, "history",
                        json_pack("{s:I,s:I,s:o}", "sensitivities", t->known,
                                  "sibling_sensitivities", t->of_siblings, "seconds_saved",
                                  json_real_new(t->saved_seconds)));
    json_object_set_new(o, "run_seconds", json_real_new(t->run_seconds));
    json_object_set_new(o, "trial_seconds", json_real_new(t->trial_seconds));
    return o;
}

/* Bytes of the files below a folder; what cannot be read counts nothing. */
static uint64_t tree_bytes(const char *path, int depth)
{
    char **names = NULL;
    size_t n = 0;
    uint64_t total = 0, bytes = 0;
    if (depth > 8 || !fs_is_dir(path) || fs_list(path, &names, &n, NULL))
        return 0;
    for (size_t i = 0; i < n; i++) {
        char *child = fs_join(path, names[i]);
        if (fs_is_dir(child))
            total += tree_bytes(child, depth + 1);
        else if (fs_size(child, &bytes, NULL) == 0)
            total += bytes;
        xfree(child);
    }
    fs_list_free(names, n);
    return total;
}

static int stats_collect(struct store *s, struct totals *t, struct err *e)
{
    size_t i;
    json_t *id;
    if (store_runs(s, false, 0, count_run, t, e))
        return -1;
    json_array_foreach(t->run_ids, i, id)
    {
        double seconds;
        if (store_trials(s, json_string_value(id), count_trial, t, e) ||
            store_run_seconds(s, json_string_value(id), &seconds, e))
            return -1;
        t->run_seconds += seconds;
    }
    return 0;
}

static int stats_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                     struct err *e)
{
    (void)a;
    struct store *s = NULL;
    struct totals t = {0};
    if (cmd_store_open(c, &s, e))
        return -1;
    t.models = json_object();
    t.run_ids = json_array();
    int rc = stats_collect(s, &t, e);
    store_close(s);
    if (rc == 0) {
        char *cache = cmd_home_path(c, "cache"), *runs = cmd_home_path(c, "runs");
        *result = totals_json_new(&t);
        json_object_set_new(*result, "cache_bytes", cmd_bytes_json_new(tree_bytes(cache, 0)));
        json_object_set_new(*result, "runs_bytes", cmd_bytes_json_new(tree_bytes(runs, 0)));
        json_object_set_new(*result, "home", json_string(c->home));
        xfree(cache);
        xfree(runs);
    }
    json_decref(t.models);
    json_decref(t.run_ids);
    return rc;
}

/* ---- report ---- */

struct wanted_report {
    json_t *doc;
    char *state;
};

static int take_report(void *ud, const struct store_run *r)
{
    struct wanted_report *w = ud;
    w->state = xstrdup(r->state);
    if (r->report)
        w->doc = json_parse(r->report, strlen(r->report), "stored report", NULL);
    return 1;
}

/* Adds the text to the document, or the path of the file that has it now. */
static int report_text(json_t *doc, bool html, const char *path, struct err *e)
{
    char *text = html ? run_report_html(doc) : run_report_markdown(doc);
    int rc = path ? fs_write_all(path, text, strlen(text), e) : 0;
    if (path)
        json_object_set_new(doc, "written", json_string(path));
    else
        json_object_set_new(doc, html ? "html" : "markdown", json_string(text));
    xfree(text);
    return rc;
}

static int report_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                      struct err *e)
{
    struct store *s = NULL;
    struct wanted_report w = {0};
    char id[27];
    if (cmd_store_open(c, &s, e))
        return -1;
    int rc = store_run_find(s, cmd_text(a, "RUN"), id, e);
    if (rc == 0)
        rc = store_run_get(s, id, take_report, &w, e);
    store_close(s);
    if (rc == 0 && !w.doc) {
        bool open = w.state && strcmp(w.state, "interrupted") == 0;
        rc = err_set(e, ERR_MISSING, open ? "'sintra optimize --resume' goes on with it" : NULL,
                     "run %s has no report: it is %s", id, w.state ? w.state : "gone");
    }
    if (rc == 0)
        rc = report_text(w.doc, cmd_flag(a, "html"), cmd_text(a, "output"), e);
    xfree(w.state);
    if (rc != 0)
        json_decref(w.doc);
    else
        *result = w.doc;
    return rc;
}

const struct cmd cmd_runs = {
    .name = "runs",
    .group = CMD_RECORDS,
    .summary = "list the runs of optimize, newest first",
    .description = "One row per run: state, what was asked, what came out. A run that says "
                   "'interrupted' goes on with 'sintra optimize --resume'.",
    .example = "sintra runs\nsintra runs --resumable\nsintra runs -n 5 --json",
    .args = runs_args,
    .run = runs_run,
};

const struct cmd cmd_history = {
    .name = "history",
    .group = CMD_RECORDS,
    .summary = "list measured candidates over all runs, newest first",
    .description =
        "Every candidate that was built and measured, with its size and score. Simulated "
        "ones (--mock) are not part of it; name their run to see them.",
    .example = "sintra history\nsintra history --run latest",
    .args = history_args,
    .run = history_run,
};

const struct cmd cmd_stats = {
    .name = "stats",
    .group = CMD_RECORDS,
    .summary = "sum up runs, candidates, time and disk space",
    .description = "Counts what the home directory knows. The cache can be deleted at any time; it "
                   "is made again when needed.",
    .example = "sintra stats",
    .args = stats_args,
    .run = stats_run,
};

const struct cmd cmd_report = {
    .name = "report",
    .group = CMD_RECORDS,
    .summary = "print the report of a run",
    .description =
        "The report as Markdown, as in the result folder; with --html as a page with the plot of "
        "quality against size and maps of the model's sensitivity, without scripts and without "
        "anything to fetch. With --json the document of 'optimize --json' with that text beside "
        "it.",
    .example = "sintra report\nsintra report 01kq --json\nsintra report --html -o report.html",
    .args = report_args,
    .run = report_run,
};
