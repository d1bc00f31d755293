/* err, stop, clock and log: sentences, codes, hints, truncation, the sink. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/stop.h"

static void sets_code_message_and_hint(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, ERR_INPUT, "try again", "%s: field %d", "a.gguf", 7), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_string_equal(e.message, "a.gguf: field 7");
    assert_string_equal(e.hint, "try again");
    err_set(&e, ERR_LIMIT, NULL, "other");
    assert_string_equal(e.hint, "");
    err_clear(&e);
    assert_int_equal(e.code, ERR_NONE);
    assert_string_equal(e.message, "");
}

static void null_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, NULL, "x"), -1);
    assert_int_equal(err_set_errno(NULL, EIO, NULL, "x"), -1);
    assert_int_equal(err_context(NULL, "x"), -1);
    err_clear(NULL);
}

static void context_goes_in_front_and_keeps_the_rest(void **state)
{
    (void)state;
    struct err e = {0};
    err_set(&e, ERR_MISSING, "look elsewhere", "no tensor \"%s\"", "output.weight");
    assert_int_equal(err_context(&e, "model %s", "m"), -1);
    assert_string_equal(e.message, "model m: no tensor \"output.weight\"");
    assert_string_equal(e.hint, "look elsewhere");
    assert_int_equal(e.code, ERR_MISSING);
    err_set(&e, ERR_INTERRUPTED, NULL, "interrupted");
    assert_int_equal(err_context(&e, "model %s", "m"), -1);
    assert_string_equal(e.message, "interrupted");
}

static void may_quote_itself(void **state)
{
    (void)state;
    struct err e = {0};
    err_set(&e, ERR_INPUT, "hint", "inner");
    err_set(&e, ERR_CHILD, e.hint, "outer (%s)", e.message);
    assert_string_equal(e.message, "outer (inner)");
    assert_string_equal(e.hint, "hint");
}

static void errno_gets_text_code_and_hint(void **state)
{
    (void)state;
    static const struct {
        int number;
        enum err_code code;
        const char *hint;
    } cases[] = {{ENOENT, ERR_MISSING, "path"}, {ENOMEM, ERR_MEMORY, "memory"},
                 {ENOSPC, ERR_IO, "free"},      {EDQUOT, ERR_IO, "free"},
                 {EACCES, ERR_IO, "permiss"},   {EIO, ERR_IO, ""}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err e = {0};
        err_set_errno(&e, cases[i].number, NULL, "cannot open %s", "f");
        assert_int_equal(e.code, cases[i].code);
        assert_true(strncmp(e.message, "cannot open f: ", 15) == 0);
        assert_non_null(strstr(e.message, strerror(cases[i].number)));
        assert_true(*cases[i].hint ? strstr(e.hint, cases[i].hint) != NULL : !*e.hint);
    }
    struct err e = {0};
    err_set_errno(&e, ENOSPC, "mine", "x");
    assert_string_equal(e.hint, "mine");
}

static void long_text_is_cut_at_a_character(void **state)
{
    (void)state;
    char text[3 * ERR_MESSAGE_MAX + 1];
    for (size_t i = 0; i + 1 < sizeof(text); i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3); /* euro signs */
    text[sizeof(text) - 1] = 0;
    for (int shift = 0; shift < 3; shift++) {
        struct err e = {0};
        err_set(&e, ERR_INPUT, text, "%.*s%s", shift, "ab", text);
        size_t n = strlen(e.message), h = strlen(e.hint);
        assert_in_range(n, ERR_MESSAGE_MAX - 4, ERR_MESSAGE_MAX - 1);
        assert_in_range(h, ERR_HINT_MAX - 4, ERR_HINT_MAX - 1);
        assert_int_equal((n - (size_t)shift) % 3, 0);
        assert_int_equal(h % 3, 0);
        err_context(&e, "front %s", text);
        assert_true(strlen(e.message) < ERR_MESSAGE_MAX);
    }
}

static void codes_have_names_and_exits(void **state)
{
    (void)state;
    for (int c = ERR_NONE; c <= ERR_BUG; c++) {
        assert_true(strlen(err_code_name((enum err_code)c)) > 1);
        for (int d = ERR_NONE; d < c; d++)
            assert_string_not_equal(err_code_name((enum err_code)c),
                                    err_code_name((enum err_code)d));
    }
    assert_string_equal(err_code_name((enum err_code)999), "unknown");
    assert_int_equal(err_exit_code(ERR_NONE), 0);
    assert_int_equal(err_exit_code(ERR_IO), 1);
    assert_int_equal(err_exit_code(ERR_USAGE), 2);
    assert_int_equal(err_exit_code(ERR_INFEASIBLE), 3);
    assert_int_equal(err_exit_code(ERR_INTERRUPTED), 130);
}

