/* The table of commands agrees with help, the manual page, completion, the views and the CLI
 * snapshots. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "face/args.h"
#include "face/face.h"

enum { HELP_COLUMNS = 80, SUMMARY_MAX = 66, ARG_HELP_MAX = 66 };

#define FOR_EACH_COMMAND(c)   for (int i_ = 0; ((c) = cmd_at(i_)) != NULL; i_++)
#define FOR_EACH_ARG(s, args) for (const struct arg_spec *s = (args); s->name; s++)

static void names_are_unique_and_found(void **state)
{
    (void)state;
    const struct cmd *c;
    FOR_EACH_COMMAND(c)
    {
        assert_ptr_equal(cmd_find(c->name), c);
        assert_non_null(c->run);
    }
    assert_null(cmd_find("nothing"));
    assert_null(cmd_find("worker"));
    assert_null(cmd_at(-1));
}

static void check_arg(const struct cmd *c, const struct arg_spec *s)
{
    if (!s->help || strlen(s->help) > ARG_HELP_MAX || strchr(s->help, '\n'))
        fail_msg("%s --%s: help is not one line of at most %d characters", c->name, s->name,
                 ARG_HELP_MAX);
    if (s->help[strlen(s->help) - 1] == '.' || isupper((unsigned char)s->help[0]))
        if (strncmp(s->help, "Hugging", 7) != 0 && strncmp(s->help, "UTF", 3) != 0 &&
            strncmp(s->help, "GGUF", 4) != 0)
            fail_msg("%s --%s: help is a phrase: lower case, no full stop", c->name, s->name);
    if ((s->type == ARG_FLAG) != (s->value == NULL))
        fail_msg("%s --%s: flags have no placeholder, all else has one", c->name, s->name);
    if (s->min > s->max)
        fail_msg("%s --%s: empty range", c->name, s->name);
    FOR_EACH_ARG(common, face_common_args)
    {
        if (strcmp(common->name, s->name) == 0 || (s->letter && common->letter == s->letter))
            fail_msg("%s --%s: the name or letter belongs to every command", c->name, s->name);
    }
    FOR_EACH_ARG(other, c->args)
    {
        if (other == s)
            continue;
        if (strcmp(other->name, s->name) == 0 || (s->letter && other->letter == s->letter) ||
            (s->alias && strcmp(other->name, s->alias) == 0))
            fail_msg("%s --%s: the name, alias or letter is taken twice", c->name, s->name);
    }
}

static void arguments_are_sound(void **state)
{
    (void)state;
    const struct cmd *c;
    FOR_EACH_COMMAND(c)
    {
        FOR_EACH_ARG(s, c->args)
        check_arg(c, s);
    }
}

static void defaults_pass_their_own_check(void **state)
{
    (void)state;
    const struct cmd *c;
    FOR_EACH_COMMAND(c)
    {
        struct cmd_args *a = cmd_args_make(c);
        FOR_EACH_ARG(s, c->args)
        {
            struct err e = {0};
            if (s->fallback && cmd_args_set(a, s->name, s->fallback, &e))
                fail_msg("%s --%s: its default is refused: %s", c->name, s->name, e.message);
        }
        cmd_args_free(a);
    }
}

/* Every example line is a command line that the program accepts. */
static void check_example(const struct cmd *c, const char *line, int n)
{
    char text[256], *words[32], *save = NULL;
    int count = 0;
    snprintf(text, sizeof(text), "%.*s", n, line);
    if (strncmp(text, "sintra", 6) != 0)
        fail_msg("%s: an example begins with \"sintra\", not \"%s\"", c->name, text);
    for (char *w = strtok_r(text, " ", &save); w && count < 31; w = strtok_r(NULL, " ", &save)) {
        if (w[0] == '>' || w[0] == '|')
            break;
        words[count++] = w;
    }
    words[count] = NULL;
    struct face_request r;
    struct err e = {0};
    if (face_request_parse(&r, count, words, &e))
        fail_msg("%s: its example \"%.*s\" is refused: %s", c->name, n, line, e.message);
    if (r.cmd != c)
        fail_msg("%s: its example \"%.*s\" is of another command", c->name, n, line);
    face_request_release(&r);
}

static void every_command_is_documented(void **state)
{
    (void)state;
    const struct cmd *c;
    FOR_EACH_COMMAND(c)
    {
        assert_non_null(c->description);
        assert_non_null(c->example);
        if (strlen(c->summary) > SUMMARY_MAX || strchr(c->summary, '\n'))
            fail_msg("%s: the summary is longer than %d characters", c->name, SUMMARY_MAX);
        if (c->description[strlen(c->description) - 1] != '.')
            fail_msg("%s: the description ends with a full stop", c->name);
        for (const char *line = c->example; *line;) {
            int n = (int)strcspn(line, "\n");
            check_example(c, line, n);
            line += n + (line[n] == '\n');
        }
    }
}

static void check_widths(const char *what, const char *text)
{
    for (const char *line = text; *line;) {
        size_t n = strcspn(line, "\n");
        char *one = xstrndup(line, n);
        if (text_columns(one) > HELP_COLUMNS)
            fail_msg("%s: a line is wider than %d columns: %s", what, HELP_COLUMNS, one);
        xfree(one);
        line += n + (line[n] == '\n');
    }
}

