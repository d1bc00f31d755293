/* A checkpoint of quantized weights whose safetensors header is hostile: the first byte chooses
 * config.json's quantization_config, the rest is the header, behind which lie as many bytes as it
 * asks for, up to a limit. Whatever opens must also read and hash. */
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "fuzz_int.h"
#include "model/model.h"

enum { WIDTH = 32, DATA_MAX = 1 << 16, HEADER_MAX = 1 << 16 };

static const char *const methods[] = {
    "\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":16,\"dynamic\":{\"x\":1}",
    "\"quant_method\":\"gptq\",\"bits\":3,\"group_size\":-1,\"checkpoint_format\":\"gptq_v2\"",
    "\"quant_method\":\"awq\",\"bits\":4,\"group_size\":16",
    "\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true",
    "\"quant_method\":\"bitsandbytes\",\"load_in_8bit\":true",
    "\"quant_method\":\"mxfp4\"",
    "\"quant_method\":\"fp8\",\"weight_block_size\":[16,16]",
};
enum { METHODS = sizeof methods / sizeof *methods };

/* What stands in for a projection of WIDTH x WIDTH; a name and what follows it. */
static const char *const pieces[METHODS] = {
    "qweight I32 4,32 512|qzeros I32 2,4 32|scales F16 2,32 128|g_idx I32 32 128",
    "qweight I32 3,32 384|qzeros I32 1,3 12|scales F16 1,32 64",
    "qweight I32 32,4 512|qzeros I32 2,4 32|scales F16 2,32 128",
    "weight U8 512,1 512|weight.absmax U8 16 16|weight.quant_map F32 16 64|"
    "weight.nested_absmax F32 1 4|weight.nested_quant_map F32 256 1024|"
    "weight.quant_state.bitsandbytes__nf4 U8 64 64",
    "weight I8 32,32 1024|SCB F32 32 128|weight_format U8  1",
    "weight_blocks U8 32,1,16 512|weight_scales U8 32,1 32",
    "weight F8_E4M3 32,32 1024|weight_scale_inv F32 2,2 16",
};
static const char state[65] = "{\"blocksize\":64,\"shape\":[32,32],"
                              "\"nested_blocksize\":256}         ";

static char root[128], folder[160];

/* Without waiting for the disk. */
static void put(const char *name, const void *data, size_t n)
{
    char *path = fs_join(folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f))
        abort();
    xfree(path);
}

static void clean(void)
{
    fs_remove_tree(root, NULL);
}

static void set_up(void)
{
    static const char tokenizer[] =
        "{\"added_tokens\":[],\"pre_tokenizer\":{\"type\":\"ByteLevel\","
        "\"add_prefix_space\":false},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,"
        "\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}";
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/fuzz-quantized-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(root))
        abort();
    snprintf(folder, sizeof folder, "%s/model", root);
    if (fs_mkdirs(folder, NULL))
        abort();
    atexit(clean);
    log_set_level(LOG_QUIET);
    put("tokenizer.json", tokenizer, sizeof tokenizer - 1);
}

static void put_config(int method)
{
    char text[1024];
    int n = snprintf(text, sizeof text,
                     "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":8,"
                     "\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":1,"
                     "\"num_attention_heads\":2,\"tie_word_embeddings\":true,"
                     "\"quantization_config\":{%s}}",
                     WIDTH, WIDTH, methods[method]);
    put("config.json", text, (size_t)n);
}

/* The largest number that ends a data_offsets, which is where the data ends in a sound header. */
static size_t data_bytes(const char *header, size_t n)
{
    size_t most = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        size_t v = 0;
        while (i < n && header[i] >= '0' && header[i] <= '9' && v <= DATA_MAX)
            v = v * 10 + (size_t)(header[i++] - '0');
        if (i + 1 < n && header[i] == ']' && header[i + 1] == '}' && v > most)
            most = v;
    }
    return most < DATA_MAX ? most : DATA_MAX;
}

/* Small numbers everywhere, so that indices are often sound, and a quant_state where its name is
 * (the seeds put it at the end). */
static void put_weights(const char *header, size_t n, bool stated)
{
    static char file[8 + HEADER_MAX + DATA_MAX];
    size_t bytes = data_bytes(header, n);
    uint64_t length = n;
    memcpy(file, &length, 8);
    memcpy(file + 8, header, n);
    memset(file + 8 + n, 0, bytes);
    for (size_t i = 0; i + 3 < bytes; i += 4)
        file[8 + n + i] = (char)(i / 4 % 3 == 0);
    if (stated && bytes >= sizeof state - 1)
        memcpy(file + 8 + n + bytes - (sizeof state - 1), state, sizeof state - 1);
    put("model.safetensors", file, 8 + n + bytes);
}

