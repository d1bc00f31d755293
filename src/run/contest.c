/* Several models for one target: which one to take.
 *
 * Every model gets a run of its own, with the same targets, on the same text. KL divergence is a
 * distance from each model's own original and says nothing about which original was better; and
 * tokens of different vocabularies are not the same events. What can be compared is how well the
 * delivered files predict the same bytes: bits per byte on text that no run has seen, namely the
 * last fifth of the corpus, which the runs are not given. Pieces of that text are the same bytes
 * for all (measure/bytes.c), so differences are paired by piece.
 *
 * A contest that is interrupted goes on where it was: runs that have ended are read from their
 * rows, the one that was cut off is resumed, the others begin.
 */
#include "run/contest_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/stat.h"
#include "run/page_int.h"
#include "base/banned.h"

enum {
    PIECES_MAX = 128,
    PIECES_LARGE = 32, /* when some model is large: every token costs */
    PIECES_MIN = 8,
    WINDOW_MIN = 16,
    WINDOW_MAX = 512,
    TEXT_BYTES_MAX = 1 << 30,
    COMPARISON_MAX = 1 << 20
};
static const uint64_t large_parameters = 100000000;
static const double held_out = 0.2; /* of the corpus's bytes */

struct entry {
    struct run_config config;
    char *name, *out, *tag;
    json_t *report; /* of its run */
    double *bits;   /* (n_pieces), NaN = does not fit */
    double mean, low, high;
    bool scored, met;
};

struct contest {
    struct entry *entries;
    size_t n;
    const char *out;
    char *text;
    size_t text_bytes, held_out_from;
    char text_sha256[65];
    struct byte_piece *pieces;
    size_t n_pieces, used; /* used: those that all models could hold */
    uint64_t scored_bytes;
    uint32_t n_ctx; /* of the windows that the pieces must fit into */
    bool large;     /* some model is */
    int best;
};

/* ---- before the work ---- */

/* The last part of a path as a folder's name, told apart from the names before it. xfree. */
static char *entry_name(const struct contest *k, size_t i)
{
    const char *base = fs_basename(k->entries[i].config.model_path);
    size_t n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".gguf") == 0)
        n -= 5;
    char *name = xstrndup(base, n);
    for (size_t k2 = 0; k2 < i; k2++)
        if (strcmp(k->entries[k2].name, name) == 0) {
            char *longer = xasprintf("%s-%zu", name, i + 1);
            xfree(name);
            return longer;
        }
    return name;
}

static int read_text(struct contest *k, struct err *e)
{
    const char *path = k->entries[0].config.corpus;
    if (!path || strcmp(path, "self") == 0)
        return err_set(e, ERR_USAGE, "give --corpus FILE, a text that none of them was made for",
                       "%zu models are compared on the same text, so they cannot each sample "
                       "their own",
                       k->n);
    if (corpus_check_file(path, e) != 0 ||
        fs_read_all(path, TEXT_BYTES_MAX, &k->text, &k->text_bytes, e) != 0)
        return -1;
    hash_sha256_text(k->text, k->text_bytes, k->text_sha256);
    k->held_out_from = (size_t)((1 - held_out) * (double)k->text_bytes);
    while (k->held_out_from < k->text_bytes &&
           ((unsigned char)k->text[k->held_out_from] & 0xC0) == 0x80)
        k->held_out_from++;
    return 0;
}

/* The pieces that all are compared on, for the shortest window that a model's run will use. */
static int cut(struct contest *k, struct err *e)
{
    size_t wanted = k->large ? PIECES_LARGE : PIECES_MAX;
    k->pieces = xcalloc(PIECES_MAX, sizeof(*k->pieces));
    k->n_pieces = byte_pieces_cut(k->pieces, wanted, k->text + k->held_out_from,
                                  k->text_bytes - k->held_out_from, k->n_ctx);
    if (k->n_pieces >= PIECES_MIN)
        return 0;
    return err_set(e, ERR_INPUT, "give a longer text",
                   "the last fifth of %s, which is kept for the comparison of the models, has "
                   "%zu pieces of %u bytes, at least %d are needed",
                   k->entries[0].config.corpus, k->n_pieces, 3 * k->n_ctx / 2, PIECES_MIN);
}

