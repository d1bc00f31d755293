/* hw: what is found here, profiles good and bad, the prediction's arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "hw/hw.h"

static char dir[256];

static int make_dir(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/sintra-hw-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static const char *put(const char *name, const char *text)
{
    static char path[400];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(fs_write_all(path, text, strlen(text), NULL), 0);
    return path;
}

static char warnings[4096];

static void keep_warning(void *ud, enum log_level level, const char *text)
{
    (void)ud;
    (void)level;
    size_t n = strlen(warnings);
    snprintf(warnings + n, sizeof(warnings) - n, "%s\n", text);
}

static struct hw_profile load(const char *text)
{
    struct hw_profile p;
    struct err e = {0};
    warnings[0] = 0;
    log_set_sink(keep_warning, NULL);
    if (hw_profile_load(&p, put("p.yaml", text), "", &e))
        fail_msg("%s", e.message);
    log_set_sink(NULL, NULL);
    return p;
}

static void this_machine_is_found(void **state)
{
    (void)state;
    struct hw h;
    struct err e = {0};
    struct utsname u;
    assert_int_equal(uname(&u), 0);
    assert_int_equal(hw_detect(&h, false, &e), 0);
    assert_string_equal(h.arch, u.machine);
    assert_true(h.cpu_model[0] != 0);
    assert_non_null(strstr(h.os, u.release));
    assert_int_equal(h.cores_logical, sysconf(_SC_NPROCESSORS_ONLN));
    assert_in_range(h.cores_physical, 1, h.cores_logical);
    assert_int_equal(h.cores_usable, thread_count_default());
    assert_true(h.ram_total > 64 << 20 && h.ram_available <= h.ram_total);
    assert_true(h.ram_usable > 0 && h.ram_usable <= h.ram_available);
    assert_true(h.bandwidth_gbs == 0);
    json_t *o = hw_json_new(&h);
    assert_int_equal(json_opt_i64(o, "ram_total", 0), h.ram_total);
    assert_int_equal(json_opt_i64(o, "cores_usable", 0), h.cores_usable);
    assert_true(json_is_null(json_object_get(o, "bandwidth_gbs")));
    json_decref(o);
#ifdef __x86_64__
    assert_true(!__builtin_cpu_supports("avx2") == !strstr(h.simd, "avx2"));
    assert_true(!__builtin_cpu_supports("avx512f") == !strstr(h.simd, "avx512f"));
#endif
}

static void bandwidth_is_plausible_and_quick(void **state)
{
    (void)state;
    struct hw h;
    struct err e = {0};
    double begin = clock_seconds();
    assert_int_equal(hw_detect(&h, true, &e), 0);
    double seconds = clock_seconds() - begin;
    print_message("%.1f GB/s in %.2f s\n", h.bandwidth_gbs, seconds);
    assert_true(h.bandwidth_gbs > 0.05 && h.bandwidth_gbs < 10000);
#ifndef __SANITIZE_ADDRESS__
    assert_true(seconds < 20); /* under two when the machine is idle; here only that it ends */
#endif
}

static void a_whole_profile_is_read(void **state)
{
    (void)state;
    struct hw_profile p = load("# a comment\n"
                               "name: my-board\n"
                               "description: \"yes: a board\"\n"
                               "source: |\n  measured\n  by hand\n"
                               "constraints:\n"
                               "  vram_gb: 8\n  ram_gb: 7.5\n  cpu_arch: arm64\n  has_cuda: true\n"
                               "  max_model_size_mb: 5000\n  memory_bandwidth_gbs: 1.02e2\n"
                               "  cores: 6\n  efficiency: 0.7\n  overhead_ms: 4\n  gflops: 2000\n"
                               "targets: {min_tokens_per_second: 8, max_latency_ms: 500, "
                               "min_accuracy_score: 0.95}\n"
                               "type_factors: {Q4_K: 1.02, iq3_s: 1.3}\n"
                               "supported_quantizations: [Q4_K_M, 'Q8_0']\n");
    assert_string_equal(warnings, "");
    assert_string_equal(p.name, "my-board");
    assert_string_equal(p.description, "yes: a board");
    assert_string_equal(p.source, "measured\nby hand");
    assert_string_equal(p.cpu_arch, "aarch64");
    assert_true(p.vram_gb == 8 && p.ram_gb == 7.5 && p.bandwidth_gbs == 102 && p.has_cuda);
    assert_int_equal(p.max_model_bytes, 5000000000u);
    assert_int_equal(p.cores, 6);
    assert_true(p.efficiency == 0.7 && p.overhead_ms == 4 && p.gflops == 2000);
    assert_true(p.min_tps == 8 && p.max_latency_ms == 500 && p.min_accuracy == 0.95);
    assert_string_equal(p.quantizations[0], "Q4_K_M");
    assert_string_equal(p.quantizations[1], "Q8_0");
    assert_null(p.quantizations[2]);
    assert_true(p.remote);
    assert_true(hw_profile_factor(&p, "Q4_K") == 1.02 && hw_profile_factor(&p, "IQ3_S") == 1.3);
    assert_true(hw_profile_factor(&p, "Q8_0") == 1);
    json_t *o = hw_profile_json_new(&p);
    assert_true(json_opt_real(json_object_get(o, "type_factors"), "Q4_K", 0) == 1.02);
    const json_t *c = json_object_get(o, "constraints"), *t = json_object_get(o, "targets");
    assert_true(json_opt_real(c, "memory_bandwidth_gbs", 0) == 102);
    assert_true(json_opt_real(c, "max_model_size_mb", 0) == 5000);
    assert_true(json_opt_bool(c, "has_cuda", false));
    assert_true(json_opt_real(t, "min_accuracy_score", 0) == 0.95);
    assert_int_equal(json_array_size(json_object_get(o, "supported_quantizations")), 2);
    json_decref(o);
    hw_profile_release(&p);
    hw_profile_release(&p);
}

