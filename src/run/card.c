/* What of a result is for others: the model card, README.md as the hub shows it, and the report
 * without the paths of this machine; both from the result document alone.
 *
 * YAML front matter (base_model, quantized_by, tags), then the report that report.md is. Texts that
 * come from a model are written as double-quoted YAML scalars, which JSON strings are.
 */
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "run/run.h"

#include "base/banned.h"

enum { CARD_BYTES_MAX = 4 << 20 };

/* The key, then the value as a quoted scalar. */
static void add_field(struct buf *b, const char *key, const char *value)
{
    json_t *text = json_string(value);
    char *quoted = text ? json_text(text, false) : NULL;
    if (quoted)
        buf_addf(b, "%s%s\n", key, quoted);
    xfree(quoted);
    json_decref(text);
}

char *run_card_markdown(const json_t *report, const char *base_model)
{
    struct buf b;
    const json_t *model = json_object_get(report, "model");
    char *body = run_report_markdown(report);
    buf_init(&b, CARD_BYTES_MAX);
    buf_adds(&b, "---\n");
    if (base_model)
        add_field(&b, "base_model: ", base_model);
    if (base_model)
        buf_adds(&b, "base_model_relation: quantized\n");
    buf_adds(&b, "quantized_by: sintra\npipeline_tag: text-generation\ntags:\n- gguf\n- quantized\n"
                 "- sintra\n");
    const char *architecture = json_opt_str(model, "architecture", NULL);
    if (architecture)
        add_field(&b, "- ", architecture);
    buf_adds(&b, "---\n\n");
    buf_adds(&b, body);
    xfree(body);
    return buf_take(&b);
}

/* ---- the report ---- */

static void set_base_name(json_t *o, const char *key)
{
    const char *path = json_string_value(json_object_get(o, key));
    if (path)
        json_object_set_new(o, key, json_string(fs_basename(path)));
}

/* Whatever else is an absolute path. */
static void hide_paths(json_t *o)
{
    const char *key;
    json_t *value;
    size_t i;
    void *next;
    json_object_foreach_safe(o, next, key, value)
    {
        const char *text = json_string_value(value);
        if (text && (text[0] == '/' || text[0] == '~'))
            set_base_name(o, key);
        else
            hide_paths(value);
    }
    for (i = 0; i < json_array_size(o); i++)
        hide_paths(json_array_get(o, i));
}

json_t *run_report_public_new(const json_t *report, const char *base_model)
{
    json_t *copy = json_deep_copy(report), *model = json_object_get(copy, "model");
    set_base_name(copy, "out");
    if (base_model && json_is_object(model))
        json_object_set_new(model, "path", json_string(base_model));
    else
        set_base_name(model, "path");
    hide_paths(copy);
    return copy;
}
