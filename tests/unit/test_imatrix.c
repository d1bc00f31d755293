/* imatrix: both formats are read as llama-quantize reads them, ours is written, lies are
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../forge/forge.h"
#include "base/fs.h"
#include "base/hash.h"
#include "format/imatrix.h"

static char dir[] = "/tmp/sintra-im-XXXXXX";
static char path[96];
static struct forge f;

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/imatrix", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static void refused(const char *words)
{
    struct err e = {0};
    struct imatrix m;
    forge_write(&f, path);
    int rc = imatrix_read(&m, path, &e);
    if (rc == 0)
        imatrix_release(&m);
    if (rc == 0 || !strstr(e.message, words))
        fail_msg("wanted \"%s\", got \"%s\"", words, rc == 0 ? "(accepted)" : e.message);
    assert_non_null(strstr(e.message, path));
    assert_int_not_equal(e.hint[0], '\0');
}

static void read_back(struct imatrix *m)
{
    struct err e = {0};
    forge_write(&f, path);
    if (imatrix_read(m, path, &e))
        fail_msg("%s", e.message);
}

/* ---- legacy ---------------------------------------------------------------------------------- */

static void legacy_entry(const char *name, int32_t calls, int32_t n, const float *v)
{
    forge_u32(&f, (uint32_t)strlen(name));
    forge_bytes(&f, name, strlen(name));
    forge_u32(&f, (uint32_t)calls);
    forge_u32(&f, (uint32_t)n);
    forge_bytes(&f, v, (size_t)(n > 0 ? n : 0) * sizeof *v);
}

static void legacy_tail(int32_t chunks, const char *dataset)
{
    forge_u32(&f, (uint32_t)chunks);
    forge_u32(&f, (uint32_t)strlen(dataset));
    forge_bytes(&f, dataset, strlen(dataset));
}

static void legacy_is_read(void **state)
{
    struct imatrix m;
    (void)state;
    f.n = 0;
    forge_u32(&f, 2);
    legacy_entry("blk.1.ffn_up.weight", 3, 2, (const float[]){6, 1});
    legacy_entry("blk.0.ffn_up.weight", 0, 3, (const float[]){6, 1, 0});
    legacy_tail(40, "wiki.txt");
    read_back(&m);
    assert_int_equal(m.n, 2);
    assert_string_equal(m.entries[0].name, "blk.0.ffn_up.weight"); /* sorted */
    assert_true(m.entries[0].values[1] == 1.0f);                   /* no calls: as they are */
    assert_true(m.partial);
    const struct imatrix_entry *up = imatrix_find(&m, "blk.1.ffn_up.weight");
    assert_int_equal(up->n_in, 2);
    assert_int_equal(up->n_mat, 1);
    assert_true(up->values[0] == 2.0f && up->values[1] == 1.0f / 3.0f);
    assert_null(imatrix_find(&m, "blk.2.ffn_up.weight"));
    assert_int_equal(m.chunk_count, 40);
    assert_int_equal(m.n_datasets, 1);
    assert_string_equal(m.datasets[0], "wiki.txt");
    char hex[65];
    hash_sha256_text(f.data, f.n, hex);
    assert_string_equal(m.sha256, hex);
    imatrix_release(&m);
}

static void legacy_tail_is_optional(void **state)
{
    struct imatrix m;
    (void)state;
    f.n = 0;
    forge_u32(&f, 1);
    legacy_entry("a", 1, 1, (const float[]){1});
    read_back(&m);
    assert_int_equal(m.n_datasets, 0);
    imatrix_release(&m);
    forge_u32(&f, 7);
    read_back(&m);
    assert_int_equal(m.chunk_count, 7);
    imatrix_release(&m);
}

