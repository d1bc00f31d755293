/* The weight files of a Hugging Face folder: one model.safetensors, or shards with or without their
 * index.
 *
 * Rules: with model.safetensors.index.json its weight_map decides which files there are, and every
 * tensor must lie in exactly the file it names; without it all model*.safetensors are taken, and a
 * name of the form NAME-00002-of-00005 must have all its siblings. Names in the index are plain
 * file names of this folder, never paths. Shards are opened in order of their names, which is also
 * the order in which llama.cpp's converter writes their tensors. */
#include "model/model_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define INDEX_NAME "model.safetensors.index.json"

static bool is_weight_file(const char *name)
{
    size_t n = strlen(name);
    return n > 17 - 1 && strncmp(name, "model", 5) == 0 &&
           strcmp(name + n - 12, ".safetensors") == 0;
}

static bool is_plain_name(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/') && strlen(name) <= 255;
}

/* Large files kept outside git are replaced by a few lines of text when they were not fetched. */
static bool is_lfs_pointer(const char *path)
{
    char *text = NULL;
    size_t n = 0;
    uint64_t bytes = 0;
    if (fs_size(path, &bytes, NULL) || bytes > 1024 || fs_read_all(path, 1024, &text, &n, NULL))
        return false;
    bool pointer = n > 20 && memcmp(text, "version https://git-", 20) == 0;
    xfree(text);
    return pointer;
}

static int open_shard(struct model *m, const char *name, struct err *e)
{
    char *path = fs_join(m->path, name);
    int failed = -1;
    if (is_lfs_pointer(path))
        err_set(e, ERR_INPUT, "fetch the real file with: git lfs pull",
                "%s is a Git LFS pointer of a few lines, not the weights", path);
    else
        failed = safetensors_open(&m->shards[m->n_shards], path, e);
    if (!failed)
        m->source_bytes += m->shards[m->n_shards++].map.size;
    xfree(path);
    return failed;
}

/* ---- without an index
 * --------------------------------------------------------------------------- */

/* "model-00002-of-00005.safetensors": every sibling must be there. */
static int check_siblings(const struct model *m, const char *name, struct err *e)
{
    char stem[256];
    unsigned part, parts, k;
    if (strlen(name) > 200 ||
        sscanf(name, "%199[^-]-%u-of-%u.safetensors", stem, &part, &parts) != 3)
        return 0;
    if (parts == 0 || parts > MODEL_SHARDS_MAX)
        return err_set(e, ERR_INPUT, NULL,
                       "%s: the name of %s asks for %u shards, 1 to %u can be read", m->path, name,
                       parts, MODEL_SHARDS_MAX);
    for (k = 1; k <= parts; k++) {
        char *sibling = xasprintf("%s/%s-%05u-of-%05u.safetensors", m->path, stem, k, parts);
        bool there = fs_exists(sibling);
        if (!there)
            err_set(e, ERR_MISSING, "fetch the missing file; the model cannot be read without it",
                    "%s: shard %u of %u is missing: %s", m->path, k, parts, fs_basename(sibling));
        xfree(sibling);
        if (!there)
            return -1;
    }
    return 0;
}

static bool name_ends(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return n > m && strcmp(name + n - m, tail) == 0;
}

static int no_weights(const struct model *m, char **names, size_t n, struct err *e)
{
    const char *other = NULL, *pickle = NULL;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i], "adapter_model.safetensors") == 0)
            return err_set(
                e, ERR_UNSUPPORTED,
                "give the model that it was made for, which adapter_config.json names as "
                "base_model_name_or_path; or merge the adapter into it first",
                "%s is an adapter (LoRA), not a whole model: it has %s", m->path, names[i]);
        if (!other && name_ends(names[i], ".safetensors"))
            other = names[i];
        if (!pickle && (name_ends(names[i], ".bin") || name_ends(names[i], ".pth")))
            pickle = names[i];
    }
    if (other)
        return err_set(e, ERR_UNSUPPORTED,
                       "use the files of the same model in the layout of Hugging Face, "
                       "model*.safetensors",
                       "%s has weights only as %s, and not as model*.safetensors", m->path, other);
    if (pickle)
        return err_set(e, ERR_UNSUPPORTED,
                       "use the safetensors files of the same model in Hugging Face layout; "
                       "pickled files can run code and are never opened",
                       "%s has weights only as %s, and not as model*.safetensors", m->path, pickle);
    return err_set(e, ERR_MISSING, "a model folder holds model.safetensors or its shards",
                   "%s has no model*.safetensors", m->path);
}

static int open_listed(struct model *m, char **names, size_t n, struct err *e)
{
    size_t found = 0;
    /* What lies beside it is the same in another type (model.fp16.safetensors), or other parts. */
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], "model.safetensors") == 0) {
            m->shards = xcalloc(1, sizeof *m->shards);
            return open_shard(m, names[i], e);
        }
    for (size_t i = 0; i < n; i++)
        found += is_weight_file(names[i]);
    if (found == 0)
        return no_weights(m, names, n, e);
    if (found > MODEL_SHARDS_MAX)
        return err_set(e, ERR_LIMIT, NULL, "%s has %zu weight files, at most %u can be read",
                       m->path, found, MODEL_SHARDS_MAX);
    m->shards = xcalloc(found, sizeof *m->shards);
    for (size_t i = 0; i < n; i++)
        if (is_weight_file(names[i]) &&
            (check_siblings(m, names[i], e) || open_shard(m, names[i], e)))
            return -1;
    return 0;
}

