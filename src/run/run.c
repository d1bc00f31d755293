/* A run from beginning to end, and from wherever it was cut off.
 *
 * Order: settings → subject → limits → (proof of infeasibility: nothing is written) → the folder
 * for the result can be made → the model's hash → a row "running" → the world is prepared → probes
 * → loop → held-out scores → delivery → the row's end. A resumed run takes the same path; rows and
 * files of the cache make finished steps cost nothing. Everything a run owns is in struct run and
 * freed by run_close; its folder under HOME/runs is removed when the run ends well.
 */
#include "run/run_int.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/rng.h"
#include "base/thread.h"
#include "base/banned.h"

enum { CONTEXT_DEFAULT = 4096 };

static void run_close(struct run *r)
{
    if (r->world)
        r->world->close(r);
    for (size_t i = 0; i < r->finals.n; i++) {
        score_release(&r->finals.items[i].score);
        xfree(r->finals.items[i].window_kld);
    }
    xfree(r->finals.items);
    trials_release(&r->trials);
    xfree(r->file_sha256);
    blocks_release(&r->blocks);
    if (r->have_table)
        probe_table_release(&r->table);
    if (r->have_imatrix)
        imatrix_release(&r->imatrix);
    if (r->have_factors)
        factors_close(&r->factors);
    xfree(r->imatrix_path);
    xfree(r->history.sibling_name);
    speed_release(&r->speed);
    subject_release(&r->subject);
    settings_release(&r->set);
    xfree(r->folder);
    xfree(r->candidates);
    xfree(r->cache);
    json_decref(r->windows);
    json_decref(r->notes);
}

/* ---- what is known before work ---- */

static void complete_context(struct run *r)
{
    uint32_t trained = r->subject.desc->n_ctx_train;
    uint32_t context = r->set.targets.context > 0 ? r->set.targets.context : CONTEXT_DEFAULT;
    if (r->set.asked.context == 0 && trained > 0 && context > trained)
        context = trained;
    r->set.targets.context = context;
}

/* Bandwidth takes up to two seconds to measure, so only a speed target asks for it. */
static int survey(struct run *r, struct err *e)
{
    bool remote = r->set.has_profile && r->set.profile.remote;
    bool bandwidth = r->set.targets.tps_min > 0 && !remote && !r->set.mock;
    if (hw_detect(&r->hw, bandwidth, e) != 0 || subject_open(&r->subject, &r->set, e) != 0)
        return -1;
    complete_context(r);
    if (speed_init(r, e) != 0 ||
        limits_init(&r->limits, &r->set, &r->subject, &r->hw, &r->speed, e) != 0)
        return -1;
    const struct limits *l = &r->limits;
    subject_choose_types(&r->subject, &r->set,
                         l->speed_bytes < l->bytes_max ? l->speed_bytes : l->bytes_max);
    blocks_consider(r);
    return 0;
}

/* ---- the way through ---- */

/* A quantized original is not among the candidates, since it cannot be made from itself. */
static void note_original(struct run *r)
{
    char size[NUM_TEXT_MAX];
    const struct model *m = r->subject.model;
    if (m && model_is_gguf(m) && model_is_quantized(m) && r->limits.bytes_max != UINT64_MAX &&
        r->subject.source_bytes <= r->limits.bytes_max)
        run_note(r,
                 "the original is quantized already and has no more than the limits allow (%s): "
                 "nothing made from it can be closer to it",
                 num_format_size(r->subject.source_bytes, size));
}

static int execute(struct run *r, json_t **report, struct err *e)
{
    struct outcome o = {.best = -1, .stock = -1};
    if (record_load(r, e) != 0)
        return -1;
    if (r->repeated > 0)
        run_say(r, "%d finished trials of the earlier part are kept", r->repeated);
    if (r->world->prepare(r, e) != 0)
        return -1;
    limits_learn(&r->limits, &r->set, &r->subject, &r->speed, &r->trials);
    note_original(r);
    stage_enter(r, STAGE_PROBES);
    if (r->world->probe(r, e) != 0)
        return -1;
    stage_enter(r, STAGE_STOCK);
    if (!r->set.mock)
        trials_prune_files(r);
    int rc = run_stock_and_search(r, e);
    speed_remember(r);
    if (rc == 0)
        rc = final_run(r, &o, e);
    if (rc == 0)
        scores_note(r);
    if (rc == 0)
        rc = deliver_run(r, &o, report, e);
    outcome_release(&o);
    return rc;
}

/* Errors of the surroundings leave the run resumable; errors of the model or of ours do not
 * pass. */
static const char *state_of(const struct err *e)
{
    switch (e->code) {
    case ERR_INPUT:
    case ERR_USAGE:
    case ERR_UNSUPPORTED:
    case ERR_BUG:
        return "failed";
    default:
        return "interrupted";
    }
}

