/* Tokenizers that are a list of byte strings with ranks, as a tokenizer.json: tekken.json (Mistral)
 * and GLM's tokenizer.model in the format of tiktoken, a line of base64 and rank for each token.
 *
 * Such a tokenizer joins the two neighbours whose union has the lowest rank, so its merges are all
 * splits of a token into two tokens, in order of the union's rank; of one union those of lower
 * ranks first, as transformers' convert_slow_tokenizer.py has it. A word that is a token is taken
 * whole (ignore_merges). Tekken's special tokens have the first ids, and the ranks follow them.
 * tekken.json says how it splits text; of the other format the model's code does. */
#include "model/vocab_int.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/banned.h"

enum { RANKS_MAX = 1 << 21, RANK_BYTES_MAX = 1024, SPECIAL_MAX = 1 << 16 };
#define MERGES_BYTES_MAX (256u << 20)

/* [^...]: as in tokenization_chatglm.py of GLM-4. */
#define GLM4_SPLIT                                                                                 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"                      \
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* What tekken.json had before it listed its special tokens. */
static const char *const first_specials[] = {"<unk>",
                                             "<s>",
                                             "</s>",
                                             "[INST]",
                                             "[/INST]",
                                             "[AVAILABLE_TOOLS]",
                                             "[/AVAILABLE_TOOLS]",
                                             "[TOOL_RESULTS]",
                                             "[/TOOL_RESULTS]",
                                             "[TOOL_CALLS]",
                                             "[IMG]",
                                             "<pad>",
                                             "[IMG_BREAK]",
                                             "[IMG_END]",
                                             "[PREFIX]",
                                             "[MIDDLE]",
                                             "[SUFFIX]",
                                             "[SYSTEM_PROMPT]",
                                             "[/SYSTEM_PROMPT]",
                                             "[TOOL_CONTENT]"};

/* A token cut in two after `at` bytes, and the ranks of the halves. */
struct split {
    uint64_t left, right;
    size_t at;
};

struct ranks {
    const char *where;
    struct arena arena;
    struct gguf_str *items; /* [n] bytes by rank; data NULL: none has this rank */
    size_t n;
    struct map by_bytes;
    uint64_t merge_bytes;                /* so far */
    struct split splits[RANK_BYTES_MAX]; /* of one token */
};

static void ranks_release(struct ranks *r)
{
    map_release(&r->by_bytes);
    arena_release(&r->arena);
    xfree(r->items);
}

static int bad_ranks(const struct ranks *r, size_t i, const char *what, struct err *e)
{
    return err_set(e, ERR_INPUT, "fetch the file again from where the model comes from",
                   "%s: token %zu %s", r->where, i, what);
}

static int put_rank(struct ranks *r, const char *base64, size_t len, uint64_t rank, struct err *e)
{
    size_t pad = 0;
    while (pad < 2 && pad < len && base64[len - 1 - pad] == '=')
        pad++;
    if (len == 0 || len % 4 != 0 || len / 4 * 3 > RANK_BYTES_MAX)
        return bad_ranks(r, rank, "is not base64 of 1 to 1024 bytes", e);
    if (rank >= r->n || r->items[rank].data)
        return bad_ranks(r, rank, "has a rank that is not its own or out of range", e);
    char *bytes = arena_alloc(&r->arena, len / 4 * 3 + 1);
    int got = EVP_DecodeBlock((unsigned char *)bytes, (const unsigned char *)base64, (int)len);
    if (got <= (int)pad)
        return bad_ranks(r, rank, "is not base64 of 1 to 1024 bytes", e);
    struct gguf_str item = {bytes, (size_t)got - pad};
    if (!map_add(&r->by_bytes, item.data, item.len, rank))
        return bad_ranks(r, rank, "has the bytes of another", e);
    r->items[rank] = item;
    return 0;
}

/* ---- as texts ---- */

/* GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and on. */
static void add_byte(struct buf *b, uint8_t byte)
{
    bool plain = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    unsigned code = byte;
    if (!plain)
        code = byte <= ' ' ? 0x100u + byte : byte <= 0xa0 ? 0x121u + byte - 0x7fu : 0x143u;
    if (code < 0x80) {
        buf_addc(b, (char)code);
    } else {
        buf_addc(b, (char)(0xc0 | code >> 6));
        buf_addc(b, (char)(0x80 | (code & 0x3f)));
    }
}

static void add_text(struct buf *b, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add_byte(b, (uint8_t)bytes[i]);
}

