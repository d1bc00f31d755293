/* The memo of encoded bands: what is put is got, damage and other keys are misses, the bound holds
 * and the least recently used goes first, and a bake through it gives the same file as one
 * without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bake/bake.h"
#include "bake/memo.h"
#include "base/fs.h"
#include "base/mem.h"

static char scratch[512];

static char *scratch_path(const char *name)
{
    return fs_join(scratch, name);
}

enum { BYTES = 3000 };
static uint8_t data[BYTES], back[BYTES];
static const float importance[4] = {1, 2, 3, 4};

static struct memo_key key_of(int seed)
{
    struct memo_key k;
    for (int i = 0; i < BYTES; i++)
        data[i] = (uint8_t)(i * 7 + seed);
    memo_key_make(&k, DT_Q4_K, DT_BF16, data, BYTES, 4, importance);
    return k;
}

static char *file_of(const char *folder, const struct memo_key *k)
{
    return xasprintf("%s/%.2s/%s", folder, k->hex, k->hex);
}

static void puts_and_gets(void **state)
{
    char *folder = scratch_path("memo");
    struct memo *m = memo_open(folder, 1 << 20);
    struct quant_error error = {1.5, 2.5}, found = {0};
    (void)state;
    assert_non_null(m);
    struct memo_key k = key_of(1);
    assert_false(memo_get(m, &k, back, BYTES, &found));
    memo_put(m, &k, data, BYTES, &error);
    assert_true(memo_get(m, &k, back, BYTES, &found));
    assert_memory_equal(back, data, BYTES);
    assert_true(found.squared == 1.5 && found.weighted == 2.5);
    assert_false(memo_get(m, &k, back, BYTES - 1, &found)); /* another size: not ours, removed */
    assert_false(memo_get(m, &k, back, BYTES, &found));
    memo_close(m);
    xfree(folder);
}

static void every_fact_is_in_the_key(void **state)
{
    struct memo_key k = key_of(1), other;
    (void)state;
    memo_key_make(&other, DT_Q5_K, DT_BF16, data, BYTES, 4, importance);
    assert_string_not_equal(k.hex, other.hex);
    memo_key_make(&other, DT_Q4_K, DT_F16, data, BYTES, 4, importance);
    assert_string_not_equal(k.hex, other.hex);
    memo_key_make(&other, DT_Q4_K, DT_BF16, data, BYTES, 3, importance);
    assert_string_not_equal(k.hex, other.hex);
    memo_key_make(&other, DT_Q4_K, DT_BF16, data, BYTES, 4, NULL);
    assert_string_not_equal(k.hex, other.hex);
    data[BYTES - 1] ^= 1;
    memo_key_make(&other, DT_Q4_K, DT_BF16, data, BYTES, 4, importance);
    assert_string_not_equal(k.hex, other.hex);
    data[BYTES - 1] ^= 1;
    memo_key_make(&other, DT_Q4_K, DT_BF16, data, BYTES, 4, importance);
    assert_string_equal(k.hex, other.hex);
}

/* Every byte of the file, and every length of it. */
static void damage_is_a_miss(void **state)
{
    char *folder = scratch_path("memo");
    struct memo *m = memo_open(folder, 1 << 20);
    struct quant_error error = {0}, found;
    struct memo_key k = key_of(2);
    char *path = file_of(folder, &k);
    uint64_t size = 0;
    (void)state;
    memo_put(m, &k, data, BYTES, &error);
    assert_int_equal(fs_size(path, &size, NULL), 0);
    for (uint64_t at = 0; at < size; at += at < 200 ? 1 : 97) {
        uint8_t byte;
        memo_put(m, &k, data, BYTES, &error);
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        close(fd);
        bool hit = memo_get(m, &k, back, BYTES, &found);
        assert_false(hit);
        assert_false(fs_exists(path));
        memo_put(m, &k, data, BYTES, &error);
        assert_int_equal(truncate(path, (off_t)at), 0);
        assert_false(memo_get(m, &k, back, BYTES, &found));
    }
    memo_close(m);
    xfree(path);
    xfree(folder);
}