static void help_shows_everything(void **state)
{
    (void)state;
    const struct cmd *c;
    struct paper all;
    paper_init(&all, false, false, 0);
    face_help(&all);
    check_widths("help", buf_str(&all.text));
    FOR_EACH_COMMAND(c)
    {
        struct paper one;
        if ((strstr(buf_str(&all.text), c->summary) != NULL) == c->hidden)
            fail_msg("help and the table disagree about %s", c->name);
        paper_init(&one, false, false, 0);
        face_help_command(&one, c);
        check_widths(c->name, buf_str(&one.text));
        FOR_EACH_ARG(s, c->args)
        {
            char shown[80];
            snprintf(shown, sizeof(shown), s->positional ? "%s" : "--%s", s->name);
            if (!strstr(buf_str(&one.text), shown))
                fail_msg("help %s does not show %s", c->name, shown);
        }
        if (!strstr(buf_str(&one.text), "sintra "))
            fail_msg("help %s has no example", c->name);
        paper_release(&one);
    }
    paper_release(&all);
}

/* The name as the manual page writes it: dashes escaped. */
static char *in_roff(const char *name)
{
    struct buf b;
    buf_init(&b, 256);
    for (; *name; name++) {
        if (*name == '-')
            buf_addc(&b, '\\');
        buf_addc(&b, *name);
    }
    return buf_take(&b);
}

static void manual_page_shows_everything(void **state)
{
    (void)state;
    const struct cmd *c;
    struct buf man;
    buf_init(&man, 1 << 20);
    face_man(&man);
    assert_false(man.overflow);
    FOR_EACH_COMMAND(c)
    {
        char section[64];
        snprintf(section, sizeof(section), "\n.SS %s\n", c->name);
        const char *at = strstr(buf_str(&man), section);
        if ((at != NULL) == c->hidden)
            fail_msg("the manual page and the table disagree about %s", c->name);
        if (!at)
            continue;
        const char *next = strstr(at + 5, "\n.S");
        char *own = xstrndup(at, next ? (size_t)(next - at) : strlen(at));
        FOR_EACH_ARG(s, c->args)
        {
            char *name = in_roff(s->name);
            if (!strstr(own, name))
                fail_msg("the manual page lacks %s of %s", s->name, c->name);
            xfree(name);
        }
        xfree(own);
    }
    buf_release(&man);
}

/* The part of a completion script that is about one command. */
static void check_completion(const char *shell, const char *start_format, const char *end,
                             const char *option_format)
{
    const struct cmd *c;
    struct buf script;
    buf_init(&script, 1 << 20);
    face_completion(&script, shell);
    FOR_EACH_COMMAND(c)
    {
        char start[96];
        snprintf(start, sizeof(start), start_format, c->name);
        const char *at = strstr(buf_str(&script), start);
        if ((at != NULL) == c->hidden)
            fail_msg("%s completion and the table disagree about %s", shell, c->name);
        if (!at)
            continue;
        const char *stop = end ? strstr(at, end) : NULL;
        char *own = xstrndup(at, stop ? (size_t)(stop - at) : strlen(at));
        FOR_EACH_ARG(s, c->args)
        {
            char option[80];
            snprintf(option, sizeof(option), option_format, s->name);
            if (!s->positional && !strstr(own, option))
                fail_msg("%s completion lacks --%s of %s", shell, s->name, c->name);
        }
        xfree(own);
    }
    buf_release(&script);
}

static void completion_knows_everything(void **state)
{
    (void)state;
    check_completion("bash", "\n    %s)\n", "esac ;;", " --%s");
    check_completion("zsh", "\n    %s)\n", " ;;", "--%s[");
    check_completion("fish", " -a %s ", NULL, " -l %s ");
}

static void table_as_document(void **state)
{
    (void)state;
    json_t *doc = cmd_table_json_new(), *list = json_object_get(doc, "commands");
    const struct cmd *c;
    size_t visible = 0;
    FOR_EACH_COMMAND(c)
    {
        json_t *o = json_array_get(list, visible);
        if (c->hidden)
            continue;
        assert_string_equal(json_opt_str(o, "name", ""), c->name);
        size_t n = 0;
        FOR_EACH_ARG(s, c->args)
        n++;
        assert_int_equal(json_array_size(json_object_get(o, "args")), n);
        visible++;
    }
    assert_int_equal(json_array_size(list), visible);
    json_decref(doc);
}

/* tests/cli/cases holds at least one case per command whose script calls it. */
static void every_command_has_a_snapshot(void **state)
{
    (void)state;
    const char *root = getenv("SINTRA_ROOT");
    const struct cmd *c;
    char command[512];
    if (!root || chdir(root) != 0)
        skip();
    FOR_EACH_COMMAND(c)
    {
        snprintf(command, sizeof(command), "tests/cli/cases/%s.sh", c->name);
        if (access(command, R_OK) != 0)
            fail_msg("%s has no CLI snapshot: tests/cli/cases/%s.sh", c->name, c->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique_and_found),
        cmocka_unit_test(arguments_are_sound),
        cmocka_unit_test(defaults_pass_their_own_check),
        cmocka_unit_test(every_command_is_documented),
        cmocka_unit_test(help_shows_everything),
        cmocka_unit_test(manual_page_shows_everything),
        cmocka_unit_test(completion_knows_everything),
        cmocka_unit_test(table_as_document),
        cmocka_unit_test(every_command_has_a_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
