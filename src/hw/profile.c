/* Hardware profiles: YAML files that describe a machine and what is wanted of it.
 *
 * Owns the strings of a profile's list of quantizations; all else is inside the struct. One table
 * says which keys exist, of which type, within which bounds, and where they go; reading, warnings
 * about unknown keys and the JSON form all walk it. Refuses wrong types and impossible numbers with
 * file and line; an unknown key is only a warning, because a profile may have been written for a
 * later version.
 *
 * To add a key: a member in struct hw_profile, one line in the table.
 */
#include "hw/hw.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "hw/hw_int.h"
#include "base/banned.h"

enum { PROFILE_BYTES_MAX = 1 << 18 };

/* MB of max_model_size_mb are those of --target-size: powers of ten. */
static const double megabyte = 1e6;

enum field_type {
    FIELD_TEXT,      /* char[size] */
    FIELD_REAL,      /* double */
    FIELD_INTEGER,   /* int */
    FIELD_FLAG,      /* bool */
    FIELD_MEGABYTES, /* uint64_t bytes */
    FIELD_NAMES,     /* char **, NULL-terminated */
    FIELD_FACTORS,   /* struct hw_type_factor[HW_TYPES_MAX], count behind it */
};

struct field {
    const char *group, *key; /* group NULL: top level */
    enum field_type type;
    size_t offset, size;
    double min, max;
};

#define AT(member) offsetof(struct hw_profile, member), sizeof(((struct hw_profile *)0)->member)

static const struct field fields[] = {
    {NULL, "name", FIELD_TEXT, AT(name), 0, 0},
    {NULL, "description", FIELD_TEXT, AT(description), 0, 0},
    {NULL, "source", FIELD_TEXT, AT(source), 0, 0},
    {NULL, "remote", FIELD_FLAG, AT(remote), 0, 0},
    {"constraints", "vram_gb", FIELD_REAL, AT(vram_gb), 0, 1e6},
    {"constraints", "ram_gb", FIELD_REAL, AT(ram_gb), 0, 1e6},
    {"constraints", "cpu_arch", FIELD_TEXT, AT(cpu_arch), 0, 0},
    {"constraints", "has_cuda", FIELD_FLAG, AT(has_cuda), 0, 0},
    {"constraints", "max_model_size_mb", FIELD_MEGABYTES, AT(max_model_bytes), 0, 1e9},
    {"constraints", "memory_bandwidth_gbs", FIELD_REAL, AT(bandwidth_gbs), 0, 1e6},
    {"constraints", "cores", FIELD_INTEGER, AT(cores), 0, 65536},
    {"constraints", "efficiency", FIELD_REAL, AT(efficiency), 0.01, 1},
    {"constraints", "overhead_ms", FIELD_REAL, AT(overhead_ms), 0, 1e6},
    {"constraints", "gflops", FIELD_REAL, AT(gflops), 0, 1e9},
    {"targets", "min_tokens_per_second", FIELD_REAL, AT(min_tps), 0, 1e6},
    {"targets", "max_latency_ms", FIELD_REAL, AT(max_latency_ms), 0, 1e9},
    {"targets", "min_accuracy_score", FIELD_REAL, AT(min_accuracy), 0, 1},
    {NULL, "type_factors", FIELD_FACTORS, AT(factors), 0.01, 100},
    {NULL, "supported_quantizations", FIELD_NAMES, AT(quantizations), 0, 0},
};

enum { FIELD_COUNT = sizeof(fields) / sizeof(fields[0]) };

static int refuse(const struct hw_profile *p, const struct field *f, const struct tree *t,
                  const char *expected, struct err *e)
{
    return err_set(e, ERR_INPUT, NULL, "%s: line %d: \"%s\" must be %s, found %s", p->path, t->line,
                   f->key, expected, tree_what(t));
}

static int read_text(struct hw_profile *p, const struct field *f, const struct tree *t,
                     struct err *e)
{
    char expected[48];
    if (t->kind != TREE_SCALAR || tree_is_null(t))
        return refuse(p, f, t, "text", e);
    size_t n = strlen(t->text);
    while (n > 0 && t->text[n - 1] == '\n') /* block scalars end in one */
        n--;
    if (n >= f->size) {
        snprintf(expected, sizeof(expected), "text of at most %zu bytes", f->size - 1);
        return refuse(p, f, t, expected, e);
    }
    memcpy((char *)p + f->offset, t->text, n);
    ((char *)p + f->offset)[n] = 0;
    return 0;
}

