/* `optimize`, `plan` and `probe`: arguments → a run's configuration → run/.
 *
 * Owns the strings of the configuration for the time of the call. Refuses combinations that
 * contradict each other (a stored run and new targets, a profile and --auto-detect) rather than
 * letting one win in silence. What a profile demands is added to what the options ask for; the
 * tighter one holds.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"
#include "cmd/cmd_int.h"
#include "run/run.h"

#include "base/banned.h"

#define ARG_LINES_WHAT                                                                             \
    {.name = "model",                                                                              \
     .alias = "model-id",                                                                          \
     .letter = 'm',                                                                                \
     .type = ARG_PATH,                                                                             \
     .repeat = true,                                                                               \
     .value = "MODEL",                                                                             \
     .help = "folder or .gguf (default: the sample); several compete"},                            \
        {.name = "profile",                                                                        \
         .letter = 'p',                                                                            \
         .type = ARG_TEXT,                                                                         \
         .value = "NAME|FILE",                                                                     \
         .help = "for the machine of a profile (sintra profiles)"},                                \
    {                                                                                              \
        .name = "auto-detect", .type = ARG_FLAG, .help = "for this machine (the default)"          \
    }

#define ARG_LINES_TARGETS                                                                          \
    {.name = "target-size",                                                                        \
     .type = ARG_TEXT,                                                                             \
     .value = "SIZE",                                                                              \
     .help = "largest file, as in 3.2GiB or 800MB"},                                               \
        {.name = "target-bpw",                                                                     \
         .type = ARG_REAL,                                                                         \
         .value = "BITS",                                                                          \
         .help = "most bits per weight: file bits / parameters",                                   \
         .min = 0.5,                                                                               \
         .max = 32},                                                                               \
        {.name = "target-memory",                                                                  \
         .type = ARG_TEXT,                                                                         \
         .value = "SIZE",                                                                          \
         .help = "most memory with KV cache at --context"},                                        \
        ARG_LINE_CONTEXT("tokens of context the memory is counted for"),                           \
        {.name = "target-tps",                                                                     \
         .type = ARG_REAL,                                                                         \
         .value = "N",                                                                             \
         .help = "least tokens per second when generating",                                        \
         .min = 0.001,                                                                             \
         .max = 100000},                                                                           \
        {.name = "target-latency-ms",                                                              \
         .type = ARG_REAL,                                                                         \
         .value = "MS",                                                                            \
         .help = "longest time to the first token",                                                \
         .min = 0.001,                                                                             \
         .max = 999999},                                                                           \
    {                                                                                              \
        .name = "target-accuracy", .type = ARG_REAL, .value = "SHARE",                             \
        .help = "least top-1 agreement with the original, 0 to 1", .min = 0.001, .max = 1          \
    }

#define ARG_LINE_PRESET                                                                            \
    {                                                                                              \
        .name = "preset", .type = ARG_TEXT, .value = "NAME", .help = "what matters most",          \
        .fallback = "auto", .choices = "auto|chatbot|batch|smallest|quality"                       \
    }

static const struct arg_spec optimize_args[] = {
    ARG_LINES_WHAT,
    ARG_LINES_TARGETS,
    ARG_LINE_PRESET,
    {.name = "out",
     .alias = "output-dir",
     .letter = 'o',
     .type = ARG_PATH,
     .value = "DIR",
     .help = "folder for the result (default: MODEL-sintra)"},
    ARG_LINE_CORPUS("UTF-8 text; self: what the model samples", "self"),
    ARG_LINE_TOKENS("scored tokens of the result (default: by size)"),
    ARG_LINE_SEED,
    {.name = "effort",
     .type = ARG_TEXT,
     .value = "LEVEL",
     .fallback = "normal",
     .choices = "fast|normal|max",
     .help = "how hard to try; see below"},
    {.name = "sensitivities",
     .type = ARG_TEXT,
     .value = "WHOSE",
     .fallback = "own",
     .choices = "own|sibling",
     .help = "sibling: take those of a model of the same shapes"},
    {.name = "max-iters",
     .type = ARG_INTEGER,
     .value = "N",
     .help = "most candidates of the search (default: by effort)",
     .min = 1,
     .max = 100000},
    {.name = "budget-minutes",
     .type = ARG_REAL,
     .value = "MIN",
     .help = "stop searching after this time",
     .min = 0.01,
     .max = 100000},
    ARG_LINES_CACHE,
    ARG_LINE_THREADS,
    ARG_LINE_GPU_LAYERS,
    {.name = "backend",
     .type = ARG_TEXT,
     .value = "NAME",
     .help = "kind of file to make",
     .fallback = "gguf",
     .choices = "gguf"},
    {.name = "architect",
     .alias = "provider",
     .type = ARG_TEXT,
     .value = "NAME",
     .help = "who proposes candidates",
     .fallback = "builtin",
     .choices = "builtin"},
    {.name = "architect-model",
     .alias = "model-name",
     .type = ARG_TEXT,
     .value = "NAME",
     .help = "model of an architect other than builtin"},
    {.name = "resume",
     .type = ARG_TEXT,
     .value = "RUN",
     .optional_value = true,
     .help = "go on with a run (default: the latest)"},
    {.name = "list-checkpoints", .type = ARG_FLAG, .help = "list the runs that can be resumed"},
    {.name = "dry-run", .type = ARG_FLAG, .help = "print the plan with exact sizes, write nothing"},
    {.name = "mock", .type = ARG_FLAG, .help = "simulate every measurement, to try targets"},
    ARG_LINE_END,
};

static const struct arg_spec plan_args[] = {
    ARG_LINES_WHAT,  ARG_LINES_TARGETS, ARG_LINE_PRESET,
    ARG_LINES_CACHE, ARG_LINE_THREADS,  ARG_LINE_END,
};

static const struct arg_spec probe_args[] = {
    ARG_LINE_MODEL_POSITION, ARG_LINE_CORPUS("UTF-8 text; self: what the model samples", "self"),
    ARG_LINE_SEED,           ARG_LINE_THREADS,
    ARG_LINE_GPU_LAYERS,     ARG_LINE_END,
};

static const double memory_share = 0.85; /* of a machine's memory; the rest is the system's */

