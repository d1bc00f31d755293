/* general.*: what a file says about itself, from generation_config.json, the model card and names.
 *
 * Keys, their order and which source wins follow gguf-py/gguf/metadata.py of llama.cpp 0.5.0: the
 * model card first, then _name_or_path of config.json, then the folder's name. None of it changes
 * what a model computes, and nothing in it is an error. */
#include "model/model_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/banned.h"

enum { LIST_MAX = 4096 };

/* ---- sampling defaults
 * -------------------------------------------------------------------------- */

struct sampling_key {
    const char *field, *other, *key;
    enum gguf_type type;
};

static const struct sampling_key sampling_keys[] = {
    {"sequence", NULL, "general.sampling.sequence", GGUF_STR},
    {"top_k", NULL, "general.sampling.top_k", GGUF_I32},
    {"top_p", NULL, "general.sampling.top_p", GGUF_F32},
    {"min_p", NULL, "general.sampling.min_p", GGUF_F32},
    {"xtc_probability", NULL, "general.sampling.xtc_probability", GGUF_F32},
    {"xtc_threshold", NULL, "general.sampling.xtc_threshold", GGUF_F32},
    {"temperature", NULL, "general.sampling.temp", GGUF_F32},
    {"penalty_last_n", NULL, "general.sampling.penalty_last_n", GGUF_I32},
    {"penalty_repeat", "repetition_penalty", "general.sampling.penalty_repeat", GGUF_F32},
    {"mirostat", NULL, "general.sampling.mirostat", GGUF_I32},
    {"mirostat_tau", NULL, "general.sampling.mirostat_tau", GGUF_F32},
    {"mirostat_eta", NULL, "general.sampling.mirostat_eta", GGUF_F32},
};

static int set_sampling(struct model *m, struct err *e)
{
    json_t *doc;
    if (folder_read_json(m, "generation_config.json", MODEL_CONFIG_BYTES_MAX, false, &doc, e))
        return -1;
    for (size_t i = 0; i < sizeof sampling_keys / sizeof *sampling_keys; i++) {
        const struct sampling_key *s = &sampling_keys[i];
        const json_t *v = json_object_get(doc, s->field);
        if (!v && s->other)
            v = json_object_get(doc, s->other);
        if (s->type == GGUF_STR && json_is_string(v))
            gguf_set_str(&m->kvs, s->key, json_string_value(v));
        else if (s->type == GGUF_I32 && json_is_integer(v) &&
                 llabs(json_integer_value(v)) <= INT32_MAX)
            gguf_set_i32(&m->kvs, s->key, (int32_t)json_integer_value(v));
        else if (s->type == GGUF_F32 && json_is_number(v))
            gguf_set_f32(&m->kvs, s->key, (float)json_number_value(v));
    }
    json_decref(doc);
    return 0;
}

/* ---- the card
 * ----------------------------------------------------------------------------------- */

/* First of up to three fields that is text; a list of texts is joined by commas. */
static const char *card_text(struct model *m, const json_t *card, const char *a, const char *b,
                             const char *c)
{
    const char *fields[3] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        const json_t *v = fields[i] ? json_object_get(card, fields[i]) : NULL;
        if (json_is_string(v))
            return arena_strdup(&m->arena, json_string_value(v));
        if (!json_is_array(v) || json_array_size(v) == 0)
            continue;
        struct buf text;
        buf_init(&text, 65536);
        for (size_t k = 0; k < json_array_size(v); k++) {
            const char *item = json_string_value(json_array_get(v, k));
            buf_addf(&text, "%s%s", text.len ? "," : "", item ? item : "");
        }
        const char *joined = arena_strdup(&m->arena, buf_str(&text));
        buf_release(&text);
        return joined;
    }
    return NULL;
}

static size_t add_texts(const json_t *v, struct gguf_str *out, size_t n)
{
    size_t count = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < count && n < LIST_MAX; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;
        if (json_is_string(item))
            out[n++] = (struct gguf_str){json_string_value(item), json_string_length(item)};
    }
    return n;
}

