/* linear_quantize.c - the activation format: what every product with a quantised weight reads of x.
 *
 * Per block of 32 values of a row:      amax = max |x|      d = amax / 127      q = round_half_even(x * (127 / amax)), within +-127
 *                                       s = sum of q[0..15], sum of q[16..31]
 * A value that is not finite makes d NaN and q 0, so the NaN reaches every output of the row and of no other. amax < 2^-119 gives d = 0 and
 * q = 0: below it 127 / amax is no finite float.
 *
 * All of it is exact or a single correctly rounded operation, so the variants, and the NumPy twin, agree in every bit.
 */
#include "kernels.h"
#include "simd.h"

enum { BLOCK = 32, PARTS = BLOCK / L };

/* the largest lane */
ZL_INLINE int32_t largest(vi v) {
    int32_t t[L];
    vi_store(t, v);
    for (int w = L / 2; w; w /= 2)
        for (int i = 0; i < w; i++) t[i] = t[i] > t[i + w] ? t[i] : t[i + w];
    return t[0];
}

/* 32 int32 -> int8, and their two half-sums */
ZL_INLINE void narrow(const vi *v, int8_t *q, int16_t *s) {
#if defined(ZL_ISA_avx2)
    /* vpackssdw and vpacksswb work within 128-bit halves: the words come out as 0 2 4 6 1 3 5 7 */
    __m256i a = _mm256_packs_epi32((__m256i)v[0], (__m256i)v[1]), b = _mm256_packs_epi32((__m256i)v[2], (__m256i)v[3]);
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)q, bytes);
    __m256i quads = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
    quads = _mm256_add_epi32(quads, _mm256_shuffle_epi32(quads, 0xb1));
    quads = _mm256_add_epi32(quads, _mm256_shuffle_epi32(quads, 0x4e));
    s[0] = (int16_t)_mm_cvtsi128_si32(_mm256_castsi256_si128(quads));
    s[1] = (int16_t)_mm_cvtsi128_si32(_mm256_extracti128_si256(quads, 1));
#else
    int32_t wide[BLOCK], sum[2] = {0, 0};
    for (int i = 0; i < PARTS; i++) vi_store(wide + i * L, v[i]);
    for (int i = 0; i < BLOCK; i++) q[i] = (int8_t)wide[i];
    for (int i = 0; i < BLOCK / 2; i++) sum[0] += wide[i], sum[1] += wide[BLOCK / 2 + i];
    s[0] = (int16_t)sum[0], s[1] = (int16_t)sum[1];
#endif
}

void ZL_FN(quantize_activation)(int64_t n, const float *x, int8_t *q, float *d, int16_t *s) {
    const vf limit = vf_set1(127.0f);
    for (int64_t b = 0; b < n / BLOCK; b++, x += BLOCK, q += BLOCK, s += 2) {
        vf v[PARTS];
        vi r[PARTS], top = {0};
        for (int i = 0; i < PARTS; i++) {
            v[i] = vf_load(x + i * L);
            vi size = vf_bits(v[i]) & 0x7fffffff; /* |x| as bits: ordered as integers, infinity and NaN above all */
            vi more = size > top;
            top = (more & size) | (~more & top);
        }
        int32_t bits = largest(top);
        if (bits < 0x04000000 /* 2^-119 */ || bits >= 0x7f800000) {
            memset(q, 0, BLOCK);
            s[0] = s[1] = 0;
            d[b] = bits < 0x04000000 ? 0.0f : __builtin_nanf("");
            continue;
        }
        float amax;
        memcpy(&amax, &bits, 4);
        d[b] = amax / 127.0f;
        vf inverse = vf_set1(127.0f / amax);
        for (int i = 0; i < PARTS; i++) r[i] = vf_to_vi(vf_max(vf_min(v[i] * inverse, limit), -limit));
        narrow(r, q, s);
    }
}
