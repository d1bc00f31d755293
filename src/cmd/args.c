/* Typed arguments of a command: text in, checked values out.
 *
 * Owns copies of every value. Refuses, as a usage error naming the argument, what is not of its
 * type, not one of its choices or outside its range, so that a command reads values without
 * checking again. The last value of an option that does not repeat wins, as with most programs.
 * Choices are kept as the table spells them, whatever the case that was typed. A text whose value
 * is called SIZE must be a size.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/num.h"
#include "cmd/cmd.h"

#include "base/banned.h"

/* Values of one argument. */
struct arg_values {
    char **items;
    size_t n, capacity;
    bool given; /* by the user */
};

struct cmd_args {
    const struct cmd *cmd;
    struct arg_values *values; /* parallel to cmd->args */
    size_t n;
};

static bool is_size(const struct arg_spec *s)
{
    return s->type == ARG_TEXT && s->value && strcmp(s->value, "SIZE") == 0;
}

/* How the argument is called in messages: "--target-size" or "MODEL". */
static const char *shown_name(const struct arg_spec *s, char text[static 64])
{
    snprintf(text, 64, "%s%s", s->positional ? "" : "--", s->name);
    return text;
}

struct cmd_args *cmd_args_make(const struct cmd *c)
{
    struct cmd_args *a = xcalloc(1, sizeof(*a));
    a->cmd = c;
    while (c->args[a->n].name)
        a->n++;
    a->values = xcalloc(a->n ? a->n : 1, sizeof(*a->values));
    return a;
}

static void values_clear(struct arg_values *v)
{
    for (size_t i = 0; i < v->n; i++)
        xfree(v->items[i]);
    v->n = 0;
}

void cmd_args_free(struct cmd_args *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n; i++) {
        values_clear(&a->values[i]);
        xfree(a->values[i].items);
    }
    xfree(a->values);
    xfree(a);
}

const struct cmd *cmd_args_cmd(const struct cmd_args *a)
{
    return a->cmd;
}

/* The choice that `value` names, as the table spells it (new text), or NULL. */
static char *choice_find(const char *choices, const char *value)
{
    size_t n = strlen(value);
    for (const char *p = choices; *p;) {
        size_t len = strcspn(p, "|");
        if (len == n && strncasecmp(p, value, n) == 0)
            return xstrndup(p, len);
        p += len + (p[len] == '|');
    }
    return NULL;
}

/* "a|b|c" -> "a, b or c". Result to xfree. */
static char *choices_sentence(const char *choices)
{
    struct arena a = {0};
    char *text = arena_strdup(&a, "");
    for (const char *p = choices; *p;) {
        size_t len = strcspn(p, "|");
        bool last = p[len] == 0;
        const char *joint = text[0] == 0 ? "" : last ? " or " : ", ";
        text = arena_printf(&a, "%s%s%.*s", text, joint, (int)len, p);
        p += len + !last;
    }
    char *out = xstrdup(text);
    arena_release(&a);
    return out;
}

static int choice_refuse(const struct arg_spec *s, const char *shown, const char *value,
                         struct err *e)
{
    char *list = choices_sentence(s->choices);
    bool one = strchr(s->choices, '|') == NULL;
    err_set(e, ERR_USAGE, one ? "this version offers only this one" : NULL,
            "%s: expected %s, found \"%.60s\"", shown, list, value);
    xfree(list);
    return -1;
}

/* A share is easily given in percent. */
static int real_refused(const struct arg_spec *s, struct err *e)
{
    if (e && !e->hint[0] && s->value && strcmp(s->value, "SHARE") == 0)
        snprintf(e->hint, sizeof(e->hint), "a share of 1: 0.95 means 95 %%");
    return -1;
}

/* Checks one value; *kept gets the text to keep (xfree). */
static int value_check(const struct arg_spec *s, const char *value, char **kept, struct err *e)
{
    char shown[64];
    shown_name(s, shown);
    bool any = s->min == 0 && s->max == 0;
    if (value[0] == 0)
        return err_set(e, ERR_USAGE, NULL, "%s: the value is empty", shown);
    if (s->choices) {
        *kept = choice_find(s->choices, value);
        return *kept ? 0 : choice_refuse(s, shown, value, e);
    }
    int64_t whole;
    double real;
    uint64_t bytes;
    if (s->type == ARG_INTEGER && num_parse_i64(value, shown, any ? INT64_MIN : (int64_t)s->min,
                                                any ? INT64_MAX : (int64_t)s->max, &whole, e))
        return -1;
    if (s->type == ARG_REAL &&
        num_parse_real(value, shown, any ? -1e300 : s->min, any ? 1e300 : s->max, &real, e))
        return real_refused(s, e);
    if (is_size(s) && num_parse_size(value, shown, &bytes, e))
        return -1;
    if (is_size(s) && bytes == 0)
        return err_set(e, ERR_USAGE, NULL, "%s: a size of zero cannot be met", shown);
    *kept = xstrdup(value);
    return 0;
}

