/* JSON lines over the worker's socket.
 *
 * Owns the bytes received after the last whole line and a descriptor that no line has claimed yet.
 * Refuses lines above WIRE_LINE_MAX and anything that is not one JSON object per line: the other
 * side is a process that may have gone mad, so nothing it says is trusted beyond its form here and
 * its fields in the callers.
 */
#include "engine/wire_int.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/banned.h"

void wire_init(struct wire *w, int socket_fd)
{
    *w = (struct wire){.socket_fd = socket_fd, .fd = -1};
    buf_init(&w->in, WIRE_LINE_MAX);
}

void wire_release(struct wire *w)
{
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
    buf_release(&w->in);
}

int wire_send(struct wire *w, json_t *line, int fd, struct err *e)
{
    if (fd >= 0)
        json_object_set_new(line, "fd", json_true());
    char *text = json_text(line, false);
    json_decref(line);
    size_t n = strlen(text);
    text = xrealloc(text, n + 2);
    text[n] = '\n';
    int rc = proc_send(w->socket_fd, text, n + 1, fd, e);
    xfree(text);
    return rc;
}

/* Takes the first whole line out of the buffer. 1 = there was one, 0 = not yet, −1 = not JSON. */
static int pop_line(struct wire *w, json_t **line, int *fd, struct err *e)
{
    const char *end = w->in.len > 0 ? memchr(w->in.data, '\n', w->in.len) : NULL;
    if (!end)
        return 0;
    size_t n = (size_t)(end - w->in.data);
    struct err inner = {.code = ERR_NONE};
    *line = json_parse(w->in.data, n, "line from the other process", &inner);
    if (!*line || !json_is_object(*line)) {
        json_decref(*line);
        *line = NULL;
        return err_set(e, ERR_CHILD, NULL, "it sent something that is not a message: \"%.*s\"",
                       n > 80 ? 80 : (int)n, w->in.data);
    }
    if (json_opt_bool(*line, "fd", false)) {
        *fd = w->fd;
        w->fd = -1;
    }
    buf_drop_front(&w->in, n + 1);
    return 1;
}

static int receive_more(struct wire *w, bool *end, int timeout_ms, struct err *e)
{
    char chunk[16384];
    size_t n = 0;
    int fd = -1;
    if (proc_receive(w->socket_fd, chunk, sizeof(chunk), &n, &fd, timeout_ms, e))
        return -1;
    if (fd >= 0) {
        if (w->fd >= 0)
            close(w->fd);
        w->fd = fd;
    }
    *end = n == 0;
    buf_add(&w->in, chunk, n);
    if (w->in.overflow)
        return err_set(e, ERR_CHILD, NULL, "it sent a line longer than %d bytes", WIRE_LINE_MAX);
    return 0;
}

int wire_receive(struct wire *w, json_t **line, int *fd, int timeout_ms, struct err *e)
{
    double deadline = clock_seconds() + timeout_ms / 1000.0;
    *line = NULL;
    *fd = -1;
    for (;;) {
        int popped = pop_line(w, line, fd, e);
        if (popped)
            return popped > 0 ? 0 : -1;
        int left_ms = timeout_ms;
        if (timeout_ms >= 0) {
            double left = (deadline - clock_seconds()) * 1000;
            left_ms = left > 0 ? (int)left + 1 : 0;
        }
        bool end = false;
        if (receive_more(w, &end, left_ms, e))
            return -1;
        if (end)
            return 0;
    }
}

json_t *wire_text_new(const char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    char *ascii = xstrdup(text);
    for (char *p = ascii; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    value = json_string(ascii);
    xfree(ascii);
    return value;
}

json_t *wire_error_new(const struct err *e)
{
    return json_pack("{s:s, s:o, s:o}", "code", err_code_name(e->code), "message",
                     wire_text_new(e->message), "hint", wire_text_new(e->hint));
}

int wire_error_set(const json_t *error, struct err *e)
{
    const char *name = json_opt_str(error, "code", "");
    const char *hint = json_opt_str(error, "hint", "");
    enum err_code code = ERR_CHILD;
    for (int c = ERR_INPUT; c <= ERR_BUG; c++)
        if (strcmp(err_code_name((enum err_code)c), name) == 0)
            code = (enum err_code)c;
    return err_set(e, code, *hint ? hint : NULL, "%s",
                   json_opt_str(error, "message", "the worker reported an error without text"));
}
