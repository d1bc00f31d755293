/* What was tried and what became of it, and what every group of tensors costs and got: the parts of
 * the result document that explain a choice.
 *
 * A candidate that was not delivered gets one reason, the first that holds: it could not be made,
 * it missed a target, it is larger where the smallest was wanted, or its KL divergence is higher,
 * with the paired interval of that difference. Two finalists are compared on held-out text, all
 * others on the windows of the search. Without a target nothing is rejected that is on the front.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

enum { WHY_MAX = ERR_MESSAGE_MAX + 64 };

struct verdict {
    const char *outcome; /* delivered front beaten missed failed */
    char why[WHY_MAX];
};

static const struct finalist *finalist_of(const struct run *r, size_t trial)
{
    for (size_t i = 0; i < r->finals.n; i++)
        if (r->finals.items[i].trial == trial)
            return &r->finals.items[i];
    return NULL;
}

/* Without an exponent, to three significant digits of `largest`, so that a difference and its
 * interval are rounded alike. */
static char *kld_text(double v, double largest, char text[static NUM_TEXT_MAX])
{
    double size = largest > 1e-9 ? floor(log10(largest)) : 0;
    int digits = size < 0 ? 2 - (int)size : 2;
    snprintf(text, NUM_TEXT_MAX, "%.*f", digits > 9 ? 9 : digits, v);
    return text;
}

/* The difference of trial a from trial b, on the best text that both were measured on. */
static struct stat_mean difference(const struct run *r, size_t a, size_t b, bool *held_out)
{
    const struct finalist *x = finalist_of(r, a), *y = finalist_of(r, b);
    *held_out = x && y;
    return *held_out ? final_paired(x, y) : trial_paired(&r->trials.items[a], &r->trials.items[b]);
}

/* "KL higher by 0.0053 [0.0048, 0.0057] on held-out text". */
static void say_difference(const struct run *r, size_t a, size_t b, char why[static WHY_MAX])
{
    char mean[NUM_TEXT_MAX], low[NUM_TEXT_MAX], high[NUM_TEXT_MAX];
    bool held_out;
    struct stat_mean d = difference(r, a, b, &held_out);
    const char *text = held_out ? "held-out text" : "the search text";
    if (d.clusters < 2) {
        double plain = r->trials.items[a].score.kld_mean - r->trials.items[b].score.kld_mean;
        snprintf(why, WHY_MAX, "KL %s by %s on %s", plain > 0 ? "higher" : "lower",
                 kld_text(fabs(plain), fabs(plain), mean), text);
        return;
    }
    bool higher = d.mean > 0;
    double from = higher ? d.low : -d.high, to = higher ? d.high : -d.low;
    double largest = fmax(fabs(from), fabs(to));
    snprintf(why, WHY_MAX, "KL %s by %s [%s, %s] on %s%s", higher ? "higher" : "lower",
             kld_text(fabs(d.mean), largest, mean), kld_text(from, largest, low),
             kld_text(to, largest, high), text, from > 0 ? "" : ", no reliable difference");
}

/* The candidate with the least KL among those that are no larger than trial i, which is not on the
 * front. */
static size_t rival_of(const struct run *r, size_t i)
{
    size_t best = i;
    for (size_t k = 0; k < r->trials.n; k++) {
        const struct trial *c = &r->trials.items[k];
        if (!c->failed && c->score.has_kld && c->bytes <= r->trials.items[i].bytes &&
            c->score.kld_mean < r->trials.items[best].score.kld_mean)
            best = k;
    }
    return best;
}

static void label_of(const struct run *r, size_t i, char text[static 64])
{
    const struct trial *t = &r->trials.items[i];
    char types[CACHE_TEXT_MAX] = "";
    if (!cache_is_default(t->recipe.cache))
        cache_text(t->recipe.cache, types);
    const char *before = types[0] ? ", " : "", *after = types[0] ? " KV" : "";
    if (t->stock_name)
        snprintf(text, 64, "%s%s%.24s%s", t->stock_name, before, types, after);
    else
        snprintf(text, 64, "composed %zu%s%.24s%s", i + 1, before, types, after);
}

/* Without targets. */
static void judge_front(const struct run *r, size_t i, bool on_front, struct verdict *v)
{
    char rival[64];
    char difference_text[WHY_MAX];
    v->outcome = on_front ? "front" : "beaten";
    if (on_front) {
        snprintf(v->why, sizeof(v->why), "on the front: nothing as small has less KL");
        return;
    }
    size_t by = rival_of(r, i);
    label_of(r, by, rival);
    say_difference(r, i, by, difference_text);
    snprintf(v->why, sizeof(v->why), "%s is no larger: %.*s", rival, WHY_MAX - 96, difference_text);
}

static void judge(const struct run *r, const struct outcome *o, size_t i, bool on_front,
                  struct verdict *v)
{
    const struct targets *want = &r->set.targets;
    uint64_t parameters = r->subject.desc->parameters;
    size_t winner = r->finals.items[o->best].trial;
    const struct trial *t = &r->trials.items[i], *best = &r->trials.items[winner];
    const struct finalist *f = finalist_of(r, i);
    char missed[TARGETS_WHY_MAX], size[NUM_TEXT_MAX], other[NUM_TEXT_MAX];
    *v = (struct verdict){.outcome = "beaten"};
    if (i == winner) {
        v->outcome = "delivered";
        snprintf(v->why, sizeof(v->why), "%s",
                 o->met ? "delivered" : "delivered: nearest to the targets");
    } else if (t->failed) {
        v->outcome = "failed";
        snprintf(v->why, sizeof(v->why), "failed: %s", t->error ? t->error : "no reason is known");
    } else if (!targets_met(want, t->bytes, parameters, f ? &f->score : &t->score, missed)) {
        v->outcome = "missed";
        snprintf(v->why, sizeof(v->why), "missed a target: %s", missed);
    } else if (!targets_any(want)) {
        judge_front(r, i, on_front, v);
    } else if (targets_accuracy_only(want) && t->bytes > best->bytes) {
        snprintf(v->why, sizeof(v->why), "larger: %s against %s", num_format_size(t->bytes, size),
                 num_format_size(best->bytes, other));
    } else {
        say_difference(r, i, winner, v->why);
    }
}

