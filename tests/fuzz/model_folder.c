/* A Hugging Face folder with one hostile file: the first byte says which, the rest is its content;
 * the other files are those of a small model that opens. Whatever opens must also read and hash. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct file {
    const char *name, *text; /* NULL: usually not there */
};

static const char config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":8,\"hidden_size\":4,\"intermediate_s"
    "ize\":4,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"tie_word_embeddings\":true}";
static const char tokenizer[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true}],\"pre_tokenizer\":{\"type"
    "\":"
    "\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\""
    "a\":1,"
    "\"b\":2,\"ab\":3},\"merges\":[\"a b\"]}}";

static const struct file files[] = {
    {"config.json", config},
    {"tokenizer.json", tokenizer},
    {"tokenizer_config.json", NULL},
    {"generation_config.json", NULL},
    {"README.md", NULL},
    {"chat_template.jinja", NULL},
    {"special_tokens_map.json", NULL},
    {"added_tokens.json", NULL},
    {"model.safetensors.index.json", NULL},
};

enum { FILES = sizeof files / sizeof *files };

static char root[128], folder[160];

static void put(const char *name, const void *data, size_t n)
{
    char *path = fs_join(folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f))
        abort();
    xfree(path);
}

static void restore(const struct file *file)
{
    char *path = fs_join(folder, file->name);
    if (file->text)
        put(file->name, file->text, strlen(file->text));
    else
        fs_remove(path, NULL);
    xfree(path);
}

static size_t add_tensor(char *header, size_t at, size_t room, const char *name, int rows, int cols,
                         size_t *offset)
{
    size_t bytes = (size_t)rows * (size_t)(cols ? cols : 1) * 4;
    char shape[32];
    snprintf(shape, sizeof shape, cols ? "%d,%d" : "%d", rows, cols);
    int n = snprintf(header + at, room - at,
                     "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                     at ? ',' : '{', name, shape, *offset, *offset + bytes);
    *offset += bytes;
    return at + (size_t)n;
}

static void put_weights(void)
{
    static const struct {
        const char *name;
        int rows, cols;
    } tensors[] = {
        {"model.embed_tokens.weight", 8, 4},
        {"model.norm.weight", 4, 0},
        {"model.layers.0.input_layernorm.weight", 4, 0},
        {"model.layers.0.post_attention_layernorm.weight", 4, 0},
        {"model.layers.0.self_attn.q_proj.weight", 4, 4},
        {"model.layers.0.self_attn.k_proj.weight", 4, 4},
        {"model.layers.0.self_attn.v_proj.weight", 4, 4},
        {"model.layers.0.self_attn.o_proj.weight", 4, 4},
        {"model.layers.0.mlp.gate_proj.weight", 4, 4},
        {"model.layers.0.mlp.up_proj.weight", 4, 4},
        {"model.layers.0.mlp.down_proj.weight", 4, 4},
    };
    static char file[8192];
    size_t at = 0, offset = 0;
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        at = add_tensor(file + 8, at, 4096, tensors[i].name, tensors[i].rows, tensors[i].cols,
                        &offset);
    file[8 + at++] = '}';
    uint64_t length = at;
    memcpy(file, &length, 8);
    put("model.safetensors", file, 8 + at + offset); /* weights are zeros */
}

static void clean(void)
{
    fs_remove_tree(root, NULL);
}

static void set_up(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/fuzz-model-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(root))
        abort();
    snprintf(folder, sizeof folder, "%s/model", root);
    if (fs_mkdirs(folder, NULL))
        abort();
    atexit(clean);
    log_set_level(LOG_QUIET);
    for (size_t i = 0; i < FILES; i++)
        restore(&files[i]);
    put_weights();
}

static void use(struct model *m)
{
    const struct model_desc *d = model_desc(m);
    char hex[65];
    for (size_t i = 0; i < d->n_tensors; i++) {
        uint64_t n, rows = shape_rows(&d->tensors[i].shape);
        if (!shape_elements(&d->tensors[i].shape, &n) || n > 1u << 20)
            abort(); /* no tensor of the fixture is larger */
        float *out = xcalloc(n, sizeof *out);
        if (model_rows(m, (int)i, 0, rows, out, NULL))
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
    if (size == 0)
        return 0;
    const struct file *file = &files[data[0] % FILES];
    put(file->name, data + 1, size - 1);
    if (model_open(&m, folder, &e) == 0)
        use(m);
    else if (!e.message[0] || e.code == ERR_BUG)
        abort();
    model_close(m);
    restore(file);
    return 0;
}
