/* SPDX-License-Identifier: Apache-2.0
 *
 * For LD_PRELOAD: every program that a process starts is written to the file EXEC_RECORD, with its arguments and environment.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int record = -1;

__attribute__((constructor)) static void open_record(void)
{
    const char *path = getenv("EXEC_RECORD");

    if (path)
        record = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void note(const char *what, char *const values[])
{
    for (; values && *values; values++)
        if (write(record, what, strlen(what)) < 0 || write(record, *values, strlen(*values)) < 0 || write(record, "\n", 1) < 0)
            abort();
}

static void note_all(const char *path, char *const argv[], char *const envp[])
{
    char *const paths[] = {(char *) path, NULL};

    if (record < 0)
        return;
    note("program ", paths);
    note("argument ", argv);
    note("variable ", envp);
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *) dlsym(RTLD_NEXT, #name)

int execve(const char *path, char *const argv[], char *const envp[])
{
    REAL(execve);
    note_all(path, argv, envp);
    return real(path, argv, envp);
}

int execv(const char *path, char *const argv[])
{
    REAL(execv);
    note_all(path, argv, environ);
    return real(path, argv);
}

int execvp(const char *path, char *const argv[])
{
    REAL(execvp);
    note_all(path, argv, environ);
    return real(path, argv);
}

int execvpe(const char *path, char *const argv[], char *const envp[])
{
    REAL(execvpe);
    note_all(path, argv, envp);
    return real(path, argv, envp);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                char *const argv[], char *const envp[])
{
    REAL(posix_spawn);
    note_all(path, argv, envp);
    return real(pid, path, actions, attributes, argv, envp);
}

int posix_spawnp(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                 char *const argv[], char *const envp[])
{
    REAL(posix_spawnp);
    note_all(path, argv, envp);
    return real(pid, path, actions, attributes, argv, envp);
}
