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
#include "simd_int.h"

enum { BLOCK = 32, PARTS = BLOCK / L };

/* the largest lane */
ZL_INLINE int32_t largest(vi v) {
#if defined(ZL_ISA_avx512)
    return _mm512_reduce_max_epi32((__m512i)v);
#elif defined(ZL_ISA_avx2)
    __m128i h = _mm_max_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
#else
    int32_t t[L];
    vi_store(t, v);
    for (int w = L / 2; w; w /= 2)
        for (int i = 0; i < w; i++) t[i] = t[i] > t[i + w] ? t[i] : t[i + w];
    return t[0];
#endif
}

/* 32 int32 within +-127 -> int8 */
ZL_INLINE void narrow(const vi *v, int8_t *q) {
#if defined(ZL_ISA_avx512)
    _mm_storeu_si128((__m128i *)(void *)q, _mm512_cvtepi32_epi8((__m512i)v[0]));
    _mm_storeu_si128((__m128i *)(void *)(q + 16), _mm512_cvtepi32_epi8((__m512i)v[1]));
#elif defined(ZL_ISA_avx2)
    /* vpackssdw and vpacksswb work within 128-bit halves: the words come out as 0 2 4 6 1 3 5 7 */
    __m256i a = _mm256_packs_epi32((__m256i)v[0], (__m256i)v[1]), b = _mm256_packs_epi32((__m256i)v[2], (__m256i)v[3]);
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)q, bytes);
#else
    int32_t wide[BLOCK];
    for (int i = 0; i < PARTS; i++) vi_store(wide + i * L, v[i]);
    for (int i = 0; i < BLOCK; i++) q[i] = (int8_t)wide[i];
#endif
}

/* The sums of the first and the last 16 of 32 int8. */
ZL_INLINE void half_sums(const int8_t *q, int32_t *s) {
#if defined(ZL_ISA_avx2) || defined(ZL_ISA_avx512)
    const __m256i flipped = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)q), _mm256_set1_epi8(-128)); /* q + 128 */
    const __m256i eights = _mm256_sad_epu8(flipped, _mm256_setzero_si256()); /* sums of 8 bytes in 64-bit lanes */
    const __m256i sixteens = _mm256_add_epi64(eights, _mm256_shuffle_epi32(eights, 0x4e));
    s[0] = _mm256_extract_epi32(sixteens, 0) - 16 * 128;
    s[1] = _mm256_extract_epi32(sixteens, 4) - 16 * 128;
#else
    s[0] = s[1] = 0;
    for (int i = 0; i < BLOCK / 2; i++) s[0] += q[i], s[1] += q[BLOCK / 2 + i];
#endif
}

/* One block: its 32 values as int32 in r; the scale. */
ZL_INLINE float quantize_block(const float *x, vi *r) {
    const vf limit = vf_set1(127.0f);
    vf v[PARTS];
    vi top = {0};
    for (int i = 0; i < PARTS; i++) {
        v[i] = vf_load(x + i * L);
        vi size = vf_bits(v[i]) & 0x7fffffff; /* |x| as bits: ordered as integers, infinity and NaN above all */
        vi more = size > top;
        top = (more & size) | (~more & top);
    }
    const int32_t bits = largest(top);
    if (bits < 0x04000000 /* 2^-119 */ || bits >= 0x7f800000) {
        for (int i = 0; i < PARTS; i++) r[i] = (vi){0};
        return bits < 0x04000000 ? 0.0f : __builtin_nanf("");
    }
    float amax;
    memcpy(&amax, &bits, 4);
    const vf inverse = vf_set1(127.0f / amax);
    for (int i = 0; i < PARTS; i++) r[i] = vf_to_vi(vf_max(vf_min(v[i] * inverse, limit), -limit));
    return amax / 127.0f;
}

void ZL_FN(quantize_activation)(int64_t n, const float *x, int8_t *q, float *d, int16_t *s) {
    for (int64_t b = 0; b < n / BLOCK; b++, x += BLOCK, q += BLOCK, s += 2) {
        vi r[PARTS];
        int32_t sum[2];
        d[b] = quantize_block(x, r);
        narrow(r, q);
        half_sums(q, sum);
        s[0] = (int16_t)sum[0], s[1] = (int16_t)sum[1];
    }
}

/* `g` is a constant where this is inlined, or the number of rows of a last group. */
ZL_INLINE void group(const int64_t g, int64_t cols, const float *x, int32_t *to) {
    for (int64_t b = 0; b < cols / BLOCK; b++, x += BLOCK, to += ZL_X_WORDS * g) {
        for (int64_t n = 0; n < g; n++) {
            vi r[PARTS];
            int32_t words[BLOCK / 4], sum[2];
            const float d = quantize_block(x + n * cols, r);
            narrow(r, (int8_t *)words);
            half_sums((const int8_t *)words, sum);
            for (int w = 0; w < BLOCK / 4; w++) to[w * g + n] = words[w];
            memcpy(&to[ZL_X_D * g + n], &d, 4);
            to[ZL_X_SUM * g + n] = -sum[0] - sum[1];
            to[ZL_X_HALF * g + n] = -sum[0];
            to[(ZL_X_HALF + 1) * g + n] = -sum[1];
        }
    }
}

void ZL_FN(quantize_group)(int64_t g, int64_t cols, const float *x, int32_t *to) {
    if (g == ZL_GROUP) group(ZL_GROUP, cols, x, to);
    else if (g == 1) group(1, cols, x, to);
    else group(g, cols, x, to);
}
