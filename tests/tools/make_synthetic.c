/* Writes a Hugging Face model folder with the shapes of a real model and random weights.
 *
 *   make_synthetic OUT [--shape NAME] [--layers N] [--vocab N] [--shards N] [--seed N] [--dtype
 *   BF16|F16|F32]
 *                      [--sparse] [--tied] [--threads N] [--packed gptq|awq]
 *
 * Shapes: tinyllama (1.1 B, the default), llama-70b, qwen2-7b, qwen3-8b, mistral-7b, tiny, odd (one
 * layer, rows of 736), narrow (one layer, rows that blocks of 32 do not divide), moe (one layer of
 * six experts, two of which are never chosen). Weights are normal with standard deviation 0.02
 * (norms are 1, biases normal too), the same for the same seed whatever the threads; --sparse
 * leaves holes instead, for shapes whose weights nobody reads. The tokenizer is valid, of the kind
 * the real model has, with made-up words. Benchmarks and tests of
 * size use it; quality cannot be read off it. With --packed the projections are 4-bit codes in
 * groups of 128 instead, any bits, as GPTQ or AWQ store them.
 *
 * Normal numbers come from a table of 65,536 quantiles, four per 64 random bits: 1.1 B of them in
 * about two seconds. */
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/thread.h"
#include "tensor/convert.h"
#include "tensor/dtype.h"

enum tokenizer { TOKENIZER_SPM, TOKENIZER_LLAMA3, TOKENIZER_QWEN };

struct preset {
    const char *name, *architecture, *model_type;
    unsigned hidden, layers, heads, kv_heads, head_dim, ffn, vocab, context;
    double theta;
    bool qkv_bias, qk_norm;
    enum tokenizer tokenizer;
    unsigned experts;
};

/* clang-format off */
static const struct preset presets[] = {
    {"tinyllama", "LlamaForCausalLM", "llama", 2048, 22, 32, 4, 64, 5632, 32000, 2048, 1e4,
     false, false, TOKENIZER_SPM, 0},
    {"llama-70b", "LlamaForCausalLM", "llama", 8192, 80, 64, 8, 128, 28672, 128256, 8192, 5e5,
     false, false, TOKENIZER_LLAMA3, 0},
    {"mistral-7b", "MistralForCausalLM", "mistral", 4096, 32, 32, 8, 128, 14336, 32000, 32768, 1e4,
     false, false, TOKENIZER_SPM, 0},
    {"qwen2-7b", "Qwen2ForCausalLM", "qwen2", 3584, 28, 28, 4, 128, 18944, 152064, 32768, 1e6,
     true, false, TOKENIZER_QWEN, 0},
    {"qwen3-8b", "Qwen3ForCausalLM", "qwen3", 4096, 36, 32, 8, 128, 12288, 151936, 40960, 1e6,
     false, true, TOKENIZER_QWEN, 0},
    {"tiny", "LlamaForCausalLM", "llama", 256, 4, 4, 2, 64, 768, 4096, 512, 1e4,
     false, false, TOKENIZER_SPM, 0},
    {"odd", "LlamaForCausalLM", "llama", 256, 1, 4, 2, 64, 736, 600, 512, 1e4,
     false, false, TOKENIZER_SPM, 0},
    {"narrow", "LlamaForCausalLM", "llama", 48, 1, 4, 2, 12, 80, 600, 512, 1e4,
     false, false, TOKENIZER_SPM, 0},
    {"moe", "MixtralForCausalLM", "mixtral", 256, 1, 4, 2, 64, 256, 600, 512, 1e4,
     false, false, TOKENIZER_SPM, 6},
};
/* clang-format on */

struct options {
    struct preset shape;
    const char *out;
    unsigned shards;
    uint64_t seed;
    enum dtype dtype;
    bool sparse, tied;
    const char *packed; /* "gptq", "awq" or NULL */
    int threads;
};

/* A router's rows come in pairs of opposite sign, so the two best of six are always of the first
 * four; the others are zero. */
enum fill { FILL_NORMAL, FILL_ONE, FILL_BITS, FILL_SCALE, FILL_ROUTER };

struct tensor {
    char name[96];
    uint64_t rows, cols; /* cols 0: vector of `rows` */
    enum fill fill;
    enum dtype dtype;
    unsigned shard;
    uint64_t bytes, offset; /* absolute in its file */
};

