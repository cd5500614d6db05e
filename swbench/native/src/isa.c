/* One object for each instruction set: ISA names it, VL is its vector width, the compiler flags do
 * the rest. */
#include "gram.c"
#include "inverse_sqrt.c"
#include "mix.c"

#include "algebra.c"   /* after the solver it calls */
#include "gradients.c" /* after what it shares with the way there */
#include "pairs.c"     /* after the passes */
#include "whole.c"

#define JOIN(a, b) a##b
#define NAMED(a, b) JOIN(a, b)
#define TEXT(a) #a
#define QUOTED(a) TEXT(a)

const struct table NAMED(sw_table_, ISA) = {QUOTED(ISA),
                                            moments,
                                            products,
                                            affine,
                                            combine,
                                            inverse_sqrt,
                                            inverse_sqrt_gradient,
                                            mix_and_solve,
                                            small_gradients,
                                            whole_room,
                                            whole_forward,
                                            whole_backward};
