/* What machine this is: processor, caches, memory, limits, from /proc and /sys.
 *
 * Owns nothing. Every fact is optional: a kernel or container that hides one leaves it empty or 0,
 * and only the amount of memory is needed. Memory is reported three ways, because they differ where
 * it matters: what the machine has, what is free, and what this process may still take.
 */
#include "hw/hw.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/thread.h"
#include "hw/hw_int.h"
#include "base/banned.h"

enum { CPUS_MAX = 4096, CACHE_INDEXES_MAX = 8 };

/* The content of a small kernel file without its last newline, or NULL. xfree. */
static char *read_file(const char *path)
{
    char *text;
    size_t n;
    if (fs_read_all(path, 1 << 22, &text, &n, NULL))
        return NULL;
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == 0))
        text[--n] = 0;
    return text;
}

/* Copies the value of the first "key<blanks>: value" line; false when there is none. */
static bool cpuinfo_value(const char *text, const char *key, char *value, size_t size)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) != 0)
            continue;
        const char *p = line + n + strspn(line + n, " \t");
        if (*p != ':')
            continue;
        p += 1 + strspn(p + 1, " \t");
        snprintf(value, size, "%.*s", (int)strcspn(p, "\n"), p);
        return true;
    }
    return false;
}

/* ARM kernels give numbers instead of names (MIDR_EL1 part numbers, ARM's technical references). */
static const char *arm_core(const char *part)
{
    static const struct {
        const char *part, *name;
    } cores[] = {
        {"0xd03", "Cortex-A53"},  {"0xd05", "Cortex-A55"},  {"0xd07", "Cortex-A57"},
        {"0xd08", "Cortex-A72"},  {"0xd09", "Cortex-A73"},  {"0xd0a", "Cortex-A75"},
        {"0xd0b", "Cortex-A76"},  {"0xd0c", "Neoverse-N1"}, {"0xd0d", "Cortex-A77"},
        {"0xd40", "Neoverse-V1"}, {"0xd41", "Cortex-A78"},  {"0xd42", "Cortex-A78AE"},
        {"0xd44", "Cortex-X1"},   {"0xd46", "Cortex-A510"}, {"0xd47", "Cortex-A710"},
        {"0xd48", "Cortex-X2"},   {"0xd49", "Neoverse-N2"}, {"0xd4d", "Cortex-A715"},
        {"0xd4e", "Cortex-X3"},   {"0xd4f", "Neoverse-V2"}, {"0xd80", "Cortex-A520"},
        {"0xd81", "Cortex-A720"}, {"0xd82", "Cortex-X4"},   {"0xd84", "Neoverse-V3"},
        {"0xd8e", "Neoverse-N3"},
    };
    for (size_t i = 0; i < sizeof(cores) / sizeof(cores[0]); i++)
        if (strcmp(cores[i].part, part) == 0)
            return cores[i].name;
    return NULL;
}

static void detect_model(struct hw *h, const char *cpuinfo)
{
    char part[32] = "";
    if (cpuinfo_value(cpuinfo, "model name", h->cpu_model, sizeof(h->cpu_model)))
        return;
    const char *core =
        cpuinfo_value(cpuinfo, "CPU part", part, sizeof(part)) ? arm_core(part) : NULL;
    char *board = read_file("/proc/device-tree/model");
    if (board && core)
        snprintf(h->cpu_model, sizeof(h->cpu_model), "%s (%s)", board, core);
    else
        snprintf(h->cpu_model, sizeof(h->cpu_model), "%s", board ? board : core ? core : "unknown");
    xfree(board);
}