static void set_list(struct model *m, const json_t *card, const char *key, const char *a,
                     const char *b)
{
    struct gguf_str *list = xcalloc(LIST_MAX, sizeof *list);
    size_t n = add_texts(json_object_get(card, a), list, 0);
    n = add_texts(json_object_get(card, b), list, n);
    if (n > 0)
        gguf_set_strs(&m->kvs, key, list, n);
    xfree(list);
}

static void set_numbered(struct model *m, const char *group, size_t i, const char *field,
                         const char *value)
{
    char *key = xasprintf("general.%s.%zu.%s", group, i, field);
    if (value)
        gguf_set_str(&m->kvs, key, value);
    xfree(key);
}

/* An ancestor given by its id or address. */
static void set_relative(struct model *m, const char *group, size_t i, const char *id,
                         uint64_t parameters)
{
    static const char site[] = "huggingface.co"; /* whose ids are ORG/NAME */
    const char *address = strstr(id, "://") ? strstr(id, "://") + 3 : NULL;
    bool http = strncmp(id, "http://", 7) == 0 || strncmp(id, "https://", 8) == 0;
    const char *known = id;
    if (http || strncmp(id, "ssh://", 6) == 0) {
        size_t n = sizeof site - 1;
        bool here = http && strncmp(address, site, n) == 0 && address[n] == '/';
        known = here ? address + n + 1 : NULL;
        const char *slash = known ? strchr(known, '/') : NULL;
        if (!slash || slash == known || !slash[1] || strchr(slash + 1, '/'))
            known = NULL;
    }
    struct naming n = {0};
    if (known)
        naming_parse(&n, known, parameters, &m->arena);
    set_numbered(m, group, i, "name", n.full ? naming_title(n.full, &m->arena) : NULL);
    set_numbered(m, group, i, "version", n.version);
    set_numbered(m, group, i, "organization",
                 n.organization ? naming_title(n.organization, &m->arena) : NULL);
    if (known != id)
        set_numbered(m, group, i, "repo_url", id);
    else if (n.organization)
        set_numbered(m, group, i, "repo_url",
                     arena_printf(&m->arena, "https://%s/%s/%s", site, n.organization, n.full));
}

static const char *const relative_fields[] = {
    "name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url",
};

static void set_relatives(struct model *m, const json_t *card, const char *group,
                          const char *const fields[3], uint64_t parameters)
{
    const json_t *v = NULL;
    for (int i = 0; i < 3 && !v; i++)
        v = json_object_get(card, fields[i]);
    if (!v)
        return;
    size_t count = json_is_array(v) ? json_array_size(v) : json_is_string(v) ? 1 : 0;
    char *key = xasprintf("general.%s.count", group);
    gguf_set_u32(&m->kvs, key, (uint32_t)count);
    xfree(key);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;
        if (json_is_string(item))
            set_relative(m, group, i, json_string_value(item), parameters);
        for (size_t f = 0; json_is_object(item) && f < sizeof relative_fields / sizeof(char *); f++)
            set_numbered(m, group, i, relative_fields[f],
                         json_string_value(json_object_get(item, relative_fields[f])));
    }
}

/* ---- names
 * -------------------------------------------------------------------------------------- */

struct identity {
    const char *name, *author, *version, *organization, *finetune, *basename, *size_label;
};

static void take(const char **to, const char *value)
{
    if (!*to)
        *to = value;
}

static void take_naming(struct model *m, struct identity *id, const char *text, uint64_t parameters)
{
    struct naming n;
    naming_parse(&n, text, parameters, &m->arena);
    take(&id->name, naming_title(n.full, &m->arena));
    take(&id->organization, n.organization ? naming_title(n.organization, &m->arena) : NULL);
    take(&id->basename, n.basename);
    take(&id->finetune, n.finetune);
    take(&id->version, n.version);
    take(&id->size_label, n.size_label);
}

static size_t count_slashes(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += *s == '/';
    return n;
}

