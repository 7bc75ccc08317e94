#pragma once

#include <memory>
#include <string>

#include "base/env.h"
#include "base/status.h"

namespace flint {

// A store file as shared memory: a store is a copy into the page cache, which belongs to the
// kernel and so outlives the process. A forked child does not inherit the mapping.
Status OpenPosixStore(const std::string& path, size_t size, std::unique_ptr<StoreFile>* store);

}  // namespace flint
