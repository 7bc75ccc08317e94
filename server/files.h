#pragma once

#include <string>
#include <vector>

#include "limits_file.h"
#include "options.h"
#include "tls.h"

namespace flint::server {

// What stands in the files that the options name.
struct Files {
  TlsContext tls;  // null where it is not spoken
  std::vector<Token> tokens;
  LimitsFile limits_file;
};

// Reads all of them, when the server starts and when it is told to read them again; false, with
// what is wrong, when one is of no use. Any thread.
bool ReadFiles(const Options& options, Files* files, std::string* error);

}  // namespace flint::server
