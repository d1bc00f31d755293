/* Conversions between plain element types and F32.
 *
 * Baking reads every weight through here once per candidate, so the loops must run at memory speed
 * on any CPU the program starts on. They work on fixed chunks of 16 elements, because a constant
 * trip count lets both compilers vectorise at -O2. A mapped file promises no alignment: odd
 * addresses go through a small aligned buffer. Source and destination must not overlap. Every
 * conversion is branch-free: masks choose between the normal, subnormal and non-finite results.
 * Rounding is to nearest even with integer arithmetic, so that no floating point mode or
 * contraction can change a bit. F8 formats: OCP 8-bit Floating Point Specification (OFP8) 1.0.
 */
#include "tensor/convert.h"

#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "base/banned.h"

enum { CHUNK = 16, BOUNCE = 512 };

/* Forced, because gcc otherwise keeps calls between functions of different targets (see LOOP). */
#define INLINE static inline __attribute__((always_inline))

INLINE float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

INLINE uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

/* All ones where the condition holds, so that (mask & a) | (~mask & b) chooses without a branch. */
INLINE uint32_t mask_if(int condition)
{
    return (uint32_t)-condition;
}

INLINE uint32_t choose(uint32_t mask, uint32_t yes, uint32_t no)
{
    return (mask & yes) | (~mask & no);
}

/* Widens a small float given without its sign and shifted so that its mantissa starts at bit 22.
 * `rebias` = (127 - bias) << 23; `special` = the smallest shifted pattern of infinity and NaN. */
INLINE uint32_t widen(uint32_t shifted, uint32_t rebias, uint32_t special)
{
    uint32_t normal = shifted + rebias;
    /* Non-finite: the exponent field must become 255, which is one more rebias. */
    uint32_t wide = normal + (mask_if(shifted >= special) & rebias);
    /* Subnormal: give the mantissa the smallest normal exponent, then subtract what that added. */
    uint32_t one = rebias + (1u << 23);
    float exact = float_of(shifted + one) - float_of(one);
    return choose(mask_if(shifted < (1u << 23)), bits_of(exact), wide);
}

INLINE float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    return float_of(sign | widen((uint32_t)(h & 0x7fffu) << 13, 112u << 23, 31u << 23));
}

INLINE float f8_e5m2_to_f32(uint8_t v)
{
    return f16_to_f32((uint16_t)(v << 8)); /* the top half of an F16 */
}

/* E4M3 has no infinity: only 0x7f and 0xff are NaN. */
INLINE float f8_e4m3_to_f32(uint8_t v)
{
    uint32_t sign = (uint32_t)(v & 0x80u) << 24, magnitude = v & 0x7fu;
    uint32_t wide = widen(magnitude << 20, 120u << 23, UINT32_MAX);
    return float_of(sign | choose(mask_if(magnitude == 0x7f), 0x7fc00000u, wide));
}

INLINE uint16_t f32_to_f16(float f)
{
    uint32_t bits = bits_of(f), magnitude = bits & 0x7fffffffu;
    uint32_t sign = bits >> 16 & 0x8000u;
    /* Normal: rebias, add just under half a step (a full half when the kept bit is odd), cut. */
    uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    /* Subnormal: adding 0.5 aligns the last F16 bit with the last bit of the sum, which rounds. */
    uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t half = choose(mask_if(magnitude < 113u << 23), subnormal, normal);
    half = choose(mask_if(magnitude >= 0x477ff000u), 0x7c00u, half); /* 65520 and up: infinity */
    half = choose(mask_if(magnitude > 0x7f800000u), 0x7e00u, half);
    return (uint16_t)(sign | half);
}

INLINE float bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

INLINE uint16_t f32_to_bf16(float f)
{
    uint32_t bits = bits_of(f);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 64;
    return (uint16_t)choose(mask_if((bits & 0x7fffffffu) > 0x7f800000u), quiet, rounded);
}

float convert_f16_to_f32(uint16_t h)
{
    return f16_to_f32(h);
}

uint16_t convert_f32_to_f16(float f)
{
    return f32_to_f16(f);
}

float convert_bf16_to_f32(uint16_t h)
{
    return bf16_to_f32(h);
}

uint16_t convert_f32_to_bf16(float f)
{
    return f32_to_bf16(f);
}

INLINE float f32_identity(float f)
{
    return f;
}

INLINE double f32_to_f64(float f)
{
    return (double)f;
}

#define TO_FLOAT(name, type)                                                                       \
    INLINE float name(type v)                                                                      \
    {                                                                                              \
        return (float)v;                                                                           \
    }
TO_FLOAT(i8_to_f32, int8_t)
TO_FLOAT(i16_to_f32, int16_t)
TO_FLOAT(i32_to_f32, int32_t)
TO_FLOAT(i64_to_f32, int64_t)
TO_FLOAT(u8_to_f32, uint8_t)
TO_FLOAT(u16_to_f32, uint16_t)
TO_FLOAT(u32_to_f32, uint32_t)
TO_FLOAT(u64_to_f32, uint64_t)
TO_FLOAT(f64_to_f32, double)

/* One loop per pair of types: whole chunks with a constant trip count, then the tail. */
#define LOOP_FOR(attribute, name, from_type, to_type, convert)                                     \
    attribute static void name(const void *src, void *dst, size_t n)                               \
    {                                                                                              \
        const from_type *restrict from = src;                                                      \
        to_type *restrict to = dst;                                                                \
        for (; n >= CHUNK; n -= CHUNK, from += CHUNK, to += CHUNK)                                 \
            for (int i = 0; i < CHUNK; i++)                                                        \
                to[i] = convert(from[i]);                                                          \
        for (size_t i = 0; i < n; i++)                                                             \
            to[i] = convert(from[i]);                                                              \
    }

