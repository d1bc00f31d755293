/* Private to bake/: a job made ready (setup.c), and the stream of bands that carries it out
 * (stream.c). */
#ifndef BAKE_BAKE_INT_H
#define BAKE_BAKE_INT_H

#include "bake/bake.h"
#include "format/gguf.h"

/* Everything that is decided before the first byte is written. Arrays are parallel to the
 * model's tensors. */
struct setup {
    const struct bake_job *job;
    const struct model_desc *desc;
    struct plan plan;
    struct gguf_kvs kvs;
    struct gguf_writer_tensor *tensors;
    const float **importance; /* (ne[2], ne[0]) weights in the imatrix, or NULL */
    size_t n_unweighted;      /* tensors encoded without weights although there is an imatrix */
    const char *unweighted;   /* the first of them */
};

int setup_make(struct setup *s, const struct bake_job *job, struct err *e);
void setup_release(struct setup *s);

/* importance.c: the entry of every tensor; refuses files of another model and missing entries
 * that are needed. */
int importance_bind(struct setup *s, struct err *e);
void importance_warn(const struct setup *s);

/* stream.c: all tensor data into the open writer, the SHA-256 of the whole file, and what came from
 * the memo. result->errors may be NULL. */
int stream_run(const struct setup *s, struct gguf_writer *w, struct bake_result *result,
               struct err *e);

#endif
