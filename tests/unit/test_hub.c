/* hub: names of models, what the environment says, git's hash. What needs a hub is in
 * tests/cli/cases/hub_*. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "hub/hub.h"

static void names_are_taken_apart(void **state)
{
    (void)state;
    struct hub_ref r;
    assert_int_equal(hub_ref_parse(&r, "org/name", NULL), 0);
    assert_string_equal(r.repo, "org/name");
    assert_string_equal(r.revision, "main");
    assert_string_equal(r.pick, "");
    assert_int_equal(hub_ref_parse(&r, "Org_1/n.a-me:Q4_K_M@refs/pr/1", NULL), 0);
    assert_string_equal(r.repo, "Org_1/n.a-me");
    assert_string_equal(r.revision, "refs/pr/1");
    assert_string_equal(r.pick, "Q4_K_M");
}

/* Addresses as browsers show them, and as Ollama's users write them. */
static void addresses_are_names(void **state)
{
    (void)state;
    static const struct {
        const char *text, *repo, *pick, *revision;
    } cases[] = {
        {"https://huggingface.co/org/name", "org/name", "", "main"},
        {"https://huggingface.co/org/name/", "org/name", "", "main"},
        {"huggingface.co/org/name@v1", "org/name", "", "v1"},
        {"hf.co/org/name:Q4_K_M", "org/name", "Q4_K_M", "main"},
        {"https://huggingface.co/org/name/tree/main", "org/name", "", "main"},
        {"https://huggingface.co/org/name/tree/refs%2Fpr%2F1", "org/name", "", "refs/pr/1"},
        {"https://hf.co/org/name/blob/main/sub/x.gguf", "org/name", "sub/x.gguf", "main"},
        {"https://huggingface.co/org/name/resolve/v2/x.gguf?download=true", "org/name", "x.gguf",
         "v2"},
        {"https://huggingface.co/org/name/blob/main/config.json", "org/name", "", "main"},
        {"http://huggingface.co/org/name", "org/name", "", "main"},
        {"HTTPS://www.HuggingFace.co/org/name/tree/v1", "org/name", "", "v1"},
        {"hf://org/name@v1", "org/name", "", "v1"},
        {"http://mirror:8080/org/name/tree/abc/", "org/name", "", "abc"},
    };
    static const char *const bad[] = {"https://huggingface.co/datasets/org/name",
                                      "https://huggingface.co/org/name/discussions",
                                      "https://huggingface.co/org",
                                      "hf://datasets/org/name",
                                      "https://huggingface.co/",
                                      "https://example.org/org/name",
                                      "https://huggingface.co/org/name/tree/..%2F..%2Fx",
                                      "http://huggingface.co.example.org/org/name",
                                      "http://mirror:80801/org/name"};
    setenv("HF_ENDPOINT", "http://mirror:8080/", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hub_ref r;
        struct err e = {0};
        if (hub_ref_parse(&r, cases[i].text, &e))
            fail_msg("%s: %s", cases[i].text, e.message);
        assert_true(hub_ref_looks(cases[i].text));
        assert_string_equal(r.repo, cases[i].repo);
        assert_string_equal(r.pick, cases[i].pick);
        assert_string_equal(r.revision, cases[i].revision);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct hub_ref r;
        struct err e = {0};
        if (hub_ref_parse(&r, bad[i], &e) == 0)
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(e.code, ERR_USAGE);
    }
    unsetenv("HF_ENDPOINT");
}

static void other_names_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "name",   "/name",   "org/",   "a/b/c",         "../name",  "org/..",  "org/na me",
        "a/b@",   "a/b@..",  "a/b@/x", "a/b@x/../../y", "a/b@x^{}", "a/b:",    "a/-b",
        "a/b-",   "a/b..c",  "a/b--c", "a/\xc3\xa9",    "a/b@x\ny", "~/model", "./a",
        "a\\b/c", "a/b?x=1", "a/b#c",  "https://x/y"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct hub_ref r;
        struct err e = {0};
        if (hub_ref_parse(&r, bad[i], &e) == 0)
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(e.code, ERR_USAGE);
    }
    char longest[4096];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    longest[1] = '/';
    struct hub_ref r;
    assert_int_equal(hub_ref_parse(&r, longest, NULL), -1);
    memcpy(longest, "a/b@", 4);
    assert_int_equal(hub_ref_parse(&r, longest, NULL), -1);
    memcpy(longest, "a/b:", 4);
    assert_int_equal(hub_ref_parse(&r, longest, NULL), -1);
}

