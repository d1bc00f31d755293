/* Lanes on AVX-512 (F, BW, DQ, VL): 16 blocks side by side. The meaning of every operation is in
 * lanes_ref_int.h. */
#ifndef QUANT_LANES_AVX512_INT_H
#define QUANT_LANES_AVX512_INT_H

#include <immintrin.h>
#include <stdint.h>

/* Short loops over a register file's worth of tables must be unrolled to stay in registers. */
#if defined(__clang__)
#define LANES_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LANES_UNROLL _Pragma("GCC unroll 8")
#endif

enum { LANES = 16 };
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

static inline vf vf_set(float a)
{
    return _mm512_set1_ps(a);
}
static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
static inline vf vf_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}
static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline vi vi_bits(vf a)
{
    return _mm512_castps_si512(a);
}
static inline vf vf_bits(vi a)
{
    return _mm512_castsi512_ps(a);
}
static inline vi vi_set(int32_t a)
{
    return _mm512_set1_epi32(a);
}
static inline vi vi_load(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}
static inline void vi_store(int32_t *p, vi a)
{
    _mm512_storeu_si512(p, a);
}
static inline vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
static inline vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
static inline vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
static inline vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}
static inline vi vi_min(vi a, vi b)
{
    return _mm512_min_epi32(a, b);
}
static inline vi vi_max(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}
#define vi_sll(a, n) _mm512_slli_epi32((a), (unsigned)(n))
#define vi_srl(a, n) _mm512_srli_epi32((a), (unsigned)(n))
#define vi_sra(a, n) _mm512_srai_epi32((a), (unsigned)(n))
static inline vf vf_of(vi a)
{
    return _mm512_cvtepi32_ps(a);
}
static inline vi vi_trunc(vf a)
{
    return _mm512_cvttps_epi32(a);
}
static inline vm vf_lt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline vm vf_le(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
static inline vm vf_eq(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
static inline vm vi_eq(vi a, vi b)
{
    return _mm512_cmpeq_epi32_mask(a, b);
}
static inline vm vi_lt(vi a, vi b)
{
    return _mm512_cmplt_epi32_mask(a, b);
}
static inline vf vf_sel(vm m, vf a, vf b)
{
    return _mm512_mask_blend_ps(m, b, a);
}
static inline vi vi_sel(vm m, vi a, vi b)
{
    return _mm512_mask_blend_epi32(m, b, a);
}
static inline vm vm_and(vm a, vm b)
{
    return (vm)(a & b);
}
static inline vm vm_or(vm a, vm b)
{
    return (vm)(a | b);
}
static inline vm vm_not(vm a)
{
    return (vm)~a;
}
static inline int vm_any(vm a)
{
    return a != 0;
}
static inline int vm_all(vm a)
{
    return a == 0xffff;
}
static inline vi vi_gather(const int32_t *table, vi index)
{
    return _mm512_i32gather_epi32(index, table, 4);
}
/* table holds 16 entries. */
static inline vf vf_lookup16(const float *table, vi index)
{
    return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
}

/* 16x16 transpose: dst[i*LANES + lane] = src[lane][i] for i in [0, 16). */
static inline void lanes_transpose16(const float *const *src, float *dst)
{
    __m512 r[16], t[16];
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_ps(src[i]);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_ps(dst + i * 16, _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88));
        _mm512_storeu_ps(dst + (i + 4) * 16, _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88));
        _mm512_storeu_ps(dst + (i + 8) * 16, _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd));
        _mm512_storeu_ps(dst + (i + 12) * 16, _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd));
    }
}

static inline void lanes_transpose(const float *const *src, float *dst, int n)
{
    const float *p[LANES];
    for (int i = 0; i < n; i += 16) {
        for (int lane = 0; lane < LANES; lane++) {
            p[lane] = src[lane] + i;
            __builtin_prefetch(p[lane] +
                               64); /* sixteen rows are too many for the processor's own */
        }
        lanes_transpose16(p, dst + i * LANES);
    }
}