static void oldest_goes_first(void **state)
{
    enum { FILES = 10 };
    char *folder = scratch_path("bound");
    struct quant_error error = {0};
    struct memo_key keys[FILES];
    struct memo *m = memo_open(folder, 1 << 30);
    (void)state;
    for (int i = 0; i < FILES; i++) {
        keys[i] = key_of(100 + i);
        memo_put(m, &keys[i], data, BYTES, &error);
        char *path = file_of(folder, &keys[i]);
        struct timespec when[2] = {{1000000 + i, 0}, {1000000 + i, 0}};
        assert_int_equal(utimensat(AT_FDCWD, path, when, 0), 0);
        xfree(path);
    }
    assert_true(memo_get(m, &keys[0], back, BYTES, &error)); /* now the most recent */
    memo_close(m);
    char *foreign = fs_join(folder, "notes.txt");
    assert_int_equal(fs_write_all(foreign, data, BYTES, NULL), 0);
    m = memo_open(folder, 5 * (BYTES + 200)); /* room for about four when swept */
    int left = 0;
    for (int i = 0; i < FILES; i++)
        left += memo_get(m, &keys[i], back, BYTES, &error);
    assert_in_range(left, 3, 5);
    assert_true(memo_get(m, &keys[0], back, BYTES, &error));
    assert_true(memo_get(m, &keys[FILES - 1], back, BYTES, &error));
    assert_false(memo_get(m, &keys[1], back, BYTES, &error));
    assert_true(fs_exists(foreign));
    memo_close(m);
    xfree(foreign);
    xfree(folder);
}

static struct bake_result bake_sample(const struct model *model, const char *type, const char *memo,
                                      struct quant_error *sum)
{
    char *output = scratch_path("out.gguf");
    struct recipe recipe;
    struct bake_result r = {0};
    struct err e = {0};
    recipe_init(&recipe, type);
    struct bake_job job = {.model = model,
                           .recipe = &recipe,
                           .output = output,
                           .threads = 2,
                           .memo_dir = memo,
                           .want_errors = true};
    if (bake_gguf(&job, &r, &e) != 0)
        fail_msg("%s", e.message);
    *sum = (struct quant_error){0};
    for (size_t i = 0; i < model_desc(model)->n_tensors; i++)
        sum->squared += r.errors[i].squared;
    recipe_release(&recipe);
    xfree(output);
    return r;
}

static void same_file_with_and_without(void **state)
{
    const char *root = getenv("SINTRA_ROOT");
    char *source = fs_join(root ? root : ".", "models/sample"), *memo = scratch_path("encoded");
    struct model *model = NULL;
    struct err e = {0};
    struct quant_error sum[3];
    (void)state;
    if (model_open(&model, source, &e) != 0)
        fail_msg("%s", e.message);
    struct bake_result plain = bake_sample(model, "Q4_K_M", NULL, &sum[0]);
    struct bake_result cold = bake_sample(model, "Q4_K_M", memo, &sum[1]);
    struct bake_result warm = bake_sample(model, "Q4_K_M", memo, &sum[2]);
    assert_string_equal(plain.sha256, cold.sha256);
    assert_string_equal(plain.sha256, warm.sha256);
    assert_true(sum[0].squared == sum[1].squared && sum[0].squared == sum[2].squared);
    assert_int_equal(plain.memo_bytes, 0);
    assert_int_equal(cold.memo_bytes, 0);
    assert_true(warm.memo_bytes > warm.tensor_bytes / 2);
    bake_result_release(&plain);
    bake_result_release(&cold);
    bake_result_release(&warm);
    /* A folder that cannot be used is no memo, and no failure. */
    cold = bake_sample(model, "Q4_K_M", "/proc/nowhere", &sum[1]);
    assert_int_equal(cold.memo_bytes, 0);
    bake_result_release(&cold);
    model_close(model);
    xfree(source);
    xfree(memo);
}

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%s/sintra-memo-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(scratch) ? 0 : -1;
}
static int tear_down(void **state)
{
    (void)state;
    return fs_remove_tree(scratch, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_and_gets),
        cmocka_unit_test(every_fact_is_in_the_key),
        cmocka_unit_test(damage_is_a_miss),
        cmocka_unit_test(oldest_goes_first),
        cmocka_unit_test(same_file_with_and_without),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
