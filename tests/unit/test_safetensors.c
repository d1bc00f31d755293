/* safetensors: honest files are read, every kind of lie is refused by a sentence that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../forge/forge.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "format/safetensors.h"

static char dir[] = "/tmp/sintra-st-XXXXXX";
static char path[96];
static struct forge f;

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static void refused_file(enum err_code code, const char *words)
{
    struct err e = {0};
    struct safetensors s;
    forge_write(&f, path);
    int rc = safetensors_open(&s, path, &e);
    if (rc == 0)
        safetensors_close(&s);
    if (rc == 0 || !strstr(e.message, words))
        fail_msg("wanted \"%s\", got \"%s\"", words, rc == 0 ? "(accepted)" : e.message);
    assert_non_null(strstr(e.message, path));
    assert_int_not_equal(e.hint[0], '\0');
    assert_int_equal(e.code, code);
}

static void refused(const char *header, size_t data, const char *words)
{
    forge_safetensors(&f, header, 0, data);
    refused_file(ERR_INPUT, words);
}

static void opened(struct safetensors *s, const char *header, size_t data)
{
    struct err e = {0};
    forge_safetensors(&f, header, 0, data);
    forge_write(&f, path);
    if (safetensors_open(s, path, &e))
        fail_msg("%s", e.message);
}

static void accepted(const char *header, size_t data)
{
    struct safetensors s;
    opened(&s, header, data);
    safetensors_close(&s);
}

#define T(name, dtype, shape, begin, end)                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end \
    "]}"

/* ---- what is right --------------------------------------------------------------------------- */

static void a_file_is_read(void **state)
{
    struct safetensors s;
    (void)state;
    opened(&s,
           "{\"__metadata__\":{\"format\":\"pt\",\"n\":\"\\u00e9\\ud83d\\ude00\"}," T(
               "b", "BF16", "2,3", "8", "20") ", \n\t" T("a\\/\\u0062", "F32", "2", "0",
                                                         "8") "," T("empty", "I64", "4,0", "8",
                                                                    "8") "}  ",
           20);
    assert_int_equal(s.n_tensors, 3);
    assert_string_equal(s.tensors[0].name, "a/b");
    assert_string_equal(s.tensors[1].name, "empty");
    const struct safetensors_tensor *t = safetensors_find(&s, "b");
    assert_ptr_equal(t, &s.tensors[2]);
    assert_int_equal(t->dtype, DT_BF16);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->bytes, 12);
    assert_int_equal(t->offset, f.n - 12);
    assert_int_equal(s.map.data[t->offset], 1);
    assert_null(safetensors_find(&s, "c"));
    safetensors_close(&s);
    safetensors_close(&s); /* twice is harmless */
}

static void odd_but_right(void **state)
{
    (void)state;
    accepted("{}", 0);
    accepted("{\"__metadata__\":{}}", 0);
    accepted("{" T("scalar", "F32", "", "0", "4") "}", 4);
    accepted("{" T("f8", "F8_E4M3", "3", "0", "3") "}", 3);
    accepted(
        "{\"t\":{\"shape\":[1],\"data_offsets\":[0,4],\"later\":[{\"x\":null}],\"dtype\":\"F32\","
        "\"n\":-1.5e+3,\"b\":[true,false]}}",
        4);
}

/* ---- the header as a file -------------------------------------------------------------------- */

static void lying_length(void **state)
{
    static const char header[] = "{" T("t", "F32", "1", "0", "4") "}";
    (void)state;
    f.n = 0;
    refused_file(ERR_INPUT, "0 bytes are too few");
    forge_fill(&f, 7, 0);
    refused_file(ERR_INPUT, "7 bytes are too few");
    forge_safetensors(&f, header, 1000, 4);
    refused_file(ERR_INPUT, "the header claims 1000 bytes");
    forge_safetensors(&f, header, UINT64_MAX, 4);
    refused_file(ERR_INPUT, "the header claims 18446744073709551615 bytes");
    forge_safetensors(&f, header, UINT64_MAX - 7, 4); /* + 8 wraps to 0 */
    refused_file(ERR_INPUT, "the header claims");
    forge_safetensors(&f, header, strlen(header) - 1, 4); /* cut: lacks its brace */
    refused_file(ERR_INPUT, "expected '}'");
    forge_safetensors(&f, header, strlen(header) + 4, 0); /* swallows the data */
    forge_fill(&f, 4, 0);
    refused_file(ERR_INPUT, "but the data has 0 bytes");
}

