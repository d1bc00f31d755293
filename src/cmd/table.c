/* The table of commands and what can be asked of it: by name, by nearness, as a document.
 *
 * Owns the order in which help, the man page and completion list the commands. Nearness is the
 * Damerau-Levenshtein distance with adjacent transpositions (the "optimal string alignment"
 * variant), accepted up to a third of the word, so that "quantise" finds "quantize" and "foo" finds
 * nothing.
 */
#include <string.h>

#include "base/mem.h"
#include "cmd/cmd_int.h"

#include "base/banned.h"

static const struct cmd *const table[] = {
    &cmd_optimize, &cmd_plan,  &cmd_probe,   &cmd_inspect,    &cmd_detect,   &cmd_profiles,
    &cmd_pull,     &cmd_hf,    &cmd_publish, &cmd_convert,    &cmd_quantize, &cmd_calibrate,
    &cmd_eval,     &cmd_bench, &cmd_runs,    &cmd_report,     &cmd_compare,  &cmd_history,
    &cmd_stats,    &cmd_help,  &cmd_version, &cmd_completion, &cmd_man,      NULL,
};

const char *cmd_group_title(enum cmd_group g)
{
    static const char *const titles[CMD_GROUPS] = {
        [CMD_MAIN] = "the main job",
        [CMD_LOOK] = "look at models and machines",
        [CMD_HUB] = "models of the hub",
        [CMD_MAKE] = "make model files",
        [CMD_MEASURE] = "measure model files",
        [CMD_RECORDS] = "what was done",
        [CMD_ABOUT] = "about",
    };
    return titles[g];
}

const struct cmd *cmd_at(int i)
{
    int n = (int)(sizeof(table) / sizeof(table[0]));
    return i >= 0 && i < n ? table[i] : NULL;
}

const struct cmd *cmd_find(const char *name)
{
    for (int i = 0; table[i]; i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}

const struct arg_spec *cmd_option_find(const struct cmd *c, const char *name)
{
    for (const struct arg_spec *s = c->args; s->name; s++)
        if (!s->positional &&
            (strcmp(s->name, name) == 0 || (s->alias && strcmp(s->alias, name) == 0)))
            return s;
    return NULL;
}

const struct arg_spec *cmd_option_letter(const struct cmd *c, char letter)
{
    for (const struct arg_spec *s = c->args; s->name; s++)
        if (s->letter && s->letter == letter)
            return s;
    return NULL;
}

const struct arg_spec *cmd_positional(const struct cmd *c, int i)
{
    const struct arg_spec *last = NULL;
    for (const struct arg_spec *s = c->args; s->name; s++) {
        if (!s->positional)
            continue;
        last = s;
        if (i-- == 0)
            return s;
    }
    return last && last->repeat ? last : NULL;
}

enum { WORD_MAX = 40 };

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Words longer than WORD_MAX are near to nothing. */
static int distance(const char *a, const char *b)
{
    int d[WORD_MAX + 1][WORD_MAX + 1];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > WORD_MAX || m > WORD_MAX)
        return WORD_MAX;
    for (int i = 0; i <= n; i++)
        d[i][0] = i;
    for (int j = 0; j <= m; j++)
        d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        for (int j = 1; j <= m; j++) {
            int cost = a[i - 1] != b[j - 1];
            int best = least(least(d[i - 1][j], d[i][j - 1]) + 1, d[i - 1][j - 1] + cost);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = least(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    }
    return d[n][m];
}

/* How far `word` is from `candidate`; a beginning of it counts as near. WORD_MAX: not near. */
static int remoteness(const char *word, const char *candidate)
{
    size_t n = strlen(word);
    if (n >= 3 && strncmp(word, candidate, n) == 0)
        return 1;
    int far = distance(word, candidate), limit = (int)n / 3;
    return far <= (limit < 1 ? 1 : limit) && (size_t)far < n ? far : WORD_MAX;
}

const char *cmd_nearest_of(const char *const *words, const char *word)
{
    const char *best = NULL;
    int least_far = WORD_MAX;
    for (; *words; words++) {
        int far = remoteness(word, *words);
        if (far < least_far) {
            least_far = far;
            best = *words;
        }
    }
    return best;
}

const char *cmd_nearest(const char *word)
{
    const char *names[sizeof(table) / sizeof(table[0])];
    int n = 0;
    for (int i = 0; table[i]; i++)
        if (!table[i]->hidden)
            names[n++] = table[i]->name;
    names[n] = NULL;
    return cmd_nearest_of(names, word);
}

const char *cmd_nearest_option(const struct cmd *c, const char *word)
{
    enum { OPTIONS_MAX = 128 };
    const char *names[OPTIONS_MAX + 1];
    int n = 0;
    while (*word == '-')
        word++;
    for (const struct arg_spec *s = c->args; s->name && n + 2 <= OPTIONS_MAX; s++) {
        if (s->positional)
            continue;
        names[n++] = s->name;
        if (s->alias)
            names[n++] = s->alias;
    }
    names[n] = NULL;
    return cmd_nearest_of(names, word);
}

static json_t *arg_json_new(const struct arg_spec *s)
{
    static const char *const types[] = {"text", "integer", "real", "flag", "path"};
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(s->name));
    json_object_set_new(o, "type", json_string(types[s->type]));
    json_object_set_new(o, "help", json_string(s->help));
    json_object_set_new(o, "positional", json_boolean(s->positional));
    json_object_set_new(o, "required", json_boolean(s->required));
    json_object_set_new(o, "repeat", json_boolean(s->repeat));
    if (s->alias)
        json_object_set_new(o, "alias", json_string(s->alias));
    if (s->letter)
        json_object_set_new(o, "letter", json_stringn(&s->letter, 1));
    if (s->value)
        json_object_set_new(o, "value", json_string(s->value));
    if (s->fallback)
        json_object_set_new(o, "default", json_string(s->fallback));
    if (s->choices)
        json_object_set_new(o, "choices", json_string(s->choices));
    if (s->min != 0 || s->max != 0) {
        json_object_set_new(o, "min", json_real_new(s->min));
        json_object_set_new(o, "max", json_real_new(s->max));
    }
    return o;
}

json_t *cmd_table_json_new(void)
{
    json_t *list = json_array();
    for (int i = 0; table[i]; i++) {
        if (table[i]->hidden)
            continue;
        json_t *o = json_object(), *args = json_array();
        for (const struct arg_spec *s = table[i]->args; s->name; s++)
            json_array_append_new(args, arg_json_new(s));
        json_object_set_new(o, "name", json_string(table[i]->name));
        json_object_set_new(o, "summary", json_string(table[i]->summary));
        json_object_set_new(o, "description", json_string(table[i]->description));
        json_object_set_new(o, "example", json_string(table[i]->example));
        json_object_set_new(o, "args", args);
        json_array_append_new(list, o);
    }
    json_t *doc = json_object();
    json_object_set_new(doc, "version", json_string(SINTRA_VERSION));
    json_object_set_new(doc, "commands", list);
    return doc;
}
