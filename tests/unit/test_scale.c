/* A model of 70 B parameters, 141 GB of holes: what only looks at it takes less than a second of
 * processor time and 200 MiB, since weights are mapped and never read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"

enum { ARGS_MAX = 12, MEMORY_KIB_MAX = 200 << 10 };

static char *folder, *model, *output;

static void run(const char *const *args, struct rusage *use)
{
    pid_t pid = fork();
    int status = -1;
    if (pid == 0) {
        int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execv(args[0], (char *const *)(uintptr_t)args);
        _exit(127);
    }
    assert_true(pid > 0);
    assert_int_equal(wait4(pid, &status, 0, use), pid);
    if (status != 0) {
        char *text = NULL;
        size_t n = 0;
        fs_read_all(output, 1 << 20, &text, &n, NULL);
        fail_msg("%s %s ended with status %#x: %.*s", args[0], args[1], (unsigned)status, (int)n,
                 text ? text : "");
    }
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void looks_quickly(const char *const *args)
{
    const char *program = getenv("SINTRA");
    const char *all[ARGS_MAX] = {program ? program : "./sintra"};
    struct rusage use;
    for (size_t i = 0; args[i]; i++)
        all[i + 1] = args[i];
    run(all, &use);
    double cpu = seconds(use.ru_utime) + seconds(use.ru_stime);
    print_message("%s: %.2f s of processor time, %ld MiB\n", args[0], cpu, use.ru_maxrss >> 10);
#ifndef __SANITIZE_ADDRESS__
    assert_true(cpu < 1.0);
    assert_true(use.ru_maxrss < MEMORY_KIB_MAX);
#endif
}

static void test_looking(void **state)
{
    (void)state;
    looks_quickly((const char *[]){"inspect", model, NULL});
    looks_quickly((const char *[]){"plan", "--model", model, "--target-bpw", "4.5", NULL});
    looks_quickly((const char *[]){"optimize", "--model", model, "--target-size", "40GiB",
                                   "--dry-run", NULL});
    looks_quickly((const char *[]){"quantize", model, "--type", "Q4_K_M", "--dry-run", NULL});
}

static int make_model(void **state)
{
    (void)state;
    const char *build = getenv("SINTRA_BUILD"), *tmp = getenv("TMPDIR");
    struct rusage use;
    folder = xasprintf("%s/scale-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return -1;
    setenv("SINTRA_HOME", folder, 1);
    model = fs_join(folder, "model");
    output = fs_join(folder, "output");
    char *tool = xasprintf("%s/tools/make_synthetic", build ? build : "build");
    run((const char *[]){tool, model, "--shape", "llama-70b", "--sparse", "--shards", "30", NULL},
        &use);
    xfree(tool);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    fs_remove_tree(folder, NULL);
    xfree(folder);
    xfree(model);
    xfree(output);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_looking)};
    return cmocka_run_group_tests_name("scale", tests, make_model, remove_model);
}
