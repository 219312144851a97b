/* rows_scan.c - passes over one row of logits: what exact sampling from a whole vocabulary is made of.
 *
 * Nothing here sorts. A set of candidates is all keys above a threshold; core/scan.c finds it from the masses of buckets of keys, looks
 * closer into one bucket, and then one more pass keeps what is above. -inf is a candidate that was taken away: it has no mass, and no
 * pass gives it back. A row that ends inside a vector is padded with -inf.
 */
#include "rows_scan.h"
#include "../include/zl.h"
#include "kernels.h"
#include "simd.h"

#define BLOCK 512 /* values per partial sum in float, joined in double; values whose buckets wait in the L1 cache */
#define MINUS_INF (-__builtin_inff())

/* x[i .. i + L), -inf past the row's end */
ZL_INLINE vf load_or_none(const float *x, int64_t i, int64_t n) {
    if (i + L <= n) return vf_load(x + i);
    float last[L];
    vf_store(last, vf_set1(MINUS_INF));
    vf_store_n(last, vf_load_n(x + i, (int)(n - i)), (int)(n - i));
    return vf_load(last);
}
ZL_INLINE void store_up_to(float *x, vf v, int64_t i, int64_t n) {
    if (i + L <= n) vf_store(x + i, v);
    else vf_store_n(x + i, v, (int)(n - i));
}

float ZL_FN(row_best)(int64_t n, const float *x) {
    vf best = vf_set1(MINUS_INF), other = best;
    int64_t i = 0;
    for (; i + 2 * L <= n; i += 2 * L) best = vf_max(vf_load(x + i), best), other = vf_max(vf_load(x + i + L), other);
    for (; i < n; i += L) best = vf_max(load_or_none(x, i, n), best);
    return vf_hmax(vf_max(best, other));
}

/* w = exp(x - best) 2^ZL_MASS_BITS, sums[0] = sum of exp(x - best), sums[1] = sum of (x - best) exp(x - best) */
void ZL_FN(row_weights)(int64_t n, const float *x, float best, float *w, double *sums) {
    const float unit = (float)((int64_t)1 << ZL_MASS_BITS);
    sums[0] = sums[1] = 0.0;
    for (int64_t b = 0; b < n; b += BLOCK) {
        const int64_t end = b + BLOCK < n ? b + BLOCK : n;
        vf sum = vf_zero(), first = vf_zero();
        for (int64_t i = b; i < end; i += L) {
            vf d = load_or_none(x, i, n) - best;
            vf e = vf_exp(d);
            sum += e;
            first = vf_fma(e, vf_max(d, vf_set1(-1000.0f)), first); /* exp is 0 there, and 0 times infinity no number */
            store_up_to(w, e * unit, i, n);
        }
        sums[0] += (double)vf_sum(sum), sums[1] += (double)vf_sum(first);
    }
}

/* Of the elements above -inf: sums[0] = their number, sums[1] = sum of x - shift, sums[2] = sum of (x - shift)^2 */
void ZL_FN(row_moments)(int64_t n, const float *x, float shift, double *sums) {
    sums[0] = sums[1] = sums[2] = 0.0;
    for (int64_t b = 0; b < n; b += BLOCK) {
        const int64_t end = b + BLOCK < n ? b + BLOCK : n;
        vf sum = vf_zero(), square = vf_zero();
        vi count = vi_set1(0);
        for (int64_t i = b; i < end; i += L) {
            vf v = load_or_none(x, i, n);
            vi there = v > MINUS_INF;
            vf d = vf_select(there, v - shift, vf_zero());
            sum += d, square = vf_fma(d, d, square), count -= there;
        }
        sums[0] += (double)vf_sum(vi_to_vf(count)), sums[1] += (double)vf_sum(sum), sums[2] += (double)vf_sum(square);
    }
}

/* A NaN, of inf - inf, goes to the last bucket with -inf: vf_min gives its second argument then. */
ZL_INLINE vi bucket_of(vf key, float top) { return vf_to_vi(vf_min((top - key) * ZL_PER, vf_set1((float)(ZL_BUCKETS - 1)))); }

