/* gguf: what is refused and by which words, what is read, and that what is written is read back.
 *
 * The sections HEADER, KV, TENSORS and DATA follow upstream's own list of malformed files
 * (tests/test-gguf.cpp); ADVISORIES has one file for each known attack on a GGUF reader. */
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

#include "../forge/forge.h"
#include "base/fs.h"
#include "format/gguf.h"

static char dir[] = "/tmp/sintra-gguf-XXXXXX";
static char path[96];
static struct forge f;

enum { U8 = 0, I8 = 1, U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STR = 8, ARRAY = 9, U64 = 10 };
enum { T_F32 = 0, T_Q4_0 = 2, T_I8 = 24, T_I64 = 27 };

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/a.gguf", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

/* f must be refused by a sentence that names the file and has these words, and a hint. */
static void refused_as(enum gguf_check check, enum err_code code, const char *words)
{
    struct err e = {0};
    struct gguf g;
    forge_write(&f, path);
    int rc = gguf_open(&g, path, check, &e);
    if (rc == 0)
        gguf_close(&g);
    if (rc == 0 || !strstr(e.message, words))
        print_message("wanted \"%s\", got \"%s\"\n", words, rc == 0 ? "(accepted)" : e.message);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(e.message, words));
    assert_non_null(strstr(e.message, path));
    assert_int_not_equal(e.hint[0], '\0');
    assert_int_equal(e.code, code);
}

static void refused(const char *words)
{
    refused_as(GGUF_CHECK_CONTAINER, ERR_INPUT, words);
}

static void opened(struct gguf *g, enum gguf_check check)
{
    struct err e = {0};
    forge_write(&f, path);
    if (gguf_open(g, path, check, &e))
        fail_msg("%s", e.message);
    assert_int_equal(e.code, ERR_NONE);
}

static void accepted(enum gguf_check check)
{
    struct gguf g;
    opened(&g, check);
    gguf_close(&g);
}

/* One tensor of one dimension and its data, after whatever keys f has. */
static void finish_with_tensor(void)
{
    forge_tensor(&f, "t", 1, (uint64_t[]){8}, T_F32, 0);
    forge_counts(&f);
    forge_pad(&f, 32);
    forge_fill(&f, 32, 0);
}

/* ---- HEADER ---------------------------------------------------------------------------------- */

static void header_magic(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    memcpy(f.data, "FUGG", 4);
    refused("begins with \"FUGG\"");
    memcpy(f.data, "\x1b[2J", 4); /* must not reach a terminal */
    refused("begins with \"?[2J\"");
}

static void header_version(void **state)
{
    (void)state;
    forge_gguf(&f, 0, 0, 0);
    refused_as(GGUF_CHECK_CONTAINER, ERR_UNSUPPORTED, "version 0");
    forge_gguf(&f, 1, 0, 0);
    refused_as(GGUF_CHECK_CONTAINER, ERR_UNSUPPORTED, "version 1");
    forge_gguf(&f, 4, 0, 0);
    refused_as(GGUF_CHECK_CONTAINER, ERR_UNSUPPORTED, "version 4");
    forge_gguf(&f, 0x03000000, 0, 0);
    refused_as(GGUF_CHECK_CONTAINER, ERR_UNSUPPORTED, "big-endian");
    forge_gguf(&f, 2, 0, 0);
    accepted(GGUF_CHECK_CONTAINER);
}

static void header_counts(void **state)
{
    (void)state;
    forge_gguf(&f, 3, UINT64_MAX, 0);
    refused("number of tensors is -1");
    forge_gguf(&f, 3, 0, UINT64_MAX);
    refused("number of keys is -1");
    forge_gguf(&f, 3, 3, 0);
    forge_fill(&f, 64, 0);
    refused("number of tensors is 3, but the 72 bytes that follow hold at most 2");
    forge_gguf(&f, 3, 0, 70000);
    forge_fill(&f, 1000000, 0);
    refused_as(GGUF_CHECK_CONTAINER, ERR_LIMIT, "at most 65536");
}

static void header_cut(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    for (size_t n = 0; n < 24; n++) {
        f.n = n;
        refused("the file ends inside");
    }
    f.n = 24; /* HEADER_EMPTY of upstream's list: valid */
    accepted(GGUF_CHECK_CONTAINER);
}

/* ---- KV -------------------------------------------------------------------------------------- */

static void kv_key_size(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 1);
    forge_u64(&f, UINT64_MAX);
    forge_fill(&f, 100, 'a');
    refused("the file ends inside a key: 18446744073709551615 bytes");
    forge_gguf(&f, 3, 0, 1);
    forge_u64(&f, 65536);
    forge_fill(&f, 70000, 'a');
    refused("a key has 65536 bytes");
}

static void kv_key_text(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_kv_u32(&f, "", 1);
    forge_counts(&f);
    refused("a key is empty");
    forge_gguf(&f, 3, 0, 0);
    forge_kv_u32(&f, "a\x1b[31m", 1);
    forge_counts(&f);
    refused("key \"a?[31m\" is not printable UTF-8");
    forge_gguf(&f, 3, 0, 0);
    forge_kv_u32(&f, "a\xc0\x80", 1);
    forge_counts(&f);
    refused("is not printable UTF-8");
    forge_gguf(&f, 3, 0, 1);
    forge_u64(&f, 3);
    forge_bytes(&f, "a\0b", 3);
    forge_u32(&f, U32);
    forge_u32(&f, 1);
    refused("is not printable UTF-8");
}

static void kv_type(void **state)
{
    (void)state;
    for (uint32_t type = 13; type < 16; type++) {
        forge_gguf(&f, 3, 0, 0);
        forge_kv(&f, "k", type);
        forge_u64(&f, 0);
        forge_counts(&f);
        refused("unknown value type 1");
    }
    forge_gguf(&f, 3, 0, 0);
    forge_kv_array(&f, "k", ARRAY, 1);
    forge_fill(&f, 64, 0);
    forge_counts(&f);
    refused("array of arrays");
    forge_gguf(&f, 3, 0, 0);
    forge_kv_array(&f, "k", UINT32_MAX, 1);
    forge_fill(&f, 64, 0);
    forge_counts(&f);
    refused("unknown value type -1");
}