struct plan {
    struct tensor *tensors;
    size_t n, capacity;
};

static void die(const struct err *e)
{
    fprintf(stderr, "make_synthetic: %s\n", e->message);
    exit(1);
}

static void bad_usage(const char *what, const char *value)
{
    fprintf(
        stderr,
        "make_synthetic: %s %s\nusage: make_synthetic OUT [--shape NAME] [--layers N] [--vocab N] "
        "[--shards N] [--seed N] [--dtype BF16|F16|F32] [--sparse] [--tied] [--threads N] "
        "[--packed gptq|awq]\nshapes:",
        what, value);
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        fprintf(stderr, " %s", presets[i].name);
    fprintf(stderr, "\n");
    exit(2);
}

/* ---- what tensors there are
 * --------------------------------------------------------------------- */

static void add_plain(struct plan *p, enum dtype dtype, enum fill fill, uint64_t rows,
                      uint64_t cols, const char *format, unsigned layer)
{
    p->tensors = xgrow(p->tensors, &p->capacity, p->n + 1, sizeof *p->tensors);
    struct tensor *t = &p->tensors[p->n++];
    *t = (struct tensor){.rows = rows, .cols = cols, .fill = fill, .dtype = dtype};
    const char *mark = strchr(format, '%');
    if (mark)
        snprintf(t->name, sizeof t->name, "%.*s%u%s", (int)(mark - format), format, layer,
                 mark + 1);
    else
        snprintf(t->name, sizeof t->name, "%s", format);
    t->bytes = rows * (cols ? cols : 1) * dtype_info(dtype)->bytes;
}

enum { GROUP = 128 };

/* A projection as codes, scales and zero points. */
static void add_packed(struct plan *p, const struct options *o, uint64_t rows, uint64_t cols,
                       const char *format, unsigned layer)
{
    bool awq = strcmp(o->packed, "awq") == 0;
    char name[96];
    int stem = (int)(strlen(format) - strlen("weight"));
    snprintf(name, sizeof name, "%.*sqweight", stem, format);
    add_plain(p, DT_I32, FILL_BITS, awq ? cols : cols / 8, awq ? rows / 8 : rows, name, layer);
    snprintf(name, sizeof name, "%.*sqzeros", stem, format);
    add_plain(p, DT_I32, FILL_BITS, (cols + GROUP - 1) / GROUP, rows / 8, name, layer);
    snprintf(name, sizeof name, "%.*sscales", stem, format);
    add_plain(p, DT_F16, FILL_SCALE, (cols + GROUP - 1) / GROUP, rows, name, layer);
}

static void add(struct plan *p, const struct options *o, enum fill fill, uint64_t rows,
                uint64_t cols, const char *format, unsigned layer)
{
    if (o->packed && strstr(format, "_proj.weight"))
        add_packed(p, o, rows, cols, format, layer);
    else
        add_plain(p, o->dtype, fill, rows, cols, format, layer);
}

static void add_experts(struct plan *p, const struct options *o, unsigned layer)
{
    const struct preset *s = &o->shape;
    char name[96];
    add(p, o, FILL_ROUTER, s->experts, s->hidden, "model.layers.%.block_sparse_moe.gate.weight",
        layer);
    for (unsigned x = 0; x < s->experts; x++)
        for (unsigned w = 1; w <= 3; w++) {
            snprintf(name, sizeof name, "model.layers.%%.block_sparse_moe.experts.%u.w%u.weight", x,
                     w);
            add(p, o, FILL_NORMAL, w == 2 ? s->hidden : s->ffn, w == 2 ? s->ffn : s->hidden, name,
                layer);
        }
}

