/* codebook_lists.h - the codebooks as the quantisers search them: by halves of their vectors; and packed. Compiled once, for all ISA variants. */
#ifndef ZL_CODEBOOK_LISTS_H
#define ZL_CODEBOOK_LISTS_H
#include <stdint.h>

/* A vector of `size` (8 or 4) elements, each one of `levels` (3 or 8), is an upper and a lower half. A half is numbered by its elements'
 * levels, the first lowest: 3^4 = 81 or 8^2 = 64 numbers. The codebooks are sorted by their upper halves: list i has the vectors
 * start[i] .. start[i + 1] - 1, all of which have the upper half upper[i]; lower[e] is 32 times the other half of vector e: where its cost
 * is in a table of vectors of eight. list_of[h] is the list of upper half h, or if no vector has it of the next that occurs. */
enum { ZL_HALVES = 81, ZL_CODEBOOKS = 6 };
typedef struct {
    int size, levels, lists;
    const void *vectors; /* uint64_t (8 elements) or uint32_t (4), a byte for each element: codebooks.h */
    uint16_t upper[ZL_HALVES], start[ZL_HALVES + 1], list_of[ZL_HALVES];
    uint16_t lower[2048];
} zl_codebook_lists_;

enum { ZL_CODEBOOK_IQ1, ZL_CODEBOOK_IQ2_XXS, ZL_CODEBOOK_IQ2_XS, ZL_CODEBOOK_IQ2_S, ZL_CODEBOOK_IQ3_XXS, ZL_CODEBOOK_IQ3_S };
/* made at the first call, by whichever thread comes first */
const zl_codebook_lists_ *zl_codebook_lists(int which);

/* The vectors as levels: 16 bits each, element 0 in the lowest bits; two bits an element of 8, three of 4. For variants that look vectors up in
 * registers (lone_book.h). Made in the same way. */
const uint16_t *zl_codebook_levels(int which);
#endif
