/* Hugging Face folders for tests: a small model whose every part can be changed or left out before
 * it is written. Weights are a known function of the tensor and the element, so that rows can be
 * checked. */
#ifndef TESTS_HF_FIXTURE_H
#define TESTS_HF_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/model.h"
#include "tensor/convert.h"

enum { HF_TENSORS_MAX = 128 };

struct hf_tensor {
    char name[96];
    enum dtype dtype;
    uint64_t dims[4];
    int n_dims, seed;
    const void *raw; /* its bytes, if they are not a function of the seed */
    bool nan;        /* the last element */
    bool dropped;
};

struct hf {
    char root[128], dir[160]; /* dir is root/model, so that random letters name nothing */
    /* config.json */
    const char *architecture, *more_config; /* more: further fields, beginning with a comma */
    int vocab, hidden, ffn, layers, heads, kv_heads, head_dim; /* head_dim 0: left out */
    bool tied;
    struct hf_tensor tensors[HF_TENSORS_MAX];
    size_t n;
    const char *tokenizer; /* whole text */
};

#define HF_BYTE_LEVEL                                                                              \
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},"                          \
    "{\"id\":1,\"content\":\"</s>\",\"special\":true},{\"id\":6,\"content\":\"<plain>\"}],"        \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"    \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"</s>\":1,\"a\":2,\"b\":3,\"ab\":4,"        \
    "\"aba\":5},\"merges\":[\"a b\",[\"ab\",\"a\"]]}}"

static inline float hf_value(int seed, uint64_t element)
{
    uint32_t x = (uint32_t)(element * 2654435761u) ^ (uint32_t)(seed * 40503);
    return (float)((int)(x >> 16 & 0xff) - 128) / 64.0f; /* exact in every float type */
}

static inline void hf_path(const struct hf *h, const char *file, char path[300])
{
    snprintf(path, 300, "%s/%s", h->dir, file);
}

static inline void hf_write(const struct hf *h, const char *file, const void *data, size_t n)
{
    char path[300];
    struct err e;
    hf_path(h, file, path);
    if (fs_write_all(path, data, n, &e))
        fail_msg("%s", e.message);
}

static inline void hf_write_text(const struct hf *h, const char *file, const char *text)
{
    hf_write(h, file, text, strlen(text));
}

static inline void hf_remove(const struct hf *h, const char *file)
{
    char path[300];
    hf_path(h, file, path);
    fs_remove(path, NULL);
}

static inline struct hf_tensor *hf_add(struct hf *h, const char *name, int rows, int cols)
{
    struct hf_tensor *t = &h->tensors[h->n];
    *t = (struct hf_tensor){.dtype = DT_BF16,
                            .dims = {(uint64_t)rows, (uint64_t)cols},
                            .n_dims = cols ? 2 : 1,
                            .seed = (int)h->n + 1};
    snprintf(t->name, sizeof t->name, "%s", name);
    h->n++;
    return t;
}

static inline struct hf_tensor *hf_add_layer(struct hf *h, int layer, const char *name, int rows,
                                             int cols)
{
    char full[96];
    snprintf(full, sizeof full, "model.layers.%d.%s", layer, name);
    return hf_add(h, full, rows, cols);
}

static inline struct hf_tensor *hf_find(struct hf *h, const char *name)
{
    for (size_t i = 0; i < h->n; i++)
        if (strcmp(h->tensors[i].name, name) == 0)
            return &h->tensors[i];
    fail_msg("the fixture has no tensor %s", name);
    return NULL;
}

static inline void hf_add_tensors(struct hf *h)
{
    int head = h->head_dim ? h->head_dim : h->hidden / h->heads;
    hf_add(h, "model.embed_tokens.weight", h->vocab, h->hidden);
    for (int i = 0; i < h->layers; i++) {
        hf_add_layer(h, i, "input_layernorm.weight", h->hidden, 0);
        hf_add_layer(h, i, "post_attention_layernorm.weight", h->hidden, 0);
        hf_add_layer(h, i, "self_attn.q_proj.weight", h->heads * head, h->hidden);
        hf_add_layer(h, i, "self_attn.k_proj.weight", h->kv_heads * head, h->hidden);
        hf_add_layer(h, i, "self_attn.v_proj.weight", h->kv_heads * head, h->hidden);
        hf_add_layer(h, i, "self_attn.o_proj.weight", h->hidden, h->heads * head);
        hf_add_layer(h, i, "mlp.gate_proj.weight", h->ffn, h->hidden);
        hf_add_layer(h, i, "mlp.up_proj.weight", h->ffn, h->hidden);
        hf_add_layer(h, i, "mlp.down_proj.weight", h->hidden, h->ffn);
    }
    hf_add(h, "model.norm.weight", h->hidden, 0);
    if (!h->tied)
        hf_add(h, "lm_head.weight", h->vocab, h->hidden);
}

/* A LlamaForCausalLM of two layers; the folder is made, its files are not yet written. */
static inline void hf_init(struct hf *h)
{
    const char *tmp = getenv("TMPDIR");
    *h = (struct hf){.architecture = "LlamaForCausalLM",
                     .more_config = "",
                     .vocab = 8,
                     .hidden = 16,
                     .ffn = 24,
                     .layers = 2,
                     .heads = 4,
                     .kv_heads = 2,
                     .tokenizer = HF_BYTE_LEVEL};
    snprintf(h->root, sizeof h->root, "%s/hf-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(h->root));
    snprintf(h->dir, sizeof h->dir, "%s/model", h->root);
    assert_int_equal(fs_mkdirs(h->dir, NULL), 0);
    hf_add_tensors(h);
}

static inline void hf_release(struct hf *h)
{
    fs_remove_tree(h->root, NULL);
}

static inline void hf_write_config(const struct hf *h)
{
    char text[2048], head[32] = "";
    if (h->head_dim)
        snprintf(head, sizeof head, ",\"head_dim\":%d", h->head_dim);
    snprintf(text, sizeof text,
             "{\"architectures\":[\"%s\"],\"vocab_size\":%d,\"hidden_size\":%d,"
             "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
             "\"num_key_value_heads\":%d,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
             "\"tie_word_embeddings\":%s%s%s}",
             h->architecture, h->vocab, h->hidden, h->ffn, h->layers, h->heads, h->kv_heads,
             h->tied ? "true" : "false", head, h->more_config);
    hf_write_text(h, "config.json", text);
}

static inline uint64_t hf_elements(const struct hf_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->dims[i];
    return n;
}

static inline void hf_add_data(struct buf *b, const struct hf_tensor *t)
{
    uint8_t raw[8];
    if (t->raw) {
        buf_add(b, t->raw, hf_elements(t) * dtype_info(t->dtype)->bytes);
        return;
    }
    for (uint64_t k = 0; k < hf_elements(t); k++) {
        float v = hf_value(t->seed, k);
        if (t->nan && k + 1 == hf_elements(t))
            v = NAN;
        size_t bytes = dtype_info(t->dtype)->bytes;
        memset(raw, 0, sizeof raw);
        convert_from_f32(t->dtype, &v, raw, 1);
        if (t->dtype == DT_F8_E4M3) /* any bytes but NaN */
            raw[0] = (uint8_t)((k * 37 + (uint64_t)t->seed) & 0xf7);
        buf_add(b, raw, bytes);
    }
}

/* Tensors [from, to) of the fixture as one safetensors file. */
static inline void hf_write_shard(const struct hf *h, const char *file, size_t from, size_t to)
{
    struct buf header, data, all;
    buf_init(&header, 1u << 20);
    buf_init(&data, 8u << 20);
    buf_init(&all, 9u << 20);
    buf_addc(&header, '{');
    for (size_t i = from; i < to; i++) {
        const struct hf_tensor *t = &h->tensors[i];
        if (t->dropped)
            continue;
        size_t start = data.len;
        hf_add_data(&data, t);
        buf_addf(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", header.len > 1 ? "," : "",
                 t->name, dtype_info(t->dtype)->safetensors);
        for (int k = 0; k < t->n_dims; k++)
            buf_addf(&header, "%s%d", k ? "," : "", (int)t->dims[k]);
        buf_addf(&header, "],\"data_offsets\":[%zu,%zu]}", start, data.len);
    }
    buf_addc(&header, '}');
    while (header.len % 8)
        buf_addc(&header, ' ');
    uint64_t n = header.len;
    buf_add(&all, &n, sizeof n);
    buf_add(&all, header.data, header.len);
    if (data.len)
        buf_add(&all, data.data, data.len);
    hf_write(h, file, all.data, all.len);
    buf_release(&header);
    buf_release(&data);
    buf_release(&all);
}

/* Everything that was not written by hand before. */
static inline void hf_write_all(const struct hf *h)
{
    hf_write_config(h);
    hf_write_shard(h, "model.safetensors", 0, h->n);
    hf_write_text(h, "tokenizer.json", h->tokenizer);
}

static inline struct model *hf_open(const struct hf *h)
{
    struct model *m = NULL;
    struct err e;
    if (model_open(&m, h->dir, &e))
        fail_msg("%s", e.message);
    return m;
}

/* The folder must be refused, with every one of the words in the message or the hint. */
#define hf_refused(h, code, ...) hf_refused_(h, code, (const char *const[]){__VA_ARGS__, NULL})
static inline void hf_refused_(const struct hf *h, enum err_code code, const char *const *words)
{
    struct model *m = NULL;
    struct err e = {.code = ERR_NONE};
    int rc = model_open(&m, h->dir, &e);
    if (rc == 0) {
        model_close(m);
        fail_msg("a bad folder was opened; expected an error with \"%s\"", words[0]);
    }
    assert_null(m);
    for (; *words; words++)
        if (!strstr(e.message, *words) && !strstr(e.hint, *words))
            fail_msg("\"%s\" is not in: %s (%s)", *words, e.message, e.hint);
    assert_int_equal(e.code, code);
    assert_true(strlen(e.message) > 20);
}

static inline uint64_t hf_number(const struct model *m, const char *key)
{
    uint64_t v = 0;
    if (!gguf_get_u64(model_kvs(m), key, &v))
        fail_msg("there is no number %s", key);
    return v;
}

static inline double hf_real(const struct model *m, const char *key)
{
    double v = 0;
    if (!gguf_get_f64(model_kvs(m), key, &v))
        fail_msg("there is no real %s", key);
    return v;
}

static inline bool hf_flag(const struct model *m, const char *key)
{
    bool v = false;
    if (!gguf_get_bool(model_kvs(m), key, &v))
        fail_msg("there is no flag %s", key);
    return v;
}

static inline void hf_text_is(const struct model *m, const char *key, const char *expected)
{
    const struct gguf_kv *kv = gguf_kvs_find(model_kvs(m), key);
    if (!kv || kv->type != GGUF_STR)
        fail_msg("there is no text %s", key);
    char *found = xstrndup(kv->str.data, kv->str.len);
    assert_string_equal(found, expected);
    xfree(found);
}

static inline bool hf_has(const struct model *m, const char *key)
{
    return gguf_kvs_find(model_kvs(m), key) != NULL;
}

#endif