static void learn_scale(struct contest *k, const json_t *plan)
{
    int64_t n_ctx = json_opt_i64(json_object_get(plan, "text"), "n_ctx", 0);
    int64_t parameters = json_opt_i64(json_object_get(plan, "model"), "parameters", 0);
    if (n_ctx >= WINDOW_MIN && n_ctx < (int64_t)k->n_ctx)
        k->n_ctx = (uint32_t)n_ctx;
    k->large = k->large || parameters >= (int64_t)large_parameters;
}

/* Models that cannot be read or targets that make no sense are found before the first hour. */
static int check_entries(struct contest *k, struct err *e)
{
    for (size_t i = 0; i < k->n; i++) {
        struct entry *x = &k->entries[i];
        json_t *plan = NULL;
        x->name = entry_name(k, i);
        x->out = fs_join(k->out, x->name);
        x->config.out_dir = x->out;
        x->config.corpus_bytes = k->held_out_from;
        if (run_plan(&x->config, NULL, NULL, &plan, e) != 0)
            return err_context(e, "model %s", x->name);
        learn_scale(k, plan);
        json_decref(plan);
    }
    return 0;
}

static int contest_init(struct contest *k, const struct run_config *configs, size_t n,
                        const char *out, struct err *e)
{
    *k = (struct contest){.n = n, .out = out, .n_ctx = WINDOW_MAX, .best = -1};
    k->entries = xcalloc(n + 1, sizeof(*k->entries));
    for (size_t i = 0; i < n; i++)
        k->entries[i].config = configs[i];
    return read_text(k, e) != 0 || check_entries(k, e) != 0 ? -1 : cut(k, e);
}

static void contest_release(struct contest *k)
{
    for (size_t i = 0; i < k->n; i++) {
        xfree(k->entries[i].name);
        xfree(k->entries[i].out);
        xfree(k->entries[i].tag);
        xfree(k->entries[i].bits);
        json_decref(k->entries[i].report);
    }
    xfree(k->entries);
    xfree(k->text);
    xfree(k->pieces);
}

/* ---- the runs ---- */

static void say(const struct contest *k, size_t i, bool ended, const struct run_listener *l)
{
    char *text = xasprintf("model %zu of %zu: %s%s", i + 1, k->n, k->entries[i].name,
                           ended ? ", whose run has ended before" : "");
    json_t *doc = json_pack("{s:s,s:s}", "event", "note", "text", text);
    if (doc && l && l->event)
        l->event(l->ud, doc);
    json_decref(doc);
    xfree(text);
}

/* Is the file that a run has delivered still in its folder? */
static bool delivered(const struct entry *x, const json_t *report)
{
    const char *file = json_opt_str(json_object_get(report, "best"), "file", NULL);
    char *path = file ? fs_join(x->out, file) : NULL;
    bool there = x->config.mock || (path && fs_exists(path));
    xfree(path);
    return there;
}

/* A run that has ended is not repeated, one that was cut off goes on. */
static int run_entry(struct contest *k, size_t i, struct store *s, const struct run_listener *l,
                     struct err *e)
{
    struct entry *x = &k->entries[i];
    struct kept_run was = {0};
    if (kept_run_find(s, x->tag, &was, e) != 0)
        return -1;
    bool ended = was.report && delivered(x, was.report);
    say(k, i, ended, l);
    if (ended) {
        x->report = was.report;
        return 0;
    }
    bool cut_off = was.id[0] && !was.ended;
    json_decref(was.report);
    return cut_off ? run_resume(was.id, x->config.home, s, l, &x->report, e)
                   : run_optimize(&x->config, s, l, &x->report, e);
}

static int run_entries(struct contest *k, const char *id, struct store *s,
                       const struct run_listener *l, struct err *e)
{
    for (size_t i = 0; i < k->n; i++) {
        struct entry *x = &k->entries[i];
        x->tag = kept_tag(id, i);
        x->config.contest = x->tag;
        if (run_entry(k, i, s, l, e) != 0)
            return err_context(e, "model %s", x->name);
        x->met = strcmp(json_opt_str(x->report, "status", ""), "met") == 0;
    }
    return 0;
}

/* ---- the comparison ---- */

/* A simulated file predicts what its simulated perplexity says, four bytes to a token. */
static void simulate_bits(const struct contest *k, struct entry *x)
{
    const json_t *score = json_object_get(json_object_get(x->report, "best"), "score");
    for (size_t i = 0; i < k->n_pieces; i++)
        x->bits[i] = log2(json_opt_real(score, "ppl", 10)) / 4 *
                     (double)(k->pieces[i].end - k->pieces[i].middle);
}

