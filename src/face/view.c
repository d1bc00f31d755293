/* Results as text: which view a command has, and what all views are made of.
 *
 * Owns nothing. A view only reads the document that --json prints, so nothing can be shown that a
 * script cannot have. A value that is absent shows as nothing, never as zero. Numbers carry three
 * significant digits: more would claim what the intervals deny.
 */
#include "face/view_int.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/num.h"
#include "face/face.h"

#include "base/banned.h"

static const struct {
    const char *command;
    void (*show)(struct paper *p, const json_t *r);
} views[] = {
    {"optimize", view_optimize},
    {"plan", view_plan},
    {"probe", view_probe},
    {"runs", view_runs},
    {"report", view_report},
    {"compare", view_compare},
    {"history", view_history},
    {"stats", view_stats},
    {"inspect", view_inspect},
    {"detect", view_detect},
    {"profiles", view_profiles},
    {"convert", view_convert},
    {"quantize", view_quantize},
    {"calibrate", view_calibrate},
    {"eval", view_eval},
    {"bench", view_bench},
    {"version", view_version},
    {"pull", view_pull},
    {"hf", view_hf},
    {"publish", view_publish},
};

/* Help, completion and the manual page are made from the table, not from a result. */
static bool show_table_text(struct paper *p, const struct cmd *c, const json_t *r)
{
    if (strcmp(c->name, "help") == 0) {
        const struct cmd *one = cmd_find(json_opt_str(r, "command", ""));
        if (one)
            face_help_command(p, one);
        else
            face_help(p);
    } else if (strcmp(c->name, "completion") == 0) {
        face_completion(&p->text, json_opt_str(r, "shell", "bash"));
    } else if (strcmp(c->name, "man") == 0) {
        face_man(&p->text);
    } else {
        return false;
    }
    return true;
}

void face_view(struct paper *p, const struct cmd *c, const json_t *result)
{
    if (show_table_text(p, c, result))
        return;
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        if (strcmp(views[i].command, c->name) == 0) {
            views[i].show(p, result);
            return;
        }
    }
    char *text = json_text(result, true);
    buf_adds(&p->text, text);
    paper_end(p);
    xfree(text);
}

const json_t *view_at(const json_t *o, const char *path)
{
    char key[64];
    while (o && *path) {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof(key), "%.*s", (int)n, path);
        o = json_object_get(o, key);
        path += n + (path[n] == '.');
    }
    return o;
}

const char *view_str(const json_t *o, const char *path, const char *otherwise)
{
    const json_t *v = view_at(o, path);
    return json_is_string(v) ? json_string_value(v) : otherwise;
}

