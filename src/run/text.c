/* The text of a run: one corpus, three sets of windows.
 *
 * The corpus is cut into three consecutive regions, in proportion to what each set wants, and a set
 * takes its windows evenly spread over its region, those of the final set in an order that
 * spreads its first few too. So no two sets share a token, or even a passage,
 * and each sees all of its region. Invariant: positions that are reported were never seen by
 * calibration or search.
 */
#include "run/text_int.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

enum { WINDOWS_MIN = 2, SPREAD = 4 };

static const char *const set_names[TEXT_SETS] = {"calibration", "search", "final"};

static int load(struct text *t, struct run *r, struct engine *g, size_t wanted, struct err *e)
{
    const struct scale *s = &r->subject.scale;
    if (strcmp(r->set.corpus, "self") != 0)
        return corpus_from_file_part(&t->corpus, g, r->set.corpus, r->set.corpus_bytes, s->n_ctx, 0,
                                     e);
    return corpus_from_self(&t->corpus, g, r->cache, r->subject.sha256, r->set.seed, s->n_ctx,
                            wanted, &r->stages.progress, e);
}

/* Which of `count` windows comes i-th: every fourth, then those between. */
static size_t spread(size_t i, size_t count)
{
    for (size_t lane = 0; lane < SPREAD; lane++) {
        size_t n = (count - lane + SPREAD - 1) / SPREAD;
        if (i < n)
            return lane + i * SPREAD;
        i -= n;
    }
    return 0; /* never: the lanes have `count` between them */
}

static void take(struct text *t, enum text_set set, size_t from, size_t to, size_t count,
                 uint32_t first)
{
    struct text_part *p = &t->part[set];
    size_t n_ctx = t->corpus.n_ctx;
    *p = (struct text_part){.count = count, .from = from, .to = to};
    p->tokens = xreallocarray(NULL, count * n_ctx, sizeof(*p->tokens));
    for (size_t i = 0; i < count; i++) {
        size_t at = set == TEXT_FINAL ? spread(i, count) : i;
        size_t window = from + at * (to - from) / count;
        memcpy(p->tokens + i * n_ctx, t->corpus.tokens + window * n_ctx,
               n_ctx * sizeof(*p->tokens));
    }
    p->w = (struct engine_windows){p->tokens, count, (uint32_t)n_ctx, first, 0};
}

int text_make(struct text *t, struct run *r, struct engine *g, struct err *e)
{
    const struct scale *s = &r->subject.scale;
    const size_t want[TEXT_SETS] = {s->calibration, s->search, s->final};
    const uint32_t first[TEXT_SETS] = {0, s->search_first, s->n_ctx / 2};
    size_t wanted = want[0] + want[1] + want[2], from = 0;
    *t = (struct text){0};
    if (load(t, r, g, wanted, e) != 0)
        return -1;
    size_t n = t->corpus.n_windows;
    if (n < TEXT_SETS * WINDOWS_MIN) {
        err_set(
            e, ERR_INPUT, "give a longer text, or --corpus self",
            "%s has %zu windows of %u tokens, optimize needs at least %d: to calibrate, to search "
            "and to judge on text that neither saw",
            r->set.corpus, n, s->n_ctx, TEXT_SETS * WINDOWS_MIN);
        text_release(t);
        return -1;
    }
    for (int i = 0; i < TEXT_SETS; i++) {
        size_t left = (size_t)(TEXT_SETS - 1 - i) * WINDOWS_MIN, size = n * want[i] / wanted;
        size = size < WINDOWS_MIN ? WINDOWS_MIN : size;
        size_t to = i == TEXT_SETS - 1 || from + size > n - left ? n - left : from + size;
        size_t count = to - from < want[i] ? to - from : want[i];
        take(t, (enum text_set)i, from, to, count, first[i]);
        from = to;
    }
    memcpy(r->corpus_sha256, t->corpus.sha256, sizeof(r->corpus_sha256));
    return 0;
}

void text_release(struct text *t)
{
    for (int i = 0; i < TEXT_SETS; i++)
        xfree(t->part[i].tokens);
    corpus_release(&t->corpus);
    *t = (struct text){0};
}

void text_shorten(struct text *t, enum text_set set, size_t n)
{
    struct text_part *p = &t->part[set];
    if (n < p->count) {
        p->count = n;
        p->w.n_windows = n;
    }
}

void text_key(const struct text *t, enum text_set set, char hex[static 65])
{
    const struct engine_windows *w = &t->part[set].w;
    struct hash_sha256 *h = hash_sha256_new();
    char head[64];
    snprintf(head, sizeof(head), "%zu %u %u ", w->n_windows, w->n_ctx, w->first);
    hash_sha256_add(h, head, strlen(head));
    hash_sha256_add(h, w->tokens, w->n_windows * w->n_ctx * sizeof(*w->tokens));
    hash_sha256_finish(h, hex);
}

json_t *text_json_new(const struct text *t, const struct scale *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "n_ctx", json_integer((json_int_t)t->corpus.n_ctx));
    json_object_set_new(o, "corpus_windows", json_integer((json_int_t)t->corpus.n_windows));
    for (int i = 0; i < TEXT_SETS; i++) {
        const struct text_part *p = &t->part[i];
        json_t *part = json_object();
        json_object_set_new(part, "from", json_integer((json_int_t)p->from));
        json_object_set_new(part, "to", json_integer((json_int_t)p->to));
        json_object_set_new(part, "count", json_integer((json_int_t)p->count));
        if (i != TEXT_CALIBRATION)
            json_object_set_new(part, "first_position", json_integer((json_int_t)p->w.first));
        if (i == TEXT_SEARCH)
            json_object_set_new(part, "probes", json_integer((json_int_t)s->probe));
        if (i == TEXT_SEARCH && s->search_read < p->count)
            json_object_set_new(part, "candidates", json_integer((json_int_t)s->search_read));
        json_object_set_new(o, set_names[i], part);
    }
    return o;
}
