/* For tests that need a model to run: the built-in sample as GGUF files in a scratch folder. */
#ifndef TESTS_SAMPLE_FIXTURE_H
#define TESTS_SAMPLE_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"

static char fixture_folder[512];

static char *fixture_path(const char *name)
{
    return fs_join(fixture_folder, name);
}

static int fixture_open(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(fixture_folder, sizeof(fixture_folder), "%s/sintra-engine-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(fixture_folder) ? 0 : -1;
}

static void fixture_close(void)
{
    fs_remove_tree(fixture_folder, NULL);
}

/* The sample encoded by a mix or type ("F32", "Q4_K_M", ...) as folder/TYPE.gguf; xfree. NULL and a
 * message on stderr when that fails. */
static char *fixture_model(const char *type)
{
    const char *root = getenv("SINTRA_ROOT");
    char *source = fs_join(root ? root : ".", "models/sample");
    char name[64];
    struct err e = {0};
    struct model *m = NULL;
    struct recipe recipe;
    struct bake_result result = {0};
    snprintf(name, sizeof(name), "%s.gguf", type);
    char *path = fixture_path(name);
    recipe_init(&recipe, type);
    int rc = fs_exists(path) ? 0 : model_open(&m, source, &e);
    if (rc == 0 && m) {
        struct bake_job job = {.model = m, .recipe = &recipe, .output = path, .threads = 1};
        rc = bake_gguf(&job, &result, &e);
        bake_result_release(&result);
    }
    model_close(m);
    recipe_release(&recipe);
    xfree(source);
    if (rc) {
        fprintf(stderr, "cannot make %s: %s\n", path, e.message);
        xfree(path);
        return NULL;
    }
    return path;
}

#endif