/* ".../models--ORG--NAME/snapshots/COMMIT", a model in the hub's cache → "ORG/NAME"; else NULL. */
static char *snapshot_name(const char *path)
{
    static const char before[] = "/models--", after[] = "/snapshots/";
    const char *end = strstr(path, after), *begin = NULL;
    for (const char *p = path; (p = strstr(p, before)) != NULL && p < end; p++)
        begin = p + sizeof before - 1;
    const char *dashes = begin ? strstr(begin, "--") : NULL;
    if (!end || !dashes || dashes >= end)
        return NULL;
    return xasprintf("%.*s/%.*s", (int)(dashes - begin), begin, (int)(end - dashes - 2),
                     dashes + 2);
}

/* The last component of the folder's path, also of "." and "..". */
static char *folder_name(const struct model *m)
{
    const char *base = fs_basename(m->path);
    char *cached = snapshot_name(m->path);
    if (cached)
        return cached;
    if (strcmp(base, ".") != 0 && strcmp(base, "..") != 0)
        return xstrdup(base);
    char *real = realpath(m->path, NULL);
    char *name = xstrdup(real ? fs_basename(real) : base);
    xfree(real);
    return name;
}

static void set_text(struct model *m, const char *key, const char *value)
{
    if (value)
        gguf_set_str(&m->kvs, key, value);
}

static void set_identity(struct model *m, const json_t *config, const json_t *card)
{
    uint64_t parameters = m->desc.parameters;
    struct identity id = {
        .name = card_text(m, card, "name", "model_name", NULL),
        .author = card_text(m, card, "author", "model_author", "model_creator"),
        .version = card_text(m, card, "version", "model_version", NULL),
        .organization = card_text(m, card, "organization", "model_organization", NULL),
        .finetune = card_text(m, card, "finetune", "model_finetune", NULL),
        .basename = card_text(m, card, "basename", "model_basename", "model_type"),
        .size_label = card_text(m, card, "size_label", "model_size_label", NULL),
    };
    const char *path = json_opt_str(config, "_name_or_path", NULL);
    if (path && count_slashes(path) <= 1)
        take_naming(m, &id, path, parameters);
    char *folder = folder_name(m);
    take_naming(m, &id, folder, parameters);
    xfree(folder);
    take(&id.size_label, parameters ? naming_size_label_of(&m->desc, &m->arena) : NULL);
    set_text(m, "general.name", id.name);
    set_text(m, "general.author", id.author);
    set_text(m, "general.version", id.version);
    set_text(m, "general.organization", id.organization);
    set_text(m, "general.finetune", id.finetune);
    set_text(m, "general.basename", id.basename);
    set_text(m, "general.description",
             card_text(m, card, "description", "model_description", NULL));
    set_text(m, "general.size_label", id.size_label);
}

static void set_card(struct model *m, const json_t *card)
{
    static const char *const bases[3] = {"base_model", "base_models", "base_model_sources"};
    static const char *const data[3] = {"datasets", "dataset", "dataset_sources"};
    set_text(m, "general.license", card_text(m, card, "license", NULL, NULL));
    set_text(m, "general.license.name", card_text(m, card, "license_name", NULL, NULL));
    set_text(m, "general.license.link", card_text(m, card, "license_link", NULL, NULL));
    set_text(m, "general.source.url", card_text(m, card, "url", "model_url", NULL));
    set_text(m, "general.source.doi", card_text(m, card, "doi", "model_doi", NULL));
    set_text(m, "general.source.uuid", card_text(m, card, "uuid", "model_uuid", NULL));
    set_text(m, "general.source.repo_url", card_text(m, card, "repo_url", "model_repo_url", NULL));
    set_relatives(m, card, "base_model", bases, m->desc.parameters);
    set_relatives(m, card, "dataset", data, m->desc.parameters);
    set_list(m, card, "general.tags", "tags", "pipeline_tag");
    set_list(m, card, "general.languages", "languages", "language");
}

int general_set(struct model *m, const json_t *config, struct err *e)
{
    gguf_set_str(&m->kvs, "general.type", "model");
    if (set_sampling(m, e))
        return -1;
    char *path = fs_join(m->path, "README.md");
    json_t *card = card_read_new(path);
    xfree(path);
    set_identity(m, config, card);
    set_card(m, card);
    json_decref(card);
    return 0;
}
