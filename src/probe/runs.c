/* Within a run of neighbouring layers: how the KL of a joined set is shared out.
 *
 * A probe of several layers says what they cost together. Shares by weighted error alone would
 * suppose that an error costs the same in all of them and then jumps at the end of the run. What an
 * error costs (KL per weighted error) is taken instead to run straight, in its logarithm, from the
 * middle of each run to the middle of the next; the sum of a set stays what was measured. Depends
 * on sums of sets alone, so doing it again changes nothing.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "probe/probe_int.h"
#include "base/banned.h"

/* What is known of a set. */
struct run {
    double kld, low, high; /* of all members */
    double error;          /* weighted, of all members */
    double middle;         /* mean layer */
    double members;
};

static const char *stem(const struct probe_group *g)
{
    const char *dot = strrchr(g->name, '.');
    return dot ? dot + 1 : g->name;
}

static double weighted_error(const struct probe_job *job, const struct probe_table *t, size_t g,
                             int probe)
{
    return job->groups->items[g].weight * t->groups[g].error[probe];
}

static struct run *runs_new(const struct probe_job *job, const struct probe_table *t, int probe)
{
    struct run *runs = xcalloc(job->groups->n_sets + 1, sizeof(*runs));
    for (size_t g = 0; g < job->groups->n; g++) {
        struct run *r = &runs[job->groups->items[g].set];
        r->kld += t->groups[g].probe_kld;
        r->low += t->groups[g].probe_kld_low;
        r->high += t->groups[g].probe_kld_high;
        r->error += weighted_error(job, t, g, probe);
        r->middle += job->groups->items[g].layer;
        r->members++;
    }
    for (size_t s = 0; s < job->groups->n_sets; s++)
        runs[s].middle /= fmax(runs[s].members, 1);
    return runs;
}

static double cost(const struct run *r)
{
    return log(fmax(r->kld, PROBE_TINY) / r->error);
}

/* Logarithm of what an error costs in group g's layer. */
static double cost_at(const struct probe_job *job, const struct run *runs, size_t g)
{
    const struct probe_group *group = &job->groups->items[g];
    const struct run *below = NULL, *above = NULL;
    double layer = group->layer;
    for (size_t h = 0; h < job->groups->n; h++) {
        const struct run *r = &runs[job->groups->items[h].set];
        if (strcmp(stem(&job->groups->items[h]), stem(group)) != 0 || !(r->error > 0))
            continue;
        if (r->middle <= layer && (!below || r->middle > below->middle))
            below = r;
        if (r->middle > layer && (!above || r->middle < above->middle))
            above = r;
    }
    if (!below && !above)
        return 0; /* never: a group's own run is one of them */
    if (!below || !above)
        return cost(below ? below : above);
    double part = (layer - below->middle) / (above->middle - below->middle);
    return (1 - part) * cost(below) + part * cost(above);
}

bool runs_share(const struct probe_job *job, struct probe_table *t, int probe)
{
    const struct probe_groups *groups = job->groups;
    struct run *runs = runs_new(job, t, probe);
    double *share = xcalloc(groups->n + 1, sizeof(*share));
    double *sum = xcalloc(groups->n_sets + 1, sizeof(*sum));
    bool any = false;
    for (size_t g = 0; g < groups->n; g++) {
        const struct run *r = &runs[groups->items[g].set];
        bool several = groups->items[g].layer >= 0 && r->middle != groups->items[g].layer;
        any = any || several;
        share[g] = r->error > 0 ? weighted_error(job, t, g, probe) * exp(cost_at(job, runs, g)) : 1;
        sum[groups->items[g].set] += share[g];
    }
    for (size_t g = 0; any && g < groups->n; g++) {
        const struct run *r = &runs[groups->items[g].set];
        double part =
            sum[groups->items[g].set] > 0 ? share[g] / sum[groups->items[g].set] : 1 / r->members;
        t->groups[g].probe_kld = part * r->kld;
        t->groups[g].probe_kld_low = part * r->low;
        t->groups[g].probe_kld_high = part * r->high;
    }
    xfree(runs);
    xfree(share);
    xfree(sum);
    return any;
}
