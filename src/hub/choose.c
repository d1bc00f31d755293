/* Which files of a repository a model needs.
 *
 * A Hugging Face model: its JSON and tokenizer files, its card, and its safetensors: those that the
 * index names, else model*.safetensors; others cannot be read and are refused. A repository of GGUF
 * files: the one that is asked for or the only one, with its other parts when it is split. Weights
 * in pickle (.bin, .pt, ...) are never fetched: reading them can run code.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "hub/hub_int.h"

#include "base/banned.h"

const char hub_index_name[] = "model.safetensors.index.json";

static const char *const small_names[] = {
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "modules.json",
    "tokenizer.model.v3",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
    "quantize_config.json",
    "generation_config.json",
    "params.json",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    NULL,
};

/* Each of them a tokenizer, or a part of one. */
static const char *const tokenizer_names[] = {
    "tokenizer.json", "tokenizer.model", "tokenizer.model.v3",      "tekken.json", "vocab.json",
    "vocab.txt",      "spiece.model",    "sentencepiece.bpe.model", NULL,
};

const char *const hub_optional_names[] = {
    "generation_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "model.safetensors",
    hub_index_name,
    NULL,
};

static bool ends(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcasecmp(s + n - m, tail) == 0;
}

static bool is_gguf(const struct hub_file *f)
{
    return ends(f->path, ".gguf");
}

/* Of the top folder. */
static bool is_safetensors(const struct hub_file *f)
{
    return ends(f->path, ".safetensors") && !strchr(f->path, '/');
}

/* Without an index, a model is read from files of this name alone. */
static bool is_weights(const struct hub_file *f)
{
    return is_safetensors(f) && strncmp(f->path, "model", 5) == 0;
}

static bool is_pickle(const struct hub_file *f)
{
    static const char *const tails[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl"};
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++)
        if (ends(f->path, tails[i]) && !strstr(f->path, "training_args"))
            return true;
    return false;
}

static size_t count(const struct hub_repo *r, bool (*is)(const struct hub_file *))
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += is(&r->files[i]);
    return n;
}

/* "1_Pooling/config.json": how an embedding model makes one vector of many. */
static bool is_pooling(const struct hub_file *f)
{
    const char *slash = strchr(f->path, '/');
    return slash && ends(f->path, "_Pooling/config.json") && !strchr(slash + 1, '/');
}

/* Named templates that chat_template.jinja has beside it. */
static bool is_extra_template(const struct hub_file *f)
{
    static const char folder[] = "additional_chat_templates/";
    enum { N = sizeof(folder) - 1 };
    return strncmp(f->path, folder, N) == 0 && ends(f->path, ".jinja") && !strchr(f->path + N, '/');
}

static void want_small(struct hub_repo *r)
{
    for (size_t i = 0; i < r->n; i++)
        r->files[i].wanted |= is_pooling(&r->files[i]) || is_extra_template(&r->files[i]);
    for (const char *const *name = small_names; *name; name++) {
        struct hub_file *f = hub_repo_find(r, *name);
        if (f)
            f->wanted = true;
    }
}

bool hub_has_tokenizer(const struct hub_repo *r)
{
    for (const char *const *name = tokenizer_names; *name; name++)
        if (hub_repo_find(r, *name))
            return true;
    return false;
}

/* ---- GGUF --------------------------------------------------------------------------------------
 */

/* "x-00001-of-00003.gguf": length of "x", else 0. */
static size_t split_stem(const char *path)
{
    size_t n = strlen(path);
    enum { TAIL = sizeof("-00001-of-00003.gguf") - 1 };
    if (n <= TAIL)
        return 0;
    const char *t = path + n - TAIL;
    bool digits = strspn(t + 1, "0123456789") == 5 && strspn(t + 10, "0123456789") == 5;
    return digits && t[0] == '-' && strncmp(t + 6, "-of-", 4) == 0 ? n - TAIL : 0;
}

static bool first_part(const char *path)
{
    size_t stem = split_stem(path);
    return stem == 0 || strncmp(path + stem, "-00001", 6) == 0;
}

