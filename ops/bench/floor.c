// What the disk allows: three logs, and clients that each wait until their record is durable on all three.
//
//   floor DIRECTORY SIZE CLIENTS SECONDS
//
// Prints records per second. Records that wait at the same time are one batch: appended to all three logs in parallel, one
// fdatasync each. The logs are written full of zeros first, so that the syncs have no metadata to write. Nothing that keeps
// three synced copies for as many waiting clients can be much faster; there is no network and no hashing in it.
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOGS = 3, BATCH_BYTES_MAX = 32 << 20 };
static const size_t log_size = 256u << 20;
static size_t size;
static int files[LOGS];
static off_t position;
static atomic_int failed;

// Clients fill `waiting`; the committer swaps it with `flying` and makes that durable. Under `lock`.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, durable = PTHREAD_COND_INITIALIZER;
static char *waiting, *flying;
static size_t waiting_count, flying_count, capacity;
static unsigned long batch = 1, durable_batch;
static int stopped;

static pthread_barrier_t begin, end;
static int log_stopped;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int write_all(int file, const char *bytes, size_t count, off_t at) {
    while (count > 0) {
        ssize_t done = pwrite(file, bytes, count, at);
        if (done <= 0) return -1;
        bytes += done;
        count -= (size_t)done;
        at += done;
    }
    return 0;
}

static void *serve_log(void *argument) {
    int file = *(int *)argument;
    for (;;) {
        pthread_barrier_wait(&begin);
        if (log_stopped) return NULL;
        if (write_all(file, flying, flying_count * size, position) != 0 || fdatasync(file) != 0) atomic_store(&failed, 1);
        pthread_barrier_wait(&end);
    }
}

static void *serve_client(void *argument) {
    long *done = argument;
    char *record = malloc(size);
    memset(record, (int)(size_t)argument, size);
    pthread_mutex_lock(&lock);
    while (!stopped) {
        if (waiting_count == capacity) {
            pthread_cond_wait(&durable, &lock);
            continue;
        }
        memcpy(waiting + waiting_count * size, record, size);
        waiting_count++;
        unsigned long mine = batch;
        pthread_cond_signal(&work);
        while (durable_batch < mine && !stopped) pthread_cond_wait(&durable, &lock);
        ++*done;
    }
    pthread_mutex_unlock(&lock);
    free(record);
    return NULL;
}

static void commit_until(double stop) {
    pthread_mutex_lock(&lock);
    while (now() < stop && !atomic_load(&failed)) {
        while (waiting_count == 0) pthread_cond_wait(&work, &lock);
        char *taken = waiting;
        waiting = flying;
        flying = taken;
        flying_count = waiting_count;
        waiting_count = 0;
        unsigned long number = batch++;
        pthread_mutex_unlock(&lock);
        if ((size_t)position + flying_count * size > log_size) position = 0;
        pthread_barrier_wait(&begin);
        pthread_barrier_wait(&end);
        position += (off_t)(flying_count * size);
        pthread_mutex_lock(&lock);
        durable_batch = number;
        pthread_cond_broadcast(&durable);
    }
    stopped = 1;
    pthread_cond_broadcast(&durable);
    pthread_mutex_unlock(&lock);
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    size = strtoul(arguments[2], NULL, 10);
    long clients = atol(arguments[3]);
    double seconds = atof(arguments[4]);
    if (size == 0 || size > BATCH_BYTES_MAX || clients < 1 || clients > 1024) return 2;
    capacity = (size_t)clients < BATCH_BYTES_MAX / size ? (size_t)clients : BATCH_BYTES_MAX / size;
    waiting = malloc(capacity * size);
    flying = malloc(capacity * size);
    char *zeros = calloc(1, 1 << 20);
    long *done = calloc((size_t)clients, sizeof *done);
    pthread_t logs[LOGS], *threads = calloc((size_t)clients, sizeof *threads);
    char path[LOGS][4096];
    if (!waiting || !flying || !zeros || !done || !threads) return 1;
    pthread_barrier_init(&begin, NULL, LOGS + 1);
    pthread_barrier_init(&end, NULL, LOGS + 1);
    for (int i = 0; i < LOGS; i++) {
        snprintf(path[i], sizeof path[i], "%s/floor-%d", arguments[1], i);
        files[i] = open(path[i], O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (files[i] < 0) return 1;
        for (size_t at = 0; at < log_size; at += 1 << 20)
            if (write_all(files[i], zeros, 1 << 20, (off_t)at) != 0) return 1;
        fsync(files[i]);
        pthread_create(&logs[i], NULL, serve_log, &files[i]);
    }
    for (long i = 0; i < clients; i++) pthread_create(&threads[i], NULL, serve_client, &done[i]);
    double start = now();
    commit_until(start + seconds);
    double elapsed = now() - start;
    long total = 0;
    for (long i = 0; i < clients; i++) {
        pthread_join(threads[i], NULL);
        total += done[i];
    }
    log_stopped = 1;
    pthread_barrier_wait(&begin);
    for (int i = 0; i < LOGS; i++) {
        pthread_join(logs[i], NULL);
        unlink(path[i]);
    }
    printf("%.1f\n", (double)total / elapsed);
    return atomic_load(&failed) ? 1 : 0;
}
