/* A score made piece by piece is the score made at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "measure/measure.h"

enum { WINDOWS = 7, N_CTX = 64, VOCABULARY = 4096 };

static char folder[] = "/tmp/sintra-pieces-XXXXXX";
static const struct measure_options one_thread = {.threads = 1};

static char *bake_sample(const char *type)
{
    const char *root = getenv("SINTRA_ROOT");
    char *path = xasprintf("%s/models/sample", root ? root : ".");
    char *name = xasprintf("%s.gguf", type), *out = fs_join(folder, name);
    struct model *m = NULL;
    struct recipe r;
    struct err e = {0};
    if (model_open(&m, path, &e))
        fail_msg("%s", e.message);
    recipe_init(&r, type);
    struct bake_job job = {.model = m, .recipe = &r, .output = out};
    struct bake_result done = {0};
    if (bake_gguf(&job, &done, &e))
        fail_msg("%s", e.message);
    recipe_release(&r);
    model_close(m);
    xfree(path);
    xfree(name);
    return out;
}

static void pieces_equal_the_whole(void **state)
{
    (void)state;
    static int32_t tokens[WINDOWS * N_CTX];
    struct engine_windows w = {
        .tokens = tokens, .n_windows = WINDOWS, .n_ctx = N_CTX, .first = N_CTX / 2};
    char *original = bake_sample("BF16"), *file = bake_sample("Q4_K_M");
    struct engine *g = NULL;
    struct engine_info info;
    struct measure_reference r;
    struct score whole, pieces;
    struct err e = {0};
    struct rng random;
    rng_seed(&random, 7);
    for (size_t i = 0; i < WINDOWS * N_CTX; i++)
        tokens[i] = (int32_t)rng_below(&random, VOCABULARY);
    if (measure_open(&g, &info, original, ENGINE_FILE, N_CTX, 0, true, &one_thread, &e) ||
        measure_reference_make(&r, g, &w, 1u << 30, NULL, &e) ||
        measure_quality(&whole, file, &w, &r, &one_thread, &e) ||
        measure_quality_pieces(&pieces, file, g, &w, 3, 1u << 30, &one_thread, &e))
        fail_msg("%s", e.message);
    assert_true(whole.kld_mean > 0 && whole.has_kld && pieces.has_kld);
    assert_int_equal(pieces.positions, whole.positions);
    assert_int_equal(pieces.windows, whole.windows);
    assert_string_equal(pieces.corpus_sha256, whole.corpus_sha256);
    assert_float_equal(pieces.kld_mean, whole.kld_mean, 1e-7);
    assert_float_equal(pieces.kld_high, whole.kld_high, 1e-7);
    assert_float_equal(pieces.ppl, whole.ppl, 1e-2);
    assert_float_equal(pieces.ppl_base, whole.ppl_base, 1e-2);
    assert_float_equal(pieces.top1, whole.top1, 1e-9);
    score_release(&whole);
    score_release(&pieces);
    measure_reference_release(&r);
    engine_stop(g);
    xfree(original);
    xfree(file);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return fs_remove_tree(folder, NULL);
}

int main(int argc, char **argv)
{
    /* The engine starts this program again as its worker. */
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    const struct CMUnitTest tests[] = {cmocka_unit_test(pieces_equal_the_whole)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