/* A sparse file whose header is larger than the limit is refused before anything reads it. */
static void huge_header(void **state)
{
    struct safetensors s;
    struct err e = {0};
    (void)state;
    f.n = 0;
    forge_u64(&f, (uint64_t)SAFETENSORS_HEADER_MAX + 1);
    forge_bytes(&f, "{", 1);
    forge_write(&f, path);
    assert_int_equal(truncate(path, SAFETENSORS_HEADER_MAX + 1000), 0);
    assert_int_equal(safetensors_open(&s, path, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_non_null(strstr(e.message, "at most 100000000"));
}

/* ---- ranges ---------------------------------------------------------------------------------- */

static void ranges(void **state)
{
    (void)state;
    refused("{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "2", "6") "}", 6,
            "it overlaps");
    refused("{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "0", "4") "}", 4,
            "it overlaps");
    refused("{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "8", "12") "}", 12, "a hole");
    refused("{" T("a", "F32", "1", "4", "8") "}", 8, "a hole");
    refused("{" T("a", "F32", "1", "0", "4") "}", 5, "1 bytes behind the last tensor");
    refused("{}", 5, "5 bytes behind the last tensor");
    refused("{" T("a", "F32", "1", "0", "4") "}", 3, "but the data has 3 bytes");
    refused("{" T("a", "F32", "1", "8", "4") "}", 8, "data_offsets 8 to 4");
    refused("{" T("a", "F32", "1", "18446744073709551612", "18446744073709551615") "}", 4,
            "but the data has 4 bytes");
    refused("{" T("a", "F32", "1", "0", "18446744073709551616") "}", 4, "beyond 64 bits");
    refused("{" T("a", "F32", "2", "0", "4") "}", 4, "has 4 bytes, expected 8 by its shape");
    refused("{" T("a", "F32", "0", "0", "4") "}", 4, "has 4 bytes, expected 0");
    refused("{" T("a", "I64", "4294967296,4294967296", "0", "0") "}", 0, "shape overflows");
    refused("{" T("a", "I8", "4611686018427387904,4", "0", "0") "}", 0, "shape overflows");
    refused("{" T("a", "F64", "2305843009213693952", "0", "0") "}", 0, "shape overflows");
    refused("{" T("e", "F32", "0", "1", "1") "," T("a", "F32", "1", "0", "4") "}", 4, "overlaps");
}

static void names_and_types(void **state)
{
    (void)state;
    refused("{" T("a", "F32", "1", "0", "4") "," T("a", "F32", "1", "4", "8") "}", 8,
            "tensor \"a\" appears twice");
    refused("{" T("a", "F32", "1", "0", "4") "," T("\\u0061", "F32", "1", "4", "8") "}", 8,
            "tensor \"a\" appears twice");
    refused("{" T("", "F32", "1", "0", "4") "}", 4, "a tensor name has 0 bytes");
    refused("{" T("a\\nb", "F32", "1", "0", "4") "}", 4, "control characters");
    refused("{" T("a\\u0000b", "F32", "1", "0", "4") "}", 4, "a NUL character");
    forge_safetensors(&f, "{" T("a", "F4", "1", "0", "4") "}", 0, 4);
    refused_file(ERR_UNSUPPORTED, "unknown type \"F4\"");
    forge_safetensors(&f, "{" T("a", "bf16", "1", "0", "2") "}", 0, 2);
    refused_file(ERR_UNSUPPORTED, "unknown type \"bf16\"");
    forge_safetensors(&f, "{" T("a", "F32ButMuchLongerThanAnyKnownName", "1", "0", "4") "}", 0, 4);
    refused_file(ERR_UNSUPPORTED, "unknown type \"F32ButMuchLonger");
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json(void **state)
{
    (void)state;
    refused("[]", 0, "expected '{'");
    refused(" {}", 0, "expected '{'");
    refused("{]", 0, "expected '\"'");
    refused("{\"a\"}", 0, "expected ':'");
    refused("{\"a\":1}", 0, "expected '{', found \"1\"");
    refused("{" T("a", "F32", "1", "0", "4") ",}", 4, "expected '\"'");
    refused("{} {}", 0, "text behind the closing brace");
    refused("{\"a", 0, "the header ends inside a string");
    refused("{\"a\\", 0, "unknown escape");
    refused("{\"a\\x\":1}", 0, "unknown escape");
    refused("{\"a\\u12", 0, "four hexadecimal digits");
    refused("{\"\\ud83d\":1}", 0, "high surrogate");
    refused("{\"\\ude00\":1}", 0, "low surrogate");
    refused("{\"a\nb\":1}", 0, "a control character inside a string");
    refused("{\"\xff\":1}", 0, "not UTF-8");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "expected '\"', found \"1\"");
    refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ appears twice");
    refused("{\"a\":{}}", 0, "tensor \"a\" lacks its dtype");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, "lacks its data_offsets");
    refused("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, "the field \"dtype\" twice");
    refused("{\"a\":{\"dtype\":32}}", 0, "expected '\"'");
    refused("{\"a\":{\"shape\":[1.0]}}", 0, "exact unsigned integer");
    refused("{\"a\":{\"shape\":[1e2]}}", 0, "exact unsigned integer");
    refused("{\"a\":{\"shape\":[-1]}}", 0, "exact unsigned integer");
    refused("{\"a\":{\"shape\":[01]}}", 0, "exact unsigned integer");
    refused("{\"a\":{\"shape\":[1,1,1,1,1,1,1,1,1]}}", 0, "shape has more than 8 numbers");
    refused("{\"a\":{\"data_offsets\":[1]}}", 0, "data_offsets has 1 numbers");
    refused("{\"a\":{\"data_offsets\":[1,2,3]}}", 0, "more than 2 numbers");
    refused("{\"a\":{\"x\":nul}}", 0, "expected a value");
    refused("{\"a\":{\"x\":-}}", 0, "expected a number");
    refused("{\"a\":{\"x\":1.}}", 0, "expected digits");
    refused("{\"a\":{\"x\":1e}}", 0, "expected digits");
}