static int read_number(struct hw_profile *p, const struct field *f, const struct tree *t,
                       struct err *e)
{
    char expected[80];
    double value;
    bool whole = f->type == FIELD_INTEGER;
    if (!tree_real(t, &value) || value < f->min || value > f->max ||
        (whole && value != floor(value))) {
        snprintf(expected, sizeof(expected), "a %snumber from %g to %g", whole ? "whole " : "",
                 f->min, f->max);
        return refuse(p, f, t, expected, e);
    }
    void *at = (char *)p + f->offset;
    if (f->type == FIELD_REAL)
        memcpy(at, &value, sizeof(value));
    else if (f->type == FIELD_INTEGER)
        memcpy(at, &(int){(int)value}, sizeof(int));
    else
        memcpy(at, &(uint64_t){(uint64_t)(value * megabyte)}, sizeof(uint64_t));
    return 0;
}

static int read_names(struct hw_profile *p, const struct field *f, const struct tree *t,
                      struct err *e)
{
    if (t->kind != TREE_LIST)
        return refuse(p, f, t, "a list of names such as [Q4_K_M, Q8_0]", e);
    if (t->count == 0)
        return refuse(p, f, t, "a list with at least one name (or be left out)", e);
    p->quantizations = xcalloc(t->count + 1, sizeof(*p->quantizations));
    for (size_t i = 0; i < t->count; i++) {
        const struct tree *item = t->items[i];
        if (item->kind != TREE_SCALAR || !item->text[0])
            return refuse(p, f, item, "a list of names", e);
        p->quantizations[i] = xstrdup(item->text);
    }
    return 0;
}

/* A map from type to factor. hw cannot tell which names are types: who reads the list looks its own
 * up. */
static int read_factors(struct hw_profile *p, const struct field *f, const struct tree *t,
                        struct err *e)
{
    if (t->kind != TREE_MAP || t->count > HW_TYPES_MAX)
        return refuse(p, f, t, "a map such as {Q4_K: 1, IQ3_S: 1.3} of at most 48 types", e);
    for (size_t i = 0; i < t->count; i++) {
        struct hw_type_factor *x = &p->factors[i];
        if (strlen(t->keys[i]) >= sizeof(x->type) || !tree_real(t->items[i], &x->factor) ||
            x->factor < f->min || x->factor > f->max)
            return refuse(p, f, t->items[i],
                          "a map from names of types to numbers from 0.01 to 100", e);
        snprintf(x->type, sizeof(x->type), "%s", t->keys[i]);
    }
    p->n_factors = (int)t->count;
    return 0;
}

static int read_field(struct hw_profile *p, const struct field *f, const struct tree *t,
                      struct err *e)
{
    bool *flag = (bool *)((char *)p + f->offset);
    switch (f->type) {
    case FIELD_TEXT:
        return read_text(p, f, t, e);
    case FIELD_FLAG:
        return tree_bool(t, flag) ? 0 : refuse(p, f, t, "true or false", e);
    case FIELD_NAMES:
        return read_names(p, f, t, e);
    case FIELD_FACTORS:
        return read_factors(p, f, t, e);
    default:
        return read_number(p, f, t, e);
    }
}

static bool same_group(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static const struct field *find_field(const char *group, const char *key)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if (same_group(fields[i].group, group) && strcmp(fields[i].key, key) == 0)
            return &fields[i];
    return NULL;
}

static bool is_group(const char *key)
{
    return strcmp(key, "constraints") == 0 || strcmp(key, "targets") == 0;
}

/* Reads every key of a map (top level: group NULL), groups included. */
static int read_group(struct hw_profile *p, const char *group, const struct tree *map,
                      struct err *e)
{
    if (map->kind != TREE_MAP)
        return err_set(e, ERR_INPUT, NULL, "%s: line %d: %s%s%s, found %s", p->path, map->line,
                       group ? "\"" : "expected a map of keys", group ? group : "",
                       group ? "\" must be a map of keys" : "", tree_what(map));
    for (size_t i = 0; i < map->count; i++) {
        const char *key = map->keys[i];
        const struct tree *value = map->items[i];
        const struct field *f = find_field(group, key);
        if (!f && !group && is_group(key)) {
            if (!tree_is_null(value) && read_group(p, key, value, e))
                return -1;
        } else if (!f) {
            log_warn("%s: line %d: unknown key \"%s%s%.60s\" is ignored", p->path, value->line,
                     group ? group : "", group ? "." : "", key);
        } else if (!tree_is_null(value) && read_field(p, f, value, e)) {
            return -1;
        }
    }
    return 0;
}

