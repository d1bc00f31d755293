/* Files and directories, maps, locks and shared memory. Atomic replacement lives in fs_atomic.c.
 *
 * Owns what its structs hold until the matching close/drop. Refuses to map or read anything whose
 * size the file system cannot promise (directories, and for maps everything but regular files).
 * Opening is done with O_NONBLOCK where a FIFO in the place of a model would otherwise hang us.
 * Every error names the path.
 */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

static int64_t mtime_ns(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

int fs_map_open(struct fs_map *m, const char *path, struct err *e)
{
    struct stat st;
    void *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return err_set_errno(e, errno, NULL, "cannot open %s", path);
    if (fstat(fd, &st) < 0) {
        err_set_errno(e, errno, NULL, "cannot examine %s", path);
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_INPUT, NULL, "%s is %s, expected a regular file", path,
                S_ISDIR(st.st_mode) ? "a directory" : "not a file");
        goto fail;
    }
    if (st.st_size > 0)
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
        err_set_errno(e, errno, NULL, "cannot map %s", path);
        goto fail;
    }
    *m = (struct fs_map){.data = data,
                         .size = (uint64_t)st.st_size,
                         .fd = fd,
                         .mtime_ns = mtime_ns(&st),
                         .path = xstrdup(path)};
    return 0;
fail:
    close(fd);
    return -1;
}

int fs_map_check(const struct fs_map *m, struct err *e)
{
    struct stat st;
    if (fstat(m->fd, &st) < 0)
        return err_set_errno(e, errno, NULL, "cannot examine %s", m->path);
    if ((uint64_t)st.st_size == m->size && mtime_ns(&st) == m->mtime_ns)
        return 0;
    return err_set(e, ERR_INPUT, "let whatever writes the file finish, then start again",
                   "%s changed while it was being read (%llu bytes when opened, %llu now)", m->path,
                   (unsigned long long)m->size, (unsigned long long)st.st_size);
}

/* Clips [offset, offset+length) to the file and widens it to whole pages; false when nothing is
 * left. */
static bool page_range(const struct fs_map *m, uint64_t offset, uint64_t length, uint64_t *from,
                       uint64_t *n)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (offset >= m->size || length == 0)
        return false;
    uint64_t end = length > m->size - offset ? m->size : offset + length;
    *from = offset & ~(page - 1);
    *n = end - *from;
    return true;
}

void fs_map_prefetch(const struct fs_map *m, uint64_t offset, uint64_t length)
{
    uint64_t from, n;
    if (page_range(m, offset, length, &from, &n))
        madvise((void *)(uintptr_t)(m->data + from), n, MADV_WILLNEED);
}

void fs_map_forget(const struct fs_map *m, uint64_t offset, uint64_t length)
{
    uint64_t from, n;
    /* Drops our page-table entries and so our RSS. The page cache keeps the pages if it can: the
     * same source is baked into many candidates. */
    if (page_range(m, offset, length, &from, &n))
        madvise((void *)(uintptr_t)(m->data + from), n, MADV_DONTNEED);
}

void fs_map_close(struct fs_map *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    if (m->path)
        close(m->fd);
    xfree(m->path);
    *m = (struct fs_map){.fd = -1};
}

/* Reads fd to its end into *data (grown as it goes: a FIFO has no size to trust). */
static int read_to_end(int fd, const char *path, size_t expected, size_t bytes_max, char **data,
                       size_t *n, struct err *e)
{
    size_t capacity = (expected < bytes_max ? expected : bytes_max) + 1, len = 0;
    char *text = mem_try_realloc(NULL, capacity + 1);
    while (text) {
        ssize_t got = read(fd, text + len, capacity - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            err_set_errno(e, errno, NULL, "cannot read %s", path);
            goto fail;
        }
        len += (size_t)got;
        if (len > bytes_max) {
            err_set(e, ERR_LIMIT, NULL, "%s is larger than the limit of %zu bytes for such a file",
                    path, bytes_max);
            goto fail;
        }
        if (got == 0) {
            text[len] = 0;
            *data = text;
            *n = len;
            return 0;
        }
        if (len < capacity)
            continue;
        capacity = capacity > bytes_max / 2 ? bytes_max + 1 : capacity * 2;
        char *grown = mem_try_realloc(text, capacity + 1);
        if (!grown)
            break;
        text = grown;
    }
    err_set(e, ERR_MEMORY, NULL, "cannot get the memory to read %s", path);
fail:
    xfree(text);
    return -1;
}