/* Owns what a run_config points to. */
struct config {
    struct run_config run;
    struct hw_profile profile;
    bool have_profile;
    char *model, *out, *corpus;
};

static void config_release(struct config *f)
{
    if (f->have_profile)
        hw_profile_release(&f->profile);
    xfree(f->model);
    xfree(f->out);
    xfree(f->corpus);
}

/* A path that stays right when the run is resumed from another folder; xfree. */
static char *absolute(const char *path)
{
    if (path[0] == '/')
        return xstrdup(path);
    char here[PATH_MAX];
    return fs_join(realpath(".", here) ? here : ".", path);
}

/* "models/sample/" → "<here>/sample-sintra"; "x/tiny.gguf" → "<here>/tiny-sintra". xfree. */
static char *default_out(const char *model)
{
    char real[PATH_MAX];
    const char *base = fs_basename(realpath(model, real) ? real : model);
    size_t n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".gguf") == 0)
        n -= 5;
    char *name = xasprintf("%.*s-sintra", (int)n, base);
    char *out = absolute(name);
    xfree(name);
    return out;
}

static double tighter_low(double asked, double demanded)
{
    return asked > demanded ? asked : demanded;
}

static double tighter_high(double asked, double demanded)
{
    return asked > 0 && (demanded <= 0 || asked < demanded) ? asked : demanded;
}

static void targets_fill(struct targets *t, const struct cmd_args *a)
{
    t->size_max = cmd_size(a, "target-size");
    t->bpw_max = cmd_real(a, "target-bpw");
    t->memory_max = cmd_size(a, "target-memory");
    t->context = (uint32_t)cmd_integer(a, "context");
    t->tps_min = cmd_real(a, "target-tps");
    t->latency_ms_max = cmd_real(a, "target-latency-ms");
    t->accuracy_min = cmd_real(a, "target-accuracy");
}