/* Other names for the same processors, as Docker, Go and Node spell them. */
static void normalise_arch(char arch[static 16])
{
    static const char *const names[][2] = {{"arm64", "aarch64"},
                                           {"armv8", "aarch64"},
                                           {"amd64", "x86_64"},
                                           {"x64", "x86_64"},
                                           {"x86-64", "x86_64"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(arch, names[i][0]) == 0)
            snprintf(arch, 16, "%s", names[i][1]);
}

/* What follows from what was said: a machine with a bandwidth of its own or another processor is
 * not this one, so its speed must be predicted. `remote: false` in the file overrules. */
static void complete(struct hw_profile *p, bool remote_said)
{
    struct utsname u;
    char stem[HW_NAME_MAX];
    normalise_arch(p->cpu_arch);
    bool foreign = p->cpu_arch[0] && uname(&u) == 0 && strcmp(p->cpu_arch, u.machine) != 0;
    if (!remote_said)
        p->remote = foreign || p->bandwidth_gbs > 0;
    if (p->name[0])
        return;
    snprintf(stem, sizeof(stem), "%s", fs_basename(p->path));
    stem[strcspn(stem, ".")] = 0;
    memcpy(p->name, stem, sizeof(stem));
}

static int load_file(struct hw_profile *out, const char *path, struct err *e)
{
    struct hw_profile p = {.efficiency = 0.6};
    struct arena a = {0};
    struct tree *root;
    char *text;
    size_t n;
    if (strlen(path) >= sizeof(p.path))
        return err_set(e, ERR_LIMIT, NULL, "the path of a profile is longer than %zu bytes",
                       sizeof(p.path) - 1);
    snprintf(p.path, sizeof(p.path), "%s", path);
    if (fs_read_all(path, PROFILE_BYTES_MAX, &text, &n, e))
        return -1;
    int rc = tree_parse(&root, &a, text, n, path, e);
    if (rc == 0)
        rc = read_group(&p, NULL, root, e);
    if (rc == 0) {
        complete(&p, tree_get(root, "remote") != NULL);
        *out = p;
    } else {
        hw_profile_release(&p);
    }
    arena_release(&a);
    xfree(text);
    return rc;
}

void hw_profile_release(struct hw_profile *p)
{
    for (size_t i = 0; p->quantizations && p->quantizations[i]; i++)
        xfree(p->quantizations[i]);
    xfree(p->quantizations);
    *p = (struct hw_profile){0};
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Takes the next folder off a ":"-separated list. NULL at its end. xfree. */
static char *next_dir(const char **dirs)
{
    while (*dirs && **dirs) {
        size_t n = strcspn(*dirs, ":");
        char *dir = xstrndup(*dirs, n);
        *dirs += n + ((*dirs)[n] == ':');
        if (n > 0)
            return dir;
        xfree(dir);
    }
    return NULL;
}

/* Calls fn with the path of every *.yaml in dirs, a name in an earlier folder hiding later ones. */
static void each_file(const char *dirs, void (*fn)(void *ud, const char *path), void *ud)
{
    struct map seen = {0};
    char *dir, **names;
    size_t n;
    while ((dir = next_dir(&dirs))) {
        if (fs_list(dir, &names, &n, NULL) == 0) {
            for (size_t i = 0; i < n; i++) {
                if (!ends_with(names[i], ".yaml") || !map_add(&seen, names[i], strlen(names[i]), 0))
                    continue;
                char *path = fs_join(dir, names[i]);
                fn(ud, path);
                xfree(path);
            }
            fs_list_free(names, n);
        }
        xfree(dir);
    }
    map_release(&seen);
}

struct names {
    char text[ERR_HINT_MAX];
};

static void add_name(void *ud, const char *path)
{
    struct names *names = ud;
    const char *base = fs_basename(path);
    size_t n = strlen(names->text);
    snprintf(names->text + n, sizeof(names->text) - n, "%s%.*s",
             n ? ", " : "known profiles: ", (int)strcspn(base, "."), base);
}

static int load_named(struct hw_profile *p, const char *name, const char *dirs, struct err *e)
{
    const char *rest = dirs;
    char *dir;
    int rc = 1;
    while (rc == 1 && (dir = next_dir(&rest))) {
        char *path = xasprintf("%s/%s.yaml", dir, name);
        if (fs_exists(path))
            rc = load_file(p, path, e);
        xfree(path);
        xfree(dir);
    }
    if (rc != 1)
        return rc;
    struct names names = {""};
    each_file(dirs, add_name, &names);
    return err_set(e, ERR_MISSING,
                   names.text[0] ? names.text : "give the path of a YAML file instead",
                   "there is no profile \"%.100s\"", name);
}

int hw_profile_load(struct hw_profile *p, const char *name_or_path, const char *dirs, struct err *e)
{
    bool is_path = strchr(name_or_path, '/') || ends_with(name_or_path, ".yaml") ||
                   ends_with(name_or_path, ".yml");
    return is_path ? load_file(p, name_or_path, e) : load_named(p, name_or_path, dirs, e);
}

struct collection {
    struct hw_profile *list;
    size_t count, capacity;
};

static void collect(void *ud, const char *path)
{
    struct collection *c = ud;
    struct hw_profile p;
    struct err e = {0};
    if (load_file(&p, path, &e)) { /* one bad file must not hide the others */
        log_warn("%s", e.message);
        return;
    }
    c->list = xgrow(c->list, &c->capacity, c->count + 1, sizeof(*c->list));
    c->list[c->count++] = p;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct hw_profile *)a)->name, ((const struct hw_profile *)b)->name);
}