int fs_read_all(const char *path, size_t bytes_max, char **data, size_t *n, struct err *e)
{
    struct stat st;
    if (bytes_max > SIZE_MAX / 4)
        bytes_max = SIZE_MAX / 4;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_set_errno(e, errno, NULL, "cannot open %s", path);
    int rc;
    if (fstat(fd, &st) < 0)
        rc = err_set_errno(e, errno, NULL, "cannot examine %s", path);
    else if (S_ISDIR(st.st_mode))
        rc = err_set(e, ERR_INPUT, NULL, "%s is a directory, expected a file", path);
    else
        rc = read_to_end(fd, path, st.st_size > 0 ? (size_t)st.st_size : 4096, bytes_max, data, n,
                         e);
    close(fd);
    return rc;
}

bool fs_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool fs_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int fs_size(const char *path, uint64_t *bytes, struct err *e)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_set_errno(e, errno, NULL, "cannot examine %s", path);
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static int make_dir(const char *path, const char *whole, struct err *e)
{
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && fs_is_dir(path)))
        return 0;
    if (errno == EEXIST || errno == ENOTDIR)
        return err_set(e, ERR_IO, "choose another path, or move that file away",
                       "cannot create the directory %s: %s is a file", whole, path);
    return err_set_errno(e, errno, NULL, "cannot create the directory %s", whole);
}

int fs_mkdirs(const char *path, struct err *e)
{
    char *partial = xstrdup(path);
    int rc = 0;
    for (char *p = partial + 1; *partial && *p && rc == 0; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        rc = make_dir(partial, path, e);
        *p = '/';
    }
    if (rc == 0)
        rc = make_dir(partial, path, e);
    xfree(partial);
    return rc;
}

int fs_remove(const char *path, struct err *e)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    return err_set_errno(e, errno, NULL, "cannot remove %s", path);
}

static int remove_at(int parent, const char *name, const char *path, struct err *e);

/* Empties the directory `fd` (closed here) without ever following a link. */
static int empty_dir(int fd, const char *path, struct err *e)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        err_set_errno(e, errno, NULL, "cannot list %s", path);
        close(fd);
        return -1;
    }
    int rc = 0;
    const struct dirent *entry;
    while (rc == 0 && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *child = fs_join(path, entry->d_name);
        rc = remove_at(dirfd(dir), entry->d_name, child, e);
        xfree(child);
    }
    closedir(dir);
    return rc;
}

static int remove_at(int parent, const char *name, const char *path, struct err *e)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_set_errno(e, errno, NULL, "cannot remove %s", path);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(e, errno, NULL, "cannot remove %s", path);
    if (empty_dir(fd, path, e))
        return -1;
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    return err_set_errno(e, errno, NULL, "cannot remove %s", path);
}

int fs_remove_tree(const char *path, struct err *e)
{
    return remove_at(AT_FDCWD, path, path, e);
}

/* The directory part of a path ("." when there is none). xfree. */
static char *dirname_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return xstrdup(".");
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

int fs_free_bytes(const char *path, uint64_t *bytes, struct err *e)
{
    struct statvfs v;
    /* A path that does not exist yet stands for the nearest directory above it. */
    char *at = xstrdup(path);
    int rc;
    while ((rc = statvfs(at, &v)) < 0 && errno == ENOENT && strcmp(at, ".") && strcmp(at, "/")) {
        char *up = dirname_of(at);
        xfree(at);
        at = up;
    }
    if (rc < 0)
        rc = err_set_errno(e, errno, NULL, "cannot ask for the free space at %s", path);
    else if (!num_mul_u64(v.f_bavail, v.f_frsize, bytes))
        *bytes = UINT64_MAX;
    xfree(at);
    return rc;
}

