/* Our decoders against ggml's to_float, float by float, on blocks of random bytes, so of every bit
 * pattern: scales that are infinite, NaN or denormal, positions and levels that no encoder writes.
 * NaN equals NaN, whatever its payload. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "ggml.h"

#include "base/rng.h"
#include "quant/quant.h"

enum { BLOCKS = 64, ROUNDS = 400, BYTES_MAX = 512 };

static int passed, failed;

static bool same(const float *a, const float *b, size_t n, size_t *at)
{
    for (size_t i = 0; i < n; i++) {
        *at = i;
        if (memcmp(&a[i], &b[i], sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i])))
            return false;
    }
    return true;
}

static void test_type(const struct dtype_info *info)
{
    static uint8_t blocks[BLOCKS * BYTES_MAX];
    static float ours[BLOCKS * 256], theirs[BLOCKS * 256];
    const struct ggml_type_traits *traits = ggml_get_type_traits((enum ggml_type)info->id);
    struct rng r;
    struct err e;
    rng_seed(&r, (uint64_t)info->id);
    size_t n = (size_t)BLOCKS * info->block, at = 0;
    if (traits->type_size != info->bytes || traits->blck_size != info->block) {
        printf("FAIL %s: %u bytes for %u weights, ggml has %zu for %d\n", info->name, info->bytes,
               info->block, traits->type_size, (int)traits->blck_size);
        failed++;
        return;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < (size_t)BLOCKS * info->bytes; i++)
            blocks[i] = (uint8_t)(round == 0 ? 255 : round == 1 ? 0 : rng_next(&r));
        traits->to_float(blocks, theirs, (int64_t)n);
        if (quant_decode(info->id, blocks, ours, 1, n, &e) || !same(ours, theirs, n, &at)) {
            printf("FAIL %s: weight %zu of a block is %a, ggml has %a\n", info->name,
                   at % info->block, (double)ours[at], (double)theirs[at]);
            failed++;
            return;
        }
    }
    printf("ok   %s\n", info->name);
    passed++;
}

int main(void)
{
    const struct dtype_info *info;
    for (int i = 0; (info = dtype_at(i)); i++)
        if (info->quantized && ggml_get_type_traits((enum ggml_type)info->id)->to_float)
            test_type(info);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
