/* mem, buf and map: arenas, growth, limits, collisions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static void small_allocations(void **state)
{
    (void)state;
    char *p = xmalloc(0);
    assert_non_null(p);
    xfree(p);
    xfree(NULL);
    int *zeroed = xcalloc(100, sizeof(int));
    for (int i = 0; i < 100; i++)
        assert_int_equal(zeroed[i], 0);
    zeroed = xreallocarray(zeroed, 200, sizeof(int));
    xfree(zeroed);
    char *s = xstrdup("abc"), *t = xstrndup("abcdef", 2), *u = xasprintf("%s-%d", s, 5);
    assert_string_equal(s, "abc");
    assert_string_equal(t, "ab");
    assert_string_equal(u, "abc-5");
    xfree(s);
    xfree(t);
    xfree(u);
}

/* Runs fn in a child whose stderr is caught; returns the wait status. */
static int run_in_child(void (*fn)(void), char *text, size_t size)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(fds[1], 2);
        fn();
        _exit(0);
    }
    close(fds[1]);
    ssize_t n = read(fds[0], text, size - 1);
    text[n > 0 ? n : 0] = 0;
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void overflow_product(void)
{
    xfree(xcalloc(SIZE_MAX / 2, 3));
}

static void exhaustion_dies_with_a_line(void **state)
{
    (void)state;
    char text[256];
    int status = run_in_child(overflow_product, text, sizeof(text));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "out of memory"));
}

static void grow_doubles(void **state)
{
    (void)state;
    size_t capacity = 0;
    int *items = NULL;
    for (int i = 0; i < 10000; i++) {
        items = xgrow(items, &capacity, (size_t)i + 1, sizeof(*items));
        items[i] = i;
    }
    assert_in_range(capacity, 10000, 20000);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(items[i], i);
    items = xgrow(items, &capacity, 50000, sizeof(*items));
    assert_int_equal(capacity, 50000);
    xfree(items);
}

static void arena_is_aligned_zeroed_and_disjoint(void **state)
{
    (void)state;
    struct arena a = {0};
    unsigned char *pieces[500];
    size_t sizes[500];
    for (size_t i = 0; i < 500; i++) {
        sizes[i] = i % 50 == 49 ? 200000 : i * 7 % 300;
        pieces[i] = arena_alloc(&a, sizes[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], 0);
        memset(pieces[i], (int)(i % 255) + 1, sizes[i]);
    }
    size_t total = 0;
    for (size_t i = 0; i < 500; i++) {
        total += sizes[i];
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], (i % 255) + 1);
    }
    assert_true(a.bytes >= total);
    assert_string_equal(arena_strdup(&a, "hello"), "hello");
    assert_string_equal(arena_strndup(&a, "hello", 3), "hel");
    assert_string_equal(arena_printf(&a, "%05d|%s", 42, "x"), "00042|x");
    arena_release(&a);
    assert_null(a.blocks);
    assert_int_equal(a.bytes, 0);
    arena_release(&a);
}

static void big_memory_reports(void **state)
{
    (void)state;
    struct err e = {0};
    size_t n = 64 << 20;
    unsigned char *p = big_alloc(n, "a test", &e);
    assert_non_null(p);
    assert_int_equal(e.code, ERR_NONE);
    assert_int_equal(p[n - 1], 0);
    p[0] = p[n - 1] = 1;
    big_free(p, n);
    big_free(NULL, 5);
    assert_null(big_alloc((size_t)1 << 60, "the moon", &e));
    assert_int_equal(e.code, ERR_MEMORY);
    assert_non_null(strstr(e.message, "the moon"));
    assert_true(e.hint[0] != 0);
}

static void buf_appends(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_string_equal(buf_str(&b), "");
    buf_adds(&b, "abc");
    buf_addc(&b, '-');
    buf_addf(&b, "%d/%s", 5, "x");
    buf_add(&b, "", 0);
    assert_string_equal(buf_str(&b), "abc-5/x");
    assert_int_equal(b.len, 7);
    buf_drop_front(&b, 4);
    assert_string_equal(buf_str(&b), "5/x");
    buf_drop_front(&b, 100);
    assert_string_equal(buf_str(&b), "");
    buf_adds(&b, "again");
    char *taken = buf_take(&b);
    assert_string_equal(taken, "again");
    assert_int_equal(b.len, 0);
    xfree(taken);
    taken = buf_take(&b);
    assert_string_equal(taken, "");
    xfree(taken);
    buf_release(&b);
    buf_release(&b);
}

