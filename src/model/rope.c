/* RoPE scaling: metadata for linear and YaRN, a tensor of frequency factors for llama3.
 *
 * llama3 scaling (Llama 3.1): wavelengths shorter than original_context / high_freq_factor stay,
 * those longer than original_context / low_freq_factor are stretched by `factor`, and between the
 * two the frequency is interpolated. libllama divides each frequency by rope_freqs.weight[j], so
 * the factors are 1, `factor`, and 1 / ((1 - s) / factor + s). Single precision and order of
 * operations follow generate_extra_tensors in conversion/llama.py of llama.cpp 0.5.0. */
#include "model/config_int.h"

#include <math.h>
#include <string.h>

#include "base/banned.h"

static int need_real(const struct config *c, const char *key, double *out, struct err *e)
{
    const json_t *v = json_object_get(c->rope_object, key);
    *out = json_is_number(v) ? json_number_value(v) : 0;
    if (!(*out > 0) || !isfinite(*out))
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: RoPE scaling needs a positive %s", c->where, key);
    return 0;
}

static void set_real(struct gguf_kvs *k, const struct config *c, const char *suffix, double v)
{
    char *key = xasprintf("%s.rope.%s", c->arch->gguf_name, suffix);
    gguf_set_f32(k, key, (float)v);
    xfree(key);
}

static void set_type(struct gguf_kvs *k, const struct config *c, const char *type)
{
    char *key = xasprintf("%s.rope.scaling.type", c->arch->gguf_name);
    gguf_set_str(k, key, type);
    xfree(key);
}

struct yarn_key {
    const char *field, *other, *suffix;
};

static const struct yarn_key yarn_keys[] = {
    {"extrapolation_factor", "", "scaling.yarn_ext_factor"},
    {"attention_factor", "attn_factor", "scaling.yarn_attn_factor"},
    {"beta_fast", "", "scaling.yarn_beta_fast"},
    {"beta_slow", "", "scaling.yarn_beta_slow"},
};

static int set_yarn(struct gguf_kvs *k, const struct config *c, struct err *e)
{
    double factor, context;
    if (need_real(c, "factor", &factor, e) ||
        need_real(c, "original_max_position_embeddings", &context, e))
        return -1;
    if (context > UINT32_MAX)
        return err_set(e, ERR_INPUT, NULL, "%s: original_max_position_embeddings is out of range",
                       c->where);
    set_type(k, c, "yarn");
    set_real(k, c, "scaling.factor", factor);
    char *key = xasprintf("%s.rope.scaling.original_context_length", c->arch->gguf_name);
    gguf_set_u32(k, key, (uint32_t)context);
    xfree(key);
    for (size_t i = 0; i < sizeof yarn_keys / sizeof *yarn_keys; i++) {
        const json_t *v = json_object_get(c->rope_object, yarn_keys[i].field);
        if (!v)
            v = json_object_get(c->rope_object, yarn_keys[i].other);
        if (json_is_number(v))
            set_real(k, c, yarn_keys[i].suffix, json_number_value(v));
    }
    return 0;
}

int rope_set(struct gguf_kvs *k, const struct config *c, struct err *e)
{
    double factor;
    if (c->rope == ROPE_SCALING_LINEAR) {
        if (need_real(c, "factor", &factor, e))
            return -1;
        set_type(k, c, "linear");
        set_real(k, c, "scaling.factor", factor);
    } else if (c->rope == ROPE_SCALING_YARN && set_yarn(k, c, e)) {
        return -1;
    } else if (c->rope == ROPE_SCALING_LONGROPE) {
        set_type(k, c, "longrope");
    }
    if (c->rope_theta > 0)
        set_real(k, c, "freq_base", c->rope_theta);
    if (c->rope_theta_swa > 0)
        set_real(k, c, "freq_base_swa", c->rope_theta_swa);
    return 0;
}

int rope_factors(const struct config *c, float *factors, struct err *e)
{
    const json_t *rope = c->rope_object;
    double factor = json_opt_real(rope, "factor", 8.0);
    double low = json_opt_real(rope, "low_freq_factor", 1.0);
    double high = json_opt_real(rope, "high_freq_factor", 4.0);
    double context = json_opt_real(rope, "original_max_position_embeddings", 8192.0);
    if (!(factor > 0) || !(low > 0) || !(high > low) || !(context > 0) || !isfinite(factor) ||
        !isfinite(high) || !isfinite(context))
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: llama3 RoPE scaling needs factor > 0, 0 < low_freq_factor < "
                       "high_freq_factor and original_max_position_embeddings > 0",
                       c->where);
    double theta = c->rope_theta > 0 ? c->rope_theta : 10000.0;
    for (uint32_t j = 0; j < c->head_dim / 2; j++) {
        float power = (float)(2 * j) / (float)c->head_dim;
        float frequency = 1.0f / (float)pow(theta, (double)power);
        float wave = (1.0f / frequency) * (float)(2 * 3.14159265358979323846);
        float smooth = ((1.0f / wave) * (float)context - (float)low) / (float)(high - low);
        if (wave < (float)(context / high))
            factors[j] = 1.0f;
        else if (wave > (float)(context / low))
            factors[j] = (float)factor;
        else
            factors[j] = 1.0f / ((1.0f - smooth) / (float)factor + smooth);
    }
    return 0;
}

/* Long context by two lists of factors (Phi 3): attention is scaled by sqrt(1 + ln(s) / ln(c)), s
 * being how far the context c was stretched. */
int rope_attention_factor(struct config *c, struct err *e)
{
    if (c->rope != ROPE_SCALING_LONGROPE)
        return 0;
    double original;
    if (json_need_real(c->fields, "original_max_position_embeddings", c->where, &original, e))
        return -1;
    if (!(original > 1))
        return err_set(e, ERR_INPUT, NULL, "%s: original_max_position_embeddings is out of range",
                       c->where);
    double scale = c->context / original;
    double factor = scale > 1 ? sqrt(1 + log(scale) / log(original)) : 1;
    json_object_set_new(c->fields, "sintra_attn_factor", json_real(factor));
    return 0;
}

/* Stands before all other keys, since it comes with the two tensors. */
void rope_set_attention(struct gguf_kvs *k, const struct config *c)
{
    const json_t *factor = json_object_get(c->fields, "sintra_attn_factor");
    if (json_is_number(factor))
        set_real(k, c, "scaling.attn_factor", json_number_value(factor));
}

int rope_list(const struct config *c, const char *key, float *factors, size_t n, struct err *e)
{
    const json_t *list = json_object_get(c->rope_object, key);
    if (json_array_size(list) != n)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s: RoPE scaling needs %zu numbers in %s, found %zu", c->where, n, key,
                       json_array_size(list));
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        double x = json_is_number(v) ? json_number_value(v) : 0;
        if (!(x > 0) || !isfinite(x))
            return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                           "%s: RoPE scaling: number %zu of %s is not positive", c->where, i, key);
        factors[i] = (float)x;
    }
    return 0;
}
