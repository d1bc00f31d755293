/* tensor: the table against the published list, conversions over all 65,536 patterns, shapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tensor/convert.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

static void table_has_the_published_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int id;
        unsigned block, bytes;
    } list[] = {
        {"F32", 0, 1, 4},         {"F16", 1, 1, 2},         {"BF16", 30, 1, 2},
        {"Q4_0", 2, 32, 18},      {"Q4_1", 3, 32, 20},      {"Q5_0", 6, 32, 22},
        {"Q5_1", 7, 32, 24},      {"Q8_0", 8, 32, 34},      {"Q8_1", 9, 32, 36},
        {"Q2_K", 10, 256, 84},    {"Q3_K", 11, 256, 110},   {"Q4_K", 12, 256, 144},
        {"Q5_K", 13, 256, 176},   {"Q6_K", 14, 256, 210},   {"Q8_K", 15, 256, 292},
        {"IQ2_XXS", 16, 256, 66}, {"IQ2_XS", 17, 256, 74},  {"IQ3_XXS", 18, 256, 98},
        {"IQ1_S", 19, 256, 50},   {"IQ4_NL", 20, 32, 18},   {"IQ3_S", 21, 256, 110},
        {"IQ2_S", 22, 256, 82},   {"IQ4_XS", 23, 256, 136}, {"I8", 24, 1, 1},
        {"I16", 25, 1, 2},        {"I32", 26, 1, 4},        {"I64", 27, 1, 8},
        {"F64", 28, 1, 8},        {"IQ1_M", 29, 256, 56},   {"TQ1_0", 34, 256, 54},
        {"TQ2_0", 35, 256, 66},   {"MXFP4", 39, 32, 17},    {"NVFP4", 40, 64, 36},
        {"Q1_0", 41, 128, 18},    {"Q2_0", 42, 64, 18},
    };
    enum { COUNT = sizeof(list) / sizeof(list[0]) };
    for (size_t i = 0; i < COUNT; i++) {
        enum dtype id = dtype_by_name(list[i].name);
        assert_int_equal(id, list[i].id);
        const struct dtype_info *d = dtype_info(id);
        assert_non_null(d);
        assert_int_equal(d->block, list[i].block);
        assert_int_equal(d->bytes, list[i].bytes);
        assert_string_equal(dtype_name(id), list[i].name);
    }
    size_t gguf = 0;
    for (int i = 0; dtype_at(i); i++) {
        assert_ptr_equal(dtype_info(dtype_at(i)->id), dtype_at(i)); /* no id twice */
        gguf += dtype_at(i)->id < 1000;
        assert_true(dtype_at(i)->quantized == (dtype_at(i)->block > 1));
        assert_true(!dtype_at(i)->gguf || dtype_at(i)->id < 1000);
    }
    assert_int_equal(gguf, COUNT);
}

static void lookups(void **state)
{
    (void)state;
    assert_int_equal(dtype_by_name("q4_k"), DT_Q4_K);
    assert_int_equal(dtype_by_name("iq2_XXS"), DT_IQ2_XXS);
    assert_int_equal(dtype_by_name("Q4_K_M"), DT_NONE);
    assert_int_equal(dtype_by_name(""), DT_NONE);
    assert_int_equal(dtype_by_safetensors("BF16"), DT_BF16);
    assert_int_equal(dtype_by_safetensors("F8_E4M3"), DT_F8_E4M3);
    assert_int_equal(dtype_by_safetensors("bf16"), DT_NONE);
    assert_int_equal(dtype_by_safetensors("Q4_0"), DT_NONE);
    assert_null(dtype_info((enum dtype)4)); /* Q4_2, removed from ggml */
    assert_null(dtype_info(DT_NONE));
    assert_string_equal(dtype_name((enum dtype)4), "?");
    assert_null(dtype_at(-1));
    assert_true(dtype_info(DT_IQ1_S)->needs_importance);
    assert_false(dtype_info(DT_IQ4_XS)->needs_importance);
    assert_false(dtype_info(DT_Q8_K)->gguf);
    assert_true(dtype_info(DT_BF16)->encodable);
    assert_false(dtype_info(DT_I32)->encodable);
}