/* What the profile's machine can hold, and what its owner wants of it. */
static void targets_add_profile(struct targets *t, const struct hw_profile *p)
{
    if (p->max_model_bytes && (!t->size_max || p->max_model_bytes < t->size_max))
        t->size_max = p->max_model_bytes;
    t->tps_min = tighter_low(t->tps_min, p->min_tps);
    t->latency_ms_max = tighter_high(t->latency_ms_max, p->max_latency_ms);
    t->accuracy_min = tighter_low(t->accuracy_min, p->min_accuracy);
    /* Without any target run/ takes the machine's memory as one; beside others it must be said. */
    double gib = p->vram_gb > 0 ? p->vram_gb : p->ram_gb;
    if (targets_any(t) && t->memory_max == 0 && gib > 0)
        t->memory_max = (uint64_t)(memory_share * gib * 1073741824.0);
}

static int profile_fill(struct config *f, const struct cmd_context *c, const struct cmd_args *a,
                        struct err *e)
{
    const char *name = cmd_text(a, "profile");
    if (!name)
        return 0;
    if (cmd_flag(a, "auto-detect"))
        return err_set(e, ERR_USAGE, "give one of the two",
                       "--profile and --auto-detect contradict each other");
    char *dirs = cmd_profile_dirs(c);
    int rc = hw_profile_load(&f->profile, name, dirs, e);
    xfree(dirs);
    if (rc)
        return -1;
    f->have_profile = true;
    f->run.profile = &f->profile;
    targets_add_profile(&f->run.targets, &f->profile);
    return 0;
}

/* The part that optimize and plan share. */
static int config_fill(struct config *f, const struct cmd_context *c, const struct cmd_args *a,
                       int model, struct err *e)
{
    char *path = NULL;
    if (cmd_model_path(c, cmd_text_at(a, "model", model), &path, e))
        return -1;
    f->model = absolute(path);
    xfree(path);
    f->run.model_path = f->model;
    f->run.home = c->home;
    f->run.preset = cmd_text(a, "preset");
    f->run.threads = (int)cmd_integer(a, "threads");
    f->run.gpu_layers = cmd_gpu_layers(a);
    f->run.cache = cmd_cache(a);
    f->run.cache_fixed = cmd_given(a, "cache-type-k") || cmd_given(a, "cache-type-v");
    f->run.corpus = "self";
    targets_fill(&f->run.targets, a);
    return profile_fill(f, c, a, e);
}

static int config_fill_run(struct config *f, const struct cmd_args *a, struct err *e)
{
    const char *corpus = cmd_text(a, "corpus"), *out = cmd_text(a, "out");
    if (strcmp(corpus, "self") != 0 && corpus_check_file(corpus, e))
        return -1;
    f->corpus = strcmp(corpus, "self") == 0 ? xstrdup(corpus) : absolute(corpus);
    f->out = out ? absolute(out) : default_out(f->model);
    f->run.corpus = f->corpus;
    f->run.out_dir = f->out;
    f->run.tokens = (size_t)cmd_integer(a, "tokens");
    f->run.seed = (uint64_t)cmd_integer(a, "seed");
    f->run.effort = cmd_text(a, "effort");
    f->run.sibling_sensitivities = strcmp(cmd_text(a, "sensitivities"), "sibling") == 0;
    f->run.max_iters = (int)cmd_integer(a, "max-iters");
    f->run.budget_minutes = cmd_real(a, "budget-minutes");
    f->run.mock = cmd_flag(a, "mock");
    return 0;
}

/* A stored run has its own settings: options beside --resume that would change it are refused. */
static int check_resume(const struct cmd_args *a, struct err *e)
{
    for (const struct arg_spec *s = optimize_args; s->name; s++)
        if (strcmp(s->name, "resume") != 0 && cmd_given(a, s->name))
            return err_set(e, ERR_USAGE, "start a new run, or leave the option out",
                           "--%s beside --resume: a resumed run keeps the settings it began with",
                           s->name);
    return 0;
}

static void set_exit_code(struct cmd_context *c, const json_t *report)
{
    if (strcmp(json_opt_str(report, "status", "met"), "met") != 0)
        c->exit_code = 3;
}

static int take_id(void *ud, const struct store_run *r)
{
    snprintf(ud, 27, "%s", r->id);
    return 1;
}

