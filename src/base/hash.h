/* SHA-256, and the name that git gives a file's content, over OpenSSL EVP. */
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

/* git's object id of a file ("blob"): SHA-1 of "blob <size>\0" and the content, which must be of
 * exactly that size. The hub names small files so. */
enum { HASH_GIT_HEX_MAX = 41 };
struct hash_git;
struct hash_git *hash_git_new(uint64_t bytes);
void hash_git_add(struct hash_git *h, const void *data, size_t n);
void hash_git_finish(struct hash_git *h, char hex[static HASH_GIT_HEX_MAX]); /* frees h */

#endif
