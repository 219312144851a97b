/* peak_probe: operations per second of N threads that do nothing but multiply and add in registers.
 *
 *     cc -O3 -march=native -pthread peak_probe.c -o peak_probe && ./peak_probe int8|f32 THREADS SECONDS
 *
 * The ceiling of prefill, as read_probe.c is that of decoding. A multiplication and an addition are two operations.
 * Prints one number, in 1e9 operations per second: the best of passes of a tenth of the time given. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { CHAINS = 12, STEPS = 4096 }; /* independent accumulators: at least latency times throughput of the units */

#if defined(__AVX512VNNI__)
typedef __m512i vi;
#define INT8(acc, a, b) _mm512_dpbusd_epi32(acc, a, b)
enum { INT8_OPS = 128 };
#elif defined(__AVX2__) /* 32 products: u8 by s8 in pairs to int16, pairs of those to int32, added */
typedef __m256i vi;
#define INT8(acc, a, b) _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)))
enum { INT8_OPS = 64 };
#elif defined(__ARM_FEATURE_DOTPROD)
typedef int32x4_t vi;
#define INT8(acc, a, b) vdotq_s32(acc, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b))
enum { INT8_OPS = 32 };
#endif

#if defined(__AVX512F__)
typedef __m512 vf;
#define FMA(acc, a, b) _mm512_fmadd_ps(a, b, acc)
enum { FMA_OPS = 32 };
#elif defined(__FMA__)
typedef __m256 vf;
#define FMA(acc, a, b) _mm256_fmadd_ps(a, b, acc)
enum { FMA_OPS = 16 };
#elif defined(__aarch64__)
typedef float32x4_t vf;
#define FMA(acc, a, b) vfmaq_f32(acc, a, b)
enum { FMA_OPS = 8 };
#endif

static int n_threads, use_int8;
static double seconds, best;
static pthread_barrier_t barrier;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* An accumulator passes through here after each operation, so that the compiler may not merge the chains. */
#if defined(__AVX512F__)
#define KEEP(x) __asm__ volatile("" : "+v"(x))
#elif defined(__x86_64__)
#define KEEP(x) __asm__ volatile("" : "+x"(x))
#else
#define KEEP(x) __asm__ volatile("" : "+w"(x))
#endif

/* STEPS times CHAINS operations; returns how many single ones that are. The accumulators are no array: those would be
 * kept in memory. */
#define ALL(X) X(c0) X(c1) X(c2) X(c3) X(c4) X(c5) X(c6) X(c7) X(c8) X(c9) X(c10) X(c11)
#define LOOP(type, op, ops)                        \
    type a = {0}, b = {0};                         \
    KEEP(a);                                       \
    KEEP(b);                                       \
    ALL(ZERO)                                      \
    for (int i = 0; i < STEPS; i++) { ALL(op##1) } \
    return (double)STEPS *CHAINS *ops
#define ZERO(c) __typeof__(a) c = {0};
#define INT81(c) KEEP(a); c = INT8(c, a, b); KEEP(c); /* a: AVX2 would multiply once for all */
#define FMA1(c) c = FMA(c, a, b); KEEP(c);

static double run_int8(void) { LOOP(vi, INT8, INT8_OPS); }
static double run_f32(void) { LOOP(vf, FMA, FMA_OPS); }

static void *worker(void *arg) {
    const int id = (int)(intptr_t)arg;
    static double done[256];
    for (int pass = 0; pass < 10; pass++) {
        pthread_barrier_wait(&barrier);
        const double start = now();
        double ops = 0, t;
        do {
            ops += use_int8 ? run_int8() : run_f32();
            t = now() - start;
        } while (t < seconds / 10);
        done[id] = ops / t;
        pthread_barrier_wait(&barrier);
        if (id == 0) {
            double rate = 0;
            for (int i = 0; i < n_threads; i++) rate += done[i];
            if (rate > best) best = rate;
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 4 || (strcmp(argv[1], "int8") && strcmp(argv[1], "f32"))) return 2;
    use_int8 = !strcmp(argv[1], "int8");
    n_threads = atoi(argv[2]);
    seconds = atof(argv[3]);
    pthread_t threads[256];
    if (n_threads < 1 || n_threads > 256) return 2;
    pthread_barrier_init(&barrier, NULL, (unsigned)n_threads);
    for (int i = 0; i < n_threads; i++) pthread_create(&threads[i], NULL, worker, (void *)(intptr_t)i);
    for (int i = 0; i < n_threads; i++) pthread_join(threads[i], NULL);
    printf("%.2f\n", best * 1e-9);
    return 0;
}
