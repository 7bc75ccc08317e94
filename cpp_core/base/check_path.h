#pragma once

// For the parts of a check that are functions for the reader's sake: calling one costs about as
// much as what it does, and a check consists of a dozen of them.
#define FLINT_CHECK_PATH [[gnu::always_inline]] inline