static void kv_duplicate(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_kv_u32(&f, "same", 1);
    forge_kv_u32(&f, "same", 2);
    forge_counts(&f);
    refused("key \"same\" appears twice");
}

static void kv_alignment(void **state)
{
    static const uint32_t bad[] = {0, 1, 4, 13, 33, 131072, 0x80000000u};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        forge_gguf(&f, 3, 0, 0);
        forge_kv_u32(&f, "general.alignment", bad[i]);
        forge_counts(&f);
        refused("power of two");
    }
    forge_gguf(&f, 3, 0, 0);
    forge_kv(&f, "general.alignment", I32);
    forge_u32(&f, 32);
    forge_counts(&f);
    refused("general.alignment is of type i32");
}

static void kv_bool(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_kv(&f, "b", BOOL);
    forge_u8(&f, 2);
    forge_counts(&f);
    refused("truth value of 2");
    forge_gguf(&f, 3, 0, 0);
    forge_kv_array(&f, "b", BOOL, 3);
    forge_bytes(&f, "\0\1\377", 3);
    forge_counts(&f);
    refused("truth value of 255");
}

static void kv_string(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_kv_str(&f, "s", "\xff\xfe");
    forge_counts(&f);
    refused("not UTF-8 text");
    forge_gguf(&f, 3, 0, 0);
    forge_kv(&f, "s", STR);
    forge_u64(&f, 3);
    forge_bytes(&f, "a\0b", 3);
    forge_counts(&f);
    refused("not UTF-8 text without NUL");
    forge_gguf(&f, 3, 0, 0);
    forge_kv(&f, "s", STR);
    forge_u64(&f, (uint64_t)1 << 40);
    forge_fill(&f, 64, 'a');
    forge_counts(&f);
    refused("the file ends inside s");
}

/* ---- TENSORS --------------------------------------------------------------------------------- */

static void one_tensor(const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t dtype,
                       uint64_t offset)
{
    forge_gguf(&f, 3, 0, 0);
    forge_tensor(&f, name, n_dims, ne, dtype, offset);
    forge_counts(&f);
    forge_pad(&f, 32);
    forge_fill(&f, 4096, 0);
}

static void tensor_name(void **state)
{
    char name[80];
    (void)state;
    memset(name, 'n', sizeof name);
    name[64] = '\0';
    one_tensor(name, 1, (uint64_t[]){8}, T_F32, 0);
    refused("a tensor name has 64 bytes, at most 63");
    name[63] = '\0';
    one_tensor(name, 1, (uint64_t[]){8}, T_F32, 0);
    accepted(GGUF_CHECK_CONTAINER);
    one_tensor("", 1, (uint64_t[]){8}, T_F32, 0);
    refused("a tensor name is empty");
    one_tensor("a\nb", 1, (uint64_t[]){8}, T_F32, 0);
    refused("tensor name \"a?b\" is not printable");
}

static void tensor_dims(void **state)
{
    static const uint64_t ne[5] = {8, 1, 1, 1, 1};
    (void)state;
    one_tensor("t", 0, ne, T_F32, 0);
    refused("has 0 dimensions");
    one_tensor("t", 5, ne, T_F32, 0);
    refused("has 5 dimensions");
    one_tensor("t", 2, (uint64_t[]){UINT64_MAX, UINT64_MAX}, T_F32, 0);
    refused("dimension 0 of -1");
    one_tensor("t", 2, (uint64_t[]){8, 0}, T_F32, 0);
    refused("dimension 1 of 0");
    one_tensor("t", 1, (uint64_t[]){((uint64_t)1 << 40) + 1}, T_F32, 0);
    refused("expected 1 to 2^40");
    one_tensor("t", 4, (uint64_t[]){1 << 20, 1 << 20, 1 << 20, 1 << 20}, T_F32, 0);
    refused("more elements than 64 bits");
    one_tensor("t", 2, (uint64_t[]){(uint64_t)1 << 31, (uint64_t)1 << 31}, T_I64, 0);
    refused("overflows 64 bits");
}

static void tensor_dtype(void **state)
{
    static const uint32_t unknown[] = {4, 5, 9, 15, 31, 33, 36, 38, 43, 1000, 0xffff, UINT32_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        one_tensor("t", 1, (uint64_t[]){256}, unknown[i], 0);
        refused("which is unknown or was removed");
    }
    one_tensor("t", 1, (uint64_t[]){33}, T_Q4_0, 0);
    refused("rows of 33 elements, not a multiple of 32 as Q4_0 needs");
    one_tensor("t", 2, (uint64_t[]){16, 2}, T_Q4_0, 0); /* 32 elements, but not 32 to a row */
    refused("rows of 16 elements");
}

static void tensor_offset(void **state)
{
    (void)state;
    one_tensor("t", 1, (uint64_t[]){8}, T_F32, UINT64_MAX);
    refused("offset 18446744073709551615, expected 0");
    one_tensor("t", 1, (uint64_t[]){8}, T_F32, 32);
    refused("offset 32, expected 0");
    forge_gguf(&f, 3, 0, 0);
    forge_tensor(&f, "a", 1, (uint64_t[]){9}, T_F32, 0);
    forge_tensor(&f, "b", 1, (uint64_t[]){8}, T_F32, 36); /* not padded: alignments differ */
    forge_counts(&f);
    forge_pad(&f, 32);
    forge_fill(&f, 4096, 0);
    refused("tensor \"b\" has offset 36, expected 64");
}

