/* Levels into blocks. Layouts: ggml-common.h of ggml 0.5.0, as in decode.c, whose functions these
 * invert. Each writes all level bits of its block and nothing else. */
#include "quant/pack_int.h"

#include <string.h>

#include "base/banned.h"

static const float iq4_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};

/* 32 levels of four bits: the first half in the low nibbles. */
static void write_nibbles(uint8_t *q, const uint8_t *level)
{
    for (int i = 0; i < 16; i++)
        q[i] = (uint8_t)((level[i] & 15) | level[i + 16] << 4);
}

static void write_fifth_bits(uint8_t *q, const uint8_t *level)
{
    memset(q, 0, 4);
    for (int i = 0; i < 32; i++)
        q[i / 8] |= (uint8_t)((level[i] >> 4) << (i % 8));
}

static void write_q4_0(uint8_t *p, const uint8_t *level)
{
    write_nibbles(p + 2, level);
}

static void write_q4_1(uint8_t *p, const uint8_t *level)
{
    write_nibbles(p + 4, level);
}

static void write_q5_0(uint8_t *p, const uint8_t *level)
{
    write_fifth_bits(p + 2, level);
    write_nibbles(p + 6, level);
}

static void write_q5_1(uint8_t *p, const uint8_t *level)
{
    write_fifth_bits(p + 4, level);
    write_nibbles(p + 8, level);
}

/* Levels 0 to 254 are −127 to 127. */
static void write_q8_0(uint8_t *p, const uint8_t *level)
{
    for (int i = 0; i < 32; i++)
        p[2 + i] = (uint8_t)(level[i] - 127);
}

static void write_q2_k(uint8_t *p, const uint8_t *level)
{
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 32; i++) {
            const uint8_t *l = level + 128 * half + i;
            p[16 + 32 * half + i] = (uint8_t)(l[0] | l[32] << 2 | l[64] << 4 | l[96] << 6);
        }
}

static void write_q3_k(uint8_t *p, const uint8_t *level)
{
    memset(p, 0, 32);
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 32; i++) {
            const uint8_t *l = level + 128 * half + i;
            unsigned low = 0;
            for (int plane = 0; plane < 4; plane++) {
                low |= (l[32 * plane] & 3u) << (2 * plane);
                p[i] |= (uint8_t)((l[32 * plane] >> 2) << (4 * half + plane));
            }
            p[32 + 32 * half + i] = (uint8_t)low;
        }
}

/* 64 levels to 32 bytes: the first 32 in the low nibbles. */
static void write_chunks(uint8_t *q, const uint8_t *level)
{
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 32; i++)
            q[32 * j + i] = (uint8_t)((level[64 * j + i] & 15) | level[64 * j + 32 + i] << 4);
}

static void write_q4_k(uint8_t *p, const uint8_t *level)
{
    write_chunks(p + 16, level);
}

static void write_q5_k(uint8_t *p, const uint8_t *level)
{
    write_chunks(p + 48, level);
    memset(p + 16, 0, 32);
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 32; i++)
            p[16 + i] |= (uint8_t)((level[32 * j + i] >> 4) << j);
}

static void write_q6_k(uint8_t *p, const uint8_t *level)
{
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 32; i++) {
            const uint8_t *l = level + 128 * half + i;
            p[64 * half + i] = (uint8_t)((l[0] & 15) | l[64] << 4);
            p[64 * half + 32 + i] = (uint8_t)((l[32] & 15) | l[96] << 4);
            p[128 + 32 * half + i] =
                (uint8_t)(l[0] >> 4 | (l[32] >> 4) << 2 | (l[64] >> 4) << 4 | (l[96] >> 4) << 6);
        }
}

static void write_iq4_nl(uint8_t *p, const uint8_t *level)
{
    write_nibbles(p + 2, level);
}

static void write_iq4_xs(uint8_t *p, const uint8_t *level)
{
    for (int j = 0; j < 8; j++)
        write_nibbles(p + 8 + 16 * j, level + 32 * j);
}

static const struct pack packs[] = {
    [DT_Q4_0] = {.levels = 16, .write = write_q4_0},
    [DT_Q4_1] = {.levels = 16, .write = write_q4_1},
    [DT_Q5_0] = {.levels = 32, .write = write_q5_0},
    [DT_Q5_1] = {.levels = 32, .write = write_q5_1},
    [DT_Q8_0] = {.levels = 255, .write = write_q8_0},
    [DT_Q2_K] = {.levels = 4, .write = write_q2_k},
    [DT_Q3_K] = {.levels = 8, .write = write_q3_k},
    [DT_Q4_K] = {.levels = 16, .write = write_q4_k},
    [DT_Q5_K] = {.levels = 32, .write = write_q5_k},
    [DT_Q6_K] = {.levels = 64, .write = write_q6_k},
    [DT_IQ4_NL] = {.levels = 16, .table = iq4_table, .write = write_iq4_nl},
    [DT_IQ4_XS] = {.levels = 16, .table = iq4_table, .write = write_iq4_xs},
};

const struct pack *pack_of(enum dtype type)
{
    if ((size_t)type >= sizeof packs / sizeof *packs || !packs[type].write)
        return NULL;
    return &packs[type];
}
