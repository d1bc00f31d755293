/* SHA-256 over OpenSSL EVP. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { HASH_HEX_MAX = 65 };

struct hash_sha256; /* streaming state */
struct hash_sha256 *hash_sha256_new(void);
void hash_sha256_add(struct hash_sha256 *h, const void *data, size_t n);
void hash_sha256_finish(struct hash_sha256 *h, char hex[static HASH_HEX_MAX]); /* frees h */
void hash_sha256_text(const void *data, size_t n, char hex[static HASH_HEX_MAX]);
int hash_sha256_file(const char *path, char hex[static HASH_HEX_MAX], struct err *e);

#endif
