/* What a person sees: argv → command → terminal text or one JSON document. Only face prints. */
#ifndef FACE_FACE_H
#define FACE_FACE_H

#include "cmd/cmd.h"
#include "face/paper.h"

/* Parses argv, runs the command, renders the result; returns the process exit code. */
int face_main(int argc, char **argv);

/* Text made from the table of commands. */
void face_help(struct paper *p);
void face_help_command(struct paper *p, const struct cmd *c);
void face_man(struct buf *roff);                             /* sintra.1 */
void face_completion(struct buf *script, const char *shell); /* bash, zsh, fish */

/* The result of a command as a person reads it. */
void face_view(struct paper *p, const struct cmd *c, const json_t *result);

#endif
