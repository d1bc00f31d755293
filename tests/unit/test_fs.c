/* fs: maps, atomic replacement also on a full disk, locks, directories, shared memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

static char dir[256];

static int make_dir(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/sintra-fs-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static const char *in_dir(const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void put(const char *path, const char *text)
{
    struct err e = {0};
    if (fs_write_all(path, text, strlen(text), &e))
        fail_msg("%s", e.message);
}

static void expect_content(const char *path, const char *text)
{
    char *data;
    size_t n;
    struct err e = {0};
    assert_int_equal(fs_read_all(path, 1 << 20, &data, &n, &e), 0);
    assert_int_equal(n, strlen(text));
    assert_string_equal(data, text);
    xfree(data);
}

static size_t entries(const char *path)
{
    char **names;
    size_t n;
    assert_int_equal(fs_list(path, &names, &n, NULL), 0);
    fs_list_free(names, n);
    return n;
}

static void map_shows_the_file(void **state)
{
    (void)state;
    const char *path = in_dir("m");
    struct err e = {0};
    struct fs_map m;
    char big[20000];
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 31);
    assert_int_equal(fs_write_all(path, big, sizeof(big), &e), 0);
    assert_int_equal(fs_map_open(&m, path, &e), 0);
    assert_int_equal(m.size, sizeof(big));
    assert_memory_equal(m.data, big, sizeof(big));
    assert_int_equal(fs_map_check(&m, &e), 0);
    fs_map_prefetch(&m, 5000, 10000);
    fs_map_prefetch(&m, 5000, UINT64_MAX);
    fs_map_forget(&m, 1, 9000);
    fs_map_forget(&m, UINT64_MAX, 5);
    assert_memory_equal(m.data, big, sizeof(big));
    /* a change is noticed */
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    assert_int_equal(fs_map_check(&m, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.message, path));
    fs_map_close(&m);
    fs_map_close(&m);
}

