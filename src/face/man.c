/* sintra.1 from the table, in the man macros that groff and mandoc read (man(7)).
 *
 * One page for the whole program: a reader searches one place, and it cannot fall behind the table.
 * Text is escaped so that no word of a description can become a request.
 */
#include <string.h>

#include "face/args.h"
#include "face/face.h"

#include "base/banned.h"

/* Escapes backslashes and dashes, and a dot or quote that begins a line. */
static void add_text(struct buf *b, const char *text, size_t n)
{
    bool line_start = b->len == 0 || b->data[b->len - 1] == '\n';
    for (size_t i = 0; i < n; i++) {
        if (line_start && (text[i] == '.' || text[i] == '\''))
            buf_adds(b, "\\&");
        if (text[i] == '\\')
            buf_adds(b, "\\e");
        else if (text[i] == '-')
            buf_adds(b, "\\-");
        else
            buf_addc(b, text[i]);
        line_start = text[i] == '\n';
    }
}

static void add_line(struct buf *b, const char *text)
{
    add_text(b, text, strlen(text));
    buf_addc(b, '\n');
}

static void add_paragraphs(struct buf *b, const char *text)
{
    while (*text) {
        const char *gap = strstr(text, "\n\n");
        size_t n = gap ? (size_t)(gap - text) : strlen(text);
        add_text(b, text, n);
        buf_adds(b, gap ? "\n.PP\n" : "\n");
        text += n + (gap ? 2 : 0);
    }
}

static void add_choices(struct buf *b, const struct arg_spec *s)
{
    if (s->choices && strchr(s->choices, '|')) {
        buf_adds(b, "; one of ");
        for (const char *p = s->choices; *p;) {
            size_t n = strcspn(p, "|");
            add_text(b, p, n);
            buf_adds(b, p[n] ? ", " : "");
            p += n + (p[n] == '|');
        }
    }
    if (s->fallback) {
        buf_adds(b, " (default ");
        add_text(b, s->fallback, strlen(s->fallback));
        buf_adds(b, ")");
    }
    if (s->repeat && !s->positional && s->type != ARG_FLAG)
        buf_adds(b, "; may be repeated");
}

static void add_name(struct buf *b, const char *name)
{
    buf_adds(b, "\\fB\\-\\-");
    add_text(b, name, strlen(name));
    buf_adds(b, "\\fR");
}

static void add_argument(struct buf *b, const struct arg_spec *s)
{
    buf_adds(b, ".TP\n");
    if (s->positional) {
        buf_addf(b, "\\fI%s\\fR", s->name);
    } else {
        if (s->letter)
            buf_addf(b, "\\fB\\-%c\\fR, ", s->letter);
        add_name(b, s->name);
        if (s->alias) {
            buf_adds(b, ", ");
            add_name(b, s->alias);
        }
        if (s->value)
            buf_addf(b, s->optional_value ? " [\\fI%s\\fR]" : " \\fI%s\\fR", s->value);
    }
    buf_addc(b, '\n');
    add_text(b, s->help, strlen(s->help));
    add_choices(b, s);
    buf_adds(b, ".\n");
}

static void add_command(struct buf *b, const struct cmd *c)
{
    buf_addf(b, ".SS %s\n", c->name);
    add_text(b, c->summary, strlen(c->summary));
    buf_adds(b, ".\n.PP\n");
    add_paragraphs(b, c->description);
    for (const struct arg_spec *s = c->args; s->name; s++)
        add_argument(b, s);
    buf_adds(b, ".PP\nExamples:\n.PP\n.nf\n.RS\n");
    add_line(b, c->example);
    buf_adds(b, ".RE\n.fi\n");
}

static const char intro[] =
    "Sintra makes a language model small enough for your machine and tells you what it cost. It "
    "reads a Hugging Face model or a GGUF file, measures how sensitive every part of it is to "
    "quantization, and writes the GGUF file that keeps the most of the original within the size, "
    "memory, speed or accuracy that you name."
    "\n\n"
    "Without a command, optimize is meant. Without a model, the built-in sample is used.";

static const char exit_codes[] =
    ".TP\n0\nDone; targets, where there were any, are met.\n"
    ".TP\n1\nAn error; the sentence on standard error says what and what to do.\n"
    ".TP\n2\nThe command line was not understood.\n"
    ".TP\n3\nFinished, but no candidate meets the targets.\n"
    ".TP\n130\nInterrupted; \\fBsintra optimize \\-\\-resume\\fR goes on.\n";

static const char environment[] =
    ".TP\nSINTRA_HOME\nWhere runs, cache and your profiles live, without \\fB\\-\\-home\\fR.\n"
    ".TP\nXDG_DATA_HOME\nElse its sintra folder; else ~/.local/share/sintra.\n"
    ".TP\nNO_COLOR\nWhen set and not empty, no colours.\n";

void face_man(struct buf *roff)
{
    const struct cmd *c;
    buf_addf(roff, ".TH SINTRA 1 \"\" \"sintra %s\" \"User Commands\"\n", SINTRA_VERSION);
    buf_adds(roff, ".SH NAME\nsintra \\- make language models small, and measure what it costs\n");
    buf_adds(roff, ".SH SYNOPSIS\n.B sintra\n[\\fIcommand\\fR] [\\fIoptions\\fR]\n");
    buf_adds(roff, ".SH DESCRIPTION\n");
    add_paragraphs(roff, intro);
    buf_adds(roff, ".SH OPTIONS OF EVERY COMMAND\n");
    for (const struct arg_spec *s = face_common_args; s->name; s++)
        add_argument(roff, s);
    buf_adds(roff, ".SH COMMANDS\n");
    for (int i = 0; (c = cmd_at(i)); i++)
        if (!c->hidden)
            add_command(roff, c);
    buf_adds(roff, ".SH EXIT STATUS\n");
    buf_adds(roff, exit_codes);
    buf_adds(roff, ".SH ENVIRONMENT\n");
    buf_adds(roff, environment);
}