static void forget_environment(void)
{
    static const char *const names[] = {
        "HF_ENDPOINT",    "HF_HOME",        "HF_HUB_CACHE",           "HUGGINGFACE_HUB_CACHE",
        "XDG_CACHE_HOME", "HF_TOKEN",       "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN",
        "HF_TOKEN_PATH",  "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",   "HF_HUB_DOWNLOAD_TIMEOUT"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
}

static void the_environment_is_read_as_by_huggingface_hub(void **state)
{
    (void)state;
    struct hub *h;
    forget_environment();
    setenv("HOME", "/nobody", 1);
    assert_int_equal(hub_open(&h, NULL), 0);
    assert_string_equal(hub_endpoint(h), "https://huggingface.co");
    assert_string_equal(hub_cache_dir(h), "/nobody/.cache/huggingface/hub");
    assert_string_equal(hub_token_path(h), "/nobody/.cache/huggingface/token");
    assert_null(hub_token_source(h));
    assert_false(hub_offline(h));
    hub_close(h);
    unsetenv("HOME");
    const struct passwd *user = getpwuid(getuid());
    if (user && hub_open(&h, NULL) == 0) {
        assert_memory_equal(hub_cache_dir(h), user->pw_dir, strlen(user->pw_dir));
        hub_close(h);
    }
    setenv("HF_HOME", "~nobody/x", 1);
    assert_int_equal(hub_open(&h, NULL), -1);
    unsetenv("HF_HOME");
    setenv("HOME", "/nobody", 1);
    setenv("XDG_CACHE_HOME", "/xdg", 1);
    assert_int_equal(hub_open(&h, NULL), 0);
    assert_string_equal(hub_cache_dir(h), "/xdg/huggingface/hub");
    hub_close(h);
    setenv("PLACE", "/data", 1);
    setenv("HF_HOME", "${PLACE}/hf-$PLACE", 1);
    setenv("HF_HUB_OFFLINE", "Yes", 1);
    setenv("HUGGINGFACE_TOKEN", " hf_x \r\n", 1);
    setenv("HF_ENDPOINT", "http://mirror.test//", 1);
    assert_int_equal(hub_open(&h, NULL), 0);
    assert_string_equal(hub_endpoint(h), "http://mirror.test");
    assert_string_equal(hub_cache_dir(h), "/data/hf-/data/hub");
    assert_string_equal(hub_token_source(h), "HUGGINGFACE_TOKEN");
    assert_string_equal(hub_token(h), "hf_x");
    assert_true(hub_offline(h));
    hub_close(h);
    setenv("HUGGINGFACE_HUB_CACHE", "~/older", 1);
    setenv("HF_TOKEN", "hf_first", 1);
    assert_int_equal(hub_open(&h, NULL), 0);
    assert_string_equal(hub_cache_dir(h), "/nobody/older");
    assert_string_equal(hub_token(h), "hf_first");
    hub_close(h);
    setenv("HF_HUB_CACHE", "/newer", 1);
    assert_int_equal(hub_open(&h, NULL), 0);
    assert_string_equal(hub_cache_dir(h), "/newer");
    hub_close(h);
    forget_environment();
}

/* As `git hash-object` says. */
static void gits_hash_of_a_file(void **state)
{
    (void)state;
    char hex[HASH_GIT_HEX_MAX];
    struct hash_git *h = hash_git_new(0);
    hash_git_finish(h, hex);
    assert_string_equal(hex, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    h = hash_git_new(6);
    hash_git_add(h, "hel", 3);
    hash_git_add(h, "lo\n", 3);
    hash_git_finish(h, hex);
    assert_string_equal(hex, "ce013625030ba8dba906f756967f9e9ca394464a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_taken_apart),
        cmocka_unit_test(addresses_are_names),
        cmocka_unit_test(other_names_are_refused),
        cmocka_unit_test(the_environment_is_read_as_by_huggingface_hub),
        cmocka_unit_test(gits_hash_of_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
