/* A pull parser for the one shape of JSON that a safetensors header may have.
 *
 *   { "__metadata__": {string: string, ...},
 *     "name": {"dtype": string, "shape": [int, ...], "data_offsets": [int, int]}, ... }
 *
 * Why not the JSON library: a header may have 100 MB, of which a tree of values would make
 * gigabytes before the first rule could refuse it. Here an entry is judged when its closing brace
 * is met, memory is the names alone, integers are exact in 64 bits, and depth is bounded by
 * recursion on a constant. Strict RFC 8259, with unknown fields of an entry skipped as the
 * reference reader does; the same field twice in an entry, and a name twice (safetensors.c), are
 * errors. Invariant: p <= end, and every byte is looked at once. */
#include "format/safetensors_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "format/text_int.h"

#include "base/banned.h"

struct parser {
    const char *start, *p, *end;
    const char *file;
    struct arena *arena;
    char *scratch; /* SAFETENSORS_NAME_MAX + 1 bytes: the last short string */
    size_t len;
    struct err *e;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct parser *s, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return err_set(s->e, ERR_INPUT, "the file is damaged or made to do harm: download it again",
                   "%s: header byte %zu: %s", s->file, (size_t)(s->p - s->start), text);
}

static void skip_space(struct parser *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

/* Skips space and the character c, if it comes next. */
static bool accept(struct parser *s, char c)
{
    skip_space(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

static int expect(struct parser *s, char c)
{
    if (accept(s, c))
        return 0;
    char found[TEXT_SHOWN_MAX];
    return refuse(s, "expected '%c', found \"%s\"", c,
                  text_show(s->p, s->p < s->end ? 1 : 0, found));
}

/* ---- strings ------------------------------------------------------------------------------------
 */

/* Appends to scratch; long strings (metadata) keep their beginning, long names are refused later.
 */
static void keep(struct parser *s, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s->len < SAFETENSORS_NAME_MAX)
            s->scratch[s->len] = bytes[i];
        s->len++;
    }
}

static int hex4(struct parser *s, uint32_t *v)
{
    *v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s->p < s->end ? *s->p : '\0';
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (uint32_t)((c | 0x20) - 'a' + 10);
        else
            return refuse(s, "\\u needs four hexadecimal digits");
        *v = *v * 16 + digit;
        s->p++;
    }
    return 0;
}

static void keep_code_point(struct parser *s, uint32_t c)
{
    char b[4];
    size_t n = 0;
    if (c < 0x80) {
        b[n++] = (char)c;
    } else if (c < 0x800) {
        b[n++] = (char)(0xc0 | c >> 6);
        b[n++] = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        b[n++] = (char)(0xe0 | c >> 12);
        b[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        b[n++] = (char)(0x80 | (c & 0x3f));
    } else {
        b[n++] = (char)(0xf0 | c >> 18);
        b[n++] = (char)(0x80 | (c >> 12 & 0x3f));
        b[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        b[n++] = (char)(0x80 | (c & 0x3f));
    }
    keep(s, b, n);
}

/* After "\u"; joins a surrogate pair. */
static int unicode_escape(struct parser *s)
{
    uint32_t c, low;
    if (hex4(s, &c))
        return -1;
    if (c >= 0xdc00 && c <= 0xdfff)
        return refuse(s, "a low surrogate without its high one");
    if (c >= 0xd800 && c <= 0xdbff) {
        if (s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
            return refuse(s, "a high surrogate without its low one");
        s->p += 2;
        if (hex4(s, &low))
            return -1;
        if (low < 0xdc00 || low > 0xdfff)
            return refuse(s, "a high surrogate without its low one");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    if (c == 0)
        return refuse(s, "a NUL character inside a string");
    keep_code_point(s, c);
    return 0;
}

static int escape(struct parser *s)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = s->p < s->end ? *s->p++ : '\0';
    if (c == 'u')
        return unicode_escape(s);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return refuse(s, "an unknown escape in a string");
    keep(s, &to[at - from], 1);
    return 0;
}

/* A string into scratch and len (the true length, even when scratch holds less). */
static int string(struct parser *s)
{
    if (expect(s, '"'))
        return -1;
    s->len = 0;
    for (;;) {
        const char *run = s->p;
        while (s->p < s->end && *s->p != '"' && *s->p != '\\' && (unsigned char)*s->p >= 0x20)
            s->p++;
        keep(s, run, (size_t)(s->p - run));
        if (s->p == s->end)
            return refuse(s, "the header ends inside a string");
        char c = *s->p;
        if ((unsigned char)c < 0x20)
            return refuse(s, "a control character inside a string");
        s->p++;
        if (c == '"')
            break;
        if (escape(s))
            return -1;
    }
    s->scratch[s->len < SAFETENSORS_NAME_MAX ? s->len : SAFETENSORS_NAME_MAX] = '\0';
    return 0;
}

/* ---- numbers and skipping -----------------------------------------------------------------------
 */

/* An exact unsigned integer: no sign, fraction or exponent. */
static int integer(struct parser *s, uint64_t *v)
{
    skip_space(s);
    const char *first = s->p;
    *v = 0;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++) {
        if (__builtin_mul_overflow(*v, 10u, v) ||
            __builtin_add_overflow(*v, (uint64_t)(*s->p - '0'), v))
            return refuse(s, "an integer beyond 64 bits");
    }
    bool more = s->p < s->end && strchr(".eE+-", *s->p) && *s->p;
    if (s->p == first || more || (s->p - first > 1 && *first == '0'))
        return refuse(s, "expected an exact unsigned integer");
    return 0;
}

static int skip_literal(struct parser *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
            s->p += n;
            return 0;
        }
    }
    return refuse(s, "expected a value");
}

