/* Who owns a running run, and does that process still live?
 *
 * Owns nothing. A pid alone lies: it is reused, it starts again after a reboot, it means nothing in
 * another container or on another host of a shared home. So the owner is written down as host, boot
 * id, pid namespace, pid and start time. Where the process can be seen from here, it is asked for;
 * where the host is ours but was rebooted, the owner is dead; otherwise its last sign of life
 * decides.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "store/store_int.h"
#include "base/banned.h"

/* A trial of a large model takes minutes; an owner elsewhere that was silent for longer is given
 * up. */
enum { SILENCE_MAX_MS = 30 * 60 * 1000 };

/* The first line of a small file of the kernel, "" when it cannot be read. */
static void read_line(const char *path, char *text, size_t size)
{
    char *data;
    size_t n;
    text[0] = 0;
    if (fs_read_all(path, 1 << 16, &data, &n, NULL))
        return;
    snprintf(text, size, "%.*s", (int)strcspn(data, "\n"), data);
    xfree(data);
}

/* Field 22 of /proc/PID/stat; the name in field 2 may hold anything, so counting starts behind its
 * ')'. */
static int64_t start_of(int64_t pid)
{
    char path[64], line[2048];
    snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    read_line(path, line, sizeof(line));
    const char *p = strrchr(line, ')');
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p ? strtoll(p, NULL, 10) : 0;
}

void store_owner_self(struct store_owner *o)
{
    *o = (struct store_owner){.pid = getpid()};
    o->pid_start = start_of(o->pid);
    if (gethostname(o->host, sizeof(o->host) - 1) < 0)
        o->host[0] = 0;
    read_line("/proc/sys/kernel/random/boot_id", o->boot, sizeof(o->boot));
    ssize_t n = readlink("/proc/self/ns/pid", o->space, sizeof(o->space) - 1);
    o->space[n > 0 ? n : 0] = 0;
}

bool store_owner_alive(const struct store_owner *o, int64_t active_ms, int64_t now_ms)
{
    struct store_owner self;
    store_owner_self(&self);
    bool same_boot = strcmp(o->boot, self.boot) == 0;
    if (same_boot && strcmp(o->space, self.space) == 0) {
        if (kill((pid_t)o->pid, 0) < 0 && errno == ESRCH)
            return false;
        int64_t start = start_of(o->pid);
        return start == 0 || o->pid_start == 0 || start == o->pid_start;
    }
    if (!same_boot && strcmp(o->host, self.host) == 0)
        return false;
    return now_ms - active_ms < SILENCE_MAX_MS;
}
