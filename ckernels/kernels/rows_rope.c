/* rows_rope.c - rotary position embedding (Su et al., 2021): pairs of channels turned by an angle proportional to the position.
 *
 *      (a, b)  ->  (a cos - b sin,  b cos + a sin)          angle_i = position * inv_freq[i],   i < half
 *
 *      mode 0, interleaved (GPT-J, GGUF llama):  pair i is channels (2i, 2i+1)
 *      mode 1, half-split (NeoX):                pair i is channels (i, i + half)
 *
 * Which number is the angle: the exact product of the integer position and the float32 inverse frequency (in double), reduced and
 * evaluated in double, then rounded to float once. Others round the angle to float32 first, which at position 32,768 is wrong by
 * 1e-3; the table here is good to 0.51 ulp for angles below 1.6 million and to 4e-7 for any int32 position. It needs no fused
 * multiply-add, so its bits are the same in every ISA variant. 32 angles cost about 0.1 us, so nothing is cached between layers.
 */
#include "../include/zl.h"
#include "kernels.h"
#include "simd.h"

#define LD (L / 2) /* doubles in a register */
typedef double vd __attribute__((vector_size(8 * LD), may_alias));
typedef int64_t vl __attribute__((vector_size(8 * LD), may_alias));
typedef float vh __attribute__((vector_size(4 * LD), may_alias)); /* LD floats: half a register */

/* sin and cos of a: q = round(a / (pi/2)), r = a - q pi/2 in [-pi/4, pi/4], then Taylor-like minimax polynomials (the coefficients of
 * Sun's fdlibm) and the quadrant q mod 4:   0: (s, c)   1: (c, -s)   2: (-s, -c)   3: (-c, s).
 * pi/2 comes in two parts, of which the first has 33 bits: q times it is exact below q = 2^20. */
ZL_INLINE void sin_cos(vd a, vd *sine, vd *cosine) {
    const double magic = 6755399441055744.0; /* 1.5 * 2^52: adding it leaves an integer in the low bits of the mantissa */
    vd biased = a * 0.63661977236758134308 + magic;
    vl q = (vl)biased;
    vd n = biased - magic;
    vd r = (a - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11;
    vd z = r * r;
    vd s = 2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10);
    s = -1.66666666666666324348e-01 + z * (8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 + z * s));
    s = r + r * z * s;
    vd c = 2.48015872894767294178e-05 + z * (-2.75573143513906633035e-07 + z * 2.08757232129817482790e-09);
    c = 1.0 - 0.5 * z + z * z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 + z * c));
    vl swap = -(q & 1);
    vl sine_bits = ((vl)s & ~swap) | ((vl)c & swap), cosine_bits = ((vl)c & ~swap) | ((vl)s & swap);
    *sine = (vd)(sine_bits ^ ((q & 2) << 62));
    *cosine = (vd)(cosine_bits ^ (((q + 1) & 2) << 62));
}

/* table of one row, times scale:
 *      mode 0:  [2*half] cos, each twice;  [2*half] -sin, sin alternating      mode 1:  [half] cos;  [half] sin                    */
void ZL_FN(rope_table)(int64_t half, int32_t position, const float *inv_freq, float scale, int mode, float *table) {
    for (int64_t i = 0; i < half; i += LD) {
        int64_t n = half - i < LD ? half - i : LD;
        vh f = {0}, s, c;
        vd vs, vc;
        if (n == LD) memcpy(&f, inv_freq + i, sizeof f);
        else memcpy(&f, inv_freq + i, (size_t)n * sizeof(float));
        sin_cos(__builtin_convertvector(f, vd) * (double)position, &vs, &vc);
        s = __builtin_convertvector(vs, vh) * scale;
        c = __builtin_convertvector(vc, vh) * scale;
        if (mode == 0) {
            for (int64_t j = 0; j < n; j++) {
                table[2 * (i + j)] = table[2 * (i + j) + 1] = c[j];
                table[2 * (half + i + j)] = -s[j];
                table[2 * (half + i + j) + 1] = s[j];
            }
        } else if (n == LD) {
            memcpy(table + i, &c, sizeof c);
            memcpy(table + half + i, &s, sizeof s);
        } else {
            memcpy(table + i, &c, (size_t)n * sizeof(float));
            memcpy(table + half + i, &s, (size_t)n * sizeof(float));
        }
    }
}

/* neighbours change places: lane i takes lane i ^ 1 */
ZL_INLINE vf swap_pairs(vf v) {
#if L == 16
    return __builtin_shuffle(v, (vi){1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14});
#elif L == 8
    return __builtin_shuffle(v, (vi){1, 0, 3, 2, 5, 4, 7, 6});
#else
    return __builtin_shuffle(v, (vi){1, 0, 3, 2});
#endif
}

/* mode 0:  out = x * [c c ..] + swap(x) * [-s s ..] */
ZL_INLINE void rotate_pairs(int64_t half, const float *table, const float *x, float *out) {
    const float *c = table, *s = table + 2 * half;
    int64_t i = 0, rot = 2 * half;
    for (; i + L <= rot; i += L) {
        vf v = vf_load(x + i);
        vf_store(out + i, vf_fma(v, vf_load(c + i), swap_pairs(v) * vf_load(s + i)));
    }
    if (i < rot) { /* an even number of channels: no pair is cut */
        int r = (int)(rot - i);
        vf v = vf_load_n(x + i, r);
        vf_store_n(out + i, vf_fma(v, vf_load_n(c + i, r), swap_pairs(v) * vf_load_n(s + i, r)), r);
    }
}

/* mode 1:  a' = a c + b (-s),  b' = b c + a s: the same operations on a pair as in mode 0, so the same bits */
ZL_INLINE void rotate_halves(int64_t half, const float *table, const float *x, float *out) {
    const float *c = table, *s = table + half;
    int64_t i = 0;
    for (; i + L <= half; i += L) {
        vf a = vf_load(x + i), b = vf_load(x + half + i), co = vf_load(c + i), si = vf_load(s + i);
        vf_store(out + i, vf_fma(a, co, b * -si));
        vf_store(out + half + i, vf_fma(b, co, a * si));
    }
    if (i < half) {
        int r = (int)(half - i);
        vf a = vf_load_n(x + i, r), b = vf_load_n(x + half + i, r), co = vf_load_n(c + i, r), si = vf_load_n(s + i, r);
        vf_store_n(out + i, vf_fma(a, co, b * -si), r);
        vf_store_n(out + half + i, vf_fma(b, co, a * si), r);
    }
}

void ZL_FN(rope)(int64_t heads, int64_t d, int64_t half, int mode, const float *table, const float *x, float *out) {
    for (int64_t h = 0; h < heads; h++, x += d, out += d) {
        if (mode == 0) rotate_pairs(half, table, x, out);
        else rotate_halves(half, table, x, out);
        if (out != x) memmove(out + 2 * half, x + 2 * half, (size_t)(d - 2 * half) * sizeof *x);
    }
}
