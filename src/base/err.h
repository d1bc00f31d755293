/* Errors as sentences.
 *
 * Every fallible function is `int f(..., struct err *e)`: 0 is success and leaves e untouched; -1
 * is failure and fills e with a code, a message (what failed, on which file/tensor/field, expected
 * and found) and a hint (what to do). Lower layers set, upper layers add context in front, only
 * face prints, only main exits. e may be NULL when the caller does not care.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stddef.h>

enum err_code {
    ERR_NONE = 0,
    ERR_INPUT,       /* a file, model or argument value is malformed or contradicts itself */
    ERR_USAGE,       /* bad option or combination of options: exit 2 */
    ERR_MISSING,     /* a file, tensor, run or package is not there */
    ERR_IO,          /* read, write, fsync, rename, disk full */
    ERR_MEMORY,      /* allocation refused, limit reached */
    ERR_LIMIT,       /* a named limit of ours was exceeded */
    ERR_UNSUPPORTED, /* valid, but this version cannot do it */
    ERR_CHILD,       /* the worker process died or answered nonsense */
    ERR_TIMEOUT,     /* a deadline passed */
    ERR_BUSY,        /* a lock is held by another process */
    ERR_INTERRUPTED, /* the user asked to stop: exit 130 */
    ERR_INFEASIBLE,  /* targets cannot be met: exit 3 */
    ERR_BUG          /* an invariant of ours is broken */
};

enum { ERR_MESSAGE_MAX = 1024, ERR_HINT_MAX = 512 };

struct err {
    enum err_code code;
    char message[ERR_MESSAGE_MAX];
    char hint[ERR_HINT_MAX]; /* "" when there is none */
};

void err_clear(struct err *e);

/* Sets code, message and hint (hint may be NULL). Always returns -1, so `return err_set(...)`. */
int err_set(struct err *e, enum err_code code, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* As err_set with ": " and strerror(errno_value) appended; ENOSPC/EDQUOT, EACCES, ENOMEM get a hint
 * of their own when hint is NULL. Code is ERR_MISSING for ENOENT, ERR_MEMORY for ENOMEM, else
 * ERR_IO. */
int err_set_errno(struct err *e, int errno_value, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "context: " in front of the message that is already there; keeps code and hint. Returns -1.
 * Of an interruption the message stays as it is: it is nobody's fault where it met the work. */
int err_context(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Stable lower-case name of a code ("input", "usage", ...), for JSON. */
const char *err_code_name(enum err_code code);

/* Process exit code for a failure (ARCHITECTURE.md): 1, 2, 3 or 130. */
int err_exit_code(enum err_code code);

#endif
