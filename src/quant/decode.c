/* Decoders: one function per packed type, one block at a time.
 *
 * Every product and sum is taken in the order of ggml 0.5.0's dequantize_row_* (ggml-quants.c), so
 * the floats are the same to the bit; tests/oracle/decode_bits.c compares them on random bytes.
 * Layouts: ggml-common.h; each function names its own. Input is any bytes at all: a decoder reads
 * whole blocks and every index is masked to its table. Loops have constant lengths and no branches
 * where that lets the compiler vectorise them. No state; thread-safe. */
#include "quant/decode_int.h"

#include <string.h>

#include "quant/codebook_int.h"
#include "tensor/convert.h"

#include "base/banned.h"

typedef void decode_fn(const uint8_t *p, float *y);

static uint16_t load16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static float half_at(const uint8_t *p)
{
    return convert_f16_to_f32(load16(p));
}

/* ---- blocks of 32, 64 and 128
 * ------------------------------------------------------------------- */

/* d, qs[16] of 128 signs */
static void decode_q1_0(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int i = 0; i < 128; i++)
        y[i] = p[2 + i / 8] >> (i % 8) & 1 ? d : -d;
}

/* d, qs[16] of 64 levels −1 to 2 */
static void decode_q2_0(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int i = 0; i < 64; i++)
        y[i] = (float)((p[2 + i / 4] >> (2 * (i % 4)) & 3) - 1) * d;
}

/* d, qs[16] */
static void decode_q4_0(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)((p[2 + i] & 15) - 8) * d;
        y[i + 16] = (float)((p[2 + i] >> 4) - 8) * d;
    }
}

/* d, m, qs[16] */
static void decode_q4_1(const uint8_t *p, float *y)
{
    float d = half_at(p), m = half_at(p + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)(p[4 + i] & 15) * d + m;
        y[i + 16] = (float)(p[4 + i] >> 4) * d + m;
    }
}

/* Level i of 32: a nibble and a fifth bit. */
static int five_bits(const uint8_t *nibbles, uint32_t high, int i)
{
    int low = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
    return low | (int)(high >> i & 1) << 4;
}

/* d, qh (u32), qs[16] */
static void decode_q5_0(const uint8_t *p, float *y)
{
    float d = half_at(p);
    uint32_t high = load32(p + 2);
    for (int i = 0; i < 32; i++)
        y[i] = (float)(five_bits(p + 6, high, i) - 16) * d;
}

/* d, m, qh (u32), qs[16] */
static void decode_q5_1(const uint8_t *p, float *y)
{
    float d = half_at(p), m = half_at(p + 2);
    uint32_t high = load32(p + 4);
    for (int i = 0; i < 32; i++)
        y[i] = (float)five_bits(p + 8, high, i) * d + m;
}

/* d, qs[32] */
static void decode_q8_0(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int i = 0; i < 32; i++)
        y[i] = (float)(int8_t)p[2 + i] * d;
}

/* Twice the E2M1 values (kvalues_fp4); the scales are halved. */
static const int8_t fp4_value[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* e (E8M0), qs[16]; 2^(e−128), of which the two smallest are denormal */
static void decode_mxfp4(const uint8_t *p, float *y)
{
    uint32_t bits = p[0] < 2 ? 0x00200000u << p[0] : (uint32_t)(p[0] - 1) << 23;
    float d;
    memcpy(&d, &bits, sizeof d);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)fp4_value[p[1 + i] & 15] * d;
        y[i + 16] = (float)fp4_value[p[1 + i] >> 4] * d;
    }
}

/* Half of a UE4M3: four bits of exponent, three of mantissa; 0x7f counts as zero. */
static float ue4m3_half(uint8_t v)
{
    if (v == 0x7f)
        return 0;
    if ((v & 0x78) == 0)
        return (float)(v & 7) / 1024;
    uint32_t bits = ((v & 0x7fu) + (120u << 3)) << 20;
    float d;
    memcpy(&d, &bits, sizeof d);
    return d * 0.5f;
}

/* d[4] (UE4M3), qs[32] */
static void decode_nvfp4(const uint8_t *p, float *y)
{
    for (int s = 0; s < 4; s++) {
        float d = ue4m3_half(p[s]);
        const uint8_t *q = p + 4 + 8 * s;
        for (int i = 0; i < 8; i++) {
            y[16 * s + i] = (float)fp4_value[q[i] & 15] * d;
            y[16 * s + i + 8] = (float)fp4_value[q[i] >> 4] * d;
        }
    }
}