static void deep_json(void **state)
{
    struct buf b;
    (void)state;
    refused("{\"a\":{\"x\":[[[]]]}}", 0, "nest deeper than 4");
    buf_init(&b, FORGE_MAX - 100);
    buf_adds(&b, "{\"a\":{\"x\":");
    for (int i = 0; i < 500000; i++)
        buf_addc(&b, '[');
    refused(buf_str(&b), 0, "nest deeper than 4");
    buf_release(&b);
}

/* ---- size ------------------------------------------------------------------------------------ */

/* As many tensors as are allowed, in seconds: nothing in the reader is quadratic. One more is
 * refused. */
static void many_tensors(void **state)
{
    struct buf b;
    struct err e = {0};
    struct safetensors s;
    double begin = clock_seconds();
    uint64_t n;
    (void)state;
    buf_init(&b, 64 << 20);
    buf_add(&b, "........{", 9);
    for (unsigned i = 0; i < SAFETENSORS_TENSORS_MAX; i++) /* backwards, so that sorting works */
        buf_addf(&b,
                 "%s\"layer.%u.weight\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[%u,%u]}",
                 i ? "," : "", i, SAFETENSORS_TENSORS_MAX - 1 - i, SAFETENSORS_TENSORS_MAX - i);
    size_t brace = b.len;
    buf_addc(&b, '}');
    n = b.len - 8;
    memcpy(b.data, &n, 8);
    for (unsigned i = 0; i < SAFETENSORS_TENSORS_MAX; i++)
        buf_addc(&b, 'x');
    assert_false(b.overflow);
    assert_int_equal(fs_write_all(path, b.data, b.len, &e), 0);
    if (safetensors_open(&s, path, &e))
        fail_msg("%s", e.message);
    assert_int_equal(s.n_tensors, SAFETENSORS_TENSORS_MAX);
    assert_string_equal(s.tensors[0].name, "layer.199999.weight");
    assert_non_null(safetensors_find(&s, "layer.77.weight"));
    safetensors_close(&s);
    b.len = brace;
    buf_adds(&b, ",\"one more\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    n = b.len - 8;
    memcpy(b.data, &n, 8);
    for (unsigned i = 0; i < SAFETENSORS_TENSORS_MAX; i++)
        buf_addc(&b, 'x');
    assert_int_equal(fs_write_all(path, b.data, b.len, &e), 0);
    assert_int_equal(safetensors_open(&s, path, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    buf_release(&b);
    assert_true(clock_seconds() - begin < 30); /* quadratic would be hours */
}

static void cut_and_flipped(void **state)
{
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"}," T(
        "a", "F32", "2,1", "0", "8") "," T("b\\u00e9", "BF16", "1", "8", "10") "}";
    struct safetensors s;
    (void)state;
    forge_safetensors(&f, header, 0, 10);
    size_t full = f.n;
    for (f.n = 0; f.n < full; f.n++) {
        forge_write(&f, path);
        assert_int_equal(safetensors_open(&s, path, NULL), -1);
    }
    f.n = full;
    for (size_t i = 0; i < full - 10; i++) {
        f.data[i] ^= (uint8_t)(1u << (i % 8));
        forge_write(&f, path);
        if (safetensors_open(&s, path, NULL) == 0)
            safetensors_close(&s);
        f.data[i] ^= (uint8_t)(1u << (i % 8));
    }
}

static void no_file(void **state)
{
    struct safetensors s;
    struct err e = {0};
    char absent[128];
    (void)state;
    snprintf(absent, sizeof absent, "%s/absent", dir);
    assert_int_equal(safetensors_open(&s, absent, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_int_equal(safetensors_open(&s, dir, &e), -1);
    safetensors_close(&s); /* nothing was opened */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read), cmocka_unit_test(odd_but_right),
        cmocka_unit_test(lying_length),   cmocka_unit_test(huge_header),
        cmocka_unit_test(ranges),         cmocka_unit_test(names_and_types),
        cmocka_unit_test(json),           cmocka_unit_test(deep_json),
        cmocka_unit_test(many_tensors),   cmocka_unit_test(cut_and_flipped),
        cmocka_unit_test(no_file),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
