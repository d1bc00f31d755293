/* Arguments: argv to request, values checked by type, suggestions for what was mistyped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "face/args.h"

enum { WORDS_MAX = 24 };

/* Splits at blanks and parses; "a_b" stands for "a b" in one word. */
static int parse(struct face_request *r, const char *line, struct err *e)
{
    static char text[512];
    static char *words[WORDS_MAX + 1];
    int n = 0;
    snprintf(text, sizeof(text), "sintra %s", line);
    for (char *p = text; *p && n < WORDS_MAX;) {
        words[n++] = p;
        p += strcspn(p, " ");
        if (*p)
            *p++ = 0;
    }
    words[n] = NULL;
    err_clear(e);
    return face_request_parse(r, n, words, e);
}

static void parse_ok(struct face_request *r, const char *line)
{
    struct err e;
    if (parse(r, line, &e))
        fail_msg("\"%s\": %s", line, e.message);
}

static void check_refused(const char *line, const char *message, const char *hint)
{
    struct err e;
    struct face_request r;
    if (parse(&r, line, &e) == 0)
        fail_msg("\"%s\" was accepted", line);
    assert_int_equal(e.code, ERR_USAGE);
    if (!strstr(e.message, message))
        fail_msg("\"%s\": expected \"%s\" in \"%s\"", line, message, e.message);
    if (hint && !strstr(e.hint, hint))
        fail_msg("\"%s\": expected \"%s\" in hint \"%s\"", line, hint, e.hint);
    face_request_release(&r);
}

static void command_defaults_to_optimize(void **state)
{
    (void)state;
    struct face_request r;
    parse_ok(&r, "");
    assert_string_equal(r.cmd->name, "optimize");
    assert_string_equal(cmd_text(r.args, "preset"), "auto");
    assert_false(cmd_given(r.args, "preset"));
    assert_null(cmd_text(r.args, "model"));
    face_request_release(&r);
    parse_ok(&r, "--target-bpw 4.5 --model x");
    assert_string_equal(r.cmd->name, "optimize");
    assert_true(cmd_real(r.args, "target-bpw") == 4.5);
    assert_string_equal(cmd_text(r.args, "model"), "x");
    face_request_release(&r);
}

static void every_spelling_of_a_value(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "bench f --threads 3", "bench f --threads=3", "bench f -t 3",       "bench f -t3",
        "bench --threads 3 f", "bench -qt3 f",        "bench -q -t 3 -- f", "-q bench -t3 f",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct face_request r;
        parse_ok(&r, lines[i]);
        assert_string_equal(r.cmd->name, "bench");
        assert_int_equal(cmd_integer(r.args, "threads"), 3);
        assert_string_equal(cmd_text(r.args, "FILE"), "f");
        face_request_release(&r);
    }
}

static void aliases_and_last_value(void **state)
{
    (void)state;
    struct face_request r;
    parse_ok(&r, "--model-id a --output-dir b --provider BuiltIn --target-bpw 3 --target-bpw 5");
    assert_string_equal(cmd_text(r.args, "model"), "a");
    assert_string_equal(cmd_text(r.args, "out"), "b");
    assert_string_equal(cmd_text(r.args, "architect"), "builtin");
    assert_true(cmd_real(r.args, "target-bpw") == 5);
    face_request_release(&r);
}

static void sizes(void **state)
{
    (void)state;
    struct face_request r;
    parse_ok(&r, "plan --target-size 3.5GiB --target-memory=800MB");
    assert_true(cmd_size(r.args, "target-size") == 3758096384u);
    assert_true(cmd_size(r.args, "target-memory") == 800000000u);
    face_request_release(&r);
    check_refused("plan --target-size 3.5Gib5", "--target-size", "3.2GiB");
    check_refused("plan --target-size 0", "zero", NULL);
    check_refused("plan --target-size -1", "--target-size", NULL);
}

static void optional_value(void **state)
{
    (void)state;
    struct face_request r;
    parse_ok(&r, "optimize --resume");
    assert_true(cmd_given(r.args, "resume"));
    assert_null(cmd_text(r.args, "resume"));
    face_request_release(&r);
    parse_ok(&r, "optimize --resume -q");
    assert_null(cmd_text(r.args, "resume"));
    assert_true(r.quiet);
    face_request_release(&r);
    parse_ok(&r, "optimize --resume 01kq");
    assert_string_equal(cmd_text(r.args, "resume"), "01kq");
    face_request_release(&r);
}

