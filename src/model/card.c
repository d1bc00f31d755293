/* The front matter of README.md (a model card): licence, tags, languages, ancestry.
 *
 * It only labels a model, so nothing in it can make a model fail to open: what is malformed, too
 * large, too deep or uses anchors is left out with a warning. Scalars stay text; null becomes
 * absent. Two repairs of common mistakes follow llama.cpp's converter: a list item "no" is
 * Norwegian, a tab is two spaces. */
#include "model/model_int.h"

#include <string.h>
#include <yaml.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/banned.h"

enum { CARD_DEPTH_MAX = 8 };

/* The lines between the first "---" and the next. False when there is no front matter. */
static bool front_matter(const char *text, struct buf *yaml)
{
    if (strncmp(text, "---\n", 4) != 0 && strncmp(text, "---\r\n", 5) != 0)
        return false;
    const char *line = strchr(text, '\n') + 1;
    while (*line) {
        size_t n = strcspn(line, "\n"), kept = n && line[n - 1] == '\r' ? n - 1 : n;
        if (kept == 3 && memcmp(line, "---", 3) == 0)
            return true;
        for (size_t i = 0; i < kept; i++) {
            if (line[i] == '\t')
                buf_adds(yaml, "  ");
            else
                buf_addc(yaml, line[i]);
        }
        buf_addc(yaml, '\n');
        line += n + (line[n] == '\n');
    }
    return true;
}

static bool is_null(const yaml_event_t *v)
{
    const char *text = (const char *)v->data.scalar.value;
    return v->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
            strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0);
}

static json_t *parse_node(yaml_parser_t *p, yaml_event_t *event, int depth);

static bool next_event(yaml_parser_t *p, yaml_event_t *event)
{
    return yaml_parser_parse(p, event) && event->type != YAML_NO_EVENT;
}

static json_t *parse_list(yaml_parser_t *p, int depth)
{
    json_t *list = json_array();
    yaml_event_t event;
    while (list && next_event(p, &event)) {
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        json_t *item = end ? NULL : parse_node(p, &event, depth);
        yaml_event_delete(&event);
        if (end)
            return list;
        if (!item || json_array_append_new(list, item))
            break;
    }
    json_decref(list);
    return NULL;
}

static json_t *parse_map(yaml_parser_t *p, int depth)
{
    json_t *map = json_object();
    yaml_event_t key, value;
    while (map && next_event(p, &key)) {
        bool end = key.type == YAML_MAPPING_END_EVENT;
        bool usable = key.type == YAML_SCALAR_EVENT;
        json_t *item = NULL;
        if (usable && next_event(p, &value)) {
            item = parse_node(p, &value, depth);
            yaml_event_delete(&value);
        }
        bool added = item && !json_object_set_new(map, (const char *)key.data.scalar.value, item);
        yaml_event_delete(&key);
        if (end)
            return map;
        if (!added)
            break;
    }
    json_decref(map);
    return NULL;
}

static json_t *parse_node(yaml_parser_t *p, yaml_event_t *event, int depth)
{
    if (depth > CARD_DEPTH_MAX)
        return NULL;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return is_null(event) ? json_null()
                              : json_stringn((const char *)event->data.scalar.value,
                                             event->data.scalar.length);
    case YAML_SEQUENCE_START_EVENT:
        return parse_list(p, depth + 1);
    case YAML_MAPPING_START_EVENT:
        return parse_map(p, depth + 1);
    default:
        return NULL; /* aliases included: they can expand without bound */
    }
}

static json_t *parse_yaml(const struct buf *yaml)
{
    yaml_parser_t p;
    yaml_event_t event;
    json_t *doc = NULL;
    if (!yaml_parser_initialize(&p))
        return NULL;
    yaml_parser_set_input_string(&p, (const unsigned char *)buf_str(yaml), yaml->len);
    for (int started = 0; started < 3 && next_event(&p, &event); started++) {
        if (event.type == YAML_MAPPING_START_EVENT)
            doc = parse_map(&p, 1);
        yaml_event_delete(&event);
        if (doc)
            break;
    }
    yaml_parser_delete(&p);
    return doc;
}

json_t *card_read_new(const char *path)
{
    char *text = NULL;
    size_t n = 0;
    json_t *doc = NULL;
    if (!fs_exists(path) || fs_read_all(path, MODEL_CARD_BYTES_MAX, &text, &n, NULL))
        return json_object();
    struct buf yaml;
    buf_init(&yaml, 2 * MODEL_CARD_BYTES_MAX);
    bool there = front_matter(text, &yaml);
    if (there && !yaml.overflow)
        doc = parse_yaml(&yaml);
    if (there && !doc && yaml.len > 0)
        log_warn("%s: its YAML front matter cannot be read and is left out", path);
    buf_release(&yaml);
    xfree(text);
    return doc ? doc : json_object();
}