static void use(struct model *m)
{
    const struct model_desc *d = model_desc(m);
    char hex[65];
    for (size_t i = 0; i < d->n_tensors; i++) {
        struct err e = {0};
        uint64_t n, rows = shape_rows(&d->tensors[i].shape);
        if (!shape_elements(&d->tensors[i].shape, &n) || n > 1u << 20)
            abort();
        float *out = xcalloc(n, sizeof *out);
        if (model_rows(m, (int)i, 0, rows, out, &e) && !e.message[0])
            abort();
        xfree(out);
    }
    if (model_hash(m, NULL, hex, NULL))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model *m = NULL;
    struct err e = {0};
    if (!root[0])
        set_up();
    if (size == 0 || size > HEADER_MAX)
        return 0;
    put_config(data[0] % METHODS);
    put_weights((const char *)data + 1, size - 1,
                strstr(methods[data[0] % METHODS], "load_in_4bit") != NULL);
    if (model_open(&m, folder, &e) == 0)
        use(m);
    else if (!e.message[0] || e.code == ERR_BUG)
        abort();
    model_close(m);
    return 0;
}

/* ---- seeds: a sound checkpoint for each method ---- */

static size_t add(char *header, size_t at, const char *stem, const char *tail, const char *type,
                  const char *shape, size_t bytes, size_t *offset)
{
    int n = snprintf(header + at, HEADER_MAX - at,
                     "%c\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                     at ? ',' : '{', stem, tail, type, shape, *offset, *offset + bytes);
    *offset += bytes;
    return at + (size_t)n;
}

/* The quantized projection goes last, with its state at the very end. */
static size_t add_pieces(char *header, size_t at, int method, size_t *offset)
{
    for (const char *s = pieces[method]; *s; s += *s == '|') {
        char name[64], type[16], shape[32];
        const char *end = s + strcspn(s, "|"), *bytes = end;
        while (bytes[-1] != ' ')
            bytes--;
        size_t k = strcspn(s, " ");
        snprintf(name, sizeof name, "%.*s", (int)k, s);
        s += k + 1;
        k = strcspn(s, " ");
        snprintf(type, sizeof type, "%.*s", (int)k, s);
        s += k + 1;
        snprintf(shape, sizeof shape, "%.*s", (int)(bytes - 1 - s), s);
        at = add(header, at, "model.layers.0.mlp.down_proj.", name, type, shape,
                 (size_t)strtoul(bytes, NULL, 10), offset);
        s = end;
    }
    return at;
}

static size_t make_seed(char *header, int method)
{
    static const char *const linear[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                         "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj"};
    size_t at = 0, offset = 0;
    at = add(header, at, "model.embed_tokens", ".weight", "F16", "8,32", 512, &offset);
    at = add(header, at, "model.norm", ".weight", "F16", "32", 64, &offset);
    at = add(header, at, "model.layers.0.input_layernorm", ".weight", "F16", "32", 64, &offset);
    at = add(header, at, "model.layers.0.post_attention_layernorm", ".weight", "F16", "32", 64,
             &offset);
    for (int i = 0; i < 6; i++) {
        char stem[64];
        snprintf(stem, sizeof stem, "model.layers.0.%s", linear[i]);
        at = add(header, at, stem, ".weight", "F16", "32,32", 2048, &offset);
    }
    at = add_pieces(header, at, method, &offset);
    header[at++] = '}';
    return at;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *corpus = fuzz_empty_corpus(*argc, *argv);
    static uint8_t seed[1 + HEADER_MAX];
    for (int i = 0; i < METHODS; i++) {
        struct model *m = NULL;
        struct err e = {0};
        char path[4096];
        seed[0] = (uint8_t)i;
        size_t n = 1 + make_seed((char *)seed + 1, i);
        LLVMFuzzerTestOneInput(seed, n);
        if (model_open(&m, folder, &e)) { /* a seed that does not open reaches nothing */
            fprintf(stderr, "seed %d: %s\n", i, e.message);
            abort();
        }
        model_close(m);
        if (corpus) {
            snprintf(path, sizeof path, "%s/method-%d", corpus, i);
            if (fs_write_all(path, seed, n, NULL))
                abort();
        }
    }
    return 0;
}
