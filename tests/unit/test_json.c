/* json: what is accepted, what is refused, and text that reads back the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"

static json_t *must_parse(const char *text)
{
    struct err e = {0};
    json_t *v = json_parse(text, strlen(text), "test", &e);
    if (!v)
        print_message("%s\n", e.message);
    assert_non_null(v);
    assert_int_equal(e.code, ERR_NONE);
    return v;
}

static void check_text(const char *text, bool pretty, const char *expected)
{
    json_t *v = must_parse(text);
    char *out = json_text(v, pretty);
    assert_string_equal(out, expected);
    xfree(out);
    json_decref(v);
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "{",
                                      "{} x",
                                      "{'a':1}",
                                      "[1,]",
                                      "{\"a\":1,}",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"o\":{\"a\":1,\"a\":2}}",
                                      "[01]",
                                      "[+1]",
                                      "[.5]",
                                      "[1.]",
                                      "[NaN]",
                                      "[Infinity]",
                                      "[-]",
                                      "[\"\\ud83d\"]",
                                      "[\"\\u0000\"]",
                                      "[\"\xff\"]",
                                      "[\"\xc0\x80\"]",
                                      "[\"a\nb\"]",
                                      "[\"\\x\"]",
                                      "[1e999]",
                                      "// c\n[1]",
                                      "nul"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err e = {0};
        json_t *v = json_parse(bad[i], strlen(bad[i]), "config.json", &e);
        if (v)
            print_message("accepted: %s\n", bad[i]);
        assert_null(v);
        assert_int_equal(e.code, ERR_INPUT);
        assert_non_null(strstr(e.message, "config.json"));
        assert_non_null(strstr(e.message, "line"));
    }
    assert_null(json_parse("[", 1, "n", NULL));
}

static void error_names_the_place(void **state)
{
    (void)state;
    struct err e = {0};
    static const char text[] = "{\n  \"a\": 1,\n  \"b\": x\n}";
    assert_null(json_parse(text, strlen(text), "f.json", &e));
    assert_non_null(strstr(e.message, "line 3"));
}

static void depth_is_bounded(void **state)
{
    (void)state;
    enum { DEEP = 100000 };
    char *text = xmalloc(2 * DEEP + 1);
    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    struct err e = {0};
    assert_null(json_parse(text, 2 * DEEP, "deep", &e));
    assert_int_equal(e.code, ERR_INPUT);
    /* What is accepted can be written again. */
    memset(text + 1000, ']', 1000);
    json_t *v = json_parse(text, 2000, "less deep", &e);
    assert_non_null(v);
    char *out = json_text(v, true);
    assert_true(strlen(out) > 2000);
    xfree(out);
    json_decref(v);
    xfree(text);
}

static void huge_integers_become_reals(void **state)
{
    (void)state;
    json_t *v = must_parse("{\"model_max_length\": 1000000000000000019884624838656,"
                           "\"text\": \"99999999999999999999 \\\" 99999999999999999999\","
                           "\"exact\": 9007199254740993, \"max\": 9223372036854775807,"
                           "\"min\": -9223372036854775808, \"over\":9223372036854775808,"
                           "\"under\":-9223372036854775809, \"real\":1.5e3,"
                           "\"list\":[18446744073709551615,2]}");
    int64_t n;
    double x;
    const char *s;
    struct err e = {0};
    assert_int_equal(json_need_real(v, "model_max_length", "t", &x, &e), 0);
    assert_true(x == 1e30);
    assert_int_equal(json_need_i64(v, "model_max_length", "t", &n, &e), -1);
    assert_int_equal(json_need_i64(v, "exact", "t", &n, &e), 0);
    assert_true(n == 9007199254740993);
    assert_int_equal(json_need_i64(v, "max", "t", &n, &e), 0);
    assert_true(n == INT64_MAX);
    assert_int_equal(json_need_i64(v, "min", "t", &n, &e), 0);
    assert_true(n == INT64_MIN);
    assert_true(json_opt_real(v, "over", 0) == 9223372036854775808.0);
    assert_true(json_opt_real(v, "under", 0) == -9223372036854775808.0);
    assert_true(json_opt_real(v, "real", 0) == 1500);
    assert_int_equal(json_need_str(v, "text", "t", &s, &e), 0);
    assert_string_equal(s, "99999999999999999999 \" 99999999999999999999");
    assert_true(json_real_value(json_array_get(json_object_get(v, "list"), 0)) == 0x1p64);
    json_decref(v);
}