static size_t skip_digits(struct parser *s)
{
    const char *first = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return (size_t)(s->p - first);
}

static int skip_number(struct parser *s)
{
    if (s->p < s->end && *s->p == '-')
        s->p++;
    bool zero = s->p < s->end && *s->p == '0';
    size_t digits = skip_digits(s);
    if (digits == 0 || (zero && digits > 1))
        return refuse(s, "expected a number");
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (skip_digits(s) == 0)
            return refuse(s, "expected digits behind the point");
    }
    if (s->p < s->end && (*s->p | 0x20) == 'e') {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (skip_digits(s) == 0)
            return refuse(s, "expected digits in the exponent");
    }
    return 0;
}

static int skip_value(struct parser *s, int depth);

static int skip_members(struct parser *s, char close, int depth)
{
    if (accept(s, close))
        return 0;
    do {
        if (close == '}' && (string(s) || expect(s, ':')))
            return -1;
        if (skip_value(s, depth))
            return -1;
    } while (accept(s, ','));
    return expect(s, close);
}

/* depth: of the value's own container, so that the whole nests at most SAFETENSORS_DEPTH_MAX deep.
 */
static int skip_value(struct parser *s, int depth)
{
    skip_space(s);
    char c = s->p < s->end ? *s->p : '\0';
    if (c == '{' || c == '[') {
        if (depth >= SAFETENSORS_DEPTH_MAX)
            return refuse(s, "values nest deeper than %d", SAFETENSORS_DEPTH_MAX);
        s->p++;
        return skip_members(s, c == '{' ? '}' : ']', depth + 1);
    }
    if (c == '"')
        return string(s);
    return c == '-' || (c >= '0' && c <= '9') ? skip_number(s) : skip_literal(s);
}

/* ---- entries ------------------------------------------------------------------------------------
 */

static int integers(struct parser *s, const char *what, uint64_t *v, int max, int *n)
{
    *n = 0;
    if (expect(s, '['))
        return -1;
    if (accept(s, ']'))
        return 0;
    do {
        if (*n == max)
            return refuse(s, "%s has more than %d numbers", what, max);
        if (integer(s, &v[(*n)++]))
            return -1;
    } while (accept(s, ','));
    return expect(s, ']');
}

enum { SEEN_DTYPE = 1, SEEN_SHAPE = 2, SEEN_OFFSETS = 4, SEEN_ALL = 7 };