static int open_without_index(struct model *m, struct err *e)
{
    char **names = NULL;
    size_t n = 0;
    if (fs_list(m->path, &names, &n, e))
        return -1;
    int failed = open_listed(m, names, n, e);
    fs_list_free(names, n);
    return failed;
}

/* ---- with an index
 * ------------------------------------------------------------------------------ */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int missing_shard(const struct model *m, const json_t *weights, const char *file,
                         struct err *e)
{
    const char *name;
    json_t *value;
    size_t lost = 0;
    json_object_foreach((json_t *)(uintptr_t)weights, name, value) lost +=
        strcmp(json_string_value(value), file) == 0;
    return err_set(e, ERR_MISSING, "fetch the missing file; the model cannot be read without it",
                   "%s: shard %s is missing; " INDEX_NAME " says it holds %zu of %zu tensors",
                   m->path, file, lost, json_object_size(weights));
}

/* Distinct file names of the weight_map, sorted, in `files` (as many as there are tensors). */
static int list_files(const struct model *m, const json_t *weights, const char **files, size_t *n,
                      struct err *e)
{
    const char *name;
    json_t *value;
    size_t all = 0;
    json_object_foreach((json_t *)(uintptr_t)weights, name, value)
    {
        const char *file = json_string_value(value);
        if (!file || !is_plain_name(file))
            return err_set(e, ERR_INPUT, "fetch the index again from where the model comes from",
                           "%s/" INDEX_NAME
                           ": tensor %.200s lies in %.200s, expected a file name in "
                           "the same folder",
                           m->path, name, file ? file : "something that is not a string");
        files[all++] = file;
    }
    qsort(files, all, sizeof *files, compare_names);
    *n = 0;
    for (size_t i = 0; i < all; i++)
        if (i == 0 || strcmp(files[i], files[*n - 1]) != 0)
            files[(*n)++] = files[i];
    return 0;
}

static int open_files(struct model *m, const json_t *weights, const char **files, size_t n,
                      struct err *e)
{
    if (n > MODEL_SHARDS_MAX)
        return err_set(e, ERR_LIMIT, NULL,
                       "%s: " INDEX_NAME " names %zu files, at most %u can be read", m->path, n,
                       MODEL_SHARDS_MAX);
    m->shards = xcalloc(n, sizeof *m->shards);
    for (size_t i = 0; i < n; i++) {
        char *path = fs_join(m->path, files[i]);
        bool there = fs_exists(path);
        xfree(path);
        if (!there)
            return missing_shard(m, weights, files[i], e);
        if (open_shard(m, files[i], e))
            return -1;
    }
    return 0;
}

/* The index and the shards must tell the same story, in both directions. */
static int check_index(const struct model *m, const json_t *weights, struct err *e)
{
    size_t stored = 0;
    for (size_t k = 0; k < m->n_shards; k++) {
        const struct safetensors *s = &m->shards[k];
        stored += s->n_tensors;
        for (size_t i = 0; i < s->n_tensors; i++) {
            const char *name = s->tensors[i].name;
            const char *file = json_string_value(json_object_get(weights, name));
            if (!file || strcmp(file, fs_basename(s->map.path)) != 0)
                return err_set(e, ERR_INPUT,
                               "index and shards are of different downloads; fetch both",
                               "%s holds tensor %s, but " INDEX_NAME " says it lies in %.200s",
                               s->map.path, name, file ? file : "no file");
        }
    }
    if (stored == json_object_size(weights))
        return 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)weights, name, value) for (
        size_t k = 0; k < m->n_shards;
        k++) if (strcmp(json_string_value(value), fs_basename(m->shards[k].map.path)) == 0 &&
                 !safetensors_find(
                     &m->shards[k],
                     name)) return err_set(e, ERR_MISSING,
                                           "index and shards are of different downloads; fetch "
                                           "both",
                                           INDEX_NAME
                                           " says that tensor %.200s lies in %s, which does not "
                                           "have it",
                                           name, m->shards[k].map.path);
    return 0;
}

static int open_with_index(struct model *m, const json_t *index, struct err *e)
{
    const json_t *weights = json_object_get(index, "weight_map");
    if (!json_is_object(weights) || json_object_size(weights) == 0)
        return err_set(e, ERR_INPUT, "fetch the index again from where the model comes from",
                       "%s/" INDEX_NAME " has no weight_map of tensor names to files", m->path);
    const char **files = xcalloc(json_object_size(weights), sizeof *files);
    size_t n = 0;
    int failed = list_files(m, weights, files, &n, e) || open_files(m, weights, files, n, e) ||
                 check_index(m, weights, e);
    xfree(files);
    return failed ? -1 : 0;
}

int shards_open(struct model *m, struct err *e)
{
    json_t *index = NULL;
    if (folder_read_json(m, INDEX_NAME, MODEL_INDEX_BYTES_MAX, false, &index, e))
        return -1;
    int failed = index ? open_with_index(m, index, e) : open_without_index(m, e);
    json_decref(index);
    return failed;
}
