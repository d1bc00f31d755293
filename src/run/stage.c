/* Stages: where the time goes, and one progress bar over all of it.
 *
 * Each stage has an expected number of seconds, reckoned from the model's size and the text's
 * length at a typical speed; only their ratios matter: they are the shares of the bar. Modules
 * below report their own phases to stages.progress, which turns the current one into a part of the
 * whole. The bar never goes back: a stage that is over counts whole, whatever it took.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "base/banned.h"

static const char *const names[STAGES] = {
    [STAGE_PLAN] = "plan",           [STAGE_ORIGINAL] = "original",
    [STAGE_TEXT] = "text",           [STAGE_IMPORTANCE] = "importance",
    [STAGE_REFERENCE] = "reference", [STAGE_PROBES] = "sensitivities",
    [STAGE_STOCK] = "stock mixes",   [STAGE_SEARCH] = "search",
    [STAGE_FINAL] = "final scores",  [STAGE_DELIVERY] = "delivery",
};

const char *stage_name(enum stage stage)
{
    return names[stage];
}

static void overall(struct stages *s, const char *detail)
{
    double total = 0, done = 0;
    char text[160];
    for (int i = 0; i < STAGES; i++) {
        total += s->expected[i];
        if (i < (int)s->now)
            done += s->expected[i];
    }
    done += s->expected[s->now] * fmin(fmax(s->share, 0), 1);
    if (detail && detail[0])
        snprintf(text, sizeof(text), "%s: %.120s", names[s->now], detail);
    else
        snprintf(text, sizeof(text), "%s", names[s->now]);
    progress_report(s->out, "optimize", done, total, text);
}

/* A module's own phase fills the current stage. One that runs again in the same stage must not pull
 * the bar back, so the share only grows. */
static void sub_update(void *ud, const char *phase, double done, double total, const char *detail)
{
    struct stages *s = ud;
    double share = total > 0 ? done / total : 0;
    bool many = s->now == STAGE_STOCK || s->now == STAGE_SEARCH || s->now == STAGE_FINAL;
    if (!many && share > s->share)
        s->share = share;
    overall(s, detail && detail[0] ? detail : phase);
}

void stages_init(struct stages *s, const struct progress *out)
{
    *s = (struct stages){.out = out};
    s->progress = (struct progress){.update = sub_update, .ud = s};
    for (int i = 0; i < STAGES; i++)
        s->expected[i] = 0.1;
}

/* Typical rates of one core: matrix work by vector width, encoding of mixed types. They only make
 * the first guess; what a run takes then corrects it. */
static const double flops_512 = 90e9, flops_256 = 50e9, flops_128 = 20e9;
static const double encoded_per_core = 40e6, copied_per_second = 500e6;
static const double trials_stock = 3, trials_search = 5, finalists_typical = 2.5;

static double flops_per_core(const struct run *r)
{
    if (strstr(r->hw.simd, "avx512"))
        return flops_512;
    return strstr(r->hw.simd, "avx2") ? flops_256 : flops_128;
}

void stages_expect(struct run *r)
{
    const struct scale *c = &r->subject.scale;
    double *x = r->stages.expected, parameters = (double)r->subject.desc->parameters;
    int threads = r->set.threads > 0 ? r->set.threads : thread_count_default();
    double token = 2 * parameters / (flops_per_core(r) * threads);
    double window = token * (double)c->n_ctx, encode = parameters / (encoded_per_core * threads);
    size_t windows = c->calibration + c->search + c->final;
    x[STAGE_ORIGINAL] = 0.1 + 4 * parameters / copied_per_second;
    x[STAGE_TEXT] = 0.1;
    if (strcmp(r->set.corpus, "self") == 0)
        x[STAGE_TEXT] += (double)windows * window * 1.5;
    bool fed = strcmp(r->set.effort, "fast") != 0, whole = strcmp(r->set.effort, "max") == 0;
    x[STAGE_IMPORTANCE] = (double)c->calibration * window * (whole ? 3.5 : fed ? 1.5 : 1.1);
    x[STAGE_REFERENCE] = (double)c->search_read * window;
    x[STAGE_PROBES] = (double)r->subject.groups.n_sets * (double)c->probe * window + encode;
    x[STAGE_STOCK] = trials_stock * (encode + (double)c->search_read * window);
    x[STAGE_SEARCH] = trials_search * (encode + (double)c->search_read * window);
    x[STAGE_FINAL] = (1 + finalists_typical) * (double)c->final * window + finalists_typical;
    x[STAGE_DELIVERY] = 0.5;
    for (int i = 0; r->set.mock && i < STAGES; i++)
        x[i] = 0.01;
}

void stage_leave(struct run *r)
{
    struct stages *s = &r->stages;
    double now = clock_seconds();
    if (s->entered > 0)
        s->spent[s->now] += now - s->entered;
    s->entered = 0;
}

void stage_enter(struct run *r, enum stage stage)
{
    struct stages *s = &r->stages;
    bool again = s->now == stage && s->entered > 0;
    if (again)
        return;
    stage_leave(r);
    s->now = stage;
    s->entered = clock_seconds();
    s->share = 0;
    json_t *doc = json_object();
    json_object_set_new(doc, "phase", json_string(names[stage]));
    json_object_set_new(doc, "seconds_expected", json_real_new(s->expected[stage]));
    run_event(r, "phase", doc);
    overall(s, NULL);
}

void stage_progress(struct run *r, double done, double total, const char *detail)
{
    double share = total > 0 ? done / total : 0;
    if (share > r->stages.share)
        r->stages.share = share;
    overall(&r->stages, detail);
}

json_t *stages_json_new(const struct stages *s)
{
    json_t *o = json_object();
    double now = clock_seconds();
    for (int i = 0; i < STAGES; i++) {
        double spent = s->spent[i] + (i == (int)s->now && s->entered > 0 ? now - s->entered : 0);
        json_object_set_new(o, names[i], json_real_new(round(spent * 1000) / 1000));
    }
    return o;
}
