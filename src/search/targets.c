/* What the user asked for, as numbers: tests of one candidate against all of them.
 *
 * Every target is an inequality between a measured value and a limit. A value that was not measured
 * (0) does not meet a target that asks for it: "unknown" never passes as "yes". The distance is a
 * sum of log ratios, so that being 10 % too large weighs as much as being 10 % too slow.
 */
#include "search/search.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/banned.h"

bool targets_any(const struct targets *t)
{
    return t->size_max > 0 || t->bpw_max > 0 || t->memory_max > 0 || t->tps_min > 0 ||
           t->latency_ms_max > 0 || t->accuracy_min > 0;
}

bool targets_accuracy_only(const struct targets *t)
{
    return t->accuracy_min > 0 && t->size_max == 0 && !(t->bpw_max > 0) && t->memory_max == 0 &&
           !(t->tps_min > 0) && !(t->latency_ms_max > 0);
}

bool targets_need_speed(const struct targets *t)
{
    return t->memory_max > 0 || t->tps_min > 0 || t->latency_ms_max > 0;
}

json_t *targets_json_new(const struct targets *t)
{
    json_t *o = json_object();
    if (t->size_max > 0)
        json_object_set_new(o, "size_max", json_integer((json_int_t)t->size_max));
    if (t->bpw_max > 0)
        json_object_set_new(o, "bpw_max", json_real_new(t->bpw_max));
    if (t->memory_max > 0)
        json_object_set_new(o, "memory_max", json_integer((json_int_t)t->memory_max));
    if (t->context > 0)
        json_object_set_new(o, "context", json_integer((json_int_t)t->context));
    if (t->tps_min > 0)
        json_object_set_new(o, "tps_min", json_real_new(t->tps_min));
    if (t->latency_ms_max > 0)
        json_object_set_new(o, "latency_ms_max", json_real_new(t->latency_ms_max));
    if (t->accuracy_min > 0)
        json_object_set_new(o, "accuracy_min", json_real_new(t->accuracy_min));
    return o;
}

static uint64_t whole(const json_t *doc, const char *key)
{
    int64_t v = json_opt_i64(doc, key, 0);
    return v > 0 ? (uint64_t)v : 0;
}

void targets_from_json(struct targets *t, const json_t *doc)
{
    *t = (struct targets){
        .size_max = whole(doc, "size_max"),
        .bpw_max = json_opt_real(doc, "bpw_max", 0),
        .memory_max = whole(doc, "memory_max"),
        .context = (uint32_t)whole(doc, "context"),
        .tps_min = json_opt_real(doc, "tps_min", 0),
        .latency_ms_max = json_opt_real(doc, "latency_ms_max", 0),
        .accuracy_min = json_opt_real(doc, "accuracy_min", 0),
    };
}

/* One target: value against limit, both as reals. */
enum unit { UNIT_BYTES, UNIT_BPW, UNIT_TPS, UNIT_MS, UNIT_SHARE };
struct check {
    const char *what;
    enum unit unit;
    bool at_most;
    double limit, value; /* limit 0 = not asked, value 0 = not measured */
};
enum { CHECKS = 6 };

static void checks_make(struct check c[static CHECKS], const struct targets *t, uint64_t bytes,
                        uint64_t parameters, const struct score *s)
{
    double bpw = parameters ? (double)bytes * 8 / (double)parameters : 0;
    const struct check all[CHECKS] = {
        {"size", UNIT_BYTES, true, (double)t->size_max, (double)bytes},
        {"bits per weight", UNIT_BPW, true, t->bpw_max, bpw},
        {"memory", UNIT_BYTES, true, (double)t->memory_max, (double)s->memory_bytes},
        {"tokens/s", UNIT_TPS, false, t->tps_min, s->tps_decode},
        {"time to first token", UNIT_MS, true, t->latency_ms_max, s->first_token_ms},
        {"top-1 agreement", UNIT_SHARE, false, t->accuracy_min, s->top1},
    };
    memcpy(c, all, sizeof(all));
}

static bool check_holds(const struct check *c)
{
    if (!(c->limit > 0))
        return true;
    if (!(c->value > 0))
        return false;
    return c->at_most ? c->value <= c->limit : c->value >= c->limit;
}

static void value_text(enum unit unit, double v, char text[static NUM_TEXT_MAX])
{
    switch (unit) {
    case UNIT_BYTES:
        num_format_size((uint64_t)v, text);
        return;
    case UNIT_BPW:
        snprintf(text, NUM_TEXT_MAX, "%.3f", v);
        return;
    case UNIT_TPS:
        snprintf(text, NUM_TEXT_MAX, "%.1f", v);
        return;
    case UNIT_MS:
        snprintf(text, NUM_TEXT_MAX, "%.1f ms", v);
        return;
    case UNIT_SHARE:
        snprintf(text, NUM_TEXT_MAX, "%.2f %%", v * 100);
        return;
    }
}

static void check_phrase(const struct check *c, char *why)
{
    char value[NUM_TEXT_MAX], limit[NUM_TEXT_MAX];
    value_text(c->unit, c->value, value);
    value_text(c->unit, c->limit, limit);
    if (c->value > 0)
        snprintf(why, TARGETS_WHY_MAX, "%s %s, asked at %s %s", c->what, value,
                 c->at_most ? "most" : "least", limit);
    else
        snprintf(why, TARGETS_WHY_MAX, "%s not measured, asked at %s %s", c->what,
                 c->at_most ? "most" : "least", limit);
}

bool targets_met(const struct targets *t, uint64_t bytes, uint64_t parameters,
                 const struct score *s, char *why)
{
    struct check c[CHECKS];
    checks_make(c, t, bytes, parameters, s);
    for (int i = 0; i < CHECKS; i++) {
        if (check_holds(&c[i]))
            continue;
        if (why)
            check_phrase(&c[i], why);
        return false;
    }
    return true;
}

double targets_distance(const struct targets *t, uint64_t bytes, uint64_t parameters,
                        const struct score *s)
{
    struct check c[CHECKS];
    double sum = 0;
    checks_make(c, t, bytes, parameters, s);
    for (int i = 0; i < CHECKS; i++) {
        if (check_holds(&c[i]))
            continue;
        /* Unmeasured is farther than any measured miss that people would argue about. */
        sum += c[i].value > 0 ? fabs(log(c[i].value / c[i].limit)) : 10;
    }
    return sum;
}
