/* A growable byte buffer born with its maximum size (curl's dynbuf idea): what would exceed the
 * maximum is dropped and the buffer remembers it in `overflow`, so that many appends need one
 * check. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>

struct buf {
    char *data; /* always NUL-terminated once something was added; NULL before */
    size_t len; /* bytes without the NUL */
    size_t capacity;
    size_t max;
    bool overflow;
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b);
void buf_clear(struct buf *b); /* len = 0, keeps memory */
void buf_add(struct buf *b, const void *data, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_addv(struct buf *b, const char *format, va_list ap);
const char *buf_str(const struct buf *b); /* never NULL: "" when empty */
char *buf_take(struct buf *b);            /* ownership to the caller (xfree); b becomes empty */
void buf_drop_front(struct buf *b, size_t n);

#endif
