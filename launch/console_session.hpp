#pragma once

#include "launch/engine.hpp"
#include "launch/options.hpp"
#include "launch/terminal_probe.hpp"

namespace fastserve::launch {

/// Talks with a person at a terminal until they leave: prompts are edited, answers stream, Ctrl-C stops an
/// answer, /commands change settings. True unless the engine failed.
bool run_session(engine& e, const options& settings, const terminal_facts& facts);

}  // namespace fastserve::launch
