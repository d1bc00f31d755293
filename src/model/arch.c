/* The list of architectures, and the metadata keys that their tables ask for.
 *
 * Keys, types and order are those of set_gguf_parameters in conversion/ of llama.cpp 0.5.0. */
#include "model/config_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

/* In order of how often their models are used. */
/* clang-format off */
#define ARCH_LIST(X)                                                                               \
    X(llama) X(mistral) X(mixtral) X(qwen2) X(qwen2moe) X(qwen3) X(qwen3moe) X(gemma) X(gemma2)    \
    X(gemma3) X(phi2) X(phi3) X(gpt2) X(gptneox) X(starcoder) X(bloom) X(mpt) X(stablelm)          \
    X(falcon) X(starcoder2) X(cohere) X(cohere2) X(nemotron) X(olmo) X(olmo2) X(olmo3) X(olmoe)    \
    X(granite) X(granitemoe) X(minicpm) X(deepseek2) X(deepseek3) X(internlm2) X(exaone) X(glm4)   \
    X(mamba) X(smollm3) X(arcee) X(seed_oss) X(exaone4) X(deepseek) X(glm4moe) X(openelm)          \
    X(chatglm) X(glm) X(bert) X(distilbert) X(roberta) X(nomic) X(mamba2) X(gptoss) X(lfm2) X(internlm3) X(ernie)
/* clang-format on */

#define ARCH_DECLARE(name) extern const struct arch arch_##name;
ARCH_LIST(ARCH_DECLARE)

#define ARCH_ADDRESS(name) &arch_##name,
static const struct arch *const all[] = {ARCH_LIST(ARCH_ADDRESS)};

enum { ARCH_COUNT = sizeof all / sizeof *all, ARCH_NAMES_MAX = 4 * ARCH_COUNT };

const struct arch_key arch_base_keys[] = {ARCH_BASE_KEYS, ARCH_KEYS_END};

static bool is_named(const struct arch *a, const char *hf_name)
{
    const char *s = strstr(a->hf_name, hf_name);
    size_t n = strlen(hf_name);
    for (; s && n > 0; s = strstr(s + 1, hf_name))
        if ((s == a->hf_name || s[-1] == '|') && (s[n] == '\0' || s[n] == '|'))
            return true;
    return false;
}

const struct arch *arch_find(const char *hf_name)
{
    for (size_t i = 0; i < ARCH_COUNT; i++)
        if (!strchr(hf_name, '|') && is_named(all[i], hf_name))
            return all[i];
    return NULL;
}

static void split_names(const char *names[], char *text)
{
    size_t n = 0;
    for (size_t i = 0; i < ARCH_COUNT; i++) {
        for (const char *s = all[i]->hf_name; *s && n < ARCH_NAMES_MAX; s += *s == '|') {
            size_t k = strcspn(s, "|");
            memcpy(text, s, k);
            text[k] = '\0';
            names[n++] = text;
            text += k + 1;
            s += k;
        }
    }
    names[n] = NULL;
}

const char *const *model_architectures(void)
{
    static const char *names[ARCH_NAMES_MAX + 1];
    static char text[ARCH_NAMES_MAX * 64];
    if (!names[0])
        split_names(names, text);
    return names;
}

bool model_architecture_at(size_t i, struct model_architecture *a)
{
    size_t n = 0;
    while (model_architectures()[n])
        n++;
    if (i < n) {
        const char *name = model_architectures()[i], *gguf = arch_find(name)->gguf_name;
        *a = (struct model_architecture){name, strlen(name), gguf, strlen(gguf), NULL};
        return true;
    }
    struct arch_unsupported u;
    if (!arch_unsupported_at(i - n, &u))
        return false;
    *a = (struct model_architecture){u.name, u.name_len, u.gguf, u.gguf_len, u.why};
    return true;
}

/* ---- metadata ---- */

static char *full_key(const struct config *c, const char *suffix)
{
    if (strncmp(suffix, "tokenizer.", 10) == 0)
        return xstrdup(suffix);
    return xasprintf("%s.%s", c->arch->gguf_name, suffix);
}

static int bad_value(const struct config *c, const struct arch_key *key, const char *what,
                     struct err *e)
{
    return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                   "%s: %s is not %s", c->where, key->from, what);
}

/* The number behind `from`; *there false when the key is to be left out. */
static int number(const struct config *c, const struct arch_key *key, long layer, bool *there,
                  double *out, struct err *e)
{
    *there = true;
    if (key->from[0] == '=') {
        struct expr x = {.c = c, .layer = layer};
        return expr_real(&x, key->from + 1, out, e);
    }
    bool needed = key->from[0] == '!';
    const json_t *v = config_field(c, key->from + needed);
    if (json_is_array(v) && layer >= 0)
        v = json_array_get(v, (size_t)layer);
    *there = v && !json_is_null(v);
    if (!*there && needed)
        return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                       "%s has no %s, which every %s states", c->where, key->from + 1,
                       c->arch->hf_name);
    *out = json_is_number(v) ? json_number_value(v) : json_is_true(v);
    bool fits = key->type == KEY_BOOL ? json_is_boolean(v) : json_is_number(v);
    return *there && !fits ? bad_value(c, key, "of the expected type", e) : 0;
}

