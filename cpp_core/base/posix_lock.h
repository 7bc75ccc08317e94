#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/env.h"
#include "base/posix_file.h"
#include "base/status.h"

namespace flint {

// Makes the environment of a directory that is open under `path`.
using MakeDirectoryEnv = std::function<std::shared_ptr<Env>(Descriptor directory)>;

// Env::LockDirectory for real directories.
Status LockPosixDirectory(const FilePlace& place, const Access& access,
                          const MakeDirectoryEnv& make_directory,
                          std::unique_ptr<DirectoryLock>* lock);

}  // namespace flint
