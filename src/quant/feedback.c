/* Rounding with error feedback: each column makes up for the errors of those before it.
 *
 * A weight matrix W that meets inputs x with G = Σ x xᵀ loses tr(E G Eᵀ), E = W − Q. With G
 * = U D Uᵀ, U unit upper triangular, that is Σ_j D_j |e_j + Σ_{k<j} e_k U_kj|², so column j
 * is best rounded as if it were w_j + Σ_{k<j} e_k U_kj. This is GPTQ (Frantar et al., arXiv
 * 2210.17323) in the form of LDLQ (Chee et al., arXiv 2307.13304). Blocks have scales: those are
 * chosen by the ordinary encoder for what the block will aim at, as far as earlier blocks decide
 * it, then the levels one column after the other. Where weights share codes (IQ1 to IQ3), the
 * encoder's codes stand, and what they miss goes to the blocks that follow.
 *
 * Sixteen rows go side by side, one in each lane of a vector; every lane does what one row alone
 * would, so bytes depend on neither processor nor number of rows. The vectors are the compiler's;
 * it splits them where registers are shorter. */
#include <string.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "quant/decode_int.h"
#include "quant/feedback_int.h"
#include "quant/kernel_int.h"
#include "quant/pack_int.h"

#include "base/banned.h"

enum { LANES = 16, STRIP = 8, BLOCK_BYTES_MAX = 256 };
typedef float lane __attribute__((vector_size(4 * LANES)));
typedef int32_t lane_int __attribute__((vector_size(4 * LANES)));

static const float expected_max = 1e9f;

struct work {
    const struct quant_feedback *feedback;
    const struct dtype_info *type;
    const struct pack *pack; /* NULL: weights share codes */
    size_t n;                /* columns */
    int rows;                /* lanes that are real */
    struct quant_error cost;
    lane *weight, *error; // (n)
    lane target[PACK_BLOCK_MAX], low[PACK_BLOCK_MAX], step[PACK_BLOCK_MAX], inverse[PACK_BLOCK_MAX];
    uint8_t level[LANES][PACK_BLOCK_MAX];
    lane expected[PACK_BLOCK_MAX]; /* see expect */
    /* The same, row after row, as the encoder wants them. */
    float values[LANES * PACK_BLOCK_MAX];
    uint8_t blocks[LANES * BLOCK_BYTES_MAX]; /* one of each row */
};

/* Row k of U from column j on; both are in one span. */
static inline const float *factor_row(const struct work *w, size_t k, size_t j)
{
    size_t span = (size_t)w->feedback->span;
    return w->feedback->factor + k * span + j % span;
}

/* target of columns [at, at + size) = weight + Σ error_k U_k over the span's earlier columns k.
 * STRIP columns at a time stay in registers. */
CPU_CLONES static void add_past(struct work *w, size_t at, size_t size)
{
    size_t from = at - at % (size_t)w->feedback->span;
    for (size_t j = 0; j < size; j += STRIP) {
        lane sum[STRIP];
        for (int s = 0; s < STRIP; s++)
            sum[s] = w->weight[at + j + (size_t)s];
        for (size_t k = from; k < at; k++) {
            const float *row = factor_row(w, k, at + j);
            for (int s = 0; s < STRIP; s++)
                sum[s] += w->error[k] * row[s];
        }
        for (int s = 0; s < STRIP; s++)
            w->target[j + (size_t)s] = sum[s];
    }
}

/* What the block's columns will aim at when their turn comes, as far as earlier blocks decide it:
 * the c with c U = Σ error_k U_k inside the block, on top of the weights. A column that takes up
 * its part of the correction asks the later ones for less. */
CPU_CLONES static void expect(struct work *w, size_t at, size_t size)
{
    bool first = at % (size_t)w->feedback->span == 0;
    for (size_t j = 0; j < size; j++)
        w->expected[j] = w->target[j] - w->weight[at + j];
    for (size_t j = 0; !first && j < size; j++) {
        const float *row = factor_row(w, at + j, at);
        for (size_t i = j + 1; i < size; i++)
            w->expected[i] -= w->expected[j] * row[i];
    }
    for (size_t j = 0; j < size; j++)
        w->expected[j] += w->weight[at + j];
}

/* a where the mask is set (all bits of a lane), b elsewhere. */
static inline void choose(const lane_int *mask, const lane *a, const lane *b, lane *out)
{
    *out = (lane)(((lane_int)*a & *mask) | ((lane_int)*b & ~*mask));
}

/* The nearest even level to each target. Adding and taking away 1.5·2²³ leaves integers, ties to
 * even. */
static inline void nearest_even(const struct work *w, size_t j, lane *level, lane *value)
{
    const float magic = 12582912.0f;
    lane zero = {0}, top = zero + (float)(w->pack->levels - 1);
    lane x = (w->target[j] - w->low[j]) * w->inverse[j];
    lane_int above = x > zero;
    choose(&above, &x, &zero, &x);
    lane_int below = x < top;
    choose(&below, &x, &top, &x);
    x = (x + magic) - magic;
    *level = x;
    *value = w->low[j] + w->step[j] * x;
}

/* The same of uneven levels: the number of middles between them that lie below. */
static inline void nearest_of_table(const struct work *w, size_t j, lane *level, lane *value)
{
    const float *table = w->pack->table;
    lane x = w->target[j] * w->inverse[j], at = {0}, best = at + table[0];
    for (int l = 1; l < w->pack->levels; l++) {
        float middle = (table[l - 1] + table[l]) / 2, jump = table[l] - table[l - 1];
        lane above = -__builtin_convertvector(x > middle, lane);
        best += above * jump;
        at += above;
    }
    *level = at;
    *value = best * w->step[j];
}

