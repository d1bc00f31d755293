/* Copies a model as a BF16 GGUF in which blocks do nothing.
 *
 *   idle_block MODEL OUT.gguf N...
 *
 * The matrices through which block N writes (attn_output, ffn_down) become zero, so a file without
 * it computes the same. Tests of dropped blocks use it: what a search must find is known here. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bake/bake.h"
#include "base/mem.h"
#include "format/gguf.h"

static int copy(const char *from, const char *to, struct err *e)
{
    struct model *m = NULL;
    struct recipe recipe;
    struct bake_result done = {0};
    if (model_open(&m, from, e) != 0)
        return -1;
    recipe_init(&recipe, "BF16");
    struct bake_job job = {.model = m, .recipe = &recipe, .output = to, .threads = 1};
    int rc = bake_gguf(&job, &done, e);
    bake_result_release(&done);
    recipe_release(&recipe);
    model_close(m);
    return rc;
}

static int clear(const char *path, const char *name, struct err *e)
{
    struct gguf g;
    if (gguf_open(&g, path, GGUF_CHECK_MODEL, e) != 0)
        return -1;
    const struct gguf_tensor *t = gguf_find(&g, name);
    size_t n = t ? (size_t)shape_rows(&t->shape) * (size_t)t->shape.ne[0] * 2 : 0;
    off_t at = t ? (const uint8_t *)gguf_tensor_data(&g, t) - (const uint8_t *)g.maps[0].data : 0;
    char *zeros = xcalloc(n + 1, 1);
    int fd = t ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    int rc = fd >= 0 && pwrite(fd, zeros, n, at) == (ssize_t)n ? 0 : -1;
    if (rc != 0)
        err_set(e, ERR_INPUT, NULL, "%s: tensor %s cannot be cleared", path, name);
    if (fd >= 0)
        close(fd);
    xfree(zeros);
    gguf_close(&g);
    return rc;
}

int main(int argc, char **argv)
{
    static const char *const parts[] = {"attn_output", "ffn_down"};
    struct err e = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: idle_block MODEL OUT.gguf N...\n");
        return 2;
    }
    int rc = copy(argv[1], argv[2], &e);
    for (int i = 3; rc == 0 && i < argc; i++)
        for (int p = 0; rc == 0 && p < 2; p++) {
            char name[64];
            snprintf(name, sizeof(name), "blk.%s.%s.weight", argv[i], parts[p]);
            rc = clear(argv[2], name, &e);
        }
    if (rc != 0)
        fprintf(stderr, "%s\n", e.message);
    return rc != 0;
}
