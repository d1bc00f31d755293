/* Probing: replace the groups of a set, measure, put the originals back.
 *
 * The engine belongs to the caller and holds the original again whenever a function here returns,
 * also after an error, unless the worker itself is gone. Predictions: with E the encoder's weighted
 * squared error of a group, w what it counts and P the probe type,
 *     kld(group, P) = kld(set) · w·E(P) / Σ_set w·E(P),   kld(group, type) = kld(group, P) ·
 *     E(type) / E(P).
 * A probe reads windows in rounds, each as long as all before, and stops when its confidence
 * suffices; what was read depends on the probes before it alone, which a resumed run knows too.
 */
#include "probe/probe_int.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/stat.h"
#include "base/stop.h"
#include "base/banned.h"

/* A probe ends when the half of its 95 % interval is at most this share of the KL: the errors of
 * the prediction beyond the probe are of that size. */
static const double confident = 0.15;
static const double negligible = 0.001; /* of the sum of the probes before */
enum { ROUND_FIRST = 2, CLUSTERS_PER_WINDOW = 4 };

/* What a type costs beyond its error. Types that spend two bits, or draw from a codebook, err in
 * step with the weights, which hurts more than noise of the same size; measured over the probes of
 * the sample model, sum of KL against sum of predictions: Q2_K 1.15 to 1.29, IQ3_S 1.15, IQ3_XXS
 * 1.05, IQ2 1.07 to 1.13, all others 0.94 to 1.03 (bench/probe_vs_file). Ignoring it makes the
 * knapsack pick just these where their error is underestimated most: 10 % more KL at 4.2 bits. */
static double excess(enum dtype type)
{
    switch (type) {
    case DT_Q2_K:
    case DT_IQ1_S:
    case DT_IQ1_M:
    case DT_IQ2_XXS:
    case DT_IQ2_XS:
    case DT_IQ2_S:
    case DT_IQ3_XXS:
    case DT_IQ3_S:
        return 1.15;
    default:
        return 1;
    }
}

/* Groups that one probe replaces. */
struct members {
    const size_t *groups;
    size_t n;
};

/* Restores the first n tensors, counted through the groups. */
static int restore(const struct probe_job *job, const struct members *m, size_t n, struct err *e)
{
    const struct model_desc *d = model_desc(job->model);
    int rc = 0;
    for (size_t k = 0; rc == 0 && k < m->n; k++) {
        const struct probe_group *g = &job->groups->items[m->groups[k]];
        for (size_t i = 0; rc == 0 && i < g->n_tensors && n > 0; i++, n--)
            rc = engine_tensor_restore(job->engine, d->tensors[g->tensors[i]].name, e);
    }
    return rc;
}

static int replace_tensor(const struct probe_job *job, size_t i, enum dtype type, struct err *e)
{
    const char *name = model_desc(job->model)->tensors[i].name;
    uint64_t n;
    float *values = values_decoded(job, i, type, &n, e);
    if (!values)
        return -1;
    int rc = engine_tensor_set(job->engine, name, values, n, e);
    big_free(values, n * sizeof(*values));
    return rc;
}

/* *done: tensors that may have been replaced. */
static int replace(const struct probe_job *job, const struct members *m, enum dtype type,
                   size_t *done, struct err *e)
{
    int rc = 0;
    for (size_t k = 0; rc == 0 && k < m->n; k++) {
        const struct probe_group *g = &job->groups->items[m->groups[k]];
        for (size_t i = 0; rc == 0 && i < g->n_tensors; i++, ++*done)
            rc = replace_tensor(job, g->tensors[i], type, e);
    }
    return rc;
}

/* ---- how much text one probe reads ---- */

/* KL of the positions read so far, and what they say. */
struct reading {
    double *kld; /* (positions), xfree */
    size_t positions, windows;
    struct stat_mean mean;
};

/* A part of a window is a cluster: KL forgets its surroundings after some tens of tokens, and few
 * windows say little about how much they differ. */
static size_t cluster_positions(const struct engine_windows *w)
{
    size_t per = (w->n_ctx - 1 - w->first) / CLUSTERS_PER_WINDOW;
    return per > 0 ? per : 1;
}

