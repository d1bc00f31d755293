/* Runs of elements of quantized weights as floats (packed_int.h has the layouts' names).
 *
 * Every function computes `n` elements of one row from column `col` on, in single precision and in
 * the order of operations of the reference: a code minus its zero point is exact, one product with
 * the scale rounds. Mapped files promise no alignment, so words are copied out. Lengths were
 * checked when the tensor was opened; what indexes by data (g_idx) is held inside here again,
 * because a mapped file can change. */
#include <math.h>
#include <string.h>

#include "model/packed_int.h"
#include "tensor/convert.h"
#include "base/banned.h"

static uint32_t word_at(const uint8_t *data, uint64_t i)
{
    uint32_t w;
    memcpy(&w, data + i * sizeof w, sizeof w);
    return w;
}

static float real_at(const struct packed_piece *p, uint64_t i)
{
    float v = 0;
    if (p->dtype == DT_F32) {
        memcpy(&v, p->data + i * sizeof v, sizeof v);
    } else if (p->dtype == DT_F16 || p->dtype == DT_BF16) {
        uint16_t h;
        memcpy(&h, p->data + i * sizeof h, sizeof h);
        v = p->dtype == DT_F16 ? convert_f16_to_f32(h) : convert_bf16_to_f32(h);
    }
    return v;
}

/* One look-up of the scale for each block that the run crosses. */
static void read_fp8(const struct model_packed *k, uint64_t row, uint64_t col, float *dst,
                     uint64_t n)
{
    uint64_t across = (k->cols + k->block_cols - 1) / k->block_cols;
    convert_to_f32(DT_F8_E4M3, k->codes + row * k->cols + col, dst, n);
    for (uint64_t at = 0; at < n;) {
        float scale =
            real_at(&k->scales, row / k->block_rows * across + (col + at) / k->block_cols);
        uint64_t end = at + k->block_cols - (col + at) % k->block_cols;
        for (end = end < n ? end : n; at < end; at++)
            dst[at] *= scale;
    }
}

/* Even elements in the low nibbles; a scale is a power of two, 255 stands for NaN. */
static void read_mxfp4(const struct model_packed *k, uint64_t row, uint64_t col, float *dst,
                       uint64_t n)
{
    static const float values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                     -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    uint64_t first = row * k->cols + col;
    for (uint64_t at = 0; at < n;) {
        uint8_t e = k->scales.data[(first + at) / 32];
        float scale = e == 255 ? NAN : ldexpf(1.0f, (int)e - 127);
        uint64_t end = at + 32 - (first + at) % 32;
        for (end = end < n ? end : n; at < end; at++)
            dst[at] = values[k->codes[(first + at) / 2] >> (first + at) % 2 * 4 & 15] * scale;
    }
}

/* Code i of those packed into words that are `step` words apart: a stream of bits from the lowest
 * on, which for 3 bits crosses words. */
static uint32_t code_at(const uint8_t *words, uint64_t i, uint64_t step, uint32_t bits)
{
    uint64_t bit = i * bits, word = bit / 32 * step;
    uint32_t shift = (uint32_t)(bit % 32), v = word_at(words, word) >> shift;
    if (shift + bits > 32)
        v |= word_at(words, word + step) << (32 - shift);
    return v & ((1u << bits) - 1);
}

struct group {
    uint64_t number;
    float scale;
    int32_t zero;
};

/* Version 1 stores zero - 1, which wraps around in its own bits and never into its neighbour's. */
static struct group gptq_group(const struct model_packed *k, uint64_t g, uint64_t row)
{
    uint64_t words = (k->rows * k->bits + 31) / 32;
    uint32_t zero = code_at(k->zeros.data + g * words * 4, row, 1, k->bits) + k->zero_add;
    return (struct group){g, real_at(&k->scales, g * k->rows + row),
                          (int32_t)(zero & ((1u << k->bits) - 1))};
}

static uint64_t gptq_group_of(const struct model_packed *k, uint64_t col)
{
    if (!k->index.data)
        return col / k->group;
    uint32_t g = word_at(k->index.data, col);
    return g < k->groups ? g : 0;
}

/* Codes are packed along the columns of a row, and rows lie next to each other. */
static void read_gptq(const struct model_packed *k, uint64_t row, uint64_t col, float *dst,
                      uint64_t n)
{
    const uint8_t *words = k->codes + row * 4;
    struct group g = {.number = UINT64_MAX};
    for (uint64_t at = 0; at < n; at++) {
        uint64_t number = gptq_group_of(k, col + at);
        if (number != g.number)
            g = gptq_group(k, number, row);
        int32_t code = (int32_t)code_at(words, col + at, k->rows, k->bits);
        dst[at] = (float)(code - g.zero) * g.scale;
    }
}