static const float iq4_value[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};

/* d, qs[16] */
static void decode_iq4_nl(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int i = 0; i < 16; i++) {
        y[i] = d * iq4_value[p[2 + i] & 15];
        y[i + 16] = d * iq4_value[p[2 + i] >> 4];
    }
}

/* ---- super-blocks of 256: k-quants and ternary
 * ---------------------------------------------------- */

/* scales[16], qs[64], d, dmin */
static void decode_q2_k(const uint8_t *p, float *y)
{
    float d = half_at(p + 80), m = half_at(p + 82);
    for (int j = 0; j < 16; j++) {
        float scale = d * (float)(p[j] & 15), low = m * (float)(p[j] >> 4);
        const uint8_t *q = p + 16 + 32 * (j / 8) + 16 * (j % 2);
        int shift = 2 * (j / 2 % 4);
        for (int i = 0; i < 16; i++)
            y[16 * j + i] = scale * (float)(q[i] >> shift & 3) - low;
    }
}

/* hmask[32], qs[64], scales[12], d */
static void decode_q3_k(const uint8_t *p, float *y)
{
    float d = half_at(p + 108);
    const uint8_t *s = p + 96;
    for (int j = 0; j < 16; j++) {
        int l = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
        l |= (s[8 + j % 4] >> (2 * (j / 4)) & 3) << 4;
        float scale = d * (float)(l - 32);
        const uint8_t *q = p + 32 + 32 * (j / 8) + 16 * (j % 2), *h = p + 16 * (j % 2);
        int shift = 2 * (j / 2 % 4), bit = j / 2;
        for (int i = 0; i < 16; i++) {
            int level = (q[i] >> shift & 3) + 4 * (h[i] >> bit & 1) - 4;
            y[16 * j + i] = scale * (float)level;
        }
    }
}

/* Six-bit scale and minimum j of the twelve bytes of Q4_K and Q5_K. */
static void scale_pair(const uint8_t *s, int j, int *scale, int *minimum)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *minimum = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        *minimum = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

/* d, dmin, scales[12], qs[128] */
static void decode_q4_k(const uint8_t *p, float *y)
{
    float d = half_at(p), m = half_at(p + 2);
    for (int j = 0; j < 8; j++) {
        int l, n, shift = 4 * (j % 2);
        scale_pair(p + 4, j, &l, &n);
        float scale = d * (float)l, low = m * (float)n;
        const uint8_t *q = p + 16 + 32 * (j / 2);
        for (int i = 0; i < 32; i++)
            y[32 * j + i] = scale * (float)(q[i] >> shift & 15) - low;
    }
}

/* d, dmin, scales[12], qh[32], qs[128] */
static void decode_q5_k(const uint8_t *p, float *y)
{
    float d = half_at(p), m = half_at(p + 2);
    for (int j = 0; j < 8; j++) {
        int l, n, shift = 4 * (j % 2);
        scale_pair(p + 4, j, &l, &n);
        float scale = d * (float)l, low = m * (float)n;
        const uint8_t *q = p + 48 + 32 * (j / 2), *h = p + 16;
        for (int i = 0; i < 32; i++) {
            int level = (q[i] >> shift & 15) + 16 * (h[i] >> j & 1);
            y[32 * j + i] = scale * (float)level - low;
        }
    }
}

/* ql[128], qh[64], scales[16] (int8), d */
static void decode_q6_k(const uint8_t *p, float *y)
{
    float d = half_at(p + 208);
    for (int j = 0; j < 16; j++) {
        int half = j / 8, plane = j % 8 / 2, at = 16 * (j % 2);
        float scale = d * (float)(int8_t)p[192 + j];
        const uint8_t *q = p + 64 * half + 32 * (plane % 2) + at, *h = p + 128 + 32 * half + at;
        int low = plane / 2 * 4, high = 2 * plane;
        for (int i = 0; i < 16; i++) {
            int level = (q[i] >> low & 15) | (h[i] >> high & 3) << 4;
            y[16 * j + i] = scale * (float)(level - 32);
        }
    }
}

/* Trit n of `count` bytes: the top of byte·3ⁿ (mod 256) times three. */
static void decode_trits(const uint8_t *q, int count, int trits, float d, float *y)
{
    unsigned power = 1;
    for (int n = 0; n < trits; n++, power *= 3) {
        for (int i = 0; i < count; i++) {
            unsigned rest = (uint8_t)(q[i] * power);
            *y++ = (float)((int)(rest * 3 >> 8) - 1) * d;
        }
    }
}