static int compare_splits(const void *a, const void *b)
{
    const struct split *x = a, *y = b;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

/* "left right" for each split of the token into two. */
static void add_merges(struct ranks *r, struct gguf_str token, json_t *merges, struct buf *scratch)
{
    struct split *splits = r->splits;
    size_t n = 0;
    for (size_t at = 1; at < token.len && n < RANK_BYTES_MAX; at++) {
        struct split one = {.at = at};
        if (map_get(&r->by_bytes, token.data, at, &one.left) &&
            map_get(&r->by_bytes, token.data + at, token.len - at, &one.right))
            splits[n++] = one;
    }
    qsort(splits, n, sizeof *splits, compare_splits);
    for (size_t i = 0; i < n && r->merge_bytes <= MERGES_BYTES_MAX; i++) {
        r->merge_bytes += 2 * token.len;
        buf_clear(scratch);
        add_text(scratch, token.data, splits[i].at);
        buf_addc(scratch, ' ');
        add_text(scratch, token.data + splits[i].at, token.len - splits[i].at);
        json_array_append_new(merges, json_string(buf_str(scratch)));
    }
}

/* Ids are ranks after `first`. New reference; NULL with e set when the merges are too many. */
static json_t *model_new(struct ranks *r, size_t first, struct err *e)
{
    json_t *vocab = json_object(), *merges = json_array();
    struct buf scratch;
    buf_init(&scratch, 8 * RANK_BYTES_MAX);
    for (size_t i = 0; i < r->n; i++) {
        if (!r->items[i].data)
            continue;
        buf_clear(&scratch);
        add_text(&scratch, r->items[i].data, r->items[i].len);
        json_object_set_new(vocab, buf_str(&scratch), json_integer((json_int_t)(first + i)));
        add_merges(r, r->items[i], merges, &scratch);
    }
    buf_release(&scratch);
    if (r->merge_bytes > MERGES_BYTES_MAX) {
        json_decref(vocab);
        json_decref(merges);
        err_set(e, ERR_LIMIT, "fetch the file again from where the model comes from",
                "%s: its tokens are made of one another in ways that take more than %u MiB",
                r->where, MERGES_BYTES_MAX >> 20);
        return NULL;
    }
    return json_pack("{s:s,s:b,s:o,s:o}", "type", "BPE", "ignore_merges", 1, "vocab", vocab,
                     "merges", merges);
}

static json_t *steps_new(const char *pattern)
{
    return json_pack("{s:s,s:[{s:s,s:s,s:b,s:{s:s}},{s:s,s:b,s:b}]}", "type", "Sequence",
                     "pretokenizers", "type", "Split", "behavior", "Isolated", "invert", 0,
                     "pattern", "Regex", pattern, "type", "ByteLevel", "add_prefix_space", 0,
                     "use_regex", 0);
}

/* ---- tekken.json ---- */

static json_t *special_new(size_t id, const char *text)
{
    char filler[32];
    snprintf(filler, sizeof filler, "<SPECIAL_%zu>", id);
    return json_pack("{s:I,s:s,s:b}", "id", (json_int_t)id, "content", text ? text : filler,
                     "special", 1);
}

static json_t *specials_new(const json_t *doc, size_t n)
{
    const json_t *listed = json_object_get(doc, "special_tokens");
    const char **texts = xcalloc(n, sizeof *texts);
    json_t *list = json_array();
    for (size_t i = 0; !listed && i < sizeof first_specials / sizeof *first_specials; i++)
        if (i < n)
            texts[i] = first_specials[i];
    for (size_t i = 0; i < json_array_size(listed); i++) {
        const json_t *item = json_array_get(listed, i);
        int64_t rank = json_opt_i64(item, "rank", -1);
        if (rank >= 0 && (uint64_t)rank < n)
            texts[rank] = json_opt_str(item, "token_str", NULL);
    }
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, special_new(i, texts[i]));
    xfree(texts);
    return list;
}

static int read_tekken_ranks(struct ranks *r, const json_t *list, struct err *e)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *bytes = json_object_get(item, "token_bytes");
        int64_t rank = json_opt_i64(item, "rank", -1);
        if (!json_is_string(bytes) || rank < 0)
            return bad_ranks(r, i, "has no rank or no token_bytes", e);
        if ((uint64_t)rank < r->n && /* what is beyond default_vocab_size is not used */
            put_rank(r, json_string_value(bytes), json_string_length(bytes), (uint64_t)rank, e))
            return -1;
    }
    return 0;
}

