/* A dense (N, C, pixels) or (N, pixels, C) float tensor in groups of G channels, and blocks of it in a fixed layout. */
#ifndef SW_TENSOR_H
#define SW_TENSOR_H
#include <string.h>

#include "vector.h"

/* Pixels of one block. G = 16 rows of it are 12 KB: two blocks fit a 32 KB first-level cache. A multiple of three vectors of any width. */
#define BLOCK 192

struct shape {
    long images, channels, pixels;
    int group;        /* G */
    int channels_last;
};

INLINE int padded(int group) { return (group + 3) & ~3; }

/* Rows of `block` (padded G × BLOCK) become channels of group `g` of image `n`, pixels first … first+count-1, minus `shift` (G, or null).
   Pixels from `count` up to the next multiple of three vectors are zero; the rows beyond G are not touched. Adds the row sums to `sums`
   (G vectors) if it is given. */
INLINE void block_load(float *block, const float *x, const struct shape *s, long n, long g, long first, int count, const float *shift, vec *sums) {
    const int group = s->group, step = 3 * VL, width = (count + step - 1) / step * step;
    if (!s->channels_last) {
        const float *row = x + ((n * s->channels) + g * group) * s->pixels + first;
        for (int c = 0; c < group; c++, row += s->pixels) {
            const float near = shift ? shift[c] : 0.0f;
            float *out = block + c * BLOCK;
            vec sum = {0};
            int p = 0;
            for (; p + VL <= count; p += VL) {
                vec v = load(row + p) - near;
                sum += v;
                *(vec *)(out + p) = v;
            }
            if (p < width) {
                float rest[4 * VL] ALIGNED = {0};
                for (int q = p; q < count; q++) rest[q - p] = row[q] - near;
                for (int q = p; q < width; q += VL) {
                    vec v = load(rest + q - p);
                    sum += v;
                    *(vec *)(out + q) = v;
                }
            }
            if (sums) sums[c] += sum;
        }
    } else {
        const float *pixel = x + (n * s->pixels + first) * s->channels + g * group;
        for (int p = 0; p < count; p++, pixel += s->channels)
            for (int c = 0; c < group; c++) block[c * BLOCK + p] = pixel[c] - (shift ? shift[c] : 0.0f);
        for (int c = 0; c < group; c++) {
            vec sum = {0};
            for (int p = count; p < width; p++) block[c * BLOCK + p] = 0.0f;
            for (int p = 0; p < width; p += VL) sum += *(const vec *)(block + c * BLOCK + p);
            if (sums) sums[c] += sum;
        }
    }
}

/* Writes `rows` rows × `width` pixels of `tile` (row stride `stride`) to channels row… of the group, pixels first… . */
INLINE void tile_store(float *y, const struct shape *s, long n, long g, int row, int rows, long first, int width, const float *tile, int stride) {
    if (!s->channels_last) {
        float *out = y + ((n * s->channels) + g * s->group + row) * s->pixels + first;
        for (int r = 0; r < rows; r++, out += s->pixels) memcpy(out, tile + r * stride, sizeof(float) * width);
    } else {
        float *out = y + (n * s->pixels + first) * s->channels + g * s->group + row;
        for (int p = 0; p < width; p++, out += s->channels)
            for (int r = 0; r < rows; r++) out[r] = tile[r * stride + p];
    }
}

#endif
