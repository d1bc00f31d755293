/* Scores that an earlier run measured: the same file on the same text says the same again.
 *
 * The key is the hash of the file, the types of the KV cache it is run with, of the windows, of the
 * original that the reference is made of, and of what computes (library, instruction set). The file
 * itself stands for model, recipe, importance, factors and encoder. It is made all the same, which
 * the encoders' memo makes cheap; what is saved is its scoring, and where all of a text's scores
 * are known its reference. Speed and memory are of the moment and are always measured.
 */
#include "run/run_int.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

static const char kind[] = "score";

static double *windows_of(const json_t *doc, size_t *n)
{
    const json_t *list = json_object_get(doc, "window_kld");
    *n = json_array_size(list);
    double *out = *n > 0 ? xcalloc(*n, sizeof(*out)) : NULL;
    for (size_t i = 0; i < *n; i++)
        out[i] = json_number_value(json_array_get(list, i));
    return out;
}

static bool recall(struct run *r, const char *key, struct score *s, double **windows, size_t *n)
{
    json_t *doc = store_fact_get(r->store, kind, key);
    bool good = doc && score_from_json(s, json_object_get(doc, "score"), NULL) == 0;
    if (good) {
        *windows = windows_of(doc, n);
        r->history.scores++;
        r->history.scores_seconds += json_opt_real(doc, "seconds", 0);
    }
    json_decref(doc);
    return good;
}

static void keep(const struct run *r, const char *key, const struct score *s, const double *windows,
                 size_t n, double seconds)
{
    json_t *doc = json_object();
    json_object_set_new(doc, "score", score_json_new(s));
    json_object_set_new(doc, "window_kld", window_means_json_new(windows, n));
    json_object_set_new(doc, "seconds", json_real_new(seconds));
    store_fact_keep(r->store, kind, key, doc);
}

int score_quality(struct run *r, const struct trial *t, const char *path, const char *sha256,
                  enum run_set set, struct score *s, double **windows, size_t *n, struct err *e)
{
    char where[512], text[704], key[65], cache[CACHE_TEXT_MAX];
    bool kept = r->world->score_key && r->world->score_key(r, set, where);
    double began = clock_seconds();
    if (kept) {
        snprintf(text, sizeof(text), "%s %s %s", sha256, cache_text(t->recipe.cache, cache), where);
        hash_sha256_text(text, strlen(text), key);
        if (recall(r, key, s, windows, n))
            return 0;
    }
    if (r->world->quality(r, t, path, set, s, e) != 0)
        return -1;
    *windows = window_means(s, n);
    xfree(s->kld); /* the windows' means are what later comparisons need */
    s->kld = NULL;
    r->evaluations++;
    if (kept)
        keep(r, key, s, *windows, *n, clock_seconds() - began);
    return 0;
}

void scores_note(struct run *r)
{
    char time[NUM_TEXT_MAX];
    if (r->history.scores > 0)
        run_note(r,
                 "%zu score%s known from before, of the same files on the same text, which saves "
                 "about %s",
                 r->history.scores, r->history.scores > 1 ? "s are" : " is",
                 num_format_seconds(r->history.scores_seconds, time));
}