static void add_layer(struct plan *p, const struct options *o, unsigned i)
{
    const struct preset *s = &o->shape;
    uint64_t q = (uint64_t)s->heads * s->head_dim, kv = (uint64_t)s->kv_heads * s->head_dim;
    add(p, o, FILL_ONE, s->hidden, 0, "model.layers.%.input_layernorm.weight", i);
    if (s->experts > 0) {
        add_experts(p, o, i);
    } else {
        add(p, o, FILL_NORMAL, s->hidden, s->ffn, "model.layers.%.mlp.down_proj.weight", i);
        add(p, o, FILL_NORMAL, s->ffn, s->hidden, "model.layers.%.mlp.gate_proj.weight", i);
        add(p, o, FILL_NORMAL, s->ffn, s->hidden, "model.layers.%.mlp.up_proj.weight", i);
    }
    add(p, o, FILL_ONE, s->hidden, 0, "model.layers.%.post_attention_layernorm.weight", i);
    add(p, o, FILL_NORMAL, q, s->hidden, "model.layers.%.self_attn.q_proj.weight", i);
    add(p, o, FILL_NORMAL, kv, s->hidden, "model.layers.%.self_attn.k_proj.weight", i);
    add(p, o, FILL_NORMAL, kv, s->hidden, "model.layers.%.self_attn.v_proj.weight", i);
    add(p, o, FILL_NORMAL, s->hidden, q, "model.layers.%.self_attn.o_proj.weight", i);
    if (s->qkv_bias) {
        add(p, o, FILL_NORMAL, q, 0, "model.layers.%.self_attn.q_proj.bias", i);
        add(p, o, FILL_NORMAL, kv, 0, "model.layers.%.self_attn.k_proj.bias", i);
        add(p, o, FILL_NORMAL, kv, 0, "model.layers.%.self_attn.v_proj.bias", i);
    }
    if (s->qk_norm) {
        add(p, o, FILL_ONE, s->head_dim, 0, "model.layers.%.self_attn.q_norm.weight", i);
        add(p, o, FILL_ONE, s->head_dim, 0, "model.layers.%.self_attn.k_norm.weight", i);
    }
}

static void plan_tensors(struct plan *p, const struct options *o)
{
    const struct preset *s = &o->shape;
    add(p, o, FILL_NORMAL, s->vocab, s->hidden, "model.embed_tokens.weight", 0);
    for (unsigned i = 0; i < s->layers; i++)
        add_layer(p, o, i);
    add(p, o, FILL_ONE, s->hidden, 0, "model.norm.weight", 0);
    if (!o->tied)
        add(p, o, FILL_NORMAL, s->vocab, s->hidden, "lm_head.weight", 0);
    uint64_t all = 0, done = 0;
    for (size_t i = 0; i < p->n; i++)
        all += p->tensors[i].bytes;
    for (size_t i = 0; i < p->n; i++) {
        p->tensors[i].shard = (unsigned)(done * o->shards / all);
        done += p->tensors[i].bytes;
    }
}

/* ---- weights
 * ------------------------------------------------------------------------------------ */

enum { QUANTILES = 65536, CHUNK = 1 << 20 /* elements */ };

struct job {
    const struct options *o;
    struct tensor *t;
    int fd;
    uint64_t elements;
    const uint8_t *table; /* QUANTILES values of the type */
    size_t size;          /* bytes of one */
    uint64_t stream;
};

static double quantile(double p)
{
    double low = -8, high = 8;
    for (int i = 0; i < 60; i++) {
        double mid = (low + high) / 2;
        *(0.5 * erfc(-mid / sqrt(2)) < p ? &low : &high) = mid;
    }
    return (low + high) / 2;
}

static uint8_t *quantile_table(enum dtype type)
{
    float *values = xcalloc(QUANTILES, sizeof *values);
    for (int i = 0; i < QUANTILES; i++)
        values[i] = (float)(0.02 * quantile((i + 0.5) / QUANTILES));
    uint8_t *table = xcalloc(QUANTILES, dtype_info(type)->bytes);
    convert_from_f32(type, values, table, QUANTILES);
    xfree(values);
    return table;
}

static void fill_chunk(const struct job *j, uint8_t *out, uint64_t n, size_t item)
{
    struct rng r;
    rng_seed(&r, j->o->seed * 0x9e3779b97f4a7c15u + j->stream * 1000003u + item);
    const uint16_t *pairs = (const uint16_t *)(const void *)j->table;
    for (uint64_t i = 0; i < n; i += 4) {
        uint64_t bits = rng_next(&r);
        uint64_t end = n - i < 4 ? n - i : 4;
        for (uint64_t k = 0; k < end; k++, bits >>= 16) {
            if (j->t->fill == FILL_BITS)
                ((uint32_t *)(void *)out)[i + k] = (uint32_t)(bits | bits << 29);
            else if (j->size == 2)
                ((uint16_t *)(void *)out)[i + k] = pairs[bits & 0xffff];
            else
                memcpy(out + (i + k) * j->size, j->table + (bits & 0xffff) * j->size, j->size);
        }
    }
}

