/* Predictions corrected by measurements.
 *
 * The table says candidate i has KL p_i = Σ_g k[g][t_ig]; the file said y_i. What explains the
 * ratio is not known, so each plausible cause gets a small unknown: one factor for everything, one
 * per role of a group, one per type, one per group, and a floor that every file has (quantized
 * activations):
 *     y_i / p_i − 1 = a + Σ_g w_ig (r_role(g) + q_type + u_g) + f/p_i + noise,   w_ig = k[g][t_ig]
 *     / p_i.
 * The floor f is expected where eight bits are: activations are quantized like weights in Q8_0, in
 * longer blocks, and cost a multiple of what those do (floor_ratio, seen on the sample).
 * With independent normal priors this is Bayesian linear regression; there are far fewer trials
 * than unknowns, so it is solved in the space of trials: α = (K + σ²I)⁻¹ z, K_ij = Σ_features s²
 * x_i x_j, and the mean of a feature's unknown is s² Σ_i α_i x_i. (Rasmussen & Williams 2006, 2.1:
 * the weight-space view.) With no trial nothing changes; the more trials disagree with the table,
 * the more it bends. A candidate without some blocks speaks for others without the same only; what
 * the blocks themselves cost is a part of its p that no group has.
 */
#include "search/search_int.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/banned.h"

/* Prior standard deviations, as shares of a prediction: what single-tensor KL on the sample model
 * missed when its sums were compared with files. The floor is in nats. */
static const double sd_all = 0.30, sd_role = 0.05, sd_type = 0.05, sd_group = 0.08, sd_noise = 0.01;
static const double floor_ratio = 6;

enum { ROLES = ROLE_ROPE + 1, OBSERVED_MAX = 64 };

/* What one measured trial says. */
struct seen {
    double residual, inverse; /* y/p − 1; the share of the floor / p */
    double role[ROLES], type[PROBE_TYPES_MAX];
    double *group; /* (n_groups) */
    double alpha;
};

struct fit {
    struct seen seen[OBSERVED_MAX];
    int n;
    size_t n_groups;
    double floor; /* expected before any trial, and its standard deviation, nats */
};

static int type_index(const struct probe_table *t, enum dtype type)
{
    for (int k = 0; k < t->n_types; k++)
        if (t->types[k] == type)
            return k;
    return -1;
}

/* Prediction for a candidate that has all blocks, or lacks those of `drop`; NaN = it is neither. */
static double predicted(const struct probe_table *t, const struct probe_groups *groups,
                        const struct search_drop *drop, const struct trial *trial)
{
    double p = 0;
    if (trial->recipe.n_drop_layers == 0)
        return allocate_kld(t, trial->group_types);
    if (!drop || !drops_is(drop, &trial->recipe))
        return NAN;
    for (size_t g = 0; g < t->n_groups; g++) {
        int k = type_index(t, trial->group_types[g]);
        if (!drops_has_layer(drop, groups->items[g].layer))
            p += k < 0 ? NAN : t->groups[g].kld[k];
    }
    return p + drop->kld;
}

