/* Model cards: README.md as the hub shows it, from documents alone.
 *
 * YAML front matter (license, base_model, quantized_by, tags), then what was measured, the recipe,
 * and how to run the file in llama.cpp and Ollama. Texts that come from a model are written as
 * double-quoted YAML scalars, which JSON strings are. A card is for others, and so is the report
 * that is published with it: of paths on this machine they have the last part at most.
 */
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"
#include "run/page_int.h"
#include "run/run.h"

#include "base/banned.h"

enum { CARD_BYTES_MAX = 4 << 20 };

/* ".../models--ORG--NAME/snapshots/..." → "ORG/NAME"; NULL when the model is not of the hub's
 * cache. xfree. */
static char *cached_name(const char *path)
{
    static const char before[] = "/models--";
    const char *begin = strstr(path, before), *end = begin ? strstr(begin, "/snapshots/") : NULL;
    begin = begin ? begin + sizeof(before) - 1 : NULL;
    const char *dashes = begin && end ? strstr(begin, "--") : NULL;
    if (!dashes || dashes >= end)
        return NULL;
    return xasprintf("%.*s/%.*s", (int)(dashes - begin), begin, (int)(end - dashes - 2),
                     dashes + 2);
}

/* ---- front matter ---- */

/* The key, then the value as a quoted scalar. */
static void add_field(struct buf *b, const char *key, const char *value)
{
    json_t *text = value ? json_string(value) : NULL;
    char *quoted = text ? json_text(text, false) : NULL;
    if (quoted)
        buf_addf(b, "%s%s\n", key, quoted);
    xfree(quoted);
    json_decref(text);
}

static void add_front_matter(struct buf *b, const json_t *model, const char *base_model)
{
    char *found = base_model ? NULL : cached_name(json_opt_str(model, "path", ""));
    bool encoder = json_opt_bool(model, "encoder", false);
    buf_adds(b, "---\n");
    add_field(b, "license: ", json_opt_str(model, "license", NULL));
    add_field(b, "license_name: ", json_opt_str(model, "license_name", NULL));
    add_field(b, "license_link: ", json_opt_str(model, "license_link", NULL));
    if (base_model || found) {
        add_field(b, "base_model: ", base_model ? base_model : found);
        buf_adds(b, "base_model_relation: quantized\n");
    }
    buf_addf(b, "quantized_by: sintra\npipeline_tag: %s\ntags:\n- gguf\n- quantized\n- sintra\n",
             encoder ? "feature-extraction" : "text-generation");
    add_field(b, "- ", json_opt_str(model, "architecture", NULL));
    buf_adds(b, "---\n\n");
    xfree(found);
}

static void add_recipe(struct buf *b, const json_t *recipe)
{
    char *text = json_is_object(recipe) ? json_text(recipe, true) : NULL;
    if (text)
        buf_addf(b,
                 "\n## Recipe\n\nWhich type each tensor has (`sintra quantize --recipe`):\n\n"
                 "```json\n%s\n```\n",
                 text);
    xfree(text);
}

/* ---- the card of an optimized model ---- */

static void set_base_name(json_t *o, const char *key)
{
    const char *path = json_string_value(json_object_get(o, key));
    if (path)
        json_object_set_new(o, key, json_string(fs_basename(path)));
}

/* Whatever is an absolute path. */
static void hide_paths(json_t *o)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(o, next, key, value)
    {
        const char *text = json_string_value(value);
        if (text && (text[0] == '/' || text[0] == '~'))
            set_base_name(o, key);
        else
            hide_paths(value);
    }
    for (size_t i = 0; i < json_array_size(o); i++)
        hide_paths(json_array_get(o, i));
}

json_t *run_report_public_new(const json_t *report, const char *base_model)
{
    json_t *copy = json_deep_copy(report), *model = json_object_get(copy, "model");
    char *cached = cached_name(json_opt_str(model, "path", ""));
    json_object_del(copy, "notes");
    set_base_name(copy, "corpus");
    set_base_name(copy, "out");
    set_base_name(model, "path");
    if (json_is_object(model) && (base_model || cached))
        json_object_set_new(model, "path", json_string(base_model ? base_model : cached));
    hide_paths(copy);
    xfree(cached);
    return copy;
}

