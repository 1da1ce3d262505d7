/* A wall clock that is wrong by what a file says, for one process and its children.
 *
 * Preloaded into a node. FAULTS_CLOCK names a file of 8 bytes, a signed number of microseconds in
 * the machine's byte order, which may change at any time. The monotonic clock stays right, as it
 * does on a machine whose date is set. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *wrong_by;

static int64_t offset_us(void) {
    if (wrong_by == NULL) {
        const char *path = getenv("FAULTS_CLOCK");
        if (path == NULL)
            return 0;
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            return 0;
        void *mapped = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (mapped == MAP_FAILED)
            return 0;
        wrong_by = mapped;
    }
    return *wrong_by;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + offset_us() * 1000;
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out != NULL)
        *out = precise.tv_sec;
    return precise.tv_sec;
}
