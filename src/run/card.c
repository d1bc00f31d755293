/* The model card of a result: README.md as the hub shows it, from the result document alone.
 *
 * YAML front matter (base_model, quantized_by, tags), then the report that report.md is. Texts that
 * come from a model are written as double-quoted YAML scalars, which JSON strings are.
 */
#include <string.h>

#include "base/buf.h"
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
