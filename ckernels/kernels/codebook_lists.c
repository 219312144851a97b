/* codebook_lists.c - makes the lists of codebook_lists.h from the codebooks; 27 KB in all, and 24 KB of levels. */
#include "codebook_lists.h"
#include "codebooks.h"
#include <pthread.h>

static zl_codebook_lists_ made[ZL_CODEBOOKS];
static uint16_t packed[ZL_CODEBOOKS][2048];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* what element i of vector e is, as the number of its level: of -1 0 1; of 8 25 43; of 4 12 .. 52 62; of 1 3 .. 15 */
static int level_of(int which, const void *vectors, int size, int e, int i) {
    const int byte = (int)((size == 8 ? ((const uint64_t *)vectors)[e] : ((const uint32_t *)vectors)[e]) >> (8 * i) & 255);
    if (which == ZL_CODEBOOK_IQ1) return (int8_t)byte + 1;
    return byte / (size == 8 ? 16 : which == ZL_CODEBOOK_IQ3_XXS ? 8 : 2);
}

static void make(int which, int size, int levels, int n, const void *vectors) {
    zl_codebook_lists_ *to = &made[which];
    to->size = size, to->levels = levels, to->vectors = vectors;
    for (int e = 0; e < n; e++) {
        int half[2] = {0, 0};
        for (int i = 0; i < size; i++) packed[which][e] |= (uint16_t)(level_of(which, vectors, size, e, i) << i * (size == 8 ? 2 : 3));
        for (int i = size - 1; i >= 0; i--) half[i / (size / 2)] = half[i / (size / 2)] * levels + level_of(which, vectors, size, e, i);
        if (!e || to->upper[to->lists - 1] != half[1]) {
            to->upper[to->lists] = (uint16_t)half[1];
            to->start[to->lists++] = (uint16_t)e;
        }
        to->lower[e] = (uint16_t)(32 * half[0]);
    }
    to->start[to->lists] = (uint16_t)n;
    for (int h = 0, i = 0; h < ZL_HALVES; h++) {
        while (i < to->lists - 1 && to->upper[i] < h) i++;
        to->list_of[h] = (uint16_t)i;
    }
}

static void make_all(void) {
    make(ZL_CODEBOOK_IQ1, 8, 3, 2048, zl_grid_iq1);
    make(ZL_CODEBOOK_IQ2_XXS, 8, 3, 256, zl_grid_iq2_xxs);
    make(ZL_CODEBOOK_IQ2_XS, 8, 3, 512, zl_grid_iq2_xs);
    make(ZL_CODEBOOK_IQ2_S, 8, 3, 1024, zl_grid_iq2_s);
    make(ZL_CODEBOOK_IQ3_XXS, 4, 8, 256, zl_grid_iq3_xxs);
    make(ZL_CODEBOOK_IQ3_S, 4, 8, 512, zl_grid_iq3_s);
}

const zl_codebook_lists_ *zl_codebook_lists(int which) {
    pthread_once(&once, make_all);
    return &made[which];
}

const uint16_t *zl_codebook_levels(int which) {
    pthread_once(&once, make_all);
    return packed[which];
}