/* Of a whole router of 16-bit floats, which is one chunk. */
static void fill_router(const struct job *j, uint8_t *out)
{
    uint16_t *rows = (uint16_t *)(void *)out;
    uint64_t n = j->t->cols;
    for (uint64_t i = 0; i < n; i++) {
        rows[n + i] = rows[i] ^ 0x8000;
        rows[3 * n + i] = rows[2 * n + i] ^ 0x8000;
    }
    memset(rows + 4 * n, 0, (j->t->rows - 4) * n * sizeof *rows);
}

static int write_chunk(void *ud, size_t item, int worker)
{
    (void)worker;
    const struct job *j = ud;
    uint64_t start = (uint64_t)item * CHUNK,
             n = j->elements - start < CHUNK ? j->elements - start : CHUNK;
    uint8_t *out = big_alloc(CHUNK * sizeof(float), "a chunk of weights", NULL);
    if (!out)
        return 1;
    bool random = j->t->fill != FILL_ONE && j->t->fill != FILL_SCALE;
    float same = j->t->fill == FILL_ONE ? 1.0f : 0.0043f; /* as wide as the normal numbers */
    if (random)
        fill_chunk(j, out, n, item);
    if (j->t->fill == FILL_ROUTER && j->size == 2)
        fill_router(j, out);
    for (uint64_t i = 0; !random && i < n; i++)
        convert_from_f32(j->t->dtype, &same, out + i * j->size, 1);
    size_t bytes = n * j->size, done = 0;
    while (done < bytes) {
        ssize_t k =
            pwrite(j->fd, out + done, bytes - done, (off_t)(j->t->offset + start * j->size + done));
        if (k <= 0)
            break;
        done += (size_t)k;
    }
    big_free(out, CHUNK * sizeof(float));
    return done < bytes;
}

static void shard_name(char name[64], const struct options *o, unsigned shard)
{
    if (o->shards == 1)
        snprintf(name, 64, "model.safetensors");
    else
        snprintf(name, 64, "model-%05u-of-%05u.safetensors", shard + 1, o->shards);
}

/* The header of one file; also places its tensors. Returns the size of the file. */
static uint64_t build_header(struct plan *p, unsigned shard, struct buf *b)
{
    uint64_t at = 0;
    buf_addc(b, '{');
    for (size_t i = 0; i < p->n; i++) {
        struct tensor *t = &p->tensors[i];
        if (t->shard != shard)
            continue;
        buf_addf(b, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%llu", b->len > 1 ? "," : "", t->name,
                 dtype_info(t->dtype)->safetensors, (unsigned long long)t->rows);
        if (t->cols)
            buf_addf(b, ",%llu", (unsigned long long)t->cols);
        buf_addf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                 (unsigned long long)(at + t->bytes));
        t->offset = at;
        at += t->bytes;
    }
    buf_addc(b, '}');
    while (b->len % 8)
        buf_addc(b, ' ');
    for (size_t i = 0; i < p->n; i++)
        if (p->tensors[i].shard == shard)
            p->tensors[i].offset += 8 + b->len;
    return 8 + b->len + at;
}

static void write_shard(const struct options *o, struct plan *p, unsigned shard,
                        const uint8_t *table)
{
    struct buf b;
    struct err e;
    char name[64];
    buf_init(&b, 64u << 20);
    uint64_t bytes = build_header(p, shard, &b), length = b.len;
    shard_name(name, o, shard);
    char *path = fs_join(o->out, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) || pwrite(fd, &length, 8, 0) != 8 ||
        pwrite(fd, b.data, b.len, 8) != (ssize_t)b.len) {
        err_set(&e, ERR_IO, NULL, "cannot write %s", path);
        die(&e);
    }
    for (size_t i = 0; i < p->n && !o->sparse; i++) {
        struct job j = {.o = o, .t = &p->tensors[i], .fd = fd, .table = table, .stream = i};
        j.size = dtype_info(j.t->dtype)->bytes;
        j.elements = j.t->bytes / j.size;
        if (j.t->shard == shard &&
            thread_parallel_for(o->threads, (j.elements + CHUNK - 1) / CHUNK, write_chunk, &j)) {
            err_set(&e, ERR_IO, NULL, "cannot write %s", path);
            die(&e);
        }
    }
    close(fd);
    xfree(path);
    buf_release(&b);
}