static inline vf lanes_half(vf a, uint16_t *half)
{
    __m256i h = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256((__m256i *)(void *)half, h);
    return _mm512_cvtph_ps(h);
}
static inline __attribute__((always_inline)) void lanes_put_words4(uint8_t *const *dst, int at,
                                                                   const int32_t *words)
{
    vi a = vi_load(words), b = vi_load(words + 16), c = vi_load(words + 32);
    vi d = vi_load(words + 48), r[4];
    vi ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
    r[0] = _mm512_unpacklo_epi64(ab, cd);
    r[1] = _mm512_unpackhi_epi64(ab, cd);
    ab = _mm512_unpackhi_epi32(a, b);
    cd = _mm512_unpackhi_epi32(c, d);
    r[2] = _mm512_unpacklo_epi64(ab, cd);
    r[3] = _mm512_unpackhi_epi64(ab, cd);
    LANES_UNROLL
    for (int k = 0; k < 4; k++) {
        _mm_storeu_si128((__m128i *)(void *)(dst[k] + at), _mm512_castsi512_si128(r[k]));
        _mm_storeu_si128((__m128i *)(void *)(dst[k + 4] + at), _mm512_extracti32x4_epi32(r[k], 1));
        _mm_storeu_si128((__m128i *)(void *)(dst[k + 8] + at), _mm512_extracti32x4_epi32(r[k], 2));
        _mm_storeu_si128((__m128i *)(void *)(dst[k + 12] + at), _mm512_extracti32x4_epi32(r[k], 3));
    }
}

/* Lanes 8 apart share a register, so that one transpose of 8x8 words serves both halves. */
static inline __attribute__((always_inline)) void lanes_words8(const uint16_t *table, vi place,
                                                               vi *word)
{
    int32_t at[16];
    __m256i r[8], a[8];
    vi_store(at, place);
    LANES_UNROLL
    for (int i = 0; i < 8; i++) {
        __m128i low = _mm_loadu_si128((const __m128i *)(const void *)(table + at[i]));
        __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(table + at[i + 8]));
        r[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    }
    LANES_UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi16(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi16(r[i], r[i + 1]);
    }
    LANES_UNROLL
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_unpacklo_epi32(a[i], a[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi32(a[i + 1], a[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
    LANES_UNROLL
    for (int i = 0; i < 4; i++) {
        word[2 * i] = _mm512_cvtepu16_epi32(_mm256_unpacklo_epi64(r[i], r[i + 4]));
        word[2 * i + 1] = _mm512_cvtepu16_epi32(_mm256_unpackhi_epi64(r[i], r[i + 4]));
    }
}
static inline vf vf_odd(vi code, int mask)
{
    vf odd = mask == 3 ? _mm512_setr_ps(1, 3, 5, 7, 1, 3, 5, 7, 1, 3, 5, 7, 1, 3, 5, 7)
                       : _mm512_setr_ps(1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15);
    return _mm512_permutexvar_ps(code, odd);
}
static inline int32_t vi_most(vi a)
{
    return _mm512_reduce_max_epi32(a);
}

/* Sixteen codes at a time: the term tables are repeated over the register, so that the shifted code
 * itself is the index (a permute reads its low four bits only). */
static inline __attribute__((always_inline)) unsigned lanes_nearest(const float *terms, int lane,
                                                                    int bits, int dims,
                                                                    const uint16_t *codes, int n)
{
    vf table[8], best = _mm512_set1_ps(3.402823466e+38f);
    vi where = _mm512_set1_epi32(-1),
       at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const float *t = terms + 32 * lane;
    LANES_UNROLL
    for (int i = 0; i < dims; i++)
        table[i] = bits == 2 ? _mm512_broadcast_f32x4(_mm_loadu_ps(t + 4 * i))
                             : _mm512_broadcast_f32x8(_mm256_loadu_ps(t + 8 * i));
    for (int j = 0; j < n; j += 16) {
        vi code = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(codes + j)));
        vf sum = _mm512_setzero_ps();
        LANES_UNROLL
        for (int i = 0; i < dims; i++) {
            sum = _mm512_add_ps(sum, _mm512_permutexvar_ps(code, table[i]));
            code = _mm512_srli_epi32(code, (unsigned)bits);
        }
        vm used = n - j < 16 ? (vm)((1u << (n - j)) - 1) : (vm)0xffff;
        vm better = _mm512_mask_cmp_ps_mask(used, sum, best, _CMP_LT_OQ);
        best = _mm512_mask_blend_ps(better, best, sum);
        where = _mm512_mask_blend_epi32(better, where, at);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(16));
    }
    float least = _mm512_reduce_min_ps(best);
    vm equal = _mm512_cmp_ps_mask(best, _mm512_set1_ps(least), _CMP_EQ_OQ);
    int32_t place[16];
    vi_store(place, where);
    int32_t first = place[__builtin_ctz((unsigned)equal | 0x10000u) & 15];
    for (unsigned rest = equal & (equal - 1u); rest; rest &= rest - 1)
        if (place[__builtin_ctz(rest)] < first)
            first = place[__builtin_ctz(rest)];
    return first < 0 ? 0xffff : codes[first];
}

static inline __attribute__((always_inline)) void lanes_turn32(const float *rows, float *terms)
{
    const float *p[16];
    float block[256];
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 16; i++)
            p[i] = rows + (half * 16 + i) * 16;
        lanes_transpose16(p, block);
        for (int lane = 0; lane < 16; lane++)
            _mm512_storeu_ps(terms + 32 * lane + 16 * half, _mm512_loadu_ps(block + 16 * lane));
    }
}

