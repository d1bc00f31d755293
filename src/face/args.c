/* argv → request.
 *
 * Owns the parsed arguments. Understands `--name value`, `--name=value`, `-n value`, `-nvalue`,
 * several switches in one (-qv), `--` before words that begin with a dash, and options before or
 * after the command. Refuses, naming the nearest, whatever the table does not have. An option whose
 * value may be left out takes the next word unless that begins with a dash.
 */
#include "face/args.h"

#include <string.h>

#include "base/mem.h"

#include "base/banned.h"

const struct arg_spec face_common_args[] = {
    {.name = "json", .type = ARG_FLAG, .help = "print one JSON document instead of text"},
    {.name = "quiet", .letter = 'q', .type = ARG_FLAG, .help = "no progress, no notes"},
    {.name = "verbose",
     .letter = 'v',
     .type = ARG_FLAG,
     .repeat = true,
     .help = "say more on stderr; twice for details"},
    {.name = "no-color", .type = ARG_FLAG, .help = "no colours, as with NO_COLOR set"},
    {.name = "home",
     .type = ARG_PATH,
     .value = "DIR",
     .help = "home of runs and cache (or $SINTRA_HOME)"},
    {.name = "help", .letter = 'h', .type = ARG_FLAG, .help = "show help for the command"},
    {.name = "version", .letter = 'V', .type = ARG_FLAG, .help = "show the version"},
    {.name = NULL},
};

/* Where the parser stands. */
struct cursor {
    struct face_request *r;
    int argc, i;
    char **argv;
    int positionals;   /* so far */
    bool words_only;   /* after "--" */
    bool cmd_implicit; /* `optimize` because an option came first */
};

static const struct arg_spec *common_find(const char *name, char letter)
{
    for (const struct arg_spec *s = face_common_args; s->name; s++)
        if (name ? strcmp(s->name, name) == 0 : s->letter == letter && letter)
            return s;
    return NULL;
}

static void cmd_choose(struct face_request *r, const struct cmd *c)
{
    r->cmd = c;
    r->args = cmd_args_make(c);
}

static int common_set(struct face_request *r, const struct arg_spec *s, const char *value,
                      struct err *e)
{
    const char *name = s->name;
    if (strcmp(name, "home") == 0) {
        if (!value[0])
            return err_set(e, ERR_USAGE, NULL, "--home: the value is empty");
        r->home = value;
    } else if (strcmp(name, "json") == 0) {
        r->json = true;
    } else if (strcmp(name, "quiet") == 0) {
        r->quiet = true;
    } else if (strcmp(name, "verbose") == 0) {
        r->verbose++;
    } else if (strcmp(name, "no-color") == 0) {
        r->no_color = true;
    } else if (strcmp(name, "help") == 0) {
        r->help = true;
    } else {
        r->version = true;
    }
    return 0;
}

static int value_refuse(const struct arg_spec *s, const char *shown, struct err *e)
{
    return err_set(e, ERR_USAGE, NULL, "%s needs a value (%s)", shown,
                   s->value ? s->value : "text");
}

/* The value of an option that stands alone, from the next word; NULL when it may be left out. */
static int next_value(struct cursor *c, const struct arg_spec *s, const char *shown,
                      const char **value, struct err *e)
{
    *value = NULL;
    bool there = c->i + 1 < c->argc;
    if (s->optional_value && (!there || c->argv[c->i + 1][0] == '-'))
        return 0;
    if (!there)
        return value_refuse(s, shown, e);
    *value = c->argv[++c->i];
    return 0;
}

static int option_apply(struct cursor *c, const struct arg_spec *s, bool common, const char *value,
                        struct err *e)
{
    if (common)
        return common_set(c->r, s, value, e);
    return cmd_args_set(c->r->args, s->name, value, e);
}

static int unknown_option(const struct cursor *c, const char *shown, const char *name,
                          struct err *e)
{
    const struct cmd *cmd = c->r->cmd;
    const char *near = cmd_nearest_option(cmd, name);
    for (const struct arg_spec *s = face_common_args; !near && s->name; s++) {
        const char *one[] = {s->name, NULL};
        near = cmd_nearest_of(one, name);
    }
    char hint[ERR_HINT_MAX];
    snprintf(hint, sizeof(hint), "%s%s%s'sintra help %s' lists its options",
             near ? "did you mean --" : "", near ? near : "", near ? "? " : "", cmd->name);
    return err_set(e, ERR_USAGE, hint, "unknown option %.80s for '%s'", shown, cmd->name);
}

/* An option that is not common belongs to a command; when none was named, to `optimize`. */
static void cmd_imply(struct cursor *c)
{
    if (c->r->cmd)
        return;
    cmd_choose(c->r, cmd_find("optimize"));
    c->cmd_implicit = true;
}

