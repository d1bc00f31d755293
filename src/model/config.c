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

enum { CONFIG_WIDE = 1 << 24 };

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

const json_t *config_field(const struct config *c, const char *names)
{
    while (*names) {
        size_t n = strcspn(names, "|");
        char *name = xstrndup(names, n);
        const json_t *v = json_object_get(c->fields, name);
        xfree(name);
        if (v)
            return v;
        names += n + (names[n] == '|');
    }
    return NULL;
}

/* An integer from 1 to max under one of the names; absent or null gives `fallback`, or an error
 * when that is 0. */
static int read_count(const struct config *c, const char *names, int64_t max, uint32_t fallback,
                      uint32_t *out, struct err *e)
{
    const json_t *v = config_field(c, names);
    int n = (int)strcspn(names, "|");
    if (!v || json_is_null(v)) {
        if (fallback == 0)
            return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                           "%s has no %.*s, which every %s states", c->where, n, names,
                           c->arch->hf_name);
        *out = fallback;
        return 0;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > max) {
        char *name = xstrndup(names, (size_t)n);
        bad_number(c, name, v, max, e);
        xfree(name);
        return -1;
    }
    *out = (uint32_t)json_integer_value(v);
    return 0;
}

static int read_positive(const struct config *c, const json_t *v, const char *key, double *out,
                         struct err *e)
{
    if (!v || json_is_null(v))
        return 0;
    *out = json_is_number(v) ? json_number_value(v) : -1;
    if (!(*out > 0) || !isfinite(*out))
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: %s is not a positive number", c->where, key);
    return 0;
}

static enum config_flag read_flag(const struct config *c, const char *key)
{
    const json_t *v = json_object_get(c->fields, key);
    return json_is_true(v) ? FLAG_YES : json_is_false(v) ? FLAG_NO : FLAG_UNSET;
}

/* ---- sizes ---- */

static int read_experts(struct config *c, struct err *e)
{
    const json_t *n = config_field(c, "num_local_experts|num_experts|n_routed_experts");
    if (!n || json_is_null(n) || (json_is_integer(n) && json_integer_value(n) == 0))
        return read_count(c, "", CONFIG_WIDE, c->ffn, &c->expert_ffn, e);
    return read_count(c, "num_local_experts|num_experts|n_routed_experts", 4096, 0, &c->experts,
                      e) ||
                   read_count(c, "moe_intermediate_size", CONFIG_WIDE, c->ffn, &c->expert_ffn, e)
               ? -1
               : 0;
}

/* Lists of one number per block have their length checked where a block asks for it. */
static bool is_list(const struct config *c, const char *names)
{
    return c->arch->by_layer && json_is_array(config_field(c, names));
}

static int read_sizes(struct config *c, struct err *e)
{
    static const char ffn[] = "intermediate_size|n_inner|ffn_hidden_size|ffn_dim|hidden_dim";
    static const char heads[] = "num_attention_heads|n_head|n_heads";
    static const char context[] = "max_position_embeddings|n_positions|n_ctx|max_seq_len|"
                                  "seq_length|max_context_length|max_sequence_length";
    if (read_count(c, "vocab_size|padded_vocab_size", MODEL_VOCAB_MAX, 0, &c->vocab_size, e) ||
        read_count(c, "hidden_size|n_embd|d_model|n_embed|model_dim|dim", CONFIG_WIDE, 0,
                   &c->hidden, e))
        return -1;
    uint32_t derived = c->arch->bare ? 2 * c->hidden : c->arch->ffn_derived ? 4 * c->hidden : 0;
    if (is_list(c, ffn))
        c->ffn = c->hidden;
    else if (read_count(c, ffn, CONFIG_WIDE, derived, &c->ffn, e))
        return -1;
    if (read_count(c, "num_hidden_layers|n_layer|n_layers|num_layers|num_transformer_layers",
                   MODEL_LAYERS_MAX, 0, &c->layers, e))
        return -1;
    c->heads = 1;
    if (!c->arch->bare && !is_list(c, heads) && read_count(c, heads, 65536, 0, &c->heads, e))
        return -1;
    return read_count(c, context, CONFIG_WIDE, c->arch->bare ? 1 << 20 : 0, &c->context, e) ||
                   read_experts(c, e)
               ? -1
               : 0;
}

static int bad_relation(const struct config *c, struct err *e)
{
    if (c->heads % c->kv_heads != 0)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: num_attention_heads %u is not a multiple of num_key_value_heads %u",
                       c->where, c->heads, c->kv_heads);
    if (c->head_dim % 2 != 0 && !c->arch->bare)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: head_dim is %u, but rotary positions need an even number", c->where,
                       c->head_dim);
    return 0;
}