static int score_entry(struct contest *k, struct entry *x, const struct progress *p, struct err *e)
{
    const char *file = json_opt_str(json_object_get(x->report, "best"), "file", NULL);
    struct measure_options o = {
        .threads = x->config.threads, .gpu_layers = x->config.gpu_layers, .progress = p};
    cache_from_json(&o.cache, json_object_get(x->report, "cache"));
    x->bits = xcalloc(k->n_pieces + 1, sizeof(*x->bits));
    x->scored = json_is_object(json_object_get(x->report, "best"));
    if (!x->scored)
        return 0;
    if (x->config.mock) {
        simulate_bits(k, x);
        return 0;
    }
    char *path = fs_join(x->out, file);
    int rc = measure_piece_bits(x->bits, path, k->text + k->held_out_from, k->pieces, k->n_pieces,
                                k->n_ctx, &o, e);
    xfree(path);
    return rc;
}

/* Keeps the pieces that every model could hold, so that all speak of the same bytes. */
static void keep_common(struct contest *k)
{
    for (size_t i = 0; i < k->n_pieces; i++) {
        bool all = true;
        for (size_t m = 0; m < k->n; m++)
            all = all && (!k->entries[m].scored || !isnan(k->entries[m].bits[i]));
        if (!all)
            continue;
        for (size_t m = 0; m < k->n; m++)
            k->entries[m].bits[k->used] = k->entries[m].bits[i];
        k->scored_bytes += k->pieces[i].end - k->pieces[i].middle;
        k->used++;
    }
    /* In bits per byte of the whole, so that the mean over pieces is the ratio of the sums. */
    for (size_t m = 0; m < k->n; m++)
        for (size_t i = 0; k->entries[m].scored && i < k->used; i++)
            k->entries[m].bits[i] *= (double)k->used / (double)k->scored_bytes;
}

/* Fewest bits among those that meet the targets; among all where none does. */
static void choose(struct contest *k)
{
    bool any_met = false;
    for (size_t i = 0; i < k->n; i++) {
        struct entry *x = &k->entries[i];
        any_met = any_met || (x->met && x->scored);
        if (!x->scored)
            continue;
        struct stat_mean m = stat_mean_clustered(x->bits, k->used, 1);
        x->mean = m.mean;
        x->low = m.low;
        x->high = m.high;
    }
    for (size_t i = 0; i < k->n; i++) {
        const struct entry *x = &k->entries[i];
        if (x->scored && (x->met || !any_met) &&
            (k->best < 0 || x->mean < k->entries[k->best].mean))
            k->best = (int)i;
    }
}

static int compare(struct contest *k, const struct progress *p, struct err *e)
{
    bool any = false;
    for (size_t i = 0; i < k->n; i++) {
        if (score_entry(k, &k->entries[i], p, e) != 0)
            return err_context(e, "bits per byte of %s", k->entries[i].name);
        any = any || k->entries[i].scored;
    }
    if (!any)
        return 0; /* no model can meet the targets */
    keep_common(k);
    if (k->used < 2)
        return err_set(e, ERR_INPUT, "give another text",
                       "only %zu of %zu pieces of the text fit into windows of %u tokens of "
                       "every model",
                       k->used, k->n_pieces, k->n_ctx);
    choose(k);
    return 0;
}

/* ---- the result ---- */

static json_t *pair_new(double low, double high)
{
    json_t *list = json_array();
    json_array_append_new(list, json_real_new(low));
    json_array_append_new(list, json_real_new(high));
    return list;
}

