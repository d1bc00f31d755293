/* Chat templates: stored as text, never run.
 *
 * Sources, as in SpecialVocab of gguf-py (llama.cpp 0.5.0): "chat_template" of
 * tokenizer_config.json, else chat_template.jinja with additional_chat_templates/NAME.jinja beside
 * it, else chat_template.json. A list of named templates becomes one key per name; the one called
 * "default" is the plain tokenizer.chat_template. */
#include "model/vocab_int.h"

#include <ctype.h>
#include <string.h>

#include "base/banned.h"

#define TEMPLATE_KEY "tokenizer.chat_template"

enum { TEMPLATES_MAX = 64 };

/* A text file as a JSON string, line ends as LF; NULL with e untouched when it is not there. */
static int read_text(const char *path, json_t **text, struct err *e)
{
    char *data = NULL;
    size_t n = 0, kept = 0;
    *text = NULL;
    if (!fs_exists(path))
        return 0;
    if (fs_read_all(path, MODEL_TEMPLATE_BYTES_MAX, &data, &n, e))
        return -1;
    for (size_t i = 0; i < n; i++)
        if (data[i] != '\r' || i + 1 == n || data[i + 1] != '\n')
            data[kept++] = data[i];
    *text = json_stringn(data, kept);
    xfree(data);
    if (*text)
        return 0;
    return err_set(e, ERR_INPUT, "fetch the file again, or remove it to go without a chat template",
                   "%s is not UTF-8 text", path);
}

static int append(json_t *list, const char *name, size_t name_len, json_t *text)
{
    json_t *item = json_object();
    json_object_set_new(item, "name", json_stringn(name, name_len));
    json_object_set_new(item, "template", text);
    return json_array_append_new(list, item);
}

static int add_additional(const char *folder, json_t *list, struct err *e)
{
    char **names = NULL;
    size_t n = 0;
    if (!fs_is_dir(folder))
        return 0;
    if (fs_list(folder, &names, &n, e))
        return -1;
    int failed = 0;
    for (size_t i = 0; i < n && !failed; i++) {
        size_t len = strlen(names[i]);
        json_t *text = NULL;
        if (len <= 6 || strcmp(names[i] + len - 6, ".jinja") != 0)
            continue;
        char *path = fs_join(folder, names[i]);
        failed = read_text(path, &text, e);
        xfree(path);
        if (text)
            append(list, names[i], len - 6, text);
    }
    fs_list_free(names, n);
    return failed;
}

/* The template outside tokenizer_config.json: a string, a list, or NULL. New reference. */
static int read_outside(const struct vocab *v, json_t **found, struct err *e)
{
    char *path = fs_join(v->m->path, "chat_template.jinja");
    char *more = fs_join(v->m->path, "additional_chat_templates");
    json_t *doc = NULL, *text = NULL;
    int failed = read_text(path, &text, e);
    *found = text;
    if (!failed && text && fs_is_dir(more)) {
        json_t *list = json_array();
        append(list, "default", 7, text);
        failed = add_additional(more, list, e);
        *found = list;
    } else if (!failed && !text) {
        failed =
            folder_read_json(v->m, "chat_template.json", MODEL_TEMPLATE_BYTES_MAX, false, &doc, e);
        *found = json_incref(json_object_get(doc, "chat_template"));
        json_decref(doc);
    }
    xfree(path);
    xfree(more);
    return failed;
}

static void set_string(struct gguf_kvs *k, const char *key, const json_t *text)
{
    gguf_set_strn(k, key, json_string_value(text), json_string_length(text));
}

static void set_list(struct vocab *v, const json_t *list)
{
    struct gguf_str names[TEMPLATES_MAX];
    const json_t *plain = NULL;
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list) && n < TEMPLATES_MAX; i++) {
        const json_t *item = json_array_get(list, i), *text = json_object_get(item, "template");
        char *name = arena_strdup(&v->m->arena, json_opt_str(item, "name", ""));
        for (char *c = name; *c; c++)
            if (!isalnum((unsigned char)*c))
                *c = '_';
        if (!*name || !json_is_string(text))
            continue;
        if (strcmp(name, "default") == 0) {
            plain = text;
            continue;
        }
        names[n++] = (struct gguf_str){name, strlen(name)};
        set_string(&v->m->kvs, arena_printf(&v->m->arena, TEMPLATE_KEY ".%s", name), text);
    }
    if (n > 0)
        gguf_set_strs(&v->m->kvs, "tokenizer.chat_templates", names, n);
    if (plain)
        set_string(&v->m->kvs, TEMPLATE_KEY, plain);
}

int vocab_set_templates(struct vocab *v, struct err *e)
{
    json_t *outside = NULL;
    if (read_outside(v, &outside, e)) {
        json_decref(outside);
        return -1;
    }
    const json_t *stated = json_object_get(v->config, "chat_template");
    const json_t *chosen = stated ? stated : outside;
    if (json_is_string(chosen))
        set_string(&v->m->kvs, TEMPLATE_KEY, chosen);
    else if (json_is_array(chosen))
        set_list(v, chosen);
    json_decref(outside);
    return 0;
}
