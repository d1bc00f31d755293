/* `help`, `version`, and the hidden `completion` and `man`: the program about itself.
 *
 * Each gives what a program needs as a document; what a person reads (help, the script, the manual
 * page) the face makes from the table.
 */
#include <string.h>

#include "cmd/cmd_int.h"
#include "engine/engine.h"

#include "base/banned.h"

static const struct arg_spec help_args[] = {
    {.name = "COMMAND",
     .type = ARG_TEXT,
     .positional = true,
     .value = "COMMAND",
     .help = "explain this command"},
    ARG_LINE_END,
};

static const struct arg_spec completion_args[] = {
    {.name = "SHELL",
     .type = ARG_TEXT,
     .positional = true,
     .required = true,
     .value = "SHELL",
     .help = "bash, zsh or fish",
     .choices = "bash|zsh|fish"},
    ARG_LINE_END,
};

static const struct arg_spec no_args[] = {
    ARG_LINE_END,
};

static int help_run(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e)
{
    (void)c;
    const char *name = cmd_text(a, "COMMAND");
    if (name && !cmd_find(name)) {
        const char *near = cmd_nearest(name);
        char hint[ERR_HINT_MAX];
        snprintf(hint, sizeof(hint), "%s%s%s'sintra help' lists the commands",
                 near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
        return err_set(e, ERR_USAGE, hint, "there is no command '%.80s'", name);
    }
    *result = cmd_table_json_new();
    if (name)
        json_object_set_new(*result, "command", json_string(name));
    return 0;
}

static int version_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                       struct err *e)
{
    (void)c;
    (void)a;
    (void)e;
    struct err why = {0};
    char version[32] = "";
    *result = json_object();
    json_object_set_new(*result, "sintra", json_string(SINTRA_VERSION));
    if (engine_version(version, &why) == 0)
        json_object_set_new(*result, "libllama", json_string(version));
    else
        json_object_set_new(*result, "libllama_error", json_string(why.message));
    json_object_set_new(*result, "compiler", json_string(__VERSION__));
    return 0;
}

static int completion_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                          struct err *e)
{
    (void)c;
    (void)e;
    *result = json_pack("{s:s}", "shell", cmd_text(a, "SHELL"));
    return 0;
}

static int man_run(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e)
{
    (void)c;
    (void)a;
    (void)e;
    *result = json_pack("{s:s}", "page", "sintra.1");
    return 0;
}

const struct cmd cmd_help = {
    .name = "help",
    .group = CMD_ABOUT,
    .summary = "explain the program or one command",
    .description = "Without a command: the list of commands. With --json: the whole table of "
                   "commands and their arguments, for other programs.",
    .example = "sintra help\nsintra help optimize",
    .args = help_args,
    .run = help_run,
};

const struct cmd cmd_version = {
    .name = "version",
    .group = CMD_ABOUT,
    .summary = "show the versions of sintra and of libllama",
    .description = "libllama is asked for its version in a worker process, as for all work.",
    .example = "sintra version",
    .args = no_args,
    .run = version_run,
};

const struct cmd cmd_completion = {
    .name = "completion",
    .group = CMD_ABOUT,
    .summary = "print a completion script for a shell",
    .description = "Load it from the shell's start-up file.",
    .example = "sintra completion bash >>~/.bash_completion\n"
               "sintra completion zsh >~/.zfunc/_sintra\n"
               "sintra completion fish >~/.config/fish/completions/sintra.fish",
    .args = completion_args,
    .hidden = true,
    .run = completion_run,
};

const struct cmd cmd_man = {
    .name = "man",
    .group = CMD_ABOUT,
    .summary = "print the manual page in roff",
    .description = "The page that 'make install' installs.",
    .example = "sintra man | man -l -",
    .args = no_args,
    .hidden = true,
    .run = man_run,
};
