/* The readers of importance matrices, both formats: no input may crash them, and every value they
 * hand out can be given to an encoder: finite and not negative. */
#include "fuzz_int.h"

#include <math.h>

#include "format/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct imatrix m;
    struct err e = {0};
    if (imatrix_read(&m, fuzz_file(data, n), &e)) {
        if (e.code == ERR_NONE || e.message[0] == '\0')
            abort(); /* a refusal says why */
        return 0;
    }
    for (size_t i = 0; i < m.n; i++) {
        const struct imatrix_entry *entry = &m.entries[i];
        if (imatrix_find(&m, entry->name) != entry)
            abort();
        for (uint64_t j = 0; j < entry->n_in * entry->n_mat; j++) {
            if (!isfinite(entry->values[j]) || entry->values[j] < 0)
                abort();
        }
    }
    imatrix_release(&m);
    return 0;
}

static struct forge f;

static void seed_legacy(const char *folder)
{
    f.n = 0;
    forge_u32(&f, 2);
    for (unsigned i = 0; i < 2; i++) {
        forge_u32(&f, 5);
        forge_bytes(&f, i ? "blk.1" : "blk.0", 5);
        forge_u32(&f, i);
        forge_u32(&f, 3);
        for (int j = 0; j < 3; j++)
            forge_f32(&f, (float)j);
    }
    fuzz_seed(folder, "short", &f);
    forge_u32(&f, 7);
    forge_u32(&f, 8);
    forge_bytes(&f, "wiki.txt", 8);
    fuzz_seed(folder, "legacy", &f);
}

static void seed_gguf(const char *folder)
{
    forge_gguf(&f, 3, 0, 0);
    forge_kv_str(&f, "general.type", "imatrix");
    forge_kv_strs(&f, "imatrix.datasets", (const char *const[]){"x.txt"}, 1);
    forge_kv_u32(&f, "imatrix.chunk_count", 9);
    forge_kv_u32(&f, "imatrix.chunk_size", 512);
    forge_tensor(&f, "a.in_sum2", 2, (uint64_t[]){2, 2}, 0, 0);
    forge_tensor(&f, "a.counts", 2, (uint64_t[]){1, 2}, 0, 32);
    forge_counts(&f);
    forge_pad(&f, 32);
    for (int i = 0; i < 16; i++)
        forge_f32(&f, (float)i);
    fuzz_seed(folder, "gguf", &f);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *folder = fuzz_empty_corpus(*argc, *argv);
    if (folder) {
        seed_legacy(folder);
        seed_gguf(folder);
    }
    return 0;
}
