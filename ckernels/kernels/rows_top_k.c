/* rows_top_k.c - the k best of a long row, in about two instructions per vector and little else.
 *
 * A long row is read once, for the largest of each lane in every group of vectors:
 *
 *      x        | v0 | v1 | ... | v15 | v16 | ...              m = max(v0 .. v15), lane by lane: L elements of 16 each
 *      maxima   |          m          |    m    | ...
 *
 * k maxima are k elements, so the k-th largest maximum is a bound that the k best reach; and in a row without order hardly more than k
 * elements do, since two of the best are rarely in one place. Maxima of the maxima give such a bound of fewer still. Only elements of
 * groups that reach it are looked at one by one.
 *
 * A short row, and one with a NaN (which the sum of all tells), is scanned by a heap of the best so far, whose root is the threshold: four
 * vectors at a time are compared with it, and only a block with something above is looked at element by element: about k ln(n / k) get in.
 * The worst case, a row that ascends, costs log k per element. Ids ascend during this scan, so an element equal to the threshold loses to
 * the one held: "above" is strict and needs no id.
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

enum { GROUP = 16, MAXIMA = 16384 }; /* vectors in a group, at least; how many maxima there is room for */
#define MINUS_INF (-__builtin_inff())

/* lane j -> -1 where bit j of `bits` is set, else 0 */
ZL_INLINE vi lanes_of(uint32_t bits) {
    const vi lanes = LANES, one = vi_set1(1) << lanes;
    return (vi_set1((int32_t)bits) & one) != 0;
}

ZL_INLINE int32_t key_at(const float *x, const uint32_t *mask, int64_t i) {
    return mask && !(mask[i >> 5] >> (i & 31) & 1u) ? ZL_KEY_MINUS_INF : zl_top_key(x[i]);
}

static int64_t scan(const float *x, const uint32_t *mask, int64_t begin, int64_t end, int64_t k, uint64_t *heap) {
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
            if (!vi_any(above)) {
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

/* x[at .. at + L), -inf where the mask forbids */
ZL_INLINE vf masked(const float *x, const uint32_t *mask, int64_t at) {
    vf v = vf_load(x + at);
    return mask ? vf_select(lanes_of(mask[at >> 5] >> (at & 31)), v, vf_set1(MINUS_INF)) : v;
}

/* The largest of each lane in every `group` vectors from `begin` on -> m (groups L); `group` is a multiple of 2 * pairs. Returns whether
 * the sum of all is a number: then all are. */
ZL_INLINE int maxima(const float *x, const uint32_t *mask, int64_t begin, int64_t groups, int64_t group, const int pairs, float *m) {
    vf sum = vf_zero(), other = sum;
    for (int64_t g = 0; g < groups; g++) {
        vf a = vf_set1(MINUS_INF), b = a;
        for (int64_t v = 0; v < group; v += 2 * pairs) {
            const int64_t at = begin + (g * group + v) * L;
#pragma GCC unroll 8
            for (int j = 0; j < pairs; j++) {
                const vf p = masked(x, mask, at + 2 * j * L), q = masked(x, mask, at + (2 * j + 1) * L);
                a = vf_max(p, a), b = vf_max(q, b);
                sum += p, other += q;
            }
        }
        vf_store(m + g * L, vf_max(a, b));
    }
    const float s = vf_sum(sum + other);
    return s == s;
}

/* The best so far: n of at most k, a heap once they are k. Any order of offers gives the same. */
typedef struct {
    uint64_t *heap;
    int64_t n, k;
} kept;
ZL_INLINE void offer(kept *best, uint64_t rank) {
    if (best->n < best->k) {
        best->heap[best->n++] = rank;
        if (best->n == best->k) zl_top_heapify(best->heap, best->k);
    } else if (rank > best->heap[0]) {
        zl_top_sink(best->heap, best->k, 0, rank);
    }
}

int64_t ZL_FN(top_k)(const float *x, const uint32_t *mask, int64_t begin, int64_t end, int64_t k, uint64_t *heap) {
    float m[MAXIMA], few[MAXIMA / 2];
    int64_t group = GROUP, thin = 1;
    while ((end - begin) / group > MAXIMA) group *= 2;
    const int64_t groups = (end - begin) / (group * L), n = groups * L;
    if (n < 2 * k) return scan(x, mask, begin, end, k, heap);
    const int numbers = mask ? maxima(x, mask, begin, groups, group, GROUP / 2, m) : maxima(x, NULL, begin, groups, group, GROUP / 2, m);
    if (!numbers) return scan(x, mask, begin, end, k, heap);
    while (n / (2 * thin * L) * L >= 2 * k) thin *= 2;
    if (thin > 1) maxima(m, NULL, 0, n / (thin * L), thin, 1, few);
    scan(thin > 1 ? few : m, NULL, 0, thin > 1 ? n / (thin * L) * L : n, k, heap);
    const float bound = zl_top_value(zl_top_key_of(heap[0]));
    if (bound == MINUS_INF) return scan(x, mask, begin, end, k, heap); /* fewer than k are left at all */
    kept best = {heap, 0, k};
    for (int64_t g = 0; g < groups; g++) {
        vi over = vf_load(m + g * L) >= bound;
        if (!vi_any(over)) continue;
        for (uint32_t lanes = vi_lanes(over); lanes; lanes &= lanes - 1) {
            const int64_t first = begin + g * group * L + __builtin_ctz(lanes), stop = first + group * L;
            for (int64_t i = first; i < stop; i += L)
                if (x[i] >= bound) offer(&best, zl_top_rank(key_at(x, mask, i), i));
        }
    }
    for (int64_t i = begin + groups * group * L; i < end; i++)
        if (!(x[i] < bound)) offer(&best, zl_top_rank(key_at(x, mask, i), i));
    return k;
}