static void tensor_duplicate(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_tensor(&f, "same", 1, (uint64_t[]){8}, T_F32, 0);
    forge_tensor(&f, "same", 1, (uint64_t[]){8}, T_F32, 32);
    forge_counts(&f);
    forge_pad(&f, 32);
    forge_fill(&f, 64, 0);
    refused("tensor \"same\" appears twice");
}

/* ---- DATA ------------------------------------------------------------------------------------ */

static void data_cut(void **state)
{
    (void)state;
    one_tensor("t", 1, (uint64_t[]){1024}, T_F32, 0);
    accepted(GGUF_CHECK_CONTAINER);
    f.n--;
    refused("ends at byte");
    f.n = 64; /* nothing of the data */
    refused("ends at byte");
    /* upstream's MEM_SIZE_OVERFLOW: two tensors of half the address space each */
    forge_gguf(&f, 3, 0, 0);
    forge_tensor(&f, "a", 1, (uint64_t[]){0x7fffffffffffffc0}, T_I8, 0);
    forge_tensor(&f, "b", 1, (uint64_t[]){0x7fffffffffffffc0}, T_I8, 0x7fffffffffffffc0);
    forge_counts(&f);
    refused("dimension 0");
}

/* The sum of sizes, padded at every step, wraps where no single size does. */
static void data_sum_overflow(void **state)
{
    static const uint64_t ne[3] = {(uint64_t)1 << 40, 1 << 21, 3};
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    for (unsigned i = 0; i < 4; i++)
        forge_tensor(&f, (const char[]){(char)('a' + (int)i), '\0'}, 3, ne, T_I8, i * (3ull << 61));
    forge_counts(&f);
    forge_fill(&f, 4096, 0);
    refused("tensor \"a\" ends at byte");
}

static void data_custom_alignment(void **state)
{
    struct gguf g;
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_kv_u32(&f, "general.alignment", 256);
    forge_tensor(&f, "a", 1, (uint64_t[]){1}, T_F32, 0);
    forge_tensor(&f, "b", 1, (uint64_t[]){1}, T_F32, 256);
    forge_counts(&f);
    forge_pad(&f, 256);
    size_t data = f.n;
    forge_fill(&f, 256 + 4, 7); /* the last tensor's padding may be missing */
    opened(&g, GGUF_CHECK_CONTAINER);
    assert_int_equal(g.alignment, 256);
    assert_int_equal(gguf_find(&g, "b")->offset, data + 256);
    assert_int_equal(gguf_tensor_data(&g, gguf_find(&g, "b"))[3], 7);
    assert_null(gguf_find(&g, "c"));
    gguf_close(&g);
}

/* ---- values ---------------------------------------------------------------------------------- */

static void values_are_read(void **state)
{
    struct gguf g;
    uint64_t u = 0;
    double d = 0;
    bool b = false;
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_kv_u32(&f, "u32", 4000000000u);
    forge_kv_f32(&f, "f32", 0.5f);
    forge_kv_str(&f, "str", "text");
    forge_kv(&f, "i8", I8);
    forge_u8(&f, 0xff);
    forge_kv(&f, "bool", BOOL);
    forge_u8(&f, 1);
    forge_kv_array(&f, "array", U32, 2);
    forge_u32(&f, 7);
    forge_u32(&f, 8);
    forge_kv_strs(&f, "strs", (const char *const[]){"one", "", "three"}, 3);
    finish_with_tensor();
    opened(&g, GGUF_CHECK_CONTAINER);
    assert_true(gguf_get_u64(&g.kvs, "u32", &u) && u == 4000000000u);
    assert_true(gguf_get_f64(&g.kvs, "f32", &d) && d == 0.5);
    assert_string_equal(gguf_get_str(&g.kvs, "str"), "text");
    assert_false(gguf_get_u64(&g.kvs, "i8", &u)); /* negative */
    assert_int_equal(gguf_kvs_find(&g.kvs, "i8")->i, -1);
    assert_true(gguf_get_bool(&g.kvs, "bool", &b) && b);
    const struct gguf_kv *kv = gguf_kvs_find(&g.kvs, "array");
    assert_int_equal(kv->count, 2);
    assert_int_equal(((const uint32_t *)kv->raw)[1], 8);
    kv = gguf_kvs_find(&g.kvs, "strs");
    assert_int_equal(kv->count, 3);
    assert_int_equal(kv->strs[1].len, 0);
    assert_memory_equal(kv->strs[2].data, "three", 5);
    assert_null(gguf_get_str(&g.kvs, "u32"));
    assert_null(gguf_kvs_find(&g.kvs, "absent"));
    gguf_close(&g);
}

static void kvs_are_edited(void **state)
{
    struct gguf_kvs k = {0}, copy = {0};
    uint64_t u;
    (void)state;
    gguf_set_u32(&k, "a", 1);
    gguf_set_str(&k, "b", "x");
    gguf_set_u64(&k, "c", 3);
    gguf_set_strs(&k, "d", (struct gguf_str[]){{"t\0u", 3}, {"", 0}}, 2);
    gguf_set_str(&k, "a", "now text"); /* in place */
    assert_int_equal(k.n, 4);
    assert_string_equal(k.items[0].key, "a");
    gguf_remove(&k, "b");
    gguf_remove(&k, "b");
    assert_null(gguf_kvs_find(&k, "b"));
    assert_true(gguf_get_u64(&k, "c", &u) && u == 3);
    for (size_t i = 0; i < k.n; i++)
        gguf_set_copy(&copy, &k.items[i]);
    gguf_kvs_release(&k);
    assert_string_equal(gguf_get_str(&copy, "a"), "now text");
    assert_memory_equal(gguf_kvs_find(&copy, "d")->strs[0].data, "t\0u", 4);
    gguf_kvs_release(&copy);
}

/* ---- a model: points 10 and 11 --------------------------------------------------------------- */

