/* Files: read-only maps, atomic replacement, locks, directories, free space. */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* A regular file mapped read-only. The descriptor stays open: validator and reader see the same
 * file. fs_map_check tells when size or mtime changed since opening (truncation would be a SIGBUS).
 */
struct fs_map {
    const uint8_t *data; /* NULL when size is 0 */
    uint64_t size;
    int fd;
    int64_t mtime_ns;
    char *path; /* owned */
};
int fs_map_open(struct fs_map *m, const char *path, struct err *e);
int fs_map_check(const struct fs_map *m, struct err *e);
/* Tell the kernel that [offset, offset+length) will be read soon / will not be needed again. */
void fs_map_prefetch(const struct fs_map *m, uint64_t offset, uint64_t length);
void fs_map_forget(const struct fs_map *m, uint64_t offset, uint64_t length);
void fs_map_close(struct fs_map *m);

/* A file that appears under its final name complete or not at all: written to
 * "<path>.sintra-<pid>.partial" in the same directory, fsynced, renamed, directory fsynced.
 * abort (or a forgotten commit in release) removes the temporary. */
struct fs_atomic {
    int fd;
    uint64_t written;
    char *path, *temporary; /* owned */
};
int fs_atomic_open(struct fs_atomic *a, const char *path, struct err *e);
int fs_atomic_write(struct fs_atomic *a, const void *data, size_t n, struct err *e); /* appends */
int fs_atomic_write_at(struct fs_atomic *a, uint64_t offset, const void *data, size_t n,
                       struct err *e); /* thread-safe pwrite; does not move the append position */
int fs_atomic_commit(struct fs_atomic *a, struct err *e);
void fs_atomic_abort(struct fs_atomic *a); /* safe after commit */
/* Before long work: can a file be made there? */
int fs_check_output(const char *path, struct err *e);
/* A finished file of the same folder under its final name, which it takes from any other. */
int fs_move(const char *from, const char *to, struct err *e);

int fs_read_all(const char *path, size_t bytes_max, char **data, size_t *n, struct err *e);
int fs_write_all(const char *path, const void *data, size_t n, struct err *e); /* atomic */
bool fs_exists(const char *path);
bool fs_is_dir(const char *path);
int fs_size(const char *path, uint64_t *bytes, struct err *e);
int fs_mkdirs(const char *path, struct err *e);
int fs_remove(const char *path, struct err *e);      /* absent is fine */
int fs_remove_tree(const char *path, struct err *e); /* absent is fine; never follows links */
int fs_free_bytes(const char *path, uint64_t *bytes, struct err *e);
char *fs_join(const char *a, const char *b); /* xfree */
const char *fs_basename(const char *path);
/* Names in a directory, sorted, without "." and ".."; free with fs_list_free. */
int fs_list(const char *path, char ***names, size_t *n, struct err *e);
void fs_list_free(char **names, size_t n);

/* Exclusive advisory lock with the owner's pid inside; ERR_BUSY names the holder. */
struct fs_lock {
    int fd;
    char *path;
};
int fs_lock_take(struct fs_lock *l, const char *path, struct err *e);
void fs_lock_drop(struct fs_lock *l);

/* Anonymous shared memory (memfd) for talking to the worker. */
int fs_memfd(const char *name, size_t bytes, int *fd, void **data, struct err *e);
int fs_memfd_map(int fd, size_t bytes, bool writable, void **data, struct err *e);
void fs_memfd_close(int fd, void *data, size_t bytes);

#endif
