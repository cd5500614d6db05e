/* Minimax odd quintics: the first for √λ in [low, 1], each later one for the interval that the step
 * before leaves. */
#ifndef SW_SCHEDULE_H
#define SW_SCHEDULE_H

/* Steps (a, b, c) of x ← x (a + b x² + c x⁴). A schedule that starts at step k takes [lowest[k], 1]
 * to 1 ± 1.5e-4, and one cubic step takes that to rounding. The steps are a greedy composition of
 * best odd quintics (Remez in float64), the recipe of swbench.solvers.minimax. */
static const float quintic[][3] = {
    {8.31011874f, -23.6612452f, 17.3483383f},  {4.14260551f, -2.95702981f, 0.543535287f},
    {4.08627629f, -2.94258427f, 0.54565735f},  {3.87231659f, -2.89073425f, 0.555760349f},
    {3.07917537f, -2.30770923f, 0.48962064f},  {2.1289362f, -1.51004536f, 0.401814276f},
    {1.87908242f, -1.25452858f, 0.375453146f},
};
enum { QUINTICS = 7 };

/* The first step differs with the length: first[k] opens the schedule that goes on with
 * quintic[k+1] …. */
static const float first[][3] = {
    {8.31011874f, -23.6612452f, 17.3483383f}, {8.27366058f, -23.5574386f, 17.2722276f},
    {8.12535454f, -23.1351696f, 16.9626216f}, {7.561885f, -21.5271137f, 15.7827843f},
    {5.59657228f, -13.8562007f, 9.71176538f},
};
static const float lowest[] = {3.3552e-4f, 1.39606e-3f, 5.80874e-3f, 2.4168e-2f, 1.0038e-1f};
enum { LENGTHS = 5 };

/* The Taylor step, for the √λ that a schedule has not brought near 1 yet. */
static const float onwards[3] = {1.875f, -1.25f, 0.375f};

#endif