/* Flags take no value from argv; JSON and forms send true or false. */
static int flag_set(const struct arg_spec *s, struct arg_values *v, const char *value,
                    struct err *e)
{
    char shown[64];
    bool on = !value || strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0;
    if (!on && strcasecmp(value, "false") != 0 && strcmp(value, "0") != 0)
        return err_set(e, ERR_USAGE, NULL, "%s is a switch and takes no value, found \"%.60s\"",
                       shown_name(s, shown), value);
    values_clear(v);
    if (on) {
        v->items = xgrow(v->items, &v->capacity, 1, sizeof(*v->items));
        v->items[v->n++] = xstrdup("true");
    }
    v->given = true;
    return 0;
}

static struct arg_values *values_find(const struct cmd_args *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct arg_spec *s = &a->cmd->args[i];
        if (strcmp(s->name, name) == 0 || (s->alias && strcmp(s->alias, name) == 0))
            return &a->values[i];
    }
    return NULL;
}

int cmd_args_set(struct cmd_args *a, const char *name, const char *value, struct err *e)
{
    struct arg_values *v = values_find(a, name);
    if (!v)
        return err_set(e, ERR_USAGE, NULL, "%s has no argument \"%.60s\"", a->cmd->name, name);
    const struct arg_spec *s = &a->cmd->args[v - a->values];
    char shown[64];
    if (s->type == ARG_FLAG)
        return flag_set(s, v, value, e);
    if (!value && !s->optional_value)
        return err_set(e, ERR_USAGE, NULL, "%s needs a value (%s)", shown_name(s, shown),
                       s->value ? s->value : "text");
    char *kept = NULL;
    if (value && value_check(s, value, &kept, e))
        return -1;
    if (!s->repeat)
        values_clear(v);
    if (kept) {
        v->items = xgrow(v->items, &v->capacity, v->n + 1, sizeof(*v->items));
        v->items[v->n++] = kept;
    }
    v->given = true;
    return 0;
}

int cmd_args_finish(struct cmd_args *a, struct err *e)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct arg_spec *s = &a->cmd->args[i];
        struct arg_values *v = &a->values[i];
        if (v->given)
            continue;
        if (s->required && s->positional)
            return err_set(e, ERR_USAGE, NULL, "%s is missing: %s", s->name, s->help);
        if (s->required)
            return err_set(e, ERR_USAGE, NULL, "--%s %s is missing: %s", s->name, s->value,
                           s->help);
        if (s->fallback && cmd_args_set(a, s->name, s->fallback, e))
            return -1;
        v->given = false;
    }
    return 0;
}

/* Asking for an argument the table does not have is a bug of ours. */
static const struct arg_values *values_need(const struct cmd_args *a, const char *name)
{
    static const struct arg_values none;
    const struct arg_values *v = values_find(a, name);
    return v ? v : &none;
}

const char *cmd_text_at(const struct cmd_args *a, const char *name, int i)
{
    const struct arg_values *v = values_need(a, name);
    return i >= 0 && (size_t)i < v->n ? v->items[i] : NULL;
}

const char *cmd_text(const struct cmd_args *a, const char *name)
{
    return cmd_text_at(a, name, 0);
}

int64_t cmd_integer(const struct cmd_args *a, const char *name)
{
    int64_t n = 0;
    const char *text = cmd_text(a, name);
    return text && num_parse_i64(text, name, INT64_MIN, INT64_MAX, &n, NULL) == 0 ? n : 0;
}

double cmd_real(const struct cmd_args *a, const char *name)
{
    double x = 0;
    const char *text = cmd_text(a, name);
    return text && num_parse_real(text, name, -1e300, 1e300, &x, NULL) == 0 ? x : 0;
}

uint64_t cmd_size(const struct cmd_args *a, const char *name)
{
    uint64_t bytes = 0;
    const char *text = cmd_text(a, name);
    return text && num_parse_size(text, name, &bytes, NULL) == 0 ? bytes : 0;
}

bool cmd_flag(const struct cmd_args *a, const char *name)
{
    return values_need(a, name)->n > 0;
}

bool cmd_given(const struct cmd_args *a, const char *name)
{
    return values_need(a, name)->given;
}

int cmd_count(const struct cmd_args *a, const char *name)
{
    return (int)values_need(a, name)->n;
}
