/* Text for a person: widths, wrapping, tables, and what must not reach a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "face/paper.h"
#include "face/screen.h"

static void columns_of_text(void **state)
{
    (void)state;
    assert_int_equal(text_columns(""), 0);
    assert_int_equal(text_columns("abc"), 3);
    assert_int_equal(text_columns("\u00e9t\u00e9"), 3);
    assert_int_equal(text_columns("e\u0301"), 1);
    assert_int_equal(text_columns("\u6a21\u578b"), 4);
    assert_int_equal(text_columns("\U0001F999"), 2);
    assert_int_equal(text_columns("\xff\xfe"), 2);
    assert_int_equal(text_columns("\xe4\xb8"), 2);
}

static struct table *sample_table(void)
{
    struct table *t = table_new();
    table_column(t, "name", TABLE_LEFT);
    table_column(t, "size", TABLE_RIGHT);
    table_column(t, "empty", TABLE_LEFT);
    table_cell(t, STYLE_PLAIN, "Q4_K");
    table_cell(t, STYLE_PLAIN, "%d", 4);
    table_cell(t, STYLE_PLAIN, "%s", "");
    table_cell(t, STYLE_PLAIN, "\u6a21\u578b");
    table_cell(t, STYLE_PLAIN, "%d", 12345);
    table_cell(t, STYLE_PLAIN, "%s", "");
    return t;
}

static void table_aligns_and_drops_empty_columns(void **state)
{
    (void)state;
    struct paper p;
    struct table *t = sample_table();
    paper_init(&p, false, true, 0);
    assert_int_equal(table_rows(t), 2);
    table_print(t, &p, 2);
    assert_string_equal(buf_str(&p.text), "  name   size\n"
                                          "  Q4_K      4\n"
                                          "  \u6a21\u578b  12345\n");
    table_free(t);
    paper_release(&p);
}

static void table_fits_a_narrow_terminal(void **state)
{
    (void)state;
    struct paper p;
    struct table *t = table_new();
    table_column(t, "path", TABLE_LEFT);
    table_column(t, "n", TABLE_RIGHT);
    table_cell(t, STYLE_PLAIN, "%s", "a-very-long-name-of-a-file.gguf");
    table_cell(t, STYLE_PLAIN, "7");
    paper_init(&p, false, true, 20);
    table_print(t, &p, 0);
    assert_string_equal(buf_str(&p.text), "path               n\n"
                                          "a-very-long-name\u2026  7\n");
    buf_clear(&p.text);
    p.utf8 = false;
    table_print(t, &p, 0);
    assert_non_null(strstr(buf_str(&p.text), "a-very-long-name~  7\n"));
    table_free(t);
    paper_release(&p);
}

static void control_characters_are_shown_not_obeyed(void **state)
{
    (void)state;
    struct paper p;
    struct table *t = table_new();
    paper_init(&p, false, true, 0);
    paper_say(&p, STYLE_PLAIN, "%s", "a\033[2Jb\nc\x7f\xc2\x9b");
    assert_string_equal(buf_str(&p.text), "a?[2Jb?c??");
    buf_clear(&p.text);
    table_column(t, "", TABLE_LEFT);
    table_cell(t, STYLE_PLAIN, "%s", "x\ry");
    table_print(t, &p, 0);
    assert_string_equal(buf_str(&p.text), "x?y\n");
    table_free(t);
    paper_release(&p);
}

static void colour_only_when_asked(void **state)
{
    (void)state;
    struct paper p;
    paper_init(&p, true, true, 0);
    paper_say(&p, STYLE_BOLD, "x");
    assert_string_equal(buf_str(&p.text), "\033[1mx\033[0m");
    paper_release(&p);
    paper_init(&p, false, true, 0);
    paper_say(&p, STYLE_BOLD, "x");
    assert_string_equal(buf_str(&p.text), "x");
    paper_release(&p);
}

static void wrapping(void **state)
{
    (void)state;
    struct paper p;
    paper_init(&p, false, true, 20);
    paper_wrap(&p, 2, "one two three four five six\n\nsecond paragraph");
    assert_string_equal(buf_str(&p.text), "  one two three\n  four five six\n\n"
                                          "  second paragraph\n");
    paper_release(&p);
}

static void time_left(void **state)
{
    (void)state;
    assert_true(screen_eta(0, 0.5, 10) == 10);
    assert_true(screen_eta(0.5, 0.75, 10) == 10);
    assert_true(screen_eta(0, 1, 10) == 0);
    assert_true(screen_eta(0, 0, 10) < 0);
    assert_true(screen_eta(0.3, 0.2, 10) < 0);
}

/* What the screen wrote into a file while `report` ran; to free(). */
static char *seen(const struct screen_options *o, void (*report)(void))
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    struct screen_options with = *o;
    with.out = f;
    screen_open(&with);
    report();
    screen_close();
    fclose(f);
    return text;
}

static void say_things(void)
{
    progress_report(screen_progress(), "quick phase", 1, 10, NULL);
    log_warn("careful");
    screen_note("noted");
}

static void notes_and_warnings(void **state)
{
    (void)state;
    const struct screen_options with_notes = {.width = 80};
    const struct screen_options without = {.width = 80, .quiet = true};
    char *loud = seen(&with_notes, say_things);
    assert_string_equal(loud, "sintra: warning: careful\nnoted\n");
    free(loud);
    char *silent = seen(&without, say_things);
    assert_string_equal(silent, "sintra: warning: careful\n");
    free(silent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_of_text),
        cmocka_unit_test(table_aligns_and_drops_empty_columns),
        cmocka_unit_test(table_fits_a_narrow_terminal),
        cmocka_unit_test(control_characters_are_shown_not_obeyed),
        cmocka_unit_test(colour_only_when_asked),
        cmocka_unit_test(wrapping),
        cmocka_unit_test(time_left),
        cmocka_unit_test(notes_and_warnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