static void done_event(struct run *r, const json_t *report)
{
    json_t *o = json_object();
    json_object_set(o, "status", json_object_get(report, "status"));
    json_object_set(o, "out", json_object_get(report, "out"));
    run_event(r, "done", o);
}

static void add_resume_hint(const struct run *r, struct err *e)
{
    char hint[ERR_HINT_MAX + 64];
    snprintf(hint, sizeof(hint), "%.*s%scontinue with 'sintra optimize --resume %s'",
             ERR_HINT_MAX - 80, e->hint, e->hint[0] ? "; then " : "", r->id);
    snprintf(e->hint, sizeof(e->hint), "%.*s", ERR_HINT_MAX - 1, hint);
}

static int finish(struct run *r, int rc, json_t **report, struct err *e)
{
    struct err ignored = {0};
    if (rc != 0) {
        if (store_run_end(r->store, r->id, state_of(e), NULL, &ignored) != 0)
            log_warn("%s", ignored.message);
        if (strcmp(state_of(e), "interrupted") == 0)
            add_resume_hint(r, e);
        return -1;
    }
    char *text = json_text(*report, false);
    rc = store_run_end(r->store, r->id, json_opt_str(*report, "status", "met"), text, e);
    xfree(text);
    if (rc != 0) {
        json_decref(*report);
        *report = NULL;
        return -1;
    }
    done_event(r, *report);
    if (fs_remove_tree(r->folder, &ignored) != 0)
        log_warn("%s", ignored.message);
    return 0;
}

static void set_paths(struct run *r)
{
    r->folder = xasprintf("%s/runs/%s", r->set.home, r->id);
    r->candidates = fs_join(r->folder, "candidates");
    r->cache = xasprintf("%s/cache/%s", r->set.home, r->subject.sha256);
}

static int identify(struct run *r, struct err *e)
{
    stage_enter(r, STAGE_PLAN);
    if (r->subject.model &&
        model_hash(r->subject.model, &r->stages.progress, r->subject.sha256, e) != 0)
        return -1;
    struct store_model m = {.name = r->subject.desc->name,
                            .architecture = r->subject.desc->architecture,
                            .path = r->set.model_path,
                            .parameters = r->subject.desc->parameters,
                            .bytes = r->subject.source_bytes};
    memcpy(m.sha256, r->subject.sha256, sizeof(m.sha256));
    return store_model_put(r->store, &m, e);
}

static int begin_row(struct run *r, struct err *e)
{
    json_t *config = settings_json_new(&r->set);
    char *text = json_text(config, false);
    struct store_run row = {.model_name = r->subject.desc->name,
                            .model_path = r->set.model_path,
                            .config = text,
                            .state = "running",
                            .started_ms = r->started_ms,
                            .mock = r->set.mock};
    char id[27];
    rng_id(id);
    memcpy(row.id, id, sizeof(id));
    memcpy(row.model_sha256, r->subject.sha256, sizeof(row.model_sha256));
    int rc = store_run_begin(r->store, &row, e);
    if (rc == 0)
        memcpy(r->id, id, sizeof(id));
    json_decref(config);
    xfree(text);
    return rc;
}

static void begin_event(struct run *r)
{
    json_t *o = json_object();
    stages_expect(r);
    json_object_set_new(o, "run", json_string(r->id));
    json_object_set_new(o, "model", report_model_json_new(&r->subject));
    json_object_set_new(o, "targets", targets_json_new(&r->set.targets));
    json_object_set_new(o, "limits", limits_json_new(&r->limits));
    double expected = 0;
    for (int i = 0; i < STAGES; i++)
        expected += r->stages.expected[i];
    json_object_set_new(o, "seconds_expected", json_real_new(expected));
    run_event(r, "begin", o);
}

static void run_init(struct run *r, struct store *s, const struct run_listener *l)
{
    *r = (struct run){.store = s, .listener = l, .started_ms = clock_unix_ms()};
    r->began = clock_seconds();
    r->notes = json_array();
    stages_init(&r->stages, l ? l->progress : NULL);
}

