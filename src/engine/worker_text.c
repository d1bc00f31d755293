/* Text in the worker: tokens from text, greedy text from a prompt, sampled token sequences.
 *
 * Sampling runs SAMPLE_GROUP sequences side by side, each with a KV cache and a random generator of
 * its own, one token of each per step. Matrix kernels vary in the last bits with the size of the
 * batch, and one bit can turn a draw and with it the rest of a text; so groups are always whole and
 * start at multiples of their size, whatever was asked for: a sequence always has the same
 * neighbours. Temperature 1, whole vocabulary, no other filter: the text is a sample of what the
 * model believes, which is what a corpus to measure it on should be (every cut-off would hide the
 * improbable tokens that quantization damages first).
 */
#include <stdatomic.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/rng.h"
#include "engine/logits.h"
#include "engine/worker_int.h"
#include "base/banned.h"

enum {
    SAMPLE_GROUP = 16,
    GENERATE_MAX = 65536,
    TEXT_MAX = 8 << 20,
    PIECE_MAX = 512,
};
static const uint64_t sample_kv_bytes_max = 2ull << 30;

int worker_tokenize(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    if (worker_need_model(w, e))
        return -1;
    size_t len = w->slots[SLOT_IN].bytes, capacity = w->slots[SLOT_OUT].bytes / sizeof(int32_t);
    const char *text = worker_slot(w, SLOT_IN, len, e);
    int32_t *tokens = worker_slot(w, SLOT_OUT, capacity * sizeof(int32_t), e);
    if (!text || !tokens)
        return -1;
    if (len > INT32_MAX || capacity > INT32_MAX)
        return err_set(e, ERR_LIMIT, NULL, "the text is too long to tokenize at once");
    int n = llama_tokenize(w->vocab, text, (int32_t)len, tokens, (int32_t)capacity,
                           json_opt_bool(request, "add_special", true), false);
    if (n < 0)
        return err_set(e, ERR_BUG, NULL, "%zu bytes of text became %d tokens", len, -n);
    json_object_set_new(answer, "n", json_integer(n));
    return 0;
}

/* ---- greedy text ----------------------------------------------------------------------------- */

/* The prompt's ids, or one id to start from. xfree. */
static int32_t *prompt_tokens(struct worker *w, int *n, struct err *e)
{
    size_t len = w->slots[SLOT_IN].bytes;
    const char *text = worker_slot(w, SLOT_IN, len, e);
    if (!text || len > TEXT_MAX) {
        err_set(e, ERR_LIMIT, NULL, "the prompt is too long");
        return NULL;
    }
    int32_t *tokens = xmalloc((len + 16) * sizeof(*tokens));
    *n = llama_tokenize(w->vocab, text, (int32_t)len, tokens, (int32_t)len + 16, true, false);
    if (*n <= 0) {
        int32_t bos = llama_vocab_bos(w->vocab);
        tokens[0] = bos >= 0 ? bos : 0;
        *n = 1;
    }
    return tokens;
}

static void add_piece(const struct worker *w, int32_t token, struct buf *text)
{
    char piece[PIECE_MAX];
    int n = llama_token_to_piece(w->vocab, token, piece, sizeof(piece), 0, false);
    if (n > 0)
        buf_add(text, piece, (size_t)n);
}

/* Length of the whole UTF-8 character at p, or 0. */
static size_t utf8_length(const char *p, size_t left)
{
    unsigned char c = (unsigned char)*p;
    size_t n = c < 0x80 ? 1 : (c >> 5) == 6 ? 2 : (c >> 4) == 14 ? 3 : (c >> 3) == 30 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)p[i] & 0xC0) != 0x80)
            return 0;
    return n;
}

/* Tokens may end in the middle of a character: what is not UTF-8 becomes U+FFFD. */
static json_t *text_value(const struct buf *raw)
{
    struct buf clean;
    buf_init(&clean, raw->len * 3 + 1);
    const char *p = buf_str(raw);
    for (size_t i = 0; i < raw->len;) {
        size_t n = p[i] ? utf8_length(p + i, raw->len - i) : 0;
        if (n > 0)
            buf_add(&clean, p + i, n);
        else
            buf_adds(&clean, "\xEF\xBF\xBD");
        i += n > 0 ? n : 1;
    }
    json_t *value = wire_text_new(buf_str(&clean));
    buf_release(&clean);
    return value;
}