static void what_is_absent_has_defaults(void **state)
{
    (void)state;
    static const char *const empty[] = {"",           "# nothing\n",
                                        "{}\n",       "---\n...\n",
                                        "targets:\n", "constraints:\n  ram_gb:\n  cores: ~\n"};
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        if (strcmp(empty[i], "---\n...\n") == 0)
            continue; /* a document that is null: refused below */
        struct hw_profile p = load(empty[i]);
        assert_string_equal(p.name, "p");
        assert_true(p.efficiency == 0.6 && p.ram_gb == 0 && p.cores == 0 && !p.remote);
        assert_null(p.quantizations);
        hw_profile_release(&p);
    }
}

static void remote_follows_from_the_facts(void **state)
{
    (void)state;
    struct utsname u;
    char text[128];
    assert_int_equal(uname(&u), 0);
    struct hw_profile p;
    snprintf(text, sizeof(text), "constraints:\n  cpu_arch: %s\n  ram_gb: 4\n", u.machine);
    p = load(text);
    assert_false(p.remote);
    hw_profile_release(&p);
    p = load("constraints:\n  cpu_arch: riscv64\n");
    assert_true(p.remote);
    hw_profile_release(&p);
    p = load("constraints:\n  memory_bandwidth_gbs: 20\n");
    assert_true(p.remote);
    hw_profile_release(&p);
    p = load("remote: false\nconstraints:\n  memory_bandwidth_gbs: 20\n");
    assert_false(p.remote);
    hw_profile_release(&p);
}

static void unknown_keys_are_warned_of(void **state)
{
    (void)state;
    struct hw_profile p = load("name: x\ncolour: blue\nconstraints:\n  ram_gb: 4\n  ram_mb: 4096\n"
                               "memory:\n  a: [1, {b: c}]\n");
    assert_non_null(strstr(warnings, "p.yaml: line 2: unknown key \"colour\" is ignored"));
    assert_non_null(strstr(warnings, "line 5: unknown key \"constraints.ram_mb\" is ignored"));
    assert_non_null(strstr(warnings, "unknown key \"memory\""));
    assert_true(p.ram_gb == 4);
    hw_profile_release(&p);
}