/* The run that is named, or the latest that can be resumed; contest: the one it belongs to, or that
 * was cut off between its runs ("" = none). */
static int find_resumable(struct store *s, const char *name, char id[static 27],
                          char contest[static 27], struct err *e)
{
    contest[0] = id[0] = 0;
    if (name ? store_run_find(s, name, id, e) : store_runs(s, true, 1, take_id, id, e))
        return -1;
    if (id[0] && run_contest_of(s, id, contest))
        return 0;
    /* Ids begin with the time. */
    if (!name && run_contest_latest(s, contest) && strcmp(contest, id) > 0)
        return 0;
    contest[0] = 0;
    if (id[0])
        return 0;
    return err_set(e, ERR_MISSING, "'sintra runs' lists all runs",
                   "there is no interrupted run to go on with");
}

static int resume(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e)
{
    char id[27], contest[27];
    struct store *s = NULL;
    struct run_listener l = {.progress = c->progress, .event = c->event, .ud = c->event_ud};
    if (check_resume(a, e) || cmd_store_open(c, &s, e))
        return -1;
    int rc = find_resumable(s, cmd_text(a, "resume"), id, contest, e);
    if (rc == 0)
        rc = contest[0] ? run_contest_resume(contest, c->home, s, &l, result, e)
                        : run_resume(id, c->home, s, &l, result, e);
    if (rc == 0)
        set_exit_code(c, *result);
    store_close(s);
    return rc;
}

static int add_run(void *ud, const struct store_run *r)
{
    json_array_append_new(ud, cmd_run_json_new(r));
    return 0;
}

/* The runs, and the contest that --resume would go on with. */
static int list_checkpoints(struct cmd_context *c, json_t **result, struct err *e)
{
    struct store *s = NULL;
    char id[27], contest[27];
    if (cmd_store_open(c, &s, e))
        return -1;
    json_t *rows = json_array();
    int rc = store_runs(s, true, 0, add_run, rows, e);
    *result = json_pack("{s:o}", "runs", rows);
    if (rc == 0 && find_resumable(s, NULL, id, contest, NULL) == 0 && contest[0])
        json_object_set_new(*result, "contest", json_string(contest));
    store_close(s);
    if (rc) {
        json_decref(*result);
        *result = NULL;
    }
    return rc;
}

static int check_architect(const struct cmd_args *a, struct err *e)
{
    if (!cmd_given(a, "architect-model"))
        return 0;
    return err_set(e, ERR_USAGE, "leave it out",
                   "--architect-model: the builtin architect uses no model");
}

static int run_new(struct cmd_context *c, const struct config *f, json_t **result, struct err *e)
{
    struct store *s = NULL;
    struct run_listener l = {.progress = c->progress, .event = c->event, .ud = c->event_ud};
    if (cmd_store_open(c, &s, e))
        return -1;
    int rc = run_optimize(&f->run, s, &l, result, e);
    if (rc == 0)
        set_exit_code(c, *result);
    store_close(s);
    return rc;
}

/* Looking leaves no trace: what an earlier command has stored is read, nothing is made. */
static int plan_new(struct cmd_context *c, const struct config *f, json_t **result, struct err *e)
{
    struct store *s = NULL;
    struct run_listener l = {.progress = c->progress, .event = c->event, .ud = c->event_ud};
    char *path = cmd_home_path(c, "sintra.db");
    int rc = fs_exists(path) ? store_open(&s, path, e) : 0;
    xfree(path);
    if (rc == 0)
        rc = run_plan(&f->run, s, &l, result, e);
    if (rc == 0)
        set_exit_code(c, *result);
    store_close(s);
    return rc;
}

/* One plan, or those of several models. */
static int plan_models(struct cmd_context *c, const struct cmd_args *a, bool run, json_t **result,
                       struct err *e)
{
    int n = cmd_count(a, "model"), rc = 0;
    json_t *plans = json_array();
    for (int i = 0; rc == 0 && i < (n > 0 ? n : 1); i++) {
        struct config f = {0};
        json_t *plan = NULL;
        rc = config_fill(&f, c, a, i, e);
        if (rc == 0 && run)
            rc = config_fill_run(&f, a, e);
        if (rc == 0)
            rc = plan_new(c, &f, &plan, e);
        json_array_append_new(plans, plan);
        config_release(&f);
    }
    if (rc == 0)
        *result =
            n > 1 ? json_pack("{s:O}", "plans", plans) : json_incref(json_array_get(plans, 0));
    json_decref(plans);
    return rc;
}

