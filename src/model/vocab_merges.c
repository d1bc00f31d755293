/* The merges of a BPE tokenizer: as a list for byte-level models, as scores for SentencePiece-style
 * ones.
 *
 * libllama's SentencePiece tokenizer joins the neighbours whose union has the highest score.
 * tokenizer.json has no scores but an order of merges, and it was made from the scores: pieces
 * sorted by them, each with all its splits. So the k-th distinct result of the merges gets score
 * −k, which gives back the scores of the original tokenizer.model (−(id − 259) for Llama 2); pieces
 * that no merge makes, single characters, come after in order of id. llama.cpp's converter, lacking
 * tokenizer.model, writes −1000 for all, and libllama then splits text differently from the
 * original. */
#include "model/vocab_int.h"

#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/banned.h"

#define MERGES_MAX       (1u << 23)
#define MERGES_BYTES_MAX (512u << 20)

struct merge {
    const char *left, *right;
    size_t left_len, right_len;
};

static int bad_merge(const struct vocab *v, size_t i, const char *what, struct err *e)
{
    return err_set(e, ERR_INPUT, "fetch tokenizer.json again from where the model comes from",
                   "%s: merge %zu of %zu %s", v->where, i + 1,
                   json_array_size(json_object_get(v->bpe, "merges")), what);
}

/* Two spellings: "left right" and, since pieces may hold spaces, ["left", "right"]. */
static int read_merge(const struct vocab *v, const json_t *list, size_t i, struct merge *m,
                      struct err *e)
{
    const json_t *item = json_array_get(list, i);
    const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
    if (json_array_size(item) == 2 && json_is_string(left) && json_is_string(right)) {
        *m = (struct merge){json_string_value(left), json_string_value(right),
                            json_string_length(left), json_string_length(right)};
        return 0;
    }
    const char *text = json_string_value(item);
    const char *space = text && *text ? strchr(text + 1, ' ') : NULL;
    if (!space || !space[1])
        return bad_merge(v, i, "is not two pieces", e);
    *m = (struct merge){text, space + 1, (size_t)(space - text), strlen(space + 1)};
    return 0;
}

static const json_t *find_piece(const struct vocab *v, struct buf *scratch, const char *a,
                                size_t a_len, const char *b, size_t b_len)
{
    buf_clear(scratch);
    buf_add(scratch, a, a_len);
    buf_add(scratch, b, b_len);
    return json_object_get(v->tokens, buf_str(scratch));
}

/* Both pieces and their union must be tokens. *id is the union's. */
static int check_merge(const struct vocab *v, struct buf *scratch, size_t i, const struct merge *m,
                       uint32_t *id, struct err *e)
{
    if (!find_piece(v, scratch, m->left, m->left_len, "", 0) ||
        !find_piece(v, scratch, m->right, m->right_len, "", 0))
        return bad_merge(v, i, "joins a piece that is not in the vocabulary", e);
    const json_t *whole = find_piece(v, scratch, m->left, m->left_len, m->right, m->right_len);
    if (!whole)
        return bad_merge(v, i, "makes a piece that is not in the vocabulary", e);
    *id = (uint32_t)json_integer_value(whole);
    return 0;
}

static int merges_list(const struct vocab *v, const json_t **list, struct err *e)
{
    *list = json_object_get(v->bpe, "merges");
    size_t n = json_array_size(*list);
    if (!json_is_array(*list) || n == 0)
        return err_set(e, ERR_INPUT, "fetch tokenizer.json again from where the model comes from",
                       "%s has no merges (model.merges)", v->where);
    if (n > MERGES_MAX)
        return err_set(e, ERR_LIMIT, NULL, "%s has %zu merges, at most %u can be read", v->where, n,
                       MERGES_MAX);
    return 0;
}

/* ---- byte-level: the list itself
 * ---------------------------------------------------------------- */

/* A space inside a piece is written as Ġ, since the two pieces are separated by one. */
static void add_piece(struct buf *b, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] == ' ')
            buf_adds(b, "\xc4\xa0");
        else
            buf_addc(b, text[i]);
    }
}

static int collect_merges(const struct vocab *v, const json_t *list, struct buf *texts,
                          struct gguf_str *out, struct err *e)
{
    struct buf scratch;
    buf_init(&scratch, 1u << 20);
    int failed = 0;
    for (size_t i = 0; i < json_array_size(list) && !failed; i++) {
        struct merge m;
        uint32_t id;
        size_t start = texts->len;
        failed = read_merge(v, list, i, &m, e) || check_merge(v, &scratch, i, &m, &id, e);
        if (failed)
            break;
        add_piece(texts, m.left, m.left_len);
        buf_addc(texts, ' ');
        add_piece(texts, m.right, m.right_len);
        out[i].len = texts->len - start;
    }
    buf_release(&scratch);
    if (!failed && texts->overflow)
        failed = err_set(e, ERR_LIMIT, NULL, "%s: merges take more than %u bytes", v->where,
                         MERGES_BYTES_MAX);
    return failed ? -1 : 0;
}

