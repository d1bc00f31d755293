/* Completion scripts for bash, zsh and fish, from the table.
 *
 * The scripts are complete in themselves: completing never starts the program. Values complete by
 * kind: choices as words, paths as files, everything else not at all.
 */
#include <string.h>

#include "face/args.h"
#include "face/face.h"

#include "base/banned.h"

/* ---- bash ---- */

static void bash_options(struct buf *b, const struct arg_spec *args)
{
    for (const struct arg_spec *s = args; s->name; s++) {
        if (s->positional)
            continue;
        buf_addf(b, " --%s", s->name);
        if (s->letter)
            buf_addf(b, " -%c", s->letter);
    }
}

/* What completes the value of an option: a case of its names. */
static void bash_values(struct buf *b, const struct arg_spec *s)
{
    if (s->positional || s->type == ARG_FLAG)
        return;
    buf_addf(b, "        --%s", s->name);
    if (s->alias)
        buf_addf(b, "|--%s", s->alias);
    if (s->letter)
        buf_addf(b, "|-%c", s->letter);
    buf_adds(b, ") ");
    if (s->choices) {
        buf_adds(b, "COMPREPLY=($(compgen -W '");
        for (const char *p = s->choices; *p; p++)
            buf_addc(b, *p == '|' ? ' ' : *p);
        buf_adds(b, "' -- \"$word\"));");
    } else if (s->type == ARG_PATH) {
        buf_adds(b, "COMPREPLY=($(compgen -f -- \"$word\"));");
    }
    buf_adds(b, " return ;;\n");
}

static void bash_command(struct buf *b, const struct cmd *c)
{
    buf_addf(b, "    %s)\n        options='", c->name);
    bash_options(b, c->args);
    buf_adds(b, "'\n        case $before in\n");
    for (const struct arg_spec *s = c->args; s->name; s++)
        bash_values(b, s);
    buf_adds(b, "        esac ;;\n");
}

static void bash_script(struct buf *b)
{
    const struct cmd *c;
    buf_adds(b, "# bash completion for sintra\n_sintra() {\n"
                "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
                "    local command='' options='' i\n"
                "    local commands='");
    for (int i = 0; (c = cmd_at(i)); i++)
        if (!c->hidden)
            buf_addf(b, "%s%s", i ? " " : "", c->name);
    buf_adds(b, "'\n    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                "        case ${COMP_WORDS[i]} in -*) ;; *) command=${COMP_WORDS[i]}; break ;; "
                "esac\n    done\n    COMPREPLY=()\n    compopt -o filenames 2>/dev/null\n"
                "    case ${command:-optimize} in\n");
    for (int i = 0; (c = cmd_at(i)); i++)
        if (!c->hidden)
            bash_command(b, c);
    buf_adds(b, "    esac\n    options+='");
    bash_options(b, face_common_args);
    buf_adds(b, "'\n    case $word in\n"
                "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
                "    *) if [ -z \"$command\" ] || [ \"$command\" = help ]; then\n"
                "           COMPREPLY=($(compgen -W \"$commands\" -- \"$word\"))\n"
                "       else\n"
                "           COMPREPLY=($(compgen -f -- \"$word\"))\n"
                "       fi ;;\n    esac\n}\ncomplete -F _sintra sintra\n");
}

/* ---- zsh ---- */

/* In [...] of _arguments, brackets and colons need a backslash; quotes close the word. */
static void zsh_escape(struct buf *b, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'') {
            buf_adds(b, "'\\''");
            continue;
        }
        if (strchr("[]:\\", *text))
            buf_addc(b, '\\');
        buf_addc(b, *text);
    }
}

static void zsh_action(struct buf *b, const struct arg_spec *s)
{
    buf_addc(b, ':');
    zsh_escape(b, s->value ? s->value : s->name);
    buf_addc(b, ':');
    if (s->choices) {
        buf_addc(b, '(');
        for (const char *p = s->choices; *p; p++)
            buf_addc(b, *p == '|' ? ' ' : *p);
        buf_addc(b, ')');
    } else if (s->type == ARG_PATH) {
        buf_adds(b, "_files");
    }
}