/* The vector units that matter to inference, in the kernel's spelling. */
static void detect_simd(struct hw *h, const char *cpuinfo)
{
    static const char *const wanted[] = {
        "sse4_2",   "avx",      "avx2",     "fma",         "f16c",        "avx_vnni",
        "avx512f",  "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
        "amx_int8", "amx_bf16", "asimd",    "asimdhp",     "asimddp",     "i8mm",
        "bf16",     "sve",      "sve2",     "sme"};
    char *flags = xcalloc(1, 1 << 14);
    if (!cpuinfo_value(cpuinfo, "flags", flags + 1, (1 << 14) - 2))
        cpuinfo_value(cpuinfo, "Features", flags + 1, (1 << 14) - 2);
    flags[0] = ' ';
    size_t n = strlen(flags);
    flags[n] = ' '; /* every flag stands between blanks; the calloc'd NUL follows */
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        char word[32];
        snprintf(word, sizeof(word), " %s ", wanted[i]);
        size_t used = strlen(h->simd);
        if (strstr(flags, word))
            snprintf(h->simd + used, sizeof(h->simd) - used, "%s%s", used ? " " : "", wanted[i]);
    }
    xfree(flags);
}

static char *cpu_file(int cpu, const char *name)
{
    char path[160];
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/%s", cpu, name);
    return read_file(path);
}

static void count_cores(struct hw *h)
{
    struct map cores = {0};
    long configured = sysconf(_SC_NPROCESSORS_CONF), online = sysconf(_SC_NPROCESSORS_ONLN);
    for (int cpu = 0; cpu < configured && cpu < CPUS_MAX; cpu++) {
        char *package = cpu_file(cpu, "topology/physical_package_id");
        char *core = cpu_file(cpu, "topology/core_id");
        char key[64];
        int n = snprintf(key, sizeof(key), "%s/%s", package ? package : "", core ? core : "");
        if (core) /* offline processors have none */
            map_add(&cores, key, (size_t)n, 0);
        xfree(package);
        xfree(core);
    }
    h->cores_logical = online > 0 ? (int)online : 1;
    h->cores_physical = cores.count > 0 ? (int)cores.count : h->cores_logical;
    h->cores_usable = thread_count_default();
    map_release(&cores);
}

/* "48K" "2048K" "32M" -> bytes */
static uint64_t cache_bytes(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    return n < 1ull << 30 ? n << shift : 0;
}

static void add_cache(struct hw *h, struct map *seen, int cpu, int index)
{
    static const char *const names[] = {"level", "type", "size", "shared_cpu_list"};
    char *value[4], name[64], key[512];
    bool whole = true;
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "cache/index%d/%s", index, names[i]);
        value[i] = cpu_file(cpu, name);
        whole = whole && value[i];
    }
    if (whole && strcmp(value[1], "Instruction") != 0) {
        int n = snprintf(key, sizeof(key), "%s %s %.400s", value[0], value[1], value[3]);
        if (map_add(seen, key, (size_t)n, 0)) { /* each shared cache once */
            uint64_t *totals[] = {&h->l1d_bytes, &h->l2_bytes, &h->l3_bytes};
            if (*value[0] >= '1' && *value[0] <= '3')
                *totals[*value[0] - '1'] += cache_bytes(value[2]);
        }
    }
    for (int i = 0; i < 4; i++)
        xfree(value[i]);
}

static void detect_caches(struct hw *h)
{
    struct map seen = {0};
    for (int cpu = 0; cpu < h->cores_logical && cpu < CPUS_MAX; cpu++)
        for (int index = 0; index < CACHE_INDEXES_MAX; index++)
            add_cache(h, &seen, cpu, index);
    map_release(&seen);
}

static uint64_t meminfo_bytes(const char *text, const char *key)
{
    char value[64];
    return cpuinfo_value(text, key, value, sizeof(value)) ? strtoull(value, NULL, 10) * 1024 : 0;
}

