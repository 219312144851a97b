/* rows_top_k.c - the k best of a long row, in about one pass over memory.
 *
 * The first k elements fill a heap whose root is the worst kept: the threshold. Then four vectors at a time are compared with the
 * threshold; only a block with something above it is looked at element by element. In a row without order a block is rarely looked
 * at: about k ln(n / k) elements get in, whatever n. The worst case, a row that ascends, costs log k per element.
 *
 * Ids ascend during the scan, so an element equal to the threshold loses to the one held: "above" is strict and needs no id.
 */
#include "../include/zl.h"
#include "kernels.h"
#include "rows_top_k.h"
#include "simd.h"

#if L == 16
#define LANES {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#elif L == 8
#define LANES {0, 1, 2, 3, 4, 5, 6, 7}
#else
#define LANES {0, 1, 2, 3}
#endif

ZL_INLINE int any(vi mask) {
#if defined(ZL_ISA_avx512)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(ZL_ISA_avx2)
    return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
    uint64_t w[2];
    memcpy(w, &mask, sizeof w);
    return (w[0] | w[1]) != 0;
#endif
}

/* lane j -> -1 where bit j of `bits` is set, else 0 */
ZL_INLINE vi lanes_of(uint32_t bits) {
    const vi lanes = LANES, one = vi_set1(1) << lanes;
    return (vi_set1((int32_t)bits) & one) != 0;
}

ZL_INLINE int32_t key_at(const float *x, const uint32_t *mask, int64_t i) {
    return mask && !(mask[i >> 5] >> (i & 31) & 1u) ? ZL_KEY_MINUS_INF : zl_top_key(x[i]);
}

int64_t ZL_FN(top_k)(const float *x, const uint32_t *mask, int64_t begin, int64_t end, int64_t k, uint64_t *heap) {
    int64_t i = begin, n = end - begin < k ? end - begin : k;
    if (n <= 0) return 0;
    for (; i < begin + n; i++) heap[i - begin] = zl_top_rank(key_at(x, mask, i), i);
    zl_top_heapify(heap, n);
    while (i < end) {
        /* whole blocks of 4L at multiples of 4L: a vector's L bits then lie in one word of the mask */
        if ((i & (4 * L - 1)) == 0 && i + 4 * L <= end) {
            /* Floats compare as their keys do, and a masked element (-inf) is above no number. A NaN is above every number, and not (x <= least)
             * says so; nothing is above a NaN. */
            int32_t threshold = zl_top_key_of(heap[0]);
            if (threshold == ZL_KEY_NAN) break;
            float least = zl_top_value(threshold);
            vi above = vi_set1(0);
            for (int j = 0; j < 4; j++) {
                int64_t at = i + j * L;
                vi over = ~(vf_load(x + at) <= least);
                if (mask) over &= lanes_of(mask[at >> 5] >> (at & 31));
                above |= over;
            }
            if (!any(above)) {
                i += 4 * L;
                continue;
            }
        }
        int64_t stop = (i / (4 * L) + 1) * (4 * L); /* one by one to the next block's start */
        for (stop = stop < end ? stop : end; i < stop; i++) {
            int32_t key = key_at(x, mask, i);
            if (key > zl_top_key_of(heap[0])) zl_top_sink(heap, n, 0, zl_top_rank(key, i));
        }
    }
    return n;
}
