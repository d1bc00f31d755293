/* Overflow-safe arithmetic for values that come from files, and human sizes. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

static inline bool num_add_u64(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}
static inline bool num_mul_u64(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}
/* Rounds n up to a multiple of align (a power of two). False on overflow. */
static inline bool num_align_u64(uint64_t n, uint64_t align, uint64_t *padded)
{
    if (__builtin_add_overflow(n, align - 1, padded))
        return false;
    *padded &= ~(align - 1);
    return true;
}

/* "3.2GiB" "800MB" "512k" "1048576" -> bytes. KiB/MiB/GiB/TiB are powers of 1024, kB/MB/GB/TB
 * powers of 1000; bare K/M/G are 1024-based as users of llama.cpp and Docker expect;
 * case-insensitive. `field` names the option or key in the error. */
int num_parse_size(const char *text, const char *field, uint64_t *bytes, struct err *e);
int num_parse_i64(const char *text, const char *field, int64_t min, int64_t max, int64_t *out,
                  struct err *e);
int num_parse_real(const char *text, const char *field, double min, double max, double *out,
                   struct err *e);

enum { NUM_TEXT_MAX = 32 };
/* "14.0 MiB", "3.20 GiB", "812 B": binary units, at most three significant decimals. Returns text.
 */
char *num_format_size(uint64_t bytes, char text[static NUM_TEXT_MAX]);
/* "7.34 M", "1.10 B" for parameter counts. */
char *num_format_count(uint64_t n, char text[static NUM_TEXT_MAX]);
/* "0.8 s", "42 s", "3 min 05 s", "2 h 10 min". */
char *num_format_seconds(double seconds, char text[static NUM_TEXT_MAX]);

#endif