static const char *const tokens[4] = {"<s>", "<0x41>", "a", "ab"};
static const int32_t types[4] = {3, 6, 1, 1};
static const float scores[4] = {0, -1, -2, -3};

/* A small llama with everything right but the key `without`, which `instead` may write wrongly. */
static void llama(const char *without, void (*instead)(void))
{
    static const struct {
        const char *key;
        uint32_t value;
    } ints[] = {{"llama.block_count", 2},          {"llama.context_length", 64},
                {"llama.embedding_length", 8},     {"llama.feed_forward_length", 16},
                {"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 2},
                {"llama.rope.dimension_count", 2}, {"tokenizer.ggml.bos_token_id", 0}};
    forge_gguf(&f, 3, 0, 0);
    if (strcmp(without, "general.architecture") != 0)
        forge_kv_str(&f, "general.architecture", "llama");
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        if (strcmp(without, ints[i].key) != 0)
            forge_kv_u32(&f, ints[i].key, ints[i].value);
    }
    if (strcmp(without, "llama.attention.layer_norm_rms_epsilon") != 0)
        forge_kv_f32(&f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    if (strcmp(without, "tokenizer.ggml.tokens") != 0)
        forge_kv_strs(&f, "tokenizer.ggml.tokens", tokens, 4);
    if (strcmp(without, "tokenizer.ggml.token_type") != 0) {
        forge_kv_array(&f, "tokenizer.ggml.token_type", I32, 4);
        forge_bytes(&f, types, sizeof types);
    }
    if (strcmp(without, "tokenizer.ggml.scores") != 0) {
        forge_kv_array(&f, "tokenizer.ggml.scores", F32, 4);
        forge_bytes(&f, scores, sizeof scores);
    }
    if (instead)
        instead();
    const char *block = strcmp(without, "blk") == 0 ? "blk.2.attn_q.weight" : "blk.1.attn_q.weight";
    uint64_t rows = strcmp(without, "rows") == 0 ? 3 : 4,
             row = strcmp(without, "row") == 0 ? 16 : 8;
    forge_tensor(&f, "token_embd.weight", 2, (uint64_t[]){row, rows}, T_F32, 0);
    forge_tensor(&f, block, 2, (uint64_t[]){8, 8}, T_F32, row * rows * 4);
    forge_counts(&f);
    forge_pad(&f, 32);
    forge_fill(&f, row * rows * 4 + 8 * 8 * 4, 0);
}

static void refused_model(const char *without, void (*instead)(void), const char *words)
{
    llama(without, instead);
    refused_as(GGUF_CHECK_MODEL, ERR_INPUT, words);
}

/* Makers of one wrong key each: SET(name, call). */
#define SET(name, call)                                                                            \
    static void name(void)                                                                         \
    {                                                                                              \
        call;                                                                                      \
    }
SET(arch_odd, forge_kv_str(&f, "general.architecture", "../../etc"))
SET(arch_number, forge_kv_u32(&f, "general.architecture", 1))
SET(type_imatrix, forge_kv_str(&f, "general.type", "imatrix"))
SET(type_adapter, forge_kv_str(&f, "general.type", "adapter"))
SET(blocks_0, forge_kv_u32(&f, "llama.block_count", 0))
SET(blocks_513, forge_kv_u32(&f, "llama.block_count", 513))
SET(blocks_text, forge_kv_str(&f, "llama.block_count", "2"))
SET(context_huge, forge_kv_u32(&f, "llama.context_length", (1 << 24) + 1))
SET(heads_0, forge_kv_u32(&f, "llama.attention.head_count", 0))
SET(heads_3, forge_kv_u32(&f, "llama.attention.head_count", 3))
SET(kv_heads_3, forge_kv_u32(&f, "llama.attention.head_count_kv", 3))
SET(kv_heads_array, (forge_kv_array(&f, "llama.attention.head_count_kv", U32, 1), forge_u32(&f, 1)))
SET(heads_array, (forge_kv_array(&f, "llama.attention.head_count", U32, 2), forge_u32(&f, 4),
                  forge_u32(&f, 70000)))
SET(rope_4, forge_kv_u32(&f, "llama.rope.dimension_count", 4))
SET(eps_0, forge_kv_f32(&f, "llama.attention.layer_norm_rms_epsilon", 0))
SET(eps_nan, forge_kv_f32(&f, "llama.attention.layer_norm_rms_epsilon", NAN))
SET(base_inf, forge_kv_f32(&f, "llama.rope.freq_base", INFINITY))
SET(experts_many, forge_kv_u32(&f, "llama.expert_count", 5000))
SET(experts_used, forge_kv_u32(&f, "llama.expert_used_count", 2))

static void hyperparameters(void **state)
{
    (void)state;
    llama("", NULL);
    accepted(GGUF_CHECK_MODEL);
    refused_model("general.architecture", NULL, "general.architecture is missing");
    refused_model("general.architecture", arch_odd, "is not a name");
    refused_model("general.architecture", arch_number, "general.architecture is missing");
    refused_model("", type_imatrix, "is an importance matrix, not a model");
    refused_model("", type_adapter, "is an adapter, not a model");
    refused_model("llama.block_count", NULL, "llama.block_count is missing");
    refused_model("llama.block_count", blocks_0, "llama.block_count must be an integer from 1");
    refused_model("llama.block_count", blocks_text, "llama.block_count must be an integer from 1");
    refused_model("llama.context_length", context_huge, "llama.context_length must be");
    refused_model("llama.attention.head_count", heads_0, "head_count must be an integer from 1");
    refused_model("llama.attention.head_count", heads_3, "not a multiple of head_count_kv 2");
    refused_model("llama.attention.head_count_kv", kv_heads_3, "is not a multiple");
    refused_model("llama.attention.head_count_kv", kv_heads_array, "1 elements for 2 blocks");
    refused_model("llama.attention.head_count", heads_array, "head_count must be an integer");
    refused_model("llama.rope.dimension_count", rope_4, "larger than a head of 2");
    refused_model("llama.attention.layer_norm_rms_epsilon", eps_0, "expected a number above zero");
    refused_model("llama.attention.layer_norm_rms_epsilon", eps_nan, "is not a finite number");
    refused_model("", base_inf, "llama.rope.freq_base is not a finite number");
    refused_model("", experts_many, "llama.expert_count must be");
    refused_model("", experts_used, "expert_used_count 2 is larger than expert_count 0");
}

SET(scores_u64, (forge_kv_array(&f, "tokenizer.ggml.scores", U64, 4), forge_fill(&f, 32, 0)))
SET(scores_3, (forge_kv_array(&f, "tokenizer.ggml.scores", F32, 3), forge_fill(&f, 12, 0)))
SET(scores_str, forge_kv_strs(&f, "tokenizer.ggml.scores", tokens, 4))
SET(types_f32, (forge_kv_array(&f, "tokenizer.ggml.token_type", F32, 4), forge_fill(&f, 16, 0)))
SET(types_5, (forge_kv_array(&f, "tokenizer.ggml.token_type", I32, 5), forge_fill(&f, 20, 0)))
SET(tokens_u32, (forge_kv_array(&f, "tokenizer.ggml.tokens", U32, 4), forge_fill(&f, 16, 0)))
SET(tokens_none, forge_kv_array(&f, "tokenizer.ggml.tokens", STR, 0))
SET(bos_4, forge_kv_u32(&f, "tokenizer.ggml.bos_token_id", 4))
SET(bos_text, forge_kv_str(&f, "tokenizer.ggml.bos_token_id", "0"))
SET(eos_far, forge_kv_u32(&f, "tokenizer.ggml.eos_token_id", UINT32_MAX))
SET(merge_one, forge_kv_strs(&f, "tokenizer.ggml.merges", (const char *const[]){"a b", "ab"}, 2))
SET(merge_first, forge_kv_strs(&f, "tokenizer.ggml.merges", (const char *const[]){" ab"}, 1))
SET(merge_empty, forge_kv_strs(&f, "tokenizer.ggml.merges", (const char *const[]){""}, 1))
SET(merge_u8, (forge_kv_array(&f, "tokenizer.ggml.merges", U8, 4), forge_fill(&f, 4, 0)))
SET(charsmap_f32,
    (forge_kv_array(&f, "tokenizer.ggml.precompiled_charsmap", F32, 1), forge_f32(&f, 0)))

static void vocabulary(void **state)
{
    (void)state;
    refused_model("tokenizer.ggml.scores", scores_u64, "scores must be an array of f32");
    refused_model("tokenizer.ggml.scores", scores_str, "scores must be an array of f32");
    refused_model("tokenizer.ggml.scores", scores_3, "scores has 3 elements for 4 tokens");
    refused_model("tokenizer.ggml.token_type", types_f32, "token_type must be an array of i32");
    refused_model("tokenizer.ggml.token_type", types_5, "token_type has 5 elements for 4 tokens");
    refused_model("tokenizer.ggml.tokens", tokens_u32, "tokens must be an array of string");
    refused_model("tokenizer.ggml.tokens", tokens_none, "tokenizer.ggml.tokens is empty");
    refused_model("tokenizer.ggml.bos_token_id", bos_4, "bos_token_id must be an integer below");
    refused_model("tokenizer.ggml.bos_token_id", bos_text, "bos_token_id must be an integer below");
    refused_model("", eos_far, "eos_token_id must be an integer below the 4 tokens");
    refused_model("", merge_one, "merge 1 \"ab\" is not two parts");
    refused_model("", merge_first, "merge 0 \" ab\"");
    refused_model("", merge_empty, "merge 0");
    refused_model("", merge_u8, "merges must be an array of string");
    refused_model("", charsmap_f32, "precompiled_charsmap must be an array");
    refused_model("rows", NULL, "token_embd.weight has 3 rows for 4 tokens");
    refused_model("row", NULL, "token_embd.weight has rows of 16");
    refused_model("blk", NULL, "tensor \"blk.2.attn_q.weight\" is outside the 2 blocks");
}

/* An architecture without a table: only what is there is judged. */
static void unknown_architecture(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_kv_str(&f, "general.architecture", "newthing-2");
    finish_with_tensor();
    accepted(GGUF_CHECK_MODEL);
    forge_gguf(&f, 3, 0, 0);
    forge_kv_str(&f, "general.architecture", "mamba");
    forge_kv_u32(&f, "mamba.block_count", 4);
    forge_kv_u32(&f, "mamba.attention.head_count", 0); /* its converter writes this */
    finish_with_tensor();
    accepted(GGUF_CHECK_MODEL);
    forge_gguf(&f, 3, 0, 0);
    forge_kv_str(&f, "general.architecture", "newthing-2");
    forge_kv_u32(&f, "newthing-2.block_count", 600);
    finish_with_tensor();
    refused_as(GGUF_CHECK_MODEL, ERR_INPUT, "newthing-2.block_count must be");
    forge_gguf(&f, 3, 0, 0);
    forge_kv_str(&f, "general.architecture", "newthing-2");
    forge_counts(&f);
    refused_as(GGUF_CHECK_MODEL, ERR_INPUT, "the model has no tensors");
}

/* ---- ADVISORIES ------------------------------------------------------------------------------ */

/* CVE-2024-21802 and its siblings: counts and lengths that promise more than the file has. */
static void advisory_counts(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0x4000000000000000, 1);
    refused("number of tensors");
    forge_gguf(&f, 3, 0, 0);
    forge_kv_array(&f, "a", U64, 0x2000000000000000);
    forge_fill(&f, 64, 0);
    forge_counts(&f);
    refused("claims 2305843009213693952 elements");
    forge_gguf(&f, 3, 0, 0);
    forge_kv_array(&f, "a", STR, 9);
    forge_fill(&f, 64, 0);
    forge_counts(&f);
    refused("claims 9 elements, but 64 bytes are left");
}