static int tekken_from(struct vocab *v, struct ranks *r, const json_t *doc, struct err *e)
{
    const json_t *config = json_object_get(doc, "config");
    const char *pattern = json_opt_str(config, "pattern", NULL);
    int64_t all = json_opt_i64(config, "default_vocab_size", 0);
    int64_t special = json_opt_i64(config, "default_num_special_tokens", -1);
    if (!pattern || special < 3 || special > SPECIAL_MAX || all <= special || all > RANKS_MAX)
        return err_set(e, ERR_INPUT, "fetch the file again from where the model comes from",
                       "%s: config has no pattern, or its default_vocab_size and "
                       "default_num_special_tokens are out of range",
                       r->where);
    r->n = (size_t)(all - special);
    r->items = xcalloc(r->n, sizeof *r->items);
    if (read_tekken_ranks(r, json_object_get(doc, "vocab"), e))
        return -1;
    json_t *model = model_new(r, (size_t)special, e);
    if (!model)
        return -1;
    v->doc = json_pack(
        "{s:o,s:o,s:o,s:{s:s,s:[{s:{s:s}},{s:{s:s}}]}}", "model", model, "pre_tokenizer",
        steps_new(pattern), "added_tokens", specials_new(doc, (size_t)special), "post_processor",
        "type", "TemplateProcessing", "single", "SpecialToken", "id", "<s>", "Sequence", "id", "A");
    if (!v->special_map)
        v->special_map = json_pack("{s:s,s:s,s:s,s:s}", "bos_token", "<s>", "eos_token", "</s>",
                                   "unk_token", "<unk>", "pad_token", "<pad>");
    return 0;
}

static int read_tekken(struct vocab *v, struct ranks *r, struct err *e)
{
    json_t *doc = NULL;
    int failed = folder_read_json(v->m, "tekken.json", MODEL_TOKENIZER_BYTES_MAX, false, &doc, e);
    if (doc)
        failed = tekken_from(v, r, doc, e);
    json_decref(doc);
    return failed;
}

/* ---- tiktoken ---- */

/* "IQ== 0": base64, a space, the rank. */
static int read_line(struct ranks *r, const char *line, size_t number, struct err *e)
{
    size_t n = strcspn(line, " ");
    char *end = NULL;
    unsigned long rank = line[n] == ' ' ? strtoul(line + n + 1, &end, 10) : 0;
    if (!end || end == line + n + 1 || (*end != '\0' && *end != '\r'))
        return bad_ranks(r, number, "is not a line of base64 and rank", e);
    return put_rank(r, line, n, rank, e);
}

static bool looks_like_ranks(const char *data, size_t n)
{
    size_t line = strcspn(data, "\n");
    const char *space = memchr(data, ' ', line < n ? line : n);
    return space && space > data && space[1] >= '0' && space[1] <= '9' &&
           strspn(data, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") ==
               (size_t)(space - data);
}

static int read_glm(struct vocab *v, struct ranks *r, struct err *e)
{
    char *data = NULL, *rest = NULL;
    size_t n = 0, number = 0;
    if (strcmp(v->c->arch->gguf_name, "chatglm") != 0 || !fs_exists(r->where))
        return 0;
    int failed = fs_read_all(r->where, MODEL_TOKENIZER_BYTES_MAX, &data, &n, e);
    if (!failed && looks_like_ranks(data, n)) {
        r->n = v->n;
        r->items = xcalloc(r->n, sizeof *r->items);
        for (char *line = strtok_r(data, "\n", &rest); line && !failed;
             line = strtok_r(NULL, "\n", &rest))
            failed = read_line(r, line, number++, e);
        json_t *model = failed ? NULL : model_new(r, 0, e);
        if (model)
            v->doc = json_pack("{s:o,s:o}", "model", model, "pre_tokenizer", steps_new(GLM4_SPLIT));
        failed = model ? 0 : -1;
    }
    xfree(data);
    return failed;
}

int vocab_read_ranks(struct vocab *v, struct err *e)
{
    static const struct {
        const char *file;
        int (*read)(struct vocab *v, struct ranks *r, struct err *e);
    } kinds[] = {{"tekken.json", read_tekken}, {"tokenizer.model", read_glm}};
    int failed = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !v->doc && !failed; i++) {
        char *path = fs_join(v->m->path, kinds[i].file);
        struct ranks r = {.where = path};
        failed = kinds[i].read(v, &r, e);
        if (v->doc)
            v->where = arena_strdup(&v->m->arena, path);
        ranks_release(&r);
        xfree(path);
    }
    return failed;
}
