/* thread, hash, rng and cgroup: every item once, deterministic failures, known vectors, known
 * streams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/stop.h"
#include "base/thread.h"

enum { ITEMS = 5000 };

struct visit {
    atomic_int seen[ITEMS];
    atomic_int worker_max;
    size_t fail_from;
};

static int visit(void *ud, size_t item, int worker)
{
    struct visit *v = ud;
    atomic_fetch_add(&v->seen[item], 1);
    int max = atomic_load(&v->worker_max);
    while (worker > max && !atomic_compare_exchange_weak(&v->worker_max, &max, worker))
        continue;
    if (item % 64 == 0)
        sched_yield();
    return item >= v->fail_from ? (int)item : 0;
}

static void every_item_once(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 16, 0, -1};
    for (size_t t = 0; t < sizeof(threads) / sizeof(threads[0]); t++) {
        struct visit *v = xcalloc(1, sizeof(*v));
        v->fail_from = SIZE_MAX;
        assert_int_equal(thread_parallel_for(threads[t], ITEMS, visit, v), 0);
        for (int i = 0; i < ITEMS; i++)
            assert_int_equal(v->seen[i], 1);
        assert_true(v->worker_max < (threads[t] > 0 ? threads[t] : thread_count_default()));
        xfree(v);
    }
    assert_int_equal(thread_parallel_for(4, 0, visit, NULL), 0);
}

static void lowest_failure_wins_and_stops(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct visit *v = xcalloc(1, sizeof(*v));
        v->fail_from = 1000;
        assert_int_equal(thread_parallel_for(8, ITEMS, visit, v), 1000);
        int total = 0;
        for (int i = 0; i < ITEMS; i++)
            total += v->seen[i];
        assert_true(total >= 1001 && total < 1001 + 64);
        xfree(v);
    }
}

static int nested(void *ud, size_t item, int worker)
{
    (void)item;
    (void)worker;
    return thread_parallel_for(2, 10, visit, ud);
}

static void loops_nest(void **state)
{
    (void)state;
    struct visit *v = xcalloc(1, sizeof(*v));
    v->fail_from = SIZE_MAX;
    assert_int_equal(thread_parallel_for(3, 7, nested, v), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(v->seen[i], 7);
    xfree(v);
}

static void default_count_follows_affinity(void **state)
{
    (void)state;
    int n = thread_count_default();
    assert_true(n >= 1 && n <= sysconf(_SC_NPROCESSORS_CONF));
    cpu_set_t old, one;
    assert_int_equal(sched_getaffinity(0, sizeof(old), &old), 0);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(thread_count_default(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(old), &old), 0);
}

static void cgroup_answers_are_sane(void **state)
{
    (void)state;
    uint64_t used = 1;
    uint64_t max = cgroup_memory_max(&used);
    assert_true(max == 0 || max > 1 << 20);
    assert_true(max != 0 || used == 0);
    assert_true(cgroup_cpu_quota() >= 0);
    assert_int_equal(cgroup_memory_max(NULL), max);
}

struct fake_group {
    const char *membership; /* /proc/self/cgroup */
    struct {
        const char *path, *text; /* below /sys/fs/cgroup */
    } files[6];
    double quota;
    uint64_t memory, used;
};

static const struct fake_group fake_groups[] = {
    {"0::/app\n",
     {{"app/cpu.max", "150000 100000\n"},
      {"app/memory.max", "max\n"},
      {"memory.max", "1000000000\n"},
      {"memory.current", "400000000\n"},
      {"memory.stat", "anon 1\ninactive_file 100000000\nactive_file 7\n"}},
     1.5,
     1000000000,
     300000000},
    {"0::/a/b\n", /* the tighter ancestor binds */
     {{"a/b/cpu.max", "max 100000\n"},
      {"a/cpu.max", "50000 100000\n"},
      {"cpu.max", "400000 100000\n"},
      {"a/b/memory.max", "2000\n"},
      {"a/memory.max", "1000\n"}},
     0.5,
     1000,
     0},
    {"4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/\n0::/\n",
     {{"memory/memory.limit_in_bytes", "536870912\n"}, /* the container's own view is the mount */
      {"memory/memory.usage_in_bytes", "1000\n"},
      {"memory/memory.stat", "total_inactive_file 5000\n"},
      {"cpu,cpuacct/docker/x/cpu.cfs_quota_us", "200000\n"},
      {"cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n"}},
     2,
     536870912,
     0},
    {"4:memory:/\n2:cpu:/\n",
     {{"memory/memory.limit_in_bytes", "9223372036854771712\n"}, /* version 1's "no limit" */
      {"cpu/cpu.cfs_quota_us", "-1\n"},
      {"cpu/cpu.cfs_period_us", "100000\n"}},
     0,
     0,
     0},
    {"rubbish\n0:\n::\n\n", {{"memory.max", "5"}}, 0, 0, 0},
};

enum { SKIPPED = 77 };

static int put(const char *path, const char *text)
{
    char *slash = strrchr(path, '/'), *dir = xstrndup(path, (size_t)(slash - path));
    int rc = fs_mkdirs(dir, NULL);
    if (rc == 0)
        rc = fs_write_all(path, text, strlen(text), NULL);
    xfree(dir);
    return rc;
}

