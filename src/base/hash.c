/* SHA-256 (FIPS 180-4) over OpenSSL's EVP, which picks the CPU's SHA instructions.
 *
 * Owns the streaming state until hash_sha256_finish. A failing EVP call can only mean exhausted
 * memory or a broken OpenSSL, and a wrong hash must never be handed out: such a state aborts.
 */
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/stop.h"
#include "base/banned.h"

enum { HASH_BYTES = 32, HASH_CHUNK = 1 << 20 };

struct hash_sha256 {
    EVP_MD_CTX *ctx;
};

static void must(int ok)
{
    if (ok)
        return;
    fputs("sintra: OpenSSL refused to compute SHA-256\n", stderr);
    abort();
}

struct hash_sha256 *hash_sha256_new(void)
{
    struct hash_sha256 *h = xcalloc(1, sizeof(*h));
    h->ctx = EVP_MD_CTX_new();
    must(h->ctx != NULL);
    must(EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL));
    return h;
}

void hash_sha256_add(struct hash_sha256 *h, const void *data, size_t n)
{
    if (n > 0)
        must(EVP_DigestUpdate(h->ctx, data, n));
}

void hash_sha256_finish(struct hash_sha256 *h, char hex[static HASH_HEX_MAX])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    must(EVP_DigestFinal_ex(h->ctx, digest, &n) && n == HASH_BYTES);
    for (int i = 0; i < HASH_BYTES; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * HASH_BYTES] = 0;
    EVP_MD_CTX_free(h->ctx);
    xfree(h);
}

void hash_sha256_text(const void *data, size_t n, char hex[static HASH_HEX_MAX])
{
    struct hash_sha256 *h = hash_sha256_new();
    hash_sha256_add(h, data, n);
    hash_sha256_finish(h, hex);
}

/* Feeds the whole of fd to h. Asks for a stop between chunks: models take seconds to minutes. */
static int add_fd(struct hash_sha256 *h, int fd, const char *path, struct err *e)
{
    char *chunk = xmalloc(HASH_CHUNK);
    int rc = -1;
    for (;;) {
        if (stop_check(e))
            goto out;
        ssize_t n = read(fd, chunk, HASH_CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_set_errno(e, errno, NULL, "cannot read %s", path);
            goto out;
        }
        if (n == 0)
            break;
        hash_sha256_add(h, chunk, (size_t)n);
    }
    rc = 0;
out:
    xfree(chunk);
    return rc;
}

int hash_sha256_file(const char *path, char hex[static HASH_HEX_MAX], struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(e, errno, NULL, "cannot open %s", path);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    struct hash_sha256 *h = hash_sha256_new();
    int rc = add_fd(h, fd, path, e);
    char digest[HASH_HEX_MAX];
    hash_sha256_finish(h, digest);
    if (rc == 0)
        snprintf(hex, HASH_HEX_MAX, "%s", digest);
    close(fd);
    return rc;
}
