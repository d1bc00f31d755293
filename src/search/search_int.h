/* Private to search/: the parts of the built-in proposer. */
#ifndef SEARCH_SEARCH_INT_H
#define SEARCH_SEARCH_INT_H

#include "search/search.h"

/* The space's table with its predictions corrected by what was measured (correct.c) of candidates
 * that were rounded as the table supposes, with error feedback or without, and that have all blocks
 * or lack those of `drop` (NULL = none). probe_table_release. Returns what a file costs beside its
 * weights, in nats: its activations are quantized. */
double correct_table(struct probe_table *to, const struct search_space *s,
                     const struct search_drop *drop, const struct trials *history);

/* ---- drops.c; a set of NULL is none ---- */

bool drops_has_layer(const struct search_drop *d, int layer);
/* Does the recipe drop just these blocks? */
bool drops_is(const struct search_drop *d, const struct recipe *r);
const struct search_drop *drops_find(const struct search_space *s, const struct recipe *r);
/* Makes the groups of its blocks absent. */
void drops_mark(struct probe_table *t, const struct probe_groups *groups,
                const struct search_drop *d);
/* The set that is worth a candidate now, or NULL. */
const struct search_drop *drops_next(const struct search_space *s, const struct trials *h);
/* What the best candidate that meets the targets lacks. */
const struct search_drop *drops_of_best(const struct search_space *s, const struct trials *h);

/* Was a candidate with these types, or this stock mix, tried before (failed ones included) with the
 * KV cache of the space? */
bool history_has_types(const struct search_space *s, const struct trials *h,
                       const enum dtype *types);
bool history_has_stock(const struct search_space *s, const struct trials *h, const char *name);
/* ", q8_0 KV cache" for the reason of a proposal; "" for the default. Returns text. */
const char *cache_remark(struct cache_types t, char text[static CACHE_TEXT_MAX + 16]);
int history_search_count(const struct trials *h);

/* The stock mixes worth measuring next, of the first `most`. 0 = proposal, 1 = none left, -1 =
 * error. */
int stocks_next(const struct search_space *s, const struct trials *h, size_t most,
                struct proposal *p, struct err *e);
/* The mix of no more bytes than t that promises most, unless it was measured or (not `sure`) its
 * prediction leaves no doubt that t is better. Returns as stocks_next. */
int stocks_rival(const struct search_space *s, const struct trials *h, const struct trial *t,
                 bool sure, struct proposal *p, struct err *e);
/* The best single move around `from` under the table; false when none promises anything. */
bool moves_best(const struct search_space *s, const struct probe_table *t, const struct trials *h,
                const enum dtype *from, enum dtype *types);

#endif
