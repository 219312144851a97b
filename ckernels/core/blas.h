/* blas.h - somebody else's sgemm: the library that a context was given, and slabs of a weight that are multiplied by it.
 *
 * What it is not: a replacement of our kernels. Only products of float32 and float16 weights with many rows (prefill) and zl_matmul go
 * through a library, and only through one that was named; its sums are taken in an order that is nobody's promise.
 */
#ifndef ZL_BLAS_H
#define ZL_BLAS_H
#include "core.h"

/* ---- blas.c -------------------------------------------------------------------------------------------------------------------- */

/* Around a stage whose chunks call zl_blas_sgemm: in between the library's own threads are set to 1, for all contexts together. Both do
 * nothing when the context has no library. */
void zl_blas_begin(zl_ctx *ctx);
void zl_blas_end(zl_ctx *ctx);

/* c (m, n) = a (m, k) b, where b is (k, n), or with `transposed` (n, k) and its transpose is meant. Row-major; rows lie lda, ldb and ldc
 * floats apart. m, n, k are at least 1 and below 2^31. The context has a library. Any thread of its pool may call it. */
void zl_blas_sgemm(zl_ctx *ctx, int transposed, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                   float *c, int64_t ldc);

/* ---- blas_slab.c ---------------------------------------------------------------------------------------------------------------- */

/* Rows of W in one slab: a thread's share, or less where that would be too many floats. 0: W is none of a library's business. */
int64_t zl_slab_rows(const zl_ctx *ctx, const zl_weight *w);
/* Bytes of a thread's scratch for a slab of W by t rows of x. */
int64_t zl_slab_scratch(const zl_ctx *ctx, const zl_weight *w, int64_t t);
/* Outputs [row, row + zl_slab_rows) of y = x W^T (+ bias) (+ residual), fewer at the end, for all rows of x: one call of the library. */
void zl_slab(zl_ctx *ctx, const zl_weight *w, int64_t row, const zl_activation *x, const zl_result *r, uint8_t *scratch);
#endif
