/* What the control group of this process allows: processors and memory (containers, systemd,
 * Slurm). */
#ifndef BASE_CGROUP_H
#define BASE_CGROUP_H

#include <stdint.h>

/* Processors' worth of time per period (1.5 = one and a half), 0 when unlimited or unknown. */
double cgroup_cpu_quota(void);
/* Bytes, 0 when unlimited or unknown: the smallest limit of the group and its ancestors, and what
 * that group uses now (0 when unknown; without cached files that are idle). */
uint64_t cgroup_memory_max(uint64_t *used);

#endif
