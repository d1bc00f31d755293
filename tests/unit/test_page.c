/* The page and the Markdown of a report, from documents made by hand: well-formed whatever the
 * names are, as many marks as candidates, marks where the axes say.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "run/run.h"

static const char hostile[] = "</title><script>alert('x')</script> & \"q\" ]]> | `md` \x01\n<b>";

/* ---- is it XML? ---- */

enum { DEPTH_MAX = 64, NAME_MAX_ = 32 };

struct scan {
    const char *at;
    char open[DEPTH_MAX][NAME_MAX_];
    int depth;
    const char *wrong; /* what is not well-formed, or NULL */
};

static void scan_entity(struct scan *s)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strncmp(s->at, known[i], strlen(known[i])) == 0) {
            s->at += strlen(known[i]);
            return;
        }
    s->wrong = "an ampersand that begins no entity";
}

/* A character of text or of an attribute's value. */
static void scan_char(struct scan *s)
{
    unsigned char c = (unsigned char)*s->at;
    if (c == '&')
        scan_entity(s);
    else if (c < 0x20 && c != '\n' && c != '\t')
        s->wrong = "a control character";
    else
        s->at++;
}

static size_t name_length(const char *s)
{
    return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
}

static void scan_attributes(struct scan *s)
{
    while (!s->wrong && *s->at == ' ') {
        s->at++;
        size_t n = name_length(s->at);
        if (n == 0 || strncmp(s->at + n, "=\"", 2) != 0) {
            s->wrong = "an attribute without a quoted value";
            return;
        }
        s->at += n + 2;
        while (!s->wrong && *s->at && *s->at != '"') {
            if (*s->at == '<')
                s->wrong = "< in an attribute";
            else
                scan_char(s);
        }
        s->at += *s->at == '"';
    }
}

static void scan_tag(struct scan *s)
{
    bool closing = s->at[1] == '/';
    const char *name = s->at + 1 + closing;
    size_t n = name_length(name);
    if (n == 0 || n >= NAME_MAX_) {
        s->wrong = "a < that begins no tag";
        return;
    }
    s->at = name + n;
    if (closing) {
        bool fits = s->depth > 0 && strlen(s->open[s->depth - 1]) == n &&
                    memcmp(s->open[s->depth - 1], name, n) == 0;
        s->depth -= s->depth > 0;
        s->wrong = fits && *s->at == '>' ? NULL : "a closing tag that closes another element";
        s->at++;
        return;
    }
    scan_attributes(s);
    bool empty = strncmp(s->at, "/>", 2) == 0;
    if (!s->wrong && !empty && *s->at != '>')
        s->wrong = "a tag that does not end";
    s->at += empty ? 2 : 1;
    if (empty || s->wrong)
        return;
    if (s->depth == DEPTH_MAX) {
        s->wrong = "nested too deeply";
        return;
    }
    snprintf(s->open[s->depth++], NAME_MAX_, "%.*s", (int)n, name);
}

static void assert_well_formed(const char *page)
{
    static const char doctype[] = "<!DOCTYPE html>\n";
    struct scan *s = xcalloc(1, sizeof(*s));
    assert_memory_equal(page, doctype, sizeof(doctype) - 1);
    s->at = page + sizeof(doctype) - 1;
    while (!s->wrong && *s->at) {
        if (*s->at == '<')
            scan_tag(s);
        else
            scan_char(s);
    }
    if (!s->wrong && s->depth != 0)
        s->wrong = "an element is not closed";
    if (s->wrong)
        fail_msg("%s, near: %.80s", s->wrong, s->at - (s->at - page > 40 ? 40 : s->at - page));
    xfree(s);
}

/* The scanner itself must bite. */
static void test_scanner(void **state)
{
    static const char *const bad[] = {"<p>a & b</p>", "<p>", "</p>",     "<p a=b></p>",
                                      "<p><b></p>",   "<",   "<p\x01/>", "<p a=\"<\"></p>"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct scan *s = xcalloc(1, sizeof(*s));
        for (s->at = bad[i]; !s->wrong && *s->at;)
            *s->at == '<' ? scan_tag(s) : scan_char(s);
        assert_true(s->wrong || s->depth != 0);
        xfree(s);
    }
}

/* ---- documents ---- */

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

static json_t *score_new(double kld)
{
    return json_pack("{s:f,s:[f,f],s:f,s:[f,f],s:f,s:f,s:f}", "kld_mean", kld, "kld_mean_ci95",
                     kld * 0.9, kld * 1.1, "top1", 0.93, "top1_ci95", 0.92, 0.94, "ppl", 12.5,
                     "ppl_base", 12.0, "tps_decode", 100.0);
}

static json_t *candidate_new(const char *name, const char *base, double bytes, double kld)
{
    json_t *c = json_pack("{s:o,s:b,s:{s:s},s:I,s:f,s:s,s:o}", "name",
                          name ? json_string(name) : json_null(), "stock", name != NULL, "recipe",
                          "base", base, "bytes", (json_int_t)bytes, "bpw", bytes * 8 / 1e6,
                          "measured_on", "held-out", "score", score_new(kld));
    assert_non_null(c);
    return c;
}

