/* Lanes on AArch64 NEON: 4 blocks side by side. The meaning of every operation is in
 * lanes_ref_int.h. */
#ifndef QUANT_LANES_NEON_INT_H
#define QUANT_LANES_NEON_INT_H

#include <arm_neon.h>
#include <stdint.h>

#if defined(__clang__)
#define LANES_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LANES_UNROLL _Pragma("GCC unroll 8")
#endif

enum { LANES = 4 };
typedef float32x4_t vf;
typedef int32x4_t vi;
typedef uint32x4_t vm; /* all bits of a lane set or clear */

static inline vf vf_set(float a)
{
    return vdupq_n_f32(a);
}
static inline vf vf_load(const float *p)
{
    return vld1q_f32(p);
}
static inline void vf_store(float *p, vf a)
{
    vst1q_f32(p, a);
}
static inline vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return vdivq_f32(a, b);
}
static inline vf vf_sqrt(vf a)
{
    return vsqrtq_f32(a);
}
/* Not vminq/vmaxq: those propagate NaN and order zeros. */
static inline vf vf_min(vf a, vf b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline vi vi_bits(vf a)
{
    return vreinterpretq_s32_f32(a);
}
static inline vf vf_bits(vi a)
{
    return vreinterpretq_f32_s32(a);
}
static inline vi vi_set(int32_t a)
{
    return vdupq_n_s32(a);
}
static inline vi vi_load(const int32_t *p)
{
    return vld1q_s32(p);
}
static inline void vi_store(int32_t *p, vi a)
{
    vst1q_s32(p, a);
}
static inline vi vi_add(vi a, vi b)
{
    return vaddq_s32(a, b);
}
static inline vi vi_sub(vi a, vi b)
{
    return vsubq_s32(a, b);
}
static inline vi vi_and(vi a, vi b)
{
    return vandq_s32(a, b);
}
static inline vi vi_or(vi a, vi b)
{
    return vorrq_s32(a, b);
}
static inline vi vi_xor(vi a, vi b)
{
    return veorq_s32(a, b);
}
static inline vi vi_min(vi a, vi b)
{
    return vminq_s32(a, b);
}
static inline vi vi_max(vi a, vi b)
{
    return vmaxq_s32(a, b);
}
static inline vi vi_sll(vi a, int n)
{
    return vshlq_s32(a, vdupq_n_s32(n));
}
static inline vi vi_srl(vi a, int n)
{
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n)));
}
static inline vi vi_sra(vi a, int n)
{
    return vshlq_s32(a, vdupq_n_s32(-n));
}
static inline vf vf_of(vi a)
{
    return vcvtq_f32_s32(a);
}
/* vcvtq saturates; x86 gives INT32_MIN for everything out of range. */
static inline vi vi_trunc(vf a)
{
    vm in_range = vandq_u32(vcgeq_f32(a, vdupq_n_f32(-2147483648.0f)),
                            vcltq_f32(a, vdupq_n_f32(2147483648.0f)));
    return vbslq_s32(in_range, vcvtq_s32_f32(a), vdupq_n_s32(INT32_MIN));
}
static inline vm vf_lt(vf a, vf b)
{
    return vcltq_f32(a, b);
}
static inline vm vf_le(vf a, vf b)
{
    return vcleq_f32(a, b);
}
static inline vm vf_eq(vf a, vf b)
{
    return vceqq_f32(a, b);
}
static inline vm vi_eq(vi a, vi b)
{
    return vceqq_s32(a, b);
}
static inline vm vi_lt(vi a, vi b)
{
    return vcltq_s32(a, b);
}
static inline vf vf_sel(vm m, vf a, vf b)
{
    return vbslq_f32(m, a, b);
}
static inline vi vi_sel(vm m, vi a, vi b)
{
    return vbslq_s32(m, a, b);
}
static inline vm vm_and(vm a, vm b)
{
    return vandq_u32(a, b);
}
static inline vm vm_or(vm a, vm b)
{
    return vorrq_u32(a, b);
}
static inline vm vm_not(vm a)
{
    return vmvnq_u32(a);
}
static inline int vm_any(vm a)
{
    return vmaxvq_u32(a) != 0;
}
static inline int vm_all(vm a)
{
    return vminvq_u32(a) != 0;
}
static inline vi vi_gather(const int32_t *table, vi index)
{
    int32_t i[4], v[4];
    vst1q_s32(i, index);
    for (int lane = 0; lane < 4; lane++)
        v[lane] = table[i[lane]];
    return vld1q_s32(v);
}
static inline vf vf_lookup16(const float *table, vi index)
{
    int32_t i[4];
    float v[4];
    vst1q_s32(i, index);
    for (int lane = 0; lane < 4; lane++)
        v[lane] = table[i[lane]];
    return vld1q_f32(v);
}
static inline void lanes_transpose(const float *const *src, float *dst, int n)
{
    for (int i = 0; i < n; i++)
        for (int lane = 0; lane < LANES; lane++)
            dst[i * LANES + lane] = src[lane][i];
}