/* mass[bucket of key[i]] += w[i] in whole units, 1 for each key above -inf where w is NULL; mass (ZL_BUCKETS) begins at 0 */
void ZL_FN(row_masses)(int64_t n, const float *key, const float *w, float top, int64_t *mass) {
    int32_t at[BLOCK + L];
    for (int b = 0; b < ZL_BUCKETS; b++) mass[b] = 0;
    for (int64_t b = 0; b < n; b += BLOCK) {
        const int64_t m = b + BLOCK < n ? BLOCK : n - b;
        for (int64_t i = 0; i < m; i += L) vi_store(at + i, bucket_of(load_or_none(key, b + i, n), top));
        if (!w) {
            for (int64_t i = 0; i < m; i++) mass[at[i]] += key[b + i] > MINUS_INF;
            continue;
        }
        const float *u = w + b;
        int64_t i = 0;
        for (; i + 4 <= m; i += 4) {
            mass[at[i]] += (int64_t)u[i];
            mass[at[i + 1]] += (int64_t)u[i + 1];
            mass[at[i + 2]] += (int64_t)u[i + 2];
            mass[at[i + 3]] += (int64_t)u[i + 3];
        }
        for (; i < m; i++) mass[at[i]] += (int64_t)u[i];
    }
}

ZL_INLINE int any_lane(vi mask) {
    int64_t w[L / 2], all = 0;
    memcpy(w, &mask, sizeof w);
    for (int i = 0; i < L / 2; i++) all |= w[i];
    return all != 0;
}

/* The ids of one bucket, ascending -> ids; how many. With ids NULL they are only counted. */
int64_t ZL_FN(row_bucket)(int64_t n, const float *key, float top, int which, int32_t *ids) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i += 4 * L) {
        vi here[4], some = vi_set1(0);
        for (int j = 0; j < 4; j++) {
            here[j] = i + j * L < n ? (vi)(bucket_of(load_or_none(key, i + j * L, n), top) == which) : vi_set1(0);
            some |= here[j];
        }
        if (!any_lane(some)) continue;
        for (int j = 0; j < 4; j++) {
            int32_t lane[L];
            vi_store(lane, here[j]);
            for (int l = 0; l < L && i + j * L + l < n; l++) {
                if (!lane[l]) continue;
                if (ids) ids[found] = (int32_t)(i + j * L + l);
                found++;
            }
        }
    }
    return found;
}

/* out = x where it is above `least`, or equal to it with an id up to `last`, else -inf; out may be x. How many are left. */
int64_t ZL_FN(row_keep)(int64_t n, const float *x, float least, int64_t last, float *out) {
    int64_t kept = 0;
    const int64_t edge = last + 1 < n ? last + 1 : n; /* ids before it keep what equals `least` */
    for (int64_t b = 0; b < n; b += BLOCK) {
        const int64_t end = b + BLOCK < n ? b + BLOCK : n;
        vi count = vi_set1(0);
        for (int64_t i = b; i < end; i += L) {
            vf v = load_or_none(x, i, n);
            vi over = v > least;
            if (i + L <= edge) {
                over |= v == least;
            } else if (i < edge) {
                int32_t lane[L];
                for (int l = 0; l < L; l++) lane[l] = i + l < edge ? -1 : 0;
                over |= (v == least) & vi_load(lane);
            }
            over &= v > MINUS_INF;
            count -= over;
            store_up_to(out, vf_select(over, v, vf_set1(MINUS_INF)), i, n);
        }
        kept += (int64_t)vf_sum(vi_to_vf(count));
    }
    return kept;
}

/* The ids of the elements above -inf, ascending -> ids, `room` at most; how many there are. */
int64_t ZL_FN(row_gather)(int64_t n, const float *x, int32_t *ids, int64_t room) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i += 4 * L) {
        vi some = vi_set1(0);
        for (int j = 0; j < 4 && i + j * L < n; j++) some |= load_or_none(x, i + j * L, n) > MINUS_INF;
        if (!any_lane(some)) continue;
        const int64_t end = i + 4 * L < n ? i + 4 * L : n;
        for (int64_t l = i; l < end; l++) {
            if (!(x[l] > MINUS_INF)) continue;
            if (found < room) ids[found] = (int32_t)l;
            found++;
        }
    }
    return found;
}
