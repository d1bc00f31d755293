/* A memo of encoded bands in files, so that the next recipe encodes only what it changes.
 *
 * One file per band of rows: folder/XX/KEY, KEY being a hash of everything that decides the bytes:
 * the source rows, the type, QUANT_VERSION and the importance of the columns. A file carries its
 * own checksum; one that is damaged, cut or missing costs the work again and nothing else. The
 * folder is kept under a bound by removing what was used longest ago. Errors of the file system
 * make misses, never failures. */
#ifndef BAKE_MEMO_H
#define BAKE_MEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "quant/quant.h"

struct memo;
struct memo_key {
    char hex[HASH_HEX_MAX];
};

/* folder is made if needed. limit: bytes, 0 = the smaller of 4 GiB and a tenth of what the disk has
 * left. NULL when the folder cannot be used. */
struct memo *memo_open(const char *folder, uint64_t limit);
void memo_close(struct memo *m);

/* Is it faster to look the encoding up than to do it again? */
bool memo_worth(enum dtype type, bool important);
/* rows: the source rows as they are stored (of type `stored`), or as floats. importance: columns
 * values, or NULL. */
void memo_key_make(struct memo_key *k, enum dtype type, enum dtype stored, const void *rows,
                   size_t bytes, uint64_t columns, const float *importance);

/* True and dst filled when a whole file of that key and size is there. Thread-safe, as is
 * memo_put. */
bool memo_get(struct memo *m, const struct memo_key *k, void *dst, size_t bytes,
              struct quant_error *error);
void memo_put(struct memo *m, const struct memo_key *k, const void *data, size_t bytes,
              const struct quant_error *error);

#endif
