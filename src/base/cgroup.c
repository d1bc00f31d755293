/* Limits of the control group, version 2 ("0::/path", unified hierarchy), version 1
 * ("4:memory:/path") and hybrids of both; formats from the kernel's admin-guide/cgroup-v2.rst and
 * cgroup-v1/.
 *
 * Owns nothing. Every absent or odd file means "no limit known". A limit set on any ancestor binds,
 * so the path is walked up to the root. Inside a container the path may name the host's view and
 * not exist below the mount; walking up ends at the mount itself, which then is the container's own
 * group.
 */
#include "base/cgroup.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

enum { CGROUP_TEXT_MAX = 4096 };
/* Version 1 writes "no limit" as a number near 2^63. */
static const uint64_t unlimited_from = 1ull << 60;

/* Reads a small file whole into text; false when it cannot be read. */
static bool read_small(const char *path, char text[static CGROUP_TEXT_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, CGROUP_TEXT_MAX - 1);
    close(fd);
    if (n < 0)
        return false;
    text[n] = 0;
    return true;
}

/* True when `name` is one of the comma-separated names in [list, end). */
static bool in_list(const char *list, const char *end, const char *name)
{
    size_t n = strlen(name);
    while (list < end) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        const char *stop = comma ? comma : end;
        if ((size_t)(stop - list) == n && memcmp(list, name, n) == 0)
            return true;
        list = stop + 1;
    }
    return false;
}

/* The path of this process for a version 1 controller, or for version 2 when controller is "". */
static bool own_path(const char *controller, char path[static PATH_MAX])
{
    char text[CGROUP_TEXT_MAX];
    if (!read_small("/proc/self/cgroup", text))
        return false;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        char *list = strchr(line, ':');
        char *end = list ? strchr(list + 1, ':') : NULL;
        if (!end)
            continue;
        bool unified = strncmp(line, "0::", 3) == 0;
        if (*controller ? !in_list(list + 1, end, controller) : !unified)
            continue;
        return snprintf(path, PATH_MAX, "%s", end + 1) < PATH_MAX;
    }
    return false;
}

/* Calls visit with each directory from root+path up to root. */
static void walk_up(const char *root, const char *controller,
                    void (*visit)(void *ud, const char *directory), void *ud)
{
    char path[PATH_MAX], directory[PATH_MAX + 64];
    if (!own_path(controller, path))
        return;
    for (;;) {
        size_t n = strlen(path);
        while (n > 0 && path[n - 1] == '/')
            path[--n] = 0;
        snprintf(directory, sizeof(directory), "%s%s", root, path);
        visit(ud, directory);
        char *slash = strrchr(path, '/');
        if (!slash)
            return;
        *slash = 0;
    }
}

/* The first number of a file in `directory`; false when it is absent or says "max". */
static bool read_number(const char *directory, const char *file, int64_t *value)
{
    char path[PATH_MAX + 128], text[CGROUP_TEXT_MAX];
    snprintf(path, sizeof(path), "%s/%s", directory, file);
    if (!read_small(path, text))
        return false;
    char *end;
    long long n = strtoll(text, &end, 10);
    *value = n;
    return end != text;
}

static void keep_smaller(double *quota, int64_t time, int64_t period)
{
    if (time <= 0 || period <= 0)
        return;
    double ratio = (double)time / (double)period;
    if (*quota == 0 || ratio < *quota)
        *quota = ratio;
}

static void visit_cpu_v2(void *ud, const char *directory)
{
    char path[PATH_MAX + 128], text[CGROUP_TEXT_MAX];
    snprintf(path, sizeof(path), "%s/cpu.max", directory);
    long long time, period;
    if (read_small(path, text) && sscanf(text, "%lld %lld", &time, &period) == 2)
        keep_smaller(ud, time, period);
}

static void visit_cpu_v1(void *ud, const char *directory)
{
    int64_t time, period;
    if (read_number(directory, "cpu.cfs_quota_us", &time) &&
        read_number(directory, "cpu.cfs_period_us", &period))
        keep_smaller(ud, time, period);
}

double cgroup_cpu_quota(void)
{
    double quota = 0;
    walk_up("/sys/fs/cgroup", "", visit_cpu_v2, &quota);
    walk_up("/sys/fs/cgroup/unified", "", visit_cpu_v2, &quota);
    walk_up("/sys/fs/cgroup/cpu", "cpu", visit_cpu_v1, &quota);
    walk_up("/sys/fs/cgroup/cpu,cpuacct", "cpu", visit_cpu_v1, &quota);
    return quota;
}

struct memory_limit {
    uint64_t max, used;
    const char *max_file, *used_file, *reclaimable; /* the last: a line of memory.stat */
};

/* The value of a line "name value" of memory.stat, 0 when there is none. */
static uint64_t stat_value(const char *directory, const char *name)
{
    char path[PATH_MAX + 128], text[CGROUP_TEXT_MAX];
    size_t n = strlen(name);
    snprintf(path, sizeof(path), "%s/memory.stat", directory);
    if (!read_small(path, text))
        return 0;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")))
        if (strncmp(line, name, n) == 0 && line[n] == ' ')
            return strtoull(line + n, NULL, 10);
    return 0;
}

static void visit_memory(void *ud, const char *directory)
{
    struct memory_limit *m = ud;
    int64_t max, used;
    if (!read_number(directory, m->max_file, &max) || max <= 0 || (uint64_t)max >= unlimited_from)
        return;
    if (m->max != 0 && (uint64_t)max >= m->max)
        return;
    m->max = (uint64_t)max;
    m->used = read_number(directory, m->used_file, &used) && used > 0 ? (uint64_t)used : 0;
    /* Cached files that nobody has touched lately are counted as used, but make room when asked. */
    uint64_t idle = stat_value(directory, m->reclaimable);
    m->used -= idle < m->used ? idle : m->used;
}

uint64_t cgroup_memory_max(uint64_t *used)
{
    struct memory_limit m = {
        .max_file = "memory.max", .used_file = "memory.current", .reclaimable = "inactive_file"};
    walk_up("/sys/fs/cgroup", "", visit_memory, &m);
    walk_up("/sys/fs/cgroup/unified", "", visit_memory, &m);
    m.max_file = "memory.limit_in_bytes";
    m.used_file = "memory.usage_in_bytes";
    m.reclaimable = "total_inactive_file";
    walk_up("/sys/fs/cgroup/memory", "memory", visit_memory, &m);
    if (used)
        *used = m.used;
    return m.max;
}