/* ---- the small files
 * ---------------------------------------------------------------------------- */

static void save(const struct options *o, const char *name, const struct buf *b)
{
    struct err e;
    char *path = fs_join(o->out, name);
    if (fs_write_all(path, b->data, b->len, &e))
        die(&e);
    xfree(path);
}

static void write_index(const struct options *o, const struct plan *p)
{
    struct buf b;
    char name[64];
    uint64_t all = 0;
    buf_init(&b, 64u << 20);
    for (size_t i = 0; i < p->n; i++)
        all += p->tensors[i].bytes;
    buf_addf(&b, "{\"metadata\":{\"total_size\":%llu},\"weight_map\":{", (unsigned long long)all);
    for (size_t i = 0; i < p->n; i++) {
        shard_name(name, o, p->tensors[i].shard);
        buf_addf(&b, "%s\n\"%s\":\"%s\"", i ? "," : "", p->tensors[i].name, name);
    }
    buf_adds(&b, "}}\n");
    save(o, "model.safetensors.index.json", &b);
    buf_release(&b);
}

static void write_config(const struct options *o)
{
    const struct preset *s = &o->shape;
    unsigned bos = s->tokenizer == TOKENIZER_SPM ? 1 : s->vocab - 2;
    struct buf b;
    buf_init(&b, 65536);
    buf_addf(&b, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n", s->architecture,
             s->model_type);
    buf_addf(&b, "  \"hidden_size\": %u,\n  \"num_hidden_layers\": %u,\n", s->hidden, s->layers);
    buf_addf(&b, "  \"num_attention_heads\": %u,\n  \"num_key_value_heads\": %u,\n", s->heads,
             s->kv_heads);
    buf_addf(&b, "  \"head_dim\": %u,\n  \"intermediate_size\": %u,\n", s->head_dim, s->ffn);
    buf_addf(&b, "  \"vocab_size\": %u,\n  \"max_position_embeddings\": %u,\n", s->vocab,
             s->context);
    buf_addf(&b, "  \"rope_theta\": %.1f,\n  \"rms_norm_eps\": 1e-05,\n", s->theta);
    buf_addf(&b, "  \"hidden_act\": \"silu\",\n  \"tie_word_embeddings\": %s,\n",
             o->tied ? "true" : "false");
    buf_addf(&b, "  \"bos_token_id\": %u,\n  \"eos_token_id\": %u,\n", bos, bos + 1);
    if (s->experts > 0)
        buf_addf(&b, "  \"num_local_experts\": %u,\n  \"num_experts_per_tok\": 2,\n", s->experts);
    const char *type = o->dtype == DT_BF16  ? "bfloat16"
                       : o->dtype == DT_F16 ? "float16"
                                            : "float32";
    if (o->packed)
        buf_addf(&b,
                 "  \"quantization_config\": {\"quant_method\": \"%s\", \"bits\": 4, "
                 "\"group_size\": %d},\n",
                 o->packed, GROUP);
    buf_addf(&b, "  \"torch_dtype\": \"%s\"\n}\n", type);
    save(o, "config.json", &b);
    buf_release(&b);
}

/* ---- the tokenizer
 * ------------------------------------------------------------------------------ */

/* The k-th word of two or more lower-case letters, shorter ones first. */
static void word(unsigned k, char text[16])
{
    int length = 2;
    unsigned count = 26 * 26;
    for (; k >= count; length++, count *= 26)
        k -= count;
    text[length] = '\0';
    for (int i = length - 1; i >= 0; i--, k /= 26)
        text[i] = (char)('a' + k % 26);
}

/* GPT-2's printable stand-in for a byte. */
static unsigned stand_in(unsigned byte)
{
    unsigned shifted = 0;
    for (unsigned b = 0; b <= byte; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte)
            return printable ? b : 256 + shifted;
        shifted += !printable;
    }
    return byte;
}