static json_t *tried_new(const char *label, bool stock, double bytes, double kld,
                         const char *outcome, bool front)
{
    json_t *t = json_pack("{s:s,s:b,s:s,s:I,s:f,s:f,s:s,s:s,s:b}", "label", label, "stock", stock,
                          "reason", "because", "bytes", (json_int_t)bytes, "bpw", bytes * 8 / 1e6,
                          "kld_mean", kld, "outcome", outcome, "why", hostile, "front", front);
    assert_non_null(t);
    return t;
}

/* Three stock mixes, two composed, one that failed; three layers of two parts and an embedding. */
static json_t *document_new(const char *name)
{
    json_t *r = json_pack("{s:s,s:s,s:{s:s,s:s,s:I,s:I},s:{s:f},s:{s:I},s:s,s:i,s:f,s:[s]}", "run",
                          "01test", "status", "met", "model", "name", name, "architecture", name,
                          "parameters", (json_int_t)1000000, "bytes", (json_int_t)2000000,
                          "targets", "bpw_max", 4.0, "limits", "by_size", (json_int_t)500000,
                          "corpus", name, "trials", 6, "seconds", 61.0, "notes", name);
    assert_non_null(r);
    json_t *tried = json_array(), *groups = json_array(),
           *best = candidate_new(NULL, "a", 5e5, .01);
    json_array_append_new(tried, tried_new("Q2_K", true, 3e5, 0.1, "beaten", true));
    json_array_append_new(tried, tried_new("Q4_0", true, 5.2e5, 0.04, "missed", false));
    json_array_append_new(tried, tried_new(name, true, 4.4e5, 0.03, "beaten", false));
    json_array_append_new(tried, tried_new("composed 4", false, 4e5, 0.02, "beaten", true));
    json_array_append_new(tried, tried_new("composed 5", false, 5e5, 0.01, "delivered", true));
    json_t *failed = tried_new("composed 6", false, 5e5, 1, "failed", false);
    json_object_del(failed, "kld_mean");
    json_array_append_new(tried, failed);
    for (int l = 0; l < 3; l++)
        for (int p = 0; p < 2; p++)
            json_array_append_new(
                groups, json_pack("{s:s,s:i,s:s,s:s,s:f,s:s,s:f}", "name", name, "layer", l, "part",
                                  p ? "attn_q" : name, "probe", "Q3_K", "probe_kld",
                                  0.001 * (l + 1) * (p + 1), "type", "Q4_K", "bits", 4.5));
    json_array_append_new(groups, json_pack("{s:s,s:n,s:s,s:s,s:n,s:n,s:n}", "name", "token_embd",
                                            "layer", "part", "token_embd", "probe", "Q3_K",
                                            "probe_kld", "type", "bits"));
    json_object_set_new(best, "file", json_string("Model-4.00bpw.gguf"));
    json_object_set_new(r, "best", best);
    json_object_set_new(r, "tried", tried);
    json_object_set_new(r, "groups", groups);
    json_object_set_new(r, "stock", json_pack("[o]", candidate_new(name, "b", 4.4e5, 0.03)));
    json_object_set_new(r, "front", json_pack("[o]", candidate_new(NULL, "c", 4e5, 0.02)));
    json_object_set_new(r, "paired",
                        json_pack("{s:s,s:I,s:f,s:f,s:[f,f],s:b,s:i}", "against", name,
                                  "against_bytes", (json_int_t)440000, "kld_ratio", 1.0 / 3,
                                  "kld_difference", -0.02, "kld_difference_ci95", -0.021, -0.019,
                                  "reliable", 1, "windows", 64));
    return r;
}

/* ---- tests ---- */

static void test_escape(void **state)
{
    (void)state;
    json_t *r = document_new(hostile);
    char *page = run_report_html(r), *md = run_report_markdown(r);
    assert_well_formed(page);
    assert_null(strstr(page, "<script"));
    assert_null(strchr(page, 1));
    assert_true(count(page, "&lt;script&gt;") > 10);
    assert_null(strstr(md, "<script"));
    assert_null(strstr(md, "<b>"));
    assert_null(strchr(md, 1));
    /* A name's bar or line break would add a column or end the row. */
    assert_non_null(strstr(md, "\\| \\`md\\`"));
    const char *row = strstr(md, "\n| 3 | ");
    assert_non_null(row);
    const char *end = strchr(row + 1, '\n');
    int bars = 0;
    for (const char *c = row + 1; c < end; c++)
        bars += *c == '|' && c[-1] != '\\';
    assert_int_equal(bars, 7);
    xfree(page);
    xfree(md);
    json_decref(r);
}