/* The value of the field whose name is in scratch. */
static int entry_field(struct parser *s, struct safetensors_entry *t, unsigned *seen)
{
    uint64_t range[2];
    unsigned bit = strcmp(s->scratch, "dtype") == 0          ? SEEN_DTYPE
                   : strcmp(s->scratch, "shape") == 0        ? SEEN_SHAPE
                   : strcmp(s->scratch, "data_offsets") == 0 ? SEEN_OFFSETS
                                                             : 0;
    int n;
    if (*seen & bit)
        return refuse(s, "tensor \"%.80s\" has the field \"%s\" twice", t->name, s->scratch);
    *seen |= bit;
    if (bit == 0)
        return skip_value(s, 2);
    if (bit == SEEN_DTYPE) {
        if (string(s))
            return -1;
        snprintf(t->dtype, sizeof t->dtype, "%.*s", (int)sizeof t->dtype - 1, s->scratch);
        return 0;
    }
    if (bit == SEEN_SHAPE)
        return integers(s, "shape", t->dims, SAFETENSORS_DIMS_MAX, &t->n_dims);
    if (integers(s, "data_offsets", range, 2, &n))
        return -1;
    if (n != 2)
        return refuse(s, "tensor \"%.80s\": data_offsets has %d numbers, expected 2", t->name, n);
    t->begin = range[0];
    t->end = range[1];
    return 0;
}

static int entry(struct parser *s, struct safetensors_entry *t)
{
    unsigned seen = 0;
    if (expect(s, '{'))
        return -1;
    if (!accept(s, '}')) {
        do {
            if (string(s) || expect(s, ':') || entry_field(s, t, &seen))
                return -1;
        } while (accept(s, ','));
        if (expect(s, '}'))
            return -1;
    }
    if (seen != SEEN_ALL)
        return refuse(s, "tensor \"%.80s\" lacks its %s", t->name,
                      !(seen & SEEN_DTYPE)   ? "dtype"
                      : !(seen & SEEN_SHAPE) ? "shape"
                                             : "data_offsets");
    return 0;
}

static int metadata(struct parser *s)
{
    if (expect(s, '{'))
        return -1;
    if (accept(s, '}'))
        return 0;
    do {
        if (string(s) || expect(s, ':') || string(s))
            return -1;
    } while (accept(s, ','));
    return expect(s, '}');
}

static int take_name(struct parser *s, const char **name)
{
    if (string(s))
        return -1;
    if (s->len < 1 || s->len > SAFETENSORS_NAME_MAX)
        return refuse(s, "a tensor name has %zu bytes, expected 1 to %d", s->len,
                      SAFETENSORS_NAME_MAX);
    if (text_has_control(s->scratch, s->len))
        return refuse(s, "a tensor name has control characters");
    *name = arena_strndup(s->arena, s->scratch, s->len);
    return 0;
}

static int entries(struct parser *s,
                   int (*visit)(void *ud, const struct safetensors_entry *entry, struct err *e),
                   void *ud)
{
    bool seen_metadata = false;
    if (accept(s, '}'))
        return 0;
    do {
        struct safetensors_entry t = {0};
        if (take_name(s, &t.name) || expect(s, ':'))
            return -1;
        if (strcmp(t.name, "__metadata__") != 0) {
            if (entry(s, &t) || visit(ud, &t, s->e))
                return -1;
            continue;
        }
        if (seen_metadata)
            return refuse(s, "__metadata__ appears twice");
        seen_metadata = true;
        if (metadata(s))
            return -1;
    } while (accept(s, ','));
    return expect(s, '}');
}

int safetensors_parse(const char *text, size_t n, const char *file, struct arena *arena,
                      int (*visit)(void *ud, const struct safetensors_entry *entry, struct err *e),
                      void *ud, struct err *e)
{
    struct parser s = {
        .start = text, .p = text, .end = text + n, .file = file, .arena = arena, .e = e};
    if (n == 0 || text[0] != '{')
        return refuse(&s, "expected '{', so this is no safetensors header");
    if (!text_is_utf8(text, n))
        return refuse(&s, "the header is not UTF-8");
    s.p++;
    s.scratch = xmalloc(SAFETENSORS_NAME_MAX + 1);
    int rc = entries(&s, visit, ud);
    skip_space(&s);
    if (rc == 0 && s.p != s.end)
        rc = refuse(&s, "text behind the closing brace");
    xfree(s.scratch);
    return rc;
}
