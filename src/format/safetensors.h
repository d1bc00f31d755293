/* Reading safetensors, one file at a time; sharding is model/'s business.
 *
 * Layout and rules: huggingface/safetensors README and tensor.rs; u64 header length N (≤
 * 100,000,000), N bytes of JSON, data. The reader enforces what the reference does and more: N+8 ≤
 * file size, JSON depth ≤ 4, at most 200,000 entries, integers exact, sorted ranges without hole or
 * overlap, last end == file size, end−begin == Πshape·size, no duplicate names, names 1..4096 bytes
 * without control characters. Hostile input gives ERR_INPUT naming file, tensor and field. */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H

#include "base/fs.h"
#include "base/map.h"
#include "tensor/dtype.h"

enum { SAFETENSORS_DIMS_MAX = 8 };
#define SAFETENSORS_HEADER_MAX  100000000u
#define SAFETENSORS_TENSORS_MAX 200000u

struct safetensors_tensor {
    const char *name; /* owned by the file */
    enum dtype dtype;
    int n_dims;
    uint64_t dims[SAFETENSORS_DIMS_MAX]; /* Hugging Face order: last is the row length */
    uint64_t offset;                     /* absolute, in the file */
    uint64_t bytes;
};

struct safetensors {
    struct fs_map map;
    struct safetensors_tensor *tensors; /* in file order of their data */
    size_t n_tensors;
    struct map by_name; /* name → index */
    struct arena *arena;
};

int safetensors_open(struct safetensors *s, const char *path, struct err *e);
/* NULL when absent. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);
void safetensors_close(struct safetensors *s);

#endif
