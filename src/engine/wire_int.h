/* JSON lines over the worker's socket, with a file descriptor beside a line. Both sides use it.
 *
 * A line that carries a descriptor says so with "fd": true, so the descriptor finds its line even
 * when several lines arrive together. One descriptor may be under way at a time. */
#ifndef ENGINE_WIRE_INT_H
#define ENGINE_WIRE_INT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

enum { WIRE_LINE_MAX = 16 << 20 };

struct wire {
    int socket_fd; /* not owned */
    int fd;        /* received, not yet claimed by a line; −1 */
    struct buf in; /* bytes after the last whole line */
};
void wire_init(struct wire *w, int socket_fd);
void wire_release(struct wire *w);

/* Sends and gives up the reference to `line`. fd −1 = none. */
int wire_send(struct wire *w, json_t *line, int fd, struct err *e);

/* The next line as a new reference, NULL at end of file. *fd becomes the caller's, −1 when there is
 * none. ERR_TIMEOUT when none came in time; ERR_CHILD when what came is not a line of JSON. */
int wire_receive(struct wire *w, json_t **line, int *fd, int timeout_ms, struct err *e);

/* A string value; bytes above 127 become '?' when the text is not UTF-8 (paths and logs may not
 * be). */
json_t *wire_text_new(const char *text);

/* An error as a JSON object and back. */
json_t *wire_error_new(const struct err *e);
int wire_error_set(const json_t *error, struct err *e);

#endif