/* CVE-2025-53630 and CVE-2026-27940: the running sum of tensor sizes wraps to something small. */
static void advisory_sum_wraps(void **state)
{
    static const uint64_t half[3] = {(uint64_t)1 << 40, 1 << 20, 8};
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_tensor(&f, "a", 3, half, T_I8, 0);
    forge_tensor(&f, "b", 3, half, T_I8, (uint64_t)1 << 63);
    forge_tensor(&f, "c", 1, (uint64_t[]){32}, T_I8, 0);
    forge_counts(&f);
    forge_fill(&f, 4096, 0);
    refused("tensor \"a\" ends at byte 9223372036854775");
}

/* CVE-2025-49847: a token longer than a signed 32-bit length can say; here, than our limit. */
static void long_token(void)
{
    forge_kv_array(&f, "tokenizer.ggml.tokens", STR, 4);
    for (int i = 0; i < 4; i++) {
        forge_u64(&f, i == 0 ? 66000 : 1);
        forge_fill(&f, i == 0 ? 66000 : 1, 'x');
    }
}

static void advisory_token_length(void **state)
{
    (void)state;
    refused_model("tokenizer.ggml.tokens", long_token, "token 0 has 66000 bytes");
}

/* The alignment that makes padding wrap to zero, and one of another type. */
static void advisory_alignment(void **state)
{
    (void)state;
    forge_gguf(&f, 3, 0, 0);
    forge_kv(&f, "general.alignment", U64);
    forge_u64(&f, (uint64_t)1 << 63);
    finish_with_tensor();
    refused("general.alignment is of type u64");
    forge_gguf(&f, 3, 0, 0);
    forge_kv_u32(&f, "general.alignment", 0x80000000u);
    finish_with_tensor();
    refused("power of two from 8 to 65536");
    forge_gguf(&f, 3, 0, 0);
    forge_kv(&f, "s", STR);
    forge_u64(&f, (uint64_t)1 << 30);
    forge_counts(&f);
    refused("the file ends inside s");
}

