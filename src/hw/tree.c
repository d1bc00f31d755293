/* A YAML document as a tree of maps, lists and scalars, over libyaml's event parser.
 *
 * Owns nothing: nodes live in the caller's arena. Refuses what makes YAML dangerous or ambiguous in
 * a small configuration file: anchors and aliases (they multiply), tags (they name types to build),
 * duplicate keys, a second document, more than 32 levels. Scalars are typed here by the core schema
 * of YAML 1.2.2 (10.3.2), because libyaml only splits text. Invariant: every message names file and
 * line.
 */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/num.h"
#include "hw/hw_int.h"
#include "base/banned.h"

enum { TREE_DEPTH_MAX = 32, TREE_NODES_MAX = 10000 };

struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    struct arena *arena;
    const char *name;
    size_t nodes;
    struct err *e;
};

static int line_of(const yaml_event_t *event)
{
    return (int)event->start_mark.line + 1;
}

/* Moves to the next event; -1 and e when the text is not YAML. */
static int next(struct reader *r)
{
    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event) != 0;
    if (r->has_event)
        return 0;
    const char *problem = r->parser.problem ? r->parser.problem : "not readable";
    size_t line = r->parser.problem_mark.line;
    if (r->parser.error == YAML_READER_ERROR)
        return err_set(r->e, ERR_INPUT, "save the file as UTF-8", "%s: byte %zu: %s", r->name,
                       r->parser.problem_offset, problem);
    return err_set(r->e, ERR_INPUT, NULL, "%s: line %zu: %s", r->name, line + 1, problem);
}

static int refuse(struct reader *r, int line, const char *what)
{
    return err_set(r->e, ERR_INPUT, NULL, "%s: line %d: %s", r->name, line, what);
}

static int check_plain_data(struct reader *r, const yaml_char_t *anchor, const yaml_char_t *tag)
{
    int line = line_of(&r->event);
    if (anchor)
        return refuse(r, line, "anchors (&name) are not allowed here");
    return tag ? refuse(r, line, "tags (!name) are not allowed here") : 0;
}

static int read_value(struct reader *r, struct tree **out, int depth);

static void append(struct reader *r, struct tree *t, size_t *capacity, const char *key,
                   struct tree *item)
{
    if (t->count == *capacity) { /* the old arrays stay in the arena: documents are small */
        size_t grown = *capacity ? *capacity * 2 : 8;
        struct tree **items = arena_alloc(r->arena, grown * sizeof(*items));
        const char **keys = arena_alloc(r->arena, grown * sizeof(*keys));
        if (t->count > 0) {
            memcpy(items, t->items, t->count * sizeof(*items));
            memcpy(keys, t->keys, t->count * sizeof(*keys));
        }
        t->items = items;
        t->keys = keys;
        *capacity = grown;
    }
    t->keys[t->count] = key;
    t->items[t->count++] = item;
}

static int read_list(struct reader *r, struct tree *t, int depth)
{
    size_t capacity = 0;
    t->kind = TREE_LIST;
    if (check_plain_data(r, r->event.data.sequence_start.anchor, r->event.data.sequence_start.tag))
        return -1;
    for (;;) {
        struct tree *item;
        if (next(r))
            return -1;
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        if (read_value(r, &item, depth + 1))
            return -1;
        append(r, t, &capacity, NULL, item);
    }
}

/* The key that the current event is; NULL and e when it is none. */
static const char *read_key(struct reader *r, const struct tree *t)
{
    int line = line_of(&r->event);
    if (r->event.type != YAML_SCALAR_EVENT) {
        refuse(r, line, "a key must be plain text");
        return NULL;
    }
    if (check_plain_data(r, r->event.data.scalar.anchor, r->event.data.scalar.tag))
        return NULL;
    const char *key = arena_strdup(r->arena, (const char *)r->event.data.scalar.value);
    if (!tree_get(t, key))
        return key;
    err_set(r->e, ERR_INPUT, NULL, "%s: line %d: the key \"%.60s\" is there twice", r->name, line,
            key);
    return NULL;
}