/* What follows is stated from here on, as transformers' classes state it. */
static void state(struct config *c, const char *key, uint32_t value)
{
    if (!json_is_number(json_object_get(c->fields, key)))
        json_object_set_new(c->fields, key, json_integer(value));
}

static int read_heads(struct config *c, struct err *e)
{
    static const char kv[] = "num_key_value_heads|num_kv_heads|n_head_kv|n_kv_heads|"
                             "multi_query_group_num|num_query_groups";
    c->kv_heads = c->heads;
    if (!c->arch->bare && !is_list(c, kv) && read_count(c, kv, 65536, c->heads, &c->kv_heads, e))
        return -1;
    const json_t *dim = json_object_get(c->fields, "head_dim");
    bool stated = dim && !json_is_null(dim);
    if (!stated && c->hidden % c->heads != 0)
        return err_set(
            e, ERR_INPUT, "compare config.json with the one of the original model",
            "%s: hidden_size %u is not a multiple of num_attention_heads %u, and there is "
            "no head_dim",
            c->where, c->hidden, c->heads);
    if (read_count(c, "head_dim", 65536, c->hidden / c->heads, &c->head_dim, e) ||
        bad_relation(c, e))
        return -1;
    if (!c->arch->bare && !is_list(c, kv))
        state(c, "num_key_value_heads", c->kv_heads);
    if (c->arch->head_dim_derived)
        state(c, "head_dim", c->head_dim);
    return 0;
}

/* ---- positions ---- */

static int rope_kind(struct config *c, struct err *e)
{
    static const struct {
        const char *name;
        enum config_rope rope;
    } kinds[] = {
        {"linear", ROPE_SCALING_LINEAR}, {"yarn", ROPE_SCALING_YARN},
        {"llama3", ROPE_SCALING_LLAMA3}, {"longrope", ROPE_SCALING_LONGROPE},
        {"su", ROPE_SCALING_LONGROPE},   {"default", ROPE_SCALING_NONE},
        {"dynamic", ROPE_SCALING_NONE}, /* libllama has nothing like it below its own context */
    };
    const char *type = json_opt_str(c->rope_object, "rope_type", NULL);
    if (!type)
        type = json_opt_str(c->rope_object, "type", "default");
    bool lists = json_is_array(json_object_get(c->rope_object, "long_factor"));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].name) == 0 && (kinds[i].rope != ROPE_SCALING_LONGROPE || lists)) {
            c->rope = kinds[i].rope;
            return 0;
        }
    }
    return err_set(e, ERR_UNSUPPORTED,
                   "supported kinds of RoPE scaling: linear, yarn, llama3, longrope (with "
                   "long_factor and short_factor), dynamic (ignored)",
                   "%s: RoPE scaling \"%.60s\" cannot be converted", c->where, type);
}

static int read_rope(struct config *c, struct err *e)
{
    const json_t *rope = config_field(c, "rope_parameters|rope_scaling");
    if (rope && !json_is_null(rope) && !json_is_object(rope))
        return err_set(e, ERR_INPUT, NULL, "%s: rope_scaling is not an object", c->where);
    c->rope_object = json_is_object(rope) ? rope : NULL;
    const json_t *sliding = json_object_get(c->rope_object, "sliding_attention");
    const json_t *full = json_object_get(c->rope_object, "full_attention");
    if (json_is_object(full))
        c->rope_object = full;
    if (read_positive(c, config_field(c, "rope_theta|rotary_emb_base"), "rope_theta",
                      &c->rope_theta, e) ||
        read_positive(c, json_object_get(c->rope_object, "rope_theta"), "rope_theta",
                      &c->rope_theta, e) ||
        read_positive(c, config_field(c, "rope_local_base_freq|local_rope_theta"),
                      "rope_local_base_freq", &c->rope_theta_swa, e) ||
        read_positive(c, json_object_get(sliding, "rope_theta"), "rope_theta", &c->rope_theta_swa,
                      e) ||
        read_positive(c, config_field(c, "partial_rotary_factor|rope_pct|rope_percent|rotary_pct"),
                      "partial_rotary_factor", &c->rotary, e) ||
        read_positive(c, json_object_get(c->rope_object, "partial_rotary_factor"),
                      "partial_rotary_factor", &c->rotary, e))
        return -1;
    return rope_kind(c, e);
}

/* ---- kind ---- */

static bool listed(const char *list, const char *word)
{
    size_t k = strlen(word);
    for (; *list; list += strcspn(list, "|"), list += *list == '|')
        if (strcspn(list, "|") == k && memcmp(list, word, k) == 0)
            return true;
    return false;
}

