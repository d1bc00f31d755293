/* Atomic replacement of files: complete under the final name, or not there.
 *
 * Owns the temporary "<path>.sintra-<pid>.partial" beside the target until commit or abort. The
 * order is the one that survives power loss: data fsynced, renamed, directory fsynced. Refuses
 * targets that a rename would destroy silently (directories, devices, sockets), and it does so at
 * open, before hours of work. A kill -9 leaves the temporary behind, never a half file under the
 * real name; who opens the same target next removes it. A living owner holds a lock on its
 * temporary, which the kernel drops with the process, so nobody else's work is removed.
 */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/banned.h"

enum { WRITE_CHUNK = 1 << 30 }; /* Linux writes at most 0x7ffff000 bytes a call */

static int check_target(const char *path, struct err *e)
{
    struct stat st;
    size_t n = strlen(path);
    if (n == 0 || path[n - 1] == '/')
        return err_set(e, ERR_IO, "add a file name", "cannot write \"%s\": it names no file", path);
    if (lstat(path, &st) < 0 || S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
        return 0;
    return err_set(e, ERR_IO, "choose another name", "cannot write %s: it is %s", path,
                   S_ISDIR(st.st_mode) ? "a directory" : "a device or a socket, not a file");
}

static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash ? xstrdup(".") : xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* Unlinks a temporary that no living process holds. */
static void remove_if_left(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(dir, name, 0);
    close(fd);
}

static bool is_temporary_of(const char *name, const char *target)
{
    static const char mark[] = ".sintra-", end[] = ".partial";
    size_t n = strlen(target);
    if (strncmp(name, target, n) != 0 || strncmp(name + n, mark, sizeof(mark) - 1) != 0)
        return false;
    name += n + sizeof(mark) - 1;
    size_t digits = strspn(name, "0123456789");
    return digits > 0 && strcmp(name + digits, end) == 0;
}

/* What killed processes left of this target. */
static void sweep(const char *path)
{
    char *folder = directory_of(path);
    DIR *d = opendir(folder);
    const struct dirent *entry;
    while (d && (entry = readdir(d)) != NULL)
        if (is_temporary_of(entry->d_name, fs_basename(path)))
            remove_if_left(dirfd(d), entry->d_name);
    if (d)
        closedir(d);
    xfree(folder);
}

/* Made and locked. A sweep of another process may take the file between the two; then again. File
 * systems without locks have no sweeps either. */
static int open_temporary(const char *name)
{
    for (;;) {
        struct stat st;
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0)
            return -1;
        bool held = flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
        if (held && fstat(fd, &st) == 0 && st.st_nlink > 0)
            return fd;
        close(fd);
    }
}

int fs_atomic_open(struct fs_atomic *a, const char *path, struct err *e)
{
    if (check_target(path, e))
        return -1;
    sweep(path);
    char *temporary = xasprintf("%s.sintra-%ld.partial", path, (long)getpid());
    int fd = open_temporary(temporary);
    if (fd < 0) {
        err_set_errno(e, errno, NULL, "cannot create %s", path);
        xfree(temporary);
        return -1;
    }
    *a = (struct fs_atomic){.fd = fd, .path = xstrdup(path), .temporary = temporary};
    return 0;
}

int fs_atomic_write_at(struct fs_atomic *a, uint64_t offset, const void *data, size_t n,
                       struct err *e)
{
    const char *p = data;
    while (n > 0) {
        ssize_t put = pwrite(a->fd, p, n < WRITE_CHUNK ? n : WRITE_CHUNK, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_set_errno(e, put < 0 ? errno : ENOSPC, NULL, "cannot write %s", a->path);
        p += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return 0;
}

int fs_atomic_write(struct fs_atomic *a, const void *data, size_t n, struct err *e)
{
    if (fs_atomic_write_at(a, a->written, data, n, e))
        return -1;
    a->written += n;
    return 0;
}

static int sync_directory_of(const char *path, struct err *e)
{
    char *dir = directory_of(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = 0;
    /* Some network and FUSE file systems refuse to sync directories; the rename still stands. */
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL && errno != ENOSYS && errno != ENOTSUP))
        rc = err_set_errno(e, errno, NULL, "cannot sync the directory %s", dir);
    if (fd >= 0)
        close(fd);
    xfree(dir);
    return rc;
}

int fs_atomic_commit(struct fs_atomic *a, struct err *e)
{
    int rc = -1;
    if (!a->path)
        return err_set(e, ERR_BUG, NULL, "a file was committed twice or never opened");
    if (fsync(a->fd) < 0) {
        err_set_errno(e, errno, NULL, "cannot sync %s to disk", a->path);
        goto out;
    }
    if (rename(a->temporary, a->path) < 0) { /* before the lock goes with the descriptor */
        err_set_errno(e, errno, NULL, "cannot rename the finished file to %s", a->path);
        goto out;
    }
    xfree(a->temporary);
    a->temporary = NULL;
    rc = sync_directory_of(a->path, e);
out:
    fs_atomic_abort(a);
    return rc;
}

void fs_atomic_abort(struct fs_atomic *a)
{
    if (!a->path)
        return;
    if (a->fd >= 0)
        close(a->fd);
    if (a->temporary)
        unlink(a->temporary);
    xfree(a->temporary);
    xfree(a->path);
    *a = (struct fs_atomic){.fd = -1};
}

int fs_check_output(const char *path, struct err *e)
{
    struct fs_atomic a;
    if (fs_atomic_open(&a, path, e))
        return -1;
    fs_atomic_abort(&a);
    return 0;
}

int fs_move(const char *from, const char *to, struct err *e)
{
    if (rename(from, to) < 0)
        return err_set_errno(e, errno, NULL, "cannot rename the finished file %s to %s", from, to);
    return sync_directory_of(to, e);
}

int fs_write_all(const char *path, const void *data, size_t n, struct err *e)
{
    struct fs_atomic a;
    if (fs_atomic_open(&a, path, e))
        return -1;
    if (fs_atomic_write(&a, data, n, e)) {
        fs_atomic_abort(&a);
        return -1;
    }
    return fs_atomic_commit(&a, e);
}