static void add_letter(struct buf *b, unsigned code)
{
    if (code == '"' || code == '\\')
        buf_addf(b, "\\%c", (int)code);
    else if (code < 0x80)
        buf_addc(b, (char)code);
    else
        buf_addf(b, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | (code & 0x3f)));
}

static unsigned add_alphabet(struct buf *b, enum tokenizer kind)
{
    unsigned id = 0;
    if (kind != TOKENIZER_SPM) {
        for (; id < 256; id++) {
            buf_adds(b, id ? ",\n\"" : "\"");
            add_letter(b, stand_in(id));
            buf_addf(b, "\":%u", id);
        }
        return id;
    }
    buf_adds(b, "\"<unk>\":0,\n\"<s>\":1,\n\"</s>\":2");
    for (id = 3; id < 259; id++)
        buf_addf(b, ",\n\"<0x%02X>\":%u", id - 3, id);
    buf_addf(b, ",\n\"\xe2\x96\x81\":%u", id++);
    for (char c = 'a'; c <= 'z'; c++)
        buf_addf(b, ",\n\"%c\":%u", c, id++);
    return id;
}

static void add_added(struct buf *b, const char *text, unsigned id, bool last)
{
    buf_addf(
        b,
        "{\"id\":%u,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
        "\"normalized\":false,\"special\":true}%s\n",
        id, text, last ? "" : ",");
}

static const char *const structure[] = {
    [TOKENIZER_SPM] =
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
        "\"\xe2\x96\x81\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]},\n"
        "\"pre_tokenizer\":null,\n\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Rep"
        "lace\","
        "\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":\" "
        "\"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
        "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},\n",
    [TOKENIZER_LLAMA3] =
        "\"normalizer\":null,\n\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type"
        "\":\"Split\","
        "\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p"
        "{L}+|\\\\p{N}{1,3}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"b"
        "ehavior\":\"Isolated\","
        "\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":tru"
        "e,"
        "\"use_regex\":false}]},\n\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
        "\"trim_offsets\":true,\"use_regex\":true},\n",
    [TOKENIZER_QWEN] =
        "\"normalizer\":{\"type\":\"NFC\"},\n\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokeniz"
        "ers\":[{\"type\":"
        "\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p"
        "{N}]?\\\\p{L}+|\\\\p{N}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"b"
        "ehavior\":\"Isolated\","
        "\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":tru"
        "e,"
        "\"use_regex\":false}]},\n\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
        "\"trim_offsets\":true,\"use_regex\":true},\n",
};

static void write_tokenizer(const struct options *o)
{
    const struct preset *s = &o->shape;
    bool spm = s->tokenizer == TOKENIZER_SPM;
    unsigned end = spm ? s->vocab : s->vocab - 2; /* byte-level: BOS and EOS come last */
    struct buf b;
    char text[16];
    buf_init(&b, 256u << 20);
    buf_adds(&b,
             "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n\"added_tokens\":[\n");
    if (spm)
        add_added(&b, "<unk>", 0, false);
    add_added(&b, spm ? "<s>" : "<|begin|>", spm ? 1 : s->vocab - 2, false);
    add_added(&b, spm ? "</s>" : "<|end|>", spm ? 2 : s->vocab - 1, true);
    buf_addf(&b, "],\n%s\"post_processor\":null,\n", structure[s->tokenizer]);
    buf_addf(&b,
             "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":%s,"
             "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":%s,"
             "\"byte_fallback\":%s,\"ignore_merges\":%s,\n\"vocab\":{\n",
             spm ? "\"<unk>\"" : "null", spm ? "true" : "false", spm ? "true" : "false",
             s->tokenizer == TOKENIZER_LLAMA3 ? "true" : "false");
    unsigned first = add_alphabet(&b, s->tokenizer);
    for (unsigned id = first; id < end; id++) {
        word(id - first, text);
        buf_addf(&b, ",\n\"%s\":%u", text, id);
    }
    size_t commas = 0;
    buf_adds(&b, "},\n\"merges\":[");
    for (unsigned id = first; id < end; id++) {
        word(id - first, text);
        size_t n = strlen(text),
               cut = spm ? 1 : n - 1; /* SentencePiece lists every cut of a piece */
        for (; cut < n; cut++, commas++)
            buf_addf(&b, "%s\n\"%.*s %s\"", commas ? "," : "", (int)cut, text, text + cut);
    }
    buf_adds(&b, "]}}\n");
    save(o, "tokenizer.json", &b);
    buf_clear(&b);
    buf_addf(&b,
             "{\"tokenizer_class\":\"%s\",\"bos_token\":\"%s\",\"eos_token\":\"%s\",%s"
             "\"add_bos_token\":%s,\"add_eos_token\":false,\"model_max_length\":%u}\n",
             spm ? "LlamaTokenizerFast" : "PreTrainedTokenizerFast", spm ? "<s>" : "<|begin|>",
             spm ? "</s>" : "<|end|>", spm ? "\"unk_token\":\"<unk>\"," : "",
             s->tokenizer == TOKENIZER_QWEN ? "false" : "true", s->context);
    save(o, "tokenizer_config.json", &b);
    buf_release(&b);
}