/* qs[48], qh[4], d */
static void decode_tq1_0(const uint8_t *p, float *y)
{
    float d = half_at(p + 52);
    decode_trits(p, 32, 5, d, y);
    decode_trits(p + 32, 16, 5, d, y + 160);
    decode_trits(p + 48, 4, 4, d, y + 240);
}

/* qs[64], d */
static void decode_tq2_0(const uint8_t *p, float *y)
{
    float d = half_at(p + 64);
    for (int j = 0; j < 8; j++) {
        const uint8_t *q = p + 32 * (j / 4);
        int shift = 2 * (j % 4);
        for (int i = 0; i < 32; i++)
            y[32 * j + i] = (float)((q[i] >> shift & 3) - 1) * d;
    }
}

/* d, scales_h (u16), scales_l[4], qs[128] */
static void decode_iq4_xs(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int j = 0; j < 8; j++) {
        int l = (p[4 + j / 2] >> (4 * (j % 2)) & 15) | (load16(p + 2) >> (2 * j) & 3) << 4;
        float scale = d * (float)(l - 32);
        const uint8_t *q = p + 8 + 16 * j;
        for (int i = 0; i < 16; i++) {
            y[32 * j + i] = scale * iq4_value[q[i] & 15];
            y[32 * j + i + 16] = scale * iq4_value[q[i] >> 4];
        }
    }
}

/* ---- super-blocks of 256: codebooks
 * --------------------------------------------------------------- */

static const float two_bit_value[4] = {8, 25, 43, 0};
static const float iq3_xxs_value[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const float iq3_s_value[8] = {1, 3, 5, 7, 9, 11, 13, 15};

/* Seven stored signs and their parity as the eighth. */
static unsigned with_parity(unsigned signs)
{
    return signs | ((unsigned)__builtin_popcount(signs) & 1) << 7;
}

/* n levels of `bits` bits; value = scale·magnitude·sign. */
static void decode_point(unsigned code, int bits, int n, const float *magnitude, float scale,
                         unsigned signs, float *y)
{
    for (int i = 0; i < n; i++) {
        unsigned level = code >> (bits * i) & ((1u << bits) - 1);
        y[i] = scale * magnitude[level] * (signs >> i & 1 ? -1.0f : 1.0f);
    }
}

/* d, 8 × (4 positions, u32 of 4 × 7 signs and 4 bits of scale) */
static void decode_iq2_xxs(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int j = 0; j < 8; j++) {
        const uint8_t *q = p + 2 + 8 * j;
        uint32_t rest = load32(q + 4);
        float scale = d * (0.5f + (float)(rest >> 28)) * 0.25f;
        for (int g = 0; g < 4; g++)
            decode_point(codebook_grid_iq2_xxs[q[g]], 2, 8, two_bit_value, scale,
                         with_parity(rest >> (7 * g) & 127), y + 32 * j + 8 * g);
    }
}

/* Scale of 16 weights, two to a byte. */
static float nibble_scale(float d, const uint8_t *scales, int j)
{
    return d * (0.5f + (float)(scales[j / 2] >> (4 * (j % 2)) & 15)) * 0.25f;
}

/* d, 32 × u16 (position, 7 signs), scales[8] */
static void decode_iq2_xs(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int g = 0; g < 32; g++) {
        unsigned word = load16(p + 2 + 2 * g);
        decode_point(codebook_grid_iq2_xs[word & 511], 2, 8, two_bit_value,
                     nibble_scale(d, p + 66, g / 2), with_parity(word >> 9), y + 8 * g);
    }
}

/* d, qs[32], signs[32], qh[8], scales[8] */
static void decode_iq2_s(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int g = 0; g < 32; g++) {
        unsigned position = p[2 + g] | ((unsigned)p[66 + g / 4] >> (2 * (g % 4)) & 3) << 8;
        decode_point(codebook_grid_iq2_s[position], 2, 8, two_bit_value,
                     nibble_scale(d, p + 74, g / 2), p[34 + g], y + 8 * g);
    }
}

/* d, qs[64], 8 × u32 of 4 × 7 signs and 4 bits of scale */
static void decode_iq3_xxs(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int g = 0; g < 64; g++) {
        uint32_t rest = load32(p + 66 + g / 8 * 4);
        float scale = d * (0.5f + (float)(rest >> 28)) * 0.5f;
        unsigned signs = with_parity(rest >> (7 * (g / 2 % 4)) & 127) >> (4 * (g % 2));
        decode_point(codebook_grid_iq3_xxs[p[2 + g]], 3, 4, iq3_xxs_value, scale, signs, y + 4 * g);
    }
}

