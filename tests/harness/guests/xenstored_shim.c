/* SPDX-License-Identifier: Apache-2.0
 *
 * A library to preload into Debian's xenstored and oxenstored (Xen 4.17), so that they run where there is no hypervisor and
 * nobody is root.  It answers for libxenctrl, libxengnttab and libxenevtchn, and moves the daemons' files into the directory
 * named by DOM0_XENSTORED_DIR:
 *
 *     socket, pid, ...   the files of /var/run/xenstored, /proc/xen and so on
 *     domain-N           the page that domain N shares with the daemon; the domain exists as long as this file
 *     domain-N.notify    a FIFO that gets a byte when the daemon has touched the page
 *     events             a FIFO: a port written to it, 32 bits, raises that event in the daemon
 *
 * The daemon ends when the descriptor DOM0_XENSTORED_LIFELINE, a pipe that nobody writes to, is closed at its other end: with who
 * started it, however that ends.
 *
 * Ports: 1 tells that some domain has ended (VIRQ_DOM_EXC), 100 + N that domain N has touched its page.
 * The structures are those of Xen 4.17; only their first members are known here.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, DOM_EXC_PORT = 1, FIRST_DOMAIN_PORT = 100, RUNNING = 1 << 5 };

/* Longer than the name of a Unix socket can be. */
typedef char path_buffer[256];

static int handle;       /* the libraries' open functions return its address */
static int events = -1;  /* read end of the FIFO */

static const char *directory(void)
{
    const char *name = getenv("DOM0_XENSTORED_DIR");

    if (!name) {
        fputs("xenstored_shim: DOM0_XENSTORED_DIR is not set\n", stderr);
        exit(1);
    }
    return name;
}

static void *wait_for_the_end(void *lifeline)
{
    char byte;

    while (read((int)(intptr_t)lifeline, &byte, 1) < 0 && errno == EINTR)
        ;
    _exit(0);
}

__attribute__((constructor)) static void begin(void)
{
    const char *lifeline = getenv("DOM0_XENSTORED_LIFELINE");
    pthread_t thread;

    if (lifeline && pthread_create(&thread, NULL, wait_for_the_end, (void *)(intptr_t)atoi(lifeline))) {
        fputs("xenstored_shim: no thread can be started\n", stderr);
        exit(1);
    }
}

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* Where a file of the daemon's is in truth; other names stay as they are. */
static const char *moved(const char *path, path_buffer buffer)
{
    static const char *const places[] = {
        "/var/run/xenstored", "/run/xenstored", "/var/lib/xenstored", "/var/run/xen", "/var/log/xen", "/proc/xen",
    };
    size_t number;

    for (number = 0; number < sizeof places / sizeof *places; number++) {
        size_t length = strlen(places[number]);

        if (!strncmp(path, places[number], length) && (path[length] == '/' || !path[length])) {
            snprintf(buffer, sizeof(path_buffer), "%s%s", directory(), path + length);
            return buffer;
        }
    }
    return path;
}

/* ---- Files ---- */