/* ---- main
 * --------------------------------------------------------------------------------------- */

static unsigned number(const char *name, const char *text, unsigned long max)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (*end || v < 1 || v > max)
        bad_usage(name, text);
    return (unsigned)v;
}

static void parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"shape", 1, NULL, 's'},  {"layers", 1, NULL, 'l'},  {"vocab", 1, NULL, 'v'},
        {"shards", 1, NULL, 'k'}, {"seed", 1, NULL, 'r'},    {"dtype", 1, NULL, 'd'},
        {"sparse", 0, NULL, 'h'}, {"threads", 1, NULL, 't'}, {"tied", 0, NULL, 'w'},
        {"packed", 1, NULL, 'p'}, {NULL, 0, NULL, 0},
    };
    unsigned layers = 0, vocab = 0;
    *o = (struct options){.shape = presets[0], .shards = 1, .seed = 1, .dtype = DT_BF16};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        size_t i = 0;
        while (c == 's' && i < sizeof presets / sizeof *presets && strcmp(presets[i].name, optarg))
            i++;
        if (c == '?' || (c == 's' && i == sizeof presets / sizeof *presets))
            bad_usage("unknown", c == 's' ? optarg : "option");
        if (c == 's')
            o->shape = presets[i];
        layers = c == 'l' ? number("--layers", optarg, 512) : layers;
        vocab = c == 'v' ? number("--vocab", optarg, 400000) : vocab;
        o->shards = c == 'k' ? number("--shards", optarg, 999) : o->shards;
        o->seed = c == 'r' ? number("--seed", optarg, 1000000000) : o->seed;
        o->dtype = c == 'd' ? dtype_by_name(optarg) : o->dtype;
        o->threads = c == 't' ? (int)number("--threads", optarg, 1024) : o->threads;
        o->packed = c == 'p' ? optarg : o->packed;
        o->sparse |= c == 'h';
        o->tied |= c == 'w';
    }
    o->shape.layers = layers ? layers : o->shape.layers;
    o->shape.vocab = vocab ? vocab : o->shape.vocab;
    if (o->dtype != DT_BF16 && o->dtype != DT_F16 && o->dtype != DT_F32)
        bad_usage("--dtype", "is BF16, F16 or F32");
    if (o->packed && strcmp(o->packed, "gptq") != 0 && strcmp(o->packed, "awq") != 0)
        bad_usage("--packed", "is gptq or awq");
    if (o->shape.vocab < 512)
        bad_usage("--vocab", "is at least 512");
    if (optind + 1 != argc)
        bad_usage("expected", "one folder to write");
    o->out = argv[optind];
}

int main(int argc, char **argv)
{
    struct options o;
    struct plan p = {0};
    struct err e;
    parse(&o, argc, argv);
    if (fs_mkdirs(o.out, &e))
        die(&e);
    plan_tensors(&p, &o);
    uint8_t *table = quantile_table(o.dtype);
    for (unsigned k = 0; k < o.shards; k++)
        write_shard(&o, &p, k, table);
    if (o.shards > 1)
        write_index(&o, &p);
    write_config(&o);
    write_tokenizer(&o);
    xfree(table);
    xfree(p.tensors);
    return 0;
}
