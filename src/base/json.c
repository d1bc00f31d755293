/* JSON in and out (RFC 8259), jansson behind it.
 *
 * Owns nothing: values belong to the caller by jansson's reference counts. Refuses: duplicate keys,
 * bytes after the value, invalid UTF-8, NUL characters in strings (they would end a C string
 * early), more than 2048 levels (jansson's own bound), files above the caller's size. jansson
 * refuses integers outside int64, which real files have; such a text is read a second time with
 * ".0" after exactly those numbers, so every other integer stays exact. Writing is our own, because
 * reals should be the shortest text that reads back the same, and because nothing that is not
 * finite may leave the program.
 */
#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/banned.h"

static const size_t json_text_max = (size_t)1 << 32;

/* Does the integer text [p, end) fit int64? Leading sign and digits only. */
static bool fits_i64(const char *p, const char *end)
{
    char digits[24];
    size_t n = (size_t)(end - p);
    if (n >= sizeof(digits))
        return false;
    memcpy(digits, p, n);
    digits[n] = 0;
    errno = 0;
    (void)strtoll(digits, NULL, 10);
    return errno == 0;
}

static const char *string_end(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\' && p + 1 < end)
            p++;
    return p < end ? p + 1 : end;
}

static const char *number_end(const char *p, const char *end, bool *integer)
{
    *integer = true;
    for (; p < end && (isalnum((unsigned char)*p) || *p == '-' || *p == '+' || *p == '.'); p++)
        if (*p == '.' || *p == 'e' || *p == 'E')
            *integer = false;
    return p;
}

/* Bytes of the number that is none at p, as Python writes it; or 0. */
static size_t not_finite(const char *p, const char *end)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if ((size_t)(end - p) >= strlen(words[i]) && memcmp(p, words[i], strlen(words[i])) == 0)
            return strlen(words[i]);
    return 0;
}

/* Copies text with ".0" added to integers that int64 cannot hold, and with python null for NaN and
 * Infinity. */
static void rewrite_numbers(struct buf *out, const char *p, size_t len, bool python)
{
    const char *end = p + len;
    while (p < end) {
        const char *from = p;
        bool integer = false;
        size_t word = python ? not_finite(p, end) : 0;
        if (word > 0) {
            buf_adds(out, "null");
            p += word;
            continue;
        }
        if (*p == '"')
            p = string_end(p, end);
        else if (*p == '-' || isdigit((unsigned char)*p))
            p = number_end(p, end, &integer);
        else
            p++;
        buf_add(out, from, (size_t)(p - from));
        if (integer && !fits_i64(from, p))
            buf_adds(out, ".0");
    }
}

static json_t *load(const char *text, size_t len, json_error_t *error)
{
    return json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, error);
}

/* Read again where jansson refuses what JSON, or with python Python, allows. */
static bool has_other_numbers(const char *text, size_t len, bool python, json_error_t *error)
{
    if (json_error_code(error) == json_error_numeric_overflow)
        return true;
    return python && (memmem(text, len, "Infinity", 8) || memmem(text, len, "NaN", 3));
}

static json_t *parse(const char *text, size_t len, const char *name, bool python, struct err *e)
{
    json_error_t error = {.line = 0};
    json_t *value = load(text, len, &error);
    if (!value && has_other_numbers(text, len, python, &error)) {
        struct buf other;
        buf_init(&other, json_text_max);
        rewrite_numbers(&other, text, len, python);
        if (!other.overflow)
            value = load(buf_str(&other), other.len, &error);
        buf_release(&other);
    }
    if (value)
        return value;
    err_set(e, ERR_INPUT, NULL, "%s is not valid JSON: line %d, column %d: %s", name, error.line,
            error.column, error.text);
    return NULL;
}

json_t *json_parse(const char *text, size_t len, const char *name, struct err *e)
{
    return parse(text, len, name, false, e);
}

static json_t *read_file(const char *path, size_t bytes_max, bool python, struct err *e)
{
    char *text;
    size_t n;
    if (fs_read_all(path, bytes_max, &text, &n, e))
        return NULL;
    json_t *value = parse(text, n, path, python, e);
    xfree(text);
    return value;
}

json_t *json_read(const char *path, size_t bytes_max, struct err *e)
{
    return read_file(path, bytes_max, false, e);
}

json_t *json_read_python(const char *path, size_t bytes_max, struct err *e)
{
    return read_file(path, bytes_max, true, e);
}

static const char *type_name(const json_t *value)
{
    if (!value)
        return "nothing";
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a real",    [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null"};
    return names[json_typeof(value)];
}

