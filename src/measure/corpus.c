/* Text as token windows: from a file, or sampled from the model itself.
 *
 * A file is read whole, must be UTF-8, and is tokenized once as one text; windows are consecutive
 * pieces of n_ctx ids, and where the vocabulary begins texts with BOS, a window's first id is
 * replaced by it: llama-perplexity's definition, so numbers compare.
 *
 * Sampled text is expensive, so it is kept: one file per (model, seed, n_ctx) that only grows. The
 * file begins with a line of JSON that repeats the key and has the count and the SHA-256 of the ids
 * behind it; a file that does not match itself or its key is sampled anew with a warning, never
 * trusted. Invariant: window s of a self corpus depends on model, seed, n_ctx and s only.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "measure/measure_int.h"
#include "base/banned.h"

static const size_t text_bytes_max = 1u << 30;
static const size_t cache_bytes_max = 2u << 30;
static const size_t windows_limit = 1u << 22;

static void hash_tokens(const int32_t *tokens, size_t n, char hex[static 65])
{
    hash_sha256_text(tokens, n * sizeof(*tokens),
                     hex); /* ids are stored little-endian as they lie */
}

void windows_hash(const struct engine_windows *w, char hex[static 65])
{
    struct hash_sha256 *h = hash_sha256_new();
    uint32_t head[2] = {w->n_ctx, w->first};
    hash_sha256_add(h, head, sizeof(head));
    hash_sha256_add(h, w->tokens, w->n_windows * w->n_ctx * sizeof(*w->tokens));
    hash_sha256_finish(h, hex);
}

void corpus_release(struct corpus *c)
{
    xfree(c->tokens);
    xfree(c->source);
    *c = (struct corpus){0};
}

struct engine_windows corpus_slice(const struct corpus *c, size_t from, size_t n)
{
    if (from > c->n_windows)
        from = c->n_windows;
    if (n > c->n_windows - from)
        n = c->n_windows - from;
    return (struct engine_windows){.tokens = c->tokens + from * c->n_ctx,
                                   .n_windows = n,
                                   .n_ctx = c->n_ctx,
                                   .first = c->first};
}

static int check_window(uint32_t n_ctx, struct err *e)
{
    if (n_ctx >= 4 && n_ctx <= 1u << 24)
        return 0;
    return err_set(e, ERR_USAGE, "use a window of 128 to 4096 tokens",
                   "windows of %" PRIu32 " tokens cannot be scored", n_ctx);
}

/* ---- from a file ----------------------------------------------------------------------------- */