static void legacy_lies(void **state)
{
    (void)state;
    f.n = 0;
    refused("neither a GGUF nor a legacy importance matrix");
    forge_bytes(&f, "%PDF-1.7 and more text", 22);
    refused("the number of entries is");
    f.n = 0;
    forge_u32(&f, 0);
    refused("the number of entries is 0");
    f.n = 0;
    forge_u32(&f, UINT32_MAX);
    refused("the number of entries is -1");
    f.n = 0;
    forge_u32(&f, 2);
    legacy_entry("a", 1, 1, (const float[]){1});
    refused("it ends inside an entry's name");
    f.n = 0;
    forge_u32(&f, 1);
    forge_u32(&f, UINT32_MAX);
    refused("an entry's name is -1");
    f.n = 4;
    forge_u32(&f, 50);
    forge_bytes(&f, "short", 5);
    refused("an entry's name has 50 bytes, 5 are left");
    f.n = 4;
    legacy_entry("a\x1b", 1, 1, (const float[]){1});
    refused("not printable UTF-8");
    f.n = 4;
    legacy_entry("a", -1, 1, (const float[]){1});
    refused("number of calls is -1");
    f.n = 4;
    legacy_entry("a", 1, 0, NULL);
    refused("number of values is 0");
    f.n = 4;
    legacy_entry("a", 1, 1, (const float[]){1});
    forge_patch_u64(&f, f.n - 8, 1000);
    refused("entry \"a\" has 1000 values");
    f.n = 4;
    legacy_entry("a", 1, 2, (const float[]){1, NAN});
    refused("value 1 of \"a\" is nan");
    f.n = 4;
    legacy_entry("a", 1, 2, (const float[]){1, -1});
    refused("value 1 of \"a\" is -1");
    f.n = 4;
    legacy_entry("a", 1, 1, (const float[]){1});
    legacy_tail(1, "x");
    forge_u8(&f, 0);
    refused("1 bytes behind its end");
    f.n = 0;
    forge_u32(&f, 2);
    legacy_entry("a", 1, 1, (const float[]){1});
    legacy_entry("a", 1, 1, (const float[]){1});
    refused("entry \"a\" appears twice");
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

static void keys(const char *without)
{
    forge_gguf(&f, 3, 0, 0);
    forge_kv_str(&f, "general.type", strcmp(without, "type") == 0 ? "model" : "imatrix");
    if (strcmp(without, "datasets") != 0)
        forge_kv_strs(&f, "imatrix.datasets", (const char *const[]){"x.txt", "y.txt"}, 2);
    if (strcmp(without, "chunk_count") != 0)
        forge_kv_u32(&f, "imatrix.chunk_count", 9);
    if (strcmp(without, "chunk_size") != 0)
        forge_kv_u32(&f, "imatrix.chunk_size", 512);
}

/* Sums of 2 matrices with 3 columns, and the counts, which have `n_counts` elements of `dtype`. */
static void pair(const char *sums, const char *counts, uint64_t n_counts, uint32_t dtype,
                 const float *s, const float *c)
{
    forge_tensor(&f, sums, 2, (uint64_t[]){3, 2}, 0, 0);
    forge_tensor(&f, counts, 2, (uint64_t[]){1, n_counts}, dtype, 32);
    forge_counts(&f);
    forge_pad(&f, 32);
    forge_bytes(&f, s, 6 * sizeof *s);
    forge_pad(&f, 32);
    forge_bytes(&f, c, n_counts * sizeof *c);
    forge_pad(&f, 32);
}

static const float sums[6] = {6, 4, 0, 5, 5, 5};

static void gguf_is_read(void **state)
{
    struct imatrix m;
    (void)state;
    keys("");
    pair("blk.0.up.in_sum2", "blk.0.up.counts", 2, 0, sums, (const float[]){3, 0});
    read_back(&m);
    assert_int_equal(m.n, 1);
    const struct imatrix_entry *e = imatrix_find(&m, "blk.0.up");
    assert_int_equal(e->n_in, 3);
    assert_int_equal(e->n_mat, 2);
    assert_true(e->values[0] == 2.0f && e->values[1] == 4.0f / 3.0f && e->values[2] == 0.0f);
    assert_true(e->values[3] == 1.0f && e->values[5] == 1.0f); /* an expert never met */
    assert_true(e->counts[0] == 3.0f && e->counts[1] == 0.0f);
    assert_true(m.partial);
    assert_int_equal(m.chunk_count, 9);
    assert_int_equal(m.chunk_size, 512);
    assert_int_equal(m.n_datasets, 2);
    assert_string_equal(m.datasets[1], "y.txt");
    imatrix_release(&m);
    keys("");
    pair("k.in_sum2", "k.counts", 1, 0, sums, (const float[]){2}); /* 3-D, one count */
    read_back(&m);
    assert_int_equal(m.entries[0].n_in, 6);
    assert_int_equal(m.entries[0].n_mat, 1);
    assert_false(m.partial);
    imatrix_release(&m);
}

static void gguf_lies(void **state)
{
    static const char *const missing[] = {"datasets", "chunk_count", "chunk_size"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        keys(missing[i]);
        pair("a.in_sum2", "a.counts", 1, 0, sums, (const float[]){1});
        refused(missing[i]);
    }
    keys("type");
    pair("a.in_sum2", "a.counts", 1, 0, sums, (const float[]){1});
    refused("general.type is \"model\", not an importance matrix");
    keys("");
    forge_counts(&f);
    refused("without entries");
    keys("");
    pair("a.in_sum2", "b.counts", 1, 0, sums, (const float[]){1});
    refused("tensor \"a.in_sum2\" has no \"a.counts\" beside it");
    keys("");
    pair("a.weight", "b.counts", 1, 0, sums, (const float[]){1});
    refused("tensor \"a.weight\" is neither sums nor counts");
    keys("");
    pair("a.in_sum2", "a.counts", 4, 0, sums, (const float[]){1, 1, 1, 1});
    refused("has 6 sums, not a multiple of its 4 counts");
    keys("");
    pair("a.in_sum2", "a.counts", 12, 0, sums, (const float[12]){1});
    refused("not a multiple of its 12 counts");
    keys("");
    pair("a.in_sum2", "a.counts", 2, 26, sums, (const float[]){1, 1});
    refused("must be F32");
    keys("");
    pair("a.in_sum2", "a.counts", 1, 0, sums, (const float[]){NAN});
    refused("count 0 of \"a.counts\" is nan");
    keys("");
    pair("a.in_sum2", "a.counts", 1, 0, sums, (const float[]){1e30f});
    refused("count 0 of \"a.counts\" is 1e+30");
    keys("");
    pair("a.in_sum2", "a.counts", 1, 0, (const float[]){1, 1, 1, 1, INFINITY, 1},
         (const float[]){1});
    refused("sum 4 of \"a.in_sum2\" is inf");
    keys("");
    pair("a.in_sum2", "a.counts", 1, 0, sums, (const float[]){1});
    f.n -= 64;
    refused("ends at byte");
}

/* ---- writing --------------------------------------------------------------------------------- */

static void written_is_read_back(void **state)
{
    struct imatrix m = {0}, back;
    struct err e = {0};
    static const float v[4] = {0.1f, 3.3f, 1e-20f, 7e4f};
    (void)state;
    imatrix_add(&m, "blk.9.b", 2, 2, v, (const float[]){300, 7});
    imatrix_add(&m, "blk.1.a", 3, 1, v + 1, (const float[]){5});
    imatrix_add(&m, "blk.5.c", 1, 1, v, (const float[]){0});
    imatrix_add(&m, "blk.1.a", 2, 1, v, (const float[]){11}); /* replaces */
    imatrix_add_dataset(&m, "corpus.txt");
    m.chunk_count = 3;
    m.chunk_size = 256;
    assert_int_equal(m.n, 3);
    if (imatrix_write(&m, path, &e) || imatrix_read(&back, path, &e))
        fail_msg("%s", e.message);
    assert_int_equal(back.n, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct imatrix_entry *x = &m.entries[i], *y = &back.entries[i];
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->n_in, y->n_in);
        assert_int_equal(x->n_mat, y->n_mat);
        /* memory agrees with the file to the bit */
        assert_memory_equal(x->values, y->values, x->n_in * x->n_mat * sizeof(float));
        assert_memory_equal(x->counts, y->counts, x->n_mat * sizeof(float));
    }
    assert_true(fabsf(back.entries[2].values[1] - 3.3f) < 1e-6f);
    assert_true(back.entries[1].values[0] == 1.0f); /* count 0 */
    assert_true(back.partial);
    assert_string_equal(m.sha256, back.sha256);
    assert_int_equal(back.chunk_size, 256);
    assert_string_equal(back.datasets[0], "corpus.txt");
    imatrix_release(&m);
    imatrix_release(&back);
}