/* A word holds eight rows of one column, in an order that suits the unpacking of a GPU. */
static void read_awq(const struct model_packed *k, uint64_t row, uint64_t col, float *dst,
                     uint64_t n)
{
    static const uint8_t nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    uint64_t across = k->rows / 8, word = row / 8;
    uint32_t shift = 4u * nibble[row % 8];
    for (uint64_t at = 0; at < n;) {
        uint64_t g = (col + at) / k->group, end = (g + 1) * k->group - col;
        float scale = real_at(&k->scales, g * k->rows + row);
        int32_t zero = (int32_t)(word_at(k->zeros.data, g * across + word) >> shift & 15);
        for (end = end < n ? end : n; at < end; at++) {
            uint32_t w = word_at(k->codes, (col + at) * across + word);
            dst[at] = (float)((int32_t)(w >> shift & 15) - zero) * scale;
        }
    }
}

/* The scale of a block, itself an 8-bit code where scales were quantized too. */
static float bnb4_scale(const struct model_packed *k, uint64_t block)
{
    if (!k->nested_scales.data)
        return real_at(&k->scales, block);
    float scale = real_at(&k->nested_table, k->scales.data[block]);
    return scale * real_at(&k->nested_scales, block / k->nested_block) + k->nested_offset;
}

/* Blocks run on over the ends of rows; even elements in the high nibbles. */
static void read_bnb4(const struct model_packed *k, uint64_t row, uint64_t col, float *dst,
                      uint64_t n)
{
    uint64_t first = row * k->cols + col;
    float table[16];
    memcpy(table, k->table.data, sizeof table);
    for (uint64_t at = 0; at < n;) {
        uint64_t block = (first + at) / k->block, end = (block + 1) * k->block - first;
        float scale = bnb4_scale(k, block);
        for (end = end < n ? end : n; at < end; at++) {
            uint64_t e = first + at;
            dst[at] = table[k->codes[e / 2] >> (e % 2 ? 0 : 4) & 15] * scale;
        }
    }
}

static void read_bnb8(const struct model_packed *k, uint64_t row, uint64_t col, float *dst,
                      uint64_t n)
{
    float scale = real_at(&k->scales, row);
    convert_to_f32(DT_I8, k->codes + row * k->cols + col, dst, n);
    for (uint64_t at = 0; at < n; at++)
        dst[at] = dst[at] * scale * (1.0f / 127.0f);
}

void packed_read(const struct model_packed *k, uint64_t from, uint64_t stride, float *dst,
                 uint64_t n)
{
    static void (*const readers[])(const struct model_packed *k, uint64_t row, uint64_t col,
                                   float *dst, uint64_t n) = {
        [PACKING_FP8] = read_fp8, [PACKING_MXFP4] = read_mxfp4, [PACKING_GPTQ] = read_gptq,
        [PACKING_AWQ] = read_awq, [PACKING_BNB4] = read_bnb4,   [PACKING_BNB8] = read_bnb8,
    };
    for (uint64_t done = 0, run; done < n; done += run) {
        uint64_t at = from + done * stride, row = at / k->cols, col = at % k->cols;
        run = stride == 1 ? k->cols - col : 1;
        if (run > n - done)
            run = n - done;
        readers[k->packing](k, row, col, dst + done, run);
    }
}

/* A block of the GGUF is its scale and then 16 bytes, of which byte j has element j low and element
 * j + 16 high; here they hold neighbours. Both scales are the same power of two. */
void packed_mxfp4_blocks(const struct model_packed *k, uint64_t from, uint64_t n, uint8_t *dst)
{
    for (uint64_t block = from / 32; block < (from + n) / 32; block++, dst += 17) {
        const uint8_t *codes = k->codes + block * 16;
        dst[0] = k->scales.data[block];
        for (int j = 0; j < 16; j++) {
            int shift = j % 2 * 4;
            dst[1 + j] =
                (uint8_t)((codes[j / 2] >> shift & 15) | (codes[8 + j / 2] >> shift & 15) << 4);
        }
    }
}

bool packed_range(const struct model_packed *k, uint64_t from, uint64_t to, uint64_t *offset,
                  uint64_t *bytes)
{
    bool across = k->packing == PACKING_GPTQ || k->packing == PACKING_AWQ;
    bool half = k->packing == PACKING_MXFP4 || k->packing == PACKING_BNB4;
    *offset = across ? 0 : half ? from / 2 : from;
    *bytes = across ? UINT64_MAX : half ? to / 2 - from / 2 + 1 : to - from + 1;
    return across;
}
