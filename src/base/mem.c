/* Memory: the only file that calls malloc and friends.
 *
 * Owns arenas' blocks; every other pointer belongs to the caller. Refuses to return NULL for small
 * allocations: a program that cannot get a kilobyte cannot report well either, so it says one line
 * and aborts (the parent of a worker sees that as a dead child). Tensor-sized memory goes through
 * big_alloc, which reports instead, and through mmap, so that it returns to the system on free and
 * is counted by RLIMIT_DATA.
 */
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"
#include "base/banned.h"

enum { ARENA_BLOCK_BYTES = 64 * 1024, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

static _Noreturn void die_of_exhaustion(size_t n)
{
    char line[128];
    int len = snprintf(line, sizeof(line), "sintra: out of memory (%zu bytes refused)\n", n);
    if (len > 0 && write(STDERR_FILENO, line, (size_t)len) < 0) {
        /* Nobody can be told; abort below says it by signal. */
    }
    abort();
}

/* count * size, dying on overflow: no honest request is that large. */
static size_t product(size_t count, size_t size)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n))
        die_of_exhaustion(SIZE_MAX);
    return n;
}

void *xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (!p)
        die_of_exhaustion(n);
    return p;
}

void *xcalloc(size_t count, size_t size)
{
    size_t n = product(count, size);
    void *p = calloc(1, n ? n : 1);
    if (!p)
        die_of_exhaustion(n);
    return p;
}

void *xrealloc(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);
    if (!q)
        die_of_exhaustion(n);
    return q;
}

void *xreallocarray(void *p, size_t count, size_t size)
{
    return xrealloc(p, product(count, size));
}

void *mem_try_realloc(void *p, size_t n)
{
    return realloc(p, n ? n : 1);
}

char *xstrdup(const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(xmalloc(n), s, n);
}

char *xstrndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = xmalloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = 0;
    return copy;
}

char *xasprintf(const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n < 0)
        die_of_exhaustion(strlen(format));
    return text;
}

void xfree(void *p)
{
    free(p);
}

void *xgrow(void *items, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return items;
    size_t grown = *capacity ? product(*capacity, 2) : 8;
    if (grown < need)
        grown = need;
    items = xreallocarray(items, grown, size);
    *capacity = grown;
    return items;
}

static struct arena_block *arena_block_new(size_t size)
{
    if (size > SIZE_MAX - sizeof(struct arena_block))
        die_of_exhaustion(size);
    /* calloc, because arena memory is promised zeroed and fresh pages already are. */
    struct arena_block *b = xcalloc(1, sizeof(*b) + size);
    b->size = size;
    return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
    if (n > SIZE_MAX - ARENA_ALIGN)
        die_of_exhaustion(n);
    n = (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (n == 0)
        n = ARENA_ALIGN;
    struct arena_block *head = a->blocks;
    if (!head || head->size - head->used < n) {
        bool big = n > ARENA_BLOCK_BYTES / 4;
        struct arena_block *b = arena_block_new(big ? n : ARENA_BLOCK_BYTES);
        if (big && head) { /* keep filling the half-used head */
            b->next = head->next;
            head->next = b;
        } else {
            b->next = head;
            a->blocks = b;
        }
        head = b;
    }
    void *p = head->data + head->used;
    head->used += n;
    a->bytes += n;
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = arena_alloc(a, len + 1);
    memcpy(copy, s, len);
    return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    if (n < 0)
        die_of_exhaustion(strlen(format));
    char *text = arena_alloc(a, (size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

void arena_release(struct arena *a)
{
    for (struct arena_block *b = a->blocks; b;) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
    *a = (struct arena){0};
}

void *big_alloc(size_t n, const char *what, struct err *e)
{
    void *p = mmap(NULL, n ? n : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED)
        return p;
    char size[NUM_TEXT_MAX];
    err_set(e, ERR_MEMORY, "close other programs, or use fewer threads or a smaller model",
            "cannot get %s of memory for %s: %s", num_format_size(n, size), what, strerror(errno));
    return NULL;
}

void big_free(void *p, size_t n)
{
    if (p)
        munmap(p, n ? n : 1);
}