static int generate(struct worker *w, int32_t *tokens, int n, uint64_t n_tokens, struct buf *text,
                    struct err *e)
{
    for (uint64_t made = 0; made < n_tokens; made++) {
        struct llama_batch batch = llama_batch_get_one(tokens, n);
        if (worker_decode(w, w->lanes[0], &batch, e))
            return -1;
        const float *logits = llama_get_logits_ith(w->lanes[0], -1);
        if (!logits)
            return err_set(e, ERR_BUG, NULL, "libllama gave no logits");
        tokens[0] = (int32_t)logits_scan(logits, w->n_vocab).argmax;
        n = 1;
        if (llama_vocab_is_eog(w->vocab, tokens[0]))
            return 0;
        add_piece(w, tokens[0], text);
        worker_progress(w, (double)made, (double)n_tokens, NULL);
    }
    return 0;
}

int worker_generate(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    uint64_t n_tokens;
    int n = 0, rc = -1;
    if (worker_need_model(w, e) || worker_number(request, "n_tokens", GENERATE_MAX, &n_tokens, e))
        return -1;
    int32_t *tokens = prompt_tokens(w, &n, e);
    if (!tokens)
        return -1;
    struct buf text;
    buf_init(&text, TEXT_MAX);
    uint32_t n_ctx = (uint32_t)n + (uint32_t)n_tokens;
    struct context_shape shape = {.n_ctx = n_ctx,
                                  .n_seq = 1,
                                  .n_batch = n_ctx,
                                  .n_ubatch = 512,
                                  .n_outputs = 1,
                                  .threads = worker_threads(w, 1)};
    if (worker_context(w, &shape, e) == 0 && generate(w, tokens, n, n_tokens, &text, e) == 0) {
        json_object_set_new(answer, "text", text_value(&text));
        rc = 0;
    }
    buf_release(&text);
    xfree(tokens);
    return rc;
}

/* ---- sampled sequences ----------------------------------------------------------------------- */

struct sampling {
    struct worker *w;
    uint64_t first_seq, n_seq, n_tokens, seed;
    int32_t *tokens; // (n_seq, n_tokens), the caller's
    uint32_t group;
    uint64_t steps_total;
    atomic_uint_fast64_t steps;
};

/* Independent streams from one seed: the sequence's number goes through the seeding hash too. */
static void seed_sequence(struct rng *r, uint64_t seed, uint64_t sequence)
{
    struct rng mixer;
    rng_seed(&mixer, sequence);
    rng_seed(r, seed ^ rng_next(&mixer));
}

static int32_t first_token(const struct worker *w, struct rng *r)
{
    int32_t bos = llama_vocab_bos(w->vocab), eos = llama_vocab_eos(w->vocab);
    if (bos >= 0)
        return bos;
    return eos >= 0 ? eos : (int32_t)rng_below(r, w->n_vocab);
}

/* One more token for each sequence of the group; rows (group, n_tokens). */
static int sample_step(struct sampling *s, struct llama_context *ctx, int32_t *rows,
                       struct rng *rngs, uint32_t t, struct llama_batch *batch, struct err *e)
{
    struct worker *w = s->w;
    batch->n_tokens = 0;
    for (uint32_t i = 0; i < s->group; i++)
        worker_batch_add(batch, rows[i * s->n_tokens + t - 1], t - 1, (int32_t)i, true);
    if (worker_decode(w, ctx, batch, e))
        return -1;
    for (uint32_t i = 0; i < s->group; i++) {
        const float *logits = llama_get_logits_ith(ctx, (int32_t)i);
        struct logits_row row = {0};
        if (logits)
            row = logits_scan(logits, w->n_vocab);
        if (!(row.sum_exp > 0))
            return err_set(e, ERR_INPUT, "the model's weights are damaged; fetch it again",
                           "the model computes probabilities that are not numbers");
        rows[i * s->n_tokens + t] =
            (int32_t)logits_draw(logits, w->n_vocab, &row, rng_unit(&rngs[i]));
    }
    uint64_t steps = atomic_fetch_add(&s->steps, 1) + 1;
    worker_progress(w, (double)steps, (double)s->steps_total, NULL);
    return 0;
}

