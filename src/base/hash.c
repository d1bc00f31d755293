/* SHA-256 and SHA-1 (FIPS 180-4) over OpenSSL's EVP, which picks the CPU's SHA instructions.
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

enum { HASH_CHUNK = 1 << 20 };

/* Both states are the same thing; two names keep one from being finished as the other. */
struct hash_sha256 {
    EVP_MD_CTX *ctx;
};
struct hash_git {
    EVP_MD_CTX *ctx;
};

static void must(int ok)
{
    if (ok)
        return;
    fputs("sintra: OpenSSL refused to compute a hash\n", stderr);
    abort();
}

static EVP_MD_CTX *digest_new(const EVP_MD *kind)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    must(ctx != NULL);
    must(EVP_DigestInit_ex(ctx, kind, NULL));
    return ctx;
}

/* Writes 2n digits and a NUL; frees ctx. */
static void digest_finish(EVP_MD_CTX *ctx, unsigned n, char *hex)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned got = 0;
    must(EVP_DigestFinal_ex(ctx, digest, &got) && got == n);
    for (unsigned i = 0; i < n; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * n] = 0;
    EVP_MD_CTX_free(ctx);
}

struct hash_sha256 *hash_sha256_new(void)
{
    struct hash_sha256 *h = xcalloc(1, sizeof(*h));
    h->ctx = digest_new(EVP_sha256());
    return h;
}

void hash_sha256_add(struct hash_sha256 *h, const void *data, size_t n)
{
    if (n > 0)
        must(EVP_DigestUpdate(h->ctx, data, n));
}

void hash_sha256_finish(struct hash_sha256 *h, char hex[static HASH_HEX_MAX])
{
    digest_finish(h->ctx, (HASH_HEX_MAX - 1) / 2, hex);
    xfree(h);
}

struct hash_git *hash_git_new(uint64_t bytes)
{
    struct hash_git *h = xcalloc(1, sizeof(*h));
    char head[32];
    h->ctx = digest_new(EVP_sha1());
    int n = snprintf(head, sizeof(head), "blob %llu", (unsigned long long)bytes);
    hash_git_add(h, head, (size_t)n + 1);
    return h;
}

void hash_git_add(struct hash_git *h, const void *data, size_t n)
{
    if (n > 0)
        must(EVP_DigestUpdate(h->ctx, data, n));
}

void hash_git_finish(struct hash_git *h, char hex[static HASH_GIT_HEX_MAX])
{
    digest_finish(h->ctx, (HASH_GIT_HEX_MAX - 1) / 2, hex);
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