/* The sample of a model's weights goes along, whatever its sign; a file without one has none, and
 * one that is no number is refused. */
static void weights_go_along(void **state)
{
    struct imatrix m = {0}, back;
    struct err e = {0};
    float weights[3] = {-0.5f, 0, 1e-30f};
    (void)state;
    imatrix_add(&m, "a", 1, 1, (const float[]){1}, (const float[]){1});
    assert_int_equal(imatrix_write(&m, path, &e), 0);
    assert_int_equal(imatrix_read(&back, path, &e), 0);
    assert_int_equal(back.n_weights, 0);
    imatrix_release(&back);
    imatrix_set_weights(&m, weights, 3);
    assert_int_equal(imatrix_write(&m, path, &e), 0);
    assert_int_equal(imatrix_read(&back, path, &e), 0);
    assert_int_equal(back.n_weights, 3);
    assert_memory_equal(back.weights, weights, sizeof(weights));
    imatrix_release(&back);
    weights[1] = NAN;
    imatrix_set_weights(&m, weights, 3);
    assert_int_equal(imatrix_write(&m, path, &e), 0);
    assert_int_equal(imatrix_read(&back, path, &e), -1);
    assert_non_null(strstr(e.message, "value 1 of \"sintra.weights\" is not a finite number"));
    imatrix_release(&m);
}

static void writing_refuses(void **state)
{
    struct imatrix m = {0};
    struct err e = {0};
    char name[80] = "";
    char fresh[128];
    (void)state;
    snprintf(fresh, sizeof fresh, "%s/fresh", dir);
    memset(name, 'n', 56);
    imatrix_add(&m, name, 1, 1, (const float[]){1}, (const float[]){1});
    assert_int_equal(imatrix_write(&m, fresh, &e), -1);
    assert_non_null(strstr(e.message, "is too long"));
    imatrix_release(&m);
    imatrix_add(&m, "a", 1, 1, (const float[]){3e38f},
                (const float[]){1000}); /* the sum overflows */
    assert_int_equal(imatrix_write(&m, fresh, &e), -1);
    assert_non_null(strstr(e.message, "sum 0 of \"a\" is inf"));
    assert_false(fs_exists(fresh));
    imatrix_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legacy_is_read),   cmocka_unit_test(legacy_tail_is_optional),
        cmocka_unit_test(legacy_lies),      cmocka_unit_test(gguf_is_read),
        cmocka_unit_test(gguf_lies),        cmocka_unit_test(written_is_read_back),
        cmocka_unit_test(weights_go_along), cmocka_unit_test(writing_refuses),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