/* Copies those of a group's rows that were asked for. */
static void keep_rows(const struct sampling *s, uint64_t from, const int32_t *rows)
{
    for (uint64_t i = 0; i < s->group; i++)
        if (from + i >= s->first_seq && from + i < s->first_seq + s->n_seq)
            memcpy(s->tokens + (from + i - s->first_seq) * s->n_tokens, rows + i * s->n_tokens,
                   s->n_tokens * sizeof(*rows));
}

static int sample_group(void *ud, struct llama_context *ctx, size_t item, struct err *e)
{
    struct sampling *s = ud;
    uint64_t from = (s->first_seq / s->group + item) * s->group;
    struct rng *rngs = xcalloc(s->group, sizeof(*rngs));
    int32_t *rows = xcalloc((size_t)s->group * s->n_tokens, sizeof(*rows));
    struct llama_batch batch = llama_batch_init((int32_t)s->group, 0, 1);
    int rc = 0;
    for (uint32_t i = 0; i < s->group; i++) {
        seed_sequence(&rngs[i], s->seed, from + i);
        rows[i * s->n_tokens] = first_token(s->w, &rngs[i]);
    }
    for (uint32_t t = 1; rc == 0 && t < s->n_tokens; t++)
        rc = sample_step(s, ctx, rows, rngs, t, &batch, e);
    if (rc == 0)
        keep_rows(s, from, rows);
    llama_batch_free(batch);
    xfree(rows);
    xfree(rngs);
    return rc;
}

/* As many sequences side by side as their KV caches allow. */
static uint32_t group_size(const struct worker *w, uint64_t n_tokens)
{
    uint64_t heads = (uint64_t)llama_model_n_head(w->model);
    uint64_t heads_kv = (uint64_t)llama_model_n_head_kv(w->model);
    uint64_t width = heads > 0 ? (uint64_t)llama_model_n_embd(w->model) / heads * heads_kv
                               : (uint64_t)llama_model_n_embd(w->model);
    uint64_t per_token = 2 * sizeof(uint16_t) * width * (uint64_t)llama_model_n_layer(w->model);
    uint64_t fit = sample_kv_bytes_max / (per_token * n_tokens + 1);
    uint32_t group = SAMPLE_GROUP;
    while (group > 1 && group > fit)
        group /= 2;
    return group;
}

int worker_sample(struct worker *w, const json_t *request, json_t *answer, struct err *e)
{
    struct sampling s = {.w = w, .seed = (uint64_t)json_opt_i64(request, "seed", 0)};
    uint64_t bytes;
    (void)answer;
    if (worker_need_model(w, e) ||
        worker_number(request, "first_seq", INT32_MAX, &s.first_seq, e) ||
        worker_number(request, "n_seq", INT32_MAX, &s.n_seq, e) ||
        worker_number(request, "n_tokens", 1 << 24, &s.n_tokens, e))
        return -1;
    if (!num_mul_u64(s.n_seq, s.n_tokens, &bytes) || !num_mul_u64(bytes, sizeof(int32_t), &bytes))
        return err_set(e, ERR_LIMIT, NULL, "too many tokens to sample");
    s.tokens = worker_slot(w, SLOT_OUT, bytes, e);
    if (!s.tokens)
        return -1;
    s.group = group_size(w, s.n_tokens);
    struct context_shape shape = {.n_ctx = (uint32_t)s.n_tokens,
                                  .n_seq = s.group,
                                  .n_batch = s.group,
                                  .n_ubatch = s.group,
                                  .n_outputs = s.group};
    uint64_t groups = (s.first_seq + s.n_seq + s.group - 1) / s.group - s.first_seq / s.group;
    s.steps_total = groups * (s.n_tokens - 1);
    return worker_lanes(w, &shape, (size_t)groups, sample_group, &s, e);
}
