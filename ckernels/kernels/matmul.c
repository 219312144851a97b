/* matmul.c - out (M, N) = a (M, K) b (K, N), all float32 row-major: the blocked product, small enough to be read.
 *
 * What it is not: the product with a weight, which runs over panels made once at load (linear.c). Here both matrices are new.
 *
 * A product of 512 x 512 x 512 reads every element of b 512 times. From memory that would take 100 times longer than the arithmetic,
 * so the loops are cut into tiles that stay where they are near:
 *
 *          K                      N                            registers   6 x 2L accumulators (12 of AVX2's 16 registers), plus two
 *      +-------+            +--+--+--+--+                                  vectors of b and one broadcast value of a: 24 flops per
 *    6 |#######|          K |##|  |  |  |                                  lane for 3 loads
 *      |       |            |##|  |  |  |                      L1          one strip of b: TILE_K x 2L values = 16 KiB, copied so that
 *    M |   a   |       x    |##| b|  |  |                                  it is contiguous; used for every row of a
 *      |       |            +--+--+--+--+                      L2          a's rows pass by, 6 at a time
 *      +-------+             2L wide
 *
 * The copy is what makes a strip fit L1: its rows lie N floats apart in b, and where N is a power of two they would all fall into a
 * few of the cache's sets. Columns beyond N are zeros in the copy, so the inner loop has no tail.
 *
 * Each element of out is one accumulator, k ascending, saved in out between two tiles of K: its bits depend on its row of a and its
 * column of b alone, and tiles and threads change nothing.
 */
#include "../include/zl.h"
#include "kernels.h"
#include "simd.h"

enum { MR = 6, NR = 2 * L, TILE_K = 16384 / (4 * NR) };

/* n values at p, n <= L; lanes beyond are 0 */
ZL_INLINE vf load_upto(const float *p, int n) { return n >= L ? vf_load(p) : n > 0 ? vf_load_n(p, n) : vf_zero(); }
ZL_INLINE void store_upto(float *p, vf v, int n) {
    if (n >= L) vf_store(p, v);
    else if (n > 0) vf_store_n(p, v, n);
}

/* out (rows, cols <= NR) += a (rows, depth) strip (depth, NR); rows is a constant wherever this is inlined */
ZL_INLINE void micro(const int rows, int64_t depth, const float *a, int64_t lda, const float *strip, float *out, int64_t ldo, int cols, int first) {
    vf acc[MR][2];
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < 2; h++) acc[r][h] = first ? vf_zero() : load_upto(out + r * ldo + h * L, cols - h * L);
    for (int64_t k = 0; k < depth; k++) {
        vf b0 = vf_load(strip + k * NR), b1 = vf_load(strip + k * NR + L);
        for (int r = 0; r < rows; r++) {
            vf v = vf_set1(a[r * lda + k]);
            acc[r][0] = vf_fma(v, b0, acc[r][0]);
            acc[r][1] = vf_fma(v, b1, acc[r][1]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < 2; h++) store_upto(out + r * ldo + h * L, acc[r][h], cols - h * L);
}

/* columns [begin, end) of out; begin is a multiple of NR */
void ZL_FN(matmul)(int64_t m, int64_t k, int64_t n, const float *a, const float *b, float *out, int64_t begin, int64_t end) {
    float strip[TILE_K * NR];
    for (int64_t j = begin; j < end; j += NR) {
        int cols = end - j < NR ? (int)(end - j) : NR;
        for (int64_t k0 = 0; k0 == 0 || k0 < k; k0 += TILE_K) { /* once even for k = 0: the product is then zero */
            int64_t depth = k - k0 < TILE_K ? k - k0 : TILE_K;
            for (int64_t q = 0; q < depth; q++) {
                const float *row = b + (k0 + q) * n + j;
                vf_store(strip + q * NR, load_upto(row, cols));
                vf_store(strip + q * NR + L, cols > L ? load_upto(row + L, cols - L) : vf_zero());
            }
            int64_t i = 0;
            for (; i + MR <= m; i += MR) micro(MR, depth, a + i * k + k0, k, strip, out + i * n + j, n, cols, k0 == 0);
            for (; i < m; i++) micro(1, depth, a + i * k + k0, k, strip, out + i * n + j, n, cols, k0 == 0);
        }
    }
}