static void repeated_option_keeps_order(void **state)
{
    (void)state;
    struct face_request r;
    parse_ok(&r, "quantize m --tensor-type a=Q4_K --tensor-type b=Q6_K -o f");
    assert_int_equal(cmd_count(r.args, "tensor-type"), 2);
    assert_string_equal(cmd_text_at(r.args, "tensor-type", 0), "a=Q4_K");
    assert_string_equal(cmd_text_at(r.args, "tensor-type", 1), "b=Q6_K");
    assert_null(cmd_text_at(r.args, "tensor-type", 2));
    face_request_release(&r);
}

static void common_options_anywhere(void **state)
{
    (void)state;
    struct face_request r;
    parse_ok(&r, "--home /h --json runs -vv --no-color");
    assert_string_equal(r.cmd->name, "runs");
    assert_string_equal(r.home, "/h");
    assert_true(r.json && r.no_color);
    assert_int_equal(r.verbose, 2);
    face_request_release(&r);
    parse_ok(&r, "quantize --help");
    assert_true(r.help);
    assert_string_equal(r.cmd->name, "quantize");
    face_request_release(&r);
    parse_ok(&r, "--version");
    assert_true(r.version);
    face_request_release(&r);
}

static void style_is_known_when_parsing_fails(void **state)
{
    (void)state;
    struct face_request r;
    struct err e;
    assert_int_equal(parse(&r, "nonsense --no-color --json", &e), -1);
    assert_true(r.json && r.no_color);
    face_request_release(&r);
}

static void suggestions(void **state)
{
    (void)state;
    check_refused("quantise m", "no command 'quantise'", "did you mean 'quantize'");
    check_refused("optimise", "optimise", "'optimize'");
    check_refused("xyzzy", "xyzzy", "lists the commands");
    check_refused("./model", "./model", "--model ./model");
    check_refused("optimize --target-sise 1", "unknown option --target-sise for 'optimize'",
                  "--target-size");
    check_refused("bench f --thread 2", "--thread ", "--threads");
    check_refused("bench f -z", "unknown option -z", "help bench");
    check_refused("optimize --jsn", "--jsn", "--json");
    check_refused("optimize model", "does not take \"model\"", "--model model");
    check_refused("--target-bpw 4 plan", "does not take", "comes first");
}

static void bad_values(void **state)
{
    (void)state;
    check_refused("bench f --threads two", "--threads", NULL);
    check_refused("bench f --threads 0", "out of range", NULL);
    check_refused("bench f --threads 2.5", "--threads", NULL);
    check_refused("bench f --threads", "--threads needs a value (N)", NULL);
    check_refused("bench f --threads=", "empty", NULL);
    check_refused("plan --target-bpw nan", "--target-bpw", NULL);
    check_refused("plan --target-bpw 99", "0.5 to 32", NULL);
    check_refused("plan --target-accuracy 1.5", "--target-accuracy", NULL);
    check_refused("plan --preset fast", "auto, chatbot, batch, smallest or quality", NULL);
    check_refused("optimize --backend gptq", "expected gguf", "only this one");
    check_refused("optimize --architect openai", "expected builtin", NULL);
    check_refused("optimize --mock=yes", "takes no value", NULL);
    check_refused("--home= runs", "--home", NULL);
}

static void required_arguments(void **state)
{
    (void)state;
    check_refused("bench", "FILE is missing", "help bench");
    check_refused("convert m", "--output FILE is missing", NULL);
    check_refused("compare a", "B is missing", NULL);
    check_refused("bench a b", "does not take \"b\"", NULL);
}

static void flags_from_forms(void **state)
{
    (void)state;
    struct cmd_args *a = cmd_args_make(cmd_find("optimize"));
    struct err e = {0};
    assert_int_equal(cmd_args_set(a, "mock", "true", &e), 0);
    assert_true(cmd_flag(a, "mock"));
    assert_int_equal(cmd_args_set(a, "mock", "false", &e), 0);
    assert_false(cmd_flag(a, "mock"));
    assert_int_equal(cmd_args_set(a, "mock", "maybe", &e), -1);
    assert_int_equal(cmd_args_set(a, "nothing", "1", &e), -1);
    cmd_args_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_defaults_to_optimize),
        cmocka_unit_test(every_spelling_of_a_value),
        cmocka_unit_test(aliases_and_last_value),
        cmocka_unit_test(sizes),
        cmocka_unit_test(optional_value),
        cmocka_unit_test(repeated_option_keeps_order),
        cmocka_unit_test(common_options_anywhere),
        cmocka_unit_test(style_is_known_when_parsing_fails),
        cmocka_unit_test(suggestions),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(required_arguments),
        cmocka_unit_test(flags_from_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