/* On x86 every loop exists twice and the CPU decides at the call. The operations are the same, so
 * the results are. */
#ifdef __x86_64__
#define LOOP(name, from_type, to_type, convert)                                                    \
    LOOP_FOR(, name, from_type, to_type, convert)                                                  \
    LOOP_FOR(__attribute__((target("avx2"))), name##_avx2, from_type, to_type, convert)
#define PAIR(type, loop)                                                                           \
    {                                                                                              \
        type, loop, loop##_avx2                                                                    \
    }
#else
#define LOOP(name, from_type, to_type, convert) LOOP_FOR(, name, from_type, to_type, convert)
#define PAIR(type, loop)                                                                           \
    {                                                                                              \
        type, loop, loop                                                                           \
    }
#endif

LOOP(loop_f32, float, float, f32_identity)
LOOP(loop_f16, uint16_t, float, f16_to_f32)
LOOP(loop_bf16, uint16_t, float, bf16_to_f32)
LOOP(loop_f64, double, float, f64_to_f32)
LOOP(loop_i8, int8_t, float, i8_to_f32)
LOOP(loop_i16, int16_t, float, i16_to_f32)
LOOP(loop_i32, int32_t, float, i32_to_f32)
LOOP(loop_i64, int64_t, float, i64_to_f32)
LOOP(loop_u8, uint8_t, float, u8_to_f32)
LOOP(loop_u16, uint16_t, float, u16_to_f32)
LOOP(loop_u32, uint32_t, float, u32_to_f32)
LOOP(loop_u64, uint64_t, float, u64_to_f32)
LOOP(loop_f8_e4m3, uint8_t, float, f8_e4m3_to_f32)
LOOP(loop_f8_e5m2, uint8_t, float, f8_e5m2_to_f32)
LOOP(loop_to_f16, float, uint16_t, f32_to_f16)
LOOP(loop_to_bf16, float, uint16_t, f32_to_bf16)
LOOP(loop_to_f64, float, double, f32_to_f64)

typedef void loop_fn(const void *src, void *dst, size_t n);

struct pair {
    enum dtype type;
    loop_fn *loop, *wide;
};

static const struct pair to_f32[] = {
    PAIR(DT_F32, loop_f32), PAIR(DT_F16, loop_f16),         PAIR(DT_BF16, loop_bf16),
    PAIR(DT_F64, loop_f64), PAIR(DT_I8, loop_i8),           PAIR(DT_I16, loop_i16),
    PAIR(DT_I32, loop_i32), PAIR(DT_I64, loop_i64),         PAIR(DT_BOOL, loop_u8),
    PAIR(DT_U8, loop_u8),   PAIR(DT_U16, loop_u16),         PAIR(DT_U32, loop_u32),
    PAIR(DT_U64, loop_u64), PAIR(DT_F8_E4M3, loop_f8_e4m3), PAIR(DT_F8_E5M2, loop_f8_e5m2),
};

static const struct pair from_f32[] = {
    PAIR(DT_F32, loop_f32),
    PAIR(DT_F16, loop_to_f16),
    PAIR(DT_BF16, loop_to_bf16),
    PAIR(DT_F64, loop_to_f64),
};

static bool aligned(const void *p, size_t size)
{
    return (uintptr_t)p % size == 0;
}

/* Runs the loop over elements of in_size and out_size bytes, by way of a buffer where a pointer
 * does not have the alignment of its type. */
static void run_loop(loop_fn *loop, const void *src, size_t in_size, void *dst, size_t out_size,
                     size_t n)
{
    if (aligned(src, in_size) && aligned(dst, out_size)) {
        loop(src, dst, n);
        return;
    }
    _Alignas(8) unsigned char in[BOUNCE * 8], out[BOUNCE * 8];
    const unsigned char *from = src;
    unsigned char *to = dst;
    while (n > 0) {
        size_t part = n < BOUNCE ? n : BOUNCE;
        memcpy(in, from, part * in_size);
        loop(in, out, part);
        memcpy(to, out, part * out_size);
        from += part * in_size;
        to += part * out_size;
        n -= part;
    }
}

static loop_fn *find_loop(const struct pair *pairs, size_t count, enum dtype type)
{
    for (size_t i = 0; i < count; i++)
        if (pairs[i].type == type)
            return cpu_has_avx2() ? pairs[i].wide : pairs[i].loop;
    return NULL;
}

int convert_to_f32(enum dtype from, const void *src, float *dst, size_t n)
{
    loop_fn *loop = find_loop(to_f32, sizeof(to_f32) / sizeof(to_f32[0]), from);
    if (!loop)
        return -1;
    run_loop(loop, src, dtype_info(from)->bytes, dst, sizeof(float), n);
    return 0;
}

int convert_from_f32(enum dtype to, const float *src, void *dst, size_t n)
{
    loop_fn *loop = find_loop(from_f32, sizeof(from_f32) / sizeof(from_f32[0]), to);
    if (!loop)
        return -1;
    run_loop(loop, src, sizeof(float), dst, dtype_info(to)->bytes, n);
    return 0;
}

/* True when none of the CHUNK values is NaN or infinite: an exponent of all ones, seen as a carry
 * into the sign bit when one is added to the exponent. */
static bool all_finite(const float *src)
{
    uint32_t carried = 0;
    for (int i = 0; i < CHUNK; i++)
        carried |= (bits_of(src[i]) & 0x7fffffffu) + (1u << 23);
    return carried >> 31 == 0;
}

size_t convert_find_nonfinite(const float *src, size_t n)
{
    size_t i = 0;
    while (n - i >= CHUNK && all_finite(src + i))
        i += CHUNK;
    while (i < n && isfinite(src[i]))
        i++;
    return i;
}
