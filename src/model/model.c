/* The model view: opening by kind of source, and the accessors that need no data.
 *
 * Owns every map and table of a model; see model_int.h for the life of pointers. A model either
 * opens completely, validated, or not at all. */
#include "model/model_int.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "base/banned.h"

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

/* llama.cpp's converter writes these as F32 whatever type is asked for; the same goes for
 * everything that is not called a weight. Its quantizer leaves them as a GGUF file has them. */
static bool is_converted_wide(const char *name)
{
    static const char *const tails[] = {
        ".ffn_gate_inp.weight", ".ffn_gate_inp_shexp.weight", ".ssm_conv1d.weight",
        "position_embd.weight", "token_types.weight",         ".shortconv.conv.weight",
    };
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (ends_with(name, tails[i]))
            return true;
    return !ends_with(name, ".weight");
}

int model_add_tensor(struct model *m, const struct model_tensor *t, const struct model_source *s,
                     struct err *e)
{
    struct model_desc *d = &m->desc;
    if (!map_add(&m->by_name, t->name, strlen(t->name), d->n_tensors))
        return err_set(e, ERR_INPUT, "remove one of the two from the model's files",
                       "%s: two tensors would be called %s in a GGUF", m->path, t->name);
    size_t capacity = m->capacity;
    d->tensors = xgrow(d->tensors, &capacity, d->n_tensors + 1, sizeof *d->tensors);
    m->sources = xgrow(m->sources, &m->capacity, d->n_tensors + 1, sizeof *m->sources);
    struct model_tensor *added = &d->tensors[d->n_tensors];
    *added = *t;
    added->role = model_role_of(t->name);
    added->layer = model_layer_of(t->name);
    bool wide = t->shape.n_dims <= 1 || ends_with(t->name, "_norm.weight") ||
                (!m->is_gguf && is_converted_wide(t->name));
    added->dtype_min = wide ? DT_F32 : DT_NONE;
    m->sources[d->n_tensors++] = *s;
    uint64_t n;
    if (!shape_elements(&t->shape, &n) || !num_add_u64(d->parameters, n, &d->parameters))
        return err_set(e, ERR_INPUT, NULL, "%s: tensor %s has more elements than 2^64", m->path,
                       t->name);
    if (dtype_info(t->dtype)->quantized)
        m->is_quantized = true;
    return 0;
}

/* PyTorch's two formats: a zip archive, and before that a bare pickle of protocol 2 to 5. */
static bool is_pickle(const char *path)
{
    uint8_t head[2] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd >= 0 ? read(fd, head, sizeof head) : 0;
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)sizeof head &&
           (memcmp(head, "PK", 2) == 0 || (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5));
}

static int open_source(struct model *m, struct err *e)
{
    if (fs_is_dir(m->path))
        return folder_open(m, e);
    if (!fs_exists(m->path))
        return err_set(
            e, ERR_MISSING,
            "give a Hugging Face folder (config.json, *.safetensors, tokenizer.json) or a "
            ".gguf file",
            "there is no model at %s", m->path);
    if (ends_with(m->path, ".safetensors"))
        return err_set(e, ERR_USAGE,
                       "give the folder that holds it together with config.json and tokenizer.json",
                       "%s alone is not a model", m->path);
    if (is_pickle(m->path))
        return err_set(e, ERR_UNSUPPORTED,
                       "give the folder of the same model with safetensors, or a .gguf file",
                       "%s is a PyTorch file; such pickled files can run code when they are read, "
                       "and are never opened",
                       m->path);
    return gguf_source_open(m, e);
}

int model_open(struct model **out, const char *path, struct err *e)
{
    struct model *m = xcalloc(1, sizeof *m);
    m->path = xstrdup(path);
    size_t n = strlen(m->path);
    while (n > 1 && m->path[n - 1] == '/')
        m->path[--n] = '\0';
    if (open_source(m, e)) {
        model_close(m);
        return -1;
    }
    model_describe_cache(m);
    *out = m;
    return 0;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n_shards; i++)
        safetensors_close(&m->shards[i]);
    xfree(m->shards);
    if (m->is_gguf)
        gguf_close(&m->gguf);
    gguf_kvs_release(&m->kvs);
    map_release(&m->by_name);
    xfree(m->desc.tensors);
    xfree(m->sources);
    arena_release(&m->arena);
    xfree(m->path);
    xfree(m);
}

int model_select(struct model *m, const size_t *keep, const char *const *names, size_t n,
                 uint32_t n_layer, struct err *e)
{
    struct model_desc *d = &m->desc;
    struct model_tensor *tensors = d->tensors;
    struct model_source *sources = m->sources;
    int rc = 0;
    map_release(&m->by_name);
    m->by_name = (struct map){0};
    d->tensors = NULL;
    m->sources = NULL;
    m->capacity = d->n_tensors = 0;
    d->parameters = 0;
    m->is_quantized = false;
    d->n_layer = n_layer;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct model_tensor t = tensors[keep[i]];
        t.name = arena_strdup(&m->arena, names[i]);
        rc = model_add_tensor(m, &t, &sources[keep[i]], e);
    }
    xfree(tensors);
    xfree(sources);
    return rc;
}

struct gguf_kvs *model_kvs_edit(struct model *m)
{
    return &m->kvs;
}

const struct model_desc *model_desc(const struct model *m)
{
    return &m->desc;
}

const struct gguf_kvs *model_kvs(const struct model *m)
{
    return &m->kvs;
}

const char *model_path(const struct model *m)
{
    return m->path;
}

uint64_t model_source_bytes(const struct model *m)
{
    return m->source_bytes;
}

bool model_is_gguf(const struct model *m)
{
    return m->is_gguf;
}

bool model_is_quantized(const struct model *m)
{
    return m->is_quantized;
}

int model_check_generates(const struct model *m, struct err *e)
{
    if (!m->desc.encoder)
        return 0;
    return err_set(
        e, ERR_UNSUPPORTED,
        "'convert', 'quantize' and 'inspect' work with it; compare embeddings to judge "
        "a file",
        "%s is an encoder (%s): it makes embeddings and no next token, so perplexity, KL "
        "divergence and tokens per second cannot be measured",
        m->path, m->desc.architecture);
}

const char *model_quantization(const struct model *m)
{
    return m->quantization;
}

int model_find(const struct model *m, const char *name)
{
    uint64_t i;
    return map_get_str(&m->by_name, name, &i) ? (int)i : -1;
}
