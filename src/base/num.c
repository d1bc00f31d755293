/* Numbers as people write and read them.
 *
 * Parsing refuses anything but the whole text being one number: no sign where none makes sense, no
 * trailing rubbish, no silent clamping, no hexadecimal, no "nan". Formatting never allocates.
 * Digits are read here and not by strtod's locale rules as far as the radix point is concerned: the
 * program never sets LC_NUMERIC, so the point is always a point.
 */
#include "base/num.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/banned.h"

static const char size_hint[] = "write a size as in 3.2GiB, 800MB, 512k or 1048576";

/* Powers of 1024 and of 1000 by suffix. Bare letters count as 1024, as users of llama.cpp and
 * Docker expect; "kB", "MB"... are decimal, "KiB", "MiB"... binary (IEC 80000-13). */
static const struct {
    const char *suffix;
    uint64_t factor;
} size_units[] = {
    {"", 1},
    {"b", 1},
    {"k", 1ull << 10},
    {"m", 1ull << 20},
    {"g", 1ull << 30},
    {"t", 1ull << 40},
    {"kib", 1ull << 10},
    {"mib", 1ull << 20},
    {"gib", 1ull << 30},
    {"tib", 1ull << 40},
    {"kb", 1000ull},
    {"mb", 1000000ull},
    {"gb", 1000000000ull},
    {"tb", 1000000000000ull},
};

static int size_refuse(const char *text, const char *field, const char *why, struct err *e)
{
    return err_set(e, ERR_USAGE, size_hint, "%s: \"%.60s\" %s", field, text, why);
}

static const char *skip_digits(const char *p)
{
    while (isdigit((unsigned char)*p))
        p++;
    return p;
}

/* The factor of the suffix at p, or 0 when there is no such unit. */
static uint64_t size_factor(const char *p)
{
    while (*p == ' ')
        p++;
    for (size_t i = 0; i < sizeof(size_units) / sizeof(size_units[0]); i++)
        if (strcasecmp(p, size_units[i].suffix) == 0)
            return size_units[i].factor;
    return 0;
}

int num_parse_size(const char *text, const char *field, uint64_t *bytes, struct err *e)
{
    const char *whole_end = skip_digits(text);
    bool fraction = *whole_end == '.';
    const char *end = fraction ? skip_digits(whole_end + 1) : whole_end;
    if (whole_end == text || (fraction && end == whole_end + 1))
        return size_refuse(text, field, "is not a size", e);
    uint64_t factor = size_factor(end);
    if (factor == 0)
        return size_refuse(text, field, "has an unknown unit", e);
    uint64_t n;
    if (fraction) {
        double value = strtod(text, NULL) * (double)factor;
        if (!(value < 18446744073709549568.0))
            return size_refuse(text, field, "is too large", e);
        n = (uint64_t)(value + 0.5);
    } else {
        errno = 0;
        n = strtoull(text, NULL, 10);
        if (errno == ERANGE || !num_mul_u64(n, factor, &n))
            return size_refuse(text, field, "is too large", e);
    }
    *bytes = n;
    return 0;
}

int num_parse_i64(const char *text, const char *field, int64_t min, int64_t max, int64_t *out,
                  struct err *e)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if (skip_digits(digits) == digits || *skip_digits(digits))
        return err_set(e, ERR_USAGE, NULL, "%s: \"%.60s\" is not a whole number", field, text);
    errno = 0;
    long long n = strtoll(text, NULL, 10);
    if (errno == ERANGE || n < min || n > max)
        return err_set(e, ERR_USAGE, NULL, "%s: %.60s is out of range, expected %lld to %lld",
                       field, text, (long long)min, (long long)max);
    *out = n;
    return 0;
}

/* The end of [+-]digits[.digits][e[+-]digits] with at least one mantissa digit, or NULL. */
static const char *real_end(const char *p)
{
    p += *p == '-' || *p == '+';
    const char *whole = skip_digits(p);
    bool digits = whole != p;
    p = whole;
    if (*p == '.') {
        const char *fraction = skip_digits(p + 1);
        digits = digits || fraction != p + 1;
        p = fraction;
    }
    if (!digits)
        return NULL;
    if (*p == 'e' || *p == 'E') {
        const char *exponent = p + 1 + (p[1] == '-' || p[1] == '+');
        if (skip_digits(exponent) == exponent)
            return NULL;
        p = skip_digits(exponent);
    }
    return p;
}

int num_parse_real(const char *text, const char *field, double min, double max, double *out,
                   struct err *e)
{
    const char *end = real_end(text);
    if (!end || *end)
        return err_set(e, ERR_USAGE, NULL, "%s: \"%.60s\" is not a number", field, text);
    double value = strtod(text, NULL);
    if (!(value >= min && value <= max) || !isfinite(value))
        return err_set(e, ERR_USAGE, NULL, "%s: %.60s is out of range, expected %g to %g", field,
                       text, min, max);
    *out = value;
    return 0;
}

/* Three significant digits for values below 1000, whole numbers from there on. */
static int digits_after_point(double value)
{
    if (value < 9.995)
        return 2;
    return value < 99.95 ? 1 : 0;
}

char *num_format_size(uint64_t bytes, char text[static NUM_TEXT_MAX])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(text, NUM_TEXT_MAX, "%u B", (unsigned)bytes);
        return text;
    }
    double value = (double)bytes / 1024;
    int unit = 0;
    while (value >= 1023.5 && unit < 5) {
        value /= 1024;
        unit++;
    }
    snprintf(text, NUM_TEXT_MAX, "%.*f %s", digits_after_point(value), value, units[unit]);
    return text;
}

char *num_format_count(uint64_t n, char text[static NUM_TEXT_MAX])
{
    static const char *const units[] = {"K", "M", "B", "T"};
    if (n < 1000) {
        snprintf(text, NUM_TEXT_MAX, "%u", (unsigned)n);
        return text;
    }
    double value = (double)n / 1000;
    int unit = 0;
    while (value >= 999.5 && unit < 3) {
        value /= 1000;
        unit++;
    }
    snprintf(text, NUM_TEXT_MAX, "%.*f %s", digits_after_point(value), value, units[unit]);
    return text;
}

char *num_format_seconds(double seconds, char text[static NUM_TEXT_MAX])
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e15) {
        snprintf(text, NUM_TEXT_MAX, "?");
    } else if (seconds < 9.95) {
        snprintf(text, NUM_TEXT_MAX, "%.1f s", seconds);
    } else if (seconds < 59.5) {
        snprintf(text, NUM_TEXT_MAX, "%.0f s", seconds);
    } else if (seconds < 3599.5) {
        long long s = llround(seconds);
        snprintf(text, NUM_TEXT_MAX, "%lld min %02lld s", s / 60, s % 60);
    } else {
        long long m = llround(seconds / 60);
        snprintf(text, NUM_TEXT_MAX, "%lld h %02lld min", m / 60, m % 60);
    }
    return text;
}
