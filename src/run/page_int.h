/* Pieces of the web page of a report. All read the result document alone; every text that comes
 * from a model, a path or an error goes through page_text. */
#ifndef RUN_PAGE_INT_H
#define RUN_PAGE_INT_H

#include "base/buf.h"
#include "base/json.h"
#include "base/num.h"

/* Escaped for the text and the attributes of a page; what XML forbids becomes U+FFFD. */
void page_text(struct buf *b, const char *s);
/* A KL divergence with three significant digits and no exponent. */
char *page_kld(double v, char text[static NUM_TEXT_MAX]);
/* The style sheet, with light, dark and printed colours. */
extern const char page_style[];

/* ---- plot.c ---- */

/* The Pareto plot with its caption and legend; false: no candidate to show. */
bool page_plot(struct buf *b, const json_t *report);

/* ---- heat.c ---- */

/* Sensitivities and chosen types, layers down and parts of a layer across; false: the document has
 * none. */
bool page_heat(struct buf *b, const json_t *report);
/* The same as Markdown tables. */
void markdown_heat(struct buf *b, const json_t *report);

/* ---- cache_text.c ---- */

enum { CACHE_LABEL_MAX = 128, CACHE_SENTENCE_MAX = 400 };
/* Name of a candidate with the types of its KV cache, where they are not f16. Returns text. */
const char *cache_label(const json_t *candidate, const char *name,
                        char text[static CACHE_LABEL_MAX]);
/* Options for llama.cpp's programs with a space before, and what users of Ollama have to know; ""
 * for f16. Return text. */
const char *cache_options(const json_t *recipe, char text[static CACHE_LABEL_MAX]);
const char *cache_ollama_text(const json_t *recipe, char text[static CACHE_SENTENCE_MAX]);
/* Is there more to say of the cache than that it is f16? */
bool cache_is_told(const json_t *report);
void cache_sentence(const json_t *report, char text[static CACHE_SENTENCE_MAX]);
/* The cache of the delivered file, and what others would have cost. */
void markdown_cache(struct buf *b, const json_t *report);
void page_cache(struct buf *b, const json_t *report);

/* Was anything asked for? Without targets the front is the result. */
bool report_has_targets(const json_t *report);

/* Text inside a Markdown table or line. */
void markdown_text(struct buf *b, const char *s);

#endif