/* Length of the well-formed UTF-8 character at p (no surrogates, no overlong forms), or 0. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xC2 && p[0] <= 0xDF   ? 2
               : (p[0] >> 4) == 14            ? 3
               : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4
                                              : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    bool bad = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
               (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F);
    return bad ? 0 : n;
}

size_t utf8_invalid_at(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t i = 0;
    while (i < n) {
        size_t step = utf8_length(p + i, n - i);
        if (step == 0)
            return i;
        i += step;
    }
    return n;
}

static int check_text(const char *path, const char *text, size_t n, struct err *e)
{
    size_t bad = utf8_invalid_at(text, n);
    const char *nul = memchr(text, 0, n);
    if (n == 0)
        return err_set(e, ERR_INPUT, "give a file with text in it", "the corpus %s is empty", path);
    if (nul)
        return err_set(e, ERR_INPUT, "choose a text file",
                       "the corpus %s is not text: there is a zero byte at offset %zu", path,
                       (size_t)(nul - text));
    if (bad == n)
        return 0;
    return err_set(e, ERR_INPUT, "convert it (iconv -t UTF-8), or choose a text file",
                   "the corpus %s is not UTF-8 text: byte 0x%02X at offset %zu begins no character",
                   path, (unsigned)(unsigned char)text[bad], bad);
}

static int read_text(const char *path, char **text, size_t *n, struct err *e)
{
    if (fs_is_dir(path))
        return err_set(e, ERR_INPUT, "give a file of UTF-8 text", "the corpus %s is a folder",
                       path);
    if (fs_read_all(path, text_bytes_max, text, n, e))
        return err_context(e, "the corpus");
    if (check_text(path, *text, *n, e) == 0)
        return 0;
    xfree(*text);
    *text = NULL;
    return -1;
}

int corpus_check_file(const char *path, struct err *e)
{
    char *text = NULL;
    size_t n;
    int rc = read_text(path, &text, &n, e);
    xfree(text);
    return rc;
}

static void cut_windows(struct corpus *c, int32_t *tokens, size_t n_windows, int32_t bos)
{
    c->tokens = tokens;
    c->n_windows = n_windows;
    for (size_t i = 0; bos >= 0 && i < n_windows; i++)
        tokens[i * c->n_ctx] = bos;
    hash_tokens(tokens, n_windows * c->n_ctx, c->sha256);
}

int corpus_from_file(struct corpus *c, struct engine *g, const char *path, uint32_t n_ctx,
                     size_t windows_max, struct err *e)
{
    return corpus_from_file_part(c, g, path, 0, n_ctx, windows_max, e);
}

int corpus_from_file_part(struct corpus *c, struct engine *g, const char *path, uint64_t bytes,
                          uint32_t n_ctx, size_t windows_max, struct err *e)
{
    char *text = NULL;
    int32_t *tokens = NULL;
    size_t n_text, n_tokens;
    int rc = -1;
    *c = (struct corpus){.n_ctx = n_ctx, .first = n_ctx / 2};
    if (check_window(n_ctx, e) || read_text(path, &text, &n_text, e))
        return -1;
    if (bytes > 0 && bytes < n_text)
        n_text = (size_t)bytes;
    if (engine_tokenize(g, text, n_text, true, &tokens, &n_tokens, e))
        goto out;
    size_t n = n_tokens / n_ctx;
    if (windows_max > 0 && n > windows_max)
        n = windows_max;
    if (n == 0) {
        err_set(e, ERR_INPUT, "use a longer text or a shorter window",
                "the corpus %s has %zu tokens, one window needs %" PRIu32, path, n_tokens, n_ctx);
        goto out;
    }
    const struct engine_info *info = engine_info(g);
    cut_windows(c, tokens, n, info->add_bos ? info->bos : -1);
    tokens = NULL;
    c->source = xstrdup(path);
    rc = 0;
out:
    xfree(text);
    xfree(tokens);
    return rc;
}

/* ---- from the model itself ------------------------------------------------------------------- */

struct self_key {
    const char *model_sha256;
    uint64_t seed;
    uint32_t n_ctx;
};

static char *cache_path(const char *dir, const struct self_key *k)
{
    char *name =
        xasprintf("self-%.16s-%" PRIu64 "-%" PRIu32 ".tokens", k->model_sha256, k->seed, k->n_ctx);
    char *path = fs_join(dir, name);
    xfree(name);
    return path;
}

/* The head of the file says the key, n windows and the hash of what follows. */
static bool head_matches(const json_t *head, const struct self_key *k, const int32_t *tokens,
                         size_t n_windows)
{
    char hex[65];
    hash_tokens(tokens, n_windows * k->n_ctx, hex);
    return json_opt_i64(head, "sintra_tokens", 0) == 1 &&
           strcmp(json_opt_str(head, "model", ""), k->model_sha256) == 0 &&
           (uint64_t)json_opt_i64(head, "seed", 0) == k->seed &&
           json_opt_i64(head, "n_ctx", 0) == (int64_t)k->n_ctx &&
           json_opt_i64(head, "windows", -1) == (int64_t)n_windows &&
           strcmp(json_opt_str(head, "sha256", ""), hex) == 0;
}

/* Takes the windows out of the text of a cache file; *tokens xfree. False when it is not what it
 * says. */
static bool parse_cache(const char *text, size_t n, const struct self_key *k, int32_t **tokens,
                        size_t *n_windows)
{
    const char *end = memchr(text, '\n', n);
    if (!end)
        return false;
    size_t body = n - (size_t)(end + 1 - text), row = k->n_ctx * sizeof(int32_t);
    json_t *head = json_parse(text, (size_t)(end - text), "cached text", NULL);
    bool good = head && body > 0 && body % row == 0;
    if (good) {
        *n_windows = body / row;
        *tokens = xmalloc(body); /* aligned, unlike the text */
        memcpy(*tokens, end + 1, body);
        good = head_matches(head, k, *tokens, *n_windows);
    }
    json_decref(head);
    return good;
}

