/* The header of a safetensors file as a stream of entries; used by safetensors.c alone. */
#ifndef FORMAT_SAFETENSORS_INT_H
#define FORMAT_SAFETENSORS_INT_H

#include "base/err.h"
#include "base/mem.h"
#include "format/safetensors.h"

enum { SAFETENSORS_NAME_MAX = 4096, SAFETENSORS_DEPTH_MAX = 4 };

/* One tensor as the header states it, before anything is checked against the file. */
struct safetensors_entry {
    const char *name; /* in the arena */
    char dtype[24];   /* cut when longer: no known name is */
    int n_dims;
    uint64_t dims[SAFETENSORS_DIMS_MAX];
    uint64_t begin, end;
};

/* Calls visit for each tensor, in the order of the text. file names the file in errors. Stops with
 * -1 at the first error, the visitor's or its own. */
int safetensors_parse(const char *text, size_t n, const char *file, struct arena *arena,
                      int (*visit)(void *ud, const struct safetensors_entry *entry, struct err *e),
                      void *ud, struct err *e);

#endif
