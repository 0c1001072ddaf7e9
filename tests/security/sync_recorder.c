/* SPDX-License-Identifier: Apache-2.0
 *
 * For LD_PRELOAD: before each sync, and after each operation that makes or takes a name, the process tells the test and waits
 * until that has looked at the files.
 *
 * SYNC_RECORDER names the test's socket; a message is "<operation> <device> <inode>", with 0 0 for names (sync_recorder.py).
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

static void tell(const char *operation, unsigned long device, unsigned long inode)
{
    const char *path = getenv("SYNC_RECORDER");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = 60 };
    char message[64];
    int kept = errno, fd;

    if (!path)
        return;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    /* Without a test that listens nothing is recorded, and nobody waits. */
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (fd >= 0 && !connect(fd, (struct sockaddr *) &address, sizeof address)) {
        snprintf(message, sizeof message, "%s %lu %lu", operation, device, inode);
        if (send(fd, message, strlen(message), MSG_NOSIGNAL) > 0)
            while (recv(fd, message, sizeof message, 0) < 0 && errno == EINTR)
                ;
    }
    if (fd >= 0)
        close(fd);
    errno = kept;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *) dlsym(RTLD_NEXT, #name)

#define SYNC(name) \
    int name(int fd) \
    { \
        struct stat status; \
        REAL(name); \
        if (!fstat(fd, &status)) \
            tell(#name, status.st_dev, status.st_ino); \
        return real(fd); \
    }

SYNC(fsync)
SYNC(fdatasync)

#define NAMES(name, parameters, arguments) \
    int name parameters \
    { \
        int result; \
        REAL(name); \
        result = real arguments; \
        if (!result) \
            tell(#name, 0, 0); \
        return result; \
    }

NAMES(mkdir, (const char *path, mode_t mode), (path, mode))
NAMES(rmdir, (const char *path), (path))
NAMES(unlink, (const char *path), (path))
NAMES(rename, (const char *path, const char *target), (path, target))
NAMES(symlink, (const char *path, const char *target), (path, target))

/* DENY_LINKS: link(2) is not known here. */
int link(const char *path, const char *target)
{
    int result;
    REAL(link);
    if (getenv("DENY_LINKS")) {
        errno = EPERM;
        return -1;
    }
    result = real(path, target);
    if (!result)
        tell("link", 0, 0);
    return result;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        int fd; \
        mode_t mode; \
        va_list rest; \
        REAL(name); \
        va_start(rest, flags); \
        mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        fd = real(path, flags, mode); \
        if (fd >= 0 && flags & O_CREAT) \
            tell(#name, 0, 0); \
        return fd; \
    }

OPEN(open)
OPEN(open64)
