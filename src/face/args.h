/* argv → which command, its arguments, and the options that every command has. */
#ifndef FACE_ARGS_H
#define FACE_ARGS_H

#include "cmd/cmd.h"

/* Options of every command, as the table of a command has them; ended by a NULL name. */
extern const struct arg_spec face_common_args[];

struct face_request {
    const struct cmd *cmd; /* NULL: none named and nothing to do but help or version */
    struct cmd_args *args; /* cmd_args_free */
    bool json, no_color, help, version, quiet;
    int verbose;
    const char *home; /* points into argv; NULL when not given */
};

/* Fills r, also when it fails (json and no_color tell how to show the error). No command means
 * `optimize`; with --help or --version nothing is required. ERR_USAGE names the word and the
 * nearest command or option. */
int face_request_parse(struct face_request *r, int argc, char **argv, struct err *e);
void face_request_release(struct face_request *r);

#endif
