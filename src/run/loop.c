/* The loop: ask the proposer, try what it says, until it has nothing more or the budget is spent.
 *
 * The history the proposer sees is the list of trials, finished ones of an earlier part of the run
 * included, so a resumed run continues where it was. Limits are learned between trials: compute
 * buffers and speed are known only after something was measured.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/stop.h"
#include "base/banned.h"

enum { TRIALS_FAST = 2, TRIALS_NORMAL = 8, TRIALS_MAX = 16, RUNGS_LARGE = 5, STOCK_TYPICAL = 3 };
/* Codebook types took 1.5 to 1.8 times the processor time per token of k-quants of their size. */
static const double codebook_handicap = 1.1;

/* Only processors stumble over codebooks, and whoever asks for quality alone does not mind. */
static double handicap(const struct run *r)
{
    bool gpu = r->set.gpu_layers > 0 || (r->set.has_profile && r->set.profile.vram_gb > 0);
    return gpu || strcmp(r->set.preset, "quality") == 0 ? 1 : codebook_handicap;
}

/* A file of a large model costs a minute, and on a ladder predictions hold within a few percent. */
static bool few_files(const struct run *r)
{
    return r->subject.scale.large && !targets_any(&r->set.targets) &&
           strcmp(r->set.effort, "max") != 0;
}

static int trials_most(const struct run *r)
{
    if (r->set.max_iters > 0)
        return r->set.max_iters;
    if (strcmp(r->set.effort, "max") == 0)
        return TRIALS_MAX;
    if (strcmp(r->set.effort, "fast") == 0)
        return TRIALS_FAST;
    return few_files(r) ? RUNGS_LARGE : TRIALS_NORMAL;
}

double run_elapsed(const struct run *r)
{
    return r->before + clock_seconds() - r->began;
}

void run_space(const struct run *r, struct search_space *s)
{
    *s = (struct search_space){
        .desc = r->subject.desc,
        .groups = &r->subject.groups,
        .table = r->have_table ? &r->table : NULL,
        .have_importance = true,
        .fixed_bytes = r->subject.fixed_bytes,
        .bytes_limit = r->limits.bytes_max,
        .targets = r->set.targets,
        .time = {.ms = r->speed.ms,
                 .ms_max = r->limits.ms_max,
                 .first_ms = r->speed.first_ms,
                 .first_max = r->limits.first_max},
        .stock_names = r->subject.stock_names,
        .feedback = r->have_factors ? r->factors.sha256 : NULL,
        .max_trials = trials_most(r),
        .rivals_only = few_files(r),
        .codebook_handicap = handicap(r),
        .drops = r->blocks.items,
        .n_drops = r->blocks.n,
    };
    caches_space(r, s);
}

static bool budget_spent(struct run *r)
{
    if (!(r->set.budget_minutes > 0) || run_elapsed(r) < r->set.budget_minutes * 60)
        return false;
    /* One candidate at least must be there to deliver. */
    for (size_t i = 0; i < r->trials.n; i++)
        if (!r->trials.items[i].failed)
            return true;
    return false;
}

static void show_progress(struct run *r, const struct proposal *p)
{
    int done = 0, expected = STOCK_TYPICAL;
    for (size_t i = 0; i < r->trials.n; i++)
        done += r->trials.items[i].stock == (p->stock_name != NULL);
    if (!p->stock_name)
        expected = trials_most(r);
    /* How many there will be is not known: the share approaches one. */
    stage_progress(r, done, done + expected * 0.5 + 1, p->reason);
}

/* The winner of the search made once more without error feedback, which is kept only where it
 * helps. */
static int try_plain(struct run *r, struct err *e)
{
    int best = trials_best(&r->trials, &r->set.targets, r->subject.desc->parameters);
    const struct trial *t = best < 0 ? NULL : &r->trials.items[best];
    struct proposal p = {0};
    if (!t || !t->recipe.feedback || !t->group_types || budget_spent(r))
        return 0;
    recipe_copy(&p.recipe, &t->recipe);
    xfree(p.recipe.feedback);
    p.recipe.feedback = NULL;
    size_t bytes = r->subject.groups.n * sizeof(*p.group_types);
    p.group_types = xcalloc(r->subject.groups.n + 1, sizeof(*p.group_types));
    memcpy(p.group_types, t->group_types, bytes);
    p.bytes = t->bytes;
    p.predicted_kld = NAN;
    p.cache_kld = t->cache_kld;
    snprintf(p.reason, sizeof(p.reason), "the best without error feedback");
    char key[65];
    trial_key(&p.recipe, key);
    for (size_t i = 0; i < r->trials.n; i++)
        if (strcmp(r->trials.items[i].key, key) == 0) { /* of an earlier part of the run */
            proposal_release(&p);
            return 0;
        }
    stage_enter(r, STAGE_SEARCH);
    return trial_run(r, &p, e);
}

int run_stock_and_search(struct run *r, struct err *e)
{
    struct proposer builtin;
    int rc = 0;
    search_builtin(&builtin);
    for (;;) {
        struct search_space space;
        struct proposal p;
        rc = stop_check(e);
        if (rc != 0)
            break;
        if (budget_spent(r)) {
            run_note(r, "the budget of %g minutes is spent: the search stops here",
                     r->set.budget_minutes);
            break;
        }
        limits_learn(&r->limits, &r->set, &r->subject, &r->speed, &r->trials);
        run_space(r, &space);
        rc = builtin.next(builtin.ud, &space, &r->trials, &p, e);
        if (rc != 0)
            break;
        stage_enter(r, p.stock_name ? STAGE_STOCK : STAGE_SEARCH);
        show_progress(r, &p);
        rc = trial_run(r, &p, e);
        if (rc != 0)
            break;
    }
    builtin.close(builtin.ud);
    return rc < 0 ? -1 : try_plain(r, e);
}