static void bad_profiles_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"name: [a]\n", "line 1: \"name\" must be text, found a list"},
        {"constraints:\n  ram_gb: much\n", "line 2: \"ram_gb\" must be a number from 0 to 1e+06"},
        {"constraints:\n  ram_gb: \"8\"\n", "line 2: \"ram_gb\" must be a number"},
        {"constraints:\n  ram_gb: -1\n", "must be a number"},
        {"constraints:\n  ram_gb: .inf\n", "must be a number"},
        {"constraints:\n  ram_gb: 0x10\n", "must be a number"},
        {"constraints:\n  has_cuda: yes\n", "\"has_cuda\" must be true or false, found \"yes\""},
        {"constraints:\n  cores: 2.5\n", "a whole number"},
        {"constraints:\n  efficiency: 1.5\n", "from 0.01 to 1"},
        {"targets:\n  min_accuracy_score: 95\n", "from 0 to 1"},
        {"targets: 5\n", "\"targets\" must be a map"},
        {"[]\n", "expected a map of keys, found a list"},
        {"just text\n", "expected a map"},
        {"supported_quantizations: Q4_0\n", "a list of names"},
        {"supported_quantizations: []\n", "at least one name"},
        {"supported_quantizations: [[a]]\n", "a list of names"},
        {"name: a\nname: b\n", "line 2: the key \"name\" is there twice"},
        {"name: &x a\ndescription: *x\n", "line 1: anchors"},
        {"description: *x\n", ""},
        {"constraints: &c {ram_gb: 1}\n", "anchors"},
        {"constraints: !!map {ram_gb: 1}\n", "tags"},
        {"name: !secret a\n", "line 1: tags"},
        {"<<: {ram_gb: 4}\n? [a]\n: b\n", "a key must be plain text"},
        {"name: a\n---\nname: b\n", "second document"},
        {"name: a\n  b: c\n", "line 2"},
        {"name: \"a\n", "line"},
        {"a: {b: {c\n", "line"},
        {"name: \"a\\0b\"\n", "NUL"},
        {"name: \xff\xfe\xfd\n", "p.yaml: "},
        {"\tname: a\n", "line 1"},
    };
    log_set_sink(keep_warning, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hw_profile p;
        struct err e = {0};
        int rc = hw_profile_load(&p, put("p.yaml", cases[i].text), "", &e);
        if (rc == 0 || e.code != ERR_INPUT || !strstr(e.message, cases[i].says) ||
            !strstr(e.message, "p.yaml"))
            fail_msg("case %zu (%s): %d \"%s\"", i, cases[i].text, rc, e.message);
    }
    log_set_sink(NULL, NULL);
}

