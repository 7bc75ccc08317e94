#pragma once

#include <memory>
#include <string>

#include "base/env.h"
#include "base/posix_file.h"
#include "base/status.h"

namespace flint {

// A store file as shared memory, or written by system calls: either way the bytes are in the page
// cache, which belongs to the kernel and so outlives the process. A forked child does not inherit
// the mapping. What asks for a mapping that the file system refuses (9p, virtiofs and FUSE often
// do), or that cannot be guarded, is written.
Status OpenPosixStore(const FilePlace& place, size_t size, StoreMode mode, const Access& access,
                      std::unique_ptr<StoreFile>* store);

}  // namespace flint
