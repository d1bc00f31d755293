/* Lanes in plain C: one block at a time. This file is the definition of every lane operation; the
 * vector files do the same thing to several blocks at once, lane by lane, so the encoders written
 * over them give the same bytes for every width.
 *
 * vf float, vi int32, vm truth value, per lane. Rounding is IEEE nearest-even, nothing is
 * contracted.
 *   vf_min(a,b) = a < b ? a : b, vf_max(a,b) = a > b ? a : b (so an unordered or equal pair gives
 *   b) vf_lt/le/eq are false for NaN; vf_sel(m,a,b) = m ? a : b; vi_trunc rounds towards zero
 *   lanes_transpose: dst[i*LANES + lane] = src[lane][i], i in [0,n), n a multiple of 16 */
#ifndef QUANT_LANES_REF_INT_H
#define QUANT_LANES_REF_INT_H

#include <stdint.h>
#include <string.h>

#include "tensor/convert.h"

#if defined(__clang__)
#define LANES_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LANES_UNROLL _Pragma("GCC unroll 8")
#endif

enum { LANES = 1 };
typedef float vf;
typedef int32_t vi;
typedef int vm;

static inline vf vf_set(float a)
{
    return a;
}
static inline vf vf_load(const float *p)
{
    return *p;
}
static inline void vf_store(float *p, vf a)
{
    *p = a;
}
static inline vf vf_add(vf a, vf b)
{
    return a + b;
}
static inline vf vf_sub(vf a, vf b)
{
    return a - b;
}
static inline vf vf_mul(vf a, vf b)
{
    return a * b;
}
static inline vf vf_div(vf a, vf b)
{
    return a / b;
}
static inline vf vf_sqrt(vf a)
{
    return sqrtf(a);
}
static inline vf vf_min(vf a, vf b)
{
    return a < b ? a : b;
}
static inline vf vf_max(vf a, vf b)
{
    return a > b ? a : b;
}
static inline vi vi_bits(vf a)
{
    vi i;
    memcpy(&i, &a, sizeof i);
    return i;
}
static inline vf vf_bits(vi a)
{
    vf f;
    memcpy(&f, &a, sizeof f);
    return f;
}
static inline vi vi_set(int32_t a)
{
    return a;
}
static inline vi vi_load(const int32_t *p)
{
    return *p;
}
static inline void vi_store(int32_t *p, vi a)
{
    *p = a;
}
static inline vi vi_add(vi a, vi b)
{
    return (vi)((uint32_t)a + (uint32_t)b);
}
static inline vi vi_sub(vi a, vi b)
{
    return (vi)((uint32_t)a - (uint32_t)b);
}
static inline vi vi_and(vi a, vi b)
{
    return a & b;
}
static inline vi vi_or(vi a, vi b)
{
    return a | b;
}
static inline vi vi_xor(vi a, vi b)
{
    return a ^ b;
}
static inline vi vi_min(vi a, vi b)
{
    return a < b ? a : b;
}
static inline vi vi_max(vi a, vi b)
{
    return a > b ? a : b;
}
static inline vi vi_sll(vi a, int n)
{
    return (vi)((uint32_t)a << n);
}
static inline vi vi_srl(vi a, int n)
{
    return (vi)((uint32_t)a >> n);
}
static inline vi vi_sra(vi a, int n)
{
    return a >> n;
}
static inline vf vf_of(vi a)
{
    return (vf)a;
}
/* As x86 converts: out of range and NaN give INT32_MIN. */
static inline vi vi_trunc(vf a)
{
    return a >= -2147483648.0f && a < 2147483648.0f ? (vi)a : INT32_MIN;
}
static inline vm vf_lt(vf a, vf b)
{
    return a < b;
}
static inline vm vf_le(vf a, vf b)
{
    return a <= b;
}
static inline vm vf_eq(vf a, vf b)
{
    return a == b;
}
static inline vm vi_eq(vi a, vi b)
{
    return a == b;
}
static inline vm vi_lt(vi a, vi b)
{
    return a < b;
}
static inline vf vf_sel(vm m, vf a, vf b)
{
    return m ? a : b;
}
static inline vi vi_sel(vm m, vi a, vi b)
{
    return m ? a : b;
}
static inline vm vm_and(vm a, vm b)
{
    return a & b;
}
static inline vm vm_or(vm a, vm b)
{
    return a | b;
}
static inline vm vm_not(vm a)
{
    return !a;
}
static inline int vm_any(vm a)
{
    return a;
}
static inline int vm_all(vm a)
{
    return a;
}
static inline vi vi_gather(const int32_t *table, vi index)
{
    return table[index];
}
static inline vf vf_lookup16(const float *table, vi index)
{
    return table[index];
}
static inline void lanes_transpose(const float *const *src, float *dst, int n)
{
    memcpy(dst, src[0], (size_t)n * sizeof *dst);
}

