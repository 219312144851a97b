/* read_probe: GB/s at which N threads together read memory, each its own part, four streams apiece.
 *
 *     cc -O3 -march=native -pthread read_probe.c -o read_probe && ./read_probe THREADS MEGABYTES SECONDS
 *
 * Decoding is bound by reading weights, and the bandwidth of a shared machine moves with its neighbours: a decode figure is
 * worth something only beside this one, taken just before and after. Prints one number, the best pass of the time given. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t words_each; /* u64 words in one thread's part, a multiple of 32 */
static uint64_t *memory;
static int n_threads;
static double seconds, best;
static pthread_barrier_t barrier;
static volatile uint64_t sink; /* keeps the sums, and so the reads, alive */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Sum of n words read as four streams of 8 words a step; the compiler makes vectors of the inner loops. */
static uint64_t read_all(const uint64_t *p, size_t n) {
    const size_t q = n / 4;
    uint64_t acc[32] = {0};
    for (size_t i = 0; i < q; i += 8)
        for (size_t s = 0; s < 4; s++)
            for (size_t j = 0; j < 8; j++) acc[8 * s + j] += p[s * q + i + j];
    uint64_t sum = 0;
    for (int j = 0; j < 32; j++) sum += acc[j];
    return sum;
}

static void *worker(void *arg) {
    const int id = (int)(intptr_t)arg;
    uint64_t *mine = memory + (size_t)id * words_each;
    memset(mine, id + 1, words_each * 8); /* first touch by the reader */
    for (double end = now() + seconds;;) {
        pthread_barrier_wait(&barrier);
        const double start = now();
        sink += read_all(mine, words_each);
        pthread_barrier_wait(&barrier);
        const double stop = now();
        if (id == 0) {
            const double rate = (double)n_threads * (double)words_each * 8 / (stop - start) * 1e-9;
            if (rate > best) best = rate;
            if (stop > end) seconds = -1; /* tells the others, who read it after the next barrier */
        }
        pthread_barrier_wait(&barrier);
        if (seconds < 0) return NULL;
    }
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    n_threads = atoi(argv[1]);
    words_each = (size_t)atol(argv[2]) * (1u << 20) / 8 / (size_t)n_threads / 32 * 32;
    seconds = atof(argv[3]);
    memory = malloc((size_t)n_threads * words_each * 8);
    pthread_t threads[256];
    if (!memory || n_threads < 1 || n_threads > 256) return 4;
    pthread_barrier_init(&barrier, NULL, (unsigned)n_threads);
    for (int i = 0; i < n_threads; i++) pthread_create(&threads[i], NULL, worker, (void *)(intptr_t)i);
    for (int i = 0; i < n_threads; i++) pthread_join(threads[i], NULL);
    printf("%.2f\n", best);
    return 0;
}