static int read_map(struct reader *r, struct tree *t, int depth)
{
    size_t capacity = 0;
    t->kind = TREE_MAP;
    if (check_plain_data(r, r->event.data.mapping_start.anchor, r->event.data.mapping_start.tag))
        return -1;
    for (;;) {
        struct tree *item;
        if (next(r))
            return -1;
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return 0;
        const char *key = read_key(r, t);
        if (!key || next(r) || read_value(r, &item, depth + 1))
            return -1;
        append(r, t, &capacity, key, item);
    }
}

static int read_scalar(struct reader *r, struct tree *t)
{
    t->kind = TREE_SCALAR;
    if (check_plain_data(r, r->event.data.scalar.anchor, r->event.data.scalar.tag))
        return -1;
    const char *text = (const char *)r->event.data.scalar.value;
    if (strlen(text) != r->event.data.scalar.length)
        return refuse(r, t->line, "a value holds a NUL character");
    t->text = arena_strdup(r->arena, text);
    t->quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return 0;
}

/* The value that the current event begins. */
static int read_value(struct reader *r, struct tree **out, int depth)
{
    int line = line_of(&r->event);
    if (depth > TREE_DEPTH_MAX || ++r->nodes > TREE_NODES_MAX)
        return refuse(r, line, "the document is nested too deeply or too large");
    struct tree *t = arena_alloc(r->arena, sizeof(*t));
    t->line = line;
    *out = t;
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        return read_scalar(r, t);
    case YAML_SEQUENCE_START_EVENT:
        return read_list(r, t, depth);
    case YAML_MAPPING_START_EVENT:
        return read_map(r, t, depth);
    case YAML_ALIAS_EVENT:
        return refuse(r, line, "aliases (*name) are not allowed here");
    default:
        return refuse(r, line, "a value is missing");
    }
}

/* Stream start, at most one document, stream end. */
static int read_stream(struct reader *r, struct tree **root)
{
    if (next(r) || next(r))
        return -1;
    if (r->event.type == YAML_STREAM_END_EVENT) {
        *root = arena_alloc(r->arena, sizeof(**root));
        **root = (struct tree){.kind = TREE_MAP, .line = 1};
        return 0;
    }
    if (next(r) || read_value(r, root, 0) || next(r) || next(r))
        return -1;
    if (r->event.type != YAML_STREAM_END_EVENT)
        return refuse(r, line_of(&r->event), "a second document begins; one is expected");
    return 0;
}

int tree_parse(struct tree **root, struct arena *a, const char *text, size_t len, const char *name,
               struct err *e)
{
    struct reader r = {.arena = a, .name = name, .e = e};
    if (!yaml_parser_initialize(&r.parser))
        return err_set(e, ERR_MEMORY, NULL, "cannot get the memory to read %s", name);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    struct tree *found;
    int rc = read_stream(&r, &found);
    if (r.has_event)
        yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    if (rc == 0)
        *root = found;
    return rc;
}

const struct tree *tree_get(const struct tree *map, const char *key)
{
    if (!map || map->kind != TREE_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->keys[i], key) == 0)
            return map->items[i];
    return NULL;
}

static bool is_plain(const struct tree *t)
{
    return t->kind == TREE_SCALAR && !t->quoted;
}

static bool is_one_of(const char *text, const char *const words[3])
{
    for (int i = 0; i < 3; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    return false;
}

bool tree_is_null(const struct tree *t)
{
    static const char *const words[3] = {"null", "Null", "NULL"};
    return is_plain(t) && (!t->text[0] || strcmp(t->text, "~") == 0 || is_one_of(t->text, words));
}

bool tree_bool(const struct tree *t, bool *value)
{
    static const char *const yes[3] = {"true", "True", "TRUE"};
    static const char *const no[3] = {"false", "False", "FALSE"};
    if (!is_plain(t))
        return false;
    *value = is_one_of(t->text, yes);
    return *value || is_one_of(t->text, no);
}

bool tree_real(const struct tree *t, double *value)
{
    return is_plain(t) && num_parse_real(t->text, "value", -HUGE_VAL, HUGE_VAL, value, NULL) == 0;
}

const char *tree_what(const struct tree *t)
{
    static _Thread_local char text[80];
    if (t->kind != TREE_SCALAR)
        return t->kind == TREE_LIST ? "a list" : "a map";
    if (tree_is_null(t))
        return "nothing";
    snprintf(text, sizeof(text), "\"%.50s\"", t->text);
    return text;
}
