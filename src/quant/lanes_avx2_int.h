/* Lanes on AVX2: 8 blocks side by side. The meaning of every operation is in lanes_ref_int.h. */
#ifndef QUANT_LANES_AVX2_INT_H
#define QUANT_LANES_AVX2_INT_H

#include <immintrin.h>
#include <stdint.h>

/* Short loops over a register file's worth of tables must be unrolled to stay in registers. */
#if defined(__clang__)
#define LANES_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LANES_UNROLL _Pragma("GCC unroll 8")
#endif

enum { LANES = 8 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm; /* all bits of a lane set or clear */

static inline vf vf_set(float a)
{
    return _mm256_set1_ps(a);
}
static inline vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
static inline vf vf_sqrt(vf a)
{
    return _mm256_sqrt_ps(a);
}
static inline vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
static inline vi vi_bits(vf a)
{
    return _mm256_castps_si256(a);
}
static inline vf vf_bits(vi a)
{
    return _mm256_castsi256_ps(a);
}
static inline vi vi_set(int32_t a)
{
    return _mm256_set1_epi32(a);
}
static inline vi vi_load(const int32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline void vi_store(int32_t *p, vi a)
{
    _mm256_storeu_si256((__m256i *)p, a);
}
static inline vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}
static inline vi vi_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}
static inline vi vi_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}
static inline vi vi_xor(vi a, vi b)
{
    return _mm256_xor_si256(a, b);
}
static inline vi vi_min(vi a, vi b)
{
    return _mm256_min_epi32(a, b);
}
static inline vi vi_max(vi a, vi b)
{
    return _mm256_max_epi32(a, b);
}
#define vi_sll(a, n) _mm256_slli_epi32((a), (n))
#define vi_srl(a, n) _mm256_srli_epi32((a), (n))
#define vi_sra(a, n) _mm256_srai_epi32((a), (n))
static inline vf vf_of(vi a)
{
    return _mm256_cvtepi32_ps(a);
}
static inline vi vi_trunc(vf a)
{
    return _mm256_cvttps_epi32(a);
}
static inline vm vf_lt(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
static inline vm vf_le(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_LE_OQ);
}
static inline vm vf_eq(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
static inline vm vi_eq(vi a, vi b)
{
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b));
}
static inline vm vi_lt(vi a, vi b)
{
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a));
}
static inline vf vf_sel(vm m, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, m);
}
static inline vi vi_sel(vm m, vi a, vi b)
{
    return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(b), _mm256_castsi256_ps(a), m));
}
static inline vm vm_and(vm a, vm b)
{
    return _mm256_and_ps(a, b);
}
static inline vm vm_or(vm a, vm b)
{
    return _mm256_or_ps(a, b);
}
static inline vm vm_not(vm a)
{
    return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
}
static inline int vm_any(vm a)
{
    return _mm256_movemask_ps(a) != 0;
}
static inline int vm_all(vm a)
{
    return _mm256_movemask_ps(a) == 0xff;
}
static inline vi vi_gather(const int32_t *table, vi index)
{
    return _mm256_i32gather_epi32(table, index, 4);
}
static inline vf vf_lookup16(const float *table, vi index)
{
    vf low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
    vf high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

static inline void lanes_transpose8(const float *const *src, int at, float *dst)
{
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++)
        r[i] = _mm256_loadu_ps(src[i] + at);
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(dst + i * 8, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(dst + (i + 4) * 8, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

static inline void lanes_transpose(const float *const *src, float *dst, int n)
{
    for (int i = 0; i < n; i += 8)
        lanes_transpose8(src, i, dst + i * LANES);
}

static inline vf lanes_half(vf a, uint16_t *half)
{
    __m128i h = _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128((__m128i *)(void *)half, h);
    return _mm256_cvtph_ps(h);
}
static inline __attribute__((always_inline)) void lanes_put_words4(uint8_t *const *dst, int at,
                                                                   const int32_t *words)
{
    vi a = vi_load(words), b = vi_load(words + 8), c = vi_load(words + 16);
    vi d = vi_load(words + 24), r[4];
    vi ab = _mm256_unpacklo_epi32(a, b), cd = _mm256_unpacklo_epi32(c, d);
    r[0] = _mm256_unpacklo_epi64(ab, cd);
    r[1] = _mm256_unpackhi_epi64(ab, cd);
    ab = _mm256_unpackhi_epi32(a, b);
    cd = _mm256_unpackhi_epi32(c, d);
    r[2] = _mm256_unpacklo_epi64(ab, cd);
    r[3] = _mm256_unpackhi_epi64(ab, cd);
    LANES_UNROLL
    for (int k = 0; k < 4; k++) {
        _mm_storeu_si128((__m128i *)(void *)(dst[k] + at), _mm256_castsi256_si128(r[k]));
        _mm_storeu_si128((__m128i *)(void *)(dst[k + 4] + at), _mm256_extracti128_si256(r[k], 1));
    }
}
static inline __attribute__((always_inline)) void lanes_words8(const uint16_t *table, vi place,
                                                               vi *word)
{
    int32_t at[8];
    __m128i r[8], a[8];
    vi_store(at, place);
    LANES_UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = _mm_loadu_si128((const __m128i *)(const void *)(table + at[i]));
    LANES_UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm_unpacklo_epi16(r[i], r[i + 1]);
        a[i + 1] = _mm_unpackhi_epi16(r[i], r[i + 1]);
    }
    LANES_UNROLL
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm_unpacklo_epi32(a[i], a[i + 2]);
        r[i + 1] = _mm_unpackhi_epi32(a[i], a[i + 2]);
        r[i + 2] = _mm_unpacklo_epi32(a[i + 1], a[i + 3]);
        r[i + 3] = _mm_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
    LANES_UNROLL
    for (int i = 0; i < 4; i++) {
        word[2 * i] = _mm256_cvtepu16_epi32(_mm_unpacklo_epi64(r[i], r[i + 4]));
        word[2 * i + 1] = _mm256_cvtepu16_epi32(_mm_unpackhi_epi64(r[i], r[i + 4]));
    }
}
static inline vf vf_odd(vi code, int mask)
{
    vf odd = mask == 3 ? _mm256_setr_ps(1, 3, 5, 7, 1, 3, 5, 7)
                       : _mm256_setr_ps(1, 3, 5, 7, 9, 11, 13, 15);
    return _mm256_permutevar8x32_ps(odd, code);
}
static inline int32_t vi_most(vi a)
{
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}

/* Eight codes at a time: the term tables are repeated over the register, so that the shifted code
 * itself is the index (a permute reads its low three bits only). */
static inline __attribute__((always_inline)) unsigned lanes_nearest(const float *terms, int lane,
                                                                    int bits, int dims,
                                                                    const uint16_t *codes, int n)
{
    vf table[8], best = _mm256_set1_ps(3.402823466e+38f);
    vi where = _mm256_set1_epi32(-1), at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const float *t = terms + 32 * lane;
    LANES_UNROLL
    for (int i = 0; i < dims; i++)
        table[i] = bits == 2 ? _mm256_broadcast_ps((const __m128 *)(const void *)(t + 4 * i))
                             : _mm256_loadu_ps(t + 8 * i);
    for (int j = 0; j < n; j += 8) {
        vi code = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(codes + j)));
        vf sum = _mm256_setzero_ps();
        LANES_UNROLL
        for (int i = 0; i < dims; i++) {
            sum = _mm256_add_ps(sum, _mm256_permutevar8x32_ps(table[i], code));
            code = _mm256_srli_epi32(code, bits);
        }
        vm better = vm_and(_mm256_cmp_ps(sum, best, _CMP_LT_OQ), vi_lt(at, vi_set(n)));
        best = _mm256_blendv_ps(best, sum, better);
        where = vi_sel(better, at, where);
        at = _mm256_add_epi32(at, _mm256_set1_epi32(8));
    }
    int32_t place[8];
    vi_store(place, where);
    vf least = _mm256_min_ps(best, _mm256_permute2f128_ps(best, best, 1));
    least = _mm256_min_ps(least, _mm256_shuffle_ps(least, least, 0x4e));
    least = _mm256_min_ps(least, _mm256_shuffle_ps(least, least, 0xb1));
    unsigned equal = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(best, least, _CMP_EQ_OQ));
    int32_t first = place[__builtin_ctz(equal | 0x100u) & 7];
    for (unsigned rest = equal & (equal - 1u); rest; rest &= rest - 1)
        if (place[__builtin_ctz(rest)] < first)
            first = place[__builtin_ctz(rest)];
    return first < 0 ? 0xffff : codes[first];
}