double view_real(const json_t *o, const char *path, double otherwise)
{
    const json_t *v = view_at(o, path);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

/* Three significant digits without an exponent: 0.00593, 12.3, 1240. What float arithmetic cannot
 * tell from zero is zero. */
static void format_significant(double x, char text[static VIEW_TEXT_MAX])
{
    const double nothing = 1e-8;
    int decimals = 2;
    double size = fabs(x);
    if (size >= 100)
        decimals = 0;
    else if (size >= 10)
        decimals = 1;
    else if (size < nothing)
        decimals = 0;
    else if (size < 1)
        decimals = 2 - (int)floor(log10(size));
    snprintf(text, VIEW_TEXT_MAX, "%.*f", decimals, size < nothing ? 0 : x);
}

static void format_date(int64_t ms, char text[static VIEW_TEXT_MAX])
{
    char iso[32];
    clock_iso(ms, iso);
    snprintf(text, VIEW_TEXT_MAX, "%.10s %.5s", iso, iso + 11);
}

static void format_number(enum view_kind kind, const json_t *value, char text[static VIEW_TEXT_MAX])
{
    double x = json_number_value(value);
    uint64_t n = x > 0 ? (uint64_t)x : 0;
    char part[NUM_TEXT_MAX];
    switch (kind) {
    case VIEW_SIZE:
        snprintf(text, VIEW_TEXT_MAX, "%s", num_format_size(n, part));
        break;
    case VIEW_COUNT:
        snprintf(text, VIEW_TEXT_MAX, "%s", num_format_count(n, part));
        break;
    case VIEW_SECONDS:
        snprintf(text, VIEW_TEXT_MAX, "%s", num_format_seconds(x, part));
        break;
    case VIEW_PERCENT:
        snprintf(text, VIEW_TEXT_MAX, "%.1f %%", x * 100);
        break;
    case VIEW_BITS:
        snprintf(text, VIEW_TEXT_MAX, "%.2f", x);
        break;
    case VIEW_SHARE:
        snprintf(text, VIEW_TEXT_MAX, "%g %%", x * 100);
        break;
    case VIEW_GIVEN:
        snprintf(text, VIEW_TEXT_MAX, "%g", x);
        break;
    case VIEW_MS:
        snprintf(text, VIEW_TEXT_MAX, x < 10 ? "%.1f ms" : "%.0f ms", x);
        break;
    case VIEW_DATE:
        format_date((int64_t)x, text);
        break;
    case VIEW_INTEGER:
        snprintf(text, VIEW_TEXT_MAX, "%.0f", x);
        break;
    default:
        format_significant(x, text);
    }
}

/* Strings of a list, as many as fit. */
static void format_list(const json_t *list, char text[static VIEW_TEXT_MAX])
{
    size_t at = 0;
    for (size_t i = 0; i < json_array_size(list) && at < VIEW_TEXT_MAX; i++) {
        const char *item = json_string_value(json_array_get(list, i));
        at += (size_t)snprintf(text + at, VIEW_TEXT_MAX - at, "%s%s", at ? ", " : "",
                               item ? item : "");
    }
}

char *view_format(enum view_kind kind, const json_t *value, char text[static VIEW_TEXT_MAX])
{
    text[0] = 0;
    if (kind == VIEW_TEXT && json_is_array(value))
        format_list(value, text);
    else if (kind == VIEW_YES)
        snprintf(text, VIEW_TEXT_MAX, "%s", json_is_true(value) ? "yes" : "");
    else if (json_is_number(value))
        format_number(kind, value, text);
    else if (json_is_string(value))
        snprintf(text, VIEW_TEXT_MAX, kind == VIEW_SHORT ? "%.10s" : "%s",
                 json_string_value(value));
    return text;
}

char *view_format_at(const json_t *o, const char *path, enum view_kind kind,
                     char text[static VIEW_TEXT_MAX])
{
    return view_format(kind, view_at(o, path), text);
}

static bool left_aligned(enum view_kind kind)
{
    return kind == VIEW_TEXT || kind == VIEW_SHORT || kind == VIEW_DATE || kind == VIEW_YES;
}

void view_rows(struct paper *p, const json_t *rows, const struct view_column *columns, int indent)
{
    struct table *t = table_new();
    size_t i;
    json_t *row;
    for (const struct view_column *c = columns; c->path; c++)
        table_column(t, c->title, left_aligned(c->kind) ? TABLE_LEFT : TABLE_RIGHT);
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        for (const struct view_column *c = columns; c->path; c++) {
            char text[VIEW_TEXT_MAX];
            table_cell(t, c->style, "%s", view_format_at(row, c->path, c->kind, text));
        }
    }
    table_print(t, p, indent);
    table_free(t);
}

void view_facts(struct paper *p, const json_t *o, const struct view_fact *facts, int indent)
{
    struct table *t = table_new();
    table_column(t, "", TABLE_LEFT);
    table_column(t, "", TABLE_LEFT);
    for (const struct view_fact *f = facts; f->path; f++) {
        char text[VIEW_TEXT_MAX];
        view_format_at(o, f->path, f->kind, text);
        if (!text[0])
            continue;
        table_cell(t, STYLE_DIM, "%s", f->label);
        table_cell(t, STYLE_PLAIN, "%s", text);
    }
    table_print(t, p, indent);
    table_free(t);
}

void view_heading(struct paper *p, const char *title)
{
    paper_end(p);
    paper_say(p, STYLE_BOLD, "%s", title);
    paper_end(p);
}

void view_line(struct paper *p, const char *format, ...)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    va_list ap;
    va_start(ap, format);
    buf_addv(&b, format, ap);
    va_end(ap);
    paper_say(p, STYLE_PLAIN, "%s", buf_str(&b));
    paper_end(p);
    buf_release(&b);
}
