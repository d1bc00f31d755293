/* Model ids such as "org/Mixtral-8x7B-Instruct-v0.1" taken apart into general.* metadata.
 *
 * The rules are those of gguf-py/gguf/metadata.py (get_model_id_components, id_to_title) and
 * utility.py (size_label) of llama.cpp 0.5.0, so that both converters name a model alike: a part is
 * a version, a type, a size or a well-known kind of fine-tune by its spelling; leading parts that
 * are none of these make the base name, later ones belong to the fine-tune. Digits and letters are
 * ASCII here. */
#include "model/model_int.h"

#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/banned.h"

enum { PARTS_MAX = 32, PART_BYTES_MAX = 96 };

enum part_kind {
    PART_BASENAME = 1,
    PART_SIZE = 2,
    PART_FINETUNE = 4,
    PART_VERSION = 8,
    PART_TYPE = 16
};

struct part {
    char text[PART_BYTES_MAX];
    unsigned kinds;
};

/* Whole-text match, any case. */
static bool matches(const char *pattern, const char *text)
{
    regex_t r;
    char *whole = xasprintf("^(%s)$", pattern);
    int failed = regcomp(&r, whole, REG_EXTENDED | REG_ICASE | REG_NOSUB);
    xfree(whole);
    if (failed)
        return false;
    bool found = regexec(&r, text, 0, NULL, 0) == 0;
    regfree(&r);
    return found;
}

static size_t split(const char *name, struct part *parts)
{
    size_t n = 0;
    while (*name && n < PARTS_MAX) {
        size_t len = strcspn(name, "-");
        if (len > 0)
            snprintf(parts[n++].text, PART_BYTES_MAX, "%.*s", (int)len, name);
        name += len + (name[len] == '-');
    }
    return n;
}

/* "7b" → "7B", "7b1" → "7.1B", "1_5B" → "1.5B". */
static void tidy_size(char *t)
{
    for (char *c = t; *c; c++)
        if (*c == '_')
            *c = '.';
    size_t n = strlen(t);
    if (n >= 2 && n + 2 < PART_BYTES_MAX && isdigit((unsigned char)t[n - 1])) {
        char unit = t[n - 2], digit = t[n - 1];
        snprintf(t + n - 2, 4, ".%c%c", digit, unit);
        n++;
    }
    if (n > 1 && isdigit((unsigned char)t[n - 2]) && strchr("kmbt", t[n - 1]))
        t[n - 1] = (char)toupper((unsigned char)t[n - 1]);
}

/* A "size" far from the real number of parameters is something else, such as a context length. */
static bool size_is_plausible(const char *t, uint64_t parameters)
{
    static const char units[] = " KMBT";
    size_t n = strlen(t);
    const char *unit = memchr(units, t[n - 1], sizeof units - 1);
    char *end;
    double value = strtod(t, &end);
    if (parameters == 0 || end != t + n - 1 || !isdigit((unsigned char)*t))
        return true;
    double label = value * (unit ? pow(1000, (double)(unit - units)) : 1e-3);
    return fabs(label - (double)parameters) <= floor(7 * (double)parameters / 8);
}

static void classify(struct part *p, bool first, uint64_t parameters)
{
    if (matches("(v|iter)?[0-9]+([.][0-9]+)*", p->text)) {
        p->kinds |= PART_VERSION;
    } else if (matches("i?q[0-9](_[a-z0-9_])*|b?fp?(16|32)", p->text)) {
        p->kinds |= PART_TYPE;
        for (char *c = p->text; *c; c++)
            *c = (char)toupper((unsigned char)*c);
    } else if (!first &&
               matches("(a|[0-9]+x)?[0-9]+([._][0-9]+)?[kmbt][0-9]?|small|mini|medium|large|x?xl",
                       p->text)) {
        tidy_size(p->text);
        char *last = p->text + strlen(p->text) - 1;
        bool plausible = size_is_plausible(p->text, parameters);
        p->kinds |= plausible ? PART_SIZE : PART_FINETUNE;
        if (!plausible)
            *last = (char)tolower((unsigned char)*last);
    } else if (!first && matches("chat|instruct|vision|lora", p->text)) {
        p->kinds |= PART_FINETUNE;
    }
}

/* "large" says nothing where "7B" is there too. */
static void drop_worded_sizes(struct part *parts, size_t n)
{
    bool numbered = false;
    for (size_t i = 0; i < n; i++)
        numbered |= (parts[i].kinds & PART_SIZE) && strpbrk(parts[i].text, "0123456789");
    for (size_t i = 0; i < n && numbered; i++)
        if ((parts[i].kinds & PART_SIZE) && !strpbrk(parts[i].text, "0123456789._"))
            parts[i].kinds &= ~(unsigned)PART_SIZE;
}

