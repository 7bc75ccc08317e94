#include "base/status.h"

#include <cerrno>
#include <system_error>

namespace flint {
namespace {

Code CodeOfErrno(int system_errno) {
  switch (system_errno) {
    case ENOSPC:
    case EDQUOT:
      return Code::kDiskFull;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::kPermission;
    case ENOMEM:
      return Code::kNoMemory;
    default:
      return Code::kIo;
  }
}

}  // namespace

const char* CodeSentence(Code code) {
  switch (code) {
#define FLINT_CODE_CASE(name, c_name, value, sentence) \
  case Code::name:                                     \
    return sentence;
    FLINT_STATUS_CODES(FLINT_CODE_CASE)
#undef FLINT_CODE_CASE
  }
  return "unknown status";
}

const char* CodeName(Code code) {
  switch (code) {
#define FLINT_CODE_CASE(name, c_name, value, sentence) \
  case Code::name:                                     \
    return #c_name;
    FLINT_STATUS_CODES(FLINT_CODE_CASE)
#undef FLINT_CODE_CASE
  }
  return "UNKNOWN";
}

Status Status::FromErrno(int system_errno, const std::string& what) {
  return FromErrno(CodeOfErrno(system_errno), system_errno, what);
}

Status Status::FromErrno(Code code, int system_errno, const std::string& what) {
  Status status(code, what + ": " + std::generic_category().message(system_errno));
  status.detail_->system_errno = system_errno;
  return status;
}

std::string Status::message() const {
  return detail_ != nullptr ? detail_->message : CodeSentence(code_);
}

}  // namespace flint