static void test_self_contained(void **state)
{
    static const char *const fetched[] = {"http:",   "https:",  "src=",  "href=", "url(",
                                          "@import", "<script", "<link", "<img"};
    (void)state;
    json_t *r = document_new("Sample");
    char *page = run_report_html(r);
    assert_well_formed(page);
    for (size_t i = 0; i < sizeof(fetched) / sizeof(fetched[0]); i++)
        assert_null(strstr(page, fetched[i]));
    assert_non_null(strstr(page, "prefers-color-scheme:dark"));
    assert_non_null(strstr(page, "@media print"));
    assert_non_null(strstr(page, "name=\"viewport\""));
    xfree(page);
    json_decref(r);
}

/* The two numbers that follow a mark, as in "M12.0 34.0" or "x=\"12.0\" y=\"34.0\"". */
static void place(const char *page, const char *mark, double *x, double *y)
{
    const char *at = strstr(page, mark);
    assert_non_null(at);
    at += strlen(mark);
    char *next;
    *x = strtod(at, &next);
    *y = strtod(next + strcspn(next, "0123456789"), NULL);
}

static void test_plot(void **state)
{
    (void)state;
    json_t *r = document_new("Sample");
    char *page = run_report_html(r);
    double x, y, limit_x, limit_y, two_x, two_y;
    assert_int_equal(count(page, "class=\"pt stock\""), 3);
    assert_int_equal(count(page, "class=\"pt ours\""), 1);
    assert_int_equal(count(page, "class=\"pt best\""), 1);
    assert_int_equal(count(page, "class=\"limit\""), 1);
    assert_non_null(strstr(page, "role=\"img\" aria-labelledby=\"plot-title plot-desc\""));
    assert_non_null(strstr(page, "5 candidates"));
    assert_non_null(
        strstr(page, "composed 5, delivered: 488 KiB, 4.00 bits per weight, KL 0.0100"));
    /* The delivered file is exactly as large as its limit. */
    place(page, "class=\"pt best\" d=\"M", &x, &y);
    place(page, "class=\"limit\" d=\"M", &limit_x, &limit_y);
    assert_true(fabs(x - limit_x) < 0.11);
    /* KL 0.1, 0.02 and 0.01: heights go by the logarithm. The star's path begins 10.6 above. */
    y += 10.6;
    place(page, "class=\"pt stock\" x=\"", &two_x, &two_y);
    double top = two_y + 4.5;
    place(page, "class=\"pt ours\" cx=\"", &two_x, &two_y);
    assert_true(fabs((y - two_y) / (y - top) - log(2) / log(10)) < 0.002);
    assert_true(fabs((x - two_x) / (x - (two_x - (x - two_x))) - 0.5) < 0.01);
    assert_non_null(strstr(page, ">400 KiB<"));
    assert_non_null(strstr(page, ">0.05<"));
    xfree(page);
    json_decref(r);
}

static void test_maps_and_table(void **state)
{
    (void)state;
    json_t *r = document_new("Sample");
    char *page = run_report_html(r), *md = run_report_markdown(r);
    assert_non_null(strstr(page, "<b>0.33×</b> the KL divergence of Sample"));
    /* 0.001 to 0.006 nats, in millionths; the least is lightest, the most darkest. */
    assert_int_equal(count(page, "class=\"heat\""), 2);
    assert_non_null(
        strstr(page, "<td class=\"s0\" title=\"Sample: KL 0.001 as Q3_K, has Q4_K\">1000"));
    assert_non_null(
        strstr(page, "<td class=\"s8\" title=\"Sample: KL 0.006 as Q3_K, has Q4_K\">6000"));
    assert_int_equal(count(page, "<td class=\"t5\""), 6);
    assert_non_null(strstr(md, "| layer | attn_q | Sample |\n|---|---|---|\n"
                               "| 0 | 2000 Q4_K | 1000 Q4_K |\n"));
    assert_non_null(strstr(md, "- token_embd: - -\n"));
    assert_non_null(strstr(md, "| 6 | composed 6 | 488 KiB | – | "));
    assert_non_null(strstr(page, "llama-cli -m Model-4.00bpw.gguf\n"));
    xfree(page);
    xfree(md);
    json_decref(r);
}

/* An old document, one of an infeasible run, and nothing at all. */
static void test_less(void **state)
{
    (void)state;
    json_t *r = document_new("Sample");
    json_object_del(r, "tried");
    json_object_del(r, "groups");
    json_object_del(r, "limits");
    char *page = run_report_html(r);
    assert_well_formed(page);
    assert_null(strstr(page, "class=\"plot\""));
    xfree(page);
    json_object_set_new(r, "best", json_null());
    json_object_set_new(r, "status", json_string("infeasible"));
    json_object_set_new(r, "reason", json_string(hostile));
    page = run_report_html(r);
    assert_well_formed(page);
    assert_non_null(strstr(page, "not met"));
    xfree(page);
    json_object_clear(r);
    page = run_report_html(r);
    assert_well_formed(page);
    xfree(page);
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scanner),        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_self_contained), cmocka_unit_test(test_plot),
        cmocka_unit_test(test_maps_and_table), cmocka_unit_test(test_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