/* Several models for one target. */
static int contest(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e)
{
    size_t n = (size_t)cmd_count(a, "model");
    const char *asked = cmd_text(a, "out");
    struct config *f = xcalloc(n, sizeof(*f));
    struct run_config *runs = xcalloc(n, sizeof(*runs));
    struct run_listener l = {.progress = c->progress, .event = c->event, .ud = c->event_ud};
    struct store *s = NULL;
    char *out = absolute(asked ? asked : "comparison-sintra");
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = config_fill(&f[i], c, a, (int)i, e);
        if (rc == 0)
            rc = config_fill_run(&f[i], a, e);
        runs[i] = f[i].run;
    }
    if (rc == 0)
        rc = cmd_store_open(c, &s, e);
    if (rc == 0)
        rc = run_contest(runs, n, out, s, &l, result, e);
    if (rc == 0)
        set_exit_code(c, *result);
    store_close(s);
    for (size_t i = 0; i < n; i++)
        config_release(&f[i]);
    xfree(f);
    xfree(runs);
    xfree(out);
    return rc;
}

static int optimize_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                        struct err *e)
{
    if (check_architect(a, e))
        return -1;
    if (cmd_flag(a, "list-checkpoints"))
        return list_checkpoints(c, result, e);
    if (cmd_given(a, "resume"))
        return resume(c, a, result, e);
    if (cmd_flag(a, "dry-run"))
        return plan_models(c, a, true, result, e);
    if (cmd_count(a, "model") > 1)
        return contest(c, a, result, e);
    struct config f = {0};
    int rc = config_fill(&f, c, a, 0, e);
    if (rc == 0)
        rc = config_fill_run(&f, a, e);
    if (rc == 0)
        rc = run_new(c, &f, result, e);
    config_release(&f);
    return rc;
}

static int probe_run_cmd(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                         struct err *e)
{
    struct config f = {0};
    struct store *s = NULL;
    struct run_listener l = {.progress = c->progress, .event = c->event, .ud = c->event_ud};
    char *path = NULL;
    const char *corpus = cmd_text(a, "corpus");
    bool self = strcmp(corpus, "self") == 0;
    if ((!self && corpus_check_file(corpus, e)) ||
        cmd_model_path(c, cmd_text(a, "MODEL"), &path, e))
        return -1;
    f.model = absolute(path);
    xfree(path);
    f.corpus = self ? xstrdup(corpus) : absolute(corpus);
    f.run = (struct run_config){.model_path = f.model,
                                .home = c->home,
                                .corpus = f.corpus,
                                .seed = (uint64_t)cmd_integer(a, "seed"),
                                .threads = (int)cmd_integer(a, "threads"),
                                .gpu_layers = cmd_gpu_layers(a)};
    int rc = cmd_store_open(c, &s, e);
    if (rc == 0)
        rc = run_probe(&f.run, s, &l, result, e);
    store_close(s);
    config_release(&f);
    return rc;
}

static int plan_run(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e)
{
    return plan_models(c, a, false, result, e);
}