static inline void nearest(const struct work *w, size_t j, lane *level, lane *value)
{
    if (!w->pack)
        *level = *value = w->low[j];
    else if (w->pack->table)
        nearest_of_table(w, j, level, value);
    else
        nearest_even(w, j, level, value);
}

/* The columns of one block in order, each handing its error to the rest of the block. */
CPU_CLONES static void round_block(struct work *w, size_t at, size_t size, lane *squared,
                                   lane *missed)
{
    for (size_t j = 0; j < size; j++) {
        lane level, value;
        nearest(w, j, &level, &value);
        lane error = w->weight[at + j] - value, miss = w->target[j] - value;
        w->error[at + j] = error;
        *squared += error * error;
        *missed += miss * miss * w->feedback->weight[at + j];
        const float *row = factor_row(w, at + j, at);
        for (size_t i = j + 1; i < size; i++)
            w->target[i] += error * row[i];
        for (int i = 0; w->pack && i < LANES; i++)
            w->level[i][j] = (uint8_t)level[i];
    }
}

/* What the blocks stand for as they are. */
static void read_values(struct work *w, size_t size)
{
    float value[PACK_BLOCK_MAX];
    for (int i = 0; i < LANES; i++) {
        decode_blocks(w->type->id, w->blocks + (size_t)i * w->type->bytes, value, size);
        for (size_t j = 0; j < size; j++)
            w->low[j][i] = value[j];
    }
}

/* What levels 0 and 1 (or the last of a table) stand for under the scales that the blocks have. */
static void read_scales(struct work *w, size_t size)
{
    uint8_t level[PACK_BLOCK_MAX];
    float first[PACK_BLOCK_MAX], second[PACK_BLOCK_MAX];
    const float *table = w->pack->table;
    int other = table ? w->pack->levels - 1 : 1;
    for (int i = 0; i < LANES; i++) {
        uint8_t *block = w->blocks + (size_t)i * w->type->bytes;
        memset(level, 0, sizeof level);
        w->pack->write(block, level);
        decode_blocks(w->type->id, block, first, size);
        memset(level, other, sizeof level);
        w->pack->write(block, level);
        decode_blocks(w->type->id, block, second, size);
        for (size_t j = 0; j < size; j++) {
            float step = table ? second[j] / table[other] : second[j] - first[j];
            w->low[j][i] = table ? 0 : first[j];
            w->step[j][i] = step;
            w->inverse[j][i] = step != 0 ? 1 / step : 0;
        }
    }
}

/* The scales, by the ordinary encoder. False when one is not finite, or when the factors, which
 * come from a file, ask for values that encoders may not see (quant.c refuses such weights). */
static bool choose_scales(struct work *w, size_t at, size_t size)
{
    bool infinite = false;
    for (size_t i = 0; i < LANES; i++)
        for (size_t j = 0; j < size; j++) {
            float v = w->expected[j][i];
            if (!(v >= -expected_max && v <= expected_max))
                return false;
            w->values[i * size + j] = v;
        }
    kernel_encode(kernel_set_best(), w->type->id, w->values, w->blocks, LANES, size,
                  w->feedback->weight + at, NULL, &infinite);
    if (w->pack)
        read_scales(w, size);
    else
        read_values(w, size);
    return !infinite;
}

static bool encode_lanes(struct work *w, uint8_t *const *dst)
{
    size_t size = w->type->block, bytes = w->type->bytes;
    for (size_t at = 0; at < w->n; at += size) {
        lane squared = {0}, missed = {0};
        add_past(w, at, size);
        expect(w, at, size);
        if (!choose_scales(w, at, size))
            return false;
        round_block(w, at, size, &squared, &missed);
        for (int i = 0; i < w->rows; i++) {
            w->cost.squared += (double)squared[i];
            w->cost.weighted += (double)missed[i];
        }
        for (size_t i = 0; i < LANES; i++) {
            if (w->pack)
                w->pack->write(w->blocks + i * bytes, w->level[i]);
            memcpy(dst[i] + at / size * bytes, w->blocks + i * bytes, bytes);
        }
    }
    return true;
}

int feedback_encode(enum dtype type, const float *src, uint8_t *dst, uint64_t rows,
                    uint64_t n_per_row, const struct quant_feedback *feedback,
                    struct quant_error *error, bool *infinite, struct err *e)
{
    size_t n = (size_t)n_per_row, bytes = sizeof(struct work) + 2 * n * sizeof(lane);
    struct work *w = big_alloc(bytes, "rows and their errors", e);
    if (!w)
        return -1;
    w->feedback = feedback;
    w->type = dtype_info(type);
    w->pack = pack_of(type);
    w->n = n;
    w->weight = (lane *)(w + 1);
    w->error = w->weight + n;
    for (uint64_t first = 0; !*infinite && first < rows; first += LANES) {
        uint8_t *to[LANES];
        w->rows = rows - first < LANES ? (int)(rows - first) : LANES;
        for (uint64_t i = 0; i < LANES; i++) { /* lanes beyond the last row repeat it */
            uint64_t row = first + i < rows ? first + i : rows - 1;
            to[i] = dst + row * (n / w->type->block * w->type->bytes);
            for (size_t j = 0; j < n; j++)
                w->weight[j][i] = src[row * n_per_row + j];
        }
        *infinite = !encode_lanes(w, to);
    }
    error->squared += w->cost.squared;
    error->weighted += w->cost.weighted;
    big_free(w, bytes);
    return 0;
}
