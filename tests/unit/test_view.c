/* Results as a person reads them: the page after `optimize`, and what a hostile name may not do to
 * it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "face/face.h"

static char *view_of(const char *command, const char *json, int width)
{
    struct paper p;
    struct err e = {0};
    json_t *doc = json_parse(json, strlen(json), "test", &e);
    if (!doc)
        fail_msg("%s", e.message);
    paper_init(&p, false, false, width);
    face_view(&p, cmd_find(command), doc);
    json_decref(doc);
    return buf_take(&p.text);
}

static void check_view(const char *command, const char *json, const char *expected)
{
    char *seen = view_of(command, json, 0);
    assert_string_equal(seen, expected);
    xfree(seen);
}

static const char report[] =
    "{\"run\":\"01m7x5n5p9abcdefghijklmnop\",\"status\":\"met\",\"out\":\"/results/tiny\","
    "\"model\":{\"name\":\"Tiny\",\"architecture\":\"llama\",\"parameters\":7344384,"
    "\"bytes\":14696792},\"targets\":{\"bpw_max\":4.5,\"context\":256,\"tps_min\":100},"
    "\"best\":{\"name\":null,\"file\":\"tiny-4.50bpw.gguf\",\"bytes\":4130000,\"bpw\":4.499,"
    "\"score\":{\"kld_mean\":0.00593,\"kld_mean_ci95\":[0.00581,0.00605],\"top1\":0.942,"
    "\"ppl\":59.93,\"ppl_base\":59.72,\"tps_decode\":812.4}},"
    "\"stock\":[{\"name\":\"Q3_K_S\",\"bytes\":3713408,\"bpw\":4.04,\"score\":{}},"
    "{\"name\":\"Q3_K_M\",\"bytes\":4034944,\"bpw\":4.4,\"score\":{\"kld_mean\":0.01138,"
    "\"kld_mean_ci95\":[0.0112,0.0116],\"top1\":0.918,\"ppl\":60.41}}],"
    "\"paired\":{\"against\":\"Q3_K_M\",\"kld_difference\":-0.00545,"
    "\"kld_difference_ci95\":[-0.0056,-0.0053],\"kld_ratio\":0.521,\"reliable\":true,"
    "\"windows\":64},\"trials\":12,\"seconds\":41.2,\"notes\":[\"one note\"]}";

static void the_page_after_optimize(void **state)
{
    (void)state;
    check_view(
        "optimize", report,
        "Tiny (llama, 7.34 M parameters, 14.0 MiB)\n"
        "wanted: at most 4.5 bits per weight, at least 100 tokens/s: met\n"
        "\n"
        "                size    bpw       KL  95 %                 top-1  perplexity  tokens/s\n"
        "  original  14.0 MiB  16.01                                             59.7\n"
        "  Q3_K_M    3.85 MiB   4.40   0.0114  [0.0112, 0.0116]    91.8 %        60.4\n"
        "  sintra    3.94 MiB   4.50  0.00593  [0.00581, 0.00605]  94.2 %        59.9       812\n"
        "\n"
        "0.52 times the KL divergence of Q3_K_M, the best stock mix within the same limits:\n"
        "difference -0.00545 [-0.00560, -0.00530], 64 windows that the search never saw\n"
        "note: one note\n"
        "\n"
        "file  /results/tiny/tiny-4.50bpw.gguf\n"
        "run   llama-cli -m /results/tiny/tiny-4.50bpw.gguf\n"
        "more  sintra report 01m7x5n5p9  (12 candidates in 41 s)\n");
}

static void predictions_are_marked(void **state)
{
    (void)state;
    char *text = view_of("optimize",
                         "{\"status\":\"met\",\"targets\":{\"tps_min\":10},"
                         "\"hardware\":{\"profile\":\"pi\"},\"best\":{\"name\":\"Q4_0\","
                         "\"bytes\":1000,\"predicted\":[\"tps_decode\"],"
                         "\"score\":{\"tps_decode\":12.5}}}",
                         0);
    assert_non_null(strstr(text, "~12.5\n"));
    assert_non_null(strstr(text, "~ predicted for pi"));
    xfree(text);
}

static void an_infeasible_target(void **state)
{
    (void)state;
    check_view("optimize",
               "{\"status\":\"infeasible\",\"reason\":\"too small\",\"hint\":\"ask for more\","
               "\"model\":{\"name\":\"Tiny\",\"architecture\":\"llama\",\"parameters\":1000,"
               "\"bytes\":2000},\"targets\":{\"size_max\":100},\"best\":null}",
               "Tiny (llama, 1.00 K parameters, 1.95 KiB)\n"
               "wanted: file of at most 100 B: not possible\n"
               "too small\n"
               "hint: ask for more\n");
}

static void what_is_absent_is_not_zero(void **state)
{
    (void)state;
    check_view("history",
               "{\"trials\":[{\"run\":\"01abc\",\"kind\":\"stock\",\"label\":\"Q4_K_M\","
               "\"score\":{\"kld_mean\":null}}]}",
               "run    kind   candidate\n"
               "01abc  stock  Q4_K_M\n");
    check_view("runs", "{\"runs\":[]}", "no runs yet; 'sintra optimize' makes one\n");
}

static void names_cannot_drive_the_terminal(void **state)
{
    (void)state;
    static const char *const commands[] = {"optimize", "inspect",  "runs", "detect", "profiles",
                                           "convert",  "quantize", "eval", "bench",  "report"};
    const char hostile[] =
        "{\"model\":{\"name\":\"a\\u001b[2Jb\",\"architecture\":\"c\\u0007\"},"
        "\"runs\":[{\"id\":\"x\\u001b\",\"model\":\"y\\u009b\"}],\"file\":\"f\\r\","
        "\"output\":\"o\\u001b\",\"hardware\":{\"cpu_model\":\"z\\u001b\"},\"type\":\"t\\n\","
        "\"profiles\":[{\"name\":\"n\\u001b\",\"source\":\"s\\u001b\"}],\"markdown\":\"m\\u001b\","
        "\"corpus\":\"k\\u001b\",\"best\":{\"file\":\"g\\u001b\"},\"reason\":\"r\\u001b\"}";
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        char *text = view_of(commands[i], hostile, 40);
        for (const char *p = text; *p; p++)
            if ((unsigned char)*p < 0x20 && *p != '\n')
                fail_msg("%s shows control character 0x%02x", commands[i], (unsigned)*p);
        if (strstr(text, "\xc2\x9b"))
            fail_msg("%s shows a C1 control character", commands[i]);
        xfree(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_after_optimize),
        cmocka_unit_test(predictions_are_marked),
        cmocka_unit_test(an_infeasible_target),
        cmocka_unit_test(what_is_absent_is_not_zero),
        cmocka_unit_test(names_cannot_drive_the_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
