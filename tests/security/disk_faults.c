/* SPDX-License-Identifier: Apache-2.0
 *
 * For LD_PRELOAD: operations on the files of one directory fail as a broken or full disk makes them fail, or the whole process
 * group dies there as by a power cut.  All processes that map the same plan count together: the children of a plug-in, too.
 *
 * DISK_FAULTS names the plan, a file that holds a struct plan (tests/security/disk_faults.py).
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

struct plan {
    long passed;        /* operations so far */
    long first, last;   /* those that fail, counted from 1 */
    long error;         /* with this errno; 0: die */
    long death;         /* the operation at which the call dies besides */
    long denied;        /* 1: link(2) is not known here, 2: record locks are not */
    char place[4096];   /* what the paths begin with */
};

enum { NO_LINKS = 1, NO_LOCKS = 2 };

static struct plan *plan;

__attribute__((constructor)) static void map_plan(void)
{
    const char *path = getenv("DISK_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (plan == MAP_FAILED)
        abort();
    close(fd);
}

static int is_watched(const char *path)
{
    return plan && !strncmp(path, plan->place, strlen(plan->place));
}

static int is_watched_fd(int fd)
{
    char link[64], path[PATH_MAX];
    ssize_t length;
    int kept = errno, watched;

    if (!plan)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    watched = is_watched(path);
    errno = kept;
    return watched;
}

/* Whether the operation that begins now is one of those that fail; errno is set then. */
static int fails(void)
{
    long number = __atomic_add_fetch(&plan->passed, 1, __ATOMIC_SEQ_CST);

    if ((number < plan->first || number > plan->last) && number != plan->death)
        return 0;
    if (!plan->error || number == plan->death)
        kill(0, SIGKILL);   /* a plug-in leads a process group of its own */
    errno = plan->error;
    return 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *) dlsym(RTLD_NEXT, #name)

/* A write that fails has written a half: what is on the disk then is torn. */
ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    if (is_watched_fd(fd) && fails()) {
        int error = errno;
        if (real(fd, data, size / 2) < 0)
            return -1;
        errno = error;
        return -1;
    }
    return real(fd, data, size);
}

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) \
    { \
        REAL(name); \
        if (is_watched_fd(fd) && fails()) { \
            int error = errno; \
            if (real(fd, data, size / 2, offset) < 0) \
                return -1; \
            errno = error; \
            return -1; \
        } \
        return real(fd, data, size, offset); \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define ON_FD(name, parameters, arguments) \
    int name parameters \
    { \
        REAL(name); \
        return is_watched_fd(fd) && fails() ? -1 : real arguments; \
    }

ON_FD(fsync, (int fd), (fd))
ON_FD(fdatasync, (int fd), (fd))
ON_FD(ftruncate, (int fd, off_t size), (fd, size))
ON_FD(ftruncate64, (int fd, off64_t size), (fd, size))

#define ON_PATH(name, parameters, arguments) \
    int name parameters \
    { \
        REAL(name); \
        return is_watched(path) && fails() ? -1 : real arguments; \
    }

ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(rmdir, (const char *path), (path))
ON_PATH(unlink, (const char *path), (path))
ON_PATH(rename, (const char *path, const char *target), (path, target))

int link(const char *path, const char *target)
{
    REAL(link);
    if (is_watched(target)) {
        if (plan->denied & NO_LINKS) {
            errno = EPERM;
            return -1;
        }
        if (fails())
            return -1;
    }
    return real(path, target);
}

int symlink(const char *path, const char *target)
{
    REAL(symlink);
    return is_watched(target) && fails() ? -1 : real(path, target);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        mode_t mode; \
        va_list rest; \
        REAL(name); \
        va_start(rest, flags); \
        mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return flags & O_CREAT && is_watched(path) && fails() ? -1 : real(path, flags, mode); \
    }

OPEN(open)
OPEN(open64)

#define FCNTL(name) \
    int name(int fd, int command, ...) \
    { \
        void *argument; \
        va_list rest; \
        REAL(name); \
        va_start(rest, command); \
        argument = va_arg(rest, void *); \
        va_end(rest); \
        if ((command == F_SETLK || command == F_SETLKW) && plan && plan->denied & NO_LOCKS && is_watched_fd(fd)) { \
            errno = ENOLCK; \
            return -1; \
        } \
        return real(fd, command, argument); \
    }

FCNTL(fcntl)
FCNTL(fcntl64)