static void map_notices_same_size_rewrites(void **state)
{
    (void)state;
    const char *path = in_dir("m2");
    struct fs_map m;
    put(path, "aaaa");
    assert_int_equal(fs_map_open(&m, path, NULL), 0);
    struct timespec times[2] = {{1000, 0}, {1000, 5}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(fs_map_check(&m, NULL), -1);
    fs_map_close(&m);
}

static void map_refuses_what_is_no_file(void **state)
{
    (void)state;
    struct err e = {0};
    struct fs_map m;
    assert_int_equal(fs_map_open(&m, in_dir("absent"), &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_int_equal(fs_map_open(&m, dir, &e), -1);
    assert_non_null(strstr(e.message, "directory"));
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_int_equal(fs_map_open(&m, in_dir("fifo"), &e), -1); /* and does not hang */
    assert_int_equal(e.code, ERR_INPUT);
    put(in_dir("empty"), "");
    assert_int_equal(fs_map_open(&m, in_dir("empty"), &e), 0);
    assert_null(m.data);
    assert_int_equal(m.size, 0);
    fs_map_close(&m);
}

static void read_all_keeps_its_limit(void **state)
{
    (void)state;
    struct err e = {0};
    char *data;
    size_t n;
    put(in_dir("r"), "12345");
    assert_int_equal(fs_read_all(in_dir("r"), 5, &data, &n, &e), 0);
    assert_int_equal(n, 5);
    xfree(data);
    assert_int_equal(fs_read_all(in_dir("r"), 4, &data, &n, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_int_equal(fs_read_all("/dev/zero", 100000, &data, &n, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_int_equal(fs_read_all("/proc/self/status", 1 << 20, &data, &n, &e), 0);
    assert_true(n > 100); /* a file that says it has no bytes */
    xfree(data);
    assert_int_equal(fs_read_all(dir, 100, &data, &n, &e), -1);
    put(in_dir("r0"), "");
    assert_int_equal(fs_read_all(in_dir("r0"), 0, &data, &n, &e), 0);
    assert_int_equal(n, 0);
    xfree(data);
}

static void atomic_appears_on_commit_only(void **state)
{
    (void)state;
    struct err e = {0};
    struct fs_atomic a;
    const char *path = in_dir("atomic/out.gguf");
    assert_int_equal(fs_mkdirs(in_dir("atomic"), &e), 0);
    path = in_dir("atomic/out.gguf");
    char kept[512];
    snprintf(kept, sizeof(kept), "%s", path);
    assert_int_equal(fs_atomic_open(&a, kept, &e), 0);
    assert_false(fs_exists(kept));
    assert_int_equal(fs_atomic_write(&a, "hello ", 6, &e), 0);
    assert_int_equal(fs_atomic_write_at(&a, 8, "XY", 2, &e), 0);
    assert_int_equal(fs_atomic_write(&a, "wo", 2, &e), 0);
    assert_int_equal(a.written, 8);
    assert_non_null(strstr(a.temporary, ".partial"));
    assert_false(fs_exists(kept));
    assert_int_equal(fs_atomic_commit(&a, &e), 0);
    expect_content(kept, "hello woXY");
    fs_atomic_abort(&a);
    assert_int_equal(fs_atomic_commit(&a, &e), -1);
    assert_int_equal(e.code, ERR_BUG);
    assert_int_equal(entries(in_dir("atomic")), 1);
    /* replaces; abort leaves the old */
    assert_int_equal(fs_atomic_open(&a, kept, &e), 0);
    assert_int_equal(fs_atomic_write(&a, "new", 3, &e), 0);
    fs_atomic_abort(&a);
    expect_content(kept, "hello woXY");
    assert_int_equal(entries(in_dir("atomic")), 1);
    put(kept, "new");
    expect_content(kept, "new");
}

static void atomic_takes_over_stale_temporaries(void **state)
{
    (void)state;
    char stale[600];
    snprintf(stale, sizeof(stale), "%s/t.sintra-%ld.partial", dir, (long)getpid());
    int fd = open(stale, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "old rubbish that is longer", 26), 26);
    close(fd);
    put(in_dir("t"), "short");
    expect_content(in_dir("t"), "short");
    assert_false(fs_exists(stale));
}

/* What a killed process left goes with the next writer of that target; a living one's stays. */
static void atomic_removes_what_the_dead_left(void **state)
{
    (void)state;
    struct err e = {0};
    struct fs_atomic first, second;
    const char *const kept[] = {"swept/other.sintra-1.partial", "swept/t.sintra-x.partial",
                                "swept/t.sintra-7.partial.bak"};
    char target[512];
    assert_int_equal(fs_mkdirs(in_dir("swept"), &e), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(fs_write_all(in_dir(kept[i]), "a", 1, &e), 0);
    assert_int_equal(fs_write_all(in_dir("swept/t.sintra-999999999.partial"), "half", 4, &e), 0);
    snprintf(target, sizeof(target), "%s", in_dir("swept/t"));
    assert_int_equal(fs_atomic_open(&first, target, &e), 0);
    assert_int_equal(entries(in_dir("swept")), 4);
    /* The same target again, while the first is being written: a name of its own is refused, and
     * nothing is taken from the first. */
    assert_int_equal(fs_atomic_open(&second, target, &e), -1);
    assert_int_equal(fs_atomic_write(&first, "whole", 5, &e), 0);
    assert_int_equal(fs_atomic_commit(&first, &e), 0);
    assert_int_equal(entries(in_dir("swept")), 4);
    assert_true(fs_exists(target));
}

static void atomic_refuses_odd_targets(void **state)
{
    (void)state;
    struct err e = {0};
    struct fs_atomic a;
    assert_int_equal(fs_atomic_open(&a, "", &e), -1);
    assert_int_equal(fs_atomic_open(&a, dir, &e), -1);
    assert_int_equal(fs_atomic_open(&a, "/dev/null", &e), -1);
    assert_non_null(strstr(e.message, "device"));
    assert_int_equal(fs_atomic_open(&a, in_dir("x/"), &e), -1);
    assert_int_equal(fs_atomic_open(&a, in_dir("absent/x"), &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_non_null(strstr(e.message, in_dir("absent/x")));
}

/* In a child, because the limit and the mount must not reach the other tests. */
static int in_child(int (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(fn());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int write_past_file_limit(void)
{
    struct err e = {0};
    struct fs_atomic a;
    struct rlimit limit = {65536, 65536};
    static char block[65536];
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    if (fs_atomic_open(&a, in_dir("limited"), &e))
        return 1;
    if (fs_atomic_write(&a, block, sizeof(block), &e))
        return 2;
    if (fs_atomic_write(&a, block, 1, &e) == 0)
        return 3;
    if (e.code != ERR_IO || !strstr(e.message, in_dir("limited")) || !e.hint[0])
        return 4;
    fs_atomic_abort(&a);
    return entries(dir) == 0 ? 0 : 5;
}

static void file_size_limit_is_an_error(void **state)
{
    (void)state;
    fs_remove_tree(dir, NULL);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(in_child(write_past_file_limit), 0);
}

enum { SKIPPED = 77 };

static int fill_small_tmpfs(void)
{
    struct err e = {0};
    struct fs_atomic a;
    static char block[1 << 20];
    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return SKIPPED;
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (mount("none", dir, "tmpfs", 0, "size=256k") < 0)
        return SKIPPED;
    put(in_dir("final"), "old");
    if (fs_atomic_open(&a, in_dir("final"), &e))
        return 1;
    if (fs_atomic_write(&a, block, sizeof(block), &e) == 0)
        return 2;
    if (e.code != ERR_IO || !strstr(e.hint, "full"))
        return 3;
    fs_atomic_abort(&a);
    uint64_t left;
    if (fs_free_bytes(dir, &left, &e) || left < 100000 || left > 262144)
        return 4;
    expect_content(in_dir("final"), "old");
    return entries(dir) == 1 ? 0 : 5;
}

static void full_disk_is_an_error(void **state)
{
    (void)state;
    int rc = in_child(fill_small_tmpfs);
    if (rc == SKIPPED) {
        print_message("SKIP: no right to mount a tmpfs\n");
        skip();
    }
    assert_int_equal(rc, 0);
}

static void killed_writer_leaves_no_final_file(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct fs_atomic a;
        if (fs_atomic_open(&a, in_dir("victim"), NULL) == 0)
            fs_atomic_write(&a, "half", 4, NULL);
        raise(SIGKILL);
    }
    waitpid(pid, NULL, 0);
    assert_false(fs_exists(in_dir("victim")));
}

static void directories_are_made_and_removed(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(fs_mkdirs(in_dir("a/b//c/"), &e), 0);
    assert_int_equal(fs_mkdirs(in_dir("a/b/c"), &e), 0);
    assert_true(fs_is_dir(in_dir("a/b/c")));
    put(in_dir("a/file"), "x");
    assert_int_equal(fs_mkdirs(in_dir("a/file/d"), &e), -1);
    assert_non_null(strstr(e.message, "is a file"));
    put(in_dir("outside"), "precious");
    assert_int_equal(mkdir(in_dir("keep"), 0700), 0);
    put(in_dir("keep/k"), "precious");
    char target[512];
    snprintf(target, sizeof(target), "%s", in_dir("outside"));
    assert_int_equal(symlink(target, in_dir("a/b/link")), 0);
    snprintf(target, sizeof(target), "%s", in_dir("keep"));
    assert_int_equal(symlink(target, in_dir("a/b/dirlink")), 0);
    assert_int_equal(fs_remove_tree(in_dir("a"), &e), 0);
    assert_false(fs_exists(in_dir("a")));
    expect_content(in_dir("outside"), "precious");
    expect_content(in_dir("keep/k"), "precious");
    assert_int_equal(fs_remove_tree(in_dir("a"), &e), 0);
    assert_int_equal(fs_remove(in_dir("a"), &e), 0);
    assert_int_equal(fs_remove(in_dir("outside"), &e), 0);
    assert_false(fs_exists(in_dir("outside")));
    assert_int_equal(fs_remove(in_dir("keep"), &e), -1);
}

static void lists_are_sorted(void **state)
{
    (void)state;
    struct err e = {0};
    char **names;
    size_t n;
    assert_int_equal(fs_mkdirs(in_dir("l"), &e), 0);
    put(in_dir("l/b"), "");
    put(in_dir("l/a"), "");
    put(in_dir("l/.c"), "");
    assert_int_equal(fs_list(in_dir("l"), &names, &n, &e), 0);
    assert_int_equal(n, 3);
    assert_string_equal(names[0], ".c");
    assert_string_equal(names[1], "a");
    assert_string_equal(names[2], "b");
    fs_list_free(names, n);
    assert_int_equal(fs_list(in_dir("none"), &names, &n, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
}

static void names_and_sizes(void **state)
{
    (void)state;
    struct err e = {0};
    uint64_t n;
    char *s = fs_join("a", "b"), *t = fs_join("a/", "b"), *u = fs_join("", "b");
    assert_string_equal(s, "a/b");
    assert_string_equal(t, "a/b");
    assert_string_equal(u, "b");
    xfree(s);
    xfree(t);
    xfree(u);
    assert_string_equal(fs_basename("/x/y.gguf"), "y.gguf");
    assert_string_equal(fs_basename("y"), "y");
    put(in_dir("sized"), "12345");
    assert_int_equal(fs_size(in_dir("sized"), &n, &e), 0);
    assert_int_equal(n, 5);
    assert_int_equal(fs_size(in_dir("unsized"), &n, &e), -1);
    assert_int_equal(fs_free_bytes(in_dir("not/yet/there"), &n, &e), 0);
    assert_true(n > 0);
}

static int take_lock(void)
{
    struct err e = {0};
    struct fs_lock l;
    char pid[32];
    if (fs_lock_take(&l, in_dir("lock"), &e) == 0)
        return 1;
    snprintf(pid, sizeof(pid), "process %ld", (long)getppid());
    return e.code == ERR_BUSY && strstr(e.message, pid) ? 0 : 2;
}

static int take_free_lock(void)
{
    struct fs_lock l;
    if (fs_lock_take(&l, in_dir("lock"), NULL))
        return 1;
    return 0; /* not dropped: the end of the process must do */
}

static void lock_excludes(void **state)
{
    (void)state;
    struct err e = {0};
    struct fs_lock l, second;
    assert_int_equal(fs_lock_take(&l, in_dir("lock"), &e), 0);
    assert_int_equal(in_child(take_lock), 0);
    assert_int_equal(fs_lock_take(&second, in_dir("lock"), &e), -1); /* also inside one process */
    assert_int_equal(e.code, ERR_BUSY);
    fs_lock_drop(&l);
    fs_lock_drop(&l);
    assert_int_equal(in_child(take_free_lock), 0);
    assert_int_equal(fs_lock_take(&l, in_dir("lock"), &e), 0);
    fs_lock_drop(&l);
    assert_int_equal(fs_lock_take(&l, in_dir("no/lock"), &e), -1);
}

static void shared_memory_is_shared(void **state)
{
    (void)state;
    struct err e = {0};
    int fd;
    void *a, *b, *c;
    assert_int_equal(fs_memfd("test", 100000, &fd, &a, &e), 0);
    assert_int_equal(fs_memfd_map(fd, 100000, false, &b, &e), 0);
    memcpy((char *)a + 99990, "hi", 3);
    assert_string_equal((char *)b + 99990, "hi");
    assert_int_equal(fs_memfd_map(fd, 200000, false, &c, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_int_equal(ftruncate(fd, 10), -1); /* sealed */
    assert_int_equal(munmap(b, 100000), 0);
    fs_memfd_close(fd, a, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_shows_the_file),
        cmocka_unit_test(map_notices_same_size_rewrites),
        cmocka_unit_test(map_refuses_what_is_no_file),
        cmocka_unit_test(read_all_keeps_its_limit),
        cmocka_unit_test(atomic_appears_on_commit_only),
        cmocka_unit_test(atomic_takes_over_stale_temporaries),
        cmocka_unit_test(atomic_removes_what_the_dead_left),
        cmocka_unit_test(atomic_refuses_odd_targets),
        cmocka_unit_test(file_size_limit_is_an_error),
        cmocka_unit_test(full_disk_is_an_error),
        cmocka_unit_test(killed_writer_leaves_no_final_file),
        cmocka_unit_test(directories_are_made_and_removed),
        cmocka_unit_test(lists_are_sorted),
        cmocka_unit_test(names_and_sizes),
        cmocka_unit_test(lock_excludes),
        cmocka_unit_test(shared_memory_is_shared),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
