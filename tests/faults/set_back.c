/* A wall clock that is off by what a file says: to be preloaded into the processes of a sweep.

   CLOCK_FILE names a file of eight bytes, the seconds (a signed integer) that are added to the time
   of day. It is mapped, so that the clock jumps for all processes at once, and while they wait. The
   clocks that only ever go on are left alone, and so are points of time that a thread waits for,
   but for turning them back: the system compares them with the clock as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EPOCH 1000000000 /* A point of time beyond it is one of the wall clock. */

static const volatile int64_t *offset_there;

__attribute__((constructor)) static void map(void) {
    const char *name = getenv("CLOCK_FILE");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *there = mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (there != MAP_FAILED) offset_there = there;
}

static int64_t offset(void) { return offset_there ? *offset_there : 0; }

static int off(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && off(clock)) now->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed) now->tv_sec += offset();
    return failed;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

static struct timespec truly(const struct timespec *until) {
    struct timespec point = *until;
    if (point.tv_sec > EPOCH) point.tv_sec -= offset();
    return point;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*usual)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    /* There is an older one of this name, for conditions of another layout. */
    if (!usual) usual = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!usual) usual = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec point = truly(until);
    return usual(condition, mutex, &point);
}

int pthread_cond_clockwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           clockid_t clock, const struct timespec *restrict until) {
    static int (*usual)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (!usual) usual = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec point = off(clock) ? truly(until) : *until;
    return usual(condition, mutex, clock, &point);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*usual)(sem_t *, const struct timespec *);
    if (!usual) usual = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec point = truly(until);
    return usual(semaphore, &point);
}

int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict until) {
    static int (*usual)(sem_t *, clockid_t, const struct timespec *);
    if (!usual) usual = dlsym(RTLD_NEXT, "sem_clockwait");
    struct timespec point = off(clock) ? truly(until) : *until;
    return usual(semaphore, clock, &point);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    static int (*usual)(pthread_mutex_t *, const struct timespec *);
    if (!usual) usual = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
    struct timespec point = truly(until);
    return usual(mutex, &point);
}