static void find_basename(struct part *parts, size_t n)
{
    bool start = true;
    for (size_t i = 0; i < n; i++) {
        unsigned *k = &parts[i].kinds;
        if (start &&
            ((*k == 0 && isalpha((unsigned char)parts[i].text[0])) || (*k & PART_VERSION))) {
            *k |= PART_BASENAME;
            continue;
        }
        start = false;
        if (*k == 0)
            *k |= PART_FINETUNE;
    }
    for (size_t i = n; i-- > 0;) {
        unsigned *k = &parts[i].kinds;
        if (!(*k & PART_BASENAME) || *k == PART_BASENAME)
            break;
        *k &= ~(unsigned)PART_BASENAME;
    }
}

/* Parts that have all of `with` and none of `without`, joined by '-'; NULL when there are none. */
static const char *join(const struct part *parts, size_t n, unsigned with, unsigned without,
                        bool distinct, struct arena *arena)
{
    struct buf b;
    buf_init(&b, (size_t)PARTS_MAX * PART_BYTES_MAX);
    for (size_t i = 0; i < n; i++) {
        bool again = false;
        for (size_t j = 0; j < i && distinct; j++)
            again |= (parts[j].kinds & with) && strcmp(parts[j].text, parts[i].text) == 0;
        if ((parts[i].kinds & with) && !(parts[i].kinds & without) && !again)
            buf_addf(&b, "%s%s", b.len ? "-" : "", parts[i].text);
    }
    const char *joined = b.len ? arena_strdup(arena, buf_str(&b)) : NULL;
    buf_release(&b);
    return joined;
}

void naming_parse(struct naming *n, const char *id, uint64_t parameters, struct arena *arena)
{
    *n = (struct naming){.full = arena_strdup(arena, id)};
    if (strchr(id, ' '))
        return;
    const char *slash = strchr(id, '/');
    if (slash) {
        n->full = arena_strdup(arena, slash + 1);
        if (id[0] != '.')
            n->organization = arena_strndup(arena, id, (size_t)(slash - id));
    }
    struct part *parts = xcalloc(PARTS_MAX, sizeof *parts);
    size_t count = split(n->full, parts);
    for (size_t i = 0; i < count; i++)
        classify(&parts[i], i == 0, parameters);
    drop_worded_sizes(parts, count);
    find_basename(parts, count);
    n->size_label = join(parts, count, PART_SIZE, 0, true, arena);
    n->finetune = join(parts, count, PART_FINETUNE, 0, false, arena);
    n->version = join(parts, count, PART_VERSION, PART_BASENAME, false, arena);
    if (n->size_label || n->finetune || n->version)
        n->basename = join(parts, count, PART_BASENAME, 0, false, arena);
    xfree(parts);
}

/* Lower-case words get a capital after every non-letter; numbers and versions stay as they are. */
static void add_word(struct buf *b, const char *word, size_t n)
{
    bool lower = false, upper = false;
    for (size_t i = 0; i < n; i++) {
        lower |= islower((unsigned char)word[i]) != 0;
        upper |= isupper((unsigned char)word[i]) != 0;
    }
    char *text = xstrndup(word, n);
    bool keep =
        !lower || upper || isdigit((unsigned char)word[0]) || matches("v[0-9]+(\\.[0-9]+)*", text);
    bool letter = false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)word[i];
        buf_addc(b, keep || letter ? (char)c : (char)toupper(c));
        letter = isalpha(c) || c >= 0x80;
    }
    xfree(text);
}

char *naming_title(const char *id, struct arena *arena)
{
    struct buf b;
    buf_init(&b, 4096);
    while (*id) {
        size_t n = strcspn(id, "- \t\n\r");
        if (n > 0) {
            if (b.len)
                buf_addc(&b, ' ');
            add_word(&b, id, n);
        }
        id += n + (id[n] != '\0');
    }
    char *title = arena_strdup(arena, buf_str(&b));
    buf_release(&b);
    return title;
}

char *naming_size_label(uint64_t parameters, struct arena *arena)
{
    double n = (double)parameters;
    const char *unit = n > 1e12 ? "T" : n > 1e9 ? "B" : n > 1e6 ? "M" : "K";
    double scaled = n * (n > 1e12 ? 1e-12 : n > 1e9 ? 1e-9 : n > 1e6 ? 1e-6 : 1e-3);
    double whole = nearbyint(scaled); /* two significant digits: "7.3M", "22M", "0.50K" */
    int decimals = whole >= 10 ? 0 : whole >= 1 ? 1 : 2;
    return arena_printf(arena, "%.*f%s", decimals, scaled, unit);
}

char *naming_size_label_of(const struct model_desc *d, struct arena *arena)
{
    uint64_t once = 0, count = 0, stacks = 0;
    for (size_t i = 0; i < d->n_tensors; i++) {
        const struct model_tensor *t = &d->tensors[i];
        bool stack = strstr(t->name, "_exps.") && t->shape.n_dims >= 3 && t->shape.ne[2] > 0;
        uint64_t members = stack ? t->shape.ne[2] : 1, n = 0;
        shape_elements(&t->shape, &n);
        once += n / members;
        count += stack ? members : 0;
        stacks += stack;
    }
    if (stacks == 0)
        return naming_size_label(d->parameters, arena);
    return arena_printf(arena, "%llux%s", (unsigned long long)(count / stacks),
                        naming_size_label(once, arena));
}