/* A product of dimensions that wraps: upstream's reader accepts this file as 2^64 - 2 bytes. */
static void advisory_dims_overflow(void **state)
{
    (void)state;
    one_tensor("t", 2, (uint64_t[]){INT64_MAX, 2}, T_I8, 0);
    refused("tensor \"t\" has dimension 0 of 9223372036854775807");
}

/* A dimension of zero divides by zero; an empty key is asserted on. */
static void advisory_zero(void **state)
{
    (void)state;
    one_tensor("t", 2, (uint64_t[]){0, 8}, T_F32, 0);
    refused("dimension 0 of 0");
}

/* More blocks than fixed arrays have places. */
static void advisory_blocks(void **state)
{
    (void)state;
    refused_model("llama.block_count", blocks_513,
                  "llama.block_count must be an integer from 1 to 512");
}

/* A byte token whose digits are no digits indexes before an array. */
static void bad_byte_token(void)
{
    forge_kv_strs(&f, "tokenizer.ggml.tokens", (const char *const[]){"<s>", "<0x-1>", "a", "ab"},
                  4);
}

static void short_byte_token(void)
{
    forge_kv_strs(&f, "tokenizer.ggml.tokens", (const char *const[]){"<s>", "<0", "a", "ab"}, 4);
}

static void advisory_byte_token(void **state)
{
    (void)state;
    refused_model("tokenizer.ggml.tokens", bad_byte_token, "byte token 1 is \"<0x-1>\"");
    refused_model("tokenizer.ggml.tokens", short_byte_token, "byte token 1 is \"<0\"");
}

/* CVE-2026-7482: a tensor larger than the file is read past its end into the quantized output. */
static void advisory_extent(void **state)
{
    (void)state;
    one_tensor("t", 2, (uint64_t[]){4096, 4096}, T_F32, 0);
    refused("but the file has");
}

/* ---- splits: point 13 ------------------------------------------------------------------------ */

static void split_file(unsigned no, unsigned of, unsigned key_no, unsigned key_count,
                       unsigned key_tensors, const char *tensor)
{
    char name[128];
    forge_gguf(&f, 3, 0, 0);
    forge_kv(&f, "split.no", 2);
    forge_bytes(&f, &(uint16_t){(uint16_t)key_no}, 2);
    forge_kv(&f, "split.count", 2);
    forge_bytes(&f, &(uint16_t){(uint16_t)key_count}, 2);
    forge_kv(&f, "split.tensors.count", I32);
    forge_u32(&f, key_tensors);
    forge_tensor(&f, tensor, 1, (uint64_t[]){8}, T_F32, 0);
    forge_counts(&f);
    forge_pad(&f, 32);
    forge_fill(&f, 32, no);
    snprintf(name, sizeof name, "%s/m-%05u-of-%05u.gguf", dir, no, of);
    forge_write(&f, name);
}

static void split_refused(const char *name, const char *words)
{
    char full[160];
    struct gguf g;
    struct err e = {0};
    snprintf(full, sizeof full, "%s/%s", dir, name);
    int rc = gguf_open(&g, full, GGUF_CHECK_CONTAINER, &e);
    if (rc == 0)
        gguf_close(&g);
    if (rc == 0 || !strstr(e.message, words))
        fail_msg("wanted \"%s\", got \"%s\"", words, rc == 0 ? "(accepted)" : e.message);
}