int hw_profiles(struct hw_profile **list, size_t *n, const char *dirs, struct err *e)
{
    struct collection c = {0};
    (void)e; /* no folder, no profiles: not an error */
    each_file(dirs, collect, &c);
    if (c.count > 0)
        qsort(c.list, c.count, sizeof(*c.list), compare_names);
    *list = c.list;
    *n = c.count;
    return 0;
}

static json_t *names_json_new(char *const *names)
{
    if (!names)
        return json_null();
    json_t *list = json_array();
    for (; *names; names++)
        json_array_append_new(list, json_string(*names));
    return list;
}

/* A number that was not given is null, not 0. */
static json_t *number_json_new(double value)
{
    return value > 0 ? json_real_new(value) : json_null();
}

static json_t *factors_json_new(const struct hw_profile *p)
{
    json_t *o = p->n_factors > 0 ? json_object() : json_null();
    for (int i = 0; i < p->n_factors; i++)
        json_object_set_new(o, p->factors[i].type, json_real_new(p->factors[i].factor));
    return o;
}

double hw_profile_factor(const struct hw_profile *p, const char *type)
{
    for (int i = 0; i < p->n_factors; i++)
        if (strcasecmp(p->factors[i].type, type) == 0)
            return p->factors[i].factor;
    return 1;
}

static json_t *field_json_new(const struct hw_profile *p, const struct field *f)
{
    const void *at = (const char *)p + f->offset;
    switch (f->type) {
    case FIELD_TEXT:
        return *(const char *)at ? json_string(at) : json_null();
    case FIELD_FLAG:
        return json_boolean(*(const bool *)at);
    case FIELD_INTEGER:
        return *(const int *)at > 0 ? json_integer(*(const int *)at) : json_null();
    case FIELD_MEGABYTES:
        return number_json_new((double)*(const uint64_t *)at / megabyte);
    case FIELD_NAMES:
        return names_json_new(*(char *const *const *)at);
    case FIELD_FACTORS:
        return factors_json_new(p);
    case FIELD_REAL:
        return number_json_new(*(const double *)at);
    }
    return json_null();
}

json_t *hw_profile_json_new(const struct hw_profile *p)
{
    json_t *o = json_object(), *groups[2] = {json_object(), json_object()};
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field *f = &fields[i];
        json_t *into = !f->group ? o : groups[strcmp(f->group, "targets") == 0];
        json_object_set_new(into, f->key, field_json_new(p, f));
    }
    json_object_set_new(o, "constraints", groups[0]);
    json_object_set_new(o, "targets", groups[1]);
    json_object_set_new(o, "path", json_string(p->path));
    return o;
}
