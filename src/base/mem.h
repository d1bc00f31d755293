/* Memory: small allocations die on exhaustion, arenas named by lifespan, big buffers return errors.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Small allocations (keep them under 1 MiB): never NULL; on exhaustion one line on stderr, abort().
 */
void *xmalloc(size_t n);
void *xcalloc(size_t count, size_t size); /* overflow-checked, zeroed */
void *xrealloc(void *p, size_t n);
void *xreallocarray(void *p, size_t count, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));
void xfree(void *p); /* NULL is fine */
/* For content whose size the outside world decides (a file read whole): NULL when refused, p kept.
 * xfree. */
void *mem_try_realloc(void *p, size_t n);

/* Grows `*items` (element size `size`) so that it can hold `need` items; doubles; updates
 * *capacity. */
void *xgrow(void *items, size_t *capacity, size_t need, size_t size);

/* An arena hands out memory that lives until the arena is released (a command, a trial, a request).
 * Zero-initialised struct is a valid empty arena. Alignment 16. */
struct arena {
    struct arena_block *blocks;
    size_t bytes; /* handed out so far */
};
void *arena_alloc(struct arena *a, size_t n); /* zeroed, never NULL */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_release(struct arena *a);

/* Tensor-sized memory: anonymous mmap (zeroed, page aligned), so it returns to the system on free.
 * NULL and e set (ERR_MEMORY) when refused. `what` names the purpose in the error. */
void *big_alloc(size_t n, const char *what, struct err *e);
void big_free(void *p, size_t n);

#endif