static void zsh_argument(struct buf *b, const struct arg_spec *s)
{
    if (s->positional) {
        buf_adds(b, " \\\n            '");
        buf_adds(b, s->required ? ":" : "::");
        buf_addf(b, "%s:", s->name);
        buf_adds(b, s->type == ARG_PATH ? "_files" : "");
        buf_adds(b, "'");
        return;
    }
    for (int letter = 0; letter < (s->letter ? 2 : 1); letter++) {
        buf_adds(b, " \\\n            '");
        buf_adds(b, s->repeat ? "*" : "");
        if (letter)
            buf_addf(b, "-%c", s->letter);
        else
            buf_addf(b, "--%s", s->name);
        buf_addc(b, '[');
        zsh_escape(b, s->help);
        buf_addc(b, ']');
        if (s->type != ARG_FLAG)
            zsh_action(b, s);
        buf_addc(b, '\'');
    }
}

static void zsh_script(struct buf *b)
{
    const struct cmd *c;
    buf_adds(b, "#compdef sintra\n_sintra() {\n    local -a commands\n    commands=(\n");
    for (int i = 0; (c = cmd_at(i)); i++) {
        if (c->hidden)
            continue;
        buf_addf(b, "        '%s:", c->name);
        zsh_escape(b, c->summary);
        buf_adds(b, "'\n");
    }
    buf_adds(b, "    )\n    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n"
                "        _describe command commands\n        return\n    fi\n"
                "    local command=$words[2]\n"
                "    if [[ $command == -* ]]; then\n        command=optimize\n    else\n"
                "        shift words\n        (( CURRENT-- ))\n    fi\n    case $command in\n");
    for (int i = 0; (c = cmd_at(i)); i++) {
        if (c->hidden)
            continue;
        buf_addf(b, "    %s)\n        _arguments", c->name);
        for (const struct arg_spec *s = c->args; s->name; s++)
            zsh_argument(b, s);
        for (const struct arg_spec *s = face_common_args; s->name; s++)
            zsh_argument(b, s);
        buf_adds(b, " ;;\n");
    }
    buf_adds(b, "    esac\n}\ncompdef _sintra sintra\n");
}

/* ---- fish ---- */

static void fish_quote(struct buf *b, const char *text)
{
    buf_addc(b, '\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            buf_addc(b, '\\');
        buf_addc(b, *text);
    }
    buf_addc(b, '\'');
}

static void fish_argument(struct buf *b, const char *condition, const struct arg_spec *s)
{
    if (s->positional)
        return;
    buf_addf(b, "complete -c sintra%s -l %s", condition, s->name);
    if (s->letter)
        buf_addf(b, " -s %c", s->letter);
    if (s->choices) {
        buf_adds(b, " -x -a '");
        for (const char *p = s->choices; *p; p++)
            buf_addc(b, *p == '|' ? ' ' : *p);
        buf_addc(b, '\'');
    } else if (s->type != ARG_FLAG && !s->optional_value) {
        buf_adds(b, s->type == ARG_PATH ? " -r -F" : " -x");
    }
    buf_adds(b, " -d ");
    fish_quote(b, s->help);
    buf_addc(b, '\n');
}

static void fish_script(struct buf *b)
{
    const struct cmd *c;
    buf_adds(b, "# fish completion for sintra\n");
    for (int i = 0; (c = cmd_at(i)); i++) {
        char condition[96];
        if (c->hidden)
            continue;
        buf_addf(b, "complete -c sintra -n __fish_use_subcommand -a %s -d ", c->name);
        fish_quote(b, c->summary);
        buf_addc(b, '\n');
        snprintf(condition, sizeof(condition), " -n '__fish_seen_subcommand_from %s'", c->name);
        for (const struct arg_spec *s = c->args; s->name; s++)
            fish_argument(b, condition, s);
    }
    for (const struct arg_spec *s = face_common_args; s->name; s++)
        fish_argument(b, "", s);
}

void face_completion(struct buf *script, const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        bash_script(script);
    else if (strcmp(shell, "zsh") == 0)
        zsh_script(script);
    else
        fish_script(script);
}
