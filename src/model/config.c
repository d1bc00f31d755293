/* Reading config.json: required fields, defaults by architecture, and the relations between them.
 *
 * Refuses what would only fail later and less clearly: heads that do not divide, odd rotary
 * dimensions, already quantized checkpoints, activations that libllama does not have. Defaults are
 * those of the configuration classes of transformers 4.57.6 (see arch_int.h). */
#include "model/config_int.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/banned.h"

static int bad_number(const struct config *c, const char *key, const json_t *v, int64_t max,
                      struct err *e)
{
    char *found = json_text(v, false);
    err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
            "%s: %s is %.60s, expected an integer from 1 to %lld", c->where, key,
            found ? found : "of a type that has no text", (long long)max);
    xfree(found);
    return -1;
}

/* An integer from 1 to max; absent or null gives `fallback`, or an error when that is 0. */
static int read_count(const struct config *c, const json_t *doc, const char *key, int64_t max,
                      uint32_t fallback, uint32_t *out, struct err *e)
{
    const json_t *v = json_object_get(doc, key);
    if (!v || json_is_null(v)) {
        if (fallback == 0)
            return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                           "%s has no %s, which every %s states", c->where, key, c->arch->hf_name);
        *out = fallback;
        return 0;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > max)
        return bad_number(c, key, v, max, e);
    *out = (uint32_t)json_integer_value(v);
    return 0;
}

static int read_positive(const struct config *c, const json_t *doc, const char *key,
                         double fallback, double *out, struct err *e)
{
    const json_t *v = json_object_get(doc, key);
    *out = !v || json_is_null(v) ? fallback : json_is_number(v) ? json_number_value(v) : -1;
    if (!(*out > 0) || !isfinite(*out))
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: %s is not a positive number", c->where, key);
    return 0;
}

static enum config_flag read_flag(const json_t *doc, const char *key)
{
    const json_t *v = json_object_get(doc, key);
    return json_is_true(v) ? FLAG_YES : json_is_false(v) ? FLAG_NO : FLAG_UNSET;
}

static int read_sizes(struct config *c, const json_t *doc, struct err *e)
{
    const int64_t wide = 1 << 24;
    return read_count(c, doc, "vocab_size", MODEL_VOCAB_MAX, 0, &c->vocab_size, e) ||
                   read_count(c, doc, "hidden_size", wide, 0, &c->hidden, e) ||
                   read_count(c, doc, "intermediate_size", wide, 0, &c->ffn, e) ||
                   read_count(c, doc, "num_hidden_layers", MODEL_LAYERS_MAX, 0, &c->layers, e) ||
                   read_count(c, doc, "num_attention_heads", 65536, 0, &c->heads, e) ||
                   read_count(c, doc, "max_position_embeddings", wide, c->arch->context,
                              &c->context, e)
               ? -1
               : 0;
}

static int read_heads(struct config *c, const json_t *doc, struct err *e)
{
    const json_t *kv = json_object_get(doc, "num_key_value_heads");
    uint32_t kv_default = !kv && c->arch->kv_heads ? c->arch->kv_heads : c->heads;
    if (read_count(c, doc, "num_key_value_heads", 65536, kv_default, &c->kv_heads, e))
        return -1;
    const json_t *dim = json_object_get(doc, "head_dim");
    bool stated = dim && !json_is_null(dim);
    uint32_t dim_default = c->arch->head_dim && !dim ? c->arch->head_dim : c->hidden / c->heads;
    if (!stated && dim_default != c->arch->head_dim && c->hidden % c->heads != 0)
        return err_set(
            e, ERR_INPUT, "compare config.json with the one of the original model",
            "%s: hidden_size %u is not a multiple of num_attention_heads %u, and there is "
            "no head_dim",
            c->where, c->hidden, c->heads);
    if (read_count(c, doc, "head_dim", 65536, dim_default, &c->head_dim, e))
        return -1;
    c->head_dim_stated = stated || c->arch->head_dim_stated;
    if (c->heads % c->kv_heads != 0)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: num_attention_heads %u is not a multiple of num_key_value_heads %u",
                       c->where, c->heads, c->kv_heads);
    if (c->head_dim % 2 != 0)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: head_dim is %u, but rotary positions need an even number", c->where,
                       c->head_dim);
    return 0;
}

