/* The loop in a simulated world: targets, presets, resuming after Ctrl-C and after kill -9,
 * infeasible targets, the result folder. No model and no weights are needed: the mock brings its
 * own description.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/stop.h"
#include "run/run.h"

/* ---- a home for each test ---- */

/* Where nothing is resumed the store is in memory: syncing every row to disk is not what is
 * tested. */
struct place {
    char *root, *home, *out, *db;
    bool kept;
};

static void place_init(struct place *p)
{
    p->kept = false;
    const char *tmp = getenv("TMPDIR");
    p->root = xasprintf("%s/sintra-run-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(p->root));
    p->home = fs_join(p->root, "home");
    p->out = fs_join(p->root, "out");
    p->db = fs_join(p->home, "sintra.db");
    assert_int_equal(fs_mkdirs(p->home, NULL), 0);
}

static void place_release(struct place *p)
{
    assert_int_equal(fs_remove_tree(p->root, NULL), 0);
    xfree(p->root);
    xfree(p->home);
    xfree(p->out);
    xfree(p->db);
}

static struct run_config mock_config(const struct place *p)
{
    return (struct run_config){.out_dir = p->out,
                               .home = p->home,
                               .corpus = "self",
                               .seed = 3,
                               .preset = "auto",
                               .gpu_layers = -1,
                               .mock = true};
}

/* What a listener saw. stop_at or kill_at: at the n-th event of the kind. */
struct seen {
    int trials_begun, trials_done, finals, phases, notes, done, all;
    bool unlabelled;
    const char *kind;
    int stop_at, kill_at, of_kind;
};

static void on_event(void *ud, const json_t *doc)
{
    struct seen *s = ud;
    const char *kind = json_opt_str(doc, "event", ""), *state = json_opt_str(doc, "state", "");
    s->all++;
    s->unlabelled = s->unlabelled || !json_opt_bool(doc, "mock", false);
    if (strcmp(kind, "trial") == 0) {
        s->trials_begun += strcmp(state, "running") == 0;
        s->trials_done += strcmp(state, "done") == 0;
    }
    s->finals += strcmp(kind, "final") == 0;
    s->phases += strcmp(kind, "phase") == 0;
    s->notes += strcmp(kind, "note") == 0;
    s->done += strcmp(kind, "done") == 0;
    if (!s->kind || strcmp(kind, s->kind) != 0)
        return;
    s->of_kind++;
    if (s->of_kind == s->stop_at)
        stop_request();
    if (s->of_kind == s->kill_at)
        raise(SIGKILL);
}

static json_t *optimize(const struct place *p, const struct run_config *c, struct seen *seen)
{
    struct store *s;
    struct err e = {0};
    json_t *report = NULL;
    struct run_listener l = {.event = on_event, .ud = seen};
    assert_int_equal(store_open(&s, p->kept ? p->db : NULL, &e), 0);
    if (run_optimize(c, s, &l, &report, &e) != 0)
        fail_msg("%s", e.message);
    store_close(s);
    return report;
}

static double number(const json_t *doc, const char *a, const char *b, const char *key)
{
    const json_t *o = json_object_get(doc, a);
    return json_number_value(json_object_get(b ? json_object_get(o, b) : o, key));
}

static char *file_text(const char *folder, const char *name)
{
    char *path = fs_join(folder, name), *text = NULL;
    size_t n;
    assert_int_equal(fs_read_all(path, 1 << 24, &text, &n, NULL), 0);
    xfree(path);
    return text;
}

static bool has_file(const char *folder, const char *name)
{
    char *path = fs_join(folder, name);
    bool found = fs_exists(path);
    xfree(path);
    return found;
}

/* ---- targets ---- */

static void check_labelled(const struct place *p, const json_t *report, const struct seen *seen)
{
    assert_true(json_opt_bool(report, "mock", false));
    assert_false(seen->unlabelled);
    assert_int_equal(seen->done, 1);
    assert_true(json_is_null(json_object_get(json_object_get(report, "best"), "file")));
    char *md = file_text(p->out, "report.md");
    assert_non_null(strstr(md, "Simulated"));
    xfree(md);
    assert_true(has_file(p->out, "report.json"));
    assert_true(has_file(p->out, "recipe.json"));
    assert_true(has_file(p->out, "SHA256SUMS"));
    assert_false(has_file(p->out, "imatrix.gguf"));
}

static void test_bpw(void **state)
{
    struct place p;
    struct seen seen = {0};
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.targets.bpw_max = 4.5;
    json_t *r = optimize(&p, &c, &seen);
    check_labelled(&p, r, &seen);
    assert_string_equal(json_opt_str(r, "status", ""), "met");
    assert_true(number(r, "best", NULL, "bpw") <= 4.5);
    assert_true(number(r, "best", NULL, "bpw") > 4.45); /* the room is used */
    const json_t *paired = json_object_get(r, "paired");
    assert_true(json_real_value(json_object_get(paired, "kld_ratio")) < 0.95);
    assert_true(json_opt_bool(paired, "reliable", false));
    assert_string_equal(json_opt_str(json_object_get(r, "best"), "measured_on", ""), "held-out");
    assert_int_equal(seen.trials_begun, seen.trials_done);
    assert_int_equal(seen.trials_done, json_integer_value(json_object_get(r, "trials")));
    json_decref(r);
    place_release(&p);
}

static void test_other_targets(void **state)
{
    static const struct {
        const char *name;
        struct targets t;
    } cases[] = {
        {"size", {.size_max = 560000000}},
        {"memory", {.memory_max = 700000000, .context = 1024}},
        {"speed", {.tps_min = 30}},
        {"first token", {.latency_ms_max = 213}},
        {"both, the first token binds", {.tps_min = 20, .latency_ms_max = 213}},
        {"both, tokens per second bind", {.tps_min = 30, .latency_ms_max = 300}},
        {"accuracy", {.accuracy_min = 0.94}},
        {"several", {.size_max = 700000000, .accuracy_min = 0.9, .latency_ms_max = 1000}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct place p;
        struct seen seen = {0};
#ifdef __SANITIZE_ADDRESS__ /* half a minute each; test_allocate solves the same, smaller */
        if (cases[i].t.latency_ms_max > 0 && cases[i].t.size_max == 0)
            continue;
#endif
        place_init(&p);
        struct run_config c = mock_config(&p);
        c.targets = cases[i].t;
        json_t *r = optimize(&p, &c, &seen);
        check_labelled(&p, r, &seen);
        if (strcmp(json_opt_str(r, "status", ""), "met") != 0)
            fail_msg("%s: %s", cases[i].name, json_opt_str(r, "reason", "?"));
        double bytes = number(r, "best", NULL, "bytes");
        if (cases[i].t.size_max)
            assert_true(bytes <= (double)cases[i].t.size_max);
        if (cases[i].t.memory_max) {
            double memory = number(r, "best", "score", "memory_bytes");
            assert_true(memory <= (double)cases[i].t.memory_max);
            assert_true(memory > 0.97 * (double)cases[i].t.memory_max);
        }
        if (cases[i].t.tps_min > 0 || cases[i].t.latency_ms_max == 213)
            assert_in_range((uint64_t)number(r, "best", "score", "tps_decode"), 30, 33);
        /* 30 tokens per second are 213 ms for a prompt in the simulation: limits are used up. */
        if (cases[i].t.latency_ms_max > 0 && !cases[i].t.size_max)
            assert_in_range((uint64_t)number(r, "best", "score", "first_token_ms"), 194, 213);
        if (cases[i].t.accuracy_min > 0 && !cases[i].t.size_max)
            assert_true(number(r, "best", "score", "top1") < 0.95); /* no larger than needed */
        json_decref(r);
        place_release(&p);
    }
}

static const char *text_of(const json_t *o, const char *a, const char *b)
{
    return json_opt_str(json_object_get(o, a), b, "");
}

/* All candidates' KV caches have these types. */
static void expect_caches(const json_t *report, const char *list, const char *k)
{
    const json_t *c;
    size_t i;
    json_array_foreach(json_object_get(report, list), i, c)
    {
        assert_string_equal(text_of(json_object_get(c, "recipe"), "kv", "k"), k);
    }
    assert_true(i > 0);
}

/* A memory that a long context nearly fills: a smaller cache leaves more for the weights. */
static void test_memory_chooses_a_cache(void **state)
{
    struct place p;
    struct seen seen = {0};
    char sentence[600];
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.targets = (struct targets){.memory_max = 700000000, .context = 8192};
    json_t *r = optimize(&p, &c, &seen);
    const json_t *cache = json_object_get(r, "cache");
    check_labelled(&p, r, &seen);
    assert_string_equal(json_opt_str(r, "status", ""), "met");
    assert_string_equal(text_of(r, "cache", "k"), "q5_0");
    assert_string_equal(json_opt_str(cache, "flags", ""), "-ctk q5_0 -ctv q5_0 -fa on");
    assert_int_equal(json_array_size(json_object_get(cache, "choices")), 4);
    const json_t *wide = json_array_get(json_object_get(cache, "choices"), 0),
                 *taken = json_array_get(json_object_get(cache, "choices"), 2);
    assert_string_equal(json_opt_str(wide, "k", ""), "f16");
    assert_string_equal(json_opt_str(taken, "k", ""), "q5_0");
    assert_true(json_opt_real(wide, "kld_predicted", 0) >
                2 * json_opt_real(taken, "kld_predicted", 1));
    assert_true(number(r, "best", "score", "kld_mean") <
                json_opt_real(wide, "kld_predicted", 0) / 2);
    double longest = json_opt_real(cache, "longest_context", 0);
    assert_true(longest >= 8192 && longest < 8500);
    char *md = run_report_markdown(r), *page = run_report_html(r);
    snprintf(sentence, sizeof(sentence), "Contexts of up to %.0f tokens fit", longest);
    assert_non_null(strstr(md, sentence));
    assert_non_null(strstr(page, sentence));
    assert_non_null(strstr(md, "| q5_0 |"));
    xfree(md);
    xfree(page);
    json_decref(r);
    place_release(&p);
}

static void test_fixed_cache(void **state)
{
    struct place p;
    struct seen seen = {0};
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.targets = (struct targets){.memory_max = 700000000, .context = 8192};
    c.cache = (struct cache_types){CACHE_Q4_0, CACHE_Q5_1};
    c.cache_fixed = true;
    json_t *r = optimize(&p, &c, &seen);
    expect_caches(r, "stock", "q4_0");
    expect_caches(r, "front", "q4_0");
    assert_true(json_opt_bool(json_object_get(r, "cache"), "fixed", false));
    assert_string_equal(text_of(r, "cache", "v"), "q5_1");
    json_decref(r);
    place_release(&p);
}

static void test_no_target_and_presets(void **state)
{
    static const char *const presets[] = {"auto", "chatbot", "batch", "smallest", "quality"};
    (void)state;
    for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
        struct place p;
        struct seen seen = {0};
        place_init(&p);
        struct run_config c = mock_config(&p);
        c.preset = presets[i];
        json_t *r = optimize(&p, &c, &seen);
        check_labelled(&p, r, &seen);
        assert_string_equal(json_opt_str(r, "status", ""), "met");
        if (i == 0) /* a front to choose from, and a point on it that is neither end */
            assert_true(json_array_size(json_object_get(r, "front")) >= 6);
        json_decref(r);
        place_release(&p);
    }
}

static void test_best_effort(void **state)
{
    struct place p;
    struct seen seen = {0};
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.targets = (struct targets){.accuracy_min = 0.9999};
    json_t *r = optimize(&p, &c, &seen);
    assert_string_equal(json_opt_str(r, "status", ""), "best_effort");
    assert_non_null(strstr(json_opt_str(r, "reason", ""), "top-1 agreement"));
    assert_true(has_file(p.out, "report.json"));
    json_decref(r);
    place_release(&p);
}

static int count_run(void *ud, const struct store_run *r)
{
    (void)r;
    ++*(int *)ud;
    return 0;
}

static void check_infeasible(struct targets t, const struct hw_profile *profile, const char *phrase)
{
    struct place p;
    struct seen seen = {0};
    struct store *s;
    int runs = 0;
    place_init(&p);
    p.kept = true;
    struct run_config c = mock_config(&p);
    c.targets = t;
    c.profile = profile;
    json_t *r = optimize(&p, &c, &seen);
    assert_string_equal(json_opt_str(r, "status", ""), "infeasible");
    if (!strstr(json_opt_str(r, "reason", ""), phrase))
        fail_msg("\"%s\" lacks \"%s\"", json_opt_str(r, "reason", ""), phrase);
    assert_true(strlen(json_opt_str(r, "hint", "")) > 10);
    assert_false(fs_exists(p.out));
    assert_int_equal(seen.all, 0);
    assert_int_equal(store_open(&s, p.db, NULL), 0);
    assert_int_equal(store_runs(s, false, 0, count_run, &runs, NULL), 0);
    assert_int_equal(runs, 0);
    store_close(s);
    json_decref(r);
    place_release(&p);
}

static void test_infeasible(void **state)
{
    struct hw_profile pi = {
        .name = "board", .ram_gb = 8, .bandwidth_gbs = 17.1, .efficiency = 0.6, .remote = true};
    (void)state;
    check_infeasible((struct targets){.size_max = 100000000}, NULL,
                     "the target of 95.4 MiB is below");
    check_infeasible((struct targets){.bpw_max = 1}, NULL, "1 bits per weight (131 MiB)");
    check_infeasible((struct targets){.memory_max = 240000000, .context = 8192}, NULL,
                     "of KV cache (q4_0) at 8192 tokens");
    check_infeasible((struct targets){.tps_min = 200}, &pi, "200 tokens/s needs at most");
}

/* Another machine: its speed is predicted, labelled so, and the limit on bytes follows from it. */
static void test_remote_profile(void **state)
{
    struct hw_profile board = {
        .name = "board", .ram_gb = 8, .bandwidth_gbs = 17.1, .efficiency = 0.6, .remote = true};
    struct place p;
    struct seen seen = {0};
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.targets.tps_min = 18;
    c.profile = &board;
    json_t *r = optimize(&p, &c, &seen);
    assert_string_equal(json_opt_str(r, "status", ""), "met");
    assert_in_range((uint64_t)number(r, "best", "score", "tps_decode"), 18, 19);
    assert_true(json_array_size(json_object_get(json_object_get(r, "best"), "predicted")) >= 2);
    json_decref(r);
    place_release(&p);
}

static int count_text(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

/* Types that the device decodes slowly are not chosen for their few bytes when a speed is asked. */
static void test_slow_types(void **state)
{
    static const char *const slow[] = {"IQ4_XS", "IQ4_NL", "IQ3_S", "IQ3_XXS", "IQ2_S", "Q3_K"};
    struct hw_profile board = {
        .name = "board", .ram_gb = 8, .bandwidth_gbs = 17.1, .efficiency = 0.6, .remote = true};
    (void)state;
    for (int with = 0; with < 2; with++) {
        struct place p;
        struct seen seen = {0};
        place_init(&p);
        struct run_config c = mock_config(&p);
        c.targets.tps_min = 18;
        c.profile = &board;
        for (int i = 0; with && i < 6; i++) {
            snprintf(board.factors[i].type, HW_TYPE_NAME_MAX, "%s", slow[i]);
            board.factors[i].factor = 4;
            board.n_factors = i + 1;
        }
        json_t *r = optimize(&p, &c, &seen);
        assert_string_equal(json_opt_str(r, "status", ""), "met");
        assert_true(number(r, "best", "score", "tps_decode") >= 18);
        char *recipe = json_text(json_object_get(json_object_get(r, "best"), "recipe"), false);
        int n = 0;
        for (int i = 0; i < 6; i++)
            n += count_text(recipe, slow[i]);
        if (with)
            assert_int_equal(n, 0);
        else
            assert_true(n > 0);
        xfree(recipe);
        json_decref(r);
        place_release(&p);
    }
}

/* ---- resuming ---- */

static char *winner(const json_t *report)
{
    return json_text(json_object_get(json_object_get(report, "best"), "recipe"), false);
}

static json_t *resume(const struct place *p, struct seen *seen)
{
    struct store *s;
    struct err e = {0};
    char id[27];
    json_t *report = NULL;
    struct run_listener l = {.event = on_event, .ud = seen};
    assert_int_equal(store_open(&s, p->db, &e), 0);
    assert_int_equal(store_run_find(s, "latest", id, &e), 0);
    if (run_resume(id, p->home, s, &l, &report, &e) != 0)
        fail_msg("%s", e.message);
    store_close(s);
    return report;
}

struct keys {
    char key[200][80];
    int n;
};

static int add_key(void *ud, const struct store_trial *t)
{
    struct keys *k = ud;
    if (strcmp(t->state, "done") != 0)
        return 0;
    for (int i = 0; i < k->n; i++)
        assert_string_not_equal(k->key[i], t->key); /* no finished trial twice */
    snprintf(k->key[k->n++], sizeof(k->key[0]), "%s", t->key);
    return 0;
}

static int done_trials(const struct place *p)
{
    struct store *s;
    struct keys *k = xcalloc(1, sizeof(*k));
    char id[27];
    assert_int_equal(store_open(&s, p->db, NULL), 0);
    assert_int_equal(store_run_find(s, "latest", id, NULL), 0);
    assert_int_equal(store_trials(s, id, add_key, k, NULL), 0);
    store_close(s);
    int n = k->n;
    xfree(k);
    return n;
}

static void test_interrupt_and_resume(void **state)
{
    struct place p;
    struct seen whole = {0}, first = {.kind = "trial", .stop_at = 5}, second = {0};
    struct store *s;
    struct err e = {0};
    json_t *report = NULL;
    (void)state;
    place_init(&p);
    p.kept = true;
    struct run_config c = mock_config(&p);
    c.targets.bpw_max = 4.2;
    json_t *want = optimize(&p, &c, &whole);
    char *want_recipe = winner(want);
    int all_trials = done_trials(&p);

    struct run_listener l = {.event = on_event, .ud = &first};
    assert_int_equal(store_open(&s, p.db, NULL), 0);
    assert_int_equal(run_optimize(&c, s, &l, &report, &e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    assert_non_null(strstr(e.hint, "--resume"));
    assert_null(report);
    stop_reset();
    int resumable = 0;
    assert_int_equal(store_runs(s, true, 0, count_run, &resumable, NULL), 0);
    assert_int_equal(resumable, 1);
    store_close(s);

    json_t *got = resume(&p, &second);
    char *got_recipe = winner(got);
    assert_string_equal(got_recipe, want_recipe);
    assert_int_equal(done_trials(&p), all_trials);
    assert_true(second.trials_begun < whole.trials_begun);
    assert_int_equal(first.trials_done + second.trials_done, whole.trials_done);
    xfree(want_recipe);
    xfree(got_recipe);
    json_decref(want);
    json_decref(got);
    place_release(&p);
}

/* Killed at the n-th event of a kind, in a process of its own. */
static void killed_run(const struct place *p, const struct run_config *c, const char *kind, int n)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct seen seen = {.kind = kind, .kill_at = n};
        struct run_listener l = {.event = on_event, .ud = &seen};
        struct store *s;
        json_t *report;
        if (store_open(&s, p->db, NULL) == 0)
            run_optimize(c, s, &l, &report, NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_kill_and_resume(void **state)
{
    static const struct {
        const char *kind;
        int n;
    } moments[] = {{"begin", 1}, {"phase", 2}, {"trial", 1}, {"trial", 4},
                   {"trial", 7}, {"final", 1}, {"phase", 6}};
    struct place p;
    struct seen whole = {0};
    (void)state;
    place_init(&p);
    p.kept = true;
    struct run_config c = mock_config(&p);
    c.targets.bpw_max = 4.7;
    json_t *want = optimize(&p, &c, &whole);
    char *want_recipe = winner(want);
    int all_trials = done_trials(&p);
    for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
        struct seen seen = {0};
        killed_run(&p, &c, moments[i].kind, moments[i].n);
        json_t *got = resume(&p, &seen);
        char *got_recipe = winner(got);
        assert_string_equal(got_recipe, want_recipe);
        assert_int_equal(done_trials(&p), all_trials);
        xfree(got_recipe);
        json_decref(got);
    }
    /* What a kill during delivery left beside the folder is gone, and so are the runs' folders. */
    char **names;
    size_t n;
    assert_int_equal(fs_list(p.root, &names, &n, NULL), 0);
    assert_int_equal(n, 2); /* home, out */
    fs_list_free(names, n);
    xfree(want_recipe);
    json_decref(want);
    place_release(&p);
}

/* ---- a contest goes on as a whole ---- */

struct rivals {
    char *models[2], *text, *out;
    struct run_config c[2];
};

static void rivals_init(struct rivals *v, const struct place *p)
{
    const char *root = getenv("SINTRA_ROOT");
    char *sample = fs_join(root ? root : ".", "models/sample"), absolute[4096];
    assert_non_null(realpath(sample, absolute));
    v->text = fs_join(p->root, "text.txt");
    v->out = fs_join(p->root, "both");
    FILE *f = fopen(v->text, "w");
    for (int i = 0; i < 4000; i++)
        fprintf(f, "Line %d of a text about nothing.\n", i);
    assert_int_equal(fclose(f), 0);
    for (int i = 0; i < 2; i++) {
        v->models[i] = fs_join(p->root, i == 0 ? "one" : "two");
        assert_int_equal(symlink(absolute, v->models[i]), 0);
        v->c[i] = mock_config(p);
        v->c[i].model_path = v->models[i];
        v->c[i].out_dir = NULL;
        v->c[i].corpus = v->text;
        v->c[i].targets.bpw_max = 4.7;
        v->c[i].seed = 3 + (uint64_t)i;
        v->c[i].cache = (struct cache_types){CACHE_Q8_0, CACHE_Q8_0};
        v->c[i].cache_fixed = true;
    }
    xfree(sample);
}

static void rivals_release(struct rivals *v)
{
    xfree(v->models[0]);
    xfree(v->models[1]);
    xfree(v->text);
    xfree(v->out);
}

/* Runs, or kills at the n-th event of a kind; *done: trials that ended. */
static json_t *contest_run(const struct place *p, const struct rivals *v, const char *kind, int n,
                           int *done)
{
    struct seen seen = {.kind = kind, .kill_at = n};
    struct run_listener l = {.event = on_event, .ud = &seen};
    struct store *s;
    struct err e = {0};
    json_t *result = NULL;
    assert_int_equal(store_open(&s, p->db, NULL), 0);
    if (run_contest(v->c, 2, v->out, s, &l, &result, &e) != 0)
        fail_msg("%s", e.message);
    store_close(s);
    *done = seen.trials_done;
    return result;
}

static int runs_stored(const struct place *p)
{
    struct store *s;
    int n = 0;
    assert_int_equal(store_open(&s, p->db, NULL), 0);
    assert_int_equal(store_runs(s, false, 0, count_run, &n, NULL), 0);
    store_close(s);
    return n;
}

static int all_done(void *ud, const struct store_trial *t)
{
    *(int *)ud += strcmp(t->state, "done") == 0 && strcmp(t->kind, "final") != 0;
    assert_non_null(strstr(t->recipe, "q8_0")); /* the cache that was asked for, resumed or not */
    return 0;
}

struct counting {
    struct store *store;
    int n;
};

static int trials_of(void *ud, const struct store_run *r)
{
    struct counting *c = ud;
    return store_trials(c->store, r->id, all_done, &c->n, NULL);
}

/* Finished trials of all runs: what is repeated would be there twice. */
static int trials_stored(const struct place *p)
{
    struct counting c = {0};
    assert_int_equal(store_open(&c.store, p->db, NULL), 0);
    assert_int_equal(store_runs(c.store, false, 0, trials_of, &c, NULL), 0);
    store_close(c.store);
    return c.n;
}

static void same_contest(const json_t *a, const json_t *b)
{
    static const char *const same[] = {"bytes", "bits_per_byte", "status", "name", "difference"};
    assert_string_equal(json_opt_str(a, "take", "?"), json_opt_str(b, "take", "!"));
    for (size_t i = 0; i < 2; i++) {
        const json_t *x = json_array_get(json_object_get(a, "models"), i);
        const json_t *y = json_array_get(json_object_get(b, "models"), i);
        for (size_t k = 0; k < sizeof(same) / sizeof(same[0]); k++)
            assert_true(json_object_get(x, same[k]) == json_object_get(y, same[k]) ||
                        json_equal(json_object_get(x, same[k]), json_object_get(y, same[k])));
    }
}

static void test_contest_resumes(void **state)
{
    /* In the first run, between the runs, in the second, before the comparison. */
    static const struct {
        const char *kind;
        int n;
    } moments[] = {{"begin", 1}, {"trial", 4}, {"done", 1},
                   {"begin", 2}, {"final", 3}, {"done", 2}};
    struct place p;
    struct rivals v;
    int trials, ignored;
    (void)state;
    place_init(&p);
    rivals_init(&v, &p);
    json_t *want = contest_run(&p, &v, NULL, 0, &trials);
    int stored = trials_stored(&p);
    assert_true(stored >= 6 && stored == trials);
    rivals_release(&v);
    place_release(&p);
    for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
        place_init(&p);
        rivals_init(&v, &p);
        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            contest_run(&p, &v, moments[i].kind, moments[i].n, &ignored);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        struct store *s;
        struct err e = {0};
        char contest[27], id[27], of_run[27];
        json_t *got = NULL;
        assert_int_equal(store_open(&s, p.db, NULL), 0);
        assert_true(run_contest_latest(s, contest));
        assert_int_equal(store_run_find(s, "latest", id, NULL), 0);
        assert_true(run_contest_of(s, id, of_run));
        assert_string_equal(of_run, contest);
        if (run_contest_resume(contest, p.home, s, NULL, &got, &e) != 0)
            fail_msg("%s", e.message);
        assert_false(run_contest_latest(s, contest)); /* it has ended */
        assert_false(run_contest_of(s, id, of_run));
        store_close(s);
        same_contest(got, want);
        assert_int_equal(runs_stored(&p), 2);
        assert_int_equal(trials_stored(&p), stored);
        json_decref(got);
        rivals_release(&v);
        place_release(&p);
    }
    json_decref(want);
}

/* The text decides which model to take: another one is another contest. */
static void test_contest_of_another_text(void **state)
{
    struct place p;
    struct rivals v;
    struct store *s;
    struct err e = {0};
    json_t *result = NULL;
    struct seen seen = {.kind = "trial", .stop_at = 2};
    struct run_listener l = {.event = on_event, .ud = &seen};
    char contest[27];
    (void)state;
    place_init(&p);
    rivals_init(&v, &p);
    assert_int_equal(store_open(&s, p.db, NULL), 0);
    assert_int_equal(run_contest(v.c, 2, v.out, s, &l, &result, &e), -1);
    stop_reset();
    assert_int_equal(e.code, ERR_INTERRUPTED);
    assert_non_null(strstr(e.hint, "--resume"));
    assert_true(run_contest_latest(s, contest));
    FILE *f = fopen(v.text, "a");
    fprintf(f, "One line more.\n");
    assert_int_equal(fclose(f), 0);
    assert_int_equal(run_contest_resume(contest, p.home, s, NULL, &result, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.message, "changed since the contest began"));
    assert_int_equal(run_contest_resume("nothing", p.home, s, NULL, &result, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    store_close(s);
    rivals_release(&v);
    place_release(&p);
}

static void test_resume_finished_or_foreign(void **state)
{
    struct place p;
    struct seen seen = {0};
    struct store *s;
    struct err e = {0};
    char id[27];
    json_t *report = NULL;
    (void)state;
    place_init(&p);
    p.kept = true;
    struct run_config c = mock_config(&p);
    c.targets.bpw_max = 5;
    json_decref(optimize(&p, &c, &seen));
    assert_int_equal(store_open(&s, p.db, NULL), 0);
    assert_int_equal(store_run_find(s, "latest", id, NULL), 0);
    assert_int_equal(run_resume(id, p.home, s, NULL, &report, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_int_equal(run_resume("nothing", p.home, s, NULL, &report, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    store_close(s);
    place_release(&p);
}

/* ---- budget, seeds, plan, folder ---- */

static void test_max_iters_and_budget(void **state)
{
    struct place p;
    struct seen seen = {0};
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.targets.bpw_max = 4.5;
    c.max_iters = 1;
    json_t *r = optimize(&p, &c, &seen);
    assert_true(seen.trials_done <= 1 + 6); /* one of the search, at most six stock mixes */
    json_decref(r);
    struct seen short_run = {0};
    c.max_iters = 0;
    c.budget_minutes = 1e-9;
    r = optimize(&p, &c, &short_run);
    assert_int_equal(short_run.trials_done, 1); /* one there must be */
    json_decref(r);
    place_release(&p);
}

static void test_deterministic(void **state)
{
    struct place p;
    struct seen seen = {0};
    char *text[3];
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.targets.bpw_max = 4.5;
    for (int i = 0; i < 3; i++) {
        c.seed = i < 2 ? 3 : 4;
        json_t *r = optimize(&p, &c, &seen);
        text[i] = winner(r);
        json_decref(r);
    }
    assert_string_equal(text[0], text[1]);
    assert_string_not_equal(text[0], text[2]);
    for (int i = 0; i < 3; i++)
        xfree(text[i]);
    place_release(&p);
}

static void test_plan(void **state)
{
    struct place p;
    struct err e = {0};
    json_t *plan = NULL;
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.targets.bpw_max = 4.5;
    assert_int_equal(run_plan(&c, NULL, NULL, &plan, &e), 0);
    const json_t *stock = json_object_get(plan, "stock"), *row;
    size_t i, fits = 0;
    double limit = number(plan, "limits", NULL, "bytes_max");
    json_array_foreach(stock, i, row)
    {
        bool in = json_opt_bool(row, "fits", false);
        assert_int_equal(in, json_opt_real(row, "bytes", 0) <= limit);
        fits += in;
    }
    assert_true(json_array_size(stock) > 15 && fits >= 5 && fits < json_array_size(stock));
    assert_false(fs_exists(p.out));
    json_decref(plan);
    c.targets.bpw_max = 0.6;
    assert_int_equal(run_plan(&c, NULL, NULL, &plan, &e), 0);
    assert_string_equal(json_opt_str(plan, "status", ""), "infeasible");
    json_decref(plan);
    place_release(&p);
}

/* With room for more than eight bits, groups may stay as they are; with less, none could gain. */
static void test_unquantized_groups(void **state)
{
    struct place p;
    struct seen seen = {0};
    (void)state;
    for (int roomy = 0; roomy < 2; roomy++) {
        place_init(&p);
        struct run_config c = mock_config(&p);
        c.targets.bpw_max = roomy ? 11 : 5;
        json_t *r = optimize(&p, &c, &seen);
        char *recipe = json_text(json_object_get(json_object_get(r, "best"), "recipe"), false);
        assert_string_equal(json_opt_str(r, "status", ""), "met");
        assert_int_equal(count_text(recipe, "BF16") > 0, roomy);
        assert_true(number(r, "best", NULL, "bpw") <= c.targets.bpw_max);
        assert_true(!roomy || number(r, "best", NULL, "bpw") > 10.5);
        xfree(recipe);
        json_decref(r);
        place_release(&p);
    }
}

static void refuse_out(const struct run_config *c, const char *phrase)
{
    struct store *s;
    struct err e = {0};
    json_t *report = NULL;
    assert_int_equal(store_open(&s, NULL, NULL), 0);
    assert_int_equal(run_optimize(c, s, NULL, &report, &e), -1);
    if (!strstr(e.message, phrase))
        fail_msg("\"%s\" lacks \"%s\"", e.message, phrase);
    store_close(s);
}

static void test_result_folder(void **state)
{
    struct place p;
    struct seen seen = {0};
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.targets.bpw_max = 5;
    char *mine = fs_join(p.out, "notes.txt"), *file = fs_join(p.root, "file");
    assert_int_equal(fs_mkdirs(p.out, NULL), 0);
    json_decref(optimize(&p, &c, &seen)); /* an empty folder is fine */
    char *before = file_text(p.out, "report.json");
    json_decref(optimize(&p, &c, &seen)); /* an earlier result is replaced */
    char *after = file_text(p.out, "report.json");
    assert_string_not_equal(before, after);
    xfree(before);
    assert_int_equal(fs_write_all(mine, "mine", 4, NULL), 0);
    refuse_out(&c, "notes.txt, which would be lost");
    char *still = file_text(p.out, "report.json");
    assert_string_equal(still, after);
    xfree(after);
    xfree(still);
    assert_int_equal(fs_write_all(file, "x", 1, NULL), 0);
    c.out_dir = file;
    refuse_out(&c, "is no folder");
    c.out_dir = p.root;
    refuse_out(&c, "holds no earlier result");
    char *below = fs_join(file, "out");
    c.out_dir = below;
    refuse_out(&c, "result folder");
    xfree(below);
    /* Nothing temporary is left beside the folder. */
    char **names;
    size_t n;
    assert_int_equal(fs_list(p.root, &names, &n, NULL), 0);
    assert_int_equal(n, 3); /* file, home, out */
    fs_list_free(names, n);
    xfree(mine);
    xfree(file);
    place_release(&p);
}

static void test_bad_settings(void **state)
{
    struct place p;
    (void)state;
    place_init(&p);
    struct run_config c = mock_config(&p);
    c.preset = "fastest";
    refuse_out(&c, "no preset \"fastest\"");
    c = mock_config(&p);
    c.targets.accuracy_min = 1.5;
    refuse_out(&c, "expected 0 to 1");
    c = mock_config(&p);
    c.mock = false;
    refuse_out(&c, "no model is given");
    place_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpw),
        cmocka_unit_test(test_other_targets),
        cmocka_unit_test(test_memory_chooses_a_cache),
        cmocka_unit_test(test_fixed_cache),
        cmocka_unit_test(test_no_target_and_presets),
        cmocka_unit_test(test_best_effort),
        cmocka_unit_test(test_infeasible),
        cmocka_unit_test(test_remote_profile),
        cmocka_unit_test(test_slow_types),
        cmocka_unit_test(test_unquantized_groups),
        cmocka_unit_test(test_interrupt_and_resume),
        cmocka_unit_test(test_kill_and_resume),
        cmocka_unit_test(test_contest_resumes),
        cmocka_unit_test(test_contest_of_another_text),
        cmocka_unit_test(test_resume_finished_or_foreign),
        cmocka_unit_test(test_max_iters_and_budget),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_result_folder),
        cmocka_unit_test(test_bad_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
