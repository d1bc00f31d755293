/* Errors as sentences: fills struct err, never prints.
 *
 * Owns nothing: the caller's struct err holds all text. Refuses nothing; text that does not fit is
 * cut at a whole UTF-8 character. Arguments may point into the struct that is being filled (adding
 * context to one's own message), so every message is built aside and copied last. Thread-safe: no
 * globals.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static const struct {
    const char *name;
    int exit_code;
} err_codes[] = {
    [ERR_NONE] = {"none", 0},
    [ERR_INPUT] = {"input", 1},
    [ERR_USAGE] = {"usage", 2},
    [ERR_MISSING] = {"missing", 1},
    [ERR_IO] = {"io", 1},
    [ERR_MEMORY] = {"memory", 1},
    [ERR_LIMIT] = {"limit", 1},
    [ERR_UNSUPPORTED] = {"unsupported", 1},
    [ERR_CHILD] = {"child", 1},
    [ERR_TIMEOUT] = {"timeout", 1},
    [ERR_BUSY] = {"busy", 1},
    [ERR_INTERRUPTED] = {"interrupted", 130},
    [ERR_INFEASIBLE] = {"infeasible", 3},
    [ERR_BUG] = {"bug", 1},
};

enum { ERR_CODES = sizeof(err_codes) / sizeof(err_codes[0]) };

void err_clear(struct err *e)
{
    if (!e)
        return;
    e->code = ERR_NONE;
    e->message[0] = 0;
    e->hint[0] = 0;
}

/* Copies src into dst of `size` bytes without splitting a UTF-8 character. */
static void copy_text(char *dst, size_t size, const char *src)
{
    size_t n = strlen(src);
    if (n >= size) {
        n = size - 1;
        while (n > 0 && ((unsigned char)src[n] & 0xC0) == 0x80)
            n--;
    }
    memmove(dst, src, n);
    dst[n] = 0;
}

static void fill(struct err *e, enum err_code code, const char *hint, const char *message)
{
    char kept[ERR_HINT_MAX];
    copy_text(kept, sizeof(kept), hint ? hint : "");
    e->code = code;
    copy_text(e->message, sizeof(e->message), message);
    copy_text(e->hint, sizeof(e->hint), kept);
}

int err_set(struct err *e, enum err_code code, const char *hint, const char *format, ...)
{
    if (!e)
        return -1;
    char text[ERR_MESSAGE_MAX * 2];
    va_list ap;
    va_start(ap, format);
    if (vsnprintf(text, sizeof(text), format, ap) < 0)
        copy_text(text, sizeof(text), format);
    va_end(ap);
    fill(e, code, hint, text);
    return -1;
}

static const char *errno_hint(int n)
{
    switch (n) {
    case ENOENT:
        return "check the path: the file, or the folder it is to be in, does not exist";
    case ENOSPC:
    case EDQUOT:
        return "the disk or the quota is full: free some space or choose another directory";
    case EACCES:
    case EPERM:
        return "check the permissions of the file and its directory, or choose another path";
    case EROFS:
        return "the file system is mounted read-only: choose another directory";
    case EFBIG:
        return "a file size limit was reached (ulimit -f, or the file system's own limit)";
    case ENOMEM:
        return "close other programs or give this one more memory";
    case EMFILE:
    case ENFILE:
        return "too many files are open: raise ulimit -n";
    default:
        return NULL;
    }
}

static enum err_code errno_code(int n)
{
    if (n == ENOENT)
        return ERR_MISSING;
    return n == ENOMEM ? ERR_MEMORY : ERR_IO;
}

int err_set_errno(struct err *e, int errno_value, const char *hint, const char *format, ...)
{
    if (!e)
        return -1;
    char text[ERR_MESSAGE_MAX], whole[ERR_MESSAGE_MAX * 2], reason[128];
    va_list ap;
    va_start(ap, format);
    if (vsnprintf(text, sizeof(text), format, ap) < 0)
        copy_text(text, sizeof(text), format);
    va_end(ap);
    /* GNU strerror_r: the returned pointer, not the buffer, is the text. */
    const char *why = strerror_r(errno_value, reason, sizeof(reason));
    snprintf(whole, sizeof(whole), "%s: %s", text, why);
    fill(e, errno_code(errno_value), hint ? hint : errno_hint(errno_value), whole);
    return -1;
}

int err_context(struct err *e, const char *format, ...)
{
    if (!e || e->code == ERR_INTERRUPTED)
        return -1;
    char text[ERR_MESSAGE_MAX], whole[ERR_MESSAGE_MAX * 2 + 2];
    va_list ap;
    va_start(ap, format);
    if (vsnprintf(text, sizeof(text), format, ap) < 0)
        copy_text(text, sizeof(text), format);
    va_end(ap);
    snprintf(whole, sizeof(whole), "%s: %s", text, e->message);
    copy_text(e->message, sizeof(e->message), whole);
    return -1;
}

const char *err_code_name(enum err_code code)
{
    return (unsigned)code < ERR_CODES ? err_codes[code].name : "unknown";
}

int err_exit_code(enum err_code code)
{
    return (unsigned)code < ERR_CODES ? err_codes[code].exit_code : 1;
}