/* Nearest fp16 of every lane; returns their values. */
static inline vf lanes_half(vf a, uint16_t *half)
{
    *half = convert_f32_to_f16(a);
    return convert_f16_to_f32(*half);
}
/* Four words of every lane (word k of lane l at words[k*LANES + l]) to byte `at` of its place. */
static inline void lanes_put_words4(uint8_t *const *dst, int at, const int32_t *words)
{
    memcpy(dst[0] + at, words, 16);
}
/* Eight neighbouring words of a table from every lane's own place. */
static inline void lanes_words8(const uint16_t *table, vi place, vi *word)
{
    for (int k = 0; k < 8; k++)
        word[k] = table[place + k];
}
/* 2·l + 1 of a level l, the low bits of `code` (mask 3 or 7). */
static inline vf vf_odd(vi code, int mask)
{
    return (vf)(2 * (code & mask) + 1);
}
static inline int32_t vi_most(vi a)
{
    return a;
}

/* The code of a list (n codes, 16 words readable) with the smallest Σ term[i][level i], added in
 * order, the first of equals; 0xffff when no sum is below FLT_MAX. terms: 32 floats per lane,
 * `dims` tables of 4 or 8. */
static inline __attribute__((always_inline)) unsigned lanes_nearest(const float *terms, int lane,
                                                                    int bits, int dims,
                                                                    const uint16_t *codes, int n)
{
    float best = 3.402823466e+38f;
    unsigned code = 0xffff;
    int levels = 1 << bits;
    (void)lane;
    for (int j = 0; j < n; j++) {
        float sum = 0;
        for (int i = 0; i < dims; i++)
            sum += terms[i * levels + ((codes[j] >> (bits * i)) & (levels - 1))];
        if (sum < best) {
            best = sum;
            code = codes[j];
        }
    }
    return code;
}
/* Turns rows of lanes into lanes of rows: 32 vectors stored in a row become, per lane, 32
 * floats. */
static inline __attribute__((always_inline)) void lanes_turn32(const float *rows, float *terms)
{
    memcpy(terms, rows, 32 * sizeof *terms);
}

/* ---- consecutive weights of one block in a vector ----
 * lanes_from_*: LANES stored numbers at any address. lanes_fold_*: lane b is the largest
 * (smallest) of vector b. lanes_away: trunc(of it) is roundf(a), for |a| < 2²². level[]: 32 levels,
 * consecutive; a nibble holds level i low and level i + 16 high, the low four bits of each. */
static inline vf lanes_from_bf16(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return convert_bf16_to_f32(h);
}
static inline vf lanes_from_f16(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return convert_f16_to_f32(h);
}
static inline vf lanes_fold_max(const vf *v)
{
    return v[0];
}
static inline vf lanes_fold_min(const vf *v)
{
    return v[0];
}
static inline vf lanes_away(vf a)
{
    return a + copysignf(0x1.fffffep-2f, a);
}
static inline void lanes_put_nibbles(uint8_t *dst, const vi *level)
{
    for (int i = 0; i < 16; i++)
        dst[i] = (uint8_t)((level[i] & 15) | (level[i + 16] & 15) << 4);
}
static inline void lanes_put_bytes(uint8_t *dst, const vi *level)
{
    for (int i = 0; i < 32; i++)
        dst[i] = (uint8_t)level[i];
}
/* Bit 4 of every level. */
static inline uint32_t lanes_fifth_bits(const vi *level)
{
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++)
        bits |= ((uint32_t)level[i] >> 4 & 1) << i;
    return bits;
}
/* Of 32 columns, which are consecutive: column c + n is added to column c for n = 16, 8, 4, 2,
 * 1. */
static inline float lanes_total(const vf *column)
{
    float sum[32];
    memcpy(sum, column, sizeof sum);
    for (int n = 16; n; n /= 2)
        for (int c = 0; c < n; c++)
            sum[c] += sum[c + n];
    return sum[0];
}

#endif
