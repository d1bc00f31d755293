/* A secret from a person: typed on the terminal without echo, or the first line of a pipe.
 *
 * Invariant: the terminal's settings are restored whatever happens between, Ctrl-C included.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/stop.h"
#include "face/view_int.h"

#include "base/banned.h"

enum { SECRET_BYTES_MAX = 8192, WAIT_MS = 200 };

/* Waits for something to read; a signal does not end a read, but it ends this. */
static int wait_readable(int fd, struct err *e)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (;;) {
        if (stop_check(e))
            return -1;
        int n = poll(&p, 1, WAIT_MS);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return err_set_errno(e, errno, NULL, "cannot read what is typed");
    }
}

/* Up to the first line end or the end of file. Byte by byte: what follows is not ours. */
static int read_line(int fd, char *text, struct err *e)
{
    size_t n = 0;
    while (n + 1 < SECRET_BYTES_MAX) {
        if (wait_readable(fd, e))
            return -1;
        ssize_t got = read(fd, text + n, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set_errno(e, errno, NULL, "cannot read what is typed");
        if (got == 0 || text[n] == '\n')
            break;
        n++;
    }
    text[n] = 0;
    return 0;
}

static int read_unseen(int fd, const char *prompt, char *text, struct err *e)
{
    struct termios before, quiet;
    if (tcgetattr(fd, &before) < 0)
        return err_set_errno(e, errno, NULL, "cannot silence the terminal");
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    quiet.c_lflag |= ECHONL;
    if (tcsetattr(fd, TCSAFLUSH, &quiet) < 0)
        return err_set_errno(e, errno, NULL, "cannot silence the terminal");
    fputs(prompt, stderr);
    fflush(stderr);
    int rc = read_line(fd, text, e);
    tcsetattr(fd, TCSAFLUSH, &before);
    return rc;
}

int face_secret(void *ud, const char *prompt, char **text, struct err *e)
{
    (void)ud;
    char *line = xcalloc(1, SECRET_BYTES_MAX);
    bool terminal = isatty(STDIN_FILENO);
    int rc =
        terminal ? read_unseen(STDIN_FILENO, prompt, line, e) : read_line(STDIN_FILENO, line, e);
    if (rc) {
        explicit_bzero(line, SECRET_BYTES_MAX);
        xfree(line);
        return -1;
    }
    *text = line;
    return 0;
}
