/* One object for each instruction set: ISA names it, VL is its vector width, the compiler flags do
 * the rest. */
#include "gram.c"
#include "inverse_sqrt.c"
#include "affine_maps.c"

#include "algebra.c"        /* after the solver it calls */
#include "gradients.c"      /* after what it shares with forward */
#include "group_pipeline.c" /* after the passes */
#include "fused_layer.c"

#define JOIN(a, b) a##b
#define NAMED(a, b) JOIN(a, b)
#define TEXT(a) #a
#define QUOTED(a) TEXT(a)

const struct dispatch NAMED(sw_dispatch_, ISA) = {QUOTED(ISA),
                                                  moments,
                                                  products,
                                                  affine,
                                                  combine,
                                                  inverse_sqrt,
                                                  inverse_sqrt_gradient,
                                                  mix_and_solve,
                                                  small_gradients,
                                                  fused_workspace_size,
                                                  fused_forward,
                                                  fused_backward};
