/* What the metadata of a language model must say before anything believes it: points 10 and 11 of
 * docs/validator.md, for every architecture, and more strictly for those whose rules we know.
 *
 * Reads only gguf_kvs and tensor shapes; allocates nothing. Tensor tables per architecture (point
 * 12) are model/'s business. A key that is absent is judged only where the rules say so: an
 * architecture we have no table for may lack any of them, and its file can still be requantized
 * tensor by tensor. The limits are those of libllama 0.5.0 (llama-hparams.h: LLAMA_MAX_LAYERS,
 * LLAMA_MAX_EXPERTS) where it has fixed arrays; the other rules answer advisories against it, named
 * in docs/validator.md. */
#include "format/gguf_int.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "format/text_int.h"

#include "base/banned.h"

static const char hint_convert[] =
    "the metadata is wrong or made to do harm: convert the model again from its source";

struct check {
    const struct gguf *g;
    const char *arch;
    bool strict; /* an architecture whose rules are known */
    uint64_t layers, embd;
    struct err *e;
};

/* Dense decoders with plain grouped-query attention. */
static const char *const strict_architectures[] = {"llama", "qwen2", "qwen3"};

/* ---- reading keys -------------------------------------------------------------------------------
 */

enum { FIELD_MAX = 160 };

/* "llama.block_count"; text as the key does, so that errors can name it. */
static const char *field(const struct check *c, const char *name, char text[static FIELD_MAX])
{
    snprintf(text, FIELD_MAX, "%s.%s", c->arch, name);
    return text;
}

__attribute__((format(printf, 2, 3))) static int refuse(const struct check *c, const char *format,
                                                        ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return err_set(c->e, ERR_INPUT, hint_convert, "%s: %s", c->g->maps[0].path, text);
}

static const struct gguf_kv *find(const struct check *c, const char *name)
{
    char key[FIELD_MAX];
    return gguf_kvs_find(&c->g->kvs, field(c, name, key));
}

static int range_error(const struct check *c, const char *key, uint64_t min, uint64_t max)
{
    return refuse(c, "%s must be an integer from %llu to %llu", key, (unsigned long long)min,
                  (unsigned long long)max);
}

/* An integer in [min, max]; *v stays when the key is absent, which is an error for strict ones. */
static int need_int(const struct check *c, const char *name, uint64_t min, uint64_t max,
                    uint64_t *v)
{
    char key[FIELD_MAX];
    field(c, name, key);
    if (!gguf_kvs_find(&c->g->kvs, key))
        return c->strict ? refuse(c, "the key %s is missing", key) : 0;
    uint64_t found;
    if (!gguf_get_u64(&c->g->kvs, key, &found) || found < min || found > max)
        return range_error(c, key, min, max);
    *v = found;
    return 0;
}

/* The same, but nobody needs it. */
static int want_int(const struct check *c, const char *name, uint64_t min, uint64_t max,
                    uint64_t *v)
{
    return find(c, name) ? need_int(c, name, min, max, v) : 0;
}

/* ---- point 10: hyperparameters ------------------------------------------------------------------
 */