static void stop_is_noticed(void **state)
{
    (void)state;
    struct err e = {0};
    assert_false(stop_requested());
    assert_int_equal(stop_check(&e), 0);
    assert_int_equal(e.code, ERR_NONE);
    stop_request();
    assert_true(stop_requested());
    assert_int_equal(stop_check(&e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    stop_reset();
    assert_int_equal(stop_check(&e), 0);
}

static void clock_writes_iso_time(void **state)
{
    (void)state;
    char text[32];
    assert_string_equal(clock_iso(0, text), "1970-01-01T00:00:00Z");
    assert_string_equal(clock_iso(1795198238999, text), "2026-11-20T18:10:38Z");
    assert_string_equal(clock_iso(-1, text), "1969-12-31T23:59:59Z");
    assert_string_equal(clock_iso(-1000, text), "1969-12-31T23:59:59Z");
    assert_string_equal(clock_iso(951782400000, text), "2000-02-29T00:00:00Z");
    clock_iso(INT64_MAX, text);
    assert_true(strlen(text) < 32);
    double a = clock_seconds(), b = clock_seconds();
    assert_true(b >= a);
    int64_t now = clock_unix_ms();
    assert_true(now > 1700000000000 && now / 1000 - (int64_t)time(NULL) <= 1);
}

struct captured {
    int calls, inside, overlaps;
    enum log_level level;
    char text[8192];
};

static void capture(void *ud, enum log_level level, const char *text)
{
    struct captured *c = ud;
    if (++c->inside != 1)
        c->overlaps++;
    c->calls++;
    c->level = level;
    snprintf(c->text, sizeof(c->text), "%s", text);
    c->inside--;
}

static void log_respects_level_and_sink(void **state)
{
    (void)state;
    struct captured c = {0};
    log_set_sink(capture, &c);
    assert_int_equal(log_level(), LOG_WARN);
    log_info("hidden");
    assert_int_equal(c.calls, 0);
    log_warn("seen %d", 1);
    assert_int_equal(c.calls, 1);
    assert_int_equal(c.level, LOG_WARN);
    assert_string_equal(c.text, "seen 1");
    log_set_level(LOG_DEBUG);
    log_debug("deep");
    assert_string_equal(c.text, "deep");
    log_set_level(LOG_QUIET);
    log_warn("no");
    assert_int_equal(c.calls, 2);
    log_set_level(LOG_WARN);
    char big[10000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    log_warn("%s", big);
    assert_true(strlen(c.text) < sizeof(big) - 1);
    log_set_sink(NULL, NULL);
}

static void *log_much(void *ud)
{
    (void)ud;
    for (int i = 0; i < 2000; i++)
        log_warn("line %d", i);
    return NULL;
}

static void log_is_serialised(void **state)
{
    (void)state;
    struct captured c = {0};
    pthread_t threads[4];
    log_set_sink(capture, &c);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    log_set_sink(NULL, NULL);
    assert_int_equal(c.calls, 8000);
    assert_int_equal(c.overlaps, 0);
}

static void remember(void *ud, const char *phase, double done, double total, const char *detail)
{
    snprintf(ud, 64, "%s %g/%g %s", phase, done, total, detail ? detail : "-");
}

static void progress_is_optional(void **state)
{
    (void)state;
    char text[64] = "";
    struct progress none = {0}, some = {remember, text};
    progress_report(NULL, "p", 1, 2, NULL);
    progress_report(&none, "p", 1, 2, NULL);
    progress_report(&some, "bake", 1, 2, NULL);
    assert_string_equal(text, "bake 1/2 -");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_code_message_and_hint),
        cmocka_unit_test(null_is_allowed),
        cmocka_unit_test(context_goes_in_front_and_keeps_the_rest),
        cmocka_unit_test(may_quote_itself),
        cmocka_unit_test(errno_gets_text_code_and_hint),
        cmocka_unit_test(long_text_is_cut_at_a_character),
        cmocka_unit_test(codes_have_names_and_exits),
        cmocka_unit_test(stop_is_noticed),
        cmocka_unit_test(clock_writes_iso_time),
        cmocka_unit_test(log_respects_level_and_sink),
        cmocka_unit_test(log_is_serialised),
        cmocka_unit_test(progress_is_optional),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
