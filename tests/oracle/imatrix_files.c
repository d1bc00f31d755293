/* Importance matrices of upstream's own tool, read in both of its formats, and ours given back to
 * it.
 *
 * llama-imatrix measures the sample model twice on the same text, --output-format gguf and dat;
 * what we read from the two must agree to the rounding of their writing, with the sums that the
 * GGUF file holds. Our rewriting of the file is then used by llama-quantize beside the original:
 * the same bytes in every tensor wherever rewriting changed no value. Skipped without the peers
 * (make peers) or the text. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"

static long passed, failed;
static char dir[] = "/tmp/sintra-oracle-XXXXXX";

static void expect(bool ok, const char *what, const char *detail)
{
    ok ? passed++ : failed++;
    if (!ok)
        printf("%s: %s\n", what, detail);
}

static void die(const struct err *e)
{
    printf("%s\n", e->message);
    fs_remove_tree(dir, NULL);
    exit(1);
}

static void run(const char *command)
{
    if (system(command) != 0) {
        printf("failed: %s\n", command);
        fs_remove_tree(dir, NULL);
        exit(1);
    }
}

static void write_model(const char *path)
{
    struct model *m;
    struct recipe r;
    struct bake_result result;
    struct err e = {0};
    struct bake_job job = {.recipe = &r, .output = path};
    if (model_open(&m, "models/sample", &e))
        die(&e);
    recipe_init(&r, "BF16");
    job.model = m;
    if (bake_gguf(&job, &result, &e))
        die(&e);
    bake_result_release(&result);
    recipe_release(&r);
    model_close(m);
}

static void measure(const char *model, const char *text, const char *format, const char *out)
{
    char *command =
        xasprintf("deps/peers/bin/llama-imatrix -m %s -f %s -c 128 --chunks 12 --no-ppl -ngl 0 "
                  "--output-format %s -o %s >%s/log 2>&1",
                  model, text, format, out, dir);
    run(command);
    xfree(command);
}

/* Relative difference of two values, in the legacy format's rounding: two float operations. */
static bool close_enough(float a, float b)
{
    return fabsf(a - b) <= 4e-7f * fmaxf(fabsf(a), fabsf(b));
}

static void compare_formats(const struct imatrix *gguf, const struct imatrix *dat)
{
    expect(gguf->n == dat->n && gguf->n > 50, "entries", "the formats have different numbers");
    expect(gguf->chunk_count == 12 && dat->chunk_count == 12, "chunks", "not 12");
    expect(gguf->chunk_size == 128, "chunk size", "not 128");
    expect(gguf->n_datasets == 1 && dat->n_datasets == 1 &&
               strcmp(gguf->datasets[0], dat->datasets[0]) == 0,
           "datasets", "differ");
    for (size_t i = 0; i < gguf->n && i < dat->n; i++) {
        const struct imatrix_entry *a = &gguf->entries[i], *b = &dat->entries[i];
        bool same = strcmp(a->name, b->name) == 0 && a->n_in * a->n_mat == b->n_in * b->n_mat;
        for (uint64_t j = 0; same && j < a->n_in * a->n_mat; j++)
            same = close_enough(a->values[j], b->values[j]);
        expect(same, a->name, "differs between the formats");
        expect(a->counts[0] == 12 * 128 && b->counts[0] == 12, a->name, "counts");
    }
}

/* How many values changed by being written and read; none by more than a bit. */
static long compare_rewritten(const struct imatrix *theirs, const struct imatrix *ours)
{
    long changed = 0;
    expect(theirs->n == ours->n, "rewritten", "other entries");
    for (size_t i = 0; i < theirs->n && i < ours->n; i++) {
        const struct imatrix_entry *a = &theirs->entries[i], *b = &ours->entries[i];
        bool same = strcmp(a->name, b->name) == 0 && a->n_in == b->n_in && a->n_mat == b->n_mat;
        for (uint64_t j = 0; same && j < a->n_in * a->n_mat; j++) {
            changed += a->values[j] != b->values[j];
            same = close_enough(a->values[j], b->values[j]);
        }
        expect(same, a->name, "differs after rewriting");
    }
    return changed;
}

static void quantize(const char *model, const char *imatrix, const char *out)
{
    char *command =
        xasprintf("deps/peers/bin/llama-quantize --imatrix %s %s %s IQ2_XS 2 >%s/log 2>&1", imatrix,
                  model, out, dir);
    run(command);
    xfree(command);
}

static void compare_quantized(const char *one, const char *two)
{
    struct gguf a, b;
    struct err e = {0};
    if (gguf_open(&a, one, GGUF_CHECK_MODEL, &e) || gguf_open(&b, two, GGUF_CHECK_MODEL, &e))
        die(&e);
    for (size_t i = 0; i < a.n_tensors; i++) {
        const struct gguf_tensor *t = &a.tensors[i], *u = gguf_find(&b, t->name);
        expect(u && u->dtype == t->dtype && u->bytes == t->bytes &&
                   memcmp(gguf_tensor_data(&a, t), gguf_tensor_data(&b, u), t->bytes) == 0,
               t->name, "other bytes with the rewritten matrix");
    }
    gguf_close(&a);
    gguf_close(&b);
}

int main(void)
{
    const char *data = getenv("SINTRA_DATA");
    char *text = fs_join(data ? data : "../shared/data", "wikitext2-valid.txt");
    struct imatrix gguf, dat, again;
    struct err e = {0};
    if (access("deps/peers/bin/llama-imatrix", X_OK) != 0 || !fs_exists(text)) {
        printf("SKIP: no deps/peers/bin/llama-imatrix (make peers) or no %s (SINTRA_DATA)\n", text);
        return 77;
    }
    if (!mkdtemp(dir))
        return 1;
    char *model = fs_join(dir, "m.gguf"), *x = fs_join(dir, "x.gguf"),
         *legacy = fs_join(dir, "x.dat"), *ours = fs_join(dir, "ours.gguf"),
         *one = fs_join(dir, "1.gguf"), *two = fs_join(dir, "2.gguf");
    write_model(model);
    measure(model, text, "gguf", x);
    measure(model, text, "dat", legacy);
    if (imatrix_read(&gguf, x, &e) || imatrix_read(&dat, legacy, &e))
        die(&e);
    compare_formats(&gguf, &dat);
    if (imatrix_write(&gguf, ours, &e) || imatrix_read(&again, ours, &e))
        die(&e);
    imatrix_release(&gguf);
    if (imatrix_read(&gguf, x, &e))
        die(&e);
    long changed = compare_rewritten(&gguf, &again);
    printf("%ld values changed in their last bit by rewriting\n", changed);
    quantize(model, x, one);
    quantize(model, ours, two);
    if (changed == 0)
        compare_quantized(one, two);
    fs_remove_tree(dir, NULL);
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed != 0;
}