int run_optimize(const struct run_config *c, struct store *s, const struct run_listener *l,
                 json_t **report, struct err *e)
{
    struct run r;
    struct err own = {0};
    char sentence[ERR_MESSAGE_MAX], hint[ERR_HINT_MAX];
    run_init(&r, s, l);
    *report = NULL;
    e = e ? e : &own;
    int rc = settings_init(&r.set, c, e);
    if (rc == 0) {
        r.world = r.set.mock ? &world_mock : &world_real;
        rc = survey(&r, e);
    }
    if (rc == 0 && limits_infeasible(&r.limits, &r.set, &r.subject, &r.hw, sentence, hint)) {
        *report = report_infeasible_new(&r.set, &r.subject, &r.limits, sentence, hint);
    } else if (rc == 0) {
        rc = deliver_check(&r.set, e);
        if (rc == 0)
            rc = identify(&r, e);
        if (rc == 0)
            rc = begin_row(&r, e);
        if (rc == 0) {
            set_paths(&r);
            begin_event(&r);
            rc = finish(&r, execute(&r, report, e), report, e);
        }
    }
    run_close(&r);
    return rc;
}

/* ---- resuming ---- */

struct stored {
    char *config;
    int64_t started_ms;
    char model_sha256[65];
};

static int take_run(void *ud, const struct store_run *row)
{
    struct stored *k = ud;
    k->config = xstrdup(row->config ? row->config : "{}");
    k->started_ms = row->started_ms;
    snprintf(k->model_sha256, sizeof(k->model_sha256), "%s", row->model_sha256);
    return 1;
}

static int same_model(const struct run *r, const struct stored *k, struct err *e)
{
    if (strcmp(r->subject.sha256, k->model_sha256) == 0)
        return 0;
    return err_set(
        e, ERR_INPUT, "start a new run",
        "the model at %s changed since the run began: its SHA-256 was %.16s..., is %.16s...",
        r->set.model_path ? r->set.model_path : "(none)", k->model_sha256, r->subject.sha256);
}

static int resume_claimed(struct run *r, const struct stored *k, json_t **report, struct err *e)
{
    int rc = settings_parse(&r->set, r->set.home, k->config, e);
    if (rc == 0) {
        r->world = r->set.mock ? &world_mock : &world_real;
        rc = survey(r, e);
    }
    if (rc == 0)
        rc = deliver_check(&r->set, e);
    if (rc == 0)
        rc = identify(r, e);
    if (rc == 0)
        rc = same_model(r, k, e);
    if (rc == 0) {
        set_paths(r);
        begin_event(r);
        rc = execute(r, report, e);
    }
    return finish(r, rc, report, e);
}

int run_resume(const char *run_id, const char *home, struct store *s, const struct run_listener *l,
               json_t **report, struct err *e)
{
    struct run r;
    struct err own = {0};
    struct stored k = {0};
    *report = NULL;
    e = e ? e : &own;
    if (store_run_get(s, run_id, take_run, &k, e) != 0)
        return -1;
    run_init(&r, s, l);
    snprintf(r.id, sizeof(r.id), "%s", run_id);
    r.started_ms = k.started_ms;
    int rc = store_run_claim(s, run_id, e);
    if (rc == 0)
        rc = store_run_seconds(s, run_id, &r.before, e);
    if (rc == 0) {
        char *place = xstrdup(home);
        r.set.home = place;
        rc = resume_claimed(&r, &k, report, e);
        if (r.set.home != place)
            xfree(place);
    }
    run_close(&r);
    xfree(k.config);
    return rc;
}

/* ---- probing alone ---- */

static int probe_alone(struct run *r, struct err *e)
{
    static const enum stage unused[] = {STAGE_STOCK, STAGE_SEARCH, STAGE_FINAL, STAGE_DELIVERY};
    int rc = identify(r, e);
    if (rc != 0)
        return -1;
    r->cache = xasprintf("%s/cache/%s", r->set.home, r->subject.sha256);
    stages_expect(r);
    for (size_t i = 0; i < sizeof(unused) / sizeof(unused[0]); i++)
        r->stages.expected[unused[i]] = 0;
    if (r->world->prepare(r, e) != 0)
        return -1;
    stage_enter(r, STAGE_PROBES);
    return r->world->probe(r, e);
}

int run_probe(const struct run_config *c, struct store *s, const struct run_listener *l,
              json_t **doc, struct err *e)
{
    struct run r;
    struct err own = {0};
    run_init(&r, s, l);
    *doc = NULL;
    e = e ? e : &own;
    int rc = settings_init(&r.set, c, e);
    if (rc == 0) {
        r.world = &world_real;
        rc = survey(&r, e);
    }
    if (rc == 0)
        rc = probe_alone(&r, e);
    if (rc == 0)
        *doc = sense_json_new(&r);
    run_close(&r);
    return rc;
}

/* ---- planning ---- */

int run_plan(const struct run_config *c, struct store *s, const struct run_listener *l,
             json_t **plan, struct err *e)
{
    struct run r;
    run_init(&r, s, l);
    int rc = settings_init(&r.set, c, e);
    if (rc == 0)
        rc = survey(&r, e);
    if (rc == 0)
        rc = plan_document(&r, plan, e);
    run_close(&r);
    return rc;
}