static bool observe(struct seen *s, const struct search_space *space,
                    const struct search_drop *drop, const struct trial *trial)
{
    const struct probe_table *t = space->table;
    const struct probe_groups *groups = space->groups;
    if (trial->failed || !trial->group_types || !trial->score.has_kld ||
        (trial->recipe.feedback != NULL) != (space->feedback != NULL))
        return false;
    double p = predicted(t, groups, drop, trial);
    double y = trial->score.kld_mean - trial->cache_kld; /* of the weights */
    if (!(p > 0) || !(y > 0))
        return false;
    *s = (struct seen){.residual = y / p - 1,
                       .inverse = search_floor_share(t, trial->group_types) / p};
    s->group = xcalloc(t->n_groups + 1, sizeof(*s->group));
    for (size_t g = 0; g < t->n_groups; g++) {
        int k = type_index(t, trial->group_types[g]);
        if (k < 0) /* of a block that is not there */
            continue;
        double share = t->groups[g].kld[k] / p;
        s->group[g] = share;
        s->type[k] += share;
        s->role[groups->items[g].role] += share;
    }
    return true;
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static double kernel(const struct fit *f, const struct seen *a, const struct seen *b)
{
    return sd_all * sd_all + sd_role * sd_role * dot(a->role, b->role, ROLES) +
           sd_type * sd_type * dot(a->type, b->type, PROBE_TYPES_MAX) +
           sd_group * sd_group * dot(a->group, b->group, f->n_groups) +
           f->floor * f->floor * a->inverse * b->inverse;
}

/* Gauss elimination of the symmetric positive definite system (K + σ²I) α = z; no pivoting
 * needed. */
static void solve(struct fit *f)
{
    static const size_t width = OBSERVED_MAX + 1;
    size_t n = (size_t)f->n;
    double *m = xcalloc(OBSERVED_MAX * width, sizeof(*m));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            m[i * width + j] = kernel(f, &f->seen[i], &f->seen[j]);
        m[i * width + i] += sd_noise * sd_noise;
        m[i * width + n] = f->seen[i].residual - f->floor * f->seen[i].inverse;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t r = i + 1; r < n; r++) {
            double ratio = m[r * width + i] / m[i * width + i];
            for (size_t c = i; c <= n; c++)
                m[r * width + c] -= ratio * m[i * width + c];
        }
    for (size_t i = n; i-- > 0;) {
        double rest = m[i * width + n];
        for (size_t j = i + 1; j < n; j++)
            rest -= m[i * width + j] * f->seen[j].alpha;
        f->seen[i].alpha = rest / m[i * width + i];
    }
    xfree(m);
}

static double factor(const struct fit *f, enum model_role role, int type, size_t group)
{
    double x = 1;
    for (int i = 0; i < f->n; i++) {
        const struct seen *s = &f->seen[i];
        x += s->alpha * (sd_all * sd_all + sd_role * sd_role * s->role[role] +
                         sd_type * sd_type * s->type[type] + sd_group * sd_group * s->group[group]);
    }
    return fmin(fmax(x, 0.3), 3);
}

/* What eight bits cost everywhere, times the ratio; 0 where the table does not have them. */
double search_floor(const struct probe_table *t)
{
    int k = type_index(t, DT_Q8_0);
    double sum = 0;
    for (size_t g = 0; k >= 0 && g < t->n_groups; g++)
        sum += isfinite(t->groups[g].kld[k]) ? t->groups[g].kld[k] : 0;
    return floor_ratio * sum;
}

double search_floor_share(const struct probe_table *t, const enum dtype *types)
{
    int k = type_index(t, DT_Q8_0);
    double all = 0, quantized = 0;
    for (size_t g = 0; k >= 0 && g < t->n_groups; g++) {
        double kld = t->groups[g].kld[k];
        if (!isfinite(kld) || types[g] == DT_NONE)
            continue;
        all += kld;
        quantized += dtype_info(types[g])->block > 1 ? kld : 0;
    }
    return all > 0 ? quantized / all : 1;
}

static double learned_floor(const struct fit *f)
{
    double x = f->floor;
    for (int i = 0; i < f->n; i++)
        x += f->floor * f->floor * f->seen[i].alpha * f->seen[i].inverse;
    return fmax(x, 0);
}

static void table_copy(struct probe_table *to, const struct probe_table *t)
{
    *to = *t;
    to->groups = xcalloc(t->n_groups + 1, sizeof(*to->groups));
    memcpy(to->groups, t->groups, t->n_groups * sizeof(*to->groups));
}

double correct_table(struct probe_table *to, const struct search_space *s,
                     const struct search_drop *drop, const struct trials *history)
{
    const struct probe_table *t = s->table;
    struct fit *f = xcalloc(1, sizeof(*f));
    table_copy(to, t);
    f->n_groups = t->n_groups;
    f->floor = search_floor(t);
    /* The latest trials lie nearest to where the search is. */
    for (size_t i = history->n; i-- > 0 && f->n < OBSERVED_MAX;)
        f->n += observe(&f->seen[f->n], s, drop, &history->items[i]);
    solve(f);
    for (size_t g = 0; f->n > 0 && g < t->n_groups; g++)
        for (int k = 0; k < t->n_types; k++)
            to->groups[g].kld[k] *= factor(f, s->groups->items[g].role, k, g);
    double floor = learned_floor(f);
    for (int i = 0; i < f->n; i++)
        xfree(f->seen[i].group);
    xfree(f);
    return floor;
}
