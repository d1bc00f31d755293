/* How far each chunk of a partial file has come: a small file beside it, mapped, so that what was
 * written before a kill -9 is known after it without a system call per piece.
 *
 * Layout: "SINTRAJ1", size of the file (u64), bytes per chunk (u64), then one u32 for each chunk:
 * its bytes that are in the partial file, from its beginning on. Native byte order: it never leaves
 * the machine. After a loss of power it may say too much; the hash over the whole file decides.
 * What does not fit the file at hand is begun anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "hub/hub_int.h"

#include "base/banned.h"

static const char magic[8] = {'S', 'I', 'N', 'T', 'R', 'A', 'J', '1'};
struct head {
    char magic[8];
    uint64_t size, chunk_bytes;
};

static void head_write(struct journal *j, uint64_t size)
{
    struct head h = {.size = size, .chunk_bytes = j->chunk_bytes};
    memset(j->map, 0, j->map_bytes);
    memcpy(h.magic, magic, sizeof(magic));
    memcpy(j->map, &h, sizeof(h));
}

static uint64_t chunk_size(const struct journal *j, uint64_t size, uint32_t i)
{
    uint64_t from = (uint64_t)i * j->chunk_bytes;
    return size - from < j->chunk_bytes ? size - from : j->chunk_bytes;
}

/* Does it describe this file, and can the partial file hold what it says? */
static bool sound(const struct journal *j, uint64_t size, uint64_t partial_bytes)
{
    struct head h;
    memcpy(&h, j->map, sizeof(h));
    if (memcmp(h.magic, magic, sizeof(magic)) != 0 || h.size != size ||
        h.chunk_bytes != j->chunk_bytes)
        return false;
    for (uint32_t i = 0; i < j->n; i++)
        if (j->done[i] > chunk_size(j, size, i) ||
            (j->done[i] > 0 && (uint64_t)i * j->chunk_bytes + j->done[i] > partial_bytes))
            return false;
    return true;
}

/* Blocks for all of the file, or an errno: a store into a hole of a full disk would be a SIGBUS.
 * Where the file system reserves none, what is there is written over itself. */
static int reserve(int fd, size_t bytes)
{
    int why;
    do
        why = posix_fallocate(fd, 0, (off_t)bytes);
    while (why == EINTR);
    if (why != EOPNOTSUPP && why != EINVAL)
        return why;
    char *data = xcalloc(1, bytes);
    ssize_t n = pread(fd, data, bytes, 0);
    if (n >= 0)
        n = pwrite(fd, data, bytes, 0);
    why = n < 0 ? errno : (size_t)n < bytes ? ENOSPC : 0;
    xfree(data);
    return why;
}

static int map_open(struct journal *j, struct err *e)
{
    int fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_set_errno(e, errno, NULL, "cannot open %s", j->path);
    int why = ftruncate(fd, (off_t)j->map_bytes) == 0 ? reserve(fd, j->map_bytes) : errno;
    if (why == 0) {
        j->map = mmap(NULL, j->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        why = j->map == MAP_FAILED ? errno : 0;
    }
    close(fd);
    if (why == 0)
        return 0;
    j->map = NULL;
    return err_set_errno(e, why, NULL, "cannot write %s", j->path);
}

int journal_open(struct journal *j, const char *partial, uint64_t size, uint64_t chunk_bytes,
                 struct err *e)
{
    struct stat st;
    *j = (struct journal){.chunk_bytes = chunk_bytes, .fd = -1};
    j->n = (uint32_t)(size / chunk_bytes + (size % chunk_bytes != 0));
    j->map_bytes = sizeof(struct head) + (size_t)j->n * sizeof(*j->done);
    j->path = xasprintf("%s.parts", partial);
    j->fd = open(partial, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (j->fd < 0) {
        err_set_errno(e, errno, NULL, "cannot open %s", partial);
        goto fail;
    }
    if (fstat(j->fd, &st) < 0) {
        err_set_errno(e, errno, NULL, "cannot examine %s", partial);
        goto fail;
    }
    if (map_open(j, e))
        goto fail;
    j->done = (uint32_t *)(void *)((char *)j->map + sizeof(struct head));
    if (!sound(j, size, (uint64_t)st.st_size))
        head_write(j, size);
    return 0;
fail:
    journal_close(j, false);
    return -1;
}

void journal_reset(struct journal *j)
{
    memset(j->done, 0, (size_t)j->n * sizeof(*j->done));
}

void journal_close(struct journal *j, bool remove)
{
    if (j->map)
        munmap(j->map, j->map_bytes);
    if (j->fd >= 0)
        close(j->fd);
    if (remove && j->path)
        unlink(j->path);
    xfree(j->path);
    *j = (struct journal){.fd = -1};
}