/* ---- consecutive weights of one block in a vector ---- */

static inline vf lanes_from_bf16(const uint8_t *p)
{
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return vf_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline vf lanes_from_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
/* Sixteen vectors to one in four halvings. A blend takes the place of a shuffle where it can, as
 * only one port shuffles. What comes out is in the order of `order`. */
#define LANES_FOLD16(name, op)                                                                     \
    static inline __attribute__((always_inline)) vf name(const vf *v)                              \
    {                                                                                              \
        const vi order = _mm512_setr_epi32(0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15);  \
        vf r[8], t[4], u[2];                                                                       \
        LANES_UNROLL                                                                               \
        for (int i = 0; i < 8; i++)                                                                \
            r[i] = op(_mm512_mask_blend_ps(0xff00, v[i], v[i + 8]),                                \
                      _mm512_shuffle_f32x4(v[i], v[i + 8], 0x4e));                                 \
        LANES_UNROLL                                                                               \
        for (int i = 0; i < 4; i++)                                                                \
            t[i] = op(_mm512_mask_blend_ps(0xcccc, r[i], r[i + 4]),                                \
                      _mm512_shuffle_ps(r[i], r[i + 4], 0x4e));                                    \
        LANES_UNROLL                                                                               \
        for (int i = 0; i < 2; i++)                                                                \
            u[i] = op(_mm512_shuffle_f32x4(t[i], t[i + 2], 0x88),                                  \
                      _mm512_shuffle_f32x4(t[i], t[i + 2], 0xdd));                                 \
        return _mm512_permutexvar_ps(                                                              \
            order, op(_mm512_shuffle_ps(u[0], u[1], 0x88), _mm512_shuffle_ps(u[0], u[1], 0xdd)));  \
    }
LANES_FOLD16(lanes_fold_max, _mm512_max_ps)
LANES_FOLD16(lanes_fold_min, _mm512_min_ps)

static inline vf lanes_away(vf a)
{
    vi sign = _mm512_set1_epi32(INT32_MIN), half = vi_bits(_mm512_set1_ps(0x1.fffffep-2f));
    return _mm512_add_ps(a, vf_bits(_mm512_ternarylogic_epi32(vi_bits(a), half, sign, 0xec)));
}
static inline void lanes_put_nibbles(uint8_t *dst, const vi *level)
{
    vi high = _mm512_slli_epi32(level[1], 4), mask = _mm512_set1_epi32(15);
    vi both = _mm512_ternarylogic_epi32(level[0], high, mask, 0xec);
    _mm_storeu_si128((__m128i *)(void *)dst, _mm512_cvtepi32_epi8(both));
}
static inline void lanes_put_bytes(uint8_t *dst, const vi *level)
{
    _mm_storeu_si128((__m128i *)(void *)dst, _mm512_cvtepi32_epi8(level[0]));
    _mm_storeu_si128((__m128i *)(void *)(dst + 16), _mm512_cvtepi32_epi8(level[1]));
}
static inline uint32_t lanes_fifth_bits(const vi *level)
{
    vi bit = _mm512_set1_epi32(16);
    return (uint32_t)_mm512_test_epi32_mask(level[0], bit) |
           (uint32_t)_mm512_test_epi32_mask(level[1], bit) << 16;
}
static inline float lanes_total(const vf *column)
{
    vf a = _mm512_add_ps(column[0], column[1]);
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

#endif
