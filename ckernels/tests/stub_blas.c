/* stub_blas.c - a stand-in for BLAS libraries of every kind: an sgemm that is right, slow, and keeps books. No part of the package; the
 * selftest and the Python tests compile and load it.
 *
 *      -DSTUB_PREFIX=scipy_ -DSTUB_SUFFIX=64_    decorate the names;      -DSTUB_BITS=64    integers of 64 bits
 *      -DSTUB_FORTRAN      sgemm_ instead of cblas_sgemm                  -DSTUB_EMPTY      no sgemm at all
 *      -DSTUB_THREADS=openblas|bli|mkl|accelerate|none                    whose functions set the number of threads (default openblas)
 *      -DSTUB_WIDTH        integers of 64 bits although the name does not say so: the configuration does, as in some OpenBLAS builds
 *
 * It believes to have 4 threads. `stub_calls` counts calls of sgemm, `stub_wide` those that were made while it had more than one thread, `stub_threads` is how many it has now.
 */
#include <stdint.h>

#ifndef STUB_PREFIX
#define STUB_PREFIX
#endif
#ifndef STUB_SUFFIX
#define STUB_SUFFIX
#endif
#define JOIN(a, b, c) JOIN_(a, b, c)
#define JOIN_(a, b, c) a##b##c
#define NAME(x) JOIN(STUB_PREFIX, x, STUB_SUFFIX)

#if defined(STUB_BITS) || defined(STUB_WIDTH)
typedef int64_t blasint;
#else
typedef int32_t blasint;
#endif

static _Atomic int calls, wide, threads = 4;
static _Thread_local int of_this_thread; /* MKL's: 0 means as the process has it */
int stub_calls(void) { return calls; }
int stub_wide(void) { return wide; }
int stub_threads(void) { return of_this_thread ? of_this_thread : threads; }

/* ---- whose knobs ------------------------------------------------------------------------------------------------------------------ */

#define openblas 1
#define bli 2
#define mkl 3
#define accelerate 4
#define none 5
#ifndef STUB_THREADS
#define STUB_THREADS openblas
#endif

#if STUB_THREADS == openblas
int NAME(openblas_get_num_threads)(void) { return threads; }
void NAME(openblas_set_num_threads)(int n) { threads = n; }
#ifdef STUB_WIDTH
const char *NAME(openblas_get_config)(void) { return "OpenBLAS 0.0.0 USE64BITINT stub"; }
#else
const char *NAME(openblas_get_config)(void) { return "OpenBLAS 0.0.0 stub"; }
#endif
#elif STUB_THREADS == bli
int64_t bli_thread_get_num_threads(void) { return threads; }
void bli_thread_set_num_threads(int64_t n) { threads = (int)n; }
const char *bli_info_get_version_str(void) { return "0.0.0"; }
int64_t bli_info_get_blas_int_type_size(void) { return 8 * sizeof(blasint); }
#elif STUB_THREADS == mkl
int MKL_Set_Num_Threads_Local(int n) {
    const int before = of_this_thread;
    of_this_thread = n;
    return before;
}
void MKL_Get_Version_String(char *to, int room) { /* padded with blanks to the last byte */
    const char *name = "stub of MKL";
    for (int i = 0; i < room; i++) to[i] = *name ? *name++ : ' ';
}
#elif STUB_THREADS == accelerate
int BLASGetThreading(void) { return threads == 1; } /* 0: many threads, 1: a single one */
int BLASSetThreading(int mode) {
    threads = mode ? 1 : 4;
    return 0;
}
#endif

/* ---- the product ------------------------------------------------------------------------------------------------------------------ */

#ifndef STUB_EMPTY
/* c (m, n) = alpha a b + beta c; element (i, j) of a matrix is at i * its row step + j * its column step */
static void product(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t ai, int64_t aj, const float *b, int64_t bi,
                    int64_t bj, float beta, float *c, int64_t ci, int64_t cj) {
    calls++;
    wide += stub_threads() != 1;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t q = 0; q < k; q++) sum += (double)a[i * ai + q * aj] * b[q * bi + j * bj];
            float *to = &c[i * ci + j * cj];
            *to = beta == 0 ? (float)(alpha * sum) : (float)(alpha * sum + (double)beta * *to);
        }
    }
}

#ifdef STUB_FORTRAN
void NAME(sgemm_)(const char *ta, const char *tb, const blasint *m, const blasint *n, const blasint *k, const float *alpha, const float *a,
                  const blasint *lda, const float *b, const blasint *ldb, const float *beta, float *c, const blasint *ldc) {
    const int at = *ta == 'T', bt = *tb == 'T'; /* columns first: rows are one apart, columns the leading dimension */
    product(*m, *n, *k, *alpha, a, at ? *lda : 1, at ? 1 : *lda, b, bt ? *ldb : 1, bt ? 1 : *ldb, *beta, c, 1, *ldc);
}
#else
void NAME(cblas_sgemm)(int order, int ta, int tb, blasint m, blasint n, blasint k, float alpha, const float *a, blasint lda, const float *b,
                       blasint ldb, float beta, float *c, blasint ldc) {
    const int columns = order == 102, at = (ta == 112) != columns, bt = (tb == 112) != columns;
    product(m, n, k, alpha, a, at ? 1 : lda, at ? lda : 1, b, bt ? 1 : ldb, bt ? ldb : 1, beta, c, columns ? 1 : ldc, columns ? ldc : 1);
}
#endif
#endif