/* Projectors of images and importance matrices lie beside models, and are none. */
static bool companion(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strcasestr(name, "mmproj") || strcasestr(name, "imatrix");
}

static bool is_model_gguf(const struct hub_file *f)
{
    return is_gguf(f) && !companion(f->path);
}

static bool could_be_meant(const struct hub_file *f, const char *pick)
{
    return is_gguf(f) && first_part(f->path) && (!companion(f->path) || strcmp(f->path, pick) == 0);
}

/* Has the file's name the picked text as a whole word (any case)? */
static bool picked(const char *path, const char *pick)
{
    size_t n = strlen(pick);
    if (!pick[0])
        return true;
    for (const char *p = path; (p = strcasestr(p, pick)) != NULL; p++) {
        bool before = p == path || strchr("-._/", p[-1]), after = strchr("-._/", p[n]) != NULL;
        if (before && after)
            return true;
    }
    return false;
}

/* How well the picked text names the file: 4, its path; 3, its path in another case; 2, its name in
 * whatever folder; 1, a word of it; 0, not at all. A whole name is no word of another's. */
static int match(const char *path, const char *pick)
{
    const char *slash = strrchr(path, '/');
    if (strcmp(path, pick) == 0)
        return 4;
    if (strcasecmp(path, pick) == 0)
        return 3;
    return slash && strcasecmp(slash + 1, pick) == 0 ? 2 : picked(path, pick);
}

static int several(const struct hub_ref *ref, const struct hub_repo *r, struct err *e)
{
    char hint[ERR_HINT_MAX];
    size_t n = 0, used = 0;
    const char *example = NULL;
    hint[0] = 0;
    for (size_t i = 0; i < r->n && used + 2 < sizeof(hint); i++) {
        const char *path = r->files[i].path;
        if (!could_be_meant(&r->files[i], ref->pick))
            continue;
        example = example ? example : path;
        int wrote = snprintf(hint + used, sizeof(hint) - used, "%s%s", used ? ", " : "", path);
        used += wrote > 0 ? (size_t)wrote : 0;
        n++;
    }
    if (ref->pick[0])
        return err_set(e, ERR_MISSING, hint,
                       "%s: not exactly one of its GGUF files has \"%s\" in its name", ref->repo,
                       ref->pick);
    return err_set(e, ERR_USAGE, hint, "%s has %zu GGUF files; name one, as in %s:%.100s",
                   ref->repo, n, ref->repo, example ? example : "");
}

/* Of the same split: "x-0000N-of-00003.gguf". */
static bool part_of(const char *path, const char *first, size_t stem)
{
    return split_stem(path) == stem && strncmp(path, first, stem) == 0 &&
           strcmp(path + stem + 6, first + stem + 6) == 0;
}

static int check_parts(const struct hub_ref *ref, const char *first, size_t stem, unsigned parts,
                       struct err *e)
{
    unsigned long all = strtoul(first + stem + 10, NULL, 10);
    if (parts == all)
        return 0;
    return err_set(e, ERR_MISSING, "choose another file or repository",
                   "%s: %.200s is the first of %lu parts, and the repository has %u of them",
                   ref->repo, first, all, parts);
}

static int choose_gguf(const struct hub_ref *ref, struct hub_repo *r, const char **gguf,
                       struct err *e)
{
    const struct hub_file *one = NULL;
    int best = 0, n = 0;
    for (size_t i = 0; i < r->n; i++) {
        int how = could_be_meant(&r->files[i], ref->pick) ? match(r->files[i].path, ref->pick) : 0;
        n = how > best ? 1 : n + (how == best && how > 0);
        one = how > best ? &r->files[i] : one;
        best = how > best ? how : best;
    }
    if (!one || n > 1)
        return several(ref, r, e);
    size_t stem = split_stem(one->path);
    unsigned parts = 0;
    for (size_t i = 0; i < r->n; i++) {
        struct hub_file *f = &r->files[i];
        bool part = stem && part_of(f->path, one->path, stem);
        parts += part;
        f->wanted = f == one || part || strcmp(f->path, "README.md") == 0;
    }
    *gguf = one->path;
    return stem ? check_parts(ref, one->path, stem, parts, e) : 0;
}