static json_t *interval_new(double low, double high)
{
    json_t *list = json_array();
    json_array_append_new(list, json_real_new(low));
    json_array_append_new(list, json_real_new(high));
    return list;
}

static void add_scores(json_t *o, const struct score *s)
{
    json_object_set_new(o, "kld_mean", json_real_new(s->kld_mean));
    json_object_set_new(o, "kld_mean_ci95", interval_new(s->kld_low, s->kld_high));
    json_object_set_new(o, "top1", json_real_new(s->top1));
}

static json_t *row_new(const struct run *r, const struct outcome *o, size_t i, bool on_front)
{
    const struct trial *t = &r->trials.items[i];
    const struct finalist *f = finalist_of(r, i);
    struct verdict v;
    char label[64];
    json_t *row = json_object(), *held_out = json_null();
    label_of(r, i, label);
    judge(r, o, i, on_front, &v);
    json_object_set_new(row, "label", json_string(label));
    json_object_set_new(row, "stock", json_boolean(t->stock));
    json_object_set_new(row, "reason", t->reason ? json_string(t->reason) : json_null());
    json_object_set_new(row, "bytes", json_integer((json_int_t)t->bytes));
    json_object_set_new(row, "bpw",
                        json_real_new((double)t->bytes * 8 / (double)r->subject.desc->parameters));
    json_object_set_new(row, "predicted_kld", json_real_new(t->predicted_kld));
    if (!t->failed)
        add_scores(row, &t->score);
    if (f) {
        held_out = json_object();
        add_scores(held_out, &f->score);
    }
    json_object_set_new(row, "held_out", held_out);
    json_object_set_new(row, "front", json_boolean(on_front));
    json_object_set_new(row, "outcome", json_string(v.outcome));
    json_object_set_new(row, "why", json_string(v.why));
    return row;
}

json_t *tried_json_new(const struct run *r, const struct outcome *o)
{
    size_t *front = xcalloc(r->trials.n + 1, sizeof(*front));
    size_t n = trials_front(&r->trials, front);
    json_t *list = json_array();
    for (size_t i = 0; i < r->trials.n; i++) {
        bool on_front = false;
        for (size_t k = 0; k < n; k++)
            on_front = on_front || front[k] == i;
        json_array_append_new(list, row_new(r, o, i, on_front));
    }
    xfree(front);
    return list;
}

/* ---- groups ---- */

/* What the group has in the file: a type that does not fit its rows gives way to another. */
static enum dtype stored_type(const struct subject *m, size_t g, enum dtype asked)
{
    const struct model_tensor *t = &m->desc->tensors[m->groups.items[g].tensors[0]];
    return asked == DT_NONE ? DT_NONE : recipe_fallback(asked, t->shape.ne[0]);
}

static double probed_kld(const struct run *r, size_t g)
{
    const struct sensitivity *s = &r->table.groups[g];
    for (int k = 0; k < r->table.n_types; k++)
        if (r->table.types[k] == s->probe_type)
            return s->kld[k];
    return NAN;
}

/* "blk.3.attn_q" → "attn_q". */
static const char *part_of(const struct probe_group *g)
{
    const char *dot = g->layer >= 0 ? strchr(g->name, '.') : NULL;
    dot = dot ? strchr(dot + 1, '.') : NULL;
    return dot ? dot + 1 : g->name;
}

json_t *groups_json_new(const struct run *r, const struct outcome *o)
{
    const struct trial *best = &r->trials.items[r->finals.items[o->best].trial];
    json_t *list = json_array();
    for (size_t g = 0; r->have_table && g < r->subject.groups.n; g++) {
        const struct probe_group *group = &r->subject.groups.items[g];
        enum dtype probe = r->table.groups[g].probe_type;
        enum dtype type =
            stored_type(&r->subject, g, best->group_types ? best->group_types[g] : DT_NONE);
        const struct dtype_info *d = type == DT_NONE ? NULL : dtype_info(type);
        json_t *row = json_object();
        json_object_set_new(row, "name", json_string(group->name));
        json_object_set_new(row, "layer",
                            group->layer >= 0 ? json_integer(group->layer) : json_null());
        json_object_set_new(row, "part", json_string(part_of(group)));
        json_object_set_new(row, "parameters", json_integer((json_int_t)group->elements));
        json_object_set_new(row, "probe",
                            probe == DT_NONE ? json_null() : json_string(dtype_name(probe)));
        json_object_set_new(row, "probe_kld", json_real_new(probed_kld(r, g)));
        json_object_set_new(row, "type", d ? json_string(d->name) : json_null());
        json_object_set_new(row, "bits",
                            d ? json_real_new(8.0 * d->bytes / d->block) : json_null());
        json_array_append_new(list, row);
    }
    return list;
}
