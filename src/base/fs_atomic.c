/* Atomic replacement of files: complete under the final name, or not there.
 *
 * Owns the temporary "<path>.sintra-<pid>.partial" beside the target until commit or abort. The
 * order is the one that survives power loss: data fsynced, renamed, directory fsynced. Refuses
 * targets that a rename would destroy silently (directories, devices, sockets), and it does so at
 * open, before hours of work. A kill -9 leaves the temporary behind, never a half file under the
 * real name.
 */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
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

int fs_atomic_open(struct fs_atomic *a, const char *path, struct err *e)
{
    if (check_target(path, e))
        return -1;
    char *temporary = xasprintf("%s.sintra-%ld.partial", path, (long)getpid());
    int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
    int fd = open(temporary, flags, 0666);
    if (fd < 0 && errno == EEXIST && unlink(temporary) == 0)
        fd = open(temporary, flags, 0666); /* left by a dead process that had our pid */
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
    const char *slash = strrchr(path, '/');
    char *dir = !slash ? xstrdup(".") : xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
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
    int fd = a->fd;
    a->fd = -1;
    if (close(fd) < 0 && errno != EINTR) { /* NFS reports late write errors here */
        err_set_errno(e, errno, NULL, "cannot finish %s", a->path);
        goto out;
    }
    if (rename(a->temporary, a->path) < 0) {
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
