/* What the fuzz targets share: the input as a file in memory, and seeds that a program writes.
 *
 * The readers take paths and map files, so each input lies in one memfd that is truncated and
 * written anew. libFuzzer calls LLVMFuzzerInitialize before it reads the corpus folder (its last
 * argument): an empty one gets the target's seeds, so no binary files have to be kept. */
#ifndef TESTS_FUZZ_INT_H
#define TESTS_FUZZ_INT_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../forge/forge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Path of a file with these bytes, the same file each time. */
static inline const char *fuzz_file(const uint8_t *data, size_t n)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, n, 0) != (ssize_t)n)
        abort();
    return path;
}

/* The corpus folder when there is one and nothing is in it, else NULL. */
static inline const char *fuzz_empty_corpus(int argc, char **argv)
{
    const char *folder = argc > 1 && argv[argc - 1][0] != '-' ? argv[argc - 1] : NULL;
    DIR *d = folder ? opendir(folder) : NULL;
    int files = 0;
    if (!d)
        return NULL;
    for (struct dirent *e; (e = readdir(d));)
        files += e->d_name[0] != '.';
    closedir(d);
    return files == 0 ? folder : NULL;
}

static inline void fuzz_seed(const char *folder, const char *name, const struct forge *f)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    forge_write(f, path);
}

#endif