static int parse_long(struct cursor *c, char *word, struct err *e)
{
    char name[128], shown[136];
    const char *text = word + 2, *equal = strchr(text, '=');
    size_t n = equal ? (size_t)(equal - text) : strlen(text);
    snprintf(name, sizeof(name), "%.*s", (int)(n < 120 ? n : 120), text);
    snprintf(shown, sizeof(shown), "--%s", name);
    const struct arg_spec *s = common_find(name, 0);
    bool common = s != NULL;
    if (!s) {
        cmd_imply(c);
        s = cmd_option_find(c->r->cmd, name);
    }
    if (!s)
        return unknown_option(c, shown, name, e);
    const char *value = equal ? equal + 1 : NULL;
    if (s->type == ARG_FLAG && equal)
        return err_set(e, ERR_USAGE, NULL, "%s is a switch and takes no value, found \"%.60s\"",
                       shown, value);
    if (s->type != ARG_FLAG && !equal && next_value(c, s, shown, &value, e))
        return -1;
    return option_apply(c, s, common, value, e);
}

/* -q -v -o FILE -oFILE -qv */
static int parse_short(struct cursor *c, const char *word, struct err *e)
{
    for (const char *p = word + 1; *p; p++) {
        char shown[8];
        snprintf(shown, sizeof(shown), "-%c", *p);
        const struct arg_spec *s = common_find(NULL, *p);
        bool common = s != NULL;
        if (!s) {
            cmd_imply(c);
            s = cmd_option_letter(c->r->cmd, *p);
        }
        if (!s)
            return unknown_option(c, shown, shown, e);
        if (s->type == ARG_FLAG) {
            if (option_apply(c, s, common, NULL, e))
                return -1;
            continue;
        }
        const char *value = p[1] ? p + 1 : NULL;
        if (!value && next_value(c, s, shown, &value, e))
            return -1;
        return option_apply(c, s, common, value, e);
    }
    return 0;
}

static int parse_command(struct cursor *c, const char *word, struct err *e)
{
    const struct cmd *cmd = cmd_find(word);
    if (cmd) {
        cmd_choose(c->r, cmd);
        return 0;
    }
    const char *near = cmd_nearest(word);
    char hint[ERR_HINT_MAX];
    if (strchr(word, '/') || strchr(word, '.'))
        snprintf(hint, sizeof(hint), "to compress a model: sintra optimize --model %.200s", word);
    else
        snprintf(hint, sizeof(hint), "%s%s%s'sintra help' lists the commands",
                 near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
    return err_set(e, ERR_USAGE, hint, "there is no command '%.80s'", word);
}

static int parse_word(struct cursor *c, const char *word, struct err *e)
{
    if (!c->r->cmd)
        return parse_command(c, word, e);
    const struct arg_spec *s = cmd_positional(c->r->cmd, c->positionals);
    if (s) {
        c->positionals++;
        return cmd_args_set(c->r->args, s->name, word, e);
    }
    char hint[ERR_HINT_MAX] = "";
    if (c->cmd_implicit && cmd_find(word))
        snprintf(hint, sizeof(hint), "the command comes first: sintra %s ...", word);
    else if (cmd_option_find(c->r->cmd, "model") && c->positionals == 0)
        snprintf(hint, sizeof(hint), "a model is given as --model %.200s", word);
    else
        snprintf(hint, sizeof(hint), "'sintra help %s' shows what it takes", c->r->cmd->name);
    return err_set(e, ERR_USAGE, hint, "'%s' does not take \"%.80s\"", c->r->cmd->name, word);
}

static int parse_one(struct cursor *c, struct err *e)
{
    char *word = c->argv[c->i];
    if (!c->words_only && strcmp(word, "--") == 0) {
        c->words_only = true;
        return 0;
    }
    if (c->words_only || word[0] != '-' || word[1] == 0)
        return parse_word(c, word, e);
    return word[1] == '-' ? parse_long(c, word, e) : parse_short(c, word, e);
}

/* How to show an error must be known before the word that causes it was met. */
static void scan_style(struct face_request *r, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        r->json = r->json || strcmp(argv[i], "--json") == 0;
        r->no_color = r->no_color || strcmp(argv[i], "--no-color") == 0;
    }
}

int face_request_parse(struct face_request *r, int argc, char **argv, struct err *e)
{
    *r = (struct face_request){0};
    scan_style(r, argc, argv);
    struct cursor c = {.r = r, .argc = argc, .argv = argv};
    for (c.i = 1; c.i < argc; c.i++)
        if (parse_one(&c, e))
            return -1;
    if (r->help || r->version)
        return 0;
    cmd_imply(&c);
    if (cmd_args_finish(r->args, e) == 0)
        return 0;
    if (e && e->hint[0] == 0)
        snprintf(e->hint, sizeof(e->hint), "'sintra help %s' shows how", r->cmd->name);
    return -1;
}

void face_request_release(struct face_request *r)
{
    cmd_args_free(r->args);
    r->args = NULL;
}