static void read_cache(const char *path, const struct self_key *k, uint32_t n_vocab,
                       int32_t **tokens, size_t *n_windows)
{
    char *text = NULL;
    size_t n = 0;
    *tokens = NULL;
    *n_windows = 0;
    if (!fs_exists(path))
        return;
    bool good = fs_read_all(path, cache_bytes_max, &text, &n, NULL) == 0 &&
                parse_cache(text, n, k, tokens, n_windows);
    for (size_t i = 0; good && i < *n_windows * k->n_ctx; i++)
        good = (*tokens)[i] >= 0 && (uint32_t)(*tokens)[i] < n_vocab;
    xfree(text);
    if (good)
        return;
    log_warn("%s is damaged; the text is sampled anew", path);
    xfree(*tokens);
    *tokens = NULL;
    *n_windows = 0;
}

static int write_cache(const char *dir, const char *path, const struct self_key *k,
                       const int32_t *tokens, size_t n_windows, struct err *e)
{
    char hex[65];
    size_t body = n_windows * k->n_ctx * sizeof(*tokens);
    struct fs_atomic file;
    hash_tokens(tokens, n_windows * k->n_ctx, hex);
    json_t *head = json_pack("{s:i, s:s, s:I, s:I, s:I, s:s}", "sintra_tokens", 1, "model",
                             k->model_sha256, "seed", (json_int_t)k->seed, "n_ctx",
                             (json_int_t)k->n_ctx, "windows", (json_int_t)n_windows, "sha256", hex);
    char *line = json_text(head, false);
    json_decref(head);
    int rc = -1;
    if (fs_mkdirs(dir, e) || fs_atomic_open(&file, path, e))
        goto out;
    if (fs_atomic_write(&file, line, strlen(line), e) || fs_atomic_write(&file, "\n", 1, e) ||
        fs_atomic_write(&file, tokens, body, e) || fs_atomic_commit(&file, e)) {
        fs_atomic_abort(&file);
        goto out;
    }
    rc = 0;
out:
    xfree(line);
    return rc;
}

/* Windows [have, want) of the model's own text, appended. */
static int sample_missing(struct engine *g, const struct self_key *k, int32_t **tokens, size_t have,
                          size_t want, const struct progress *p, struct err *e)
{
    *tokens = xreallocarray(*tokens, want * k->n_ctx, sizeof(**tokens));
    return engine_sample(g, have, want - have, k->n_ctx, k->seed, *tokens + have * k->n_ctx, p, e);
}

int corpus_from_self(struct corpus *c, struct engine *g, const char *cache_dir,
                     const char *model_sha256, uint64_t seed, uint32_t n_ctx, size_t n_windows,
                     const struct progress *p, struct err *e)
{
    struct self_key key = {model_sha256, seed, n_ctx};
    int32_t *tokens;
    size_t have;
    *c = (struct corpus){.n_ctx = n_ctx, .first = n_ctx / 2};
    if (check_window(n_ctx, e))
        return -1;
    if (n_windows == 0 || n_windows > windows_limit)
        return err_set(e, ERR_USAGE, NULL, "%zu windows cannot be sampled, expected 1 to %zu",
                       n_windows, windows_limit);
    char *path = cache_path(cache_dir, &key);
    read_cache(path, &key, engine_info(g)->n_vocab, &tokens, &have);
    int rc = 0;
    if (have < n_windows) {
        struct err why = {.code = ERR_NONE};
        rc = sample_missing(g, &key, &tokens, have, n_windows, p, e);
        if (rc == 0 && write_cache(cache_dir, path, &key, tokens, n_windows, &why))
            log_warn("the text cannot be kept and will be sampled again: %s", why.message);
    }
    if (rc == 0) {
        cut_windows(c, tokens, n_windows, -1);
        c->source = xstrdup("self");
    } else {
        xfree(tokens);
    }
    xfree(path);
    return rc;
}
