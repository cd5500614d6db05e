/* W = Σ^(-1/2) by cyclic two-sided Jacobi in float64: slow, for the few matrices that an iteration
 * of products cannot take. */
#ifndef SW_JACOBI_H
#define SW_JACOBI_H
#include <math.h>

#include "vector.h"

/* Eigenvalues are clamped at `floor` times the largest, like the eigh solver's; NaN throughout for
 * a non-finite or zero matrix. */
static __attribute__((noinline)) void jacobi_inverse_sqrt(const float *cov, float *w, int n,
                                                          double floor) {
    static const int SWEEPS = 30;
    double a[MAX_GROUP][MAX_GROUP], d[MAX_GROUP][MAX_GROUP], largest = 0, total = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            a[i][j] = 0.5 * ((double)cov[i * n + j] + cov[j * n + i]);
            d[i][j] = i == j;
            total += fabs(a[i][j]);
        }
    for (int sweep = 0; sweep < SWEEPS && total < INFINITY; sweep++) {
        double off = 0;
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) {
                off += fabs(a[p][q]);
                if (fabs(a[p][q]) < 1e-300) continue;
                const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
                const double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1)),
                             c = 1 / sqrt(t * t + 1), s = t * c;
                for (int k = 0; k < n; k++) {
                    const double left = a[k][p], right = a[k][q];
                    a[k][p] = c * left - s * right, a[k][q] = s * left + c * right;
                }
                for (int k = 0; k < n; k++) {
                    const double left = a[p][k], right = a[q][k];
                    a[p][k] = c * left - s * right, a[q][k] = s * left + c * right;
                    const double first = d[k][p], second = d[k][q];
                    d[k][p] = c * first - s * second, d[k][q] = s * first + c * second;
                }
            }
        if (off <= 1e-15 * total) break;
    }
    for (int i = 0; i < n; i++) largest = a[i][i] > largest ? a[i][i] : largest;
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++) {
            double sum = 0;
            for (int k = 0; k < n; k++)
                sum +=
                    d[i][k] * d[j][k] / sqrt(a[k][k] > floor * largest ? a[k][k] : floor * largest);
            w[i * n + j] = w[j * n + i] = (float)(largest > 0 && total < INFINITY ? sum : NAN);
        }
}

#endif
