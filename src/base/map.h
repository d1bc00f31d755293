/* String → uint64 hash map (open addressing, keys copied). For names of tensors, tokens, options.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct map {
    struct map_slot *slots;
    size_t count, capacity;
    struct arena keys; /* copies of the keys */
};

/* Zero-initialised struct is a valid empty map. */
void map_release(struct map *m);
/* Returns false and leaves the old value when the key is already there. */
bool map_add(struct map *m, const char *key, size_t key_len, uint64_t value);
void map_set(struct map *m, const char *key, size_t key_len, uint64_t value);
bool map_get(const struct map *m, const char *key, size_t key_len, uint64_t *value);
bool map_get_str(const struct map *m, const char *key, uint64_t *value);

#endif
