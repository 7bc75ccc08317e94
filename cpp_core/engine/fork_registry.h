#pragma once

namespace flint {

class Engine;

// The open engines of this process, so that a forked child can be told that they are not its own.
void RegisterForFork(Engine* engine);
void UnregisterForFork(Engine* engine);

}  // namespace flint
