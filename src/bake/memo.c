/* The files of the memo: header with a checksum, then the encoded band.
 *
 * A file is written under a temporary name and renamed, without fsync: after a crash a file may be
 * empty or partly zeros, and its checksum tells. Use sets the file's time; the sweep removes the
 * oldest files until nine tenths of the bound are left, when the folder is opened and whenever what
 * was added passes the bound. Only files whose name is a key, or a temporary of ours, are ever
 * removed. */
#include "bake/memo.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/banned.h"

enum { KEY_LENGTH = 64, TEMPORARY_SECONDS = 3600 };
static const uint64_t limit_max = 4ull << 30;

struct header {
    char magic[8];
    uint64_t bytes;
    struct quant_error error;
    char sum[HASH_HEX_MAX + 7]; /* of the fields before and of the data; zeros behind */
};
static const char magic[8] = "SINTENC1";

struct memo {
    char *folder;
    pthread_mutex_t lock;
    uint64_t limit, used;
    uint64_t temporaries;
};

/* ---- hashes ---- */

/* 512 bits of n bytes, several times faster than SHA-256: every word goes into two of eight lanes
 * by steps that are one-to-one in the lane and in the word, so that two inputs that differ anywhere
 * meet with a chance of 2^-128 at most. Against accidents, not against intent: who can write into
 * the folder can write anything there. */
struct digest {
    uint64_t lane[8];
};

static uint64_t turn(uint64_t v, int bits)
{
    return v << bits | v >> (64 - bits);
}

static void digest_words(struct digest *d, const uint64_t w[4])
{
    for (int i = 0; i < 4; i++) {
        d->lane[i] = turn((d->lane[i] ^ w[i]) * 0x9e3779b97f4a7c15u, 29);
        d->lane[i + 4] = turn((d->lane[i + 4] + w[i]) * 0xd6e8feb86659fd93u, 37);
    }
}

static struct digest digest_of(const void *data, size_t n)
{
    struct digest d;
    const uint8_t *p = data;
    uint64_t w[4];
    for (uint64_t i = 0; i < 8; i++)
        d.lane[i] = (i + 1) * 0xa0761d6478bd642fu;
    for (; n >= sizeof w; n -= sizeof w, p += sizeof w) {
        memcpy(w, p, sizeof w);
        digest_words(&d, w);
    }
    memset(w, 0, sizeof w);
    if (n > 0)
        memcpy(w, p, n);
    digest_words(&d, w);
    return d;
}

static void checksum(const struct header *h, const void *data, char hex[static HASH_HEX_MAX])
{
    struct digest d = digest_of(data, (size_t)h->bytes);
    struct hash_sha256 *s = hash_sha256_new();
    hash_sha256_add(s, h, offsetof(struct header, sum));
    hash_sha256_add(s, &d, sizeof d);
    hash_sha256_finish(s, hex);
}

/* ---- the sweep ---- */

struct old_file {
    char *path;
    int64_t used_ns;
    uint64_t bytes;
};
struct listing {
    struct old_file *files;
    size_t n, capacity;
    uint64_t bytes;
};

static int by_use(const void *a, const void *b)
{
    const struct old_file *x = a, *y = b;
    if (x->used_ns != y->used_ns)
        return x->used_ns < y->used_ns ? -1 : 1;
    return strcmp(x->path, y->path);
}

/* Keys enter the listing; temporaries of a run that died are removed. */
static void list_file(struct listing *l, const char *folder, const char *name)
{
    struct stat st;
    char *path = fs_join(folder, name);
    bool key = strlen(name) == KEY_LENGTH && strspn(name, "0123456789abcdef") == KEY_LENGTH;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
        xfree(path);
        return;
    }
    if (!key) {
        if (strstr(name, ".partial") && st.st_mtime + TEMPORARY_SECONDS < time(NULL))
            unlink(path);
        xfree(path);
        return;
    }
    l->files = xgrow(l->files, &l->capacity, l->n + 1, sizeof *l->files);
    l->files[l->n++] = (struct old_file){
        path, (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, (uint64_t)st.st_size};
    l->bytes += (uint64_t)st.st_size;
}

static void list_all(struct listing *l, const char *root)
{
    struct err e;
    char **folders, **names;
    size_t n_folders, n;
    if (fs_list(root, &folders, &n_folders, &e) != 0)
        return;
    for (size_t i = 0; i < n_folders; i++) {
        char *folder = fs_join(root, folders[i]);
        if (strlen(folders[i]) == 2 && fs_list(folder, &names, &n, &e) == 0) {
            for (size_t k = 0; k < n; k++)
                list_file(l, folder, names[k]);
            fs_list_free(names, n);
        }
        xfree(folder);
    }
    fs_list_free(folders, n_folders);
}

/* Under the lock, or before anybody else knows m. */
static void sweep(struct memo *m)
{
    struct listing l = {0};
    list_all(&l, m->folder);
    m->used = l.bytes;
    if (m->used > m->limit) {
        qsort(l.files, l.n, sizeof *l.files, by_use);
        for (size_t i = 0; i < l.n && m->used > m->limit / 10 * 9; i++)
            if (unlink(l.files[i].path) == 0)
                m->used -= l.files[i].bytes;
    }
    for (size_t i = 0; i < l.n; i++)
        xfree(l.files[i].path);
    xfree(l.files);
}

