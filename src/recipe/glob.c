/* Globs over tensor names: '*' any run, '?' one character, '{a,b,0-3}' alternatives with integer
 * ranges.
 *
 * Matching walks the pattern once and keeps the set of places in the name that the part so far
 * can end at, so the time is pattern length times name length whatever the pattern (no
 * backtracking). An alternative is plain text, in which '*' and '?' keep their meaning, or a
 * range a-b, which matches a decimal number without leading zeros between a and b. Alternatives
 * do not nest. Names longer than GLOB_NAME_MAX match nothing: no GGUF name is. */
#include "recipe/recipe_int.h"

#include <string.h>

#include "base/banned.h"

enum { GLOB_NAME_MAX = 255, GLOB_DIGITS_MAX = 9 };

/* at[k]: the pattern so far can have consumed the first k characters of the name. */
struct places {
    bool at[GLOB_NAME_MAX + 1];
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads "a-b" filling [text, end); false when it is not a range. */
static bool read_range(const char *text, const char *end, long *low, long *high)
{
    long *value = low;
    int digits = 0;

    *low = *high = 0;
    for (; text < end; text++) {
        if (*text == '-' && value == low && digits > 0) {
            value = high;
            digits = 0;
        } else if (is_digit(*text) && digits < GLOB_DIGITS_MAX) {
            *value = *value * 10 + (*text - '0');
            digits++;
        } else {
            return false;
        }
    }
    return value == high && digits > 0;
}

static struct places step_range(const struct places *from, const char *name, size_t len, long low,
                                long high)
{
    struct places to = {{false}};

    for (size_t k = 0; k < len; k++) {
        long value = 0;
        if (!from->at[k])
            continue;
        for (size_t end = k; end < len && is_digit(name[end]) && end - k < GLOB_DIGITS_MAX; end++) {
            if (end > k && name[k] == '0')
                break;
            value = value * 10 + (name[end] - '0');
            if (value >= low && value <= high)
                to.at[end + 1] = true;
        }
    }
    return to;
}

/* One character of the pattern. */
static struct places step_char(const struct places *from, const char *name, size_t len, char c)
{
    struct places to = {{false}};

    if (c == '*') {
        bool reached = false;
        for (size_t k = 0; k <= len; k++)
            to.at[k] = reached = reached || from->at[k];
        return to;
    }
    for (size_t k = 0; k < len; k++)
        to.at[k + 1] = from->at[k] && (c == '?' || c == name[k]);
    return to;
}

/* Everything between the brace at *glob and its partner; *glob moves behind that. */
static struct places step_group(const struct places *from, const char *name, size_t len,
                                const char **glob)
{
    struct places all = {{false}};
    const char *text = *glob + 1;

    for (;;) {
        const char *end = text + strcspn(text, ",}");
        struct places one = *from;
        long low, high;
        if (read_range(text, end, &low, &high)) {
            one = step_range(from, name, len, low, high);
        } else {
            for (const char *c = text; c < end; c++)
                one = step_char(&one, name, len, *c);
        }
        for (size_t k = 0; k <= len; k++)
            all.at[k] = all.at[k] || one.at[k];
        if (*end != ',') {
            *glob = *end ? end + 1 : end;
            return all;
        }
        text = end + 1;
    }
}

bool recipe_match(const char *glob, const char *name)
{
    size_t len = strlen(name);
    struct places now = {{true}};

    if (len > GLOB_NAME_MAX)
        return false;
    while (*glob) {
        if (*glob == '{')
            now = step_group(&now, name, len, &glob);
        else
            now = step_char(&now, name, len, *glob++);
    }
    return now.at[len];
}

const char *glob_fault(const char *glob)
{
    bool inside = false;

    if (*glob == '\0')
        return "it is empty";
    for (; *glob; glob++) {
        if ((unsigned char)*glob < 0x20)
            return "it has a control character";
        if (*glob == '{' && inside)
            return "'{' inside '{...}' (alternatives do not nest)";
        if (*glob == '}' && !inside)
            return "'}' without '{'";
        if (*glob == '{')
            inside = true;
        else if (*glob == '}')
            inside = false;
    }
    return inside ? "'{' without '}'" : NULL;
}