static void byte_counts(void **state)
{
    (void)state;
    uint64_t n = 0;
    assert_true(dtype_bytes(DT_Q4_K, 4096 * 256, 4096, &n) && n == 4096 * 144);
    assert_true(dtype_bytes(DT_F32, 0, 5, &n) && n == 0);
    assert_true(dtype_bytes(DT_BF16, 15, 5, &n) && n == 30);
    assert_false(dtype_bytes(DT_Q4_K, 300, 300, &n)); /* row is not whole blocks */
    assert_false(dtype_bytes(DT_Q4_K, 384, 128, &n)); /* though the tensor would be */
    assert_false(dtype_bytes(DT_F32, 7, 5, &n));      /* not whole rows */
    assert_false(dtype_bytes(DT_F32, 7, 0, &n));
    assert_false(dtype_bytes(DT_NONE, 5, 5, &n));
    assert_false(dtype_bytes(DT_F64, UINT64_MAX / 8 + 1, 1, &n));
    assert_false(dtype_bytes(DT_F64, 1ull << 62, 1ull << 62, &n));
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* What a float with these fields means, by the definition. */
static double meaning(unsigned pattern, int exponent_bits, int mantissa_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1;
    unsigned mantissa = pattern & ((1u << mantissa_bits) - 1);
    int exponent = (int)(pattern >> mantissa_bits) & ((1 << exponent_bits) - 1);
    double sign = pattern >> (exponent_bits + mantissa_bits) & 1 ? -1 : 1;
    if (exponent == 0)
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp(mantissa + (double)(1u << mantissa_bits), exponent - bias - mantissa_bits);
}

static void check_same(float got, double expected)
{
    float want = (float)expected;
    assert_true((double)want == expected);
    assert_int_equal(bits_of(got), bits_of(want));
}

static void every_f16_widens_exactly(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float f = convert_f16_to_f32((uint16_t)h);
        unsigned exponent = h >> 10 & 31, mantissa = h & 1023;
        if (exponent < 31) {
            check_same(f, meaning(h, 5, 10));
        } else if (mantissa == 0) {
            assert_true(isinf(f) && (f < 0) == (h >> 15));
        } else {
            assert_true(isnan(f));
            assert_int_equal(bits_of(f) >> 31, h >> 15);
        }
    }
}

static void every_f16_survives_the_round_trip(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        uint16_t back = convert_f32_to_f16(convert_f16_to_f32((uint16_t)h));
        bool nan = (h & 0x7fff) > 0x7c00;
        assert_int_equal(back, nan ? (h & 0x8000) | 0x7e00 : h);
    }
}

/* Between every two neighbours: the midpoint goes to the even one, its neighbours to the nearer
 * one. */
static void every_f16_boundary_rounds_to_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        double low = meaning(h, 5, 10);
        double high = h + 1 == 0x7c00 ? 65536 : meaning(h + 1, 5, 10);
        float middle = (float)((low + high) / 2);
        unsigned even = h & 1 ? h + 1 : h;
        assert_int_equal(convert_f32_to_f16(middle), even);
        assert_int_equal(convert_f32_to_f16(-middle), even | 0x8000);
        assert_int_equal(convert_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(convert_f32_to_f16(nextafterf(middle, 1e6f)), h + 1);
        assert_int_equal(convert_f32_to_f16(-nextafterf(middle, 1e6f)), (h + 1) | 0x8000);
    }
    assert_int_equal(convert_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(convert_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(convert_f32_to_f16(3e38f), 0x7c00);
    assert_int_equal(convert_f32_to_f16(1e-40f), 0); /* an F32 subnormal */
    assert_int_equal(convert_f32_to_f16(-1e-45f), 0x8000);
    assert_int_equal(convert_f32_to_f16(float_of(0x7f800001)), 0x7e00); /* signalling: made quiet */
    assert_int_equal(convert_f32_to_f16(float_of(0xffc00123)), 0xfe00);
}

static void every_bf16_is_a_shift(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float f = convert_bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f), h << 16);
        bool nan = (h & 0x7fff) > 0x7f80;
        assert_int_equal(convert_f32_to_bf16(float_of(h << 16)), nan ? h | 64 : h);
        if ((h & 0x7fff) >= 0x7f80)
            continue;
        unsigned even = h & 1 ? h + 1 : h;
        assert_int_equal(convert_f32_to_bf16(float_of(h << 16 | 0x8000)), even);
        assert_int_equal(convert_f32_to_bf16(float_of(h << 16 | 0x7fff)), h);
        assert_int_equal(convert_f32_to_bf16(float_of(h << 16 | 0x8001)), h + 1);
    }
    assert_int_equal(convert_f32_to_bf16(float_of(0x7f800001)), 0x7fc0); /* a NaN in the low bits */
    assert_int_equal(convert_f32_to_bf16(float_of(0x7f7fffff)), 0x7f80);
}