/* d, qs[64], qh[8], signs[32], scales[4] */
static void decode_iq3_s(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int g = 0; g < 64; g++) {
        int j = g / 8;
        float scale = d * (float)(1 + 2 * (p[106 + j / 2] >> (4 * (j % 2)) & 15));
        unsigned position = p[2 + g] | ((unsigned)p[66 + j] >> (g % 8) & 1) << 8;
        unsigned signs = (unsigned)p[74 + g / 2] >> (4 * (g % 2));
        decode_point(codebook_grid_iq3_s[position], 3, 4, iq3_s_value, scale, signs, y + 4 * g);
    }
}

/* Eight levels −1, 0, 1, all moved by an eighth. */
static void decode_ternary_point(unsigned position, float scale, bool negative, float *y)
{
    unsigned code = codebook_grid_iq1[position];
    float eighth = negative ? -0.125f : 0.125f;
    for (int i = 0; i < 8; i++)
        y[i] = scale * ((float)((int)(code >> (2 * i) & 3) - 1) + eighth);
}

/* d, qs[32], qh[8] (u16: 4 × 3 high bits, 3 bits of scale, sign of the eighth) */
static void decode_iq1_s(const uint8_t *p, float *y)
{
    float d = half_at(p);
    for (int g = 0; g < 32; g++) {
        unsigned high = load16(p + 34 + g / 4 * 2);
        float scale = d * (float)(2 * (high >> 12 & 7) + 1);
        unsigned position = p[2 + g] | (high >> (3 * (g % 4)) & 7) << 8;
        decode_ternary_point(position, scale, high >> 15, y + 8 * g);
    }
}

/* qs[32], qh[16] (2 × 3 high bits and a sign), scales[4] (u16: 4 × 3 bits of scale and a nibble of
 * d) */
static void decode_iq1_m(const uint8_t *p, float *y)
{
    unsigned bits = 0;
    for (int k = 0; k < 4; k++)
        bits |= (unsigned)(load16(p + 48 + 2 * k) >> 12) << (4 * k);
    float d = convert_f16_to_f32((uint16_t)bits);
    for (int g = 0; g < 32; g++) {
        int j = g / 2;
        float scale = d * (float)(2 * (load16(p + 48 + j / 4 * 2) >> (3 * (j % 4)) & 7) + 1);
        unsigned high = (unsigned)p[32 + j] >> (4 * (g % 2));
        decode_ternary_point(p[g] | (high & 7) << 8, scale, high & 8, y + 8 * g);
    }
}

static decode_fn *const decoders[] = {
    [DT_Q1_0] = decode_q1_0,       [DT_Q2_0] = decode_q2_0,     [DT_Q4_0] = decode_q4_0,
    [DT_Q4_1] = decode_q4_1,       [DT_Q5_0] = decode_q5_0,     [DT_Q5_1] = decode_q5_1,
    [DT_Q8_0] = decode_q8_0,       [DT_MXFP4] = decode_mxfp4,   [DT_NVFP4] = decode_nvfp4,
    [DT_IQ4_NL] = decode_iq4_nl,   [DT_Q2_K] = decode_q2_k,     [DT_Q3_K] = decode_q3_k,
    [DT_Q4_K] = decode_q4_k,       [DT_Q5_K] = decode_q5_k,     [DT_Q6_K] = decode_q6_k,
    [DT_TQ1_0] = decode_tq1_0,     [DT_TQ2_0] = decode_tq2_0,   [DT_IQ4_XS] = decode_iq4_xs,
    [DT_IQ2_XXS] = decode_iq2_xxs, [DT_IQ2_XS] = decode_iq2_xs, [DT_IQ2_S] = decode_iq2_s,
    [DT_IQ3_XXS] = decode_iq3_xxs, [DT_IQ3_S] = decode_iq3_s,   [DT_IQ1_S] = decode_iq1_s,
    [DT_IQ1_M] = decode_iq1_m,
};

bool decode_blocks(enum dtype type, const void *src, float *dst, uint64_t n)
{
    const struct dtype_info *info = dtype_info(type);
    if (!info || (size_t)type >= sizeof decoders / sizeof *decoders || !decoders[type])
        return false;
    const uint8_t *p = src;
    for (uint64_t i = 0; i < n; i += info->block, p += info->bytes)
        decoders[type](p, dst + i);
    return true;
}
