/* A preload shim over everything by which a process asks for durability.
 *
 * Disks differ by a factor of 30 in how long a sync takes, and a healthy disk never fails one. This
 * shim makes both reproducible without touching the program under test:
 *
 *   SHIM_DELAY_US=3000      each sync takes this much longer
 *   SHIM_FAIL_AT=N          the N-th sync and every later one fails (as a failed disk stays failed)
 *   SHIM_FAIL_WRITE_AT=N    the N-th write to a regular file and every later one fails (a log on
 *                           the standard streams is not counted, file or not)
 *   SHIM_FAIL_TIMES=M       only M calls fail, then all is well again (as a disk that was full)
 *   SHIM_FAIL_SUFFIX=-wal   only files whose path ends so are counted and fail
 *   SHIM_ERRNO=28           the error of a failed call (default: EIO)
 *   SHIM_COUNTS=FILE        counts are kept here: two native 64-bit integers, syncs then writes
 *
 * The counts live in a shared mapping, so that they outlive a SIGKILL and so that all processes
 * with the same file count together: remove the file to begin again. Without SHIM_COUNTS each
 * process counts for itself.
 *
 * fsync, fdatasync, msync(MS_SYNC) and a sync_file_range that waits are syncs. A sync_file_range
 * that only starts the writing is a hint, and passes untouched: PostgreSQL gives many.
 *
 * Left out: O_SYNC and O_DSYNC descriptors, io_uring and raw system calls. Neither SQLite nor
 * PostgreSQL (with its default wal_sync_method on Linux) nor Rust's std uses them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct {
    long delay_us;
    uint64_t fail_sync_at, fail_write_at; /* 0: never */
    uint64_t fail_times;                  /* 0: for ever */
    const char *suffix;                   /* NULL: every file */
    int error;
    uint64_t *counts; /* [0] syncs, [1] writes */
} shim;

static uint64_t own_counts[2];

static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_msync)(void *, size_t, int);
static int (*real_sync_file_range)(int, off64_t, off64_t, unsigned);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off64_t);

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
}

/* Maps the shared counts; a shim that cannot count must not pretend to. */
static uint64_t *open_counts(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    void *map = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, sizeof own_counts) == 0)
        map = mmap(NULL, sizeof own_counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        fprintf(stderr, "sync_shim: %s: %s\n", path, strerror(errno));
        _exit(125);
    }
    close(fd);
    return map;
}

__attribute__((constructor)) static void start(void) {
    if (real_write) return;
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_msync = dlsym(RTLD_NEXT, "msync");
    real_sync_file_range = dlsym(RTLD_NEXT, "sync_file_range");
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_pwrite64 = dlsym(RTLD_NEXT, "pwrite64");
    const char *counts = getenv("SHIM_COUNTS");
    shim.delay_us = number("SHIM_DELAY_US", 0);
    shim.fail_sync_at = (uint64_t)number("SHIM_FAIL_AT", 0);
    shim.fail_write_at = (uint64_t)number("SHIM_FAIL_WRITE_AT", 0);
    shim.fail_times = (uint64_t)number("SHIM_FAIL_TIMES", 0);
    shim.suffix = getenv("SHIM_FAIL_SUFFIX");
    shim.error = (int)number("SHIM_ERRNO", EIO);
    shim.counts = counts && *counts ? open_counts(counts) : own_counts;
}

/* A library that is loaded before this one may write from its own constructor. */
static void started(void) {
    if (!real_write) start();
}

/* Whether this descriptor's path ends as SHIM_FAIL_SUFFIX says. A file that was unlinked shows as
 * "PATH (deleted)" and is matched by what stood before. */
static int path_matches(int fd) {
    char link[64], path[PATH_MAX];
    static const char gone[] = " (deleted)";
    if (!shim.suffix || !*shim.suffix) return 1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    if (length < 0) return 0;
    size_t end = (size_t)length, tail = strlen(shim.suffix);
    if (end >= sizeof gone - 1 && !memcmp(path + end - (sizeof gone - 1), gone, sizeof gone - 1))
        end -= sizeof gone - 1;
    return end >= tail && !memcmp(path + end - tail, shim.suffix, tail);
}

static int is_regular(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* Counts one call; whether it is to fail. */
static int counted_to_failure(int which, uint64_t fail_at) {
    uint64_t nth = __atomic_add_fetch(&shim.counts[which], 1, __ATOMIC_SEQ_CST);
    if (!fail_at || nth < fail_at) return 0;
    if (shim.fail_times && nth >= fail_at + shim.fail_times) return 0;
    errno = shim.error;
    return 1;
}

static int sync_fails(int counts) {
    started();
    struct timespec left = {shim.delay_us / 1000000, shim.delay_us % 1000000 * 1000};
    if (shim.delay_us)
        while (nanosleep(&left, &left) == -1 && errno == EINTR) {}
    return counts && counted_to_failure(0, shim.fail_sync_at);
}

/* With nothing to fail and nothing to count, a write costs nothing: the figures of a run that only
 * delays syncs stay honest. */
static int write_fails(int fd) {
    started();
    if (!shim.fail_write_at && shim.counts == own_counts) return 0;
    int saved = errno;
    int counts = fd > 2 && is_regular(fd) && path_matches(fd);
    errno = saved;
    return counts && counted_to_failure(1, shim.fail_write_at);
}

int fsync(int fd) { return sync_fails(path_matches(fd)) ? -1 : real_fsync(fd); }

int fdatasync(int fd) { return sync_fails(path_matches(fd)) ? -1 : real_fdatasync(fd); }

int msync(void *start_of, size_t length, int flags) {
    if (!(flags & MS_SYNC)) return real_msync(start_of, length, flags);
    return sync_fails(!shim.suffix) ? -1 : real_msync(start_of, length, flags);
}

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
    unsigned waits = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
    if ((flags & waits) && sync_fails(path_matches(fd))) return -1;
    return real_sync_file_range(fd, offset, length, flags);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return write_fails(fd) ? -1 : real_write(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return write_fails(fd) ? -1 : real_writev(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return write_fails(fd) ? -1 : real_pwrite(fd, bytes, length, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    return write_fails(fd) ? -1 : real_pwrite64(fd, bytes, length, offset);
}
