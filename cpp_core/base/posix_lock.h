#pragma once

#include <memory>
#include <string>

#include "base/env.h"
#include "base/status.h"

namespace flint {

// Env::LockDirectory for real directories.
Status LockPosixDirectory(const std::string& path, std::unique_ptr<DirectoryLock>* lock);

}  // namespace flint