/* ---- safetensors -------------------------------------------------------------------------------
 */

static int refuse_pickle(const struct hub_ref *ref, struct err *e)
{
    return err_set(
        e, ERR_UNSUPPORTED,
        "look for the same model with safetensors: another revision (often refs/pr/1), or "
        "another repository; the hub's space 'safetensors/convert' makes such a revision",
        "%s has its weights only as PyTorch files (.bin); they are pickle, which can run "
        "code when it is read, and are not fetched",
        ref->repo);
}

static void want_safetensors(struct hub_repo *r)
{
    if (hub_repo_find(r, "model.safetensors")) {
        hub_repo_find(r, "model.safetensors")->wanted = true;
        return;
    }
    for (size_t i = 0; i < r->n; i++)
        r->files[i].wanted |= is_weights(&r->files[i]);
}

/* It has safetensors that are no model, or one in another layout. */
static int refuse_other(const struct hub_ref *ref, const struct hub_repo *r, struct err *e)
{
    const char *name = "";
    if (hub_repo_find(r, "adapter_model.safetensors"))
        return err_set(
            e, ERR_UNSUPPORTED,
            "take the model that it was made for, which its page names as base model; or "
            "one that the adapter was merged into",
            "%s is an adapter (LoRA), not a whole model: it has adapter_model.safetensors",
            ref->repo);
    for (size_t i = 0; i < r->n && !name[0]; i++)
        name = is_safetensors(&r->files[i]) ? r->files[i].path : "";
    return err_set(e, ERR_UNSUPPORTED,
                   "take a repository of the same model that has model*.safetensors, the layout of "
                   "Hugging Face",
                   "%s has its weights only as %.200s, and not as model*.safetensors", ref->repo,
                   name);
}

int hub_choose(const struct hub_ref *ref, struct hub_repo *r, const char **gguf, struct err *e)
{
    bool index = hub_repo_find(r, hub_index_name) != NULL;
    size_t ggufs = count(r, is_model_gguf), any = count(r, is_safetensors);
    size_t tensors = index ? any : count(r, is_weights);
    bool config = hub_repo_find(r, "config.json") != NULL;
    *gguf = NULL;
    if (ggufs > 0 && (ref->pick[0] || tensors == 0 || !config))
        return choose_gguf(ref, r, gguf, e);
    if (ref->pick[0])
        return err_set(e, ERR_MISSING, "leave \":\" and what follows away",
                       "%s has no GGUF files to choose \"%s\" from", ref->repo, ref->pick);
    if (tensors == 0 && count(r, is_pickle) > 0)
        return refuse_pickle(ref, e);
    if (tensors == 0 && any > 0)
        return refuse_other(ref, r, e);
    if (tensors == 0 || !config)
        return err_set(e, ERR_UNSUPPORTED, "a model has config.json and *.safetensors, or *.gguf",
                       "%s holds no model that can be read: it has no %s", ref->repo,
                       tensors == 0 ? "*.safetensors and no *.gguf" : "config.json");
    want_small(r);
    if (index)
        hub_repo_find(r, hub_index_name)->wanted = true;
    else
        want_safetensors(r);
    return 0;
}

int hub_choose_shards(const struct hub_ref *ref, struct hub_repo *r, const json_t *index,
                      struct err *e)
{
    const json_t *map = json_object_get(index, "weight_map"), *file;
    const char *tensor;
    if (!json_is_object(map))
        return err_set(e, ERR_INPUT, NULL, "%s: %s has no \"weight_map\"", ref->repo,
                       hub_index_name);
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file)
    {
        const char *name = json_string_value(file);
        struct hub_file *f = name ? hub_repo_find(r, name) : NULL;
        if (!f)
            return err_set(e, ERR_INPUT, NULL, "%s: %s names the file %.200s, which is not there",
                           ref->repo, hub_index_name, name ? name : "(none)");
        if (!is_safetensors(f))
            return err_set(e, ERR_INPUT, NULL, "%s: %s names %.200s, which is no safetensors file",
                           ref->repo, hub_index_name, name);
        f->wanted = true;
    }
    return 0;
}