/* In a mount namespace of its own, a made-up group lies over the real one. */
static int look_at_group(const struct fake_group *g)
{
    char path[256];
    if (unshare(CLONE_NEWNS) < 0)
        return SKIPPED;
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (mount("none", "/sys/fs/cgroup", "tmpfs", 0, NULL) < 0)
        return SKIPPED;
    for (int i = 0; i < 6 && g->files[i].path; i++) {
        snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", g->files[i].path);
        if (put(path, g->files[i].text))
            return 1;
    }
    if (put("/sys/fs/cgroup/membership", g->membership))
        return 1;
    if (mount("/sys/fs/cgroup/membership", "/proc/self/cgroup", NULL, MS_BIND, NULL) < 0)
        return SKIPPED;
    uint64_t used = 12345, memory = cgroup_memory_max(&used);
    if (memory != g->memory || used != g->used)
        return 2;
    if (fabs(cgroup_cpu_quota() - g->quota) > 1e-9)
        return 3;
    return g->quota > 0 && thread_count_default() > (int)ceil(g->quota) ? 4 : 0;
}

static void cgroup_limits_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(fake_groups) / sizeof(fake_groups[0]); i++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            _exit(look_at_group(&fake_groups[i]));
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == SKIPPED) {
            print_message("SKIP: no right to mount\n");
            skip();
        }
        if (WEXITSTATUS(status) != 0)
            fail_msg("group %zu: step %d", i, WEXITSTATUS(status));
    }
}

static void sha256_vectors(void **state)
{
    (void)state;
    /* FIPS 180-4 examples */
    char hex[HASH_HEX_MAX];
    hash_sha256_text("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_sha256_text("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    struct hash_sha256 *h = hash_sha256_new();
    char block[1000];
    memset(block, 'a', sizeof(block));
    for (int i = 0; i < 1000; i++)
        hash_sha256_add(h, block, sizeof(block));
    hash_sha256_add(h, NULL, 0);
    hash_sha256_finish(h, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void sha256_of_a_file(void **state)
{
    (void)state;
    char hex[HASH_HEX_MAX] = "", path[] = "/tmp/sintra-hash-XXXXXX";
    struct err e = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "abc", 3), 3);
    close(fd);
    assert_int_equal(hash_sha256_file(path, hex, &e), 0);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    char untouched[HASH_HEX_MAX] = "x";
    stop_request();
    assert_int_equal(hash_sha256_file(path, untouched, &e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    stop_reset();
    unlink(path);
    assert_int_equal(hash_sha256_file(path, untouched, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_int_equal(hash_sha256_file("/tmp", untouched, &e), -1);
    assert_string_equal(untouched, "x");
}

static void rng_stream_is_fixed(void **state)
{
    (void)state;
    /* The authors' reference: xoshiro256** with state {1,2,3,4} begins so. */
    struct rng r = {{1, 2, 3, 4}};
    static const uint64_t expected[] = {11520u,
                                        0u,
                                        1509978240u,
                                        1215971899390074240u,
                                        1216172134540287360u,
                                        607988272756665600u,
                                        16172922978634559625u,
                                        8476171486693032832u,
                                        10595114339597558777u,
                                        2904607092377533576u};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        assert_true(rng_next(&r) == expected[i]);
    /* splitmix64 from 1234567: the reference values of its public test vectors */
    struct rng s;
    rng_seed(&s, 1234567);
    assert_true(s.s[0] == 6457827717110365317u && s.s[1] == 3203168211198807973u);
    assert_true(s.s[2] == 9817491932198370423u && s.s[3] == 4593380528125082431u);
}

static void rng_ranges(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    double sum = 0;
    int counts[7] = {0};
    for (int i = 0; i < 70000; i++) {
        double u = rng_unit(&r);
        assert_true(u >= 0 && u < 1);
        sum += u;
        counts[rng_below(&r, 7)]++;
    }
    assert_true(fabs(sum / 70000 - 0.5) < 0.005);
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 9600, 10400);
    assert_int_equal(rng_below(&r, 0), 0);
    assert_int_equal(rng_below(&r, 1), 0);
    for (int i = 0; i < 1000; i++)
        assert_true(rng_below(&r, (1ull << 63) + 1) <= 1ull << 63);
}

static void rng_normal_is_normal(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 42);
    enum { N = 200000 };
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    int beyond = 0;
    for (int i = 0; i < N; i++) {
        double x = rng_normal(&r);
        m1 += x;
        m2 += x * x;
        m3 += x * x * x;
        m4 += x * x * x * x;
        beyond += fabs(x) > 1.959963984540054;
    }
    assert_true(fabs(m1 / N) < 0.01);
    assert_true(fabs(m2 / N - 1) < 0.02);
    assert_true(fabs(m3 / N) < 0.03);
    assert_true(fabs(m4 / N - 3) < 0.1);
    assert_true(fabs((double)beyond / N - 0.05) < 0.002);
}

static void ids_sort_by_time_and_differ(void **state)
{
    (void)state;
    static char ids[2000][27];
    for (int i = 0; i < 2000; i++) {
        rng_id(ids[i]);
        assert_int_equal(strlen(ids[i]), 26);
        assert_int_equal(strspn(ids[i], "0123456789abcdefghjkmnpqrstvwxyz"), 26);
        if (i > 0)
            assert_true(strcmp(ids[i - 1], ids[i]) < 0);
    }
    assert_in_range(ids[0][0], '0', '7');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_once),
        cmocka_unit_test(lowest_failure_wins_and_stops),
        cmocka_unit_test(loops_nest),
        cmocka_unit_test(default_count_follows_affinity),
        cmocka_unit_test(cgroup_answers_are_sane),
        cmocka_unit_test(cgroup_limits_are_read),
        cmocka_unit_test(sha256_vectors),
        cmocka_unit_test(sha256_of_a_file),
        cmocka_unit_test(rng_stream_is_fixed),
        cmocka_unit_test(rng_ranges),
        cmocka_unit_test(rng_normal_is_normal),
        cmocka_unit_test(ids_sort_by_time_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
