/* rows_softmax.c - softmax over rows: exp(y - max y) / sum, y = scale * x.
 *
 * The maximum comes off first, so exp never overflows; exp(0) is exactly 1, so the sum is at least 1. A row that holds NaN or +inf,
 * or nothing but -inf, becomes NaN, as the formula says.
 */
#include "../include/zl.h"
#include "kernels.h"
#include "simd.h"

#define BLOCK 512 /* values per partial sum: joined in double, so the error of a long row is that of 512 / L terms */

void ZL_FN(softmax)(int64_t n, int64_t m, const float *x, float scale, float *out) {
    for (int64_t t = 0; t < n; t++, x += m, out += m) {
        vf best = vf_set1(-__builtin_inff());
        int64_t i = 0;
        for (; i + L <= m; i += L) {
            vf v = vf_load(x + i) * scale;
            best = vf_max(v, best); /* of a NaN and a number, the number: the NaN comes back in the exponentials */
            vf_store(out + i, v);
        }
        if (i < m) {
            int r = (int)(m - i);
            float last[L];
            vf_store(last, vf_set1(-__builtin_inff()));
            vf_store_n(last, vf_load_n(x + i, r) * scale, r);
            best = vf_max(vf_load(last), best);
            vf_store_n(out + i, vf_load(last), r);
        }
        float top = vf_hmax(best);
        double total = 0.0;
        for (int64_t b = 0; b < m; b += BLOCK) {
            int64_t end = b + BLOCK < m ? b + BLOCK : m;
            vf part = vf_zero();
            for (i = b; i + L <= end; i += L) {
                vf e = vf_exp(vf_load(out + i) - top);
                part += e;
                vf_store(out + i, e);
            }
            if (i < end) {
                int r = (int)(end - i);
                float last[L];
                vf_store(last, vf_zero());
                vf_store_n(last, vf_exp(vf_load_n(out + i, r) - top), r);
                part += vf_load(last); /* lanes beyond the row add 0 */
                vf_store_n(out + i, vf_load(last), r);
            }
            total += (double)vf_sum(part);
        }
        float inv = (float)(1.0 / total);
        for (i = 0; i + L <= m; i += L) vf_store(out + i, vf_load(out + i) * inv);
        if (i < m) vf_store_n(out + i, vf_load_n(out + i, (int)(m - i)) * inv, (int)(m - i));
    }
}