static inline vf lanes_half(vf a, uint16_t *half)
{
    float16x4_t h = vcvt_f16_f32(a);
    vst1_u16(half, vreinterpret_u16_f16(h));
    return vcvt_f32_f16(h);
}
static inline void lanes_put_words4(uint8_t *const *dst, int at, const int32_t *words)
{
    int32x4x2_t ac = vzipq_s32(vi_load(words), vi_load(words + 8));
    int32x4x2_t bd = vzipq_s32(vi_load(words + 4), vi_load(words + 12));
    int32x4x2_t low = vzipq_s32(ac.val[0], bd.val[0]), high = vzipq_s32(ac.val[1], bd.val[1]);
    vst1q_u8(dst[0] + at, vreinterpretq_u8_s32(low.val[0]));
    vst1q_u8(dst[1] + at, vreinterpretq_u8_s32(low.val[1]));
    vst1q_u8(dst[2] + at, vreinterpretq_u8_s32(high.val[0]));
    vst1q_u8(dst[3] + at, vreinterpretq_u8_s32(high.val[1]));
}
static inline void lanes_words8(const uint16_t *table, vi place, vi *word)
{
    uint16x8_t r[4];
    int32_t at[4];
    vst1q_s32(at, place);
    for (int lane = 0; lane < 4; lane++)
        r[lane] = vld1q_u16(table + at[lane]);
    uint16x8x2_t a = vzipq_u16(r[0], r[2]), b = vzipq_u16(r[1], r[3]);
    for (int half = 0; half < 2; half++) {
        uint16x8x2_t c = vzipq_u16(a.val[half], b.val[half]);
        for (int k = 0; k < 2; k++) {
            word[4 * half + 2 * k] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(c.val[k])));
            word[4 * half + 2 * k + 1] = vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(c.val[k])));
        }
    }
}
static inline vf vf_odd(vi code, int mask)
{
    vi l = vandq_s32(code, vdupq_n_s32(mask));
    return vcvtq_f32_s32(vaddq_s32(vaddq_s32(l, l), vdupq_n_s32(1)));
}
static inline int32_t vi_most(vi a)
{
    return vmaxvq_s32(a);
}

static inline __attribute__((always_inline)) unsigned lanes_nearest(const float *terms, int lane,
                                                                    int bits, int dims,
                                                                    const uint16_t *codes, int n)
{
    float best = 3.402823466e+38f;
    unsigned code = 0xffff;
    unsigned levels = 1u << bits;
    const float *t = terms + 32 * lane;
    for (int j = 0; j < n; j++) {
        float sum = 0;
        for (int i = 0; i < dims; i++)
            sum += t[(unsigned)i * levels + ((unsigned)(codes[j] >> (bits * i)) & (levels - 1))];
        if (sum < best) {
            best = sum;
            code = codes[j];
        }
    }
    return code;
}
static inline __attribute__((always_inline)) void lanes_turn32(const float *rows, float *terms)
{
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < 32; i++)
            terms[32 * lane + i] = rows[i * LANES + lane];
}

/* ---- consecutive weights of one block in a vector ---- */

static inline uint16x4_t lanes_load16(const uint8_t *p)
{
    return vreinterpret_u16_u8(vld1_u8(p));
}
static inline vf lanes_from_bf16(const uint8_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(lanes_load16(p), 16));
}
static inline vf lanes_from_f16(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(lanes_load16(p)));
}
static inline vf lanes_fold_max(const vf *v)
{
    return vpmaxq_f32(vpmaxq_f32(v[0], v[1]), vpmaxq_f32(v[2], v[3]));
}
static inline vf lanes_fold_min(const vf *v)
{
    return vpminq_f32(vpminq_f32(v[0], v[1]), vpminq_f32(v[2], v[3]));
}
static inline vf lanes_away(vf a)
{
    uint32x4_t sign = vdupq_n_u32(0x80000000u);
    return vaddq_f32(a, vbslq_f32(sign, a, vdupq_n_f32(0x1.fffffep-2f)));
}
/* The low bytes of four vectors. */
static inline uint8x16_t lanes_bytes16(const vi *v)
{
    int16x8_t a = vcombine_s16(vmovn_s32(v[0]), vmovn_s32(v[1]));
    int16x8_t b = vcombine_s16(vmovn_s32(v[2]), vmovn_s32(v[3]));
    return vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(a), vmovn_s16(b)));
}
static inline void lanes_put_nibbles(uint8_t *dst, const vi *level)
{
    uint8x16_t low = vandq_u8(lanes_bytes16(level), vdupq_n_u8(15));
    vst1q_u8(dst, vorrq_u8(low, vshlq_n_u8(lanes_bytes16(level + 4), 4)));
}
static inline void lanes_put_bytes(uint8_t *dst, const vi *level)
{
    vst1q_u8(dst, lanes_bytes16(level));
    vst1q_u8(dst + 16, lanes_bytes16(level + 4));
}
static inline uint32_t lanes_fifth_bits(const vi *level)
{
    const uint8x8_t weight = vcreate_u8(0x8040201008040201u);
    uint32_t bits = 0;
    for (int half = 0; half < 2; half++) {
        uint8x16_t set = vtstq_u8(lanes_bytes16(level + 4 * half), vdupq_n_u8(16));
        uint32_t low = vaddv_u8(vand_u8(vget_low_u8(set), weight));
        uint32_t high = vaddv_u8(vand_u8(vget_high_u8(set), weight));
        bits |= (low | high << 8) << 16 * half;
    }
    return bits;
}
static inline float lanes_total(const vf *column)
{
    vf a[4];
    for (int i = 0; i < 4; i++)
        a[i] = vaddq_f32(column[i], column[i + 4]);
    vf b = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
    float32x2_t c = vadd_f32(vget_low_f32(b), vget_high_f32(b));
    return vget_lane_f32(c, 0) + vget_lane_f32(c, 1);
}

#endif