static int set_scalar(struct gguf_kvs *k, const struct config *c, const struct arch_key *key,
                      struct err *e)
{
    bool there;
    double v;
    if (number(c, key, -1, &there, &v, e))
        return -1;
    if (!there)
        return 0;
    if (key->type == KEY_U32 && (v < 0 || v > UINT32_MAX))
        return bad_value(c, key, "a number that fits 32 bits", e);
    char *name = full_key(c, key->suffix);
    if (key->type == KEY_U32)
        gguf_set_u32(k, name, (uint32_t)v);
    else if (key->type == KEY_F32)
        gguf_set_f32(k, name, (float)v);
    else
        gguf_set_bool(k, name, v != 0);
    xfree(name);
    return 0;
}

static int set_numbers(struct gguf_kvs *k, const struct config *c, const struct arch_key *key,
                       struct err *e)
{
    int32_t values[MODEL_LAYERS_MAX];
    for (uint32_t i = 0; i < c->layers; i++) {
        bool there;
        double v = 0;
        if (number(c, key, (long)i, &there, &v, e))
            return -1;
        if (!there || v < 0 || v > INT32_MAX)
            return bad_value(c, key, "a list of one number per block", e);
        values[i] = (int32_t)v;
    }
    char *name = full_key(c, key->suffix);
    gguf_set_array(k, name, GGUF_I32, values, c->layers);
    xfree(name);
    return 0;
}

static int set_sliding(struct gguf_kvs *k, const struct config *c, const struct arch_key *key,
                       struct err *e)
{
    uint8_t flags[MODEL_LAYERS_MAX];
    const json_t *types = json_object_get(c->fields, "layer_types");
    uint32_t period = c->arch->sliding_period;
    bool stated = types && !json_is_null(types);
    if (!stated && period == 0)
        return 0;
    for (uint32_t i = 0; i < c->layers; i++) {
        if (!stated) {
            flags[i] = (i + 1) % period != 0;
            continue;
        }
        const char *type = json_string_value(json_array_get(types, i));
        if (!type)
            return err_set(e, ERR_INPUT, "compare config.json with the one of the original model",
                           "%s: layer_types is not a list of one text per block", c->where);
        flags[i] = strcmp(type, "sliding_attention") == 0;
    }
    char *name = full_key(c, key->suffix);
    gguf_set_array(k, name, GGUF_BOOL, flags, c->layers);
    xfree(name);
    return 0;
}

/* Names of classes as config.json numbers them: {"0": "not relevant", "1": "relevant"}. */
static int set_labels(struct gguf_kvs *k, const struct config *c, const struct arch_key *key,
                      struct err *e)
{
    const json_t *labels = json_object_get(c->fields, key->from);
    size_t n = json_object_size(labels);
    if (n == 0)
        return 0;
    struct gguf_str *texts = xcalloc(n, sizeof *texts);
    int failed = 0;
    for (size_t i = 0; i < n && !failed; i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        texts[i].data = json_opt_str(labels, number, NULL);
        if (texts[i].data)
            texts[i].len = strlen(texts[i].data);
        else
            failed = bad_value(c, key, "a text for each number from 0 on", e);
    }
    char *name = full_key(c, key->suffix);
    if (!failed)
        gguf_set_strs(k, name, texts, n);
    xfree(name);
    xfree(texts);
    return failed;
}

static int set_key(struct gguf_kvs *k, const struct config *c, const struct arch_key *key,
                   struct err *e)
{
    switch (key->type) {
    case KEY_U32:
    case KEY_F32:
    case KEY_BOOL:
        return set_scalar(k, c, key, e);
    case KEY_U32S:
        return set_numbers(k, c, key, e);
    case KEY_SLIDING:
        return set_sliding(k, c, key, e);
    case KEY_LABELS:
        return set_labels(k, c, key, e);
    case KEY_ROPE:
        return rope_set(k, c, e);
    case KEY_TEXT: {
        char *name = full_key(c, key->suffix);
        gguf_set_str(k, name, key->from);
        xfree(name);
        break;
    }
    case KEY_END:
        break;
    }
    return 0;
}

int arch_set_keys(struct gguf_kvs *k, const struct config *c, struct err *e)
{
    for (const struct arch_key *key = c->arch->keys; key->type != KEY_END; key++)
        if (set_key(k, c, key, e))
            return -1;
    return 0;
}