static void splits(void **state)
{
    char first[160];
    struct gguf g;
    struct err e = {0};
    (void)state;
    split_file(1, 2, 0, 2, 2, "a");
    split_file(2, 2, 1, 2, 2, "b");
    snprintf(first, sizeof first, "%s/m-00001-of-00002.gguf", dir);
    assert_int_equal(gguf_open(&g, first, GGUF_CHECK_CONTAINER, &e), 0);
    assert_int_equal(g.n_maps, 2);
    assert_int_equal(g.n_tensors, 2);
    assert_int_equal(gguf_find(&g, "b")->file, 1);
    assert_int_equal(gguf_tensor_data(&g, gguf_find(&g, "a"))[0], 1);
    assert_int_equal(gguf_tensor_data(&g, gguf_find(&g, "b"))[0], 2);
    gguf_close(&g);
    char second[160];
    uint64_t all, one, two;
    snprintf(second, sizeof second, "%s/m-00002-of-00002.gguf", dir);
    assert_int_equal(fs_size(first, &one, &e) | fs_size(second, &two, &e), 0);
    assert_int_equal(gguf_bytes(first, &all, &e), 0);
    assert_int_equal(all, one + two);
    split_refused("m-00002-of-00002.gguf", "this is file 2 of 2");
    split_file(2, 2, 1, 2, 2, "a");
    split_refused("m-00001-of-00002.gguf", "tensor \"a\" appears twice");
    split_file(2, 2, 0, 2, 2, "b");
    split_refused("m-00001-of-00002.gguf", "says it is file 1 of 2");
    split_file(2, 2, 1, 2, 3, "b");
    split_refused("m-00001-of-00002.gguf", "with 3 tensors, expected");
    split_file(1, 2, 0, 2, 3, "a");
    split_refused("m-00001-of-00002.gguf", "the files hold 2 tensors");
    split_file(1, 2, 0, 3, 3, "a");
    split_refused("m-00001-of-00002.gguf", "the name must end in -00001-of-00003.gguf");
    split_file(1, 3, 0, 3, 3, "a");
    split_refused("m-00001-of-00003.gguf", "file 2 of 3 is needed");
    split_file(1, 2, 0, 65535, 3, "a");
    split_refused("m-00001-of-00002.gguf", "split.count is 65535");
}

/* ---- writing --------------------------------------------------------------------------------- */

static void set_all(struct gguf_kvs *k)
{
    gguf_set_str(k, "general.architecture", "llama");
    gguf_set_u32(k, "u32", 5);
    gguf_set_u64(k, "u64", UINT64_MAX);
    gguf_set_i32(k, "i32", -7);
    gguf_set_u16(k, "u16", 65535);
    gguf_set_f32(k, "f32", 1e-5f);
    gguf_set_bool(k, "bool", true);
    gguf_set_array(k, "floats", GGUF_F32, (const float[]){1, 2, 3}, 3);
    gguf_set_array(k, "nothing", GGUF_I32, NULL, 0);
    gguf_set_strs(k, "strings", (struct gguf_str[]){{"a\0b", 3}, {"", 0}}, 2);
}

static bool same_kv(const struct gguf_kv *a, const struct gguf_kv *b)
{
    if (strcmp(a->key, b->key) != 0 || a->type != b->type || a->element != b->element ||
        a->u != b->u || a->i != b->i || a->f != b->f || a->count != b->count)
        return false;
    if (a->type == GGUF_STR)
        return a->str.len == b->str.len && memcmp(a->str.data, b->str.data, a->str.len) == 0;
    if (a->type == GGUF_ARRAY && a->element != GGUF_STR)
        return memcmp(a->raw, b->raw, a->count * gguf_type_bytes(a->element)) == 0;
    for (uint64_t i = 0; a->type == GGUF_ARRAY && i < a->count; i++) {
        if (a->strs[i].len != b->strs[i].len ||
            memcmp(a->strs[i].data, b->strs[i].data, a->strs[i].len) != 0)
            return false;
    }
    return true;
}