char *run_card_markdown(const json_t *report, const char *base_model)
{
    struct buf b;
    json_t *shown = run_report_public_new(report, base_model);
    char *body = run_report_markdown(shown);
    buf_init(&b, CARD_BYTES_MAX);
    add_front_matter(&b, json_object_get(report, "model"), base_model);
    buf_adds(&b, body);
    add_recipe(&b, json_object_get(json_object_get(report, "best"), "recipe"));
    xfree(body);
    json_decref(shown);
    return buf_take(&b);
}

/* ---- the card of one file ---- */

static void add_types(struct buf *b, const json_t *types)
{
    const json_t *t;
    size_t i;
    char size[NUM_TEXT_MAX];
    buf_adds(b, "\n| type | tensors | bytes |\n|---|---|---|\n");
    json_array_foreach(types, i, t)
    {
        buf_addf(b, "| %s | %lld | %s |\n", json_opt_str(t, "type", "?"),
                 (long long)json_opt_i64(t, "tensors", 0),
                 num_format_size((uint64_t)json_opt_i64(t, "bytes", 0), size));
    }
}

/* As a shell reads it. xfree. */
static char *shell_word(const char *name)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+=@,";
    struct buf b;
    buf_init(&b, 8 * strlen(name) + 8);
    bool quote = name[strspn(name, plain)] != 0 || name[0] == '-';
    if (!quote)
        buf_adds(&b, name);
    else if (name[0] == '-')
        buf_adds(&b, "'./");
    else
        buf_addc(&b, '\'');
    for (; quote && *name; name++)
        if (*name == '\'')
            buf_adds(&b, "'\\''");
        else
            buf_addc(&b, *name);
    if (quote)
        buf_addc(&b, '\'');
    char *word = xstrdup(buf_str(&b));
    buf_release(&b);
    return word;
}

static void add_file_use(struct buf *b, const char *name, const json_t *recipe, bool encoder)
{
    char options[CACHE_LABEL_MAX], ollama[CACHE_SENTENCE_MAX], *file = shell_word(name);
    cache_options(recipe, options);
    cache_ollama_text(recipe, ollama);
    if (encoder)
        buf_addf(b,
                 "\n## Run it\n\nllama.cpp:\n\n    llama-embedding -m %s -p \"a text\"\n"
                 "    llama-server -m %s --embeddings\n",
                 file, file);
    else
        buf_addf(b,
                 "\n## Run it\n\nllama.cpp:\n\n    llama-cli -m %s%s\n    llama-server -m %s%s\n",
                 file, options, file, options);
    buf_addf(b,
             "\nOllama:\n\n    echo FROM ./%s > Modelfile && ollama create my-model -f "
             "Modelfile\n%s%s%s",
             file, ollama[0] ? "\n" : "", ollama, ollama[0] ? "\n" : "");
    xfree(file);
}

char *run_card_of_file(const json_t *file)
{
    struct buf b;
    const json_t *model = json_object_get(file, "model");
    const char *name = fs_basename(json_opt_str(file, "output", "model.gguf"));
    const char *sha256 = json_opt_str(file, "sha256", NULL);
    const json_t *option;
    size_t i;
    char count[NUM_TEXT_MAX], size[NUM_TEXT_MAX];
    buf_init(&b, CARD_BYTES_MAX);
    add_front_matter(&b, model, NULL);
    buf_addf(&b, "# %s, %s\n\n%s parameters, architecture %s. %s: %s, %.3f bits per weight.\n",
             json_opt_str(model, "name", "model"), json_opt_str(file, "base", "?"),
             num_format_count((uint64_t)json_opt_i64(model, "parameters", 0), count),
             json_opt_str(model, "architecture", "?"), name,
             num_format_size((uint64_t)json_opt_i64(file, "bytes", 0), size),
             json_opt_real(file, "bpw", 0));
    if (sha256)
        buf_addf(&b, "SHA-256: `%s`\n", sha256);
    buf_adds(&b, "\nNot measured: `sintra eval` compares the file with the original.\n");
    add_types(&b, json_object_get(file, "types"));
    json_array_foreach(json_object_get(file, "options"), i, option)
    {
        buf_addf(&b, "%s`%s`", i == 0 ? "\nWith " : ", ", json_string_value(option));
    }
    if (i > 0)
        buf_adds(&b, ".\n");
    add_file_use(&b, name, json_object_get(file, "recipe"), json_opt_bool(model, "encoder", false));
    add_recipe(&b, json_object_get(file, "recipe"));
    return buf_take(&b);
}