int open(const char *path, int flags, ...)
{
    path_buffer buffer;
    va_list rest;
    mode_t mode;

    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
    return ((int (*)(const char *, int, ...))next("open"))(moved(path, buffer), flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    mode_t mode;

    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
    return open(path, flags | O_LARGEFILE, mode);
}

#define MOVED(name, parameters, ...)                                                                                              \
    int name parameters                                                                                                           \
    {                                                                                                                             \
        path_buffer buffer;                                                                                                       \
        return ((int (*) parameters)next(#name))(moved(path, buffer), ##__VA_ARGS__);                                             \
    }

MOVED(access, (const char *path, int mode), mode)
MOVED(chmod, (const char *path, mode_t mode), mode)
MOVED(mkdir, (const char *path, mode_t mode), mode)
MOVED(unlink, (const char *path))

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    struct sockaddr_un changed = {.sun_family = AF_UNIX};
    path_buffer buffer;

    if (address->sa_family == AF_UNIX) {
        const char *path = moved(((const struct sockaddr_un *)address)->sun_path, buffer);

        if (strlen(path) >= sizeof changed.sun_path) {
            errno = ENAMETOOLONG;
            return -1;
        }
        strcpy(changed.sun_path, path);
        address = (const struct sockaddr *)&changed;
        length = sizeof changed;
    }
    return ((int (*)(int, const struct sockaddr *, socklen_t))next("bind"))(fd, address, length);
}

/* oxenstored ends when it may not raise its limits. */
int setrlimit(__rlimit_resource_t resource, const struct rlimit *limits)
{
    (void)resource;
    (void)limits;
    return 0;
}

/* ---- Domains ---- */

static void domain_path(uint32_t domain, const char *end, path_buffer buffer)
{
    snprintf(buffer, sizeof(path_buffer), "%s/domain-%u%s", directory(), domain, end);
}

static int exists(uint32_t domain)
{
    path_buffer buffer;

    domain_path(domain, "", buffer);
    return domain == 0 || access(buffer, F_OK) == 0;
}

static void *map_page(uint32_t domain)
{
    path_buffer buffer;
    void *page;
    int fd;

    domain_path(domain, "", buffer);
    fd = open(buffer, O_RDWR, 0);
    if (fd < 0)
        return NULL;
    page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}

void *xc_interface_open(void *logger, void *dombuild_logger, unsigned flags)
{
    (void)logger;
    (void)dombuild_logger;
    (void)flags;
    return &handle;
}

int xc_interface_close(void *xch)
{
    (void)xch;
    return 0;
}

/* xc_dominfo_t: domain and ssidref, 32 bits each; bits such as dying and shutdown; the reason for the shutdown */
int xc_domain_getinfo(void *xch, uint32_t domain, unsigned max, uint32_t *info)
{
    (void)xch;
    if (!max || !exists(domain))
        return 0;
    memset(info, 0, 4 * sizeof *info);
    info[0] = domain;
    return 1;
}

/* xc_domaininfo_t: domain and padding, 16 bits each; flags, 32 bits; sizes and counts */
int xc_domain_getinfolist(void *xch, uint32_t domain, unsigned max, uint32_t *info)
{
    (void)xch;
    if (!max || !exists(domain))
        return 0;
    memset(info, 0, 24 * sizeof *info);
    info[0] = domain & 0xffff;
    info[1] = RUNNING;
    return 1;
}

void *xc_map_foreign_range(void *xch, uint32_t domain, int size, int protection, unsigned long frame)
{
    (void)xch;
    (void)size;
    (void)protection;
    (void)frame;
    return map_page(domain);
}

void *xengnttab_open(void *logger, unsigned flags)
{
    (void)logger;
    (void)flags;
    return &handle;
}

int xengnttab_close(void *xgt)
{
    (void)xgt;
    return 0;
}

int xengnttab_set_max_grants(void *xgt, uint32_t count)
{
    (void)xgt;
    (void)count;
    return 0;
}

void *xengnttab_map_grant_ref(void *xgt, uint32_t domain, uint32_t grant, int protection)
{
    (void)xgt;
    (void)grant;
    (void)protection;
    return map_page(domain);
}

int xengnttab_unmap(void *xgt, void *page, uint32_t count)
{
    (void)xgt;
    return munmap(page, (size_t)count * PAGE_BYTES);
}

/* ---- Events ---- */

void *xenevtchn_open(void *logger, unsigned flags)
{
    path_buffer buffer;

    (void)logger;
    (void)flags;
    if (events < 0) {
        snprintf(buffer, sizeof buffer, "%s/events", directory());
        /* For writing as well: the FIFO then never looks closed. */
        events = open(buffer, O_RDWR | O_NONBLOCK, 0);
    }
    return events < 0 ? NULL : &handle;
}

void *xenevtchn_fdopen(void *logger, int fd, unsigned flags)
{
    (void)logger;
    (void)flags;
    events = fd;
    return &handle;
}

int xenevtchn_close(void *xce)
{
    (void)xce;
    return 0;
}

int xenevtchn_fd(void *xce)
{
    (void)xce;
    return events;
}

int xenevtchn_bind_virq(void *xce, unsigned virq)
{
    (void)xce;
    (void)virq;
    return DOM_EXC_PORT;
}

int xenevtchn_bind_interdomain(void *xce, uint32_t domain, uint32_t remote_port)
{
    (void)xce;
    (void)remote_port;
    return FIRST_DOMAIN_PORT + (int)domain;
}

int xenevtchn_unbind(void *xce, uint32_t port)
{
    (void)xce;
    (void)port;
    return 0;
}

int xenevtchn_unmask(void *xce, uint32_t port)
{
    (void)xce;
    (void)port;
    return 0;
}

int xenevtchn_notify(void *xce, uint32_t port)
{
    path_buffer buffer;
    int fd;

    (void)xce;
    domain_path(port - FIRST_DOMAIN_PORT, ".notify", buffer);
    fd = open(buffer, O_WRONLY | O_NONBLOCK, 0);
    if (fd >= 0) {
        /* A full FIFO says that something has happened, too. */
        ssize_t written = write(fd, "", 1);
        (void)written;
        close(fd);
    }
    return 0;
}

int xenevtchn_pending(void *xce)
{
    uint32_t port;

    (void)xce;
    return read(events, &port, sizeof port) == sizeof port ? (int)port : -1;
}