static int read_windows(const struct probe_job *job, size_t n, struct reading *r, struct err *e)
{
    struct engine_windows part = job->windows;
    struct score s = {0};
    part.tokens += r->windows * part.n_ctx;
    part.reference_from += r->windows;
    part.n_windows = n;
    if (measure_quality_loaded(&s, job->engine, &part, job->reference, NULL, e) != 0)
        return -1;
    r->kld = xreallocarray(r->kld, r->positions + s.positions, sizeof(*r->kld));
    memcpy(r->kld + r->positions, s.kld, s.positions * sizeof(*r->kld));
    r->positions += s.positions;
    r->windows += n;
    r->mean = stat_mean_clustered(r->kld, r->positions, cluster_positions(&part));
    score_release(&s);
    return 0;
}

/* Narrow enough, or so small that no precision matters. known: what the probes before came to. */
static bool enough(const struct reading *r, double known)
{
    double half = (r->mean.high - r->mean.low) / 2;
    return half <= confident * r->mean.mean || r->mean.high <= negligible * known;
}

/* Windows in rounds of as many as there are, until it is enough. */
static int read_enough(const struct probe_job *job, double known, struct reading *r, struct err *e)
{
    size_t most = job->windows.n_windows;
    while (r->windows < most) {
        size_t n = r->windows == 0 ? ROUND_FIRST : r->windows;
        n = n > most - r->windows ? most - r->windows : n;
        if (read_windows(job, n, r, e) != 0)
            return -1;
        if (enough(r, known))
            break;
    }
    return 0;
}

int probe_read(const struct probe_job *job, struct stat_mean *kld, size_t *windows, struct err *e)
{
    struct reading r = {0};
    int rc = read_enough(job, 0, &r, e);
    *kld = r.mean;
    *windows = r.windows;
    xfree(r.kld);
    return rc;
}

/* known < 0: all windows. r->kld is xfree'd by the caller, also after a failure. */
static int measure_members(const struct probe_job *job, const struct members *m, enum dtype type,
                           double known, struct reading *r, struct err *e)
{
    size_t done = 0;
    int rc = replace(job, m, type, &done, e);
    *r = (struct reading){0};
    if (rc == 0)
        rc = known < 0 ? read_windows(job, job->windows.n_windows, r, e)
                       : read_enough(job, known, r, e);
    /* After a failure the first error is the one to report; restoring is then best effort. */
    if (restore(job, m, done, rc == 0 ? e : NULL) != 0)
        rc = -1;
    return rc != 0 ? err_context(e, "probing %s as %s", job->groups->items[m->groups[0]].name,
                                 dtype_name(type))
                   : 0;
}

int probe_measure(const struct probe_job *job, size_t group, enum dtype type, struct stat_mean *kld,
                  struct err *e)
{
    struct reading r;
    int rc = measure_members(job, &(struct members){&group, 1}, type, -1, &r, e);
    *kld = r.mean;
    xfree(r.kld);
    return rc;
}

static int type_index(const struct probe_job *job, enum dtype type)
{
    for (int k = 0; k < job->n_types; k++)
        if (job->types[k] == type)
            return k;
    return -1;
}

static void predict(const struct probe_job *job, struct sensitivity *s)
{
    int probe = type_index(job, job->probe_type);
    double base = fmax(s->probe_kld, PROBE_TINY);
    for (int k = 0; k < job->n_types; k++) {
        if (s->bytes[k] == 0)
            s->error[k] = s->kld[k] = NAN;
        else if (k == probe || !(s->error[probe] > 0))
            s->kld[k] = base;
        else
            s->kld[k] = base * s->error[k] / s->error[probe] * excess(job->types[k]) /
                        excess(job->probe_type);
    }
}

static bool errors_known(const struct probe_job *job, const struct sensitivity *s,
                         const struct sensitivity *known)
{
    for (int k = 0; k < job->n_types; k++)
        if (s->bytes[k] > 0 && isnan(known->error[k]))
            return false;
    return true;
}

static int errors_make(const struct probe_job *job, size_t group, struct sensitivity *s,
                       struct err *e)
{
    const struct probe_group *g = &job->groups->items[group];
    const struct sensitivity *known = job->known ? job->known[group] : NULL;
    if (known && errors_known(job, s, known)) {
        memcpy(s->error, known->error, sizeof(s->error));
        return 0;
    }
    memset(s->error, 0, sizeof(s->error));
    for (size_t i = 0; i < g->n_tensors; i++)
        if (values_errors(job, g->tensors[i], s->bytes, s->error, e) != 0)
            return -1;
    return 0;
}