static void written_is_read_back(void **state)
{
    struct gguf_kvs k = {0};
    struct gguf_writer w;
    struct gguf g;
    struct err e = {0};
    uint64_t total = 0, size = 0;
    float row[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct gguf_writer_tensor t[] = {
        {.name = "a", .dtype = DT_F32, .shape = {.n_dims = 1, .ne = {9, 1, 1, 1}}},
        {.name = "b", .dtype = DT_Q4_0, .shape = {.n_dims = 3, .ne = {32, 3, 1, 1}}}};
    (void)state;
    set_all(&k);
    assert_int_equal(gguf_plan(&k, t, 2, &total, &e), 0);
    assert_int_equal(gguf_writer_open(&w, path, &k, t, 2, &e), 0);
    assert_int_equal(w.total_bytes, total);
    assert_int_equal(t[0].bytes, 36);
    assert_int_equal(t[1].offset - t[0].offset, 64);
    assert_int_equal(t[1].bytes, 54);
    assert_int_equal(fs_atomic_write_at(&w.file, t[1].offset, row, 36, &e), 0);
    assert_int_equal(fs_atomic_write_at(&w.file, t[0].offset, row, sizeof row, &e), 0);
    assert_int_equal(gguf_writer_commit(&w, &e), 0);
    assert_int_equal(fs_size(path, &size, &e), 0);
    assert_int_equal(size, total);
    assert_int_equal(size % 32, 0);
    assert_int_equal(gguf_open(&g, path, GGUF_CHECK_CONTAINER, &e), 0);
    assert_int_equal(g.kvs.n, k.n);
    for (size_t i = 0; i < k.n; i++)
        assert_true(same_kv(&k.items[i], &g.kvs.items[i]));
    const struct gguf_tensor *b = gguf_find(&g, "b");
    assert_int_equal(b->offset, t[1].offset);
    assert_int_equal(b->shape.n_dims, 2); /* trailing ones are not written */
    assert_memory_equal(gguf_tensor_data(&g, &g.tensors[0]), row, sizeof row);
    assert_memory_equal(gguf_tensor_data(&g, b), row, 36);
    for (int i = 36; i < 54 + 10; i++) /* unwritten data and padding are zero */
        assert_int_equal(gguf_tensor_data(&g, b)[i], 0);
    gguf_close(&g);
    gguf_kvs_release(&k);
}

static void plan_refused(struct gguf_kvs *k, struct gguf_writer_tensor *t, size_t n,
                         const char *words)
{
    struct err e = {0};
    uint64_t total;
    assert_int_equal(gguf_plan(k, t, n, &total, &e), -1);
    if (!strstr(e.message, words))
        fail_msg("wanted \"%s\", got \"%s\"", words, e.message);
}

static void writer_refuses(void **state)
{
    struct gguf_kvs k = {0};
    struct gguf_writer_tensor t[2] = {
        {.name = "a", .dtype = DT_F32, .shape = {.n_dims = 1, .ne = {9, 1, 1, 1}}},
        {.name = "a", .dtype = DT_F32, .shape = {.n_dims = 1, .ne = {9, 1, 1, 1}}}};
    char long_name[65] = "";
    (void)state;
    plan_refused(&k, t, 2, "would be written twice");
    memset(long_name, 'x', 64);
    t[1].name = long_name;
    plan_refused(&k, t, 2, "cannot be written to a GGUF file");
    t[1].name = "b";
    t[1].dtype = DT_U8;
    plan_refused(&k, t, 2, "cannot hold type U8");
    t[1].dtype = DT_Q4_K;
    plan_refused(&k, t, 2, "tensor \"b\" of 9 does not fit type Q4_K");
    t[1] = (struct gguf_writer_tensor){
        .name = "b", .dtype = DT_I64, .shape = {.n_dims = 3, .ne = {1ull << 40, 1ull << 21, 1}}};
    plan_refused(&k, t, 2, "does not fit type I64");
    t[1].shape.ne[1] = 1ull << 20;
    plan_refused(&k, t, 2, "would be too large at tensor \"b\"");
    gguf_set_u32(&k, "general.alignment", 24);
    plan_refused(&k, t, 1, "general.alignment must be");
    gguf_kvs_release(&k);
}

static void failed_write_leaves_nothing(void **state)
{
    struct gguf_kvs k = {0};
    struct gguf_writer w;
    struct err e = {0};
    char **names = NULL;
    size_t n = 0, before = 0;
    char bad[160], fresh[160];
    struct gguf_writer_tensor t = {
        .name = "a", .dtype = DT_F32, .shape = {.n_dims = 2, .ne = {1ull << 40, 1 << 18, 1, 1}}};
    (void)state;
    assert_int_equal(fs_list(dir, &names, &before, &e), 0);
    fs_list_free(names, before);
    snprintf(fresh, sizeof fresh, "%s/fresh.gguf", dir);
    assert_int_equal(gguf_writer_open(&w, fresh, &k, &t, 1, &e), -1); /* an exabyte */
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.message, "disk space"));
    t.shape.ne[0] = t.shape.ne[1] = 4;
    snprintf(bad, sizeof bad, "%s/no/such/dir.gguf", dir);
    assert_int_equal(gguf_writer_open(&w, bad, &k, &t, 1, &e), -1);
    assert_int_equal(gguf_writer_open(&w, fresh, &k, &t, 1, &e), 0);
    gguf_writer_abort(&w);
    assert_int_equal(fs_list(dir, &names, &n, &e), 0);
    fs_list_free(names, n);
    assert_int_equal(n, before);
}

/* Every prefix of a valid file is refused, and no byte flipped makes the reader misbehave. */
static void cut_and_flipped(void **state)
{
    struct gguf g;
    (void)state;
    llama("", NULL);
    size_t full = f.n;
    for (f.n = 0; f.n < full; f.n += f.n < 800 ? 1 : 97) {
        forge_write(&f, path);
        assert_int_equal(gguf_open(&g, path, GGUF_CHECK_MODEL, NULL), -1);
    }
    f.n = full;
    for (size_t i = 0; i < full - 384; i++) {
        f.data[i] ^= (uint8_t)(1u << (i % 8));
        forge_write(&f, path);
        if (gguf_open(&g, path, GGUF_CHECK_MODEL, NULL) == 0)
            gguf_close(&g);
        f.data[i] ^= (uint8_t)(1u << (i % 8));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_magic),
        cmocka_unit_test(header_version),
        cmocka_unit_test(header_counts),
        cmocka_unit_test(header_cut),
        cmocka_unit_test(kv_key_size),
        cmocka_unit_test(kv_key_text),
        cmocka_unit_test(kv_type),
        cmocka_unit_test(kv_duplicate),
        cmocka_unit_test(kv_alignment),
        cmocka_unit_test(kv_bool),
        cmocka_unit_test(kv_string),
        cmocka_unit_test(tensor_name),
        cmocka_unit_test(tensor_dims),
        cmocka_unit_test(tensor_dtype),
        cmocka_unit_test(tensor_offset),
        cmocka_unit_test(tensor_duplicate),
        cmocka_unit_test(data_cut),
        cmocka_unit_test(data_sum_overflow),
        cmocka_unit_test(data_custom_alignment),
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(kvs_are_edited),
        cmocka_unit_test(hyperparameters),
        cmocka_unit_test(vocabulary),
        cmocka_unit_test(unknown_architecture),
        cmocka_unit_test(advisory_counts),
        cmocka_unit_test(advisory_sum_wraps),
        cmocka_unit_test(advisory_token_length),
        cmocka_unit_test(advisory_alignment),
        cmocka_unit_test(advisory_dims_overflow),
        cmocka_unit_test(advisory_zero),
        cmocka_unit_test(advisory_blocks),
        cmocka_unit_test(advisory_byte_token),
        cmocka_unit_test(advisory_extent),
        cmocka_unit_test(splits),
        cmocka_unit_test(written_is_read_back),
        cmocka_unit_test(writer_refuses),
        cmocka_unit_test(failed_write_leaves_nothing),
        cmocka_unit_test(cut_and_flipped),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
