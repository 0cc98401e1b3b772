#pragma once

#include <string>

#include "kernels/cpu/table.hpp"

namespace fastserve::kernels::cpu {

/// The table named, or for "" that of FASTSERVE_ISA, or else the best that this processor runs.
/// Throws std::runtime_error naming the choices.
const kernel_table& choose_table(const std::string& isa);

/// By the vendor of the processor this runs on.
processor_habits habits_here();

}  // namespace fastserve::kernels::cpu