static int check_architecture(struct check *c)
{
    const char *type = gguf_get_str(&c->g->kvs, "general.type");
    if (type && strcmp(type, "imatrix") == 0)
        return refuse(c, "this is an importance matrix, not a model");
    if (type && strcmp(type, "adapter") == 0)
        return refuse(c, "this is an adapter, not a model");
    c->arch = gguf_get_str(&c->g->kvs, "general.architecture");
    if (!c->arch)
        return refuse(c, "the string key general.architecture is missing");
    size_t n = strlen(c->arch);
    if (n < 1 || n > 64 || strspn(c->arch, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != n) {
        char shown[TEXT_SHOWN_MAX];
        return refuse(c,
                      "general.architecture \"%s\" is not a name of at most 64 letters and digits",
                      text_show(c->arch, n, shown));
    }
    for (size_t i = 0; i < sizeof strict_architectures / sizeof strict_architectures[0]; i++)
        c->strict |= strcmp(c->arch, strict_architectures[i]) == 0;
    if (c->g->n_tensors == 0)
        return refuse(c, "the model has no tensors");
    return 0;
}

static int check_sizes(struct check *c)
{
    uint64_t context = 0, vocab = 0;
    if (need_int(c, "block_count", 1, GGUF_LAYERS_MAX, &c->layers) ||
        need_int(c, "embedding_length", 1, 1 << 20, &c->embd) ||
        need_int(c, "context_length", 1, GGUF_CONTEXT_MAX, &context))
        return -1;
    return want_int(c, "vocab_size", 1, GGUF_ARRAY_COUNT_MAX, &vocab);
}

/* Per-layer arrays are as long as block_count says, with every element in range. */
static int check_layer_array(const struct check *c, const char *key, const struct gguf_kv *kv,
                             uint64_t max)
{
    if (c->layers > 0 && kv->count != c->layers)
        return refuse(c, "the array %s has %llu elements for %llu blocks", key,
                      (unsigned long long)kv->count, (unsigned long long)c->layers);
    for (uint64_t i = 0; i < kv->count; i++) {
        uint64_t v;
        if (!gguf_array_u64(kv, i, &v) || v > max)
            return range_error(c, key, 0, max);
    }
    return 0;
}

/* A number for all layers, or one per layer. *v: the number, 0 for an array or when absent. Zero is
 * what layers without attention state, and recurrent models as a whole. */
static int per_layer(const struct check *c, const char *name, uint64_t max, bool required,
                     uint64_t *v)
{
    char key[FIELD_MAX];
    const struct gguf_kv *kv = gguf_kvs_find(&c->g->kvs, field(c, name, key));
    *v = 0;
    if (!kv)
        return required && c->strict ? refuse(c, "the key %s is missing", key) : 0;
    if (kv->type == GGUF_ARRAY)
        return check_layer_array(c, key, kv, max);
    if (!gguf_get_u64(&c->g->kvs, key, v) || *v > max)
        return range_error(c, key, 0, max);
    if (*v == 0 && c->strict)
        return range_error(c, key, 1, max);
    return 0;
}

static int check_head_arrays(const struct check *c)
{
    const struct gguf_kv *heads = find(c, "attention.head_count");
    const struct gguf_kv *kv_heads = find(c, "attention.head_count_kv");
    if (!heads || !kv_heads || heads->type != GGUF_ARRAY || kv_heads->type != GGUF_ARRAY)
        return 0;
    for (uint64_t i = 0; i < heads->count && i < kv_heads->count; i++) {
        uint64_t n, n_kv;
        if (gguf_array_u64(heads, i, &n) && gguf_array_u64(kv_heads, i, &n_kv) && n_kv > 0 &&
            n % n_kv != 0)
            return refuse(c,
                          "block %llu has %llu heads, not a multiple of its %llu key-value heads",
                          (unsigned long long)i, (unsigned long long)n, (unsigned long long)n_kv);
    }
    return 0;
}

static int check_heads(const struct check *c, uint64_t *heads)
{
    uint64_t kv_heads, ff;
    if (per_layer(c, "attention.head_count", GGUF_HEADS_MAX, true, heads) ||
        per_layer(c, "attention.head_count_kv", GGUF_HEADS_MAX, false, &kv_heads) ||
        per_layer(c, "feed_forward_length", 1 << 24, true, &ff) || check_head_arrays(c))
        return -1;
    if (*heads > 0 && kv_heads > 0 && *heads % kv_heads != 0)
        return refuse(c, "%s.attention.head_count %llu is not a multiple of head_count_kv %llu",
                      c->arch, (unsigned long long)*heads, (unsigned long long)kv_heads);
    return 0;
}

static int check_head_size(const struct check *c, uint64_t heads)
{
    uint64_t key_length = 0, value_length = 0, rope = 0;
    if (want_int(c, "attention.key_length", 1, 1 << 20, &key_length) ||
        want_int(c, "attention.value_length", 1, 1 << 20, &value_length) ||
        want_int(c, "rope.dimension_count", 0, 1 << 20, &rope))
        return -1;
    if (!c->strict || heads == 0)
        return 0;
    if (key_length == 0 && c->embd % heads != 0)
        return refuse(c, "%s.embedding_length %llu is not a multiple of %llu heads", c->arch,
                      (unsigned long long)c->embd, (unsigned long long)heads);
    uint64_t head = key_length ? key_length : c->embd / heads;
    if (rope > head)
        return refuse(c, "%s.rope.dimension_count %llu is larger than a head of %llu", c->arch,
                      (unsigned long long)rope, (unsigned long long)head);
    return 0;
}

static int check_experts(const struct check *c)
{
    uint64_t experts = 0, used = 0;
    if (want_int(c, "expert_count", 0, GGUF_EXPERTS_MAX, &experts) ||
        per_layer(&(struct check){.g = c->g, .arch = c->arch, .layers = c->layers, .e = c->e},
                  "expert_used_count", GGUF_EXPERTS_MAX, false, &used))
        return -1;
    if (used > experts)
        return refuse(c, "%s.expert_used_count %llu is larger than expert_count %llu", c->arch,
                      (unsigned long long)used, (unsigned long long)experts);
    return 0;
}

/* Every real number of the architecture is finite; norm epsilons and the rope base are positive. */
static int check_reals(const struct check *c)
{
    static const char *const positive[] = {"attention.layer_norm_rms_epsilon",
                                           "attention.layer_norm_epsilon", "rope.freq_base"};
    size_t prefix = strlen(c->arch);
    for (size_t i = 0; i < c->g->kvs.n; i++) {
        const struct gguf_kv *kv = &c->g->kvs.items[i];
        if ((kv->type != GGUF_F32 && kv->type != GGUF_F64) ||
            strncmp(kv->key, c->arch, prefix) != 0 || kv->key[prefix] != '.')
            continue;
        if (!isfinite(kv->f))
            return refuse(c, "%.80s is not a finite number", kv->key);
        for (size_t p = 0; p < sizeof positive / sizeof positive[0]; p++) {
            if (strcmp(kv->key + prefix + 1, positive[p]) == 0 && !(kv->f > 0))
                return refuse(c, "%.80s is %g, expected a number above zero", kv->key, kv->f);
        }
    }
    return 0;
}

/* A tensor "blk.7.…" of a model with seven blocks indexes past somebody's array. */
static int check_blocks(const struct check *c)
{
    if (c->layers == 0)
        return 0;
    for (size_t i = 0; i < c->g->n_tensors; i++) {
        const char *name = c->g->tensors[i].name;
        if (strncmp(name, "blk.", 4) != 0)
            continue;
        uint64_t no = 0;
        const char *p = name + 4;
        for (; *p >= '0' && *p <= '9' && no <= GGUF_LAYERS_MAX; p++)
            no = no * 10 + (uint64_t)(*p - '0');
        if (no >= c->layers)
            return refuse(c, "tensor \"%s\" is outside the %llu blocks of %s.block_count", name,
                          (unsigned long long)c->layers, c->arch);
    }
    return 0;
}

/* ---- point 11: the vocabulary -------------------------------------------------------------------
 */

/* libllama reads some arrays in either of two element types. NULL when absent or wrong. */
static const struct gguf_kv *vocab_array(const struct check *c, const char *key,
                                         enum gguf_type element, enum gguf_type other, int *rc)
{
    const struct gguf_kv *kv = gguf_kvs_find(&c->g->kvs, key);
    if (kv && (kv->type != GGUF_ARRAY || (kv->element != element && kv->element != other))) {
        *rc = refuse(c, "%s must be an array of %s", key, gguf_type_text(element));
        return NULL;
    }
    return kv;
}

static bool is_byte_token(const struct gguf_str *s)
{
    static const char hex[] = "0123456789abcdefABCDEF";
    return s->len == 6 && memcmp(s->data, "<0x", 3) == 0 && s->data[5] == '>' && s->data[3] &&
           s->data[4] && strchr(hex, s->data[3]) && strchr(hex, s->data[4]);
}

/* What a reader that knows no token types takes for a byte token. */
static bool looks_like_byte_token(const struct gguf_str *s)
{
    return s->len == 6 && memcmp(s->data, "<0x", 3) == 0 && s->data[5] == '>';
}

static int check_token_texts(const struct check *c, const struct gguf_kv *tokens,
                             const struct gguf_kv *types)
{
    enum { TOKEN_TYPE_BYTE = 6 };
    for (uint64_t i = 0; i < tokens->count; i++) {
        const struct gguf_str *s = &tokens->strs[i];
        uint64_t type = 0;
        if (types)
            gguf_array_u64(types, i, &type);
        if (s->len > GGUF_TOKEN_BYTES_MAX)
            return refuse(c, "token %llu has %zu bytes, at most %d are allowed",
                          (unsigned long long)i, s->len, GGUF_TOKEN_BYTES_MAX);
        if ((type == TOKEN_TYPE_BYTE || looks_like_byte_token(s)) && !is_byte_token(s)) {
            char shown[TEXT_SHOWN_MAX];
            return refuse(
                c, "byte token %llu is \"%s\", expected <0x and two hexadecimal digits and >",
                (unsigned long long)i, text_show(s->data, s->len, shown));
        }
    }
    return 0;
}

static int same_length(const struct check *c, const char *key, const struct gguf_kv *kv,
                       const struct gguf_kv *tokens)
{
    if (!kv || kv->count == tokens->count)
        return 0;
    return refuse(c, "%s has %llu elements for %llu tokens", key, (unsigned long long)kv->count,
                  (unsigned long long)tokens->count);
}

static int check_tokens(const struct check *c, const struct gguf_kv *tokens)
{
    static const char scores_key[] = "tokenizer.ggml.scores",
                      types_key[] = "tokenizer.ggml.token_type";
    int rc = 0;
    const struct gguf_kv *scores = vocab_array(c, scores_key, GGUF_F32, GGUF_I32, &rc);
    const struct gguf_kv *types = vocab_array(c, types_key, GGUF_I32, GGUF_I32, &rc);
    if (rc)
        return -1;
    if (tokens->count == 0)
        return refuse(c, "tokenizer.ggml.tokens is empty");
    if (same_length(c, scores_key, scores, tokens) || same_length(c, types_key, types, tokens))
        return -1;
    return check_token_texts(c, tokens, types);
}

/* "left right": a space that is neither first nor last. */
static int check_merges(const struct check *c)
{
    int rc = 0;
    const struct gguf_kv *merges = vocab_array(c, "tokenizer.ggml.merges", GGUF_STR, GGUF_STR, &rc);
    if (!merges)
        return rc;
    for (uint64_t i = 0; i < merges->count; i++) {
        const struct gguf_str *s = &merges->strs[i];
        if (s->len < 3 || s->len > 2 * GGUF_TOKEN_BYTES_MAX ||
            !memchr(s->data + 1, ' ', s->len - 2)) {
            char shown[TEXT_SHOWN_MAX];
            return refuse(c, "merge %llu \"%s\" is not two parts with a space between",
                          (unsigned long long)i, text_show(s->data, s->len, shown));
        }
    }
    return 0;
}

static int check_special_ids(const struct check *c, uint64_t n_tokens)
{
    static const char prefix[] = "tokenizer.ggml.", suffix[] = "_token_id";
    for (size_t i = 0; i < c->g->kvs.n; i++) {
        const struct gguf_kv *kv = &c->g->kvs.items[i];
        size_t n = strlen(kv->key);
        uint64_t id;
        if (n < sizeof prefix + sizeof suffix || strncmp(kv->key, prefix, sizeof prefix - 1) != 0 ||
            strcmp(kv->key + n - (sizeof suffix - 1), suffix) != 0)
            continue;
        if (!gguf_get_u64(&c->g->kvs, kv->key, &id) || id >= n_tokens)
            return refuse(c, "%.80s must be an integer below the %llu tokens", kv->key,
                          (unsigned long long)n_tokens);
    }
    return 0;
}

/* Rows beyond the tokens are padding that some models have; fewer would be read past the end. */
static int check_embedding(const struct check *c, uint64_t n_tokens)
{
    const struct gguf_tensor *t = gguf_find(c->g, "token_embd.weight");
    if (!t)
        return 0;
    if (t->shape.ne[1] < n_tokens)
        return refuse(c, "token_embd.weight has %llu rows for %llu tokens",
                      (unsigned long long)t->shape.ne[1], (unsigned long long)n_tokens);
    if (c->strict && t->shape.ne[0] != c->embd)
        return refuse(c, "token_embd.weight has rows of %llu for %s.embedding_length %llu",
                      (unsigned long long)t->shape.ne[0], c->arch, (unsigned long long)c->embd);
    return 0;
}

static int check_vocab(const struct check *c)
{
    int rc = 0;
    const struct gguf_kv *tokens = vocab_array(c, "tokenizer.ggml.tokens", GGUF_STR, GGUF_STR, &rc);
    vocab_array(c, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, GGUF_I8, &rc);
    if (rc || check_merges(c))
        return -1;
    if (!tokens)
        return 0; /* models without text have none */
    if (check_tokens(c, tokens) || check_special_ids(c, tokens->count))
        return -1;
    return check_embedding(c, tokens->count);
}

int gguf_check_model(const struct gguf *g, struct err *e)
{
    struct check c = {.g = g, .e = e};
    uint64_t heads;
    if (check_architecture(&c) || check_sizes(&c) || check_heads(&c, &heads) ||
        check_head_size(&c, heads) || check_experts(&c) || check_reals(&c) || check_blocks(&c))
        return -1;
    return check_vocab(&c);
}
