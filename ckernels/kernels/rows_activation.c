/* rows_activation.c - element by element: activations, gated activations, sums, products, scalings, soft caps.
 *
 * Each kernel is one expression applied to whole vectors and, with masked access, to the fewer than L elements at the end: the same
 * arithmetic, so an element's bits do not depend on where in an array it stands.
 */
#include "../include/zl.h"
#include "kernels.h"
#include "rows_math.h"

/* v (and u, from the second array) -> EXPR, n elements. Reads before it writes, vector by vector, so out may be x or y. */
#define EACH1(EXPR)                                                                                    \
    int64_t i = 0;                                                                                     \
    for (; i + L <= n; i += L) { vf v = vf_load(x + i); vf_store(out + i, EXPR); }                     \
    if (i < n) { int r = (int)(n - i); vf v = vf_load_n(x + i, r); vf_store_n(out + i, EXPR, r); }

#define EACH2(EXPR)                                                                                    \
    int64_t i = 0;                                                                                     \
    for (; i + L <= n; i += L) { vf v = vf_load(x + i), u = vf_load(y + i); vf_store(out + i, EXPR); } \
    if (i < n) {                                                                                       \
        int r = (int)(n - i);                                                                          \
        vf v = vf_load_n(x + i, r), u = vf_load_n(y + i, r);                                           \
        vf_store_n(out + i, EXPR, r);                                                                  \
    }

void ZL_FN(unary)(int fn, int64_t n, const float *x, float *out) {
#define UNARY(ACT) EACH1(ACT(v))
    ZL_EACH_UNARY(fn, UNARY)
}

void ZL_FN(glu)(int fn, int64_t n, const float *x /* gate */, const float *y /* up */, float *out) {
#define GLU(ACT) EACH2(ACT(v) * u)
    ZL_EACH_UNARY(fn, GLU)
}

void ZL_FN(add)(int64_t n, const float *x, const float *y, float *out) { EACH2(v + u) }
void ZL_FN(mul)(int64_t n, const float *x, const float *y, float *out) { EACH2(v * u) }
void ZL_FN(scale)(int64_t n, const float *x, float factor, float *out) { EACH1(v * factor) }
void ZL_FN(softcap)(int64_t n, const float *x, float cap, float *out) { EACH1(cap * vf_tanh(v / cap)) }