static int refuse(const json_t *object, const char *key, const char *name, const char *expected,
                  struct err *e)
{
    if (!json_is_object(object))
        return err_set(e, ERR_INPUT, NULL, "%s: expected an object with \"%s\", found %s", name,
                       key, type_name(object));
    return err_set(e, ERR_INPUT, NULL, "%s: \"%s\" must be %s, found %s", name, key, expected,
                   type_name(json_object_get(object, key)));
}

int json_need_i64(const json_t *object, const char *key, const char *name, int64_t *out,
                  struct err *e)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        return refuse(object, key, name, "an integer", e);
    *out = json_integer_value(value);
    return 0;
}

int json_need_real(const json_t *object, const char *key, const char *name, double *out,
                   struct err *e)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        return refuse(object, key, name, "a number", e);
    *out = json_number_value(value);
    return 0;
}

int json_need_str(const json_t *object, const char *key, const char *name, const char **out,
                  struct err *e)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return refuse(object, key, name, "a string", e);
    *out = json_string_value(value);
    return 0;
}

int64_t json_opt_i64(const json_t *object, const char *key, int64_t fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

double json_opt_real(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

bool json_opt_bool(const json_t *object, const char *key, bool fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

const char *json_opt_str(const json_t *object, const char *key, const char *fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_string_value(value) : fallback;
}

static void write_string(struct buf *b, const char *s, size_t n)
{
    buf_addc(b, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            buf_addf(b, "\\%c", c);
        else if (c == '\n')
            buf_adds(b, "\\n");
        else if (c == '\t')
            buf_adds(b, "\\t");
        else if (c == '\r')
            buf_adds(b, "\\r");
        else if (c < 0x20 || c == 0x7f)
            buf_addf(b, "\\u%04x", c);
        else
            buf_addc(b, (char)c);
    }
    buf_addc(b, '"');
}

static void write_real(struct buf *b, double value)
{
    if (!isfinite(value)) {
        buf_adds(b, "null");
        return;
    }
    char text[40];
    int digits = 0;
    do
        snprintf(text, sizeof(text), "%.*e", digits, value);
    while (strtod(text, NULL) != value && ++digits < 17);
    long exponent = strtol(strchr(text, 'e') + 1, NULL, 10);
    /* As people write it, with at least one decimal, or it would be read back as an integer. */
    if (exponent >= -5 && exponent < 16) {
        int decimals = digits - (int)exponent;
        snprintf(text, sizeof(text), "%.*f", decimals > 1 ? decimals : 1, value);
    }
    buf_adds(b, text);
}

static void write_value(struct buf *b, const json_t *value, bool pretty, int depth);

static void write_break(struct buf *b, bool pretty, int depth)
{
    if (!pretty)
        return;
    buf_addc(b, '\n');
    for (int i = 0; i < depth; i++)
        buf_adds(b, "  ");
}

static void write_array(struct buf *b, const json_t *array, bool pretty, int depth)
{
    buf_addc(b, '[');
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (i > 0)
            buf_addc(b, ',');
        write_break(b, pretty, depth + 1);
        write_value(b, json_array_get(array, i), pretty, depth + 1);
    }
    if (json_array_size(array) > 0)
        write_break(b, pretty, depth);
    buf_addc(b, ']');
}

static void write_object(struct buf *b, const json_t *value, bool pretty, int depth)
{
    json_t *object = (json_t *)(uintptr_t)value; /* jansson's iterators read, but are not const */
    bool first = true;
    buf_addc(b, '{');
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        if (!first)
            buf_addc(b, ',');
        first = false;
        write_break(b, pretty, depth + 1);
        const char *key = json_object_iter_key(at);
        write_string(b, key, strlen(key));
        buf_adds(b, pretty ? ": " : ":");
        write_value(b, json_object_iter_value(at), pretty, depth + 1);
    }
    if (!first)
        write_break(b, pretty, depth);
    buf_addc(b, '}');
}

static void write_value(struct buf *b, const json_t *value, bool pretty, int depth)
{
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT:
        write_object(b, value, pretty, depth);
        break;
    case JSON_ARRAY:
        write_array(b, value, pretty, depth);
        break;
    case JSON_STRING:
        write_string(b, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        buf_addf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        write_real(b, json_real_value(value));
        break;
    case JSON_TRUE:
        buf_adds(b, "true");
        break;
    case JSON_FALSE:
        buf_adds(b, "false");
        break;
    case JSON_NULL:
        buf_adds(b, "null");
        break;
    }
}

char *json_text(const json_t *value, bool pretty)
{
    struct buf b;
    buf_init(&b, json_text_max);
    write_value(&b, value, pretty, 0);
    return buf_take(&b);
}

json_t *json_real_new(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}