static void every_f8_widens_exactly(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 256; v++) {
        uint8_t byte = (uint8_t)v;
        float f;
        assert_int_equal(convert_to_f32(DT_F8_E4M3, &byte, &f, 1), 0);
        if ((v & 0x7f) == 0x7f)
            assert_true(isnan(f));
        else
            check_same(f, meaning(v, 4, 3));
        assert_int_equal(convert_to_f32(DT_F8_E5M2, &byte, &f, 1), 0);
        if ((v & 0x7f) > 0x7c)
            assert_true(isnan(f));
        else if ((v & 0x7f) == 0x7c)
            assert_true(isinf(f) && (f < 0) == (v >> 7));
        else
            check_same(f, meaning(v, 5, 2));
    }
}

/* Every length and every misalignment agrees with the one-value functions, and writes nothing more.
 */
static void rows_of_any_length_and_alignment(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 5);
    unsigned char raw[400];
    for (size_t i = 0; i < sizeof(raw); i++)
        raw[i] = (unsigned char)rng_next(&r);
    for (size_t shift = 0; shift < 4; shift++) {
        for (size_t n = 0; n < 70; n++) {
            float out[72];
            uint16_t halves[72];
            out[n] = 12345;
            assert_int_equal(convert_to_f32(DT_F16, raw + shift, out, n), 0);
            assert_true(out[n] == 12345);
            for (size_t i = 0; i < n; i++) {
                uint16_t h;
                memcpy(&h, raw + shift + 2 * i, 2);
                assert_int_equal(bits_of(out[i]), bits_of(convert_f16_to_f32(h)));
            }
            assert_int_equal(convert_to_f32(DT_BF16, raw + shift, out, n), 0);
            halves[n] = 77;
            assert_int_equal(convert_from_f32(DT_BF16, out, halves, n), 0);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(halves[i], convert_f32_to_bf16(out[i]));
            assert_int_equal(convert_from_f32(DT_F16, out, halves, n), 0);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(halves[i], convert_f32_to_f16(out[i]));
            assert_int_equal(halves[n], 77);
        }
    }
}

static void other_plain_types(void **state)
{
    (void)state;
    float f[20], back[20];
    double d[20];
#define CHECK(id, type, ...)                                                                       \
    do {                                                                                           \
        static const type in[] = {__VA_ARGS__};                                                    \
        size_t count = sizeof(in) / sizeof(in[0]);                                                 \
        assert_int_equal(convert_to_f32(id, in, f, count), 0);                                     \
        for (size_t i = 0; i < count; i++)                                                         \
            assert_true(f[i] == (float)in[i]);                                                     \
    } while (0)
    CHECK(DT_I8, int8_t, -128, -1, 0, 127, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13);
    CHECK(DT_I16, int16_t, INT16_MIN, -1, 0, INT16_MAX);
    CHECK(DT_I32, int32_t, INT32_MIN, -1, 0, INT32_MAX, 16777217);
    CHECK(DT_I64, int64_t, INT64_MIN, -1, 0, INT64_MAX, 1ll << 40);
    CHECK(DT_U8, uint8_t, 0, 1, 255);
    CHECK(DT_BOOL, uint8_t, 0, 1);
    CHECK(DT_U16, uint16_t, 0, 65535);
    CHECK(DT_U32, uint32_t, 0, UINT32_MAX);
    CHECK(DT_U64, uint64_t, 0, UINT64_MAX, 1ull << 63);
    CHECK(DT_F64, double, 0.1, -1e300, 1e-300, 3);
    CHECK(DT_F32, float, 0.1f, -3e38f, 1e-45f);
    assert_int_equal(convert_from_f32(DT_F64, f, d, 3), 0);
    assert_true(d[0] == (double)0.1f);
    assert_int_equal(convert_from_f32(DT_F32, f, back, 3), 0);
    assert_memory_equal(f, back, 12);
    assert_int_equal(convert_to_f32(DT_Q4_0, d, f, 1), -1);
    assert_int_equal(convert_to_f32(DT_NONE, d, f, 1), -1);
    assert_int_equal(convert_from_f32(DT_I8, f, d, 1), -1);
    assert_int_equal(convert_from_f32(DT_Q4_K, f, d, 1), -1);
}

