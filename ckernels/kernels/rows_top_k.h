/* rows_top_k.h - the order of top-k, and the small heap that holds the best so far. Shared by the scan and by the merge of chunks.
 *
 * A candidate is one 64-bit rank word, larger = better, so that comparing is one instruction and the order is total:
 *
 *      bits 63..32   the value as an unsigned number in float order: -inf < ... < -0 = +0 < ... < +inf < NaN
 *      bits 31..0    ~id: of equal values the lower id is better
 *
 * NaN comes before every number, so that a row that holds one says so in its first place; a masked element counts as -inf. Since the order
 * is total, the k best are one well-defined list, whatever chunks they were found in.
 */
#ifndef ZL_ROWS_TOP_K_H
#define ZL_ROWS_TOP_K_H
#include <stdint.h>
#include <string.h>

#define ZL_KEY_NAN INT32_MAX
#define ZL_KEY_MINUS_INF ((int32_t)0x807fffff)

/* float -> int32 in the same order: negative floats have their magnitude bits flipped */
static inline int32_t zl_top_key(float v) {
    int32_t b;
    if (v != v) return ZL_KEY_NAN;
    v += 0.0f; /* -0 becomes +0 */
    memcpy(&b, &v, sizeof b);
    return b ^ ((b >> 31) & 0x7fffffff);
}
/* and back; of the two zeros +0, of the NaNs one */
static inline float zl_top_value(int32_t key) {
    int32_t b = key == ZL_KEY_NAN ? 0x7fc00000 : key ^ ((key >> 31) & 0x7fffffff);
    float v;
    memcpy(&v, &b, sizeof v);
    return v;
}
static inline uint64_t zl_top_rank(int32_t key, int64_t id) {
    return (uint64_t)((uint32_t)key ^ 0x80000000u) << 32 | (uint32_t)~(uint32_t)id;
}
static inline int32_t zl_top_key_of(uint64_t rank) { return (int32_t)((uint32_t)(rank >> 32) ^ 0x80000000u); }
static inline int32_t zl_top_id_of(uint64_t rank) { return (int32_t)~(uint32_t)rank; }

/* heap[0] is the worst of the n kept; a parent is never better than its children. Put v at `at` and let it sink to its place. */
static inline void zl_top_sink(uint64_t *heap, int64_t n, int64_t at, uint64_t v) {
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= v) break;
        heap[at] = heap[child];
    }
    heap[at] = v;
}
static inline void zl_top_heapify(uint64_t *heap, int64_t n) {
    for (int64_t i = n / 2; i-- > 0;) zl_top_sink(heap, n, i, heap[i]);
}
/* heap -> best first: the worst goes to the end, again and again */
static inline void zl_top_sort(uint64_t *heap, int64_t n) {
    while (n > 1) {
        uint64_t worst = heap[0];
        n--;
        zl_top_sink(heap, n, 0, heap[n]);
        heap[n] = worst;
    }
}
#endif