int vocab_set_merges(struct vocab *v, struct err *e)
{
    const json_t *list;
    if (merges_list(v, &list, e))
        return -1;
    size_t n = json_array_size(list), bytes = n * sizeof(struct gguf_str);
    struct gguf_str *out = big_alloc(bytes, "the merges", e);
    if (!out)
        return -1;
    struct buf texts;
    buf_init(&texts, MERGES_BYTES_MAX);
    int failed = collect_merges(v, list, &texts, out, e);
    const char *at = buf_str(&texts);
    for (size_t i = 0; i < n && !failed; at += out[i++].len)
        out[i].data = at;
    if (!failed)
        gguf_set_strs(&v->m->kvs, "tokenizer.ggml.merges", out, n);
    buf_release(&texts);
    big_free(out, bytes);
    return failed;
}

/* ---- SentencePiece style: scores
 * ---------------------------------------------------------------- */

/* Ways to cut a piece into two others: libllama may take any of them, so each should be a merge. */
static size_t count_cuts(const struct vocab *v, struct buf *scratch, struct gguf_str s)
{
    size_t cuts = 0;
    for (size_t k = 1; k < s.len; k++) {
        if (((unsigned char)s.data[k] & 0xc0) == 0x80)
            continue;
        cuts += find_piece(v, scratch, s.data, k, "", 0) &&
                find_piece(v, scratch, s.data + k, s.len - k, "", 0);
    }
    return cuts;
}

static void warn_if_inexact(const struct vocab *v, size_t merges, bool scattered)
{
    struct buf scratch;
    buf_init(&scratch, 1u << 20);
    size_t cuts = 0;
    for (uint32_t i = 0; i < v->n; i++)
        if (v->types[i] == TOKEN_NORMAL)
            cuts += count_cuts(v, &scratch, v->texts[i]);
    buf_release(&scratch);
    if (cuts > merges || scattered)
        log_warn(
            "%s: its merges do not follow from scores of pieces (%zu of %zu cuts are no merges%s); "
            "libllama may split some words differently from the original",
            v->where, cuts > merges ? cuts - merges : 0, cuts,
            scattered ? ", many are out of order" : "");
}

/* Merges by the id that they make, and for each id the last of them. */
struct ranking {
    size_t n;       /* merges */
    uint32_t *made; /* [n] */
    uint32_t *last; /* [vocabulary] index of the last merge that makes it */
};

static int read_ranking(const struct vocab *v, const json_t *list, struct ranking *r, struct err *e)
{
    struct buf scratch;
    buf_init(&scratch, 1u << 20);
    int failed = 0;
    for (size_t i = 0; i < r->n && !failed; i++) {
        struct merge m;
        failed = read_merge(v, list, i, &m, e) || check_merge(v, &scratch, i, &m, &r->made[i], e);
        if (!failed)
            r->last[r->made[i]] = (uint32_t)i;
    }
    buf_release(&scratch);
    return failed ? -1 : 0;
}

/* Pieces whose merges interleave had the same score (Llama 2's runs of spaces). More of them than
 * this were never ordered by scores at all, and then the first merge of each counts. */
enum { TIE_MAX = 256 };

static bool ties_are_few(const struct ranking *r)
{
    size_t pieces = 0, end = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (i > end)
            pieces = 0;
        if (r->last[r->made[i]] > end)
            end = r->last[r->made[i]];
        pieces += r->last[r->made[i]] == i;
        if (pieces > TIE_MAX)
            return false;
    }
    return true;
}

/* Scores while ranking are 1 + rank, so that 0 says "not yet". */
static size_t rank_pieces(struct vocab *v, const struct ranking *r, bool ties)
{
    size_t count = 0, group = 0, end = 0;
    for (size_t i = 0; i < r->n; i++) {
        uint32_t id = r->made[i];
        if (i > end || !ties)
            group = count;
        if (r->last[id] > end)
            end = r->last[id];
        if (v->types[id] != TOKEN_NORMAL || v->scores[id] > 0.5f)
            continue;
        v->scores[id] = 1.0f + (float)group;
        count++;
    }
    return count;
}

static void set_scores(struct vocab *v, const struct ranking *r)
{
    bool ties = ties_are_few(r);
    size_t rank = rank_pieces(v, r, ties);
    for (uint32_t i = 0; i < v->n; i++)
        if (v->types[i] == TOKEN_NORMAL)
            v->scores[i] = v->scores[i] > 0.5f ? -(v->scores[i] - 1.0f) : -(float)rank++;
    warn_if_inexact(v, r->n, !ties);
}

int vocab_set_scores(struct vocab *v, struct err *e)
{
    const json_t *list;
    if (merges_list(v, &list, e))
        return -1;
    struct ranking r = {.n = json_array_size(list)};
    size_t bytes = (r.n + v->n) * sizeof *r.made;
    r.made = big_alloc(bytes, "the merges", e);
    if (!r.made)
        return -1;
    r.last = r.made + r.n;
    int failed = read_ranking(v, list, &r, e);
    if (!failed)
        set_scores(v, &r);
    big_free(r.made, bytes);
    return failed;
}
