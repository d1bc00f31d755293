/* The reader of SentencePiece models: what it reads, and what it refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "../forge/forge_pieces.h"
#include "format/sentencepiece.h"

static char path[4096];
static struct forge f, inner;

static void begin(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/tokenizer.model", tmp ? tmp : "/tmp");
    f.n = inner.n = 0;
}

static int reads(struct sentencepiece *s, struct err *e)
{
    forge_write(&f, path);
    int found = sentencepiece_read(s, path, e);
    unlink(path);
    return found;
}

static void refused(const char *word)
{
    struct sentencepiece s;
    struct err e = {.code = ERR_NONE};
    if (reads(&s, &e) != -1)
        fail_msg("a bad model was read; expected an error with \"%s\"", word);
    if (!strstr(e.message, word) || !strstr(e.message, path))
        fail_msg("\"%s\" is not in: %s", word, e.message);
}

static void test_reads(void **state)
{
    (void)state;
    struct sentencepiece s;
    struct err e;
    begin();
    forge_piece(&f, "<unk>", 5, 0.0f, PIECE_UNKNOWN);
    forge_piece(&f, "\0", 1, -1.5f, 0);
    forge_piece(&f, "<0x41>", 6, 0.0f, PIECE_BYTE);
    forge_number(&inner, 3, SENTENCEPIECE_BPE);
    forge_number(&inner, 35, 1);
    forge_number(&inner, 41, 2);
    forge_number(&inner, 42, UINT64_MAX); /* -1 */
    forge_number(&inner, 99, 12345);      /* a field of the future */
    forge_message(&f, 2, &inner);
    inner.n = 0;
    forge_field(&inner, 2, 2);
    forge_varint(&inner, 3);
    forge_bytes(&inner, "map", 3);
    forge_number(&inner, 3, 0);
    forge_message(&f, 3, &inner);
    assert_int_equal(reads(&s, &e), 1);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.kind, SENTENCEPIECE_BPE);
    assert_true(s.byte_fallback && !s.add_dummy_prefix && s.remove_extra_whitespaces);
    assert_int_equal(s.bos_id, 2);
    assert_int_equal(s.eos_id, -1);
    assert_int_equal(s.unk_id, 0);
    assert_int_equal(s.charsmap_len, 3);
    assert_memory_equal(s.charsmap, "map", 3);
    assert_int_equal(s.pieces[1].len, 1);
    assert_true(s.pieces[1].score > -1.6f && s.pieces[1].score < -1.4f);
    assert_int_equal(s.pieces[1].type, PIECE_NORMAL);
    assert_int_equal(s.pieces[2].type, PIECE_BYTE);
    sentencepiece_release(&s);
}

/* tiktoken's vocabularies have the same name: no error, no model. */
static void test_another_format(void **state)
{
    (void)state;
    struct sentencepiece s;
    struct err e = {.code = ERR_NONE};
    begin();
    forge_bytes(&f, "IQ== 0\nIg== 1\n", 14);
    assert_int_equal(reads(&s, &e), 0);
    f.n = 0;
    assert_int_equal(reads(&s, &e), 0);
    assert_int_equal(e.code, ERR_NONE);
}

static void test_damaged_pieces(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        float score;
        unsigned type;
        const char *word;
    } cases[] = {
        {"", 0, 0.0f, 0, "no text"},       {"\xff", 1, 0.0f, 0, "UTF-8"},
        {"a", 1, NAN, 0, "score"},         {"a", 1, INFINITY, 0, "score"},
        {"a", 1, 0.0f, 7, "unknown type"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin();
        forge_piece(&f, "ok", 2, 0.0f, 0);
        forge_piece(&f, cases[i].text, cases[i].len, cases[i].score, cases[i].type);
        refused(cases[i].word);
    }
}

static void test_damaged_wire(void **state)
{
    (void)state;
    begin();
    forge_piece(&f, "a", 1, 0.0f, 0);
    size_t whole = f.n;
    for (size_t cut = 1; cut < whole; cut++) { /* every truncation */
        f.n = cut;
        refused("not a sound SentencePiece model");
    }
    f.n = whole;
    forge_bytes(&f, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11); /* a length of 2^64-1 */
    refused("within a field");
    f.n = whole;
    forge_bytes(&f, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12); /* an endless varint */
    refused("within a field");
    f.n = whole;
    forge_bytes(&f, "\x0b", 1); /* a group */
    refused("within a field");
    f.n = whole;
    forge_number(&inner, 3, 4); /* characters only */
    forge_message(&f, 2, &inner);
    refused("kind 4");
    f.n = whole;
    inner.n = 0;
    forge_number(&inner, 41, 1);
    forge_message(&f, 2, &inner);
    refused("beyond the last piece");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_another_format),
        cmocka_unit_test(test_damaged_pieces),
        cmocka_unit_test(test_damaged_wire),
    };
    return cmocka_run_group_tests_name("sentencepiece", tests, NULL, NULL);
}
