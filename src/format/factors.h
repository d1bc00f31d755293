/* Factors of input correlations: what error feedback (quant.h) knows of each weight matrix.
 *
 * A GGUF file with general.type "factors"; feedback.tensors names the weight tensors,
 * feedback.owner (u32, parallel) says whose factors each uses, because weights that meet the same
 * inputs share them; per owner i the F32 tensors "i.factor" [span, n] (row k holds what column k's
 * error asks of the columns of its span; unit upper triangular) and "i.weight" [n]. A span is n or
 * a multiple of 256 below it. Ours alone: no other program has such a file. Entries are checked
 * for shape when the file is opened; the floats are what they are. */
#ifndef FORMAT_FACTORS_H
#define FORMAT_FACTORS_H

#include "format/gguf.h"

struct factors_entry {
    const char *name; /* weight tensor */
    uint64_t n, span; /* columns; how many of them hear of each other's errors */
    const float *factor, *weight;
};
struct factors {
    struct gguf file;
    struct factors_entry *entries;
    size_t n;
    struct map by_name;
    char sha256[65]; /* of the file */
};
int factors_open(struct factors *f, const char *path, struct err *e);
const struct factors_entry *factors_find(const struct factors *f, const char *name);
void factors_close(struct factors *f);

/* Writing: say what there is, then each owner's floats, in any order. columns[i] and span[i] are
 * read where owner[i] == i. */
struct factors_writer {
    struct gguf_writer writer;
    struct gguf_writer_tensor *tensors; /* two per owner */
    size_t *at;                         /* (n) of its factor in `tensors` */
    struct arena names;
};
int factors_writer_open(struct factors_writer *w, const char *path, const char *const *names,
                        const size_t *owner, const uint64_t *columns, const uint64_t *span,
                        size_t n, struct err *e);
int factors_writer_put(struct factors_writer *w, size_t i, const float *factor, const float *weight,
                       struct err *e);
int factors_writer_commit(struct factors_writer *w, struct err *e);
void factors_writer_abort(struct factors_writer *w);

#endif
