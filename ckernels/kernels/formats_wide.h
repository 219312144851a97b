/* formats_wide.h - formats that products read in two steps: panels keep the file's bytes, and are widened to one common form.
 *
 *      one quant block of the file, L rows           | leads: L of each | words: L of each, one row a lane |
 *
 *      leads   the fields that are no whole words: d, dmin, upper scale bits (two bytes each), the exponent of MXFP4 (one byte)
 *      words   all other bytes of the block in the file's order, four a word
 *
 *      wide form, per 32 columns                     | codes 8 vectors | A | A2 |          8, 9 or 10 vectors: what the type has
 *
 * Code vector v has byte 4 lane + j = row `lane`, column 4 v + j (as formats.h has it). Codes are signed bytes with fmt's bias (codes_bias)
 * added. A is of all 32 columns, or A and A2 of each half. Of long formats there are codes alone: linear_long.h has their scales.
 *
 * In linear_quant's scratch the pair's wide form follows the packed pair, where there is one (core/ops_linear.c has its size).
 *
 * What it is not: how a block is widened. That is widen_k.h and widen_iq.h.
 */
#ifndef ZL_FORMATS_WIDE_H
#define ZL_FORMATS_WIDE_H
#include "formats.h"
#include "linear.h"

enum { AT_A = 8 * VB, AT_A2 = 9 * VB };

/* A quant block of the file: how many blocks of 32 it is, its bytes, how many leads of how many bytes stand where, and the words. */
typedef struct {
    int blocks, bytes, n_leads, lead_size, at[2], from, words;
} wide_shape;

ZL_INLINE wide_shape wide_shape_of(const int type) {
    switch (type) {
    case ZL_TYPE_Q2_K: return (wide_shape){8, 84, 2, 2, {80, 82}, 0, 20};
    case ZL_TYPE_Q3_K: return (wide_shape){8, 110, 1, 2, {108, 0}, 0, 27};
    case ZL_TYPE_IQ1_S: return (wide_shape){8, 50, 1, 2, {0, 0}, 2, 12};
    case ZL_TYPE_IQ1_M: return (wide_shape){8, 56, 0, 0, {0, 0}, 0, 14};
    case ZL_TYPE_IQ2_XXS: return (wide_shape){8, 66, 1, 2, {0, 0}, 2, 16};
    case ZL_TYPE_IQ2_XS: return (wide_shape){8, 74, 1, 2, {0, 0}, 2, 18};
    case ZL_TYPE_IQ2_S: return (wide_shape){8, 82, 1, 2, {0, 0}, 2, 20};
    case ZL_TYPE_IQ3_XXS: return (wide_shape){8, 98, 1, 2, {0, 0}, 2, 24};
    case ZL_TYPE_IQ3_S: return (wide_shape){8, 110, 1, 2, {0, 0}, 2, 27};
    case ZL_TYPE_IQ4_NL: return (wide_shape){1, 18, 1, 2, {0, 0}, 2, 4};
    case ZL_TYPE_IQ4_XS: return (wide_shape){8, 136, 2, 2, {0, 2}, 4, 33};
    case ZL_TYPE_TQ1_0: return (wide_shape){8, 54, 1, 2, {52, 0}, 0, 13};
    case ZL_TYPE_TQ2_0: return (wide_shape){8, 66, 1, 2, {64, 0}, 0, 16};
    case ZL_TYPE_Q1_0: return (wide_shape){4, 18, 1, 2, {0, 0}, 2, 4};
    case ZL_TYPE_Q2_0: return (wide_shape){2, 18, 1, 2, {0, 0}, 2, 4};
    case ZL_TYPE_MXFP4: return (wide_shape){1, 17, 1, 1, {0, 0}, 1, 4};
    case ZL_TYPE_Q6_K: return (wide_shape){8, 210, 0, 0, {0, 0}, 0, 0}; /* not in the file's bytes: a panel as in formats.h, for many rows of x */
    case ZL_TYPE_NVFP4: return (wide_shape){2, 36, 0, 0, {0, 0}, 0, 9};
    default: return (wide_shape){0, 0, 0, 0, {0, 0}, 0, 0};
    }
}

/* How large codes are: within +-16 (31 unsigned with a bias of 16), within +-64 (127 with 64), or any int8. Only avx2 makes a difference of it:
 * it multiplies unsigned codes, in 16 bits, so that small ones need no sign trick and fewer widenings. Q2_K's are unsigned and of two bits. */
enum { SMALL_CODES, MIDDLE_CODES, SIGNED_CODES, PLAIN_CODES };
ZL_INLINE int wide_codes(const int type) {
    if (type == ZL_TYPE_Q2_K) return PLAIN_CODES;
#if defined(ZL_ISA_avx2)
    switch (type) {
    case ZL_TYPE_IQ4_NL: case ZL_TYPE_IQ4_XS: return SIGNED_CODES;
    case ZL_TYPE_IQ2_XXS: case ZL_TYPE_IQ2_XS: case ZL_TYPE_IQ2_S: case ZL_TYPE_IQ3_XXS: return MIDDLE_CODES;
    default: return SMALL_CODES;
    }
#else
    return SIGNED_CODES;
#endif
}
ZL_INLINE int codes_bias(const int codes) {
    return codes == SMALL_CODES ? 16 : codes == MIDDLE_CODES ? 64 : codes == PLAIN_CODES ? 0 : ZL_SIGNED_ZERO;
}
ZL_INLINE int codes_bits(const int codes) { return codes == SMALL_CODES ? 5 : codes == MIDDLE_CODES ? 7 : codes == PLAIN_CODES ? 2 : 8; }

/* Groups of a block that have scales of their own, and minimums. */
ZL_INLINE int wide_halves(const int type) {
    return type == ZL_TYPE_Q2_K || type == ZL_TYPE_Q3_K || type == ZL_TYPE_IQ2_XS || type == ZL_TYPE_IQ2_S || type == ZL_TYPE_IQ1_M ||
           type == ZL_TYPE_NVFP4 || type == ZL_TYPE_Q6_K;
}
ZL_INLINE int wide_mins(const int type) { return type == ZL_TYPE_Q2_K; }
/* Bytes of the wide form of 32 columns: without holes, so that a tile reads it forwards from the L2 cache. */
ZL_INLINE int wide_bytes(const int is_long, const int halves) { return (is_long ? 8 : halves ? 10 : 9) * VB; }
ZL_INLINE int wide_size(const int type) { return wide_bytes(zl_is_long(type), wide_halves(type)); }

/* linear_wide.c, for types that wide_shape_of knows: as linear_quant, pack and unpack_row (linear.h). */
void ZL_FN(linear_wide)(const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1, const zl_activation *x,
                        const zl_result *r, uint8_t *scratch);
void ZL_FN(pack_wide)(int type, int64_t n, int64_t k0, int64_t k, const uint8_t *rows, int64_t row_bytes, uint8_t *panel);
void ZL_FN(unpack_wide)(int type, int64_t k, const uint8_t *panel, int lane, float *dst);
#endif
