/* A block silenced in memory beside a file that lacks it, for any architecture.
 *
 *   silent_block [MODEL FOLDER]
 *
 * For every block of MODEL (the sample): KL divergence of the float model with the block's matrices
 * into the stream at zero (probe_drop), and of an F32 file from which surgery has taken the block,
 * on the same tokens. Prints one line for each; fails where they differ by more than one part in a
 * thousand, or a ten-millionth. Says so where the block is not tried (an unknown tensor) or cannot
 * go (surgery). tests/interop/test_blocks.py calls it for every architecture that is converted.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "probe/probe.h"
#include "surgery/surgery.h"

enum { N_CTX = 32, WINDOWS = 4 };

struct state {
    const char *model, *folder;
    struct model *open;
    struct engine *engine;
    struct measure_reference reference;
    struct engine_windows windows;
    int32_t tokens[WINDOWS * N_CTX];
};

/* The model as F32, without a block unless it is negative. 1: it cannot go. */
static int make(const struct state *s, int block, const char *path, struct err *e)
{
    struct recipe r;
    struct model *m = NULL;
    struct bake_result done = {0};
    recipe_init(&r, "F32");
    if (block >= 0)
        recipe_drop_layer(&r, (uint32_t)block);
    int rc = model_open(&m, s->model, e);
    if (rc == 0 && surgery_apply(m, &r, e) != 0)
        rc = 1;
    if (rc == 0) {
        struct bake_job job = {.model = m, .recipe = &r, .output = path, .threads = 1};
        rc = bake_gguf(&job, &done, e);
        bake_result_release(&done);
    }
    model_close(m);
    recipe_release(&r);
    return rc;
}

static int start(struct state *s, struct err *e)
{
    struct engine_info info;
    struct measure_options o = {.threads = 1};
    struct rng r;
    char *whole = fs_join(s->folder, "whole.gguf");
    uint32_t vocab = model_desc(s->open)->n_vocab;
    rng_seed(&r, 5);
    for (int i = 0; i < WINDOWS * N_CTX; i++)
        s->tokens[i] = (int32_t)rng_below(&r, vocab);
    s->windows = (struct engine_windows){s->tokens, WINDOWS, N_CTX, 4, 0};
    int rc = make(s, -1, whole, e);
    if (rc == 0)
        rc = measure_open(&s->engine, &info, whole, ENGINE_FLOAT, N_CTX, 0, true, &o, e);
    if (rc == 0)
        rc = measure_reference_make(&s->reference, s->engine, &s->windows, 1u << 30, NULL, e);
    xfree(whole);
    return rc;
}

static int compare(struct state *s, uint32_t block, struct err *e)
{
    struct probe_job job = {
        .model = s->open, .engine = s->engine, .windows = s->windows, .reference = &s->reference};
    struct measure_options o = {.threads = 1};
    struct stat_mean kld;
    struct score score = {0};
    size_t windows;
    char *path = fs_join(s->folder, "less.gguf");
    struct engine_windows read = s->windows;
    int rc = make(s, (int)block, path, e);
    if (rc == 1) {
        printf("refused: %s\n", e->message);
        xfree(path);
        return 1;
    }
    if (rc == 0)
        rc = probe_drop(&job, &block, 1, &kld, &windows, e);
    if (rc == 0) {
        read.n_windows = windows;
        rc = measure_quality(&score, path, &read, &s->reference, &o, e);
    }
    xfree(path);
    if (rc != 0)
        return -1;
    double gap = fabs(kld.mean - score.kld_mean);
    printf("block %u: %.6g in memory, %.6g as a file\n", block, kld.mean, score.kld_mean);
    score_release(&score);
    return gap <= 1e-3 * fabs(kld.mean) + 1e-7
               ? 0
               : err_set(e, ERR_BUG, NULL, "block %u is not gone when it is silent", block);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    if (argc != 1 && argc != 3) {
        fprintf(stderr, "usage: silent_block [MODEL FOLDER]\n");
        return 2;
    }
    const char *root = getenv("SINTRA_ROOT"), *scratch = getenv("TMPDIR");
    char *sample = xasprintf("%s/models/sample", root ? root : ".");
    struct state s = {.model = argc > 1 ? argv[1] : sample,
                      .folder = argc > 1  ? argv[2]
                                : scratch ? scratch
                                          : "/tmp"};
    int rc = model_open(&s.open, s.model, &e);
    const char *obstacle = rc == 0 ? probe_drop_obstacle(model_desc(s.open)) : NULL;
    if (obstacle)
        printf("not tried: %s\n", obstacle);
    if (rc == 0 && !obstacle)
        rc = start(&s, &e);
    for (uint32_t i = 0; rc == 0 && !obstacle && i < model_desc(s.open)->n_layer; i++)
        rc = compare(&s, i, &e);
    engine_stop(s.engine);
    measure_reference_release(&s.reference);
    model_close(s.open);
    xfree(sample);
    if (rc < 0)
        fprintf(stderr, "%s\n", e.message);
    return rc < 0;
}