static int detect_memory(struct hw *h, struct err *e)
{
    char *text = read_file("/proc/meminfo");
    if (!text)
        return err_set(e, ERR_IO, "mount /proc", "cannot read /proc/meminfo");
    h->ram_total = meminfo_bytes(text, "MemTotal");
    h->ram_available = meminfo_bytes(text, "MemAvailable");
    xfree(text);
    uint64_t used = 0;
    h->cgroup_limit = cgroup_memory_max(&used);
    h->ram_usable = h->ram_available;
    if (h->cgroup_limit >= h->ram_total)
        h->cgroup_limit = 0; /* no limit in effect */
    if (h->cgroup_limit > 0) {
        uint64_t left = h->cgroup_limit > used ? h->cgroup_limit - used : 0;
        h->ram_usable = left < h->ram_available ? left : h->ram_available;
    }
    return 0;
}

static void detect_system(struct hw *h)
{
    struct utsname u;
    char name[HW_NAME_MAX / 2] = "";
    if (uname(&u) < 0)
        return;
    snprintf(h->arch, sizeof(h->arch), "%.*s", (int)sizeof(h->arch) - 1, u.machine);
    char *text = read_file("/etc/os-release");
    const char *pretty = text ? strstr(text, "PRETTY_NAME=\"") : NULL;
    if (pretty)
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(pretty + 13, "\"\n"), pretty + 13);
    snprintf(h->os, sizeof(h->os), "%.50s%s%.16s %.50s", name, name[0] ? ", " : "", u.sysname,
             u.release);
    xfree(text);
}

int hw_detect(struct hw *out, bool measure_bandwidth, struct err *e)
{
    struct hw h = {.cpu_model = "unknown"};
    if (detect_memory(&h, e))
        return -1;
    char *cpuinfo = read_file("/proc/cpuinfo");
    if (cpuinfo) {
        detect_model(&h, cpuinfo);
        detect_simd(&h, cpuinfo);
    }
    xfree(cpuinfo);
    detect_system(&h);
    count_cores(&h);
    detect_caches(&h);
    if (measure_bandwidth)
        h.bandwidth_gbs =
            hw_bandwidth_measure(h.cores_usable, h.l2_bytes + h.l3_bytes, h.ram_usable);
    *out = h;
    return 0;
}

void hw_fingerprint(const struct hw *h, char text[static HW_FINGERPRINT_MAX])
{
    snprintf(text, HW_FINGERPRINT_MAX, "%s %s %s, %d cores, L2 %llu, L3 %llu", h->arch,
             h->cpu_model, h->simd, h->cores_usable, (unsigned long long)h->l2_bytes,
             (unsigned long long)h->l3_bytes);
}

static json_t *bytes_json_new(uint64_t n)
{
    return n > 0 ? json_integer((json_int_t)n) : json_null();
}

json_t *hw_json_new(const struct hw *h)
{
    json_t *o = json_object();
    json_object_set_new(o, "cpu_model", json_string(h->cpu_model));
    json_object_set_new(o, "arch", json_string(h->arch));
    json_object_set_new(o, "simd", json_string(h->simd));
    json_object_set_new(o, "cores_physical", json_integer(h->cores_physical));
    json_object_set_new(o, "cores_logical", json_integer(h->cores_logical));
    json_object_set_new(o, "cores_usable", json_integer(h->cores_usable));
    json_object_set_new(o, "l1d_bytes", bytes_json_new(h->l1d_bytes));
    json_object_set_new(o, "l2_bytes", bytes_json_new(h->l2_bytes));
    json_object_set_new(o, "l3_bytes", bytes_json_new(h->l3_bytes));
    json_object_set_new(o, "ram_total", bytes_json_new(h->ram_total));
    json_object_set_new(o, "ram_available", bytes_json_new(h->ram_available));
    json_object_set_new(o, "cgroup_limit", bytes_json_new(h->cgroup_limit));
    json_object_set_new(o, "ram_usable", bytes_json_new(h->ram_usable));
    json_object_set_new(o, "bandwidth_gbs",
                        h->bandwidth_gbs > 0 ? json_real_new(h->bandwidth_gbs) : json_null());
    json_object_set_new(o, "os", json_string(h->os));
    return o;
}