static void buf_keeps_its_maximum(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_adds(&b, "1234567890");
    assert_false(b.overflow);
    assert_int_equal(b.len, 10);
    buf_addc(&b, 'x');
    assert_true(b.overflow);
    assert_string_equal(buf_str(&b), "1234567890");
    buf_clear(&b);
    assert_false(b.overflow);
    buf_adds(&b, "123456");
    buf_addf(&b, "%s", "toolong");
    buf_adds(&b, "7"); /* would fit, but comes after a hole */
    assert_true(b.overflow);
    assert_string_equal(buf_str(&b), "123456");
    buf_release(&b);
    buf_init(&b, 0);
    buf_addc(&b, 'x');
    assert_true(b.overflow);
    assert_string_equal(buf_str(&b), "");
    buf_release(&b);
}

static void buf_grows_to_odd_maxima(void **state)
{
    (void)state;
    for (size_t max = 1; max < 300; max += 13) {
        struct buf b;
        buf_init(&b, max);
        for (size_t i = 0; i < max; i++)
            buf_addc(&b, 'a');
        assert_false(b.overflow);
        assert_int_equal(b.len, max);
        assert_true(b.capacity <= max + 1 || b.capacity == 64);
        buf_addc(&b, 'a');
        assert_true(b.overflow);
        buf_release(&b);
    }
}

static void map_finds_what_was_put(void **state)
{
    (void)state;
    struct map m = {0};
    uint64_t v = 99;
    assert_false(map_get_str(&m, "x", &v));
    assert_int_equal(v, 99);
    assert_true(map_add(&m, "x", 1, 5));
    assert_false(map_add(&m, "x", 1, 6));
    assert_true(map_get_str(&m, "x", &v));
    assert_int_equal(v, 5);
    map_set(&m, "x", 1, 7);
    assert_true(map_get(&m, "x", 1, &v));
    assert_int_equal(v, 7);
    assert_int_equal(m.count, 1);
    assert_true(map_get_str(&m, "x", NULL));
    map_release(&m);
    assert_int_equal(m.count, 0);
}

static void map_takes_any_bytes(void **state)
{
    (void)state;
    struct map m = {0};
    uint64_t v;
    assert_true(map_add(&m, "", 0, 1));
    assert_true(map_add(&m, "\0", 1, 2));
    assert_true(map_add(&m, "\0\0", 2, 3));
    assert_true(map_add(&m, "a\0b", 3, 4));
    assert_true(map_add(&m, "a\0c", 3, 5));
    assert_true(map_get(&m, "", 0, &v) && v == 1);
    assert_true(map_get(&m, "\0\0", 2, &v) && v == 3);
    assert_true(map_get(&m, "a\0c", 3, &v) && v == 5);
    assert_false(map_get(&m, "a", 1, &v));
    map_release(&m);
}

static void map_holds_a_vocabulary(void **state)
{
    (void)state;
    struct map m = {0};
    char key[64];
    enum { N = 150000 };
    for (uint64_t i = 0; i < N; i++) {
        int n =
            snprintf(key, sizeof(key), "token.%llu.%0*d", (unsigned long long)i, (int)(i % 20), 0);
        assert_true(map_add(&m, key, (size_t)n, i));
    }
    assert_int_equal(m.count, N);
    for (uint64_t i = 0; i < N; i++) {
        uint64_t v = 0;
        snprintf(key, sizeof(key), "token.%llu.%0*d", (unsigned long long)i, (int)(i % 20), 0);
        assert_true(map_get_str(&m, key, &v) && v == i);
    }
    assert_false(map_get_str(&m, "token.150000.0", NULL));
    map_release(&m);
}

static void try_realloc_can_refuse(void **state)
{
    (void)state;
#ifdef SANITIZED
    skip(); /* the sanitizer reports absurd sizes instead of refusing them */
#else
    volatile size_t absurd = SIZE_MAX / 2;
    char *p = mem_try_realloc(NULL, 10);
    assert_non_null(p);
    assert_null(mem_try_realloc(p, absurd));
    p[9] = 1; /* still ours */
    xfree(p);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_allocations),
        cmocka_unit_test(exhaustion_dies_with_a_line),
        cmocka_unit_test(grow_doubles),
        cmocka_unit_test(arena_is_aligned_zeroed_and_disjoint),
        cmocka_unit_test(big_memory_reports),
        cmocka_unit_test(buf_appends),
        cmocka_unit_test(buf_keeps_its_maximum),
        cmocka_unit_test(buf_grows_to_odd_maxima),
        cmocka_unit_test(map_finds_what_was_put),
        cmocka_unit_test(map_takes_any_bytes),
        cmocka_unit_test(map_holds_a_vocabulary),
        cmocka_unit_test(try_realloc_can_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
