/* num: sizes and numbers as people write them, and checked arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/num.h"

static void checked_arithmetic(void **state)
{
    (void)state;
    uint64_t r;
    assert_true(num_add_u64(UINT64_MAX - 1, 1, &r) && r == UINT64_MAX);
    assert_false(num_add_u64(UINT64_MAX, 1, &r));
    assert_true(num_mul_u64(1ull << 32, (1ull << 32) - 1, &r) && r == 0xffffffff00000000u);
    assert_false(num_mul_u64(1ull << 32, 1ull << 32, &r));
    assert_true(num_align_u64(0, 32, &r) && r == 0);
    assert_true(num_align_u64(1, 32, &r) && r == 32);
    assert_true(num_align_u64(64, 32, &r) && r == 64);
    assert_true(num_align_u64(7, 1, &r) && r == 7);
    assert_false(num_align_u64(UINT64_MAX, 32, &r));
}

static void sizes_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"1048576", 1048576},
        {"812B", 812},
        {"512k", 512 * 1024},
        {"512K", 512 * 1024},
        {"1kB", 1000},
        {"1KB", 1000},
        {"1KiB", 1024},
        {"1kib", 1024},
        {"800MB", 800000000},
        {"14 MiB", 14 << 20},
        {"3.2GiB", 3435973837u},
        {"3.2gib", 3435973837u},
        {"0.5G", 1u << 29},
        {"2T", 2ull << 40},
        {"1.5TB", 1500000000000u},
        {"18446744073709551615", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err e = {0};
        uint64_t bytes = 1;
        assert_int_equal(num_parse_size(cases[i].text, "--target-size", &bytes, &e), 0);
        assert_int_equal(e.code, ERR_NONE);
        assert_int_equal(bytes, cases[i].bytes);
    }
}

static void bad_sizes_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "GiB",
                                      "-1",
                                      "+1",
                                      "1.GiB",
                                      ".5G",
                                      "1..5G",
                                      "1e3",
                                      "0x10",
                                      "1 GX",
                                      "1GiBx",
                                      "nan",
                                      "1,5G",
                                      "1 2",
                                      "12 ",
                                      "--",
                                      "18446744073709551616",
                                      "17179869184GiB",
                                      "99999999999999999999T",
                                      "16777216.5TiB"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err e = {0};
        uint64_t bytes = 42;
        int rc = num_parse_size(bad[i], "--target-size", &bytes, &e);
        if (strcmp(bad[i], "12 ") == 0) { /* trailing blanks do no harm */
            assert_int_equal(rc, 0);
            continue;
        }
        assert_int_equal(rc, -1);
        assert_int_equal(bytes, 42);
        assert_int_equal(e.code, ERR_USAGE);
        assert_non_null(strstr(e.message, "--target-size"));
        assert_non_null(strstr(e.hint, "GiB"));
    }
}

static void integers_are_read(void **state)
{
    (void)state;
    struct err e = {0};
    int64_t n = 5;
    assert_int_equal(num_parse_i64("-12", "n", INT64_MIN, INT64_MAX, &n, &e), 0);
    assert_int_equal(n, -12);
    assert_int_equal(num_parse_i64("-9223372036854775808", "n", INT64_MIN, INT64_MAX, &n, &e), 0);
    assert_true(n == INT64_MIN);
    static const char *const bad[] = {"",   "-",   "1.0", "1x",
                                      " 1", "0x1", "1e3", "9223372036854775808"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(num_parse_i64(bad[i], "n", INT64_MIN, INT64_MAX, &n, &e), -1);
    assert_int_equal(num_parse_i64("11", "--threads", 1, 10, &n, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    assert_string_equal(e.message, "--threads: 11 is out of range, expected 1 to 10");
    assert_true(n == INT64_MIN);
}

static void reals_are_read(void **state)
{
    (void)state;
    struct err e = {0};
    double x = 0;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"4.5", 4.5}, {"-.5", -.5}, {"3.", 3}, {"1e-3", 1e-3}, {"+2E2", 200}, {"0", 0}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(num_parse_real(good[i].text, "x", -1000, 1000, &x, &e), 0);
        assert_true(x == good[i].value);
    }
    static const char *const bad[] = {"",      ".",  "e5", "1e",  "nan",   "inf", "0x1p3",
                                      "1.2.3", "1 ", " 1", "--1", "1e999", "1001"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(num_parse_real(bad[i], "x", -1000, 1000, &x, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
}

static void sizes_are_written(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {812, "812 B"},
                 {1023, "1023 B"},
                 {1024, "1.00 KiB"},
                 {14680064, "14.0 MiB"},
                 {3435973837u, "3.20 GiB"},
                 {1024 * 1024 - 1, "1.00 MiB"},
                 {1000 * 1024, "1000 KiB"},
                 {10234, "9.99 KiB"},
                 {10239, "10.0 KiB"},
                 {(1ull << 40) * 70, "70.0 TiB"},
                 {UINT64_MAX, "16.0 EiB"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[NUM_TEXT_MAX];
        assert_string_equal(num_format_size(cases[i].bytes, text), cases[i].text);
    }
}

static void counts_are_written(void **state)
{
    (void)state;
    char text[NUM_TEXT_MAX];
    assert_string_equal(num_format_count(999, text), "999");
    assert_string_equal(num_format_count(7344384, text), "7.34 M");
    assert_string_equal(num_format_count(1100048384, text), "1.10 B");
    assert_string_equal(num_format_count(70600000000, text), "70.6 B");
    assert_string_equal(num_format_count(999999, text), "1.00 M");
    assert_string_equal(num_format_count(UINT64_MAX, text), "18446744 T");
}

static void durations_are_written(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {
        {0, "0.0 s"},         {0.8, "0.8 s"},          {9.94, "9.9 s"},     {9.96, "10 s"},
        {42, "42 s"},         {59.6, "1 min 00 s"},    {185, "3 min 05 s"}, {3599.6, "1 h 00 min"},
        {7800, "2 h 10 min"}, {100000, "27 h 47 min"}, {-1, "?"},           {NAN, "?"},
        {INFINITY, "?"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[NUM_TEXT_MAX];
        assert_string_equal(num_format_seconds(cases[i].seconds, text), cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checked_arithmetic),    cmocka_unit_test(sizes_are_read),
        cmocka_unit_test(bad_sizes_are_refused), cmocka_unit_test(integers_are_read),
        cmocka_unit_test(reals_are_read),        cmocka_unit_test(sizes_are_written),
        cmocka_unit_test(counts_are_written),    cmocka_unit_test(durations_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