/* Members of a set that are all known need no probe. */
static bool members_known(const struct probe_job *job, const struct members *m)
{
    for (size_t k = 0; k < m->n; k++)
        if (!job->known || !job->known[m->groups[k]])
            return false;
    return true;
}

static void take_known(const struct probe_job *job, const struct members *m, struct probe_table *t)
{
    for (size_t k = 0; k < m->n; k++) {
        const struct sensitivity *known = job->known[m->groups[k]];
        struct sensitivity *s = &t->groups[m->groups[k]];
        s->probe_kld = known->probe_kld;
        s->probe_kld_low = known->probe_kld_low;
        s->probe_kld_high = known->probe_kld_high;
    }
}

static int probe_members(const struct probe_job *job, const struct members *m,
                         struct probe_table *t, struct err *e)
{
    int probe = type_index(job, job->probe_type);
    struct reading r;
    double sum = 0, known = 0;
    for (size_t g = 0; g < t->n_groups; g++)
        known += t->groups[g].probe_kld > 0 ? t->groups[g].probe_kld : 0;
    if (measure_members(job, m, job->probe_type, known, &r, e) != 0) {
        xfree(r.kld);
        return -1;
    }
    for (size_t k = 0; k < m->n; k++)
        sum += job->groups->items[m->groups[k]].weight * t->groups[m->groups[k]].error[probe];
    for (size_t k = 0; k < m->n; k++) {
        struct sensitivity *s = &t->groups[m->groups[k]];
        double mine = job->groups->items[m->groups[k]].weight * s->error[probe];
        double share = sum > 0 ? mine / sum : 1 / (double)m->n;
        s->probe_kld = share * r.mean.mean;
        s->probe_kld_low = share * r.mean.low;
        s->probe_kld_high = share * r.mean.high;
    }
    t->probed++;
    t->windows_read += r.windows;
    xfree(r.kld);
    return 0;
}

static int set_run(const struct probe_job *job, const struct members *m, struct probe_table *t,
                   struct err *e)
{
    int probe = type_index(job, job->probe_type), rc = 0;
    for (size_t k = 0; rc == 0 && k < m->n; k++) {
        struct sensitivity *s = &t->groups[m->groups[k]];
        if (probe < 0 || s->bytes[probe] == 0)
            return err_set(e, ERR_BUG, NULL, "%s cannot be probed as %s",
                           job->groups->items[m->groups[k]].name, dtype_name(job->probe_type));
        rc = errors_make(job, m->groups[k], s, e);
    }
    if (rc == 0 && members_known(job, m))
        take_known(job, m, t);
    else if (rc == 0)
        rc = probe_members(job, m, t, e);
    for (size_t k = 0; rc == 0 && k < m->n; k++) {
        struct sensitivity *s = &t->groups[m->groups[k]];
        s->probe_type = job->probe_type;
        predict(job, s);
        if (job->group_done)
            job->group_done(job->ud, m->groups[k], s);
    }
    return rc;
}

static size_t members_of(const struct probe_groups *g, size_t set, size_t *groups)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++)
        if (g->items[i].set == set)
            groups[n++] = i;
    return n;
}

/* Shares of neighbours are known when all sets are. */
static void share_out(const struct probe_job *job, struct probe_table *t)
{
    if (!runs_share(job, t, type_index(job, job->probe_type)))
        return;
    for (size_t g = 0; g < t->n_groups; g++) {
        predict(job, &t->groups[g]);
        if (job->group_done)
            job->group_done(job->ud, g, &t->groups[g]);
    }
}

int probe_run(const struct probe_job *job, struct probe_table *t, struct err *e)
{
    const struct model_desc *d = model_desc(job->model);
    double sets = (double)job->groups->n_sets;
    size_t *groups = xcalloc(job->groups->n + 1, sizeof(*groups));
    int rc =
        probe_table_sizes(t, d, job->groups, job->types, job->n_types, job->imatrix != NULL, e);
    bool made = rc == 0;
    for (size_t set = 0; rc == 0 && set < job->groups->n_sets; set++) {
        struct members m = {groups, members_of(job->groups, set, groups)};
        progress_report(job->progress, "probes", (double)set, sets,
                        job->groups->items[groups[0]].name);
        rc = stop_check(e);
        if (rc == 0)
            rc = set_run(job, &m, t, e);
    }
    if (rc == 0) {
        share_out(job, t);
        progress_report(job->progress, "probes", sets, sets, NULL);
    } else if (made)
        probe_table_release(t);
    xfree(groups);
    return rc;
}
