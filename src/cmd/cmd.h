/* Everything the program can do, once: one table of commands, typed arguments in, rows and events
 * out.
 *
 * A command never prints, never parses argv, never reads HTTP. The table generates help, completion
 * and the man page, and later the schemas of chat, MCP and REST; a test asserts that they agree. To
 * add a command: (1) src/cmd/cmd_NAME.c with its `const struct cmd cmd_NAME`, (2) its line in
 * table.c, (3) a CLI snapshot in tests/cli/, (4) if its result is not a plain document, a view in
 * face/view.c. tests/unit/test_table.c tells what is missing. */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/log.h"

#define SINTRA_VERSION "0.1.0"

enum arg_type { ARG_TEXT, ARG_INTEGER, ARG_REAL, ARG_FLAG, ARG_PATH };

struct arg_spec {
    const char *name;  /* "target-size"; positional: "MODEL" */
    const char *alias; /* other long name, or NULL */
    char letter;       /* short option, or 0 */
    enum arg_type type;
    bool positional, required, repeat, optional_value;
    const char
        *value; /* what stands for the value in help: "SIZE" (checked as one), NULL for flags */
    const char *help;     /* one line, lower case, no full stop */
    const char *fallback; /* default as text, or NULL */
    const char *choices;  /* "auto|chatbot|batch" (any case), or NULL */
    double min, max;      /* ARG_INTEGER/ARG_REAL; both 0 = any */
};

struct cmd_args; /* parsed values, opaque; built by the faces with cmd_args_* */

struct cmd_context {
    const char *home;      /* absolute; made by cmd_home when a command first needs it */
    const char *data_dirs; /* ":"-separated folders holding models/sample and profiles */
    const struct progress *progress;
    void (*event)(void *ud, const json_t *doc); /* may be NULL */
    void *event_ud;
    /* Asks for a secret without showing it (or takes it from a pipe); *text to xfree after
     * overwriting it. NULL where nobody can be asked. */
    int (*secret)(void *ud, const char *prompt, char **text, struct err *e);
    void *secret_ud;
    int exit_code; /* set by the command when it finished but targets were not met (3) */
};

enum cmd_group {
    CMD_MAIN,
    CMD_LOOK,
    CMD_HUB,
    CMD_MAKE,
    CMD_MEASURE,
    CMD_RECORDS,
    CMD_ABOUT,
    CMD_GROUPS
};
const char *cmd_group_title(enum cmd_group g);

struct cmd {
    const char *name;
    enum cmd_group group;        /* under which heading `sintra --help` lists it */
    const char *summary;         /* one line of `sintra --help` */
    const char *description;     /* paragraphs of `sintra help NAME` and the man page */
    const char *example;         /* lines starting with "sintra ..." */
    const struct arg_spec *args; /* ended by a NULL name */
    bool hidden;
    /* 0 and *result (new reference), or −1 and e. */
    int (*run)(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e);
};

const struct cmd *cmd_at(int i); /* NULL ends */
const struct cmd *cmd_find(const char *name);
/* By name or alias; NULL when the command has no such option (positionals are not options). */
const struct arg_spec *cmd_option_find(const struct cmd *c, const char *name);
const struct arg_spec *cmd_option_letter(const struct cmd *c, char letter);
/* The i-th positional, NULL when there are fewer; a repeating last one answers for all that follow.
 */
const struct arg_spec *cmd_positional(const struct cmd *c, int i);
/* Nearest command or option name for "did you mean", or NULL. */
const char *cmd_nearest(const char *word);
const char *cmd_nearest_option(const struct cmd *c, const char *word);
/* The nearest of a NULL-terminated list, or NULL when none is near. */
const char *cmd_nearest_of(const char *const *words, const char *word);

/* The whole table as a document: {"version","commands":[{"name","summary","args":[...]}]}. */
json_t *cmd_table_json_new(void);

/* Building: values arrive as text from argv, JSON or forms; type, range and choices are checked
 * here. */
struct cmd_args *cmd_args_make(const struct cmd *c);
/* name: canonical or alias. value NULL: a flag is set, an optional value is left out. */
int cmd_args_set(struct cmd_args *a, const char *name, const char *value, struct err *e);
int cmd_args_finish(struct cmd_args *a, struct err *e); /* required present, defaults filled */
void cmd_args_free(struct cmd_args *a);
const struct cmd *cmd_args_cmd(const struct cmd_args *a);

/* Reading, by the commands. Names are canonical. */
const char *cmd_text(const struct cmd_args *a, const char *name); /* NULL when absent */
int64_t cmd_integer(const struct cmd_args *a, const char *name);  /* 0 when absent */
double cmd_real(const struct cmd_args *a, const char *name);
uint64_t cmd_size(const struct cmd_args *a, const char *name); /* of a SIZE; 0 when absent */
bool cmd_flag(const struct cmd_args *a, const char *name);
bool cmd_given(const struct cmd_args *a, const char *name); /* by the user, not by default */
int cmd_count(const struct cmd_args *a, const char *name);
const char *cmd_text_at(const struct cmd_args *a, const char *name, int i);

#endif