static json_t *entry_json_new(const struct contest *k, size_t i)
{
    static const char *const copied[] = {"bytes", "bpw", "file", "sha256"};
    const struct entry *x = &k->entries[i];
    const json_t *best = json_object_get(x->report, "best");
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(x->name));
    json_object_set(o, "model", json_object_get(x->report, "model"));
    json_object_set(o, "run", json_object_get(x->report, "run"));
    json_object_set(o, "status", json_object_get(x->report, "status"));
    if (json_object_get(x->report, "reason"))
        json_object_set(o, "reason", json_object_get(x->report, "reason"));
    json_object_set_new(o, "out", json_string(x->out));
    for (size_t c = 0; json_is_object(best) && c < sizeof(copied) / sizeof(copied[0]); c++)
        if (json_object_get(best, copied[c]))
            json_object_set(o, copied[c], json_object_get(best, copied[c]));
    if (json_is_object(best))
        json_object_set(o, "score", json_object_get(best, "score"));
    if (x->scored) {
        json_object_set_new(o, "bits_per_byte", json_real_new(x->mean));
        json_object_set_new(o, "bits_per_byte_ci95", pair_new(x->low, x->high));
    }
    if (x->scored && k->best >= 0 && k->best != (int)i) {
        struct stat_mean d = stat_mean_paired(x->bits, k->entries[k->best].bits, k->used, 1);
        json_object_set_new(o, "difference", json_real_new(d.mean));
        json_object_set_new(o, "difference_ci95", pair_new(d.low, d.high));
        json_object_set_new(o, "reliable", json_boolean(d.low > 0 || d.high < 0));
    }
    return o;
}

static json_t *result_new(const struct contest *k)
{
    const struct entry *best = k->best >= 0 ? &k->entries[k->best] : NULL;
    json_t *o = json_object(), *rows = json_array();
    json_object_set_new(o, "sintra_comparison", json_integer(1));
    if (k->entries[0].config.mock)
        json_object_set_new(o, "mock", json_true());
    json_object_set_new(o, "status",
                        json_string(!best       ? "infeasible"
                                    : best->met ? "met"
                                                : "best_effort"));
    json_object_set_new(o, "take", best ? json_string(best->name) : json_null());
    json_object_set_new(o, "out", json_string(k->out));
    json_object_set(o, "targets", json_object_get(k->entries[0].report, "targets"));
    json_object_set_new(o, "corpus", json_string(k->entries[0].config.corpus));
    json_object_set_new(o, "scored_bytes", json_integer((json_int_t)k->scored_bytes));
    json_object_set_new(o, "pieces", json_integer((json_int_t)k->used));
    json_object_set_new(o, "pieces_left_out", json_integer((json_int_t)(k->n_pieces - k->used)));
    for (size_t i = 0; i < k->n; i++)
        json_array_append_new(rows, entry_json_new(k, i));
    json_object_set_new(o, "models", rows);
    return o;
}

static void markdown_row(struct buf *b, const json_t *x, bool take)
{
    const json_t *ci = json_object_get(x, "difference_ci95");
    const json_t *own = json_object_get(x, "bits_per_byte_ci95");
    char size[NUM_TEXT_MAX];
    buf_adds(b, take ? "| **" : "| ");
    markdown_text(b, json_opt_str(x, "name", "?"));
    buf_addf(b, "%s | %s | ", take ? "** | take it" : " |", json_opt_str(x, "status", "?"));
    if (!json_is_array(own)) {
        buf_adds(b, "- | - | - | - |\n");
        return;
    }
    buf_addf(b, "%s | %.2f | %.4f [%.4f, %.4f] | ",
             num_format_size((uint64_t)json_opt_i64(x, "bytes", 0), size),
             json_opt_real(x, "bpw", NAN), json_opt_real(x, "bits_per_byte", NAN),
             json_number_value(json_array_get(own, 0)), json_number_value(json_array_get(own, 1)));
    if (json_is_array(ci))
        buf_addf(b, "%+.4f [%.4f, %.4f]%s |\n", json_opt_real(x, "difference", NAN),
                 json_number_value(json_array_get(ci, 0)), json_number_value(json_array_get(ci, 1)),
                 json_opt_bool(x, "reliable", false) ? "" : ", no reliable difference");
    else
        buf_adds(b, "|\n");
}

/* comparison.md from the document; xfree. */
static char *markdown(const json_t *doc)
{
    struct buf b;
    const json_t *x;
    size_t i;
    const char *take = json_opt_str(doc, "take", NULL);
    buf_init(&b, COMPARISON_MAX);
    buf_adds(&b, "# Which model to take\n\n");
    if (json_opt_bool(doc, "mock", false))
        buf_adds(&b, "**Simulated (`--mock`): every number below is invented.**\n\n");
    buf_adds(&b, "| model | | targets | size | bits/weight | bits per byte | difference |\n"
                 "|---|---|---|---|---|---|---|\n");
    json_array_foreach(json_object_get(doc, "models"), i, x)
    {
        markdown_row(&b, x, take && strcmp(take, json_opt_str(x, "name", "")) == 0);
    }
    buf_addf(&b,
             "\nBits per byte of %lld bytes in %lld pieces of text that no run has seen, the same "
             "bytes for every model; lower is better. Intervals are 95 %%, over pieces; "
             "differences are paired. KL divergence is not compared: it is each file's distance "
             "from its own original.\n",
             (long long)json_opt_i64(doc, "scored_bytes", 0),
             (long long)json_opt_i64(doc, "pieces", 0));
    return buf_take(&b);
}