static void nonfinite_values_are_found(void **state)
{
    (void)state;
    static const float broken[] = {NAN, -NAN, INFINITY, -INFINITY};
    float v[100];
    for (size_t n = 0; n <= 100; n++) {
        for (size_t i = 0; i < 100; i++)
            v[i] = i % 2 ? 3.4028235e38f : -1e-45f;
        assert_int_equal(convert_find_nonfinite(v, n), n);
        for (size_t at = 0; at < n; at++) {
            float kept = v[at];
            v[at] = broken[at % 4];
            if (at + 5 < n)
                v[at + 5] = NAN; /* the first one counts */
            assert_int_equal(convert_find_nonfinite(v, n), at);
            v[at] = kept;
            if (at + 5 < n)
                v[at + 5] = 1;
        }
    }
}

static void shapes(void **state)
{
    (void)state;
    struct shape s = {2, {4096, 256, 1, 1}}, t = s, big = {4, {1u << 31, 1u << 31, 2, 2}};
    uint64_t n;
    char text[96];
    assert_true(shape_elements(&s, &n) && n == 4096 * 256);
    assert_int_equal(shape_rows(&s), 256);
    assert_string_equal(shape_text(&s, text), "4096 x 256");
    assert_true(shape_equal(&s, &t));
    t.ne[1] = 255;
    assert_false(shape_equal(&s, &t));
    t = (struct shape){3, {4096, 256, 1, 1}};
    assert_false(shape_equal(&s, &t));
    assert_false(shape_elements(&big, &n));
    big.ne[3] = 1;
    assert_true(shape_elements(&big, &n) && n == 1ull << 63);
    t = (struct shape){4, {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    assert_false(shape_elements(&t, &n));
    assert_int_equal(strlen(shape_text(&t, text)), 89);
    t.n_dims = 0;
    assert_false(shape_elements(&t, &n));
    t.n_dims = 5;
    assert_false(shape_elements(&t, &n));
    assert_int_equal(strlen(shape_text(&t, text)), 89);
    t.n_dims = -1;
    assert_string_equal(shape_text(&t, text), "");
}

/* All of the above once more without the wide loops. */
static void baseline_loops_agree(void **state)
{
    (void)state;
    if (getenv("SINTRA_CPU"))
        skip();
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    assert_true(n > 0);
    path[n] = 0;
    pid_t pid = fork();
    if (pid == 0) {
        setenv("SINTRA_CPU", "baseline", 1);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1); /* its count of tests is not ours */
        dup2(null, 2);
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_has_the_published_numbers),
        cmocka_unit_test(lookups),
        cmocka_unit_test(byte_counts),
        cmocka_unit_test(every_f16_widens_exactly),
        cmocka_unit_test(every_f16_survives_the_round_trip),
        cmocka_unit_test(every_f16_boundary_rounds_to_even),
        cmocka_unit_test(every_bf16_is_a_shift),
        cmocka_unit_test(every_f8_widens_exactly),
        cmocka_unit_test(rows_of_any_length_and_alignment),
        cmocka_unit_test(other_plain_types),
        cmocka_unit_test(nonfinite_values_are_found),
        cmocka_unit_test(shapes),
        cmocka_unit_test(baseline_loops_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
