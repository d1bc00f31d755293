/* Help from the table: the list of commands, and one page per command.
 *
 * Owns the layout only; every word about a command comes from its table entry, so help cannot
 * disagree with what the program accepts.
 */
#include <string.h>

#include "face/args.h"
#include "face/face.h"

#include "base/banned.h"

enum { INDENT = 2, GUTTER = 2, LEFT_MAX = 30, LINE_DEFAULT = 80 };

static void heading(struct paper *p, const char *text)
{
    paper_end(p);
    paper_say(p, STYLE_BOLD, "%s", text);
    paper_end(p);
}

static void spaces(struct paper *p, int n)
{
    paper_say(p, STYLE_PLAIN, "%*s", n > 0 ? n : 0, "");
}

/* "  -o, --output FILE" into text; returns its length. */
static int option_left(const struct arg_spec *s, char *text, size_t size)
{
    char letter[8] = "    ", value[48] = "";
    if (s->letter)
        snprintf(letter, sizeof(letter), "-%c, ", s->letter);
    if (s->value)
        snprintf(value, sizeof(value), s->optional_value ? " [%s]" : " %s", s->value);
    return snprintf(text, size, "%s--%s%s", letter, s->name, value);
}

/* The help text with what the table knows beside it: choices, default, alias, "repeatable". */
static void option_right(const struct arg_spec *s, struct buf *b)
{
    buf_adds(b, s->help);
    if (s->choices && strchr(s->choices, '|')) {
        buf_adds(b, ": ");
        for (const char *p = s->choices; *p; p++)
            if (*p == '|')
                buf_adds(b, ", ");
            else
                buf_addc(b, *p);
    }
    if (s->fallback)
        buf_addf(b, " [%s]", s->fallback);
    if (s->repeat && !s->positional && s->type != ARG_FLAG)
        buf_adds(b, " (repeatable)");
}

/* Two columns; the right one wraps under itself. */
static void two_columns(struct paper *p, const char *left, const char *right, int left_width)
{
    int width = p->width > 0 && p->width < 100 ? p->width : LINE_DEFAULT;
    int column = INDENT + left_width + GUTTER;
    spaces(p, INDENT);
    paper_say(p, STYLE_NAME, "%s", left);
    int at = INDENT + (int)strlen(left);
    if (at + GUTTER > column) {
        paper_end(p);
        at = 0;
    }
    spaces(p, column - at);
    at = column;
    while (*right) {
        right += strspn(right, " ");
        int n = (int)strcspn(right, " ");
        if (at > column && at + 1 + n > width) {
            paper_end(p);
            spaces(p, column);
            at = column;
        }
        paper_say(p, STYLE_PLAIN, "%s%.*s", at > column ? " " : "", n, right);
        at += n + (at > column);
        right += n;
    }
    paper_end(p);
}

static int left_width(const struct arg_spec *args, int widest)
{
    char left[96];
    for (const struct arg_spec *s = args; s->name; s++) {
        int n = s->positional ? 0 : option_left(s, left, sizeof(left));
        if (n > widest && n <= LEFT_MAX)
            widest = n;
    }
    return widest;
}

static void print_options(struct paper *p, const struct arg_spec *args, int width)
{
    for (const struct arg_spec *s = args; s->name; s++) {
        char left[96];
        struct buf right;
        if (s->positional)
            continue;
        buf_init(&right, 4096);
        option_left(s, left, sizeof(left));
        option_right(s, &right);
        two_columns(p, left, buf_str(&right), width);
        buf_release(&right);
    }
}

static void print_example(struct paper *p, const char *example)
{
    for (const char *line = example; *line;) {
        int n = (int)strcspn(line, "\n");
        spaces(p, INDENT);
        paper_say(p, STYLE_PLAIN, "%.*s", n, line);
        paper_end(p);
        line += n + (line[n] == '\n');
    }
}

static void print_group(struct paper *p, enum cmd_group g)
{
    bool titled = false;
    const struct cmd *c;
    for (int i = 0; (c = cmd_at(i)); i++) {
        if (c->hidden || c->group != g)
            continue;
        if (!titled)
            heading(p, cmd_group_title(g));
        titled = true;
        two_columns(p, c->name, c->summary, 10);
    }
}

void face_help(struct paper *p)
{
    paper_say(p, STYLE_BOLD, "sintra %s", SINTRA_VERSION);
    paper_say(p, STYLE_PLAIN, ": makes language models small, and measures what it costs");
    paper_end(p);
    paper_end(p);
    paper_say(p, STYLE_PLAIN, "usage: sintra [command] [options]");
    paper_end(p);
    for (int g = 0; g < CMD_GROUPS; g++)
        print_group(p, (enum cmd_group)g);
    heading(p, "options of every command");
    print_options(p, face_common_args, left_width(face_common_args, 0));
    heading(p, "start here");
    two_columns(p, "sintra optimize --target-bpw 4.5", "try it on the built-in sample", 38);
    two_columns(p, "sintra help optimize", "explain one command", 38);
}

/* "sintra quantize MODEL [options]" */
static void print_usage(struct paper *p, const struct cmd *c)
{
    paper_say(p, STYLE_PLAIN, "usage: sintra %s", c->name);
    bool options = false;
    for (const struct arg_spec *s = c->args; s->name; s++) {
        if (s->positional)
            paper_say(p, STYLE_PLAIN, s->required ? " %s" : " [%s]", s->name);
        else if (s->required && s->letter)
            paper_say(p, STYLE_PLAIN, " -%c %s", s->letter, s->value);
        else if (s->required)
            paper_say(p, STYLE_PLAIN, " --%s %s", s->name, s->value);
        else
            options = true;
    }
    paper_say(p, STYLE_PLAIN, options ? " [options]" : "");
    paper_end(p);
}

static void print_positionals(struct paper *p, const struct cmd *c)
{
    bool titled = false;
    for (const struct arg_spec *s = c->args; s->name; s++) {
        if (!s->positional)
            continue;
        struct buf right;
        buf_init(&right, 4096);
        option_right(s, &right);
        if (!titled)
            heading(p, "arguments");
        titled = true;
        two_columns(p, s->name, buf_str(&right), 10);
        buf_release(&right);
    }
}

static void print_aliases(struct paper *p, const struct cmd *c)
{
    struct buf b;
    buf_init(&b, 4096);
    for (const struct arg_spec *s = c->args; s->name; s++)
        if (s->alias)
            buf_addf(&b, "%s --%s (--%s)", b.len ? "," : "other names:", s->alias, s->name);
    if (b.len) {
        paper_end(p);
        paper_wrap(p, 0, buf_str(&b));
    }
    buf_release(&b);
}

void face_help_command(struct paper *p, const struct cmd *c)
{
    paper_say(p, STYLE_BOLD, "sintra %s", c->name);
    paper_say(p, STYLE_PLAIN, ": %s", c->summary);
    paper_end(p);
    paper_end(p);
    print_usage(p, c);
    paper_end(p);
    paper_wrap(p, 0, c->description);
    print_positionals(p, c);
    int width = left_width(c->args, 0);
    if (width > 0) {
        heading(p, "options");
        print_options(p, c->args, width);
    }
    paper_end(p);
    paper_wrap(p, 0, "and, as everywhere: --json, --quiet, --verbose, --no-color, --home DIR");
    print_aliases(p, c);
    heading(p, "examples");
    print_example(p, c->example);
}