static int write_result(const struct contest *k, const json_t *doc, struct err *e)
{
    char *text = json_text(doc, true), *md = markdown(doc);
    char *json_path = fs_join(k->out, "comparison.json"),
         *md_path = fs_join(k->out, "comparison.md");
    int rc = fs_mkdirs(k->out, e);
    if (rc == 0)
        rc = fs_write_all(json_path, text, strlen(text), e);
    if (rc == 0)
        rc = fs_write_all(md_path, md, strlen(md), e);
    xfree(text);
    xfree(md);
    xfree(json_path);
    xfree(md_path);
    return rc;
}

/* Another try would end in the same way. */
static bool hopeless(const struct err *e)
{
    return e->code == ERR_INPUT || e->code == ERR_USAGE || e->code == ERR_UNSUPPORTED ||
           e->code == ERR_BUG;
}

/* A run has said already how it goes on; what comes after the runs has not. */
static void add_hint(struct err *e)
{
    if (!strstr(e->hint, "--resume"))
        snprintf(e->hint, sizeof(e->hint), "continue with 'sintra optimize --resume'");
}

/* The way through, of a contest that is stored as `id`. */
static int go_on(struct contest *k, const char *id, struct store *s, const struct run_listener *l,
                 json_t **result, struct err *e)
{
    struct fs_lock lock;
    char *name = xasprintf("contest-%s.lock", id), *path = fs_join(k->entries[0].config.home, name);
    int rc = fs_lock_take(&lock, path, e);
    bool locked = rc == 0;
    if (rc == 0)
        rc = run_entries(k, id, s, l, e);
    if (rc == 0)
        rc = compare(k, l ? l->progress : NULL, e);
    if (rc == 0) {
        *result = result_new(k);
        rc = k->best >= 0 ? write_result(k, *result, e) : 0;
    }
    if (rc == 0 || (locked && hopeless(e)))
        kept_end(s, id);
    else if (locked)
        add_hint(e);
    if (locked) {
        fs_remove(path, NULL);
        fs_lock_drop(&lock);
    }
    xfree(name);
    xfree(path);
    if (rc != 0) {
        json_decref(*result);
        *result = NULL;
    }
    return rc;
}

int run_contest(const struct run_config *configs, size_t n, const char *out, struct store *s,
                const struct run_listener *l, json_t **result, struct err *e)
{
    struct contest k;
    struct kept kept = {0};
    struct err own = {0};
    *result = NULL;
    e = e ? e : &own;
    int rc = contest_init(&k, configs, n, out, e);
    if (rc == 0)
        rc = kept_begin(&kept, s, configs, n, out, k.text_sha256, e);
    if (rc == 0)
        rc = go_on(&k, kept.id, s, l, result, e);
    contest_release(&k);
    return rc;
}

int run_contest_resume(const char *contest, const char *home, struct store *s,
                       const struct run_listener *l, json_t **result, struct err *e)
{
    struct contest k = {0};
    struct kept kept;
    struct err own = {0};
    *result = NULL;
    e = e ? e : &own;
    int rc = kept_read(&kept, s, contest, home, e);
    if (rc == 0)
        rc = contest_init(&k, kept.configs, kept.n, kept.out, e);
    if (rc == 0 && strcmp(k.text_sha256, kept.text_sha256) != 0)
        rc = err_set(e, ERR_INPUT, "start a new contest",
                     "the text %s changed since the contest began: its SHA-256 was %.16s..., is "
                     "%.16s...",
                     kept.configs[0].corpus, kept.text_sha256, k.text_sha256);
    if (rc == 0)
        rc = go_on(&k, contest, s, l, result, e);
    contest_release(&k);
    kept_release(&kept);
    return rc;
}
