/* argv → exit code: finds the home, runs the command, shows the result or the error.
 *
 * The only file that writes to stdout. Results go there, everything else to stderr. With --json
 * stdout gets exactly one document: the result, or {"error":{"code","message","hint"}}. A reader
 * that goes away (| head) is no error; a full disk is.
 */
#include "face/face.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/stop.h"
#include "face/args.h"
#include "face/screen.h"
#include "face/view_int.h"

#include "base/banned.h"

enum { WIDTH_DEFAULT = 80 };

/* What the two streams can show. */
struct streams {
    bool out_tty, err_tty, out_colour, err_colour, utf8;
    int width;
};

static bool env_set(const char *name)
{
    const char *v = getenv(name);
    return v && v[0];
}

static bool locale_is_utf8(void)
{
    const char *v = env_set("LC_ALL")     ? getenv("LC_ALL")
                    : env_set("LC_CTYPE") ? getenv("LC_CTYPE")
                                          : getenv("LANG");
    return v && (strcasestr(v, "utf-8") || strcasestr(v, "utf8"));
}

static int terminal_width(int fd)
{
    struct winsize w;
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        return w.ws_col;
    return WIDTH_DEFAULT;
}

static struct streams look_at_streams(bool no_color)
{
    struct streams s = {.out_tty = isatty(STDOUT_FILENO), .err_tty = isatty(STDERR_FILENO)};
    const char *term = getenv("TERM");
    bool dumb = term && strcmp(term, "dumb") == 0;
    bool colour = !no_color && !env_set("NO_COLOR") && !dumb;
    s.out_colour = colour && s.out_tty;
    s.err_colour = colour && s.err_tty;
    s.err_tty = s.err_tty && !dumb;
    s.utf8 = locale_is_utf8();
    s.width = terminal_width(s.out_tty ? STDOUT_FILENO : STDERR_FILENO);
    return s;
}

/* --home, $SINTRA_HOME, $XDG_DATA_HOME/sintra, ~/.local/share/sintra. Absolute; xfree. */
static char *home_dir(const char *option)
{
    char *path;
    if (option)
        path = xstrdup(option);
    else if (env_set("SINTRA_HOME"))
        path = xstrdup(getenv("SINTRA_HOME"));
    else if (env_set("XDG_DATA_HOME"))
        path = fs_join(getenv("XDG_DATA_HOME"), "sintra");
    else
        path = fs_join(env_set("HOME") ? getenv("HOME") : "/tmp", ".local/share/sintra");
    if (path[0] == '/')
        return path;
    char here[PATH_MAX];
    char *whole = fs_join(getcwd(here, sizeof(here)) ? here : ".", path);
    xfree(path);
    return whole;
}

/* The program's own folder (in tree) and ../share/sintra beside it (installed); xfree. */
static char *data_dirs(void)
{
    char *self = proc_self_path();
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    char *dirs = xasprintf("%s:%s/../share/sintra", self, self);
    xfree(self);
    return dirs;
}

/* Writes and flushes; false when the text did not arrive. */
static bool write_out(const char *text, size_t n)
{
    bool ok = fwrite(text, 1, n, stdout) == n;
    return fflush(stdout) == 0 && ok;
}

/* 0, or the exit code of a stdout that cannot be written. */
static int print_text(const char *text, size_t n)
{
    errno = 0;
    if (write_out(text, n) || errno == EPIPE)
        return 0;
    fprintf(stderr, "sintra: cannot write to standard output: %s\n", strerror(errno));
    return 1;
}

static int print_json(const json_t *doc)
{
    char *text = json_text(doc, true);
    struct buf b;
    buf_init(&b, SIZE_MAX / 2);
    buf_adds(&b, text);
    buf_addc(&b, '\n');
    int rc = print_text(buf_str(&b), b.len);
    buf_release(&b);
    xfree(text);
    return rc;
}

static void print_error(const struct streams *s, const struct err *e)
{
    struct paper p;
    paper_init(&p, s->err_colour, s->utf8, 0);
    paper_say(&p, STYLE_BAD, "sintra:");
    paper_say(&p, STYLE_PLAIN, " %s", e->message);
    paper_end(&p);
    if (e->hint[0]) {
        paper_say(&p, STYLE_DIM, "  hint:");
        paper_say(&p, STYLE_PLAIN, " %s", e->hint);
        paper_end(&p);
    }
    fputs(buf_str(&p.text), stderr);
    paper_release(&p);
}

static int fail(const struct streams *s, bool json, const struct err *e)
{
    print_error(s, e);
    if (json) {
        json_t *doc = json_pack("{s:{s:s,s:s,s:s}}", "error", "code", err_code_name(e->code),
                                "message", e->message, "hint", e->hint);
        if (doc)
            print_json(doc);
        json_decref(doc);
    }
    return err_exit_code(e->code);
}

static int show(const struct streams *s, const struct face_request *r, const json_t *result)
{
    if (r->json)
        return print_json(result);
    struct paper p;
    paper_init(&p, s->out_colour, s->utf8, s->out_tty ? s->width : 0);
    face_view(&p, r->cmd, result);
    int rc = print_text(buf_str(&p.text), p.text.len);
    paper_release(&p);
    return rc;
}

static int run_command(const struct streams *s, const struct face_request *r, struct err *e)
{
    char *home = home_dir(r->home), *data = data_dirs();
    struct screen_options o = {.out = stderr,
                               .tty = s->err_tty,
                               .colour = s->err_colour,
                               .utf8 = s->utf8,
                               .width = s->width,
                               .quiet = r->quiet};
    struct cmd_context c = {.home = home,
                            .data_dirs = data,
                            .progress = screen_progress(),
                            .event = face_event,
                            .secret = face_secret};
    json_t *result = NULL;
    screen_open(&o);
    int rc = r->cmd->run(&c, r->args, &result, e);
    screen_close();
    if (rc == 0) {
        rc = show(s, r, result);
        rc = rc ? rc : c.exit_code;
    } else {
        rc = fail(s, r->json, e);
    }
    json_decref(result);
    xfree(home);
    xfree(data);
    return rc;
}

/* --help and --version, which need nothing else. */
static int show_about(const struct streams *s, const struct face_request *r)
{
    struct paper p;
    int rc;
    if (r->json) {
        json_t *doc =
            r->version ? json_pack("{s:s}", "sintra", SINTRA_VERSION) : cmd_table_json_new();
        rc = print_json(doc);
        json_decref(doc);
        return rc;
    }
    paper_init(&p, s->out_colour, s->utf8, s->out_tty ? s->width : 0);
    if (r->version) {
        paper_say(&p, STYLE_PLAIN, "sintra %s", SINTRA_VERSION);
        paper_end(&p);
    } else if (r->cmd) {
        face_help_command(&p, r->cmd);
    } else {
        face_help(&p);
    }
    rc = print_text(buf_str(&p.text), p.text.len);
    paper_release(&p);
    return rc;
}

int face_main(int argc, char **argv)
{
    struct face_request r;
    struct err e = {0};
    int rc = face_request_parse(&r, argc, argv, &e);
    struct streams s = look_at_streams(r.no_color);
    if (r.quiet)
        log_set_level(LOG_WARN);
    else
        log_set_level(r.verbose > 1 ? LOG_DEBUG : r.verbose ? LOG_INFO : LOG_WARN);
    if (rc)
        rc = fail(&s, r.json, &e);
    else if (r.help || r.version)
        rc = show_about(&s, &r);
    else
        rc = run_command(&s, &r, &e);
    face_request_release(&r);
    return rc;
}
