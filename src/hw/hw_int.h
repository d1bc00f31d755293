/* Inside hw: a YAML document as a tree, the bandwidth probe. Not for other modules. */
#ifndef HW_HW_INT_H
#define HW_HW_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

enum tree_kind { TREE_SCALAR, TREE_LIST, TREE_MAP };

/* A value of a YAML document. Everything lives in the arena that tree_parse was given. */
struct tree {
    enum tree_kind kind;
    int line;            /* 1-based, for messages */
    bool quoted;         /* a scalar that was written in quotes or as a block: always text */
    const char *text;    /* of a scalar, UTF-8 */
    const char **keys;   /* of a map */
    struct tree **items; /* of a list or map */
    size_t count;
};

/* One document of plain data: no anchors, aliases, tags, duplicate keys, or keys that are not
 * scalars. `name` goes into error texts. An empty document is an empty map. */
int tree_parse(struct tree **root, struct arena *a, const char *text, size_t len, const char *name,
               struct err *e);
const struct tree *tree_get(const struct tree *map, const char *key); /* NULL when absent */

/* Scalars by the core schema of YAML 1.2: "no", "on" and 0o17 are text here, not booleans and
 * octals. */
bool tree_is_null(const struct tree *t);
bool tree_bool(const struct tree *t, bool *value);
bool tree_real(const struct tree *t, double *value);
const char *tree_what(
    const struct tree *t); /* "a list", "the text \"x\""; static storage per thread */

/* Best rate of a few parallel passes over a buffer larger than `cache_bytes`, GB/s (1e9); 0 when
 * there is no memory for it. Takes well under two seconds. */
double hw_bandwidth_measure(int threads, uint64_t cache_bytes, uint64_t ram_usable);

#endif
