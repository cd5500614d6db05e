/* A dense (N, C, pixels) or (N, pixels, C) float tensor in groups of G channels, and blocks of it
 * in a fixed layout. */
#ifndef SW_TENSOR_H
#define SW_TENSOR_H
#include <string.h>

#include "vector.h"

/* Pixels of one block: G = 16 rows of it are 16 KB, two blocks fit a first-level cache of 48 KB. A
 * multiple of three vectors of any width. */
#define BLOCK 240
/* Floats between its rows: not a power of two, which would put all rows on the same cache sets. */
#define ROW (BLOCK + 32)
/* Floats of a line of the cache. */
#define LINE 16

struct shape {
    long images, channels, pixels;
    int group; /* G */
    int channels_last;
};

/* Of one product of G×G with every pixel. */
INLINE double multiply_adds(const struct shape *s) {
    return (double)s->images * s->channels * s->pixels * s->group;
}

INLINE int padded(int group) { return (group + 3) & ~3; }

INLINE int whole_vectors(int count) { return (count + VL - 1) / VL * VL; }

/* The rows of the next block, which are fetched while this one is worked on: they lie far apart,
   and the processor's own prefetcher has to start anew at each. A line or two in every turn of an
   inner loop: more at once keep what is worked on waiting. After the last block of a group comes
   the first of the next; where there is none, `otherwise`, which is in the cache anyway. Each line
   is named by its last float: where a row starts within a line, the block before ends there. */
struct ahead {
    const float *row;
    long stride;
};

INLINE struct ahead ahead_of(const float *x, const struct shape *s, long n, long g, long first,
                             const float *otherwise) {
    long channel = n * s->channels + g * s->group;
    if (first >= s->pixels) channel += s->group, first = 0;
    if (s->channels_last || channel >= s->images * s->channels) return (struct ahead){otherwise, 0};
    return (struct ahead){x + channel * s->pixels + first + LINE - 1, s->pixels};
}

INLINE void fetch(const float *p) { __builtin_prefetch(p, 0, 3); }
INLINE void fetch_to_write(const float *p) { __builtin_prefetch(p, 1, 3); }

/* Rows of `block` (padded G × ROW) become channels of group `g` of image `n`, pixels first …
   first+count-1, minus `shift` (G, or null). Pixels from `count` up to the next multiple of a
   vector are zero; the rows beyond G are not touched. Adds the row sums to `sums` (G vectors) if it
   is given. */
INLINE void block_load(float *block, const float *x, const struct shape *s, long n, long g,
                       long first, int count, const float *shift, vec *sums) {
    const int group = s->group, width = whole_vectors(count);
    if (!s->channels_last) {
        const float *row = x + ((n * s->channels) + g * group) * s->pixels + first;
        for (int c = 0; c < group; c++, row += s->pixels) {
            const float near = shift ? shift[c] : 0.0f;
            float *out = block + c * ROW;
            vec sum = {0};
            int p = 0;
            for (; p + VL <= count; p += VL) {
                vec v = load(row + p) - near;
                sum += v;
                *(vec *)(out + p) = v;
            }
            if (p < width) {
                float rest[VL] ALIGNED = {0};
                for (int q = p; q < count; q++) rest[q - p] = row[q] - near;
                sum += *(const vec *)rest;
                *(vec *)(out + p) = *(const vec *)rest;
            }
            if (sums) sums[c] += sum;
        }
    } else {
        const float *pixel = x + (n * s->pixels + first) * s->channels + g * group;
        for (int p = 0; p < count; p++, pixel += s->channels)
            for (int c = 0; c < group; c++)
                block[c * ROW + p] = pixel[c] - (shift ? shift[c] : 0.0f);
        for (int c = 0; c < group; c++) {
            vec sum = {0};
            for (int p = count; p < width; p++) block[c * ROW + p] = 0.0f;
            for (int p = 0; p < width; p += VL) sum += *(const vec *)(block + c * ROW + p);
            if (sums) sums[c] += sum;
        }
    }
}

/* Writes `rows` rows × `width` pixels of `tile` (row stride `stride`) to channels row… of the
 * group, pixels first… . */
INLINE void tile_store(float *y, const struct shape *s, long n, long g, int row, int rows,
                       long first, int width, const float *tile, int stride) {
    if (!s->channels_last) {
        float *out = y + ((n * s->channels) + g * s->group + row) * s->pixels + first;
        for (int r = 0; r < rows; r++, out += s->pixels)
            memcpy(out, tile + r * stride, sizeof(float) * width);
    } else {
        float *out = y + (n * s->pixels + first) * s->channels + g * s->group + row;
        for (int p = 0; p < width; p++, out += s->channels)
            for (int r = 0; r < rows; r++) out[r] = tile[r * stride + p];
    }
}

#endif