const struct cmd cmd_optimize = {
    .name = "optimize",
    .group = CMD_MAIN,
    .summary = "find the best model file for your targets (the default command)",
    .description =
        "Measures the stock quantization mixes that can meet the targets, finds how sensitive "
        "every group of tensors is, and composes a better mix for the same size. What is reported "
        "was measured on text that the search never saw, and the delivered file was loaded and "
        "checked."
        "\n\n"
        "The result folder holds the GGUF file, its recipe.json, the importance matrix, "
        "report.json, report.md, report.html (one page with plot and maps, made to be passed on), "
        "a recipe for every member of the Pareto front in front/, and SHA256SUMS; an earlier "
        "result in the same folder is replaced. Every finished step is kept: Ctrl-C stops cleanly "
        "and --resume goes on."
        "\n\n"
        "Without a target a ladder of sizes is measured; the result is the whole front, and its "
        "knee is the file: the size from which on further bytes buy less agreement than they do "
        "on average."
        "\n\n"
        "--target-memory counts weights, buffers and the KV cache at --context, so the type of the "
        "cache is one more choice: f16, q8_0, q5_0 (without a GPU) or q4_0, where it leaves more "
        "for the weights than it costs. The result says with which options the file is to be run, "
        "and how far the context may grow. --cache-type-k and --cache-type-v fix the types; every "
        "candidate is then measured with them."
        "\n\n"
        "Below 3 bits per weight of the file (not with --effort fast) every block of the model is "
        "also left out alone, and candidates without those least missed are measured like all "
        "others; at most a quarter of the blocks goes."
        "\n\n"
        "--effort: fast rounds to the nearest and tries two candidates. normal rounds with error "
        "feedback among 256 neighbouring columns and tries up to eight; max among all columns of a "
        "row, which takes disk space of four bytes times columns squared for every matrix input, "
        "and tries up to sixteen."
        "\n\n"
        "A run starts from what earlier ones measured: text, importance and sensitivities of the "
        "same model are taken as they are, and so is the score of the same file on the same text; "
        "sensitivities of a sibling (same architecture and shapes, as fine-tunes of one base have) "
        "only with --sensitivities sibling, and the report says so. Speed is always measured."
        "\n\n"
        "Several --model compete for one target: each gets a run in DIR/NAME, and the files are "
        "compared by bits per byte of the same text, the last fifth of --corpus FILE, which no run "
        "is given. --resume goes on with the whole contest."
        "\n\n"
        "Exit code 0: the targets are met. 3: they are not; the best effort is delivered, unless "
        "arithmetic proves that nothing can meet them. 130: interrupted.",
    .example = "sintra optimize --target-bpw 4.5\n"
               "sintra optimize --model ./TinyLlama-1.1B --target-size 600MB --out tiny\n"
               "sintra optimize --profile raspberry-pi-5-8gb --target-tps 10\n"
               "sintra optimize --target-accuracy 0.95 --corpus notes.txt\n"
               "sintra optimize --model ./TinyLlama-1.1B --target-memory 1GiB --context 32768\n"
               "sintra optimize --model ./A --model ./B --target-size 2GiB --corpus text.txt\n"
               "sintra optimize --resume",
    .args = optimize_args,
    .run = optimize_run,
};

const struct cmd cmd_plan = {
    .name = "plan",
    .group = CMD_MAIN,
    .summary = "show what optimize would do, with exact sizes, writing nothing",
    .description =
        "Lists every stock mix with the exact size of its file, says which meet the targets, and "
        "what the search could use. The same as 'optimize --dry-run'."
        "\n\n"
        "Where the model's sensitivities are known (from 'sintra probe' or 'optimize'), it also "
        "predicts the KL divergence of every mix, of the best choice of types within the targets, "
        "whose recipe --json shows, and of the best choices of all sizes. Predictions are for "
        "choosing; optimize measures. A target for tokens/s or for the first token measures once "
        "how fast this machine is with each type.",
    .example = "sintra plan --target-bpw 4.5\n"
               "sintra plan --model ./Mistral-7B-v0.3 --profile mac-mini-m4",
    .args = plan_args,
    .run = plan_run,
};

const struct cmd cmd_probe = {
    .name = "probe",
    .group = CMD_MAIN,
    .summary = "measure how sensitive each tensor group is to each type",
    .description =
        "Replaces one group of tensors after another by what quantization makes of it, in the "
        "memory of a float model, and measures the KL divergence to the original; the encoder's "
        "errors then predict every type. No file is made. What is measured is kept: an interrupted "
        "call goes on where it was, 'sintra plan' predicts from it, and 'sintra optimize' with the "
        "same --corpus and --seed, at normal effort, starts from it.",
    .example = "sintra probe sample\n"
               "sintra probe ./TinyLlama-1.1B --corpus notes.txt --json",
    .args = probe_args,
    .run = probe_run_cmd,
};
