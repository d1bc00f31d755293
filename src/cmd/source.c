/* The original of a comparison: a model as a GGUF that libllama loads without loss, and text to
 * read.
 *
 * Owns the float copies in HOME/cache/<sha256 of the model>/: made once, under a lock, and shared
 * by every later command. A GGUF source is used as it is, whatever its types. Text is a file, or
 * what the model itself samples, which measure/ keeps beside the copy.
 */
#include <string.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cmd/source_int.h"

#include "base/banned.h"

enum { CONTEXT_DEFAULT = 512 };

int cmd_gpu_layers(const struct cmd_args *a)
{
    return cmd_given(a, "gpu-layers") ? (int)cmd_integer(a, "gpu-layers") : -1;
}

struct cache_types cmd_cache(const struct cmd_args *a)
{
    struct cache_types t = {CACHE_F16, CACHE_F16};
    const char *k = cmd_text(a, "cache-type-k"), *v = cmd_text(a, "cache-type-v");
    if (k)
        cache_type_find(k, &t.k);
    if (v)
        cache_type_find(v, &t.v);
    return t;
}

json_t *cmd_cache_json_new(struct cache_types t)
{
    return json_pack("{s:s, s:s}", "k", cache_type_name(t.k), "v", cache_type_name(t.v));
}

static int bake_float(const struct model *m, const char *type, const char *path, int threads,
                      const struct progress *p, struct err *e)
{
    struct recipe r;
    recipe_init(&r, type);
    struct bake_job job = {.model = m,
                           .recipe = &r,
                           .output = path,
                           .threads = threads,
                           .allow_requantize = true,
                           .progress = p};
    struct bake_result done = {0};
    int rc = bake_gguf(&job, &done, e);
    recipe_release(&r);
    return rc;
}

/* Makes the copy unless it is there; the lock keeps two programs from making it at once. */
static int copy_make(const struct cmd_context *c, const struct model *m, const char *folder,
                     int threads, char **gguf, struct err *e)
{
    const char *type = recipe_lossless_type(model_desc(m));
    char *name = xasprintf("original-%s.gguf", type), *lock_path = fs_join(folder, "lock");
    struct fs_lock lock;
    char *path = fs_join(folder, name);
    int rc = -1;
    if (!fs_exists(path)) {
        if (fs_mkdirs(folder, e) || fs_lock_take(&lock, lock_path, e))
            goto out;
        rc = fs_exists(path) ? 0 : bake_float(m, type, path, threads, c->progress, e);
        fs_lock_drop(&lock);
        if (rc)
            goto out;
    }
    *gguf = path;
    path = NULL;
    rc = 0;
out:
    xfree(path);
    xfree(name);
    xfree(lock_path);
    return rc;
}

int cmd_original_open(const struct cmd_context *c, const char *name, int threads,
                      struct original *o, struct err *e)
{
    *o = (struct original){0};
    char *path = NULL, *folder = NULL;
    struct model *m = NULL;
    int rc = -1;
    if (cmd_model_path(c, name, &path, e) || model_open(&m, path, e) ||
        model_check_generates(m, e) || model_hash(m, c->progress, o->sha256, e))
        goto out;
    o->context = model_desc(m)->n_ctx_train;
    o->vocabulary = model_desc(m)->n_vocab;
    o->bytes = model_source_bytes(m);
    folder = xasprintf("%s/cache/%s", c->home, o->sha256);
    o->cache_dir = xstrdup(folder);
    if (model_is_gguf(m)) {
        o->gguf = xstrdup(path);
        rc = 0;
    } else {
        rc = copy_make(c, m, folder, threads, &o->gguf, e);
    }
out:
    model_close(m);
    xfree(path);
    xfree(folder);
    if (rc)
        cmd_original_release(o);
    return rc;
}

void cmd_original_release(struct original *o)
{
    xfree(o->gguf);
    xfree(o->cache_dir);
    *o = (struct original){0};
}

uint32_t cmd_window(const struct cmd_args *a, const struct original *o)
{
    uint32_t asked = (uint32_t)cmd_integer(a, "context");
    if (asked)
        return asked;
    return o->context && o->context < CONTEXT_DEFAULT ? o->context : CONTEXT_DEFAULT;
}

int cmd_corpus_check(const struct cmd_args *a, struct err *e)
{
    const char *name = cmd_text(a, "corpus");
    return strcmp(name, "self") == 0 ? 0 : corpus_check_file(name, e);
}

int cmd_corpus_make(const struct cmd_context *c, const struct cmd_args *a, const struct original *o,
                    struct engine *g, uint32_t n_ctx, size_t windows, struct corpus *corpus,
                    struct err *e)
{
    const char *name = cmd_text(a, "corpus");
    if (strcmp(name, "self") != 0)
        return corpus_from_file(corpus, g, name, n_ctx, windows, e);
    if (fs_mkdirs(o->cache_dir, e))
        return -1;
    return corpus_from_self(corpus, g, o->cache_dir, o->sha256, (uint64_t)cmd_integer(a, "seed"),
                            n_ctx, windows, c->progress, e);
}