static inline __attribute__((always_inline)) void lanes_turn32(const float *rows, float *terms)
{
    const float *p[8];
    float block[64];
    for (int part = 0; part < 4; part++) {
        for (int i = 0; i < 8; i++)
            p[i] = rows + (part * 8 + i) * 8;
        lanes_transpose8(p, 0, block);
        for (int lane = 0; lane < 8; lane++)
            _mm256_storeu_ps(terms + 32 * lane + 8 * part, _mm256_loadu_ps(block + 8 * lane));
    }
}

/* ---- consecutive weights of one block in a vector ---- */

static inline vf lanes_from_bf16(const uint8_t *p)
{
    __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return vf_bits(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline vf lanes_from_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
/* Eight vectors to one in three halvings. */
#define LANES_FOLD8(name, op)                                                                      \
    static inline __attribute__((always_inline)) vf name(const vf *v)                              \
    {                                                                                              \
        vf r[4], t[2];                                                                             \
        LANES_UNROLL                                                                               \
        for (int i = 0; i < 4; i++)                                                                \
            r[i] = op(_mm256_blend_ps(v[i], v[i + 4], 0xf0),                                       \
                      _mm256_permute2f128_ps(v[i], v[i + 4], 0x21));                               \
        LANES_UNROLL                                                                               \
        for (int i = 0; i < 2; i++)                                                                \
            t[i] = op(_mm256_blend_ps(r[i], r[i + 2], 0xcc),                                       \
                      _mm256_shuffle_ps(r[i], r[i + 2], 0x4e));                                    \
        vf u = op(_mm256_shuffle_ps(t[0], t[1], 0x88), _mm256_shuffle_ps(t[0], t[1], 0xdd));       \
        return _mm256_permute_ps(u, 0xd8);                                                         \
    }
LANES_FOLD8(lanes_fold_max, _mm256_max_ps)
LANES_FOLD8(lanes_fold_min, _mm256_min_ps)

static inline vf lanes_away(vf a)
{
    vf sign = _mm256_and_ps(a, _mm256_set1_ps(-0.0f));
    return _mm256_add_ps(a, _mm256_or_ps(sign, _mm256_set1_ps(0x1.fffffep-2f)));
}
static inline void lanes_put_nibbles(uint8_t *dst, const vi *level)
{
    vi low = _mm256_set1_epi32(15), high = _mm256_set1_epi32(0xf0);
    vi a = _mm256_or_si256(_mm256_and_si256(level[0], low),
                           _mm256_and_si256(_mm256_slli_epi32(level[2], 4), high));
    vi b = _mm256_or_si256(_mm256_and_si256(level[1], low),
                           _mm256_and_si256(_mm256_slli_epi32(level[3], 4), high));
    vi w = _mm256_packus_epi32(a, b);
    w = _mm256_packus_epi16(w, w);
    _mm_storeu_si128((__m128i *)(void *)dst,
                     _mm_unpacklo_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
static inline void lanes_put_bytes(uint8_t *dst, const vi *level)
{
    vi a = _mm256_packs_epi32(level[0], level[1]), b = _mm256_packs_epi32(level[2], level[3]);
    vi order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    vi bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
    _mm256_storeu_si256((__m256i *)(void *)dst, bytes);
}
static inline uint32_t lanes_fifth_bits(const vi *level)
{
    uint32_t bits = 0;
    LANES_UNROLL
    for (int i = 0; i < 4; i++)
        bits |= (uint32_t)_mm256_movemask_ps(vf_bits(_mm256_slli_epi32(level[i], 27))) << 8 * i;
    return bits;
}
static inline float lanes_total(const vf *column)
{
    __m256 b =
        _mm256_add_ps(_mm256_add_ps(column[0], column[2]), _mm256_add_ps(column[1], column[3]));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

#endif
