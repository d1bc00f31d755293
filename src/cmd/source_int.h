/* The original of a comparison, as calibrate and eval need it. Private to cmd/. */
#ifndef CMD_SOURCE_INT_H
#define CMD_SOURCE_INT_H

#include "cmd/cmd_int.h"

struct original {
    char *gguf;      /* what libllama loads: a float copy in the cache, or the GGUF itself */
    char *cache_dir; /* HOME/cache/<sha256>; not made yet */
    char sha256[65];
    uint32_t context, vocabulary; /* 0 = unknown */
    uint64_t bytes;
};
int cmd_original_open(const struct cmd_context *c, const char *name, int threads,
                      struct original *o, struct err *e);
void cmd_original_release(struct original *o);

/* Window length: --context, else 512 or the model's context. */
uint32_t cmd_window(const struct cmd_args *a, const struct original *o);
/* Before anything that takes time: is the --corpus there? */
int cmd_corpus_check(const struct cmd_args *a, struct err *e);
/* --corpus as windows; windows 0 = the whole file (self needs a number). g holds the original. */
int cmd_corpus_make(const struct cmd_context *c, const struct cmd_args *a, const struct original *o,
                    struct engine *g, uint32_t n_ctx, size_t windows, struct corpus *corpus,
                    struct err *e);

#endif
