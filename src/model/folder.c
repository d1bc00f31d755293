/* A Hugging Face folder as a model: config, weights, metadata and vocabulary in that order.
 *
 * Files read: config.json, quantize_config.json, model*.safetensors with their index,
 * generation_config.json, tokenizer.json, tokenizer_config.json, special_tokens_map.json,
 * added_tokens.json, chat_template.jinja, README.md. No code of the folder is ever run. Keys and
 * tensors come out as convert_hf_to_gguf.py of llama.cpp 0.5.0 writes them; docs/conversion.md
 * lists where we differ on purpose. */
#include "model/config_int.h"

#include <string.h>

#include "base/banned.h"

int folder_read_json(const struct model *m, const char *file, size_t bytes_max, bool required,
                     json_t **doc, struct err *e)
{
    *doc = NULL;
    char *path = fs_join(m->path, file);
    int failed = 0;
    if (fs_exists(path)) {
        *doc = json_read_python(path, bytes_max, e);
        failed = *doc ? 0 : -1;
    } else if (required) {
        failed = err_set(e, ERR_MISSING,
                         "a Hugging Face model folder holds config.json, tokenizer.json and "
                         "model*.safetensors",
                         "%s has no %s", m->path, file);
    }
    if (*doc && !json_is_object(*doc)) {
        failed = err_set(e, ERR_INPUT, "fetch the file again", "%s is not a JSON object", path);
        json_decref(*doc);
        *doc = NULL;
    }
    xfree(path);
    return failed;
}

static void describe(struct model *m, const struct config *c)
{
    struct model_desc *d = &m->desc;
    d->architecture = c->arch->gguf_name;
    d->n_layer = c->layers;
    d->n_head = c->heads;
    d->n_head_kv = c->kv_heads;
    d->n_expert = c->experts;
    d->n_embd = c->hidden;
    d->n_ff = c->ffn;
    d->n_vocab = c->vocab_size;
    d->n_ctx_train = c->context;
    d->head_dim = c->head_dim;
    if (c->arch->bare) /* no attention: nothing is cached, whatever the length */
        d->n_head = d->n_head_kv = d->head_dim = 0;
    d->encoder = c->arch->encoder;
    const json_t *by_block = json_object_get(c->fields, "sintra_kv_heads");
    d->bare_first_layer = by_block && json_integer_value(json_array_get(by_block, 0)) == 0;
    d->tied = model_find(m, "output.weight") < 0;
}

static int open_with_config(struct model *m, const struct config *c, const json_t *doc,
                            struct err *e)
{
    if (shards_open(m, e) || bind_tensors(m, c, e))
        return -1;
    describe(m, c);
    gguf_set_str(&m->kvs, "general.architecture", c->arch->gguf_name);
    rope_set_attention(&m->kvs, c);
    if (general_set(m, doc, e) || arch_set_keys(&m->kvs, c, e) || vocab_set(m, c, doc, e))
        return -1;
    m->desc.name = gguf_get_str(&m->kvs, "general.name");
    return 0;
}

/* GPTQ's first tools wrote a file of their own instead of a part of config.json. */
static int add_quantize_config(const struct model *m, json_t *doc, struct err *e)
{
    json_t *own = NULL;
    if (json_object_get(doc, "quantization_config"))
        return 0;
    if (folder_read_json(m, "quantize_config.json", MODEL_CONFIG_BYTES_MAX, false, &own, e))
        return -1;
    if (own && !json_object_get(own, "quant_method"))
        json_object_set_new(own, "quant_method", json_string("gptq"));
    if (own)
        json_object_set_new(doc, "quantization_config", own);
    return 0;
}

int folder_open(struct model *m, struct err *e)
{
    json_t *doc = NULL;
    struct config c = {0};
    if (folder_read_json(m, "config.json", MODEL_CONFIG_BYTES_MAX, true, &doc, e) ||
        add_quantize_config(m, doc, e)) {
        json_decref(doc);
        return -1;
    }
    const char *where = arena_printf(&m->arena, "%s/config.json", m->path);
    int failed = config_read(&c, doc, where, e) || open_with_config(m, &c, doc, e) ? -1 : 0;
    config_release(&c);
    json_decref(doc);
    return failed;
}
