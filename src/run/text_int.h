/* Private to run/: the text of a run, cut into three sets of windows that share none. */
#ifndef RUN_TEXT_INT_H
#define RUN_TEXT_INT_H

#include "run/run_int.h"

enum text_set { TEXT_CALIBRATION, TEXT_SEARCH, TEXT_FINAL, TEXT_SETS };

struct text {
    struct corpus corpus;
    struct text_part {
        int32_t *tokens;         /* (count, n_ctx) */
        size_t count, from, to;  /* windows [from, to) of the corpus, count of them evenly spread */
        struct engine_windows w; /* points into tokens */
    } part[TEXT_SETS];
};
/* engine holds the original. Wanted numbers of windows come from r->subject.scale and shrink in
 * proportion when the corpus is short; at least two each, else ERR_INPUT. Fills r->windows and
 * r->corpus_sha256. */
int text_make(struct text *t, struct run *r, struct engine *g, struct err *e);
void text_release(struct text *t);
/* Keeps the first n windows of a set. */
void text_shorten(struct text *t, enum text_set set, size_t n);
/* SHA-256 of a set's tokens and its first scored position. */
void text_key(const struct text *t, enum text_set set, char hex[static 65]);
json_t *text_json_new(const struct text *t, const struct scale *s);

#endif
