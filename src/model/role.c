/* Names of GGUF tensors: what a tensor is for and which block it belongs to.
 *
 * The names are those of gguf-py/gguf/constants.py of llama.cpp 0.5.0. A name is read from its last
 * components only, so that the same rules serve every architecture. */
#include "model/model.h"

#include <string.h>

#include "base/num.h"
#include "base/banned.h"

struct role_rule {
    const char *stem; /* component before ".weight" */
    bool prefix;      /* "ffn_up" also stands for "ffn_up_exps", "ffn_up_shexp" */
    enum model_role role;
};

/* First match wins: the router's name begins like the gate's. */
static const struct role_rule role_rules[] = {
    {"token_embd", false, ROLE_TOKEN_EMBD},   {"per_layer_token_embd", false, ROLE_TOKEN_EMBD},
    {"output", false, ROLE_OUTPUT},           {"attn_qkv", false, ROLE_ATTN_QKV},
    {"attn_kv_b", false, ROLE_ATTN_KV_B},     {"attn_q", false, ROLE_ATTN_Q},
    {"attn_k", false, ROLE_ATTN_K},           {"attn_v", false, ROLE_ATTN_V},
    {"attn_output", false, ROLE_ATTN_OUTPUT}, {"ffn_gate_inp", true, ROLE_ROUTER},
    {"ffn_gate", true, ROLE_FFN_GATE},        {"ffn_up", true, ROLE_FFN_UP},
    {"ffn_down", true, ROLE_FFN_DOWN},        {"rope_freqs", false, ROLE_ROPE},
    {"rope_factors", true, ROLE_ROPE},
};

static const char *const role_names[] = {
    [ROLE_OTHER] = "other",
    [ROLE_TOKEN_EMBD] = "token_embd",
    [ROLE_OUTPUT] = "output",
    [ROLE_NORM] = "norm",
    [ROLE_BIAS] = "bias",
    [ROLE_ATTN_Q] = "attn_q",
    [ROLE_ATTN_K] = "attn_k",
    [ROLE_ATTN_V] = "attn_v",
    [ROLE_ATTN_QKV] = "attn_qkv",
    [ROLE_ATTN_KV_B] = "attn_kv_b",
    [ROLE_ATTN_OUTPUT] = "attn_output",
    [ROLE_FFN_GATE] = "ffn_gate",
    [ROLE_FFN_UP] = "ffn_up",
    [ROLE_FFN_DOWN] = "ffn_down",
    [ROLE_ROUTER] = "router",
    [ROLE_ROPE] = "rope",
};

static bool ends_with(const char *s, size_t n, const char *tail)
{
    size_t k = strlen(tail);
    return n >= k && memcmp(s + n - k, tail, k) == 0;
}

static bool rule_matches(const struct role_rule *r, const char *stem, size_t n)
{
    size_t k = strlen(r->stem);
    if (n < k || memcmp(stem, r->stem, k) != 0)
        return false;
    return n == k || (r->prefix && stem[k] == '_');
}

enum model_role model_role_of(const char *gguf_name)
{
    size_t n = strlen(gguf_name);
    if (ends_with(gguf_name, n, ".bias"))
        return ROLE_BIAS;
    const char *end = ends_with(gguf_name, n, ".weight") ? gguf_name + n - 7 : gguf_name + n;
    const char *stem = end;
    while (stem > gguf_name && stem[-1] != '.')
        stem--;
    size_t len = (size_t)(end - stem);
    if (ends_with(stem, len, "_norm") || (len >= 5 && memcmp(stem, "norm_", 5) == 0))
        return ROLE_NORM;
    for (size_t i = 0; i < sizeof role_rules / sizeof *role_rules; i++)
        if (rule_matches(&role_rules[i], stem, len))
            return role_rules[i].role;
    return ROLE_OTHER;
}

const char *model_role_name(enum model_role role)
{
    return (size_t)role < sizeof role_names / sizeof *role_names ? role_names[role] : "?";
}

int model_layer_of(const char *gguf_name)
{
    const char *s = strstr(gguf_name, "blk.");
    if (!s || (s != gguf_name && s[-1] != '.'))
        return -1;
    int layer = 0;
    const char *digit = s + 4;
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        if (layer > 1000000)
            return -1;
        layer = layer * 10 + (*digit - '0');
    }
    return digit > s + 4 && *digit == '.' ? layer : -1;
}