struct memo *memo_open(const char *folder, uint64_t limit)
{
    struct err e;
    uint64_t left;
    if (fs_mkdirs(folder, &e) != 0)
        return NULL;
    if (limit == 0) {
        limit = limit_max;
        if (fs_free_bytes(folder, &left, &e) == 0 && left / 10 < limit)
            limit = left / 10;
    }
    struct memo *m = xcalloc(1, sizeof *m);
    m->folder = xstrdup(folder);
    m->limit = limit;
    pthread_mutex_init(&m->lock, NULL);
    sweep(m);
    return m;
}

void memo_close(struct memo *m)
{
    if (!m)
        return;
    pthread_mutex_destroy(&m->lock);
    xfree(m->folder);
    xfree(m);
}

/* ---- keys ---- */

bool memo_worth(enum dtype type, bool important)
{
    switch (type) {
    case DT_Q4_0:
    case DT_Q4_1:
    case DT_Q5_0:
    case DT_Q5_1:
        return important; /* without a search, encoding is as fast as reading */
    case DT_Q8_0:
    case DT_MXFP4:
    case DT_NVFP4:
    case DT_TQ1_0:
    case DT_TQ2_0:
    case DT_Q1_0:
    case DT_Q2_0:
        return false;
    default:
        return dtype_info(type) && dtype_info(type)->quantized;
    }
}

void memo_key_make(struct memo_key *k, enum dtype type, enum dtype stored, const void *rows,
                   size_t bytes, uint64_t columns, const float *importance)
{
    struct hash_sha256 *h = hash_sha256_new();
    uint64_t facts[] = {(uint64_t)type, (uint64_t)stored, columns, bytes, importance != NULL};
    hash_sha256_add(h, QUANT_VERSION, sizeof QUANT_VERSION);
    hash_sha256_add(h, facts, sizeof facts);
    if (importance)
        hash_sha256_add(h, importance, (size_t)columns * sizeof *importance);
    struct digest d = digest_of(rows, bytes);
    hash_sha256_add(h, &d, sizeof d);
    hash_sha256_finish(h, k->hex);
}

/* ---- reading and writing ---- */

static char *folder_of(const struct memo *m, const struct memo_key *k)
{
    char two[3] = {k->hex[0], k->hex[1], '\0'};
    return fs_join(m->folder, two);
}

static char *path_of(const struct memo *m, const struct memo_key *k)
{
    char *folder = folder_of(m, k), *path = fs_join(folder, k->hex);
    xfree(folder);
    return path;
}

static bool read_whole(int fd, void *data, size_t bytes)
{
    uint8_t *p = data;
    while (bytes > 0) {
        ssize_t n = read(fd, p, bytes);
        if (n <= 0)
            return false;
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool write_whole(int fd, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    while (bytes > 0) {
        ssize_t n = write(fd, p, bytes);
        if (n <= 0)
            return false;
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

bool memo_get(struct memo *m, const struct memo_key *k, void *dst, size_t bytes,
              struct quant_error *error)
{
    struct header h;
    char sum[sizeof h.sum] = {0};
    char *path = path_of(m, k);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool good = false;
    if (fd < 0)
        goto out;
    if (read_whole(fd, &h, sizeof h) && memcmp(h.magic, magic, sizeof magic) == 0 &&
        h.bytes == bytes && read_whole(fd, dst, bytes)) {
        checksum(&h, dst, sum);
        good = memcmp(sum, h.sum, sizeof sum) == 0;
    }
    if (good) {
        *error = h.error;
        futimens(fd, NULL);
    } else {
        unlink(path);
    }
    close(fd);
out:
    xfree(path);
    return good;
}

static char *temporary_of(struct memo *m, const struct memo_key *k)
{
    char name[128], *folder = folder_of(m, k);
    struct err e;
    pthread_mutex_lock(&m->lock);
    uint64_t number = m->temporaries++;
    pthread_mutex_unlock(&m->lock);
    snprintf(name, sizeof name, "%.16s-%ld-%llu.partial", k->hex, (long)getpid(),
             (unsigned long long)number);
    char *path = fs_mkdirs(folder, &e) == 0 ? fs_join(folder, name) : NULL;
    xfree(folder);
    return path;
}

void memo_put(struct memo *m, const struct memo_key *k, const void *data, size_t bytes,
              const struct quant_error *error)
{
    struct header h = {.bytes = bytes, .error = *error};
    char *temporary = temporary_of(m, k), *path = path_of(m, k);
    if (!temporary)
        goto out;
    memcpy(h.magic, magic, sizeof magic);
    checksum(&h, data, h.sum);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        goto out;
    bool good = write_whole(fd, &h, sizeof h) && write_whole(fd, data, bytes);
    good = close(fd) == 0 && good;
    if (!good || rename(temporary, path) != 0) {
        unlink(temporary);
        goto out;
    }
    pthread_mutex_lock(&m->lock);
    m->used += sizeof h + bytes;
    if (m->used > m->limit)
        sweep(m);
    pthread_mutex_unlock(&m->lock);
out:
    xfree(temporary);
    xfree(path);
}