static int read_rope(struct config *c, const json_t *doc, struct err *e)
{
    const json_t *rope = json_object_get(doc, "rope_parameters");
    if (!rope)
        rope = json_object_get(doc, "rope_scaling");
    if (rope && !json_is_null(rope) && !json_is_object(rope))
        return err_set(e, ERR_INPUT, NULL, "%s: rope_scaling is not an object", c->where);
    c->rope_object = json_is_object(rope) ? rope : NULL;
    if (read_positive(c, doc, "rope_theta", 10000.0, &c->rope_theta, e) ||
        (c->rope_object &&
         read_positive(c, c->rope_object, "rope_theta", c->rope_theta, &c->rope_theta, e)))
        return -1;
    const char *type = json_opt_str(c->rope_object, "rope_type", NULL);
    if (!type)
        type = json_opt_str(c->rope_object, "type", "default");
    if (strcmp(type, "linear") == 0)
        c->rope = ROPE_SCALING_LINEAR;
    else if (strcmp(type, "yarn") == 0)
        c->rope = ROPE_SCALING_YARN;
    else if (strcmp(type, "llama3") == 0)
        c->rope = ROPE_SCALING_LLAMA3;
    else if (strcmp(type, "default") == 0 || strcmp(type, "dynamic") == 0)
        c->rope =
            ROPE_SCALING_NONE; /* dynamic: libllama has nothing like it below its own context */
    else
        return err_set(e, ERR_UNSUPPORTED,
                       "supported kinds of RoPE scaling: linear, yarn, llama3, dynamic (ignored)",
                       "%s: RoPE scaling \"%.60s\" cannot be converted", c->where, type);
    return 0;
}

static int check_kind(const struct config *c, const json_t *doc, struct err *e)
{
    const json_t *quantized = json_object_get(doc, "quantization_config");
    if (json_is_object(quantized))
        return err_set(e, ERR_UNSUPPORTED,
                       "use the float checkpoint (BF16, F16 or F32) it was made of",
                       "%s: the checkpoint is already quantized (%.60s)", c->where,
                       json_opt_str(quantized, "quant_method", "unnamed method"));
    const char *act = json_opt_str(doc, "hidden_act", "silu");
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return err_set(e, ERR_UNSUPPORTED, "only models with the silu activation can be converted",
                       "%s: hidden_act is \"%.60s\"; libllama runs %s with silu", c->where, act,
                       c->arch->hf_name);
    return 0;
}

static int unsupported(const char *where, const char *name, struct err *e)
{
    struct buf list;
    buf_init(&list, 400);
    for (const char *const *a = model_architectures(); *a; a++)
        buf_addf(&list, "%s%s", list.len ? ", " : "", *a);
    err_set(e, ERR_UNSUPPORTED,
            "convert the folder to GGUF with another tool and give that: any GGUF can be quantized",
            "%s: architecture \"%.100s\" is not supported; supported are %s", where, name,
            buf_str(&list));
    buf_release(&list);
    return -1;
}

int config_read(struct config *c, const json_t *doc, const char *where, struct err *e)
{
    *c = (struct config){.where = where};
    const json_t *list = json_object_get(doc, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    if (!name)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s does not name an architecture (\"architectures\": [\"...\"])", where);
    c->arch = arch_find(name);
    if (!c->arch)
        return unsupported(where, name, e);
    c->tied = read_flag(doc, "tie_word_embeddings");
    c->attention_bias = read_flag(doc, "attention_bias");
    c->mlp_bias = read_flag(doc, "mlp_bias");
    if (check_kind(c, doc, e) || read_sizes(c, doc, e) || read_heads(c, doc, e) ||
        read_rope(c, doc, e) || read_positive(c, doc, "rms_norm_eps", 1e-6, &c->rms_eps, e))
        return -1;
    return 0;
}

uint64_t config_dim(const struct config *c, enum arch_dim dim)
{
    switch (dim) {
    case DIM_HIDDEN:
        return c->hidden;
    case DIM_FFN:
        return c->ffn;
    case DIM_VOCAB:
        return c->vocab_size;
    case DIM_Q:
        return (uint64_t)c->heads * c->head_dim;
    case DIM_KV:
        return (uint64_t)c->kv_heads * c->head_dim;
    case DIM_HEAD:
        return c->head_dim;
    case DIM_NONE:
        break;
    }
    return 1;
}