static int check_kind(const struct config *c, struct err *e)
{
    const char *acts = c->arch->acts ? c->arch->acts : "silu|swish";
    const char *first = json_string_value(
        config_field(c, "hidden_activation|hidden_act|activation_function|activation"));
    if (!first || listed(acts, first))
        return 0;
    char *known = xstrndup(acts, strcspn(acts, "|"));
    err_set(e, ERR_UNSUPPORTED, "libllama would compute something else with this model",
            "%s: hidden_act is \"%.60s\"; libllama runs %s with %s", c->where, first,
            c->arch->hf_name, known);
    xfree(known);
    return -1;
}

/* How the router weighs experts, as libllama numbers it. */
static int read_gating(struct config *c, struct err *e)
{
    static const char *const names[] = {"", "softmax", "sigmoid", NULL};
    const json_t *v = config_field(c, "score_function|scoring_func|score_func|"
                                      "moe_router_activation_func");
    if (!json_is_string(v))
        return 0;
    for (int i = 1; names[i]; i++)
        if (strcmp(names[i], json_string_value(v)) == 0)
            return json_object_set_new(c->fields, "sintra_gating", json_integer(i));
    return err_set(e, ERR_UNSUPPORTED, "known are softmax and sigmoid",
                   "%s: experts are chosen by \"%.60s\", which cannot be converted", c->where,
                   json_string_value(v));
}

bool config_is_moe(const struct config *c, uint32_t layer)
{
    if (c->experts == 0)
        return false;
    const json_t *dense = json_object_get(c->fields, "mlp_only_layers");
    for (size_t i = 0; i < json_array_size(dense); i++)
        if (json_integer_value(json_array_get(dense, i)) == (json_int_t)layer)
            return false;
    int64_t step = json_opt_i64(c->fields, "decoder_sparse_step", 1);
    return (int64_t)layer >= json_opt_i64(c->fields, "first_k_dense_replace", 0) && step > 0 &&
           ((int64_t)layer + 1) % step == 0;
}

/* ---- all of it ---- */

/* The tables write ' for ". */
static json_t *parse_defaults_new(const struct arch *arch, struct err *e)
{
    if (!arch->defaults)
        return json_object();
    char *text = xstrdup(arch->defaults);
    for (char *s = text; *s; s++)
        if (*s == '\'')
            *s = '"';
    json_t *v = json_parse(text, strlen(text), arch->gguf_name, e);
    xfree(text);
    return v;
}

static int merge(struct config *c, const json_t *doc, struct err *e)
{
    c->fields = parse_defaults_new(c->arch, e);
    if (!c->fields)
        return -1;
    json_object_update(c->fields, (json_t *)(uintptr_t)doc);
    json_t *text = json_object_get(doc, "text_config");
    if (json_is_object(text))
        json_object_update(c->fields, text);
    json_object_del(c->fields, "sintra_gating");
    return 0;
}

void config_release(struct config *c)
{
    json_decref(c->fields);
    c->fields = NULL;
}

static int unsupported(const char *where, const char *name, struct err *e)
{
    struct arch_unsupported u;
    size_t n = 0;
    while (model_architectures()[n])
        n++;
    if (arch_unsupported_find(name, &u))
        return err_set(e, ERR_UNSUPPORTED,
                       "convert it with convert_hf_to_gguf.py of llama.cpp and give the GGUF: any "
                       "GGUF can be quantized",
                       "%s: architecture \"%.100s\" cannot be converted, though libllama runs it "
                       "as \"%.*s\": %s",
                       where, name, (int)u.gguf_len, u.gguf, u.why);
    return err_set(e, ERR_UNSUPPORTED,
                   "if another tool makes a GGUF of it, give that: any GGUF can be quantized",
                   "%s: architecture \"%.100s\" is neither among the %zu that can be converted "
                   "(LlamaForCausalLM, Qwen3ForCausalLM, ..., see docs/conversion.md) nor known to "
                   "llama.cpp 0.5.0",
                   where, name, n);
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
    if (merge(c, doc, e))
        return -1;
    c->tied = read_flag(c, "tie_word_embeddings");
    c->attention_bias = read_flag(c, "attention_bias");
    c->mlp_bias = read_flag(c, "mlp_bias");
    if (quantized_read(c, json_object_get(c->fields, "quantization_config"), e) ||
        check_kind(c, e) || read_sizes(c, e) || read_heads(c, e) || read_rope(c, e) ||
        read_gating(c, e))
        return -1;
    return c->arch->derive ? c->arch->derive(c, e) : 0;
}