static void huge_integers_do_not_hide_errors(void **state)
{
    (void)state;
    struct err e = {0};
    static const char *const bad[] = {
        "[99999999999999999999, x]", "[99999999999999999999", "[099999999999999999999]",
        "{\"a\":99999999999999999999,\"a\":1}", "[\"99999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(json_parse(bad[i], strlen(bad[i]), "n", &e));
    char digits[500];
    memset(digits, '9', sizeof(digits));
    digits[0] = '[';
    digits[sizeof(digits) - 1] = ']';
    assert_null(json_parse(digits, sizeof(digits), "n", &e)); /* beyond double too */
}

static void required_fields_name_what_is_wrong(void **state)
{
    (void)state;
    json_t *v = must_parse("{\"i\":1,\"r\":1.5,\"s\":\"x\",\"n\":null,\"o\":{}}");
    struct err e = {0};
    int64_t i;
    double r;
    const char *s;
    assert_int_equal(json_need_i64(v, "i", "config.json", &i, &e), 0);
    assert_int_equal(json_need_real(v, "i", "config.json", &r, &e), 0);
    assert_true(r == 1);
    assert_int_equal(json_need_i64(v, "r", "config.json", &i, &e), -1);
    assert_string_equal(e.message, "config.json: \"r\" must be an integer, found a real");
    assert_int_equal(json_need_str(v, "gone", "config.json", &s, &e), -1);
    assert_string_equal(e.message, "config.json: \"gone\" must be a string, found nothing");
    assert_int_equal(json_need_real(v, "o", "config.json", &r, &e), -1);
    assert_string_equal(e.message, "config.json: \"o\" must be a number, found an object");
    assert_int_equal(json_need_i64(NULL, "i", "c", &i, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    json_decref(v);
}

static void optional_fields_fall_back(void **state)
{
    (void)state;
    json_t *v = must_parse("{\"i\":1,\"r\":1.5,\"s\":\"x\",\"n\":null,\"b\":true}");
    assert_int_equal(json_opt_i64(v, "i", 9), 1);
    assert_int_equal(json_opt_i64(v, "n", 9), 9);
    assert_int_equal(json_opt_i64(v, "s", 9), 9);
    assert_true(json_opt_real(v, "r", 9) == 1.5);
    assert_true(json_opt_real(v, "i", 9) == 1);
    assert_true(json_opt_real(v, "gone", 9) == 9);
    assert_true(json_opt_bool(v, "b", false));
    assert_true(json_opt_bool(v, "i", true));
    assert_string_equal(json_opt_str(v, "s", "d"), "x");
    assert_string_equal(json_opt_str(v, "i", "d"), "d");
    assert_null(json_opt_str(NULL, "i", NULL));
    json_decref(v);
}

static void text_is_compact_or_pretty(void **state)
{
    (void)state;
    static const char source[] = "{\"z\": [1, 2.0, {}, []], \"a\": {\"k\": null, \"t\": true}}";
    check_text(source, false, "{\"z\":[1,2.0,{},[]],\"a\":{\"k\":null,\"t\":true}}");
    check_text(
        source, true,
        "{\n  \"z\": [\n    1,\n    2.0,\n    {},\n    []\n  ],\n  \"a\": {\n    \"k\": null,\n"
        "    \"t\": true\n  }\n}");
    check_text("\"q\\\"\\\\\\n\\t\\r\\u0001\\u20ac\\/\"", false,
               "\"q\\\"\\\\\\n\\t\\r\\u0001\xe2\x82\xac/\"");
    check_text("false", false, "false");
}

static void reals_are_shortest(void **state)
{
    (void)state;
    check_text("[0.1,1e300,100.0,-0.0,5e-324,0.30000000000000004,1e22,123456.75,0.00012,1e-7,1e15]",
               false,
               "[0.1,1e+300,100.0,-0.0,5e-324,0.30000000000000004,1e+22,123456.75,0.00012,1e-07,"
               "1000000000000000.0]");
    srand(7);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = 0;
        for (int k = 0; k < 5; k++)
            bits = bits << 15 ^ (uint64_t)rand();
        double x, y;
        memcpy(&x, &bits, sizeof(x));
        json_t *v = json_real_new(x);
        char *text = json_text(v, false);
        if (isfinite(x)) {
            json_t *back = must_parse(text);
            assert_true(json_is_real(back));
            y = json_real_value(back);
            assert_memory_equal(&x, &y, sizeof(x));
            json_decref(back);
        } else {
            assert_string_equal(text, "null");
        }
        xfree(text);
        json_decref(v);
    }
}

static void files_are_read_within_a_limit(void **state)
{
    (void)state;
    char dir[] = "/tmp/sintra-json-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = fs_join(dir, "a.json");
    struct err e = {0};
    assert_int_equal(fs_write_all(path, "{\"a\":1}", 7, &e), 0);
    json_t *v = json_read(path, 7, &e);
    assert_non_null(v);
    assert_int_equal(json_opt_i64(v, "a", 0), 1);
    json_decref(v);
    assert_null(json_read(path, 6, &e));
    assert_int_equal(e.code, ERR_LIMIT);
    assert_non_null(strstr(e.message, path));
    assert_null(json_read("/nonexistent/x.json", 10, &e));
    assert_int_equal(e.code, ERR_MISSING);
    xfree(path);
    assert_int_equal(fs_remove_tree(dir, &e), 0);
}

/* Python writes them, and configurations of models have them. */
static void what_is_no_number_becomes_null(void **state)
{
    (void)state;
    struct err e = {0};
    const char text[] = "{\"limit\": [0.0, Infinity], \"low\":-Infinity, \"none\" : NaN,"
                        "\"text\": \"NaN Infinity\", \"n\": 99999999999999999999}";
    char dir[] = "/tmp/sintra-json-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = fs_join(dir, "config.json");
    const char *s;
    assert_int_equal(fs_write_all(path, text, strlen(text), &e), 0);
    assert_null(json_read(path, 1000, &e));
    json_t *v = json_read_python(path, 1000, &e);
    assert_true(json_is_null(json_array_get(json_object_get(v, "limit"), 1)));
    assert_true(json_is_null(json_object_get(v, "low")));
    assert_true(json_is_null(json_object_get(v, "none")));
    assert_int_equal(json_need_str(v, "text", "t", &s, &e), 0);
    assert_string_equal(s, "NaN Infinity");
    assert_true(json_opt_real(v, "n", 0) == 1e20);
    json_decref(v);
    static const char *const bad[] = {"[NaN", "[-NaN]", "[Infinit]", "{NaN:1}", "[1 NaN]"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(fs_write_all(path, bad[i], strlen(bad[i]), &e), 0);
        assert_null(json_read_python(path, 1000, &e));
    }
    xfree(path);
    assert_int_equal(fs_remove_tree(dir, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(error_names_the_place),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(huge_integers_become_reals),
        cmocka_unit_test(what_is_no_number_becomes_null),
        cmocka_unit_test(huge_integers_do_not_hide_errors),
        cmocka_unit_test(required_fields_name_what_is_wrong),
        cmocka_unit_test(optional_fields_fall_back),
        cmocka_unit_test(text_is_compact_or_pretty),
        cmocka_unit_test(reals_are_shortest),
        cmocka_unit_test(files_are_read_within_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
