#include "files.h"

namespace flint::server {

bool ReadFiles(const Options& options, Files* files, std::string* error) {
  if (options.tls.wanted()) {
    files->tls = LoadTls(options.tls, error);
    if (files->tls == nullptr) return false;
  }
  if (!ReadAllTokens(options, &files->tokens, error)) return false;
  return options.limits_file.empty() ||
         ReadLimitsFile(options.limits_file, &files->limits_file, error);
}

}  // namespace flint::server