char *fs_join(const char *a, const char *b)
{
    size_t n = strlen(a);
    return xasprintf("%s%s%s", a, n > 0 && a[n - 1] != '/' ? "/" : "", b);
}

const char *fs_basename(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int fs_list(const char *path, char ***names, size_t *n, struct err *e)
{
    DIR *dir = opendir(path);
    if (!dir)
        return err_set_errno(e, errno, NULL, "cannot list %s", path);
    char **list = NULL;
    size_t count = 0, capacity = 0;
    const struct dirent *entry;
    errno = 0;
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        list = xgrow(list, &capacity, count + 1, sizeof(*list));
        list[count++] = xstrdup(entry->d_name);
        errno = 0;
    }
    int failed = errno;
    closedir(dir);
    if (failed) {
        fs_list_free(list, count);
        return err_set_errno(e, failed, NULL, "cannot list %s", path);
    }
    if (count > 0)
        qsort(list, count, sizeof(*list), compare_names);
    *names = list;
    *n = count;
    return 0;
}

void fs_list_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        xfree(names[i]);
    xfree(names);
}

static int lock_refused(int fd, const char *path, int reason, struct err *e)
{
    char owner[32] = "";
    if (reason != EWOULDBLOCK)
        return err_set_errno(e, reason, NULL, "cannot lock %s", path);
    ssize_t n = pread(fd, owner, sizeof(owner) - 1, 0);
    owner[n > 0 ? n : 0] = 0;
    long pid = strtol(owner, NULL, 10);
    if (pid <= 0)
        return err_set(e, ERR_BUSY, "wait for the other process to finish",
                       "%s is locked by another process", path);
    return err_set(e, ERR_BUSY, "wait for it to finish, or stop it", "%s is locked by process %ld",
                   path, pid);
}

int fs_lock_take(struct fs_lock *l, const char *path, struct err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return err_set_errno(e, errno, NULL, "cannot open the lock file %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        lock_refused(fd, path, errno, e);
        close(fd);
        return -1;
    }
    /* The pid is only for the message of whoever comes second, so a failed write does no harm. */
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) < 0)
        errno = 0;
    *l = (struct fs_lock){.fd = fd, .path = xstrdup(path)};
    return 0;
}

void fs_lock_drop(struct fs_lock *l)
{
    if (!l->path)
        return;
    /* The file stays: unlinking it would let two processes lock two different files of one name. */
    if (ftruncate(l->fd, 0) < 0)
        errno = 0;
    close(l->fd);
    xfree(l->path);
    *l = (struct fs_lock){.fd = -1};
}

int fs_memfd(const char *name, size_t bytes, int *fd, void **data, struct err *e)
{
    int f = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (f < 0)
        return err_set_errno(e, errno, NULL, "cannot create shared memory for %s", name);
    /* Sealed against shrinking, or the other side could turn our reads into a SIGBUS. */
    if (ftruncate(f, (off_t)bytes) < 0 || fcntl(f, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
        err_set_errno(e, errno, NULL, "cannot size shared memory for %s to %zu bytes", name, bytes);
        close(f);
        return -1;
    }
    if (fs_memfd_map(f, bytes, true, data, e)) {
        close(f);
        return -1;
    }
    *fd = f;
    return 0;
}

int fs_memfd_map(int fd, size_t bytes, bool writable, void **data, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set_errno(e, errno, NULL, "cannot examine shared memory");
    if (st.st_size < 0 || (uint64_t)st.st_size < bytes)
        return err_set(e, ERR_INPUT, NULL, "shared memory has %lld bytes, expected at least %zu",
                       (long long)st.st_size, bytes);
    *data = NULL;
    if (bytes == 0)
        return 0;
    void *p = mmap(NULL, bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_set_errno(e, errno, NULL, "cannot map %zu bytes of shared memory", bytes);
    *data = p;
    return 0;
}

void fs_memfd_close(int fd, void *data, size_t bytes)
{
    if (data)
        munmap(data, bytes);
    if (fd >= 0)
        close(fd);
}
