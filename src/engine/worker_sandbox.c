/* What the worker gives up before it reads its first request: the network, and starting programs.
 *
 * It runs foreign code on foreign files, has no secrets (its environment and descriptors were
 * cleaned by the parent) and needs no one to talk to but its parent. A seccomp filter makes
 * socket(AF_INET, AF_INET6, AF_PACKET) and execve fail with EACCES; other families stay, because
 * GPU drivers talk to their daemons over local sockets. Where the kernel has no seccomp the worker
 * runs without: the filter is a second line, limits and validation are the first.
 *
 * The filter is a classic BPF program over struct seccomp_data: the architecture, then the call's
 * number, then the low half of its first argument. Numbers behind UNLESS are instructions to skip.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "engine/worker_int.h"
#include "base/banned.h"

#if defined(__x86_64__)
#define AUDIT_ARCH_HERE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define AUDIT_ARCH_HERE AUDIT_ARCH_AARCH64
#endif

#ifdef AUDIT_ARCH_HERE

#define LOAD(field)                                                                                \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value), 0, skip)
#define RETURN(action)      BPF_STMT(BPF_RET | BPF_K, action)

/* Both machines are little-endian: the low half of an argument comes first. */
#define DENIED (SECCOMP_RET_ERRNO | EACCES)

void worker_sandbox(void)
{
    struct sock_filter code[] = {
        LOAD(arch),
        UNLESS(AUDIT_ARCH_HERE, 17), /* to the end: a foreign ABI is not ours to judge */
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1), /* x86's x32 doubles of all calls */
        RETURN(DENIED),
        UNLESS(SYS_execve, 1),
        RETURN(DENIED),
        UNLESS(SYS_execveat, 1),
        RETURN(DENIED),
        UNLESS(SYS_io_uring_setup, 1), /* could open sockets past this filter */
        RETURN(DENIED),
        UNLESS(SYS_socket, 7), /* to the end */
        LOAD(args[0]),
        UNLESS(AF_INET, 1),
        RETURN(DENIED),
        UNLESS(AF_INET6, 1),
        RETURN(DENIED),
        UNLESS(AF_PACKET, 1),
        RETURN(DENIED),
        RETURN(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

#else

void worker_sandbox(void) {}

#endif