static void bombs_are_refused(void **state)
{
    (void)state;
    struct hw_profile p;
    struct err e = {0};
    char *text = xmalloc(300001);
    memset(text, '[', 100);
    memset(text + 100, ']', 100);
    text[200] = 0;
    assert_int_equal(hw_profile_load(&p, put("p.yaml", text), "", &e), -1);
    assert_non_null(strstr(e.message, "nested too deeply"));
    memset(text, 'a', 300000);
    text[300000] = 0;
    assert_int_equal(hw_profile_load(&p, put("p.yaml", text), "", &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    size_t n = 0;
    n += (size_t)snprintf(text, 300000, "supported_quantizations: [");
    for (int i = 0; i < 20000; i++)
        n += (size_t)snprintf(text + n, 300000 - n, "q,");
    snprintf(text + n, 300000 - n, "]\n");
    assert_int_equal(hw_profile_load(&p, put("p.yaml", text), "", &e), -1);
    assert_non_null(strstr(e.message, "too large"));
    snprintf(text, 300000, "name: %0200d\n", 0);
    assert_int_equal(hw_profile_load(&p, put("p.yaml", text), "", &e), -1);
    assert_non_null(strstr(e.message, "at most 127 bytes"));
    xfree(text);
}

static void names_are_looked_up(void **state)
{
    (void)state;
    char first[300], second[300], dirs[900];
    struct err e = {0};
    struct hw_profile p, *list;
    size_t n;
    snprintf(first, sizeof(first), "%s/own", dir);
    snprintf(second, sizeof(second), "%s/shipped", dir);
    snprintf(dirs, sizeof(dirs), "%s::%s:%s/none", first, second, dir);
    assert_int_equal(fs_mkdirs(first, &e), 0);
    assert_int_equal(fs_mkdirs(second, &e), 0);
    put("own/pi.yaml", "description: mine\n");
    put("shipped/pi.yaml", "description: theirs\n");
    put("shipped/mac.yaml", "name: zz-mac\n");
    put("shipped/broken.yaml", "name: [\n");
    put("shipped/notes.txt", "not a profile");
    assert_int_equal(hw_profile_load(&p, "pi", dirs, &e), 0);
    assert_string_equal(p.description, "mine");
    hw_profile_release(&p);
    assert_int_equal(hw_profile_load(&p, "mac", dirs, &e), 0);
    assert_string_equal(p.name, "zz-mac");
    hw_profile_release(&p);
    assert_int_equal(hw_profile_load(&p, "nokia", dirs, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_string_equal(e.hint, "known profiles: pi, broken, mac");
    assert_int_equal(hw_profile_load(&p, "../own/pi.yaml", dirs, &e), -1);
    warnings[0] = 0;
    log_set_sink(keep_warning, NULL);
    assert_int_equal(hw_profiles(&list, &n, dirs, &e), 0);
    log_set_sink(NULL, NULL);
    assert_non_null(strstr(warnings, "broken.yaml"));
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "pi");
    assert_string_equal(list[0].description, "mine");
    assert_string_equal(list[1].name, "zz-mac");
    for (size_t i = 0; i < n; i++)
        hw_profile_release(&list[i]);
    xfree(list);
    assert_int_equal(hw_profiles(&list, &n, "", &e), 0);
    assert_int_equal(n, 0);
}

/* The profiles that are shipped: no warning, complete, and near the speeds that they cite. */
static void shipped_profiles_are_sound(void **state)
{
    (void)state;
    const char *root = getenv("SINTRA_ROOT");
    char dirs[400];
    struct hw_profile *list;
    struct err e = {0};
    size_t n;
    snprintf(dirs, sizeof(dirs), "%s/profiles", root ? root : ".");
    warnings[0] = 0;
    log_set_sink(keep_warning, NULL);
    assert_int_equal(hw_profiles(&list, &n, dirs, &e), 0);
    log_set_sink(NULL, NULL);
    if (n == 0) {
        print_message("SKIP: no profiles below SINTRA_ROOT\n");
        skip();
    }
    assert_string_equal(warnings, "");
    assert_int_equal(n, 6);
    static const struct {
        const char *name;
        double read_gb, tps;
        uint64_t parameters;
    } cited[] = {
        {"raspberry-pi-5-8gb", 2.02, 4.61, 3210000000u},
        {"raspberry-pi-5-8gb", 4.62, 1.99, 8030000000u},
        {"mac-mini-m4", 2.02, 41.3, 3210000000u},
        {"mac-mini-m4", 4.62, 20.9, 8030000000u},
        {"mac-mini-m4", 7.28, 13.6, 13000000000u},
        {"jetson-orin-nano-8gb", 0.74, 54.1, 1170000000u},
    };
    for (size_t i = 0; i < n; i++) {
        struct hw_profile *p = &list[i];
        assert_true(p->source[0] && p->description[0] && p->cpu_arch[0] && p->remote);
        assert_true(p->bandwidth_gbs > 0 && p->max_model_bytes > 0);
        assert_true(p->ram_gb > 0 || p->vram_gb > 0);
        for (size_t k = 0; k < sizeof(cited) / sizeof(cited[0]); k++) {
            if (strcmp(cited[k].name, p->name) != 0)
                continue;
            uint64_t bytes = (uint64_t)(cited[k].read_gb * 1e9);
            double tps = hw_predict(p, bytes, 0, cited[k].parameters).tps_decode;
            if (fabs(tps / cited[k].tps - 1) > 0.1)
                fail_msg("%s: %.2f tokens/s predicted, %.2f cited", p->name, tps, cited[k].tps);
        }
        hw_profile_release(p);
    }
    xfree(list);
}

static void prediction_is_a_roofline(void **state)
{
    (void)state;
    struct hw_profile p = {.bandwidth_gbs = 100, .efficiency = 0.5};
    struct hw_prediction r = hw_predict(&p, 900000000, 100000000, 1000000000);
    assert_true(r.predicted);
    assert_true(fabs(r.tps_decode - 50) < 1e-9);
    assert_true(r.tps_prefill == 0);
    p.overhead_ms = 20;
    r = hw_predict(&p, 1000000000, 0, 1000000000);
    assert_true(fabs(r.tps_decode - 25) < 1e-9);
    p.overhead_ms = 0;
    p.gflops = 40; /* 2e9 operations: 50 ms, more than the 20 ms of reading */
    r = hw_predict(&p, 1000000000, 0, 1000000000);
    assert_true(fabs(r.tps_decode - 20) < 1e-9 && fabs(r.tps_prefill - 20) < 1e-9);
    p = (struct hw_profile){0};
    r = hw_predict(&p, 1000000000, 0, 1000000000);
    assert_true(r.tps_decode == 0 && r.tps_prefill == 0 && r.predicted);
    p.bandwidth_gbs = 100; /* efficiency 0: the default of 0.6 */
    assert_true(fabs(hw_predict(&p, 600000000, 0, 0).tps_decode - 100) < 1e-9);
    assert_true(hw_predict(&p, 0, 0, 5).tps_decode == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_machine_is_found),
        cmocka_unit_test(bandwidth_is_plausible_and_quick),
        cmocka_unit_test(a_whole_profile_is_read),
        cmocka_unit_test(what_is_absent_has_defaults),
        cmocka_unit_test(remote_follows_from_the_facts),
        cmocka_unit_test(unknown_keys_are_warned_of),
        cmocka_unit_test(bad_profiles_are_refused),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(names_are_looked_up),
        cmocka_unit_test(shipped_profiles_are_sound),
        cmocka_unit_test(prediction_is_a_roofline),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
